"""DiffusionPID: information between words and a pixel from denoising errors, and its unique, shared and joint parts.

The claim: what words tell of an image can be read off two denoisers, with the words c and without, and splits into
parts: unique to a word, redundant, and synergetic, which only both words together tell. With SNR the signal-to-noise
ratio of x_t and mmse the least squared error of x̂0,

    i(x; c) = ½ ∫ (err(x) - err(x | c)) dSNR  nats for each x,      I(x; c) = ½ ∫ (mmse - mmse_c) dSNR  on the mean

Here x is one pixel, ±1, that depends on two words which are fair coins, and all denoisers are exact: E[x0 | x_t] =
tanh(√SNR y + ½ log odds). The parts are those of Williams and Beer 2010: the redundancy is the smaller of what the two
words tell of each value of x, on the mean; other definitions of it exist and give other numbers.

What we see: the integrals give every part to six digits. The parts differ where single numbers do not: of XOR neither
word tells anything and both tell all; of a copied word all is unique; AND has .311 bits that both words tell, though
they are independent, which is what others criticise in this definition, and half a bit that is joint. Twenty noise
levels are enough, but they must reach to where x is certain: stopped at SNR 4, a tenth is missing. What does not carry
over: a network's errors are not the least ones, and then a part may be negative; the pixels of an image are not alone;
and an attention map is no part of this identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.integrate import quad
from scipy.stats import norm

from ddpm import plot
from experiments.lab.runner import Result, Row

PAPER = "Dewan et al. 2024, DiffusionPID; the parts: Williams and Beer 2010"
MINUTES = 0.1
WORDS = list(product((0, 1), repeat=2))  # (a, b), each with probability ¼
PIXELS: dict[str, Any] = {  # P(x = +1 | a, b)
    "XOR": lambda a, b: float(a != b),
    "copy of a": lambda a, b: float(a),
    "AND": lambda a, b: float(a and b),
    "a, or b by a coin": lambda a, b: (a + b) / 2,
}


@dataclass(frozen=True)
class Config:
    """Noise levels of the integral, evenly in log SNR, and its ends."""

    levels: int = 400
    low: float = 1e-9
    high: float = 400.0


QUICK = {"levels": 120}


def errors(snr: np.ndarray, p: float) -> np.ndarray:
    """E(x0 - x̂0)² for x0 = +1 and for x0 = -1, by snr, (2, n), if P(x0 = +1) = p: what is certain has no error"""
    if p in (0.0, 1.0):
        return np.zeros((2, len(snr)))
    eps = np.linspace(-9, 9, 601)
    x0 = np.array([1.0, -1.0])[:, None, None]
    y = np.sqrt(snr)[:, None] * x0 + eps  # √SNR x0 + ε, which is x_t/√(1-ᾱ)
    guess = np.tanh(np.sqrt(snr)[:, None] * y + 0.5 * np.log(p / (1 - p)))
    return ((x0 - guess) ** 2 * norm.pdf(eps)).sum(-1) * (eps[1] - eps[0])


def surprise(config: Config, p: float) -> np.ndarray:
    """-log₂ P(x0) of both values by ½ ∫ err dSNR, trapezoids in log SNR"""
    snr = np.geomspace(config.low, config.high, config.levels)
    return 0.5 * np.trapezoid(errors(snr, p) * snr, np.log(snr)) / np.log(2)


def parts(pixel: Any, bits: Any) -> dict[str, float]:
    """The parts of I(x; a, b); bits(p) gives -log₂ of P(x = ±1) = p, 1-p, as a pair: it is all that is needed"""
    p_ab = np.array([pixel(a, b) for a, b in WORDS])
    p = p_ab.mean()
    told = {}
    for name, groups in (("a", [(0, 1), (2, 3)]), ("b", [(0, 2), (1, 3)]), ("both", [(0,), (1,), (2,), (3,)])):
        told[name] = np.zeros(2)  # Σ_c p(c | x) i(x; c), for each x
        for group in groups:
            q = p_ab[list(group)].mean()
            joint = len(group) / 4 * np.array([q, 1 - q])  # P(c, x)
            told[name] += joint / np.array([p, 1 - p]) * (bits(p) - bits(q))
    mean = lambda of: float(np.array([p, 1 - p]) @ of)  # noqa: E731
    a, b, both = (mean(told[k]) for k in ("a", "b", "both"))
    redundant = mean(np.minimum(told["a"], told["b"]))
    return {"I(x; a)": a, "I(x; b)": b, "I(x; a, b)": both, "redundant": redundant, "unique to a": a - redundant,
            "unique to b": b - redundant, "joint": both - a - b + redundant}  # fmt: skip


def exact_bits(p: float) -> np.ndarray:
    """-log₂ of p and of 1 - p; 0 where the probability is 0, which has no weight"""
    return np.array([-np.log2(q) if q > 0 else 0.0 for q in (p, 1 - p)])


def gaussians(config: Config) -> tuple[float, float]:
    """I(x; c) of two Gaussians at ±1 of variance ¼, in bits: by entropies, and by ½ ∫ (mmse - mmse_c) dSNR"""
    density = lambda x: 0.5 * (norm.pdf(x, 1, 0.5) + norm.pdf(x, -1, 0.5))  # noqa: E731
    entropy = quad(lambda x: -density(x) * np.log(density(x)), -7, 7, limit=200)[0]
    exact = (entropy - 0.5 * np.log(2 * np.pi * np.e * 0.25)) / np.log(2)
    # Given x_t the centre is ±1 with noise ¼ + 1/SNR: the mean's error is what the centre's costs, shrunk by its weight
    snr = np.geomspace(config.low, 1e9, 2 * config.levels)
    shrink = 1 / (1 + 0.25 * snr)
    gap = shrink**2 * errors(snr * shrink, 0.5).mean(0)
    return float(exact), float(0.5 * np.trapezoid(gap * snr, np.log(snr)) / np.log(2))


def run(config: Config) -> Result:
    """Compute every part from denoising errors, beside the probabilities."""
    rows: list[Row] = []
    found = {}
    for name, pixel in PIXELS.items():
        exact = parts(pixel, exact_bits)
        found[name] = parts(pixel, lambda p: surprise(config, p))
        for what, bits in exact.items():
            rows.append(Row(f"{name}: {what}, bits", None, bits, found[name][what], within=1e-6, near=1.0))
    exact_bits_of_c, ours = gaussians(config)
    rows.append(Row("two Gaussians at ±1, variance ¼: I(x; c), bits", None, exact_bits_of_c, ours, within=1e-5))
    few = parts(PIXELS["AND"], lambda p: surprise(Config(20, 1e-3, 60.0), p))["I(x; a, b)"]
    short = parts(PIXELS["AND"], lambda p: surprise(Config(config.levels, config.low, 4.0), p))["I(x; a, b)"]
    rows.append(Row("AND, twenty levels to SNR 60: I(x; a, b)", None, found["AND"]["I(x; a, b)"], few, within=0.01))
    rows.append(Row("AND, up to SNR 4 only: I(x; a, b)", None, None, short))
    snr = np.geomspace(0.01, 60, 60)
    curves = {"AND": errors(snr, 0.25).T @ [0.25, 0.75], "AND, told a": 0.5 * errors(snr, 0.5).mean(0)}
    return Result(rows, None, {"snr": snr, "curves": curves, "parts": found})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the least errors of AND, and the parts of each pixel."""
    with plot.style():
        figure = plot.new_figure(8.8, 2.9)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
        snr, (one, two) = numbers["snr"], numbers["curves"].values()
        left.semilogx(snr, one, label="without words")
        left.semilogx(snr, two, label="told a")
        left.fill_between(snr, two, one, color="0.9")
        left.set(xlabel="SNR", ylabel="least error of x̂0", title="AND: the gap is information")
        bottom = np.zeros(len(numbers["parts"]))
        colors = ("#1b4f72", "#7fb3d5", "#d68910", "#c0392b")
        for what, color in zip(("unique to a", "unique to b", "redundant", "joint"), colors, strict=True):
            height = np.array([p[what] for p in numbers["parts"].values()])
            right.bar(list(numbers["parts"]), height, bottom=bottom, color=color, label=what)
            bottom += height
        right.set(ylabel="bits", ylim=(0, 1.45), title="what two words tell of a pixel")
        right.legend(fontsize=7, ncols=4, loc="upper center")
        left.legend(fontsize=8)
    return figure
