"""IterComp: a reward learned from ranked pairs, maximised, and learned again where the new model draws.

The claim: several generators draw, people rank the pairs, a reward is learned from that, the model is tuned to it, and
so on; each round is better. Images here are nine cells with one of six tiles, the true reward adds up over the tiles, r
= Σ_v s_v n_v, and P(i ≻ j) = σ(r_i - r_j). Logistic regression on the difference of the counts learns s up to a
constant, which no pair can tell and no model needs. The model that maximises it without leaving the data, p e^r̂/Z, is
a product over the cells, so that its distance from p e^r/Z is exact.

What we see: KL falls like 1/n with the pairs, or faster; at 3,000 it is what the Fisher information of the pairs gives,
and agrees with its second order, 9 · ½ Var of ŝ - s under p e^r/Z.
Rounds do not help: the same number of pairs in three rounds, each with the newest model against the data, does no
better than in one, although the newest model draws the rewarded tiles, which are rare in the data. A pair of very
unequal images tells little. Best of N needs no reward model but a judge for every image: what has the probability p is
among N with 1 - (1-p)^N. What does not carry over: a reward of images does not add up, and there a reward model must
not leave the images that it has seen, which is what rounds are for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import minimize

from ddpm import plot
from ddpm.oracles import cells
from experiments.lab.runner import Result, Row

PAPER = "Zhang et al. 2024, IterComp: Iterative Composition-Aware Feedback Learning from Model Gallery"
MINUTES = 0.2
CELLS = 9
P = np.array([0.4, 0.3, 0.15, 0.1, 0.04, 0.01])  # of the tiles; the rare ones are rewarded
S = np.array([-0.5, 0.0, 0.5, 0.0, 1.5, 3.0])


@dataclass(frozen=True)
class Config:
    """Pairs of all rounds together, rounds, and repetitions."""

    pairs: tuple[int, ...] = (100, 300, 1000, 3000)
    rounds: tuple[int, ...] = (1, 3)
    repeats: int = 60
    seed: int = 0


QUICK = {"pairs": (300, 3000), "repeats": 20}


def tuned(s: np.ndarray) -> np.ndarray:
    """p e^s/Z of one cell"""
    p = P * np.exp(s - s.max())
    return p / p.sum()


def learned(n_i: np.ndarray, n_j: np.ndarray, won: np.ndarray) -> np.ndarray:
    """s from the counts of both images of each pair, by logistic regression with a weak prior"""
    gap = n_i - n_j
    loss = lambda s: np.logaddexp(0, -won * (gap @ s)).sum() + 0.05 * s @ s  # noqa: E731
    slope = lambda s: -(won / (1 + np.exp(won * (gap @ s)))) @ gap + 0.1 * s  # noqa: E731
    return minimize(loss, np.zeros(len(P)), jac=slope, method="L-BFGS-B").x


def kl(q: np.ndarray, p: np.ndarray) -> float:
    """KL of nine independent cells"""
    return float(CELLS * (q * np.log(q / p)).sum())


def expected_kl(pairs: int, rng: np.random.Generator) -> float:
    """E KL of the maximum likelihood of so many pairs from the data, to first order: 9/2 tr(G F⁺)/n, F by sampling"""
    gap = (rng.multinomial(CELLS, P, 100_000) - rng.multinomial(CELLS, P, 100_000)).astype(float)
    won = 1 / (1 + np.exp(-gap @ S))
    fisher, goal = (gap * (won * (1 - won))[:, None]).T @ gap / len(gap), tuned(S)
    return float(
        CELLS / 2 * np.trace((np.diag(goal) - np.outer(goal, goal)) @ np.linalg.pinv(fisher, rcond=1e-9)) / pairs
    )


def run(config: Config) -> Result:
    """Learn the reward in one round and in several, and measure the distance from p e^r/Z."""
    rng, goal, rows = np.random.default_rng(config.seed), tuned(S), list[Row]()
    tilted = np.exp(
        np.asarray(cells(np.zeros((1, 6, 1, 1, 1)), np.tile(P, (1, CELLS, 1))).tilted(S)[0].log_tile, float)
    )
    gap = float(np.abs(tilted[0] - goal).max())
    rows.append(Row("p e^r/Z of the library's cells, largest difference", None, 0.0, gap, within=1e-5, near=1.0))
    curves: dict[str, list[float]] = {}
    for rounds in config.rounds:
        for pairs in config.pairs:
            found, small = [], []
            for _ in range(config.repeats):
                s, counts = np.zeros(len(P)), list[tuple]()
                for _ in range(rounds):  # half of each pair from the data's model, half from the newest
                    n = pairs // rounds
                    i, j = rng.multinomial(CELLS, tuned(s), n), rng.multinomial(CELLS, P, n)
                    won = np.where(rng.random(n) < 1 / (1 + np.exp(-(i - j) @ S)), 1, -1)
                    counts.append((i, j, won))
                    s = learned(*map(np.concatenate, zip(*counts, strict=True)))
                found.append(kl(goal, tuned(s)))
                off = s - S
                small.append(CELLS * 0.5 * (goal @ off**2 - (goal @ off) ** 2))
            mean, se = float(np.mean(found)), float(np.std(found) / config.repeats**0.5)
            close, right = 0.2, None if pairs < 3000 else float(np.mean(small))
            if right and rounds == 1:  # the learned reward itself, against theory
                right = expected_kl(pairs, np.random.default_rng(1))
                close = 4.5 * se / right + 0.1
            name = f"{rounds} {'rounds' if rounds > 1 else 'round'}, {pairs:,} pairs: KL(p e^r/Z ‖ p e^r̂/Z)"
            rows.append(Row(name, None, right, mean, se, within=right and close))
            curves.setdefault(f"{rounds} {'rounds' if rounds > 1 else 'round'}", []).append(mean)
    rows.append(
        Row(
            "not tuned: KL(p e^r/Z ‖ p)",
            None,
            CELLS * float(goal @ S - np.log(P @ np.exp(S))),
            kl(goal, P),
            within=1e-9,
        )
    )
    for n in (1, 10, 100):
        best = rng.multinomial(CELLS, P, (20_000 // n, n)) @ (np.arange(6) == 5)
        p, miss = 1 - (1 - P[5]) ** CELLS, float((best.max(1) > 0).mean())
        exact = 1 - (1 - p) ** n
        close = 4.5 * (exact * (1 - exact) / len(best)) ** 0.5 / exact + 1e-3
        rows.append(Row(f"best of {n}: the rarest tile is there", None, float(exact), miss, within=float(close)))
    return Result(rows, None, {"pairs": config.pairs, "curves": curves, "start": kl(goal, P)})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw KL by the number of pairs."""
    with plot.style():
        figure = plot.new_figure(5.8, 3.0)
        ax = figure.subplots()
        for name, y in numbers["curves"].items():
            ax.loglog(numbers["pairs"], y, "o-", ms=4, label=f"pairs in {name}")
        ax.axhline(numbers["start"], color="0.6", lw=1, ls=":", label="not tuned")
        ax.set(xlabel="ranked pairs, all rounds together", ylabel=r"KL from $p\,e^r/Z$, nats")
        ax.legend(fontsize=8)
    return figure
