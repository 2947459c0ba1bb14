"""p-values of mined clusters under two null hypotheses, and the false discovery rate."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ddpm.mining import patches
from ddpm.mining.patches import Patches
from ddpm.tools import check


def p_label(found: Patches, others: Patches, m: int) -> np.ndarray:
    """Test patches against those that the same rule finds in images of other labels: p-values (P,).

    Null: the label carries no information about the images, so those with label c and the m others, all measured with
    the same c and the same draws, are exchangeable. Then so are their r-th best patches, for each r = 1…5, although
    they are the best of many places: the rank of one among the 1 + m images is uniform, and with ties

        p = (1 + #{others whose r-th best score is at least this one}) / (1 + m)

    is valid: P(p <= α) <= α. It is never below 1/(1 + m). `others` comes from `select`, before `top`.
    """
    check.whole("m", m, 1)
    p = np.empty(len(found.score))
    for r in np.unique(found.turn):
        highest = np.sort(others.score[others.turn == r])  # an image without an r-th patch counts as lower
        at = found.turn == r
        p[at] = (1 + len(highest) - np.searchsorted(highest, found.score[at], side="left")) / (1 + m)
    return p


def p_draws(found: Patches, groups: Any, k: int, flips: int = 1024, seed: int = 0) -> np.ndarray:
    """Test patches against the noise of the draws: p-values (P,).

    Null: for this image the predictions with c and with ∅ are exchangeable. Exchanging them in one group of draws flips
    the sign of the whole map of that group, and the groups are independent: so the maps with all 2^G choices of signs
    are equally likely, and the p-value is the share of them whose best place in the image is at least as good as the
    patch. Because the best place is used, the p-values hold for the search over places. A label that the network
    ignores has p = 1. With more than `flips` choices, signs are drawn at random (the actual signs among them).

    groups: (n, G, H, W) maps by groups of draws.
    """
    # Choices of signs: all of them, or a random sample
    groups = np.asarray(groups, dtype=np.float32)
    G = groups.shape[1]
    if 2**G <= flips:
        signs = np.array(list(itertools.product((1, -1), repeat=G)), dtype=np.float32)
    else:
        signs = np.random.default_rng(seed).choice(np.array([1, -1], np.float32), (flips, G))
        signs[0] = 1
    # Each patch against the best place of its image under every choice
    p = np.empty(len(found.score))
    for i in np.unique(found.where[:, 0]):
        S = patches.pooled(groups[i], k).reshape(G, -1)
        best = np.sort((signs @ S / G).max(1))
        at = found.where[:, 0] == i
        least = found.score[at] - 1e-6 * np.abs(S).max()  # equal up to rounding counts as equal
        p[at] = (len(best) - np.searchsorted(best, least, side="left")) / len(best)
    return p


def false_discovery(p: np.ndarray) -> np.ndarray:
    """Compute the q-values of Benjamini and Hochberg (1995); NaN stays NaN."""
    from scipy.stats import false_discovery_control

    return p if np.isnan(p).any() else false_discovery_control(p)
