"""`make demo`: garments, samplers side by side, typicality, and a training in a minute."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddpm import data, plot, typicality
from ddpm.cli import options
from ddpm.datasets import sources
from ddpm.oracles.gaussian import fit, linear_loss
from ddpm.sample import Sampling
from ddpm.samplers.generation import generate
from ddpm.schedule import make_schedule
from ddpm.tools import machine
from ddpm.tools.files import check_writable, write_atomic
from ddpm.training import loop, tables
from ddpm.training import run as training_run
from ddpm.training.config import TrainConfig
from ddpm.zoo import model


class Demo:
    """The pictures of the demo, and their part of the report."""

    def __init__(self, out: Path, m: model.Model):
        self.out, self.model, self.start = out, m, time.perf_counter()
        self.since = self.start
        self.report: dict[str, Any] = {
            "device": machine.device_name(),
            "versions": machine.versions(),
            "model": m.card.get("summary"),
        }

    def done(self, number: int, what: str, picture: str, **numbers: Any) -> None:
        """Print a line for a picture, and keep its numbers."""
        now = time.perf_counter()
        seconds, self.since = now - self.since, now
        self.report[picture] = {"shows": what, "seconds": round(seconds, 1), **numbers}
        print(f"{number}. {what}\n   {self.out / picture}   ({seconds:.0f} s)\n", flush=True)

    def finish(self) -> None:
        """Write all numbers into one file."""
        self.report["seconds"] = round(time.perf_counter() - self.start, 1)
        text = json.dumps(self.report, indent=1, ensure_ascii=False) + "\n"
        write_atomic(self.out / "report.json", text.encode())
        print(f"all numbers: {self.out / 'report.json'}   ({self.report['seconds']:.0f} s in all)")


def run(command: options.Demo) -> None:
    """Make four pictures and report.json in `out`, and print a line for each."""
    check_writable(command.out / "report.json")
    demo = Demo(command.out, model.load("fashion_mnist"))
    print(f"ddpm demo on {demo.report['device']}: one to two minutes\n", flush=True)
    x, c = draw_classes(demo)
    compare_samplers(demo)
    measure_typicality(demo, x, c)
    train_on_digits(demo, command.steps)
    demo.finish()
    print('next: ddpm sample --label "Ankle boot" --guidance 3      ddpm typicality --label Dress      ddpm --help')


def draw_classes(demo: Demo) -> tuple[np.ndarray, np.ndarray]:
    """Draw ten garments of each class."""
    m = demo.model
    c = np.repeat(np.arange(m.num_classes), 10)
    x = generate(m.eps, m.schedule, jax.random.key(0), m.image_shape, c, Sampling(steps=30, guidance=2.0))
    plot.save_rows(demo.out / "1_classes.png", np.split(x, m.num_classes), list(m.classes))
    demo.done(1, "ten garments of each class, drawn from noise: DDIM, 30 steps, guidance 2, seed 0", "1_classes.png")
    return x, c


def compare_samplers(demo: Demo) -> None:
    """Draw one garment of each class from the same noise with several samplers."""
    m, one_each = demo.model, np.arange(demo.model.num_classes)
    settings = [("ddim", 10), ("ddim", 20), ("ddim", 50), ("ddpm", 250)]
    rows = [
        generate(m.eps, m.schedule, jax.random.key(1), m.image_shape, one_each, Sampling(s, n)) for s, n in settings
    ]
    plot.save_rows(demo.out / "2_samplers.png", rows, [f"{s.upper()} {n} steps" for s, n in settings])
    what = "the same noise through DDIM with 10, 20, 50 steps, and through DDPM with 250 (which adds its own noise)"
    demo.done(2, what, "2_samplers.png")


def measure_typicality(demo: Demo, x: np.ndarray, c: np.ndarray) -> None:
    """Measure T(x|c) of the garments, and draw the maps, the most typical first."""
    m = demo.model
    T = typicality.measure(m.eps, m.schedule, x, c, jax.random.key(2), typicality.Draws(32))
    panels = []
    for k in range(m.num_classes):
        order = 10 * k + np.argsort(-T.value[10 * k : 10 * k + 10])
        panels.append((m.classes[k], x[order], T.map[order], T.value[order]))
    title = "T(x|c) x 1000, most typical first; red: knowing the class helps to denoise here"
    plot.save_typicality(demo.out / "3_typicality.png", panels, title)
    what = "what makes each class look like itself: typicality T(x|c) of those garments and its map, 32 draws"
    by_class = {m.classes[k]: round(float(T.value[c == k].mean()), 5) for k in range(m.num_classes)}
    demo.done(3, what, "3_typicality.png", mean_typicality=by_class, median_stderr=float(np.median(T.stderr)))


def train_on_digits(demo: Demo, steps: int) -> None:
    """Train a denoiser on digits, and compare it with the exact linear-Gaussian one."""
    out = demo.out
    shutil.rmtree(out / "digits", ignore_errors=True)  # the demo's own run starts afresh each time
    config = TrainConfig(
        "digits", "digits", "digits", steps, 64, lr=2e-3, warmup=50, log_every=10, save_every=steps, sample_every=0
    )
    folder = training_run.train(config, runs=out)
    exact = loop.baseline(folder, sources.load("digits"), make_schedule(config.schedule, config.T), True)
    plot.save_loss(out / "4_loss.png", tables.read_metrics(folder), exact)
    shutil.copy(next(folder.glob("samples_*.png")), out / "4_digits.png")
    loss, exact = digits_loss(folder, config)
    what = (
        f"a denoiser trained here on scikit-learn's digits, {steps} steps: loss {loss:.4f} on 297 test images; "
        f"the best linear-Gaussian denoiser has {exact:.4f}, exactly"
    )
    demo.done(4, what, "4_loss.png", test_loss=loss, linear_gaussian_test_loss=exact, samples="4_digits.png")


def digits_loss(folder: Path, config: TrainConfig, repeats: int = 8) -> tuple[float, float]:
    """Measure ε-MSE on the test digits: of the trained network, and of the exact Gaussian denoiser.

    Labels are given, and times are stratified.
    """
    from ddpm.evaluation.denoising_loss import eps_mse

    m, digits = model.load(folder), sources.load("digits")
    x, c = data.to_float(digits.x_test), digits.y_test
    exact = linear_loss(fit(data.to_float(digits.x_train), digits.y_train), m.schedule, x, c)[1:].mean()
    return float(eps_mse(m.eps, m.schedule, x, c, jax.random.key(3), repeats=repeats).value), float(exact)
