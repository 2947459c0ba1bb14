"""Parts of one size: each index once and in order, no part larger than requested, no more of them than needed."""

import numpy as np
import pytest

from ddpm.tools import batches
from ddpm.tools.batches import parts, progress


@pytest.mark.parametrize("n", [0, 1, 2, 7, 64, 65, 100, 101, 127])
@pytest.mark.parametrize("batch", [1, 2, 3, 10, 64, 1000])
def test_each_index_once_in_the_fewest_parts_with_the_fewest_repeats(n, batch):
    found = parts(n, batch)
    np.testing.assert_array_equal(np.concatenate([ids[:m] for ids, m in found] or [[]]), np.arange(n))
    assert len(found) == int(np.ceil(n / batch))
    sizes = {len(ids) for ids, _ in found}
    assert len(sizes) == min(1, n) and all(size <= batch for size in sizes)
    assert all(m > 0 for _, m in found)
    repeats = sum(len(ids) - m for ids, m in found)
    assert repeats <= max(0, len(found) - 1)  # one less in each part would not hold all
    if repeats:
        assert (found[-1][0][found[-1][1] :] == n - 1).all()


def test_a_batch_of_none_is_refused():
    with pytest.raises(ValueError, match="batch is 0; give a whole number >= 1"):
        parts(10, 0)


def test_only_long_work_shows_its_progress(capsys, monkeypatch):
    assert list(progress(range(3), desc="short", unit="step")) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(batches, "DELAY", 0)
    with progress(desc="long", unit="step", total=3) as bar:
        bar.update(3)
    printed = capsys.readouterr().err
    assert "long" in printed and "3/3" in printed
