"""The Gaussian that a network continues, in and out of its weights: of the network's images and classes, or refused.

gaussian/mean (K, D)  basis (K or 1, D, r)  var (K, r)  rest (K,)     K = num_classes + 1, or 1 for all labels
gaussian_weight (T+1,)     of a Gaussian that fades                   D = H W C
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.config import UNetConfig
from ddpm.networks.skip import Prior, make_prior
from ddpm.oracles.low_rank import LowRank
from ddpm.schedule import Schedule

TOGETHER = "the weights and their card do not belong together; take both from one model.save"


def read(gaussian: Any, weight: Any, unet: UNetConfig, schedule: Schedule, where: str) -> Prior:
    """Return the prior of these arrays, as float32; a ValueError names `where` and the array that does not fit."""
    refuse_other(gaussian, weight, unet, schedule.T, where, TOGETHER)
    gaussian, weight = jax.tree.map(jnp.float32, (gaussian, weight))
    return make_prior(LowRank(**gaussian), schedule, weight)


def arrays(prior: Prior | None, unet: UNetConfig, schedule: Schedule, where: str) -> dict[str, Any]:
    """Return the arrays of a prior for the file of weights, by name; none without a prior."""
    if prior is None:
        return {}
    H, W, C = unet.image_shape
    remedy = f"fit it with low_rank.fit(x, c, num_classes={unet.num_classes}) on images of shape ({H}, {W}, {C})"
    gaussian = prior.gaussian._asdict()
    refuse_other(gaussian, prior.weight, unet, schedule.T, where, remedy)
    return {"gaussian": gaussian} | ({} if prior.weight is None else {"gaussian_weight": prior.weight})


def refuse_other(gaussian: Any, weight: Any, unet: UNetConfig, T: int, where: str, remedy: str) -> None:
    """Refuse a Gaussian that lacks an array, or has one of another number of classes, pixels or times."""
    found: dict[str, tuple[int, ...]] = {}
    if isinstance(gaussian, dict):
        found = {name: np.shape(a) for name, a in gaussian.items()}
    if found.keys() != set(LowRank._fields):
        has = ", ".join(sorted(map(str, found))) or "nothing"
        raise ValueError(f"{where}: gaussian has {has}; needs {', '.join(LowRank._fields)}; {remedy}")
    # K rows, of D numbers and r variances
    K, D = unet.num_classes + 1, math.prod(unet.image_shape)
    K = 1 if found["mean"][:1] == (1,) else K
    r = found["basis"][-1] if found["basis"] else 0
    needed: dict[str, list[tuple[int, ...]]] = {
        "mean": [(K, D)],
        "basis": [(1, D, r), (K, D, r)],
        "var": [(K, r)],
        "rest": [(K,)],
    }
    for name, shapes in needed.items():
        if found[name] not in shapes:
            raise ValueError(
                f"{where}: gaussian/{name} has shape {found[name]}; needs {shapes[-1]}, for images of {D} numbers and "
                f"a row for each of {unet.num_classes} classes and one for no class, or one row for all; {remedy}"
            )
    if weight is not None and np.shape(weight) != (T + 1,):
        raise ValueError(
            f"{where}: gaussian_weight has shape {np.shape(weight)}; needs ({T + 1},), a number for each t = 0..{T}; "
            f"{remedy}"
        )
