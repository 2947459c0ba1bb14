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
# # L7. Learning the variance
#
# | | |
# |---|---|
# | you learn | what the variance of a step is worth in bits, to learn it, and to compute the best one |
# | time | 75 minutes to read and do, 3 minutes to run |
# | difficulty | ●●●●○ |
# | importance | ●●●○○ |
# | paper | Nichol, Dhariwal 2021, *Improved DDPM*, Eqs. 15-16, Figs. 1-2; Bao et al. 2022, *Analytic-DPM*, Theorem 1 |
#
# Lesson 3 left a debt. With a *perfect* denoiser and a chain of fifty steps the samples came out too narrow: their
# variance was .854 instead of 1, because the steps had the wrong variance. The network predicts where a step should go.
# How far the step should scatter was decided by hand, $\beta$ or $\tilde\beta$. Here we find what that costs, then we
# let the network decide, and at last we compute the best variance there is, from a network that was never trained for
# it.

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
from ddpm.contracts import constant
from ddpm.datasets import sources
from ddpm.losses import bound, importance
from ddpm.networks import heads
from ddpm.sample import ddpm_step, walk
from ddpm.samplers import variance
from ddpm.tools import ops
from ddpm.zoo import model

# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how long to train, how much to draw
n = {"smoke": 4_000, "short": 20_000, "full": 200_000}[BUDGET]

# %% [markdown]
# ## 1. Two ends
#
# A step from $t$ to $s=t-1$ draws from $\mathcal N(\hat\mu, \sigma^2)$. Two values of $\sigma^2$ are exact, for two
# kinds of data: $\tilde\beta = \beta\,(1-\bar\alpha_s)/(1-\bar\alpha_t)$ if the data are a single point, and $\beta$ if
# they are $\mathcal N(0, I)$. The truth lies between. So we let the network predict *where* between, by a number $v$
# for each pixel [Nichol and Dhariwal 2021, Eq. 15]:
#
# $$\sigma^2 = \exp\big(v\log\beta + (1-v)\log\tilde\beta\big).$$
#
# Why the logarithms? When steps are skipped, the two differ by large factors near $t=0$: from $t=100$ to $s=1$ it is
# about a thousand. A mean of the numbers themselves would hardly leave the larger one.
#
# ### Exercise 7.1 - between the two


# %%
def between(beta, beta_tilde, v):
    """σ² of Eq. 15, pixel by pixel.   beta, beta_tilde: (B, 1);  v: (B, D), 0 … 1  ->  (B, D)"""
    ### BEGIN SOLUTION
    return jnp.exp(v * jnp.log(beta) + (1 - v) * jnp.log(beta_tilde))
    ### END SOLUTION


# %% [markdown]
# The two ends are close together nearly everywhere: the ratio $\tilde\beta/\beta$ is above .98 from $t=100$ of 1000 on
# (Fig. 1 of the paper). Can the choice matter at all? In samples it matters little. In bits it matters very much.

# %%
lib = schedule.linear(1000)
abar = np.asarray(lib.alpha_bar, np.float64)


def ends(a_t, a_s):
    """β and β̃ of the step t → s."""
    beta = 1 - a_t / a_s
    return beta, beta * (1 - a_s) / (1 - a_t)


beta, tilde = ends(abar[1:], abar[:-1])  # of t = 1…1000; β̃_1 = 0
assert np.isclose(tilde[1] / beta[1], 0.454736, atol=2e-4) and (tilde / beta)[99:].min() > 0.98
debt = 1.0  # of Lesson 3: its chain of fifty steps, with β̃, on N(0, 1)
for a_t, a_s in itertools.pairwise(np.asarray(schedule.linear(50).alpha_bar, np.float64)[::-1]):
    debt = a_t / a_s * debt + ends(a_t, a_s)[1]
assert round(debt, 3) == 0.854
assert 900 < np.divide(*ends(abar[100], abar[1])) < 1100  # β/β̃ where steps are skipped
some = np.array([2, 10, 500])
v = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 5)), jnp.float32)
ours = between(beta[some - 1][:, None], tilde[some - 1][:, None], v)
learned = variance.learned(lambda x, t, c: 2 * v - 1)  # the library's network predicts v in [-1, 1]
assert np.allclose(ours, learned(lib, jnp.zeros((3, 5)), jnp.asarray(some), jnp.asarray(some - 1)), rtol=1e-3)
assert np.allclose(between(beta[9], tilde[9], 0.0), tilde[9]) and np.allclose(between(beta[9], tilde[9], 1.0), beta[9])

# %% [markdown]
# ## 2. Bits
#
# A model that gives an image the probability $P$ can store it in $-\log_2 P$ bits. Images are made of bytes: 256 values
# which in $[-1, 1]$ lie $2/255$ apart. A normal distribution gives a byte the probability mass of its bin,
# $x \pm \frac1{255}$. The mass beyond the ends goes to the first bin and to the last [Ho et al. 2020, Eq. 13].
#
# ### Exercise 7.2 - the mass of a byte
# $\Phi$ is `jax.scipy.special.ndtr`, the normal distribution function.


# %%
def byte_mass(x, mean, std):
    """The mass that N(mean, std²) puts on the bin of each byte.   x: bytes as -1, …, 1;  all: (B, D)  ->  (B, D)"""
    ### BEGIN SOLUTION
    low = jax.scipy.special.ndtr((x - 1 / 255 - mean) / std)
    high = jax.scipy.special.ndtr((x + 1 / 255 - mean) / std)
    return jnp.where(x > 0.999, 1.0, high) - jnp.where(x < -0.999, 0.0, low)
    ### END SOLUTION


# %%
all_bytes = jnp.arange(256)[None, :] / 127.5 - 1  # (1, 256)
for mean, std in ((0.0, 0.02), (0.3, 0.5), (-1.2, 0.1), (0.9, 3.0)):
    assert abs(float(byte_mass(all_bytes, mean, std).sum()) - 1) < 1e-5  # it is a distribution on bytes
few = all_bytes[:, 100:160]
nats = bound.decoder_nll(few, 0.05 * jnp.ones_like(few), jnp.full_like(few, 0.2**2))
assert np.allclose(-np.log(byte_mass(few, 0.05, 0.2)), nats, atol=2e-3)

# %% [markdown]
# The whole walk gives a bound on the bits, the **variational bound**. Each step adds one term, the Kullback-Leibler
# divergence of our step from the one that knows $x_0$, $q(x_s\mid x_t,x_0)$. The last step adds the bits of the byte
# [Ho et al. 2020, Eq. 5]. For two normal distributions
#
# $$\mathrm{KL}\big(\mathcal N(\mu,\sigma^2)\,\|\,\mathcal N(\mu',\sigma'^2)\big)
#   = \tfrac12\Big(\log\frac{\sigma'^2}{\sigma^2} + \frac{\sigma^2+(\mu-\mu')^2}{\sigma'^2} - 1\Big)$$
#
# in nats. Divide by $\log 2$ and average over the numbers of an image, and you have *bits/dim*.
#
# ### Exercise 7.3 - a term of the bound, and a bet
# **Before you run it:** take data $\mathcal N(0, \frac14)$, the perfect denoiser and a thousand steps. What share of
# all the bits do the terms of the hundred smallest times ($t\le100$) carry?


# %%
def kl_bits(mean, var, mean_hat, var_hat):
    """KL(N(mean, var) ‖ N(mean_hat, var_hat)) of each image in bits/dim.   all: (B, ...)  ->  (B,)"""
    ### BEGIN SOLUTION
    nats = 0.5 * (jnp.log(var_hat / var) + (var + (mean - mean_hat) ** 2) / var_hat - 1)
    return nats.reshape(len(mean), -1).mean(1) / jnp.log(2.0)
    ### END SOLUTION


def share_of_the_first_hundred():
    """Your bet, between 0 and 1.   ->  a number"""
    ### BEGIN SOLUTION
    return 0.85
    ### END SOLUTION


# %% [markdown]
# For these data everything is known. The perfect denoiser guesses $x_0$ with an error of variance
# $\lambda(1-\bar\alpha_t)/D$, where $D=\bar\alpha_t\lambda+1-\bar\alpha_t$, and $\mu-\hat\mu$ is that error times
# $c_0=\sqrt{\bar\alpha_s}\,\beta/(1-\bar\alpha_t)$. The average term is therefore the formula above with
# $c_0^2\,\lambda(1-\bar\alpha_t)/D$ in place of $(\mu-\hat\mu)^2$.


# %%
def mean_gap(a_t, a_s, lam):
    """E (μ - μ̂)² of the step t → s with the perfect denoiser of N(0, λ)."""
    return a_s * ((1 - a_t / a_s) / (1 - a_t)) ** 2 * lam * (1 - a_t) / (a_t * lam + 1 - a_t)


def terms(sigma2, lam=0.25):
    """The bound's terms of t = 2…1000, for steps with these variances (999,)."""
    gap = np.sqrt(mean_gap(abar[2:], abar[1:-1], lam))
    return np.asarray(kl_bits(*(a[:, None] for a in (gap, tilde[1:], 0 * gap, sigma2))), np.float64)


by_t = {"β": terms(beta[1:]), "β̃": terms(tilde[1:])}
share = {name: float(term[:99].sum() / term.sum()) for name, term in by_t.items()}
assert all(0.84 < s < 0.88 for s in share.values())
x0 = 0.5 * jax.random.normal(jax.random.key(0), (n, 1))  # and by drawing, with the library
noise = jax.random.normal(jax.random.key(1), x0.shape)
drawn = bound.bound_term(oracle.gaussian([0.0], 0.25).eps(lib), lib, "fixed_large")(x0, 10, 9, noise)
assert abs(drawn.mean() - by_t["β"][8]) < 6 * drawn.std() / np.sqrt(n)
share

# %% [markdown]
# About 85 %, and that is where $\tilde\beta$ and $\beta$ differ! Details too small to be seen in a picture make up most
# of its bits.
#
# ## 3. Learn it
#
# The network gets a second output, $v$, next to $\hat\varepsilon$. Which loss teaches it? $L_\text{simple}$ does not
# contain $\sigma$. The bound $L_\text{vlb}$ does, but it is a poor teacher for $\hat\varepsilon$: with
# $\sigma^2=\beta$, its weight on the squared error is 40 times larger at $t=2$ than at the median step, so a
# few small times drown the others. So each loss teaches one thing [Eq. 16]:
#
# $$L_\text{hybrid} = L_\text{simple} + \lambda\,L_\text{vlb}, \qquad \lambda = .001,$$
#
# and a *stop-gradient* makes $\hat\varepsilon$ a constant inside $L_\text{vlb}$: the variance learns to fit the mean as
# it is. $L_\text{vlb}$ is the *sum* of all terms, so the mean over times drawn at random has to be multiplied by $T$.
#
# ### Exercise 7.4 - the hybrid loss
# > **Note.** `term(eps_hat, v)` gives the mean of the bound's terms over the batch. `jax.lax.stop_gradient` is what you
# > need.


# %%
def hybrid(eps, eps_hat, v, term, T):
    """L_simple + .001 L_vlb.   eps, eps_hat, v: (B, ...);  term: (eps_hat, v) -> number;  T: int  ->  number"""
    ### BEGIN SOLUTION
    return jnp.mean((eps - eps_hat) ** 2) + 0.001 * T * term(jax.lax.stop_gradient(eps_hat), v)
    ### END SOLUTION


# %% [markdown]
# We build a small network for scikit-learn's digits from the residual blocks of Lesson 4, with two outputs. (The first
# is the velocity of Lesson 3, from which $\hat\varepsilon$ follows. At high noise $\hat\varepsilon$ is nearly $x_t$,
# and so a small network need not learn to copy.) Before training we check the claim, to the last bit: the gradient of
# the hybrid loss with respect to $\hat\varepsilon$ is that of $L_\text{simple}$.

# %%
digits = sources.load("digits")
train_x = jnp.asarray(data.to_float(digits.x_train)).reshape(-1, 64)
WIDTH = 256


# %%
def init(key):
    """Three residual blocks between two linear maps; the outputs begin at 0, and so v at ½."""
    k = jax.random.split(key, 7)
    blocks = [
        (
            jax.random.normal(k[2 * i], (WIDTH, WIDTH)) / 16,
            jax.random.normal(k[2 * i + 1], (64, WIDTH)) / 8,
            jnp.zeros((WIDTH, WIDTH)),
        )
        for i in range(3)
    ]
    return {"in": jax.random.normal(k[6], (64, WIDTH)) / 8, "blocks": blocks, "out": jnp.zeros((WIDTH, 128))}


def net(params, x_t, t):
    """ε̂ and v: (B, 64) each."""
    h, e = x_t @ params["in"], ops.time_embedding(t, 64)
    for w_h, w_e, w_out in params["blocks"]:
        h = h + jax.nn.silu(h @ w_h + e @ w_e) @ w_out
    velocity, out = jnp.split(h @ params["out"], 2, axis=1)
    return heads.eps_from_v(lib, x_t, t, velocity), 0.5 * (out + 1)


# %%
def bits_of(x0, t, noise):
    """term(ε̂, v) of a batch: the library's, with the variance between the two ends."""

    def term(eps_hat, v):
        middle = variance.learned(constant(2 * v - 1))
        return bound.bound_term(constant(eps_hat), lib, middle)(x0, t, t - 1, noise).mean()

    return term


def loss(params, x0, t, noise):
    """L_hybrid of a batch."""
    eps_hat, v = net(params, forward.q_sample(lib, x0, t, noise), t)
    return hybrid(noise, eps_hat, v, bits_of(x0, t, noise), lib.T)


x0, noise, guess = train_x[:64], *jax.random.normal(jax.random.key(2), (2, 64, 64))
t = jnp.arange(1, 65) * 15
both = jax.jit(jax.grad(lambda e: hybrid(noise, e, 0.5 + 0 * e, bits_of(x0, t, noise), lib.T)))(guess)
alone = jax.jit(jax.grad(lambda e: jnp.mean((noise - e) ** 2)))(guess)
assert np.array_equal(both, alone)
weight = beta[1:] / (1 - beta[1:]) / (1 - abar[2:]) / 2  # of ‖ε - ε̂‖² in L_vlb, t = 2…1000, σ² = β
assert round(weight[0] / np.median(weight)) == 40

# %% [markdown]
# Now we train the network. In the end $v$ is no longer ½, and the loss has come down. Since the gradients agree,
# $\hat\varepsilon$ has learned as if nothing else were there.

# %%
count = {"smoke": 60, "short": 3_000, "full": 40_000}[BUDGET]
adam = optax.adam(optax.cosine_decay_schedule(2e-3, count))


@partial(jax.jit, static_argnames="count")
def train(params, key, count):
    """`count` steps of Adam on L_hybrid, 64 digits each; and the losses."""

    def step(state, key):
        k = jax.random.split(key, 3)
        x0 = train_x[jax.random.randint(k[0], (64,), 0, len(train_x))]
        t, noise = jax.random.randint(k[1], (64,), 1, lib.T + 1), jax.random.normal(k[2], x0.shape)
        value, slope = jax.value_and_grad(loss)(state[0], x0, t, noise)
        change, moments = adam.update(slope, state[1])
        return (optax.apply_updates(state[0], change), moments), value

    (params, _), losses = jax.lax.scan(step, (params, adam.init(params)), jax.random.split(key, count))
    return params, losses


params, losses = train(init(jax.random.key(3)), jax.random.key(4), count)
assert losses[-20:].mean() < losses[:20].mean() and params["out"][:, 64:].any()  # what makes v began at 0
float(losses[-20:].mean())

# %% [markdown]
# ## 4. Draw the times that matter
#
# $L_\text{vlb}$ is a sum of which a few terms carry most, so its estimate from random times jumps about. The remedy is
# **importance sampling**. Draw $t$ with probability $p_t$ and divide: $\sum_t L_t = \mathbb E_{t\sim p}[L_t/p_t]$ for
# every $p$, and this is least noisy for $p_t\propto\sqrt{\mathbb E[L_t^2]}$ [Sec. 3.3]. The expectation is estimated
# from the last losses of each time.
#
# ### Exercise 7.5 - probabilities and weights


# %%
def probabilities(last):
    """p_t ∝ √(mean of L_t²).   last: (T, k), the last k losses of each time  ->  (T,), sum 1"""
    ### BEGIN SOLUTION
    root = np.sqrt((last**2).mean(1))
    return root / root.sum()
    ### END SOLUTION


def weights(p):
    """The factors of losses drawn with p, so that their mean estimates the *mean* of all L_t.   p: (T,)  ->  (T,)"""
    ### BEGIN SOLUTION
    return 1 / (len(p) * p)
    ### END SOLUTION


# %% [markdown]
# The estimate is unbiased for any losses. Take the exact terms from above: with uniform times the mean square of the
# estimate is 25 times the square of its mean. With the best probabilities the estimate would not vary at all, if the
# losses of one time were all alike.

# %%
exact = by_t["β"]
p = probabilities(exact[:, None])
assert np.isclose((p * weights(p) * exact).sum(), exact.mean())
second_moment = {"uniform": float((exact**2).mean()), "importance": float((p * (weights(p) * exact) ** 2).sum())}
gain = second_moment["uniform"] / second_moment["importance"]
assert round(gain) == 25 and np.isclose(second_moment["importance"], exact.mean() ** 2)
rng = np.random.default_rng(1)
uneven = np.abs(rng.normal(size=(999, 10))) * exact[:, None]  # losses of one time that are not alike
q = probabilities(uneven)
assert np.isclose((q * weights(q) * uneven.mean(1)).sum(), uneven.mean())
memory = importance.LossHistory(jnp.asarray(np.vstack([np.zeros((1, 10)), uneven])), jnp.full(1000, 10))
assert np.allclose(importance.probabilities(memory, 0.001)[1:], 0.999 * q + 0.001 / 999, rtol=1e-3)
gain

# %% [markdown]
# ## 5. The best variance, without learning
#
# As a function of $\sigma'^2$, the term of the bound is least at $\sigma'^2 = \tilde\beta + \mathbb E(\mu-\hat\mu)^2$.
# The first part is what even the step that knows $x_0$ scatters, and the second is what we do not know of $x_0$. Both
# can be measured. If $\hat\varepsilon$ is the perfect guess, then $\Gamma_t = \mathbb E\|\hat\varepsilon\|^2/D$, with
# $D$ now the number of pixels, is the part of the noise's power that can be predicted, and [Bao et al. 2022, Theorem 1]
#
# $$\sigma^{*2} = \tilde\beta + c_0^2\,\frac{1-\bar\alpha_t}{\bar\alpha_t}\,(1-\Gamma_t),
#   \qquad c_0 = \frac{\sqrt{\bar\alpha_s}\,\beta}{1-\bar\alpha_t}.$$
#
# ### Exercise 7.6 - the best variance


# %%
def best_variance(alpha_bar_t, alpha_bar_s, gamma):
    """σ*² of the step t → s.   alpha_bar_t < alpha_bar_s, gamma: (n,)  ->  (n,)"""
    ### BEGIN SOLUTION
    beta = 1 - alpha_bar_t / alpha_bar_s
    c0 = np.sqrt(alpha_bar_s) * beta / (1 - alpha_bar_t)
    return beta * (1 - alpha_bar_s) / (1 - alpha_bar_t) + c0**2 * (1 - alpha_bar_t) / alpha_bar_t * (1 - gamma)
    ### END SOLUTION


# %%
def gamma_of(a, lam):
    """Γ of the perfect denoiser of N(0, λ): E ε*² = (1-ᾱ)/(ᾱλ + 1-ᾱ)."""
    return (1 - a) / (a * lam + 1 - a)


for lam in (1e-6, 0.25, 1.0):
    best = best_variance(abar[1:], abar[:-1], gamma_of(abar[1:], lam))
    assert np.allclose(best, tilde + mean_gap(abar[1:], abar[:-1], lam), rtol=1e-9)
    assert np.all(best[1:] > tilde[1:]) and np.all(best <= beta * (1 + 1e-9))
    library = variance.optimal(gamma_of(abar, lam))(lib, jnp.zeros((1, 1)), 300, 299)
    assert np.isclose(library, best[299], rtol=1e-3)
by_t["best"] = terms(best_variance(abar[2:], abar[1:-1], gamma_of(abar[2:], 0.25)))
assert np.all(by_t["best"] <= by_t["β"] + 1e-7) and np.all(by_t["best"] <= by_t["β̃"] + 1e-7)

# %% [markdown]
# **The debt is paid.** For data $\mathcal N(0,1)$ we compute the variance at the end of the walk. With fifty of the
# thousand times $\tilde\beta$ gives .857. The best variance gives 1, with any number of steps. (Here the last step
# scatters too. In the library, as in the papers, it does not, since that noise would be seen.)


# %%
def final_variance(times, kind, lam=1.0):
    """Var(x_0) at the end of a walk along a list of times, data N(0, λ) and the perfect denoiser."""
    v = 1.0
    for a_t, a_s in itertools.pairwise(abar[times]):
        beta, tilde = ends(a_t, a_s)
        g = np.sqrt(a_t) * lam / (a_t * lam + 1 - a_t)  # E[x0 | x_t] = g x_t
        slope = (np.sqrt(a_s) * beta * g + np.sqrt(a_t / a_s) * (1 - a_s)) / (1 - a_t)
        sigma2 = {"β": beta, "β̃": tilde, "best": tilde + mean_gap(a_t, a_s, lam)}[kind]
        v = slope**2 * v + (sigma2 if a_s < 1 or kind == "best" else 0.0)
    return float(v)


Ns = [10, 20, 50, 100, 200, 500, 1000]
lists = {N: schedule.make_times(1000, N) for N in Ns}
final = {kind: [final_variance(lists[N], kind) for N in Ns] for kind in ("β", "β̃", "best")}
assert np.allclose(final["best"], 1, atol=1e-4) and round(final["β̃"][2], 3) == 0.857
quarter = oracle.gaussian([0.0], 0.25).eps(lib)
for kind, name in (("β", "fixed_large"), ("β̃", "fixed_small")):
    x = walk(ddpm_step(quarter, lib, variance=name), jax.random.key(5), jax.random.normal(jax.random.key(6), (n, 1)),
             lists[20])  # fmt: skip
    assert abs(float(x.var()) / final_variance(lists[20], kind, 0.25) - 1) < 6 * np.sqrt(2 / n)
final["β̃"][2]

# %% [markdown]
# And what is the price in bits? If $r$ is the chosen variance over the best one, the price is
# $\frac12(\frac1r - 1 + \log r)$ nats a step. The fewer the steps, the worse is $\tilde\beta$: **.8 bits/dim with a
# thousand, 656 with ten.** This is why Nichol and Dhariwal learn the variance: then the bits do not explode when steps
# are skipped.


# %%
def price(N, kind, lam=0.25):
    """Bits/dim above the best, over N steps; in the last, the fixed kinds use β̃ of the step before, as Ho et al. do."""
    a = abar[schedule.make_times(1000, N, "linspace")][::-1]
    beta, tilde = ends(a[1:], a[:-1])
    best = tilde + mean_gap(a[1:], a[:-1], lam)
    chosen = np.append(tilde[1], (beta if kind == "β" else tilde)[1:])
    return float(0.5 * (best / chosen - 1 + np.log(chosen / best)).sum() / np.log(2))


prices = {kind: [price(N, kind) for N in Ns] for kind in ("β", "β̃")}
assert np.allclose([prices["β"][-1], prices["β̃"][-1]], [0.1654, 0.8222], atol=1e-3)
assert round(prices["β̃"][0]) == 656 and np.all(np.diff(prices["β̃"]) < 0) and prices["β"][0] < 0.2
prices

# %% [markdown]
# ## 6. The logarithm of nothing
#
# ### Exercise 7.7 - spot the bug
# Programs store $\log\tilde\beta$, since $v$ works on logarithms. But $\tilde\beta_1 = 0$, because the step to $t=0$
# that knows $x_0$ does not scatter. Ho et al. put $\tilde\beta_2$ in its place. A much copied line does this instead:


# %%
def published_log(alpha_bar):
    """With a bug."""
    beta = 1 - alpha_bar[1:] / alpha_bar[:-1]
    beta_tilde = beta * (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:])
    return np.log(np.maximum(beta_tilde, 1e-20))


def repaired_log(alpha_bar):
    """log β̃ of t = 1…T, with β̃_2 in place of β̃_1.   alpha_bar: (T+1,), ᾱ_0 = 1  ->  (T,)"""
    beta = 1 - alpha_bar[1:] / alpha_bar[:-1]
    beta_tilde = beta * (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:])
    ### BEGIN SOLUTION
    return np.log(np.append(beta_tilde[1], beta_tilde[1:]))
    ### END SOLUTION


# %% [markdown]
# Nothing happens to the samples, and so nobody notices. But compute the bits: a standard deviation of $10^{-10}$ is
# certain of a byte that it cannot know. A mean that is off by half a bin costs one bit. A mean that is off by a whole
# bin costs more than $10^{15}$ bits, over a hundred terabytes for one pixel. And a network that learns $v$ has to hit
# $v=1$ closely: $\log\sigma^2$ now runs from $-46$ to $-9.2$, so an error of .03 is a factor of 3 in the variance.

# %%
assert np.isclose(published_log(abar)[0], -46.05, atol=0.01) and np.isclose(repaired_log(abar)[0], -9.817, atol=0.01)
assert np.array_equal(published_log(abar)[1:], repaired_log(abar)[1:])
assert round(np.log(beta[0]), 1) == -9.2 and round(np.exp(0.03 * (np.log(beta[0]) - published_log(abar)[0]))) == 3
x, off = jnp.zeros((1, 2)), jnp.array([[1 / 255, 2 / 255]])  # by half a bin, and by a whole one
bits = {
    f.__name__: np.asarray(bound.decoder_nll(x, off, jnp.exp(jnp.full((1, 2), f(abar)[0])))[0] / np.log(2)).tolist()
    for f in (published_log, repaired_log)
}
assert bits["repaired_log"][1] < 10 and round(bits["published_log"][0], 2) == 1
assert bits["published_log"][1] > 1e15 and bits["published_log"][1] / 8 > 100e12  # eight bits are a byte
bits

# %% [markdown]
# ## 7. Digits
#
# What did the network learn? We evaluate it once at every time that is needed, on unseen digits. Then we combine its
# $\hat\varepsilon$ with each variance in turn: the two fixed ones, the one from its $v$, and $\sigma^*$ from its
# $\Gamma_t$.

# %%
steps_d = {"smoke": [5, 10, 25], "short": [10, 25, 50, 100, 250], "full": [10, 25, 50, 100, 250, 1000]}[BUDGET]
lists_d = {N: schedule.make_times(1000, N) for N in steps_d}
unseen = jnp.asarray(data.to_float(digits.x_test)).reshape(-1, 64)[: {"smoke": 50, "short": 100, "full": 297}[BUDGET]]
visited = np.unique(np.concatenate([times[:-1] for times in lists_d.values()]))
noises = {int(t): np.random.default_rng(t).normal(size=unseen.shape).astype(np.float32) for t in visited}
answer = jax.jit(net)
outputs = {t: [np.asarray(a) for a in answer(params, forward.q_sample(lib, unseen, t, z), jnp.full(len(unseen), t))]
        for t, z in noises.items()}  # fmt: skip
gammas = {t: float((eps_hat**2).mean()) for t, (eps_hat, _) in outputs.items()}
gamma_d = np.interp(np.arange(1001), [0, *gammas], [0.0, *gammas.values()])  # one noise each: a little rough


# %%
def variance_of(kind, t, s, last):
    """σ² of the step t → s; `last` is β̃ of the step before the last, used in the last."""
    beta, tilde = ends(abar[t], abar[s])
    if kind == "best":
        return best_variance(abar[t], abar[s], min(gamma_d[t], 1 - 1e-4))
    low = last if s == 0 else tilde
    if kind == "learned":
        return np.asarray(between(beta, low, outputs[int(t)][1]))
    return low if kind == "β̃" or s == 0 else beta


KINDS = ("β", "β̃", "learned", "best")


# %%
def bits_by_step(times):
    """{kind: the bound's terms along a list, (N,)} in bits/dim, means over the unseen digits."""
    last, out = ends(abar[times[-3]], abar[times[-2]])[1], {kind: [] for kind in KINDS}
    for t, s in itertools.pairwise(times.tolist()):
        x_t = forward.q_sample(lib, unseen, t, noises[t])
        mean_hat, _ = forward.q_posterior(lib, x_t, forward.x0_from_eps(lib, x_t, t, outputs[t][0]), t, s)
        mean, var = forward.q_posterior(lib, x_t, unseen, t, s)
        for kind in KINDS:
            var_hat = jnp.broadcast_to(jnp.asarray(variance_of(kind, t, s, last), jnp.float32), x_t.shape)
            if s == 0:
                term = bound.decoder_nll(unseen, mean_hat, var_hat) / np.log(2)
            else:
                term = kl_bits(mean, jnp.full_like(mean, var), mean_hat, var_hat)
            out[kind].append(float(term.mean()))
    return {kind: np.array(row) for kind, row in out.items()}


# %% [markdown]
# The term of one step agrees with the library's, to rounding. Then come the sums, for chains of few steps and of many.
# After enough training, the learned variance and $\sigma^*$ beat the fixed ones nearly everywhere. (With the perfect
# denoiser more steps cost fewer bits. Here they cost more: so small a network is wrong near $t=0$, and each step there
# adds its error.)

# %%
half = steps_d[-1] // 2  # a step in the middle
t, s = (int(k) for k in lists_d[steps_d[-1]][half : half + 2])
eps_t, middle = jnp.asarray(outputs[t][0]), variance.learned(constant(jnp.asarray(2 * outputs[t][1] - 1)))
one = bound.bound_term(constant(eps_t), lib, middle)(unseen, t, s, jnp.asarray(noises[t]))
digit_terms = {N: bits_by_step(times) for N, times in lists_d.items()}
assert np.isclose(digit_terms[steps_d[-1]]["learned"][half], one.mean(), rtol=1e-3)
digit_bits = {kind: {N: float(digit_terms[N][kind].sum()) for N in steps_d} for kind in KINDS}
digit_bits

# %%
if BUDGET != "smoke":
    few = steps_d[0]
    assert digit_bits["learned"][few] < digit_bits["β̃"][few]
    assert digit_bits["best"][few] < digit_bits["β"][few]
    assert digit_bits["learned"][steps_d[-1]] < digit_bits["β̃"][steps_d[-1]]
learned_v = {t: v for t, (_, v) in outputs.items()}
{t: round(float(v.mean()), 2) for t, v in list(learned_v.items())[:: max(1, len(learned_v) // 8)]}

# %% [markdown]
# ## 8. Garments
#
# The network of Lesson 4 was trained with $L_\text{simple}$ alone. Its best variance can be had all the same, without
# training: measure $\Gamma_t$ at some times, on a few garments that the network drew, and interpolate.

# %%
garments = model.load("fashion_mnist")
lib_g, labels = garments.schedule, jnp.arange(10)
abar_g = np.asarray(lib_g.alpha_bar, np.float64)
ask = jax.jit(lambda eps, x_t, t, c: eps(x_t, t, c))


# %%
def draw(N, kind, gamma=None, seed=0):
    """Ten garments in N steps with the variance of that kind; x̂0 is clipped to [-1, 1]."""
    x = jax.random.normal(jax.random.key(7), (10, 28, 28, 1))
    for i, (t, s) in enumerate(itertools.pairwise(schedule.make_times(1000, N))):
        eps_hat = ask(garments.eps, x, jnp.full(10, t), labels)
        x0_hat = jnp.clip(forward.x0_from_eps(lib_g, x, int(t), eps_hat), -1, 1)
        mean, _ = forward.q_posterior(lib_g, x, x0_hat, int(t), int(s))
        beta, tilde = ends(abar_g[t], abar_g[s])
        sigma2 = {"β": beta, "β̃": tilde}.get(kind)
        if kind == "best":
            sigma2 = best_variance(abar_g[t], abar_g[s], min(gamma[t], 1.0))
        z = jax.random.normal(jax.random.fold_in(jax.random.key(seed), i), x.shape)
        x = mean + (s > 0) * np.sqrt(sigma2) * z
    return np.asarray(x)


# %%
many = {"smoke": 8, "short": 100, "full": 1000}[BUDGET]
drawn = draw(many, "β̃")
places = np.unique(np.geomspace(1, 1000, {"smoke": 6, "short": 24, "full": 100}[BUDGET]).astype(int))
power = []
for t in places:
    noise = jax.random.normal(jax.random.key(int(t)), drawn.shape)
    x_t = forward.q_sample(lib_g, jnp.asarray(drawn), int(t), noise)
    power.append(float((ask(garments.eps, x_t, jnp.full(10, int(t)), labels) ** 2).mean()))
gamma_g = np.interp(np.arange(1001), [0, *places], [0.0, *power])
assert np.all(np.diff(power) > -0.05) and power[-1] > 0.95  # more noise is easier to predict

# %% [markdown]
# Now we take few steps. With $\beta$ the garments stay grainy, since each of the large steps scatters more than it
# should, and the last step finds more noise than it expects. With $\tilde\beta$ and $\sigma^*$ there is far less grain.

# %%
steps_g = {"smoke": [8], "short": [10, 25], "full": [10, 25, 50, 100]}[BUDGET]
few_steps = {(kind, N): draw(N, kind, gamma_g, seed=8) for N in steps_g for kind in ("β", "best", "β̃")}


def grain(x):
    """The mean square of what is left of the image after its 3 x 3 median is taken away."""
    pad = np.pad(x[..., 0], ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = np.stack([pad[:, i : i + 28, j : j + 28] for i in range(3) for j in range(3)])
    return float(((x[..., 0] - np.median(around, 0)) ** 2).mean())


grains = {f"{kind}, {N}": grain(x) / grain(drawn) for (kind, N), x in few_steps.items()}
if BUDGET != "smoke":
    assert grains["β, 10"] > 1.5 * grains["best, 10"]
grains

# %% [markdown]
# ## 9. The picture
#
# Above are the two ends, then where the bits are (Figs. 1 and 2 of the paper, exactly), then the debt of Lesson 3,
# paid. In the middle is the network of the digits. Below are ten garments in few steps, and only the variance differs.

# %%
COLOURS = {"β": "#b5523b", "β̃": "#7f8c8d", "learned": "#1e8449", "best": "#1f4e79"}
NAMES = {"β": r"$\beta$", "β̃": r"$\tilde\beta$", "learned": "learned", "best": r"$\sigma^*$"}


def draw_exact(ratio, bits, debt):
    """β̃/β; the bound's terms; the final variance."""
    for T in (100, 1000, 4000):
        a = np.asarray(schedule.cosine(T).alpha_bar, np.float64)
        both = ends(a[1:], a[:-1])
        ratio.semilogx(np.arange(1, T + 1) / T, both[1] / both[0], label=f"$T={T}$")
    ratio.set(xlabel="$t/T$", title=r"$\tilde\beta_t/\beta_t$, cosine schedule")
    t = np.arange(2, 1001)
    bits.loglog(t, by_t["best"], color=COLOURS["best"], label=r"with $\sigma^*$")
    for kind in ("β̃", "β"):  # below 1e-7 there is rounding only
        more = by_t[kind] - by_t["best"]
        bits.loglog(t, np.where(more > 1e-7, more, np.nan), color=COLOURS[kind], label=f"price of {NAMES[kind]}")
    bits.set(xlabel="$t$", ylim=(1e-7, 2), title=f"bits/dim by step (exact): {share['β']:.0%} in $t\\leq 100$")
    for kind in ("β̃", "β", "best"):
        debt.semilogx(Ns, final[kind], "o-", ms=3, color=COLOURS[kind], label=NAMES[kind])
    debt.set(xlabel="steps", title=r"variance of what is drawn (exact; right: 1)")
    debt.set_xticks(Ns, Ns, fontsize=7)
    debt.set_xticks([], minor=True)


# %%
def draw_digits(where, few, total):
    """The learned v by time; the bits by number of steps."""
    at = np.array([t for t in sorted(learned_v) if t <= 300])  # above, the two ends are the same to 1 %
    low, middle, high = np.array([np.quantile(learned_v[t], (0.1, 0.5, 0.9)) for t in at]).T
    where.semilogx(at, middle, color=COLOURS["learned"], label="learned $v$ (median, 80 % of pixels)")
    where.fill_between(at, low, high, color=COLOURS["learned"], alpha=0.2, lw=0)
    beta_at, tilde_at = ends(abar[at[at > 1]], abar[at[at > 1] - 1])
    chosen = best_variance(abar[at[at > 1]], abar[at[at > 1] - 1], np.minimum(gamma_d[at[at > 1]], 1 - 1e-4))
    v_best = np.log(chosen / tilde_at) / np.log(beta_at / tilde_at)
    where.semilogx(at[at > 1], v_best, color=COLOURS["best"], ls="--", lw=1, label=r"where $\sigma^*$ lies")
    where.set(xlabel="$t$", ylim=(-0.6, 1.6), title=r"digits: between $\tilde\beta$ (0) and $\beta$ (1)")
    for kind in KINDS:
        few.loglog(steps_d, list(digit_bits[kind].values()), "o-", ms=3, color=COLOURS[kind], label=NAMES[kind])
        total.loglog(Ns, prices[kind], "o-", ms=3, color=COLOURS[kind], label=NAMES[kind]) if kind in prices else None
    few.set(xlabel="steps", title=f"digits: bits/dim of {len(unseen)} unseen ones")
    total.set(xlabel="steps", title=r"$\mathcal{N}(0,\frac{1}{4})$: bits/dim above the best (exact)")
    few.set_xticks(steps_d, steps_d, fontsize=7)
    total.set_xticks(Ns, Ns, fontsize=7)
    for axis in (few, total):
        axis.set_xticks([], minor=True)


# %%
def draw_garments(axis):
    """Rows: a number of steps and a variance."""
    rows = {f"{NAMES[kind]}, {N} steps": x for (kind, N), x in few_steps.items()} | {f"{many} steps": drawn}
    axis.imshow(plot.grid(np.clip(np.concatenate(list(rows.values())), -1, 1), 10)[..., 0], cmap="gray")
    axis.set_yticks(16 + 30 * np.arange(len(rows)), rows, fontsize=9)
    axis.set(xticks=[])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def picture():
    """The figure of this lesson."""
    figure = plt.figure(figsize=(11, 12), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.1])
    axes = top.subplots(2, 3)
    draw_exact(*axes[0])
    draw_digits(*axes[1])
    for axis in axes.flat:
        axis.title.set_fontsize(9)
        axis.legend(frameon=False, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    draw_garments(bottom.subplots())
    return figure


# %%
if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l07.png", dpi=150)
    numbers = {
        "share_of_first_hundred": share,
        "final_variance": {"steps": Ns} | final,
        "price_bits": {"steps": Ns} | prices,
        "digits_bits": digit_bits | {"n": len(unseen)},
        "garments_grain": grains | {"n": 10},
        "importance_gain": gain,
        "budget": BUDGET,
    }
    (out / "l07.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(f"L7: 50 steps, variance {final['β̃'][2]:.3f} with β̃ and {final['best'][2]:.3f} with the best. out/l07.png")

# %% [markdown]
# ## What to take along
#
# - The variance of a step hardly shows in samples of a thousand steps. In bits, and with few steps, it decides.
# - Most of the bits lie where nobody looks. Let each loss teach what it is good at; a stop-gradient keeps them apart.
# - The best variance is what the step would scatter anyway, plus what is not known of $x_0$: one expectation, measured.
#
# ## Further reading
#
# - Nichol, Dhariwal 2021, *Improved Denoising Diffusion Probabilistic Models*. Section 3 is this lesson.
# - Bao et al. 2022, *Analytic-DPM: an Analytic Estimate of the Optimal Reverse Variance*; and *Estimating the Optimal
#   Covariance with Imperfect Mean*, which gives one number for each pixel.
# - Kingma et al. 2021, *Variational Diffusion Models*. The bound with infinitely many steps depends on the ends only.
