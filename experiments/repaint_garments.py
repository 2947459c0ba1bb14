"""RePaint, Tables 1 to 3: resampling, jumps and masks, on garments, and its bias where the answer is exact.

Lugmayr et al. replace the known pixels at every step and go up and down again r times, so that the filling comes to
agree with what is known: LPIPS falls with r, and more than by spending the same calls on smaller steps. The result
should be a draw from p(missing | known). For a Gaussian with the garments' covariance (plus a ridge of .01) this is
known, and so is what RePaint gives: each step is linear, so mean and covariance are carried through the whole walk in
NumPy. "squared bias" is the error of the mean in units of the variance that the known pixels explain (1: they were
ignored), and "variance" is that of the filling over the conditional one (1 is right). The last rows estimate both from
draws with the library. On garments we use the shipped model without a class, n test images, and ancestral steps (σ² =
β̃) at 50 even times where the paper has 250, so r and j are smaller too. There is no LPIPS here: distance is the
squared distance of the shipped classifier's features to the original's, in units of that between two images of the set;
the paper's column is LPIPS (ImageNet), in other units. "class kept" means that the classifier predicts the class of the
original, which only the known pixels can tell. The figure shows garments that the network drew itself.

What we see is the paper's claim. With r the distance falls, from r = 1 to r = 10 by .158 ± .049 (the same images), and
most steeply at the first resamplings; the jump length matters little, as in the paper (.09, .08, .06 at j = 1, 5, 10,
not resolved with 20 images). The Gaussian shows what resampling does: it takes away the bias (.15 to .009 of what the
known pixels explain), and it also takes away variance, from 44 % too much to 16 % too little. So RePaint does not
converge to the conditional distribution: at r = 4 the two errors cancel, and beyond that it draws too little variety.
Only "expand", where a quarter of each side is known, is not helped (.72, .75): so little is known that many garments
are right, and a distance to the original punishes them, as the authors warn.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import data, oracle, plot
from ddpm.classifiers import classifier
from ddpm.datasets import sources
from ddpm.editing.inpaint import repaint, repaint_times
from ddpm.editing.masks import make_mask
from ddpm.guide import cfg, clip_x0
from ddpm.sample import ddim_step, ddpm_step, walk
from ddpm.schedule import make_schedule, make_times
from ddpm.zoo import model
from experiments.lab.linear_denoisers import affine
from experiments.lab.runner import Result, Row, Unavailable, float64

PAPER = "Lugmayr et al. 2022, Tables 1 to 3 (LPIPS; r at ImageNet wide, j at CelebA-HQ wide)"
MINUTES = 3
MASKS = ("wide", "every_second_pixel", "half", "expand")
BY_MASK = dict(zip(MASKS, (0.134, 0.183, 0.304, 0.629), strict=True))  # ImageNet, r = 10
BY_R = {1: 0.168, 2: 0.148, 4: 0.134}
BY_J = {1: 0.075, 5: 0.072, 10: 0.073}  # CelebA-HQ, r = 5


@dataclass(frozen=True)
class Config:
    """The model, test images, the number of even times, resamplings r at jump j, other jumps at r = 5, and the seed."""

    model: str = "fashion_mnist"
    n: int = 20
    steps: int = 50
    jump: int = 5
    resample: tuple[int, ...] = (1, 2, 4, 10)
    jumps: tuple[int, ...] = (1, 10)
    ridge: float = 0.01
    drawn: int = 200
    seed: int = 0


QUICK = {"n": 4, "steps": 6, "jump": 2, "resample": (1, 2), "jumps": (), "drawn": 0}


# --- the Gaussian, exactly --------------------------------------------------------------------------------------------


def conditional(cov: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For N(0, cov): the matrix that maps known pixels to the missing ones' mean, and their covariance."""
    k, u = np.flatnonzero(known), np.flatnonzero(~known)
    gain = np.linalg.solve(cov[np.ix_(k, k)], cov[np.ix_(k, u)]).T
    return gain, cov[np.ix_(u, u)] - gain @ cov[np.ix_(k, u)]


def carried(m: model.Model, lam: np.ndarray, U: np.ndarray, known: np.ndarray, times: Any) -> Any:
    """The same for RePaint with the perfect denoiser of N(0, U diag(lam) Uᵀ): mean = B · known, and the covariance.

    Given the image, the known pixels follow N(mean_k · known, cov_k I), independently of the missing ones.
    """
    with float64():
        schedule = make_schedule(m.card["schedule"]["name"], m.schedule.T)
        alpha_bar = np.asarray(schedule.alpha_bar)

        def eps(x_t: jax.Array, t: jax.Array, c: Any) -> jax.Array:
            a = schedule.alpha_bar[t][:, None]
            return jnp.sqrt(1 - a) * x_t / (a * lam[None] + 1 - a)

        step, pairs = ddpm_step(eps, schedule), list(pairwise(int(t) for t in times))
        one = jax.jit(lambda t, s: affine(step, t, s, len(lam)))
        down = {(t, s): [np.asarray(v) for v in one(jnp.asarray(t), jnp.asarray(s))] for t, s in pairs if s < t}
    Uk, Uu = U[known], U[~known]  # rows are pixels
    I = np.eye(len(Uu))
    B, S, mean_k, cov_k = np.zeros((len(Uu), len(Uk))), I, 0.0, 1.0
    made: dict[tuple[int, int], Any] = {}
    for t, s in pairs:
        if s > t:  # up: √a x + √(1-a) ε
            a = alpha_bar[s] / alpha_bar[t]
            B, S, mean_k, cov_k = np.sqrt(a) * B, a * S + (1 - a) * I, np.sqrt(a) * mean_k, a * cov_k + 1 - a
            continue
        if (t, s) not in made:
            gain, noise = down[t, s]
            Muk = (Uu * gain) @ Uk.T
            made[t, s] = (Uu * gain) @ Uu.T, Muk, Muk @ Muk.T, (Uu * noise**2) @ Uu.T
        Muu, Muk, MM, N = made[t, s]
        B, S = Muu @ B + mean_k * Muk, Muu @ S @ Muu.T + cov_k * MM + N
        mean_k, cov_k = np.sqrt(alpha_bar[s]), 1 - alpha_bar[s]
    return B, S


def bias_and_variance(B: np.ndarray, S: np.ndarray, C: np.ndarray, V: np.ndarray, kk: np.ndarray) -> Any:
    """Squared error of the mean over what known pixels (covariance kk) explain; variance over the right one."""
    off = B - C
    return float(np.sum((off @ kk) * off) / np.sum((C @ kk) * C)), float(np.trace(S) / np.trace(V))


def drawn_bias(m: model.Model, lam: Any, U: Any, mask: np.ndarray, times: Any, config: Config) -> tuple[float, float]:
    """Estimate both with the library, from pairs of fillings of the same known pixels.

    With two independent fillings a, b: E (a-μ)(b-μ) is the squared bias, E (a-b)²/2 the variance.
    """
    n, known = config.drawn, mask.ravel() > 0
    C, V = conditional((U * lam) @ U.T, known)
    rng = np.random.default_rng(config.seed)
    x = (rng.standard_normal((n, len(lam))) * np.sqrt(lam)) @ U.T
    g = oracle.gaussian(np.zeros(len(lam)), (U * lam) @ U.T)
    both = jnp.asarray(np.tile(x, (2, 1)).reshape(2 * n, *m.image_shape), jnp.float32)
    step = repaint(ddpm_step(g.eps(m.schedule), m.schedule), m.schedule, both, mask)
    key_x, key = jax.random.split(jax.random.key(config.seed))
    out = walk(step, key, jax.random.normal(key_x, both.shape), times)
    a, b = np.asarray(out, np.float64).reshape(2, n, -1)[:, :, ~known]
    right = x[:, known] @ C.T
    return float(((a - right) * (b - right)).sum() / (right**2).sum()), float(
        ((a - b) ** 2).sum() / 2 / n / np.trace(V)
    )


# --- garments ---------------------------------------------------------------------------------------------------------


def run(config: Config) -> Result:
    """Measure r, j and masks, exactly and on garments."""
    m = model.load(config.model)
    name = m.card["train"]["data"]
    try:
        d = sources.load(name)
    except (FileNotFoundError, ConnectionError) as error:
        raise Unavailable(f"the experiment fills in real images of {name}, which is not here: {error}") from error
    judge = classifier.load(name)
    x = data.to_float(d.x_train).reshape(len(d.x_train), -1)
    lam, U = np.linalg.eigh(np.cov(x.astype(np.float64), rowvar=False))
    lam = np.maximum(lam, 0) + config.ridge
    cov, side = (U * lam) @ U.T, m.image_shape[0]
    x0, y = jnp.asarray(data.to_float(d.x_test[: config.n])), d.y_test[: config.n]
    x0 = jnp.concatenate([x0, generated(m, 4, config.seed)])
    eps = clip_x0(m.eps, m.schedule)
    original = judge.features(data.to_uint8(np.asarray(x0[: config.n])))
    apart = 2 * original.var(0).sum() * config.n / (config.n - 1)  # mean squared distance of two of them
    even = make_times(m.schedule.T, config.steps)
    rows: list[Row] = []
    found: dict[tuple[str, int, int], dict[str, Any]] = {}

    def fill(kind: str, j: int, r: int, paper: float | None) -> None:
        mask, times = make_mask(kind, side, side), repaint_times(even, j, r)
        known = mask.ravel() > 0
        C, V = conditional(cov, known)
        B, S = carried(m, lam, U, known, times)
        exact = bias_and_variance(B, S, C, V, cov[np.ix_(known, known)])
        key_x, key = jax.random.split(jax.random.key(config.seed))
        step = repaint(ddpm_step(eps, m.schedule), m.schedule, x0, mask)
        filled = np.asarray(walk(step, key, jax.random.normal(key_x, x0.shape), times))
        images = data.to_uint8(filled[: config.n])
        distance = ((judge.features(images) - original) ** 2).sum(1) / apart
        kept = judge.predict(images) == y
        miss = ((filled[: config.n] - np.asarray(x0[: config.n])) ** 2).sum((1, 2, 3)) / 4 / (1 - mask).sum()
        found[kind, j, r] = {"exact": exact, "distance": distance, "kept": kept, "images": filled[config.n :]}
        found[kind, j, r]["calls"] = int((np.diff(times) < 0).sum())
        root = np.sqrt(config.n)
        what = f"{kind.replace('_', ' ')}, j = {j}, r = {r}"
        rows.extend(
            [
                Row(f"{what}: feature distance", paper, None, distance.mean(), distance.std() / root),
                Row(f"{what}: class kept", None, None, kept.mean(), kept.std() / root),
                Row(f"{what}: MSE on [0, 1], missing pixels", None, None, miss.mean(), miss.std() / root),
                Row(f"{what}: squared bias, Gaussian", None, exact[0], None),
                Row(f"{what}: variance, Gaussian", None, exact[1], None),
            ]
        )

    for r in config.resample:
        fill("wide", config.jump, r, BY_R.get(r))
    again = config.resample[-1] if len(config.resample) < 3 else 5
    for j in config.jumps:
        fill("wide", j, again, BY_J.get(j))
    for kind in MASKS:
        for r in (1, again):
            if (kind, config.jump, r) not in found:
                fill(kind, config.jump, r, BY_MASK[kind] if r > 1 and kind != "wide" else None)
    first, last = (found["wide", config.jump, r] for r in (config.resample[0], config.resample[-1]))
    for what in ("distance", "kept"):
        change = last[what].astype(float) - first[what]
        rows.append(Row(f"wide, {what}: r = {config.resample[-1]} minus r = {config.resample[0]}, paired", None, None,
                        change.mean(), change.std() / np.sqrt(config.n)))  # fmt: skip
    if config.drawn:
        mask = make_mask("wide", side, side)
        for r in (1, 4):
            got = drawn_bias(m, lam, U, mask, repaint_times(even, config.jump, r), config)
            exact = found["wide", config.jump, r]["exact"]
            rows.append(Row(f"wide, r = {r}: squared bias, drawn", None, exact[0], got[0], within=0.1, near=0.1))
            rows.append(Row(f"wide, r = {r}: variance, drawn", None, exact[1], got[1], within=0.05))
    about = {"n": config.n, "split": f"the first {config.n} test images", "seed": config.seed, "steps": config.steps}
    about["calls"] = {f"{k[0]}, j = {k[1]}, r = {k[2]}": v["calls"] for k, v in found.items()}
    return Result(rows, picture(config, found, np.asarray(x0[config.n :]), side), about)


def generated(m: model.Model, n: int, seed: int) -> jax.Array:
    """Garments that the network draws: T-shirt, trouser, pullover, boot, …"""
    c = jnp.asarray([0, 1, 2, 9][:n]) % m.num_classes
    x_T = jax.random.normal(jax.random.key(seed), (n, *m.image_shape))
    eps = clip_x0(cfg(m.eps, 2.0), m.schedule)
    return walk(ddim_step(eps, m.schedule, c), jax.random.key(0), x_T, make_times(m.schedule.T, 20))


def picture(config: Config, found: Any, originals: np.ndarray, side: int) -> Any:
    """Draw fillings by r, bias and variance of the Gaussian, and the distance on garments."""
    j, wide = config.jump, make_mask("wide", side, side)
    with plot.style():
        figure = plot.new_figure(10.6, 3.3)
        left, middle, right = figure.subplots(1, 3, width_ratios=[1.25, 1, 1])
        columns = [
            originals,
            np.where(wide > 0, originals, 1.0),
            *(found["wide", j, r]["images"] for r in config.resample),
        ]
        grid = plot.grid(np.stack(columns, 1).reshape(-1, *originals.shape[1:]), columns=len(columns))
        left.imshow(grid.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        names = ["drawn", "known", *(f"r = {r}" for r in config.resample)]
        left.set_xticks([2 + (side + 2) * i + side / 2 for i in range(len(names))], names, fontsize=8)
        left.xaxis.tick_top()
        left.tick_params(length=0)
        left.set_yticks([])
        left.spines[:].set_visible(False)
        r = list(config.resample)
        for kind, mark in (("wide", "o"), ("half", "s")):
            seen = (
                [k for k in r if (kind, j, k) in found]
                if kind == "wide"
                else sorted(k[2] for k in found if k[0] == kind)
            )
            both = np.array([found[kind, j, k]["exact"] for k in seen])
            middle.plot(seen, both[:, 0], marker=mark, label=f"{kind}: squared bias (0)")
            middle.plot(seen, both[:, 1], marker=mark, markerfacecolor="w", label=f"{kind}: variance (1)")
        middle.axhline(1, color="#95a5a6", linestyle="-", linewidth=0.8)
        middle.set(xlabel="resamplings r", ylabel="of the exact conditional", ylim=(0, None), title="exact: Gaussian")
        middle.legend(fontsize=7)
        mean = np.array([found["wide", j, k]["distance"].mean() for k in r])
        error = np.array([found["wide", j, k]["distance"].std() for k in r]) * 1.96 / np.sqrt(config.n)
        right.errorbar(r, mean, error, marker="o", label="garments, feature distance")
        right.plot(list(BY_R), list(BY_R.values()), marker="s", label="paper: ImageNet, LPIPS")
        right.set(xlabel="resamplings r", ylabel="distance to the original", ylim=(0, None), title='mask "wide"')
        right.legend(fontsize=7)
    return figure
