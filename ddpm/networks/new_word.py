"""Textual inversion: a new word for a network that reads captions, of which one row of the table is learned.

    v* = argmin_v E ‖ε - ε̂(x_t, t, τ(T with S* → v))‖²                                       [Gal et al. 2023, Eq. 2]

v is all that is trained: `spoken(params, v)` is a function of v alone, so that every other parameter stays as it is, to
the bit. (An optimiser with weight decay on the whole table shrinks the other rows even where their gradient is 0.)
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from ddpm.networks.text_config import TextConfig
from ddpm.tools import check, tokens


def with_word(config: TextConfig, params: dict, word: str, like: str) -> tuple[TextConfig, dict]:
    """Add a word, whose row is at first that of the known word `like`: at first it means the same, to the bit."""
    if word in config.words or word != word.lower() or len(word.split()) != 1:
        raise ValueError(f"word is {word!r}; give one new word in lower case, such as <s1>")
    tokens.split(like, config.words)  # unknown words are named
    table = params["text"]["table"]
    row = table[2 + config.words.index(like)]
    changed = params | {"text": params["text"] | {"table": jnp.concatenate([table, row[None]])}}
    return dataclasses.replace(config, words=(*config.words, word)), changed


def row(params: dict) -> jax.Array:
    """The row of the newest word: (text_width,)"""
    return params["text"]["table"][-1]


def spoken(params: dict, v: jax.Array, config: TextConfig | None = None) -> dict:
    """The parameters with v as the row of the newest word; all others are those of `params`.

    config: that of `with_word`. With it parameters without the new word are refused: their last row is another word's.
    """
    table = params["text"]["table"]
    if config is not None and len(table) != 2 + len(config.words):
        raise ValueError(
            f"the table has {len(table)} rows, but {config.words[-1]!r} is number {1 + len(config.words)}; take the "
            f"parameters that with_word returned"
        )
    check.number("v", v)
    if v.shape != table.shape[1:]:
        raise ValueError(f"v has shape {v.shape}; a row of this network is {table.shape[1:]}")
    return params | {"text": params["text"] | {"table": table.at[-1].set(v)}}
