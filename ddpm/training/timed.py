"""A training that ends with the time: Adam, a rate that falls with the time that is left, and the average."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from ddpm.tools import check
from ddpm.train import ema_decay, update

ADAM = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
BATCH, RATE, WARM = 32, 2e-3, 100


def fit(
    loss: Callable[..., Any], params: Any, images: Any, labels: Any, seed: int, left: Callable[[], float], *fixed: Any,
    direction: optax.GradientTransformation = ADAM, share: float = 0.0,
) -> Any:  # fmt: skip
    """Minimise E loss(params, key, x0, c, *fixed) while left() > 0; return the average of the parameters.

    images: (N, H, W, C) uint8, of which a batch goes to `loss` in [-1, 1], or floats, as they are: codes, for instance;
    labels: (N,);  left: the share of the time that is left, from 1 to 0;  fixed: further arrays of the loss;
    direction: params go along -rate · direction(gradient); that of Adam if not given. The rate rises for a hundred
    steps, or for this `share` of the time if that is shorter; then it is proportional to left(), so that it is 0 at the
    end.
    """
    check.number("share", share, 0, 1)
    rng, key, n = np.random.default_rng(seed), jax.random.key(seed), 0
    average, state = params, direction.init(params)
    while (rest := left()) > 0:
        i, rise = rng.integers(len(images), size=BATCH), max(n / WARM, (1 - rest) / share if share else 0)
        rate = RATE * rest * min(1.0, rise)
        now, to = (params, average, state), jax.random.fold_in(key, n)
        params, average, state = _step(loss, direction, now, (n, rate), to, images[i], labels[i], fixed)
        jax.block_until_ready(average)
        n += 1
    return average


@partial(jax.jit, static_argnums=(0, 1))
def _step(
    loss: Any, direction: Any, now: tuple, when: tuple, key: Any, images: Any, labels: Any, fixed: tuple
) -> tuple:
    (params, average, state), (n, rate) = now, when
    x0 = images / 127.5 - 1 if images.dtype == "uint8" else images
    grad = jax.grad(loss)(params, key, x0, labels, *fixed)
    change, state = direction.update(grad, state, params)
    params = jax.tree.map(lambda p, u: p - rate * u, params, change)
    return params, update(average, params, ema_decay(n, 0.995)), state
