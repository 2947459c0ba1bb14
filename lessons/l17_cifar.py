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
# # L17. CIFAR-10: the paper's network, colour, and what scale buys
#
# | | |
# |---|---|
# | you learn | to count a U-Net before it is built, what smoothness and colour alone tell, and to use others' weights |
# | time | 80 minutes to read and do, 2 minutes to run |
# | difficulty | ●●○○○ |
# | importance | ●●●○○ |
# | paper | Ho, Jain, Abbeel 2020, *Denoising Diffusion Probabilistic Models*, Sec. 4, App. B |
#
# The numbers of the paper are for CIFAR-10: 50,000 training photographs of 32 by 32 pixels, in ten classes and in
# colour. The paper's network has 35.7 million parameters and was trained for 800,000 steps on a TPU v3-8: eight cores
# on four chips. Most of us have nothing of the kind. This lesson takes the network apart by counting, finds out how
# much of the task needs no network at all, and then uses what others trained.

# %%
import json
import math
import os
import subprocess
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddpm import data, network, plot, sample, schedule
from ddpm.config import UNetConfig, unet_config
from ddpm.datasets import sources
from ddpm.evaluation import distances
from ddpm.guides.rules import gaussian_above
from ddpm.networks import inspect
from ddpm.oracles import gaussian, low_rank
from ddpm.zoo import diffusers, model

# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how many images and steps
paper = unet_config("cifar10")  # 128 channels, multipliers 1 2 2 2, two blocks a level, attention at 16 x 16
small = unet_config("cifar10_cpu")  # our preset for a laptop

# %% [markdown]
# ## 1. The network, counted
#
# The **U-Net** is built from *residual blocks*:
#
# $$\mathrm{block}(x) = x + \mathrm{conv}\Big(\mathrm{silu}\big(\mathrm{norm}(\,\mathrm{conv}(\mathrm{silu}(
#   \mathrm{norm}(x))) + W\,\mathrm{time}\,)\big)\Big)$$
#
# A block has two convolutions of $3\times3$, each with biases. It has two group norms, with a scale and a shift for
# each of their channels (the first has $c_\text{in}$ channels, the second $c_\text{out}$). It has a linear layer with
# biases from the time embedding ($d$ numbers) to $c_\text{out}$ numbers. Only if $c_\text{in}\ne c_\text{out}$, the $x$
# in front (the *shortcut*) goes through a $1\times1$ convolution with biases.
#
# ### Exercise 17.1 - the parameters of a block


# %%
def block_parameters(c_in, c_out, d):
    """The number of parameters of a block; the time embedding has d numbers.   c_in, c_out, d: int  ->  int"""
    ### BEGIN SOLUTION
    norms = 2 * c_in + 2 * c_out
    convolutions = (9 * c_in + 1) * c_out + (9 * c_out + 1) * c_out
    shortcut = (c_in + 1) * c_out if c_in != c_out else 0
    return norms + convolutions + (d + 1) * c_out + shortcut
    ### END SOLUTION


# %% [markdown]
# On the way down each level has `blocks` residual blocks. Each level but the last ends with a convolution of stride 2,
# which halves the size. **Every** output on the way down is kept on a stack: that of the first convolution, of each
# block, and of each halving. On the way up each level has `blocks + 1` blocks. Each of them takes one array from the
# stack and concatenates it with its input (a *skip connection*). That is the whole plumbing of a U-Net.
#
# ### Exercise 17.2 - the stack, and a bet
# Return the numbers of channels on the stack, in the order in which they are put there. **Then bet:** an attention
# layer follows every block at the size $16\times16$ (the second of four levels), on the way down and up, and there is
# one more in the middle. How many attention layers are there?


# %%
def stack_widths(channels, multipliers, blocks):
    """The number of channels of each array that the way down leaves on the stack.

    channels: of the first convolution;  multipliers: of each level, in units of it;  blocks: a level  ->  (n,) int
    """
    ### BEGIN SOLUTION
    widths = [channels]
    for i, m in enumerate(multipliers):
        widths += [channels * m] * blocks
        if i < len(multipliers) - 1:
            widths.append(channels * m)
    return np.array(widths)
    ### END SOLUTION


def attention_layers():
    """Your bet, for the paper's network.   ->  a number"""
    ### BEGIN SOLUTION
    return 6
    ### END SOLUTION


# %% [markdown]
# Now we count the whole network. `walk_through` lists every layer with its sizes, in the order in which the image meets
# them; the stack determines what the way up receives. This is all that the lesson needs to know about the network.


# %%
def walk_through(config):
    """(kind, size of the feature map, c_in, c_out) of every layer."""
    widths, last = [config.channels * m for m in config.multipliers], len(config.multipliers) - 1
    sizes = [config.image_size // config.patch // 2**i for i in range(last + 1)]
    pixel = config.image_channels * config.patch**2
    stack = list(stack_widths(config.channels, config.multipliers, config.blocks))
    layers, now = [("conv", sizes[0], pixel, widths[0])], widths[0]
    for i, c in enumerate(widths):
        for _ in range(config.blocks):
            layers += [("block", sizes[i], now, c)] + [("attention", sizes[i], c, c)] * (sizes[i] in config.attention)
            now = c
        if i < last:
            layers += [("conv", sizes[i + 1], c, c)]
    layers += [("block", sizes[-1], now, now), ("attention", sizes[-1], now, now), ("block", sizes[-1], now, now)]
    for i in range(last, -1, -1):
        for _ in range(config.blocks + 1):
            layers += [("block", sizes[i], now + int(stack.pop()), widths[i])]
            layers += [("attention", sizes[i], widths[i], widths[i])] * (sizes[i] in config.attention)
            now = widths[i]
        layers += [("conv", 2 * sizes[i], now, now)] * (i > 0)
    assert not stack
    return [*layers, ("norm", sizes[0], now, now), ("conv", sizes[0], now, pixel)]


# %%
def parameters(config):
    """The number of all parameters: of the layers, the time embedding and the table of classes."""
    d = 4 * config.channels
    of = {
        "conv": lambda a, b: (9 * a + 1) * b,
        "block": lambda a, b: block_parameters(a, b, d),
        "attention": lambda a, b: 2 * a + 4 * (a + 1) * a,  # norm; query, key, value, output
        "norm": lambda a, b: 2 * a,
    }
    time = (config.channels + 1) * d + (d + 1) * d
    table = (config.num_classes + 1) * d if config.num_classes else 0
    return time + table + sum(of[kind](a, b) for kind, _, a, b in walk_through(config))


assert parameters(paper) == 35_746_307  # Ho et al. 2020, App. B: "35.7 million"
for name in ("cifar10", "digits"):
    assert parameters(unet_config(name)) == inspect.count(inspect.param_shapes(unet_config(name)))
assert sum(kind == "attention" for kind, *_ in walk_through(paper)) == attention_layers()
in_blocks = [block_parameters(a, b, 512) for kind, _, a, b in walk_through(paper) if kind == "block"]
assert len(in_blocks) == 22
down, way_up = sum(in_blocks[:8]), sum(in_blocks[10:])  # eight blocks down, two in the middle, twelve up
assert abs(sum(in_blocks) / parameters(paper) / (6 / 7) - 1) < 0.01 and way_up > 2 * down
sum(in_blocks) / parameters(paper), way_up / down

# %% [markdown]
# The count is right to the last parameter. Six sevenths of the parameters are in the residual blocks, and the way up
# has more than twice as many as the way down, since its blocks receive two arrays at once and there are more of them.
#
# ## 2. What it costs
#
# For each position and each output channel a $k\times k$ convolution takes $k^2c_\text{in}$ products and as many sums:
# $2k^2\,c_\text{in}c_\text{out}$ floating-point operations (FLOPs) per position. Biases hardly matter here. Every
# parameter is used once for each *position*. So a layer at $32\times32$ costs 64 times as much as one of the same
# widths at $4\times4$, with as many parameters. That is the lever of *space-to-depth*: fold each $p\times p$ block of
# pixels into the channels of one position, and run the network on the smaller image that results.
#
# ### Exercise 17.3 - operations, and a bet
# Count the operations of a convolution with stride 1 after the folding; $c_\text{in}$ and $c_\text{out}$ are the
# channels of the layer itself. **Then bet:** our small network (32 channels, $p=2$, two levels) has 35 times fewer
# parameters than that of the paper. By what factor is it cheaper to run?


# %%
def conv_flops(size, c_in, c_out, k, p):
    """Operations of a k × k convolution on an image of size × size pixels that was folded p × p.   ints  ->  int"""
    ### BEGIN SOLUTION
    positions = (size // p) ** 2
    return 2 * positions * k**2 * c_in * c_out
    ### END SOLUTION


def cheaper_by():
    """Your bet: operations of the paper's network over those of the small one.   ->  a number"""
    ### BEGIN SOLUTION
    return 65
    ### END SOLUTION


# %%
def gflops(config):
    """10⁹ operations of one image through the network."""
    total = 0
    for kind, size, a, b in walk_through(config):
        if kind == "conv":
            total += conv_flops(size, a, b, 3, 1)
        if kind == "block":
            total += conv_flops(size, a, b, 3, 1) + conv_flops(size, b, b, 3, 1)
            total += conv_flops(size, a, b, 1, 1) if a != b else 0
        if kind == "attention":  # query, key, value, output; all pairs of positions, twice
            total += 4 * conv_flops(size, a, a, 1, 1) + 2 * 2 * size**4 * a
    return total / 1e9


# %%
def as_compiled(config):
    """The compiler's count: with norms and activations, but without products with the zeros around the image."""
    x = jax.ShapeDtypeStruct((1, *config.image_shape), jnp.float32)
    t = jax.ShapeDtypeStruct((1,), jnp.int32)
    return jax.jit(network.build(config)[1]).lower(inspect.param_shapes(config), x, t).cost_analysis()["flops"] / 1e9


cost = gflops(paper) / gflops(small)
assert abs(gflops(paper) / 12.44 - 1) < 0.01 and abs(cost / cheaper_by() - 1) < 0.1
assert 0.85 < as_compiled(small) / gflops(small) < 1.05
assert conv_flops(32, 64, 64, 3, 2) * 4 == conv_flops(32, 64, 64, 3, 1)  # a quarter of the positions
assert conv_flops(4, 64, 64, 3, 1) * 64 == conv_flops(32, 64, 64, 3, 1)
assert round(parameters(paper) / parameters(small)) == 35
assert (small.channels, small.patch, len(small.multipliers)) == (32, 2, 2)
gflops(paper), gflops(small), cost

# %% [markdown]
# A training step costs about three times the forward pass. At 800,000 steps of 128 images that is $3.8\cdot10^{18}$
# operations for the paper. They take eight hours on a device that does $1.3\cdot10^{14}$ per second, and fifteen months
# on two laptop cores at $10^{11}$ per second. (Our network was trained for 9,000 steps of 64 images, which took two
# and a half hours on one core.)

# %%
operations = 3 * 1e9 * gflops(paper) * 128 * 800_000
assert abs(operations / 3.8e18 - 1) < 0.02
assert round(operations / 1.3e14 / 3600) == 8 and round(operations / 1e11 / 86400 / 30) == 15
sizes = {
    name: (parameters(unet_config(name)), gflops(unet_config(name)))
    for name in ("cifar10", "large", "medium", "small", "cifar10_cpu", "cpu", "digits")
}
operations / 1.3e14 / 3600, operations / 1e11 / 86400 / 30

# %% [markdown]
# ## 3. What needs no network
#
# Suppose we knew only the *variances* of the data along some orthogonal directions. Take the best linear denoiser that
# scales each direction by itself. Its loss is known (Lesson 5): with $\lambda_d$ the mean square along direction $d$,
#
# $$L_t = \frac1D\sum_d\frac{\bar\alpha_t\lambda_d}{\bar\alpha_t\lambda_d+1-\bar\alpha_t}.$$
#
# The formula is exact for **any** data, Gaussian or not. But only for Gaussian data is there no better denoiser.
#
# ### Exercise 17.4 - the loss of a linear denoiser, at all times


# %%
def linear_loss(lam, alpha_bar):
    """L_t of the best denoiser that scales each direction by itself.   lam: (D,);  alpha_bar: (T,)  ->  (T,)"""
    ### BEGIN SOLUTION
    signal = alpha_bar[:, None] * lam
    return (signal / (signal + 1 - alpha_bar[:, None])).mean(1)
    ### END SOLUTION


# %%
rng = np.random.default_rng(0)
x = rng.laplace(size=(500, 6)) @ rng.normal(size=(6, 6))  # not Gaussian
lib = schedule.cosine(1000)
abar = np.asarray(lib.alpha_bar, np.float64)[1:]
fitted = gaussian.fit(x)  # its axes, and the variances along them
assert np.allclose(
    linear_loss(np.asarray(fitted.var[0], np.float64), abar), gaussian.linear_loss(fitted, lib, x)[1:], rtol=1e-3
)

# %% [markdown]
# Which directions? The statistics of photographs are, on average, the same everywhere in the image (*stationarity*).
# For such data the right directions are waves: those of the two-dimensional Fourier transform. And photographs are
# *smooth*: their **power spectrum** falls as $1/f^2$. The power is the mean squared coefficient. Divide the
# coefficients by $\sqrt{HW}$, and the transform is a rotation: the sum of the powers is then the sum of the mean
# squares of the pixels.
#
# ### Exercise 17.5 - the power of each wave


# %%
def power(x):
    """Mean |orthonormal FFT|² over images of one colour.   x: (n, H, W)  ->  (H, W), mean = mean of x²"""
    ### BEGIN SOLUTION
    waves = np.fft.fft2(x, norm="ortho")
    return (np.abs(waves) ** 2).mean(0)
    ### END SOLUTION


# %% [markdown]
# **Exactly:** we draw images from a distribution that we know. Their power is $\propto 1/f^2$, and their colour axes
# are like those of photographs: brightness (all three colours together), a little of warm against cold (red against
# blue), and less of green against purple.

# %%
f = np.hypot(*np.meshgrid(np.fft.fftfreq(32) * 32, np.fft.fftfreq(32) * 32))
shape = 1 / np.maximum(f, 1) ** 2
AXES = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])  # brightness, warm-cold, green-purple
SHARE = np.array([0.86, 0.11, 0.03])
LAMBDA = 0.75 * SHARE[:, None, None] * shape / shape.mean()  # (3, 32, 32): mean over all is .25


def clouds(n, seed=0):
    """Gaussian images with these powers: (n, 32, 32, 3)"""
    white = np.fft.fft2(np.random.default_rng(seed).normal(size=(n, 3, 32, 32)), norm="ortho")
    return np.einsum("nahw,ac->nhwc", np.fft.ifft2(white * np.sqrt(LAMBDA), norm="ortho").real, AXES)


x = clouds({"smoke": 200, "short": 1000, "full": 4000}[BUDGET])
along = np.einsum("nhwc,ac->anhw", x, AXES)
measured = np.stack([power(a) for a in along])
assert np.allclose(measured.mean(), (x**2).mean()) and abs(measured.mean() / 0.25 - 1) < 0.1
slope = np.polyfit(np.log(f[f > 1]), np.log(measured[0][f > 1]), 1)[0]
assert abs(slope + 2) < 0.05
slope

# %% [markdown]
# Now we build a ladder of three denoisers. (1) The first knows one number: the variance of a pixel. (2) The second
# knows three: the variances along the colour axes. (3) The third knows all $3\times32\times32$ powers: it is the best
# single convolution. Each step knows more, so each has a smaller loss. For these images colour and smoothness lower the
# loss by about the same amount.


# %%
def ladder(x):
    """The losses, by time, of three linear denoisers for images (n, 32, 32, 3), and what the denoisers know."""
    colour = np.einsum("nhwc,nhwd->cd", x, x) / x[..., 0].size
    lam, axes = np.linalg.eigh(colour)  # second moments: the mean counts too
    powers = np.stack([power(np.einsum("nhwc,c->nhw", x, a)) for a in axes.T])
    knows = {"a pixel's variance": np.array([lam.mean()]), "and colour": lam, "and smoothness": powers.ravel()}
    return {name: linear_loss(v, abar) for name, v in knows.items()}, lam[::-1] / lam.sum(), axes.T[::-1], powers


steps, shares, axes, powers = ladder(x)
means = {name: curve.mean() for name, curve in steps.items()}
assert list(means.values()) == sorted(means.values(), reverse=True)
assert np.all(np.diff(np.stack(list(steps.values())), axis=0) < 1e-12)  # at every time
assert abs(means["and smoothness"] / linear_loss(LAMBDA.ravel(), abar).mean() - 1) < 0.03
assert np.allclose(shares, SHARE, atol=0.03) and abs(axes[0] @ AXES[0]) > 0.99
worth = -np.diff(list(means.values()))
assert 0.7 < worth[0] / worth[1] < 1.4
means, shares

# %% [markdown]
# ## 4. Mirrors
#
# The paper trains on every photograph and its mirror image. This **data augmentation** doubles the data for nothing, if
# a mirrored horse is as probable as a horse. It is wrong where left and right mean something: in digits, in writing,
# and in captions that contain the word "left".
#
# ### Exercise 17.6 - flip images and their captions
# Flip those images whose coin is true, left to right. In the captions of *these* images exchange the tokens `left` and
# `right`.


# %%
def mirror(x, captions, coin, left, right):
    """The images and captions, mirrored where the coin is true.

    x: (B, H, W, C);  captions: (B, L) int tokens;  coin: (B,) bool;  left, right: int tokens  ->  like x, like captions
    """
    ### BEGIN SOLUTION
    words = np.where(captions == left, right, np.where(captions == right, left, captions))
    return np.where(coin[:, None, None, None], x[:, :, ::-1], x), np.where(coin[:, None], words, captions)
    ### END SOLUTION


# %% [markdown]
# We recognise handwritten digits by the nearest class mean. After mirroring, most of them are no longer recognised as
# what they were. A network that is trained on mirrored digits would draw mirrored digits.

# %%
digits = sources.load("digits")
train, test = (np.asarray(data.to_float(a)) for a in (digits.x_train, digits.x_test))
centre = np.stack([train[digits.y_train == c].mean(0) for c in range(10)])
flipped, _ = mirror(test, np.zeros((len(test), 1), int), np.ones(len(test), bool), 1, 2)
recognised = {}
for name, images in (("as they are", test), ("mirrored", flipped)):
    distance = ((images[:, None] - centre[None]) ** 2).sum((2, 3, 4))
    recognised[name] = float((distance.argmin(1) == digits.y_test).mean())
assert recognised["as they are"] > 0.85 > 0.5 > recognised["mirrored"]
again, _ = mirror(flipped, np.zeros((len(test), 1), int), np.ones(len(test), bool), 1, 2)
assert np.array_equal(again, test)  # mirroring twice changes nothing
recognised

# %% [markdown]
# ## 5. Right in each colour, wrong in all
#
# The samples of a network early in training often have a tint. A quick test takes, for each colour, all pixels of all
# images, and computes the Fréchet distance of two Gaussians, $(\mu_p-\mu_q)^2+(\sigma_p-\sigma_q)^2$.
#
# ### Exercise 17.7 - Fréchet distance by colour


# %%
def colour_distance(x, y):
    """(μ_p - μ_q)² + (σ_p - σ_q)² of the pixels of each colour.   x, y: (n, H, W, C), (m, H, W, C)  ->  (C,)"""
    ### BEGIN SOLUTION
    axes = (0, 1, 2)
    return (x.mean(axes) - y.mean(axes)) ** 2 + (x.std(axes) - y.std(axes)) ** 2
    ### END SOLUTION


# %% [markdown]
# This test finds a tint. It does *not* notice if the three colours of a picture come from three different images, since
# each colour alone is right. The Fréchet distance of the three-dimensional Gaussians (Lesson 9) notices it. It is never
# less than the sum of the distances over the colours.


# %%
def joint_distance(x, y):
    """The Fréchet distance of the colours of the pixels, taken as points in three dimensions."""
    p, q = (distances.moments(a.reshape(-1, 3)) for a in (x, y))
    return distances.frechet_moments(p, q)


tinted = x + np.array([0.2, 0.0, -0.1])
torn = np.stack([np.roll(x[..., c], c, axis=0) for c in range(3)], -1)
assert np.allclose(colour_distance(x, tinted), [0.04, 0, 0.01])
assert colour_distance(x, torn).max() < 1e-9 and joint_distance(x, torn) > 0.05
assert all(joint_distance(x, y) >= colour_distance(x, y).sum() - 1e-6 for y in (tinted, torn, clouds(50, seed=1)))
colour_distance(x, tinted), joint_distance(x, torn)

# %% [markdown]
# ## 6. Others' weights
#
# The weights of the paper are on the Hugging Face hub, as `google/ddpm-cifar10-32`, and
# `ddpm import google/ddpm-cifar10-32` reads them. (This lesson works without the internet, so nothing is fetched here.)
# Two frameworks store the same arrays in two **layouts**. The kernel of a convolution is (height, width, in, out) here,
# and (out, in, height, width) in PyTorch. The matrix of a linear layer is (in, out) here, and (out, in) in PyTorch.
# Norms and biases have one axis, and need no change.
#
# ### Exercise 17.8 - from their layout to ours
# > **Note.** The matrices of attention are square, $256\times256$. If you transpose only those arrays that would not
# > fit otherwise, every shape is right, and the images are noise.


# %%
def to_ours(a):
    """From PyTorch's layout.   a: (out, in, h, w), (out, in) or (n,)  ->  (h, w, in, out), (in, out) or (n,)"""
    ### BEGIN SOLUTION
    return a.transpose(2, 3, 1, 0) if a.ndim == 4 else a.T
    ### END SOLUTION


# %%
peers = diffusers.layouts(paper)  # {our name: (name in diffusers, shape there)} of every tensor
assert len(peers) == 328 and sum(math.prod(shape) for _, shape in peers.values()) == 35_746_307
ours = {name: a.shape for name, a in diffusers.store.flatten(inspect.param_shapes(paper)).items()}
assert all(
    to_ours(np.empty(shape, np.int8)).shape == ours[name] for name, (_, shape) in peers.items() if "class_" not in name
)
square = [name for name, (_, shape) in peers.items() if len(shape) == 2 and shape[0] == shape[1]]
assert all(peers[name][1] == (256, 256) for name in square if "attentions" in name)
name = "down_blocks/1/attentions/0/to_q/kernel"
assert name in square
peers[name], ours[name], len(square)

# %% [markdown]
# There is one more difference, and it does not show in any shape. The noise levels of the published weights are counted
# from 0, those of this package from 1. A network that is evaluated at the wrong level by one is a little worse
# everywhere, and no error is raised. The importer settles this in one place. Here is the round trip, exported and
# imported again, with a tiny network:

# %%
tiny = UNetConfig(8, 3, channels=8, multipliers=(1,), blocks=1, attention=(), groups=4)
numbers = np.random.default_rng(3)
params = jax.tree.map(
    lambda a: jnp.asarray(0.2 * numbers.normal(size=a.shape), jnp.float32), inspect.param_shapes(tiny)
)
tiny_model = model.Model(
    "tiny", tiny, params, schedule.linear_ho(1000), (), {"schedule": {"name": "linear_ho", "T": 1000}}
)
with tempfile.TemporaryDirectory() as folder:
    diffusers.save(Path(folder) / "tiny", tiny_model)
    back = diffusers.load(Path(folder) / "tiny")
x_t, t = jnp.asarray(numbers.normal(size=(3, 8, 8, 3)), jnp.float32), jnp.array([1, 500, 1000])
one, two = (np.asarray(jax.jit(m.eps)(x_t, t)) for m in (tiny_model, back))
assert back.card["first_time"] == 0 and np.abs(one).max() > 0.1
assert np.abs(one - two).max() < 1e-4 * np.abs(one).max()
np.abs(one - two).max() / np.abs(one).max()

# %% [markdown]
# ## 7. Counting from 0
#
# ### Exercise 17.9 - spot the bug
# A sampler whose levels are counted $0\dots T-1$ needs, at level $t$, the $\bar\alpha$ of the level before. Before
# level 0 there is the clean image, with $\bar\alpha=1$. The line below was published. It raises no error. Repair it.


# %%
def published_previous(alpha_bar, t):
    """With a bug."""
    return alpha_bar[t - 1]


def repaired_previous(alpha_bar, t):
    """ᾱ of the level before t, 1 before level 0.   alpha_bar: (T,), levels 0…T-1;  t: (B,) int  ->  (B,)"""
    ### BEGIN SOLUTION
    return np.concatenate([[1.0], alpha_bar])[t]
    ### END SOLUTION


# %%
levels = np.asarray(lib.alpha_bar, np.float64)[1:]
assert np.array_equal(repaired_previous(levels, np.array([0, 1, 999])), [1.0, levels[0], levels[998]])
assert published_previous(levels, np.array([0]))[0] == levels[-1] < 1e-6  # pure noise, at the last step

# %% [markdown]
# ## 8. A small network on CIFAR-10
#
# The shipped network `cifar10` has a million parameters and was trained for two and a half hours on one core of a
# processor. That is a thirty-fifth of the parameters of the paper, and one in 178 of the images seen in training. So
# small a network should not learn again what is already known. (Where these weights are missing, the images of section
# 3 take their place.)
#
# At high noise the linear denoiser is hard to beat, and errors are expensive. An error $e$ of $\hat\varepsilon$ is one
# of $e\,\sqrt{1-\bar\alpha_t}/\sqrt{\bar\alpha_t}$ in
# $\hat x_0=(x_t-\sqrt{1-\bar\alpha_t}\,\hat\varepsilon)/\sqrt{\bar\alpha_t}$. At $t=900$ of 1,000 it is multiplied by
# more than six, and at $t=990$ by more than sixty. What is wrong there is the brightness and the colour of the whole
# picture, and no later step puts it right: an earlier network of this size, which predicted $\varepsilon$, drew
# saturated fields. This one *continues a Gaussian*,
#
# $$\hat\varepsilon=\varepsilon_G(x_t,t,c)+s_t\,\mathrm{net}(x_t,t,c),$$
#
# where $\varepsilon_G$ is the best denoiser of a Gaussian for each class (64 directions, and one variance for the rest)
# and $s_t^2$ its loss. The last layer of a new network is 0, so its first loss is that of the Gaussian. With
# $\mathcal N(0, I)$ in place of that Gaussian the network would predict $v$; with $\mathcal N(m,\sigma^2 I)$ it would
# be preconditioned as in EDM. One formula, three priors. What is each worth before the first step? On given images this
# is known without drawing any noise (section 3; `loss_on`). On the 10,000 test images of Fashion-MNIST a network that
# continues $\mathcal N(0, I)$ begins at .455, one that continues $\mathcal N(m,\sigma^2 I)$ at .365, and one that
# continues a Gaussian for each class at .133; with 64 directions of each class in place of all 784, at .159. A network
# that predicts $\varepsilon$ begins at 1. (Without the data set the cell takes small digits instead. They have 64
# directions, and the order is the same.)


# %%
def step_0(name):
    """The exact loss on test images of denoisers fitted to training images, by (prior, its directions), and n."""
    d = sources.load(name)
    x, test = (np.asarray(data.to_float(a)) for a in (d.x_train, d.x_test))
    D, each_class = x[0].size, "a Gaussian for each class"
    rank, whole = min(64, D // 4), gaussian.fit(x, d.y_train)  # all directions, by rising variance
    var = whole.var[:, :-rank].mean(1)  # of each direction that is left out
    priors = {
        ("N(0, I): v", 0): low_rank.isotropic(D),
        ("N(m, σ² I): EDM", 0): low_rank.fit(x, kind="isotropic"),
        (each_class, rank): low_rank.LowRank(whole.mean, whole.basis[..., -rank:], whole.var[:, -rank:], var),
    }
    losses = {prior: g.loss_on(lib, test, d.y_test) for prior, g in priors.items()}
    losses[each_class, D] = gaussian.linear_loss(whole, lib, test, d.y_test)
    return {prior: float(loss[1:].mean()) for prior, loss in losses.items()}, len(test)


on = "fashion_mnist" if sources.where("fashion_mnist") else "digits"
begins, n_test = step_0(on)
assert list(begins.values()) == sorted(begins.values(), reverse=True)
assert round(model.load("fashion_mnist").card["measures"]["eps_mse"]["reference"], 3) == 0.133  # measured on its card
if on == "fashion_mnist":
    assert n_test == 10_000 and [round(loss, 3) for loss in begins.values()] == [0.455, 0.365, 0.159, 0.133]
{f"{prior}, {r} directions": round(loss, 4) for (prior, r), loss in begins.items()}, f"n = {n_test:,} of {on}"

# %% [markdown]
# On CIFAR-10 the shipped weights hold the Gaussians. If the photographs came from them, the losses would be exactly
# these:


# %%
def first_losses(g, schedule):
    """The mean loss of three denoisers on images from the Gaussian of each class: N(0, I), N(m, σ² I), and these."""
    K, D = max(len(g.mean) - 1, 1), g.mean.shape[1]  # the last row is that of no class
    mean = np.asarray(g.mean[:K], np.float64)
    inside = (np.asarray(g.var[:K]).sum(1) + (D - g.var.shape[1]) * np.asarray(g.rest[:K])).mean() / D
    square = inside + (mean**2).mean()  # E x0²
    spread = square - (mean.mean(0) ** 2).mean()  # E (x0 - m)², m the mean of all
    a = np.asarray(schedule.alpha_bar, np.float64)[1:]
    return {
        "nothing: ε": 1.0,
        "N(0, I): v": float((a**2 + a * (1 - a) * square).mean()),
        "N(m, σ² I): EDM": float((a * spread / (a * spread + 1 - a)).mean()),
        "a Gaussian for each class": float(g.loss(schedule, [1.0] * K + [0.0] * (len(g.mean) - K))[1:].mean()),
    }


pictures = clouds(400, seed=3)
of_clouds = low_rank.fit(pictures, rank=64, kind="one")
first = first_losses(of_clouds, lib)
flat = low_rank.isotropic(3072)  # v, on the images themselves
assert abs(first["N(0, I): v"] / flat.loss_on(lib, pictures)[1:].mean() - 1) < 0.01
assert list(first.values()) == sorted(first.values(), reverse=True)
factor = np.sqrt((1 - abar) / abar)
assert factor[899] > 6 and factor[989] > 60
{name: round(value, 4) for name, value in first.items()}


# %%
def find_model():
    """The shipped weights, or your run of `ddpm train --data cifar10 --preset cifar10_cpu --predict gaussian`."""
    for place in ("cifar10", "runs/cifar10"):
        try:
            return model.load(place)
        except ValueError:
            continue
    return None


cifar = find_model()
each = {"smoke": 1, "short": 6, "full": 10}[BUDGET]

# %%
alone = None
if cifar is None:  # the images of section 3 take their place
    drawn, names = clouds(10 * each, seed=2), ["(cloud)"] * 10
else:
    labels = jnp.tile(jnp.arange(10), each)
    calls = {"smoke": 8, "short": 50, "full": 100}[BUDGET]

    def draw(eps, n, guidance, calls=calls):
        how = sample.Sampling(steps=calls, guidance=guidance)
        return np.asarray(sample.images(eps, cifar.schedule, jax.random.key(0), (n, 32, 32, 3), labels[:n], how))

    drawn, names = draw(cifar.eps, 10 * each, cifar.guided(None)), list(cifar.classes)
    if cifar.prior:
        first = first_losses(cifar.prior.gaussian, cifar.schedule)
        alone = draw(cifar.prior.gaussian.eps(cifar.schedule), 10, 1.0)  # the same noise, without the network
assert round(800_000 * 128 / (9_000 * 64)) == 178
assert cifar is None or cifar.card["train"]["steps"] == 9_000 or cifar.name == "runs/cifar10"
about = {key: cifar.card.get(key) for key in ("parameters", "steps", "training_seconds", "drawing")} if cifar else {}
{name: round(value, 4) for name, value in first.items()}, about

# %% [markdown]
# ### The colours, before and after
#
# The card also says how the model draws well (`drawing`): above some time $t^*$ the denoiser is the Gaussian's alone.
# `guides.gaussian_above` is a few lines that take any network. Let us see what they do to two of them: the shipped one,
# and the one that was shipped before it, which has about as many parameters and predicts $\varepsilon$. (That one is in
# the history of this repository; without it, the rows of the shipped one remain.) Noise, labels and guidance are the
# same in all rows; only $t^*$ changes. For $t^*=T$ the network draws alone, and for $t^*=1$ the Gaussians.


# %%
def earlier():
    """The model that was shipped before this one, from the history of the repository; None where that is not here."""
    here = str(Path(model.__file__).parent)
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("json", "safetensors"):
            show = ["git", "-C", here, "show", f"7dbde57:ddpm/weights/cifar10.{kind}"]
            try:
                done = subprocess.run(show, capture_output=True, check=True)
            except (OSError, subprocess.CalledProcessError):
                return None
            (Path(folder) / f"earlier.{kind}").write_bytes(done.stdout)
        return model.load(Path(folder) / "earlier")


# %%
rows, strength = {}, cifar.guided(None) if cifar else 1.0
old = earlier() if alone is not None else None
if alone is not None:
    t_star, eps_G = cifar.drawing.gaussian_above or 750, cifar.prior.gaussian.eps(cifar.schedule)
    fewer = {"smoke": 8, "short": 12, "full": 50}[BUDGET]

    def draw_until(eps, last):
        return draw(gaussian_above(eps, eps_G, last), 10, strength, fewer)

    rows[f"Gaussians, guidance {strength:g}"] = draw_until(cifar.plain.eps, 1)
    if old:
        assert old.predict == "eps" and np.array_equal(old.schedule.alpha_bar, cifar.schedule.alpha_bar)
        assert abs(inspect.count(old.params) / inspect.count(cifar.params) - 1) < 0.01
        rows |= {"ε alone": draw_until(old.eps, 1000), "ε and Gaussians": draw_until(old.eps, t_star)}
    rows |= {"skip alone": draw_until(cifar.plain.eps, 1000), "skip and Gaussians": draw_until(cifar.plain.eps, t_star)}
    if fewer == calls and cifar.drawing.gaussian_above:  # then this is how the model draws
        assert np.allclose(rows["skip and Gaussians"], drawn[:10], atol=0.01)

# %% [markdown]
# Two numbers for each row: the share of all values that are at the limits, $|x|>.98$; and how far the colours of its
# pixels are from those of the 50,000 training images, as in Exercise 17.7. For that we need no photograph: the
# Gaussian of all labels has the mean and the variance of every pixel.


# %%
def colour_moments(g):
    """μ and σ of the pixels of each colour, of images from the Gaussian of all labels: (3,), (3,)"""
    mean, U = np.asarray(g.mean[-1], np.float64), np.asarray(g.basis[-1], np.float64)
    var = float(g.rest[-1]) + U**2 @ (np.asarray(g.var[-1], np.float64) - float(g.rest[-1]))  # of each number
    mean, var = mean.reshape(-1, 3), var.reshape(-1, 3)
    return mean.mean(0), np.sqrt((var + mean**2).mean(0) - mean.mean(0) ** 2)


seen = {}
for name, row in rows.items():
    mu, sigma = colour_moments(cifar.prior.gaussian)
    far = ((row.mean((0, 1, 2)) - mu) ** 2 + (row.std((0, 1, 2)) - sigma) ** 2).sum()
    seen[name] = {"at the limits": float((np.abs(row) > 0.98).mean()), "colour distance": float(far)}
if old:
    before, after = (list(seen[name].values()) for name in ("ε alone", "ε and Gaussians"))
    assert all(b > 2 * a for b, a in zip(before, after, strict=True))
    change = {of: np.abs(rows[f"{of} alone"] - rows[f"{of} and Gaussians"]).mean() for of in ("ε", "skip")}
    assert change["ε"] > 4 * change["skip"]
{name: {what: round(value, 3) for what, value in of.items()} for name, of in seen.items()}

# %% [markdown]
# What one sees, row by row (in the picture at the end of the lesson, with the names that are printed here):
#
# - *ε alone* is what was wrong. The forest is black, the ship a white spot, the frog violet: what the first steps
#   decided by their errors, no later step put right.
# - *ε and Gaussians*, the same network and the same noise: the sky is blue, the horse brown, the forest a dark green.
#   What the network did well, the shapes, has stayed. Both numbers fall to less than half.
# - *skip alone* has these colours without any $t^*$: a Gaussian is a part of this network since its first step.
# - *skip and Gaussians*, the model as it ships, can hardly be told from the row above it, in the picture and by the
#   numbers. For this network $t^*$ is a small matter; it does save the calls of the network above it. The experiment
#   `gaussian_interval` measures $t^*$ and the number of directions on held-out images, and by what is drawn.
# - The *Gaussians*, guided as all rows are, draw stripes. With guidance $s$ the score is that of
#   $p_c^{\,s}\,p_\varnothing^{1-s}$. In a direction in which the Gaussian of a class has clearly more variance than
#   that of all images, this is no distribution: the inverse variance $s/v_c-(s-1)/v_\varnothing$ is negative. We count
#   such directions, of 64 in each class. Without noise they are most; at $t^*$, where noise makes $v_c$ and
#   $v_\varnothing$ alike, few are left. Without guidance (the first row of the picture) the Gaussians draw what they
#   know: colours, and where in the picture they are. Edges and things are what a network adds.


# %%
def no_variance(g, alpha_bar, s):
    """In how many directions of each class the inverse variance of p_c^s p_∅^(1-s) is negative, at one ᾱ_t."""
    basis, var, rest = (np.asarray(a, np.float64) for a in (g.basis, g.var, g.rest))
    v, v_rest = (alpha_bar * a + 1 - alpha_bar for a in (var, rest))
    along = np.square(basis[-1].T @ basis[:-1])  # (K, r, r): how much of each direction lies in those of ∅
    of_all = 1 / v_rest[-1] + (1 / v[-1] - 1 / v_rest[-1]) @ along  # (K, r) uᵀ Σ_∅⁻¹ u
    return (s / v[:-1] < (s - 1) * of_all).sum(1)


counts = {}
if alone is not None:
    for when, alpha_bar in (("without noise", 1.0), ("at t*", abar[t_star - 1])):
        counts[when] = no_variance(cifar.prior.gaussian, alpha_bar, strength)
    few, many = (cifar.prior.gaussian.var[:-1].size * share for share in (0.1, 0.5))
    assert counts["without noise"].sum() > many and counts["at t*"].sum() < few
counts

# %% [markdown]
# At low noise, where edges count, the Gaussian of a class is no better a start than a single variance. It may fade into
# that one there (`ddpm train --predict gaussian --gaussian-fade 100 300`); the experiment `priors` compares all these
# starts at an equal budget of training.

# %% [markdown]
# What did the network learn beyond the ladder? Its card has the loss on test images, by noise level, next to that of
# the best of all linear denoisers (one Gaussian with the full covariance of 3,072 numbers). The network is better where
# there is less noise. Up to which level? The last number below is the last $t$ before the first tenth of the chain
# where it is not. (The card's loss is that of the model as it is drawn: above $t^*$ it is the Gaussian's.) Its images
# have brightness as their first colour axis, as photographs have. But their power falls with the frequency clearly
# faster than $1/f^2$: detail is what is missing.

# %%
measured_loss = ((cifar.card.get("measures") or {}).get("eps_mse_null", {}) if cifar else {}).get("by_t", [])
found, colour_shares, colour_axes, colour_power = ladder(np.clip(drawn, -1, 1))
fall = np.polyfit(np.log(f[(f > 1) & (f < 12)]), np.log(colour_power[-1][(f > 1) & (f < 12)]), 1)[0]
assert abs(colour_axes[0] @ AXES[0]) > 0.9 and -4 < fall < -1.5
assert cifar is None or fall < -2.2
assert all(a["value"] < a["baseline"] for a in measured_loss[:5])  # where there is something to see
worse = [a["t"][0] for a in measured_loss if a["value"] >= a["baseline"]]
better_until = worse[0] - 1 if worse else max((a["t"][1] for a in measured_loss), default=None)
fall, colour_shares, better_until

# %% [markdown]
# ## 9. The picture
#
# Above: images with a column for each class. In the first row the Gaussians alone, without guidance; then the rows of
# section 8, before and after; then further images of the small network. Below: what each preset costs; the power by
# frequency (a rise at 16 waves, which is a period of two pixels, is the mesh of the $2\times2$ folding); the ladder for
# these images and, in black, the losses of the best linear denoiser and of the network on photographs, from the card.


# %%
def draw_images(axis):
    """A column for each class; the rows of section 8, and then what the small network draws."""
    first_rows = [] if alone is None else [alone, *rows.values()]
    others = drawn if alone is None else drawn[10:]  # those of the rows' noise are in the last of them
    axis.imshow(plot.grid(np.clip(np.concatenate([*first_rows, others]), -1, 1), 10))
    axis.set_xticks(18 + 34 * np.arange(10), names, fontsize=9)
    axis.xaxis.tick_top()
    words = ["Gaussians, guidance 1", *rows][: len(first_rows)]
    words = [word.replace(", ", ",\n").replace(" and ", " and\n") for word in words]
    axis.set_yticks(18 + 34 * np.arange(len(words)), words, fontsize=9)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def draw_costs(axis):
    """Parameters and operations of the presets."""
    for name, (count, cost) in sizes.items():
        axis.loglog(count, cost, "o", ms=6, color="#b5523b" if "cifar" in name else "#1b4f72")
        right = name in ("cpu", "large")  # next to another point
        place = {"xytext": (7, -8) if right else (-7, 2), "ha": "left" if right else "right"}
        axis.annotate(name, (count, cost), textcoords="offset points", fontsize=8, **place)
    axis.set_xlabel("parameters", fontsize=8)
    axis.set_title("GFLOP to denoise one image", fontsize=9)
    axis.set(xlim=(5e4, 2e8), ylim=(8e-3, 40))


# %%
def draw_power(axis):
    """Mean power in rings of equal frequency, along the measured colour axes."""
    rings = [(f >= r - 0.5) & (f < r + 0.5) for r in range(1, 17)]
    for p, axis3, style in zip(colour_power[::-1], colour_axes, ("-", "--", ":"), strict=True):
        colour = np.clip(0.5 + 0.6 * axis3 * np.sign(axis3[0]), 0, 0.85) if axis3.min() * axis3.max() < 0 else "black"
        axis.loglog(range(1, 17), [p[ring].mean() for ring in rings], style, color=colour, lw=2)
    axis.loglog([1, 16], [colour_power[-1][f == 1].mean() * a for a in (1, 16**-2.0)], color="grey", lw=0.8)
    axis.set_xlabel("frequency, waves per image", fontsize=8)
    axis.set_title("power: brightness, two colour axes; grey: $1/f^2$", fontsize=9)


def draw_ladder(axis):
    """Losses by time."""
    t = np.arange(1, 1001)
    for (name, curve), colour in zip(found.items(), ("#d6a58c", "#e59866", "#1b4f72"), strict=True):
        axis.plot(t, curve, color=colour, label=f"{name}: {curve.mean():.3f}")
    middle = [np.mean(a["t"]) for a in measured_loss]
    for key, name, style in (("baseline", "best linear", ":"), ("value", "the network", "--")):
        if middle:
            values = [a[key] for a in measured_loss]
            axis.plot(middle, values, style, color="black", label=f"{name}, photographs: {np.mean(values):.4f}")
    axis.set_xlabel("t", fontsize=8)
    axis.set_title("loss by noise level, of what is known", fontsize=9)
    axis.legend(frameon=False, fontsize=7)


# %%
def picture():
    """The figure of this lesson."""
    high = 1.05 * each if alone is None else 0.95 * (each + len(rows))
    figure = plt.figure(figsize=(11, 3.6 + high), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[0.4 + high, 3.2])
    draw_images(top.subplots())
    axes = bottom.subplots(1, 3)
    for axis, draw in zip(axes, (draw_costs, draw_power, draw_ladder), strict=True):
        draw(axis)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return figure


# %%
if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l17.png", dpi=150)
    results = {
        "presets": {name: {"parameters": n, "gflop": g} for name, (n, g) in sizes.items()},
        "clouds": {"slope": slope, "losses": means, "colour_shares": shares.tolist(), "n": len(x)},
        "step_0": {f"{on}, {prior}, {r} directions": loss for (prior, r), loss in begins.items()},
        "first_losses": first,
        "before_and_after": seen,
        "better_than_linear_until_t": better_until,
        "drawn": {"by": cifar.card.get("summary", cifar.name) if cifar else None, "slope": fall, "n": len(drawn)},
        "digits_recognised": recognised,
        "budget": BUDGET,
    }
    (out / "l17.json").write_text(json.dumps(results, indent=1) + "\n")
    count = f"{parameters(paper):,} parameters, {gflops(paper):.2f} GFLOP"
    print(f"L17: {count}; the small network is {cost:.0f} times cheaper. out/l17.png")

# %% [markdown]
# ## What to take along
#
# - A U-Net can be counted on paper. Its parameters tell how much it can hold; its parameters times the positions tell
#   what it costs.
# - Much of what a denoiser knows is that photographs are smooth and nearly grey. Compare a loss with *that*.
# - Weights travel if names, layouts and the first noise level agree. Check the output, not the shapes.
#
# ## Further reading
#
# - Ho, Jain, Abbeel 2020, *Denoising Diffusion Probabilistic Models*, Appendix B: the network and its training.
# - Nichol, Dhariwal 2021, *Improved DDPM*; Dhariwal, Nichol 2021: what larger networks achieved.
# - Field 1987, *Relations between the statistics of natural images and the response of cortical cells*: $1/f^2$.
# - Karras et al. 2022 and 2024 (*EDM*, *EDM2*): the same network, its parts examined one by one.
