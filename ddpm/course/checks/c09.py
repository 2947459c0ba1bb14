"""Lesson 9, guidance: the truth of its five exercises, and the mistakes that have a name."""

from __future__ import annotations

import math

import numpy as np

from ddpm.course.exercise import exercise, formula, identity, prediction

# ------------------------------------------------------------------------------------------- inputs, by seed

SHAPES = ((3, 5, 7, 1), (2,), (4, 3))


def gradients(rng):
    """(ε̂_∅, ∇log p(c|x), ᾱ, s)"""
    return [
        (rng.normal(size=s), rng.normal(size=s), float(rng.uniform(0.2, 0.8)), float(rng.uniform(1.5, 4)))
        for s in SHAPES
    ]


def pairs(rng):
    """(ε̂_∅, ε̂_c, s), a scale for each image; batches as long as images are wide are among them."""
    shapes = ((3, 3, 3, 1), (2, 5), (4, 4))
    return [(rng.normal(size=s), rng.normal(size=s), rng.uniform(-1, 5, s[0])) for s in shapes]


def weights(rng):
    """Some w"""
    return [(float(w),) for w in rng.uniform(0.2, 4, 4)]


def distributions(rng):
    """A grid, log densities of a mixture and of one of its parts, and a scale."""
    out = []
    for N in (801, 1500):
        x = np.linspace(-7, 7, N)
        mean, std = rng.uniform(0.5, 1.5, 2) * [1, -1], rng.uniform(0.5, 0.7)
        of = [-((x - m) ** 2) / (2 * std**2) - math.log(std * math.sqrt(2 * math.pi)) for m in mean]
        out.append((x, np.logaddexp(*of) - math.log(2), of[0], float(rng.uniform(2, 4))))
    return out


def images(rng):
    """Images of different loudness, one of them within the range, and a percentile."""
    loud = np.array([0.05, 1.0, 2.5]).reshape(3, 1, 1, 1)
    return [(loud * rng.normal(size=(3, 7, 5, c)), float(p)) for c, p in ((1, 90.0), (2, 70.0))]


def two_gaussians(rng):
    """Means and covariances that do not commute."""
    out = []
    for d in (2, 5, 3):
        p, q = rng.normal(size=(2, d, d))
        out.append((rng.normal(size=d), p @ p.T, rng.normal(size=d), q @ q.T))
    return out


# ------------------------------------------------------------------------------------------- truths


def classifier_guidance(eps_null, gradient, alpha_bar_t, s):
    """The score moved, and back to ε"""
    std = math.sqrt(1 - alpha_bar_t)
    return -std * (-eps_null / std + s * gradient)


def guided(eps_null, eps_c, s):
    """Image by image: (1-s) ε̂_∅ + s ε̂_c"""
    return np.stack([(1 - k) * a + k * b for a, b, k in zip(eps_null, eps_c, s, strict=True)])


def tilted(x, log_p, log_p_c, s, tilt=None):
    """By the trapezoid rule."""
    log_tilted = log_p + s * (log_p_c - log_p) if tilt is None else tilt(log_p, log_p_c, s)
    density = np.exp(log_tilted - log_tilted.max())
    density = density / np.trapezoid(density, x)
    mean = np.trapezoid(density * x, x)
    return mean, math.sqrt(np.trapezoid(density * (x - mean) ** 2, x))


def without_normalising(x, log_p, log_p_c, s):
    """Σ w x and so on with weights that do not sum to one"""
    w = np.exp(s * log_p_c + (1 - s) * log_p)
    mean = (w * x).sum()
    return mean, np.sqrt((w * (x - mean) ** 2).sum())


def dynamic_threshold(x0, percentile, each=True, least=1.0, divide=True, size=np.abs, clip=True):
    """One image at a time"""
    groups = [x0[i : i + 1] for i in range(len(x0))] if each else [x0]
    out = []
    for x in groups:
        q = max(float(np.percentile(size(x), percentile)), least)
        out.append((np.clip(x, -q, q) if clip else x) / (q if divide else 1))
    return np.concatenate(out)


def frechet(mean_p, cov_p, mean_q, cov_q):
    """tr (Σ_p Σ_q)^½ by the eigenvalues of the product, which are those of Σ_p^½ Σ_q Σ_p^½"""
    cross = np.sqrt(np.maximum(np.linalg.eigvals(cov_p @ cov_q).real, 0)).sum()
    return np.sum((mean_p - mean_q) ** 2) + np.trace(cov_p + cov_q) - 2 * cross


EXERCISES = (
    exercise(
        "9.1",
        formula(
            "classifier_guidance",
            classifier_guidance,
            gradients,
            {
                "This is 1+s, the paper's w; here s alone stands before the gradient.": lambda e, g, a, s: (
                    e - (1 + s) * np.sqrt(1 - a) * g
                ),
                "The sign is wrong: ε̂ points against the score, so this leads away from the class.": (
                    lambda e, g, a, s: e + s * np.sqrt(1 - a) * g
                ),
                "The root is missing: ε̂ is the score times the standard deviation √(1-ᾱ).": lambda e, g, a, s: (
                    e - s * (1 - a) * g
                ),
                "The gradient was not scaled: it is a part of the score, and ε̂ is -√(1-ᾱ) times the score.": (
                    lambda e, g, a, s: e - s * g
                ),
                "√ᾱ is the image's amplitude; the noise's is √(1-ᾱ).": lambda e, g, a, s: e - s * np.sqrt(a) * g,
                "The scale s was left out.": lambda e, g, a, s: e - np.sqrt(1 - a) * g,
                "s multiplies all of it; it is for the classifier alone.": lambda e, g, a, s: (
                    s * (e - np.sqrt(1 - a) * g)
                ),
            },
        ),
        hints=(
            "Write the score of x_t given c, with s before the second term.",
            "Then multiply by -√(1-ᾱ) to have an ε again.",
        ),
    ),
    exercise(
        "9.2",
        formula(
            "guided",
            guided,
            pairs,
            {
                "This is the paper's w, (1+w) ε̂_c - w ε̂_∅, with s in its place: at s = 1 it has to be ε̂_c.": (
                    lambda a, b, s: guided(a, b, 1 + s)
                ),
                "The two guesses are swapped: this walks away from the class.": lambda a, b, s: guided(b, a, s),
                "The difference is upside down: from ε̂_∅ towards ε̂_c is ε̂_c - ε̂_∅.": lambda a, b, s: guided(a, b, -s),
                "All images got the mean of the scales; each has its own.": lambda a, b, s: guided(
                    a, b, np.full(len(s), s.mean())
                ),
                "All images got the scale of the first.": lambda a, b, s: guided(a, b, np.full(len(s), s[0])),
                "The scale went along the last axis, not along the images: give it axes of length 1 behind.": (
                    lambda a, b, s: a + s * (b - a)
                ),
            },
        ),
        formula(
            "s_from_w",
            lambda w: 1.0 + w,
            weights,
            {
                "This is s → w; the exercise asks for w → s. With w = 0 nothing is guided, which is s = 1.": lambda w: (
                    w - 1
                ),
                "The two are not the same number: w = 0 is the conditional model, and so is s = 1.": lambda w: w,
            },
        ),
        hints=(
            "s has shape (B,); images have more axes. Lesson 4 had the same with ᾱ_t.",
            "s = 0 has to give ε̂_∅, s = 1 ε̂_c.",
            "Compare what stands before ε̂_c in both formulas.",
        ),
    ),
    exercise(
        "9.3",
        formula(
            "tilted",
            tilted,
            distributions,
            {
                "The exponents are swapped: s belongs to the class, 1-s to all data.": lambda x, p, c, s: tilted(
                    x, p, c, s, lambda p, c, s: s * p + (1 - s) * c
                ),
                "This is p(x|c)^s alone: the power 1-s of p(x) is missing.": lambda x, p, c, s: tilted(
                    x, p, c, s, lambda p, c, s: s * c
                ),
                "This is p(x)·p(x|c)^s; the tilt is by p(c|x), which has p(x) below.": lambda x, p, c, s: tilted(
                    x, p, c, s, lambda p, c, s: s * c + p
                ),
                "The second is the variance; it should be the standard deviation, its root.": lambda x, p, c, s: (
                    tilted(x, p, c, s)[0],
                    tilted(x, p, c, s)[1] ** 2,
                ),
                "The weights do not sum to one: normalise before you average.": without_normalising,
                "Densities were mixed with the weights s and 1-s; the tilt is of their logarithms.": (
                    lambda x, p, c, s: tilted(
                        x, p, c, s, lambda p, c, s: np.log(np.maximum(s * np.exp(c) + (1 - s) * np.exp(p), 1e-300))
                    )
                ),
            },
            rtol=1e-3,
        ),
        prediction(
            "where_is_the_mean",
            1.805,
            0.3,
            {
                "That is the class itself (1) or the tilted one (1.07). Run it: the sampler goes further out.": 1.035,
            },
        ),
        hints=(
            "Add logarithms: s of one, 1-s of the other; subtract the largest before you take exp.",
            "Divide the weights by their sum; the mean is Σ w x.",
            "For the bet: the difference ε̂_c - ε̂_∅ pushes at all noise levels, and nothing pushes back.",
        ),
    ),
    exercise(
        "9.4",
        formula(
            "dynamic_threshold",
            dynamic_threshold,
            images,
            {
                "It was divided but not clipped: what is louder than q still leaves the range.": lambda x, p: (
                    dynamic_threshold(x, p, clip=False)
                ),
                "One percentile for the whole batch: each image has its own.": lambda x, p: dynamic_threshold(
                    x, p, each=False
                ),
                "q may be below 1 here, so that quiet images are made loud: q is at least 1.": lambda x, p: (
                    dynamic_threshold(x, p, least=1e-9)
                ),
                "It was clipped but not divided: the result still leaves the range.": lambda x, p: dynamic_threshold(
                    x, p, divide=False
                ),
                "The percentile is that of x0; it should be that of |x0|.": lambda x, p: dynamic_threshold(
                    x, p, size=lambda x: x
                ),
                "This is plain clipping to [-1, 1]: all that is louder becomes the same.": lambda x, p: np.clip(
                    x, -1, 1
                ),
            },
        ),
        identity(
            "dynamic_threshold",
            lambda f, x, p: float(np.abs(np.asarray(f(x, p))).max() <= 1 + 1e-6),  # within the range
            lambda x, p: 1.0,
            images,
        ),
        hints=(
            "np.percentile takes several axes at once, and keepdims=True leaves them there with length 1.",
            "All axes but the first: tuple(range(1, x0.ndim)).",
            "Then the larger of q and 1; clip; divide.",
        ),
    ),
    exercise(
        "9.5",
        formula(
            "frechet",
            frechet,
            two_gaussians,
            {
                "These are roots of the entries of Σ_p Σ_q, not the root of the matrix.": lambda m, P, k, Q: (
                    np.sum((m - k) ** 2) + np.trace(P + Q) - 2 * np.trace(np.sqrt(np.maximum(P @ Q, 0)))
                ),
                "The means are missing.": lambda m, P, k, Q: frechet(m, P, m, Q),
                "The distance of the means is not squared.": lambda m, P, k, Q: (
                    frechet(m, P, m, Q) + np.linalg.norm(m - k)
                ),
                "The root of a matrix is not the root of its entries.": lambda m, P, k, Q: (
                    np.sum((m - k) ** 2)
                    + np.trace(P + Q)
                    - 2 * np.sqrt(np.maximum(np.linalg.eigvalsh(np.sqrt(np.abs(P)) @ Q @ np.sqrt(np.abs(P))), 0)).sum()
                ),
                "The cross term was subtracted once; it counts twice.": lambda m, P, k, Q: (
                    0.5 * (frechet(m, P, m, Q) + np.trace(P + Q)) + np.sum((m - k) ** 2)
                ),
                "The last root is missing: sum the roots of the eigenvalues, not the eigenvalues.": lambda m, P, k, Q: (
                    np.sum((m - k) ** 2) + np.trace(P + Q) - 2 * np.trace(P @ Q)
                ),
                "The covariances were compared direction by direction, as if they had the same axes.": (
                    lambda m, P, k, Q: (
                        np.sum((m - k) ** 2)
                        + np.sum((np.sqrt(np.linalg.eigvalsh(P)) - np.sqrt(np.linalg.eigvalsh(Q))) ** 2)
                    )
                ),
            },
            rtol=1e-3,
            atol=1e-4,
        ),
        hints=(
            "np.linalg.eigh gives eigenvalues and axes; the root of the matrix has the roots of them on the same axes.",
            "(U * r) @ U.T is U diag(r) Uᵀ.",
            "For the trace of the last root you need eigenvalues only. Tiny negative ones are rounding: take 0.",
        ),
    ),
)
