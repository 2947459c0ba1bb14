"""Lesson 8, conditions: the truth of its eight exercises, and the mistakes that have a name."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from ddpm.course.exercise import bitwise, exercise, formula

# ------------------------------------------------------------------------------------------- inputs, by seed


def classes(rng):
    """(time embedding, table, labels), the null label among them, and None"""
    out = []
    for B, d, K in ((3, 5, 4), (1, 2, 10), (6, 3, 2)):
        temb, table = rng.normal(size=(B, d)), rng.normal(size=(K + 1, d))
        out += [(temb, table, np.append(rng.integers(0, K, B - 1), K)), (temb, table, None)]
    return out


def films(rng):
    """(h, γ, β), images as wide as they have channels among them"""
    return [
        (rng.normal(size=(B, s, s, C)), rng.normal(size=(B, C)), rng.normal(size=(B, C)))
        for B, s, C in ((2, 4, 3), (3, 3, 3), (1, 5, 2))
    ]


def questions(rng):
    """(q, k, v)"""
    return [
        (2 * rng.normal(size=(N, d)), rng.normal(size=(M, d)), rng.normal(size=(M, e)))
        for N, M, d, e in ((4, 3, 8, 2), (5, 5, 5, 5), (1, 7, 3, 4))
    ]


def with_filling(rng):
    """(q, k, v, mask), as many places as tokens in one case"""
    out = []
    for q, k, v in questions(rng):
        mask = rng.random(len(k)) < 0.6
        mask[:2] = True, False
        out.append((q, k, v, mask))
    return out


def single(rng):
    """(h, token, W_v, W_o)"""
    return [
        (rng.normal(size=(B, N, C)), rng.normal(size=(B, D)), rng.normal(size=(D, C)), rng.normal(size=(C, C)))
        for B, N, C, D in ((2, 5, 4, 3), (3, 3, 3, 3), (1, 6, 2, 5))
    ]


def texts(rng):
    """(tokens, u, p)"""
    out = []
    for B, L in ((6, 4), (5, 7), (8, 3)):
        text = rng.integers(2, 30, (B, L)) * (np.arange(L) < rng.integers(2, L + 1, (B, 1)))
        text[:, 0] = 1
        p = float(rng.uniform(0.3, 0.45))
        u = rng.uniform(0, 1, B)
        u[:2] = p / 2, (1 + p) / 2
        out.append((text, u, p))
    return out


def captions(rng):
    """(values or -1, sizes, rate)"""
    out = []
    for n, A in ((7, 3), (5, 5)):
        sizes = rng.integers(2, 9, A)
        mentioned = np.stack([rng.integers(-1, K, n) for K in sizes], 1)
        mentioned[0] = -1
        mentioned[1] = 0
        out.append((mentioned, sizes, float(rng.uniform(0.6, 0.9))))
    return out


def bags(rng):
    """Colours, some of them equal"""
    words = rng.permutation(8)  # which word stands for which number
    return [(words[c],) for c in ([2, 2], [0, 1], [3, 1, 3], [4, 4, 4], [0, 7, 5], [1, 1, 2, 2])]


# ------------------------------------------------------------------------------------------- truths


def with_class(temb, table, c):
    """Row by row"""
    rows = [table[len(table) - 1 if c is None else c[i]] for i in range(len(temb))]
    return np.stack([a + b for a, b in zip(temb, rows, strict=True)])


def film(h, gamma, beta):
    """Image by image"""
    return np.stack([a + a * g + b for a, g, b in zip(h, gamma, beta, strict=True)])


def attention(q, k, v, mask=None, scale=None, over=None):
    """Place by place: Σ_j w_j v_j / Σ_j w_j"""
    out = []
    for row in q:
        logits = [float(row @ key) / math.sqrt(len(row) if scale is None else scale) for key in k]
        used = [j for j in range(len(k)) if mask is None or mask[j]]
        top = max(logits[j] for j in used)
        w = {j: math.exp(logits[j] - top) for j in used}
        out.append(sum(w[j] * v[j] for j in used) / sum(w.values()))
    return np.array(out)


def masked(q, k, v, mask):
    """Only the tokens that are there"""
    return attention(q, k[mask], v[mask])


def weights(q, k, axis=1):
    """The softmax of the scaled products, along the tokens or along the places"""
    logits = q @ k.T / math.sqrt(q.shape[1])
    e = np.exp(logits - logits.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def one_token(h, token, W_v, W_o):
    """What it adds to each place"""
    add = np.einsum("bd,dc,ce->be", token, W_v, W_o)
    return np.stack([a + b for a, b in zip(h, add, strict=True)])


def dropped(text, u, p):
    """Row by row"""
    empty = [1] + [0] * (text.shape[1] - 1)
    return np.array([empty if k < p else list(row) for row, k in zip(text, u, strict=True)])


def log_caption(mentioned, sizes, rate):
    """Attribute by attribute, as probabilities"""
    return np.array(
        [
            sum(math.log(rate / K if v >= 0 else 1 - rate) for v, K in zip(row, sizes, strict=True))
            for row in mentioned.tolist()
        ]
    )


def ceiling(colours):
    """One over the number of different orders"""
    counts = Counter(colours.tolist()).values()
    return math.prod(map(math.factorial, counts)) / math.factorial(len(colours))


EXERCISES = (
    exercise(
        "8.1",
        formula(
            "with_class",
            with_class,
            classes,
            {
                "The rows are one off: label 0 has the first row of the table.": lambda temb, table, c: with_class(
                    temb, table, None if c is None else np.maximum(c - 1, 0)
                ),
                "No class adds nothing here; ∅ has a row of its own, the last one, which is learned too.": (
                    lambda temb, table, c: temb if c is None else with_class(temb, table, c)
                ),
                "This is the class alone: without the time a network cannot know how noisy its input is.": (
                    lambda temb, table, c: with_class(0 * temb, table, c)
                ),
                "The first row stands for no class here; it is that of class 0, and ∅ is the last.": (
                    lambda temb, table, c: with_class(temb, table, np.zeros(len(temb), int) if c is None else c)
                ),
            },
        ),
        hints=("How many rows has the table, and what is the last one for?", "Select rows by number, and add."),
    ),
    exercise(
        "8.2",
        formula(
            "film",
            film,
            films,
            {
                "The 1 is missing: with γ = 0 the layer's input is erased instead of kept.": lambda h, g, b: film(
                    h, g - 1, b
                ),
                "The shift is scaled as well: β is to be added after the multiplication.": lambda h, g, b: film(
                    h, g, b * (1 + g)
                ),
                "γ and β are exchanged.": lambda h, g, b: film(h, b, g),
                "The numbers run along the width of the image. They belong to channels, the last axis.": (
                    lambda h, g, b: h * (1 + g[:, None, :, None]) + b[:, None, :, None]
                ),
            },
        ),
        hints=("One number for each channel, the same at all places.", "Which axes does γ lack next to h?"),
    ),
    exercise(
        "8.3",
        formula(
            "attention",
            attention,
            questions,
            {
                "The products are not scaled: with many channels the softmax picks one token only.": lambda q, k, v: (
                    attention(q, k, v, scale=1)
                ),
                "The products are divided by d; their deviation is its root.": lambda q, k, v: attention(
                    q, k, v, scale=q.shape[1] ** 2
                ),
                "The softmax runs over the places: each place shall distribute its own attention over the tokens.": (
                    lambda q, k, v: weights(q, k, 0) @ v
                ),
                "The exponentials are not divided by their sum, so that this is no mean.": lambda q, k, v: (
                    np.exp(q @ k.T / math.sqrt(q.shape[1])) @ v
                ),
            },
        ),
        hints=(
            "First all products of a question with a key: a table with a row for each place.",
            "Each row becomes weights that sum to one; the answer is the mean of the values with these weights.",
            "Subtract the largest entry of a row before the exponential: nothing changes, and nothing overflows.",
        ),
    ),
    exercise(
        "8.4",
        formula(
            "masked",
            masked,
            with_filling,
            {
                "The weights were masked after the softmax: what the filling got is lost, and they sum to less than "
                "one.": lambda q, k, v, mask: (weights(q, k) * mask[None]) @ v,
                "Filling has the logit 0 here, and e^0 is a weight like others.": lambda q, k, v, mask: attention(
                    q, k * mask[:, None], v * mask[:, None]
                ),
                "The mask is upside down: this reads the filling alone.": lambda q, k, v, mask: masked(q, k, v, ~mask),
                "The mask is not used.": lambda q, k, v, mask: attention(q, k, v),
            },
        ),
        hints=(
            "What logit has the weight 0 after the exponential?",
            "Before the softmax: then the other weights sum to one by themselves.",
        ),
    ),
    exercise(
        "8.5",
        formula(
            "one_token",
            one_token,
            single,
            {
                "The input h is lost: attention is added to it.": lambda h, token, W_v, W_o: one_token(
                    0 * h, token, W_v, W_o
                ),
                "The weight was shared among the places. Each place gives its whole weight, 1, to the only token.": (
                    lambda h, token, W_v, W_o: one_token(h, token / h.shape[1], W_v, W_o)
                ),
                "W_o is left out.": lambda h, token, W_v, W_o: one_token(h, token, W_v, np.eye(len(W_o))),
                "W_o acts from the left here; with rows of numbers it stands on the right.": (
                    lambda h, token, W_v, W_o: one_token(h, token, W_v, W_o.T)
                ),
            },
        ),
        hints=("What is the softmax of a single number?", "Then the value of the token goes to every place as it is."),
    ),
    exercise(
        "8.6",
        bitwise(
            "dropped",
            dropped,
            texts,
            {
                "∅ is all filling here: a row without any word to attend to. It begins with BEGIN, number 1.": (
                    lambda text, u, p: np.where((u < p)[:, None], 0, text)
                ),
                "The other rows were dropped: with p = .1 nine in ten.": lambda text, u, p: dropped(text, -u, -p),
                "Nothing was dropped: the mask is not used.": lambda text, u, p: text,
                "∅ is all BEGIN here; after it comes filling, number 0.": lambda text, u, p: np.where(
                    (u < p)[:, None], 1, text
                ),
            },
        ),
        hints=("Write the row of ∅ first: BEGIN, then filling.", "A row is replaced as a whole, or not at all."),
    ),
    exercise(
        "8.7",
        formula(
            "log_caption",
            log_caption,
            captions,
            {
                "The values are missing: what is mentioned takes one of K values.": lambda mentioned, sizes, r: (
                    log_caption(mentioned, np.ones_like(sizes), r)
                ),
                "What is not mentioned counts as well: that an attribute is left out has a probability.": (
                    lambda mentioned, sizes, r: np.where(mentioned >= 0, np.log(r / sizes), 0.0).sum(1)
                ),
                "r and 1 - r are exchanged.": lambda mentioned, sizes, r: log_caption(mentioned, sizes, 1 - r),
                "This is the probability; its logarithm was wanted.": lambda mentioned, sizes, r: np.exp(
                    log_caption(mentioned, sizes, r)
                ),
            },
        ),
        hints=("Independent attributes: logarithms add.", "Either it is left out, or it is told, with one value of K."),
    ),
    exercise(
        "8.8",
        formula(
            "ceiling",
            ceiling,
            bags,
            {
                "Equal colours were counted as different: exchanging them gives the same picture.": lambda c: (
                    1 / math.factorial(len(c))
                ),
                "This counts the places for one colour; the others have to be right too.": lambda c: 1 / len(c),
                "This takes two equal colours for one, and counts fewer orders than there are.": (
                    lambda c: 1 / math.factorial(len(set(c.tolist())))
                ),
            },
        ),
        hints=(
            "How many different rows can be laid from these words? One is right.",
            "All orders, divided by those that look the same because equal words were exchanged.",
        ),
    ),
)
