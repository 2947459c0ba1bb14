"""The losses of a GAN, and the divergences that they follow when the discriminator is the best one.

    V = E_p log D + E_q log(1 - D),   D* = p/(p + q): its logit is a* = log p - log q       [Goodfellow et al. 2014]

At D* the value V is 2 JSD(p, q) - 2 log 2. Through a fixed D*, the generator's gradient of

    E_q log(1 - D)      (saturating)      is that of 2 JSD
    -E_q log D          (non-saturating)  is that of KL(q ‖ p) - 2 JSD                       [Arjovsky and Bottou 2017]

The second has useful gradients where D is sure, and it gives up modes where 2 JSD would not.
All functions take the logit a of D, never D itself: a sigmoid is applied once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.tools import check

KINDS = ("saturating", "non_saturating")


def discriminator_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
    """-E_p log D - E_q log(1 - D), which is 2 log 2 - 2 JSD at D*.   real, fake: logits a, (B,) each -> ()"""
    return jax.nn.softplus(-real).mean() + jax.nn.softplus(fake).mean()


def generator_loss(fake: jax.Array, kind: str = "non_saturating") -> jax.Array:
    """-log D, or log(1 - D), of each generated image.   fake: its logit a, (B,) -> (B,)

    Their slopes in a are -(1 - D) and -D: at D = .01, -.99 and -.01.
    """
    check.choice("kind", kind, KINDS)
    return jax.nn.softplus(-fake) if kind == "non_saturating" else -jax.nn.softplus(fake)


def r1(disc: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """½ ‖∇_x a(x)‖² at each real image, (B,); times γ it makes GANs converge locally.   [Mescheder et al. 2018, Eq. 9]

    disc: images (B, ...) -> logits (B,), each of which depends on its own image only.
    """
    logits, back = jax.vjp(disc, x)
    if logits.shape != (len(x),):
        raise ValueError(f"disc gives shape {logits.shape}; give one logit for each of the {len(x)} images")
    (slope,) = back(jnp.ones_like(logits))
    return 0.5 * (slope**2).reshape(len(x), -1).sum(1)


class Divergences(NamedTuple):
    """Between the data p and a generator q, in nats."""

    forward: float  # KL(p ‖ q), what a likelihood minimises
    reverse: float  # KL(q ‖ p)
    jsd: float  # ½ KL(p ‖ m) + ½ KL(q ‖ m), m = (p + q)/2; at most log 2

    @property
    def non_saturating(self) -> float:
        """KL(q ‖ p) - 2 JSD, what the non-saturating loss follows."""
        return self.reverse - 2 * self.jsd


def divergences(log_p: Any, log_q: Any, weight: Any) -> Divergences:
    """∑_i w_i of the integrands: densities at points x_i with the weights w_i of a quadrature (or masses with w = 1).

    log_p, log_q: (n,);  weight: (n,) or one number, as dx of an even grid. Both must sum to 1 within 1e-4.
    """
    log_p, log_q = np.asarray(log_p, np.float64), np.asarray(log_q, np.float64)
    if log_p.shape != log_q.shape or log_p.ndim != 1:
        raise ValueError(f"log_p has shape {log_p.shape} and log_q {log_q.shape}; give both at the same points, (n,)")
    for name, log in (("log_p", log_p), ("log_q", log_q)):
        total = float((np.exp(log) * weight).sum())
        if not abs(total - 1) < 1e-4:
            raise ValueError(f"{name} sums to {total:.5g} with these weights; give a grid that holds all its mass")
    log_m = np.logaddexp(log_p, log_q) - np.log(2)

    def kl(a: np.ndarray, b: np.ndarray) -> float:
        with np.errstate(invalid="ignore"):
            each = np.where(np.isneginf(a), 0.0, np.exp(a) * (a - b))
        return float((each * weight).sum())

    return Divergences(kl(log_p, log_q), kl(log_q, log_p), 0.5 * (kl(log_p, log_m) + kl(log_q, log_m)))
