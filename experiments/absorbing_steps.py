"""Few steps of the absorbing chain on the tiles of a city, exactly; a transformer trained on them; and rare tokens.

A masked diffusion model opens hidden tokens, several in one step, each drawn without knowing what the others will be.
What that costs is exact for the cities, where sixteen tiles are independent given the city and an ornament gives the
city away. Only ornaments that open together before any other did can contradict each other. With k of them, of which M
open in the first step that opens any, the sampler's probability of a picture is 4 E[4^-M] times the right one. So one
step costs the total correlation of the tiles, .51 nats, and n steps about .25/n; a third number follows from the same
sum, the share of pictures that cannot be, with ornaments of two cities. Ours are the library's conditionals along drawn
orders, and its sampler. (The chain's ratio, its losses and its calls are in `radd`.)

A state that cannot be has no conditional, and what is drawn after it means nothing: hence the roofs among the floors of
a picture that is framed.

Then a network: the library's transformer for images, with a channel for each tile, trained by the any-order loss. What
it has to learn is rare, since a floor cell has an ornament with probability .13, and only a second one can be told by
the first. Trained on such pictures alone, 1,400 steps of 64, it learns how often each tile is and nothing of what the
tiles know of each other: its bound is .55 nats a picture above the entropy, where tiles drawn on their own are .51
above, and 23 % of its pictures cannot be, in sixteen steps as in one. If the first 500 of these steps show cities with
an ornament in every second floor cell, it finds that ornaments have a city, and keeps it when they become rare: its
bound is .05 above the entropy, and 4 % of its pictures cannot be, where the exact conditionals make 1.5 %. Three orders
of one picture then differ by .09 nats: conditionals that were learned do not fit together as those of a distribution.
Both begin with open gates (`token_init`). (Nine tokens that tell more of each other are learned in seconds, in Lesson
24.)

Last, a trap of float32. JAX draws Gumbel's noise on 2²³ values, of which the largest is 15.94, so that a token of
probability q < 10⁻⁷ is drawn with q·a/(e^a - 1), a = 2⁻²³/q, too rarely or never; `mode="high"`, which the library
uses, has 2⁴⁶. The tiles are far from that rare, the words of a large vocabulary are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ddpm import plot
from ddpm.datasets import world
from ddpm.discrete import any_order_loss, open_step, token_config, token_denoiser, token_init
from ddpm.oracles import Tokens, tokens
from ddpm.sample import walk
from ddpm.train import TrainState, make_step
from experiments.lab.runner import Result, Row

PAPER = "Ou et al. 2025 (RADD); Zheng et al. 2025, Masked diffusion models are secretly time-agnostic"
MINUTES = 7
UNCHECKED = (
    "The exact column is that of the exact conditionals; that a short training does not come near is the finding."
)
FLOOR = 8  # cells of the floors, where ornaments are
RATE = sum(world.RATES)  # of an ornament in one of them


@dataclass(frozen=True)
class Config:
    """Steps of the sampler, orders and pictures drawn; probabilities of a rare token; the network and its training."""

    steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    orders: int = 2000
    cities: int = 4000
    rare: tuple[float, ...] = (1e-6, 3e-7, 1e-7, 5e-8, 2e-8)
    channels: int = 64
    blocks: int = 2
    batch: int = 64
    frequent: tuple[float, float] = (0.25, 0.25)  # rates of the ornaments at first
    first_steps: int = 500  # with these
    train_steps: int = 900  # with those of the data
    seed: int = 0


QUICK = {"steps": (1, 4), "orders": 300, "cities": 300, "channels": 16, "blocks": 1, "batch": 16, "first_steps": 3,
         "train_steps": 5}  # fmt: skip


# --- exact, in NumPy --------------------------------------------------------------------------------------------------


def together(k: int, n: int) -> float:
    """E[4^-M]: of k ornaments, each opening in one of n steps, M open in the first step in which one does"""
    first = (n - 1 - np.arange(n)) / n  # the probability to open after step s
    return float(sum(comb(k, m) * 4.0**-m * (n**-m * first ** (k - m)).sum() for m in range(1, k + 1)))


def few_steps(n: int) -> tuple[float, float]:
    """KL(p ‖ what n steps draw) in nats, and the share of impossible pictures"""
    k = np.arange(1, FLOOR + 1)
    p = np.array([comb(FLOOR, i) * RATE**i * (1 - RATE) ** (FLOOR - i) for i in k])
    ratio = np.array([4 * together(int(i), n) for i in k])  # q(x)/p(x)
    return float(-(p * np.log(ratio)).sum()), float((p * (1 - ratio)).sum())


def entropies() -> tuple[float, float]:
    """H(v) of a picture's tiles, and Σ_j H(v_j) of the tiles on their own, nats"""
    p = world.probabilities()

    def entropy(a: np.ndarray) -> float:
        return float(-(a[a > 0] * np.log(a[a > 0])).sum())

    plain = (1 - RATE) ** FLOOR  # without an ornament the city stays open
    return np.log(4) * (1 - plain) + entropy(p) / 4, entropy(p.mean(0))


# --- ours -------------------------------------------------------------------------------------------------------------


def pictures(m: Tokens) -> np.ndarray:
    """A picture with k ornaments of the first city for each k = 0 … 8: (9, 16)"""
    motif = world.tiles().motif
    ornament, x = np.flatnonzero(motif == world.planted(0)[0])[0], np.argmax(np.asarray(m.log_token[0]), axis=1)
    out = np.tile(x, (FLOOR + 1, 1))
    for k in range(FLOOR + 1):
        out[k, 4 : 4 + k] = ornament
    return out


def along_orders(m: Tokens, n: int, orders: int, seed: int) -> tuple[float, float]:
    """KL(p ‖ q_n) and its standard error: q_n(x) = E Π_j p(x_j | open before), over the steps in which tokens open"""
    x, when = pictures(m), np.random.default_rng([seed, n]).integers(0, n, (orders, 1, 16))
    log_q = np.zeros((orders, len(x)))
    for s in range(n):
        p = m.denoiser()(jnp.asarray(np.where(when < s, x, m.mask).reshape(-1, 16)), None)
        p = np.asarray(p).reshape(orders, len(x), 16, -1)
        p_x = np.take_along_axis(p, np.broadcast_to(x, p.shape[:3])[..., None], 3)[..., 0]
        log_q += np.log(np.where(when == s, p_x, 1)).sum(2)
    ratio = np.exp(log_q - np.asarray(m.log_prob(x), np.float64))  # q_n(x)/p(x), on average over the orders
    k = np.arange(FLOOR + 1)
    share = np.array([comb(FLOOR, i) for i in k]) * RATE**k * (1 - RATE) ** (FLOOR - k)
    mean, se = ratio.mean(0), ratio.std(0, ddof=1) / np.sqrt(orders)
    return float(-(share * np.log(mean)).sum()), float(np.sqrt(((share * se / mean) ** 2).sum()))


def drawn(denoiser: Any, mask: int, n: int, steps: int, seed: int) -> np.ndarray:
    """n pictures in this many steps: (n, 16)"""
    step = open_step(denoiser, jnp.linspace(1, 0, steps + 1), mask)
    hidden = jnp.full((n, 16), mask)
    return np.asarray(walk(step, jax.random.key(seed), hidden, np.arange(steps, -1, -1)))


def impossible(m: Tokens, x: np.ndarray) -> tuple[float, float]:
    """The share of pictures with ornaments of two cities, and its standard error."""
    wrong = np.isneginf(np.asarray(m.log_prob(x)))
    return float(wrong.mean()), float(np.sqrt(max(wrong.mean() * (1 - wrong.mean()), 1 / len(x)) / len(x)))


def gumbels(u: np.ndarray) -> np.ndarray:
    """The float32 Gumbel of the u-th of JAX's 2²³ uniform numbers"""
    u = np.maximum(u.astype(np.float32) / np.float32(2**23), np.finfo(np.float32).tiny)
    return np.asarray(-jnp.log(-jnp.log(jnp.asarray(u))))


def gumbel_share(q: float) -> float:
    """P(a token of probability q is drawn)/q, with each of the 2²³ values that JAX's float32 Gumbel has"""
    g = gumbels(np.arange(2**23))  # rises
    below = np.searchsorted(g + np.float32(np.log1p(-q)), g + np.float32(np.log(q)))  # of the other's values
    return float(below.mean() / 2**23 / q)


def share_of_high(q: float) -> float:
    """The same for `mode="high"`: above 0, the values x = 2⁻²³ (i + k 2⁻²³) that matter, every 64th k"""
    i, low = np.arange(64, dtype=np.float32)[:, None], np.arange(32, 2**23, 64, dtype=np.float32) / np.float32(2**23)
    g = -jnp.log(-jnp.log1p(-jnp.asarray((i + low) / np.float32(2**23))))
    other = np.exp(-np.exp(-(np.asarray(g, np.float64) + np.log(q) - np.log1p(-q))))  # P(the other's is smaller)
    return float(other.mean(1).sum() / 2**23 / q)


def gumbel_rows(config: Config) -> list[Row]:
    """Rows of how often rare tokens are drawn; and that JAX does draw from these values."""
    rows = []
    for q in config.rare:
        a = 2.0**-23 / q
        rows.append(Row(f"Gumbel in float32, q = {q:g}: drawn/q", None, a / np.expm1(a), gumbel_share(q), within=0.01))
    for q in (min(config.rare), 1e-9):
        a = 2.0**-46 / q
        rows.append(Row(f'mode="high", q = {q:g}: drawn/q', None, a / np.expm1(a), share_of_high(q), within=0.01))
    largest = float(jax.random.gumbel(jax.random.key(config.seed), (2**22,)).max())
    limit = -np.log(-np.log1p(-(2.0**-23)))
    return [
        *rows,
        Row("Gumbel in float32: the largest of 4,194,304 draws, and of all", None, limit, largest, within=1e-3),
    ]


# --- the network ------------------------------------------------------------------------------------------------------


def train(config: Config, stages: list[tuple[Tokens, int]]) -> Any:
    """A transformer of the tiles, trained on fresh pictures by the any-order loss; its average as a denoiser.

    stages: distributions of pictures, and how many steps with each; Adam begins anew with each.
    """
    V = stages[0][0].mask
    net = token_config(4, 4, V, channels=config.channels, blocks=config.blocks)
    params = token_init(net, jax.random.key(config.seed))

    def loss(params: dict, key: jax.Array, m: Tokens) -> jax.Array:
        key_x, key_hide = jax.random.split(key)
        x0 = m.sample(key_x, config.batch)[0]
        return any_order_loss(token_denoiser(net, params), key_hide, x0, V).mean()

    for stage, (m, steps) in enumerate(stages):
        optimiser = optax.adam(optax.warmup_cosine_decay_schedule(0, 2e-3, min(100, steps // 2), steps))
        step, state = make_step(loss, optimiser, 0.98), TrainState(jnp.int32(0), params, params, optimiser.init(params))
        for i in range(steps):
            state, _ = step(state, jax.random.fold_in(jax.random.key(config.seed + 1 + stage), i), m)
        params = state.ema
    return token_denoiser(net, params)


@jax.jit
def answer(denoiser: Any, x: jax.Array) -> jax.Array:
    """The conditionals of all tokens, compiled once for each kind of denoiser"""
    return denoiser(x, None)


def in_order(denoiser: Any, x: jax.Array, order: np.ndarray, mask: int) -> np.ndarray:
    """-log p of each picture, its tiles opened one by one in this order: (n,)"""
    total, rank = np.zeros(len(x)), np.argsort(order)
    for i in range(16):
        p = answer(denoiser, jnp.where(jnp.asarray(rank < i)[None], x, mask))[:, order[i]]
        total -= np.log(np.asarray(jnp.take_along_axis(p, x[:, order[i], None], axis=1))[:, 0])
    return total


def network_rows(m: Tokens, config: Config, entropy: float, alone: float) -> tuple[list[Row], np.ndarray]:
    """Rows of the trained networks, and pictures that the better one draws."""
    frequent, key = tokens(world.probabilities(config.frequent)), jax.random.key(config.seed + 2)
    net = train(config, [(frequent, config.first_steps), (m, config.train_steps)])
    rare = train(config, [(m, config.first_steps + config.train_steps)])
    rng, x = np.random.default_rng(config.seed), m.sample(key, config.cities // 2)[0]
    orders = [rng.permutation(16) for _ in range(3)]
    ours, of_rare, exact = (np.stack([in_order(f, x, o, m.mask) for o in orders]) for f in (net, rare, m.denoiser()))
    rows = [Row("tiles each on their own: -log p, nats a picture", None, alone, None)]
    for name, found in (("frequent ornaments first", ours), ("rare ones only", of_rare)):
        excess = (found - exact).mean(0)  # picture by picture, so that the pictures' own -log p drops out
        bound, se = entropy + float(excess.mean()), float(excess.std() / np.sqrt(len(x)))
        rows.append(Row(f"network, {name}: -log p, nats a picture", None, entropy, bound, se))
    pictures_drawn = drawn(net, m.mask, config.cities, 16, config.seed)
    of_rare_drawn = drawn(rare, m.mask, config.cities, 16, config.seed)
    rows += [
        Row("network: the same picture in 3 orders, deviation of -log p", None, 0.0, float(ours.std(0, ddof=1).mean())),
        Row("exact conditionals: the same", None, 0.0, float(exact.std(0, ddof=1).mean()), within=1e-4, near=1.0),
        Row("network, 16 steps: impossible", None, few_steps(16)[1], *impossible(m, pictures_drawn)),
        Row("network, rare ones only, 16 steps: impossible", None, few_steps(16)[1], *impossible(m, of_rare_drawn)),
    ]
    return rows, pictures_drawn[:10]


def run(config: Config) -> Result:
    """Compare few steps with the closed form, rare tokens with theirs, and a trained network with the entropy."""
    rows, curve, shown = list[Row](), [], {}
    m, (entropy, alone) = tokens(world.probabilities()), entropies()
    for n in config.steps:
        (kl, wrong), (ours, se) = few_steps(n), along_orders(m, n, config.orders, config.seed)
        rows.append(Row(f"{n} steps: KL(p‖samples), nats", None, kl, ours, se, 5 * se + 2e-4, near=1.0))
        x = drawn(m.denoiser(), m.mask, config.cities, n, config.seed)
        found, se = impossible(m, x)
        rows.append(Row(f"{n} steps: impossible pictures", None, wrong, found, se, 5 * se, near=1.0))
        curve.append((n, kl, ours, wrong, found))
        shown[f"{n} steps"] = x[:10]
    rows.append(Row("total correlation of the tiles: one step's KL", None, alone - entropy, curve[0][2], within=0.02))
    more, shown["network, 16 steps"] = network_rows(m, config, entropy, alone)
    rows += [*gumbel_rows(config), *more]
    kept = {k: v for k, v in shown.items() if k in ("1 steps", "4 steps", "16 steps", "network, 16 steps")}
    return Result(rows, None, {"curve": curve, "shown": kept})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the cost of few steps, the draws of rare tokens, and cities with their ornaments framed."""
    with plot.style():
        figure = plot.new_figure(10.4, 4.6)
        left, right = figure.subfigures(1, 2, width_ratios=(1, 1.75))  # type: ignore[misc]
        top, bottom = left.subplots(2, 1)
        steps, kl, ours, wrong, found = np.array(numbers["curve"]).T
        for exact, dots, colour, name in ((kl, ours, "C0", "KL, nats"), (wrong, found, "C1", "impossible")):
            top.loglog(steps, exact, "-", color=colour, lw=1, label=name)
            top.plot(steps, dots, "o", color=colour, ms=4)
        top.set_xticks(steps, [f"{n:.0f}" for n in steps])
        top.minorticks_off()
        top.set(xlabel="steps", title="lines exact, dots the library")
        top.legend(fontsize=7)
        q = np.geomspace(1e-8, 3e-6, 200)
        bottom.semilogx(q, 2.0**-23 / q / np.expm1(2.0**-23 / q), label="q·a/(eᵃ - 1), a = 2⁻²³/q")
        of_q = {
            float(r["what"].split("q = ")[1].split(":")[0]): r["ours"]
            for r in rows
            if r["what"].startswith("Gumbel in float32, q")
        }
        bottom.plot(list(of_q), list(of_q.values()), "o", color="C0", ms=4)
        bottom.axhline(1, color="C5", lw=1, label='mode="high"')
        bottom.set(xlabel="probability q of a token", ylabel="drawn/q", ylim=(0, 1.08), xlim=(1e-8, 3e-6))
        bottom.legend(fontsize=7, loc="lower right")
        axes = right.subplots(len(numbers["shown"]), 1)
        for ax, (name, x) in zip(axes, numbers["shown"].items(), strict=True):
            draw_cities(ax, np.array(x, int))
            ax.set_title(name.replace("1 steps", "1 step"), fontsize=8, loc="left", pad=2)
    return figure


def draw_cities(ax: Any, x: np.ndarray) -> None:
    """Pictures from their tiles (n, 16) side by side, ornaments framed by city, impossible ones crossed out."""
    v, side = world.tiles(), world.SIZE + 4
    strip = np.full((world.SIZE, side * len(x)), 255, np.uint8)
    for i, picture in enumerate(x):
        cells = v.pixels[i % len(world.LIGHTS)][picture].reshape(4, 4, world.CELL, world.CELL)
        strip[:, i * side : i * side + world.SIZE] = cells.transpose(0, 2, 1, 3).reshape(world.SIZE, world.SIZE)
        cities = set()
        for j, tile in enumerate(picture):
            if v.motif[tile] >= 0 and (city := world.MOTIFS[v.motif[tile]].city) >= 0:
                cities.add(city)
                corner = i * side + j % 4 * world.CELL - 0.5, j // 4 * world.CELL - 0.5
                frame = Rectangle(
                    corner, 7, 7, fill=False, lw=1.6, ec=("#1e88e5", "#ffb300", "#43a047", "#d81b60")[city]
                )
                ax.add_patch(frame)
        if len(cities) > 1:
            at = i * side - 0.5
            ax.add_patch(Rectangle((at - 1, -1.5), world.SIZE + 2, world.SIZE + 2, fill=False, lw=2, ec="C1"))
    ax.imshow(strip, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set(xlim=(-3, strip.shape[1]), ylim=(world.SIZE + 2, -3))
    ax.axis("off")
