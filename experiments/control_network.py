"""ControlNet by a network: the shipped one learns to obey outlines, and it begins to do so suddenly.

Zhang et al. train a copy of the encoder on hints, with the network frozen, and report that obedience comes suddenly, in
their example at step 6,133; their Table 2 has an IoU of .35 where real images have .58. `control` has what is possible:
with exact edges IoU 1, and the colours of the world. Here the shipped network `wardrobe` gets a ControlNet of 515,664
numbers, trained for 1,000 steps of 16 pictures with their edges, half of them without a caption.

What we see: through the first 100 steps nothing happens, IoU is .23 of 32 drawings as without a training, and 50 steps
later it is .41; then it climbs slowly, with a setback at step 400, to .71. Of 96 drawings, without a prompt, it is .76
in the end; without the hint, drawn and asked silhouettes have .18 in common. The colours, of which edges tell nothing,
have χ² = 23 where 14 is expected with a deviation of 5.3: nearly those of the world. Lite, convolutions of the hint
alone with 15,792 numbers, has no such turn: in the same steps it rises evenly from .23 to .28, and has .29 of the 96
drawings, where the paper has .32 and .35. A thousand steps are few, and the rate falls during the second half of
them, so that neither number is a limit of its method. The third branch of the paper's ablation has the shape of the
copy, but begins with random parameters. It too turns suddenly, later: at .23 for 200 steps, .27 after 300 and .42 after
400; it ends at .60 of the 96. So what the copy knows of pictures is worth about 250 steps here, and an end that the
other does not reach in a thousand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import numpy as np
from matplotlib.figure import Figure

from ddpm import plot
from ddpm.contracts import Eps
from ddpm.datasets.wardrobe import evidence, law
from ddpm.datasets.wardrobe.words import ATTRIBUTES
from experiments.lab import adapter_trainings, captioned, learned_control
from experiments.lab import wardrobe_exact as exact
from experiments.lab.learned_control import KINDS, obeyed, shape_of
from experiments.lab.runner import Result, Row

PAPER = "Zhang et al. 2023, ControlNet, Table 2 and Fig. 4"
MINUTES = 6
UNCHECKED = "A network trained for so few steps stands next to what ε* does, of which `control` has the rows."
IOU = {"ControlNet": 0.35, "ControlNet lite": 0.32, "LDM": 0.31}


@dataclass(frozen=True)
class Config:
    """Pictures, DDIM steps, the kinds of branches, and the steps of each training."""

    n: int = 96
    steps: int = 25
    kinds: tuple[str, ...] = ("copy", "lite", "drawn")
    trained_steps: int = learned_control.BUDGET.steps
    trained_batch: int = learned_control.BUDGET.batch
    model: str = captioned.NAME
    seed: int = 0


QUICK = {"n": 8, "steps": 2, "kinds": ("lite",), "trained_steps": 2, "trained_batch": 2}


def of_colours(x: np.ndarray) -> float:
    """χ² of the words of garment and ground against equal shares: its mean is 14, since edges tell nothing of them."""
    values, names = law.read(x).values, list(ATTRIBUTES)
    counts = [np.bincount(values[:, names.index(a)], minlength=8) for a in ("colour", "ground")]
    return sum(float(((k - len(x) / 8) ** 2).sum() / (len(x) / 8)) for k in counts)


def run(config: Config) -> Result:
    """Train each kind on edges; IoU and colours without a prompt before and after, and the IoU along the way."""
    rows, curves = list[Row](), dict[str, list[list[float]]]()
    m = adapter_trainings.base(config.model)
    x0, z = exact.pictures(config.n, 5)
    hint = np.repeat(1 - 2.0 * evidence.hints("edges")[shape_of(z)[:8]][..., None], 3, -1)
    shown = {"picture": x0[:8], "its edges": hint}
    budget = replace(learned_control.BUDGET, steps=config.trained_steps, batch=config.trained_batch)
    watched = tuple(k for k in learned_control.WATCHED if k <= budget.steps)

    def measure(name: str, eps: Eps, hinted: bool) -> None:
        x = learned_control.drawn(m, eps, z, hinted, config.steps, config.seed + 1)
        iou, colours = obeyed(x, z), of_colours(x)
        se = float(iou.std(ddof=1) / np.sqrt(config.n))
        rows.append(Row(f"{name}: IoU", None, 1.0 if hinted else None, float(iou.mean()), se))
        rows.append(Row(f"{name}: χ² of the colours", None, 14, colours, float(np.sqrt(28))))
        shown[name] = x[:8]

    measure("no hint", m.eps, False)
    for kind in config.kinds:
        _, control, training = learned_control.train(kind, budget, watched, config.model)
        numbers = sum(a.size for a in jax.tree.leaves(control.params))
        rows.append(Row(f"{KINDS[kind]}: numbers trained", None, None, numbers))
        measure(KINDS[kind], learned_control.eps_of(m, control), True)
        rows += [Row(f"{KINDS[kind]}: IoU after {step:.0f} steps", None, None, iou) for step, iou in training.watched]
        curves[KINDS[kind]] = training.watched
    rows += [Row(f"IoU of the paper's Table 2: {name}", iou) for name, iou in IOU.items()]
    return Result(rows, None, {"n": config.n, "curves": curves, "shown": {k: np.round(v, 2) for k, v in shown.items()}})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the pictures under edges, and the IoU by step of the training."""
    with plot.style():
        figure = plot.new_figure(10.4, 3.2)
        left, right = figure.subplots(1, 2, width_ratios=(1.4, 1))
        captioned.named_rows(left, numbers["shown"], 8, 7)
        for name, curve in numbers["curves"].items():
            right.plot(*np.array(curve).T, "o-", ms=3, label=name)
        before = next(r["ours"] for r in rows if r["what"] == "no hint: IoU")
        right.axhline(before, color="0.6", lw=1, ls=":", label="the network without a hint")
        right.set(xlabel="training step", ylabel="IoU under edges, no prompt", ylim=(0, 1.02))
        right.legend(fontsize=7)
    return figure
