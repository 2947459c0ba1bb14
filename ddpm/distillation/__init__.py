"""Score distillation: a denoiser pulls on images, or on what they are pictures of, and where that ends."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "fixed_points": ("expected_sds", "fixed_point", "gaussian_sds", "own_gaussian"),
        "functional_maps": (
            "distilled", "eigenbasis", "from_points", "isometry_prior", "laplacian", "to_points", "zoomed",
        ),
        "gradients": ("dds", "descend", "pulled_back", "sds", "vsd"),
        "voxels": ("renderer", "settled", "view"),
    },
)  # fmt: skip
