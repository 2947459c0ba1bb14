"""Features of the layers of a network: DIFT, correspondence, linear probes."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "activations": ("default_layer", "default_time", "dift", "layers", "patch_features", "unit"),
        "match": ("correspondence", "pck", "resize"),
        "probe": ("Probe", "linear_probe", "pooled_features", "probe_grid"),
    },
)
