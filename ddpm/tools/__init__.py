"""General tools, independent of diffusion: checks, array operations, batches, files, checkpoints, versions."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "batches": ("parts",),
        "cache": ("code", "folder", "key", "path", "user_folder"),
        "check": (
            "bounds",
            "choice",
            "falling",
            "images",
            "known",
            "labels",
            "number",
            "same_shape",
            "scale",
            "seed",
            "times",
            "whole",
        ),
        "checkpoint": ("restore", "steps"),
        "files": (
            "Damaged",
            "check_writable",
            "flatten",
            "load",
            "load_card",
            "read_json",
            "save",
            "unflatten",
            "write_atomic",
        ),
        "image_files": ("load_npz", "load_png", "save_npz", "save_png"),
        "layers": ("Conv", "GroupNorm", "Linear"),
        "lazy": ("namespace",),
        "machine": ("device_name", "versions"),
        "moved": ("Finder", "sentence"),
        "ops": (
            "attend",
            "conv",
            "depth_to_space",
            "fused_attention",
            "group_norm",
            "space_to_depth",
            "time_embedding",
        ),
        "origin": ("commit",),
        "terminal": ("exit_status", "replace_unknown_characters"),
        "xla": ("convolve_on_all_cores",),
    },
)
