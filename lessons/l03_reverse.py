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
# # L3. The reverse process and the loss
#
# | | |
# |---|---|
# | you learn | how to walk back from noise; why guessing the noise is enough; what the variance of a step does |
# | time | 60 minutes to read and do, seconds to run |
# | difficulty | ●●●○○ |
# | importance | ●●●●● |
# | paper | Ho, Jain, Abbeel 2020, *Denoising Diffusion Probabilistic Models*, Sec. 2, 3.2 and 3.4, Eqs. 6-14 |
#
# Lesson 1 walked from an image to noise. Now we walk back: this is the **reverse process**. It takes one guess at every
# step, *which noise is in this image?*, and everything else follows from Gaussians. There is still no network here. For
# some data the perfect guess is known, and with it we can see what the rest of the machine does.

# %%
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddpm import oracle, schedule
from ddpm.sample import ddpm_step, walk

# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how many random draws to afford
n = {"smoke": 4_000, "short": 20_000, "full": 200_000}[BUDGET]

# %% [markdown]
# ## 1. One step back, if somebody tells us $x_0$
#
# Let $s < t$ be two times, usually $s = t-1$. We know how $x_s$ was made, $q(x_s \mid x_0)$, and what became of it,
# $q(x_t \mid x_s)$. Bayes' rule multiplies the two, and a product of Gaussian densities is again Gaussian. This is
# the **posterior** of $x_s$:
#
# $$q(x_s \mid x_t, x_0) = \mathcal N(\tilde\mu, \tilde\beta I), \qquad
#   \tilde\mu = \frac{\sqrt{\bar\alpha_s}\,\beta}{1-\bar\alpha_t}\,x_0
#             + \frac{\sqrt{\alpha}\,(1-\bar\alpha_s)}{1-\bar\alpha_t}\,x_t, \qquad
#   \tilde\beta = \frac{1-\bar\alpha_s}{1-\bar\alpha_t}\,\beta \qquad\text{[Eqs. 6-7]}$$
#
# with $\alpha = \bar\alpha_t/\bar\alpha_s$, and with $\beta = 1-\alpha$, the variance of the step from $s$ to $t$.
#
# ### Exercise 3.1 - the posterior
# The last step needs no special case: at $s = 0$ we have $\bar\alpha_0 = 1$, and the answer is $x_0$ with variance 0.


# %%
def posterior(alpha_bar_s, alpha_bar_t, x_t, x0):
    """Mean and variance of q(x_s | x_t, x0).   alpha_bar_s > alpha_bar_t: ();  x_t, x0: (B, ...)  ->  (B, ...), ()"""
    ### BEGIN SOLUTION
    alpha = alpha_bar_t / alpha_bar_s
    beta = 1 - alpha
    from_x0 = np.sqrt(alpha_bar_s) * beta / (1 - alpha_bar_t) * x0
    from_x_t = np.sqrt(alpha) * (1 - alpha_bar_s) / (1 - alpha_bar_t) * x_t
    return from_x0 + from_x_t, beta * (1 - alpha_bar_s) / (1 - alpha_bar_t)
    ### END SOLUTION


# %% [markdown]
# **Exactly:** multiply the two densities on a fine grid, and compare mean and variance. No formula is used twice.

# %%
abar = np.asarray(schedule.linear(1000).alpha_bar, np.float64)
grid = np.linspace(-4, 4, 40_001)


def log_normal(x, mean, var):
    """log N(x; mean, var)"""
    return -0.5 * (x - mean) ** 2 / var - 0.5 * np.log(2 * np.pi * var)


for s, t in ((299, 300), (100, 700)):
    alpha, x_t, x0 = abar[t] / abar[s], -0.3, 0.9
    bayes = log_normal(x_t, np.sqrt(alpha) * grid, 1 - alpha) + log_normal(grid, np.sqrt(abar[s]) * x0, 1 - abar[s])
    weight = np.exp(bayes - bayes.max()) / np.exp(bayes - bayes.max()).sum()
    mean, var = posterior(abar[s], abar[t], x_t, x0)
    assert np.isclose((weight * grid).sum(), mean, rtol=1e-9)
    assert np.isclose((weight * (grid - mean) ** 2).sum(), var, rtol=1e-6)
assert posterior(1.0, abar[1], -0.3, 0.9) == (0.9, 0.0)  # s = 0

# %% [markdown]
# ## 2. Guess the noise
#
# Nobody tells us $x_0$. But $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$ is one equation
# with two unknowns: once you guess one of them, you have guessed the other. A network may predict either of them, or a
# third quantity, $v$:
#
# $$\hat x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\,\hat\varepsilon}{\sqrt{\bar\alpha_t}}, \qquad
#   v = \sqrt{\bar\alpha_t}\,\varepsilon - \sqrt{1-\bar\alpha_t}\,x_0.$$
#
# The pair $(x_t, v)$ is the pair $(x_0, \varepsilon)$, rotated by the angle whose cosine is $\sqrt{\bar\alpha_t}$
# (Salimans and Ho 2022).
#
# ### Exercise 3.2 - three names for one guess


# %%
def x0_from_eps(alpha_bar_t, x_t, eps):
    """x̂0.   alpha_bar_t: ();  x_t, eps: (B, ...)  ->  (B, ...)"""
    ### BEGIN SOLUTION
    return (x_t - np.sqrt(1 - alpha_bar_t) * eps) / np.sqrt(alpha_bar_t)
    ### END SOLUTION


def v_from_eps(alpha_bar_t, x_t, eps):
    """v.   alpha_bar_t: ();  x_t, eps: (B, ...)  ->  (B, ...)"""
    ### BEGIN SOLUTION
    return (eps - np.sqrt(1 - alpha_bar_t) * x_t) / np.sqrt(alpha_bar_t)
    ### END SOLUTION


def eps_from_v(alpha_bar_t, x_t, v):
    """ε, the inverse of `v_from_eps`.   alpha_bar_t: ();  x_t, v: (B, ...)  ->  (B, ...)"""
    ### BEGIN SOLUTION
    return np.sqrt(alpha_bar_t) * v + np.sqrt(1 - alpha_bar_t) * x_t
    ### END SOLUTION


# %% [markdown]
# Every round trip comes home, and a rotation preserves lengths: $x_t^2 + v^2 = x_0^2 + \varepsilon^2$.

# %%
rng = np.random.default_rng(0)
x0, eps = rng.uniform(-1, 1, 64), rng.standard_normal(64)
for t in (1, 300, 1000):
    x_t = np.sqrt(abar[t]) * x0 + np.sqrt(1 - abar[t]) * eps
    v = v_from_eps(abar[t], x_t, eps)
    assert np.allclose(v, np.sqrt(abar[t]) * eps - np.sqrt(1 - abar[t]) * x0)
    assert np.allclose(x0_from_eps(abar[t], x_t, eps), x0)
    assert np.allclose(eps_from_v(abar[t], x_t, v), eps)
    assert np.allclose(x_t**2 + v**2, x0**2 + eps**2)

# %% [markdown]
# Put the guess into the posterior and you have the step of Algorithm 2: the mean $\tilde\mu(x_t, \hat x_0)$, plus noise
# with a variance $\sigma^2$ that is yet to be chosen. For $s = t-1$, the mean simplifies to the paper's Eq. 11.

# %%
x_t, guess = rng.standard_normal(64), rng.standard_normal(64)
for t in (2, 300, 1000):
    alpha = abar[t] / abar[t - 1]
    mean, _ = posterior(abar[t - 1], abar[t], x_t, x0_from_eps(abar[t], x_t, guess))
    assert np.allclose(mean, (x_t - (1 - alpha) / np.sqrt(1 - abar[t]) * guess) / np.sqrt(alpha))  # Eq. 11

# %% [markdown]
# ## 3. What to train for
#
# We want the reverse steps, $p(x_s \mid x_t) = \mathcal N(\tilde\mu(x_t, \hat x_0), \sigma^2 I)$, to be likely to
# produce the data. The **variational bound** on $-\log p(x_0)$ is a sum over the steps, and the term of one step is the
# KL divergence between two Gaussians:
# $L_{t-1} = \mathrm{KL}\big(q(x_{t-1} \mid x_t, x_0)\,\|\,p(x_{t-1} \mid x_t)\big)$ [Eq. 5].
#
# ### Exercise 3.3 - the distance of two Gaussians


# %%
def kl(mean_q, var_q, mean_p, var_p):
    """KL(N(mean_q, var_q) ‖ N(mean_p, var_p)) of each pixel, in nats.   means: (B, ...);  vars: ()  ->  (B, ...)"""
    ### BEGIN SOLUTION
    return 0.5 * (np.log(var_p / var_q) + (var_q + (mean_q - mean_p) ** 2) / var_p - 1)
    ### END SOLUTION


# %% [markdown]
# By definition, the KL divergence is $\int q \ln(q/p)$; so we integrate.

# %%
for case in ((0.2, 0.3, -0.4, 0.3), (0.0, 0.1, 0.5, 0.4), (1.0, 0.5, 1.0, 0.5)):
    log_q, log_p = log_normal(grid, *case[:2]), log_normal(grid, *case[2:])
    assert np.isclose(np.trapezoid(np.exp(log_q) * (log_q - log_p), grid), kl(*case), atol=1e-5)

# %% [markdown]
# The two means differ only by the guess. So the divergence is a constant, plus the squared error of the predicted noise
# times a weight that depends on the time alone:
#
# $$L_{t-1} = C + w_t\,\|\varepsilon - \hat\varepsilon\|^2, \qquad
#   w_t = \frac{\beta_t^2}{2\sigma_t^2\,\alpha_t\,(1-\bar\alpha_t)} \qquad\text{[Eq. 12]}$$
#
# ### Exercise 3.4 - the weight


# %%
def bound_weight(alpha_bar_s, alpha_bar_t, sigma2):
    """w_t of ‖ε - ε̂‖² in the bound, s = t-1.   alpha_bar_s, alpha_bar_t, sigma2: () or (T,)  ->  () or (T,)"""
    ### BEGIN SOLUTION
    alpha = alpha_bar_t / alpha_bar_s
    return (1 - alpha) ** 2 / (2 * sigma2 * alpha * (1 - alpha_bar_t))
    ### END SOLUTION


# %% [markdown]
# We check both sides numerically: the divergence for a wrong guess, minus the divergence for the right one.

# %%
for t in (2, 300, 1000):
    beta = 1 - abar[t] / abar[t - 1]
    x_t = np.sqrt(abar[t]) * x0 + np.sqrt(1 - abar[t]) * eps
    mean, var = posterior(abar[t - 1], abar[t], x_t, x0)
    guessed, _ = posterior(abar[t - 1], abar[t], x_t, x0_from_eps(abar[t], x_t, guess))
    excess = kl(mean, var, guessed, beta) - kl(mean, var, mean, beta)
    assert np.allclose(excess, bound_weight(abar[t - 1], abar[t], beta) * (eps - guess) ** 2, rtol=1e-6)

# %% [markdown]
# Ho et al. then *leave the weight out*: $L_\text{simple}$ is the mean of $\|\varepsilon - \hat\varepsilon\|^2$ over all
# $t$ [Eq. 14]. The bound cares 99 times more about $t = 1$ than about $t = 300$; the eye does not. This is the one step
# of the derivation that is a matter of taste, and it made the pictures good: on CIFAR-10 the paper reports an FID of
# 13.51 with the weight, and of 3.17 without it [Table 2].

# %%
w = bound_weight(abar[:-1], abar[1:], 1 - abar[1:] / abar[:-1])  # w_1 … w_T, with σ² = β
assert abs(w[0] - 0.5) < 1e-3 and round(w[0] / w[300 - 1]) == 99
assert w.max() == w[0]

# %% [markdown]
# ## 4. The best possible guess
#
# The error is squared, so the best guess is the **conditional mean**,
# $\varepsilon^*(x_t) = \mathbb E[\varepsilon \mid x_t]$. For data $x_0 \sim \mathcal N(m, \lambda)$ everything is
# Gaussian, and this mean is a straight line in $x_t$: its slope $\mathrm{Cov}(\varepsilon, x_t)\,/\,\mathrm{Var}(x_t)$
# times the deviation of $x_t$ from its mean.
#
# ### Exercise 3.5 - the perfect network for a Gaussian


# %%
def gaussian_eps(alpha_bar_t, x_t, m, lam):
    """E[ε | x_t] for x0 ~ N(m, lam).   alpha_bar_t: ();  x_t: (B, ...);  m, lam: numbers  ->  (B, ...)"""
    ### BEGIN SOLUTION
    variance_t = alpha_bar_t * lam + 1 - alpha_bar_t
    return np.sqrt(1 - alpha_bar_t) * (x_t - np.sqrt(alpha_bar_t) * m) / variance_t
    ### END SOLUTION


# %% [markdown]
# The library's oracle agrees, and so do random draws. Over many pairs $(\varepsilon, x_t)$, the error of this guess is
# uncorrelated with $x_t$ (otherwise adding a multiple of $x_t$ would improve the guess), and its mean square is
# $\bar\alpha_t\lambda / (\bar\alpha_t\lambda + 1 - \bar\alpha_t)$. **No network can do better on these data.**

# %%
lib, m, lam, t = schedule.linear(1000), 0.3, 0.25, 300
x0 = m + np.sqrt(lam) * rng.standard_normal(n)
eps = rng.standard_normal(n)
x_t = np.sqrt(abar[t]) * x0 + np.sqrt(1 - abar[t]) * eps
best = gaussian_eps(abar[t], x_t, m, lam)
from_library = oracle.gaussian(jnp.array([m]), lam).eps(lib)(jnp.asarray(x_t[:, None], jnp.float32), jnp.int32(t))
assert np.allclose(from_library[:, 0], best, atol=1e-5)

error, floor = eps - best, abar[t] * lam / (abar[t] * lam + 1 - abar[t])
assert abs(np.mean(error * x_t)) < 6 * np.std(error * x_t) / np.sqrt(n)
assert abs(np.mean(error**2) - floor) < 6 * np.std(error**2) / np.sqrt(n)

# %% [markdown]
# ## 5. How much noise on the way back?
#
# One choice is left: $\sigma^2$. Ho et al. name two values, $\beta$ and $\tilde\beta$, and report that they work
# equally well [Sec. 3.2]. The first is right if the data are $\mathcal N(0, I)$, the second if they are a single point.
# In between, the true variance of $x_s$ given $x_t$ is the variance of the posterior, plus the contribution of our
# uncertainty about $x_0$. For Gaussian data:
#
# $$\sigma_*^2 = \tilde\beta + \Big(\frac{\sqrt{\bar\alpha_s}\,\beta}{1-\bar\alpha_t}\Big)^{\!2}
#   \frac{\lambda\,(1-\bar\alpha_t)}{\bar\alpha_t\lambda + 1-\bar\alpha_t}.$$

# %%
for s, t in ((0, 1), (299, 300), (500, 700)):
    beta = 1 - abar[t] / abar[s]
    small = posterior(abar[s], abar[t], 0.0, 0.0)[1]
    share = (np.sqrt(abar[s]) * beta / (1 - abar[t])) ** 2 * (1 - abar[t])
    right = {lam: small + share * lam / (abar[t] * lam + 1 - abar[t]) for lam in (0.0, 0.25, 1.0)}
    assert right[0.0] == small  # a single point: β̃
    assert np.isclose(right[1.0], beta)  # N(0, I): β
    assert small < right[0.25] < beta  # any data in between: in between

# %% [markdown]
# ### Exercise 3.6 - predict the end of the walk
# Let the data be $\mathcal N(0, 1)$ and the guess perfect. A step back is then
# $x_s = \sqrt{\alpha}\,x_t + \sigma z$: the mean is shrunk by $\sqrt\alpha$ for any $\sigma$. Start from variance 1,
# follow it through all the steps, and remember that the last step, to $s = 0$, adds no noise. **Before you run it:**
# the variance ought to be 1 at the end. With $T = 50$, what do you expect from $\sigma^2 = \beta$, and from
# $\sigma^2 = \tilde\beta$? Write down two numbers; within 0.03 counts as right.


# %%
def guess():
    """Your bet: the two final variances, with β and with β̃.   ->  two numbers"""
    ### BEGIN SOLUTION
    return 0.998, 0.854
    ### END SOLUTION


def final_variance(alpha_bar, large):
    """Var(x_0) at the end of the walk, for data N(0, 1).   alpha_bar: (T+1,);  large: σ² = β, else β̃  ->  a number"""
    variance = 1.0
    for t in range(len(alpha_bar) - 1, 0, -1):
        alpha_bar_s, alpha_bar_t = alpha_bar[t - 1], alpha_bar[t]
        ### BEGIN SOLUTION
        beta = 1 - alpha_bar_t / alpha_bar_s
        sigma2 = beta if large else beta * (1 - alpha_bar_s) / (1 - alpha_bar_t)
        variance = (1 - beta) * variance + (sigma2 if t > 1 else 0.0)
        ### END SOLUTION
    return variance


# %% [markdown]
# With $\beta$ the answer is .998: only the noise of the last step is missing. With $\tilde\beta$ it is **.854**: the
# network is perfect, and still the samples come out too narrow. This is not a bug, and more training does not help;
# more steps do: with $T = 1000$, it is .991.

# %%
Ts = [25, 50, 100, 200, 400, 1000]
predicted = {
    large: [final_variance(np.asarray(schedule.linear(T).alpha_bar, np.float64), large) for T in Ts]
    for large in (True, False)
}
assert round(predicted[True][1], 3) == 0.998 and round(predicted[False][1], 3) == 0.854
assert np.isclose(predicted[True][1], schedule.linear(50).alpha_bar[1])  # 1 - β_1: the last step's noise is missing
assert round(predicted[True][-1], 4) == 0.9999 and round(predicted[False][-1], 4) == 0.9911

# %% [markdown]
# And the library walks as predicted, with the same oracle, the same 50 steps, and real random numbers.

# %%
T = 50
short = schedule.linear(T)
denoiser = oracle.gaussian(jnp.zeros(1), 1.0).eps(short)
noise = jax.random.normal(jax.random.key(0), (n, 1))
walked = {}
for large, name in ((True, "fixed_large"), (False, "fixed_small")):
    step = ddpm_step(denoiser, short, variance=name)
    x_0 = walk(step, jax.random.key(1), noise, schedule.make_times(T, T))
    walked[large] = float(x_0.var())
    assert abs(walked[large] / predicted[large][1] - 1) < 6 * np.sqrt(2 / n)
walked

# %% [markdown]
# ### Exercise 3.7 - spot the bug
# This slip is common, and was published more than once: $\bar\alpha_t$ where $\bar\alpha_s$ belongs. Repair the mean.


# %%
def buggy_mean(alpha_bar_s, alpha_bar_t, x_t, x0):
    """With a bug."""
    alpha = alpha_bar_t / alpha_bar_s
    beta = 1 - alpha
    return (np.sqrt(alpha_bar_t) * beta * x0 + np.sqrt(alpha) * (1 - alpha_bar_t) * x_t) / (1 - alpha_bar_t)


def repaired_mean(alpha_bar_s, alpha_bar_t, x_t, x0):
    """The mean of q(x_s | x_t, x0).   alpha_bar_s > alpha_bar_t: ();  x_t, x0: (B, ...)  ->  (B, ...)"""
    alpha = alpha_bar_t / alpha_bar_s
    beta = 1 - alpha
    ### BEGIN SOLUTION
    return (np.sqrt(alpha_bar_s) * beta * x0 + np.sqrt(alpha) * (1 - alpha_bar_s) * x_t) / (1 - alpha_bar_t)
    ### END SOLUTION


# %% [markdown]
# Two questions find it, and both are cheap to put to any code that you meet. *At $s = 0$, does it return $x_0$?* And
# *is it right on average?* Averaged over $x_t \sim q(x_t \mid x_0)$, the mean has to be
# $\mathbb E[\tilde\mu] = \sqrt{\bar\alpha_s}\,x_0$.

# %%
x0 = 0.9
assert np.isclose(repaired_mean(1.0, abar[1], -0.3, x0), x0)
assert not np.isclose(buggy_mean(1.0, abar[1], -0.3, x0), x0)
for s, t in ((1, 2), (299, 300), (100, 700)):
    average_x_t = np.sqrt(abar[t]) * x0
    assert np.isclose(repaired_mean(abar[s], abar[t], average_x_t, x0), np.sqrt(abar[s]) * x0)
    assert not np.isclose(buggy_mean(abar[s], abar[t], average_x_t, x0), np.sqrt(abar[s]) * x0)

# %% [markdown]
# ## 6. A whole walk
#
# Our data are three lumps on a line (a mixture of three Gaussians), and we have the perfect guess for them. Thousands
# of walkers start from pure noise and take a thousand steps back. They end in the lumps, in the right proportions, and
# the variance of their end points is that of the data.

# %%
lumps = oracle.mixture(
    mean=np.array([[-0.9], [0.2], [0.8]]), cov=np.array([0.006, 0.012, 0.003]), weight=[0.3, 0.5, 0.2]
)
step = ddpm_step(lumps.eps(lib), lib, variance="fixed_large")
start, times = jax.random.normal(jax.random.key(2), (n, 1)), schedule.make_times(1000, 1000)
end = walk(step, jax.random.key(3), start, times)
_, path = walk(step, jax.random.key(4), start[:20], times, path=True)  # twenty to draw: (1000, 20, 1)

arrived = np.bincount(np.argmax(lumps.class_posterior(lib, end), axis=1), minlength=3) / n
weights = np.array([0.3, 0.5, 0.2])
assert np.all(np.abs(arrived - weights) < 6 * np.sqrt(weights * (1 - weights) / n))
exact_var = (
    weights @ (np.array([0.006, 0.012, 0.003]) + np.array([-0.9, 0.2, 0.8]) ** 2) - (weights @ [-0.9, 0.2, 0.8]) ** 2
)
assert abs(float(end.var()) / exact_var - 1) < 6 * np.sqrt(2 / n)
arrived

# %% [markdown]
# ## 7. The picture
#
# Above are the exact density $p_t(x)$ (the shading), twenty of the walks, and a histogram of where all of them end,
# with the exact density. Below are the final variance of Exercise 3.6, predicted (lines) and simulated (dots, with two
# standard errors), and the weight that $L_\text{simple}$ leaves out.


# %%
def draw_walk(axis, ending):
    """The time axis runs from noise (left) to data (right)."""
    x, times = np.linspace(-3, 3, 401), np.arange(1000, -1, -10)
    log_p = jax.jit(lumps.log_prob)
    shade = np.stack([log_p(lib, jnp.asarray(x, jnp.float32)[:, None], jnp.int32(t)) for t in times], axis=1)
    axis.pcolormesh(times, x, np.exp(shade) ** 0.4, cmap="Blues", rasterized=True)
    walks = np.concatenate([start[None, :20, 0], path[:, :, 0]])  # (1001, 20)
    colours = plt.colormaps["plasma"](np.argmax(lumps.class_posterior(lib, path[-1]), axis=1) / 2.6 + 0.05)
    for i in range(20):
        axis.plot(np.arange(1000, -1, -1), walks[:, i], color=colours[i], lw=0.8, alpha=0.9)
    axis.set(xlim=(1000, 0), ylim=(-2.8, 2.8), xlabel="$t$", ylabel="$x_t$")
    axis.set_title("from noise to data: $x_s = \\tilde\\mu(x_t, \\hat x_0) + \\sigma z$, a thousand times", fontsize=10)
    ending.hist(end[:, 0], np.linspace(-3, 3, 151), density=True, orientation="horizontal", color="#9aa5b1")
    ending.plot(np.exp(log_p(lib, jnp.asarray(x, jnp.float32)[:, None], jnp.int32(0))), x, color="#1f4e79", lw=1.4)
    ending.set(ylim=(-2.8, 2.8), xticks=[], yticks=[], title="where they end")
    ending.title.set_fontsize(10)


# %%
def draw_numbers(variances, weights):
    """Left: the final variance against T. Right: the weight of the bound against t."""
    for large, colour, name in ((True, "#2a6f97", r"$\sigma^2=\beta$"), (False, "#b5523b", r"$\sigma^2=\tilde\beta$")):
        variances.semilogx(Ts, predicted[large], "-", color=colour, label=name)
        error = 2 * walked[large] * np.sqrt(2 / n)
        variances.errorbar(50, walked[large], error, fmt="o", color=colour, ms=4, label=f"walked: {walked[large]:.3f}")
    variances.axhline(1, color="grey", lw=0.8, ls=":")
    variances.set(xlabel="steps $T$", ylabel="final variance (should be 1)", xticks=Ts, ylim=(0.7, 1.03))
    variances.set_xticks([], minor=True)
    variances.set_xticklabels(Ts)
    variances.legend(frameon=False, fontsize=9, loc="lower right")
    weights.loglog(np.arange(1, 1001), w, color="#1f4e79", label=r"$w_t$ of the bound ($\sigma^2=\beta$)")
    weights.axhline(w.mean(), color="#b5523b", ls="--", label=r"$L_\mathrm{simple}$: the same for all")
    weights.set(xlabel="$t$", ylabel=r"weight of $\|\varepsilon-\hat\varepsilon\|^2$", xlim=(1, 1000))
    weights.legend(frameon=False, fontsize=9)
    for axis in (variances, weights):
        axis.spines[["top", "right"]].set_visible(False)


# %%
def picture():
    """The figure of this lesson."""
    figure = plt.figure(figsize=(11, 7.6), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.45, 1])
    draw_walk(*top.subplots(1, 2, width_ratios=[5, 1]))
    draw_numbers(*bottom.subplots(1, 2))
    return figure


if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l03.png", dpi=150)
    numbers = {
        "final_variance_beta": dict(zip(Ts, predicted[True], strict=True)),
        "final_variance_beta_tilde": dict(zip(Ts, predicted[False], strict=True)),
        "walked_T50": {"beta": walked[True], "beta_tilde": walked[False], "n": n},
        "budget": BUDGET,
    }
    (out / "l03.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(
        f"L3: 50 perfect steps back end with variance {walked[True]:.3f} (β) and {walked[False]:.3f} (β̃). out/l03.png"
    )

# %% [markdown]
# ## What to take along
#
# - If you know the noise, you know the way back; $\hat\varepsilon$, $\hat x_0$ and $v$ are one guess with three names.
# - The variational bound is a weighted squared error of the noise, and $L_\text{simple}$ drops the weight.
# - The best guess is $\mathbb E[\varepsilon \mid x_t]$. Even with it, a wrong $\sigma^2$ leaves a mark when
#   there are few steps.
#
# ## Further reading
#
# - Ho, Jain, Abbeel 2020, *Denoising Diffusion Probabilistic Models*, Sec. 3 and Appendix A.
# - Salimans, Ho 2022, *Progressive Distillation for Fast Sampling of Diffusion Models*. Where $v$ comes from.
# - Bao, Li, Zhu, Zhang 2022, *Analytic-DPM*. The best $\sigma^2$ for a trained network, in closed form.
# - Luo 2022, *Understanding Diffusion Models: A Unified Perspective*. The derivation at leisure.
