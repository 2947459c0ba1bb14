"""Lesson 18, the U-Net by hand: the truth of its six exercises, and the mistakes that have a name."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from ddpm.course.exercise import exercise, formula, identity

# ------------------------------------------------------------------------------------------- inputs, by seed


def kernels(rng):
    """(x, kernel, bias): kernels of 3 places and of 1, images that are not square"""
    out = []
    for (B, H, W, I, O), k in (((2, 4, 5, 3, 2), 3), ((1, 3, 2, 2, 4), 1)):
        out.append((rng.normal(size=(B, H, W, I)), rng.normal(size=(k, k, I, O)), rng.normal(size=O)))
    return out


def layer(rng, k, i, o):
    """The parameters of a convolution (k places) or of a linear map (k = 0)"""
    return {"kernel": rng.normal(size=(k, k, i, o)[-2 if k == 0 else 0 :]), "bias": rng.normal(size=o)}


def norm_of(rng, channels):
    """Scale and bias"""
    return {"scale": rng.normal(size=channels), "bias": rng.normal(size=channels)}


def normed(rng):
    """(p, x, groups): images with means of their own"""
    out = []
    for (B, H, W, C), groups in (((3, 4, 3, 6), 3), ((2, 3, 3, 8), 2)):
        x = rng.normal(size=(B, H, W, C)) * rng.uniform(0.5, 2, C) + rng.normal(size=(B, 1, 1, C))
        out.append((norm_of(rng, C), x, groups))
    return out


def blocks(rng):
    """(p, x, e, groups): as many channels as before, and more"""
    out = []
    for (B, H, W), i, o, d in (((2, 3, 4), 4, 4, 3), ((3, 2, 3), 4, 6, 5)):
        p = {"norm1": norm_of(rng, i), "conv1": layer(rng, 3, i, o), "time_emb_proj": layer(rng, 0, d, o)}
        p |= {"norm2": norm_of(rng, o), "conv2": layer(rng, 3, o, o)}
        p |= {"conv_shortcut": layer(rng, 1, i, o)} if i != o else {}
        out.append((p, rng.normal(size=(B, H, W, i)), rng.normal(size=(B, d)), 2))
    return out


def looks(rng):
    """(p, x, groups) of attention"""
    out = []
    for (B, H, W, C), groups in (((2, 2, 3, 4), 2), ((1, 3, 3, 6), 3)):
        p = {name: layer(rng, 0, C, C) for name in ("to_q", "to_k", "to_v")}
        p |= {"group_norm": norm_of(rng, C), "to_out": [layer(rng, 0, C, C)]}
        out.append((p, rng.normal(size=(B, H, W, C)), groups))
    return out


def halves(rng):
    """(p, x), of even height and width"""
    return [(layer(rng, 3, C, C), rng.normal(size=(B, H, W, C))) for B, H, W, C in ((2, 4, 6, 3), (1, 2, 4, 2))]


def towers(rng):
    """(h, downs, middle, ups): stand-ins for the blocks, some of which join and some of which do not"""
    out = []
    for channels, joins in ((2, (1, 1, 0, 1)), (3, (1, 0, 1, 1, 1)), (1, (1, 1))):
        a = iter(rng.normal(size=20))
        downs = [partial(block, next(a), channels) for _ in range(sum(joins) - 1)]
        ups = [(partial(block, next(a), channels), bool(j)) for j in joins]
        out.append((rng.normal(size=(2, 2, 3, channels)), downs, partial(block, next(a), channels), ups))
    return out


def block(a, channels, x):
    """x W + a with any number of channels of x: a stand-in for a block of the network"""
    weights = np.cos(np.arange(1.0, x.shape[-1] * channels + 1)).reshape(x.shape[-1], channels)
    return x @ weights + a


# ------------------------------------------------------------------------------------------- truths


def convolve(x, kernel, bias, at=lambda a: a, outside=0.0, turned=False):
    """Place by place, by the sum over the neighbourhood"""
    (B, H, W, _), k = x.shape, len(kernel)
    r = k // 2
    kernel = kernel.swapaxes(0, 1) if turned else kernel
    out = np.tile(np.asarray(bias, np.float64), (B, H, W, 1))
    for h, w, i, j in np.ndindex(H, W, k, k):
        a, b = h + at(i - r), w + at(j - r)
        inside = 0 <= a < H and 0 <= b < W
        if inside or outside == "around":
            out[:, h, w] += x[:, a % H, b % W] @ kernel[i, j]
        elif outside == "edge":
            out[:, h, w] += x[:, min(max(a, 0), H - 1), min(max(b, 0), W - 1)] @ kernel[i, j]
    return out


def conv(p, x):
    """The same with a dict"""
    return convolve(x, p["kernel"], p["bias"])


def linear(p, x):
    """x W + b"""
    return x @ p["kernel"] + p["bias"]


def silu(a):
    """a σ(a)"""
    return a / (1 + np.exp(-a))


def group_norm(p, x, groups, axes="places and channels", ddof=0, size=np.sqrt, order="scale, bias", interleaved=False):
    """Image by image, group by group"""
    out, width = np.empty_like(x), x.shape[-1] // groups
    for g in range(groups):
        channels = np.arange(g, x.shape[-1], groups) if interleaved else np.arange(g * width, (g + 1) * width)
        a = x[..., channels]
        over = {"places and channels": (1, 2, 3), "batch too": None, "places": (1, 2), "channels": (3,)}[axes]
        centred = a - a.mean(over, keepdims=True)
        out[..., channels] = centred / size(a.var(over, ddof=ddof, keepdims=True) + 1e-6)
    return (out + p["bias"]) * p["scale"] if order == "bias, scale" else out * p["scale"] + p["bias"]


def res_block(p, x, e, groups, skip=True, bend=silu, time=silu, where="before norm2", first=group_norm):
    """conv(silu(norm(·))) twice, the time between them"""
    h = conv(p["conv1"], bend(first(p["norm1"], x, groups)))
    shift = linear(p["time_emb_proj"], time(e))[:, None, None]
    h = h + shift if where == "before norm2" else h
    h = group_norm(p["norm2"], h, groups)
    h = h + shift if where == "after norm2" else h
    h = conv(p["conv2"], bend(h))
    if not skip:
        return h
    return h + (conv(p["conv_shortcut"], x) if "conv_shortcut" in p else x)


def attention(p, x, groups, scale=math.sqrt, over=1, skip=True, out=True, norm=True, swap=False):
    """Query by query"""
    B, H, W, C = x.shape
    h = (group_norm(p["group_norm"], x, groups) if norm else x).reshape(B, H * W, C)
    q, k, v = (linear(p[name], h) for name in ("to_q", "to_k", "to_v"))
    q, k = (k, q) if swap else (q, k)
    y = np.empty_like(h)
    for b in range(B):
        table = q[b] @ k[b].T / scale(C)
        weights = np.exp(table - table.max(over, keepdims=True))
        y[b] = weights / weights.sum(over, keepdims=True) @ v[b]
    y = (linear(p["to_out"][0], y) if out else y).reshape(x.shape)
    return x + y if skip else y


def down(p, x):
    """Output i has the inputs 2i, 2i+1 and 2i+2; what lies beyond the image is 0"""
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    out = np.tile(p["bias"], (len(x), x.shape[1] // 2, x.shape[2] // 2, 1)).astype(np.float64)
    for h, w, i, j in np.ndindex(*out.shape[1:3], 3, 3):
        out[:, h, w] += padded[:, 2 * h + i, 2 * w + j] @ p["kernel"][i, j]
    return out


def enlarged(x):
    """Each number as a block of four"""
    B, H, W, C = x.shape
    return np.broadcast_to(x[:, :, None, :, None], (B, H, 2, W, 2, C)).reshape(B, 2 * H, 2 * W, C)


def spread_out(x):
    """Zeros between the numbers"""
    out = np.zeros((len(x), 2 * x.shape[1], 2 * x.shape[2], x.shape[3]))
    out[:, ::2, ::2] = x
    return out


def u_shape(h, downs, middle, ups, take=lambda n, i: n - 1 - i, swap=False, first=True, bridge=True, after=True):
    """By the number of the skip: the i-th that joins gets number n-1-i"""
    kept = [h] if first else []
    for f in downs:
        if not after:
            kept.append(h)
        h = f(h)
        if after:
            kept.append(h)
    n, i = len(kept), 0
    h = middle(h) if bridge else h
    for f, joins in ups:
        if joins:
            pair = [h, kept[take(n, i)]]
            h, i = np.concatenate(pair[::-1] if swap else pair, -1), i + 1
        h = f(h)
    return h


EXERCISES = (
    exercise(
        "18.1",
        formula(
            "convolve",
            convolve,
            kernels,
            {
                "The kernel is flipped, as in mathematics; here x_{h+i-r} belongs to K_i.": lambda *a: convolve(
                    *a, at=lambda i: -i
                ),
                "Rows and columns of the kernel are swapped: i counts rows.": lambda *a: convolve(*a, turned=True),
                "The bias is missing.": lambda x, k, b: convolve(x, k, 0 * b),
                "The image is continued with its other side; outside it is 0.": lambda *a: convolve(
                    *a, outside="around"
                ),
                "The image is continued with its border; outside it is 0.": lambda *a: convolve(*a, outside="edge"),
                "The bias was added once for every place of the kernel; it is added once.": lambda x, k, b: convolve(
                    x, k, b * len(k) ** 2
                ),
                "Only the middle of the kernel was used.": lambda x, k, b: x @ k[len(k) // 2, len(k) // 2] + b,
            },
            rtol=1e-3,
            atol=1e-5,
            traceable=True,
        ),
        hints=(
            "With zeros around the image, the place (h+i-r, w+j-r) of x is the place (h+i, w+j) of the padded one.",
            "For one (i, j) all places at once: a slice of height H and width W that begins at (i, j).",
            "A slice (B, H, W, I) times a matrix (I, O) is what `@` does. Add up k² of them, and the bias once.",
        ),
    ),
    exercise(
        "18.2",
        formula(
            "group_norm",
            group_norm,
            normed,
            {
                "The statistics go over the batch too; each image has its own.": lambda *a: group_norm(
                    *a, axes="batch too"
                ),
                "Each channel was normalised alone; the channels of a group share mean and deviation.": lambda *a: (
                    group_norm(*a, axes="places")
                ),
                "Each place was normalised alone; all places of the image belong together.": lambda *a: group_norm(
                    *a, axes="channels"
                ),
                "All channels are one group here.": lambda p, x, groups: group_norm(p, x, 1),
                "`groups` is the number of groups, not the number of channels in one.": lambda p, x, groups: group_norm(
                    p, x, x.shape[-1] // groups
                ),
                "A group has neighbouring channels; here every groups-th channel is in it.": lambda *a: group_norm(
                    *a, interleaved=True
                ),
                "Divided by the variance; it is divided by its root.": lambda *a: group_norm(*a, size=lambda v: v),
                "The bias was added before the scale.": lambda *a: group_norm(*a, order="bias, scale"),
                "Scale and bias are missing.": lambda p, x, groups: group_norm({"scale": 1.0, "bias": 0.0}, x, groups),
                "The variance has n-1 below; here it is the plain mean of the squares.": lambda *a: group_norm(
                    *a, ddof=1
                ),
            },
            rtol=1e-3,
            atol=1e-4,
            traceable=True,
        ),
        identity(
            "group_norm",
            lambda f, p, x, groups: np.asarray(f(p, 3 * x + 2, groups)) - np.asarray(f(p, x, groups)),
            lambda p, x, groups: np.zeros_like(x),  # contrast and brightness do not matter
            normed,
            atol=1e-3,
        ),
        hints=(
            "reshape the channels to (groups, C / groups): neighbours stay together.",
            "Mean over the places, then over the second of these two axes; then each mean C/groups times (jnp.repeat).",
            "The variance is the same mean, of the squares of the centred image.",
        ),
    ),
    exercise(
        "18.3",
        formula(
            "res_block",
            res_block,
            blocks,
            {
                "The skip is missing: the block adds to x.": lambda *a: res_block(*a, skip=False),
                "The time was left out.": lambda p, x, e, g: res_block(
                    p | {"time_emb_proj": {k: 0 * v for k, v in p["time_emb_proj"].items()}}, x, e, g
                ),
                "e goes through silu before the linear map.": lambda *a: res_block(*a, time=lambda e: e),
                "The time was added after the second norm; it comes before it.": lambda *a: res_block(
                    *a, where="after norm2"
                ),
                "There is no bend in it: without silu the block is almost linear.": lambda *a: res_block(
                    *a, bend=lambda h: h
                ),
                "This bend is relu; the block has silu.": lambda *a: res_block(*a, bend=lambda h: np.maximum(h, 0)),
                "The first norm is missing.": lambda *a: res_block(*a, first=lambda p, x, groups: x),
            },
            rtol=2e-3,
            atol=1e-3,
            traceable=True,
        ),
        hints=(
            "Three lines, one for each arrow: norm, silu and convolution; the time; norm, silu and convolution.",
            "linear(p, silu(e)) is (B, O); [:, None, None] makes it (B, 1, 1, O).",
            'If "conv_shortcut" is among the parameters, x goes through it before it is added.',
        ),
    ),
    exercise(
        "18.4",
        formula(
            "attention",
            attention,
            looks,
            {
                "The root of C is missing below q·k.": lambda *a: attention(*a, scale=lambda C: 1.0),
                "q·k is divided by C; it is divided by its root.": lambda *a: attention(*a, scale=lambda C: C),
                "The softmax goes over the queries; each query spreads over all keys.": lambda *a: attention(
                    *a, over=0
                ),
                "The skip is missing: attention adds to x.": lambda *a: attention(*a, skip=False),
                "W_o is missing.": lambda *a: attention(*a, out=False),
                "The image was not normalised before q, k and v.": lambda *a: attention(*a, norm=False),
                "Queries and keys are swapped.": lambda *a: attention(*a, swap=True),
            },
            rtol=2e-3,
            atol=1e-3,
            traceable=True,
        ),
        hints=(
            "Norm, then (B, HW, C), then three linear maps.",
            "q @ k.transpose(0, 2, 1) is the table (B, HW, HW); rows are queries.",
            "A row of the table becomes weights that sum to one. Then: weights times v, the last map, and x is added.",
        ),
    ),
    exercise(
        "18.5",
        formula(
            "down",
            down,
            halves,
            {
                "The even places were kept, as with zeros on all four sides; here it is the odd ones.": lambda p, x: (
                    conv(p, x)[:, ::2, ::2]
                ),
                "The image was halved before the convolution; then three quarters of it are never seen.": (
                    lambda p, x: conv(p, x[:, 1::2, 1::2])
                ),
                "Blocks were averaged; here the convolution is kept at every second place.": lambda p, x: (
                    conv(p, x).reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).mean((2, 4))
                ),
            },
            rtol=1e-3,
            atol=1e-4,
            traceable=True,
        ),
        formula(
            "up",
            lambda p, x: conv(p, enlarged(x)),
            halves,
            {
                "The convolution came first; it is there to smooth the blocks.": lambda p, x: enlarged(conv(p, x)),
                "Zeros were put between the numbers; each number becomes a block of four equal ones.": lambda p, x: (
                    conv(p, spread_out(x))
                ),
                "The image was repeated as a whole, side by side; each number is repeated.": lambda p, x: conv(
                    p, np.tile(x, (1, 2, 2, 1))
                ),
                "The convolution is missing.": lambda p, x: enlarged(x),
            },
            rtol=1e-3,
            atol=1e-4,
            traceable=True,
        ),
        hints=(
            "a[:, 1::2] is every second row, from row 1 on.",
            "jnp.repeat(x, 2, axis=1) repeats each row; the same for the columns.",
        ),
    ),
    exercise(
        "18.6",
        formula(
            "u_shape",
            u_shape,
            towers,
            {
                "The first that was kept comes first; the last one fits: it has the same size.": lambda *a: u_shape(
                    *a, take=lambda n, i: i
                ),
                "The kept image stands before h; it is appended behind.": lambda *a: u_shape(*a, swap=True),
                "The middle is missing.": lambda *a: u_shape(*a, bridge=False),
                "The last kept image is always the same one; take it off the stack (pop).": lambda *a: u_shape(
                    *a, take=lambda n, i: n - 1
                ),
                "h itself, before the first step, is kept too; without it the stack is empty at the end.": (
                    lambda *a: u_shape(*a, first=False)
                ),
            },
            rtol=1e-3,
            atol=1e-4,
        ),
        hints=(
            "A list with h in it; on the way down each result is appended to it.",
            "list.pop() takes off the last.",
            "jnp.concatenate([h, …], axis=-1) where `joins` is true, and then the function.",
        ),
    ),
)
