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
# # L19. Flow matching: the same chain with another clock
#
# | | |
# |---|---|
# | you learn | velocity, flow map, Euler's method; why DDPM, EDM and flow matching are one family; what is straight |
# | time | 70 minutes to read and do, a minute to run |
# | difficulty | ●●●○○ |
# | importance | ●●●●○ |
# | paper | Lipman et al. 2023, *Flow Matching for Generative Modeling*; Liu et al. 2023, *Rectified Flow*, Eqs. 1, 4 |
#
# Read it after Lesson 6. Many newer models are "trained with flow matching" and "sampled with Euler's method". We
# shall see that you know both already: another clock and another name for the prediction turn the chain of Lesson 1
# into a flow, and Euler's method into DDIM. What is new is a picture: a map that moves each point of the noise to a
# point of the data. On a line this map can be computed without any network.

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

from ddpm import flows, oracle, plot, schedule
from ddpm.sample import ddim_step
from ddpm.zoo import model

# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how long to train and how much to draw
n = {"smoke": 20_000, "short": 200_000, "full": 2_000_000}[BUDGET]  # draws
rng = np.random.default_rng(0)

# %% [markdown]
# ## 1. Another clock
#
# Write $a=\sqrt{\bar\alpha_t}$ and $b=\sqrt{1-\bar\alpha_t}$, so that $x_t = a\,x_0 + b\,\varepsilon$. Divide by
# $a+b$. The two weights then sum to one, and the point runs along the **straight line** from the image to its noise:
#
# $$\frac{x_t}{a+b} = (1-\tau)\,x_0 + \tau\,\varepsilon, \qquad \tau = \frac{b}{a+b}.$$
#
# Here $\tau=0$ is the image and $\tau=1$ is the noise, as with $t$. (Some papers and programs run the clock the other
# way: check it first when you read one.) The velocity of that motion is $u = \varepsilon - x_0$. It is one more name
# for what a network predicts: from $x_t$ and a predicted $\hat u$ both $\hat\varepsilon$ and $\hat x_0$ follow.
#
# ### Exercise 19.1 - the time of the straight line, and the two heads
# > **Note.** Write down $x_t + a\,u$ and $x_t - b\,u$, and put in what $x_t$ and $u$ are.


# %%
def flow_time(alpha_bar):
    """τ = b/(a+b) with a = √ᾱ and b = √(1-ᾱ).   alpha_bar: (...)  ->  (...)"""
    ### BEGIN SOLUTION
    a, b = jnp.sqrt(alpha_bar), jnp.sqrt(1 - alpha_bar)
    return b / (a + b)
    ### END SOLUTION


def heads(alpha_bar, x_t, u):
    """(ε̂, x̂0) of a predicted velocity û = ε̂ - x̂0.   alpha_bar: ();  x_t, u: (B, ...)  ->  two like x_t"""
    ### BEGIN SOLUTION
    a, b = jnp.sqrt(alpha_bar), jnp.sqrt(1 - alpha_bar)
    return (x_t + a * u) / (a + b), (x_t - b * u) / (a + b)
    ### END SOLUTION


# %% [markdown]
# The heads undo the velocity at every level. And the clock is a respelling of $\bar\alpha$: half of the way,
# $\tau=\tfrac12$, is $\bar\alpha=\tfrac12$. DDPM's linear schedule gets there at $t=259$ of 1000 already, and the
# cosine schedule at 496.

# %%
x0, eps = rng.normal(size=(2, 5, 3))
for a_bar in (0.99, 0.5, 0.01):
    x_t = np.sqrt(a_bar) * x0 + np.sqrt(1 - a_bar) * eps
    assert np.allclose(heads(a_bar, x_t, eps - x0), (eps, x0), atol=1e-5)
    tau = float(flow_time(a_bar))
    assert np.allclose(x_t / (np.sqrt(a_bar) + np.sqrt(1 - a_bar)), (1 - tau) * x0 + tau * eps, atol=1e-5)
    assert np.isclose(flows.make_path("linear").time(a_bar), tau, atol=1e-6)  # the library's, by bisection
linear, cosine = schedule.linear(1000), schedule.cosine(1000)
halfway = [int(np.argmin(np.abs(flow_time(s.alpha_bar) - 0.5))) for s in (linear, cosine)]
assert halfway == [259, 496]

# %% [markdown]
# ## 2. The loss, and two numbers to expect
#
# **Flow matching** is regression on the velocity: draw an image, a noise and a time, and let the network guess
# $\varepsilon - x_0$ from the point in between.
#
# $$L = \mathbb E\,\big\|\varepsilon - x_0 - \hat u\big((1-\tau)x_0 + \tau\varepsilon,\ \tau\big)\big\|^2
#   \qquad\text{[Lipman et al. 2023, Eq. 9]}$$
#
# Many lines cross at one point, and the network can give only one answer there. The best one is the mean, $u^*(x,\tau)
# = \mathbb E[\varepsilon - x_0 \mid x_\tau = x]$. So the least loss is not 0, and "is my loss healthy?" has an answer
# in numbers: where it starts and where it ends.
#
# ### Exercise 19.2 - the loss, and a bet
# **Before you run anything:** the data are $\mathcal N(0,1)$, times are uniform. What is the loss of a network that
# still predicts 0? And what is the least loss that any network can reach? For data $\mathcal N(0, 1)$ the best guess
# is $u^* = \frac{2\tau-1}{v}\,x$ with $v = (1-\tau)^2+\tau^2$; what it leaves at a time $\tau$ is $1/v$.


# %%
def flow_loss(velocity, x0, eps, tau):
    """The squared error of each image, a mean over its numbers.

    velocity: (x, tau) -> like x;  x0, eps: (B, D);  tau: (B,)  ->  (B,)
    """
    ### BEGIN SOLUTION
    s = tau[:, None]
    error = eps - x0 - velocity((1 - s) * x0 + s * eps, tau)
    return (error**2).mean(1)
    ### END SOLUTION


def start_and_floor():
    """Your bet for N(0, 1): the loss of û = 0, and the least possible loss.   ->  two numbers"""
    ### BEGIN SOLUTION
    return 2.0, np.pi / 2
    ### END SOLUTION


# %% [markdown]
# "It starts near 2" is said of many programs. It says only that the data have variance one: the start is $1 + \mathbb
# E[x_0^2]$. For data $\mathcal N(\mu, \lambda)$ the end is $\frac{\pi}{2}\sqrt\lambda$, and for images it is at most
# the mean of that over the eigenvalues of their covariance: between 1.68 and .43 for Fashion-MNIST. We draw.


# %%
def exact_velocity(x, tau, mean, var):
    """u*(x, τ) of N(mean, var): -μ + (v̇/2v)(x - (1-τ)μ), v = (1-τ)²λ + τ²."""
    v, dv = (1 - tau) ** 2 * var + tau**2, 2 * tau - 2 * (1 - tau) * var
    return -mean + dv / (2 * v) * (x - (1 - tau) * mean)


for var in (1.0, 0.25, 0.01):
    x0, eps, tau = np.sqrt(var) * rng.normal(size=(n, 1)), rng.normal(size=(n, 1)), rng.uniform(size=n)
    still = np.asarray(flow_loss(lambda x, tau: 0 * x, x0, eps, tau))
    best = np.asarray(flow_loss(lambda x, tau, var=var: exact_velocity(x, tau[:, None], 0.0, var), x0, eps, tau))
    for values, truth in ((still, 1 + var), (best, np.pi / 2 * np.sqrt(var))):
        assert abs(values.mean() - truth) < 6 * values.std() / np.sqrt(n) + 1e-5
assert np.allclose(start_and_floor(), (2, np.pi / 2))
assert np.isclose(flows.loss_floor(flows.make_path("linear"), 0.25), np.pi / 4, rtol=1e-6)  # the library's

# %% [markdown]
# ## 3. Euler's method is DDIM
#
# To draw, begin with noise at $\tau=1$ and follow the velocity back to $\tau=0$. Euler's method keeps the velocity for
# the length of a step:
#
# $$x_s = x_\tau + (s - \tau)\,\hat u(x_\tau, \tau), \qquad s < \tau.$$
#
# ### Exercise 19.3 - Euler's method


# %%
def euler(velocity, x, times):
    """Follow the velocity along a list of times.

    velocity: (x, tau: number) -> like x;  x: (B, ...) at times[0];  times: (N+1,) falling  ->  x at times[-1]
    """
    ### BEGIN SOLUTION
    for tau, s in itertools.pairwise(times):
        x = x + (s - tau) * velocity(x, tau)
    return x
    ### END SOLUTION


# %% [markdown]
# DDIM freezes $\hat x_0$ and $\hat\varepsilon$ for a step; then the point moves along the straight line between the
# two, and so does Euler's. **The steps are identical**, so every sampler of Lesson 6 *is* a flow sampler. We hold
# Euler's method against the DDIM step of the library: eight steps on $\mathcal N(0, \tfrac14)$ end with the deviation
# .415 instead of .5, and the steps of DDIM between the same levels end there too.

# %%
tau_8 = np.linspace(1, 0, 9)
end = euler(lambda x, tau: exact_velocity(x, tau, 0.0, 0.25), np.ones(1), tau_8)
assert np.isclose(end[0], 0.414785, atol=1e-6)

inner = tau_8[1:]  # the first step is taken by hand: at τ = 1 there is no signal, which no list of ᾱ expresses
a_bar = (1 - inner) ** 2 / ((1 - inner) ** 2 + inner**2)
levels = schedule.from_alpha_bar(a_bar[:-1][::-1])
chain = ddim_step(oracle.gaussian([0.0], 0.25).eps(levels), levels)
x = (1 + (inner[0] - 1) * 1.0) / np.sqrt((1 - inner[0]) ** 2 + inner[0] ** 2) * jnp.ones((1, 1))  # u* = x at τ = 1
for t, s in itertools.pairwise(range(7, -1, -1)):
    x = chain(jax.random.key(0), x, t, s)
assert np.isclose(x[0, 0], end[0], atol=1e-5)

# %% [markdown]
# ## 4. What few steps cost, whatever the path
#
# With $\theta = \arctan\frac{b}{a\sqrt\lambda}$ a step on $\mathcal N(0,\lambda)$ multiplies the deviation, measured
# in that of the exact flow, by $\cos(\theta_\tau-\theta_s)$. For $\lambda=1$ this is Lesson 6. So the error depends on
# the levels that the list visits, and on nothing else: not on "flow" or "diffusion", not on linear or cosine. From
# $\theta=\frac\pi2$ to 0 in $N$ steps the product is largest if all steps have the same angle.
#
# ### Exercise 19.4 - the gain of a list, and the best list
# > **Note.** On the straight line $b/a = \tau/(1-\tau)$; at $\tau=1$ use `np.arctan2`. For the best list solve
# > $\tan\theta = \tau/((1-\tau)\sqrt\lambda)$ for $\tau$; multiply by $\cos\theta$, so that $\theta=\frac\pi2$ gives
# > 1.


# %%
def euler_gain(var, times):
    """∏cos(θ_i - θ_{i+1}), the share of √λ that is left.   var: λ;  times: (N+1,) τ falling  ->  number"""
    ### BEGIN SOLUTION
    theta = np.arctan2(times, (1 - times) * np.sqrt(var))
    return float(np.prod(np.cos(np.diff(theta))))
    ### END SOLUTION


def best_times(var, N):
    """The list of N steps from τ = 1 to 0 with equal angles.   var: λ  ->  (N+1,) τ, falling"""
    ### BEGIN SOLUTION
    theta = np.pi / 2 * np.linspace(1, 0, N + 1)
    top = np.sqrt(var) * np.sin(theta)
    return top / (np.cos(theta) + top)
    ### END SOLUTION


# %%
table = {}
for var in (1.0, 0.25, 0.01):
    for N in (1, 2, 4, 8, 16):
        even, best = np.linspace(1, 0, N + 1), best_times(var, N)
        table[var, N] = euler_gain(var, even), euler_gain(var, best)
        for times, gain in zip((even, best), table[var, N], strict=True):
            end = euler(lambda x, tau, var=var: exact_velocity(x, tau, 0.0, var), np.ones(1), times)
            assert np.isclose(end[0] / np.sqrt(var), gain, atol=1e-9)
        assert np.isclose(table[var, N][1], np.cos(np.pi / 2 / N) ** N) and table[var, N][1] >= table[var, N][0] - 1e-12
{key: (round(even, 4), round(best, 4)) for key, (even, best) in table.items()}

# %% [markdown]
# One step leaves nothing of the deviation, on any list: from pure noise the best guess of the image is the mean. And a
# best list is best for one variance. An image has hundreds of directions, wide and narrow, and the choice of a list is
# a compromise between them; Lesson 20 makes it.
#
# ## 5. The map, exactly
#
# The exact flow carries each point of the noise to a point of the data. In one dimension trajectories cannot cross, so
# the order of the points is kept: the point with one tenth of the noise to its left goes to the point with one tenth
# of the data to its left. With the cumulative distribution $F_\tau$ of $x_\tau$
#
# $$\Phi(x,\ t\to s) = F_s^{-1}\big(F_t(x)\big).$$
#
# No network, no solver, no path: every flow on a line has this map from noise to data. Our data are two lumps,
# $\frac12\mathcal N(\pm1, \lambda)$; then $x_\tau$ is two lumps at $\pm(1-\tau)$ of variance
# $(1-\tau)^2\lambda+\tau^2$.


# %%
def cdf(x, tau, var):
    """F_τ(x) of ½N(±1, var).   x: (B,)  ->  (B,)"""
    std = np.sqrt((1 - tau) ** 2 * var + tau**2)
    return (ndtr((x - (1 - tau)) / std) + ndtr((x + (1 - tau)) / std)) / 2


# %% [markdown]
# ### Exercise 19.5 - the flow map on a line
# > **Note.** $F_s$ rises, so $F_s(y) = p$ is solved by bisection: halve an interval, such as $(-12, 12)$, sixty times.


# %%
def flow_map(x, t, s, var):
    """Φ(x, t→s) = F_s⁻¹(F_t(x)) of ½N(±1, var), to 1e-9.   x: (B,);  t, s: times in [0, 1]  ->  (B,) float64"""
    ### BEGIN SOLUTION
    p = cdf(x, t, var)
    low, high = np.full(len(x), -12.0), np.full(len(x), 12.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = cdf(middle, s, var) < p
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2
    ### END SOLUTION


# %% [markdown]
# The map agrees with a differential equation that is solved to ten digits. Two jumps are one jump (such maps form a
# *semigroup*), and Euler's method comes nearer to it in proportion to its steps.

# %%
lumps, path = oracle.mixture([[1.0], [-1.0]], 0.25), flows.make_path("linear")
with jax.enable_x64(True):
    points = jnp.array([[0.1], [0.5], [1.0], [2.0]])
    solved = flows.integrate(flows.exact_velocity(oracle.mixture([[1.0], [-1.0]], 0.25), path), points, 1.0, 0.0)
noise = np.array([0.1, 0.5, 1.0, 2.0])
ends = flow_map(noise, 1.0, 0.0, 0.25)
assert np.allclose(ends, solved[:, 0], atol=1e-7) and np.isclose(ends[1], 0.851235947, atol=1e-8)
assert np.allclose(flow_map(flow_map(noise, 1.0, 0.4, 0.25), 0.4, 0.0, 0.25), ends, atol=1e-8)
quantiles = ndtri((np.arange(400) + 0.5) / 400)
far = {}
for N in (1, 4, 8, 16, 32):
    x = euler(jax.jit(flows.exact_velocity(lumps, path)), quantiles[:, None].astype("f"), np.linspace(1, 0, N + 1))
    far[N] = float(np.sqrt(((np.asarray(x)[:, 0] - flow_map(quantiles, 1.0, 0.0, 0.25)) ** 2).mean()))
assert all(1.7 < far[N] / far[2 * N] < 2.3 for N in (4, 8, 16))  # first order
far

# %% [markdown]
# ## 6. Straight, and straighter
#
# The lines that the *training* draws are straight. The trajectories of the flow are not, since the mean velocity bends
# where lines cross. Straightness is the mean squared difference between the velocity on the way and the whole
# displacement,
#
# $$S = \int_0^1 \mathbb E\,\Big\|\frac{dx_\tau}{d\tau} - (x_1 - x_0)\Big\|^2 d\tau
#   \qquad\text{[Liu et al. 2023, Eq. 4]}$$
#
# and 0 if each point moves on a line at one speed; then a single step of Euler's method is exact. **Reflow** gets
# there by a second training: take the pairs $(x_0, x_1)$ that the *flow* connects, and train on the lines between
# them. They do not cross, so the new loss goes to 0. For $\mathcal N(\mu,\lambda)$ the pairs are $x_0 = \mu +
# \sqrt\lambda\,x_1$, and the new velocity is $x_1 - x_0$ with $x_1$ expressed by $x_\tau$.
#
# ### Exercise 19.6 - straightness, and the reflowed velocity


# %%
def straightness(x, times):
    """S of trajectories whose points are known at some times, linear in between.

    x: (N+1, B) points at the times;  times: (N+1,) from 0 to 1, not evenly spaced  ->  number, the mean over B
    """
    ### BEGIN SOLUTION
    steps = np.diff(times)
    speed = np.diff(x, axis=0) / steps[:, None]
    return float((steps[:, None] * (speed - (x[-1] - x[0])) ** 2).sum(0).mean())
    ### END SOLUTION


def reflowed(x, tau, mean, var):
    """x_1 - x_0 of the line through x at τ, where x_0 = μ + √λ x_1.   x: (B,);  tau, mean, var: numbers  ->  (B,)"""
    ### BEGIN SOLUTION
    x_1 = (x - (1 - tau) * mean) / ((1 - tau) * np.sqrt(var) + tau)
    return x_1 * (1 - np.sqrt(var)) - mean
    ### END SOLUTION


# %% [markdown]
# The flow of $\mathcal N(\mu, \lambda)$ has $S = (2-\frac\pi2)\sqrt\lambda$. The reflowed one has 0, its loss on its
# pairs is 0, and one step is exact. The two lumps bend more than a Gaussian of the same variance. (In more than one
# dimension reflow gives the exact map of a Gaussian too; in general it makes trajectories straighter, and each round
# adds the errors of the one before.)

# %%
fine = np.linspace(0, 1, 401)
z = quantiles / quantiles.std()
for mean, var in ((0.0, 1.0), (0.7, 0.25)):
    way = np.array([(1 - t) * mean + np.sqrt((1 - t) ** 2 * var + t**2) * z for t in fine])
    assert np.isclose(straightness(way, fine), (2 - np.pi / 2) * np.sqrt(var), rtol=1e-3)
    pairs = mean + np.sqrt(var) * z, z
    for t in (0.0, 0.3, 1.0):
        assert np.allclose(reflowed((1 - t) * pairs[0] + t * pairs[1], t, mean, var), pairs[1] - pairs[0])
    assert np.allclose(euler(lambda x, t, m=mean, v=var: reflowed(x, t, m, v), z, [1.0, 0.0]), pairs[0])
bent = straightness(np.array([flow_map(quantiles, 1.0, t, 0.04) for t in fine[::8]]), fine[::8])
assert bent > (2 - np.pi / 2) * np.sqrt(1.04)
bent

# %% [markdown]
# ## 7. A tour: DDPM, EDM, flow, one family
#
# Four papers, one regression. Each takes the same point between an image and its noise and gives it a clock, a scale
# and a target. The table is computed: for one and the same $x_0$ and $\varepsilon$, each row says what its clock shows
# at three levels, how large its target is on data of variance ¼, with which weight its squared error is that of
# $\hat\varepsilon$, and where one step of Euler's method in its own variables lands.


# %%
def kin(a_bar, x0, eps, d=0.5):
    """{name: (clock, scaled point, target)} of the same x_0 and ε; d = σ_data of EDM."""
    a, b = np.sqrt(a_bar), np.sqrt(1 - a_bar)
    sigma = b / a
    r, noisy = np.sqrt(sigma**2 + d**2), x0 + sigma * eps
    return {
        "DDPM: ε at t": (int(np.argmin(np.abs(np.asarray(linear.alpha_bar) - a_bar))), a * x0 + b * eps, eps),
        "v at the angle φ": (np.arctan2(b, a), a * x0 + b * eps, a * eps - b * x0),
        "EDM: F at σ": (sigma, noisy, (x0 - d**2 / r**2 * noisy) * r / (sigma * d)),
        "flow: u at τ": (b / (a + b), (a * x0 + b * eps) / (a + b), eps - x0),
    }


def weights(a_bar, d=0.5):
    """By what the squared error of ε̂ is multiplied, if the same network's error is expressed in the target."""
    x_t, e = 0.3, 1e-3  # a point, and an error of ε̂ there
    moved = []
    for eps in (0.7, 0.7 + e):
        x0 = (x_t - np.sqrt(1 - a_bar) * eps) / np.sqrt(a_bar)  # the x̂0 that belongs to this ε̂
        moved.append([target for _, _, target in kin(a_bar, x0, eps, d).values()])
    return ((np.diff(moved, axis=0)[0] / e) ** 2).tolist()


# %% [markdown]
# Euler's step, each in its own clock: $d\bar x = \varepsilon\,d\sigma$ for EDM's $\bar x = x_t/a$, $dx = u\,d\tau$ for
# the flow, and $dx = v\,d\varphi$ for the angle. The first two land where DDIM lands. A straight step in the angle
# does not: the exact motion of a point with frozen $x_0$ and $\varepsilon$ is a circle there.


# %%
def landing(a_bar, s_bar, x0_hat, eps_hat):
    """Where one Euler step from ᾱ to ᾱ_s lands, in units of DDIM's x_s: {name: distance}."""
    here, there = kin(a_bar, x0_hat, eps_hat), kin(s_bar, x0_hat, eps_hat)  # DDIM: same x̂0 and ε̂ at the new level
    sigma, point, _ = here["EDM: F at σ"]
    found = {"EDM: F at σ": point + (there["EDM: F at σ"][0] - sigma) * eps_hat}
    for name in ("v at the angle φ", "flow: u at τ"):
        clock, point, target = here[name]
        found[name] = point + (there[name][0] - clock) * target
    return {name: float(np.abs(x - there[name][1]).max()) for name, x in found.items()}


LEVELS = (0.9, 0.5, 0.1)
x0, eps = 0.5 * rng.normal(size=n), rng.normal(size=n)
tour = {name: {"clock": [], "size": [], "weight": []} for name in kin(0.5, x0, eps)}
for a_bar in LEVELS:
    for (name, (clock, _, target)), weight in zip(kin(a_bar, x0, eps).items(), weights(a_bar), strict=True):
        for key, value in (("clock", clock), ("size", np.mean(target**2)), ("weight", weight)):
            tour[name][key].append(float(value))
landed = landing(0.1, 0.5, x0[:50], eps[:50])
tour

# %% [markdown]
# What to read off: the four losses differ by a weight on the error of $\hat\varepsilon$ that depends on the level
# only. DDPM weighs all levels alike; the velocity has $1/(1-\tau)^2$, so it cares much about the noisy ones. EDM's
# target has size one at every level, which is its purpose. The best network is the same for all of them.

# %%
for i, a_bar in enumerate(LEVELS):
    a, b = np.sqrt(a_bar), np.sqrt(1 - a_bar)
    truth = [1, 1 / a**2, (b**2 + 0.25 * a**2) / (0.25 * a**2), ((a + b) / a) ** 2]
    assert np.allclose([row["weight"][i] for row in tour.values()], truth, rtol=1e-4)
    assert np.isclose(truth[3], 1 / (1 - float(flow_time(a_bar))) ** 2, rtol=1e-5)
assert np.allclose(tour["EDM: F at σ"]["size"], 1, atol=6 * np.sqrt(2 / n))
assert np.allclose(tour["flow: u at τ"]["size"], 1.25, atol=8 / np.sqrt(n))
assert landed["EDM: F at σ"] < 1e-12 and landed["flow: u at τ"] < 1e-12 and landed["v at the angle φ"] > 0.1

# %% [markdown]
# ## 8. Learn it
#
# A small network learns the velocity of two narrow lumps, $\frac12\mathcal N(\pm1,.04)$. Its loss should start at
# $1+1.04$ and come down to 1.316, which is the mean of the variance of $\varepsilon - x_0$ at each point: the least
# that is possible.

# %%
VAR, WIDTH, BATCH = 0.04, 64, 512
n_steps = {"smoke": 150, "short": 3000, "full": 20_000}[BUDGET]


def network(p, x, tau):
    """û(x, τ): three layers.   x: (B, 1);  tau: (B,)  ->  (B, 1)"""
    tau = jnp.broadcast_to(tau, len(x))[:, None]
    waves = [f(k * jnp.pi * tau) for k in (1, 2) for f in (jnp.sin, jnp.cos)]
    h = jnp.concatenate([x, x * tau, tau, *waves], axis=1)
    for layer in p[:-1]:
        h = jax.nn.silu(h @ layer["w"] + layer["b"])
    return h @ p[-1]["w"] + p[-1]["b"]


def first(key):
    """The first parameters; the last layer is 0, so that û = 0."""
    sizes = (7, WIDTH, WIDTH, WIDTH, 1)
    pairs = zip(jax.random.split(key, 4), itertools.pairwise(sizes), strict=True)
    draw = jax.random.normal
    return [{"w": draw(k, (i, o)) * np.sqrt(2 / i) * (o > 1), "b": jnp.zeros(o)} for k, (i, o) in pairs]


# %%
tx = optax.adam(optax.cosine_decay_schedule(2e-3, n_steps))


def train_step(state, key):
    """One step of Adam on a new batch: the parameters, their average and Adam's state; and the loss."""
    p, average, opt = state
    keys = jax.random.split(key, 4)
    x0 = jax.random.rademacher(keys[0], (BATCH, 1), float) + np.sqrt(VAR) * jax.random.normal(keys[1], (BATCH, 1))
    eps, tau = jax.random.normal(keys[2], (BATCH, 1)), jax.random.uniform(keys[3], (BATCH,))
    loss, grad = jax.value_and_grad(lambda p: flow_loss(lambda x, t: network(p, x, t), x0, eps, tau).mean())(p)
    update, opt = tx.update(grad, opt)
    p = optax.apply_updates(p, update)
    return (p, jax.tree.map(lambda a, b: 0.99 * a + 0.01 * b, average, p), opt), loss


p = first(jax.random.key(0))
keys = jax.random.split(jax.random.key(1), n_steps)
(_, learned, _), losses = jax.jit(lambda s, k: jax.lax.scan(train_step, s, k))((p, p, tx.init(p)), keys)
losses = np.asarray(losses)

# %% [markdown]
# The floor, by quadrature: with the posterior mean and variance of $x_0$ at each point of $x_\tau$,
# $\mathrm{Var}[\varepsilon - x_0\mid x] = \mathrm{Var}[x_0\mid x]/\tau^2$.


# %%
def spread(x, tau, var=VAR):
    """Var[x0 | x_τ = x] of ½N(±1, var), and E[x0 | x_τ = x]."""
    a, v = 1 - tau, (1 - tau) ** 2 * var + tau**2
    right = 1 / (1 + np.exp(np.clip(-2 * a * x / v, -700, 700)))
    ends = [m + a * var / v * (x - a * m) for m in (1.0, -1.0)]
    mean = right * ends[0] + (1 - right) * ends[1]
    return right * ends[0] ** 2 + (1 - right) * ends[1] ** 2 + var * tau**2 / v - mean**2, mean


floor = float(
    np.mean([(spread(flow_map(quantiles, 1, t, VAR), t)[0] / t**2).mean() for t in (np.arange(100) + 0.5) / 100])
)
assert np.isclose(floor, 1.31601, atol=5e-3) and np.isclose(losses[0], 2.04, atol=0.3)
last = float(losses[-n_steps // 10 :].mean())
assert BUDGET == "smoke" or abs(last / floor - 1) < 0.05  # it ends at the floor, and not at 0
floor, last

# %% [markdown]
# And the map. With 32 steps of Euler's method the network moves each noise nearly where the exact flow does. With
# fewer steps the map is too flat, above all between the lumps, where the exact one is steep: those steps put points
# where there are no data. The number is the root mean squared distance between the maps.

# %%
steps_32 = np.linspace(1, 0, 33)
exact = flow_map(quantiles, 1.0, 0.0, VAR)
run = jax.jit(network)
by_network = {
    N: euler(lambda x, tau: run(learned, x, jnp.float32(tau)), quantiles[:, None].astype("f"), steps_32[:: 32 // N])
    for N in (1, 2, 4, 32)
}
apart = {N: float(np.sqrt(((np.asarray(x)[:, 0] - exact) ** 2).mean())) for N, x in by_network.items()}
assert apart[32] < apart[1]
assert BUDGET == "smoke" or apart[32] < 0.15
apart

# %% [markdown]
# ## 9. The network that you have is a flow
#
# The shipped network of garments predicts $\hat\varepsilon$. Exercise 19.1 read backwards makes it a velocity, $\hat u
# = ((a+b)\hat\varepsilon - x_t)/a$, and Euler's method in $\tau$ draws with it. Below are four calls from the same
# noise with three lists: even in $\tau$, shifted to the noisy end by $\tau' = 3\tau/(1+2\tau)$ as Stable Diffusion 3
# does, and even in $t$. The lists are what differs, not the model.

# %%
garments = model.load("fashion_mnist")
ab = np.asarray(garments.schedule.alpha_bar, np.float64)
TOP, B = 950, 10
clock = np.asarray(flow_time(ab))
ask = jax.jit(garments.eps)


def learned_velocity(x, tau):
    """û of the shipped network at the level of the chain that is nearest to τ; x is on the straight line."""
    t = int(np.argmin(np.abs(clock - tau)))
    a, b = np.sqrt(ab[t]), np.sqrt(1 - ab[t])
    eps_hat = ask(x * (a + b), jnp.full(B, t), jnp.arange(B))
    return ((a + b) * eps_hat - x * (a + b)) / a


lists = {"even in τ": np.linspace(1, 0, 5)}
lists["shifted by 3"] = 3 * lists["even in τ"] / (1 + 2 * lists["even in τ"])
lists = {
    name: np.r_[clock[[np.argmin(np.abs(clock - tau)) for tau in np.minimum(times[:-1], clock[TOP])]], 0]
    for name, times in lists.items()
}
lists["even in t"] = clock[np.round(np.linspace(TOP, 0, 5)).astype(int)]
start = jax.random.normal(jax.random.key(4), (B, 28, 28, 1)) / (np.sqrt(ab[TOP]) + np.sqrt(1 - ab[TOP]))
drawn = {name: np.asarray(euler(learned_velocity, start, times)) for name, times in lists.items()}

# %% [markdown]
# One step of it is the DDIM step of the library, to rounding.

# %%
x_t, t, s = start * (np.sqrt(ab[TOP]) + np.sqrt(1 - ab[TOP])), TOP, 500
theirs = ddim_step(ask, garments.schedule, jnp.arange(B))(jax.random.key(0), x_t, t, s)
ours = euler(learned_velocity, start, [clock[t], clock[s]]) * (np.sqrt(ab[s]) + np.sqrt(1 - ab[s]))
assert np.allclose(ours, theirs, atol=2e-3)
assert all(np.isfinite(x).all() for x in drawn.values())

# %% [markdown]
# ## 10. The picture
#
# Above are the exact trajectories of the two lumps and those of the network. Next to it the map from noise to data:
# exact, and by the network in one, two, four and 32 steps. Below: the loss between its two numbers, the gain by list,
# the tour as a table, and garments in four calls.


# %%
def draw_maps(ways, maps):
    """Trajectories, and the map from noise to data."""
    tau = np.linspace(0, 1, 61)
    for q in ndtri(np.linspace(0.04, 0.96, 12)):
        exact_way = [flow_map(np.array([q]), 1.0, t, VAR)[0] for t in tau]
        ways.plot(tau, exact_way, color="#1b4f72", lw=1, label="exact" if q < -1.7 else None)
        x, way = np.full((1, 1), q, "f"), [q]
        for a, b in itertools.pairwise(steps_32):
            x = x + (b - a) * run(learned, x, jnp.float32(a))
            way.append(float(x[0, 0]))
        ways.plot(steps_32, way, "--", color="#c0392b", lw=1, label="network" if q < -1.7 else None)
    ways.set(xlabel=r"$\tau$ (data at 0, noise at 1)", ylabel="x", title="trajectories")
    maps.plot(quantiles, exact, color="#1b4f72", lw=2.5, label="exact")
    for N, x in by_network.items():
        maps.plot(quantiles, x, "--", lw=1.2, label=f"network, {N} step{'s' * (N > 1)}")
    maps.set(xlabel="noise", ylabel="data", title="flow map", ylim=(-1.8, 3.2))
    ways.set(ylim=(-1.8, 2.9))
    for axis in (ways, maps):
        axis.legend(frameon=False, fontsize=7, loc="upper left")


# %%
def draw_curves(curve, gains):
    """The loss with its two numbers, and the gain of lists."""
    width = max(1, n_steps // 60)
    curve.plot(np.convolve(losses, np.ones(width) / width, "valid"), color="#b5523b", lw=1.2)
    for value, name in ((2.04, "start: 1 + E x²"), (floor, f"floor: {floor:.3f}")):
        curve.axhline(value, color="grey", ls="--", lw=1)
        curve.text(n_steps, value + 0.02, name, ha="right", fontsize=7)
    curve.set(xlabel="step", ylabel="flow-matching loss", title="a healthy loss", ylim=(1.1, 2.25))
    N = [1, 2, 4, 8, 16]
    gains.plot(N, [table[0.25, k][1] for k in N], "k:", label="equal angles, any λ")
    for var, colour in ((1.0, "#1b4f72"), (0.25, "#2e86c1"), (0.01, "#e59866")):
        gains.plot(N, [table[var, k][0] for k in N], "o-", ms=3, color=colour, label=f"even in τ, λ = {var:g}")
    gains.set(xscale="log", xlabel="steps", ylabel="share of the deviation", title="what few steps leave")
    gains.set_xticks(N, N)
    gains.minorticks_off()
    gains.legend(frameon=False, fontsize=7)


# %%
def draw_tour(axis):
    """The table of section 7."""
    rows = []
    for name, row in tour.items():
        cells = [
            " ".join(format(a, f) for a in row[k]) for k, f in (("clock", ".3g"), ("size", ".2f"), ("weight", ".3g"))
        ]
        rows.append([*cells, f"{landed[name]:.2f}" if name in landed else "is DDIM"])
    clock_at = f"clock at ᾱ = {', '.join(map(str, LEVELS))}"
    columns = [clock_at, "E target², data variance ¼", "weight of ‖ε-ε̂‖²", "Euler step - DDIM"]
    drawn_table = axis.table(rows, rowLabels=list(tour), colLabels=columns, loc="center", cellLoc="center")
    drawn_table.auto_set_font_size(False)
    drawn_table.set_fontsize(8)
    drawn_table.scale(1, 1.5)
    axis.axis("off")
    axis.set_title("one family", fontsize=10)


# %%
def picture():
    """The figure of this lesson."""
    figure = plt.figure(figsize=(11, 10.5), layout="constrained")
    above, middle, below = figure.subfigures(3, 1, height_ratios=[1.35, 0.7, 1.1])
    (ways, maps, curve, gains) = above.subplots(2, 2).ravel()
    draw_maps(ways, maps)
    draw_curves(curve, gains)
    for axis in (ways, maps, curve, gains):
        axis.spines[["top", "right"]].set_visible(False)
    draw_tour(middle.subplots())
    axis = below.subplots()
    axis.imshow(plot.grid(np.clip(np.concatenate(list(drawn.values())), -1, 1), B)[..., 0], cmap="gray")
    axis.set_yticks(16 + 30 * np.arange(len(drawn)), list(drawn), fontsize=9)
    axis.set(xticks=[], title="the shipped network as a flow, four calls, the same noise")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    return figure


# %%
if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l19.png", dpi=150)
    numbers = {
        "gain": {f"variance {var:g}, {N} steps": pair for (var, N), pair in table.items()},
        "loss": {"start": float(losses[0]), "last": last, "floor": floor, "steps": n_steps},
        "map_rms": apart,
        "straightness_of_two_lumps": bent,
        "tour": tour,
        "euler_step_minus_ddim": landed,
        "budget": BUDGET,
    }
    (out / "l19.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(f"L19: the loss ends at {last:.3f}, its floor is {floor:.3f}; the map is {apart[32]:.3f} off. out/l19.png")

# %% [markdown]
# ## What to take along
#
# - $\tau = b/(a+b)$ is a clock, $u=\varepsilon-x_0$ a name for the prediction. A chain is a flow, DDIM is Euler's
#   method.
# - A healthy loss starts at $1+\mathbb E[x_0^2]$ and ends above 0, at a number that the data decide.
# - The flow map is exact on a line: quantile to quantile. How many steps it takes is a matter of the list of times.
# - Lines of the training are straight, trajectories are not. Reflow makes them straighter.
#
# ## Further reading
#
# - Lipman et al. 2023, *Flow Matching for Generative Modeling*. Section 3 is sections 2 and 3 here.
# - Liu, Gong, Liu 2023, *Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow*.
# - Karras et al. 2022, *Elucidating the Design Space of Diffusion-Based Generative Models*. Its Table 1 is our tour.
# - Albergo, Vanden-Eijnden 2023, *Building Normalizing Flows with Stochastic Interpolants*.
# - Gao et al. 2024, *Diffusion Meets Flow Matching: Two Sides of the Same Coin*, a long and friendly essay.
