"""Diff-mining: the patches that look most like their class, sorted into clusters.   [Siglidis et al. 2024]

    maps T(x|c) of the images of one label       `maps.measure`: 100 draws, t in (.1T, .7T], noise shared
    S = k × k means of the maps                  `patches.pooled`
    five patches an image that do not touch      `patches.select`
    the 1,000 best of all images                 `patches.top`
    their features, of length 1                  `ddpm.features`: DIFT, layer up.1, t = .16 T, 8 draws of the noise
    k-means; clusters by median S                here

A random control (the same rule at positions in random order) and two nulls with p-values, `p_label` and `p_draws`, show
whether the result exceeds chance; the p-values account for the search over many places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ddpm.features.activations import patch_features
from ddpm.mining import nulls, patches
from ddpm.mining.maps import Maps
from ddpm.mining.patches import Patches
from ddpm.tools import check
from ddpm.zoo import model

Features = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (x0 (B, H, W, C), c (B,)) -> (B, h, w, d)


@dataclass(frozen=True)
class Sizes:
    """How large the patches are, and how many are kept."""

    patch: int = 6  # side in pixels
    per_image: int = 5  # patches per image, which do not touch
    top: int = 1000  # patches that are clustered, the most typical of all images
    clusters: int = 16


class Cluster(NamedTuple):
    """Patches with similar features."""

    rank: int  # 1 is the most typical
    median: float  # of the members' scores
    members: np.ndarray  # numbers of patches, nearest to the centre first
    significant: float  # share of the members with q <= .05 among all patches (Benjamini-Hochberg on p_label), or NaN


class Mined(NamedTuple):
    """The result for one label."""

    patches: Patches  # highest score first
    stderr: np.ndarray  # (P,) standard error of each score over the draws
    p_label: np.ndarray  # (P,) NaN without images of other labels
    p_draws: np.ndarray  # (P,)
    cluster: np.ndarray  # (P,) the rank of its cluster, from 1
    distance: np.ndarray  # (P,) from the centre of its cluster
    clusters: list[Cluster]  # by rank
    control: Patches  # at random positions, with their scores


# --- validation -------------------------------------------------------------------------------------------------------


def check_model(m: model.Model) -> None:
    """Refuse a model without a null label, or one trained without it."""
    if not m.num_classes:
        raise ValueError(
            f"model {m.name!r} was trained without classes; typicality wants one with labels (`--conditional`)"
        )
    if m.card.get("train", {}).get("p_uncond") == 0:
        raise ValueError(
            f"model {m.name!r} has no null label: it was trained with p_uncond = 0 and never saw ∅; "
            f"train it with --p-uncond 0.1"
        )
    if not m.unet.null_label:
        raise ValueError(f"model {m.name!r} has no label for no class, with which typicality compares")
    H, W, _ = m.image_shape
    if m.unet.padded != (H, W) or H != W:
        raise ValueError(
            f"model {m.name!r} draws images of {H}x{W}; patches are described by feature maps that divide square images"
        )


def check_sizes(n: int, shape: tuple[int, ...], sizes: Sizes) -> None:
    """Refuse a patch larger than the image, and more clusters than possible patches."""
    H, W = shape[:2]
    k = patches.side("patch", sizes.patch, H, W)
    for name in ("per_image", "top", "clusters"):
        check.whole(name, getattr(sizes, name), 1)
    fit = len(patches.select(np.zeros((1, H - k + 1, W - k + 1)), k, sizes.per_image).score)  # the most in one image
    if (P := min(n * fit, sizes.top)) < sizes.clusters:
        raise ValueError(
            f"{n} images give at most {P} patches of {k} x {k} pixels, fewer than the {sizes.clusters} clusters; "
            f"take more images, or fewer clusters"
        )


# --- the algorithm ----------------------------------------------------------------------------------------------------


def describe(features: Features, x0: np.ndarray, c: np.ndarray, found: Patches, k: int) -> np.ndarray:
    """Average the features over each patch and divide by the length: (P, d).

    Only images that have a patch are passed to `features`.
    """
    used, image = np.unique(found.where[:, 0], return_inverse=True)
    return patch_features(features(x0[used], c[used]), image, found.where[:, 1:], k, x0.shape[1])


def group_into(
    f: np.ndarray, score: np.ndarray, K: int, seed: int = 10
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Cluster by k-means (k-means++, ten starts; the released code has one) and rank by median score.

    f: (P, d);  score: (P,)  ->  (rank of each from 1 (P,), distance from its centre (P,), members by rank)
    """
    from sklearn.cluster import KMeans

    if len(f) < K:
        raise ValueError(f"{len(f)} patches cannot make {K} clusters; take more images, or fewer clusters")
    means = KMeans(K, n_init=10, random_state=seed).fit(f)
    distance = np.linalg.norm(f - means.cluster_centers_[means.labels_], axis=1)
    there = np.unique(means.labels_)  # equal features can leave clusters empty
    order = sorted(there, key=lambda j: -np.median(score[means.labels_ == j]))
    rank = np.zeros(len(f), dtype=int)
    members = []
    for r, j in enumerate(order, 1):
        inside = np.flatnonzero(means.labels_ == j)
        rank[inside] = r
        members.append(inside[np.argsort(distance[inside], kind="stable")])
    return rank, distance, members


def mine(
    maps: Maps,
    x0: Any,
    c: Any,
    features: Features,
    sizes: Sizes = Sizes(),
    *,
    others: Maps | None = None,
    seed: int = 0,
) -> Mined:
    """Mine one label: patches, clusters, control and p-values; see the top of this file.

    maps: of the images x0 (n, H, W, C) with their label c;  others: of images of other labels, measured with the same
    c and draws, for `p_label`.
    """
    # Validation
    x0 = np.asarray(x0)
    n, (H, W) = len(x0), x0.shape[1:3]
    if maps.groups.shape[0] != n or maps.groups.shape[2:] != (H, W):
        raise ValueError(f"maps {maps.groups.shape} are not those of the images {x0.shape}")
    check_sizes(n, (H, W), sizes)
    c, k, count = np.broadcast_to(np.asarray(c, np.int32), (n,)), sizes.patch, sizes.per_image
    # Patches, and the same rule on images of other labels
    S = patches.pooled(maps.map, k)
    found = patches.top(patches.select(S, k, count), sizes.top)
    if others is None:
        by_label = np.full(len(found.score), np.nan)
    else:
        of_others = patches.select(patches.pooled(others.map, k), k, count)
        by_label = nulls.p_label(found, of_others, len(others.groups))
    # Clusters and significance
    rank, distance, members = group_into(describe(features, x0, c, found, k), found.score, sizes.clusters)
    q = nulls.false_discovery(by_label)
    significant = [float("nan") if others is None else float((q[m] <= 0.05).mean()) for m in members]
    return Mined(
        found,
        _stderr(found, maps.groups, k),
        by_label,
        nulls.p_draws(found, maps.groups, k, seed=seed),
        rank,
        distance,
        [
            Cluster(r, float(np.median(found.score[m])), m, share)
            for r, (m, share) in enumerate(zip(members, significant, strict=True), 1)
        ],
        patches.random_patches(S, k, count, seed),
    )


def _stderr(found: Patches, groups: np.ndarray, k: int) -> np.ndarray:
    """Estimate the standard errors of the scores from the spread over groups of draws: (P,)"""
    i, y, x = found.where.T
    G, out = groups.shape[1], np.empty(len(i))
    for image in np.unique(i):
        here = i == image
        out[here] = patches.pooled(groups[image], k)[:, y[here], x[here]].std(0, ddof=1) / np.sqrt(G)
    return out


def dift_features(m: model.Model, *, layer: str = "", ensemble: int = 8, seed: int = 0) -> Features:
    """Return the features of the paper: DIFT of the whole image with its label.

    They are taken at t = .16 T and averaged over noise draws.
    layer: a name of `ddpm.features.layers`; if empty, `features.default_layer`.
    """
    import jax

    from ddpm.features.activations import default_layer, dift

    layer = layer or default_layer(m.unet)

    def features(x0: np.ndarray, c: np.ndarray) -> np.ndarray:
        key = jax.random.fold_in(jax.random.key(seed), 2)
        return dift(m, x0, c, key, layer=layer, ensemble=ensemble)

    return features


def pixel_features(x0: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Return the pixels themselves: features for tests, and for denoisers without layers."""
    return np.asarray(x0)
