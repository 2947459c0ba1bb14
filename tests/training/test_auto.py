"""The largest network that fits into a time: the count of its operations, the search, and what a run then is."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest

from ddpm.config import UNetConfig
from ddpm.network import build
from ddpm.networks.inspect import param_shapes
from ddpm.tools import layers, ops
from ddpm.training import auto, run
from ddpm.training.config import TrainConfig
from ddpm.training.loop import Training


@pytest.mark.parametrize("attention", [(), (128,)])
def test_operations_are_those_of_xla(attention, monkeypatch):
    """XLA leaves out the zeros around the image, and adds norms and activations: little for a wide one."""
    monkeypatch.setattr(layers, "conv_doubled", ops.conv_of_doubled)  # as in a training step
    shape = {"image_size": 128, "image_channels": 3, "image_width": 256, "patch": 2}
    unet = UNetConfig(**shape, channels=64, multipliers=(1, 2), blocks=1, attention=attention, num_classes=3)
    x, t = jax.ShapeDtypeStruct((1, *unet.image_shape), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    lowered = jax.jit(build(unet)[1]).lower(param_shapes(unet), x, t, t)
    assert auto.operations(unet) == pytest.approx(lowered.cost_analysis()["flops"], rel=0.015)


@pytest.mark.parametrize("seconds", [0.5, 3, 10, 47, 200, 1000, 10_000])
def test_the_choice_is_the_largest_that_makes_the_steps(seconds):
    """A step of network i takes 0.01 s times its size: no compilation, no noise."""
    sizes, seen = [1, 2, 5, 6, 9, 20, 100], []

    def measure(i):
        seen.append(i)
        return 0.01 * sizes[i], 0.0

    i, steps = auto.choose(sizes, measure, seconds, 100)
    fits = [j for j, size in enumerate(sizes) if seconds * auto.SHARE / (0.01 * size) >= 100.5]
    assert i == max(fits, default=0) and i in seen and len(seen) == len(set(seen)) <= 3
    assert steps == pytest.approx(seconds * auto.SHARE / (0.01 * sizes[i]), rel=0.01, abs=1)


def test_a_large_network_that_is_slower_than_predicted_is_passed_over():
    each = [0.01, 0.02, 0.04, 0.9, 1.6]  # the fourth and fifth do not fit into the cache
    i, steps = auto.choose([1, 2, 4, 8, 16], lambda i: (each[i], 0.0), 100, 200)
    assert i == 2 and steps >= 200


def test_every_image_has_a_ladder_that_keeps_the_options_that_were_given():
    for shape in ((1, 1, 1), (8, 8, 1), (28, 28, 1), (32, 48, 3), (256, 100, 3)):
        rungs = auto.ladder(shape, {"blocks": 1})
        assert len(rungs) >= 10 and all(r["blocks"] == 1 for r in rungs)
        assert {r["patch"] for r in auto.ladder(shape, {"patch": 2})} == {2}
        assert len(auto.ladder(shape, {"patch": 2, "channels": 24, "multipliers": (1,)})) == 1


def test_a_run_gets_the_options_that_were_chosen_and_keeps_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(auto, "seconds_a_step", lambda training: auto.operations(training.unet) / 1e9)
    began = []
    monkeypatch.setattr(Training, "go", lambda training: began.append(training))
    config = TrainConfig(data="digits", preset="auto", minutes=0.5, steps=300)
    folder = run.train(config, tmp_path)
    said, (training,) = capsys.readouterr().out, began
    assert folder.name == "digits-auto" and training.config.steps >= 300
    makes = {w: 25e9 / auto.operations(dataclasses.replace(training.unet, channels=w)) for w in (32, 64, 96, 128)}
    assert training.unet.channels == max(w for w, n in makes.items() if n >= 301)
    assert 0 <= makes[training.unet.channels] - training.config.steps < 101
    assert training.config.command(without=("name",)) in said and "fit into 0.5 minutes. The same as" in said
    # The same command resumes it, whatever is measured now
    (folder / "config.json").write_text(json.dumps(training.about))
    run.train(dataclasses.replace(config, minutes=5), tmp_path)
    assert began[1].config == training.config and "goes on with the network" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"minutes is 0\.001; compiling a small network leaves"):
        run.train(dataclasses.replace(config, minutes=0.001, name="b"), tmp_path)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("fields", [{"preset": "auto"}, {"minutes": 1.0}, {"preset": "auto", "minutes": 0.0}])
def test_auto_and_minutes_belong_together(fields):
    with pytest.raises(ValueError, match="give both, such as --preset auto --minutes 10"):
        TrainConfig(**fields)
