"""Drawing the times where the loss is large: importance sampling for L_vlb.

    L_vlb = E_{t~p}[ L_t / p_t ]   is least noisy with   p_t ∝ √E[L_t²]        [Nichol and Dhariwal 2021, Sec. 3.3]

The last losses of each time are remembered; until each time has enough of them, times are uniform. A state and three
pure functions: it rides in the training state, through `jit` and checkpoints.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ddpm.tools import check


class LossHistory(NamedTuple):
    """The last losses of each time."""

    loss: jax.Array  # (T+1, n)  newest last; row 0 is not used
    seen: jax.Array  # (T+1,) int  how many there are, at most n


def loss_history(T: int, n: int = 10) -> LossHistory:
    """An empty memory of n losses for each of T times; n = 10 in the paper."""
    check.whole("T", T, 1)
    check.whole("n", n, 1)
    return LossHistory(jnp.zeros((T + 1, n)), jnp.zeros(T + 1, jnp.int32))


def probabilities(history: LossHistory, uniform: float = 0.001) -> jax.Array:
    """p_t, (T+1,), with p_0 = 0: ∝ √mean L_t², mixed with a little of a uniform one, once all times are known."""
    check.number("uniform", uniform, 0, 1)
    n = history.loss.shape[1]
    root = jnp.sqrt((history.loss[1:] ** 2).mean(1))
    even = jnp.full_like(root, 1 / len(root))
    total = root.sum()
    p = (1 - uniform) * root / jnp.where(total > 0, total, 1) + uniform * even
    ready = jnp.all(history.seen[1:] >= n) & (total > 0)
    return jnp.append(0.0, jnp.where(ready, p, even))


def draw_times(history: LossHistory, key: jax.Array, B: int) -> tuple[jax.Array, jax.Array]:
    """B times ~ p and their weights 1/(T p_t), with which the weighted mean of L_t estimates the uniform mean."""
    p = probabilities(history)
    t = jax.random.categorical(key, jnp.log(p), shape=(B,))
    return t, 1 / ((len(p) - 1) * p[t])


def remember(history: LossHistory, t: jax.Array, loss: Any) -> LossHistory:
    """The history after the losses (B,) at the times t (B,), before weighting: the oldest of each time make room."""
    check.same_shape("t", t, "loss", jnp.asarray(loss))
    check.times(t, t, history.seen.shape[0] - 1)

    def one(h: LossHistory, t_loss: Any) -> tuple[LossHistory, None]:
        t, new = t_loss
        row = jnp.append(h.loss[t, 1:], new)
        return LossHistory(h.loss.at[t].set(row), h.seen.at[t].set(jnp.minimum(h.seen[t] + 1, len(row)))), None

    return jax.lax.scan(one, history, (t, jax.lax.stop_gradient(jnp.asarray(loss, history.loss.dtype))))[0]
