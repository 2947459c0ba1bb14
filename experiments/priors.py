"""One formula, three priors: a network that continues where the denoiser of a Gaussian stops, at an equal budget.

Salimans and Ho's v and Karras et al.'s preconditioning are one formula, ε̂ = ε_G(x_t) + s_t net(x_t), with N(0, I) and
N(m, σ² I) for G (`ddpm.networks.skip`). Nothing in it asks for so little knowledge: G may have the large directions of
the data, or those of each class; the network may see its estimate of x0 as further channels of its input; and G may
fade into N(m, σ² I) at low noise, between t = 300 and 100 (`--gaussian-fade 100 300`). We train a small network with
two seeds for each, the loss of ε, the cosine schedule and the labels given, on Fashion-MNIST (`lab.small_trainings`),
and measure it after 1,000, 3,000 and 10,000 steps: ε-MSE, also in parts of 1…T, images drawn by DDIM with guidance 2 in
the shipped classifier's features, and the share of test images whose own label helps to denoise them, T(x|c) > 0 on
(.1T, .7T]. The exact column is the loss of the Gaussian's own denoiser on the test images, which the network has before
its first step. The network that predicts ε starts at 1.

Flow matching on the linear path is compared too, trained on the error of its velocity. It has another chain, so its ε̂
is evaluated at the times whose ᾱ_t are nearest to those of the cosine schedule; images are drawn on its own chain. With
a network of zeros it predicts ε̂ = x_τ, whose error is exact as well. Flow and two Gaussians that the classes share are
trained for 3,000 steps only. The last rows are factors in steps: how many times fewer each one needs for the ε-MSE that
ε has after as many.

What we see: in the mean over t little happens, and less the longer one trains. After 10,000 steps v is .7 % below ε,
N(m, σ² I) and a Gaussian for each class whose x̂0 the network sees are level with it; the Gaussian that fades is 2.4 %
below (4.8 % after 1,000 steps), for which it needs 1.17 times fewer steps. But the mean is that of small t. At the
highest noise v and N(m, σ² I) have .72 of the error of ε and the classes' Gaussians .65, and that is where an image
gets its class. So the pictures differ as the losses do not: the distances are 231 for ε, 73 and 70 for v and N(m, σ²
I), and 14.5 ± 2 for the classes' Gaussians (19 where they fade); .58, .86, .87, .985 and .966 of the images have their
class. After a tenth of the steps the classes' Gaussians are already at 37 and .976.

With a rich Gaussian its x̂0 belongs in the input. A network that does not see it ends 17 % above ε, and a quarter at
t of .1T to .3T; .993 of its pictures have their class, but their distance hardly falls, from 34 to 24. What the
classes' Gaussians cost at the lowest noise, 3 %, is repaired where they fade: 2 % less than ε.

Typicality keeps its sign: .84 to .89 of the test images have T > 0 at the end, most with the classes' Gaussians that
the network sees (.885, fading .890). The difference to ε (.843) is within two standard errors of a share of 200 images.
Directions that the classes share cost it: .745 after 3,000 steps, where ε has .857.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ddpm import data, plot, typicality
from ddpm.datasets import sources
from ddpm.evaluation.denoising_loss import eps_mse
from ddpm.networks.skip import ramp
from ddpm.oracles import low_rank
from ddpm.schedule import Schedule, cosine
from experiments.lab.runner import Result, Row
from experiments.lab.small_trainings import RECIPES, Small, family
from experiments.lab.training_scores import budget, error, held_out, judge_of, mean_range, on_chain, scores
from experiments.min_snr import speed_up

PAPER = "Salimans and Ho 2022, Appendix D; Karras et al. 2022, Sec. 5"
MINUTES = 130
FLOW, FADES = "flow", "fades"
# recipe: (its name in the table, the kind of its Gaussian in `low_rank.fit`)
RUNS = {
    "cosine": ("ε", None),
    "v": ("v, N(0, I)", "unit"),
    "gaussian, isotropic, unseen": ("N(m, σ² I)", "isotropic"),
    "gaussian, class, unseen": ("a Gaussian for each class", "class"),
    "gaussian, class": ("the same, its x̂0 in the input", "class"),
    "gaussian, class, fades": ("and fading below t = 300", FADES),
    "flow": ("flow, linear path", FLOW),
    "gaussian, one": ("one Gaussian, its x̂0 in the input", "one"),
    "gaussian, pooled": ("pooled directions, x̂0 in the input", "pooled"),
}
SHORT = ("flow", "gaussian, one", "gaussian, pooled")  # trained for fewer steps
BINS = ((1, 1), (2, 3), (4, 6), (7, 8), (9, 10))  # tenths of 1…T that belong together
PARTS = ("-.1T", "-.3T", "-.6T", "-.8T", "-T")
MEASURES = (
    ("mse", "ε-MSE"),
    ("distance", "Fréchet distance"),
    ("accuracy", "class accuracy"),
    ("helped", "share with T(x|true class) > 0"),
)


@dataclass(frozen=True)
class Config(Small):
    """Priors, the budget of their trainings, images drawn, steps of DDIM, test images of ε-MSE and of typicality.

    at: the steps after which all is measured;  short: the most steps of the priors in `SHORT`
    """

    steps: int = 10_000
    every: int = 1000
    at: tuple[int, ...] = (1000, 3000, 10_000)
    short: int = 3000
    priors: tuple[str, ...] = tuple(RUNS)
    n: int = 500
    draw_steps: int = 20
    guidance: float = 2.0
    n_test: int = 500
    n_typical: int = 200
    draws: int = 24


QUICK = {"data": "digits", "preset": "digits", "steps": 4, "every": 1, "at": (1, 2, 4), "short": 2, "batch": 8}
QUICK |= {"seeds": 1, "n": 40, "draw_steps": 2, "n_test": 20, "n_typical": 10, "draws": 4}
QUICK |= {"priors": ("cosine", "gaussian, class", "flow")}


def first_loss(kind: str | None, name: str, x: np.ndarray, c: np.ndarray) -> float:
    """The exact ε-MSE of the Gaussian's own denoiser on images x, the mean over t; 1 where nothing is known."""
    if kind is None:
        return 1.0
    d, schedule = sources.load(name), cosine(1000)
    if kind == FLOW:  # û = 0: ε̂ = x_τ = (1-τ) x0 + τ ε, so E‖ε - ε̂‖²/D = (1-τ)² (‖x0‖²/D + 1)
        a, b = np.sqrt(schedule.alpha_bar[1:]), schedule.std[1:]
        return float(((a / (a + b)) ** 2).mean() * ((x**2).mean() + 1))
    train = np.asarray(data.to_float(d.x_train))
    if kind == "unit":
        return float(low_rank.isotropic(x[0].size).loss_on(schedule, x, c)[1:].mean())
    g = low_rank.fit(train, d.y_train, rank_of(name), "class" if kind == FADES else kind)
    if kind == FADES:
        weight = ramp(schedule.T, *RECIPES["gaussian, class, fades"]["gaussian_fade"])
        return float(faded_loss(g, np.asarray(weight), schedule, x, c)[1:].mean())
    return float(g.loss_on(schedule, x, c)[1:].mean())


def faded_loss(g: low_rank.LowRank, weight: np.ndarray, schedule: Schedule, x: np.ndarray, c: np.ndarray) -> np.ndarray:
    """E_ε ‖ε - w_t ε_G - (1-w_t) ε_I‖²/D on images x of classes c, exactly: (T+1,); see `ddpm.networks.skip`.

    Along a direction in which G has the variance λ, with v(λ) = ᾱλ + 1-ᾱ, and a and b the distances of x from both
    means, it is (1 - (1-ᾱ)(w/v(λ) + (1-w)/v(σ²)))² + ᾱ(1-ᾱ)(w a/v(λ) + (1-w) b/v(σ²))².
    """
    m, x, D = low_rank.round_of(g), x.reshape(len(x), -1).astype(np.float64), g.mean.shape[1]
    alpha_bar, w = (
        np.asarray(schedule.alpha_bar, np.float64)[:, None],
        np.asarray(weight, np.float64)[:, None],
    )  # (T+1, 1)
    v_round, loss = alpha_bar * float(m.rest[0]) + 1 - alpha_bar, np.zeros(len(alpha_bar))
    for k in np.unique(c):
        a, b = (x[c == k] - np.asarray(mean, np.float64) for mean in (g.mean[k], m.mean[0]))
        U = np.asarray(g.basis[k % len(g.basis)], np.float64)
        along = [(p @ U * (q @ U)).mean(0) for p, q in ((a, a), (a, b), (b, b))]
        left = [(p * q).sum(1).mean() - of.sum() for (p, q), of in zip(((a, a), (a, b), (b, b)), along, strict=True)]
        aa, ab, bb = (np.append(of, rest) for of, rest in zip(along, left, strict=True))  # (r+1,) the rest in one
        v = alpha_bar * np.append(np.asarray(g.var[k], np.float64), float(g.rest[k])) + 1 - alpha_bar  # (T+1, r+1)
        p, q, many = w / v, (1 - w) / v_round, np.append(np.ones(U.shape[1]), D - U.shape[1])
        of_image = alpha_bar * (1 - alpha_bar) * (p**2 * aa + 2 * p * q * ab + q**2 * bb)
        loss += (c == k).mean() * (many * (1 - (1 - alpha_bar) * (p + q)) ** 2 + of_image).sum(1) / D
    return loss


def rank_of(name: str) -> int:
    """64 directions, as the trainings have; the digits are too small for more than 16."""
    return 16 if name == "digits" else 64


def helped(m: Any, x: np.ndarray, c: np.ndarray, draws: int) -> float:
    """The share of images with T(x|c) > 0 on (.1T, .7T]."""
    T = typicality.measure(m.eps, m.schedule, x, c, jax.random.key(0), typicality.Draws(draws))
    return float((T.value > 0).mean())


def by_part(m: Any, x: np.ndarray, c: np.ndarray) -> list[float]:
    """ε-MSE in five parts of 1…T."""
    rows = eps_mse(m.eps, m.schedule, x, c, jax.random.key(0), repeats=2).detail["by_t"]
    return [float(np.mean([r["value"] for r in rows[a - 1 : b]])) for a, b in BINS]


def run(config: Config) -> Result:
    """Train and measure every prior with each seed."""
    judge = judge_of(config.data)
    x, c = held_out(config.data, config.n_test)
    few, chain = slice(config.n_typical), cosine(1000)
    rows = [Row(f"Fréchet distance, floor: {config.n} test images", None, None, judge.floor(config.n))]
    found: dict[str, dict[str, list[Any]]] = {}
    for recipe in config.priors:
        name, kind = RUNS[recipe]
        budget_of = dataclasses.replace(config, steps=config.short if recipe in SHORT else config.steps)
        runs = family(budget_of, (recipe,))[recipe]
        keys = ("steps", "mse", "distance", "accuracy", "helped", "parts")
        of: dict[str, list[Any]] = {key: [] for key in keys}
        rows.append(Row(f"{name}: ε-MSE before the first step", None, first_loss(kind, config.data, x, c), None))
        for step in (step for step in config.at if step <= budget_of.steps):
            models = [r.model(step=step) for r in runs]
            here = [on_chain(m, chain) for m in models]
            drawn = [scores(judge, m, config.n, config.draw_steps, config.guidance) for m in models]
            of["steps"].append(step)
            of["mse"].append([error(m, x, c) for m in here])
            of["distance"].append([s.frechet for s in drawn])
            of["accuracy"].append([s.accuracy for s in drawn])
            of["helped"].append([helped(m, x[few], c[few], config.draws) for m in here])
            of["parts"].append([by_part(m, x, c) for m in here])
            rows += [
                Row(f"{name}, {step:,} steps: {what}", None, None, *mean_range(of[key][-1])) for key, what in MEASURES
            ]
        found[name] = of
    rows += [Row(f"{name}: factor in steps to the ε-MSE of ε", None, None, *f) for name, f in faster(found)]
    numbers = {"found": found, "budget": budget(config)}
    sizes = {k: getattr(config, k) for k in ("n", "n_test", "n_typical")}
    return Result(rows, None, numbers | sizes)


def faster(found: dict[str, dict[str, list[Any]]]) -> list[tuple[str, tuple[float, float]]]:
    """How many times fewer steps each needs for the ε-MSE of ε at its own last step, where all seeds get there."""
    out = []
    for name, of in found.items():
        steps = np.array(of["steps"])
        plain, mse = np.array(found["ε"]["mse"])[: len(steps)], np.array(of["mse"])  # (steps, seeds)
        factors = [speed_up(steps, a, b) for a, b in zip(plain.T, mse.T, strict=True)]
        if all(f is not None for f in factors):
            out.append((name, mean_range([f for f in factors if f is not None])))
    return out


def in_one_table(numbers: dict[str, Any]) -> str:
    """One table: each prior at each step; ε-MSE in parts of 1…T, distance, accuracy and the share with T(x|c) > 0."""
    heads = ["prior", "steps", "ε-MSE", *(f"t {part}" for part in PARTS), "Fréchet", "accuracy", "T > 0"]
    lines = [
        f"The mean of the seeds; the parts of 1…T are ε-MSE too. {numbers['n_test']} test images, {numbers['n']} drawn "
        f"ones, T(x|c) of {numbers['n_typical']} test images.",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
    ]
    for name, of in numbers["found"].items():
        for i, step in enumerate(of["steps"]):
            parts = " | ".join(f"{value:.4f}" for value in np.mean(of["parts"][i], 0))
            mse, distance, accuracy, share = (np.mean(of[key][i]) for key in ("mse", "distance", "accuracy", "helped"))
            lines.append(f"| {name} | {step:,} | {mse:.4f} | {parts} | {distance:.3g} | {accuracy:.3f} | {share:.3f} |")
    return "\n".join(lines)


def redraw(rows: list[dict[str, Any]], numbers: dict[str, Any]) -> Any:
    """Draw ε-MSE along the training, then at its end by t, as a ratio to that of ε at that step, and the distance."""
    found = numbers["found"]
    colours = ["#7f8c8d", "#8e44ad", "#2e86c1", "#17a589", "#922b21", "#1c2833", "#b7950b", "#ca6f1e", "#e59866"]
    with plot.style():
        figure = plot.new_figure(11.0, 3.4)
        left, middle, right = figure.subplots(1, 3)
        for (name, of), colour in zip(found.items(), colours, strict=False):
            steps, mse, distance = of["steps"], np.array(of["mse"]), np.array(of["distance"])  # (steps, seeds)
            plain = np.mean(found["ε"]["parts"][len(steps) - 1], axis=0)
            line = "o:" if len(steps) < len(found["ε"]["steps"]) else "o-"
            left.plot(steps, mse.mean(1), line, color=colour, label=name)
            middle.plot(range(5), np.mean(of["parts"][-1], axis=0) / plain, line, color=colour)
            right.plot(steps, distance.mean(1), line, color=colour)
            for ax, values in ((left, mse), (right, distance)):
                ax.vlines(steps, values.min(1), values.max(1), color=colour, linewidth=1)
        middle.set_xticks(range(5), PARTS)
        left.set(xlabel="step", ylabel=f"ε-MSE, {numbers['n_test']} test images", xscale="log", yscale="log")
        middle.set(xlabel="t", ylabel="ε-MSE, of that of ε")
        right.set(xlabel="step", ylabel=f"Fréchet distance, {numbers['n']} images", xscale="log", yscale="log")
        right.set_yticks([10, 30, 100, 300, 1000], ["10", "30", "100", "300", "1,000"])
        left.set_yticks([0.08, 0.1, 0.12], [".08", ".10", ".12"])
        shown = found["ε"]["steps"]
        for ax in (left, right):
            ax.minorticks_off()
            ax.set_xticks(shown, [f"{step:,}" for step in shown])
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=7)
        figure.suptitle(f"{numbers['budget']}; a line from seed to seed; dotted: trained for less", fontsize=9)
    return figure
