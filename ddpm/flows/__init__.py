"""Flow matching and models of few steps: paths, exact velocities and maps, losses and their values at the solution."""

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
        "meanflow": (
            "adaptive_weight",
            "draw_pairs",
            "exact_average",
            "jump",
            "loss_at_solution",
            "meanflow_loss",
            "meanflow_target",
        ),
        "shortcut": ("as_average", "as_shortcut", "draw_jumps", "self_consistency_loss"),
        "consistency": (
            "consistency_distillation_loss",
            "consistency_function",
            "consistency_training_loss",
            "number_of_times",
            "pseudo_huber",
            "training_fixed_point",
            "training_loss_at_solution",
        ),
        "progressive": ("halved", "progressive_loss", "progressive_target"),
        "matching": (
            "draw_tau",
            "flow_matching_loss",
            "measured_straightness",
            "pair_by_transport",
            "velocity_weight",
        ),
        "steps": ("average_of", "consistency_step", "end_of", "jump_step", "velocity_of"),
        "table": ("FEW_STEPS",),
    },
)
