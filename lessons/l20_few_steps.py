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
# # L20. Few steps: learn the map, or choose the steps
#
# | | |
# |---|---|
# | you learn | consistency, MeanFlow, shortcut, progressive distillation: targets, ends, healthy losses; free start |
# | time | 80 minutes to read and do, 2 minutes to run |
# | difficulty | ●●●●○ |
# | importance | ●●●○○ |
# | paper | Song et al. 2023, *Consistency Models*; Geng et al. 2025, *MeanFlow*; Frans et al. 2024, *Shortcut Models* |
#
# Read it after Lesson 19. A denoiser needs tens of calls because it guesses a mean and then corrects itself. Several
# methods train a network that jumps. Their losses look alike, and their trackers are full of one question: what should
# my loss be? On Gaussians it has an answer, and so has the better question: where does a *perfect* training end? Not
# always at the map. At the end stands a competitor that trains nothing.

# %%
import itertools
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from scipy.special import ndtr, ndtri

from ddpm import flows, plot
from ddpm.classifiers import classifier
from ddpm.guide import cfg, clip_x0
from ddpm.sample import ddim_step
from ddpm.samplers import best_times
from ddpm.zoo import model

# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how long to train and how much to draw
rng = np.random.default_rng(0)

# %% [markdown]
# ## 1. What is to be learnt
#
# Time is that of Lesson 19: $x_\tau = (1-\tau)x_0 + \tau\varepsilon$, image at 0, noise at 1. The flow moves $x$ from
# time $t$ to $s$, $\Phi(x, t\to s)$. For data $\mathcal N(\mu,\lambda)$, with $v_\tau = (1-\tau)^2\lambda+\tau^2$,
#
# $$\Phi(x,t\to s) = (1-s)\mu + \sqrt{v_s/v_t}\,\big(x-(1-t)\mu\big).$$
#
# Networks learn it in two ways. A **consistency function** is the end point, $f(x,t)=\Phi(x,t\to0)$. An **average
# velocity** is the displacement over the time, $u(x,r,t) = \big(x-\Phi(x,t\to r)\big)/(t-r)$ with $r<t$; at $r = t$ it
# is the velocity.
#
# ### Exercise 20.1 - the map and the average velocity of a Gaussian


# %%
def flow_map(x, t, s, mean, var):
    """Φ(x, t→s) on N(mean, var).   x: (B,);  t, s, mean, var: numbers  ->  (B,)"""
    ### BEGIN SOLUTION
    v_t, v_s = ((1 - a) ** 2 * var + a**2 for a in (t, s))
    return (1 - s) * mean + np.sqrt(v_s / v_t) * (x - (1 - t) * mean)
    ### END SOLUTION


def average_velocity(x, r, t, mean, var):
    """u(x, r, t), whose jump is x - (t-r) u.   x: (B,);  r < t, mean, var: numbers  ->  (B,)"""
    ### BEGIN SOLUTION
    return (x - flow_map(x, t, r, mean, var)) / (t - r)
    ### END SOLUTION


# %% [markdown]
# Two jumps are one, a jump of no length is none, and one call draws from the data exactly: $\Phi(\varepsilon, 1\to0) =
# \mu+\sqrt\lambda\,\varepsilon$.

# %%
x = rng.normal(size=7)
for m, lam in ((0.0, 1.0), (0.7, 0.25), (-2.0, 0.01)):
    one = flow_map(x, 0.9, 0.2, m, lam)
    assert np.allclose(flow_map(flow_map(x, 0.9, 0.5, m, lam), 0.5, 0.2, m, lam), one, atol=1e-12)
    assert np.allclose(flow_map(x, 0.9, 0.9, m, lam), x) and np.allclose(
        flow_map(x, 1, 0, m, lam), m + np.sqrt(lam) * x
    )
    assert np.allclose(x - 0.7 * average_velocity(x, 0.2, 0.9, m, lam), one)
    v, dv = 0.1**2 * lam + 0.9**2, 2 * 0.9 - 2 * 0.1 * lam
    assert np.allclose(average_velocity(x, 0.9 - 1e-6, 0.9, m, lam), -m + dv / (2 * v) * (x - 0.1 * m), atol=1e-4)

# %% [markdown]
# ## 2. Consistency training shrinks
#
# All points of a trajectory have the same $f$. **Consistency training** draws one image and one noise, looks at two
# neighbouring times $s<t$, and asks for equal answers; the answer at $s$ is held fixed, and $f(x,0)=x$:
#
# $$\min_f\ \mathbb E\,\big\|f(x_t,t) - \mathrm{sg}\,f(x_s,s)\big\|^2,
#   \qquad x_t,\,x_s \text{ of the same } x_0,\ \varepsilon. \qquad\text{[Song et al. 2023, Eq. 10]}$$
#
# But $x_s$ is a point of the *straight line*, not of the flow. The best answer at $t$ is a mean over all lines through
# $x_t$, and each mean loses spread. On $\mathcal N(0,\lambda)$ the best $f$ is linear, $f(x,\tau) = k_\tau x$, and
# each $k_t$ is a regression: $k_t = k_s\,\mathrm{Cov}(x_s,x_t)/\mathrm{Var}(x_t)$, from $k_0=1$.
#
# ### Exercise 20.2 - where consistency training ends
# > **Note.** $x_s$ and $x_t$ share the image, of variance λ, and the noise, of variance 1.


# %%
def fixed_point(var, times):
    """k at the last time: what one call makes of N(0, 1).   var: λ;  times: (N+1,) from 0, rising  ->  number"""
    k = 1.0
    ### BEGIN SOLUTION
    for s, t in itertools.pairwise(times):
        k = k * ((1 - t) * (1 - s) * var + t * s) / ((1 - t) ** 2 * var + t**2)
    ### END SOLUTION
    return k


# %% [markdown]
# The result is $\sqrt\lambda\prod\cos\Delta\theta$ with the angles of Lesson 19: **one call of a perfectly trained
# consistency model is as good as $N$ steps of DDIM** on its times, not better. So the number of times has to grow
# during a training. Meanwhile the loss at the true map, $2\lambda(1-\cos\Delta\theta)$ for a pair, falls as $1/N^2$ by
# itself: a falling loss proves nothing there.

# %%
shrunk = {N: fixed_point(0.25, np.linspace(0, 1, N + 1)) / 0.5 for N in (1, 2, 4, 10, 100, 1000)}
for N, ratio in shrunk.items():
    theta = np.arctan2(np.linspace(0, 1, N + 1), np.linspace(1, 0, N + 1) * 0.5)
    assert np.isclose(ratio, np.prod(np.cos(np.diff(theta))), atol=1e-12)
    ends = flows.consistency.training_fixed_point(flows.make_path("linear"), 0.25, np.linspace(0, 1, N + 1))
    assert np.isclose(ends[0], 0.5 * ratio)
assert np.isclose(shrunk[10] * 0.5, 0.43078, atol=1e-5) and shrunk[1] < 1e-12
draws, pair = rng.normal(size=(2, 200_000)), (0.5, 0.6)
x_s, x_t = ((1 - a) * 0.5 * draws[0] + a * draws[1] for a in pair)
gap = flow_map(x_t, 0.6, 0, 0, 0.25) - flow_map(x_s, 0.5, 0, 0, 0.25)
angle = np.diff(np.arctan2(pair, 0.5 * (1 - np.array(pair))))[0]
assert abs((gap**2).mean() - 2 * 0.25 * (1 - np.cos(angle))) < 6 * (gap**2).std() / np.sqrt(gap.size)
shrunk

# %% [markdown]
# ## 3. MeanFlow
#
# Differentiate $(t-r)\,u(x_t,r,t) = x_t - x_r$ along a trajectory, with $r$ fixed:
#
# $$u = \hat u - (t-r)\,\frac{du}{dt},\qquad \frac{du}{dt} = \hat u\cdot\partial_x u + \partial_t u.
#   \qquad\text{[Geng et al. 2025, Eq. 6]}$$
#
# **MeanFlow** makes the right side the target of the left, with the network's own derivative and, for $\hat u$, the
# velocity $\varepsilon-x_0$ of the pair. `jax.jvp` gives $u$ and $du/dt$ in one pass. It is four lines, and each of
# them can be wrong in a way that trains without complaint.
#
# ### Exercise 20.3 - the target of MeanFlow
# > **Note.** `jax.jvp(f, inputs, tangents)` returns f and its derivative along the tangents. The tangents of $(x, r,
# > t)$ are those of a point that moves with the velocity while $t$ runs and $r$ stands still.


# %%
def meanflow_target(u, x, r, t, velocity):
    """velocity - (t-r) du/dt.   u: (x, r, t) -> like x;  x, velocity: (B, D);  r, t: (B, 1)  ->  (B, D)"""
    ### BEGIN SOLUTION
    _, du = jax.jvp(u, (x, r, t), (velocity, jnp.zeros_like(r), jnp.ones_like(t)))
    return velocity - (t - r) * du
    ### END SOLUTION


# %% [markdown]
# Test yours before you train: give it the exact $u$ and the exact velocity, and it must return $u$. Each mistake has
# its own wrong number there, which the check of this exercise knows. For $\lambda=\frac14$, $x=1$, $r=.3$, $t=.8$:


# %%
def exact_u(x, r, t, var=0.25):
    """u of N(0, var), written with roots in a way that JAX can differentiate."""
    v_r, v_t = ((1 - a) ** 2 * var + a**2 for a in (r, t))
    return (1 - (v_r / v_t) ** 0.5) / (t - r) * x


one, r, t = jnp.ones((1, 1)), jnp.full((1, 1), 0.3), jnp.full((1, 1), 0.8)
velocity = (t - 0.25 * (1 - t)) / (0.25 * (1 - t) ** 2 + t**2) * one
assert np.isclose(float(velocity[0, 0]), 1.153846, atol=1e-5)
assert np.isclose(float(meanflow_target(exact_u, one, r, t, velocity)[0, 0]), 0.856456, atol=1e-5)
assert np.isclose(float(exact_u(one, r, t)[0, 0]), average_velocity(np.ones(1), 0.3, 0.8, 0, 0.25)[0], atol=1e-5)

# %% [markdown]
# ## 4. What should my MeanFlow loss be?
#
# **A bet first.** Data $\mathcal N(0,1)$; two times uniform, the smaller is $r$. What is the loss of a network that
# still predicts 0? And what is it at the *exact* average velocity? Below that of flow matching, $\pi/2$? Zero?
#
# ### Exercise 20.4 - the loss, where its gradient stops, and the bet
# The target is held fixed: no gradient goes through it (`jax.lax.stop_gradient`).


# %%
def meanflow_loss(p, u, x0, eps, r, t):
    """Mean of ‖u(p, x_t, r, t) - sg target‖² over all numbers, with the velocity ε - x0 of each pair.

    p: parameters;  u: (p, x, r, t) -> like x;  x0, eps: (B, D);  r, t: (B, 1)  ->  number
    """
    ### BEGIN SOLUTION
    x = (1 - t) * x0 + t * eps
    target = meanflow_target(lambda x, r, t: u(p, x, r, t), x, r, t, eps - x0)
    return ((u(p, x, r, t) - jax.lax.stop_gradient(target)) ** 2).mean()
    ### END SOLUTION


def start_and_end():
    """Your bet for N(0, 1): the loss of u = 0, and that of the exact u.   ->  two numbers"""
    ### BEGIN SOLUTION
    return 2.0, 1.714
    ### END SOLUTION


# %% [markdown]
# The pair's velocity is a noisy stand-in for $\hat u$, and in the target it is multiplied by the derivative as well.
# What remains at the exact $u$ of $\mathcal N(0,\lambda)$ is $\lambda v_r/v_t^2$: neither 0, nor the $\lambda/v_t$ of
# flow matching. With the weight $1/(\|\Delta\|^2+c)$ that papers use, the *logged* loss is near 1 from the first step
# to the last. Log the loss without the weight.

# %%
B = {"smoke": 40_000, "short": 400_000, "full": 4_000_000}[BUDGET]
x0, eps = rng.normal(size=(2, B, 1)).astype("f")
r, t = np.sort(rng.uniform(size=(2, B, 1)).astype("f"), axis=0)
r = np.minimum(r, t - 1e-3)
for lam, end in ((1.0, 1.714), (0.25, 0.4293)):
    start = meanflow_loss(0.0, lambda p, x, r, t: p * x, np.sqrt(lam) * x0, eps, r, t)
    exact = meanflow_loss(0.0, lambda p, x, r, t, lam=lam: exact_u(x, r, t, lam), np.sqrt(lam) * x0, eps, r, t)
    v_r, v_t = ((1 - a) ** 2 * lam + a**2 for a in (r, t))
    assert np.isclose(start, 1 + lam, rtol=0.03) and np.isclose(exact, end, rtol=0.05)
    assert np.isclose((lam * v_r / v_t**2).mean(), end, rtol=0.03)
assert np.allclose(start_and_end(), (2, 1.714), atol=1e-3)

# %% [markdown]
# And the stop-gradient is no detail. Take the family of exact average velocities of $\mathcal N(0, s^2)$, one
# parameter $s$, and data with $s=\frac12$. The gradient of the loss that stops vanishes at the truth. With a gradient
# through both sides the loss can fall by making the target *smoother*, and it prefers a smaller $s$: samples shrink.

# %%
x0, eps, r, t = 0.5 * x0[:20_000], eps[:20_000], r[:20_000], t[:20_000]


def family(s, x, r, t):
    """u of N(0, s²)"""
    return exact_u(x, r, t, s**2)


def without_stop(s):
    """The loss with a gradient through both sides."""
    x = (1 - t) * x0 + t * eps
    return ((family(s, x, r, t) - meanflow_target(lambda *a: family(s, *a), x, r, t, eps - x0)) ** 2).mean()


grid = np.linspace(0.1, 0.9, 33)
stopped = jax.jit(jax.grad(lambda s: meanflow_loss(s, family, x0, eps, r, t)))
root = np.interp(0, [float(stopped(s)) for s in grid], grid)  # where the gradient is 0
both = jax.jit(without_stop)
best = grid[np.argmin([float(both(s)) for s in grid])]
assert abs(root - 0.5) < 0.03 and best < 0.45
root, best

# %% [markdown]
# ## 5. Without derivatives: shortcut models, and halving
#
# A **shortcut model** $s(x,t,d)$ is told how far to jump: $x_{t-d} = x_t - d\,s$. One jump of $2d$ has to do what two
# jumps of $d$ do, so its target is the mean of the two. The smallest jump learns the velocity. **Progressive
# distillation** is older and has the same idea: a student's DDIM step $t\to s$ has to land where two steps of its
# teacher do. A DDIM step is fixed by its $\hat x_0$, so the target is the $\tilde x$ with which one step from $x_t$
# lands on the teacher's $x_s$:
#
# $$x_s = a_s\tilde x + b_s\,\frac{x_t-a_t\tilde x}{b_t}, \qquad a=\sqrt{\bar\alpha},\ b=\sqrt{1-\bar\alpha}.
#   \qquad\text{[Salimans and Ho 2022, App. G]}$$
#
# ### Exercise 20.5 - the targets of both


# %%
def shortcut_target(s, x, t, d):
    """½ (s at x_t + s at x_{t-d}), for jumps of d.   s: (x, t, d) -> like x;  x: (B, D);  t, d: (B, 1)  ->  like x"""
    ### BEGIN SOLUTION
    first = s(x, t, d)
    return (first + s(x - d * first, t - d, d)) / 2
    ### END SOLUTION


def progressive_target(alpha_bar_t, alpha_bar_s, x_t, x_s):
    """x̃ with which one DDIM step from x_t lands on x_s.   alpha_bar_s > alpha_bar_t: ();  x_t, x_s: (B, D)  ->  same"""
    ### BEGIN SOLUTION
    ratio = np.sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t))
    return (x_s - ratio * x_t) / (np.sqrt(alpha_bar_s) - ratio * np.sqrt(alpha_bar_t))
    ### END SOLUTION


# %% [markdown]
# The exact average velocity solves the shortcut's equation. But a training starts from its finest grid of $M$ steps,
# so it ends at $M$ steps of Euler's method, as a student of progressive distillation ends at its teacher's steps:
# neither can be better than its first teacher.

# %%
x, t, d = rng.normal(size=(5, 1)), np.full((5, 1), 0.9), np.full((5, 1), 0.2)
exact_s = lambda x, t, d: exact_u(x, t - d, t)  # noqa: E731
assert np.allclose(shortcut_target(exact_s, x, t, d), exact_u(x, 0.5, 0.9), atol=1e-6)


def euler_gain(M, lam=0.25):
    """∏cosΔθ of M even steps, by Lesson 19."""
    theta = np.arctan2(np.linspace(1, 0, M + 1), np.linspace(0, 1, M + 1) * np.sqrt(lam))
    return np.prod(np.cos(np.diff(theta)))


def euler_slope(tau, lam=0.25):
    """u*(x, τ)/x of N(0, λ)"""
    return (tau - lam * (1 - tau)) / (lam * (1 - tau) ** 2 + tau**2)


# %%
M = 8
jumps = {(i, 1): euler_slope(i / M) for i in range(1, M + 1)}  # slopes of s on the grid: at t = i/M, d = k/M
for k in (1, 2, 4):
    for i in range(2 * k, M + 1, 2 * k):
        s = lambda x, t, d, i=i, k=k: (jumps[i, k] if t[0, 0] > (i - k / 2) / M else jumps[i - k, k]) * x  # noqa: E731
        jumps[i, 2 * k] = float(
            shortcut_target(s, np.ones((1, 1)), np.full((1, 1), i / M), np.full((1, 1), k / M))[0, 0]
        )
assert np.isclose(1 - jumps[M, M], 0.5 * euler_gain(M), atol=1e-9)  # one jump of length 1 is 8 Euler steps
x_t, x0_hat = rng.normal(size=(2, 4, 3))
x_s = np.sqrt(0.5) * x0_hat + np.sqrt(0.5) * (x_t - np.sqrt(0.1) * x0_hat) / np.sqrt(0.9)
assert np.allclose(progressive_target(0.1, 0.5, x_t, x_s), x0_hat)

# %% [markdown]
# ## 6. A competitor that trains nothing
#
# Lesson 19 asked for the best list of times for one variance. Images have many, $\lambda_d$, and a mean $\mu$. Why
# begin at $T$? Declare the noise $\mathcal N(0,I)$ to be $x_t$ of a *smaller* $t$, a **free start**. Its variance 1 is
# right for the narrow directions, where $x_t$ is noise anyway, and only a little off for the wide ones; and one step
# from there leaves more than the mean image. With $\theta_{d} = \arctan\frac{b}{a\sqrt{\lambda_d}}$ and $v_d =
# a^2\lambda_d + b^2$ at the first level, the end has in direction $d$ the deviation $\sqrt{\lambda_d}\,g_d$ with $g_d
# = \prod\cos\Delta\theta_d/\sqrt{v_d}$, and the mean is $\sqrt{\lambda_d}\,g_d\,a\,\mu_d$ off. So the squared
# Wasserstein distance to the data is
#
# $$W_2^2 = \sum_d \lambda_d\,(1-g_d)^2 + \lambda_d\,(g_d\,a\,\mu_d)^2 .$$
#
# ### Exercise 20.6 - the distance of a list with a free start


# %%
def w2(alpha_bar, var, mean):
    """W₂² to N(mean, diag var).   alpha_bar: (N+1,) from the first level to 1;  var, mean: (D,)  ->  number"""
    ### BEGIN SOLUTION
    a, b = np.sqrt(alpha_bar)[:, None], np.sqrt(1 - alpha_bar)[:, None]
    theta = np.arctan2(b, a * np.sqrt(var))
    g = np.cos(np.diff(theta, axis=0)).prod(0) / np.sqrt(a[0] ** 2 * var + b[0] ** 2)
    return float((var * (1 - g) ** 2 + var * (g * a[0] * mean) ** 2).sum())
    ### END SOLUTION


# %% [markdown]
# The shipped model's card holds the axes of its data, so the list can be searched in a tenth of a second, without an
# image. One call from the best start halves the distance of the mean image; nothing of this needs a training.

# %%
garments = model.load("fashion_mnist")
ab, axes = np.asarray(garments.schedule.alpha_bar, np.float64), garments.axes
assert axes is not None
many, T = np.repeat(np.arange(len(axes.var)), axes.number), garments.schedule.T
lam_d, mu_d = axes.var[many], np.broadcast_to(axes.mean, axes.var.shape)[many]
lists, distance = {}, {}
for N in (1, 2, 4, 8):
    free = best_times.searched(garments.schedule, axes.var, N, axes.mean, number=axes.number)
    trailing = np.round(T - np.arange(N + 1) * (T / N)).astype(int)
    lists[N] = {"free start": free, "from T": trailing}
    distance[N] = {name: w2(ab[times], lam_d, mu_d) for name, times in lists[N].items()}
    theirs = best_times.w2_of_times(garments.schedule, axes.var, free, axes.mean, axes.number)
    assert np.isclose(distance[N]["free start"], theirs, rtol=1e-6)
    assert distance[N]["free start"] < 0.7 * distance[N]["from T"]
{N: (times["free start"].tolist(), distance[N]) for N, times in lists.items()}

# %% [markdown]
# Does it hold for a network? Guidance 2, $\hat x_0$ clipped, the same noise in each row. The number is the share of
# images that the shipped classifier assigns to the label asked for.

# %%
count = {"smoke": 20, "short": 100, "full": 1000}[BUDGET]
labels, judge = jnp.arange(count) % 10, classifier.load("fashion_mnist")
start = jax.random.normal(jax.random.key(5), (count, 28, 28, 1))
step = jax.jit(ddim_step(clip_x0(cfg(garments.eps, 2.0), garments.schedule), garments.schedule, labels))
drawn, right = {}, {}
for N in (1, 2, 4):
    for name in ("from T", "free start"):
        x = start
        for t_, s_ in itertools.pairwise(lists[N][name]):
            x = step(jax.random.key(0), x, int(t_), int(s_))
        drawn[N, name] = np.asarray(x)
        images = np.round(127.5 * (np.clip(drawn[N, name], -1, 1) + 1)).astype(np.uint8)
        right[N, name] = float((judge.predict(images) == np.asarray(labels)).mean())
assert all(right[N, "free start"] >= right[N, "from T"] for N in (1, 2))
right

# %% [markdown]
# Hold every few-step model against this line: it costs nothing, and on this model two calls with a free start beat
# four calls from $T$.
#
# ## 7. Three networks learn a map
#
# Two narrow lumps, $\frac12\mathcal N(\pm1,.04)$: their map is a steep step, and exact by quantiles (Lesson 19). The
# same small network is trained with each loss and the same budget.

# %%
VAR, WIDTH, BATCH = 0.04, 64, 256
n_steps = {"smoke": 60, "short": 2000, "full": 20_000}[BUDGET]
quantiles = ndtri((np.arange(400) + 0.5) / 400)
low, high = np.full(400, -4.0), np.full(400, 4.0)
for _ in range(50):
    middle = (low + high) / 2
    below = (ndtr((middle - 1) / np.sqrt(VAR)) + ndtr((middle + 1) / np.sqrt(VAR))) / 2 < ndtr(quantiles)
    low, high = np.where(below, middle, low), np.where(below, high, middle)
exact_map = (low + high) / 2


def network(p, x, t, h):
    """Four layers of (x, t, h), h the length of the jump.   x, t, h: (B, 1)  ->  (B, 1)"""
    waves = [f(jnp.pi * a) for a in (t, h) for f in (jnp.sin, jnp.cos)]
    y = jnp.concatenate([x, x * t, t, h, *waves], axis=1)
    for layer in p[:-1]:
        y = jax.nn.silu(y @ layer["w"] + layer["b"])
    return y @ p[-1]["w"] + p[-1]["b"]


# %%
def consistency_f(p, x, t):
    """f(x, t) with f(x, 0) = x: EDM's skip with σ_data = 1 keeps the boundary."""
    r = (t**2 + (1 - t) ** 2) ** 0.5
    return ((1 - t) * x + t * r * network(p, x / r, t, 0 * t)) / r**2


def losses_of(p, key, x0, eps):
    """The three losses, by name: numbers."""
    key_a, key_b = jax.random.split(key)
    r, t = jnp.sort(jax.random.uniform(key_a, (2, len(x0), 1)), axis=0)
    r = jnp.where(jnp.arange(len(x0))[:, None] % 4 == 0, t, r)  # a quarter is flow matching
    i = jax.random.randint(key_b, x0.shape, 1, 17) / 16
    point = lambda a: (1 - a) * x0 + a * eps  # noqa: E731
    target = jax.lax.stop_gradient(consistency_f(p, point(i - 1 / 16), i - 1 / 16))
    d = 0.5 ** jax.random.randint(key_b, x0.shape, 1, 6)  # the jumps 1/2 … 1/32
    at = jnp.ceil(t * 0.5 / d) * 2 * d
    s = lambda x, t, d: network(p, x, t, d)  # noqa: E731
    asked = jnp.where(d < 0.04, 0.0, d)  # the finest jump is that of the velocity
    half = jax.lax.stop_gradient(shortcut_target(lambda x, t, _: s(x, t, asked), point(at), at, d))
    flow = ((s(point(t), t, 0 * t) - (eps - x0)) ** 2).mean()
    return {
        "consistency, 16 times": lambda: ((consistency_f(p, point(i), i) - target) ** 2).mean(),
        "MeanFlow": lambda: meanflow_loss(p, lambda p, x, r, t: network(p, x, t, t - r), x0, eps, r, t),
        "shortcut": lambda: (3 * flow + ((s(point(at), at, 2 * d) - half) ** 2).mean()) / 4,
    }


# %%
def train(name):
    """Adam on one of the losses: the average of the parameters, and all losses."""
    sizes, keys = (8, WIDTH, WIDTH, WIDTH, 1), jax.random.split(jax.random.key(0), 4)
    pairs = zip(keys, itertools.pairwise(sizes), strict=True)
    normal = jax.random.normal
    p = [{"w": normal(k, (i, o)) * np.sqrt(2 / i) * (o > 1), "b": jnp.zeros(o)} for k, (i, o) in pairs]
    tx = optax.adam(optax.cosine_decay_schedule(2e-3, n_steps))

    def one_step(state, key):
        p, mean, opt = state
        side, spread, noise, rest = jax.random.split(key, 4)
        x0 = jax.random.rademacher(side, (BATCH, 1), float) + np.sqrt(VAR) * normal(spread, (BATCH, 1))
        loss, grad = jax.value_and_grad(lambda p: losses_of(p, rest, x0, normal(noise, (BATCH, 1)))[name]())(p)
        update, opt = tx.update(grad, opt)
        p = optax.apply_updates(p, update)
        return (p, jax.tree.map(lambda a, b: 0.99 * a + 0.01 * b, mean, p), opt), loss

    keys = jax.random.split(jax.random.key(1), n_steps)
    (_, mean, _), curve = jax.jit(lambda s, k: jax.lax.scan(one_step, s, k))((p, p, tx.init(p)), keys)
    return mean, np.asarray(curve)


# %%
noise, ones = jnp.asarray(quantiles, jnp.float32)[:, None], jnp.ones((400, 1))
maps, curves, apart = {}, {}, {}
for name in ("consistency, 16 times", "MeanFlow", "shortcut"):
    p, curves[name] = train(name)
    f = consistency_f(p, noise, ones) if name.startswith("cons") else noise - network(p, noise, ones, ones)
    maps[name] = np.asarray(f)[:, 0]
    apart[name] = float(np.sqrt(((np.sort(maps[name]) - exact_map) ** 2).mean()))
assert np.isclose(curves["MeanFlow"][0], 2.04, atol=0.5)  # 1 + E x²
assert BUDGET == "smoke" or max(apart.values()) < 0.5
apart

# %% [markdown]
# The numbers are the Wasserstein distance of one call to the data. Consistency training is smooth where the map is
# steep, as section 2 says: it fills the gap between the lumps. This is no ranking of methods for images; on a line
# with one small budget the differences are in the ends of the losses.
#
# ## 8. The picture
#
# Above: the map from noise to data in one call, exact and learnt; and how consistency training shrinks with the number
# of its times. Below: garments with no training at all, from $T$ and with a free start.


# %%
def draw_maps(left, right_):
    """One call of each network beside the exact map; the fixed point of consistency training."""
    left.plot(quantiles, exact_map, color="#1b4f72", lw=3, label="exact")
    for name, ours in maps.items():
        left.plot(quantiles, ours, "--", lw=1.3, label=f"{name} ({apart[name]:.2f})")
    left.set(xlabel="noise", ylabel="one call", title="flow map: exact, and learnt ($W_2$ to the data)")
    N = np.unique(np.geomspace(2, 1000, 30).astype(int))
    for lam, colour in ((1.0, "#1b4f72"), (0.25, "#2e86c1"), (0.01, "#e59866")):
        ratio = [fixed_point(lam, np.linspace(0, 1, n + 1)) / np.sqrt(lam) for n in N]
        right_.plot(N, ratio, color=colour, label=rf"$\lambda$ = {lam:g}")
    right_.set(xscale="log", xlabel="times of the training", ylabel="deviation of one call, right: 1")
    right_.set_title("where consistency training ends")
    for axis in (left, right_):
        axis.legend(frameon=False, fontsize=7)
        axis.spines[["top", "right"]].set_visible(False)


# %%
def picture():
    """The figure of this lesson."""
    figure = plt.figure(figsize=(10.5, 9.5), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.75])
    draw_maps(*above.subplots(1, 2))
    axis = below.subplots()
    axis.imshow(plot.grid(np.clip(np.concatenate([x[:10] for x in drawn.values()]), -1, 1), 10)[..., 0], cmap="gray")
    names = [f"{N} call{'s' * (N > 1)}, {name}: {right[N, name]:.2f}" for N, name in drawn]
    axis.set_yticks(16 + 30 * np.arange(len(names)), names, fontsize=8)
    axis.set(xticks=[], title="the shipped network, guidance 2, no training (share of images with the label asked for)")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    return figure


# %%
if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l20.png", dpi=150)
    numbers = {
        "consistency_fixed_point": shrunk,
        "meanflow_root_with_and_without_stop": [float(root), float(best)],
        "w2_gaussian": distance,
        "times": {N: {name: times.tolist() for name, times in of.items()} for N, of in lists.items()},
        "accuracy": {f"{N} calls, {name}": share for (N, name), share in right.items()},
        "n": count,
        "w2_of_one_call": apart,
        "steps": n_steps,
        "budget": BUDGET,
    }
    (out / "l20.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(
        f"L20: two calls, no training: {right[2, 'from T']:.2f} from T, {right[2, 'free start']:.2f} free. out/l20.png"
    )

# %% [markdown]
# ## What to take along
#
# - Ask of each loss where a perfect training ends: consistency at $N$ DDIM steps, shortcut at $M$ Euler steps,
#   MeanFlow at the map.
# - Test a target with the exact answer before you train with it.
# - A loss is healthy at a number: $1+\mathbb E x_0^2$ at the start, $\lambda v_r/v_t^2$ at the end; without the
#   weight.
# - Compare with searched times and a free start, which train nothing.
#
# ## Further reading
#
# - Song, Dhariwal, Chen, Sutskever 2023, *Consistency Models*; Song, Dhariwal 2023, *Improved Techniques for Training
#   Consistency Models*.
# - Geng, Deng, Bai, Kolter, He 2025, *Mean Flows for One-step Generative Modeling*.
# - Frans, Hafner, Levine, Abbeel 2024, *One Step Diffusion via Shortcut Models*.
# - Salimans, Ho 2022, *Progressive Distillation for Fast Sampling of Diffusion Models*.
# - Li et al. 2023, *AutoDiffusion*, searches lists of times for trained models.
