"""The exact denoiser of pictures made of independent cells: a distribution to test a network against.

A picture is a grid of cells. Its class c and its light s are drawn once; then each cell j takes one of V tiles, on its
own, and the tile is painted in that light:

    p(x0, c) = Σ_s p(c, s) Π_j Σ_v p(v | j, c) δ(x0_j - m_sv)

There are about (tiles)^(cells) pictures, far too many for `ddpm.oracles.finite_set`. But given (c, s) the cells are
independent, so that everything is a product of small mixtures. With ℓ_jsv = -‖x_t,j - √ᾱ_t m_sv‖² / (2(1-ᾱ_t)),

    log p(x_t | c, s) = Σ_j log Σ_v p(v | j, c) exp ℓ_jsv      (and D/2 log 2π(1-ᾱ_t) less)
    p(c, s | x_t)     ∝ p(c, s) p(x_t | c, s)                                                 Bayes
    E[x0_j | x_t]     = Σ_cs p(c, s | x_t) Σ_v p(v | x_t, j, c, s) m_sv

and ε* = (x_t - √ᾱ_t E[x0 | x_t])/√(1-ᾱ_t), with a class, or without: then what the other cells reveal about the class
reaches every cell through p(c, s | x_t). A cell whose tiles do not depend on the class has the same answer either way,
but for what the light reveals. `ddpm.datasets.world` draws its cities from such a distribution. The tiles may also
have other probabilities in each light, p(v | j, c, s), and the same pixels in all: then s is a layout of the picture,
as in `ddpm.datasets.blocks`.

More can be known than the class: the light, or which tiles may stand in a cell (`Known`). And a reward that adds over
the cells, r(x0) = Σ_j r_j(v_j), keeps the form: p(x0) e^r(x0)/Z is again a distribution of cells (`Cells.tilted`).
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


class Known(NamedTuple):
    """What is known of B pictures, in place of labels c; None: nothing of that kind."""

    label: Any = None  # (B,) int, the class in 0…K-1, or K where it is not known
    light: Any = None  # (B,) int, the light in 0…S-1, or S where it is not known
    tiles: Any = None  # (B, J, V) bool, True where tile v may stand in cell j


class Cells(NamedTuple):
    """The distribution p(c, s), p(v | j, c) and the tiles m_sv; made by `cells`."""

    tile: jax.Array  # (S, V, h, w, C)  m_sv in [-1, 1]; (1, V, h, w, C) where they are the same in all lights
    log_tile: jax.Array  # (K, J, V)  log p(v | j, c), the cells j row by row; -inf where a tile cannot be;
    # or (K, S, J, V)  log p(v | j, c, s)
    log_joint: jax.Array  # (K, S)  log p(c, s)

    @property
    def num_classes(self) -> int:
        """K; it is the null label too."""
        return self.log_joint.shape[0]

    def answer(self, schedule: Schedule, x_t: jax.Array, t: Any, c: Any = None) -> Answer:
        """Everything the distribution predicts about x_t (B, H, W, C) at t ≥ 1.

        c: labels (B,), or more that is `Known`; None: over all pictures.
        """
        check.times(t, x_t, schedule.T)
        h, w, C = self.tile.shape[2:]
        if x_t.ndim != 4 or x_t.shape[1] % h or x_t.shape[2] % w or x_t.shape[3] != C or _count(x_t, h, w) != self.J:
            raise ValueError(f"x_t has shape {x_t.shape}; this distribution needs {self.J} cells of {h} x {w} x {C}")
        c = None if c is None else self._known(c, x_t.shape[0])
        return _answer(self, schedule, x_t, jnp.broadcast_to(jnp.asarray(t), x_t.shape[:1]), c)

    def _known(self, c: Any, B: int) -> Known:
        """Check what is known of B pictures: it must be one row each, and leave at least one picture possible."""
        c = c if isinstance(c, Known) else Known(label=c)
        S, V = self.log_joint.shape[1], self.tile.shape[1]
        label = None if c.label is None else check.labels(c.label, B, self.num_classes)
        light = None if c.light is None else check.labels(c.light, B, S, name="light")
        tiles = c.tiles
        if tiles is not None:
            tiles = tiles if not check.known(tiles) else np.asarray(tiles)
            if tiles.dtype != bool or tiles.shape != (B, self.J, V):
                need = f"bool {(B, self.J, V)}, True where a tile may be"
                raise ValueError(f"tiles is {tiles.dtype} of shape {tiles.shape}; give {need}")
            tiles = jnp.asarray(tiles)
        known = Known(label, light, tiles)
        if all(map(check.known, (label, light, tiles, self.log_tile))):
            none = np.isneginf(np.asarray(_evidence(self, known, B)))
            if none.any():
                raise ValueError(f"no picture of this distribution is as c says of image {np.argmax(none)}")
        return known

    @property
    def J(self) -> int:
        """The number of cells."""
        return self.log_tile.shape[-2]

    def eps(self, schedule: Schedule) -> Partial:
        """The denoiser ε*(x_t, t, c); c = None or the null label: over all classes."""
        return Partial(_eps, self, schedule)

    def score(self, schedule: Schedule) -> Partial:
        """∇ log p_t(x_t | c) as a function of (x_t, t, c), for t ≥ 1."""
        return Partial(_score, self, schedule)

    def log_prob(self, schedule: Schedule, x_t: jax.Array, t: Any, c: Any = None) -> jax.Array:
        """log p_t(x_t | c), in nats, (B,); t ≥ 1"""
        return self.answer(schedule, x_t, t, c).log_prob

    def tilted(self, reward: Any) -> tuple[Cells, jax.Array]:
        """p(x0) e^r(x0)/Z and log Z, for r(x0) = Σ_j r_j(v_j).   reward: (V,), or (J, V) one for each cell

        Tiles get p(v | j, c) e^r_j(v)/Z_jc, and p(c, s) becomes p(c, s) Π_j Z_jc/Z.
        """
        reward = jnp.asarray(reward, self.log_tile.dtype)
        J, V = self.log_tile.shape[-2:]
        if reward.shape not in ((J, V), (V,)):
            raise ValueError(f"reward has shape {reward.shape}; give one number for each tile, ({V},) or ({J}, {V})")
        log_tile = self.log_tile + jnp.broadcast_to(reward, self.log_tile.shape)
        log_Z = logsumexp(log_tile, axis=-1, keepdims=True)  # (K, J, 1), or (K, S, J, 1)
        log_joint = self.log_joint + log_Z.sum(-2).reshape(self.num_classes, -1)
        total = logsumexp(log_joint)
        return Cells(self.tile, log_tile - log_Z, log_joint - total), total

    def class_posterior(self, schedule: Schedule, x_t: jax.Array, t: Any) -> jax.Array:
        """p(c | x_t), (B, K); t ≥ 1"""
        return self.answer(schedule, x_t, t).class_posterior


class Answer(NamedTuple):
    """The posterior over classes, lights and tiles, summed up."""

    x0: jax.Array  # (B, H, W, C)  E[x0 | x_t, c]
    log_prob: jax.Array  # (B,)  log p_t(x_t | c), nats
    class_posterior: jax.Array  # (B, K)  p(class | x_t, c)
    light_posterior: jax.Array  # (B, S)  p(light | x_t, c)
    tile_posterior: jax.Array  # (B, J, V)  p(v_j | x_t, c)


def cells(tile: Any, prob: Any, light: Any = None, prior: Any = None) -> Cells:
    """The distribution with these tiles and probabilities.

    tile: (S, V, h, w, C) floats in [-1, 1];  prob: (K, J, V), p(v | j, c), sums to 1 over v, or (K, S, J, V) if it
    depends on the light, and then tile may be (1, V, h, w, C);  light: p(s), (S,), or p(s | c), (K, S), if the light
    depends on the class;  prior: p(c), (K,). Light and class have equal probabilities if None.
    """
    tile, prob = np.asarray(tile, np.float64), np.asarray(prob, np.float64)
    if tile.ndim != 5 or not np.all(np.isfinite(tile)):
        raise ValueError(f"tile has shape {tile.shape}; give finite tiles (S, V, h, w, C)")
    by_light = prob.ndim == 4 and len(tile) in (1, prob.shape[1])
    if not (prob.ndim == 3 or by_light) or prob.shape[-1] != tile.shape[1]:
        V = tile.shape[1]
        need = f"(classes, cells, {V}), or (classes, lights, cells, {V}),"
        raise ValueError(f"prob has shape {prob.shape}; give {need} for {V} tiles in {len(tile)} lights")
    # Probabilities of tiles, lights and classes
    S, K = prob.shape[1] if by_light else len(tile), len(prob)
    light = np.full(S, 1 / S) if light is None else np.asarray(light, np.float64)
    prior = np.full(K, 1 / K) if prior is None else np.asarray(prior, np.float64)
    for name, p, shapes in (("prob", prob, [prob.shape]), ("light", light, [(S,), (K, S)]), ("prior", prior, [(K,)])):
        if p.shape not in shapes or not np.all(p >= 0) or np.abs(p.sum(-1) - 1).max() > 1e-6:
            which = " or ".join(map(str, shapes))
            raise ValueError(
                f"{name} has shape {p.shape}; give probabilities of shape {which} that sum to 1 over the last axis"
            )
    with np.errstate(divide="ignore"):
        return Cells(*(jnp.asarray(a) for a in (tile, np.log(prob), np.log(prior[:, None] * light))))


def _log_prior(m: Cells, known: Known, B: int) -> tuple[jax.Array, jax.Array]:
    """log p(c, s), -inf where it is not as known, (B, K, S), and log p(v | j, c), -inf where v may not stand in j.

    The second is (B, K, S, J, V), with S = 1 where it does not depend on the light. Either may have B = 1.
    """
    K, S = m.log_joint.shape
    log_cs, log_tile = m.log_joint[None], m.log_tile.reshape(1, K, -1, *m.log_tile.shape[-2:])
    for one, n, axis in ((known.label, K, 2), (known.light, S, 1)):
        if one is not None:
            fits = (jnp.arange(n)[None] == one[:, None]) | (one == n)[:, None]  # the null label includes all
            log_cs = jnp.where(jnp.expand_dims(fits, axis), log_cs, -jnp.inf)
    if known.tiles is not None:
        allowed = jnp.where(known.tiles[:, None, None], log_tile, -jnp.inf)
        log_p = logsumexp(allowed, axis=4)  # (B, K, S, J)  log p(an allowed tile | j, c, s)
        possible = jnp.isfinite(log_p).all(3)  # (B, K, S); a class that cannot be keeps its finite numbers
        log_cs = jnp.where(possible, log_cs, -jnp.inf)
        log_tile = jnp.where(possible[..., None, None], allowed, log_tile)
    return log_cs, log_tile


def _evidence(m: Cells, known: Known, B: int) -> jax.Array:
    """log p(known), (B,): the probability of all pictures that are as said"""
    log_cs, log_tile = _log_prior(m, known, B)
    return jnp.broadcast_to(logsumexp(log_cs + logsumexp(log_tile, axis=4).sum(3), axis=(1, 2)), (B,))


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
def _answer(m: Cells, schedule: Schedule, x_t: jax.Array, t: jax.Array, c: Known | None) -> Answer:
    h, w = m.tile.shape[2:4]
    B, dtype, known = len(x_t), x_t.dtype, Known() if c is None else c
    tile = m.tile.reshape(*m.tile.shape[:2], -1).astype(dtype)  # (S, V, d), or S = 1
    x = split(x_t, h, w)  # (B, J, d)
    alpha_bar = schedule.alpha_bar[t].astype(dtype)[:, None, None, None]
    # ℓ, and log p(v | j, c) + ℓ; not by ‖x‖² - 2 x·m + ‖m‖², which loses digits at small t
    gap = x[:, :, None, None] - jnp.sqrt(alpha_bar)[..., None] * tile[None, None]  # (B, J, S, V, d)
    fit = -0.5 * (gap * gap).sum(-1) / (1 - alpha_bar)
    log_cs, log_tile = (a.astype(dtype) for a in _log_prior(m, known, B))
    joint = fit[:, None] + jnp.moveaxis(log_tile, 2, 3)  # (B, K, J, S, V)
    per_cell = logsumexp(joint, axis=4)  # (B, K, J, S)  log Σ_v p(v|j,c) exp ℓ
    # p(c, s | x_t), and p(s, v_j | x_t) = Σ_c p(c, s | x_t) p(v_j | x_t, j, c, s)
    log_cs = per_cell.sum(2) + log_cs  # (B, K, S)
    total = logsumexp(log_cs, axis=(1, 2))
    p_cs = jnp.exp(log_cs - total[:, None, None])
    p_sv = jnp.einsum("bks,bkjsv->bjsv", p_cs, jax.nn.softmax(joint, axis=4), precision="highest")
    p_sv = p_sv.sum(2, keepdims=True) if len(tile) == 1 else p_sv
    x0 = jnp.einsum("bjsv,svd->bjd", p_sv, tile, precision="highest")
    log_normal = -0.5 * x[0].size * jnp.log(2 * math.pi * (1 - alpha_bar[:, 0, 0, 0]))
    log_prob = total - _evidence(m, known, B).astype(dtype) + log_normal
    return Answer(join(x0, x_t.shape, h, w), log_prob, p_cs.sum(2), p_cs.sum(1), p_sv.sum(2))


def _eps(m: Cells, schedule: Schedule, x_t: jax.Array, t: Any, c: Any = None) -> jax.Array:
    x0 = m.answer(schedule, x_t, t, c).x0
    return eps_from_x0(schedule, x_t, t, x0)


_eps.labels = lambda m, *_: m.num_classes  # type: ignore[attr-defined]


def _score(m: Cells, schedule: Schedule, x_t: jax.Array, t: Any, c: Any = None) -> jax.Array:
    return score_from_eps(schedule, jnp.asarray(t), _eps(m, schedule, x_t, t, c))
