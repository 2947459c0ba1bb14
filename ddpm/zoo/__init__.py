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
        "diffusers_config": ("from_unet", "to_unet"),
        "diffusers_files": ("convert", "weights"),
        "diffusers_schedule": ("Process", "from_sampling", "from_schedule", "Refusals", "to_process", "to_schedule"),
        "cards": ("RunCard", "SamplingCard", "ScheduleCard", "WeightsCard", "run_card", "same_run", "weights_card"),
        "onnx_graph": ("Graph", "to_onnx"),
        "half_size": ("half",),
        "model": ("Model", "load", "make", "save"),
    },
)
