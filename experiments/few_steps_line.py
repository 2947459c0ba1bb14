"""Models of few steps on a line: what each loss converges to, and how near a network comes.

Consistency models, shortcut models and MeanFlow promise samples in one call, and their papers compare them by FID,
which mixes the loss with the network and the training. On the mixture ½N(±1, .04) the flow is the quantile map, so each
loss has its own end: the exact column is the W₂ distance to the data of what a perfect training would sample. Ours are
small networks (three layers of 128) trained with the losses of `ddpm.flows`, all with the same budget.
Consistency training does not converge to the flow map: with 16 times a perfect network ends at .26, ours at .25, where
four DDIM steps are at .15 and eight at .07. Taught by the exact velocity on the same 16 times, it comes to .06 in one
call. Shortcut models end at the Euler steps of their finest grid and MeanFlow at the flow map; after 1,500 steps ours
are at .12 and .18 in one call, where one Euler step of the flow is at .97 and eight at .11. The loss of MeanFlow is no
sign of trouble where it stands at 3.9: the exact average velocity has 4.15, and 1.32 is the floor of flow matching
alone. All of these networks share one small budget, and their order is no ranking: the map is steep between the modes,
and a line says nothing of images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from scipy.special import ndtr, ndtri

from ddpm import flows, oracle, plot
from experiments.lab.runner import Result, Row

PAPER = "Song et al. 2023; Frans et al. 2024; Geng et al. 2025"
MINUTES = 2
UNCHECKED = "The exact column is where a perfect training ends; the networks are trained, and stay above it."
VAR = 0.04
NODES = (np.arange(2000) + 0.5) / 2000


@dataclass(frozen=True)
class Config:
    """Steps and batch of each training, the seed, times of consistency training, and the shortcut's finest grid."""

    steps: int = 1500
    batch: int = 256
    seed: int = 0
    times: tuple[int, ...] = (4, 16)
    finest: int = 32


QUICK = {"steps": 20, "batch": 64}


# --- exact, in NumPy --------------------------------------------------------------------------------------------------


def density(x: np.ndarray, tau: float) -> np.ndarray:
    """p_τ(x) of ½N(±(1-τ), (1-τ)² .04 + τ²)"""
    v = (1 - tau) ** 2 * VAR + tau**2
    return sum(np.exp(-((x - m) ** 2) / (2 * v)) for m in (1 - tau, tau - 1)) / (2 * np.sqrt(2 * np.pi * v))


def posterior(x: np.ndarray, tau: float) -> tuple[np.ndarray, np.ndarray]:
    """E[x0 | x_τ = x] and Var[x0 | x_τ = x]"""
    a, v = 1 - tau, (1 - tau) ** 2 * VAR + tau**2
    right = 1 / (1 + np.exp(np.clip(-2 * a * x / v, -700, 700)))  # of the component at +1
    each = [m + a * VAR / v * (x - a * m) for m in (1.0, -1.0)]
    mean = right * each[0] + (1 - right) * each[1]
    second = right * each[0] ** 2 + (1 - right) * each[1] ** 2 + VAR * tau**2 / v
    return mean, second - mean**2


def quantile(p: np.ndarray, tau: float) -> np.ndarray:
    """F_τ⁻¹(p), by bisection."""
    v = (1 - tau) ** 2 * VAR + tau**2
    low, high = np.full(len(p), -9.0), np.full(len(p), 9.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = sum(ndtr((middle - m) / np.sqrt(v)) for m in (1 - tau, tau - 1)) / 2 < p
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return low


def distance(x: Any) -> float:
    """W₂ between what is made of the quantiles of the noise and the data."""
    return float(np.sqrt(((np.sort(np.asarray(x).ravel()) - quantile(NODES, 0.0)) ** 2).mean()))


def exact_euler(N: int) -> float:
    """N even steps of Euler's method with the exact velocity (x - E[x0 | x])/τ, which is DDIM."""
    x = ndtri(NODES)
    for t, s in pairwise(np.linspace(1, 0, N + 1)):
        x = x + (s - t) * (x - posterior(x, t)[0]) / t
    return distance(x)


def exact_consistency(N: int) -> float:
    """The fixed point of consistency training with N even times: f_t(x) = E[f_s(x_s) | x_t = x], from f_0(x) = x."""
    grid, x0 = np.linspace(-7, 7, 1201), np.linspace(-2.2, 2.2, 601)
    prior, f = density(x0, 0.0), grid
    for s, t in pairwise(np.linspace(0, 1, N + 1)):
        noise = (grid[:, None] - (1 - t) * x0) / t
        weight = prior * np.exp(-(noise**2) / 2)
        value = np.interp((1 - s) * x0 + s * noise, grid, f)
        f = (weight * value).sum(1) / np.maximum(weight.sum(1), 1e-300)
    return distance(np.interp(ndtri(NODES), grid, f))


def exact_meanflow_loss(pairs: tuple[np.ndarray, np.ndarray]) -> float:
    """E[Var[u_c | x_t] (∂Φ/∂x)²] over pairs r ≤ t: the loss that the exact average velocity has."""
    p, values = (np.arange(200) + 0.5) / 200, []
    for r, t in zip(*map(np.asarray, pairs), strict=True):
        x = quantile(p, t)
        slope = density(x, t) / density(quantile(p, r), r)  # ∂Φ(x, t→r)/∂x
        values.append((posterior(x, t)[1] / t**2 * slope**2).mean())
    return float(np.mean(values))


# --- ours -------------------------------------------------------------------------------------------------------------


def new_network(key: jax.Array, width: int = 128) -> list[dict[str, jax.Array]]:
    """Draw the parameters of a network with three hidden layers: (x, two times) -> one number."""
    sizes = (9, width, width, width, 1)
    keys = jax.random.split(key, len(sizes))
    return [
        {"w": jax.random.normal(k, (i, o)) * np.sqrt(2 / i) * (o > 1), "b": jnp.zeros((1, o))}
        for k, (i, o) in zip(keys, pairwise(sizes), strict=False)
    ]


def network(params: Any, x: jax.Array, t: jax.Array, h: jax.Array) -> jax.Array:
    """(B, 1), (B,), (B,) -> (B, 1)"""
    t, h = t[:, None], h[:, None]
    waves = [f(k * np.pi * a) for a, k in ((t, 1), (h, 1)) for f in (jnp.sin, jnp.cos)]
    y = jnp.concatenate([x, x**2, x * t, t, h, *waves], axis=1)
    for layer in params[:-1]:
        y = jax.nn.silu(y @ layer["w"] + layer["b"])
    return y @ params[-1]["w"] + params[-1]["b"]


def fit(config: Config, loss: Callable[..., jax.Array]) -> tuple[Any, float]:
    """Train with Adam on loss(params, key, x0, noise), (B,): (average of the parameters, loss of the last tenth)."""
    params = new_network(jax.random.key(config.seed))
    opt = optax.adam(optax.cosine_decay_schedule(2e-3, config.steps))

    def step(carry: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        params, mean, state = carry
        key_side, key_x, key_noise, key_loss = jax.random.split(key, 4)
        side = jnp.sign(jax.random.uniform(key_side, (config.batch, 1)) - 0.5)
        x0 = side + np.sqrt(VAR) * jax.random.normal(key_x, side.shape)
        noise = jax.random.normal(key_noise, side.shape)
        value, grad = jax.value_and_grad(lambda p: loss(p, key_loss, x0, noise).mean())(params)
        update, state = opt.update(grad, state)
        params = optax.apply_updates(params, update)
        return (params, jax.tree.map(lambda a, b: 0.99 * a + 0.01 * b, mean, params), state), value

    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 1), config.steps)
    (_, mean, _), values = jax.jit(lambda c, k: jax.lax.scan(step, c, k))((params, params, opt.init(params)), keys)
    return mean, float(values[-max(1, config.steps // 10) :].mean())


def velocity_of(params: Any) -> Callable[..., jax.Array]:
    """Make the network with h = 0 a velocity (x, τ, c) -> û."""
    return lambda x, t, c=None: network(params, x, t, 0 * t)


def average_of(params: Any) -> Callable[..., jax.Array]:
    """Make the network with h = t - r an average velocity (x, r, t, c) -> u."""
    return lambda x, r, t, c=None: network(params, x, t, t - r)


def f_of(params: Any) -> Callable[..., jax.Array]:
    """Make the network a consistency function (x, τ, c) -> x0, the identity at τ = 0."""
    return flows.consistency_function(velocity_of(params), flows.make_path("linear"))


def losses(config: Config) -> dict[str, Callable[..., jax.Array]]:
    """Name the losses of all trainings: (params, key, x0, noise) -> (B,)."""
    path, B = flows.make_path("linear"), config.batch
    exact = flows.exact_velocity(oracle.mixture([[1.0], [-1.0]], VAR), path)

    def flow(params: Any, key: jax.Array, x0: jax.Array, noise: jax.Array) -> jax.Array:
        return flows.flow_matching_loss(velocity_of(params), path, x0, flows.draw_tau(key, B), noise)

    def meanflow(params: Any, key: jax.Array, x0: jax.Array, noise: jax.Array) -> jax.Array:
        return flows.meanflow_loss(average_of(params), x0, *flows.draw_pairs(key, B, 0.25), noise)

    def shortcut(params: Any, key: jax.Array, x0: jax.Array, noise: jax.Array) -> jax.Array:
        t, d = flows.draw_jumps(key, B, config.finest)
        s = lambda x, t, d, c=None: network(params, x, t, d)  # noqa: E731
        x = (1 - t[:, None]) * x0 + t[:, None] * noise
        jumps = flows.self_consistency_loss(s, x, t, d, M=config.finest)
        grid = jnp.ceil(flows.draw_tau(key, B) * config.finest) / config.finest  # where the finest jumps begin
        return (3 * flows.flow_matching_loss(velocity_of(params), path, x0, grid, noise) + jumps) / 4

    def neighbours(key: jax.Array, N: int) -> tuple[jax.Array, jax.Array]:
        i = jax.random.randint(key, (B,), 1, N + 1)
        return i / N, (i - 1) / N

    def consistency(N: int) -> Callable[..., jax.Array]:
        return lambda params, key, x0, noise: flows.consistency_training_loss(
            f_of(params), path, x0, *neighbours(key, N), noise
        )

    def distilled(params: Any, key: jax.Array, x0: jax.Array, noise: jax.Array) -> jax.Array:
        t, s = neighbours(key, 16)
        x = (1 - t[:, None]) * x0 + t[:, None] * noise
        return flows.consistency_distillation_loss(f_of(params), exact, x, t, jnp.maximum(s, 1e-3))

    known = {"flow": flow, "MeanFlow": meanflow, "shortcut": shortcut, "distilled": distilled}
    return known | {f"consistency, {N} times": consistency(N) for N in config.times}


def run(config: Config) -> Result:
    """Train all, and compare what they sample with the data and with their own ends."""
    trained = {name: fit(config, loss) for name, loss in losses(config).items()}
    noise = jnp.asarray(ndtri(NODES), jnp.float32)[:, None]
    one = jnp.ones(len(NODES))
    rows, maps = [], {}
    velocity = velocity_of(trained["flow"][0])
    for N in (1, 2, 4, 8):
        out = flows.jump(lambda x, r, t, c: velocity(x, t), noise, np.linspace(1, 0, N + 1))
        rows.append(Row(f"W₂, flow, {N} steps of Euler", None, exact_euler(N), distance(out)))
    for name, (params, _) in trained.items():
        if name.startswith("consistency"):
            maps[name] = f_of(params)(noise, one)
            rows.append(
                Row(f"W₂, {name}, one call", None, exact_consistency(int(name.split()[1])), distance(maps[name]))
            )
    maps["distilled"] = f_of(trained["distilled"][0])(noise, one)
    rows.append(Row("W₂, consistency, distilled, one call", None, 0.0, distance(maps["distilled"])))
    for name, ends in (("shortcut", exact_euler(config.finest)), ("MeanFlow", 0.0)):
        for N in (1, 2, 4):
            out = flows.jump(average_of(trained[name][0]), noise, np.linspace(1, 0, N + 1))
            maps |= {name: out} if N == 1 else {}
            rows.append(Row(f"W₂, {name}, {N} call{'s' * (N > 1)}", None, ends, distance(out)))
    floor = np.mean([(posterior(quantile(NODES[::10], t), t)[1] / t**2).mean() for t in (np.arange(400) + 0.5) / 400])
    rows.append(Row("loss of flow matching, uniform times", None, float(floor), trained["flow"][1]))
    pairs = flows.draw_pairs(jax.random.key(7), 400, 0.25)
    rows.append(Row("loss of MeanFlow, r = t for a quarter", None, exact_meanflow_loss(pairs), trained["MeanFlow"][1]))
    kept = {k: np.asarray(v).ravel()[::20].round(4).tolist() for k, v in maps.items()}
    return Result(rows, picture(rows, maps), {"maps": kept, "steps": config.steps, "batch": config.batch})


def picture(rows: list[Row], maps: dict) -> Figure:
    """Draw the one-call maps next to the quantile map, and all distances with their ends."""
    with plot.style():
        figure = plot.new_figure(10.4, 3.6)
        first, second = figure.subplots(1, 2)
        noise, data = ndtri(NODES), quantile(NODES, 0.0)
        first.plot(noise, data, color="black", linewidth=2.5, linestyle="-", marker="", label="flow map, exact")
        for name, out in maps.items():
            first.plot(noise, np.asarray(out).ravel(), linewidth=1.2, marker="", label=name)
        first.set(xlabel="noise", ylabel="sample in one call", xlim=(-2.5, 2.5))
        first.legend(fontsize=7)
        shown = [r for r in rows if r.what.startswith("W₂")]
        y = np.arange(len(shown))[::-1]
        second.barh(y, [r.ours for r in shown], height=0.6, color="#b0c4d4", label="ours, trained")
        second.plot([r.exact for r in shown], y, "D", color="#c0392b", markersize=4, label="end of the loss, exact")
        second.set_yticks(y, [r.what.removeprefix("W₂, ") for r in shown], fontsize=7)
        second.set(xlabel="W₂ to the data")
        second.legend(fontsize=7)
    return figure
