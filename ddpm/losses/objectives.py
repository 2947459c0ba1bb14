"""What a training minimises: for each image, time and noise one number, whose mean over t is the loss.

    objective : (net, schedule, x0, t, noise, c) -> (B,)

    simple    ‖ε - ε̂‖²                                                                   [Ho et al. 2020, Eq. 14]
    mse       ‖target - net‖², the target being what the network predicts: ε, x0, v, μ, …    [its Table 2]
    min_snr   w_t ‖ε - ε̂‖², and p2: the weights of `ddpm.losses.weighting`
    vlb       the bound's term of t → t-1, in bits/dim: its mean is (L - L_T)/T               [its Eq. 5]
    velocity  the error of the velocity on a flow's path, (W/a)² ‖ε - ε̂‖²        [Lipman et al. 2023, Eq. 9]
    hybrid    ‖ε - ε̂‖² + .001 T vlb, where vlb trains the variance only   [Nichol and Dhariwal 2021, Eq. 16]

`net` is the network's output at (x_t, t, c), with twice the channels where it predicts the variance too; ε̂ is derived
from it by a head of `ddpm.networks`. It is called once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ddpm.config import LOSSES
from ddpm.contracts import Eps, constant
from ddpm.flows.matching import velocity_weight
from ddpm.flows.paths import make_path
from ddpm.forward import q_posterior, q_sample
from ddpm.loss import per_image, squared_error
from ddpm.losses import weighting
from ddpm.losses.bound import bound_term, hybrid_terms
from ddpm.networks.heads import HEADS, head, velocity
from ddpm.networks.preconditioning import edm_target, scaled_input
from ddpm.networks.skip import skip_head
from ddpm.samplers.variance import eps_half, learned, v_half
from ddpm.schedule import Schedule
from ddpm.tools import check

Objective = Callable[..., jax.Array]  # (net, schedule, x0, t, noise, c) -> (B,)
WEIGHTS = {"simple": weighting.simple, "min_snr": weighting.min_snr, "p2": weighting.p2}


def denoiser(
    net: Eps, learned_variance: bool, schedule: Schedule, predict: str = "eps", prior: Any = None, sees: bool = True
) -> Eps:
    """The ε̂ of a network that predicts `eps`, `x0`, `v`, `mu`, `flow`, `edm` or what a Gaussian `prior` leaves.

    Of a network that learns its variance it is the first half.   sees: its input has the Gaussian's estimate of x0 too
    """
    if predict == "gaussian":
        return skip_head(net, prior, schedule, sees)
    return head(eps_half(net) if learned_variance else net, schedule, predict)


def objective(loss: str = "simple", predict: str = "eps", variance: str = "fixed_large", path: str = "") -> Objective:
    """The objective of that name.

    variance: `fixed_large`, `fixed_small` or `learned`, for vlb; hybrid wants a network that learns it.
    path: of the flow, for velocity; the schedule is then its chain.
    """
    check.choice("loss", loss, LOSSES)
    if loss == "velocity":
        return partial(_weighted, predict, partial(_velocity, path))
    if loss == "mse":
        return partial(_mse, predict)
    if loss == "vlb":
        return partial(_vlb, predict, variance)
    return partial(_hybrid, predict) if loss == "hybrid" else partial(_weighted, predict, WEIGHTS[loss])


def target(schedule: Schedule, predict: str, x0: jax.Array, t: jax.Array, noise: jax.Array) -> jax.Array:
    """What a network that predicts `eps`, `x0`, `v`, `mu`, `flow` or `edm` should output at x_t: like x0"""
    check.choice("predict", predict, HEADS)
    if predict in ("eps", "x0"):
        return noise if predict == "eps" else x0
    if predict == "flow":
        return noise - x0  # the conditional velocity of the linear path   [Lipman et al. 2023, Eq. 9]
    if predict in ("v", "edm"):
        return (velocity if predict == "v" else edm_target)(schedule, x0, t, noise)
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


def _velocity(path: str, schedule: Schedule) -> jax.Array:
    return jnp.asarray(velocity_weight(make_path(path), schedule.T), schedule.alpha_bar.dtype)


def weight_of_eps(loss: str, predict: str, path: str, schedule: Schedule) -> jax.Array | None:
    """w_t with which the objective is w_t ‖ε - ε̂‖²: (T+1,); None of vlb and hybrid, which are not of this form"""
    check.choice("loss", loss, LOSSES)
    if loss == "mse":
        factor = weighting.for_target(schedule, weighting.simple(schedule), predict)
        return jnp.where(factor > 0, 1 / jnp.where(factor > 0, factor, 1), 0)
    if loss == "velocity":
        return _velocity(path, schedule)
    return WEIGHTS[loss](schedule) if loss in WEIGHTS else None


def _mse(
    predict: str, net: Eps, schedule: Schedule, x0: jax.Array, t: jax.Array, noise: jax.Array, c: Any
) -> jax.Array:
    x_t = q_sample(schedule, x0, t, noise)
    net = scaled_input(net, schedule) if predict == "edm" else net
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
