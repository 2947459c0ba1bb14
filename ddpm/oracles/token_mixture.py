"""The exact conditionals of tokens that are independent given a class: a distribution to test a discrete chain against.

    p(v) = Σ_c p(c) Π_j p(v_j | j, c)        v: (J,) tokens in 0…V-1, and V for a token that is hidden (the mask)
    p(c | open tokens)      ∝ p(c) Π_(j open) p(v_j | j, c)
    p(v_j | open tokens)    = Σ_c p(c | open tokens) p(v_j | j, c)        for a hidden j

This is what a denoiser of an absorbing chain has to learn (`ddpm.discrete.absorbing`); no time is in it. The tiles of a
city are such tokens: `tokens(world.probabilities())` is `world.distribution()` without light and pixels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from ddpm.contracts import Partial
from ddpm.tools import check


class Tokens(NamedTuple):
    """The distribution p(c) and p(v | j, c); made by `tokens`. Wherever x is asked for, V marks a hidden token."""

    log_prior: jax.Array  # (K,)  log p(c)
    log_token: jax.Array  # (K, J, V)  log p(v | j, c); -inf where a token cannot be

    @property
    def mask(self) -> int:
        """The number V of a hidden token."""
        return self.log_token.shape[2]

    def log_prob(self, x: Any, c: Any = None) -> jax.Array:
        """log p(open tokens | c) in nats: (B, J) -> (B,); -inf if they cannot be; c: labels (B,), None for all"""
        x = self._checked(x)
        return logsumexp(_joint(self, x, c), axis=1) - logsumexp(_prior(self, c), axis=1)

    def class_posterior(self, x: Any) -> jax.Array:
        """p(c | open tokens): (B, J) -> (B, K)"""
        return jax.nn.softmax(_joint(self, self._possible(x), None), axis=1)

    def conditional(self, x: Any, c: Any = None) -> jax.Array:
        """p(v at j | open tokens, c): (B, J) -> (B, J, V); an open token has probability 1"""
        return _conditional(self, self._possible(x, c), None, c)

    def denoiser(self) -> Partial:
        """`conditional` as a denoiser (x_t, t, c) -> (B, J, V); it ignores t."""
        return Partial(_conditional, self)

    def sample(self, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
        """Draw n sequences with their classes: (n, J) and (n,)"""
        key_c, key_v = jax.random.split(key)
        c = jax.random.categorical(key_c, self.log_prior, shape=(check.images_asked("n", n, 1),))
        return jax.random.categorical(key_v, self.log_token[c]), c

    def _checked(self, x: Any) -> jax.Array:
        span, x = check.bounds(x), jnp.asarray(x)
        J, V = self.log_token.shape[1:]
        if x.ndim != 2 or x.shape[1] != J or not jnp.issubdtype(x.dtype, jnp.integer):
            raise ValueError(f"x has shape {x.shape} and type {x.dtype}; give integer tokens (B, {J})")
        if span and not (0 <= span[0] and span[1] <= V):
            raise ValueError(f"x lies in {span[0]}..{span[1]}, outside 0..{V} ({V} = hidden)")
        return x

    def _possible(self, x: Any, c: Any = None) -> jax.Array:
        x = self._checked(x)
        if check.known(x) and check.known(self.log_token) and np.isneginf(log_p := self.log_prob(x, c)).any():
            i = int(np.argmin(log_p))
            raise ValueError(f"the open tokens of row {i} cannot be together; there is no distribution given them")
        return x


def tokens(prob: Any, prior: Any = None) -> Tokens:
    """p(v | j, c) = prob (K, J, V), which sums to 1 over v, and p(c) = prior (K,), equal if None."""
    prob = np.asarray(prob, np.float64)
    if prob.ndim != 3 or not np.all(prob >= 0) or np.abs(prob.sum(2) - 1).max() > 1e-6:
        raise ValueError(f"prob has shape {prob.shape}; give probabilities (classes, places, tokens) that sum to 1")
    K = len(prob)
    prior = np.full(K, 1 / K) if prior is None else np.asarray(prior, np.float64)
    if prior.shape != (K,) or not np.all(prior >= 0) or abs(prior.sum() - 1) > 1e-6:
        raise ValueError(f"prior has shape {prior.shape}; give {K} probabilities that sum to 1")
    with np.errstate(divide="ignore"):
        return Tokens(jnp.asarray(np.log(prior)), jnp.asarray(np.log(prob)))


def _prior(m: Tokens, c: Any) -> jax.Array:
    """log p(c), -inf where it is not the label: (B, K), or (1, K) without labels"""
    K = m.log_prior.shape[0]
    if c is None:
        return m.log_prior[None]
    c = check.labels(c, jnp.shape(c)[0], K)
    fits = (jnp.arange(K)[None] == c[:, None]) | (c == K)[:, None]  # the null label includes all
    return jnp.where(fits, m.log_prior[None], -jnp.inf)


def _joint(m: Tokens, x: jax.Array, c: Any) -> jax.Array:
    """log p(c) Π_(j open) p(x_j | j, c): (B, K)"""
    K, J, _ = m.log_token.shape
    padded = jnp.concatenate([m.log_token, jnp.zeros((K, J, 1), m.log_token.dtype)], axis=2)
    of_x = padded[jnp.arange(K)[None, :, None], jnp.arange(J)[None, None], x[:, None]]  # (B, K, J)
    return _prior(m, c) + of_x.sum(2)


def _conditional(m: Tokens, x: jax.Array, t: Any = None, c: Any = None) -> jax.Array:
    x = m._checked(x)
    p_c = jax.nn.softmax(_joint(m, x, c), axis=1)
    p = jnp.einsum("bk,kjv->bjv", p_c, jnp.exp(m.log_token), precision="highest")
    return jnp.where((x == m.mask)[..., None], p, jax.nn.one_hot(x, m.mask, dtype=p.dtype))
