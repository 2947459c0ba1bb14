"""Samplers and lists of times by name: the table, EDM's stochastic step, Euler's ancestral step, Karras' times."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import oracle
from ddpm.cli import options
from ddpm.config import UNetConfig
from ddpm.contracts import Partial
from ddpm.sample import Sampling, walk
from ddpm.samplers import table
from ddpm.samplers.edm import edm_sigmas, edm_step, from_sigma, karras_times
from ddpm.samplers.generation import generate
from ddpm.samplers.names import RULES, STEPS, resolved
from ddpm.samplers.solvers import begin, multistep
from ddpm.schedule import TIME_RULES, cosine, linear, make_times
from ddpm.tools import keys
from ddpm.zoo.model import Model

KEY, X = jax.random.key(0), jnp.array([[0.3, -1.2, 2.0]])
MEAN, VAR = np.array([0.2, -0.5, 0.1]), np.array([0.5, 0.1, 2.0])
GAUSSIAN = oracle.gaussian(MEAN, np.diag(VAR))
AXES = {"var": [2.0, 0.5, 0.01], "mean": [0.3, 0.1, 0.0], "number": [1, 2, 13]}
UNET = UNetConfig(8, 1, channels=8, multipliers=(1,), blocks=1, attention=(), groups=4)


def test_the_table_has_every_name_and_the_help_every_line():
    assert set(table.SAMPLERS) == {*STEPS, "ddpm_learned"}
    assert set(table.TIMES) == {*TIME_RULES, *RULES, "searched"}
    assert all(f"{k}: {v}" in options.SAMPLER for k, v in table.SAMPLERS.items())
    assert all(f"{k}: {v}" in options.TIMES for k, v in table.TIMES.items())
    assert "--times trailing" in options.TIMES  # how to have even times where searched ones are the default


# --- steps ------------------------------------------------------------------------------------------------------------


def slope(x, sigma):
    """(x̄ - D(x̄; σ))/σ of the Gaussian, in EDM's variables."""
    return sigma * (x - MEAN) / (VAR + sigma**2)


def bars(schedule):
    a = np.asarray(schedule.alpha_bar, np.float64)
    return np.sqrt(a), np.asarray(schedule.std, np.float64) / np.sqrt(a)


@pytest.fixture(scope="module")
def stochastic():
    """EDM's step with a given γ, and Euler's ancestral step, compiled once."""
    schedule = cosine(1000)
    with jax.enable_x64(True):
        eps = GAUSSIAN.eps(schedule)
        edm = jax.jit(lambda gamma, t, s: edm_step(eps, schedule, gamma=gamma)(KEY, X, t, s))
        euler = jax.jit(lambda t, s: STEPS["ancestral"](eps, schedule, None)(KEY, X, t, s))
        yield schedule, edm, euler, np.asarray(keys.normal_like(KEY, X))


@pytest.mark.parametrize("gamma", [2**0.5 - 1, 0.1, 0.0])
@pytest.mark.parametrize("t, s", [(700, 500), (700, 0), (990, 900), (20, 10)])
def test_the_stochastic_step_is_algorithm_2(x64, stochastic, t, s, gamma):
    """Karras et al. (2022), lines 4 to 11: at 990 the noise is above, at 20 below the range in which it is raised.

    With γ = 0 it is Heun's step.
    """
    schedule, edm, _, z = stochastic
    root, sigma = bars(schedule)
    hat = sigma[t]
    if 0.05 <= sigma[t] <= 50:
        hat = sigma[np.abs(sigma - (1 + gamma) * sigma[t]).argmin()]
    assert (hat > sigma[t]) == (t == 700 and gamma > 0)
    x = np.asarray(X) / root[t] + np.sqrt(hat**2 - sigma[t] ** 2) * 1.003 * z
    d = slope(x, hat)
    new = x + (sigma[s] - hat) * d
    if s:
        new = x + (sigma[s] - hat) * (d + slope(new, sigma[s])) / 2
    np.testing.assert_allclose(edm(gamma, t, s), root[s] * new, rtol=1e-5)


@pytest.mark.parametrize("t, s", [(700, 500), (700, 0)])
def test_ancestral_is_a_step_of_euler_and_new_noise(x64, stochastic, t, s):
    """σ_up² = σ_s²(σ_t²-σ_s²)/σ_t², σ_down² = σ_s²-σ_up², as k-diffusion writes it."""
    schedule, _, euler, z = stochastic
    root, sigma = bars(schedule)
    up = np.sqrt(sigma[s] ** 2 * (sigma[t] ** 2 - sigma[s] ** 2) / sigma[t] ** 2)
    down = np.sqrt(sigma[s] ** 2 - up**2)
    x = np.asarray(X) / root[t]
    np.testing.assert_allclose(euler(t, s), root[s] * (x + (down - sigma[t]) * slope(x, sigma[t]) + up * z), rtol=1e-5)


def test_a_step_with_a_memory_is_drawn_by_its_name():
    schedule = linear(40)
    eps = oracle.gaussian(np.zeros((2, 2, 1)), 0.3).eps(schedule)
    how = Sampling("dpm_2m", 4, clip=False)
    drawn = generate(eps, schedule, KEY, (2, 2, 1), how=how, n=3)
    x_T = keys.normal_like(keys.of_images(jax.random.split(KEY)[0], np.arange(3)), jnp.zeros((3, 2, 2, 1)))
    np.testing.assert_allclose(drawn, walk(multistep(eps, schedule), KEY, begin(x_T), make_times(40, 4)).x, atol=1e-5)


# --- times ------------------------------------------------------------------------------------------------------------


def test_on_edms_own_levels_karras_times_are_all_of_them():
    np.testing.assert_array_equal(karras_times(from_sigma(edm_sigmas(18)), 18), np.arange(18, -1, -1))


@pytest.mark.parametrize("schedule", [linear(1000), cosine(1000)])
@pytest.mark.parametrize("steps", [1, 5, 12])
def test_karras_times_are_nearest_to_the_levels(schedule, steps):
    _, sigma = bars(schedule)
    times = karras_times(schedule, steps)
    levels = edm_sigmas(steps, max(0.002, sigma[1]), 80.0) if steps > 1 else np.array([80.0])
    assert len(times) == steps + 1 and times[-1] == 0
    for t, level in zip(times, levels, strict=False):
        assert abs(np.log(sigma[t] / level)) <= min(
            abs(np.log(sigma[k] / level)) for k in (t - 1, t + 1) if 1 <= k <= 1000
        ) * (1 + 1e-6)


def test_repeated_times_are_dropped_and_too_many_refused():
    times = karras_times(linear(30), 30)
    assert len(times) < 31 and np.all(np.diff(times) < 0)
    with pytest.raises(ValueError, match=r"steps is 31; a chain of T = 30"):
        karras_times(linear(30), 31)


def test_a_rule_may_be_a_name_or_a_function():
    a, b = (resolved(Sampling(steps=3, rule=rule)).times(linear(40)) for rule in ("karras", karras_times))
    np.testing.assert_array_equal(a, b)
    assert a.tolist() != make_times(40, 3).tolist()


# --- of a model -------------------------------------------------------------------------------------------------------


def model(**card):
    return Model("m", UNET, {}, cosine(100), (), card)


def times_of(m, **how):
    return m.how(**how).times(m.schedule).tolist()


def test_without_a_sampler_it_is_that_of_the_card_but_ddim_for_few_steps():
    fresh, plain = model(drawing={"sampler": "ancestral"}), model()
    assert [fresh.how(steps=n).sampler for n in (None, 50, 11, 10, 1)] == ["ancestral"] * 3 + ["ddim"] * 2
    assert fresh.how("heun", 50).sampler == "heun" and fresh.how("ddim", 50).sampler == "ddim"
    assert plain.how(steps=50).sampler == plain.how().sampler == "ddim"
    with pytest.raises(ValueError, match=r"sampler 'ancestor' is not known.*'ancestral'"):
        model(drawing={"sampler": "ancestor"}).how()


def test_beyond_the_number_in_the_card_few_steps_are_those_of_dpm_2m():
    """With `sampler="ddim"` its times are then trailing; where a list of times is given, the sampler is ddim."""
    m = model(drawing={"searched": 2, "sampler": "ancestral"}, axes=AXES)
    assert [m.how(steps=n).sampler for n in (1, 2, 3, 10, 11)] == ["ddim"] * 2 + ["dpm_2m"] * 2 + ["ancestral"]
    assert times_of(m, steps=2) == times_of(model(axes=AXES), steps=2) != make_times(100, 2).tolist()
    assert times_of(m, steps=3) == times_of(m, steps=3, sampler="ddim") == make_times(100, 3).tolist()
    assert m.how(steps=3, rule="searched").sampler == "ddim" and times_of(m, steps=3, rule="searched")[0] < 100
    with pytest.raises(ValueError, match=r"m: drawing: searched is 11.*10"):
        model(drawing={"searched": 11}).how(steps=3)


@pytest.mark.parametrize(
    "how, searched",
    [
        ({"steps": 1}, True),
        ({"steps": 10}, True),
        ({"steps": 11}, False),
        ({}, False),
        ({"steps": 4, "sampler": "heun"}, False),
        ({"steps": 4, "rule": "trailing"}, False),
        ({"steps": 20, "rule": "searched"}, True),
    ],
)
def test_few_steps_of_ddim_are_searched_where_the_card_has_the_axes(how, searched):
    """From a start below T; without the axes they are trailing, as all others."""
    with_axes = times_of(model(axes=AXES), **how)
    assert len(with_axes) == how.get("steps", 50) + 1
    assert (with_axes != make_times(100, how.get("steps", 50)).tolist()) == searched
    if "rule" not in how:
        assert times_of(model(), **how) == make_times(100, how.get("steps", 50)).tolist()


def test_an_imported_model_keeps_its_own_times_unless_others_are_given():
    m = model(axes=AXES, sampling={"rule": "leading", "offset": 1})
    assert times_of(m, steps=5) == [82, 62, 42, 22, 2, 0]
    assert times_of(m, steps=5, rule="searched") == times_of(model(axes=AXES), steps=5)


@pytest.mark.parametrize(
    "how, words",
    [
        ({"rule": "searched"}, "the card of 'm' lacks"),
        ({"rule": "seached"}, "times 'seached' is not known.*Did you mean 'searched'"),
        ({"sampler": "dpm_2"}, None),
        ({"sampler": "dpm"}, "sampler 'dpm' is not known.*Did you mean 'ddpm'"),
        ({"sampler": "ddpm_learned"}, "needs a network that predicts its variance, which 'm' does not"),
    ],
)
def test_names_are_checked_before_anything_is_drawn(how, words):
    if words is None:
        assert model().how(**how).sampler == how["sampler"]
        return
    with pytest.raises(ValueError, match=words):
        model().how(**how)


def test_the_learned_variance_is_that_of_the_model(monkeypatch):
    m = dataclasses.replace(model(), unet=dataclasses.replace(UNET, learned_variance=True))
    constant = Partial(lambda schedule, x_t, t, s, c=None: jnp.asarray(0.25))
    monkeypatch.setattr(Model, "variance", constant)
    how = m.how("ddpm_learned", 4)
    a, b = (
        how.step(Partial(lambda x, t, c=None: 0 * x), m.schedule, None)(k, X, jnp.asarray(50), jnp.asarray(25))
        for k in jax.random.split(KEY)
    )
    z = [keys.normal_like(k, X) for k in jax.random.split(KEY)]
    np.testing.assert_allclose(a - b, 0.5 * (z[0] - z[1]), rtol=1e-5)


@pytest.mark.parametrize(
    "axes, words",
    [
        ({"var": [1.0]}, "axes: mean is missing"),
        (AXES | {"number": [1, 2]}, "have 3, 3, 2 numbers"),
        (AXES | {"var": [2.0, -0.5, 0.1]}, r"var\[1\] is -0.5"),
        (AXES | {"number": [1, 0, 3]}, r"number\[1\] is 0"),
        ([1], "axes is"),
    ],
)
def test_axes_that_are_none_are_refused(axes, words):
    with pytest.raises(ValueError, match=words):
        model(axes=axes).how(steps=4)
