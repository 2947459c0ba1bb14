"""Other objectives: weightings, the variational bound, times drawn, importance sampling, distillation."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "bound": (
            "Bound",
            "bits_per_dim",
            "bound_term",
            "decoder_nll",
            "gaussian_nll",
            "hybrid_loss",
            "hybrid_terms",
            "normal_kl",
            "prior_bits",
        ),
        "contrastive": ("clip_loss", "cosines", "loss_of_logits", "lowest_loss"),
        "distillation": ("distillation_loss",),
        "importance": ("LossHistory", "draw_times", "loss_history", "probabilities", "remember"),
        "objectives": ("denoiser", "mean", "objective", "target"),
        "times": ("cumulative", "draw", "frequency"),
        "weighting": ("for_target", "min_snr", "p2", "simple", "vlb"),
    },
)
