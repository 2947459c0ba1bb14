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
# # L11. Editing with masks
#
# | | |
# |---|---|
# | you learn | to fill holes in images, and to extend, sharpen and redraw them, with a model trained for none of it |
# | time | 75 minutes to read and do, 3 minutes to run |
# | difficulty | ●●●○○ |
# | importance | ●●●○○ |
# | paper | Lugmayr et al. 2022, *RePaint*, Alg. 1, Fig. 3; Meng et al. 2022, *SDEdit*; Saharia et al. 2022, *Palette* |
#
# A part of an image is given, and the rest is to be invented so that it fits. **Inpainting**, extending a picture
# beyond its frame, making it larger: all of these are one question. A trained denoiser answers it without further
# training, if one writes the known part into the sampling walk at the right moment. How good is the answer? For
# Gaussian data we know to the last digit what should come out, and we can watch the most used method miss it.

# %%
import itertools
import json
import os
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from ddpm import data, forward, oracle, plot, schedule
from ddpm.contracts import Partial
from ddpm.datasets import sources
from ddpm.editing import inpaint
from ddpm.editing import masks as masks_
from ddpm.guide import clip_x0
from ddpm.networks import heads
from ddpm.sample import ddpm_step, walk
from ddpm.samplers.variance import optimal
from ddpm.tools import ops
from ddpm.zoo import model

# %%
# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how many draws, steps and images
n = {"smoke": 4_000, "short": 20_000, "full": 200_000}[BUDGET]

# %% [markdown]
# ## 1. The known part, at the right level
#
# A sampling walk is at $x_t$ and takes a step down to the noise level $s<t$. The network predicts all pixels, the known
# ones too. But for the known pixels we have $x_0$, and so we know the distribution that they should have at level $s$:
# it is $q(x_s\mid x_0)$ of Lesson 1. Draw the known pixels from it, and keep the network's pixels elsewhere (the mask
# $m$ is 1 where the image is known):
#
# $$x_s = m \odot \big(\sqrt{\bar\alpha_s}\,x_0 + \sqrt{1-\bar\alpha_s}\,\varepsilon\big) + (1-m)\odot x_s^{\text{net}}
#   \qquad\text{[RePaint, Alg. 1]}$$
#
# ### Exercise 11.1 - put the known pixels in
# This line was published with two different slips. In the printed algorithm the root of $1-\bar\alpha$ is missing; a
# popular library followed the print, and changed back one release later. The same library had once used the level $t$,
# at which $x$ *was*, instead of $s$.


# %%
def put_in(alpha_bar_t, alpha_bar_s, mask, known, x_s, eps):
    """x_s with the known pixels drawn from q(x_s | known), after a step from t to s.

    alpha_bar_t < alpha_bar_s: ();  mask: (B, H, W, 1), 1 = known;  known, x_s, eps: (B, H, W, C)  ->  (B, H, W, C)
    """
    ### BEGIN SOLUTION
    noised = jnp.sqrt(alpha_bar_s) * known + jnp.sqrt(1 - alpha_bar_s) * eps
    return mask * noised + (1 - mask) * x_s
    ### END SOLUTION


# %% [markdown]
# **Exactly:** the known pixels have the mean $\sqrt{\bar\alpha_s}\,x_0$ and the variance $1-\bar\alpha_s$, the others
# are untouched, and at $s=0$ the known pixels have their true values.

# %%
abar = np.asarray(schedule.linear(1000).alpha_bar, np.float64)
mask = jnp.asarray(masks_.half(4, 6))[None]  # the left half is known
x_s, noise = jax.random.normal(jax.random.key(0), (2, n, 4, 6, 1))
for t, s in ((700, 690), (300, 100), (20, 0)):
    x = np.asarray(put_in(abar[t], abar[s], mask, jnp.full_like(x_s, 0.7), x_s, noise))
    assert np.array_equal(x[:, :, 3:], x_s[:, :, 3:])
    draws = x[:, :, :3].ravel()
    std = np.sqrt(1 - abar[s])
    assert abs(draws.mean() - 0.7 * np.sqrt(abar[s])) < 6 * std / np.sqrt(draws.size) + 1e-6
    assert abs(draws.std() - std) < 6 * std / np.sqrt(2 * draws.size) + 1e-6

# %% [markdown]
# ## 2. Down, up, and down again
#
# There is a flaw. The step fills the hole from $x_t$, in which the known pixels are noisy. Then the known pixels are
# replaced by other draws, to which the filling could not adapt. So the filling fits the known part badly: the seams
# show.
#
# The remedy of RePaint is **resampling**: go *up* again, by adding noise as in Lesson 1, and down once more, several
# times. Each time the two parts get to know each other better. The list of times now climbs. It consists of positions
# from $n$ (noise) to 0 (clean). Whenever the walk reaches a multiple of $j$ below $n-j$, it climbs $j$ positions, until
# it has reached this multiple $r$ times.
#
# ### Exercise 11.2 - the list that climbs


# %%
def climbing(n, j, r):
    """The positions of a walk from n to 0 that jumps up again.   n > j ≥ 1, r ≥ 1: int  ->  (length,) int"""
    visits = dict.fromkeys(range(0, n - j, j), r)  # how often each of these positions is to be reached
    position, path = n, [n]
    ### BEGIN SOLUTION
    while position > 0:
        position -= 1
        path.append(position)
        visits[position] = visits.get(position, 1) - 1
        if visits[position] > 0:
            path += range(position + 1, position + j + 1)
            position += j
    ### END SOLUTION
    return np.array(path)


# %% [markdown]
# Each step down is one call of the network. The paper's setting, $n=250$ and $j=r=10$, costs 2,410 calls for one image.

# %%
for (positions, j, r), calls in {(250, 10, 10): 2410, (250, 10, 5): 1210, (100, 10, 10): 910, (50, 5, 5): 230}.items():
    path = climbing(positions, j, r)
    assert np.array_equal(path, inpaint.repaint_times(np.arange(positions, -1, -1), j, r))
    assert (np.diff(path) == -1).sum() == calls == positions + (positions // j - 1) * (r - 1) * j
assert np.array_equal(climbing(9, 2, 1), np.arange(9, -1, -1))  # r = 1 is the plain walk
len(climbing(250, 10, 10))

# %% [markdown]
# ## 3. What should come out
#
# Take data from $\mathcal N(\mu, \Sigma)$, and let $k$ index the known numbers and $u$ the unknown ones. Given the
# known numbers, the unknown ones are Gaussian too. This **conditional distribution** is
#
# $$x_u \mid x_k \sim \mathcal N\big(\mu_u + \Sigma_{uk}\Sigma_{kk}^{-1}(x_k-\mu_k),\;
#   \Sigma_{uu} - \Sigma_{uk}\Sigma_{kk}^{-1}\Sigma_{ku}\big),$$
#
# and every method of inpainting can be measured against it.
#
# ### Exercise 11.3 - the exact answer, and a bet
# Here is the smallest image with a hole: two pixels, both $\mathcal N(0,1)$, with correlation .9. The first is known to
# be 1.5, so the second is distributed as $\mathcal N(1.35, .19)$. RePaint takes 50 steps with the perfect denoiser and
# $\sigma^2=\tilde\beta$. With $r=1$ the filling has the mean .90 and the variance .27. With $r=20$ (and $j=1$) the mean
# is nearly right: 1.33. **Before you run it:** what is the variance then?


# %%
def conditional(mean, cov, known, x):
    """Mean and covariance of the unknown numbers, given the known ones.

    mean: (D,);  cov: (D, D);  known: (D,) bool;  x: (D,), read only where known  ->  (U,) and (U, U)
    """
    ### BEGIN SOLUTION
    gain = np.linalg.solve(cov[np.ix_(known, known)], cov[np.ix_(known, ~known)]).T
    return mean[~known] + gain @ (x[known] - mean[known]), cov[np.ix_(~known, ~known)] - gain @ cov[known][:, ~known]
    ### END SOLUTION


def variance_with_r_20():
    """Your bet: the variance of the filled pixel with r = 20, where .19 is right.   ->  a number"""
    ### BEGIN SOLUTION
    return 0.11
    ### END SOLUTION


# %%
RHO, KNOWN, STEPS = 0.9, 1.5, 50
pair_cov = np.array([[1.0, RHO], [RHO, 1.0]])
right_mean, right_var = (float(a.squeeze()) for a in conditional(np.zeros(2), pair_cov, np.array([True, False]),
                                                                 np.array([KNOWN, np.nan])))  # fmt: skip
assert np.isclose(right_mean, 1.35) and np.isclose(right_var, 0.19)
rng = np.random.default_rng(0)
pairs = rng.multivariate_normal(np.zeros(2), pair_cov, size=50 * n)
near = pairs[np.abs(pairs[:, 0] - KNOWN) < 0.02, 1]  # from all pairs whose first pixel is about 1.5
assert abs(near.mean() - right_mean) < 6 * np.sqrt(right_var / len(near)) + 0.02
assert abs(near.var() - right_var) < 6 * right_var * np.sqrt(2 / len(near)) + 0.001
right_mean, right_var

# %% [markdown]
# All of RePaint can be followed exactly on this pair. Each step is a linear map of $x$ plus noise, and the known pixel
# is always independent of the filled one. So a mean and a variance for each of the two, updated step by step, are all
# there is to know. No draws, no luck.


# %%
def step_of(a_t, a_s, variance):
    """The step t → s of the second pixel: weights (2,) of x_t, and σ²."""
    G = np.sqrt(a_t) * pair_cov @ np.linalg.inv(a_t * pair_cov + (1 - a_t) * np.eye(2))  # E[x0 | x_t] = G x_t
    beta = 1 - a_t / a_s
    weights = (np.sqrt(a_s) * beta * G[1] + np.sqrt(a_t / a_s) * (1 - a_s) * np.array([0, 1])) / (1 - a_t)
    sigma2 = beta * (1 - a_s) / (1 - a_t)  # β̃, which is 0 in the last step
    if variance == "best":  # Lesson 7: add the variance of x0 given x_t
        sigma2 += a_s * (beta / (1 - a_t)) ** 2 * (pair_cov - np.sqrt(a_t) * G @ pair_cov)[1, 1]
    return weights, sigma2


def law_of_filling(alpha_bar, path, variance="small", climb=None):
    """Mean and variance of the filled pixel at the end of a walk that climbs."""
    climb = climb or (lambda a_s, a_t, x, z: np.sqrt(a_t / a_s) * x + np.sqrt(1 - a_t / a_s) * z)
    m, v = np.zeros(2), np.ones(2)  # means and variances of the known pixel and of the filled one
    for a_t, a_s in itertools.pairwise(alpha_bar[np.asarray(path)]):
        if a_s > a_t:
            weights, sigma2 = step_of(a_t, a_s, variance)
            m, v = np.array([np.sqrt(a_s) * KNOWN, weights @ m]), np.array([1 - a_s, weights**2 @ v + sigma2])
        else:
            m, v = climb(a_t, a_s, m, 0.0), climb(a_t, a_s, 1.0, 0.0) ** 2 * v + climb(a_t, a_s, 0.0, 1.0) ** 2
    return m[1], v[1]


# %% [markdown]
# The library's sampler, which draws real noise, agrees.

# %%
short = schedule.linear(STEPS)
short_abar = np.asarray(short.alpha_bar, np.float64)
pair = oracle.gaussian(np.zeros((2, 1, 1)), pair_cov)
pair_mask, given = np.array([1.0, 0.0]).reshape(2, 1, 1), jnp.full((n, 2, 1, 1), KNOWN)
fill = inpaint.repaint(ddpm_step(pair.eps(short), short), short, given, pair_mask)
ours = walk(fill, jax.random.key(1), jax.random.normal(jax.random.key(2), given.shape), climbing(STEPS, 1, 5))
m, v = law_of_filling(short_abar, climbing(STEPS, 1, 5))
assert np.allclose(ours[:, 0], KNOWN)
assert abs(float(ours[:, 1].mean()) - m) < 6 * np.sqrt(v / n)
assert abs(float(ours[:, 1].var()) / v - 1) < 6 * np.sqrt(2 / n)
m, v

# %% [markdown]
# Now turn the knob $r$. The mean creeps up to where it should be. The variance falls *past* the right value .19, to .11
# after twenty rounds, since every step is a little too narrow ($\tilde\beta$, Lesson 3). **RePaint with many rounds has
# not "converged"; it is overconfident.** With the best variance of Lesson 7 in every step, the last one included, the
# same walk ends close to the truth. And with jumps of ten positions out of fifty the mean stops short at 1.17, with any
# number of rounds: each round ends in a plain descent of ten steps, and that descent has the old flaw again.

# %%
rounds = [1, 2, 3, 5, 10, 20, 40]
knobs = {"j = 1": (1, "small"), "j = 1, best σ²": (1, "best"), "j = 10": (10, "small")}
by_rounds = {
    name: np.array([law_of_filling(short_abar, climbing(STEPS, j, r), variance) for r in rounds])
    for name, (j, variance) in knobs.items()
}
assert all(
    mean_var[0, 0] < 0.7 * right_mean for mean_var in by_rounds.values()
)  # with r = 1 a third of the mean is missing
assert np.allclose(by_rounds["j = 1"][0], (0.90, 0.27), atol=5e-3)
at_20 = {name: mean_var[rounds.index(20)] for name, mean_var in by_rounds.items()}
assert abs(at_20["j = 1"][0] - right_mean) < 0.03 and np.allclose(at_20["j = 1"], (1.33, 0.11), atol=5e-3)
assert np.allclose(at_20["j = 1, best σ²"], (right_mean, right_var), atol=0.03)
assert abs(by_rounds["j = 1, best σ²"][-1, 1] / right_var - 1) < 0.05
assert abs(at_20["j = 10"][0] - 1.17) < 5e-3 and np.allclose(by_rounds["j = 10"][-1], at_20["j = 10"], atol=1e-3)
at_20

# %% [markdown]
# ## 4. Known blocks: super-resolution
#
# A small image is a large one of which only the means of blocks are known. Let $\phi$ replace each $N\times N$ block by
# its mean. This low-pass filter is a *projection*: $\phi(\phi(x))=\phi(x)$. So replace the projected part after each
# step, and keep the rest, $x - \phi(x)$, which is the detail [Choi et al. 2021, *ILVR*]:
#
# $$x_s \leftarrow x_s - \phi(x_s) + \phi(y_s), \qquad y_s \sim q(y_s \mid y).$$
#
# ### Exercise 11.4 - low-pass, and swap


# %%
def low_pass(x, N):
    """Each N x N block replaced by its mean, colour by colour.   x: (B, H, W, C), N divides H, W  ->  (B, H, W, C)"""
    ### BEGIN SOLUTION
    B, H, W, C = x.shape
    means = x.reshape(B, H // N, N, W // N, N, C).mean((2, 4))
    return means.repeat(N, 1).repeat(N, 2)
    ### END SOLUTION


def swap_low(x, y, N):
    """The detail of x added to the block means of y.   x, y: (B, H, W, C)  ->  (B, H, W, C)"""
    ### BEGIN SOLUTION
    return x - low_pass(x, N) + low_pass(y, N)
    ### END SOLUTION


# %%
x, y = np.random.default_rng(1).normal(size=(2, 3, 12, 8, 2))
assert np.allclose(low_pass(low_pass(x, 4), 4), low_pass(x, 4))  # a projection: twice is the same as once
assert np.allclose(low_pass(swap_low(x, y, 4), 4), low_pass(y, 4))  # the block means are those of y
assert np.allclose(swap_low(x, y, 4) - low_pass(y, 4), x - low_pass(x, 4))  # the detail is that of x
assert np.allclose(swap_low(x, y, 1), y) and np.allclose(swap_low(x, x, 4), x)
assert abs(((x - low_pass(x, 4)) * low_pass(y, 4)).sum()) < 1e-9  # detail and blocks are orthogonal

# %% [markdown]
# ## 5. A network that is told: Palette
#
# The exact answer needs a denoiser that sees the known pixels *without* noise: $\mathbb E[\varepsilon\mid x_t, x_k]$.
# If holes are what you want to fill, train just that [Saharia et al. 2022, *Palette*]: give the network the known part
# next to $x_t$ as additional channels (*conditioning*), and count the loss on the missing pixels only.
#
# ### Exercise 11.5 - what Palette is shown, and its loss
# The input is three things next to each other: $x_t$, the known pixels (0 where unknown), and the mask.


# %%
def palette_input(x_t, x0, mask):
    """[x_t, the known part of x0, mask], along channels.

    x_t, x0: (B, H, W, C);  mask: (B, H, W, 1), 1 = known  ->  (B, H, W, 2C+1)
    """
    ### BEGIN SOLUTION
    return jnp.concatenate([x_t, mask * x0, mask], axis=-1)
    ### END SOLUTION


def palette_loss(eps, eps_hat, mask):
    """The mean of (ε - ε̂)² over the missing numbers.   eps, eps_hat: (B, H, W, C);  mask: (B, H, W, 1)  ->  ()"""
    ### BEGIN SOLUTION
    missing = jnp.broadcast_to(1 - mask, eps.shape)
    return (missing * (eps - eps_hat) ** 2).sum() / missing.sum()
    ### END SOLUTION


# %% [markdown]
# **Exactly:** on the pair, a network trained in this way learns the denoiser of $\mathcal N(1.35, .19)$. One plain walk
# of fifty steps then ends with the right mean and the right variance, without any resampling.

# %%
told = oracle.gaussian([right_mean], right_var).eps(short)
gamma = (1 - short_abar) / (short_abar * right_var + 1 - short_abar)  # E ε̂² without the mean's part, for Lesson 7's σ*²
filled = walk(
    ddpm_step(told, short, variance=optimal(gamma)),
    jax.random.key(3),
    jax.random.normal(jax.random.key(4), (n, 1)),
    schedule.make_times(STEPS, STEPS),
)
m, v = float(filled.mean()), float(filled.var())
assert abs(m - right_mean) < 6 * np.sqrt(right_var / n) + 0.01 and abs(v / right_var - 1) < 6 * np.sqrt(2 / n) + 0.02
m, v

# %% [markdown]
# And now a real network, for the digits of scikit-learn: $8\times8$ pixels, of which the left, right, upper or lower
# half is known, or nothing. The network is small and trains quickly. It predicts the velocity $v$ of Lesson 3, since
# what the known half tells about the rest matters most at high noise, where the error of $\hat\varepsilon$ hardly
# counts it.

# %%
digits = sources.load("digits")
train_x, test_x = (jnp.asarray(data.to_float(x)) for x in (digits.x_train, digits.x_test))
side = masks_.half(8, 8)
holes = jnp.stack([side, side[:, ::-1], side.transpose(1, 0, 2), side.transpose(1, 0, 2)[::-1], 0 * side])
TD, WIDTH = 200, 256
lib_d = schedule.linear(TD)


# %%
def init(key):
    """Three residual blocks between two linear maps: a wider version of the small network of Lesson 4."""
    k = jax.random.split(key, 7)
    shapes = [(WIDTH, WIDTH), (64, WIDTH)]
    blocks = [
        [jax.random.normal(k[2 * i + j], shape) / np.sqrt(shape[0]) for j, shape in enumerate(shapes)]
        + [jnp.zeros((WIDTH, WIDTH))]
        for i in range(3)
    ]
    return {"in": jax.random.normal(k[6], (192, WIDTH)) / 14, "blocks": blocks, "out": jnp.zeros((WIDTH, 64))}


def told_v(params, x0, mask, x_t, t):
    """The prediction v̂ from x_t, given the known part of x0."""
    h = palette_input(x_t, x0, mask).reshape(len(x_t), -1) @ params["in"]
    for w_h, w_e, w_out in params["blocks"]:
        h = h + jax.nn.silu(h @ w_h + ops.time_embedding(t, 64) @ w_e) @ w_out
    return (h @ params["out"]).reshape(x_t.shape)


def told_eps(params, x0, mask, x_t, t, c=None):
    """The same prediction, converted to ε̂: a denoiser."""
    return heads.eps_from_v(lib_d, x_t, t, told_v(params, x0, mask, x_t, t))


# %%
rounds_d = {"smoke": 100, "short": 2_500, "full": 40_000}[BUDGET]
adam = optax.adam(optax.cosine_decay_schedule(2e-3, rounds_d))


# %%
@partial(jax.jit, static_argnames="count")
def train(params, key, count):
    """The parameters after `count` steps of Adam, with 64 digits and a hole for each of them; and the losses."""

    def loss(params, key):
        k = jax.random.split(key, 4)
        x0 = train_x[jax.random.randint(k[0], (64,), 0, len(train_x))]
        mask = holes[jax.random.randint(k[1], (64,), 0, len(holes))]
        t, noise = jax.random.randint(k[2], (64,), 1, TD + 1), jax.random.normal(k[3], x0.shape)
        x_t = forward.q_sample(lib_d, x0, t, noise)
        return palette_loss(heads.v_from_eps(lib_d, x_t, t, noise), told_v(params, x0, mask, x_t, t), mask)

    def step(state, key):
        value, slope = jax.value_and_grad(loss)(state[0], key)
        change, moments = adam.update(slope, state[1])
        return (optax.apply_updates(state[0], change), moments), value

    (params, _), losses = jax.lax.scan(step, (params, adam.init(params)), jax.random.split(key, count))
    return params, losses


told_params, losses = train(init(jax.random.key(5)), jax.random.key(6), rounds_d)
assert losses[-20:].mean() < 0.9 * losses[:20].mean()

# %% [markdown]
# The upper half of digits that the network has not seen is shown. Palette fills in the rest. The same network, shown
# nothing, is an ordinary denoiser for RePaint, with one round and with ten.
#
# How should one judge a filling? Not by its distance from the truth: of two methods with the same mean, the one that is
# too sure of itself wins. Instead, fill each hole *twice*, with $x$ and $x'$. Then $\frac12(x-x')^2$ estimates the
# variance of the fillings, and $(x-x_0)(x'-x_0)$ estimates the squared error of their mean. If the fillings have the
# right distribution, the truth is one more draw from it, and on average **the two estimates are equal**. The yardstick
# is the Gaussian of Exercise 11.3, fitted to the training digits.

# %%
test_x = test_x[: {"smoke": 50, "short": 150, "full": 297}[BUDGET]]
upper = jnp.broadcast_to(holes[2], test_x.shape)
N_D = {"smoke": 20, "short": 100, "full": 200}[BUDGET]


@jax.jit
def digit_step(params, shown, mask, key, x, t, s):
    """A step of RePaint with a network that is shown some pixels."""
    eps = clip_x0(Partial(told_eps, params, test_x, shown), lib_d)
    return inpaint.repaint(ddpm_step(eps, lib_d), lib_d, test_x, mask)(key, x, t, s)


def fill_in(shown, mask, r, seed):
    """The test digits with their lower half filled in."""
    key_start, key = jax.random.split(jax.random.key(seed))
    x, path = jax.random.normal(key_start, test_x.shape), schedule.make_times(TD, N_D)[::-1][climbing(N_D, 5, r)]
    for i, (t, s) in enumerate(itertools.pairwise(path)):
        x = digit_step(told_params, shown, mask, jax.random.fold_in(key, i), x, int(t), int(s))
    return np.asarray(upper * test_x + (1 - upper) * x)


# %%
methods = {
    "Palette": (upper, 0 * upper, 1),
    "RePaint, r = 1": (0 * upper, upper, 1),
    "RePaint, r = 10": (0 * upper, upper, 10),
}
filled = {name: [fill_in(*how, seed) for seed in (8, 9)] for name, how in methods.items()}

# %%
flat, unseen = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (train_x, test_x))
below = np.asarray(upper[0]).ravel() < 1
fitted = flat.mean(0), np.cov(flat, rowvar=False) + 1e-3 * np.eye(64)
guess = [conditional(*fitted, ~below, x) for x in unseen]
judged = {"a Gaussian": (np.mean([(x[below] - m) ** 2 for x, (m, _) in zip(unseen, guess, strict=True)]),
                         np.diag(guess[0][1]).mean())}  # fmt: skip
for name, (x, other) in filled.items():
    missing = 1 / float((1 - upper).sum())
    judged[name] = (((x - test_x) * (other - test_x)).sum() * missing, ((x - other) ** 2).sum() / 2 * missing)
judged = {name: {"error of the mean": float(e), "variance": float(v)} for name, (e, v) in judged.items()}
judged

# %% [markdown]
# With the known part as input, the mean of the network is nearer to the truth than that of RePaint, and than that of
# the best linear predictor. The network is too sure of itself on digits that it has never seen (1,500 to learn from are
# few). RePaint is the more so, the more rounds it takes: this is what the two pixels showed.

# %%
sure = {name: j["variance"] / j["error of the mean"] for name, j in judged.items()}
assert len(train_x) == 1500
if BUDGET != "smoke":
    means = {name: j["error of the mean"] for name, j in judged.items()}
    assert means["Palette"] < min(means["RePaint, r = 1"], means["RePaint, r = 10"], means["a Gaussian"])
    assert sure["RePaint, r = 10"] < min(sure["RePaint, r = 1"], sure["Palette"]) and sure["Palette"] < 0.9
sure

# %% [markdown]
# ## 6. Redraw a sketch: SDEdit
#
# **SDEdit** needs no mask at all: take a clumsy sketch $y$, add noise up to a level $t$, and sample down from there
# [Meng et al. 2022]. Noise washes the clumsiness away, and with enough noise the sketch too. For data from
# $\mathcal N(0,\lambda)$ and a perfect sampler the distribution of the result is known: the sampler draws $x_0$ from
# $p(x_0\mid x_t)$, with
#
# $$x_t \sim \mathcal N(\sqrt{\bar\alpha}\,y,\,1-\bar\alpha), \qquad
#   x_0\mid x_t \sim \mathcal N\Big(\frac{\sqrt{\bar\alpha}\,\lambda}{D}\,x_t,\; \frac{\lambda(1-\bar\alpha)}{D}\Big),
#   \qquad D = \bar\alpha\lambda + 1-\bar\alpha.$$
#
# ### Exercise 11.6 - the distribution that SDEdit draws from
# Return the mean and the variance of this distribution.


# %%
def sdedit_law(alpha_bar, y, lam):
    """Mean and variance of the result, data N(0, λ).   alpha_bar, y: arrays alike;  lam: number  ->  two arrays"""
    ### BEGIN SOLUTION
    D = alpha_bar * lam + 1 - alpha_bar
    gain = np.sqrt(alpha_bar) * lam / D
    return gain * np.sqrt(alpha_bar) * y, gain**2 * (1 - alpha_bar) + lam * (1 - alpha_bar) / D
    ### END SOLUTION


# %% [markdown]
# There are two wishes, and they pull against each other. The result should be near the sketch: $\mathbb E(x_0-y)^2$
# small. And it should look like the data: the Fréchet distance to $\mathcal N(0, \lambda)$ small. The first rises with
# $t$ and the second falls. So there is no best $t$, only a choice. (The sketch here is at $y=2$, four standard
# deviations away from the mean of the data.)

# %%
lam, y = 0.25, 2.0
levels = np.arange(0, 1001, 10)
means, variances = sdedit_law(abar[levels], np.full(len(levels), y), lam)
away = (means - y) ** 2 + variances
unlike = means**2 + (np.sqrt(variances) - np.sqrt(lam)) ** 2
assert np.all(np.diff(away) > 0) and np.all(np.diff(unlike) < 0)
assert np.isclose(away[0], 0) and np.isclose(unlike[-1], 0, atol=1e-3) and y == 4 * np.sqrt(lam)
lib = schedule.linear(1000)
step = ddpm_step(oracle.gaussian([0.0], lam).eps(lib), lib, variance="fixed_small")
drawn = inpaint.sdedit(step, lib, jax.random.key(9), jnp.full((n, 1), y), np.arange(300, -1, -1))
m, v = sdedit_law(abar[300], y, lam)
assert abs(float(drawn.mean()) - m) < 6 * np.sqrt(v / n) + 0.01 and abs(float(drawn.var()) / v - 1) < 0.1

# %% [markdown]
# ## 7. How to climb
#
# ### Exercise 11.7 - spot the bug
# This is how a much copied implementation climbs from level $s$ to level $t$. The factor of $x$ is right. Repair the
# factor of the noise.


# %%
def published_climb(alpha_bar_s, alpha_bar_t, x_s, z):
    """With a bug."""
    scale = np.sqrt(alpha_bar_t / alpha_bar_s)
    return scale * x_s + (np.sqrt(1 - alpha_bar_t) - scale * np.sqrt(1 - alpha_bar_s)) * z


def repaired_climb(alpha_bar_s, alpha_bar_t, x_s, z):
    """A draw from q(x_t | x_s), t > s.   alpha_bar_s > alpha_bar_t: ();  x_s, z: (B, ...)  ->  (B, ...)"""
    scale = np.sqrt(alpha_bar_t / alpha_bar_s)
    ### BEGIN SOLUTION
    return scale * x_s + np.sqrt(1 - scale**2) * z
    ### END SOLUTION


# %% [markdown]
# One question finds the bug: if the noise has the right variance at level $s$, does it have the right variance at level
# $t$? Not here. After every climb the image is cleaner than the network is told. With ten rounds the variance of the
# filling is .07, where the repaired climb gives .12 and the truth is .19.

# %%
for s, t in ((10, 11), (100, 110), (400, 500)):
    size = {f: f(abar[s], abar[t], 1.0, 0.0) ** 2 * (1 - abar[s]) + f(abar[s], abar[t], 0.0, 1.0) ** 2
            for f in (published_climb, repaired_climb)}  # fmt: skip
    assert np.isclose(size[repaired_climb], 1 - abar[t]) and size[published_climb] < (1 - abar[t]) * 0.96
    assert np.allclose(forward.q_step(lib, x_s, s, t, noise), repaired_climb(abar[s], abar[t], x_s, noise), atol=1e-4)
with_bug = law_of_filling(short_abar, climbing(STEPS, 1, 10), climb=published_climb)
without = law_of_filling(short_abar, climbing(STEPS, 1, 10), climb=repaired_climb)
assert np.allclose(without, by_rounds["j = 1"][rounds.index(10)])
assert np.allclose([with_bug[1], without[1], right_var], [0.07, 0.12, 0.19], atol=5e-3)
with_bug, without

# %% [markdown]
# ## 8. Garments
#
# The network of Lesson 4 draws ten garments; it was trained for nothing of what follows. One compiled step serves all
# the methods, since RePaint with nothing known is plain sampling.

# %%
garments = model.load("fashion_mnist")
lib_g, B = garments.schedule, 10
N_G, J = {"smoke": (6, 2), "short": (50, 5), "full": (250, 10)}[BUDGET]
times_g = schedule.make_times(1000, N_G)
blank = jnp.zeros((B, 28, 28, 1))


@jax.jit
def one_step(eps, c, known, mask, key, x, t, s):
    """A step of RePaint, with the predicted image clipped."""
    return inpaint.repaint(ddpm_step(clip_x0(eps, lib_g), lib_g, c), lib_g, known, mask)(key, x, t, s)


def go(x, times, seed, c=tuple(range(10)), known=blank, mask=blank, after=lambda key, x, s: x):
    """The walk along a list of times, with `after` applied after each step."""
    for i, (t, s) in enumerate(itertools.pairwise(times)):
        key, key_after = jax.random.split(jax.random.fold_in(jax.random.key(seed), i))
        x = one_step(garments.eps, jnp.array(c), known, mask, key, x, int(t), int(s))
        x = after(key_after, x, int(s))
    return x


noise = jax.random.normal(jax.random.key(10), blank.shape)
drawn = go(noise, times_g, 11)
assert np.abs(drawn).max() <= 1 + 1e-5

# %% [markdown]
# Erase wide strokes, the right half, or all but the middle (filling in the last is *outpainting*). Fill in again, with
# more and more rounds. We know what was there, so there is an error to look at. But many fillings are right, so the
# error need not go to 0.

# %%
names = ["wide"] * 4 + ["half"] * 3 + ["expand"] * 3
masks = jnp.stack([masks_.wide(28, 28, 3 + i) if k == "wide" else masks_.make_mask(k, 28, 28)
                   for i, k in enumerate(names)])  # fmt: skip
rs = {"smoke": [1, 2], "short": [1, 3, 10], "full": [1, 3, 10, 20]}[BUDGET]
repainted = {
    r: np.asarray(go(noise[::-1], times_g[::-1][climbing(N_G, J, r)], 12, known=drawn, mask=masks)) for r in rs
}
assert all(np.allclose(masks * x, masks * drawn, atol=1e-6) for x in repainted.values())  # what was known is kept
off = {r: float((((x - drawn) ** 2) * (1 - masks)).sum() / (1 - masks).sum()) for r, x in repainted.items()}
off

# %% [markdown]
# A seam is a jump between a known pixel and a filled neighbour. We measure the mean square of these jumps, divided by
# that at the same places of the garment itself. Ten garments are too few to rank the numbers of rounds by it; look at
# the picture.


# %%
def seam(x):
    """The mean square of the jumps between two neighbours of which exactly one is known."""
    jumps, across = [], []
    for axis in (1, 2):
        jumps.append(np.diff(np.asarray(x), axis=axis).ravel())
        across.append(np.diff(np.asarray(masks), axis=axis).ravel() != 0)
    return float((np.concatenate(jumps)[np.concatenate(across)] ** 2).mean())


seams = {r: seam(x) / seam(drawn) for r, x in repainted.items()}
seams

# %% [markdown]
# For super-resolution only $7\times7$ block means of each garment are known. For SDEdit we noise sketches of a few
# rectangles to the level $t$ and sample down from there, each as a garment of its class.

# %%
small = low_pass(drawn, 4)


def put_blocks(key, x, s):
    """ILVR: after each step set the block means to those of the small image, noised to level s."""
    return swap_low(x, forward.q_sample(lib_g, small, s, jax.random.normal(key, x.shape)), 4)


large = go(noise[::-1], times_g, 13, after=put_blocks)
assert np.allclose(low_pass(large, 4), small, atol=1e-5)

# %%
BOXES = {  # rows, columns, grey: a T-shirt, trousers, a dress, a bag, a boot
    0: [(5, 24, 9, 19, 0.2), (5, 11, 3, 25, 0.2)],
    1: [(3, 8, 9, 19, 0.0), (8, 26, 9, 13, 0.0), (8, 26, 15, 19, 0.0)],
    3: [(2, 14, 11, 17, 0.4), (14, 27, 8, 20, 0.4)],
    8: [(11, 24, 4, 24, 0.1), (5, 11, 9, 11, 0.1), (5, 11, 17, 19, 0.1), (4, 6, 9, 19, 0.1)],
    9: [(4, 20, 15, 23, 0.3), (17, 24, 5, 23, 0.3)],
}
sketches = np.full((B, 28, 28, 1), -1.0, np.float32)
for i, boxes in enumerate(BOXES.values()):
    for top, bottom, left, right, grey in boxes:
        sketches[2 * i : 2 * i + 2, top:bottom, left:right] = grey
redrawn = {}
for t in {"smoke": [400, 800], "short": [200, 400, 600, 800], "full": [200, 300, 400, 500, 600, 700, 800, 900]}[BUDGET]:
    begun = forward.q_sample(lib_g, jnp.asarray(sketches), t, noise)
    redrawn[t] = np.asarray(go(begun, np.append(t, times_g[times_g < t]), 14, c=np.repeat(list(BOXES), 2)))
changed = {t: float(((x - sketches) ** 2).mean()) for t, x in redrawn.items()}
assert all(a < b for a, b in itertools.pairwise(changed.values()))  # more noise, less of the sketch
changed

# %% [markdown]
# ## 9. The picture
#
# Above: the exact mean and variance of RePaint's filling against the number of rounds, and the trade-off of SDEdit.
# Below: garments drawn by the network, with holes, and filled in with more and more rounds; garments enlarged from
# $7\times7$ pixels; garments redrawn from sketches; and digits whose lower half was invented by a small Palette or by
# RePaint.


# %%
def draw_by_rounds(mean_axis, var_axis, trade):
    """Mean and variance of the filling by the number of rounds; the two distances of SDEdit by t."""
    colours = dict(zip(by_rounds, ("#b5523b", "#1f4e79", "#7f8c8d"), strict=True))
    for axis, column, right in ((mean_axis, 0, right_mean), (var_axis, 1, right_var)):
        for name, mean_var in by_rounds.items():
            axis.plot(rounds, mean_var[:, column], "o-", ms=3, color=colours[name], label=name)
        axis.axhline(right, color="black", lw=1, ls="--", label="exact")
        axis.set(xlabel="rounds $r$", xscale="log")
        axis.set_xticks(rounds, rounds)
        axis.set_xticks([], minor=True)
    mean_axis.set_title("RePaint on two pixels (exact): mean ...", fontsize=9)
    var_axis.set_title("... and variance of the filled pixel", fontsize=9)
    mean_axis.legend(frameon=False, fontsize=8)
    trade.plot(levels, away, color="#b5523b", label="from the sketch (mean square)")
    trade.plot(levels, unlike, color="#1f4e79", ls="--", label="from the data (Fréchet)")
    trade.set(xlabel="noised to $t$")
    trade.set_title("SDEdit on a Gaussian (exact): distances", fontsize=9)
    trade.legend(frameon=False, fontsize=8)
    for axis in (mean_axis, var_axis, trade):
        axis.spines[["top", "right"]].set_visible(False)


# %%
def show(axis, rows, title, gap=2):
    """Rows of images, each row with a name."""
    images = [np.clip(np.asarray(x), -1, 1) for x in rows.values()]
    size = images[0].shape[1] + gap
    axis.imshow(plot.grid(np.concatenate(images), len(images[0]), gap=gap)[..., 0], cmap="gray", vmin=0, vmax=255)
    axis.set_yticks(gap + size * (np.arange(len(rows)) + 0.5), rows, fontsize=8)
    axis.set(xticks=[])
    axis.set_title(title, fontsize=9)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


# %%
def picture():
    """The figure of this lesson."""
    figure = plt.figure(figsize=(12, 8), layout="constrained")
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=[1.1, 1.5, 0.85])
    draw_by_rounds(*top.subplots(1, 3))
    left, right = middle.subplots(1, 2)
    holed = np.where(np.asarray(masks) > 0, drawn, -0.3)
    fillings = {f"RePaint\n$r={r}$": x for r, x in repainted.items()}
    show(left, {"drawn": drawn, "a hole": holed} | fillings, "filled in: strokes, half, all but the middle")
    sketch_rows = {"sketch": sketches} | {f"from\n$t={t}$": x for t, x in redrawn.items()}
    show(right, sketch_rows, "SDEdit: redrawn from sketches")
    left, right = bottom.subplots(1, 2)
    show(left, {"known:\n7 x 7": small, "enlarged": large, "drawn": drawn}, "super-resolution: block means are known")
    rows = {"known": upper * test_x - 0.3 * (1 - upper)} | {k: x for k, (x, _) in filled.items()}
    show(right, {k: x[:20] for k, x in rows.items()} | {"true": test_x[:20]}, "digits, lower half filled in", gap=1)
    return figure


# %%
if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l11.png", dpi=150)
    numbers = {
        "pair_exact": {"mean": right_mean, "variance": right_var},
        "pair_repaint": {
            name: dict(zip(rounds, mean_var.tolist(), strict=True)) for name, mean_var in by_rounds.items()
        },
        "digits_lower_half": judged | {"n": len(test_x)},
        "garments_hole_mse": off,
        "garments_seam": seams,
        "sdedit_change": changed,
        "n": B,
        "budget": BUDGET,
    }
    (out / "l11.json").write_text(json.dumps(numbers, indent=1) + "\n")
    m, v = at_20["j = 1"]
    right = f"{right_mean:.2f} ± {right_var**0.5:.2f}"
    print(f"L11: after 20 rounds RePaint fills in {m:.2f} ± {v**0.5:.2f}; right is {right}. out/l11.png")

# %% [markdown]
# ## What to take along
#
# - Write the known pixels into the walk with the noise of the level at which $x$ now *is*: $\sqrt{1-\bar\alpha_s}$.
# - Resampling makes the two parts agree. It does not converge to the right distribution: with $\tilde\beta$ it becomes
#   too sure of itself, and with long jumps it stops short.
# - If the kind of hole is known beforehand, train for it: a network that is given the known part needs no tricks.
# - SDEdit has one knob, and that knob has no best position.
#
# ## Further reading
#
# - Lugmayr et al. 2022, *RePaint: Inpainting using Denoising Diffusion Probabilistic Models*. The schedule is App. B.
# - Choi et al. 2021, *ILVR: Conditioning Method for Denoising Diffusion Probabilistic Models*; Kawar et al. 2022,
#   *Denoising Diffusion Restoration Models*, which treats any linear measurement.
# - Saharia et al. 2022, *Palette: Image-to-Image Diffusion Models*; Meng et al. 2022, *SDEdit*.
# - Wu et al. 2023, *Practical and Asymptotically Exact Conditional Sampling in Diffusion Models*. Weighted samples make
#   the answer right in the limit.
