"""Rosetta table: one thing under its names in the papers, here, and in three code bases.

    python -m experiments.rosetta            prints it, and writes results/rosetta/rosetta.md

Each cell is an expression. The tests evaluate it with the objects of the other code base and compare the number with
ours, where that code base is installed; a cell marked ≠ is a difference that we expect, and the test requires it.

The other code bases count times from 0: their i is t = i + 1 here, and s = t - 1 = i. The names in the expressions: x0,
noise and x_t are images; eps is the network's output and `net` a network that always returns it; i, t and s are times;
key is a random key. `schedule` is ours; `ddpm` and `ddim` are diffusers' schedulers with clip_sample=False; `diffusion`
is the GaussianDiffusion of the other code base.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

PEERS = ("diffusers", "improved_diffusion", "lucidrains")


class Row(NamedTuple):
    """One row of the table; an empty cell means that the code base has no function for it."""

    symbol: str  # as in the papers
    meaning: str
    ours: str
    diffusers: str = ""
    improved_diffusion: str = ""
    lucidrains: str = ""


ROWS = [
    Row("β_t", "noise of one step", "schedule.beta[t]", "ddpm.betas[i]", "diffusion.betas[i]", "diffusion.betas[i]"),
    Row(
        "ᾱ_t", "share of the image left", "schedule.alpha_bar[t]", "ddpm.alphas_cumprod[i]",
        "diffusion.alphas_cumprod[i]", "diffusion.alphas_cumprod[i]",
    ),
    Row(
        "ᾱ_{t-1}", "the level below; 1 at t = 1", "schedule.alpha_bar[t - 1]",
        "ddpm.alphas_cumprod[ddpm.previous_timestep(i)]", "diffusion.alphas_cumprod_prev[i]",
        "diffusion.alphas_cumprod_prev[i]",
    ),
    Row(
        "q(x_t | x_0)", "noising", "q_sample(schedule, x0, t, noise)", "ddpm.add_noise(x0, noise, i)",
        "diffusion.q_sample(x0, i, noise)", "diffusion.q_sample(x0, i, noise)",
    ),
    Row(
        "x̂_0(ε)", "the image behind the noise", "x0_from_eps(schedule, x_t, t, eps)",
        "ddpm.step(eps, i, x_t).pred_original_sample", "diffusion._predict_xstart_from_eps(x_t, i, eps)",
        "diffusion.predict_start_from_noise(x_t, i, eps)",
    ),
    Row(
        "ε(x_0)", "the noise before the image", "eps_from_x0(schedule, x_t, t, x0)", "",
        "diffusion._predict_eps_from_xstart(x_t, i, x0)", "diffusion.predict_noise_from_start(x_t, i, x0)",
    ),
    Row(
        "v", "√ᾱ ε - √(1-ᾱ) x_0", "v_from_x0(schedule, x_t, t, x0)", "ddpm.get_velocity(x0, noise, i)", "",
        "diffusion.predict_v(x0, i, noise)",
    ),
    Row(
        "x̂_0(v)", "the image from v", "x0_from_v(schedule, x_t, t, eps)",
        "ddpm_v.step(eps, i, x_t).pred_original_sample", "", "diffusion.predict_start_from_v(x_t, i, eps)",
    ),
    Row(
        "μ̃_t", "mean of q(x_{t-1} | x_t, x_0)", "q_posterior(schedule, x_t, x0, t, s)[0]", "",
        "diffusion.q_posterior_mean_variance(x0, x_t, i)[0]", "diffusion.q_posterior(x0, x_t, i)[0]",
    ),
    Row(
        "β̃_t", "its variance; `fixed_small`", "q_posterior(schedule, x_t, x0, t, s)[1]", "ddpm._get_variance(i)",
        "diffusion.posterior_variance[i]", "diffusion.posterior_variance[i]",
    ),
    Row(
        "log β̃_1", "what stands for log 0", 'log(make_variance("fixed_small")(schedule, x_t, 1, 0))',
        "≠ log(ddpm._get_variance(0))", "diffusion.posterior_log_variance_clipped[0]",
        "≠ diffusion.posterior_log_variance_clipped[0]",
    ),
    Row(
        "SNR(t)", "ᾱ/(1-ᾱ)", "snr(schedule)[t]", "compute_snr(ddpm, i)", "", "",
    ),
    Row(
        "min(SNR, γ)/SNR", "Min-SNR weight of the ε-loss, γ = 5", "min_snr(schedule)[t]",
        "minimum(compute_snr(ddpm, i), 5) / compute_snr(ddpm, i)", "", "diffusion.loss_weight[i]",
    ),
    Row(
        "DDIM, η = 0", "one step t → s of a full list", "ddim_step(net, schedule)(key, x_t, t, s)",
        "ddim.step(eps, i, x_t).prev_sample", 'diffusion.ddim_sample(net, x_t, i, clip_denoised=False)["sample"]', "",
    ),
    Row(
        "L_T", "KL(q(x_T|x_0) ‖ N(0, I)), bits/dim", "prior_bits(schedule, x0)", "", "diffusion._prior_bpd(x0)", "",
    ),
    Row(
        "ε_∅ + s(ε_c - ε_∅)", "guidance; s = 1 + w", "cfg(net_or_zero, 3.0)(x_t, t, label)",
        "ClassifierFreeGuidance(guidance_scale=3.0).forward(eps, 0 * eps).pred", "", "",
    ),
    Row(
        "τ, trailing", "ten times from pure noise", 'make_times(1000, 10)[:-1] - 1',
        'timesteps(10, "trailing")', "", "linspace(-1, 999, 11)[:0:-1]",
    ),
    Row(
        "τ, leading", "ten times that end at the first", 'make_times(1000, 10, "leading")[:-1] - 1',
        'timesteps(10, "leading")', 'sorted(space_timesteps(1000, "ddim10"))[::-1]', "",
    ),
    Row(
        "τ, linspace", "ten times with both ends", 'make_times(1000, 10, "linspace")[:-1] - 1',
        'timesteps(10, "linspace")', 'sorted(space_timesteps(1000, "10"))[::-1]', "",
    ),
    Row(
        "a_t", "`scaled` linear schedule of T = 100: ᾱ_T", "linear(100).alpha_bar[100]",
        "≠ DDPMScheduler(100).alphas_cumprod[99]", 'cumprod(1 - get_named_beta_schedule("linear", 100))[99]',
        "cumprod(1 - linear_beta_schedule(100))[99]",
    ),
    Row(
        "sigmoid", "the schedule of that name: ᾱ at .8 T", "sigmoid(1000).alpha_bar[800]",
        '≠ DDPMScheduler(beta_schedule="sigmoid").alphas_cumprod[799]', "",
        "cumprod(1 - sigmoid_beta_schedule(1000))[799]",
    ),
    Row(
        "cosine", "ᾱ at a quarter", "cosine(1000).alpha_bar[250]",
        'DDPMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod[249]',
        'cumprod(1 - get_named_beta_schedule("cosine", 1000))[249]', "cumprod(1 - cosine_beta_schedule(1000))[249]",
    ),
    Row(
        "jump schedule", "RePaint 250/10/10: number of times", "len(repaint_times(range(250, -1, -1))) - 1",
        "repaint_length(250, 10, 10)", "", "",
    ),
]  # fmt: skip


def markdown() -> str:
    """The table; code in code marks."""
    head = ("paper", "what", "ddpm", "diffusers", "improved-diffusion", "denoising-diffusion-pytorch")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for symbol, meaning, *cells in ROWS:
        marked = [("≠ " if cell[:1] == "≠" else "") + f"`{cell.lstrip('≠ ')}`" if cell else "" for cell in cells]
        lines.append("| " + " | ".join([symbol.replace("|", "\\|"), meaning.replace("|", "\\|"), *marked]) + " |")
    return "\n".join(lines)


PAGE = Path(__file__).parent / "results" / "rosetta" / "rosetta.md"


def page() -> str:
    """The table as a page of the documentation."""
    return (
        "# Rosetta table\n\nThe papers' symbols, our names, and the same thing in other code bases; ≠ marks a "
        "convention that differs. Made by `python -m experiments.rosetta`; "
        "`tests/experiments/test_rosetta.py` evaluates each cell where its "
        f"code base is installed.\n\n{markdown()}\n"
    )


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page())
    print(markdown())
