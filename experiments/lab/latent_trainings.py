"""Latent diffusion, and the same network on pixels, at an equal budget: trained once, then read from the cache folder.

    python -m experiments.lab.latent_trainings [factor …]   trains all three factors, or those named

    trained = train(Budget(factor=4))        a codec and a U-Net in its codes
    images = trained.draw(n=2000)            (n, 28, 28, 1) uint8, the classes in turn, guidance 2

factor 1 is the network on pixels; 2 takes 2x2 pixels as the channels of one position, and loses nothing; 4 and more
train an autoencoder first. The house's network, loss, loop, samplers and guidance do not know that they see codes. The
budget is in processor minutes, those of the codec included, so it does not depend on what else runs; the compilation is
not counted. (The name in the cache is that of the budget and the data, not of the code: after a change of the training,
delete the folder `latent` in the cache.)
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import data
from ddpm.cli.start import use_compile_cache
from ddpm.config import UNetConfig
from ddpm.contracts import Partial
from ddpm.datasets import sources
from ddpm.guide import cfg, clip_x0
from ddpm.latents import autoencoder, stored
from ddpm.latents.autoencoder import AutoencoderConfig
from ddpm.latents.codec import Codec, rearranged, unit
from ddpm.loss import drop_labels, stratified_times
from ddpm.losses import objectives
from ddpm.network import build
from ddpm.sample import ddim_step
from ddpm.schedule import Schedule, make_schedule
from ddpm.tools import cache, files
from ddpm.training.timed import fit
from ddpm.zoo.model import Model
from experiments.lab.drawn_images import draw
from experiments.lab.runner import Unavailable


@dataclass(frozen=True)
class Budget:
    """What is trained, and for how long."""

    data: str = "fashion_mnist"
    factor: int = 4  # pixels of a side for one position of the code
    minutes: float = 3.0  # of the processor, for codec and network together
    channels: int = 32  # width of the network's first level
    codec_steps: int = 1000  # of 32 images, where the codec is trained
    noise: float = 0.1  # σ of the codec's loss
    weight: float = 1e-3  # w of the codec's loss
    schedule: str = "cosine"
    seed: int = 0
    share: float = 0.0  # of the time, for the rate to rise, if that is less than a hundred steps


class Trained(NamedTuple):
    """A chain on codes with its codec."""

    model: Model  # of codes: its images are z
    codec: Codec
    low: float  # the range of the training images' z, at which x̂0 is clipped: codes know no [-1, 1]
    high: float

    def draw(self, n: int, guidance: float = 2.0, steps: int = 50, seed: int = 0) -> np.ndarray:
        """n images by DDIM on codes, decoded: (n, H, W, C) uint8, the classes in turn."""
        m = self.model
        eps = clip_x0(m.eps if guidance == 1 else cfg(m.eps, guidance), m.schedule, self.low, self.high)
        make, to_image = partial(ddim_step, eps, m.schedule), jax.jit(self.codec.to_image)
        return draw(m, f"codes, ddim guidance {guidance:g}", make, n, steps, seed, end=lambda z: to_image(z))[0]


def countdown(steps: int) -> Callable[[], float]:
    """left() for `timed.fit`: 1, …, 0 in so many steps."""
    shares = iter(np.linspace(1, 0, steps + 1))
    return lambda: float(next(shares))


def clock(minutes: float, taken: list[int]) -> Callable[[], float]:
    """left() for `timed.fit`: the share of so many processor minutes; they begin after the first step, which compiles.

    taken: gets the number of calls.
    """
    began: list[float] = []

    def left() -> float:
        taken.append(1)
        if len(taken) == 2:
            began.append(time.process_time())
        return 1 - (time.process_time() - began[0]) / (60 * minutes) if began else 1.0

    return left


def _load(name: str) -> data.Dataset:
    try:
        return sources.load(name)
    except (FileNotFoundError, ConnectionError) as error:
        raise Unavailable(f"the experiment trains on {name}, which is not here: {error}") from error


def codec_of(budget: Budget) -> tuple[Codec, float]:
    """The codec of the budget, and the processor minutes of its training; from the cache, or trained now."""
    d = _load(budget.data)
    if budget.factor < 4:
        return rearranged(data.to_float(d.x_train), budget.factor), 0.0
    H, _, C = d.image_shape
    config = AutoencoderConfig(H, C, budget.factor)
    settings = dataclasses.asdict(config), budget.codec_steps, budget.noise, budget.weight, budget.seed, d.sha256
    path = cache.folder() / "latent" / f"codec-{cache.key(settings)}"
    if not path.with_name(path.name + ".json").exists():
        print(f"training: a codec, factor {budget.factor}, {budget.codec_steps:,} steps", flush=True)
        params, minutes = _trained_codec(config, budget, d)
        made = autoencoder.make_codec(config, params, data.to_float(d.x_train))
        stored.save(path, config, made, {"minutes": minutes, "data": budget.data})
    made, card = stored.load(path)
    return made, float(card["minutes"])


def _trained_codec(config: AutoencoderConfig, budget: Budget, d: data.Dataset) -> tuple[dict, float]:
    def loss(params: dict, key: jax.Array, x0: jax.Array, c: Any) -> jax.Array:
        return autoencoder.copy_loss(config, params, key, x0, budget.noise, budget.weight)

    left, seconds = countdown(budget.codec_steps), list[float]()

    def timed_left() -> float:
        seconds.append(time.process_time())
        return left()

    params = autoencoder.build(config)[0](jax.random.key(budget.seed))
    params = fit(loss, params, d.x_train, d.y_train, budget.seed, timed_left)
    return params, (seconds[-1] - seconds[1]) / 60 if len(seconds) > 1 else 0.0


def network_of(budget: Budget, codec: Codec, shape: tuple[int, ...], classes: int) -> UNetConfig:
    """The U-Net on codes: two levels, attention at the smaller one, whatever the size of its input."""
    size, _, k = jax.eval_shape(codec.encode, jax.ShapeDtypeStruct((1, *shape), jnp.float32)).shape[1:]
    config = UNetConfig(size, k, channels=budget.channels, multipliers=(1, 2), attention=(), groups=8)
    return dataclasses.replace(config, attention=(config.map_sizes[-1],), num_classes=classes)


def _v_loss(unet: UNetConfig, params: dict, key: jax.Array, z: jax.Array, c: jax.Array, schedule: Schedule) -> Any:
    """The error of v̂, with a tenth of the labels dropped.   [Salimans and Ho 2022]"""
    key_t, key_noise, key_drop = jax.random.split(key, 3)
    t, noise = stratified_times(key_t, len(z), schedule.T), jax.random.normal(key_noise, z.shape, z.dtype)
    c = drop_labels(key_drop, c, unet.num_classes, 0.1)
    return objectives.objective("mse", "v")(Partial(build(unet)[1], params), schedule, z, t, noise, c).mean()


def train(budget: Budget) -> Trained:
    """Return codec and network of the budget from the cache, or train them now."""
    d = _load(budget.data)
    codec, spent = codec_of(budget)
    if not spent < budget.minutes:
        raise ValueError(f"the codec took {spent:.2g} minutes of {budget.minutes:g}; give more minutes, or fewer steps")
    unet, schedule = network_of(budget, codec, d.image_shape, d.num_classes), make_schedule(budget.schedule)
    settings = {name: v for name, v in dataclasses.asdict(budget).items() if name != "share" or v}
    path = cache.folder() / "latent" / cache.key(settings, dataclasses.asdict(unet), d.sha256)
    if not path.with_name(path.name + ".json").exists():
        print(f"training: factor {budget.factor}, {budget.minutes - spent:.2f} processor minutes", flush=True)
        z, taken = unit(codec.encoded(data.to_float(d.x_train))), list[int]()
        params = build(unet)[0](jax.random.key(budget.seed))
        left = clock(budget.minutes - spent, taken)
        loss = partial(_v_loss, unet)
        params = fit(loss, params, z, d.y_train, budget.seed, left, schedule, share=budget.share)
        card: dict[str, Any] = {
            "predict": "v",
            "schedule": {"name": budget.schedule, "T": schedule.T},
            "steps": len(taken) - 1,
            "minutes": {"codec": spent, "network": budget.minutes - spent},
            "low": float(z.min()),
            "high": float(z.max()),
        }
        files.save(path, jax.device_get(params), card)
    params, card = files.load(path)
    name = f"factor {budget.factor}, {budget.minutes:g} min, seed {budget.seed}"
    model = Model(name, unet, jax.tree.map(jnp.asarray, params), schedule, d.class_names, card)
    return Trained(model, codec, float(card["low"]), float(card["high"]))


def main(factors: list[str]) -> None:
    """Train the factors that are not in the cache yet; all three if none is named."""
    for factor in map(int, factors or ("1", "2", "4")):
        trained = train(Budget(factor=factor))
        print(f"{trained.model.name}: {trained.model.card['steps']:,} steps", flush=True)


if __name__ == "__main__":
    use_compile_cache()
    main(sys.argv[1:])
