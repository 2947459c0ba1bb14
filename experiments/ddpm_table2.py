"""DDPM's Table 2, small: what the network predicts, and with which loss.

Ho et al. compare networks that predict ε or the mean μ of the reverse step, trained on the bound L or on a plain mean
square (for ε: L_simple). On CIFAR-10 ε with L_simple has by far the best FID, both with L are alike, μ with a plain
mean square fails, and L has slightly better bits/dim than L_simple. They write that predicting x0 did worse. We train a
small network with two seeds for each at an equal, small budget (`lab.small_trainings`), with the linear schedule, on
Fashion-MNIST, with classes given. Images are drawn by DDIM from the same noises; the Fréchet distance in the shipped
classifier's features takes the place of FID; bits/dim are those of the bound with either fixed variance, β and β̃. The
exact column is the best linear denoiser of each class. "order" rows are 1 where the paper's claim holds here. The
papers' FID and bits are those of CIFAR-10 after 800,000 steps, in other units: only the order can be compared.

What we see: of the networks that predict ε, L_simple is better than L in distance, by far, as in the paper; but in
bits/dim as well, by .22, where the paper has L ahead by .05: L weights the small t most, and so few steps are not
enough to learn them (at 1,200 steps the difference was .39). Networks that predict μ are far behind with either loss:
an error in μ is one of ε times √α√(1-ᾱ)/β, which is large, and their images are still noise (whose distance is near
970), so the paper's order of the two cannot be seen. What does not carry over at all is x0: it has by far the best
images here, two in three of the requested class, with the worst bits. A network that predicts x0 draws smooth pictures
at once, and ε̂ follows from it with an error times √ᾱ/√(1-ᾱ), which at small t spoils the bound but is not visible; one
that predicts ε must first learn to return its input almost unchanged, or a fine grid of noise is left. Distances are a
hundred times the floor and more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ddpm import plot
from experiments.lab.runner import Result, Row
from experiments.lab.small_trainings import Small, family
from experiments.lab.training_scores import bits, budget, error, held_out, judge_of, linear_error, mean_range, scores

PAPER = "Ho et al. 2020, Tables 1 and 2 (CIFAR-10)"
MINUTES = 21
# recipe: (its name in the table, FID, bits/dim)
RUNS: dict[str, tuple[str, float | None, float | None]] = {
    "linear": ("ε, L_simple", 3.17, 3.75),
    "linear, ε, L": ("ε, L", 13.51, 3.70),
    "linear, μ, L": ("μ, L", 13.22, None),
    "linear, μ, mse": ("μ, mean square", None, None),
    "linear, x0, mse": ("x0, mean square", None, None),
}


@dataclass(frozen=True)
class Config(Small):
    """The trainings' budget, images drawn from each, steps of DDIM, test images of ε-MSE and of the bound."""

    n: int = 500
    draw_steps: int = 20
    n_test: int = 500
    n_bits: int = 200


QUICK = {"data": "digits", "preset": "digits", "steps": 4, "batch": 8, "seeds": 1, "n": 40, "draw_steps": 2}
QUICK |= {"n_test": 20, "n_bits": 10}


def run(config: Config) -> Result:
    """Measure every objective with each seed."""
    judge, runs = judge_of(config.data), family(config, RUNS)
    (x, c), (x_b, c_b) = (held_out(config.data, n) for n in (config.n_test, config.n_bits))
    rows = [
        Row(f"Fréchet distance, floor: {config.n} test images", None, None, judge.floor(config.n)),
        Row("ε-MSE, best linear denoiser", None, linear_error(config.data, "linear", x, c), None),
    ]
    found: dict[str, dict[str, list[float]]] = {}
    for recipe, (name, fid, paper_bits) in RUNS.items():
        models = [r.model() for r in runs[recipe]]
        drawn = [scores(judge, m, config.n, config.draw_steps) for m in models]
        large, small = ([bits(m, x_b, c_b, v) for m in models] for v in ("fixed_large", "fixed_small"))
        of = {
            "distance": [s.frechet for s in drawn],
            "accuracy": [s.accuracy for s in drawn],
            "mse": [error(m, x, c) for m in models],
            "beta": [b for b, _ in large],
            "beta_tilde": [b for b, _ in small],
        }
        found[name] = of
        rows += [
            Row(f"{name}: Fréchet distance", fid, None, *mean_range(of["distance"])),
            Row(f"{name}: class accuracy", None, None, *mean_range(of["accuracy"])),
            Row(f"{name}: ε-MSE", None, None, *mean_range(of["mse"])),
            Row(f"{name}: bits/dim, σ² = β", paper_bits, None, *mean_range(of["beta"])),
            Row(f"{name}: bits/dim, σ² = β̃", None, None, *mean_range(of["beta_tilde"])),
            Row(f"{name}: bits/dim, standard error over images", None, None, max(e for _, e in large)),
        ]
    rows += orders(found)
    numbers = {
        "found": found,
        "n": config.n,
        "n_test": config.n_test,
        "n_bits": config.n_bits,
        "budget": budget(config),
    }
    return Result(rows, None, numbers)


def orders(found: dict[str, dict[str, list[float]]]) -> list[Row]:
    """The paper's claims: 1 where a claim holds for all seeds, else the share of seeds."""

    def share(name: str, a: list[float], b: list[float]) -> Row:
        return Row(f"order: {name}, share of seeds", 1.0, None, float(np.mean(np.less(a, b))))

    simple, bound = found["ε, L_simple"], found["ε, L"]
    return [
        share("ε, L_simple has a better distance than ε, L", simple["distance"], bound["distance"]),
        share("ε, L_simple has a better distance than μ, L", simple["distance"], found["μ, L"]["distance"]),
        share("ε, L_simple has a better distance than x0", simple["distance"], found["x0, mean square"]["distance"]),
        share("μ, mean square is worse than μ, L", found["μ, L"]["distance"], found["μ, mean square"]["distance"]),
        share("ε, L has better bits/dim than ε, L_simple", bound["beta"], simple["beta"]),
    ]


def redraw(rows: list[dict[str, Any]], numbers: dict[str, Any]) -> Any:
    """Draw a line for each objective: distance on the left, bits/dim on the right, a mark for each seed."""
    found = numbers["found"]
    names = list(found)[::-1]
    with plot.style():
        figure = plot.new_figure(9.2, 3.2)
        left, right = figure.subplots(1, 2, sharey=True)
        y = np.arange(len(names))
        for ax, keys in ((left, ["distance"]), (right, ["beta", "beta_tilde"])):
            for key, mark, colour, label in zip(keys, "os", ["#1b4f72", "#c0392b"], ["σ² = β", "σ² = β̃"], strict=False):
                for i, name in enumerate(names):
                    values = found[name][key]
                    ax.plot([min(values), max(values)], [i, i], color=colour, linestyle="-", linewidth=1)
                    named = label if i == 0 and ax is right else None
                    face = colour if mark == "o" else "none"
                    ax.plot(values, [i] * len(values), mark, color=colour, markerfacecolor=face, label=named)
        left.set_yticks(y, names)
        left.set_title(f"test images: {rows[0]['ours']:.2g}", fontsize=8)
        left.set(xlabel=f"Fréchet distance, features ({numbers['n']} images)")
        right.set(xlabel=f"bits/dim, bound ({numbers['n_bits']} test images)", xscale="log")
        right.legend()
        figure.suptitle(f"{numbers['budget']}; a mark for each seed", fontsize=9)
    return figure
