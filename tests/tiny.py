"""A network of a few thousand parameters, for tests of what does not depend on its size."""

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.config import UNetConfig
from ddpm.networks.inspect import param_shapes

TINY = UNetConfig(8, 1, channels=8, multipliers=(1, 2), blocks=1, attention=(4,), groups=4, num_classes=3)


def random_params(config, seed=0, size=0.2):
    """Parameters that are nowhere zero, so that every path of the network matters; norms scale by about one."""
    rng = np.random.default_rng(seed)

    def draw(path, a):
        around = 1.0 if path[-1].key == "scale" else 0.0
        return jnp.asarray(around + size * rng.normal(size=a.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, param_shapes(config))
