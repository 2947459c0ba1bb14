"""CLIP's loss by its optimum, its bound and its floor; the scores of `wardrobe` and CLIP guidance with them."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm.contracts import Partial
from ddpm.datasets.wardrobe import captions, drawing, law, matching
from ddpm.datasets.wardrobe.words import ATTRIBUTES
from ddpm.guides.rules import classifier
from ddpm.losses.contrastive import clip_loss, cosines, loss_of_logits, lowest_loss
from ddpm.schedule import cosine

Z = drawing.draw_attributes(4096, 5)
VALUES = drawing.values_of(Z)
SAID = matching.noisy(VALUES)
KEY = jax.random.key(0)


def test_equal_scores_give_log_n_and_the_axes_are_two():
    assert float(loss_of_logits(jnp.full((7, 7), 3.0))) == pytest.approx(math.log(7))
    s = jax.random.normal(KEY, (5, 5))
    assert float(loss_of_logits(s)) == pytest.approx(float(loss_of_logits(s.T)), rel=1e-6)
    rows = s + jnp.arange(5.0)[:, None]  # a function of the image changes the softmax over images only
    p = np.exp(np.asarray(rows, np.float64))
    by_hand = -np.log(np.diag(p) / p.sum(1)).mean() / 2 - np.log(np.diag(p) / p.sum(0)).mean() / 2
    assert float(loss_of_logits(rows)) == pytest.approx(by_hand, rel=1e-5)
    with pytest.raises(ValueError, match=r"\(5, 4\)"):
        loss_of_logits(s[:, :4])
    with pytest.raises(ValueError, match="one length"):
        cosines(s, s[:, :4])


def test_the_pointwise_mutual_information_is_the_optimum():
    """Any joint distribution, all batches of 2 drawn from it: the gradient of the expected loss at s* is 0."""
    p = np.random.default_rng(0).dirichlet(np.ones(6)).reshape(2, 3)
    pairs = list(itertools.product(range(2), range(3)))
    batches = list(itertools.product(pairs, pairs))
    weight = jnp.array([p[a] * p[b] for a, b in batches])
    x, T = (jnp.array([[pair[i] for pair in batch] for batch in batches]) for i in (0, 1))

    def expected(s):
        return (weight * jax.vmap(lambda x, T: loss_of_logits(s[x][:, T]))(x, T)).sum()

    best = jnp.array(np.log(p / p.sum(1, keepdims=True) / p.sum(0)))
    slope = jax.jit(jax.grad(expected))
    assert np.abs(slope(best)).max() < 1e-6 < 1e-3 < np.abs(slope(1.1 * best)).max()


def test_without_a_temperature_one_nat_is_learned_at_most():
    for N in (2, 8, 64):
        corners = jnp.eye(N) - 1 / N
        for tau in (1.0, 5.0):
            assert float(clip_loss(corners, corners, math.log(tau))) == pytest.approx(
                lowest_loss(N, tau), rel=1e-5, abs=1e-6
            )
        other = jax.random.normal(KEY, (2, N, N))
        assert float(clip_loss(*other, 0.0)) > lowest_loss(N)
    assert lowest_loss(10**7) == pytest.approx(math.log(10**7) - 1, abs=1e-5)
    with pytest.raises(ValueError, match="N is 1"):
        lowest_loss(1)


def test_tau_is_kept_between_1_and_100():
    f, g = jax.random.normal(KEY, (2, 4, 3))
    for log_tau, kept in ((-1.0, 1.0), (9.0, 100.0), (2.0, math.exp(2))):
        assert float(clip_loss(f, 5 * g, log_tau)) == pytest.approx(
            float(loss_of_logits(kept * cosines(f, g))), rel=1e-5
        )


# --- the world --------------------------------------------------------------------------------------------------------


def test_the_scores_are_what_the_noise_of_words_makes_of_bayes():
    """Σ_T p(T) e^(s*(x, T)) = 1 over all captions of two attributes; and p(value | word) is `asked` with noise."""
    words = [(w, n) for w in range(-1, 6) for n in range(-1, 2)]
    said = np.full((len(words), 8), -1)
    said[:, [0, 7]] = words
    prior = [(0.1 if w < 0 else 0.9 / 6) * (0.1 if n < 0 else 0.9 / 2) for w, n in words]
    s = matching.log_ratio(VALUES[:50], said, 0.3)
    np.testing.assert_allclose(np.exp(s) @ prior, 1, rtol=1e-6)
    weight = np.asarray(law.asked(said[10:11], 0.3).geometry)  # a word of a garment, as evidence
    each = weight[0, law.shapes().attributes[:, 0].searchsorted(np.arange(6))]
    np.testing.assert_allclose(
        np.exp(each).sum(), 1, rtol=1e-6
    )  # p(word | garment) over garments, of a symmetric noise
    np.testing.assert_allclose(each + np.log(6), matching.tables(0.3)[0][:, said[10, 0]], atol=1e-6)


def test_words_are_replaced_as_often_as_said():
    changed = (SAID != VALUES)[:, matching.COLUMNS].mean(0)
    expected = 0.1 * (1 - 1 / np.array(matching.SIZES))
    assert (np.abs(changed - expected) < 4 * np.sqrt(expected / 4096)).all()
    kept = matching.noisy(captions.mentioned(VALUES), 0.0)
    np.testing.assert_array_equal(kept[:, 0], captions.mentioned(VALUES)[:, 0])
    for wrong in (0.0, 1.1):
        with pytest.raises(ValueError, match=f"noise is {wrong}"):
            matching.tables(wrong)
    with pytest.raises(ValueError, match="noise is -1"):
        law.asked(VALUES[:1], -1)


def test_the_loss_of_the_exact_scores_and_its_bound():
    """I = E s* = 7.43 nats; log N - I ≤ L at every N, and L is that of the embeddings f, g with their τ."""
    s = np.stack([matching.log_ratio(VALUES[i : i + 1], SAID[i : i + 1])[0, 0] for i in range(512)])
    assert matching.information() == pytest.approx(s.mean(), abs=4 * s.std() / math.sqrt(512))
    for N in (16, 64, 256):
        batches = [matching.log_ratio(VALUES[i : i + N], SAID[i : i + N]) for i in range(0, 4096, N)]
        L = jax.vmap(loss_of_logits)(jnp.asarray(np.stack(batches)))
        assert L.mean() > math.log(N) - matching.information()
    f, g, tau = matching.embeddings(VALUES[:64], SAID[:64])
    exact = matching.log_ratio(VALUES[:64], SAID[:64])
    np.testing.assert_allclose(tau * f @ g.T, exact, atol=1e-9)
    np.testing.assert_allclose([*(f**2).sum(1), *(g**2).sum(1)], 1)
    few = captions.mentioned(VALUES[:64])
    f, g, tau = matching.embeddings(VALUES[:64], few)
    np.testing.assert_allclose(tau * f @ g.T, matching.log_ratio(VALUES[:64], few), atol=1e-9)
    np.testing.assert_allclose((g**2).sum(1), 1)
    loss = clip_loss(jnp.asarray(f), jnp.asarray(g), math.log(tau))
    assert float(loss) == pytest.approx(float(loss_of_logits(jnp.asarray(tau * f @ g.T))), rel=1e-4)


def test_27_dimensions_carry_the_scores():
    s = matching.log_ratio(VALUES[:512], SAID[:512])
    singular = np.linalg.svd(s, compute_uv=False)
    rank = 1 + sum(K - 1 for K in matching.SIZES)
    assert rank == 27 and singular[rank - 1] > 1 and singular[rank] < 1e-9


def test_zero_shot_needs_the_prior_where_classes_are_unequal():
    """Captions of 0 to 2 attributes: argmax_T s* + log p(T) is right most often; s* alone prefers long captions."""
    said = captions.mentioned(VALUES, 3, 0.3)
    said[:, [i for i, name in enumerate(ATTRIBUTES) if name not in ("garment", "light")]] = -1
    classes = np.array([[g, -1, -1, -1, -1, -1, -1, n] for g in range(-1, 6) for n in range(-1, 2)])
    prior = np.array([(0.7 if c[0] < 0 else 0.3 / 6) * (0.7 if c[7] < 0 else 0.15) for c in classes])
    s = matching.log_ratio(VALUES, classes)
    heard = matching.noisy(said, seed=1)
    truth = (heard[:, None] == classes[None]).all(-1).argmax(1)
    without, with_prior = ((truth == (s + shift).argmax(1)).mean() for shift in (0, np.log(prior)))
    best = (prior * np.exp(s)).max(1).mean()  # E max_T p(T | x): no rule is right more often
    assert with_prior == pytest.approx(best, abs=0.03) and without < 0.2


@pytest.mark.slow
def test_clip_guidance_with_the_scores_of_noisy_pictures_is_exact():
    """ε*(x_t, ∅) - √(1-ᾱ_t) ∇ s*(x_t, T) = ε*(x_t, T) at scale 1, s* being log p(x_t | T)/p(x_t)."""
    schedule, world = cosine(1000), law.distribution()

    def score(x_t, t, c):
        return world.log_prob(schedule, x_t, t, c) - world.log_prob(schedule, x_t, t)

    eps = world.eps(schedule)
    guided = jax.jit(classifier(eps, schedule, Partial(score), 1.0))
    c = law.asked(captions.mentioned(VALUES[:4]))
    x_T = jax.random.normal(KEY, (4, 28, 28, 3))
    for t, within in ((800, 1e-4), (500, 1e-4)):
        np.testing.assert_allclose(guided(x_T, jnp.full(4, t), c), eps(x_T, jnp.full(4, t), c), atol=within)
