"""Lesson 23, shapes: the truth of its seven exercises, and the mistakes that have a name."""

from __future__ import annotations

import math

import numpy as np

from ddpm.course.exercise import count, exercise, formula, prediction

# ------------------------------------------------------------------------------------------- inputs, by seed


def bodies(rng):
    """(volume, fade): rays that meet nothing, something near, and something far"""
    out = []
    for shape in ((5, 3, 4), (4, 2, 2), (6, 4, 3)):
        volume = np.where(rng.random(shape) < 0.35, rng.uniform(0.2, 1, shape), 0.0)
        volume[:, 0, 0] = 0
        volume[-1, 1, 1], volume[:-1, 1, 1] = 0.6, 0
        volume[:2, 1, 0] = (0.0, 0.7)
        volume[0, 0, 1], volume[2, 0, 1] = 0.5, 0.8
        out.append((volume, float(rng.uniform(0.6, 0.95))))
    return out


def sides(rng):
    """(n, axis, back, γ)"""
    return [
        (n, axis, back, float(rng.uniform(0.4, 0.9)))
        for n, axis, back in ((3, 0, False), (3, 1, True), (2, 2, False), (4, 1, False), (3, 2, True))
    ]


def columns(rng):
    """(p,): distributions of the cells of a column"""
    return [(rng.dirichlet(np.ones(V), k),) for k, V in ((3, 4), (1, 3), (5, 2))]


def maps_and_hits(rng):
    """(maps, hits, voxels): some voxels in several pixels and views, some in none, some rays that meet nothing"""
    out = []
    for V, h, w, voxels in ((3, 4, 5, 12), (1, 2, 3, 9), (2, 6, 6, 30)):
        hits = rng.integers(-1, voxels - 2, (V, h, w))
        hits[0, 0, :2] = -1, 0
        hits[-1, -1, -2:] = 0, 1
        out.append((rng.normal(size=(V, h, w)), hits, voxels))
    return out


def renderers(rng):
    """(A, ψ, μ, w)"""
    return [
        (rng.normal(size=(P, N)), rng.normal(size=N), rng.normal(size=P), rng.uniform(0.5, 2, P))
        for P, N in ((4, 7), (2, 3), (6, 6))
    ]


def starts(rng):
    """(A, ψ_0, μ): pictures that fit together; rows that repeat; fewer rows than voxels"""
    out = []
    for P, N in ((4, 7), (2, 5), (3, 6)):
        A = rng.normal(size=(P, N))
        A = np.concatenate([A, A[:1] + A[1:2]])
        out.append((A, rng.normal(size=N), A @ rng.normal(size=N)))
    return out


def noisy_faces(rng):
    """(x_t, ᾱ, p)"""
    return [
        (rng.normal(size=B), float(rng.uniform(0.1, 0.6)), p)
        for B, p in ((5, 0.75), (3, float(rng.uniform(0.1, 0.4))), (4, 0.9))
    ]


def surfaces(rng):
    """(Φ_X, Φ_Y, M_Y, π): of different numbers of points, π not one to one"""
    out = []
    for n_x, n_y, k in ((9, 7, 3), (6, 6, 4), (12, 10, 2)):
        points = rng.integers(0, n_x, n_y)
        out.append((rng.normal(size=(n_x, k)), rng.normal(size=(n_y, k)), rng.uniform(0.5, 2, n_y), points))
    return out


def orthogonal(rng):
    """(C, Φ_X, Φ_Y): C orthogonal, not symmetric; Y is X by C, renumbered and a little off"""
    out = []
    for n, k in ((40, 3), (25, 4), (60, 2)):
        C = np.linalg.qr(rng.normal(size=(k, k)))[0]
        phi = rng.normal(size=(n, k))
        out.append((C, phi, (phi @ C.T)[rng.permutation(n)] + 1e-3 * rng.normal(size=(n, k))))
    return out


# ------------------------------------------------------------------------------------------- truths


def look(volume, fade, order=1, power=lambda k, n: k, empty=-1, front=True):
    """Ray by ray"""
    n, h, w = volume.shape
    picture, hits = np.zeros((h, w)), np.full((h, w), empty)
    for i in range(h):
        for j in range(w):
            for k in range(n) if front else range(n - 1, -1, -1):
                if volume[k, i, j] > 0:
                    picture[i, j] = volume[k, i, j] * fade ** power(k, n)
                    hits[i, j] = k * h * w + i * w + j if order == 1 else (i * w + j) * n + k
                    break
    return picture, hits


def x_ray(volume, fade):
    """The sum along the ray, with the hits of the first"""
    weight = fade ** np.arange(len(volume))[:, None, None]
    return (volume * weight).sum(0), look(volume, fade)[1]


def clamped(volume, fade):
    """argmax of a ray that meets nothing is 0"""
    picture, hits = look(volume, fade)
    none = np.arange(hits.size).reshape(hits.shape)
    return picture, np.where(hits < 0, none, hits)


def view_matrix(n, axis, back, gamma, power=lambda k: k, swap=False):
    """One picture for each voxel alone"""
    A = np.zeros((n * n, n**3))
    for voxel in range(n**3):
        x = np.unravel_index(voxel, (n, n, n))
        k = x[axis]
        a, b = (x[j] for j in range(3) if j != axis)
        a, b = (b, a) if swap else (a, b)
        A[a * n + b, voxel] = gamma ** power(n - 1 - k if back else k)
    return A


def first_seen(p, in_front=lambda p, d: math.prod(p[:d, 0])):
    """Depth by depth"""
    q = np.stack([p[d, 1:] * in_front(p, d) for d in range(len(p))])
    return q, math.prod(p[:, 0])


def lift(maps, hits, voxels):
    """Voxel by voxel"""
    return np.array([maps[hits == v].mean() if (hits == v).any() else np.nan for v in range(voxels)])


def totals(maps, hits, voxels):
    """Sums over the pixels that show a voxel"""
    return np.array([maps[hits == v].sum() if (hits == v).any() else np.nan for v in range(voxels)])


def by_view(maps, hits, voxels):
    """The mean over the views of the mean in each view"""
    each = np.array([lift(m, h, voxels) for m, h in zip(maps, hits, strict=True)])
    seen = np.isfinite(each)
    return np.where(seen.any(0), np.where(seen, each, 0).sum(0) / np.maximum(seen.sum(0), 1), np.nan)


def wrapped(maps, hits, voxels):
    """What -1 does as an index: the background goes to the last voxel"""
    return lift(maps, hits % voxels, voxels)


def settled(A, psi_0, mu):
    """The nearest ψ to the start with A ψ = μ, by a Lagrange multiplier"""
    return psi_0 + A.T @ np.linalg.lstsq(A @ A.T, mu - A @ psi_0, rcond=1e-9)[0]


def guess(x_t, alpha_bar, p, gain=2.0, prior=True, var=lambda a: 1 - a, scale=math.sqrt):
    """By the two densities"""
    up, down = (np.exp(-((x_t - s * scale(alpha_bar)) ** 2) / (gain * var(alpha_bar))) for s in (1, -1))
    up, down = (p * up, (1 - p) * down) if prior else (up, down)
    return (up - down) / (up + down)


def map_matrix(phi_x, phi_y, mass_y, points):
    """Point by point"""
    return sum(m * np.outer(row, phi_x[i]) for m, row, i in zip(mass_y, phi_y, points, strict=True))


def points_of(C, phi_x, phi_y):
    """Row by row"""
    carried = np.array([C @ row for row in phi_x])
    return np.array([int(np.linalg.norm(carried - row, axis=1).argmin()) for row in phi_y])


EXERCISES = (
    exercise(
        "23.1",
        formula(
            "look",
            look,
            bodies,
            {
                "The whole ray is summed: that is an X-ray. A body is opaque; only the first voxel is seen.": x_ray,
                "argmax of a ray that meets nothing is 0: such a ray hits no voxel, and its id is -1.": clamped,
                "This is the last voxel of the ray, seen from behind; index 0 is near.": lambda v, f: look(
                    v, f, front=False
                ),
                "The fade is missing: the grey loses a factor with each empty voxel in front.": lambda v, f: look(
                    v, 1.0
                ),
                "A voxel at the front is not faded at all: its depth is 0, not 1.": lambda v, f: look(
                    v, f, power=lambda k, n: k + 1
                ),
                "The depth is counted from the far end; it is the number of empty voxels in front.": lambda v, f: look(
                    v, f, power=lambda k, n: n - 1 - k
                ),
                "The id is not in C order of the volume (n, h, w): depth is the first index.": lambda v, f: look(
                    v, f, order=2
                ),
            },
        ),
        hints=(
            "Which voxels are not empty, as a volume of True and False? Where is the first True of each ray?",
            "Take the grey there: index with the depth, and with the row and column of each pixel.",
            "A ray that meets nothing needs a line of its own, in the picture and in the ids.",
        ),
    ),
    exercise(
        "23.2",
        formula(
            "view_matrix",
            view_matrix,
            sides,
            {
                "The far end is numbered as the near one: from behind, the last voxel is the first.": (
                    lambda n, axis, back, g: view_matrix(n, axis, False, g)
                ),
                "The near voxel weighs 1, γ to the power 0.": lambda *a: view_matrix(*a, power=lambda k: k + 1),
                "All voxels weigh the same: an X-ray, which does not tell front from back.": (
                    lambda n, axis, back, g: view_matrix(n, axis, back, 1.0)
                ),
                "The pixel's two indices are exchanged: they keep the order of the two other axes.": (
                    lambda *a: view_matrix(*a, swap=True)
                ),
                "This is the transpose: a row for each pixel, a column for each voxel.": lambda *a: view_matrix(*a).T,
            },
        ),
        prediction(
            "ranks",
            (36, 36, 72, 91),
            0.5,
            {
                "Two opposite X-rays are one picture, mirrored: it tells front from back only if it fades.": (
                    36,
                    72,
                    72,
                    91,
                ),
                "Views along three axes share the sums over planes, and their total.": (36, 36, 72, 108),
                "With γ < 1 the view from behind weighs each voxel otherwise: it is another picture.": (
                    36,
                    36,
                    36,
                    91,
                ),
                "That is how many voxels there are; a view has 36 pixels, and each is one equation.": (
                    216,
                    216,
                    216,
                    216,
                ),
            },
        ),
        hints=(
            "An array A[row, column, x, y, z] is easy to fill; reshape it at the end.",
            "The bet: how many equations does a view give, and how many of them does another one repeat?",
            "Three X-rays along three axes have the same sums over the six planes across each axis.",
        ),
    ),
    exercise(
        "23.3",
        formula(
            "first_seen",
            first_seen,
            columns,
            {
                "What stands in front is forgotten: the cells before have to be empty.": lambda p: (
                    p[:, 1:],
                    math.prod(p[:, 0]),
                ),
                "The cell itself need not be empty; only those in front of it.": lambda p: first_seen(
                    p, lambda p, d: math.prod(p[: d + 1, 0])
                ),
                "The cells behind count here, and those in front not: index 0 is near.": lambda p: first_seen(
                    p, lambda p, d: math.prod(p[d + 1 :, 0])
                ),
                "Only the cell just before has to be empty here; all of the cells in front have to be.": lambda p: (
                    first_seen(p, lambda p, d: p[d - 1, 0] if d else 1.0)
                ),
                "Not to be at the front is not to be hidden by one: a product over all cells in front.": (
                    lambda p: first_seen(p, lambda p, d: 1 - math.prod(1 - p[:d, 0]) if d else 1.0)
                ),
            },
        ),
        hints=(
            "The cells are independent: probabilities multiply.",
            "For depth d: the product of P(empty) over the cells 0 … d-1; for d = 0 it is 1.",
            "numpy.cumprod gives all these products at once, with a 1 put in front.",
        ),
    ),
    exercise(
        "23.4",
        formula(
            "lift",
            lift,
            maps_and_hits,
            {
                "These are sums: a voxel in many pixels would look typical for that alone. Take the mean.": totals,
                "The background went to the last voxel: as an index, -1 is the last one.": wrapped,
                "A voxel that nobody sees has no value: NaN. With 0 it would count as neither typical nor not.": (
                    lambda *a: np.nan_to_num(lift(*a))
                ),
                "Divided by the number of views: those that do not see the voxel say nothing about it.": (
                    lambda maps, hits, voxels: totals(maps, hits, voxels) / len(maps)
                ),
                "Divided by all pixels: only those that show the voxel count.": lambda maps, hits, voxels: (
                    totals(maps, hits, voxels) / maps.size
                ),
                "This is a mean of the views' means; each pixel counts the same.": by_view,
            },
        ),
        hints=(
            "First drop the rays that met nothing.",
            "numpy.bincount counts ids; with weights it adds values up by id.",
            "Where the count is 0 there is nothing to divide by.",
        ),
    ),
    exercise(
        "23.5",
        formula(
            "pull",
            lambda A, psi, mu, w: -np.einsum("pn,p,p->n", A, w, np.einsum("pn,n->p", A, psi) - mu),
            renderers,
            {
                "ψ moves away from the pictures: the sign.": lambda A, psi, mu, w: A.T @ (w * (A @ psi - mu)),
                "The weights are missing: each pixel has its own w.": lambda A, psi, mu, w: -A.T @ (A @ psi - mu),
                "The pseudo-inverse jumps to a solution; the gradient goes back through the transpose.": (
                    lambda A, psi, mu, w: -np.linalg.pinv(A) @ (w * (A @ psi - mu))
                ),
                "w stands twice: a weight on the squared error appears once in its gradient.": (
                    lambda A, psi, mu, w: -A.T @ (w * w * (A @ psi - mu))
                ),
                "The factor 2 of a square does not belong here: the change is w times the difference.": (
                    lambda A, psi, mu, w: -2 * A.T @ (w * (A @ psi - mu))
                ),
            },
        ),
        formula(
            "end",
            settled,
            starts,
            {
                "What no view sees was set to 0: it stays as it was at the start.": lambda A, psi_0, mu: (
                    np.linalg.pinv(A) @ mu
                ),
                "The start already explains a part of the pictures: what is missing is μ - Aψ_0.": (
                    lambda A, psi_0, mu: psi_0 + np.linalg.pinv(A) @ mu
                ),
                "Nothing moved: only what no view sees stays.": lambda A, psi_0, mu: psi_0,
                "Kept and changed are exchanged: the rows of A move, what is orthogonal to them stays.": (
                    lambda A, psi_0, mu: np.linalg.pinv(A) @ (A @ psi_0)
                ),
                "One step of size 1 is not the end: AAᵀ is not 1.": lambda A, psi_0, mu: psi_0 + A.T @ (mu - A @ psi_0),
            },
            rtol=1e-3,
            atol=1e-4,
        ),
        hints=(
            "The transpose brings a change of pixels to the voxels that they show.",
            "Every step is a combination of rows of A. So which part of ψ can change at all?",
            "The least change of ψ_0 that explains the pictures: the pseudo-inverse of what is missing.",
        ),
    ),
    exercise(
        "23.6",
        formula(
            "guess",
            guess,
            noisy_faces,
            {
                "The prior is missing: a face is more frequent than a back, and that is the problem.": (
                    lambda x, a, p: guess(x, a, p, prior=False)
                ),
                "The more likely side was chosen; the mean weighs both.": lambda x, a, p: np.sign(guess(x, a, p)),
                "x0 is ±1, so that the mean is P(face) - P(back), not P(face).": lambda x, a, p: (
                    (1 + guess(x, a, p)) / 2
                ),
                "A Gaussian's exponent is divided by twice the variance.": lambda x, a, p: guess(x, a, p, gain=1.0),
                "The noise's deviation stands where its variance belongs.": lambda x, a, p: guess(
                    x, a, p, var=lambda a: math.sqrt(1 - a)
                ),
                "ᾱ stands where its root belongs: x_t has √ᾱ x0.": lambda x, a, p: guess(x, a, p, scale=lambda a: a),
                "x_t is not used; without it this is the prior's mean.": lambda x, a, p: 0 * x + 2 * p - 1,
            },
        ),
        hints=(
            "Two hypotheses, x0 = 1 and x0 = -1: how likely is x_t under each?",
            "The log-odds are 2√ᾱ x_t/(1-ᾱ), and those of the prior.",
            "With log-odds l the mean of ±1 is tanh(l/2).",
        ),
    ),
    exercise(
        "23.7",
        formula(
            "map_matrix",
            map_matrix,
            surfaces,
            {
                "This is Cᵀ, which carries functions from Y to X.": lambda x, y, m, i: map_matrix(x, y, m, i).T,
                "The masses are missing: Φ_Yᵀ alone does not invert Φ_Y if points have masses.": lambda x, y, m, i: (
                    map_matrix(x, y, np.ones_like(m), i)
                ),
                "The mass stands twice: Φᵀ M Φ = 1 has it once.": lambda x, y, m, i: map_matrix(x, y, m * m, i),
                "√M would be right if Φ had it inside already; here ΦᵀMΦ = 1.": lambda x, y, m, i: map_matrix(
                    x, y, np.sqrt(m), i
                ),
                "The points were forgotten: row i of Φ_X is not point i of Y.": lambda x, y, m, i: map_matrix(
                    x, y, m, np.arange(len(y)) % len(x)
                ),
            },
        ),
        count(
            "points_of",
            points_of,
            orthogonal,
            {
                "C is transposed: a row φ of Φ_X goes to Cφ, as rows Φ_X Cᵀ.": lambda C, x, y: points_of(C.T, x, y),
                "The signs were left open: C = 1 compares functions that need not correspond.": lambda C, x, y: (
                    points_of(np.eye(len(C)), x, y)
                ),
                "That is the point of Y for each of X; the other way round.": lambda C, x, y: np.array(
                    [int(np.linalg.norm(y - C @ row, axis=1).argmin()) for row in x]
                ),
                "This is the largest inner product, which long rows win; take the nearest row.": lambda C, x, y: (
                    y @ C @ x.T
                ).argmax(1),
            },
        ),
        hints=(
            "Φ_X[π] holds, for each point of Y, the functions of X at its point.",
            "ΦᵀM takes coefficients: ΦᵀMΦ = 1.",
            "For the points: all distances between two lists of rows, and the smallest in each row of Y.",
        ),
    ),
)
