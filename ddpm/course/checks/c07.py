"""Lesson 7, learning the variance: the truth of its seven exercises, and the mistakes that have a name."""

from __future__ import annotations

import math

import numpy as np

from ddpm.course.exercise import exercise, formula, gradient, identity, prediction, spot_the_bug

# ------------------------------------------------------------------------------------------- inputs, by seed

SHAPES = ((3, 5), (2, 7), (4, 4))


def two_ends(rng):
    """(β, β̃, v), β̃ much smaller than β in places."""
    out = []
    for B, D in SHAPES:
        beta = rng.uniform(0.01, 0.2, (B, 1))
        out.append((beta, beta * rng.uniform(0.01, 0.6, (B, 1)), rng.uniform(0.1, 0.9, (B, D))))
    return out


def some_bytes(rng):
    """(bytes as numbers in [-1, 1], mean, std), the first and the last byte among them."""
    out = []
    for shape in SHAPES:
        b = rng.integers(0, 256, shape)
        b[0, :2] = 0, 255
        x = b / 127.5 - 1
        mean = np.clip(x, -0.97, 0.97) + rng.normal(size=shape) * 0.02
        out.append((x, mean, rng.uniform(0.02, 0.05, shape)))
    return out


def every_byte(rng):
    """(256 bytes, mean, std)"""
    x = np.arange(256)[None] / 127.5 - 1
    return [(x, np.full_like(x, rng.uniform(-1, 1)), np.full_like(x, s)) for s in rng.uniform(0.05, 0.5, 3)]


def distributions(rng):
    """(mean, var, mean', var') of images"""
    shapes = ((3, 5, 7, 2), (2, 3), (4, 2, 2))
    return [tuple(rng.normal(size=s) if i % 2 == 0 else rng.uniform(0.2, 2, s) for i in range(4)) for s in shapes]


def some_term(eps_hat, v):
    """A loss that depends on both."""
    return ((eps_hat - 0.3 * v) ** 2 * (1 + v**2)).mean()


def batches(rng):
    """(ε, ε̂, v, term, T)"""
    return [
        (*rng.normal(size=(2, *s)), rng.uniform(0.1, 0.9, s), some_term, int(rng.integers(200, 900))) for s in SHAPES
    ]


def histories(rng):
    """The last losses of each time, very uneven."""
    return [(np.abs(rng.normal(size=(T, k))) * rng.uniform(0.01, 3, (T, 1)),) for T, k in ((7, 3), (12, 10), (5, 1))]


def some_p(rng):
    """Some p"""
    return [(p / p.sum(),) for p in (rng.uniform(0.1, 2, T) for T in (7, 12, 5))]


def steps(rng):
    """(ᾱ_t, ᾱ_s, Γ)"""
    out = []
    for k in (3, 1, 6):
        s = rng.uniform(0.5, 0.9, k)
        out.append((s * rng.uniform(0.3, 0.8, k), s, rng.uniform(0.2, 0.8, k)))
    return out


def schedules(rng):
    """ᾱ_0 = 1 … ᾱ_T"""
    kept = [*(rng.uniform(0.7, 0.95, T) for T in (6, 11, 30)), np.array([0.8, 0.7, 0.99, rng.uniform(0.7, 0.9)])]
    return [(np.concatenate([[1.0], np.cumprod(k)]),) for k in kept]  # the last has its smallest step at t = 3


# ------------------------------------------------------------------------------------------- truths


def between(beta, tilde, v):
    """As powers: β^v β̃^(1-v)"""
    return beta**v * tilde ** (1 - v)


def Phi(z):
    """The normal distribution function"""
    return 0.5 * (1 + np.vectorize(math.erf)(np.asarray(z) / math.sqrt(2)))


def byte_mass(x, mean, std, half=1 / 255, first=True, last=True):
    """By cases: the first byte, the last, and those between"""
    low, high = Phi((x - half - mean) / std), Phi((x + half - mean) / std)
    out = high - low
    out = np.where((x < -0.999) & first, high, out)
    return np.where((x > 0.999) & last, 1 - low, out)


def kl_nats(mean, var, mean2, var2):
    """Number by number"""
    return 0.5 * (np.log(var2) - np.log(var) + var / var2 + (mean - mean2) ** 2 / var2 - 1)


def per_image(a):
    """The mean of each image"""
    return a.reshape(len(a), -1).mean(1)


def hybrid(eps, eps_hat, v, term, T, weight=0.001):
    """The value; the gradients are below."""
    return np.mean((eps - eps_hat) ** 2) + weight * T * term(eps_hat, v)


def simple_alone(eps, eps_hat, v, term, T):
    """What ε̂ learns from"""
    return np.mean((eps - eps_hat) ** 2)


def bound_alone(eps, eps_hat, v, term, T):
    """What v learns from"""
    return 0.001 * T * term(eps_hat, v)


def squares(eps, eps_hat):
    """The mean of squares, of NumPy's arrays and of JAX's"""
    return ((eps - eps_hat) ** 2).mean()


def probabilities(last):
    """Time by time"""
    root = np.array([math.sqrt(sum(x * x for x in row) / len(row)) for row in last])
    return root / sum(root)


def over(size):
    """A size for each time as probabilities"""
    return size / size.sum()


def best_variance(t, s, gamma, power=2, known=lambda gamma: 1 - gamma, low=True):
    """β̃ + c0² Var(x0 | x_t), Var(x0 | x_t) = (1-Γ)/SNR"""
    beta = 1 - t / s
    c0 = np.sqrt(s) * beta / (1 - t)
    return (beta * (1 - s) / (1 - t) if low else beta) + c0**power * known(gamma) * (1 - t) / t


def betas(alpha_bar):
    """β and β̃ of t = 1…T"""
    beta = np.array([1 - alpha_bar[t] / alpha_bar[t - 1] for t in range(1, len(alpha_bar))])
    return beta, beta * (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:])


def log_tilde(alpha_bar, first=lambda beta, tilde: tilde[1]):
    """log β̃, with something else at t = 1"""
    beta, tilde = betas(alpha_bar)
    return np.log(np.concatenate([[first(beta, tilde)], tilde[1:]]))


EXERCISES = (
    exercise(
        "7.1",
        formula(
            "between",
            between,
            two_ends,
            {
                "This is the mean of the variances; the paper takes it of their logarithms, since they differ by "
                "large factors.": lambda b, s, v: v * b + (1 - v) * s,
                "The two ends are swapped: v = 1 has to be β.": lambda b, s, v: between(s, b, v),
                "The result is still a logarithm.": lambda b, s, v: np.log(between(b, s, v)),
                "This is the standard deviation; the exercise asks for the variance.": lambda b, s, v: np.sqrt(
                    between(b, s, v)
                ),
                "This takes v from -1 to 1, as networks in some code give it; here it goes from 0 to 1.": (
                    lambda b, s, v: between(b, s, (v + 1) / 2)
                ),
                "The weights do not sum to one: what is not β is β̃.": lambda b, s, v: np.exp(v * np.log(b) + np.log(s)),
            },
            traceable=True,
        ),
        hints=(
            "Take both logarithms, mix them, and come back.",
            "At v = 0 it has to be β̃, at v = 1 β, and at one half the root of their product.",
        ),
    ),
    exercise(
        "7.2",
        formula(
            "byte_mass",
            byte_mass,
            some_bytes,
            {
                "The density times the width of the bin is not the mass where the bin is wide for this std.": (
                    lambda x, m, s: 2 / 255 * np.exp(-((x - m) ** 2) / (2 * s**2)) / (s * math.sqrt(2 * math.pi))
                ),
                "The bin is x ± 1/510, half as wide as it should be: 256 bytes in a range of length 2.": (
                    lambda x, m, s: byte_mass(x, m, s, half=1 / 510)
                ),
                "The bin is x ± 2/255: neighbouring bins overlap.": lambda x, m, s: byte_mass(x, m, s, half=2 / 255),
                "What lies beyond -1 and 1 is lost: the first bin has no lower end and the last no upper.": (
                    lambda x, m, s: byte_mass(x, m, s, first=False, last=False)
                ),
                "The last bin has no upper end, but the first still has a lower one.": lambda x, m, s: byte_mass(
                    x, m, s, first=False
                ),
                "The first bin has no lower end, but the last still has an upper one.": lambda x, m, s: byte_mass(
                    x, m, s, last=False
                ),
                "It was divided by the variance; Φ wants distances in standard deviations.": lambda x, m, s: byte_mass(
                    x, m, s**2
                ),
                "This is the logarithm; the exercise asks for the mass itself.": lambda x, m, s: np.log(
                    byte_mass(x, m, s)
                ),
            },
            rtol=1e-3,
            atol=2e-5,
        ),
        identity("byte_mass", lambda f, *case: np.sum(f(*case)), lambda x, m, s: 1.0, every_byte),
        hints=(
            "Φ of the upper end less Φ of the lower end, both as distances from the mean in standard deviations.",
            "The bytes -1 and 1 are found by x < -.999 and x > .999; there one of the two ends is at infinity.",
            "Φ(∞) is 1 and Φ(-∞) is 0.",
        ),
    ),
    exercise(
        "7.3",
        formula(
            "kl_bits",
            lambda *case: per_image(kl_nats(*case)) / math.log(2),
            distributions,
            {
                "Only the logarithm is in bits; divide the other terms by log 2 too.": lambda m, v, k, w: per_image(
                    0.5 * (np.log2(w / v) + v / w + (m - k) ** 2 / w - 1)
                ),
                "These are nats: divide by log 2.": lambda *case: per_image(kl_nats(*case)),
                "It was multiplied by log 2; a nat is more than a bit.": lambda *case: (
                    per_image(kl_nats(*case)) * math.log(2)
                ),
                "This sums over the numbers of an image; bits/dim is their mean.": lambda *case: (
                    kl_nats(*case).reshape(len(case[0]), -1).sum(1) / math.log(2)
                ),
                "One number for all images: each has its own.": lambda *case: np.mean(kl_nats(*case)) / math.log(2),
                "The two distributions are swapped: the first is q, which knows x_0.": lambda m, v, k, w: (
                    per_image(kl_nats(k, w, m, v)) / math.log(2)
                ),
                "The factor one half is missing.": lambda *case: 2 * per_image(kl_nats(*case)) / math.log(2),
                "The distance of the means is not divided by the variance.": lambda m, v, k, w: (
                    per_image(kl_nats(m, v, m, w) + 0.5 * (m - k) ** 2) / math.log(2)
                ),
                "The -1 is missing: two equal distributions must have distance 0.": lambda *case: (
                    per_image(kl_nats(*case) + 0.5) / math.log(2)
                ),
            },
            traceable=True,
        ),
        prediction(
            "share_of_the_first_hundred",
            0.852,
            0.1,
            {
                "A tenth of the steps, a tenth of the bits? The terms are very unequal: near t = 0 details are "
                "decided, and every detail costs bits.": 0.1,
                "All of them? Each step carries some.": 1.0,
            },
        ),
        hints=(
            "The formula as it stands, pixel by pixel.",
            "Then the mean over all axes but the first, and from nats to bits.",
            "For the bet: in which steps are the last fine details of the image decided?",
        ),
    ),
    exercise(
        "7.4",
        formula(
            "hybrid",
            hybrid,
            batches,
            {
                "T is missing: L_vlb is the sum over all times, and term() is a mean of some of them.": (
                    lambda e, h, v, term, T: hybrid(e, h, v, term, 1)
                ),
                "λ = .001 is missing: the bound would drown everything else.": lambda e, h, v, term, T: hybrid(
                    e, h, v, term, T, 1.0
                ),
                "It was divided by T; a mean becomes a sum by multiplying.": lambda e, h, v, term, T: (
                    squares(e, h) + 0.001 / T * term(h, v)
                ),
                "L_simple is the mean of the squares, not their sum.": lambda e, h, v, term, T: (
                    hybrid(e, h, v, term, T) - np.mean((e - h) ** 2) + np.sum((e - h) ** 2)
                ),
                "L_simple is missing: nothing would teach ε̂.": lambda e, h, v, term, T: 0.001 * T * term(h, v),
                "The arguments of term are swapped: first ε̂, then v.": lambda e, h, v, term, T: (
                    squares(e, h) + 0.001 * T * term(v, h)
                ),
            },
        ),
        gradient(
            "hybrid",
            simple_alone,
            batches,
            {
                "The bound pulls at ε̂ too: nothing stops its gradient.": lambda e, h, v, term, T: (
                    squares(e, h) + 0.001 * T * term(h, v)
                ),
                "The gradient was stopped for ε̂ everywhere; L_simple has to teach it.": lambda e, h, v, term, T: (
                    0 * h.sum()
                ),
            },
            wrt=1,
        ),
        gradient(
            "hybrid",
            bound_alone,
            batches,
            {
                "The gradient was stopped for v: then nothing teaches it.": lambda e, h, v, term, T: 0 * v.sum(),
            },
            wrt=2,
        ),
        hints=(
            "Two terms: the mean of the squares, and .001 T times what term() gives.",
            "Inside term(), ε̂ is to be a constant and v is not.",
            "A value does not show whether a gradient was stopped; the check takes derivatives.",
        ),
    ),
    exercise(
        "7.5",
        formula(
            "probabilities",
            probabilities,
            histories,
            {
                "The mean of L, not the root of the mean of L²: what counts is how far a draw can be off.": (
                    lambda last: over(last.mean(1))
                ),
                "The root is missing.": lambda last: over((last**2).mean(1)),
                "They do not sum to one.": lambda last: np.sqrt((last**2).mean(1)),
                "This is the spread about the mean; the size counts, not the spread.": lambda last: over(
                    last.std(1) + (last.shape[1] == 1)
                ),
                "Only the newest loss was used; it is a mean over all that are remembered.": lambda last: over(
                    last[:, -1]
                ),
                "A softmax: p is proportional to the root itself, not to its exponential.": lambda last: over(
                    np.exp(np.sqrt((last**2).mean(1)))
                ),
            },
        ),
        formula(
            "weights",
            lambda p: np.array([1 / len(p) / x for x in p]),
            some_p,
            {
                "1/p estimates the sum of all terms; for their mean divide by T as well.": lambda p: 1 / p,
                "This multiplies by p: what is drawn often would count twice over.": lambda p: p * len(p),
                "Normalised to sum one: then the estimate is not unbiased.": lambda p: over(1 / p),
                "All weights are equal: what is drawn more often has to count for less.": lambda p: np.ones_like(p),
            },
        ),
        identity(
            ("probabilities", "weights"),
            lambda f, g, last: np.sum(np.asarray(f(last)) * np.asarray(g(f(last))) * last.mean(1)),
            lambda last: last.mean(),  # unbiased
            histories,
        ),
        hints=(
            "Squares, mean over the second axis, root; then divide by the sum.",
            "With uniform p every weight has to be 1.",
            "The sum over t of p_t, weight and L_t has to be the mean of L_t.",
        ),
    ),
    exercise(
        "7.6",
        formula(
            "best_variance",
            best_variance,
            steps,
            {
                "c0 is not squared: it multiplies an error, and a variance gets the square.": lambda t, s, g: (
                    best_variance(t, s, g, power=1)
                ),
                "Γ is what is known; what is missing of it, 1-Γ, makes the variance larger.": lambda t, s, g: (
                    best_variance(t, s, g, known=lambda g: g)
                ),
                "This adds to β, not to β̃: β is already the variance for data that are all unknown.": (
                    lambda t, s, g: best_variance(t, s, g, low=False)
                ),
                "This is a standard deviation; the exercise asks for the variance.": lambda t, s, g: np.sqrt(
                    best_variance(t, s, g)
                ),
                "The whole 1/SNR was added: Γ, what is known of the noise, is missing.": lambda t, s, g: best_variance(
                    t, s, g, known=lambda g: 1 + 0 * g
                ),
                "This is β̃ alone.": lambda t, s, g: best_variance(t, s, g, known=lambda g: 0 * g),
                "β̃ is missing: even the step that knows x_0 scatters.": lambda t, s, g: (
                    best_variance(t, s, g) - best_variance(t, s, g, known=lambda g: 0 * g)
                ),
                "The variance of x_0 was taken at level s; the network was evaluated at t.": lambda t, s, g: (
                    best_variance(t, s, g, known=lambda g: (1 - g) * (1 - s) / s * t / (1 - t))
                ),
                "The factor from noise to image is upside down: x_0 is the noise's error times √(1-ᾱ)/√ᾱ.": (
                    lambda t, s, g: best_variance(t, s, g, known=lambda g: (1 - g) * (t / (1 - t)) ** 2)
                ),
                "The levels are swapped: ᾱ_t, the noisier one, comes first.": lambda t, s, g: best_variance(s, t, g),
            },
        ),
        hints=(
            "Three pieces: β of the step, c0 and β̃; all from the two ᾱ.",
            "Γ = 1 means that all of the noise could be told: what remains then?",
            "For data N(0, 1) and its Γ = 1-ᾱ_t the result is β.",
        ),
    ),
    exercise(
        "7.7",
        spot_the_bug(
            "repaired_log",
            log_tilde,
            schedules,
            lambda a: log_tilde(a, lambda beta, tilde: 1e-20),
            "The zero was replaced by something tiny, whose logarithm is -46: the last step then claims to know every "
            "pixel to ten digits.",
            {
                "Every entry is raised to β̃_2 at least; only that of t = 1 is to be replaced.": lambda a: np.log(
                    np.maximum(betas(a)[1], betas(a)[1][1])
                ),
                "At t = 1 this is β, the other end; Ho et al. take β̃ of the next step.": lambda a: log_tilde(
                    a, lambda beta, tilde: beta[0]
                ),
                "The first entry was left out; there are T of them.": lambda a: log_tilde(a)[1:],
                "This is log β.": lambda a: np.log(betas(a)[0]),
                "This is β̃ itself, not its logarithm.": lambda a: np.exp(log_tilde(a)),
            },
        ),
        hints=(
            "Print the first three numbers. Which of them is out of line?",
            "Only one entry is 0. The text above tells what the paper puts there.",
        ),
    ),
)
