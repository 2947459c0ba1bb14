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
# # L13. CLIP: which words belong to which picture
#
# | | |
# |---|---|
# | you learn | what CLIP's loss teaches, exactly; its temperature, its rank, zero-shot, and guidance by it |
# | time | 70 minutes to read and do, a minute to run |
# | difficulty | ●●●○○ |
# | importance | ●●●●○ |
# | paper | Radford et al. 2021, *CLIP*, Fig. 3; van den Oord et al. 2018; Nichol et al. 2021, *GLIDE*, Sec. 2.4 |
#
# Two encoders, one of pictures and one of captions, are trained so that the two halves of a pair find each other among
# many. That is CLIP. It sorts pictures by words that nobody trained it on, steers generators, and judges them. In our
# world of captioned garments one can write down what it *should* learn, and so this lesson needs no training: the
# perfect CLIP is a table of logarithms.

# %%
import json
import math
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddpm import data, plot, schedule
from ddpm.contracts import Partial
from ddpm.datasets.wardrobe import captions, drawing, law, matching
from ddpm.guides.rules import classifier
from ddpm.losses.contrastive import clip_loss, loss_of_logits
from ddpm.sample import ddim_step, walk

# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how many pictures
N, STEPS = {"smoke": (8, 12), "short": (32, 25), "full": (128, 50)}[BUDGET]
MANY = {"smoke": 1024, "short": 4096, "full": 16_384}[BUDGET]
rng = np.random.default_rng(0)

# %% [markdown]
# ## 1. The loss
#
# A batch has $N$ pictures with their captions. The encoders give each picture a score $s_{ij}$ with each caption. Row
# $i$, through a softmax, is a guess which caption belongs to picture $i$; column $j$ which picture belongs to caption
# $j$. The pairs stand on the diagonal, and the loss is the mean of the two cross-entropies:
#
# $$L = -\frac1{2N}\sum_i\Big[\log\frac{e^{s_{ii}}}{\sum_j e^{s_{ij}}} + \log\frac{e^{s_{ii}}}{\sum_j e^{s_{ji}}}\Big]
#   \qquad\text{[Radford et al., Fig. 3]}$$
#
# ### Exercise 13.1 - both ways
# A port of CLIP into another framework took the same axis twice, and the gradient was wrong for a year without anyone
# seeing it: the loss falls all the same.


# %%
def contrastive(s):
    """The loss of scores s, row i and column i being a pair.   s: (N, N)  ->  a number"""
    ### BEGIN SOLUTION
    losses = []
    for axis in (1, 0):
        top = s.max(axis, keepdims=True)
        log_sum = top + np.log(np.exp(s - top).sum(axis, keepdims=True))
        losses.append(-np.diag(s - log_sum).mean())
    return (losses[0] + losses[1]) / 2
    ### END SOLUTION


# %%
s = rng.normal(size=(6, 6))
assert np.isclose(contrastive(np.zeros((6, 6))), math.log(6))  # who knows nothing pays log N
assert np.isclose(contrastive(s), contrastive(s.T)) and np.isclose(contrastive(s + 3), contrastive(s))
assert np.isclose(contrastive(s), float(loss_of_logits(jnp.asarray(s))), atol=1e-5)
assert contrastive(s + 50 * np.eye(6)) < 1e-9

# %% [markdown]
# ## 2. Angles, and a temperature
#
# CLIP's scores are cosines of vectors, times a factor: $s_{ij} = \tau\,f_i\cdot g_j$ with $\|f\|=\|g\|=1$. The factor
# is learned as its logarithm, begins at $\log(1/.07)$, and is kept between 0 and $\log 100$.
#
# ### Exercise 13.2 - the scores


# %%
def scores(f, g, log_tau):
    """τ times the cosines, log τ kept in [0, log 100].   f: (N, d);  g: (M, d), of any length;  log_tau: ()

    ->  (N, M)
    """
    ### BEGIN SOLUTION
    f = f / np.linalg.norm(f, axis=1, keepdims=True)
    g = g / np.linalg.norm(g, axis=1, keepdims=True)
    return np.exp(np.clip(log_tau, 0, np.log(100))) * f @ g.T
    ### END SOLUTION


# %%
f, g = rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
assert np.allclose(scores(f, g, math.log(14.3)), scores(9 * f, g / 7, math.log(14.3)))  # the length counts for nothing
assert np.allclose(np.diag(scores(f, f, 9.0)), 100) and np.allclose(np.diag(scores(f, f, -2.0)), 1)
assert np.isclose(contrastive(scores(f, g, 2.0)), float(clip_loss(jnp.asarray(f), jnp.asarray(g), 2.0)), atol=1e-5)

# %% [markdown]
# Is the factor needed? Cosines lie between -1 and 1. The best that $N$ pairs can do is to sit at the corners of a
# simplex: each picture on its caption, and the cosine $-1/(N-1)$ with all others.
#
# ### Exercise 13.3 - the floor
# What is then the loss? With $\tau=1$ it tends to $\log N-1$: without a temperature CLIP can learn **one nat**, however
# large the batch. (The formula of a well-known medical CLIP is printed so. Its code has the temperature.)


# %%
def floor(N, tau):
    """The least loss of N pairs of unit vectors, at a fixed τ.   N: int ≥ 2;  tau: number > 0  ->  a number"""
    ### BEGIN SOLUTION
    return math.log(1 + (N - 1) * math.exp(-tau * N / (N - 1)))
    ### END SOLUTION


# %%
for N_ in (2, 5, 64):
    corners = np.eye(N_) - 1 / N_  # a simplex
    assert np.isclose(contrastive(scores(corners, corners, math.log(3))), floor(N_, 3.0))
assert abs(math.log(4096) - floor(4096, 1.0) - 1) < 1e-3
assert floor(256, 14.3) < 2e-4

# %% [markdown]
# ## 3. What it learns
#
# The best scores are known. For any pair of random things, the loss is smallest for the **pointwise mutual
# information**,
#
# $$s^*(x,T) = \log\frac{p(x,T)}{p(x)\,p(T)} + \text{const},$$
#
# and it can show at most $\log N$ of the mutual information $I$: $\;\mathbb E L \ge \log N - I(x;T)$.
#
# ### Exercise 13.4 - from a joint table


# %%
def pmi(joint):
    """log p(x, T)/(p(x) p(T)) of a table of probabilities.   joint: (X, M), positive, of sum 1  ->  (X, M)"""
    ### BEGIN SOLUTION
    return np.log(joint / (joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)))
    ### END SOLUTION


# %%
joint = rng.dirichlet(np.ones(12)).reshape(3, 4)
assert np.allclose(pmi(np.outer(joint.sum(1), joint.sum(0))), 0)  # independent: no information
information = (joint * pmi(joint)).sum()
assert 0 < information < math.log(3)

# %% [markdown]
# In `wardrobe` a caption names attributes, and each word was replaced with probability $\eta=.1$ by one of its kind,
# drawn evenly (it may be the same again). So the score is a sum over the words of a small table.
#
# ### Exercise 13.5 - the table of one word


# %%
def word_table(K, eta):
    """log p(word w | value k)/p(w): [k, w].   K: int, equally probable values;  eta: η in (0, 1)  ->  (K, K)"""
    ### BEGIN SOLUTION
    return np.log((1 - eta) * K * np.eye(K) + eta)
    ### END SOLUTION


# %%
for K, table in zip(matching.SIZES, matching.tables(0.1), strict=True):
    assert np.allclose(word_table(K, 0.1), table)
    assert np.allclose(np.exp(word_table(K, 0.1)).mean(1), 1)  # Σ_w p(w | k) = 1
    assert np.allclose(word_table(K, 0.1), pmi(np.exp(word_table(K, 0.1)) / K**2))
x, z = drawing.draw(MANY, 2)
values = drawing.values_of(z)
mentioned = matching.noisy(values, seed=2)
s_star = matching.log_ratio(values[:512], mentioned[:512])
f"a right word of 8 has {word_table(8, 0.1)[0, 0]:.2f} nats, a wrong one {word_table(8, 0.1)[0, 1]:.2f}"

# %% [markdown]
# ### Exercise 13.6 - how many dimensions?
# How many dimensions do $f$ and $g$ need at least, if a caption names attributes with $K_1,\dots,K_A$ values? That is
# the *rank* of the table of all scores. The table of one word has rank $K$; but the $K_a$ vectors that are 1 for one
# value each sum to the constant vector, for every attribute, and constants need one dimension only.


# %%
def rank(sizes):
    """The rank of the table of scores.   sizes: (A,) int, K_a ≥ 2  ->  an int"""
    ### BEGIN SOLUTION
    return 1 + sum(int(K) - 1 for K in sizes)
    ### END SOLUTION


# %%
assert np.linalg.matrix_rank(s_star) == rank(matching.SIZES) == 27
f, g, tau = matching.embeddings(values[:512], mentioned[:512])  # unit vectors that carry it exactly
assert np.allclose(scores(f, g, math.log(tau)), s_star, atol=1e-6)
by_batch = {}
for n in (16, 64, 256):
    parts = [slice(i, i + n) for i in range(0, 512, n)]
    by_batch[n] = np.mean([contrastive(matching.log_ratio(values[p], mentioned[p])) for p in parts])
    assert by_batch[n] > math.log(n) - matching.information()
by_batch, tau

# %% [markdown]
# ## 4. Using it
#
# **Zero-shot:** write a caption for each class, and take the class whose caption has the highest score. But the score
# is $\log p(T\mid x) - \log p(T)$: it has the prior taken out. Put it back.
#
# ### Exercise 13.7 - zero-shot
# Half the visitors of a shop look for shirts. A picture fits "shirt" and "dress" about equally. What do you show?


# %%
def zero_shot(s, log_prior):
    """The most probable class of each picture.   s: (N, K) scores s*;  log_prior: (K,) log p(T)  ->  (N,) int"""
    ### BEGIN SOLUTION
    return (s + log_prior[None]).argmax(1)
    ### END SOLUTION


# %%
p_class = np.array([0.55, 0.25, 0.1, 0.06, 0.03, 0.01])  # garments in a shop
p_word = 0.5 * np.eye(6) + 0.5 / 6  # a poor encoder: half of the words are drawn evenly
kind = rng.choice(6, 20_000, p=p_class)
seen = (rng.random((20_000, 1)) > p_word[kind].cumsum(1)).sum(1)  # a word for each picture
s = np.log(p_word / (p_class @ p_word)[None])[:, seen].T  # score of each class with what was seen
right, without = (zero_shot(s, log_p) == kind for log_p in (np.log(p_class), np.zeros(6)))
assert right.mean() > without.mean() + 0.05
right.mean(), without.mean()

# %% [markdown]
# **Duplicates.** In a batch of pairs the other captions count as wrong. If two pictures have the same caption, that is
# a lie. It is rare for photographs with long captions, and common for short ones.
#
# ### Exercise 13.8 - false negatives
# How many of the other captions of a batch equal yours, on average, if captions are drawn with probabilities $p$?


# %%
def false_negatives(p, N):
    """The expected number of other captions that equal the caption of one pair.   p: (M,);  N: int  ->  a number"""
    ### BEGIN SOLUTION
    return (N - 1) * float((p**2).sum())
    ### END SOLUTION


# %%
p = rng.dirichlet(np.ones(5))
drawn = rng.choice(5, (20_000, 8), p=p)
mean = (drawn[:, 1:] == drawn[:, :1]).sum(1).mean()
assert abs(mean - false_negatives(p, 8)) < 0.05
assert np.isclose(false_negatives(np.full(6, 1 / 6), 64), 10.5)  # captions that name the garment only, in a batch of 64

# %% [markdown]
# ## 5. Guidance by CLIP
#
# GLIDE steers with it: to the mean of each step $\sigma^2\nabla_{x_t}\,s(x_t,T)$ is added, with an encoder that knows
# noisy pictures. Lesson 9 changes $\hat\varepsilon$ instead, by $-\sqrt{1-\bar\alpha_t}\,\nabla s$. These are not
# quite the same: changing $\hat\varepsilon$ shifts the mean by $\frac{\beta_t}{\sqrt{\alpha_t}}\nabla s$, where
# $\alpha_t=\bar\alpha_t/\bar\alpha_s=1-\beta_t$ belongs to the step from $t$ to $s$.
#
# ### Exercise 13.9 - two forms of one guide
# By what factor is GLIDE's shift larger?


# %%
def ratio(alpha_bar_t, alpha_bar_s, sigma2):
    """GLIDE's shift of the mean over that of the changed ε̂.   all: (), ᾱ_t < ᾱ_s  ->  a number"""
    ### BEGIN SOLUTION
    alpha = alpha_bar_t / alpha_bar_s
    return math.sqrt(alpha) * sigma2 / (1 - alpha)
    ### END SOLUTION


# %%
abar = np.asarray(schedule.linear(1000).alpha_bar, np.float64)
small = [(1 - abar[t] / abar[t - 1]) * (1 - abar[t - 1]) / (1 - abar[t]) for t in (900, 300, 2)]  # β̃
assert np.allclose([ratio(abar[t], abar[t - 1], v) for t, v in zip((900, 300), small[:2], strict=True)], 1, atol=0.02)
assert ratio(abar[2], abar[1], small[2]) < 0.6  # at the last steps the printed form is weaker

# %% [markdown]
# And how good is it? The best score for noisy pictures is $s^*(x_t,T)=\log p_t(x_t\mid T)-\log p_t(x_t)$. Its gradient
# is the difference of two scores of Lesson 5. So **guidance by a perfect CLIP with $s=1$ is the conditional denoiser**,
# and with any $s$ it is classifier-free guidance (Lesson 9). What people compared in GLIDE are two estimates of
# one thing.

# %%
world, chain = law.distribution(), schedule.cosine(1000)
asked = drawing.values_of(drawing.draw_attributes(N, 5))
asked[:, list(law.ATTRIBUTES).index("ink")] = -1
c = law.asked(asked)


def noisy_clip(x_t, t, c):
    """s*(x_t, T)"""
    return world.log_prob(chain, x_t, t, c) - world.log_prob(chain, x_t, t)


x_T, times = jax.random.normal(jax.random.key(0), (N, 28, 28, 3)), schedule.make_times(1000, STEPS)
eps = world.eps(chain)
guided = classifier(eps, chain, Partial(noisy_clip), 1.0)
x_t, t = 0.4 * jnp.asarray(data.to_float(x[:N])) + 0.9 * x_T, jnp.full(N, 700)
assert np.abs(guided(x_t, t, c) - eps(x_t, t, c)).max() < 2e-3  # ε*(x_t, T), by the gradient of a score
free, by_clip = (np.clip(walk(ddim_step(e, chain, c_), jax.random.key(1), x_T, times), -1, 1)
                 for e, c_ in ((eps, None), (guided, c)))  # fmt: skip
share = [law.right(law.read(a), asked).all(1).mean() for a in (free, by_clip)]
assert share[1] == 1
share

# %% [markdown]
# The catch is in "noisy". An encoder of *clean* pictures, shown $x_t$, takes the noise for detail: its gradient points
# elsewhere, and its pictures are of another world. The experiment `clip_guidance` draws them.


# %%
def picture():
    """The figure of this lesson."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained", width_ratios=(1, 1, 1.3))
    axes[0].imshow(s_star[:24, :24], cmap="RdBu", vmin=-14, vmax=14)
    axes[0].set(xlabel="captions", ylabel="pictures", xticks=[], yticks=[])
    axes[0].set_title("$s^*$: the diagonal fits", fontsize=9)
    sizes = np.array([4, 16, 64, 256, 1024])
    axes[1].plot(sizes, np.log(sizes), ":", color="grey", label=r"$\log N$: knows nothing")
    axes[1].plot(sizes, [floor(int(n), 1.0) for n in sizes], "--", color="#b5523b", label="best without temperature")
    axes[1].plot(by_batch.keys(), by_batch.values(), "o-", color="#1f4e79", label="$s^*$")
    axes[1].set(xscale="log", xlabel="batch $N$", ylabel="loss, nats")
    axes[1].legend(frameon=False, fontsize=8)
    axes[1].spines[["top", "right"]].set_visible(False)
    axes[2].imshow(plot.grid(np.concatenate([free[:5], by_clip[:5]]), 5), interpolation="nearest")
    axes[2].set_yticks([16, 46], ["no guidance", "by CLIP"])
    words = [captions.caption(row).split()[1:] for row in asked[:5].tolist()]
    labels = ["\n".join(" ".join(t[i : i + 2]) for i in range(0, len(t), 2)) for t in words]
    axes[2].set_xticks(16 + 30 * np.arange(5), labels, fontsize=6)
    axes[2].tick_params(length=0)
    axes[2].spines[:].set_visible(False)
    return figure


# %%
if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l13.png", dpi=150)
    numbers = {"loss": {str(n): v for n, v in by_batch.items()}, "tau": tau, "asked_right": share, "n": N}
    (out / "l13.json").write_text(json.dumps(numbers | {"budget": BUDGET}, indent=1, default=float) + "\n")
    print(f"L13: the best loss at N = 64 is {by_batch[64]:.2f} nats; guided by CLIP {share[1]:.0%} right. out/l13.png")

# %% [markdown]
# ## What to take along
#
# - CLIP learns $\log p(x,T)/p(x)p(T)$. A batch of $N$ shows at most $\log N$ nats of it.
# - Without a temperature cosines can express one nat.
# - A score is not a probability: zero-shot needs the prior back.
# - A perfect encoder of noisy pictures guides as classifier-free guidance does. One of clean pictures does not.
#
# ## Further reading
#
# - Radford et al. 2021, *Learning Transferable Visual Models From Natural Language Supervision*.
# - van den Oord et al. 2018, *Representation Learning with Contrastive Predictive Coding*: the bound.
# - Nichol et al. 2021, *GLIDE*. People preferred classifier-free guidance.
# - The experiment `clip_pmi`: how near a small network comes to $s^*$.
