"""A subject taught to a network: by a word, by LoRA and by DreamBooth, and its badge of 16 bits read back.

`personal` follows these methods on exact denoisers. Here the shipped network `wardrobe` learns one subject, a shoe of
one colour with a badge of 16 bits, from four pictures, in 300 or 400 steps of 8 pictures: a word S* for "a S*", LoRA of
rank 4 in its cross-attentions, and DreamBooth without and with the class prior, all for "a S* shoe". The prior is of 64
pictures of "a shoe" that the frozen network drew, 8 more in each step. The reader tells the bits.

What we see: the word moves its own row and nothing else, to the bit, so that "a shoe" is drawn as before. It learns
that there is a badge, the colour in .38 of 24 drawings, and none of the bits: .54 are right, and .5 are by chance.
LoRA, 49 kB, has the colour always and .92 of the bits, all 16 in 7 of 24 drawings. DreamBooth without the prior has all
16 bits in each of its 24 drawings, which are much like the four pictures, ground and place included. Both pay with the
class: "a shoe", without S*, has the subject's colour and a badge in every drawing, the language drift that the paper's
prior loss is for. With that loss DreamBooth still has .99 of the bits, all 16 in 19 of 24 drawings, and "a shoe" has
the subject's colour in 5 of 24, where 3 are expected. But it never has a badge, where 6 are expected, and 4 had one
before: badges as such now belong to S*. What a longer training of the word would give is not measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import numpy as np
from matplotlib.figure import Figure

from ddpm import plot
from ddpm.datasets.wardrobe import drawing, law
from ddpm.datasets.wardrobe.words import ATTRIBUTES, PATTERNS
from ddpm.networks.lora import digest
from ddpm.tools.files import flatten
from experiments.lab import captioned, learned_words
from experiments.lab.runner import Result, Row
from experiments.personal import PAPERS, subject

PAPER = "Gal et al. 2023, Textual Inversion; Ruiz et al. 2023, DreamBooth, Table 1; Hu et al. 2022, LoRA"
MINUTES = 6
UNCHECKED = "What was learned in so few steps stands next to what is wanted; nothing says how near it is."
BADGED = PATTERNS.index("badged")


@dataclass(frozen=True)
class Config:
    """Drawings of each text, the ways in which the network is taught, and the share of their steps that is taken."""

    n: int = 24
    ways: tuple[str, ...] = ("word", "LoRA, rank 4", "DreamBooth, no prior", "DreamBooth")
    share: float = 1.0
    model: str = captioned.NAME
    seed: int = 0


QUICK = {"n": 4, "ways": ("word", "LoRA, rank 4"), "share": 0.005}


def moved(before: dict, after: dict) -> list[str]:
    """The names of the parameters that are not equal to the bit."""
    old, new = flatten(before), flatten(after)
    return [name for name, a in old.items() if not np.array_equal(a, new[name])]


def of_weights(way: str, before: learned_words.Taught, net: learned_words.Taught) -> list[Row]:
    """What of the network has changed: a row of the table, matrices of a bounded rank, or all."""
    changed = moved(before.params, net.params)
    rows = [Row(f"{way}: parameter arrays that moved", None, None, len(changed))]
    if way == "word":
        same = np.array_equal(before.params["text"]["table"][:-1], net.params["text"]["table"][:-1])
        rows = [Row(f"{way}: parameter arrays that moved", None, 1, len(changed), within=0)]
        rows.append(Row(f"{way}: other rows of the table equal to the bit", None, 1, int(same), within=0))
    if way.startswith("LoRA"):
        pairs, r = net.training.params if net.training else {}, int(way.split()[-1])
        old, new = flatten(before.params), flatten(net.params)
        rank = max(np.linalg.matrix_rank(np.asarray(new[k] - old[k], np.float64), 1e-5) for k in changed)
        assert rank <= r
        rows = [Row(f"{way}: parameter arrays that moved", None, len(pairs), len(changed), within=0)]
        rows.append(Row(f"{way}: largest rank of a change, of at most", None, r, int(rank)))
        rows.append(Row(f"{way}: bytes in float32", None, None, 4 * sum(a.size for a in jax.tree.leaves(pairs))))
    return rows


def run(config: Config) -> Result:
    """Teach the subject in every way; read it, its badge, and what became of its class."""
    z, rows = subject(4, 41), list[Row]()
    taught = {"before": learned_words.untaught("word", z, config.model)}
    base = digest(taught["before"].model.params)
    for way in config.ways:
        budget = learned_words.BUDGETS[way]
        budget = replace(budget, steps=max(1, round(config.share * budget.steps)))
        taught[way] = learned_words.teach(way, z, budget, config.model)
    shown = {"four pictures": drawing.painted(z) / 127.5 - 1}
    names = list(ATTRIBUTES)
    garment, colour, pattern = (names.index(name) for name in ("garment", "colour", "pattern"))
    for way, net in taught.items():
        if way != "before":
            rows += of_weights(way, learned_words.untaught(way, z, config.model), net)
        x = net.drawn(net.said, config.n, seed=config.seed)
        own, of_class = law.read(x), law.read(net.drawn(net.of_class, config.n, seed=config.seed + 3))
        badged = own.values[:, pattern] == BADGED
        bits = (own.bits == z.bits[:1])[badged]
        for what, found, truth in (
            ("garment", own.values[:, garment] == z.garment[0], 1.0),
            ("colour", own.values[:, colour] == z.colour[0], 1.0),
            ("badged", badged, 1.0),
            ("bits right where badged", bits.reshape(-1), 0.5 if way in ("word", "before") else 1.0),
            ("all 16 right", badged & (own.bits == z.bits[:1]).all(1), 1.0),
            (f"{net.of_class}: of the subject's colour", of_class.values[:, colour] == z.colour[0], 1 / 8),
            (f"{net.of_class}: badged", of_class.values[:, pattern] == BADGED, 1 / 4),
        ):
            p = float(found.mean()) if found.size else None
            se = None if p is None else float(np.sqrt(p * (1 - p) / found.size))
            rows.append(Row(f"{way}: {what}", None, None if way == "before" else truth, p, se))
        shown[f"{way}: {net.said}"] = x[:6]
    rows += [Row(f"paper: {name}", value) for name, value in PAPERS.items()]
    shown["four pictures"] = np.concatenate([shown["four pictures"], np.ones((2, 28, 28, 3))])
    return Result(
        rows, None, {"n": config.n, "base": base[:12], "shown": {k: np.round(v, 2) for k, v in shown.items()}}
    )


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the four pictures and what each way makes of them; subject, badge and class by way."""
    with plot.style():
        figure = plot.new_figure(11.4, 4)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
        captioned.named_rows(left, numbers["shown"], 6, 7)
        ways = [name.rpartition(":")[0] for name in list(numbers["shown"])[1:]]
        parts = ("garment", "colour", "badged", "bits right where badged", "of the subject's colour")
        for k, what in enumerate(parts):
            found = [
                next(r for r in rows if r["what"].startswith(way + ":") and r["what"].endswith(what)) for way in ways
            ]
            height, error = ([r[key] or 0 for r in found] for key in ("ours", "spread"))
            label = f"the class: {what}" if k == 4 else what
            right.bar(np.arange(len(ways)) + 0.16 * (k - 2), height, 0.15, yerr=error, label=label)
        right.axhline(0.5, color="0.5", lw=1, ls=":", label="bits by chance")
        right.axhline(1 / 8, color="0.7", lw=1, ls="--", label="the class in the world")
        right.set_xticks(range(len(ways)), [way.replace(", ", "\n") for way in ways], fontsize=8)
        right.set(ylabel="share", ylim=(0, 1.35), yticks=(0, 0.5, 1))
        right.legend(fontsize=7, ncols=3, loc="upper center")
    return figure
