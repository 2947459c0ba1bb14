"""Personalisation: what a new word learns from four pictures, what it cannot, and what fine-tuning does to its class.

Textual inversion trains one word vector on a few pictures; DreamBooth trains all weights, and keeps the class with
pictures that the frozen model draws. On exact denoisers with soft captions both can be followed. The word takes in all
that the four pictures share, wanted or not: at the optimum its log-weights are the shares in the pictures, so that
place, ground and light leak. How much is known: with n pictures of K equal values E KL(shares ‖ world) falls about as
(K-1)/2n, and four pictures tell .94 nats too much about the ground, .32 about the column. A badge has 16 bits that no
word spans, so each is right in half of the drawings, and all in 2^-16. If `a S* shirt` adds two trained vectors,
those of S* and of shirt, both get the same gradient and end equal: `a shirt` becomes half the subject, the language
drift that the prior loss exists for, and with it S* has to learn all by itself. LoRA's sizes and its least possible
error close the list. How fast the networks of the paper forget is not told by this.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from scipy.stats import binom

from ddpm import plot
from ddpm.datasets.wardrobe import captions, drawing, evidence, law
from ddpm.datasets.wardrobe.words import ATTRIBUTES, PATTERNS
from ddpm.forward import q_sample
from ddpm.networks.inspect import param_shapes
from ddpm.networks.lora import change, make_lora
from ddpm.networks.text_config import TEXTS
from ddpm.tools.files import flatten, unflatten
from experiments.lab import wardrobe_exact as exact
from experiments.lab.runner import Result, Row

PAPER = "Gal et al. 2023, Textual Inversion; Ruiz et al. 2023, DreamBooth, Table 1; Hu et al. 2022, LoRA"
MINUTES = 4
UNCHECKED = "What a word learned in so many steps stands next to its optimum, which it has not reached."
LEARNED = tuple(name for name in ATTRIBUTES if name != "ink")
PAPERS = {
    "DINO, real pictures": 0.774,
    "DINO, DreamBooth on Imagen": 0.696,
    "DINO, textual inversion": 0.569,
    "similarity of the class to the subject, with prior loss": 0.493,
    "similarity of the class to the subject, without": 0.664,
}


@dataclass(frozen=True)
class Config:
    """Training steps of a word and of two words, the batch, drawings, and sets of pictures for the leak."""

    steps: int = 150
    batch: int = 16
    drawings: int = 48
    sets: int = 20_000
    seed: int = 0


QUICK = {"steps": 5, "batch": 4, "drawings": 4, "sets": 500}


def subject(n: int, seed: int) -> drawing.Attributes:
    """n pictures of one thing: its garment, colour and badge are the same, all else is as the world draws it."""
    z, one = drawing.draw_attributes(n, seed), drawing.draw_attributes(1, seed + 1)
    same = {name: np.repeat(getattr(one, name), n, 0) for name in ("garment", "colour", "bits")}
    return z._replace(**same, pattern=np.full(n, PATTERNS.index("badged"), np.int32))


def caption_of(theta: dict, n: int) -> Any:
    """The soft caption with these log-weights, for n pictures."""
    return law.weights(**{name: jnp.broadcast_to(w, (n, len(w))) for name, w in theta.items()})


def trained(words: dict, losses: Any, config: Config) -> dict:
    """Adam on words {name: log-weights} with losses(words, key), .1 a step."""
    adam = optax.adam(0.1)

    @jax.jit
    def step(words: dict, state: Any, key: Any) -> tuple[dict, Any]:
        change, state = adam.update(jax.grad(losses)(words, key), state)
        return optax.apply_updates(words, change), state

    state = adam.init(words)
    for k in range(config.steps):
        words, state = step(words, state, jax.random.fold_in(jax.random.key(config.seed), k))
    return words


def error(theta: dict, x0: jax.Array, key: Any) -> jax.Array:
    """E‖x0 - E[x0 | x_t, T]‖² a number, of pictures x0 under a soft caption: the loss of x̂0, t between 100 and 900."""
    k_t, k_eps = jax.random.split(key)
    t = jax.random.randint(k_t, (len(x0),), 100, 900)
    x_t = q_sample(exact.SCHEDULE, x0, t, jax.random.normal(k_eps, x0.shape))
    answer = law.distribution().answer(exact.SCHEDULE, x_t, t, caption_of(theta, len(x0)))
    return ((x0 - answer.x0) ** 2).mean()


def leak(n: int, K: int) -> float:
    """E KL(shares of n pictures ‖ 1/K), nats, in closed form: each count is binomial."""
    k = np.arange(1, n + 1)
    return float(K * (binom.pmf(k, n, 1 / K) * k / n * np.log(k / n)).sum() + np.log(K))


def zeros(names: tuple[str, ...]) -> dict:
    """No opinion on any attribute."""
    return {name: jnp.zeros(len(ATTRIBUTES[name])) for name in names}


def inversion(config: Config) -> tuple[list[Row], dict]:
    """Train a word on four pictures; its shares, and the bits that it draws."""
    z = subject(4, 41)
    x0, pick = jnp.asarray(drawing.painted(z) / 127.5 - 1, jnp.float32), config.batch
    loss = lambda theta, key: error(theta, x0[jnp.arange(pick) % 4], key)  # noqa: E731
    theta = trained(zeros(LEARNED), loss, config)
    rows, bars = [], {}
    for name in LEARNED:
        shares = np.bincount(getattr(z, name), minlength=len(ATTRIBUTES[name])) / 4
        got = np.asarray(jax.nn.softmax(theta[name]))
        bars[name] = [shares.tolist(), got.tolist()]
        top = int(shares.argmax())
        rows.append(Row(f"S*: weight of {name} {ATTRIBUTES[name][top]}", None, float(shares[top]), float(got[top])))
    eps, n = law.distribution().eps(exact.SCHEDULE), config.drawings
    told = evidence.subject(np.repeat(z.bits[:1], n, 0), np.repeat(z.garment[:1], n), np.repeat(z.colour[:1], n))
    for name, c, truth in (("S*", caption_of(theta, n), 0.5), ("the subject itself", told, 1.0)):
        x = exact.drawn(eps, c, n, 25, config.seed)
        reading = law.read(np.clip(x, -1, 1))
        bits = (reading.bits == z.bits[:1])[reading.values[:, 3] == PATTERNS.index("badged")]
        se = 0.5 / np.sqrt(bits.size) if truth < 1 else 1e-9
        rows.append(
            Row(f"{name}: share of the badge's bits right", None, truth, float(bits.mean()), se, within=5 * se / truth)
        )
        rows.append(Row(f"{name}: all 16 right", None, truth**16, float(bits.all(1).mean())))
        bars[f"drawn: {name}"] = np.clip(x[:4], -1, 1).round(2)
    return rows, bars | {"pictures": np.asarray(x0).round(2)}


def dreambooth(config: Config) -> tuple[list[Row], dict]:
    """Train the words S* and shirt together, with the prior loss and without it."""
    names = ("colour", "ground", "light")
    z = subject(4, 43)
    x0 = jnp.asarray(drawing.painted(z) / 127.5 - 1, jnp.float32)[jnp.arange(config.batch) % 4]
    # What the frozen model draws of the class, whose soft caption is 0, cut to what is trained: 512 pictures
    world = jnp.asarray(exact.pictures(512, 44)[0])
    told = {
        name: jnp.where(jnp.arange(len(words)) == getattr(z, name)[0], 0.0, -jnp.inf)
        for name, words in (("garment", ATTRIBUTES["garment"]), ("pattern", PATTERNS))
    }
    both = lambda w: {n: w["S*"][n] + w["class"][n] for n in names} | told  # noqa: E731
    rows, drift = [], {}
    for prior in (0.0, 1.0):

        def loss(words: dict, key: Any, prior: float = prior) -> jax.Array:
            k1, k2, k3 = jax.random.split(key, 3)
            picked = world[jax.random.randint(k3, (config.batch,), 0, len(world))]
            kept = prior * error(words["class"], picked, k2) if prior else 0.0
            return error(both(words), x0, k1) + kept

        words = trained({"S*": zeros(names), "class": zeros(names)}, loss, config)
        name = "with the prior loss" if prior else "without it"
        of_class, of_subject = (
            {n: np.asarray(jax.nn.softmax(w[n]), np.float64) for n in names} for w in (words["class"], both(words))
        )
        drift[name] = [of_class["colour"].tolist(), of_subject["colour"].tolist()]
        kl = {n: float((p * np.log(p * len(p))).sum()) for n, p in of_class.items()}
        half = {n: np.sqrt(p) / np.sqrt(p).sum() for n, p in of_subject.items()}  # half the log-weights
        for n in names:
            truth = float((half[n] * np.log(half[n] * len(half[n]))).sum()) if not prior else 0.0
            within = None if prior else 1e-3
            rows.append(Row(f"{name}: KL(class ‖ world) of {n}, nats", None, truth, kl[n], within=within, near=0.01))
    return rows, drift


def lora(config: Config) -> list[Row]:
    """Numbers and bytes by rank; the least error of a change of rank r, and what training reaches."""
    shapes = param_shapes(replace(TEXTS["wardrobe"], words=captions.VOCABULARY))
    params = unflatten({k: np.zeros(a.shape, np.float32) for k, a in flatten(shapes).items()})
    rows = []
    for rank in (1, 4, 16):  # six cross-attentions of 64 channels to 64 of the text: q, k, v, o
        made = make_lora(jax.random.key(0), params, rank)
        size = sum(a.size for a in jax.tree.leaves(made.pairs))
        rows.append(Row(f"LoRA, rank {rank}: bytes in float32", None, 4 * 6 * 4 * rank * (64 + 64), 4 * size, within=0))
    rng, sigma = np.random.default_rng(0), np.array([3.0, 2.0, 1.0, 0.5, 0.25, 0.1])
    U, V = (np.linalg.qr(rng.normal(size=(n, 6)))[0] for n in (12, 8))
    wanted, base = jnp.asarray(U * sigma @ V.T, jnp.float32), {"W": {"kernel": jnp.zeros((12, 8))}}
    for rank in (1, 2, 4):
        made = make_lora(jax.random.key(1), base, rank, of=lambda name: True)
        off = lambda pairs, made=made: ((change(made.replace(pairs=pairs))["W/kernel"] - wanted) ** 2).sum()  # noqa: E731
        fall = lambda p, _, off=off: (jax.tree.map(lambda a, g: a - 0.02 * g, p, jax.grad(off)(p)), None)  # noqa: E731
        got = float(off(jax.lax.scan(fall, made.pairs, length=4000)[0]))
        rows.append(
            Row(f"LoRA, rank {rank}: least ‖ΔW - ΔW*‖²", None, float((sigma[rank:] ** 2).sum()), got, within=2e-3)
        )
    return rows


def run(config: Config) -> Result:
    """Measure the leak by the number of pictures, then a trained word, two trained words, and LoRA."""
    rng, rows, curves = np.random.default_rng(config.seed), [], {}
    many = (1, 2, 4, 8, 16, 32)
    for name in ("column", "ground", "light"):
        K = len(ATTRIBUTES[name])
        curves[name] = [leak(n, K) for n in many]
        counts = rng.multinomial(4, np.full(K, 1 / K), config.sets) / 4
        kl = (counts * np.log(np.maximum(counts, 1e-300) * K)).sum(1)
        se = float(kl.std() / np.sqrt(config.sets))
        rows.append(
            Row(f"four pictures: E KL of {name}, nats", None, leak(4, K), float(kl.mean()), se, 5 * se / leak(4, K))
        )
    words, bars = inversion(config)
    drift_rows, drift = dreambooth(config)
    rows += [*words, *drift_rows, *lora(config), *(Row(f"paper: {name}", value) for name, value in PAPERS.items())]
    return Result(rows, None, {"pictures": many, "leak": curves, "bars": bars, "drift": drift})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw pictures, the shares that a word learned, the leak by number of pictures, and the drift of the class."""
    with plot.style():
        figure = plot.new_figure(10.4, 5.2)
        grid = figure.add_gridspec(2, 3)
        axes = figure.add_subplot(grid[0, 0])
        bars = numbers["bars"]
        strips = {
            "four pictures": bars["pictures"],
            "a S*": bars["drawn: S*"],
            "the subject": bars["drawn: the subject itself"],
        }
        axes.imshow(plot.grid(np.concatenate([np.array(x) for x in strips.values()]), 4))
        axes.set_yticks(16 + 30 * np.arange(3), strips, fontsize=8)
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for place, name in (((0, 1), "ground"), ((0, 2), "column"), ((1, 0), "light")):
            axes = figure.add_subplot(grid[place])
            x = np.arange(len(ATTRIBUTES[name]))
            for k, (shares, label) in enumerate(zip(bars[name], ("in the 4 pictures", "in S*"), strict=True)):
                axes.bar(x + 0.4 * k - 0.2, shares, 0.36, color=("0.7", "#1b4f72")[k], label=label)
            axes.axhline(1 / len(x), color="#c0392b", lw=1, ls=":", label="in the world")
            axes.set_xticks(x, ATTRIBUTES[name], fontsize=7, rotation=30)
            axes.set_title(name, fontsize=9)
            axes.legend(fontsize=7)
        axes = figure.add_subplot(grid[1, 1])
        for name, curve in numbers["leak"].items():
            axes.plot(numbers["pictures"], curve, "o-", label=name)
        axes.set(xscale="log", xlabel="pictures of the subject", ylabel="leak, nats", xticks=numbers["pictures"])
        axes.set_xticklabels(map(str, numbers["pictures"]))
        axes.minorticks_off()
        axes.legend(fontsize=7)
        axes = figure.add_subplot(grid[1, 2])
        x = np.arange(8)
        for k, (name, (of_class, _)) in enumerate(numbers["drift"].items()):
            axes.bar(
                x + 0.4 * k - 0.2,
                of_class,
                0.36,
                color=("#c0392b", "#1b4f72")[k],
                label=name.replace(" it", " the prior loss"),
            )
        axes.set_xticks(x, ATTRIBUTES["colour"], fontsize=7, rotation=30)
        axes.set_title("colours of the class after training S*", fontsize=9)
        axes.legend(fontsize=7)
    return figure
