"""A finite table of codes: the nearest, the gradient around the choice, and the best table of a Gaussian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import latents
from ddpm.latents import vq


def test_the_nearest_entry_is_the_nearest():
    rng = np.random.default_rng(0)
    z, table = rng.normal(size=(2, 3, 5, 4)), rng.normal(size=(7, 4))
    brute = np.linalg.norm(z[..., None, :] - table, axis=-1).argmin(-1)
    np.testing.assert_array_equal(latents.nearest(jnp.asarray(z), jnp.asarray(table)), brute)
    assert int(latents.nearest(jnp.zeros((1, 1)), jnp.array([[1.0], [-1.0]]))[0]) == 0  # a tie: the first


def test_the_choice_hands_the_decoders_gradient_to_the_codes():
    """The gradient of ½‖z_q - a‖² at z is z_q - a, not z - a and not 0; the table gets none of it."""
    z, table, a = jnp.array([[0.3], [2.2]]), jnp.array([[0.0], [2.0]]), jnp.array([[1.0], [1.0]])

    def loss(z, table):
        return 0.5 * ((latents.quantise(z, table).z - a) ** 2).sum()

    by_z, by_table = jax.grad(loss, (0, 1))(z, table)
    np.testing.assert_allclose(latents.quantise(z, table).z, [[0.0], [2.0]], atol=1e-7)
    np.testing.assert_allclose(by_z, [[-1.0], [1.0]], atol=1e-6)
    np.testing.assert_allclose(by_table, 0)


def test_one_term_moves_the_table_and_the_other_the_codes():
    """A step of the first, of the right size, puts an entry at the mean of its codes: one step of k-means."""
    z, table = jnp.array([[0.1], [0.5], [2.2], [2.4]]), jnp.array([[0.0], [2.0]])
    moves = jax.grad(lambda z, e: latents.quantise(z, e).table_loss, (0, 1))(z, table)
    np.testing.assert_allclose(moves[0], 0)
    np.testing.assert_allclose(table - moves[1], [[0.3], [2.3]], atol=1e-6)  # 2 codes of 4: slope (e - mean)
    moves = jax.grad(lambda z, e: latents.quantise(z, e).commitment, (0, 1))(z, table)
    np.testing.assert_allclose(moves[0], [[0.05], [0.25], [0.1], [0.2]], atol=1e-6)
    np.testing.assert_allclose(moves[1], 0)


def test_the_loss_of_three_terms_moves_encoder_decoder_and_table_each_by_its_own():
    """x0 = .3, z_e = w x0, decode(z) = a z at w = 1, a = 2, table {0, 1}: z_q = 0, and all slopes by hand.

    The encoder is moved by the copy as if z_q were z_e, and by the commitment; the decoder by the copy at z_q; the
    table by its own term alone.
    """
    x0 = jnp.array([[0.3]])

    def loss(w, a, table):
        return latents.vq_loss(lambda x: w * x, lambda z: a * z, table, x0)

    value, slopes = jax.value_and_grad(loss, (0, 1, 2))(1.0, 2.0, jnp.array([[0.0], [1.0]]))
    assert value == pytest.approx(0.09 + 0.09 + 0.25 * 0.09)
    assert slopes[0] == pytest.approx(2 * (2 * 0 - 0.3) * 2 * 0.3 + 0.25 * 2 * 0.3 * 0.3)
    assert slopes[1] == pytest.approx(0, abs=1e-7)  # z_q = 0
    np.testing.assert_allclose(slopes[2], [[-0.6], [0.0]], atol=1e-6)


def test_a_decoder_with_a_table_makes_of_a_code_what_it_makes_of_the_nearest_entry():
    """So drawing on codes and drawing on their entries is one; and the codec of both keeps the scale of the codes."""
    table = jnp.array([[-1.0, 0.0], [2.0, 1.0]])
    decode = latents.through_table(lambda z: 3 * z, table)
    z = jnp.array([[-0.4, 0.1], [1.0, 1.0], [2.0, 1.0]])
    np.testing.assert_allclose(decode(z), 3 * table[jnp.array([0, 1, 1])])
    np.testing.assert_allclose(jax.jit(lambda f, z: f(z))(decode, z), decode(z))
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    codec = latents.with_scale(lambda x: x / 3, decode, x)
    assert codec.encoded(x).std() == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(codec.to_image(codec.to_latent(x)), 3 * table[latents.nearest(x / 3, table)], atol=1e-5)


def test_perplexity_counts_the_entries_in_use():
    assert latents.perplexity(np.arange(12).reshape(3, 4) % 4, 8) == pytest.approx(4)
    assert latents.perplexity([5] * 9, 8) == 1
    assert latents.perplexity([0, 0, 0, 1], 2) == pytest.approx(4 / 3**0.75)


@pytest.mark.parametrize(
    ("K", "error", "entries", "perplexity"),
    [
        (1, 1.0, [0.0], 1.0),
        (2, 1 - 2 / np.pi, [np.sqrt(2 / np.pi)], 2.0),  # the mean of a half Gaussian
        (4, 0.11748, [0.4528, 1.5104], 3.761),  # Max 1960, Table I
        (8, 0.03454, [0.2451, 0.7560, 1.344, 2.152], 7.086),
        (16, 0.009497, [0.1284], 13.60),
    ],
)
def test_the_best_tables_of_a_gaussian(K, error, entries, perplexity):
    table = latents.lloyd_max(K)
    assert table.error == pytest.approx(error, rel=1e-3)
    np.testing.assert_allclose(
        table.entries[(K + (K > 1)) // 2 :][: len(entries)] if K > 1 else table.entries, entries, atol=6e-4
    )
    assert np.exp(-(table.share * np.log(table.share)).sum()) == pytest.approx(perplexity, rel=1e-3)
    # on draws: the error and the shares of the nearest entries
    z = np.random.default_rng(0).normal(size=(100_000, 1))
    found = latents.quantise(jnp.asarray(z, jnp.float32), jnp.asarray(table.entries[:, None], jnp.float32))
    assert float(found.commitment) == pytest.approx(table.error, rel=0.02)
    assert latents.perplexity(found.entry, K) == pytest.approx(perplexity, rel=0.01)


def test_no_table_near_the_best_is_better():
    table = latents.lloyd_max(4)
    z = np.random.default_rng(1).normal(size=400_000)

    def error(entries):
        return (np.abs(z[:, None] - entries).min(1) ** 2).mean()

    for i in range(4):
        for move in (-0.1, 0.1):
            assert error(table.entries + move * (np.arange(4) == i)) > error(table.entries)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: latents.nearest(jnp.ones((2, 3)), jnp.ones((4, 2))), r"table has shape \(4, 2\); give K entries"),
        (lambda: latents.straight_through(jnp.ones(2), jnp.ones(3)), "z_q has shape"),
        (
            lambda: latents.vq_loss(lambda x: x, lambda z: z[:1], jnp.ones((4, 2)), jnp.ones((3, 2))),
            "the copy has shape",
        ),
        (lambda: latents.vq_loss(jnp.sin, jnp.sin, jnp.ones((4, 2)), jnp.ones((3, 2)), -1), "beta is -1"),
        (lambda: latents.perplexity([0, 4], 4), r"whole numbers in 0\.\.3"),
        (lambda: latents.perplexity([], 4), "at least one"),
        (lambda: latents.lloyd_max(0), "K is 0"),
    ],
)
def test_bad_input_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_the_weight_of_the_commitment_is_that_of_the_paper():
    assert vq.COMMITMENT == 0.25
