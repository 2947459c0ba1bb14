"""The checks, one module a lesson: c01.py for Lesson 1, found by its name.

How to write c07.py for lessons/l07_*.py:

    from ddpm.course.exercise import exercise, formula          # and the other kinds, see that module

    def v(alpha_bar_t, x0, eps):                                # the truth: NumPy, float64, written apart from the
        return np.sqrt(alpha_bar_t) * eps - ...                 # lesson and the library (import neither)

    def cases(rng):                                             # -> argument tuples, exactly as the learner's function
        return [(rng.uniform(.1, .9), rng.normal(size=s), rng.normal(size=s)) for s in ((3, 5, 2), (1,), (4, 7))]

    EXERCISES = (
        exercise(
            "7.1",                                              # the number in `# ### Exercise 7.1 - title`
            formula(
                "velocity",                                     # the learner's function
                v, cases,
                {                                               # mistakes: one sentence -> the wrong formula
                    "The sign of x0 is wrong: ...": lambda a, x0, eps: np.sqrt(a) * eps + ...,
                },
            ),
            hints=("What v is in words.", "Which two terms it has.", "How large v is at t = 0 and at t = T."),
        ),
    )

What the tests ask of every module here (tests/course/test_course_checks.py finds them by themselves):

- Each `### Exercise` of the lesson has an entry and each entry an exercise; each function with a solution mark is asked
  about by some part; each exercise has a named mistake (a figure or artefact by itself excepted) and two hints or more.
- The lesson's own solution passes, with ten seeds; the stub fails, and a function that returns None fails.
- Each mistake is recognised by its own sentence. A mistake is a function of the same arguments in NumPy; it has to
  differ from the truth, and from the other mistakes, on the cases (else choose richer cases). It is compared on all
  cases of a seed together, so it may agree with the truth on some. It may also raise: then the exception's type counts.
- A sentence says *what* was done and *why* it is wrong, in at most 200 characters, ends with a full stop, and does not
  give the line of the solution. A hint says more each time and does not give it either.
- The truth uses `numpy`, `math` and the standard library: no JAX, no ddpm (but `ddpm.course.exercise`), no lesson.
- Inputs: random by the given rng only; several shapes, odd ones among them; keep away from where float32 loses digits
  (ᾱ within .05 … .95) unless that is the point, or say rtol/atol. A case that must be refused: let the truth raise
  ValueError there, and the learner's function has to raise it too.
- A function that the lesson calls inside `jit`, `scan` or `vmap` is marked `traceable=True` in its part;
  it gets JAX's arrays then, and is called once more inside `jit`.

Several functions in one exercise: one part each, asked in order; the first that fails is reported. Other kinds:

    identity(("f", "g"), lambda f, g, x: g(f(x)), truth, cases)            a round trip; truth(x) without f and g
    moments("draw", statistic, truth, cases)                               statistic(f, *case); truth -> (value, s.e.)
    bitwise(name, truth, cases), count(name, truth, cases)                 exactly equal
    gradient("loss", numpy_loss, cases, wrt=0)                             jax.grad(f) against finite differences
    spot_the_bug("repaired", truth, cases, bug=wrong, sentence="...")      the bug is the first named mistake
    prediction("guess", (.998, .854), tolerance=.02, mistakes={"...": (1, 1)})     the lesson's function has no argument
    artefact("out/l04.npz", measure, low, high, what="...")                recomputed from the file
    figure("out/l04.png")                                                  not graded

`run=` of formula, bitwise and count says how the answer is made where it is not simply f(*case), for instance when a
case carries a JAX key as its seed: run=lambda f, seed, n: f(jax.random.key(seed), n) (import JAX inside `run` only).

The learner's functions get NumPy arrays that cannot be written to; so do the truth and the mistakes.
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddpm.course.part import Exercise


def lessons_with_checks() -> list[int]:
    """The numbers of the lessons that have a module here."""
    return sorted(int(f.stem[1:]) for f in Path(__file__).parent.glob("c[0-9][0-9].py"))


@cache
def of_lesson(lesson: int) -> dict[str, Exercise]:
    """{number: exercise} of one lesson; empty if it has no checks."""
    if lesson not in lessons_with_checks():
        return {}
    return {e.number: e for e in importlib.import_module(f"ddpm.course.checks.c{lesson:02d}").EXERCISES}


def find(number: str) -> Exercise:
    """The checks of exercise '1.2'."""
    lesson = number.partition(".")[0]
    found = of_lesson(int(lesson)) if lesson.isdigit() else {}
    if number not in found:
        raise ValueError(f"exercise {number!r} has no check; see `ddpm course status` for the numbers")
    return found[number]
