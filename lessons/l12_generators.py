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
# # L12. The others: VAE and GAN
#
# | | |
# |---|---|
# | you learn | autoencoders, VAEs and GANs: their losses, and what each of them does to data of known distribution |
# | time | 90 minutes to read and do, 2 minutes to run |
# | difficulty | ●●●○○ |
# | importance | ●●●●○ |
# | paper | Kingma, Welling 2014; Goodfellow et al. 2014; Lucas et al. 2019; Mescheder et al. 2018; Xiao et al. 2022 |
#
# A diffusion model draws an image by many calls of its network. A **VAE** and a **GAN** need one call. Why then does
# anybody use diffusion? A VAE is blurred, or its codes do nothing; a GAN leaves out a part of the data, or exaggerates
# its classes. None of this is bad luck: on simple data each of these troubles has a formula, and you will meet it here
# before the network.

# %%
import json
import math
import os
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm

from ddpm import generators as gen
from ddpm import plot
from ddpm.datasets import sources
from ddpm.generators import ring

# %%
# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how long the networks train
STEPS, TURNS = {"smoke": (150, 400), "short": (1500, 4000), "full": (6000, 20_000)}[BUDGET]
rng = np.random.default_rng(0)
digits = sources.load("digits")  # 8 x 8 pixels; they come with scikit-learn
x = np.asarray(digits.x_train / 127.5 - 1, np.float64).reshape(len(digits.x_train), -1)
lam, basis = np.linalg.eigh(np.cov(x, rowvar=False, bias=True))
lam, basis = np.maximum(lam[::-1], 0), basis[:, ::-1]  # λ_1 ≥ λ_2 ≥ …, and their directions
D = len(lam)

# %% [markdown]
# ## 1. An autoencoder
#
# An encoder makes $k$ numbers of an image, a decoder makes an image of them, and the loss is the squared error. If both
# are linear, the best pair is known (Baldi and Hornik 1989): keep the first $k$ principal directions. What is lost is
# the sum of the other eigenvalues. This is the number to print beside every trained autoencoder: one that does not beat
# it has learned less than a matrix could.

# %%
lost = {}
for k in (2, 8, 16, 32):
    U = basis[:, :k]
    copies = x.mean(0) + (x - x.mean(0)) @ U @ U.T
    lost[k] = ((x - copies) ** 2).sum(1).mean()
    assert np.isclose(lost[k], lam[k:].sum())
lost

# %% [markdown]
# To *generate*, one would draw the $k$ numbers. From which distribution? An autoencoder does not say.
#
# ## 2. A VAE
#
# A **variational autoencoder** does. It fixes the distribution of codes, $p(z)=\mathcal N(0,I)$, and bounds the
# log-likelihood of an image from below:
#
# $$\log p(x) \;\ge\; \mathbb E_{q(z|x)} \log p(x|z) - \mathrm{KL}\big(q(z|x)\,\|\,\mathcal N(0,I)\big), \qquad
#   q(z|x) = \mathcal N(m(x), \mathrm{diag}\,v(x)),\quad p(x|z)=\mathcal N(\hat x(z), r^2 I).$$
#
# The encoder gives $m$ and $\log v$, because a logarithm may have any sign.
#
# ### Exercise 12.1 - the second term


# %%
def kl(m, log_v):
    """KL(N(m, v) ‖ N(0, I)) of each image, in nats.   m, log_v: (B, k)  ->  (B,)"""
    ### BEGIN SOLUTION
    return 0.5 * (m**2 + np.exp(log_v) - 1 - log_v).sum(1)
    ### END SOLUTION


# %%
m, log_v = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
assert np.allclose(kl(0 * m, 0 * log_v), 0) and (kl(m, log_v) > 0).all()
z = np.linspace(-12, 12, 20_001)
q = norm.pdf(z, m[0, 0], np.exp(log_v[0, 0] / 2))
by_sum = (q * (norm.logpdf(z, m[0, 0], np.exp(log_v[0, 0] / 2)) - norm.logpdf(z))).sum() * (z[1] - z[0])
assert np.isclose(kl(m[:1, :1], log_v[:1, :1])[0], by_sum)

# %% [markdown]
# The first term is an expectation over $q$, which depends on the encoder's parameters. The trick that made VAEs work is
# to draw noise that does *not* depend on them, and to move it: then the derivative goes through the code, to the mean
# and to the deviation. (The first term of the bound gives the encoder no other gradient.)
#
# ### Exercise 12.2 - a code, drawn


# %%
def code(m, log_v, eps):
    """A draw z ~ N(m, v) of each image.   m, log_v: (B, k);  eps: (B, k) standard normal noise  ->  (B, k)

    With jnp, so that JAX can differentiate it by m and log_v.
    """
    ### BEGIN SOLUTION
    return m + jnp.exp(log_v / 2) * eps
    ### END SOLUTION


# %%
one = np.ones((200_000, 1))
z = np.asarray(code(0.7 * one, math.log(0.25) * one, rng.normal(size=one.shape)))
assert abs(z.mean() - 0.7) < 0.01 and abs(z.var() - 0.25) < 0.01
# The derivative of E z² by m is 2m. Through the code its variance is 4v; by the other rule, which multiplies z² by the
# derivative of log q, it is m⁴/v + 14 m² + 15 v.
through, score = 2 * z, z**2 * (z - 0.7) / 0.25
assert abs(through.mean() - 1.4) < 0.01 and abs(score.mean() - 1.4) < 0.1
assert np.isclose(through.var(), 4 * 0.25, rtol=0.02)
assert np.isclose(score.var(), 0.7**4 / 0.25 + 14 * 0.7**2 + 15 * 0.25, rtol=0.05)
by_m = jax.grad(lambda m: (code(m, jnp.log(0.25), jnp.ones(3)) ** 2).sum())(jnp.full(3, 0.7))
assert np.allclose(by_m, 2 * (0.7 + 0.5))  # the code moves with its mean
score.var() / through.var()

# %% [markdown]
# ## 3. Collapse is water filling
#
# The most reported trouble of VAEs: the decoder ignores the code, and all images are the mean. For a linear VAE
# everything is known (Lucas et al. 2019). Let the loss be $\|x-\hat x\|^2/(2r^2) + B\,\mathrm{KL}$. The best linear VAE
# uses direction $j$ *if and only if* $\lambda_j > B r^2$, as water fills a basin up to the level $B r^2$: only what
# rises above the water is coded.
#
# So the scale of the two terms decides. The bound has sums: over the $D$ pixels, and over the $k$ codes. A mean over
# the pixels divides the first term by $D$; a mean over the codes divides the second by $k$. Both are easily written
# without a thought.
#
# ### Exercise 12.3 - how many codes are in use?


# %%
def active(lam, k, r2, mean_over_pixels, mean_over_codes):
    """The codes that the best linear VAE uses.   lam: (D,) eigenvalues λ;  k: codes;  r2: r²;  two bools  ->  int

    The loss: the sum or mean over the pixels of (x - x̂)²/(2r²), and the sum or mean over the codes of the KL.
    """
    ### BEGIN SOLUTION
    level = r2 * (len(lam) if mean_over_pixels else 1) / (k if mean_over_codes else 1)
    return min(k, int((lam > level).sum()))
    ### END SOLUTION


# %%
by_loss = {(a, b): active(lam, 20, 0.5, a, b) for a in (False, True) for b in (False, True)}
assert by_loss[False, False] == gen.water_filling(lam, 0.5, 20).active
assert by_loss[True, False] == 0 < by_loss[True, True] < by_loss[False, False]
assert lam[0] < 0.5 * D  # the largest eigenvalue lies below the level r² D: nothing is worth its price
by_loss

# %% [markdown]
# The remedy is to learn $r^2$ as well. Then it becomes the mean of the eigenvalues that are left out, no code
# collapses, and the bound is not a bound any more: it *is* the log-likelihood, of probabilistic PCA (Tipping and Bishop
# 1999).
#
# ### Exercise 12.4 - the likelihood of a linear VAE
# $$\mathbb E\log p(x) = -\tfrac12\Big[D\log 2\pi + \sum_{j\le k}\log\lambda_j + (D-k)\log r^2 + D\Big],
#   \qquad r^2 = \text{mean of the other eigenvalues}.$$


# %%
def likelihood(lam, k):
    """E log p(x) of the best linear VAE with k codes, nats an image.   lam: (D,), falling;  k: int < D  ->  a number"""
    ### BEGIN SOLUTION
    D, r2 = len(lam), lam[k:].mean()
    return -0.5 * (D * np.log(2 * np.pi) + np.log(lam[:k]).sum() + (D - k) * np.log(r2) + D)
    ### END SOLUTION


# %%
k, r2 = 8, lam[8:].mean()
cov = basis[:, :k] * (lam[:k] - r2) @ basis[:, :k].T + r2 * np.eye(D)
sign, log_det = np.linalg.slogdet(cov)
direct = -0.5 * (D * np.log(2 * np.pi) + log_det + np.trace(np.linalg.solve(cov, basis * lam @ basis.T)))
assert np.isclose(likelihood(lam, k), direct, rtol=1e-10)
assert np.isclose(likelihood(lam, k), gen.log_likelihood(lam, k))
# The gap of the bound is 0: the encoder of the best linear VAE gives the true posterior
vae, level = gen.best_linear_vae(basis, lam, k, x.mean(0))
both = gen.elbo(jax.random.key(0), jnp.asarray(x, jnp.float32), vae.encode, vae.decode, level)
bound = float((both.fit - both.kl).mean())
assert abs(bound - likelihood(lam, k)) < 0.2  # one code is drawn for each image
likelihood(lam, k), bound

# %% [markdown]
# With a network as decoder the gap is not 0. How large is it? Draw $K$ codes, weigh each by
# $w_i = p(x|z_i)\,p(z_i)/q(z_i|x)$, and average the *weights* before the logarithm: $L_K = \mathbb E\log\frac1K\sum_i
# w_i$. $L_1$ is the bound, and $L_K$ rises to $\log p(x)$ (Burda et al. 2016).
#
# ### Exercise 12.5 - a tighter bound


# %%
def tighter(log_w):
    """L_K from the logs of the weights, without overflow.   log_w: (K, B)  ->  (B,)"""
    ### BEGIN SOLUTION
    top = log_w.max(0)
    return top + np.log(np.exp(log_w - top).mean(0))
    ### END SOLUTION


# %%
# p(z) = N(0, 1), p(x | z) = N(z, 1), q the prior, x = 1: log p(x) is that of N(0, 2)
log_w = norm.logpdf(1.0, rng.normal(size=(100, 20_000)), 1)
truth = norm.logpdf(1.0, 0, math.sqrt(2))
gaps = {K: truth - tighter(log_w[:K]).mean() for K in (1, 2, 10, 100)}
assert abs(gaps[1] - (1 / 2 + 1 / 4 - math.log(2) / 2)) < 0.02
assert gaps[1] > gaps[2] > gaps[10] > gaps[100] > 0
gaps

# %% [markdown]
# Now a network: convolutions, four codes, $r^2$ learned, the label given to the decoder. It sees each digit's class, so
# that the code is left with the handwriting.

# %%
config = gen.GeneratorConfig("vae", 8, 1, 10, codes=4, width=8)
network = gen.fit(config, gen.Recipe(steps=STEPS, ema=0.99), digits.x_train, digits.y_train)
x_test, y_test = np.float32(digits.x_test / 127.5 - 1), digits.y_test
L = {K: float(network.bound(jax.random.key(1), x_test, y_test, K).mean()) for K in (1, 20)}
assert L[1] < L[20]
drawn = network.draw(jax.random.key(2), 40, np.repeat(np.arange(10), 4))
L, likelihood(lam, 4)

# %% [markdown]
# An image of a VAE is usually the *mean* $\hat x(z)$, without the decoder's noise. It looks clean, but it is no draw of
# the model: the variance $r^2$ in every pixel is left out. For the linear one this is, as a Fréchet distance:

# %%
with_noise = ((np.sqrt(lam[k:]) - np.sqrt(r2)) ** 2).sum()
without = lam[k:].sum() + ((np.sqrt(lam[:k]) - np.sqrt(lam[:k] - r2)) ** 2).sum()
assert with_noise < without
with_noise, without

# %% [markdown]
# ## 4. A GAN
#
# Two players. The discriminator $D(x)$ tells data, of density $p$, from generated images, of density $q$; the generator
# wants to be taken for data:
#
# $$\min_G\max_D V,\qquad V = \mathbb E_p\log D(x) + \mathbb E_q\log(1-D(x)).$$
#
# The best discriminator is $D^* = p/(p+q)$. It never needs to know the densities, only their ratio: its logit is
# $\log p - \log q$.
#
# ### Exercise 12.6 - what a perfect opponent measures
# Compute $V$ at $D^*$, and the Jensen-Shannon divergence $\mathrm{JSD} = \frac12\mathrm{KL}(p\|\frac{p+q}2) +
# \frac12\mathrm{KL}(q\|\frac{p+q}2)$, for distributions on $n$ points.


# %%
def at_best(p, q):
    """V at the best discriminator, and the JSD, in nats.   p, q: (n,) probabilities > 0  ->  two numbers"""
    ### BEGIN SOLUTION
    V = (p * np.log(p / (p + q))).sum() + (q * np.log(q / (p + q))).sum()
    return V, V / 2 + np.log(2)
    ### END SOLUTION


# %%
p, q = rng.dirichlet(np.ones(6), 2)
V, jsd = at_best(p, q)
assert np.allclose(at_best(p, p), (-2 * math.log(2), 0))  # D = ½ everywhere
assert np.isclose(jsd, gen.divergences(np.log(p), np.log(q), 1.0).jsd)
best = p / (p + q)
for other in rng.uniform(0.01, 0.99, (500, 6)):
    assert (p * np.log(other)).sum() + (q * np.log(1 - other)).sum() <= V
far = at_best(np.array([1 - 1e-9, 1e-9]), np.array([1e-9, 1 - 1e-9]))[1]
assert np.isclose(far, math.log(2), atol=1e-6)  # as far as it gets, however far the two are apart

# %% [markdown]
# That last line is the trouble. Where generator and data do not overlap, the JSD is $\log 2$ and flat: no gradient. So
# everybody trains the generator with another loss, $-\log D$ in place of $\log(1-D)$.
#
# ### Exercise 12.7 - two slopes
# $D = \sigma(a)$ with the logit $a$. What are the derivatives of both losses by $a$?


# %%
def slopes(a):
    """d/da of log(1 - D) and of -log D, at D = σ(a).   a: (n,)  ->  (n,), (n,)"""
    ### BEGIN SOLUTION
    D = 1 / (1 + np.exp(-a))
    return -D, -(1 - D)
    ### END SOLUTION


# %%
a = np.array([math.log(0.01 / 0.99)])  # D is sure: 1 %
assert np.allclose(np.ravel(slopes(a)), (-0.01, -0.99))  # the worse it is, the less the first loss says
# Data N(0, 1), generator N(θ, 1), a perfect discriminator: a = -θx + θ²/2
nodes, weights = np.polynomial.hermite_e.hermegauss(180)
weights = weights / weights.sum()
steep = {}
for theta in (1.0, 4.0, 8.0):
    logit = -theta * (nodes + theta) + theta**2 / 2
    steep[theta] = [float(-theta * (weights * s).sum()) for s in slopes(logit)]
    assert np.isclose(sum(steep[theta]), theta)
assert steep[8.0][0] < 1e-3 < 7.9 < steep[8.0][1]
steep

# %% [markdown]
# The other loss has gradients, and it wants something else: through a fixed $D^*$ its gradient is that of
# $\mathrm{KL}(q\|p) - 2\,\mathrm{JSD}$. The reverse KL punishes a generated image where there are no data, and hardly
# punishes data that are never generated: *it seeks modes*. One Gaussian, fitted to two modes at $\pm m$:

# %%
grid = np.linspace(-26, 26, 2601)


def fitted(m, name):
    """The better of covering both modes and of taking one, by a divergence: True if it covers."""
    log_p = np.logaddexp(norm.logpdf(grid, m), norm.logpdf(grid, -m)) - math.log(2)
    ends = []
    for mean, widths in ((0.0, np.linspace(0.8, 1.2, 21) * math.sqrt(1 + m * m)), (m, np.linspace(0.8, 1.5, 36))):
        of = [gen.divergences(log_p, norm.logpdf(grid, mean, s), grid[1] - grid[0]) for s in widths]
        ends.append(min(getattr(d, name) for d in of))
    return ends[0] < ends[1]


covers = {name: [m for m in (1.5, 2, 3, 3.9) if fitted(m, name)] for name in ("forward", "jsd", "non_saturating")}
assert covers["forward"] == covers["jsd"] == [1.5, 2, 3, 3.9] and covers["non_saturating"] == [1.5, 2]
covers

# %% [markdown]
# ## 5. Round and round
#
# Both players move. Do they arrive? The smallest GAN has one number each (Mescheder et al. 2018): data at 0, the
# generator at $\theta$, $D(x) = \sigma(\psi x)$. Its equilibrium is $(0,0)$. The gradient of each player turns the pair
# around it.
#
# ### Exercise 12.8 - in turns
# A common implementation computes both gradients first, then moves both: `psi, theta = psi - eta * g_psi, theta - eta *
# g_theta`. It spirals outwards. In Goodfellow's Algorithm 1 the discriminator moves first, and the generator answers
# *the new one*. Write that.


# %%
def played(theta, psi, eta, n):
    """n rounds of gradient steps of size eta: D descends log(1 + e^(ψθ)), then G descends log(1 + e^(-ψθ)).

    theta, psi, eta: numbers;  n: int  ->  (θ, ψ) at the end
    """
    ### BEGIN SOLUTION
    for _ in range(n):
        psi = psi - eta * theta / (1 + np.exp(-psi * theta))
        theta = theta + eta * psi / (1 + np.exp(psi * theta))
    return theta, psi
    ### END SOLUTION


# %%
small = np.hypot(*played(1e-3, 0.0, 0.1, 4000))
assert 0.9e-3 < small < 1.1e-3  # a circle, for ever; at the same time it would be √(1 + η²/4) farther in each round
assert math.sqrt(1 + 0.1**2 / 4) ** 4000 > 100
for gamma, moduli in ((0, (0.5, 0.5)), (1, (0.5, 0.5)), (2, (1 - 0.75**0.5, 1 + 0.75**0.5))):
    eigen = np.linalg.eigvals(np.array([[0, -0.5], [0.5, -gamma]]))  # the flow, with R1 of weight γ
    assert np.allclose(sorted(abs(eigen)), moduli) and (eigen.real <= -min(gamma, 1) * 0.13).all()

# %% [markdown]
# **R1** is a penalty on the slope of $D$ at the data, $\frac\gamma2\mathbb E\|\nabla a(x)\|^2$. The circle becomes a
# spiral inwards, the fastest at $\gamma=1$. Now a small GAN on a ring of eight Gaussians, without R1 and with it. How
# many modes does it hit, and which share of its points lies within three standard deviations of one?

# %%
points = {
    name: np.asarray(ring.made(ring.fit(ring.Recipe(TURNS, gamma)), jax.random.key(3), 4000))
    for name, gamma in (("without R1", 0.0), ("with R1", 0.1))
}
found = {name: ring.covered(p) for name, p in points.items()}
assert ring.covered(np.asarray(ring.draw(jax.random.key(4), 20_000))).hit == 8
assert abs(ring.covered(np.asarray(ring.draw(jax.random.key(4), 20_000))).near - ring.WITHIN) < 0.005
{name: (f.hit, round(f.near, 3)) for name, f in found.items()}

# %% [markdown]
# Look at the points between the modes. They never vanish, however long one trains: the codes are one connected cloud,
# and the generator is continuous, so what it draws is connected too.
#
# ## 6. Labels
#
# A conditional GAN shows the label to *both* players. A discriminator that does not see it only compares the images of
# all classes together, and the generator may ignore what it is asked for. **AC-GAN** lets the discriminator classify
# instead, and rewards images whose class is easily told. Two classes $\mathcal N(\pm1,1)$: the truth overlaps. What
# does the optimum draw?

# %%
at = np.linspace(-8, 8, 1601)
joint = np.stack([norm.pdf(at, 1), norm.pdf(at, -1)])
joint /= joint.sum()
means = {}
for weight in (1e-9, 1.0, 5.0):
    q = gen.acgan(joint, weight)
    means[weight] = float((q[0] * at).sum() / q[0].sum())
    assert (q[0][at < 0] == 0).all()  # no doubtful image is ever drawn
assert abs(means[1e-9] - (2 * norm.pdf(1) + 2 * norm.cdf(1) - 1)) < 1e-3  # the truth: 1
assert 1 < means[1e-9] < means[1.0] < means[5.0]
means

# %% [markdown]
# Its images exaggerate their class, at any weight. You know this from guidance in L9, which does it on purpose.
#
# **InfoGAN** has no labels and finds some: the generator gets a category $c$, and a head $Q(c|x)$ of the discriminator
# has to read it from the image. Both raise $L_I = \mathbb E\log Q(c|x) + \log K$, a bound on the information that the
# image has about $c$.
#
# ### Exercise 12.9 - the bound


# %%
def information(log_q, c):
    """L_I, nats.   log_q: (B, K) log probabilities Q(· | x);  c: (B,) the categories, drawn evenly  ->  a number"""
    ### BEGIN SOLUTION
    return log_q[np.arange(len(c)), c].mean() + np.log(log_q.shape[1])
    ### END SOLUTION


# %%
c = np.arange(50) % 10
none = np.full((50, 10), -math.log(10))
sure = np.where(np.eye(10)[c] > 0, -1e-12, -60.0)
assert np.isclose(information(none, c), 0) and np.isclose(information(sure, c), math.log(10))
# A cross entropy that applies a softmax, behind a network that has applied one: the loss cannot be won
probabilities = np.exp(sure)
twice = probabilities - np.log(np.exp(probabilities).sum(1, keepdims=True))
assert np.isclose(information(twice, c), 1 + math.log(10) - math.log(math.e + 9))
information(twice, c), math.log(10)

# %% [markdown]
# $L_I$ tells that there is a code, not what it means: $Q$ is content with anything that it can read. If the category
# only scales channels of the generator, it becomes brightness and texture, and $L_I$ is full all the same. Beside $z$
# at the input, as in the paper, it shapes the image, and then it comes nearer to the class of the garment, which no
# label has told it (experiment `infogan_codes`).
#
# ## 7. Three wishes
#
# Good images, all of the data, and quickly: each of the three kinds has two of them (Xiao et al. 2022 call it the
# trilemma). For Gaussian data, here with the covariance of the digits, each kind has an exact error, at its best: the
# linear VAE that of section 3, in one call; a perfect GAN none, in one call, if it ever gets there; diffusion with the
# exact denoiser what its steps cost.

# %%
alpha_bar = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])


def ddim_error(calls):
    """The Fréchet distance that DDIM with so many calls leaves, from the gain of each direction."""
    times, gain = np.append(np.round(1000 - np.arange(calls) * 1000 / calls).astype(int), 0), np.ones(D)
    for t, s in pairwise(times):
        eps = np.sqrt(1 - alpha_bar[t]) / (alpha_bar[t] * lam + 1 - alpha_bar[t])  # ε* = eps · x_t
        x0 = (1 - np.sqrt(1 - alpha_bar[t]) * eps) / np.sqrt(alpha_bar[t])
        gain = gain * (np.sqrt(alpha_bar[s]) * x0 + np.sqrt(1 - alpha_bar[s]) * eps)
    return float(((np.sqrt(lam) - np.abs(gain)) ** 2).sum())


calls = [1, 2, 4, 10, 20, 50, 100]
errors = [ddim_error(n) for n in calls]
assert all(a > b for a, b in pairwise(errors))
assert errors[0] > with_noise > errors[-1]  # in one call the VAE is better; with enough calls diffusion is
dict(zip(calls, errors, strict=True)), with_noise

# %% [markdown]
# The experiment `trilemma` measures the same with networks on garments, at equal minutes of training: look there which
# wish each kind gives up.


# %%
def show_gaussian(left, right):
    """The basin of the VAE, and quality against calls."""
    left.fill_between(np.arange(1, D + 1), 1e-3, lam, step="mid", color="0.85", lw=0)
    for level, text in ((D / 2, "mean over pixels"), (0.5, "sums, $r^2 = ½$"), (r2, "$r^2$ learned")):
        left.axhline(level, color="#1f4e79", lw=1)
        left.text(D, level * 1.15, text, fontsize=8, ha="right")
    left.set(yscale="log", ylim=(1e-2, 3 * D), xlim=(0.5, D), xlabel="direction j")
    left.set(ylabel=r"$\lambda_j$, and the level")
    left.set_title("a VAE codes what rises above the water", fontsize=9)
    right.plot(calls, errors, "o-", color="#b03a2e", label="DDIM, exact denoiser")
    right.plot(1, with_noise, "s", color="#1f4e79", label=f"linear VAE, {k} codes")
    right.plot(1, without, "s", mfc="none", color="#1f4e79", label="its means alone")
    right.set(xscale="log", yscale="log", xlabel="calls of a network", ylabel="Fréchet distance in pixels")
    right.set_title("quality against calls, exactly", fontsize=9)
    right.legend(fontsize=7)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)


# %%
def picture():
    """The figure of this lesson."""
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.4), layout="constrained", width_ratios=(1.15, 0.85, 1, 1.15))
    show_gaussian(axes[0], axes[3])
    axes[1].imshow(plot.grid(drawn, 8, 1).squeeze(), cmap="gray", interpolation="nearest")
    axes[1].set_title(f"drawn by a VAE, {STEPS} steps", fontsize=9)
    axes[1].axis("off")
    for name, colour in (("without R1", "0.6"), ("with R1", "#b03a2e")):
        hit, near, _ = found[name]
        axes[2].plot(*points[name][:600].T, ".", ms=3, color=colour, label=f"{name}: {hit} modes, {near:.0%} near")
    axes[2].plot(*ring.centres().T, "x", color="#1f4e79", ms=7)
    axes[2].set(xlim=(-1.8, 1.8), ylim=(-1.8, 2.6), aspect="equal", xticks=[], yticks=[])
    axes[2].legend(fontsize=7, loc="upper center")
    axes[2].set_title(f"a GAN on eight modes, {TURNS} steps", fontsize=9)
    return figure


# %%
if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l12.png", dpi=150)
    numbers = {"bound": L[1], "L_20": L[20], "modes": {n: [f.hit, f.near] for n, f in found.items()}}
    numbers |= {"ddim": dict(zip(map(str, calls), errors, strict=True)), "linear_vae": with_noise, "budget": BUDGET}
    (out / "l12.json").write_text(json.dumps(numbers, indent=1) + "\n")
    hit, near, _ = found["with R1"]
    print(f"L12: bound {L[1]:.1f}, with 20 draws {L[20]:.1f} nats; the GAN hits {hit} of 8 modes. out/l12.png")

# %% [markdown]
# ## What to take along
#
# - Sums over pixels and sums over codes, or you have chosen another $r^2$. Learn $r^2$.
# - The decoder's mean is no sample.
# - The loss that GANs train with seeks modes; the one that they are explained with does not.
# - Players move in turns, each its own parameters, and R1 makes them arrive.
# - Whoever rewards "easily told" gets exaggeration: AC-GAN as guidance.
#
# ## Further reading
#
# - Kingma and Welling 2014, *Auto-Encoding Variational Bayes*; Burda et al. 2016, *Importance Weighted Autoencoders*.
# - Lucas et al. 2019, *Don't Blame the ELBO!*; the experiment `vae_collapse`.
# - Goodfellow et al. 2014, *Generative Adversarial Nets*; Arjovsky and Bottou 2017; the experiment `gan_objectives`.
# - Mescheder et al. 2018, *Which Training Methods for GANs do actually Converge?*; the experiment `mode_ring`.
# - Odena et al. 2017, *AC-GAN*; Chen et al. 2016, *InfoGAN*; the experiments `acgan_bias` and `infogan_codes`.
# - Xiao et al. 2022, *Tackling the Generative Learning Trilemma*; the experiment `trilemma`.
