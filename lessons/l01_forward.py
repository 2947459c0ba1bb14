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
# # L1. The forward process
#
# | | |
# |---|---|
# | you learn | how an image becomes noise in a thousand small steps, and why one jump does the same |
# | time | 40 minutes to read and do, seconds to run |
# | difficulty | ●○○○○ |
# | importance | ●●●●● |
# | paper | Ho, Jain, Abbeel 2020, *Denoising Diffusion Probabilistic Models*, Sec. 2, Fig. 2 |
#
# A diffusion model learns to undo a process that comes for free: forgetting. This lesson is about the forgetting, which
# the papers call the **forward process**. Nothing is trained here. After every claim comes the line that checks it.

# %%
import itertools
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddpm import data, forward, oracle, schedule
from ddpm.datasets import garments, sources

# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how many random draws to afford

# %% [markdown]
# ## 1. One step
#
# Take an image $x_0$ and forget a little of it: shrink it, and add a little Gaussian noise. With a small $\beta_t$,
#
# $$q(x_t \mid x_{t-1}) = \mathcal N\!\big(\sqrt{1-\beta_t}\;x_{t-1},\; \beta_t I\big)
#   \qquad\text{[Ho et al. 2020, Eq. 2]}$$
#
# or, written as a draw, $x_t = \sqrt{1-\beta_t}\,x_{t-1} + \sqrt{\beta_t}\,\varepsilon$ with
# $\varepsilon \sim \mathcal N(0, I)$.
#
# Why shrink at all, and why by a *square root*? The variances of independent variables add, and scaling by $a$
# multiplies a variance by $a^2$. If $x_{t-1}$ has variance 1, then $x_t$ has variance
# $(1-\beta_t)\cdot 1 + \beta_t = 1$. The scale never changes (the process is **variance preserving**), so one network
# can serve all the noise levels.
#
# ### Exercise 1.1 - how much of the image is left
# The fraction of the signal's *power* that is left after $t$ steps is $\bar\alpha_t = \prod_{s\le t}(1-\beta_s)$.
# We count as the papers do: $t = 1 \dots T$ are noise levels and $t = 0$ is the clean image, so $\bar\alpha_0 = 1$.


# %%
def alpha_bar(beta):
    """ᾱ_0…ᾱ_T, in float64.   beta: (T,), β_1…β_T  ->  (T+1,), beginning with ᾱ_0 = 1"""
    ### BEGIN SOLUTION
    return np.concatenate([[1.0], np.cumprod(1.0 - np.asarray(beta, dtype=np.float64))])
    ### END SOLUTION


# %% [markdown]
# ### Exercise 1.2 - one step
# > **Note.** $\beta_t$ is a *variance*, while the noise has to be multiplied by a standard deviation.


# %%
def q_step(x_prev, beta_t, eps):
    """A draw of x_t ~ q(x_t | x_{t-1}), given the noise.   x_prev, eps: (B, ...);  beta_t: ()  ->  x_t: (B, ...)"""
    ### BEGIN SOLUTION
    return jnp.sqrt(1.0 - beta_t) * x_prev + jnp.sqrt(beta_t) * eps
    ### END SOLUTION


# %% [markdown]
# The thousand $\beta_t$ of the paper rise in a straight line from $10^{-4}$ to $0.02$. After the last step, 0.004 %
# of the image's power is left.

# %%
beta = np.linspace(1e-4, 0.02, 1000)
abar = alpha_bar(beta)

linear = schedule.linear(1000)  # the library's version: the same numbers, as float32 arrays
assert np.allclose(abar, linear.alpha_bar, rtol=1e-6)
assert abar[0] == 1 and np.all(np.diff(abar) < 0)  # it only ever falls
assert 4.0e-5 < abar[1000] < 4.1e-5
abar[[1, 100, 250, 500, 750, 1000]]

# %% [markdown]
# A step preserves variance 1 for any $\beta_t$. (With 10,000 draws, the standard error of a sample variance is 1.4 %;
# we allow six of those. A check that fails by bad luck teaches nothing.)

# %%
n = 10_000
key_x, key_eps = jax.random.split(jax.random.key(0))  # never use one key twice
x_prev, eps = jax.random.normal(key_x, (n,)), jax.random.normal(key_eps, (n,))
assert round(np.sqrt(2 / n), 3) == 0.014  # 1.4 %
for beta_t in (1e-4, 0.02, 0.5):
    assert abs(float(q_step(x_prev, beta_t, eps).var()) - 1) < 6 * np.sqrt(2 / n)

# %% [markdown]
# ## 2. Many steps are one jump
#
# Two steps in a row:
# $x_2 = \sqrt{1-\beta_2}\,(\sqrt{1-\beta_1}\,x_0 + \sqrt{\beta_1}\,\varepsilon_1) + \sqrt{\beta_2}\,\varepsilon_2$.
# The two noise terms are independent Gaussians, so their sum is again Gaussian, with variance
# $(1-\beta_2)\beta_1 + \beta_2 = 1 - (1-\beta_1)(1-\beta_2) = 1 - \bar\alpha_2$. By induction:
#
# $$q(x_t \mid x_0) = \mathcal N\!\big(\sqrt{\bar\alpha_t}\;x_0,\; (1-\bar\alpha_t) I\big), \qquad
#   x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon \qquad\text{[Ho et al. 2020, Eq. 4]}$$
#
# This line is the reason why diffusion models can be trained at all: it draws any noise level of any image at once,
# without walking there step by step.
#
# ### Exercise 1.3 - jump straight to step $t$


# %%
def q_sample(x0, alpha_bar_t, eps):
    """A draw of x_t ~ q(x_t | x0), given the noise.   x0, eps: (B, ...);  alpha_bar_t: ()  ->  x_t: (B, ...)"""
    ### BEGIN SOLUTION
    return jnp.sqrt(alpha_bar_t) * x0 + jnp.sqrt(1.0 - alpha_bar_t) * eps
    ### END SOLUTION


# %% [markdown]
# ### Exercise 1.4 - compose the steps
# Follow the induction with numbers instead of symbols. After some steps, $x_t = a\,x_s + \sqrt{v}\,\varepsilon$. How
# does one more step with $\beta$ change $a$ and $v$?


# %%
def compose(beta):
    """(a, v) such that x_t = a x_s + √v ε.   beta: (k,), the k steps β_{s+1}…β_t, in their order  ->  two numbers"""
    a, v = 1.0, 0.0
    for b in beta:
        ### BEGIN SOLUTION
        a, v = np.sqrt(1.0 - b) * a, (1.0 - b) * v + b
        ### END SOLUTION
    return a, v


# %% [markdown]
# **Exactly:** walking is jumping, from any $s$ to any $t$, with $a = \sqrt{\bar\alpha_t/\bar\alpha_s}$ and
# $v = 1 - \bar\alpha_t/\bar\alpha_s$. No randomness is needed to see it: the two agree to within $10^{-13}$.

# %%
for s, t in ((0, 1), (0, 1000), (100, 101), (250, 750), (999, 1000)):
    a, v = compose(beta[s:t])  # β_{s+1}…β_t: the Python list begins with β_1
    assert abs(a - np.sqrt(abar[t] / abar[s])) < 1e-13
    assert abs(v - (1 - abar[t] / abar[s])) < 1e-13

# %% [markdown]
# **By simulation:** many walkers start at $x_0 = 0.7$ and take 300 random steps each. Their mean and variance are those
# of the jump, as closely as that many draws can tell.

# %%
walkers = {"smoke": 10_000, "short": 20_000, "full": 200_000}[BUDGET]


def one_step(x, step):
    key, beta_t = step
    return q_step(x, beta_t, jax.random.normal(key, x.shape)), None


steps = (jax.random.split(jax.random.key(1), 300), jnp.asarray(beta[:300], jnp.float32))
walked, _ = jax.lax.scan(one_step, jnp.full(walkers, 0.7), steps)
mean_300, var_300 = np.sqrt(abar[300]) * 0.7, 1 - abar[300]
assert abs(float(walked.mean()) - mean_300) < 6 * np.sqrt(var_300 / walkers)
assert abs(float(walked.var()) / var_300 - 1) < 6 * np.sqrt(2 / walkers)

# %% [markdown]
# The library's function is the one you have just written, with a schedule and a time in place of $\bar\alpha_t$. It
# accepts one time for all the images, or a separate time for each, which is what training needs.

# %%
x0, eps = jax.random.uniform(key_x, (4, 8, 8, 1), minval=-1), jax.random.normal(key_eps, (4, 8, 8, 1))
times = jnp.array([0, 1, 500, 1000])
x_t = jax.jit(forward.q_sample)(linear, x0, times, eps)  # compiled once; the schedule is an argument like any other
assert np.allclose(x_t, q_sample(x0, abar[np.array(times)].reshape(4, 1, 1, 1), eps), atol=1e-6)
assert np.allclose(x_t[0], x0[0])  # time 0 is the image itself

# %% [markdown]
# > **Easy to get wrong.** Leave out the roots, and write $\bar\alpha_t x_0 + (1-\bar\alpha_t)\varepsilon$. It looks
# > right, for the weights add up to one! But it is the *powers* that have to. At $\bar\alpha_t = \tfrac12$, data of
# > variance 1 would have variance $\tfrac14 + \tfrac14 = \tfrac12$: a network trained on this sees images that fade in
# > the middle.

# %%
half = 0.5
assert half + (1 - half) == 1  # amplitudes √ᾱ and √(1-ᾱ): their squares add up to one ...
assert half**2 + (1 - half) ** 2 == 0.5  # ... and those of ᾱ and 1-ᾱ do not

# %% [markdown]
# ## 3. Signal and noise
#
# All that matters at time $t$ is how the power of the image compares with the power of the noise. Their ratio is the
# **signal-to-noise ratio**, $\mathrm{SNR}(t) = \bar\alpha_t / (1-\bar\alpha_t)$.
#
# ### Exercise 1.5 - when they are equal
# Write the ratio, and find the first time at which the noise is at least as strong as the signal is.


# %%
def snr(alpha_bar):
    """SNR(t) = ᾱ_t/(1-ᾱ_t) for t = 1…T.   alpha_bar: (T+1,)  ->  (T,); at t = 0 there is no noise, so it is left out"""
    ### BEGIN SOLUTION
    return alpha_bar[1:] / (1.0 - alpha_bar[1:])
    ### END SOLUTION


def equal_power(alpha_bar):
    """The first t with SNR(t) ≤ 1, counted from 1.   alpha_bar: (T+1,)  ->  int"""
    ### BEGIN SOLUTION
    return int(np.argmax(snr(alpha_bar) <= 1)) + 1
    ### END SOLUTION


# %% [markdown]
# With the paper's schedule this happens at $t = 260$, about a quarter of the way. And in 327 of the thousand steps,
# nearly a third, the images are more than 99 % noise: much effort for little. Lesson 2 is about that.

# %%
t_equal = equal_power(abar)
assert abar[t_equal - 1] > 0.5 >= abar[t_equal]
assert np.allclose(snr(abar), schedule.snr(linear)[1:], rtol=1e-3)
assert t_equal == 260 and np.sum(abar[1:] < 0.01) == 327
t_equal

# %% [markdown]
# ## 4. A path is more than its points
#
# Take one image and draw $x_{200}$ and $x_{300}$ by two separate jumps. Each of them has the right **marginal**
# distribution, but the *pair* is not part of any path: along a path, $x_{300}$ is made from $x_{200}$ and inherits its
# noise. For $s \le t$,
#
# $$\mathrm{Cov}(x_s, x_t \mid x_0) = \sqrt{\bar\alpha_t/\bar\alpha_s}\;(1-\bar\alpha_s).$$
#
# Sampling (Lesson 3) runs such paths backwards. And DDIM (Lesson 6) starts from the question: which *other* joint
# distributions have the same marginals?
#
# ### Exercise 1.6 - the covariance of two times


# %%
def covariance(alpha_bar_s, alpha_bar_t):
    """Cov(x_s, x_t | x0) of each pixel, for s ≤ t.   alpha_bar_s, alpha_bar_t: numbers, ᾱ_s ≥ ᾱ_t  ->  a number"""
    ### BEGIN SOLUTION
    return np.sqrt(alpha_bar_t / alpha_bar_s) * (1.0 - alpha_bar_s)
    ### END SOLUTION


# %% [markdown]
# Exactly: at $s = t$ the covariance is the variance, and from there on each step multiplies it by the fraction of $x_s$
# that it keeps, which is the $a$ of Exercise 1.4. By simulation: along a path the covariance is as stated, and for
# separate jumps it is zero. (The tolerance is six standard errors, $\sqrt{(v_s v_t + \mathrm{Cov}^2)/n}$ each.)

# %%
s, t, n = 200, 300, walkers
assert np.isclose(covariance(abar[s], abar[s]), 1 - abar[s])
assert np.isclose(covariance(abar[s], abar[t]), compose(beta[s:t])[0] * (1 - abar[s]), rtol=1e-12)
key = jax.random.split(jax.random.key(2), 3)
x_s, x_t_alone = (q_sample(jnp.zeros(n), abar[u], jax.random.normal(k, (n,))) for u, k in ((s, key[0]), (t, key[1])))
noise = jax.random.normal(key[2], (n, 1))
x_t_path = jax.jit(forward.q_step)(linear, x_s[:, None], jnp.int32(s), jnp.int32(t), noise)[:, 0]
exact = covariance(abar[s], abar[t])
error = 6 * np.sqrt(((1 - abar[s]) * (1 - abar[t]) + exact**2) / n)
assert abs(float(jnp.mean(x_s * x_t_path)) - exact) < error
assert abs(float(jnp.mean(x_s * x_t_alone))) < error < exact

# %% [markdown]
# ## 5. What becomes of the data
#
# So far we had one $x_0$. Now take all of them: $p_t(x_t) = \int q(x_t \mid x_0)\,p(x_0)\,dx_0$ is the distribution of
# a noisy image when nobody tells us which image it was. Usually we cannot write it down. But one *pixel* of
# scikit-learn's digits has 17 grey levels $v_k$, whose frequencies $w_k$ we can count. Then $p_t$ is exactly a
# **mixture** of 17 Gaussians,
#
# $$p_t(x) = \sum_k w_k\, \mathcal N\!\big(x;\ \sqrt{\bar\alpha_t}\,v_k,\ 1-\bar\alpha_t\big),$$
#
# and `ddpm.oracle` knows all about Gaussian mixtures.

# %%
digits = sources.load("digits")  # 8 x 8 pixels, inside scikit-learn: no download
images = data.to_float(digits.x_train)  # uint8 0..255 -> float32 in [-1, 1]
levels, counts = np.unique(images, return_counts=True)
pixel = oracle.mixture(mean=levels[:, None], cov=0.0, weight=counts / counts.sum())
assert len(levels) == 17 and images.shape == (1500, 8, 8, 1) and images.size == 96_000


grid = np.linspace(-6, 6, 4801)
log_density = jax.jit(pixel.log_prob)


def pixel_log_density(t):
    """log p_t of a pixel on the grid, for t ≥ 1, in nats.   ->  (4801,)"""
    return np.asarray(log_density(linear, jnp.asarray(grid, jnp.float32)[:, None], t), dtype=np.float64)


# %% [markdown]
# It is a probability density: it integrates to one. And the noisy pixels that we draw follow it: in every bin of a
# histogram, the count is the one that the density predicts, within six standard errors.

# %%
eps = np.asarray(jax.random.normal(jax.random.key(3), images.shape))
for t in (20, 300, 1000):
    p = np.exp(pixel_log_density(t))
    assert abs(np.trapezoid(p, grid) - 1) < 1e-4
    below = np.concatenate([[0.0], np.cumsum((p[1:] + p[:-1]) / 2 * np.diff(grid))])  # P(x_t < grid)
    expected = images.size * np.diff(below[::120])  # 40 bins
    drawn = np.histogram(q_sample(images, abar[t], eps), grid[::120])[0]
    assert np.all(np.abs(drawn - expected) < 6 * np.sqrt(expected + 1))

# %% [markdown]
# How far is $p_t$ from pure noise? The Kullback-Leibler (KL) divergence to $\mathcal N(0, 1)$ measures it in nats. It
# can only fall, by the **data-processing inequality**: *adding noise to two things never makes them easier to tell
# apart*, and $\mathcal N(0,1)$ is the one distribution that the chain leaves unchanged. At $t = 800$, about a
# ten-thousandth of a nat is left.


# %%
def kl_to_noise(t):
    """KL(p_t ‖ N(0, 1)) of a pixel, in nats, by quadrature."""
    log_p, log_normal = pixel_log_density(t), -0.5 * grid**2 - 0.5 * np.log(2 * np.pi)
    return float(np.trapezoid(np.exp(log_p) * (log_p - log_normal), grid))


kl_times = [20, 50, 100, 200, 300, 400, 500, 600, 700, 800]
kl = [kl_to_noise(t) for t in kl_times]
assert all(earlier > later for earlier, later in itertools.pairwise(kl))
assert kl[0] > 0.5 and 1.1e-4 < kl[-1] < 1.2e-4

# %% [markdown]
# ## 6. The picture
#
# The picture shows three garments on their way to noise. (A network drew them; from Lesson 4 on you train such networks
# yourself.) Under each time stand the histogram of all 96,000 noisy pixels of the digits (bars), the exact density
# (line) and the standard normal density that it approaches (dashed). At the bottom are the two amplitudes that make
# every one of these pictures, and the KL divergence that is left.

# %%
SHOWN = [0, 20, 60, 120, 200, 350, 600, 1000]


def draw_strip(axes, x0, eps):
    """Each row is an image and each column a time; the noise ε is the same all along a row."""
    for row, column in np.ndindex(axes.shape):
        t = SHOWN[column]
        axes[row, column].imshow(q_sample(x0[row], abar[t], eps[row])[..., 0], cmap="gray", vmin=-1.6, vmax=1.6)
        axes[row, column].set(xticks=[], yticks=[])
        if row == 0:
            axes[row, column].set_title(f"$t={t}$\n" + rf"$\bar\alpha_t=${abar[t]:.2g}", fontsize=9)


# %%
def draw_histograms(axes, colours):
    """All pixels of all images at each time, the exact density, and N(0, 1)."""
    bins = np.linspace(-3.5, 3.5, 57)
    normal = np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi)
    for axis, t, colour in zip(axes, SHOWN, colours, strict=True):
        x_t = np.ravel(q_sample(images, abar[t], eps))
        axis.hist(x_t, bins, density=True, color=colour, alpha=0.45)
        if t > 0:
            axis.plot(grid, np.exp(pixel_log_density(t)), color=colour, lw=1.6)
        axis.plot(grid, normal, "k--", lw=0.8)
        axis.set(xlim=(-3.5, 3.5), ylim=(0, 1.25), yticks=[], xticks=[-2, 0, 2])
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right", "left"]].set_visible(False)
    axes[0].set_ylabel("digits' pixels", fontsize=9)


# %%
def draw_time_line(signal, distance, colours):
    """Left: √ᾱ_t and √(1-ᾱ_t), which cross where SNR = 1. Right: KL(p_t ‖ N(0, 1)), exactly."""
    t = np.arange(1001)
    signal.plot(t, np.sqrt(abar), color=colours[1], label=r"signal $\sqrt{\bar\alpha_t}$")
    signal.plot(t, np.sqrt(1 - abar), color=colours[-2], label=r"noise $\sqrt{1-\bar\alpha_t}$")
    signal.axvline(t_equal, color="grey", lw=0.8, ls=":")
    signal.annotate(f"equal at $t={t_equal}$", (t_equal + 12, 0.06), fontsize=8, color="grey")
    signal.set(xlabel="$t$", ylabel="amplitude", xlim=(0, 1000), ylim=(0, 1.03))
    distance.semilogy(kl_times, kl, "o-", color=colours[2], ms=3.5)
    distance.set(
        xlabel="$t$", ylabel="nats", xlim=(0, 1000), title="what is left to forget: KL of a pixel to pure noise"
    )
    distance.title.set_fontsize(9)
    signal.legend(frameon=False, fontsize=8, loc="center right")
    for axis in (signal, distance):
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)


# %%
def picture():
    """The figure of this lesson."""
    figure = plt.figure(figsize=(11, 8.2), layout="constrained")
    strip, bottom = figure.subfigures(2, 1, height_ratios=[3.1, 1.25])
    axes = strip.subplots(4, 8, height_ratios=[1, 1, 1, 0.85])
    colours = plt.colormaps["viridis"](np.linspace(0.05, 0.85, len(SHOWN)))
    drawn, _ = garments.load()  # two of each of ten classes
    draw_strip(axes[:3], data.to_float(drawn[[18, 3, 4]]), jax.random.normal(jax.random.key(4), (3, 28, 28, 1)))
    draw_histograms(axes[3], colours)
    left, right = bottom.subplots(1, 2)
    draw_time_line(left, right, colours)
    strip.suptitle(r"The forward process:  $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$")
    return figure


if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l01.png", dpi=150)
    numbers = {"abar_T": abar[-1], "t_equal": t_equal, "kl": dict(zip(kl_times, kl, strict=True)), "budget": BUDGET}
    (out / "l01.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(
        f"L1: noise overtakes signal at t = {t_equal}; a pixel is {kl[-1]:.1e} nats from noise at t = 800. out/l01.png"
    )

# %% [markdown]
# ## What to take along
#
# - $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$. Amplitudes are roots; powers add up to one.
# - Any two times are one Gaussian step apart, with $\bar\alpha_t/\bar\alpha_s$ in place of $1-\beta_t$.
# - The process ends in $\mathcal N(0, I)$ for any data, very nearly. To generate is to walk back, from Lesson 3 on.
#
# ## Further reading
#
# - Ho, Jain, Abbeel 2020, *Denoising Diffusion Probabilistic Models*. Section 2 is this lesson on one page.
# - Sohl-Dickstein, Weiss, Maheswaranathan, Ganguli 2015, *Deep Unsupervised Learning using Nonequilibrium
#   Thermodynamics*. Where the idea comes from.
# - Kingma, Salimans, Poole, Ho 2021, *Variational Diffusion Models*. Why the signal-to-noise ratio is all that matters.
