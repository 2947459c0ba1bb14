"""How well a picture and a caption match, exactly: the scores that CLIP learns.

    s*(x, T) = log p(T | x)/p(T) = Σ_a log((1-η) K_a 1{T names the a of x} + η)     over the attributes a that T names

η is the probability that a word of a caption was replaced by one of its kind, drawn evenly. Without it s* is -∞ where
one word is wrong, and no temperature is high enough. Ink is left out: whether it is mentioned depends on the pattern.
In place of a picture stand its values, which `read` tells without error.

s* is a product of embeddings: f are the one-hots of the picture's values, g the columns of the tables. All f have one
length, and a coordinate that f does not have gives all g the same: it is a CLIP with τ = √A max‖g‖.
"""

from __future__ import annotations

import math

import numpy as np

from ddpm.datasets.wardrobe.words import ATTRIBUTES
from ddpm.tools import check

TOLD = tuple(name for name in ATTRIBUTES if name != "ink")
COLUMNS = [list(ATTRIBUTES).index(name) for name in TOLD]  # of values (n, 8)
SIZES = [len(ATTRIBUTES[name]) for name in TOLD]  # K_a
NOISE = 0.1  # η


def tables(noise: float = NOISE) -> list[np.ndarray]:
    """log p(word w | value k)/p(w) of each attribute in TOLD: (K, K), [k, w]"""
    if not 0 < check.number("noise", noise) <= 1:
        raise ValueError(f"noise is {noise}; give a probability above 0, without which a wrong word has the score -∞")
    return [np.log((1 - noise) * K * np.eye(K) + noise) for K in SIZES]


def log_ratio(values: np.ndarray, said: np.ndarray, noise: float = NOISE) -> np.ndarray:
    """s* of n pictures and m captions: (n, 8) and (m, 8), with -1 for what is not said -> (n, m), nats"""
    x, T = _of(values), _of(said)
    if (x < 0).any():
        raise ValueError("values holds -1; give all values of the pictures but the ink")
    total = np.zeros((len(x), len(T)))
    for a, table in enumerate(tables(noise)):
        total += np.where(T[:, a] < 0, 0.0, table[x[:, a, None], T[:, a]])
    return total


def noisy(said: np.ndarray, noise: float = NOISE, seed: int = 0) -> np.ndarray:
    """Replace each word of captions (n, 8) with probability η by one of its kind; ink is no longer mentioned."""
    rng, said = np.random.default_rng([seed, len(said)]), np.array(said)
    replaced = (rng.random((len(said), len(TOLD))) < noise) & (said[:, COLUMNS] >= 0)
    word = np.stack([rng.integers(0, K, len(said)) for K in SIZES], 1)
    said[:, COLUMNS] = np.where(replaced, word, said[:, COLUMNS])
    said[:, list(ATTRIBUTES).index("ink")] = -1
    return said


def information(noise: float = NOISE, rate: float = 1.0) -> float:
    """I(x; T), nats, where a caption names each attribute with probability `rate`.

    One word of K tells log K less the entropy of the noise; unequal words of several attributes add.
    """
    p = [np.exp(table) / len(table) for table in tables(noise)]  # p(w | k)
    return rate * sum(math.log(len(q)) + float((q[0] * np.log(q[0])).sum()) for q in p)


def embeddings(values: np.ndarray, said: np.ndarray, noise: float = NOISE) -> tuple[np.ndarray, np.ndarray, float]:
    """Unit vectors f (n, 34) and g (m, 34), and τ, with τ f·g = s*: the best CLIP of this world."""
    x, T = _of(values), _of(said)
    f = np.concatenate([np.eye(K)[x[:, a]] for a, K in enumerate(SIZES)], 1)
    g = np.concatenate([np.where(T[:, a, None] < 0, 0.0, table.T[T[:, a]]) for a, table in enumerate(tables(noise))], 1)
    length = math.sqrt(sum((table[:, 0] ** 2).sum() for table in tables(noise)))  # of g where all is mentioned
    rest = np.sqrt(np.maximum(length**2 - (g**2).sum(1, keepdims=True), 0))
    f, g = np.pad(f, ((0, 0), (0, 1))), np.concatenate([g, rest], 1)
    return f / math.sqrt(len(TOLD)), g / length, length * math.sqrt(len(TOLD))


def _of(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 2 or values.shape[1] != len(ATTRIBUTES) or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"values has shape {values.shape}; give integers (n, {len(ATTRIBUTES)})")
    return values[:, COLUMNS]
