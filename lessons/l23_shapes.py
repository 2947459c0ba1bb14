# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # L23. Shapes: what pictures say about a body, and how a denoiser of pictures builds one
#
# | | |
# |---|---|
# | you learn | views of a shape and their exact distributions; typicality in 3-D; SDS into voxels; maps of shapes |
# | time | 75 minutes to read and do, 2 minutes to run |
# | difficulty | ●●●●○ |
# | importance | ●●●○○ |
# | paper | Poole et al. 2023, *DreamFusion*; Siglidis et al. 2024, *Diffusion Models as Data Mining Tools* |
#
# Read it after Lessons 15 and 16. All denoisers so far knew pictures. A chair is no picture, but it has views, and
# there are far more pictures than chairs to train on. Two questions follow. What does a denoiser of views say about
# the body that they show: can it tell *which part* makes a chair look like its style? And can it build a body that it
# never saw? Both have exact answers in a world of drawn blocks.

# %%
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddpm import data, distillation, oracle, typicality
from ddpm.datasets import blocks
from ddpm.distillation import functional_maps as fm
from ddpm.mining.lifting import by_cell
from ddpm.mining.localisation import motif_auc
from ddpm.schedule import linear, make_schedule

# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how many shapes and draws
rng = np.random.default_rng(0)

# %% [markdown]
# ## 1. A body and its views
#
# A body is a grid of voxels, each with a grey in $0\ldots1$, 0 where nothing is. Look along one axis. Each pixel is
# a ray, and shows the **first** voxel that is not empty; its grey fades with the number of empty voxels in front,
# $g\cdot .93^{d}$, so that a picture has depth. Beside the picture one keeps *which* voxel each pixel shows, its
# **hit**.
#
# ### Exercise 23.1 - the first hit
# > **Note.** The ray runs along the first axis, from index 0 upwards. `argmax` of a row of `False` is 0: what does a
# > ray that meets nothing show?


# %%
def look(volume, fade):
    """Picture and hits.   volume: (n, h, w), 0 = empty;  fade: number  ->  two (h, w)

    picture: grey · fade^depth of the first voxel of each ray, 0 where there is none;  hits: its id in C order, or -1
    """
    ### BEGIN SOLUTION
    _, h, w = volume.shape
    depth, any_ = (volume > 0).argmax(0), (volume > 0).any(0)
    row, column = np.indices((h, w))
    picture = volume[depth, row, column] * fade**depth
    return np.where(any_, picture, 0.0), np.where(any_, (depth * h + row) * w + column, -1)
    ### END SOLUTION


# %%
tiny = np.zeros((3, 2, 2))
tiny[1, 0, 0], tiny[2, 0, 0], tiny[0, 1, 1] = 0.5, 0.9, 0.8
picture, hits = look(tiny, 0.93)
assert np.allclose(picture, [[0.465, 0], [0, 0.8]]) and hits.tolist() == [[4, -1], [-1, 3]]
shape = blocks.draw(1, seed=7)
body = blocks.volumes(shape.content)[0]  # (x, y, z), z is up
seen, which = look(body, blocks.FADE)  # (y, z); the library turns it: z upwards, y to the left
assert np.allclose(np.round(255 * seen.T[::-1, ::-1]), blocks.render(body, "+x"))
assert np.array_equal(which.T[::-1, ::-1], blocks.hits(body, "+x"))

# %% [markdown]
# ## 2. How much do views tell?
#
# A renderer that is *linear* can be counted. Let a pixel be the sum along its ray, near voxels weighing more, $\sum_k
# \gamma^k\psi_k$: a matrix $A_v$, of $n^2$ rows and $n^3$ columns. What all views together determine about $\psi$ is
# the **rank** of all their rows. With $\gamma=1$ the picture is an X-ray.
#
# ### Exercise 23.2 - the matrix of a view, and a bet
# **The bet**: a cube of $6^3=216$ voxels, 36 pixels a view. What is the rank of (a) one view, (b) two opposite X-rays,
# $\gamma=1$, (c) two opposite views with $\gamma=.7$, (d) three views along three axes? Write it down before you run
# it.


# %%
def view_matrix(n, axis, back, gamma):
    """A_v with A[pixel, voxel] = γ^k.   n: side;  axis: 0, 1, 2;  back: look from the far end  ->  (n², n³)

    Pixels and voxels in C order; the pixel's two indices are those of the two other axes, in their order.
    """
    ### BEGIN SOLUTION
    A = np.zeros((n, n, n, n, n))
    for at in np.ndindex(n, n, n):
        k = n - 1 - at[axis] if back else at[axis]
        pixel = [i for j, i in enumerate(at) if j != axis]
        A[(*pixel, *at)] = gamma**k
    return A.reshape(n * n, n**3)
    ### END SOLUTION


def ranks():
    """Your bet for (a), (b), (c), (d).   ->  four numbers"""
    ### BEGIN SOLUTION
    return 36, 36, 72, 91
    ### END SOLUTION


# %% [markdown]
# An X-ray from behind is the same X-ray, mirrored: it tells nothing new. Fading is what tells front from back. And
# three axes give $91 = 3\cdot36-17$: the three pictures share the sums over planes, six for each axis, and all share
# the total.

# %%
one, opposite = view_matrix(6, 0, False, 0.7), view_matrix(6, 0, True, 0.7)
x_rays = [view_matrix(6, 0, back, 1.0) for back in (False, True)]
three = [view_matrix(6, axis, False, 0.7) for axis in range(3)]
found = [np.linalg.matrix_rank(np.concatenate(A)) for A in ([one], x_rays, [one, opposite], three)]
assert tuple(found) == ranks()
six = np.concatenate([view_matrix(6, axis, back, 0.7) for axis in range(3) for back in (False, True)])
assert np.linalg.matrix_rank(six) == 152 and np.allclose(one, distillation.view(6, "+x"))
assert np.allclose(opposite, distillation.view(6, "-x"))
found

# %% [markdown]
# ## 3. The exact distribution of a view
#
# The shapes of `blocks` have $4^3$ cells. The category (tower, gate, table) says which cells are body, slot or empty;
# each slot holds, on its own, nothing, a part that all styles share, or, rarely, one of two parts of *this* style. So
# the cells are independent given style and category, and so are the columns of cells along the rays. Take a column of
# cells that are either empty or opaque. What is the distribution of what one sees?
#
# ### Exercise 23.3 - what a ray meets
# > **Note.** To see content v at depth d, all cells in front have to be empty. The cells behind do not matter at all.


# %%
def first_seen(p):
    """P(the first cell that is not empty is at depth d and holds v), and P(all are empty).

    p: (k, V) the distribution of each cell of a column, near ones first, content 0 is empty  ->  (k, V-1), number
    """
    ### BEGIN SOLUTION
    in_front = np.cumprod(np.concatenate([[1.0], p[:, 0]]))
    return in_front[:-1, None] * p[:, 1:], in_front[-1]
    ### END SOLUTION


# %%
p = rng.dirichlet(np.ones(4), 3)
q, nothing = first_seen(p)
assert np.isclose(q.sum() + nothing, 1)
cells = np.array([[rng.choice(4, p=row) for row in p] for _ in range(20_000)])
depth = (cells > 0).argmax(1)
drawn = np.zeros_like(q)
np.add.at(drawn, (depth, cells[np.arange(20_000), depth] - 1), (cells > 0).any(1) / 20_000)
assert np.abs(drawn - q).max() < 4 * np.sqrt(0.25 / 20_000)

# %% [markdown]
# Real parts do not fill their cell, so that one looks past a ball at what is behind. The library does the same with
# whole columns: it lists their contents, draws each, and merges equal tiles. A view is then a picture of $4\times4$
# independent tiles, and its best denoiser is known: `blocks.distribution(view)`. At little noise it reads the category
# off one picture; the style only where one of its parts shows.

# %%
x = blocks.draw(64, seed=11)
side = blocks.VIEWS.index("+x")
one_view = data.to_float(x.views()[:, side])
exact = blocks.distribution("+x")
answers = [exact.answer(linear(), jnp.asarray(part), 1) for part in np.split(one_view * np.sqrt(1 - 1e-4), 8)]
category = np.concatenate([a.light_posterior for a in answers])
style = np.concatenate([a.class_posterior for a in answers])
assert np.array_equal(category.argmax(1), x.category)
sure = style.max(1) > 0.99
assert np.array_equal(style[sure].argmax(1), x.labels[sure]) and 0.2 < sure.mean() < 0.9
sure.mean()

# %% [markdown]
# ## 4. Typicality of a view, lifted to the body
#
# Lesson 15's measure, per pixel: $T(x|c)=\mathbb E_{t,\varepsilon}\big[\|\varepsilon-\hat\varepsilon(x_t,t)\|^2 -
# \|\varepsilon-\hat\varepsilon(x_t,t,c)\|^2\big]$, how much knowing the style helps there. Each pixel shows a voxel.
# So a voxel gets the **mean over the pixels that show it**, in all views, and a cell the mean over its voxels that are
# seen.
#
# ### Exercise 23.4 - lift
# > **Note.** A voxel that no view shows has no value: NaN, not 0. And a hit of -1 is a ray that met nothing.


# %%
def lift(maps, hits, voxels):
    """The mean of the maps over all pixels that show each voxel; NaN where none does.

    maps: (V, h, w) floats;  hits: (V, h, w) ids, -1 for none;  voxels: how many there are  ->  (voxels,)
    """
    ### BEGIN SOLUTION
    seen = hits >= 0
    count = np.bincount(hits[seen], minlength=voxels)
    total = np.bincount(hits[seen], maps[seen], minlength=voxels)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
    ### END SOLUTION


# %%
values = lift(np.array([[[5.0, 1.0]], [[3.0, 100.0]]]), np.array([[[0, 1]], [[1, -1]]]), 3)
assert np.array_equal(values, [5.0, 2.0, np.nan], equal_nan=True)

# %% [markdown]
# Now all five views, each with its own exact denoiser. No step is trained. Truth: the cells that hold a planted part.

# %%
n_shapes, n_draws = {"smoke": (8, 4), "short": (32, 12), "full": (128, 48)}[BUDGET]
shapes, cosine = blocks.draw(n_shapes, seed=1000), make_schedule("cosine")
views, how = shapes.views(), typicality.Draws(n_draws, (0.1, 0.7))
T = []
for i, view in enumerate(blocks.VIEWS):
    eps = blocks.distribution(view).eps(cosine)
    pictures = data.to_float(views[:, i])
    T.append(typicality.measure(eps, cosine, pictures, shapes.labels, jax.random.key(0), how, batch=8).map)
T = np.stack(T, 1)  # (n, 5, 24, 24)
solid = blocks.volumes(shapes.content)
hits = np.stack([blocks.hits(solid, view) for view in blocks.VIEWS], 1)
planted = shapes.mask.reshape(n_shapes, 64)

# %%
auc = {}
for name, use in {"one view": [0], "three views": [0, 2, 4], "five views": [0, 1, 2, 3, 4]}.items():
    lifted = np.stack([lift(T[i, use], hits[i, use], 24**3) for i in range(n_shapes)])
    per_cell = by_cell(lifted, blocks.CELL).reshape(n_shapes, 64)
    known = np.isfinite(per_cell)
    auc[name] = motif_auc(per_cell[known][None, None], planted[known][None, None])
assert auc["five views"] > 0.85
assert BUDGET == "smoke" or auc["five views"] > auc["one view"]
auc

# %% [markdown]
# Why is it so high, if a map of pixels is blurred? The mean over some thirty voxels and several views takes the noise
# away, and a part that looks like another one from the front does not from the side.
#
# ## 5. A denoiser of views builds a body
#
# DreamFusion turns it round: start with any voxels $\psi$, render a view, ask the denoiser how to change the *picture*,
# and bring this back through the renderer (Lesson 24 has the gradient itself, SDS). With $A_v$ of section 2 and views
# $\mathcal N(\mu_v, \lambda)$, the expected change of $\psi$ is $-\sum_v A_v^\top w\,(A_v\psi-\mu_v)$.
#
# ### Exercise 23.5 - the pull on voxels, and where it ends
# The $A_v$ of all views are stacked in $A$. Where does $\psi$ stop, if the pictures fit together, $\mu = A\psi^*$? What
# no view sees never moves: start from $\psi_0$, not from zero.


# %%
def pull(A, psi, mu, w):
    """The direction in which ψ moves, -Aᵀ w (Aψ - μ).   A: (P, N);  psi: (N,);  mu, w: (P,)  ->  (N,)"""
    ### BEGIN SOLUTION
    return -A.T @ (w * (A @ psi - mu))
    ### END SOLUTION


def end(A, psi_0, mu):
    """Where ψ ends that starts at ψ_0.   A: (P, N);  psi_0: (N,);  mu: (P,) = A ψ* of some ψ*  ->  (N,)"""
    ### BEGIN SOLUTION
    return psi_0 + np.linalg.pinv(A) @ (mu - A @ psi_0)
    ### END SOLUTION


# %%
n = 4
truth, psi_0 = rng.normal(size=(2, n**3))
faces = [view_matrix(n, axis, back, 0.7) for axis, back in ((0, False), (0, True), (1, False), (2, False))]
A = np.concatenate(faces)
mu = A @ truth
psi = psi_0
for _ in range(4000):
    psi = psi + 0.1 * pull(A, psi, mu, np.ones(len(A)))
assert np.allclose(psi, end(A, psi_0, mu), atol=1e-6)
assert np.abs(end(A, psi_0, mu) - truth).max() > 0.3  # what the four views do not see is as it was at the start
assert np.allclose(A @ end(A, psi_0, mu), mu)  # and nobody who looks from these sides can tell

# %% [markdown]
# The same with drawn gradients: one random noise and time a step, the exact denoiser of each view, through the
# renderer.

# %%
schedule = linear()
of_view = oracle.mixture(mu.reshape(4, -1), 0.01, label=np.arange(4)).eps(schedule)
drift = distillation.pulled_back(distillation.sds(of_view, schedule, jnp.arange(4)), distillation.renderer(faces))
psi = jnp.asarray(psi_0, jnp.float32)
for rate in (0.1, 0.01):
    psi = distillation.descend(drift, jax.random.key(0), psi, {"smoke": 2000}.get(BUDGET, 6000), rate)
from_end = float(np.sqrt(np.mean((np.asarray(psi) - end(A, psi_0, mu)) ** 2)))
from_truth = float(np.sqrt(np.mean((np.asarray(psi) - truth) ** 2)))
assert from_end < 0.03 < 0.2 < from_truth
from_end, from_truth

# %% [markdown]
# ### The Janus problem
#
# Bodies made this way have faces on all sides. Why? Let a face look like $+1$ and a back like $-1$. A denoiser that is
# *not told from where it looks* knows one mixture for all sides, $p\,\delta_{+1} + (1-p)\,\delta_{-1}$, and most
# pictures in its training show faces.
#
# ### Exercise 23.6 - a denoiser that does not know where it stands
# > **Note.** The posterior probability of a face from $x_t=\sqrt{\bar\alpha}\,x_0+\sqrt{1-\bar\alpha}\,\varepsilon$ by
# > Bayes: its log-odds are those of $p$ and of two Gaussians with the same variance.


# %%
def guess(x_t, alpha_bar, p):
    """E[x0 | x_t], x0 = +1 with probability p, else -1.   x_t: (B,);  alpha_bar, p: numbers  ->  (B,)"""
    ### BEGIN SOLUTION
    log_odds = 2 * np.sqrt(alpha_bar) * x_t / (1 - alpha_bar) + np.log(p / (1 - p))
    return np.tanh(log_odds / 2)
    ### END SOLUTION


# %% [markdown]
# Distilled, **every** side goes to the same fixed point of that mixture, front and back alike. Large times, where all
# is one heap, decide: three quarters of faces are pulled to a body of four three-quarter faces. Told the view, each
# side has its own denoiser and goes to its own picture.

# %%
two = oracle.mixture([[1.0], [-1.0]], 1e-8, weight=np.array([0.75, 0.25]))
t, points = 300, np.linspace(-2, 2, 9)
ab = float(schedule.alpha_bar[t])
predicted = np.asarray(two.eps(schedule)(jnp.asarray(points[:, None], jnp.float32), jnp.full(9, t), None))[:, 0]
mine = (points - np.sqrt(ab) * guess(points, ab, 0.75)) / np.sqrt(1 - ab)
assert np.allclose(predicted, mine, atol=1e-3)
soft = lambda p: oracle.mixture([[1.0], [-1.0]], 0.05, weight=np.array([p, 1 - p])).eps(schedule)  # noqa: E731
janus = {p: distillation.fixed_point(soft(p), schedule, 0.0, 3.0) for p in (0.6, 0.75, 0.9)}
assert 0 < janus[0.6] < janus[0.75] < janus[0.9] < 1 and janus[0.75] > 0.5  # where the *back* goes; it should be -1
janus

# %% [markdown]
# ## 6. Which point is which? Functional maps
#
# To compare two bodies one has to know which point of one is which of the other. A **functional map** asks for less: a
# small matrix $C$ that says how *functions* go over. Take the graph of a body's $n$ points, its Laplacian $L = \deg -
# W$, and its first $k$ eigenvectors $\Phi$, the slowest functions, with $\Phi^\top M\Phi=1$ for masses $M$ of the
# points. If point $i$ of $Y$ is point $\pi(i)$ of $X$, a function with coefficients $a$ on $X$ has on $Y$ the
# coefficients
#
# $$C\,a,\qquad C = \Phi_Y^\top M_Y\,\Phi_X[\pi]. \qquad\text{[Ovsjanikov et al. 2012]}$$
#
# Back to points: row $i$ of $\Phi_Y$ is looked up among the rows of $\Phi_X C^\top$.
#
# ### Exercise 23.7 - C from points, points from C


# %%
def map_matrix(phi_x, phi_y, mass_y, points):
    """C = Φ_Yᵀ M_Y Φ_X[π].   phi_x: (n_x, k);  phi_y: (n_y, k);  mass_y: (n_y,);  points: (n_y,) π  ->  (k, k)"""
    ### BEGIN SOLUTION
    return (phi_y * mass_y[:, None]).T @ phi_x[points]
    ### END SOLUTION


def points_of(C, phi_x, phi_y):
    """The row of Φ_X Cᵀ nearest to each row of Φ_Y.   C: (k, k);  phi_x: (n_x, k);  phi_y: (n_y, k)  ->  (n_y,) ids"""
    ### BEGIN SOLUTION
    gap = phi_y[:, None] - (phi_x @ C.T)[None]
    return (gap**2).sum(-1).argmin(1)
    ### END SOLUTION


# %% [markdown]
# A body, and the same body with its points renumbered: nobody could tell by the distances along it. Then $C C^\top=1$
# and $C$ commutes with the Laplacians; where all eigenvalues differ, $C=\mathrm{diag}(\pm1)$. The signs are what
# eigenvectors leave open, and to forget them ($C=1$) finds almost nothing.

# %%
n, k = 200, 12
u = rng.normal(size=(n, 3))
u /= np.linalg.norm(u, axis=1, keepdims=True)
place = u * (1, 0.7, 0.5) * (1 + 0.3 * u[:, :1] + 0.2 * u[:, 1:2] * u[:, 2:])  # a closed surface without symmetry
W = np.exp(-(((place[:, None] - place[None]) ** 2).sum(-1) / 0.04))
np.fill_diagonal(W, 0)
mass, pi = rng.uniform(0.5, 2, n), rng.permutation(n)
L = fm.laplacian((W + W.T) / 2)
X, Y = fm.eigenbasis(L, k, mass), fm.eigenbasis(L[np.ix_(pi, pi)], k, mass[pi])
C = map_matrix(X.vectors, Y.vectors, Y.mass, pi)
assert np.allclose(C @ C.T, np.eye(k), atol=1e-8) and np.allclose(np.abs(C), np.eye(k), atol=1e-8)
assert np.array_equal(points_of(C, X.vectors, Y.vectors), pi)
assert np.mean(points_of(np.eye(k), X.vectors, Y.vectors) == pi) < 0.5

# %% [markdown]
# So a *prior* of $C$ is known, and score distillation can use it: entries on the diagonal $\frac12\mathcal N(1,.1^2)+
# \frac12\mathcal N(-1,.1^2)$, the others $\mathcal N(0,.1^2)$. Give 20 landmarks, of which 8 point anywhere. Fitted to
# them alone, $C$ is poor. With the prior most of the error goes, **if $t$ falls during the fit**: at large $t$ the
# fixed point of the prior is $C=0$, between both signs, as in section 5.

# %%
y = rng.choice(n, 20, replace=False)
x_ = pi[y].copy()
x_[:8] = rng.integers(0, n, 8)
F, G = (np.sqrt(s.mass.sum()) * s.vectors[at].T for s, at in ((X, x_), (Y, y)))
prior = fm.isometry_prior(schedule, k)
maps = {"true map": C, "landmarks alone": fm.least_squares(F, G, X, Y)}
for name, tops in (("SDS, t falling", fm.FALLING), ("SDS, t uniform", (0.98,) * len(fm.FALLING))):
    maps[name] = fm.distilled(jax.random.key(0), prior, schedule, F, G, tops, strength=5.0, rate=0.1)
error = {
    name: float(np.linalg.norm(place[points_of(m, X.vectors, Y.vectors)] - place[pi], axis=1).mean())
    for name, m in maps.items()
}
assert error["true map"] == 0 and error["SDS, t falling"] < 0.6 * error["landmarks alone"]
assert error["SDS, t falling"] < error["SDS, t uniform"]
error

# %% [markdown]
# ## The picture


# %%
def draw_shapes(axes):
    """The shape whose best cell is most typical: three views, T of their pixels, and of its cells."""
    best = int(np.nanmax(per_cell, 1).argmax())
    most = np.quantile(np.abs(T[best]), 0.99)
    for column, i in enumerate((0, 2, 4)):
        axes[0, column].imshow(views[best, i, ..., 0], cmap="gray")
        axes[1, column].imshow(T[best, i], cmap="RdBu_r", vmin=-most, vmax=most)
        axes[0, column].set_title(f"view {blocks.VIEWS[i]}", fontsize=9)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    axes[0, 0].set_ylabel(f"style {blocks.CLASSES[shapes.labels[best]]}")
    axes[1, 0].set_ylabel("typicality")
    return best


def draw_cells(axis, best):
    """T of each cell of a shape as colours; a star on those with a planted part."""
    T_cell, content = per_cell[best].reshape(4, 4, 4), shapes.content[best]
    strength = np.nan_to_num(T_cell / np.nanmax(T_cell)).clip(0, 1)
    colour = np.stack([0.75 + 0.2 * strength, 0.75 - 0.6 * strength, 0.75 - 0.65 * strength, 0.9 + 0 * strength], -1)
    axis.voxels(content > 0, facecolors=colour, edgecolor="0.4", linewidth=0.4)
    for at in np.argwhere(shapes.mask[best]):
        axis.text(*(at + 0.5), "★", fontsize=15, ha="center", va="center", zorder=99)
    axis.set(xticks=[], yticks=[], zticks=[], title="lifted to cells (★ planted)")
    axis.view_init(28, -130)


# %%
def draw_maps(axes):
    """The map as colours on the renumbered body, seen from the front."""
    colour = (place - place.min(0)) / np.ptp(place, axis=0)
    front = np.argsort(place[pi][:, 2])
    for axis, (name, m) in zip(axes, maps.items(), strict=True):
        carried = colour[points_of(m, X.vectors, Y.vectors)]
        axis.scatter(*place[pi][front, :2].T, c=carried[front], s=120, edgecolors="k", linewidths=0.2)
        axis.set(xticks=[], yticks=[], aspect="equal")
        axis.set_title(f"{name}: {error[name]:.2f}", fontsize=9)
        axis.spines[:].set_visible(False)


def picture_():
    """The figure of this lesson."""
    figure = plt.figure(figsize=(10.5, 8), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1.9, 1])
    left, right = above.subfigures(1, 2, width_ratios=[1.5, 1])
    draw_cells(right.add_subplot(projection="3d"), draw_shapes(left.subplots(2, 3)))
    below.suptitle("8 of 20 landmarks wrong: the map as colours, and its mean error", fontsize=10)
    draw_maps(below.subplots(1, 4))
    return figure


# %%
if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture_().savefig(out / "l23.png", dpi=150)
    numbers = {
        "rank_of_views": [int(r) for r in found],
        "auc_of_cells": auc,
        "shapes": n_shapes,
        "draws": n_draws,
        "sds_into_voxels": {"from_end": from_end, "from_truth": from_truth},
        "janus": janus,
        "functional_maps": error,
        "budget": BUDGET,
    }
    (out / "l23.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(f"L23: AUC of cells {auc['one view']:.2f} by one view, {auc['five views']:.2f} by five. out/l23.png")

# %% [markdown]
# ## What to take along
#
# - A denoiser of views says something about a body once each pixel knows which voxel it shows.
# - Count what views determine before you ask a network for the rest: it stays as it was at the start.
# - A denoiser that is not told from where it looks makes every side the same.
# - A prior with two modes needs small times at the end; at large ones its middle is the fixed point.
#
# ## Further reading
#
# - Poole, Jain, Barron, Mildenhall 2023, *DreamFusion: Text-to-3D using 2D Diffusion*.
# - Siglidis, Holynski, Efros, Aubry, Ginosar 2024, *Diffusion Models as Data Mining Tools*.
# - Hu, Li, van Kaick, Huang, Averkiou, Cohen-Or, Zhang 2017, *Co-Locating Style-Defining Elements on 3D Shapes*.
# - Ovsjanikov, Ben-Chen, Solomon, Butscher, Guibas 2012, *Functional Maps*; Melzi et al. 2019, *ZoomOut*.
# - `experiments/style_parts_3d.py`, `sds_voxels.py` and `fmap_sds.py`: the same with tables, and against the paper;
#   `sds_shapes.py`: opaque voxels, with a trained denoiser of views; `drawn_shapes.py`: a network draws whole shapes,
#   and the parts of their style are found in them as in the data.
