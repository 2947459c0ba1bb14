"""Process many images in batches of equal size, so one compiled program serves them all.

    for ids, m in parts(len(x), batch):
        result.append(np.asarray(program(x[ids]))[:m])

The first m rows of a part are new. In the last part, the other rows repeat the last image and are discarded.
"""

from __future__ import annotations

import numpy as np

from ddpm.tools import check


def parts(n: int, batch: int) -> list[tuple[np.ndarray, int]]:
    """Split 0…n-1 into ⌈n/batch⌉ parts of equal, minimal size: a list of (ids, number of new ids).

    The last part is padded with the index n - 1, by fewer indices than there are parts: 100 by 64 gives 50 and 50, not
    64 and 64.
    """
    check.whole("batch", batch, 1)
    k = -(-n // batch)
    size = -(-n // k) if k else 0
    return [(np.minimum(np.arange(i, i + size), n - 1), min(size, n - i)) for i in range(0, n, size or 1)]
