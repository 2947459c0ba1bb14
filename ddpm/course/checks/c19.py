"""Lesson 19, flow matching: the truth of its six exercises, and the mistakes that have a name."""

from __future__ import annotations

import itertools
import math

import numpy as np

from ddpm.course.exercise import exercise, formula, identity, prediction

# ------------------------------------------------------------------------------------------- inputs, by seed


def powers(rng):
    """ᾱ, one or many"""
    return [(float(rng.uniform(0.05, 0.4)),), (rng.uniform(0.1, 0.9, 5),), (rng.uniform(0.6, 0.95, (2, 3)),)]


def predictions(rng):
    """(ᾱ, x_t, û)"""
    shapes = ((3, 5), (2, 4, 4, 1), (1, 7))
    levels = (rng.uniform(0.05, 0.3), rng.uniform(0.4, 0.45), rng.uniform(0.7, 0.95))
    return [(float(a), rng.normal(size=s), rng.normal(size=s)) for a, s in zip(levels, shapes, strict=True)]


def some_velocity(x, tau):
    """A velocity that depends on the point and on the time."""
    return 0.4 * x + (0.3 * tau + 0.1)[:, None]


def batches(rng):
    """(velocity, x0, ε, τ)"""
    return [
        (some_velocity, rng.normal(size=(B, D)), rng.normal(size=(B, D)), rng.uniform(0.05, 0.95, B))
        for B, D in ((5, 3), (2, 7), (1, 4))
    ]


def pull(x, tau):
    """A velocity whose time is one number."""
    return 0.7 * x * (1 + tau) - 0.5 * tau


def walks(rng):
    """(velocity, x, times) with uneven steps"""
    out = []
    for N, shape in ((3, (4,)), (5, (2, 3)), (1, (2, 2, 2, 1))):
        inner = np.sort(rng.uniform(0.1, 0.85, N - 1))[::-1]
        out.append((pull, rng.normal(size=shape), np.concatenate([[float(rng.uniform(0.9, 1.0))], inner, [0.0]])))
    return out


def lists(rng):
    """(λ, times from 1, or from below it)"""
    out = []
    for N, top in ((4, 1.0), (3, 0.9), (6, 1.0)):
        inner = np.sort(rng.uniform(0.1, 0.85, N - 1))[::-1]
        out.append((float(rng.uniform(0.05, 0.5)), np.concatenate([[top], inner, [0.0]])))
    return [*out, (float(rng.uniform(2, 4)), np.array([1.0, 0.6, 0.2, 0.0]))]


def numbers(rng):
    """(λ, N)"""
    return [(float(v), N) for v, N in zip(rng.uniform(0.05, 0.5, 3), (2, 5, 9), strict=True)] + [(3.0, 4)]


def jumps(rng):
    """(x, t, s, λ): down, up, and all the way"""
    x = rng.normal(size=(4, 5))
    a, b = sorted(rng.uniform(0.1, 0.9, 2))
    return [(x[0], 1.0, 0.0, 0.25), (x[1], b, a, 0.1), (x[2], a, b, 0.2), (x[3], b, 0.0, float(rng.uniform(0.05, 0.4)))]


def ways(rng):
    """(points, times from 0 to 1, not even)"""
    out = []
    for N, B in ((3, 4), (7, 2), (12, 5)):
        times = np.concatenate([[0.0], np.sort(rng.uniform(0.05, 0.95, N - 1)), [1.0]])
        out.append((rng.normal(size=(N + 1, B)), times))
    return out


def on_lines(rng):
    """(x, τ, μ, λ)"""
    return [
        (rng.normal(size=B), float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.4, 1)), float(rng.uniform(0.1, 0.6)))
        for B in (4, 1, 7)
    ]


# ------------------------------------------------------------------------------------------- truths


def flow_time(a):
    """1/(1 + √SNR)"""
    a = np.asarray(a, np.float64)
    return 1 / (1 + np.sqrt(a / (1 - a)))


def heads(a_bar, x, u):
    """On the straight line ε = x + (1-τ) u and x0 = x - τ u, where its x is c x_t."""
    tau = flow_time(a_bar)
    c = (1 - tau) / math.sqrt(a_bar)
    return c * x + (1 - tau) * u, c * x - tau * u


def wrong_heads(of, a="√", b="√"):
    """(B, ...) by a formula in a and b"""
    return lambda a_bar, x, u: of(np.sqrt(a_bar), np.sqrt(1 - a_bar), x, u)


def flow_loss(velocity, x0, eps, tau, point=None, target=None, asked=lambda tau: tau):
    """Image by image"""
    out = np.empty(len(x0))
    for i, (x, e, t) in enumerate(zip(x0, eps, tau, strict=True)):
        at = point(x, e, t) if point else x + t * (e - x)
        answer = velocity(at[None], np.array([asked(t)]))[0]
        out[i] = np.mean(((target(x, e) if target else e - x) - answer) ** 2)
    return out


def euler(velocity, x, times, length=lambda t, s: s - t, at=lambda t, s: t, order=lambda times: times):
    """One step after the other"""
    x, times = np.array(x, np.float64), list(order(times))
    for i in range(len(times) - 1):
        x = x + length(times[i], times[i + 1]) * velocity(x, at(times[i], times[i + 1]))
    return x


def gain(var, times, scale=math.sqrt):
    """cos of each step by the scalar product of two directions"""
    out = 1.0
    for t, s in itertools.pairwise(times):
        p, q = ((a * scale(1), (1 - a) * scale(var)) for a in (t, s))
        out *= (p[0] * q[0] + p[1] * q[1]) / math.hypot(*p) / math.hypot(*q)
    return out


def best_times(var, N, root=math.sqrt):
    """b/a = √λ tan θ, end points put in by hand"""
    ratio = [root(var) * math.tan(math.pi / 2 * (N - i) / N) for i in range(1, N)]
    return np.array([1.0, *(r / (1 + r) for r in ratio), 0.0])


def share(x, tau, var, shrink=True, noise=True):
    """F_τ(x) of the two lumps, by the error function"""
    m = (1 - tau) if shrink else 1.0
    std = math.sqrt((1 - tau) ** 2 * var + tau**2 if noise else var)
    return sum(0.5 * math.erfc(-(x - k * m) / std / math.sqrt(2)) for k in (1, -1)) / 2


def flow_map(x, t, s, var, of=share):
    """By bisection, point by point"""
    out = []
    for p in (of(float(a), t, var) for a in x):
        low, high = -12.0, 12.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if of(middle, s, var) < p else (low, middle)
        out.append((low + high) / 2)
    return np.array(out)


def straightness(x, times, weight=None, total=None, average=np.mean):
    """∫ E v² dτ - E (x_1 - x_0)², since the mean velocity is the displacement"""
    h, step = np.diff(times)[:, None], np.diff(x, axis=0)
    if weight is None and total is None:
        return average((step**2 / h).sum(0) - (x[-1] - x[0]) ** 2)
    weight = h if weight is None else weight(h)
    return average((weight * (step / h - (total(x) if total else x[-1] - x[0])) ** 2).sum(0))


def reflowed(x, tau, mean, var):
    """The line through (τ, x): solve x = (1-τ)(μ + √λ z) + τ z for z"""
    root = math.sqrt(var)
    z = (x - mean + tau * mean) / (root + tau * (1 - root))
    return z - (mean + root * z)


EXERCISES = (
    exercise(
        "19.1",
        formula(
            "flow_time",
            flow_time,
            powers,
            {
                "This is b alone: divide by a + b, since the two weights have to sum to one.": lambda a: np.sqrt(1 - a),
                "The roots are missing: ᾱ is a power, and a = √ᾱ is an amplitude.": lambda a: 1 - a,
                "The clock runs backwards: τ = 1 is the noise here, as t = T is.": lambda a: 1 - flow_time(a),
                "This is σ = b/a, EDM's clock; it has no end. Divide by a + b.": lambda a: np.sqrt((1 - a) / a),
                "This is the angle φ with cos φ = a, in units of a right one.": lambda a: (
                    np.arccos(np.sqrt(a)) * 2 / np.pi
                ),
            },
        ),
        formula(
            "heads",
            heads,
            predictions,
            {
                "The division by a + b is missing: x_t + a u is (a + b) ε.": wrong_heads(
                    lambda a, b, x, u: (x + a * u, x - b * u)
                ),
                "a and b are swapped: the share of the image in x_t is a.": wrong_heads(
                    lambda a, b, x, u: ((x + b * u) / (a + b), (x - a * u) / (a + b))
                ),
                "The signs belong to u = x0 - ε, with the clock the other way; here u = ε - x0.": wrong_heads(
                    lambda a, b, x, u: ((x - a * u) / (a + b), (x + b * u) / (a + b))
                ),
                "The order is (ε̂, x̂0).": lambda *args: heads(*args)[::-1],
                "x + (1-τ) u and x - τ u hold on the straight line; x_t has to be divided by a + b first.": wrong_heads(
                    lambda a, b, x, u: (x + a / (a + b) * u, x - b / (a + b) * u)
                ),
                "The roots are missing: ᾱ is a power, and a = √ᾱ is an amplitude.": lambda a, x, u: (
                    x + a * u,
                    x - (1 - a) * u,
                ),
                "û was read as v = a ε - b x0; flow matching predicts ε - x0.": wrong_heads(
                    lambda a, b, x, u: (b * x + a * u, a * x - b * u)
                ),
            },
        ),
        identity(
            "heads",
            lambda f, a, x, u: np.subtract(*f(a, x, u)),
            lambda a, x, u: u,
            predictions,
        ),
        hints=(
            "x_t = a x0 + b ε and u = ε - x0 are two equations for x0 and ε.",
            "In x_t + a u the image cancels; in x_t - b u the noise does.",
            "What is left is (a + b) times the one or the other.",
        ),
    ),
    exercise(
        "19.2",
        formula(
            "flow_loss",
            flow_loss,
            batches,
            {
                "The target is x0 - ε, for a clock that runs to the data; here τ = 1 is noise.": lambda *a: flow_loss(
                    *a, target=lambda x, e: x - e
                ),
                "The target is ε: this is DDPM's loss at the points of the straight line.": lambda *a: flow_loss(
                    *a, target=lambda x, e: e
                ),
                "The target is x0; a velocity is ε - x0.": lambda *a: flow_loss(*a, target=lambda x, e: x),
                "The point has the weights swapped: at τ = 1 it has to be ε.": lambda *a: flow_loss(
                    *a, point=lambda x, e, t: t * x + (1 - t) * e
                ),
                "The point is x_t = √(1-τ) x0 + √τ ε of the chain; on the straight line there are no roots.": (
                    lambda *a: flow_loss(*a, point=lambda x, e, t: np.sqrt(1 - t) * x + np.sqrt(t) * e)
                ),
                "The network is asked at 1 - τ.": lambda *a: flow_loss(*a, asked=lambda t: 1 - t),
                "The point is the clean image; the network has to see the noisy one.": lambda *a: flow_loss(
                    *a, point=lambda x, e, t: x
                ),
                "The numbers of an image were added up; here it is their mean.": lambda v, x0, *a: (
                    x0.shape[1] * flow_loss(v, x0, *a)
                ),
                "This is one number for the batch; return the error of each image.": lambda *a: np.mean(flow_loss(*a)),
                "The square is missing.": lambda v, x0, eps, tau: np.mean(
                    np.abs(eps - x0 - v((1 - tau)[:, None] * x0 + tau[:, None] * eps, tau)), 1
                ),
            },
            traceable=True,
        ),
        prediction(
            "start_and_floor",
            (2.0, math.pi / 2),
            0.1,
            {
                "ε has variance one, but the target is ε - x0: variances add up.": (1.0, math.pi / 2),
                "A loss of 0 would need to know ε and x0 from one point between them. The best guess is a mean.": (
                    2.0,
                    0.0,
                ),
                "That is 1/v at τ = ½ alone; the loss is its mean over all τ.": (2.0, 2.0),
                "1 is what is left at the two ends, τ = 0 and τ = 1; in between more is left.": (2.0, 1.0),
            },
        ),
        hints=(
            "tau[:, None] multiplies each image by its own time.",
            "Three lines: the point, the target, the mean of the squared difference over the last axis.",
            "For the bet: E(ε - x0)² of independent variables; then ∫ dτ/((1-τ)² + τ²), which is an arc tangent.",
        ),
    ),
    exercise(
        "19.3",
        formula(
            "euler",
            euler,
            walks,
            {
                "The sign of the step is wrong: s < τ, so the step s - τ is negative.": lambda *a: euler(
                    *a, length=lambda t, s: t - s
                ),
                "The velocity is taken where the step ends; Euler's method takes it where x is now.": lambda *a: euler(
                    *a, at=lambda t, s: s
                ),
                "The network is asked at 1 - τ: its clock runs as ours.": lambda *a: euler(*a, at=lambda t, s: 1 - t),
                "All steps have the same length here; the list has its own.": lambda v, x, times: euler(
                    v, x, times, length=lambda t, s: (times[-1] - times[0]) / (len(times) - 1)
                ),
                "The list was walked upwards, from the data to the noise.": lambda *a: euler(
                    *a, order=lambda times: times[::-1]
                ),
                "The last step is missing: it ends at times[-1].": lambda *a: euler(*a, order=lambda times: times[:-1]),
                "The velocity was not multiplied by the length of the step.": lambda *a: euler(
                    *a, length=lambda t, s: -1.0
                ),
            },
        ),
        hints=(
            "itertools.pairwise gives each time and the next.",
            "The step is the next time minus this one, a negative number.",
        ),
    ),
    exercise(
        "19.4",
        formula(
            "euler_gain",
            gain,
            lists,
            {
                "√λ is missing below: this is the gain for λ = 1.": lambda var, times: gain(1.0, times),
                "λ stands where √λ belongs: an angle compares deviations.": lambda var, times: gain(
                    var, times, scale=lambda v: v
                ),
                "a and b are swapped with respect to λ: it is the image's share that has the deviation √λ.": (
                    lambda var, times: gain(1 / var, times)
                ),
                "The factors were added; steps one after the other multiply.": lambda var, times: sum(
                    gain(var, times[i : i + 2]) for i in range(len(times) - 1)
                ),
                "This is one jump from the first time to the last; each step has its own factor.": lambda var, times: (
                    gain(var, times[[0, -1]])
                ),
                "This is the deviation itself; the exercise asks for its ratio to √λ.": lambda var, times: (
                    math.sqrt(var) * gain(var, times)
                ),
                "Straight time was taken for an angle: θ = (π/2) τ holds on the trigonometric path.": (
                    lambda var, times: np.prod(np.cos(np.diff(np.pi / 2 * np.asarray(times))))
                ),
            },
        ),
        formula(
            "best_times",
            best_times,
            numbers,
            {
                "These are even times; the angles have to be even.": lambda var, N: np.linspace(1, 0, N + 1),
                "√λ is missing: these times are best for λ = 1.": lambda var, N: best_times(1.0, N),
                "λ stands where √λ belongs.": lambda var, N: best_times(var, N, root=lambda v: v),
                "√λ divides where it should multiply: narrow data need more steps near the image.": lambda var, N: (
                    best_times(1 / var, N)
                ),
                "The list rises; a walk begins in the noise.": lambda var, N: best_times(var, N)[::-1],
                "These are the angles; the list has to be in τ.": lambda var, N: np.linspace(np.pi / 2, 0, N + 1),
                "sin θ is not τ: on the straight line b/a = τ/(1-τ).": lambda var, N: np.sin(
                    np.pi / 2 * np.linspace(1, 0, N + 1)
                ),
            },
        ),
        hints=(
            "np.arctan2(b, a√λ) is the angle, also at τ = 1.",
            "np.diff for the steps, np.cos, np.prod.",
            "For the list: τ/(1-τ) = √λ tan θ. With sin and cos in place of tan nothing is infinite.",
        ),
    ),
    exercise(
        "19.5",
        formula(
            "flow_map",
            flow_map,
            jumps,
            {
                "t and s are swapped: the share to the left is taken at t, where x is.": lambda x, t, s, var: flow_map(
                    x, s, t, var
                ),
                "This is the share F_t(x); it still has to be turned into a point at s.": lambda x, t, s, var: np.array(
                    [share(float(a), t, var) for a in x]
                ),
                "The points were only scaled by the deviations: that is the map of one Gaussian.": (
                    lambda x, t, s, var: (
                        x * math.sqrt(((1 - s) ** 2 * (1 + var) + s**2) / ((1 - t) ** 2 * (1 + var) + t**2))
                    )
                ),
                "This map goes to the noise: the inverse was taken at 1, not at s.": lambda x, t, s, var: flow_map(
                    x, t, 1.0, var
                ),
                "This map goes to the data: the inverse was taken at 0, whatever s is.": lambda x, t, s, var: flow_map(
                    x, t, 0.0, var
                ),
                "F_s falls here: the interval was halved to the wrong side.": lambda x, t, s, var: (
                    -flow_map(x, t, s, var)
                ),
            },
            rtol=1e-6,
            atol=1e-7,
        ),
        identity(
            "flow_map",
            lambda f, x, t, s, var: f(np.asarray(f(x, t, s, var)), s, t, var),
            lambda x, t, s, var: x,
            jumps,
        ),
        hints=(
            "p = cdf(x, t, var) is what stays the same along a trajectory.",
            "If the share left of the middle at s is too small, the point lies to the right of the middle.",
            "np.where moves the lower or the upper end, for all points at once.",
        ),
    ),
    exercise(
        "19.6",
        formula(
            "straightness",
            straightness,
            ways,
            {
                "The steps are not even: each counts with its length.": lambda x, times: straightness(
                    x, times, weight=lambda h: np.full(h.shape, 1 / len(h))
                ),
                "The whole displacement is missing: this is the mean square of the speed.": lambda x, times: (
                    straightness(x, times, total=lambda x: 0.0)
                ),
                "The displacement has the wrong sign: it is the last point less the first.": lambda x, times: (
                    straightness(x, times, total=lambda x: x[0] - x[-1])
                ),
                "The sum over the trajectories was taken; it is their mean.": lambda x, times: straightness(
                    x, times, average=np.sum
                ),
                "A speed is a difference divided by the length of its step.": lambda x, times: np.mean(
                    (np.diff(times)[:, None] * (np.diff(x, axis=0) - (x[-1] - x[0])) ** 2).sum(0)
                ),
            },
            rtol=1e-3,
        ),
        formula(
            "reflowed",
            reflowed,
            on_lines,
            {
                "This is the velocity of the first flow, whose pairs are independent.": lambda x, tau, m, v: (
                    -m + (tau - (1 - tau) * v) / ((1 - tau) ** 2 * v + tau**2) * (x - (1 - tau) * m)
                ),
                "μ is missing at the end: x_1 - x_0 is x_1 (1 - √λ) - μ.": lambda x, tau, m, v: (
                    reflowed(x, tau, m, v) + m
                ),
                "μ is missing in x_1: the lines begin at μ + √λ x_1.": lambda x, tau, m, v: reflowed(
                    x + (1 - tau) * m, tau, m, v
                ),
                "The sign is that of x_0 - x_1.": lambda *a: -reflowed(*a),
                "λ stands where √λ belongs: the pairs are x_0 = μ + √λ x_1.": lambda x, tau, m, v: reflowed(
                    x, tau, m, v**2
                ),
                "x was taken for x_1: this holds at τ = 1 only.": lambda x, tau, m, v: x * (1 - np.sqrt(v)) - m,
                "This returns x_1; the velocity is x_1 - x_0.": lambda x, tau, m, v: (
                    (x - (1 - tau) * m) / ((1 - tau) * np.sqrt(v) + tau)
                ),
            },
        ),
        hints=(
            "np.diff(x, axis=0) over np.diff(times): the speed of each piece.",
            "On the line through x: x = (1-τ)(μ + √λ x_1) + τ x_1. Which x_1 is it?",
            "Then x_0 = μ + √λ x_1, and the velocity is the difference.",
        ),
    ),
)
