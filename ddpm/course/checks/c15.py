"""Lesson 15, typicality: the truth of its three exercises, and the mistakes that have a name."""

from __future__ import annotations

import math

import numpy as np

from ddpm.course.exercise import exercise, formula, prediction

# ------------------------------------------------------------------------------------------- inputs, by seed


def some_eps(x_t, t, c):
    """A denoiser that depends on the image, the time and the class."""
    t = np.asarray(t)[:, None]
    return 0.4 * x_t + 0.01 * t if c is None else 0.6 * x_t + 0.01 * t - 0.1 * c


def measurements(rng):
    """(ε̂, ᾱ, x, c, times, noise)"""
    out = []
    for K, D in ((5, 7), (3, 4), (11, 2)):
        alpha_bar = np.concatenate([[1.0], np.cumprod(rng.uniform(0.85, 0.97, 15))])
        times = rng.integers(1, 16, K)
        out.append((some_eps, alpha_bar, rng.normal(size=D), int(rng.integers(1, 5)), times, rng.normal(size=(K, D))))
    return out


def curves(rng):
    """(ᾱ falling, L_∅, L_c): of an image that is like its class, of one that is unlike it, and of both in turn"""
    gaps = (np.ones(7), -np.ones(30), rng.permutation([1.0, -1.0] * 6))
    return [(levels(rng, len(g)), 2 + g * rng.uniform(0.1, 1, len(g)), rng.uniform(1.9, 2, len(g))) for g in gaps]


def levels(rng, N):
    """Falling, unevenly, within .05 … .95"""
    return np.sort(rng.uniform(0.05, 0.95, N))[::-1].copy()


def tables(rng):
    """(ᾱ falling, losses of each class, priors); the last have so large a loss that exp(-½ ∫ L dλ) is 0"""
    out = []
    for C, N in ((3, 9), (2, 5), (5, 14)):
        prior = rng.uniform(0.2, 1, C)
        out.append((levels(rng, N), rng.uniform(0, 1.5, (C, N)), prior / prior.sum()))
    alpha_bar = np.linspace(0.95, 0.05, 12)  # ∫ dλ = 5.9
    return [*out, (alpha_bar, 400 + rng.uniform(0, 1.5, (3, 12)), np.array([0.2, 0.5, 0.3]))]


# ------------------------------------------------------------------------------------------- truths


def typicality(eps, alpha_bar, x, c, times, noise, part=None, spread=None, root=math.sqrt, mean=np.mean, clean=False):
    """Draw by draw."""
    without: list = []
    told: list = []
    for t, e in zip(times, noise, strict=True):
        x_t = root(alpha_bar[t]) * x + root(1 - alpha_bar[t]) * e
        seen = (x if clean else x_t)[None]
        for losses, label in ((without, None), (told, c)):
            guess = eps(seen, np.array([t]), label)[0]
            losses.append(mean((e - guess if part is None else part(x, e, x_t, guess)) ** 2))
    d = np.array(without) - np.array(told)
    if spread is not None:
        return d.mean(), spread(np.array(without), np.array(told))
    return sum(d) / len(d), math.sqrt(sum((d - d.mean()) ** 2) / (len(d) - 1) / len(d))


def information(alpha_bar, without, told, log_snr=None, factor=0.5, sign=1):
    """Interval by interval, from the noisy end up."""
    lam = np.log(alpha_bar) - np.log1p(-alpha_bar) if log_snr is None else log_snr(alpha_bar)
    d, total = without - told, 0.0
    for i in range(len(lam) - 1):
        total += (lam[i] - lam[i + 1]) * (d[i] + d[i + 1]) / 2
    return sign * factor * total


def posterior(alpha_bar, loss, prior, factor=0.5, log_prior=np.log):
    """p(c|x) ∝ p(c) exp(-½ ∫ L_c dλ)"""
    bound = np.array([information(alpha_bar, row, 0 * row, factor=factor) for row in loss])
    joint = log_prior(prior) - bound
    joint = joint - joint.max()
    return np.exp(joint) / np.exp(joint).sum()


EXERCISES = (
    exercise(
        "15.1",
        formula(
            "typicality_of",
            typicality,
            measurements,
            {
                "The spread was divided by K; the error of a mean of K draws falls with √K.": lambda *a: typicality(
                    *a, spread=lambda u, c: (u - c).std(ddof=1) / len(u)
                ),
                "The sign is wrong: T is the loss without the class minus that with it; typical is positive.": (
                    lambda *a: (-typicality(*a)[0], typicality(*a)[1])
                ),
                "The squares were added up over the pixels; L is their mean.": (lambda *a: typicality(*a, mean=np.sum)),
                "This is the spread of one draw; the mean of K draws is √K times better known.": lambda *a: typicality(
                    *a, spread=lambda u, c: (u - c).std(ddof=1)
                ),
                "The losses were taken as independent; they share their noise. Take the spread of the differences.": (
                    lambda *a: typicality(*a, spread=lambda u, c: np.sqrt((u.var(ddof=1) + c.var(ddof=1)) / len(u)))
                ),
                "The spread was divided by K; with the mean from the same draws it is K-1 (ddof=1).": (
                    lambda *a: typicality(*a, spread=lambda u, c: (u - c).std() / np.sqrt(len(u)))
                ),
                "The roots are missing in x_t: ᾱ is a power.": lambda *a: typicality(*a, root=lambda v: v),
                "The denoiser was shown the clean image; it has to be x_t.": lambda *a: typicality(*a, clean=True),
                "The guess of the noise was compared with the image; L compares it with the noise.": lambda *a: (
                    typicality(*a, part=lambda x, e, x_t, g: x - g)
                ),
            },
        ),
        prediction(
            "variance_rises_by",
            25.7,
            10.0,
            {
                "A factor of 2 would be right if the two losses did not share their luck. They do: bet higher.": 2.0,
                "Not the number of pixels: the noise along the difference of the means does not cancel.": 784.0,
            },
        ),
        hints=(
            "One x_t for each draw, shown to the denoiser twice.",
            "times is a list of K numbers: ᾱ at all of them at once is an index; give it an axis for the pixels.",
            "First the K differences; then mean, and spread over √K. For the bet: the two losses hardly differ.",
        ),
    ),
    exercise(
        "15.2",
        formula(
            "information",
            information,
            curves,
            {
                "The factor ½ is missing.": lambda *a: information(*a, factor=1.0),
                "The absolute value hides the sign: where the class makes the image less likely, it is negative.": (
                    lambda *a: abs(information(*a))
                ),
                "The sign is wrong: ᾱ falls along the list, and so does λ, so that every dλ is negative.": lambda *a: (
                    information(*a, sign=-1)
                ),
                "This integrates over ᾱ; the integral is over λ.": lambda *a: information(*a, log_snr=lambda v: v),
                "λ is log ᾱ - log(1-ᾱ); the second part, the noise, is missing.": lambda *a: information(
                    *a, log_snr=np.log
                ),
                "λ is the logarithm of a ratio of powers; of amplitudes it is half of that.": lambda *a: information(
                    *a, log_snr=lambda v: 0.5 * np.log(v / (1 - v))
                ),
                "Logarithm to base 10: the result would not be in nats.": lambda *a: information(
                    *a, log_snr=lambda v: np.log10(v / (1 - v))
                ),
                "This is a mean over the list, without dλ: the levels are not evenly spaced.": lambda a, u, c: (
                    0.5 * (u - c).mean()
                ),
            },
        ),
        hints=(
            "λ first, from ᾱ; np.trapezoid takes the values and then the places.",
            "Which sign do the steps of λ have, if ᾱ falls?",
        ),
    ),
    exercise(
        "15.3",
        formula(
            "class_posterior",
            posterior,
            tables,
            {
                "The sign is wrong: this prefers the class with the larger loss.": lambda a, L, p: posterior(a, -L, p),
                "The factor ½ before the integral is missing.": lambda a, L, p: posterior(a, L, p, factor=1.0),
                "The priors are missing: Bayes' rule multiplies by p(c).": lambda a, L, p: posterior(
                    a, L, np.ones_like(p)
                ),
                "The prior was added without its logarithm.": lambda a, L, p: posterior(a, L, p, log_prior=lambda p: p),
                "This names the best class only; the exercise asks for the probabilities of all.": lambda a, L, p: (
                    np.eye(len(p))[posterior(a, L, p).argmax()]
                ),
                "The losses were averaged over the list, without dλ.": lambda a, L, p: (lambda q: q / q.sum())(
                    p * np.exp(-0.5 * L.mean(1))
                ),
                "The exponentials of large losses are all 0, and 0/0 is NaN: subtract the largest logarithm first.": (
                    lambda a, L, p: (lambda q: q / q.sum())(
                        p * np.exp([-information(a, row, 0 * row) for row in np.asarray(L)])
                    )
                ),
            },
            rtol=2e-3,  # a logarithm of -1200 has four digits behind the point in float32
        ),
        hints=(
            "For each class log p(c) - ½ ∫ L_c dλ, up to what is the same for all.",
            "λ falls along the list: the trapezoid rule has a minus of its own. axis=1 takes all classes at once.",
            "Then exponentials, divided by their sum.",
        ),
    ),
)
