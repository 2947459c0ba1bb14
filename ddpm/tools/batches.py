"""Process many images in batches of equal size, so one compiled program serves them all, and show the progress.

    for ids, m in progress(parts(len(x), batch), desc="features", unit="batch"):
        result.append(np.asarray(program(x[ids]))[:m])

The first m rows of a part are new. In the last part, the other rows repeat the last image and are discarded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from tqdm import tqdm

from ddpm.tools import check

DELAY = 2.0  # seconds of work before a progress bar appears


def parts(n: int, batch: int) -> list[tuple[np.ndarray, int]]:
    """Split 0…n-1 into ⌈n/batch⌉ parts of equal, minimal size: a list of (ids, number of new ids).

    The last part is padded with the index n - 1, by fewer indices than there are parts: 100 by 64 gives 50 and 50, not
    64 and 64.
    """
    check.whole("batch", batch, 1)
    k = -(-n // batch)
    size = -(-n // k) if k else 0
    return [(np.minimum(np.arange(i, i + size), n - 1), min(size, n - i)) for i in range(0, n, size or 1)]


def progress(work: Iterable | None = None, *, desc: str, unit: str, total: int | None = None, initial: int = 0) -> Any:
    """Show a progress bar with the time left on stderr, once the work has taken two seconds.

    It wraps an iterable `work`, or counts to `total` by `update`. TQDM_DISABLE=1 in the environment silences it.
    """
    return tqdm(work, desc=desc, unit=unit, total=total, initial=initial, delay=DELAY)
