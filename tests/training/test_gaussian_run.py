"""A training that continues a Gaussian: its first loss, its run and weights, and what it refuses."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import config, data
from ddpm.config import UNetConfig
from ddpm.datasets import sources
from ddpm.loss import per_image, squared_error
from ddpm.networks.skip import make_prior, ramp
from ddpm.oracles import low_rank
from ddpm.schedule import cosine
from ddpm.tools import files
from ddpm.training import loop, run, step
from ddpm.training.config import TrainConfig
from ddpm.zoo import diffusers, model

TINY = UNetConfig(8, 1, channels=8, multipliers=(1,), blocks=1, attention=(), groups=4)
BASE = TrainConfig(
    data="digits", preset="tiny", name="r", predict="gaussian", gaussian_rank=6, steps=2, batch=16, warmup=0,
    save_every=2, flip=True,
)  # fmt: skip
FADES = dataclasses.replace(BASE, gaussian_fade=(100, 300))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config.UNETS, "tiny", TINY)
        patch.setattr(loop, "sample_grid", lambda *args: np.zeros((8, 8, 8, 1)))
        return run.train(FADES, tmp_path_factory.mktemp("runs"), quiet=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "fade", "sees"),
    [
        ("class", (0, 0), True),
        ("class", (100, 300), True),
        ("class", (0, 0), False),
        ("pooled", (0, 0), True),
        ("one", (0, 0), True),
        ("isotropic", (0, 0), False),
    ],
)
def test_the_first_loss_is_that_of_the_gaussian(kind, fade, sees):
    """On the same images, times, noises and labels; and the shapes without data are those of the fit."""
    digits = sources.load("digits")
    setup = dataclasses.replace(BASE, gaussian=kind, gaussian_fade=fade, gaussian_input=sees)
    unet = dataclasses.replace(TINY, num_classes=10, extra_channels=int(sees))
    gaussian = low_rank.fit(data.to_float(digits.x_train), digits.y_train, 6, kind)
    schedule = cosine(1000)
    prior = make_prior(gaussian, schedule, ramp(1000, *fade))
    shapes = [jax.tree.map(jnp.shape, p) for p in (prior, step.empty_prior(setup, unet))]
    assert shapes[0] == shapes[1]
    state = step.init_state(setup, unet, prior)
    x0, c = jnp.asarray(data.to_float(digits.x_train[:16])), jnp.asarray(digits.y_train[:16])

    @jax.jit
    def both(state):
        draws, key = step.draw(setup, unet, schedule, jax.random.key(1), x0, c)
        of_gaussian = squared_error(prior.eps(schedule), schedule, draws.x0, draws.t, draws.noise, draws.c)
        loss, _ = step.draws_loss(setup, unet, schedule, state.params, draws, key, state.prior)
        return loss, per_image(of_gaussian).mean()

    loss, of_gaussian = both(state)
    assert float(loss) == pytest.approx(float(of_gaussian), rel=1e-5) and loss < 0.6


@pytest.mark.slow
def test_its_run_and_its_weights_are_the_same_denoiser(trained, tmp_path):
    """Read from the checkpoint, and from weights with their card; it is not the Gaussian alone."""
    of_run = model.load(trained)
    model.save(tmp_path / "w", of_run, {})
    of_weights = model.load(tmp_path / "w")
    x, t, c = jax.random.normal(jax.random.key(0), (3, 8, 8, 1)), jnp.array([5, 500, 1000]), jnp.array([1, 2, 9])
    answers = [jax.jit(lambda e: e(x, t, c))(m.eps) for m in (of_run, of_weights)]
    np.testing.assert_array_equal(*answers)
    assert of_weights.predict == "gaussian" and of_weights.image_shape == (8, 8, 1)
    alone = of_run.prior.eps(of_run.schedule)(x, t, c)
    assert 1e-5 < float(abs(answers[0] - alone).max()) < 1
    for weight in (of_run.prior.weight, of_weights.prior.weight):
        np.testing.assert_allclose(weight[jnp.array([0, 100, 200, 300, 1000])], [0, 0, 0.5, 1, 1])


@pytest.mark.slow
def test_a_network_that_does_not_see_the_gaussians_estimate_is_one_of_the_same_input_as_any(tmp_path, monkeypatch):
    """ε̂ = ε_G + s_t net(x_t), with no further channels; such a run is not resumed as one with x̂0_G in its input."""
    monkeypatch.setitem(config.UNETS, "tiny", TINY)
    monkeypatch.setattr(loop, "sample_grid", lambda *args: np.zeros((8, 8, 8, 1)))
    blind = dataclasses.replace(BASE, gaussian_input=False, eval_every=2)
    m = model.load(run.train(blind, tmp_path, quiet=True))
    assert m.unet.extra_channels == 0 and m.card["train"]["gaussian_input"] is False
    x, t, c = jax.random.normal(jax.random.key(0), (3, 8, 8, 1)), jnp.array([5, 500, 1000]), jnp.array([1, 2, 9])
    s = m.prior.scale[t][:, None, None, None]
    expected = m.prior.gaussian.eps(m.schedule)(x, t, c) + s * m.net(x, t, c)
    np.testing.assert_allclose(m.eps(x, t, c), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="gaussian_input was False, now True"):
        run.train(BASE, tmp_path, quiet=True)


def test_only_a_gaussian_can_be_hidden():
    with pytest.raises(ValueError, match="gaussian_input is False, but predict eps has no Gaussian; leave it out or"):
        dataclasses.replace(BASE, predict="eps", gaussian_input=False)


@pytest.mark.slow
def test_with_flip_the_gaussian_has_seen_mirrored_images(trained):
    """Half of them: the mean of all images is nearly its own mirror image, which that of the digits is not."""
    digits = data.to_float(sources.load("digits").x_train).mean(0)
    mean = np.asarray(model.load(trained).prior.gaussian.mean[-1]).reshape(8, 8, 1)
    np.testing.assert_allclose(mean, (digits + digits[:, ::-1]) / 2, atol=0.05)
    assert abs(digits - digits[:, ::-1]).max() > 0.3


@pytest.mark.slow
def test_weights_without_their_gaussian_are_refused(trained, tmp_path):
    m = model.load(trained)
    model.save(tmp_path / "w", dataclasses.replace(m, prior=None), {})
    with pytest.raises(ValueError, match=r"predicts 'gaussian', and the weights have no Gaussian"):
        model.load(tmp_path / "w")


@pytest.mark.slow
def test_it_is_not_exported(trained, tmp_path):
    with pytest.raises(ValueError, match="predicts gaussian; diffusers has networks that predict one of eps, x0, v"):
        diffusers.save(tmp_path / "out", model.load(trained))


def test_a_rank_that_cannot_be_leaves_no_run(tmp_path, monkeypatch):
    """A second try with another rank is then not taken for another configuration of the same run."""
    monkeypatch.setitem(config.UNETS, "tiny", TINY)
    with pytest.raises(ValueError, match=r"rank is 64; class 0: .* allow 1\.\.63"):
        run.train(dataclasses.replace(BASE, gaussian_rank=64), tmp_path, quiet=True)
    assert not (tmp_path / "r" / "config.json").exists()


@pytest.mark.slow
def test_a_run_is_not_resumed_as_another_parametrisation(trained, monkeypatch):
    monkeypatch.setitem(config.UNETS, "tiny", TINY)
    with pytest.raises(ValueError, match="predict was 'gaussian', now 'eps'"):
        run.train(dataclasses.replace(BASE, predict="eps"), trained.parent, quiet=True)
    with pytest.raises(ValueError, match=r"gaussian_fade was \[100, 300\], now \[0, 0\]"):
        run.train(BASE, trained.parent, quiet=True)


@pytest.mark.slow
@pytest.mark.parametrize(("field", "value", "was"), [("gaussian_rank", 5, "6"), ("predict", "eps", "'gaussian'")])
def test_a_run_whose_options_were_edited_is_refused_with_their_name(trained, tmp_path, field, value, was):
    """Before the arrays are compared, whose shapes would say less."""
    folder = shutil.copytree(trained, tmp_path / "edited")
    about = json.loads((folder / "config.json").read_text())
    about["train"] |= {field: value, "gaussian_fade": [0, 0] if field == "predict" else about["train"]["gaussian_fade"]}
    (folder / "config.json").write_text(json.dumps(about))
    with pytest.raises(files.Damaged, match=rf"train: {field} is .*{value}.* was saved with {was}"):
        model.load(folder)


@pytest.mark.slow
def test_a_run_is_not_resumed_on_images_of_which_it_has_not_the_gaussian(trained, monkeypatch):
    """Of the same shape and labels, so that nothing but their checksum differs."""
    monkeypatch.setitem(config.UNETS, "tiny", TINY)
    digits = sources.load("digits")
    mirrored = dataclasses.replace(digits, x_train=digits.x_train[:, :, ::-1].copy())
    monkeypatch.setattr(sources, "load", lambda *args: mirrored)
    with pytest.raises(ValueError, match=rf"on other images .*SHA-256 {digits.sha256[:12]}…, now it is"):
        run.train(dataclasses.replace(FADES, steps=3), trained.parent, quiet=True)


@pytest.mark.parametrize("change", [{"loss": "mse"}, {"loss": "vlb", "variance": "learned"}])
def test_losses_of_another_prediction_are_refused(change):
    with pytest.raises(ValueError, match="predict gaussian is trained by the losses of eps"):
        dataclasses.replace(BASE, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"gaussian_fade": (300, 100)},
        {"gaussian_fade": (100, 1001)},
        {"gaussian_fade": (-1, 100)},
        {"gaussian_fade": (100, 300), "gaussian": "isotropic"},
        {"gaussian_fade": (100, 300), "predict": "eps"},
    ],
)
def test_times_between_which_nothing_can_fade_are_refused(change):
    words = r"gaussian_fade is .* give two times 0 <= LOW < HIGH <= T = 1000, such as 100 300, with predict gaussian"
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(BASE, **change)


def test_the_times_that_are_named_are_allowed():
    with pytest.raises(ValueError, match="T = 200, such as 20 60"):
        dataclasses.replace(BASE, T=200, gaussian_fade=(100, 300))
    assert dataclasses.replace(BASE, T=200, gaussian_fade=(20, 60)).gaussian_fade == (20, 60)
