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
# # L6. DDIM: few steps, codes, and what lies between
#
# | | |
# |---|---|
# | you learn | to draw with twenty calls of the network instead of a thousand, to turn an image into a code and back |
# | time | 60 minutes to read and do, 3 minutes to run |
# | difficulty | ●●●○○ |
# | importance | ●●●●● |
# | paper | Song, Meng, Ermon 2021, *Denoising Diffusion Implicit Models*, Eqs. 12 and 16, Tables 1-2, Figs. 5-6 |
#
# Lesson 1 ended with a question. The loss looks only at single points $x_t$ of the forward process, at their *marginal*
# distributions, and never at how two of them hang together. So which *other* processes have the same marginals? The
# same trained network serves each of them, and one of them has no randomness in it at all.

# %%
import itertools
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddpm import data, forward, oracle, plot, schedule
from ddpm.datasets import sources
from ddpm.editing import inversion
from ddpm.oracles import gaussian
from ddpm.sample import ddim_step as library_step
from ddpm.sample import walk
from ddpm.zoo import model

# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how many images and steps
n = {"smoke": 4_000, "short": 20_000, "full": 200_000}[BUDGET]

# %% [markdown]
# ## 1. The same points, other paths
#
# Suppose we know $x_0$ and $\varepsilon$ of $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$. To
# go to $s<t$, keep $x_0$, keep a part of the old noise, and replace the rest by new noise of variance $\sigma^2$:
#
# $$x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{1-\bar\alpha_s-\sigma^2}\;\hat\varepsilon + \sigma z
#   \qquad\text{[Eq. 12]}$$
#
# The noise has variance $(1-\bar\alpha_s-\sigma^2) + \sigma^2 = 1-\bar\alpha_s$ **for every $\sigma$**, so $x_s$ has
# the right distribution for level $s$. The paper measures $\sigma$ in units of the DDPM value, with a number $\eta$:
#
# $$\sigma = \eta\,\sqrt{\frac{1-\bar\alpha_s}{1-\bar\alpha_t}}\,\sqrt{1-\frac{\bar\alpha_t}{\bar\alpha_s}}
#   \qquad\text{[Eq. 16]}$$
#
# ### Exercise 6.1 - the step
# (If you read the paper: its $\alpha$ is our $\bar\alpha$.)


# %%
def ddim_sigma(alpha_bar_s, alpha_bar_t, eta):
    """σ of Eq. 16, a standard deviation.   alpha_bar_s > alpha_bar_t: ();  eta: 0 … 1  ->  ()"""
    ### BEGIN SOLUTION
    return eta * jnp.sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s))
    ### END SOLUTION


def ddim_step(alpha_bar_s, alpha_bar_t, x_t, eps_hat, sigma, z):
    """x_s of Eq. 12.   alpha_bar_s, alpha_bar_t, sigma: ();  x_t, eps_hat, z: (B, ...)  ->  (B, ...)"""
    ### BEGIN SOLUTION
    x0 = (x_t - jnp.sqrt(1 - alpha_bar_t) * eps_hat) / jnp.sqrt(alpha_bar_t)
    return jnp.sqrt(alpha_bar_s) * x0 + jnp.sqrt(1 - alpha_bar_s - sigma**2) * eps_hat + sigma * z
    ### END SOLUTION


# %% [markdown]
# **Exactly:** with $\eta = 1$ the step is the posterior of Lesson 3, in mean and in variance. With the right $x_0$ and
# $\varepsilon$ it lands on level $s$ for every $\eta$. With $\eta = 0$ it lands on the very $x_s$ that has the same
# $\varepsilon$.

# %%
lib = schedule.linear(1000)
abar = np.asarray(lib.alpha_bar, np.float64)
keys = jax.random.split(jax.random.key(0), 3)
x0, eps, z = jax.random.uniform(keys[0], (n, 1)), jax.random.normal(keys[1], (n, 1)), jax.random.normal(keys[2], (n, 1))
for t, s in ((300, 299), (700, 100), (1, 0)):
    x_t = forward.q_sample(lib, x0, jnp.int32(t), eps)
    mean, var = forward.q_posterior(lib, x_t, x0, jnp.int32(t), jnp.int32(s))
    sigma = ddim_sigma(abar[s], abar[t], 1.0)
    assert np.isclose(sigma**2, var, rtol=1e-3, atol=1e-9)
    assert np.allclose(ddim_step(abar[s], abar[t], x_t, eps, sigma, 0 * z), mean, atol=2e-3)
    assert np.allclose(
        ddim_step(abar[s], abar[t], x_t, eps, 0.0, z), forward.q_sample(lib, x0, jnp.int32(s), eps), atol=2e-3
    )
    for eta in (0.0, 0.5, 1.0):
        noise = ddim_step(abar[s], abar[t], x_t, eps, ddim_sigma(abar[s], abar[t], eta), z) - np.sqrt(abar[s]) * x0
        assert abs(float((noise**2).mean()) - (1 - abar[s])) < 6 * (1 - abar[s]) * np.sqrt(2 / n) + 1e-6

# %% [markdown]
# ## 2. Which times to visit
#
# Nothing in the step requires $s = t-1$. We may take fifty of the thousand times, in a list that falls to 0. Published
# code uses several rules. The one that begins in pure noise, at $T$, is called *trailing*: $T - i\,T/N$, rounded.
#
# ### Exercise 6.2 - a list of times


# %%
def trailing_times(T, N):
    """N steps from T to 0: T - i T/N, rounded, for i = 0…N.   T ≥ N: int  ->  (N+1,) int, falling, ends in 0"""
    ### BEGIN SOLUTION
    return np.round(T - np.arange(N + 1) * (T / N)).astype(int)
    ### END SOLUTION


# %%
for N in (1, 3, 7, 50, 1000):
    times = trailing_times(1000, N)
    assert times[0] == 1000 and times[-1] == 0 and len(times) == N + 1
    assert np.array_equal(times, schedule.make_times(1000, N, "trailing"))
# A widespread default never visits T: it begins at t = 981 of 1000, and is fed pure noise all the same.
assert schedule.make_times(1000, 50, "leading")[0] == 981

# %% [markdown]
# ## 3. What few steps cost, exactly
#
# Take data $\mathcal N(0, 1)$ and the perfect guess $\hat\varepsilon = \sqrt{1-\bar\alpha_t}\;x_t$. Write
# $\sqrt{\bar\alpha_t} = \cos\theta_t$ and $\sqrt{1-\bar\alpha_t} = \sin\theta_t$. Then Eq. 12 without noise is
#
# $$x_s = (\cos\theta_s\cos\theta_t + \sin\theta_s\sin\theta_t)\,x_t = \cos(\theta_t-\theta_s)\;x_t.$$
#
# The perfect flow would keep the length of $x$, since $x_t$ is $\mathcal N(0,1)$ at all times. Every step of DDIM loses
# a little of it.
#
# ### Exercise 6.3 - the gain of a walk, and a bet
# Multiply the factors of the steps. Then, **before you run it:** the walk should keep the scale, so its error is
# $1-\text{gain}$. Fifty steps have some error. By what factor is it smaller with five hundred?


# %%
def gain(alpha_bar, times):
    """∏ cos(θ_t - θ_s), √ᾱ = cos θ, over a list.   alpha_bar: (T+1,);  times: (N+1,) falling  ->  number"""
    ### BEGIN SOLUTION
    theta = np.arccos(np.sqrt(alpha_bar[times]))
    return float(np.prod(np.cos(np.diff(theta))))
    ### END SOLUTION


def error_falls_by():
    """Your bet: the error 1 - gain with 50 steps, divided by that with 500.   ->  a number"""
    ### BEGIN SOLUTION
    return 10.0
    ### END SOLUTION


# %% [markdown]
# Ten times the steps give a tenth of the error: DDIM is a method of *first order*. (It is Euler's method for a
# differential equation, and `ddpm.samplers.solvers` has better ones.) The sampler of the library shrinks $x$ as
# predicted.

# %%
Ns = [5, 10, 20, 50, 100, 200, 500, 1000]
gains = {N: gain(abar, trailing_times(1000, N)) for N in Ns}
assert abs((1 - gains[50]) / (1 - gains[500]) / 10 - 1) < 0.1
unit = oracle.gaussian(jnp.zeros(1), 1.0).eps(lib)
x_T = jax.random.normal(jax.random.key(1), (64, 1))
for N in (5, 50):
    x = walk(library_step(unit, lib), jax.random.key(0), x_T, trailing_times(1000, N))
    assert np.allclose(x, gains[N] * x_T, atol=1e-4)  # no randomness: each number is scaled by the gain
gains

# %% [markdown]
# The best list for a given $N$ has *equal angles*, since a product of cosines whose angles have a fixed sum is largest
# then. That is the cosine schedule! Its gain is $\cos^N(\pi/2N) \approx 1-\pi^2/8N$.

# %%
cosine = np.asarray(schedule.cosine(1000).alpha_bar, np.float64)
for N in (10, 20, 50):
    best = np.cos(np.pi / 2 / N) ** N
    assert gains[N] < gain(cosine, trailing_times(1000, N)) < best + 2e-3
    assert abs(best - (1 - np.pi**2 / 8 / N)) < 1 / N**2
gain(cosine, trailing_times(1000, 50)), gains[50]

# %% [markdown]
# ## 4. Table 1 without a network
#
# Which $\eta$ is best when steps are few? The paper answers with the Fréchet distance of CIFAR-10 samples. For Gaussian
# data this distance can be computed. In an eigendirection with variance $\lambda$ each step multiplies $x_t$ by some
# $g$ and adds $\sigma z$, so the variance follows $v \leftarrow g^2 v + \sigma^2$. The Fréchet distance of two
# Gaussians with common axes is $\sum_d(\sqrt{v_d}-\sqrt{\lambda_d})^2$. We take the covariance of scikit-learn's
# digits.


# %%
def final_variance(lam, times, eta):
    """The variance at the end of the walk with the perfect denoiser.   lam: (D,)  ->  (D,)"""
    v = np.ones_like(lam)
    for t, s in itertools.pairwise(times):
        a, b = abar[s], abar[t]
        sigma = eta * np.sqrt((1 - a) / (1 - b) * (1 - b / a))
        share = np.sqrt(1 - b) / (b * lam + 1 - b)  # ε* = share · x_t
        g = np.sqrt(a / b) * (1 - np.sqrt(1 - b) * share) + np.sqrt(1 - a - sigma**2) * share
        v = g**2 * v + sigma**2
    return v


digits = data.to_float(sources.load("digits").x_train)
lam = np.asarray(gaussian.fit(digits).var[0], np.float64)
columns, etas = [10, 20, 50, 100, 1000], [0.0, 0.2, 0.5, 1.0]
distance = {
    eta: [
        float(((np.sqrt(final_variance(lam, trailing_times(1000, N), eta)) - np.sqrt(lam)) ** 2).sum()) for N in columns
    ]
    for eta in etas
}

# %% [markdown]
# The order is that of the paper's table, in every column: the less noise the better, and the fewer the steps the more
# it matters. There is no network here, no luck and no training. The order is a property of the sampler.

# %%
PAPER = {  # Fréchet Inception distance on CIFAR-10 [Table 1]
    0.0: [13.36, 6.84, 4.67, 4.16, 4.04],
    0.2: [14.04, 7.11, 4.77, 4.25, 4.09],
    0.5: [16.66, 8.35, 5.25, 4.46, 4.29],
    1.0: [41.07, 18.36, 8.01, 5.78, 4.73],
}
for table in (PAPER, distance):
    for few, more in itertools.pairwise(etas):
        assert all(a < b for a, b in zip(table[few], table[more], strict=True))
        assert np.all(np.diff(np.subtract(table[more], table[0.0])) < 0)  # what noise costs falls with the steps
    for row in table.values():
        assert all(a > b for a, b in itertools.pairwise(row))
one_dim = oracle.gaussian(jnp.zeros(1), 0.25).eps(lib)
walked = walk(
    library_step(one_dim, lib, eta=1.0),
    jax.random.key(2),
    jax.random.normal(jax.random.key(3), (n, 1)),
    trailing_times(1000, 20),
)
assert abs(float(walked.var()) / final_variance(np.array([0.25]), trailing_times(1000, 20), 1.0)[0] - 1) < 6 * np.sqrt(
    2 / n
)

# %% [markdown]
# ## 5. Codes
#
# Without noise the walk is a deterministic map: each $x_T$ has one image. And we can walk *up*, since the step of Eq.
# 12 with $\sigma=0$ works for $s>t$ as well. This is **DDIM inversion**. So each image has a code, its *latent*.
#
# ### Exercise 6.4 - encode
# Walk along the list from its end, 0, to its beginning, T, with `ddim_step` and no noise.


# %%
def encode_image(eps, alpha_bar, x0, times):
    """x_T of the image.

    eps: (x_t, t: int) -> like x_t;  alpha_bar: (T+1,);  x0: (B, ...);  times: (N+1,) falling to 0  ->  (B, ...)
    """
    x = x0
    ### BEGIN SOLUTION
    up = times[::-1]
    for t, s in itertools.pairwise(up):
        x = ddim_step(alpha_bar[s], alpha_bar[t], x, eps(x, t), 0.0, 0.0)
    ### END SOLUTION
    return x


# %% [markdown]
# On $\mathcal N(0,1)$ the way up shrinks $x$ as much as the way down. After both, the image is smaller by the square of
# the gain, and the error is $(1-\text{gain}^2)^2$. The paper measured the same thing on CIFAR-10 [Table 2]: up to fifty
# steps the errors are within a factor of two. (Then the curvature of a network shows, and our exact errors fall
# faster.)

# %%
x = np.random.default_rng(0).standard_normal((1000, 1))
table_2 = {10: 0.014, 20: 0.0065, 50: 0.0023, 100: 0.0009, 200: 0.0004}  # on pixels in [0, 1]
round_trip = {}
for N in table_2:
    times = trailing_times(1000, N)
    code = encode_image(lambda x, t: np.sqrt(1 - abar[t]) * x, abar, x, times)
    assert np.allclose(code, gains[N] * x, rtol=1e-3)
    round_trip[N] = (1 - gains[N] ** 2) ** 2 / 4  # /4: from [-1, 1] to [0, 1]
    assert round_trip[N] < 2 * table_2[N]
assert all(0.5 < round_trip[N] / table_2[N] < 2 for N in (10, 20, 50))
assert round_trip[200] / table_2[200] < round_trip[100] / table_2[100] < 0.5  # ours fall faster
round_trip

# %% [markdown]
# ## 6. Between two codes
#
# A code is a draw from $\mathcal N(0, I)$. In 784 dimensions that is a point very near the sphere of radius
# $\sqrt{784}$. Halfway along the straight line between two codes the length is only $1/\sqrt2$ of that, a place where
# the network has never been. The great circle stays on the sphere. This is **spherical interpolation** (slerp): with
# the angle $\phi$ between $a$ and $b$,
#
# $$\mathrm{slerp}(a, b; u) = \frac{\sin((1-u)\phi)}{\sin\phi}\,a + \frac{\sin(u\phi)}{\sin\phi}\,b.$$
#
# ### Exercise 6.5 - along the great circle


# %%
def slerp(a, b, u):
    """The point at u ∈ [0, 1] of the arc from a to b.   a, b: (D,), not parallel;  u: number  ->  (D,)"""
    ### BEGIN SOLUTION
    phi = np.arccos(a @ b / np.sqrt((a @ a) * (b @ b)))
    return (np.sin((1 - u) * phi) * a + np.sin(u * phi) * b) / np.sin(phi)
    ### END SOLUTION


# %%
a, b = np.random.default_rng(1).standard_normal((2, 784))
length = np.sqrt(784)
assert abs(np.linalg.norm(slerp(a, b, 0.5)) / length - 1) < 6 / np.sqrt(2 * 784)  # as long as any Gaussian draw
assert abs(np.linalg.norm((a + b) / 2) / length - 1 / np.sqrt(2)) < 6 / np.sqrt(2 * 784)  # too short
assert np.allclose(slerp(a, b, 0.0), a) and np.allclose(slerp(a, b, 1.0), b)
assert np.allclose(slerp(a, b, 0.3), inversion.slerp(jnp.asarray(a)[None], jnp.asarray(b)[None], 0.3)[0], atol=1e-4)
np.linalg.norm((a + b) / 2) / length

# %% [markdown]
# ## 7. A list is a list
#
# ### Exercise 6.6 - spot the bug
# The most used library of all computes the next time of a DDIM step by arithmetic, for any list it was given. If the
# times do not lie exactly $T/N$ apart, a step then ends at a level where the next one does not begin. Repair it.


# %%
def published_steps(times, T):
    """With a bug."""
    N = len(times) - 1
    return [(int(t), max(int(t) - T // N, 0)) for t in times[:-1]]


def repaired_steps(times, T):
    """The steps (t, s) of a walk.   times: (N+1,) falling to 0;  T: int  ->  (N, 2) int"""
    ### BEGIN SOLUTION
    return [(int(t), int(s)) for t, s in itertools.pairwise(times)]
    ### END SOLUTION


# %%
for times, wrong in (
    (trailing_times(1000, 50), 0),
    (trailing_times(1000, 30), 10),
    (schedule.make_times(1000, 50, "linspace"), 19),
):
    assert all(a[1] == b[0] for a, b in itertools.pairwise(repaired_steps(times, 1000)))
    published = published_steps(times, 1000)
    gaps = sum(a[1] != b[0] for a, b in itertools.pairwise(published))
    assert gaps >= wrong and (wrong or not gaps)  # where T/N is whole, nobody notices

# %% [markdown]
# ## 8. Garments
#
# Now we use the trained network of Lesson 4. One compiled step serves all walks below: up or down, with few steps or
# many, with noise or without. There must be no clipping, since it cannot be undone on the way up. So we begin at
# $t=950$, where $\bar\alpha=.006$. Nearer to $T$, $\hat x_0$ is the difference of two things magnified up to 20,000
# times.

# %%
garments = model.load("fashion_mnist")
ab = garments.schedule.alpha_bar
B, TOP = 11, 950
labels = jnp.array([9, 8, 3, 0, 5, 1, 7, 2, 6, 4, 9])
assert round(float(ab[TOP]), 3) == 0.006 and round(float(ab[1000]) ** -0.5, -4) == 20_000


@jax.jit
def one_step(eps, x, t, s, sigma, z, c):
    """One step of Eq. 12; at t = 0 the network is evaluated as if at t = 1."""
    x0_eps = eps(x, jnp.full(B, jnp.maximum(t, 1)), c)
    return ddim_step(ab[s], ab[t], x, x0_eps, sigma, z)


def draw(x, times, c=labels, eta=0.0, key=None):
    """The walk along a list of times, up or down."""
    for i, (t, s) in enumerate(itertools.pairwise(times)):
        sigma = ddim_sigma(ab[s], ab[t], eta) if eta else 0.0
        z = jax.random.normal(jax.random.fold_in(key, i), x.shape) if eta else jnp.zeros_like(x)
        x = one_step(garments.eps, x, int(t), int(s), sigma, z, c)
    return np.asarray(x)


# %% [markdown]
# We begin with the same noise and take a few steps, then more and more. It is the same garment each time! A code
# *means* something: $x_T$ decides the shape, and more steps only add detail. With $\eta=1$ it is another garment each
# time.

# %%
rows = {"smoke": [3, 6, 12], "short": [5, 10, 20, 50, 100], "full": [5, 10, 20, 50, 100, 1000]}[BUDGET]
start = jax.random.normal(jax.random.key(4), (B, 28, 28, 1))
by_steps = {N: draw(start, trailing_times(TOP, N)) for N in rows}
noisy = {N: draw(start, trailing_times(TOP, N), eta=1.0, key=jax.random.key(5)) for N in rows[-2:]}
best, half = by_steps[rows[-1]], by_steps[rows[-2]]


def differ(a, b):
    """Mean squared difference of images, in units of two unrelated ones."""
    return float(((a - b) ** 2).mean() / ((a - np.roll(a, 1, axis=0)) ** 2).mean())


assert differ(best, half) < 0.5 * differ(noisy[rows[-1]], noisy[rows[-2]])
assert differ(best, half) < differ(best, by_steps[rows[0]])
{N: round(differ(best, x), 3) for N, x in by_steps.items()}

# %% [markdown]
# Encode the drawn images, and decode their codes. We get back nearly the same images, and more nearly with more steps.
# The code is also near the noise that the image came from: their correlation is above one half.

# %%
there, back, codes = {}, {}, {}
for N in {"smoke": [4, 16], "short": [10, 50], "full": [10, 50, 200]}[BUDGET]:
    times = trailing_times(TOP, N)
    codes[N] = draw(jnp.asarray(best), times[::-1])
    back[N] = draw(jnp.asarray(codes[N]), times)
    there[N] = float(((back[N] - best) ** 2).mean()) / 4
few, many = sorted(there)[0], sorted(there)[-1]
assert there[many] < there[few] and there[many] < 0.05, there
alike = float(np.corrcoef(codes[many].ravel(), np.ravel(start))[0, 1])
assert alike > 0.5
there, alike

# %% [markdown]
# ## 9. The picture
#
# Above is the same noise, walked in few steps and in many, and in the last two rows with fresh noise on the way. Below
# we go from one code to another, along the arc and (dim, washed out) along the straight line. At the bottom is the
# exact Table 1, next to that of the paper.

# %%
between = {}
steps = {"smoke": 6, "short": 25, "full": 100}[BUDGET]
PAIRS = ((1, 4, 9), (2, 3, 7))  # two of the codes, and a class
for i, j, c in PAIRS:
    ends = np.asarray(start[i]).ravel(), np.asarray(start[j]).ravel()
    for name, path in (("arc", slerp), ("line", lambda a, b, u: (1 - u) * a + u * b)):
        points = np.stack([path(*ends, u) for u in np.linspace(0, 1, B)]).reshape(start.shape)
        between[name, c] = draw(jnp.asarray(points, jnp.float32), trailing_times(TOP, steps), c=jnp.full(B, c))
middle = B // 2
assert all(between["line", c][middle].var() < between["arc", c][middle].var() for _, _, c in PAIRS)


# %%
def show(axis, images, names, title):
    """Rows of images, each with a name."""
    canvas = plot.grid(np.clip(np.concatenate(images), -1, 1), B)
    axis.imshow(canvas[..., 0], cmap="gray")
    axis.set_yticks(16 + 30 * np.arange(len(names)), names, fontsize=9)
    axis.set(xticks=[])
    axis.set_title(title, fontsize=10)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def draw_table(exact, paper):
    """Fréchet distance against the number of steps: exact on Gaussian digits; the paper's on CIFAR-10."""
    colours = dict(zip(etas, ("#1b4f72", "#2e86c1", "#e59866", "#b5523b"), strict=True))
    for axis, table in ((exact, distance), (paper, PAPER)):
        for eta in etas:
            axis.loglog(columns, table[eta], "o-", ms=3, color=colours[eta], label=rf"$\eta={eta:g}$")
        axis.set_xticks(columns, columns, fontsize=8)
        axis.set_xticks([], minor=True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlabel("steps")
    exact.set_title("exact: Gaussian with the digits' covariance, perfect denoiser", fontsize=9)
    paper.set_title("paper, Table 1: CIFAR-10, their network (Inception features)", fontsize=9)
    exact.set_ylabel("Fréchet distance")
    exact.legend(frameon=False, fontsize=8)


# %%
def picture():
    """The figure of this lesson."""
    figure = plt.figure(figsize=(11, 11.5), layout="constrained")
    images, curves = figure.subfigures(2, 1, height_ratios=[3.1, 1])
    left, right = images.subplots(2, 1, height_ratios=[len(rows) + 2, 4])
    names = [f"{N} steps" for N in rows] + [rf"$\eta=1$, {N}" for N in noisy]
    show(
        left,
        [*by_steps.values(), *noisy.values()],
        names,
        "the same noise in every row, no randomness after it; last two rows: with randomness",
    )
    show(right, list(between.values()), ["arc", "line"] * 2, "between two codes")
    draw_table(*curves.subplots(1, 2))
    return figure


# %%
if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l06.png", dpi=150)
    numbers = {
        "gain": gains,
        "frechet_exact_digits": {"steps": columns, **{f"eta {eta:g}": row for eta, row in distance.items()}},
        "round_trip_mse_01": {"exact_unit_gaussian": round_trip, "paper_cifar10": table_2, "garments": there, "n": B},
        "code_correlation": alike,
        "budget": BUDGET,
    }
    (out / "l06.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(f"L6: 50 steps keep {gains[50]:.3f} of the contrast, 500 keep {gains[500]:.4f}: first order. out/l06.png")

# %% [markdown]
# ## What to take along
#
# - Training fixes the marginals, not the paths, and $\eta$ chooses among the paths. With $\eta=0$ the walk is a map
#   between noise and images, in both directions.
# - Its error falls as one over the number of steps. Less noise on the way is better when steps are few.
# - A list of times is an argument. Read the next time from it.
#
# ## Further reading
#
# - Song, Meng, Ermon 2021, *Denoising Diffusion Implicit Models*. Section 4 is this lesson.
# - Lu et al. 2022, *DPM-Solver*; Karras et al. 2022, *Elucidating the Design Space of Diffusion-Based Generative
#   Models*. They reach second order with as many calls.
# - Mokady et al. 2023, *Null-text Inversion*. It shows what goes wrong with inversion under
#   guidance, and a remedy.
