"""Lesson 17, CIFAR-10: the truth of its nine exercises, and the mistakes that have a name."""

from __future__ import annotations

import math

import numpy as np

from ddpm.course.exercise import count, exercise, formula, identity, prediction, spot_the_bug

# ------------------------------------------------------------------------------------------- inputs, by seed


def blocks(rng):
    """(c_in, c_out, d), widths equal and not"""
    a, b, d = (int(v) for v in rng.integers(3, 40, 3))
    return [(a, a + b, d), (a + b, a, d), (b, b, d), (128, 256, 512)]


def designs(rng):
    """(channels, multipliers, blocks)"""
    return [
        (int(rng.integers(3, 30)), (1, 2, 2, 2), 2),
        (int(rng.integers(3, 30)), (1, 3), int(rng.integers(1, 4))),
        (int(rng.integers(3, 30)), (2, 3, 5), 1),
        (7, (1,), 3),
    ]


def convolutions(rng):
    """(size, c_in, c_out, k, p)"""
    return [
        (int(p * rng.integers(5, 12)), int(rng.integers(3, 20)), int(rng.integers(3, 20)), k, p)
        for k, p in ((3, 2), (5, 3), (1, 4), (3, 1))
    ]


def variances(rng):
    """(λ, ᾱ)"""
    return [
        (rng.exponential(size=D), np.sort(rng.uniform(0.05, 0.95, T))[::-1].copy())
        for D, T in ((5, 7), (12, 3), (1, 4))
    ]


def pictures(rng):
    """Grey images, with a mean"""
    return [(rng.normal(size=s) + 0.5,) for s in ((3, 6, 8), (5, 7, 5), (2, 4, 9))]


def captioned(rng):
    """(images, captions, coins, left, right)"""
    out = []
    for B, H, W, C, L in ((4, 5, 6, 3, 7), (6, 6, 6, 6, 5), (3, 4, 7, 1, 9)):
        left, right = (int(v) for v in rng.choice(9, 2, replace=False))
        words = rng.integers(0, 9, (B, L))
        words[:, 0], words[:, 1] = left, right
        coin = np.arange(B) % 2 == int(rng.integers(0, 2))
        out.append((rng.normal(size=(B, H, W, C)), rng.permuted(words, axis=1), coin, left, right))
    return out


def colours(rng):
    """Two sets of images of different colours and sizes"""
    out = []
    for n, m, H, W in ((3, 5, 4, 6), (2, 2, 3, 3)):
        scale, shift = rng.uniform(0.5, 2, 3), rng.normal(size=3)
        out.append((rng.normal(size=(n, H, W, 3)), scale * rng.normal(size=(m, H, W, 3)) + shift))
    return out


def tensors(rng):
    """Kernels, linear layers (square ones too), biases"""
    return [
        (rng.normal(size=s),) for s in ((5, 4, 3, 3), (4, 4, 3, 3), (3, 3, 3, 3), (6, 2), (5, 5), (7,), (2, 3, 1, 1))
    ]


def times(rng):
    """(ᾱ of levels 0…T-1, t), with the levels 0, 1 and the last among them"""
    out = []
    for T, B in ((9, 5), (20, 8)):
        t = rng.permutation(np.concatenate([[0, 1, T - 1], rng.integers(0, T, B - 3)]))
        out.append((np.cumprod(rng.uniform(0.7, 0.95, T)), t))
    return out


# ------------------------------------------------------------------------------------------- truths


def block(c_in, c_out, d, bias=1, norms=True, time=True, shortcut="1x1", second=None):
    """Layer by layer."""
    total = (2 * c_in + 2 * (c_out if second is None else second(c_in, c_out))) if norms else 0
    total += 3 * 3 * c_in * c_out + bias * c_out  # the first convolution
    total += 3 * 3 * c_out * c_out + bias * c_out  # the second
    if time:
        total += d * c_out + bias * c_out
    if shortcut == "always" or (shortcut != "never" and c_in != c_out):
        total += c_in * c_out * (9 if shortcut == "3x3" else 1) + bias * c_out
    return total


def stack(channels, multipliers, n, first=True, halvings="between", one_more=0, next_width=False):
    """Level by level."""
    out = [channels] if first else []
    for i, m in enumerate(multipliers):
        out.extend(channels * m for _ in range(n + one_more))
        last = i + 1 == len(multipliers)
        if halvings == "all" or (halvings == "between" and not last):
            out.append(channels * (multipliers[i + 1] if next_width and not last else m))
    return np.array(out)


def conv(size, c_in, c_out, k, p, per=2, fold=lambda size, p: (size / p) ** 2, kernel=lambda k: k * k):
    """Positions times products times two."""
    return round(per * fold(size, p) * kernel(k) * c_in * c_out)


def linear(lam, alpha_bar, of=lambda a, v: a * v / (a * v + 1 - a), together=np.mean):
    """Time by time, direction by direction."""
    return np.array([together([of(a, v) for v in lam]) for a in alpha_bar])


def power(x, size=lambda z: abs(z) ** 2, norm=lambda H, W: math.sqrt(H * W), centre=False):
    """By the sum over pixels, wave by wave."""
    n, H, W = x.shape
    rows = np.exp(-2j * math.pi * np.outer(np.arange(H), np.arange(H)) / H)
    columns = np.exp(-2j * math.pi * np.outer(np.arange(W), np.arange(W)) / W)
    if centre:
        x = x - x.mean((1, 2), keepdims=True)
    return sum(size(rows @ image @ columns / norm(H, W)) for image in x) / n


def mirror(x, captions, coin, left, right, axis=1, which=None, words="both"):
    """Image by image."""
    new, changed = np.array(x), np.array(captions)
    for i in range(len(x)):
        if (coin if which is None else which)[i]:
            new[i] = np.flip(x[i], axis)
            if words == "both":
                changed[i] = [right if w == left else left if w == right else w for w in captions[i]]
            elif words == "one after the other":
                changed[i] = np.where(captions[i] == left, right, captions[i])
                changed[i] = np.where(changed[i] == right, left, changed[i])
            elif words == "reversed":
                changed[i] = captions[i][::-1]
    return new, changed


def all_captions(x, captions, coin, left, right):
    """Images where the coin is true, words everywhere"""
    everywhere = np.ones(len(x), bool)
    return mirror(x, captions, coin, left, right)[0], mirror(x, captions, everywhere, left, right)[1]


def colour_distance(x, y, spread=np.std, gap=lambda d: d**2, mean=True):
    """Colour by colour, all pixels in one heap."""
    out = []
    for c in range(x.shape[-1]):
        p, q = x[..., c].ravel(), y[..., c].ravel()
        out.append((gap(p.mean() - q.mean()) if mean else 0.0) + gap(spread(p) - spread(q)))
    return np.array(out)


def to_ours(a, four=(2, 3, 1, 0), two=True):
    """Entry by entry."""
    if a.ndim == 4:
        return np.transpose(a, four)
    return np.array([[a[i, j] for i in range(a.shape[0])] for j in range(a.shape[1])]) if a.ndim == 2 and two else a


def previous(alpha_bar, t):
    """One after the other."""
    return np.array([1.0 if k == 0 else alpha_bar[k - 1] for k in t])


EXERCISES = (
    exercise(
        "17.1",
        count(
            "block_parameters",
            block,
            blocks,
            {
                "The biases are missing: one for each output of every convolution and linear layer.": lambda *a: block(
                    *a, bias=0
                ),
                "The shortcut's convolution is there only if the widths differ.": lambda *a: block(
                    *a, shortcut="always"
                ),
                "The shortcut is missing where the widths differ.": lambda *a: block(*a, shortcut="never"),
                "The shortcut is a convolution of 1 × 1, not of 3 × 3.": lambda *a: block(*a, shortcut="3x3"),
                "The norms are missing: a scale and a shift for each channel.": lambda *a: block(*a, norms=False),
                "The time's linear layer is missing.": lambda *a: block(*a, time=False),
                "The second norm comes after the first convolution: it has c_out channels.": lambda *a: block(
                    *a, second=lambda i, o: i
                ),
            },
        ),
        hints=(
            "Go through the formula from the inside out: norm, convolution, time, norm, convolution, shortcut.",
            "A 3 × 3 convolution has 9 weights for each pair of channels, and a bias for each output.",
            "Does the shortcut need parameters, if c_in = c_out?",
        ),
    ),
    exercise(
        "17.2",
        count(
            "stack_widths",
            stack,
            designs,
            {
                "The first convolution's output is missing; it is the bottom of the stack.": lambda *a: stack(
                    *a, first=False
                ),
                "The halvings are missing: their outputs are kept too.": lambda *a: stack(*a, halvings="none"),
                "The last level is not halved.": lambda *a: stack(*a, halvings="all"),
                "There is one block too many a level; that is the way up.": lambda *a: stack(*a, one_more=1),
                "The halving has the next level's width; it belongs to the level that it ends.": lambda *a: stack(
                    *a, next_width=True
                ),
                "The order is upside down: this is how they are taken, not how they are put.": lambda *a: stack(*a)[
                    ::-1
                ],
                "These are the multipliers; a width is the multiplier times the channels.": lambda c, m, n: (
                    stack(c, m, n) // c
                ),
            },
        ),
        prediction(
            "attention_layers",
            6.0,
            0.4,
            {
                "Two blocks down, one in the middle: and the way up, which has one block more?": 3.0,
                "Either the one in the middle was left out, or the third block on the way up.": 5.0,
                "Two levels have none: attention stands at one size only, besides the middle.": 21.0,
            },
        ),
        hints=(
            "It begins with one that belongs to no level.",
            "Each level: its blocks, then its halving, if it is not the last.",
            "For the bet: behind every block at 16 × 16, on both ways. How many blocks has a level on the way up?",
        ),
    ),
    exercise(
        "17.3",
        count(
            "conv_flops",
            conv,
            convolutions,
            {
                "A product and a sum are two operations; the factor 2 is missing.": lambda *a: conv(*a, per=1),
                "The folding was left out: there are p² times fewer positions.": lambda *a: conv(
                    *a, fold=lambda size, p: size**2
                ),
                "An image has two directions: p² times fewer positions, not p times.": lambda *a: conv(
                    *a, fold=lambda size, p: size**2 / p
                ),
                "The kernel has k² places, not k.": lambda *a: conv(*a, kernel=lambda k: k),
                "The positions are missing: this is for one of them.": lambda *a: conv(*a, fold=lambda size, p: 1),
                "The image has size × size pixels, not size.": lambda *a: conv(*a, fold=lambda size, p: size / p),
            },
        ),
        prediction(
            "cheaper_by",
            65.2,
            14.0,
            {
                "As many as parameters? The parameters are not used equally often: look at the positions.": 35.0,
                "35 × 4 for parameters and folding; but the paper's net has most parameters at small sizes.": (140.0),
            },
        ),
        hints=(
            "How many positions are there after the folding?",
            "For each position and output channel k² c_in products, and as many sums.",
            "For the bet: ours has no level below 8 × 8, the paper's has two, with most of its parameters.",
        ),
    ),
    exercise(
        "17.4",
        formula(
            "linear_loss",
            linear,
            variances,
            {
                "This is the other share; the noise is hard to guess where there is much image.": (
                    lambda v, a: linear(v, a, lambda a, v: (1 - a) / (a * v + 1 - a))
                ),
                "ᾱ is missing above: the signal at time t has the variance ᾱλ.": lambda v, a: linear(
                    v, a, lambda a, v: v / (a * v + 1 - a)
                ),
                "The noise has the variance 1-ᾱ, not 1.": lambda v, a: linear(v, a, lambda a, v: a * v / (a * v + 1)),
                "Summed over the directions; the loss is their mean.": lambda v, a: linear(v, a, together=np.sum),
                "The λ were averaged first; the loss is the mean over directions, each with its own λ.": lambda v, a: (
                    linear([v.mean()], a)
                ),
                "λ is a variance, not a standard deviation: no square.": lambda v, a: linear(
                    v, a, lambda a, v: a * v**2 / (a * v**2 + 1 - a)
                ),
            },
        ),
        hints=(
            "Give alpha_bar an axis for the directions, then everything is one formula of shape (T, D).",
            "The signal's variance over that of signal and noise together; then the mean over one axis. Which?",
        ),
    ),
    exercise(
        "17.5",
        formula(
            "power",
            power,
            pictures,
            {
                "The frequencies were shifted, with 0 in the middle; here they are as np.fft gives them.": lambda x: (
                    np.fft.fftshift(power(x))
                ),
                "The mean image was transformed; take the mean of the powers, after the squares.": lambda x: power(
                    x.mean(0, keepdims=True)
                ),
                "The transform is not orthonormal: its size is wrong by the root of HW.": (
                    lambda x: power(x, norm=lambda H, W: 1.0)
                ),
                "Divided by HW instead of its root: squared, that is HW too much.": lambda x: power(
                    x, norm=lambda H, W: H * W
                ),
                "This is the mean amplitude; power is its square.": lambda x: power(x, size=abs),
                "This is the square of the mean size; take the mean of the squares.": lambda x: power(x, size=abs) ** 2,
                "Only the real part was squared; a wave has two phases.": lambda x: power(x, size=lambda z: z.real**2),
                "The mean of each image was taken away; that is a wave as well, the one of frequency 0.": lambda x: (
                    power(x, centre=True)
                ),
                "Summed over the images; take the mean.": lambda x: power(x) * len(x),
            },
            rtol=1e-3,
            atol=1e-5,
        ),
        identity("power", lambda f, x: np.mean(f(x)), lambda x: np.mean(x**2), pictures),
        hints=(
            'np.fft.fft2 works on the last two axes; norm="ortho" makes it a rotation.',
            "The squared size of complex numbers, then the mean over the images.",
        ),
    ),
    exercise(
        "17.6",
        formula(
            "mirror",
            mirror,
            captioned,
            {
                "Upside down: axes are images, rows, columns, colours. Left and right are columns.": lambda *a: mirror(
                    *a, axis=0
                ),
                "The colours were turned round, not the columns.": lambda *a: mirror(*a, axis=2),
                "All images were flipped; only those whose coin is true.": lambda *a: mirror(
                    *a, which=np.ones(len(a[0]), bool)
                ),
                "The coins were read the other way round.": lambda *a: mirror(*a, which=~a[2]),
                "The captions still say what was true before.": lambda *a: mirror(*a, words="as before"),
                "All captions were changed, also of images that were not.": all_captions,
                "One after the other: what became `right` turned back to `left`. Decide both from the old words.": (
                    lambda *a: mirror(*a, words="one after the other")
                ),
                "The caption was read backwards; only the two words change places.": lambda *a: mirror(
                    *a, words="reversed"
                ),
            },
        ),
        hints=(
            "x[:, :, ::-1] turns the columns round. np.where chooses, if the coin has the axes for it.",
            "One np.where inside another: left to right, right to left, else as it was.",
        ),
    ),
    exercise(
        "17.7",
        formula(
            "colour_distance",
            colour_distance,
            colours,
            {
                "Variances were compared; the distance is between standard deviations.": lambda x, y: colour_distance(
                    x, y, spread=lambda p: np.sqrt(np.var(p)) * np.sqrt(np.var(p))
                ),
                "The means are missing: a tint would not be seen.": lambda x, y: colour_distance(x, y, mean=False),
                "The differences are not squared.": lambda x, y: colour_distance(x, y, gap=abs),
                "The standard deviation of each image was taken, and its mean; all pixels belong in one heap.": (
                    lambda x, y: (
                        (x.mean((0, 1, 2)) - y.mean((0, 1, 2))) ** 2
                        + (x.std((1, 2)).mean(0) - y.std((1, 2)).mean(0)) ** 2
                    )
                ),
                "The sum over the colours; the exercise asks for one number for each.": lambda x, y: colour_distance(
                    x, y
                ).sum(),
                "The roots at the end are too much: it is the square of a distance.": lambda x, y: np.sqrt(
                    colour_distance(x, y)
                ),
            },
        ),
        hints=(
            "mean and std take several axes at once: all but the last.",
            "Differences first, squares next, then the sum of the two.",
        ),
    ),
    exercise(
        "17.8",
        formula(
            "to_ours",
            to_ours,
            tensors,
            {
                "In and out are still in their order: ours is (h, w, in, out).": lambda a: to_ours(
                    a, four=(2, 3, 0, 1)
                ),
                "Height and width are swapped: every kernel is mirrored along its diagonal.": lambda a: to_ours(
                    a, four=(3, 2, 1, 0)
                ),
                "`reshape` changes the shape and leaves the numbers where they are; axes are moved by a transpose.": (
                    lambda a: a.reshape(to_ours(a).shape)
                ),
                "Linear layers were left as they are; theirs are (out, in).": lambda a: to_ours(a, two=False),
                "Square layers were left alone because their shape fits; their axes are swapped too.": lambda a: (
                    to_ours(a, two=a.ndim == 2 and a.shape[0] != a.shape[1])
                ),
                "The kernel was turned round; both frameworks count its places from the upper left.": lambda a: (
                    to_ours(a[:, :, ::-1, ::-1]) if a.ndim == 4 else to_ours(a)
                ),
            },
        ),
        hints=(
            "Where does each of our four axes stand in theirs? These four numbers are what transpose wants.",
            ".T turns round all axes: right for two, harmless for one, wrong for four.",
        ),
    ),
    exercise(
        "17.9",
        spot_the_bug(
            "repaired_previous",
            previous,
            times,
            lambda a, t: a[np.asarray(t) - 1],
            "At t = 0 the index is -1, and Python takes the last entry: the noisiest level instead of the clean image.",
            {
                "This is ᾱ of the level itself, not of the one before.": lambda a, t: a[t],
                "The index was kept at 0 or more; before level 0 is the clean image, ᾱ = 1.": lambda a, t: a[
                    np.maximum(np.asarray(t) - 1, 0)
                ],
                "Before level 0 ᾱ is 1, not 0: there is no noise.": lambda a, t: np.append(0.0, a)[t],
                "Level 1 has a level before it, level 0; only level 0 has the clean image before it.": lambda a, t: (
                    np.where(t > 1, a[t - 1], 1.0)
                ),
                "This is the level after t.": lambda a, t: np.append(a[1:], a[-1])[t],
            },
        ),
        hints=(
            "What does alpha_bar[-1] mean in Python?",
            "Put the level that is missing in front of the list. What happens to the index then?",
        ),
    ),
)
