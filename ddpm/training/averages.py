"""Average the parameters over training: several profiles at once, and any width afterwards.

    θ̂ ← β_n θ̂ + (1 - β_n) θ        after step n = 1, 2, …

`decay_0.9999`: β = min(d, n/(9+n)): an exponential profile whose memory grows at first.   [(1+n)/(10+n) from n = 0]
`fixed_0.9999`: β = d from the first step on, as in many papers' code. The initialisation keeps the weight dⁿ, which is
                large in a short run.
`power_0.1`:    β = (1 - 1/n)^(γ+1): the weight of step i after n steps is (i^(γ+1) - (i-1)^(γ+1)) / n^(γ+1). The
                profile is τ^γ for any training length; its standard deviation is σ_rel = .1 of that length, and the
                initialisation has weight 0.   [Karras et al. 2024, Eqs. 1-2, App. C]

Snapshots of two such averages, saved during training, can be combined afterwards into an average of nearly any width:
`combine(folder, sigma)`.   [Karras et al. 2024, Sec. 3.1]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.tools import checkpoint, files
from ddpm.train import ema_decay
from ddpm.training.config import MOST_POWER, TrainConfig


def fixed_decay(n: jax.Array, most: float) -> jax.Array:
    """β_n = d for every n: after n steps the initialisation has weight dⁿ.   [Ho et al. 2020, App. B]"""
    return jnp.full_like(n, most)


def power_decay(n: jax.Array, gamma: float) -> jax.Array:
    """β_n = (1 - 1/(n+1))^(γ+1), n = 0, 1, …; β_0 = 0, so the initialisation has no weight.   [Eq. 2, discrete]"""
    return (1 - 1 / (n + 1)) ** (gamma + 1)


def gamma_of(sigma: float) -> float:
    """Solve σ² = (γ+1) / ((γ+2)² (γ+3)) for γ.   [Eq. 3]

    σ is the standard deviation of the profile τ^γ on [0, 1]. γ is the largest root of
    γ³ + 7γ² + (16 - σ⁻²)γ + 12 - σ⁻² = 0.
    """
    if not 0 < sigma < MOST_POWER:
        raise ValueError(f"sigma is {sigma}; give a relative width in (0, {MOST_POWER})")
    roots = np.roots([1, 7, 16 - sigma**-2, 12 - sigma**-2])
    return float(roots.real.max())


def decays(config: TrainConfig) -> dict[str, Callable[[jax.Array], jax.Array]]:
    """Return the decay n -> β_n of each additional average of a run, by name."""
    by_decay: dict[str, Callable[[jax.Array], jax.Array]] = {
        f"decay_{d:g}": partial(ema_decay, most=d) for d in config.more_ema
    }
    by_decay |= {f"fixed_{d:g}": partial(fixed_decay, most=d) for d in config.fixed_ema}
    by_width: dict[str, Callable[[jax.Array], jax.Array]] = {
        f"power_{s:g}": partial(power_decay, gamma=gamma_of(s)) for s in config.power_ema
    }
    return by_decay | by_width


# --- combining snapshots ----------------------------------------------------------------------------------------------


def inner(t_a: Any, gamma_a: Any, t_b: Any, gamma_b: Any) -> Any:
    """∫ p_a p_b dτ for profiles p(τ) = (γ+1) τ^γ / t^(γ+1) on 0 < τ < t; arrays broadcast.   [App. C, Alg. 3]"""
    low = np.minimum(t_a, t_b)
    scale = (low / t_a) ** gamma_a * (low / t_b) ** gamma_b * low / (t_a * t_b)
    return (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1) * scale


def weights(times: Sequence[float], gammas: Sequence[float], t: float, gamma: float) -> np.ndarray:
    """Fit weights (n,) of profiles (t_i, γ_i) to the profile (t, γ) by least squares."""
    ts, gs = np.asarray(times, np.float64), np.asarray(gammas, np.float64)
    A = inner(ts[:, None], gs[:, None], ts[None, :], gs[None, :])
    b = inner(ts, gs, np.float64(t), np.float64(gamma))
    return np.linalg.lstsq(A, b, rcond=1e-15)[0]


def save_snapshot(folder: Path, step: int, averages: dict[str, Any]) -> None:
    """Save the power-function averages of `step` under folder/ema."""
    kept = {name: tree for name, tree in averages.items() if name.startswith("power_")}
    files.save(folder / "ema" / f"step_{step:08d}", jax.device_get(kept), {"step": step})


def combine(folder: str | Path, sigma: float, step: int | None = None) -> dict:
    """Combine the snapshots of a run into parameters averaged with relative width σ.

    The average ends at `step`, by default that of the last snapshot, and is a weighted sum of the snapshots. The fit is
    most accurate for σ between the narrowest and the widest width that were saved.
    """
    kept = Path(folder) / "ema"
    steps = [n for n in checkpoint.steps(kept) if step is None or n <= step]
    if not steps:
        raise ValueError(f"{kept} holds no snapshots; train with power_ema 0.05 0.1 and snapshot_every")
    trees = {n: files.load(kept / f"step_{n:08d}")[0] for n in steps}
    which = [(n, name) for n in steps for name in trees[n]]
    gammas = [gamma_of(float(name.removeprefix("power_"))) for _, name in which]
    w = weights([n for n, _ in which], gammas, step or steps[-1], gamma_of(sigma))
    parts = [trees[n][name] for n, name in which]
    return jax.tree.map(lambda *a: jnp.asarray(np.tensordot(w, np.stack(a), 1), jnp.float32), *parts)
