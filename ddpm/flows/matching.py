"""Flow matching: regression on the conditional velocity, and pairs of noise and data by optimal transport.

    L = E_{τ, x0, ε} ‖ȧ x0 + ḃ ε - û(a x0 + b ε, τ, c)‖²            [Lipman et al. 2023, Eq. 9; Liu et al. 2023, Eq. 1]

Its minimiser is the marginal velocity u*, and its value there is not 0: `ddpm.flows.errors.loss_floor`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Eps
from ddpm.flows.conversions import level_for
from ddpm.flows.paths import LAST, Path
from ddpm.tools import check


def draw_tau(key: jax.Array, B: int, times: str = "uniform", first: float = 0.0) -> jax.Array:
    """Draw B times in [first, 1): `uniform`, or `logit_normal` τ = 1/(1 + e^-z), z ~ N(0, 1).   [Esser et al. 2024]"""
    check.choice("times", times, ("uniform", "logit_normal"))
    if times == "logit_normal":
        return jnp.maximum(jax.nn.sigmoid(jax.random.normal(key, (B,))), first)
    return jax.random.uniform(key, (B,), minval=check.number("first", first, 0, 0.999))


def flow_matching_loss(
    velocity: Eps, path: Path, x0: jax.Array, tau: jax.Array, noise: jax.Array, c: Any = None
) -> jax.Array:
    """‖ȧ x0 + ḃ ε - û(x_τ, τ, c)‖²/D of each image: (B,)   [Lipman et al. 2023, Eq. 9]

    velocity: (x, tau (B,), c) -> û;  x0, noise: (B, ...), in pairs;  tau: (B,) in (0, 1]
    """
    check.same_shape("x0", x0, "noise", noise)
    p = level_for(path, tau, x0)
    target = p.da * x0 + p.db * noise
    error = target - velocity(p.a * x0 + p.b * noise, tau, c)
    return (error**2).reshape(x0.shape[0], -1).mean(1)


def measured_straightness(velocity: Eps, x: jax.Array, c: Any = None, steps: int = 50) -> float:
    """S = E ‖(x_1 - x_0) - û(x_τ, τ)‖²/D along the flow of a velocity, by even steps of Euler's method from x = x_1.

    0 if each image moves on a line at one speed, as after reflow. [Liu et al. 2023, Eq. 4] On a Gaussian, with more
    steps, it is `ddpm.flows.errors.straightness`. x: (B, ...) noise;  velocity: (x, tau (B,), c) -> û
    """
    taus = 1 - jnp.arange(check.whole("steps", steps, 1)) / steps

    def forward(x: jax.Array, tau: jax.Array) -> tuple[jax.Array, jax.Array]:
        u = velocity(x, jnp.full(len(x), tau, x.dtype), c)
        return x - u / steps, u

    _, u = jax.lax.scan(forward, x, taus.astype(x.dtype))
    return float(((u - u.mean(0, keepdims=True)) ** 2).mean())  # x_1 - x_0 is the mean of the velocities


def velocity_weight(path: Path, T: int, last: float = LAST) -> np.ndarray:
    """w_t = (W/a)² at τ_t = last·t/T, with which w_t ‖ε - ε̂‖² is the squared error of the velocity: (T+1,)

    The mean over t = 1…T of the path's chain is then the flow-matching loss; entry 0, where there is no noise, is 0.
    """
    p = path.table(last * np.arange(1, check.whole("T", T, 1) + 1) / T)
    return np.append(0.0, (p.W / p.a) ** 2)


def pair_by_transport(noise: Any, x0: Any, c: Any = None) -> np.ndarray:
    """The order (B,) of least cost Σ_i ‖noise_i - x0[order_i]‖²: minibatch optimal transport.   [Tong et al. 2024]

    Give the labels the same order: `x0[order], c[order]` belong to `noise`. With labels c (B,) of x0, noise_i is paired
    with an image of label c_i, so that the noise of each label stays N(0, I), as sampling with that label assumes.
    Not inside jit. Paths of such pairs cross less, and the loss has a lower floor; in many dimensions a batch holds few
    near pairs, and little is gained.
    """
    from scipy.optimize import linear_sum_assignment

    noise, x0 = (np.asarray(a, dtype=np.float64) for a in (noise, x0))
    if noise.shape != x0.shape or noise.ndim < 2 or not len(x0):
        raise ValueError(f"noise has shape {noise.shape} and x0 {x0.shape}; give two equal batches (B, ...)")
    if not (np.all(np.isfinite(noise)) and np.all(np.isfinite(x0))):
        raise ValueError("noise or x0 has entries that are not finite")
    cost = -noise.reshape(len(noise), -1) @ x0.reshape(len(x0), -1).T  # ‖n‖² and ‖x‖² do not depend on the pairing
    if c is not None:
        c = check.classes("c", c, len(x0))
        cost = cost + np.where(c[:, None] == c, 0, 2 * np.abs(cost).sum() + 1)  # more than any pairing within labels
    return linear_sum_assignment(cost)[1]
