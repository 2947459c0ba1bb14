"""Lesson 14, personalise and control: the truth of its eleven exercises, and the mistakes that have a name."""

from __future__ import annotations

import math

import numpy as np

from ddpm.course.exercise import bitwise, exercise, formula, prediction, spot_the_bug

# ------------------------------------------------------------------------------------------- inputs, by seed


def rows(rng):
    """(table, gradient, row, learning rate, decay)"""
    return [
        (
            rng.normal(size=(M, d)),
            rng.normal(size=(M, d)),
            int(rng.integers(1, M - 1)),
            *rng.uniform(0.1, 0.5, 2).tolist(),
        )
        for M, d in ((4, 3), (6, 2), (5, 5))
    ]


def attributes(rng):
    """(values, K), some values never taken"""
    return [(rng.integers(0, K - 1, n), K) for n, K in ((4, 8), (7, 3), (1, 5))]


def errors(rng):
    """(errors of both halves, λ)"""
    return [(rng.uniform(0.1, 2, 2 * B) + np.repeat((0, 1), B), float(rng.uniform(0.3, 0.8))) for B in (2, 5, 3)]


def adapters(rng):
    """(W_0, A, B, α)"""
    return [
        (rng.normal(size=(m, n)), rng.normal(size=(m, r)), rng.normal(size=(r, n)), float(rng.uniform(4, 9)))
        for m, n, r in ((4, 3, 2), (5, 5, 3), (2, 6, 2))
    ]


def changes(rng):
    """(Δ, r)"""
    return [(rng.normal(size=s), r) for s, r in (((5, 4), 2), ((3, 6), 1), ((4, 4), 3))]


def hints(rng):
    """(ε_∅, ε of the hint, s, both)"""
    return [
        (rng.normal(size=s), rng.normal(size=s), float(rng.uniform(2, 6)), both)
        for s in ((2, 3, 3, 1), (4,))
        for both in (True, False)
    ]


def outlines(rng):
    """Pairs of masks"""
    return [(rng.random((n, h, w)) < 0.6, rng.random((n, h, w)) < 0.4) for n, h, w in ((3, 5, 5), (1, 4, 7))]


def predictions(rng):
    """(ε(∅,∅), ε(y,∅), ε(y,T), s_I, s_T)"""
    return [
        (*rng.normal(size=(3, *s)), float(rng.uniform(1.2, 2)), float(rng.uniform(3, 8)))
        for s in ((2, 4, 4, 1), (5,), (3, 3))
    ]


def coins(rng):
    """u, every region of it taken"""
    return [(np.append(rng.uniform(0, 1, n), [0.01, 0.03, 0.07, 0.09, 0.12, 0.14, 0.17, 0.6]),) for n in (8, 30)]


def layers(rng):
    """(kernel, bias, further channels)"""
    return [
        (rng.normal(size=(h, w, C, O)), rng.normal(size=O), more)
        for h, w, C, O, more in ((3, 3, 4, 5, 4), (1, 1, 2, 3, 3), (3, 3, 1, 2, 2))
    ]


# ------------------------------------------------------------------------------------------- truths


def moved_row(table, grad, row, lr, decay, shrinks=lambda i, row: i == row, shift=0):
    """Row by row; `shrinks`: which of them decay"""
    out = []
    for i, v in enumerate(table):
        v = v - lr * decay * v if shrinks(i, row) else v
        out.append(v - lr * grad[i] if i == row + shift else v)
    return np.stack(out)


def leak(values, K):
    """Entropy of even shares less that of these"""
    n, total = len(values), math.log(K)
    for k in set(values.tolist()):
        p = values.tolist().count(k) / n
        total += p * math.log(p)
    return total


def dreambooth(errors, lam):
    """Error by error"""
    B = len(errors) // 2
    return sum(e / B * (1.0 if i < B else lam) for i, e in enumerate(errors.tolist()))


def lora(W0, A, B, alpha, scale=lambda alpha, r: alpha / r):
    """A sum of r matrices of rank 1"""
    return W0 + scale(alpha, A.shape[1]) * sum(np.outer(A[:, k], B[k]) for k in range(A.shape[1]))


def spectrum(delta):
    """Squares of singular values, the largest first, from the eigenvalues of ΔᵀΔ"""
    return np.sort(np.linalg.eigvalsh(delta.T @ delta))[::-1]


def lost(delta, r):
    """The rest of the eigenvalues"""
    return float(np.maximum(spectrum(delta)[r:], 0).sum())


def hinted(none, hint, s, both):
    """With the hint in both branches the difference is 0."""
    return hint + 0 * none if both else (1 - s) * none + s * hint


def iou(a, b):
    """Pixel by pixel"""
    out = []
    for x, y in zip(a, b, strict=True):
        pairs = list(zip(x.ravel().tolist(), y.ravel().tolist(), strict=True))
        out.append(sum(p and q for p, q in pairs) / sum(p or q for p, q in pairs))
    return np.array(out)


def instructed(none, y, both, s_I, s_T):
    """As a weighted sum of the three"""
    return (1 - s_I) * none + (s_I - s_T) * y + s_T * both


def drops(u):
    """Number by number: text in [0, .1), picture in [.05, .15)"""
    return tuple(np.array([low <= k < low + 0.1 for k in u.tolist()]) for low in (0.0, 0.05))


def widened(kernel, bias, more):
    """The new channels last, of weight 0"""
    h, w, C, out = kernel.shape
    wide = np.zeros((h, w, C + more, out))
    wide[:, :, :C] = kernel
    return wide, bias + 0.0


EXERCISES = (
    exercise(
        "14.1",
        spot_the_bug(
            "moved_row",
            moved_row,
            rows,
            lambda table, grad, row, lr, decay: moved_row(table, grad, row, lr, decay, lambda i, row: True),
            "The other words fade: a zero gradient does not stop weight decay, which has to spare them too.",
            {
                "The wrong row moves: it is one off.": lambda table, grad, row, lr, decay: moved_row(
                    table, grad, row, lr, decay, lambda i, row: i == row + 1, 1
                ),
                "All words move: only the new one is to be trained.": lambda table, grad, row, lr, decay: (
                    (1 - lr * decay) * table - lr * grad
                ),
                "The learned row has no decay here.": lambda table, grad, row, lr, decay: moved_row(
                    table, grad, row, lr, 0.0
                ),
                "The step goes uphill: the gradient is to be subtracted.": lambda table, grad, row, lr, decay: (
                    moved_row(table, -grad, row, lr, decay)
                ),
            },
        ),
        hints=("Copy the table first, and change one row of the copy.", "Decay and gradient, both for this row only."),
    ),
    exercise(
        "14.2",
        formula(
            "leak",
            leak,
            attributes,
            {
                "This is the entropy of the shares. The leak is what they lack to an even distribution.": lambda v, K: (
                    math.log(K) - leak(v, K)
                ),
                "The divergence is the wrong way round in sign.": lambda v, K: -leak(v, K),
                "The shares are compared with 1/n; in the world each of K values has 1/K.": lambda v, K: leak(
                    v, len(v)
                ),
                "Bits, where nats were wanted.": lambda v, K: leak(v, K) / math.log(2),
            },
        ),
        hints=(
            "First the share of each value.",
            "0 log 0 is 0: leave out what never occurs.",
            "Each share against 1/K.",
        ),
    ),
    exercise(
        "14.3",
        formula(
            "dreambooth",
            dreambooth,
            errors,
            {
                "The batch was cut by turns. Yours come first, then those of the class.": lambda e, lam: (
                    e[::2].mean() + lam * e[1::2].mean()
                ),
                "λ weighs your pictures; it belongs to the class.": lambda e, lam: (
                    dreambooth(e[::-1], 1.0) + (lam - 1) * e[: len(e) // 2].mean()
                ),
                "This is a mean over the joined batch: each half has its own, and they add.": lambda e, lam: (
                    dreambooth(e, lam) / 2
                ),
                "λ is not used.": lambda e, lam: dreambooth(e, 1.0),
            },
        ),
        hints=("Two means, each over B numbers.", "Which half does λ weigh?"),
    ),
    exercise(
        "14.4",
        formula(
            "lora",
            lora,
            adapters,
            {
                "The rank is missing: α is divided by r, so that more rank does not mean a larger step.": (
                    lambda W, A, B, a: lora(W, A, B, a, lambda a, r: a)
                ),
                "α is lost. It is a part of the adapter, also when it is loaded.": lambda W, A, B, a: lora(
                    W, A, B, a, lambda a, r: 1.0
                ),
                "α and r are exchanged.": lambda W, A, B, a: lora(W, A, B, a, lambda a, r: r / a),
                "This is the change alone; it is added to W_0.": lambda W, A, B, a: lora(0 * W, A, B, a),
            },
        ),
        hints=("What is the rank in terms of the shape of A?", "A product of two thin matrices has the shape of W_0."),
    ),
    exercise(
        "14.5",
        formula(
            "lost",
            lost,
            changes,
            {
                "Singular values were added, not their squares.": lambda d, r: float(
                    np.sqrt(np.maximum(spectrum(d), 0))[r:].sum()
                ),
                "This is what is kept.": lambda d, r: float(spectrum(d)[:r].sum()),
                "One more is counted as lost: r of them are kept.": lambda d, r: lost(d, r - 1),
                "One more is counted as kept: only r of them are.": lambda d, r: lost(d, r + 1),
            },
            rtol=1e-3,
        ),
        hints=(
            "Singular values come in falling order.",
            "The sum of squares of a matrix is that of its singular values.",
        ),
    ),
    exercise(
        "14.6",
        prediction(
            "who_learns",
            (1, 0, 0, 1, 1, 1),
            0.1,
            {
                "Nothing would ever learn then. Z_2 is multiplied by what the copy gives, which is not 0.": (0,) * 6,
                "The gradient of the copy passes through Z_2, which is 0 at first.": (1, 1, 0, 1, 1, 1),
                "All parts before Z_2 get their gradient through it, and it is 0 at first.": (1,) * 6,
                "After one step Z_2 is not 0 any more, and the gradient passes to Z_1 as well.": (1, 0, 0, 1, 1, 0),
            },
        ),
        hints=(
            "A gradient passes from the output backwards, and is multiplied by each weight on its way.",
            "What stands next to Z_2 in the product, and is that 0? And what stands next to the others?",
        ),
    ),
    exercise(
        "14.7",
        formula(
            "hinted",
            hinted,
            hints,
            {
                "With the hint in both branches the difference is 0: there is nothing to be scaled.": (
                    lambda none, hint, s, both: s * hint if both else hinted(none, hint, s, both)
                ),
                "The two cases are exchanged.": lambda none, hint, s, both: hinted(none, hint, s, not both),
                "This guides in both cases; `both` is not used.": lambda none, hint, s, both: hinted(
                    none, hint, s, False
                ),
                "The difference was added to the conditional prediction, not to the other: that is s + 1.": (
                    lambda none, hint, s, both: hinted(none, hint, s + 1, both)
                ),
            },
        ),
        hints=("Write guidance as a base and a difference.", "What is the base in each case?"),
    ),
    exercise(
        "14.8",
        formula(
            "iou",
            iou,
            outlines,
            {
                "This is the share of the first mask; the second may be larger and pay nothing.": lambda a, b: (
                    (a & b).sum((1, 2)) / a.sum((1, 2))
                ),
                "This is Dice's coefficient: twice the intersection, over the sum of both.": lambda a, b: (
                    2 * (a & b).sum((1, 2)) / (a.sum((1, 2)) + b.sum((1, 2)))
                ),
                "This is the share of equal pixels; the ground, which is easy, counts as well.": lambda a, b: (
                    a == b
                ).mean((1, 2)),
                "One number for all pairs was given; each pair has its own.": lambda a, b: np.full(
                    len(a), (a & b).sum() / (a | b).sum()
                ),
            },
        ),
        hints=("Count pixels that are in both, and those in at least one.", "One number a pair: sum over two axes."),
    ),
    exercise(
        "14.9",
        formula(
            "instructed",
            instructed,
            predictions,
            {
                "The scales are exchanged: s_I goes with the picture.": lambda n, y, b, i, t: instructed(n, y, b, t, i),
                "The second difference starts from nothing; it starts from the picture without words.": (
                    lambda n, y, b, i, t: n + i * (y - n) + t * (b - n)
                ),
                "The base is the picture here; it is the prediction without any condition.": lambda n, y, b, i, t: (
                    y + i * (y - n) + t * (b - y)
                ),
                "One scale for all: this is guidance by the pair.": lambda n, y, b, i, t: n + t * (b - n),
            },
        ),
        hints=("Three terms: a base, towards the picture, and from there towards the words.", "Check it at (1, 1)."),
    ),
    exercise(
        "14.10",
        bitwise(
            "drops",
            drops,
            coins,
            {
                "Text and picture are always dropped together here.": lambda u: (u < 0.1, u < 0.1),
                "They are never dropped together: the two ranges have to overlap.": lambda u: (
                    u < 0.1,
                    (u >= 0.1) & (u < 0.2),
                ),
                "The two are exchanged: text first.": lambda u: drops(u)[::-1],
                "These say what is kept.": lambda u: tuple(~a for a in drops(u)),
            },
        ),
        hints=("Two ranges of u, of length .10 each.", "Where they overlap, both are dropped: .05."),
    ),
    exercise(
        "14.11",
        spot_the_bug(
            "widened",
            widened,
            layers,
            lambda kernel, bias, more: (widened(kernel, bias, more)[0], 0 * bias),
            "The old bias is lost: step 0 is not the old network.",
            {
                "The new channels come first, so that the old weights meet the new picture.": lambda k, b, more: (
                    np.concatenate([np.zeros((*k.shape[:2], more, k.shape[3])), k], 2),
                    b,
                ),
                "The new weights are not 0: step 0 hears the new channels.": lambda k, b, more: (
                    np.concatenate([k, np.ones((*k.shape[:2], more, k.shape[3]))], 2),
                    b,
                ),
                "Output channels were added; the input is what becomes wider.": lambda k, b, more: (
                    np.concatenate([k, np.zeros((*k.shape[:3], more))], 3),
                    np.concatenate([b, np.zeros(more)]),
                ),
            },
        ),
        hints=("A convolution has two sets of parameters.", "Input channels are the third axis of the kernel."),
    ),
)
