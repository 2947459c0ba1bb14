"""Lesson 4, training and sampling: the truth of its seven exercises, and the mistakes that have a name."""

from __future__ import annotations

import numpy as np

from ddpm.course.exercise import exercise, formula, moments

# ------------------------------------------------------------------------------------------- inputs, by seed


def clocks(rng):
    """Times and dimensions."""
    return [(rng.integers(1, 40, b), d) for b, d in ((5, 8), (1, 4), (7, 14))]


def cosine_guess(x_t, t):
    """A denoiser that depends on the image and on its time, for NumPy and JAX alike."""
    return 0.3 * x_t + 0.01 * t.reshape((-1,) + (1,) * (x_t.ndim - 1))


def batches(rng):
    """(ε̂, ᾱ, x0, t, ε): all times of a batch differ."""
    out = []
    for shape in ((5, 3, 4, 1), (3, 2), (4, 5, 3, 2)):
        alpha_bar = np.concatenate([[1.0], np.cumprod(rng.uniform(0.75, 0.95, 9))])
        t = rng.permutation(np.arange(1, 10))[: shape[0]]
        out.append((cosine_guess, alpha_bar, rng.uniform(-1, 1, shape), t, rng.normal(size=shape)))
    return out


def blocks(rng):
    """h, e and the three matrices, all sizes different."""
    return [
        tuple(rng.normal(size=s) for s in ((b, d), (b, k), (d, m), (k, m), (m, d)))
        for b, d, k, m in ((3, 4, 2, 5), (1, 2, 3, 2), (6, 5, 4, 3))
    ]


def histories(rng):
    """θ_0…θ_n and a decay."""
    return [(rng.normal(size=s), float(rng.uniform(0.5, 0.95))) for s in ((6, 3), (2, 2, 5), (12,))]


def steps(rng):
    """(ᾱ_s, ᾱ_t, x_t, ε̂, z) with 1 > ᾱ_s > ᾱ_t; and one with s = 0."""
    out = []
    for shape, a_s in (((3, 4, 5, 1), None), ((2,), None), ((4, 3), 1.0)):
        a_s = float(rng.uniform(0.5, 0.9)) if a_s is None else a_s
        out.append((a_s, a_s * float(rng.uniform(0.4, 0.8)), *(rng.normal(size=shape) for _ in range(3))))
    return out


def chains(rng):
    """(mean, variance, ᾱ, a seed): Gaussian data whose chain is known exactly. One length, so one compilation."""
    return [(float(rng.uniform(0.4, 0.8)), float(rng.uniform(0.2, 0.5)), falling(rng, 7), int(rng.integers(1000)))]


def falling(rng, T):
    """ᾱ_0 = 1 … ᾱ_T near 0"""
    return np.concatenate([[1.0], np.cumprod(rng.uniform(0.5, 0.7, T))])


def stacks(rng):
    """Images whose blocks are channels."""
    sizes = ((2, 3, 4, 2, 1), (1, 2, 3, 3, 2), (3, 2, 5, 2, 3))
    return [(rng.normal(size=(b, h, w, p * p * c)), p) for b, h, w, p, c in sizes]


# ------------------------------------------------------------------------------------------- truths


def embed(t, dim, spacing=None, order="sin cos", base=10_000.0):
    """Clock by clock."""
    k = dim // 2
    last = k - 1 if spacing is None else spacing(k)
    sine, cosine = (
        np.array([[f(float(s) * base ** (-i / last)) for i in range(k)] for s in t]) for f in (np.sin, np.cos)
    )
    if order == "sin cos":
        return np.concatenate([sine, cosine], 1)
    return np.concatenate([cosine, sine], 1) if order == "cos sin" else np.stack([sine, cosine], 2).reshape(len(t), dim)


def batch_loss(eps, alpha_bar, x0, t, noise, mix=None, error=None, mean=np.mean, seen=False):
    """Image by image."""
    mix = mix or (lambda a, x, e: a**0.5 * x + (1 - a) ** 0.5 * e)
    error = error or (lambda guess, x, e: (e - guess) ** 2)
    each = []
    for i in range(len(x0)):
        x_t = mix(alpha_bar[t[i]], x0[i], noise[i])
        each.append(error(eps(x_t[None], t[i : i + 1])[0], x0[i], x_t if seen else noise[i]))
    return mean(np.array(each))


def silu(a):
    """a σ(a)"""
    return a / (1 + np.exp(-a))


def res_block(h, e, w_h, w_e, w_out):
    """h + silu(h W_h + e W_e) W_o"""
    return h + silu(np.concatenate([h, e], 1) @ np.concatenate([w_h, w_e], 0)) @ w_out


def ema(theta, decay):
    """The closed geometric sum."""
    n = len(theta) - 1
    weights = np.append(decay**n, (1 - decay) * decay ** np.arange(n - 1, -1, -1))
    return np.tensordot(weights, theta, 1)


def ancestral(a_s, a_t, x_t, eps_hat, z, variance=None, x0=None, mean=None):
    """Mean by x̂0 and ε̂: √ᾱ_s x̂0 + √(1-ᾱ_s-σ²) ε̂ is the posterior's mean for σ² = β̃."""
    beta_tilde = (1 - a_t / a_s) * (1 - a_s) / (1 - a_t)
    guess = (x_t - (1 - a_t) ** 0.5 * eps_hat) / a_t**0.5 if x0 is None else x0
    centre = a_s**0.5 * guess + max(1 - a_s - beta_tilde, 0) ** 0.5 * eps_hat if mean is None else mean(guess)
    return centre + (beta_tilde**0.5 if variance is None else variance(beta_tilde, 1 - a_t / a_s)) * z


def posterior_with(at_x0, at_x_t):
    """The step with other weights in the mean."""

    def wrong(a_s, a_t, x_t, eps_hat, z):
        beta = 1 - a_t / a_s

        def mean(guess):
            return (at_x0(a_s, a_t) * beta * guess + np.sqrt(a_t / a_s) * at_x_t(a_s, a_t) * x_t) / (1 - a_t)

        return ancestral(a_s, a_t, x_t, eps_hat, z, mean=mean)

    return wrong


def chain(m, lam, alpha_bar, seed):
    """Mean, variance and their standard errors at the end of the chain: each step is a straight line."""
    mean, var = 0.0, 1.0
    for t in range(len(alpha_bar) - 1, 0, -1):
        a_s, a_t = alpha_bar[t - 1], alpha_bar[t]
        v = a_t * lam + 1 - a_t
        # ε̂ = √(1-ᾱ) (x - √ᾱ m)/v, so x_s = A x_t + C; found by two calls
        low, high = (ancestral(a_s, a_t, x, (1 - a_t) ** 0.5 * (x - a_t**0.5 * m) / v, 0.0) for x in (0.0, 1.0))
        slope = high - low
        sigma2 = (1 - a_t / a_s) * (1 - a_s) / (1 - a_t)
        mean, var = slope * mean + low, slope**2 * var + sigma2
    return np.array([mean, var]), np.array([np.sqrt(var / N), var * np.sqrt(2 / N)])


N = 8000  # walkers


def statistic(f, m, lam, alpha_bar, seed):
    """Mean and variance of the learner's draws for N(m, λ)."""
    import jax
    import jax.numpy as jnp

    abar, key = jnp.asarray(alpha_bar, jnp.float32), jax.random.split(jax.random.key(seed))
    eps = jax.tree_util.Partial(gaussian_eps, abar, jnp.float32(m), jnp.float32(lam))
    x = np.asarray(jax.jit(f)(eps, abar, key[0], jax.random.normal(key[1], (N, 1))), np.float64)
    return np.array([x.mean(), x.var()])


def noise_only(rng):
    """(ᾱ of T = 3, a seed)"""
    return [(falling(rng, 3), int(rng.integers(1000)))]


NOISE = (
    *("the mean", "the variance", "the mean fourth power"),
    "the correlation of the two coordinates",
    "the correlation with what another key gives",
)


def noise_statistic(f, alpha_bar, seed):
    """Properties of what is left of the noise of all steps, if every image begins at 0 and ε̂ is 0"""
    import jax
    import jax.numpy as jnp

    abar, start = jnp.asarray(alpha_bar, jnp.float32), jnp.zeros((N, 2))
    run = jax.jit(lambda abar, key, x: f(no_eps, abar, key, x))
    x, other = (np.asarray(run(abar, jax.random.key(k), start), np.float64) for k in (seed, seed + 1))
    pairs = np.corrcoef(x[:, 0], x[:, 1])[0, 1], np.corrcoef(x[:, 0], other[:, 0])[0, 1]
    return np.array([x.mean(), x.var(), (x**4).mean(), *pairs])


def no_eps(x_t, t):
    """ε̂ = 0"""
    return 0 * x_t


def noise_moments(alpha_bar, seed):
    """z_3 and z_2 are independent, and what each leaves grows by √(ᾱ_s/ᾱ_t) at every step (there is no z_1)"""
    var = 0.0
    for t in range(len(alpha_bar) - 1, 0, -1):
        slope = ancestral(alpha_bar[t - 1], alpha_bar[t], 1.0, 0.0, 0.0)
        var = slope**2 * var + ancestral(alpha_bar[t - 1], alpha_bar[t], 0.0, 0.0, 1.0) ** 2
    error = np.array([np.sqrt(var / 2), var, np.sqrt(96 / 2) * var**2, 1, 1]) / N**0.5
    return np.array([0, var, 3 * var**2, 0, 0]), error


def gaussian_eps(alpha_bar, m, lam, x_t, t):
    """E[ε | x_t] of N(m, λ)"""
    a = alpha_bar[t][:, None]
    return (1 - a) ** 0.5 * (x_t - a**0.5 * m) / (a * lam + 1 - a)


def wrong_sampler(noise="fresh", s=lambda t: t - 1, stop=0, told=lambda t: t, swapped=False):
    """Samplers that go wrong, as functions of the learner's arguments."""

    def wrong(eps, alpha_bar, key, x):
        import jax

        for t in range(len(alpha_bar) - 1, stop, -1):
            k = jax.random.fold_in(jax.random.key(0) if noise == "ignored" else key, 0 if noise == "same" else t)
            z = jax.random.normal(k, x.shape)
            if noise == "uniform":
                z = jax.random.uniform(k, x.shape, minval=-(3**0.5), maxval=3**0.5)
            if noise == "0 to 1":
                z = jax.random.uniform(k, x.shape)
            a_s, a_t = alpha_bar[s(t)], alpha_bar[t]
            a_s, a_t = (a_t, a_s) if swapped else (a_s, a_t)
            eps_hat = eps(x, np.full(len(x), told(t)))
            beta_tilde = (1 - a_t / a_s) * (1 - a_s) / (1 - a_t)
            x0 = (x - (1 - a_t) ** 0.5 * eps_hat) / a_t**0.5
            x = a_s**0.5 * x0 + abs(1 - a_s - beta_tilde) ** 0.5 * eps_hat
            x = x if noise == "none" else x + beta_tilde**0.5 * z
        return x

    return wrong


def unfold(x, p, order):
    """The same numbers with the axes of the block read in another order."""
    B, H, W, C = x.shape
    c = C // p**2
    return order(x, B, H, W, p, c).reshape(B, H * p, W * p, c)


def depth_to_space(x, p):
    """Pixel by pixel."""
    B, H, W, C = x.shape
    c = C // p**2
    out = np.empty((B, H * p, W * p, c))
    for i, j in np.ndindex(p, p):
        out[:, i::p, j::p] = x[..., (i * p + j) * c : (i * p + j + 1) * c]
    return out


EXERCISES = (
    exercise(
        "4.1",
        formula(
            "time_embedding",
            lambda t, dim: embed(t, dim),
            clocks,
            {
                "The angle has a factor 2π; here it is t times the frequency.": lambda t, dim: embed(
                    2 * np.pi * np.asarray(t), dim
                ),
                "The clocks show t-1; they show t.": lambda t, dim: embed(np.asarray(t) - 1, dim),
                "The slowest clock stops short of 1/10000: the exponents run from 0 to 1, so divide by k-1.": (
                    lambda t, dim: embed(t, dim, spacing=lambda k: k)
                ),
                "Sines and cosines are interleaved; here all sines come first, then all cosines.": (
                    lambda t, dim: embed(t, dim, order="mixed")
                ),
                "The cosines come first; the formula begins with the sines.": lambda t, dim: embed(
                    t, dim, order="cos sin"
                ),
                "Every clock got faster instead of slower: the exponent of 10000 is negative.": lambda t, dim: embed(
                    t, dim, base=1e-4
                ),
                "The exponent is divided by dim; k is half of it, and there are only k clocks.": lambda t, dim: embed(
                    t, dim, spacing=lambda k: 2 * k
                ),
            },
            rtol=2e-3,
            atol=2e-4,
            traceable=True,
        ),
        hints=(
            "Make the k frequencies first, as one row; then all angles at once.",
            "A column of times (B, 1) times a row of frequencies (k,) is a table (B, k).",
            "i/(k-1) is 0 for the first clock and 1 for the last.",
        ),
    ),
    exercise(
        "4.2",
        formula(
            "batch_loss",
            batch_loss,
            batches,
            {
                "The guess is compared with x_t; the network predicts the noise.": lambda eps, a, x, t, e: batch_loss(
                    eps, a, x, t, e, seen=True
                ),
                "The loss has a factor ½; the exercise asks for the plain mean of the squares.": lambda *args: (
                    0.5 * batch_loss(*args)
                ),
                "The network was told t-1; x_t is at time t.": lambda eps, *rest: batch_loss(
                    lambda x, t: eps(x, t - 1), *rest
                ),
                "All images got the noise level of the first; each has a time of its own.": lambda eps, a, x, t, e: (
                    np.mean((e - eps(a[t[0]] ** 0.5 * x + (1 - a[t[0]]) ** 0.5 * e, t)) ** 2)
                ),
                "The square roots are missing: ᾱ is a power.": lambda *args: batch_loss(
                    *args, mix=lambda a, x, e: a * x + (1 - a) * e
                ),
                "This is the sum over the pixels; take the mean, so that the learning rate fits any size.": (
                    lambda *args: batch_loss(*args, mean=lambda each: each.reshape(len(each), -1).sum(1).mean())
                ),
                "This is the sum over everything, images and pixels; take the mean.": lambda *args: batch_loss(
                    *args, mean=np.sum
                ),
                "The guess is compared with the image; the network predicts the noise.": lambda *args: batch_loss(
                    *args, error=lambda guess, x, e: (x - guess) ** 2
                ),
                "These are absolute errors; the best guess of a squared error is the mean, which is what we need.": (
                    lambda *args: batch_loss(*args, error=lambda guess, x, e: np.abs(e - guess))
                ),
                "The network was shown the clean image; it has to look at x_t.": lambda *args: batch_loss(
                    *args, mix=lambda a, x, e: x
                ),
                "Signal and noise are swapped in x_t.": lambda *args: batch_loss(
                    *args, mix=lambda a, x, e: (1 - a) ** 0.5 * x + a**0.5 * e
                ),
            },
            traceable=True,
        ),
        hints=(
            "alpha_bar[t] is one number for each image: (B,). Images are (B, ...): some axes are missing.",
            "reshape((-1,) + (1,) * k) puts k axes of length 1 behind; how many does x0 have behind its first?",
            "Then x_t as in Lesson 1, one call of eps, and the mean of the squares.",
        ),
    ),
    exercise(
        "4.3",
        formula(
            "res_block",
            res_block,
            blocks,
            {
                "The skip is missing: the block adds to h, it does not replace it.": lambda h, e, a, b, o: (
                    silu(h @ a + e @ b) @ o
                ),
                "The time was left out: without it all noise levels look alike.": lambda h, e, a, b, o: (
                    h + silu(h @ a) @ o
                ),
                "There is no bend in it: without silu the whole tower is one matrix.": lambda h, e, a, b, o: (
                    h + (h @ a + e @ b) @ o
                ),
                "silu came after W_o; then the block is no longer linear in what it writes.": lambda h, e, a, b, o: (
                    h + silu((h @ a + e @ b) @ o)
                ),
                "That is relu; silu is smooth: the number itself times its sigmoid.": lambda h, e, a, b, o: (
                    h + np.maximum(h @ a + e @ b, 0) @ o
                ),
                "That is the sigmoid; silu is the number itself times its sigmoid.": lambda h, e, a, b, o: (
                    h + (1 / (1 + np.exp(-(h @ a + e @ b)))) @ o
                ),
                "silu was applied to the two parts one by one; they are added first, so that time shifts the bend.": (
                    lambda h, e, a, b, o: h + (silu(h @ a) + silu(e @ b)) @ o
                ),
            },
            traceable=True,
        ),
        hints=(
            "Read the formula from the inside: two products, a sum, the bend, a product, and h.",
            "jax.nn.silu is there.",
            "With W_o = 0 the result has to be h, exactly.",
        ),
    ),
    exercise(
        "4.4",
        formula(
            "ema",
            ema,
            histories,
            {
                "The weights are swapped: d, near 1, belongs to the old average.": lambda theta, d: ema(theta, 1 - d),
                "This begins at 0 instead of at θ_0.": lambda theta, d: ema(
                    np.concatenate([0 * theta[:1], theta[1:]]), d
                ),
                "θ_0 was counted twice: the average begins there and moves from θ_1 on.": lambda theta, d: ema(
                    np.concatenate([0 * theta[:1], theta]), d
                ),
                "This is the plain mean; a moving average forgets.": lambda theta, d: theta.mean(0),
                "The new θ is added without its weight 1-d, so the average grows.": lambda theta, d: np.tensordot(
                    d ** np.arange(len(theta) - 1, -1, -1), theta, 1
                ),
                "The bias correction of Adam was divided out; this average began at θ_0, so it has no such bias.": (
                    lambda theta, d: ema(theta, d) / (1 - d ** (len(theta) - 1))
                ),
            },
        ),
        hints=(
            "One loop over θ_1…θ_n; the average begins as θ_0.",
            "After the first step it is d θ_0 + (1-d) θ_1.",
        ),
    ),
    exercise(
        "4.5",
        formula(
            "ancestral_step",
            ancestral,
            steps,
            {
                "1/√ᾱ_t stands where 1/√α_t belongs: a step undoes the shrinking of one step.": lambda a, b, x, e, z: (
                    ancestral(a, b, x, e, z, mean=lambda guess: (x - (1 - b / a) / np.sqrt(1 - b) * e) / np.sqrt(b))
                ),
                "z is multiplied by the variance; a draw needs the standard deviation, its root.": lambda *args: (
                    ancestral(*args, variance=lambda small, beta: small)
                ),
                "The noise is √β; the exercise asks for √β̃, which vanishes at the last step.": lambda *args: ancestral(
                    *args, variance=lambda small, beta: beta**0.5
                ),
                "The two levels are swapped: ᾱ_s comes first, and is the larger. The root of 1-ᾱ_s/ᾱ_t is NaN.": (
                    lambda a, b, *rest: ancestral(np.float64(b), np.float64(a), *rest, variance=lambda v, _: np.sqrt(v))
                ),
                "No noise is added: this is the mean alone.": lambda *args: ancestral(
                    *args, variance=lambda small, beta: 0.0
                ),
                "ε̂ went in where x̂0 belongs: solve x_t = √ᾱ_t x0 + √(1-ᾱ_t) ε for x0 first.": lambda a, b, x, e, z: (
                    ancestral(
                        a,
                        b,
                        x,
                        e,
                        z,
                        mean=lambda guess: (a**0.5 * (1 - b / a) * e + (b / a) ** 0.5 * (1 - a) * x) / (1 - b),
                    )
                ),
                "ᾱ_t stands where ᾱ_s belongs, before x̂0: at s = 0 the result is then not x̂0.": posterior_with(
                    lambda a_s, a_t: a_t**0.5, lambda a_s, a_t: 1 - a_s
                ),
                "1-ᾱ_t stands where 1-ᾱ_s belongs, before x_t: at s = 0 some of x_t is then left.": posterior_with(
                    lambda a_s, a_t: a_s**0.5, lambda a_s, a_t: 1 - a_t
                ),
                "x̂0 was made without dividing by √ᾱ_t.": lambda a, b, x, e, z: ancestral(
                    a,
                    b,
                    x,
                    e,
                    z,
                    mean=lambda guess: (a**0.5 * (1 - b / a) * b**0.5 * guess + (b / a) ** 0.5 * (1 - a) * x) / (1 - b),
                ),
            },
            rtol=1e-3,
            atol=1e-5,
            traceable=True,
        ),
        hints=(
            "Three lines: x̂0 from x_t and ε̂; the posterior's mean (Lesson 3, Eq. 7); the noise.",
            "α = ᾱ_t/ᾱ_s is what the step keeps, β = 1-α. In β̃ the later time is below.",
            "At ᾱ_s = 1 the result has to be x̂0, whatever z is.",
        ),
    ),
    exercise(
        "4.6",
        moments(
            "sampler",
            statistic,
            chain,
            chains,
            {
                "The network was told t-1; x_t is at time t.": wrong_sampler(told=lambda t: t - 1),
                "Every step has the same noise: give each a key of its own, fold_in(key, t).": wrong_sampler("same"),
                "The noise lies between 0 and 1, evenly; a step of the chain adds normal noise.": wrong_sampler(
                    "0 to 1"
                ),
                "The two levels are swapped: a step goes from t down to t-1, and ᾱ rises. The root is NaN.": (
                    wrong_sampler(swapped=True)
                ),
                "No noise is added on the way, so the walkers end too close together.": wrong_sampler("none"),
                "The walk stops at t = 1: the last step goes to 0.": wrong_sampler(stop=1),
                "The steps go two down at a time but are taken at every t: from t the walk goes to t-1.": (
                    wrong_sampler(s=lambda t: max(t - 2, 0))
                ),
            },
            labels=("the mean of the walkers", "the variance of the walkers"),
        ),
        moments(
            "sampler",
            noise_statistic,
            noise_moments,
            noise_only,
            {
                "The noise is uniform; a step of the chain adds normal noise.": wrong_sampler("uniform"),
                "The key was ignored: another key has to give other noise.": wrong_sampler("ignored"),
            },
            labels=NOISE,
        ),
        hints=(
            "Two lines before the return: the guess at (x_t, t), and a fresh normal z.",
            "eps wants one time for each image: jnp.full(x_t.shape[:1], t).",
            "The step needs ᾱ at t-1 and at t; `alpha_bar` has both, since it begins with t = 0.",
        ),
    ),
    exercise(
        "4.7",
        formula(
            "depth_to_space",
            depth_to_space,
            stacks,
            {
                "The axes were not moved: rows of a block have to stand between rows of positions.": lambda x, p: (
                    unfold(x, p, lambda x, B, H, W, p, c: x)
                ),
                "Rows and columns within a block are swapped: i counts rows, and i·p + j runs along a row.": (
                    lambda x, p: unfold(
                        x, p, lambda x, B, H, W, p, c: x.reshape(B, H, W, p, p, c).transpose(0, 1, 4, 2, 3, 5)
                    )
                ),
                "Colour was taken as the slowest part of the channel number; here it is the fastest.": lambda x, p: (
                    unfold(x, p, lambda x, B, H, W, p, c: x.reshape(B, H, W, c, p, p).transpose(0, 1, 4, 2, 5, 3))
                ),
                "The blocks lie side by side as whole small images: the pixels of one block belong together.": (
                    lambda x, p: unfold(
                        x, p, lambda x, B, H, W, p, c: x.reshape(B, H, W, p, p, c).transpose(0, 3, 1, 4, 2, 5)
                    )
                ),
            },
            rtol=1e-6,
            atol=1e-6,
        ),
        hints=(
            "First give the block its axes: (B, H, W, p, p, C).",
            "Then bring each row axis next to its row axis: (B, H, p, W, p, C).",
            "Then reshape: H·p rows and W·p columns.",
        ),
    ),
)
