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
# # L0. Warm-up: JAX in twenty minutes
#
# | | |
# |---|---|
# | you learn | the five things of JAX that this course uses: keys, scan, vmap, grad, and when jit compiles |
# | time | 20 minutes to read and do, seconds to run |
# | difficulty | ●○○○○ |
# | importance | ●●●○○ |
# | paper | none; Bradbury et al. 2018, *JAX: composable transformations of Python+NumPy programs*, is the library |
#
# If you know NumPy, you know most of JAX: `jnp` is `np`, on any device. Two things are new: four functions that take a
# *function* (three of them return a new one, and are called **transformations**), and random numbers that are honest
# about where they come from. If all this is old news to you, do the exercises and continue with Lesson 1.

# %%
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

# ruff: noqa: B018 (the last line of a cell is shown in a notebook)
BUDGET = os.environ.get("DDPM_BUDGET", "short")  # smoke, short or full: how many random draws to afford
n = {"smoke": 2_000, "short": 10_000, "full": 100_000}[BUDGET]

# %% [markdown]
# ## 1. Arrays that do not change
#
# Two differences from NumPy show at once. Numbers are float32 unless you request more precision. And arrays are
# **immutable**: `a[0] = 1` is an error, and `.at[...].set(...)` returns a changed copy instead.

# %%
a = jnp.arange(4.0)
b = a.at[0].set(9.0)
assert a.dtype == jnp.float32
assert a[0] == 0 and b[0] == 9  # a itself has not changed
assert jnp.float32(16_777_216) + 1 == 16_777_216  # 24 bits of precision: about seven digits
b

# %% [markdown]
# ## 2. Keys
#
# `np.random` keeps a hidden state, so the same line gives another number each time. In JAX the source of randomness is
# an explicit argument, a **key**. The same key gives the same numbers, always, on every machine.

# %%
key = jax.random.key(0)
assert np.array_equal(jax.random.normal(key, (3,)), jax.random.normal(key, (3,)))

# %% [markdown]
# So a key must be used *once*. You can derive as many keys as you need from a single one: `jax.random.split(key, 3)`
# returns three, and `jax.random.fold_in(key, i)` returns the one with number $i$, which is handy in loops.
#
# ### Exercise 0.1 - two keys from one


# %%
def two_normals(key, n):
    """Two independent rows of n draws of N(0, 1).   key: a key;  n: int  ->  (n,), (n,)"""
    ### BEGIN SOLUTION
    first, second = jax.random.split(key)
    return jax.random.normal(first, (n,)), jax.random.normal(second, (n,))
    ### END SOLUTION


# %% [markdown]
# The two rows are uncorrelated. (The correlation of $n$ independent pairs has a standard error of $1/\sqrt n$; we
# allow six of those.) And a second call with the same key returns the same numbers.

# %%
x, y = two_normals(key, n)
assert abs(float(jnp.corrcoef(x, y)[0, 1])) < 6 / np.sqrt(n)
assert abs(float(x.mean())) < 6 / np.sqrt(n) and abs(float(x.var()) - 1) < 6 * np.sqrt(2 / n)
assert np.array_equal(two_normals(key, n)[1], y)
same = jax.random.normal(key, (n,)), jax.random.normal(key, (n,))  # the classic slip
assert np.array_equal(*same)

# %% [markdown]
# ## 3. Loops: scan
#
# A Python loop over a thousand steps is slow to compile, because all thousand are written out. `jax.lax.scan` compiles
# *one* step. It takes a function `(carry, x) -> (carry, y)`, the initial carry, and an array to loop over along its
# first axis; it returns the final carry and all the `y`, stacked.

# %%
total, running = jax.lax.scan(lambda carry, x: (carry + x, carry + x), 0.0, jnp.arange(5.0))
assert total == 10 and np.array_equal(running, [0, 1, 3, 6, 10])

# %% [markdown]
# ### Exercise 0.2 - a chain
# Start from $x_0 = 0$, and at each step shrink and add something: $x_t = a_t\,x_{t-1} + \varepsilon_t$. (Diffusion is
# such a **Markov chain**.) Return all of $x_1 \dots x_T$ with `jax.lax.scan`, which also loops over a tuple of arrays.


# %%
def chain(a, eps):
    """x_1…x_T of x_t = a_t x_{t-1} + ε_t, x_0 = 0.   a: (T,);  eps: (T, ...)  ->  (T, ...)"""

    ### BEGIN SOLUTION
    def step(x, a_eps):
        x = a_eps[0] * x + a_eps[1]
        return x, x

    return jax.lax.scan(step, jnp.zeros(eps.shape[1:]), (a, eps))[1]
    ### END SOLUTION


# %%
rng = np.random.default_rng(0)
a, eps = rng.uniform(0.8, 1, 50), rng.standard_normal((50, 3))
by_loop, x = [], np.zeros(3)
for t in range(50):
    x = a[t] * x + eps[t]
    by_loop.append(x)
assert np.allclose(chain(a, eps), by_loop, atol=1e-5)

# %% [markdown]
# ## 4. One becomes many: vmap
#
# Write the function for *one* image, and let `jax.vmap` turn it into a function of a batch. `in_axes` states for each
# argument which axis is the batch; `None` means that all images share the argument.
#
# ### Exercise 0.3 - a time for each image
# One noisy image is $\sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$ (Lesson 1). Compute it for a
# batch in which every image has a different time $t$, while all share the array of the $\bar\alpha$.


# %%
def noisy_batch(alpha_bar, x0, t, eps):
    """Each image at its own time, by vmap.   alpha_bar: (T+1,);  x0, eps: (B, ...);  t: (B,) int  ->  (B, ...)"""

    ### BEGIN SOLUTION
    def one(alpha_bar, x0, t, eps):
        return jnp.sqrt(alpha_bar[t]) * x0 + jnp.sqrt(1 - alpha_bar[t]) * eps

    return jax.vmap(one, in_axes=(None, 0, 0, 0))(alpha_bar, x0, t, eps)
    ### END SOLUTION


# %%
alpha_bar = jnp.linspace(1, 0, 11)
x0, eps, t = jnp.ones((4, 2, 3)), jnp.zeros((4, 2, 3)), jnp.array([0, 10, 5, 1])
assert np.allclose(noisy_batch(alpha_bar, x0, t, eps)[:, 0, 0], np.sqrt([1, 0, 0.5, 0.9]), atol=1e-6)

# %% [markdown]
# ## 5. Slopes: grad
#
# `jax.grad(f)` is the gradient of a function that returns one number. It comes from the chain rule (**automatic
# differentiation**), not from small differences, so it is exact up to rounding. The gradient of a log density, called
# the **score**, is what a diffusion model learns (Lesson 5). For $\mathcal N(\mu, v)$ the score is $-(x-\mu)/v$.


# %%
def log_two_lumps(x):
    """log of the mixture ½ N((-1.2, 0), .3 I) + ½ N((1.2, 0), .3 I), up to a constant.   x: (2,)  ->  ()"""
    left, right = jnp.array([-1.2, 0.0]), jnp.array([1.2, 0.0])
    return jnp.logaddexp(-((x - left) ** 2).sum() / 0.6, -((x - right) ** 2).sum() / 0.6)


slope = jax.grad(lambda x: -((x - 2.0) ** 2) / (2 * 0.5))
assert np.isclose(slope(3.0), -(3.0 - 2.0) / 0.5)
field = jax.jit(jax.vmap(jax.grad(log_two_lumps)))  # they compose: the gradient, at many points, compiled
assert np.allclose(field(jnp.array([[0.0, 1.0]])), [[0.0, -1.0 / 0.3]], atol=1e-4)  # between the lumps: only down
assert np.allclose(field(jnp.array([[9.0, 0.0]])), [[-(9.0 - 1.2) / 0.3, 0.0]], atol=1e-4)  # far out: one lump only

# %% [markdown]
# ## 6. When does it compile?
#
# `jax.jit(f)` **traces** `f`: it runs the Python code *once*, with placeholders in place of numbers, records the
# operations, and compiles the record. Called again with the same shapes and types, it runs the compiled code and no
# Python. So a `print` in it prints once, an `if` on a value cannot work, and new *numbers* cost nothing; new shapes do.
#
# ### Exercise 0.4 - a bet
# The cell below calls a compiled function six times. **Before you run it:** how often does its Python code run?


# %%
def times_traced():
    """Your bet.   ->  a number"""
    ### BEGIN SOLUTION
    return 3
    ### END SOLUTION


# %%
traced = []


@jax.jit
def double(x):
    traced.append(x.shape)  # plain Python: it runs only while JAX traces
    return 2 * x


for argument in (jnp.ones(3), jnp.zeros(3), jnp.ones(4), jnp.ones(3), jnp.ones(3, int), jnp.ones(4)):
    double(argument)
assert len(traced) == 3  # (3,) floats; (4,) floats; (3,) whole numbers
len(traced)

# %% [markdown]
# One more habit: JAX hands out promises (**asynchronous dispatch**), and a call returns before the work is done. To
# measure its time, wait for the result with `.block_until_ready()`, and time the second call: the first one compiles.
#
# ## 7. The picture
#
# Left: the chain of Exercise 0.2, by `scan`, for sixty walkers at once, with the exact band of two standard deviations.
# Middle: a field of gradients, by `grad` and `vmap`. Right: pairs of draws with two keys, and with one key used twice.

# %%
steps, keep = 120, 0.97
shocks = np.sqrt(1 - keep**2) * jax.random.normal(jax.random.key(1), (steps, 60))
walks = np.asarray(chain(jnp.full(steps, keep), shocks))  # (120, 60)
variance = 1 - keep ** (2 * np.arange(1, steps + 1))  # exactly: v ← a² v + 1 - a²
assert walks.shape == (steps, 60)  # sixty walkers
many = chain(jnp.full(steps, keep), np.sqrt(1 - keep**2) * jax.random.normal(jax.random.key(2), (steps, n)))
assert np.all(np.abs(np.asarray(many).var(1) / variance - 1) < 6 * np.sqrt(2 / n))


# %%
def draw_field(axis):
    """The density of the two lumps, and the gradient of its logarithm."""
    u, v = np.meshgrid(np.linspace(-3, 3, 121), np.linspace(-2.4, 2.4, 121))
    density = np.exp(jax.vmap(log_two_lumps)(jnp.stack([u.ravel(), v.ravel()], 1))).reshape(u.shape)
    axis.contourf(u, v, density, 12, cmap="Blues")
    points = np.stack(np.meshgrid(np.linspace(-2.8, 2.8, 15), np.linspace(-2.2, 2.2, 12)), -1).reshape(-1, 2)
    arrows = np.asarray(field(jnp.asarray(points, jnp.float32)))
    arrows = arrows / np.linalg.norm(arrows, axis=1, keepdims=True) ** 0.5
    axis.quiver(*points.T, *arrows.T, color="#b5523b", width=0.004)
    axis.set(xticks=[], yticks=[], aspect="equal", title="grad, vmap: slopes of a log density")


def picture():
    """The figure of this lesson."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.1), layout="constrained", width_ratios=[1.3, 1.2, 1])
    axes[0].plot(walks, color="#1f4e79", lw=0.6, alpha=0.45)
    axes[0].plot(2 * np.sqrt(variance), color="#b5523b", lw=1.8, label="exact: two standard deviations")
    axes[0].plot(-2 * np.sqrt(variance), color="#b5523b", lw=1.8)
    axes[0].set(xlabel="$t$", xlim=(0, steps - 1), ylim=(-3.4, 3.4), title=r"scan: $x_t = a\,x_{t-1} + \varepsilon_t$")
    axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    draw_field(axes[1])
    axes[2].scatter(*(np.asarray(r[:1500]) for r in two_normals(key, n)), s=3, color="#1f4e79", alpha=0.6, lw=0)
    axes[2].scatter(*(np.asarray(r[:1500]) for r in same), s=3, color="#b5523b", lw=0)
    axes[2].set(xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal", title="two keys (blue), one key twice (red)")
    return figure


# %%
if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture().savefig(out / "l00.png", dpi=150)
    numbers = {"traced": len(traced), "final_variance": float(np.asarray(many)[-1].var()), "n": n, "budget": BUDGET}
    (out / "l00.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(f"L0: six calls, {len(traced)} compilations. out/l00.png")

# %% [markdown]
# ## What to take along
#
# - Use a key once, and split it when you need more. The same key gives the same numbers.
# - Use `scan` for loops, `vmap` for batches, `grad` for gradients, and `jit` around it all. They compose.
# - JAX compiles again for new shapes and types, not for new numbers.
#
# ## Further reading
#
# - *JAX: The Sharp Bits*, in the documentation of JAX. All the traps on one page.
# - Salmon et al. 2011, *Parallel Random Numbers: As Easy as 1, 2, 3*. Why a key is enough.
