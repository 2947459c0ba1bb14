"""MeanFlow: a network learns the average velocity between two times, and samples in one call.   [Geng et al. 2025]

    u(x, r, t) = (x - Φ(x, t→r))/(t - r),   u(x, t, t) = û(x, t)                                          [Eq. 3]
    u = û - (t - r) du/dt,   du/dt = û·∂_x u + ∂_t u                                                        [Eq. 6]
    L = E ‖u_θ(x, r, t) - sg[u_c - (t - r) (u_c·∂_x u_θ + ∂_t u_θ)]‖²,   u_c = ε - x0                        [Eq. 9]

on the linear path x = (1-t) x0 + t ε, for 0 ≤ r ≤ t ≤ 1. An average velocity is a function (x, r, t, c) -> u with r, t
of shape (B,); a step is x_r = x_t - (t - r) u.

The loss of the exact u is neither 0 nor the floor of flow matching: u_c stands in the derivative too, and leaves
λ v_r/v_t² in each direction of a Gaussian (`loss_at_solution`). What goes wrong most often, each with a fixed point of
its own: + in place of - before (t - r); the derivative by r in place of t, when the arguments are swapped; a network
that takes h = t - r, whose h is given no derivative; no derivative by x; no stop-gradient; and the weight
1/(‖Δ‖² + c), which makes the logged loss about 1 from the first step to the last: log the loss without it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import technique
from ddpm.flows.conversions import shaped
from ddpm.loss import per_image
from ddpm.oracle import Mixture
from ddpm.tools import check

Average = Callable[..., jax.Array]  # (x (B, ...), r (B,), t (B,), c | None) -> u (B, ...)


def meanflow_target(
    average: Average, x: jax.Array, r: jax.Array, t: jax.Array, velocity: jax.Array, c: Any = None, along: Any = None
) -> jax.Array:
    """sg[u_c - (t - r) du/dt], du/dt = u_c·∂_x u + ∂_t u: like x   [Geng et al. 2025, Eq. 10]

    velocity: u_c, or û where a teacher is known;  along: the velocity along which u is differentiated, if it is
    another: u(x, t, t) of the network itself makes improved MeanFlow, whose loss has the floor of flow matching.
    """
    tangents = (velocity if along is None else along, jnp.ones_like(t))
    _, du = jax.jvp(lambda x, t: average(x, r, t, c), (x, t), tangents)
    return jax.lax.stop_gradient(velocity - shaped(t - r, x) * du)


def meanflow_loss(
    average: Average, x0: jax.Array, r: jax.Array, t: jax.Array, noise: jax.Array, c: Any = None
) -> jax.Array:
    """‖u_θ(x_t, r, t) - target‖²/D of each image, without any weight: (B,)   [Geng et al. 2025, Eq. 9]"""
    check.same_shape("x0", x0, "noise", noise)
    r, t = ordered(r, t)
    x = (1 - shaped(t, x0)) * x0 + shaped(t, x0) * noise
    target = meanflow_target(average, x, r, t, noise - x0, c)
    return per_image((average(x, r, t, c) - target) ** 2)


def adaptive_weight(error: jax.Array, p: float = 1.0, c: float = 0.01) -> jax.Array:
    """sg[1/(‖Δ‖² + c)^p], where ‖Δ‖² is the sum over pixels: (B,) -> (B,)   [Geng et al. 2025, Sec. 4.3]"""
    return jax.lax.stop_gradient((error + check.number("c", c, 1e-12)) ** -check.number("p", p, 0))


def draw_pairs(
    key: jax.Array, B: int, equal: float = 0.75, mean: float = -0.4, std: float = 1.0, times: str = "logit_normal"
) -> tuple[jax.Array, jax.Array]:
    """Draw r ≤ t: two times in order, logit-normal or `uniform`, and r = t for the share `equal`: (B,), (B,)

    [Geng et al. 2025, Sec. 4.3]   equal: .75 on ImageNet, .25 on CIFAR-10. Where r = t the loss is flow matching.
    """
    check.number("equal", equal, 0, 1)
    check.choice("times", times, ("uniform", "logit_normal"))
    key_pair, key_equal = jax.random.split(key)
    if times == "uniform":
        pair = jax.random.uniform(key_pair, (2, B))
    else:
        pair = jax.nn.sigmoid(mean + std * jax.random.normal(key_pair, (2, B)))
    t = pair.max(0)
    return jnp.where(jax.random.uniform(key_equal, (B,)) < equal, t, pair.min(0)), t


def jump(average: Average, x: jax.Array, times: Any, c: Any = None) -> jax.Array:
    """x_r = x_t - (t - r) u(x_t, r, t, c) from each time to the next, one call each: `jump(u, ε, [1, 0])`."""
    times = np.asarray(check.number("times", times, 0, 1), dtype=np.float64)
    if times.ndim != 1 or len(times) < 2 or not np.all(np.diff(times) < 0):
        raise ValueError(f"times is {times}; give at least two times in [0, 1] that fall, such as [1, 0]")
    for t, r in pairwise(times):
        x = x - (t - r) * average(x, *(jnp.full(len(x), a, x.dtype) for a in (r, t)), c)
    return x


# --- exact on a Gaussian ----------------------------------------------------------------------------------------------


@technique()
def exact_average(x: jax.Array, r: jax.Array, t: jax.Array, c: Any = None, /, *, data: Mixture) -> jax.Array:
    """u(x, r, t) of one Gaussian, with all derivatives, for r ≤ t; at r = t its velocity.

    u = -μ + (√v_t - √v_r)/((t - r) √v_t) (x - (1-t) μ) with v_t = (1-t)² λ + t² in each eigendirection; the quotient
    (v_t - v_r)/(t - r) is (t + r)(1 + λ) - 2λ, so nothing is 0/0.
    """
    if data.mean.shape[0] != 1:
        raise ValueError(f"this mixture has {data.mean.shape[0]} components; give one Gaussian")
    flat, r, t = x.reshape(x.shape[0], -1), r.reshape(-1, 1), t.reshape(-1, 1)
    lam, mean = (jnp.broadcast_to(a, flat.shape) for a in (data.var, data.mean))
    root_r, root_t = (jnp.sqrt((1 - a) ** 2 * lam + a**2) for a in (r, t))
    slope = ((t + r) * (1 + lam) - 2 * lam) / (root_t * (root_t + root_r))
    z = ((flat - (1 - t) * mean) @ data.basis[0]) * slope
    return (z @ data.basis[0].T - mean).reshape(x.shape)


def loss_at_solution(var: Any, r: Any, t: Any) -> np.ndarray:
    """λ v_r/v_t², the loss of the exact u on a Gaussian: what a healthy loss falls to. var: (D,), r and t shared"""
    lam = np.asarray(check.number("var", var, 0), dtype=np.float64)
    ordered(r, t)
    v_r, v_t = ((1 - a) ** 2 * lam + a**2 for a in (r, t))
    return lam * v_r / v_t**2


def ordered(r: Any, t: Any) -> tuple[Any, Any]:
    """r and t as they are; refused if, where they can be read, not 0 ≤ r ≤ t ≤ 1."""
    if check.known(r) and check.known(t):
        check.number("r", r, 0, 1)
        check.number("t", t, 0, 1)
        if np.any(np.asarray(r) > np.asarray(t)):
            raise ValueError(f"r is {r} and t is {t}; the jump goes from t down to r, so r <= t")
    return r, t
