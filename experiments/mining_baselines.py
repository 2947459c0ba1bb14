"""Ours against Doersch et al., a classifier's saliency and chance, where the truth is drawn.

Siglidis et al. compare the clusters of diff-mining with those of Doersch et al. (2012) by eye and by a user study; on
photographs nobody knows what should be found. In the world of `ddpm.world` two motifs are planted in each city and
nowhere else, so the same three measures answer for every method, on the same test images and patches of the same size:
the area under the ROC curve of the map against the planted boxes (.5 is chance), the share of planted motifs among the
first k patches, and the purity of the clusters. There are no numbers of a paper to stand beside. Ours is typicality
with a network trained on other images of this world; Doersch's detectors are mined on the measured images themselves
against the other cities, as in the paper; saliency is the gradient of a small classifier trained on the network's
training images. Patches of ours, saliency and chance are the five best of each image that do not touch, then the best
of all; clusters are k-means, of DIFT features for ours and of HOG for the others; Doersch's clusters are his detectors.

What comes out: the first 50 patches of ours and of gradient x input are nearly all planted, Doersch's are 7 in 10. An
image holds 1.3 planted motifs, so of 100 patches a city at most about 80 can be right. Single pixels of a map of
typicality are noisy (40 draws), averages are not; but here the plain classifier, which is trained on exactly the
question that is asked, localises better than typicality does. In this world a city is told by two small glyphs and by
nothing else.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddpm import classifier, classifier_train, data, doersch, localisation, maps, mine, model, plot, weights, world
from ddpm.features import patch_features
from ddpm.patches import Patches, pooled, select, top
from ddpm.saliency import logits_fn, saliency
from experiments.runner import Result, Row, Unavailable

PAPER = "Siglidis et al. 2024, Sec. 4; Doersch et al. 2012"
MINUTES = 15
NEEDS = "a model of the cities (`ddpm train --data cities`)"


@dataclass(frozen=True)
class Config:
    """The network, the images of each city, and how they are mined."""

    model: str = "cities"  # shipped weights, or the run of that name
    n: int = 60  # test images of each city
    draws: int = 40
    patch: int = 6
    top: int = 100  # patches of each city
    clusters: int = 8
    detectors: int = 60
    epochs: int = 4  # of the classifier
    train: int = 6000  # images that the classifier sees
    seed: int = 0


QUICK = {"n": 20, "draws": 4, "top": 30, "clusters": 3, "detectors": 8, "epochs": 1, "train": 600, "model": ""}


def network(config: Config) -> model.Model:
    """The trained model; in the quick form one that has learned nothing."""
    if config.model:
        run = Path("runs") / config.model
        try:
            return model.load(run if config.model not in weights.cards("denoiser") and run.is_dir() else config.model)
        except ValueError as error:
            raise Unavailable(f"{error}. This experiment needs {NEEDS}") from None
    from ddpm.config import unet_config
    from ddpm.network import build
    from ddpm.schedule import cosine

    unet = unet_config("cpu", num_classes=len(world.CLASSES), channels=8, groups=4)
    return model.Model("untrained", unet, build(unet)[0](jax.random.key(0)), cosine(1000), world.CLASSES, {})


def judge(config: Config) -> classifier.Classifier:
    """A small classifier of the cities, trained on images that nothing here is measured on."""
    seen = world.draw(config.train, seed=1)
    K = len(world.CLASSES)
    net = dataclasses.replace(classifier_train.CONFIGS["fashion_mnist"], num_classes=K, widths=(32, 64))
    how = classifier_train.ClassifierTrainConfig(
        "cities", epochs=config.epochs, batch=64, lr=0.1, shift=0, flip=False, erase=0
    )
    return classifier_train.train(net, how, seen.images, seen.labels, progress=False)


def by_map(found: np.ndarray, config: Config) -> Patches:
    """The patches of a map: five an image that do not touch, then the best of all."""
    return top(select(pooled(found, config.patch), config.patch), config.top)


def grouped(p: Patches, f: np.ndarray, config: Config) -> np.ndarray:
    """The cluster of each patch, 0 the best, by k-means on its features."""
    return mine.group_into(f, p.score, min(config.clusters, len(f)))[0] - 1


def judged(w: world.World, c: int, p: Patches, cluster: np.ndarray, config: Config) -> dict[str, Any]:
    """Precision, purity and ranks of one city's patches; the motif of another city cannot be in its images."""
    motif = np.where(np.isin(w.motif, world.planted(c)), w.motif, -1)
    kind = localisation.patch_motif(p.where, motif, config.patch)
    ks = [k for k in (10, 50, 100) if k <= len(kind)]
    found = localisation.ranks(cluster, kind, range(int(cluster.max()) + 1), world.planted(c), least=3)
    return {
        "precision": localisation.precision_at_k(kind >= 0, ks),
        "purity": localisation.purity(cluster, kind),
        "ranks": [f.rank for f in found],
        "rank_purity": [f.purity for f in found],
    }


def run(config: Config) -> Result:
    """The table and the maps of some images."""
    net, net_c = network(config), judge(config)
    if net.image_shape != (world.SIZE, world.SIZE, 1) or net.num_classes != len(world.CLASSES):
        raise ValueError(f"model {net.name!r} is not one of the cities; it needs {NEEDS}")
    w = world.draw(len(world.CLASSES) * config.n, seed=2)
    x = data.to_float(w.images)
    rng, f, k = np.random.default_rng(config.seed), logits_fn(net_c), config.patch
    folder = Path("out/cache") / f"mining_baselines-{maps.digest(net.params, x)[:12]}-{config.draws}-{config.seed}"
    ours = maps.measure(folder, net.eps, net.schedule, x, w.labels, draws=config.draws, seed=config.seed).map
    found: dict[str, np.ndarray] = {
        "ours": ours,
        "Doersch et al.": np.zeros_like(ours),
        "gradient x input": np.abs(saliency(f, x, w.labels)),
        "smooth gradient": saliency(f, x, w.labels, method="smooth", key=jax.random.key(config.seed)),
        "random": rng.random(ours.shape),
    }
    dift = mine.dift_features(net, seed=config.seed)
    per_city: dict[str, list[dict[str, Any]]] = {name: [] for name in found}
    for c in range(len(world.CLASSES)):
        mine_ids, others = np.flatnonzero(w.labels == c), rng.permutation(np.flatnonzero(w.labels != c))[: config.n]
        own = world.World(w.images[mine_ids], w.labels[mine_ids], w.motif[mine_ids], w.boxes[:0])
        detectors = doersch.find(
            own.images, w.images[others], k=k, detectors=config.detectors, keep=config.clusters, top=config.n // 2
        )
        found["Doersch et al."][mine_ids] = doersch.maps(detectors, own.images)
        hog = doersch.hog_patches(own.images, k)
        for name in found:
            if name == "Doersch et al.":
                p, cluster = doersch.ranked(detectors, config.top)
            else:
                p = by_map(found[name][mine_ids], config)
                if name == "ours":
                    said = dift(x[mine_ids], own.labels)
                    features = patch_features(said, p.where[:, 0], p.where[:, 1:], k, world.SIZE)
                else:
                    features = hog[tuple(p.where.T)]
                cluster = grouped(p, features, config)
            per_city[name].append(judged(own, c, p, cluster, config))

    accuracy = classifier.accuracy(net_c, w.images, w.labels)
    rows: list[Row] = []
    numbers: dict[str, Any] = {}
    for name, cities in per_city.items():
        auc = {pool: localisation.motif_auc(found[name], w.mask, pool) for pool in (1, 3, 7)}
        ks = set.intersection(*(set(city["precision"]) for city in cities))
        summary: dict[str, Any] = {
            "auc": auc,
            "precision": {n: float(np.mean([city["precision"][n] for city in cities])) for n in sorted(ks)},
            "purity": float(np.mean([city["purity"] for city in cities])),
            "ranks": [city["ranks"] for city in cities],
            "purity_of_own_cluster": [city["rank_purity"] for city in cities],
        }
        numbers[name] = summary
        spread = [np.std([city["purity"] for city in cities], ddof=1) / np.sqrt(len(cities))]
        rows.append(Row(f"{name}: AUC of the map", None, None, auc[1]))
        rows.append(Row(f"{name}: AUC of the map, averaged over {7} x {7}", None, None, auc[7]))
        rows += [Row(f"{name}: precision at {n}", None, None, v) for n, v in summary["precision"].items()]
        rows.append(Row(f"{name}: purity of the clusters", None, None, summary["purity"], float(spread[0])))
    numbers |= {
        "n": len(x),
        "split": f"{config.n} images of each city, drawn with seed 2; trained on images drawn with seed 1",
        "classifier_accuracy": accuracy,
        "share_of_planted_pixels": w.mask.mean(),
        "model": {
            "name": net.name,
            "sha256": maps.digest(net.params),
            "steps": net.card.get("steps", net.card.get("step")),
        },
    }
    return Result(rows, picture(x, w, found), numbers)


def picture(x: np.ndarray, w: world.World, found: dict[str, np.ndarray]) -> Any:
    """Two images of each city, the truth, and what each method sees; brighter is more, each map on its own scale."""
    show = np.concatenate([np.flatnonzero(w.labels == c)[:2] for c in range(len(world.CLASSES))])
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
