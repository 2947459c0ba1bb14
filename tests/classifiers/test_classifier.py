"""The classifier: shapes and identities of the network, its training on real digits, and the weights that ship."""

import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import data, weights
from ddpm.classifiers import classifier as cl
from ddpm.classifiers import convnet
from ddpm.classifiers import fitting as ct
from ddpm.classifiers import recipes as cc
from ddpm.classifiers.augmentation import augment
from ddpm.classifiers.timenet import TimeNetConfig
from ddpm.cli import classifier as classifier_cli
from ddpm.cli import classifier as cr
from ddpm.cli import options
from ddpm.datasets import sources
from ddpm.schedule import make_schedule
from ddpm.tools import files

TINY = convnet.ClassifierConfig(8, 1, widths=(8, 16), features=12)
HOW = dataclasses.replace(cc.default_recipe("digits"), epochs=1)
COMMAND = options.ClassifierCommand("digits", epochs=1)


@pytest.fixture(scope="module")
def digits():
    return sources.load("digits")


@pytest.fixture(scope="module")
def trained(digits):
    config = convnet.ClassifierConfig(8, 1, widths=(16, 32), mirror=False)
    how = dataclasses.replace(HOW, epochs=12, ema=0.9)
    return ct.train(config, how, digits.x_train, digits.y_train)


def untrained(config=TINY, seed=0):
    return cl.Classifier(config, cl.build(config)[0](jax.random.key(seed)), {})


def images(n, shape=(8, 8, 1), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(np.uint8)


# --- the network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(ct.CONFIGS))
def test_shapes_for_every_data_set(name):
    config = ct.CONFIGS[name]
    init, apply = cl.build(config)
    params = jax.eval_shape(init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((3, *config.image_shape), jnp.float32)
    logits, features = jax.eval_shape(apply, params, x)
    assert logits.shape == (3, 10) and features.shape == (3, 64)


def test_sizes_that_are_odd_are_padded():
    config = convnet.ClassifierConfig(14, 1, widths=(8, 8, 8))  # 14, 7, 4, 2
    logits, _ = untrained(config)(images(2, (14, 14, 1)))
    assert logits.shape == (2, 10) and np.all(np.isfinite(logits))


def test_logits_are_a_linear_function_of_the_features():
    """The features are the layer before the last: nothing else of the image reaches the logits."""
    c = untrained()
    logits, f = c(images(5))
    silu = f / (1 + np.exp(-f))
    head = c.params["head"]
    np.testing.assert_allclose(
        logits, (silu @ head["kernel"] + head["bias"].reshape(1, -1)) / 12**0.5, rtol=2e-4, atol=1e-5
    )


def test_same_config_gives_the_same_functions():
    assert cl.build(TINY) is cl.build(dataclasses.replace(TINY))


def test_batches_types_and_padding_do_not_matter():
    c, x = untrained(), images(11)
    logits, f = c(x)
    for other in (c(data.to_float(x)), c(x, batch=4), c(x, batch=1), (c.logits(x), c.features(x))):
        np.testing.assert_allclose(other[0], logits, atol=1e-5)
        np.testing.assert_allclose(other[1], f, atol=1e-5)
    np.testing.assert_array_equal(c.predict(x), logits.argmax(1))
    assert c(x[:0])[0].shape == (0, 10) and c(x[:0])[1].shape == (0, 12)


def test_new_parameters_do_not_compile_again():
    x = images(8)
    untrained(seed=1)(x)
    before = cl._apply._cache_size()
    untrained(seed=2)(x)
    assert cl._apply._cache_size() == before


def test_bad_input_is_refused():
    c = untrained()
    with pytest.raises(ValueError, match="this classifier wants"):
        c(images(2, (9, 9, 1)))
    with pytest.raises(ValueError, match=r"outside \[-1, 1\]"):
        c(images(2).astype(np.float32))
    with pytest.raises(ValueError, match="clean images"):
        c(images(2), t=3)
    with pytest.raises(ValueError, match=r"Known: .*digits.*Did you mean 'digits'"):
        classifier_cli.run(dataclasses.replace(COMMAND, data="digit"))


# --- augmentation and training ----------------------------------------------------------------------------------------


def test_augment_moves_and_mirrors_and_nothing_else():
    x, key = jnp.asarray(images(200)[:1]).repeat(200, 0).astype(jnp.float32), jax.random.key(0)
    np.testing.assert_array_equal(augment(key, x, 0, False), x)
    padded = np.pad(np.asarray(x[0]), ((1, 1), (1, 1), (0, 0)), mode="edge")
    moved = {padded[i : i + 8, j : j + 8].tobytes() for i in range(3) for j in range(3)}
    assert {np.asarray(a).tobytes() for a in augment(key, x, 1, False)} == moved  # all nine, and only those
    mirrored = {padded[i : i + 8, j : j + 8][:, ::-1].tobytes() for i in range(3) for j in range(3)}
    assert {np.asarray(a).tobytes() for a in augment(key, x, 1, True)} == moved | mirrored


def test_augment_erases_a_square():
    x = jnp.ones((500, 8, 8, 1))
    gone = np.asarray(augment(jax.random.key(0), x, 0, False, 3))[..., 0] == 0
    rows, columns = gone.any(2).sum(1), gone.any(1).sum(1)
    assert rows.max() == columns.max() == 3 and np.all(gone.sum((1, 2)) == rows * columns)  # a square, cut at the edge
    assert np.all(gone.mean(0) > 0)  # anywhere


@pytest.mark.slow
def test_it_learns_the_digits(trained, digits):
    a = cl.accuracy(trained, digits.x_test, digits.y_test)
    assert a["accuracy"] > 0.93 and a["n"] == 297
    share = np.bincount(digits.y_test) / 297
    assert np.dot(share, a["per_class"]) == pytest.approx(a["accuracy"], abs=1e-3)
    assert a["standard_error"] == pytest.approx(np.std(trained.predict(digits.x_test) == digits.y_test) / 297**0.5)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits(digits):
    x, y = digits.x_train[:256], digits.y_train[:256]
    a, b = (ct.train(TINY, HOW, x, y) for _ in range(2))
    other = ct.train(TINY, dataclasses.replace(HOW, seed=1), x, y)
    flat = [files.flatten(jax.tree.map(np.asarray, c.params)) for c in (a, b, other)]
    assert all(np.array_equal(flat[0][k], flat[1][k]) for k in flat[0])
    assert not np.array_equal(flat[0]["head/kernel"], flat[2]["head/kernel"])


@pytest.mark.slow
def test_training_that_diverges_is_an_error(digits):
    with pytest.raises(RuntimeError, match="Lower lr"):
        ct.train(TINY, dataclasses.replace(HOW, lr=1e30), digits.x_train[:256], digits.y_train[:256])


@pytest.mark.slow
def test_the_command_writes_weights_and_a_card_that_makes_them_again(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "package")
    command = dataclasses.replace(COMMAND, lr=0.05, erase=2, flip=True, out=tmp_path / "d")
    made = classifier_cli.run(command)
    assert str(tmp_path / "d" / "classifier") in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d"]  # nothing is shipped that was not asked to be
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["classifier.json", "classifier.safetensors"]
    loaded = cl.load(str(tmp_path / "d"))
    x = images(9)
    np.testing.assert_array_equal(made.logits(x), loaded.logits(x))
    card = loaded.card
    assert card["kind"] == "classifier" and loaded.config == made.config
    assert card["data"] == {"name": "digits", "sha256": sources.load("digits").sha256, "train_images": 1500}
    assert card["command"] == "ddpm classifier --data digits --epochs 1 --lr 0.05 --flip True --erase 2"
    for field in ("test", "seconds", "device", "versions", "commit", "train", "parameters"):
        assert field in card
    file = tmp_path / "d" / "classifier.safetensors"
    file.write_bytes(file.read_bytes()[:-3] + b"abc")
    with pytest.raises(files.Damaged, match="checksum"):
        cl.load(str(tmp_path / "d"))


@pytest.mark.slow
def test_it_ships_where_it_is_asked_to(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "package")
    classifier_cli.run(dataclasses.replace(COMMAND, ship=True, out=tmp_path / "d"))
    printed = capsys.readouterr().out
    assert printed.index("package/digits_classifier.safetensors") < printed.index("test: ")  # before the work begins
    assert cl.load("digits").card == cl.load(str(tmp_path / "d")).card


@pytest.mark.parametrize("schedule", ["", "cosine"])
def test_the_command_line_is_the_recipe(schedule):
    """The recipe on a card, parsed again, is the recipe that was used."""
    import tyro

    how = dataclasses.replace(cc.default_recipe("digits", schedule), lr=0.01, shift=2, flip=True, seed=3)
    words = cc.command_line(how).removeprefix("ddpm classifier ").split()
    assert options.recipe_of(tyro.cli(options.ClassifierCommand, args=words)) == how
    assert options.recipe_of(options.ClassifierCommand("digits", schedule)) == cc.default_recipe("digits", schedule)


@pytest.mark.slow
def test_an_interrupted_training_goes_on_to_the_same_bits(digits, tmp_path, monkeypatch):
    x, y = digits.x_train[:1024], digits.y_train[:1024]
    how = dataclasses.replace(HOW, epochs=20)
    whole = ct.train(TINY, how, x, y)
    calls = []

    def stop(*a):
        calls.append(a)
        if len(calls) == 250:  # after the checkpoint of step 200
            raise KeyboardInterrupt
        return batch_ids(*a)

    batch_ids = data.batch_ids
    monkeypatch.setattr(data, "batch_ids", stop)
    with pytest.raises(KeyboardInterrupt):
        ct.train(TINY, how, x, y, folder=tmp_path)
    resumed = ct.train(TINY, how, x, y, folder=tmp_path)
    assert len(calls) == 250 + 120  # 320 steps in all, the last 120 after the checkpoint
    for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(resumed.params), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_held_out_images_are_neither_trained_on_nor_the_test_images(capsys, tmp_path):
    made = classifier_cli.run(dataclasses.replace(COMMAND, validate=300, out=tmp_path / "v"))
    assert made.card["data"]["train_images"] == 1200 and made.card["test"]["n"] == 300
    assert "held-out training images" in capsys.readouterr().out and not list(tmp_path.iterdir())


# --- p(c | x_t, t) ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noisy(digits):
    config = TimeNetConfig(8, 1, widths=(16, 32), schedule="cosine", T=100)
    how = dataclasses.replace(cc.default_recipe("digits", "cosine"), epochs=60, batch=64, ema=0.99)
    return ct.train(config, how, digits.x_train, digits.y_train)


@pytest.mark.slow
def test_noisy_classifier_knows_the_time(noisy, digits):
    schedule, x, y = make_schedule("cosine", 100), digits.x_test, digits.y_test
    found = cr.by_time(lambda x_t, t: jax.nn.log_softmax(noisy.logits(x_t, t)), schedule, x, y, [0, 50, 100])
    right = found["accuracy"]
    assert right[0] > 0.85 and right[0] >= right[50] > right[100] and right[100] < 0.25  # at T nothing is left to see
    noise = np.random.default_rng(0).normal(size=(200, 8, 8, 1)).astype(np.float32)
    assert float(jax.nn.softmax(noisy.logits(noise, 100)).max(1).mean()) < 0.4  # and it knows that it sees nothing
    assert found["cross_entropy"][100] == pytest.approx(np.log(10), abs=0.15)
    with pytest.raises(ValueError, match="give it t"):
        noisy.logits(noise)
    with pytest.raises(ValueError, match="the network for 'cosine'"):
        ct.train(noisy.config, HOW, digits.x_train, digits.y_train)


def test_noisy_accuracy_of_exact_posteriors(digits):
    """The posterior that was put in comes out: chance for a uniform one, log 10 nats; 1 and 0 for one that knows."""
    x, y = digits.x_test[:200], digits.y_test[:200]
    schedule, times = make_schedule("cosine", 100), [1, 100]
    uniform = cr.by_time(lambda x_t, t: jnp.full((len(x_t), 10), -np.log(10)), schedule, x, y, times)
    assert uniform["cross_entropy"][1] == pytest.approx(np.log(10), abs=1e-4)
    assert uniform["accuracy"][1] == pytest.approx((y == 0).mean())  # the first of equals
    from ddpm.oracles.finite_set import finite

    known = finite(x, y)
    sure = cr.by_time(lambda x_t, t: jnp.log(known.class_posterior(schedule, x_t, jnp.int32(t))), schedule, x, y, times)
    assert sure["accuracy"][1] == 1 and sure["cross_entropy"][1] < 1e-3  # the images themselves, next to no noise
    assert sure["accuracy"][100] < 0.3


# --- what ships -------------------------------------------------------------------------------------------------------


def test_shipped_classifier_loads_and_states_what_it_is():
    c = cl.load("fashion_mnist")
    assert c.config.image_shape == (28, 28, 1) and c.name == "fashion_mnist_classifier"
    assert (weights.FOLDER / "fashion_mnist_classifier.safetensors").stat().st_size < 2_000_000
    test = c.card["test"]
    assert test["accuracy"] >= 0.93 and test["n"] == 10_000 and len(test["per_class"]) == 10
    assert test["standard_error"] == pytest.approx((test["accuracy"] * (1 - test["accuracy"]) / 10_000) ** 0.5)
    assert c.card["command"].startswith("ddpm classifier --data fashion_mnist")
    logits, f = c(images(3, (28, 28, 1)))
    assert logits.shape == (3, 10) and f.shape == (3, 64) and np.all(np.isfinite(logits))
    assert cl.load("fashion_mnist_classifier").card == c.card and not c.config.schedule
    with pytest.raises(ValueError, match="Did you mean 'fashion_mnist'"):
        cl.load("fashionmnist")


def test_shipped_classifier_is_as_good_as_its_card_says():
    if not os.environ.get("DDPM_DATA_DIR") or sources.where("fashion_mnist") is None:
        pytest.skip("needs the real Fashion-MNIST: set DDPM_DATA_DIR")
    c, d = cl.load("fashion_mnist"), sources.load("fashion_mnist")
    assert c.card["data"]["sha256"] == d.sha256
    a, test = cl.accuracy(c, d.x_test[:2000], d.y_test[:2000]), c.card["test"]
    assert a["accuracy"] == pytest.approx(test["accuracy"], abs=3 * test["standard_error"] * 5**0.5)  # a fifth of them
