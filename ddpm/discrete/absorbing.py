"""The absorbing chain: each token is hidden on its own, and stays hidden.   [Austin et al. 2021; Ou et al. 2025, RADD]

    q(x_t | x0):  a token stays open with probability α_t = e^-σ̄_t, else it is the mask     α: (T+1,), from 1 down to 0
    q(x_s | x_t, x0):  a hidden token opens with probability (α_s - α_t)/(1 - α_t), and stays hidden otherwise

    p_t(x with v at i)/p_t(x) = e^-σ̄/(1 - e^-σ̄) · p(v_i | open tokens)          for a hidden i   [RADD, Theorem 1]

So the concrete score is a conditional of the clean data times a number that knows the time, and a denoiser
(x_t, t, c) -> (B, J, V) of these conditionals needs no time: its answer stays until the next token opens. Its loss is a
bound of -log p(x0), written in three ways with one expectation:

    E_λ (1/λ) Σ_(j hidden) -log p(x0_j | open),  each token hidden with probability λ, λ ~ U(0, 1)       `lambda_loss`
    E_m (J/m) Σ_(j hidden) -log p(x0_j | open),  m hidden tokens, m ~ U{1…J}                           `any_order_loss`
    E Σ_l -log p(x0_π(l) | x0_π(1)…x0_π(l-1)) over all orders π

With the exact conditionals each order gives -log p(x0), so the bound is tight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Step, falls, partial_of, technique
from ddpm.tools import check, keys

Conditional = Callable[..., jax.Array]  # (x_t (B, J) int, t, c | None) -> p(v at j | open tokens) (B, J, V)


def _alpha(alpha: Any) -> jax.Array:
    a = check.number("alpha", alpha, 0, 1)
    if np.ndim(a) != 1 or np.size(a) < 2 or (check.known(a) and (float(a[0]) != 1 or np.any(np.diff(a) >= 0))):
        raise ValueError(f"alpha is {a}; give the probabilities α_0 … α_T of an open token, falling from α_0 = 1")
    return jnp.asarray(a)


def hide(key: jax.Array, x0: jax.Array, keep: Any, mask: int) -> jax.Array:
    """x_t ~ q(x_t | x0): each token (B, J) stays with probability `keep` = α_t, () or (B,), and else becomes `mask`."""
    _tokens(x0, mask)
    keep = jnp.asarray(check.number("keep", keep, 0, 1))
    return jnp.where(_uniform(key, x0) < (keep[:, None] if keep.ndim else keep), x0, mask)


def ratio(conditional: jax.Array, sigma_bar: Any) -> jax.Array:
    """p_t(x with v at i)/p_t(x) = e^-σ̄/(1 - e^-σ̄) p(v_i | open tokens) for hidden i.   [RADD, Theorem 1]"""
    if jnp.ndim(conditional) != 3 or jnp.ndim(sigma_bar) != 0:
        shapes = f"{jnp.shape(conditional)} and sigma_bar {jnp.shape(sigma_bar)}"
        raise ValueError(f"conditional has shape {shapes}; give probabilities (B, J, V) and one number")
    return conditional / jnp.expm1(check.number("sigma_bar", sigma_bar, 1e-30))


@technique(conditional=partial_of, alpha=_alpha, mask=lambda mask: jnp.int32(check.whole("mask", mask, 1)))
@falls
def open_step(
    key: jax.Array, x_t: jax.Array, t: jax.Array, s: jax.Array, /,
    conditional: Conditional, alpha: Any, mask: int, c: Any = None,
) -> jax.Array:  # fmt: skip
    """Open each hidden token with probability (α_s - α_t)/(1 - α_t), as v ~ p(v_j | open tokens).

    Tokens that open in one step are drawn independently of each other; that is the only error of few steps.
    """
    key_open, key_v = keys.split(key)
    opens = (x_t == mask) & (_uniform(key_open, x_t) < (alpha[s] - alpha[t]) / (1 - alpha[t]))
    p = conditional(x_t, jnp.broadcast_to(t, x_t.shape[:1]), c)
    # Gumbel's noise is drawn with all its digits: with the usual ones, rare tokens are drawn too rarely
    noise = keys.draw(lambda k, shape: jax.random.gumbel(k, shape, p.dtype, mode="high"), key_v, p.shape)
    return jnp.where(opens, jnp.argmax(jnp.log(p) + noise, axis=2).astype(x_t.dtype), x_t)


def _within_alpha(t: Any, s: Any, *, alpha: Any, **_: Any) -> None:
    """Refuse times that alpha does not have: JAX would take its last number for them."""
    if (span := check.bounds(t)) and span[1] > (T := jnp.shape(alpha)[0] - 1):
        raise ValueError(f"times reach {span[1]}, and alpha has α_0 … α_{T}; give times in 0..{T}, or a longer alpha")


open_step.__wrapped__.check_times = _within_alpha  # type: ignore[attr-defined]


@technique(step=partial_of)
@falls
def counted(key: jax.Array, state: tuple[jax.Array, jax.Array], t: Any, s: Any, /, step: Step) -> tuple:
    """A step on (x_t, calls (B,)) that adds a call where a token opens: in the others the last answer still holds."""
    x_s = step(key, state[0], t, s)
    return x_s, state[1] + (x_s != state[0]).any(1)


def hidden_nll(conditional: Conditional, x0: jax.Array, hidden: jax.Array, mask: int, c: Any = None) -> jax.Array:
    """Σ_(j hidden) -log p(x0_j | the others): (B,), in nats.   x0: (B, J) tokens;  hidden: (B, J) bool"""
    _tokens(x0, mask)
    check.same_shape("x0", x0, "hidden", hidden)
    p = conditional(jnp.where(hidden, mask, x0), None, c)
    if p.shape[:2] != x0.shape or (check.known(mask) and p.shape[2] != mask):
        raise ValueError(f"conditional gives shape {p.shape}; give {(*x0.shape, mask)}: {mask} values of each token")
    p_x0 = jnp.take_along_axis(p, x0[..., None], axis=2)[..., 0]
    return -jnp.where(hidden, jnp.log(jnp.where(hidden, p_x0, 1)), 0).sum(1)


def lambda_loss(conditional: Conditional, key: jax.Array, x0: jax.Array, mask: int, c: Any = None) -> jax.Array:
    """(1/λ) Σ_(j hidden) -log p(x0_j | open), λ ~ U(0, 1) for each sequence: (B,)   [RADD, λ-DCE]"""
    key_lam, key_hide = keys.split(key)
    lam = 1 - keys.draw(jax.random.uniform, key_lam, x0.shape[:1])  # in (0, 1]
    return hidden_nll(conditional, x0, _uniform(key_hide, x0) < lam[:, None], mask, c) / lam


def any_order_loss(conditional: Conditional, key: jax.Array, x0: jax.Array, mask: int, c: Any = None) -> jax.Array:
    """(J/m) Σ_(j hidden) -log p(x0_j | open), the number m of hidden tokens ~ U{1…J}: (B,)   [RADD, any-order loss]"""
    key_m, key_hide = keys.split(key)
    J = x0.shape[1]
    m = keys.draw(lambda k, shape: jax.random.randint(k, shape, 1, J + 1), key_m, x0.shape[:1])
    place = jnp.argsort(jnp.argsort(_uniform(key_hide, x0), axis=1), axis=1)  # a random order
    return hidden_nll(conditional, x0, place < m[:, None], mask, c) * J / m


def expected_calls(steps: int, J: int) -> float:
    """E-NFE = n (1 - (1 - 1/n)^J): the steps of n in which one of J tokens opens, if α falls linearly.   [RADD, Sec. 3]

    In the others the denoiser's last answer is still right.
    """
    n = check.whole("steps", steps, 1)
    return n * (1 - (1 - 1 / n) ** check.whole("J", J, 1))


def _uniform(key: jax.Array, x: jax.Array) -> jax.Array:
    return keys.draw(jax.random.uniform, key, x.shape)


def _tokens(x0: Any, mask: int) -> None:
    if jnp.ndim(x0) != 2 or not jnp.issubdtype(jnp.asarray(x0).dtype, jnp.integer):
        raise ValueError(f"x0 has shape {jnp.shape(x0)}; give integer tokens (B, J)")
    if (span := check.bounds(x0)) and not (0 <= span[0] and span[1] < mask):
        raise ValueError(f"x0 lies in {span[0]}..{span[1]}; clean tokens lie in 0..{mask - 1} ({mask} = hidden)")
