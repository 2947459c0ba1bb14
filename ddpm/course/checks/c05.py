"""Lesson 5, scores and Langevin: the truth of its six exercises, and the mistakes that have a name."""

from __future__ import annotations

import math

import numpy as np

from ddpm.course.exercise import exercise, formula, prediction

# ------------------------------------------------------------------------------------------- inputs, by seed


def mixtures(rng):
    """(x, w, μ, v): components of different widths and weights, in one to five dimensions; and a point far out."""
    out = []
    for B, K, D in ((5, 2, 2), (3, 4, 1), (7, 3, 5)):
        w = rng.uniform(0.2, 1, K)
        out.append((2 * rng.normal(size=(B, D)), w / w.sum(), rng.normal(size=(K, D)), rng.uniform(0.3, 2, K)))
    far = np.array([[rng.choice([-90.0, 90.0]), rng.normal()]])  # all densities are 0 there, even in float64
    return [*out, (far, np.array([0.4, 0.6]), rng.normal(size=(2, 2)), np.array([0.5, 1.5]))]


def noisy(rng):
    """(x0, ε, σ) with a mean away from 0, few enough that the sample's own moments matter."""
    return [(1.5 + rng.normal(size=N), rng.normal(size=N), float(rng.uniform(0.4, 2))) for N in (9, 30, 101)]


def walkers(rng):
    """(x, s, δ, z)"""
    return [
        (rng.normal(size=s), rng.normal(size=s), float(rng.uniform(0.1, 0.6)), rng.normal(size=s))
        for s in ((4, 3), (2,), (3, 5, 2))
    ]


def widths(rng):
    """(v, δ) with δ below 4v"""
    return [(float(v), float(v * rng.uniform(0.5, 2))) for v in rng.uniform(0.3, 3, 4)]


def ladders(rng):
    """(σ_1, σ_L, L, r)"""
    return [
        (float(rng.uniform(5, 30)), float(rng.uniform(0.05, 0.4)), L, float(rng.uniform(0.05, 0.3))) for L in (2, 5, 12)
    ]


def clouds(rng):
    """(x, μ, Σ, σ) with a covariance that is not diagonal"""
    out = []
    for B, D in ((4, 2), (1, 3), (6, 5)):
        a = rng.normal(size=(D, D))
        out.append((rng.normal(size=(B, D)), rng.normal(size=D), a @ a.T, float(rng.uniform(0.4, 1.5))))
    return out


# ------------------------------------------------------------------------------------------- truths


def mixture_score(x, weight, mean, var, share=None):
    """Point by point, component by component."""
    out = np.zeros_like(x, dtype=float)
    for i, point in enumerate(x):
        logs = [
            math.log(w) - 0.5 * float((point - m) @ (point - m)) / v - 0.5 * len(point) * math.log(v)
            for w, m, v in zip(weight, mean, var, strict=True)
        ]
        p = np.exp(np.array(logs) - max(logs))
        p = p / p.sum() if share is None else share(point, weight, mean, var)
        out[i] = sum(p[k] * (mean[k] - point) / var[k] for k in range(len(p)))
    return out


def softmax(logs):
    """Shares of exponentials"""
    p = np.exp(logs - logs.max())
    return p / p.sum()


def densities(point, weight, mean, var):
    """w_k N(x; μ_k, v_k I), up to a common factor"""
    return weight * np.exp(half_square(point, mean, var)) * var ** (-0.5 * len(point))


def half_square(point, mean, var):
    """-‖x-μ‖²/2v"""
    return -0.5 * ((point - mean) ** 2).sum(1) / var


def fit_score(x0, eps, sigma, target=None, at=None):
    """Least squares by the normal equations."""
    x = x0 + sigma * eps if at is None else at(x0, eps, sigma)
    y = -eps / sigma if target is None else target(x0, eps, sigma)
    design = np.stack([x, np.ones_like(x)], 1)
    a, b = np.linalg.solve(design.T @ design, design.T @ y)
    return float(a), float(b)


def through_origin(x0, eps, sigma):
    """Least squares without b"""
    x = x0 + sigma * eps
    return float((x @ (-eps / sigma)) / (x @ x)), 0.0


def langevin_step(x, score, delta, z):
    """A drift of half a step, a shake of its root"""
    return x + delta * score / 2 + delta**0.5 * z


def settled_variance(v, delta):
    """The fixed point of V = (1-δ/2v)² V + δ"""
    return delta / (1 - (1 - delta / (2 * v)) ** 2)


def annealed_sizes(first, last, L, r):
    """One after the other"""
    ratio = (last / first) ** (1 / (L - 1))
    sigma = np.array([first * ratio**i for i in range(L)])
    return sigma, r * sigma * sigma


def shadow_score(x, mu, cov, sigma):
    """By the inverse"""
    return (mu - x) @ np.linalg.inv(cov + sigma * sigma * np.identity(len(mu)))


EXERCISES = (
    exercise(
        "5.1",
        formula(
            "mixture_score",
            mixture_score,
            mixtures,
            {
                "The normalisation is that of one dimension, v^(-½); it is v^(-D/2).": lambda x, w, m, v: mixture_score(
                    x, w, m, v, lambda point, w, m, v: softmax(np.log(w) + half_square(point, m, v) - 0.5 * np.log(v))
                ),
                "The sign is wrong: the score points towards the means, uphill.": lambda x, w, m, v: (
                    -mixture_score(x, w, m, v)
                ),
                "The weights w_k were used as they are; at a point x it counts which part x belongs to, p(k|x).": (
                    lambda x, w, m, v: mixture_score(x, w, m, v, lambda point, w, m, v: w)
                ),
                "The weights w_k are missing in p(k|x).": lambda x, w, m, v: mixture_score(
                    x, np.full(len(w), 1 / len(w)), m, v
                ),
                "The normalisation of the parts is missing: wide ones have a lower density, v^(-D/2).": (
                    lambda x, w, m, v: mixture_score(
                        x, w, m, v, lambda point, w, m, v: softmax(np.log(w) + half_square(point, m, v))
                    )
                ),
                "log v was counted once instead of D/2 times: there are D dimensions.": lambda x, w, m, v: (
                    mixture_score(
                        x, w, m, v, lambda point, w, m, v: softmax(np.log(w) + half_square(point, m, v) - np.log(v))
                    )
                ),
                "Far out all densities are 0, and 0/0 is NaN: work with their logarithms.": lambda x, w, m, v: (
                    mixture_score(x, w, m, v, lambda *a: (lambda p: p / p.sum())(densities(*a)))
                ),
                "The density itself came out, not its logarithm's slope: divide by v_k.": lambda x, w, m, v: np.stack(
                    [
                        softmax(np.log(w) + half_square(p, m, v) - 0.5 * x.shape[1] * np.log(v)) @ (m - p)
                        for p in np.asarray(x)
                    ]
                ),
            },
            rtol=1e-3,
            atol=1e-4,
            traceable=True,
        ),
        hints=(
            "All differences at once: mean[None] - x[:, None] has the shape (B, K, D).",
            "log w_k - ‖x-μ_k‖²/2v_k - (D/2) log v_k, and a softmax over k, gives p(k|x).",
            "Then the average over k of (μ_k - x)/v_k.",
        ),
    ),
    exercise(
        "5.2",
        formula(
            "fit_score",
            fit_score,
            noisy,
            {
                "The sign of the target is wrong: the slope points back to x0, against the noise.": lambda x, e, s: (
                    fit_score(x, e, s, target=lambda x, e, s: e / s)
                ),
                "The target is -ε here; the slope of log q is -ε/σ.": lambda x, e, s: fit_score(
                    x, e, s, target=lambda x, e, s: -e
                ),
                "The target was divided by σ²; that belongs to x̃ - x0, which is σε already.": lambda x, e, s: fit_score(
                    x, e, s, target=lambda x, e, s: -e / s**2
                ),
                "The line was fitted over x0; the model sees the noisy x̃.": lambda x, e, s: fit_score(
                    x, e, s, at=lambda x, e, s: x
                ),
                "The line goes through the origin: b is missing.": through_origin,
                "The noise was added without σ.": lambda x, e, s: fit_score(x, e, s, at=lambda x, e, s: x + e),
            },
            rtol=1e-3,
            atol=1e-4,
        ),
        hints=(
            "First x̃ and the target. Then the regression of one on the other.",
            "a is the covariance of x̃ and target over the variance of x̃; both with the mean, not with n-1.",
            "The line passes through the point of the means: that gives b.",
        ),
    ),
    exercise(
        "5.3",
        formula(
            "langevin_step",
            langevin_step,
            walkers,
            {
                "This is x + δ s + √(2δ) z, another convention; here they are δ/2 and √δ.": lambda x, s, d, z: (
                    x + d * s + np.sqrt(2 * d) * z
                ),
                "The drift is δ s; it is half of that, for noise of variance δ.": lambda x, s, d, z: (
                    x + d * s + np.sqrt(d) * z
                ),
                "The noise is multiplied by δ; it has variance δ, so multiply by the root.": lambda x, s, d, z: (
                    x + d / 2 * s + d * z
                ),
                "This walks downhill: the score is added.": lambda x, s, d, z: x - d / 2 * s + np.sqrt(d) * z,
                "There is no noise: all walkers would end on the tops.": lambda x, s, d, z: x + d / 2 * s,
                "The noise has variance 2δ: that goes with the drift δ s, another convention.": lambda x, s, d, z: (
                    x + d / 2 * s + np.sqrt(2 * d) * z
                ),
            },
            traceable=True,
        ),
        formula(
            "settled_variance",
            settled_variance,
            widths,
            {
                "That is the limit of small steps; with δ there is a little more.": lambda v, d: v,
                "The step shrinks x by 1-δ/2v, and so the variance by the square of that.": lambda v, d: 2 * v,
                "The correction is δ/4v, not δ/2v: write the square out.": lambda v, d: v / (1 - d / (2 * v)),
                "The sign is wrong: the walkers spread too far, not too little.": lambda v, d: v / (1 + d / (4 * v)),
            },
        ),
        hints=(
            "Three terms: where it is, half a step uphill, a shake of standard deviation √δ.",
            "If x has variance V before a step, it has (1-δ/2v)² V + δ after it. When is that V?",
            "Solve for V; the square is 1 - δ/v + δ²/4v².",
        ),
    ),
    exercise(
        "5.4",
        prediction(
            "share_in_the_large_lump",
            0.5,
            0.05,
            {
                "That is the exact share. It would take far more than a thousand steps to get from lump to lump.": 0.8,
                "Nobody climbs out of a lump, so not all end in the larger one.": 1.0,
            },
        ),
        hints=(
            "How does the score near one lump change if that lump gets twice the weight?",
            "By symmetry, from where do walkers run to the one lump, and from where to the other?",
        ),
    ),
    exercise(
        "5.5",
        formula(
            "annealed_sizes",
            annealed_sizes,
            ladders,
            {
                "The sizes fall by equal amounts, not by equal shares (a geometric sequence).": lambda a, b, L, r: (
                    np.linspace(a, b, L),
                    r * np.linspace(a, b, L) ** 2,
                ),
                "δ goes with σ here; it goes with σ².": lambda a, b, L, r: (
                    annealed_sizes(a, b, L, r)[0],
                    r * annealed_sizes(a, b, L, r)[0],
                ),
                "The sequence rises; begin with the most noise.": lambda a, b, L, r: annealed_sizes(b, a, L, r),
                "The last is not reached: L levels have L-1 steps between them.": lambda a, b, L, r: (
                    a * (b / a) ** (np.arange(L) / L),
                    r * (a * (b / a) ** (np.arange(L) / L)) ** 2,
                ),
                "These are the paper's step sizes, relative to the last level; here δ_i = r σ_i².": lambda a, b, L, r: (
                    annealed_sizes(a, b, L, r)[0],
                    annealed_sizes(a, b, L, r)[1] / b**2,
                ),
            },
        ),
        hints=(
            "In logarithms the sizes are evenly spaced.",
            "The share from one to the next is (last/first)^(1/(L-1)).",
        ),
    ),
    exercise(
        "5.6",
        formula(
            "shadow_score",
            shadow_score,
            clouds,
            {
                "The sign is wrong: the score points to the mean.": lambda x, m, C, s: -shadow_score(x, m, C, s),
                "The noise is missing in the covariance: it adds σ² to every direction.": lambda x, m, C, s: (
                    shadow_score(x, m, C, 0.0)
                ),
                "σ was added; variances add, so it is σ².": lambda x, m, C, s: shadow_score(x, m, C, s**0.5),
                "The mean was not subtracted.": lambda x, m, C, s: shadow_score(x, 0 * m, C, s),
                "σ² was added to all entries; noise of different pixels is independent: to the diagonal only.": (
                    lambda x, m, C, s: np.linalg.solve(C + s**2, (m - x).T).T
                ),
                "Divided entry by entry: a covariance is inverted as a matrix.": lambda x, m, C, s: (
                    (m - x) / (np.diag(C) + s**2)
                ),
            },
            rtol=1e-3,
            atol=1e-5,
        ),
        hints=(
            "The noisy data have the mean μ and the covariance Σ + σ² I.",
            "np.linalg.solve(A, b) is A⁻¹ b for columns b; rows of x have to be turned to columns and back.",
        ),
    ),
)
