"""The options of commands about other people's code and images; reading them does not import JAX."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Doctor:
    """Check somebody's schedule, loss, sampler or guidance against exact answers; name the mistake and its effect.

    Examples: ddpm doctor diffusers:DDIMScheduler --timestep-spacing trailing; ddpm doctor my_module:my_step --eta 1
    """

    what: tyro.conf.Positional[str]  # module:name, a function, or a class of diffusers' schedulers
    kind: Annotated[str, tyro.conf.arg(name="as")] = ""  # step, sampler, loss, …; empty: told by its parameters' names
    schedule: str = "linear"  # with which a function is called: linear, linear_ho, cosine or sigmoid
    steps: int = 10  # number of steps of a sampler
    eta: float = 0.0  # η of DDIM: 0 is deterministic, 1 is DDPM with the variance β̃
    clip: bool = False  # the function is meant to clip x̂0 to [-1, 1]
    arrays: Literal["numpy", "jax", "torch"] = "numpy"  # kind of arrays that the function takes and returns
    first_time: Literal[0, 1] = 1  # its times: t = 1…T, or t = 0…T-1
    channels_first: bool = False  # its images are (n, C, H, W)
    seconds: float = 60.0  # the longest that one call may take
    timestep_spacing: str = ""  # of a scheduler: leading, trailing or linspace
    set: tuple[str, ...] = ()  # other options of a scheduler: clip_sample=false variance_type=fixed_large


@dataclass(frozen=True)
class Certificate:
    """Measure the images of a certificate again, and say whether its numbers are right.

    Example: ddpm certificate verify out.json --samples theirs.npz
    """

    action: tyro.conf.Positional[Literal["verify"]]
    file: tyro.conf.Positional[Path]  # the certificate, .json or .html, of `ddpm evaluate --samples … --certificate`
    samples: Path  # the images: an .npz with arr_0 (arr_1), or a folder of PNG
    data_dir: str | None = None  # where the data are; else DDPM_DATA_DIR
