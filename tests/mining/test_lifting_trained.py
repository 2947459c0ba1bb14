"""The shipped network of views finds the parts of a style in shapes, as the exact denoisers do."""

import numpy as np
import pytest

from ddpm import weights
from ddpm.datasets import blocks
from experiments import style_parts_3d as parts


@pytest.mark.slow
@pytest.mark.skipif("blocks" not in weights.cards("denoiser"), reason="no weights of blocks")
def test_the_shipped_network_finds_the_planted_cells():
    shapes = blocks.draw(16, 1000)
    volume = blocks.volumes(shapes.content)
    hits = np.stack([blocks.hits(volume, view) for view in blocks.VIEWS], 1)
    maps = parts.maps_of_network(parts.Config(draws=12), shapes)
    found = parts.found_parts(maps, hits, shapes)
    assert found["rows"]["AUC of cells"] > 0.93 and found["rows"]["precision of the best 10 cells"] > 0.5
    # and with the label of another style it does not
    other = parts.maps_of_network(parts.Config(draws=12), shapes._replace(labels=(shapes.labels + 1) % 4))
    assert parts.found_parts(other, hits, shapes)["rows"]["AUC of cells"] < 0.7
