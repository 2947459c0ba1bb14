"""Subspace clustering: training on low-rank Gaussians is PCA for one, and clustering for several.

The claim: on Σ_k π_k N(0, U_kU_kᵀ), d dimensions each of n, a denoiser of the form of the best one is trained to the
subspaces as soon as each has d samples: that is why the number of images that a model needs follows the dimension of
the data and not that of the pixels. The best denoiser is, with w_k ∝ exp(ᾱ‖U_kᵀx_t‖²/2(1-ᾱ)),

    x̂0 = √ᾱ Σ_k w_k U_kU_kᵀ x_t,      and for K = 1 its loss is  ‖x0‖² - ᾱ(2-ᾱ)‖Uᵀx0‖² + ᾱ(1-ᾱ)d

What we see: for K = 1 the claim is exact. The loss depends on U through ‖Uᵀx0‖² alone: under every weighting of the
noise levels PCA is best, and its error is 0 from N = d samples on. For K = 2 it fails as printed: with d samples each,
any split in halves fits as well as the truth (all of them counted below); one sample more makes the truth the only
minimum. And the minimum must still be found: with three subspaces, ten restarts of the alternating minimisation often
miss it. What does not carry over: the hard weights w_k of the paper's theorem; images lie on no such subspaces;
gradient descent starts from one point, not from ten.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product
from math import comb

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.special import softmax

from ddpm import oracle, plot
from ddpm.forward import x0_from_eps
from ddpm.schedule import linear
from experiments.lab.runner import Result, Row, float64

PAPER = "Wang et al. 2024, Diffusion models learn low-dimensional distributions via subspace clustering"
MINUTES = 1


@dataclass(frozen=True)
class Config:
    """Pixels n, dimension d, repetitions, samples of each subspace, and restarts."""

    n: int = 48
    d: int = 6
    repeats: int = 400
    data_sets: int = 10
    samples: tuple[int, ...] = (6, 8, 12, 18, 24, 30)
    restarts: int = 10
    seed: int = 0


QUICK = {"n": 20, "d": 3, "repeats": 300, "data_sets": 2, "samples": (3, 12), "restarts": 4}


def bases(rng: np.random.Generator, k: int, n: int, d: int) -> np.ndarray:
    """k random subspaces as orthonormal columns, (k, n, d)"""
    return np.linalg.qr(rng.normal(size=(k, n, d)))[0]


def data(rng: np.random.Generator, k: int, m: int, n: int, d: int) -> np.ndarray:
    """m samples of each of k random subspaces, (km, n)"""
    return np.concatenate([rng.normal(size=(m, d)) @ U.T for U in bases(rng, k, n, d)])


def pca(x: np.ndarray, d: int, rng: np.random.Generator) -> np.ndarray:
    """The first d principal directions of x (N, n), without centring; random ones where N < d leaves them open"""
    U = np.linalg.svd(x, full_matrices=False)[2][:d].T
    return np.linalg.qr(np.concatenate([U, rng.normal(size=(len(U), d - U.shape[1]))], 1))[0]


def k_subspaces(x: np.ndarray, k: int, d: int, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """Alternate between subspaces and assignments from one random start: the residual Σ‖x - UUᵀx‖², and the clusters"""
    U = bases(rng, k, x.shape[1], d)
    cluster = np.full(len(x), -1)
    for _ in range(50):
        inside = (np.einsum("knd,bn->kbd", U, x) ** 2).sum(2)
        before, cluster = cluster, inside.argmax(0)
        if np.array_equal(before, cluster):
            break
        U = np.stack([pca(x[cluster == j], d, rng) if np.any(cluster == j) else U[j] for j in range(k)])
    return float((x**2).sum() - (np.einsum("knd,bn->kbd", U, x) ** 2).sum(2).max(0).sum()), cluster


def wrong_splits(m: int, d: int, rng: np.random.Generator) -> int:
    """Wrong splits in two that fit 2m samples of two subspaces with residual 0, by trying all of them"""
    x = data(rng, 2, m, 4 * d, d)
    truth, found = (1 << m) - 1, 0
    for code in range(1 << (2 * m - 1)):  # the last sample stays in the second cluster
        first = (code >> np.arange(2 * m)) & 1 == 1
        found += code != truth and all(np.linalg.matrix_rank(x[part]) <= d for part in (first, ~first) if part.any())
    return found


def accuracy(cluster: np.ndarray, k: int) -> float:
    """Share of samples in the right cluster, under the best names; the truth has equal clusters in order"""
    return max(float(np.mean(np.array(p)[cluster].reshape(k, -1).T == range(k))) for p in permutations(range(k)))


def run(config: Config) -> Result:
    """Check the denoiser, the loss and the PCA's error; count what fits as well; cluster."""
    n, d, rng = config.n, config.d, np.random.default_rng(config.seed)
    rows: list[Row] = []
    mean = lambda a: (float(np.mean(a)), float(np.std(a) / np.sqrt(len(a))))  # noqa: E731  and its standard error
    U, x, at = bases(rng, 2, n, d), rng.normal(size=(5, n)), jnp.array(300)
    with float64():
        schedule = linear()
        a = float(schedule.alpha_bar[300])
        best = oracle.mixture(np.zeros((2, n)), U @ U.transpose(0, 2, 1)).eps(schedule)
        x0 = np.asarray(x0_from_eps(schedule, jnp.asarray(x), at, best(jnp.asarray(x), at, None)))
    inside = np.einsum("knd,bn->bkd", U, x)
    w = softmax(a * (inside**2).sum(2) / 2 / (1 - a), axis=1)
    gap = float(np.abs(np.sqrt(a) * np.einsum("bk,knd,bkd->bn", w, U, inside) - x0).max())
    rows.append(Row("x̂0: library less formula", None, 0.0, gap, within=1e-9, near=1.0))
    one, V = U[0, :, 0], bases(rng, 1, n, d)[0]
    loss = np.linalg.norm(one - a * V @ (V.T @ one)) ** 2 + a * (1 - a) * np.trace(V @ V.T)  # bias² + variance
    exact = one @ one - a * (2 - a) * ((one @ V) ** 2).sum() + a * (1 - a) * d
    rows.append(Row("K = 1: loss of another subspace", None, float(exact), float(loss), within=1e-12))
    # PCA from N samples
    for N in range(1, d + 1):
        tries = (pca(x @ U[0].T, d, rng) for x in rng.normal(size=(config.repeats, N, d)))
        errors = [1 - ((U[0].T @ V) ** 2).sum() / d for V in tries]  # ‖UUᵀ - ÛÛᵀ‖²/2d
        exact = (d - N) / d * (1 - (d - N) / (n - N))
        rows.append(Row(f"K = 1, N = {N}: error of PCA", None, exact, *mean(errors), within=0.02, near=0.5))
    # Two subspaces: splits that fit as well as the truth
    for m in (2, 3, 4):
        exact, name = comb(2 * m, m) / 2 - 1 if m == 2 else 0, f"K = 2, d = 2, {m} samples each"
        rows.append(Row(f"{name}: wrong splits with residual 0", None, exact, wrong_splits(m, 2, rng), within=0))
    curves: dict[str, list] = {"2": [], "3": []}
    for k, m in product((2, 3), config.samples):
        sets = (data(rng, k, m, n, d) for _ in range(config.data_sets))
        starts = [[k_subspaces(x, k, d, rng) for _ in range(config.restarts)] for x in sets]
        ends = mean([accuracy(min(one, key=lambda end: end[0])[1], k) for one in starts])
        rows.append(Row(f"K = {k}, {m} samples each: accuracy of clustering", None, None, *ends))
        curves[str(k)].append(ends)
    return Result(rows, None, {"n": n, "d": d, "samples": config.samples, "found": curves})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the PCA's error by N, and the accuracy of clustering by samples."""
    with plot.style():
        figure = plot.new_figure(8.6, 2.9)
        left, right = figure.subplots(1, 2)
        errors = [r for r in rows if "error of PCA" in r["what"]]
        left.plot(range(1, len(errors) + 1), [r["exact"] for r in errors])
        left.plot(range(1, len(errors) + 1), [r["ours"] for r in errors], "o")
        left.set(xlabel="samples N", ylabel="error of the subspace", title="one subspace: exact (line), ours (dots)")
        for k, found in numbers["found"].items():
            right.errorbar(numbers["samples"], *zip(*found, strict=True), fmt="o-", label=f"{k} subspaces", capsize=3)
        right.axvline(numbers["d"], color="0.7", lw=1)
        right.set(xlabel="samples of each subspace", ylabel="accuracy", ylim=(0.3, 1.03), title="clusters found")
        right.legend(fontsize=8)
    return figure
