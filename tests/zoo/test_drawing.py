"""How a card says that its model draws: a Gaussian above t*, the guidance; on a tiny network with random parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm.cli import start
from ddpm.config import UNetConfig
from ddpm.network import build
from ddpm.networks.skip import make_prior, ramp
from ddpm.oracles import low_rank
from ddpm.schedule import cosine
from ddpm.zoo import model

TINY = UNetConfig(8, 1, channels=8, multipliers=(1,), blocks=1, attention=(), groups=4, num_classes=2, extra_channels=1)
SCHEDULE = cosine(100)
CARD = {"schedule": {"name": "cosine"}, "predict": "gaussian"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Weights of a network that continues a Gaussian, with a card that leaves t > 60 to it and asks for guidance 3."""
    x = np.random.default_rng(0).normal(size=(60, 8, 8, 1))
    prior = make_prior(low_rank.fit(x, np.arange(60) % 2, rank=3), SCHEDULE)
    params = jax.tree.map(lambda a: a + 0.05, build(TINY)[0](jax.random.key(0)))
    m = model.Model("m", TINY, params, SCHEDULE, ("a", "b"), CARD, prior)
    path = tmp_path_factory.mktemp("w") / "m"
    model.save(path, m, {"drawing": {"guidance": 3.0, "gaussian_above": 60}})
    return path


@pytest.mark.slow
def test_above_its_time_it_is_the_gaussian_and_below_the_network(saved):
    m = model.load(saved)
    x, c = jax.random.normal(jax.random.key(1), (2, 8, 8, 1)), jnp.array([0, 1])
    ours, plain, gaussian = (jax.jit(e) for e in (m.eps, m.plain.eps, m.prior.gaussian.eps(SCHEDULE)))
    for t, same in ((61, gaussian), (100, gaussian), (60, plain), (1, plain)):
        np.testing.assert_allclose(ours(x, jnp.int32(t), c), same(x, jnp.int32(t), c), atol=1e-5)
    assert abs(plain(x, jnp.int32(61), c) - gaussian(x, jnp.int32(61), c)).max() > 1e-3


@pytest.mark.slow
def test_the_commands_take_what_the_card_says(saved, tmp_path, capsys):
    """And the images of the plain network are kept under another name."""
    m = model.load(saved)
    assert m.drawing.guidance == 3 and m.plain.drawing.guidance == 2
    assert m.plain.card["sha256"] != m.card["sha256"]

    def draw(name, *more):
        out = tmp_path / f"{name}.npz"
        words = ["sample", "--model", str(saved), "--n", "1", "--steps", "3", "--out", str(tmp_path / "a.png")]
        assert start.main([*words, "--npz", str(out), *more]) == 0
        return np.load(out)["arr_0"]

    by_card = draw("a")
    np.testing.assert_array_equal(by_card, draw("b", "--guidance", "3"))
    assert (by_card != draw("c", "--plain", "--guidance", "3")).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    "drawing, words",
    [
        ({"gaussian_above": 60}, "gaussian_above is 60, but the weights hold no Gaussian"),
        ({"gaussian_above": 0}, "gaussian_above"),
        ({"gaussian_above": 101}, r"gaussian_above is 101, but the chain has the times 1\.\.100"),
        ({"guidance": -1.0}, "guidance"),
        ({"guidance": "strong"}, "guidance"),
    ],
)
def test_a_card_that_cannot_be_is_refused(saved, tmp_path, drawing, words):
    m = model.load(saved)
    if "hold no" in words:
        unet = m.unet.__class__(**vars(m.unet) | {"extra_channels": 0})
        m = model.Model(
            "n", unet, build(unet)[0](jax.random.key(0)), SCHEDULE, m.classes, {"schedule": {"name": "cosine"}}
        )
    model.save(tmp_path / "n", m, {"drawing": drawing})
    with pytest.raises(ValueError, match=words):
        model.load(tmp_path / "n")


def test_a_gaussian_that_fades_is_kept_with_the_weights(tmp_path):
    """Read back it is the same denoiser, and another one than without fading."""
    x = np.random.default_rng(0).normal(size=(60, 8, 8, 1))
    g = low_rank.fit(x, np.arange(60) % 2, rank=3)
    prior = make_prior(g, SCHEDULE, ramp(100, 20, 60))
    m = model.Model("m", TINY, build(TINY)[0](jax.random.key(0)), SCHEDULE, ("a", "b"), CARD, prior)
    model.save(tmp_path / "m", m, {})
    again, x_t = model.load(tmp_path / "m").prior, jax.random.normal(jax.random.key(1), (2, 8, 8, 1))
    for t, same in ((10, False), (40, False), (60, True)):
        t = jnp.full(2, t)
        of = [np.asarray(p.eps(SCHEDULE)(x_t, t, jnp.array([0, 1]))) for p in (prior, again, make_prior(g, SCHEDULE))]
        np.testing.assert_array_equal(of[0], of[1])
        assert (abs(of[0] - of[2]).max() < 1e-6) == same
    np.testing.assert_allclose(again.scale, prior.scale, rtol=1e-6)
