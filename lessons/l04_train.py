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
# # L4. Training and sampling
#
# | | |
# |---|---|
# | you learn | to train a denoiser, to know how good it could be at best, and to draw garments with it |
# | time | 75 minutes to read and do, 2 minutes to run |
# | difficulty | ●●●○○ |
# | importance | ●●●●● |
# | paper | Ho, Jain, Abbeel 2020, *Denoising Diffusion Probabilistic Models*, Algorithms 1 and 2, App. B, Fig. 6 |
#
# Lesson 3 had a perfect denoiser, because it knew the distribution of the data. Nobody knows the distribution of
# photographs, so a network has to learn to predict the noise from examples. We begin with data whose perfect denoiser
# *is* known, and there we can see how far the network is from the best possible. Then we turn to pictures of clothes.

# %%
import json
import os
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from ddpm import config, data, forward, oracle, plot, schedule
from ddpm import train as train_
from ddpm.classifiers import classifier
from ddpm.datasets import sources
from ddpm.guide import clip_x0
from ddpm.loss import per_image
from ddpm.networks import inspect
from ddpm.oracles import gaussian
from ddpm.sample import ddpm_step, walk
from ddpm.tools import ops
from ddpm.zoo import model

# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how long to train and how much to draw

# %% [markdown]
# ## 1. Tell the network the time
#
# One network serves all noise levels, so it must be told which one it is looking at. A bare number $t$ is a poor input:
# a network cannot easily tell 17 from 18. So we show it the number on a row of clocks, some fast and some slow. This is
# the sinusoidal **time embedding**:
#
# $$e(t) = \big[\sin(\omega_0 t), \dots, \sin(\omega_{k-1} t),\ \cos(\omega_0 t), \dots, \cos(\omega_{k-1} t)\big],
#   \qquad \omega_i = 10000^{-i/(k-1)}$$
#
# where $k$ is half of the dimension. The fastest hand turns once in $2\pi$ steps, the slowest in $2\pi\cdot 10^4$.
#
# ### Exercise 4.1 - the clocks


# %%
def time_embedding(t, dim):
    """[sin(t ω_i), cos(t ω_i)], ω_i = 10000^(-i/(k-1)), k = dim/2.   t: (B,) int;  dim: even, ≥ 4  ->  (B, dim)"""
    ### BEGIN SOLUTION
    k = dim // 2
    omega = 10_000.0 ** (-jnp.arange(k) / (k - 1))
    angle = t[:, None] * omega
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=1)
    ### END SOLUTION


# %% [markdown]
# Every time becomes a vector of the same length, because each clock gives a sine and a cosine, and
# $\sin^2 + \cos^2 = 1$. The similarity of two times, $e(s)\cdot e(t) = \sum_i \cos(\omega_i (t-s))$, depends on $t-s$
# alone.

# %%
t = jnp.arange(1, 1001)
e = time_embedding(t, 32)
assert np.allclose(e, ops.time_embedding(t, 32), atol=1e-3)  # float32: angles up to 1000 keep four digits
assert np.allclose(e[:, [0, 15]], np.sin(np.outer(t, [1, 1e-4])), atol=1e-3)  # the fastest hand and the slowest
assert np.allclose((e**2).sum(1), 16, atol=1e-4)
similarity = np.asarray(e @ e.T)
for gap in (1, 10, 100):
    along = np.diagonal(similarity, gap)
    assert np.ptp(along) < 0.02  # one number for each difference of times
similarity[499, [499, 500, 509, 599]]

# %% [markdown]
# ## 2. Algorithm 1
#
# Take a batch of images $x_0$. Draw a time and a noise *for each of them*, and let the network predict the noise. Then
# take a step of gradient descent on the squared error [Ho et al. 2020, Alg. 1 and Eq. 14]:
#
# $$L_\text{simple} = \mathbb E_{x_0, t, \varepsilon}
#   \big\|\varepsilon - \hat\varepsilon(\sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon,\; t)\big\|^2.$$
#
# ### Exercise 4.2 - the loss of a batch
# > **Note.** `t` has one entry for each image. Reshape $\bar\alpha_t$ so that it multiplies whole images.


# %%
def batch_loss(eps, alpha_bar, x0, t, noise):
    """Mean of (ε - ε̂)² over all images and pixels.

    eps: (x_t, t) -> like x_t;  alpha_bar: (T+1,);  x0, noise: (B, ...);  t: (B,) int in 1..T  ->  a number
    """
    ### BEGIN SOLUTION
    a = alpha_bar[t].reshape((-1,) + (1,) * (x0.ndim - 1))
    x_t = jnp.sqrt(a) * x0 + jnp.sqrt(1 - a) * noise
    return jnp.mean((noise - eps(x_t, t)) ** 2)
    ### END SOLUTION


# %% [markdown]
# The data of this section are eight little clouds on a circle. They are a mixture of Gaussians, so `ddpm.oracle` knows
# the perfect denoiser. Its loss is the **floor** (the irreducible error): no network, however large, gets below it. The
# floor is not zero, because $x_t$ alone does not determine the noise. A loss without its floor tells us little.

# %%
n = {"smoke": 4_000, "short": 20_000, "full": 200_000}[BUDGET]
T = 100
short = schedule.linear(T)
angle = np.arange(8) * np.pi / 4
clouds = oracle.mixture(mean=0.9 * np.stack([np.cos(angle), np.sin(angle)], 1), cov=0.01)
perfect = jax.jit(clouds.eps(short))

keys = jax.random.split(jax.random.key(0), 3)
x0, t = clouds.sample(keys[0], n)[0], jax.random.randint(keys[1], (n,), 1, T + 1)
noise = jax.random.normal(keys[2], x0.shape)
floor = float(batch_loss(perfect, short.alpha_bar, x0, t, noise))
nothing = float(batch_loss(lambda x_t, t: 0 * x_t, short.alpha_bar, x0, t, noise))
linear = float(gaussian.linear_loss(gaussian.fit(x0), short, x0)[1:].mean())  # the best straight line
assert abs(nothing - 1) < 6 * np.sqrt(2 / (2 * n))  # the prediction "no noise" is wrong by E[ε²] = 1
assert floor < linear < nothing
floor, linear

# %% [markdown]
# > **Easy to get wrong.** Some programs draw *one* time for the whole batch. The network still trains, since the
# > expectation is the same, and more than one homework does it. But the perfect loss is about 0.9 at $t=1$ and nearly 0
# > at $t=T$, so the loss of the batch, and with it the gradient, jumps about with the common $t$. In a batch of 64:

# %%
fresh = jax.random.split(jax.random.key(1), 200)


@jax.jit
def spread(one_time):
    """The standard deviation of the perfect denoiser's loss over batches of 64."""

    def loss(key):
        kx, kt, ke = jax.random.split(key, 3)
        t = jax.random.randint(kt, (64,), 1, T + 1)
        x = clouds.sample(kx, 64)[0]
        t = jnp.where(one_time, t[0], t)
        return batch_loss(clouds.eps(short), short.alpha_bar, x, t, jax.random.normal(ke, x.shape))

    return jax.vmap(loss)(fresh).std()


one, each = float(spread(True)), float(spread(False))
assert one > 3 * each
at = {k: float(batch_loss(perfect, short.alpha_bar, x0, jnp.full(n, k), noise)) for k in (1, T)}
assert 0.85 < at[1] < 0.95 and at[T] < 0.01
one, each

# %% [markdown]
# ## 3. A network that begins as the identity
#
# Deep networks are built of **residual blocks**, which *add* something to their input:
# $h \mapsto h + \mathrm{silu}(h W_h + e\,W_e)\,W_o$, where $\mathrm{silu}(a) = a/(1+e^{-a})$ and $e$ is the time
# embedding. Let $W_o$ begin at 0. Then each block, and any tower of them, begins as the identity, and gradients pass
# through unharmed. The U-Net of Ho et al. is made of the same blocks, with convolutions in place of the matrices.
#
# ### Exercise 4.3 - a residual block


# %%
def res_block(h, e, w_h, w_e, w_out):
    """h + silu(h W_h + e W_e) W_o.   h: (B, d);  e: (B, k);  w_h: (d, m);  w_e: (k, m);  w_out: (m, d)  ->  (B, d)"""
    ### BEGIN SOLUTION
    return h + jax.nn.silu(h @ w_h + e @ w_e) @ w_out
    ### END SOLUTION


# %% [markdown]
# Three blocks between two linear maps are enough for two dimensions, and the whole network fits on one screen.

# %%
WIDTH = 64


def init(key):
    """The parameters, a nested dict of arrays: random, except for zeros where a block or the network ends."""
    k = jax.random.split(key, 7)
    blocks = [
        (
            jax.random.normal(k[2 * i], (WIDTH, WIDTH)) / 8,
            jax.random.normal(k[2 * i + 1], (32, WIDTH)) / 6,
            jnp.zeros((WIDTH, WIDTH)),
        )
        for i in range(3)
    ]
    return {"in": jax.random.normal(k[6], (2, WIDTH)), "blocks": blocks, "out": jnp.zeros((WIDTH, 2))}


def net(params, x_t, t):
    """ε̂: (B, 2), (B,) -> (B, 2)"""
    h, e = x_t @ params["in"], time_embedding(t, 32)
    for w in params["blocks"]:
        h = res_block(h, e, *w)
    return h @ params["out"]


# %%
params = init(jax.random.key(2))
h = x0[:5] @ params["in"]
for w in params["blocks"]:
    assert np.array_equal(res_block(h, time_embedding(t[:5], 32), *w), h)  # the identity, to the last bit
at_start = float(batch_loss(partial(net, params), short.alpha_bar, x0, t, noise))
assert at_start == nothing  # it predicts "no noise", which is as good as predicting nothing

# %% [markdown]
# ## 4. An average of the network
#
# As long as the steps have a size, the parameters jitter around a good place. Their average over the last steps lies
# nearer to it. The cheap way to average is an **exponential moving average** (EMA):
# $\bar\theta \leftarrow d\,\bar\theta + (1-d)\,\theta$ after each step.
#
# ### Exercise 4.4 - the exponential moving average


# %%
def ema(theta, decay):
    """The average after n steps, begun at θ_0.   theta: (n+1, ...), θ_0…θ_n;  decay: d in (0, 1)  ->  like theta[0]"""
    ### BEGIN SOLUTION
    average = theta[0]
    for new in theta[1:]:
        average = decay * average + (1 - decay) * new
    return average
    ### END SOLUTION


# %% [markdown]
# In closed form, $\bar\theta_n = d^n\theta_0 + (1-d)\sum_{k=1}^{n} d^{\,n-k}\theta_k$: the weights add up to one, and
# $d^n$ of the *initialisation* is still there. With the $d = .9999$ of Ho et al. that is 61 % after 5,000 steps. It is
# a beginner's classic: the loss is fine, and the samples are noise. So $d$ should grow with the number of steps, as
# $\min(d, \frac{1+n}{10+n})$ does. Then, after 5,000 steps, nothing is left of the start.

# %%
d, steps = 0.9, 30
theta = np.random.default_rng(0).standard_normal((steps + 1, 4))
weights = np.append(d**steps, (1 - d) * d ** np.arange(steps - 1, -1, -1))
assert np.isclose(weights.sum(), 1) and np.allclose(ema(theta, d), weights @ theta)
assert round(0.9999**5000, 2) == 0.61
left = np.prod(np.asarray(train_.ema_decay(jnp.arange(5000.0), 0.9999), np.float64))  # the library's
assert left < 1e-20

# %% [markdown]
# Here is the whole of Algorithm 1. Adam takes the steps, and one `scan` runs them all.


# %%
def learn(key, steps, batch=256):
    """Train on the clouds: parameters, their moving average, and the loss of each step."""
    tx = optax.adam(optax.cosine_decay_schedule(3e-3, steps))

    def step(state, i):
        params, average, opt = state
        kx, kt, ke = jax.random.split(jax.random.fold_in(key, i), 3)
        x0, t = clouds.sample(kx, batch)[0], jax.random.randint(kt, (batch,), 1, T + 1)
        noise = jax.random.normal(ke, x0.shape)
        loss, grad = jax.value_and_grad(lambda p: batch_loss(partial(net, p), short.alpha_bar, x0, t, noise))(params)
        updates, opt = tx.update(grad, opt)
        params = optax.apply_updates(params, updates)
        d = train_.ema_decay(i.astype(float), 0.99)
        average = jax.tree.map(lambda a, b: d * a + (1 - d) * b, average, params)
        return (params, average, opt), loss

    state = (params, params, tx.init(params))
    (_, average, _), losses = jax.jit(lambda s: jax.lax.scan(step, s, jnp.arange(steps)))(state)
    return average, np.asarray(losses)


# %% [markdown]
# How good did the network get? **Exactly:** the error of any guess is the floor plus its distance from the perfect
# guess,
# $\mathbb E\|\varepsilon-\hat\varepsilon\|^2 = \mathbb E\|\varepsilon-\varepsilon^*\|^2 +
# \mathbb E\|\varepsilon^*-\hat\varepsilon\|^2$, because $\varepsilon - \varepsilon^*$ is uncorrelated with everything
# that can be computed from $x_t$ (Pythagoras). So `loss - floor` *is* the squared distance to the perfect guess.

# %%
trained, losses = learn(jax.random.key(3), {"smoke": 1_000, "short": 6_000, "full": 40_000}[BUDGET])
x_t = jax.vmap(lambda x, t, e: forward.q_sample(short, x[None], t, e[None])[0])(x0, t, noise)
guess, truth = jax.jit(partial(net, trained))(x_t, t), perfect(x_t, t)
loss, distance = float(((noise - guess) ** 2).mean()), float(((truth - guess) ** 2).mean())
cross = np.asarray(2 * (noise - truth) * (truth - guess)).mean(1)
assert np.isclose(loss, batch_loss(partial(net, trained), short.alpha_bar, x0, t, noise), rtol=1e-4)
assert abs(loss - floor - distance) <= 6 * cross.std() / np.sqrt(n) + 1e-6  # Pythagoras
assert distance < 0.25 * (linear - floor)  # far better than any straight line
loss, floor, distance

# %% [markdown]
# ## 5. Algorithm 2
#
# Now we walk back with the trained guess. One function holds the posterior of Lesson 3 and $\hat x_0$, for a step from
# $t$ to $s < t$. We take $\sigma^2 = \tilde\beta$, so that the noise of the last step, to $s=0$, vanishes by itself.
#
# ### Exercise 4.5 - the ancestral step


# %%
def ancestral_step(alpha_bar_s, alpha_bar_t, x_t, eps_hat, z):
    """A draw of x_s: mean of q(x_s | x_t, x̂0) plus √β̃ z.   alpha_bar_*: ();  x_t, eps_hat, z: (B, ...)  ->  (B, ...)"""
    ### BEGIN SOLUTION
    x0 = (x_t - jnp.sqrt(1 - alpha_bar_t) * eps_hat) / jnp.sqrt(alpha_bar_t)
    alpha = alpha_bar_t / alpha_bar_s
    beta = 1 - alpha
    mean = (jnp.sqrt(alpha_bar_s) * beta * x0 + jnp.sqrt(alpha) * (1 - alpha_bar_s) * x_t) / (1 - alpha_bar_t)
    return mean + jnp.sqrt(beta * (1 - alpha_bar_s) / (1 - alpha_bar_t)) * z
    ### END SOLUTION


# %% [markdown]
# ### Exercise 4.6 - the sampler
# Go from $t = T$ to $0$ in one `jax.lax.scan`. The body takes $x_t$ and $t$ and returns $x_{t-1}$. Each step needs a
# key of its own, `jax.random.fold_in(key, t)`.


# %%
def sampler(eps, alpha_bar, key, x_T):
    """x_0, by `ancestral_step` from T down to 0.

    eps: (x_t, t (B,)) -> like x_t;  alpha_bar: (T+1,);  x_T: (B, ...)  ->  (B, ...)
    """
    T = alpha_bar.shape[0] - 1

    def body(x_t, t):
        ### BEGIN SOLUTION
        eps_hat = eps(x_t, jnp.full(x_t.shape[:1], t))
        z = jax.random.normal(jax.random.fold_in(key, t), x_t.shape)
        return ancestral_step(alpha_bar[t - 1], alpha_bar[t], x_t, eps_hat, z), None
        ### END SOLUTION

    return jax.lax.scan(body, x_T, jnp.arange(T, 0, -1))[0]


# %% [markdown]
# First we draw with the perfect guess: all eight clouds get their share, and the points lie in them. Then we draw with
# the network. At a glance it cannot be told from the perfect one, and the numbers report how far from it it is.

# %%
x_T = jax.random.normal(jax.random.key(4), (n, 2))
run = jax.jit(sampler)
denoisers = {"perfect": clouds.eps(short), "network": jax.tree_util.Partial(net, trained)}  # arguments of the jit
ends = {which: run(eps, short.alpha_bar, jax.random.key(5), x_T) for which, eps in denoisers.items()}


def report(x):
    """(share of each cloud, mean squared distance to the nearest centre); of the data: 1/8 each, and .02"""
    offset = np.asarray(x)[:, None] - np.asarray(clouds.mean)
    squared = (offset**2).sum(2)
    return np.bincount(squared.argmin(1), minlength=8) / n, float(squared.min(1).mean())


shares, widths = zip(*(report(ends[which]) for which in denoisers), strict=True)
error = np.sqrt(1 / 8 * 7 / 8 / n)
assert np.all(np.abs(shares[0] - 1 / 8) < 6 * error)
assert np.all(np.abs(shares[1] - 1 / 8) < 6 * error + 0.05)  # what the network missed
assert 0.6 < widths[0] / 0.02 < 1  # narrower than the data: β̃ and a hundred steps (Lesson 3)
assert 0.6 < widths[1] / 0.02 < 4  # some of the network's error is width, too
widths

# %% [markdown]
# And the sampler of the library does what yours does: `walk` with `ddpm_step` draws from the same distribution, with
# other random numbers.

# %%
again = walk(ddpm_step(clouds.eps(short), short), jax.random.key(6), x_T, schedule.make_times(T, T))
share, width = report(again)
assert np.all(np.abs(share - 1 / 8) < 6 * error)
assert abs(width / widths[0] - 1) < 6 * np.sqrt(2 * 2 / n)

# %% [markdown]
# ## 6. Pictures
#
# For images the network is a **U-Net**. Its residual blocks of convolutions work at full size, at half size, and so on
# down, and then back up again. At each size a skip connection appends what came down to what goes up. `ddpm.network` is
# the U-Net of Ho et al., to the last of its 35,746,307 parameters for CIFAR-10. That one wants a GPU. Lesson 18, which
# can be read next, writes such a network layer by layer.
#
# On two CPU cores one trick buys most: **space-to-depth**. The network looks at $14 \times 14$ positions of 4 numbers
# instead of $28 \times 28$ positions of one. Each $2\times 2$ block of pixels becomes the channels of one position, and
# at the end it is put back.
#
# ### Exercise 4.7 - undo space-to-depth
# Channel number $(i p + j)\,C + c$ of a position is colour $c$ of the pixel in row $i$, column $j$ of its block.


# %%
def depth_to_space(x, p):
    """x: (B, H, W, p·p·C), blocks as channels;  p: size of the block  ->  (B, H·p, W·p, C)"""
    ### BEGIN SOLUTION
    B, H, W, C = x.shape
    blocks = x.reshape(B, H, W, p, p, C // p**2)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(B, H * p, W * p, C // p**2)
    ### END SOLUTION


# %%
x = jax.random.normal(jax.random.key(7), (2, 6, 12, 3))
assert ops.space_to_depth(jnp.zeros((1, 28, 28, 1)), 2).shape == (1, 14, 14, 4)
for p in (1, 2, 3):
    assert np.array_equal(depth_to_space(ops.space_to_depth(x, p), p), x)

# %% [markdown]
# The trained network ships with the package. It has a million parameters, and it was trained for 14,500 steps of
# Algorithm 1 on Fashion-MNIST, which took an hour and a half on one core. (At that speed, `ddpm train --steps 3000`
# trains a network of your own in 18 minutes; its pictures are a little less sharp.) The network knows ten classes of
# garments: the label enters next to the time, as one more vector. Lesson 9 is about what that is good for.

# %%
garments = model.load("fashion_mnist")
assert inspect.count(garments.params) == 1_004_868 and len(garments.classes) == 10
assert inspect.count(inspect.param_shapes(config.UNetConfig(32, 3))) == 35_746_307  # counted without making the arrays
seconds, trained_for = garments.card["training_seconds"], garments.card["steps"]
assert trained_for == 14_500 and round(seconds / 3600, 1) == 1.5 and round(3000 * seconds / trained_for / 60) == 18
garments.classes

# %% [markdown]
# How good is it? The floor of photographs is unknown, but a *ceiling* is known exactly. The best straight line is the
# denoiser of a Gaussian with the mean and the covariance of each class. Its error on the test images is .1331, and the
# error of the network is about half of that. If you have the data set (`DDPM_DATA_DIR`), we measure the error here
# on real test images. Otherwise we measure it on images that the network drew, which are easier for it.

# %%
B = {"smoke": 20, "short": 80, "full": 80}[BUDGET]  # images at a time: one size, one compilation
labels = jnp.arange(B) % 10
lib, ask = garments.schedule, jax.jit(lambda eps, x_t, t, c: eps(x_t, t, c))
rows = {"smoke": 4, "short": 8, "full": 40}[BUDGET]
real = sources.where("fashion_mnist") is not None


def times_of(row):
    """B times, one in each of B equal parts of 1…1000."""
    u = (np.arange(B) + np.random.default_rng(row).uniform(size=B)) / B
    return jnp.asarray(1 + (u * 1000).astype(int))


# %% [markdown]
# Now we draw. We run Algorithm 2 with some of the 1000 times (as many as `steps` states), and we clip the predicted
# image to $[-1, 1]$, as Ho et al. do. We keep the whole path, to look into it later.

# %%
steps = {"smoke": 20, "short": 250, "full": 1000}[BUDGET]
times = schedule.make_times(1000, steps)
step = ddpm_step(clip_x0(garments.eps, lib), lib, labels)
start = jax.random.normal(jax.random.key(8), (B, 28, 28, 1))
drawn, path = walk(step, jax.random.key(9), start, times, path=True)  # (B, 28, 28, 1) and (steps, B, 28, 28, 1)
assert np.abs(drawn).max() <= 1 + 1e-5  # the last x̂0 was clipped
assert round(float(lib.alpha_bar[1000]) ** -0.5, -4) == 20_000  # by this factor x̂0 magnifies at T (see the picture)

# %%
if real:
    garment_data = sources.load("fashion_mnist")
    of_class = [np.flatnonzero(garment_data.y_test == c) for c in range(10)]
    ids = np.array([[of_class[b % 10][row * (B // 10) + b // 10] for b in range(B)] for row in range(rows)])
    test = data.to_float(garment_data.x_test[ids])  # (rows, B, 28, 28, 1), classes as in `labels`
else:
    test = np.broadcast_to(drawn, (rows, *drawn.shape))
found, drawn_times = [], []
for row in range(rows):
    t, noise = (
        times_of(row)[np.random.default_rng(row).permutation(B)],
        jax.random.normal(jax.random.key(row), start.shape),
    )
    x_t = forward.q_sample(lib, jnp.asarray(test[row]), t, noise)
    found.append(per_image((noise - ask(garments.eps, x_t, t, labels)) ** 2))
    drawn_times.append(t)
errors, at_times = np.concatenate(found), np.concatenate(drawn_times)
mse = errors.mean()
measured = garments.card["measures"]["eps_mse"]  # on the card of the weights: the network, and the best straight line
ceiling = measured["reference"]
assert mse < ceiling and round(ceiling, 4) == 0.1331 and 0.5 < measured["value"] / ceiling < 0.55
if real:
    assert abs(mse - measured["value"]) < 6 * errors.std() / np.sqrt(errors.size)
mse

# %% [markdown]
# Do the pictures show the class that was requested? We let a second network judge, a classifier that was trained to
# tell garments apart. On real test images it is right in 94 % of cases, and about as often on the drawn ones. (Shirts
# are hard to tell from T-shirts for people, too.)

# %%
judge = classifier.load("fashion_mnist")
accuracy = float(np.mean(judge.predict(np.clip(drawn, -1, 1)) == np.asarray(labels)))
assert round(judge.card["test"]["accuracy"], 2) == 0.94  # on 10,000 real test images
assert accuracy > 0.8 - 3 * np.sqrt(0.8 * 0.2 / B)
accuracy

# %% [markdown]
# ## 7. The picture
#
# Above are the perfect denoiser and the trained one on the clouds, and the loss coming down on its floor. Below you see
# how one boot, one bag, one dress and one T-shirt came to be: $x_t$, and under it the guess $\hat x_0$. The guess is
# first the mean of all garments of that kind, then coarse shape, then detail (Fig. 6 of the paper). At the right are
# all ten classes.


# %%
def draw_clouds(left, right, curve):
    """Two scatter plots, and the loss over the floor."""
    for axis, which, colour in ((left, "perfect", "#1f4e79"), (right, "network", "#b5523b")):
        axis.scatter(*np.asarray(ends[which][:3000]).T, s=1.2, color=colour, alpha=0.5, lw=0, rasterized=True)
        axis.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), xticks=[], yticks=[], aspect="equal")
        axis.set_title(f"drawn with the {which} denoiser", fontsize=9)
    width = max(1, len(losses) // 60)
    smooth = np.convolve(losses, np.ones(width) / width, "valid")
    curve.loglog(np.arange(len(losses)) + 1, losses, color="#d9b8ae", lw=0.6)
    curve.loglog(np.arange(len(smooth)) + width, smooth, color="#b5523b", lw=1.6, label="network")
    curve.axhline(linear, color="grey", ls="--", lw=1, label=f"best straight line {linear:.3f}")
    curve.axhline(floor, color="#1f4e79", lw=1.4, label=f"floor: the perfect one {floor:.3f}")
    curve.set(
        xlabel="step of training", ylabel=r"$\|\varepsilon-\hat\varepsilon\|^2$ per number", xlim=(1, len(losses))
    )
    curve.set_ylim(0.8 * floor, 1.2)
    curve.set_yticks([0.2, 0.4, 0.8], ["0.2", "0.4", "0.8"])
    curve.set_yticks([], minor=True)
    curve.legend(frameon=False, fontsize=8)
    curve.spines[["top", "right"]].set_visible(False)


# %%
LOOKED_AT = (9, 8, 3, 0)  # boot, bag, dress, T-shirt


def draw_progress(axes):
    """Rows: x_t and x̂0 of one image; columns: times."""
    shown = (np.linspace(0.07, 0.93, 7) * steps).astype(int)  # at T itself x̂0 is noise, magnified 20,000 times
    for column, i in enumerate(shown):
        t = int(times[i])
        x_t = path[i - 1]
        guess = forward.x0_from_eps(lib, x_t, t, ask(garments.eps, x_t, jnp.full(B, t), labels))
        x0 = jnp.clip(guess, -1, 1)
        for row, k in enumerate(LOOKED_AT):
            for axis, image in ((axes[2 * row, column], x_t), (axes[2 * row + 1, column], x0)):
                axis.imshow(
                    image[k, ..., 0], cmap="gray", vmin=-1.4 if image is x_t else -1, vmax=1.4 if image is x_t else 1
                )
        axes[0, column].set_title(f"$t={t}$", fontsize=8)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for row in range(len(LOOKED_AT)):
        axes[2 * row, 0].set_ylabel("$x_t$", rotation=0, labelpad=9, va="center", fontsize=9)
        axes[2 * row + 1, 0].set_ylabel(r"$\hat x_0$", rotation=0, labelpad=9, va="center", fontsize=9)


# %%
def draw_classes(axis):
    """All the drawn garments, with a row for each class."""
    columns = B // 10
    by_class = np.asarray(drawn).reshape(columns, 10, 28, 28, 1).transpose(1, 0, 2, 3, 4).reshape(B, 28, 28, 1)
    axis.imshow(plot.grid(by_class, columns)[..., 0], cmap="gray", aspect="equal")
    axis.set_yticks(16 + 30 * np.arange(10), garments.classes, fontsize=9)
    axis.set(xticks=[], title=f"{B} garments that nobody sewed ({steps} steps)")
    axis.title.set_fontsize(10)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def picture():
    """The figure of this lesson."""
    figure = plt.figure(figsize=(12, 10.5), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 2.15])
    draw_clouds(*top.subplots(1, 3, width_ratios=[1, 1, 1.5]))
    left, right = bottom.subfigures(1, 2, width_ratios=[1, 1.12])
    draw_progress(left.subplots(8, 7))
    draw_classes(right.subplots())
    return figure


# %%
if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l04.png", dpi=150)
    numbers = {
        "clouds": {"floor": floor, "network": loss, "straight_line": linear, "distance_to_perfect": distance, "n": n},
        "garments": {"eps_mse": float(mse), "n": errors.size, "on": "test images" if real else "drawn images"},
        "accuracy": {"value": accuracy, "n": B, "steps": steps},
        "budget": BUDGET,
    }
    (out / "l04.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(f"L4: loss {loss:.3f} on a floor of {floor:.3f}; {accuracy:.0%} of {B} garments as requested. out/l04.png")

# %% [markdown]
# ## What to take along
#
# - Algorithm 1 draws a time and a noise for each image and takes a step on the squared error. Algorithm 2 samples from
#   the posterior, with the guess in place of the image.
# - A loss needs its floor next to it. Where the floor is unknown, the best straight line is an exact ceiling.
# - Let blocks begin as the identity, and let the moving average forget its start.
#
# ## Further reading
#
# - Ho, Jain, Abbeel 2020, *Denoising Diffusion Probabilistic Models*, App. B: their network, to the last layer.
# - Vaswani et al. 2017, *Attention Is All You Need*, Sec. 3.5. This is where the clocks come from.
# - Ronneberger, Fischer, Brox 2015, *U-Net*. Down, up, and the bridges between.
# - Karras et al. 2024, *Analyzing and Improving the Training Dynamics of Diffusion Models*. They measure what the
#   length of the average does to the pictures.
