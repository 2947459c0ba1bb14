"""`--preset auto --minutes 10`: the largest network whose steps fit into the time, by a step that is measured.

Networks for the images are listed by their operations a step (`ladder`). One is compiled and timed; from its operations
a second follow the steps of all others, until the largest that is predicted to make `--steps` in the time was itself
measured to do so. Then the steps are as many as fit. The time for compiling a step is left out twice (once for the
sampler), and a sixth of the rest, for checkpoints and sample grids.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ddpm.config import UNetConfig
from ddpm.training import cost, devices, resume, unet_options
from ddpm.training.config import TrainConfig
from ddpm.training.loop import Training
from ddpm.training.step import init_state

LEAST = 100  # steps, with which a training is worth its name
SHARE = 5 / 6  # of the time goes to steps
WIDTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
Options = dict[str, Any]


def ladder(shape: tuple[int, int, int], fixed: Options) -> list[Options]:
    """List options of networks for images (H, W, C), narrow to wide, at each patch; those in `fixed` are as given."""
    short, long = sorted(shape[:2])
    found = []
    for patch in (p for p in (4, 2, 1) if p == 1 or short >= 12 * p):
        levels = max(n for n in (1, 2, 3, 4) if n == 1 or short / patch / 2 ** (n - 1) >= 4)
        last = -(-long // (patch * 2 ** (levels - 1)))
        for channels in WIDTHS:
            options = {"channels": channels, "multipliers": (1, 2, 2, 2)[:levels], "blocks": 2, "patch": patch}
            options |= fixed
            if "attention" not in fixed:
                unlike = {"multipliers", "patch"} & fixed.keys()
                options["attention"] = (last,) if 1 < levels and last <= 16 and not unlike else ()
            if options not in found:
                found.append(options)
    return found


def operations(unet: UNetConfig) -> int:
    """Operations of the convolutions and matrix products for one image in training, two a multiplication."""
    width = [unet.channels * m for m in unet.multipliers]
    positions = [unet.padded[0] * unet.padded[1] // unet.patch**2 // 4**i for i in range(len(width))]
    attends = [size in unet.attention for size in unet.map_sizes]
    c_pixel, c_time = unet.image_channels * unet.patch**2, 4 * unet.channels
    c_in, c_out = c_pixel + unet.extra_channels * unet.patch**2, c_pixel * (2 if unet.learned_variance else 1)

    def conv(a: int, b: int, level: int, k: int = 3) -> int:
        return 2 * k * k * a * b * positions[level]

    def block(a: int, level: int, attend: bool) -> int:
        b, n = width[level], positions[level]
        shortcut = conv(a, b, level, 1) if a != b else 0
        attention = 8 * b * b * n + 4 * b * n * n if attend else 0
        return conv(a, b, level) + conv(b, b, level) + shortcut + 2 * c_time * b + attention

    # Time, first and last layer, the middle; then down, keeping the widths of the skips, and up again
    last = len(width) - 1
    total = 2 * (unet.channels + c_time) * c_time + conv(c_in, width[0], 0) + conv(width[0], c_out, 0)
    total += block(width[last], last, unet.middle_attention) + block(width[last], last, False)
    skips = [width[0]]
    for i, w in enumerate(width):
        for j in range(unet.blocks):
            total += block(skips[-1] if j == 0 else w, i, attends[i])
            skips.append(w)
        if i < last:
            total += conv(w, w, i + 1)
            skips.append(w)
    h = width[last]
    for i in reversed(range(last + 1)):
        for _ in range(unet.blocks + 1):
            total += block(h + skips.pop(), i, attends[i])
            h = width[i]
        if i > 0:
            total += conv(h, h, i - 1)
    return total


def choose(
    sizes: list[int], measure: Callable[[int], tuple[float, float]], seconds: float, steps: int
) -> tuple[int, int]:
    """Return (i, N): the largest network, of rising `sizes`, that makes `steps` in the time, and the N that it makes.

    measure: i -> (seconds a step, seconds to compile). If none makes that many, it is the smallest and what it makes.
    """
    start = time.perf_counter()
    measured: dict[int, int] = {}
    high = len(sizes)  # these and larger ones are too large
    i = min(2, high - 1)
    while True:
        each, compiling = measure(i)
        left = (seconds - (time.perf_counter() - start) - 2 * compiling) * SHARE
        measured[i] = int(max(left, 0) / each)
        if left <= 0:  # no time to measure another one
            return i, 0
        if measured[i] < steps:
            high = i
        # The largest that is predicted to fit, from the operations a second of this one
        fits = [j for j in range(high) if left / (each * sizes[j] / sizes[i]) >= steps and j not in measured]
        largest = max((j for j, n in measured.items() if n >= steps), default=-1)
        if not fits or max(fits) <= largest:
            if largest >= 0:
                return largest, measured[largest]
            if 0 in measured:
                return 0, measured[0]
            fits = [0]
        i = max(fits)


def settled(config: TrainConfig, folder: Path) -> TrainConfig | None:
    """Return the options of the run that the folder holds, if it does: it goes on with the network that it has."""
    found = [] if config.restart else resume.saved(folder)
    if not found:
        return None
    old = TrainConfig.saved(found[0][1]["train"])
    kept = {name: getattr(old, name) for name in ("preset", "steps", *unet_options.OPTIONS)}
    return dataclasses.replace(config, minutes=None, name=config.run_name, **kept)


def fitted(
    config: TrainConfig,
    shape: tuple[int, int, int],
    network: Callable[[TrainConfig], UNetConfig],
    training: Callable[[TrainConfig, UNetConfig, Path], Training],
    say: Callable[[str], None] = print,
) -> TrainConfig:
    """Return `config` with the network and the steps that fit into its minutes.

    shape: (H, W, C) of the images;  network, training: what is made of other options;  say: takes a line of the report
    """
    assert config.minutes is not None
    plain = dataclasses.replace(config, preset="cpu", minutes=None, name=config.run_name)
    rungs = [dataclasses.replace(plain, **options) for options in ladder(shape, unet_options.given(config))]
    rungs.sort(key=lambda rung: operations(network(rung)))

    def measure(i: int) -> tuple[float, float]:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            each = seconds_a_step(training(rungs[i], network(rungs[i]), Path(folder)))
        options = f"--channels {rungs[i].channels} --patch {rungs[i].patch}"
        say(f"auto: {each:.3f} s a step with {options}, {len(rungs[i].multipliers or ())} levels")
        return each, time.perf_counter() - start

    sizes = [operations(network(rung)) for rung in rungs]
    i, steps = choose(sizes, measure, config.minutes * 60, config.steps)
    if steps < LEAST:
        raise ValueError(
            f"minutes is {config.minutes:g}; compiling a small network leaves time for {steps} steps of it. Give more "
            f"minutes, a smaller --batch (it is {config.batch}), or smaller images"
        )
    chosen = dataclasses.replace(rungs[i], steps=steps // LEAST * LEAST)
    fewer = "" if steps >= config.steps else f", fewer than the {config.steps:,} of --steps"
    say(f"auto: {chosen.steps:,} steps fit into {config.minutes:g} minutes{fewer}. The same as\n  {chosen.command()}")
    return chosen


def seconds_a_step(training: Training) -> float:
    """Compile one step of a training that has not begun, and measure it."""
    training.state = devices.replicate(training.mesh, init_state(training.config, training.unet, training.prior()))
    training.step = 0
    k = training.next_k()
    args = training.state, training.placed, *training.feed(0, k)
    return cost.time_step(training.program(k), *args) / k
