"""Captions as the condition of a training: tokens, their ∅, the card of the network, and the refusals."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from ddpm.cli import options, sample
from ddpm.config import UNetConfig
from ddpm.datasets import sources
from ddpm.datasets.wardrobe import pairs
from ddpm.networks.text_config import TEXTS
from ddpm.tools import tokens
from ddpm.training import captions
from ddpm.training.config import TrainConfig
from ddpm.training.run import network_for
from ddpm.zoo import cards

WARDROBE = TrainConfig(data="wardrobe", preset="wardrobe", predict="v", loss="mse")


@pytest.fixture(scope="module")
def dataset():
    return sources.load("wardrobe")


def test_each_image_is_trained_with_its_caption(dataset):
    unet = network_for(WARDROBE, dataset)
    rows = captions.conditions(unet, dataset, "test", 50)
    words = [[unet.words[i - 2] for i in row if i > tokens.BEGIN] for row in rows]
    assert [" ".join(w) for w in words] == list(dataset.text_test[:50]) and (rows[:, 0] == tokens.BEGIN).all()
    said = pairs.values_for(dataset.text_test)[:, 0]
    assert ((said < 0) | (said == dataset.y_test)).all() and (said >= 0).mean() > 0.85
    np.testing.assert_array_equal(captions.conditions(UNetConfig(), dataset, "test"), dataset.y_test)


def test_a_caption_is_dropped_as_a_whole_and_becomes_the_empty_text(dataset):
    unet = network_for(WARDROBE, dataset)
    c = captions.conditions(unet, dataset, "test", 2000)
    text = np.asarray(captions.dropped(unet, jax.random.key(0), c, 0.1).text)
    empty = (text == tokens.nothing(1, unet.tokens)).all(1)
    assert 0.06 < empty.mean() < 0.14 and (text[~empty] == c[~empty]).all()


def test_the_card_of_the_network_is_read_back(dataset, tmp_path):
    unet = network_for(WARDROBE, dataset)
    card = {
        "unet": dataclasses.asdict(unet),
        "schedule": {"name": "cosine", "T": 10},
        "classes": list(dataset.class_names),
    }
    assert cards.weights_card(tmp_path / "a", card).unet == unet
    with pytest.raises(ValueError, match="tokens is 1"):
        cards.weights_card(tmp_path / "a", card | {"unet": card["unet"] | {"tokens": 1}})


@pytest.mark.parametrize(
    "change, words",
    [
        ({"data": "digits"}, "reads captions, and digits has none; take --data wardrobe"),
        ({"conditional": False}, "conditional is False"),
        ({"flip": True}, "flip is True"),
        ({"predict": "gaussian", "loss": "simple"}, "predict is gaussian"),
        ({"coupling": "transport"}, "coupling is transport"),
    ],
)
def test_options_that_do_not_go_with_captions_are_refused(dataset, change, words):
    config = dataclasses.replace(WARDROBE, **change)
    data = dataset if config.data == "wardrobe" else sources.load(config.data)
    with pytest.raises(ValueError, match=words):
        network_for(config, data)


def test_a_prompt_that_cannot_be_drawn_is_refused_before_anything_is_drawn(monkeypatch):
    plain = SimpleNamespace(unet=UNetConfig(), name="plain")
    reads = SimpleNamespace(unet=dataclasses.replace(TEXTS["wardrobe"], words=("red", "dress")), name="reads")
    for m, change, words in (
        (plain, {"prompt": "red"}, "was trained without captions"),
        (reads, {"prompt": "red", "label": "3"}, "neither label nor film"),
        (reads, {"prompt": "rde dress"}, "Did you mean 'red'"),
        (reads, {"prompt": "red " * 20}, "at most 15 are read"),
    ):
        with pytest.raises(ValueError, match=words):
            sample._prompted(options.Sample(**change), m, None)
    reads.how, reads.guided = lambda *_: None, lambda scale: scale
    monkeypatch.setattr(sample.model, "load", lambda name: reads)
    with pytest.raises(ValueError, match="the prompt is empty"):
        sample.run(options.Sample(prompt=""))
