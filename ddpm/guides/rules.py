"""Other guidance rules: negative label, autoguidance, interval, classifier guidance, dynamic thresholding."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Eps, Partial, partial_of, technique
from ddpm.forward import from_x0, x0_and_eps
from ddpm.guide import per_image_scale
from ddpm.guides.values import push
from ddpm.samplers.respacing import retime
from ddpm.schedule import Schedule
from ddpm.tools import check
from ddpm.tools.partials import affine, inside, known_labels


@technique(eps=partial_of, scale=check.scale_array, label=partial(jax.tree.map, jnp.asarray))
@affine
def negative(x_t: jax.Array, t: jax.Array, c: Any, /, eps: Eps, scale: Any, label: Any) -> jax.Array:
    """Away from a label instead of from ∅: ε̂_neg + s (ε̂_c - ε̂_neg).   label: () or (B,) int, or a `Condition`."""
    if c is None:
        raise ValueError("negative needs labels c to guide towards")
    one = x_t.shape[:1]  # a single label stands for all images
    eps_neg = eps(x_t, t, jax.tree.map(lambda a: a if a.ndim else jnp.broadcast_to(a, one), label))
    return eps_neg + per_image_scale(scale, x_t) * (eps(x_t, t, c) - eps_neg)


@technique(eps=partial_of, bad=partial_of, scale=check.scale_array)
@affine
def autoguidance(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, eps: Eps, bad: Eps, scale: Any) -> jax.Array:
    """Away from a worse model of the same data: ε̂_bad + s (ε̂ - ε̂_bad), both with the label c.

    bad: a smaller network, or the same with less training.   [Karras et al. 2024, Guiding a diffusion model with a bad
    version of itself]   Where both know Gaussians of one mean, the flow ends in one too, of deviation σ^s σ_bad^(1-s)
    in each common direction: the error that both make, in different size, is extrapolated to none at one s only.
    """
    eps_bad = bad(x_t, t, c)
    return eps_bad + per_image_scale(scale, x_t) * (eps(x_t, t, c) - eps_bad)


def _low_before_high(low: Any, high: Any, **_: Any) -> None:
    if check.known(low) and check.known(high) and not 0 <= int(low) < int(high):
        raise ValueError(f"the interval is ({low}, {high}]; give times 0 <= low < high")


@technique(_low_before_high, guided=partial_of, eps=partial_of, low=jnp.asarray, high=jnp.asarray)
@affine
def interval(
    x_t: jax.Array, t: jax.Array, c: Any = None, /, *, guided: Eps, eps: Eps, low: Any, high: Any
) -> jax.Array:
    """`guided` at the times low < t ≤ high, else `eps`: guidance where it helps, and its calls saved elsewhere.

    [Kynkäänniemi et al. 2024]   `interval(cfg(net, 4.0), net, 100, 700)`: outside, the conditional network alone.
    """
    inside = jnp.broadcast_to((low < t) & (t <= high), x_t.shape[:1])
    mask = inside.reshape(-1, *(1,) * (x_t.ndim - 1))
    return jax.lax.cond(  # in a sampler all t are equal: one of the outer two is run, and no more
        inside.all(),
        lambda: guided(x_t, t, c),
        lambda: jax.lax.cond(
            inside.any(), lambda: jnp.where(mask, guided(x_t, t, c), eps(x_t, t, c)), lambda: eps(x_t, t, c)
        ),
    )


def gaussian_above(eps: Eps, gaussian: Eps, above: int) -> Partial:
    """ε_G(x_t, t, c) for t > `above`, ε̂(x_t, t, c) at and below it; `above` = T is the network everywhere.

    gaussian: ε_G, such as `ddpm.oracles.low_rank.fit(x, c).eps(schedule)`. At high noise the best linear denoiser of a
    class is close to the best of all, and a small network is often worse. It is guided and clipped like a network:
    `cfg(gaussian_above(eps, gaussian, 700), 2.0)`. In a sampler only one of the two is evaluated at each step.

    Other classes and another chain than the network's are refused where they can be read, other sizes when it is
    called; a Gaussian of another data set with the same sizes cannot be told apart: fit it on the network's images.
    """
    eps, gaussian = partial_of(eps), partial_of(gaussian)
    T = _one_chain(eps, gaussian)
    _same_classes(eps, gaussian)
    if check.whole("above", above, 1) > T:
        raise ValueError(f"above is {above}; give a time in 1..{T}, above which the Gaussian takes over")
    return eps if above == T else interval(gaussian, eps, above, T)


def _one_chain(eps: Partial, gaussian: Partial) -> int:
    """T of the chain on which both are evaluated; the largest whole number if neither shows it."""
    (T, alpha_bar), (T_G, alpha_bar_G) = _chain(eps), _chain(gaussian)
    right = "give both one schedule, such as gaussian.eps(schedule) with that of eps"
    if T and T_G and T != T_G:
        raise ValueError(f"the chain of eps has T = {T} and that of the Gaussian T = {T_G}; {right}")
    if alpha_bar is not None and alpha_bar_G is not None and (off := np.abs(alpha_bar - alpha_bar_G)).max() > 1e-6:
        t = int(off.argmax())
        raise ValueError(
            f"alpha_bar of t = {t} is {alpha_bar[t]:.4g} in eps, {alpha_bar_G[t]:.4g} in the Gaussian; {right}"
        )
    return T or T_G or np.iinfo(np.int32).max


def _chain(eps: Partial) -> tuple[int | None, np.ndarray | None]:
    """T and ᾱ of the outermost schedule in a denoiser, T alone of a retimed one; None for what it does not show."""
    for part in inside(eps):
        if part.func is retime.__wrapped__:  # type: ignore[attr-defined]
            return len(part.keywords["times"]) - 1, None
        for bound in (*part.args, *part.keywords.values()):
            if isinstance(bound, Schedule):
                return bound.T, np.asarray(bound.alpha_bar) if check.known(bound.alpha_bar) else None
    return None, None


def _same_classes(eps: Partial, gaussian: Partial) -> None:
    """Refuse a Gaussian of other classes: inside `jit` JAX would clamp a label that it lacks, without a word."""
    known, known_G = known_labels(eps), known_labels(gaussian)
    if known is not None and known_G is not None and len(known) != len(known_G):
        raise ValueError(
            f"eps knows {len(known)} classes and the Gaussian {len(known_G)}; fit it on the images of eps, with "
            f"num_classes = {len(known)}, or with kind 'one' for all labels"
        )


@technique(eps=partial_of, log_prob=partial_of, scale=check.scale_array)
def classifier(
    x_t: jax.Array, t: jax.Array, c: Any, /,
    eps: Eps, schedule: Schedule, log_prob: Callable[..., jax.Array], scale: Any = 1.0,
) -> jax.Array:  # fmt: skip
    """ε̂ - s √(1-ᾱ_t) ∇_x log p(c | x_t): classifier guidance.   [Dhariwal and Nichol 2021, Eq. 14, Alg. 2]

    log_prob: (x_t, t, c) -> (B,) log p(c | x_t) of a classifier trained on noisy images. With the exact one and s = 1
    an unconditional ε̂ becomes the conditional one; ε̂ itself is called with c = None.
    """
    if c is None:
        raise ValueError("classifier guidance needs labels c to guide towards")
    return eps(x_t, t, None) - push(log_prob, schedule, scale, x_t, t, c)


def _saturates(percentile: Any, most: Any, **_: Any) -> None:
    check.number("percentile", percentile, 0, 100)
    if check.known(most) and not most >= 1:
        raise ValueError(f"most is {most}; the largest q is at least 1")


@technique(_saturates, eps=partial_of)
@from_x0
def dynamic_threshold(
    x_t: jax.Array, t: jax.Array, c: Any = None, /,
    *, eps: Eps, schedule: Schedule, percentile: float = 99.5, most: float = jnp.inf,
) -> jax.Array:  # fmt: skip
    """Clip x̂0 to [-q, q] and divide by q, q = max(1, percentile of each image's |x̂0|).   [Saharia et al. 2022]

    Strong guidance then saturates fewer pixels than `clip_x0`, which is `most` = 1. ε̂ is derived again.
    """
    x0 = x0_and_eps(eps, schedule, x_t, t, c)[0]
    q = jnp.percentile(jnp.abs(x0), percentile, axis=tuple(range(1, x0.ndim)), keepdims=True)
    q = jnp.clip(q, 1.0, most)
    return jnp.clip(x0, -q, q) / q
