"""An autoencoder whose codes come from a table: how many entries are in use, and what the table costs.

A VQ-VAE sends each position of its code to the nearest of K entries, so that an image is a few whole numbers: here 49,
each one of 256, which are 392 bits. What is to be expected of a table is known for a Gaussian. Of all tables of K
numbers for z ~ N(0, 1) the one of Lloyd and Max is the best, .3634 with two entries and .1175 with four, and as the
density is log-concave no other table is stationary; so the gradient of the loss of the table must end there, wherever
it begins. No quantiser at all is below 2^(-2R) at R bits a number. The exact column is Lloyd's iteration in NumPy.

Then four codecs of garments, all from the same network, and three of them with the same 392 bits. One autoencoder is
trained without a table. Its codes are taken as they are; or each number moves to one of the four levels of Lloyd and
Max; or each position moves to the nearest of 256 entries of k-means on its codes. The VQ codec begins there and is
trained on for as many steps with the table inside, by the paper's three terms; the plain one is trained on for as many
steps as well. The last codec has its table drawn at random and is trained with it from the first step on.

What we see: the gradient finds the tables of Lloyd and Max to four digits. Without a table the copies have 22.7 dB. At
392 bits, levels for each number leave 18.9 dB, a table of k-means 20.6, and training on with the table 21.1: a table of
vectors uses what the four numbers of a position have in common, which levels cannot, and the decoder learns what the
entries mean. Of 256 entries all are in use, with a perplexity of 207. A table that is drawn at random loses little,
20.8 dB, but it is not the one that was paid for: 116 entries are never the nearest, the perplexity is 95, and these
codes could be written with fewer bits.

What does not carry over: one seed, a network that trained for a minute, and codes of one kind of picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.cluster.vq import kmeans2

from ddpm import data, latents, plot
from ddpm.contracts import Partial
from ddpm.evaluation.statistics import stratified_subset
from ddpm.latents.autoencoder import AutoencoderConfig, build
from ddpm.training.timed import fit
from experiments.lab.drawn_images import Judge
from experiments.lab.latent_trainings import countdown
from experiments.lab.runner import Result, Row
from experiments.lab.training_scores import judge_of

PAPER = "van den Oord et al. 2017, Neural Discrete Representation Learning; Max 1960, Table I"
MINUTES = 3
GAUSSIAN = (2, 4, 8)  # entries
SHOWN = 10


@dataclass(frozen=True)
class Config:
    """Data, the network, the table, steps without it and with it, test images, and the seed."""

    data: str = "fashion_mnist"
    factor: int = 4
    code_channels: int = 4
    channels: int = 16
    entries: int = 256
    steps: int = 800
    more: int = 500
    n: int = 1000
    seed: int = 0


QUICK = {"data": "digits", "factor": 2, "code_channels": 2, "channels": 8, "entries": 16, "steps": 60, "more": 40,
         "n": 100}  # fmt: skip


# --- a Gaussian -------------------------------------------------------------------------------------------------------


def lloyd(K: int) -> tuple[np.ndarray, float]:
    """The best K numbers for N(0, 1) and their error, by Lloyd's iteration on a fine grid in NumPy."""
    z = np.linspace(-8, 8, 160_001)
    p = np.exp(-(z**2) / 2)
    p, entries = p / p.sum(), np.linspace(-1, 1, K)
    for _ in range(300):
        cell = np.searchsorted((entries[1:] + entries[:-1]) / 2, z)
        entries = np.bincount(cell, p * z) / np.bincount(cell, p)
    return entries, float((p * (z - entries[cell]) ** 2).sum())


def learned(K: int, seed: int, steps: int = 3000) -> np.ndarray:
    """A table of K numbers, drawn at first, after gradient descent on its own term of the loss."""

    def step(table: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
        z = jax.random.normal(jax.random.fold_in(jax.random.key(seed), i), (2048, 1))
        slope = jax.grad(lambda e: latents.quantise(z, e).table_loss)(table)
        return table - K * 0.25 * (1 - i / steps) * slope, None

    first = jax.random.normal(jax.random.key(seed + 1), (K, 1))
    return np.sort(np.asarray(jax.lax.scan(step, first, jnp.arange(steps))[0])[:, 0])


def error_of(entries: np.ndarray) -> float:
    """E (z - e_k)² of N(0, 1) by quadrature on a grid"""
    z = np.linspace(-8, 8, 20_001)
    p = np.exp(-(z**2) / 2)
    return float((p * np.abs(z[:, None] - entries).min(1) ** 2).sum() / p.sum())


def gaussian_rows(config: Config) -> tuple[list[Row], list[dict]]:
    """Rows of the best tables, of those that a gradient finds, and of what no quantiser can do."""
    rows, curve = [], []
    for K in GAUSSIAN:
        exact = lloyd(K)[1]
        table = learned(K, config.seed)
        ours, bound = error_of(table), float(K) ** -2
        rows += [
            Row(f"N(0, 1), {K} entries: error of the best table", None, exact, latents.lloyd_max(K).error, None, 1e-4),
            Row(f"N(0, 1), {K} entries: error of a table found by its gradient", None, exact, ours, None, 0.01),
            Row(f"N(0, 1), {np.log2(K):g} bits a number: no quantiser is below", None, bound, None),
        ]
        curve.append({"bits": float(np.log2(K)), "best": exact, "learned": ours, "bound": bound})
    return rows, curve


# --- images -----------------------------------------------------------------------------------------------------------


class Made(NamedTuple):
    """Copies of the test images (n, H, W, C), and the entry of each position, if there is a table."""

    copies: np.ndarray
    entry: np.ndarray | None = None


def trained(sizes: AutoencoderConfig, params: Any, x: np.ndarray, steps: int, seed: int) -> Any:
    """Parameters after so many steps, with their table inside if they have one."""
    _, encode, decode = build(sizes)

    def loss(params: Any, key: jax.Array, x0: jax.Array, c: Any) -> jax.Array:
        if "table" not in params:
            return latents.copy_loss(sizes, params, key, x0)
        halves = Partial(encode, params["encoder"]), Partial(decode, params["decoder"])
        return latents.vq_loss(*halves, params["table"], x0)

    return fit(loss, params, x, np.zeros(len(x), np.int32), seed, countdown(steps))


def in_parts(f: Callable[..., Any], x: np.ndarray) -> np.ndarray:
    """f of many images, 250 at a time"""
    f = jax.jit(f)
    return np.concatenate([np.asarray(f(jnp.asarray(part))) for part in np.split(x, range(250, len(x), 250))])


def copies(sizes: AutoencoderConfig, params: Any, x: np.ndarray, x_train: np.ndarray) -> Made:
    """Encode and decode, through the codec of a table if there is one."""
    _, encode, decode = build(sizes)
    into, back = Partial(encode, params["encoder"]), Partial(decode, params["decoder"])
    table = params.get("table")
    codec = latents.with_scale(into, back if table is None else latents.through_table(back, table), x_train[:2000])
    entry = None if table is None else in_parts(lambda x: latents.nearest(into(x), table), x)
    return Made(in_parts(lambda x: codec.to_image(codec.to_latent(x)), x), entry)


def by_levels(sizes: AutoencoderConfig, params: Any, x: np.ndarray, codes: np.ndarray, levels: int) -> Made:
    """Copies where each number of the code is one of the levels of Lloyd and Max, at mean and deviation of its channel.

    codes: (N, d), of training images
    """
    _, encode, decode = build(sizes)
    mean, std = codes.mean(0).reshape(1, 1, 1, -1), codes.std(0).reshape(1, 1, 1, -1)
    entries = jnp.asarray(latents.lloyd_max(levels).entries, jnp.float32)

    def copy(x: jax.Array) -> jax.Array:
        z = (encode(params["encoder"], x) - mean) / std
        return decode(params["decoder"], mean + std * entries[latents.nearest(z[..., None], entries[:, None])])

    return Made(in_parts(copy, x))


def garments(config: Config, judge: Judge) -> tuple[dict[str, Made], np.ndarray, np.ndarray, AutoencoderConfig]:
    """Train, and copy test images in every way: by name, with the images and their labels."""
    H, _, C = judge.data.image_shape
    sizes = AutoencoderConfig(H, C, config.factor, config.code_channels, config.channels, min(8, config.channels))
    x_train = data.to_float(judge.data.x_train)
    ids = stratified_subset(judge.data.y_test, config.n, 0)
    x, c = data.to_float(judge.data.x_test[ids]), judge.data.y_test[ids]
    seed, K, d = config.seed, config.entries, config.code_channels
    begin = build(sizes)[0](jax.random.key(seed))
    first = trained(sizes, begin, x_train, config.steps, seed)
    # The same parameters with a table of k-means, and both trained on
    z = in_parts(lambda x: build(sizes)[1](first["encoder"], x), x_train[:2000]).reshape(-1, d)
    some = z[np.random.default_rng(seed).permutation(len(z))[:20_000]]
    table = jnp.asarray(kmeans2(some.astype(np.float64), K, minit="++", seed=seed)[0], jnp.float32)
    plain = trained(sizes, first, x_train, config.more, seed + 1)
    vq = trained(sizes, first | {"table": table}, x_train, config.more, seed + 1)
    # A table drawn at random, from the beginning
    drawn = jax.random.uniform(jax.random.key(seed + 2), (K, d), minval=-1 / K, maxval=1 / K)
    whole = trained(sizes, begin | {"table": drawn}, x_train, config.steps + config.more, seed)
    z_plain = in_parts(lambda x: build(sizes)[1](plain["encoder"], x), x_train[:2000]).reshape(-1, d)
    centres = kmeans2(z_plain[: len(some)].astype(np.float64), K, minit="++", seed=seed)[0]
    made = {
        "plain": copies(sizes, plain, x, x_train),
        "plain, levels": by_levels(sizes, plain, x, z_plain, round(K ** (1 / d))),
        "plain, k-means": copies(sizes, plain | {"table": jnp.asarray(centres, jnp.float32)}, x, x_train),
        "VQ": copies(sizes, vq, x, x_train),
        "VQ, table drawn": copies(sizes, whole, x, x_train),
    }
    return made, x, c, sizes


def run(config: Config) -> Result:
    """Quantise a Gaussian, then train the codecs and compare their copies."""
    if round(config.entries ** (1 / config.code_channels)) ** config.code_channels != config.entries:
        raise ValueError(f"entries is {config.entries}; give a whole number to the power of code_channels")
    rows, curve = gaussian_rows(config)
    judge = judge_of(config.data)
    made, x, c, sizes = garments(config, judge)
    positions, table = sizes.code_shape[0] ** 2, list[dict[str, Any]]()
    for name, (back, entry) in made.items():
        mse = float(((np.clip(back, -1, 1) - x) ** 2).mean())
        found = {"PSNR, dB": 10 * np.log10(4 / mse)}
        found["accuracy of copies"] = judge.accuracy(data.to_uint8(back), c)[0]
        if name != "plain":
            found["bits an image"] = positions * np.log2(config.entries)
        shares: Any = []
        if entry is not None:
            shares = np.sort(np.bincount(entry.ravel(), minlength=config.entries))[::-1] / entry.size
            found["entries in use"] = float((shares > 0).sum())
            found["perplexity"] = latents.perplexity(entry, config.entries)
        rows += [Row(f"{name}: {what}", None, None, float(v)) for what, v in found.items()]
        table.append({"name": name, "shown": data.to_uint8(back[:SHOWN]), "shares": shares, **found})
    rows.append(Row("test images: accuracy", None, None, judge.accuracy(data.to_uint8(x), c)[0]))
    numbers = {"curve": curve, "table": table, "images": data.to_uint8(x[:SHOWN]), "entries": config.entries}
    return Result(rows, None, numbers | {"n": config.n})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the copies, how often each entry is used, and the errors of a Gaussian."""
    table = numbers["table"]
    with plot.style():
        figure = plot.new_figure(11.0, 3.4)
        left, middle, right = figure.subplots(1, 3, width_ratios=(1.7, 1, 0.8))
        shown = [numbers["images"], *(t["shown"] for t in table)]
        images = np.concatenate([np.asarray(a, np.float32) / 127.5 - 1 for a in shown])
        left.imshow(plot.grid(images, SHOWN).squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        names = ["images", *(f"{t['name']}\n{t['PSNR, dB']:.1f} dB" for t in table)]
        left.set_yticks(2 + (images.shape[1] + 2) * (np.arange(len(names)) + 0.45), names, fontsize=7)
        left.set_xticks([])
        left.spines[:].set_visible(False)
        left.tick_params(length=0)
        for t, colour in zip((t for t in table if len(t["shares"])), ("C1", "C0", "C3"), strict=True):
            share = np.maximum(np.array(t["shares"]), 1e-7)
            label = f"{t['name']}: perplexity {t['perplexity']:.0f}"
            middle.semilogy(np.arange(1, len(share) + 1), share, "-", color=colour, label=label)
        middle.axhline(1 / numbers["entries"], color="0.6", lw=0.8, ls=":")
        middle.set(xlabel="entries by use (dotted: all alike)", ylabel="share of the codes", ylim=(1e-5, 1))
        middle.legend(fontsize=7, loc="upper right")
        curve = numbers["curve"]
        bits = [c["bits"] for c in curve]
        right.semilogy(bits, [c["best"] for c in curve], "-", color="C0", label="best table")
        right.semilogy(bits, [c["learned"] for c in curve], "o", color="C1", ms=5, label="found by its gradient")
        right.semilogy(bits, [c["bound"] for c in curve], ":", color="0.4", label="2^(-2R)")
        right.set(xlabel="bits a number, R", ylabel="error, N(0, 1)", xticks=bits)
        right.set_yticks(ticks := [0.02, 0.05, 0.1, 0.2, 0.4], map(str, ticks))
        right.minorticks_off()
        right.legend(fontsize=7)
    return figure
