"""LoRA: a change of low rank to frozen weights.   [Hu et al. 2022]

    W = W_0 + (α/r) A B,   A (d_in, r) random, B (r, d_out) = 0 at first             [their Eq. 3, for rows x W]

An adapter is a pytree of its own, and `merged` makes parameters of both: any network runs with it, and only
A and B are trained. At first the network is the base to the bit; ∂L/∂A = 0 there and ∂L/∂B is not. r(d_in + d_out)
numbers a layer; ΔW has rank r at most, and what a training can reach at best is the truncated singular value
decomposition of the ΔW that is wanted   [Eckart and Young 1936].
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ddpm.tools import check
from ddpm.tools.files import flatten, unflatten


@struct.dataclass
class Lora:
    """Pairs (A, B) by the name of their kernel, α, and the digest of the base."""

    pairs: dict[str, tuple[jax.Array, jax.Array]]
    alpha: float = struct.field(pytree_node=False)
    base: str = struct.field(pytree_node=False)

    @property
    def rank(self) -> int:
        """The largest r of its layers, which may differ."""
        return max(A.shape[1] for A, _ in self.pairs.values())


def digest(params: dict) -> str:
    """SHA-256 of all parameters with their names: an adapter belongs to one base."""
    found = hashlib.sha256()
    for name, a in sorted(flatten(params).items()):
        found.update(f"{name} {a.shape} {a.dtype}".encode() + np.ascontiguousarray(a).tobytes())
    return found.hexdigest()


def cross_attentions(name: str) -> bool:
    """True of the q, k, v and o of the cross-attentions to the words: what is usually adapted."""
    return "/cross/to_" in name


def make_lora(
    key: jax.Array,
    params: dict,
    rank: int = 4,
    alpha: float | None = None,
    of: Callable[[str], bool] = cross_attentions,
) -> Lora:
    """Draw A ~ N(0, 1/d_in), with B = 0, for each matrix whose name `of` accepts.   alpha: α, r if None"""
    check.whole("rank", rank, 1)
    kernels = {name: a for name, a in flatten(params).items() if name.endswith("kernel") and of(name)}
    if not kernels:
        raise ValueError("of accepts the name of no kernel; names are such as " + ", ".join([*flatten(params)][:3]))
    pairs = {}
    for i, (name, W) in enumerate(sorted(kernels.items())):
        if W.ndim != 2 or rank > min(W.shape):
            raise ValueError(
                f"{name} has shape {W.shape}; a change of rank {rank} is of a matrix with both sides >= it"
            )
        A = jax.random.normal(jax.random.fold_in(key, i), (W.shape[0], rank)) / np.sqrt(W.shape[0])
        pairs[name] = (A, jnp.zeros((rank, W.shape[1])))
    return Lora(pairs, float(rank if alpha is None else alpha), digest(params))


def change(lora: Lora, scale: Any = 1.0) -> dict[str, jax.Array]:
    """ΔW = scale (α/r) A B of each kernel, r being its own: {name: (d_in, d_out)}"""
    return {name: scale * (lora.alpha / A.shape[1]) * (A @ B) for name, (A, B) in lora.pairs.items()}


def merged(params: dict, *loras: Lora, scale: Any = 1.0, add: bool = False) -> dict:
    """The parameters W_0 + ΔW, in their original structure; `scale` may be traced.

    params are those that each adapter was made for. Two adapters of one layer are refused, unless `add` says that their
    changes shall be added.
    """
    flat, claimed = flatten(params), set[str]()
    if all(check.known(a) for a in flat.values()):
        found = digest(params)
        for lora in loras:
            if lora.base != found:
                raise ValueError(
                    f"the adapter was made for parameters {lora.base[:12]}…, and these are {found[:12]}…; load its base"
                )
    for lora in loras:
        for name, delta in change(lora, scale).items():
            if name in claimed and not add:
                raise ValueError(f"two adapters change {name}; merge one of them, or give add=True to add both changes")
            flat[name] = flat[name] + delta
            claimed.add(name)
    return unflatten(flat)
