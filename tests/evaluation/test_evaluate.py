"""Evaluation: a denoiser whose loss is known exactly, sets of digits whose measures are known, and real-data facts."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import data
from ddpm.classifiers import classifier as cl
from ddpm.classifiers import convnet
from ddpm.classifiers import fitting as ct
from ddpm.classifiers import recipes as cc
from ddpm.contracts import Partial
from ddpm.datasets import sources
from ddpm.evaluation import denoising_loss, measure, real_features, scores, statistics
from ddpm.evaluation import model as ev
from ddpm.oracles import gaussian
from ddpm.sample import Sampling
from ddpm.schedule import linear, make_schedule

T = 100


@pytest.fixture(scope="module")
def world():
    """Two Gaussian classes in 12 pixels, 400 images of them, and the schedule."""
    rng = np.random.default_rng(0)
    c = np.arange(400, dtype=np.int32) % 2
    x = (
        0.3 * rng.normal(size=(400, 2, 6, 1)) * np.linspace(0.2, 1.5, 6)[:, None]
        + 0.4 * (2 * c - 1)[:, None, None, None]
    )
    return x.astype(np.float32), c, linear(T)


@pytest.fixture(scope="module")
def digits():
    return sources.load("digits")


@pytest.fixture(scope="module")
def digits_classifier(digits):
    config = convnet.ClassifierConfig(8, 1, widths=(8, 16), features=16, mirror=False)
    how = cc.ClassifierTrainConfig(data="digits", epochs=10, batch=64, lr=0.1, shift=1, flip=False, erase=0, ema=0.9)
    c = ct.train(config, how, digits.x_train, digits.y_train)
    return dataclasses.replace(c, card={"test": cl.accuracy(c, digits.x_test, digits.y_test)})


def score(x, labels, digits, classifier):
    return scores.score_images(x, labels, digits, classifier, cache=False)


# --- ε-MSE ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conditional", [True, False])
def test_eps_mse_of_the_oracle_is_its_closed_form(world, conditional):
    x, c, schedule = world
    fitted = gaussian.fit(x, c if conditional else None)
    exact = gaussian.linear_loss(fitted, schedule, x, c if conditional else None)
    label = c if conditional else None
    m = denoising_loss.eps_mse(fitted.eps(schedule), schedule, x, label, jax.random.key(1), repeats=10, baseline=exact)
    assert m.value == pytest.approx(exact[1:].mean(), abs=4 * m.standard_error)
    assert m.standard_error < 0.02 * m.value and m.reference == pytest.approx(exact[1:].mean())
    rows = m.detail["by_t"]
    assert [r["t"] for r in rows] == [[10 * i + 1, 10 * i + 10] for i in range(10)]
    for r in rows:
        assert r["value"] == pytest.approx(r["baseline"], abs=4.5 * r["standard_error"])
        assert r["baseline"] == pytest.approx(exact[r["t"][0] : r["t"][1] + 1].mean())


def test_eps_mse_error_is_the_spread_over_keys(world):
    x, _, schedule = world
    eps = gaussian.fit(x).eps(schedule)
    runs = [denoising_loss.eps_mse(eps, schedule, x[:100], key=jax.random.key(i)) for i in range(60)]
    spread = np.std([m.value for m in runs], ddof=1)
    assert np.mean([m.standard_error for m in runs]) / spread == pytest.approx(1, abs=0.3)


def _sees_only_time(x_t, t, c):
    return jnp.sqrt(t.astype(jnp.float32)).reshape(-1, 1, 1, 1) * jnp.ones_like(x_t)


def test_times_are_uniform_and_stratified(world):
    """ε̂ = √t·1 has the loss 1 + t exactly in the mean; without strata t alone would bring an error of T/√(12 n)."""
    x, _, schedule = world
    m = denoising_loss.eps_mse(Partial(_sees_only_time), schedule, x, key=jax.random.key(2))
    assert m.value == pytest.approx(1 + (T + 1) / 2, abs=4 * m.standard_error)
    assert m.standard_error < 0.5 * T / np.sqrt(12 * len(x))


def test_one_key_pairs_two_denoisers_whatever_the_batch(world):
    x, c, schedule = world
    eps, key = gaussian.fit(x).eps(schedule), jax.random.key(3)
    a = denoising_loss.eps_mse(eps, schedule, x, None, key, batch=64)
    assert denoising_loss.eps_mse(eps, schedule, x, None, key, batch=250).value == pytest.approx(a.value, rel=1e-5)
    of_class = denoising_loss.eps_mse(eps, schedule, x, np.zeros_like(c), key)  # the one Gaussian is class 0
    assert of_class.value == pytest.approx(a.value, rel=1e-5)
    assert denoising_loss.eps_mse(eps, schedule, x, None, jax.random.key(4)).value != a.value


@pytest.mark.slow
def test_denoising_of_the_fit_equals_its_own_baseline(digits):
    """The class-conditional oracle of the training digits, on test digits, under the labels and under ∅."""
    schedule = make_schedule("cosine", T)
    fitted = gaussian.fit(data.to_float(digits.x_train), digits.y_train)
    out = denoising_loss.denoising(fitted.eps(schedule), schedule, digits, 10, repeats=4)
    m = out["eps_mse"]
    assert m.value == pytest.approx(m.reference, abs=4 * m.standard_error)
    null = out["eps_mse_null"]
    assert null.value < null.reference  # under ∅ the mixture is better than one Gaussian
    assert null.reference > m.reference
    one = gaussian.fit(data.to_float(digits.x_train))
    assert list(denoising_loss.denoising(one.eps(schedule), schedule, digits, 0, n=50)) == ["eps_mse_null"]


# --- sets of images ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_test_images_stand_at_their_own_floor(digits, digits_classifier):
    m = score(digits.x_test, digits.y_test, digits, digits_classifier)
    assert m["accuracy"].value == pytest.approx(digits_classifier.card["test"]["accuracy"])
    assert m["frechet"].value == pytest.approx(m["frechet"].reference, rel=1e-3)
    assert m["kernel"].value == pytest.approx(m["kernel"].reference, rel=1e-3)
    for name in ("precision", "recall", "density", "coverage"):
        assert m[name].value == pytest.approx(m[name].reference, abs=0.01)
    for space in ("pixels", "features"):
        assert m[f"nearest_{space}"].value == pytest.approx(0.5, abs=1e-3)


@pytest.mark.slow
def test_what_each_measure_sees(digits, digits_classifier):
    """Copies, noise, a missing class, and wrong labels: each is seen by the measures that should."""
    rng, n = np.random.default_rng(0), 297
    some = rng.permutation(1500)[:n]
    copies = score(digits.x_train[some], digits.y_train[some], digits, digits_classifier)
    noise = score(rng.integers(0, 256, (n, 8, 8, 1)).astype(np.uint8), None, digits, digits_classifier)
    few = np.flatnonzero(digits.y_train < 5)[:n]
    missing = score(digits.x_train[few], digits.y_train[few], digits, digits_classifier)

    assert copies["nearest_pixels"].value == 1 and copies["nearest_features"].value > 0.99
    assert copies["nearest_pixels"].detail["median_distance"] == 0
    ids = copies["nearest_pixels"].detail["closest"]
    np.testing.assert_array_equal(digits.x_train[some][ids["image"]], digits.x_train[ids["training_image"]])
    assert noise["nearest_pixels"].value < 0.01 and "accuracy" not in noise
    assert noise["frechet"].value > 20 * noise["frechet"].reference
    assert noise["density"].value < 0.8 * noise["density"].reference  # precision is fooled: outliers have large balls
    assert noise["coverage"].value < 0.8 * noise["coverage"].reference
    assert missing["recall"].low_high[1] < copies["recall"].low_high[0]
    assert missing["coverage"].value < 0.75 * copies["coverage"].value
    assert missing["precision"].value > 0.8
    assert missing["kernel"].value > 3 * missing["kernel"].standard_error > 0
    wrong = score(digits.x_train[some], (digits.y_train[some] + 1) % 10, digits, digits_classifier)
    assert wrong["accuracy"].value < 0.05 < 0.9 < copies["accuracy"].value
    for k, name in enumerate(digits.class_names):
        row = copies["accuracy"].detail["per_class"][name]
        of_class = digits.y_train[some] == k
        right = digits_classifier.predict(digits.x_train[some][of_class]) == k
        assert row["value"] == pytest.approx(right.mean()) and row["n"] == of_class.sum()
        assert row["interval"][0] <= row["value"] <= row["interval"][1]
        assert row["classifier_on_test"] == digits_classifier.card["test"]["per_class"][k]


@pytest.mark.slow
def test_every_measure_says_what_it_is(digits, digits_classifier):
    measures = scores.score_images(
        digits.x_test, digits.y_test, digits, digits_classifier, of="test digits", seed=5, cache=False
    )
    text = measure.table(measures)
    for m in measures.values():
        assert m.name in text and "n = 297 test digits, 8 bit" in str(m)
        assert m.reference is not None and m.reference_what
        assert m.low_high[0] <= m.value <= m.low_high[1] and m.error
    assert "unnamed" not in text and "(16 wide, unsaved)" in text and "seed 5" in str(measures["frechet"])
    back = json.loads(json.dumps(measure.as_json(measures), allow_nan=False))
    assert back["frechet"]["value"] == measures["frechet"].value
    assert back["recall"]["reference_what"] == "test, n = 297"
    old = {k: {name.replace("reference", "beside"): v for name, v in m.items()} for k, m in back.items()}
    assert measure.from_json(old) == measure.from_json(back) and "beside" in old["recall"]  # files of version 0.1


def test_a_subset_has_of_each_class_its_share():
    y = np.repeat(np.arange(4), [100, 200, 300, 400])
    ids = statistics.stratified_subset(y, 100, seed=1)
    assert len(np.unique(ids)) == 100
    assert np.all(abs(np.bincount(y[ids]) - [10, 20, 30, 40]) <= 1)
    np.testing.assert_array_equal(ids, statistics.stratified_subset(y, 100, seed=1))
    assert not np.array_equal(ids, statistics.stratified_subset(y, 100, seed=2))
    assert sorted(statistics.stratified_subset(y, 5000, seed=1)) == list(range(1000))


@pytest.mark.slow
def test_features_of_the_real_images_are_kept_and_checked(digits, digits_classifier, tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_CACHE_DIR", str(tmp_path))
    saved = dataclasses.replace(digits_classifier, card={"sha256": "ab" * 32}, name="mine")
    first = real_features.reference(digits, saved)
    assert first.name == "mine (16 wide, abababab)" and len(list(tmp_path.glob("features-*"))) == 2
    np.testing.assert_allclose(first.test, saved.features(digits.x_test), atol=1e-5)
    monkeypatch.setattr(cl.Classifier, "__call__", lambda *a: pytest.fail("computed again"))
    np.testing.assert_array_equal(real_features.reference(digits, saved).train, first.train)
    monkeypatch.undo()
    monkeypatch.setenv("DDPM_CACHE_DIR", str(tmp_path))
    file = next(tmp_path.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-4] + b"oops")
    np.testing.assert_array_equal(real_features.reference(digits, saved).train, first.train)
    other = dataclasses.replace(saved, card={"sha256": "cd" * 32})
    real_features.reference(digits, other)
    assert len(list(tmp_path.glob("features-*"))) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("x", "labels", "error", "message"),
    [
        (np.zeros((30, 8, 8, 1), np.float32), None, TypeError, "to_uint8"),
        (np.zeros((30, 28, 28, 1), np.uint8), None, ValueError, r"wants \(n, 8, 8, 1\)"),
        (np.zeros((3, 8, 8, 1), np.uint8), None, ValueError, "at least 20"),
        (np.zeros((30, 8, 8, 1), np.uint8), np.zeros(29, int), ValueError, "labels have shape"),
        (np.zeros((30, 8, 8, 1), np.uint8), np.full(30, 10), ValueError, r"in 0\.\.9"),
    ],
)
def test_images_that_cannot_be_scored_are_refused(digits, digits_classifier, x, labels, error, message):
    with pytest.raises(error, match=message):
        score(x, labels, digits, digits_classifier)


# --- a model ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_evaluate_the_gaussian_fit(digits, digits_classifier):
    """A 'model' whose answers are exact: its loss is its baseline, its samples are of the requested class."""
    schedule = make_schedule("cosine", T)
    fitted = gaussian.fit(data.to_float(digits.x_train), digits.y_train)
    model = SimpleNamespace(
        eps=fitted.eps(schedule), schedule=schedule, num_classes=10, image_shape=(8, 8, 1), name="fit"
    )
    m = ev.evaluate(model, digits, digits_classifier, ev.Plan(100, Sampling(steps=20), cache=False))
    assert m["eps_mse"].value == pytest.approx(m["eps_mse"].reference, abs=4 * m["eps_mse"].standard_error)
    assert m["accuracy"].value > 0.6 and m["accuracy"].n == 100
    assert "images of fit (ddim 20, guidance 1, seed 0), 8 bit" in measure.table(m)
    json.dumps(measure.as_json(m), allow_nan=False)
    x, c = ev.draw(model, 30, Sampling(steps=5))
    assert x.dtype == np.uint8 and x.shape == (30, 8, 8, 1) and np.all(np.bincount(c) == 3)
    same = ev.draw(model, 30, Sampling(steps=5))[0]
    np.testing.assert_array_equal(x, same)
    with pytest.raises(ValueError, match=r"the model draws images.*by --size 28"):
        wrong = SimpleNamespace(**{**vars(model), "image_shape": (28, 28, 1)})
        ev.evaluate(wrong, digits, digits_classifier)
