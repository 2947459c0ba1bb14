"""What images of a model add to real ones: nothing, if the model knows no more; and the loop that eats itself.

Azizi et al. train a ResNet-50 on images that a diffusion model drew: on ImageNet 64.96 % with generated images of 256²
alone and 69.24 % of 1024², and generated images help beside real ones, up to about three for one. In the exact case one
sees when they can. Two classes N(±½δu, I) in D dimensions, their means estimated from n images each: the accuracy of
LDA is about Φ(½δ²/√(δ² + 2D/n)), and exactly a quadrature over two numbers. Images of the true distribution are as good
as real ones. Images of a Gaussian that was fitted to the same n have the mean of these n and some noise: they make it a
little worse, and in the limit change nothing. A model that is fitted to its own images again and again, n each time,
keeps (1 - 1/n)^g of the variance on average and much less in the median; if half of the images are real each time, it
keeps nearly all.

Then garments: a linear classifier on random features, with n real images a class and 100 others. Those of a Gaussian
fitted to the same n do nothing at any n. Those of the shipped model do: with ten real ones a class the accuracy rises
from .69 to .78, with a hundred from .788 to .800, with a thousand not at all. It is no contradiction, since this model
was trained on all 60,000 images: it hands on what it knows of them, and a hundred of its images alone are worth a
little less than a hundred real ones. Images with guidance 2 help more than those without, which are more varied but
more often of no class. What does not carry over: a model that was trained on the n images alone, which is the case of
whoever has no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure
from scipy.special import ndtr, roots_hermitenorm
from scipy.stats import chi2

from ddpm import data, plot
from ddpm.datasets import sources
from ddpm.sample import Sampling
from ddpm.samplers.generation import generate
from ddpm.zoo import model
from experiments.lab.runner import Result, Row, Unavailable

PAPER = "Azizi et al. 2023, Synthetic data from diffusion models improves ImageNet classification"
MINUTES = 2
UNCHECKED = "The formula is an approximation; the quadrature beside it is what ours is held to."
DELTA, D = 2.0, 50


@dataclass(frozen=True)
class Config:
    """The exact case: images a class, repetitions, the loop. Garments: real and generated images a class, the rest."""

    n: tuple[int, ...] = (5, 10, 20, 50, 100, 1000)
    repeats: int = 2000
    loop: int = 100
    rounds: int = 50
    data: str = "fashion_mnist"
    model: str = "fashion_mnist"
    real: tuple[int, ...] = (10, 100, 1000)
    made: int = 100
    guidance: tuple[float, ...] = (1.0, 2.0)
    calls: int = 10
    draws: int = 3  # of the n real images
    features: int = 1000
    seed: int = 0


QUICK = {"n": (5, 100), "repeats": 300, "rounds": 5, "data": "digits", "model": "", "real": (10, 50), "made": 10} | {
    "guidance": (1.0,), "calls": 2, "draws": 2, "features": 200,
}  # fmt: skip


# --- exact, in NumPy --------------------------------------------------------------------------------------------------


def lda(error: float) -> float:
    """Accuracy of LDA if each mean has the error N(0, error·I): E Φ(½δ cos/√(1 + error/2)), by quadrature.

    w = δu + N(0, 2·error) has the cosine a/√(a² + r²) with u, a ~ N(δ, 2·error), r² ~ 2·error χ²_(D-1); the middle of
    the means, which is independent of w, moves the border by N(0, error/2) along it.
    """
    z, weight = roots_hermitenorm(60)
    a = DELTA + np.sqrt(2 * error) * z[:, None]
    r2 = 2 * error * chi2.ppf((np.arange(400) + 0.5) / 400, D - 1)
    cosine = a / np.sqrt(a**2 + r2)
    return float((weight / weight.sum()) @ ndtr(DELTA / 2 * cosine / np.sqrt(1 + error / 2)).mean(1))


def formula(n: float) -> float:
    """Φ(½δ²/√(δ² + 2D/n))"""
    return float(ndtr(0.5 * DELTA**2 / np.sqrt(DELTA**2 + 2 * D / n)))


def half_real(n: int, rounds: int) -> float:
    """E of the variance if n/2 images are N(0, 1) each time, the others N(m, v): linear in E v and E m²."""
    v, m2 = 1.0, 0.0
    for _ in range(rounds):
        within = (1 + v) / 2
        v, m2 = within * (1 - 1 / n) + m2 / 4, m2 / 4 + within / n
    return v


# --- ours -------------------------------------------------------------------------------------------------------------


def measured(rng: np.random.Generator, n: int, repeats: int, more: str) -> tuple[float, float]:
    """Accuracy of LDA on new data and its standard error, with as many `more` images as real ones."""
    true = np.zeros((2, D))
    true[:, 0] = -DELTA / 2, DELTA / 2
    accuracy = []
    for _ in range(repeats):
        x = true[:, None] + rng.standard_normal((2, n, D))
        means = x.mean(1)
        if more:
            center = true if more == "true" else means
            means = (means + (center[:, None] + rng.standard_normal((2, n, D))).mean(1)) / 2
        w, mid = means[1] - means[0], means.mean(0)
        accuracy.append(ndtr((true - mid) @ w * (-1, 1) / np.linalg.norm(w)).mean())
    return float(np.mean(accuracy)), float(np.std(accuracy, ddof=1) / np.sqrt(repeats))


def looped(rng: np.random.Generator, n: int, rounds: int, repeats: int, real: int) -> np.ndarray:
    """Variance of a Gaussian fitted to n images, `real` from N(0, 1), others from the last fit: (rounds+1, repeats)"""
    m, v, out = np.zeros(repeats), np.ones(repeats), [np.ones(repeats)]
    for _ in range(rounds):
        x = rng.standard_normal((repeats, n))
        x[:, real:] = m[:, None] + np.sqrt(v)[:, None] * x[:, real:]
        m, v = x.mean(1), x.var(1)
        out.append(v)
    return np.array(out)


def exact_rows(config: Config) -> tuple[list[Row], dict[str, Any]]:
    """Rows of LDA and of the loop, with their curves."""
    rng, rows, curves = np.random.default_rng(config.seed), list[Row](), dict[str, Any]()
    for n in config.n:
        found = {}
        for more, error in (("", 1 / n), ("true", 1 / (2 * n)), ("fitted", 1 / n + 1 / (4 * n))):
            ours, se = measured(rng, n, max(50, config.repeats // max(1, n // 50)), more)
            name = {"": "", "true": " and n of the true distribution", "fitted": " and n of a fit to them"}[more]
            rows.append(Row(f"LDA, n = {n}{name}", None, lda(error), ours, se, within=5 * se, near=1.0))
            found[more or "real"] = (rows[-1].exact, ours)
        rows.append(Row(f"LDA, n = {n}: the formula", None, lda(1 / n), formula(n)))
        curves[str(n)] = found | {"formula": formula(n)}
    for name, real, exact in (
        ("own images only", 0, (1 - 1 / config.loop) ** config.rounds),
        ("half of them real", config.loop // 2, half_real(config.loop, config.rounds)),
    ):
        v = looped(rng, config.loop, config.rounds, config.repeats // 2, real)
        se = float(v[-1].std(ddof=1) / np.sqrt(v.shape[1]))
        what = f"fitted {config.rounds} times, {name}"
        rows.append(Row(f"{what}: mean variance", None, exact, float(v[-1].mean()), se, within=5 * se, near=1.0))
        rows.append(Row(f"{what}: median variance", None, None, float(np.median(v[-1]))))
        curves[name] = {"some": v[:, :30].T, "mean": v.mean(1), "median": np.median(v, 1)}
    return rows, curves


# --- garments ---------------------------------------------------------------------------------------------------------


class Features:
    """cos(w·x + b) of pixels, with random w ~ N(0, 1/width²) and b: the kernel exp(-‖x - y‖²/(2 width²))."""

    def __init__(self, x: np.ndarray, count: int, seed: int):
        rng, flat = np.random.default_rng(seed), x.reshape(len(x), -1)
        self.mean = flat.mean(0)
        width = np.sqrt(np.median(((flat[:200, None] - flat[None, 200:400]) ** 2).sum(2)) / 4)
        self.w = rng.standard_normal((flat.shape[1], count)).astype(np.float32) / np.float32(width)
        self.b = rng.uniform(0, 2 * np.pi, count).astype(np.float32)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(n, H, W, C) -> (n, count)"""
        return np.sqrt(2 / len(self.b)) * np.cos((x.reshape(len(x), -1) - self.mean) @ self.w + self.b)


def classified(f: np.ndarray, y: np.ndarray, f_test: np.ndarray, y_test: np.ndarray, ridge: float = 0.1) -> float:
    """Test accuracy of ridge regression on the labels as vectors; 0.1 is best for other training images."""
    target = np.eye(y.max() + 1, dtype=np.float32)[y] - np.float32(1 / (y.max() + 1))
    if len(f) < f.shape[1]:
        weight = f.T @ np.linalg.solve(f @ f.T + ridge * np.eye(len(f), dtype=np.float32), target)
    else:
        weight = np.linalg.solve(f.T @ f + ridge * np.eye(f.shape[1], dtype=np.float32), f.T @ target)
    return float(((f_test @ weight).argmax(1) == y_test).mean())


def of_a_fit(x: np.ndarray, y: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images of a Gaussian fitted to each class: x̄ + Σ_i z_i (x_i - x̄)/√n, `count` of each"""
    parts = []
    for k in range(y.max() + 1):
        of_k = x[y == k].reshape((y == k).sum(), -1)
        z = rng.standard_normal((count, len(of_k))).astype(np.float32)
        parts.append(of_k.mean(0) + z @ (of_k - of_k.mean(0)) / np.float32(np.sqrt(len(of_k))))
    return np.concatenate(parts).reshape(-1, *x.shape[1:]).clip(-1, 1), np.repeat(np.arange(y.max() + 1), count)


def made_by_model(config: Config, K: int) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], Any]:
    """Images of the diffusion model with their labels, for each guidance scale."""
    if config.model:
        net = model.load(config.model)
    else:
        from experiments.ddae import untrained

        net = untrained()
    made, c = {}, np.tile(np.arange(K), config.made)
    for s in config.guidance:
        how = Sampling("dpm_2m", steps=config.calls, guidance=s)
        x = generate(net.eps, net.schedule, jax.random.key(config.seed + 1), net.image_shape, c, how, batch=250)
        made[f"model, s = {s:g}"] = (np.asarray(x, np.float32), c)
    return made, net


def garments(config: Config) -> tuple[list[Row], dict[str, Any]]:
    """Rows of the classifier with real and generated images, and its curve."""
    try:
        d = sources.load(config.data)
    except (FileNotFoundError, ConnectionError) as missing:
        raise Unavailable(f"this needs {config.data}, which is not here: {missing}") from None
    x, x_test, K = data.to_float(d.x_train), data.to_float(d.x_test), len(d.class_names)
    made, _ = made_by_model(config, K)
    phi, rng = Features(x[:2000], config.features, config.seed), np.random.default_rng(config.seed)
    f_test, of_made = phi(x_test), {name: (phi(images), c) for name, (images, c) in made.items()}
    rows, curve = list[Row](), dict[str, Any]()
    for name, (f, c) in of_made.items():
        alone = classified(f, c, f_test, d.y_test)
        rows.append(Row(f"{name} alone, {config.made} a class: accuracy", None, None, alone))
        curve[f"{name}, alone"] = alone
    places = [rng.permutation(np.flatnonzero(d.y_train == k)) for k in range(K)]
    for n in config.real:
        found: dict[str, list[float]] = {}
        for draw in range(config.draws):
            ids = np.concatenate([p[draw * n : (draw + 1) * n] for p in places])
            real, y = x[ids], d.y_train[ids].astype(int)
            fit, of = of_a_fit(real, y, config.made, rng)
            f = phi(real)
            more = {"a fit to them": (phi(fit), of), **of_made}
            found.setdefault("real", []).append(classified(f, y, f_test, d.y_test))
            for name, (g, c) in more.items():
                both = np.concatenate([f, g]), np.concatenate([y, c])
                found.setdefault(name, []).append(classified(*both, f_test, d.y_test))
        for name, a in found.items():
            what = f"n = {n}: real" if name == "real" else f"n = {n}: real and {config.made} of {name}"
            se = float(np.std(a, ddof=1) / np.sqrt(len(a)))
            rows.append(Row(what, None, None, float(np.mean(a)), se))
        curve[str(n)] = {name: float(np.mean(a)) for name, a in found.items()}
    shown = {name: data.to_uint8(images[: 2 * K])[..., 0] for name, (images, _) in made.items()}
    return rows, {"accuracy": curve, "shown": shown}


def run(config: Config) -> Result:
    """Check the exact case, and classify garments."""
    rows, curves = exact_rows(config)
    more, numbers = garments(config)
    return Result([*rows, *more], None, {"lda": curves, **numbers, "test images": "all"})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw LDA by n, the loop, and garments with images of the model."""
    with plot.style():
        figure = plot.new_figure(11, 4.4)
        above, below = figure.subfigures(2, 1, height_ratios=(3.1, 1.3))  # type: ignore[misc]
        left, middle, right = above.subplots(1, 3)
        by_n = {int(n): c for n, c in numbers["lda"].items() if n.isdigit()}
        for name, label, colour in (
            ("true", "and n of the true distribution", "C1"),
            ("real", "n real", "C0"),
            ("fitted", "and n of a fit to them", "C3"),
        ):
            exact, ours = np.array([c[name] for c in by_n.values()]).T
            left.semilogx(list(by_n), exact, "-", color=colour, lw=1, label=label)
            left.plot(list(by_n), ours, "o", color=colour, ms=3.5)
        left.plot(list(by_n), [c["formula"] for c in by_n.values()], color="0.6", ls=":", label="the formula, n real")
        left.set(xlabel="images a class n", ylabel="accuracy of LDA", title="lines exact")
        for name, colour in (("own images only", "C1"), ("half of them real", "C5")):
            loop = numbers["lda"][name]
            middle.plot(np.array(loop["some"]).T, color=colour, ls="-", lw=0.4, alpha=0.3)
            middle.plot(loop["mean"], color=colour, ls="-", label=name)
            middle.plot(loop["median"], color=colour, ls=":")
        middle.set(xlabel="round", ylabel="variance", ylim=(0, 1.6), title="fitted to images of the last fit")
        curve = numbers["accuracy"]
        real = [int(n) for n in curve if n.isdigit()]
        for name in curve[str(real[0])]:
            y = [curve[str(n)][name] for n in real]
            right.semilogx(
                real, y, "o-" if name == "real" else "s--", ms=4, label=name if name == "real" else f"+ {name}"
            )
        right.set(xlabel="real images a class", ylabel="test accuracy", title="garments, linear classifier")
        for ax in (left, middle, right):
            ax.legend(fontsize=7)
        strips = np.atleast_1d(below.subplots(len(numbers["shown"]), 1))
        for ax, (name, images) in zip(strips, numbers["shown"].items(), strict=True):
            ax.imshow(
                np.concatenate(np.pad(np.array(images), ((0, 0), (0, 0), (1, 1)), constant_values=255), 1), cmap="gray"
            )
            ax.set_title(f"images of the {name}", fontsize=8, loc="left", pad=2)
            ax.axis("off")
    return figure
