"""Diffusion in the codes of an autoencoder: codecs with their scale, and the exact errors where the codec is linear."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {"codec": ("Codec", "with_scale"), "linear": ("Errors", "errors_by_size", "pca", "subspace")},
)
