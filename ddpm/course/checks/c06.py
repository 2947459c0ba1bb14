"""Lesson 6, DDIM: the truth of its six exercises, and the mistakes that have a name."""

from __future__ import annotations

import math

import numpy as np

from ddpm.course.exercise import count, exercise, formula, identity, prediction, spot_the_bug

# ------------------------------------------------------------------------------------------- inputs, by seed


def levels(rng):
    """(ᾱ_s, ᾱ_t, η)"""
    out = [(float(s), float(s * rng.uniform(0.3, 0.8)), float(rng.uniform(0.2, 0.9))) for s in rng.uniform(0.4, 0.9, 3)]
    return [*out, (0.8, 0.3, 1.0)]


def steps(rng):
    """(ᾱ_s, ᾱ_t, x_t, ε̂, σ, z): down with noise, and up without."""
    out = []
    for shape in ((3, 5, 7, 1), (2,), (4, 3)):
        s, t = float(rng.uniform(0.6, 0.9)), float(rng.uniform(0.1, 0.4))
        out.append((s, t, *(rng.normal(size=shape) for _ in range(2)), 0.3, rng.normal(size=shape)))
    return [*out, (0.2, 0.7, rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), 0.0, rng.normal(size=(2, 3)))]


def lists(rng):
    """(T, N), where N does not divide T."""
    return [(int(rng.integers(40, 60)), int(rng.integers(5, 9))), (100, 7), (23, 23), (1000, 30)]


def schedules(rng):
    """ᾱ_0 = 1 … ᾱ_T and a falling list that skips times."""
    out = []
    for T in (12, 30):
        alpha_bar = np.concatenate([[1.0], np.cumprod(rng.uniform(0.75, 0.95, T))])
        inner = np.sort(rng.choice(np.arange(1, T), 4, replace=False))[::-1]
        out.append((alpha_bar, np.concatenate([[T], inner, [0]])))
    return out


def some_eps(x, t):
    """A denoiser that depends on the image and on the time."""
    return 0.4 * x + 0.02 * t


def walks(rng):
    """(ε̂, ᾱ, x0, list)"""
    return [
        (some_eps, alpha_bar, rng.normal(size=shape), times)
        for (alpha_bar, times), shape in zip(schedules(rng), ((3, 4), (2, 3, 5, 1)), strict=True)
    ]


def ends(rng):
    """(a, b, u)"""
    return [(rng.normal(size=D), 2 * rng.normal(size=D), float(rng.uniform(0.15, 0.4))) for D in (5, 8, 13)]


def uneven(rng):
    """(list, T) that falls by unequal amounts."""
    sizes = ((50, 7), (100, 9))
    return [(np.append(np.sort(rng.choice(np.arange(1, T + 1), N, replace=False))[::-1], 0), T) for T, N in sizes]


# ------------------------------------------------------------------------------------------- truths


def ddim_sigma(s, t, eta):
    """η √β̃"""
    return eta * math.sqrt((1 - t / s) * (1 - s) / (1 - t))


def ddim_step(s, t, x_t, eps_hat, sigma, z, direction=None, x0=None):
    """By angles: x̂0 cos θ_s + (the rest of the noise) + σ z."""
    guess = (x_t - math.sqrt(1 - t) * eps_hat) / math.sqrt(t) if x0 is None else x0(x_t, eps_hat, t)
    left = math.sqrt(1 - s - sigma**2) if direction is None else direction(s, t, sigma)
    return math.sqrt(s) * guess + left * eps_hat + sigma * z


def trailing(T, N):
    """One after the other."""
    return np.array([round(T - i * T / N) for i in range(N + 1)])


def cut(T, N):
    """The same without rounding to the nearest."""
    return np.array([int(T - i * T / N) for i in range(N + 1)])


def gain(alpha_bar, times, each=None):
    """∏ (√ᾱ_s √ᾱ_t + √(1-ᾱ_s) √(1-ᾱ_t))"""
    each = each or (lambda s, t: math.sqrt(s * t) + math.sqrt((1 - s) * (1 - t)))
    out = 1.0
    for i in range(len(times) - 1):
        out *= each(alpha_bar[times[i + 1]], alpha_bar[times[i]])
    return out


def climb(eps, alpha_bar, x0, times, order=lambda times: times[::-1], time=lambda t, s: t):
    """In x/√ᾱ every step is straight: x̄ += (σ̄_s - σ̄_t) ε̂."""
    x = np.array(x0, np.float64)
    up = order(times)
    for t, s in ((up[i], up[i + 1]) for i in range(len(up) - 1)):
        noise = [math.sqrt((1 - alpha_bar[k]) / alpha_bar[k]) for k in (t, s)]
        straight = x / math.sqrt(alpha_bar[t]) + (noise[1] - noise[0]) * eps(x, time(t, s))
        x = straight * math.sqrt(alpha_bar[s])
    return x


def slerp(a, b, u):
    """In the plane of a and b, from an orthonormal pair and back."""
    phi = math.acos(a @ b / math.sqrt((a @ a) * (b @ b)))
    return (math.sin((1 - u) * phi) * a + math.sin(u * phi) * b) / math.sin(phi)


def by_cosine(a, b, cosine, u):
    """slerp with another angle"""
    phi = np.arccos(np.clip(cosine, -1, 1))
    return (np.sin((1 - u) * phi) * a + np.sin(u * phi) * b) / np.sin(phi)


def pairs(times, T):
    """[t, the next of the list]"""
    return np.stack([times[:-1], times[1:]], 1)


def arithmetic(times, T):
    """t - T//N, whatever the list"""
    return np.array([(t, max(t - T // (len(times) - 1), 0)) for t in times[:-1]])


EXERCISES = (
    exercise(
        "6.1",
        formula(
            "ddim_sigma",
            ddim_sigma,
            levels,
            {
                "This is σ², the variance; the exercise asks for its root.": lambda s, t, eta: (
                    ddim_sigma(s, t, eta) ** 2
                ),
                "The roots are missing: σ is a standard deviation, not a variance.": lambda s, t, eta: (
                    eta * (1 - s) / (1 - t) * (1 - t / s)
                ),
                "The first ratio is upside down: the less noisy level, s, is above.": lambda s, t, eta: (
                    eta * np.sqrt((1 - t) / (1 - s) * (1 - t / s))
                ),
                "η multiplies σ, not σ²: take it out of the root.": lambda s, t, eta: np.sqrt(
                    eta * (1 - s) / (1 - t) * (1 - t / s)
                ),
                "This is √β alone; the ratio of what noise there is at s and at t is missing.": lambda s, t, eta: (
                    eta * np.sqrt(1 - t / s)
                ),
                "η was forgotten.": lambda s, t, eta: np.sqrt((1 - s) / (1 - t) * (1 - t / s)),
            },
        ),
        formula(
            "ddim_step",
            ddim_step,
            steps,
            {
                "z is multiplied by σ²; a draw needs the standard deviation σ.": lambda *args: (
                    ddim_step(*args) + (args[4] ** 2 - args[4]) * args[5]
                ),
                "σ was taken for a variance: σ z with σ itself, and σ² under the root.": lambda *args: ddim_step(
                    *args[:4], np.sqrt(args[4]), args[5]
                ),
                "x̂0 was made with ᾱ_s; x_t is at the level t.": lambda *args: ddim_step(
                    *args, x0=lambda x, e, t: (x - np.sqrt(1 - args[0]) * e) / np.sqrt(args[0])
                ),
                "The old noise keeps all of its variance; σ² of it has to make room for the new.": lambda *args: (
                    ddim_step(*args, direction=lambda s, t, sigma: np.sqrt(1 - s))
                ),
                "σ was subtracted where its square belongs: variances add up, standard deviations do not.": (
                    lambda *args: ddim_step(*args, direction=lambda s, t, sigma: np.sqrt(1 - s - sigma))
                ),
                "The old noise is scaled for the level it comes from, t; the point is to land on level s.": (
                    lambda *args: ddim_step(*args, direction=lambda s, t, sigma: np.sqrt(1 - t - sigma**2))
                ),
                "σ z is missing: the old noise was reduced, but nothing was put in its place.": lambda *args: ddim_step(
                    *args[:-1], 0 * args[-1]
                ),
                "x̂0 was not divided by √ᾱ_t.": lambda *args: ddim_step(
                    *args, x0=lambda x, e, t: x - np.sqrt(1 - t) * e
                ),
                "The roots are missing in x̂0: ᾱ is a power.": lambda *args: ddim_step(
                    *args, x0=lambda x, e, t: (x - (1 - t) * e) / t
                ),
            },
            traceable=True,
        ),
        hints=(
            "σ is √β̃ of Lesson 3, times η.",
            "First x̂0, as in Lesson 3. Then three terms, as they stand in Eq. 12.",
            "The squares of the three numbers before x̂0, ε̂ and z add up to one.",
        ),
    ),
    exercise(
        "6.2",
        count(
            "trailing_times",
            trailing,
            lists,
            {
                "This cuts the decimals off; round to the nearest.": cut,
                "Decimals were cut off after np.linspace; round to the nearest.": lambda T, N: np.linspace(
                    T, 0, N + 1
                ).astype(int),
                "0 is missing: N steps have N+1 times.": lambda T, N: trailing(T, N)[:-1],
                "The list rises; a walk begins in the noise, at T.": lambda T, N: trailing(T, N)[::-1],
                "This ends at 1: the clean image is t = 0.": lambda T, N: np.round(np.linspace(T, 1, N + 1)).astype(
                    int
                ),
                "This is the rule `leading`: it never visits T.": lambda T, N: np.append(
                    np.arange(N)[::-1] * (T // N) + 1, 0
                ),
                "The step was rounded before it was multiplied, so the list misses 0 or T.": lambda T, N: (
                    T - np.arange(N + 1) * (T // N)
                ),
            },
        ),
        hints=(
            "np.arange(N + 1) is i = 0…N.",
            "Multiply first, round last; and make whole numbers of it with astype(int).",
        ),
    ),
    exercise(
        "6.3",
        formula(
            "gain",
            gain,
            schedules,
            {
                "√ is missing: the cosine of the angle is the amplitude √ᾱ, not ᾱ.": lambda a, times: gain(
                    a, times, lambda s, t: np.cos(np.arccos(s) - np.arccos(t))
                ),
                "The factors were added; steps one after the other multiply.": lambda a, times: np.sum(
                    np.cos(np.diff(np.arccos(np.sqrt(a[times]))))
                ),
                "This walks through all times; the list skips some.": lambda a, times: gain(
                    a, np.arange(len(a) - 1, -1, -1)
                ),
                "This is one jump from the first time to the last; each step has its own factor.": lambda a, times: (
                    np.cos(np.arccos(np.sqrt(a[times[0]])) - np.arccos(np.sqrt(a[times[-1]])))
                ),
                "The cosine of θ_t was taken, not of the difference of two angles.": lambda a, times: np.prod(
                    np.sqrt(a[times])
                ),
            },
        ),
        prediction(
            "error_falls_by",
            10.0,
            1.5,
            {
                "That would be second order. DDIM is Euler's method: the error goes as 1/N.": 100.0,
                "Ten times the steps do help: the error of one step goes with the square of its length.": 1.0,
                "√10 is how random errors average out; this walk has no randomness.": 10**0.5,
            },
        ),
        hints=(
            "np.arccos of √ᾱ at the times of the list; np.diff for the steps.",
            "cos δ ≈ 1 - δ²/2. N steps of length δ ~ 1/N: what is lost in all?",
        ),
    ),
    exercise(
        "6.4",
        formula(
            "encode_image",
            climb,
            walks,
            {
                "This walks down the list; encoding walks up.": lambda eps, a, x, times: climb(
                    eps, a, x, times, order=lambda times: times
                ),
                "The guess was made at the time the step goes to; x is still at the one it comes from.": (
                    lambda eps, a, x, times: climb(eps, a, x, times, time=lambda t, s: s)
                ),
                "One step is missing: the first leaves t = 0.": lambda eps, a, x, times: climb(
                    eps, a, x, times, order=lambda times: times[:-1][::-1]
                ),
                "The last step, to T, is missing.": lambda eps, a, x, times: climb(
                    eps, a, x, times, order=lambda times: times[1:][::-1]
                ),
                "The times of the list were skipped over: this walks through all of 0…T.": lambda eps, a, x, times: (
                    climb(eps, a, x, times, order=lambda times: np.arange(len(a)))
                ),
            },
            rtol=1e-3,
            atol=1e-5,
        ),
        hints=(
            "Turn the list round; then each time and the one after it make a step.",
            "ddim_step wants the level it goes to first, then the one it comes from. σ and z are 0.",
            "Ask eps(x, t) with the time at which x is now.",
        ),
    ),
    exercise(
        "6.5",
        formula(
            "slerp",
            slerp,
            ends,
            {
                "√(1-u) and √u would keep the length only of vectors at right angles.": lambda a, b, u: (
                    np.sqrt(1 - u) * a + np.sqrt(u) * b
                ),
                "This is the straight line: it cuts through the inside of the sphere.": lambda a, b, u: (
                    (1 - u) * a + u * b
                ),
                "a and b are swapped: at u = 0 it has to be a.": lambda a, b, u: slerp(b, a, u),
                "The angle is that of vectors of length 1; divide a·b by both lengths.": lambda a, b, u: by_cosine(
                    a, b, a @ b, u
                ),
                "The division by sin φ is missing.": lambda a, b, u: (
                    slerp(a, b, u) * np.sin(np.arccos(a @ b / np.sqrt((a @ a) * (b @ b))))
                ),
                "Cosine instead of angle: φ is the arc cosine of a·b/|a||b|.": lambda a, b, u: (
                    lambda c: (np.sin((1 - u) * c) * a + np.sin(u * c) * b) / np.sin(c)
                )(a @ b / np.sqrt((a @ a) * (b @ b))),
                "The line was stretched to the right length; its points are then not evenly spaced in angle.": (
                    lambda a, b, u: (
                        ((1 - u) * a + u * b)
                        / np.linalg.norm((1 - u) * a + u * b)
                        * ((1 - u) * np.linalg.norm(a) + u * np.linalg.norm(b))
                    )
                ),
            },
        ),
        identity("slerp", lambda f, a, b, u: f(a, b, 0.0), lambda a, b, u: a, ends),
        hints=(
            "The angle first: its cosine is a·b over the product of the lengths.",
            "Then the formula as it stands; at u = 0 the weights are 1 and 0.",
        ),
    ),
    exercise(
        "6.6",
        spot_the_bug(
            "repaired_steps",
            pairs,
            uneven,
            arithmetic,
            "The next time is computed, not read: it is t - T//N only if the list is evenly spaced.",
            {
                "This pairs each time with the one before it; a step goes to the next.": lambda times, T: np.stack(
                    [times[1:], times[:-1]], 1
                ),
                "Every step goes to t - 1, as if no time were skipped.": lambda times, T: np.stack(
                    [times[:-1], times[:-1] - 1], 1
                ),
            },
        ),
        hints=(
            "Where does the step from the second time begin, and where did the first one end?",
            "The list itself states where each step goes.",
        ),
    ),
)
