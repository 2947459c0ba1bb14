"""Pictures made of coloured regions: against the list of all pictures, and against Bayes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from ddpm.oracles.region_colours import Evidence, regions
from ddpm.schedule import linear

# Three geometries of 2 x 3 pixels; region 2 and the cells 3, 4 are not in all of them
REGION = np.array([[[0, 0, 1], [0, 1, 1]], [[0, 2, 2], [1, 1, 0]], [[0, 3, 4], [1, 1, 4]]])
ROLES = [[0], [1, 2], [3, 4]]  # the second role has two regions, as has the third
RNG = np.random.default_rng(0)
COLOURS = [RNG.uniform(-1, 1, (2, k, 3)) for k in (2, 3, 2)]  # two lights
GEOMETRY, LIGHT = np.array([0.5, 0.2, 0.3]), np.array([0.6, 0.4])
ROLE_OF = {0: (0, 0), 1: (1, 0), 2: (1, 1), 3: (2, 0), 4: (2, 1)}  # region number: its role, and which of it


def law():
    return regions(REGION, ROLES, COLOURS, GEOMETRY, LIGHT)


def evidence(B, rng):
    """Weights of everything, with an excluded geometry and colour, and pixels and a grey image with their noise."""
    g, light = rng.normal(size=(B, 3)), rng.normal(size=(B, 2))
    colours = [rng.normal(size=(B, len(numbers), c.shape[1])) for numbers, c in zip(ROLES, COLOURS, strict=True)]
    g[0, 1] = colours[1][1, 0, 2] = -np.inf
    seen = rng.uniform(-1, 1, (B, 2, 3, 3)), rng.uniform(0, 9, (B, 2, 3)) * (rng.random((B, 2, 3)) < 0.5)
    grey = rng.uniform(-1, 1, (B, 2, 3)), rng.uniform(0, 9, (B, 2, 3))
    return Evidence(
        *(jnp.asarray(a) for a in (g, light)), tuple(map(jnp.asarray, colours)), *map(jnp.asarray, seen + grey)
    )


def brute(schedule, x_t, t, c):
    """E[x0 given x_t, c], log p, posteriors of g, l and of each region's colour: sums over every picture, in NumPy."""
    rows, B, c = [], len(x_t), jax.tree.map(np.asarray, c)
    norm = lambda a: a - logsumexp(a, axis=-1, keepdims=True)  # noqa: E731
    log_g, log_l = norm(np.log(GEOMETRY) + c.geometry), norm(np.log(LIGHT) + c.light)
    for g, light in itertools.product(range(3), range(2)):
        numbers = np.unique(REGION[g])
        for ks in itertools.product(*(range(COLOURS[ROLE_OF[n][0]].shape[1]) for n in numbers)):
            x0, log_w = np.zeros((2, 3, 3)), log_g[:, g] + log_l[:, light]
            for n, k in zip(numbers, ks, strict=True):
                role, j = ROLE_OF[n]
                x0[REGION[g] == n] = COLOURS[role][light, k]
                log_w = log_w + norm(np.asarray(c.colours[role]))[:, j, k]
            rows.append((x0, log_w, g, light, dict(zip(numbers, ks, strict=True))))
    x0 = np.stack([r[0] for r in rows])  # (P, 2, 3, 3)
    alpha_bar = np.asarray(schedule.alpha_bar, np.float64)[t][:, None]
    gap = lambda a, b: ((np.asarray(a)[:, None] - b) ** 2).reshape(B, len(x0), 6, -1).sum(-1)  # noqa: E731
    root = np.sqrt(alpha_bar)[:, :, None, None, None]
    log_p = -gap(x_t, root * x0[None]).sum(-1) / (2 * (1 - alpha_bar))
    log_p -= (gap(c.pixels, x0[None]) * np.asarray(c.precision).reshape(B, 1, 6)).sum(-1) / 2
    log_p -= (gap(c.grey, x0[None] @ [0.299, 0.587, 0.114]) * np.asarray(c.grey_precision).reshape(B, 1, 6)).sum(-1) / 2
    log_p += np.stack([r[1] for r in rows], 1) - 9 * np.log(2 * np.pi * (1 - alpha_bar))
    total = logsumexp(log_p, axis=1)
    p = np.exp(log_p - total[:, None])
    of = [np.array([r[i] for r in rows]) for i in (2, 3)]
    posteriors = [np.stack([p[:, a == v].sum(1) for v in range(n)], 1) for a, n in zip(of, (3, 2), strict=True)]
    colours = {}
    for n, (role, _) in ROLE_OF.items():  # given that the picture has the region
        of_k = [p[:, [r[4].get(n) == k for r in rows]].sum(1) for k in range(COLOURS[role].shape[1])]
        colours[n] = np.stack(of_k, 1) / np.maximum(np.sum(of_k, 0), 1e-300)[:, None]
    return np.einsum("bp,phwc->bhwc", p, x0), total, *posteriors, colours


@pytest.mark.slow
@pytest.mark.parametrize("given", ["all", "nothing"])
def test_it_is_the_sum_over_all_its_pictures(x64, given):
    schedule, rng = linear(), np.random.default_rng(1)
    t, x_t = np.array([900, 300, 30, 3]), rng.normal(size=(4, 2, 3, 3))
    c = full = evidence(4, rng)
    nothing = jax.tree.map(jnp.zeros_like, full)
    if given == "nothing":
        c, full = None, nothing
    answer = law().answer(schedule, jnp.asarray(x_t), t, c)
    x0, log_prob, geometry, light, colours = brute(schedule, x_t, t, full)
    for ours, theirs in ((answer.x0, x0), (answer.geometry, geometry), (answer.light, light)):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
    np.testing.assert_allclose(answer.log_prob, log_prob, rtol=1e-9)
    for n, (role, j) in ROLE_OF.items():
        there = colours[n].sum(1) > 0.5  # else no picture with this region is possible
        np.testing.assert_allclose(answer.colours[role][there, j], colours[n][there], atol=1e-9)
    eps = law().eps(schedule)(jnp.asarray(x_t), t, c)
    std = np.asarray(schedule.std)[t].reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(np.sqrt(1 - std**2) * x0 + std * eps, x_t, atol=1e-7)


def test_its_score_is_the_gradient_of_its_log_density(x64):
    """Along a direction d: (log p(x + h d) - log p(x - h d))/2h = score · d"""
    schedule, rng, h = linear(), np.random.default_rng(2), 1e-5
    t, (x_t, d) = np.array([900, 300, 30, 200]), rng.normal(size=(2, 4, 2, 3, 3))
    c = evidence(4, rng)
    up, down = (law().log_prob(schedule, jnp.asarray(x_t + step * d), t, c) for step in (h, -h))
    along = (law().score(schedule)(jnp.asarray(x_t), t, c) * d).sum((1, 2, 3))
    np.testing.assert_allclose(along, (up - down) / (2 * h), rtol=1e-5)


def test_the_colours_of_a_region_are_those_of_the_pictures_that_have_it(x64):
    """With little noise each region is read; of a region that no probable geometry has, nothing is said."""
    picture = np.zeros((1, 2, 3, 3))
    for n, k in zip((0, 1, 2), (1, 0, 2), strict=True):  # the second geometry, in the first light
        picture[0][REGION[1] == n] = COLOURS[ROLE_OF[n][0]][0, k]
    answer = law().answer(linear(), jnp.asarray(np.repeat(picture, 4, 0)), 1)
    assert answer.geometry[0, 1] == pytest.approx(1) and answer.light[0, 0] == pytest.approx(1)
    np.testing.assert_allclose(answer.colours[0][0], [[0, 1]], atol=1e-9)
    np.testing.assert_allclose(answer.colours[1][0], np.eye(3)[[0, 2]], atol=1e-9)


def test_what_cannot_be_is_refused():
    for change, words in (
        ({"region": REGION * 1.0}, "integers"),
        ({"roles": [[0], [1], [3, 4]]}, "region holds 2, which is of no role"),
        ({"geometry": [0.5, 0.5]}, "3 probabilities"),
        ({"light": [0.7, 0.7]}, "2 probabilities"),
    ):
        given = {"region": REGION, "roles": ROLES, "colours": COLOURS, "geometry": GEOMETRY, "light": LIGHT} | change
        with pytest.raises(ValueError, match=words):
            regions(**given)
    with pytest.raises(TypeError, match="Evidence"):
        law().eps(linear())(jnp.zeros((1, 2, 3, 3)), 5, np.array([0]))
    with pytest.raises(ValueError, match="x_t has shape"):
        law().eps(linear())(jnp.zeros((1, 3, 2, 3)), 5)
