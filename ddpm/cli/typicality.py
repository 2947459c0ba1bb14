"""`ddpm typicality`: measure T(x|c) of images, with a table, a CSV file and a picture."""

from __future__ import annotations

import jax
import numpy as np

from ddpm import plot, typicality
from ddpm.cli import options
from ddpm.cli.images import Picked, Wanted, pick
from ddpm.tools import check
from ddpm.tools.files import check_writable, write_csv
from ddpm.zoo import model


def run(command: options.Typicality) -> None:
    """Measure T(x|c), print a table by class, write the numbers and the picture."""
    m = model.load(command.model)
    draws, numbers = typicality.Draws(command.draws, command.t_range), command.out.with_suffix(".csv")
    # Refusals, before anything is drawn
    check.whole("draws", draws.n, 2)
    typicality.time_window(m.schedule.T, draws.t_range)
    for path in (command.out, numbers):
        check_writable(path)
    # Images and their typicality
    how = m.how(steps=command.steps, guidance=m.guided(None))
    wanted = Wanted(command.data, command.label, command.n, data_dir=command.data_dir, seed=command.seed, how=how)
    picked = pick(m, wanted)
    key = jax.random.fold_in(jax.random.key(command.seed), 1)
    T = typicality.measure(m.eps, m.schedule, picked.x, picked.c, key, draws)
    # Table, picture and numbers
    print(f"typicality of {picked.source}: {draws.n} draws, t in ({draws.t_range[0]}T, {draws.t_range[1]}T]")
    rows = by_class(m.classes, picked, T)
    plot.save_typicality(command.out, rows, "T(x|c) x 1000, most typical first; red: the class helps to denoise here")
    names = [m.classes[k] for k in np.asarray(picked.c)]
    table = [[i, name, f"{T.value[i]:.6g}", f"{T.stderr[i]:.3g}"] for i, name in enumerate(names)]
    write_csv(numbers, ["image", "class", "typicality", "stderr"], table)
    print(f"picture: {command.out}\nnumbers: {numbers}")


def by_class(classes: tuple[str, ...], picked: Picked, T: typicality.Typicality) -> list[tuple]:
    """Print a table by class; return the most and the least typical images of each, for the picture."""
    print(f"  {'class':14s} {'n':>4s}   mean T x 1000    share T > 0   median standard error x 1000")
    rows = []
    c = np.asarray(picked.c)
    for k in np.unique(c):
        own = np.flatnonzero(c == k)
        best = own[np.argsort(-T.value[own])]
        print(
            f"  {classes[k]:14s} {len(own):4d}   {1000 * T.value[own].mean():+8.2f}        "
            f"{(T.value[own] > 0).mean():8.3f}        {1000 * np.median(T.stderr[own]):8.2f}"
        )
        show = best if len(best) <= 10 else np.concatenate([best[:7], best[-3:]])
        rows.append((classes[k], picked.x[show], T.map[show], T.value[show]))
    return rows
