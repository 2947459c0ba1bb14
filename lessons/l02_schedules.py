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
# # L2. Noise schedules
#
# | | |
# |---|---|
# | you learn | how fast to forget; what a thousand steps are spent on, measured in bits |
# | time | 40 minutes to read and do, seconds to run |
# | difficulty | ●●○○○ |
# | importance | ●●●●○ |
# | paper | Nichol, Dhariwal 2021, *Improved Denoising Diffusion Probabilistic Models*, Sec. 3.2, Figs. 3 and 5 |
#
# Lesson 1 took the **noise schedule**, the numbers $\beta_1 \dots \beta_T$, as given. It is a choice, and the choice
# decides how many of the steps do useful work. Here we build the two classic schedules, compare them by an exact
# measure, and shorten them.

# %%
import itertools
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddpm import data, forward, schedule
from ddpm.datasets import garments, sources
from ddpm.oracles import gaussian

# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how many random draws to afford

# %% [markdown]
# ## 1. A straight line
#
# Ho et al. let $\beta_t$ rise from $10^{-4}$ to $0.02$ in $T = 1000$ equal steps. If you want another $T$, keep the
# *sum* of the $\beta_t$: since $\bar\alpha_T = \prod(1-\beta_t) \approx e^{-\sum\beta_t}$, a tenth of the steps need
# ten times the $\beta$.
#
# ### Exercise 2.1 - the linear schedule
# Scale both ends by $1000/T$. With too few steps, some $\beta$ would reach 1, and the result would not be a schedule:
# raise a `ValueError` in that case.


# %%
def linear(T):
    """β_1…β_T in equal steps from 0.1/T to 20/T.   T: int  ->  (T,) float64"""
    ### BEGIN SOLUTION
    if 20 / T >= 1:
        raise ValueError(f"T is {T}: the last β would be {20 / T:.3g}, but a variance that is added must be below 1")
    return np.linspace(1e-4, 0.02, T) * (1000 / T)
    ### END SOLUTION


# %% [markdown]
# For any number of steps, $\bar\alpha_T$ is now tiny: between $7\cdot10^{-6}$ and $5\cdot10^{-5}$ for the four below.
# Without the scaling, 100 steps end with $\bar\alpha_T = 0.36$: an image that one can still see. A sampler that starts
# from pure noise then starts from the wrong distribution.


# %%
def alpha_bar(beta):
    """ᾱ_0…ᾱ_T (Lesson 1)."""
    return np.concatenate([[1.0], np.cumprod(1.0 - beta)])


for T in (50, 100, 1000, 4000):
    end = alpha_bar(linear(T))[-1]
    assert 7e-6 < end < 5e-5
    assert np.isclose(end, schedule.linear(T).alpha_bar[-1], rtol=1e-4)  # the library's
unscaled = float(alpha_bar(np.linspace(1e-4, 0.02, 100))[-1])
assert np.isclose(unscaled, schedule.linear_ho(100).alpha_bar[-1]) and round(unscaled, 2) == 0.36
unscaled

# %% [markdown]
# ## 2. A cosine
#
# Nichol and Dhariwal go the other way round. They choose $\bar\alpha_t$, the curve that matters, and derive the
# $\beta_t$ from it:
#
# $$\bar\alpha_t = \frac{f(t)}{f(0)}, \qquad f(t) = \cos^2\!\Big(\frac{t/T + s}{1 + s}\cdot\frac{\pi}{2}\Big), \qquad
#   \beta_t = \min\!\Big(1 - \frac{\bar\alpha_t}{\bar\alpha_{t-1}},\ 0.999\Big) \qquad\text{[Eq. 17]}$$
#
# with $s = 0.008$, so that the first steps are not too small: the first noise, $\sqrt{\beta_1}$, is somewhat below
# $1/127.5$, the distance between two grey levels of an 8-bit image.
#
# ### Exercise 2.2 - the cosine schedule
# > **Note.** Since $f(T) = 0$, the last $\beta$ would be 1. That is what the minimum is for.


# %%
def cosine(T, s=0.008):
    """β_1…β_T of the cosine schedule.   T: int;  s: offset  ->  (T,) float64, each at most .999"""
    ### BEGIN SOLUTION
    t = np.arange(T + 1)
    f = np.cos((t / T + s) / (1 + s) * np.pi / 2) ** 2
    return np.minimum(1 - f[1:] / f[:-1], 0.999)
    ### END SOLUTION


# %% [markdown]
# Exactly one $\beta$ is clipped: the last one. Before it, $\bar\alpha_t$ is exactly the curve that was requested.

# %%
beta = cosine(1000)
assert (beta == 0.999).sum() == 1 and beta[-1] == 0.999
assert 0.8 < np.sqrt(beta[0]) * 127.5 < 1  # somewhat below the distance of two grey levels
t = np.arange(1000)  # all but T
published = (np.cos((t / 1000 + 0.008) / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2)) ** 2
assert np.allclose(alpha_bar(beta)[:-1], published, rtol=1e-9)
assert np.allclose(alpha_bar(beta), schedule.cosine(1000).alpha_bar, rtol=1e-5)
schedules = {"linear": alpha_bar(linear(1000)), "cosine": alpha_bar(beta)}

# %% [markdown]
# ## 3. Where the steps go
#
# The linear schedule bends $\bar\alpha$ down early: 32.7 % of its steps see images with less than 1 % of their power
# left. For the cosine schedule it is 6.5 % of the steps. Its $\bar\alpha$ is almost a straight line in the middle
# half, where it stays within 0.02 of one. (This is Fig. 5 of the paper, in numbers.)

# %%
nearly_gone = {name: float(np.mean(abar[1:] < 0.01)) for name, abar in schedules.items()}
assert np.isclose(nearly_gone["linear"], 0.327) and np.isclose(nearly_gone["cosine"], 0.065)
middle = schedules["cosine"][250:751]
assert np.abs(middle - np.linspace(middle[0], middle[-1], 501)).max() < 0.02
halfway = {name: int(np.argmax(abar < 0.5)) for name, abar in schedules.items()}
assert halfway["linear"] < 300 < 490 < halfway["cosine"] < 500
nearly_gone

# %% [markdown]
# ## 4. Does it end in noise?
#
# Sampling starts from $\mathcal N(0, I)$ instead of $q(x_T \mid x_0)$. The price is the first term of the variational
# bound on the likelihood, $L_T = \mathrm{KL}\big(q(x_T \mid x_0) \,\|\, \mathcal N(0, I)\big)$. Both are Gaussians, so
# for a pixel with value $x_0$ it is
#
# $$\tfrac12\big(\bar\alpha_T\, x_0^2 + (1-\bar\alpha_T) - 1 - \ln(1-\bar\alpha_T)\big)\ \text{nats}.$$
#
# ### Exercise 2.3 - the price of the end point
# Return the mean over the pixels, in **bits** per dimension (one bit is $\ln 2$ nats).


# %%
def end_point_bits(alpha_bar_T, x0):
    """KL(q(x_T | x0) ‖ N(0, I)) in bits per dimension.   alpha_bar_T: number;  x0: (...), in [-1, 1]  ->  number"""
    ### BEGIN SOLUTION
    nats = 0.5 * (alpha_bar_T * x0**2 - alpha_bar_T - np.log1p(-alpha_bar_T))
    return float(np.mean(nats) / np.log(2))
    ### END SOLUTION


# %% [markdown]
# Ho et al. report $L_T \approx 10^{-5}$ bits per dimension (Sec. 4). On scikit-learn's digits the same schedule
# costs $2.1\cdot10^{-5}$ bits, and the cosine schedule more than ten thousand times less. The unscaled linear schedule
# of 100 steps would cost a quarter of a bit on every pixel.

# %%
digits = sources.load("digits")  # 8 x 8 pixels, inside scikit-learn: no download
images = data.to_float(digits.x_train)
L_T = {name: end_point_bits(abar[-1], images) for name, abar in schedules.items()}
assert 2.05e-5 < L_T["linear"] < 2.15e-5  # the paper's images: "about 1e-5"
assert L_T["cosine"] < 1e-4 * L_T["linear"]
assert round(end_point_bits(unscaled, images), 2) == 0.25
L_T

# %% [markdown]
# An independent check: the definition of the KL divergence, $\int q \ln (q/p)$, by numerical quadrature for one pixel.

# %%
x, x0, abar_t = np.linspace(-12, 12, 20_001), 0.8, 0.4
q = np.exp(-((x - np.sqrt(abar_t) * x0) ** 2) / (2 * (1 - abar_t))) / np.sqrt(2 * np.pi * (1 - abar_t))
log_ratio = -((x - np.sqrt(abar_t) * x0) ** 2) / (2 * (1 - abar_t)) - 0.5 * np.log(1 - abar_t) + x**2 / 2
assert np.isclose(np.trapezoid(q * log_ratio, x) / np.log(2), end_point_bits(abar_t, np.array([x0])), rtol=1e-9)

# %% [markdown]
# ## 5. How much is there left to know?
#
# "Nearly gone" can be made exact. If the images were Gaussian with covariance eigenvalues $\lambda_d$, the **mutual
# information** of $x_0$ and $x_t$, what $x_t$ still tells us about $x_0$, would be
#
# $$I(x_0; x_t) = \tfrac12 \sum_d \log_2\big(1 + \mathrm{SNR}(t)\,\lambda_d\big)\ \text{bits},$$
#
# and the best possible network would predict the noise with a mean squared error of
# $\frac1D\sum_d \frac{\mathrm{SNR}\,\lambda_d}{1 + \mathrm{SNR}\,\lambda_d}$ per pixel. Digits are not Gaussian, but
# for their *coarse* features, which are the last to drown in noise, mean and covariance tell us nearly everything.


# %%
def information(snr, variance):
    """I(x0; x_t) of Gaussian data, in bits per dimension.   snr: (N,);  variance: (D,), the λ_d  ->  (N,)"""
    return 0.5 * np.log2(1 + np.outer(snr, variance)).mean(1)


def best_loss(snr, variance):
    """E‖ε - ε*(x_t)‖²/D of Gaussian data.   snr: (N,);  variance: (D,)  ->  (N,)"""
    power = np.outer(snr, variance)
    return (power / (1 + power)).mean(1)


fitted = gaussian.fit(images)  # the Gaussian with the mean and the covariance of the digits
variance = np.asarray(fitted.var[0], np.float64)
snr = {name: abar[1:] / (1 - abar[1:]) for name, abar in schedules.items()}

# %% [markdown]
# Three checks follow. The loss agrees with the library's oracle. It agrees with random draws. And the two formulas
# agree with each other: the derivative of the information with respect to the SNR is half the mean squared error of the
# best estimate of $x_0$, and that error is loss / SNR (the **I-MMSE relation** of Guo, Shamai, Verdú 2005).

# %%
lib = schedule.linear(1000)
loss = best_loss(snr["linear"], variance)
assert np.allclose(gaussian.linear_loss(fitted, lib, images)[1:], loss, rtol=1e-3, atol=1e-6)

n, t = {"smoke": 2_000, "short": 10_000, "full": 100_000}[BUDGET], jnp.int32(300)
x0, eps = fitted.sample(jax.random.key(0), n)[0], jax.random.normal(jax.random.key(1), (n, 64))
guess = jax.jit(fitted.eps(lib))(forward.q_sample(lib, x0, t, eps), t)
error = np.mean((np.asarray(guess) - np.asarray(eps)) ** 2, axis=1)
assert abs(error.mean() - loss[300 - 1]) < 6 * error.std() / np.sqrt(n)

ratio = np.geomspace(1e-3, 1e3, 2001)
slope = np.gradient(information(ratio, variance) * np.log(2), ratio)  # nats
assert np.allclose(slope[1:-1], 0.5 * (best_loss(ratio, variance) / ratio)[1:-1], rtol=1e-3)

# %% [markdown]
# Now the answer. With the linear schedule, less than a hundredth of a bit per pixel is left after 55 % of the steps;
# with the cosine schedule, after 86 %. The steps after that are spent on nearly nothing. Nichol and Dhariwal found the
# same by experiment: with the linear schedule one can skip up to a fifth of the reverse process and hardly lose quality
# (their Fig. 4).

# %%
left = {name: information(r, variance) for name, r in snr.items()}
gone = {name: int(np.argmax(bits < 0.01)) + 1 for name, bits in left.items()}
for bits in left.values():
    assert all(a > b for a, b in itertools.pairwise(bits))  # information only ever drains away
assert round(gone["linear"] / 1000, 2) == 0.55 and round(gone["cosine"] / 1000, 2) == 0.86
gone

# %% [markdown]
# ## 6. Cut short
#
# A model that was trained for $T = 1000$ can be sampled along fewer times $t_1 < t_2 < \dots < t_N$. Lesson 1 told us
# how far apart two times $s < t$ are: $\bar\alpha_t/\bar\alpha_s$ takes the place of $1-\beta_t$.
#
# ### Exercise 2.4 - the $\beta$ of a subsequence


# %%
def respace(alpha_bar, times):
    """β' of a walk through `times`, with the same ᾱ there.   alpha_bar: (T+1,);  times: (N,) rising, ≥ 1  ->  (N,)"""
    ### BEGIN SOLUTION
    kept = alpha_bar[np.concatenate([[0], times])]
    return 1 - kept[1:] / kept[:-1]
    ### END SOLUTION


# %% [markdown]
# The new chain has exactly the old $\bar\alpha$ at the times that it visits, and visiting all of them recovers the old
# $\beta$. The fifty `trailing` times end at $T$, so that the walk back can start from pure noise.

# %%
for abar in schedules.values():
    times = schedule.make_times(1000, 50, "trailing")[:-1][::-1]  # the library's list runs down to 0
    assert times[-1] == 1000 and len(times) == 50
    short = respace(abar, times)
    assert np.all((short > 0) & (short < 1))
    assert np.allclose(alpha_bar(short)[1:], abar[times], rtol=1e-12)
    assert np.allclose(alpha_bar(respace(abar, np.arange(1, 1001))), abar, rtol=1e-12)

# %% [markdown]
# ### Exercise 2.5 - spot the bug
# A published code base builds its schedule, in effect, as below: with one more entry, so that the index can be $t$. Its
# $\bar\alpha_1$ is 0.99978 where the paper's is 0.9999, and at every $t$ its images are noisier than the paper's. Write
# it again with $\bar\alpha_0 = 1$ and with exactly the paper's $\beta_1 \dots \beta_T$.


# %%
def published_alpha_bar(T=1000):
    """With a bug."""
    return np.cumprod(1 - np.linspace(1e-4, 0.02, T + 1))


def repaired_alpha_bar(T=1000):
    """The same without the bug.   T: int  ->  (T+1,) float64"""
    ### BEGIN SOLUTION
    return np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, T))])
    ### END SOLUTION


# %% [markdown]
# The buggy product includes a $\beta_0$ for the clean image, which has none. At $t = 1$ the variance of its noise is
# 2.2 times what it should be; at the end, nobody would notice the difference. That is why the bug survived.

# %%
assert np.allclose(repaired_alpha_bar(), schedules["linear"], rtol=1e-12)
wrong, right = published_alpha_bar(), repaired_alpha_bar()
assert wrong[0] != 1 and round(wrong[1], 5) == 0.99978 and round(right[1], 5) == 0.9999 and np.all(wrong < right)
assert round((1 - wrong[1]) / (1 - right[1]), 1) == 2.2
assert abs(np.sqrt(1 - wrong[-1]) / np.sqrt(1 - right[-1]) - 1) < 1e-6

# %% [markdown]
# ## 7. The picture
#
# Above are the same two garments (a network drew them), with the same noise, at the same nine times of both schedules
# (Fig. 3 of the paper). Below are the two curves $\bar\alpha_t$ (Fig. 5), and the bits that are left of a digit.

# %%
COLOUR = {"linear": "#b5523b", "cosine": "#2a6f97"}
SHOWN = np.linspace(0, 1000, 9).astype(int)


def draw_strip(axes, name, x0, eps):
    """Two garments (rows) at nine times (columns)."""
    abar = schedules[name]
    for row, column in np.ndindex(axes.shape):
        a = abar[SHOWN[column]]
        axis, x_t = axes[row, column], np.sqrt(a) * x0[row] + np.sqrt(1 - a) * eps[row]
        axis.imshow(x_t[..., 0], cmap="gray", vmin=-1.6, vmax=1.6)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color(COLOUR[name])
        if row == 0:
            axis.set_title(rf"$t={SHOWN[column]}$", fontsize=8, color=COLOUR[name])
    axes[0, 0].set_ylabel(name, color=COLOUR[name], fontsize=11)


# %%
def draw_curves(power, bits):
    """Left: ᾱ_t. Right: the mutual information, in logarithmic scale, and where it falls below a hundredth of a bit."""
    t = np.arange(1001)
    for name, abar in schedules.items():
        power.plot(t, abar, color=COLOUR[name], lw=2, label=name)
        bits.semilogy(t[1:], left[name], color=COLOUR[name], lw=2)
        bits.plot(gone[name], 0.01, "o", color=COLOUR[name])
        bits.annotate(f"t = {gone[name]}", (gone[name] + 12, 0.013), fontsize=9, color=COLOUR[name])
        bits.axvspan(gone[name], 1000, color=COLOUR[name], alpha=0.08, lw=0)
    bits.axhline(0.01, color="grey", lw=0.8, ls=":")
    power.set(xlabel="$t$", ylabel=r"$\bar\alpha_t$: power of the image left", xlim=(0, 1000), ylim=(0, 1.02))
    bits.set(xlabel="$t$", ylabel="bits per pixel", xlim=(0, 1000), ylim=(1e-5, 5))
    bits.set_title(r"$I(x_0; x_t)$: what is left to know of a digit (Gaussian fit, exact)", fontsize=9)
    power.legend(frameon=False)
    for axis in (power, bits):
        axis.spines[["top", "right"]].set_visible(False)


# %%
def picture():
    """The figure of this lesson."""
    figure = plt.figure(figsize=(11, 9), layout="constrained")
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=[1.35, 1.35, 1.6])
    x0 = np.asarray(data.to_float(garments.load()[0][[18, 4]]))  # an ankle boot and a pullover
    eps = np.random.default_rng(3).standard_normal(x0.shape)
    draw_strip(top.subplots(2, 9), "linear", x0, eps)
    draw_strip(middle.subplots(2, 9), "cosine", x0, eps)
    draw_curves(*bottom.subplots(1, 2))
    return figure


if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l02.png", dpi=150)
    numbers = {"L_T_bits": L_T, "below_1_percent": nearly_gone, "below_a_hundredth_of_a_bit": gone, "budget": BUDGET}
    (out / "l02.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(f"L2: 0.01 bits a pixel are left at t = {gone['linear']} (linear), {gone['cosine']} (cosine). out/l02.png")

# %% [markdown]
# ## What to take along
#
# - A schedule is the curve $\bar\alpha_t$, and the $\beta_t$ are its steps. Scale them when you change $T$.
# - A schedule has to end in noise ($L_T$ is small), but it should not linger there (few bits are left).
# - Any subsequence of the times is a schedule again.
#
# ## Further reading
#
# - Nichol, Dhariwal 2021, *Improved Denoising Diffusion Probabilistic Models*, Sec. 3.2.
# - Kingma, Salimans, Poole, Ho 2021, *Variational Diffusion Models*. In continuous time, only the two ends of the
#   schedule matter for the likelihood; its shape only changes the variance of the estimate.
# - Lin, Liu, Li, Yang 2023, *Common Diffusion Noise Schedules and Sample Steps are Flawed*. What happens when a
#   schedule does not end in noise, or a sampler does not begin there.
# - Guo, Shamai, Verdú 2005, *Mutual Information and Minimum Mean-Square Error in Gaussian Channels*.
