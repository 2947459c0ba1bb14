"""Algorithm 1 without a network: gradient descent on a parabola, whose path is known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddpm.train import TrainState, make_step


def test_a_parabola_is_descended_along_its_closed_form():
    """‖θ - b‖²/2 with rate r: θ_n = b + (1-r)ⁿ (θ_0 - b); the average is Σ of the path, weighted by Π β."""
    r, decay, target = 0.25, 0.9, jnp.array([3.0, -1.0])
    start, optimiser = {"w": jnp.array([0.0, 2.0])}, optax.sgd(r)
    step = make_step(lambda params, b: ((params["w"] - b) ** 2).sum() / 2, optimiser, decay)
    state = TrainState(jnp.int32(0), start, jax.tree.map(jnp.copy, start), optimiser.init(start))
    ema = np.array([0.0, 2.0])
    for n in range(1, 31):
        before = np.asarray(state.params["w"])
        state, loss = step(state, target)
        assert int(state.step) == n
        np.testing.assert_allclose(loss, ((before - target) ** 2).sum() / 2, rtol=1e-6)
        theta = np.asarray(target) + (1 - r) ** n * (np.array([0.0, 2.0]) - np.asarray(target))
        np.testing.assert_allclose(state.params["w"], theta, atol=1e-6)
        beta = min(decay, n / (9 + n))  # after step n = 1, 2, …
        ema = beta * ema + (1 - beta) * theta
        np.testing.assert_allclose(state.ema["w"], ema, atol=1e-5)
