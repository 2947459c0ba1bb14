"""Flow matching: Gaussian paths in continuous time, exact velocities and maps, the loss and its values."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "paths": ("PATHS", "Level", "Path", "chain", "levels", "make_chain", "make_path"),
        "conversions": (
            "eps_from_velocity",
            "score_from_velocity",
            "v_from_velocity",
            "velocity_from_eps",
            "velocity_from_score",
            "velocity_from_v",
            "velocity_from_x0",
            "x0_from_velocity",
        ),
        "exact": ("exact_velocity", "gaussian_map", "integrate", "log_prob", "quantile_map", "reflowed"),
        "errors": ("linear_solution", "loss_at_zero", "loss_floor", "straightness"),
        "matching": ("draw_tau", "flow_matching_loss", "pair_by_transport", "velocity_weight"),
    },
)
