"""The figures of small trainings: a run is trained once, resumes where it stopped, and every figure is drawn."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import config
from ddpm.config import UNetConfig
from ddpm.contracts import Partial
from ddpm.datasets import sources
from ddpm.flows.paths import make_chain
from ddpm.losses.objectives import denoiser
from ddpm.networks.skip import make_prior, ramp
from ddpm.oracles import low_rank
from ddpm.schedule import make_schedule
from ddpm.training import run
from ddpm.training.config import TrainConfig
from ddpm.training.step import init_state
from experiments import iddpm_table2, min_snr, priors
from experiments.lab import runner, small_trainings, training_scores

TINY = UNetConfig(8, 1, channels=8, multipliers=(1,), blocks=1, attention=(), groups=4)
SMALL = small_trainings.Small(data="digits", preset="digits", steps=4, batch=8, seeds=1)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A cache of its own, and a network that compiles in seconds."""
    monkeypatch.setenv("DDPM_CACHE_DIR", str(tmp_path))
    monkeypatch.setitem(config.UNETS, "digits", TINY)
    return tmp_path / "trainings"


def untrained(small, recipe, seed):
    """A run of that recipe whose parameters are those of the start and some noise: trained in no time."""
    setup = small_trainings.config_of(small, recipe, seed)
    unet, schedule = run.network_for(setup, sources.load(setup.data)), make_chain(setup.chain, setup.T)
    rng = np.random.default_rng(seed)
    state = init_state(setup, unet)
    start, gaussian = state.params, state.prior and state.prior.gaussian._asdict()
    params = jax.tree.map(lambda a: np.asarray(a) + 0.02 * rng.normal(size=a.shape).astype(np.float32), start)
    card = {"train": dataclasses.asdict(setup), "classes": list("0123456789")}
    names = ("params", "ema", "power_0.1", *(f"fixed_{d:g}" for d in setup.fixed_ema))
    parts = dict.fromkeys(range(1, setup.steps), params)
    return small_trainings.Run(
        f"{recipe} {seed}", setup, unet, schedule, dict.fromkeys(names, params), parts, card, gaussian,
        state.prior and state.prior.weight,
    )  # fmt: skip


@pytest.mark.slow
def test_a_run_is_trained_once_and_read_ever_after(home, monkeypatch):
    """From its folder to the averages in the cache; another seed is another run; an interrupted one resumes."""
    first = small_trainings.train(SMALL, "cosine", 0)
    assert set(first.params) == {"params", "ema", "power_0.1", "fixed_0.9", "fixed_0.99", "fixed_0.999", "fixed_0.9999"}
    assert sorted(first.parts) == [1, 2, 3, 4] and not (home / "unfinished" / first.key).exists()
    for a, b in zip(jax.tree.leaves(first.parts[4]), jax.tree.leaves(first.params["power_0.1"]), strict=True):
        np.testing.assert_array_equal(a, b)
    kept = first.model("fixed_0.9999").params["conv_in"]["kernel"]
    start = init_state(first.config, first.unet).params["conv_in"]["kernel"]
    assert np.abs(kept - start).max() < 0.01 * np.abs(first.params["params"]["conv_in"]["kernel"] - start).max()
    assert first.model().card["sha256"] != first.model(step=2).card["sha256"]
    monkeypatch.setattr(run, "train", lambda *a, **k: pytest.fail("it was trained again"))
    assert small_trainings.train(SMALL, "cosine", 0).card == first.card


def test_recipes_are_configurations_that_can_be_trained():
    """None is refused, all have the same budget, and no two are the same."""
    setups = [small_trainings.config_of(small_trainings.Small(), recipe, 0) for recipe in small_trainings.RECIPES]
    assert len({(s.steps, s.batch, s.lr, s.preset, s.lr_schedule) for s in setups}) == 1
    assert len({json.dumps(dataclasses.asdict(s)) for s in setups}) == len(setups)
    assert all(isinstance(s, TrainConfig) for s in setups)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddpm_table2", "iddpm_table2", "min_snr", "ema_short", "cfg_p_uncond", "priors"])
def test_figures(name, home, tmp_path, monkeypatch):
    monkeypatch.setattr(small_trainings, "train", untrained)
    folder = runner.make(name, quick=True, out=tmp_path)
    assert (folder / "figure.png").stat().st_size > 5000
    runner.make(name, quick=True, out=tmp_path, redraw=True)


def test_the_speed_up_is_a_ratio_of_steps():
    steps, plain = np.array([100, 200, 300, 400]), np.array([8.0, 6.0, 5.0, 4.0])
    assert min_snr.speed_up(steps, plain, plain) == 1
    assert min_snr.speed_up(steps, plain, np.array([6.0, 4.0, 3.0, 2.0])) == 2
    assert min_snr.speed_up(steps, plain, np.array([6.0, 5.0, 3.0, 2.0])) == pytest.approx(400 / 250)
    assert min_snr.speed_up(steps, plain, plain + 1) is None


def test_a_prior_that_is_trained_for_less_is_compared_at_its_own_last_step():
    """Twice as quick is twice as quick, after all steps or the first two; one that never gets there has no row."""
    steps, two = [100, 200, 400], lambda a: [[v, v] for v in a]  # two seeds
    found = {
        "ε": {"steps": steps, "mse": two([0.8, 0.6, 0.4])},
        "twice as quick": {"steps": steps, "mse": two([0.6, 0.4, 0.3])},
        "and short": {"steps": steps[:2], "mse": two([0.6, 0.4])},
        "never there": {"steps": steps, "mse": [[0.9, 0.3], [0.8, 0.3], [0.5, 0.3]]},
    }
    assert dict(priors.faster(found)) == {"ε": (1, 0), "twice as quick": (2, 0), "and short": (2, 0)}


def test_a_network_keeps_its_average_every_so_many_steps():
    """`every`, or a quarter of the way; and it is no part of a configuration's name, so that older results stay."""
    often, plain = (dataclasses.replace(small_trainings.Small(steps=4000), every=n) for n in (500, 0))
    kept = [small_trainings.config_of(small, "v", 0).snapshot_every for small in (often, plain)]
    assert kept == [500, 1000] and repr(often) == repr(plain)


def test_the_gain_of_importance_sampling_is_one_for_equal_terms():
    """And T where one time has all of it."""
    even, one = np.ones(10), np.eye(10)[0]
    assert iddpm_table2.gain(even, even**2) == pytest.approx(1)
    assert iddpm_table2.gain(one, one**2) == pytest.approx(10)


def test_the_start_is_far_where_much_is_skipped():
    """By hand with two pixels; the distance grows with the share."""
    x = np.random.default_rng(0).normal(0.3, [0.5, 0.2], (4000, 1, 1, 2)).clip(-1, 1)
    ours = [iddpm_table2.start_distance(x, "linear", s) for s in (0.0, 0.2, 0.4)]
    a, flat = float(make_schedule("linear").alpha_bar[600]), x.reshape(-1, 2)
    lam = np.linalg.eigvalsh(np.cov(flat.T))
    by_hand = (a * (flat.mean(0) ** 2).sum() + ((np.sqrt(a * lam + 1 - a) - 1) ** 2).sum()) / 2
    assert ours[0] < ours[1] < ours[2] == pytest.approx(by_hand, rel=1e-2)


def test_a_model_is_asked_on_another_chain_at_the_level_it_knows():
    """On its own chain at t itself; on another one where ᾱ is nearest."""
    asked = lambda m, to: np.asarray(training_scores.on_chain(m, to).eps(None, np.arange(1, 1001)))  # noqa: E731
    path, chain = make_chain("linear_path"), make_schedule("cosine")
    m = SimpleNamespace(eps=lambda x, t, c=None: t, schedule=path)
    assert (asked(m, path) == np.arange(1, 1001)).all()
    own = np.asarray(path.alpha_bar)[asked(m, chain)]
    np.testing.assert_allclose(own[:-1], np.asarray(chain.alpha_bar)[1:-1], rtol=0.05, atol=1e-4)


def test_a_flow_of_zeros_has_the_stated_error():
    """û = 0, measured by draws of t and ε on the cosine chain."""
    path, chain, rng = make_chain("linear_path"), make_schedule("cosine"), np.random.default_rng(0)
    x = rng.uniform(-1, 1, (64, 4, 4, 1)).astype(np.float32)
    zeros = Partial(lambda x, t, c=None: jnp.zeros_like(x))
    m = training_scores.on_chain(SimpleNamespace(eps=denoiser(zeros, False, path, "flow"), schedule=path), chain)
    assert priors.first_loss(priors.FLOW, "digits", x, None) == pytest.approx(
        training_scores.error(m, x, None), rel=0.03
    )


def test_the_error_of_a_gaussian_that_fades():
    """At w = 1 and 0 that of both Gaussians on the images; between them as measured by draws of ε."""
    rng, S = np.random.default_rng(0), make_schedule("cosine", 50)
    x, c = rng.normal(0.2, 0.5, (90, 3, 3, 1)).astype(np.float32), np.arange(90) % 3
    x[c == 1] *= np.linspace(0.2, 2, 9, dtype=np.float32).reshape(3, 3, 1)
    g = low_rank.fit(x[:60], c[:60], 3)
    loss = lambda w: priors.faded_loss(g, w, S, x[60:], c[60:])[1:]  # noqa: E731
    np.testing.assert_allclose(loss(np.ones(51)), g.loss_on(S, x[60:], c[60:])[1:], rtol=1e-5)
    np.testing.assert_allclose(loss(np.zeros(51)), low_rank.round_of(g).loss_on(S, x[60:])[1:], rtol=1e-5)
    w = ramp(50, 5, 45)
    eps, t, label = make_prior(g, S, w).eps(S), jnp.full(30 * 100, 25), jnp.asarray(np.tile(c[60:], 100))
    noise = rng.normal(size=(30 * 100, 3, 3, 1)).astype(np.float32)
    a = float(S.alpha_bar[25])
    error = (noise - eps(a**0.5 * np.tile(x[60:], (100, 1, 1, 1)) + (1 - a) ** 0.5 * noise, t, label)) ** 2
    assert loss(np.asarray(w))[24] == pytest.approx(float(error.mean()), rel=0.02)


def test_pixels_judge_digits():
    """The nearest class mean is right on most digits, and real test images are near the training images."""
    judge = training_scores.judge_of("digits")
    d = judge.data
    assert (judge.classifier.predict(d.x_test) == d.y_test).mean() > 0.8
    noise = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 1)).astype(np.uint8)
    assert judge.floor(200) < 0.1 * training_scores.distance(judge, noise)
