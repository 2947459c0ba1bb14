"""Trainings from the shipped network: kept, resumed, and given the data that the exact columns are about."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm.datasets.wardrobe import captions, drawing
from ddpm.datasets.wardrobe.edits import INSTRUCTIONS, SHADE_OF
from ddpm.datasets.wardrobe.silhouettes import shapes
from ddpm.evaluation.prompts import PAINTED
from experiments import context_pooled
from experiments.lab import adapter_trainings as adapters
from experiments.lab import learned_control, learned_exemplars, learned_images, learned_words
from experiments.lab.wardrobe_exact import LUMA
from experiments.try_on import measured, task

GOAL = jnp.array([1.0, -2.0, 0.5])
BUDGET = adapters.Budget(steps=60, batch=2, lr=0.2)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(adapters, "SAVE_EVERY", 0.0)
    return tmp_path / "adapters"


def loss(params, fixed, key, batch):
    return ((params["w"] - fixed) ** 2).mean() + 0.01 * jax.random.normal(key) * params["w"][0] + 0 * batch.sum()


def train(batch_of=jnp.ones, name="toy"):
    watch = ((0, 60), lambda p: [float(p["w"][0])])
    return adapters.trained(name, {"w": jnp.zeros(3)}, loss, GOAL, batch_of, BUDGET, watch)


def test_a_training_is_kept_and_one_that_was_interrupted_is_the_same(home):
    whole = train(lambda n: jnp.ones(2))
    assert np.abs(whole.params["w"] - GOAL).max() < 0.25 and len(whole.loss) == 60
    assert [row[0] for row in whole.watched] == [0, 60] and whole.watched[0][1] == 0
    again = train(lambda n: pytest.fail("it was trained again"))
    np.testing.assert_array_equal(again.params["w"], whole.params["w"])

    def stops(n):
        if n == 31:
            raise KeyboardInterrupt
        return jnp.ones(2)

    with pytest.raises(KeyboardInterrupt):
        train(stops, "another")
    assert list((home / "unfinished").iterdir())
    seen = []
    resumed = train(lambda n: seen.append(n) or jnp.ones(2), "another")
    assert seen == list(range(31, 60)) and resumed.loss == whole.loss and resumed.watched == whole.watched
    np.testing.assert_array_equal(resumed.params["w"], whole.params["w"])
    assert not list((home / "unfinished").iterdir())


def test_what_is_given_of_a_picture_is_what_the_posterior_is_told():
    """Without noise: the grey value in all channels, or the known pixels and N(0, 1) in the hole."""
    x0, rng = np.random.default_rng(0).uniform(-1, 1, (40, 28, 28, 3)), np.random.default_rng(1)
    for mask in learned_images.tasks().values():
        y = learned_images.given(x0, mask, rng, 0.0)
        if mask is None:
            np.testing.assert_allclose(y, np.repeat((x0 @ LUMA)[..., None], 3, -1), atol=1e-6)
            continue
        known = mask > 0
        np.testing.assert_allclose(y[:, known], x0[:, known], atol=1e-6)
        hole = y[:, ~known].ravel()
        assert abs(hole.mean()) < 5 / np.sqrt(hole.size) and hole.std() == pytest.approx(1, abs=0.02)
    noisy = learned_images.given(x0, None, rng)
    assert (noisy[..., 0] - x0 @ LUMA).std() == pytest.approx(learned_images.GREY_SIGMA, rel=0.02)


def test_an_instruction_is_a_caption_of_one_value():
    for i, (name, value) in enumerate(INSTRUCTIONS):
        asked = dict(zip(captions.NAMES, captions.parsed(learned_images.instruction_text(i)), strict=True))
        assert asked.pop(name) == value and set(asked.values()) == {-1}


def test_an_edit_changes_one_attribute_and_draws_each_as_often():
    z = drawing.draw_attributes(4000, 3)
    after, which = learned_images.drawn_edits(z, np.random.default_rng(0))
    for name in captions.NAMES:
        of = np.array([INSTRUCTIONS[i][0] == name for i in which])
        assert of.mean() == pytest.approx(1 / 8, abs=0.025)
        np.testing.assert_array_equal(getattr(after, name)[~of], getattr(z, name)[~of])
        np.testing.assert_array_equal(getattr(after, name)[of], [INSTRUCTIONS[i][1] for i in which[of]])
        if name in SHADE_OF:
            column = SHADE_OF[name]
            np.testing.assert_array_equal(after.shade[~of, column], z.shade[~of, column])
            assert after.shade[of, column].mean() == pytest.approx(0.5, abs=0.1)
    np.testing.assert_array_equal(after.bits, z.bits)


def test_the_true_picture_obeys_its_edges_and_another_one_less():
    z = drawing.draw_attributes(16, 5)
    x = drawing.painted(z) / 127.5 - 1
    assert (learned_control.obeyed(x, z) == 1).all()
    other = learned_control.obeyed(x[::-1], z)
    assert other.mean() < 0.9 and ((other >= 0) & (other <= 1)).all()
    edges = learned_control.edges_of(z)
    assert edges.shape == (16, 28, 28, 1) and set(np.unique(edges)) == {0.0, 1.0}
    outline = shapes().region[learned_control.shape_of(z)] > 0
    changes = outline[:, :-1] != outline[:, 1:]
    assert (edges[:, :-1, :, 0][changes] == 1).all()


def test_the_exemplar_is_the_garment_in_its_own_light_and_nothing_else():
    some = task(12)
    hint = 2 * learned_exemplars.on_grey(learned_exemplars.exemplar_of(some)) - 1
    garment = shapes().region[some.shape] > 0
    np.testing.assert_allclose(hint[garment], some.exemplar[garment], atol=1e-6)
    assert (hint[~garment] == 0).all() and (some.hole | ~garment).all()
    np.testing.assert_array_equal(some.right[~some.hole & ~garment], some.before[~some.hole & ~garment])
    assert all(share.all() for share in measured(some.right, some.wanted, some.shape).values())
    copied = measured(np.where(garment[..., None], hint, some.right), some.wanted, some.shape)
    assert copied["bits"].all() and (copied["light"] == (some.subject.light == some.scene.light)).all()


def test_a_bag_of_words_draws_one_of_all_different_orders():
    """By listing them: the share of orders with a role right, and with all right."""
    values = drawing.values_of(drawing.draw_attributes(300, 3))
    found = context_pooled.of_bag(values)
    right = {"all": [], **{captions.NAMES[a]: [] for a in PAINTED}}
    for row in values:
        said = [a for a in PAINTED if row[a] >= 0]
        orders = {way for way in itertools.permutations(row[said].tolist())}
        same = np.array([np.array(way) == row[said] for way in orders])
        right["all"].append(same.all(1).mean())
        for k, a in enumerate(said):
            right[captions.NAMES[a]].append(same[:, k].mean())
    for name, shares in right.items():
        assert found[name] == pytest.approx(np.mean(shares))
    assert found["garment"] == found["light"] == 1 and found[context_pooled.APART] == 0


def test_pictures_of_one_subject_share_it_and_nothing_else():
    z = learned_words.subject(200, 41)
    for name in ("garment", "colour", "pattern", "bits"):
        assert len(np.unique(getattr(z, name), axis=0)) == 1
    assert len(np.unique(z.ground)) == 8 and len(np.unique(z.light)) == 2
