"""A Gaussian for each label of high-dimensional images: a few large directions, and the same variance in the rest.

    x0 | c ~ N(μ_c, Σ_c),   Σ_c = U_c diag(λ_c) U_cᵀ + ρ_c (I - U_c U_cᵀ),   U_c: D x r        [Tipping and Bishop 1999]

With δ = x_t - √ᾱ_t μ_c and v(λ) = ᾱ_t λ + 1-ᾱ_t, its best denoiser needs no inverse and no D x D matrix:

    ε*(x_t, t, c) = √(1-ᾱ_t) [ δ/v(ρ) + U (1/v(λ) - 1/v(ρ)) Uᵀ δ ]

At high noise it is as good as a trained network, or better; at low noise, where edges count, the network is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.config import GAUSSIANS
from ddpm.contracts import Partial
from ddpm.forward import at
from ddpm.schedule import Schedule
from ddpm.tools import check


class LowRank(NamedTuple):
    """One Gaussian in each row: a row for each class and a last one for ∅, or one row for all labels."""

    mean: jax.Array  # (K, D)  μ
    basis: jax.Array  # (K, D, r), or (1, D, r) where all rows share it  U, orthonormal columns
    var: jax.Array  # (K, r)  λ, the variances along the columns
    rest: jax.Array  # (K,)  ρ, the variance in every direction that is orthogonal to them

    def eps(self, schedule: Schedule) -> Partial:
        """Return the denoiser ε*(x_t, t, c); c = None is ∅, the last row."""
        return Partial(_eps, self, schedule)

    def half(self) -> LowRank:
        """Return it as it is stored in weights that ship: the directions U in float16, half the bytes.

        Each number of U is off by at most 2⁻¹¹ of itself, which moves ε* by about a thousandth of its length.
        """
        return self._replace(basis=jnp.asarray(self.basis, jnp.float16))

    def loss(self, schedule: Schedule, weight: Sequence[float] | None = None) -> np.ndarray:
        """E ‖ε - ε*‖²/D at every t on data from these Gaussians: mean_d ᾱλ_d/(ᾱλ_d + 1-ᾱ), (T+1,) float64.

        weight: (K,) the share of each row, equal if None. Entry 0 is 1, as for noise that is not there.
        """
        K, D, r = self.mean.shape[0], self.mean.shape[1], self.var.shape[1]
        w = np.full(K, 1 / K) if weight is None else np.asarray(weight, dtype=np.float64) / np.sum(weight)
        alpha_bar = np.asarray(schedule.alpha_bar, dtype=np.float64)[1:, None, None]  # (T, 1, 1)
        var = np.concatenate([np.asarray(self.var, np.float64), np.asarray(self.rest, np.float64)[:, None]], axis=1)
        share = np.append(np.full(r, 1 / D), (D - r) / D)  # of the D directions
        by_row = (alpha_bar * var / (alpha_bar * var + 1 - alpha_bar) * share).sum(2)  # (T, K)
        return np.concatenate([[1.0], by_row @ w])

    def loss_on(self, schedule: Schedule, x0: Any, c: Any = None) -> np.ndarray:
        """E_ε ‖ε - ε*(x_t, t, c)‖²/D on given images at every t, without sampling; c = None is ∅.

        As `gaussian.linear_loss`; the D - r directions orthogonal to U count together, by the sum of their squares.
        x0: (N, ...);  c: (N,)  ->  (T+1,) float64; entry 0 is 1.
        """
        K, D = self.mean.shape
        x = np.asarray(x0, dtype=np.float32).reshape(len(x0), -1)
        _same_size("x0", x0, x, D)
        row = np.full(len(x), K - 1) if c is None or K == 1 else np.asarray(check.labels(c, len(x), K - 1))
        alpha_bar = np.asarray(schedule.alpha_bar, dtype=np.float64)[1:, None]  # (T, 1)
        loss = np.zeros(schedule.T)
        for k in np.unique(row):
            # Squares along the columns of U, and in the rest
            delta, U = x[row == k] - np.asarray(self.mean[k]), np.asarray(self.basis[k % len(self.basis)])
            s = np.square(delta @ U, dtype=np.float64).mean(0)  # (r,)
            left = max(np.square(delta, dtype=np.float64).sum(1).mean() - s.sum(), 0.0)
            square = np.append(s, left)  # (r+1,)
            var = np.append(np.asarray(self.var[k], np.float64), float(self.rest[k]))
            many = np.append(np.ones(len(s)), D - len(s))
            v = alpha_bar * var + 1 - alpha_bar  # (T, r+1)
            each = many * (alpha_bar * var / v) ** 2 + alpha_bar * (1 - alpha_bar) * square / v**2
            loss += (row == k).mean() * each.sum(1) / D
        return np.concatenate([[1.0], loss])


def _same_size(name: str, given: Any, x: Any, D: int) -> None:
    """Refuse images `given` of another size than D numbers; x: the same as (B, numbers)"""
    if x.shape[1] != D:
        raise ValueError(
            f"{name} has shape {np.shape(given)}, {x.shape[1]} numbers an image; the Gaussian has {D}: "
            f"give images of the size that it was fitted to, or fit it to images of this size"
        )


def _eps(m: LowRank, schedule: Schedule, x_t: jax.Array, t: Any, c: Any = None) -> jax.Array:
    B, K = x_t.shape[0], m.mean.shape[0]
    x = x_t.reshape(B, -1)
    _same_size("x_t", x_t, x, m.mean.shape[1])
    t = jnp.broadcast_to(check.times(t, x_t, schedule.T), (B,))
    row = jnp.full(B, K - 1) if c is None or K == 1 else check.labels(c, B, K - 1)
    alpha_bar, std = at(schedule.alpha_bar, t, x), at(schedule.std, t, x)  # (B, 1)
    delta = x - jnp.sqrt(alpha_bar) * m.mean[row]
    of_rest = 1 / (alpha_bar * m.rest[row][:, None] + std**2)  # 1/v(ρ), (B, 1)
    of_basis = 1 / (alpha_bar * m.var[row] + std**2)  # 1/v(λ), (B, r)
    # Uᵀδ and back: with one basis a matrix product; with K of them all are used, which is faster than to gather them
    if m.basis.shape[0] == 1:
        basis = m.basis[0]
        along = ((of_basis - of_rest) * (delta @ basis)) @ basis.T
    else:
        own = jax.nn.one_hot(row, K, dtype=x.dtype)[:, :, None]  # (B, K, 1)
        z = own * jnp.einsum("bd,kdr->bkr", delta, m.basis) * (of_basis - of_rest)[:, None]
        along = jnp.einsum("bkr,kdr->bd", z, m.basis)
    return (std * (of_rest * delta + along)).reshape(x_t.shape)


_eps.labels = lambda m, *_: None if len(m.mean) == 1 else len(m.mean) - 1  # type: ignore[attr-defined]


def isotropic(D: int, mean: Any = 0.0, var: Any = 1.0) -> LowRank:
    """N(mean, var I), as one row: the prior of v-prediction (0, 1), and that of EDM (the data's mean and variance)."""
    mean = jnp.broadcast_to(jnp.asarray(mean, jnp.float32).reshape(1, -1), (1, D))
    return LowRank(mean, jnp.zeros((1, D, 0)), jnp.zeros((1, 0)), jnp.full((1,), var, jnp.float32))


def round_of(g: LowRank) -> LowRank:
    """N(m, σ² I) with the mean and the total variance of the last row, that of all images."""
    D, r = g.mean.shape[1], g.var.shape[1]
    var = (g.var[-1].sum() + (D - r) * g.rest[-1]) / D
    return isotropic(D, g.mean[-1], var)


def fit(x: Any, c: Any = None, rank: int = 64, kind: str = "class", num_classes: int | None = None) -> LowRank:
    """Fit by randomised subspace iteration; the variances that are left out are averaged.   [Halko et al. 2011]

    x: (N, ...) images in [-1, 1];  c: (N,) labels in 0..num_classes-1, or None.
    kind: `class` each label its own directions, ∅ those of all images; `pooled` one set of directions for all, with
    each label's own mean and variances; `one` the same Gaussian for all labels; `isotropic` N(m, σ² I), no directions.
    The seed is fixed: the same images give the same Gaussian. scikit-learn's PCA finds the directions; λ are its
    variances, and ρ is the mean of those left out. On digits, and on variances that fall as 1/k, Σλ is at most .2 %
    below that of the exact eigenvectors, and the loss on these images at most .2 % above theirs at every t. Of white
    noise, whose variances do not fall, no direction is better than another, and Σλ is further below.
    """
    check.choice("kind", kind, GAUSSIANS)
    x = _images(x)
    N, D = x.shape
    if kind == "isotropic":
        return isotropic(D, _some(x, "all images").mean(0), x.var(0).mean())
    if c is None or kind == "one":
        _check_rank(rank, x, "all images")
        return LowRank(*(jnp.asarray(a)[None] for a in _pca(x, rank)))
    c = check.classes("c", c, N)
    K = int(c.max()) + 1 if num_classes is None else num_classes
    if c.max() >= K:
        raise ValueError(f"c lies in {c.min()}..{c.max()}; give {N} labels in 0..{K - 1}")
    groups = [*((f"class {k}", x[c == k]) for k in range(K)), ("all images", x)]
    for name, of in groups if kind == "class" else groups[-1:]:  # before the first PCA
        _check_rank(rank, of, name)
    if kind == "class":
        rows = [_pca(of, rank) for _, of in groups]
        return LowRank(*(jnp.asarray(np.stack(a)) for a in zip(*rows, strict=True)))
    # pooled: the directions of all images; means and variances of each label
    basis = _pca(x, rank)[1]
    mean = np.stack([_some(of, name).mean(0) for name, of in groups])
    var = np.stack([((of - m) @ basis).var(0) for (_, of), m in zip(groups, mean, strict=True)])
    total = np.array([of.var(0).sum() for _, of in groups])
    rest = np.maximum(total - var.sum(1), 0) / max(D - basis.shape[1], 1)
    return LowRank(*(jnp.asarray(a, jnp.float32) for a in (mean, basis[None], var, rest)))


def _images(x: Any) -> np.ndarray:
    """Images, or codes, as (N, D) float32; refuse NaN, infinities and bytes."""
    x = np.asarray(x)
    if x.dtype == np.uint8 or not np.isfinite(x.sum(dtype=np.float64)):
        what = "type uint8" if x.dtype == np.uint8 else "NaN or infinite values"
        raise ValueError(f"x has {what}; give floats, such as the images in [-1, 1] of ddpm.data.to_float")
    return x.astype(np.float32, copy=False).reshape(len(x), -1)


def _some(x: np.ndarray, name: str) -> np.ndarray:
    if len(x) < 2:
        raise ValueError(f"{name} has {len(x)} images; a Gaussian needs at least 2")
    return x


def _check_rank(rank: int, x: np.ndarray, name: str) -> None:
    most = min(len(_some(x, name)) - 1, x.shape[1] - 1)
    if check.whole("rank", rank, 1) > most:
        raise ValueError(
            f"rank is {rank}; {name}: {len(x)} images of {x.shape[1]} numbers allow 1..{most} (--gaussian-rank)"
        )


def _pca(x: np.ndarray, rank: int) -> tuple[np.ndarray, ...]:
    """(μ, U, λ, ρ) of one set of images."""
    from sklearn.decomposition import PCA

    p = PCA(rank, svd_solver="randomized", iterated_power=4, random_state=0).fit(x)
    # Not p.noise_variance_, which divides by the number of images where there are fewer of them than numbers
    square, var = np.einsum("nd,nd->d", x, x, dtype=np.float64), p.explained_variance_
    total = (square - len(x) * np.square(p.mean_, dtype=np.float64)).sum() / (len(x) - 1)
    rest = max(total - var.sum(), 0) / (x.shape[1] - rank)
    return tuple(np.asarray(a, np.float32) for a in (p.mean_, p.components_.T, var, rest))
