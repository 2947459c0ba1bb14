"""Lesson 12, VAE and GAN: the truth of its nine exercises, and the mistakes that have a name."""

from __future__ import annotations

import math

import numpy as np

from ddpm.course.exercise import count, exercise, formula, gradient, spot_the_bug

# ------------------------------------------------------------------------------------------- inputs, by seed


def encoded(rng):
    """(m, log v)"""
    return [(rng.normal(size=s), rng.normal(size=s)) for s in ((4, 3), (1, 5), (6, 2))]


def drawn(rng):
    """(m, log v, ε)"""
    return [tuple(rng.normal(size=(3, *s))) for s in ((4, 3), (2, 5), (6, 2))]


def losses(rng):
    """(λ, k, r², mean over pixels, mean over codes): one eigenvalue in each of D parts of a wide range"""
    out = []
    for D, k in ((60, 15), (30, 20), (50, 6)):
        for pixels in (False, True):
            for codes in (False, True):
                lam = np.exp(5 - 12 * (np.arange(D) + rng.uniform(size=D)) / D)
                out.append((lam, k, float(rng.uniform(0.3, 0.6)), pixels, codes))
    return out


def spectra(rng):
    """(λ, k)"""
    return [(np.sort(np.exp(rng.normal(size=D)))[::-1].copy(), k) for D, k in ((6, 2), (9, 5), (4, 1))]


def weights(rng):
    """(log w,): near 0, and once far away, where a plain exponential is 0"""
    return [(rng.normal(size=s) * 2 + shift,) for s, shift in (((5, 4), 0.0), ((2, 3), -3.0), ((8, 1), -900.0))]


def pairs(rng):
    """(p, q)"""
    return [tuple(rng.dirichlet(np.ones(n), 2)) for n in (3, 6, 10)]


def logits(rng):
    """(a,)"""
    return [(rng.uniform(-4, 4, n),) for n in (3, 6, 1)]


def games(rng):
    """(θ, ψ, η, rounds)"""
    return [(*rng.uniform(0.5, 1.5, 2).tolist(), float(rng.uniform(0.3, 0.6)), n) for n in (1, 3, 7)]


def answers(rng):
    """(log Q, c)"""
    out = []
    for B, K in ((6, 4), (5, 10), (9, 3)):
        a = rng.normal(size=(B, K)) * 2
        out.append((a - np.log(np.exp(a).sum(1, keepdims=True)), rng.integers(0, K, B)))
    return out


# ------------------------------------------------------------------------------------------- truths


def kl(m, log_v, size=1.0):
    """Number by number"""
    total = np.zeros(len(m))
    for i, j in np.ndindex(m.shape):
        v = math.exp(size * log_v[i, j])
        total[i] += (m[i, j] ** 2 + v - 1 - size * log_v[i, j]) / 2
    return total


def code(m, log_v, eps):
    """The square root of v is the standard deviation."""
    return m + np.sqrt(np.exp(log_v)) * eps


def active(lam, k, r2, pixels, codes):
    """One eigenvalue after the other"""
    price = r2
    if pixels:
        price = price * len(lam)
    if codes:
        price = price / k
    return sum(1 for value in lam[:k] if value > price)


def likelihood(lam, k, r2=None):
    """As the density of a Gaussian whose variances are λ_1 … λ_k, r², …, r²"""
    r2 = lam[k:].mean() if r2 is None else r2
    var = np.concatenate([lam[:k], np.full(len(lam) - k, r2)])
    return float(-0.5 * (np.log(2 * np.pi * var) + lam / var).sum())


def tighter(log_w):
    """Column by column"""
    out = []
    for column in log_w.T:
        top = max(column.tolist())
        out.append(top + math.log(sum(math.exp(a - top) for a in column.tolist()) / len(column)))
    return np.array(out)


def kl_points(a, b):
    """∑ a log a/b"""
    return float((a * (np.log(a) - np.log(b))).sum())


def jsd(p, q):
    """By its definition"""
    m = (p + q) / 2
    return (kl_points(p, m) + kl_points(q, m)) / 2


def at_best(p, q):
    """V = 2 JSD - 2 log 2"""
    return 2 * jsd(p, q) - 2 * math.log(2), jsd(p, q)


def sigma(a):
    """1/(1 + e^-a)"""
    return 1 / (1 + np.exp(-np.asarray(a, np.float64)))


def slopes(a):
    """Of log(1 - σ) and of -log σ"""
    return -sigma(a), sigma(a) - 1


def played(theta, psi, eta, n, at_once=False, sign=1.0, first="D", both=False):
    """In turns, D first; both: ψ follows the generator's loss too"""
    for _ in range(n):
        if first == "G":
            theta = theta + eta * psi * (1 - sigma(psi * theta))
            psi = psi - eta * theta * sigma(psi * theta)
            continue
        new = psi - eta * theta * sigma(psi * theta)
        seen = psi if at_once else new
        pull = eta * (1 - sigma(seen * theta))  # of L_G by ψθ, downhill
        theta, psi = theta + sign * pull * seen, new + both * pull * theta
    return float(theta), float(psi)


def information(log_q, c):
    """Row by row"""
    return sum(float(row[k]) for row, k in zip(log_q, c.tolist(), strict=True)) / len(c) + math.log(log_q.shape[1])


def softmax(a):
    """Over the last axis"""
    e = np.exp(a - a.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


EXERCISES = (
    exercise(
        "12.1",
        formula(
            "kl",
            kl,
            encoded,
            {
                "log v is taken for log σ: its exponential was squared. It is the log of a variance already.": (
                    lambda m, log_v: kl(m, log_v, 2.0)
                ),
                "This is a mean over the codes. The bound has their sum; a mean is another weight on this term.": (
                    lambda m, log_v: kl(m, log_v) / m.shape[1]
                ),
                "The sign is wrong: a divergence is never negative.": lambda m, log_v: -kl(m, log_v),
                "The half is missing.": lambda m, log_v: 2 * kl(m, log_v),
                "The exponential of half of log v is a standard deviation; here the variance belongs.": (
                    lambda m, log_v: 0.5 * (m**2 + np.exp(log_v / 2) - 1 - log_v).sum(1)
                ),
            },
        ),
        hints=(
            "Each code has its own term.",
            "At m = 0 and v = 1 it is 0.",
            "One number for each image: a sum over k.",
        ),
    ),
    exercise(
        "12.2",
        formula(
            "code",
            code,
            drawn,
            {
                "The noise is multiplied by the variance; it wants the standard deviation.": lambda m, log_v, eps: (
                    m + np.exp(log_v) * eps
                ),
                "All images share the noise of the first: each has to have its own.": lambda m, log_v, eps: (
                    m + np.exp(log_v / 2) * eps[:1]
                ),
                "The log of the variance itself is used as a standard deviation.": lambda m, log_v, eps: (
                    m + log_v * eps
                ),
                "This is a draw around 0: the mean is missing.": lambda m, log_v, eps: np.exp(log_v / 2) * eps,
            },
        ),
        gradient(
            "code",
            code,
            drawn,
            {
                "The gradient stops at m: the encoder's means would never learn from the images.": (
                    lambda m, log_v, eps: 0 * m + eps
                ),
                "The gradient by m has the wrong sign.": lambda m, log_v, eps: eps - m,
            },
            wrt=0,
        ),
        gradient(
            "code",
            code,
            drawn,
            {
                "The gradient stops at log v: the encoder's variances would learn from the KL alone, and go to 1.": (
                    lambda m, log_v, eps: m + eps + 0 * log_v
                ),
                "The gradient by log v is that of a log deviation, twice as large.": lambda m, log_v, eps: (
                    m + 2 * eps * math.e ** (log_v / 2)
                ),
            },
            wrt=1,
        ),
        hints=(
            "A mean, and a deviation times noise.",
            "How does one come from log v to √v?",
            "jnp.exp lets the gradient through; nothing is stopped.",
        ),
    ),
    exercise(
        "12.3",
        count(
            "active",
            active,
            losses,
            {
                "r² is forgotten: the first term is divided by 2r².": lambda lam, k, r2, a, b: active(
                    lam, k, 1.0, a, b
                ),
                "D and k are exchanged: a mean over the pixels divides by D, a mean over the codes by k.": (
                    lambda lam, k, r2, a, b: active(lam, k, r2 * (k if a else 1) / (len(lam) if b else 1), False, False)
                ),
                "A mean over the codes makes the KL cheaper, so it lowers the level.": lambda lam, k, r2, a, b: active(
                    lam, k, r2 * (k if b else 1), a, False
                ),
                "A mean over the pixels makes the error count less, so it raises the level; here it lowers it.": (
                    lambda lam, k, r2, a, b: active(lam, k, r2 / (len(lam) if a else 1), False, b)
                ),
                "There are only k codes, however many directions rise above the water.": lambda lam, k, r2, a, b: int(
                    (lam > r2 * (len(lam) if a else 1) / (k if b else 1)).sum()
                ),
            },
        ),
        hints=(
            "Multiply the whole loss until its first term is the sum over the pixels, divided by 2r².",
            "Which weight B stands before the KL then?",
            "Count the eigenvalues above B r², and remember how many codes there are.",
        ),
    ),
    exercise(
        "12.4",
        formula(
            "likelihood",
            likelihood,
            spectra,
            {
                "r² is a mean over D - k eigenvalues, not over D.": lambda lam, k: _printed(
                    lam, k, lam[k:].sum() / len(lam)
                ),
                "r² is a variance already: its logarithm stands there without a factor ½ or 2.": lambda lam, k: (
                    _printed(lam, k, np.sqrt(lam[k:].mean()))
                ),
                "r² counts k times here. It is the variance of the directions that are left out, D - k of them.": (
                    lambda lam, k: likelihood(lam, k) - 0.5 * (k - (len(lam) - k)) * float(np.log(lam[k:].mean()))
                ),
                "The constant D log 2π is missing.": lambda lam, k: (
                    likelihood(lam, k) + 0.5 * len(lam) * math.log(2 * math.pi)
                ),
                "The sign is wrong.": lambda lam, k: -likelihood(lam, k),
            },
        ),
        hints=("Four terms, and half of them with a minus.", "Which eigenvalues are averaged for r²?"),
    ),
    exercise(
        "12.5",
        formula(
            "tighter",
            tighter,
            weights,
            {
                "This is the mean of the logs, the ordinary bound. The weights are averaged before the logarithm.": (
                    lambda log_w: log_w.mean(0)
                ),
                "log K is missing: the weights are averaged, not added.": lambda log_w: (
                    tighter(log_w) + math.log(len(log_w))
                ),
                "The average runs over the images; it has to run over the K draws of each.": lambda log_w: tighter(
                    log_w.T
                ),
                "This is the largest weight alone.": lambda log_w: log_w.max(0),
                "It overflows or vanishes: take the largest log out before the exponential.": lambda log_w: _plain(
                    log_w
                ),
            },
        ),
        hints=(
            "Exponential, mean, logarithm: in this order.",
            "Take the largest of each column out, and add it again.",
        ),
    ),
    exercise(
        "12.6",
        formula(
            "at_best",
            at_best,
            pairs,
            {
                "JSD is half of V + 2 log 2.": lambda p, q: (at_best(p, q)[0], 2 * jsd(p, q)),
                "The constant is 2 log 2 for V, and so log 2 for its half.": lambda p, q: (
                    at_best(p, q)[0],
                    at_best(p, q)[0] / 2 + 2 * math.log(2),
                ),
                "A sigmoid was applied to D: p/(p + q) is a probability already.": lambda p, q: _twice(p, q),
                "These are bits; nats were wanted.": lambda p, q: tuple(v / math.log(2) for v in at_best(p, q)),
                "This is the mean of both KL divergences. In the JSD each is measured to the mixture.": lambda p, q: (
                    at_best(p, q)[0],
                    (kl_points(p, q) + kl_points(q, p)) / 2,
                ),
            },
        ),
        hints=("First D* at each point.", "V is a sum of two expectations.", "V = 2 JSD - 2 log 2."),
    ),
    exercise(
        "12.7",
        formula(
            "slopes",
            slopes,
            logits,
            {
                "The signs are wrong: this is log D, which the generator wants to be large, not small.": lambda a: (
                    sigma(a),
                    1 - sigma(a),
                ),
                "The two are exchanged.": lambda a: slopes(a)[::-1],
                "A sigmoid too many: D is taken for a logit.": lambda a: slopes(sigma(a)),
                "These are derivatives by D. By the chain rule D(1 - D) comes on top.": lambda a: (
                    -1 / (1 - sigma(a)),
                    -1 / sigma(a),
                ),
            },
        ),
        hints=("The derivative of σ is σ(1 - σ).", "At D = .01 they are -.01 and -.99."),
    ),
    exercise(
        "12.8",
        spot_the_bug(
            "played",
            played,
            games,
            lambda theta, psi, eta, n: played(theta, psi, eta, n, at_once=True),
            "Both still move at the same time: the generator has to answer the discriminator that has just moved.",
            {
                "The generator moves first here.": lambda theta, psi, eta, n: played(theta, psi, eta, n, first="G"),
                "The generator helps the discriminator: its step goes the wrong way.": lambda theta, psi, eta, n: (
                    played(theta, psi, eta, n, sign=-1.0)
                ),
                "The generator's step moves ψ as well: D is taught to be fooled. Each player has its own parameters.": (
                    lambda theta, psi, eta, n: played(theta, psi, eta, n, both=True)
                ),
                "Only one round was played.": lambda theta, psi, eta, n: played(theta, psi, eta, 1),
            },
        ),
        hints=("Which ψ does the generator's line read?", "Two lines instead of one."),
    ),
    exercise(
        "12.9",
        formula(
            "information",
            information,
            answers,
            {
                "These are log probabilities already: a second softmax keeps the bound below .841 of 2.303 nats.": (
                    lambda log_q, c: information(np.log(softmax(softmax(log_q))), c)
                ),
                "The entropy of the categories is added, not subtracted.": lambda log_q, c: (
                    information(log_q, c) - 2 * math.log(log_q.shape[1])
                ),
                "The entropy of the categories is missing; without it no code and a good code are hard to compare.": (
                    lambda log_q, c: information(log_q, c) - math.log(log_q.shape[1])
                ),
                "Q was averaged over all categories; wanted is its value at the one that made the image.": (
                    lambda log_q, c: float(log_q.mean()) + math.log(log_q.shape[1])
                ),
            },
        ),
        hints=("Choose one entry of each row.", "The mean over the images, and the entropy of K equal shares."),
    ),
)


def _printed(lam, k, r2):
    """The formula as printed, with another r²"""
    D = len(lam)
    return float(-0.5 * (D * math.log(2 * math.pi) + np.log(lam[:k]).sum() + (D - k) * math.log(r2) + D))


def _plain(log_w):
    """Without the largest taken out"""
    with np.errstate(divide="ignore"):
        return np.log(np.exp(log_w).mean(0))


def _twice(p, q):
    """σ(p/(p+q)) for D"""
    D = sigma(p / (p + q))
    V = float((p * np.log(D)).sum() + (q * np.log(1 - D)).sum())
    return V, V / 2 + math.log(2)
