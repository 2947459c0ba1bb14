"""Diffusion in the codes of an autoencoder: codecs with their scale, and the exact errors of latent diffusion."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "autoencoder": ("AutoencoderConfig", "build", "copy_loss", "make_codec"),
        "codec": ("Codec", "rearranged", "unit", "with_scale"),
        "draft": ("around", "q_around"),
        "linear": ("Errors", "errors_by_size", "pca", "subspace"),
        "stored": ("load", "save"),
        "vq": (
            *("Quantised", "Table", "lloyd_max", "nearest", "perplexity", "quantise", "straight_through"),
            *("through_table", "vq_loss"),
        ),
    },
)
