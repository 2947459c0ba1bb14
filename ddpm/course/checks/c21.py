"""Lesson 21, your own pictures: the truth of its three exercises, and the mistakes that have a name."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ddpm.course.exercise import exercise, formula, prediction

# ------------------------------------------------------------------------------------------- inputs, by seed


def hashes(rng):
    """(digests,)"""
    return [(rng.integers(0, 256, (n, 32), dtype=np.uint8),) for n in (40, 7, 1)]


def fitted(rng):
    """(s, λ, ᾱ)"""
    return [
        (rng.uniform(0.1, 3, D), rng.uniform(0.1, 3, D), np.sort(rng.uniform(0.05, 0.95, T))[::-1].copy())
        for D, T in ((4, 5), (1, 3), (7, 1))
    ]


def lists(rng):
    """(λ, ᾱ of the times, the last of which is 1)"""
    return [
        (rng.uniform(0.1, 3, D), np.append(np.sort(rng.uniform(0.05, 0.95, N)), 1.0))
        for D, N in ((4, 3), (1, 1), (6, 5))
    ]


# ------------------------------------------------------------------------------------------- truths


def place(digests, order="big", n=8):
    """Row by row, with whole numbers"""
    return np.array([int.from_bytes(bytes(row[:n]), order) / 256**n for row in digests])


def loss(s, lam, alpha_bar, over=np.mean):
    """Time by time"""
    out = []
    for a in alpha_bar:
        gain = a * lam / (a * lam + 1 - a)
        out.append(over(gain**2 + (1 - gain) ** 2 * a * s / (1 - a)))
    return np.array(out)


def deviation(lam, alpha_bar):
    """Backwards from the end, by x̂0 and ε̂"""
    out = np.ones(len(lam))
    for i in range(len(alpha_bar) - 1, 0, -1):
        a, b = alpha_bar[i - 1], alpha_bar[i]
        v = a * lam + (1 - a)
        x0, eps = np.sqrt(a) * lam / v, np.sqrt(1 - a) / v
        out = out * (np.sqrt(b) * x0 + np.sqrt(1 - b) * eps)
    return out


EXERCISES = (
    exercise(
        "21.1",
        formula(
            "place",
            place,
            hashes,
            {
                "The bytes are read from the wrong end: the first of them counts most.": lambda d: place(d, "little"),
                "Only the first byte is looked at; shares between two 256ths are then not possible.": (
                    lambda d: place(d, n=1)
                ),
                "Divided by powers of 255; a byte is a digit to the base 256.": lambda d: (
                    d[:, :8] / 255.0 ** np.arange(1, 9)
                ).sum(1),
                "The first byte is worth whole units; u is less than 1, so that it begins with 256ths.": lambda d: (
                    256 * place(d)
                ),
                "The place in the list decides; then a picture changes sides when others come.": lambda d: (
                    np.arange(len(d)) / len(d)
                ),
            },
        ),
        hints=(
            "As with decimal digits: .271 is 2/10 + 7/100 + 1/1000. Here the base is 256.",
            "A row of eight weights, multiplied with the first eight columns, and a sum over each row.",
        ),
    ),
    exercise(
        "21.2",
        formula(
            "loss_on",
            loss,
            fitted,
            {
                "This is the loss on the pictures that were fitted: s does not occur in it.": lambda s, lam, a: loss(
                    lam, lam, a
                ),
                "The Gaussian was fitted to the fresh pictures; its variances are λ.": lambda s, lam, a: loss(s, s, a),
                "The two are swapped: the denoiser knows λ, the pictures have s.": lambda s, lam, a: loss(lam, s, a),
                "The noise's part is missing: even of a blank picture it is predicted with an error.": (
                    lambda s, lam, a: loss(s, lam, a) - loss(0 * s, lam, a)
                ),
                "The picture's part is missing.": lambda s, lam, a: loss(0 * s, lam, a),
                "Summed over the directions; the loss is their mean.": lambda s, lam, a: loss(s, lam, a, over=np.sum),
                "s is already a mean square: it was squared again.": lambda s, lam, a: loss(s**2, lam, a),
            },
        ),
        prediction(
            "times_worse",
            11.0,
            2.0,
            {
                "Few directions would be missed if there were many more pictures than 768; but there are 200.": 1.0,
                "That is 768/200; but what lies outside the span of the pictures costs more than its share.": 3.84,
            },
        ),
        hints=(
            "Give alpha_bar an axis for the directions; the rest is the formula, of shape (T, D).",
            "Above the bar: what the denoiser takes for noise though it is picture, and the other way round.",
            "For the bet: in the directions that were never seen the denoiser calls everything noise.",
        ),
    ),
    exercise(
        "21.3",
        formula(
            "end_deviation",
            deviation,
            lists,
            {
                "Only the first step was taken.": lambda lam, a: deviation(lam, a[:2]),
                "This is the factor of the variance; the deviation's is its root.": lambda lam, a: (
                    deviation(lam, a) ** 2
                ),
                "The denominator is that of the time where the step ends; the denoiser sees x at its beginning.": (
                    lambda lam, a: np.prod(
                        [
                            (np.sqrt(p * q) * lam + np.sqrt((1 - p) * (1 - q))) / (q * lam + 1 - q)
                            for p, q in pairwise(a)
                        ],
                        axis=0,
                    )
                ),
                "λ is a variance; it was taken for a deviation and squared.": lambda lam, a: deviation(lam**2, a),
                "The factors were added up; one step after the other multiplies.": lambda lam, a: sum(
                    deviation(lam, a[i : i + 2]) for i in range(len(a) - 1)
                ),
            },
        ),
        hints=(
            "One factor for each pair of neighbouring times; they are multiplied.",
            "Begin with ones, one for each direction, and go through zip(alpha_bar[:-1], alpha_bar[1:]).",
        ),
    ),
)
