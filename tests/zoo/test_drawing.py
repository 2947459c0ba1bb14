"""How a card says that its model draws: a Gaussian above t*, the guidance; on a tiny network with random parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm.cli import start
from ddpm.config import UNetConfig
from ddpm.network import build
from ddpm.networks.inspect import param_shapes
from ddpm.networks.skip import Prior, make_prior, ramp
from ddpm.oracles import low_rank
from ddpm.sample import ddim_step, walk
from ddpm.schedule import cosine
from ddpm.tools import files
from ddpm.zoo import diffusers, model

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


# --- a Gaussian of another network ------------------------------------------------------------------------------------


def of_gaussian(g, weight=None):
    """A model whose network is 0 and whose Gaussian is this."""
    params = jax.tree.map(lambda a: np.zeros(a.shape, np.float32), param_shapes(TINY))
    return model.Model("m", TINY, params, SCHEDULE, ("a", "b"), CARD, Prior(g, jnp.ones(101), weight))


def fitted(classes=2, side=8, kind="class"):
    x = np.random.default_rng(0).normal(size=(20 * classes, side, side, 1))
    return low_rank.fit(x, np.arange(len(x)) % classes, rank=3, kind=kind)


@pytest.mark.parametrize("kind", ["class", "pooled", "one", "isotropic"])
def test_each_kind_of_gaussian_is_kept_with_the_weights(kind, tmp_path):
    g = fitted(kind=kind)
    model.save(tmp_path / "m", of_gaussian(g), {})
    jax.tree.map(np.testing.assert_array_equal, model.load(tmp_path / "m").prior.gaussian, g)


@pytest.mark.parametrize(
    "prior, words",
    [
        ((fitted(classes=3),), r"gaussian/mean has shape \(4, 64\); needs \(3, 64\), .* each of 2 classes"),
        ((fitted(side=4),), r"gaussian/mean has shape \(3, 16\); needs \(3, 64\), for images of 64 numbers"),
        ((fitted()._replace(rest=jnp.ones(1)),), r"gaussian/rest has shape \(1,\); needs \(3,\)"),
        (
            (fitted(), jnp.ones(100)),
            r"gaussian_weight has shape \(100,\); needs \(101,\), a number for each t = 0\.\.100",
        ),
    ],
)
def test_a_gaussian_of_another_network_is_not_saved(prior, words, tmp_path):
    remedy = r".*fit it with low_rank\.fit\(x, c, num_classes=2\) on images of shape \(8, 8, 1\)"
    with pytest.raises(ValueError, match="model 'm': " + words + remedy):
        model.save(tmp_path / "m", of_gaussian(*prior), {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change, words",
    [
        ({"mean": np.zeros((4, 64), np.float32)}, r"gaussian/mean has shape \(4, 64\); needs \(3, 64\)"),
        ({"mean": np.zeros((3, 16), np.float32)}, r"gaussian/mean has shape \(3, 16\); needs \(3, 64\)"),
        ({"basis": np.zeros((2, 64, 3), np.float32)}, r"gaussian/basis has shape \(2, 64, 3\); needs \(3, 64, 3\)"),
        ({"basis": np.zeros((3, 16, 3), np.float32)}, r"gaussian/basis has shape \(3, 16, 3\); needs \(3, 64, 3\)"),
        ({"var": np.ones((3, 2), np.float32)}, r"gaussian/var has shape \(3, 2\); needs \(3, 3\)"),
        ({"rest": np.ones((3, 1), np.float32)}, r"gaussian/rest has shape \(3, 1\); needs \(3,\)"),
        ({"rest": None}, "gaussian has basis, mean, var; needs mean, basis, var, rest"),
        ({"more": np.ones(3, np.float32)}, "gaussian has basis, mean, more, rest, var; needs"),
    ],
)
def test_weights_with_a_gaussian_of_another_network_are_refused(change, words, tmp_path):
    """Each array is looked at, and one that is missing is named; the file itself is whole, with its checksum."""
    path = tmp_path / "m"
    model.save(path, of_gaussian(fitted()), {})
    arrays, card = files.load(path)
    arrays["gaussian"] = {k: a for k, a in (arrays["gaussian"] | change).items() if a is not None}
    files.save(path, arrays, card)
    with pytest.raises(ValueError, match=f"weights '{path}': {words}.*take both from one model.save"):
        model.load(path)


def test_above_the_last_time_the_card_leaves_all_to_the_network(tmp_path):
    """`gaussian_above` = T loads and draws what the network alone draws."""
    model.save(tmp_path / "m", of_gaussian(fitted()), {"drawing": {"gaussian_above": 100}})
    m, x_T, c = model.load(tmp_path / "m"), jax.random.normal(jax.random.key(0), (2, 8, 8, 1)), jnp.array([0, 1])
    assert m.drawing.gaussian_above == 100
    steps = (ddim_step(eps, SCHEDULE, c) for eps in (m.eps, m.plain.eps))
    images = [walk(step, jax.random.key(1), x_T, [100, 50, 0]) for step in steps]
    np.testing.assert_array_equal(*images)


def test_why_it_is_not_exported_and_what_to_export_instead(tmp_path):
    words = (
        r"predicts gaussian; .*eps, x0, v.* continues a Gaussian, .*; export one of these, as of ddpm train --predict v"
    )
    with pytest.raises(ValueError, match=words):
        diffusers.save(tmp_path / "out", of_gaussian(fitted()))
