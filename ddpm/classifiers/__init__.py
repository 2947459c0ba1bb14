"""Classifiers: of images, of noisy images, and by denoising."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "augmentation": ("augment",),
        "by_denoising": (
            "Classified",
            "Elimination",
            "check_stages",
            "classify",
            "default_stages",
            "draw_losses",
            "even_times",
            "planned_calls",
        ),
        "classifier": ("Classifier", "accuracy", "build", "load", "read_config", "save"),
        "convnet": ("BatchNorm", "ClassifierConfig", "fold", "max_pool", "whitening"),
        "fitting": ("State", "norm_statistics", "pooled", "train"),
        "optimiser": ("muon", "orthogonal", "unit_kernels"),
        "recipes": ("ClassifierTrainConfig", "command_line", "default_recipe"),
        "timenet": ("TimeNetConfig", "halve"),
    },
)
