"""Captions: from attributes to words and back.

    a large striped red dress with blue on green on the left at night

Each attribute is mentioned with probability .9, always in this order; a garment that is not named is a "thing", and
ink is mentioned only if its pattern is. There are 428,652 captions. A colour before `with` and `on` is the garment's,
one after `with` is the ink's, one after `on` the ground's: the same words in another order mean another picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ddpm.datasets.wardrobe.words import ATTRIBUTES, COLOURS, INKED
from ddpm.tools import tokens

MENTIONED = 0.9  # the probability that a caption mentions an attribute
FORMS: dict[str, Any] = {  # how a value is said
    "ink": "with {}",
    "ground": "on {}",
    "column": {"left": "on the left", "centre": "in the centre", "right": "on the right"},
    "light": {"day": "by day", "night": "at night"},
}
ORDER = ("size", "pattern", "colour", "garment", "ink", "ground", "column", "light")
NAMES = tuple(ATTRIBUTES)
FILLERS = ("a", "thing", "with", "on", "the", "in", "by", "at")
VOCABULARY = (*FILLERS, *dict.fromkeys(word for words in ATTRIBUTES.values() for word in words))
ROLE_AFTER = {"with": "ink", "on": "ground"}  # before either it is the garment's colour


def caption(values: Sequence[int]) -> str:
    """The caption that mentions these values, (8,) in the order of ATTRIBUTES; -1: not mentioned."""
    said = dict(zip(NAMES, values, strict=True))
    words = ["a"]
    for name in ORDER:
        if said[name] < 0:
            words += ["thing"] if name == "garment" else []
            continue
        word, form = ATTRIBUTES[name][said[name]], FORMS.get(name, "{}")
        words.append(form[word] if isinstance(form, dict) else form.format(word))
    return " ".join(words)


def mentioned(values: np.ndarray, seed: int = 0, rate: float = MENTIONED) -> np.ndarray:
    """Draw what captions of these pictures mention: values (n, 8), with -1 for what is left out."""
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is {rate}; give a probability")
    values = np.array(values)
    out = np.random.default_rng([seed, len(values)]).random(values.shape) >= rate
    out[:, NAMES.index("ink")] |= out[:, NAMES.index("pattern")]
    values[out] = -1
    return values


def log_prob(said: np.ndarray, rate: float = MENTIONED) -> np.ndarray:
    """log p(T) of captions that mention values said (n, 8): nats, (n,)"""
    total = np.zeros(len(said))
    for i, name in enumerate(NAMES):
        if name != "ink":
            told = np.log(rate / len(ATTRIBUTES[name]))
            total += np.where(said[:, i] < 0, np.log(1 - rate), told)
    ink, pattern = said[:, NAMES.index("ink")], said[:, NAMES.index("pattern")]
    inked = np.isin(pattern, INKED)
    told = np.log(rate / len(ATTRIBUTES["ink"]))
    with np.errstate(divide="ignore"):
        never = np.log((ink < 0).astype(float))  # ink is never mentioned without its pattern
    return total + np.where(inked, np.where(ink < 0, np.log(1 - rate), told), never)


def parsed(text: str) -> np.ndarray:
    """The values that a prompt asks for, (8,) in the order of ATTRIBUTES; -1: not mentioned.

    Two values of one attribute are refused, and ink where the pattern has none.
    """
    said, role = dict.fromkeys(NAMES, -1), "colour"
    for word in tokens.split(text, VOCABULARY):
        role = ROLE_AFTER.get(word, role)
        name = role if word in COLOURS else next((n for n in NAMES if word in ATTRIBUTES[n]), None)
        if name is None:
            continue
        value = ATTRIBUTES[name].index(word)
        if said[name] not in (-1, value):
            raise ValueError(f"the prompt asks for two values of {name}: {ATTRIBUTES[name][said[name]]} and {word}")
        said[name] = value
    if said["ink"] >= 0 and said["pattern"] not in (-1, *INKED):
        pattern = ATTRIBUTES["pattern"][said["pattern"]]
        raise ValueError(f"the prompt asks for {COLOURS[said['ink']]} ink, but what is {pattern} has no ink")
    return np.array([said[name] for name in NAMES], np.int32)
