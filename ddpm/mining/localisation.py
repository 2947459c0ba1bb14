"""Measures of how well any method finds planted motifs: maps against masks, patches, clusters.

A method gives maps (n, H, W), higher where it sees the class, or patches (P, 3): image, top, left of k × k pixels,
in order of its score. The truth is `motif` (n, H, W): the number of the motif at each pixel, -1 where there is none, as
`ddpm.datasets.world.draw` gives it. The measures do not depend on how maps, patches or clusters were made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np


def motif_auc(maps: Any, masks: Any, pool: int = 1) -> float:
    """Compute the area under the ROC curve of maps against masks.

    This is P(a pixel inside a mask has a higher value than one outside), where ties count half.
    maps, masks: (n, H, W), all pixels of all images together.  pool: side of the square, odd, over which the maps are
    averaged first (at the border over the part inside the image). A random map has .5, a perfect one 1.
    """
    from sklearn.metrics import roc_auc_score

    maps, masks = np.asarray(maps, dtype=np.float64), np.asarray(masks)
    if maps.shape != masks.shape or maps.ndim != 3 or masks.dtype != bool:
        raise ValueError(f"maps {maps.shape} and masks {masks.dtype} {masks.shape} must be (n, H, W), masks of bool")
    if not np.isfinite(maps).all():
        raise ValueError("maps holds a value that is not a number")
    if masks.all() or not masks.any():
        which = "all" if masks.all() else "no"
        raise ValueError(f"masks hold {which} pixels; an AUC wants some inside and some outside")
    return float(roc_auc_score(masks.ravel(), smooth(maps, pool).ravel()))


def smooth(maps: Any, pool: int) -> np.ndarray:
    """Average over the pool × pool square around each pixel, restricted to the image."""
    from scipy.ndimage import uniform_filter

    maps = np.asarray(maps, dtype=np.float64)
    if pool < 1 or pool % 2 == 0:
        raise ValueError(f"pool is {pool}; give an odd number of pixels, 1 for none")
    if pool == 1:
        return maps
    mean, share = (uniform_filter(a, (0, pool, pool), mode="constant") for a in (maps, np.ones_like(maps)))
    return mean / share


def patch_motif(patches: Any, motif: Any, k: int, share: float = 0.5) -> np.ndarray:
    """Find the motif that covers most of each k × k patch, and at least `share`; else -1.

    patches: (P, 3) image, top, left  ->  (P,) int
    """
    patches, motif = np.asarray(patches), np.asarray(motif)
    if patches.ndim != 2 or patches.shape[1] != 3 or motif.ndim != 3:
        raise ValueError(f"patches {patches.shape} must be (P, 3) and motif {motif.shape} must be (n, H, W)")
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; give a share in (0, 1]")
    n, H, W = motif.shape
    if len(patches) and (patches.min() < 0 or np.any(patches.max(0) > (n - 1, H - k, W - k))):
        raise ValueError(f"a patch of {k} x {k} pixels lies outside the images {motif.shape}")
    i, y, x = (patches[:, j, None, None] for j in range(3))
    cover = motif[i, y + np.arange(k)[None, :, None], x + np.arange(k)[None, None, :]].reshape(len(patches), k * k)
    kinds = np.unique(motif[motif >= 0])
    if not len(kinds) or not len(patches):
        return np.full(len(patches), -1)
    count = np.stack([(cover == m).sum(1) for m in kinds], 1)  # (P, kinds)
    best = count.argmax(1)
    return np.where(count.max(1) >= share * k * k, kinds[best], -1)


def precision_at_k(hits: Any, ks: Iterable[int]) -> dict[int, float]:
    """Compute the share of `hits` among the first k, for every k, in order of the score."""
    hits = np.asarray(hits, dtype=bool)
    return {int(k): float(hits[:k].mean()) for k in ks if 1 <= k <= len(hits)}


def purity(clusters: Any, motifs: Any) -> float:
    """Purity = sum_j max_m n_jm / n: the share of elements with their cluster's most frequent motif.

    clusters, motifs: (P,) whole numbers. Elements without a motif (-1) count as misses, so a cluster of plain wall
    has purity 0.
    """
    clusters, motifs = np.asarray(clusters), np.asarray(motifs)
    if clusters.shape != motifs.shape or clusters.ndim != 1 or not len(clusters):
        raise ValueError(f"clusters {clusters.shape} and motifs {motifs.shape} must be (P,), with P >= 1")
    return sum(_most(motifs[clusters == j])[1] for j in np.unique(clusters)) / len(clusters)


def _most(motifs: np.ndarray) -> tuple[int, int]:
    """Find the most frequent motif and its count; (-1, 0) without any motif."""
    kinds, count = np.unique(motifs[motifs >= 0], return_counts=True)
    return (int(kinds[count.argmax()]), int(count.max())) if len(kinds) else (-1, 0)


class Found(NamedTuple):
    """How well the clustering recovers one planted motif."""

    motif: int
    rank: int | None  # first cluster, counted from 1, whose most frequent motif it is; None if no cluster
    purity: float  # its share of that cluster, 0 without one
    members: int  # the size of that cluster
    recall: float  # share of the motif's places that a patch (of any cluster) covers by half, NaN if unknown


def ranks(
    clusters: Any, motifs: Any, order: Sequence[int], planted: Iterable[int], least: int = 1, recall: dict | None = None
) -> list[Found]:
    """Find, for each planted motif, the first cluster in which it is the most frequent.

    clusters, motifs: (P,) of each patch;  order: the clusters, best first;  least: clusters with fewer members are
    skipped (and do not count as a rank);  recall: from `recalls`.
    """
    clusters, motifs, out = np.asarray(clusters), np.asarray(motifs), []
    order = [j for j in order if (clusters == j).sum() >= max(1, least)]
    major = {j: _most(motifs[clusters == j]) for j in order}
    for m in planted:
        own = [r for r, j in enumerate(order) if major[j][0] == m]
        share = (recall or {}).get(m, float("nan"))
        if not own:
            out.append(Found(m, None, 0.0, 0, share))
            continue
        j = order[own[0]]
        size = int((clusters == j).sum())
        out.append(Found(m, own[0] + 1, major[j][1] / size, size, share))
    return out


def recalls(patches: Any, boxes: Any, k: int, box: int, planted: Iterable[int], share: float = 0.5) -> dict[int, float]:
    """Compute the share of each motif's boxes that a patch covers.

    A box is covered if a patch overlaps at least `share` of the possible area, min(k, box)².
    patches: (P, 3) image, top, left;  boxes: (m, 4) image, motif, top, left of box × box pixels.
    """
    patches, boxes, out = np.asarray(patches), np.asarray(boxes), {}
    for m in planted:
        of_motif = boxes[boxes[:, 1] == m][:, [0, 2, 3]]
        if not len(of_motif):
            out[m] = float("nan")
            continue
        found = np.zeros(len(of_motif), dtype=bool)
        for i, (image, top, left) in enumerate(of_motif):
            near = patches[patches[:, 0] == image]
            rows = np.minimum(near[:, 1] + k, top + box) - np.maximum(near[:, 1], top)
            columns = np.minimum(near[:, 2] + k, left + box) - np.maximum(near[:, 2], left)
            found[i] = bool(np.any(np.clip(rows, 0, None) * np.clip(columns, 0, None) >= share * min(k, box) ** 2))
        out[m] = float(found.mean())
    return out
