"""What code may compute instead of the right formula: the course's named mistakes, and those of indices and levels.

A move is (x_t, ε̂, ᾱ_t, ᾱ_s) -> (mean, σ) of x_s; a level is (ᾱ, times) -> the pairs (ᾱ_t, ᾱ_s) of all steps. Each step
of a sampler is one move between two levels, so a wrong sampler is one that has another move, or other levels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ddpm.course import checks
from ddpm.course.part import Mistake as Lesson
from ddpm.course.part import Part

# The course's sentences that describe a published bug, by their beginnings.
OF_COURSE = {
    "The old noise keeps all": "noise_on_top",
    "The next time is computed": "next_time_not_on_the_list",
    "The image has its root, the noise has not: 1-ᾱ": "repaint_root",
    "This is the paper's w": "w_for_s",
}


class Mistake(NamedTuple):
    """A wrong formula: the key of a published bug or a name, the sentence, and the formula."""

    key: str
    sentence: str
    wrong: Callable[..., Any]


def of_lesson(exercise: str, function: str) -> list[Mistake]:
    """The named mistakes of a function of the course, such as ("6.1", "ddim_step")."""
    parts = [p for p in checks.find(exercise).parts if isinstance(p, Part) and p.names[-1] == function and p.mistakes]
    return [named(m) for p in parts for m in p.mistakes]


def named(m: Lesson) -> Mistake:
    """A mistake of the course, with the key of the published bug if it is one; else with its own words."""
    for beginning, key in OF_COURSE.items():
        if m.sentence.startswith(beginning):
            return Mistake(key, m.sentence, m.wrong)
    return Mistake(m.sentence.partition(":")[0].partition(";")[0].rstrip("."), m.sentence, m.wrong)


def tried(wrong: Callable[..., Any], *args: Any) -> Any:
    """The result of a wrong formula; NaN, which equals nothing, where it has none: the root of something negative, …"""
    try:
        with np.errstate(all="ignore"):
            return wrong(*args)
    except (ArithmeticError, ValueError, TypeError, IndexError, np.linalg.LinAlgError):
        return np.nan


# --- one step ---------------------------------------------------------------------------------------------------------


class How(NamedTuple):
    """The step that is meant: η of DDIM, or the variance of DDPM; x̂0 clipped or not."""

    eta: float = 0.0
    large: bool = False  # σ² = β instead of β̃, no noise at the last step
    clip: bool = False


def x0_and_eps(x: np.ndarray, e: np.ndarray, a_t: float, clip: bool) -> tuple[np.ndarray, np.ndarray]:
    """x̂0 = (x_t - √(1-ᾱ_t) ε̂)/√ᾱ_t; where it is clipped, ε̂ is made again from it.   [Ho et al. 2020, Eq. 15]"""
    x0 = (x - np.sqrt(1 - a_t) * e) / np.sqrt(a_t)
    if not clip:
        return x0, e
    x0 = np.clip(x0, -1, 1)
    return x0, (x - np.sqrt(a_t) * x0) / np.sqrt(1 - a_t)


def sigma_of(how: How, a_t: float, a_s: float) -> float:
    """σ = η √β̃ [Song et al. 2021, Eq. 16], or √β, which is no noise at the last step [Ho et al. 2020, Alg. 2]"""
    if how.large:
        return float(np.sqrt(1 - a_t / a_s)) if a_s < 1 else 0.0
    return float(how.eta and how.eta * np.sqrt((1 - a_s) / (1 - a_t) * (1 - a_t / a_s)))


def right(how: How, x: np.ndarray, e: np.ndarray, a_t: float, a_s: float) -> tuple[np.ndarray, float]:
    """√ᾱ_s x̂0 + √(1-ᾱ_s-σ²) ε̂ and σ   [Song et al. 2021, Eq. 12]; with `large`, Eq. 7 of Ho et al. 2020 and √β"""
    x0, e = x0_and_eps(x, e, a_t, how.clip)
    spread = sigma_of(how._replace(eta=1.0, large=False) if how.large else how, a_t, a_s)
    return np.sqrt(a_s) * x0 + np.sqrt(max(1 - a_s - spread**2, 0)) * e, sigma_of(how, a_t, a_s)


def from_course(wrong: Callable, how: How) -> Callable:
    """A move of the course's wrong ddim_step(ᾱ_s, ᾱ_t, x_t, ε̂, σ, z): its mean at z = 0, its σ by z = 1."""

    def move(x: np.ndarray, e: np.ndarray, a_t: float, a_s: float) -> tuple[np.ndarray, float]:
        _, e = x0_and_eps(x, e, a_t, how.clip)
        sigma, nothing = sigma_of(how, a_t, a_s), np.zeros_like(x)
        mean = tried(wrong, a_s, a_t, x, e, sigma, nothing)
        return mean, float(np.ravel(tried(wrong, a_s, a_t, x, e, sigma, nothing + 1) - mean)[0])

    return move


def other_sigma(how: How, sigma: Callable[[float, float, float], float]) -> Callable:
    """A move with another σ(ᾱ_s, ᾱ_t, η), as the course's wrong ddim_sigma; the mean makes room for it."""

    def move(x: np.ndarray, e: np.ndarray, a_t: float, a_s: float) -> tuple[np.ndarray, float]:
        x0, e = x0_and_eps(x, e, a_t, how.clip)
        now = float(tried(sigma, np.float64(a_s), np.float64(a_t), how.eta))
        return np.sqrt(a_s) * x0 + np.sqrt(np.maximum(1 - a_s - now**2, 0)) * e, now

    return move


def unclipped(how: How) -> Callable:
    """The right move without clipping."""
    return lambda *args: right(how._replace(clip=False), *args)


def raw_eps(how: How) -> Callable:
    """x̂0 is clipped, ε̂ is the one before."""

    def move(x: np.ndarray, e: np.ndarray, a_t: float, a_s: float) -> tuple[np.ndarray, float]:
        x0, _ = x0_and_eps(x, e, a_t, True)
        sigma = sigma_of(how, a_t, a_s)
        return np.sqrt(a_s) * x0 + np.sqrt(max(1 - a_s - sigma**2, 0)) * e, sigma

    return move


def with_sigma(how: How, sigma: Callable[[float, float], float]) -> Callable:
    """The right mean, with another σ(ᾱ_t, ᾱ_s) before the new noise."""
    return lambda x, e, a_t, a_s: (right(how, x, e, a_t, a_s)[0], float(sigma(a_t, a_s)))


def moves(how: How) -> list[Mistake]:
    """The wrong moves that are known, those of published bugs first."""
    ddim = [m._replace(wrong=from_course(m.wrong, how)) for m in of_lesson("6.1", "ddim_step")]
    found = list(ddim if not how.large else [])
    if how.clip:
        found += [
            Mistake("cosine_blow_up", "x̂0 is not clipped to [-1, 1].", unclipped(how)),
            Mistake("raw_eps_with_clipped_x0", "x̂0 is clipped, but ε̂ is the one before clipping.", raw_eps(how)),
        ]
    else:
        found.append(
            Mistake("x̂0 is clipped", "x̂0 is clipped to [-1, 1].", lambda *args: right(how._replace(clip=True), *args))
        )
    if how.eta == 1 or how.large:
        small, large = How(1.0, False, how.clip), How(0.0, True, how.clip)
        other = "β̃, fixed_small" if how.large else "β, fixed_large"
        found += [
            Mistake(
                f"the other variance, {other.split(', ')[1]}",
                f"The variance is {other}.",
                lambda *args: right(small if how.large else large, *args),
            ),
            Mistake(
                "β where √β belongs",
                "The variance multiplies the noise; a standard deviation, its root, belongs there.",
                with_sigma(how, lambda a_t, a_s: sigma_of(how, a_t, a_s) ** 2),
            ),
            Mistake(
                "noise at the last step",
                "The last step adds noise; it leads to clean data, and adds none.",
                with_sigma(how, lambda a_t, a_s: sigma_of(how, a_t, a_s) if a_s < 1 else np.sqrt(1 - a_t)),
            ),
        ]
    if how.eta:
        found += [m._replace(wrong=other_sigma(how, m.wrong)) for m in of_lesson("6.1", "ddim_sigma")]
    return [m for m in found if differs(m.wrong, how)]


def differs(move: Callable, how: How) -> bool:
    """Whether a move is wrong for this η, variance and clipping: without noise a wrong σ is no mistake."""
    x, e = np.random.default_rng(0).normal(size=(2, 8, 2))

    def same(pair: tuple[float, float]) -> bool:
        (mean, sigma), (good, right_sigma) = move(x, e, *pair), right(how, x, e, *pair)
        return np.shape(mean) == good.shape and np.allclose(mean, good) and np.isclose(sigma, right_sigma)

    return not all(map(same, ((0.1, 0.3), (0.6, 0.9), (0.5, 1.0))))


# --- the levels between which a step goes -----------------------------------------------------------------------------


def levels(alpha_bar: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(ᾱ_t, ᾱ_s) of each step of a list; alpha_bar: (T+1,);  times: (N+1,) falling to 0  ->  (N, 2)"""
    return np.stack([alpha_bar[times[:-1]], alpha_bar[times[1:]]], 1)


def wrapped(alpha_bar: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Arrays that count from 0: the last step's index is -1, and wraps to the noisiest level."""
    out = levels(alpha_bar, times)
    out[-1, 1] = alpha_bar[-1]
    return out


def by_stride(alpha_bar: np.ndarray, times: np.ndarray) -> np.ndarray:
    """All next indices by arithmetic in an array that counts from 0, so that the last is negative and wraps."""
    a, T = alpha_bar[1:], len(alpha_bar) - 1
    stride = T // (len(times) - 1)
    return np.array([(a[t - 1], a[(t - 1 - stride) % T]) for t in times[:-1]])


def shifted(by: int) -> Callable:
    """Every ᾱ_t is read at t + by."""

    def wrong(alpha_bar: np.ndarray, times: np.ndarray) -> np.ndarray:
        moved = np.clip(times + by, 0, len(alpha_bar) - 1)
        moved[-1] = 0
        return levels(alpha_bar, moved)

    return wrong


def single_steps(alpha_bar: np.ndarray, times: np.ndarray) -> np.ndarray:
    """α_t = 1-β_t where ᾱ_t belongs."""
    alpha = np.concatenate([[1.0], alpha_bar[1:] / alpha_bar[:-1]])
    return levels(alpha, times)


def first_level_last(alpha_bar: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The last step lands on ᾱ_1, the first level of an array without ᾱ_0 = 1."""
    out = levels(alpha_bar, times)
    out[-1, 1] = alpha_bar[1]
    return out


def of_pairs(pairs: Callable) -> Callable:
    """The levels of the course's wrong pairs(times, T)."""
    return lambda alpha_bar, times: alpha_bar[np.maximum(pairs(times, len(alpha_bar) - 1), 0).astype(int)]


def wrong_levels() -> list[Mistake]:
    """The wrong levels that are known."""
    wrap = "At the last step the index of the next ᾱ is negative, and Python wraps it to the noisiest level."
    return [
        Mistake("wrapped_index", wrap, wrapped),
        *(m._replace(wrong=of_pairs(m.wrong)) for m in of_lesson("6.6", "repaired_steps") if "pairs each" not in m[1]),
        Mistake("wrapped_index", wrap, by_stride),
        Mistake("last level ᾱ_1", "The last step goes to ᾱ_1, not to ᾱ_0 = 1: a little noise stays.", first_level_last),
        Mistake("α for ᾱ", "α_t = 1-β_t of one step stands where the product ᾱ_t belongs.", single_steps),
        Mistake("ᾱ one too late", "ᾱ is read at t+1: an array that counts from 0 is indexed by t = 1…T.", shifted(1)),
        Mistake("ᾱ one too early", "ᾱ is read at t-1: the array begins with ᾱ_0 = 1 already.", shifted(-1)),
    ]
