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
# # L16. Mining: what makes a town look like itself
#
# | | |
# |---|---|
# | you learn | to find patches that are typical of a class, to sort them, and to find a place again in another image |
# | time | 55 minutes to read and do, 2 minutes to run |
# | difficulty | ●●●○○ |
# | importance | ●●○○○ |
# | paper | Siglidis et al. 2024, *Diffusion Models as Data Mining Tools*; Tang et al. 2023; Doersch et al. 2012 |
#
# In Lesson 15 a denoiser measured *how much* an image looks like its class, and at which pixels. Now we want to *see*
# it. A map becomes patches; the patches of all images become clusters; and each cluster shows one thing that makes the
# class look like itself. At each step we know the right answer, as we planted it.

# %%
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddpm import data, plot, sample, schedule
from ddpm.datasets import world
from ddpm.features import activations
from ddpm.features import match as match_
from ddpm.forward import q_sample
from ddpm.mining import localisation, patches
from ddpm.typicality import Draws, measure
from ddpm.zoo import model

# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how many images and draws

# %% [markdown]
# ## 1. Four towns
#
# `cities` is the library's larger sister of the world of Lesson 15: house fronts of $4\times4$ cells, in one of three
# lights, in four towns. Each town has two ornaments that no other town has; everything else is common to all. The
# perfect denoiser is known (`world.distribution()`), so the map of typicality is as good as a map can be.

# %%
n = {"smoke": 48, "short": 96, "full": 192}[BUDGET]  # fronts of town 0, and as many of the other three together
home, away = world.draw(n, seed=1, label=0), world.draw(2 * n, seed=2)
others = np.flatnonzero(away.labels > 0)[:n]
x = np.asarray(data.to_float(np.concatenate([home.images, away.images[others]])))
motif = np.concatenate([home.motif, away.motif[others]])  # of each pixel, -1: none
own, ornaments = np.arange(2 * n) < n, world.planted(0)
lib, cities = schedule.linear(1000), world.distribution()
draws = Draws({"smoke": 60, "short": 100, "full": 200}[BUDGET])
T = measure(cities.eps(lib), lib, x, 0, jax.random.key(0), draws, batch=2 * n)
planted = np.isin(motif, ornaments)
auc = [localisation.motif_auc(T.map[own], planted[own], pool=pool) for pool in (1, 5)]
assert T.value[own].mean() > T.value[~own].mean() and auc[1] > auc[0] > 0.9
{"ornaments": [world.MOTIFS[m].name for m in ornaments], "AUC by pixel, and averaged over 5 x 5": auc}

# %% [markdown]
# ## 2. From the map to patches
#
# Single pixels of the map are noisy, so average the map over each $k\times k$ square. Adding up $k^2$ numbers for each
# place is wasteful. Take the *integral image* $I_{ij}=\sum_{y<i,\,x<j} m_{yx}$ instead, which begins with a row and a
# column of zeros. It gives the sum over any rectangle from four numbers: $I_{bd}-I_{ad}-I_{bc}+I_{ac}$.
#
# ### Exercise 16.1 - the scores of all patches


# %%
def patch_scores(m, k):
    """The mean of the map over the k × k square whose upper left pixel is (i, j).   m: (H, W)  ->  (H-k+1, W-k+1)"""
    ### BEGIN SOLUTION
    integral = np.zeros((m.shape[0] + 1, m.shape[1] + 1))
    integral[1:, 1:] = np.cumsum(np.cumsum(m, axis=0), axis=1)
    return (integral[k:, k:] - integral[:-k, k:] - integral[k:, :-k] + integral[:-k, :-k]) / k**2
    ### END SOLUTION


# %% [markdown]
# Which place is the best, and which the second best? The second is usually the first, moved by a pixel. So take the
# best patch, cross out all patches that touch it, take the best of the rest, and so on (*non-maximum suppression*).
# Patches at $(i,j)$ and $(i',j')$ **touch** if $|i-i'|\le k$ *and* $|j-j'|\le k$. Patches that share only a side or a
# corner count as touching, as in the released code of the paper.
#
# ### Exercise 16.2 - the best that do not touch


# %%
def pick(scores, k, count):
    """The upper left pixels of the `count` best patches, no two of which touch, best first.

    scores: (h, w);  k, count: int, there is room for `count`  ->  (count, 2) int
    """
    ### BEGIN SOLUTION
    left, found = np.array(scores, dtype=float), []
    for _ in range(count):
        y, x = np.unravel_index(left.argmax(), left.shape)
        found.append((y, x))
        left[max(0, y - k) : y + k + 1, max(0, x - k) : x + k + 1] = -np.inf
    return np.array(found)
    ### END SOLUTION


# %%
k = world.BOX  # an ornament has 6 x 6 pixels
S = np.stack([patch_scores(m, k) for m in T.map.astype(float)])
assert np.allclose(S, patches.pooled(T.map, k))  # the library gives the same
assert np.isclose(S[3, 10, 7], T.map[3, 10:16, 7:13].mean())  # brute force
chosen = patches.select(S, k, 2)  # the library's choice, for all images at once
for i in range(3):
    assert np.array_equal(pick(S[i], k, 2), chosen.where[chosen.where[:, 0] == i, 1:])

# %% [markdown]
# Now mine the town: take the two best patches of each front of town 0, and of all these the best few. How many lie on
# an ornament of this town? The control takes places at random by the same rule.

# %%
of_town = np.concatenate([np.c_[np.full(2, i), pick(S[i], k, 2)] for i in range(n)])  # (2n, 3): image, top, left
score = S[tuple(of_town.T)]
best = np.argsort(-score)[: 3 * n // 4]
mined = of_town[best]
kind = localisation.patch_motif(mined, motif, k)  # the motif under each patch, -1: none
by_chance = localisation.patch_motif(patches.random_patches(S[:n], k, 2).where, motif, k)
precision = {"mined": np.isin(kind, ornaments).mean(), "at random": np.isin(by_chance, ornaments).mean()}
assert precision["mined"] > 0.8 > 0.2 > precision["at random"]
precision

# %% [markdown]
# ## 3. How many kinds?
#
# The patches are a heap; sort it into clusters. **k-means** repeats one step (*Lloyd's algorithm*): assign each point
# to its nearest centre, then move each centre to the mean of its points. It needs *features* in which patches that show
# the same thing are close. Where the truth is known, the **purity** measures the result: count the most frequent kind
# in each cluster, add these counts, and divide by the number of points. A patch with no motif under it has the kind
# $-1$ and never counts as right.
#
# ### Exercise 16.3 - one step, and how pure


# %%
def lloyd(f, centre):
    """One step of k-means; a centre that gets no point stays.   f: (n, d);  centre: (K, d)  ->  (K, d)"""
    ### BEGIN SOLUTION
    nearest = ((f[:, None] - centre[None]) ** 2).sum(2).argmin(1)
    return np.stack([f[nearest == j].mean(0) if (nearest == j).any() else centre[j] for j in range(len(centre))])
    ### END SOLUTION


def purity(cluster, kind):
    """The share of points with the most frequent kind of their cluster.   cluster, kind (-1: none): (n,)  ->  number"""
    ### BEGIN SOLUTION
    right = 0
    for j in np.unique(cluster):
        inside = kind[(cluster == j) & (kind >= 0)]
        right += np.bincount(inside).max() if len(inside) else 0
    return right / len(kind)
    ### END SOLUTION


# %% [markdown]
# Pixels are poor features: the same ring, moved one pixel to the left, is far away. What does the *denoiser* see? To
# predict the noise it must find out which motif is in each cell. The probabilities of the motifs appear inside its
# computation, and they hardly change if a motif moves by a pixel. In the perfect denoiser they play the part of the
# inner layers of a network.


# %%
def pixel_features(where):
    """The pixels of each patch, minus their mean, scaled to length 1: (n, k²)"""
    f = patches.cut(x, where, k).reshape(len(where), -1)
    f = f - f.mean(1, keepdims=True)
    return f / (np.linalg.norm(f, axis=1, keepdims=True) + 1e-6)


KINDS = np.unique(world.tiles().motif)  # -1 for wall, roof and street, then the motifs


def inner_features(where, t=160, noises=8):
    """p(motif | x_t) in the cell under each patch, averaged over noises: (n, 17)"""
    p = 0.0
    for key in jax.random.split(jax.random.key(4), noises):
        x_t = q_sample(lib, jnp.asarray(x), t, jnp.broadcast_to(jax.random.normal(key, x.shape[1:]), x.shape))
        p = p + np.asarray(cities.answer(lib, x_t, t, jnp.zeros(len(x), int)).tile_posterior) / noises  # (B, 16, tiles)
    motifs = np.stack([p[..., world.tiles().motif == m].sum(-1) for m in KINDS], -1)
    return motifs[where[:, 0], (where[:, 1] + k // 2) // 7 * 4 + (where[:, 2] + k // 2) // 7]


# %%
def k_means(f, K, starts=20, seed=0):
    """The best result of several random starts: (n,) clusters."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(starts):
        centre = f[rng.choice(len(f), K, replace=False)]
        for _ in range(15):
            centre = lloyd(f, centre)
        distance = ((f[:, None] - centre[None]) ** 2).sum(2)
        found.append((distance.min(1).sum(), distance.argmin(1)))
    return min(found, key=lambda pair: pair[0])[1]


every_kind = localisation.patch_motif(of_town, motif, k)
pure, clusters = {}, {}
for name, features in (("pixels", pixel_features), ("inside the denoiser", inner_features)):
    clusters[name] = k_means(features(mined), 4)
    pure[name] = purity(clusters[name], kind), purity(k_means(features(of_town), 8), every_kind)
    assert np.isclose(pure[name][0], localisation.purity(clusters[name], kind)) and pure[name][0] > 0.9
assert pure["inside the denoiser"][1] > pure["pixels"][1] + 0.03
pure

# %% [markdown]
# The mined patches show two ornaments and little else, and even pixels tell these apart. All the patches that we took,
# two of each front, are harder, since many hold an object that stands in all towns, or a piece of one: there the inside
# of the denoiser is ahead. (A third of these patches has nothing under it, so no purity can come near 1.)

# %% [markdown]
# ## 4. The same place in another image
#
# The features of all places of two images tell which place in one image **corresponds** to which place in the other:
# take the place whose feature has the largest cosine similarity. No training, no geometry, nothing else [Tang et al.
# 2023, DIFT].
#
# ### Exercise 16.4 - correspondence


# %%
def match(f_a, f_b, points):
    """For each point in a, the place in b whose feature has the largest cosine with that of the point.

    f_a: (h, w, C);  f_b: (h', w', C);  points: (n, 2) int, row and column in a  ->  (n, 2) int
    """
    ### BEGIN SOLUTION
    unit_a, unit_b = (f / np.linalg.norm(f, axis=-1, keepdims=True) for f in (f_a, f_b))
    cosine = unit_a[points[:, 0], points[:, 1]] @ unit_b.reshape(-1, f_b.shape[-1]).T
    return np.stack(np.divmod(cosine.argmax(1), f_b.shape[1]), axis=1)
    ### END SOLUTION


# %% [markdown]
# **Exactly:** take random features, and the same features moved by a known shift and multiplied by random factors. All
# points are found: the share of correct keypoints (PCK) is 1.

# %%
f = np.random.default_rng(5).normal(size=(9, 12, 16))
by = np.array([2, -3])
moved = np.random.default_rng(6).uniform(1, 5, (9, 12, 1)) * np.roll(f, by, axis=(0, 1))
points = np.argwhere(np.ones((7, 9))) - np.minimum(by, 0)  # those that stay inside
assert match_.pck(match(f, moved, points), points + by, size=12) == 1
assert np.array_equal(match(f, moved, points), match_.correspondence(f[None], moved[None], points[None])[0][0])

# %% [markdown]
# ## 5. Without a network: 2012
#
# "What makes Paris look like Paris?" is a question from long before diffusion [Doersch et al. 2012]. The feature of
# that paper is a **histogram of oriented gradients** (HOG). The sign of an edge shall not matter (a dark line on white
# is like a white line on dark), so angles count modulo $\pi$. Each pixel adds the length of its gradient to the bin of
# its angle, number $\lfloor\theta\,b/\pi\rfloor$ of $b$. The histogram is divided by its length (the root of the sum of
# squares), so that contrast does not matter either.
#
# ### Exercise 16.5 - directions of edges
# > **Note.** `np.gradient` gives the slope along rows (down) first, then along columns.


# %%
def orientations(cell, bins):
    """Histogram of gradient directions in [0, π), of length 1; of a flat cell, zeros.   cell: (h, w)  ->  (bins,)"""
    ### BEGIN SOLUTION
    down, right = np.gradient(np.asarray(cell, float))
    angle = np.arctan2(down, right) % np.pi
    bin_ = np.minimum((angle * bins / np.pi).astype(int), bins - 1)
    h = np.bincount(bin_.ravel(), weights=np.hypot(down, right).ravel(), minlength=bins)
    return h / max(np.linalg.norm(h), 1e-12)
    ### END SOLUTION


# %%
yy, xx = np.mgrid[:6, :8]
for degrees in (10, 55, 110, 170):
    ramp = 0.1 * (xx * np.cos(np.radians(degrees)) + yy * np.sin(np.radians(degrees)))
    h = orientations(ramp, 9)
    assert h.argmax() == degrees // 20 and np.isclose(h.max(), 1)  # all in one bin of 20 degrees
    assert np.allclose(orientations(3 * ramp + 0.2, 9), h)  # brightness and contrast do not matter
    assert np.allclose(orientations(-ramp, 9), h)  # nor does the sign
assert not orientations(np.ones((5, 5)), 9).any()

# %% [markdown]
# The second idea of the paper: a patch is typical of Paris if its nearest neighbours are in Paris. For a seed patch
# find the best match in every image, from Paris and from elsewhere. Of the $m$ images with the best matches, what share
# is from Paris?
#
# ### Exercise 16.6 - whose are the neighbours?


# %%
def neighbours_share(seeds, f, positive, m):
    """For each seed: the share of positives among the m images whose best patch is most similar (inner product).

    seeds: (S, d);  f: (n, P, d) of all patches of each image;  positive: (n,) bool;  m: int  ->  (S,)
    """
    ### BEGIN SOLUTION
    best = (seeds @ f.reshape(-1, f.shape[-1]).T).reshape(len(seeds), *f.shape[:2]).max(2)
    return positive[np.argsort(-best, axis=1)[:, :m]].mean(1)
    ### END SOLUTION


# %% [markdown]
# On our fronts we take random seeds from the half with more contrast, and compare pixels. (The paper compares HOG, then
# trains detectors; `ddpm.mining.doersch` has the whole method.) It works well here, since an ornament looks the same
# wherever it is, which is not so on real fronts. The method knows nothing of what *else* could be in a place.
# Typicality does, and it needs no negative images at search time.

# %%
windows = np.lib.stride_tricks.sliding_window_view(x[..., 0], (k, k), axis=(1, 2)).reshape(2 * n, -1, k * k)
windows = windows - windows.mean(-1, keepdims=True)
contrast = np.linalg.norm(windows, axis=-1, keepdims=True)
windows = windows / np.maximum(contrast, 1)
seen = np.argwhere(contrast[:n, :, 0] > np.median(contrast[:n]))
seen = seen[np.random.default_rng(7).permutation(len(seen))[:200]]
share = neighbours_share(windows[tuple(seen.T)], windows, own, m=n // 3)
places = np.c_[seen[:, 0], np.stack(np.divmod(seen[:, 1], S.shape[2]), 1)]
seed_kind = localisation.patch_motif(places, motif, k)
on_planted = np.isin(seed_kind, ornaments)
assert share[on_planted].mean() > 0.8 and abs(share[~on_planted].mean() - 0.5) < 0.2
top_seeds = np.argsort(-share, kind="stable")[: len(seen) // 10]
precision["neighbours, 2012"] = on_planted[top_seeds].mean()
assert precision["neighbours, 2012"] > 4 * on_planted.mean()
share[on_planted].mean(), share[~on_planted].mean(), precision["neighbours, 2012"]

# %% [markdown]
# ## 6. The face of a cluster
#
# ### Exercise 16.7 - spot the bug
# A released program for mining shows the *exemplar* of each cluster first, which is the member nearest to the mean, and
# then the other members in order of their distance from the exemplar. Its figures begin with odd patches. Repair it.


# %%
def published_order(f):
    """With a bug."""
    distance = np.linalg.norm(f - f.mean(0), axis=1)
    exemplar = f[distance.argmax()]
    return np.argsort(np.linalg.norm(f - exemplar, axis=1))


def repaired_order(f):
    """The members of a cluster: the exemplar, then the others by distance from it.   f: (n, d)  ->  (n,) int"""
    ### BEGIN SOLUTION
    distance = np.linalg.norm(f - f.mean(0), axis=1)
    exemplar = f[distance.argmin()]
    return np.argsort(np.linalg.norm(f - exemplar, axis=1))
    ### END SOLUTION


# %%
heap = np.concatenate(
    [np.random.default_rng(8).normal(size=(20, 3)), [[9, 9, 9]]]
)  # twenty that belong together, and one that does not
assert published_order(heap)[0] == 20 and repaired_order(heap)[-1] == 20

# %% [markdown]
# ## 7. Garments
#
# Correspondence is where a network shows what it has learned. We take the features of a layer on the way up of the
# network of Lesson 4, and garments that this network drew. First a known shift: the same garment, four pixels further
# to the right. Then what it is for: two *different* garments. The layer has $14\times14$ positions, so it cannot be
# exact to the pixel; judge the result in the picture.

# %%
fashion, labels = model.load("fashion_mnist"), np.arange(10)
how = sample.Sampling(steps={"smoke": 12, "short": 30, "full": 100}[BUDGET], guidance=2.0)
garments = sample.images(fashion.eps, fashion.schedule, jax.random.key(1), (10, 28, 28, 1), jnp.asarray(labels), how)
ten = np.clip(np.asarray(garments), -1, 1).astype(np.float32)


# %%
def layer(x, c):
    """The network's inner features of images, at each pixel: (b, 28, 28, 64)"""
    how = {"layer": "up.0", "ensemble": {"smoke": 1, "short": 8, "full": 16}[BUDGET], "t": 160}
    f = activations.dift(fashion, x, c, jax.random.key(0), **how)
    return match_.resize(f, (28, 28))


both = layer(np.concatenate([ten, np.roll(ten, 4, axis=2)]), np.tile(labels, 2))
found = []
for i in range(10):
    points = np.argwhere(ten[i, ..., 0] > -0.5)
    points = points[(points[:, 1] < 22) & (points[:, 1] > 1)]
    found.append(match_.pck(match(both[i], both[10 + i], points), points + np.array([0, 4]), size=28))
assert np.mean(found) > 0.7
np.round(found, 2)

# %% [markdown]
# ## 8. The picture
#
# Above: fronts of town 0, with the map of the perfect denoiser (red: the town helped; black frames: its ornaments;
# dashed: what was mined). In the middle: the mined patches in their clusters, the exemplar of each first; and how many
# of the nearest neighbours of a seed are in town 0, by what the seed shows. Below: corresponding places of two
# different garments.


# %%
def plain(axis, title="", size=9):
    """No ticks, no frame."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.set_title(title, fontsize=size)


def draw_town(axes, shown):
    """Fronts above, their maps with frames below."""
    most = np.quantile(np.abs(T.map[:n]), 0.995)
    for axis, i in zip(axes[0], shown, strict=True):
        axis.imshow(x[i, ..., 0], cmap="gray", vmin=-1, vmax=1)
        plain(axis)
    for axis, i in zip(axes[1], shown, strict=True):
        axis.imshow(T.map[i], cmap="RdBu_r", vmin=-most, vmax=most)
        axis.contour(planted[i], [0.5], colors="black", linewidths=0.9)
        for _, top, left in mined[mined[:, 0] == i]:
            axis.add_patch(plt.Rectangle((left - 0.5, top - 0.5), k, k, fill=False, ls="--", lw=1.1, color="#1e8449"))
        plain(axis)
    axes[0, 0].set_ylabel("fronts", fontsize=9)
    axes[1, 0].set_ylabel("map of T", fontsize=9)


# %%
def draw_clusters(axis, per_row=12):
    """The mined patches, a row for each cluster, largest first."""
    cluster = clusters["inside the denoiser"]
    groups = sorted((np.flatnonzero(cluster == j) for j in np.unique(cluster)), key=len, reverse=True)
    blank, f = np.ones((1, k, k, 1)), inner_features(mined)
    tiles = []
    for group in groups:
        members = group[repaired_order(f[group])][:per_row]
        tiles += [patches.cut(x, mined[members], k), np.repeat(blank, per_row - len(members), 0)]
    axis.imshow(plot.grid(np.concatenate(tiles), per_row, gap=1)[..., 0], cmap="gray")
    plain(axis, f"mined in town 0, by cluster: {len(mined)} patches, purity {pure['inside the denoiser'][0]:.2f}")
    axis.set_yticks(4 + 7 * np.arange(len(groups)), [f"{len(g)}" for g in groups], fontsize=8)
    axis.tick_params(length=0)


# %%
def draw_match(axes, pairs=((2, 4), (7, 9))):
    """Coloured places in one garment, and where the features find them in another."""
    for (left, right), (a, b) in zip(axes.reshape(-1, 2), pairs, strict=True):
        y, x = np.nonzero(ten[a, ..., 0] > -0.3)
        corners = [
            np.argmin(x),
            np.argmax(x),
            np.argmin(y),
            np.argmax(y),
            np.argmin((y - y.mean()) ** 2 + (x - x.mean()) ** 2),
        ]
        points = np.c_[y[corners], x[corners]]
        places = match(both[a], both[b], points)
        for axis, image, spots in ((left, ten[a], points), (right, ten[b], places)):
            axis.imshow(image[..., 0], cmap="gray", vmin=-1, vmax=1)
            axis.scatter(spots[:, 1], spots[:, 0], c=plt.cm.Set1(np.arange(5)), s=36, edgecolors="white", lw=0.8)
            plain(axis)
        left.set_title("places chosen here ...", fontsize=8)
        right.set_title("... and found here", fontsize=8)


# %%
def draw_neighbours(axis):
    """The share of neighbours in town 0, of seeds on its ornaments and of the others."""
    bins = np.linspace(0, 1, 21)
    for picked, colour, name in ((on_planted, "#c0392b", "on an ornament"), (~on_planted, "#1b4f72", "elsewhere")):
        axis.hist(share[picked], bins, alpha=0.7, color=colour, label=name)
    axis.set_xlabel("share of the nearest images that are of town 0", fontsize=8)
    axis.set_title("200 seeds by their neighbours (2012)", fontsize=9)
    axis.legend(frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def picture():
    """The figure of this lesson."""
    figure = plt.figure(figsize=(11, 8.6), layout="constrained")
    parts = figure.subfigures(3, 1, height_ratios=[2.5, 1.7, 1.8])
    draw_town(parts[0].subplots(2, 7), np.argsort(-T.value[:n])[:7])
    left, right = parts[1].subplots(1, 2, width_ratios=[1.7, 1])
    draw_clusters(left)
    draw_neighbours(right)
    draw_match(parts[2].subplots(1, 4))
    return figure


# %%
if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l16.png", dpi=150)
    numbers = {
        "auc": {"pixel": auc[0], "5x5": auc[1]},
        "precision": precision,
        "purity": pure,
        "neighbours": {"on an ornament": share[on_planted].mean(), "elsewhere": share[~on_planted].mean()},
        "pck_shift": found,
        "fronts": 2 * n,
        "budget": BUDGET,
    }
    (out / "l16.json").write_text(json.dumps(numbers, indent=1, default=float) + "\n")
    picked, control = precision["mined"], precision["at random"]
    print(f"L16: {picked:.2f} of the mined patches are on an ornament, {control:.2f} of random ones. out/l16.png")

# %% [markdown]
# ## What to take along
#
# - A map becomes patches by averages, and by crossing out what touches the best. An integral image makes it cheap.
# - Patches become kinds if their features do not change when the thing moves: take them from inside the denoiser.
# - The same features find a place again in another image, without training and without geometry.
# - Always mine at random as well. A precision says nothing without that number next to it.
#
# ## Further reading
#
# - Siglidis et al. 2024, *Diffusion Models as Data Mining Tools*. `ddpm mine` is this method, with p-values.
# - Tang et al. 2023, *Emergent Correspondence from Image Diffusion* (DIFT).
# - Doersch et al. 2012, *What Makes Paris Look like Paris?* `ddpm.mining.doersch` has the method, with its detectors.
