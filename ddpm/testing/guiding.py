"""The check of classifier-free guidance: which scale it has, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from ddpm.course.checks.c09 import guided
from ddpm.testing.answers import Answer, answered, mistaken
from ddpm.testing.calling import Convention, array, call
from ddpm.testing.mistakes import How, Mistake, of_lesson, right, tried
from ddpm.testing.noising import SHAPE, levels_of
from ddpm.tools import check

FORMS = {"s": "s = 1 is conditional: ε̂_∅ + s (ε̂_c - ε̂_∅)", "w": "w = 0 is conditional: (1+w) ε̂_c - w ε̂_∅, s = 1 + w"}


@answered("guidance")
def check_guidance(guide: Callable[..., Any], scale: str = "s", convention: Convention = Convention()) -> Answer:
    """Compare guide(eps_c, eps_u, scale) with ε̂_∅ + s (ε̂_c - ε̂_∅).   [Ho and Salimans 2022, Eq. 6, with s = 1 + w]

    scale: which scale is meant: `s`, of which 1 is the conditional model, or the paper's `w`, of which 0 is
    """
    check.choice("scale", scale, FORMS)
    rng = np.random.default_rng(0)
    c, u = rng.normal(size=(2, 8, *SHAPE))
    values = (0.0, 0.5, 1.0, 3.0)
    found = [
        array(guide, call(guide, {"eps_c": c, "eps_u": u, "scale": v}, convention, again=True), convention, c.shape)
        for v in values
    ]

    def fits(f: Callable) -> bool:
        wants = [tried(f, u, c, np.full(len(c), v)) for v in values]
        return all(np.allclose(a, w, rtol=1e-4, atol=1e-4) for a, w in zip(found, wants, strict=True))

    def paper(u: np.ndarray, c: np.ndarray, w: np.ndarray) -> np.ndarray:
        return guided(u, c, 1 + w)

    meant, other = (guided, paper) if scale == "s" else (paper, guided)
    if fits(meant):
        return Answer("guidance", True, conventions=(FORMS[scale],))
    if fits(other):
        is_, wanted = ("w", "s") if scale == "s" else ("s", "w")
        sentence = f"Its scale is {is_}, and {wanted} was meant: {FORMS[is_]}."
        return mistaken("guidance", "w_for_s", sentence, effect_of(other, scale), conventions=(FORMS[is_],))
    swapped_w = Mistake("", "The two guesses are swapped, in the paper's form.", lambda u, c, w: guided(c, u, 1 + w))
    plain = Mistake("no guidance", "The scale is ignored: this is the conditional model.", lambda u, c, s: c)
    both = Mistake(
        "the difference alone", "ε̂_∅ is missing: only the scaled difference is returned.",
        lambda u, c, s: s[0] * (c - u),
    )  # fmt: skip
    for m in (*of_lesson("9.2", "guided"), swapped_w, plain, both):
        if fits(m.wrong):
            return mistaken("guidance", m.key or "swapped", m.sentence, effect_of(m.wrong, scale))
    a, b = np.linalg.lstsq(np.stack([c.ravel(), u.ravel()], 1), found[3].ravel(), rcond=None)[0]
    return mistaken("guidance", "unknown", f"At the scale 3 it is {a:.4g} ε̂_c + {b:.4g} ε̂_∅.", "")


def effect_of(form: Callable, scale: str) -> str:
    """The mean of class +1 of N(±1, .25) at w = 1 (s = 2), by 100 steps of DDIM on Gauss-Hermite nodes."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    alpha_bar = levels_of("linear")
    times = np.arange(1000, -1, -10)

    def mean(form: Callable, value: float) -> float:
        x = nodes.copy()
        for t, s in pairwise(times):
            a = alpha_bar[t]
            var = 0.25 * a + 1 - a
            conditional = np.sqrt(1 - a) * (x - np.sqrt(a)) / var
            null = np.sqrt(1 - a) * (x - np.sqrt(a) * np.tanh(np.sqrt(a) * x / var)) / var
            e = form(null[:, None], conditional[:, None], np.full(len(x), value))[:, 0]
            x, _ = right(How(), x, e, a, alpha_bar[s])
        return float(weights @ x / weights.sum())

    value = 2.0 if scale == "s" else 1.0
    good = mean(guided, 2.0)
    theirs = mean(form, value)
    return f"with {scale} = {value:g} class +1 of N(±1, .25) has the mean {theirs:.3g} instead of {good:.3g}"
