"""Other steps from noise to images, lists of times, and many images at once."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "candidates": ("choose",),
        "exact": ("exact_step",),
        "edm": (
            "edm_sigmas",
            "edm_step",
            "edm_weight",
            "from_sigma",
            "karras_times",
            "preconditioned",
            "preconditioning",
        ),
        "film": ("Film", "record"),
        "generation": ("PIECE", "generate"),
        "langevin_dynamics": ("annealed_langevin", "corrected", "langevin"),
        "names": (),
        "table": (),
        "places": ("place_step",),
        "respacing": ("respace", "retime", "zero_terminal_snr"),
        "best_times": ("rule", "searched", "w2_of_times"),
        "solvers": ("History", "begin", "heun_step", "midpoint_step", "multistep", "sigma_bar"),
        "variance": ("eps_half", "learned", "noise_power", "optimal", "v_half"),
    },
)
