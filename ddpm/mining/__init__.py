"""Typical patches of a class: maps, clusters, p-values, baselines, and the page that shows them."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "doersch": ("Detectors", "Search", "best_in_images", "find", "ranked"),
        "folder": ("Report", "Subject", "summary", "write"),
        "hog": ("contrast", "hog_patches"),
        "lifting": ("by_cell", "lifted"),
        "localisation": ("Found", "motif_auc", "patch_motif", "precision_at_k", "purity", "ranks", "recalls", "smooth"),
        "maps": ("Maps", "Request", "digest", "group_count", "measure"),
        "nulls": ("false_discovery", "p_draws", "p_label"),
        "patches": ("Patches", "cut", "pooled", "random_patches", "select", "side", "top"),
        "patterns": (
            "Cluster",
            "Mined",
            "Sizes",
            "check_model",
            "check_sizes",
            "describe",
            "dift_features",
            "group_into",
            "mine",
            "pixel_features",
        ),
        "report": ("enlarge", "in_place", "png", "rgb", "row", "save", "tiles"),
        "shapes": (),
        "turning": ("Solid",),
        "saliency_maps": ("logits_fn", "saliency"),
    },
)
