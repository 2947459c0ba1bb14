"""Inpainting on a Gaussian whose conditional distribution is known, the lists that climb, and the masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import oracle
from ddpm.editing import inpaint, masks
from ddpm.forward import x0_from_eps
from ddpm.sample import ddim_step, ddpm_step, walk
from ddpm.schedule import linear, make_times

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("n", "jump", "resample", "down"), [(250, 10, 10, 2410), (250, 10, 5, 1210), (100, 10, 10, 910), (50, 5, 5, 230)]
)
def test_repaint_schedule(n, jump, resample, down):
    path = np.diff(inpaint.repaint_times(np.arange(n, -1, -1), jump, resample))
    assert np.all(np.abs(path) == 1) and (path < 0).sum() == down
    assert (path > 0).sum() == down - n


def test_repaint_schedule_of_the_paper():
    """250/10/10: 4,571 times, 2,160 of the transitions up, from 24 points 0, 10, …, 230; each is left 10 times."""
    times = inpaint.repaint_times(np.arange(250, -1, -1))
    assert len(times) == 4571 and (np.diff(times) > 0).sum() == 2160 and times[0] == 250 and times[-1] == 0
    turns = times[1:-1][(np.diff(times)[:-1] < 0) & (np.diff(times)[1:] > 0)]
    assert sorted(set(turns.tolist())) == list(range(0, 240, 10))
    assert (turns == 120).sum() == 9
    assert len(inpaint.repaint_times(np.arange(250, -1, -1), 1, 4)) - 1 == 997 + 747
    np.testing.assert_array_equal(inpaint.repaint_times([9, 4, 0], 1, 1), [9, 4, 0])
    strided = inpaint.repaint_times(make_times(1000, 250))
    np.testing.assert_array_equal(strided, times * 4)  # positions of a strided list


def world():
    """Two correlated pixels, N(0, [[.5, .4], [.4, .5]]), as images 2x1; the first one is known to be .6."""
    m = oracle.gaussian(np.zeros((2, 1, 1)), np.array([[0.5, 0.4], [0.4, 0.5]]))
    mask = np.array([1.0, 0.0]).reshape(2, 1, 1)
    return m, linear(), mask


@pytest.mark.parametrize("wrap", ["repaint", "replace_x0"])
def test_known_pixels_are_exact_and_without_a_mask_nothing_changes(x64, wrap):
    m, schedule, mask = world()
    known, x_T = jnp.full((3, 2, 1, 1), 0.6), jax.random.normal(KEY, (3, 2, 1, 1))
    times = make_times(1000, 20)

    def run(mask):
        if wrap == "repaint":
            return walk(inpaint.repaint(ddim_step(m.eps(schedule), schedule), schedule, known, mask), KEY, x_T, times)
        return walk(ddim_step(inpaint.replace_x0(m.eps(schedule), schedule, known, mask), schedule), KEY, x_T, times)

    np.testing.assert_allclose(run(mask)[:, 0], 0.6, atol=1e-12)
    np.testing.assert_allclose(run(np.ones((2, 1, 1))), known, atol=1e-12)
    plain = walk(ddim_step(m.eps(schedule), schedule), KEY, x_T, times)
    np.testing.assert_allclose(run(np.zeros((2, 1, 1))), plain, atol=1e-12)
    each = np.stack([mask, 0 * mask, 1 - mask])  # a mask for each image
    np.testing.assert_allclose(run(each)[1], plain[1], atol=1e-12)


@pytest.mark.slow
def test_resampling_finds_the_conditional_distribution():
    """x_2 | x_1 = .6 ~ N(.48, .18). Straight down, a third of the mean is missing; resampling closes the gap."""
    m, schedule, mask = world()
    known, x_T = jnp.full((4000, 2, 1, 1), 0.6), jax.random.normal(KEY, (4000, 2, 1, 1))
    step = inpaint.repaint(ddpm_step(m.eps(schedule), schedule), schedule, known, mask)
    lists = [inpaint.repaint_times(make_times(1000, 100), 10, r) for r in (1, 10, 20)]
    straight, ten, twenty = (walk(step, KEY, x_T, times)[:, 1] for times in lists)
    gaps = [0.48 - float(x.mean()) for x in (straight, ten, twenty)]
    assert gaps[0] > 0.15 and gaps[1] < 0.4 * gaps[0] and gaps[2] < 0.7 * gaps[1]
    assert twenty.std() == pytest.approx(np.sqrt(0.18), rel=0.05)


def test_the_known_part_has_the_right_noise_level(x64):
    """At level s the known pixels are √ᾱ known + √(1-ᾱ) ε: the printed algorithm, without the root, has (1-ᾱ) ε."""
    m, schedule, _ = world()
    known = jnp.full((20_000, 2, 1, 1), 0.6)
    step = inpaint.repaint(ddpm_step(m.eps(schedule), schedule), schedule, known, np.ones((2, 1, 1)))
    x = step(KEY, known, jnp.int32(300), jnp.int32(250))
    a = float(schedule.alpha_bar[250])
    assert x.mean() == pytest.approx(np.sqrt(a) * 0.6, abs=0.02) and x.var() == pytest.approx(1 - a, rel=0.03)


def test_going_up_is_the_forward_process(x64):
    m, schedule, mask = world()
    known, x = jnp.zeros((20_000, 2, 1, 1)), jnp.ones((20_000, 2, 1, 1))
    up = inpaint.repaint(ddpm_step(m.eps(schedule), schedule), schedule, known, mask)(KEY, x, 100, 200)
    ratio = float(schedule.alpha_bar[200] / schedule.alpha_bar[100])
    assert up.mean() == pytest.approx(np.sqrt(ratio), abs=0.01) and up.var() == pytest.approx(1 - ratio, rel=0.03)


def test_replacement_derives_eps_again(x64):
    m, schedule, mask = world()
    x, t, known = jax.random.normal(KEY, (2, 2, 1, 1)), jnp.array([100, 800]), jnp.full((2, 2, 1, 1), 0.6)
    before = x0_from_eps(schedule, x, t, m.eps(schedule)(x, t, None))
    after = x0_from_eps(schedule, x, t, inpaint.replace_x0(m.eps(schedule), schedule, known, mask)(x, t, None))
    np.testing.assert_allclose(after[:, 0], 0.6, atol=1e-9)
    np.testing.assert_allclose(after[:, 1], before[:, 1], atol=1e-9)


def test_sdedit_begins_at_the_noised_sketch(x64):
    """With a denoiser that knows the sketch it comes back; begun late, a sketch stays, begun early, it is forgotten."""
    schedule, sketch = linear(), jnp.full((2000, 1), 2.0)
    m = oracle.gaussian([0.0], 0.25)
    step = ddim_step(m.eps(schedule), schedule)
    early, late = (inpaint.sdedit(step, schedule, KEY, sketch, make_times(1000, 50)[k:]) for k in (0, 45))
    # the flow keeps quantiles: x_0 = .5 x_t/√(.25 ᾱ + 1-ᾱ), and its mean is that of x_t = √ᾱ sketch
    for out, t in ((early, 1000), (late, 100)):
        a = float(schedule.alpha_bar[t])
        expected = 0.5 * np.sqrt(a) * 2.0 / np.sqrt(0.25 * a + 1 - a)
        assert out.mean() == pytest.approx(expected, rel=0.15, abs=0.05)

    def knows(x, t, c):
        a = schedule.alpha_bar[t][:, None]
        return (x - jnp.sqrt(a) * 2.0) / jnp.sqrt(1 - a)

    out = inpaint.sdedit(ddim_step(knows, schedule), schedule, KEY, sketch, make_times(1000, 10)[5:])
    np.testing.assert_allclose(out, 2.0, atol=1e-9)


@pytest.mark.parametrize("name", masks.MASKS)
@pytest.mark.parametrize(("H", "W"), [(28, 28), (32, 32), (7, 10)])
def test_masks(name, H, W):
    mask = masks.make_mask(name, H, W)
    assert mask.shape == (H, W, 1) and set(np.unique(mask)) == {0.0, 1.0}
    share = {"half": (W // 2) / W, "every_second_row": -(-H // 2) / H, "every_second_pixel": 0.25}.get(name)
    if name == "every_second_pixel":
        assert mask[::2, ::2].all() and mask.sum() == mask[::2, ::2].size
    elif share is not None:
        assert mask.mean() == pytest.approx(share)
    elif name == "expand":
        assert mask.sum() == (H // 4) * max(1, W // 4) and mask[H // 2, W // 2] == 1
    else:
        low, high = {"thin": (0.2, 0.5), "wide": (0.4, 0.85)}[name]
        assert low <= 1 - mask.mean() < high
        np.testing.assert_array_equal(mask, masks.make_mask(name, H, W))


def test_wide_strokes_are_wider():
    """Distance of the missing pixels from the known: the widest part of `wide` is wider."""
    from scipy.ndimage import distance_transform_edt

    widest = [distance_transform_edt(1 - f(64, 64)[..., 0]).max() for f in (masks.thin, masks.wide)]
    assert widest[1] > 1.5 * widest[0]


X = jnp.zeros((2, 4, 4, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: inpaint.repaint(lambda *a: X, s, X, np.full((4, 4, 1), 0.5)), "other than 0 and 1"),
        (lambda s: inpaint.repaint(lambda *a: X, s, X, np.ones((4, 5, 1))), r"mask has shape \(4, 5, 1\)"),
        (lambda s: inpaint.repaint(lambda *a: X, s, X, np.ones((4, 4))), "mask has shape"),
        (lambda s: inpaint.replace_x0(lambda x, t, c: x, s, X, np.ones((3, 4, 4, 1))), "mask has shape"),
        (lambda s: inpaint.replace_x0(lambda x, t, c: x, s, X, np.ones((4, 4, 1)))(X[:1], 5, None), "must be equal"),
        (lambda s: inpaint.repaint_times([0, 5]), "fall to 0"),
        (lambda s: inpaint.repaint_times([5, 0], jump=0), "jump is 0"),
        (lambda s: inpaint.repaint_times([5, 0], resample=0), "resample is 0"),
        (lambda s: masks.make_mask("halve", 4, 4), "Did you mean 'half'"),
        (lambda s: masks.strokes(4, 4, share=1.0), "share"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(linear())
