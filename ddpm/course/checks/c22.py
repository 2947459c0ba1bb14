"""Lesson 22, latents: the truth of its six exercises, and the mistakes that have a name."""

from __future__ import annotations

import math

import numpy as np

from ddpm.course.exercise import count, exercise, formula, gradient, identity, prediction

# ------------------------------------------------------------------------------------------- inputs, by seed


def spectra(rng):
    """(λ, what is made of it, k)"""
    out = []
    for D, k in ((6, 2), (9, 5), (5, 1)):
        var = np.sort(rng.uniform(0.2, 6, D))[::-1].copy()
        out.append((var, var * rng.uniform(0.4, 0.9, D), k))
    return out


def noises(rng):
    """(x_T, U, b, ᾱ_T)"""
    out = []
    for B, D, k in ((4, 6, 2), (1, 5, 4), (3, 9, 3)):
        basis = np.linalg.qr(rng.normal(size=(D, k)))[0]
        out.append((rng.normal(size=(B, D)), basis, rng.normal(size=D) + 1, float(rng.uniform(0.1, 0.5))))
    return out


def sets(rng):
    """Codes of many images, of one scale for all, or one for each channel."""
    wide = rng.normal(size=(900, 2, 3)) * np.array([0.5, 2, 4]) + np.array([1.0, -2, 3])
    return [(3 * rng.normal(size=(1500, 4)) + 2,), (wide,), (0.1 * rng.normal(size=(5000, 1)) - 1,)]


def scaled(rng):
    """(numbers, mean, deviation)"""
    return [(rng.normal(size=s) + 0.5, float(m), float(d)) for s, m, d in (((3, 2), 0.7, 5.49), ((4,), -2, 0.3))]


def tables(rng):
    """(z, table), whose entries have different lengths"""
    out = []
    for B, d, K in ((30, 2, 5), (20, 3, 7), (15, 1, 4)):
        table = rng.normal(size=(K, d)) * rng.uniform(0.5, 3, (K, 1))
        out.append((rng.normal(size=(B, d)), table))
    return out


def pairs(rng):
    """(z, z_q)"""
    return [(rng.normal(size=s), rng.normal(size=s)) for s in ((4, 2), (1, 3))]


def indices(rng):
    """(numbers of entries, K), some entries unused, none evenly used"""
    uneven = np.concatenate([rng.integers(0, 3, 40), np.full(25, 1), rng.integers(5, 7, 9)])
    return [(uneven, 8), (rng.integers(0, 2, 50) * rng.integers(0, 3, 50), 4), (np.array([2, 2, 2, 0]), 3)]


def drafts(rng):
    """(ᾱ, x0, draft, ε)"""
    levels = (float(rng.uniform(0.1, 0.3)), float(rng.uniform(0.4, 0.6)), float(rng.uniform(0.7, 0.9)))
    shapes = ((3, 5), (1, 4), (2, 3))
    return [(a, *(rng.normal(size=s) for _ in range(3))) for a, s in zip(levels, shapes, strict=True)]


# --------------------------------------------------------------------------------------------------- the truth


def errors(var, sampled, k, decoder=None, sampler=None):
    """Σ_{j>k} λ_j and Σ_{j≤k} (√λ_j - √s_j)²"""
    lost = sum(v for j, v in enumerate(var) if j >= k)
    added = sum((math.sqrt(v) - math.sqrt(s)) ** 2 for v, s in zip(var[:k], sampled[:k], strict=True))
    return lost if decoder is None else decoder, added if sampler is None else sampler


def start(x_T, basis, mean, alpha_bar_T, carried=math.sqrt):
    """Uᵀ(x_T - √ᾱ_T b)"""
    return np.einsum("bd,dk->bk", x_T - carried(alpha_bar_T) * mean, basis)


def scale(codes):
    """Mean and deviation of all numbers"""
    flat = codes.reshape(-1)
    mean = flat.sum() / flat.size
    return mean, math.sqrt(((flat - mean) ** 2).sum() / flat.size)


def distances(z, table):
    """‖z - e_j‖²"""
    return np.array([[((a - e) ** 2).sum() for e in table] for a in z])


def nearest(z, table):
    """argmin_j ‖z - e_j‖²"""
    return distances(z, table).argmin(1)


def shares(index, K):
    """p_j of the entries in use"""
    p = np.array([(index == j).mean() for j in range(K)])
    return p[p > 0]


def perplexity(index, K):
    """exp(-Σ p log p)"""
    return math.exp(-sum(p * math.log(p) for p in shares(index, K)))


def around(a, x0, draft, eps, weight=lambda a: 1 - math.sqrt(a)):
    """√ᾱ x0 + (1 - √ᾱ) x̂ + √(1-ᾱ) ε"""
    return math.sqrt(a) * x0 + weight(a) * draft + math.sqrt(1 - a) * eps


EXERCISES = (
    exercise(
        "22.1",
        formula(
            "errors",
            errors,
            spectra,
            {
                "The decoder loses the directions that are left out; this is the sum over those that are kept.": (
                    lambda var, s, k: errors(var, s, k, decoder=var[:k].sum())
                ),
                "Direction k counts as lost, but the first k are kept.": lambda var, s, k: errors(
                    var, s, k, decoder=var[k - 1 :].sum()
                ),
                "The sampler's part compares variances; the distance compares deviations, their roots.": (
                    lambda var, s, k: errors(var, s, k, sampler=((var[:k] - s[:k]) ** 2).sum())
                ),
                "The square of the difference is missing in the sampler's part.": lambda var, s, k: errors(
                    var, s, k, sampler=(np.sqrt(var[:k]) - np.sqrt(s[:k])).sum()
                ),
                "The sampler works in the k directions that are kept; here all D are counted.": lambda var, s, k: (
                    errors(var, s, k, sampler=((np.sqrt(var) - np.sqrt(s)) ** 2).sum())
                ),
                "The sampler's part is the difference of variances; it is the square of that of deviations.": (
                    lambda var, s, k: errors(var, s, k, sampler=np.abs(var[:k] - s[:k]).sum())
                ),
                "Means were taken; the distance is a sum over directions.": lambda var, s, k: (
                    var[k:].mean(),
                    ((np.sqrt(var[:k]) - np.sqrt(s[:k])) ** 2).mean(),
                ),
                "The parts are in the other order: first the decoder's, then the sampler's.": lambda var, s, k: errors(
                    var, s, k
                )[::-1],
            },
        ),
        hints=(
            "With k directions kept, which entries of a falling list are left?",
            "A deviation is the root of a variance.",
            "Two sums: one over the end of the list, one over its beginning.",
        ),
    ),
    exercise(
        "22.2",
        formula(
            "start_of_codes",
            start,
            noises,
            {
                "b was removed whole; at T only √ᾱ_T of the image is in x_T.": lambda x, U, b, a: start(
                    x, U, b, a, carried=lambda a: 1.0
                ),
                "b was not removed: it would come back twice when the code is decoded.": lambda x, U, b, a: start(
                    x, U, b, a, carried=lambda a: 0.0
                ),
                "√ is missing: x_t carries √ᾱ of the image, not ᾱ.": lambda x, U, b, a: start(
                    x, U, b, a, carried=lambda a: a
                ),
                "b was carried by √(1-ᾱ), which is the share of the noise.": lambda x, U, b, a: start(
                    x, U, b, a, carried=lambda a: math.sqrt(1 - a)
                ),
                "The noise was not projected: these are its first k pixels.": lambda x, U, b, a: (x - math.sqrt(a) * b)[
                    :, : U.shape[1]
                ],
                "This is the projected noise as an image again; a code has k numbers.": lambda x, U, b, a: (
                    start(x, U, b, a) @ U.T
                ),
                "The code was divided by √ᾱ: that would be x̂0 of pure noise, not the noisy code.": lambda x, U, b, a: (
                    start(x, U, b, a) / math.sqrt(a)
                ),
                "b was added: x_T contains it already.": lambda x, U, b, a: start(
                    x, U, b, a, carried=lambda a: -math.sqrt(a)
                ),
            },
        ),
        hints=(
            "Write down x_T of x_0 = Uz + b.",
            "What of it belongs to b?",
            "Then project the rest: one matrix product from the right.",
        ),
    ),
    exercise(
        "22.3",
        formula(
            "scale",
            scale,
            sets,
            {
                "This is the variance; the codes are divided by its root.": lambda z: (z.mean(), z.var()),
                "One number for each position or channel was taken; the scale is one number for all.": lambda z: (
                    z.mean(0),
                    z.std(0),
                ),
                "The deviation was taken in each image and averaged: differences between images are missing.": (
                    lambda z: (z.mean(), z.reshape(len(z), -1).std(1).mean())
                ),
                "This is the root mean square: the mean was not removed before squaring.": lambda z: (
                    z.mean(),
                    np.sqrt((z**2).mean()),
                ),
                "The order is mean, then deviation.": lambda z: (z.std(), z.mean()),
                "Only the first images were used, as released code does; the training set has more.": lambda z: (
                    z[:16].mean(),
                    z[:16].std(),
                ),
            },
        ),
        formula(
            "to_latent",
            lambda code, mean, std: (code - mean) / std,
            scaled,
            {
                "It was multiplied by the deviation; .18215 is one over it.": lambda c, m, s: (c - m) * s,
                "The mean was not removed.": lambda c, m, s: c / s,
                "The mean was removed after the division, in units of another scale.": lambda c, m, s: c / s - m,
                "The deviation was squared.": lambda c, m, s: (c - m) / s**2,
                "The mean was added; it has to go.": lambda c, m, s: (c + m) / s,
            },
        ),
        formula(
            "to_code",
            lambda z, mean, std: z * std + mean,
            scaled,
            {
                "It was divided again; the way back multiplies.": lambda z, m, s: z / s + m,
                "The mean was not put back.": lambda z, m, s: z * s,
                "The mean was put back before the multiplication.": lambda z, m, s: (z + m) * s,
                "The mean was removed once more.": lambda z, m, s: z * s - m,
                "Nothing was undone: the decoder gets codes of deviation 1.": lambda z, m, s: z,
            },
        ),
        identity(
            ("to_latent", "to_code"),
            lambda there, back, code, mean, std: back(there(code, mean, std), mean, std),
            lambda code, mean, std: code,
            scaled,
        ),
        prediction(
            "unscaled",
            (0.18215**-2, -2 * math.log(0.18215)),
            0.15,
            {
                "This is the factor on the codes; the SNR is about squares.": (1 / 0.18215, -math.log(0.18215)),
                "The factor is right, but log SNR moves by its logarithm: by 2 log σ.": (
                    0.18215**-2,
                    -math.log(0.18215),
                ),
                "The direction is wrong: unscaled codes are larger, so they have more signal.": (
                    0.18215**2,
                    2 * math.log(0.18215),
                ),
                "Nothing has changed in this answer; but the noise has the variance 1 - ᾱ whatever the codes are.": (
                    1.0,
                    0.0,
                ),
                "The logarithm was taken to base 10; log SNR is natural here.": (
                    0.18215**-2,
                    -2 * math.log10(0.18215),
                ),
            },
        ),
        hints=(
            "All numbers of all images count alike: no axis.",
            "to_code undoes to_latent, in the other order.",
            "The SNR is the variance of the signal over that of the noise.",
        ),
    ),
    exercise(
        "22.4",
        count(
            "nearest",
            nearest,
            tables,
            {
                "The largest inner product was taken: long entries win. Their length has to count too.": (
                    lambda z, e: (z @ e.T).argmax(1)
                ),
                "This is the entry that is furthest away.": lambda z, e: distances(z, e).argmax(1),
                "These are the distances; return the number of the entry.": lambda z, e: distances(z, e).min(1),
                "This is the entry itself; return its number.": lambda z, e: e[nearest(z, e)],
                "The differences were added without squaring, so they cancel.": lambda z, e: (
                    (z[:, None] - e[None]).sum(-1).argmin(1)
                ),
                "For each entry its nearest code was found; each code needs its entry.": lambda z, e: distances(
                    z, e
                ).argmin(0),
                "The entries were counted from 1.": lambda z, e: nearest(z, e) + 1,
            },
        ),
        formula(
            "straight_through",
            lambda z, z_q: z_q,
            pairs,
            {
                "The value is that of z: the decoder would never see the table.": lambda z, z_q: z,
                "This is the difference alone; z has to be added.": lambda z, z_q: z_q - z,
                "The sign of the difference is wrong.": lambda z, z_q: 2 * z - z_q,
            },
        ),
        gradient(
            "straight_through",
            lambda z, z_q: z.sum(),
            pairs,
            {
                "No gradient reaches z: what is stopped is the difference, not everything.": lambda z, z_q: (
                    z_q.sum() + 0 * z.sum()
                ),
                "The gradient arrives twice.": lambda z, z_q: 2 * z.sum(),
            },
            wrt=0,
        ),
        gradient(
            "straight_through",
            lambda z, z_q: 0 * z_q.sum(),
            pairs,
            {
                "The gradient also goes to the table; it learns by a term of its own.": lambda z, z_q: z_q.sum(),
            },
            wrt=1,
        ),
        hints=(
            "An axis of length 1 in each array makes all pairs of a code and an entry.",
            "Square, sum over the numbers of a code, and take the least.",
            "z plus something whose value is the difference and whose gradient is 0.",
        ),
    ),
    exercise(
        "22.5",
        formula(
            "perplexity",
            perplexity,
            indices,
            {
                "This is the entropy in nats; the perplexity is its exponential.": lambda i, K: math.log(
                    perplexity(i, K)
                ),
                "The entropy is in bits, so it is a power of 2, not of e.": lambda i, K: math.exp(
                    math.log2(perplexity(i, K))
                ),
                "The entropy is in nats, so it is a power of e, not of 2.": lambda i, K: (
                    2 ** math.log(perplexity(i, K))
                ),
                "This counts the entries that occur, however rarely.": lambda i, K: float(len(np.unique(i))),
                "This is 1/Σp², another number of entries in use; perplexity is about Σ p log p.": lambda i, K: (
                    1 / (shares(i, K) ** 2).sum()
                ),
                "The sign of the entropy is wrong.": lambda i, K: 1 / perplexity(i, K),
                "log p was averaged over the entries; each counts with its share p.": lambda i, K: math.exp(
                    -np.log(shares(i, K)).mean()
                ),
                "It was divided by K: the share of the table, not the number of entries.": lambda i, K: (
                    perplexity(i, K) / K
                ),
            },
        ),
        hints=(
            "np.bincount counts how often each entry occurs; minlength keeps the empty ones.",
            "p log p is 0 at p = 0, but NumPy says NaN: leave those out.",
            "The exponential of a sum, with the same base as the logarithm.",
        ),
    ),
    exercise(
        "22.6",
        formula(
            "q_around",
            around,
            drafts,
            {
                "x̂ was carried by √ᾱ: at T the chain would not stand around the draft.": lambda a, x, d, e: around(
                    a, x, d, e, lambda a: math.sqrt(a)
                ),
                "The root is missing: x̂ has the weight 1 - √ᾱ.": lambda a, x, d, e: around(a, x, d, e, lambda a: 1 - a),
                "√(1-ᾱ) is the share of the noise; that of the draft is 1 - √ᾱ.": lambda a, x, d, e: around(
                    a, x, d, e, lambda a: math.sqrt(1 - a)
                ),
                "The draft was added whole: at t = 0 it has to be gone.": lambda a, x, d, e: around(
                    a, x, d, e, lambda a: 1.0
                ),
                "The draft is missing: this is the ordinary chain.": lambda a, x, d, e: around(
                    a, x, d, e, lambda a: 0.0
                ),
                "This is the residual's chain; the draft has to be added back.": lambda a, x, d, e: (
                    around(a, x, d, e) - d
                ),
                "The noise has the variance 1 - ᾱ, so its root multiplies ε.": lambda a, x, d, e: (
                    around(a, x, d, e) + (1 - a - math.sqrt(1 - a)) * e
                ),
            },
        ),
        hints=(
            "The formula has three terms, for the image, the draft and the noise.",
            "At t = 0 it is x0, and at ᾱ = 0 the draft with noise.",
        ),
    ),
)
