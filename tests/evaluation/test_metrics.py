"""Distances of sets: closed forms of Gaussians, brute-force loops, sets with a known answer, and parity."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from ddpm.evaluation import distances as m
from ddpm.evaluation import neighbours, statistics


def gaussian(rng, d):
    A = rng.normal(size=(d, d))
    return m.Moments(rng.normal(size=d), A @ A.T / d + 0.01 * np.eye(d), 10**9)


# --- Fréchet ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 3, 20])
def test_frechet_is_the_formula_with_a_matrix_root(d):
    rng = np.random.default_rng(d)
    p, q = gaussian(rng, d), gaussian(rng, d)
    root = np.trace(sqrtm(p.cov @ q.cov).real)
    exact = ((p.mean - q.mean) ** 2).sum() + np.trace(p.cov) + np.trace(q.cov) - 2 * root
    assert m.frechet_moments(p, q) == pytest.approx(exact, rel=1e-9)
    assert m.frechet_moments(q, p) == pytest.approx(exact, rel=1e-9)


def test_frechet_of_gaussians_whose_covariances_commute():
    """‖μ_p - μ_q‖² + Σ (√λ_p - √λ_q)², in any common basis."""
    rng = np.random.default_rng(0)
    U = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    a, b, mean = rng.uniform(0, 2, 6), rng.uniform(0, 2, 6), rng.normal(size=6)
    p, q = m.Moments(mean, (U * a) @ U.T, 9), m.Moments(0 * mean, (U * b) @ U.T, 9)
    assert m.frechet_moments(p, q) == pytest.approx((mean**2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), rel=1e-9)


def test_frechet_of_a_point_mass_is_the_second_moment():
    rng = np.random.default_rng(0)
    q, point = gaussian(rng, 5), rng.normal(size=5)
    p = m.Moments(point, np.zeros((5, 5)), 9)
    assert m.frechet_moments(p, q) == pytest.approx(((point - q.mean) ** 2).sum() + np.trace(q.cov), rel=1e-9)


def test_frechet_invariances():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(300, 8)) * 2, rng.uniform(size=(200, 8))
    U, shift, d = np.linalg.qr(rng.normal(size=(8, 8)))[0], rng.normal(size=8) * 100, m.frechet(a, b)
    assert m.frechet(a, a) == pytest.approx(0, abs=1e-6)
    assert m.frechet(a @ U + shift, b @ U + shift) == pytest.approx(d, rel=1e-8)
    assert m.frechet(3 * a, 3 * b) == pytest.approx(9 * d, rel=1e-9)
    assert m.frechet(a[::-1], b) == pytest.approx(d, rel=1e-9)


def test_moments_are_the_unbiased_ones_and_do_not_depend_on_the_pieces():
    f = np.random.default_rng(2).normal(size=(25_000, 3)).astype(np.float32) + 50
    p = m.moments(f)
    np.testing.assert_allclose(p.cov, np.cov(f.astype(np.float64), rowvar=False), rtol=1e-9)
    np.testing.assert_allclose(p.mean, f.mean(0, dtype=np.float64), rtol=1e-9)


def test_floor_for_white_features_and_its_growth():
    d = 64
    assert m.frechet_floor(np.eye(d), 10_000) == pytest.approx(0.1104, rel=1e-12)  # (64 + 64·65/4)/10,000
    assert m.frechet_floor(np.eye(d), 10_000, 10_000) == pytest.approx(2 * 0.1104, rel=1e-12)
    assert m.frechet_floor(4 * np.eye(d), 10_000) == pytest.approx(4 * 0.1104, rel=1e-12)


@pytest.mark.parametrize("white", [True, False])
def test_floor_is_what_draws_from_one_law_show(white):
    """To first order in 1/n; at n = 3,000 the next order is below 1 % here."""
    rng, d, n = np.random.default_rng(3), 10, 3000
    q = m.Moments(np.zeros(d), np.eye(d), 1) if white else gaussian(rng, d)
    root = np.linalg.cholesky(q.cov)
    values = [m.frechet_moments(m.moments(rng.normal(size=(n, d)) @ root.T + q.mean), q) for _ in range(150)]
    assert np.mean(values) == pytest.approx(m.frechet_floor(q.cov, n), abs=4 * np.std(values) / np.sqrt(150))


def test_extrapolation_removes_the_bias():
    """Over 60 sets of 500: the value is too large by the floor, the limit is right within its spread."""
    rng, d, n = np.random.default_rng(4), 12, 500
    q, exact = m.Moments(np.full(d, 0.1), np.eye(d), 1), d * 0.01
    curves = [m.frechet_curve(rng.normal(size=(n, d)), q, [125, 250, 500], repeats=5) for _ in range(60)]
    last, limit = np.array([c[0][-1] for c in curves]), np.array([c[1] for c in curves])
    error = 4 * limit.std() / np.sqrt(60)
    assert limit.mean() == pytest.approx(exact, abs=error) and error < 0.3 * m.frechet_floor(q.cov, n)
    assert last.mean() - exact == pytest.approx(m.frechet_floor(q.cov, n), rel=0.3)
    a = rng.normal(size=(100, d))
    with pytest.raises(ValueError, match="sizes"):
        m.frechet_curve(a, q, [5, 100])
    with pytest.raises(ValueError, match="sizes"):
        m.frechet_curve(a, q, [100, 2001])


def test_bootstrap_of_the_mean_is_the_known_error():
    f = np.random.default_rng(5).normal(size=(400, 1)) * 3
    assert statistics.bootstrap(f, lambda g: float(g.mean()), 400) == pytest.approx(f.std() / 20, rel=0.15)


def test_bootstrap_within_classes_is_the_error_of_balanced_sets():
    """Two classes far apart, always 200 of each: the mean varies as within a class, not as between them."""
    rng, y = np.random.default_rng(8), np.repeat([0, 1], 200)
    f = rng.normal(size=(400, 1)) + 10 * y[:, None]

    def mean(g):
        return float(g.mean())

    assert statistics.bootstrap(f, mean, 300, strata=y) == pytest.approx(1 / 20, rel=0.15)
    assert statistics.bootstrap(f, mean, 300) == pytest.approx(f.std() / 20, rel=0.15)


def test_bootstrap_error_of_frechet_covers():
    """Value ± 1.96 errors holds the mean of the statistic at this n in about 95 of 100 sets."""
    rng, d, n = np.random.default_rng(6), 4, 300
    q = m.Moments(np.full(d, 0.5), np.eye(d), 1)
    sets = [rng.normal(size=(n, d)) for _ in range(100)]

    def distance(g):
        return m.frechet_moments(m.moments(g), q)

    values = np.array([distance(a) for a in sets])
    errors = np.array([statistics.bootstrap(a, distance, 40, seed=i) for i, a in enumerate(sets)])
    assert 0.85 <= (abs(values - values.mean()) < 1.96 * errors).mean() <= 1


# --- kernel distance --------------------------------------------------------------------------------------------------


def test_kernel_distance_is_the_double_loop():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(13, 3)), rng.normal(size=(9, 3)) + 0.5

    def k(x, y):
        return (x @ y / 3 + 1) ** 3

    within_a = np.mean([k(a[i], a[j]) for i in range(13) for j in range(13) if i != j])
    within_b = np.mean([k(b[i], b[j]) for i in range(9) for j in range(9) if i != j])
    between = np.mean([k(x, y) for x in a for y in b])
    assert m.kernel_distance(a, b)[0] == pytest.approx(within_a + within_b - 2 * between, rel=1e-9)


def test_kernel_distance_does_not_depend_on_pieces_or_groups(monkeypatch):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(130, 4)), rng.normal(size=(90, 4))
    value = m.kernel_distance(a, b)[0]
    assert m.kernel_distance(a, b, groups=3)[0] == pytest.approx(value, rel=1e-9)
    monkeypatch.setattr(statistics, "CHUNK", 17)
    assert m.kernel_distance(a, b)[0] == pytest.approx(value, rel=1e-9)


def test_kernel_distance_is_unbiased_at_zero():
    rng = np.random.default_rng(2)
    values = [m.kernel_distance(rng.normal(size=(40, 3)), rng.normal(size=(60, 3)))[0] for _ in range(300)]
    assert min(values) < 0 < max(values)
    assert np.mean(values) == pytest.approx(0, abs=4 * np.std(values) / np.sqrt(300))


@pytest.mark.parametrize(("shift", "least", "most"), [(0.0, 0.7, 2.5), (1.0, 0.7, 1.4)])
def test_kernel_error_is_the_spread_over_sets(shift, least, most):
    rng = np.random.default_rng(3)
    pairs = [m.kernel_distance(rng.normal(size=(120, 3)), rng.normal(size=(120, 3)) + shift) for _ in range(150)]
    value, error = np.array(pairs).T
    assert least < np.sqrt((error**2).mean()) / value.std() < most


def test_kernel_error_does_not_depend_on_the_order():
    """Images sorted by class are as good as shuffled ones."""
    rng = np.random.default_rng(7)
    a, b = np.sort(rng.normal(size=(400, 1)), axis=0), rng.normal(size=(400, 1)) + 1
    errors = [m.kernel_distance(x, b)[1] for x in (a, *(rng.permutation(a) for _ in range(20)))]
    assert errors[0] == pytest.approx(np.mean(errors[1:]), rel=0.5)


def test_parity_with_torchmetrics():
    torch = pytest.importorskip("torch")
    fid = pytest.importorskip("torchmetrics.image.fid", reason="torchmetrics is not installed")
    kid = pytest.importorskip("torchmetrics.image.kid")
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(200, 16)), rng.normal(size=(200, 16)) * 1.5 + 0.3

    class Features(torch.nn.Module):
        num_features = 16

        def forward(self, x):
            return x

    reference = fid.FrechetInceptionDistance(feature=Features(), input_img_size=(16,)).set_dtype(torch.float64)
    mmd = kid.KernelInceptionDistance(feature=Features(), subsets=1, subset_size=200).set_dtype(torch.float64)
    for metric in (reference, mmd):
        metric.update(torch.tensor(a), real=True)
        metric.update(torch.tensor(b), real=False)
    assert m.frechet(a, b) == pytest.approx(float(reference.compute()), rel=1e-6)
    assert m.kernel_distance(a, b)[0] == pytest.approx(float(mmd.compute()[0]), rel=1e-6)


# --- neighbours -------------------------------------------------------------------------------------------------------


def test_overlap_is_the_definition_in_loops():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(40, 2)), rng.normal(size=(30, 2)) + 1

    def ball(f, i, k):  # distance of f_i to its k-th nearest other point
        return sorted(np.linalg.norm(f[i] - f[j]) for j in range(len(f)) if j != i)[k - 1]

    def inside(x, f, k):  # in which balls of f does x lie
        return [np.linalg.norm(x - f[i]) <= ball(f, i, k) for i in range(len(f))]

    o = neighbours.overlap(real, fake)
    assert o.precision.tolist() == [any(inside(x, real, 3)) for x in fake]
    assert o.recall.tolist() == [any(inside(x, fake, 3)) for x in real]
    np.testing.assert_allclose(o.density, [sum(inside(x, real, 5)) / 5 for x in fake])
    of_ball = np.array([inside(x, real, 5) for x in fake])  # (fake, real)
    assert o.coverage.tolist() == of_ball.any(0).tolist()


def test_overlap_of_sets_with_a_known_answer():
    rng = np.random.default_rng(1)
    left, right = rng.normal(size=(200, 5)), rng.normal(size=(200, 5)) + 100
    both, one = np.concatenate([left, right]), rng.normal(size=(400, 5))

    def means(o):
        return [round(float(np.mean(a)), 2) for a in o]

    assert means(neighbours.overlap(left, right)) == [0, 0, 0, 0]
    precision, recall, density, coverage = means(neighbours.overlap(left, left.copy()))
    assert (precision, recall, coverage) == (1, 1, 1) and density == pytest.approx(1 + 1 / 5, abs=0.01)
    precision, recall, density, coverage = means(neighbours.overlap(both, one))  # a mode is missing
    assert precision > 0.9 and recall <= 0.5 and recall > 0.4 and 0.4 < coverage <= 0.5
    with pytest.raises(ValueError, match="k = 5"):
        neighbours.overlap(left[:5], right)


def test_overlap_ignores_shifts_and_rotations_of_both():
    rng = np.random.default_rng(2)
    real, fake, U = rng.normal(size=(90, 4)), rng.normal(size=(80, 4)), np.linalg.qr(rng.normal(size=(4, 4)))[0]
    for a, b in zip(neighbours.overlap(real, fake), neighbours.overlap(real @ U + 7, fake @ U + 7), strict=True):
        np.testing.assert_array_equal(a, b)


def test_density_of_one_law_is_one():
    """Each sample lies in k/n of the n real balls on average, whatever the distribution."""
    rng = np.random.default_rng(3)
    values = [
        neighbours.overlap(rng.normal(size=(300, 3)), rng.normal(size=(300, 3))).density.mean() for _ in range(40)
    ]
    assert np.mean(values) == pytest.approx(1, abs=0.03)


def test_nearest_is_the_brute_force():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(700, 6)).astype(np.float32) + 30, rng.normal(size=(50, 6)).astype(np.float32) + 30
    d = np.linalg.norm(a[:, None].astype(np.float64) - b[None], axis=2)
    for k in (1, 2, 5):
        distance, index = neighbours.nearest(a, b, k)
        np.testing.assert_allclose(distance, np.sort(d, axis=1)[:, :k], rtol=1e-5)
        np.testing.assert_array_equal(index, np.argsort(d, axis=1, kind="stable")[:, :k])
    assert np.all(neighbours.nearest(b, b)[0] == 0)


def test_closer_is_the_share_of_pairs_and_its_error_the_spread():
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 6, 40), rng.integers(1, 7, 50)
    pairs = np.mean([(x < y) + 0.5 * (x == y) for x in a for y in b])
    assert statistics.closer(a, b)[0] == pytest.approx(pairs, rel=1e-12)
    assert statistics.closer(a, a)[0] == pytest.approx(0.5)
    draws = np.array([statistics.closer(rng.normal(size=60), rng.normal(size=80) + 0.5) for _ in range(300)])
    assert draws[:, 1].mean() / draws[:, 0].std() == pytest.approx(1, abs=0.15)


def test_wilson_covers_and_stays_inside():
    rng, n, p = np.random.default_rng(6), 50, 0.95
    hits = rng.binomial(n, p, 2000) / n
    assert 0.92 < np.mean([statistics.wilson(h, n)[0] <= p <= statistics.wilson(h, n)[1] for h in hits]) < 0.99
    low, high = statistics.wilson(1.0, n)
    assert high == pytest.approx(1) and low == pytest.approx(n / (n + 1.96**2))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((5, 3)), np.zeros((5, 2)), "one network for both"),
        (np.zeros(5), np.zeros((5, 2)), r"shape \(5,\)"),
        (np.zeros((1, 2)), np.zeros((5, 2)), "at least two"),
        (np.full((5, 2), np.nan), np.zeros((5, 2)), "NaN"),
    ],
)
def test_features_that_cannot_be_compared_are_refused(a, b, message):
    for measure in (m.frechet, m.kernel_distance):
        with pytest.raises(ValueError, match=message):
            measure(a, b)
