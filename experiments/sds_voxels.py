"""Score distillation into voxels: what no view sees stays, and a denoiser that is not told the view draws faces.

DreamFusion distils a denoiser of pictures into a volume, through a renderer. With a linear renderer the end is known.
The volume has 6³ voxels; a pixel is the sum along its ray, nearer voxels weighing more. The denoiser of view v knows
N(A_v μ, .01). SDS with one random view a step ends at ψ_0 + P (μ - ψ_0), the projection on the rows of the views that
are used: one view determines 36 of 216 numbers, three of them 91, all six 152, and the rest stays as it was drawn at
first, whatever the number of steps. The Janus problem has a formula too. Let a face look like +1 and a back like -1; a
denoiser that is not told the azimuth knows p δ₊ + (1-p) δ₋, with a little noise, and every side is pulled to the same
fixed point of that mixture: for p = .75 all four sides go to .61, most of a face. Small t alone make it worse, .94.
Told the azimuth, each side goes to its own picture. The exact column is NumPy and closed forms. What does not carry
over: a real renderer is opaque, and what is hidden then depends on the volume itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import brentq

from ddpm import distillation, oracle, plot
from ddpm.schedule import linear
from experiments.lab.runner import Result, Row, float64

PAPER = "Poole et al. 2023, Sec. 3.2; the Janus problem, Sec. 5"
MINUTES = 0.7
SIDE = 6
SETS = {"1 view": 1, "2 views": 2, "3 views": 3, "6 views": 6}
ORDER = ("+x", "+y", "+z", "-x", "-y", "-z")
WINDOWS = ((0.02, 0.98), (0.02, 0.5), (0.02, 0.2))
FACE_VAR = 0.05


@dataclass(frozen=True)
class Config:
    """Steps of SDS at each of two rates, with how often it is looked at, and the seed."""

    steps: int = 16_000
    looks: int = 20
    seed: int = 0


QUICK = {"steps": 4000, "looks": 4}


def body() -> np.ndarray:
    """μ: a ball in the middle with a dent at the front, and a plate below: (216,)"""
    x, y, z = (np.indices((SIDE,) * 3) - (SIDE - 1) / 2) / SIDE
    ball = (x**2 + y**2 + z**2 < 0.16).astype(float)
    ball[x < -0.2] *= 0.3
    return np.where(z < -0.35, 0.8, ball).ravel()


def matrix(direction: str, gamma: float) -> np.ndarray:
    """A_v written out voxel by voxel: (36, 216)"""
    A = np.zeros((SIDE, SIDE, SIDE, SIDE, SIDE))
    for at in np.ndindex(SIDE, SIDE, SIDE):
        axis = "xyz".index(direction[1])
        depth = at[axis] if direction[0] == "+" else SIDE - 1 - at[axis]
        A[(*[k for i, k in enumerate(at) if i != axis], *at)] = gamma**depth
    return A.reshape(SIDE**2, SIDE**3)


def distil(directions: tuple[str, ...], psi_0: np.ndarray, config: Config) -> list[np.ndarray]:
    """ψ after each look: SDS with one random view a step, at rate .1 and then .01."""
    schedule, mu = linear(), body()
    views = jnp.asarray(np.stack([distillation.view(SIDE, d) for d in directions]), jnp.float32)
    m = oracle.mixture(np.asarray(views) @ mu, 0.01, label=np.arange(len(views)))
    eps = m.eps(schedule)

    def gradient(key: jax.Array, psi: jax.Array) -> jax.Array:
        key_v, key = jax.random.split(key)
        v = jax.random.randint(key_v, (1,), 0, len(views))
        pull = distillation.pulled_back(distillation.sds(eps, schedule, v), distillation.renderer([views[v[0]]]))
        return pull(key, psi)

    psi, found, key = jnp.asarray(psi_0, jnp.float32), [psi_0], jax.random.key(config.seed)
    for look in range(2 * config.looks):
        rate = 0.1 if look < config.looks else 0.01
        psi = distillation.descend(gradient, jax.random.fold_in(key, look), psi, config.steps // config.looks, rate)
        found.append(np.asarray(psi))
    return found


def janus(p: float, window: tuple[float, float]) -> float:
    """The stable fixed point next to the face, in NumPy: the mixture p N(1, .05) + (1-p) N(-1, .05), w = 1-ᾱ."""
    a = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[round(window[0] * 1000) : round(window[1] * 1000), None]
    z, weight = np.polynomial.hermite_e.hermegauss(100)
    weight = weight / weight.sum()
    v = a * FACE_VAR + 1 - a

    def field(x: float) -> float:
        x_t = np.sqrt(a) * x + np.sqrt(1 - a) * z
        log_odds = np.clip(2 * np.sqrt(a) * x_t / v + np.log(p / (1 - p)), -700, 700)
        mean = np.sqrt(a) * np.tanh(log_odds / 2)  # E of ±√ᾱ given x_t
        return float(((1 - a) * np.sqrt(1 - a) * (x_t - mean) / v * weight).sum(1).mean())

    return brentq(field, 0.0 if window[1] > 0.3 else 0.3, 3.0)


def run(config: Config) -> Result:
    """Distil into voxels with several sets of views, and find the fixed points of an untold azimuth."""
    rng, mu, rows, curves, ends = np.random.default_rng(config.seed), body(), [], {}, {}
    psi_0 = rng.normal(size=mu.size) * 0.5
    for name, count in SETS.items():
        used = ORDER[:count] if count != 2 else ("+x", "-x")
        A = np.concatenate([matrix(d, 0.7) for d in used])
        library = np.concatenate([distillation.view(SIDE, d) for d in used])
        rank = np.linalg.matrix_rank(A)
        rows.append(Row(f"{name}: rank, of 216", None, float(rank), float(np.linalg.matrix_rank(library)), within=0.0))
        star = psi_0 + np.linalg.pinv(A) @ (A @ (mu - psi_0))
        found = distil(used, psi_0, config)
        rms = lambda a, b: float(np.sqrt(np.mean((a - b) ** 2)))  # noqa: E731
        exact, ours = rms(star, mu), rms(found[-1], mu)
        rows += [
            Row(f"{name}: rms distance of the end to the body", None, exact, ours, within=0.02),
            Row(
                f"{name}: rms distance of the end to ψ_0 + P (μ - ψ_0)",
                None,
                0.0,
                rms(found[-1], star),
                None,
                0.02,
                1.0,
            ),
        ]
        curves[name] = {"distance": [rms(psi, mu) for psi in found], "exact": exact, "rank": int(rank)}
        ends[name] = found[-1]
    faces = []
    with float64():
        schedule = linear()
        for p in (0.55, 0.65, 0.75, 0.85, 0.95):
            m = oracle.mixture([[1.0], [-1.0]], FACE_VAR, weight=np.array([p, 1 - p]))
            line = [p]
            for window in WINDOWS:
                low = 0.0 if window[1] > 0.3 else 0.3
                ours = distillation.fixed_point(m.eps(schedule), schedule, low, 3.0, None, window)
                what = f"Janus, p(face) = {p:g}, t ≤ {window[1] * 1000:.0f}: every side"
                rows.append(Row(what, None, janus(p, window), ours, within=1e-4))
                line.append(ours)
            faces.append(line)
    numbers = {"curves": curves, "ends": ends, "start": psi_0, "body": mu, "faces": faces, "steps": config.steps}
    return Result(rows, None, numbers)


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the distances, slices through the volumes, and where the sides go."""
    with plot.style():
        figure = plot.new_figure(10.6, 3.4)
        left, middle, right = figure.subplots(1, 3, width_ratios=(1.1, 1.2, 0.9))
        for (name, curve), colour in zip(numbers["curves"].items(), ("C3", "C1", "C2", "C0"), strict=True):
            step = np.arange(len(curve["distance"])) * 2 * numbers["steps"] / (len(curve["distance"]) - 1)
            left.plot(step / 1000, curve["distance"], color=colour, ls="-", label=f"{name}: rank {curve['rank']}")
            left.axhline(curve["exact"], color=colour, ls=":", lw=0.9)
        left.set(xlabel="thousand steps of SDS", ylabel="rms distance to the body", ylim=(0, None))
        left.legend(fontsize=7, title="dotted: exact", title_fontsize=7, loc="lower left")
        shown = {"body": numbers["body"], "start": numbers["start"], **numbers["ends"]}
        picture = np.full((2 * SIDE + 3, 3 * SIDE + 2), np.nan)
        middle.set(xticks=[], yticks=[])
        for i, (name, psi) in enumerate(shown.items()):
            top, at = (i // 3) * (SIDE + 3), (i % 3) * (SIDE + 1)
            picture[top : top + SIDE, at : at + SIDE] = np.array(psi).reshape((SIDE,) * 3)[:, SIDE // 2][:, ::-1].T
            middle.text(at + SIDE / 2 - 0.5, top - 0.7, name, fontsize=7, ha="center", va="bottom")
        middle.imshow(picture, cmap="gray", vmin=-0.5, vmax=1.2)
        middle.set_ylim(2 * SIDE + 2.5, -2)
        for spine in middle.spines.values():
            spine.set_visible(False)
        middle.set_title("a slice through the volume", fontsize=8, y=-0.08)
        faces = np.array(numbers["faces"])
        for j, (window, colour) in enumerate(zip(WINDOWS, ("C3", "C1", "C0"), strict=True)):
            right.plot(faces[:, 0], faces[:, 1 + j], "o-", ms=4, color=colour, label=f"t ≤ {window[1] * 1000:.0f}")
        right.axhline(-1, color="0.5", lw=0.9, ls=":")
        right.text(0.55, -0.97, "what the back should be", fontsize=7, va="bottom")
        right.set(xlabel="share p of faces in the data", ylabel="where the back goes (face: 1)", ylim=(-1.15, 1.15))
        right.legend(fontsize=7, loc="center right")
    return figure
