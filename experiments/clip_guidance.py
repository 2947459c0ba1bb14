"""CLIP guidance with an encoder of noisy images is the conditional denoiser at s = 1, and cfg at every other scale.

GLIDE moves the mean of each step by s Σ ∇(f(x_t)·g(T)), with an encoder trained on noisy images, and people prefer
classifier-free guidance to it. CLIP's best scores are s*(x_t, T) = log p_t(x_t | T)/p_t(x_t), so that the two are one
method: ε* - s √(1-ᾱ_t) ∇s* = ε*(∅) + s (ε*(T) - ε*(∅)) for every s. In `wardrobe` this holds to rounding, and
pictures drawn with it have all that was asked. What people compared in GLIDE is thus two estimates, not two ideas. An
encoder that learned from captions with one wrong word in ten guides as it learned: with it the picture has all its
words right with the probability that a caption has, .595 for seven words. An encoder of clean images shown x_t takes
noise for detail and points elsewhere (cosine .6 at t = 900, .4 at 500): most of its pictures still have what was asked,
and one in six is a picture of the world, the colours of the others being none of it. The same encoder evaluated at x̂0
has none right. The cosine without its temperature is guidance with s = 1/τ = .03, which is almost none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import plot
from ddpm.contracts import Partial
from ddpm.datasets.wardrobe import drawing, law, matching
from ddpm.forward import q_sample, x0_and_eps
from ddpm.guide import cfg
from ddpm.guides.rules import classifier
from ddpm.oracles.region_colours import Evidence
from experiments.lab import wardrobe_exact as exact
from experiments.lab.runner import Result, Row

PAPER = "Nichol et al. 2021, GLIDE, Sec. 2.4 and Table 1"
MINUTES = 4
TIMES = (900, 700, 500, 300, 150, 50)
ELO = {  # photorealism and agreement with the caption, their Table 1
    "no guidance": (-88.6, -106.2),
    "CLIP guidance, 2.0": (-73.2, 29.3),
    "classifier-free, 3.0": (82.7, 110.9),
}


@dataclass(frozen=True)
class Config:
    """Captions, DDIM steps, and pictures for the direction of the gradients."""

    n: int = 64
    steps: int = 30
    directions: int = 24
    seed: int = 0


QUICK = {"n": 8, "steps": 8, "directions": 4}


def score(x_t: Any, t: Any, c: Evidence) -> jax.Array:
    """s*(x_t, T) = log p_t(x_t | T)/p_t(x_t): an encoder of noisy images."""
    world = law.distribution()
    return world.log_prob(exact.SCHEDULE, x_t, t, c) - world.log_prob(exact.SCHEDULE, x_t, t)


def clean(x_t: Any, t: Any, c: Evidence) -> jax.Array:
    """The score of an encoder of clean images, here of noise at t = 40, that is shown x_t."""
    return score(x_t, jnp.full(x_t.shape[0], 40), c)


def clean_at_x0(x_t: Any, t: Any, c: Evidence) -> jax.Array:
    """The same encoder, at the predicted picture x̂0."""
    x0, _ = x0_and_eps(law.distribution().eps(exact.SCHEDULE), exact.SCHEDULE, x_t, t, None)
    return clean(x0, t, c)


def run(config: Config) -> Result:
    """Compare the guides with ε*(T) at single times, and by the captions that their pictures have right."""
    world = law.distribution()
    eps = world.eps(exact.SCHEDULE)
    z = drawing.draw_attributes(config.n, 11)
    values = drawing.values_of(z)
    ink = list(law.ATTRIBUTES).index("ink")
    values[:, ink] = -1
    c, noisy_c = law.asked(values), law.asked(values, matching.NOISE)
    guided = lambda value, s=1.0: classifier(eps, exact.SCHEDULE, Partial(value), s)  # noqa: E731
    guides = {"noisy CLIP": score, "clean CLIP at x_t": clean, "clean CLIP at x̂0": clean_at_x0}
    rows: list[Row] = []
    along: dict[str, list[float | None]] = {name: [] for name in guides}
    # At single times: the guided ε against ε*(T), and the direction of what guidance adds
    m = config.directions
    few = jax.tree.map(lambda a: a[:m], c)
    x0 = jnp.asarray(exact.pictures(config.n, 11)[0][:m])
    noise = jax.random.normal(jax.random.key(config.seed), x0.shape)
    for t in TIMES:
        at = jnp.full(m, t)
        x_t = q_sample(exact.SCHEDULE, x0, at, noise)
        none, right = eps(x_t, at, None), eps(x_t, at, few)
        for s in (1.0, 3.0):
            gap = jnp.abs(guided(score, s)(x_t, at, few) - cfg(eps, s)(x_t, at, few)).max()
            if t in (900, 500, 150):
                what = "ε*(T)" if s == 1 else "classifier-free guidance"
                rows.append(
                    Row(f"s = {s:g}, t = {t}: noisy CLIP less {what}", None, 0, float(gap), within=2e-3, near=1)
                )
        want = np.asarray(right - none).reshape(m, -1)
        for name, value in guides.items():
            got = np.asarray(guided(value)(x_t, at, few) - none).reshape(m, -1)
            lengths = np.linalg.norm(got, axis=1) * np.linalg.norm(want, axis=1)
            moved = np.linalg.norm(want, axis=1) > 0.1  # where the caption still tells something
            cosine = (got * want).sum(1)[moved] / np.maximum(lengths[moved], 1e-12)
            along[name].append(float(cosine.mean()) if moved.any() else None)
    # Pictures: the share with all that was asked
    tau = matching.embeddings(values, values)[2]
    as_learned = math.prod(1 - matching.NOISE + matching.NOISE / K for K in matching.SIZES)
    shown = {}
    for name, denoiser, condition, share in (
        ("no guidance", eps, None, math.prod(1 / K for K in matching.SIZES)),
        ("noisy CLIP, s = 1", guided(score), c, 1.0),
        ("ε*(T)", eps, c, 1.0),
        ("noisy CLIP of captions with wrong words, s = 1", eps, noisy_c, as_learned),
        ("without its temperature, s = 1/τ", cfg(eps, 1 / tau), noisy_c, None),
        ("clean CLIP at x_t", guided(clean), c, None),
        ("clean CLIP at x̂0", guided(clean_at_x0), c, None),
    ):
        x = exact.drawn(denoiser, condition, config.n, config.steps, config.seed)
        reading = law.read(np.clip(np.nan_to_num(x), -1, 1))
        got = law.right(reading, values).all(1).mean()
        se = math.sqrt((share if share else got) * (1 - (share if share else got)) / config.n)
        within = None if share is None else (4 * se + 1e-9 + (1 / config.n if share < 1 else 0)) / share
        rows.append(Row(f"{name}: all asked right", None, share, float(got), se, within))
        truth = None if name.startswith("clean") else 1.0
        rows.append(Row(f"{name}: of the world", None, truth, float(exact.of_world(x).mean()), within=truth and 1e-9))
        shown[name] = np.clip(x[:6], -1, 1).round(2)
    for name, (photo, caption) in ELO.items():
        rows += [Row(f"GLIDE, Elo of {name}: photorealism", photo), Row(f"GLIDE, Elo of {name}: caption", caption)]
    return Result(rows, None, {"times": TIMES, "along": along, "tau": tau, "n": config.n, "shown": shown})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the directions by time, the shares, and a few pictures."""
    with plot.style():
        figure = plot.new_figure(10.4, 3.8)
        left, right, pictures = figure.subplots(1, 3, width_ratios=(1.1, 0.7, 1))
        for name, cosines in numbers["along"].items():
            left.plot(numbers["times"], [np.nan if a is None else a for a in cosines], "o-", label=name)
        left.set(xlabel="t", ylabel="cosine with ε*(T) - ε*(∅)", ylim=(-0.1, 1.05))
        left.legend(fontsize=7)
        shares = [r for r in rows if r["what"].endswith("all asked right")]
        of_world = [r["ours"] for r in rows if r["what"].endswith(": of the world")]
        right.barh(np.arange(len(shares)) - 0.2, [r["ours"] for r in shares], 0.38, color="#1b4f72", label="all right")
        right.barh(np.arange(len(shares)) + 0.2, of_world, 0.38, color="0.75", label="of the world")
        for i, r in enumerate(shares):
            if r["exact"] is not None:
                right.plot([r["exact"]] * 2, [i - 0.4, i], color="#c0392b", lw=2, ls="-")
        right.set_yticks([])
        right.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        right.set(xlabel="share of pictures", ylim=(len(shares) - 0.5, -0.5), xlim=(0, 1.03))
        pictures.imshow(plot.grid(np.concatenate([np.array(x) for x in numbers["shown"].values()]), 6))
        pictures.set_yticks(16 + 30 * np.arange(len(shares)), [r["what"].split(": all")[0] for r in shares], fontsize=7)
        pictures.tick_params(length=0)
        pictures.set_xticks([])
        pictures.spines[:].set_visible(False)
    return figure
