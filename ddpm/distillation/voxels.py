"""A renderer that is linear in its voxels, so that score distillation into a volume has a known end.

    g_v(ψ) = A_v ψ:   pixel = Σ_k γ^k ψ(k-th voxel along the ray)

With γ < 1 near voxels weigh more, and the view from behind is another picture; with γ = 1, as in an X-ray, it is the
same. SDS with denoisers of N(μ_v, Σ_v) stops where Σ_v A_vᵀ W_v (A_v ψ - μ_v) = 0, W_v the slope of E[SDS], and what
no view sees never moves. If the pictures fit together, μ_v = A_v μ, it ends at ψ_0 + P (μ - ψ_0) with P the projection
on the rows of all A_v.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Partial
from ddpm.tools import check

DIRECTIONS = ("+x", "-x", "+y", "-y", "+z", "-z")  # the way that the rays go


def view(side: int, direction: str, gamma: float = 0.7) -> np.ndarray:
    """A_v of a cube of side³ voxels, seen along one of `DIRECTIONS`: (side², side³), voxels and pixels in C order."""
    check.whole("side", side, 1)
    check.choice("direction", direction, DIRECTIONS)
    check.number("gamma", gamma, 0, 1)
    axis, n = "xyz".index(direction[1]), side
    depth = np.arange(n) if direction[0] == "+" else np.arange(n)[::-1]
    voxel = np.moveaxis(np.arange(n**3).reshape(n, n, n), axis, -1).reshape(-1, n)  # (pixels, along the ray)
    A = np.zeros((n * n, n**3))
    A[np.arange(n * n)[:, None], voxel] = gamma ** depth[None]
    return A


def renderer(views: Sequence[Any]) -> Partial:
    """g(ψ): voxels (N,) -> the pictures of all views, (V, pixels)"""
    _check(views)
    return Partial(_render, jnp.stack([jnp.asarray(A, dtype=float) for A in views]))


def _check(views: Sequence[Any]) -> None:
    if not len(views) or len({np.shape(A) for A in views}) != 1 or np.ndim(views[0]) != 2:
        raise ValueError(
            f"views have shapes {[np.shape(A) for A in views]}; give matrices (pixels, voxels) of one size"
        )


def _render(A: Any, psi: Any) -> Any:
    return jnp.einsum("vpn,n->vp", A, psi, precision="highest")


def settled(views: Sequence[np.ndarray], target: Any, psi_0: Any) -> np.ndarray:
    """ψ_0 + A⁺ (target - A ψ_0): where distillation from ψ_0 ends if the pictures target (V, pixels) fit together."""
    _check(views)
    A = np.stack(views)
    target, psi_0 = np.asarray(target, np.float64), np.asarray(psi_0, np.float64)
    if target.shape != A.shape[:2] or psi_0.shape != A.shape[2:]:
        raise ValueError(f"target is {target.shape} and psi_0 {psi_0.shape}; give {A.shape[:2]} and {A.shape[2:]}")
    rows = A.reshape(-1, A.shape[2])
    return psi_0 + np.linalg.pinv(rows, rcond=1e-10) @ (target.ravel() - rows @ psi_0)
