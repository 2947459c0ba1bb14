"""Ours compared with Doersch et al., a classifier's saliency and random patches, where the truth is known.

Siglidis et al. compare the clusters of diff-mining with those of Doersch et al. (2012) by eye and by a user study; on
photographs nobody knows what should be found. In the world of `ddpm.datasets.world` two ornaments are planted in each
city and nowhere else, so every method can be judged by the same three measures, on the same images and patches of the
same size: the area under the ROC curve of the map against the planted boxes (.5 for a random map), the share of planted
ornaments among the first k patches, and the purity of the clusters. No paper has numbers to compare with; the exact
column is typicality with the denoiser of the distribution, the best that a network could predict. Ours is typicality
with the shipped network. Doersch's detectors are mined on the measured images themselves against the other cities, as
in the paper; saliency is the gradient of a small classifier trained on other images. The patches of typicality,
saliency and the random map are the five best of each image that do not touch, then the best of all. Clusters are made
by k-means: from DIFT features for ours, from the posterior over the tiles of each cell for the exact column, and from
HOG for the others; Doersch's clusters are his detectors.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddpm import data, plot, weights
from ddpm.classifiers import classifier, fitting, recipes
from ddpm.datasets import world
from ddpm.features.activations import patch_features
from ddpm.mining import doersch, hog, localisation, maps, patterns
from ddpm.mining.patches import Patches, pooled, select, top
from ddpm.mining.saliency_maps import logits_fn, saliency
from ddpm.typicality import Draws
from ddpm.zoo import model
from experiments.lab.runner import Result, Row, Unavailable
from experiments.mining import exact

PAPER = "Siglidis et al. 2024, Sec. 4; Doersch et al. 2012"
MINUTES = 15
UNCHECKED = (
    "The exact column is the algorithm with the exact denoiser, or the exact posterior; trained networks are "
    "compared with it."
)
NEEDS = "a model of the cities (`ddpm train --data cities`)"


@dataclass(frozen=True)
class Config:
    """The network, the images of each city, and how they are mined."""

    model: str = "cities"  # shipped weights, or the run of that name
    n: int = 48  # images of each city
    draws: int = 100
    patch: int = 6
    top: int = 48  # patches of each city
    clusters: int = 4
    detectors: int = 60
    epochs: int = 4  # of the classifier
    train: int = 6000  # images that the classifier sees
    seed: int = 0


QUICK = {"n": 20, "draws": 4, "top": 20, "clusters": 3, "detectors": 8, "epochs": 1, "train": 600, "model": ""}


def network(config: Config) -> model.Model:
    """The trained model; an untrained one for `--quick`."""
    if config.model:
        run = Path("runs") / config.model
        try:
            return model.load(run if config.model not in weights.cards("denoiser") and run.is_dir() else config.model)
        except ValueError as error:
            raise Unavailable(f"{error}. This experiment needs {NEEDS}") from None
    from ddpm.config import unet_config
    from ddpm.network import build
    from ddpm.schedule import linear

    unet = unet_config("cities", num_classes=len(world.CLASSES), channels=8, groups=4)
    return model.Model("untrained", unet, build(unet)[0](jax.random.key(0)), linear(1000), world.CLASSES, {})


def judge(config: Config) -> classifier.Classifier:
    """A small classifier of the cities, trained on images that are not used for any measure here."""
    seen = world.draw(config.train, seed=1)
    K = len(world.CLASSES)
    net = dataclasses.replace(fitting.CONFIGS["fashion_mnist"], num_classes=K, widths=(32, 64))
    how = recipes.ClassifierTrainConfig("cities", epochs=config.epochs, batch=64, lr=0.1, shift=0, flip=False, erase=0)
    return fitting.train(net, how, seen.images, seen.labels)


def by_map(found: np.ndarray, config: Config) -> Patches:
    """The patches of a map: the five best of each image that do not touch, then the best of all."""
    return top(select(pooled(found, config.patch), config.patch), config.top)


def grouped(p: Patches, f: np.ndarray, config: Config) -> np.ndarray:
    """The cluster of each patch, 0 the best, by k-means on its features."""
    return patterns.group_into(f, p.score, min(config.clusters, len(f)))[0] - 1


def judged(w: world.World, c: int, p: Patches, cluster: np.ndarray, config: Config) -> dict[str, Any]:
    """Precision, purity and ranks of one city's patches; the motif of another city cannot be in its images."""
    motif = np.where(np.isin(w.motif, world.planted(c)), w.motif, -1)
    kind = localisation.patch_motif(p.where, motif, config.patch)
    ks = [k for k in (10, 20, 40) if k <= len(kind)]
    found = localisation.ranks(cluster, kind, range(int(cluster.max()) + 1), world.planted(c), least=3)
    return {
        "precision": localisation.precision_at_k(kind >= 0, ks),
        "purity": localisation.purity(cluster, kind),
        "ranks": [f.rank for f in found],
        "rank_purity": [f.purity for f in found],
    }


def clustered(config: Config, p: Patches, features: np.ndarray) -> np.ndarray:
    """The cluster of each patch by a denoiser's features of whole images."""
    return grouped(p, patch_features(features, p.where[:, 0], p.where[:, 1:], config.patch, world.SIZE), config)


def measured(config: Config, net: model.Model, x: np.ndarray, w: world.World) -> tuple[dict, dict, float]:
    """Each method's map (n, H, W), the measures of its patches and clusters by city, the classifier's accuracy."""
    f, k, rng = judge(config), config.patch, np.random.default_rng(config.seed)
    z, best = logits_fn(f), exact(net.schedule)
    folder = Path("out/cache") / f"mining_baselines-{maps.digest(net.params, x)[:12]}-{config.draws}-{config.seed}"
    how = maps.Request(Draws(config.draws), config.seed)
    found: dict[str, np.ndarray] = {
        "exact": maps.measure(folder / "exact", best.eps, net.schedule, x, w.labels, how).map,
        "ours": maps.measure(folder / "ours", net.eps, net.schedule, x, w.labels, how).map,
        "Doersch et al.": np.zeros(x.shape[:3]),
        "gradient x input": np.abs(saliency(z, x, w.labels)),
        "smooth gradient": saliency(z, x, w.labels, method="smooth", key=jax.random.key(config.seed)),
        "random": rng.random(x.shape[:3]),
    }
    features = {"exact": best.features, "ours": patterns.dift_features(net, seed=config.seed)}
    per_city: dict[str, list[dict[str, Any]]] = {name: [] for name in found}
    for c in range(len(world.CLASSES)):
        ids, others = np.flatnonzero(w.labels == c), rng.permutation(np.flatnonzero(w.labels != c))[: config.n]
        city = world.World(w.images[ids], w.labels[ids], w.motif[ids], w.boxes[:0])
        search = doersch.Search(k, detectors=config.detectors, keep=2 * config.clusters, top=config.n // 2)
        detectors = doersch.find(city.images, w.images[others], search)
        found["Doersch et al."][ids] = doersch.maps(detectors, city.images)
        gradients = hog.hog_patches(city.images, k)
        for name in found:
            p = by_map(found[name][ids], config)
            if name == "Doersch et al.":
                p, cluster = doersch.ranked(detectors, config.top)
            elif name in features:
                cluster = clustered(config, p, features[name](x[ids], city.labels))
            else:
                cluster = grouped(p, gradients[tuple(p.where.T)], config)
            per_city[name].append(judged(city, c, p, cluster, config))
    return found, per_city, classifier.accuracy(f, w.images, w.labels)["accuracy"]


def run(config: Config) -> Result:
    """Measure the table, and draw the maps of some images."""
    net = network(config)
    if net.image_shape != (world.SIZE, world.SIZE, 1) or net.num_classes != len(world.CLASSES):
        raise ValueError(f"model {net.name!r} is not one of the cities; it needs {NEEDS}")
    w = world.draw(len(world.CLASSES) * config.n, seed=2)
    x = data.to_float(w.images)
    found, per_city, accuracy = measured(config, net, x, w)
    lines: dict[str, dict[str, float]] = {}
    numbers: dict[str, Any] = {}
    for name, cities in per_city.items():
        auc = {pool: localisation.motif_auc(found[name], w.mask, pool) for pool in (1, 3, 7)}
        ks = sorted(set.intersection(*(set(city["precision"]) for city in cities)))
        precision = {n: float(np.mean([city["precision"][n] for city in cities])) for n in ks}
        purity = float(np.mean([city["purity"] for city in cities]))
        numbers[name] = {"auc": auc, "precision": precision, "purity": purity, "cities": cities}
        lines[name] = {
            "AUC of the map, pixels": auc[1],
            "AUC of the map, averaged over 3 × 3": auc[3],
            **{f"precision at {n}": v for n, v in precision.items()},
            "purity of the clusters": purity,
        }
    best = lines.pop("exact")
    rows = [Row(f"typicality: {what}", None, best[what], v) for what, v in lines.pop("ours").items()]
    rows += [Row(f"{name}: {what}", None, None, v) for name, values in lines.items() for what, v in values.items()]
    posterior = np.asarray(world.distribution().class_posterior(net.schedule, x, 1))
    best_accuracy = float(posterior[np.arange(len(x)), w.labels].mean())  # where cities tie, the guess is random
    rows.append(Row("classifier: accuracy", None, best_accuracy, accuracy))
    numbers |= {
        "n": len(x),
        "split": f"{config.n} images of each city, drawn with seed 2; trained on images drawn with seed 1",
        "share_of_planted_pixels": w.mask.mean(),
        "model": {"name": net.name, "sha256": net.card.get("sha256"), "steps": net.card.get("steps")},
    }
    return Result(rows, picture(x, w, found), numbers)


def picture(x: np.ndarray, w: world.World, found: dict[str, np.ndarray]) -> Any:
    """Draw two images of each city, the truth, and each method's map; brighter is more, each map has its own scale."""
    has = w.mask.any((1, 2))
    show = np.concatenate([np.flatnonzero((w.labels == c) & has)[:2] for c in range(len(world.CLASSES))])
    panels = {"image": x[show, ..., 0], "planted": w.mask[show].astype(float)}
    for name, m in found.items():
        smooth = localisation.smooth(m, 3)
        low, high = np.quantile(smooth, (0.2, 0.995))
        panels[name] = np.clip((smooth[show] - low) / (high - low), 0, 1)
    with plot.style():
        figure = plot.new_figure(1.3 + 0.85 * len(show), 0.3 + 0.85 * len(panels))
        grid = figure.subplots(len(panels), len(show))
        for row, (name, images) in zip(grid, panels.items(), strict=True):
            for j, (axes, image) in enumerate(zip(row, images, strict=True)):
                grey = name == "image"
                axes.imshow(image, cmap="gray" if grey else "magma", vmin=-1 if grey else 0, vmax=1)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                if grey:
                    axes.set_title(world.CLASSES[w.labels[show[j]]], fontsize=8)
            row[0].set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
    return figure
