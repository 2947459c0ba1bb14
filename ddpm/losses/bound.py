"""The variational bound: how many bits it takes to store an image with this model.

    -log p(x0) ≤ L = KL(q(x_T|x0) ‖ p(x_T)) + Σ_{t>1} E_q KL(q(x_{t-1}|x_t,x0) ‖ p(x_{t-1}|x_t)) - E_q log p(x0|x_1)

[Ho et al. 2020, Eqs. 5 and 13]   In bits a number ("bits/dim"): nats / (D ln 2). Data are bytes, scaled to [-1, 1], and
the last term is the probability of the byte: the mass of a normal distribution on a bin of width 2/255.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr

from ddpm.contracts import Eps, Partial, constant, partial_of, technique
from ddpm.forward import q_posterior, q_sample, x0_and_eps
from ddpm.loss import per_image, stratified_times
from ddpm.sample import make_variance
from ddpm.samplers.respacing import respace, retime
from ddpm.samplers.variance import learned
from ddpm.schedule import Schedule, make_times
from ddpm.tools import check, keys

BITS = 1 / math.log(2.0)  # bits in a nat


def normal_kl(mean: jax.Array, var: jax.Array, mean2: jax.Array, var2: jax.Array) -> jax.Array:
    """KL(N(mean, var) ‖ N(mean2, var2)) of each pixel, in nats; the variances may be () or (B, 1, ...)."""
    return 0.5 * (jnp.log(var2 / var) + var / var2 - 1 + (mean - mean2) ** 2 / var2)


def prior_bits(schedule: Schedule, x0: jax.Array) -> jax.Array:
    """L_T = KL(q(x_T | x0) ‖ N(0, I)) = ½ (ᾱ_T (x0² - 1) - log(1-ᾱ_T)): (B, ...) -> (B,) bits/dim."""
    alpha_bar = schedule.alpha_bar[-1]
    return 0.5 * BITS * per_image(alpha_bar * (x0**2 - 1) - jnp.log1p(-alpha_bar))


@jax.jit
def decoder_nll(x0: jax.Array, mean: jax.Array, var: jax.Array) -> jax.Array:
    """-log of the mass that N(mean, var) puts on the bin of the byte x0, in nats, pixel by pixel.   [Ho 2020, Eq. 13]

    The bin is x0 ± 1/255; the first reaches to -∞ and the last to ∞. The exact normal distribution function is used, in
    logarithms, where the released codes use a tanh approximation of it and a floor of 1e-12.
    """
    std = jnp.sqrt(var)
    low, high = (x0 - 1 / 255 - mean) / std, (x0 + 1 / 255 - mean) / std
    flip = low + high > 0  # in the right half the upper tail: there the distribution function is 1 - (something small)
    low, high = jnp.where(flip, -high, low), jnp.where(flip, -low, high)
    inside = log_ndtr(high) + jnp.log(-jnp.expm1(jnp.minimum(log_ndtr(low) - log_ndtr(high), -1e-37)))
    first, last = log_ndtr((x0 + 1 / 255 - mean) / std), log_ndtr(-(x0 - 1 / 255 - mean) / std)
    return -jnp.where(x0 < -0.999, first, jnp.where(x0 > 0.999, last, inside))


def gaussian_nll(x0: jax.Array, mean: jax.Array, var: jax.Array) -> jax.Array:
    """-log N(x0; mean, var), in nats, pixel by pixel: the last term where data are not bytes."""
    return 0.5 * (jnp.log(2 * jnp.pi * var) + (x0 - mean) ** 2 / var)


@technique(eps=partial_of, variance=make_variance, decoder=partial_of)
def bound_term(
    x0: jax.Array, t: Any, s: Any, noise: jax.Array, c: Any = None, /,
    *, eps: Eps, schedule: Schedule, variance: Any = "fixed_small", decoder: Any = decoder_nll,
) -> jax.Array:  # fmt: skip
    """The term of the step t → s, given x_t = q_sample(x0, t, noise), in bits/dim: (B,).   [Ho et al. 2020, Eq. 5]

    KL(q(x_s | x_t, x0) ‖ p(x_s | x_t)) for s ≥ 1; at s = 0 -log p(x0 | x_t).  t, s: () or (B,)
    """
    check.falling(t, s)
    t = jnp.broadcast_to(check.times(t, x0, schedule.T), x0.shape[:1])
    s = jnp.broadcast_to(check.times(s, x0, schedule.T, low=0, name="s"), x0.shape[:1])
    return _compiled(_term(eps, schedule, variance, decoder), x0, t, s, noise, c)[0]


@technique()
def _term(
    x0: jax.Array, t: jax.Array, s: jax.Array, noise: jax.Array, c: Any, /,
    eps: Eps, schedule: Schedule, variance: Any, decoder: Any,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """The term, and the mean of (x0 - x̂0)² of the same prediction: (B,) each"""
    x_t = q_sample(schedule, x0, t, noise)
    x0_hat, _ = x0_and_eps(eps, schedule, x_t, t, c)
    mean, var = q_posterior(schedule, x_t, x0, t, s)
    mean_hat, _ = q_posterior(schedule, x_t, x0_hat, t, s)
    var_hat = jnp.broadcast_to(variance(schedule, x_t, t, s, c), x0.shape)
    last = s == 0
    var = jnp.where(last.reshape(var.shape), 1.0, var)  # it is 0 there, and not used
    kl, nll = normal_kl(mean, var, mean_hat, var_hat), decoder(x0, mean_hat, var_hat)
    return BITS * jnp.where(last, per_image(nll), per_image(kl)), per_image((x0 - x0_hat) ** 2)


@jax.jit
def _compiled(f: Partial, *args: Any) -> Any:
    return f(*args)


class Bound(NamedTuple):
    """The bound in bits/dim, image by image, and its parts."""

    total: jax.Array  # (B,)
    prior: jax.Array  # (B,)  L_T
    terms: jax.Array  # (n, B)  of the steps in the order of the times: times[0] → times[1] first
    x0_error: jax.Array  # (n, B)  mean of (x0 - x̂0)² at each step's t: the distortion of progressive coding


def bits_per_dim(
    eps: Eps,
    schedule: Schedule,
    key: jax.Array,
    x0: jax.Array,
    c: Any = None,
    *,
    times: Any = None,
    variance: Any = "fixed_small",
    decoder: Any = decoder_nll,
) -> Bound:
    """One Monte-Carlo draw of the bound: one noise for each term, all times (or those of a list that falls to 0).

    x0: (B, ...) bytes scaled to [-1, 1];  key: one, or one for each image.
    A list that skips times is the bound of that shorter chain: with `fixed_small` it can become very large, with
    `learned` or `optimal` it does not. For `learned` on such a list, `respace` the schedule and `retime` ε̂ and v first,
    as is done here for the fixed ones.
    """
    times = make_times(schedule.T, schedule.T) if times is None else check.falling_to_0(times, schedule.T)
    if isinstance(variance, str):  # the fixed ones read a neighbouring time at s = 0: the next one of the shorter chain
        eps, schedule, times = retime(eps, times), respace(schedule, times), np.arange(len(times) - 1, -1, -1)
    prior = prior_bits(schedule._replace(alpha_bar=schedule.alpha_bar[: int(times[0]) + 1]), x0)
    term = _term(partial_of(eps), schedule, make_variance(variance), partial_of(decoder))
    terms, error = _terms(term, key, x0, c, jnp.asarray(times))
    return Bound(prior + terms.sum(0), prior, terms, error)


@jax.jit
def _terms(term: Partial, key: jax.Array, x0: jax.Array, c: Any, times: jax.Array) -> Any:
    def one(t_s: Any) -> Any:
        t, s = t_s
        noise = keys.normal_like(keys.fold_in(key, t), x0)
        t, s = (jnp.broadcast_to(k, x0.shape[:1]) for k in (t, s))
        return term(x0, t, s, noise, c)

    return jax.lax.map(one, (times[:-1], times[1:]))


# --- training on it ---------------------------------------------------------------------------------------------------


def hybrid_loss(
    eps: Eps,
    v: Eps,
    schedule: Schedule,
    key: jax.Array,
    x0: jax.Array,
    c: Any = None,
    *,
    weight: float = 0.001,
    decoder: Any = decoder_nll,
) -> jax.Array:
    """L_simple + λ L_vlb, where L_vlb (in bits/dim) trains the variance only.   [Nichol and Dhariwal 2021, Eq. 16]

    L_vlb is the sum over all T terms, T times the mean of those drawn; a stop-gradient keeps it from the mean.
    eps, v: the halves of one network, `variance.eps_half(net)` and `v_half(net)`.
    """
    key_t, key_noise = jax.random.split(key)
    t = stratified_times(key_t, x0.shape[0], schedule.T)
    noise = jax.random.normal(key_noise, x0.shape, x0.dtype)
    return hybrid_terms(eps, v, schedule, weight, decoder)(x0, t, noise, c).mean()


@technique(eps=partial_of, v=partial_of, decoder=partial_of)
def hybrid_terms(
    x0: jax.Array, t: jax.Array, noise: jax.Array, c: Any = None, /,
    *, eps: Eps, v: Eps, schedule: Schedule, weight: float = 0.001, decoder: Any = decoder_nll,
) -> jax.Array:  # fmt: skip
    """‖ε - ε̂‖² + λ T L_{t-1} at given times and noises: (B,); their mean over t is `hybrid_loss`.   [Eq. 16]"""
    x_t = q_sample(schedule, x0, t, noise)
    eps_t, v_t = eps(x_t, t, c), v(x_t, t, c)
    frozen, variance = constant(jax.lax.stop_gradient(eps_t)), learned(constant(v_t))
    terms = bound_term(frozen, schedule, variance, decoder)(x0, t, t - 1, noise, c)
    return per_image((noise - eps_t) ** 2) + weight * schedule.T * terms
