"""Lesson 0, the warm-up: the truth of its four exercises, and the mistakes that have a name."""

from __future__ import annotations

import numpy as np

from ddpm.course.exercise import exercise, formula, identity, moments, prediction

# ------------------------------------------------------------------------------------------- inputs, by seed


def seeds(rng):
    """(a seed, n)"""
    return [(int(rng.integers(10_000)), n) for n in (2000, 3001)]


def chains(rng):
    """(a, ε) of several lengths and shapes"""
    return [(rng.uniform(0.3, 0.9, s[0]), rng.normal(size=s)) for s in ((5, 3), (9,), (4, 2, 3))]


def batches(rng):
    """(ᾱ, x0, t, ε): the times of a batch differ"""
    out = []
    for shape in ((5, 3, 4, 1), (3, 2), (4, 4)):
        alpha_bar = np.concatenate([[1.0], np.cumprod(rng.uniform(0.75, 0.95, 9))])
        t = rng.permutation(np.arange(1, 10))[: shape[0]]
        out.append((alpha_bar, rng.uniform(-1, 1, shape), t, rng.normal(size=shape)))
    return out


# ------------------------------------------------------------------------------------------- truths


def statistic(f, seed, n):
    """Properties of the two rows, in the order of PROPERTIES"""
    import jax

    x, y = (np.asarray(a, np.float64) for a in f(jax.random.key(seed), n))
    other = np.asarray(f(jax.random.key(seed + 1), n)[0], np.float64)
    sizes = np.corrcoef(abs(x), abs(y))[0, 1]
    shared, again = shared_sizes(x, y), shared_sizes(x, other)
    fourth = (x**4).mean(), (y**4).mean()
    return np.array(
        [np.corrcoef(x, y)[0, 1], x.mean(), y.mean(), x.var(), y.var(), *fourth, sizes, shared, again, repeated(x)]
    )


PROPERTIES = (
    "the correlation of the two rows",
    *(
        f"the {what} of the {row} row"
        for what in ("mean", "variance", "mean fourth power")
        for row in ("first", "second")
    ),
    "the correlation of the sizes |x| and |y|",
    "the share of the numbers (up to sign) that are in both rows, in whatever order,",
    "the share of the numbers that come again with another key",
    "the share of the numbers (up to sign) that come again in the first row",
)


def shared_sizes(x, y):
    """The share of the |x| that are among the |y|"""
    return np.isin(abs(x), abs(y)).mean()


def repeated(x):
    """The share of the |x| that are there already"""
    return 1 - len(np.unique(abs(x))) / len(x)


def independent(seed, n):
    """Of independent standard normals: Var(x²) = 2, Var(x⁴) = 96; float32 repeats a few of 3000 numbers by chance"""
    error = np.sqrt(np.array([1, 1, 1, 2, 2, 96, 96, 1]) / n)
    return np.array([0.0, 0, 0, 1, 1, 3, 3, 0, 0, 0, 0]), np.append(error, [0.005] * 3)


def form(f, seed, n):
    """Zeros of the shapes that f returns"""
    import jax

    out = f(jax.random.key(seed), n)
    return tuple(np.zeros(np.shape(a)) for a in out) if isinstance(out, (tuple, list)) else out


def twice(f, seed, n):
    """How far the draws of two calls with the same key are apart"""
    import jax

    first, second = f(jax.random.key(seed), n), f(jax.random.key(seed), n)
    return float(max(np.abs(np.asarray(a) - np.asarray(b)).max() for a, b in zip(first, second, strict=True)))


def draws(same=False, distribution="normal", signs=1, second=None, ignored=False):
    """Wrong ways to draw; second(x) makes the second row of the first"""

    def wrong(key, n):
        import jax

        key = jax.random.key(0) if ignored else key
        keys = (key, key) if same else jax.random.split(key)
        x, y = (getattr(jax.random, distribution)(k, (n,)) for k in keys)
        return x, (second(x) if second else signs * x if signs != 1 else y)

    return wrong


def chain(a, eps, first=None, update=None, when="after"):
    """One step after the other"""
    update = update or (lambda a, x, e: a * x + e)
    x, out = np.zeros(eps.shape[1:]) if first is None else first, []
    for k in range(len(a)):
        before, x = x, update(a[k], x, eps[k])
        out.append(x if when == "after" else before)
    return np.stack(out)


def noisy_batch(alpha_bar, x0, t, eps):
    """Image by image"""
    return np.stack(
        [alpha_bar[k] ** 0.5 * x + (1 - alpha_bar[k]) ** 0.5 * e for x, k, e in zip(x0, t, eps, strict=True)]
    )


EXERCISES = (
    exercise(
        "0.1",
        identity("two_normals", form, lambda seed, n: (np.zeros(n), np.zeros(n)), seeds),
        moments(
            "two_normals",
            statistic,
            independent,
            seeds,
            {
                "The same key was used twice, so the two rows are the same numbers.": draws(same=True),
                "The second row is the first with the other sign: not independent.": draws(signs=-1),
                "These are uniform numbers; the exercise asks for normal ones.": draws(distribution="uniform"),
                "These are signs, 1 and -1; the exercise asks for normal numbers.": draws(distribution="rademacher"),
                "The second row has the numbers of the first in another order: not independent.": draws(
                    second=lambda x: x[::-1]
                ),
                "The key was ignored: another key has to give other numbers.": draws(ignored=True),
            },
            labels=PROPERTIES,
        ),
        identity("two_normals", twice, lambda seed, n: 0.0, seeds),
        hints=(
            "jax.random.split makes two keys of one.",
            "Each row needs its own key, and the old one is not used again.",
        ),
    ),
    exercise(
        "0.2",
        formula(
            "chain",
            chain,
            chains,
            {
                "These are x_0…x_{T-1}: return the carry after the step, not before it.": lambda a, e: chain(
                    a, e, when="before"
                ),
                "Only the last x was returned; scan's second result has all of them.": lambda a, e: chain(a, e)[-1],
                "The ε were added up without shrinking.": lambda a, e: np.cumsum(e, 0),
                "ε was added before shrinking: it is a x + ε, not a (x + ε).": lambda a, e: chain(
                    a, e, update=lambda a, x, e: a * (x + e)
                ),
                "The chain begins at 0, not at ε_1: this shrinks ε_1 once too often.": lambda a, e: chain(
                    a, e, first=e[0]
                ),
            },
            traceable=True,
        ),
        hints=(
            "The step takes x and a pair (a_t, ε_t), and returns the new x twice: as carry and as output.",
            "The first carry has the shape of one ε_t: jnp.zeros(eps.shape[1:]).",
            "scan returns (last carry, all outputs).",
        ),
    ),
    exercise(
        "0.3",
        formula(
            "noisy_batch",
            noisy_batch,
            batches,
            {
                "All images got the time of the first.": lambda a, x, t, e: noisy_batch(a, x, np.full(len(t), t[0]), e),
                "The roots are missing: ᾱ is a power.": lambda a, x, t, e: (
                    noisy_batch(a**2, x, t, 0 * e) + np.stack([(1 - a[k]) * n for k, n in zip(t, e, strict=True)])
                ),
                "The times are off by one: ᾱ_0 = 1 is the first entry of the list.": lambda a, x, t, e: noisy_batch(
                    a, x, t - 1, e
                ),
                "Signal and noise are swapped.": lambda a, x, t, e: noisy_batch(1 - a, x, t, e),
                "The batch of times went along the list ᾱ: it is shared, in_axes None.": lambda a, x, t, e: noisy_batch(
                    a, x, np.arange(len(t)), e
                ),
            },
            traceable=True,
        ),
        hints=(
            "A function of one image and one time first.",
            "in_axes has an entry for each argument: None for the list, 0 for the others.",
        ),
    ),
    exercise(
        "0.4",
        prediction(
            "times_traced",
            3.0,
            0.4,
            {
                "Every call runs what was compiled; Python runs only for shapes and types not seen before.": 6.0,
                "Other shapes, and whole numbers in place of floats, are compiled anew.": 1.0,
                "Shapes were counted; the type counts too: whole numbers are not floats.": 2.0,
            },
        ),
        hints=(
            "Write down shape and type of each argument.",
            "How many different pairs are there?",
        ),
    ),
)
