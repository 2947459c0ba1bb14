"""A trained generator: its networks, how to draw from it, and its files.

g = load("runs/fashion_mnist-cgan")        x = g.draw(jax.random.key(0), c)       c: (n,) labels
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import weights
from ddpm.generators import variational
from ddpm.generators.networks import GeneratorConfig, build
from ddpm.generators.table import KINDS
from ddpm.tools import check, files, keys, schema
from ddpm.tools.batches import parts

FILE = "generator"  # in the folder of a run
LIMITS = {"image_size": (4, 512), "codes": (1, 100_000), "width": (4, 4096), "num_classes": (0, 100_000)}


@dataclass(frozen=True, eq=False)
class Generator:
    """The kind and sizes, the parameters, and the card that reports how they were trained."""

    config: GeneratorConfig
    params: dict
    card: dict
    name: str = "unnamed"

    def draw(self, key: jax.Array, n: int, c: Any = None, noise: bool = False, batch: int = 250) -> np.ndarray:
        """n images decode(z, c), z ~ N(0, I): (n, H, W, C) in [-1, 1].

        c: labels (n,), where the kind takes them;  noise: add the decoder's N(0, r²), of a VAE. Without it an image is
        the mean of p(x | z), which looks better and is no draw of the model.
        """
        check.images_asked("n", n)
        if self.config.kind == "ae":
            raise ValueError("an autoencoder has no distribution of codes to draw from; train a vae")
        if noise and self.config.kind != "vae":
            raise ValueError(f"noise is for a vae; a {self.config.kind} has no distribution of pixels for one code")
        c = None if not self.config.labels else check.classes("c", c, n)
        std, out = float(jnp.exp(self.params["log_r2"] / 2)) if noise else 0.0, []
        for ids, m in parts(n, batch):
            x = _drawn(self.config, self.params, key, jnp.asarray(ids), None if c is None else c[ids], std)
            out.append(np.clip(np.asarray(x)[:m], -1, 1))
        return np.concatenate(out)

    def codes(self, x: Any, c: Any = None, batch: int = 250) -> np.ndarray:
        """m(x, c), the codes of images (N, H, W, C) in [-1, 1]: (N, k)"""
        return self._over(_code, x, c, batch)

    def copies(self, x: Any, c: Any = None, batch: int = 250) -> np.ndarray:
        """decode(m(x, c), c), of an encoder with its decoder: like x"""
        return self._over(_copy, x, c, batch)

    def bound(self, key: jax.Array, x: Any, c: Any = None, K: int = 1, batch: int = 250) -> np.ndarray:
        """L_K of a VAE in nats, (N,): K = 1 is the ELBO, and more draws come nearer to log p(x | c)."""
        if self.config.kind != "vae":
            raise ValueError(f"a bound is for a vae; a {self.config.kind} gives no probability of an image")
        keys_of = partial(keys.of_images, key)  # image i has its own noise, whatever else is in the batch
        return self._over(partial(_bound, K=check.whole("K", K, 1)), x, c, batch, keys_of)

    def _over(self, f: Callable[..., jax.Array], x: Any, c: Any, batch: int, *of_ids: Callable[..., Any]) -> np.ndarray:
        if build(self.config).encode is None:
            raise ValueError(f"a {self.config.kind} has no encoder; an ae or a vae has")
        x = np.asarray(check.images(x, self.config.image_shape, "x"))
        c = None if c is None or not self.config.labels else np.asarray(c)
        out = []
        for ids, m in parts(len(x), batch):
            further = [of(ids) for of in of_ids]
            out.append(np.asarray(f(self.config, self.params, x[ids], None if c is None else c[ids], *further))[:m])
        return np.concatenate(out)


# Compiled once for each config, whatever the parameters


@partial(jax.jit, static_argnums=0)
def _drawn(config: GeneratorConfig, params: dict, key: jax.Array, ids: jax.Array, c: Any, std: Any) -> jax.Array:
    """Image i has its own codes and noise, of fold_in(key, i), so a batch is no part of what is drawn."""
    of_z, of_pixels = keys.split(keys.of_images(key, ids))
    x = build(config).decode(params, keys.normal_like(of_z, jnp.zeros((len(ids), config.codes))), c)
    return x + std * keys.normal_like(of_pixels, x)


@partial(jax.jit, static_argnums=0)
def _code(config: GeneratorConfig, params: dict, x: jax.Array, c: Any) -> jax.Array:
    encode: Any = build(config).encode
    return encode(params, x, c)[0]


@partial(jax.jit, static_argnums=0)
def _copy(config: GeneratorConfig, params: dict, x: jax.Array, c: Any) -> jax.Array:
    return build(config).decode(params, _code(config, params, x, c), c)


@partial(jax.jit, static_argnums=0, static_argnames="K")
def _bound(config: GeneratorConfig, params: dict, x: jax.Array, c: Any, key: jax.Array, K: int) -> jax.Array:
    nets = build(config)
    encode: Any = nets.encode
    r2 = jnp.exp(params["log_r2"])
    return variational.iwae(key, x, lambda x: encode(params, x, c), lambda z: nets.decode(params, z, c), r2, K)


def save(path: str | Path, generator: Generator) -> None:
    """Write `path`.safetensors and its card, which holds the config."""
    card = {"kind": "generator", "config": dataclasses.asdict(generator.config)} | generator.card
    files.save(path, jax.tree.map(np.asarray, generator.params), card)


def load(name: str) -> Generator:
    """Load a generator: a run's folder, a path without suffix, or shipped weights by name."""
    path = Path(name)
    if (path / f"{FILE}.json").exists():
        path = path / FILE
    if not path.with_name(path.name + ".json").exists():
        path = weights.FOLDER / check.choice("generator", name, weights.cards("generator"))
    params, card = files.load(path)
    if card.get("kind") != "generator":
        raise ValueError(f"{path}.json is the card of a {card.get('kind', 'denoiser')}; wanted a generator")
    check.choice(f"{path}.json: kind", card.get("config", {}).get("kind", ""), KINDS)
    config = schema.read(GeneratorConfig, card["config"], f"{path}.json: config", LIMITS, strict=True)
    wanted = jax.eval_shape(build(config).init, jax.random.key(0))
    try:
        files.refuse_other_shapes(params, wanted, f"weights {str(path)!r} of kind {config.kind}")
    except ValueError as e:
        raise ValueError(f"{e}; if an earlier version wrote them, train them again (ddpm generator)") from None
    return Generator(config, jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params), card, path.name)
