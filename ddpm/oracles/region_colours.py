"""The exact denoiser of pictures whose regions each have one colour: the distribution behind `wardrobe`.

A picture has a geometry g, which cuts it into regions, and a light l; both are drawn once. Then each region r takes
one colour k of the palette of its role (garment, ink, ground, …), on its own:

    p(x0 | T) = Σ_gl p(g | T) p(l | T) Π_{r of g} Σ_k p(k | T, r) δ(x0_r - m_kl)

A condition T, such as a caption, only changes weights; known pixels and grey images add evidence. With

    ℓ_rkl = -Σ_{i in r} ‖x_t,i - √ᾱ_t m_kl‖² / (2(1-ᾱ_t))     (and what else is known about the pixels of r)

    log p(x_t | g, l, T) = Σ_r log Σ_k p(k | T, r) exp ℓ_rkl            (and D/2 log 2π(1-ᾱ_t) less)
    p(g, l | x_t, T)     ∝ p(g | T) p(l | T) p(x_t | g, l, T)                                         Bayes
    E[x0_i | x_t, T]     = Σ_gl p(g, l | x_t, T) Σ_k p(k | x_t, r(i, g), l) m_kl

`ddpm.oracles.cell_grid` is the same with one geometry and tiles in place of colours. All terms of ℓ have one sign, so
nothing cancels in float32: E[x0 | x_t] is within 3e-5 of float64 at any t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from ddpm.contracts import Partial
from ddpm.forward import eps_from_x0, score_from_eps
from ddpm.schedule import Schedule
from ddpm.tools import check


class Role(NamedTuple):
    """Regions that draw from one palette: n of each geometry, some of which may be empty."""

    mask: jax.Array  # (n, M, H, W) 0 or 1: the different shapes that the j-th region takes; the first is empty
    of: jax.Array  # (G, n) which of them it takes in each geometry
    colour: jax.Array  # (L, K, C) m_kl in [-1, 1]


class Evidence(NamedTuple):
    """A condition T as log-weights and as observed pixels; None: nothing is known. The weights need no norm."""

    geometry: Any = None  # (B, G) log p(g | T)
    light: Any = None  # (B, L) log p(l | T)
    colours: tuple[Any, ...] = ()  # for each role (B, n, K) log p(k | T, r), or None
    pixels: Any = None  # (B, H, W, C) y = x0 + noise, where
    precision: Any = None  # (B, H, W) is 1/σ² of that noise; 0 where a pixel is not known
    grey: Any = None  # (B, H, W) y = w·x0 + noise
    grey_precision: Any = None  # (B, H, W)


class Posterior(NamedTuple):
    """What x_t and T tell together."""

    x0: jax.Array  # (B, H, W, C)  E[x0 | x_t, T]
    log_prob: jax.Array  # (B,)  log p_t(x_t | T), nats; with observed pixels the joint log-density up to their norm
    geometry: jax.Array  # (B, G)  p(g | x_t, T)
    light: jax.Array  # (B, L)
    colours: tuple[jax.Array, ...]  # for each role (B, n, K): p(k of the j-th region | x_t, T), where there is one


class Regions(NamedTuple):
    """The distribution; made by `regions`."""

    roles: tuple[Role, ...]
    log_geometry: jax.Array  # (G,)
    log_light: jax.Array  # (L,)
    luma: jax.Array  # (C,) w, how a grey image is made

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)"""
        _, _, H, W = self.roles[0].mask.shape
        return H, W, self.luma.shape[0]

    def answer(self, schedule: Schedule, x_t: jax.Array, t: Any, c: Evidence | None = None) -> Posterior:
        """Everything the distribution predicts about x_t (B, H, W, C) at t ≥ 1, given the evidence c."""
        t = check.times(t, x_t, schedule.T)
        check.fits("x_t", x_t, self.image_shape, "distribution")
        if c is not None and not isinstance(c, Evidence):
            raise TypeError(f"c is of type {type(c).__name__}; this distribution takes an Evidence, or None")
        return _answer(self, schedule, x_t, jnp.broadcast_to(t, x_t.shape[:1]), Evidence() if c is None else c)

    def eps(self, schedule: Schedule) -> Partial:
        """The denoiser ε*(x_t, t, c) with c an `Evidence`, or None."""
        return Partial(_eps, self, schedule)

    def score(self, schedule: Schedule) -> Partial:
        """∇ log p_t(x_t | c) as a function of (x_t, t, c), for t ≥ 1."""
        return Partial(_score, self, schedule)

    def log_prob(self, schedule: Schedule, x_t: jax.Array, t: Any, c: Evidence | None = None) -> jax.Array:
        """log p_t(x_t | c), in nats, (B,); t ≥ 1"""
        return self.answer(schedule, x_t, t, c).log_prob


def regions(
    region: Any, roles: Sequence[Sequence[int]], colours: Sequence[Any], geometry: Any = None, light: Any = None
) -> Regions:
    """The distribution with these regions and palettes, all colours of a role equally probable.

    region: (G, H, W) int, the number of each pixel's region in each geometry;  roles: the region numbers of each role;
    colours: for each role (L, K, C) floats in [-1, 1];  geometry: (G,) and light: (L,), probabilities, equal if None.
    """
    region = np.asarray(region)
    if region.ndim != 3 or not np.issubdtype(region.dtype, np.integer):
        raise ValueError(f"region has shape {region.shape} and type {region.dtype}; give integers (G, H, W)")
    if left := set(np.unique(region).tolist()) - {number for numbers in roles for number in numbers}:
        raise ValueError(f"region holds {min(left)}, which is of no role; the roles are {roles}")
    made = [_role(region, numbers, palette) for numbers, palette in zip(roles, colours, strict=True)]
    G, (L, _, C) = len(region), np.shape(colours[0])
    weights = []
    for name, p, n in (("geometry", geometry, G), ("light", light, L)):
        p = np.full(n, 1 / n) if p is None else np.asarray(p, np.float64)
        if p.shape != (n,) or not np.all(p >= 0) or abs(p.sum() - 1) > 1e-6:
            raise ValueError(f"{name} has shape {p.shape}; give {n} probabilities that sum to 1")
        with np.errstate(divide="ignore"):
            weights.append(jnp.asarray(np.log(p)))
    luma = jnp.array([0.299, 0.587, 0.114]) if C == 3 else jnp.full(C, 1 / C)
    return Regions(tuple(made), weights[0], weights[1], luma)


def _role(region: np.ndarray, numbers: Sequence[int], palette: Any) -> Role:
    """Collect the masks of a role's regions, equal ones of several geometries once."""
    found, (G, H, W) = [], region.shape
    for number in numbers:
        masks = np.concatenate([np.zeros((1, H * W), bool), region.reshape(G, -1) == number])
        rows, of = np.unique(np.packbits(masks, axis=1), axis=0, return_inverse=True)  # sorted: the empty one first
        found.append((np.unpackbits(rows, axis=1, count=H * W), of.reshape(-1)[1:]))
    mask = np.zeros((len(numbers), max(len(rows) for rows, _ in found), H * W), np.float32)
    for j, (rows, _) in enumerate(found):
        mask[j, : len(rows)] = rows
    of = np.stack([of for _, of in found], 1).astype(np.int32)
    return Role(
        jnp.asarray(mask.reshape(*mask.shape[:2], H, W)), jnp.asarray(of), jnp.asarray(np.asarray(palette, np.float64))
    )


# --- the posterior ----------------------------------------------------------------------------------------------------


def _normalised(log_p: jax.Array) -> jax.Array:
    return log_p - logsumexp(log_p, axis=-1, keepdims=True)


def _misfit(x: jax.Array, colour: jax.Array) -> jax.Array:
    """‖x_i - m_k‖² of each pixel and colour: (B, N, C), (B or 1, K, C) -> (B, K, N)"""
    gaps = [(x[:, None, :, c] - colour[:, :, None, c]) ** 2 for c in range(x.shape[-1])]
    return sum(gaps[1:], gaps[0])


def _costs(m: Regions, c: Evidence, noisy: tuple[jax.Array, ...], colour: jax.Array) -> jax.Array:
    """-ℓ of single pixels, the evidence included: (B, K, N) for colours (K, C);  noisy: x_t, √ᾱ_t and 1-ᾱ_t"""
    x, root, var = noisy
    B, N, C = x.shape
    cost = _misfit(x, root * colour[None]) / (2 * var)
    if c.pixels is not None:
        cost += _misfit(c.pixels.reshape(B, N, C), colour[None]) * c.precision.reshape(B, 1, N) / 2
    if c.grey is not None:
        gap = c.grey.reshape(B, 1, N) - (colour @ m.luma.astype(x.dtype))[None, :, None]
        cost += gap**2 * c.grey_precision.reshape(B, 1, N) / 2
    return cost


@jax.jit
def _answer(m: Regions, schedule: Schedule, x_t: jax.Array, t: jax.Array, c: Evidence) -> Posterior:
    B, dtype, L = x_t.shape[0], x_t.dtype, m.log_light.shape[0]
    x = x_t.reshape(B, -1, x_t.shape[-1])  # (B, N, C)
    root, var = (a[t].astype(dtype)[:, None, None] for a in (jnp.sqrt(schedule.alpha_bar), schedule.std**2))  # √ᾱ, 1-ᾱ
    # p(g | T) p(l | T)
    log_g = _normalised(m.log_geometry.astype(dtype)[None] + (0 if c.geometry is None else c.geometry))
    log_l = _normalised(m.log_light.astype(dtype)[None] + (0 if c.light is None else c.light))
    log_gl = jnp.broadcast_to(log_l[:, :, None] + log_g[:, None, :], (B, L, m.log_geometry.shape[0]))
    # -ℓ of each pixel and colour, (B, L·K, N), less that of the pixel's nearest colour: each geometry has each pixel in
    # one region, so all lose the same, and sums of smaller numbers keep more digits
    costs = [_costs(m, c, (x, root, var), role.colour.astype(dtype).reshape(-1, x.shape[-1])) for role in m.roles]
    least = jnp.concatenate(costs, axis=1).min(1, keepdims=True)  # (B, 1, N)
    # The j-th region of each role in each of its shapes: log p(k | T) + ℓ, and its sum over k
    joints = []
    for role, cost, weight in zip(m.roles, costs, c.colours or (None,) * len(m.roles), strict=True):
        n, K = role.of.shape[1], role.colour.shape[1]
        log_k = jnp.zeros((1, n, K), dtype) if weight is None else weight
        cost = cost - least
        mask = role.mask.astype(dtype).reshape(n, -1, x.shape[1])  # (n, M, N)
        fit = -jnp.einsum("bkp,jmp->bkjm", cost, mask, precision="highest").reshape(B, L, K, n, -1)
        joint = fit + jnp.moveaxis(_normalised(log_k), 2, 1)[:, None, :, :, None]  # (B, L, K, n, M)
        by_shape = logsumexp(joint, axis=2)  # (B, L, n, M)
        log_gl = log_gl + by_shape[:, :, jnp.arange(n), role.of].sum(-1)  # log Π_r: (B, L, G)
        joints.append(joint)
    # p(g, l | x_t, T), and what it paints
    total = logsumexp(log_gl, axis=(1, 2))
    p_gl = jnp.exp(log_gl - total[:, None, None])
    painted, colours = zip(*(_painted(*part, p_gl) for part in zip(m.roles, joints, strict=True)), strict=True)
    log_prob = total - least.sum((1, 2)) - 0.5 * x[0].size * jnp.log(2 * math.pi * var[:, 0, 0])
    return Posterior(sum(painted), log_prob, p_gl.sum(1), p_gl.sum(2), colours)


def _painted(role: Role, joint: jax.Array, p_gl: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Σ_gl p(g, l) Σ_k p(k | g, l) m_kl of a role's pixels, (B, H, W, C), and the colours of its regions, (B, n, K)."""
    dtype = joint.dtype
    takes = jax.nn.one_hot(role.of, role.mask.shape[1], dtype=dtype)  # (G, n, M)
    p_shape = jnp.einsum("blg,gjm->bljm", p_gl, takes, precision="highest")  # p(l, the j-th region has shape m)
    p = jax.nn.softmax(joint, axis=2) * p_shape[:, :, None]  # (B, L, K, n, M)
    mean = jnp.einsum("blkjm,lkc->bjmc", p, role.colour.astype(dtype), precision="highest")
    seen = p[..., 1:].sum((1, 4))  # without the empty shape: (B, K, n)
    colours = jnp.moveaxis(seen / jnp.maximum(seen.sum(1, keepdims=True), jnp.finfo(dtype).tiny), 1, 2)
    return jnp.einsum("bjmc,jmhw->bhwc", mean, role.mask.astype(dtype), precision="highest"), colours


def _eps(m: Regions, schedule: Schedule, x_t: jax.Array, t: Any, c: Evidence | None = None) -> jax.Array:
    return eps_from_x0(schedule, x_t, t, m.answer(schedule, x_t, t, c).x0)


def _score(m: Regions, schedule: Schedule, x_t: jax.Array, t: Any, c: Evidence | None = None) -> jax.Array:
    return score_from_eps(schedule, jnp.asarray(t), _eps(m, schedule, x_t, t, c))
