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
# # L5. Scores, Langevin, and the Gaussian shadow
#
# | | |
# |---|---|
# | you learn | the same theory from its other side: slopes of log densities, walks along them, what noise hides |
# | time | 60 minutes to read and do, a minute to run |
# | difficulty | ●●●○○ |
# | importance | ●●●●○ |
# | paper | Song, Ermon 2019, *Generative Modeling by Estimating Gradients of the Data Distribution*, Alg. 1, Fig. 3 |
#
# Before "predict the noise" there was "learn the score", the slope of the log density. They are one thing with two
# names. The other name explains why noise of *many* sizes is needed at all, and why the first fifth of a sampler's
# steps hardly needs a network. There is no training in this lesson: everything is exact.

# %%
import itertools
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddpm import data, forward, oracle, plot, schedule
from ddpm.datasets import sources
from ddpm.oracles import finite_set, gaussian
from ddpm.sample import ddim_step, walk

# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how many walkers and steps
n = {"smoke": 2_000, "short": 10_000, "full": 100_000}[BUDGET]

# %% [markdown]
# ## 1. The score
#
# The **score** of a density is $s(x) = \nabla_x \log p(x)$. It points uphill, and it does not depend on the normalising
# constant that nobody can compute, since $\log (p/Z)$ has the same slope. For $\mathcal N(\mu, v)$ it is $-(x-\mu)/v$.
# For a mixture $p = \sum_k w_k\,\mathcal N(\mu_k, v_k I)$ it is the average of the components' scores, each weighted
# with the probability that $x$ belongs to it:
#
# $$s(x) = \sum_k p(k\mid x)\,\frac{\mu_k - x}{v_k}, \qquad p(k \mid x) \propto w_k\,\mathcal N(x; \mu_k, v_k I).$$
#
# ### Exercise 5.1 - the score of a mixture
# > **Note.** Use logarithms of weights and densities, and `jax.nn.softmax`: far out, the densities themselves are 0.


# %%
def mixture_score(x, weight, mean, var):
    """∇ log Σ_k w_k N(x; μ_k, v_k I).   x: (B, D);  weight, var: (K,);  mean: (K, D)  ->  (B, D)"""
    ### BEGIN SOLUTION
    to_mean = mean[None] - x[:, None]  # (B, K, D)
    log_joint = jnp.log(weight) - 0.5 * (to_mean**2).sum(2) / var - 0.5 * x.shape[1] * jnp.log(var)
    belongs = jax.nn.softmax(log_joint, axis=1)  # (B, K)
    return (belongs[:, :, None] * to_mean / var[None, :, None]).sum(1)
    ### END SOLUTION


# %% [markdown]
# The data of this lesson are those of Song and Ermon: two lumps far apart, one of them with four fifths of the mass. We
# check that the score is the gradient of the log density, as JAX differentiates it, and that it is
# $-1/\sqrt{1-\bar\alpha_t}$ times the noise guess of Lesson 3: **a denoiser is a score**.

# %%
weight, mean, var = jnp.array([0.8, 0.2]), jnp.array([[5.0, 5.0], [-5.0, -5.0]]), jnp.array([1.0, 1.0])
lumps = oracle.mixture(mean=np.asarray(mean), cov=np.asarray(var), weight=[0.8, 0.2])


def log_density(x):
    """log p(x), one point at a time: (D,) -> ()"""
    return jax.nn.logsumexp(jnp.log(weight) - 0.5 * ((x - mean) ** 2).sum(1) / var - jnp.log(2 * jnp.pi * var))


x = jax.random.uniform(jax.random.key(0), (200, 2), minval=-8, maxval=8)
score = jax.jit(mixture_score)
assert np.allclose(score(x, weight, mean, var), jax.vmap(jax.grad(log_density))(x), atol=1e-4)
lib, t = schedule.linear(1000), 300
a = float(lib.alpha_bar[t])
noisy = score(x, weight, np.sqrt(a) * mean, a * var + 1 - a)  # p_t is a mixture again
assert np.allclose(forward.score_from_eps(lib, jnp.int32(t), lumps.eps(lib)(x, jnp.full(200, t))), noisy, atol=2e-3)

# %% [markdown]
# ## 2. Learn it from examples
#
# With data only, $\nabla\log p$ is nowhere to be seen. Vincent's trick is to add noise,
# $\tilde x = x_0 + \sigma\varepsilon$, and to regress. The slope of $\log q(\tilde x\mid x_0)$ is
# $-(\tilde x - x_0)/\sigma^2 = -\varepsilon/\sigma$, which we know. The best guess of it from $\tilde x$ is its
# conditional mean, $\nabla \log p_\sigma(\tilde x)$, the score of the *noisy* data. **Denoising score matching**
# is least squares with the target $-\varepsilon/\sigma$.
#
# ### Exercise 5.2 - the best straight line
# For the model $s(\tilde x) = a\,\tilde x + b$ in one dimension the minimum has a closed form: linear regression.


# %%
def fit_score(x0, eps, sigma):
    """a and b that minimise the mean of (a x̃ + b - target)².   x0, eps: (N,);  sigma: number  ->  two numbers"""
    ### BEGIN SOLUTION
    noisy, target = x0 + sigma * eps, -eps / sigma
    a = np.mean((noisy - noisy.mean()) * (target - target.mean())) / np.var(noisy)
    return a, target.mean() - a * noisy.mean()
    ### END SOLUTION


# %% [markdown]
# For Gaussian data $\mathcal N(m, \lambda)$ the noisy score *is* a straight line, $-(x-m)/(\lambda+\sigma^2)$, and the
# regression finds it. (The tolerance is six standard errors of a regression slope.)

# %%
rng, m, lam = np.random.default_rng(0), 0.7, 0.5
for sigma in (0.5, 2.0):
    x0, eps = m + np.sqrt(lam) * rng.standard_normal(n), rng.standard_normal(n)
    slope, offset = fit_score(x0, eps, sigma)
    left_over = np.std(-eps / sigma - slope * (x0 + sigma * eps) - offset)
    error = 6 * left_over / np.sqrt(n * (lam + sigma**2))
    assert abs(slope + 1 / (lam + sigma**2)) < error
    assert abs(offset - m / (lam + sigma**2)) < error * (m + 1) + 6 * left_over / np.sqrt(n)

# %% [markdown]
# ## 3. Walk along it
#
# If you know the score, you can sample without knowing anything else. Step uphill and shake. This is **Langevin
# dynamics**:
#
# $$x \leftarrow x + \tfrac{\delta}{2}\,s(x) + \sqrt{\delta}\;z, \qquad z\sim\mathcal N(0, I).$$
#
# The shaking keeps the walker from resting on the top. As $\delta$ goes to 0, the walkers end up distributed as $p$.
#
# ### Exercise 5.3 - a Langevin step, and where it settles
# On $\mathcal N(0, v)$ the step is $x \leftarrow (1-\delta/2v)\,x + \sqrt\delta z$. Which variance does it leave as it
# is? Not quite $v$.


# %%
def langevin_step(x, score, delta, z):
    """x + δ/2 s + √δ z.   x, score, z: (B, ...);  delta: ()  ->  (B, ...)"""
    ### BEGIN SOLUTION
    return x + 0.5 * delta * score + jnp.sqrt(delta) * z
    ### END SOLUTION


def settled_variance(v, delta):
    """The variance that the steps leave as it is, for data N(0, v).   v > 0, 0 < delta < 4v: numbers  ->  number"""
    ### BEGIN SOLUTION
    return v / (1 - delta / (4 * v))
    ### END SOLUTION


# %%
def langevin(key, x, score, delta, steps):
    """Many Langevin steps, all of the same size."""

    def step(x, i):
        return langevin_step(x, score(x), delta, jax.random.normal(jax.random.fold_in(key, i), x.shape)), None

    return jax.lax.scan(step, x, jnp.arange(steps))[0]


v, delta = 2.0, 0.5
kept = (1 - delta / (2 * v)) ** 2
assert np.isclose(kept * settled_variance(v, delta) + delta, settled_variance(v, delta))  # one step later: the same
ran = langevin(jax.random.key(1), jnp.zeros((n, 1)), lambda x: -x / v, delta, 100)
assert abs(float(ran.var()) / settled_variance(v, delta) - 1) < 6 * np.sqrt(2 / n)
assert settled_variance(v, 0.01) - v < 0.003  # small steps: small error
settled_variance(v, delta)

# %% [markdown]
# ## 4. Two lumps, far apart
#
# ### Exercise 5.4 - a bet
# Thousands of walkers begin everywhere in the square $[-8, 8]^2$ and take a thousand Langevin steps with the *exact*
# score of the two lumps (.8 and .2 of the mass). **Before you run it:** what share of the walkers is in the larger
# lump at the end?


# %%
def share_in_the_large_lump():
    """Your bet.   ->  a number between 0 and 1"""
    ### BEGIN SOLUTION
    return 0.5
    ### END SOLUTION


# %% [markdown]
# Half! The score in one lump knows nothing of the other lump's weight, since
# $\nabla\log(w_k\,\mathcal N) = \nabla\log\mathcal N$. Between the lumps nobody lives, and nobody crosses. Each walker
# ends in the lump on whose side it began. A *learned* score would do worse, for it was never taught anything where
# there are no data.

# %%
begin = jax.random.uniform(jax.random.key(2), (n, 2), minval=-8, maxval=8)
exact_score = jax.tree_util.Partial(mixture_score, weight=weight, mean=mean, var=var)
plain = langevin(jax.random.key(3), begin, exact_score, 0.1, 1000)
large = {"Langevin": float((plain.sum(1) > 0).mean())}
assert abs(large["Langevin"] - 0.5) < 6 * 0.5 / np.sqrt(n)
large

# %% [markdown]
# ## 5. Anneal
#
# Add so much noise to the data that the lumps flow into one another: $p_\sigma$ is the mixture with variances
# $1+\sigma^2$. Walk there first, with large steps. Then walk with less noise and smaller steps, and so on down. This is
# **annealed Langevin dynamics**. The noise levels fall in a geometric sequence, and the step sizes go with the *square*
# of the noise: $\delta_i = r\,\sigma_i^2$.
#
# ### Exercise 5.5 - the sizes


# %%
def annealed_sizes(first, last, L, r):
    """σ_1…σ_L from `first` down to `last`, each the same share of the one before, and δ_i = r σ_i².   ->  (L,), (L,)"""
    ### BEGIN SOLUTION
    sigma = first * (last / first) ** (np.arange(L) / (L - 1))
    return sigma, r * sigma**2
    ### END SOLUTION


# %% [markdown]
# Now the shares come out nearly right: to three hundredths. This is the idea that became diffusion: *noise connects
# what the data leave apart*.

# %%
sigmas, deltas = annealed_sizes(20.0, 0.1, 20, 0.1)
assert np.isclose(sigmas[0], 20) and np.isclose(sigmas[-1], 0.1) and np.ptp(sigmas[1:] / sigmas[:-1]) < 1e-12


@jax.jit
def anneal(key, x):
    """50 steps at each level, by the exact score of that level."""

    def level(x, i_sigma_delta):
        i, sigma, delta = i_sigma_delta
        s = jax.tree_util.Partial(mixture_score, weight=weight, mean=mean, var=var + sigma**2)
        return langevin(jax.random.fold_in(key, i), x, s, delta, 50), None

    return jax.lax.scan(level, x, (jnp.arange(20), jnp.asarray(sigmas), jnp.asarray(deltas)))[0]


annealed = anneal(jax.random.key(4), 20 * jax.random.normal(jax.random.key(5), (n, 2)))
large["annealed"] = float((annealed.sum(1) > 0).mean())
assert abs(large["annealed"] - 0.8) < 0.03  # a little is lost, since the levels are few
large

# %% [markdown]
# ## 6. The Gaussian shadow
#
# Under much noise every distribution looks like the Gaussian with the same mean $\mu$ and covariance $\Sigma$, because
# details drown first. So at high noise the score of *any* data is nearly known, without a network:
# $s(x) \approx -(\Sigma + \sigma^2 I)^{-1}(x - \mu)$.
#
# ### Exercise 5.6 - the shadow's score


# %%
def shadow_score(x, mu, cov, sigma):
    """-(Σ + σ² I)⁻¹ (x - μ).   x: (B, D);  mu: (D,);  cov: (D, D);  sigma: number  ->  (B, D)"""
    ### BEGIN SOLUTION
    return -np.linalg.solve(cov + sigma**2 * np.eye(len(mu)), (x - mu).T).T
    ### END SOLUTION


# %% [markdown]
# How much of the true score is left unexplained, $\mathbb E\|s-s_\text{Gauss}\|^2 / \mathbb E\|s\|^2$? For our lumps it
# falls from almost half to less than a millionth. (It begins at almost half because *across* the line through the two
# lumps the data are Gaussian, so one of the two directions is always explained.) **The Gaussian is all that can be seen
# through much noise.**

# %%
mu = np.asarray(weight @ mean)
cov = np.eye(2) + np.asarray(
    sum(w * np.outer(m - mu, m - mu) for w, m in zip(np.asarray(weight), np.asarray(mean), strict=True))
)
levels, unexplained = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0], []
x0 = np.asarray(lumps.sample(jax.random.key(6), n)[0])
for sigma in levels:
    x = x0 + sigma * np.random.default_rng(1).standard_normal(x0.shape)
    s = np.asarray(score(jnp.asarray(x, jnp.float32), weight, mean, var + sigma**2))
    unexplained.append(float(((s - shadow_score(x, mu, cov, sigma)) ** 2).mean() / (s**2).mean()))
assert all(a > b for a, b in itertools.pairwise(unexplained))
assert 0.4 < unexplained[0] < 0.5 and unexplained[-1] < 1e-6
dict(zip(levels, unexplained, strict=True))

# %% [markdown]
# Let us use it. On a Gaussian the whole walk has a closed form (`ddpm.oracles.gaussian`), so the *first* steps of a
# sampler can be jumped. We try it on scikit-learn's digits, with the perfect denoiser of the 1,500 training images
# (`ddpm.oracles.finite_set`). That denoiser can only give back these images, so it is easy to see whether the jump
# leads astray. Jump from $t=1000$ to some $t$ and walk on:

# %%
digits = sources.load("digits")
images = data.to_float(digits.x_train)
ideal, fitted = finite_set.finite(images).eps(lib), gaussian.fit(images)
count, every = {"smoke": 40, "short": 100, "full": 400}[BUDGET], 20
x_T = jax.random.normal(jax.random.key(7), (count, 8, 8, 1))
ends = {}
for t in (1000, 800, 700, 500, 300):
    x_t = x_T if t == 1000 else gaussian.teleport(fitted, lib, x_T, t)
    ends[t] = np.asarray(walk(ddim_step(ideal, lib), jax.random.key(0), x_t, np.arange(t, -1, -every)))
same = {t: float(np.mean(((x - ends[1000]) ** 2).mean((1, 2, 3)) < 1e-2)) for t, x in ends.items()}

# %% [markdown]
# A jump over the first fifth of the steps always leads to the very same image here, without one call of the network for
# these steps. A jump over half of them still does so in more than nine cases of ten. A jump over 70 %, to $t=300$, does
# so in more than seven of ten: the Gaussian has decided most of the image by then. (With networks the first 15 to 30 %
# of the steps can be jumped, Wang and Vastola 2024.)

# %%
assert len(images) == 1500 and same[800] == 1 and same[500] > 0.9 and same[500] >= same[300] > 0.7
same

# %% [markdown]
# ## 7. The picture
#
# Above are the two lumps with their score (arrows), the answer of Langevin dynamics, and that of the annealed one.
# Below are the share of the score that the Gaussian does not explain, and digits after a jump over 0, 20, 30, 50 and
# 70 % of the steps.


# %%
def draw_points(axes):
    """Exact draws with arrows of the score; Langevin; annealed Langevin."""
    grid = np.stack(np.meshgrid(np.linspace(-8, 8, 15), np.linspace(-8, 8, 15)), -1).reshape(-1, 2)
    arrows = np.asarray(score(jnp.asarray(grid, jnp.float32), weight, mean, var))
    arrows = arrows / np.linalg.norm(arrows, axis=1, keepdims=True) ** 0.5
    exact = f"data: {float((x0.sum(1) > 0).mean()):.2f} in the large lump"
    names = (exact, f"Langevin, exact score: {large['Langevin']:.2f}", f"annealed Langevin: {large['annealed']:.2f}")
    for axis, points, name in zip(axes, (x0, plain, annealed), names, strict=True):
        axis.scatter(*np.asarray(points[:2000]).T, s=2, color="#1f4e79", alpha=0.5, lw=0)
        axis.set(xlim=(-9, 9), ylim=(-9, 9), xticks=[], yticks=[], aspect="equal")
        axis.set_title(name, fontsize=10)
    axes[0].quiver(*grid.T, *arrows.T, color="#b5523b", alpha=0.6, width=0.004)


# %%
def draw_shadow(curve, strip):
    """Unexplained share against σ; rows of digits by where the walk began."""
    curve.loglog(levels, unexplained, "o-", color="#b5523b", ms=4)
    curve.set(xlabel=r"noise $\sigma$", ylabel="share of the score not explained")
    curve.set_title("what a Gaussian cannot see", fontsize=10)
    curve.spines[["top", "right"]].set_visible(False)
    shown = np.concatenate([x[:14] for x in ends.values()])
    strip.imshow(plot.grid(np.clip(shown, -1, 1), 14, gap=1)[..., 0], cmap="gray")
    names = ["the whole walk"] + [f"jump to $t={t}$: {same[t]:.0%} same" for t in list(ends)[1:]]
    strip.set_yticks(5 + 9 * np.arange(len(ends)), names, fontsize=9)
    strip.set(xticks=[])
    strip.tick_params(length=0)
    strip.spines[:].set_visible(False)


def picture():
    """The figure of this lesson."""
    figure = plt.figure(figsize=(11, 7), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.35, 1])
    draw_points(top.subplots(1, 3))
    draw_shadow(*bottom.subplots(1, 2, width_ratios=[1, 1.9]))
    return figure


# %%
if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l05.png", dpi=150)
    numbers = {
        "share_in_the_large_lump": large | {"exact": 0.8, "n": n},
        "unexplained_share": dict(zip(levels, unexplained, strict=True)),
        "same_digit_after_jump_to_t": same | {"n": count},
        "budget": BUDGET,
    }
    (out / "l05.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(f"L5: Langevin {large['Langevin']:.2f}, annealed {large['annealed']:.2f}, exact 0.80. out/l05.png")

# %% [markdown]
# ## What to take along
#
# - $\varepsilon^* = -\sqrt{1-\bar\alpha_t}\;\nabla\log p_t$: to guess the noise is to know the slope.
# - A score in one lump does not know how heavy the others are. Noise of many sizes does.
# - At high noise only the mean and the covariance of the data matter, and those steps are known in closed form.
#
# ## Further reading
#
# - Hyvärinen 2005, *Estimation of Non-Normalized Statistical Models by Score Matching*; Vincent 2011, *A Connection
#   Between Score Matching and Denoising Autoencoders*.
# - Song et al. 2021, *Score-Based Generative Modeling through Stochastic Differential Equations*. Here the two
#   names become one theory.
# - Wang, Vastola 2024, *The Unreasonable Effectiveness of Gaussian Score Approximation for Diffusion Models*.
