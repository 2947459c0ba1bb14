"""Figures with a trained network: their exact columns against identities; quick forms where they are quick."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from ddpm import flows, weights
from ddpm.cli import options
from ddpm.flows.paths import make_chain
from ddpm.oracles.spectrum import Axes
from ddpm.samplers.best_times import w2_of_times
from ddpm.schedule import cosine, make_times
from ddpm.zoo import model
from experiments import (
    adaptive_guidance,
    cfg_tradeoff,
    classifier_guidance,
    few_calls,
    few_steps,
    few_steps_line,
    infogan_codes,
    repaint_garments,
    teleportation,
)
from experiments.lab import runner
from experiments.lab.linear_denoisers import by_formula

CHAIN = make_chain("linear_path", 1000)
COSINE = SimpleNamespace(schedule=cosine(1000), card={"schedule": {"name": "cosine"}})
ALPHA_BAR = np.asarray(cosine(1000).alpha_bar, np.float64)


def test_repaint_of_independent_pixels_is_plain_sampling():
    """The known pixels tell nothing about the missing ones: its mean is 0, its variance that of DDIM with η = 1."""
    lam, known, times = np.array([0.2, 1.5, 0.7, 3.0]), np.array([True, False, True, False]), make_times(1000, 12)
    B, S = repaint_garments.carried(COSINE, lam, np.eye(4), known, times)
    np.testing.assert_allclose(B, 0, atol=1e-9)
    np.testing.assert_allclose(S, np.diag(by_formula(ALPHA_BAR, lam[~known], times, 1.0)), rtol=1e-5, atol=1e-9)


def test_resampling_brings_the_mean_to_the_conditional_one():
    """Two pixels with correlation .9: the more resamplings, the nearer to E[missing | known]."""
    cov = np.array([[1.0, 0.9], [0.9, 1.0]])
    lam, U = np.linalg.eigh(cov)
    known, even = np.array([True, False]), make_times(1000, 50)
    C, V = repaint_garments.conditional(cov, known)
    np.testing.assert_allclose([C[0, 0], V[0, 0]], [0.9, 0.19], rtol=1e-12)
    bias = []
    for r in (1, 4, 20):
        B, S = repaint_garments.carried(COSINE, lam, U, known, repaint_garments.repaint_times(even, 5, r))
        bias.append(repaint_garments.bias_and_variance(B, S, C, V, cov[:1, :1])[0])
    assert bias[0] > 2 * bias[1] > 4 * bias[2] >= 0


def test_jumping_is_exact_on_a_gaussian_and_leaving_out_is_not():
    """Walked in a thousand steps from where it was jumped to, a Gaussian has its own variances; from N(0, I) not."""
    lam, times = np.array([[4.0, 0.1]]), np.arange(600, -1, -1)
    jumped, left_out = (teleportation.exact(ALPHA_BAR, lam, times, start) for start in (1000, None))
    assert jumped < 1e-5 < 0.01 < left_out
    assert teleportation.exact(ALPHA_BAR, np.ones((1, 2)), times, None) < 1e-5  # white data: N(0, I) at every time


@pytest.mark.parametrize(("with_labels", "scale", "w"), [(False, 1.0, 0.0), (False, 3.0, 2.0), (True, 1.0, 1.0)])
def test_guidance_by_the_exact_classifier_is_classifier_free_guidance(with_labels, scale, w):
    """ε_∅ - s √(1-ᾱ) ∇ log p(c | x) = ε_∅ + s (ε_c - ε_∅); from ε_c it is one more."""
    assert classifier_guidance.exact_std(with_labels, scale) == pytest.approx(cfg_tradeoff.exact_std(w), rel=1e-6)


def test_guidance_that_stops_has_less_than_its_whole_effect():
    left = adaptive_guidance.effect_left(adaptive_guidance.Config())
    assert left[0.0] == 0 and left[1.0] == 1 and all(np.diff(list(left.values())) > 0)


@pytest.mark.parametrize("times", [[1000, 400, 0], [900, 0]])
def test_the_exact_column_of_few_calls_is_the_distance_of_the_search(times):
    """Two ways: by the variance of each step, and by the cosines of angles; with a mean, and axes in groups."""
    axes = Axes(np.array([4.0, 0.3, 0.01]), np.array([0.5, -0.2, 0.1]), np.array([1, 2, 9]))
    want = w2_of_times(COSINE.schedule, axes.var, times, axes.mean, axes.number)
    assert few_calls.exact(ALPHA_BAR, axes, np.array(times)) == pytest.approx(want, rel=1e-5)


def test_no_cell_of_few_calls_begins_in_the_data():
    """Each list has its number of calls, and begins at T or where the noise is still most of x_t: of the garments."""
    axes = Axes(*map(np.array, weights.cards()["fashion_mnist"]["axes"].values()))
    lists = few_calls.rules(COSINE.schedule, axes)
    for method, calls, _ in few_calls.cells(few_calls.Config()):
        N = few_calls.steps_of(method, calls)
        times = lists[method.split(", ", 1)[1]](N)
        assert len(times) == N + 1 and times[-1] == 0 and ALPHA_BAR[times[0]] < 0.5


def test_few_steps_are_drawn_as_was_measured_to_be_best():
    """The card of cifar10 ends the searched times where DPM-Solver++(2M) is ahead of them."""
    cells = json.loads((runner.RESULTS / "few_calls_models" / "metrics.json").read_text())["numbers"]["cells"]
    distance = {(k["method"], k["calls"]): k["frechet"] for k in cells if k["model"] == "cifar10"}
    m = model.load("cifar10")
    assert f"cifar10 beyond {m.drawing.searched} steps" in options.SAMPLER  # the help
    for N in (1, 2, 4, 8, 10):
        best = min((few_calls.FREE, few_calls.SECOND), key=lambda method: distance[method, N])
        assert m.how(steps=N).sampler == best.split(", ")[0], N


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "few_calls",
        "few_calls_models",
        "own_path",
        "own_reading",
        "few_steps",
        "flow_losses",
        "latent_factor",
        "vq_codec",
        "ddae",
        "correspondence",
        "progressive_garments",
        "repaint_garments",
        "mode_ring",
        "infogan_codes",
        "downstream",
        "trilemma",
        "forward_forms",
    ],
)
def test_quick_forms(name, tmp_path):
    """They run to their end and draw."""
    try:
        folder = runner.make(name, quick=True, out=tmp_path)
    except runner.Unavailable as error:
        pytest.skip(str(error))
    assert (folder / "figure.png").stat().st_size > 5000


def test_variance_between_groups_is_what_is_left_of_all_by_that_within():
    x, c = np.random.default_rng(0).normal(size=(60, 3, 2)), np.arange(60) % 4 * 2  # groups 0, 2, 4, 6
    x[c == 2] += 1
    within = sum(x[c == k].var(0).sum() * (c == k).mean() for k in np.unique(c))
    assert infogan_codes.between(x, c) == pytest.approx(1 - within / x.var(0).sum())
    assert infogan_codes.between(c[:, None] * np.ones(5), c) == pytest.approx(1)  # each group a single picture
    assert infogan_codes.between(np.repeat(x[:15], 4, 0), np.arange(60) % 4) == pytest.approx(0)  # the same in all


def test_ends_of_few_step_losses_where_they_are_known():
    """One time of consistency training gives E[x0] = 0; MeanFlow with r = t has the loss of flow matching."""
    deviation = np.sqrt(1 + few_steps_line.VAR)
    assert few_steps_line.exact_consistency(1) == pytest.approx(deviation, rel=2e-3)
    assert few_steps_line.exact_euler(1) == pytest.approx(deviation, rel=2e-3)
    x, t = few_steps_line.quantile((np.arange(200) + 0.5) / 200, 0.6), np.array([0.6])
    floor = (few_steps_line.posterior(x, 0.6)[1] / 0.36).mean()
    assert few_steps_line.exact_meanflow_loss((t, t)) == pytest.approx(floor)
    mean, _ = few_steps_line.posterior(np.array([0.3]), 0.6)
    around = np.log(few_steps_line.density(np.array([0.3 - 1e-5, 0.3 + 1e-5]), 0.6))
    score = (around[1] - around[0]) / 2e-5  # Tweedie: E[x0 | x] = (x + τ² ∇ log p)/(1-τ)
    assert mean == pytest.approx((0.3 + 0.36 * score) / 0.4, rel=1e-6)


def test_where_few_step_trainings_end_on_a_gaussian():
    """(√λ - gain)² of the steps that each converges to; nothing is left of what converges to the flow map."""
    lam, one = np.array([0.25, 0.09]), np.ones(2, int)
    axes, linear = Axes(lam, np.zeros(2), one), flows.make_path("linear")
    for name, N in (("shortcut", 128), ("progressive", 16)):
        gain, _ = flows.linear_solution(linear, lam, np.linspace(1, 0, N + 1))
        left = ((np.sqrt(lam) - gain) ** 2).sum()
        assert few_steps.end_of_training(name, 1, CHAIN, axes) == pytest.approx(left, rel=0.1)
    gain, _ = flows.linear_solution(linear, lam, np.linspace(1, 0, 161))  # consistency training ends as DDIM does
    left = ((np.sqrt(lam) - gain) ** 2).sum()
    assert few_steps.end_of_training("consistency training", 1, CHAIN, axes) == pytest.approx(left, rel=1e-6)
    assert few_steps.end_of_training("MeanFlow", 1, CHAIN, axes) == 0


def test_a_method_beats_the_searched_times_only_beyond_two_errors():
    """The difference of two independent distances has the error √(3² + 4²) = 5."""

    def cell(model, method, frechet, error, calls=1):
        return {"model": model, "method": method, "calls": calls, "frechet": frechet, "error": error}

    cells = [cell("flow", few_steps.FREE, 100.0, 3.0), cell("shipped", few_steps.FREE, 50.0, 3.0)]
    cells += [cell("a", "a", 89.0, 4.0), cell("b", "b", 91.0, 4.0), cell("a", "a", 1.0, 0.0, calls=2)]
    assert few_steps.beats(cells, "flow") == {"a": [1], "b": []}
    assert few_steps.beats(cells, "shipped") == {"a": [], "b": []}
