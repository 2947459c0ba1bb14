"""Checks of other people's code against exact answers: a pass, or the named mistake and its effect on samples."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "calling": ("Convention", "Fault"),
        "answers": ("Answer",),
        "noising": ("check_forward", "check_schedule"),
        "training_rules": ("check_average", "check_loss", "check_weight"),
        "sampling": ("check_inversion", "check_sampler", "check_samples"),
        "guiding": ("check_guidance",),
        "distances": ("check_fid",),
        "adapters": ("from_scheduler", "from_step"),
        "mistakes": (),
        "published": ("PUBLISHED",),
        "examine": (),
    },
)
