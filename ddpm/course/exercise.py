"""The kinds of questions that lessons ask: the truth in NumPy float64, and the mistakes that have a name.

    formula      arrays in, arrays out                 identity    two routes agree
    moments      draws, within six standard errors     bitwise     the same bits
    count        the same whole numbers                gradient    JAX's derivative against finite differences
    spot_the_bug a failing function to repair          prediction  a number written before running
    artefact     a trained thing, measured again       figure      a picture; shown, not graded

This module needs NumPy only; JAX is imported where a part runs it. How to write the questions of a lesson:
`ddpm/course/checks/__init__.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ddpm.course.part import Artefact, Cases, Exercise, Figure, Leaves, Mistake, Part


def exercise(number: str, *parts: Part | Artefact | Figure, hints: Sequence[str] = ()) -> Exercise:
    """Exercise `number`: its parts in the order in which they are asked, and its hints."""
    return Exercise(number, tuple(parts), tuple(hints))


def leaves(value: Any) -> list[np.ndarray]:
    """A truth's answer as a list of float64 (or integer) arrays; a tuple is several."""
    values = value if isinstance(value, tuple) else (value,)
    arrays = [np.asarray(v) for v in values]
    return [a if a.dtype.kind in "biu" else a.astype(np.float64) for a in arrays]


def named(mistakes: dict[str, Callable] | None) -> tuple[Mistake, ...]:
    """{sentence: wrong formula} -> Mistakes"""
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
    kind: str = "formula",
) -> Part:
    """|answer - truth(*case)| <= atol + rtol |truth|, entry by entry; the defaults leave room for float32.

    truth: NumPy, float64;  mistakes: {sentence: the wrong formula, with the arguments of the learner's function}
    """

    def band(a: np.ndarray) -> np.ndarray:
        return atol + rtol * np.abs(a)

    def expect(*case: Any) -> Leaves:
        return [(a, band(a)) for a in leaves(truth(*case))]

    names = (name,) if isinstance(name, str) else name
    return Part(kind, names, run or call, expect, cases, named(mistakes), band, traceable)


def call(f: Callable, *case: Any) -> Any:
    """The answer is what the one function returns."""
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
    """Two routes agree: run(*functions, *case), through the learner's functions, and truth(*case), without them."""
    return formula(names, truth, cases, mistakes, run=run, rtol=rtol, atol=atol, kind="identity")


def moments(
    name: str,
    statistic: Callable[..., Any],
    truth: Callable[..., tuple[Any, Any]],
    cases: Cases,
    mistakes: dict[str, Callable] | None = None,
    *,
    sigmas: float = 6.0,
) -> Part:
    """Monte Carlo: statistic(f, *case) within `sigmas` standard errors of the truth.

    truth(*case) -> (value, standard error), arrays alike; the case carries the seed, so that nothing flakes
    """

    def expect(*case: Any) -> Leaves:
        value, error = truth(*case)
        return [(np.asarray(value, np.float64), sigmas * np.asarray(error, np.float64))]

    def band(a: np.ndarray) -> np.ndarray:  # two runs of one wrong formula with the same draws
        return 1e-6 + 1e-3 * np.abs(a)

    return Part("moments", (name,), statistic, expect, cases, named(mistakes), band)


def bitwise(
    name: str,
    truth: Callable,
    cases: Cases,
    mistakes: dict[str, Callable] | None = None,
    *,
    run: Callable[..., Any] | None = None,
) -> Part:
    """The same bits: frozen weights, a reproducible draw, a copy that must not change."""
    return formula(name, truth, cases, mistakes, run=run, rtol=0.0, atol=0.0, kind="bitwise")


def count(
    name: str,
    truth: Callable,
    cases: Cases,
    mistakes: dict[str, Callable] | None = None,
    *,
    run: Callable[..., Any] | None = None,
) -> Part:
    """Whole numbers, exactly: calls of the network, lengths, times."""
    return formula(name, truth, cases, mistakes, run=run, rtol=0.0, atol=0.0, kind="count")


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
    """∂f/∂(argument `wrt`) by JAX, against central differences of `loss`, the same number in NumPy float64."""

    def run(f: Callable, *case: Any) -> Any:
        import jax
        import jax.numpy as jnp

        arrays = [jnp.asarray(a) if isinstance(a, np.ndarray) else a for a in case]
        return jax.grad(lambda a: jnp.asarray(f(*arrays[:wrt], a, *arrays[wrt + 1 :])).sum())(
            jnp.asarray(arrays[wrt], float)
        )

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

    return formula(name, differences, cases, mistakes, run=run, rtol=rtol, atol=atol, kind="gradient")


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
    """A failing function to repair. bug: what the published code computes;  sentence: for who left it in"""
    return formula(name, truth, cases, {sentence: bug} | (mistakes or {}), rtol=rtol, atol=atol, kind="spot-the-bug")


def prediction(
    name: str, values: float | tuple[float, ...], tolerance: float, mistakes: dict[str, Any] | None = None
) -> Part:
    """Numbers that the learner writes down before running: f() -> number or numbers, graded by distance.

    mistakes: {sentence: the numbers of whoever thinks so}
    """

    def band(a: np.ndarray) -> np.ndarray:
        return np.full(np.shape(a), tolerance)

    def expect() -> Leaves:
        return [(a, band(a)) for a in leaves(values)]

    wrong = {sentence: (lambda v=v: v) for sentence, v in (mistakes or {}).items()}
    return Part("prediction", (name,), call, expect, lambda rng: [()], named(wrong), band, secret=True)


def artefact(
    file: str, measure: Callable[[dict[str, np.ndarray]], float], low: float, high: float, says: str
) -> Artefact:
    """A trained thing: passes if low <= measure(arrays of the .npz) <= high, computed by whoever grades."""
    return Artefact(file, measure, low, high, says)


def figure(file: str) -> Figure:
    """A picture for the gallery; never graded."""
    return Figure(file)
