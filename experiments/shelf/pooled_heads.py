"""Beat GANs on classification: how a denoiser's features are pooled, and which head reads them.

The claim: features of an unconditional denoiser are good for classification, if they are pooled to a small grid instead
of one mean, and the head may be more than linear. The middle of the shipped model of garments has 7 × 7 positions of 64
channels; it is evaluated at little noise without a label and pooled to 1, 2, 4 or 7 positions a side. What we see: from
one position to two the accuracy gains most, .80 to .85; the whole grid, with more numbers than there are training
images, still gains with a ridge, .87. A network of one hidden layer is no better than the ridge. The paper's 71.89 % on
ImageNet is for a head with attention and a network 500 times as large. Linear CKA compares features of two layers in
any axes: with an orthogonal turn of the features it is 1 by definition, and between layers it falls with their
distance. What does not carry over: 1,500 images are few, and heads with attention need many.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import ddpm
from ddpm import data, plot
from ddpm.features.activations import seen_by, weights_of
from ddpm.forward import q_sample
from experiments.lab.runner import Result, Row, Unavailable

PAPER = (
    "Mukhopadhyay et al. 2023, Diffusion Models Beat GANs on Image Classification (ImageNet: 71.89 %, attention head)"
)
MINUTES = 0.7
NEEDS = "Fashion-MNIST"
LAYERS = ("down.0", "down.1", "mid", "up.0", "up.1")


@dataclass(frozen=True)
class Config:
    """Training and test images, the time, sides of the pooled grid, and images of CKA."""

    train: int = 1500
    test: int = 1000
    t: int = 50
    sides: tuple[int, ...] = (1, 2, 4, 7)
    compared: int = 300
    seed: int = 0


QUICK = {"train": 150, "test": 50, "sides": (1, 4), "compared": 50}


def cka(a: np.ndarray, b: np.ndarray) -> float:
    """‖AᵀB‖²/(‖AᵀA‖ ‖BᵀB‖) of centred features, by the Gram matrices of the images"""
    K, L = ((x - x.mean(0)) @ (x - x.mean(0)).T for x in (a, b))
    return float((K * L).sum() / np.sqrt((K * K).sum() * (L * L).sum()))


def pooled(f: np.ndarray, side: int) -> np.ndarray:
    """Means over side × side parts of the positions, (B, side²·C)"""
    cut = np.linspace(0, f.shape[1], side + 1).round().astype(int)
    parts = [f[:, a:b, c:d].mean((1, 2)) for a, b in pairwise(cut) for c, d in pairwise(cut)]
    return np.concatenate(parts, 1)


def ridge(f: np.ndarray, y: np.ndarray, g: np.ndarray, weight: float) -> np.ndarray:
    """Scores (M, 10) of g by ridge regression on one-hot labels, in the space of the images (N × N)"""
    Y = np.eye(10)[y] - 0.1
    return g @ (f.T @ np.linalg.solve(f @ f.T + weight * np.eye(len(f)), Y))


def run(config: Config) -> Result:
    """Features once, then each pooling with each head; CKA between layers."""
    from sklearn.neural_network import MLPClassifier

    try:
        d = ddpm.load_data("fashion_mnist")
    except (FileNotFoundError, ValueError) as error:
        raise Unavailable(f"{error}. This experiment needs {NEEDS}") from None
    m = ddpm.load_model("fashion_mnist")
    look = jax.jit(lambda w, x, t: {k: v for k, v in seen_by(m.unet, w, x, t).items() if k in LAYERS})

    def features(images: np.ndarray, key: int) -> dict[str, np.ndarray]:
        found: dict[str, list[Any]] = {name: [] for name in LAYERS}
        for i in range(0, len(images), 50):
            x = jnp.asarray(data.to_float(images[i : i + 50]))
            noise = jax.random.normal(jax.random.fold_in(jax.random.key(config.seed + key), i), x.shape)
            for name, f in look(
                weights_of(m), q_sample(m.schedule, x, config.t, noise), jnp.full(len(x), config.t)
            ).items():
                found[name].append(np.asarray(f))
        return {name: np.concatenate(f) for name, f in found.items()}

    ids = np.random.default_rng(config.seed).permutation(len(d.x_train))[: config.train]
    train, test = features(d.x_train[ids], 0), features(d.x_test[: config.test], 1)
    y, y_test = d.y_train[ids], d.y_test[: config.test]
    rows, curves = list[Row](), dict[str, list[float]]()
    for side in config.sides:
        f, g = pooled(train["mid"], side), pooled(test["mid"], side)
        mean, std = f.mean(0), f.std(0) + 1e-6
        f, g = (f - mean) / std, (g - mean) / std
        score = ridge(f, y, g, 0.3 * f.shape[1])
        mlp = MLPClassifier((64,), alpha=1.0, max_iter=60, early_stopping=True, random_state=0).fit(f, y)
        for name, right in (("ridge", score.argmax(1) == y_test), ("one hidden layer", mlp.predict(g) == y_test)):
            p = float(right.mean())
            rows.append(
                Row(f"{side} × {side} positions, {name}: accuracy", None, None, p, float(np.sqrt(p * (1 - p) / len(g))))
            )
            curves.setdefault(name, []).append(p)
        if side == 1:  # the same scores from the space of the features
            direct = g @ np.linalg.solve(f.T @ f + 0.3 * f.shape[1] * np.eye(f.shape[1]), f.T @ (np.eye(10)[y] - 0.1))
            rows.append(
                Row(
                    "ridge in both spaces, largest difference",
                    None,
                    0.0,
                    float(np.abs(direct - score).max()),
                    within=1e-4,
                    near=1,
                )
            )
    flat = {name: f[: config.compared].reshape(config.compared, -1).astype(np.float64) for name, f in test.items()}
    Q = np.linalg.qr(np.random.default_rng(1).normal(size=(64, 64)))[0]
    turned = (flat["mid"].reshape(-1, 64) @ Q).reshape(config.compared, -1)
    rows.append(Row("CKA with the same features, turned", None, 1.0, cka(flat["mid"], turned), within=1e-9))
    grid = [[cka(flat[a], flat[b]) for b in LAYERS] for a in LAYERS]
    rows += [
        Row(f"CKA of {a} and mid", None, None, grid[i][LAYERS.index("mid")]) for i, a in enumerate(LAYERS) if a != "mid"
    ]
    return Result(rows, None, {"sides": config.sides, "curves": curves, "cka": grid})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw accuracy by pooling and head, and CKA of the layers."""
    with plot.style():
        figure = plot.new_figure(8.0, 2.9)
        left, right = figure.subplots(1, 2)
        for name, y in numbers["curves"].items():
            left.plot(range(len(y)), y, "o-", label=name)
        left.set_xticks(range(len(numbers["sides"])), [f"{s} × {s}" for s in numbers["sides"]])
        left.set(xlabel="positions after pooling", ylabel="accuracy")
        left.legend(fontsize=8)
        figure.colorbar(right.imshow(np.array(numbers["cka"]), vmin=0, vmax=1, cmap="Blues"), ax=right)
        right.set_xticks(range(len(LAYERS)), LAYERS, fontsize=8)
        right.set_yticks(range(len(LAYERS)), LAYERS, fontsize=8)
        right.set_title("linear CKA", fontsize=10)
    return figure
