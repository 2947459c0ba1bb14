"""Measures of a model and of images, each with its floor or baseline."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "certificate": ("certify",),
        "bits": ("bound_bits", "drawn_times", "even_times", "flow_bits", "gaussian_bits", "histogram_bits"),
        "denoising_loss": ("denoising", "eps_mse"),
        "distances": (
            "Moments",
            "cubic",
            "floors_by_size",
            "frechet",
            "frechet_curve",
            "frechet_floor",
            "frechet_moments",
            "kernel_distance",
            "moments",
        ),
        "forecasts": ("coverage", "crps"),
        "inception": (),
        "measure": ("Measure", "as_json", "from_json", "table"),
        "model": ("Plan", "check_fits", "draw", "drawn", "evaluate"),
        "neighbours": ("Overlap", "nearest", "overlap", "radii", "squared_distances"),
        "ode_likelihood": ("density_bits_per_dim", "dequantise", "ode_log_prob"),
        "prompts": ("bag_of_words", "prompts_right", "swapped", "told_apart"),
        "real_features": ("Reference", "reference"),
        "scores": ("score_images",),
        "statistics": ("bootstrap", "closer", "pair", "pieces", "stratified_subset", "wilson"),
    },
)
