"""InstructPix2Pix by a network: the shipped one, taught instructions in minutes, and what its two scales repair.

Brooks et al. train a network that edits a picture by an instruction, and guide it with two scales: s_I for the picture
it is given, s_T for the instruction. Here the shipped network `wardrobe` is widened by channels for the picture, whose
weights begin at 0, and taught 900 steps of 16 pairs; the drops of the two conditions are the paper's. `edits` has the
truth: the exact denoiser does what is said and keeps all else, at scales of 1 already.

What we see is the paper's Figure 8, after 900 steps. More of s_T does what is said more often, .60 to .90 at s_I = 1,
and keeps less; more of s_I keeps more, .08 to .42 at s_T = 1, and does less. The two scales trade what the network has
not learned: it does not keep all of a picture, and its colours leave the world of drawings. At (3, 3) it has .69 done
and .29 kept, where the exact denoiser has both in all.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import plot
from ddpm.datasets.wardrobe import drawing
from ddpm.datasets.wardrobe.edits import INSTRUCTIONS
from ddpm.datasets.wardrobe.words import ATTRIBUTES
from ddpm.guide import clip_x0
from ddpm.guides import two_scale
from ddpm.tools.conditions import Condition
from experiments.edits import asked, kept_and_done
from experiments.lab import captioned, learned_images
from experiments.lab.runner import Result, Row

PAPER = "Brooks et al. 2023, InstructPix2Pix, Eq. 3 and Fig. 8"
MINUTES = 9
UNCHECKED = "A network trained for so few steps stands next to the exact denoiser; nothing says how near it is."


@dataclass(frozen=True)
class Config:
    """Pictures with their instructions, DDIM steps, the scales, and the steps of the training."""

    n: int = 48
    steps: int = 20
    image_scales: tuple[float, ...] = (1.0, 1.5, 3.0)
    text_scales: tuple[float, ...] = (0.0, 1.0, 3.0, 7.5)
    trained_steps: int = learned_images.BUDGETS["edits"].steps
    trained_batch: int = learned_images.BUDGETS["edits"].batch
    model: str = captioned.NAME
    seed: int = 0


QUICK = {
    "n": 4, "steps": 2, "image_scales": (1.0,), "text_scales": (1.0,), "trained_steps": 2, "trained_batch": 4,
}  # fmt: skip


def run(config: Config) -> Result:
    """Train on edits; edit with every pair of scales, and read what was done and what was kept."""
    budget = replace(learned_images.BUDGETS["edits"], steps=config.trained_steps, batch=config.trained_batch)
    m, training = learned_images.train("edits", budget, config.model)
    eps, n = learned_images.eps_of(m, training.params), config.n
    z = drawing.draw_attributes(n, 22)
    instruction = asked(z, config.seed)
    before = jnp.asarray(drawing.painted(z) / 127.5 - 1, jnp.float32)
    c = Condition(text=learned_images.instruction_tokens(m, instruction), image=before)
    shown, rows, table = {"before": np.asarray(before[:6])}, list[Row](), []
    at_random = float(np.mean([1 / 8 / len(ATTRIBUTES[INSTRUCTIONS[i][0]]) for i in instruction]))
    truth = {(1.0, 1.0): (1.0, 1.0), (1.0, 0.0): (at_random, None)}  # of ε*: `edits`
    for s_I in config.image_scales:
        for s_T in config.text_scales:
            guided = clip_x0(two_scale(eps, s_I, s_T), m.schedule)
            x = captioned.drawn_under(m, guided, c, n, config.steps, seed=config.seed + 1)
            found = {name: float(part.mean()) for name, part in kept_and_done(x, z, instruction).items()}
            exactly = dict(zip(("done", "kept"), truth.get((s_I, s_T), (None, None)), strict=True))
            for name, share in found.items():
                se = math.sqrt(share * (1 - share) / n)
                rows.append(Row(f"s_I = {s_I:g}, s_T = {s_T:g}: {name}", None, exactly.get(name), share, se))
            same = float((np.abs(x - np.asarray(before)) < 0.1).mean())
            rows.append(Row(f"s_I = {s_I:g}, s_T = {s_T:g}: numbers within .1 of those before", None, None, same))
            table.append([s_I, s_T, *found.values()])
            if (s_I, s_T) in ((1.0, 0.0), (1.0, 1.0), (1.5, 1.0), (1.5, 3.0), (1.5, 7.5)):
                shown[f"{s_I:g}, {s_T:g}"] = x[:6]
    words = [learned_images.instruction_text(int(i)) for i in instruction[:6]]
    shown = {k: v.round(2) for k, v in shown.items()}
    return Result(
        rows, None, {"n": n, "curves": table, "instructions": words, "shown": shown, "loss": training.loss[::10]}
    )


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw kept against done over the scales, and a few edits."""
    with plot.style():
        figure = plot.new_figure(10.4, 3.8)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
        table = np.array(numbers["curves"])
        for k, s_I in enumerate(sorted(set(table[:, 0]))):
            part = table[table[:, 0] == s_I]
            left.plot(part[:, 2], part[:, 3], "o-", color=f"C{k}", label=f"network, s_I = {s_I:g}")
            for _, s_T, done, kept, _ in part:
                left.annotate(f"{s_T:g}", (done, kept), (4, 4), textcoords="offset points", fontsize=7, color=f"C{k}")
        left.plot([1], [1], "*", ms=12, color="#c0392b", label="ε* at (1, 1) and all larger scales", clip_on=False)
        left.set(xlabel="instruction done", ylabel="all else kept", xlim=(-0.02, 1.04), ylim=(-0.02, 1.04))
        left.legend(fontsize=7)
        left.set_title("the number at a point is s_T", fontsize=9)
        words = [textwrap.fill(w, 10) for w in numbers["instructions"]]
        captioned.named_rows(right, numbers["shown"], len(words))
        right.set_xticks(16 + 30 * np.arange(len(words)), words, fontsize=6)
        right.tick_params(labeltop=True, labelbottom=False)
    return figure
