"""What stands around the U-Net: heads for other predictions, a transformer in its place, and a look inside."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "crossattention": ("build_text", "masked_attention"),
        "text_config": ("TEXTS", "TextConfig"),
        "control": ("Control", "controlled", "make_control"),
        "fusion": ("WAYS",),
        "image_input": ("seeing", "with_image"),
        "lora": ("Lora", "change", "cross_attentions", "digest", "make_lora", "merged"),
        "new_word": ("row", "spoken", "with_word"),
        "dit": ("build", "eps_fn"),
        "dit_config": ("DITS", "DiTConfig", "network_config"),
        "heads": (
            "eps_from_mu",
            "eps_from_score",
            "eps_from_u",
            "eps_from_v",
            "flow_head",
            "head",
            "mu_from_eps",
            "mu_head",
            "u_from_eps",
            "v_from_eps",
            "v_from_u",
            "v_from_x0",
            "v_head",
            "velocity",
            "x0_from_mu",
            "x0_from_score",
            "x0_from_u",
            "x0_from_v",
            "x0_head",
        ),
        "numbers": ("at_number", "numbered", "with_number"),
        "preconditioning": ("InputScale", "edm_head", "edm_target", "input_scale", "scaled_input"),
        "skip": ("Prior", "faded", "gaussian_skip", "make_prior", "ramp", "sees_x0", "skip_head", "skip_scale"),
        "inspect": ("activations", "count", "param_shapes"),
    },
)
