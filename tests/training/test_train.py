"""Training: the average, the learning rate, resuming to the bit, and the ways in which a run can go wrong."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import config, data
from ddpm import train as train_
from ddpm.config import UNetConfig
from ddpm.datasets import sources
from ddpm.evaluation.denoising_loss import eps_mse
from ddpm.loss import simple_loss
from ddpm.network import build
from ddpm.oracle import mixture
from ddpm.sample import Sampling
from ddpm.samplers.generation import generate
from ddpm.schedule import linear
from ddpm.tools import checkpoint, machine
from ddpm.tools.files import flatten
from ddpm.training import adam, cost, loop, run, tables, vector
from ddpm.training import averages as ema
from ddpm.training import step as train
from ddpm.training.config import TrainConfig
from ddpm.zoo import model

TINY = UNetConfig(8, 1, channels=8, multipliers=(1,), blocks=1, attention=(), groups=4)
# The rate is constant: then the number of steps is no part of the program, and all these runs share one.
BASE = TrainConfig(
    data="digits", preset="tiny", name="r", steps=6, batch=16, warmup=2, lr_schedule="constant", save_every=3,
    log_every=1,
)  # fmt: skip
DRAW = loop.sample_grid


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder, a network that compiles in seconds, and no pictures: the sampler would take longer to compile."""
    monkeypatch.setitem(config.UNETS, "tiny", TINY)
    monkeypatch.setattr(loop, "sample_grid", lambda *args: np.zeros((8, 8, 8, 1)))
    return tmp_path


def newest(folder):
    like = jax.eval_shape(lambda: train.init_state(BASE, dataclasses.replace(TINY, num_classes=10)))
    return checkpoint.restore(folder / "checkpoints", like)[0]


def test_ema_is_a_weighted_sum_that_forgets_its_start():
    """With decay min(d, (1+n)/(10+n)) the share of the start after N steps is ∏ (1+n)/(10+n) = N! 9!/(N+9)!."""
    share = 1.0
    for n in range(20):
        share *= float(train_.ema_decay(jnp.float32(n), 0.9999))
    assert share == pytest.approx(np.prod(np.arange(1, 21.0) / np.arange(10, 30.0)), rel=1e-4)
    assert share < 1e-6  # a fixed .9999 would keep .998 of it
    assert float(train_.ema_decay(jnp.float32(1e6), 0.999)) == pytest.approx(0.999)


def test_learning_rate_rises_stays_and_falls():
    lr = adam.learning_rate(TrainConfig(steps=1000, warmup=100, decay=0.5, lr=2e-3))
    values = [float(lr(n)) for n in (0, 50, 100, 400, 500, 750, 1000)]
    np.testing.assert_allclose(values, [0, 1e-3, 2e-3, 2e-3, 2e-3, 1e-3, 0], atol=1e-9)


@pytest.mark.slow
def test_a_network_on_known_data_reaches_the_exact_floor():
    """Pixels ±1 by a fair coin, independent: ε* is known, and so is its loss. A trained network comes within 30 % of
    it, twice as low as the best linear denoiser (.2755), and never below it."""
    unet = UNetConfig(2, 1, channels=16, multipliers=(1,), blocks=1, attention=(), groups=4)
    setup = TrainConfig(schedule="linear", steps=300, batch=256, lr=3e-3, warmup=20)
    schedule = linear(1000)
    coin = mixture([[1.0], [-1.0]], 1e-6).eps(schedule)
    x = 255 * np.random.default_rng(0).integers(0, 2, (4096, 2, 2, 1)).astype(np.uint8)
    flat = jnp.asarray(data.to_float(x)).reshape(-1, 1)
    floor = float(np.mean([simple_loss(coin, schedule, jax.random.key(k), flat) for k in range(8)]))
    step, state = train.make_step(setup, unet), train.init_state(setup, unet)
    losses = []
    for n in range(setup.steps):
        ids = data.batch_ids(0, n, len(x), setup.batch)
        state, metrics = step(state, schedule, jnp.asarray(x), jnp.zeros(len(x), jnp.int32), ids)
        losses.append(metrics.loss)
    reached = float(np.mean(losses[-50:]))
    assert 0.97 * floor < reached < 1.3 * floor


@pytest.mark.slow
def test_a_run_in_two_parts_is_the_run_in_one(runs):
    run.train(dataclasses.replace(BASE, steps=3), runs / "b", quiet=True)
    part = newest(run.train(BASE, runs / "b", quiet=True))
    whole = newest(run.train(BASE, runs / "c", quiet=True))
    assert int(part.step) == 6
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(part), strict=True):
        np.testing.assert_array_equal(a, b)
    metrics = tables.read_metrics(runs / "b" / "r")
    np.testing.assert_array_equal(metrics["step"], [1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(metrics["loss"], tables.read_metrics(runs / "c" / "r")["loss"])


@pytest.mark.slow
def test_dropout_is_drawn_in_training_alone(runs):
    """At the start the last convolution of each block is 0, so nothing that is dropped can be seen; later it is. The
    model that is read back drops nothing: its loss on given draws is one number."""
    one, other = (dataclasses.replace(BASE, name=f"p{p}", dropout=p) for p in (0.0, 0.5))
    folders = [run.train(c, runs, quiet=True) for c in (one, other)]
    plain, dropped = (tables.read_metrics(f)["loss"] for f in folders)
    assert plain[0] == pytest.approx(dropped[0], rel=1e-6) and abs(plain[-1] - dropped[-1]) > 1e-4
    m = model.load(folders[1])
    assert m.unet.dropout == 0.5
    images = data.to_float(sources.load("digits").x_train[:8])
    x_t, t = jnp.asarray(images), jnp.full(8, 300)
    undropped = dataclasses.replace(m.unet, dropout=0.0)
    np.testing.assert_array_equal(m.eps(x_t, t, jnp.arange(8)), build(undropped)[1](m.params, x_t, t, jnp.arange(8)))
    assert "--dropout 0.5" in other.command()
    with pytest.raises(ValueError, match=r"dropout was 0\.5, now 0\.1"):
        run.train(dataclasses.replace(other, dropout=0.1), runs, quiet=True)


@pytest.mark.slow
def test_a_run_whose_last_checkpoint_is_gone_goes_on_from_the_one_before(runs):
    """And metrics.csv has each step once."""
    folder = run.train(BASE, runs, quiet=True)
    before, rows = newest(folder), tables.read_metrics(folder)
    (folder / "checkpoints" / "step_00000006.safetensors").unlink()
    with pytest.warns(UserWarning, match="step_00000006"):
        run.train(BASE, runs, quiet=True)
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(newest(folder)), strict=True):
        np.testing.assert_array_equal(a, b)
    again = tables.read_metrics(folder)
    np.testing.assert_array_equal(again["step"], [1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(again["loss"], rows["loss"])


@pytest.mark.slow
def test_the_folder_of_a_run_and_the_model_it_gives(runs, monkeypatch):
    monkeypatch.setattr(loop, "sample_grid", DRAW)
    folder = run.train(BASE, runs, quiet=True)
    names = {p.name for p in folder.iterdir()}
    assert {"config.json", "metrics.csv", "loss.png", "samples_00000006.png", "checkpoints"} <= names
    about = json.loads((folder / "config.json").read_text())
    assert about["data"]["sha256"] == sources.load("digits").sha256 and about["versions"]["jax"] == jax.__version__
    m = model.load(folder)
    assert m.num_classes == 10 and m.image_shape == (8, 8, 1) and m.schedule.T == 1000
    ema = newest(folder).ema
    for a, b in zip(jax.tree.leaves(m.params), jax.tree.leaves(ema), strict=True):
        np.testing.assert_array_equal(a, b)

    model.save(runs / "w", m, {"summary": "tiny"})
    again = model.load(runs / "w")
    assert flatten(again.params).keys() == flatten(m.params).keys() and again.classes == m.classes
    key, c = jax.random.key(0), np.arange(3)
    a, b = (generate(x.eps, x.schedule, key, x.image_shape, c, Sampling(steps=3, guidance=2)) for x in (m, again))
    np.testing.assert_array_equal(a, b)
    # the same noise per image whatever the batch: image 2 alone at the end of another batch size
    d = generate(m.eps, m.schedule, key, m.image_shape, c, Sampling(steps=3, guidance=2), batch=2)
    np.testing.assert_allclose(a, d, atol=1e-5)


@pytest.mark.slow
def test_memory_goes_back_to_the_system_before_the_first_step_after_three_and_where_one_is_saved(runs, monkeypatch):
    """And no more often, since to fetch it anew costs time. Of twelve steps the sixth and the last are saved."""
    back, each, advance = [], [], loop.Training.advance

    def noted(training):
        before = len(back)
        advance(training)
        each.append(len(back) - before)

    monkeypatch.setattr(machine, "give_memory_back", lambda: back.append(None))
    monkeypatch.setattr(loop.Training, "advance", noted)
    run.train(dataclasses.replace(BASE, steps=12, save_every=6), runs, quiet=True)
    assert each == [1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1]
    assert len(back) - sum(each) == 3  # after the draw of the parameters, the compilation, and the baseline


@pytest.mark.slow
def test_a_config_that_does_not_fit_is_refused_by_field(runs):
    run.train(dataclasses.replace(BASE, steps=1), runs, quiet=True)
    with pytest.raises(ValueError, match=r"lr was 0\.001, now 0\.002"):
        run.train(dataclasses.replace(BASE, lr=2e-3), runs, quiet=True)


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_state(runs):
    bad = dataclasses.replace(BASE, lr=1e38, save_every=6, log_every=6)
    with pytest.raises(loop.Diverged, match=r"not finite after step \d+: on the way forward, the output of layer"):
        run.train(bad, runs, quiet=True)
    state = newest(runs / "r")
    assert 0 < int(state.step) < 6
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(state.params))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"data": "fashion"}, "Did you mean 'fashion_mnist'"),
        ({"preset": "cpu"}, "presets that fit: digits, tiny"),
        ({"preset": "tny"}, "Did you mean 'tiny'"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"batch": 5000}, "batch is 5000; digits has 1500 training images, so give --batch 1500 or less"),
        ({"schedule": "linear", "T": 20}, "T is 20"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(runs, change, words):
    with pytest.raises(ValueError, match=words):
        run.train(dataclasses.replace(BASE, **change), runs / "x", quiet=True)
    assert not (runs / "x").exists()


@pytest.mark.parametrize(
    "change", [{"steps": 0}, {"lr": -1.0}, {"lr": float("nan")}, {"p_uncond": 1.5}, {"dropout": 1.0}, {"seed": -1}]
)
def test_bad_numbers(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        TrainConfig(**change)


def test_a_missing_model_says_what_there_is():
    with pytest.raises(ValueError, match="no model 'fashion_mnst'"):
        model.load("fashion_mnst")


# --- the same step in other ways --------------------------------------------------------------------------------------

SMALL = UNetConfig(8, 1, channels=8, multipliers=(1,), blocks=1, attention=(), groups=4, num_classes=3)
RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (32, 8, 8, 1)).astype(np.uint8), (np.arange(32) % 3).astype(np.int32)


def grad_of(setup, unet=SMALL):
    """(loss, gradient) of one batch."""
    state = train.init_state(setup, unet)
    x0, key = jnp.asarray(data.to_float(IMAGES)), jax.random.key(7)
    return jax.jit(lambda s: train.gradient(setup, unet, linear(1000), s, key, x0, jnp.asarray(LABELS))[:2])(state)


@pytest.mark.slow
def test_accumulated_parts_make_the_gradient_of_the_whole_batch():
    """To rounding, by layer; the flips, dropped labels, times and noises are those of the whole batch."""
    whole, parts = (grad_of(TrainConfig(batch=32, accumulate=A, flip=True)) for A in (1, 4))
    assert float(whole[0]) == pytest.approx(float(parts[0]), rel=1e-6)
    for a, b in zip(*map(jax.tree.leaves, (whole[1], parts[1])), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


@pytest.mark.slow
def test_many_steps_in_a_call_are_the_same_steps():
    """A loop in Python and one compiled loop: equal losses, equal parameters, to rounding."""
    setup = TrainConfig(batch=8, steps=4, warmup=0, decay=0.0, power_ema=(0.1,))
    ids = np.stack([data.batch_ids(0, n, 32, 8) for n in range(4)])
    rest = (linear(1000), jnp.asarray(IMAGES), jnp.asarray(LABELS))
    one, many = train.make_step(setup, SMALL), train.make_step(setup, SMALL, many=True)
    state, losses = train.init_state(setup, SMALL), []
    for n in range(4):
        state, metrics = one(state, *rest, ids[n], np.int32(n))
        losses.append(float(metrics.loss))
    at_once, metrics = many(train.init_state(setup, SMALL), *rest, ids, np.arange(4, dtype=np.int32))
    np.testing.assert_allclose(metrics.loss, losses, rtol=1e-5)
    assert metrics.layers.shape[0] == 4 and int(at_once.step) == 4
    for a, b in zip(*map(jax.tree.leaves, (state.emas, at_once.emas)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_adam_and_the_average_of_one_vector_are_those_of_the_tree():
    """Two steps with given gradients, clipped: optax on the nested parameters, and on the vector of all."""
    setup, rng = TrainConfig(warmup=0, clip=0.1), np.random.default_rng(0)
    tree = {"a": {0: rng.normal(size=(3, 4)), 1: rng.normal(size=5)}, "b": rng.normal(size=(2, 1, 2))}
    tree = jax.tree.map(jnp.float32, tree)
    optimiser = adam.optimiser(setup)
    state = train_.TrainState(jnp.int32(0), tree, tree, optimiser.init(tree), {"x": tree})
    same, unravel = vector.raveled(state, tree)
    assert same.params.shape == same.ema.shape == same.emas["x"].shape == (21,) and same.step.shape == ()
    for _ in range(2):
        grad = jax.tree.map(lambda a: jnp.float32(rng.normal(size=a.shape)), tree)
        state = train_.descend(state, grad, optimiser, 0.9)
        same = train_.descend(same, vector.raveled(grad, tree)[0], optimiser, 0.9)
    back = unravel(same)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    for a, b in zip(*map(jax.tree.leaves, (state, back)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_after_a_bad_step_no_later_one_counts():
    """Step 2 is spoiled (its number does not fit): the state stays that of step 1, and the losses are no numbers."""
    setup = TrainConfig(batch=8, steps=4, warmup=0, decay=0.0, power_ema=(0.1,))
    ids = np.stack([data.batch_ids(0, n, 32, 8) for n in range(4)])
    many = train.make_step(setup, SMALL, many=True)
    rest = (linear(1000), jnp.asarray(IMAGES), jnp.asarray(LABELS), ids)
    state, metrics = many(train.init_state(setup, SMALL), *rest, np.array([0, 9, 2, 3], np.int32))
    assert int(state.step) == 1
    np.testing.assert_array_equal(np.isfinite(metrics.loss), [True, False, False, False])
    # a NaN in an average alone spoils the step as well: the state is not changed and not counted
    for average in ("ema", "emas"):
        start = train.init_state(setup, SMALL)
        tree = jax.tree.map(jnp.copy, getattr(start, average))
        leaves, structure = jax.tree.flatten(tree)
        leaves[0] = leaves[0].at[0].set(jnp.nan)
        start = start._replace(**{average: jax.tree.unflatten(structure, leaves)})
        state, metrics = many(start, *rest, np.arange(4, dtype=np.int32))
        assert int(state.step) == 0 and not np.isfinite(metrics.loss).any()
        for a, b in zip(*map(jax.tree.leaves, (state.params, train.init_state(setup, SMALL).params)), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name, middle", [("constant", 2e-3), ("linear", 1e-3), ("cosine", 1e-3)])
def test_learning_rates_by_name(name, middle):
    """All rise in the warm-up; half-way through the rest a fall to 0 is at a half, along a line and a cosine alike."""
    lr = adam.learning_rate(TrainConfig(steps=1100, warmup=100, lr=2e-3, lr_schedule=name))
    end = 2e-3 if name == "constant" else 0.0
    np.testing.assert_allclose([float(lr(n)) for n in (0, 50, 100, 600, 1100)], [0, 1e-3, 2e-3, middle, end], atol=1e-9)
    quarter = {"constant": 2e-3, "linear": 1.5e-3, "cosine": 1e-3 * (1 + np.cos(np.pi / 4))}
    assert float(lr(350)) == pytest.approx(quarter[name])


@pytest.mark.slow
def test_bfloat16_computes_only():
    """Parameters, gradients, averages and moments stay float32; the loss and the gradient stay close."""
    setup, half = TrainConfig(batch=32), dataclasses.replace(SMALL, dtype="bfloat16")
    state = train.init_state(setup, half)
    assert {a.dtype.name for a in jax.tree.leaves(state)} == {"float32", "int32"}
    (loss, grad), (loss16, grad16) = grad_of(setup), grad_of(setup, half)
    assert {a.dtype.name for a in jax.tree.leaves(grad16)} == {"float32"}
    assert float(loss16) == pytest.approx(float(loss), rel=0.02)  # a fresh network says almost 0: equal is right
    a, b = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(g)]) for g in (grad, grad16))
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.99
    assert not np.array_equal(a, b)  # bfloat16 was used


# --- what a run writes besides ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_tables_snapshots_and_averages_of_a_run(runs):
    """With everything on; and a run from before these options resumes with their defaults."""
    more = {"accumulate": 2, "eval_every": 3, "watch": True, "more_ema": (0.9,), "power_ema": (0.1,)}
    setup = dataclasses.replace(BASE, snapshot_every=2, steps_per_call=1, **more)
    folder = run.train(setup, runs, quiet=True)
    tests = tables.read_table(folder / "eval.csv")
    assert list(tests) == ["step", "images", "params", "ema", "decay_0.9", "power_0.1"]
    assert list(tests["step"]) == [3, 6] and list(tests["images"]) == [297, 297]
    m = model.load(folder)
    x, c = sources.load("digits").x_test, sources.load("digits").y_test
    mse = eps_mse(m.eps, m.schedule, data.to_float(x), c, jax.random.key(0)).value
    assert tests["ema"][-1] == pytest.approx(mse, rel=1e-5)
    norms = tables.read_table(folder / "layers.csv")
    total = np.sqrt(sum(norms[name] ** 2 for name in norms if name != "step"))
    np.testing.assert_allclose(total, tables.read_metrics(folder)["grad_norm"], rtol=2e-3)
    assert checkpoint.steps(folder / "ema") == [2, 4, 6]
    kept = ema.combine(folder, 0.1)
    assert flatten(kept).keys() == flatten(m.params).keys()

    about = json.loads((folder / "config.json").read_text())
    for name in ("accumulate", "lr_schedule", "dtype", "more_ema", "devices"):
        del about["train"][name]
    (folder / "config.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"accumulate was 1, now 2; .*more_ema was \[\], now \[0.9\]\. Use"):
        run.train(setup, runs, quiet=True)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"batch": 10, "accumulate": 4}, "batch 10 is not divisible by accumulate 4"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"lr_schedule": "cosin"}, "Known: late_cosine"),
        ({"dtype": "float16"}, "Known: float32, bfloat16"),
        ({"more_ema": (1.5,)}, "decays in"),
        ({"power_ema": (0.3,)}, "relative widths"),
        ({"snapshot_every": 5}, "power_ema"),
        ({"steps_per_call": 7}, "not divisible by steps_per_call 7"),
        ({"devices": -1}, "devices is -1"),
    ],
)
def test_options_that_cannot_work(change, words):
    with pytest.raises(ValueError, match=words):
        TrainConfig(**change)


def test_steps_per_call_fit_every_event():
    base = TrainConfig(steps=3000, log_every=50, save_every=500, sample_every=0)
    assert loop.steps_per_call(base, "cpu") == 1 and loop.steps_per_call(base, "gpu") == 10
    assert loop.steps_per_call(dataclasses.replace(base, log_every=14), "gpu") == 2
    assert loop.steps_per_call(dataclasses.replace(base, steps_per_call=25), "cpu") == 25


def test_the_command_of_a_run_makes_the_same_run():
    """What `command` writes, the command line reads back to the same configuration; defaults need no words."""
    import tyro

    assert TrainConfig().command() == "ddpm train"
    run = TrainConfig(data="cifar10", flip=True, conditional=False, more_ema=(0.9, 0.99), lr=2e-4, name="mine")
    words = run.command().split()
    assert words[:2] == ["ddpm", "train"] and "mine" not in words
    assert tyro.cli(TrainConfig, args=[*words[2:], "--name", "mine"]) == run


def test_a_short_training_is_announced_in_seconds_and_a_long_one_in_minutes():
    compiled = SimpleNamespace(cost_analysis=lambda: {"flops": 1e9}, memory_analysis=lambda: None)
    words = lambda left: cost.describe(compiled, TrainConfig(), {"a": np.zeros(3)}, 0.05, left)  # noqa: E731
    assert "400 steps: about 20 s on" in words(400) and "12,000 steps: about 10 min on" in words(12_000)
