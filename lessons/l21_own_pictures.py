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
# # L21. Your own pictures
#
# | | |
# |---|---|
# | you learn | the way from a folder to a film, and what to expect from 200, 2,000 and 20,000 pictures |
# | time | 45 minutes to read and do, 5 minutes to run |
# | difficulty | ●●○○○ |
# | importance | ●●●●○ |
# | paper | Ho, Jain, Abbeel 2020, *Denoising Diffusion Probabilistic Models*; Li et al. 2023, *AutoDiffusion* |
#
# You have a folder of pictures and fifteen minutes. Which of them do you train on? What loss is good? How many pictures
# do you need? This lesson draws its own pictures, so that they can be as many as we like, and answers each question
# exactly before a network is trained. With your own folder, replace `FOLDER` below.

# %%
import contextlib
import hashlib
import io
import itertools
import json
import os
import tempfile
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

from ddpm import data, schedule
from ddpm.cli.film import frames
from ddpm.datasets import sources
from ddpm.evaluation import denoising_loss, neighbours
from ddpm.oracles import gaussian
from ddpm.sample import Sampling
from ddpm.samplers import best_times, film
from ddpm.tools import movies
from ddpm.training import run as training
from ddpm.training.config import TrainConfig
from ddpm.zoo import model

# %%
# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how many pictures and steps
MANY = {"smoke": 2000, "short": 20_000, "full": 20_000}[BUDGET]
SIDE = 8 if BUDGET == "smoke" else 16  # of the pictures as the network sees them
KINDS = ("disc", "square", "cross")

# %% [markdown]
# ## 1. A folder
#
# A shape in one colour, on a gradient from top to bottom, in one of three sizes: discs, squares and crosses. Each kind
# is a class, and has a folder of its own.


# %%
def draw(rng, kind, side):
    """One picture of side x side pixels."""
    sky = np.linspace(*rng.uniform(0, 255, (2, 1, 3)), side)  # (side, 1, 3)
    image = Image.fromarray(np.broadcast_to(sky, (side, side, 3)).astype(np.uint8))
    pen, r = ImageDraw.Draw(image), side * rng.uniform(0.15, 0.3)
    (x, y), colour = rng.uniform(r, side - r, 2), tuple(map(int, rng.integers(0, 256, 3)))
    if kind == "disc":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    if kind == "square":
        pen.rectangle((x - r, y - r, x + r, y + r), fill=colour)
    if kind == "cross":
        pen.line((x - r, y, x + r, y), fill=colour, width=side // 12)
        pen.line((x, y - r, x, y + r), fill=colour, width=side // 12)
    return image


# %%
def write(folder, n, seed=0):
    """n pictures, one class after the other, as files folder/CLASS/NUMBER.png"""
    rng = np.random.default_rng(seed)
    for i in range(n):
        file = Path(folder) / KINDS[i % 3] / f"{i:05d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        draw(rng, KINDS[i % 3], int(rng.choice([48, 64, 96]))).save(file)


# %%
HERE = tempfile.TemporaryDirectory()
FOLDER = f"{HERE.name}/shapes"
write(FOLDER, {"smoke": 300, "short": 3000, "full": 3000}[BUDGET])
shapes, lines = sources.read(FOLDER, size=SIDE)
assert shapes.image_shape == (SIDE, SIDE, 3) and shapes.class_names == tuple(sorted(KINDS))
lines

# %% [markdown]
# On the command line this is `ddpm info --data shapes --size 16`. The pictures were brought to one size, the short side
# first, then the middle was cut out. Nothing in the folder has changed.
#
# ## 2. Which pictures are for testing
#
# Some pictures have to be kept away from the training, else nobody can tell learning from remembering. Which ones? If
# they are drawn at random, they change with every new picture in the folder, and yesterday's training picture is
# today's test picture. And two equal files can end on both sides. So let the content decide. A hash such as SHA-256
# makes 32 bytes of a picture, which look random but are always the same for the same pixels. Read the first 8 of them
# as the digits of a number in $[0,1)$, to the base 256: $u = b_0/256 + b_1/256^2 + \dots + b_7/256^8$. The picture is
# tested on if $u$ is less than the share that you want.
#
# ### Exercise 21.1 - divide by content


# %%
def place(digests):
    """The number u in [0, 1) of each hash, from its first 8 bytes.   digests: (n, 32) uint8  ->  (n,)"""
    ### BEGIN SOLUTION
    return (digests[:, :8] * 256.0 ** -np.arange(1, 9)).sum(1)
    ### END SOLUTION


# %% [markdown]
# Three checks: the share is right; a picture stays on its side, whatever else is in the folder; and the library did the
# same with our folder (it also sees to it that every class is on both sides).


# %%
def digests_of(x):
    """SHA-256 of each picture (n, H, W, C) uint8: (n, 32) uint8"""
    return np.stack([np.frombuffer(hashlib.sha256(np.ascontiguousarray(a).data).digest(), np.uint8) for a in x])


both = np.concatenate([shapes.x_train, shapes.x_test])
tested, n = place(digests_of(both)) < 0.1, len(both)
assert abs(tested.mean() - 0.1) < 4 * np.sqrt(0.1 * 0.9 / n)
assert np.array_equal(place(digests_of(both[::3])) < 0.1, tested[::3])
assert np.array_equal(tested, np.arange(n) >= len(shapes.x_train))
tested.mean()

# %% [markdown]
# ## 3. The number to beat
#
# The best denoiser that is linear is that of a Gaussian with the pictures' mean and covariance (Lessons 3 and 5). Along
# an eigenvector with the variance $\lambda$ it predicts
# $\hat\varepsilon = \sqrt{1-\bar\alpha}\,(\sqrt{\bar\alpha}\,u + \sqrt{1-\bar\alpha}\,\varepsilon)/v$ with
# $v = \bar\alpha\lambda + 1-\bar\alpha$, where $u$ is the picture's own coefficient, its mean taken away. On pictures
# with $s = \mathrm E[u^2]$ its error has two parts, as picture and noise are independent:
#
# $$L_t = \frac1D\sum_d \frac{(\bar\alpha\lambda_d)^2 + \bar\alpha(1-\bar\alpha)\,s_d}{v_d^2}.$$
#
# On the pictures that were fitted $s=\lambda$. On **fresh** pictures it is not, and the difference is what was
# remembered.
#
# ### Exercise 21.2 - the loss on fresh pictures, and a bet
# **Then bet:** 16 by 16 pixels in three colours are 768 numbers. The denoiser is fitted on 200 pictures. By what factor
# is its loss larger on fresh ones?


# %%
def loss_on(s, lam, alpha_bar):
    """L_t above.   s, lam: (D,) mean squares of the pictures, Gaussian's variances;  alpha_bar: (T,)  ->  (T,)"""
    ### BEGIN SOLUTION
    a = alpha_bar[:, None]
    v = a * lam + 1 - a
    return (((a * lam) ** 2 + a * (1 - a) * s) / v**2).mean(1)
    ### END SOLUTION


def times_worse():
    """Your bet.   ->  a number"""
    ### BEGIN SOLUTION
    return 11
    ### END SOLUTION


# %%
cosine = schedule.cosine(1000)
abar = np.asarray(cosine.alpha_bar, np.float64)[1:]


def some(rng, n):
    """n fresh pictures of 16 x 16 pixels: (n, 768) in [-1, 1]"""
    drawn = [draw(rng, KINDS[i % 3], 64).resize((16, 16), Image.Resampling.LANCZOS) for i in range(n)]
    return np.asarray(data.to_float(np.stack([np.asarray(image) for image in drawn])), np.float64).reshape(n, -1)


def losses(x, fresh):
    """The loss on the pictures x that were fitted, and on fresh ones."""
    lam, axes = np.linalg.eigh(np.cov(x, rowvar=False, bias=True))
    lam = np.maximum(lam, 0)
    second = [(((y - x.mean(0)) @ axes) ** 2).mean(0) for y in (x, fresh)]
    return tuple(float(loss_on(s, lam, abar).mean()) for s in second)


rng = np.random.default_rng(1)
fresh = some(rng, 2000)
expected = {k: losses(some(rng, k), fresh) for k in (200, 2000, 20_000) if k <= MANY}
expected

# %%
few, fair = expected[200], expected[2000]
assert abs(few[1] / few[0] - times_worse()) < 1.5 and 1.1 < fair[1] / fair[0] < 1.25
assert MANY < 20_000 or 1 < expected[20_000][1] / expected[20_000][0] < 1.03
x, y = some(rng, 60)[:, ::16], fresh[:100, ::16]
library = [gaussian.linear_loss(gaussian.fit(x), cosine, z)[1:].mean() for z in (x, y)]
assert np.allclose(losses(x, y), library, rtol=2e-3)

# %% [markdown]
# - **200 pictures** span a part of the space only. Inside it the denoiser knows them by heart, and of what is outside
#   it claims that it does not exist. A network does the same with more patience: expect copies.
# - **2,000**: the difference is a seventh. Colours and the places of things are learned before single pictures are.
# - **20,000**: one and a half percent. What limits you now is the network and the time.
#
# The numbers are those of a linear denoiser on this one kind of picture; photographs vary in more directions, and need
# more. Look at your own: `ddpm info` prints the first of the two.
#
# ## 4. Train
#
# The network starts at the linear denoiser (`--predict gaussian`), so that every step is spent on what that one cannot
# do. The command would be `ddpm train --data shapes --size 16 --predict gaussian --channels 16 …`, or, if you would
# rather not choose, `--preset auto --minutes 10`: it measures a step and takes the largest network that has time to
# learn. To be quick, this one is small and is not told the classes.

# %%
config = TrainConfig(
    data=f"{FOLDER},size={SIDE}", preset="digits", predict="gaussian", conditional=False, channels=16,
    multipliers=(1,) if BUDGET == "smoke" else (1, 2), patch=2, blocks=1, attention=(), batch=64, warmup=50,
    steps={"smoke": 20, "short": 2000, "full": 8000}[BUDGET], log_every=10, save_every=10_000, sample_every=0,
)  # fmt: skip
with contextlib.redirect_stderr(io.StringIO()):  # what was read is said again
    folder = training.train(config, runs=f"{HERE.name}/runs", quiet=True)
trained, test = model.load(folder), data.to_float(shapes.x_test)
exact = gaussian.linear_loss(gaussian.fit(data.to_float(shapes.x_train)), cosine, test)[1:].mean()
ours = denoising_loss.eps_mse(trained.eps, cosine, test, None, jax.random.key(0), repeats=4).value
assert BUDGET == "smoke" or ours < exact
float(ours), float(exact)

# %% [markdown]
# That is the honest pair of numbers: the loss on pictures that were never seen, next to the exact one of the best
# linear denoiser of the same training pictures.
#
# ## 5. Few steps, from the covariance alone
#
# Fifty network calls a picture are many. On a Gaussian a step of DDIM from $t$ to $s$ multiplies each coefficient by
# one number: with $\hat x_0$ and $\hat\varepsilon$ as above,
#
# $$\frac{x_s}{x_t} = \frac{\sqrt{\bar\alpha_s\bar\alpha_t}\,\lambda + \sqrt{(1-\bar\alpha_s)(1-\bar\alpha_t)}}
#   {\bar\alpha_t\lambda + 1-\bar\alpha_t}.$$
#
# Noise of deviation 1 that walks a list of times therefore ends with a deviation that is a product, and the distance to
# the data is known: $W_2^2=\sum_d(\sqrt{\lambda_d}-\text{deviation}_d)^2$. No network and no picture is needed to find
# the list for which it is least.
#
# ### Exercise 21.3 - where a list of times ends


# %%
def end_deviation(lam, alpha_bar):
    """The deviation at the end of a walk from N(0, 1).   lam: (D,);  alpha_bar: (N+1,) of its times  ->  (D,)"""
    ### BEGIN SOLUTION
    out = np.ones(len(lam))
    for a, b in itertools.pairwise(alpha_bar):
        out = out * (np.sqrt(a * b) * lam + np.sqrt((1 - a) * (1 - b))) / (a * lam + 1 - a)
    return out
    ### END SOLUTION


# %% [markdown]
# All lists of two steps can be tried. We look at every twentieth time, and the search of the library (`ddpm sample
# --times searched`) has to be at least as good. It also chooses the *first* time: noise is taken for $x_t$ of a
# smaller $t$.

# %%
lam = np.maximum(np.linalg.eigvalsh(np.cov(fresh, rowvar=False)), 1e-12)
whole = np.append(1.0, abar)


def distance(times):
    """W₂² at the end of these times."""
    return float(((np.sqrt(lam) - end_deviation(lam, whole[np.asarray(times)])) ** 2).sum())


tried = {(t, s, 0): distance((t, s, 0)) for t in range(40, 1001, 20) for s in range(20, t, 20)}
found = best_times.searched(cosine, lam, 2)
usual = schedule.make_times(1000, 2)
assert distance(found) <= min(tried.values()) < 0.7 * distance(usual)
assert np.isclose(distance(found), best_times.w2_of_times(cosine, lam, found), rtol=1e-3)
found, distance(found), distance(usual)

# %% [markdown]
# ## 6. A film
#
# `ddpm sample --model runs/shapes-digits --film shapes.webp` shows on the left what the sampler has, and on the right
# what the network takes it for. The first guess is grey, the mean of everything that is still possible; then the
# colours are decided, then the place. For edges this training was too short: what it draws are spots of colour.

# %%
how = Sampling(steps={"smoke": 5, "short": 50, "full": 50}[BUDGET])
filmed = film.record(trained.eps, cosine, jax.random.key(2), trained.image_shape, np.arange(9), how=how)
drawn = filmed.x_t[-1]
assert filmed.x_t.shape == (*filmed.t.shape, 9, SIDE, SIDE, 3) and filmed.t[-1] == 0
a = whole[filmed.t[0]]
assert np.allclose(filmed.x_t[0], np.sqrt(a) * filmed.x0[0] + np.sqrt(1 - a) * filmed.eps[0], atol=1e-3)

# %% [markdown]
# Are they new? For each drawn picture, its distance to the nearest training picture, next to that of test pictures.
# Copies would be nearer. (`ddpm evaluate` counts them.)

# %%
flat = [np.asarray(z, np.float64).reshape(len(z), -1) for z in (data.to_float(shapes.x_train), drawn, test)]
near = [np.sqrt(neighbours.nearest(z, flat[0])[0]).mean() for z in flat[1:]]
near


# %% [markdown]
# Now the summary: what to expect from $n$ pictures, and the film's first, middle and last frame.


# %%
def draw_curves(axis, times):
    """Losses by the number of pictures, and the distance of each list of times."""
    for i, name in enumerate(("on the n pictures", "on fresh ones")):
        axis.loglog(list(expected), [pair[i] for pair in expected.values()], "o-", label=name)
    axis.axhline(float(ours), color="black", linestyle="--", label=f"the network, test pictures: {float(ours):.3f}")
    axis.set(xlabel="n pictures", title="loss of the best linear denoiser")
    for name, rule in (("trailing", lambda n: schedule.make_times(1000, n)), ("searched", searched)):
        calls = [1, 2, 3] if BUDGET == "smoke" else [1, 2, 3, 4, 6, 8, 10]
        times.semilogy(calls, [distance(rule(n)) for n in calls], "o-", label=name)
    times.set(xlabel="network calls", title="W₂² of the Gaussian, by list of times")
    for panel in (axis, times):
        panel.legend(frameon=False, fontsize=8)


# %%
def picture():
    """The figure of this lesson."""
    figure = plt.figure(figsize=(11, 4.6), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[2.4, 1])
    draw_curves(*top.subplots(1, 2))
    shown = frames(filmed)
    for axis, i in zip(bottom.subplots(1, 3), (0, len(shown) // 2, len(shown) - 1), strict=True):
        axis.imshow(shown[i])
        axis.axis("off")
    return figure


def searched(n):
    """The library's list of n steps."""
    return best_times.searched(cosine, lam, n)


# %%
if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l21.png", dpi=150)
    movies.save(out / "l21.webp", frames(filmed))
    results = {
        "read": lines[:2],
        "expected": {str(k): pair for k, pair in expected.items()},
        "loss": {"network": float(ours), "linear": float(exact), "steps": config.steps},
        "two_steps": {"times": np.asarray(found).tolist(), "w2": distance(found), "trailing": distance(usual)},
        "nearest_training_picture": dict(zip(("drawn", "test"), map(float, near), strict=True)),
        "budget": BUDGET,
    }
    (out / "l21.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"L21: loss {float(ours):.4f} on test pictures, linear {float(exact):.4f}. out/l21.png and .webp")

# %% [markdown]
# ## What to take along
#
# - The content of a picture decides whether it is tested on. So it stays where it is, and its copies stay with it.
# - A loss says nothing by itself. Put the exact one of a Gaussian next to it, on fresh pictures.
# - Few hundred pictures are remembered, many thousand are learned from. Between them, look at the nearest neighbours.
#
# ## Further reading
#
# - Li et al. 2023, *AutoDiffusion*: lists of times by a search, there on the FID of a trained network.
# - Somepalli et al. 2023, *Diffusion Art or Digital Forgery?*: copies of training pictures, and how to find them.
# - `docs/own_pictures.md`: the same way in four commands.
