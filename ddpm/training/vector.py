"""One vector for all parameters: what follows the gradient is then a few operations, however many layers there are.

XLA would compile Adam, the averages and the check of their values anew for each of some 250 arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.flatten_util import ravel_pytree


def raveled(tree: Any, params: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Replace each subtree that has the structure of `params` by one vector; return the inverse too.

    tree: for example a state, in which the parameters, their averages and Adam's moments have this structure
    """
    vector, unravel = ravel_pytree(params)
    structure: Any = jax.tree.structure(params)

    def same(a: Any) -> bool:
        return jax.tree.structure(a) == structure

    vectors = jax.tree.map(lambda a: ravel_pytree(a)[0] if same(a) else a, tree, is_leaf=same)

    def inverse(new: Any) -> Any:
        return jax.tree.map(lambda a: unravel(a) if a.shape == vector.shape else a, new)

    return vectors, inverse
