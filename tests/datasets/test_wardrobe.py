"""The drawn garments: their law is that of the drawings under every condition, and the reader reads them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from ddpm import data
from ddpm.datasets.wardrobe import captions, drawing, evidence, law, silhouettes
from ddpm.datasets.wardrobe.words import ATTRIBUTES, COLOURS, SHADES, palette
from ddpm.oracles.region_colours import Evidence
from ddpm.sample import ddim_step, walk
from ddpm.schedule import cosine, from_alpha_bar, make_times

X, Z = drawing.draw(64, 0)
VALUES = drawing.values_of(Z)
NAMES = list(ATTRIBUTES)


def answer(schedule, x_t, t, c=None):
    """What the law answers about 64 pictures, with evidence that is complete: one program serves all conditions."""
    zeros = lambda *shape: np.zeros((64, *shape), np.float32)  # noqa: E731
    colours = tuple(zeros(n, k) for n, k in ((1, 16), (1, 16), (1, 16), (16, 2)))
    full = Evidence(zeros(288), zeros(2), colours, zeros(28, 28, 3), zeros(28, 28), zeros(28, 28), zeros(28, 28))
    c = Evidence() if c is None else c
    filled = (a if b is None else b for a, b in zip(full.colours, c.colours or (None,) * 4, strict=True))
    c = Evidence(*(a if b is None else b for a, b in zip(full, c, strict=True)))._replace(colours=tuple(filled))
    c = jax.tree.map(lambda a, b: jnp.broadcast_to(jnp.asarray(a), b.shape), c, full)
    return law.distribution().answer(schedule, jnp.asarray(x_t, jnp.float32), jnp.full(64, t), c)


def posterior_at(x0, t, c):
    """E[x0 | x_t, c] of noised pictures, the noise being that of a seed: x_t, x̂0."""
    schedule = cosine(1000)
    std = float(schedule.std[t])
    x_t = np.sqrt(1 - std**2) * x0 + std * np.random.default_rng(t).normal(size=x0.shape)
    x_t = jnp.asarray(x_t, jnp.result_type(float))
    return x_t, law.distribution().answer(schedule, x_t, t, c)


def test_drawing_is_a_function_of_seed_and_n():
    again, z = drawing.draw(64, 0)
    np.testing.assert_array_equal(again, X)
    assert all((a == b).all() for a, b in zip(z, Z, strict=True)) and (drawing.draw(64, 1)[0] != X).any()
    assert X.shape == (64, 28, 28, 3) and X.dtype == np.uint8
    with pytest.raises(ValueError, match="n is 0"):
        drawing.draw(0)


def test_288_geometries_and_their_hints_differ():
    s = silhouettes.shapes()
    assert len(np.unique(s.region.reshape(288, -1), axis=0)) == len(np.unique(s.attributes, axis=0)) == 288
    assert len(np.unique(s.silhouette.reshape(72, -1), axis=0)) == 72
    assert len(np.unique(evidence.hints("edges").reshape(288, -1), axis=0)) == 288
    np.testing.assert_array_equal(silhouettes.geometry(*s.attributes.T), np.arange(288))
    counts = np.array([np.bincount(r.ravel(), minlength=19) for r in s.region])
    badged = s.attributes[:, 4] == 3
    assert (counts[badged, 3:].min(1) == counts[badged, 3:].max(1)).all() and (counts[~badged, 3:] == 0).all()
    np.testing.assert_array_equal(counts[:, 2] > 0, np.isin(s.attributes[:, 4], (1, 2)))


def test_every_colour_of_a_role_and_light_is_another():
    for role in ("colour", "ink", "ground", "badge"):
        both = palette(role)
        assert all(len(np.unique(p, axis=0)) == len(p) for p in both)
        np.testing.assert_allclose(data.to_float(both[1]), 0.6 * data.to_float(both[0]) - 0.32, atol=1 / 127)


def test_the_reader_reads_every_drawing():
    """Everything that can be seen, bits of the badge too, with certainty 1."""
    found = law.read(data.to_float(X))
    np.testing.assert_array_equal(found.values, VALUES)
    badged = Z.pattern == 3
    np.testing.assert_array_equal(found.bits[badged], Z.bits[badged])
    assert (found.bits[~badged] == -1).all() and found.certainty.min() > 0.9999
    broken = data.to_float(X).copy()
    broken[:, 10:20] = -broken[:, 10:20]
    assert law.read(broken).log_prob.max() < found.log_prob.min()  # off the distribution


def test_it_is_the_sum_over_every_picture_of_one_geometry(x64):
    """16 colours of a striped garment, 2 inks of a word, 16 grounds, 2 lights: 1,024 pictures, in float64."""
    i = int(np.flatnonzero(Z.pattern == 1)[0])
    one = Z.take(np.array([i]))
    options = np.array(list(itertools.product(range(16), range(2), range(16), range(2))))
    many = Z.take(np.full(len(options), i))._replace(
        colour=options[:, 0] // SHADES, ground=options[:, 2] // SHADES, light=options[:, 3],
        shade=np.stack([options[:, 0] % SHADES, options[:, 1], options[:, 2] % SHADES], 1),
    )  # fmt: skip
    x0 = data.to_float(drawing.painted(many)).astype(np.float64).reshape(1024, -1)
    free = evidence.exactly(one, ("colour", "ground", "light", "ink"))
    c = evidence.merged(free, law.weights(ink=law.one_hot(one.ink, len(COLOURS))))
    for t in (900, 600, 300, 100):
        x_t, found = posterior_at(data.to_float(X[i : i + 1]), t, c)
        var = float(cosine(1000).std[t]) ** 2
        gap = ((np.asarray(x_t, np.float64).reshape(1, -1) - np.sqrt(1 - var) * x0) ** 2).sum(1)
        log_p = -gap / (2 * var)
        p = np.exp(log_p - logsumexp(log_p))
        np.testing.assert_allclose(np.asarray(found.x0).reshape(-1), p @ x0, atol=1e-11)
        theirs = logsumexp(log_p) - np.log(1024) - x0.shape[1] / 2 * np.log(2 * np.pi * var)
        assert float(found.log_prob[0]) == pytest.approx(theirs, rel=1e-10)


# --- conditions -------------------------------------------------------------------------------------------------------


def conditions():
    """Each condition of the drawings themselves: its evidence, and the values that it decides, -1 where it does not."""
    geometry = silhouettes.geometry(Z.garment, Z.size, Z.column, Z.row, Z.pattern)
    edges, silhouette = (evidence.hints(kind)[geometry] for kind in evidence.HINTS)
    sketch = edges ^ (np.random.default_rng(0).random(edges.shape) < 0.02)
    x0, every_second = data.to_float(X), np.indices((28, 28)).sum(0) % 2 == 0
    said, after, shape = captions.mentioned(VALUES), (Z.colour + 1) % 8, ("garment", "size", "column", "pattern")

    def only(*names):
        return np.where(np.isin(NAMES, names), VALUES, -1)

    edited = VALUES.copy()
    edited[:, NAMES.index("colour")] = after
    return {
        "caption": (law.asked(said), said),
        "edges": (evidence.outlined(edges), only(*shape)),
        "sketch": (evidence.outlined(sketch, flip=0.02), only(*shape)),
        "silhouette": (evidence.outlined(silhouette, "silhouette"), only(*shape[:3])),
        "every second pixel": (evidence.known(x0, every_second), VALUES),
        "grey": (evidence.in_grey(x0), only(*shape, "light")),
        "subject": (evidence.subject(Z.bits, Z.garment, Z.colour), only("garment", "colour")),
        "instruction": (evidence.instructed(Z, "colour", after), edited),
        "two at once": (evidence.merged(law.asked(only("colour")), evidence.outlined(edges)), only(*shape, "colour")),
    }


@pytest.mark.slow
def test_a_condition_decides_what_it_tells():
    """At t = T nothing is known but the condition, and the posterior of the attributes is that of the condition."""
    x_T = jax.random.normal(jax.random.key(0), (64, 28, 28, 3))
    for condition, (c, decided) in conditions().items():
        p = law.by_attribute(answer(cosine(1000), x_T, 1000, c))
        for i, name in enumerate(NAMES):
            told = decided[:, i] >= 0
            assert (p[name][told, decided[told, i]] > 0.99).all(), (condition, name)


@pytest.mark.slow
def test_a_caption_leaves_open_what_it_does_not_tell():
    """At t = T the posterior of what is not mentioned is the prior, up to what x_T tells."""
    values = law.asked(np.full((64, 8), -1))
    x_T = jax.random.normal(jax.random.key(0), (64, 28, 28, 3))
    p = law.by_attribute(answer(cosine(1000), x_T, 1000, values))
    for name in NAMES:
        np.testing.assert_allclose(p[name], 1 / len(ATTRIBUTES[name]), atol=0.02)


def test_a_known_pixel_tells_what_a_noisy_one_tells():
    """x_t with (1-ᾱ)/ᾱ = 4, and the same x_t/√ᾱ known with σ² = 4, are x_s with (1-ᾱ)/ᾱ = 2."""
    schedule = from_alpha_bar(np.append(1 / 3, np.linspace(1 / 5, 0.01, 999)))
    y = data.to_float(X) + 2 * np.random.default_rng(3).normal(size=X.shape).astype(np.float32)
    twice = Evidence(pixels=jnp.asarray(y), precision=jnp.full(X.shape[:3], 0.25))
    both = answer(schedule, np.sqrt(1 / 5) * y, 2, twice).x0
    np.testing.assert_allclose(both, answer(schedule, np.sqrt(1 / 3) * y, 1).x0, atol=3e-4)


def test_badge_bits_of_a_subject_are_asked_for():
    bits = np.where(np.arange(16) % 3 == 0, -1, Z.bits)
    x_T = jax.random.normal(jax.random.key(0), (64, 28, 28, 3))
    c = evidence.subject(bits, Z.garment, Z.colour)
    white = np.asarray(answer(cosine(1000), x_T, 1000, c).colours[3])[..., 1]
    np.testing.assert_allclose(white[bits >= 0], bits[bits >= 0], atol=1e-6)
    np.testing.assert_allclose(white[bits < 0], 0.5, atol=0.02)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: law.asked(np.zeros((2, 7), int)), "values has shape"),
        (lambda: law.asked(np.full((2, 8), 6)), "garment holds 6"),
        (lambda: law.weights(colours=np.zeros((1, 8))), "Did you mean 'colour'"),
        (lambda: evidence.outlined(np.zeros((1, 28, 28)), "edge"), "Did you mean 'edges'"),
        (lambda: evidence.outlined(np.zeros((1, 28, 28))), "of no geometry"),
        (lambda: evidence.outlined(np.zeros((1, 14, 14))), "hint has shape"),
        (lambda: evidence.outlined(np.full((1, 28, 28), 0.5)), "of 0 and 1"),
        (lambda: evidence.outlined(np.zeros((1, 28, 28)), flip=0.5), "flip is 0.5"),
        (lambda: evidence.known(X, True), "uint8"),
        (lambda: evidence.known(data.to_float(X), True, 0.0), "sigma is 0"),
        (lambda: evidence.badge(np.zeros((1, 9))), "bits has shape"),
        (lambda: evidence.instructed(Z, "hue", 0), "attribute 'hue'"),
        (
            lambda: evidence.merged(evidence.known(data.to_float(X), True), evidence.known(data.to_float(X), True)),
            "pixels",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, words):
    with pytest.raises((ValueError, TypeError), match=words):
        make()


# --- captions ---------------------------------------------------------------------------------------------------------


def every_caption():
    inks = lambda pattern: range(-1, 8) if pattern in (1, 2) else (-1,)  # noqa: E731
    some = itertools.product(range(-1, 6), range(-1, 2), range(-1, 3), range(-1, 4))
    shapes_inks = [(*s, ink) for s in some for ink in inks(s[3])]
    rest = np.array(list(itertools.product(range(-1, 8), range(-1, 8), range(-1, 2))))
    a = np.repeat(np.array(shapes_inks), len(rest), axis=0)
    b = np.tile(rest, (len(shapes_inks), 1))
    return np.column_stack([a[:, :4], b[:, 0], a[:, 4], b[:, 1:]])


def test_there_are_428652_captions_and_their_probabilities_sum_to_1():
    said = every_caption()
    assert len(said) == 428_652
    assert np.exp(captions.log_prob(said)).sum() == pytest.approx(1, abs=1e-9)


def test_a_caption_says_what_is_mentioned_and_is_read_back():
    said = every_caption()[::997]
    texts = [captions.caption(s) for s in said]
    assert len(set(texts)) == len(texts)
    np.testing.assert_array_equal([captions.parsed(t) for t in texts], said)
    assert (
        captions.caption(captions.parsed("A LARGE striped red dress, at night."))
        == "a large striped red dress at night"
    )


def test_words_are_left_out_as_often_as_they_should_be():
    values = drawing.values_of(drawing.draw_attributes(20_000, 3))
    said = captions.mentioned(values, 1)
    there = values >= 0
    assert (said[said >= 0] == values[said >= 0]).all()
    rate = np.array([(said[there[:, i], i] >= 0).mean() for i in range(8)])
    want = np.where(np.array(NAMES) == "ink", 0.81, 0.9)  # ink needs its pattern
    np.testing.assert_allclose(rate, want, atol=0.015)


@pytest.mark.parametrize(
    "prompt, words",
    [
        (" , ", "the prompt is empty"),
        ("a larg dress", "'larg', which is not known.*Did you mean 'large'"),
        ("a red blue dress", "two values of colour: red and blue"),
        ("a plain dress with red", "what is plain has no ink"),
    ],
)
def test_a_prompt_that_cannot_be_is_refused(prompt, words):
    with pytest.raises(ValueError, match=words):
        captions.parsed(prompt)


# --- pictures that are asked for --------------------------------------------------------------------------------------


def drawn_to(said, steps):
    """Pictures by DDIM with ε* of these captions, and what the reader finds right."""
    schedule = cosine(1000)
    step = ddim_step(law.distribution().eps(schedule), schedule, law.asked(said))
    x_T = jax.random.normal(jax.random.key(1), (len(said), 28, 28, 3))
    x0 = walk(step, jax.random.key(0), x_T, make_times(1000, steps))
    return law.right(law.read(jnp.clip(x0, -1, 1)), said)


def test_the_best_denoiser_draws_what_is_asked():
    assert drawn_to(captions.mentioned(VALUES, 2), 12).all()


@pytest.mark.slow
def test_50_steps_of_the_best_denoiser_have_all_attributes_right_in_256_of_256():
    values = drawing.values_of(drawing.draw_attributes(256, 7))
    assert drawn_to(captions.mentioned(values, 2), 50).all()
