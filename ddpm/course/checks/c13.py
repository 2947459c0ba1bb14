"""Lesson 13, CLIP: the truth of its nine exercises, and the mistakes that have a name."""

from __future__ import annotations

import math

import numpy as np

from ddpm.course.exercise import count, exercise, formula

# ------------------------------------------------------------------------------------------- inputs, by seed


def tables(rng):
    """Scores (N, N), far from symmetric"""
    return [(2 * rng.normal(size=(N, N)) + np.arange(N)[:, None],) for N in (3, 5, 2)]


def embeddings(rng):
    """(f, g, log τ), within the limits and beyond both"""
    return [
        (rng.normal(size=(N, d)), 3 * rng.normal(size=(M, d)), float(log_tau))
        for N, M, d, log_tau in ((4, 3, 5, rng.uniform(1, 3)), (2, 2, 3, 6.0), (3, 5, 2, -1.5))
    ]


def batches(rng):
    """(N, τ)"""
    return [(N, float(rng.uniform(0.5, 4))) for N in (2, 3, 16, 200)]


def joints(rng):
    """Tables of probabilities"""
    return [(rng.dirichlet(np.ones(a * b)).reshape(a, b),) for a, b in ((3, 4), (5, 5), (2, 6))]


def words(rng):
    """(K, η)"""
    return [(K, float(rng.uniform(0.05, 0.4))) for K in (2, 3, 8)]


def sizes(rng):
    """Numbers of values"""
    return [(rng.integers(2, 9, A),) for A in (1, 3, 7)]


def zero_shots(rng):
    """(scores, log prior), the prior often deciding"""
    out = []
    for N, K in ((60, 4), (40, 7)):
        out.append((rng.normal(size=(N, K)), np.log(rng.dirichlet(np.ones(K)))))
    return out


def priors(rng):
    """(p, N)"""
    return [(rng.dirichlet(np.ones(M)), N) for M, N in ((3, 8), (6, 64), (10, 3))]


def steps(rng):
    """(ᾱ_t, ᾱ_s, σ²)"""
    out = []
    for _ in range(4):
        a, b = np.sort(rng.uniform(0.1, 0.9, 2))
        out.append((float(a), float(b), float(rng.uniform(0.05, 0.5))))
    return out


# ------------------------------------------------------------------------------------------- truths


def contrastive(s, both=(0, 1)):
    """Pair by pair; `both` names whether the picture or the caption is to be found."""
    N, total = len(s), 0.0
    for i in range(N):
        for side in both:
            line = s[:, i] if side else s[i]
            total += math.log(sum(math.exp(a - s[i, i]) for a in line))
    return total / (len(both) * N)


def scores(f, g, log_tau, norm=True, tau=None):
    """Pair by pair"""
    factor = math.exp(min(max(log_tau, 0.0), math.log(100))) if tau is None else tau(log_tau)
    out = np.empty((len(f), len(g)))
    for i, a in enumerate(f):
        for j, b in enumerate(g):
            length = math.sqrt(float(a @ a) * float(b @ b)) if norm else 1.0
            out[i, j] = factor * float(a @ b) / length
    return out


def floor(N, tau):
    """Cross-entropy of one pair at the corners of a simplex"""
    own, other = tau, -tau / (N - 1)
    return -own + math.log(math.exp(own) + (N - 1) * math.exp(other))


def pmi(joint):
    """Entry by entry"""
    p, q = joint.sum(1), joint.sum(0)
    return np.array([[math.log(joint[i, j] / p[i] / q[j]) for j in range(len(q))] for i in range(len(p))])


def word_table(K, eta):
    """p(w | k)/(1/K), word by word"""
    return np.array([[math.log(K * ((1 - eta) * (w == k) + eta / K)) for w in range(K)] for k in range(K)])


def rank(sizes):
    """Of one-hots side by side: all columns, less the constants that are there more than once"""
    return int(np.sum(sizes)) - (len(sizes) - 1)


def zero_shot(s, log_prior):
    """By the posterior itself"""
    p = np.exp(s) * np.exp(log_prior)
    return np.array([int(np.argmax(row)) for row in p])


def false_negatives(p, N):
    """Caption by caption"""
    return sum(float(q) * (N - 1) * float(q) for q in p)


def ratio(alpha_bar_t, alpha_bar_s, sigma2):
    """σ² over β/√α"""
    alpha = alpha_bar_t / alpha_bar_s
    return sigma2 / ((1 - alpha) / math.sqrt(alpha))


EXERCISES = (
    exercise(
        "13.1",
        formula(
            "contrastive",
            contrastive,
            tables,
            {
                "Only captions are sought here: each caption shall find its picture as well.": lambda s: contrastive(
                    s, (0,)
                ),
                "Only pictures are sought here: each picture shall find its caption as well.": lambda s: contrastive(
                    s, (1,)
                ),
                "The two losses are added; the mean has 2N terms.": lambda s: 2 * contrastive(s),
                "The pairs are one off: caption i belongs to picture i, on the diagonal.": lambda s: contrastive(
                    np.roll(s, 1, axis=1)
                ),
                "The mean over the N pairs is missing: this is their sum.": lambda s: len(s) * contrastive(s),
            },
        ),
        hints=(
            "First one direction: a softmax along each row, and minus the logarithm at the diagonal.",
            "The other direction is the same of the transposed table.",
        ),
    ),
    exercise(
        "13.2",
        formula(
            "scores",
            scores,
            embeddings,
            {
                "The vectors keep their lengths, so that this is no cosine.": lambda f, g, t: scores(f, g, t, False),
                "The factor is the logarithm itself; τ is its exponential.": lambda f, g, t: scores(
                    f, g, t, tau=lambda a: min(max(a, 0.0), math.log(100))
                ),
                "The cosines are divided by τ; here τ multiplies, and is the inverse of a temperature.": (
                    lambda f, g, t: scores(f, g, t, tau=lambda a: 1 / math.exp(min(max(a, 0.0), math.log(100))))
                ),
                "log τ is not kept in its range.": lambda f, g, t: scores(f, g, t, tau=math.exp),
                "τ is kept in [0, log 100], where its logarithm was meant.": lambda f, g, t: scores(
                    f, g, t, tau=lambda a: min(math.exp(a), math.log(100))
                ),
            },
        ),
        hints=("Lengths first: each row divided by its own.", "Clip the logarithm, then take the exponential."),
    ),
    exercise(
        "13.3",
        formula(
            "floor",
            floor,
            batches,
            {
                "The others are put opposite, at the cosine -1; N vectors cannot all be opposite to each other.": (
                    lambda N, tau: math.log(1 + (N - 1) * math.exp(-2 * tau))
                ),
                "The temperature is missing.": lambda N, tau: floor(N, 1.0),
                "The others are put at a right angle; a simplex has them further away.": lambda N, tau: math.log(
                    1 + (N - 1) * math.exp(-tau)
                ),
                "This is the loss of who knows nothing.": lambda N, tau: math.log(N),
            },
            rtol=1e-5,
        ),
        hints=(
            "What are the scores on the diagonal, and what are all others?",
            "Divide numerator and denominator of the softmax by the exponential of the own score.",
        ),
    ),
    exercise(
        "13.4",
        formula(
            "pmi",
            pmi,
            joints,
            {
                "This is log p(T | x): the prior of the captions is still in it.": lambda joint: np.log(
                    joint / joint.sum(1, keepdims=True)
                ),
                "This is log p(x | T): the prior of the pictures is still in it.": lambda joint: np.log(
                    joint / joint.sum(0, keepdims=True)
                ),
                "Each entry is weighted by its probability; that is a part of the mutual information.": lambda joint: (
                    joint * pmi(joint)
                ),
                "This is the log of the joint table.": np.log,
            },
        ),
        hints=("The two marginals are sums along one axis each.", "Independent things have the score 0."),
    ),
    exercise(
        "13.5",
        formula(
            "word_table",
            word_table,
            words,
            {
                "This is log p(w | k): it is not divided by p(w) = 1/K.": lambda K, eta: (
                    word_table(K, eta) - math.log(K)
                ),
                "A replaced word may be the same again: this takes it for another one always.": lambda K, eta: np.log(
                    K * ((1 - eta) * np.eye(K) + eta / max(K - 1, 1) * (1 - np.eye(K)))
                ),
                "η and 1 - η are exchanged: a word is right with 1 - η, and then some.": lambda K, eta: word_table(
                    K, 1 - eta
                ),
                "The logarithm is missing.": lambda K, eta: np.exp(word_table(K, eta)),
            },
        ),
        hints=("Write p(w | k) first: kept, or drawn evenly from K.", "Then divide by p(w), which is even too."),
    ),
    exercise(
        "13.6",
        count(
            "rank",
            rank,
            sizes,
            {
                "The constant is counted for each attribute; one dimension serves all.": lambda sizes: int(
                    np.sum(sizes)
                ),
                "The constant is left out: scores have one dimension more.": lambda sizes: int(np.sum(sizes - 1)),
                "Attributes add in the score, so their dimensions add; they do not multiply.": lambda sizes: int(
                    np.prod(sizes)
                ),
            },
        ),
        hints=("What do the tables of single words add up to, and what do they share?", "Try two attributes of two."),
    ),
    exercise(
        "13.7",
        count(
            "zero_shot",
            zero_shot,
            zero_shots,
            {
                "The prior is left out: right only where all classes are equally frequent.": lambda s, log_p: s.argmax(
                    1
                ),
                "The prior was subtracted. The score has it taken out already.": lambda s, log_p: zero_shot(s, -log_p),
                "This finds a picture for each class; a class for each picture was wanted.": lambda s, log_p: (
                    s + log_p[None]
                ).argmax(0),
                "The prior was added as a probability; scores are logarithms.": lambda s, log_p: (
                    s + np.exp(log_p)[None]
                ).argmax(1),
            },
        ),
        hints=("log p(T | x) = s* + log p(T).", "The largest entry of each row."),
    ),
    exercise(
        "13.8",
        formula(
            "false_negatives",
            false_negatives,
            priors,
            {
                "Your own caption is counted as well; there are N - 1 others.": lambda p, N: N * float((p**2).sum()),
                "This counts pairs of equal captions in the whole batch.": lambda p, N: (
                    N * (N - 1) / 2 * float((p**2).sum())
                ),
                "This takes your caption for the most frequent one.": lambda p, N: (N - 1) * float(p.max()),
                "This takes all captions for equally frequent.": lambda p, N: (N - 1) / len(p),
            },
        ),
        hints=("With what probability are two captions equal?", "Expectations of N - 1 others add."),
    ),
    exercise(
        "13.9",
        formula(
            "ratio",
            ratio,
            steps,
            {
                "The root is missing: x_t is divided by √α in the mean, not by α.": lambda a, b, v: (
                    v * (a / b) / (1 - a / b)
                ),
                "This is the inverse: how much larger the other one is.": lambda a, b, v: 1 / ratio(a, b, v),
                "ᾱ_t was taken for α: a step has only the noise between its two times.": lambda a, b, v: (
                    math.sqrt(a) * v / (1 - a)
                ),
                "√α is missing.": lambda a, b, v: v / (1 - a / b),
            },
        ),
        hints=(
            "GLIDE's shift is σ² times the gradient. The other one is given in the text.",
            "α belongs to the step, and β is what it lacks to 1.",
        ),
    ),
)
