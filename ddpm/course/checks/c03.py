"""Lesson 3, the reverse process and the loss: the truth of its seven exercises, and the mistakes that have a name."""

from __future__ import annotations

import math

import numpy as np

from ddpm.course.exercise import exercise, formula, identity, prediction, spot_the_bug

# ------------------------------------------------------------------------------------------- inputs, by seed

SHAPES = ((3, 5, 7, 1), (1,), (2, 9))


def two_times(rng):
    """(ᾱ_s, ᾱ_t) with ᾱ_s > ᾱ_t, neither close to 0 nor to 1."""
    s = float(rng.uniform(0.5, 0.9))
    return s, float(s * rng.uniform(0.3, 0.8))


def steps(rng):
    """(ᾱ_s, ᾱ_t, x_t, x0) of odd shapes."""
    return [(*two_times(rng), rng.normal(size=shape), rng.normal(size=shape)) for shape in SHAPES]


def steps_and_the_last(rng):
    """The same, and a step to the clean image."""
    return [*steps(rng), (1.0, float(rng.uniform(0.3, 0.9)), rng.normal(size=(2, 3)), rng.normal(size=(2, 3)))]


def guesses(rng):
    """(ᾱ_t, x_t, ε or v) of odd shapes."""
    return [(float(rng.uniform(0.15, 0.4)), rng.normal(size=s), rng.normal(size=s)) for s in SHAPES]


def gaussians(rng):
    """(mean_q, var_q, mean_p, var_p)"""
    out = []
    for shape in SHAPES:
        var = rng.uniform(0.3, 0.8, 2) * [1, 3]
        out.append((rng.normal(size=shape), float(var[0]), rng.normal(size=shape), float(var[1])))
    return out


def weights(rng):
    """(ᾱ_s, ᾱ_t, σ²) as numbers and as (T,)"""
    alpha_bar = np.concatenate([[0.95], 0.95 * np.cumprod(rng.uniform(0.7, 0.95, 9))])
    numbers = [(*two_times(rng), float(rng.uniform(0.1, 0.6))) for _ in range(3)]
    return [*numbers, (alpha_bar[:-1], alpha_bar[1:], rng.uniform(0.1, 0.6, 9))]


def data(rng):
    """(ᾱ_t, x_t, m, λ)"""
    return [
        (
            float(rng.uniform(0.3, 0.45)),
            rng.normal(size=s),
            float(rng.uniform(0.5, 1)),
            float(rng.uniform(0.2, 0.5)),
        )
        for s in SHAPES
    ]


def chains(rng):
    """(ᾱ_0 … ᾱ_T, large): both variances of short chains with long steps."""
    out = []
    for T in (2, 5, 11):
        alpha_bar = np.concatenate([[1.0], np.cumprod(rng.uniform(0.4, 0.9, T))])
        out += [(alpha_bar, True), (alpha_bar, False)]
    return out


# ------------------------------------------------------------------------------------------- truths


def posterior(alpha_bar_s, alpha_bar_t, x_t, x0):
    """Bayes' rule for Gaussians: precisions add, and means are weighted by them. The exercise has Eq. 7 instead."""
    if alpha_bar_s == 1.0:
        return x0, 0.0
    alpha = alpha_bar_t / alpha_bar_s
    prior, likelihood = 1 / (1 - alpha_bar_s), alpha / (1 - alpha)  # precisions, as functions of x_s
    mean = (prior * alpha_bar_s**0.5 * x0 + likelihood * x_t / alpha**0.5) / (prior + likelihood)
    return mean, 1 / (prior + likelihood)


def x0_from_eps(alpha_bar_t, x_t, eps):
    """Solve x_t = √ᾱ x0 + √(1-ᾱ) ε by a turn: the first of two rows."""
    angle = math.acos(alpha_bar_t**0.5)
    return x_t / math.cos(angle) - math.tan(angle) * eps


def v_from_eps(alpha_bar_t, x_t, eps):
    """v by its definition, from x0 and ε"""
    return alpha_bar_t**0.5 * eps - (1 - alpha_bar_t) ** 0.5 * x0_from_eps(alpha_bar_t, x_t, eps)


def eps_from_v(alpha_bar_t, x_t, v):
    """(x_t, v) turned back by the angle"""
    angle = math.acos(alpha_bar_t**0.5)
    return math.sin(angle) * x_t + math.cos(angle) * v


def kl(mean_q, var_q, mean_p, var_p):
    """-entropy of q, minus its expected log p"""
    entropy = 0.5 * (math.log(2 * math.pi * var_q) + 1)
    expected = -0.5 * math.log(2 * math.pi * var_p) - 0.5 * (var_q + (mean_q - mean_p) ** 2) / var_p
    return -entropy - expected


def bound_weight(alpha_bar_s, alpha_bar_t, sigma2):
    """(dμ/dε)² / 2σ², by way of x̂0: dμ/dx0 = √ᾱ_s β/(1-ᾱ_t), dx0/dε = √((1-ᾱ_t)/ᾱ_t)"""
    beta = 1 - alpha_bar_t / alpha_bar_s
    slope = np.sqrt(alpha_bar_s) * beta / (1 - alpha_bar_t) * np.sqrt((1 - alpha_bar_t) / alpha_bar_t)
    return slope**2 / (2 * sigma2)


def gaussian_eps(alpha_bar_t, x_t, m, lam):
    """From the mean of x0 given x_t, by precisions; then the noise that is left"""
    prior, likelihood = 1 / lam, alpha_bar_t / (1 - alpha_bar_t)
    x0 = (prior * m + likelihood * x_t / alpha_bar_t**0.5) / (prior + likelihood)
    return (x_t - alpha_bar_t**0.5 * x0) / (1 - alpha_bar_t) ** 0.5


def final_variance(alpha_bar, large):
    """ᾱ_T + Σ_{t≥2} σ_t² ᾱ_{t-1}: each step's noise, shrunk by all the steps after it. The exercise walks."""
    total = alpha_bar[-1]
    for t in range(2, len(alpha_bar)):
        beta = 1 - alpha_bar[t] / alpha_bar[t - 1]
        share = 1.0 if large else (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t])
        total = total + beta * share * alpha_bar[t - 1]
    return total


def mean(alpha_bar_s, alpha_bar_t, x_t, x0):
    """The mean of q(x_s | x_t, x0)"""
    return posterior(alpha_bar_s, alpha_bar_t, x_t, x0)[0]


# ------------------------------------------------------------------------------------------- some wrong ways


def eq7(in_x0="s", in_x_t="s", in_var="s", below="t"):
    """Eqs. 6-7, with ᾱ_s or ᾱ_t at each of the four places."""

    def wrong(s, t, x_t, x0):
        at = {"s": s, "t": t}
        alpha = t / s
        m = np.sqrt(at[in_x0]) * (1 - alpha) * x0 + np.sqrt(alpha) * (1 - at[in_x_t]) * x_t
        return m / (1 - at[below]), (1 - at[in_var]) / (1 - at[below]) * (1 - alpha)

    return wrong


def with_variance(variance):
    """The right mean, another variance."""

    def wrong(s, t, x_t, x0):
        return eq7()(s, t, x_t, x0)[0], variance(s, t, 1 - t / s)

    return wrong


def with_mean(mean):
    """Another mean, the right variance."""

    def wrong(s, t, x_t, x0):
        return mean(s, t, t / s, x_t, x0) / (1 - t), eq7()(s, t, x_t, x0)[1]

    return wrong


def walk(shrink=lambda a: a, sigma2=None, last=False, end=0, swap=False):
    """The recursion of Exercise 3.6 with one thing changed."""

    def wrong(alpha_bar, large):
        variance = 1.0
        for t in range(len(alpha_bar) - 1, end, -1):
            s2, t2 = alpha_bar[t - 1], alpha_bar[t]
            beta = 1 - t2 / s2
            noise = beta if large != swap else beta * (1 - s2) / (1 - t2)
            noise = sigma2(beta, s2, t2, noise) if sigma2 else noise
            variance = shrink(1 - beta) * variance + (noise if t > 1 or last else 0.0)
        return variance

    return wrong


EXERCISES = (
    exercise(
        "3.1",
        formula(
            "posterior",
            posterior,
            steps_and_the_last,
            {
                "The variance comes first; the exercise asks for the mean, and then the variance.": lambda *case: eq7()(
                    *case
                )[::-1],
                "ᾱ_t stands where ᾱ_s belongs, in front of x0.": eq7(in_x0="t"),
                "ᾱ_t stands where ᾱ_s belongs, in front of x_t: at s = 0 the share of x_t has to vanish.": eq7(
                    in_x_t="t"
                ),
                "ᾱ_t stands where ᾱ_s belongs, in front of x0 and in front of x_t.": eq7(in_x0="t", in_x_t="t"),
                "The denominators are 1-ᾱ_t, the variance of x_t, not 1-ᾱ_s.": eq7(below="s"),
                "The variance is β, that of the step forward; knowing x0 makes it smaller.": with_variance(
                    lambda s, t, beta: beta
                ),
                "This is the standard deviation; the exercise asks for the variance.": with_variance(
                    lambda s, t, beta: np.sqrt(beta * (1 - s) / (1 - t))
                ),
                "The ratio in the variance is upside down: β̃ is smaller than β.": with_variance(
                    lambda s, t, beta: np.divide(beta * (1 - t), 1 - s, out=np.array(np.inf), where=s < 1)
                ),
                "The root of ᾱ_s is missing in front of x0.": with_mean(
                    lambda s, t, a, x_t, x0: s * (1 - a) * x0 + np.sqrt(a) * (1 - s) * x_t
                ),
                "The root of α is missing in front of x_t.": with_mean(
                    lambda s, t, a, x_t, x0: np.sqrt(s) * (1 - a) * x0 + a * (1 - s) * x_t
                ),
                "x0 and x_t are swapped.": with_mean(
                    lambda s, t, a, x_t, x0: np.sqrt(s) * (1 - a) * x_t + np.sqrt(a) * (1 - s) * x0
                ),
                "Only the mean is returned; the exercise asks for the variance too.": lambda s, t, x_t, x0: eq7()(
                    s, t, x_t, x0
                )[0],
            },
        ),
        hints=(
            "First α and β of the step from s to t; with s = t-1 they are α_t and β_t.",
            "Eqs. 6-7 above have three places with ᾱ_s and three with ᾱ_t. Which noise was there already at s?",
            "Put s = 0, ᾱ_s = 1 into your formula by hand: the mean has to be x0, the variance 0.",
        ),
    ),
    exercise(
        "3.2",
        formula(
            "x0_from_eps",
            x0_from_eps,
            guesses,
            {
                "Only the noise is divided by √ᾱ; x_t has to be divided too.": lambda a, x, e: (
                    x - np.sqrt(1 - a) * e / np.sqrt(a)
                ),
                "x0 is clipped to [-1, 1]; the exercise asks for the plain inverse.": lambda a, x, e: np.clip(
                    (x - np.sqrt(1 - a) * e) / np.sqrt(a), -1, 1
                ),
                "The noise is taken away, but what is left is still shrunk: divide by √ᾱ.": lambda a, x, e: (
                    x - np.sqrt(1 - a) * e
                ),
                "The roots are missing: ᾱ and 1-ᾱ are powers.": lambda a, x, e: (x - (1 - a) * e) / a,
                "The noise is added; to go back, take it away.": lambda a, x, e: (x + np.sqrt(1 - a) * e) / np.sqrt(a),
                "You divide by ᾱ; the image was multiplied by its root.": lambda a, x, e: (x - np.sqrt(1 - a) * e) / a,
                "√ᾱ and √(1-ᾱ) are swapped.": lambda a, x, e: (x - np.sqrt(a) * e) / np.sqrt(1 - a),
            },
        ),
        formula(
            "v_from_eps",
            v_from_eps,
            guesses,
            {
                "x_t stands where x0 belongs in the definition of v; first make x0 of x_t and ε.": lambda a, x, e: (
                    np.sqrt(a) * e - np.sqrt(1 - a) * x
                ),
                "The sign is turned: v has +ε and -x0.": lambda a, x, e: (np.sqrt(1 - a) * x - e) / np.sqrt(a),
                "√ᾱ and √(1-ᾱ) are swapped.": lambda a, x, e: (
                    np.sqrt(1 - a) * e - np.sqrt(a) * (x - np.sqrt(1 - a) * e) / np.sqrt(a)
                ),
                "The two parts are added; v is their difference.": lambda a, x, e: (
                    np.sqrt(a) * e + np.sqrt(1 - a) * (x - np.sqrt(1 - a) * e) / np.sqrt(a)
                ),
                "This is x̂0 and not v.": lambda a, x, e: (x - np.sqrt(1 - a) * e) / np.sqrt(a),
            },
        ),
        formula(
            "eps_from_v",
            eps_from_v,
            guesses,
            {
                "The sign of x_t is wrong: turning back, both parts add.": lambda a, x, v: (
                    np.sqrt(a) * v - np.sqrt(1 - a) * x
                ),
                "This is x̂0 made of x_t and v; the exercise asks for the noise.": lambda a, x, v: (
                    np.sqrt(a) * x - np.sqrt(1 - a) * v
                ),
                "√ᾱ and √(1-ᾱ) are swapped.": lambda a, x, v: np.sqrt(1 - a) * v + np.sqrt(a) * x,
                "The roots are missing: cosine and sine of the angle are √ᾱ and √(1-ᾱ).": lambda a, x, v: (
                    a * v + (1 - a) * x
                ),
                "This turns once more in the same direction: it is v made of ε, not ε made of v.": lambda a, x, v: (
                    (v - np.sqrt(1 - a) * x) / np.sqrt(a)
                ),
            },
        ),
        identity(
            ("v_from_eps", "eps_from_v"), lambda v, eps, a, x, e: eps(a, x, v(a, x, e)), lambda a, x, e: e, guesses
        ),
        hints=(
            "x_t is known. Solve x_t = √ᾱ x0 + √(1-ᾱ) ε for x0.",
            "For v, put this x0 into the definition, and simplify: (1-ᾱ) + ᾱ is 1.",
            "ε = cos·v + sin·x_t with the angle of the text; check that √ᾱ v + √(1-ᾱ) x_t gives ε by hand.",
        ),
    ),
    exercise(
        "3.3",
        formula(
            "kl",
            kl,
            gaussians,
            {
                "The logarithm has no factor ½: it is of variances, and log σ is half of log σ².": lambda m, v, n, w: (
                    np.log(w / v) + 0.5 * ((v + (m - n) ** 2) / w - 1)
                ),
                "q and p are swapped; the divergence is not symmetric.": lambda m, v, n, w: kl(n, w, m, v),
                "The factor ½ is missing.": lambda m, v, n, w: 2 * kl(m, v, n, w),
                "The logarithm is missing: then two equal means with different variances come out wrong.": (
                    lambda m, v, n, w: 0.5 * ((v + (m - n) ** 2) / w - 1)
                ),
                "The logarithm is upside down: it is that of var_p over var_q.": lambda m, v, n, w: (
                    0.5 * (np.log(v / w) + (v + (m - n) ** 2) / w - 1)
                ),
                "The -1 is missing: the divergence of a distribution from itself has to be 0.": lambda m, v, n, w: (
                    kl(m, v, n, w) + 0.5
                ),
                "The arguments are variances already; you square them.": lambda m, v, n, w: kl(m, v**2, n, w**2),
                "The distance of the means is not squared.": lambda m, v, n, w: (
                    0.5 * (np.log(w / v) + (v + (m - n)) / w - 1)
                ),
                "var_q is missing next to the squared distance.": lambda m, v, n, w: (
                    0.5 * (np.log(w / v) + (m - n) ** 2 / w - 1)
                ),
                "This is the mean over the pixels; the exercise asks for each pixel's.": lambda m, v, n, w: np.mean(
                    kl(m, v, n, w)
                ),
                "This is the sum over the pixels; the exercise asks for each pixel's.": lambda m, v, n, w: (
                    kl(m, v, n, w).sum() if m.size > 1 else kl(m, v, n, w)
                ),
            },
        ),
        hints=(
            "E_q[log q - log p]: write both log densities out; 2π cancels.",
            "E_q of (x - mean_q)² is var_q. What is E_q of (x - mean_p)²?",
            "If q = p everything cancels: the logarithm, and the rest against -1.",
        ),
    ),
    exercise(
        "3.4",
        formula(
            "bound_weight",
            bound_weight,
            weights,
            {
                "The factor ½ is missing.": lambda s, t, v: (1 - t / s) ** 2 / (v * t / s * (1 - t)),
                "β is not squared: the means differ by a multiple of β, and their *squared* distance counts.": (
                    lambda s, t, v: (1 - t / s) / (2 * v * t / s * (1 - t))
                ),
                "α is missing in the denominator.": lambda s, t, v: (1 - t / s) ** 2 / (2 * v * (1 - t)),
                "σ² is given already; you square it once more.": lambda s, t, v: (
                    (1 - t / s) ** 2 / (2 * v**2 * t / s * (1 - t))
                ),
                "ᾱ_t stands where α_t = ᾱ_t/ᾱ_s belongs.": lambda s, t, v: (1 - t / s) ** 2 / (2 * v * t * (1 - t)),
                "1-ᾱ_s stands where 1-ᾱ_t belongs.": lambda s, t, v: (1 - t / s) ** 2 / (2 * v * t / s * (1 - s)),
                "1-ᾱ_t is missing in the denominator.": lambda s, t, v: (1 - t / s) ** 2 / (2 * v * t / s),
            },
        ),
        hints=(
            "α_t = ᾱ_t/ᾱ_s and β_t = 1-α_t; the arguments give the rest of Eq. 12.",
            "α_t without a bar is one step, ᾱ_t all of them. Eq. 12 has both.",
        ),
    ),
    exercise(
        "3.5",
        formula(
            "gaussian_eps",
            gaussian_eps,
            data,
            {
                "The mean m is not taken off: only the deviation from the expected x_t is informative.": (
                    lambda a, x, m, v: np.sqrt(1 - a) * x / (a * v + 1 - a)
                ),
                "At time t the mean is shrunk: √ᾱ m, not m.": lambda a, x, m, v: (
                    np.sqrt(1 - a) * (x - m) / (a * v + 1 - a)
                ),
                "The covariance of ε and x_t is √(1-ᾱ); the root is missing.": lambda a, x, m, v: (
                    (1 - a) * (x - np.sqrt(a) * m) / (a * v + 1 - a)
                ),
                "The variance of x_t is ᾱλ + 1-ᾱ: that of the data is shrunk too.": lambda a, x, m, v: (
                    np.sqrt(1 - a) * (x - np.sqrt(a) * m) / (v + 1 - a)
                ),
                "λ is a variance already; you square it.": lambda a, x, m, v: (
                    np.sqrt(1 - a) * (x - np.sqrt(a) * m) / (a * v**2 + 1 - a)
                ),
                "You divide by the standard deviation of x_t; Cov/Var wants the variance.": lambda a, x, m, v: (
                    np.sqrt(1 - a) * (x - np.sqrt(a) * m) / np.sqrt(a * v + 1 - a)
                ),
                "This is the noise if x0 were m for sure; a part of the deviation is the data's own.": (
                    lambda a, x, m, v: (x - np.sqrt(a) * m) / np.sqrt(1 - a)
                ),
                "This is the score, -ε*/√(1-ᾱ); the exercise asks for the noise.": lambda a, x, m, v: (
                    -(x - np.sqrt(a) * m) / (a * v + 1 - a)
                ),
                "This is the best guess at x0; the exercise asks for the noise.": lambda a, x, m, v: (
                    m + np.sqrt(a) * v * (x - np.sqrt(a) * m) / (a * v + 1 - a)
                ),
            },
        ),
        hints=(
            "x_t = √ᾱ x0 + √(1-ᾱ) ε. What is its mean? Its variance, if x0 has variance λ?",
            "Cov(ε, x_t): only one of the two terms has ε in it, and Var(ε) = 1.",
            "E[ε | x_t] = Cov/Var times (x_t - its mean). With λ = 0 it has to be Eq. 4 solved for ε.",
        ),
    ),
    exercise(
        "3.6",
        prediction(
            "guess",
            (0.998, 0.854),
            0.03,
            {
                "With β it stays at 1, but not with β̃: its noise is right only if the data are a single point.": (
                    1.0,
                    1.0,
                ),
                "It is the other way round: β̃ is the smaller variance, so its samples are the narrow ones.": (
                    0.854,
                    0.998,
                ),
            },
        ),
        formula(
            "final_variance",
            final_variance,
            chains,
            {
                "The last step adds noise too; at s = 0 the walk has arrived, and adds none.": walk(last=True),
                "β and β̃ are swapped: `large` means σ² = β.": walk(swap=True),
                "The variance is multiplied by √α; x is, and so its variance by α.": walk(shrink=np.sqrt),
                "The variance is never shrunk, it only grows: the mean of a step is √α x_t.": walk(
                    shrink=lambda a: 1.0
                ),
                "The standard deviation is added; variances add.": walk(sigma2=lambda b, s, t, v: np.sqrt(v)),
                "σ² is squared: it is a variance already.": walk(sigma2=lambda b, s, t, v: v**2),
                "The walk stops one step early, at t = 1.": walk(end=1),
                "No noise is added at all.": walk(sigma2=lambda b, s, t, v: 0.0),
                "σ² is always β, whatever `large` is.": walk(sigma2=lambda b, s, t, v: b),
                "σ² is always β̃, whatever `large` is.": walk(sigma2=lambda b, s, t, v: b * (1 - s) / (1 - t)),
            },
        ),
        hints=(
            "x_s = √α x_t + σ z, and z is independent of x_t. What is Var(x_s)?",
            "α is ᾱ_t/ᾱ_s; β = 1-α; β̃ is the variance of Exercise 3.1.",
            "At t = 1 the step ends at s = 0, and no noise is added.",
        ),
    ),
    exercise(
        "3.7",
        spot_the_bug(
            "repaired_mean",
            mean,
            steps_and_the_last,
            lambda s, t, x_t, x0: eq7(in_x0="t", in_x_t="t")(s, t, x_t, x0)[0],
            "The bug is still there: at s = 0 this does not return x0.",
            {
                "One of two is repaired: in front of x_t there is still ᾱ_t.": lambda s, t, x_t, x0: eq7(in_x_t="t")(
                    s, t, x_t, x0
                )[0],
                "One of two is repaired: in front of x0 there is still ᾱ_t.": lambda s, t, x_t, x0: eq7(in_x0="t")(
                    s, t, x_t, x0
                )[0],
                "Too much is repaired: the denominator is 1-ᾱ_t, as it was.": lambda s, t, x_t, x0: eq7(below="s")(
                    s, t, x_t, x0
                )[0],
                "The mean is right, but a variance is returned with it.": eq7(),
            },
        ),
        hints=(
            "Put ᾱ_s = 1 in. Which factors have to be 1, and which 0?",
            "Compare with Eq. 7, bar by bar and index by index: there are two slips.",
        ),
    ),
)
