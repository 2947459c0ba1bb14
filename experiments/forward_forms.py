"""Sampling on a CPU: which operator costs XLA more than ONNX Runtime, and what other forms of it bring.

Sampling is calls of the network. The preset `cpu` computes the same ε̂ here as a program of XLA, in ONNX Runtime by our
own export, and in diffusers; then with other forms of one operator each, all of which give the same numbers: 3x3
convolutions as one product of patches (im2col) or by Winograd's F(2x2, 3x3), which needs 4/9 of the products; 1x1
convolutions as products; group norm with both sums in one pass, or with scale and shift folded into one multiply-add;
q, k and v in one product; and the convolution of the doubled image as it is written, for which ours has four 2x2
convolutions of the small image, 4/9 of the products (`ddpm.tools.ops.conv_doubled`). What the 3x3 convolutions (but for
those of doubled images) take inside the network is the difference to the same network with 1x1 kernels in their place,
times 9/8. Alone, an operator is the sum over its layers, without what a call costs by itself.

What we see: on one thread ONNX Runtime needs .88 ± .05 of our processor time at batch 64, .81 ± .02 at 16 and .60 for
one image. The operator is the 3x3 convolution: at batch 16 it takes 1.55 ms an image of our 2.48 and 1.05 of ONNX
Runtime's 2.03; all else takes .93 and .96. XLA thus does 70 billion operations a second in it, and ONNX Runtime 104. No
other form of it is faster in the network: im2col costs 1.40 of ours at batch 16 and 2.19 at 64, Winograd's 1.36 and
1.46, though alone it takes 1.55 ms for our 1.53; eager PyTorch takes 1.25. 1x1 convolutions as products, both norms,
and q, k, v in one product change at most 3 %, either way, within their spreads, but for the last at batch 64 (.93 ±
.03). The convolution of the doubled image as it is written takes .19 ms alone at batch 16, for our .09 and ONNX
Runtime's .15; with it the whole network costs 1.07 ± .10 of ours there and 1.02 ± .02 at 64. Compiled diffusers at
batch 16 costs 1.09 ± .12 of ours. For one image no form brings more than 5 %, far within its spread, and ONNX Runtime
is ahead in every operator alone.

The level of optimisation: LLVM's first, which we set on machines that have only a CPU, takes 1.02 of the time of its
third for the forward pass at batch 64, 1.00 for a training step, .99 for a SiLU with its gradient, and .72 for a group
norm with its gradient; at batch 16 and 1 the difference is within its spread, that of three pairs of processes. It
saves 3 % of the compilation of these programs.

What does not carry over: one processor (AMD, AVX-512), jaxlib 0.10.2, a small network. The machine was shared, so
processor seconds count, and wall times do not; on two threads a part of the processor time is that of threads which
wait for each other. Spreads are half of what lies between the quartiles of five rounds. They are wide in this run: up
to an eighth at batch 16, and a quarter for one image.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import statistics
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ddpm import plot
from ddpm.config import unet_config
from experiments.lab.runner import Result, Row, Unavailable
from experiments.lab.speed import engines, forms, turns
from experiments.lab.speed.jobs import CENTRE, COMPILED, CONV3, EMPTY, LAYERS, ORT, OURS, TORCH
from experiments.lab.speed.turns import Times, Worker, middle, share

PAPER = "Lavin and Gray 2016; Ho et al. 2020, App. B, the network"
MINUTES = 6
FORMS, BEFORE = tuple(forms.IN_A_NETWORK), "one 3x3 of the doubled image"
CLOCKS = ("processor", "wall")  # of a pair of times
PROCESSOR, WALL = 0, 1
ENGINES = (OURS, ORT, TORCH, COMPILED)
PACKAGES = ("onnxruntime", "torch", "diffusers")


@dataclass(frozen=True)
class Config:
    """The network and the batches; rounds, and the processor seconds of each side in a round; levels of LLVM.

    threads: all is measured on the first number, the whole network also on the others, with the doubled image as it is
    written. compiled: the batches of torch.compile. operators: batches, and kinds: which. forward, step: the batches of
    the forward pass and of gradients at each level. pairs: of processes, each with rounds of its own.
    """

    preset: str = "cpu"
    batches: tuple[int, ...] = (1, 16, 64)
    threads: tuple[int, ...] = (1, 2)
    torch: bool = True
    compiled: tuple[int, ...] = (16,)
    forms: tuple[str, ...] = FORMS
    operators: tuple[int, ...] = (1, 16)
    kinds: tuple[str, ...] = tuple(LAYERS)
    levels: tuple[int, ...] = (1, 3)
    forward: tuple[int, ...] = (1, 16, 64)
    training: bool = True
    step: int = 64
    pairs: int = 3
    rounds: int = 5
    least: float = 0.1


QUICK = {
    **{"preset": "digits", "batches": (1,), "threads": (1,), "torch": False, "compiled": (), "forms": (BEFORE,)},
    **{
        "least": 1e-4,
        "operators": (1,),
        "kinds": ("up",),
        "forward": (),
        "training": False,
        "step": 2,
        "pairs": 1,
        "rounds": 2,
    },
}


def network(config: Config, threads: int) -> tuple[Times, dict[str, float]]:
    """The times of the whole network, and the largest error of each side."""
    all_of_it = threads == config.threads[0]
    job = {
        **{"do": "network", "preset": config.preset, "batches": config.batches, "least": config.least},
        **{"torch": config.torch, "compiled": config.compiled if all_of_it else ()},
        "forms": config.forms if all_of_it else (BEFORE,),
    }
    with Worker(job, threads) as worker:
        about = worker.hear()
        sides = [(name, "", name) for name in about["sides"]]
        return turns.rounds_of({"": worker}, sides, config.rounds), about["about"]


def operators(config: Config) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    """{operator, batch: {form: processor ms an image over the network, and its spread}}, and the largest errors.

    Without what a call costs by itself, in each round.
    """
    job = {"do": "operators", "preset": config.preset, "batches": config.operators, "least": config.least / 4}
    with Worker(job | {"kinds": config.kinds, "torch": config.torch}, config.threads[0]) as worker:
        about = worker.hear()
        times = turns.rounds_of({"": worker}, [(n, "", n) for n in about["sides"]], config.rounds)
    cpu = {name: np.array(found)[:, PROCESSOR] for name, found in times.items()}
    sums: dict[str, dict[str, np.ndarray]] = {}
    for name, (operator, form, B, number) in about["about"]["meaning"].items():
        empty = cpu[f"{EMPTY}, {form if form in (ORT, TORCH) else OURS}"]
        of = sums.setdefault(f"{operator}, batch {B}", {})
        of[form] = of.get(form, 0.0) + 1000 * number / B * (cpu[name] - empty)
    table = {what: {form: middle(ms) for form, ms in of.items()} for what, of in sums.items()}
    table[EMPTY] = {name.split(", ", 1)[1]: middle(1000 * cpu[name]) for name in cpu if name.startswith(EMPTY)}
    return table, about["about"]["errors"]


def levels(config: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """{program: (time at the first level as a share of that at the last, its spread)}, and seconds of compilation.

    One pair of processes differs from the next by more than its rounds do from each other: the spread is that of pairs.
    """
    first, last = (str(n) for n in config.levels)
    job = {"do": "level", "preset": config.preset, "batches": config.forward, "step": config.step}
    job |= {"training": config.training, "least": 2 * config.least, "torch": False}
    shares: dict[str, list[float]] = {}
    seconds: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as cache:  # which the first pair fills
        for _ in range(config.pairs):
            a, b = (Worker(job, config.threads[0], level, cache) for level in config.levels)
            with a, b:
                abouts = {first: a.hear(), last: b.hear()}
                names = abouts[first]["sides"]
                sides = [(f"{name}, {n}", n, name) for name in names for n in (first, last)]
                times = turns.rounds_of({first: a, last: b}, sides, -(-config.rounds // 2))
            for name in names:
                shares.setdefault(name, []).append(share(times, f"{name}, {first}", f"{name}, {last}")[0])
            seconds = seconds or {n: about["about"] for n, about in abouts.items()}
    ratios = {name: (statistics.median(v), (max(v) - min(v)) / 2) for name, v in shares.items()}
    return ratios, seconds


def in_place(times: Times, B: int) -> dict[str, tuple[float, float]]:
    """Processor ms an image of each engine: 3x3 convolutions, by the network without 8/9 of them, and the rest."""
    found = {}
    for engine in (OURS, ORT):
        whole, small = (np.array(times[f"{engine}{more}, batch {B}"]) for more in ("", f", {CENTRE}"))
        convolutions = 9 / 8 * (whole - small)[:, PROCESSOR] * 1000 / B
        found[f"{engine}: 3x3 convolutions"] = middle(convolutions)
        found[f"{engine}: all else"] = middle(1000 / B * whole[:, PROCESSOR] - convolutions)
    return found


def rows_of(times: Times, threads: int, of: dict[str, dict[str, Any]]) -> list[Row]:
    """The rows of the whole network on so many threads; its medians go into `of`, by side and batch."""
    rows = []
    for name in times:
        side, B = name.rsplit(", batch ", 1)
        ms = [middle(1000 / int(B) * t[clock] for t in times[name]) for clock in (PROCESSOR, WALL)]
        part, spread = share(times, name, f"{OURS}, batch {B}", PROCESSOR)
        of.setdefault(side, {})[B] = {"processor": ms[PROCESSOR][0], "wall": ms[WALL][0], "share": part}
        what = f"{name}, {threads} thread{'s' if threads > 1 else ''}"
        rows.append(Row(f"{what}: processor ms an image", None, None, *ms[PROCESSOR]))
        if side in ENGINES:
            rows.append(Row(f"{what}: wall ms an image", None, None, *ms[WALL]))
        if side != OURS and CENTRE not in side:
            rows.append(Row(f"{what}: processor time as a share of ours", None, None, part, spread))
    return rows


def run(config: Config) -> Result:
    """Measure the whole network, the operators and the levels, each in processes of their own."""
    if not engines.installed("onnxruntime", "onnx"):
        raise Unavailable("ONNX Runtime is not installed; install it with: pip install onnx onnxruntime")
    versions = {p: importlib.metadata.version(p) for p in PACKAGES if engines.installed(p)}
    numbers: dict[str, Any] = {"config": dataclasses.asdict(config), "versions": versions, "network": {}}
    rows: list[Row] = []
    places: list[Row] = []
    errors: dict[str, float] = {}
    for n in config.threads:
        times, found = network(config, n)
        errors |= {k: max(v, errors.get(k, 0.0)) for k, v in found.items()}
        rows += rows_of(times, n, numbers["network"].setdefault(str(n), {}))
        for B in config.batches:
            what = f"in the network, batch {B}, {n} thread{'s' if n > 1 else ''}"
            places += [
                Row(f"{what}, {k}: processor ms an image", None, None, *v) for k, v in in_place(times, B).items()
            ]
    first_of_all = f"{ORT}, batch {config.batches[-1]}, {config.threads[0]} thread"
    rows.sort(key=lambda row: not (row.what.startswith(first_of_all) and "share" in row.what))
    alone, found = operators(config)
    errors |= found
    unet, million = unet_config(config.preset), 0.0
    for (kind, *sizes), times_in_network in forms.census(unet).items():
        if kind == "conv" and sizes[-1] == 3:
            million += times_in_network * 2 * 9 * sizes[0] ** 2 * sizes[1] * sizes[2] / 1e6
    rows += [*places, Row(f"{CONV3}: million operations an image", None, None, million)]
    for what, by_form in alone.items():
        rows += [Row(f"alone, {what}, {form}: processor ms", None, None, *v) for form, v in by_form.items()]
    numbers["levels"], seconds = levels(config)
    first, last = config.levels
    rows += [Row(f"level {first} as a share of {last}: {k}", None, None, *v) for k, v in numbers["levels"].items()]
    for level, spent in seconds.items():
        what = f"level {level}: processor seconds of compiling these programs and their first call"
        rows.append(Row(what, None, None, sum(spent.values())))
    checked = {k: v for k, v in errors.items() if v}
    rows += [Row(f"largest difference from ours: {k}", None, 0.0, v, within=1e-4, near=1.0) for k, v in checked.items()]
    return Result(rows, None, numbers | {"operators": alone})


def in_one_table(numbers: dict[str, Any]) -> str:
    """Processor time of the whole network on one thread, as a share of ours."""
    of = numbers["network"][str(numbers["config"]["threads"][0])]
    batches = [str(B) for B in numbers["config"]["batches"]]
    lines = [f"| processor time as a share of ours | {' | '.join(f'batch {B}' for B in batches)} |"]
    lines.append("|---|" + "---|" * len(batches))
    for side, by_batch in of.items():
        if CENTRE not in side:
            lines.append(f"| {side} | {' | '.join(_cell(by_batch.get(B), side) for B in batches)} |")
    return "\n".join(lines)


def _cell(found: dict[str, float] | None, side: str) -> str:
    if found is None:
        return ""
    return f"{found['processor']:.2f} ms an image" if side == OURS else f"{found['share']:.2f}"


def redraw(rows: list[dict[str, Any]], numbers: dict[str, Any]) -> Figure:
    """Draw the whole network by side, the operators by form at the largest batch, and the levels."""
    of, B = numbers["network"][str(numbers["config"]["threads"][0])], str(numbers["config"]["batches"][-1])
    whole = {side: found[B]["processor"] for side, found in of.items() if CENTRE not in side and B in found}
    end = f", batch {numbers['config']['operators'][-1]}"
    alone = {what: found for what, found in numbers["operators"].items() if what.endswith(end)}
    with plot.style():
        figure = plot.new_figure(11.0, 3.4)
        left, middle_panel, right = figure.subplots(1, 3, width_ratios=(1, 1.5, 0.9))
        left.barh(list(whole), list(whole.values()), height=0.6, color=[_colour(name) for name in whole])
        left.set(xlabel="processor ms an image", title=f"whole network, batch {B}")
        y, places, labels = 0.0, [], []
        for what, found in alone.items():
            for form, (ms, _) in found.items():
                middle_panel.barh(y, ms, height=0.8, color=_colour(form))
                middle_panel.text(ms, y, f" {form}", va="center", fontsize=6)
                y += 1
            places.append(y - (len(found) + 1) / 2)
            labels.append(
                what.removesuffix(end).replace(", ", ",\n").replace(" with", "\nwith").replace(" without", "\nwithout")
            )
            y += 1
        middle_panel.set_yticks(places, labels, fontsize=7)
        middle_panel.set(xlabel="processor ms an image, over the network", title=f"operators alone{end}")
        middle_panel.set_xlim(0, 1.25 * max(ms for found in alone.values() for ms, _ in found.values()))
        ratios = {what.replace(", ", ",\n"): v for what, v in numbers["levels"].items()}
        right.errorbar([v for v, _ in ratios.values()], list(ratios), xerr=[e for _, e in ratios.values()], fmt="o")
        right.axvline(1, color="0.5", lw=0.8, ls=":")
        first, last = numbers["config"]["levels"]
        right.set(xlabel=f"level {first} / level {last}", title="levels of optimisation")
        right.invert_yaxis()
        for ax in (left, middle_panel):
            ax.invert_yaxis()
        for ax in (left, right):
            ax.tick_params(axis="y", labelsize=7)
    return figure


def _colour(name: str) -> str:
    return {OURS: "C1", ORT: "0.35", TORCH: "0.6", COMPILED: "0.6"}.get(name, "C0")
