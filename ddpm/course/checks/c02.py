"""Lesson 2, noise schedules: the truth of its five exercises, and the mistakes that have a name."""

from __future__ import annotations

import math

import numpy as np

from ddpm.course.exercise import exercise, formula, identity, spot_the_bug

# ------------------------------------------------------------------------------------------- inputs, by seed


def enough_steps(rng):
    """T above 20, where the linear schedule is one."""
    return [(int(T),) for T in (rng.integers(21, 40), rng.integers(50, 120), rng.integers(200, 900), 2000)]


def too_few_steps(rng):
    """T up to 20, where the last β would reach 1."""
    return [(20,), (int(rng.integers(2, 20)),)]


def cosines(rng):
    """T alone, and T with an offset."""
    T = rng.integers(6, 60, 3)
    return [(int(T[0]),), (int(T[1]), float(rng.uniform(0.02, 0.1))), (int(T[2]), float(rng.uniform(0.05, 0.2)))]


def end_points(rng):
    """ᾱ_T large enough for float32 to see the difference of its terms; images of odd shapes."""
    return [(float(rng.uniform(0.2, 0.8)), rng.uniform(-1, 1, s)) for s in ((3, 5, 7, 1), (1,), (2, 9))]


def subsequences(rng):
    """A falling ᾱ with ᾱ_0 = 1 and some rising times, neither all nor evenly spaced; the last need not be T."""
    out = []
    for T, N in ((12, 3), (25, 7), (40, 1)):
        alpha_bar = np.concatenate([[1.0], np.cumprod(rng.uniform(0.8, 0.97, T))])
        out.append((alpha_bar, np.sort(rng.choice(np.arange(2, T + 1), N, replace=False))))
    return out


def some_T(rng):
    """T of the repaired schedule; without an argument it is 1000."""
    return [(int(rng.integers(5, 30)),), (int(rng.integers(40, 200)),), ()]


# ------------------------------------------------------------------------------------------- truths


def linear(T):
    """β_t = (a + (b-a)(t-1)/(T-1)) 1000/T"""
    if T <= 20:
        raise ValueError("the last β would not be below 1")
    return np.array([(1e-4 + (0.02 - 1e-4) * (t - 1) / (T - 1)) * 1000 / T for t in range(1, T + 1)])


def cosine(T, s=0.008):
    """1 - ᾱ_t/ᾱ_{t-1}, entry by entry, at most .999"""

    def f(t):
        return (1 + math.cos((t / T + s) / (1 + s) * math.pi)) / 2  # cos² of half the angle

    return np.array([min(1 - f(t) / f(t - 1), 0.999) for t in range(1, T + 1)])


def end_point_bits(alpha_bar_T, x0):
    """∫ q log2 (q/p) of one Gaussian against another, averaged over pixels"""
    mean, var = math.sqrt(alpha_bar_T) * np.asarray(x0, np.float64), 1 - alpha_bar_T
    nats = 0.5 * (var + mean**2 - 1 - math.log(var))
    return nats.mean() / math.log(2)


def respace(alpha_bar, times):
    """1 - ᾱ_t/ᾱ_s for each time t and the one before it, 0 before the first"""
    out, s = [], 0
    for t in times:
        out.append(1 - alpha_bar[t] / alpha_bar[s])
        s = t
    return np.array(out)


def repaired_alpha_bar(T=1000):
    """ᾱ_0 = 1, and then T products"""
    beta = [1e-4 + (0.02 - 1e-4) * i / (T - 1) for i in range(T)]
    return np.array([math.prod(1 - b for b in beta[:t]) for t in range(T + 1)])


# ------------------------------------------------------------------------------------------- some wrong ways


def unscaled(T):
    """The paper's ends for every T."""
    return np.linspace(1e-4, 0.02, T)


def scaled(T):
    """The right β, without the refusal of a small T."""
    return np.linspace(1e-4, 0.02, T) * 1000 / T


def refusing(condition):
    """Refuse other T than the right ones."""

    def wrong(T):
        if condition(T):
            raise ValueError
        return scaled(T)

    return wrong


def cosine_with(f, s_used=None, read=lambda f: 1 - f[1:] / f[:-1], most=0.999):
    """The cosine schedule with another curve, offset, way to read β off it, or clip."""

    def wrong(T, s=0.008):
        s = s if s_used is None else s_used
        return np.minimum(read(f((np.arange(T + 1) / T + s) / (1 + s) * np.pi / 2)), most)

    return wrong


def bits_with(nats):
    """The mean of another expression, in bits."""
    return lambda a, x: np.mean(nats(a, x)) / np.log(2)


def kl(a, x):
    """The right one, in nats, pixel by pixel."""
    return 0.5 * (a * x**2 - a - np.log(1 - a))


def square_cos(angle):
    """cos²"""
    return np.cos(angle) ** 2


def published(T=1000):
    """T+1 values of β, one of them for the clean image."""
    return np.cumprod(1 - np.linspace(1e-4, 0.02, T + 1))


EXERCISES = (
    exercise(
        "2.1",
        formula(
            "linear",
            linear,
            enough_steps,
            {
                "The ends are not scaled by 1000/T: with another T the chain would end elsewhere.": unscaled,
                "You multiplied by T/1000; fewer steps need larger β, not smaller ones.": lambda T: (
                    np.linspace(1e-4, 0.02, T) * T / 1000
                ),
                "Only the last end is scaled; the first is 0.1/T.": lambda T: np.linspace(1e-4, 20 / T, T),
                "T+1 values: β_1…β_T are T of them, the clean image has none.": lambda T: (
                    np.linspace(1e-4, 0.02, T + 1) * 1000 / T
                ),
                "The upper end is missing: β_T is the last entry (np.arange and endpoint=False leave it out).": (
                    lambda T: np.linspace(0.1 / T, 20 / T, T, endpoint=False)
                ),
            },
        ),
        formula(
            "linear",
            linear,
            too_few_steps,
            {
                "With 20 steps or fewer β_T reaches 1: raise a ValueError instead of returning it.": scaled,
                "With exactly 20 steps β_T is 1, and then nothing of x_{T-1} is left: refuse that too.": refusing(
                    lambda T: T < 20
                ),
            },
        ),
        hints=(
            "np.linspace(first, last, how many) gives equal steps, both ends included.",
            "Scale the whole line: both ends by the same factor.",
            "β_T is 20/T. For which T is that not below 1? Look there first, and raise.",
        ),
    ),
    exercise(
        "2.2",
        formula(
            "cosine",
            cosine,
            cosines,
            {
                "These are ᾱ_1…ᾱ_T; β_t is 1 minus the ratio of two neighbours.": cosine_with(
                    square_cos, read=lambda f: f[1:] / f[0], most=np.inf
                ),
                "These are ᾱ_0…ᾱ_T; β_t is 1 minus the ratio of two neighbours.": cosine_with(
                    square_cos, read=lambda f: f / f[0], most=np.inf
                ),
                "The last β is not clipped: without the minimum it is 1.": cosine_with(square_cos, most=np.inf),
                "β is at most .999, not .9999.": cosine_with(square_cos, most=0.9999),
                "The square is missing: f is cos², as ᾱ is a power.": cosine_with(np.cos),
                "The offset s is left out.": cosine_with(square_cos, s_used=0.0),
                "The offset is always .008; use the argument s.": cosine_with(square_cos, s_used=0.008),
                "This is 1-ᾱ_t, what is lost since the beginning; β_t is what is lost since t-1.": cosine_with(
                    square_cos, read=lambda f: 1 - f[1:] / f[0]
                ),
                "This is the ratio ᾱ_t/ᾱ_{t-1}, which is 1-β_t.": cosine_with(
                    square_cos, read=lambda f: f[1:] / f[:-1]
                ),
                "T+1 values: begin the β at t = 1.": cosine_with(
                    square_cos, read=lambda f: np.concatenate([[0.0], 1 - f[1:] / f[:-1]])
                ),
                "This is sin², the noise's share; f is cos².": cosine_with(lambda angle: np.sin(angle) ** 2),
            },
            rtol=5e-5,  # .999, .9999 and 1 are three numbers
        ),
        identity(
            "cosine",
            lambda f, T: np.cumprod(1 - np.asarray(f(T), np.float64))[:-1],
            lambda T: np.array(
                [
                    (math.cos((t / T + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)) ** 2
                    for t in range(1, T)
                ]
            ),
            lambda rng: [(int(rng.integers(6, 40)),), (int(rng.integers(60, 200)),)],
        ),
        hints=(
            "Make f for t = 0…T first: T+1 values.",
            "The constant f(0) cancels in the ratio of neighbours.",
            "np.minimum goes entry by entry; compare shifted copies of f.",
        ),
    ),
    exercise(
        "2.3",
        formula(
            "end_point_bits",
            end_point_bits,
            end_points,
            {
                "Only the logarithm is in bits; divide the other terms by ln 2 too.": lambda a, x: np.mean(
                    0.5 * (a * x**2 - a - np.log2(1 - a))
                ),
                "This is in nats; a bit is ln 2 nats.": lambda a, x: np.mean(kl(a, x)),
                "You multiplied by ln 2; there are *more* bits than nats.": lambda a, x: np.mean(kl(a, x)) * np.log(2),
                "This is the sum over the pixels; bits per dimension are the mean.": lambda a, x: (
                    np.sum(kl(a, x)) / np.log(2)
                ),
                "The factor ½ is missing.": bits_with(lambda a, x: 2 * kl(a, x)),
                "The logarithm has the wrong sign: a variance below 1 costs something.": bits_with(
                    lambda a, x: 0.5 * (a * x**2 - a + np.log(1 - a))
                ),
                "The logarithm is missing; without it the divergence can be negative.": bits_with(
                    lambda a, x: 0.5 * (a * x**2 - a)
                ),
                "The logarithm is of ᾱ_T; it is of the variance of x_T, which is 1-ᾱ_T.": bits_with(
                    lambda a, x: 0.5 * (a * x**2 - a - np.log(a))
                ),
                "The mean of x_T is √ᾱ x0, and its square ᾱ x0²; you have ᾱ² x0².": bits_with(
                    lambda a, x: 0.5 * (a**2 * x**2 - a - np.log(1 - a))
                ),
            },
            rtol=1e-3,
            atol=0.0,
        ),
        hints=(
            "The formula above is for one pixel and in nats; 1-ᾱ-1 is -ᾱ.",
            "np.log1p(-a) is ln(1-a), exact also where a is tiny.",
            "Mean over the pixels, then from nats to bits.",
        ),
    ),
    exercise(
        "2.4",
        formula(
            "respace",
            respace,
            subsequences,
            {
                "The first step is missing: it goes from the clean image, ᾱ_0 = 1, to the first of the times.": (
                    lambda a, t: 1 - a[t][1:] / a[t][:-1]
                ),
                "These are the old β at those times; the new steps are longer.": lambda a, t: 1 - a[t] / a[t - 1],
                "The index is off by one: alpha_bar begins with t = 0, so that alpha_bar[t] is ᾱ_t.": (
                    lambda a, t: respace(a, t - 1)
                ),
                "The ratio is upside down; what is kept from s to t is ᾱ_t/ᾱ_s, below 1.": lambda a, t: (
                    1 - a[np.concatenate([[0], t[:-1]])] / a[t]
                ),
                "This is what is kept, α; β is one minus that.": lambda a, t: a[t] / a[np.concatenate([[0], t[:-1]])],
                "These are 1-ᾱ_t, as if each time were reached in one step from the clean image.": lambda a, t: (
                    1 - a[t]
                ),
                "The first entry is wrong: the index runs round, so that it is compared with the last.": (
                    lambda a, t: 1 - a[t] / np.roll(a[t], 1)
                ),
            },
        ),
        hints=(
            "From s to t, ᾱ_t/ᾱ_s takes the place of 1-β.",
            "Before the first of the times comes t = 0. Put it in front.",
            "Then divide each ᾱ by the one before it: two shifted slices of one array.",
        ),
    ),
    exercise(
        "2.5",
        spot_the_bug(
            "repaired_alpha_bar",
            repaired_alpha_bar,
            some_T,
            published,
            "The bug is still there: T+1 values of β, and so a noise already at t = 0.",
            {
                "ᾱ_0 = 1 is there, but the T+1 values of β too; the list is one too long.": lambda T=1000: (
                    np.concatenate([[1.0], published(T)])
                ),
                "T values of β, but ᾱ_0 = 1 is missing: alpha_bar[t] is then the entry of t+1.": lambda T=1000: (
                    np.cumprod(1 - np.linspace(1e-4, 0.02, T))
                ),
                "ᾱ_0 is 1 now, but the others still come from T+1 values of β.": lambda T=1000: np.concatenate(
                    [[1.0], published(T)[1:]]
                ),
                "The first β is thrown away: 1 takes the place of its product, and β_1 is the second value.": (
                    lambda T=1000: np.cumprod(1 - np.concatenate([[0.0], np.linspace(1e-4, 0.02, T + 1)[1:]]))
                ),
            },
            rtol=3e-5,
        ),
        hints=(
            "How many β does the paper have, and which time has none?",
            "Make exactly T values of β, and put what belongs to t = 0 in front of their products.",
        ),
    ),
)
