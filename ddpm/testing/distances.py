"""The check of a Fréchet distance (FID) on Gaussians, where it has a closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ddpm.course.checks.c09 import frechet
from ddpm.testing.answers import Answer, answered, mistaken
from ddpm.testing.calling import Convention, Fault, by_name, call
from ddpm.testing.mistakes import Mistake, of_lesson, tried

MOMENTS = ("mean_a", "cov_a", "mean_b", "cov_b")


def cases() -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of feature sets whose covariances do not commute; in the last the means are equal."""
    out = []
    for k, d in enumerate((3, 5, 4)):
        rng = np.random.default_rng(k)
        p, q = rng.normal(size=(2, d, d))
        a, b = rng.normal(size=(200, d)) @ p, rng.normal(size=(150, d)) @ q + (rng.normal(size=d) if k < 2 else 0)
        out.append((a, b - b.mean(0) + a.mean(0) if k == 2 else b))
    return out


def moments(x: np.ndarray, ddof: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of features (n, d)."""
    return x.mean(0), np.cov(x, rowvar=False, ddof=ddof)


@answered("Fréchet distance")
def check_fid(fid: Callable[..., Any], convention: Convention = Convention()) -> Answer:
    """Compare fid(mu1, sigma1, mu2, sigma2), or fid(features_a, features_b), with the closed form.

    ‖μ_p - μ_q‖² + tr Σ_p + tr Σ_q - 2 tr (Σ_p^½ Σ_q Σ_p^½)^½   [Heusel et al. 2017, Eq. 6]
    """
    of_moments, found = True, list[float]()
    for a, b in cases():
        given = dict(zip(MOMENTS, (*moments(a), *moments(b)), strict=True))
        if not found:
            of_moments = takes_moments(fid, given)
        given = given if of_moments else {"features_a": a, "features_b": b}
        value = convention.take(call(fid, given, convention, again=True))
        if value.size != 1:
            raise Fault("shape", f"it returned the shape {value.shape}; wanted is one number.")
        found.append(float(value.ravel()[0]))

    def of(f: Callable, ddof: int = 1) -> np.ndarray:
        return np.array([tried(f, *moments(a, ddof), *moments(b, ddof)) for a, b in cases()])

    good = of(frechet)
    effect = f"{found[0]:.4g} instead of {good[0]:.4g} for two sets of 3 features"
    if np.allclose(found, good, rtol=2e-3, atol=1e-3):
        return Answer("Fréchet distance", True, conventions=("squared, covariances with n-1",))
    root = Mistake("the root was taken", "This is the distance; FID is its square.", lambda *m: np.sqrt(frechet(*m)))
    for m in (*of_lesson("9.5", "frechet"), root):
        if np.allclose(found, of(m.wrong), rtol=2e-3, atol=1e-3):
            return mistaken("Fréchet distance", m.key, m.sentence, effect)
    if not of_moments and np.allclose(found, of(frechet, 0), rtol=1e-3, atol=1e-4):
        sentence = "The covariances are divided by n; the usual implementations divide by n-1."
        return mistaken("Fréchet distance", "covariance divided by n", sentence, effect)
    return mistaken("Fréchet distance", "unknown", f"{found[0]:.6g} where {good[0]:.6g} is right.", effect)


def takes_moments(fid: Callable[..., Any], given: dict[str, Any]) -> bool:
    """Whether the function has four parameters of its own, means and covariances; else it has two sets of features."""
    try:
        args, kwargs = by_name(fid, given)
    except Fault:
        return False
    return len(args) + len(kwargs) == 4
