"""What version 0.2 set out to reach in quality and speed: each goal, the number before and now, and what limits it.

The page docs/goals.md is written from here by `python -m experiments.lab.readme_pages`. The numbers now are those of
the cards and of committed results; those before were committed by version 0.1, and are kept with their commits in
experiments/results/goals/before.json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm import weights

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results"
HELPED = "share with T(x|true class) > 0, t in (0.2T, 0.95T]"


@dataclass(frozen=True)
class Goal:
    """One goal.   better: -1 where less is better, 1 where more is;  before: None where it was not measured"""

    what: str
    goal: float
    now: float
    better: int
    before: float | None = None
    unit: str = ""
    limit: str = ""  # of a goal that is not reached: what limits it, and what was tried

    @property
    def reached(self) -> bool:
        """Is the number now, as it is printed, at the goal or beyond it?"""
        return self.better * (float(shown(self.now)) - self.goal) >= 0


def shown(value: float) -> str:
    """Three digits; four of what is above 1,000."""
    return f"{value:.4g}" if value >= 1000 else f"{value:.3g}"


def read(name: str) -> dict[str, Any]:
    """A committed result."""
    return json.loads((RESULTS / name).read_text())


def before(name: str) -> float:
    """A number that version 0.1 committed."""
    return read("goals/before.json")[name]["value"]


def row(name: str, what: str) -> float:
    """Our number in a row of an experiment's result."""
    return next(r["ours"] for r in read(f"{name}/metrics.json")["rows"] if r["what"] == what)


def seconds_to(goal: float, curve: list[dict[str, float]]) -> float:
    """The seconds at which the line through the last two measurements of a training has the test loss `goal`."""
    (t0, l0), (t1, l1) = ((row["seconds"], row["test_loss"]) for row in curve[-2:])
    return t0 + (t1 - t0) * (l0 - goal) / (l0 - l1)


def best_cell(model: str) -> dict[str, Any]:
    """The cell of `few_calls_models` with the least Fréchet distance for a model."""
    return min(cells(model), key=lambda k: k["frechet"])


def cells(model: str) -> list[dict[str, Any]]:
    """All cells of `few_calls_models` of a model."""
    return [k for k in read("few_calls_models/metrics.json")["numbers"]["cells"] if k["model"] == model]


def pictures() -> list[Goal]:
    """Goals of the two shipped models, 2,000 images each."""
    garments, cifar = (weights.cards("denoiser")[name] for name in ("fashion_mnist", "cifar10"))
    best, (low, high) = best_cell("cifar10"), garments["measures"]["accuracy"]["interval"]
    again = next(c for c in cells("cifar10") if c["method"] == "ddim, trailing" and c["calls"] == 50)
    long = (
        "The shipped network predicts ε and was not replaced: a training of the same length that continued fading "
        "Gaussians (`ddpm train --steps 14500 --predict gaussian --gaussian-fade 100 300`) was not better in all of "
        "these; its weights and numbers were not kept. It is a network of a million parameters at two pixels a "
        "position; a larger preset takes days on a processor."
    )
    below = "share with T < 0 beyond 1.96 standard errors"
    return [
        Goal("garments: test ε-MSE, of the best linear denoiser's", 0.49, garments["eps_mse_over_linear_gaussian"], -1,
             before("fashion_mnist ratio"), limit=long),
        Goal("garments: class accuracy", 0.975, garments["measures"]["accuracy"]["value"], 1,
             before("fashion_mnist accuracy"), limit=f"As above; its interval is {low:.3f} … {high:.3f}."),
        Goal("garments: Fréchet distance", 2.0, garments["measures"]["frechet"]["value"], -1,
             before("fashion_mnist frechet"), limit="As above."),
        Goal("garments: share with T(x\\|true class) > 0", 0.95, row("typicality_sign", HELPED), 1,
             limit=f"Only {100 * row('typicality_sign', below):.1f} % have T < 0 beyond 1.96 standard errors of their "
             "draws; for the rest the draws are too few to tell."),
        Goal("CIFAR-10: class accuracy", 0.85, cifar["measures"]["accuracy"]["value"], 1, before("cifar10 accuracy")),
        Goal("CIFAR-10: Fréchet distance as it is drawn by default", 50, cifar["measures"]["frechet"]["value"], -1,
             before("cifar10 frechet"),
             limit="One seed; with the two seeds of `few_calls_models`, drawn in the same way, it is "
             f"{again['frechet']:.1f} ± {again['error']:.1f}. The least of its {len(cells('cifar10'))} cells is "
             f"{best['frechet']:.1f} ± {best['error']:.1f}, with {best['calls']} calls of "
             f"{best['method'].replace('dpm_2m', 'DPM-Solver++(2M)')}. The images are less varied than photographs: "
             f"precision {cifar['measures']['precision']['value']:.2f}, recall "
             f"{cifar['measures']['recall']['value']:.2f}; less guidance gives a larger distance (the card's note)."),
        Goal("CIFAR-10: million parameters", 3, cifar["parameters"] / 1e6, -1, before("cifar10 parameters") / 1e6),
    ]  # fmt: skip


def speed() -> list[Goal]:
    """Goals of start, step and sampling on two cores."""
    r = read("speed/metrics.json")
    step, start = r["training_step"], r["startup"]
    to_loss = read("time_to_loss/metrics.json")
    spent = {
        k: seconds_to(to_loss["goal"], v["curve"]) + v["first_step_or_compile_seconds"]
        for k, v in to_loss["sides"].items()
        if v["reached"]
    }
    ours = min(seconds for name, seconds in spent.items() if name.startswith("ddpm"))
    peer = min(seconds for name, seconds in spent.items() if not name.startswith("ddpm"))
    empty, filled = "cache_empty", "cache_filled"
    gb = lambda preset, cache: start[preset][cache]["peak_MiB"] * 2**20 / 1e9  # noqa: E731
    compiler = "What the compiler holds; without XLA's fusion emitters it holds less, and takes longer."
    convolution = "XLA's gradients of convolutions are slower than oneDNN's on this processor (docs/speed.md)."
    imports = {
        cache: f"Importing takes {start['image'][cache]['import_seconds']:.1f} s of it; the rest is one program, "
        for cache in (empty, filled)
    }
    return [
        Goal("training step of `small` compiled, empty cache", 15, start["small"][empty]["compile_seconds"], -1,
             before("small compile cold"), "s", compiler),
        Goal("the same from the cache", 4, start["small"][filled]["compile_seconds"], -1,
             before("small compile cached"), "s"),
        Goal("its most memory, empty cache", 1.3, gb("small", empty), -1,
             before("small peak cold") * 2**20 / 1e9, "GB", compiler),
        Goal("the same from the cache", 1.3, gb("small", filled), -1,
             before("small peak cached") * 2**20 / 1e9, "GB", "The step's own temporary arrays are about half of it."),
        Goal("training step of `cpu` compiled, empty cache", 8, start["cpu"][empty]["compile_seconds"], -1, None, "s",
             "XLA's own passes, and LLVM at its first level of optimisation."),
        Goal("its most memory, empty cache", 0.9, gb("cpu", empty), -1, None, "GB", compiler),
        Goal("first image, empty cache", 5, start["image"][empty]["first_image_seconds"], -1,
             before("first image cold"), "s", imports[empty] + "compiled."),
        Goal("first image from the cache", 2.5, start["image"][filled]["first_image_seconds"], -1,
             before("first image cached"), "s", imports[filled] + "traced and read."),
        Goal("speed of a training step over diffusers'", 1.0, step["ratio"], 1, before("step eager"), "", convolution),
        Goal("over diffusers' under torch.compile", 1.0, step["ratio_diffusers_compiled"], 1,
             before("step compiled"), "", convolution),
        Goal("over lucidrains'", 1.0, step["ratio_lucidrains"], 1, before("step lucidrains"), "", convolution),
        Goal("speed of DDIM over diffusers' under torch.compile", 1.0, r["ddim"]["ratio_diffusers_compiled"], 1,
             before("ddim compiled"), "", "XLA's 3x3 convolutions; `forward_forms` has other forms that were tried."),
        Goal("time to a test loss over the best of PyTorch, compilation counted", 1.5, peer / ours, 1, None, "",
             "The step itself; fewer steps are needed here (`experiments.lab.time_to_loss`)."),
    ]  # fmt: skip


def project() -> list[Goal]:
    """Goals of what a newcomer and a contributor wait for."""
    path = RESULTS / "speed" / "project.json"
    if not path.exists():
        return []
    r = json.loads(path.read_text())
    once = "One run; the processor's speed differs from day to day."
    return [
        Goal("`make demo` after the install", 90, r["demo"]["seconds"], -1, None, "s",
             f"{r['demo']['processor_seconds']:.0f} s of processor time. {once}"),
        Goal("`make test` with empty caches", 10, r["test"]["seconds"] / 60, -1, None, "min",
             f"{r['test']['passed']:,} tests, {r['test']['processor_seconds'] / 60:.0f} min of processor time. {once}"),
        Goal("most memory of one of its processes", 2.5, r["test"]["most_MiB_of_a_process"] * 2**20 / 1e9, -1,
             None, "GB"),
    ]  # fmt: skip


def table(goals: list[Goal]) -> list[str]:
    """A row for each goal."""
    rows = ["| | goal | before | now | reached? |", "|---|---|---|---|---|"]
    for g in goals:
        sign, unit = "≤" if g.better < 0 else "≥", f" {g.unit}" if g.unit else ""
        was = "" if g.before is None else f"{shown(g.before)}{unit}"
        verdict = "yes" if g.reached else f"no. {g.limit}".strip()
        rows.append(f"| {g.what} | {sign} {shown(g.goal)}{unit} | {was} | {shown(g.now)}{unit} | {verdict} |")
    return rows


def page() -> str:
    """docs/goals.md"""
    device = read("speed/metrics.json")["device"]
    parts = {
        "Pictures": (pictures(), "2,000 images of each shipped model, in the shipped classifiers' features: "
                     "[the card](card.md), `ddpm info MODEL`, and the experiment `few_calls_models`; the shares with "
                     "T > 0 are those of 1,000 test images (`typicality_sign`) and of 200 (`cifar10_small`). What has "
                     "become worse: on CIFAR-10 the share of test images with "
                     f"T(x\\|true class) > 0 is {row('cifar10_small', HELPED):.2f}, and was "
                     f"{before('cifar10 helped'):.2f}. The network continues the Gaussian of each class, and those "
                     "differ at low noise as well. On garments Gaussians that fade there end with less loss at low "
                     "noise, and T > 0 is no rarer (`priors`); on CIFAR-10 they were not tried."),
        "Start and speed": (speed(), f"On {device}, by `python -m experiments.lab.speed` and `python -m "
                            "experiments.lab.time_to_loss`; ratios are taken inside one run. More: [speed](speed.md)."),
        "The project": (project(), f"On {device}, by `python -m experiments.lab.speed.project`."),
    }  # fmt: skip
    lines = [
        "# What version 0.2 set out to reach",
        "",
        "Goals that were set before the work, with the number that version 0.1 had, where it was measured, and the one "
        "that this version has. The reference runs, bands and intervals are on the cards.",
    ]
    for title, (goals, about) in parts.items():
        if goals:
            lines += ["", f"## {title}", "", about, "", *table(goals)]
    return "\n".join([*lines, "", "This page is written by `python -m experiments.lab.readme_pages`."])
