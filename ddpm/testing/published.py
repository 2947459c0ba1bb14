"""Published bugs by name: where each was. The bug museum in `experiments` measures them, the checks here find them."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """A bug that was in released code or in a printed algorithm."""

    name: str
    where: str


PUBLISHED = {
    "wrapped_index": Published("negative index wraps", "yiyixuxu/denoising-diffusion-flax, sampling.py"),
    "repaint_root": Published(
        "noise of the known pixels without its root",
        "RePaint Alg. 1, line 5; diffusers PR 10185, undone in PR 10644",
    ),
    "next_time_not_on_the_list": Published(
        "next time computed, not read", "diffusers issue 12633, DDIM with linspace spacing"
    ),
    "log_of_a_variance_as_its_square": Published("fixed_large_log is not a number", "diffusers issue 14569"),
    "min_snr_for_v": Published("Min-SNR weight of another target", "diffusers issue 5654, PRs 5096, 5238, 6307, 8466"),
    "young_average": Published("average without a warm-up", "improved-diffusion issue 59"),
    "cosine_blow_up": Published(
        "cosine schedule without clipping", "improved-diffusion issue 105, guided-diffusion issue 42"
    ),
    "w_for_s": Published(
        "w taken for s", "denoising-diffusion-pytorch issue 155, and the most repeated question of all"
    ),
    "raw_eps_with_clipped_x0": Published("raw ε̂ with a clipped x̂0", "diffusers, DDIMScheduler's default"),
    "noise_on_top": Published("DDIM's noise on top of its direction", "FlaxDiff; CoursIA PR 16158 (a course)"),
}
