"""RADD: the score of the absorbing chain is a conditional without time, so the steps in which no token opens are free.

The claim: in the chain that hides tokens, the ratio p_t(x with v at i)/p_t(x) is e^-σ̄/(1-e^-σ̄) times p(v_i | open
tokens), a conditional of the clean data. So the denoiser needs no time, its answer holds until the next token opens,
and its loss is that of an autoregressive model in any order. All of it is exact on four tokens of three letters, where
one can sum over everything, and on the sixteen tiles of a city, whose conditionals are known.

What we see: the ratio is right, and both losses have the entropy as their mean. One draw of the λ loss is far from it,
thrice as far as one of the other, though every order of the tiles gives -log p exactly. Sixteen tokens never want more
than sixteen calls, as the paper counts. What few steps cost is what tokens that open together know of each other: in
one step the total correlation. In a city it shows as ornaments of two cities in one picture, which cannot be. What does
not carry over: a network's conditionals in different orders do not agree; and of a long text few tokens are open early.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.special import beta, comb

from ddpm import plot
from ddpm.datasets import world
from ddpm.discrete import any_order_loss, counted, hidden_nll, lambda_loss, open_step, ratio
from ddpm.oracles import Tokens, tokens
from ddpm.sample import walk
from experiments.lab.runner import Result, Row, float64

PAPER = "Ou et al. 2025, Your absorbing discrete diffusion secretly models the conditional distributions of clean data"
MINUTES = 0.5
J, V, T = 4, 3, 64


@dataclass(frozen=True)
class Config:
    """Sequences of the toy, pictures of cities, and steps."""

    n: int = 100_000
    cities: int = 4000
    steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    seed: int = 0


QUICK = {"n": 20_000, "cities": 300, "steps": (1, 4)}


def exact_kl(every: np.ndarray, p: np.ndarray, steps: int) -> float:
    """KL(p ‖ what n steps draw), by the probability q of each set of open tokens, with the values of x, by step"""
    sets = list(itertools.product((False, True), repeat=J))
    p_of = {s: np.array([p[(every == x)[:, list(s)].all(1)].sum() for x in every]) for s in sets}
    q = {s: np.full(len(p), float(not any(s))) for s in sets}
    for k in range(steps):
        opens, new = 1 / (steps - k), {s: np.zeros(len(p)) for s in sets}
        for a, b in itertools.product(sets, sets):
            if all(y or not x for x, y in zip(a, b, strict=True)):
                fresh = [tuple(x or i == j for i, x in enumerate(a)) for j in range(J) if b[j] > a[j]]
                drawn = np.prod([p_of[one] / p_of[a] for one in fresh], axis=0)  # each alone, given those of a
                new[b] += q[a] * opens ** len(fresh) * (1 - opens) ** (J - sum(b)) * drawn
        q = new
    return float((p * np.log(p / q[sets[-1]])).sum())


def draw(m: Tokens, n: int, steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n sequences in this many steps, and the calls that each wants"""
    step = open_step(m.denoiser(), jnp.linspace(1, 0, T + 1), m.mask)
    state = jnp.full((n, m.log_token.shape[1]), m.mask), jnp.zeros(n, int)
    return jax.tree.map(np.asarray, walk(counted(step), jax.random.key(seed), state, np.arange(T, -1, -(T // steps))))


def toy_rows(config: Config) -> tuple[list[Row], list[tuple]]:
    """Ratio, losses and few-step samples of the toy, against sums over all sequences."""
    prob = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])[np.add.outer([0, 1], np.arange(J)) % 2]  # two classes disagree
    every = np.array(list(itertools.product(range(V), repeat=J)))
    p, rows, curve = prob[:, np.arange(J), every].prod(2).mean(0), list[Row](), []
    with float64():
        m, x, y = tokens(prob), np.array([[0, V, V, 1]]), np.array([[0, 2, V, 1]])
        for a in (0.9, 0.4, 0.05):  # e^-σ̄
            p_t = [p[((s == every) | (s == V)).all(1)].sum() * np.where(s == V, 1 - a, a).prod() for s in (y, x)]
            ours = float(ratio(m.conditional(x), -np.log(a))[0, 1, 2])
            rows.append(Row(f"ratio at e^-σ̄ = {a:g}", None, p_t[0] / p_t[1], ours, within=1e-9))
        nll, v = np.zeros(J + 1), jnp.asarray(every)  # Σ of the terms with M hidden tokens
        for h in itertools.product((False, True), repeat=J):
            nll[sum(h)] += p @ np.asarray(hidden_nll(m.denoiser(), v, jnp.broadcast_to(jnp.array(h), v.shape), V))
        M = np.arange(1, J + 1)
        by_lambda = beta(M, J - M + 1) @ nll[1:]  # ∫ 1/λ λ^M (1 - λ)^(J-M) dλ
        by_order = (1 / M / comb(J, M)) @ nll[1:]
        for name, ours in (("λ", by_lambda), ("any-order", by_order)):
            rows.append(Row(f"{name} loss: mean, nats", None, -(p * np.log(p)).sum(), ours, within=1e-9))
    m = tokens(prob)
    for steps in config.steps:
        found = np.zeros((V,) * J)
        np.add.at(found, tuple(draw(m, config.n, steps, config.seed + steps)[0].T), 1 / config.n)
        bias = (len(p) - 1) / 2 / config.n  # of the plug-in, to first order
        kl = float((p * np.log(p / np.maximum(found.ravel(), 0.5 / config.n))).sum() - bias)
        curve.append((steps, exact := exact_kl(every, p, steps), kl))
        noise = 3 * (len(p) / config.n + np.sqrt(exact / config.n))
        rows.append(Row(f"{steps} steps: KL(p‖samples), nats", None, exact, kl, within=noise, near=1.0))
    return rows, curve


def run(config: Config) -> Result:
    """Compare ratio, losses and samples of the toy with sums over all; losses and calls on cities."""
    rows, curve = toy_rows(config)
    # p(v) = p(v, c)/p(c | v), and the class stays open where no floor cell has an ornament
    tiles, ornament, cities = world.probabilities(), sum(world.RATES), []
    plain = (1 - ornament) ** 8
    given = -np.where(tiles > 0, tiles * np.log(np.where(tiles > 0, tiles, 1)), 0).sum((1, 2)).mean()
    entropy, m = float(np.log(4) + given - plain * np.log(4)), tokens(tiles)
    x0 = m.sample(jax.random.key(config.seed), config.cities)[0]
    for name, loss in (("λ", lambda_loss), ("any-order", any_order_loss)):
        v = np.asarray(loss(m.denoiser(), jax.random.key(config.seed + 1), x0, m.mask))
        se = float(v.std() / np.sqrt(len(v)))
        rows.append(Row(f"cities, {name} loss: mean, nats", None, entropy, float(v.mean()), se, 5 * se, 1.0))
        rows.append(Row(f"cities, {name} loss: deviation of one draw", None, None, float(v.std())))
    for steps in config.steps:
        x, calls = draw(m, config.cities, steps, config.seed)
        wrong, n = float(np.isneginf(np.asarray(m.log_prob(x))).mean()), len(x)
        exact = None if steps > 1 else 1 - plain - 4 * ((1 - 0.75 * ornament) ** 8 - plain)
        se, spread = np.sqrt(wrong * (1 - wrong) / n), float(calls.std() / np.sqrt(n))
        rows.append(Row(f"cities, {steps} steps: impossible", None, exact, wrong, se, exact and 5 * se, 1.0))
        want = steps * (1 - (1 - 1 / steps) ** 16)
        rows.append(Row(f"cities, {steps} steps: calls", None, want, calls.mean(), spread, within=0.02))
        cities.append((steps, wrong, calls.mean()))
    return Result(rows, None, {"kl": curve, "cities": cities})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the cost of few steps, the impossible cities, and the calls that are wanted."""
    with plot.style():
        figure = plot.new_figure(9.4, 2.9)
        left, middle, right = figure.subplots(1, 3)
        (steps, exact, ours), (_, wrong, calls) = (np.array(numbers[k]).T for k in ("kl", "cities"))
        left.semilogy(steps, exact, label="exact")
        left.plot(steps, ours, "o", color="C1", label="samples")
        left.set(ylabel="KL(p ‖ q), nats", title="four tokens of three letters")
        middle.plot(steps, 100 * wrong, "o-", label="samples")
        middle.set(ylabel="impossible, %", ylim=(0, None), title="cities with two cities' ornaments")
        right.plot(n := np.geomspace(1, T), n * (1 - (1 - 1 / n) ** 16), label="n(1 - (1 - 1/n)¹⁶)")
        right.plot(steps, calls, "o", color="C1", label="counted")
        right.set(ylabel="calls a picture", ylim=(0, 17), title="calls, the last answer kept")
        for ax in (left, middle, right):
            ax.set(xscale="log", xlabel="steps n")
            ax.set_xticks(ticks := [1, 2, 4, 8, 16, 32, 64], map(str, ticks))
            ax.minorticks_off()
            ax.legend(fontsize=8)
    return figure
