"""The exact denoiser where each place of x has its own time: known parts at 0, unknown ones at t, absent ones at T.

    x_i = √ᾱ_(t_i) x0_i + √(1-ᾱ_(t_i)) ε_i        A = diag √ᾱ_(t_i)
    E[x0 | x, k] = μ_k + Σ_k A (A Σ_k A + 1 - A²)⁻¹ (x - A μ_k),     p(k | x) ∝ w_k N(x; A μ_k, A Σ_k A + 1 - A²)

With two parts and times (t, u) this is one model of a pair: (t, 0) walks to x given y, (t, t) to both, (t, T) to x
alone.   [Bao et al. 2023, UniDiffuser; Li et al. 2025, UniCon]   With blocks, those before at 0 and those after at T,
it is the denoiser of a block given the ones before.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Partial
from ddpm.oracle import Mixture, class_labels
from ddpm.schedule import Schedule
from ddpm.tools import check


def eps_by_place(m: Mixture, schedule: Schedule) -> Partial:
    """Return ε*(x (B, D), t, c), with times t (D,), or (B, D), in 0…T; 0 where t = 0, since there is no noise.

    Places at t = 0 are known exactly, so given the others they must have a variance: a mixture of points has none.
    """
    return Partial(_eps, m, schedule)


def _eps(m: Mixture, schedule: Schedule, x: jax.Array, t: Any, c: Any = None) -> jax.Array:
    span, t, (B, D) = check.bounds(t), jnp.asarray(t), x.shape
    if D != m.mean.shape[1] or t.shape not in ((D,), (B, D)) or not jnp.issubdtype(t.dtype, jnp.integer):
        need = f"x (B, {m.mean.shape[1]}) with integer times ({m.mean.shape[1]},) or (B, {m.mean.shape[1]})"
        raise ValueError(f"x has shape {x.shape} and t has shape {t.shape} and type {t.dtype}; give {need}")
    if span and not (0 <= span[0] and span[1] <= schedule.T):
        raise ValueError(f"t lies in {span[0]}..{span[1]}, outside 0..{schedule.T} (t = 0 is known)")
    if span and check.known(m.var) and check.known(m.basis):
        alone = np.einsum("kde,ke->kd", np.asarray(m.basis) ** 2, np.asarray(m.var)).min(0) < 1e-12
        if np.any(np.asarray(t).reshape(-1, D).min(0)[alone] == 0):
            raise ValueError(f"t is 0 at a place without variance, one of {np.flatnonzero(alone)}; give t >= 1 there")
    c = None if c is None else class_labels(m.label, c, B)
    return _solve(m, schedule, x, jnp.broadcast_to(t, x.shape), c)


@jax.jit
def _solve(m: Mixture, schedule: Schedule, x: jax.Array, t: jax.Array, c: jax.Array | None) -> jax.Array:
    a, std = jnp.sqrt(schedule.alpha_bar[t])[:, None], schedule.std[t][:, None]  # (B, 1, D)
    cov = jnp.einsum("kde,ke,kfe->kdf", m.basis, m.var, m.basis, precision="highest")[None]  # (1, K, D, D)
    of_x = a[..., None] * cov * a[..., None, :] + (std**2)[..., None] * jnp.eye(x.shape[1])[None, None]
    gap = x[:, None] - a * m.mean[None]  # (B, K, D)
    root = jnp.linalg.cholesky(of_x)
    solved = jax.scipy.linalg.cho_solve((root, True), gap[..., None])[..., 0]
    log_det = jnp.log(jnp.diagonal(root, axis1=2, axis2=3)).sum(2)
    allowed = True if c is None else (m.label[None] == c[:, None]) | (c > m.label.max())[:, None]
    log_k = jnp.where(allowed, m.log_weight[None], -jnp.inf) - 0.5 * (gap * solved).sum(2) - log_det
    # √(1-ᾱ) (AΣA + 1 - A²)⁻¹ (x - Aμ) is E[ε | x, k], also where ᾱ = 0
    return jnp.einsum("bk,bkd->bd", jax.nn.softmax(log_k, axis=1), std * solved, precision="highest")


def together(*columns: tuple[Any, int]) -> np.ndarray:
    """The times of all places from the times of parts: (list of n+1, or one time that stays; places) -> (n+1, D)

    together((make_times(T, n), 3), (0, 2)) walks three places to 0 while two are known.
    """
    lists = [np.atleast_1d(np.asarray(times)) for times, _ in columns]
    n = max(map(len, lists))
    if any(len(one) not in (1, n) or one.ndim != 1 for one in lists):
        raise ValueError(f"the lists have lengths {[len(one) for one in lists]}; give lists of one length, or one time")
    wide = [np.broadcast_to(one, n)[:, None].repeat(places, 1) for one, (_, places) in zip(lists, columns, strict=True)]
    return np.concatenate(wide, 1).astype(np.int32)
