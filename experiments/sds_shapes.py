"""Score distillation into opaque shapes: the shipped network of views compared with the exact denoisers.

DreamFusion makes a volume of a denoiser of pictures: render it, ask the denoiser how the picture should change, and
bring that back through the renderer. In the world `blocks` both halves can be judged. A voxel has an opacity and a
grey; along a ray each voxel hides what is behind it, and where all opacities are 0 or 1 the picture is that of `blocks`
itself. The best denoiser of each of the five views is known, and the shipped network is one for all views, which is not
told from where it looks. Four shapes, one for each style, begin as the same thin fog. The times fall from stage to
stage: large ones first, which know the layout, and small ones last, which know the parts. At the end each cell of each
view is compared with the tiles that a shape can show there. Exact: SDS with the best denoisers. Ours: with the network,
from the same fog and the same noises.

What we see: with the exact denoisers all sides show possible tiles, .001 of grey from them, and all four styles end as
nearly the same tower. SDS looks for a mode, and parts of a style are rare; it is no sampler of shapes. From above the
end is a table and no tower, .21 from every tile that a tower has there. Each view has its own denoiser, and what should
join them is the volume; but only 4 % of its voxels are more solid than empty, where shapes have 30 %, and a thin skin
can please all views. With the network the sides are a bare tower too, .05 from possible tiles, and from above the shape
looks as from the side, .03 from that picture: the network is not told the view, and draws the same front everywhere.
That is the Janus problem of `sds_voxels`, by a trained denoiser.

What does not carry over: one start; opaque bodies of a real system have a cost of thin voxels, which this has not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from ddpm import distillation, plot, weights
from ddpm.contracts import Partial
from ddpm.datasets import blocks
from ddpm.schedule import Schedule, make_schedule
from ddpm.zoo import model
from experiments.lab.runner import Result, Row, Unavailable

PAPER = "Poole et al. 2023, DreamFusion"
MINUTES = 2
UNCHECKED = "The exact column is SDS with the exact denoisers; what the network makes is compared with it."
V, SIDE = len(blocks.VIEWS), blocks.SIZE


@dataclass(frozen=True)
class Config:
    """The network, the largest t/T of each stage, steps of a stage, Adam's rate, and the seed."""

    model: str = "blocks"  # shipped weights; empty: the exact column alone
    tops: tuple[float, ...] = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
    steps: int = 100
    rate: float = 0.05
    seed: int = 0


QUICK = {"model": "", "tops": (0.7, 0.3), "steps": 4}


# --- the renderer -----------------------------------------------------------------------------------------------------


def shown(opacity: Any, grey: Any, view: str) -> Any:
    """Σ_k α_k g_k .93^k Π_(j<k) (1 - α_j) along each ray: (..., 24, 24) in 0…1.   opacity, grey: (..., x, y, z)"""
    a, g = (blocks.turned(v, view) for v in (opacity, grey))
    before = jnp.concatenate([jnp.ones_like(a[..., :1]), jnp.cumprod(1 - a, axis=-1)[..., :-1]], axis=-1)
    fade = (blocks.FADE ** jnp.arange(a.shape[-1])).reshape((1,) * (a.ndim - 1) + (-1,))
    return (a * g * before * fade).sum(-1)


def pictures(psi: dict) -> jax.Array:
    """All views of n shapes, in [-1, 1]: (5 n, 24, 24, 1), the views of one shape after each other."""
    opacity, grey = jax.nn.sigmoid(psi["opacity"]), jax.nn.sigmoid(psi["grey"])
    x = jnp.stack([shown(opacity, grey, view) for view in blocks.VIEWS], axis=1)
    return 2 * x.reshape(-1, SIDE, SIDE, 1) - 1


# --- distillation -----------------------------------------------------------------------------------------------------


def of_views(parts: list, x_t: jax.Array, t: jax.Array, c: jax.Array) -> jax.Array:
    """ε* of pictures whose views take turns, each by its own denoiser."""
    out = [eps(x_t[i::V], t[i::V], c[i::V]) for i, eps in enumerate(parts)]
    return jnp.stack(out, axis=1).reshape(x_t.shape)


@partial(jax.jit, static_argnums=3)
def stage(psi: dict, key: jax.Array, gradient: Any, steps: int, rate: Any) -> dict:
    """So many steps of Adam with its usual averages."""
    adam = optax.scale_by_adam()

    def step(now: tuple, i: jax.Array) -> tuple[tuple, None]:
        psi, state = now
        change, state = adam.update(gradient(jax.random.fold_in(key, i), psi), state)
        return (jax.tree.map(lambda a, u: a - rate * u, psi, change), state), None

    return jax.lax.scan(step, (psi, adam.init(psi)), jnp.arange(steps))[0][0]


def distilled(eps: Any, schedule: Schedule, config: Config) -> dict:
    """A shape of each style, from fog."""
    n, key = len(blocks.CLASSES), jax.random.key(config.seed)
    psi = {"opacity": jnp.full((n, SIDE, SIDE, SIDE), -3.0), "grey": jnp.zeros((n, SIDE, SIDE, SIDE))}
    c = jnp.repeat(jnp.arange(n), V)
    for i, top in enumerate(config.tops):
        sds = distillation.sds(eps, schedule, c, t_range=(0.02, top))
        gradient = distillation.pulled_back(sds, Partial(pictures))
        psi = stage(psi, jax.random.fold_in(key, i), gradient, config.steps, config.rate)
    return psi


# --- what came out ----------------------------------------------------------------------------------------------------


def judged(x: np.ndarray) -> dict[str, float]:
    """How far the cells of the views (5 n, 24, 24, 1) are from tiles of one category, and if the views agree on it.

    The distance is the rms one of a cell to the nearest tile that its style and the category can show there, in grey.
    """
    n, gaps = len(x) // V, []
    cells = ((x[..., 0] + 1) / 2).reshape(n, V, 4, 6, 4, 6).transpose(1, 0, 2, 4, 3, 5).reshape(V, n, 16, 36)
    for of_view, view in zip(cells, blocks.VIEWS, strict=True):
        tiles, prob = blocks._columns(view, blocks.RATES)  # prob: (K, S, 16, tiles)
        gap = ((of_view[:, :, None] - tiles.reshape(len(tiles), -1) / 255) ** 2).mean(-1)  # (n, 16, tiles)
        possible = np.where(prob[np.arange(n)] > 0, gap[:, None], np.inf).min(-1)  # (n, S, 16)
        gaps.append(possible.mean(-1))
    by_view = np.stack(gaps, 1)  # (n, V, S)
    of_shape = by_view.mean(1).argmin(-1)  # the category that explains all views best
    rms = np.sqrt(by_view[np.arange(n), :, of_shape].mean(0))
    apart = x.reshape(n, V, SIDE, SIDE)[:, [V - 1, 0]] / 2  # in grey
    return {
        "rms distance of a cell to a possible tile, sides": float(rms[:-1].mean()),
        "rms distance of a cell to a possible tile, from above": float(rms[-1]),
        "views that show its category best": float((by_view.argmin(-1) == of_shape[:, None]).mean()),
        "rms distance of the view from above to one from the side": float(
            np.sqrt(((apart[:, 0] - apart[:, 1]) ** 2).mean())
        ),
    }


def network(config: Config) -> Any:
    """The shipped network, or None without one."""
    if not config.model:
        return None
    if config.model not in weights.cards("denoiser") and not Path(config.model).exists():
        raise Unavailable(f"the weights {config.model!r} are not here; train them with `ddpm train --data blocks`")
    return model.load(config.model)


def run(config: Config) -> Result:
    """Distil with the exact denoisers and with the network, and compare what the views show."""
    data = blocks.draw(8, config.seed)
    volume = blocks.volumes(data.content)
    drawn = [np.asarray(shown(jnp.asarray(volume > 0, float), volume, view)) for view in blocks.VIEWS]
    off = [np.abs(255 * x - blocks.render(volume, view)).max() for x, view in zip(drawn, blocks.VIEWS, strict=True)]
    what = "opacities 0 and 1: the renderer less that of `blocks`, in levels of grey (rounding: ½)"
    rows = [Row(what, None, 0.0, float(max(off)), None, 0.51, 1.0)]
    schedule, m = make_schedule("cosine"), network(config)
    exact = Partial(of_views, [blocks.distribution(view).eps(schedule) for view in blocks.VIEWS])
    ends: dict[str, Any] = {"exact": distilled(exact, schedule, config)}
    if m is not None:
        ends["network"] = distilled(m.eps, m.schedule, config)
    fog = distilled(exact, schedule, Config(tops=()))
    views = {name: np.asarray(pictures(psi)) for name, psi in ends.items()}
    found = {name: judged(x) for name, x in views.items()}
    real = judged(data.views()[:4].reshape(-1, SIDE, SIDE, 1) / 127.5 - 1)
    for what in found["exact"]:
        rows.append(Row(f"shapes of the data: {what}", None, real[what], None))
        rows.append(Row(f"fog: {what}", None, None, judged(np.asarray(pictures(fog)))[what]))
        rows.append(Row(f"SDS: {what}", None, found["exact"][what], found.get("network", {}).get(what)))
    for name, psi in ends.items():
        solid = float((jax.nn.sigmoid(psi["opacity"]) > 0.5).mean())
        rows.append(Row(f"{name}: voxels that are more solid than empty", None, None, solid))
    rows.append(Row("the data: voxels that are filled", None, None, float((volume > 0).mean())))
    kept = {name: np.round((x[..., 0] + 1) * 127.5).clip(0, 255).astype(np.uint8) for name, x in views.items()}
    return Result(rows, None, {"views": kept, "data": data.views()[:4].reshape(-1, SIDE, SIDE)})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the five views of a shape of each style: the data, SDS with the exact denoisers, and with the network."""
    groups = {"shapes of the data": numbers["data"], **{f"SDS, {k}": v for k, v in numbers["views"].items()}}
    with plot.style():
        figure = plot.new_figure(3.6 * len(groups), 3.2)
        axes = figure.subplots(1, len(groups), squeeze=False)[0]
        for ax, (name, x) in zip(axes, groups.items(), strict=True):
            images = np.asarray(x, np.float32)[..., None] / 127.5 - 1
            ax.imshow(plot.grid(images, V).squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            ax.set_title(name, fontsize=9)
            step = SIDE + 2
            ax.set_xticks([2 + step * (i + 0.5) for i in range(V)], blocks.VIEWS, fontsize=8)
            ax.set_yticks([2 + step * (i + 0.5) for i in range(4)], blocks.CLASSES, fontsize=8)
            ax.tick_params(length=0)
            ax.spines[:].set_visible(False)
    return figure
