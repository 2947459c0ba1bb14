"""Sources of data sets: published files, scikit-learn, drawn images, and one's own folders."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "blocks": ("Part", "Shapes"),
        "formats": (
            "checked",
            "find_cifar",
            "idx_files",
            "read_cifar",
            "read_idx",
            "read_idx_files",
            "read_npz",
            "write_npz",
        ),
        "handwritten": ("digits",),
        "kept": (),
        "listing": ("Entry", "Listing", "listed"),
        "own": ("described", "from_arrays"),
        "prepared": (),
        "published": ("PUBLISHED", "Published", "fetch"),
        "split": ("Divided", "divided", "sides"),
        "reading": ("Reading", "parse", "short_name"),
        "wardrobe": (),
        "sources": ("cache_dir", "load", "where"),
        "volumes": ("Reading",),
        "world": ("Motif", "Tiles", "World", "distribution", "draw", "planted", "probabilities", "tiles"),
    },
)
