"""Checks of noise schedules and of the forward process q(x_t | x_0)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ddpm import schedule as schedules
from ddpm.testing.answers import Answer, answered, mistaken
from ddpm.testing.calling import Convention, Fault, array, call, name_of, timed
from ddpm.testing.mistakes import How, Mistake, of_lesson, right, tried

SHAPE = (4, 3, 2)  # of the images that functions get: no two sides are equal, so that swapped axes are seen


def levels_of(schedule: Any) -> np.ndarray:
    """ᾱ_0 = 1 … ᾱ_T in float64: of a schedule's name, a Schedule, or ᾱ as T or T+1 numbers."""
    if isinstance(schedule, str):
        schedule = schedules.make_schedule(schedule)
    a = precise(schedule) if isinstance(schedule, schedules.Schedule) else np.asarray(schedule, np.float64)
    if a.ndim != 1 or a.size < 2 or not np.all(np.isfinite(a)):
        raise ValueError(f"schedule has the shape {a.shape}; give its name, a Schedule, or ᾱ as one row of numbers")
    return a if a[0] == 1 else np.concatenate([[1.0], a])


def linear_sampler_std(alpha_bar: np.ndarray, believed: np.ndarray, lam: float = 0.25, steps: int = 50) -> float:
    """The standard deviation of DDIM's samples of N(0, λ): ε* knows `believed`, the sampler reads `alpha_bar`."""
    times = schedules.make_times(len(believed) - 1, steps)
    gain = 1.0
    for t, s in pairwise(times):
        c = np.sqrt(1 - believed[t]) / (believed[t] * lam + 1 - believed[t])  # ε* = c x_t
        with np.errstate(all="ignore"):
            mean, _ = right(How(), np.array(1.0), np.array(c), alpha_bar[t], alpha_bar[s])
        gain *= float(mean)
    return abs(gain)


def effect_of_levels(alpha_bar: np.ndarray, truth: np.ndarray) -> str:
    """What these ᾱ do to samples of N(0, .25), drawn with 50 steps of DDIM by a denoiser that knows the right ones."""
    if len(alpha_bar) != len(truth):
        return "it has another number of levels, so that every time means another level"
    wrong, good = (linear_sampler_std(a, truth) for a in (alpha_bar, truth))
    left = f"; √ᾱ_T = {np.sqrt(max(alpha_bar[-1], 0)):.3g} instead of {np.sqrt(truth[-1]):.3g}"
    return f"samples of N(0, .25) have the standard deviation {wrong:.3g} instead of {good:.3g}{left}"


class Rival(NamedTuple):
    """Other levels ᾱ_0…ᾱ_T, their name, and a sentence."""

    key: str
    sentence: str
    alpha_bar: np.ndarray


def rivals(name: str, truth: np.ndarray) -> list[Rival]:
    """Other ᾱ_0…ᾱ_T that a schedule of this name could be taken for."""
    T, beta = len(truth) - 1, 1 - truth[1:] / truth[:-1]
    found = [
        Rival(m.key, m.sentence, m.wrong(beta)) for m in of_lesson("1.1", "alpha_bar") if "missing" not in m.sentence
    ]

    def of(beta: np.ndarray) -> np.ndarray:
        return np.concatenate([[1.0], np.cumprod(1 - np.minimum(beta, 1))])

    for other in schedules.SCHEDULES:
        if other != name and (other != "linear" or T > 20):
            found.append(Rival(f"schedule {other}", f"This is `{other}`, not `{name}`.", levels_of_name(other, T)))
    u = np.arange(T + 1) / T
    curve = np.cos(u * np.pi / 2) ** 2
    roots = np.linspace(1e-4**0.5, 0.02**0.5, T) ** 2
    logistic = 1 / (1 + np.exp(-np.linspace(-6, 6, T))) * (0.02 - 1e-4) + 1e-4
    return [
        *found,
        Rival("scaled_linear", "√β rises evenly, not β: Stable Diffusion's spacing, with other ends.", of(roots)),
        Rival("sigmoid of β", "The sigmoid is of β; the published schedule of that name is one of ᾱ.", of(logistic)),
        Rival(
            "cosine without its offset", "The offset s = .008 is left out.",
            of(np.minimum(1 - curve[1:] / curve[:-1], 0.999))
        ),
        Rival("1-ᾱ", "This is 1-ᾱ, the noise's variance.", np.concatenate([[1.0], 1 - truth[1:]])),
        Rival("reversed", "The list runs from noise to data; ᾱ falls from 1.", truth[::-1]),
        Rival(
            "β_0 in the product", "A β for the clean image is in the product, so every level is one step too noisy.",
            np.concatenate([[1.0], truth[1:] * (1 - beta[0])]),
        ),
    ]  # fmt: skip


def levels_of_name(name: str, T: int) -> np.ndarray:
    """ᾱ of the schedule with this name."""
    return precise(schedules.make_schedule(name, T))


def precise(schedule: schedules.Schedule) -> np.ndarray:
    """ᾱ in float64 with the digits of √(1-ᾱ), which a schedule keeps by itself in float32."""
    a, std = np.asarray(schedule.alpha_bar, np.float64), np.asarray(schedule.std, np.float64)
    return np.where(a < 0.5, a, 1 - std**2)


@answered("schedule")
def check_schedule(schedule: Any, name: str = "linear", T: int = 1000, convention: Convention = Convention()) -> Answer:
    """Compare ᾱ_1…ᾱ_T with the named schedule in float64: |Δᾱ| ≤ 1e-3 ᾱ, and likewise for 1-ᾱ.

    schedule: the numbers ᾱ (T or T+1 of them), or a function of T, or of nothing, that returns them
    """
    truth = levels_of_name(name, T)
    if callable(schedule) and not hasattr(schedule, "__array__"):
        given = call_with_T(schedule, T, convention)
    else:
        given = convention.take(schedule)
    if given.ndim != 1 or given.size < 1:
        raise Fault("shape", f"{name_of(schedule)} gave the shape {given.shape}; wanted is one row of numbers.")
    whole = given if len(given) == T + 1 else np.concatenate([[1.0], given])
    begins = "ᾱ begins with ᾱ_0 = 1 (t = 0 is clean)" if len(given) == T + 1 else "ᾱ begins with the first noise level"
    if len(whole) == T + 1 and np.allclose(whole, truth, rtol=1e-3, atol=0) and np.allclose(
        1 - whole[1:], 1 - truth[1:], rtol=1e-2, atol=0
    ):  # fmt: skip
        digits = abs((1 - whole[1]) / (1 - truth[1]) - 1)
        precise = f"relative error of 1-ᾱ_1: {digits:.1g}" + (" (float32 products)" if digits > 1e-6 else "")
        return Answer("schedule", True, conventions=(begins, precise))
    for rival in rivals(name, truth):
        if len(rival.alpha_bar) == len(whole) and np.allclose(whole[1:], rival.alpha_bar[1:], rtol=2e-3, atol=1e-6):
            return mistaken(
                "schedule", rival.key, rival.sentence, effect_of_levels(whole, truth), conventions=(begins,)
            )
    if len(whole) != T + 1:
        raise Fault("length", f"it has {len(given)} levels; {name} with T = {T} has {T}, or {T + 1} with ᾱ_0 = 1.")
    worst = int(np.argmax(np.abs(whole / truth - 1)))
    sentence = f"ᾱ at t = {worst} is {whole[worst]:.6g}; `{name}` has {truth[worst]:.6g}."
    return mistaken("schedule", "unknown", sentence, effect_of_levels(whole, truth), conventions=(begins,))


def call_with_T(f: Callable[..., Any], T: int, convention: Convention) -> np.ndarray:
    """ᾱ from a function of T, or of nothing."""
    import inspect

    needs = [p for p in inspect.signature(f).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    out = timed(f, [T] if needs else [], {}, convention.seconds)
    return convention.take(getattr(out, "alpha_bar", out))


# --- the forward process ----------------------------------------------------------------------------------------------


def per_image(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(n,) shaped to multiply images (n, …)."""
    return a.reshape(-1, *[1] * (x.ndim - 1))


def index_mistakes(alpha_bar: np.ndarray, t: np.ndarray) -> list[tuple[str, str, np.ndarray]]:
    """The ᾱ of each image, read rightly and wrongly: (name, sentence, (n,))."""
    a, T = alpha_bar, len(alpha_bar) - 1
    alpha = np.concatenate([[1.0], a[1:] / a[:-1]])
    return [
        ("", "", a[t]),
        ("α for ᾱ", "α_t = 1-β_t of one step stands where the product ᾱ_t belongs.", alpha[t]),
        ("ᾱ one too late", "ᾱ is read at t+1: an array from 0 is indexed by t = 1…T.", a[np.minimum(t + 1, T)]),
        ("ᾱ one too early", "ᾱ is read at t-1.", a[t - 1]),
        ("wrapped_index", "ᾱ is read at t-1, and at the first level Python wraps the index to the last.", a[1:][t - 2]),
        ("one time for all", "All images got the level of the first.", np.full(len(t), a[t[0]])),
    ]  # fmt: skip


def forward_mistakes() -> list[Mistake]:
    """The right formula first, then the course's wrong ones, as functions of (x0, ᾱ_t, ε)."""
    return [Mistake("", "", lambda x, a, e: np.sqrt(a) * x + np.sqrt(1 - a) * e), *of_lesson("1.3", "q_sample")]


@answered("forward process")
def check_forward(
    q_sample: Callable[..., Any], schedule: Any = "linear", convention: Convention = Convention()
) -> Answer:
    """Compare q_sample(x0, t, noise) with √ᾱ_t x0 + √(1-ᾱ_t) ε at 64 times at once.   [Ho et al. 2020, Eq. 4]"""
    alpha_bar = levels_of(schedule)
    T, rng = len(alpha_bar) - 1, np.random.default_rng(0)
    t = np.linspace(T, 1, 64).round().astype(np.int64)
    x0, e = rng.uniform(-1, 1, (64, *SHAPE)), rng.normal(size=(64, *SHAPE))
    given = {"x0": x0, "t": t, "noise": e}
    x_t = array(q_sample, call(q_sample, given, convention, again=True), convention, x0.shape)
    if not np.all(np.isfinite(x_t)):
        return mistaken("forward process", "NaN", "It returned NaN or infinity: a root of something negative?", "")
    for of_t, why_t, a in index_mistakes(alpha_bar, t):
        for m in forward_mistakes():
            want = tried(m.wrong, x0, per_image(a, x0), e)
            if not np.allclose(x_t, want, rtol=1e-3, atol=2e-4):
                continue
            if not (of_t or m.key):
                counted = f"times: counted from {convention.first_time}"
                return Answer("forward process", True, conventions=(counted,))
            key = m.key or of_t
            return mistaken("forward process", key, " ".join(filter(None, (m.sentence, why_t))), std_of(x_t, e, t))
    sentence = f"x_t is none of the known formulas of x0 and ε with ᾱ_t; {coefficients(x_t, x0, e, t, alpha_bar)}."
    return mistaken("forward process", "unknown", sentence, std_of(x_t, e, t))


def std_of(x_t: np.ndarray, e: np.ndarray, t: np.ndarray) -> str:
    """The noise's standard deviation in x_t at a quarter of the times."""
    k = len(t) * 3 // 4
    slope = (x_t[k] * e[k]).sum() / (e[k] ** 2).sum()
    return f"at t = {t[k]} the noise in x_t has the standard deviation {slope:.3g}"


def coefficients(x_t: np.ndarray, x0: np.ndarray, e: np.ndarray, t: np.ndarray, alpha_bar: np.ndarray) -> str:
    """The factors of x0 and ε that were found in the middle, and those wanted."""
    k = len(t) // 2
    found = np.linalg.lstsq(np.stack([x0[k].ravel(), e[k].ravel()], 1), x_t[k].ravel(), rcond=None)[0]
    a = alpha_bar[t[k]]
    return (
        f"at t = {t[k]} it is {found[0]:.4g} x0 + {found[1]:.4g} ε; "
        f"wanted: {np.sqrt(a):.4g} x0 + {np.sqrt(1 - a):.4g} ε"
    )
