"""Consistency models: a network that maps every point of a trajectory to its beginning.   [Song et al. 2023]

    f(x, τ) = Φ(x, τ→0),   f(x, 0) = x
    training       E d(f(x_t), sg f(x_s)),   x_t and x_s of the same x0 and the same ε                     [Eq. 10]
    distillation   E d(f(x_t), sg f(x_s)),   x_s by one step of a teacher's flow from x_t                     [Eq. 7]

On a Gaussian with θ = atan(b/(a√λ)) training has, at the exact f, the loss 2λ (1 - cos Δθ), which falls as the times
move together, and its fixed point is not f: the deviation of one call is √λ ∏cos Δθ, that of DDIM on the same times. So
the number of times must grow during a training (`number_of_times`), and a loss that falls meanwhile proves nothing.
With new noise for x_s every output is the mean; a gradient through both sides shrinks the outputs; where f(x, 0) is not
x they drift.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Eps, partial_of, technique
from ddpm.flows.conversions import level_for, shaped
from ddpm.flows.paths import Path
from ddpm.loss import per_image
from ddpm.networks import preconditioning
from ddpm.tools import check


@technique(net=partial_of)
def consistency_function(x: jax.Array, tau: jax.Array, c: Any = None, /, *, net: Eps, path: Path) -> jax.Array:
    """f(x, τ) = (a σ_d² x + r b σ_d net(x/r, τ, c))/r², r² = b² + a² σ_d²: EDM's skip, and f(x, 0) = x.   [Eq. 5]"""
    p, d = level_for(path, tau, x), preconditioning.SIGMA_DATA
    r = jnp.sqrt(p.b**2 + p.a**2 * d**2)
    return (p.a * d**2 * x + r * p.b * d * net(x / r, tau, c)) / r**2


def consistency_training_loss(
    f: Eps, path: Path, x0: jax.Array, t: jax.Array, s: jax.Array, noise: jax.Array, c: Any = None, huber: float = 0.0
) -> jax.Array:
    """d(f(a_t x0 + b_t ε), sg f(a_s x0 + b_s ε)): (B,)   [Song et al. 2023, Eq. 10]

    t > s ≥ 0: (B,);  huber: 0 for ‖·‖²/D, else `pseudo_huber`'s constant. The paper's weight is 1/(t - s), or 1.
    """
    check.same_shape("x0", x0, "noise", noise)
    _falls(t, s)
    p, q = level_for(path, t, x0), level_for(path, s, x0)
    target = jax.lax.stop_gradient(f(q.a * x0 + q.b * noise, s, c))
    return pseudo_huber(f(p.a * x0 + p.b * noise, t, c) - target, huber)


def consistency_distillation_loss(
    f: Eps, velocity: Eps, x: jax.Array, t: jax.Array, s: jax.Array, c: Any = None, huber: float = 0.0
) -> jax.Array:
    """d(f(x_t), sg f(x_s)), x_s by one step of Heun's method of the teacher: (B,)   [Song et al. 2023, Eq. 7]

    velocity: the teacher's (x, τ, c) -> û, such as that of a trained flow, or guided by `ddpm.guide.cfg`.
    """
    _falls(t, s)
    h = shaped(s - t, x)
    first = velocity(x, t, c)
    x_s = x + h * (first + velocity(x + h * first, s, c)) / 2
    target = jax.lax.stop_gradient(f(jax.lax.stop_gradient(x_s), s, c))
    return pseudo_huber(f(x, t, c) - target, huber)


def pseudo_huber(difference: jax.Array, k: float = 0.0) -> jax.Array:
    """√(‖Δ‖² + k²) - k with the sum over pixels, for k > 0; ‖Δ‖²/D for k = 0: (B,)   [Song and Dhariwal 2023, Eq. 7]

    Their k is .00054 √D.
    """
    if check.number("huber", k, 0) == 0:
        return per_image(difference**2)
    return jnp.sqrt((difference**2).reshape(len(difference), -1).sum(1) + k**2) - k


def number_of_times(step: Any, steps: int, first: int = 10, last: int = 1280) -> Any:
    """N = min(first·2^⌊step/K'⌋, last) + 1 times, K' = ⌊steps/(log₂⌊last/first⌋ + 1)⌋; inside jit too.

    [Song and Dhariwal 2023, Sec. 3.4]
    """
    check.whole("first", first, 1)
    if last < first:
        raise ValueError(f"last is {last}; the number of times grows from first = {first}, so give last >= first")
    each = max(1, int(steps // (np.floor(np.log2(last // first)) + 1)))
    if not check.known(step):
        return jnp.minimum(first * 2 ** (step // each), last) + 1
    return int(min(first * 2.0 ** (step // each), last)) + 1


def sample(f: Eps, path: Path, key: jax.Array, x: jax.Array, times: Any, c: Any = None) -> jax.Array:
    """f(x_1), then noise to each next time and f again: Algorithm 1.   times: τ_1 > τ_2 > … > 0   [Song et al. 2023]"""
    times = np.asarray(check.number("times", times, 0, 1), dtype=np.float64)
    if times.ndim != 1 or not len(times) or not np.all(np.diff(times) < 0) or times[-1] <= 0:
        raise ValueError(f"times is {times}; give times in (0, 1] that fall, such as [1, .5]")
    for i, tau in enumerate(times):
        if i:
            p = path.at(tau)
            x = p.a * x + p.b * jax.random.normal(jax.random.fold_in(key, i), x.shape, x.dtype)
        x = f(x, jnp.full(len(x), tau, x.dtype), c)
    return x


# --- closed forms on a Gaussian ---------------------------------------------------------------------------------------


def _angle(path: Path, var: Any, tau: Any) -> np.ndarray:
    """θ = atan(b/(a √λ)), (n,) times -> (n, D)"""
    p = path.table(np.atleast_1d(np.asarray(tau, dtype=np.float64)))
    return np.arctan2(p.b[:, None], p.a[:, None] * np.sqrt(np.atleast_1d(check.number("var", var, 0))))


def training_loss_at_solution(path: Path, var: Any, t: float, s: float) -> np.ndarray:
    """2λ (1 - cos(θ_t - θ_s)): what consistency training leaves at the exact f, in each direction: (D,)"""
    theta = _angle(path, var, [t, s])
    return 2 * np.atleast_1d(var) * (1 - np.cos(theta[0] - theta[1]))


def training_fixed_point(path: Path, var: Any, times: Any) -> np.ndarray:
    """√λ ∏cos(θ_i - θ_{i-1}): the deviation of one call of a converged training: (D,)

    times: 0 = τ_0 < τ_1 < …, those that it compares
    """
    return np.sqrt(np.atleast_1d(var)) * np.cos(np.diff(_angle(path, var, times), axis=0)).prod(0)


def _falls(t: Any, s: Any) -> None:
    if check.known(t) and check.known(s) and bool(np.any(np.asarray(s) >= np.asarray(t))):
        raise ValueError(f"t is {t} and s is {s}; the step goes down, so s < t")
