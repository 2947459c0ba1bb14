"""The loss of the best linear denoiser from eigenvalues alone: equal to that of the fitted Gaussian, or around it."""

import json

import numpy as np
import pytest

from ddpm import data
from ddpm.oracles import gaussian, low_rank, spectrum
from ddpm.schedule import linear
from ddpm.training import gaussian_baseline

SCHEDULE = linear(50)


def images(n, shape=(4, 5, 1), seed=0):
    """Smooth images: a few directions have most of the variance."""
    rng = np.random.default_rng(seed)
    D = int(np.prod(shape))
    x = rng.normal(size=(n, D)) @ (rng.normal(size=(D, D)) * 0.7 ** np.arange(D)[:, None])
    return np.clip(x * 30 + 128, 0, 255).astype(np.uint8).reshape(n, *shape)


@pytest.mark.parametrize("n", [12, 300])
@pytest.mark.parametrize("classes", [1, 3])
def test_exact_with_more_images_than_numbers_and_with_fewer(n, classes):
    x = images(n)
    c = np.arange(n) % classes if classes > 1 else None
    low, high = spectrum.training_loss(SCHEDULE, x, c)
    m = gaussian.fit(data.to_float(x), c)
    assert low == high == pytest.approx(gaussian.linear_loss(m, SCHEDULE, data.to_float(x), c)[1:].mean(), rel=1e-4)


def test_parts_of_the_images_give_the_same(monkeypatch):
    x = images(100)
    whole = spectrum.training_loss(SCHEDULE, x)
    monkeypatch.setattr(spectrum, "CHUNK", 7)
    assert spectrum.training_loss(SCHEDULE, x) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("rank", [2, 5, 10])
def test_bounds_where_the_rest_is_only_summed(rank, monkeypatch):
    """Around the exact loss, closer with more directions; the upper one is the loss of the low-rank Gaussian."""
    x = images(200)
    exact = spectrum.training_loss(SCHEDULE, x)[0]
    low, high = spectrum.training_loss(SCHEDULE, x, most=rank)
    assert low < exact < high
    few = spectrum.training_loss(SCHEDULE, x, most=1)
    assert high - low < few[1] - few[0]
    m = low_rank.fit(data.to_float(x), rank=rank)  # it divides by n - 1
    assert high == pytest.approx(m.loss(SCHEDULE)[1:].mean(), rel=5e-3)
    assert spectrum.training_loss(SCHEDULE, x, most=rank) == (low, high)  # the seed is fixed


def test_the_trace_is_kept():
    x = images(200)
    s = spectrum.eigenvalues(x, np.arange(0, 200, 2), most=6)
    flat = data.to_float(x[::2]).reshape(100, -1).astype(np.float64)
    assert s.var.sum() + s.rest == pytest.approx(flat.var(0).sum(), rel=1e-5) and s.left == 14 and s.share == 0.5
    np.testing.assert_allclose(s.var, np.linalg.eigvalsh(np.cov(flat.T, bias=True))[::-1][:6], rtol=1e-3)


def test_the_baseline_of_a_run_is_the_same_either_way(tmp_path, monkeypatch):
    """For small images from whole covariances, for large ones from eigenvalues; without classes too."""
    x, y = images(40), np.arange(40, dtype=np.int32) % 2
    for names, conditional in ((("a", "b"), True), (("a", "b"), False), ((), True)):
        d = data.Dataset("x", names, x[:30], y[:30], x[30:], y[30:], source="x")
        values = []
        for most in (3072, 1):
            monkeypatch.setattr(gaussian_baseline, "MOST_NUMBERS", most)
            values.append(
                gaussian_baseline.baseline(tmp_path / f"{names}{conditional}{most}", d, SCHEDULE, conditional)
            )
        assert values[0] == pytest.approx(values[1], rel=1e-4)


# --- principal axes ---------------------------------------------------------------------------------------------------


def test_axes_alone_are_the_eigenbasis_and_groups_keep_the_sums():
    """Against the singular values of the centred images."""
    x = images(200)
    flat = data.to_float(x).reshape(200, -1).astype(np.float64)
    mean = flat.mean(0)
    _, s, V = np.linalg.svd(flat - mean)
    alone = spectrum.axes(x, alone=20)
    np.testing.assert_allclose(alone.var, s**2 / 200, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(alone.mean[:8], abs(V @ mean)[:8], rtol=1e-3)
    assert alone.number.tolist() == [1] * 20
    groups = spectrum.axes(x, alone=4, groups=3)
    assert groups.number.sum() == 20 and len(groups.var) == 7 and groups.number[:4].tolist() == [1] * 4
    assert (groups.var * groups.number).sum() == pytest.approx((s**2).sum() / 200, rel=1e-5)
    assert (groups.mean**2 * groups.number).sum() == pytest.approx(mean @ mean, rel=1e-5)


def test_large_images_have_the_same_large_axes_and_the_same_sums(monkeypatch):
    x = images(200)
    exact = spectrum.axes(x, alone=4, groups=3)
    monkeypatch.setattr(spectrum, "MOST_EXACT", 10)
    some = spectrum.axes(x, alone=4, groups=3)
    np.testing.assert_allclose(some.var[:4], exact.var[:4], rtol=0.01)
    np.testing.assert_allclose(some.mean[:4], exact.mean[:4], rtol=0.01, atol=1e-3)
    for a, b in ((some.var, exact.var), (some.mean**2, exact.mean**2)):
        assert (a * some.number).sum() == pytest.approx((b * exact.number).sum(), rel=0.01)


def test_a_run_of_an_earlier_version_gets_its_axes(tmp_path):
    """They are added to baseline.json; its loss is kept as it is."""
    d = data.Dataset("d", ("a",), images(30), np.zeros(30, int), images(3), np.zeros(3, int), "")
    (tmp_path / gaussian_baseline.FILE).write_text('{"linear_gaussian_loss": 0.25}')
    assert gaussian_baseline.baseline(tmp_path, d, SCHEDULE, False) == 0.25
    kept = json.loads((tmp_path / gaussian_baseline.FILE).read_text())
    assert kept["linear_gaussian_loss"] == 0.25 and sum(kept["axes"]["number"]) == 20
    assert kept["axes"]["var"] == pytest.approx(spectrum.axes(d.x_train).var, rel=1e-4)
