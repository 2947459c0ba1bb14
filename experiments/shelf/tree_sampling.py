"""Diffusion Tree Sampling: rewards backed up through a tree, and why the tree must not follow them while it grows.

The claim: a rollout goes down the tree, at a node with few children it draws a new one and walks on to x0, and the
reward is backed up. A node with N visits has at most 2 N^α children; v(x_t) is log mean e^v over them, and one is
chosen ∝ e^v. In the limit a walk down the tree draws from p(x0) e^r(x0)/Z. Data, reward and target are those of SVDD:
Gaussians at ±1, and 3 for x > 1.2; steps are exact. What we see: the rule is biased, and more rollouts do not help. A
branch that was unlucky once is rarely visited again and keeps its low value, so e^v(root) falls to half of Z. If the
tree grows evenly, and values count in the end only, e^v is unbiased, and samples are as good as one of N whole chains,
kept ∝ e^r, at the same calls. What does not carry over: rewards hard to reach, where an even choice wastes its calls.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import norm

from ddpm import oracle, plot
from ddpm.samplers import exact_step
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row

PAPER = "Jain et al. 2025, Diffusion Tree Sampling (FID at 10⁶ calls: .014, .007 and .195 on three data sets)"
MINUTES = 1
UNCHECKED = "The exact column is the target; that the rule, few rollouts and the greedy choice miss it is the finding."
LEVEL, REWARD, SIGMA = 1.2, 3.0, 0.5
WAYS = {"by value, α = .5": (0.5, True), "by value, α = .8": (0.8, True), "evenly, α = .5": (0.5, False)}


@dataclass(frozen=True)
class Config:
    """Trees, levels of a tree, and rollouts."""

    trees: int = 200
    levels: int = 8
    rollouts: tuple[int, ...] = (1, 4, 16, 64, 256)
    seed: int = 0


QUICK = {"trees": 60, "levels": 4, "rollouts": (1, 16)}


class Node:  # a noisy image with its visits, value and children; the root is no image
    def __init__(self, x: float = 0.0):
        self.x, self.visits, self.value, self.children = x, 0, 0.0, list[Node]()


def descend(root: Node, levels: int, alpha: float, by_value: bool, rng: random.Random) -> list[Node]:
    """The path to the node that gets a new child, the first with fewer children than 2 N^α; or to a leaf."""
    path = [root]
    while len(path) <= levels and len((node := path[-1]).children) >= max(1, math.floor(2 * node.visits**alpha)):
        weight = [math.exp(child.value) for child in node.children]
        by_visits = min(node.children, key=lambda child: child.visits)
        path.append(rng.choices(node.children, weight)[0] if by_value else by_visits)
    return path


def leaves(node: Node, p: float = 1.0) -> list[tuple[float, float]]:
    """x0 and its probability where a child is chosen ∝ e^v, for all leaves."""
    total = sum(math.exp(child.value) for child in node.children)
    of = [leaf for child in node.children for leaf in leaves(child, p * math.exp(child.value) / total)]
    return of or [(node.x, p)]


def grow(config: Config, alpha: float, by_value: bool, measure: Any) -> None:
    """Grow all trees by one rollout after the other; call measure(n, roots, calls) at the numbers of interest."""
    schedule, L, rng = linear(), config.levels, random.Random(config.seed)
    times = make_times(schedule.T, L - 1)  # the root's children are x_T; then a step to each further time
    step = jax.jit(exact_step(oracle.mixture([[1.0], [-1.0]], SIGMA**2), schedule))
    roots, calls = [Node() for _ in range(config.trees)], 0
    for n in range(1, max(config.rollouts) + 1):
        paths = [descend(root, L, alpha, by_value, rng) for root in roots]
        depth = np.array([len(path) - 1 for path in paths])  # of the node that gets a child; L for a leaf
        calls += int((L - np.maximum(depth, 1)).sum())
        x, key = np.array([path[-1].x for path in paths]), jax.random.fold_in(jax.random.key(config.seed), n)
        for i in range(L):
            at = jnp.asarray(x, jnp.float32)[:, None]
            move = (jax.random.fold_in(key, i), at, int(times[i - 1]), int(times[i]))
            x = np.where(depth <= i, np.asarray(step(*move) if i else jax.random.normal(key, at.shape))[:, 0], x)
            for path, made in [(paths[j], x[j]) for j in np.flatnonzero(depth <= i)]:
                path[-1].children.append(Node(float(made)))
                path.append(path[-1].children[-1])
        for node in (node for path in paths for node in reversed(path)):
            node.visits += 1
            e_v = [math.exp(child.value) for child in node.children]  # the soft backup
            node.value = math.log(sum(e_v) / len(e_v)) if e_v else REWARD * (node.x > LEVEL)
        if n in config.rollouts:
            measure(n, roots, calls / config.trees)


def run(config: Config) -> Result:
    """Measure the mean distribution of the leaves by rollouts, and that of one of N whole chains."""
    rows, rng, curves = list[Row](), np.random.default_rng(config.seed), dict[str, list]()
    # The target in closed form: P(x > 1.2), Z, and the probabilities of 24 bins
    edges, below = np.linspace(-3, 3, 25), lambda x: 0.5 * (norm.cdf(x, 1, SIGMA) + norm.cdf(x, -1, SIGMA))
    tilted = lambda x: below(x) + np.expm1(REWARD) * np.maximum(below(x) - below(LEVEL), 0)  # noqa: E731
    Z, p = float(tilted(np.inf)), np.diff(tilted(edges)) / tilted(np.inf)
    above = 1 - float(below(LEVEL)) / Z

    def add(name: str, n: int, x: np.ndarray, weight: np.ndarray, calls: float, bias: float | None = None) -> None:
        P = (weight * (x > LEVEL)).sum(1)  # x, weight: (trees, leaves)
        tv = 0.5 * float(np.abs(np.histogram(x, edges, weights=weight / len(x))[0] - p).sum())
        what, se = f"{name}, N = {n}, {calls:.0f} calls", float(P.std() / len(P) ** 0.5)
        within = None if bias is None else bias + 4.5 * se / above
        rows.append(Row(f"{what}: P(x > 1.2)", None, above, float(P.mean()), se, within=within))
        rows.append(Row(f"{what}: total variation", ours=tv))
        curves.setdefault(name, []).append((calls, tv, float(P.mean())))

    for name, (alpha, by_value) in WAYS.items():

        def measure(n: int, roots: list[Node], calls: float, name: str = name, by_value: bool = by_value) -> None:
            found, e_v = [leaves(root) for root in roots], np.exp([root.value for root in roots])
            most = max(map(len, found))
            x, p_leaf = np.array([of + [(0.0, 0.0)] * (most - len(of)) for of in found]).transpose(2, 0, 1)
            add(f"tree, {name}", n, x, p_leaf, calls)
            se = float(e_v.std() / len(e_v) ** 0.5)
            within = None if by_value else 4.5 * se / Z
            rows.append(Row(f"tree, {name}, N = {n}: mean e^v(root)", None, Z, float(e_v.mean()), se, within=within))

        grow(config, alpha, by_value, measure)
    for n in config.rollouts:
        x = rng.choice([1.0, -1.0], (config.trees, n)) + SIGMA * rng.normal(size=(config.trees, n))
        weight, calls = np.exp(REWARD * (x > LEVEL)), n * (config.levels - 1)
        add("whole chains", n, x, weight / weight.sum(1, keepdims=True), calls, 2 / n if n > 8 else None)  # O(1/n)
        best = weight == weight.max(1, keepdims=True)
        add("best of N", n, x, best / best.sum(1, keepdims=True), calls)
    return Result(rows, None, {"curves": curves})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the total variation and P(x > 1.2) by calls."""
    with plot.style():
        figure = plot.new_figure(9.0, 2.9)
        left, right = figure.subplots(1, 2)
        for name, curve in numbers["curves"].items():
            calls, tv, above = zip(*curve, strict=True)
            left.loglog(calls, tv, "o-", ms=3, label=name)
            right.semilogx(calls, above, "o-", ms=3, label=name)
        right.axhline(rows[0]["exact"], color="0.6", lw=1, ls=":", label="target")
        for ax, label in ((left, "total variation"), (right, "P(x > 1.2)")):
            ax.set(xlabel="calls of the denoiser", ylabel=label)
        right.legend(fontsize=7)
    return figure
