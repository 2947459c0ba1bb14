"""A baseline without a network: discriminative patches.

[Doersch et al. 2012, "What makes Paris look like Paris?"]

    1  seeds: patches of the positive images that have some contrast
    2  the nearest neighbour of each seed in every image, by the cosine of their HOG; keep the seeds whose 20 nearest
       are mostly positive, without near-duplicates
    3  a linear SVM for each seed: its 5 nearest neighbours against patches of the negative images; then, on the next
       third of the images, the 5 best detections against the hardest negatives, and so on
    4  rank the detectors by the share of positive images among their best detections

The paper works on 10,000 large photographs: HOG of 8 × 8 cells at several scales, 25,000 seeds, 1,000 detectors,
positives among the top 100. This version is for images of about 28 pixels: one scale, patches of k × k pixels at
stride 1, HOG with cells of 2 × 2 pixels and 8 orientations, and for colour images the a and b of Lab in each cell. The
other settings are those of the paper: top 20 and 50 of the neighbours, C = .1, 5 positives, 3 rounds, 3 folds.
Needs scikit-image: pip install scikit-image
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ddpm.mining.hog import contrast, hog_patches
from ddpm.mining.patches import Patches
from ddpm.tools import check
from ddpm.tools.batches import progress


@dataclass(frozen=True)
class Search:
    """The settings of `find`."""

    k: int = 6  # side of a patch, pixels
    cell: int = 2  # side of a HOG cell, pixels
    seeds: int = 1000  # random patches to begin with, among those with contrast
    detectors: int = 100  # seeds that are trained
    keep: int = 32  # detectors that are returned
    members: int = 20  # detections that are kept for each detector
    top: int = 100  # detections, one per image, that decide the ranking
    rounds: int = 3  # of training
    folds: int = 3  # parts of the images, one a round
    C: float = 0.1  # of the SVM
    least_contrast: float = 0.5  # the quantile of the contrast above which a patch may be a seed
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("seeds", "detectors", "keep", "top", "rounds"):
            check.whole(name, getattr(self, name), 1)
        check.number("least_contrast", self.least_contrast, 0, 1)
        check.seed(self.seed)


class Detectors(NamedTuple):
    """Linear detectors of patches, best first, and where they fire in the positive images."""

    weight: np.ndarray  # (M, F)
    bias: np.ndarray  # (M,)
    purity: np.ndarray  # (M,) share of positive images among the best detections, one an image
    where: np.ndarray  # (M, m, 3) int32: image, top, left of the best detection in each of the m best positive images
    score: np.ndarray  # (M, m) of these detections: the signed distance w·f + b, in margins
    k: int  # side of a patch, pixels
    cell: int  # side of a HOG cell, pixels


# --- seeds ------------------------------------------------------------------------------------------------------------


def best_in_images(weight: np.ndarray, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the best detection of each linear detector in every image.

    Returns the scores (M, n), and the positions (M, n) in row order.
    """
    n, F = len(features), features.shape[-1]
    score, place = np.empty((len(weight), n), np.float32), np.empty((len(weight), n), np.int32)
    for i in range(n):
        s = weight @ features[i].reshape(-1, F).T  # (M, positions)
        place[:, i] = s.argmax(1)
        score[:, i] = s[np.arange(len(weight)), place[:, i]]
    return score, place


def _overlap(a: np.ndarray, b: np.ndarray, k: int) -> np.ndarray:
    """Test which places (m, 3) and (l, 3) lie in one image and overlap with IoU > .3: (m, l)"""
    down, right = (np.maximum(k - np.abs(a[:, None, j] - b[None, :, j]), 0) for j in (1, 2))
    both = down * right
    return (a[:, None, 0] == b[None, :, 0]) & (both > 0.3 * (2 * k * k - both))


def _distinct(order: np.ndarray, nearest: np.ndarray, k: int, most: int) -> list[int]:
    """Accept seeds in `order`, up to `most`, and skip near-duplicates.

    A seed is skipped if more than 5 of its places (S, 50, 3) overlap with those of one accepted seed.
    """
    kept: list[int] = []
    for s in order:
        if len(kept) == most:
            break
        if all(_overlap(nearest[s], nearest[j], k).any(1).sum() <= 5 for j in kept):
            kept.append(int(s))
    return kept


# --- detectors --------------------------------------------------------------------------------------------------------


def find(positive: Any, negative: Any, search: Search = Search()) -> Detectors:
    """Find patches that are frequent in the positive images and rare in the negative ones.

    positive, negative: (n, H, W, C), about as many of both. Returns `search.keep` detectors, best first. The result is
    a pure function of the images and the settings.
    """
    # Validation of the images
    positive, negative = np.asarray(positive), np.asarray(negative)
    for name, x in (("positive", positive), ("negative", negative)):
        if x.ndim != 4 or len(x) < 5 * search.folds:
            raise ValueError(
                f"{name} has shape {x.shape}; give at least {5 * search.folds} images (n, H, W, C): 5 a fold"
            )
    if positive.shape[1:] != negative.shape[1:]:
        raise ValueError(f"positive images are {positive.shape[1:]} and negative ones {negative.shape[1:]}")
    # HOG features of all patches of all images
    rng = np.random.default_rng(search.seed)
    features = hog_patches(np.concatenate([positive, negative]), search.k, search.cell)
    is_positive = np.arange(len(features)) < len(positive)

    # Seeds, and one trained SVM for each
    nearest = _seeds(features, positive, is_positive, search, rng)
    fold = np.concatenate([rng.permutation(len(x)) % search.folds for x in (positive, negative)])
    trained = [
        _train(features, is_positive, fold, near[:5], search, rng)
        for near in progress(nearest, desc="detectors", unit="SVM")
    ]
    weight, bias = np.array([w for w, _ in trained], np.float32), np.array([b for _, b in trained], np.float32)
    # Ranking by the share of positive images among the best detections
    score, place = best_in_images(weight, features)
    first = np.argsort(-score, axis=1, kind="stable")[:, : search.top]
    purity = is_positive[first].mean(1)
    rank = np.lexsort((-np.take_along_axis(score, first, 1).mean(1), -purity))[: search.keep]
    # Places and scores of the best detections in the positive images
    best_images = np.argsort(-np.where(is_positive, score, -np.inf), axis=1, kind="stable")[rank, : search.members]
    where = _where(best_images, np.take_along_axis(place[rank], best_images, 1), features.shape[2])
    best = np.take_along_axis(score[rank], best_images, 1) + bias[rank, None]
    return Detectors(weight[rank], bias[rank], purity[rank], where, best, search.k, search.cell)


def _where(image: np.ndarray, place: np.ndarray, columns: int) -> np.ndarray:
    return np.stack([image, place // columns, place % columns], -1).astype(np.int32)


def _seeds(
    features: np.ndarray, positive: np.ndarray, is_positive: np.ndarray, search: Search, rng: np.random.Generator
) -> np.ndarray:
    """Choose the seeds whose neighbours are most often positive: the neighbours' places (S, 50, 3)."""
    std = contrast(positive, search.k)
    candidates = np.argwhere((std >= np.quantile(std, search.least_contrast)) & (std > 1e-3))
    if not len(candidates):
        raise ValueError("the positive images are plain everywhere: there is no patch to begin with")
    chosen = candidates[rng.permutation(len(candidates))[: search.seeds]]
    f = features[tuple(chosen.T)]  # (S, F)
    score, place = best_in_images(f, features)
    near = np.argsort(-score, axis=1, kind="stable")[:, :50]  # (S, 50) images
    purity = is_positive[near[:, :20]].mean(1)
    where = _where(near, np.take_along_axis(place, near, 1), features.shape[2])
    order = np.lexsort((-np.take_along_axis(score, near, 1)[:, :20].mean(1), -purity))
    return where[_distinct(order, where, search.k, search.detectors)]


def _train(
    features: np.ndarray,
    is_positive: np.ndarray,
    fold: np.ndarray,
    first: np.ndarray,
    search: Search,
    rng: np.random.Generator,
) -> tuple[np.ndarray, float]:
    """Train one detector from its `first` places: the weights (F,) and the bias.

    Round r trains with the negatives of fold r, and then takes new positives from fold r + 1.
    """
    F = features.shape[-1]
    x_positive = features[tuple(first.T)]
    w, b = x_positive.mean(0), 0.0
    for r in range(search.rounds):
        # Random negatives, and the hardest for the current weights
        now = np.flatnonzero(~is_positive & (fold == r % search.folds))
        some = features[now].reshape(-1, F)[rng.integers(0, len(now) * features[0, ..., 0].size, 200)]
        _, place = best_in_images(w[None], features[now])
        hard = features[now].reshape(len(now), -1, F)[np.arange(len(now)), place[0]]
        w, b = _svm(x_positive, np.concatenate([some, hard]), search.C)
        # The hardest negatives of the new weights
        _, place = best_in_images(w[None], features[now])
        harder = features[now].reshape(len(now), -1, F)[np.arange(len(now)), place[0]]
        w, b = _svm(x_positive, np.concatenate([some, hard, harder]), search.C)
        # The five best positives of the next fold
        after = np.flatnonzero(is_positive & (fold == (r + 1) % search.folds))
        score, place = best_in_images(w[None], features[after])
        best = np.argsort(-score[0], kind="stable")[:5]
        x_positive = features[after].reshape(len(after), -1, F)[best, place[0, best]]
    return w, b


def _svm(positive: np.ndarray, negative: np.ndarray, C: float) -> tuple[np.ndarray, float]:
    """Fit a linear SVM with hinge loss: w·f + b > 0 for the positives."""
    from sklearn.svm import SVC

    x = np.concatenate([positive, negative])
    y = np.arange(len(x)) < len(positive)
    svm = SVC(kernel="linear", C=C, class_weight="balanced").fit(x, y)
    return svm.coef_[0].astype(np.float32), float(svm.intercept_[0])


# --- applying the detectors -------------------------------------------------------------------------------------------


def maps(detectors: Detectors, images: Any) -> np.ndarray:
    """Average, at each pixel, the largest margin of any detector over the covering patches.

    images: (n, H, W, C)  ->  (n, H, W). Margins below -1 (a certain negative) count as -1.
    """
    f = hog_patches(images, detectors.k, detectors.cell)
    score = np.maximum((f @ detectors.weight.T + detectors.bias).max(-1), -1.0)  # (n, h, w)
    n, h, w = score.shape
    total, count = np.zeros((2, n, h + detectors.k - 1, w + detectors.k - 1))
    for y in range(detectors.k):
        for x in range(detectors.k):
            total[:, y : y + h, x : x + w] += score
            count[:, y : y + h, x : x + w] += 1
    return total / count


def ranked(detectors: Detectors, most: int = 1000) -> tuple[Patches, np.ndarray]:
    """List the detections of all detectors, without overlaps, in order of detector and score.

    A detection that overlaps an earlier one (IoU > .3) is left out. Returns Patches with `turn` 0, and the number of
    the detector of each, (P,) int.
    """
    taken = np.zeros((0, 3), np.int32)
    score: list[float] = []
    cluster: list[int] = []
    for d, (where, value) in enumerate(zip(detectors.where, detectors.score, strict=True)):
        for place, s in zip(where, value, strict=True):
            if len(taken) < most and not _overlap(place[None], taken, detectors.k).any():
                taken = np.concatenate([taken, place[None]])
                score.append(float(s))
                cluster.append(d)
    return Patches(taken, np.array(score), np.zeros(len(score), np.int32)), np.array(cluster, dtype=int)
