"""What an auxiliary classifier makes of a conditional GAN: samples that exaggerate their class.   [Odena et al. 2017]

AC-GAN's generator minimises 2 JSD(p(x), q(x)) - λ E_q log C(c | x). The first term asks for the right marginal only,
and the second for labels that are easy to tell. At the optimum each x is generated under its most probable label,

    q(x, c) = p(x) u/(2 - u) 1[c = argmax C(· | x)],   u = K C(c | x)^λ,   K such that it sums to 1,

so that a classifier is never in doubt, however much the classes overlap. Already λ → 0⁺ cuts the marginal in pieces; a
larger λ moves mass away from the boundaries as well. Guidance of a diffusion model has a similar effect for another
reason (`ddpm.guide.cfg`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ddpm.tools import check


def acgan(joint: Any, weight: float, classifier: str = "real") -> np.ndarray:
    """The distribution q(x, c) that AC-GAN draws with the best discriminator and classifier: (K, n) masses.

    joint: (K, n) masses p(x_i, c) that sum to 1;  weight: λ > 0 on the classifier's term;  classifier: whose labels C
    learns: `real`, C = p(c | x), or `both`, C = (p + q)(c | x), as in the paper's loss, where q is its own fixed point.
    """
    p = np.asarray(check.number("joint", joint, 0), np.float64)
    if p.ndim != 2 or not p.size or abs(p.sum() - 1) > 1e-6:
        raise ValueError(
            f"joint has shape {p.shape} and sum {p.sum():.6g}; give masses (classes, points) that sum to 1"
        )
    if not weight > 0:
        raise ValueError(f"weight is {weight}; give λ > 0: without the classifier's term nothing fixes the labels")
    check.choice("classifier", classifier, ("real", "both"))
    marginal = p.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        top = np.where(marginal > 0, p.max(0) / marginal, 0.0)  # p(c | x) of the most probable class
    ratio = _ratio_real if classifier == "real" else _ratio_both
    # K by bisection in log K: the total mass rises with it, without a bound at 2/max u
    low, high = -40.0, float(np.log(2) - weight * np.log(top.max())) if classifier == "real" else float(np.log(2))
    for _ in range(60):
        log_K = 0.5 * (low + high)
        low, high = (log_K, high) if (marginal * ratio(top, weight, log_K)).sum() < 1 else (low, log_K)
    q = marginal * ratio(top, weight, low)
    best = p == p.max(0, keepdims=True)
    return q / q.sum() * best / best.sum(0, keepdims=True)  # a tie is shared


def _ratio_real(top: np.ndarray, weight: float, log_K: float) -> np.ndarray:
    """q/p = u/(2 - u): where the derivative of the objective, log 2q/(p+q) - λ log C, is log K."""
    with np.errstate(divide="ignore"):
        u = np.minimum(np.exp(log_K + weight * np.log(top)), 2 * (1 - 1e-15))
    return u / (2 - u)


def _ratio_both(top: np.ndarray, weight: float, log_K: float) -> np.ndarray:
    """q/p = r with log 2r/(1+r) - λ log (C+r)/(1+r) = log K, by bisection in log r: C = (p_c + q)/(p + q)."""
    low, high = np.full_like(top, -60.0), np.full_like(top, 60.0)
    for _ in range(60):
        middle = 0.5 * (low + high)
        r = np.exp(middle)
        value = np.log(2) + middle - np.log1p(r) - weight * (np.log(top + r) - np.log1p(r))
        low, high = np.where(value < log_K, middle, low), np.where(value < log_K, high, middle)
    return np.exp(low)
