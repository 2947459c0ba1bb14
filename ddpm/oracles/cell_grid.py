"""The exact denoiser of pictures made of independent cells: a distribution to test a network against.

A picture is a grid of cells. Its class c and its light s are drawn once; then each cell j takes one of V tiles, on its
own, and the tile is painted in that light:

    p(x0, c) = p(c) Σ_s p(s) Π_j Σ_v p(v | j, c) δ(x0_j - m_sv)

There are about (tiles)^(cells) pictures, far too many for `ddpm.oracles.finite_set`. But given (c, s) the cells are
independent, so that everything is a product of small mixtures. With ℓ_jsv = -‖x_t,j - √ᾱ_t m_sv‖² / (2(1-ᾱ_t)),

    log p(x_t | c, s) = Σ_j log Σ_v p(v | j, c) exp ℓ_jsv      (and D/2 log 2π(1-ᾱ_t) less)
    p(c, s | x_t)     ∝ p(c) p(s) p(x_t | c, s)                                               Bayes
    E[x0_j | x_t]     = Σ_cs p(c, s | x_t) Σ_v p(v | x_t, j, c, s) m_sv

and ε* = (x_t - √ᾱ_t E[x0 | x_t])/√(1-ᾱ_t), with a class, or without: then what the other cells reveal about the class
reaches every cell through p(c, s | x_t). A cell whose tiles do not depend on the class has the same answer either way,
but for what the light reveals. `ddpm.datasets.world` draws its cities from such a distribution.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from ddpm.contracts import Partial
from ddpm.forward import eps_from_x0, score_from_eps
from ddpm.schedule import Schedule
from ddpm.tools import check


class Cells(NamedTuple):
    """The distribution p(c), p(s), p(v | j, c) and the tiles m_sv; made by `cells`."""

    tile: jax.Array  # (S, V, h, w, C)  m_sv in [-1, 1]
    log_tile: jax.Array  # (K, J, V)  log p(v | j, c), the cells j row by row; -inf where a tile cannot be
    log_light: jax.Array  # (S,)  log p(s)
    log_class: jax.Array  # (K,)  log p(c)

    @property
    def num_classes(self) -> int:
        """K; it is the null label too."""
        return self.log_class.shape[0]

    def answer(self, schedule: Schedule, x_t: jax.Array, t: Any, c: Any = None) -> Answer:
        """Everything the distribution predicts about x_t (B, H, W, C) at t ≥ 1, given c (B,), or over all classes."""
        check.times(t, x_t, schedule.T)
        h, w, C = self.tile.shape[2:]
        if x_t.ndim != 4 or x_t.shape[1] % h or x_t.shape[2] % w or x_t.shape[3] != C or _count(x_t, h, w) != self.J:
            raise ValueError(f"x_t has shape {x_t.shape}; this distribution needs {self.J} cells of {h} x {w} x {C}")
        if c is not None:
            c = check.labels(c, x_t.shape[0], self.num_classes)
        return _answer(self, schedule, x_t, jnp.broadcast_to(jnp.asarray(t), x_t.shape[:1]), c)

    @property
    def J(self) -> int:
        """The number of cells."""
        return self.log_tile.shape[1]

    def eps(self, schedule: Schedule) -> Partial:
        """The denoiser ε*(x_t, t, c); c = None or the null label: over all classes."""
        return Partial(_eps, self, schedule)

    def score(self, schedule: Schedule) -> Partial:
        """∇ log p_t(x_t | c) as a function of (x_t, t, c), for t ≥ 1."""
        return Partial(_score, self, schedule)

    def log_prob(self, schedule: Schedule, x_t: jax.Array, t: Any, c: Any = None) -> jax.Array:
        """log p_t(x_t | c), in nats, (B,); t ≥ 1"""
        return self.answer(schedule, x_t, t, c).log_prob

    def class_posterior(self, schedule: Schedule, x_t: jax.Array, t: Any) -> jax.Array:
        """p(c | x_t), (B, K); t ≥ 1"""
        return self.answer(schedule, x_t, t).class_posterior


class Answer(NamedTuple):
    """The posterior over classes, lights and tiles, summed up."""

    x0: jax.Array  # (B, H, W, C)  E[x0 | x_t, c]
    log_prob: jax.Array  # (B,)  log p_t(x_t | c), nats
    class_posterior: jax.Array  # (B, K)  p(class | x_t, c)
    tile_posterior: jax.Array  # (B, J, V)  p(v_j | x_t, c)


def cells(tile: Any, prob: Any, light: Any = None, prior: Any = None) -> Cells:
    """The distribution with these tiles and probabilities.

    tile: (S, V, h, w, C) floats in [-1, 1];  prob: (K, J, V), p(v | j, c), sums to 1 over v;  light: (S,) and prior:
    (K,), the probabilities of the lights and of the classes, equal if None.
    """
    tile, prob = np.asarray(tile, np.float64), np.asarray(prob, np.float64)
    if tile.ndim != 5 or not np.all(np.isfinite(tile)):
        raise ValueError(f"tile has shape {tile.shape}; give finite tiles (S, V, h, w, C)")
    if prob.ndim != 3 or prob.shape[2] != tile.shape[1]:
        raise ValueError(
            f"prob has shape {prob.shape}; give (classes, cells, {tile.shape[1]}) for {tile.shape[1]} tiles"
        )
    # Probabilities of tiles, lights and classes
    light = np.full(tile.shape[0], 1 / tile.shape[0]) if light is None else np.asarray(light, np.float64)
    prior = np.full(prob.shape[0], 1 / prob.shape[0]) if prior is None else np.asarray(prior, np.float64)
    for name, p, shape in (
        ("prob", prob, prob.shape),
        ("light", light, tile.shape[:1]),
        ("prior", prior, prob.shape[:1]),
    ):
        if p.shape != shape or not np.all(p >= 0) or np.abs(p.sum(-1) - 1).max() > 1e-6:
            raise ValueError(
                f"{name} has shape {p.shape}; give probabilities of shape {shape} that sum to 1 over the last axis"
            )
    with np.errstate(divide="ignore"):
        return Cells(*(jnp.asarray(a) for a in (tile, np.log(prob), np.log(light), np.log(prior))))


def _count(x: jax.Array, h: int, w: int) -> int:
    return (x.shape[1] // h) * (x.shape[2] // w)


def split(x: jax.Array, h: int, w: int) -> jax.Array:
    """(B, H, W, C) -> (B, J, h·w·C): the cells, row by row."""
    B, H, W, C = x.shape
    return x.reshape(B, H // h, h, W // w, w, C).transpose(0, 1, 3, 2, 4, 5).reshape(B, -1, h * w * C)


def join(tiles: jax.Array, shape: tuple[int, ...], h: int, w: int) -> jax.Array:
    """The inverse of `split`: (B, J, h·w·C) -> shape (B, H, W, C)."""
    B, H, W, C = shape
    return tiles.reshape(B, H // h, W // w, h, w, C).transpose(0, 1, 3, 2, 4, 5).reshape(shape)


@jax.jit
def _answer(m: Cells, schedule: Schedule, x_t: jax.Array, t: jax.Array, c: jax.Array | None) -> Answer:
    S, V, h, w, _ = m.tile.shape
    K, dtype = m.num_classes, x_t.dtype
    tile = m.tile.reshape(S, V, -1).astype(dtype)  # (S, V, d)
    x = split(x_t, h, w)  # (B, J, d)
    alpha_bar = schedule.alpha_bar[t].astype(dtype)[:, None, None, None]
    gap = x[:, :, None, None] - jnp.sqrt(alpha_bar)[..., None] * tile[None, None]  # (B, J, S, V, d)
    fit = -0.5 * (gap * gap).sum(-1) / (1 - alpha_bar)  # ℓ; not by ‖x‖² - 2 x·m + ‖m‖², which loses digits at small t
    joint = fit[:, None] + m.log_tile.astype(dtype)[None, :, :, None, :]  # (B, K, J, S, V)
    per_cell = logsumexp(joint, axis=4)  # (B, K, J, S)  log Σ_v p(v|j,c) exp ℓ
    log_prior = m.log_class.astype(dtype)[None]  # (1, K), or (B, K) with -inf where c excludes a class
    if c is not None:
        included = (jnp.arange(K)[None] == c[:, None]) | (c == K)[:, None]  # the null label includes all
        log_prior = jnp.where(included, log_prior, -jnp.inf)
    log_cs = per_cell.sum(2) + log_prior[:, :, None] + m.log_light.astype(dtype)[None, None]  # (B, K, S)
    total = logsumexp(log_cs, axis=(1, 2))
    p_cs = jnp.exp(log_cs - total[:, None, None])  # p(c, s | x_t)
    # p(s, v_j | x_t) = Σ_c p(c, s | x_t) p(v_j | x_t, j, c, s)
    p_sv = jnp.einsum("bks,bkjsv->bjsv", p_cs, jax.nn.softmax(joint, axis=4), precision="highest")
    x0 = jnp.einsum("bjsv,svd->bjd", p_sv, tile, precision="highest")
    log_normal = -0.5 * x[0].size * jnp.log(2 * math.pi * (1 - alpha_bar[:, 0, 0, 0]))
    log_prob = total - logsumexp(log_prior, axis=1) + log_normal
    return Answer(join(x0, x_t.shape, h, w), log_prob, p_cs.sum(2), p_sv.sum(2))


def _eps(m: Cells, schedule: Schedule, x_t: jax.Array, t: Any, c: Any = None) -> jax.Array:
    x0 = m.answer(schedule, x_t, t, c).x0
    return eps_from_x0(schedule, x_t, t, x0)


_eps.labels = lambda m, *_: m.num_classes  # type: ignore[attr-defined]


def _score(m: Cells, schedule: Schedule, x_t: jax.Array, t: Any, c: Any = None) -> jax.Array:
    return score_from_eps(schedule, jnp.asarray(t), _eps(m, schedule, x_t, t, c))
