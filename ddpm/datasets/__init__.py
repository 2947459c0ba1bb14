"""Sources of data sets: published files, scikit-learn, and drawn images."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "formats": (
            "Published",
            "checked",
            "fetch",
            "find_cifar",
            "find_idx",
            "read_cifar",
            "read_idx",
            "read_idx_files",
            "read_npz",
            "write_npz",
        ),
        "handwritten": ("digits",),
        "sources": ("cache_dir", "load", "where"),
        "world": ("Motif", "Tiles", "World", "chances", "draw", "law", "planted", "tiles"),
    },
)
