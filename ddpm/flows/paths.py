"""Gaussian paths x_τ = a(τ) x0 + b(τ) ε in continuous time, from data at τ = 0 to noise at τ = 1.

    linear          a = 1-τ            b = τ                    [Liu et al. 2023; Lipman et al. 2023, Eq. 20]
    trigonometric   a = cos(πτ/2)      b = sin(πτ/2)            [Albergo and Vanden-Eijnden 2023]
    cosine          a² = f(τ)/f(0)     b² = 1 - a²              [Nichol and Dhariwal 2021, Eq. 17]
    vp              a² = e^(-∫β)       b² = 1 - a²,  β from .1 to 20     [Song et al. 2021, SDE, Eq. 33]

One chain, many names: with c = √(a² + b²), x_τ/c is a state √ᾱ x0 + √(1-ᾱ) ε of the library's chain, at ᾱ = a²/c².
Every path passes through the same states, at other times and in other units, so schedules, oracles, guides and steps
serve all of them. On the linear path τ = √(1-ᾱ)/(√ᾱ + √(1-ᾱ)). Some codes have data at τ = 1 and a velocity of the
opposite sign.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.schedule import SCHEDULES, Schedule, from_alpha_bar, make_schedule
from ddpm.tools import check

BETA = (0.1, 20.0)  # of the path `vp`
OFFSET = 0.008  # of the path `cosine`


class Level(NamedTuple):
    """The path at one time, or at several. Where b begins as √τ, ḃ is infinite at 0 and bḃ is not: both are kept."""

    a: Any
    b: Any
    da: Any  # ȧ = da/dτ
    db: Any  # ḃ
    bdb: Any  # bḃ

    @property
    def c(self) -> Any:
        """√(a² + b²): x_τ/c is the state of the chain."""
        return (self.a**2 + self.b**2) ** 0.5

    @property
    def W(self) -> Any:
        """aḃ - ȧb, the determinant of (x0, ε) -> (x_τ, velocity); infinite where ḃ is."""
        return self.a * self.db - self.da * self.b

    @property
    def dc(self) -> Any:
        """ċ = (aȧ + bḃ)/c"""
        return (self.a * self.da + self.bdb) / self.c


@jax.tree_util.register_static
@dataclass(frozen=True)
class Path:
    """A Gaussian path: level(τ, xp) -> Level, written with the functions of `xp`, NumPy or jax.numpy."""

    name: str
    level: Callable[..., Level]

    def __post_init__(self) -> None:
        """Check on a grid that a and b are a path from data to noise, and that the derivatives are theirs."""
        tau, h = np.linspace(0, 1, 201), 1e-6
        at, inner = self.table(tau), tau[1:-1]
        if abs(at.a[0] - 1) > 1e-9 or abs(at.b[0]) > 1e-9:
            raise ValueError(f"path {self.name!r} begins at a = {at.a[0]:.4g}, b = {at.b[0]:.4g}; give a = 1 and b = 0")
        if not (np.all(at.b[1:] > 0) and np.all(at.a[:-1] > 0)):
            bad = tau[1:][~(at.b[1:] > 0)] if not np.all(at.b[1:] > 0) else tau[:-1][~(at.a[:-1] > 0)]
            raise ValueError(
                f"path {self.name!r} has a or b at or below 0 at τ = {bad[0]:.3g}; both are positive inside"
            )
        if not np.all(np.diff(np.arctan2(at.b, at.a)) > 0):
            raise ValueError(f"path {self.name!r} does not lose signal at every time; b/a must rise from 0")
        up, down, middle = (self.level(inner + d, np) for d in (h, -h, 0))
        slopes = [(up.a - down.a) / (2 * h) - middle.da, (up.b**2 - down.b**2) / (4 * h) - middle.bdb]
        slopes.append(middle.b * middle.db - middle.bdb)
        if max(np.abs(s).max() for s in slopes) > 1e-4:
            raise ValueError(f"path {self.name!r} returns derivatives that are not those of its a and b")

    def at(self, tau: Any) -> Level:
        """a, b and their derivatives at the times tau in [0, 1], as JAX arrays."""
        return self.level(jnp.asarray(check.number("tau", tau, 0, 1), dtype=float), jnp)

    def table(self, tau: Any) -> Level:
        """The same in NumPy and float64."""
        with np.errstate(divide="ignore"):
            return self.level(np.asarray(check.number("tau", tau, 0, 1), dtype=np.float64), np)

    def time(self, alpha_bar: Any) -> np.ndarray:
        """τ at which the path has this ᾱ = a²/(a² + b²), by bisection in float64. alpha_bar: in (0, 1]"""
        alpha_bar = np.asarray(check.number("alpha_bar", alpha_bar, 0, 1), dtype=np.float64)
        angle = np.arctan2(np.sqrt(1 - alpha_bar), np.sqrt(alpha_bar))
        low, high = np.zeros(angle.shape), np.ones(angle.shape)
        last = self.table(1.0)
        if np.any(angle > np.arctan2(last.b, last.a) + 1e-12):
            least = last.a**2 / last.c**2
            raise ValueError(f"alpha_bar is {alpha_bar.min():.4g}; path {self.name!r} ends at {least:.4g}")
        for _ in range(60):
            middle = (low + high) / 2
            at = self.table(middle)
            below = np.arctan2(at.b, at.a) < angle
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2


# --- the paths by name ------------------------------------------------------------------------------------------------


def _linear(tau: Any, xp: Any) -> Level:
    return Level(1 - tau, tau, xp.full_like(tau, -1.0), xp.full_like(tau, 1.0), tau)


def _trigonometric(tau: Any, xp: Any) -> Level:
    phi = np.pi / 2 * tau
    a, b = xp.cos(phi), xp.sin(phi)
    return Level(a, b, -np.pi / 2 * b, np.pi / 2 * a, np.pi / 2 * a * b)


def _cosine(tau: Any, xp: Any) -> Level:
    first, rate = OFFSET / (1 + OFFSET) * np.pi / 2, np.pi / 2 / (1 + OFFSET)
    theta = first + rate * tau
    a, da = xp.cos(theta) / np.cos(first), -rate * xp.sin(theta) / np.cos(first)
    b = xp.sqrt(xp.sin(rate * tau) * xp.sin(theta + first)) / np.cos(first)  # √(1-a²) without its cancellation
    return Level(a, b, da, -a * da / b, -a * da)


def _vp(tau: Any, xp: Any) -> Level:
    low, high = BETA
    beta, integral = low + (high - low) * tau, low * tau + (high - low) * tau**2 / 2
    a = xp.exp(-integral / 2)
    b = xp.sqrt(-xp.expm1(-integral))
    return Level(a, b, -beta * a / 2, beta * a**2 / 2 / b, beta * a**2 / 2)


PATHS: dict[str, Callable[[], Path]] = {
    name: partial(Path, name, level)
    for name, level in (("linear", _linear), ("trigonometric", _trigonometric), ("cosine", _cosine), ("vp", _vp))
}


def make_path(name: str) -> Path:
    """Build the path of this name: `linear`, `trigonometric`, `cosine` or `vp`."""
    return PATHS[check.choice("path", name, PATHS)]()


# --- the chain of a path ----------------------------------------------------------------------------------------------


LAST = 0.999  # τ of the chain's noisiest level


def chain(path: Path, T: int = 1000, last: float = LAST) -> Schedule:
    """Build the schedule ᾱ_t = a²/(a² + b²) at τ_t = last·t/T, whose states are x_τ/c.

    last: below 1 where a(1) = 0, because a schedule has ᾱ_T > 0. On the linear path .999 is ᾱ_T = 1e-6; there
    an x̂0 that is derived from ε̂ in float32 has an error of 1e-4. DDIM on this chain is Euler's method in τ.
    """
    check.number("last", last, 1e-9, 1)
    at = path.table(last * np.arange(1, check.whole("T", T, 1) + 1) / T)
    if at.a[-1] < 1e-12:
        raise ValueError(
            f"last is {last}, where path {path.name!r} has no signal left; give last below 1, such as .999"
        )
    return from_alpha_bar(at.a**2 / at.c**2)


def make_chain(name: str, T: int = 1000) -> Schedule:
    """Build the schedule of this name, or, as `linear_path`, the chain of that path."""
    chains = [f"{path}_path" for path in PATHS]
    if check.choice("schedule", name, [*SCHEDULES, *chains]) in SCHEDULES:
        return make_schedule(name, T)
    return chain(make_path(name.removesuffix("_path")), T)


def levels(path: Path, tau: Any) -> Schedule:
    """Build the schedule whose t = 1…n are the given times τ_1…τ_n of the path, in any order; traceable.

    tau: () or (n,). It serves oracles, which look up one level at a time; a sampler wants `chain`.
    """
    at = path.at(jnp.atleast_1d(jnp.asarray(tau, dtype=float)))
    alpha_bar, std = at.a**2 / at.c**2, at.b / at.c
    zero, one = jnp.zeros(1, alpha_bar.dtype), jnp.ones(1, alpha_bar.dtype)
    return Schedule(jnp.append(zero, std**2), jnp.append(one, alpha_bar), jnp.append(zero, std))
