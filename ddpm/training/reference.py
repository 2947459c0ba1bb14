"""Compare the loss of a run with reference runs, window by window, within a ±2σ band.

    log L_run(b) - log L_ref(b) ~ N(0, σ_b²),   σ_b² = (r²/w + s²) (1 + 1/S)

b: a window of w steps;  r: relative standard deviation of the loss of one step (times and noise are drawn anew at each
step);  s: the relative spread between seeds beyond that;  S: the number of reference runs. r is measured within each
run from neighbouring rows, s between seeds; with one seed, s is taken from a reference with several, as the file notes.
The band is ±2σ: about one window in twenty of a run that is equivalent to the reference lies outside it.

References are JSON files in ddpm/reference, made by `python -m experiments.reference_runs.collect`.
"""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddpm.tools import check
from ddpm.tools.files import read_json
from ddpm.training.config import TrainConfig

FOLDER = Path(__file__).parent / "references"
# The fields that make two runs different, besides the network and the data. With other `steps` or `decay` the learning
# rate falls at another time, so only the steps before it are compared.
MATTERS = (
    *("data", "preset", "batch", "lr", "lr_schedule", "warmup", "clip", "p_uncond", "conditional", "schedule", "T"),
    *("flip", "dtype", "predict", "loss", "variance", "importance", "path", "times", "coupling"),
)
SIZE = ("loss", "path", "times")  # losses that differ in these are of another size and are not compared


@dataclass(frozen=True)
class Reference:
    """Smoothed loss curves of one or more runs, and the spread expected around their mean."""

    name: str
    summary: str
    train: dict[str, Any]
    unet: dict[str, Any]
    edges: np.ndarray  # (n+1,) the steps that bound the windows
    loss: np.ndarray  # (S, n) mean loss of each run in each window
    noise_per_step: float  # r
    seed_spread: float  # s

    @property
    def log_mean(self) -> np.ndarray:
        """Mean of the log loss over the runs: (n,)"""
        return np.log(self.loss).mean(0)

    def sigma(self, windows: int = 1) -> np.ndarray:
        """Compute σ_b (n,) of the mean over `windows` neighbouring windows.

        The spread between seeds is not averaged out, because it persists for longer than one window.
        """
        noise = self.noise_per_step**2 / (windows * np.diff(self.edges))
        return np.sqrt((noise + self.seed_spread**2) * (1 + 1 / len(self.loss)))


@dataclass(frozen=True)
class Comparison:
    """The windows of a run compared with those of a reference."""

    end: np.ndarray  # (k,) the last step of each complete window
    loss: np.ndarray  # (k,)
    log_ratio: np.ndarray  # (k,) log L_run - log L_ref
    sigma: np.ndarray  # (k,)
    recent: tuple[float, float, int]  # mean log ratio of the last few windows, its σ, and how many
    differences: tuple[str, ...]  # the options that differ between the runs

    @property
    def inside(self) -> np.ndarray:
        """True for the windows inside the ±2σ band: (k,)"""
        return np.abs(self.log_ratio) <= 2 * self.sigma


def references() -> dict[str, dict]:
    """Return the contents of all reference files, by name."""
    return {p.stem: read_json(p) for p in sorted(FOLDER.glob("*.json"))}


def load(name: str) -> Reference:
    """Load a reference by its name."""
    about = references()[check.choice("reference", name, references())]
    return Reference(
        name,
        about["summary"],
        about["train"],
        about["unet"],
        np.array(about["edges"], dtype=float),
        np.array(about["loss"], dtype=float),
        about["noise_per_step"],
        about["seed_spread"],
    )


def window_means(step: Any, loss: Any, edges: Any) -> np.ndarray:
    """Average the loss over each window that is fully covered: (rows,), (rows,), (n+1,) -> (k <= n,).

    A row holds the mean over the steps since the previous row; a row across an edge is split in proportion.
    """
    step, edges = np.concatenate([[0.0], np.asarray(step, float)]), np.asarray(edges, float)
    total = np.concatenate([[0.0], np.cumsum(np.asarray(loss, float) * np.diff(step))])
    edges = edges[edges <= step[-1]]
    return np.diff(np.interp(edges, step, total)) / np.diff(edges)


def step_noise(step: Any, loss: Any) -> float:
    """Estimate r, the standard deviation of log L of one step, from neighbouring rows.

    The first fifth of the run is left out. Neighbours share the trend but not the noise, so
    Var(log l_i - log l_{i+1}) = r² (1/k_i + 1/k_{i+1}), with k steps per row.
    """
    step, loss = np.asarray(step, float), np.asarray(loss, float)
    k = np.diff(step, prepend=0.0)
    late = step > step[-1] / 5
    d, weight = np.diff(np.log(loss[late])), (1 / k[late][1:] + 1 / k[late][:-1])
    if len(d) < 5:
        raise ValueError(f"too few rows ({len(step)}) to measure how the loss varies; use a smaller --log-every")
    return float(np.sqrt((d**2 / weight).mean()))


def seed_spread(means: np.ndarray, noise: float, width: float) -> float:
    """Estimate s, the relative spread of window means (S, n) between seeds beyond the noise of their steps."""
    late = np.log(means[:, means.shape[1] // 10 :])
    return float(np.sqrt(max(0.0, late.var(0, ddof=1).mean() - noise**2 / width)))


def read(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Read (step, loss, config) from a run's folder or a metrics.csv; without a file, the config is empty."""
    file = path if path.suffix == ".csv" else path / "metrics.csv"
    if not file.exists():
        raise ValueError(f"{file} is missing; give a folder that `ddpm train` made, or a metrics.csv")
    try:
        with open(file, newline="", encoding="utf-8") as f:
            rows = [(float(r["step"]), float(r["loss"])) for r in csv.DictReader(f) if r["step"] and r["loss"]]
    except (ValueError, KeyError, csv.Error) as e:
        raise ValueError(f"{file} is not a table with numbers in the columns step and loss ({e})") from None
    if not rows:
        raise ValueError(f"{file} has no rows yet; let the run reach its first --log-every")
    step, loss = np.array(rows).T
    config = file.parent / "config.json"
    return step, loss, read_json(config) if config.exists() else {}


def choose(name: str, config: dict[str, Any]) -> Reference | None:
    """Return the named reference, or the one with the same data, preset and loss; None if there is none."""
    if name:
        return load(name)
    train = config.get("train", {})
    fit = [
        k
        for k, r in references().items()
        if all(r["train"][f] == train.get(f) for f in ("data", "preset"))
        and all(_field(train, f) == _field(r["train"], f) for f in SIZE)
    ]
    return load(fit[0]) if fit else None


def alone(step: np.ndarray, loss: np.ndarray, base: float | None = None, zero: float | None = None) -> str:
    """Describe a loss that has no reference: its last fifth, next to a Gaussian's, and whether it still falls.

    base: the exact loss of the best linear-Gaussian denoiser;  zero: that of a network whose output is 0. By noise
    alone the log ratio of the two halves of the last fifth has the deviation r √(2/w), with w steps each.
    """
    last = float(step[-1])
    edges = last * np.array([0.8, 0.9, 1.0])
    first, second = window_means(step, loss, edges)
    mean = (first + second) / 2
    lines = [f"steps {edges[0]:,.0f} to {last:,.0f}: loss {mean:.4f}"]
    if base is not None:
        ratio = mean / base
        apart = f"{100 * (1 - ratio):.1f} % below" if ratio < 1 else f"{ratio:.3g} times"
        learned = "it has learned more than a Gaussian knows" if ratio < 1 else "a Gaussian still denoises better"
        lines.append(f"This is {apart} the exact loss of the best linear-Gaussian denoiser, {base:.4f}: {learned}.")
    if zero is not None:
        lines.append(f"A network whose output is 0, as a new one's is, has {zero:.4f}.")
    try:
        sigma = step_noise(step, loss) * np.sqrt(2 / (edges[1] - edges[0]))
    except ValueError as e:
        return "\n".join([*lines, f"Whether it still falls cannot be said: {e}"])
    change = float(np.log(second / first))
    words = (
        f"The second half of these steps is {abs(100 * np.expm1(change)):.1f} % {'below' if change < 0 else 'above'}"
    )
    means = "it still falls: more steps will help" if change < 0 else "it rises: try a smaller learning rate"
    means = means if abs(change) > 2 * sigma else "no more than its noise"
    return "\n".join([*lines, f"{words} the first, {abs(change) / sigma:.1f} σ: {means}."])


def compare(step: Any, loss: Any, config: dict[str, Any], reference: Reference) -> Comparison:
    """Compare the windows of a run with a reference, as long as both share the learning rate."""
    # differences of configuration
    train, unet = config.get("train", {}), config.get("unet", {})
    pairs = [(f, _field(train, f), _field(reference.train, f)) for f in MATTERS if train]
    pairs += [(f"unet.{f}", unet.get(f), v) for f, v in reference.unet.items() if unet]
    differences = [f"{f} is {ours!r}, the reference's {its!r}" for f, ours, its in pairs if ours != its]
    # windows with the same learning rate
    edges = reference.edges
    if train and any(train[f] != reference.train[f] for f in ("steps", "decay")):
        fall = min((1 - t["decay"]) * t["steps"] for t in (train, reference.train))
        edges = edges[edges <= fall]
        differences.append(f"its learning rate falls at another step: only the first {fall:,.0f} steps are compared")
    ours = window_means(step, loss, edges)
    k = len(ours)
    if k == 0:
        raise ValueError(
            f"step {np.max(step):,.0f} is too early: the first window of {reference.name} ends at step {edges[1]:,.0f}"
            if len(edges) > 1
            else f"nothing to compare: {'; '.join(differences)}"
        )
    # log ratios, window by window and over the last five
    ratio, last = np.log(ours) - reference.log_mean[:k], min(5, k)
    recent = float(ratio[-last:].mean()), float(reference.sigma(last)[k - 1]), last
    return Comparison(edges[1 : k + 1], ours, ratio, reference.sigma()[:k], recent, tuple(differences))


def _field(train: dict[str, Any], name: str) -> Any:
    """Return a field of a run's configuration, or its default if the file predates the field."""
    return train.get(name, getattr(TrainConfig, name, None))


def verdict(c: Comparison, reference: Reference) -> str:
    """Describe a comparison in words."""
    # the last window
    here, sigma = c.log_ratio[-1], c.sigma[-1]
    expected = float(np.exp(np.log(c.loss[-1]) - here))
    low, high = expected * np.exp(-2 * sigma), expected * np.exp(2 * sigma)
    begin = c.end[-2] if len(c.end) > 1 else 0
    where = "inside" if c.inside[-1] else "above" if here > 0 else "below"
    lines = [
        f"steps {begin:,.0f} to {c.end[-1]:,.0f}: loss {c.loss[-1]:.4f}, {reference.name} {expected:.4f}, "
        f"band {low:.4f} … {high:.4f}: {where} the band",
        f"windows inside so far: {c.inside.sum()} of {len(c.end)} (95 % expected of a run just like it)",
    ]
    # the last few windows together
    mean, sd, n = c.recent
    change = f"{abs(100 * np.expm1(mean)):.1f} % {'above' if mean > 0 else 'below'}"
    if abs(mean) <= 2 * sd:
        lines.append(
            f"The last {n} windows together are {change} the reference, {abs(mean) / sd:.1f} σ: as it should be."
        )
    elif mean > 0:
        lines.append(f"The last {n} windows together are {change} the reference, {mean / sd:.1f} σ: {_worse(c)}")
    else:
        lines.append(
            f"The last {n} windows together are {change} the reference, {-mean / sd:.1f} σ: it learns better than the "
            "reference did, or its task is easier: another schedule, other weights of the times, other data?"
        )
    # differences of configuration, as a caveat
    if c.differences:
        lines.append("Not the same training, so the band is only for orientation: " + "; ".join(c.differences))
    return "\n".join(lines)


def _worse(c: Comparison) -> str:
    if c.loss[-1] > 0.9:
        return (
            "the network predicts next to nothing (ε̂ = 0 has a loss of 1). Is the learning rate 0, the input constant?"
        )
    if len(c.loss) > 3 and c.loss[-1] > 1.2 * c.loss.min():
        return "it was better before: it is diverging. Try a smaller learning rate or gradient clipping."
    return "it learns, but worse. Look at the learning rate, the scaling of the images to [-1, 1], and how t enters."


def as_json(reference: Reference, about: dict[str, Any]) -> dict[str, Any]:
    """Return the contents of a reference file, with five digits per number."""
    fields = {f.name: getattr(reference, f.name) for f in dataclasses.fields(reference)}
    lists = {
        "edges": reference.edges.astype(int).tolist(),
        "loss": [[float(f"{x:.5g}") for x in r] for r in reference.loss],
    }
    return about | fields | lists
