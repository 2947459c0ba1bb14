"""Functional maps between two shapes, and score distillation with a prior of them that is known.

A shape is a graph of n points with weights W; Φ (n, k) are the first k eigenvectors of its Laplacian L = deg - W, with
Φᵀ M Φ = 1 where the points have masses M (1 unless given). A map of points sends each point of Y to one of X; as a map
of functions it is a small matrix,

    C = Φ_Yᵀ M_Y Φ_X[points],   (k, k).        [Ovsjanikov et al. 2012]

If both shapes have the same distances, CCᵀ = 1 and CΛ_X = Λ_Y C: where all eigenvalues differ, C = diag(±1). Signs are
what eigenvectors leave open. So a prior of C is known without training, `isometry_prior`, and score distillation can
use it, as DiffuMatch does with a trained one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import oracle
from ddpm.contracts import Eps, Partial, partial_of, technique
from ddpm.distillation.gradients import descend, sds
from ddpm.schedule import Schedule
from ddpm.tools import check

FALLING = tuple(np.linspace(0.98, 0.04, 24).tolist())  # the largest time of each stage, as a share of T
STEPS = 60  # of each stage


class Basis(NamedTuple):
    """The slowest functions of a shape."""

    values: np.ndarray  # (k,) eigenvalues, rising from 0
    vectors: np.ndarray  # (n, k), Φᵀ M Φ = 1
    mass: np.ndarray  # (n,)


def laplacian(weight: Any) -> np.ndarray:
    """L = deg - W of a graph: fᵀ L f = ½ Σ_ij W_ij (f_i - f_j)².   weight: (n, n), symmetric, >= 0  ->  (n, n)"""
    W = np.asarray(weight, np.float64)
    if W.ndim != 2 or W.shape[0] != W.shape[1] or not np.array_equal(W, W.T) or W.min() < 0 or W.diagonal().any():
        raise ValueError(f"weight has shape {W.shape}; give a symmetric matrix (n, n), >= 0, with 0 on the diagonal")
    return np.diag(W.sum(1)) - W


def eigenbasis(L: Any, k: int, mass: Any = None) -> Basis:
    """The first k solutions of L φ = λ M φ.   L: (n, n);  mass: (n,), > 0, or None for 1"""
    from scipy.linalg import eigh

    L = np.asarray(L, np.float64)
    check.whole("k", k, 1, len(L))
    m = np.ones(len(L)) if mass is None else np.asarray(mass, np.float64)
    if m.shape != L.shape[:1] or not m.min() > 0:
        raise ValueError(f"mass has shape {m.shape}; give a positive number for each of the {len(L)} points")
    root = np.sqrt(m)
    values, vectors = eigh(L / root[:, None] / root, subset_by_index=(0, k - 1))
    if k > 1 and values[1] <= 1e-9 * np.trace(L) / len(L):
        raise ValueError("L has more than one function of eigenvalue 0: the graph falls apart; connect its points")
    return Basis(np.maximum(values, 0), vectors / root[:, None], m)


def from_points(X: Basis, Y: Basis, points: Any) -> np.ndarray:
    """C = Φ_Yᵀ M_Y Φ_X[points].   points: (n_Y,) the point of X of each point of Y  ->  (k_Y, k_X)"""
    points = np.asarray(points)
    if points.shape != Y.mass.shape or not 0 <= points.min() <= points.max() < len(X.mass):
        need = f"for each of the {len(Y.mass)} points of Y one of X, 0..{len(X.mass) - 1}"
        raise ValueError(f"points has shape {points.shape}; give {need}")
    return (Y.vectors * Y.mass[:, None]).T @ X.vectors[points]


def to_points(C: Any, X: Basis, Y: Basis) -> np.ndarray:
    """The row of Φ_X Cᵀ that is nearest to each row of Φ_Y.   C: (k_Y, k_X), of the first functions  ->  (n_Y,)"""
    from scipy.spatial import cKDTree

    C = np.asarray(C, np.float64)
    if C.ndim != 2 or C.shape[0] > len(Y.values) or C.shape[1] > len(X.values):
        raise ValueError(f"C has shape {C.shape}; at most ({len(Y.values)}, {len(X.values)}) functions are known")
    return cKDTree(X.vectors[:, : C.shape[1]] @ C.T).query(Y.vectors[:, : C.shape[0]])[1]


def heat_signatures(shape: Basis, times: Sequence[float]) -> np.ndarray:
    """Σ_j exp(-λ_j τ) φ_j², the heat that stays at a point: (n, times). It knows no sign.   [Sun et al. 2009]"""
    tau = np.asarray(check.number("times", times, 0), np.float64)
    return shape.vectors**2 @ np.exp(-shape.values[:, None] * tau)


def coefficients(shape: Basis, functions: Any) -> np.ndarray:
    """Φᵀ M F of functions (n, d): (k, d)"""
    return (shape.vectors * shape.mass[:, None]).T @ np.asarray(functions, np.float64)


def least_squares(A: Any, B: Any, X: Basis, Y: Basis, alpha: float = 0.0) -> np.ndarray:
    """argmin ‖CA - B‖² + α Σ_ij C_ij² (λ_j^X - λ_i^Y)², one system for each row of C; the shortest if many.

    A: (k, d), B: (k, d) coefficients of functions that correspond.  ->  (k, k)
    """
    A, B = (np.asarray(a, np.float64) for a in (A, B))
    if A.ndim != 2 or A.shape != B.shape or not len(A) == len(X.values) == len(Y.values):
        raise ValueError(f"A has shape {A.shape} and B {B.shape}; give ({len(X.values)}, d) for both")
    check.number("alpha", alpha, 0)
    gap = (X.values[None, :] - Y.values[:, None]) ** 2
    rows = [np.linalg.pinv(A @ A.T + alpha * np.diag(gap[i]), hermitian=True) @ A @ B[i] for i in range(len(B))]
    return np.stack(rows)


def zoomed(C: Any, X: Basis, Y: Basis) -> np.ndarray:
    """ZoomOut: points of C, a C one function larger of them, and so on to all functions: (k, k). [Melzi et al. 2019]"""
    C = np.asarray(C, np.float64)
    for k in range(C.shape[0] + 1, min(len(X.values), len(Y.values)) + 1):
        points = to_points(C, X, Y)
        x, y = (Basis(s.values[:k], s.vectors[:, :k], s.mass) for s in (X, Y))
        C = from_points(x, y, points)
    return C


# --- score distillation -----------------------------------------------------------------------------------------------


def isometry_prior(schedule: Schedule, k: int, std: float = 0.1) -> Partial:
    """ε* of C (B, k, k) with independent entries: ½N(1, s²) + ½N(-1, s²) on the diagonal, else N(0, s²)."""
    check.number("std", std, 1e-6)
    m = oracle.mixture([[1.0], [-1.0], [0.0]], std**2, label=np.array([0, 0, 1]))
    label = 1 - jnp.eye(check.whole("k", k, 1), dtype=int)
    return Partial(_entries, m.eps(schedule), label)


def _entries(eps: Eps, label: jax.Array, C_t: jax.Array, t: jax.Array, c: Any = None) -> jax.Array:
    """Each entry is one number of the mixture, with a class of its own."""
    times = jnp.broadcast_to(t.reshape(-1, 1, 1), C_t.shape).reshape(-1)
    return eps(C_t.reshape(-1, 1), times, jnp.broadcast_to(label, C_t.shape).reshape(-1)).reshape(C_t.shape)


@technique(prior=partial_of, strength=lambda a: check.number("strength", a, 0))
def data_and_prior(key: jax.Array, C: jax.Array, /, A: Any, B: Any, prior: Any, strength: Any) -> jax.Array:
    """(CA - B) Aᵀ/d + strength · prior(key, C), the gradient of ½‖CA - B‖²/d with a prior's.   C: (B, k, k)"""
    return (C @ A - B[None]) @ A.T / A.shape[1] + strength * prior(key, C)


def distilled(
    key: jax.Array, eps: Eps, schedule: Schedule, A: Any, B: Any, tops: Sequence[float] = FALLING,
    strength: float = 1.0, rate: float = 0.2,
) -> np.ndarray:  # fmt: skip
    """C from functions that correspond and a prior's denoiser, by SDS whose times fall: (k, k)

    tops: the largest t/T of each stage of 60 steps; the smallest is .02. Large times see one heap around 0, whose
    fixed point is C = 0; so the last have to be small, or both signs stay at 0.
    """
    A, B = (jnp.asarray(a, float) for a in (A, B))
    check.same_shape("A", A, "B", B)
    C = jnp.zeros((1, A.shape[0], A.shape[0]), A.dtype)
    for i, top in enumerate(tops):
        prior = sds(eps, schedule, t_range=(0.02, top))
        C = descend(data_and_prior(A, B, prior, strength), jax.random.fold_in(key, i), C, STEPS, rate)
    return np.asarray(C[0], np.float64)
