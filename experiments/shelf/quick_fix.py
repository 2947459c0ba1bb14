"""DiffQuickFix: one class turned into another by a closed-form change of matrices, and why one matrix is not enough.

The claim: what a concept does lies in few layers, and a closed form edits it there. In the shipped model of garments
class c and time t enter every block as W k, with the key k = silu(e_t + e_c). To draw Bags where Trousers are requested
and all else as before, W' = (λ W + Σ v kᵀ)(λ I + Σ k kᵀ)⁻¹ with v = W k_Bag for the key of Trouser, v = W k for others.
At one t the eleven keys are independent and the edit is exact. But the silu ties class and time: the keys of all times
fill 116 directions, and an edit fitted on twenty times misses by .03 of its size in between. The edit at one t misses
by a third at others; images show neither. Replacing a row of the table of classes is exact. At high noise one block
told the class, the last on the way down, restores two fifths of it. What does not carry over: texts as keys.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import ddpm
from ddpm import data, plot
from ddpm.classifiers import classifier
from ddpm.networks.dit import build, eps_fn
from ddpm.sample import Sampling, images
from experiments.lab.runner import Result, Row

PAPER = "Basu et al. 2024, Localizing and Editing Knowledge in Text-to-Image Generative Models (DiffQuickFix)"
MINUTES = 1.5
FROM, TO = 1, 8  # Trouser becomes Bag


@dataclass(frozen=True)
class Config:
    """Images of each kind, DDIM steps, times of the tracing."""

    n: int = 60
    steps: int = 20
    traced: tuple[int, ...] = (100, 300, 500, 700, 900)
    seed: int = 0


QUICK = {"n": 10, "steps": 4, "traced": (500,)}


def keys(m: Any, times: np.ndarray) -> np.ndarray:
    """silu(e_t + e_c) of each t and class, and of none: (times, 11, 128), in float64"""
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), m.params["time_embedding"])
    silu = lambda a: a / (1 + np.exp(-a))  # noqa: E731
    half = m.unet.channels // 2
    angle = times[:, None] * 1e4 ** (-np.arange(half) / (half - m.unet.time_shift))
    h = np.concatenate([np.sin(angle), np.cos(angle)], 1) @ p["linear_1"]["kernel"] + p["linear_1"]["bias"]
    e_t = silu(h) @ p["linear_2"]["kernel"] + p["linear_2"]["bias"]
    return silu(e_t[:, None] + np.asarray(m.params["class_embedding"], np.float64))


def with_blocks(params: dict, part: str, change: Any) -> dict:
    """Apply change(i, array) to the `kernel` or `bias` of the class projection of each block i."""
    number, name, show = itertools.count(), f"['time_emb_proj']['{part}']", jax.tree_util.keystr
    change_one = lambda path, a: change(next(number), a) if show(path).endswith(name) else a  # noqa: E731
    return jax.tree_util.tree_map_with_path(change_one, params)


def edited(W: np.ndarray, k: np.ndarray, ridge: float = 1e-6) -> np.ndarray:
    """W', (128, outputs), for keys k (times, 11, 128): Trouser gets the value of Bag, the others keep theirs."""
    v = k @ W
    v[:, FROM] = v[:, TO]
    k, v = k.reshape(-1, len(W)), v.reshape(-1, W.shape[1])
    return np.linalg.solve(k.T @ k + ridge * np.eye(len(W)), k.T @ v + ridge * W)


def run(config: Config) -> Result:
    """Edit at one t and over all; measure the rest, what is drawn, and what each block alone restores."""
    m, kernels, rows = ddpm.load_model("fashion_mnist"), list[np.ndarray](), list[Row]()
    with_blocks(m.params, "kernel", lambda _, W: [W, kernels.append(np.asarray(W, np.float64))][0])  # type: ignore
    W = np.concatenate(kernels, 1)  # of all blocks
    grid = np.linspace(1, m.schedule.T, 20)
    one, many, other = (keys(m, t) for t in (np.array([300]), grid.round(), ((grid[1:] + grid[:-1]) / 2).round()))
    at_one, over_all = edited(W, one), edited(W, many)
    names = ("at t = 300, there", "at t = 300, at other t", "over all, there", "over all, in between")
    for name, new, k in zip(names, (at_one, at_one, over_all, over_all), (one, other, many, other), strict=True):
        size, others = (((k[:, TO] - k[:, FROM]) @ W) ** 2).sum(), np.delete(k, FROM, 1)
        miss, drift = ((k[:, FROM] @ new - k[:, TO] @ W) ** 2).sum(), ((others @ (new - W)) ** 2).sum() / 10
        exact: dict = {"exact": 0.0, "within": 1e-4, "near": 1.0} if len(k) == 1 else {}
        rows.append(Row(f"edit {name}: error over the edit's size", ours=float(np.sqrt(miss / size)), **exact))
        rows.append(Row(f"edit {name}: drift of the other classes", ours=float(np.sqrt(drift / size)), **exact))
    singular = np.linalg.svd(keys(m, np.arange(1, 1001)).reshape(-1, 128), compute_uv=False)
    rows.append(Row("rank of all 11,000 keys, of 128", ours=float((singular > 1e-3 * singular[0]).sum())))
    drawn, shown = draw(m, config, {"edit at t = 300": at_one, "edit over all": over_all})
    share = np.array(traced(m, config, kernels))
    rows += [*drawn, Row("share restored with all blocks told", None, 1.0, float(share[:, -1].mean()), within=1e-3)]
    return Result(rows, None, {"traced": config.traced, "share": share[:, :-1], "shown": shown})


def draw(m: Any, config: Config, edits: dict[str, np.ndarray]) -> tuple[list[Row], dict]:
    """Draw Trousers and the other classes with each model; the shipped classifier judges."""
    judge, table = classifier.load("fashion_mnist"), m.params["class_embedding"]
    ways = {"as shipped": m.params, "row replaced": m.params | {"class_embedding": table.at[FROM].set(table[TO])}}
    for name, new in edits.items():
        parts = iter(new.T)  # the outputs of one block after the other
        ways[name] = with_blocks(m.params, "kernel", lambda _, W: jnp.asarray([next(parts) for _ in W.T]).T)  # noqa: B023
    each, rows, shown, how = -(-config.n // 9), list[Row](), {}, Sampling(steps=config.steps, guidance=2.0)
    labels = np.r_[np.full(config.n, FROM), np.delete(np.arange(10), FROM).repeat(each)]
    shape, key = (len(labels), *m.image_shape), jax.random.key(config.seed)
    for name, params in ways.items():
        x = np.asarray(images(eps_fn(m.unet, params), m.schedule, key, shape, labels, how))
        right = judge.predict(data.to_uint8(x)) == np.where(labels == FROM, TO, labels)
        for what, r in (("Trouser requested, Bag drawn", right[: config.n]), ("other classes", right[config.n :])):
            rows.append(Row(f"{name}: {what}", ours=float(r.mean()), spread=float(r.std() / np.sqrt(len(r)))))
        shown[name] = plot.grid(x[np.r_[:4, config.n : len(labels) : each]], 13)[..., 0]
    return rows, shown


def traced(m: Any, config: Config, kernels: list[np.ndarray]) -> list[list[float]]:
    """The share of ε̂_c - ε̂_∅ that each block alone restores, and all, by t: the class enters by a bias."""
    apply, x = jax.jit(build(m.unet)[1]), jax.random.normal(jax.random.key(1), (10, *m.image_shape))
    share, none = [], jnp.full(10, 10)
    for t in config.traced:
        k, at, total = keys(m, np.array([t]))[0], jnp.full(10, t), np.zeros(len(kernels) + 1)
        for c in (0, 1, 5, 8):
            bias = [jnp.asarray((k[c] - k[-1]) @ W, jnp.float32) for W in kernels]
            before = apply(m.params, x, at, none)
            gap = apply(m.params, x, at, jnp.full(10, c)) - before
            for n in range(len(total)):  # block n, and in the end all
                told = with_blocks(m.params, "bias", lambda i, b: b + bias[i] * (n in (i, len(bias))))  # noqa: B023
                total[n] += float(((apply(told, x, at, none) - before) * gap).sum() / (gap * gap).sum()) / 4
        share.append(total.tolist())
    return share


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw what each model makes, and the share of each block."""
    with plot.style():
        figure = plot.new_figure(9.6, 2.9)
        left, right = figure.subfigures(1, 2, width_ratios=(1.25, 1))  # type: ignore[misc]
        for ax, (name, grid) in zip(left.subplots(4, 1), numbers["shown"].items(), strict=True):
            ax.imshow(np.array(grid), cmap="gray")
            ax.set_title(f"{name}: Trouser four times, then the other classes", fontsize=7, loc="left", pad=2)
            ax.axis("off")
        figure.colorbar(
            (ax := right.subplots()).imshow(
                np.array(numbers["share"]), cmap="RdBu", vmin=-0.5, vmax=0.5, aspect="auto"
            ),
            ax=ax,
        )
        ax.set(xlabel="block, from the input to the output", xticks=range(12), yticks=range(len(numbers["traced"])))
        ax.set(yticklabels=numbers["traced"], ylabel="t", title="share restored by one block", xticklabels=range(1, 13))
    return figure
