"""From noise to images: one loop, and samplers that differ by one short step function.

    step : (key, x_t, t, s) -> x_s        t, s: () int32, from a list of times
    walk : (step, key, x_T, times) -> x_0

A step knows both times, so the same function walks all T times or fifty of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Eps, Partial, Step, falls, partial_of, technique
from ddpm.forward import at, q_posterior, x0_and_eps
from ddpm.guide import cfg, clip_x0
from ddpm.schedule import Schedule, make_times
from ddpm.tools import check, keys, loops
from ddpm.tools.partials import check_denoiser, check_labels, find, inside


def _beta(schedule: Schedule, x: jax.Array, t: Any, s: Any) -> jax.Array:
    """β of the jump s → t, 1 - ᾱ_t/ᾱ_s"""
    return 1 - at(schedule.alpha_bar, t, x) / at(schedule.alpha_bar, s, x)


def _beta_tilde(schedule: Schedule, x: jax.Array, t: Any, s: Any) -> jax.Array:
    """β̃ = β (1-ᾱ_s)/(1-ᾱ_t)   [Ho et al. 2020, Eq. 7]"""
    return _beta(schedule, x, t, s) * (1 - at(schedule.alpha_bar, s, x)) / (1 - at(schedule.alpha_bar, t, x))


def _where_last(s: Any, x: jax.Array, last: jax.Array, else_: jax.Array) -> jax.Array:
    s = jnp.asarray(s)
    return jnp.where((s == 0) if s.ndim == 0 else (s == 0).reshape(s.shape + (1,) * (x.ndim - 1)), last, else_)


def beta_tilde_clipped(schedule: Schedule, x_t: jax.Array, t: Any, s: Any, c: Any = None) -> jax.Array:
    """β̃; at s = 0, where it is 0, β̃ of the step t+1 → t (β itself at t = T).   [Ho et al. 2020, released code]"""
    t = jnp.asarray(t)
    up = jnp.minimum(t + 1, schedule.T)
    before = _beta_tilde(schedule, x_t, up, jnp.minimum(t, up))
    before = jnp.where(before > 0, before, _beta(schedule, x_t, t, s))
    return _where_last(s, x_t, before, _beta_tilde(schedule, x_t, t, s))


def _fixed_large(schedule: Schedule, x_t: jax.Array, t: Any, s: Any, c: Any = None) -> jax.Array:
    return _where_last(s, x_t, beta_tilde_clipped(schedule, x_t, t, s), _beta(schedule, x_t, t, s))


VARIANCES = {"fixed_small": Partial(beta_tilde_clipped), "fixed_large": Partial(_fixed_large)}


def make_variance(variance: Any) -> Partial:
    """`fixed_small`, `fixed_large`, or a function such as `learned(v)` and `optimal(gamma)`, as it is."""
    if isinstance(variance, str):
        return VARIANCES[check.choice("variance", variance, VARIANCES)]
    return partial_of(variance)


def walk(step: Step, key: jax.Array, x_T: Any, times: Any, path: bool = False, first: int = 0) -> Any:
    """Take `step` from times[0] to times[1] … to times[-1]: one compiled loop.   [Ho et al. 2020, Alg. 2]

    x_T: (B, ...), or a pytree where a step carries more than the image;  times: (n+1,) int, usually falling to 0.
    Returns x at the last time; with `path` also x after every step, stacked in front: (x_0, (n, B, ...)).
    Step i uses the key fold_in(key, first + i): a walk in two pieces, with `first` set, equals the walk in one.
    key: one for the batch, or (B,), one for each image, whose noise then does not depend on the others.
    """
    times = np.asarray(times)
    if times.ndim != 1 or times.size < 2 or not np.issubdtype(times.dtype, np.integer):
        raise ValueError(f"times is {times}; give a list of at least two integers, such as make_times(T, steps)")
    step = partial_of(step)
    T = min((schedule.T for schedule in find(step, Schedule)), default=int(times.max()))
    if times.min() < 0 or times.max() > T:
        raise ValueError(f"times reach from {times.min()} to {times.max()}; they lie in 0..{T} (t = 0 is clean data)")
    if getattr(step.func, "falls", False) and np.any(np.diff(times) >= 0):
        raise ValueError(f"times is {times}; this step only goes down, so each time must be less than the one before")
    down = np.diff(times) < 0
    for part in inside(step):  # a step may have its own demands on the times, even where it is wrapped
        if hasattr(part.func, "check_times"):
            part.func.check_times(times[:-1][down], times[1:][down], **part.keywords)
        check_denoiser(times[:-1], **part.keywords)
    n, times = times.size - 1, times if path else loops.padded(times)  # lists of many lengths share one program
    return _walk(step, key, x_T, jnp.asarray(times, jnp.int32), jnp.asarray(n), jnp.asarray(first), path)


@partial(jax.jit, static_argnames="path")
def _walk(step: Step, key: Any, x_T: Any, times: jax.Array, n: jax.Array, first: jax.Array, path: bool) -> Any:
    def body(x: Any, i: jax.Array) -> Any:
        new = step(keys.fold_in(key, first + i), x, times[i], times[i + 1])
        return jax.tree.map(lambda new, old: new.astype(old.dtype), new, x)  # a float64 schedule keeps float32 images

    x, xs = loops.first_steps(body, x_T, n, len(times) - 1, path)
    return (x, xs) if path else x


# --- steps ------------------------------------------------------------------------------------------------------------


@technique(eps=partial_of, variance=make_variance)
@falls
def ddpm_step(
    key: jax.Array, x_t: jax.Array, t: jax.Array, s: jax.Array, /,
    eps: Eps, schedule: Schedule, c: jax.Array | None = None, variance: Any = "fixed_small",
) -> jax.Array:  # fmt: skip
    """Ancestral sampling: x_s ~ N(mean of q(x_s | x_t, x̂0), σ²).   [Ho et al. 2020, Alg. 2 and Eqs. 6-7]

    variance: `fixed_small` σ² = β̃, exact if the data are one point; `fixed_large` σ² = β, exact if they are N(0, I); or
    `learned(v)`, `optimal(gamma)` of ddpm.samplers. The last step, to s = 0, adds no noise, as in Alg. 2. s need not be
    t-1: β is then that of the whole jump.
    """
    x0, _ = x0_and_eps(eps, schedule, x_t, t, c)
    mean, _ = q_posterior(schedule, x_t, x0, t, s)
    sigma = jnp.where(s == 0, 0.0, jnp.sqrt(variance(schedule, x_t, t, s, c)))
    return mean + sigma * keys.normal_like(key, x_t)


def ddim_step(eps: Eps, schedule: Schedule, c: jax.Array | None = None, eta: float = 0.0) -> Partial:
    """x_s = √ᾱ_s x̂0 + √(1-ᾱ_s-σ²) ε̂ + σ z,  σ = η √((1-ᾱ_s)/(1-ᾱ_t)) √(1-ᾱ_t/ᾱ_s).   [Song et al. 2021, Eqs. 12, 16]

    η = 0: deterministic, and it may climb (s > t: DDIM inversion). η = 1: distributed like `ddpm_step`, `fixed_small`.
    η > 1: noisier still, as long as σ² ≤ 1-ᾱ_s at every step of the list; else refused.
    """
    check.number("eta", eta, 0)
    if check.known(eta) and float(eta) == 0:  # then no noise is drawn: that would be a twentieth of a small network
        return _ddim_ode_step(eps, schedule, c)
    return _ddim_noisy_step(eps, schedule, c, jnp.asarray(eta, dtype=float))


@technique(eps=partial_of)
def _ddim_ode_step(key: Any, x_t: Any, t: Any, s: Any, /, eps: Eps, schedule: Schedule, c: Any) -> jax.Array:
    x0, eps_t = x0_and_eps(eps, schedule, x_t, t, c)
    root, std = jnp.sqrt(at(schedule.alpha_bar, s, x_t)), at(schedule.std, s, x_t)
    return root * x0 + std * eps_t  # Eq. 12 with σ = 0; s > t encodes


def _variance_exists(t: Any, s: Any, *, schedule: Schedule, eta: Any, **_: Any) -> None:
    """Refuse an η that leaves a negative 1-ᾱ_s-σ² under the root; only η > 1 can."""
    if not all(map(check.known, (t, s, eta, schedule.alpha_bar))) or np.all(np.asarray(eta) <= 1):
        return
    a_t, a_s = (np.asarray(schedule.alpha_bar, dtype=np.float64)[k] for k in (t, s))
    most = np.sqrt(np.min((1 - a_t) / (1 - a_t / a_s)))
    if np.any(np.asarray(eta) > most):
        raise ValueError(
            f"eta is {eta}: at these times the noise needs more variance than there is; give at most {most:.4g}"
        )


@technique(eps=partial_of)
@falls
def _ddim_noisy_step(
    key: Any, x_t: Any, t: Any, s: Any, /, eps: Eps, schedule: Schedule, c: Any, eta: Any
) -> jax.Array:
    _variance_exists(t, s, schedule=schedule, eta=eta)
    x0, eps_t = x0_and_eps(eps, schedule, x_t, t, c)
    alpha_bar_t, alpha_bar_s = at(schedule.alpha_bar, t, x_t), at(schedule.alpha_bar, s, x_t)
    sigma = eta * jnp.sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s))  # Eq. 16
    z = keys.normal_like(key, x_t)
    rest = 1 - alpha_bar_s - sigma**2
    rest = jnp.where(jnp.abs(rest) < 1e-6, jnp.maximum(rest, 0), rest)  # rounding: -1e-17 where ᾱ_t = 0 and η = 1
    return jnp.sqrt(alpha_bar_s) * x0 + jnp.sqrt(rest) * eps_t + sigma * z  # Eq. 12


_ddim_noisy_step.__wrapped__.check_times = _variance_exists  # type: ignore[attr-defined]

STEPS: dict[str, Callable[..., Partial]] = {
    "ddim": ddim_step,
    "ddpm": ddpm_step,
    "ddpm_large": partial(ddpm_step, variance="fixed_large"),
}


@dataclass(frozen=True)
class Sampling:
    """How images are drawn: the sampler, the times it visits, and what wraps the denoiser."""

    sampler: str | Callable[..., Partial] = "ddim"  # a name, or (eps, schedule, c) -> step, such as samplers.heun_step
    steps: int | None = None  # None: 50, or T where T is smaller
    guidance: float = 1.0  # s = 1 conditional, above 1 closer to the class; without labels there is none
    rule: str | Callable[[Schedule, int], np.ndarray] = "trailing"  # of `make_times`, or (schedule, steps) -> times
    clip: bool = True  # x̂0 to [-1, 1]

    def times(self, schedule: Schedule) -> np.ndarray:
        """The times from noise down to 0, (steps+1,)"""
        steps = min(50, schedule.T) if self.steps is None else self.steps
        return self.rule(schedule, steps) if callable(self.rule) else make_times(schedule.T, steps, self.rule)

    def step(self, eps: Eps, schedule: Schedule, c: Any, names: dict[str, Callable[..., Partial]] = STEPS) -> Partial:
        """The step for labels c, with the denoiser guided and clipped; `names`: the samplers that have one."""
        make = self.sampler if callable(self.sampler) else names[check.choice("sampler", self.sampler, names)]
        check.scale(self.guidance)
        denoiser = cfg(eps, self.guidance) if c is not None and self.guidance != 1 else partial_of(eps)
        return make(clip_x0(denoiser, schedule) if self.clip else denoiser, schedule, c)


def images(
    eps: Eps, schedule: Schedule, key: jax.Array, shape: tuple[int, ...], c: Any = None, how: Sampling = Sampling()
) -> jax.Array:
    """Images (B, H, W, C) in [-1, 1] from noise, with the usual pieces put together.

    shape: (B, H, W, C);  c: (B,) labels, a `Condition`, or None;  how: sampler ddim, ddpm, ddpm_large, or a function.
    The initial noise is normal(split(key)[0]): the same for every sampler and number of steps.
    """
    step = how.step(eps, schedule, None if c is None else jax.tree.map(jnp.asarray, check_labels(eps, c, shape[:1])))
    key_x, key_walk = jax.random.split(key)
    return walk(step, key_walk, jax.random.normal(key_x, shape), how.times(schedule))
