"""DiffuseVAE's second form, a chain around a draft, is DDPM on the residual."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import latents, oracle
from ddpm.forward import q_sample
from ddpm.sample import ddim_step, ddpm_step, walk
from ddpm.schedule import linear, make_times


def test_the_chain_around_a_draft_has_the_papers_mean_and_noise():
    schedule, rng = linear(), np.random.default_rng(0)
    x0, draft, eps = (jnp.asarray(rng.normal(size=(4, 3)), jnp.float32) for _ in range(3))
    t = jnp.array([1, 200, 700, 1000])
    a = np.asarray(schedule.alpha_bar)[t][:, None]
    expected = np.sqrt(a) * x0 + (1 - np.sqrt(a)) * draft + np.sqrt(1 - a) * eps
    np.testing.assert_allclose(latents.q_around(schedule, x0, draft, t, eps), expected, atol=1e-5)
    np.testing.assert_allclose(
        latents.q_around(schedule, x0, 0 * draft, t, eps), q_sample(schedule, x0, t, eps), atol=1e-6
    )


@pytest.mark.parametrize("make", [ddim_step, ddpm_step])
def test_walking_around_a_draft_is_walking_the_residual(make, x64):
    """Begun at x̂ + ε, with a denoiser of the residual; and data that are a draft and a Gaussian come out exactly."""
    schedule, key, times = linear(), jax.random.key(1), make_times(1000, 20)
    draft, noise = jax.random.normal(key, (6, 3)), jax.random.normal(jax.random.key(2), (6, 3))
    step = make(oracle.gaussian(np.zeros(3), np.diag([2.0, 0.5, 0.1])).eps(schedule), schedule)
    around = walk(latents.around(step, draft), key, draft + noise, times)
    np.testing.assert_allclose(around, draft + walk(step, key, noise, times), atol=1e-10)


def test_a_residual_of_nothing_leaves_the_draft(x64):
    """Where the draft is the image, x0 - x̂ = 0 and every start ends at the draft: form 2 with no diffusion left."""
    schedule, key = linear(), jax.random.key(0)
    draft = jax.random.normal(key, (5, 2))
    step = ddim_step(oracle.gaussian(np.zeros(2), 1e-12).eps(schedule), schedule)
    x = walk(
        latents.around(step, draft), key, draft + jax.random.normal(jax.random.key(3), (5, 2)), make_times(1000, 50)
    )
    np.testing.assert_allclose(x, draft, atol=1e-5)


def test_shapes_that_differ_are_refused():
    schedule = linear()
    with pytest.raises(ValueError, match="draft has shape"):
        latents.q_around(schedule, jnp.ones((2, 3)), jnp.ones((1, 3)), 5, jnp.ones((2, 3)))
    step = latents.around(lambda key, x, t, s: x, jnp.ones((1, 3)))
    with pytest.raises(ValueError, match="draft has shape"):
        step(jax.random.key(0), jnp.ones((2, 3)), 5, 4)
