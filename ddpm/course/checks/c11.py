"""Lesson 11, editing with masks: the truth of its seven exercises, and the mistakes that have a name."""

from __future__ import annotations

import math

import numpy as np

from ddpm.course.exercise import count, exercise, formula, identity, prediction, spot_the_bug

# ------------------------------------------------------------------------------------------- inputs, by seed

SHAPES = ((3, 5, 7, 2), (1, 4, 3, 1), (2, 3, 3, 3))


def holes(rng, shape):
    """A mask (B, H, W, 1) of zeros and ones, both of which occur."""
    mask = (rng.uniform(size=(*shape[:3], 1)) < 0.6).astype(float)
    mask[:, 0, 0], mask[:, 0, 1] = 0, 1
    return mask


def half_filled(rng):
    """(ᾱ_t, ᾱ_s, mask, known, x_s, ε)"""
    out = []
    for shape in SHAPES:
        s, t = float(rng.uniform(0.5, 0.8)), float(rng.uniform(0.1, 0.4))
        out.append((t, s, holes(rng, shape), *(rng.normal(size=shape) for _ in range(3))))
    return out


def lists(rng):
    """(n, j, r); j need not divide n."""
    return [(int(rng.integers(12, 20)), int(rng.integers(2, 5)), 3), (20, 5, 4), (11, 3, 2), (9, 1, 3), (50, 5, 5)]


def gaussians(rng):
    """(mean, covariance, which are known, x): not all, not none; what is unknown in x is not a number."""
    out = []
    for D, U in ((4, 2), (5, 1), (6, 4)):
        a = rng.normal(size=(D, D))
        known = np.ones(D, bool)
        known[rng.choice(D, U, replace=False)] = False
        out.append((rng.normal(size=D), a @ a.T + 0.3 * np.eye(D), known, rng.normal(size=D)))
    return out


def blocks(rng):
    """(x, N)"""
    return [(rng.normal(size=shape), N) for shape, N in (((2, 6, 9, 2), 3), ((3, 4, 8, 1), 4), ((1, 4, 6, 3), 2))]


def two_images(rng):
    """(x, y, N)"""
    return [(x, rng.normal(size=x.shape), N) for x, N in blocks(rng)]


def shown(rng):
    """(x_t, x0, mask)"""
    return [(rng.normal(size=s), rng.normal(size=s), holes(rng, s)) for s in SHAPES]


def noises(rng):
    """(ε, ε̂, mask)"""
    return [(rng.normal(size=s), rng.normal(size=s), holes(rng, s)) for s in SHAPES]


def sketches(rng):
    """(ᾱ, y, λ)"""
    return [(rng.uniform(0.1, 0.9, k), rng.uniform(0.5, 3, k), float(rng.uniform(0.2, 0.6))) for k in (3, 1, 7)]


def climbs(rng):
    """(ᾱ_s, ᾱ_t, x_s, z)"""
    out = []
    for shape in ((3, 5, 7, 1), (2,), (4, 3)):
        s = float(rng.uniform(0.5, 0.9))
        out.append((s, s * float(rng.uniform(0.3, 0.8)), rng.normal(size=shape), rng.normal(size=shape)))
    return out


# ------------------------------------------------------------------------------------------- truths


def put_in(t, s, mask, known, x_s, eps):
    """Pixel by pixel: one or the other."""
    return np.where(mask == 1, math.sqrt(s) * known + math.sqrt(1 - s) * eps, x_s)


def climbing(n, j, r, first=0, past=0, spare=1, places=None, climb=None):
    """By recursion over what is left to do at each place; the rest are the ways to get it wrong."""
    left = {k: r - spare for k in (places or (lambda: range(first, n - j + past, j)))()}
    path, k = [n], n
    while k > 0:
        k -= 1
        path.append(k)
        if left.get(k, 0) > 0:
            left[k] -= 1
            path.extend((climb or (lambda k: [k + i for i in range(1, j + 1)]))(k))
            k = path[-1]
    return np.array(path)


def conditional(mean, cov, known, x):
    """By the inverse: Λ = Σ⁻¹, covariance Λ_uu⁻¹, mean μ_u - Λ_uu⁻¹ Λ_uk (x_k - μ_k)."""
    precision = np.linalg.inv(cov)
    left = np.linalg.inv(precision[np.ix_(~known, ~known)])
    return mean[~known] - left @ precision[np.ix_(~known, known)] @ (x[known] - mean[known]), left


def parts(cov, known):
    """Σ_uu, Σ_uk, Σ_kk"""
    return cov[np.ix_(~known, ~known)], cov[np.ix_(~known, known)], cov[np.ix_(known, known)]


def other_mean(mean, cov, known, x, f):
    """The right covariance with another mean f(μ_u, gain, x_k, μ_k)."""
    _, uk, kk = parts(cov, known)
    return f(mean[~known], uk @ np.linalg.inv(kk), x[known], mean[known]), conditional(mean, cov, known, x)[1]


def low_pass(x, N):
    """Block by block."""
    out = np.empty_like(x)
    for i in range(0, x.shape[1], N):
        for k in range(0, x.shape[2], N):
            out[:, i : i + N, k : k + N] = x[:, i : i + N, k : k + N].mean((1, 2), keepdims=True)
    return out


def corners(x, N):
    """The first pixel of each block in place of its mean"""
    return x[:, ::N, ::N].repeat(N, 1).repeat(N, 2)


def strided(x, N):
    """Reshaped with block and place the wrong way round, as far as shapes go"""
    B, H, W, C = x.shape
    means = x.reshape(B, N, H // N, N, W // N, C).mean((1, 3))
    return means.repeat(N, 1).repeat(N, 2)


def palette_input(x_t, x0, mask):
    """Filled in, channel by channel"""
    C = x_t.shape[-1]
    out = np.zeros((*x_t.shape[:3], 2 * C + 1))
    out[..., :C], out[..., -1:] = x_t, mask
    out[..., C : 2 * C][mask[..., 0] == 1] = x0[mask[..., 0] == 1]
    return out


def palette_loss(eps, eps_hat, mask):
    """The mean over a list of the missing numbers"""
    missing = mask[..., 0] == 0
    return np.mean((eps[missing] - eps_hat[missing]) ** 2)


def sdedit_law(a, y, lam):
    """From the joint distribution: x0 = E[x0|x_t] + what is left, the two independent."""
    left = 1 / (1 / lam + a / (1 - a))  # precisions add
    gain = left * np.sqrt(a) / (1 - a)
    return gain * np.sqrt(a) * y, gain**2 * (1 - a) + left


def sdedit_other(a, y, lam, gain=None, from_noise=True, from_left=True, root=np.sqrt):
    """The same with a part of it wrong"""
    D = a * lam + 1 - a
    g = np.sqrt(a) * lam / D if gain is None else gain(a, lam, D)
    return g * root(a) * y, from_noise * g**2 * (1 - a) + from_left * lam * (1 - a) / D


def climb(s, t, x, z):
    """Variances add: what level t asks for, less what is there already."""
    return math.sqrt(t / s) * x + math.sqrt((1 - t) - t / s * (1 - s)) * z


EXERCISES = (
    exercise(
        "11.1",
        formula(
            "put_in",
            put_in,
            half_filled,
            {
                "The known pixels are scaled, but have no noise; x at level s has some.": lambda t, s, m, k, x, e: (
                    m * np.sqrt(s) * k + (1 - m) * x
                ),
                "The known pixels are noised to the level t, where x was; after the step it is at s.": (
                    lambda t, s, m, k, x, e: put_in(t, t, m, k, x, e)
                ),
                "The root before ε is missing, as in the printed algorithm: 1-ᾱ is a variance, and ε is to be "
                "multiplied by a standard deviation.": lambda t, s, m, k, x, e: (
                    m * (np.sqrt(s) * k + (1 - s) * e) + (1 - m) * x
                ),
                "The root before the known image is missing: ᾱ is a power.": lambda t, s, m, k, x, e: (
                    m * (s * k + np.sqrt(1 - s) * e) + (1 - m) * x
                ),
                "The mask is the other way round: 1 is known, 0 is to be filled.": lambda t, s, m, k, x, e: put_in(
                    t, s, 1 - m, k, x, e
                ),
                "The known pixels are put in without noise; at level s they would give themselves away.": (
                    lambda t, s, m, k, x, e: m * k + (1 - m) * x
                ),
                "The known pixels have the noise, but the image was not scaled by √ᾱ_s.": lambda t, s, m, k, x, e: (
                    m * (k + np.sqrt(1 - s) * e) + (1 - m) * x
                ),
                "The two parts are added without the second mask: the step's pixels are kept under the known ones.": (
                    lambda t, s, m, k, x, e: m * (np.sqrt(s) * k + np.sqrt(1 - s) * e) + x
                ),
            },
            traceable=True,
        ),
        hints=(
            "Lesson 1's jump gives the known pixels at any level. Which of the two levels is x at after the step?",
            "The mask multiplies one part, one minus the mask the other.",
            "The squares of the two factors, of the known image and of ε, add up to one.",
        ),
    ),
    exercise(
        "11.2",
        count(
            "climbing",
            climbing,
            lists,
            {
                "Each place is left upwards r times: that is one too many, the first visit is one of the r.": (
                    lambda n, j, r: climbing(n, j, r, spare=0)
                ),
                "It climbs one position instead of j.": lambda n, j, r: climbing(n, j, r, climb=lambda k: [k + 1]),
                "It leaps up: the positions between are not in the list, as if they were passed in one step.": (
                    lambda n, j, r: climbing(n, j, r, climb=lambda k: [k + j])
                ),
                "It climbs from every position, not from the multiples of j only.": lambda n, j, r: climbing(
                    n, j, r, places=lambda: range(0, n - j)
                ),
                "Position 0 is a multiple of j too: from there it climbs as well.": lambda n, j, r: climbing(
                    n, j, r, first=j
                ),
                "From n-j it would climb back to n, where all is noise and nothing is left to agree with.": (
                    lambda n, j, r: climbing(n, j, r, past=1)
                ),
                "The list does not go up at all: a place has to be reached r times.": lambda n, j, r: np.arange(
                    n, -1, -1
                ),
                "The list rises; a walk begins at n, in the noise.": lambda n, j, r: climbing(n, j, r)[::-1],
            },
        ),
        hints=(
            "A loop: as long as the position is not 0, go down by one and write it down.",
            "Count the visit. If the place is to be reached again, write down the j positions above it, one by one.",
            "`visits` holds how often a place is still to be reached; a place that is not in it, once.",
        ),
    ),
    exercise(
        "11.3",
        formula(
            "conditional",
            conditional,
            gaussians,
            {
                "Known and unknown are swapped: this is the distribution of the known numbers.": lambda m, C, k, x: (
                    conditional(m, C, ~k, x)
                ),
                "The covariance is the one before anything was known: to know a part leaves less to vary.": (
                    lambda m, C, k, x: (conditional(m, C, k, x)[0], parts(C, k)[0])
                ),
                "The covariance grows by what is known; that term is to be subtracted.": lambda m, C, k, x: (
                    conditional(m, C, k, x)[0],
                    2 * parts(C, k)[0] - conditional(m, C, k, x)[1],
                ),
                "x_k was not centred: what counts is how far it is from its own mean.": lambda m, C, k, x: other_mean(
                    m, C, k, x, lambda mu, gain, xk, mk: mu + gain @ xk
                ),
                "The unknown numbers' own mean is missing.": lambda m, C, k, x: other_mean(
                    m, C, k, x, lambda mu, gain, xk, mk: gain @ (xk - mk)
                ),
                "The sign is wrong: what is correlated moves in the same direction.": lambda m, C, k, x: other_mean(
                    m, C, k, x, lambda mu, gain, xk, mk: mu - gain @ (xk - mk)
                ),
                "Σ_kk was not inverted but left out: it determines how much of x_k counts.": lambda m, C, k, x: (
                    m[~k] + parts(C, k)[1] @ (x[k] - m[k]),
                    parts(C, k)[0] - parts(C, k)[1] @ parts(C, k)[1].T,
                ),
                "Only the variances of the known numbers were used; they are correlated with each other as well.": (
                    lambda m, C, k, x: (
                        m[~k] + parts(C, k)[1] / np.diag(C)[k] @ (x[k] - m[k]),
                        parts(C, k)[0] - parts(C, k)[1] / np.diag(C)[k] @ parts(C, k)[1].T,
                    )
                ),
            },
            rtol=1e-3,
            atol=1e-4,
        ),
        prediction(
            "variance_with_r_20",
            0.11,
            0.035,
            {
                "That is the right one. Going round makes the mean right, and the step a little too narrow each time: "
                "what does that do twenty times over?": 0.19,
                "That is the variance with r = 1; going round changes it.": 0.27,
            },
        ),
        hints=(
            "cov[np.ix_(a, b)] is the block with the rows a and the columns b; both may be bool.",
            "The gain is Σ_uk Σ_kk⁻¹. np.linalg.solve(Σ_kk, Σ_ku) is its transpose.",
            "For the bet: β̃ is the narrowest step there is (Lesson 3). Every round takes it again.",
        ),
    ),
    exercise(
        "11.4",
        formula(
            "low_pass",
            low_pass,
            blocks,
            {
                "This takes the first pixel of each block in place of its mean.": corners,
                "The small image was returned; put each mean back on all pixels of its block.": lambda x, N: x.reshape(
                    len(x), x.shape[1] // N, N, x.shape[2] // N, N, -1
                ).mean((2, 4)),
                "The colours were averaged too; each has its own mean.": lambda x, N: np.broadcast_to(
                    low_pass(x, N).mean(-1, keepdims=True), x.shape
                ),
                "In the reshape, block and place within it are the wrong way round: pixels far apart are averaged.": (
                    strided
                ),
                "The means were laid out as tiles: whole small images side by side, not each mean on its block.": (
                    lambda x, N: np.tile(low_pass(x, N)[:, ::N, ::N], (1, N, N, 1))
                ),
                "The sums of the blocks, not their means.": lambda x, N: N * N * low_pass(x, N),
            },
        ),
        formula(
            "swap_low",
            lambda x, y, N: x + low_pass(y - x, N),
            two_images,
            {
                "The other way round: this is the detail of y on the blocks of x.": lambda x, y, N: (
                    y + low_pass(x - y, N)
                ),
                "x's own block means were left in: y's come on top of them.": lambda x, y, N: x + low_pass(y, N),
                "All of y was added, its detail too.": lambda x, y, N: x - low_pass(x, N) + y,
                "Only y's block means: the detail of x is lost.": lambda x, y, N: low_pass(y, N),
            },
        ),
        identity("low_pass", lambda f, x, N: f(np.asarray(f(x, N)), N), low_pass, blocks),  # twice is once
        hints=(
            "Split H into (H/N, N), rows of blocks and rows within a block, and W likewise.",
            "Average over the two axes within the block, then repeat along the two axes of the image.",
            "For the second: take x's block means away, put y's in their place.",
        ),
    ),
    exercise(
        "11.5",
        formula(
            "palette_input",
            palette_input,
            shown,
            {
                "The whole of x0 is shown, the missing pixels too: the network would learn to copy the answer.": (
                    lambda x, x0, m: np.concatenate([x, x0, m], -1)
                ),
                "The missing pixels are shown and the known ones hidden: the mask is 1 where known.": lambda x, x0, m: (
                    np.concatenate([x, (1 - m) * x0, m], -1)
                ),
                "The mask is not shown: a black pixel and a missing one then look alike.": lambda x, x0, m: (
                    np.concatenate([x, m * x0], -1)
                ),
                "The order is x_t, known part, mask.": lambda x, x0, m: np.concatenate([m * x0, x, m], -1),
                "x_t was cut to its missing part; here the network sees all of it.": lambda x, x0, m: np.concatenate(
                    [(1 - m) * x, m * x0, m], -1
                ),
                "The three were not put side by side along the channels but along the width.": lambda x, x0, m: (
                    np.concatenate([x, m * x0, np.broadcast_to(m, x.shape)], 2)
                ),
            },
            traceable=True,
        ),
        formula(
            "palette_loss",
            palette_loss,
            noises,
            {
                "The mean is over all pixels; what is known is no question.": lambda e, h, m: np.mean((e - h) ** 2),
                "The loss is over the known pixels, not the missing ones.": lambda e, h, m: palette_loss(e, h, 1 - m),
                "The sum over the missing numbers was divided by the number of all.": lambda e, h, m: np.mean(
                    (1 - m) * (e - h) ** 2
                ),
                "It was divided by the number of missing pixels; each has C numbers.": lambda e, h, m: (
                    np.sum((1 - m) * (e - h) ** 2) / np.sum(1 - m)
                ),
                "This is the sum; the exercise asks for the mean.": lambda e, h, m: np.sum((1 - m) * (e - h) ** 2),
                "Each image was averaged by itself first, so that in small holes a number counts for more.": (
                    lambda e, h, m: np.mean(
                        [palette_loss(a[None], b[None], c[None]) for a, b, c in zip(e, h, m, strict=True)]
                    )
                ),
            },
            traceable=True,
        ),
        hints=(
            "Concatenate along the last axis; the mask has one channel.",
            "What is unknown must not be visible in the second part.",
            "For the loss: 1 - mask, broadcast to the shape of ε, selects what is summed and gives the divisor.",
        ),
    ),
    exercise(
        "11.6",
        formula(
            "sdedit_law",
            sdedit_law,
            sketches,
            {
                "The noise that was put on is missing from the variance: it passes through the same factor as y.": (
                    lambda a, y, lam: sdedit_other(a, y, lam, from_noise=False)
                ),
                "What the walk draws anew is missing from the variance.": lambda a, y, lam: sdedit_other(
                    a, y, lam, from_left=False
                ),
                "The mean was multiplied by √ᾱ once; y is scaled on the way up and by the factor on the way down.": (
                    lambda a, y, lam: sdedit_other(a, y, lam, root=lambda a: 1.0)
                ),
                "The roots are missing: ᾱ is a power.": lambda a, y, lam: sdedit_other(
                    a, y, lam, gain=lambda a, lam, D: a * lam / D, root=lambda a: a
                ),
                "This is x̂0 = x_t/√ᾱ: a denoiser believes x_t less, the noisier it is.": lambda a, y, lam: sdedit_other(
                    a, y, lam, gain=lambda a, lam, D: 1 / np.sqrt(a)
                ),
                "The second is the standard deviation; the exercise asks for the variance.": lambda a, y, lam: (
                    sdedit_law(a, y, lam)[0],
                    np.sqrt(sdedit_law(a, y, lam)[1]),
                ),
                "This is the distribution of the data: y was forgotten altogether.": lambda a, y, lam: (
                    0 * y,
                    0 * a + lam,
                ),
            },
        ),
        hints=(
            "Insert the distribution of x_t into that of x_0 given x_t: a factor times x_t, plus noise.",
            "The mean of a factor times x_t is the factor times its mean; the variance gets the factor's square.",
            "Two variances add: of the factor times x_t, and of what is left open when x_t is known.",
        ),
    ),
    exercise(
        "11.7",
        spot_the_bug(
            "repaired_climb",
            climb,
            climbs,
            lambda s, t, x, z: np.sqrt(t / s) * x + (np.sqrt(1 - t) - np.sqrt(t / s * (1 - s))) * z,
            "Standard deviations were subtracted. Variances add up, so it is they whose difference is to be put on.",
            {
                "A root is missing: z is multiplied by a standard deviation.": lambda s, t, x, z: (
                    np.sqrt(t / s) * x + (1 - t / s) * z
                ),
                "This puts all the noise of level t on, although that of level s is there already.": (
                    lambda s, t, x, z: np.sqrt(t / s) * x + np.sqrt(1 - t) * z
                ),
                "This takes x_s for a clean image: the factor was right, and only ᾱ_t/ᾱ_s of the power is lost.": (
                    lambda s, t, x, z: np.sqrt(t) * x + np.sqrt(1 - t) * z
                ),
                "The variances were subtracted as they are; what is there already shrinks with x on the way up.": (
                    lambda s, t, x, z: np.sqrt(t / s) * x + np.sqrt(s - t) * z
                ),
            },
        ),
        hints=(
            "How large is the variance of the noise in x_s, and how large after x_s was multiplied?",
            "How large should it be at level t? Noise that is independent adds its variance.",
            "Lesson 1 had the same: the noise of k steps in one jump.",
        ),
    ),
)
