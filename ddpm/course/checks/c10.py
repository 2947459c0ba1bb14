"""Lesson 10, the price of guidance and its algebra: the truth of its exercises, and the mistakes that have a name."""

from __future__ import annotations

import math

import numpy as np

from ddpm.course.exercise import count, exercise, formula, prediction

# ------------------------------------------------------------------------------------------- inputs, by seed


def predictions(rng):
    """(ε̂_c, ε̂_∅): alike as two predictions are, of different sizes, and one image against its opposite."""
    out = []
    for shape in ((3, 5, 4, 2), (1, 6), (4, 4)):
        a = rng.normal(size=shape)
        b = rng.uniform(0.5, 2) * a + rng.normal(size=shape)
        b[0] = b[0] - 3 * a[0]
        out.append((a, b))
    return out


def similar(rng):
    """(K, B) similarities and a threshold: images that pass it, fall below again, pass at once, or never pass."""
    out = []
    for K, B in ((6, 5), (9, 4)):
        g = rng.uniform(0.90, 0.98, (K, B))
        at = rng.integers(1, K - 2, B)
        g[at, np.arange(B)] = rng.uniform(0.991, 0.999, B)  # passes once; later steps are below the threshold again
        g[:, 1] = rng.uniform(0.90, 0.98, K)  # never
        g[0, 2] = 0.995  # at once
        g[at[3] + 1, 3] = 0.995  # twice
        out.append((g, 0.99))
    return out


def guesses(rng):
    """(student's prediction, ε̂_∅, ε̂_c, s)"""
    shapes = ((3, 4, 4, 2), (2, 5), (4, 4))
    return [(*rng.normal(size=(3, *s)), rng.uniform(1, 5, s[0])) for s in shapes]


def scales(rng):
    """(ε̂_∅, ε̂_c, the scales of training): of unequal spacing, so that median, middle and mean differ."""
    out = []
    for shape, K in (((2, 3, 3, 1), 4), ((3, 5), 5)):
        out.append((*rng.normal(size=(2, *shape)), np.sort(rng.uniform(1, 2, K)) ** 3))
    return out


def gaussians(rng):
    """(means, variances, weights, mean_0, var_0): AND, NOT, one factor."""
    out = []
    for weights in ((1.0, 1.0), (2.0, -0.5), (1.5,), (1.0, 0.5, -0.25)):
        n = len(weights)
        out.append((rng.normal(size=n), rng.uniform(0.2, 0.5, n), np.array(weights), float(rng.normal()), 1.5))
    # A NOT that is too strong: no distribution is left
    out.append((rng.normal(size=2), np.array([0.5, 0.2]), np.array([1.0, -1.5]), 0.0, 1.5))
    return out


def at_level(rng):
    """The same, with weights that leave a distribution, and ᾱ_t."""
    return [(*case, float(rng.uniform(0.2, 0.8))) for case in gaussians(rng)[:-1]]


# ------------------------------------------------------------------------------------------- truths


def similarity(a, b, centre=False, roots=True):
    """One image after another"""
    out = []
    for u, v in zip(a, b, strict=True):
        u, v = (w.ravel() - (w.mean() if centre else 0) for w in (u, v))
        size = np.linalg.norm(u) * np.linalg.norm(v)
        out.append(u @ v / (size if roots else size**2))
    return np.array(out)


def calls(g, threshold, inclusive=True):
    """Image by image: two calls a step up to the first similar one, itself included; then one"""
    out = []
    for column in g.T:
        n = 0
        for i, value in enumerate(column):
            n += 2
            if value >= threshold:
                n += len(column) - i - 1 - (0 if inclusive else 1)
                break
        out.append(n)
    return np.array(out)


def loss(guess, eps_null, eps_c, s, f=np.mean):
    """(B,)"""
    out = []
    for g, n, c, k in zip(guess, eps_null, eps_c, s, strict=True):
        out.append(f((g - (1 - k) * n - k * c) ** 2))
    return np.array(out)


def blind(eps_null, eps_c, s):
    """The mean over the scales, and the mean squared distance from it"""
    targets = np.stack([(1 - k) * eps_null + k * eps_c for k in s])
    best = targets.mean(0)
    return best, ((targets - best) ** 2).reshape(len(s), len(best), -1).mean((0, 2))


def product(means, variances, weights, mean_0, var_0):
    """By completing the square of the sum of log densities, a x² + b x"""
    a = -1 / (2 * var_0)
    b = mean_0 / var_0
    for m, v, w in zip(means, variances, weights, strict=True):
        a += w * (-1 / (2 * v) + 1 / (2 * var_0))
        b += w * (m / v - mean_0 / var_0)
    if a >= 0:
        raise ValueError("the product has no finite integral")
    return -b / (2 * a), -1 / (2 * a)


def unchecked(means, variances, weights, mean_0, var_0):
    """Without the refusal"""
    precision = 1 / var_0 + np.sum(weights * (1 / variances - 1 / var_0))
    shift = mean_0 / var_0 + np.sum(weights * (means / variances - mean_0 / var_0))
    return shift / precision, 1 / precision


def noised(m, v, a):
    """√ᾱ x + √(1-ᾱ) ε of N(m, v)"""
    return math.sqrt(a) * m, a * v + 1 - a


def both_ways(means, variances, weights, mean_0, var_0, a):
    """Variance of the product that is noised, and of the noised ones' product"""
    then_noise = noised(*product(means, variances, weights, mean_0, var_0), a)[1]
    m, v = noised(means, variances, a)
    return then_noise, product(m, v, weights, *noised(mean_0, var_0, a))[1]


EXERCISES = (
    exercise(
        "10.1",
        formula(
            "similarity",
            similarity,
            predictions,
            {
                "The lengths are missing below: this is the inner product, which grows with the predictions.": (
                    lambda a, b: np.array([u.ravel() @ v.ravel() for u, v in zip(a, b, strict=True)])
                ),
                "It was divided by the squared lengths; a cosine has |a||b| below, without squares.": lambda a, b: (
                    similarity(a, b, roots=False)
                ),
                "Each prediction's mean was subtracted first: that is a correlation, not the angle between them.": (
                    lambda a, b: similarity(a, b, centre=True)
                ),
                "This is one cosine for the whole batch; each image has its own.": lambda a, b: np.full(
                    len(a), (a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum())
                ),
                "The absolute value was taken: opposite predictions have the cosine -1.": lambda a, b: np.abs(
                    similarity(a, b)
                ),
                "This is 1-γ, the distance; the exercise asks for the similarity γ.": lambda a, b: 1 - similarity(a, b),
            },
        ),
        hints=(
            "Make a row of each image: reshape(len(a), -1).",
            "The inner product of two rows above, the product of their two lengths below.",
        ),
    ),
    exercise(
        "10.2",
        count(
            "calls",
            calls,
            similar,
            {
                "A step below the threshold was guided again: once an image has stopped, it stays stopped.": (
                    lambda g, h: np.where(g >= h, 1, 2).sum(0)
                ),
                "The step that finds them alike has made both calls already: it costs two.": lambda g, h: calls(
                    g, h, inclusive=False
                ),
                "All images were stopped together, with the last of them: each image stops for itself here.": (
                    lambda g, h: np.full(g.shape[1], calls(g, h).max())
                ),
                "All images were stopped together, with the first of them: each image stops for itself here.": (
                    lambda g, h: np.full(g.shape[1], calls(g, h).min())
                ),
                "An image that never passes the threshold is guided to the end: two calls for each step.": (
                    lambda g, h: np.where((g >= h).any(0), calls(g, h), len(g))
                ),
                "This counts the guided steps; the calls are two for each of them and one for each of the others.": (
                    lambda g, h: calls(g, h) - len(g)
                ),
            },
        ),
        hints=(
            "Find for each image the first step whose similarity reaches the threshold.",
            "Up to and including that step there are two calls each, afterwards one.",
            "`argmax` of a boolean array is the place of its first True, and 0 if there is none: handle that case.",
        ),
    ),
    exercise(
        "10.3",
        formula(
            "distillation_loss",
            loss,
            guesses,
            {
                "The target is ε̂_c alone: the student has to learn the guided prediction.": lambda g, n, c, s: loss(
                    g, n, c, np.ones_like(s)
                ),
                "This is the paper's w, (1+w) ε̂_c - w ε̂_∅, with s in its place.": lambda g, n, c, s: loss(
                    g, n, c, 1 + s
                ),
                "The squares were summed over the pixels; take their mean.": lambda g, n, c, s: loss(
                    g, n, c, s, np.sum
                ),
                "This is the mean over the batch too; each image has its own loss.": lambda g, n, c, s: np.full(
                    len(g), loss(g, n, c, s).mean()
                ),
                "The two predictions are swapped: this teaches the student to avoid the class.": lambda g, n, c, s: (
                    loss(g, c, n, s)
                ),
                "The difference was not squared.": lambda g, n, c, s: loss(
                    np.sqrt(np.abs(g - n - s.reshape((-1,) + (1,) * (g.ndim - 1)) * (c - n))), 0 * n, 0 * c, s
                ),
            },
            traceable=True,
        ),
        formula(
            "blind_student",
            blind,
            scales,
            {
                "This is the prediction for the middle scale; the squared error is least at the mean of the targets.": (
                    lambda n, c, s: (
                        n + np.median(s) * (c - n),
                        np.mean((s - np.median(s)) ** 2) * ((c - n) ** 2).reshape(len(n), -1).mean(1),
                    )
                ),
                "The loss has the standard deviation of s; a squared error has its variance.": lambda n, c, s: (
                    blind(n, c, s)[0],
                    s.std() * ((c - n) ** 2).reshape(len(n), -1).mean(1),
                ),
                "The loss divides by K-1: the mean over K equally likely scales divides by K.": lambda n, c, s: (
                    blind(n, c, s)[0],
                    blind(n, c, s)[1] * len(s) / (len(s) - 1),
                ),
                "The loss is 0 only for a student who is told s; this one has to give one answer for all scales.": (
                    lambda n, c, s: (blind(n, c, s)[0], np.zeros(len(n)))
                ),
                "The loss was summed over the pixels; take their mean.": lambda n, c, s: (
                    blind(n, c, s)[0],
                    blind(n, c, s)[1] * n[0].size,
                ),
            },
        ),
        hints=(
            "The target is `guided` of Lesson 9; s needs axes of length 1 behind.",
            "Which single number is nearest to several in the mean square? The targets lie on a straight line in s.",
            "Target minus prediction is (s - mean of s) times the difference of the two predictions.",
        ),
    ),
    exercise(
        "10.4",
        formula(
            "product",
            product,
            gaussians,
            {
                "The conditions were multiplied without dividing by p_0: its factor is counted once too often.": (
                    lambda m, v, w, m0, v0: (
                        unchecked(m, v, np.append(w, 0), m0, v0)
                        if np.ndim(m) == 0
                        else (
                            (m0 / v0 + np.sum(w * m / v)) / (1 / v0 + np.sum(w / v)),
                            1 / (1 / v0 + np.sum(w / v)),
                        )
                    )
                ),
                "p_0 is missing: these are the powers of the conditions alone.": lambda m, v, w, m0, v0: (
                    np.sum(w * m / v) / np.sum(w / v),
                    1 / np.sum(w / v),
                ),
                "These are averages of means and variances, a mixture's; a product adds precisions 1/v.": (
                    lambda m, v, w, m0, v0: (m0 + np.sum(w * (m - m0)), v0 + np.sum(w * (v - v0)))
                ),
                "The second is the precision; it should be the variance, its inverse.": lambda m, v, w, m0, v0: (
                    unchecked(m, v, w, m0, v0)[0],
                    1 / unchecked(m, v, w, m0, v0)[1],
                ),
                "The weights were left out: all conditions count with weight 1.": lambda m, v, w, m0, v0: unchecked(
                    m, v, np.ones_like(w), m0, v0
                ),
                "If the precision is not positive, there is no such distribution: raise ValueError.": unchecked,
            },
        ),
        hints=(
            "The log of a Gaussian density is -x²/2v + xm/v and a constant. Logarithms of a product add.",
            "Collect what stands before x²: it is minus half the precision of the result.",
            "Collect what stands before x: it is the precision times the mean of the result.",
        ),
    ),
    exercise(
        "10.5",
        formula(
            "variances_at",
            both_ways,
            at_level,
            {
                "The two are in the other order: first the product that is noised, then the product of noised ones.": (
                    lambda *case: both_ways(*case)[::-1]
                ),
                "These two are equal; noise and product do not commute. Noise each factor first, for the second.": (
                    lambda *case: (both_ways(*case)[0], both_ways(*case)[0])
                ),
                "p_0 was not noised in the second: at level t all three denoisers see noised data.": (
                    lambda m, v, w, m0, v0, a: (
                        both_ways(m, v, w, m0, v0, a)[0],
                        unchecked(*noised(m, v, a), w, m0, v0)[1],
                    )
                ),
                "ᾱ v + √(1-ᾱ): the noise's variance is 1-ᾱ.": lambda m, v, w, m0, v0, a: (
                    a * unchecked(m, v, w, m0, v0)[1] + math.sqrt(1 - a),
                    unchecked(m, a * v + math.sqrt(1 - a), w, m0, a * v0 + math.sqrt(1 - a))[1],
                ),
                "√ᾱ v: a variance is scaled by ᾱ, the square of what scales x.": lambda m, v, w, m0, v0, a: (
                    math.sqrt(a) * unchecked(m, v, w, m0, v0)[1] + 1 - a,
                    unchecked(m, math.sqrt(a) * v + 1 - a, w, m0, math.sqrt(a) * v0 + 1 - a)[1],
                ),
            },
        ),
        prediction(
            "how_wide",
            0.062,
            0.025,
            {
                "That is the variance of the product. Run it: the sampler follows other distributions on its way.": (
                    1 / 7
                ),
                "That is the variance of each condition; two of them together leave less.": 0.25,
            },
        ),
        hints=(
            "Adding noise to N(m, v) gives N(√ᾱ m, ᾱ v + 1-ᾱ).",
            "First value: `product`, then noise. Second: noise the parts and p_0, then `product`.",
            "For the bet: which of the two is narrower on the way? Errors of that sign add up.",
        ),
    ),
)
