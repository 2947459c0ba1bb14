"""Teleportation: the first steps in closed form.

At high noise any data look Gaussian, and on a Gaussian N(μ, U diag(λ) Uᵀ) the probability flow is known:

    x_t = √ᾱ_t μ + U diag(g) Uᵀ (x_T - √ᾱ_T μ),    g_d = √((ᾱ_t λ_d + 1-ᾱ_t)/(ᾱ_T λ_d + 1-ᾱ_T))

[Wang and Vastola 2024, analytical teleportation]   So fit a Gaussian to the data once (`oracle.fit`), jump from T to t,
and walk on from there: a third of the network calls for nothing.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ddpm import check
from ddpm.forward import at
from ddpm.oracle import Mixture, class_labels
from ddpm.schedule import Schedule


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
