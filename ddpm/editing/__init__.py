"""Image in, image out: inpainting, inversion, translation."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "inpaint": ("repaint", "repaint_times", "replace_x0", "sdedit"),
        "inversion": ("decode", "encode", "slerp"),
        "masks": (
            "MASKS",
            "every_second_pixel",
            "every_second_row",
            "expand",
            "half",
            "make_mask",
            "strokes",
            "thin",
            "wide",
        ),
        "translation": ("Translation", "translate", "typicality_shift", "way"),
    },
)
