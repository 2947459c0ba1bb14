"""Trainings of flows and of EDM: what is drawn, the loss that is healthy, and a run from its folder."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import config, data, flows
from ddpm.cli import start
from ddpm.config import UNetConfig
from ddpm.flows import errors, paths
from ddpm.networks.heads import HEADS
from ddpm.schedule import cosine
from ddpm.training import gaussian_baseline, run, step
from ddpm.training.config import TrainConfig
from ddpm.zoo import model

TINY = UNetConfig(8, 1, channels=8, multipliers=(1,), blocks=1, attention=(), groups=4, num_classes=10)


def grey(n, var=0.09):
    """Images of one pixel, about normal, of which a Gaussian knows everything."""
    x = np.random.default_rng(0).normal(0, np.sqrt(var), (n, 1, 1, 1)).clip(-1, 1)
    return np.round((x + 1) * 127.5).astype(np.uint8)


@pytest.mark.parametrize("most", [3072, 0])
@pytest.mark.parametrize("times", ["uniform", "logit_normal"])
def test_the_healthy_loss_of_flow_matching_is_the_floor_of_its_integral(tmp_path, monkeypatch, times, most):
    """On the linear path (π/2)√λ with uniform times, and 1 + E[x0²] of an output 0; T = 400 is nearly an integral."""
    monkeypatch.setattr(gaussian_baseline, "MOST_NUMBERS", most)  # by the whole covariance, or by eigenvalues
    images = grey(4000)
    x = data.to_float(images).astype(np.float64)
    setup = TrainConfig(predict="flow", path="linear", times=times, T=400, conditional=False)
    assert setup.loss == "mse"
    d = data.Dataset("x", (), images, np.zeros(4000, np.int32), images[:9], np.zeros(9, np.int32), source="x")
    found = gaussian_baseline.baseline(tmp_path, d, paths.make_chain(setup.chain, 400), False, setup)
    assert found == pytest.approx(errors.loss_floor(paths.make_path("linear"), x.var(), times), rel=0.01)
    kept = json.loads((tmp_path / "baseline.json").read_text())
    assert kept["loss_of_zero"] == pytest.approx(1 + (x**2).mean(), rel=1e-4)


@pytest.mark.parametrize("predict", HEADS)
def test_the_loss_of_an_output_zero_is_the_mean_square_of_the_target(predict):
    """Σ over two values of x0 and two of ε, ±1 of each, whose moments are those of unit data."""
    setup, s = TrainConfig(predict=predict, loss="mse", times="logit_normal", T=20), cosine(20)
    t = jnp.arange(1, 21)
    found = 0.0
    for x0, noise in ((1.0, 1.0), (1.0, -1.0)):  # the other two have the same squares
        one = jnp.ones((20, 1, 1, 1))
        wanted = step.objectives.target(s, predict, x0 * one, t, noise * one)
        p = step.times.frequency(s, "logit_normal")[1:] / 20
        found += float((p * wanted.reshape(20) ** 2).sum()) / 2
    assert gaussian_baseline.loss_of_zero(setup, s, 1.0) == pytest.approx(found, rel=1e-4)


@pytest.mark.slow
def test_what_a_training_draws():
    """Transport moves noises within their class, to nearer images; logit-normal times are rare at the ends."""
    rng = np.random.default_rng(0)
    x0, c = jnp.asarray(rng.normal(size=(32, 2, 2, 1)), jnp.float32), jnp.asarray(np.arange(32) % 2)
    unet = dataclasses.replace(TINY, num_classes=2)
    setup = TrainConfig(predict="flow", T=1000, times="logit_normal", p_uncond=0.0)
    free, ot = (
        step.draw(dataclasses.replace(setup, coupling=how), unet, cosine(1000), jax.random.key(0), x0, c)[0]
        for how in ("independent", "transport")
    )
    for k in (0, 1):  # the same noises in each class
        np.testing.assert_allclose(np.sort(free.noise[k::2], 0)[:, 0, 0, 0], np.sort(ot.noise[k::2], 0)[:, 0, 0, 0])
    order = flows.pair_by_transport(x0, free.noise, c)
    np.testing.assert_array_equal(ot.noise, free.noise[order])
    assert ((ot.noise - x0) ** 2).sum() < ((free.noise - x0) ** 2).sum()
    assert 0.55 < ((free.t > 250) & (free.t <= 750)).mean() < 0.85  # 73 % of them; 50 % of uniform ones


@pytest.mark.slow
def test_a_run_is_a_model_and_compare_names_the_loss_that_is_healthy(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(config.UNETS, "tiny", TINY)
    monkeypatch.chdir(tmp_path)
    base = TrainConfig(data="digits", preset="tiny", steps=2, batch=16, warmup=1, save_every=2, log_every=1, T=20)
    setup = dataclasses.replace(base, predict="edm", path="linear", times="logit_normal", coupling="transport")
    m = model.load(run.train(setup, quiet=True))
    np.testing.assert_allclose(m.schedule.alpha_bar, paths.make_chain("linear_path", 20).alpha_bar)
    x, t, c = jax.random.normal(jax.random.key(0), (2, 8, 8, 1)), jnp.array([3, 17]), jnp.array([1, 2])
    a, b = (jnp.sqrt(v)[t][:, None, None, None] for v in (m.schedule.alpha_bar, 1 - m.schedule.alpha_bar))
    r = jnp.sqrt(b**2 + a**2 / 4)
    x0 = (a / 4 * x + r * b / 2 * m.net(x / r, t, c)) / r**2
    np.testing.assert_allclose(m.eps(x, t, c), (x - a * x0) / b, atol=1e-4)
    model.save(tmp_path / "w", m, {})
    np.testing.assert_array_equal(model.load(tmp_path / "w").eps(x, t, c), m.eps(x, t, c))
    start.main(["compare", "runs/digits-tiny"])
    said = capsys.readouterr().out
    assert "predict edm, loss mse, path linear, times logit_normal" in said
    assert "A network whose output is 0" in said and "best linear-Gaussian denoiser" in said
