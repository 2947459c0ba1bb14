"""Captions judged by the exact reader, the ceiling of a bag of words, and weights in float16."""

import dataclasses
import itertools
from collections import Counter

import jax
import numpy as np
import pytest
from tiny import TINY, random_params

from ddpm import data
from ddpm.datasets.wardrobe import captions, drawing
from ddpm.datasets.wardrobe.words import ATTRIBUTES
from ddpm.evaluation.prompts import PAINTED, bag_of_words, prompts_right, swapped, told_apart
from ddpm.schedule import cosine
from ddpm.zoo import half_size, model

NAMES = list(ATTRIBUTES)


def test_drawings_are_right_and_wrong_attribute_by_attribute():
    x, z = drawing.draw(64, 4)
    values = drawing.values_of(z)
    said = captions.mentioned(values, 1)
    assert all(m.value == 1 for m in prompts_right(data.to_float(x), said).values())
    wrong = said.copy()
    told = np.flatnonzero(said[:, 0] >= 0)[:10]
    wrong[told, 0] = (said[told, 0] + 1) % 6
    found = prompts_right(data.to_float(x) + 0.001, wrong, 4)
    n = (said[:, 0] >= 0).sum()
    assert found["garment"].n == n and found["garment"].value == pytest.approx(1 - 10 / n)
    assert found["all"].value == pytest.approx(54 / 64) and found["light"].value == 1
    low, high = found["all"].low_high
    assert low < 54 / 64 < high < 1 and found["all"].n == 64 and found["all"].seed == 4
    with pytest.raises(ValueError, match="63 pictures"):
        prompts_right(data.to_float(x[:63]), said)


def test_exchanged_colours_are_told_apart_where_both_pictures_are_right():
    z = drawing.draw_attributes(90, 9)
    assert len(swapped(drawing.values_of(z))[0]) == (z.colour != z.ground).sum()
    z = z.take(np.flatnonzero(z.colour != z.ground)[:64])
    kept, other = swapped(drawing.values_of(z))
    of_other = z._replace(colour=z.ground, ground=z.colour)
    np.testing.assert_array_equal(other, drawing.values_of(of_other))
    x, y = (data.to_float(drawing.painted(a)) for a in (z, of_other))
    assert told_apart(x, y, kept).value == 1 and told_apart(y, x, kept).value == 0 == told_apart(x, x, kept).value


def test_a_bag_of_words_has_the_colours_right_in_398_of_1000():
    """Where all is mentioned: ½ of the captions have two colours, ½ three; here over all triples of 8 words."""
    triples = np.array(list(itertools.product(range(8), repeat=3)))
    values = np.full((512, 8), -1)
    values[:, PAINTED] = triples
    three = bag_of_words(values).mean()
    # a denoiser that draws one of the triples with the same bag of words, of which all are equally probable
    bags = Counter(tuple(sorted(row)) for row in triples.tolist())
    assert three == pytest.approx(len(bags) / 512)  # Σ_bags P(bag) / P(bag)·512
    values[:, PAINTED[1]] = -1
    two = bag_of_words(values).mean()
    assert two == pytest.approx(1 / 8 + 7 / 8 / 2) and (two + three) / 2 == pytest.approx(0.398, abs=5e-4)
    assert bag_of_words(np.full((1, 8), -1)) == 1


def test_weights_in_float16_are_read_as_float32(tmp_path):
    params = random_params(TINY)
    m = model.Model("m", TINY, params, cosine(100), ("a", "b", "c"), {"schedule": {"name": "cosine"}})
    model.save(tmp_path / "m", dataclasses.replace(m, params=half_size.half(params)), {})
    again = model.load(tmp_path / "m")
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(np.asarray(a).astype(np.float16).astype(np.float32), b),
        params,
        again.params,
    )
    assert {a.dtype for a in map(np.asarray, jax.tree.leaves(again.params))} == {np.dtype("float32")}
    full = sum(a.size for a in jax.tree.leaves(params))
    assert (tmp_path / "m.safetensors").stat().st_size < 3 * full
    with pytest.raises(ValueError, match="conv_in/kernel holds numbers above 65504"):
        half_size.half({"conv_in": {"kernel": np.array([7e4], np.float32)}})
