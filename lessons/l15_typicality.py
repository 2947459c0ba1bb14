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
# # L15. A denoiser as a measuring instrument
#
# | | |
# |---|---|
# | you learn | to measure with a denoiser what makes an image look like its class, where in it, and how sure that is |
# | time | 50 minutes to read and do, 2 minutes to run |
# | difficulty | ●●●○○ |
# | importance | ●●●○○ |
# | paper | Siglidis et al. 2024, *Diffusion Models as Data Mining Tools*; Li et al. 2023, Eq. 5 |
#
# So far a denoiser was a tool for drawing. But it also *knows* something: what garments look like, and what boots look
# like. Add noise to an image and let the denoiser predict the noise twice, once with the hint "a boot" and once without
# a hint. If the hint helped, the image looks like a boot. The pixels in which it helped are what makes the image look
# like one.

# %%
import itertools
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddpm import data, oracle, plot, schedule
from ddpm.classifiers import by_denoising
from ddpm.datasets import sources
from ddpm.mining import localisation
from ddpm.oracles import gaussian
from ddpm.typicality import Draws
from ddpm.typicality import measure as library_typicality
from ddpm.zoo import model

# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how many images and draws
lib = schedule.linear(1000)
abar = np.asarray(lib.alpha_bar, np.float64)

# %% [markdown]
# ## 1. Two questions, one noise
#
# Let $L_t(x,\varepsilon,c) = \|\varepsilon-\hat\varepsilon(x_t,t,c)\|^2/D$ be the loss, a mean over the $D$ pixels,
# with $x_t=\sqrt{\bar\alpha_t}\,x+\sqrt{1-\bar\alpha_t}\,\varepsilon$. We write $c=\varnothing$ if no class is given.
# The **typicality** of $x$ for the class $c$ is how much the class lowers the loss:
#
# $$T(x\mid c) = \mathbb E_{t,\varepsilon}\big[\,L_t(x,\varepsilon,\varnothing) - L_t(x,\varepsilon,c)\,\big].$$
#
# The two losses are large and nearly equal, and they vary a lot from noise to noise: some noises are hard to predict.
# So evaluate both losses at **the same** noisy image. Then this luck cancels. (In statistics this is called *common
# random numbers*.)
#
# ### Exercise 15.1 - typicality with its error, and a bet
# `times` and `noise` hold $K$ pairs $(t,\varepsilon)$. Return the mean of the $K$ differences and its standard error:
# their standard deviation (divide by $K-1$) over $\sqrt K$. **Then bet:** take two classes as near to each other as
# pullovers and coats, 784 pixels, $t=300$. By what factor would the *variance* rise if each loss had a separate noise?


# %%
def typicality_of(eps, alpha_bar, x, c, times, noise):
    """T(x|c) and its standard error.

    eps: (x_t (K, D), t (K,), c or None) -> (K, D);  alpha_bar: (T+1,);  x: (D,);  c: int;
    times: (K,) int;  noise: (K, D)  ->  two numbers
    """
    ### BEGIN SOLUTION
    a = alpha_bar[times][:, None]
    x_t = np.sqrt(a) * x + np.sqrt(1 - a) * noise
    without = ((noise - eps(x_t, times, None)) ** 2).mean(1)
    told = ((noise - eps(x_t, times, c)) ** 2).mean(1)
    return (without - told).mean(), (without - told).std(ddof=1) / np.sqrt(len(times))
    ### END SOLUTION


def variance_rises_by():
    """Your bet: the variance with two noises over that with one.   ->  a number"""
    ### BEGIN SOLUTION
    return 25.0
    ### END SOLUTION


# %% [markdown]
# **Exactly:** for two classes $\mathcal N(\pm1,\frac14)$ the perfect denoiser $\varepsilon^*$ is known. $T$ is then an
# integral over one number, the noise, and a quadrature gives it. In the middle between the classes, at $x=0$, the image
# is no evidence for either class; yet $T<0$ there. Keep that in mind for section 2.

# %%
z, w = np.polynomial.hermite_e.hermegauss(80)  # E f(ε) = Σ w f(z) for ε ~ N(0, 1)
w = w / w.sum()
two = oracle.mixture(mean=[[1.0], [-1.0]], cov=0.25)
ask_two = jax.jit(two.eps(lib))


def both_losses(alpha_bar, x):
    """E_ε of the loss without and with the class +1, at each ᾱ.   (N,), number  ->  (N,), (N,)"""
    a = alpha_bar[:, None]
    x_t, var = np.sqrt(a) * x + np.sqrt(1 - a) * z, a / 4 + 1 - a
    own, other = (np.sqrt(1 - a) * (x_t - np.sqrt(a) * m) / var for m in (1, -1))
    share = 1 / (1 + np.exp(-2 * np.sqrt(a) * x_t / var))  # p(+1 | x_t)
    return ((z - share * own - (1 - share) * other) ** 2) @ w, ((z - own) ** 2) @ w


def exact_T(x, first=1, last=1000):
    """T(x | +1), with t uniform on first…last."""
    without, told = both_losses(abar[first : last + 1], x)
    return (without - told).mean()


# %%
def two_classes(x_t, t, c):
    """The oracle, with the arguments and results of the exercise."""
    return np.asarray(
        ask_two(jnp.asarray(x_t, jnp.float32), jnp.asarray(t), None if c is None else jnp.full(len(t), c))
    )


K = 4000
rng = np.random.default_rng(0)
times, noise = rng.integers(1, 1001, K), rng.normal(size=(K, 1))
for x in (-1.0, 0.0, 0.5, 1.0):
    value, error = typicality_of(two_classes, abar, np.array([x]), 0, times, noise)
    assert abs(value - exact_T(x)) < 6 * error
assert exact_T(0.0) < -0.04 and exact_T(1.0) > 0.1 and exact_T(-1.0) < -0.9
[round(exact_T(x), 3) for x in (-1.0, 0.0, 0.5, 1.0)]

# %% [markdown]
# Now the bet. For two Gaussian classes $\mathcal N(\mu_c, vI)$ the ratio of the variances is known. With one noise only
# the direction between the means counts; with two noises all $D$ pixels do. For the means of pullovers and coats
# $\|\mu-\mu'\|^2=24.7$. The mean variance of a pixel over *all* garments is $v=.348$, which makes the factor 26; within
# the two classes alone it is .231, which would make it 17.

# %%
D, gap2, var, a = 784, 24.7, 0.348, abar[300]
mu = np.zeros((2, D))
mu[0, 0] = np.sqrt(gap2)


def far(x_t, t, c):
    """ε* of class 0, or, for c = None, of the other class."""
    return np.sqrt(1 - a) * (x_t - np.sqrt(a) * mu[1 if c is None else c]) / (a * var + 1 - a)


x, K = mu[0] + np.sqrt(var) * rng.normal(size=D), 2000
noise, at_300 = rng.normal(size=(K, D)), np.full(2000, 300)
shared = typicality_of(far, abar, x, 0, at_300, noise)[1] ** 2 * K
x_t = np.sqrt(a) * x + np.sqrt(1 - a) * noise
own = ((noise - far(x_t, at_300, 0)) ** 2).mean(1)
other = ((noise - far(x_t, at_300, None)) ** 2).mean(1)
ratio = (other.var() + own[::-1].var()) / shared  # the variances of independent draws add up
exact_ratio = (D * a * var**2 / (1 - a) + ((x - mu) ** 2).sum()) / gap2
assert abs(ratio / exact_ratio - 1) < 6 * np.sqrt(4 / K) and 20 < exact_ratio < 32
on_average = [(D * a * v**2 / (1 - a) + 2 * D * v + gap2) / gap2 for v in (var, 0.231)]  # E ‖x-μ‖² = D v
assert np.array_equal(np.round(on_average), [26, 17])
ratio, exact_ratio

# %% [markdown]
# A hundred draws with one noise are worth about 2,500 with two.
#
# ## 2. What it measures
#
# $T$ is an average over noise levels. Weight the levels as the variational bound does, and $T$ becomes a well-known
# quantity. With the log signal-to-noise ratio $\lambda=\log\frac{\bar\alpha}{1-\bar\alpha}$, and with losses that are
# *summed* over the pixels,
#
# $$\tfrac12\int \mathbb E_\varepsilon\big[L_\lambda(x,\varepsilon,\varnothing) - L_\lambda(x,\varepsilon,c)\big]\,
#   d\lambda \;=\; \log\frac{p(x\mid c)}{p(x)},$$
#
# The reason is that with a perfect denoiser $-\log p(x\mid c)$ *equals* the bound, $\frac12\int L_\lambda\,d\lambda$
# plus a constant [Kingma et al. 2021]. The right side is the **log-likelihood ratio**, or *pointwise mutual
# information*: how much the class tells about the image, in nats.
#
# ### Exercise 15.2 - the integral
# Use the trapezoid rule. The list of $\bar\alpha$ falls, as it does along $t$.


# %%
def information(alpha_bar, without, told):
    """½ ∫ (L_∅ - L_c) dλ over all λ.

    alpha_bar: (N,) falling, in (0, 1);  without, told: (N,) losses summed over the pixels  ->  number
    """
    ### BEGIN SOLUTION
    log_snr = np.log(alpha_bar / (1 - alpha_bar))
    return -0.5 * np.trapezoid(without - told, log_snr)
    ### END SOLUTION


# %% [markdown]
# The integral is right to within .0001 at every point, and it is **zero in the middle**: there the class tells nothing.
# $T$, with equal weights on all $t$, is another average of the same curve. On this line it ranks the points in the same
# order, but its zero is elsewhere.

# %%
levels = 1 / (1 + np.exp(-np.linspace(14, -14, 4001)))  # ᾱ, evenly spaced in λ
points = np.linspace(-1.5, 2.5, 17)
log_c, log_other = -2 * (points - 1) ** 2, -2 * (points + 1) ** 2
truth = log_c - np.logaddexp(log_c, log_other) + np.log(2)
integral = np.array([information(levels, *both_losses(levels, x)) for x in points])
assert np.allclose(integral, truth, atol=1e-4, rtol=0)
assert abs(information(levels, *both_losses(levels, 0.0))) < 2e-3 and exact_T(0.0) < -0.04
plain = np.array([exact_T(x) for x in points])
assert np.all(np.diff(integral) > -1e-3) and np.all(np.diff(plain) > -1e-3)  # both rise
np.abs(integral - truth).max()

# %% [markdown]
# ## 3. The same losses classify
#
# We have $\log p(x\mid c) = \text{constant} - \frac12\int L_\lambda(x,c)\,d\lambda$ for each class. From this, Bayes'
# rule gives $p(c\mid x)$: a **diffusion classifier**, which was never trained as a classifier. The constant is the same
# for all classes and cancels.
#
# ### Exercise 15.3 - a denoiser that classifies
# > **Note.** Subtract the largest logarithm before you take the exponential, so that nothing overflows.


# %%
def class_posterior(alpha_bar, loss, prior):
    """p(c | x) from the losses of each class.

    alpha_bar: (N,) falling;  loss: (C, N) summed over the pixels;  prior: (C,) p(c)  ->  (C,)
    """
    ### BEGIN SOLUTION
    log_snr = np.log(alpha_bar / (1 - alpha_bar))
    log_joint = np.log(prior) + 0.5 * np.trapezoid(loss, log_snr, axis=1)  # log_snr falls: the minus is in it
    p = np.exp(log_joint - log_joint.max())
    return p / p.sum()
    ### END SOLUTION


# %% [markdown]
# **Exactly:** take three Gaussian classes with different means, variances and prior probabilities. The loss of the
# perfect denoiser of $\mathcal N(\mu,s)$ is known. With $v=\bar\alpha s+1-\bar\alpha$ it is
#
# $$\mathbb E_\varepsilon L = (\bar\alpha s/v)^2 + \bar\alpha(1-\bar\alpha)(x-\mu)^2/v^2.$$
#
# The classifier reproduces the exact posterior, number by number. The paper puts equal weights on some times only. Even
# then classes that differ in their means alone are told apart as well as possible: the nearest mean wins, for any
# choice of the times.

# %%
mean, s, prior = np.array([-1.0, 0.5, 2.0]), np.array([0.3, 0.1, 1.0]), np.array([0.2, 0.5, 0.3])
for x in (-2.0, -0.4, 0.1, 0.7, 1.5):
    a, v = levels[None], levels[None] * s[:, None] + 1 - levels[None]
    loss = (a * s[:, None] / v) ** 2 + a * (1 - a) * (x - mean[:, None]) ** 2 / v**2
    bayes = prior * np.exp(-((x - mean) ** 2) / 2 / s) / np.sqrt(s)
    assert np.allclose(class_posterior(levels, loss, prior), bayes / bayes.sum(), atol=2e-3)
alike = oracle.mixture(mean=mean[:, None], cov=0.3)
xs = np.linspace(-3, 4, 50)
for window in (range(1, 1001), range(101, 701), [300]):
    L = gaussian.gaussian_losses(alike, lib, xs[:, None], [window])[..., 0]
    assert np.array_equal(L.argmin(1), np.abs(xs[:, None] - mean).argmin(1))

# %% [markdown]
# ## 4. A world whose answer is known
#
# *Where* does an image look like its class? To know whether an answer is right we construct a world. A facade has
# $4\times4$ cells of $7\times7$ pixels. Each cell holds a motif, at one of nine places, or nothing, independently of
# the other cells. Four motifs are common in all towns. The other six are **planted**: two of them belong to each town.
# A cell holds a given motif with probability .1 if it is common or belongs to the town, and else with probability .01.
# A little noise is added on top.

# %%
MOTIFS = """
.###. ..#.. ##### #.#.# #...# ..#.. ##### ###.. #.... ..###
#...# ..#.. ..... #.#.# .#.#. .#.#. ..#.. #.... #.... ....#
#...# ##### ##### #.#.# ..#.. #...# ..#.. ##### #.... #####
#...# ..#.. ..... #.#.# .#.#. ..... ..#.. ....# #.... #....
.###. ..#.. ##### #.#.# #...# ##### ..#.. ..### ##### ###..
"""
rows = [line.split() for line in MOTIFS.strip().splitlines()]
ink = np.array([[[mark == "#" for mark in row[m]] for row in rows] for m in range(10)])  # (10, 5, 5)
forms = np.full((91, 7, 7), -0.6)  # ten motifs at nine places, and the empty cell
for m, place in np.ndindex(10, 9):
    y, x = divmod(place, 3)
    forms[9 * m + place, y : y + 5, x : x + 5] = np.where(ink[m], 0.6, -0.6)
which = np.append(np.repeat(np.arange(10), 9), -1)  # the motif of each form
STD = 0.07  # of the noise on each pixel
rate = np.zeros((3, 91))
for town in range(3):
    rate[town] = np.where(which < 4, 0.10, 0.01) / 9
    rate[town, np.isin(which, [4 + 2 * town, 5 + 2 * town])] = 0.10 / 9
    rate[town, -1] = 1 - rate[town, :-1].sum()


# %%
def to_cells(x):
    """(B, 28, 28, 1) -> (B, 16, 49)"""
    return x.reshape(-1, 4, 7, 4, 7).transpose(0, 1, 3, 2, 4).reshape(-1, 16, 49)


def facades(rng, towns):
    """Images of the given towns (n,), and the motif at each pixel, -1: none.   ->  (n, 28, 28, 1), (n, 28, 28)"""
    n = len(towns)
    form = np.stack([rng.choice(91, size=16, p=rate[c]) for c in towns]).reshape(n, 4, 4)
    cells = forms[form] + STD * rng.normal(size=(n, 4, 4, 7, 7))
    box = np.stack([np.where(f > -9, m, -1) for f, m in zip(forms, which, strict=True)])  # all of the cell ...
    for k in range(90):  # ... but only the 5 x 5 pixels of the motif count
        y, x = divmod(k % 9, 3)
        inside = np.zeros((7, 7), bool)
        inside[y : y + 5, x : x + 5] = True
        box[k][~inside] = -1
    x, motif = (a.transpose(0, 1, 3, 2, 4).reshape(n, 28, 28) for a in (cells, box[form]))
    return np.clip(x, -1, 1)[..., None].astype(np.float32), motif


# %% [markdown]
# The density of a noisy facade is a product over cells of a sum over forms. If the town is not given, it is the mean of
# these densities over the towns. The perfect denoiser follows from its gradient (Lesson 5),
# $\varepsilon^*=-\sqrt{1-\bar\alpha_t}\,\nabla\log p_t$, which JAX computes.

# %%
FORMS, LOG_RATE = jnp.asarray(forms.reshape(91, 49), jnp.float32), jnp.log(jnp.asarray(rate, jnp.float32) + 1e-30)


def log_likelihoods(x_t, t):
    """log p_t(cell | form) up to a constant: (B, 28, 28, 1), (B,) -> (B, 16, 91)"""
    a, cells = lib.alpha_bar[t].reshape(-1, 1, 1), to_cells(x_t)
    distance = (cells**2).sum(-1, keepdims=True) - 2 * jnp.sqrt(a) * cells @ FORMS.T + a * (FORMS**2).sum(1)[None, None]
    return -distance / 2 / (a * STD**2 + 1 - a)


def log_p(x_t, t, c):
    """log p_t(x_t | c) up to a constant; with c = None the town is not given.   ->  (B,)"""
    joint = log_likelihoods(x_t, t)[:, :, None] + LOG_RATE[None, None]  # (B, 16, towns, forms)
    by_town = jax.nn.logsumexp(joint, -1).sum(1)
    if c is None:
        return jax.nn.logsumexp(by_town, 1) - jnp.log(3)
    return jnp.take_along_axis(by_town, c[:, None], 1)[:, 0]


def perfect(x_t, t, c=None):
    """ε*(x_t, t, c)"""
    gradient = jax.grad(lambda x: log_p(x, t, c).sum())(x_t)
    return -jnp.sqrt(1 - lib.alpha_bar[t]).reshape(-1, 1, 1, 1) * gradient


# %% [markdown]
# Is it perfect? The error of a conditional mean is uncorrelated with that mean,
# $\mathbb E\,(\varepsilon-\varepsilon^*)\,\varepsilon^* = 0$ (the *orthogonality principle*). And knowing the town can
# only lower the loss, on average.

# %%
n = {"smoke": 16, "short": 48, "full": 192}[BUDGET]  # facades of town 0, and as many of the other two together
towns = np.concatenate([np.zeros(n, int), 1 + np.arange(n) % 2])
x, motif = facades(np.random.default_rng(1), towns)
t = np.random.default_rng(2).integers(100, 700, 2 * n)
noise = np.random.default_rng(3).normal(size=x.shape).astype(np.float32)
x_t = np.sqrt(abar[t]).reshape(-1, 1, 1, 1) * x + np.sqrt(1 - abar[t]).reshape(-1, 1, 1, 1) * noise
error = {}
for c in (None, jnp.asarray(towns)):
    guess = np.asarray(jax.jit(perfect)(jnp.asarray(x_t, jnp.float32), jnp.asarray(t), c))
    product = ((noise - guess) * guess).mean((1, 2, 3))
    assert abs(product.mean()) < 6 * product.std() / np.sqrt(2 * n)
    error[c is None] = ((noise - guess) ** 2).mean()
assert error[False] < error[True]
error[True], error[False]

# %% [markdown]
# Now the instrument. We compute the typicality of all facades for town 0 with the library's `typicality` and shared
# draws. It also keeps the **map**, the difference of the losses before the mean over pixels. $T$ agrees well with the
# exact $\log p(x\mid c)/p(x)$: the correlation is above .85, though the weights are not those of the bound. And the
# pixels of the planted motifs have higher values than the rest, though nobody marked the motifs in the images. We
# report this as the area under the ROC curve (**AUC**): the probability that a pixel of a planted motif has a higher
# value than another pixel.

# %%
draws = {"smoke": 60, "short": 100, "full": 200}[BUDGET]
T = library_typicality(perfect, lib, x, 0, jax.random.key(0), Draws(draws), batch=2 * n)
planted = np.isin(motif, (4, 5))  # of town 0
likelihood, clean = jax.jit(log_p), jnp.zeros(2 * n, int)
told = np.asarray(likelihood(x, clean, clean) - likelihood(x, clean, None))  # log p(x|0)/p(x), exactly
own = towns == 0
auc = localisation.motif_auc(T.map[own], planted[own]), localisation.motif_auc(T.map[own], planted[own], pool=5)
alike = np.corrcoef(T.value, told)[0, 1]
assert alike > 0.85 and T.value[own].mean() > 0 > T.value[~own].mean()
assert auc[0] > 0.8 and auc[1] > 0.9
{"AUC of the map, by pixel": auc[0], "averaged over 5 x 5": auc[1], "correlation with the truth": alike}

# %% [markdown]
# ## 5. Garments
#
# Now the same with the network of Lesson 4, on garments that the network itself drew. (Set `DDPM_REAL=1`, and the test
# images of Fashion-MNIST are used instead, if they are found.) All images and all classes share the pairs
# $(t,\varepsilon)$, so one table of losses gives $T$, the maps and the classifier.
#
# > **Note.** The papers draw $t$ from $(.1T,.7T]$ of the *linear* schedule. This network has the cosine schedule, for
# > which about the same signal-to-noise ratios are in $(.2T,.95T]$. A window of times belongs to a schedule.

# %%
fashion = model.load("fashion_mnist")
ab = np.asarray(fashion.schedule.alpha_bar, np.float64)
assert np.allclose(*(np.log(r / (1 - r)) for r in (ab[[200, 950]], abar[[100, 700]])), atol=0.2)  # the note's windows
B = {"smoke": 10, "short": 20, "full": 100}[BUDGET]
K = {"smoke": 4, "short": 24, "full": 100}[BUDGET]
labels = np.arange(B) % 10
network = jax.jit(lambda eps, x, t, c: eps(x, jnp.full(B, t), c))


def guess(x, t, c):
    """The network's ε̂ for B images, in float64."""
    c = jnp.broadcast_to(jnp.asarray(c), (B,))
    return np.asarray(network(fashion.eps, jnp.asarray(x, jnp.float32), int(t), c), np.float64)


def drawn(key=1):
    """Garments of the given labels, drawn by DDIM with guidance 2 (Lessons 6 and 9)."""
    x = np.random.default_rng(key).normal(size=(B, 28, 28, 1))
    times = schedule.make_times(1000, {"smoke": 12, "short": 30, "full": 100}[BUDGET])
    for t, s in itertools.pairwise(times):
        null, told = guess(x, t, 10), guess(x, t, labels)
        eps = null + 2 * (told - null)
        x0 = np.clip((x - np.sqrt(1 - ab[t]) * eps) / np.sqrt(ab[t]), -1, 1)
        x = np.sqrt(ab[s]) * x0 + np.sqrt(1 - ab[s]) * (x - np.sqrt(ab[t]) * x0) / np.sqrt(1 - ab[t])
    return x


# %%
if os.environ.get("DDPM_REAL") == "1":
    test = sources.load("fashion_mnist")
    ids = np.concatenate([np.flatnonzero(test.y_test == c)[: B // 10] for c in range(10)]).reshape(10, -1).T.ravel()
    garments = np.asarray(data.to_float(test.x_test[ids]), np.float64)
else:
    garments = drawn()
times = by_denoising.even_times(1000, K, (0.2, 0.95))
noise = np.random.default_rng(2).normal(size=(K, 1, 28, 28, 1))
loss, total = np.empty((K, 11, B)), np.zeros((11, B, 28, 28))  # the last of the 11 "classes" is ∅
for i, t in enumerate(times):
    x_t = np.sqrt(ab[t]) * garments + np.sqrt(1 - ab[t]) * noise[i]
    for c in range(11):
        error = ((noise[i] - guess(x_t, t, c)) ** 2)[..., 0]
        loss[i, c], total[c] = error.mean((1, 2)), total[c] + error

# %% [markdown]
# Nearly all of these garments are typical of their true class ($T>0$), and the class with the smallest loss is nearly
# always the right one, with a few draws. These garments were drawn *for* their class by the same network, which makes
# it easy. For 1,000 real test images, and a comparison with the exact Gaussian denoisers, see
# `experiments/results/diffusion_classifier`.

# %%
T_of = (loss[:, 10:] - loss[:, :10]).mean(0).T  # (B, 10): T(x | c)
own_T = T_of[np.arange(B), labels]
where_typical = (total[10] - total[labels, np.arange(B)]) / K
by_draws = {
    m: float((loss[:m, :10].mean(0).argmin(0) == labels).mean()) for m in (1, 2, 4, 8, 16, 24, 48, 100) if m <= K
}
least = 0.4 if BUDGET == "smoke" else 0.85  # four draws of one garment for each class do not tell much
assert (own_T > 0).mean() >= least and by_draws[max(by_draws)] >= least
differences = loss[:, 10] - loss[:, labels, np.arange(B)]  # (K, B)
error_of = differences.std(0, ddof=1) / np.sqrt(K)
unpaired = np.sqrt(loss[:, 10].var(0, ddof=1) + loss[:, labels, np.arange(B)].var(0, ddof=1)) / np.sqrt(K)
assert np.all(unpaired > error_of)
by_draws, (own_T > 0).mean(), float(np.median((unpaired / error_of) ** 2))

# %% [markdown]
# ## 6. The picture
#
# Above is the world with known answers: facades of town 0, with the map of the perfect denoiser (red: the town helped;
# black frames: what was planted). Then $T$ against the log-likelihood ratio, and how many draws the classifier needs.
# Below are garments that the network drew, and where they are typical of their class.


# %%
def plain(axis, title="", size=9):
    """No ticks, no frame."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.set_title(title, fontsize=size)


def draw_town(axes, shown):
    """Facades above, their maps with frames below."""
    most = np.quantile(np.abs(T.map[:n]), 0.995)
    for axis, i in zip(axes[0], shown, strict=True):
        axis.imshow(x[i, ..., 0], cmap="gray", vmin=-1, vmax=1)
        plain(axis)
    for axis, i in zip(axes[1], shown, strict=True):
        axis.imshow(T.map[i], cmap="RdBu_r", vmin=-most, vmax=most)
        axis.contour(planted[i], [0.5], colors="black", linewidths=0.9)
        plain(axis)
    axes[0, 0].set_ylabel("facades", fontsize=9)
    axes[1, 0].set_ylabel("map of T", fontsize=9)


# %%
def draw_rank(axis):
    """T against the log-likelihood ratio, facade by facade."""
    for picked, colour, name in ((own, "#c0392b", "town 0"), (~own, "#1b4f72", "the others")):
        axis.errorbar(
            told[picked], 1e3 * T.value[picked], 1e3 * T.stderr[picked], fmt=".", ms=4, lw=0.6, color=colour, label=name
        )
    axis.axhline(0, color="grey", lw=0.6)
    axis.axvline(0, color="grey", lw=0.6)
    axis.set_xlabel("log p(x | town 0) - log p(x), nats", fontsize=8)
    axis.set_ylabel("1000 T(x | town 0)", fontsize=8)
    axis.set_title("typicality ranks as the likelihood ratio does", fontsize=9)
    axis.legend(frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)


# %%
def draw_garments(axes):
    """Ten garments, and where they are typical of their class."""
    most = np.quantile(np.abs(where_typical), 0.99) / 1.5
    maps = plot.overlay(garments[:10], where_typical[:10], most)
    for i, axis in enumerate(axes[0]):
        axis.imshow(garments[i, ..., 0], cmap="gray", vmin=-1, vmax=1)
        plain(axis, fashion.classes[labels[i]], 8)
    for i, axis in enumerate(axes[1]):
        axis.imshow((maps[i] + 1) / 2)
        plain(axis)
        axis.set_xlabel(f"{1e3 * own_T[i]:+.1f} ± {1e3 * error_of[i]:.1f}", fontsize=7)
    axes[1, 0].set_ylabel("1000 T below", fontsize=8)


# %%
def draw_accuracy(axis):
    """How many draws the classifier needs."""
    axis.semilogx(list(by_draws), list(by_draws.values()), "o-", ms=4, color="#1b4f72", base=2)
    axis.set_xticks(list(by_draws), list(by_draws))
    axis.set(ylim=(0, 1.05))
    axis.set_xlabel("shared draws (t, ε) per class", fontsize=8)
    axis.set_title(f"share whose class has the smallest loss ({B} garments)", fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)


def picture():
    """The figure of this lesson."""
    figure = plt.figure(figsize=(11, 8.6), layout="constrained")
    parts = figure.subfigures(3, 1, height_ratios=[2.5, 1.9, 1.65])
    draw_town(parts[0].subplots(2, 7), np.argsort(-T.value[:n])[:7])
    left, right = parts[1].subplots(1, 2)
    draw_rank(left)
    draw_accuracy(right)
    draw_garments(parts[2].subplots(2, 10))
    return figure


# %%
if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l15.png", dpi=150)
    numbers = {
        "variance_unpaired_over_paired": {"measured": ratio, "exact": exact_ratio},
        "world": {"auc_pixel": auc[0], "auc_5x5": auc[1], "facades": 2 * n},
        "correlation_with_log_ratio": float(alike),
        "garments": {
            "T": own_T,
            "error": error_of,
            "accuracy_by_draws": by_draws,
            "n": B,
            "draws": K,
        },
        "budget": BUDGET,
    }
    (out / "l15.json").write_text(json.dumps(numbers, indent=1, default=np.ndarray.tolist) + "\n")
    print(f"L15: a map with an AUC of {auc[1]:.2f}; {max(by_draws.values()):.2f} of the garments named. out/l15.png")

# %% [markdown]
# ## What to take along
#
# - Typicality is how much the class helps to predict the noise. With the weights of the bound it is
#   $\log p(x\mid c)/p(x)$.
# - Evaluate both losses at the same noisy image. In our example this is worth about twenty-five times the draws.
# - The same losses classify, and the maps show where. Before you believe a map, plant something and see it found.
# - Lesson 16 goes on from the maps to patches, and from patches to what makes a town look like itself.
#
# ## Further reading
#
# - Siglidis et al. 2024, *Diffusion Models as Data Mining Tools*. `ddpm mine` is this method, with p-values.
# - Li et al. 2023, *Your Diffusion Model is Secretly a Zero-Shot Classifier*.
# - Kong et al. 2023, *Information-Theoretic Diffusion*. The integral of section 2, and what else it gives.
