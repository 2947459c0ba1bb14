"""Translation: an image of class a redrawn as class b, from its DDIM encoding.

    x_T = encode(x0 | a),      x0' = decode(x_T | b)          [Song et al. 2021, Sec. 5.4; Siglidis et al. 2024, Sec. 4]

The code x_T keeps what the class does not say: pose, brightness, size. Decoded with its own class it must give the
image back; that error, of the round trip, is the floor of what a translation changes. Encoding only up to start·T
keeps more of the image, and is needed with the cosine schedule, where at T x̂0 is a division by 5e-5. Guidance is used
on the way down only: a guided step up would not be undone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from ddpm import typicality
from ddpm.contracts import Eps
from ddpm.editing.inversion import decode, encode
from ddpm.guide import cfg
from ddpm.schedule import Schedule, make_times
from ddpm.tools import check
from ddpm.tools.partials import check_labels
from ddpm.typicality import Draws


class Translation(NamedTuple):
    """Images redrawn, and the round trip."""

    code: np.ndarray  # (B, ...)  x at the start of the way down
    back: np.ndarray  # (B, ...)  decoded as class a
    image: np.ndarray  # (B, ...)  decoded as class b

    def error(self, x0: Any) -> np.ndarray:
        """The round trip's mean squared error, (B,), pixels in [-1, 1]."""
        return _mse(self.back, x0)

    def change(self, x0: Any) -> np.ndarray:
        """The mean squared difference between the translation and the image, (B,)."""
        return _mse(self.image, x0)


def _mse(a: Any, b: Any) -> np.ndarray:
    a, b = np.asarray(a), np.asarray(b)
    check.same_shape("the result", a, "x0", b)
    return ((a - b) ** 2).reshape(len(a), -1).mean(1)


def translate(
    eps: Eps,
    schedule: Schedule,
    x0: Any,
    a: Any,
    b: Any,
    *,
    steps: int | None = None,
    start: float = 0.9,
    guidance: float = 1.0,
) -> Translation:
    """Encode x0 as class a, decode as class b (and as a, for the round trip).

    x0: (B, ...) in [-1, 1];  a, b: labels, () or (B,), or a `Condition`;  steps: of DDIM, each way: 100 if None, or all
    there are;  start: share of T up to which it is encoded;  guidance: s on the way to b, 1 for none. Results are not
    clipped.
    """
    x0 = check.batch(x0)
    a, b = (check_labels(eps, c, x0.shape[:1], name, one=True) for name, c in (("a", a), ("b", b)))
    check.scale(guidance)
    times = way(schedule.T, steps, start)
    code = encode(eps, schedule, x0, times, a)
    back = decode(eps, schedule, code, times, a)
    image = decode(eps if guidance == 1 else cfg(eps, guidance), schedule, code, times, b)
    return Translation(*(np.asarray(x) for x in (code, back, image)))


def way(T: int, steps: int | None, start: float) -> np.ndarray:
    """The times of the way down: `steps` equal steps from start·T to 0; None: 100, or all if fewer."""
    if not 0 < start <= 1:
        raise ValueError(f"start is {start}; give the share of T to encode up to, in (0, 1]")
    top = max(1, round(start * T))
    return make_times(top, check.whole("steps", min(100, top) if steps is None else steps, 1, top))


def typicality_shift(
    eps: Eps, schedule: Schedule, x0: Any, x1: Any, a: Any, b: Any, key: jax.Array, draws: Draws = Draws()
) -> dict[str, np.ndarray]:
    """T(x|a), T(x|b) before (x0) and after (x1): {"before_a", "before_b", "after_a", "after_b"}, (B,) each.

    The same draws for all four. x1 is clipped to [-1, 1], as it is when it is kept as an image.
    """
    x1 = np.clip(np.asarray(x1, dtype=np.float32), -1, 1)
    return {
        f"{when}_{which}": typicality.measure(eps, schedule, x, c, key, draws).value
        for when, x in (("before", x0), ("after", x1))
        for which, c in (("a", a), ("b", b))
    }
