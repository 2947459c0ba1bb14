"""The film of a sampling: x_t and x̂0 side by side, on request what guidance adds, and a typicality map."""

from __future__ import annotations

import io
from pathlib import Path

import jax
import numpy as np

from ddpm import plot, typicality
from ddpm.cli import options
from ddpm.cli.images import Picked
from ddpm.sample import Sampling
from ddpm.samplers import film
from ddpm.tools import movies
from ddpm.tools.files import check_writable, write_atomic
from ddpm.zoo import model

MOST = 10  # images of a film
SIDE = 64  # pixels of an image, about


def check(command: options.Sample, labelled: bool) -> None:
    """Refuse what cannot be filmed, before anything is drawn."""
    for path in command.film:
        check_writable(movies.check_suffix(path, (".npz",)))
    if command.film_with and not command.film:
        raise ValueError(f"film_with is {', '.join(command.film_with)}, but there is no film; give --film NAME.webp")
    if command.film_with and not labelled:
        raise ValueError(f"film_with {', '.join(command.film_with)} compares with no class, and no class is given")


def run(command: options.Sample, m: model.Model, picked: Picked, how: Sampling) -> None:
    """Film some of the images that were drawn, one of each class if there are several."""
    many = picked.c is not None and len(set(picked.c.tolist())) > 1
    ids = np.arange(0, len(picked.x), command.n if many else 1)[:MOST]
    c = None if picked.c is None else picked.c[ids]
    found = film.record(m.eps, m.schedule, jax.random.key(command.seed), m.image_shape, ids, c, how)
    T = None
    if "typicality" in command.film_with:
        key = jax.random.fold_in(jax.random.key(command.seed), 1)
        T = typicality.measure(m.eps, m.schedule, found.x_t[-1], c, key, typicality.Draws(50)).map
    for path in command.film:
        if path.suffix.lower() == ".npz":
            save_record(path, found)
            print(f"the record of the film (t, x_t, x0, eps): {path}")
        else:
            drawn = frames(found, "guidance" in command.film_with, T)
            n = movies.save(path, drawn)
            print(f"film of {len(ids)} images, {n} of {len(drawn)} frames, {path.stat().st_size:,} bytes: {path}")


def save_record(path: Path, found: film.Film) -> None:
    """Write the arrays of a film as .npz: t (F,), and x_t, x0, eps (F, n, H, W, C), with labels also difference."""
    out = io.BytesIO()
    np.savez_compressed(out, **{k: a for k, a in found._asdict().items() if a is not None})
    write_atomic(path, out.getvalue())


def frames(found: film.Film, guidance: bool = False, T: np.ndarray | None = None) -> list[np.ndarray]:
    """Draw each frame: (H', W', 3) uint8, the panels side by side under their names."""
    columns = min(5, found.x_t.shape[1])
    zoom = max(1, SIDE // found.x_t.shape[2])
    last = found.x_t[-1]

    def panel(x: np.ndarray, name: str) -> np.ndarray:
        rgb = np.broadcast_to(x, (*x.shape[:3], 3))
        return movies.titled(plot.grid(rgb, columns).repeat(zoom, 0).repeat(zoom, 1), name)

    # The panel that stands still, and the ones that move
    still = [] if T is None else [panel(plot.overlay(last, T, _most(T)), "typicality: red like its class")]
    difference = found.difference.mean(-1) if guidance and found.difference is not None else None  # (F, n, H, W)
    drawn = []
    for i, t in enumerate(found.t):
        x_t, x0 = (np.clip(a[i], -1, 1) for a in (found.x_t, found.x0))
        panels = [panel(x_t, f"x_t, t = {t}"), panel(x0, "predicted x0")]
        if difference is not None:
            coloured = plot.overlay(x0, difference[i], _most(difference))
            panels.append(panel(coloured, "noise: with class - without"))
        drawn.append(np.concatenate([*panels, *still], 1))
    return drawn


def _most(maps: np.ndarray) -> float:
    """The value of full colour: nearly the largest, so that one pixel does not pale the others."""
    return max(float(np.quantile(np.abs(maps), 0.99)), 1e-12)
