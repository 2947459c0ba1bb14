"""Sheaf diffusion: the heat equation on a graph ends in the mean, and with signs on the edges in the two sides.

The claim: the heat equation on a graph, which deep graph networks resemble, makes all nodes alike, so that classes are
lost; with maps on the edges (a sheaf) it need not. dx/dt = -L x ends in the projection of x onto the kernel of L, at
the rate of the smallest other eigenvalue. If every map is 1, the kernel of a connected graph is the constant: the mean.
If an edge between unlike nodes carries the map -1, then L = D - (signed A), and the kernel of a graph with two sides
and such edges is ±1: the sides are told apart by the sign of a single number, however long one diffuses. If a share of
the signs is wrong there is no kernel: everything decays, and the sides are told apart for a while only, until the
features are below the error with which they are read, here .001. It is not the diffusion of this library: no noise,
nothing is drawn. What does not carry over: the paper learns the maps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from ddpm import plot
from experiments.lab.runner import Result, Row

PAPER = "Bodnar et al. 2022, Neural Sheaf Diffusion"
MINUTES = 0.1


@dataclass(frozen=True)
class Config:
    """Nodes of each side, edges of a node, graphs, and shares of wrong signs."""

    side: int = 30
    degree: int = 4
    graphs: int = 20
    wrong: tuple[float, ...] = (0.0, 0.1)
    seed: int = 0


QUICK = {"graphs": 4}
TIMES = (0.0, 0.3, 1.0, 3.0, 10.0, 100.0)


def run(config: Config) -> Result:
    """Diffuse random features with trivial maps and with signs; measure end, rate and accuracy of the sides."""
    rng, rows, n = np.random.default_rng(config.seed), list[Row](), 2 * config.side
    side = np.repeat([1.0, -1.0], config.side)
    curves: dict[str, np.ndarray] = {}
    for name, wrong in (("trivial maps", None), *((f"signs, {w:g} of them wrong", w) for w in config.wrong)):
        accuracy, end, rate = np.zeros((config.graphs, len(TIMES))), [], []
        for g in range(config.graphs):
            A = np.zeros((n, n))
            for i in range(config.side):  # a ring through both sides keeps it connected, and edges between the sides
                A[i, config.side + i] = A[(i + 1) % config.side, config.side + i] = 1
                A[i, config.side + rng.choice(config.side, config.degree - 2, replace=False)] = 1
            A = np.maximum(A, A.T)
            sign = np.ones_like(A)
            if wrong is not None:
                flip = np.triu(rng.random(A.shape) < wrong)
                sign = np.where(flip | flip.T, 1.0, -1.0)
            L = np.diag(A.sum(1)) - sign * A
            x = 0.5 * side + rng.normal(size=n) + 1.0  # weak features, and a common part
            lam, U = np.linalg.eigh(L)
            for j, t in enumerate(TIMES):
                x_t = U @ (np.exp(-lam * t) * (U.T @ x))
                guess = np.sign(x_t - (x_t.mean() if wrong is None else 0))
                same = float((guess == side).mean())
                accuracy[g, j] = max(same, 1 - same) if np.abs(x_t - x_t.mean()).max() > 1e-3 else 0.5
            # The end, by small Euler steps: the mean, or the mean along ±1
            y, late = x.copy(), list[np.ndarray]()
            for k in range(6000):
                y = y - 0.1 * L @ y
                late.append(y) if k in (299, 309) else None
            kernel = np.ones(n) if wrong is None else side
            exact = kernel * (kernel @ x) / n if not wrong else np.zeros(n)
            end.append(float(np.abs(y - exact).max()))
            shrinks = (np.linalg.norm(late[1] - exact) / np.linalg.norm(late[0] - exact)) ** 0.1  # 1 - .1 λ of a step
            rate.append(float((1 - shrinks) / 0.1 / lam[lam > 1e-9][0]))
        within = 1e-3 if wrong else 1e-6
        rows.append(
            Row(f"{name}: largest distance from the end, by Euler steps", None, 0.0, max(end), within=within, near=1)
        )
        rows.append(
            Row(f"{name}: rate over the smallest eigenvalue above 0", None, 1.0, float(np.mean(rate)), within=0.02)
        )
        if wrong == 0:
            rows.append(Row(f"{name}: accuracy in the end", None, 1.0, float(accuracy[:, -1].mean()), within=0.0))
        else:
            rows.append(Row(f"{name}: accuracy in the end", ours=float(accuracy[:, -1].mean())))
        curves[name] = accuracy.mean(0)
    return Result(rows, None, {"times": TIMES, "curves": curves})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the accuracy of the sides by the time of diffusion."""
    with plot.style():
        figure = plot.new_figure(5.6, 2.9)
        ax = figure.subplots()
        for name, y in numbers["curves"].items():
            ax.plot(range(len(y)), y, "o-", ms=4, label=name)
        ax.set_xticks(range(len(numbers["times"])), [f"{t:g}" for t in numbers["times"]])
        ax.set(xlabel="time of diffusion", ylabel="accuracy of the sides", ylim=(0.45, 1.03))
        ax.legend(fontsize=8)
    return figure
