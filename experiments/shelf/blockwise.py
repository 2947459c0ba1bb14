"""ACDiT: blocks one after the other, diffusion inside each: the same distribution for every size, at another price.

The claim: between a transformer that draws a sequence token by token and one that denoises all of it there is one that
denoises block after block, each given the clean ones before. A mask lets the noisy block i see itself and the clean
blocks before it, so that keys of clean blocks are computed once and kept. On a Gaussian sequence, an AR(1) of sixteen
numbers with correlation .9, the denoiser of a block given those before is exact, and sampling is affine.

What we see: with many steps a block every size draws the distribution of the sequence. At the same number of calls the
longest block is the best by far: with 16 calls blocks of one number have one step each, which draws no noise at all. At
the same work, when a call costs as many numbers as its block has, the sizes are alike, within a factor of three at 16
steps a block. So what short blocks buy is not accuracy of sampling. With the mask the prediction of a block does not
change in a bit when later clean blocks do, and kept keys give what computing all of them anew gives. What does not
carry over: a short block is easier to learn, and a call of a short block does not cost less on a machine that waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import oracle, plot
from ddpm.oracles import eps_by_place, together
from ddpm.sample import walk
from ddpm.samplers import place_step
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Hu et al. 2024, ACDiT: interpolating autoregressive conditional modeling and diffusion transformer"
MINUTES = 0.4
RHO, LENGTH = 0.9, 16
COV = RHO ** np.abs(np.subtract.outer(np.arange(LENGTH), np.arange(LENGTH)))
ALPHA_BAR = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])


@dataclass(frozen=True)
class Config:
    """Sizes of the blocks, calls in all, and steps a block in the limit."""

    sizes: tuple[int, ...] = (1, 2, 4, 8, 16)
    calls: tuple[int, ...] = (16, 32, 64, 256)
    many: int = 400


QUICK = {"sizes": (4, 16), "calls": (16,), "many": 100}


def drawn(size: int, steps: int) -> np.ndarray:
    """M with x = M ε after so many steps of the library in each block"""
    schedule, times = linear(), make_times(1000, steps)
    x = jnp.eye(LENGTH)  # the noises, one a row
    for end in range(size, LENGTH + 1, size):
        before = end - size
        eps = eps_by_place(oracle.gaussian(np.zeros(end), COV[:end, :end]), schedule)
        table = together((0, before), (times, size)) if before else together((times, size))
        part = walk(place_step(eps, schedule, table), jax.random.key(0), x[:, :end], np.arange(steps, -1, -1))
        x = x.at[:, :end].set(part)
    return np.asarray(x).T


def exact(size: int, steps: int) -> np.ndarray:
    """The same M in NumPy: x_b = μ + U g Uᵀ (ε - √ᾱ_T μ), μ = E[x_b | before], g DDIM's gains in the eigenbasis"""
    M, times = np.zeros((LENGTH, LENGTH)), np.append(np.round(1000 - np.arange(steps) * 1000 / steps).astype(int), 0)
    for b in range(0, LENGTH, size):
        now, old = slice(b, b + size), slice(0, b)
        K = np.linalg.solve(COV[old, old], COV[old, now]).T
        lam, U = np.linalg.eigh(COV[now, now] - K @ COV[old, now])
        gain = np.ones(size)
        for t, s in pairwise(times):
            a, c = ALPHA_BAR[t], ALPHA_BAR[s]
            slope = np.sqrt(1 - a) / (a * lam + 1 - a)
            gain *= np.sqrt(c / a) * (1 - np.sqrt(1 - a) * slope) + np.sqrt(1 - c) * slope
        G, mean = U * gain @ U.T, K @ M[old]
        M[now] = mean + G @ (np.eye(LENGTH)[now] - np.sqrt(ALPHA_BAR[1000]) * mean)
    return M


def distance(M: np.ndarray) -> float:
    """W₂² between N(0, M Mᵀ) and the sequence, a number"""
    root = np.linalg.cholesky(COV)
    return float((np.trace(M @ M.T) + LENGTH - 2 * np.linalg.svd(root.T @ M, compute_uv=False).sum()) / LENGTH)


def attention() -> dict[str, float]:
    """Two masked layers with random weights: does a later clean block, or a kept key, change a prediction?"""
    B, n, D, rng = 4, 2, 16, np.random.default_rng(0)
    W = jnp.asarray(rng.normal(size=(2, 3, D, D)) / np.sqrt(D), jnp.float32)
    clean, noisy, new = (jnp.asarray(rng.normal(size=(B, n, D)), jnp.float32) for _ in range(3))

    def block(h: jax.Array, cache: list[tuple[list, list]], keep: bool) -> jax.Array:
        """Attention of one block to itself and to the clean blocks whose keys and values are in the cache"""
        for w, (keys, values) in zip(W, cache, strict=True):
            q, k, v = h @ w[0], h @ w[1], h @ w[2]
            h = h + jax.nn.softmax(q @ jnp.concatenate([*keys, k]).T / np.sqrt(D)) @ jnp.concatenate([*values, v])
            for kept, new in ((keys, k), (values, v)) if keep else ():
                kept.append(new)
        return h

    def predict(clean: jax.Array, kept: bool) -> list[jax.Array]:
        out, cache = list[jax.Array](), list[tuple[list, list]]()
        for i in range(B):
            cache = cache if kept and i else [([], []) for _ in W]
            for j in range(max(i - 1, 0) if kept else 0, i):  # the clean blocks that are not in it yet
                block(clean[j], cache, True)
            out.append(block(noisy[i], cache, False))
        return out

    whole, cached, changed = predict(clean, False), predict(clean, True), predict(clean.at[2:].set(new[2:]), False)
    kept, gap = ([float(jnp.abs(a - b).max()) for a, b in zip(whole, c, strict=True)] for c in (cached, changed))
    return {"kept keys for new ones": max(kept), "other clean blocks from the third: blocks 1 to 3": max(gap[:3])}


def run(config: Config) -> Result:
    """Draw by blocks of each size, with many and with few calls; and try the mask."""
    rows, curves = list[Row](), dict[str, list[tuple]]()
    with float64():
        for size in config.sizes:
            M = exact(size, config.many)
            what, far = f"blocks of {size}, {config.many} steps each: error", float(np.abs(M @ M.T - COV).max())
            rows.append(Row(f"{what} of a covariance, the largest", None, 0.0, far, None, 20 / config.many, 1.0))
            for calls in config.calls:
                steps = calls * size // LENGTH
                true, what = distance(exact(size, steps)), f"{calls} calls, blocks of {size}: W₂² a number"
                ours = distance(drawn(size, steps)) if calls == config.calls[0] and size > 1 else None
                rows.append(Row(what, None, true, ours, None, 1e-6, 1e-3))
                curves.setdefault(f"{calls} calls in all", []).append((size, true))
            for steps in (4, 16):
                curves.setdefault(f"{steps} steps a block", []).append((size, distance(exact(size, steps))))
    rows += [Row(f"change of a prediction, {k}", None, 0.0, v, None, 1e-5, 1.0) for k, v in attention().items()]
    return Result(rows, None, {"curves": curves})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the distance by the size of the blocks, for each number of calls."""
    with plot.style():
        figure = plot.new_figure(8.2, 3.0)
        left, right = figure.subplots(1, 2, sharey=True)
        for name, found in numbers["curves"].items():
            (left if "calls" in name else right).semilogy(*np.array(found).T, "o-", label=name)
        left.set_ylabel("W₂² from the sequence, a number")
        for ax, title in ((left, "the same calls"), (right, "the same work")):
            ax.set_xscale("log", base=2)
            ax.xaxis.set_major_formatter("{x:g}")
            ax.set(xlabel="numbers a block", title=title)
            ax.legend(fontsize=8)
    return figure
