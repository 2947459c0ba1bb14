"""Functional maps by score distillation: a known prior repairs wrong landmarks, if the times fall.

Which point of a running animal is which of the standing one? A functional map answers with a small matrix C between
the slowest functions of both shapes. For shapes with the same distances C is diagonal with entries ±1, so a prior of C
is known without training: ½N(1, .1²) + ½N(-1, .1²) on the diagonal and N(0, .1²) elsewhere. DiffuMatch learns such a
prior from many shapes and fits C by score distillation. Here its exact denoiser is used. The shape is a graph of points
on an animal; in the other pose it is the same graph, renumbered, so the true map is known. Twenty landmarks are given,
of which a share points anywhere. Fitted to them alone, C puts the points of the animal far from where they belong.
With the prior most of that error goes, but only if t falls during the fit: at large t the fixed point of the prior is
C = 0, between both signs, and uniform times stay near it. Exact is what no fit can know without being told that C is
diagonal: the best of all matrices diag(±1), whose signs are those of the landmarks' inner products. Score distillation
goes most of the way. Descriptors without landmarks, the heat that stays at each point, find the map too if they are
exact; with 1 % of noise they find nothing, unless C is asked to commute with the Laplacians (weight α), and ZoomOut
repairs what is left. The papers have other shapes and a trained prior, so that none of their numbers stands here. What
does not carry over: real pairs of shapes have nearly, not exactly, the same distances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

from ddpm import plot
from ddpm.distillation import functional_maps as fm
from ddpm.schedule import linear
from experiments.lab.runner import Result, Row

PAPER = "Ovsjanikov et al. 2012 (functional maps); Melzi et al. 2019 (ZoomOut); DiffuMatch 2025 (a prior and SDS)"
MINUTES = 0.7
LANDMARKS = 20
DENSE = 5000  # points drawn on each bone, before those that are kept are chosen
STRENGTH, RATE = 5.0, 0.1
TIMES = {"t falling": fm.FALLING, "t uniform": (0.98,) * len(fm.FALLING)}


@dataclass(frozen=True)
class Config:
    """Points of the shape, functions, shares of wrong landmarks, repeats, and the seed."""

    points: int = 700
    functions: int = 15
    wrong: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6)
    repeats: int = 8
    seed: int = 0


QUICK = {"points": 250, "functions": 12, "wrong": (0.0, 0.4), "repeats": 2}


# --- an animal --------------------------------------------------------------------------------------------------------


class Bone(NamedTuple):
    """A round limb from `start` to `end`; the joint is at the start."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radii: tuple[float, float]
    parent: str = ""
    turns: tuple[tuple[str, float], ...] = ()  # axis and degrees, in the second pose


BONES = {
    "body": Bone((-1, 0, 0), (1, 0, 0.05), (0.42, 0.46)),
    "neck": Bone((1, 0, 0.2), (1.55, 0, 0.95), (0.27, 0.2), "body", (("y", 35),)),
    "head": Bone((1.55, 0, 1.0), (2.1, 0, 0.85), (0.24, 0.15), "neck", (("y", -45), ("x", 15))),
    "left ear": Bone((1.5, 0.13, 1.15), (1.45, 0.2, 1.5), (0.08, 0.04), "head"),
    "right ear": Bone((1.5, -0.13, 1.15), (1.45, -0.2, 1.5), (0.08, 0.04), "head"),
    "tail": Bone((-1.3, 0, 0.2), (-2.1, 0, 0.75), (0.12, 0.05), "body", (("y", 30),)),
    "left front": Bone((0.9, 0.27, -0.2), (0.9, 0.27, -1.35), (0.17, 0.1), "body", (("y", -55),)),
    "right front": Bone((0.9, -0.27, -0.2), (0.9, -0.27, -1.35), (0.17, 0.1), "body", (("y", -25),)),
    "left back": Bone((-0.9, 0.27, -0.2), (-0.9, 0.27, -1.35), (0.19, 0.1), "body", (("y", 25),)),
    "right back": Bone((-0.9, -0.27, -0.2), (-0.9, -0.27, -1.35), (0.19, 0.1), "body", (("y", 55),)),
}


def along(bone: Bone, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The point of the bone's axis next to each of `at` (n, 3), and the radius there."""
    start, end = np.array(bone.start, float), np.array(bone.end, float)
    h = np.clip((at - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
    return start + h[:, None] * (end - start), bone.radii[0] + h * (bone.radii[1] - bone.radii[0])


def standing(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """n points spread evenly over the surface of all bones, and the bone of each: (n, 3), (n,)"""
    drawn, bones = [], []
    for i, bone in enumerate(BONES.values()):
        start, end = np.array(bone.start), np.array(bone.end)
        u = rng.normal(size=(DENSE, 3))
        inner, radius = along(bone, start + rng.uniform(-0.3, 1.3, (DENSE, 1)) * (end - start))
        drawn.append(inner + u / np.linalg.norm(u, axis=1, keepdims=True) * radius[:, None])
        bones.append(np.full(DENSE, i))
    at, bone_of = np.concatenate(drawn), np.concatenate(bones)
    gaps = [np.linalg.norm(at - inner, axis=1) - radius for inner, radius in (along(b, at) for b in BONES.values())]
    outside = np.min(gaps, 0) > -0.012
    at, bone_of = at[outside], bone_of[outside]
    chosen, far = [0], np.linalg.norm(at - at[0], axis=1)
    for _ in range(n - 1):  # the point that is farthest from all so far
        chosen.append(int(far.argmax()))
        far = np.minimum(far, np.linalg.norm(at - at[chosen[-1]], axis=1))
    return at[chosen], bone_of[chosen]


def running(at: np.ndarray, bone_of: np.ndarray) -> np.ndarray:
    """The same points in the second pose: each bone turns at its joint, and takes with it what hangs on it."""
    names, out = list(BONES), at.copy()
    for name in reversed(names):
        hangs = {name}
        for other in names:
            hangs |= {other} if BONES[other].parent in hangs else set()
        moved = np.isin(bone_of, [names.index(k) for k in hangs])
        for axis, degrees in BONES[name].turns:
            i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
            from_joint = out[moved] - BONES[name].start
            cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
            turned = from_joint.copy()
            turned[:, i] = cos * from_joint[:, i] - sin * from_joint[:, j]
            turned[:, j] = sin * from_joint[:, i] + cos * from_joint[:, j]
            out[moved] = turned + BONES[name].start
    return out


def graph(at: np.ndarray, neighbours: int = 8) -> np.ndarray:
    """W of the graph that joins each point with those next to it: (n, n)"""
    distance, near = cKDTree(at).query(at, neighbours + 1)
    W = np.zeros((len(at), len(at)))
    for i in range(len(at)):
        W[i, near[i, 1:]] = np.exp(-((distance[i, 1:] / np.median(distance[:, 1:])) ** 2))
    return np.maximum(W, W.T)


# --- fits -------------------------------------------------------------------------------------------------------------


def run(config: Config) -> Result:
    """The true map, maps of descriptors, and maps of landmarks with and without a prior."""
    rng = np.random.default_rng(config.seed)
    at, bone_of = standing(config.points, rng)
    n, k = config.points, config.functions
    true = rng.permutation(n)  # the point of X of each point of Y
    L = fm.laplacian(graph(at))
    X, Y = fm.eigenbasis(L, k), fm.eigenbasis(L[np.ix_(true, true)], k)
    C = fm.from_points(X, Y, true)
    error = lambda C: float(np.linalg.norm(at[fm.to_points(C, X, Y)] - at[true], axis=1).mean())  # noqa: E731
    share = lambda C: float(np.mean(fm.to_points(C, X, Y) == true))  # noqa: E731
    # The truth, in NumPy: eigenvectors of L by themselves, signs by their inner product
    signs = np.sign(
        (np.linalg.eigh(L)[1][:, :k][true] * Y.vectors).sum(0) * (np.linalg.eigh(L)[1][:, :k] * X.vectors).sum(0)
    )
    rows = [
        Row("true map: largest |CCᵀ - 1|", None, 0.0, float(np.abs(C @ C.T - np.eye(k)).max()), within=1e-8, near=1),
        Row(
            "true map: largest |C - diag(±1)|", None, 0.0, float(np.abs(C - np.diag(signs)).max()), within=1e-8, near=1
        ),
        Row("true map: share of the points that it finds", None, 1.0, share(C), within=0.0),
        Row("C = 1, signs left open: share of the points", None, None, share(np.eye(k))),
    ]
    rows += descriptors(X, Y, share, rng)
    chance = float(pdist(at).mean())
    fitted, found = landmarks(config, (X, Y), true, error, chance)
    numbers: dict[str, Any] = {"curves": fitted, "wrong": config.wrong, "chance": chance, "functions": k}
    drawn = {name: fm.to_points(map_, X, Y) for name, map_ in found.items()}
    numbers["drawn"] = {"standing": at, "running": running(at, bone_of)[true], "true": true, **drawn}
    for name, line in fitted.items():
        for share_wrong, value, spread in zip(config.wrong, line["mean"], line["spread"], strict=True):
            what = f"{share_wrong:.0%} of the landmarks wrong, {name}: mean distance"
            best = fitted[EXACT]["mean"][config.wrong.index(share_wrong)]
            rows += [] if name == EXACT else [Row(what, None, best if name in TIMES else None, value, spread)]
    return Result(rows, None, numbers)


EXACT = "the best of all diag(±1)"
UNCHECKED = "A fit by drawn gradients is not exact: beside it stands the best map that is diagonal with entries ±1."


def descriptors(X: fm.Basis, Y: fm.Basis, share: Any, rng: np.random.Generator) -> list[Row]:
    """Maps from the heat that stays at a point, exact and with 1 % of noise; α; and what ZoomOut makes of them."""
    times = np.geomspace(0.05, 100, 40).tolist()
    heat = [fm.heat_signatures(s, times) for s in (X, Y)]
    spread = heat[1].std(0)
    rows = []
    for noise, alphas in ((0.0, (0.0,)), (0.01, (0.0, 1.0, 100.0))):
        measured = heat[1] / spread + noise * rng.normal(size=heat[1].shape)
        A, B = fm.coefficients(X, heat[0] / spread), fm.coefficients(Y, measured)
        for alpha in alphas:
            fitted = fm.least_squares(A, B, X, Y, alpha)
            what = f"heat signatures with {noise:.0%} of noise, α = {alpha:g}"
            rows.append(Row(f"{what}: share of the points", None, None if noise else 1.0, share(fitted), within=0.01))
        if noise:
            zoomed = fm.zoomed(fitted[:6, :6], X, Y)
            rows.append(Row(f"{what}, its first 6 functions and ZoomOut: share", None, None, share(zoomed)))
    return rows


def landmarks(config: Config, shapes: Any, true: np.ndarray, error: Any, chance: float) -> tuple[dict, dict]:
    """Mean error of each way by the share of wrong landmarks, and the maps of the last share but one."""
    X, Y = shapes
    schedule, n = linear(), len(true)
    eps = fm.isometry_prior(schedule, config.functions)
    fitted: dict[str, dict[str, list[float]]] = {}
    found: dict[str, np.ndarray] = {}
    for wrong in config.wrong:
        values: dict[str, list[float]] = {}
        for repeat in range(config.repeats):
            rng = np.random.default_rng([config.seed, repeat])
            y = rng.choice(n, LANDMARKS, replace=False)
            x = true[y]
            x[: round(wrong * LANDMARKS)] = rng.integers(0, n, round(wrong * LANDMARKS))
            A, B = (np.sqrt(n) * s.vectors[points].T for s, points in ((X, x), (Y, y)))
            key = jax.random.key(repeat)
            maps = {"landmarks alone": fm.least_squares(A, B, X, Y), EXACT: np.diag(np.sign((A * B).sum(1)))}
            for name, tops in TIMES.items():
                maps[name] = fm.distilled(key, eps, schedule, A, B, tops, STRENGTH, rate=RATE)
            for name, C in maps.items():
                values.setdefault(name, []).append(error(C))
            if wrong == 0.4 and not repeat:
                found = maps
        for name, v in values.items():
            line = fitted.setdefault(name, {"mean": [], "spread": []})
            line["mean"].append(float(np.mean(v)))
            line["spread"].append(float(np.std(v) / np.sqrt(len(v))))
    return fitted, found


# --- figure -----------------------------------------------------------------------------------------------------------


def dots(ax: Any, at: np.ndarray, colour: np.ndarray, title: str) -> None:
    """Draw points as small balls, near ones over far ones, darker where they are far."""
    azimuth, height = np.deg2rad(-62), np.deg2rad(16)
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0])
    away = -np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)])
    up = np.cross(right, away)
    depth = at @ away
    order = np.argsort(-depth)
    shade = 0.5 + 0.5 * (depth.max() - depth) / np.ptp(depth)
    size = 26_000 / len(at)
    ax.scatter(
        (at @ right)[order], (at @ up)[order], s=size, c=(colour * shade[:, None])[order], edgecolors="k",
        linewidths=0.15,
    )  # fmt: skip
    ax.set(xlim=(-2.6, 2.6), ylim=(-1.75, 1.75), aspect="equal")
    ax.axis("off")
    ax.set_title(title, fontsize=9, y=0.95)


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw a map as colours that are carried from one pose to the other, and the errors."""
    drawn = {k: np.array(v) for k, v in numbers["drawn"].items()}
    at = drawn["standing"]
    colour = (at - at.min(0)) / np.ptp(at, axis=0)
    colour = 0.15 + 0.85 * colour[:, [0, 2, 1]]
    with plot.style():
        figure = plot.new_figure(10.8, 4.6)
        grid = figure.add_gridspec(2, 3, width_ratios=(1, 1, 1.05))
        panels = {
            "standing, colours of the place": (at, np.arange(len(at))),
            "running, true map": (drawn["running"], drawn["true"]),
            "40 % wrong: landmarks alone": (drawn["running"], drawn["landmarks alone"]),
            "40 % wrong: with the prior, t falling": (drawn["running"], drawn["t falling"]),
        }
        for i, (title, (place, points)) in enumerate(panels.items()):
            dots(figure.add_subplot(grid[i // 2, i % 2]), place, colour[points], title)
        ax = figure.add_subplot(grid[:, 2])
        wrong = 100 * np.array(numbers["wrong"])
        for (name, line), c, mark in zip(numbers["curves"].items(), ("C1", "0.3", "C0", "C3"), "s^ov", strict=True):
            style = ":" if name == EXACT else "-"
            ax.errorbar(
                wrong, line["mean"], line["spread"], color=c, ls=style, marker=mark, ms=4, capsize=2, label=name
            )
        ax.axhline(numbers["chance"], color="0.6", lw=0.9, ls="--")
        ax.text(wrong[0], numbers["chance"], "any point", fontsize=7, va="bottom")
        ax.set(xlabel="wrong landmarks of 20, %", ylabel="mean distance to the right point", ylim=(0, None))
        ax.legend(fontsize=7.5, loc="center left")
    return figure
