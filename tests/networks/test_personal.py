"""What is trained beside frozen weights: LoRA and the row of a new word, by their identities."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import random_params

from ddpm.networks.crossattention import build_text
from ddpm.networks.inspect import param_shapes
from ddpm.networks.lora import Lora, change, digest, make_lora, merged
from ddpm.networks.new_word import row, spoken, with_word
from ddpm.networks.text_config import TEXTS, TextConfig
from ddpm.tools import tokens
from ddpm.tools.conditions import Condition
from ddpm.tools.files import flatten, unflatten

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
WORDS = ("a", "red", "dress")
SIZES = {"channels": 8, "multipliers": (1,), "blocks": 1, "attention": (), "groups": 4}
CONFIG = TextConfig(8, 1, **SIZES, words=WORDS, tokens=6, text_width=8, text_layers=1, text_heads=2)
BASE = {"layer": {"kernel": jnp.asarray(RNG.normal(size=(6, 5)), jnp.float32), "bias": jnp.ones(5)}}


def everywhere(name):
    return True


def random_lora(rank, alpha=None, seed=1):
    lora = make_lora(jax.random.key(seed), BASE, rank, alpha, everywhere)
    return lora.replace(pairs=jax.tree.map(lambda a: jax.random.normal(jax.random.key(seed), a.shape), lora.pairs))


def test_a_new_adapter_changes_nothing_and_only_b_has_a_gradient():
    lora = make_lora(KEY, BASE, 2, of=everywhere)
    jax.tree.map(np.testing.assert_array_equal, merged(BASE, lora), BASE)
    x = jax.random.normal(KEY, (7, 6))
    grad = jax.grad(lambda p: ((x @ merged(BASE, lora.replace(pairs=p))["layer"]["kernel"]) ** 2).sum())(lora.pairs)
    A, B = grad["layer/kernel"]
    assert float(jnp.abs(A).max()) == 0 < float(jnp.abs(B).max())


def test_merged_is_beside_and_the_rank_is_bounded():
    """x W = x W_0 + (α/r) (x A) B; scale 0 is the base; twice the rank with one α halves the factor; unmerge by -1."""
    x = np.asarray(jax.random.normal(KEY, (7, 6)))
    for rank in (1, 3):
        lora = random_lora(rank, 6.0)
        A, B = map(np.asarray, lora.pairs["layer/kernel"])
        W, W0 = (np.asarray(p["layer"]["kernel"]) for p in (merged(BASE, lora), BASE))
        np.testing.assert_allclose(x @ W, x @ W0 + 6 / rank * (x @ A) @ B, rtol=1e-5, atol=1e-5)
        assert np.linalg.matrix_rank(W - W0, 1e-4) == rank and lora.rank == rank
        np.testing.assert_array_equal(merged(BASE, lora, scale=0.0)["layer"]["kernel"], W0)
        back = merged({"layer": BASE["layer"] | {"kernel": jnp.asarray(W)}}, replaced(lora, W), scale=-1.0)
        np.testing.assert_allclose(back["layer"]["kernel"], W0, atol=1e-5)
    np.testing.assert_array_equal(merged(BASE, random_lora(2))["layer"]["bias"], BASE["layer"]["bias"])


def replaced(lora, W):
    """The adapter as one of the merged parameters, to take it out again."""
    return lora.replace(base=digest({"layer": BASE["layer"] | {"kernel": jnp.asarray(W)}}))


def test_two_adapters_add_where_that_is_wanted():
    a, b = random_lora(1, seed=1), random_lora(2, seed=2)
    with pytest.raises(ValueError, match="two adapters change layer/kernel"):
        merged(BASE, a, b)
    both = merged(BASE, a, b, add=True)["layer"]["kernel"]
    sum_of = BASE["layer"]["kernel"] + change(a)["layer/kernel"] + change(b)["layer/kernel"]
    np.testing.assert_allclose(both, sum_of, rtol=1e-5, atol=1e-6)


def test_each_layer_has_its_own_rank():
    """α/r with the r of the layer: one α for layers of rank 1 and 4 would give the latter four times its change."""
    base = {"a": {"kernel": jnp.zeros((6, 5))}, "b": {"kernel": jnp.zeros((6, 5))}}
    pairs = {
        f"{n}/kernel": (jnp.ones((6, r)) / r, jnp.ones((r, 5))) for n, r in (("a", 1), ("b", 4))
    }  # A B is all ones of both
    delta = change(Lora(pairs, 8.0, digest(base)))
    assert float(delta["a/kernel"][0, 0]) == 8 and float(delta["b/kernel"][0, 0]) == 2


def test_training_reaches_the_best_change_of_its_rank():
    """A linear task with white inputs: E‖x (W - W*)‖² falls to Σ_{i>r} σ_i² of W* - W_0, and no lower."""
    wanted = np.linalg.qr(RNG.normal(size=(6, 6)))[0][:, :5] * np.array([3, 2, 1, 0.5, 0.2]) @ np.eye(5)
    lora = make_lora(KEY, BASE, 2, of=everywhere)
    loss = lambda p: ((change(lora.replace(pairs=p))["layer/kernel"] - wanted) ** 2).sum()  # noqa: E731

    def step(p, _):
        return jax.tree.map(lambda a, g: a - 0.02 * g, p, jax.grad(loss)(p)), None

    trained, _ = jax.lax.scan(step, lora.pairs, length=3000)
    assert float(loss(trained)) == pytest.approx(1 + 0.25 + 0.04, rel=1e-3)


def test_rank_4_of_all_cross_attentions_is_12288_numbers():
    shapes = param_shapes(replace(TEXTS["wardrobe"], words=tuple("abc")))
    params = unflatten({k: np.zeros(a.shape, np.float32) for k, a in flatten(shapes).items()})
    assert sum(a.size for a in jax.tree.leaves(make_lora(KEY, params).pairs)) == 12_288


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: merged(jax.tree.map(lambda a: a + 1, BASE), random_lora(1)), "load its base"),
        (lambda: make_lora(KEY, BASE), "of accepts the name of no kernel"),
        (lambda: make_lora(KEY, BASE, 6, of=everywhere), "shape .6, 5.; a change of rank 6"),
        (lambda: make_lora(KEY, BASE, 0), "rank is 0"),
        (lambda: with_word(CONFIG, random_params(CONFIG), "red", "red"), "word is 'red'"),
        (lambda: with_word(CONFIG, random_params(CONFIG), "<s1>", "drss"), "Did you mean 'dress'"),
        (lambda: spoken(random_params(CONFIG), jnp.zeros(3)), r"v has shape \(3,\)"),
        (lambda: spoken(random_params(CONFIG), jnp.full(8, jnp.nan)), "v is"),
        (lambda: spoken(random_params(CONFIG), jnp.zeros(8), replace(CONFIG, words=(*WORDS, "<s1>"))), "with_word"),
        (lambda: tokens.encode("a red", WORDS, 6), "texts is the one text 'a red'"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.slow
def test_a_new_word_means_what_its_model_means_and_moves_alone():
    """Step 0 to the bit; the gradient in v is that of its row of the whole table, and 0 where the word is not said."""
    config, params = with_word(CONFIG, random_params(CONFIG), "<s1>", "dress")
    apply, x, t = build_text(config)[1], jax.random.normal(KEY, (2, 8, 8, 1)), jnp.array([3, 40])
    said, old = (tokens.encode([text, "a red"], config.words, 6) for text in ("a red <s1>", "a red dress"))
    loss = jax.jit(lambda p, text: (apply(p, x, t, Condition(text=text)) ** 2).sum())
    assert float(loss(params, said)) == float(loss(params, old))
    grad = jax.jit(jax.grad(lambda v, text: loss(spoken(params, v), text)))
    whole = jax.grad(lambda p: loss(p, said))(params)["text"]["table"]
    np.testing.assert_allclose(grad(row(params), said), whole[-1], rtol=1e-4, atol=1e-5)
    assert float(jnp.abs(whole[-1]).max()) > 0 == float(jnp.abs(grad(row(params), old)).max())
    assert float(jnp.abs(whole[2 + WORDS.index("dress")]).max()) == 0
    moved = spoken(params, row(params) - 0.1 * grad(row(params), said))
    same = jax.tree.map(lambda a, b: bool((a == b).all()), params, moved)
    assert [k for k, v in flatten(same).items() if not v] == ["text/table"]
    np.testing.assert_array_equal(moved["text"]["table"][:-1], params["text"]["table"][:-1])
    assert isinstance(make_lora(KEY, params, 1), Lora)
