"""Codes from a finite table: vector quantisation.   [van den Oord et al. 2017]

    k = argmin_j ‖z_e - e_j‖²,   z_q = e_k                                                      [Eqs. 1 and 2]
    L = ‖x - decode(z_q)‖² + ‖sg(z_e) - e‖² + β ‖z_e - sg(e)‖²,   β = ¼                         [Eq. 3]

sg stops the gradient. The choice of k has none: that of the decoder is handed to the encoder as if z_q were z_e
(`straight_through`), the second term moves the table to the codes, and the third keeps the codes near the table.

For z ~ N(0, 1) the best table of K numbers is known (`lloyd_max`): error .3634 with two, .1175 with four.

    vq_loss(encode, decode, table, x0)                     L of a batch, for the training
    with_scale(encode, through_table(decode, table), x0)   the codec of the training's end; its decoder snaps the codes
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtr, ndtri

from ddpm.contracts import Partial, partial_of
from ddpm.tools import check

COMMITMENT = 0.25  # β


def distances(z: jax.Array, table: jax.Array) -> jax.Array:
    """‖z - e_j‖² = ‖z‖² - 2 zᵀe_j + ‖e_j‖².   z: (..., d);  table: (K, d)  ->  (..., K)"""
    if table.ndim != 2 or z.shape[-1] != table.shape[1]:
        raise ValueError(
            f"table has shape {table.shape}; give K entries of the {z.shape[-1]} numbers of a code, (K, d)"
        )
    square = (z**2).sum(-1, keepdims=True) + (table**2).sum(1).reshape((1,) * (z.ndim - 1) + (-1,))
    return square - 2 * jnp.matmul(z, table.T, precision="highest")


def nearest(z: jax.Array, table: jax.Array) -> jax.Array:
    """argmin_j ‖z - e_j‖²; of equally near entries the first.   [Eq. 1]   z: (..., d);  table: (K, d)  ->  (...) int"""
    return distances(z, table).argmin(-1)


def straight_through(z: jax.Array, z_q: jax.Array) -> jax.Array:
    """z + sg(z_q - z): the value of z_q, with the gradient that z would have.   [Sec. 3.1]"""
    check.same_shape("z", z, "z_q", z_q)
    return z + jax.lax.stop_gradient(z_q - z)


class Quantised(NamedTuple):
    """Codes of the table, their numbers, and the two terms of the loss that need no decoder."""

    z: jax.Array  # (..., d) z_q, whose gradient goes to z_e unchanged
    entry: jax.Array  # (...) int, the number of the nearest
    table_loss: jax.Array  # () ‖sg(z_e) - e‖², a mean over all numbers: moves the table
    commitment: jax.Array  # () ‖z_e - sg(e)‖², as large: moves the codes; times β


def quantise(z: jax.Array, table: jax.Array) -> Quantised:
    """z_q of codes z, and what keeps table and codes together.   [Eqs. 1-3]   z: (..., d);  table: (K, d)"""
    index = nearest(z, table)
    z_q, stop = table[index], jax.lax.stop_gradient
    return Quantised(straight_through(z, z_q), index, ((stop(z) - z_q) ** 2).mean(), ((z - stop(z_q)) ** 2).mean())


def vq_loss(
    encode: Callable[..., Any], decode: Callable[..., Any], table: jax.Array, x0: jax.Array, beta: float = COMMITMENT
) -> jax.Array:
    """L = ‖x0 - decode(z_q)‖² + ‖sg(z_e) - e‖² + β ‖z_e - sg(e)‖², each a mean over its numbers.   [Eq. 3]

    encode: x0 (B, ...) -> z_e (..., d);  decode: codes -> x0;  table: (K, d), trained with both  ->  ()
    """
    q = quantise(encode(x0), table)
    copy = decode(q.z)
    check.same_shape("x0", x0, "the copy", copy)
    return ((x0 - copy) ** 2).mean() + q.table_loss + check.number("beta", beta, 0) * q.commitment


def through_table(decode: Callable[..., Any], table: Any) -> Partial:
    """z -> decode(e_k), k = argmin_j ‖z - e_j‖²: a decoder that moves codes to entries.   [Rombach et al., VQ-reg.]

    A chain then runs on z_e, which need not lie on the table, and what it draws is moved there last.
    decode: codes (..., d) -> images;  table: (K, d)
    """
    return Partial(_through, partial_of(decode), jnp.asarray(table))


def _through(decode: Callable[..., Any], table: jax.Array, z: jax.Array) -> jax.Array:
    return decode(table[nearest(z, table)])


def perplexity(index: Any, K: int) -> float:
    """exp(-Σ p_j log p_j), the number of entries that are in use: 1 if all codes are one entry, K if all are even.

    index: integers 0…K-1, any shape.
    """
    index = np.asarray(index).ravel()
    if not len(index) or not np.issubdtype(index.dtype, np.integer) or index.min() < 0 or index.max() >= K:
        raise ValueError(f"index must hold whole numbers in 0..{K - 1}, the entries of the codes, and at least one")
    p = np.bincount(index, minlength=K) / len(index)
    return float(np.exp(-(p[p > 0] * np.log(p[p > 0])).sum()))


class Table(NamedTuple):
    """The best table of K numbers for z ~ N(0, 1)."""

    entries: np.ndarray  # (K,), rising
    share: np.ndarray  # (K,) how often each is the nearest
    error: float  # E (z - e_k)²


def lloyd_max(K: int) -> Table:
    """The best K numbers for z ~ N(0, 1): each is the mean of its cell, whose ends are halfway to its neighbours.

    With φ the density, a cell (a, b) has the mean (φ(a) - φ(b))/p, and the error is 1 - Σ p_j e_j².   [Max 1960]
    """
    check.whole("K", K, 1, 256)
    entries = ndtri((np.arange(K) + 0.5) / K)
    for _ in range(200 * K):  # converges linearly, more slowly for larger tables
        ends = np.concatenate([[-np.inf], (entries[1:] + entries[:-1]) / 2, [np.inf]])
        density, share = np.exp(-(ends**2) / 2) / np.sqrt(2 * np.pi), np.diff(ndtr(ends))
        before, entries = entries, (density[:-1] - density[1:]) / share
        if np.abs(entries - before).max() < 1e-12:
            break
    return Table(entries, share, float(1 - (share * entries**2).sum()))
