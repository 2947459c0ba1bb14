"""ProSpect: a late condition is obeyed at any τ, and how much of the layout stays depends on the attribute.

The claim: give each stage of the noise its own prompt, and layout and material can be set apart, since each is made at
another stage. In the drawn towns the denoiser is exact, so what a stage decides is no property of a network. One
condition is given above a time τ and another below it: first the night and then noon, or first one town and then
another. The last condition is always obeyed, even where the light was settled long before: given noon, a picture by
night has the probability 0, whatever x_t shows. But a late change of light costs the layout: below τ = 100 one cell of
seven keeps the tile that the first condition alone would give, because a night that must be a noon is read as other
tiles; from one noise, by noon and by night, it is three of four. A change of town leaves seven of eight cells at any τ;
below 200 it is obeyed by halves: the old ornaments go and no new ones come. So layout and town can be set apart by
stages, layout and light cannot. What does not carry over: a network has no zeros; it weighs what it sees against its
condition.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import plot
from ddpm.datasets import world
from ddpm.guides import given, interval
from ddpm.oracles import Known
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row

PAPER = "Zhang et al. 2023, ProSpect"
MINUTES = 1
LIGHT, TOWN = (2, 0), (1, 2)  # night, then noon; Brevik, then Corvo


@dataclass(frozen=True)
class Config:
    """Images, DDIM steps, and the times of the change."""

    n: int = 128
    steps: int = 50
    changes: tuple[int, ...] = (0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000)
    seed: int = 0


QUICK = {"n": 8, "steps": 20, "changes": (0, 300, 1000)}


def run(config: Config) -> Result:
    """Measure how many images show the second condition, by the time at which it begins."""
    schedule, towns = linear(), world.distribution()
    eps, times = towns.eps(schedule), make_times(1000, config.steps)
    x_T = jax.random.normal(jax.random.key(config.seed), (config.n, world.SIZE, world.SIZE, 1))

    def draw(first: Known, second: Known, change: int) -> jax.Array:
        parts = [given(eps, jax.tree.map(jnp.asarray, c)) for c in (first, second)]
        both = interval(guided=parts[0], eps=parts[1], low=change, high=1000) if 0 < change < 1000 else None
        return walk(ddim_step(both or parts[change == 1000], schedule), jax.random.key(0), x_T, times)

    def shows(x: jax.Array) -> tuple[np.ndarray, ...]:
        answer = towns.answer(schedule, x, 1)  # p(light), p(town), and the tile of each cell
        return tuple(map(np.asarray, (answer.light_posterior, answer.class_posterior, answer.tile_posterior.argmax(2))))

    rows: list[Row] = []
    curves: dict[str, list[float]] = {name: [] for name in ("light", "town", "light: layout", "town: layout")}
    first_tiles = np.zeros(0)
    for name, (first, second), part in (("light", LIGHT, 0), ("town", TOWN, 1)):
        field = "light" if part == 0 else "label"
        for change in config.changes:
            x = draw(Known(**{field: first}), Known(**{field: second}), change)
            shown = shows(x)
            p = shown[part]
            each = p[:, second] / (p[:, first] + p[:, second])
            share, se = float(each.mean()), float(each.std(ddof=1) / np.sqrt(config.n))
            # One condition throughout: obeyed, but a town without an ornament in its eight floor cells could be either
            missed = 0.0 if part == 0 else 0.5 * (1 - sum(world.RATES)) ** 8
            end = {0: missed, 1000: 1 - missed}.get(change)
            close = None if end is None else 0.02 + 4.5 * se
            rows.append(
                Row(f"{name}, change at {change}: shows the second", None, end, share, se, within=close, near=1.0)
            )
            curves[name].append(share)
            first_tiles = shown[2] if change == min(config.changes) else first_tiles
            kept = (shown[2] == first_tiles).mean(1)
            what = f"{name}, change at {change}: share of cells with the tile of the first condition alone"
            rows.append(Row(what, None, None, float(kept.mean()), float(kept.std(ddof=1) / np.sqrt(config.n))))
            curves[f"{name}: layout"].append(float(kept.mean()))
    # Both at once: Brevik by night above, Corvo at noon below
    x = draw(Known(label=TOWN[0], light=LIGHT[0]), Known(label=TOWN[1], light=LIGHT[1]), 300)
    light, town, _ = shows(x)
    rows.append(Row("both change at 300: shows the second light", None, None, float(light[:, LIGHT[1]].mean())))
    rows.append(Row("both change at 300: shows the second town", None, None, float(town[:, TOWN[1]].mean())))
    rows.append(Row("images", None, None, float(config.n)))
    picks = [0, 100, 400, 1000]
    images = {f"light, τ = {c}": draw(Known(light=LIGHT[0]), Known(light=LIGHT[1]), c)[:4] for c in picks}
    grids = {name: np.asarray(some)[..., 0] for name, some in images.items()}
    return Result(rows, picture(config, curves, grids), {"changes": config.changes, "curves": curves})


def picture(config: Config, curves: dict[str, list[float]], shown: dict[str, np.ndarray]) -> Figure:
    """Draw the share of the second condition by the time of the change, and some images."""
    with plot.style():
        figure = plot.new_figure(9.6, 3.2)
        left, right = figure.subfigures(1, 2, width_ratios=(1, 1.1))  # type: ignore[misc]
        ax = left.subplots()
        for name, label in (("light", "shows the second light"), ("town", "shows the second town")):
            ax.plot(config.changes, curves[name], "o-", label=label)
        for name in ("light", "town"):
            ax.plot(config.changes, curves[f"{name}: layout"], "s--", label=f"cells kept, {name} changed")
        ax.set(xlabel="τ, below which the second condition holds", ylabel="share", ylim=(-0.03, 1.05))
        ax.legend(fontsize=6.5, loc="lower right", bbox_to_anchor=(1, 0.08))
        axes = right.subplots(len(shown), 4)
        for line, (name, images) in zip(axes, shown.items(), strict=True):
            for panel, image in zip(line, images, strict=True):
                panel.imshow(image, cmap="gray", vmin=-1, vmax=1)
                panel.axis("off")
            line[0].set_title(name, fontsize=7, loc="left")
    return figure
