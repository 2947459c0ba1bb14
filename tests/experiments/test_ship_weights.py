"""What a shipped model's card says on how it draws, when it is measured again with some options or none."""

import dataclasses

from tiny import TINY

from ddpm.schedule import cosine
from ddpm.zoo.cards import DrawingCard
from ddpm.zoo.model import Model
from experiments.lab.ship_weights import Config, drawing_of, measuring, with_drawing

CIFAR = {"guidance": 4.0, "gaussian_above": 750, "searched": 2}


def card_after(card, **options):
    drawing = DrawingCard(**card.get("drawing", {}))
    return with_drawing(card, drawing_of(Config("m", **options), drawing))


def test_without_options_the_card_keeps_what_it_says():
    after = card_after({"drawing": CIFAR, "note": "x"})
    assert DrawingCard(**after["drawing"]) == DrawingCard(**CIFAR) and after["note"] == "x"
    assert card_after(after) == after
    assert card_after({"note": "x"}) == {"note": "x"}


def test_each_option_changes_its_own_entry_alone():
    options = {"guidance": 3.0, "gaussian_above": 700, "sampler": "ancestral", "searched": 5}
    assert options.keys() == {f.name for f in dataclasses.fields(DrawingCard)}
    for name, value in options.items():
        after = card_after({"drawing": CIFAR}, **{name: value})["drawing"]
        assert after == dataclasses.asdict(DrawingCard(**CIFAR)) | {name: value}


def test_an_option_can_bring_back_a_default():
    assert card_after({"drawing": CIFAR}, gaussian_above=0)["drawing"]["gaussian_above"] is None
    assert card_after({"drawing": CIFAR}, guidance=2.0, gaussian_above=0, searched=10) == {}


def test_it_is_measured_as_the_card_then_says():
    card = card_after({"drawing": CIFAR | {"sampler": "ddpm"}}, guidance=3.0)
    command = measuring(Config("m"), Model("m", TINY, {}, cosine(10), (), card), "cifar10")
    assert "--guidance 3 " in command and "--sampler ddpm" in command
