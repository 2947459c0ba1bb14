"""Composable diffusion on drawn towns: one to three conditions at once, by a sum of denoisers and exactly.

The claim: conditions are joined by adding ε_∅ + Σ_i (ε_i - ε_∅), and excluded by subtracting. `composition` shows on
Gaussians that the sum is not the denoiser of the product. Here the conditions are a rose in one cell, a window in
another and night, each with its exact denoiser, and so has their conjunction. What we see: they concern different cells
and the light, which are independent in the data, and so the sum obeys one, two and three of them in every image, as the
exact conjunction does, and every cell is a tile. Two towns at once, which no picture is, give pictures of neither: what
both towns share. NOT with weight 1 takes the rose away, as it should, but no image is left whole, while the exact
conditional NOT draws whole images: a denoiser that is subtracted leads away from all of the data, not only from roses.
What does not carry over: words are not independent, and their denoisers not exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import plot
from ddpm.datasets import world
from ddpm.guides import compose, given
from ddpm.oracles import Known
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row

PAPER = "Liu et al. 2022, Compositional Visual Generation with Composable Diffusion Models"
MINUTES = 0.7
UNCHECKED = "The exact column is the conjunction; how often the sum obeys it is measured."
WINDOW, ROSE, NIGHT = 0, 3, 2
PLACES = {ROSE: 5, WINDOW: 6}  # the cells of the two motifs


@dataclass(frozen=True)
class Config:
    """Images of each kind, and DDIM steps."""

    n: int = 48
    steps: int = 30
    seed: int = 0


QUICK = {"n": 6, "steps": 12}


def known(n: int, motifs: tuple[int, ...] = (), night: bool = False, without: int | None = None) -> Known:
    """These motifs at their places, night, and not the motif `without` at its place"""
    motif = world.tiles().motif
    allowed = np.ones((n, world.CELLS**2, len(motif)), bool)
    for m in motifs:
        allowed[:, PLACES[m]] = motif == m
    if without is not None:
        allowed[:, PLACES[without]] = motif != without
    return Known(tiles=jnp.asarray(allowed), light=jnp.full(n, NIGHT) if night else None)


def run(config: Config) -> Result:
    """Draw with the sum and with the exact conjunction, and read what is shown by the tile posterior."""
    schedule, towns, n, rows = linear(), world.distribution(), config.n, list[Row]()
    eps, times, motif = towns.eps(schedule), make_times(schedule.T, config.steps), world.tiles().motif
    x_T = jax.random.normal(jax.random.key(config.seed), (n, world.SIZE, world.SIZE, 1))
    draw = lambda e: walk(ddim_step(e, schedule), jax.random.key(0), x_T, times)  # noqa: E731
    parts = {"rose": known(n, (ROSE,)), "window": known(n, (WINDOW,)), "night": known(n, night=True)}
    joint = (known(n, (ROSE,)), known(n, (ROSE, WINDOW)), known(n, (ROSE, WINDOW), night=True))
    shown, curves = {}, dict[str, list[float]]()

    def seen(x: jax.Array) -> dict[str, np.ndarray]:
        answer = towns.answer(schedule, x, 1)
        tile = np.asarray(answer.tile_posterior).argmax(2)
        at = {name: motif[tile[:, PLACES[m]]] == m for name, m in (("rose", ROSE), ("window", WINDOW))}
        clean = np.abs(np.asarray(answer.x0 - x)).max((1, 2, 3)) < 0.2  # each cell is a tile
        return at | {"night": np.asarray(answer.light_posterior).argmax(1) == NIGHT, "clean": clean}

    for k, all_of_them in enumerate(joint, 1):
        names = list(parts)[:k]
        ways = {
            "sum": compose(eps, [given(eps, parts[name]) for name in names], [1.0] * k),
            "exact": given(eps, all_of_them),
        }
        for way, e in ways.items():
            x = draw(e)
            s = seen(x)
            obeyed = np.all([s[name] for name in names], axis=0)
            p, se = float(obeyed.mean()), float(obeyed.std() / n**0.5)
            within = 0.0 if way == "exact" else None
            rows.append(Row(f"{' and '.join(names)}, {way}: all obeyed", None, 1.0, p, se, within=within))
            rows.append(Row(f"{' and '.join(names)}, {way}: every cell is a tile", ours=float(s["clean"].mean())))
            curves.setdefault(way, []).append(p)
            if k == 3:
                shown[way] = plot.grid(np.asarray(x)[:8], 8)[..., 0]
    # NOT a rose: by the sum, and by the exact conditional; and two towns at once, which no picture is
    plain, base = seen(draw(eps)), float(world.probabilities().mean(0)[PLACES[ROSE]][motif == ROSE].sum())
    rows.append(
        Row(
            "no condition: a rose there", None, base, float(plain["rose"].mean()), within=4.5 * (base / n) ** 0.5 / base
        )
    )
    for name, e in (
        ("sum", compose(eps, [given(eps, parts["rose"])], [-1.0])),
        ("exact", given(eps, known(n, without=ROSE))),
    ):
        s, within = seen(draw(e)), 0.0 if name == "exact" else None
        rows.append(Row(f"not a rose, {name}: a rose there", None, 0.0, float(s["rose"].mean()), within=within))
        rows.append(Row(f"not a rose, {name}: every cell is a tile", ours=float(s["clean"].mean())))
    two = compose(eps, [given(eps, Known(label=jnp.full(n, c))) for c in (0, 1)], [1.0, 1.0])
    x = draw(two)
    of_town = np.asarray(towns.class_posterior(schedule, x, 1))
    rows.append(Row("two towns at once: images where one has p > .99", ours=float((of_town.max(1) > 0.99).mean())))
    rows.append(Row("two towns at once: every cell is a tile", ours=float(seen(x)["clean"].mean())))
    shown["two towns at once"] = plot.grid(np.asarray(x)[:8], 8)[..., 0]
    return Result(rows, None, {"curves": curves, "shown": shown})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw how many images are whole, and images."""
    names = {"sum": "rose, window and night: sum", "exact": "rose, window and night: exact"}
    with plot.style():
        figure = plot.new_figure(9.8, 2.8)
        left, right = figure.subfigures(1, 2, width_ratios=(1, 1.6))  # type: ignore[misc]
        ax = left.subplots()
        whole = [row for row in rows if row["what"].endswith("every cell is a tile")]
        ax.barh(range(len(whole)), [row["ours"] for row in whole], color="#1b4f72")
        ax.set_yticks(range(len(whole)), [row["what"].rsplit(": ", 1)[0] for row in whole], fontsize=8)
        ax.set(xlabel="share of whole images")
        ax.invert_yaxis()
        for ax, (way, grid) in zip(right.subplots(3, 1), numbers["shown"].items(), strict=True):
            ax.imshow(np.array(grid), cmap="gray")
            ax.set_title(names.get(way, way), fontsize=8, loc="left", pad=2)
            ax.axis("off")
    return figure
