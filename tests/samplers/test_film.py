"""The record of a walk: its images are those of `generate`, its predictions fit together, and its film shows them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ddpm import oracle, plot
from ddpm.cli import film as film_cli
from ddpm.cli import options
from ddpm.cli.images import Picked
from ddpm.sample import Sampling
from ddpm.samplers import film
from ddpm.samplers.generation import generate
from ddpm.schedule import cosine
from ddpm.training.watching import save_film

SCHEDULE, KEY, SHAPE = cosine(40), jax.random.key(3), (4, 4, 1)
MEANS = np.random.default_rng(0).uniform(-0.8, 0.8, (2, 16))
EPS = oracle.mixture(MEANS, np.stack([0.05 * np.eye(16)] * 2), label=[0, 1]).eps(SCHEDULE)
C, IDS = np.array([0, 1, 1, 0, 1]), np.array([0, 3, 4])


@functools.cache
def record(sampler="ddim", guidance=2.0, steps=6):
    how = Sampling(sampler, steps, guidance)
    return film.record(EPS, SCHEDULE, KEY, SHAPE, IDS, C[IDS], how), how


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["ddim", "dpm_2m"])
def test_the_last_frame_is_the_image_that_generate_draws(sampler):
    found, how = record(sampler)
    drawn = generate(EPS, SCHEDULE, KEY, SHAPE, C, how)
    np.testing.assert_allclose(found.x_t[-1], drawn[IDS], atol=2e-5)
    np.testing.assert_array_equal(found.x0[-1], found.x_t[-1])
    assert found.t.tolist() == how.times(SCHEDULE).tolist() and not found.eps[-1].any()


@pytest.mark.slow
def test_predictions_fit_together():
    """x_t = √ᾱ_t x̂0 + √(1-ᾱ_t) ε̂, and each DDIM step puts the same two together at the next time."""
    found, _ = record()
    a = np.asarray(SCHEDULE.alpha_bar)[found.t].reshape(-1, 1, 1, 1, 1)
    both = np.sqrt(a) * found.x0 + np.sqrt(1 - a) * found.eps
    np.testing.assert_allclose(both, found.x_t, atol=2e-5)
    ahead = np.sqrt(a[1:]) * found.x0[:-1] + np.sqrt(1 - a[1:]) * found.eps[:-1]
    np.testing.assert_allclose(ahead, found.x_t[1:], atol=2e-5)
    assert np.abs(found.x0).max() <= 1.001  # clipped, as in the walk; up to rounding


@pytest.mark.slow
def test_the_difference_is_what_the_class_changes():
    found, _ = record()
    i, t = 2, jnp.full(3, int(found.t[2]))
    x = jnp.asarray(found.x_t[i])
    np.testing.assert_allclose(found.difference[i], EPS(x, t, jnp.asarray(C[IDS])) - EPS(x, t, None), atol=1e-5)
    assert film.record(EPS, SCHEDULE, KEY, SHAPE, IDS, None, Sampling(steps=2)).difference is None


def test_frames_show_x_t_beside_x0():
    found, _ = record()
    frames = film_cli.frames(found, guidance=True, T=found.x_t[-1].mean(-1))
    assert len(frames) == 7 and len({f.shape for f in frames}) == 1
    zoom = film_cli.SIDE // 4
    for i in (0, 3):
        for side, x in enumerate((found.x_t[i], found.x0[i])):
            wanted = plot.grid(np.clip(x, -1, 1), 3)[..., 0].repeat(zoom, 0).repeat(zoom, 1)
            width = wanted.shape[1]
            np.testing.assert_array_equal(frames[i][-len(wanted) :, side * width : (side + 1) * width, 1], wanted)
    assert frames[0].shape[1] == 4 * width and film_cli.frames(found)[0].shape[1] == 2 * width


@pytest.mark.slow
def test_every_kind_of_film_is_written(tmp_path, capsys):
    class Model:
        eps, schedule, image_shape = EPS, SCHEDULE, SHAPE

    paths = tuple(tmp_path / f"a.{kind}" for kind in ("webp", "npz"))
    command = options.Sample(film=paths, n=2, seed=3)
    picked = Picked(np.zeros((4, *SHAPE)), np.array([0, 0, 1, 1]), np.arange(4), ("a", "b"), "")
    film_cli.run(command, Model, picked, Sampling(steps=6))
    kept = np.load(paths[1])
    assert set(kept) == {"t", "x_t", "x0", "eps", "difference"} and kept["x_t"].shape == (7, 2, *SHAPE)
    assert Image.open(paths[0]).n_frames == 7 and "film of 2 images, 7 of 7 frames" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, labelled, words",
    [
        ({"film": ("a.mp4",)}, True, r"film is a\.mp4; the name of a film ends in \.webp, \.gif, \.png, \.npz"),
        ({"film_with": ("guidance",)}, True, r"there is no film; give --film NAME\.webp"),
        ({"film": ("a.gif",), "film_with": ("typicality",)}, False, "compares with no class, and no class is given"),
    ],
)
def test_what_cannot_be_filmed_is_refused_before_anything_is_drawn(change, labelled, words, tmp_path):
    change = change | {"film": tuple(tmp_path / f for f in change.get("film", ()))}
    words = words.replace("film is ", "film is .*")
    with pytest.raises(ValueError, match=words):
        film_cli.check(options.Sample(**change), labelled)
    assert not list(tmp_path.iterdir())


def test_the_film_of_a_training_has_its_grids_in_order(tmp_path):
    for step in (900, 1000, 20):
        Image.fromarray(np.full((12, 40), step % 256, np.uint8)).save(tmp_path / f"samples_{step:08d}.png")
    Image.fromarray(np.zeros((9, 40), np.uint8)).save(tmp_path / "samples_00000500.png")  # of another shape
    film = Image.open(save_film(tmp_path))
    seen = []
    for i in range(film.n_frames):
        film.seek(i)
        seen.append(np.asarray(film.convert("RGB"))[-1, -1, 0])
    assert seen == [20, 900 % 256, 1000 % 256]
