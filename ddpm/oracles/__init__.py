"""More data whose best denoiser is exact: Gaussians, finite sets, grids of cells, regions of one colour, tokens."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "cell_grid": ("Cells", "Known", "cells", "join", "split"),
        "finite_set": ("FiniteSet", "finite"),
        "low_rank": ("LowRank", "isotropic"),
        "region_colours": ("Evidence", "Posterior", "Regions", "regions"),
        "rewards": (
            *("tilt_classes", "tilt_linear", "tilt_measured", "tilt_seen", "value_above", "value_of"),
            "x0_given_component",
        ),
        "spectrum": ("Spectrum", "eigenvalues", "training_loss"),
        "place_times": ("eps_by_place", "together"),
        "token_mixture": ("Tokens", "tokens"),
        "gaussian": ("exact_v", "fit", "gaussian_losses", "linear_loss", "teleport"),
    },
)
