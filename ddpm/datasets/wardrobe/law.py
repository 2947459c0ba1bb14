"""The exact distribution of the pictures, captions as evidence, and the reader p(z | x0).

    law = distribution();  eps = law.eps(schedule);  eps(x_t, t, asked(values))

A caption only changes weights, so every caption has its ε* in closed form (`ddpm.oracles.region_colours`). So have
edges, known pixels, instructions and subjects: `ddpm.datasets.wardrobe.evidence`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import data
from ddpm.datasets.wardrobe.silhouettes import CELLS, shapes
from ddpm.datasets.wardrobe.words import ATTRIBUTES, INKED, SHADES, palette
from ddpm.oracles.region_colours import Evidence, Posterior, Regions, regions
from ddpm.schedule import from_beta
from ddpm.tools import check

ROLES = ("ground", "colour", "ink", "badge")  # in the order of the region numbers
OF_GEOMETRY = ("garment", "size", "column", "row", "pattern")  # the columns of shapes().attributes
LOG_0 = -np.inf


@lru_cache(maxsize=1)
def distribution() -> Regions:
    """Return the exact distribution of `draw`; its `eps(schedule)` is the best possible denoiser."""
    with jax.ensure_compile_time_eval():  # kept from one call to the next, also if the first is inside `jit`
        colours = [data.to_float(palette(role)) for role in ROLES]
        return regions(shapes().region, [[0], [1], [2], list(CELLS)], colours)


# --- captions ---------------------------------------------------------------------------------------------------------


def asked(values: np.ndarray, noise: float = 0.0) -> Evidence:
    """The pictures of which attribute a has value values[:, a]; -1: not said.

    values: (B, 8) int in the order of ATTRIBUTES. Ink that is mentioned is there: the pattern is striped or checked.
    noise: the probability that a word was replaced by one of its kind, drawn evenly (it may be the same).
    """
    if not 0 <= noise <= 1:
        raise ValueError(f"noise is {noise}; give the probability that a word is replaced by one of its kind")
    values = np.asarray(values)
    if values.ndim != 2 or values.shape[1] != len(ATTRIBUTES) or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(
            f"values has shape {values.shape} and type {values.dtype}; give integers (B, {len(ATTRIBUTES)})"
        )
    by_name = dict(zip(ATTRIBUTES, values.T, strict=True))
    for name, column in by_name.items():
        if column.min() < -1 or column.max() >= len(ATTRIBUTES[name]):
            raise ValueError(
                f"{name} holds {column.min()} to {column.max()}; give 0..{len(ATTRIBUTES[name]) - 1}, or -1"
            )
    return weights(**{name: one_hot(column, len(ATTRIBUTES[name]), noise) for name, column in by_name.items()})


def one_hot(value: np.ndarray, K: int, noise: float = 0.0) -> np.ndarray:
    """log p(word = value | k) = log((1-η) 1{k = value} + η/K) of each picture, and 0 for -1: (B, K);  noise: η"""
    with np.errstate(divide="ignore"):
        told = np.log((1 - noise) * (value[:, None] == np.arange(K)) + noise / K)  # LOG_0 where it cannot be
    return np.where(value[:, None] < 0, 0.0, told).astype(np.float32)


def weights(**log_weight: Any) -> Evidence:
    """A soft caption: for any of the attributes log-weights (B, K) of its values, which may be learned by gradients.

    Of ink they count only where there is ink: that a caption mentions it tells that the pattern has some.
    """
    for name in log_weight:
        check.choice("attribute", name, (*ATTRIBUTES, "row"))
    index, total = shapes().attributes, None
    for i, name in enumerate(OF_GEOMETRY):
        if name in log_weight:
            part = jnp.asarray(log_weight[name])[:, index[:, i]]  # (B, G)
            total = part if total is None else total + part
    if "ink" in log_weight:
        w = jnp.asarray(log_weight["ink"])
        said = (w != w[:, :1]).any(1, keepdims=True)  # (B, 1)
        inked = np.isin(index[:, 4], INKED)[None]
        part = jnp.where(said & ~inked, LOG_0, 0.0)
        total = part if total is None else total + part
    colours = tuple(
        None if role not in log_weight else jnp.repeat(jnp.asarray(log_weight[role]), SHADES, axis=1)[:, None]
        for role in ROLES
    )
    light = jnp.asarray(log_weight["light"]) if "light" in log_weight else None
    return Evidence(total, light, () if colours.count(None) == len(ROLES) else colours)


# --- the reader -------------------------------------------------------------------------------------------------------


class Reading(NamedTuple):
    """What pictures show, by the most probable values of p(z | x0)."""

    values: np.ndarray  # (n, 8) int32 in the order of ATTRIBUTES; ink -1 where the pattern has none
    certainty: np.ndarray  # (n, 8) their probabilities
    bits: np.ndarray  # (n, 16) of the badge; -1 where there is none
    log_prob: np.ndarray  # (n,) log p of the picture: low where it lies off the distribution, whatever is read
    geometry: np.ndarray  # (n,) number of its geometry in `shapes()`, the row included


def read(x0: Any) -> Reading:
    """Read pictures (n, 28, 28, 3) in [-1, 1]: the posterior of all attributes at ᾱ = .98, without added noise.

    It is an exact judge of pictures of the distribution. Of others it names the nearest attributes: look at
    `certainty` and `log_prob`.
    """
    x0 = check.images(x0, (28, 28, 3))
    schedule = from_beta([0.02])
    answer = distribution().answer(schedule, jnp.sqrt(schedule.alpha_bar[1]).astype(x0.dtype) * x0, 1)
    p = by_attribute(answer)
    values = np.stack([p[name].argmax(1) for name in ATTRIBUTES], 1).astype(np.int32)
    certainty = np.stack([p[name].max(1) for name in ATTRIBUTES], 1)
    # what is not there
    pattern, ink = (list(ATTRIBUTES).index(name) for name in ("pattern", "ink"))
    none = ~np.isin(values[:, pattern], INKED)
    values[none, ink], certainty[none, ink] = -1, 1.0
    badged = values[:, pattern] == ATTRIBUTES["pattern"].index("badged")
    bits = np.where(badged[:, None], np.asarray(answer.colours[-1]).argmax(2), -1)
    return Reading(values, certainty, bits, np.asarray(answer.log_prob), np.asarray(answer.geometry.argmax(1)))


def by_attribute(answer: Posterior) -> dict[str, np.ndarray]:
    """p(value | x_t, T) of each attribute and of the row, {name: (n, values)}; of ink where there is some."""
    index, p_geometry = shapes().attributes, np.asarray(answer.geometry, np.float64)
    p = {
        name: np.stack([p_geometry[:, index[:, i] == v].sum(1) for v in range(index[:, i].max() + 1)], 1)
        for i, name in enumerate(OF_GEOMETRY)
    }
    for name, colours in zip(ROLES[:3], answer.colours, strict=False):
        p[name] = np.asarray(colours, np.float64).reshape(len(p_geometry), -1, SHADES).sum(2)
    return p | {"light": np.asarray(answer.light, np.float64)}


def right(reading: Reading, values: np.ndarray) -> np.ndarray:
    """True where a picture has what was asked, attribute by attribute; what was not asked (-1) is right: (n, 8)"""
    return (values < 0) | (reading.values == values)
