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
# # L10. The price of guidance, and its algebra
#
# | | |
# |---|---|
# | you learn | to guide with fewer calls of the network, to teach a student the whole of it, and to add conditions up |
# | time | 60 minutes to read and do, 3 minutes to run |
# | difficulty | ●●●●○ |
# | importance | ●●○○○ |
# | paper | Castillo et al. 2023; Kynkäänniemi et al. 2024; Meng et al. 2023; Liu et al. 2022, Eq. 11; Du et al. 2023 |
#
# Guidance (Lesson 9) calls the network twice for each step. Is the second call worth its price at every step? We leave
# it out where it changes little. Then we train a network whose *one* call gives what the two gave. And since guidance
# is a sum of denoisers, we add more of them: *this* AND *that*, *this* but NOT *that*. Adding denoisers is easy; to say
# what has been sampled is not, and for Gaussians we can say it exactly.

# %%
import json
import os
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from ddpm import guide, oracle, plot, schedule
from ddpm.classifiers import classifier
from ddpm.contracts import Partial
from ddpm.forward import q_sample
from ddpm.guides import adaptive, composition
from ddpm.sample import ddim_step, walk
from ddpm.zoo import model

# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how many images and steps

# %% [markdown]
# ## 1. How far apart are the two predictions?
#
# The guided prediction is $\hat\varepsilon_\varnothing + s\,(\hat\varepsilon_c-\hat\varepsilon_\varnothing)$. Where the
# two predictions are equal, the scale $s$ does nothing and one call is enough. Castillo et al. measure how alike they
# are by the cosine of the angle between them,
#
# $$\gamma = \frac{\hat\varepsilon_c\cdot\hat\varepsilon_\varnothing}
#   {\|\hat\varepsilon_c\|\,\|\hat\varepsilon_\varnothing\|}.$$
#
# ### Exercise 10.1 - how alike
# > **Note.** One number for each image. All of its pixels and channels are the entries of one long vector.


# %%
def similarity(eps_c, eps_null):
    """γ, the cosine between the two predictions of each image.   both: (B, ...)  ->  (B,)"""
    ### BEGIN SOLUTION
    a, b = eps_c.reshape(len(eps_c), -1), eps_null.reshape(len(eps_null), -1)
    return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
    ### END SOLUTION


# %%
rng = np.random.default_rng(0)
a, b = rng.normal(size=(2, 4, 5, 5, 1))
assert np.allclose(similarity(a, a), 1) and np.allclose(similarity(a, -3 * a), -1)
assert np.allclose(similarity(a, b), adaptive.cosine(a, b), atol=1e-6)  # the library's
assert np.abs(similarity(*rng.normal(size=(2, 9, 4000)))).max() < 0.1  # independent noise: a right angle

# %% [markdown]
# Now the garments of Lesson 9. We draw with $s=2$ and keep both predictions at each step.

# %%
garments = model.load("fashion_mnist")
chain = garments.schedule
per_class = {"smoke": 1, "short": 10, "full": 50}[BUDGET]
steps = {"smoke": 4, "short": 20, "full": 50}[BUDGET]
labels = jnp.tile(jnp.arange(10), per_class)
N = len(labels)
noise = jax.random.normal(jax.random.key(1), (N, 28, 28, 1))
times = schedule.make_times(1000, steps)
plain = jax.jit(garments.eps)
nothing = composition.given(plain, jnp.int32(len(garments.classes)))  # the label after the last class is ∅


# %%
def drawn(eps, times):
    """DDIM from the same noise, with x̂_0 clipped (Lesson 6).   eps: (x_t, t (N,)) -> like x_t"""
    x, abar = np.asarray(noise), np.asarray(chain.alpha_bar)
    for t, s in pairwise(times):
        eps_t = np.asarray(eps(x, jnp.full(N, t)))
        x_0 = np.clip((x - np.sqrt(1 - abar[t]) * eps_t) / np.sqrt(abar[t]), -1, 1)
        eps_t = (x - np.sqrt(abar[t]) * x_0) / np.sqrt(1 - abar[t])
        x = np.sqrt(abar[s]) * x_0 + np.sqrt(1 - abar[s]) * eps_t
    return x


gammas, distances = [], []


def observed(x, t):
    """Guidance with s = 2, which writes down how far the two predictions are apart."""
    eps_c, eps_null = np.asarray(plain(x, t, labels)), np.asarray(nothing(x, t))
    gammas.append(similarity(eps_c, eps_null))
    distances.append(((eps_c - eps_null) ** 2).reshape(N, -1).mean(1))
    return eps_null + 2 * (eps_c - eps_null)


x = drawn(observed, times)
alike, apart = np.array(gammas), np.array(distances)  # (steps, N)
np.median(alike, 1), apart.mean(1)

# %% [markdown]
# The cosine is nearly 1 at all steps: both predictions are mostly *the noise that is in the image*, and they agree on
# that. The paper waits for $\gamma$ to rise on the way down; here it falls. At $t=1000$ the two differ least, since
# there is no class in pure noise. After that their difference stays as large as it is to the end. So neither number
# tells by itself where guidance matters, and we have to try it.

# %%
middle = np.median(alike, 1)
assert middle.min() > 0.999 and apart.mean(1).argmin() == 0
if BUDGET != "smoke":
    assert middle[-1] < middle[1]

# %% [markdown]
# ## 2. Leave calls out
#
# Two rules. *Adaptive guidance* [Castillo et al. 2023]: guide until $\gamma$ reaches a threshold, then continue with
# $\hat\varepsilon_c$ alone. *Limited interval* [Kynkäänniemi et al. 2024]: guide only between two noise levels. The
# second is decided before the walk begins; the first depends on the image, and its price has to be counted.
#
# ### Exercise 10.2 - count the calls
# > **Note.** The cosine of a step is known only after both calls of that step have been made. What happened once,
# > holds: an image that has stopped does not begin again.


# %%
def calls(gamma, threshold):
    """Calls of the network for each image, by adaptive guidance.   gamma: (K, B), at each step  ->  (B,) int"""
    ### BEGIN SOLUTION
    stop = gamma >= threshold
    guided_steps = np.where(stop.any(0), stop.argmax(0) + 1, len(gamma))
    return guided_steps + len(gamma)
    ### END SOLUTION


# %%
def library(threshold):
    """The library's adaptive guidance for the first ten: their images, and the calls for each of them"""
    clip = Partial(guide.clip_x0, schedule=chain)
    step = adaptive.adaptive_step(garments.eps, chain, labels[:10], 2.0, threshold, after=clip)
    return walk(step, jax.random.key(0), adaptive.begin(noise[:10]), times)


least = alike[:, :10].min(1, keepdims=True)  # the library stops all images of a batch with their least similar one
assert int(calls(np.ones((steps, 1)), 0.9995)[0]) == steps + 1
assert int(calls(np.zeros((steps, 1)), 0.9995)[0]) == 2 * steps
never = library(2.0)  # a cosine of 2 is not reached: our loop above
assert np.abs(x[:10] - np.asarray(never.x)).mean() < 1e-3 and int(never.calls) == 2 * steps
early = np.sort(least[:, 0])[-3:-1].mean()  # between two cosines of the walk, so that rounding decides nothing
assert int(library(early).calls) == int(calls(least, early)[0])
int(library(0.9995).calls), int(calls(least, 0.9995)[0])

# %% [markdown]
# Now let us see where the second call is worth its price. With $K$ steps, guidance at all of them costs $2K$ calls, and
# guidance in the first or in the second half of the walk costs $1.5K$.

# %%
judge = classifier.load("fashion_mnist")
K = {"smoke": 4, "short": 10, "full": 20}[BUDGET]
where = {"none": (0, 1), "second half": (0, 500), "first half": (500, 1000), "all": (0, 1000)}  # low < t <= high


def accuracy_of(x):
    """The share of images that the classifier assigns to the class that was asked for."""
    return float(np.mean(judge(np.clip(np.asarray(x), -1, 1))[0].argmax(1) == np.asarray(labels)))


# %%
def guided_within(low, high):
    """A denoiser that guides with s = 2 where low < t <= high.   (`ddpm.guides.rules.interval` goes through `jit`.)"""

    def eps(x, t):
        eps_c = plain(x, t, labels)
        if low < int(t[0]) <= high:
            eps_null = nothing(x, t)
            return eps_null + 2 * (eps_c - eps_null)
        return eps_c

    return eps


few_times = schedule.make_times(1000, K)
economy = {name: drawn(guided_within(*ends), few_times) for name, ends in where.items()}
price = {name: K + sum(low < t <= high for t in few_times[:-1]) for name, (low, high) in where.items()}
recognised = {name: accuracy_of(x) for name, x in economy.items()}
if BUDGET != "smoke":
    assert price == {"none": K, "second half": 1.5 * K, "first half": 1.5 * K, "all": 2 * K}
    assert recognised["none"] < recognised["first half"] and recognised["none"] < recognised["all"]
price, recognised

# %% [markdown]
# The first half of the walk, where the outline is decided, brings most of what guidance brings, for a quarter of the
# calls less. The second half brings less for the same price. This is what Castillo et al. found, by another rule.
#
# ## 3. Distil it
#
# Why decide where to save, if one call can learn what two calls give? Meng et al. train a **student**
# $\eta(x_t, t, c, s)$ whose target is the guided prediction of the frozen teacher,
#
# $$\mathbb E\,\big\|\eta(x_t,t,c,s) - \hat\varepsilon_\varnothing - s\,(\hat\varepsilon_c-\hat\varepsilon_\varnothing)
#   \big\|^2,$$
#
# with a random $s$ in each training example. The student is told $s$, as it is told $t$ and $c$. What if it is not?
# Then it has to give one answer for all scales, and there is a part of the loss that no training removes.
#
# ### Exercise 10.3 - the student's loss, and the blind student
# > **Note.** `blind_student` is told everything but $s$, which is one of $K$ equally likely scales. Which prediction
# > has the smallest loss, and what is that loss?


# %%
def distillation_loss(student, eps_null, eps_c, s):
    """The loss of each image, mean over pixels.   student, eps_null, eps_c: (B, ...);  s: (B,)  ->  (B,)"""
    ### BEGIN SOLUTION
    s = s.reshape((-1,) + (1,) * (eps_c.ndim - 1))
    target = eps_null + s * (eps_c - eps_null)
    return ((student - target) ** 2).reshape(len(target), -1).mean(1)
    ### END SOLUTION


def blind_student(eps_null, eps_c, scales):
    """The best prediction without knowledge of s, and its loss.   scales: (K,)  ->  (B, ...), (B,)"""
    ### BEGIN SOLUTION
    difference = eps_c - eps_null
    loss = np.var(scales) * (difference**2).reshape(len(difference), -1).mean(1)
    return eps_null + np.mean(scales) * difference, loss
    ### END SOLUTION


# %% [markdown]
# The data are the three Gaussians of Lesson 9, so the teacher is exact and the floor of the blind student is a number.
# Two students with the same small network: one is told $s$, the other is not.

# %%
linear = schedule.linear(1000)
turn = 2 * np.pi * np.arange(3) / 3 + np.pi / 2
three = oracle.mixture(mean=np.stack([np.cos(turn), np.sin(turn)], 1), cov=0.18)
teacher = three.eps(linear)
scales = np.array([1.0, 2.0, 3.0, 4.0])
width, n_steps = {"smoke": (16, 20), "short": (128, 4000), "full": (128, 20_000)}[BUDGET]


# %%
def start_weights(key):
    """Three layers; the input has x, the noise level as waves, the class, and s."""
    sizes = [(2 + 16 + 3 + 1, width), (width, width), (width, 2)]
    return [
        (jax.random.normal(k, size) / np.sqrt(size[0]), jnp.zeros(size[1]))
        for k, size in zip(jax.random.split(key, 3), sizes, strict=True)
    ]


def student(weights, x, t, c, s):
    """η(x_t, t, c, s): (B, 2)"""
    phase = jnp.pi * (t / 1000)[:, None] * jnp.arange(1, 9)
    h = jnp.concatenate([x, jnp.sin(phase), jnp.cos(phase), jax.nn.one_hot(c, 3), s[:, None] / 4], 1)
    for A, b in weights[:-1]:
        h = jax.nn.silu(h @ A + b)
    A, b = weights[-1]
    return h @ A + b


# %%
def batch(key, B=512):
    """x_t, t, c, s, and the teacher's two predictions"""
    k = jax.random.split(key, 5)
    c, t = jax.random.randint(k[0], (B,), 0, 3), jax.random.randint(k[1], (B,), 1, 1001)
    x_0 = three.mean[c] + np.sqrt(0.18) * jax.random.normal(k[2], (B, 2))
    x_t = q_sample(linear, x_0, t, jax.random.normal(k[3], (B, 2)))
    s = jnp.asarray(scales, jnp.float32)[jax.random.randint(k[4], (B,), 0, len(scales))]
    return x_t, t, c, s, teacher(x_t, t, None), teacher(x_t, t, c)


# %%
@jax.jit
def trained(told):
    """A student's weights after n_steps of Adam.   told: 1., or 0. for the student who always sees s = 0"""
    optimiser = optax.adam(optax.cosine_decay_schedule(2e-3, n_steps))

    def loss(weights, key):
        x_t, t, c, s, eps_null, eps_c = batch(key)
        return distillation_loss(student(weights, x_t, t, c, told * s), eps_null, eps_c, s).mean()

    def step(state, key):
        weights, memory = state
        update, memory = optimiser.update(jax.grad(loss)(weights, key), memory)
        return (optax.apply_updates(weights, update), memory), None

    begin = start_weights(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), n_steps)
    return jax.lax.scan(step, (begin, optimiser.init(begin)), keys)[0][0]


# %%
students = {told: trained(float(told)) for told in (True, False)}
x_t, t, c, s, eps_null, eps_c = (np.asarray(v) for v in jax.jit(batch, static_argnums=1)(jax.random.key(9), 40_000))
losses = {
    told: float(np.mean(distillation_loss(np.asarray(student(w, x_t, t, c, told * s)), eps_null, eps_c, s)))
    for told, w in students.items()
}
floor = float(blind_student(eps_null, eps_c, scales)[1].mean())
error = float((np.var(scales) * ((eps_c - eps_null) ** 2).mean(1)).std() / 200)  # of the floor, from 40,000 draws
if BUDGET != "smoke":
    assert losses[False] > floor - 5 * error and losses[True] < floor / 4
losses, floor

# %% [markdown]
# The blind student cannot come below its floor, however long it learns. The one who is told $s$ comes far below, with
# one call a step where the teacher has two, and one network serves all scales. (A student trained like this on images
# is stage 1 of Meng et al.; stage 2 halves the number of steps again and again.)

# %%
begin = jax.random.normal(jax.random.key(5), (600, 2))
asked = jnp.arange(600) % 3
fifty = schedule.make_times(1000, 50)


def told_eps(x, t, c):
    """The student as a denoiser, with s = 4"""
    return student(students[True], x, t, c, jnp.full(len(x), 4.0))


by_teacher, by_student = (
    np.asarray(walk(ddim_step(e, linear, asked), jax.random.key(0), begin, fifty))
    for e in (guide.cfg(teacher, 4.0), told_eps)
)
miss = float(np.sqrt(((by_teacher - by_student) ** 2).sum(1).mean()))
miss

# %% [markdown]
# ## 4. AND, NOT
#
# Guidance is a sum, $\hat\varepsilon_\varnothing + s(\hat\varepsilon_c-\hat\varepsilon_\varnothing)$. Put several
# conditions into it [Liu et al. 2022, Eq. 11]:
#
# $$\hat\varepsilon = \hat\varepsilon_\varnothing + \sum_i w_i\,(\hat\varepsilon_{c_i} - \hat\varepsilon_\varnothing),
# \qquad\text{at } t=0:\quad p(x)\prod_i\Big(\frac{p(x\mid c_i)}{p(x)}\Big)^{w_i}.$$
#
# A positive weight is AND, a negative one is NOT. With one condition it is guidance again. If the conditions are
# independent given $x$ and the weights are 1, the product is $p(x\mid c_1,\dots,c_n)$. For Gaussians we can say what it
# is.
#
# ### Exercise 10.4 - the product of Gaussians
# > **Note.** A NOT can be so strong that the formula has no finite integral. Then there is no such distribution: raise
# > `ValueError`.


# %%
def product(means, variances, weights, mean_0, var_0):
    """Mean and variance of p_0 ∏ (p_i/p_0)^{w_i}, in 1-D.   means, variances, weights: (n,)  ->  two numbers"""
    ### BEGIN SOLUTION
    precision = 1 / var_0 + np.sum(weights * (1 / variances - 1 / var_0))
    if precision <= 0:
        raise ValueError(f"the precision is {precision:.3g}: weights {weights} leave no distribution")
    return (mean_0 / var_0 + np.sum(weights * (means / variances - mean_0 / var_0))) / precision, 1 / precision
    ### END SOLUTION


# %%
means, variances = np.array([1.0, -0.5]), np.array([0.25, 0.25])
AND = product(means, variances, np.ones(2), 0.0, 1.0)
assert np.allclose(AND, (2 / 7, 1 / 7))
NOT = product(means, variances, np.array([1.0, -0.2]), 0.0, 1.0)
assert NOT[0] > 1 and NOT[1] > 0.25  # away from -.5, and wider
line = np.linspace(-8, 8, 40_001)
for w, (m, v) in (((1, 1), AND), ((1, -0.2), NOT)):
    log_p = -(line**2) / 2
    for m_i, v_i, w_i in zip(means, variances, w, strict=True):
        log_p = log_p + w_i * (-((line - m_i) ** 2) / (2 * v_i) + line**2 / 2)
    p = np.exp(log_p - log_p.max())
    assert np.allclose(((p * line).sum() / p.sum(), (p * (line - m) ** 2).sum() / p.sum()), (m, v), atol=1e-6)
AND, NOT

# %% [markdown]
# ## 5. What the sampler draws instead
#
# At $t=0$ the sum of denoisers is the denoiser of the product. At $t>0$ it is the denoiser of *the product of the
# noised densities*. What it should be is the denoiser of *the noised product*. These are two distributions.
#
# ### Exercise 10.5 - two variances, and a bet
# **Before you run the cell below:** $\mathcal N(1, \frac14)$ AND $\mathcal N(-\frac12, \frac14)$ over
# $\mathcal N(0,1)$ has the variance $\frac17\approx.143$. DDIM with a thousand steps follows the sum of the exact
# denoisers. Which variance do its samples have?


# %%
def variances_at(means, variances, weights, mean_0, var_0, alpha_bar_t):
    """At level t: variance of the noised product, and of the product of the noised densities.   ->  two numbers"""
    ### BEGIN SOLUTION
    a = alpha_bar_t
    _, v = product(means, variances, weights, mean_0, var_0)
    noised = a * variances + 1 - a
    return a * v + 1 - a, product(np.sqrt(a) * means, noised, weights, np.sqrt(a) * mean_0, a * var_0 + 1 - a)[1]
    ### END SOLUTION


def how_wide():
    """Your bet: the variance of the samples of the AND.   ->  a number"""
    ### BEGIN SOLUTION
    return 0.06
    ### END SOLUTION


# %%
abar = np.asarray(linear.alpha_bar, np.float64)
case = means, variances, np.ones(2), 0.0, 1.0
assert np.allclose(variances_at(*case, 1.0), AND[1])  # no noise: the same
assert np.allclose(variances_at(*case, 0.0), 1.0)  # nothing but noise: the same
should, does = np.array([variances_at(*case, a) for a in abar[::50]]).T
assert (does[1:-1] < should[1:-1]).all()  # too narrow at every level between

parts = [oracle.gaussian([m], v).eps(linear) for m, v in zip(means, variances, strict=True)]
summed = composition.compose(oracle.gaussian([0.0], 1.0).eps(linear), parts, [1.0, 1.0])
quantiles = np.sqrt(2) * np.asarray(jax.scipy.special.erfinv(2 * (np.arange(4000) + 0.5) / 4000 - 1))
ends = np.asarray(
    walk(ddim_step(summed, linear), jax.random.key(0), jnp.asarray(quantiles)[:, None], schedule.make_times(1000, 1000))
)[:, 0]
assert abs(ends.var() - 0.062) < 0.002 and abs(ends.mean() - 0.344) < 0.01
ends.mean(), ends.var()

# %% [markdown]
# The samples are less than half as wide as the product, and their mean is .344 where the product has $2/7\approx.286$.
# Each prediction was exact. The sum was the right sum. It is the *path* that is wrong, as it was in Lesson 9, where one
# condition with $s>1$ is the same case. Langevin steps at each level repair most of it, for many more calls [Du et al.
# 2023]; `python -m experiments composition` measures how much.
#
# ## 6. Garments with NOT
#
# The classifier takes some shirts for T-shirts. We request shirts, shirts with guidance 2, and shirts, NOT T-shirts;
# and at last shirts AND T-shirts. The same noise, four denoisers.

# %%
shirt, tee = 6, 0
assert (garments.classes[shirt], garments.classes[tee]) == ("Shirt", "T-shirt/top")
of_class = {c: composition.given(plain, jnp.int32(c)) for c in (shirt, tee)}
weights = {
    "Shirt": (1.0, 0.0),
    "Shirt, s = 2": (2.0, 0.0),
    "Shirt, NOT T-shirt": (2.0, -1.0),
    "Shirt AND T-shirt": (1.0, 1.0),
}
shirts, taken_for = {}, {}
for name, pair in weights.items():
    shirts[name] = drawn(composition.compose(nothing, [of_class[shirt], of_class[tee]], pair), few_times)
    found = judge(np.clip(shirts[name], -1, 1))[0].argmax(1)
    taken_for[name] = float(np.mean(found == shirt)), float(np.mean(found == tee))
if BUDGET != "smoke":
    assert taken_for["Shirt, NOT T-shirt"][1] <= taken_for["Shirt"][1]
    assert np.diff(taken_for["Shirt AND T-shirt"])[0] > 0
taken_for

# %% [markdown]
# NOT removes what it was asked to remove: look at the sleeves in the picture. What AND draws, the classifier takes for
# a T-shirt more often than for a shirt, although both have the same weight.
#
# ## 7. The picture
#
# Above, on the left: how far the two predictions are apart along the walk; the first half of the walk is shaded.
# In the middle: the ends of the teacher's and the student's walks from the same noise at $s=4$. On the right: what AND
# should be, and what is drawn. Below: garments from the same noise; in the first four rows guidance at some
# steps, then shirts with AND and NOT.


# %%
def draw_distance_and_student(distance, learned):
    """How far the two predictions are apart; the ends of both walks."""
    distance.plot(times[:-1], apart.mean(1), "o-", ms=3, color="#1f4e79")
    distance.axvspan(*where["first half"], color="#1f4e79", alpha=0.1, lw=0)
    distance.set(xlabel="$t$", xlim=(1000, 0), ylim=(0, None))
    distance.set_title(r"mean of $(\hat\varepsilon_c-\hat\varepsilon_\varnothing)^2$", fontsize=9)
    for points, marker, name in ((by_teacher, "o", "teacher, 2 calls a step"), (by_student, ".", "student, 1 call")):
        learned.scatter(*points[:300].T, s=9, marker=marker, alpha=0.5, lw=0, label=name)
    learned.set(aspect="equal", xticks=[], yticks=[])
    learned.set_title(f"guidance at s = 4 (root mean square distance {miss:.2f})", fontsize=9)
    learned.legend(frameon=False, fontsize=7)


# %%
def draw_and(both_):
    """What AND should be, and what is drawn."""
    inner = np.linspace(-1.2, 1.6, 400)
    for (m, v), colour, name in (
        (AND, "#1f4e79", "the product"),
        ((ends.mean(), ends.var()), "#b5523b", "what DDIM draws"),
    ):
        both_.plot(inner, np.exp(-((inner - m) ** 2) / (2 * v)) / np.sqrt(2 * np.pi * v), color=colour, label=name)
    both_.set(yticks=[], xlabel="$x$")
    both_.set_title("N(1, ¼) AND N(-½, ¼), exact denoisers", fontsize=9)
    both_.legend(frameon=False, fontsize=7)


# %%
def picture():
    """The figure of this lesson."""
    figure = plt.figure(figsize=(11, 9), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 2])
    *left, right = top.subplots(1, 3)
    draw_distance_and_student(*left)
    draw_and(right)
    rows = {f"guided: {name}, {price[name]} calls": x for name, x in economy.items()} | shirts
    axis = bottom.subplots()
    axis.imshow(plot.grid(np.concatenate([x[:10] for x in rows.values()]), 10)[..., 0], cmap="gray")
    axis.set_yticks(16 + 30 * np.arange(len(rows)), list(rows), fontsize=8)
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure


# %%
if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l10.png", dpi=150)
    numbers = {
        "similarity": {"median": np.median(alike, 1).tolist(), "difference": apart.mean(1).tolist(), "n": N},
        "economy": {name: {"calls": price[name], "accuracy": recognised[name]} for name in where},
        "distillation": {"told": losses[True], "blind": losses[False], "floor": floor, "miss": miss},
        "and": {"product": AND, "drawn": (ends.mean(), ends.var())},
        "shirts": taken_for,
        "budget": BUDGET,
    }
    (out / "l10.json").write_text(json.dumps(numbers, indent=1, default=float) + "\n")
    print(
        f"L10: loss of the blind student {losses[False]:.4f}, floor {floor:.4f}, told {losses[True]:.4f}. out/l10.png"
    )

# %% [markdown]
# ## What to take along
#
# - Count calls, not steps. Guidance has most of its effect in the first half of the walk; there its calls are worth
#   their price.
# - One network can learn the guided prediction for all scales, if it is told the scale. If it is not, a part of its
#   loss never goes away, and you can compute how large that part is.
# - Sums of denoisers are products of densities at $t=0$ only. A sampler that follows the sum draws something narrower.
#
# ## Further reading
#
# - Castillo et al. 2023, *Adaptive Guidance*; Kynkäänniemi et al. 2024, *Applying Guidance in a Limited Interval*.
# - Meng et al. 2023, *On Distillation of Guided Diffusion Models*.
# - Liu et al. 2022, *Compositional Visual Generation with Composable Diffusion Models*; Du et al. 2023, *Reduce, Reuse,
#   Recycle*, on why the sum is not enough and what repairs it.
