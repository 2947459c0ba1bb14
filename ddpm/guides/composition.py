"""Several conditions at once: sums of denoisers.

Scores add where densities multiply. If the conditions are independent given x, then at t = 0

    p(x | c_1, …, c_n) ∝ p(x) ∏_i p(x | c_i)/p(x)      and so      ε = ε_∅ + Σ_i w_i (ε_i - ε_∅)

[Liu et al. 2022, Composable Diffusion, Eq. 11]   w_i > 0 is AND, w_i < 0 is NOT. At t > 0 this sum is not the score of
the noised product: samplers that follow it miss the product, and Langevin correctors (`langevin.py`) bring them
nearer.   [Du et al. 2023]
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ddpm.contracts import Eps, partial_of, technique
from ddpm.guide import per_image_scale
from ddpm.tools import check
from ddpm.tools.conditions import Condition
from ddpm.tools.partials import affine


@technique(eps=partial_of, c=partial(jax.tree.map, jnp.asarray))
@affine
def given(x_t: jax.Array, t: jax.Array, ignored: Any = None, /, *, eps: Eps, c: Any) -> jax.Array:
    """Fix the condition of a denoiser at c: the condition of later calls is ignored."""
    return eps(x_t, t, jax.tree.map(lambda a: jnp.broadcast_to(a, x_t.shape[:1]) if a.ndim == 0 else a, c))


def _one_weight_each(parts: Sequence[Eps], weights: Sequence[Any], **_: Any) -> None:
    if len(parts) != len(weights) or not parts:
        raise ValueError(f"there are {len(parts)} parts and {len(weights)} weights; give one weight for each part")


def _weights(weights: Sequence[Any]) -> list[jax.Array]:
    return [jnp.asarray(check.number("weight", w), dtype=float) for w in weights]


@technique(
    _one_weight_each, base=partial_of, parts=lambda parts: [partial_of(part) for part in parts], weights=_weights
)
@affine
def compose(
    x_t: jax.Array, t: jax.Array, c: Any = None, /, *, base: Eps, parts: Sequence[Eps], weights: Sequence[Any]
) -> jax.Array:
    """ε_∅ + Σ_i w_i (ε_i - ε_∅): AND with w > 0, NOT with w < 0.   [Liu et al. 2022, Eq. 11]

    base: the unconditional denoiser ε_∅;  parts: one denoiser for each condition, such as `given(net, 3)`;  weights: a
    number, or (B,), for each. One part with weight s is classifier-free guidance.
    """
    eps_base = base(x_t, t, None)
    moves = [per_image_scale(w, x_t) * (part(x_t, t, c) - eps_base) for part, w in zip(parts, weights, strict=True)]
    return eps_base + sum(moves)


def _without(c: Any) -> tuple[Any, Any]:
    """(∅, ∅) and (c_1, ∅) of a pair; words before a picture are refused."""
    if isinstance(c, Condition):
        if missing := [part for part in ("image", "text") if getattr(c, part) is None]:
            raise ValueError(f"c.{missing[0]} is None; two_scale guides by an image and a text, give both")
        return c._replace(image=None, text=None), c._replace(text=None)
    if not isinstance(c, tuple) or len(c) != 2:
        raise ValueError("two_scale wants a pair of conditions, c = (c_1, c_2), or a Condition of image and text")
    if hasattr(c[0], "dtype") and jnp.issubdtype(c[0].dtype, jnp.integer) and jnp.ndim(c[1]) == 4:
        raise ValueError("c is (words, picture); give the picture first, c = (picture, words), with scale_1 for it")
    return (None, None), (c[0], None)


@technique(
    eps=partial_of,
    scale_1=partial(check.scale_array, name="scale_1"),
    scale_2=partial(check.scale_array, name="scale_2"),
)
@affine
def two_scale(x_t: jax.Array, t: jax.Array, c: Any, /, eps: Eps, scale_1: Any, scale_2: Any) -> jax.Array:
    """ε(∅, ∅) + s_1 (ε(c_1, ∅) - ε(∅, ∅)) + s_2 (ε(c_1, c_2) - ε(c_1, ∅)).   [InstructPix2Pix, Brooks 2023, Eq. 3]

    eps takes a pair of conditions c = (c_1, c_2), either of which may be None: the picture, then the words. Of a
    `Condition` c_1 is the image and c_2 the text; its other parts are in all three. Equal scales are guidance by both.
    """
    neither, alone = _without(c)
    nothing, first, both = eps(x_t, t, neither), eps(x_t, t, alone), eps(x_t, t, c)
    to_first, to_both = (
        per_image_scale(scale_1, x_t) * (first - nothing),
        per_image_scale(scale_2, x_t) * (both - first),
    )
    return nothing + to_first + to_both
