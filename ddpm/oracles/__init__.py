"""More data whose best denoiser is exact: fitted Gaussians, finite sets of images, grids of independent cells."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "cell_grid": ("Cells", "cells", "join", "split"),
        "finite_set": ("FiniteSet", "finite"),
        "low_rank": ("LowRank", "isotropic"),
        "spectrum": ("Spectrum", "eigenvalues", "training_loss"),
        "gaussian": ("exact_v", "fit", "gaussian_losses", "linear_loss", "teleport"),
    },
)
