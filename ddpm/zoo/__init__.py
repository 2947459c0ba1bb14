"""Load trained models by name; convert them from and to the format of diffusers."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "diffusers": (
            "Misfit",
            "find",
            "from_peer",
            "layouts",
            "new_names",
            "peer_name",
            "pixel_order",
            "reorder_pixels",
            "to_params",
            "to_peer",
            "to_tensors",
            "turn_time",
        ),
        "diffusers_config": ("from_schedule", "from_unet", "refuse", "to_schedule", "to_unet"),
        "model": ("Model", "load", "save"),
    },
)
