"""Edits of `wardrobe`: a finite set whose classes are instructions, equal to the evidence of one instruction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm.datasets.wardrobe import drawing, evidence, law, silhouettes
from ddpm.datasets.wardrobe.edits import INSTRUCTIONS, after, edited
from ddpm.datasets.wardrobe.words import ATTRIBUTES
from ddpm.schedule import cosine

Z = drawing.draw_attributes(20, 1)
ONE = Z.take(np.flatnonzero(Z.pattern == 1)[:1])  # a striped garment
SET = after(ONE)


def test_an_attribute_is_drawn_then_its_value():
    share = np.exp(np.asarray(SET.log_prior, np.float64))
    np.testing.assert_allclose(share, [1 / 8 / len(ATTRIBUTES[name]) for name, _ in INSTRUCTIONS], rtol=1e-5)
    assert len(INSTRUCTIONS) == 41


def test_an_edit_changes_its_own_pixels_alone():
    """A colour, ink or ground: the pixels of its region, and of those every one; ink of a plain garment: none."""
    before = drawing.painted(ONE)[0]
    region = silhouettes.shapes().region[silhouettes.geometry(*(getattr(ONE, n) for n in law.OF_GEOMETRY))][0]
    for name, number in (("ground", 0), ("colour", 1), ("ink", 2)):
        other = (int(getattr(ONE, name)[0]) + 1) % 8
        changed = (drawing.painted(edited(ONE, name, other)) != before).any(-1)
        assert changed.shape[0] == 2 and (changed == (region == number)).all()
    plain = ONE._replace(pattern=np.array([0], np.int32))
    assert (drawing.painted(edited(plain, "ink", 3)) == drawing.painted(plain)).all()
    same = edited(ONE, "light", int(ONE.light[0]))
    np.testing.assert_array_equal(drawing.painted(same)[0], before)


def test_impossible_edits_are_refused():
    with pytest.raises(ValueError, match="z has 20 pictures"):
        edited(Z, "light", 0)
    with pytest.raises(ValueError, match="name is 'hue' and value 0"):
        edited(ONE, "hue", 0)
    with pytest.raises(ValueError, match="value 6"):
        edited(ONE, "garment", 6)


@pytest.mark.slow
def test_one_instruction_is_its_evidence_and_none_is_the_mixture():
    """E[x0 | x_t, z, i] and log p of two sums: of pictures, and of regions; then Σ_i p(i) p(x_t | i) over all i."""
    schedule, world, t = cosine(1000), law.distribution(), 600
    std = float(schedule.std[t])
    x_t = jnp.sqrt(1 - std**2) * jnp.asarray(drawing.painted(ONE) / 127.5 - 1, jnp.float32)
    x_t = x_t + std * jax.random.normal(jax.random.key(0), x_t.shape)
    for name, value in (("colour", 3), ("ground", 5)):
        i = INSTRUCTIONS.index((name, value))
        ours = SET.answer(schedule, x_t, t, np.array([i]))
        theirs = world.answer(schedule, x_t, t, evidence.instructed(ONE, name, np.array([value])))
        np.testing.assert_allclose(ours.x0, theirs.x0, atol=1e-4)
        assert float(ours.log_prob[0]) == pytest.approx(float(theirs.log_prob[0]), abs=0.01)
    many = jnp.repeat(x_t, 41, 0)
    each = SET.answer(schedule, many, t, np.arange(41))
    weight = jax.nn.softmax(each.log_prob + SET.log_prior)
    mixture = SET.answer(schedule, x_t, t)
    np.testing.assert_allclose(mixture.x0[0], jnp.einsum("i,ihwc->hwc", weight, each.x0), atol=1e-4)
