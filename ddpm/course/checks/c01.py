"""Lesson 1, the forward process: the truth of its six exercises, and the mistakes that have a name."""

from __future__ import annotations

import numpy as np

from ddpm.course.exercise import count, exercise, formula, identity

# ------------------------------------------------------------------------------------------- inputs, by seed


def betas(rng):
    """Step sizes, not in any order, of several lengths; the first is large, so that it matters where β_1 goes."""
    return [(rng.uniform(0.05, 0.3, k),) for k in (1, 2, 5, 12)]


def images(rng):
    """(x, a number in (0, 1), ε) of odd shapes."""
    return with_images(rng, rng.uniform(0.15, 0.4, 3))


def small_steps(rng):
    """(x, β, ε): also β_1 and β_T of the paper, and one between them."""
    return images(rng) + with_images(rng, [1e-4, rng.uniform(1e-3, 1e-2), 0.02])


def all_levels(rng):
    """(x, ᾱ, ε): also almost no noise, almost no image, and the clean image itself."""
    return images(rng) + with_images(rng, [0.9999, rng.uniform(0.5, 0.9), 4e-5, 1.0])


def with_images(rng, numbers):
    """(x, number, ε); the numbers are those of float32, so that 1 minus them is exact in it."""
    shapes = ((3, 5, 7, 1), (1,), (2, 9), (4, 2))
    return [
        (rng.normal(size=s), float(np.float32(a)), rng.normal(size=s)) for s, a in zip(shapes, numbers, strict=False)
    ]


def falling(rng):
    """ᾱ_0 = 1 … ᾱ_T of several T, far from 1 already at t = 1; it passes 1/2 at a random place."""
    near = np.array([1.0, rng.uniform(0.8, 0.9), 0.505, rng.uniform(0.3, 0.4), 0.2])  # just above 1/2 at t = 2
    return [(np.concatenate([[1.0], np.cumprod(rng.uniform(0.8, 0.98, T))]),) for T in (15, 22, 41)] + [(near,)]


def pairs(rng):
    """(ᾱ_s, ᾱ_t) with ᾱ_s > ᾱ_t."""
    s = rng.uniform(0.6, 0.9, 4)
    return [(float(a), float(a * rng.uniform(0.2, 0.9))) for a in s]


# ------------------------------------------------------------------------------------------- truths


def alpha_bar(beta):
    """ᾱ_t, one product after the other."""
    left = [1.0]
    for b in beta:
        left.append(left[-1] * (1.0 - float(b)))
    return np.array(left)


def q_step(x_prev, beta_t, eps):
    """N(√(1-β) x, β)"""
    return (1.0 - beta_t) ** 0.5 * x_prev + beta_t**0.5 * eps


def q_sample(x0, alpha_bar_t, eps):
    """N(√ᾱ x0, 1-ᾱ)"""
    return alpha_bar_t**0.5 * x0 + (1.0 - alpha_bar_t) ** 0.5 * eps


def compose(beta):
    """(√∏(1-β), 1 - ∏(1-β)): the closed form, where the exercise walks."""
    kept = float(np.exp(np.sum(np.log1p(-beta))))
    return kept**0.5, 1.0 - kept


def snr(alpha_bar):
    """ᾱ/(1-ᾱ) without t = 0"""
    return 1.0 / (1.0 / alpha_bar[1:] - 1.0)


def equal_power(alpha_bar):
    """The first t with ᾱ_t ≤ 1/2"""
    return next(t for t, a in enumerate(alpha_bar) if a <= 0.5)


def covariance(alpha_bar_s, alpha_bar_t):
    """x_t = a x_s + noise, so that Cov = a Var(x_s)"""
    a = (alpha_bar_t / alpha_bar_s) ** 0.5
    return a * (1.0 - alpha_bar_s)


# ------------------------------------------------------------------------------------------- some wrong ways


def compose_with(variance, amplitude=lambda a, b: np.sqrt(1 - b) * a):
    """The walk with another update of v, or of a."""

    def wrong(beta):
        a, v = 1.0, 0.0
        for b in beta:
            a, v = amplitude(a, b), variance(v, b)
        return a, v

    return wrong


EXERCISES = (
    exercise(
        "1.1",
        formula(
            "alpha_bar",
            alpha_bar,
            betas,
            {
                "This is exp(-Σβ), the limit of small steps; a step of any size keeps 1-β.": lambda beta: (
                    np.concatenate([[1.0], np.exp(-np.cumsum(beta))])
                ),
                "The 1 of the clean image stands at the end; t = 0 comes first.": lambda beta: np.append(
                    np.cumprod(1 - beta), 1.0
                ),
                "The clean image is missing: the list begins with ᾱ_0 = 1, so it is one longer than β.": lambda beta: (
                    np.cumprod(1 - beta)
                ),
                "You multiplied the β themselves; what a step *keeps* is 1-β.": lambda beta: np.concatenate(
                    [[1.0], np.cumprod(beta)]
                ),
                "These are the α_t = 1-β_t of single steps; ᾱ_t is the product of all steps up to t.": lambda beta: (
                    np.concatenate([[1.0], 1 - beta])
                ),
                "You added the β up; shares that are kept multiply.": lambda beta: np.concatenate(
                    [[1.0], 1 - np.cumsum(beta)]
                ),
                "This is √ᾱ, the amplitude; ᾱ is the share of the power, without a root.": lambda beta: np.concatenate(
                    [[1.0], np.cumprod(np.sqrt(1 - beta))]
                ),
                "The list begins with 0, but at t = 0 nothing is lost yet: ᾱ_0 = 1.": lambda beta: np.concatenate(
                    [[0.0], np.cumprod(1 - beta)]
                ),
            },
        ),
        hints=(
            "A step with β_t keeps the share 1-β_t of the power. Two steps keep a share of a share.",
            "NumPy has a function for running products.",
            "The clean image comes first: put ᾱ_0 before the products, and look at the length.",
        ),
    ),
    exercise(
        "1.2",
        formula(
            "q_step",
            q_step,
            small_steps,
            {
                "β was taken as a standard deviation; it is the variance of the noise.": lambda x, b, e: (
                    np.sqrt(1 - b**2) * x + b * e
                ),
                "The square roots are missing: β is a variance, and amplitudes are roots of powers.": lambda x, b, e: (
                    (1 - b) * x + b * e
                ),
                "The image has its root, the noise has not: multiply ε by a standard deviation.": lambda x, b, e: (
                    np.sqrt(1 - b) * x + b * e
                ),
                "The noise has its root, the image has not: 1-β is the power that is kept.": lambda x, b, e: (
                    (1 - b) * x + np.sqrt(b) * e
                ),
                "Signal and noise are swapped: after one small step almost all of the image is left.": lambda x, b, e: (
                    np.sqrt(b) * x + np.sqrt(1 - b) * e
                ),
                "The image is not shrunk, so the variance grows with every step.": lambda x, b, e: x + np.sqrt(b) * e,
                "The noise is subtracted. It has the same distribution, but this x_t does not belong to this ε.": (
                    lambda x, b, e: np.sqrt(1 - b) * x - np.sqrt(b) * e
                ),
            },
            traceable=True,
        ),
        hints=(
            "A draw of N(m, v) is m plus a standard deviation times ε.",
            "The mean is in the formula above; the variance is β_t. Which number has to stand before ε?",
            "Use jnp, not np: the lesson calls this inside a compiled loop.",
        ),
    ),
    exercise(
        "1.3",
        formula(
            "q_sample",
            q_sample,
            all_levels,
            {
                "A bracket closes too early: this is √1 - ᾱ ε, not √(1-ᾱ) ε.": lambda x, a, e: (
                    np.sqrt(a) * x + np.sqrt(1) - a * e
                ),
                "The noise was subtracted; it is added. Its distribution is the same, not this draw.": (
                    lambda x, a, e: np.sqrt(a) * x - np.sqrt(1 - a) * e
                ),
                "The square roots are missing: ᾱ is a power, not an amplitude.": lambda x, a, e: a * x + (1 - a) * e,
                "The image has its root, the noise has not: 1-ᾱ is a variance.": lambda x, a, e: (
                    np.sqrt(a) * x + (1 - a) * e
                ),
                "The noise has its root, the image has not: ᾱ is the power of the image.": lambda x, a, e: (
                    a * x + np.sqrt(1 - a) * e
                ),
                "Signal and noise are swapped: at t = 0, where ᾱ = 1, this is pure noise.": lambda x, a, e: (
                    np.sqrt(1 - a) * x + np.sqrt(a) * e
                ),
                "The noise is 1-√ᾱ; it is the powers that add up to one, not the amplitudes.": lambda x, a, e: (
                    np.sqrt(a) * x + (1 - np.sqrt(a)) * e
                ),
                "Only the image is scaled; the noise has the standard deviation √(1-ᾱ), not 1.": lambda x, a, e: (
                    np.sqrt(a) * x + e
                ),
            },
        ),
        hints=(
            "It is one step, with another number in the place of 1-β_t.",
            "Mean and variance are in Eq. 4 above; a draw is mean plus standard deviation times ε.",
            "Try x0 = 0: what is the variance of the result? And at ᾱ = 1?",
        ),
    ),
    exercise(
        "1.4",
        formula(
            "compose",
            compose,
            betas,
            {
                "v grows by β but is never shrunk: the step shrinks the noise that is there already.": compose_with(
                    lambda v, b: v + b
                ),
                "The old noise is shrunk by √(1-β); a variance is multiplied by the square of that.": compose_with(
                    lambda v, b: np.sqrt(1 - b) * v + b
                ),
                "a is multiplied by 1-β; an amplitude is multiplied by the root.": compose_with(
                    lambda v, b: (1 - b) * v + b, lambda a, b: (1 - b) * a
                ),
                "Standard deviations were added; it is variances of independent noises that add.": compose_with(
                    lambda v, b: (np.sqrt((1 - b) * v) + np.sqrt(b)) ** 2
                ),
                "Only the last step is left in v: the noise of the earlier ones is still there, shrunk.": compose_with(
                    lambda v, b: b
                ),
            },
        ),
        identity(
            "compose",
            lambda f, beta: f(beta)[0] ** 2 + f(beta)[1],
            lambda beta: 1.0,  # power: variance 1 stays variance 1
            betas,
        ),
        hints=(
            "Write x_t = √(1-β) (a x_s + √v ε₁) + √β ε₂ and look at what stands before x_s.",
            "What stands before ε₁ and before ε₂? Square both, and add.",
            "If the data have variance 1, a² + v is 1 after every step.",
        ),
    ),
    exercise(
        "1.5",
        formula(
            "snr",
            snr,
            falling,
            {
                "This is noise over signal; SNR is the other way round.": lambda a: (1 - a[1:]) / a[1:],
                "t = 0 is left in, where there is no noise and the ratio is infinite.": lambda a: np.divide(
                    a, 1 - a, out=np.full_like(a, np.inf), where=a < 1
                ),
                "This is a ratio of amplitudes; SNR is one of powers, without roots.": lambda a: np.sqrt(
                    a[1:] / (1 - a[1:])
                ),
                "You left out t = T instead of t = 0.": lambda a: np.divide(
                    a[:-1], 1 - a[:-1], out=np.full_like(a[:-1], np.inf), where=a[:-1] < 1
                ),
            },
        ),
        count(
            "equal_power",
            equal_power,
            falling,
            {
                "This is the time whose SNR is nearest to 1; the exercise asks for the first with SNR ≤ 1.": lambda a: (
                    1 + int(np.argmin(np.abs(snr(a) - 1)))
                ),
                "One too early: the first entry of snr belongs to t = 1, not to t = 0.": lambda a: equal_power(a) - 1,
                "One too late: ᾱ_0 is the entry of t = 0 already.": lambda a: equal_power(a) + 1,
                "This is the number of times with SNR ≤ 1; the exercise asks for the first of them.": lambda a: int(
                    np.sum(a[1:] <= 0.5)
                ),
                "This looks for the *last* time; the exercise asks for the first with SNR ≤ 1.": lambda a: len(a) - 1,
            },
        ),
        hints=(
            "Powers: the image has ᾱ_t, the noise 1-ᾱ_t. At t = 0 you would divide by zero, so begin at t = 1.",
            "np.argmax of a list of true and false is the position of the first true.",
            "Positions count from 0; the first entry of snr belongs to t = 1.",
        ),
    ),
    exercise(
        "1.6",
        formula(
            "covariance",
            covariance,
            pairs,
            {
                "This is the correlation; the covariance is not divided by the two standard deviations.": lambda s, t: (
                    np.sqrt(t / s * (1 - s) / (1 - t))
                ),
                "The root is missing: what a path keeps of x_s is an amplitude, √(ᾱ_t/ᾱ_s).": lambda s, t: (
                    t / s * (1 - s)
                ),
                "The variance is that of the later time: noise added after s has nothing to do with x_s.": (
                    lambda s, t: np.sqrt(t / s) * (1 - t)
                ),
                "This is the variance at time s alone: x_t has only a share of x_s in it.": lambda s, t: 1 - s,
                "The ratio is upside down: a covariance larger than the variance at s cannot be.": lambda s, t: (
                    np.sqrt(s / t) * (1 - s)
                ),
                "These are the noises' amplitudes as if x_s and x_t had the same ε; along a path, they have not.": (
                    lambda s, t: np.sqrt((1 - s) * (1 - t))
                ),
            },
        ),
        hints=(
            "x_t = a x_s + new noise. Which part of it knows x_s?",
            "Cov(x_s, a x_s) = a Var(x_s | x0). Exercise 1.4 has a, Eq. 4 the variance.",
        ),
    ),
)
