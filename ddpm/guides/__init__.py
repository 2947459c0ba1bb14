"""Other functions eps -> eps: guidance rules, compositions, adaptive guidance."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "adaptive": ("Guided", "adaptive_step", "begin", "cosine"),
        "composition": ("compose", "given", "two_scale"),
        "values": ("by_value", "misfit", "plug_in"),
        "rules": ("autoguidance", "classifier", "dynamic_threshold", "gaussian_above", "interval", "negative"),
    },
)
