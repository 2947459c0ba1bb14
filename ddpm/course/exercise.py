"""The kinds of questions in lessons: the truth in NumPy float64, and named mistakes.

    formula      arrays in, arrays out                 identity    two routes agree
    moments      draws, within six standard errors     bitwise     the same bits
    count        the same whole numbers                gradient    JAX's derivative against finite differences
    spot_the_bug a failing function to repair          prediction  a number written down before running
    artefact     a training's file, measured again     figure      a picture; shown, not graded

This module needs NumPy only; JAX is imported where a part runs it. How to write the questions of a lesson:
`ddpm/course/checks/__init__.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ddpm.course.part import Artefact, Cases, Exercise, Figure, Leaves, Mistake, Part


def exercise(number: str, *parts: Part | Artefact | Figure, hints: Sequence[str] = ()) -> Exercise:
    """Build exercise `number` from its parts, in order, and its hints."""
    return Exercise(number, tuple(parts), tuple(hints))


def leaves(value: Any) -> list[np.ndarray]:
    """Convert a truth to a list of float64 (or integer) arrays; a tuple is several."""
    values = value if isinstance(value, tuple) else (value,)
    arrays = [np.asarray(v) for v in values]
    return [a if a.dtype.kind in "biu" else a.astype(np.float64) for a in arrays]


def named(mistakes: dict[str, Callable] | None) -> tuple[Mistake, ...]:
    """Convert {sentence: wrong formula} to Mistakes."""
    return tuple(Mistake(sentence, wrong) for sentence, wrong in (mistakes or {}).items())


def formula(
    name: str | tuple[str, ...],
    truth: Callable,
    cases: Cases,
    mistakes: dict[str, Callable] | None = None,
    *,
    run: Callable[..., Any] | None = None,
    rtol: float = 2e-4,
    atol: float = 1e-6,
    traceable: bool = False,
) -> Part:
    """|answer - truth(*case)| <= atol + rtol |truth|, entry by entry; the defaults leave room for float32.

    truth: NumPy, float64;  mistakes: {sentence: the wrong formula, with the arguments of the learner's function}
    """

    def band(a: np.ndarray) -> np.ndarray:
        return atol + rtol * np.abs(a)

    def expect(*case: Any) -> Leaves:
        return [(a, band(a)) for a in leaves(truth(*case))]

    names = (name,) if isinstance(name, str) else name
    return Part("formula", names, run or call, expect, cases, named(mistakes), band, traceable)


def call(f: Callable, *case: Any) -> Any:
    """Return the answer of the one function."""
    return f(*case)


def identity(
    names: str | tuple[str, ...],
    run: Callable[..., Any],
    truth: Callable,
    cases: Cases,
    mistakes: dict[str, Callable] | None = None,
    *,
    rtol: float = 1e-3,
    atol: float = 1e-5,
) -> Part:
    """run(*functions, *case) = truth(*case): a route through the learner's functions, and one without."""
    return replace(formula(names, truth, cases, mistakes, run=run, rtol=rtol, atol=atol), kind="identity")


def moments(
    name: str,
    statistic: Callable[..., Any],
    truth: Callable[..., tuple[Any, Any]],
    cases: Cases,
    mistakes: dict[str, Callable] | None = None,
    *,
    sigmas: float = 6.0,
    labels: tuple[str, ...] = (),
) -> Part:
    """Compare statistic(f, *case), by Monte Carlo, with the truth, within `sigmas` standard errors.

    truth(*case) -> (value, standard error), arrays alike; the case carries the seed, so that nothing flakes
    labels: what each entry of the statistic is, for the sentence: "the variance of the first row"
    """

    def expect(*case: Any) -> Leaves:
        value, error = truth(*case)
        return [(np.asarray(value, np.float64), sigmas * np.asarray(error, np.float64))]

    def band(a: np.ndarray) -> np.ndarray:  # `judge.same` adds the standard errors: other draws, the same property
        return 1e-6 + 1e-3 * np.abs(a)

    return Part("moments", (name,), statistic, expect, cases, named(mistakes), band, labels=labels)


def bitwise(
    name: str,
    truth: Callable,
    cases: Cases,
    mistakes: dict[str, Callable] | None = None,
    *,
    run: Callable[..., Any] | None = None,
) -> Part:
    """Require the same bits: frozen weights, a reproducible draw, a copy that must not change."""
    return replace(formula(name, truth, cases, mistakes, run=run, rtol=0.0, atol=0.0), kind="bitwise")


def count(
    name: str,
    truth: Callable,
    cases: Cases,
    mistakes: dict[str, Callable] | None = None,
    *,
    run: Callable[..., Any] | None = None,
) -> Part:
    """Require equal whole numbers: calls of the network, lengths, times."""
    return replace(formula(name, truth, cases, mistakes, run=run, rtol=0.0, atol=0.0), kind="count")


def gradient(
    name: str,
    loss: Callable,
    cases: Cases,
    mistakes: dict[str, Callable] | None = None,
    *,
    wrt: int = 0,
    step: float = 1e-5,
    rtol: float = 2e-3,
    atol: float = 1e-5,
) -> Part:
    """Compare ∂f/∂(argument `wrt`) by JAX with central differences of `loss` in NumPy float64."""

    # The derivative by JAX
    def run(f: Callable, *case: Any) -> Any:
        import jax
        import jax.numpy as jnp

        arrays = [jnp.asarray(a) if isinstance(a, np.ndarray) else a for a in case]
        return jax.grad(lambda a: jnp.asarray(f(*arrays[:wrt], a, *arrays[wrt + 1 :])).sum())(
            jnp.asarray(arrays[wrt], float)
        )

    # Central differences, entry by entry
    def differences(*case: Any) -> np.ndarray:
        x = np.array(case[wrt], np.float64)
        slope = np.empty_like(x)
        for i in np.ndindex(x.shape):
            ends = []
            for sign in (1, -1):
                moved = x.copy()
                moved[i] += sign * step
                ends.append(np.sum(loss(*case[:wrt], moved, *case[wrt + 1 :])))
            slope[i] = (ends[0] - ends[1]) / (2 * step)
        return slope

    return replace(formula(name, differences, cases, mistakes, run=run, rtol=rtol, atol=atol), kind="gradient")


def spot_the_bug(
    name: str,
    truth: Callable,
    cases: Cases,
    bug: Callable,
    sentence: str,
    mistakes: dict[str, Callable] | None = None,
    *,
    rtol: float = 2e-4,
    atol: float = 1e-6,
) -> Part:
    """Ask to repair a failing function.

    bug: what the published code computes;  sentence: the message if the bug is still there
    """
    wrong = {sentence: bug} | (mistakes or {})
    return replace(formula(name, truth, cases, wrong, rtol=rtol, atol=atol), kind="spot-the-bug")


def prediction(
    name: str, values: float | tuple[float, ...], tolerance: float, mistakes: dict[str, Any] | None = None
) -> Part:
    """Ask for numbers that the learner predicts: f() -> number or numbers, graded by distance.

    mistakes: {sentence: the numbers that follow from this misconception}
    """

    def band(a: np.ndarray) -> np.ndarray:  # a misconception gives its own number, not every number near it
        return np.minimum(tolerance, 0.05 * (tolerance + np.abs(a)))

    def expect() -> Leaves:
        return [(a, np.full(np.shape(a), tolerance)) for a in leaves(values)]

    wrong = {sentence: (lambda v=v: v) for sentence, v in (mistakes or {}).items()}
    return Part("prediction", (name,), call, expect, lambda rng: [()], named(wrong), band, secret=True)


def artefact(
    file: str, measure: Callable[[dict[str, np.ndarray]], float], low: float, high: float, what: str
) -> Artefact:
    """low <= measure(arrays of the .npz) <= high, computed by the grader, for a trained result."""
    return Artefact(file, measure, low, high, what)


def figure(file: str) -> Figure:
    """Add a picture for the gallery, which is never graded."""
    return Figure(file)
