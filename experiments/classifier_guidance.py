"""Classifier guidance, the table of scales: Fréchet distance, precision and recall with and without labels.

Dhariwal and Nichol add s √(1-ᾱ) ∇ log p(c | x_t) of a classifier of noisy images. In their table (ImageNet 256) scale 1
makes an unconditional model worse and scale 10 better; a conditional model is best at scale 1, and with 10 it gains
precision and loses recall. We use the shipped model of Fashion-MNIST, without labels or with them: DDIM, x̂0 clipped,
the same x_T everywhere; distance, accuracy, precision and recall are measured in the shipped classifier's features. The
classifier that guides is `classifier`: "gaussians" is the exact posterior of one Gaussian for each class (ridge .01), a
closed form at every t; any other name is a network that ships. The exact column is for the mixture of `cfg_tilted` with
its exact classifier: the standard deviation that remains at scale s of a class's .5. There, classifier guidance of an
unconditional denoiser with scale s is the same function as classifier-free guidance with scale s.

What we see, at 200 images a row: as in the paper, scale 10 makes the model without labels much better (170 to 22), and
recall falls with the scale in both halves (.90 to .72 with labels). Three things differ from the paper: scale 1 does
not make the model without labels worse (the difference is -37 ± 25); the model with labels is not best at scale 1 but
still gains at 10, where it is as near as 200 test images are; and precision, high from the start, hardly moves.
ImageNet has 1,000 classes and a network that needs little help; here ten Gaussians know more about the coarse shape of
a garment than a small network does, at the noise levels where that shape is decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import data, oracle, plot
from ddpm.classifiers import classifier
from ddpm.contracts import Partial
from ddpm.evaluation import neighbours, statistics
from ddpm.guide import clip_x0
from ddpm.guides import rules
from ddpm.oracles import gaussian
from ddpm.sample import ddim_step, walk
from ddpm.schedule import Schedule, linear, make_times
from ddpm.zoo import model
from experiments.lab.drawn_images import Judge, draw, labels
from experiments.lab.runner import Result, Row, float64

PAPER = "Dhariwal and Nichol 2021, Table 4 (ImageNet 256 x 256)"
MINUTES = 3
TABLE = {  # (labels, scale): FID, precision, recall
    (False, 0.0): (26.21, 0.61, 0.63), (False, 1.0): (33.03, 0.56, 0.65), (False, 10.0): (12.00, 0.76, 0.44),
    (True, 0.0): (10.94, 0.69, 0.63), (True, 1.0): (4.59, 0.82, 0.52), (True, 10.0): (9.11, 0.88, 0.32),
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """The model, what guides it, images in each row, steps, the scales and the seed."""

    model: str = "fashion_mnist"
    classifier: str = "gaussians"
    n: int = 200
    steps: int = 20
    scales: tuple[float, ...] = (0.0, 1.0, 3.0, 10.0)
    seed: int = 0


QUICK = {"n": 50, "steps": 4, "scales": (0.0, 10.0)}


def _log_posterior(g: oracle.Mixture, schedule: Schedule, x_t: jax.Array, t: Any, c: Any) -> jax.Array:
    """log p(c | x_t) - log p(c) of the mixture: (B,)"""
    return g.log_prob(schedule, x_t, t, c) - g.log_prob(schedule, x_t, t)


def _labelled(eps: Any, label: jax.Array, x_t: jax.Array, t: jax.Array, c: Any = None) -> jax.Array:
    """A denoiser that always uses these labels and ignores c."""
    return eps(x_t, t, label)


def exact_std(with_labels: bool, scale: float) -> float:
    """Standard deviation of class N(1, .25), with N(-1, .25) the other class, after guidance by the exact posterior."""
    with float64():
        schedule, mix = linear(), oracle.mixture([[1.0], [-1.0]], 0.25)
        z, weight = np.polynomial.hermite_e.hermegauss(60)
        c = jnp.zeros(60, int)
        eps = Partial(_labelled, mix.eps(schedule), c) if with_labels else mix.eps(schedule)
        guided = rules.classifier(eps, schedule, Partial(_log_posterior, mix, schedule), scale)
        x = walk(ddim_step(guided, schedule, c), jax.random.key(0), jnp.asarray(z)[:, None], make_times(1000, 200))
    x, weight = np.asarray(x).ravel(), weight / weight.sum()
    return float(np.sqrt(weight @ (x - weight @ x) ** 2))


def posterior(m: model.Model, d: data.Dataset, name: str) -> Any:
    """log p(c | x_t) as a function of (x_t, t, c), and its name in the cache."""
    if name != "gaussians":
        found = classifier.load(name)
        return found.log_prob, f"{name} {found.card.get('sha256', '')[:8]}"
    g = gaussian.fit(data.to_float(d.x_train), d.y_train)
    return Partial(_log_posterior, g._replace(var=g.var + 0.01), m.schedule), name


def guided_step(m: model.Model, log_prob: Any, with_labels: bool, scale: float, c: jax.Array) -> Any:
    """The guided DDIM step for these labels."""
    eps = Partial(_labelled, m.eps, c) if with_labels else m.eps
    if scale:
        eps = rules.classifier(eps, m.schedule, log_prob, scale)
    return ddim_step(clip_x0(eps, m.schedule), m.schedule, c if scale or with_labels else None)


def run(config: Config) -> Result:
    """Measure every row of the table."""
    m = model.load(config.model)
    judge = Judge(m.card["train"]["data"])
    log_prob, called = posterior(m, judge.data, config.classifier)
    c = labels(m, config.n)
    real = judge.real.test[statistics.stratified_subset(judge.data.y_test, config.n, 0)]
    rows = [Row(f"floor: {config.n} test images", None, None, judge.floor(config.n))]
    f: dict[tuple[bool, float], np.ndarray] = {}
    for with_labels in (False, True):
        for scale in config.scales:
            what = f"{'labels' if with_labels else 'no labels'}, scale {scale:g}"
            make = partial(guided_step, m, log_prob, with_labels, scale)
            name = f"classifier guidance {called} {what}"
            images, _ = draw(m, name, make, config.n, config.steps, config.seed)
            f[with_labels, scale] = judge.features(images)
            (value, error), (right, right_error) = judge.frechet(f[with_labels, scale], c), judge.accuracy(images, c)
            seen = neighbours.overlap(real, f[with_labels, scale])
            fid, precision, recall = TABLE.get((with_labels, scale), (None, None, None))
            rows += [
                Row(f"{what}: Fréchet distance", fid, None, value, error),
                Row(f"{what}: class accuracy", None, None, right, right_error),
                Row(f"{what}: precision", precision, None, *_share(seen.precision)),
                Row(f"{what}: recall", recall, None, *_share(seen.recall)),
                Row(f"{what}: std of the mixture's class", None, exact_std(with_labels, scale), None),
            ]
    last = config.scales[-1]
    for with_labels in (False, True):
        for scale in (s for s in (1.0, last) if s in config.scales):
            value, error = judge.further(f[with_labels, scale], f[with_labels, config.scales[0]], c)
            before, after = (TABLE[with_labels, s][0] for s in (0.0, scale))
            what = "labels" if with_labels else "no labels"
            rows.append(Row(f"{what}: distance at scale {scale:g} minus at 0", after - before, None, value, error))
    about = {"n": config.n, "seed": config.seed, "features": judge.real.name, "classifier": called}
    about["scales"] = config.scales
    return Result(rows, None, about)


def _share(hit: np.ndarray) -> tuple[float, float]:
    p = float(hit.mean())
    return p, float(np.sqrt(max(p * (1 - p), 1 / len(hit)) / len(hit)))


def redraw(rows: list[dict[str, Any]], numbers: dict[str, Any]) -> Any:
    """Draw distance, accuracy, precision and recall by scale."""
    found, scales = {row["what"]: row for row in rows}, numbers["scales"]
    with plot.style():
        figure = plot.new_figure(10.4, 3.2)
        panels = figure.subplots(1, 3)
        for axes, whats in zip(
            panels, (("Fréchet distance",), ("class accuracy",), ("precision", "recall")), strict=True
        ):
            for what in whats:
                for kind, mark in (("no labels", "o"), ("labels", "s")):
                    cells = [found[f"{kind}, scale {s:g}: {what}"] for s in scales]
                    label = f"ours, {kind}" if len(whats) == 1 else f"{what}, {kind}"
                    fill = None if what != "recall" else "w"
                    axes.errorbar(
                        range(len(scales)), [r["ours"] for r in cells], [1.96 * (r["spread"] or 0) for r in cells],
                        marker=mark, markersize=5, markerfacecolor=fill, label=label,
                    )  # fmt: skip
                    paper = [(i, r["paper"]) for i, r in enumerate(cells) if r["paper"] is not None]
                    if what == "Fréchet distance":
                        axes.plot(*zip(*paper, strict=True), marker="^", markersize=4, label=f"paper, {kind}")
            axes.set_xticks(range(len(scales)), [f"{s:g}" for s in scales])
            axes.set(xlabel="scale s", ylabel=whats[0] if len(whats) == 1 else "share")
            axes.legend(fontsize=7)
        panels[0].axhline(rows[0]["ours"], color="#95a5a6", linestyle="-", linewidth=0.8)
        panels[0].annotate(
            f"{numbers['n']} test images", (0, rows[0]["ours"]), (0, -9), textcoords="offset points", fontsize=7
        )
        panels[0].set(yscale="log", ylim=(3, 700), ylabel="Fréchet distance (each in its features)")
        panels[1].set_ylim(0, 1.03)
        panels[2].set_ylim(0, 1.03)
    return figure
