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
# # L22. Latents: diffusion in the codes of an autoencoder
#
# | | |
# |---|---|
# | you learn | when a chain on codes is that on pixels; what a codec costs; the scale of codes; finite tables; drafts |
# | time | 60 minutes to read and do, 2 minutes to run |
# | difficulty | ●●●○○ |
# | importance | ●●●●○ |
# | paper | Rombach et al. 2022, *High-Resolution Image Synthesis with Latent Diffusion Models*; Pandey et al. 2022 |
#
# Read it after Lesson 6. An image of a million pixels is expensive to diffuse, and most of its numbers are fine grain
# that no eye misses. So Stable Diffusion and its kin first train an autoencoder, and the chain then runs on its codes,
# which are 48 times smaller. We shall see what this changes (nothing, where the codec is linear), what it costs, and
# the one number that is forgotten again and again.

# %%
import itertools
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddpm import data, latents, loss, network, oracle, plot, schedule
from ddpm.config import UNetConfig
from ddpm.datasets import sources
from ddpm.guide import cfg, clip_x0
from ddpm.losses import objectives
from ddpm.sample import ddim_step, walk
from ddpm.training.timed import fit

# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how long to train and how much to draw
n = {"smoke": 20_000, "short": 200_000, "full": 2_000_000}[BUDGET]  # draws
rng = np.random.default_rng(0)
digits = sources.load("digits")
images = data.to_float(digits.x_train)  # (N, 8, 8, 1) in [-1, 1]
linear = schedule.linear(1000)

# %% [markdown]
# ## 1. Why codes
#
# A convolution costs the same at each position, and attention costs the square of their number. A codec with the
# factor $f$ divides the positions by $f^2$: a network that needs 520 million operations on 28 by 28 pixels needs 128
# million at $f=2$ and 18 million at $f=4$. The same minutes then buy many more steps of training.
#
# What does it cost? We begin with the codec that can be solved: a linear one,
#
# $$x_0 \approx U z + b, \qquad z = U^\top (x_0 - b), \qquad U^\top U = 1.$$
#
# The best $k$ columns of $U$ are the eigenvectors of the covariance with the largest eigenvalues $\lambda_1 \ge
# \lambda_2 \ge \dots$ What the decoder cannot return is the sum of the others, and no sampler brings it back. This is
# the **floor** of everything that is built on the codec: look at the copies before you train a chain.

# %%
lost = {}
for k in (4, 16, 40):
    codec, var = latents.pca(images, k)
    copies = np.asarray(codec.to_image(codec.encoded(images)))
    lost[k] = float(((copies - images) ** 2).sum((1, 2, 3)).mean())
    assert np.isclose(lost[k], var[k:].sum(), rtol=1e-3)
D = len(var)
{k: f"{error:.2f} of {var.sum():.2f}" for k, error in lost.items()}

# %% [markdown]
# ## 2. Errors add up, and there is a best size
#
# Let the data be Gaussian with these eigenvalues. The chain runs in the $k$ directions that are kept, and its sampler
# makes the variance $s_j$ where $\lambda_j$ is right. The Fréchet distance to the data is a sum over orthogonal
# directions. One is lost if it is left out; one is wrong by the difference of two *deviations* if it is kept:
#
# $$\sum_{j>k} \lambda_j \;+\; \sum_{j\le k} \big(\sqrt{\lambda_j} - \sqrt{s_j}\big)^2.$$
#
# ### Exercise 22.1 - what the decoder loses, and what the sampler adds


# %%
def errors(var, sampled, k):
    """The two parts of the Fréchet distance.   var, sampled: (D,), falling λ and what is made of it  ->  two numbers"""
    ### BEGIN SOLUTION
    return var[k:].sum(), ((np.sqrt(var[:k]) - np.sqrt(sampled[:k])) ** 2).sum()
    ### END SOLUTION


# %% [markdown]
# The sampler is DDIM with ten steps, whose gain in a direction is known from Lesson 6. The first part falls with $k$,
# the second rises. And there is a third: the chain has been trained on $n$ images, and what $n$ images do not tell
# grows with the number of directions (`latents.errors_by_size` has the formula). **With few images the best $k$ lies
# inside.** LDM's "sweet spot" in Figs. 6 and 7 is this sum.


# %%
def after_steps(lam, times, alpha_bar):
    """The variance that DDIM with the exact denoiser makes of N(0, 1).   lam: (D,)  ->  (D,)"""
    gain = np.ones(len(lam))
    for t, s in itertools.pairwise(times):
        a, b = alpha_bar[t], alpha_bar[s]
        gain = gain * (np.sqrt(a * b) * lam + np.sqrt((1 - a) * (1 - b))) / (a * lam + 1 - a)
    return gain**2


lam = np.maximum(var, 0)
abar = np.asarray(linear.alpha_bar, np.float64)
made = after_steps(lam, schedule.make_times(1000, 10), abar)
sums = {many: latents.errors_by_size(lam, made, n=many) for many in (10, 50, 1e9)}
for k in (0, 10, D):
    assert np.allclose(errors(lam, made, k), (sums[10].decoder[k], sums[10].sampler[k]), atol=1e-6)
best = {many: found.best for many, found in sums.items()}
assert best[10] < best[50] < best[1e9] and sums[10].total[best[10]] < 0.8 * sums[10].total[-1]
best

# %% [markdown]
# ## 3. A chain on codes *is* the chain on pixels
#
# If $x_0 = Uz + b$ exactly, then $x_t = \sqrt{\bar\alpha_t}\,(Uz+b) + \sqrt{1-\bar\alpha_t}\,\varepsilon$, and the
# part of it within the columns of $U$ is the chain on $z$ with the noise $U^\top\varepsilon$, which is normal again.
# The best denoiser of the codes and the best one of the pixels know the same. So DDIM on codes, decoded, ends where
# DDIM on pixels ends, if both begin with the same noise. The mean $b$ belongs to the image: at $t=T$ only
# $\sqrt{\bar\alpha_T}\,b$ of it is left in $x_T$.
#
# ### Exercise 22.2 - the codes' first noise, from that of the pixels


# %%
def start_of_codes(x_T, basis, mean, alpha_bar_T):
    """z_T of x_T.   x_T: (B, D);  basis: (D, k) U;  mean: (D,) b;  alpha_bar_T: number  ->  (B, k)"""
    ### BEGIN SOLUTION
    return (x_T - np.sqrt(alpha_bar_T) * mean) @ basis
    ### END SOLUTION


# %%
flat = images.reshape(len(images), -1).astype(np.float64)
b, basis = flat.mean(0), np.linalg.eigh(np.cov(flat, rowvar=False))[1][:, ::-1][:, :12]
times, key = schedule.make_times(1000, 20), jax.random.key(0)
x_T = rng.normal(size=(9, D))
with jax.enable_x64(True):
    double = schedule.linear(1000)
    cov = np.diag(np.linspace(3, 0.5, 12))
    in_codes = oracle.gaussian(np.zeros(12), cov).eps(double)
    in_pixels = oracle.gaussian(b, basis @ cov @ basis.T).eps(double)
    z_T = jnp.asarray(start_of_codes(x_T, basis, b, float(double.alpha_bar[-1])))
    decoded = np.asarray(walk(ddim_step(in_codes, double), key, z_T, times)) @ basis.T + b
    on_pixels = np.asarray(walk(ddim_step(in_pixels, double), key, jnp.asarray(x_T), times))
apart = float(np.abs(decoded - on_pixels).max())
assert apart < 1e-9

# %% [markdown]
# Space-to-depth, which makes 2 by 2 pixels the channels of one position, is such a $U$ with $k=D$. A U-Net that begins
# with it (the preset `cpu`) is latent diffusion with a codec that loses nothing.

# %%
moved = latents.rearranged(images, 2)
z = moved.encoded(images[:10])
assert z.shape == (10, 4, 4, 4) and np.allclose(moved.to_image(jnp.asarray(z)), images[:10], atol=1e-5)

# %% [markdown]
# ## 4. The scale
#
# Pixels lie in $[-1, 1]$ by agreement. The codes of a trained encoder have any scale: those of Stable Diffusion have
# the deviation 5.49. A chain does not notice, runs, and is **another chain**: codes with the deviation $\sigma$ have
# $\sigma^2$ times the SNR at every $t$. So the codes are shifted and divided before the chain, and this is undone
# before decoding. Stable Diffusion multiplies by .18215. Public bug reports tell of programs that forget it, divide
# where they should multiply, use the number of another decoder, or take a variance for a deviation.
#
# ### Exercise 22.3 - the scale, and a bet
# **Before you run anything:** by which factor does the SNR change if codes of deviation $1/.18215$ are not scaled, and
# by how much does that move $\log$ SNR?


# %%
def scale(codes):
    """Mean and deviation of all numbers of all codes together.   codes: (N, ...)  ->  two numbers"""
    ### BEGIN SOLUTION
    return codes.mean(), codes.std()
    ### END SOLUTION


def to_latent(code, mean, std):
    """z of a code, for the chain.   code: (...)  ->  (...)"""
    ### BEGIN SOLUTION
    return (code - mean) / std
    ### END SOLUTION


def to_code(z, mean, std):
    """The way back, for the decoder.   z: (...)  ->  (...)"""
    ### BEGIN SOLUTION
    return std * z + mean
    ### END SOLUTION


# %%
def unscaled():
    """Your bet: the factor on the SNR, and what is added to log SNR.   ->  two numbers"""
    ### BEGIN SOLUTION
    return 0.18215**-2, -2 * np.log(0.18215)
    ### END SOLUTION


# %% [markdown]
# The consequence at $t=T$: Stable Diffusion's schedule leaves $\bar\alpha_T=.0047$, which is nearly pure noise for
# codes of deviation 1. Unscaled codes still shine through, and a walk that begins with $\mathcal N(0,1)$ begins at the
# wrong place. It ends at .938 of the codes' deviation, in each of their thousands of numbers: pale pictures. The least
# possible loss moves too, from .37 to .78, so two losses can only be compared at one scale.

# %%
codes = 5.49 * rng.normal(size=(n // 10, 10)) + 0.7
mean, std = scale(codes)
z = to_latent(codes, mean, std)
assert np.allclose((z.mean(), z.std()), (0, 1), atol=1e-6) and np.allclose(to_code(z, mean, std), codes)
assert np.isclose(unscaled()[1], np.log(unscaled()[0])) and abs(std**2 / unscaled()[0] - 1) < 0.05

sd = schedule.from_beta(np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
sd_bar = np.asarray(sd.alpha_bar, np.float64)
every = schedule.make_times(1000, 1000)
ends, floors = {}, {}
for sigma in (0.2, 1.0, 1 / 0.18215):
    ends[sigma] = float(np.sqrt(after_steps(np.array([sigma**2]), every, sd_bar)[0]) / sigma)
    floors[sigma] = float((sd_bar * sigma**2 / (sd_bar * sigma**2 + 1 - sd_bar))[1:].mean())
for sigma in (1.0, 1 / 0.18215):  # with very many steps; narrow codes lose a little more to a thousand of them
    assert np.isclose(ends[sigma], 1 / np.sqrt(1 + sd_bar[-1] * (sigma**2 - 1)), atol=3e-3)
assert np.allclose(list(floors.values()), (0.0825, 0.3734, 0.7837), atol=2e-4)
ends, floors

# %% [markdown]
# The library's codecs take the scale over the whole training set and keep it with the decoder, in one file; a data set
# of codes without it is refused.

# %%
try:
    latents.unit(codes)
    refused = ""
except ValueError as problem:
    refused = str(problem)
assert "log SNR" in refused and latents.unit(z) is z
refused

# %% [markdown]
# ## 5. A finite table
#
# A second way to keep codes in bounds is a table of $K$ entries: each code is replaced by the nearest one. The rest of
# the image is then a picture of whole numbers, ready for a model of tokens. The choice of the nearest has no gradient.
# *Straight-through* hands the decoder's gradient to the encoder as if nothing had been replaced:
#
# $$k = \arg\min_j \|z - e_j\|^2, \qquad z + \mathrm{sg}(e_k - z) \qquad\text{[van den Oord et al. 2017]},$$
#
# where sg has the value of its argument and no gradient.
#
# ### Exercise 22.4 - the nearest entry, and the gradient around it


# %%
def nearest(z, table):
    """The number of the nearest entry.   z: (B, d);  table: (K, d)  ->  (B,) integers"""
    ### BEGIN SOLUTION
    return ((z[:, None] - table[None]) ** 2).sum(-1).argmin(1)
    ### END SOLUTION


def straight_through(z, z_q):
    """The value of z_q, with the gradient of z.   z, z_q: (B, d)  ->  (B, d)"""
    ### BEGIN SOLUTION
    return z + jax.lax.stop_gradient(z_q - z)
    ### END SOLUTION


# %%
table = rng.normal(size=(5, 2))
z = rng.normal(size=(200, 2))
assert np.array_equal(nearest(z, table), latents.nearest(jnp.asarray(z), jnp.asarray(table)))
z_q = jnp.asarray(table[np.asarray(nearest(z, table))])
slope = jax.grad(lambda z: (straight_through(z, z_q) ** 2).sum())(jnp.asarray(z))
assert np.allclose(straight_through(jnp.asarray(z), z_q), z_q, atol=1e-6)
assert np.allclose(slope, 2 * z_q, atol=1e-5)  # as if z_q were z: neither 2z nor 0

# %% [markdown]
# What is the best table? For $\mathcal N(0,1)$ it is known [Max 1960]: each entry is the mean of its cell, and the
# cells meet halfway. Two entries, $\pm\sqrt{2/\pi} = \pm.798$, leave the error $1-2/\pi = .363$; four leave .117.
#
# A trained table is often half dead: entries that are never the nearest get no gradient. The number to watch is the
# **perplexity** $\exp(-\sum_j p_j\log p_j)$ with $p_j$ the share of the codes that entry $j$ gets. It is $K$ if all are
# used evenly, and 1 if one entry takes all. Even the best table of a Gaussian has less than $K$: the outer entries
# serve the rare codes.
#
# ### Exercise 22.5 - perplexity


# %%
def perplexity(index, K):
    """How many entries are in use.   index: (N,) integers in 0..K-1;  K: entries of the table  ->  number"""
    ### BEGIN SOLUTION
    p = np.bincount(index, minlength=K) / len(index)
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))
    ### END SOLUTION


# %%
draws = rng.normal(size=(n, 1))
tables = {}
for K in (2, 4, 8):
    best_table = latents.lloyd_max(K)
    index = np.asarray(nearest(draws, best_table.entries[:, None]))
    error = float(((draws[:, 0] - best_table.entries[index]) ** 2).mean())
    tables[K] = error, perplexity(index, K)
    assert abs(error / best_table.error - 1) < 20 / np.sqrt(n)
    assert np.isclose(tables[K][1], {2: 2, 4: 3.761, 8: 7.086}[K], rtol=12 / np.sqrt(n))
assert np.isclose(latents.lloyd_max(2).error, 1 - 2 / np.pi, atol=1e-9)
tables

# %% [markdown]
# ## 6. A draft, and the rest by diffusion
#
# A VAE (Lesson 12) draws quickly and blurs. DiffuseVAE lets it draw a **draft** $\hat x$, and a chain adds the rest.
# In its second form the chain ends, at $t=T$, around the draft and not around 0:
#
# $$q(x_t \mid x_0, \hat x) = \mathcal N\big(\sqrt{\bar\alpha_t}\,x_0 + (1-\sqrt{\bar\alpha_t})\,\hat x,\;
#   (1-\bar\alpha_t)\,I\big).$$
#
# ### Exercise 22.6 - the chain around a draft


# %%
def q_around(alpha_bar_t, x0, draft, eps):
    """x_t of the second form.   alpha_bar_t: number;  x0, draft, eps: (B, D)  ->  (B, D)"""
    ### BEGIN SOLUTION
    root = np.sqrt(alpha_bar_t)
    return root * x0 + (1 - root) * draft + np.sqrt(1 - alpha_bar_t) * eps
    ### END SOLUTION


# %% [markdown]
# Subtract $\hat x$ on both sides: $x_t - \hat x$ is the ordinary chain of $x_0 - \hat x$. So the second form **is**
# DDPM on the residual, nothing more, and every step of the library serves, moved by the draft.

# %%
x0, draft, eps = rng.normal(size=(3, 6, D))
for a in (0.99, 0.5, 0.01):
    residual = np.sqrt(a) * (x0 - draft) + np.sqrt(1 - a) * eps
    assert np.allclose(q_around(a, x0, draft, eps) - draft, residual)
ours = q_around(abar[500], x0, draft, eps)
assert np.allclose(latents.q_around(linear, *map(jnp.asarray, (x0, draft)), 500, jnp.asarray(eps)), ours, atol=1e-4)

# %% [markdown]
# What does it gain? DDIM's error in a direction grows with its variance. The best linear VAE with $k$ codes (Lesson
# 12) takes the $k$ widest directions and leaves the mean of the other variances, $r^2$, in each of them. The residual
# is narrow everywhere, and few steps are enough for it. Exactly, for a Gaussian with the covariance of our digits:

# %%
gains = {}
for steps in (2, 5, 10):
    walked = schedule.make_times(1000, steps)
    alone = ((np.sqrt(lam) - np.sqrt(after_steps(lam, walked, abar))) ** 2).sum()
    row = [float(alone)]
    for k in (5, 20):
        left = np.where(np.arange(D) < k, lam[k:].mean(), lam)
        total = lam - left + after_steps(left, walked, abar)  # the draft's variance, and what the chain makes
        row.append(float(((np.sqrt(lam) - np.sqrt(total)) ** 2).sum()))
    gains[steps] = row
assert all(row[0] > row[1] > row[2] for row in gains.values())
gains

# %% [markdown]
# ## 7. Do it
#
# Now a codec that is trained: convolutions, 2 by 2 pixels to one position with one number, 16 numbers in place of 64.
# Its loss is the error of the copies, with a little noise on the codes, so that near codes decode to near images.
# Nothing in it fixes the scale of the codes. Everything behind it is unchanged: the U-Net, the loss, the loop, DDIM,
# guidance. **The data set of codes is just a data set.**

# %%
config = latents.AutoencoderConfig(image_size=8, factor=2, code_channels=1, channels=16, groups=4)
many = {"smoke": (150, 150), "short": (3000, 2000), "full": (20_000, 30_000)}[BUDGET]


def countdown(steps):
    """The share of the training that is left: 1, …, 0."""
    shares = iter(np.linspace(1, 0, steps + 1))
    return lambda: float(next(shares))


def copy_loss(params, key, x0, c):
    """The error of the copies."""
    return latents.copy_loss(config, params, key, x0, noise=0.1)


params = fit(copy_loss, latents.build(config)[0](jax.random.key(0)), images, digits.y_train, 0, countdown(many[0]))
codec = latents.make_codec(config, params, images)
z = latents.unit(codec.encoded(images))
test = data.to_float(digits.x_test)
copied = np.asarray(codec.to_image(codec.encoded(test)))
floor = float(((copied - test) ** 2).sum((1, 2, 3)).mean())
principal, _ = latents.pca(images, 16)
pca_floor = float(((np.asarray(principal.to_image(principal.encoded(test))) - test) ** 2).sum((1, 2, 3)).mean())
assert z.shape == (len(images), 4, 4, 1) and floor < lam.sum()
floor, pca_floor, codec.mean, codec.std

# %% [markdown]
# The first two numbers are errors of test images, with 16 numbers a code: of the trained codec, and of the best linear
# one, which is fitted in a moment. The others are the mean and the deviation of the codes before they are scaled: no
# agreement, just where the training ended. Now the chain on the codes, with $v$ as the prediction. Pixels are clipped
# to $[-1,1]$ on the way; codes have no such bounds, and clipping them there would cut off a third of them. They are
# clipped at the range of the training codes.

# %%
unet = UNetConfig(4, 1, channels=32, multipliers=(1,), blocks=1, attention=(), groups=8, num_classes=10)
cosine = schedule.cosine(1000)


def v_loss(params, key, z, c):
    """The error of v̂, a tenth of the labels dropped."""
    key_t, key_eps, key_drop = jax.random.split(key, 3)
    t, eps = loss.stratified_times(key_t, len(z), 1000), jax.random.normal(key_eps, z.shape)
    net = network.eps_fn(unet, params)
    return objectives.objective("mse", "v")(net, cosine, z, t, eps, loss.drop_labels(key_drop, c, 10, 0.1)).mean()


theta = fit(v_loss, network.build(unet)[0](jax.random.key(0)), z, digits.y_train, 0, countdown(many[1]))
eps = objectives.denoiser(network.eps_fn(unet, theta), False, cosine, "v")
low, high = float(z.min()), float(z.max())
outside = float((np.abs(z) > 1).mean())
asked = np.arange(60) % 10
guided = clip_x0(cfg(eps, 2.0), cosine, low, high)
z_0 = walk(ddim_step(guided, cosine, jnp.asarray(asked)), key, jax.random.normal(key, (60, 4, 4, 1)), times)
drawn = np.clip(np.asarray(codec.to_image(z_0)), -1, 1)
raw = np.clip(np.asarray(codec.decode(z_0)), -1, 1)  # the scale forgotten
assert drawn.shape == (60, 8, 8, 1) and float(z_0.min()) >= low - 0.01 and float(z_0.max()) <= high + 0.01
assert outside > 0.1

# %% [markdown]
# How good are they? A simple judge, the nearest mean image of a class, tells how many have the digit that was asked
# for. Its verdict on test images and on their copies is the most that we can expect.


# %%
def judged(x, c):
    """The share of images whose nearest class mean is c."""
    means = np.stack([images[digits.y_train == k].mean(0) for k in range(10)])
    return float((((x[:, None] - means[None]) ** 2).sum((2, 3, 4)).argmin(1) == c).mean())


right = {"test images": judged(test, digits.y_test), "their copies": judged(copied, digits.y_test)}
right |= {"drawn": judged(drawn, asked), "scale forgotten": judged(raw, asked)}
assert right["drawn"] > 0.2 and right["their copies"] > 0.3
right


# %%
def panels(left, right):
    """The sum of errors by the size of the codes, and log SNR by the deviation of the codes."""
    for many, color in ((10, "C0"), (50, "C1")):
        found = sums[many]
        left.plot(found.total, color=color, label=f"n = {many}, best k = {found.best}")
        left.plot(found.best, found.total[found.best], "o", color=color)
    left.plot(sums[10].decoder, ":", color="0.4", label="lost by the decoder")
    left.set(xlabel="numbers a code, k", title="the three errors add up", ylim=(0, 1.1 * lam.sum()))
    for sigma in ends:
        right.plot(np.log(sd_bar[1:] / (1 - sd_bar[1:])) + 2 * np.log(sigma), label=f"σ = {sigma:.2f}")
    right.axhline(0, color="0.7", lw=0.8)
    right.set(xlabel="t", title="log SNR of codes with deviation σ")
    for axis in (left, right):
        axis.legend(frameon=False, fontsize=8)


# %%
def picture():
    """The figure of this lesson."""
    figure = plt.figure(figsize=(11, 6.2), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.5, 1])
    panels(*top.subplots(1, 2))
    shown = {"test images": test[:20], "their copies": copied[:20], "drawn": drawn[:20], "scale forgotten": raw[:20]}
    for axis, (name, x) in zip(bottom.subplots(1, 4), shown.items(), strict=True):
        axis.imshow(plot.grid(x, 5)[..., 0], cmap="gray", interpolation="nearest")
        axis.set_title(name, fontsize=10)
        axis.axis("off")
    return figure


# %%
if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l22.png", dpi=150)
    numbers = {
        "best_size": {f"{k:.0f}": v for k, v in best.items()},
        "ends": {f"{k:.3g}": v for k, v in ends.items()},
        "floors": {f"{k:.3g}": v for k, v in floors.items()},
        "tables": {str(k): v for k, v in tables.items()},
        "gains_of_a_draft": {str(k): v for k, v in gains.items()},
        "copies": {"trained": floor, "principal": pca_floor, "variance": float(lam.sum()), "deviation": codec.std},
        "right": right,
        "budget": BUDGET,
    }
    (out / "l22.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(f"L22: codec's error {floor:.2f} (PCA {pca_floor:.2f}); {right['drawn']:.0%} of digits as asked. out/l22.png")

# %% [markdown]
# ## What to take with you
#
# - A linear codec with orthonormal columns changes nothing but the number of directions; errors add up.
# - The codec's copies are the floor. Look at them first.
# - Divide the codes by the deviation of the whole training set, store it with the decoder, undo it before decoding.
# - $[-1, 1]$ is an agreement about pixels. Codes have another range.
# - Report the perplexity of a table.
# - A chain around a draft is a chain of the residual, and narrow residuals need few steps.
#
# ## Further reading
#
# - Rombach et al. 2022, *High-Resolution Image Synthesis with Latent Diffusion Models*, Sec. 3 and Figs. 6 and 7.
# - van den Oord, Vinyals, Kavukcuoglu 2017, *Neural Discrete Representation Learning*; Max 1960, *Quantizing for
#   Minimum Distortion*.
# - Pandey et al. 2022, *DiffuseVAE*. Here: the experiments `latent_size`, `latent_scale`, `latent_factor`, `vq_codec`
#   and `diffuse_vae`, and the modules of `ddpm.latents`.
