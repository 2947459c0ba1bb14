"""Checks of samplers from outside: whoever is given the denoiser sees every x_t and every time on the way.

The sampler is called with a denoiser of ours, which records what it is asked. Between two of its calls lies one step,
so the whole walk is known: which times, and from which x_t and ε̂ to which x_s. Each known formula, right or wrong, is
compared with all steps; of noise that a step adds, mean, variance and correlations are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ddpm import schedule as schedules
from ddpm.testing.answers import Answer, answered, mistaken
from ddpm.testing.calling import Convention, Fault, array, call, name_of
from ddpm.testing.mistakes import How, Mistake, levels, moves, of_lesson, right, tried, wrong_levels
from ddpm.testing.noising import SHAPE, levels_of
from ddpm.tools import check

N = 512  # images, so that 12,288 numbers give a variance to 1.3 %
LAM, MEAN = 0.25, 0.3  # of the Gaussian N(m, λ) on which the effect is measured


class Walk(NamedTuple):
    """What the denoiser saw: x at each call and at the end, ε̂, and the times, T first and 0 last."""

    x: list[np.ndarray]  # N+1 of (n, H, W, C)
    eps: list[np.ndarray]  # N
    times: np.ndarray  # (N+1,)


def gaussian_eps(alpha_bar: np.ndarray, x: np.ndarray, t: int) -> np.ndarray:
    """ε*(x_t, t) = √(1-ᾱ_t) (x_t - √ᾱ_t m)/(ᾱ_t λ + 1-ᾱ_t) of data N(m, λ)."""
    a = alpha_bar[t]
    return np.sqrt(1 - a) * (x - np.sqrt(a) * MEAN) / (a * LAM + 1 - a)


def record(
    sampler: Callable[..., Any], x: np.ndarray, alpha_bar: np.ndarray, convention: Convention, spread: float, start: str
) -> Walk:
    """Run the sampler from x with ε* of a Gaussian plus `spread` times fixed noise; keep all that was asked."""
    T, seen = len(alpha_bar) - 1, Walk([], [], np.zeros(0, int))
    asked: list[int] = []

    def denoiser(x_t: Any, t: Any, *_: Any, **__: Any) -> Any:
        now = np.unique(np.asarray(t.cpu() if hasattr(t, "cpu") else t))
        if now.size != 1:
            raise Fault("times", f"the denoiser was asked at {now.size} times at once; a step has one time.")
        ours = round(float(now[0])) + 1 - convention.first_time
        if not (0 if start == "x0" else 1) <= ours <= T or abs(float(now[0]) - round(float(now[0]))) > 1e-6:
            low = convention.first_time
            raise Fault(
                "times", f"the denoiser was asked at t = {float(now[0]):g}; times counted from {low} lie in "
                f"{low}..{T - 1 + low}. See Convention(first_time=…).",
            )  # fmt: skip
        asked.append(ours)
        x_t = array(sampler, x_t, convention, x.shape)
        eps = gaussian_eps(alpha_bar, x_t, max(ours, 1))
        eps = eps + spread * np.random.default_rng(len(asked)).normal(size=x.shape)
        seen.x.append(x_t)
        seen.eps.append(eps)
        return convention.give(eps)

    denoiser.__name__ = "denoiser"
    out = call(sampler, {"denoiser": denoiser, start: x}, convention)
    if not asked:
        raise Fault("no call", f"{name_of(sampler)} never called the denoiser.")
    seen.x.append(array(sampler, out, convention, x.shape))
    return seen._replace(times=np.array([*asked, 0]))


# --- one formula against all steps ------------------------------------------------------------------------------------


def explains(walk: Walk, move: Callable, pairs: np.ndarray) -> Iterator[bool]:
    """Yield for each step if the move gives the next x: equal where σ = 0, else the rest is σ times normal noise."""
    for x, e, after, (a_t, a_s) in zip(walk.x, walk.eps, walk.x[1:], pairs, strict=False):
        with np.errstate(all="ignore"):
            mean, sigma = move(x, e, a_t, a_s)
            rest = after - mean if np.shape(mean) == x.shape else np.full(1, np.nan)
        if not (np.all(np.isfinite(rest)) and np.isfinite(sigma)):
            yield False
        elif sigma < 1e-6:
            yield bool(np.abs(rest).max() <= 5e-4 * max(1.0, np.abs(after).max(), np.abs(x).max()))
        else:
            z, few = rest / sigma, 6 / np.sqrt(rest.size)  # six standard errors
            with np.errstate(all="ignore"):
                off = [abs(z.mean()), *(abs((z * (v - v.mean())).mean() / (v.std() + 1e-12)) for v in (x, e))]
            yield bool(max(off) < few and abs(z.var() - 1) < few * np.sqrt(2) + 1e-3)


def blame(walk: Walk, alpha_bar: np.ndarray, how: How) -> tuple[list[Mistake], float]:
    """The mistakes that explain all steps: none, one, or a wrong move with wrong levels; and the share explained."""
    same = Mistake("", "", levels)
    as_meant = Mistake("", "", lambda *args: right(how, *args))
    share = float(np.mean(list(explains(walk, as_meant.wrong, levels(alpha_bar, walk.times)))))
    if share == 1:
        return [], 1.0
    places = [(m, m.wrong(alpha_bar, walk.times)) for m in (same, *wrong_levels())]
    candidates = moves(how)
    singles = [(as_meant, level) for level in places[1:]] + [(move, places[0]) for move in candidates]
    for move, (level, pairs) in singles + [(move, level) for level in places[1:] for move in candidates]:
        if all(explains(walk, move.wrong, pairs)):
            return [m for m in (level, move) if m.key], share
    return [], share


def not_a_number(walk: Walk) -> int | None:
    """The first step after which x is NaN or infinite."""
    return next((i - 1 for i, x in enumerate(walk.x) if not np.all(np.isfinite(x))), None)


# --- the check --------------------------------------------------------------------------------------------------------


def how_of(step: str, eta: float, clip: bool) -> How:
    """The step that is meant, by its name in `ddpm.sample.STEPS`."""
    check.choice("step", step, ("ddim", "ddpm", "ddpm_large"))
    check.number("eta", eta, 0, 1)
    return How(eta if step == "ddim" else 1.0 if step == "ddpm" else 0.0, step == "ddpm_large", clip)


@answered("sampler")
def check_sampler(
    sampler: Callable[..., Any],
    schedule: Any = "linear",
    step: str = "ddim",
    *,
    eta: float = 0.0,
    clip: bool = False,
    times: Any = None,
    convention: Convention = Convention(),
) -> Answer:
    """Compare every step of sampler(denoiser, x_T) -> x_0 with DDIM's or DDPM's.   [Song et al. 2021, Eq. 12]

    The denoiser is called as denoiser(x_t, t), with one time for all images.
    step: ddim (with `eta`), ddpm (σ² = β̃) or ddpm_large (σ² = β);  clip: x̂0 to [-1, 1], ε̂ made again from it;
    times: the list that the sampler is meant to visit, falling to 0; any if None
    """
    alpha_bar, how = levels_of(schedule), how_of(step, eta, clip)
    x_T = np.random.default_rng(1).normal(size=(N, *SHAPE))
    walk = record(sampler, x_T, alpha_bar, convention, 0.3, "x_T")
    words = visited(walk.times, len(alpha_bar) - 1, convention)
    if np.any(np.diff(walk.times) >= 0):
        return mistaken(
            "sampler", "times do not fall", f"The times do not fall: {brief(walk.times)}.", "", conventions=words
        )
    if (at := not_a_number(walk)) is not None:
        t, s = walk.times[at : at + 2]
        sentence = f"x is NaN or infinite after the step {t} → {s}: the root of a logarithm or of something negative."
        key = "log_of_a_variance_as_its_square" if step != "ddim" else "NaN"
        return mistaken("sampler", key, sentence, "no image at all", conventions=words)
    found, share = blame(walk, alpha_bar, how)
    again = record(sampler, x_T, alpha_bar, convention, 0.0, "x_T")
    effect = effect_on_samples(again, alpha_bar, how)
    numbers = {"times": walk.times.tolist(), "explained": share}
    if found:
        sentence = " Moreover: ".join(m.sentence for m in found)
        more = words + tuple(f"also: {m.key}" for m in found[1:])
        return mistaken("sampler", found[0].key, sentence, effect, conventions=more, numbers=numbers)
    if share < 1:
        sentence = (
            f"{round(share * (len(walk.times) - 1))} of {len(walk.times) - 1} steps are right; the others are no "
        )
        return mistaken(
            "sampler", "unknown", f"{sentence}formula known here.", effect, conventions=words, numbers=numbers
        )
    if not how.eta and not how.large and not np.array_equal(
        walk.x[-1], record(sampler, x_T, alpha_bar, convention, 0.3, "x_T").x[-1]
    ):  # fmt: skip
        raise Fault("not deterministic", f"{name_of(sampler)} gave two results from the same noise with η = 0.")
    if times is not None and not np.array_equal(check.falling_to_0(times), walk.times):
        sentence = f"It visits {brief(walk.times)}; meant is {brief(np.asarray(times))}."
        return mistaken("sampler", "another list of times", sentence, effect, conventions=words, numbers=numbers)
    return Answer("sampler", True, effect=effect, conventions=words, numbers=numbers)


def brief(times: np.ndarray) -> str:
    """A list of times with its middle left out."""
    shown = [str(t) for t in times]
    return ", ".join(shown if len(shown) < 9 else [*shown[:4], "…", *shown[-3:]])


def visited(times: np.ndarray, T: int, convention: Convention) -> tuple[str, ...]:
    """In words: how times are counted, and by which rule of `make_times` they were chosen."""
    rules = []
    for rule in schedules.TIME_RULES:
        try:
            if np.array_equal(schedules.make_times(T, len(times) - 1, rule), times):
                rules.append(rule)
        except ValueError:
            continue
    spacing = " = ".join(rules) or "no rule of make_times"
    start = "" if times[0] == T else f"; it begins at t = {times[0]}, though pure noise belongs to t = {T}"
    counted = convention.first_time
    return f"times: counted from {counted}", f"{len(times) - 1} steps, spacing: {spacing} ({brief(times)}){start}"


def effect_on_samples(walk: Walk, alpha_bar: np.ndarray, how: How) -> str:
    """Mean and standard deviation of samples of N(.3, .25), next to those of the right step on the same times."""
    x, rng = walk.x[0], np.random.default_rng(2)
    for (a_t, a_s), t in zip(levels(alpha_bar, walk.times), walk.times, strict=False):
        mean, sigma = right(how, x, gaussian_eps(alpha_bar, x, t), a_t, a_s)
        x = mean + sigma * rng.normal(size=x.shape)
    theirs = walk.x[-1]
    return (
        f"samples of N({MEAN}, {LAM}) have the mean {theirs.mean():.3g} and the standard deviation {theirs.std():.3g}; "
        f"right steps at the same times: {x.mean():.3g} and {x.std():.3g}"
    )


@answered("samples")
def check_samples(
    sampler: Callable[..., Any], schedule: Any = "linear", *, convention: Convention = Convention()
) -> Answer:
    """Compare mean and standard deviation of any sampler's samples of N(.3, .25) with the data's.

    It passes if the mean is right to .02 and the deviation to 10 %, which second order reaches in twenty steps.
    """
    x_T = np.random.default_rng(1).normal(size=(N, *SHAPE))
    walk = record(sampler, x_T, levels_of(schedule), convention, 0.0, "x_T")
    mean, std = float(walk.x[-1].mean()), float(walk.x[-1].std())
    words = (f"times: {brief(walk.times)}; the steps are not compared one by one",)
    effect = f"samples of N({MEAN}, {LAM}) have the mean {mean:.3g} and the standard deviation {std:.3g}"
    if abs(mean - MEAN) < 0.02 and abs(std / np.sqrt(LAM) - 1) < 0.1:
        return Answer("samples", True, effect=effect, conventions=words)
    sentence = f"With {len(walk.times) - 1} steps the samples are not those of the data; try more steps."
    return mistaken("samples", "another distribution", sentence, effect, conventions=words)


# --- inversion --------------------------------------------------------------------------------------------------------


@answered("inversion")
def check_inversion(
    encode: Callable[..., Any], schedule: Any = "linear", times: Any = None, *, convention: Convention = Convention()
) -> Answer:
    """Compare encode(denoiser, x0) -> x_T with DDIM up the list, on a Gaussian.   [Song et al. 2021, Sec. 4.3]

    times: the list, falling to 0, that encode climbs; 20 trailing times if None. At t = 0 the denoiser answers as at 1.
    """
    alpha_bar = levels_of(schedule)
    T = len(alpha_bar) - 1
    times = schedules.make_times(T, 20) if times is None else check.falling_to_0(times, T)
    x0 = MEAN + np.sqrt(LAM) * np.random.default_rng(1).normal(size=(64, *SHAPE))
    found = record(encode, x0, alpha_bar, convention, 0.0, "x0").x[-1]

    def eps(x: np.ndarray, t: int) -> np.ndarray:
        return gaussian_eps(alpha_bar, x, max(int(t), 1))

    from ddpm.course.checks.c06 import climb

    def same(a: np.ndarray) -> bool:
        return a.shape == found.shape and np.allclose(found, a, rtol=2e-3, atol=2e-3)

    want = climb(eps, alpha_bar, x0, times)
    effect = f"codes have the standard deviation {found.std():.4g}; right steps give {want.std():.4g}, endless ones 1"
    if same(want):
        return Answer(
            "inversion", True, effect=effect, conventions=(f"{len(times) - 1} steps from t = 0 to {times[0]}",)
        )
    clipped = Mistake(
        "x̂0 is clipped", "x̂0 is clipped on the way; a clipped step cannot be undone.",
        lambda eps, a, x, times: climb_clipped(eps, a, x, times),
    )  # fmt: skip
    for m in (*of_lesson("6.4", "encode_image"), clipped):
        guess = np.asarray(tried(m.wrong, eps, alpha_bar, x0, times))
        if same(guess):
            return mistaken("inversion", m.key, m.sentence, effect)
    return mistaken("inversion", "unknown", f"x_T is off by up to {np.abs(found - want).max():.3g}.", effect)


def climb_clipped(eps: Callable, alpha_bar: np.ndarray, x: np.ndarray, times: np.ndarray) -> np.ndarray:
    """DDIM up the list with x̂0 clipped."""
    up = times[::-1]
    for t, s in pairwise(up):
        x, _ = right(How(clip=bool(t)), x, eps(x, t), alpha_bar[t], alpha_bar[s])
    return x
