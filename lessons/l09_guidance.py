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
# # L9. Guidance
#
# | | |
# |---|---|
# | you learn | to make a model do what is requested of it, more and more insistently, and what that costs |
# | time | 60 minutes to read and do, 2 minutes to run |
# | difficulty | ●●●○○ |
# | importance | ●●●●● |
# | paper | Ho, Salimans 2022, *Classifier-Free Diffusion Guidance*, Eq. 6, Figs. 2, 4; Dhariwal, Nichol 2021, Eq. 14 |
#
# Request a sandal from a conditional model, and you get what people photographed as sandals: all of them, the odd
# ones too. **Guidance** is a knob that makes the image *more* like a sandal. Every text-to-image system that you know
# uses it. It is two lines of code. What it samples is known exactly for simple data, and it is not what most people
# think it is.

# %%
import itertools
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddpm import guide, oracle, plot, schedule
from ddpm.classifiers import classifier
from ddpm.evaluation import distances
from ddpm.sample import ddim_step, walk
from ddpm.zoo import model

# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how many images and steps
n = {"smoke": 4_000, "short": 20_000, "full": 200_000}[BUDGET]

# %% [markdown]
# ## 1. Ask a classifier
#
# We want to draw from $p(x \mid c)$, and we have a model of $p(x)$. Bayes' rule,
# $p(x_t\mid c) = p(x_t)\,p(c\mid x_t)/p(c)$, holds at every noise level. Take the logarithm of both sides and then the
# gradient in $x_t$. The gradient of $\log p(c)$ is zero, so
#
# $$\nabla\log p(x_t\mid c) = \nabla\log p(x_t) + \nabla\log p(c\mid x_t).$$
#
# A denoiser is a scaled score, $\hat\varepsilon = -\sqrt{1-\bar\alpha_t}\,\nabla\log p$ (Lesson 5). So the gradient of
# a classifier that was trained on *noisy* images turns an unconditional model into a conditional one:
# $\hat\varepsilon_c = \hat\varepsilon - \sqrt{1-\bar\alpha_t}\;\nabla\log p(c\mid x_t)$. This is **classifier
# guidance**. Put a factor $s$, the guidance scale, before the gradient, and the classifier is heard $s$ times as loud
# [Dhariwal and Nichol 2021, Eq. 14].
#
# ### Exercise 9.1 - classifier guidance


# %%
def classifier_guidance(eps_null, gradient, alpha_bar_t, s):
    """ε̂ - s √(1-ᾱ_t) ∇log p(c|x_t).   eps_null, gradient: (B, ...);  alpha_bar_t, s: ()  ->  (B, ...)"""
    ### BEGIN SOLUTION
    return eps_null - s * jnp.sqrt(1 - alpha_bar_t) * gradient
    ### END SOLUTION


# %% [markdown]
# **Exactly:** the data are three Gaussians in the plane, one for each of three classes. The oracle knows
# $p(c\mid x_t)$ at every noise level. With $s=1$ the unconditional noise prediction $\varepsilon^*$ becomes the
# conditional one. The average of the conditional predictions over $p(c \mid x_t)$ is the unconditional one again.

# %%
lib = schedule.linear(1000)
abar = np.asarray(lib.alpha_bar, np.float64)
turn = 2 * np.pi * np.arange(3) / 3 + np.pi / 2
three = oracle.mixture(mean=np.stack([np.cos(turn), np.sin(turn)], 1), cov=0.18)
x = jax.random.normal(jax.random.key(0), (200, 2))
ask = jax.jit(three.eps(lib))


@jax.jit
def gradient(x, t, c):
    """∇ log p(c | x_t): (B, 2)"""
    return jax.grad(lambda x: jnp.log(three.class_posterior(lib, x, t))[jnp.arange(len(x)), c].sum())(x)


for t in (1, 100, 300, 700):
    times, null, mean = jnp.full(200, t), ask(x, jnp.full(200, t), None), 0.0
    for c in range(3):
        of_class, label = ask(x, times, jnp.full(200, c)), jnp.full(200, c)
        assert np.allclose(classifier_guidance(null, gradient(x, times, label), abar[t], 1.0), of_class, atol=5e-3)
        mean = mean + three.class_posterior(lib, x, times)[:, c, None] * of_class
    assert np.allclose(mean, null, atol=1e-4)

# %% [markdown]
# ## 2. Ask the model twice
#
# A classifier of noisy images is a second network to train. Ho and Salimans do without it. Drop the label of each
# training image with probability .1; then *one* network predicts both $\hat\varepsilon_c$ (with the label) and
# $\hat\varepsilon_\varnothing$ (without it). By Bayes' rule the difference of the two is, up to a factor, the gradient
# of a classifier that nobody trained. This is **classifier-free guidance**:
#
# $$\hat\varepsilon = \hat\varepsilon_\varnothing + s\,(\hat\varepsilon_c - \hat\varepsilon_\varnothing)$$
#
# With $s=0$ the prediction is unconditional, with $s=1$ it is conditional, and with $s>1$ it goes *beyond*
# conditional. The paper writes $(1+w)\,\hat\varepsilon_c - w\,\hat\varepsilon_\varnothing$ [Eq. 6]. Code in the wild
# calls either of the two numbers, $s$ or $w$, the "guidance scale".
#
# ### Exercise 9.2 - two calls, two conventions


# %%
def guided(eps_null, eps_c, s):
    """ε̂_∅ + s (ε̂_c - ε̂_∅).   eps_null, eps_c: (B, ...);  s: (B,), a scale for each image  ->  (B, ...)"""
    ### BEGIN SOLUTION
    s = s.reshape((-1,) + (1,) * (eps_c.ndim - 1))
    return eps_null + s * (eps_c - eps_null)
    ### END SOLUTION


def s_from_w(w):
    """Our scale s that corresponds to the paper's weight w.   w: number  ->  number"""
    ### BEGIN SOLUTION
    return 1 + w
    ### END SOLUTION


# %%
t, label = jnp.full(200, 300), jnp.arange(200) % 3
null, cond = ask(x, t, None), ask(x, t, label)
for w in (0.0, 0.5, 3.0):
    s = jnp.full(200, s_from_w(w))
    assert np.allclose(guided(null, cond, s), (1 + w) * cond - w * null, atol=1e-5)  # Eq. 6
    assert np.allclose(guided(null, cond, s), guide.cfg(three.eps(lib), 1 + w)(x, t, label), atol=1e-5)  # the library's
    louder = classifier_guidance(null, gradient(x, t, label), abar[300], 1 + w)
    assert np.allclose(guided(null, cond, s), louder, atol=5e-3)  # a classifier, heard s times as loud

# %% [markdown]
# ## 3. What does it sample?
#
# The usual answer starts from the guided score, which is the gradient of $\log\big(p(x)\,p(c\mid x)^s\big)$. It
# concludes that guidance samples the **tilted distribution**
# $p(x)\,p(c\mid x)^s \propto p(x\mid c)^{s}\,p(x)^{1-s}$. At $t=0$ the formula is right. Let us find out whether the
# conclusion is.
#
# ### Exercise 9.3 - the tilted distribution, and a bet
# Work on a grid: multiply, normalise, and take the mean and the standard deviation. The data have two classes,
# $\mathcal N(1, \frac14)$ and $\mathcal N(-1, \frac14)$, and we request the first. **Before you run it:** with $s=5$
# ($w=4$) the tilted distribution has the mean 1.07. Where is the mean of what the sampler draws with the perfect
# denoiser: at 1, at 1.07, or somewhere else entirely?


# %%
def tilted(x, log_p, log_p_c, s):
    """Mean and standard deviation of the distribution ∝ p(x|c)^s p(x)^(1-s).

    x: (N,) evenly spaced;  log_p, log_p_c: (N,) at x;  s: number  ->  two numbers
    """
    ### BEGIN SOLUTION
    log_tilted = s * log_p_c + (1 - s) * log_p
    weight = np.exp(log_tilted - log_tilted.max())
    weight = weight / weight.sum()
    mean = (weight * x).sum()
    return mean, np.sqrt((weight * (x - mean) ** 2).sum())
    ### END SOLUTION


def where_is_the_mean():
    """Your bet: the mean of the samples drawn with s = 5.   ->  a number"""
    ### BEGIN SOLUTION
    return 1.8
    ### END SOLUTION


# %% [markdown]
# The sampler is deterministic (DDIM, 1000 steps) and the denoiser is exact. So a difference from the tilted
# distribution is a real one and no sampling error. At $s=1$ the result is as it should be. With larger $s$ the samples
# run away from the mean of their class, *beyond* where the data are, and huddle together. At $s=5$ their mean is 1.80,
# where the tilted distribution has 1.07 and the class itself 1.

# %%
grid = np.linspace(-6, 6, 24_001)
two = oracle.mixture(mean=[[1.0], [-1.0]], cov=0.25)
log_p_c = -((grid - 1) ** 2) / 0.5 - 0.5 * np.log(2 * np.pi * 0.25)
log_p = np.logaddexp(log_p_c, log_p_c[::-1]) - np.log(2)
start = jnp.asarray(np.sqrt(2) * np.asarray(jax.scipy.special.erfinv(2 * (np.arange(n) + 0.5) / n - 1)))[:, None]
scales = [1.0, 1.3, 2.0, 3.0, 5.0, 8.0]
drawn, nearer, exact = {}, {}, {s: tilted(grid, log_p, log_p_c, s) for s in scales}
for s in scales:  # the start is the quantiles of N(0, 1) instead of random draws: nothing here is random
    step = ddim_step(guide.cfg(two.eps(lib), s), lib, jnp.zeros(n, int))
    x_0 = walk(step, jax.random.key(0), start, schedule.make_times(1000, 1000))
    drawn[s], nearer[s] = (float(x_0.mean()), float(x_0.std())), float((x_0 > 0).mean())
assert np.allclose(exact[1.0], (1, 0.5), atol=1e-3) and np.allclose(drawn[1.0], (1, 0.5), atol=6e-3)
assert np.allclose(exact[5.0], (1.0697, 0.4445), atol=1e-3) and np.allclose(drawn[5.0], (1.805, 0.273), atol=5e-3)
drawn, exact

# %% [markdown]
# Why? The sampler follows the guided score at *every* noise level. At levels above 0 the guided score is not the score
# of the noised tilted distribution: tilting and then adding noise is not the same as adding noise and then tilting.
# Here is the largest difference of the two noise predictions at one level, $t=400$:

# %%
t, s = 400, 5.0
tilt = np.exp(s * log_p_c + (1 - s) * log_p)
spread = np.exp(-((grid[::20, None] - np.sqrt(abar[t]) * grid[None, ::20]) ** 2) / (2 * (1 - abar[t])))
truth = -np.sqrt(1 - abar[t]) * np.gradient(np.log(spread @ tilt[::20]), grid[::20])  # ε of "tilt, then noise"
points = jnp.asarray(grid[::20], jnp.float32)[:, None]
used = guide.cfg(two.eps(lib), s)(points, jnp.full(len(points), t), jnp.zeros(len(points), int))[:, 0]
near = np.abs(grid[::20]) < 2
gap = np.abs(truth - used)[near].max()
assert gap > 0.5
one = guide.cfg(two.eps(lib), 1.0)(points, jnp.full(len(points), t), jnp.zeros(len(points), int))[:, 0]
plain = -np.sqrt(1 - abar[t]) * np.gradient(np.log(spread @ np.exp(log_p_c)[::20]), grid[::20])
assert np.abs(plain - one)[near].max() < 5e-3  # with s = 1 the two agree
gap

# %% [markdown]
# ## 4. Too much contrast
#
# Beyond the data also means beyond the pixel range $[-1, 1]$. Clipping $\hat x_0$ to that range turns strongly guided
# images black and white. **Dynamic thresholding** [Saharia et al. 2022] takes a percentile $q$ of $|\hat x_0|$ for each
# image by itself. If $q > 1$, it clips the image to $[-q, q]$ and divides it by $q$, so that the pixels below the
# percentile keep their order.
#
# ### Exercise 9.4 - dynamic thresholding


# %%
def dynamic_threshold(x0, percentile):
    """Each image, clipped to [-q, q], over q;  q = max(1, percentile of its |x0|).   x0: (B, ...)  ->  (B, ...)"""
    ### BEGIN SOLUTION
    q = np.percentile(np.abs(x0), percentile, axis=tuple(range(1, x0.ndim)), keepdims=True)
    q = np.maximum(q, 1)
    return np.clip(x0, -q, q) / q
    ### END SOLUTION


# %%
loud = np.random.default_rng(0).normal(size=(4, 28, 28, 1)) * np.array([0.1, 0.5, 1, 3]).reshape(4, 1, 1, 1)
once = dynamic_threshold(loud, 99.5)
assert np.abs(once).max() <= 1
assert np.array_equal(dynamic_threshold(once, 99.5), once)  # a second application changes nothing
assert np.allclose(once[0], loud[0])  # an image within the range is left alone
saturated = np.mean(np.abs(once[3]) == 1), np.mean(np.abs(loud[3]) >= 1)
assert saturated[0] < 0.01 < 0.5 < saturated[1]
saturated

# %% [markdown]
# ## 5. What it costs
#
# The papers report two numbers that disagree. The share of images that a classifier recognises rises with $s$, which is
# good; the distance of the samples from the data rises too, which is bad. The distance is the **Fréchet distance** of
# two Gaussians, which have the means and covariances of the two sets of images:
#
# $$d^2 = \|\mu_p-\mu_q\|^2 + \mathrm{tr}\,\Sigma_p + \mathrm{tr}\,\Sigma_q
#   - 2\,\mathrm{tr}\big(\Sigma_p^{1/2}\,\Sigma_q\,\Sigma_p^{1/2}\big)^{1/2}.$$
#
# ### Exercise 9.5 - the Fréchet distance
# > **Note.** The matrix under the last root is symmetric, with eigenvalues $\ge 0$. The trace of its root is the sum of
# > the roots of these eigenvalues. `np.linalg.eigh` and `eigvalsh` are all you need.


# %%
def frechet(mean_p, cov_p, mean_q, cov_q):
    """The (squared) Fréchet distance of two Gaussians.   means: (d,);  covs: (d, d)  ->  number"""
    ### BEGIN SOLUTION
    lam, U = np.linalg.eigh(cov_p)
    root = (U * np.sqrt(np.maximum(lam, 0))) @ U.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_q @ root), 0)).sum()
    return float(((mean_p - mean_q) ** 2).sum() + np.trace(cov_p) + np.trace(cov_q) - 2 * cross)
    ### END SOLUTION


# %%
rng = np.random.default_rng(1)
A, B_ = rng.normal(size=(2, 5, 5))
cov_a, cov_b, m = A @ A.T, B_ @ B_.T, rng.normal(size=5)
assert abs(frechet(m, cov_a, m, cov_a)) < 1e-9
assert np.isclose(frechet(m, cov_a, m + 2, cov_a), 5 * 4)
assert np.isclose(frechet(m, 9 * np.eye(5), m, np.eye(5)), 5 * (3 - 1) ** 2)  # Σ (σ_p - σ_q)²
library = distances.frechet_moments(distances.Moments(m, cov_a, 9), distances.Moments(0 * m, cov_b, 9))
assert np.isclose(frechet(m, cov_a, 0 * m, cov_b), library)

# %% [markdown]
# Take the two classes above. How often is a sample nearer to the mean of its class than to that of the other class, and
# how far is the distribution of the samples from that of the class? The share of samples on the right side rises from
# .977 at $s=1$ to nearly 1. The distance is smallest at $s=1$ and rises too: **a perfect model gains nothing from
# guidance** but certainty. Ho and Salimans found their smallest distances at $w=.1$ and $w=.3$, depending on the data.
# A network is not perfect, and guidance repairs a little of that.

# %%
cost = {s: frechet(np.array([1.0]), np.eye(1) / 4, np.array([m]), np.eye(1) * std**2) for s, (m, std) in drawn.items()}
assert min(cost, key=cost.get) == 1.0 and cost[1.0] < 1e-4
assert all(cost[a] < cost[b] and nearer[a] <= nearer[b] for a, b in itertools.pairwise(scales))
assert abs(nearer[1.0] - 0.977) < 1e-3 and nearer[2.0] > 0.999  # P(x > 0) of N(1, 1/4) is .977
cost

# %% [markdown]
# ## 6. Garments
#
# The shipped network was trained with each label dropped with probability .1. We draw from the same noise and with the
# same class at several scales. A classifier judges the result. The **variety** of a class is the mean squared distance
# of two of its garments, measured between the features of that classifier.

# %%
garments = model.load("fashion_mnist")
assert garments.card["train"]["p_uncond"] == 0.1
per_class = {"smoke": 2, "short": 5, "full": 50}[BUDGET]
steps = {"smoke": 8, "short": 25, "full": 50}[BUDGET]
knob = {"smoke": [1.0, 4.0], "short": [0.0, 1.0, 2.0, 4.0, 8.0], "full": [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0]}[
    BUDGET
]
labels = jnp.repeat(jnp.arange(10), per_class)
noise = jax.random.normal(jax.random.key(1), (10 * per_class, 28, 28, 1))
judge = classifier.load("fashion_mnist")


def spread_of(features):
    """The mean squared distance between two images of one class."""
    by_class = features.reshape(10, per_class, -1)
    return float(2 * by_class.var(1, ddof=1).sum(1).mean())


images, accuracy, variety = {}, {}, {}
for s in knob:
    eps = guide.clip_x0(guide.cfg(garments.eps, s), garments.schedule)
    step = ddim_step(eps, garments.schedule, labels)
    images[s] = np.asarray(walk(step, jax.random.key(0), noise, schedule.make_times(1000, steps)))
    logits, features = judge(np.clip(images[s], -1, 1))
    accuracy[s], variety[s] = float(np.mean(logits.argmax(1) == np.asarray(labels))), spread_of(features)

# %% [markdown]
# Without the class ($s=0$) the label is right only by luck. With the class it is right mostly, and with more guidance
# nearly always. And the garments of a class become more alike: at $s=8$ there is little left but *the* pullover.

# %%
N = 10 * per_class
error = 3 * np.sqrt(0.1 * 0.9 / N)
assert accuracy[4.0] > 0.85 - error and accuracy[4.0] >= accuracy[1.0] - error
if 0.0 in knob:
    assert accuracy[0.0] < 0.1 + 2 * error < accuracy[1.0]
    assert variety[8.0] < variety[1.0] < variety[0.0]
accuracy, variety

# %% [markdown]
# ## 7. The picture
#
# Above: samples of three Gaussian classes with more and more guidance; the circles show where the data of each class
# are. This is Fig. 2 of the paper, with a perfect denoiser. Below, on the left: garments, with one noise for each row
# and one scale for each column. On the right: the means of Exercise 9.3, of the samples and of the tilted distribution;
# and the accuracy and variety of the garments.


# %%
def draw_three(axes, shown=(1.0, 2.0, 4.0, 8.0)):
    """Samples of three classes, with contours of the data distribution of each class."""
    count = 900
    c, x_T = jnp.arange(count) % 3, jax.random.normal(jax.random.key(2), (count, 2))
    colours = np.array(["#1f4e79", "#b5523b", "#2e8b57"])
    for axis, s in zip(axes, shown, strict=True):
        step = ddim_step(guide.cfg(three.eps(lib), s), lib, c)
        x = np.asarray(walk(step, jax.random.key(0), x_T, schedule.make_times(1000, 200)))
        axis.scatter(*x.T, s=3, color=colours[np.asarray(c)], alpha=0.55, lw=0)
        for mean, colour in zip(np.asarray(three.mean), colours, strict=True):
            for radius in (1, 2):
                axis.add_patch(plt.Circle(mean, radius * np.sqrt(0.18), fill=False, color=colour, lw=0.9))
        axis.set(xlim=(-3, 3), ylim=(-2.6, 3.2), xticks=[], yticks=[], aspect="equal")
        axis.set_title(f"$s={s:g}$   ($w={s - 1:g}$)", fontsize=10)


# %%
def draw_garments(axis, rows):
    """A row for each class in `rows`, a column for each scale."""
    which = [int(c) * per_class for c in rows]
    canvas = plot.grid(np.stack([images[s][k] for k in which for s in knob]), len(knob))
    axis.imshow(canvas[..., 0], cmap="gray")
    axis.set_xticks(16 + 30 * np.arange(len(knob)), [f"$s={s:g}$" for s in knob], fontsize=9)
    axis.set_yticks(16 + 30 * np.arange(len(rows)), [garments.classes[c] for c in rows], fontsize=9)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


# %%
def draw_curves(toy, trade):
    """What is sampled, compared with what is often claimed to be sampled; accuracy and variety."""
    for values, colour, name in ((drawn, "#b5523b", "sampled"), (exact, "#1f4e79", "tilted distribution")):
        m, std = np.array([values[s] for s in scales]).T
        toy.plot(scales, m, "o-", ms=3, color=colour, label=name)
        toy.fill_between(scales, m - std, m + std, color=colour, alpha=0.15, lw=0)
    toy.axhline(1, color="grey", lw=0.8, ls=":")
    toy.set(xlabel="scale $s$", ylabel=r"mean $\pm$ deviation")
    toy.set_title("guidance does not sample the tilted distribution (exact)", fontsize=9)
    toy.legend(frameon=False, fontsize=8)
    trade.plot(knob, [accuracy[s] for s in knob], "o-", ms=4, color="#1f4e79", label="recognised")
    trade.plot(
        knob, [variety[s] / variety[1.0] for s in knob], "s--", ms=4, color="#b5523b", label="variety (1 at $s=1$)"
    )
    trade.set(xlabel="scale $s$", ylim=(0, None))
    trade.set_title(f"garments: certainty against variety ({N} images per point)", fontsize=9)
    trade.legend(frameon=False, fontsize=8)
    for axis in (toy, trade):
        axis.spines[["top", "right"]].set_visible(False)


# %%
def picture():
    """The figure of this lesson."""
    figure = plt.figure(figsize=(11, 10), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 2.4])
    draw_three(top.subplots(1, 4))
    left, right = bottom.subfigures(1, 2, width_ratios=[1.15, 1])
    draw_garments(left.subplots(), (0, 2, 3, 5, 6, 8, 9))
    draw_curves(*right.subplots(2, 1))
    return figure


# %%
if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l09.png", dpi=150)
    numbers = {
        "two_gaussians": {f"s {s:g}": {"drawn": drawn[s], "tilted": exact[s], "frechet": cost[s]} for s in scales},
        "garments": {f"s {s:g}": {"accuracy": accuracy[s], "variety": variety[s]} for s in knob},
        "n": N,
        "budget": BUDGET,
    }
    (out / "l09.json").write_text(json.dumps(numbers, indent=1, default=float) + "\n")
    print(f"L9: with s = 5 the mean is {drawn[5.0][0]:.2f}; the tilted one is {exact[5.0][0]:.2f}. out/l09.png")

# %% [markdown]
# ## What to take along
#
# - Guidance, $\hat\varepsilon_\varnothing + s(\hat\varepsilon_c-\hat\varepsilon_\varnothing)$, is a classifier that
#   nobody trained, heard $s$ times as loud. Find out which convention is used, $s$ or $w = s-1$, before you compare
#   numbers.
# - It does not sample $p(x)\,p(c\mid x)^s$. The samples lie further out and closer together.
# - Guidance buys certainty and pays with variety. With a perfect model $s=1$ is best; with a network a little more may
#   be better.
#
# ## Further reading
#
# - Ho, Salimans 2022, *Classifier-Free Diffusion Guidance*; Dhariwal, Nichol 2021, *Diffusion Models Beat GANs on Image
#   Synthesis*.
# - Bradley, Nakkiran 2024, *Classifier-Free Guidance is a Predictor-Corrector*. It shows what guidance does sample.
# - Kynkäänniemi et al. 2024, *Applying Guidance in a Limited Interval*. Guidance only at the noise levels where it
#   helps (`ddpm.guides.rules.interval`).
# - Karras et al. 2024, *Guiding a Diffusion Model with a Bad Version of Itself*. Certainty without losing variety.
