"""Measure what the training step costs to compile: leaf by leaf, or on one vector of all parameters.

    python -m experiments.lab.speed.one_vector nano small

Each row is a process of its own, first with an empty persistent cache and then with the filled one. Seconds are those
of the processor, so that other work on the machine counts little. `leaves` is the step as it was: each of some 250
arrays has its own Adam, average, check and `where`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any

VARIANTS = ("leaves", "vector")


def processor() -> float:
    """Processor seconds of this process so far."""
    t = os.times()
    return t.user + t.system


def leaf_by_leaf(config: Any, unet: Any, state: Any, schedule: Any, images: Any, c: Any) -> Any:
    """`take_step` with one operation for each array: what XLA then has to compile is many times larger."""
    import jax
    import jax.numpy as jnp
    import optax

    from ddpm import train
    from ddpm.data import to_float
    from ddpm.training import by_layer, step
    from ddpm.training.adam import optimiser

    key = jax.random.fold_in(jax.random.key(config.seed), state.step + 1)
    loss, grad, _ = step.gradient(config, unet, schedule, state, key, to_float(images), c)
    norm = optax.global_norm(grad)
    after = train.descend(state, grad, optimiser(config), config.ema)
    good = jnp.isfinite(loss) & jnp.isfinite(norm) & by_layer.all_finite(after.params)
    new = jax.tree.map(lambda a, b: jnp.where(good, a, b), after, state)
    return new, step.Metrics(loss, norm, by_layer.layer_norms(grad))


def measure(variant: str, preset: str, cache: str) -> str:
    """One row: initialise, compile, and take ten steps of 64 random images."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from ddpm.config import unet_config
    from ddpm.schedule import linear
    from ddpm.training import step
    from ddpm.training.config import TrainConfig
    from experiments.lab.speed.startup import peak_mib

    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    config, unet, schedule = TrainConfig(), unet_config(preset), linear(1000)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (64, *unet.image_shape)).astype(np.uint8))
    # Initial state
    start = processor()
    state = jax.block_until_ready(step.init_state(config, unet))
    init = processor() - start
    # Compilation
    take = step.take_step if variant == "vector" else leaf_by_leaf
    program = jax.jit(lambda s, x, c: take(config, unet, s, schedule, x, c), donate_argnums=0)
    start = processor()
    compiled = program.lower(state, images, jnp.zeros(64, jnp.int32)).compile()
    compiling, peak = processor() - start, peak_mib()
    # Steps
    seconds = []
    for _ in range(10):
        start = processor()
        state, metrics = jax.block_until_ready(compiled(state, images, jnp.zeros(64, jnp.int32)))
        seconds.append(processor() - start)
    return (
        f"{variant:8} {preset:8} init {init:5.1f} s   compile {compiling:6.1f} s   peak {peak:5.0f} MiB, with steps "
        f"{peak_mib():5.0f} MiB   step {statistics.median(seconds):.3f} s   loss {float(metrics.loss):.6f}"
    )


def main(presets: list[str]) -> None:
    """Print the rows of all variants, without and with the cache."""
    for preset in presets:
        for variant in VARIANTS:
            with tempfile.TemporaryDirectory() as cache:
                for _ in ("empty", "filled"):
                    command = [sys.executable, "-m", "experiments.lab.speed.one_vector", variant, preset, cache]
                    subprocess.run(command, check=True)


if __name__ == "__main__":
    if sys.argv[1] in VARIANTS:
        print(measure(*sys.argv[1:4]), flush=True)
    else:
        main(sys.argv[1:])
