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
# # L14. Make it yours: personalise and control
#
# | | |
# |---|---|
# | you learn | textual inversion, DreamBooth, LoRA, ControlNet, InstructPix2Pix: what each changes, and what it costs |
# | time | 90 minutes to read and do, a minute to run |
# | difficulty | ●●●●○ |
# | importance | ●●●●● |
# | paper | Gal et al. 2023; Ruiz et al. 2023; Hu et al. 2022; Zhang et al. 2023, Eq. 2; Brooks et al. 2023, Eq. 3 |
#
# A trained text-to-image model knows everybody's shirts, and not *your* shirt. It hears words, and not the outline that
# you drew, or "make it blue". Five methods change that, and all begin with the same promise: **at step 0 nothing has
# changed, to the bit**. How each keeps it, and which mistakes break it silently, is what this lesson is about. The
# world of captioned garments tells us what each method can reach at best.

# %%
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddpm import plot, schedule
from ddpm.contracts import Partial
from ddpm.datasets.wardrobe import drawing, evidence, law, silhouettes
from ddpm.datasets.wardrobe.edits import INSTRUCTIONS, after
from ddpm.guide import cfg
from ddpm.guides import given, two_scale
from ddpm.networks.lora import change, make_lora, merged
from ddpm.sample import ddim_step, walk

# %%
# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how many pictures
N, STEPS = {"smoke": (6, 12), "short": (16, 25), "full": (64, 50)}[BUDGET]
rng = np.random.default_rng(0)
world, chain = law.distribution(), schedule.cosine(1000)
eps = world.eps(chain)


def drawn(denoiser, c, n=N, seed=0):
    """n pictures by DDIM."""
    x_T, times = jax.random.normal(jax.random.key(seed), (n, 28, 28, 3)), schedule.make_times(1000, STEPS)
    return np.clip(walk(ddim_step(denoiser, chain, c), jax.random.key(1), x_T, times), -1, 1)


# %% [markdown]
# ## 1. A new word
#
# **Textual inversion** adds one row to the table of words, $S_*$, and trains this row alone on three to five pictures.
# All else is frozen, so that the model cannot forget. The published script computed gradients of the whole table, set
# them to zero for the other rows, and let the optimiser AdamW take a step. AdamW also shrinks each weight by a little
# at each step, *whether it has a gradient or not*: all other words faded.
#
# ### Exercise 14.1 - one row moves
# Repair it. The step here is plain gradient descent with weight decay, $v \leftarrow (1-\eta\lambda)\,v - \eta\,g$.


# %%
def moved_row(table, grad, row, lr, decay):
    """One step for the row `row` alone.   table, grad: (M, d);  row: int;  lr, decay: numbers  ->  (M, d)"""
    ### BEGIN SOLUTION
    new = np.array(table)
    new[row] = (1 - lr * decay) * table[row] - lr * grad[row]
    return new
    ### END SOLUTION


# %%
table, grad = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
new = moved_row(table, grad, 4, 0.1, 0.01)
others = np.arange(6) != 4
assert np.array_equal(new[others], table[others]) and not np.array_equal(new[4], table[4])
f"a word fades to {(1 - 5e-3 * 0.01) ** 5000:.2f} of itself in 5,000 steps of .005 with a decay of .01"

# %% [markdown]
# ### Exercise 14.2 - what leaks
# At its optimum a free word holds whatever the training pictures have in common, wanted or not. If three of four show a
# green ground, so does $S_*$ in three of four pictures. How much is that, in nats, more than the world has, where all
# $K$ values are equally frequent? Compute $\mathrm{KL}(\text{shares}\,\|\,1/K)$.


# %%
def leak(values, K):
    """KL of the shares of an attribute in n pictures from 1/K, nats.   values: (n,) int in 0..K-1  ->  a number"""
    ### BEGIN SOLUTION
    shares = np.bincount(values, minlength=K) / len(values)
    return float(sum(p * math.log(p * K) for p in shares if p > 0))
    ### END SOLUTION


# %%
assert np.isclose(leak(np.arange(8), 8), 0) and np.isclose(leak(np.full(4, 3), 8), math.log(8))
by_n = {n: np.mean([leak(rng.integers(0, 8, n), 8) for _ in range(400)]) for n in (1, 2, 4, 8, 16, 32)}
assert abs(by_n[4] - 0.94) < 0.1 and by_n[32] < 0.2  # a few more pictures help more than a longer training
by_n

# %% [markdown]
# What can a word *not* learn? A badge of 16 bits that no word names. The best that it can say is "badged", and each bit
# is then right in half of the pictures. To learn the bits, weights of the network must change.
#
# ## 2. DreamBooth: all weights, and a spring
#
# **DreamBooth** trains all of the network on "a $S_*$ shirt". Since "shirt" is in the caption as well, it drifts: soon
# all shirts look like yours. The remedy is a second term, on pictures that the *frozen* model drew of "a shirt":
#
# $$L = \underbrace{\tfrac1B\textstyle\sum_i e_i}_{\text{yours}} + \lambda\,
#       \underbrace{\tfrac1B\textstyle\sum_i e'_i}_{\text{the class}} .$$
#
# ### Exercise 14.3 - two halves of a batch
# Code joins both halves to one batch, yours first, and calls the network once. A published script filled the batch by
# turns, yours, class, yours, …, and cut it in two halves all the same.


# %%
def dreambooth(errors, lam):
    """The loss of a joined batch.   errors: (2B,) of B pictures of yours, then B of the class;  lam: λ  ->  a number"""
    ### BEGIN SOLUTION
    yours, of_class = np.split(errors, 2)
    return yours.mean() + lam * of_class.mean()
    ### END SOLUTION


# %%
e = rng.uniform(size=8)
assert np.isclose(dreambooth(e, 1.0), 2 * e.mean())  # λ = 1: twice the mean, so a step of twice the length
assert np.isclose(dreambooth(e, 0.0), e[:4].mean())

# %% [markdown]
# Does the spring pull at the start? If the model is exact on its own pictures, then by Pythagoras
# $\mathbb E\|\varepsilon-\hat\varepsilon\|^2 = \mathbb E\|\varepsilon-\varepsilon^*\|^2 +
# \mathbb E\|\varepsilon^*-\hat\varepsilon\|^2$, and the second part is 0 and flat there. It pulls only once the model
# has moved. The experiment `personal_network` trains a network in both ways: without the spring "a shoe" has the
# subject's colour in 24 of 24 drawings, with it in 5, where 3 are expected, and "a $S_*$ shoe" still has .99 of its
# bits.
#
# ## 3. LoRA: a small change
#
# All weights are many. **LoRA** adds to a weight $W_0$ a product of two thin matrices,
#
# $$W = W_0 + \frac\alpha r\,A B, \qquad A\in\mathbb R^{d_{in}\times r}\ \text{random},\quad
#   B\in\mathbb R^{r\times d_{out}}\ \text{zero at first.}$$
#
# ### Exercise 14.4 - the merged weight


# %%
def lora(W0, A, B, alpha):
    """W_0 + (α/r) A B.   W0: (d_in, d_out);  A: (d_in, r);  B: (r, d_out);  alpha: α  ->  (d_in, d_out)"""
    ### BEGIN SOLUTION
    return W0 + alpha / A.shape[1] * A @ B
    ### END SOLUTION


# %%
W0, A, B = rng.normal(size=(6, 5)), rng.normal(size=(6, 2)), rng.normal(size=(2, 5))
assert np.array_equal(lora(W0, A, 0 * B, 8.0), W0)  # at step 0, to the bit
x = rng.normal(size=(3, 6))
assert np.allclose(x @ lora(W0, A, B, 8.0), x @ W0 + 4 * (x @ A) @ B)
base = {"W": {"kernel": jnp.asarray(W0, jnp.float32)}}
adapter = make_lora(jax.random.key(0), base, 2, 8.0, lambda name: True)
assert float(jnp.abs(change(adapter)["W/kernel"]).max()) == 0
for wrong, names in (((adapter, adapter), "two adapters"), ((replace(adapter, base="another"),), "load its base")):
    try:
        merged(base, *wrong)
    except ValueError as error:  # two adapters that claim one layer, and one that was made for other weights
        assert names in str(error)

# %% [markdown]
# ### Exercise 14.5 - the best of rank r
# How near can a change of rank $r$ come to the change $\Delta$ that one would like? Eckart and Young: keep the $r$
# largest singular values. What is lost, as a sum of squares?


# %%
def lost(delta, r):
    """The least ‖Δ - AB‖² over all A, B of rank r.   delta: (m, n);  r: int  ->  a number"""
    ### BEGIN SOLUTION
    return float((np.linalg.svd(delta, compute_uv=False)[r:] ** 2).sum())
    ### END SOLUTION


# %%
delta = rng.normal(size=(7, 5))
assert np.isclose(lost(delta, 0), (delta**2).sum()) and np.isclose(lost(delta, 5), 0)
U, sigma, V = np.linalg.svd(delta, full_matrices=False)
assert np.isclose(lost(delta, 2), ((delta - U[:, :2] * sigma[:2] @ V[:2]) ** 2).sum())
random = [((delta - P @ np.linalg.lstsq(P, delta, rcond=None)[0]) ** 2).sum() for P in rng.normal(size=(200, 7, 2))]
assert lost(delta, 2) < min(random)

# %% [markdown]
# ## 4. ControlNet: a copy with its mouth shut
#
# **ControlNet** copies the encoder of the frozen network. The copy reads the picture and a *hint*, such as edges, and
# its answers are added to the network's through convolutions $Z$ whose weights and biases are 0:
#
# $$y_c = F(x;\Theta) + Z_2\big(F(x + Z_1(\text{hint});\Theta_c)\big) .$$
#
# ### Exercise 14.6 - who learns first?
# **Before you run the cell below:** of which parts is the gradient exactly 0 at step 0? And at step 1, after one step
# of all that had one? Write 1 for a gradient and 0 for none, in the order: $Z_2$, the copy $\Theta_c$, $Z_1$.


# %%
def who_learns():
    """Your bet: gradients of (Z_2, Θ_c, Z_1) at step 0, then at step 1.   ->  six numbers, 0 or 1"""
    ### BEGIN SOLUTION
    return 1, 0, 0, 1, 1, 1
    ### END SOLUTION


# %%
def controlled(p, x, hint):
    """A toy: one number for each part."""
    return 2 * x + p["Z2"] * jnp.tanh(p["copy"] * (x + p["Z1"] * hint))


p, had = {"Z2": 0.0, "copy": 1.5, "Z1": 0.0}, []
for _ in range(2):
    g = jax.grad(lambda p: (controlled(p, 0.7, 0.4) - 3) ** 2)(p)
    had += [int(float(g[k]) != 0) for k in ("Z2", "copy", "Z1")]
    p = jax.tree.map(lambda a, b: a - 0.1 * b, p, g)
assert tuple(had) == who_learns()  # a product of two zeros would never learn; zero times a copy does

# %% [markdown]
# At step 0 only $Z_2$ learns: it is multiplied by the copy's output, which is not 0. The gradients of everything behind
# it are multiplied by $Z_2 = 0$. One step later $Z_2$ is no longer 0, and all three learn. Two layers of zeros in a row
# would never begin, because each would wait for the other.
#
# ## 5. A hint and guidance
#
# The text guides by the difference of two predictions, with and without it. Where does the hint go: into both
# branches, or only into the one with text? If there is no text at all, both branches are then the same.
#
# ### Exercise 14.7 - when guidance cancels


# %%
def hinted(eps_none, eps_hint, s, both):
    """Guidance without a prompt.   eps_none, eps_hint: predictions without and with the hint;  both: bool

    both: the hint is in both branches; else only in the conditional one  ->  like eps_hint
    """
    ### BEGIN SOLUTION
    base = eps_hint if both else eps_none
    return base + s * (eps_hint - base)
    ### END SOLUTION


# %%
z = drawing.draw_attributes(N, 5)
shape = silhouettes.geometry(z.garment, z.size, z.column, z.row, z.pattern)
c = evidence.outlined(evidence.hints("edges")[shape])
x_t, t = jax.random.normal(jax.random.key(2), (N, 28, 28, 3)), jnp.full(N, 600)
none, with_hint = eps(x_t, t, None), eps(x_t, t, c)
assert np.allclose(hinted(none, with_hint, 9.0, True), with_hint)  # for any s
assert np.allclose(hinted(none, with_hint, 3.0, False), cfg(eps, 3.0)(x_t, t, c), atol=1e-4)
assert np.allclose(cfg(given(eps, c), 9.0)(x_t, t, c), with_hint, atol=1e-4)

# %% [markdown]
# ### Exercise 14.8 - did it obey?
# The paper reads the silhouette from the picture that was drawn, and compares it with the one that was asked:
# *intersection over union*.


# %%
def iou(a, b):
    """|a ∩ b|/|a ∪ b| of each pair of masks.   a, b: (n, H, W) bool, not both empty  ->  (n,)"""
    ### BEGIN SOLUTION
    return (a & b).sum((1, 2)) / (a | b).sum((1, 2))
    ### END SOLUTION


# %%
outline = silhouettes.shapes().region > 0
by_edges = drawn(eps, c)
obeyed = iou(outline[law.read(by_edges).geometry], outline[shape])
assert (obeyed == 1).all()  # the exact denoiser obeys to the pixel, and invents the colours
assert 0 < iou(outline[:1], outline[24:25])[0] < 1 and iou(outline[:1], outline[:1])[0] == 1

# %% [markdown]
# ## 6. Instructions
#
# **InstructPix2Pix** gets a picture $y$ and an instruction $T$: "make it blue". It guides with two scales:
#
# $$\hat\varepsilon = \varepsilon(\varnothing,\varnothing) + s_I\,[\varepsilon(y,\varnothing) -
#   \varepsilon(\varnothing,\varnothing)] + s_T\,[\varepsilon(y,T) - \varepsilon(y,\varnothing)] .$$
#
# ### Exercise 14.9 - two scales


# %%
def instructed(e_none, e_y, e_yT, s_I, s_T):
    """ε̂ of the formula above.   e_none, e_y, e_yT: predictions, alike;  s_I, s_T: numbers  ->  like e_y"""
    ### BEGIN SOLUTION
    return e_none + s_I * (e_y - e_none) + s_T * (e_yT - e_y)
    ### END SOLUTION


# %%
a, b, c_ = rng.normal(size=(3, 4, 5))
assert np.allclose(instructed(a, b, c_, 1, 1), c_) and np.allclose(instructed(a, b, c_, 0, 0), a)
assert np.allclose(instructed(a, b, c_, 3, 3), a + 3 * (c_ - a))  # equal scales: guidance by the pair

# %% [markdown]
# Three predictions need a network that knows all three. In training the text is left out in 5 % of the cases, the
# picture in 5 %, and both in 5 %. *One* uniform number does it. Two independent coins of 10 % would leave both out in
# 1 % only.
#
# ### Exercise 14.10 - one coin
# Drop the text where $u<.10$, the picture where $.05\le u<.15$.


# %%
def drops(u):
    """Which texts and which pictures are left out.   u: (B,) in [0, 1)  ->  (B,) bool and (B,) bool"""
    ### BEGIN SOLUTION
    return u < 0.10, (u >= 0.05) & (u < 0.15)
    ### END SOLUTION


# %%
text, image = drops((np.arange(1000) + 0.5) / 1000)
assert [(text & ~image).mean(), (~text & image).mean(), (text & image).mean()] == [0.05, 0.05, 0.05]

# %% [markdown]
# The picture enters as further channels of the first convolution. Its new weights are 0, so that step 0 is the old
# network. Is it? In a well-known training script it is not.
#
# ### Exercise 14.11 - a wider first layer
# The script makes a new convolution with more input channels, copies the old weights, zeroes the new ones, and forgets
# one thing. Repair it.


# %%
def widened(kernel, bias, more):
    """A first layer with `more` further input channels, equal at step 0.

    kernel: (h, w, C, O);  bias: (O,);  more: int  ->  kernel (h, w, C+more, O) and bias (O,)
    """
    ### BEGIN SOLUTION
    h, w, _, O = kernel.shape
    return np.concatenate([kernel, np.zeros((h, w, more, O))], axis=2), np.array(bias)
    ### END SOLUTION


# %%
kernel, bias, patch = rng.normal(size=(3, 3, 4, 6)), rng.normal(size=6), rng.normal(size=(3, 3, 8))
wide, b_new = widened(kernel, bias, 4)
old = np.einsum("hwc,hwco->o", patch[..., :4], kernel) + bias
assert np.allclose(np.einsum("hwc,hwco->o", patch, wide) + b_new, old)

# %% [markdown]
# Now edit. What all 41 instructions can make of a picture is a finite list, so that all three denoisers are exact.

# %%
before = drawing.draw_attributes(N, 9)
blue, plain = INSTRUCTIONS.index(("colour", 5)), INSTRUCTIONS.index(("light", 1))
wanted = jnp.where(jnp.arange(N) % 2 == 0, blue, plain)
SETS = jax.tree.map(lambda *a: jnp.stack(a), *(after(before.take(np.array([k]))) for k in range(N)))


def edit_eps(x_t, t, c):
    """ε*(x_t, t, (y, T)); 41 stands for any instruction"""
    sets, instruction = c
    if sets is None:
        return eps(x_t, t, None)
    i = jnp.full(len(x_t), 41) if instruction is None else instruction
    t = jnp.broadcast_to(t, len(x_t))
    return jax.vmap(lambda s, x, t, i: s.eps(chain)(x[None], t[None], i[None])[0])(sets, x_t, t, i)


edits = {s: drawn(two_scale(Partial(edit_eps), *s), (SETS, wanted)) for s in ((1.0, 0.0), (1.0, 1.0), (1.5, 7.5))}
values = drawing.values_of(before)
asked = values.copy()
asked[::2, 4], asked[1::2, 7] = 5, 1
shares = {s: float((law.read(x).values == asked).all(1).mean()) for s, x in edits.items()}
assert shares[1.0, 1.0] == 1  # done, and all else is kept
shares

# %% [markdown]
# With exact denoisers $(1,1)$ does it, and nothing is gained by more. The large scales of the paper repair a network
# whose conditions are too weak.


# %%
def picture():
    """The figure of this lesson."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained", width_ratios=(1.2, 1.2, 1))
    hints = np.repeat(1 - 2.0 * evidence.hints("edges")[shape[:5]][..., None], 3, -1)
    rows = np.concatenate([hints, by_edges[:5]])
    axes[0].imshow(plot.grid(rows, 5), interpolation="nearest")
    axes[0].set_yticks([16, 46], ["hint", "drawn"])
    axes[0].set_title("control: the outline, any colours", fontsize=9)
    shown = [np.asarray(drawing.painted(before)[:5] / 127.5 - 1), *(x[:5] for x in edits.values())]
    axes[1].imshow(plot.grid(np.concatenate(shown), 5), interpolation="nearest")
    axes[1].set_yticks(16 + 30 * np.arange(4), ["before", *("{:g}, {:g}".format(*s) for s in edits)])
    axes[1].set_xticks(16 + 30 * np.arange(5), ["make it\nblue", "make it\nnight"] * 2 + ["make it\nblue"], fontsize=7)
    axes[1].set_title(r"instructions, by $(s_I, s_T)$", fontsize=9)
    for axis in axes[:2]:
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    axes[0].set_xticks([])
    axes[2].plot(by_n.keys(), by_n.values(), "o-", color="#1f4e79")
    axes[2].set(xscale="log", xlabel="pictures of the subject", ylabel="leak of the ground, nats", ylim=(0, None))
    axes[2].set_xticks(list(by_n), [str(n) for n in by_n])
    axes[2].spines[["top", "right"]].set_visible(False)
    return figure


# %%
if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l14.png", dpi=150)
    numbers = {"leak": {str(n): float(v) for n, v in by_n.items()}, "iou": float(obeyed.mean()), "n": N}
    numbers |= {"edits": {"{:g}, {:g}".format(*s): v for s, v in shares.items()}, "budget": BUDGET}
    (out / "l14.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(f"L14: IoU {obeyed.mean():.2f} with a hint; {shares[1.0, 1.0]:.0%} of the edits right at (1, 1). out/l14.png")

# %% [markdown]
# ## What to take along
#
# - Every method begins as the old network, to the bit: a row that means a known word, $B=0$, $Z=0$, new channels of
#   weight 0 *and the old bias*. Test it: it is one line.
# - A new word learns all that its pictures share, and no more than words can say.
# - DreamBooth's prior loss is a spring that holds the class. LoRA's rank bounds what can be learned, and its size.
# - Guidance needs a difference: what is in both branches cancels.
#
# ## Further reading
#
# - Gal et al. 2023, *An Image is Worth One Word*; Ruiz et al. 2023, *DreamBooth*; Hu et al. 2022, *LoRA*.
# - Zhang et al. 2023, *Adding Conditional Control to Text-to-Image Diffusion Models*.
# - Brooks et al. 2023, *InstructPix2Pix*, Eq. 3 and Fig. 8.
# - Yang et al. 2023, *Paint by Example*; Seyfioglu et al. 2024, *Diffuse to Choose*: garments put into other pictures.
#   The experiments `personal`, `control`, `edits` and `try_on` have all of it with an exact column; `try_on_network`
#   trains the ways to take up an exemplar: addition, FiLM, cross-attention and one token.
