"""The transformer of images as a denoiser of tokens: what it is at first, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm.discrete import hidden_nll, token_config, token_denoiser, token_image, token_init
from ddpm.networks import build

ROWS, COLUMNS, V = 2, 3, 5
CONFIG = token_config(ROWS, COLUMNS, V, channels=8, blocks=1, attention_heads=2)


@pytest.fixture(scope="module")
def params():
    return build(CONFIG)[0](jax.random.key(0))


compiled = jax.jit(lambda f, x, t, c: f(x, t, c))  # one program for all tests


def test_a_new_network_has_the_loss_m_log_v_and_open_tokens_are_certain(params):
    """m hidden tokens: so J log V on average, J/m times as much."""
    f, rng = token_denoiser(CONFIG, params), np.random.default_rng(0)
    x, hidden = rng.integers(0, V, (4, ROWS * COLUMNS)), rng.random((4, ROWS * COLUMNS)) < 0.5
    nll = hidden_nll(lambda *args: compiled(f, *args), jnp.asarray(x), jnp.asarray(hidden), V)
    np.testing.assert_allclose(nll, hidden.sum(1) * np.log(V), rtol=1e-6)
    p = np.asarray(compiled(f, np.where(hidden, V, x), None, None))
    np.testing.assert_array_equal(p[~hidden], np.eye(V)[x[~hidden]])


def test_channel_v_is_the_value_v_and_the_channel_of_the_mask_does_not_count(params):
    """With a last layer that answers a_v wherever it looks, p ∝ e^(a_v)."""
    logits = np.array([0.0, 0.3, -1.0, 0.7, 2.0, 5.0])
    told = params | {"last": {"kernel": params["last"]["kernel"], "bias": jnp.asarray(logits, jnp.float32)}}
    f, hidden = token_denoiser(CONFIG, told), np.full((4, ROWS * COLUMNS), V)
    expected = np.exp(logits[:V]) / np.exp(logits[:V]).sum()
    np.testing.assert_allclose(compiled(f, hidden, None, None), np.broadcast_to(expected, (4, 6, V)), rtol=1e-5)


def test_through_open_gates_a_first_step_of_the_last_layer_sees_the_other_tokens(params):
    """In a new network only the last layer has a gradient; behind closed gates it knows nothing but places."""
    x = jnp.asarray(np.random.default_rng(1).integers(0, V, (8, ROWS * COLUMNS)))
    hidden = jnp.zeros(x.shape, bool).at[:, 0].set(True)
    a, b = jnp.full((1, ROWS * COLUMNS), V), jnp.full((1, ROWS * COLUMNS), V).at[0, 5].set(2)  # token 0 is hidden

    @jax.jit
    def told(p):
        def loss(p):
            return hidden_nll(token_denoiser(CONFIG, p), x, hidden, V).mean()

        slopes = jax.grad(loss)(p)
        moved = jax.tree.map(lambda w, g: w - 10 * g, p, slopes)
        f = token_denoiser(CONFIG, p | {"last": moved["last"]})
        blocks = jnp.stack([jnp.abs(g).max() for g in jax.tree.leaves(slopes["layers"])]).max()
        return jnp.abs(token_denoiser(CONFIG, p)(a) - 1 / V).max(), blocks, jnp.abs(f(a) - f(b))[0, 0].max()

    opened = token_init(CONFIG, jax.random.key(0))
    for p, differs in ((params, False), (opened, True)):
        new, blocks, gap = map(float, told(p))
        assert new < 1e-6 and blocks == 0 and (gap > 1e-3 if differs else gap < 1e-6)
    jax.tree.map(np.testing.assert_array_equal, opened["last"], params["last"])


def test_the_mean_square_of_an_input_channel_is_1_however_many_values_there_are():
    for values in (3, 200):
        x = np.random.default_rng(2).integers(0, values + 1, (4, 6))
        image = token_image(jnp.asarray(x), ROWS, COLUMNS, values)
        assert image.shape == (4, ROWS, COLUMNS, values + 1)
        np.testing.assert_array_equal(image.argmax(-1).reshape(4, 6), x)
        assert float((image**2).mean()) == pytest.approx(1, rel=1e-6)


def test_tokens_outside_of_the_vocabulary_are_refused(params):
    f, x = token_denoiser(CONFIG, params), np.zeros((2, ROWS * COLUMNS), int)
    for wrong, why in (
        (x + 6, r"x_t lies in 6..6, outside of the vocabulary 0..5 \(5 = hidden\)"),
        (x - 1, r"x_t lies in -1..-1, outside"),
        (x[:, :4], r"x_t has shape \(2, 4\) and type int32; give integer tokens \(B, 6\)"),
        (x + 0.5, "give integer tokens"),
    ):
        with pytest.raises(ValueError, match=why):
            f(wrong, None)
    with pytest.raises(ValueError, match="V is 0; give a whole number >= 1"):
        token_config(2, 3, 0)
