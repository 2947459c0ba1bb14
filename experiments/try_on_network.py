"""A garment put on by a network: addition and FiLM carry the badge in place, one token and attention do not.

Diffuse-to-Choose shows a network the exemplar at its place in a hint, which a copy of the encoder reads, and compares
how the decoder takes it up: in its Table 1 FiLM is best, cross-attention next, addition last, and all are better than
Paint by Example, whose exemplar is one token. `try_on` has what is possible: all 16 bits of the badge and the light of
the scene. Here the shipped network `wardrobe` is frozen and gets such a copy, joined in each of the four ways and
trained for 400 steps of 16. The caption has all words but the light, so that the branch has to bring the bits and the
shades; the exemplar is in a light of its own, and the scene around the hole is given at every step of DDIM.

What we see, in 64 scenes: the network alone, by words, has .49 of the bits, which is guessing, and the light of the
scene in .98. Addition brings .79 of the bits and FiLM .80 (standard error .03, no difference), and both keep the light:
a garment that was taken by night is put into the day. Copy and paste has all bits and the light in .52. The error in
the hole falls from .21 to .07, where copy and paste has .05. One token leaves the bits at .49, as expected: it shifts
all places by the same vector. Cross-attention to all positions stays there too, .49. Its keys do not tell where they
are, so it first has to learn which place belongs to which; addition and FiLM have that for nothing.

What does not carry over: the exemplar has the pose of its new place, which favours addition and FiLM over attention,
where the paper's exemplars have poses of their own. 400 steps are few: the bits still rose from step 200 to 300, and
hardly after that, when the rate was falling.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from matplotlib.figure import Figure

from ddpm import plot
from ddpm.networks.fusion import WAYS
from experiments.lab import adapter_trainings, captioned, learned_control, learned_exemplars
from experiments.lab.runner import Result, Row
from experiments.try_on import HINTS, measured, pasted, task

PAPER = "Seyfioglu et al. 2024, Diffuse-to-Choose, Table 1; Yang et al. 2023, Paint by Example"
MINUTES = 10
UNCHECKED = "A network trained for so few steps stands next to what ε* does, of which `try_on` has the rows."
NAMES = {"token": "one token", "addition": "addition", "attention": "cross-attention", "film": "FiLM"}


@dataclass(frozen=True)
class Config:
    """Scenes, DDIM steps, the ways to take up the exemplar, and the steps of each training."""

    n: int = 64
    steps: int = 25
    ways: tuple[str, ...] = WAYS
    trained_steps: int = learned_exemplars.BUDGET.steps
    trained_batch: int = learned_exemplars.BUDGET.batch
    model: str = captioned.NAME
    seed: int = 0


QUICK = {"n": 4, "steps": 2, "ways": ("film",), "trained_steps": 1, "trained_batch": 2}


def run(config: Config) -> Result:
    """Train each way; fill the holes of scenes, and read bits, words and light."""
    some, rows, curves = task(config.n), list[Row](), dict[str, list[list[float]]]()
    m = adapter_trainings.base(config.model)
    first, same = slice(0, 8), float((some.subject.light == some.scene.light).mean())
    shown = {"scene": np.where(some.hole[..., None], 0, some.before)[first], "exemplar": some.exemplar[first]}
    budget = replace(learned_exemplars.BUDGET, steps=config.trained_steps, batch=config.trained_batch)
    watched = tuple(k for k in learned_exemplars.WATCHED if k <= budget.steps)

    def measure(name: str, x: np.ndarray, **truth: float) -> None:
        gap = ((x - some.right) ** 2).mean(-1)
        found = {f"{what} right": share for what, share in measured(x, some.wanted, some.shape).items()}
        found["squared error in the hole"] = (gap * some.hole).sum((1, 2)) / some.hole.sum((1, 2))
        for what, each in found.items():
            if what != "of the world right":
                se = float(each.std() / np.sqrt(config.n))
                rows.append(Row(f"{name}: {what}", None, truth.get(what.split()[0]), float(each.mean()), se))
        shown[name] = x[first]

    measure("copy and paste", pasted(some), bits=1.0, light=same)
    x = learned_exemplars.put_on(m, m.eps, some, False, config.steps, config.seed)
    measure("words alone", x, bits=0.5, garment=1.0, light=1.0)
    for way in config.ways:
        _, control, training = learned_exemplars.train(way, budget, watched, config.model)
        eps = learned_control.eps_of(m, control)
        x = learned_exemplars.put_on(m, eps, some, True, config.steps, config.seed)
        measure(NAMES[way], x, **({} if way == "token" else {"bits": 1.0}), garment=1.0, light=1.0)
        curves[NAMES[way]] = training.watched
        rows += [
            Row(f"{NAMES[way]}: bits right after {step:.0f} steps", None, None, bits)
            for step, bits, _ in training.watched
        ]
    rows += [Row(f"DTC Table 1, CLIP score: {name}", value) for name, value in HINTS.items()]
    shown["wanted"] = some.right[first]
    numbers = {"n": config.n, "curves": curves, "shown": {k: np.clip(v, -1, 1).round(2) for k, v in shown.items()}}
    return Result(rows, None, numbers)


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the garments in their scenes by each way, what is right, and the bits by step of the training."""
    with plot.style():
        figure = plot.new_figure(11.4, 4.2)
        left, middle, right = figure.subplots(1, 3, width_ratios=(1.25, 1, 0.8))
        captioned.named_rows(left, numbers["shown"], 8, 7)
        ours = {r["what"]: r["ours"] for r in rows}
        names = [n for n in numbers["shown"] if f"{n}: bits right" in ours]
        for k, what in enumerate(("bits", "garment and colour", "light")):
            height = [ours[f"{name}: {what} right"] for name in names]
            middle.barh(np.arange(len(names)) + 0.27 * (k - 1), height, 0.25, label=what)
        middle.axvline(0.5, color="0.5", lw=1, ls=":")
        middle.set_yticks(range(len(names)), names, fontsize=8)
        middle.invert_yaxis()
        middle.set(xlabel="share right", xlim=(0, 1))
        middle.legend(fontsize=7, loc="upper center", ncols=3, bbox_to_anchor=(0.4, 1.1))
        for name, curve in numbers["curves"].items():
            step, bits, _ = np.array(curve).reshape(-1, 3).T
            right.plot(step, bits, "o-", ms=3, label=name)
        right.axhline(0.5, color="0.5", lw=1, ls=":")
        right.set(xlabel="training step", ylabel="bits right", ylim=(0.4, 1.02))
        right.legend(fontsize=7)
    return figure
