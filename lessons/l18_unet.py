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
# # L18. The U-Net, by hand
#
# | | |
# |---|---|
# | you learn | to write the network itself: convolution, group norm, residual block, attention, down and up, skips |
# | time | 80 minutes to read and do, 6 minutes to run |
# | difficulty | ●●●○○ |
# | importance | ●●●●○ |
# | paper | Ho, Jain, Abbeel 2020, *Denoising Diffusion Probabilistic Models*, App. B |
#
# Read it after Lesson 4, which took the network from the library. Here you write it. Every layer is a function of its
# parameters and an image, twenty lines at most, and each is checked against something exact. At the end your code runs
# the weights that ship with the package, and draws with them; then it trains a small network of its own.

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
from jax.flatten_util import ravel_pytree

from ddpm import config, data, forward, plot, schedule
from ddpm import train as train_
from ddpm.datasets import sources
from ddpm.loss import per_image
from ddpm.networks import inspect
from ddpm.tools import ops
from ddpm.zoo import model

# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how long to train and how much to draw

# %% [markdown]
# ## 1. Convolution is a sum
#
# A layer that treats all places of an image alike, and looks at a neighbourhood only, is a **convolution**. With a
# kernel of $k\times k$ places ($k = 2r+1$) it is
#
# $$y_{h,w} = b + \sum_{i=0}^{k-1}\sum_{j=0}^{k-1} x_{h+i-r,\;w+j-r}\; K_{ij},$$
#
# where $x_{h,w}$ is the vector of the $I$ channels at one place, $K_{ij}$ a matrix of $I\times O$ numbers, and the
# image is continued with zeros. So it is nothing but $k^2$ matrix products, each on a shifted copy of the image. (In
# mathematics the kernel would be flipped. Networks learn the kernel, so nobody flips it.)
#
# ### Exercise 18.1 - a convolution
# > **Note.** Continue the image with zeros on all four sides once (`jnp.pad`). Then each shifted copy is a slice of it.


# %%
def convolve(x, kernel, bias):
    """The sum above.   x: (B, H, W, I);  kernel: (k, k, I, O), k odd;  bias: (O,)  ->  (B, H, W, O)"""
    ### BEGIN SOLUTION
    k, (H, W) = kernel.shape[0], x.shape[1:3]
    r = k // 2
    padded = jnp.pad(x, ((0, 0), (r, r), (r, r), (0, 0)))
    return bias + sum(padded[:, i : i + H, j : j + W] @ kernel[i, j] for i in range(k) for j in range(k))
    ### END SOLUTION


# %% [markdown]
# Three checks. A kernel that is the identity matrix in its middle and zero elsewhere returns the image. A shifted image
# gives the shifted result, away from the border. And the library's operation, which is written for speed, gives the
# same numbers. It compiles in a third of the time and runs twice as fast, so the layers below call it.

# %%
rng = np.random.default_rng(0)
x, bias = rng.normal(size=(2, 6, 8, 3)).astype("f"), rng.normal(size=3).astype("f")
kernel, identity = rng.normal(size=(3, 3, 3, 3)).astype("f"), np.zeros((3, 3, 3, 3), "f")
identity[1, 1] = np.eye(3)
run = jax.jit(convolve)
y = run(x, kernel, bias)
assert np.allclose(run(x, identity, 0 * bias), x)
assert np.allclose(run(np.roll(x, 1, 2), kernel, bias)[:, :, 2:-1], np.roll(y, 1, 2)[:, :, 2:-1], atol=1e-5)
assert np.allclose(y, jax.jit(ops.conv)(x, kernel) + bias, atol=1e-5)


def conv(p, x):
    """The same, by the library.   p: {"kernel", "bias"}"""
    return ops.conv(x, p["kernel"]) + p["bias"]


def linear(p, x):
    """x W + b, over the last axis."""
    return x @ p["kernel"] + p["bias"]


# %% [markdown]
# ## 2. Group normalisation
#
# Deep networks train well if the numbers between the layers keep their size. **Group normalisation** divides the $C$
# channels into groups of neighbours. In each image, and for each group, it takes away the mean of all its numbers (all
# places, all channels of the group), divides by their standard deviation, and gives each channel a scale and a bias:
#
# $$y = \frac{x - \mu}{\sqrt{\sigma^2 + 10^{-6}}}\;\gamma + \beta .$$
#
# ### Exercise 18.2 - group normalisation
# > **Note.** On a CPU it is seven times faster to average over the places first, and then over the channels of a group.


# %%
def group_norm(p, x, groups):
    """(x - μ)/√(σ² + 1e-6) γ + β.   x: (B, H, W, C);  p: {"scale": γ, "bias": β};  groups: divides C  ->  like x"""
    ### BEGIN SOLUTION
    B, C = x.shape[0], x.shape[-1]

    def group_mean(a):
        means = a.mean((1, 2)).reshape(B, groups, C // groups).mean(2)
        return jnp.repeat(means, C // groups, axis=1)[:, None, None]

    centred = x - group_mean(x)
    return centred / jnp.sqrt(group_mean(centred**2) + 1e-6) * p["scale"] + p["bias"]
    ### END SOLUTION


# %% [markdown]
# It forgets brightness and contrast of each image: $a x + b$ gives what $x$ gives, for every $a > 0$. What is known of
# one image does not leak into another, as it would with batch normalisation.

# %%
x = 2 + rng.normal(size=(3, 5, 4, 6)).astype("f")
norm = {"scale": np.ones(6, "f"), "bias": np.zeros(6, "f")}
run = jax.jit(partial(group_norm, groups=3))
y = np.asarray(run(norm, x)).reshape(3, 20, 3, 2)
assert np.allclose(y.mean((1, 3)), 0, atol=1e-5) and np.allclose(y.var((1, 3)), 1, atol=1e-4)
assert np.allclose(run(norm, 5 * x + 7), run(norm, x), atol=1e-4)
assert np.array_equal(run(norm, x)[0], run(norm, np.concatenate([x[:1], 9 * x[:2]]))[0])  # whatever the others are
p = {name: rng.normal(size=6).astype("f") for name in ("scale", "bias")}
assert np.allclose(run(p, x), jax.jit(partial(ops.group_norm, groups=3))(x, p["scale"], p["bias"]), atol=1e-5)

# %% [markdown]
# ## 3. The residual block
#
# Lesson 4 had a residual block of two matrices. That of the U-Net has two convolutions, each after a norm and a bend
# ($\mathrm{silu}(a) = a/(1+e^{-a})$). The time enters between them, as one number for each channel:
#
# $$h = \mathrm{conv}_1(\mathrm{silu}(\mathrm{norm}_1(x))) + W\,\mathrm{silu}(e) + b, \qquad
#   y = x + \mathrm{conv}_2(\mathrm{silu}(\mathrm{norm}_2(h))).$$
#
# If the block changes the number of channels, $x$ itself passes a $1\times 1$ convolution before it is added.
#
# ### Exercise 18.3 - the residual block
# > **Note.** $e$ is (B, d) and $h$ is (B, H, W, C): the time needs two axes of length 1.


# %%
def res_block(p, x, e, groups):
    """The block above.   x: (B, H, W, I);  e: (B, d), the time's vector;  groups: of both norms  ->  (B, H, W, O)

    p: {"norm1", "conv1", "time_emb_proj" (linear), "norm2", "conv2", and "conv_shortcut" if O is not I}
    """
    ### BEGIN SOLUTION
    h = conv(p["conv1"], jax.nn.silu(group_norm(p["norm1"], x, groups)))
    h = h + linear(p["time_emb_proj"], jax.nn.silu(e))[:, None, None]
    h = conv(p["conv2"], jax.nn.silu(group_norm(p["norm2"], h, groups)))
    return h + (conv(p["conv_shortcut"], x) if "conv_shortcut" in p else x)
    ### END SOLUTION


# %% [markdown]
# The first parameters: kernels are random, uniform with the variance $2/(I+O)$ per place, as Ho et al. draw them. But
# the last layer of each block is zero, so that the block begins as the identity, as in Lesson 4. The names and shapes
# are those of the library's network of this configuration.

# %%
small = config.UNetConfig(
    image_size=28, patch=2, channels=16, multipliers=(1, 2), blocks=1, attention=(), groups=8, num_classes=10
)


def initial(path, leaf):
    """One array of the first parameters, by its name."""
    names = [str(getattr(part, "key", "")) for part in path]
    if names[-1] in ("scale", "bias") or {"conv2", "to_out", "conv_out"} & set(names):
        return np.full(leaf.shape, float(names[-1] == "scale"), "f")
    place = int(np.prod(leaf.shape[:-2]))
    most = np.sqrt(3 * 2 / (place * sum(leaf.shape[-2:])))  # a uniform number in ±a has the variance a²/3
    return rng.uniform(-most, most, leaf.shape).astype("f")


fresh = jax.tree_util.tree_map_with_path(initial, inspect.param_shapes(small))
block = fresh["mid_block"]["resnets"][0]
x, e = rng.normal(size=(2, 7, 7, 32)).astype("f"), rng.normal(size=(2, 64)).astype("f")
run = jax.jit(partial(res_block, groups=8))
assert np.array_equal(run(block, x, e), x)  # the identity, to the last bit
assert jax.eval_shape(run, fresh["down_blocks"][1]["resnets"][0], x[..., :16], e).shape == (2, 7, 7, 32)
sorted(block)

# %% [markdown]
# ## 4. Attention
#
# A convolution sees a neighbourhood. To make both sleeves equally long, distant places have to talk. In **attention**
# every place sends a query $q$, a key $k$ and a value $v$, three linear maps of the normalised image. Each place then
# gets the values of all places, weighted by how well its query fits their keys:
#
# $$y = x + W_o\,\Big[\mathrm{softmax}\big(q k^\top / \sqrt C\big)\, v\Big] + b_o .$$
#
# With $N$ places the table $qk^\top$ has $N^2$ entries, so attention is used where the image is small.
#
# ### Exercise 18.4 - attention
# > **Note.** Make a sequence of the places first, (B, HW, C); the softmax goes over the places that are looked at.


# %%
def attention(p, x, groups):
    """x + W_o softmax(q kᵀ/√C) v + b_o, over all places.   x: (B, H, W, C)  ->  like x

    p: {"group_norm", "to_q", "to_k", "to_v", "to_out": [one linear]}
    """
    ### BEGIN SOLUTION
    B, H, W, C = x.shape
    h = group_norm(p["group_norm"], x, groups).reshape(B, H * W, C)
    q, k, v = (linear(p[name], h) for name in ("to_q", "to_k", "to_v"))
    weights = jax.nn.softmax(q @ k.transpose(0, 2, 1) / jnp.sqrt(C), axis=-1)
    return x + linear(p["to_out"][0], weights @ v).reshape(B, H, W, C)
    ### END SOLUTION


# %% [markdown]
# Attention knows nothing of places: if they are permuted, the result is permuted. And if all keys are equal, every
# place gets the plain mean of the values.

# %%
maps: dict = {name: {"kernel": rng.normal(size=(6, 6)), "bias": np.zeros(6)} for name in ("to_q", "to_k", "to_v")}
p = maps | {"group_norm": norm, "to_out": [{"kernel": np.eye(6), "bias": np.zeros(6)}]}
x, order = rng.normal(size=(2, 4, 5, 6)).astype("f"), rng.permutation(20)


def permuted(a):
    """The places of a in another order."""
    return np.asarray(a).reshape(2, 20, 6)[:, order].reshape(a.shape)


run = jax.jit(partial(attention, groups=3))
assert np.allclose(run(p, permuted(x)), permuted(run(p, x)), atol=1e-4)
same_keys = p | {"to_k": {"kernel": np.zeros((6, 6)), "bias": np.ones(6)}}
values = jax.jit(partial(group_norm, groups=3))(norm, x) @ maps["to_v"]["kernel"]
assert np.allclose(run(same_keys, x) - x, values.mean((1, 2), keepdims=True), atol=1e-4)

# %% [markdown]
# ## 5. Down and up
#
# On the way **down** a convolution is kept at every second place only, which halves the image. Ho et al. pad with zeros
# on the right and below only; so of the ordinary convolution the places 1, 3, 5, … are kept, counted from 0. On the way
# **up** every number becomes a block of $2\times 2$ equal ones, and a convolution smooths the blocks.
#
# ### Exercise 18.5 - half the size, twice the size


# %%
def down(p, x):
    """The convolution at the odd places.   x: (B, H, W, C), H and W even;  p: of `conv`  ->  (B, H/2, W/2, C)"""
    ### BEGIN SOLUTION
    return conv(p, x)[:, 1::2, 1::2]
    ### END SOLUTION


def up(p, x):
    """Each number four times, then the convolution.   x: (B, H, W, C)  ->  (B, 2H, 2W, C)"""
    ### BEGIN SOLUTION
    return conv(p, jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2))
    ### END SOLUTION


# %%
p = {"kernel": rng.normal(size=(3, 3, 6, 6)).astype("f"), "bias": np.zeros(6, "f")}
x = rng.normal(size=(2, 4, 8, 6)).astype("f")
layout = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
strided = jax.lax.conv_general_dilated(x, p["kernel"], (2, 2), "SAME", **layout)  # TensorFlow's, which Ho et al. used
assert np.allclose(jax.jit(down)(p, x), strided, atol=1e-5)
middle = {"kernel": np.zeros((3, 3, 6, 6), "f"), "bias": np.zeros(6, "f")}
middle["kernel"][1, 1] = np.eye(6)
assert np.array_equal(jax.jit(lambda p, x: down(p, up(p, x)))(middle, x), x)  # up and down again, without a loss

# %% [markdown]
# ## 6. The U
#
# What was seen at full size is needed again at the end, since the noise has to be told pixel by pixel. So every result
# on the way down is kept. On the way up each block first gets one of them, appended to its channels: the **skips**. The
# last that was kept is the first that is needed, so they are a stack. The input itself is at its bottom.
#
# ### Exercise 18.6 - the skips


# %%
def u_shape(h, downs, middle, ups):
    """Down, through the middle, and up with the skips.   h: (B, H, W, C)  ->  (B, H, W, O)

    downs: a list of functions image -> image; the result of each is kept, and so is h
    ups: a list of pairs (function, joins): if joins is true, the function gets the last kept image appended to its own
    """
    ### BEGIN SOLUTION
    skips = [h]
    for f in downs:
        h = f(h)
        skips.append(h)
    h = middle(h)
    for f, joins in ups:
        h = f(jnp.concatenate([h, skips.pop()], axis=-1) if joins else h)
    return h
    ### END SOLUTION


# %% [markdown]
# If all functions are the identity, the result holds every kept image once, the youngest first.

# %%
joined = u_shape(jnp.zeros((1, 1, 1, 1)), [lambda h: h + 1] * 3, lambda h: h * 0 - 1, [(lambda h: h, True)] * 4)
assert joined.ravel().tolist() == [-1, 3, 2, 1, 0]

# %% [markdown]
# Everything together. The parameters are a nested dict, with the names that the library and diffusers give them. The
# dict itself tells what the network has: where there is an entry `attentions`, there is attention. As in Lesson 4 the
# network sees blocks of $2\times2$ pixels. The vector $e$ comes from the clocks of Lesson 4 and two linear maps, and
# the class adds a row of a table.

# %%
GROUPS = 8


def stage(level, e, j, h):
    """Residual block j of a level, and attention after it if the level has some."""
    h = res_block(level["resnets"][j], h, e, GROUPS)
    return attention(level["attentions"][j], h, GROUPS) if "attentions" in level else h


def middle_of(p, e, h):
    """Block, attention, block."""
    h = attention(p["attentions"][0], res_block(p["resnets"][0], h, e, GROUPS), GROUPS)
    return res_block(p["resnets"][1], h, e, GROUPS)


def time_and_class(p, t, c):
    """e = linear(silu(linear(clocks))) + the row of the class: (B, d)"""
    maps = p["time_embedding"]
    clocks = ops.time_embedding(t, maps["linear_1"]["kernel"].shape[0])
    return linear(maps["linear_2"], jax.nn.silu(linear(maps["linear_1"], clocks))) + p["class_embedding"][c]


# %%
def unet(p, x_t, t, c):
    """ε̂(x_t, t, c).   p: parameters;  x_t: (B, 28, 28, 1);  t, c: (B,)  ->  like x_t"""
    e = time_and_class(p, t, c)
    downs, ups = [], []
    for i in range(len(p["down_blocks"])):
        level = p["down_blocks"][i]
        downs += [partial(stage, level, e, j) for j in range(len(level["resnets"]))]
        downs += [partial(down, level["downsamplers"][0]["conv"])] if "downsamplers" in level else []
    for i in range(len(p["up_blocks"])):
        level = p["up_blocks"][i]
        ups += [(partial(stage, level, e, j), True) for j in range(len(level["resnets"]))]
        ups += [(partial(up, level["upsamplers"][0]["conv"]), False)] if "upsamplers" in level else []
    h = u_shape(conv(p["conv_in"], ops.space_to_depth(x_t, 2)), downs, partial(middle_of, p["mid_block"], e), ups)
    h = conv(p["conv_out"], jax.nn.silu(group_norm(p["conv_norm_out"], h, GROUPS)))
    return ops.depth_to_space(h, 2)


# %% [markdown]
# ## 7. Your code, their weights
#
# The network that ships with the package was trained for an hour and a half. Its million numbers go into your
# functions. If one of these were wrong (the order of a skip, the axis of a softmax, a missing root), it would show.

# %%
garments = model.load("fashion_mnist")
assert inspect.count(garments.params) == 1_004_868 and garments.unet.groups == GROUPS
lib, labels = garments.schedule, jnp.arange(10)
x_t, t = jax.random.normal(jax.random.key(3), (10, 28, 28, 1)), jnp.arange(50, 1001, 100)
run = jax.jit(unet)
ours, theirs = run(garments.params, x_t, t, labels), garments.eps(x_t, t, labels)
gap = float(jnp.abs(ours - theirs).max() / jnp.abs(theirs).max())
assert gap < 1e-4, gap
gap

# %% [markdown]
# So we can draw with it, one garment of each class, by the DDIM steps of Lesson 6 (from $t$ to $s$: the image is
# guessed and clipped, and noised again to the level $s$ with the noise that belongs to it).

# %%
steps = {"smoke": 10, "short": 50, "full": 250}[BUDGET]


def draw_with(params):
    """Ten garments, always from the same noise: (10, 28, 28, 1)"""
    times, alpha_bar = schedule.make_times(1000, steps), np.asarray(lib.alpha_bar)
    x = np.asarray(jax.random.normal(jax.random.key(4), (10, 28, 28, 1)))
    for t, s in itertools.pairwise(times):
        a, b = alpha_bar[t], alpha_bar[s]
        x0 = np.clip((x - np.sqrt(1 - a) * run(params, x, np.full(10, t), labels)) / np.sqrt(a), -1, 1)
        x = np.sqrt(b) * x0 + np.sqrt(1 - b) * (x - np.sqrt(a) * x0) / np.sqrt(1 - a)
    return x


theirs_drawn = draw_with(garments.params)
assert np.abs(theirs_drawn).max() <= 1 + 1e-5 and theirs_drawn.std() > 0.3
theirs_drawn.std()

# %% [markdown]
# ## 8. Your code, your weights
#
# Now a small network of your own: 16 channels, one block on each level. Algorithm 1 of Lesson 4 trains it on
# Fashion-MNIST (`DDPM_DATA_DIR`); without the data set, on the garments that were just drawn, to see it run. The number
# to beat is exact: the best *linear* denoiser of each class has the error .1331 on the test images.

# %%
real = sources.where("fashion_mnist") is not None
if real:
    found = sources.load("fashion_mnist")
    train_set, test_set = (found.x_train, found.y_train), (found.x_test, found.y_test)
else:
    train_set = test_set = (data.to_uint8(theirs_drawn), np.arange(10))
ceiling = garments.card["measures"]["eps_mse"]["reference"]
assert round(ceiling, 4) == 0.1331
len(train_set[0]), ceiling

# %%
n_steps, BATCH = {"smoke": 20, "short": 4000, "full": 30_000}[BUDGET], 32
assert inspect.count(fresh) == 165_556


def error(p, x0, c, t, noise):
    """(ε - ε̂)² of each image"""
    return per_image((noise - unet(p, forward.q_sample(lib, x0, t, noise), t, c)) ** 2)


def draw_batch(x, y, n=BATCH):
    """n images with classes, times and noise"""
    ids, t = rng.integers(0, len(x), n), rng.integers(1, 1001, n)
    return data.to_float(x[ids]), y[ids], t, rng.normal(size=(n, 28, 28, 1)).astype("f")


# %%
tx = optax.adam(optax.cosine_decay_schedule(2e-3, n_steps))
vector, as_dict = ravel_pytree(fresh)  # all parameters as one vector, so that Adam's step is a few operations


@jax.jit
def step(state, i, x0, c, t, noise):
    """One step of Algorithm 1, by Adam: (parameters, their moving average, Adam's state), and the loss."""
    p, average, opt = state
    loss, grad = jax.value_and_grad(lambda p: error(as_dict(p), x0, c, t, noise).mean())(p)
    updates, opt = tx.update(grad, opt)
    p, d = p + updates, train_.ema_decay(i, 0.995)
    return (p, d * average + (1 - d) * p, opt), loss


state, losses = (vector, vector, tx.init(vector)), []
for i in range(n_steps):
    state, loss = step(state, float(i), *draw_batch(*train_set))
    losses.append(loss)
trained, curve = as_dict(state[1]), np.array(losses)
assert curve[-10:].mean() < curve[0]

# %%
batches = {"smoke": 2, "short": 200, "full": 1000}[BUDGET]  # of ten images, so that the drawing needs no new program
each = []
for _ in range(batches):
    x0, c, t, noise = draw_batch(*test_set, 10)
    each.append(np.mean((noise - run(trained, forward.q_sample(lib, x0, t, noise), t, c)) ** 2, (1, 2, 3)))
errors = np.concatenate(each)
mse, spread = float(errors.mean()), float(errors.std() / np.sqrt(errors.size))
if real and BUDGET != "smoke":
    assert mse + 3 * spread < ceiling  # better than every straight line
ours_drawn = draw_with(trained)
mse, spread, ceiling

# %% [markdown]
# ## 9. The picture
#
# The loss comes down through that of the best straight lines. Below are two rows of garments, both drawn by your code
# and from the same noise: above with the weights of the package, below with those that you trained.


# %%
def picture():
    """The figure of this lesson."""
    figure, (above, rows) = plt.subplots(2, 1, figsize=(10, 6.4), layout="constrained", height_ratios=[1.3, 1])
    width = max(1, n_steps // 40)
    smooth = np.convolve(curve, np.ones(width) / width, "valid")
    above.plot(np.arange(len(smooth)) + width, smooth, color="#b5523b", lw=1.6, label="your network, training")
    above.plot([n_steps], [mse], "o", color="#b5523b", ms=5, label=f"on test images {mse:.3f}")
    above.axhline(ceiling, color="grey", ls="--", lw=1, label=f"best straight lines {ceiling:.4f}")
    above.set(
        xlabel="step", ylabel=r"$\|\varepsilon-\hat\varepsilon\|^2$ per pixel", yscale="log", xlim=(0, n_steps * 1.02)
    )
    above.legend(frameon=False, fontsize=8)
    above.spines[["top", "right"]].set_visible(False)
    both = np.concatenate([theirs_drawn, ours_drawn])
    rows.imshow(plot.grid(both, 10)[..., 0], cmap="gray")
    rows.set_yticks([16, 46], ["weights of the package", "your weights"], fontsize=8)
    rows.set_xticks(16 + 30 * np.arange(10), garments.classes, fontsize=7)
    rows.tick_params(length=0)
    rows.spines[:].set_visible(False)
    return figure


# %%
if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l18.png", dpi=150)
    numbers = {
        "eps_mse": {"value": mse, "standard_error": spread, "best_straight_lines": ceiling, "steps": n_steps},
        "gap_to_the_library": gap,
        "on": "test images" if real else "drawn images",
        "budget": BUDGET,
    }
    (out / "l18.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(f"L18: gap {gap:.0e}; loss {mse:.4f} after {n_steps} steps, straight lines {ceiling}. out/l18.png")

# %% [markdown]
# ## What to take along
#
# - A convolution is a sum of matrix products on shifted copies; a norm keeps sizes; a residual block begins as the
#   identity; attention is an average with learned weights; skips are a stack.
# - Each layer has an identity that finds its mistakes before any training: a kernel that returns the image, a contrast
#   that does not matter, a permutation, an image that comes back.
# - The last test of an implementation is somebody else's weights.
#
# ## Further reading
#
# - Ho, Jain, Abbeel 2020, *Denoising Diffusion Probabilistic Models*, App. B, and their code.
# - Ronneberger, Fischer, Brox 2015, *U-Net: Convolutional Networks for Biomedical Image Segmentation*.
# - Wu, He 2018, *Group Normalization*.
# - He, Zhang, Ren, Sun 2016, *Identity Mappings in Deep Residual Networks*. Why the norm comes before the convolution.
# - Vaswani et al. 2017, *Attention Is All You Need*, Sec. 3.2.
