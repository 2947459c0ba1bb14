"""VAE, GAN and diffusion in one table: each kind gives up one of three wishes.

Good images, all of the data, few calls: Xiao et al. call it the generative learning trilemma, and show it on CIFAR-10
with models that took days to train. Ours trains a VAE, a conditional GAN, and diffusion models in pixels and in codes,
on Fashion-MNIST for the same fifteen minutes of a processor core each, with two seeds, and measures 2,000 images each:
do they show the class that was asked (accuracy), how far are their features from those of the training images
(Fréchet), which share of the images is like the data (precision), which share of the data is like the images (recall,
coverage). Beside them stand what as many test images score, and the shipped diffusion model, which trained for 89
minutes. The exact column has data for which each kind can be solved: a Gaussian with the covariance of the images. The
best linear VAE, in one call, loses what its codes do not hold; DDIM with the exact denoiser loses what its steps cost;
a perfect GAN loses nothing. Fifteen minutes are a small budget, and the order of the three belongs to this budget; the
paper's belongs to its own. The row with 1,000 calls has fewer images, as it says, so it has no distances.

What we see: after fifteen minutes the GAN is ahead in everything, in one call: accuracy .92, distance 12, recall .80,
where the shipped diffusion model, with six times the minutes, has .97, 3.1 and .80. On single garments in the middle of
an image nothing can be seen of the paper's complaint about GANs, that they leave out a part of the data. The VAE has
.64 and 190, and a recall of .53 that differs by .12 between the seeds: as much of the data as diffusion has (.41 to
.59), blurred. Diffusion without guidance has .80 to .86 and 84 to 106 in pixels, at any number of calls from 4 to 50,
so what limits it is the training, not the steps; in codes it has .94 of that accuracy at 50 calls, and 138. So there is
a fourth wish, next to few calls for drawing: little time for training. (Two minutes each gave .84 and 81 to the GAN,
.57 and 239 to the VAE, .51 and 431 to diffusion.)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import data, plot, weights
from ddpm.evaluation import distances, neighbours
from ddpm.evaluation.statistics import stratified_subset
from ddpm.generators import GeneratorConfig, Recipe, best_linear_vae, build, fit
from ddpm.guide import clip_x0
from ddpm.networks.inspect import count
from ddpm.sample import Sampling, ddim_step
from ddpm.samplers.generation import generate
from ddpm.schedule import linear, make_times
from ddpm.tools import cache
from experiments.lab.drawn_images import Judge
from experiments.lab.latent_trainings import Budget, train
from experiments.lab.linear_denoisers import by_steps, variances
from experiments.lab.runner import Result, Row, float64
from experiments.lab.training_scores import judge_of

PAPER = "Xiao et al. 2022, Tackling the Generative Learning Trilemma, Table 1 (CIFAR-10)"
MINUTES = 75.0
MEASURES = ("accuracy", "Fréchet distance", "precision", "recall", "coverage")
BELOW = ("GAN", "latent diffusion, 50 calls", "diffusion, 4 calls")  # the labels that stand below their points
COSTS = ("calls", "MFLOP an image", "ms an image", "parameters", "minutes of training")
# Recall and calls in the paper's table: DDPM, and StyleGAN2 with ADA.
PRINTED = {
    "diffusion, 1,000 calls": {"recall": 0.57, "calls": 1000.0},
    "GAN": {"recall": 0.49, "calls": 1.0},
}


@dataclass(frozen=True)
class Config:
    """Data, minutes of training of each model (or steps, if 0), seeds, images, and calls of the diffusion model."""

    data: str = "fashion_mnist"
    minutes: float = 15.0
    steps: int = 0
    seeds: int = 2
    n: int = 2000
    calls: tuple[int, ...] = (4, 10, 50)
    many: int = 1000
    few: int = 50  # images with `many` calls
    channels: int = 16  # of the diffusion model in pixels; twice as many in codes
    codec_steps: int = 800
    width: int = 24
    codes: int = 16
    seed: int = 0


QUICK = {"data": "digits", "minutes": 0.08, "steps": 0, "seeds": 1, "n": 100, "calls": (4,), "many": 10, "few": 40,
         "channels": 8, "codec_steps": 120, "width": 8}  # fmt: skip


# --- Gaussian data ----------------------------------------------------------------------------------------------------


def exact_errors(lam: np.ndarray, calls: tuple[int, ...], k: int) -> dict[str, float]:
    """The Fréchet distance of each kind at its best, in NumPy; lam: eigenvalues, falling"""
    r2 = lam[k:].mean()
    out = {
        "linear VAE, its means": lam[k:].sum() + ((np.sqrt(lam[:k]) - np.sqrt(lam[:k] - r2)) ** 2).sum(),
        "linear VAE": ((np.sqrt(lam[k:]) - np.sqrt(r2)) ** 2).sum(),
        "perfect GAN": 0.0,
    }
    a = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])
    for n in calls:
        gain = np.ones_like(lam)
        for t, s in pairwise([*np.round(1000 - np.arange(n) * 1000 / n).astype(int), 0]):
            c = np.sqrt(1 - a[t]) / (a[t] * lam + 1 - a[t])  # ε* = c x
            gain *= np.sqrt(a[s] / a[t]) * (1 - np.sqrt(1 - a[t]) * c) + np.sqrt(1 - a[s]) * c
        out[f"DDIM, {n:,} calls"] = ((np.sqrt(lam) - np.abs(gain)) ** 2).sum()
    return {name: float(v) for name, v in out.items()}


def library_errors(lam: np.ndarray, calls: tuple[int, ...], k: int) -> dict[str, float]:
    """The same by the library: the solved VAE's covariance, and its DDIM."""
    vae, r2 = best_linear_vae(np.eye(len(lam)), lam, k)
    means = (np.asarray(vae.decoder) ** 2).sum(1)
    out = {"linear VAE, its means": means, "linear VAE": means + r2, "perfect GAN": lam}
    for n in calls:
        out[f"DDIM, {n:,} calls"] = np.asarray(by_steps(ddim_step, linear(), jnp.asarray(lam), make_times(1000, n)))
    return {name: float(((np.sqrt(lam) - np.sqrt(var)) ** 2).sum()) for name, var in out.items()}


# --- trained models ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawer:
    """A trained model: labels (n,) and a seed -> images in [-1, 1], and what it costs."""

    draw: Callable[[np.ndarray, int], np.ndarray]
    costs: dict[str, float]


def flops(f: Callable[..., Any], *args: Any) -> float:
    """MFLOP an image of a batch of 100, as XLA counts them."""
    cost: Any = jax.jit(f).lower(*args).compile().cost_analysis()
    return float(cost["flops"]) / 100 / 1e6


def one_call(kind: str, config: Config, d: data.Dataset, seed: int) -> dict[str, Drawer]:
    """A VAE or a conditional GAN."""
    H, _, C = d.image_shape
    codes = config.codes if kind == "vae" else 4 * config.codes
    sizes = GeneratorConfig(kind, H, C, d.num_classes, codes, config.width)
    g = fit(sizes, Recipe(config.steps or 1, config.minutes, seed=seed), d.x_train, d.y_train)
    mflop = flops(build(sizes).decode, g.params, jnp.zeros((100, codes)), jnp.zeros(100, jnp.int32))
    costs = {"calls": 1.0, "MFLOP an image": mflop, "parameters": float(count(g.params["decoder"]))}
    costs["minutes of training"] = g.card["minutes"]
    return {kind.removeprefix("c").upper(): Drawer(lambda c, s: g.draw(jax.random.key(s), len(c), c), costs)}


def by_steps_of(kind: str, config: Config, d: data.Dataset, seed: int) -> dict[str, Drawer]:
    """Diffusion in pixels, 2x2 of which are one position, or in the codes of an autoencoder; without guidance."""
    pixels = kind == "pixels"
    channels, factor = (config.channels, 2) if pixels else (2 * config.channels, 4)
    budget = Budget(config.data, factor, config.minutes, channels, config.codec_steps, seed=seed)
    trained = train(budget)
    m, codec = trained.model, trained.codec
    eps = clip_x0(m.eps, m.schedule, trained.low, trained.high)
    to_image = jax.jit(codec.to_image)
    z, c = jnp.zeros((100, *m.image_shape)), jnp.zeros(100, jnp.int32)
    one, last = flops(m.eps, z, jnp.full(100, 500), c), flops(codec.to_image, z)

    def drawer(calls: int) -> Drawer:
        def draw(c: np.ndarray, s: int) -> np.ndarray:
            how = Sampling(steps=calls, clip=False)
            z = generate(eps, m.schedule, jax.random.key(s), m.image_shape, c, how)
            return np.clip(
                np.concatenate([np.asarray(to_image(part)) for part in np.split(z, max(1, len(z) // 50))]), -1, 1
            )

        costs = {"calls": float(calls), "MFLOP an image": one * calls + last, "minutes of training": config.minutes}
        size = count(m.params) + count(codec.decode.args if not pixels else ())
        return Drawer(draw, costs | {"parameters": float(size)})

    if not pixels:
        return {f"latent diffusion, {n:,} calls": drawer(n) for n in config.calls[-1:]}
    return {f"diffusion, {n:,} calls": drawer(n) for n in (*config.calls, config.many)}


def measured(judge: Judge, x: np.ndarray, c: np.ndarray) -> dict[str, float]:
    """The five measures of uint8 images; the accuracy alone where they are too few for a distance."""
    found = {"accuracy": float((judge.classifier.predict(x) == c).mean())}
    if len(x) < 80:
        return found
    f = judge.features(x)
    some = judge.real.train[stratified_subset(judge.data.y_train, len(x), 0)]
    both = neighbours.overlap(some, f)
    found["Fréchet distance"] = distances.frechet_moments(distances.moments(f), judge.train)
    return found | {name: float(np.mean(getattr(both, name))) for name in ("precision", "recall", "coverage")}


MODELS = {
    "vae": partial(one_call, "vae"),
    "cgan": partial(one_call, "cgan"),
    "latent": partial(by_steps_of, "latent"),
    "pixels": partial(by_steps_of, "pixels"),
}


def of_seed(config: Config, judge: Judge, seed: int) -> dict[str, dict]:
    """Train and measure everything with one seed; each model is kept in the cache, so an experiment resumes."""
    out: dict[str, dict] = {}
    for kind, make in MODELS.items():
        path = cache.path("trilemma", kind, asdict(replace(config, seeds=1)), seed, judge.data.sha256)
        found = cache.read(path)
        if found is None:
            found = {}
            for name, drawer in make(config, judge.data, seed).items():
                found[name] = scored(config, judge, drawer, seed)
                print(f"seed {seed}, {name}: {found[name] | {'shown': ''}}", flush=True)
            cache.write(path, found)
        out |= found
    return out


def scored(config: Config, judge: Judge, drawer: Drawer, seed: int) -> dict[str, Any]:
    """Draw, and measure; the time is that of the processor, without the compilation."""
    n = config.few if drawer.costs["calls"] == config.many else config.n
    c = np.arange(n, dtype=np.int32) % judge.data.num_classes
    drawer.draw(c[:100], seed) if n == config.n else None  # compiles
    begin = time.process_time()
    x = data.to_uint8(drawer.draw(c, seed + 1))
    took = {"ms an image": 1000 * (time.process_time() - begin) / n} if n == config.n else {}
    return measured(judge, x, c) | drawer.costs | took | {"n": n, "shown": x[:10].tolist()}


def shipped(d: data.Dataset) -> dict[str, float]:
    """What the card of the shipped diffusion model says: 50 calls of DDIM, guidance 2, two networks' calls a step."""
    card = weights.cards("denoiser").get(d.name)
    if card is None:
        return {}
    m = card["measures"]
    names = {"accuracy": "accuracy", "Fréchet distance": "frechet", "precision": "precision", "recall": "recall",
             "coverage": "coverage"}  # fmt: skip
    found = {name: float(m[key]["value"]) for name, key in names.items()}
    minutes = card["training_seconds"] / 60
    return found | {"calls": 100.0, "parameters": float(card["parameters"]), "minutes of training": minutes}


def run(config: Config) -> Result:
    """The exact errors, then every model and seed."""
    judge = judge_of(config.data)
    d = judge.data
    lam = variances(data.to_float(d.x_train))[::-1]
    lam = lam[lam > 1e-9 * lam[0]]
    calls = (*config.calls, config.many)
    rows = []
    with float64():
        ours = library_errors(lam, calls, config.codes)
        for name, exact in exact_errors(lam, calls, config.codes).items():
            what = f"Gaussian data, {name}: Fréchet distance in pixels"
            rows.append(Row(what, None, exact, ours[name], within=1e-5, near=1.0))
    # Trained models: means over seeds, with half of the range
    runs = [of_seed(config, judge, config.seed + k) for k in range(config.seeds)]
    table: dict[str, dict[str, float]] = {}
    for name in runs[0]:
        of = [r[name] for r in runs]
        n = "" if of[0]["n"] == config.n else f" ({of[0]['n']} images)"
        for key in (*MEASURES, *COSTS):
            if key not in of[0]:
                continue
            values = [float(r[key]) for r in of]
            spread = float(np.ptp(values) / 2) or None
            table.setdefault(name, {})[key] = float(np.mean(values))
            rows.append(Row(f"{name}{n}: {key}", PRINTED.get(name, {}).get(key), None, float(np.mean(values)), spread))
    test = stratified_subset(d.y_test, min(config.n, len(d.x_test)), 0)
    others = {"test images": measured(judge, d.x_test[test], d.y_test[test]), "shipped model, guidance 2": shipped(d)}
    for name, found in others.items():
        rows += [Row(f"{name}: {key}", None, None, value) for key, value in found.items()]
    shown = {name: r["shown"] for name, r in runs[0].items()}
    return Result(rows, None, {"table": table | others, "shown": shown, "n": config.n, "seeds": config.seeds})


def in_one_table(numbers: dict) -> str:
    """The measures and costs as one table, a line for each model."""
    keys = (*MEASURES, *COSTS)
    lines = ["| | " + " | ".join(keys) + " |", "|---|" + "---|" * len(keys)]
    for name, found in numbers["table"].items():
        cells = [
            "" if found.get(k) is None else f"{found[k]:,.3g}" if found[k] < 1e4 else f"{found[k]:,.0f}" for k in keys
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw ten images of each model, and accuracy and recall against the cost of an image."""
    table, shown = numbers["table"], numbers["shown"]
    with plot.style():
        figure = plot.new_figure(11.4, 0.5 + 0.52 * max(6, len(shown)))
        left, right, last = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
        images = np.concatenate([np.array(x, np.float64) / 127.5 - 1 for x in shown.values()])
        left.imshow(plot.grid(images, 10).squeeze(), cmap="gray", interpolation="nearest")
        height = images.shape[1] + 2
        left.set_yticks(2 + height * (np.arange(len(shown)) + 0.45), list(shown), fontsize=8)
        left.set_xticks([])
        for ax, key in ((right, "accuracy"), (last, "recall")):
            for i, (name, found) in enumerate(table.items()):
                if found.get(key) is None:
                    continue
                if "MFLOP an image" not in found:
                    ax.axhline(found[key], color="0.7", ls=":" if "test" in name else "-", lw=1)
                    ax.text(0.5, found[key], name, fontsize=6.5, va="bottom", transform=ax.get_yaxis_transform())
                    continue
                ax.plot(found["MFLOP an image"], found[key], "o", color=f"C{min(i, 2)}")
                label = name.removeprefix("diffusion, ").replace("latent diffusion", "latent")
                ax.annotate(label, (found["MFLOP an image"], found[key]), fontsize=7, textcoords="offset points",
                            xytext=(0, -11 if name in BELOW else 5), ha="center")  # fmt: skip
            ax.set(xscale="log", xlabel="MFLOP an image", ylim=(0, 1.05), title=key)
            ax.margins(x=0.15)
    return figure
