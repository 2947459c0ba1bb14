"""Control by outlines, exactly: what a hint fixes, what it leaves open, and when guidance cancels it.

ControlNet reads edges, silhouettes and sketches, and is judged by the overlap (IoU) of what is drawn with what was
asked. In `wardrobe` ε* under a hint is known. With an exact outline every drawing has the asked silhouette, IoU 1, and
the colours, which the hint leaves open, are those of the world. A sketch whose pixels are flipped with probability p is
read by Bayes' rule: the silhouette stays certain until two pixels in five are wrong, since 784 pixels tell more than
288 geometries need. So an IoU of .35 in the paper's Table 2, where real images have .58, is in part that of the judge,
whose place an exact reader takes here. Guidance with the hint in both of its branches, and no prompt, does nothing at
any scale, ε_c = ε_∅: the paper's remark that the hint should then be left out of ε_∅ is an identity. What does not
carry over: how fast a network learns to obey, and the sudden convergence that the paper reports, need a training.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.special import logsumexp
from scipy.stats import chi2

from ddpm import plot
from ddpm.datasets.wardrobe import evidence, law
from ddpm.datasets.wardrobe.silhouettes import edges, geometry, shapes
from ddpm.datasets.wardrobe.words import ATTRIBUTES
from ddpm.guide import cfg
from ddpm.guides import given
from experiments.lab import captioned
from experiments.lab import wardrobe_exact as exact
from experiments.lab.runner import Result, Row

PAPER = "Zhang et al. 2023, ControlNet, Table 2 and Sec. 3.5"
MINUTES = 3
FLIPS = (0.1, 0.3, 0.4, 0.45, 0.48)
IOU = {"real images": 0.58, "ControlNet": 0.35, "ControlNet lite": 0.32, "PITI": 0.26, "LDM": 0.31, "VQGAN": 0.21}


@dataclass(frozen=True)
class Config:
    """Pictures of each condition, DDIM steps, and sketches for the expected overlap."""

    n: int = 96
    steps: int = 25
    sketches: int = 400
    seed: int = 0


QUICK = {"n": 8, "steps": 8, "sketches": 40}


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a ∩ b|/|a ∪ b| of silhouettes (..., 28, 28) bool"""
    return (a & b).sum((-2, -1)) / (a | b).sum((-2, -1))


def expected_overlap(flip: float, config: Config) -> tuple[float, float]:
    """E IoU of a drawing from p(g | sketch), in NumPy, with the standard error over sketches."""
    rng = np.random.default_rng(3)
    table = edges(shapes().region).reshape(288, -1)
    outline = shapes().region > 0
    pairs = np.array([overlap(outline, one) for one in outline])
    found = []
    for g in rng.integers(0, 288, config.sketches):
        wrong = (table ^ (table[g] ^ (rng.random(784) < flip))).sum(1)
        log_p = wrong * np.log(flip / (1 - flip))
        found.append(float(np.exp(log_p - logsumexp(log_p)) @ pairs[g]))
    return float(np.mean(found)), float(np.std(found) / np.sqrt(len(found)))


def run(config: Config) -> Result:
    """Draw under outlines, silhouettes and sketches, and read the silhouette and the colours."""
    n, world = config.n, law.distribution()
    eps = world.eps(exact.SCHEDULE)
    x0, z = exact.pictures(n, 5)
    asked = geometry(z.garment, z.size, z.column, z.row, z.pattern)
    outline = shapes().region > 0
    rng, rows = np.random.default_rng(config.seed), list[Row]()
    hint = np.repeat(1 - 2.0 * evidence.hints("edges")[asked[:8]][..., None], 3, -1)
    shown = {"picture": x0[:8], "its edges": hint}

    def measure(name: str, c: evidence.Evidence, truth: float, within: float) -> law.Reading:
        x = exact.drawn(eps, c, n, config.steps, config.seed + 1)
        reading = law.read(np.clip(x, -1, 1))
        iou = overlap(outline[reading.geometry], outline[asked])
        se = float(iou.std(ddof=1) / np.sqrt(n))
        rows.append(Row(f"IoU, {name}", None, truth, float(iou.mean()), se, within + 4 * se / truth))
        shown[name] = np.clip(x[:8], -1, 1)
        return reading

    for kind in evidence.HINTS:
        reading = measure(kind, evidence.outlined(evidence.hints(kind)[asked], kind), 1.0, 1e-9)
        # The colours are the world's: χ² of three histograms of 8 words, of 7 degrees of freedom each
        counts = [np.bincount(reading.values[:, list(ATTRIBUTES).index(a)], minlength=8) for a in ("colour", "ground")]
        statistic = sum(float(((k - n / 8) ** 2).sum() / (n / 8)) for k in counts)
        within = float(chi2.ppf(1 - 1e-4, 14)) / 14 - 1
        rows.append(Row(f"{kind} without a prompt: χ² of the colours", None, 14, statistic, float(np.sqrt(28)), within))
    for flip in FLIPS:
        y = evidence.hints("edges")[asked] ^ (rng.random((n, 28, 28)) < flip)
        truth, error = expected_overlap(flip, config)
        measure(
            f"sketch, {flip:g} of the pixels wrong", evidence.outlined(y, flip=flip), truth, 4 * error / truth + 1e-9
        )
    # Guidance with the hint in both branches, and in one
    c = evidence.outlined(evidence.hints("edges")[asked])
    x_t, t = jax.random.normal(jax.random.key(1), (n, 28, 28, 3)), jnp.full(n, 600)
    with_hint = eps(x_t, t, c)
    for s in (3.0, 9.0):
        both = cfg(given(eps, c), s)(x_t, t, c)
        rows.append(
            Row(
                f"hint in both branches, s = {s:g}: |ε - ε(hint)|",
                None,
                0,
                float(jnp.abs(both - with_hint).max()),
                within=1e-4,
                near=1,
            )
        )
    # The change has the size that the two branches differ by: |cfg - ε(hint)| = (s-1) |ε(hint) - ε(∅)|
    moved, apart = (
        float(jnp.abs(a).mean()) for a in (cfg(eps, 3.0)(x_t, t, c) - with_hint, with_hint - eps(x_t, t, None))
    )
    rows.append(Row("hint in one branch, s = 3: mean |ε - ε(hint)|", None, 2 * apart, moved, within=1e-3))
    rows += [Row(f"IoU of the paper's Table 2: {name}", iou) for name, iou in IOU.items()]
    flips = {"flip": FLIPS, "exact": [expected_overlap(f, config)[0] for f in FLIPS]}
    return Result(rows, None, {"n": n, "flips": flips, "shown": {k: np.round(v, 2) for k, v in shown.items()}})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the pictures under each hint, and the overlap by the share of wrong pixels."""
    with plot.style():
        figure = plot.new_figure(9.6, 4.2)
        left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
        captioned.named_rows(left, numbers["shown"], 8, 7)
        flips = numbers["flips"]
        got = [r for r in rows if r["what"].startswith("IoU, sketch")]
        right.plot(flips["flip"], flips["exact"], "o-", label="E IoU by Bayes' rule")
        right.errorbar(
            flips["flip"],
            [r["ours"] for r in got],
            [r["spread"] for r in got],
            fmt="s",
            color="#c0392b",
            label="drawn with ε*",
        )
        right.set(xlabel="share of wrong pixels in the sketch", ylabel="IoU of the silhouettes", ylim=(0, 1.05))
        right.legend(fontsize=8, loc="lower left")
    return figure
