"""A dataclass as the schema of a JSON object: what fits is built, what does not is one sentence with the field."""

import dataclasses
from typing import Any, Literal

import pytest

from ddpm.tools import schema


@dataclasses.dataclass(frozen=True)
class Inner:
    T: int
    name: str = "cosine"


@dataclasses.dataclass(frozen=True)
class Card:
    schedule: Inner
    widths: tuple[int, ...] = (1, 2)
    rate: float = 0.5
    label: int | None = None
    flag: bool = False
    predict: Literal["eps", "v"] = "eps"
    more: Any = None

    def __post_init__(self):
        if len(self.widths) == 3:
            raise ValueError("three widths")


GOOD = {"schedule": {"T": 10}}


def read(**fields):
    return schema.read(Card, GOOD | fields, "c.json", {"T": (1, 100), "widths": (1, 9), "rate": (0, 1)})


def test_what_fits_is_built_with_its_types():
    card = read(widths=[3, 4], rate=1, label=2, flag=True, predict="v", more=[None], unknown="kept out")
    assert card == Card(Inner(10), (3, 4), 1.0, 2, True, "v", [None])
    assert isinstance(card.rate, float) and read(label=None).label is None


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"schedule": None}, "schedule is None; wanted an object"),
        ({"schedule": []}, r"schedule is \[\]; wanted an object"),
        ({"schedule": {}}, "schedule: T is missing"),
        ({"schedule": {"T": 10**9}}, "schedule: T is 1000000000; wanted a whole number in 1 to 100"),
        ({"schedule": {"T": 10.0}}, "T is 10.0; wanted a whole number"),
        ({"schedule": {"T": True}}, "T is True; wanted a whole number"),
        ({"schedule": {"T": "10"}}, "T is '10'; wanted a whole number"),
        ({"schedule": {"T": 10, "name": 3}}, "name is 3; wanted a text"),
        ({"schedule": {"T": 10, "name": "a" * 200_000}}, "name has 200,000 characters"),
        ({"widths": 3}, "widths is 3; wanted a list"),
        ({"widths": "34"}, "widths is '34'; wanted a list"),
        ({"widths": [1, 0]}, r"widths\[1\] is 0; wanted a whole number in 1 to 9"),
        ({"widths": [1] * 200_000}, "widths has 200,000 items"),
        ({"widths": [1, 2, 3]}, "three widths"),
        ({"rate": float("nan")}, "rate is nan; wanted a number"),
        ({"rate": float("inf")}, "rate is inf"),
        ({"rate": "a" * 10_000}, "rate is 'a{1,40}[^a]"),
        ({"label": "2"}, "label is '2'; wanted a whole number"),
        ({"label": 2**70}, "label is 1180591620717411303424; wanted a whole number"),
        ({"flag": 1}, "flag is 1; wanted true or false"),
        ({"predict": "x"}, "predict is 'x'; wanted one of eps, v"),
    ],
)
def test_what_does_not_fit_is_named(fields, words):
    with pytest.raises(ValueError, match=rf"^c\.json: .*{words}"):
        read(**fields)


def test_values_that_are_no_object_are_said():
    for values in ([], None, 3):
        with pytest.raises(ValueError, match=r"^c\.json is .*; wanted an object"):
            schema.read(Card, values, "c.json")
    with pytest.raises(ValueError, match=r"'b' is not a field of it\. Known: T, name"):
        schema.read(Inner, {"T": 1, "b": 2}, "c.json", strict=True)
