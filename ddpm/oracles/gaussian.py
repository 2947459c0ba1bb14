"""Fit a Gaussian to images: its denoiser is the best linear one, with losses and first steps in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Partial
from ddpm.forward import at
from ddpm.oracle import Mixture, _components, class_labels, mixture
from ddpm.schedule import Schedule
from ddpm.tools import check

MOST_NUMBERS = 3072  # of an image, 32 x 32 x 3, for whole covariances with their eigenvectors


def fit(x: Any, c: Any = None) -> Mixture:
    """The Gaussian with the mean and covariance of the images x (N, ...), or one such Gaussian for each class.

    Its ε* is the best linear denoiser of these images: the baseline that a network has to beat.
    """
    x = np.asarray(x).reshape(len(x), -1)
    c = np.zeros(len(x), dtype=int) if c is None else np.asarray(c)
    if len(x) < 1 or c.shape != (len(x),):
        raise ValueError(f"x has {len(x)} images and c has shape {c.shape}; give images, and one label for each")
    classes = np.unique(c)
    means, covs = [], []
    for k in classes:
        of_class = x[c == k].astype(np.float64)
        means.append(of_class.mean(0))
        of_class -= means[-1]
        covs.append(of_class.T @ of_class / len(of_class))
    return mixture(np.stack(means), np.stack(covs), np.array([(c == k).mean() for k in classes]), classes)


def exact_v(m: Mixture, schedule: Schedule) -> Partial:
    """v*(x_t, t, c) = √ᾱ_t E[ε | x_t] - √(1-ᾱ_t) E[x0 | x_t] of a mixture: what a network for v would learn.

    E[x0 | x_t] = Σ_k p(k | x_t) (μ_k + √ᾱ_t Σ_k (ᾱ_t Σ_k + (1-ᾱ_t) I)⁻¹ (x_t - √ᾱ_t μ_k)), finite even where ᾱ_t = 0.
    """
    return Partial(_exact_v, m, schedule)


def _exact_v(m: Mixture, schedule: Schedule, x_t: jax.Array, t: Any, c: Any = None) -> jax.Array:
    log_joint, _, z, var_t = _components(m, schedule, x_t, t, c)
    alpha_bar = at(schedule.alpha_bar, jnp.broadcast_to(t, x_t.shape[:1]), z)  # (B, 1, 1)
    # In the eigenbasis of each component: (√ᾱ (1-ᾱ) - √(1-ᾱ) √ᾱ λ) z/v, less its mean's share
    slope = jnp.sqrt(alpha_bar * (1 - alpha_bar)) * (1 - m.var[None]) * z / var_t  # (B, K, D)
    v_k = jnp.einsum("bke,kde->bkd", slope, m.basis, precision="highest") - jnp.sqrt(1 - alpha_bar) * m.mean[None]
    return jnp.einsum("bk,bkd->bd", jax.nn.softmax(log_joint, axis=1), v_k, precision="highest").reshape(x_t.shape)


_exact_v.labels = lambda m, *_: np.unique(m.label) if check.known(m.label) else None  # type: ignore[attr-defined]


def linear_loss(m: Mixture, schedule: Schedule, x0: Any, c: Any = None) -> np.ndarray:
    """E_ε ‖ε - ε*(x_t, t)‖²/D of the Gaussian (or, with c, of each class's own Gaussian) on images x0, for every t.

    Exact, without sampling. In the eigenbasis, with s_d = E[(x0 - μ)_d²] over the given images and v_d = ᾱλ_d + 1-ᾱ:

        L_t = mean_d [ (ᾱ λ_d / v_d)² + ᾱ (1-ᾱ) s_d / v_d² ]          (= mean_d ᾱλ_d/v_d where s = λ)

    x0: (N, ...);  c: (N,) or None for one Gaussian  ->  (T+1,) float64; entry 0 is 1 (noise that is not there).
    """
    x = np.asarray(x0).reshape(len(x0), -1)
    label, mean, basis, var = (np.asarray(a, dtype=np.float64) for a in (m.label, m.mean, m.basis, m.var))
    if len(np.unique(label)) != len(label) or (c is None and len(label) > 1):
        raise ValueError("linear_loss wants one Gaussian, or one for each class together with the labels c")
    c = np.full(len(x), label[0]) if c is None else np.asarray(c)
    alpha_bar = np.asarray(schedule.alpha_bar, dtype=np.float64)[1:, None]  # (T, 1)
    loss = np.zeros(schedule.T)
    for k, of_class in enumerate(label):
        rows = c == of_class
        if not rows.any():
            continue
        s = np.square((x[rows] - mean[k]) @ basis[k]).mean(0)  # (D,)
        v = alpha_bar * var[k] + 1 - alpha_bar  # (T, D)
        loss += rows.mean() * ((alpha_bar * var[k] / v) ** 2 + alpha_bar * (1 - alpha_bar) * s / v**2).mean(1)
    return np.concatenate([[1.0], loss])


def teleport(m: Mixture, schedule: Schedule, x_T: jax.Array, t: Any, T: Any = None, c: Any = None) -> jax.Array:
    """x_t of the probability flow of a Gaussian from x_T (B, ...) at the time T (the schedule's last if None).

    m: one Gaussian, or one for each class together with labels c (B,).
    """
    T = schedule.T if T is None else T
    label = m.label
    if c is None and label.shape[0] > 1:
        raise ValueError(f"this mixture has {label.shape[0]} components; give one Gaussian, or labels c")
    k = jnp.zeros(x_T.shape[0], jnp.int32)
    if c is not None:
        if check.known(label) and len(set(label.tolist())) != label.shape[0]:
            raise ValueError("a class has several components; teleportation wants one Gaussian a class")
        c = class_labels(label, c, x_T.shape[0])
        if check.known(c) and check.known(label) and bool((c > label.max()).any()):
            raise ValueError("c asks for the null label; over several classes the data are not one Gaussian")
        k = jnp.argmax(label[None] == c[:, None], axis=1)
    x = x_T.reshape(x_T.shape[0], -1)
    a_t, a_T = at(schedule.alpha_bar, t, x), at(schedule.alpha_bar, T, x)
    gain = jnp.sqrt((a_t * m.var[k] + 1 - a_t) / (a_T * m.var[k] + 1 - a_T))
    z = jnp.einsum("bd,bde->be", x - jnp.sqrt(a_T) * m.mean[k], m.basis[k], precision="highest")
    x_t = jnp.sqrt(a_t) * m.mean[k] + jnp.einsum("be,bde->bd", gain * z, m.basis[k], precision="highest")
    return x_t.reshape(x_T.shape)


def gaussian_losses(m: Mixture, schedule: Schedule, x0: Any, windows: Sequence[Any]) -> np.ndarray:
    """mean_t E_ε ‖ε - ε*_c(x_t, t)‖²/D for one Gaussian a class, without sampling: (B, K, len(windows)) float64.

    In the class's eigenbasis, with z = Uᵀ(x0 - μ) and v = ᾱλ + 1-ᾱ, it is mean_d[(ᾱλ/v)² + ᾱ(1-ᾱ) z²/v²]. Its argmin
    is the diffusion classifier with the exact denoisers and infinitely many draws. For classes that share one isotropic
    covariance it is that of ‖x0 - μ_c‖, nearest mean, whatever the times.   windows: lists of times, each averaged over
    """
    x = np.asarray(x0, dtype=np.float64).reshape(len(x0), -1)
    label, mean, basis, var = (np.asarray(a, dtype=np.float64) for a in (m.label, m.mean, m.basis, m.var))
    if len(np.unique(label)) != len(label):
        raise ValueError("gaussian_losses wants one Gaussian for each class; a class of this mixture has several")
    if x.shape[1] != mean.shape[1]:
        raise ValueError(f"x0 has {x.shape[1]} numbers an image; the Gaussians have {mean.shape[1]}")
    alpha_bar = np.asarray(schedule.alpha_bar, dtype=np.float64)
    out = np.empty((len(x), len(label), len(windows)))
    for k in range(len(label)):
        z2 = ((x - mean[k]) @ basis[k]) ** 2  # (B, D)
        for w, window in enumerate(windows):
            a = alpha_bar[np.asarray(window)].reshape(-1, 1)  # (n, 1)
            v = a * var[k] + 1 - a
            constant, slope = ((a * var[k] / v) ** 2).mean(), (a * (1 - a) / v**2).mean(0)
            out[:, k, w] = constant + z2 @ slope / x.shape[1]
    return out
