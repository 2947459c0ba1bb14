"""Fine-tuning: a training begins with a model's parameters, in every average, and refuses one that does not fit."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from ddpm import config
from ddpm.cli.start import main
from ddpm.config import UNetConfig
from ddpm.datasets import sources
from ddpm.networks import build
from ddpm.schedule import cosine, linear
from ddpm.training import begin, loop, run, step
from ddpm.training.config import TrainConfig
from ddpm.zoo.model import Model, load

TINY = UNetConfig(8, 1, channels=8, multipliers=(1,), blocks=1, attention=(), groups=4, num_classes=10)
BASE = TrainConfig(data="digits", preset="tiny", name="r", steps=1, batch=8, warmup=0, save_every=1, more_ema=(0.9,))
ABOUT = {"predict": "eps", "schedule": {"name": "cosine", "T": 1000}}


def trained(unet=TINY, schedule=None, **card):
    """A model with parameters that no training here draws."""
    params = jax.tree.map(lambda a: a + 1.5, build(unet)[0](jax.random.key(7)))
    return Model("other", unet, params, schedule or cosine(1000), (), ABOUT | card)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_the_first_parameters_are_those_of_the_model_in_all_averages():
    state = step.init_state(BASE, TINY)
    of = begin.begun(state, trained())
    assert not same(state.params, trained().params)
    for tree in (of.params, of.ema, *of.emas.values()):
        assert same(tree, trained().params)
    assert same(of.opt, state.opt) and begin.begun(state, None) is state


def test_other_classes_begin_with_a_table_of_their_own():
    unet = dataclasses.replace(TINY, num_classes=3)
    begin.check_begin(BASE, unet, cosine(1000), trained())
    state = step.init_state(BASE, unet)
    params = begin.begun(state, trained()).params
    table = params.pop("class_embedding")
    assert same(table, state.params["class_embedding"])
    assert same(params, {k: v for k, v in trained().params.items() if k != "class_embedding"})


@pytest.mark.parametrize(
    "model, words",
    [
        (trained(predict="v"), "predicts v, but predict is eps"),
        (trained(schedule=linear(1000), schedule_name="linear"), "but this training has cosine"),
        (trained(dataclasses.replace(TINY, image_channels=3)), "as many channels"),
        (trained(dataclasses.replace(TINY, blocks=2)), "another network than preset 'tiny'"),
        (None, "give its model as well"),
    ],
)
def test_what_does_not_fit_is_refused(model, words):
    with pytest.raises(ValueError, match=words):
        begin.check_begin(dataclasses.replace(BASE, begin="other"), TINY, cosine(1000), model)


@pytest.mark.parametrize(
    ("option", "there"),
    [({"gaussian": "isotropic"}, "class"), ({"gaussian_rank": 5}, "6"), ({"gaussian_fade": (0, 9)}, "[0, 0]")],
)
def test_a_gaussian_of_another_kind_is_refused(option, there):
    """What the network adds to one Gaussian is wrong for another; with the options of its card it is taken."""
    setup = dataclasses.replace(BASE, predict="gaussian", gaussian_rank=6, begin="other")
    train = {"gaussian": "class", "gaussian_rank": 6, "gaussian_fade": [0, 0]}
    model = trained(predict="gaussian", train=train)
    begin.check_begin(setup, TINY, cosine(1000), model)
    field = next(iter(option))
    with pytest.raises(ValueError, match=re.escape(f"with {field} {there}, but {field} is {option[field]}: what")):
        begin.check_begin(dataclasses.replace(setup, **option), TINY, cosine(1000), model)


def test_a_model_of_few_steps_has_no_begin():
    with pytest.raises(ValueError, match="leave begin out"):
        dataclasses.replace(BASE, begin="other", loss="shortcut", predict="flow", path="linear")


@pytest.mark.slow
def test_a_run_begins_where_another_ended(tmp_path, monkeypatch):
    """With a rate of almost 0 the new run ends with the old one's average; without `begin` it does not."""
    monkeypatch.setitem(config.UNETS, "tiny", dataclasses.replace(TINY, num_classes=0))
    monkeypatch.setattr(loop, "sample_grid", lambda *args: np.zeros((8, 8, 8, 1)))
    monkeypatch.chdir(tmp_path)
    run.train(BASE, quiet=True)
    common = "train --data digits --preset tiny --steps 1 --batch 8 --warmup 0 --lr 1e-12 --seed 1".split()
    for name, more in (("with", ["--begin", "runs/r"]), ("without", [])):
        main([*common, "--name", name, *more])
    old, new, other = (load(f"runs/{name}").params for name in ("r", "with", "without"))
    close = lambda a, b: all(np.allclose(x, y, atol=1e-6) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))  # noqa: E731
    assert close(old, new) and not close(old, other)
    assert sources.load("digits").num_classes == load("runs/with").num_classes
