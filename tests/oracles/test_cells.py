"""The distribution of independent cells, against the list of all its pictures, and against Bayes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from ddpm import oracle
from ddpm.oracles.cell_grid import Known, cells, join, split
from ddpm.schedule import linear

RNG = np.random.default_rng(0)
TILE = RNG.uniform(-1, 1, (2, 3, 1, 2, 1))  # two lights, three tiles of 1 x 2 pixels
PROB = RNG.dirichlet(np.ones(3), (2, 4))  # two classes, four cells: images of 2 x 4 pixels
PROB[0, 1] = (0.5, 0.5, 0.0)  # a tile that cannot be there
LIGHT, PRIOR = np.array([0.3, 0.7]), np.array([0.6, 0.4])


def distribution():
    return cells(TILE, PROB, LIGHT, PRIOR)


def pictures():
    """Every picture with its class and its probability: 2 classes x 2 lights x 3^4 tiles."""
    images, labels, prob = [], [], []
    for c, s, v in itertools.product(range(2), range(2), itertools.product(range(3), repeat=4)):
        p = PRIOR[c] * LIGHT[s] * np.prod([PROB[c, j, v[j]] for j in range(4)])
        if p > 0:
            parts = [TILE[s, k, ..., 0] for k in v]
            images.append(np.block([parts[:2], parts[2:]])[..., None])
            labels.append(c)
            prob.append(p)
    return np.array(images), np.array(labels), np.array(prob)


@pytest.mark.parametrize("t", [5, 300, 900])
def test_it_is_the_mixture_of_all_its_pictures(x64, t):
    images, labels, prob = pictures()
    assert prob.sum() == pytest.approx(1)
    points, schedule = oracle.mixture(images, 0.0, prob / prob.sum(), labels), linear()
    x_t = jax.random.normal(jax.random.key(t), (5, 2, 4, 1)) + 0.5
    for c in (None, jnp.array([0, 1, 2, 1, 0])):  # 2 is the null label
        ours, mixture = distribution().eps(schedule)(x_t, t, c), points.eps(schedule)(x_t, jnp.full(5, t), c)
        np.testing.assert_allclose(ours, mixture, atol=1e-7)
        np.testing.assert_allclose(
            distribution().log_prob(schedule, x_t, t, c), points.log_prob(schedule, x_t, t, c), rtol=1e-7
        )
    np.testing.assert_allclose(
        distribution().class_posterior(schedule, x_t, t), points.class_posterior(schedule, x_t, t), atol=1e-7
    )


def test_without_a_class_it_is_the_mean_over_the_classes(x64):
    """ε*(x_t) = Σ_c p(c | x_t) ε*(x_t | c), and p(c | x_t) = p(c) p(x_t | c)/p(x_t)"""
    schedule, t, x_t = linear(), jnp.array([30, 400, 800]), jax.random.normal(jax.random.key(0), (3, 2, 4, 1))
    by_class = [jnp.full(3, c) for c in range(2)]
    log_p = np.stack([distribution().log_prob(schedule, x_t, t, c) for c in by_class], 1) + np.log(PRIOR)
    p = np.exp(log_p - logsumexp(log_p, axis=1, keepdims=True))
    np.testing.assert_allclose(distribution().class_posterior(schedule, x_t, t), p, atol=1e-10)
    np.testing.assert_allclose(distribution().log_prob(schedule, x_t, t), logsumexp(log_p, axis=1), rtol=1e-10)
    eps = np.stack([distribution().eps(schedule)(x_t, t, c) for c in by_class], 1)
    np.testing.assert_allclose(distribution().eps(schedule)(x_t, t), np.einsum("bk,bkhwc->bhwc", p, eps), atol=1e-10)
    np.testing.assert_array_equal(
        distribution().eps(schedule)(x_t, t), distribution().eps(schedule)(x_t, t, jnp.full(3, 2))
    )


def test_its_score_is_the_gradient_of_its_log_density(x64):
    schedule, t, c = linear(), jnp.array([50, 300, 700]), jnp.array([0, 1, 2])
    x_t = jax.random.normal(jax.random.key(0), (3, 2, 4, 1))
    grad = jax.grad(lambda x: distribution().log_prob(schedule, x, t, c).sum())(x_t)
    np.testing.assert_allclose(distribution().score(schedule)(x_t, t, c), grad, atol=1e-8)


def test_with_little_noise_each_cell_is_read(x64):
    images, labels, _ = pictures()
    answer = distribution().answer(linear(), jnp.asarray(images), 1, jnp.asarray(labels))
    np.testing.assert_allclose(answer.x0, images, atol=1e-6)
    assert answer.tile_posterior.shape == (len(images), 4, 3)
    np.testing.assert_allclose(answer.tile_posterior.sum(2), 1, atol=1e-10)
    assert np.all(answer.tile_posterior.max(2) > 1 - 1e-6)
    np.testing.assert_array_equal(answer.class_posterior, np.eye(2)[labels])  # the class is given


def test_cells_are_cut_and_put_together():
    x = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    parts = split(x, 2, 3)
    assert parts.shape == (2, 4, 18)
    np.testing.assert_array_equal(parts[1, 2].reshape(2, 3, 3), x[1, 2:4, 0:3])
    np.testing.assert_array_equal(join(parts, x.shape, 2, 3), x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cells(TILE[0], PROB), "tile has shape"),
        (lambda: cells(TILE, PROB[..., :2]), "prob has shape"),
        (lambda: cells(TILE, PROB * 0.9), "sum to 1"),
        (lambda: cells(TILE, PROB, light=np.ones(3) / 3), "light has shape"),
        (lambda: cells(TILE, PROB, prior=np.array([1.5, -0.5])), "prior has shape"),
        (lambda: distribution().log_prob(linear(), jnp.zeros((1, 2, 4, 1)), 0), "outside 1..1000"),
        (lambda: distribution().eps(linear())(jnp.zeros((1, 4, 4, 1)), 1), "4 cells of 1 x 2 x 1"),
        (lambda: distribution().eps(linear())(jnp.zeros((1, 2, 4, 1)), 1, jnp.array([3])), "outside 0..2"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- more that can be known, and rewards ------------------------------------------------------------------------------

NONE = np.zeros((4, 3))  # no reward
NEXT = np.array([[0.3, 0.7], [0.9, 0.1]])  # p(light | class)


def all_pictures(reward=NONE):
    """Every picture of the distribution whose light depends on the class: class, light, tiles, p(x0) e^r(x0)."""
    for c, s, v in itertools.product(range(2), range(2), itertools.product(range(3), repeat=4)):
        p = PRIOR[c] * NEXT[c, s] * np.prod([PROB[c, j, v[j]] * np.exp(reward[j, v[j]]) for j in range(4)])
        image = np.block([[TILE[s, k, ..., 0] for k in v[:2]], [TILE[s, k, ..., 0] for k in v[2:]]])[..., None]
        yield c, s, v, p, image


def by_hand(x_t, alpha_bar, fits, reward=NONE):
    """log p(x_t | fits), E[x0 | x_t, fits] and p(class), p(light) given x_t, by the sum over the pictures that fit."""
    rows = [row for row in all_pictures(reward) if fits(*row[:3]) and row[3] > 0]
    image, p = np.array([row[4] for row in rows]), np.array([row[3] for row in rows])
    gap = x_t - np.sqrt(alpha_bar) * image
    log = (
        np.log(p / p.sum()) - 0.5 * (gap**2).sum((1, 2, 3)) / (1 - alpha_bar) - 4 * np.log(2 * np.pi * (1 - alpha_bar))
    )
    weight = np.exp(log - logsumexp(log))
    sums = [np.bincount([row[k] for row in rows], weight, minlength=2) for k in (0, 1)]
    return logsumexp(log), np.einsum("n,nhwc->hwc", weight, image), *sums


def test_given_class_light_and_tiles_it_is_the_sum_over_the_pictures_that_fit(x64):
    m, schedule, t = cells(TILE, PROB, NEXT, PRIOR), linear(), jnp.array([40, 300, 700, 900])
    x_t = jax.random.normal(jax.random.key(1), (4, 2, 4, 1)) + 0.3
    may = np.ones((4, 4, 3), bool)
    may[0, 1] = (False, False, True)  # class 0 cannot have it
    may[1, 2, 0] = may[2, 0, 1] = may[2, 3, 2] = False
    c = Known(jnp.array([2, 0, 1, 2]), jnp.array([2, 2, 0, 1]), jnp.asarray(may))
    answer = m.answer(schedule, x_t, t, c)
    for i in range(4):

        def fits(label, light, v, i=i):
            return c.label[i] in (2, label) and c.light[i] in (2, light) and all(may[i, range(4), v])

        expected = by_hand(np.asarray(x_t[i]), float(schedule.alpha_bar[t[i]]), fits)
        ours = (answer.log_prob, answer.x0, answer.class_posterior, answer.light_posterior)
        for a, b in zip(ours, expected, strict=True):
            np.testing.assert_allclose(a[i], b, atol=1e-9)
    # the score stays finite where a class is excluded, and is the gradient
    grad = jax.grad(lambda x: m.log_prob(schedule, x, t, c).sum())(x_t)
    np.testing.assert_allclose(m.score(schedule)(x_t, t, c), grad, atol=1e-8)


def test_a_reward_that_adds_over_cells_tilts_to_another_such_distribution(x64):
    m, schedule, t = cells(TILE, PROB, NEXT, PRIOR), linear(), 500
    x_t, reward = jax.random.normal(jax.random.key(2), (3, 2, 4, 1)), RNG.normal(0, 1, (4, 3))
    tilted, log_Z = m.tilted(reward)
    Z = sum(row[3] * np.exp(reward[range(4), row[2]].sum()) for row in all_pictures())
    assert log_Z == pytest.approx(np.log(Z))
    for i in range(3):
        expected = by_hand(np.asarray(x_t[i]), float(schedule.alpha_bar[t]), lambda *_: True, reward)
        answer = tilted.answer(schedule, x_t, t)
        np.testing.assert_allclose(answer.log_prob[i], expected[0])
        np.testing.assert_allclose(answer.x0[i], expected[1], atol=1e-9)


def test_impossible_knowledge_is_refused():
    m, x_t = cells(TILE, PROB, NEXT, PRIOR), jnp.zeros((2, 2, 4, 1))
    tiles = np.ones((2, 4, 3), bool)
    tiles[1, 1] = (False, False, True)
    with pytest.raises(ValueError, match="no picture of this distribution is as c says of image 1"):
        m.answer(linear(), x_t, 5, Known(label=jnp.array([0, 0]), tiles=tiles))
    with pytest.raises(ValueError, match=r"tiles is float64 of shape \(2, 4, 3\); give bool"):
        m.answer(linear(), x_t, 5, Known(tiles=tiles * 1.0))
    with pytest.raises(ValueError, match=r"light lies in 0..3, outside 0..2"):
        m.answer(linear(), x_t, 5, Known(light=jnp.array([0, 3])))
    with pytest.raises(ValueError, match=r"reward has shape \(2,\); give one number for each tile, \(3,\) or \(4, 3\)"):
        m.tilted(np.zeros(2))


def test_tiles_may_depend_on_the_light(x64):
    """The sum over all pictures, with the light as a layout: other probabilities, the same pixels."""
    prob = RNG.dirichlet(np.ones(3), (2, 2, 4))  # classes, lights, cells
    prob[0, 1, 2] = (0.0, 0.5, 0.5)
    m, schedule, t = cells(TILE[:1], prob, LIGHT, PRIOR), linear(), 300
    images, labels, lights, p = [], [], [], []
    for c, s, v in itertools.product(range(2), range(2), itertools.product(range(3), repeat=4)):
        parts = [TILE[0, k, ..., 0] for k in v]
        images.append(np.block([parts[:2], parts[2:]])[..., None])
        p.append(PRIOR[c] * LIGHT[s] * np.prod([prob[c, s, j, v[j]] for j in range(4)]) + 1e-300)
        labels.append(c)
        lights.append(s)
    points = oracle.mixture(np.array(images), 0.0, np.array(p) / sum(p), np.array(labels))
    x_t, c = jax.random.normal(jax.random.key(0), (3, 2, 4, 1)), jnp.array([0, 1, 2])
    answer, posterior = m.answer(schedule, x_t, t, c), points.posterior(schedule, x_t, jnp.full(3, t), c)
    x0 = np.einsum("bk,khwc->bhwc", posterior, np.array(images))
    np.testing.assert_allclose(answer.x0, x0, atol=1e-7)
    np.testing.assert_allclose(answer.light_posterior[:, 1], posterior @ np.array(lights, float), atol=1e-7)


@pytest.mark.slow
def test_the_same_probabilities_in_all_lights_are_those_without_one(x64):
    schedule, t, x_t, c = linear(), 300, jax.random.normal(jax.random.key(0), (3, 2, 4, 1)), jnp.array([0, 1, 2])
    same = cells(TILE, np.repeat(PROB[:, None], 2, axis=1), LIGHT, PRIOR)
    np.testing.assert_allclose(same.eps(schedule)(x_t, t, c), distribution().eps(schedule)(x_t, t, c), atol=1e-12)
    for reward in (np.array([0.5, -1.0, 2.0]), RNG.normal(size=(4, 3))):
        for a, b in zip(same.tilted(reward)[0], distribution().tilted(reward)[0], strict=True):
            np.testing.assert_allclose(a, b if b.ndim != 3 else jnp.repeat(b[:, None], 2, axis=1), atol=1e-12)
    tiles = np.ones((3, 4, 3), bool)
    tiles[:, 0, 0] = False
    known = Known(label=c, tiles=tiles)
    np.testing.assert_allclose(
        same.answer(schedule, x_t, t, known).x0, distribution().answer(schedule, x_t, t, known).x0, atol=1e-12
    )
