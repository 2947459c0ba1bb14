"""Lesson 20, few steps: the truth of its six exercises, and the mistakes that have a name."""

from __future__ import annotations

import itertools
import math

import numpy as np

from ddpm.course.exercise import exercise, formula, identity, prediction

# ------------------------------------------------------------------------------------------- inputs, by seed


def jumps(rng):
    """(x, t, s, μ, λ): down, all the way, and up"""
    out = []
    for B in (4, 1, 6):
        s, t = np.sort(rng.uniform(0.1, 0.9, 2)) + np.array([0, 0.05])
        out.append((rng.normal(size=B), float(t), float(s), float(rng.uniform(0.4, 1)), float(rng.uniform(0.05, 0.6))))
    x, t, s, mean, var = out[0]
    return [*out, (x, 1.0, 0.0, mean, var), (x, s, t, mean, var)]


def spans(rng):
    """(x, r, t, μ, λ)"""
    return [(x, s, t, mean, var) for x, t, s, mean, var in jumps(rng)[:4]]


def grids(rng):
    """(λ, times from 0), to 1 or to less"""
    out = []
    for N, last in ((4, 1.0), (2, 0.8), (7, 1.0)):
        inner = np.sort(rng.uniform(0.1, 0.75, N - 1))
        out.append((float(rng.uniform(0.05, 0.5)), np.concatenate([[0.0], inner, [last]])))
    return [*out, (float(rng.uniform(2, 4)), np.array([0.0, 0.3, 0.7, 1.0]))]


def some_average(x, r, t):
    """An average velocity in which x, r and t matter, each in its own way."""
    return 0.5 * x * t - 0.3 * x * x * r + 0.4 * t * t - 0.2 * r * t


def pairs(rng):
    """(u, x, r, t, velocity)"""
    out = []
    for B, D in ((4, 3), (2, 5), (1, 2)):
        r, t = np.sort(rng.uniform(0.1, 0.9, (2, B, 1)), axis=0) + np.array([0, 0.1]).reshape(2, 1, 1)
        out.append((some_average, rng.normal(size=(B, D)), r, t, rng.normal(size=(B, D))))
    return out


def with_parameter(p, x, r, t):
    """An average velocity with one parameter."""
    return p * some_average(x, r, t) + p * p * x * t


def trainings(rng):
    """(p, u, x0, ε, r, t)"""
    return [
        (float(rng.uniform(0.5, 1.5)), with_parameter, x, velocity + x, r, t) for _, x, r, t, velocity in pairs(rng)[:2]
    ]


def some_shortcut(x, t, d):
    """A shortcut in which x, t and d matter."""
    return 0.6 * x * t + 0.3 * d - 0.2 * t * d * x


def doubles(rng):
    """(s, x, t, d)"""
    return [
        (some_shortcut, rng.normal(size=(B, D)), rng.uniform(0.6, 1, (B, 1)), rng.uniform(0.1, 0.3, (B, 1)))
        for B, D in ((4, 3), (2, 5), (1, 2))
    ]


def landings(rng):
    """(ᾱ_t, ᾱ_s, x_t, x_s), the last at the image"""
    out = []
    for shape in ((3, 4), (1, 2), (5, 1)):
        out.append((float(rng.uniform(0.1, 0.4)), float(rng.uniform(0.6, 0.9)), *rng.normal(size=(2, *shape))))
    return [*out, (0.3, 1.0, *rng.normal(size=(2, 2, 3)))]


def levels(rng):
    """(ᾱ of the list, λ, μ)"""
    out = []
    for N, D in ((1, 3), (2, 5), (4, 2)):
        falling = np.sort(rng.uniform(0.05, 0.85, N))
        out.append((np.append(falling, 1.0), rng.uniform(0.05, 2, D), rng.normal(size=D)))
    return out


# ------------------------------------------------------------------------------------------- truths


def spread(tau, var):
    """v_τ"""
    return tau**2 + var * (1 - tau) ** 2


def flow_map(x, t, s, mean, var, ratio=math.sqrt):
    """The same distance from the mean, in deviations"""
    z = (x - (1 - t) * mean) / ratio(spread(t, var))
    return (1 - s) * mean + ratio(spread(s, var)) * z


def average(x, r, t, mean, var):
    """The displacement by the time"""
    return (flow_map(x, t, r, mean, var) - x) / (r - t)


def fixed_point(var, times):
    """√λ ∏cos Δθ, scaled for an end before 1"""
    theta = [math.atan2(t, (1 - t) * math.sqrt(var)) for t in times]
    cosines = [math.cos(b - a) for a, b in itertools.pairwise(theta)]
    return math.sqrt(var / spread(times[-1], var)) * math.prod(cosines)


def regress(var, times, slope):
    """Another regression from time to time"""
    k = 1.0
    for s, t in itertools.pairwise(times):
        k *= slope((1 - t) * (1 - s) * var, t * s, spread(t, var), spread(s, var))
    return k


def both_sides(var, times):
    """All k at once: min Σ E (k_t x_t - k_s x_s)² with k_0 = 1"""
    N = len(times) - 1
    A, b = np.zeros((N, N)), np.zeros(N)
    for i in range(1, N + 1):
        s, t = times[i - 1], times[i]
        shared = (1 - t) * (1 - s) * var + t * s
        A[i - 1, i - 1] += spread(t, var)
        if i == 1:
            b[0] += shared
        else:
            A[i - 2, i - 2] += spread(s, var)
            A[i - 1, i - 2] -= shared
            A[i - 2, i - 1] -= shared
    return np.linalg.solve(A, b)[-1]


def along(u, x, r, t, dx, dr, dt, h=1e-5):
    """The derivative of u along (dx, dr, dt), by central differences"""
    return (u(x + h * dx, r + h * dr, t + h * dt) - u(x - h * dx, r - h * dr, t - h * dt)) / (2 * h)


def target(u, x, r, t, velocity, dx=None, dr=0.0, dt=1.0, factor=None):
    """velocity - (t-r) du/dt"""
    dx = velocity if dx is None else dx
    return velocity + (r - t if factor is None else factor) * along(u, x, r, t, dx, dr, dt)


def parts(p, u, x0, eps, r, t, velocity=None):
    """(u, its target) of a training"""
    x = x0 + t * (eps - x0)
    return u(p, x, r, t), target(lambda *a: u(p, *a), x, r, t, eps - x0 if velocity is None else velocity)


def loss(p, u, x0, eps, r, t, velocity=None):
    """The mean of the squares"""
    prediction, wanted = parts(p, u, x0, eps, r, t, velocity)
    return np.mean((prediction - wanted) ** 2)


def slope_of_loss(p, *rest, sides="left", h=1e-5):
    """∂/∂p with the target held fixed, or the prediction, or none of them"""
    here, up, down = (parts(p + d, *rest) for d in (0, h, -h))
    (a, b), (c, d) = (
        ((up[0], down[0]) if sides != "right" else (here[0],) * 2),
        ((up[1], down[1]) if sides != "left" else (here[1],) * 2),
    )
    return (np.mean((a - c) ** 2) - np.mean((b - d) ** 2)) / (2 * h)


def by_float(*arrays):
    """JAX's arrays, whose derivatives it can take"""
    import jax.numpy as jnp

    return tuple(jnp.asarray(a, float) for a in arrays)


def by_jax(f, p, *rest):
    """∂f/∂p as the training gets it"""
    import jax

    return jax.grad(lambda p: f(p, *rest))(p)


def shortcut(s, x, t, d, after=lambda t, d: t - d, step=-1.0, length=lambda d: d):
    """The mean of two jumps"""
    first = s(x, t, length(d))
    return 0.5 * first + 0.5 * s(x + step * d * first, after(t, d), length(d))


def progressive(a_t, a_s, x_t, x_s):
    """In x/b a DDIM step is straight: x_s/b_s - x_t/b_t = (a_s/b_s - a_t/b_t) x̃, multiplied by b_s"""
    a_t, b_t, a_s, b_s = math.sqrt(a_t), math.sqrt(1 - a_t), math.sqrt(a_s), math.sqrt(1 - a_s)
    return (b_t * x_s - b_s * x_t) / (a_s * b_t - a_t * b_s)


def w2(alpha_bar, var, mean, start=True, means=True, cosines=True, root=np.sqrt):
    """Direction by direction"""
    total = 0.0
    for lam, m in zip(var, mean, strict=True):
        deviation = 1.0
        for p, q in itertools.pairwise(alpha_bar) if cosines else [(alpha_bar[0], 1.0)]:
            shared = math.sqrt(p * q) * lam + math.sqrt((1 - p) * (1 - q))
            deviation *= shared / (p * lam + 1 - p)
        if not start:
            deviation *= math.sqrt(alpha_bar[0] * lam + 1 - alpha_bar[0])
        off = math.sqrt(alpha_bar[0]) * m * deviation if means else 0.0
        total += (root(lam) - deviation) ** 2 + off**2
    return total


EXERCISES = (
    exercise(
        "20.1",
        formula(
            "flow_map",
            flow_map,
            jumps,
            {
                "The root is missing: v is a variance, and points scale with the deviation.": lambda *a: flow_map(
                    *a, ratio=lambda v: v
                ),
                "t and s are swapped: x is at t.": lambda x, t, s, m, v: flow_map(x, s, t, m, v),
                "μ is missing: the map scales the distance from the mean.": lambda x, t, s, m, v: flow_map(
                    x, t, s, 0, v
                ),
                "The mean at a time τ is (1-τ) μ, not μ.": lambda x, t, s, m, v: m + flow_map(x - m, t, s, 0, v),
                "The mean at the end is missing: (1-s) μ has to be added again.": lambda x, t, s, m, v: (
                    flow_map(x, t, s, m, v) - (1 - s) * m
                ),
                "The square is missing: v = (1-τ)² λ + τ².": lambda x, t, s, m, v: (
                    (1 - s) * m + math.sqrt(((1 - s) * v + s) / ((1 - t) * v + t)) * (x - (1 - t) * m)
                ),
            },
        ),
        formula(
            "average_velocity",
            average,
            spans,
            {
                "The sign is wrong: a jump is x - (t-r) u, so u is x less the end.": lambda *a: -average(*a),
                "The division by t - r is missing: this is the displacement.": lambda x, r, t, m, v: (
                    (t - r) * average(x, r, t, m, v)
                ),
                "This goes to the image, r = 0, whatever r is.": lambda x, r, t, m, v: average(x, 0.0, t, m, v),
                "It is divided by t; the jump has the length t - r.": lambda x, r, t, m, v: (
                    (t - r) / t * average(x, r, t, m, v)
                ),
                "This is the velocity at t; the average looks as far as r.": lambda x, r, t, m, v: average(
                    x, t - 1e-7, t, m, v
                ),
                "r and t are swapped in the map: x is at t.": lambda x, r, t, m, v: (
                    (x - flow_map(x, r, t, m, v)) / (t - r)
                ),
            },
        ),
        identity(
            "flow_map",
            lambda f, x, t, s, m, v: f(np.asarray(f(x, t, s, m, v)), s, t, m, v),
            lambda x, t, s, m, v: x,
            jumps,
        ),
        hints=(
            "How many deviations is x away from the mean of its time? As many as at every other time.",
            "The mean at τ is (1-τ) μ, the variance v_τ.",
            "The average velocity: start less end, over the time between them.",
        ),
    ),
    exercise(
        "20.2",
        formula(
            "fixed_point",
            fixed_point,
            grids,
            {
                "This is the exact map; a regression on lines of the training loses spread at each time.": (
                    lambda var, times: math.sqrt(var / spread(times[-1], var))
                ),
                "x_s got a new noise: the two share the noise as well, so the covariance has t s too.": (
                    lambda var, times: regress(var, times, lambda image, noise, v_t, v_s: image / v_t)
                ),
                "The gradient went through both sides: all k were chosen at once. Here k_s is held fixed.": both_sides,
                "This divides by Var(x_s); the regression is on x_t.": lambda var, times: regress(
                    var, times, lambda image, noise, v_t, v_s: (image + noise) / v_s
                ),
                "This is the correlation: a slope is the covariance over the variance of x_t.": lambda var, times: (
                    regress(var, times, lambda image, noise, v_t, v_s: (image + noise) / math.sqrt(v_t * v_s))
                ),
                "The images do not share anything here: their part of the covariance is missing.": lambda var, times: (
                    regress(var, times, lambda image, noise, v_t, v_s: noise / v_t)
                ),
                "The list is compared with its last time only in one jump; k goes from neighbour to neighbour.": (
                    lambda var, times: fixed_point(var, np.array([times[0], times[-1]]))
                ),
            },
            atol=1e-7,
        ),
        hints=(
            "x_s = (1-s) x0 + s ε and x_t = (1-t) x0 + t ε: multiply, and take the mean.",
            "Each time multiplies k by Cov(x_s, x_t)/Var(x_t).",
        ),
    ),
    exercise(
        "20.3",
        formula(
            "meanflow_target",
            target,
            pairs,
            {
                "The sign is wrong: u = û - (t-r) du/dt.": lambda u, x, r, t, v: target(u, x, r, t, v, factor=t - r),
                "The derivative is by r; r stands still and t runs (are the arguments in order?).": (
                    lambda u, x, r, t, v: target(u, x, r, t, v, dr=1.0, dt=0.0)
                ),
                "r moves along with t here. A network that takes h = t - r does this if h has no tangent.": (
                    lambda u, x, r, t, v: target(u, x, r, t, v, dr=1.0)
                ),
                "The point stands still: x needs the velocity as its tangent.": lambda u, x, r, t, v: target(
                    u, x, r, t, v, dx=0 * x
                ),
                "Only the point moves; t needs the tangent 1.": lambda u, x, r, t, v: target(u, x, r, t, v, dt=0.0),
                "The factor t - r is missing.": lambda u, x, r, t, v: target(u, x, r, t, v, factor=-1.0),
                "The point moves with u(x, r, t); along the flow it moves with the velocity.": lambda u, x, r, t, v: (
                    target(u, x, r, t, v, dx=u(x, r, t))
                ),
                "This begins with u; the target begins with the velocity.": lambda u, x, r, t, v: (
                    target(u, x, r, t, v) - v + u(x, r, t)
                ),
                "The point moves backwards, with minus the velocity.": lambda u, x, r, t, v: target(
                    u, x, r, t, v, dx=-v
                ),
            },
            run=lambda f, u, *rest: f(u, *by_float(*rest)),
            rtol=1e-3,
            atol=1e-4,
        ),
        hints=(
            "The tangents belong to x, r and t, in this order: how fast does each of them move?",
            "x moves with the velocity, r stands still, t runs at speed one.",
            "jax.jvp returns two things; you need the second.",
        ),
    ),
    exercise(
        "20.4",
        formula(
            "meanflow_loss",
            loss,
            trainings,
            {
                "The velocity of the pair is ε - x0, not x0 - ε.": lambda p, u, x0, e, r, t: loss(
                    p, u, x0, e, r, t, velocity=x0 - e
                ),
                "The velocity of the pair is ε - x0, not ε.": lambda p, u, x0, e, r, t: loss(
                    p, u, x0, e, r, t, velocity=e
                ),
                "The point has its weights swapped: at t = 1 it has to be ε.": lambda p, u, x0, e, r, t: loss(
                    p, u, e, x0, r, t, velocity=e - x0
                ),
                "The squares were added up; this loss is their mean.": lambda p, u, x0, *rest: (
                    x0.size * loss(p, u, x0, *rest)
                ),
                "The point is at r; the loss looks at x_t.": lambda p, u, x0, e, r, t: np.mean(
                    (u(p, x0 + r * (e - x0), r, t) - target(lambda *a: u(p, *a), x0 + r * (e - x0), r, t, e - x0)) ** 2
                ),
                "This is flow matching: the target is the velocity less (t-r) du/dt.": lambda p, u, x0, e, r, t: (
                    np.mean((u(p, x0 + t * (e - x0), r, t) - (e - x0)) ** 2)
                ),
            },
            run=lambda f, p, u, *rest: f(p, u, *by_float(*rest)),
            rtol=1e-3,
            atol=1e-4,
        ),
        formula(
            "meanflow_loss",
            slope_of_loss,
            trainings,
            {
                "The gradient goes through both sides; the target has to be held fixed.": lambda *a: slope_of_loss(
                    *a, sides="both"
                ),
                "The gradient stops on the wrong side: the target is held fixed, not the prediction.": lambda *a: (
                    slope_of_loss(*a, sides="right")
                ),
                "The gradient stops everywhere: nothing would be learnt.": lambda p, *rest: 0.0,
            },
            run=lambda f, p, u, *rest: by_jax(f, p, u, *by_float(*rest)),
            rtol=2e-3,
            atol=1e-3,
        ),
        prediction(
            "start_and_end",
            (2.0, 1.714),
            0.1,
            {
                "π/2 is the floor of flow matching. Here the noisy velocity stands in the derivative as well.": (
                    2.0,
                    math.pi / 2,
                ),
                "The target is made with the velocity of one pair, which no network can guess: not 0.": (2.0, 0.0),
                "ε has variance one, but the velocity is ε - x0: variances add up.": (1.0, 1.714),
                "It does fall: the velocity can be guessed in part from the point.": (2.0, 2.0),
                "That is the loss with the weight 1/(‖Δ‖² + c): 1 from the first step to the last.": (1.0, 1.0),
            },
        ),
        hints=(
            "First the point between x0 and ε; the velocity is that of the pair.",
            "Fix p first: meanflow_target wants a function of (x, r, t).",
            "jax.lax.stop_gradient goes round the target alone.",
            "For the bet: E(ε - x0)² of independent variables; and E[v_r/v_t²], which is a little above π/2.",
        ),
    ),
    exercise(
        "20.5",
        formula(
            "shortcut_target",
            shortcut,
            doubles,
            {
                "The point moves to the noise: a jump is x - d s.": lambda *a: shortcut(*a, step=1.0),
                "The second jump begins at t - d, not at t.": lambda *a: shortcut(*a, after=lambda t, d: t),
                "The second jump begins where the first one ends; x did not move.": lambda *a: shortcut(*a, step=0.0),
                "The clock of the second jump went up; a jump goes down to t - d.": lambda *a: shortcut(
                    *a, after=lambda t, d: t + d
                ),
                "The mean was not taken: the two were added.": lambda *a: 2 * shortcut(*a),
                "The jumps are asked for 2d; two of length d make one of 2d.": lambda *a: shortcut(
                    *a, length=lambda d: 2 * d
                ),
                "This is the one jump of 2d itself; its target comes from two of d.": lambda s, x, t, d: s(x, t, 2 * d),
            },
        ),
        formula(
            "progressive_target",
            progressive,
            landings,
            {
                "This is the x̂0 whose mean with x_t is x_s: the noise has to keep its place, b_s/b_t of x_t.": (
                    lambda a, s, x, y: (y - x) / (np.sqrt(s) - np.sqrt(a))
                ),
                "The roots are missing: ᾱ is a power.": lambda a, s, x, y: (
                    (y - (1 - s) / (1 - a) * x) / (s - (1 - s) / (1 - a) * a)
                ),
                "b_s/b_t is upside down.": lambda a, s, x, y: (
                    (y - np.sqrt((1 - a) / (2 - s - a)) * x)
                    / (np.sqrt(s) - np.sqrt((1 - a) / (2 - s - a)) * np.sqrt(a))
                ),
                "The teacher's end was taken for the image: x_s still holds noise.": lambda a, s, x, y: y,
                "x_s was divided by a_s only; its noise has to be taken away, which is that of x_t.": (
                    lambda a, s, x, y: y / np.sqrt(s)
                ),
                "The share of x̃ in x_t is missing below: a_s - (b_s/b_t) a_t.": lambda a, s, x, y: (
                    (y - np.sqrt((1 - s) / (1 - a)) * x) / np.sqrt(s)
                ),
            },
        ),
        hints=(
            "Shortcut: where is the point after the first jump, and at what time?",
            "DDIM's noise is (x_t - a_t x̃)/b_t; put it in and solve for x̃.",
            "Collect what multiplies x̃: a_s, less a_t times b_s/b_t.",
        ),
    ),
    exercise(
        "20.6",
        formula(
            "w2",
            w2,
            levels,
            {
                "The start is missing: noise of variance 1 is not v at the first level.": lambda *a: w2(
                    *a, start=False
                ),
                "The mean is missing: what is left of the noise's wrong mean counts too.": lambda *a: w2(
                    *a, means=False
                ),
                "This is one step from the first level; each step has its own cosine.": lambda *a: w2(
                    *a, cosines=False
                ),
                "λ stands where √λ belongs: W₂ compares deviations.": lambda *a: w2(*a, root=lambda v: v),
                "This is W₂, its square is asked for.": lambda *a: math.sqrt(w2(*a)),
                "This is the mean over the directions; it is their sum.": lambda a, var, m: w2(a, var, m) / len(var),
                "The first mean is a μ at the first level, not μ.": lambda a, var, m: w2(a, var, m / math.sqrt(a[0])),
            },
        ),
        hints=(
            "θ is a table: one row for each level, one column for each direction.",
            "The cosines of the differences of its rows, multiplied; then divided by √v of the first row's level.",
            "Two squares in each direction: of the deviation, and of the mean.",
        ),
    ),
)
