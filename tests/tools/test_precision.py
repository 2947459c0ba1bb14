"""With a schedule in double precision, images of float32 pass through measures that add up in NumPy or in place."""

import jax
import numpy as np
import pytest

from ddpm import oracle
from ddpm.classifiers.by_denoising import draw_losses
from ddpm.evaluation.bits import bound_bits
from ddpm.schedule import cosine

X, C = np.linspace(-0.8, 0.8, 8, dtype=np.float32).reshape(2, 2, 2, 1), np.array([0, 1])
MEASURES = {
    "draw_losses": lambda eps, s: draw_losses(eps, s, X, C[:, None], jax.random.key(0), [3, 9]),
    "bound_bits": lambda eps, s: bound_bits(eps, s, X, C, draws=2),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("measure", MEASURES)
def test_float32_images_keep_their_result_in_double_precision(measure):
    """The noise is drawn in the precision of the images, so both runs see the same."""

    def result():
        schedule = cosine(10)
        return MEASURES[measure](oracle.mixture(X, 0.1).eps(schedule), schedule)

    single = result()
    with jax.enable_x64(True):
        np.testing.assert_allclose(result(), single, rtol=2e-4)
