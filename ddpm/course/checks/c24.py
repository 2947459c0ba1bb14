"""Lesson 24, scores, tokens, series, generated data: the truth of its eight exercises, and the mistakes with a name."""

from __future__ import annotations

import math

import numpy as np

from ddpm.course.exercise import count, exercise, formula, prediction

# ------------------------------------------------------------------------------------------- inputs, by seed


def curved(x_t):
    """A denoiser that is not linear, so that its derivative shows"""
    return np.tanh(1.3 * x_t) + 0.4


def mixed(h):
    """A layer that mixes the numbers of a token, and is not 0 at 0"""
    return np.tanh(h[:, ::-1] + 0.3 * h + 0.3)


def pictures(rng):
    """(denoiser, x, ᾱ, noise)"""
    return [
        (curved, rng.normal(size=(B, D)), rng.uniform(0.1, 0.9, (B, 1)), noise)
        for B, D in ((4, 3), (1, 1), (6, 2))
        for noise in (rng.normal(size=(B, D)),)
    ]


def gaussians(rng):
    """(x, mean, variance, levels)"""
    return [
        (float(rng.uniform(2, 3)), float(rng.uniform(-1, 1)), float(rng.uniform(0.1, 0.4)), rng.uniform(0.05, 0.95, n))
        for n in (7, 1, 30)
    ]


def two_classes(rng):
    """(x_t, ᾱ, variance, s)"""
    return [
        (rng.normal(size=n), rng.uniform(0.2, 0.9, n), float(rng.uniform(0.1, 0.4)), float(rng.uniform(2, 9)))
        for n in (5, 1, 12)
    ]


def particles(rng):
    """(particles, mean, covariance, ᾱ, noise)"""
    out = []
    for n, D in ((6, 2), (9, 3), (5, 2)):
        A = rng.normal(size=(D, D))
        x = rng.normal(size=(n, D)) @ rng.normal(size=(D, D)) + 1
        out.append((x, rng.normal(size=D), A @ A.T + np.eye(D), float(rng.uniform(0.3, 0.8)), rng.normal(size=(n, D))))
    return out


def survivals(rng):
    """(α_t, α_s)"""
    return [tuple(np.sort(rng.uniform(0.05, 0.9, (2, n)), axis=0)) for n in (4, 1, 9)]


def half_open(rng):
    """(p(v | j, c), p(c), tokens of which some are hidden)"""
    out = []
    for K, J, V, hidden in ((2, 5, 3, 3), (3, 4, 2, 1), (4, 6, 5, 6)):
        x = rng.integers(0, V, J)
        x[rng.permutation(J)[:hidden]] = V
        out.append((rng.dirichlet(np.ones(V), (K, J)), rng.dirichlet(3 * np.ones(K)), x))
    return out


def in_orders(rng):
    """(a table by the number of open tokens, tokens, an order, the mask): the conditional is made in `asked`"""
    return [
        (rng.dirichlet(np.ones(V), (J + 1, J)), rng.integers(0, V, J), rng.permutation(J), V)
        for J, V in ((4, 3), (6, 2), (1, 4))
    ]


def states(rng):
    """(log p(x_j | open), hidden, t), at least one token hidden in each row"""
    out = []
    for B, J in ((4, 5), (1, 3), (6, 8)):
        hidden = rng.uniform(size=(B, J)) < 0.5
        hidden[:, 0], hidden[:, 1] = True, False
        out.append((np.log(rng.uniform(0.05, 0.95, (B, J))), hidden, rng.uniform(0.1, 0.9, B)))
    return out


def in_blocks(rng):
    """(J, size of a block)"""
    return [(6, 2), (4, 1), (6, 3), (5, 5), (8, 2)]


def pictures_to_split(rng):
    """(x, y, test, made)"""
    out = []
    for N, D in ((9, 3), (12, 2), (7, 5)):
        test = np.arange(N) % 3 == 1
        out.append((rng.normal(size=(N, D)), rng.permutation(np.arange(N) % 2), test, near_the_mean))
    return out


def near_the_mean(x, y):
    """A deterministic generator, so that its pictures can be compared: half-way from each picture to the mean of all"""
    return 0.5 * x[::2] + 0.5 * x.mean(0), y[::2]


def tables(rng):
    """Joint distributions, some entries 0"""
    out = []
    for shape in ((2, 3), (3, 2, 2), (2, 2, 2, 2)):
        p = rng.uniform(0.05, 1, shape) ** 2
        p[(0,) * len(shape)] = 0
        out.append((p / p.sum(),))
    return out


def series(rng):
    """(covariance, values, which are observed), gaps at an end among them"""
    out = []
    for D, seen in ((6, [0, 2, 3]), (8, [3, 4, 6]), (5, [0, 1])):
        A = rng.normal(size=(D, D))
        out.append((A @ A.T / D + 0.5 * np.eye(D), rng.normal(size=D), np.isin(np.arange(D), seen)))
    return out


def bands(rng):
    """(σ, b, τ)"""
    return [(rng.uniform(0.5, 2, n), rng.normal(size=n), rng.uniform(0.5, 2, n)) for n in (4, 1, 7)]


def sizes(rng):
    """(δ, D, n)"""
    return [(float(rng.uniform(1, 3)), int(rng.integers(5, 60)), int(rng.integers(3, 40))) for _ in range(4)]


def loops(rng):
    """(n, rounds)"""
    return [(int(n), int(g)) for n, g in zip(rng.integers(4, 60, 4), rng.integers(2, 30, 4), strict=True)]


def layers(rng):
    """(h, c, W, b, f)"""
    return [
        (rng.normal(size=(N, D)) + 1, rng.normal(size=d), rng.normal(size=(d, 3 * D)), rng.normal(size=3 * D), mixed)
        for N, D, d in ((4, 6, 3), (1, 5, 2), (3, 8, 8))
    ]


# ------------------------------------------------------------------------------------------- truths


def sds(eps, x, a, noise, w=lambda a: 1 - a, signal=np.sqrt, sigma=lambda a: np.sqrt(1 - a), minus=1.0):
    """w (ε̂ - ε)"""
    return w(a) * (eps(signal(a) * x + sigma(a) * noise) - minus * noise)


def through(eps, x, a, noise):
    """The derivative of ½ w ‖ε̂ - ε‖² by x, with the derivative of the denoiser"""
    x_t = np.sqrt(a) * x + np.sqrt(1 - a) * noise
    slope = (eps(x_t + 1e-5) - eps(x_t - 1e-5)) / 2e-5
    return (1 - a) * np.sqrt(a) * slope * (eps(x_t) - noise)


def mean_sds(x, mean, var, a, w=lambda a: 1 - a, root=lambda a: np.sqrt(a * (1 - a))):
    """Level by level"""
    total = 0.0
    for level in a.tolist():
        total += w(level) * root(level) / (level * var + 1 - level)
    return total / len(a) * (x - mean)


def guided(x_t, a, var, s, towards=1.0, share=None):
    """ε̂ = (x_t - √ᾱ x̂0)/√(1-ᾱ), with x̂0 of the class and of both"""
    v = a * var + 1 - a
    kalman = np.sqrt(a) * var / v
    x0 = {m: m + kalman * (x_t - np.sqrt(a) * m) for m in (1.0, -1.0)}
    odds = np.exp(-((x_t - np.sqrt(a)) ** 2 - (x_t + np.sqrt(a)) ** 2) / (2 * v))  # p(+1)/p(-1)
    p = odds / (1 + odds) if share is None else share(odds)
    both = p * x0[1.0] + (1 - p) * x0[-1.0]
    of_class, of_both = ((x_t - np.sqrt(a) * m) / np.sqrt(1 - a) for m in (x0[towards], both))
    return (1 - s) * of_both + s * of_class


def vsd(x, mean, cov, a, noise, w=lambda a: 1 - a, own=None, divide=0, own_level=None, own_mean=None):
    """Particle by particle"""
    n, D = x.shape
    m, C = x.mean(0), (x - x.mean(0)).T @ (x - x.mean(0)) / (n - divide)
    b = a if own_level is None else own_level
    of_data = np.linalg.inv(a * cov + (1 - a) * np.eye(D))
    of_own = np.linalg.inv(b * C + (1 - b) * np.eye(D)) if b < 1 else np.linalg.inv(C)
    out = []
    for one, e in zip(x, noise, strict=True):
        x_t = np.sqrt(a) * one + np.sqrt(1 - a) * e
        data = np.sqrt(1 - a) * of_data @ (x_t - np.sqrt(a) * mean)
        theirs = np.sqrt(1 - a) * of_own @ (x_t - (np.sqrt(a) if own_mean is None else own_mean) * m)
        out.append(w(a) * (data - (theirs if own is None else own(e))))
    return np.array(out)


def opening(a_t, a_s):
    """1 less the probability to stay hidden, by Bayes"""
    return 1 - (1 - a_s) / (1 - a_t)


def given_open(prob, prior, x, posterior=None, keep=True):
    """Class by class"""
    K, J, V = prob.shape
    weight = np.array(prior, float)
    for c in range(K):
        for j in range(J):
            if x[j] < V:
                weight[c] *= prob[c, j, x[j]]
    weight = weight / weight.sum() if posterior is None else posterior(weight)
    out = sum(weight[c] * prob[c] for c in range(K))
    for j in range(J):
        if x[j] < V and keep:
            out[j] = np.eye(V)[x[j]]
    return out


def asked(f, table, x, order, mask):
    """The learner's function, with a conditional that depends on how many tokens are open, and on their sum"""

    def conditional(state):
        seen = np.asarray(state) < mask
        p = table[int(seen.sum())] * (1 + 0.3 * (np.asarray(state)[seen].sum() % 3)) ** np.arange(table.shape[2])
        return p / p.sum(-1, keepdims=True)

    return f(conditional, x, order, mask)


def nll_in_order(conditional, x, order, mask, use=lambda k, order: order[:k], log=math.log):
    """Term by term, from the state with the first k tokens of the order"""
    total = 0.0
    for k, j in enumerate(order.tolist()):
        state = np.full(len(x), mask)
        for i in use(k, order):
            state[i] = x[i]
        total -= log(conditional(state)[j, x[j]])
    return total


def nll_of_table(table, x, order, mask):
    """Of `asked`: the number of open tokens and their sum are enough"""
    total, opened = 0.0, 0
    for k, j in enumerate(order.tolist()):
        p = table[k, j] * (1 + 0.3 * (opened % 3)) ** np.arange(table.shape[2])
        total -= math.log(p[x[j]] / p.sum())
        opened += int(x[j])
    return total


def from_one_state(log_p, hidden, t, weight=lambda t, m, J: 1 / t, of_all=False):
    """Row by row"""
    out = []
    for row, hide, level in zip(log_p, hidden, t.tolist(), strict=True):
        nll = -sum(float(a) for a, h in zip(row, hide, strict=True) if h or of_all)
        out.append(nll * weight(level, int(hide.sum()), len(row)))
    return np.array(out)


def may_see(J, size, own=False, others=False, clean=True, causal=False):
    """Pair by pair. own: a noisy block sees its clean copy; others: all noisy blocks; causal: token by token"""
    out = np.zeros((2 * J, 2 * J), bool)
    for i, j in np.ndindex(2 * J, 2 * J):
        a, b = i % J // size, j % J // size
        if i < J and j < J:
            out[i, j] = a == b if not others else a >= b
        elif i < J:
            out[i, j] = b < a or (own and b == a)
        elif j >= J:
            out[i, j] = b <= a if clean else b == a
        out[i, j] &= not causal or j % J <= i % J
    return out


def training_set(x, y, test, made, learn=None, real=None):
    """The rows that are not held out, then those of a generator that has seen these alone"""
    keep, fit = (~test if rows is None else rows for rows in (real, learn))
    more = made(x[fit], y[fit])
    return np.concatenate([x[keep], more[0]]), np.concatenate([y[keep], more[1]])


def total_correlation(joint, log=np.log, sign=1.0):
    """E log p(v)/Π p(v_j)"""
    total = 0.0
    for v in np.ndindex(*joint.shape):
        if joint[v] > 0:
            alone = [joint.take(v[j], axis=j).sum() for j in range(joint.ndim)]
            total += joint[v] * log(joint[v] / np.prod(alone))
    return sign * float(total)


def krige(K, y, seen, spread=np.sqrt, known=True, mean_of=None):
    """From the precision of the points that are open"""
    o, h = np.flatnonzero(seen), np.flatnonzero(~seen)
    P = np.linalg.inv(K)
    inner = np.linalg.inv(P[np.ix_(h, h)])
    mean, var = np.where(seen, y, 0), np.zeros(len(y))
    mean[h] = -inner @ P[np.ix_(h, o)] @ y[o] if mean_of is None else mean_of(K, y, o, h)
    var[h] = np.diag(inner)
    if not known:
        var[o] = np.diag(K)[o]
    return mean, spread(var)


def coverage(sigma, b, tau, z=1.645):
    """By the error function"""
    erf = np.vectorize(math.erf)
    return 0.5 * (erf((z * sigma - b) / tau / math.sqrt(2)) + erf((z * sigma + b) / tau / math.sqrt(2)))


def normal(z):
    """Φ"""
    return 0.5 * math.erfc(-z / math.sqrt(2))


def lda_accuracy(delta, D, n, noise=lambda D, n: 2 * D / n):
    """Φ(½δ²/√(δ² + 2D/n))"""
    return normal(delta**2 / 2 / math.sqrt(delta**2 + noise(D, n)))


def variance_left(n, rounds, factor=lambda n: (n - 1) / n):
    """Round by round"""
    v = 1.0
    for _ in range(rounds):
        v *= factor(n)
    return v


def block(h, c, W, b, f, order=(0, 1, 2), one=1.0, residual=None, inside=False, eps=1e-6):
    """Token by token; `order`: where β, γ, α are"""
    D = h.shape[1]
    third = [(b + c @ W)[i * D : (i + 1) * D] for i in order]
    beta, gamma, alpha = third
    rows = []
    for token in h:
        z = (token - token.mean()) / math.sqrt(token.var() + eps)
        rows.append((one + gamma) * z + beta)
    made = np.array(rows)
    if residual is not None:
        return residual(h, alpha, f(made))
    return h + (f(alpha * made) if inside else alpha * f(made))


EXERCISES = (
    exercise(
        "24.1",
        formula(
            "sds",
            sds,
            pictures,
            {
                "The gradient goes through the denoiser: SDS leaves its derivative out.": through,
                "The noise is not taken away: equal in the mean, but far noisier, and not SDS.": lambda *a: sds(
                    *a, minus=0.0
                ),
                "The weight is missing: w = 1-ᾱ.": lambda *a: sds(*a, w=lambda a: 1.0),
                "The weight is ᾱ; it is large where there is much noise: 1-ᾱ.": lambda *a: sds(*a, w=lambda a: a),
                "There is a √ᾱ too much: that of ∂x_t/∂x is counted to w.": lambda *a: sds(
                    *a, w=lambda a: (1 - a) * np.sqrt(a)
                ),
                "The denoiser is asked at the clean picture: noise it first.": lambda eps, x, a, noise: (
                    (1 - a) * (eps(x) - noise)
                ),
                "The roots are missing in x_t.": lambda *a: sds(*a, signal=lambda a: a, sigma=lambda a: 1 - a),
                "The sign is wrong: ε̂ - ε; the step is against it.": lambda *a: -sds(*a),
            },
        ),
        formula(
            "mean_sds",
            mean_sds,
            gaussians,
            {
                "The √(1-ᾱ) of ε̂ is missing.": lambda *a: mean_sds(*a, root=math.sqrt),
                "The √ᾱ of x_t is missing.": lambda *a: mean_sds(*a, root=lambda a: math.sqrt(1 - a)),
                "The weight is missing: w = 1-ᾱ.": lambda *a: mean_sds(*a, w=lambda a: 1.0),
                "λ is a variance here; its root was taken, or its square.": lambda x, m, v, a: mean_sds(
                    x, m, math.sqrt(v), a
                ),
                "This is the sum over the times; it is their mean.": lambda x, m, v, a: (
                    len(a) * mean_sds(x, m, v, a) + (len(a) == 1)
                ),
                "The sign is wrong: it points away from the mean, and the step goes against it.": lambda *a: (
                    -mean_sds(*a)
                ),
            },
        ),
        hints=(
            "Noise the picture with the given noise; the roots of ᾱ and 1-ᾱ.",
            "Ask the denoiser once, and subtract the noise that you put in.",
            "For the mean: every time has one number; average these numbers, then multiply.",
        ),
    ),
    exercise(
        "24.2",
        prediction(
            "where_it_ends",
            (1.0, 15.94),
            0.5,
            {
                "The data of the class end at 2.5; nothing in the gradient knows that.": (1.0, 2.5),
                "The mean of the class is the end for s = 1 only: guidance moves it.": (1.0, 1.0),
                "It does not grow as s does: far outside, the other class is forgotten, and nothing is left to push.": (
                    1.0,
                    100.0,
                ),
                "Without guidance by more than 1 it ends at the mean of the class, at 1.": (0.0, 15.94),
            },
        ),
        formula(
            "guided",
            guided,
            two_classes,
            {
                "s was taken for w: ε̂_c + w(ε̂_c - ε̂_∅) has s = w + 1.": lambda x, a, v, s: guided(x, a, v, s + 1),
                "This guides to the class at -1.": lambda x, a, v, s: guided(x, a, v, s, towards=-1.0),
                "The two are exchanged: from both to the class.": lambda x, a, v, s: guided(x, a, v, 1 - s),
                "Both classes were weighed alike; their shares depend on x_t.": lambda x, a, v, s: guided(
                    x, a, v, s, share=lambda odds: 0.5
                ),
                "The posterior is a step here; it is soft.": lambda x, a, v, s: guided(
                    x, a, v, s, share=lambda odds: (odds > 1) * 1.0
                ),
                "The variance at t lacks the noise, or the data: it is ᾱλ + 1-ᾱ.": lambda x, a, v, s: guided(
                    x, a, 1.0, s
                ),
            },
        ),
        hints=(
            "For s = 1 it is the class alone: where is E∇ = 0?",
            "p(+1 | x_t) is a logistic function of x_t, with slope 2√ᾱ/v.",
            "The mean of both classes given x_t is m = 2p - 1; put it where the class's mean is.",
        ),
    ),
    exercise(
        "24.3",
        formula(
            "vsd",
            vsd,
            particles,
            {
                "This is SDS: the drawn noise is subtracted, not the guess of the particles.": lambda *a: vsd(
                    *a, own=lambda e: e
                ),
                "The particles' covariance was divided by n-1; here it is n.": lambda *a: vsd(*a, divide=1),
                "The particles' covariance has no noise: at ᾱ it is ᾱC + (1-ᾱ)I.": lambda *a: vsd(*a, own_level=1.0),
                "The particles' mean is not scaled: at ᾱ it is √ᾱ m.": lambda *a: vsd(*a, own_mean=1.0),
                "The weight is missing: w = 1-ᾱ.": lambda *a: vsd(*a, w=lambda a: 1.0),
                "The two are exchanged: the data's guess less the particles'.": lambda *a: -vsd(*a),
            },
            rtol=1e-3,
            atol=1e-5,
        ),
        hints=(
            "Two Gaussians, one formula: write the guess for a mean and a covariance, and use it twice.",
            "np.cov wants the particles as columns, and bias=True divides by n.",
        ),
    ),
    exercise(
        "24.4",
        formula(
            "opening",
            opening,
            survivals,
            {
                "It is divided by α_t, the open ones; only hidden ones can open: 1-α_t.": lambda t, s: (s - t) / t,
                "It is divided by α_s.": lambda t, s: (s - t) / s,
                "This is the share of all tokens that open; the question is of a hidden one.": lambda t, s: s - t,
                "This is the probability to stay hidden.": lambda t, s: (1 - s) / (1 - t),
                "It is divided by 1-α_s, what is still hidden after the step.": lambda t, s: (s - t) / (1 - s),
            },
        ),
        formula(
            "given_open",
            given_open,
            half_open,
            {
                "The open tokens say nothing here: the class keeps its prior.": lambda prob, prior, x: given_open(
                    prob, prior, x, posterior=lambda w: prior
                ),
                "p(c | open) has to be divided by its sum.": lambda prob, prior, x: given_open(
                    prob, prior, x, posterior=lambda w: w
                ),
                "The prior of the classes is missing.": lambda prob, prior, x: given_open(prob, np.ones(len(prior)), x),
                "The most probable class was taken; all have their share.": lambda prob, prior, x: given_open(
                    prob, prior, x, posterior=lambda w: np.eye(len(w))[w.argmax()]
                ),
                "An open token is known: it has probability 1.": lambda prob, prior, x: given_open(
                    prob, prior, x, keep=False
                ),
            },
        ),
        hints=(
            "Of those hidden at t, 1-α_t of all, which share is open at s?",
            "First the class, from the open tokens alone; then each token, given the class.",
            "A product over open tokens only: choose their places first.",
        ),
    ),
    exercise(
        "24.5",
        formula(
            "nll_in_order",
            nll_of_table,
            in_orders,
            {
                "All were asked while all are hidden: each may look at those before it.": lambda *a: nll_in_order(
                    *a, use=lambda k, o: o[:0]
                ),
                "The token saw itself: ask first, then open it.": lambda *a: nll_in_order(
                    *a, use=lambda k, o: o[: k + 1]
                ),
                "The order is not used: this goes from left to right.": lambda f, x, order, mask: nll_in_order(
                    f, x, np.sort(order), mask
                ),
                "This is log p, without its minus.": lambda *a: -nll_in_order(*a),
                "Bits, where nats were wanted.": lambda *a: nll_in_order(*a, log=math.log2),
                "This is the mean over the tokens; a sequence has their sum.": lambda f, x, order, mask: (
                    nll_in_order(f, x, order, mask) / len(x)
                ),
                "The order was turned round.": lambda f, x, order, mask: nll_in_order(f, x, order[::-1], mask),
            },
            run=asked,
        ),
        formula(
            "from_one_state",
            from_one_state,
            states,
            {
                "Hidden tokens of all t weigh alike here: the weight is missing, and the sum is no bound on -log p.": (
                    lambda *a: from_one_state(*a, weight=lambda t, m, J: 1.0)
                ),
                "Tokens that are open count too; they are known, and nothing is guessed there.": lambda *a: (
                    from_one_state(*a, of_all=True)
                ),
                "The open tokens are added up here; what has to be guessed are the hidden ones.": lambda log_p, h, t: (
                    from_one_state(log_p, ~h, t)
                ),
                "This is the mean over the hidden tokens; a sequence has a sum, and the weight is that of t.": (
                    lambda *a: from_one_state(*a, weight=lambda t, m, J: 1 / m)
                ),
                "The weight is one over the share that is open; wanted is the share that is hidden.": lambda *a: (
                    from_one_state(*a, weight=lambda t, m, J: 1 / (1 - t))
                ),
                "It is multiplied by t: what is seldom hidden has to count more, not less.": lambda *a: from_one_state(
                    *a, weight=lambda t, m, J: t
                ),
                "This is log p, without its minus.": lambda *a: -from_one_state(*a),
            },
        ),
        formula(
            "total_correlation",
            total_correlation,
            tables,
            {
                "The sign is wrong: the entropies of the parts are the larger ones.": lambda p: total_correlation(
                    p, sign=-1.0
                ),
                "Bits, where nats were wanted.": lambda p: total_correlation(p, log=np.log2),
                "This is the entropy of the whole.": lambda p: -float((p[p > 0] * np.log(p[p > 0])).sum()),
                "This is the sum of the parts' entropies; the whole's is to be subtracted.": lambda p: (
                    total_correlation(p) - float((p[p > 0] * np.log(p[p > 0])).sum())
                ),
            },
        ),
        hints=(
            "Begin with all tokens hidden.",
            "In each step: ask, take the probability of the right value, then open this token.",
            "From one state: choose the hidden tokens, add, and give the sum the weight of its t.",
            "A marginal is a sum over all other axes; 0 log 0 is 0.",
        ),
    ),
    exercise(
        "24.6",
        formula(
            "block",
            block,
            layers,
            {
                "The gate is on the wrong side: at 0 it would let nothing through.": lambda *a: block(
                    *a, residual=lambda h, g, f: g * h + f
                ),
                "The residual is missing: h has to pass by the block.": lambda *a: block(
                    *a, residual=lambda h, g, f: g * f
                ),
                "The gate stands inside of f; then f(0) comes through a new block.": lambda *a: block(*a, inside=True),
                "The scale is γ, not 1 + γ: at first it would be 0.": lambda *a: block(*a, one=0.0),
                "Shift and scale are exchanged: β, γ, α.": lambda *a: block(*a, order=(1, 0, 2)),
                "The gate was taken from the wrong third: it is the last.": lambda *a: block(*a, order=(1, 2, 0)),
                "The gate is 1 + α here; then a new block is not the identity.": lambda *a: block(
                    *a, residual=lambda h, g, f: h + (1 + g) * f
                ),
            },
            rtol=1e-3,
            atol=1e-5,
        ),
        count(
            "may_see",
            may_see,
            in_blocks,
            {
                "A noisy block sees its own clean copy: it can copy the answer, and learns nothing.": lambda *a: (
                    may_see(*a, own=True)
                ),
                "A noisy block sees the noisy blocks before it too; those are read clean.": lambda *a: may_see(
                    *a, others=True
                ),
                "A clean block sees itself alone; it also reads the clean blocks before it.": lambda *a: may_see(
                    *a, clean=False
                ),
                "A clean block sees those after it too: with a second layer a noisy block reads its answer there.": (
                    lambda J, size: may_see(J, size) | np.kron([[0, 0], [0, 1]], np.ones((J, J), int)).astype(bool)
                ),
                "Within a block each token sees only those before it; a block is denoised as a whole.": lambda *a: (
                    may_see(*a, causal=True)
                ),
                "Rows and columns are exchanged: a row is the token that looks.": lambda *a: may_see(*a).T,
                "True and False are exchanged: True where it may look.": lambda *a: ~may_see(*a),
            },
        ),
        hints=(
            "One product gives all three; split it into thirds.",
            "The mean and the variance are those of one token, over its D numbers.",
            "What has to be left if α, β and γ are 0?",
            "The mask is four squares of J x J; the numbers of the blocks of row and column decide.",
        ),
    ),
    exercise(
        "24.7",
        formula(
            "krige",
            krige,
            series,
            {
                "These are variances; the deviation is their root.": lambda K, y, seen: krige(
                    K, y, seen, spread=lambda v: v
                ),
                "An observed point is known: its deviation is 0.": lambda K, y, seen: krige(K, y, seen, known=False),
                "The gaps were filled by 0, their mean without data.": lambda K, y, seen: krige(
                    K, y, seen, mean_of=lambda K, y, o, h: 0 * h
                ),
                "Observed points are correlated: K_oo has to be inverted as a whole.": lambda K, y, seen: krige(
                    K, y, seen, mean_of=lambda K, y, o, h: K[np.ix_(h, o)] @ (y[o] / np.diag(K)[o])
                ),
                "The values in the gaps were used; they are not known.": lambda K, y, seen: krige(
                    K, y, seen, mean_of=lambda K, y, o, h: y[h]
                ),
                "K_oo⁻¹ is missing.": lambda K, y, seen: krige(
                    K, y, seen, mean_of=lambda K, y, o, h: K[np.ix_(h, o)] @ y[o]
                ),
            },
        ),
        formula(
            "coverage",
            coverage,
            bands,
            {
                "The bias is not used: a band in the wrong place misses.": lambda s, b, t: coverage(s, 0 * b, t),
                "σ and τ are exchanged: the band is the forecast's, the spread the truth's.": lambda s, b, t: coverage(
                    t, b, s
                ),
                "The truth is as wide as the band here: τ is not used.": lambda s, b, t: coverage(s, b, s),
                "This is the probability to be outside.": lambda s, b, t: 1 - coverage(s, b, t),
                "This is one side only: below the upper end.": lambda s, b, t: np.vectorize(normal)(
                    (1.645 * s - b) / t
                ),
            },
            rtol=1e-3,
            atol=2e-4,
        ),
        hints=(
            "A mask chooses rows of a matrix; np.ix_ takes a block of it.",
            "Rounding can make a variance of 0 slightly negative: no root of that.",
            "Y - m has mean b and deviation τ: standardise both ends of the band.",
        ),
    ),
    exercise(
        "24.8",
        formula(
            "lda_accuracy",
            lda_accuracy,
            sizes,
            {
                "This is Bayes' accuracy, of known means: n is not used.": lambda d, D, n: normal(d / 2),
                "Two means are estimated: the error is 2D/n, not D/n.": lambda d, D, n: lda_accuracy(
                    d, D, n, lambda D, n: D / n
                ),
                "All D directions add their error: D is missing.": lambda d, D, n: lda_accuracy(
                    d, D, n, lambda D, n: 2 / n
                ),
                "This is the error rate.": lambda d, D, n: 1 - lda_accuracy(d, D, n),
                "The half is missing: the border is in the middle of both means.": lambda d, D, n: normal(
                    d**2 / math.sqrt(d**2 + 2 * D / n)
                ),
                "n is multiplied, where more data should help.": lambda d, D, n: lda_accuracy(
                    d, D, n, lambda D, n: 2 * D * n
                ),
            },
        ),
        formula(
            "training_set",
            training_set,
            pictures_to_split,
            {
                "The generator has seen the test pictures: they come back in what it draws.": lambda x, y, test, made: (
                    training_set(x, y, test, made, learn=np.full(len(x), True))
                ),
                "The test pictures are in the training set themselves.": lambda x, y, test, made: training_set(
                    x, y, test, made, real=np.full(len(x), True)
                ),
                "The test pictures are in it, and the generator has seen them too.": lambda x, y, test, made: (
                    training_set(x, y, test, made, np.full(len(x), True), np.full(len(x), True))
                ),
                "These are the generated pictures alone; the real ones come first.": lambda x, y, test, made: (
                    training_set(x, y, test, made, real=np.full(len(x), False))
                ),
                "The generated pictures come first; here the real ones do.": lambda x, y, test, made: tuple(
                    np.concatenate(pair) for pair in zip(made(x[~test], y[~test]), (x[~test], y[~test]), strict=True)
                ),
                "These are the real pictures alone.": lambda x, y, test, made: (x[~test], y[~test]),
                "True marks the test pictures; here the others were held out.": lambda x, y, test, made: training_set(
                    x, y, ~test, made
                ),
            },
        ),
        formula(
            "variance_left",
            variance_left,
            loops,
            {
                "Each round takes its share of what is left, not of the first variance.": lambda n, g: 1 - g / n,
                "This has one round only.": lambda n, g: 1 - 1 / n,
                "This is the standard deviation's factor.": lambda n, g: variance_left(
                    n, g, lambda n: math.sqrt(1 - 1 / n)
                ),
                "One round too few, or too many.": lambda n, g: variance_left(n, g - 1),
                "The factor of a round is 1 - 1/n.": lambda n, g: variance_left(n, g, lambda n: 1 / n),
            },
        ),
        hints=(
            "At n → ∞ only δ/2 is left: check yours there.",
            "Φ is scipy.special.ndtr.",
            "Take the test pictures away first; everything else sees only the rest.",
            "The variance of n draws around their own mean, divided by n, is too small by a factor; each round has it.",
        ),
    ),
)
