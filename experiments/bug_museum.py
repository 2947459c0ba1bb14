"""The bug museum: ten published bugs, and what each does to a case whose answer is known exactly.

    python -m experiments.bug_museum

No bug here is invented: each was in released code or in a printed algorithm, and most were reported by users. Each is
rebuilt in a few lines. `exact` is the truth by a formula, `ours` is what this library computes, and `bug` is what the
bug gives. The last column names the test of ours that fails if the bug ever appears here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import forward, guide, oracle, sample, schedule
from ddpm import train as train_
from ddpm.editing import inpaint
from ddpm.losses import weighting
from ddpm.testing.published import PUBLISHED

KEY = jax.random.key(0)
LINEAR = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])  # ᾱ_0 … ᾱ_1000, float64


class Exhibit(NamedTuple):
    """One bug."""

    name: str
    published: str  # where it was
    number: str  # what is measured
    exact: float
    ours: float
    bug: float
    test: str  # file::function


def wrapped_index() -> Exhibit:
    """ᾱ[t-1] at the last step is ᾱ[-1]: Python and JAX silently wrap it to the noisiest level."""
    a = LINEAR[1:]  # arrays that count from 0, without the prepended 1
    angle = np.arccos(np.sqrt(a))
    gains = [math.cos(angle[t] - angle[t - 1]) for t in range(999, -1, -1)]  # t - 1 = -1 at the end
    s = schedule.linear()
    step = sample.ddim_step(oracle.gaussian([0.0], 1.0).eps(s), s)
    ours = sample.walk(step, KEY, jnp.ones((1, 1)), schedule.make_times(1000, 1000))[0, 0]
    exact = np.prod(np.cos(np.diff(np.arccos(np.sqrt(LINEAR)))))
    return Exhibit(
        *PUBLISHED["wrapped_index"], "std of N(0, 1), 1,000 DDIM steps",
        exact, float(ours), math.prod(gains), "heart/test_forward.py::test_posterior_at_the_last_step_is_x0",
    )  # fmt: skip


def repaint_root() -> Exhibit:
    """Algorithm 1 of RePaint lacks the root of 1-ᾱ; one library followed it, and undid that a release later."""
    exact, bug = math.sqrt(1 - LINEAR[250]), 1 - LINEAR[250]
    s, known = schedule.linear(), jnp.zeros((20_000, 1, 1, 1))
    step = inpaint.repaint(sample.ddim_step(lambda x, t, c: x, s), s, known, np.ones((1, 1, 1)))
    ours = step(KEY, known, jnp.int32(251), jnp.int32(250)).std()
    return Exhibit(
        *PUBLISHED["repaint_root"], "std of the known pixels' noise at t = 250", exact, float(ours), bug,
        "editing/test_inpaint.py::test_the_known_part_has_the_right_noise_level",
    )  # fmt: skip


def next_time_not_on_the_list() -> Exhibit:
    """The step goes to t - T//N although the list says otherwise; the next step then starts from a wrong level."""
    times = schedule.make_times(1000, 10, "linspace")
    angle = np.arccos(np.sqrt(LINEAR))
    bug = math.prod(math.cos(angle[t] - angle[max(t - 100, 0)]) for t in times[:-1])
    s = schedule.linear()
    step = sample.ddim_step(oracle.gaussian([0.0], 1.0).eps(s), s)
    ours = sample.walk(step, KEY, jnp.ones((1, 1)), times)[0, 0]
    exact = np.prod(np.cos(np.diff(angle[times])))
    return Exhibit(
        *PUBLISHED["next_time_not_on_the_list"], "std of N(0, 1), 10 steps",
        exact, float(ours), bug, "heart/test_sample.py::test_ddim_over_all_times_and_the_openai_list",
    )  # fmt: skip


def log_of_a_variance_as_its_square() -> Exhibit:
    """`fixed_large_log` is log β, a negative number, and the step takes its square root."""
    beta = 1 - LINEAR[500] / LINEAR[499]
    with np.errstate(invalid="ignore"):
        bug = float(np.sqrt(np.log(beta)))
    ours = sample.make_variance("fixed_large")(schedule.linear(), jnp.zeros((1, 1)), 500, 499)
    return Exhibit(
        *PUBLISHED["log_of_a_variance_as_its_square"], "σ of the step 500 → 499", math.sqrt(beta),
        float(jnp.sqrt(ours)), bug, "samplers/test_parity_diffusers.py::test_fixed_large_log_is_still_nan",
    )  # fmt: skip


def min_snr_for_v() -> Exhibit:
    """The ε-weight min(SNR, γ)/SNR applied to a v-loss: pure noise counts as much as everything else together."""
    snr = LINEAR[1000] / (1 - LINEAR[1000])
    s = schedule.linear()
    ours = weighting.for_target(s, weighting.min_snr(s), "v")[1000]
    return Exhibit(
        *PUBLISHED["min_snr_for_v"], "weight of a v-loss at t = T", min(snr, 5) / (snr + 1), float(ours),
        min(snr, 5) / snr, "losses/test_weighting.py::test_min_snr_under_its_three_names",
    )  # fmt: skip


def young_average() -> Exhibit:
    """A fixed decay of .9999 from the first step: after 5,000 steps most of the average is the initialisation."""
    ours = math.prod(float(d) for d in train_.ema_decay(jnp.arange(5000.0), 0.9999))
    exact = math.prod(min(0.9999, (1 + n) / (10 + n)) for n in range(5000))
    return Exhibit(
        *PUBLISHED["young_average"], "share of the initial weights after 5,000 steps",
        exact, ours, 0.9999**5000, "training/test_train.py::test_ema_is_a_weighted_sum_that_forgets_its_start",
    )  # fmt: skip


def cosine_blow_up() -> Exhibit:
    """x̂0 = (x_t - √(1-ᾱ) ε̂)/√ᾱ at ᾱ_T = 2.4e-9: ε̂ wrong by .01 puts x̂0 two hundred away. The truth here is x0 = 0."""
    s = schedule.cosine()
    x_t, t, eps = jnp.zeros((1, 1)), jnp.array([1000]), lambda x, t, c: jnp.full_like(x, 0.01)
    ours = forward.x0_from_eps(s, x_t, t, guide.clip_x0(eps, s)(x_t, t, None))
    bug = forward.x0_from_eps(s, x_t, t, eps(x_t, t, None))
    return Exhibit(
        *PUBLISHED["cosine_blow_up"], "|x̂0| at t = T, ε̂ wrong by .01 (a pixel is at most 1)", 1.0,
        abs(float(ours[0, 0])), abs(float(bug[0, 0])),
        "heart/test_guide.py::test_clipping_clips_x0_and_only_where_needed",
    )  # fmt: skip


def w_for_s() -> Exhibit:
    """Ho and Salimans' w given to code whose scale is s = 1 + w: guidance of w = 1 is then none at all."""
    s = schedule.linear()
    eps = oracle.mixture([[1.0], [-1.0]], 0.25).eps(s)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)

    def mean(scale: float) -> float:
        step = sample.ddim_step(guide.cfg(eps, scale), s, jnp.zeros(80, jnp.int32))
        x = sample.walk(step, KEY, jnp.asarray(nodes, jnp.float32)[:, None], schedule.make_times(1000, 1000))
        return float(weights @ np.asarray(x)[:, 0] / weights.sum())

    return Exhibit(
        *PUBLISHED["w_for_s"], "mean of class +1 of N(±1, .25), w = 1", 1.31969, mean(guide.w_to_s(1.0)), mean(1.0),
        "heart/test_guide.py::test_guided_samples_of_the_mixture",
    )  # fmt: skip


def raw_eps_with_clipped_x0() -> Exhibit:
    """DDIM from the clipped x̂0 and the ε̂ before clipping: two predictions that contradict each other."""
    s, x_t, t, to = schedule.linear(), jnp.full((1, 1), 2.5), 300, 200
    eps = oracle.gaussian([0.0], 1.0).eps(s)
    clipped = guide.clip_x0(eps, s)
    ours = sample.ddim_step(clipped, s, eta=1.0)(KEY, x_t, t, to) - sample.ddpm_step(clipped, s)(KEY, x_t, t, to)
    sigma2 = (1 - LINEAR[to]) / (1 - LINEAR[t]) * (1 - LINEAR[t] / LINEAR[to])
    gap = math.sqrt(1 - LINEAR[to] - sigma2) * (eps(x_t, jnp.array([t]), None) - clipped(x_t, jnp.array([t]), None))
    return Exhibit(
        *PUBLISHED["raw_eps_with_clipped_x0"], "DDIM(η = 1) - DDPM, x = 2.5, 300 → 200",
        0.0, float(ours[0, 0]), float(gap[0, 0]),
        "heart/test_sample.py::test_ddim_with_eta_one_is_ddpm_with_fixed_small",
    )  # fmt: skip


def noise_on_top() -> Exhibit:
    """σ z added without taking σ² out of the direction's coefficient, √(1-ᾱ_s) for √(1-ᾱ_s-σ²): too much noise."""
    lam, times = 0.25, schedule.make_times(1000, 10, "leading")

    def std(corrected: bool) -> float:
        var = 1.0
        for t, s in pairwise(times):
            sigma2 = (1 - LINEAR[s]) / (1 - LINEAR[t]) * (1 - LINEAR[t] / LINEAR[s])
            c = math.sqrt(1 - LINEAR[t]) / (LINEAR[t] * lam + 1 - LINEAR[t])  # ε* = c x_t
            x0 = (1 - math.sqrt(1 - LINEAR[t]) * c) / math.sqrt(LINEAR[t])
            gain = math.sqrt(LINEAR[s]) * x0 + math.sqrt(1 - LINEAR[s] - (sigma2 if corrected else 0)) * c
            var = gain**2 * var + sigma2
        return math.sqrt(var)

    s = schedule.linear()
    step = sample.ddim_step(oracle.gaussian([0.0], lam).eps(s), s, eta=1.0)
    x = sample.walk(step, KEY, jax.random.normal(jax.random.key(1), (200_000, 1)), times)
    return Exhibit(
        *PUBLISHED["noise_on_top"], "std of N(0, .25), 10 steps",
        std(True), float(x.std()), std(False), "heart/test_sample.py::test_output_std_by_steps",
    )  # fmt: skip


MUSEUM: list[Callable[[], Exhibit]] = [
    wrapped_index,
    repaint_root,
    next_time_not_on_the_list,
    log_of_a_variance_as_its_square,
    min_snr_for_v,
    young_average,
    cosine_blow_up,
    w_for_s,
    raw_eps_with_clipped_x0,
    noise_on_top,
]


def table(exhibits: list[Exhibit]) -> str:
    """The exhibits as a Markdown table."""
    lines = ["| bug | published in | measured | exact | ours | bug | caught by |", "|---|---|---|---|---|---|---|"]
    for e in exhibits:
        numbers = " | ".join(f"{value:.5g}" for value in (e.exact, e.ours, e.bug))
        lines.append(f"| {e.name} | {e.published} | {e.number.replace('|', chr(92) + '|')} | {numbers} | `{e.test}` |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table([exhibit() for exhibit in MUSEUM]))
