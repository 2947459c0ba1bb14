"""Autoencoders, VAEs and GANs: their losses, and what each of them does to data of known distribution."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "adversarial": ("Divergences", "discriminator_loss", "divergences", "generator_loss", "r1"),
        "class_bias": ("acgan",),
        "fitting": ("fit", "first_state"),
        "linear_vae": ("Codes", "LinearVAE", "expected_terms", "best_linear_vae", "log_likelihood", "water_filling"),
        "networks": ("GeneratorConfig", "Networks", "build"),
        "objectives": ("encoded_loss", "game_losses", "information"),
        "players": ("Players", "adam", "begin", "make_step"),
        "ring": ("Covered", "centres", "covered"),
        "table": ("ENCODED", "GAMES", "KINDS", "Recipe"),
        "trained": ("Generator", "load", "save"),
        "variational": ("Bound", "elbo", "iwae", "kl_normal"),
    },
)
