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
# # L8. Conditions: a class, a vector, words
#
# | | |
# |---|---|
# | you learn | how a network is told what to draw: by a class, by FiLM, and by the words of a sentence |
# | time | 70 minutes to read and do, a minute to run |
# | difficulty | ●●●○○ |
# | importance | ●●●●● |
# | paper | Rombach et al. 2022, *Latent Diffusion*, Sec. 3.3; Perez et al. 2018, *FiLM*; Saharia et al. 2022 |
#
# So far a network was given a noisy image and a time. Now it is also given a **condition** $c$: "a sandal", or "a large
# striped red dress on blue, at night". Training does not change by a letter: the loss is the same, and the best answer
# is $\mathbb E[\varepsilon\mid x_t, c]$ in place of $\mathbb E[\varepsilon\mid x_t]$. What has to be decided is the way
# by which $c$ enters the network, and each way can carry some things and not others. We build three, and then measure
# on a world of captioned garments, where the right answer is known, what a way that loses the *order* of words costs.

# %%
import itertools
import json
import math
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddpm import plot, schedule
from ddpm.contracts import Partial
from ddpm.datasets.wardrobe import captions, drawing, law
from ddpm.evaluation.prompts import PAINTED, bag_of_words, prompts_right
from ddpm.forward import eps_from_x0
from ddpm.networks.crossattention import masked_attention
from ddpm.sample import ddim_step, walk
from ddpm.tools import tokens

BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how many pictures
N, STEPS = {"smoke": (8, 12), "short": (64, 25), "full": (256, 50)}[BUDGET]
rng = np.random.default_rng(0)

# %% [markdown]
# ## 1. A class: one row of a table
#
# The time $t$ already enters as a vector that every block of the network adds to its channels. The simplest condition
# is a second vector, one row of a learned table for each class, added to the first. For guidance (Lesson 9) the network
# must also answer *without* a condition, $c=\varnothing$. That is one more row, number $K$, the **null label**.
#
# ### Exercise 8.1 - the class vector


# %%
def with_class(temb, table, c):
    """The time embedding plus the row of the class; c is None: plus the last row, of no class.

    temb: (B, d);  table: (K+1, d);  c: (B,) int in 0..K, or None  ->  (B, d)
    """
    ### BEGIN SOLUTION
    if c is None:
        return temb + table[-1][None]
    return temb + table[c]
    ### END SOLUTION


# %%
temb, table = rng.normal(size=(3, 4)), rng.normal(size=(11, 4))
assert np.allclose(with_class(temb, table, None), with_class(temb, table, np.full(3, 10)))  # ∅ is the label K
assert np.allclose(with_class(temb, table, np.array([2, 0, 2])) - temb, table[[2, 0, 2]])

# %% [markdown]
# ## 2. FiLM: scale and shift
#
# A sum moves the channels. **FiLM** also scales them: from the condition come $\gamma$ and $\beta$, one number for each
# channel, the same at all places of the image,
#
# $$\text{FiLM}(h) = h \odot (1+\gamma) + \beta .$$
#
# With $\gamma=\beta=0$, as a new layer begins, nothing changes. Addition is FiLM with $\gamma=0$.
#
# ### Exercise 8.2 - FiLM


# %%
def film(h, gamma, beta):
    """h (1+γ) + β, channel by channel.   h: (B, H, W, C);  gamma, beta: (B, C)  ->  (B, H, W, C)"""
    ### BEGIN SOLUTION
    return h * (1 + gamma[:, None, None, :]) + beta[:, None, None, :]
    ### END SOLUTION


# %%
h, gamma, beta = rng.normal(size=(2, 5, 5, 5)), rng.normal(size=(2, 5)), rng.normal(size=(2, 5))
assert np.array_equal(film(h, 0 * gamma, 0 * beta), h)  # the identity, to the bit
assert np.allclose(film(h, gamma, beta)[1, 3, 2], h[1, 3, 2] * (1 + gamma[1]) + beta[1])
# What γ learns is multiplied by h: where the network is silent, γ learns nothing
slope = jax.grad(lambda g: film(jnp.asarray(h).at[..., 0].set(0), g, jnp.asarray(beta)).sum())(jnp.asarray(gamma))
assert np.allclose(slope[:, 0], 0) and abs(slope[:, 1:]).min() > 0

# %% [markdown]
# Both ways squeeze all that is wanted into a few numbers that are *the same everywhere in the image*. For a class that
# will do.
#
# ## 3. Words: let each place look for its own
#
# A sentence is a list of tokens. **Cross-attention** lets each place of the image ask a question $q$, compares it with
# a key $k$ of each token, and takes the mean of the tokens' values $v$, weighted by how well they fit:
#
# $$\text{attention}(q, k, v) = \operatorname{softmax}\!\big(qk^\top/\sqrt d\big)\,v ,\qquad
#   h \leftarrow h + W_o\,\text{attention}(W_q h,\; W_k\tau,\; W_v\tau)\qquad\text{[LDM, Sec. 3.3]}$$
#
# The root keeps the logits near 1: a sum of $d$ products of independent numbers of variance 1 has the variance $d$.
#
# ### Exercise 8.3 - attention


# %%
def attention(q, k, v):
    """softmax(q kᵀ/√d) v.   q: (N, d) of places;  k: (M, d), v: (M, e) of tokens  ->  (N, e)"""
    ### BEGIN SOLUTION
    logits = q @ k.T / math.sqrt(q.shape[1])
    weight = np.exp(logits - logits.max(1, keepdims=True))
    return weight / weight.sum(1, keepdims=True) @ v
    ### END SOLUTION


# %%
q, k, v = rng.normal(size=(6, 8)), rng.normal(size=(5, 8)), rng.normal(size=(5, 3))
out = attention(q, k, v)
order = np.array([3, 0, 4, 1, 2])
assert np.allclose(attention(q, k[order], v[order]), out)  # the order of the tokens counts only through their positions
assert np.allclose(attention(q, np.tile(k, (2, 1)), np.tile(v, (2, 1))), out)  # to hear it twice is to hear it once
assert np.allclose(attention(0 * q, k, v), v.mean(0))  # who asks nothing gets the mean

# %% [markdown]
# ### Exercise 8.4 - what is no word
# Texts differ in length, and a batch is a rectangle, so short ones are filled up. Filling must not be read. The way is
# to give it the logit $-\infty$ *before* the softmax. Stable Diffusion was trained without any mask, and its pictures
# depend on the filling to this day.


# %%
def masked(q, k, v, mask):
    """Attention to the tokens where mask is True.   q: (N, d);  k: (M, d), v: (M, e);  mask: (M,) bool  ->  (N, e)"""
    ### BEGIN SOLUTION
    logits = np.where(mask[None], q @ k.T / math.sqrt(q.shape[1]), -np.inf)
    weight = np.exp(logits - logits.max(1, keepdims=True))
    return weight / weight.sum(1, keepdims=True) @ v
    ### END SOLUTION


# %%
mask = np.array([True, True, False, True, False])
assert np.allclose(masked(q, k, v, mask), attention(q, k[mask], v[mask]))
assert np.allclose(masked(q, k, v, np.ones(5, bool)), out)
wide = np.pad(v, ((0, 0), (0, 5)))  # as many channels as q has
library = masked_attention(jnp.asarray(q)[None], jnp.asarray(k)[None], jnp.asarray(wide)[None], jnp.asarray(mask)[None])
assert np.allclose(library[0, :, :3], masked(q, k, v, mask), atol=1e-5)
shrunk = attention(q, np.vstack([k, np.zeros((20, 8))]), np.vstack([v, np.zeros((20, 3))]))
f"20 tokens of filling, all 0 and not masked, shrink what is read to {np.abs(shrunk).mean() / np.abs(out).mean():.0%}"

# %% [markdown]
# ### Exercise 8.5 - one token
# Some networks describe all that is wanted in *one* token: the class token of CLIP, for instance. A softmax over one
# key is 1, whatever the question. Write what is left of the layer then. You need neither $W_q$ nor $W_k$.


# %%
def one_token(h, token, W_v, W_o):
    """h + attention to one token.   h: (B, N, C);  token: (B, D);  W_v: (D, C);  W_o: (C, C), from the right

    ->  (B, N, C)
    """
    ### BEGIN SOLUTION
    return h + (token @ W_v @ W_o)[:, None, :]
    ### END SOLUTION


# %%
h, token = rng.normal(size=(2, 7, 8)), rng.normal(size=(2, 5))
W_q, W_k, W_v, W_o = (rng.normal(size=s) for s in ((8, 8), (5, 8), (5, 8), (8, 8)))
by_layer = [h[b] + attention(h[b] @ W_q, token[b : b + 1] @ W_k, token[b : b + 1] @ W_v) @ W_o for b in range(2)]
assert np.allclose(one_token(h, token, W_v, W_o), by_layer)
moved = one_token(h, token, W_v, W_o) - h
assert np.allclose(moved, moved[:, :1])  # the same shift everywhere: a class vector in disguise

# %% [markdown]
# ## 4. No words
#
# For guidance the network is trained with the text left out one time in ten. What stands for ∅ must be *the same
# object* in training and in sampling. Here it is a text without words: the mark BEGIN (number 1), then filling
# (number 0). The condition of row $i$ is dropped where a uniform number $u_i$ is below $p$.
#
# ### Exercise 8.6 - drop the text
# In two well-known repositories the mask of what to drop was drawn and then not used; in a third, ∅ was the empty text
# in training, and zeros in sampling.


# %%
def dropped(text, u, p):
    """Replace rows of tokens by ∅ where u < p.   text: (B, L) int;  u: (B,) in [0, 1);  p: number  ->  (B, L) int"""
    ### BEGIN SOLUTION
    nothing = np.zeros_like(text)
    nothing[:, 0] = 1
    return np.where((u < p)[:, None], nothing, text)
    ### END SOLUTION


# %%
text = tokens.encode(["a red dress", "a plain blue bag at night", "a hat"], captions.VOCABULARY, 9)
half = dropped(text, np.array([0.05, 0.7, 0.0999]), 0.1)
assert np.array_equal(half[1], text[1]) and np.array_equal(half[[0, 2]], tokens.nothing(2, 9))
try:
    tokens.encode(["a red drss"], captions.VOCABULARY, 9)
except ValueError as error:  # what the network never saw is refused, and near words are suggested
    assert "Did you mean 'dress'" in str(error)
text[:2]

# %% [markdown]
# ## 5. A world of captions
#
# `wardrobe` is a world of drawn garments. Each picture has eight attributes with words, and a caption mentions each
# with probability .9. There are $2.4\cdot10^9$ pictures and 428,652 captions, and for each caption the best denoiser
# $\varepsilon^*(x_t,t,T)$ is known (`ddpm.datasets.wardrobe`). So is a judge that reads a picture without error.
#
# ### Exercise 8.7 - the probability of a caption
# Let attribute $a$ have $K_a$ equally probable values, drawn independently, and let it be mentioned with probability
# $r$. What is $\log p(T)$? (−1 means: not mentioned.)


# %%
def log_caption(mentioned, sizes, rate):
    """log p(T), nats.   mentioned: (n, A) int, -1: not mentioned;  sizes: (A,) K_a;  rate: r in (0, 1)  ->  (n,)"""
    ### BEGIN SOLUTION
    told = np.log(rate) - np.log(sizes)
    return np.where(mentioned < 0, np.log(1 - rate), told[None]).sum(1)
    ### END SOLUTION


# %%
small = np.array(list(itertools.product(range(-1, 2), range(-1, 3), range(-1, 4))))  # every caption of a small world
assert np.isclose(np.exp(log_caption(small, np.array([2, 3, 4]), 0.9)).sum(), 1)
z = drawing.draw_attributes(N, 3)
values = drawing.values_of(z)
[captions.caption(row) for row in captions.mentioned(values[:3], 1).tolist()]

# %% [markdown]
# ## 6. What order is worth
#
# "a red dress on blue" and "a blue dress on red" hold the same words. A network that *adds up* word vectors sees the
# bag of words only. What could it know at best? Which roles have a colour, and which colours there are. All orders that
# look different are then equally probable, and it has to draw one of them.
#
# ### Exercise 8.8 - the ceiling of a bag
# With what probability are all $m$ colours where they belong? Mind equal ones: of "red on red" there is one order.


# %%
def ceiling(colours):
    """P(all right) of the best guess from the bag of these colours.   colours: (m,) int, m ≥ 1  ->  a number"""
    ### BEGIN SOLUTION
    _, counts = np.unique(colours, return_counts=True)
    return math.prod(math.factorial(n) for n in counts.tolist()) / math.factorial(len(colours))
    ### END SOLUTION


# %%
pairs = np.mean([ceiling(np.array(c)) for c in itertools.product(range(8), repeat=2)])
triples = np.mean([ceiling(np.array(c)) for c in itertools.product(range(8), repeat=3)])
assert np.isclose(pairs, 1 / 8 + 7 / 8 / 2)  # a garment and its ground
by_caption = [ceiling(row[PAINTED][row[PAINTED] >= 0]) for row in values]
assert np.allclose(by_caption, bag_of_words(values))
f"two colours {pairs:.4f}, three colours {triples:.3f}, the whole world {(pairs + triples) / 2:.3f}"

# %% [markdown]
# Now draw. First with $\varepsilon^*$, which reads the caption in its order. Then with the best denoiser of the bag, in
# closed form too: the mixture over the six orders of the colours, weighted by how well $x_t$ fits each.

# %%
world, chain = law.distribution(), schedule.cosine(1000)


def reordered(row, way):
    """The caption with its colours in another order."""
    mentioned, other = [a for a in PAINTED if row[a] >= 0], row.copy()
    other[mentioned] = row[[mentioned[i] for i in way if i < len(mentioned)]]
    return other


ORDERS = [np.stack([reordered(row, way) for row in values]) for way in itertools.permutations(range(3))]
EVIDENCE = jax.tree.map(lambda *a: jnp.stack(a, 1), *map(law.asked, ORDERS))


def of_bag(x_t, t, c):
    """Σ over orders of p(order | x_t) E[x0 | x_t, order], as ε. (With two colours each order is there three times.)"""
    answers = [world.answer(chain, x_t, t, jax.tree.map(lambda a, i=i: a[:, i], c)) for i in range(6)]
    p = jax.nn.softmax(jnp.stack([a.log_prob for a in answers]), axis=0)[..., None, None, None]
    return eps_from_x0(chain, x_t, t, sum(w * a.x0 for w, a in zip(p, answers, strict=True)))


# %%
x_T, times = jax.random.normal(jax.random.key(0), (N, 28, 28, 3)), schedule.make_times(1000, STEPS)
in_order = walk(ddim_step(world.eps(chain), chain, law.asked(values)), jax.random.key(1), x_T, times)
from_bag = walk(ddim_step(Partial(of_bag), chain, EVIDENCE), jax.random.key(1), x_T, times)
right, bag_right = (prompts_right(np.asarray(x), values)["all"] for x in (in_order, from_bag))
assert right.value == 1  # every attribute of every caption
p = bag_of_words(values)
assert abs(bag_right.value - p.mean()) < 5 * np.sqrt((p * (1 - p)).sum()) / N + 1e-9
right.value, bag_right.value, p.mean()

# %% [markdown]
# What lies between the two is called **binding**. It is why text-to-image networks read all tokens by cross-attention,
# and it gives you a test for any of them: a network whose colours are right more often than the ceiling reads order.
# `ddpm sample --model wardrobe --prompt "a large striped red dress on blue at night"` draws with a trained one where
# its weights are installed; the experiment `word_binding` measures it, and `context_pooled` trains networks that hear
# each word, their mean, or both: exchanged colours are told apart in .83, none and .81 of the pairs.
#
# Words lie in different noise, and a training learns those where its times fall: with uniform times the colour of the
# ink, a few pixels, stays a guess, and with times in the middle the light does (the experiment `fine_detail`, which has
# the exact curve of every word).


# %%
def picture():
    """The figure of this lesson."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained", width_ratios=(2.2, 1))
    both = np.clip(np.concatenate([in_order[:6], from_bag[:6]]), -1, 1)
    axes[0].imshow(plot.grid(both, 6), interpolation="nearest")
    axes[0].set_yticks([16, 46], ["reads the order", "reads a bag"])
    texts = [captions.caption(row).split()[1:] for row in values[:6].tolist()]
    labels = ["\n".join(" ".join(t[i : i + 3]) for i in range(0, len(t), 3)) for t in texts]
    axes[0].set_xticks(16 + 30 * np.arange(6), labels, fontsize=7)
    axes[0].tick_params(length=0)
    axes[0].spines[:].set_visible(False)
    axes[1].bar(["order", "bag"], [right.value, bag_right.value], color=["#1f4e79", "#b5523b"], width=0.6)
    axes[1].axhline(p.mean(), color="black", lw=1, ls=":", label=f"ceiling of the bag: {p.mean():.2f}")
    axes[1].set(ylabel="captions with all right", ylim=(0, 1.15))
    axes[1].legend(frameon=False)
    axes[1].spines[["top", "right"]].set_visible(False)
    return figure


# %%
if __name__ == "__main__":
    out_folder = Path("out")
    out_folder.mkdir(exist_ok=True)
    picture().savefig(out_folder / "l08.png", dpi=150)
    numbers = {"order": right.value, "bag": bag_right.value, "ceiling": float(p.mean()), "n": N, "budget": BUDGET}
    (out_folder / "l08.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(f"L8: all right in {right.value:.0%} with order, in {bag_right.value:.0%} from a bag. out/l08.png")

# %% [markdown]
# ## What to take along
#
# - A class is one vector, the same at all places. FiLM scales as well as shifts. Both begin as the identity.
# - Cross-attention lets each place read its own words. With one token it is a class vector again.
# - Filling is masked before the softmax, and ∅ is one object, in training and in sampling.
# - A bag of words has a ceiling, which is known. Whoever exceeds it reads the order.
#
# ## Further reading
#
# - Rombach et al. 2022, *High-Resolution Image Synthesis with Latent Diffusion Models*, Sec. 3.3.
# - Saharia et al. 2022, *Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding* (Imagen).
#   People preferred cross-attention to pooled text.
# - Perez et al. 2018, *FiLM: Visual Reasoning with a General Conditioning Layer*.
# - diffusers, issue 1890: the mask that Stable Diffusion's training lacked.
