"""InstructPix2Pix with exact denoisers: its two scales, what is done and what is kept, and who needs the scales.

Brooks et al. guide with ε(∅,∅) + s_I (ε(y,∅) - ε(∅,∅)) + s_T (ε(y,T) - ε(y,∅)), with s_I = 1.5 and s_T = 7.5 by
default, and plot likeness to the picture against agreement with the instruction: a trade. In `wardrobe` an edit changes
one attribute, and all three denoisers are exact: the world's, that of all 41 edits of a picture, and that of one. There
is no trade. At (1, 1) every instruction is done, all else is kept, and the picture is one of the world; at every
larger pair of scales too, up to (1.5, 7.5), since all three denoisers agree as soon as x_t shows what it will be, and
the scales multiply nothing. Without s_T the edit is one at random, and does what was asked with the probability 1/(8K);
at (0, 0) the picture is any of the world, and in between, at s_T = .5, most pictures are of no world. So the trade of
the paper's Figure 8 is one between the errors of a network, which large scales outshout, and not one of the method.
Nothing here tells which scales a network needs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import plot
from ddpm.contracts import Partial
from ddpm.datasets.wardrobe import drawing, law
from ddpm.datasets.wardrobe.edits import INSTRUCTIONS, after
from ddpm.datasets.wardrobe.words import ATTRIBUTES, INKED
from ddpm.guide import clip_x0
from ddpm.guides import two_scale
from experiments.lab import captioned
from experiments.lab import wardrobe_exact as exact
from experiments.lab.runner import Result, Row

PAPER = "Brooks et al. 2023, InstructPix2Pix, Eq. 3 and Fig. 8"
MINUTES = 5
NAMES = list(ATTRIBUTES)


@dataclass(frozen=True)
class Config:
    """Pictures and their instructions, DDIM steps, and the scales."""

    n: int = 32
    steps: int = 40
    image_scales: tuple[float, ...] = (1.0, 1.5)
    text_scales: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0, 3.0, 7.5)
    seed: int = 0


QUICK = {"n": 4, "steps": 8, "image_scales": (1.0,), "text_scales": (0.0, 1.0)}


def edit_eps(x_t: Any, t: Any, c: Any) -> jax.Array:
    """ε*(x_t, t, (y, T)): y the finite set of what edits can make of each picture; T the number of an instruction."""
    sets, instruction = c
    world = law.distribution()
    if sets is None:
        return world.eps(exact.SCHEDULE)(x_t, t, None)
    t = jnp.broadcast_to(jnp.asarray(t), x_t.shape[:1])
    one = lambda s, x, t, i: s.eps(exact.SCHEDULE)(x[None], t[None], i[None])[0]  # noqa: E731
    if instruction is None:  # the number 41 is the null label: all instructions
        instruction = jnp.full(x_t.shape[0], len(INSTRUCTIONS))
    return jax.vmap(one)(sets, x_t, t, jnp.asarray(instruction))


def asked(z: drawing.Attributes, seed: int) -> np.ndarray:
    """An instruction for each picture that changes what it shows: its number in INSTRUCTIONS."""
    rng, values = np.random.default_rng(seed), drawing.values_of(z)
    seen = [
        [i for i, (name, v) in enumerate(INSTRUCTIONS) if values[k, NAMES.index(name)] not in (v, -1)]
        for k in range(len(values))
    ]
    return np.array([rng.choice(options) for options in seen])


def kept_and_done(x: np.ndarray, z: drawing.Attributes, instruction: np.ndarray) -> dict[str, np.ndarray]:
    """Of each picture: is the attribute new, are all others and the row as before, and is it one of the world?"""
    reading, values = law.read(np.clip(x, -1, 1)), drawing.values_of(z)
    done, kept = np.zeros(len(x), bool), np.ones(len(x), bool)
    for k, i in enumerate(instruction):
        name, value = INSTRUCTIONS[i]
        done[k] = reading.values[k, NAMES.index(name)] == value
        # ink is shown anew where a pattern becomes striped or checked, and no more where it becomes another
        others = [a for a, other in enumerate(NAMES) if other != name and not (name == "pattern" and other == "ink")]
        kept[k] = (reading.values[k, others] == values[k, others]).all()
        kept[k] &= law.shapes().attributes[reading.geometry[k], 3] == z.row[k]
    return {"done": done, "kept": kept, "of the world": exact.of_world(x)}


def run(config: Config) -> Result:
    """Edit with every pair of scales; read what was done and what was kept."""
    n = config.n
    z = drawing.draw_attributes(n, 21)
    instruction = asked(z, config.seed)
    sets = jax.tree.map(lambda *a: jnp.stack(a), *(after(z.take(np.array([k]))) for k in range(n)))
    eps, c = Partial(edit_eps), (sets, jnp.asarray(instruction))
    at_random = float(np.mean([1 / 8 / len(ATTRIBUTES[INSTRUCTIONS[i][0]]) for i in instruction]))
    any_value = float(np.mean([1 / len(ATTRIBUTES[INSTRUCTIONS[i][0]]) for i in instruction]))
    exactly = {(1.0, 1.0): (1.0, 1.0), (1.0, 0.0): (at_random, None), (0.0, 0.0): (any_value, None)}
    rows, curves, shown = [], {}, {"before": np.asarray(drawing.painted(z)[:6] / 127.5 - 1)}
    for scales in [(0.0, 0.0), *((a, b) for a in config.image_scales for b in config.text_scales)]:
        guided = clip_x0(two_scale(eps, *scales), exact.SCHEDULE)
        x = exact.drawn(guided, c, n, config.steps, config.seed + 1)
        shares = {name: found.mean() for name, found in kept_and_done(x, z, instruction).items()}
        curves[scales] = shares
        truth = dict(zip(("done", "kept"), exactly.get(scales, (None, None)), strict=True))
        truth["of the world"] = 1.0 if scales in exactly else None
        for name, got in shares.items():
            p = truth[name]
            se = math.sqrt(got * (1 - got) / n)
            within = None if p is None else (4 * math.sqrt(p * (1 - p) / n) + (1.5 / n if p < 1 else 1e-9)) / p
            what = f"s_I = {scales[0]:g}, s_T = {scales[1]:g}: {name}"
            rows.append(Row(what, None, p, float(got), se, within))
        if scales in ((1.0, 0.0), (1.0, 0.5), (1.0, 1.0), (1.0, 7.5), (1.5, 7.5)):
            shown["{:g}, {:g}".format(*scales)] = np.clip(x[:6], -1, 1)
    # Four identities, at one time
    x_t, t = jax.random.normal(jax.random.key(2), (n, 28, 28, 3)), jnp.full(n, 500)
    nothing, image, both = (eps(x_t, t, a) for a in ((None, None), (sets, None), c))
    pair = nothing + 2.0 * (both - nothing)
    for what, scales, want in (
        ("(1, 1) is ε(y, T)", (1, 1), both),
        ("(0, 0) is ε(∅, ∅)", (0, 0), nothing),
        ("(1, 0) is ε(y, ∅)", (1, 0), image),
        ("(2, 2) is guidance by the pair", (2, 2), pair),
    ):
        gap = float(jnp.abs(two_scale(eps, *map(float, scales))(x_t, t, c) - want).max())
        rows.append(Row(f"identity: {what}", None, 0, gap, within=1e-4, near=1))
    names = [f"{INSTRUCTIONS[i][0]}: {ATTRIBUTES[INSTRUCTIONS[i][0]][INSTRUCTIONS[i][1]]}" for i in instruction[:6]]
    table = [[*scales, *shares.values()] for scales, shares in curves.items()]
    return Result(
        rows,
        None,
        {
            "n": n,
            "curves": table,
            "instructions": names,
            "inked": len(INKED),
            "shown": {k: v.round(2) for k, v in shown.items()},
        },
    )


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw done, kept and of the world by the two scales, and a few edits."""
    with plot.style():
        figure = plot.new_figure(10.4, 3.6)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
        table = np.array(numbers["curves"])
        for k, s_I in enumerate(sorted(set(table[:, 0]) - {0.0})):
            part = table[table[:, 0] == s_I]
            for column, line in ((2, "-"), (3, "--"), (4, ":")):
                what = ("done", "kept", "of the world")[column - 2]
                left.plot(part[:, 1], part[:, column], "o" + line, color=f"C{k}", label=f"s_I = {s_I:g}: {what}")
        left.set(xlabel="s_T", ylabel="share of pictures", ylim=(-0.04, 1.04), xscale="symlog")
        ticks = sorted(set(table[:, 1]))
        left.set_xticks(ticks, [f"{v:g}" for v in ticks], fontsize=8)
        left.legend(fontsize=7)
        words = [w.replace(": ", "\n") for w in numbers["instructions"]]
        captioned.named_rows(right, numbers["shown"], len(words))
        right.set_xticks(16 + 30 * np.arange(len(words)), words, fontsize=7)
        right.tick_params(labeltop=True, labelbottom=False)
    return figure
