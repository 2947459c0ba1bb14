"""Many images, a batch at a time, in parts of one size: one compiled program serves them all.

    for ids, m in parts(len(x), batch):
        result.append(np.asarray(program(x[ids]))[:m])

The first m rows of a part are new; in the last one the others repeat the last image, and are thrown away.
"""

from __future__ import annotations

import numpy as np

from ddpm.tools import check


def parts(n: int, batch: int) -> list[tuple[np.ndarray, int]]:
    """0…n-1 in order, in ⌈n/batch⌉ parts of one size, as small as that allows: (ids, how many of them are new).

    The last one is filled up with n - 1, by less than one index for each part: 100 by 64 are 50 and 50, not 64 and 64.
    """
    check.whole("batch", batch, 1)
    k = -(-n // batch)
    size = -(-n // k) if k else 0
    return [(np.minimum(np.arange(i, i + size), n - 1), min(size, n - i)) for i in range(0, n, size or 1)]
