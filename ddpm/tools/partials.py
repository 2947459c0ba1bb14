"""Look into functions made of functions (`Partial`): what they wrap, their form in v̂, and the labels that they know.

A denoiser is a tree of wrappers around a network or an oracle. Two facts about it are read from the tree, so that no
wrapper has to repeat them: what it predicts without a division, and how many classes it knows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from ddpm.tools import conditions
from ddpm.tools.conditions import Condition


def find(tree: Any, kind: type) -> list[Any]:
    """All parts of a pytree that are of that class, such as the schedules inside a step."""
    parts = jax.tree.leaves(tree, is_leaf=lambda part: isinstance(part, kind))
    return [part for part in parts if isinstance(part, kind)]


def inside(f: Partial) -> list[Partial]:
    """`f` and all the functions that it wraps, outermost first."""
    return [f, *(part for outer in find((f.args, f.keywords), Partial) for part in inside(outer))]


# --- the form in v --------------------------------------------------------------------------------------------------


def v_form(eps: Any) -> Partial | None:
    """The same denoiser as a function that returns v̂ = √ᾱ ε̂ - √(1-ᾱ) x̂0; None if its network predicts ε or μ.

    It is needed where ᾱ_t = 0: there ε̂ is x_t, whatever the network predicts, and only v̂ and x̂0 still hold the image.
    A function offers it by its attribute `v_form`, which is called with what its Partial binds.
    """
    make = getattr(eps.func, "v_form", None) if isinstance(eps, Partial) else None
    return None if make is None else make(*eps.args, **eps.keywords)


def affine(f: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a guide that returns Σ w_i ε̂_i with Σ w_i = 1: the same sum of v̂_i is its form in v̂."""

    def form(**bound: Any) -> Partial | None:
        parts = find(bound, Partial)
        if not parts or any(v_form(part) is None for part in parts):
            return None
        is_part = lambda part: isinstance(part, Partial)  # noqa: E731
        return Partial(f, **jax.tree.map(lambda a: v_form(a) if is_part(a) else a, bound, is_leaf=is_part))

    f.v_form = form  # type: ignore[attr-defined]
    return f


# --- labels -----------------------------------------------------------------------------------------------------------


def known_labels(eps: Any) -> np.ndarray | None:
    """The labels that a denoiser knows, without the null label; None if that cannot be read.

    The network or oracle inside offers them, or their number, by its attribute `labels`, which is called with what its
    Partial binds.
    """
    for part in inside(eps) if isinstance(eps, Partial) else ():
        known = part.func.labels(*part.args, **part.keywords) if hasattr(part.func, "labels") else None
        if known is not None:
            return np.arange(known) if isinstance(known, int) else np.asarray(known)
    return None


def known_parts(eps: Any) -> tuple[str, ...] | None:
    """The parts of a `Condition` that a denoiser takes; None if that cannot be read.

    The network inside names them by its attribute `conditions`, called with what its Partial binds; else it is the
    label where there are labels.
    """
    for part in inside(eps) if isinstance(eps, Partial) else ():
        if hasattr(part.func, "conditions"):
            return tuple(part.func.conditions(*part.args, **part.keywords))
    known = known_labels(eps)
    return None if known is None else ("label",) if len(known) else ()


def check_labels(eps: Any, c: Any, shape: tuple[int, ...], name: str = "c", one: bool = False) -> Any:
    """Check labels of this shape, or with `one` a single one for all, against those of the denoiser: int32, this shape.

    Inside `jit` JAX would wrap a label below 0 and clamp one that is too large, without a word. There, values cannot be
    read: call this before. A condition of several parts (`ddpm.tools.conditions`) has one row for each image, and holds
    what the denoiser takes; where that is the label alone, it is returned as labels.
    """
    if conditions.structured(c):
        return _check_condition(eps, c, shape, name)
    traced = isinstance(c, jax.core.Tracer)
    a, known = c if traced else np.asarray(c), known_labels(eps)
    if known is None:
        which = "whole numbers >= 0"
    elif not len(known):
        raise ValueError(f"{name} is {c}, but this denoiser has no classes (num_classes = 0); leave {name} None")
    else:
        gapless = np.array_equal(known, np.arange(len(known)))
        which = f"0..{len(known) - 1}" if gapless else f"among {', '.join(map(str, known))}"
    remedy = f"labels are {which}, and the null label is None"
    each = ("one label, or one for each" if one else "one label for each") + f" of the {shape[0]} images"
    if not np.issubdtype(a.dtype, np.integer):
        some = a.item() if a.ndim == 0 else a.ravel()[:8].tolist()
        raise ValueError(f"{name} is {some}, of type {a.dtype}; give {each}, as integers: {remedy}")
    if not traced and np.any(bad := a < 0 if known is None else ~np.isin(a, known)):
        raise ValueError(f"{name} {'contains' if a.ndim else 'is'} {a[bad].flat[0]}; {remedy}")
    if a.shape != shape and not (one and a.ndim == 0):
        raise ValueError(f"{name} has shape {a.shape}; give {each}")
    return (jnp if traced else np).broadcast_to(a, shape).astype(np.int32)


def _check_condition(eps: Any, c: Any, shape: tuple[int, ...], name: str) -> Any:
    takes = known_parts(eps)
    if isinstance(c, Condition) and takes is not None:
        conditions.check_parts(c, takes, name)
        if takes == ("label",) and c.label is not None:
            return check_labels(eps, c.label, shape, f"{name}.label")
    return conditions.check_rows(c, shape[0], name)


def check_denoiser(t: Any, *, eps: Any = None, c: Any = None, schedule: Any = None, **bound: Any) -> None:
    """Refuse labels that a denoiser lacks, and ε̂ as a step's prediction at times t of which one has ᾱ_t = 0.

    It is called with what a Partial binds: a step, or a guide inside it; and does nothing where there is no denoiser.
    """
    if eps is None:
        return
    held: dict[str, Any] = {"c": c, "label": bound.get("label")}
    for name, a in held.items():
        if hasattr(a, "dtype") and not isinstance(a, jax.core.Tracer) and known_labels(eps) is not None:
            check_labels(eps, a, a.shape or (1,), name, one=True)
    if schedule is None or isinstance(schedule.alpha_bar, jax.core.Tracer) or v_form(eps) is not None:
        return
    if np.any(none := np.asarray(schedule.alpha_bar)[t] == 0):
        raise ValueError(
            f"alpha_bar is 0 at t = {t[none][0]}, where ε̂ says nothing about the image; "
            f"begin below that time, or use a network that predicts v or x0"
        )
