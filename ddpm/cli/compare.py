"""`ddpm compare`: a run's loss next to a reference run's, in words and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ddpm import plot
from ddpm.cli import options
from ddpm.tools.files import check_writable, read_json
from ddpm.training.reference import Comparison, Reference, alone, choose, compare, read, references, verdict


def run(command: options.Compare) -> Comparison | None:
    """Print the verdict and draw the picture."""
    check_writable(command.out)
    step, loss, config = read(command.run)
    reference = choose(command.reference, config)
    if reference is None:
        without(command, step, loss, config)
        return None
    c = compare(step, loss, config, reference)
    print(f"{command.run} compared with {reference.name}: {reference.summary}")
    print(verdict(c, reference))
    save_picture(command.out, step, loss, c, reference)
    print(f"picture: {command.out}")
    return c


def without(command: options.Compare, step: np.ndarray, loss: np.ndarray, config: dict[str, Any]) -> None:
    """Judge the loss without a reference run: print the verdict, and draw the loss with the Gaussian's."""
    train = config.get("train", {})
    what = f"{train['data']} with preset {train['preset']}{_loss(train)}" if train else "a run without its config.json"
    file = command.run / "baseline.json"
    known = read_json(file) if file.is_file() else {}
    base = known.get("linear_gaussian_loss")
    print(f"no reference for {what}; those that --reference names: {', '.join(references()) or 'none are here'}")
    print(alone(step, loss, base, known.get("loss_of_zero")))
    plot.save_loss(command.out, {"step": step, "loss": loss}, base, *(["loss"] if _loss(train) else []))
    print(f"picture: {command.out}")


def _loss(train: dict[str, Any]) -> str:
    """Say which loss was trained, if it is not ‖ε - ε̂‖² on a schedule with uniform times."""
    wanted = {"predict": "eps", "loss": "simple", "path": "", "times": "uniform"}
    words = [f"{k} {train[k]}" for k, usual in wanted.items() if train.get(k, usual) != usual]
    return f" and {', '.join(words)}" if words else ""


def save_picture(path: Path, step: np.ndarray, loss: np.ndarray, c: Comparison, reference: Reference) -> None:
    """Draw the curve in the band, and below it the ratio to the reference."""
    with plot.style():
        figure = plot.new_figure(7.2, 5.4)
        top, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        middle = (reference.edges[1:] + reference.edges[:-1]) / 2
        sigma, mean = reference.sigma(), reference.log_mean
        top.fill_between(middle, np.exp(mean - 2 * sigma), np.exp(mean + 2 * sigma), color="#d6e4f0", label="band, ±2σ")
        top.plot(
            middle, np.exp(mean), color="#1b4f72", linestyle="--", label=f"reference, {len(reference.loss)} run(s)"
        )
        top.plot(step, loss, color="#e6b0aa", linewidth=0.8, linestyle="-", zorder=1)
        k = len(c.end)
        top.plot(middle[:k], c.loss, color="#c0392b", marker="o", markersize=3, linestyle="-", label="this run")
        top.set(ylabel="loss (ε-MSE)", yscale="log", title=reference.name, ylim=_limits(reference, c))
        top.legend()
        below.fill_between(middle, -200 * sigma, 200 * sigma, color="#d6e4f0")
        below.axhline(0, color="#1b4f72", linestyle="--")
        below.plot(middle[:k], 100 * np.expm1(c.log_ratio), color="#c0392b", marker="o", markersize=3, linestyle="-")
        below.set(xlabel="step", ylabel="loss above the\nreference, %")
        plot.save_figure(path, figure)


def _limits(reference: Reference, c: Comparison) -> tuple[float, float]:
    both = np.concatenate([reference.loss.ravel(), c.loss])
    return 0.9 * float(both.min()), 1.15 * float(both.max())
