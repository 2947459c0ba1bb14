"""How each number can be fooled: sets of images that score well but look wrong.

Every measure of `ddpm evaluate` is taken of sets that are wrong in a known way, and compared with the same measure of
real test images at the same n. Where a bad set is within the error of the test images, or better, that number is
fooled.

- The *mean image* and the *class means* have no diversity at all; precision and density may call them perfect.
- For a *Gaussian fit* of the pixels, the Fréchet distance on whitened pixel components is at its floor, because it
  compares means and covariances, and the fit has the right ones. It is blind to shape; in the classifier's features it
  is not.
- *Noise* is what every number must refuse.
- The *memorising denoiser* gives training images back: all distances call it better than test images. Only the
  neighbours detect it.
- For a *model with a class missing* each image is good, so accuracy and precision do not notice.
- *Mirrored test images*: the shipped classifier was trained with mirrored images and averages over both, so distances
  in its features cannot see that all shoes point the other way. Pixels can.

The papers claim that precision and recall separate quality from diversity, that density corrects precision's weakness
for outliers, and that only neighbours detect copies. What we see: precision calls noise perfect at this n, since a few
real images far from all others have neighbourhoods that hold all of it; density halves that and no more; recall and
coverage refuse what has no variety or no shape. On pixels' components the Gaussian fit is near its floor (a little
above, because bytes clip it), while in the classifier's features it is as far as noise. The memorising denoiser is
refused by its neighbours (and by recall, by a hair). The model without bags has the same accuracy and precision as the
whole one; its Fréchet distance doubles. Mirrored images are detected by pixels alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ddpm import data, plot
from ddpm.classifiers import classifier
from ddpm.datasets import sources
from ddpm.evaluation import distances, neighbours, statistics
from ddpm.evaluation import model as ev
from ddpm.evaluation import scores as scores_
from ddpm.oracles.finite_set import finite
from ddpm.sample import Sampling
from ddpm.samplers.generation import generate
from ddpm.tools.files import write_atomic
from ddpm.zoo import model
from experiments.lab.runner import RESULTS, Result, Row, Unavailable

PAPER = "this project; Sajjadi et al. 2018, Naeem et al. 2020 and Meehan et al. 2020 on what single numbers miss"
MINUTES = 2
NEEDS = "the real Fashion-MNIST (DDPM_DATA_DIR)"
COMPONENTS = 64  # principal components of the pixels, whitened
MISSING = 8  # the class that one model lacks: Bag


@dataclass(frozen=True)
class Config:
    """The number of images in each set, and the seed of the subsets."""

    n: int = 250
    seed: int = 0


QUICK: dict = {"n": 100}


class Pixels:
    """The first 64 principal components of the training images, each divided by its standard deviation."""

    def __init__(self, x_train: np.ndarray):
        x = data.to_float(x_train).reshape(len(x_train), -1)
        self.mean = x.mean(0, dtype=np.float64)
        centred = x - self.mean.astype(np.float32)
        lam, U = np.linalg.eigh(np.asarray(centred.T @ centred, np.float64) / len(x))
        self.lam, self.U = lam[::-1][:COMPONENTS], U[:, ::-1][:, :COMPONENTS]
        self.train = distances.moments(self(x_train))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        flat = data.to_float(x) if x.dtype == np.uint8 else x
        return (flat.reshape(len(x), -1) - self.mean) @ (self.U / np.sqrt(self.lam))

    def distance(self, x: np.ndarray) -> float:
        """Fréchet distance to all training images; floats are taken as they are, bytes are scaled."""
        return distances.frechet_moments(distances.moments(self(x)), self.train)

    def of_noise(self) -> float:
        """The exact distance of x ~ N(0, I) in pixels: mean -μU/√λ, covariance 1/λ."""
        m = self.mean @ self.U / np.sqrt(self.lam)
        return float((m**2).sum() + ((1 / np.sqrt(self.lam) - 1) ** 2).sum())


def load() -> tuple[data.Dataset, classifier.Classifier]:
    """Load Fashion-MNIST and its classifier, or raise Unavailable."""
    try:
        return sources.load("fashion_mnist"), classifier.load("fashion_mnist")
    except (FileNotFoundError, OSError) as e:
        raise Unavailable(f"needs {NEEDS}: {e}") from None


def gaussian(d: data.Dataset, n: int, seed: int) -> np.ndarray:
    """n draws of one Gaussian fitted to all training images, as bytes."""
    x = data.to_float(d.x_train).reshape(len(d.x_train), -1)
    mean = x.mean(0, dtype=np.float64)
    centred = x - mean.astype(np.float32)
    lam, U = np.linalg.eigh(np.asarray(centred.T @ centred, np.float64) / len(x))
    z = np.random.default_rng(seed).normal(size=(n, len(lam))) * np.sqrt(np.maximum(lam, 0))
    return data.to_uint8((z @ U.T + mean).reshape(n, *d.image_shape))


def noise(d: data.Dataset, n: int, seed: int) -> np.ndarray:
    """n images of N(0, 1) for each pixel, as bytes."""
    return data.to_uint8(np.random.default_rng(seed).normal(size=(n, *d.image_shape)))


def sets(config: Config, d: data.Dataset) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """The sets of images, with their requested classes where there are any."""
    n, seed = config.n, config.seed
    rng = np.random.default_rng(seed + 1)
    test = statistics.stratified_subset(d.y_test, n, seed + 1)
    train = statistics.stratified_subset(d.y_train, n, seed + 1)
    means = np.stack([d.x_train[d.y_train == k].mean(0) for k in range(d.num_classes)]).round().astype(np.uint8)
    c = np.arange(n) % d.num_classes
    # One image in ten is of the class that will be missing; whole batches of 100 are drawn.
    x, labels = ev.drawn(model.load("fashion_mnist"), 100 * -(-n // 90), Sampling())
    assert labels is not None
    kept = np.flatnonzero(labels != MISSING)[:n]
    mean = d.x_train.mean(0).round().astype(np.uint8)
    return {
        "test images": (d.x_test[test], d.y_test[test]),
        "the mean image": (np.repeat(mean[None], n, 0), c),
        "class means": (means[c], c),
        "Gaussian fit": (gaussian(d, n, seed), None),
        "noise": (noise(d, n, seed), None),
        "memorising denoiser": (d.x_train[train], d.y_train[train]),
        "shipped model": (x[:n], labels[:n]),
        "the same, no bags": (x[kept], labels[kept]),
        "mirrored test images": (d.x_test[rng.permutation(test)][:, :, ::-1], None),
    }


def scores(
    x: np.ndarray, labels: np.ndarray | None, d: data.Dataset, judge: classifier.Classifier, pixels: Pixels, seed: int
) -> dict[str, dict[str, Any]]:
    """Every measure: value, error, the value of test images, and whether the set is as good as those."""
    found = scores_.score_images(x, labels, d, judge, seed=seed, neighbours=500)
    out: dict[str, dict[str, Any]] = {}
    for k, m in found.items():
        low, high = m.low_high
        floor = float(m.reference)  # type: ignore[arg-type]
        # The floor has about the same error as the value. (nearest: not closer than unseen images)
        far = np.sqrt(2) * (high - low) / 2
        as_good = m.value + far >= floor if m.better == "higher" else m.value - far <= floor
        out[k] = {
            "value": m.value,
            "interval": [low, high],
            "test": floor,
            "as_good_as_test": bool(as_good),
        }
    subset = statistics.stratified_subset(d.y_test, min(len(x), len(d.x_test)), seed)
    value, floor = pixels.distance(x), pixels.distance(d.x_test[subset])
    error = statistics.bootstrap(pixels(x), lambda f: distances.frechet_moments(distances.moments(f), pixels.train), 20)
    out["frechet_pixels"] = {
        "value": value,
        "interval": [value - 1.96 * error, value + 1.96 * error],
        "test": floor,
        "as_good_as_test": bool(value - 1.96 * np.sqrt(2) * error <= floor),
    }
    return out


COLUMNS = {
    "frechet": "Fréchet,\nclassifier",
    "frechet_pixels": "Fréchet,\npixels (64)",
    "kernel": "kernel",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "accuracy": "class\naccuracy",
    "nearest_pixels": "closer than\ntest, pixels",
    "nearest_features": "closer than\ntest, features",
}


def memorised_share(d: data.Dataset, n: int = 20, seed: int = 0) -> tuple[float, float]:
    """Sample the ideal denoiser of the training set: share of images within a grey level of a training image.

    Also returns the largest distance of a pixel, in grey levels. DDIM, 50 steps, linear schedule.
    """
    from ddpm.schedule import linear

    schedule = linear(1000)
    eps = finite(d.x_train).eps(schedule)
    x = generate(eps, schedule, jax.random.key(seed), d.image_shape, n=n, batch=n)
    flat, train = x.reshape(n, -1), data.to_float(d.x_train).reshape(len(d.x_train), -1)
    _, nearest = neighbours.nearest(flat, train)
    apart = np.abs(flat - train[nearest[:, 0]]).max(1) * 127.5
    return float((apart < 1).mean()), float(apart.max())


def table_figure(found: dict[str, dict[str, dict]], title: str) -> Any:
    """A table of numbers: green where a set is as good as test images, white where the number detects it."""
    with plot.style():
        figure = plot.new_figure(11.0, 0.7 + 0.42 * len(found))
        axes = figure.add_subplot()
        for i, row in enumerate(found.values()):
            for j, k in enumerate(COLUMNS):
                cell = row.get(k)
                good = cell is not None and cell["as_good_as_test"]
                colour = "#cfe8cf" if good else "#ffffff"
                axes.add_patch(plot.matplotlib.patches.Rectangle((j, i), 1, 1, facecolor=colour, edgecolor="#bbbbbb"))
                text = "" if cell is None else f"{cell['value']:.3g}"
                axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=9)
        axes.set(xlim=(0, len(COLUMNS)), ylim=(len(found), 0))
        axes.set_xticks(np.arange(len(COLUMNS)) + 0.5, list(COLUMNS.values()), fontsize=8)
        axes.set_yticks(np.arange(len(found)) + 0.5, list(found), fontsize=9)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(title, fontsize=8)
    return figure


def run(config: Config) -> Result:
    """Take all measures of all sets, and check the Fréchet distance on whitened pixels against closed forms."""
    d, judge = load()
    pixels = Pixels(d.x_train)
    found = {k: scores(*s, d, judge, pixels, config.seed) for k, s in sets(config, d).items()}
    n, rng = 10_000, np.random.default_rng(config.seed)
    lam, mean = pixels.lam, pixels.mean
    whitened = rng.normal(size=(n, COMPONENTS))
    floor = distances.frechet_floor(np.eye(COMPONENTS), n)
    train = data.to_float(d.x_train)
    class_means = np.stack([train[d.y_train == k].mean(0, dtype=np.float64) for k in range(10)])
    between = np.cov(pixels(class_means).T, bias=True)
    lam_between = np.maximum(np.linalg.eigvalsh(between), 0)
    rows = [
        Row("Fréchet, 64 whitened components: the mean image", None, float(COMPONENTS),
            pixels.distance(np.repeat(mean[None], 100, 0)), within=1e-3),
        Row("a Gaussian fit, n = 10,000: the floor of two equal distributions", None, floor,
            distances.frechet_moments(distances.moments(whitened), pixels.train), within=0.08),
        Row("class means", None, float(COMPONENTS + lam_between.sum() - 2 * np.sqrt(lam_between).sum()),
            pixels.distance(np.repeat(class_means, 1000, 0)), within=1e-3),
        Row("N(0, 1) noise, n = 10,000", None, pixels.of_noise(),
            pixels.distance(rng.normal(size=(n, len(mean))).astype(np.float32)), within=0.02),
        Row("test images, n = 10,000", None, None, pixels.distance(d.x_test)),
    ]  # fmt: skip
    share, apart = memorised_share(d, seed=config.seed)
    rows.append(Row("ideal denoiser of the training set: share of its samples that are training images", None, 1.0,
                    share, within=0.11))  # fmt: skip
    title = f"n = {config.n:,}; green: as good as test images by that number (closer: not nearer than unseen images)"
    numbers = {
        "n": config.n,
        "seed": config.seed,
        "classifier_sha256": judge.card["sha256"],
        "largest_grey_level_difference_of_memorised": apart,
        "smallest_whitened_variance": float(lam[-1]),
        "sets": found,
    }
    return Result(rows, table_figure(found, title), numbers)


def page(result: dict[str, Any]) -> str:
    """The page, written from the metrics that `run` measured."""
    found, n = result["numbers"]["sets"], result["numbers"]["n"]
    lines = [
        "# How each number can be fooled",
        "",
        *(__doc__ or "").strip().split("\n")[2:],
        "",
        "![table](figure.png)",
        "",
        "| | " + " | ".join(v.replace("\n", " ") for v in COLUMNS.values()) + " |",
        "|---|" + "---|" * len(COLUMNS),
    ]
    for name, row in found.items():
        cells = []
        for k in COLUMNS:
            m = row.get(k)
            cells.append("" if m is None else f"**{m['value']:.3g}**" if m["as_good_as_test"] else f"{m['value']:.3g}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    first = found["test images"]
    floor = " | ".join(f"{first[k]['test']:.3g}" if k in first else "" for k in COLUMNS)
    lines += [
        f"| *floor: other test images* | {floor} |",
        "",
        f"Bold: as good as test images by that number within both errors, at n = {n:,} (for the neighbours: not closer "
        "to the training images than unseen images are). Fashion-MNIST, 8 bit; features of the shipped classifier.",
        "",
        f"Made by `{result['command']}` and `python -m experiments.fooled` (this page), {result['device']}.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Write the page next to the results."""
    folder = RESULTS / "fooled"
    write_atomic(folder / "README.md", page(json.loads((folder / "metrics.json").read_text())).encode())


if __name__ == "__main__":
    main()
