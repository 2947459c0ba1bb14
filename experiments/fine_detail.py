"""Words lie in different noise: why times in the middle bring the colour of the ink, and cost the light.

What a word tells is an integral over noise levels, ½ ∫ (E‖ε - ε̂‖² without the word - the same with it) d log SNR, for
the best denoisers   [Guo et al. 2005]. With ε* of `wardrobe` it is log K for a word of K; the exact curves agree up to
three standard errors. They show where a training has anything to learn: .8 of the light lies in t = 912 to 983 of
1,000, of column and size in 819 to 968, of the garment in 736 to 948, of pattern, colour and ground in 578 to 946; of
the ink, a few pixels, in 298 to 885. Uniform times fall there in .07 of the steps for the light and .59 for the ink,
logit-normal ones, with which the shipped network was trained, in .01 and .78. The loss of v agrees: of what all words
take off it, the ink has .08 with uniform times and .17 with logit-normal ones, the light .15 and .03.

Three readings of captions were trained, alike but for the times: what reads is drawn anew, the picture's part of the
shipped network is frozen, 1,000 steps of 16. Of 55 captions that have ink, those of uniform times have it right in .09,
where guessing has .125; logit-normal times have .55, narrower ones in the middle (logit(t/T) with deviation .5) .51.
This costs the words that lie in much noise: the light is right in 1.00, .59 and .46, the column in .95, .64 and .28.
Pattern and garment's colour differ by .07 at most. So the times decide about the ink; and the length of the
training, 12,000 steps, brings back what they cost: the shipped network has .80 of the inks, all lights and all columns.
In so short a training uniform times have most captions right as a whole, .42, against .26 and .09 (shipped: .91).

What a network gains by a word shows the same where the word lies: uniform times gain .35 nats by the ink of 1.84, the
others more than there are; logit-normal ones .16 by the light of .47, uniform ones .54. But it is no share of the
information. Networks gain by words at less noise too, where the picture shows what the word tells, the shipped one 7.8
nats by the pattern: they read it in the caption, and are worse without than they need to be.

What does not carry over: one seed, and a picture's part that was trained with logit-normal times. A level at 28x28 and
a Gaussian skip were not trained; the shipped network has neither, and does without.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import plot
from ddpm.datasets.wardrobe import drawing, law
from ddpm.datasets.wardrobe.captions import caption
from ddpm.datasets.wardrobe.words import ATTRIBUTES
from ddpm.evaluation.prompts import prompts_right
from ddpm.forward import q_sample
from ddpm.tools import tokens
from ddpm.tools.conditions import Condition
from ddpm.zoo.model import Model
from experiments.lab import adapter_trainings, captioned, text_readings
from experiments.lab import wardrobe_exact as exact
from experiments.lab.runner import Result, Row

PAPER = "Guo, Shamai and Verdú 2005, Theorem 1; Esser et al. 2024, Sec. 3.1"
MINUTES = 10
T = exact.SCHEDULE.T
NAMES = list(ATTRIBUTES)
TIMES = (100, *range(150, 950, 50), 940, 960, 980, 990, 997, T)  # below 100 the picture shows all its words
UNCHECKED = "What networks gain by a word stands beside what ε* gains: that they differ is the measurement."
FINE = ("ink", "pattern", "colour")


@dataclass(frozen=True)
class Config:
    """Pictures at each time for ε* and for networks, captions to draw, DDIM steps, and the steps of each training."""

    n: int = 128
    n_network: int = 48
    captions: int = 128
    steps: int = 20
    guidance: float = 2.0
    trainings: tuple[str, ...] = text_readings.TIMES
    trained_steps: int = text_readings.BUDGET.steps
    trained_batch: int = text_readings.BUDGET.batch
    model: str = captioned.NAME
    seed: int = 0


QUICK = {"n": 64, "n_network": 2, "captions": 2, "steps": 2, "trainings": ("uniform",), "trained_steps": 1}


# --- what a word is worth ---------------------------------------------------------------------------------------------


def silenced(values: np.ndarray) -> dict[tuple[str, ...], np.ndarray]:
    """Captions (n, 8) without some words: without none, without each, and without pattern and ink."""
    found = {}
    for names in ((), *((a,) for a in NAMES if a != "pattern"), ("pattern", "ink")):
        found[names] = values.copy()
        found[names][:, [NAMES.index(a) for a in names]] = -1
    return found


def gains(gap: dict[tuple[str, ...], np.ndarray]) -> dict[str, np.ndarray]:
    """‖ε* - ε̂‖² without the word less that with it, of each picture.   gap: ‖ε* - ε̂‖² without these words

    Ink is mentioned only if its pattern is, so the gain of the pattern is taken where nothing is told of the ink.
    """
    without = {a: gap[("pattern", "ink") if a == "pattern" else (a,)] for a in NAMES}
    return {a: without[a] - gap[("ink",) if a == "pattern" else ()] for a in NAMES}


def gains_by_time(eps: Callable, condition: Callable, x0: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
    """What each word takes off ‖ε - ε̂‖² at TIMES, of each picture: name -> (times, n); NaN where there is no ink.

    condition: values (n, 8) -> the caption as `eps` takes it. Its mean ε*(x_t, t, all words) stands for ε, which
    changes no expected difference: E‖ε - ε̂‖² = E‖ε - ε*‖² + E‖ε* - ε̂‖².
    """
    best, found = jax.jit(law.distribution().eps(exact.SCHEDULE)), dict[str, list[np.ndarray]]()
    answer, told = jax.jit(eps), {names: condition(v) for names, v in silenced(values).items()}
    for t in TIMES:
        noise = jax.random.normal(jax.random.key(t), x0.shape)
        x_t = q_sample(exact.SCHEDULE, jnp.asarray(x0), jnp.full(len(x0), t), noise)
        true = best(x_t, jnp.full(len(x0), t), law.asked(values))
        gap = {k: ((true - answer(x_t, jnp.full(len(x0), t), c)) ** 2).sum((1, 2, 3)) for k, c in told.items()}
        for a, gain in gains({k: np.asarray(g, np.float64) for k, g in gap.items()}).items():
            there = values[:, NAMES.index("ink")] >= 0 if a == "ink" else True
            found.setdefault(a, []).append(np.where(there, gain, np.nan))
    return {a: np.array(g) for a, g in found.items()}


def log_snr(times: np.ndarray) -> np.ndarray:
    """log ᾱ/(1-ᾱ) of these times."""
    alpha_bar = np.asarray(exact.SCHEDULE.alpha_bar, np.float64)[np.asarray(times)]
    return np.log(alpha_bar / (1 - alpha_bar))


def nats(gain: np.ndarray) -> np.ndarray:
    """½ ∫ gain d log SNR, by the trapezoidal rule over TIMES: (times, …) -> (…)"""
    return np.trapezoid(gain, -log_snr(np.array(TIMES)), axis=0) / 2


def mean_and_error(each: np.ndarray) -> tuple[float, float]:
    """Mean and standard error, without NaN."""
    each = each[~np.isnan(each)]
    return float(each.mean()), float(each.std(ddof=min(1, len(each) - 1)) / math.sqrt(len(each)))


def by_time(gain: np.ndarray) -> np.ndarray:
    """The gain at every t = TIMES[0]…T: that of ‖x0 - x̂0‖² = ‖ε - ε̂‖²/SNR is interpolated, (T + 1 - TIMES[0],)"""
    t = np.arange(TIMES[0], T + 1)
    return np.interp(t, TIMES, gain * np.exp(-log_snr(np.array(TIMES)))) * np.exp(log_snr(t))


def density(gain: np.ndarray) -> np.ndarray:
    """½ gain |d log SNR/d(t/T)|, nats in a unit of t/T, at TIMES[0]…T-1; the area below it is the information."""
    slope = -np.diff(log_snr(np.arange(TIMES[0], T + 1))) * T
    return by_time(gain)[:-1] * slope / 2


def span(gain: np.ndarray) -> tuple[int, int]:
    """The times below which .1 and .9 of the information lies."""
    share = np.cumsum(density(gain))
    low, high = (TIMES[0] + int(np.searchsorted(share / share[-1], p)) for p in (0.1, 0.9))
    return low, high


def gained(gain: np.ndarray, low: int, high: int) -> float:
    """What is gained at low ≤ t < high, nats."""
    return float(density(gain)[low - TIMES[0] : high - TIMES[0]].sum() / T)


def in_loss(gain: np.ndarray, drawn: str) -> float:
    """Σ_t p_t gain_t/ᾱ_t: what the word takes off the loss ‖v - v̂‖², a sum over pixels, with times so drawn."""
    p = np.diff(np.asarray(text_readings.cumulative(exact.SCHEDULE, drawn), np.float64))[TIMES[0] - 1 :]
    return float((p * by_time(gain) / np.asarray(exact.SCHEDULE.alpha_bar, np.float64)[TIMES[0] :]).sum())


# --- networks ---------------------------------------------------------------------------------------------------------


def text(m: Model, values: np.ndarray) -> Condition:
    """These captions, as the network reads them."""
    captions = [caption(row) for row in values.tolist()]
    return Condition(text=tokens.encode(captions, m.unet.words, m.unet.tokens))  # type: ignore[attr-defined]


def network(name: str, config: Config) -> Model:
    """The shipped network, or its picture's part with a reading that is trained anew in this way."""
    if name == "shipped":
        return adapter_trainings.base(config.model)
    budget = replace(text_readings.BUDGET, steps=config.trained_steps, batch=config.trained_batch)
    return text_readings.train("context", budget, config.model, name)[0]


def of_network(name: str, curves: dict[str, dict[str, np.ndarray]]) -> list[Row]:
    """What a network gains by each word where .8 of its information lies, and at less noise."""
    rows = []
    for a in NAMES:
        low, high = span(curves["exact"][a])
        for where, t in ((f"where .8 of {a} lies", (low, high)), ("at less noise", (TIMES[0], low))):
            exactly, ours = (gained(curves[k][a], *t) for k in ("exact", name))
            rows.append(Row(f"{name}: nats gained by {a} {where}", None, exactly, ours))
    return rows


def run(config: Config) -> Result:
    """Measure by t what each word is worth and what networks read of it; draw captions with each network."""
    x0, z = exact.pictures(config.n, 5)
    values, rows = drawing.values_of(z), list[Row]()
    best = gains_by_time(law.distribution().eps(exact.SCHEDULE), law.asked, x0, values)
    curves = {"exact": {a: np.nanmean(g, 1) for a, g in best.items()}}
    for a, gain in best.items():
        truth, (mean, se) = math.log(len(ATTRIBUTES[a])), mean_and_error(nats(gain))
        rows.append(Row(f"ε*: information of {a}, nats", None, truth, mean, se, within=4 * se / truth))
    for a in NAMES:
        low, high = span(curves["exact"][a])
        rows += [Row(f"t below which {p} of {a} lies", None, t) for p, t in ((0.1, low), (0.9, high))]
        for drawn in text_readings.TIMES:
            P = np.asarray(text_readings.cumulative(exact.SCHEDULE, drawn))
            rows.append(Row(f"{drawn}: share of times where .8 of {a} lies", None, float(P[high] - P[low])))
    for drawn in text_readings.TIMES:
        worth = {a: in_loss(curves["exact"][a], drawn) for a in NAMES}
        for a in NAMES:
            rows.append(
                Row(f"{drawn}: share of {a} in what words take off the loss", None, worth[a] / sum(worth.values()))
            )
    few, said = slice(0, config.n_network), drawing.values_of(drawing.draw_attributes(config.captions, 54))
    for name in (*config.trainings, "shipped"):
        m = network(name, config)
        got = gains_by_time(m.eps, lambda v, m=m: text(m, v), x0[few], values[few])
        curves[name] = {a: np.nanmean(g, 1) for a, g in got.items()}
        rows += of_network(name, curves)
        x = captioned.drawn_by(m, said, config.guidance, config.steps, config.seed)
        for a, share in prompts_right(x, said).items():
            rows.append(Row(f"{name}: captions with {a} right", None, None, share.value, share.standard_error))
    return Result(
        rows, None, {"n": config.n, "curves": {k: {a: g.tolist() for a, g in v.items()} for k, v in curves.items()}}
    )


# --- the figure -------------------------------------------------------------------------------------------------------

SHADES = ("#1f3a5f", "#7f8c8d", "#b7950b", "#2e86c1", "#c0392b", "#8e44ad", "#148f77", "#d35400")
LINES = {"exact": "k", "shipped": "#7f8c8d", "logit_normal": "#1b4f72", "uniform": "#c0392b", "middle": "#148f77"}


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw where the words' information lies, what networks read of fine words, how often t is drawn, what is right."""
    curves = {k: {a: density(np.array(g)) for a, g in v.items()} for k, v in numbers["curves"].items()}
    t, ours = np.arange(TIMES[0], T) / T, {r["what"]: r["ours"] for r in rows}
    with plot.style():
        figure = plot.new_figure(11.4, 6.2)
        grid = figure.add_gridspec(2, 4, width_ratios=(1.5, 1, 1, 1))
        words = figure.add_subplot(grid[0, 0])
        for a, colour in zip(NAMES, SHADES, strict=True):
            words.plot(t, curves["exact"][a], color=colour, lw=2 if a in FINE else 1, label=a)
        words.set(title="exact: what each word tells", ylabel="nats in a unit of t/T", xlim=(0, 1), ylim=(0, None))
        words.legend(fontsize=7)
        for k, a in enumerate(FINE):
            axes = figure.add_subplot(grid[0, 1 + k])
            for name in curves:
                axes.plot(t, curves[name][a], color=LINES[name], lw=1.3, label=name.replace("_", "-"))
            axes.set(title=f"gained by the word: {a}", xlabel="t/T", xlim=(0, 1), ylim=(-2, 16))
            if k == 0:
                axes.legend(fontsize=7)
        drawn = figure.add_subplot(grid[1, 0])
        for name in text_readings.TIMES:
            share = np.diff(np.asarray(text_readings.cumulative(exact.SCHEDULE, name)))
            drawn.plot(np.arange(1, T + 1) / T, T * share, color=LINES[name], label=name.replace("_", "-"))
        drawn.set(title="how often t is drawn", xlabel="t/T", ylabel="T p(t)", xlim=(0, 1), ylim=(0, None))
        drawn.legend(fontsize=7)
        right, names = figure.add_subplot(grid[1, 1:]), [n for n in curves if n != "exact"]
        for k, name in enumerate(names):
            height = [ours[f"{name}: captions with {a} right"] for a in ("all", *NAMES)]
            place = np.arange(len(height)) + 0.2 * (k - (len(names) - 1) / 2)
            right.bar(place, height, 0.18, color=LINES[name], label=name.replace("_", "-"))
        right.set_xticks(range(1 + len(NAMES)), ("all", *NAMES), fontsize=8)
        right.set(title="captions right", ylim=(0, 1.25))
        right.legend(fontsize=7, ncols=4, loc="upper center")
    return figure
