"""Chains of tokens: noise that hides them, and the steps and losses that bring them back."""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "absorbing": (
            *("any_order_loss", "counted", "expected_calls", "hidden_nll", "hide", "lambda_loss", "open_step", "ratio"),
        ),
        "denoiser": ("token_config", "token_denoiser", "token_image", "token_init"),
    },
)
