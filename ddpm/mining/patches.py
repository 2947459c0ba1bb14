"""Patches of maps: k × k averages, and the highest of each image that do not touch each other.

    S[i, j] = mean of map[i : i+k, j : j+k]       average pooling with stride 1   [Siglidis et al. 2024, released code]

Two patches at (i, j) and (i', j') touch if |i - i'| <= k and |j - j'| <= k: patches that share only a side or a corner
count as touching, as in the released code, whose boxes have inclusive bounds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ddpm.tools import check


class Patches(NamedTuple):
    """Places in images with their scores; each function documents its order."""

    where: np.ndarray  # (P, 3) int32: image, top, left
    score: np.ndarray  # (P,)
    turn: np.ndarray  # (P,) int32: 0 for the best patch of its image, 1 for the next, ...

    def take(self, ids: Any) -> Patches:
        """Select the patches with these numbers."""
        return Patches(self.where[ids], self.score[ids], self.turn[ids])


def pooled(maps: Any, k: int) -> np.ndarray:
    """Compute S from the integral of the maps: (..., H, W) -> (..., H-k+1, W-k+1) float64.

    With I[i, j] the sum of map[:i, :j], the sum over a patch is I[i+k, j+k] - I[i, j+k] - I[i+k, j] + I[i, j].
    """
    maps = np.asarray(maps, dtype=np.float64)
    H, W = maps.shape[-2:]
    side("patch", k, H, W)
    integral = np.zeros((*maps.shape[:-2], H + 1, W + 1))
    integral[..., 1:, 1:] = maps.cumsum(-2).cumsum(-1)
    down = integral[..., k:, :] - integral[..., :-k, :]
    return (down[..., k:] - down[..., :-k]) / k**2


def side(name: str, k: int, H: int, W: int) -> int:
    """Check that a patch of this side fits into images of H × W pixels."""
    if not isinstance(k, (int, np.integer)) or not 1 <= k <= min(H, W):
        raise ValueError(f"{name} is {k}; give a whole number of pixels in 1..{min(H, W)}: the images are {H} x {W}")
    return int(k)


def select(scores: Any, k: int, count: int = 5) -> Patches:
    """Select the best patch of each image, then the best that touches none so far, up to `count`.

    scores: (n, h, w) for the top left corner of each k × k patch. The result is ordered by image and, within it, by
    score; among equal scores the upper, then the left one comes first.
    """
    # Validation
    left = np.array(scores, dtype=np.float64)  # a copy
    if left.ndim != 3:
        raise ValueError(f"scores has shape {left.shape}; give (n, h, w)")
    if np.isnan(left).any():
        raise ValueError("scores holds a value that is not a number")
    check.whole("count", count, 1)
    # The best remaining place of every image, turn by turn
    n, h, w = left.shape
    i, rows, columns = np.arange(n), np.arange(h), np.arange(w)
    where, score, turn = [], [], []
    for r in range(count):
        best = left.reshape(n, -1).argmax(1)
        y, x = best // w, best % w
        value = left[i, y, x]
        free = value > -np.inf
        where.append(np.stack([i, y, x], 1)[free])
        score.append(value[free])
        turn.append(np.full(free.sum(), r))
        # No second patch that touches this one
        near_y = np.abs(rows[None] - y[:, None]) <= k  # (n, h)
        near_x = np.abs(columns[None] - x[:, None]) <= k
        left[near_y[:, :, None] & near_x[:, None, :]] = -np.inf
    # Order by image, then by turn
    all_where, all_turn = np.concatenate(where), np.concatenate(turn)
    order = np.lexsort((all_turn, all_where[:, 0]))
    return Patches(all_where[order].astype(np.int32), np.concatenate(score)[order], all_turn[order].astype(np.int32))


def random_patches(scores: Any, k: int, count: int = 5, seed: int = 0) -> Patches:
    """Select a random control: the same rule on positions in random order, with their scores.

    The order in image i is the same however many images follow it.
    """
    scores = np.asarray(scores, dtype=np.float64)
    p = select(np.random.default_rng(seed).random(scores.shape), k, count)
    return p._replace(score=scores[tuple(p.where.T)])


def top(patches: Patches, most: int) -> Patches:
    """Select the `most` patches of highest score over all images, highest first."""
    check.whole("top", most, 1)
    return patches.take(np.argsort(-patches.score, kind="stable")[:most])


def cut(images: Any, where: Any, k: int) -> np.ndarray:
    """Cut out the pixels of the patches: images (n, H, W, C), where (P, 3) -> (P, k, k, C)"""
    where = np.asarray(where)
    i, y, x = (where[:, j, None, None] for j in range(3))
    return np.asarray(images)[i, y + np.arange(k)[None, :, None], x + np.arange(k)[None, None, :]]
