"""What a training minimises: for each image, time and noise one number, whose mean over t is the loss.

    objective : (net, schedule, x0, t, noise, c) -> (B,)

    simple    ‖ε - ε̂‖²                                                                   [Ho et al. 2020, Eq. 14]
    mse       ‖target - net‖², the target being what the network predicts: ε, x0, v or μ     [its Table 2]
    min_snr   w_t ‖ε - ε̂‖², and p2: the weights of `ddpm.losses.weighting`
    vlb       the bound's term of t → t-1, in bits/dim: its mean is (L - L_T)/T               [its Eq. 5]
    hybrid    ‖ε - ε̂‖² + .001 T vlb, where vlb trains the variance only   [Nichol and Dhariwal 2021, Eq. 16]

`net` is the network's output at (x_t, t, c), with twice the channels where it predicts the variance too; ε̂ is derived
from it by a head of `ddpm.guide`. It is called once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ddpm.config import LOSSES
from ddpm.contracts import Eps, constant
from ddpm.forward import q_posterior, q_sample
from ddpm.loss import per_image, squared_error
from ddpm.losses import weighting
from ddpm.losses.bound import bound_term, hybrid_terms
from ddpm.networks.heads import head, velocity
from ddpm.networks.skip import skip_head
from ddpm.samplers.variance import eps_half, learned, v_half
from ddpm.schedule import Schedule
from ddpm.tools import check

Objective = Callable[..., jax.Array]  # (net, schedule, x0, t, noise, c) -> (B,)
WEIGHTS = {"simple": weighting.simple, "min_snr": weighting.min_snr, "p2": weighting.p2}


def denoiser(net: Eps, learned_variance: bool, schedule: Schedule, predict: str = "eps", prior: Any = None) -> Eps:
    """The ε̂ of a network that predicts `eps`, `x0`, `v`, `mu` or what a Gaussian `prior` leaves.

    Of a network that learns its variance it is the first half.
    """
    if predict == "gaussian":
        return skip_head(net, prior, schedule)
    return head(eps_half(net) if learned_variance else net, schedule, predict)


def objective(loss: str = "simple", predict: str = "eps", variance: str = "fixed_large") -> Objective:
    """The objective of that name.

    variance: `fixed_large`, `fixed_small` or `learned`, for vlb; hybrid wants a network that learns it.
    """
    check.choice("loss", loss, LOSSES)
    if loss == "mse":
        return partial(_mse, predict)
    if loss == "vlb":
        return partial(_vlb, predict, variance)
    return partial(_hybrid, predict) if loss == "hybrid" else partial(_weighted, predict, WEIGHTS[loss])


def target(schedule: Schedule, predict: str, x0: jax.Array, t: jax.Array, noise: jax.Array) -> jax.Array:
    """What a network that predicts `eps`, `x0`, `v` or `mu` should output at x_t: like x0"""
    check.choice("predict", predict, ["eps", "x0", "v", "mu"])
    if predict in ("eps", "x0"):
        return noise if predict == "eps" else x0
    if predict == "v":
        return velocity(schedule, x0, t, noise)
    return q_posterior(schedule, q_sample(schedule, x0, t, noise), x0, t, t - 1)[0]  # μ̃   [Ho et al. 2020, Eq. 7]


def _halves(
    net: Eps, learns: bool, schedule: Schedule, x0: jax.Array, t: jax.Array, noise: jax.Array, c: Any
) -> tuple[Eps, Eps]:
    """(prediction, v) of one call of the network, as functions that return stored values."""
    output = constant(net(q_sample(schedule, x0, t, noise), t, c))
    return (eps_half(output), v_half(output)) if learns else (output, output)


def _weighted(
    predict: str, weight: Any, net: Eps, schedule: Schedule, x0: jax.Array, t: jax.Array, noise: jax.Array, c: Any
) -> jax.Array:
    return weight(schedule)[t] * per_image(squared_error(head(net, schedule, predict), schedule, x0, t, noise, c))


def _mse(
    predict: str, net: Eps, schedule: Schedule, x0: jax.Array, t: jax.Array, noise: jax.Array, c: Any
) -> jax.Array:
    x_t = q_sample(schedule, x0, t, noise)
    return per_image((target(schedule, predict, x0, t, noise) - net(x_t, t, c)) ** 2)


def _vlb(
    predict: str, variance: str, net: Eps, schedule: Schedule, x0: jax.Array, t: jax.Array, noise: jax.Array, c: Any
) -> jax.Array:
    output, v = _halves(net, variance == "learned", schedule, x0, t, noise, c)
    sigma2: Any = learned(v) if variance == "learned" else variance
    return bound_term(head(output, schedule, predict), schedule, sigma2)(x0, t, t - 1, noise, c)


def _hybrid(
    predict: str, net: Eps, schedule: Schedule, x0: jax.Array, t: jax.Array, noise: jax.Array, c: Any
) -> jax.Array:
    output, v = _halves(net, True, schedule, x0, t, noise, c)
    return hybrid_terms(head(output, schedule, predict), v, schedule)(x0, t, noise, c)


def mean(terms: jax.Array, weight: jax.Array | None) -> jax.Array:
    """The mean of the terms (B,); with importance-drawn times, weighted by 1/(T p_t)."""
    return terms.mean() if weight is None else (jnp.asarray(weight) * terms).mean()
