"""Lesson 16, mining: the truth of its seven exercises, and the mistakes that have a name."""

from __future__ import annotations

import math

import numpy as np

from ddpm.course.exercise import count, exercise, formula, identity, spot_the_bug

# ------------------------------------------------------------------------------------------- inputs, by seed


def maps(rng):
    """(map, k)"""
    return [(rng.normal(size=(7, 9)), 3), (rng.normal(size=(5, 4)), 4), (rng.normal(size=(11, 6)), 2)]


def places(rng):
    """(scores, k, how many), with room; smooth, so that the best places lie side by side"""
    sizes = (((19, 23), 3, 4), ((9, 31), 4, 3), ((24, 15), 2, 5))
    out = [(patch_scores(rng.normal(size=(h + 3, w + 3)), 4), k, n) for (h, w), k, n in sizes]
    rough = rng.uniform(-3, -2, (19, 23))  # all negative; the second best touches the best at a corner
    y, x = (int(v) for v in rng.integers(4, 12, 2))
    rough[y, x], rough[y + 3, x + 3] = -1, -1.5
    return [*out, (rough, 3, 4)]


def clouds(rng):
    """(points, centres), one of which is too far to get any"""
    out = []
    for n, d, K in ((13, 2, 3), (20, 5, 4), (7, 3, 2)):
        centre = rng.normal(size=(K, d))
        centre[-1] += 50.0
        out.append((rng.normal(size=(n, d)) * rng.uniform(0.5, 2, d), centre))
    return out


def labelled(rng):
    """(clusters, kinds with -1)"""
    out = []
    for n, K, M in ((23, 3, 4), (40, 5, 3)):
        cluster = np.sort(rng.integers(0, K, n))
        kind = np.where(rng.random(n) < 0.25, -1, (cluster + (rng.random(n) < 0.35)) % M)
        cluster[-3:], kind[-3:] = K, -1  # a cluster of nothing
        out.append((cluster, kind))
    return out


def pairs_of_features(rng):
    """(f_a, f_b, points): different sizes, features of different lengths"""
    out = []
    for h, w, H, W, C in ((5, 7, 6, 4, 3), (4, 3, 3, 8, 5)):
        f_a, f_b = rng.normal(size=(h, w, C)) + 0.5, (rng.normal(size=(H, W, C)) + 0.5) * rng.uniform(0.2, 5, (H, W, 1))
        out.append((f_a, f_b, np.stack([rng.integers(0, h, 9), rng.integers(0, w, 9)], 1)))
    return out


def patches(rng):
    """(cell, bins): rough, one of them flat"""
    return [
        (rng.normal(size=(5, 8)), 9),
        (rng.normal(size=(7, 4)), 6),
        (rng.normal(size=(6, 6)), 8),
        (np.ones((4, 5)), 9),
    ]


def searches(rng):
    """(seeds, features of all patches of each image, positive, m); the features have different lengths"""
    out = []
    for S, n, P, d, m in ((4, 13, 6, 5, 5), (17, 20, 9, 3, 7)):
        f = rng.normal(size=(n, P, d)) * rng.uniform(0.5, 2, (n, P, 1))
        seeds = rng.normal(size=(S, d))
        positive = rng.permutation(np.arange(n) < n // 3)
        out.append((seeds / np.linalg.norm(seeds, axis=-1, keepdims=True), f, positive, m))
    return out


def heaps(rng):
    """Clusters that lean to one side"""
    return [(rng.exponential(size=(n, d)) ** 1.5,) for n, d in ((9, 3), (14, 2), (6, 5))]


# ------------------------------------------------------------------------------------------- truths


def patch_scores(m, k):
    """Brute force."""
    H, W = m.shape
    return np.array([[m[i : i + k, j : j + k].sum() / k**2 for j in range(W - k + 1)] for i in range(H - k + 1)])


def pick(scores, k, count, touch=lambda dy, dx, k: dy <= k and dx <= k):
    """Down the sorted list of all places."""
    w = scores.shape[1]
    found: list[tuple[int, int]] = []
    for flat in np.argsort(-scores.ravel(), kind="stable"):
        y, x = divmod(int(flat), w)
        if len(found) < count and not any(touch(abs(y - a), abs(x - b), k) for a, b in found):
            found.append((y, x))
    return np.array(found)


def one_sided(scores, k, count):
    """Crossing out from the place itself to k below and to the right"""
    left, found = np.array(scores, np.float64), []
    for _ in range(count):
        y, x = np.unravel_index(left.argmax(), left.shape)
        found.append((y, x))
        left[y : y + k + 1, x : x + k + 1] = -np.inf
    return np.array(found)


def from_below_zero(scores, k, count):
    """Crossing out without a limit at 0"""
    left, found = np.array(scores, np.float64), []
    for _ in range(count):
        y, x = np.unravel_index(left.argmax(), left.shape)
        found.append((y, x))
        left[y - k : y + k + 1, x - k : x + k + 1] = -np.inf
    return np.array(found)


def crossed_out(scores, k, count, score=0.0):
    """Crossing out with a score that can be the best"""
    left, found = np.array(scores, np.float64), []
    for _ in range(count):
        y, x = np.unravel_index(left.argmax(), left.shape)
        found.append((y, x))
        left[max(0, y - k) : y + k + 1, max(0, x - k) : x + k + 1] = score
    return np.array(found)


def lloyd(f, centre, distance=lambda p, q: np.sum((p - q) ** 2), together=lambda g: np.sum(g, 0) / len(g), empty=None):
    """Point by point."""
    nearest = np.array([min(range(len(centre)), key=lambda j: distance(p, centre[j])) for p in f])
    new = []
    for j in range(len(centre)):
        group = f[nearest == j]
        new.append(together(group) if len(group) else centre[j] if empty is None else np.full(f.shape[1], empty))
    return np.array(new)


def purity(cluster, kind, counts_nothing=False):
    """Cluster by cluster, by sorting into a table."""
    right = 0
    for j in set(cluster.tolist()):
        table: dict[int, int] = {}
        for m in kind[cluster == j].tolist():
            if m >= 0 or counts_nothing:
                table[m] = table.get(m, 0) + 1
        right += max(table.values(), default=0)
    return right / len(kind)


def mean_purity(cluster, kind):
    """Each cluster as one"""
    return np.mean([purity(cluster[cluster == j], kind[cluster == j]) for j in np.unique(cluster)])


def without_nothing(cluster, kind):
    """Divided by the points with a kind"""
    return purity(cluster, kind) * len(kind) / (kind >= 0).sum()


def match(f_a, f_b, points, likeness=None):
    """Place by place."""
    likeness = likeness or (lambda p, q: p @ q / math.sqrt((p @ p) * (q @ q)))
    H, W, _ = f_b.shape
    return np.array(
        [
            max(((y, x) for y in range(H) for x in range(W)), key=lambda z: likeness(f_a[i, j], f_b[z]))
            for i, j in points
        ]
    )


def orientations(cell, bins, period=math.pi, weight=None, length=None, turn=math.atan2, cut=int):
    """Pixel by pixel: differences across two pixels inside, across one at the border."""
    h, w = cell.shape
    histogram = np.zeros(bins)
    for i in range(h):
        for j in range(w):
            a, b = max(i - 1, 0), min(i + 1, h - 1)
            left, right = max(j - 1, 0), min(j + 1, w - 1)
            dy = (cell[b, j] - cell[a, j]) / (b - a)
            dx = (cell[i, right] - cell[i, left]) / (right - left)
            size = math.hypot(dy, dx)
            place = cut(turn(dy, dx) % period * bins / period) % bins
            histogram[place] += size if weight is None else weight(size)
    total = math.sqrt((histogram**2).sum()) if length is None else length(histogram)
    return histogram / (total or 1.0)


def neighbours_share(seeds, f, positive, m, best=lambda row: row.max(), order=lambda score: np.argsort(-score)):
    """Seed by seed, image by image."""
    out = []
    for s in seeds:
        score = np.array([best(image @ s) for image in f])
        out.append(positive[order(score)[:m]].mean())
    return np.array(out)


def all_patches(seeds, f, positive, m):
    """The m nearest patches, whatever image they are from"""
    is_positive = np.repeat(positive, f.shape[1])
    return np.array([is_positive[np.argsort(-(f.reshape(-1, f.shape[-1]) @ s))[:m]].mean() for s in seeds])


def neighbours_by_distance(seeds, f, positive, m):
    """The m images with the patch nearest to the seed"""
    far = ((f[None] - np.asarray(seeds)[:, None, None]) ** 2).sum(-1).min(-1)
    return np.array([positive[np.argsort(row)[:m]].mean() for row in far])


def order_by(f, exemplar):
    """Sorted by the distance from f[exemplar]"""
    return np.array(sorted(range(len(f)), key=lambda i: np.sum((f[i] - f[exemplar]) ** 2)))


def from_mean(f):
    """The distance of each from the mean"""
    return np.sqrt(((f - np.mean(f, 0)) ** 2).sum(1))


EXERCISES = (
    exercise(
        "16.1",
        formula(
            "patch_scores",
            patch_scores,
            maps,
            {
                "This is the sum over the square; divide by the number of its pixels.": lambda m, k: (
                    patch_scores(m, k) * k**2
                ),
                "Divided by k, not by k²: a square has k² pixels.": lambda m, k: patch_scores(m, k) * k,
                "The last row and column of places are missing: there are H-k+1 of them.": lambda m, k: patch_scores(
                    m, k
                )[:-1, :-1],
                "Without a row and column of zeros before it, the integral image loses the first row and column.": (
                    lambda m, k: patch_scores(m, k)[1:, 1:]
                ),
                "One corner is missing: what was taken away twice has to be given back.": lambda m, k: (
                    patch_scores(m, k)
                    - np.pad(np.cumsum(np.cumsum(m, 0), 1), ((1, 0), (1, 0)))[
                        : m.shape[0] - k + 1, : m.shape[1] - k + 1
                    ]
                    / k**2
                ),
                "The squares are side by side; there should be one at each pixel where it can begin.": lambda m, k: (
                    patch_scores(m, k)[::k, ::k]
                ),
            },
        ),
        hints=(
            "np.cumsum along one axis, then along the other, behind a row and a column of zeros.",
            "integral[k:, k:] holds all lower right corners at once; integral[:-k, :-k] all upper left ones.",
            "Lower right, minus the two others, plus upper left; over k².",
        ),
    ),
    exercise(
        "16.2",
        count(
            "pick",
            pick,
            places,
            {
                "The best places overlap: cross out all that touch what you have taken.": lambda s, k, n: pick(
                    s, k, n, lambda dy, dx, k: dy == 0 and dx == 0
                ),
                "Patches that share a side or a corner touch too: the distance has to be more than k.": (
                    lambda s, k, n: pick(s, k, n, lambda dy, dx, k: dy < k and dx < k)
                ),
                "Whole rows and columns were crossed out: patches touch only if both distances are small.": (
                    lambda s, k, n: pick(s, k, n, lambda dy, dx, k: dy <= k or dx <= k)
                ),
                "Only places below and to the right were crossed out; the others overlap as well.": lambda s, k, n: (
                    one_sided(s, k, n)
                ),
                "A slice that begins below zero is empty, so nothing was crossed out near the upper or left border.": (
                    from_below_zero
                ),
                "What was crossed out has the score 0, which is the best where all others are negative.": lambda *a: (
                    crossed_out(*a)
                ),
                "These are the worst places; the best have the highest score.": lambda s, k, n: pick(-s, k, n),
                "Row and column are swapped.": lambda s, k, n: pick(s, k, n)[:, ::-1],
                "The order is that of the image; the exercise asks for the best first.": lambda s, k, n: np.array(
                    sorted(map(tuple, pick(s, k, n)))
                ),
            },
        ),
        hints=(
            "np.unravel_index(a.argmax(), a.shape) is the place of the largest entry.",
            "Write -inf into a copy of the scores wherever nothing may be taken any more.",
            "From k above to k below, both included; a slice must not begin below zero.",
        ),
    ),
    exercise(
        "16.3",
        formula(
            "lloyd",
            lloyd,
            clouds,
            {
                "The new centre is the sum of its points; take their mean.": lambda f, c: lloyd(
                    f, c, together=lambda g: g.sum(0)
                ),
                "Nearest by inner product: that prefers long centres. Take the distance.": lambda f, c: lloyd(
                    f, c, distance=lambda p, q: -(p @ q)
                ),
                "Each point went to the farthest centre.": lambda f, c: lloyd(
                    f, c, distance=lambda p, q: -np.sum((p - q) ** 2)
                ),
                "A centre without points became NaN, the mean of nothing; it stays where it is.": lambda f, c: lloyd(
                    f, c, empty=np.nan
                ),
                "A centre without points moved to zero; it stays where it is.": lambda f, c: lloyd(f, c, empty=0.0),
                "The median of the points was taken; k-means takes the mean.": lambda f, c: lloyd(
                    f, c, together=lambda g: np.median(g, 0)
                ),
            },
        ),
        formula(
            "purity",
            purity,
            labelled,
            {
                "A heap of patches with nothing under them counts as pure; kind -1 is never right.": lambda c, m: (
                    purity(c, m, counts_nothing=True)
                ),
                "The clusters' purities were averaged; then small clusters count as much as large ones.": mean_purity,
                "Clusters and kinds are swapped: count the most frequent kind in each cluster.": lambda c, m: purity(
                    m, c
                ),
                "Numbers of clusters were compared with numbers of kinds; which of them is called 0 is arbitrary.": (
                    lambda c, m: np.mean(c == m)
                ),
                "Divided by the points that have a kind; those without are misses, and count below.": without_nothing,
            },
        ),
        hints=(
            "All distances at once: give f and centre an axis each, square, sum over d; argmin over the centres.",
            "(nearest == j) chooses the points of centre j. What if there are none?",
            "np.bincount counts whole numbers from 0 on; leave out the -1 before, but not below the fraction bar.",
        ),
    ),
    exercise(
        "16.4",
        count(
            "match",
            match,
            pairs_of_features,
            {
                "Inner products without lengths: loud places win. Divide by the lengths.": lambda a, b, p: match(
                    a, b, p, lambda u, v: u @ v
                ),
                "This is the least distance; features of different length are compared by their angle.": (
                    lambda a, b, p: match(a, b, p, lambda u, v: -np.sum((u - v) ** 2))
                ),
                "This is the least similar place.": lambda a, b, p: match(
                    a, b, p, lambda u, v: -(u @ v) / np.sqrt((u @ u) * (v @ v))
                ),
                "Row and column of the answer are swapped.": lambda a, b, p: match(a, b, p)[:, ::-1],
                "The number of the place was split by the wrong width: that of image b counts.": lambda a, b, p: (
                    np.stack(np.divmod(match(a, b, p) @ np.array([b.shape[1], 1]), a.shape[1]), 1)
                ),
                "The length was taken over the places; each feature has one of its own, along the last axis.": (
                    lambda a, b, p: match(
                        a / np.linalg.norm(a, axis=(0, 1)), b / np.linalg.norm(b, axis=(0, 1)), p, lambda u, v: u @ v
                    )
                ),
            },
        ),
        hints=(
            "np.linalg.norm(f, axis=-1, keepdims=True) is the length of each feature.",
            "Flatten the places of b; one matrix product gives all cosines, argmax the best place of each point.",
            "np.divmod turns the number of a place into row and column.",
        ),
    ),
    exercise(
        "16.5",
        formula(
            "orientations",
            orientations,
            patches,
            {
                "The bins were rounded; bin k holds k to k+1 widths, so cut the decimals.": lambda c, b: orientations(
                    c, b, cut=round
                ),
                "Angles over the whole circle: a line and its negative would fall into different bins.": lambda c, b: (
                    orientations(c, b, period=2 * math.pi)
                ),
                "Each pixel counts the same; it counts as much as its gradient is long.": lambda c, b: orientations(
                    c, b, weight=lambda size: float(size > 0)
                ),
                "Not divided by its length: more contrast would be another feature.": lambda c, b: orientations(
                    c, b, length=lambda h: 1.0
                ),
                "Divided by the sum; the length is the root of the sum of squares.": lambda c, b: orientations(
                    c, b, length=np.sum
                ),
                "Down and right are swapped: np.gradient gives the slope down first.": lambda c, b: orientations(
                    c, b, turn=lambda dy, dx: math.atan2(dx, dy)
                ),
                "The gradient's length was squared.": lambda c, b: orientations(c, b, weight=lambda size: size**2),
            },
            rtol=1e-3,
        ),
        identity(
            "orientations",
            lambda f, c, b: np.asarray(f(3 * c + 0.5, b)) - np.asarray(f(c, b)),  # contrast does not matter
            lambda c, b: np.zeros(b),
            patches,
        ),
        hints=(
            "np.arctan2(down, right), then modulo π.",
            "np.bincount has weights= and minlength=.",
            "A flat cell has length 0: divide by something that is never 0.",
        ),
    ),
    exercise(
        "16.6",
        formula(
            "neighbours_share",
            neighbours_share,
            searches,
            {
                "All patches compete, so one image gives several neighbours. Take the best patch of each.": all_patches,
                "The mean over the patches of an image; the best of them counts.": lambda *a: neighbours_share(
                    *a, best=lambda row: row.mean()
                ),
                "These are cosines; an inner product grows with the length of the features.": lambda s, f, p, m: (
                    neighbours_share(s, f / np.linalg.norm(f, axis=-1, keepdims=True), p, m)
                ),
                "The nearest were taken by their distance; the exercise asks for the inner product.": lambda *a: (
                    neighbours_by_distance(*a)
                ),
                "These are the least similar images.": lambda *a: neighbours_share(*a, order=np.argsort),
                "Divided by the number of positive images; the share is among the m.": lambda s, f, p, m: (
                    neighbours_share(s, f, p, m) * m / p.sum()
                ),
                "This is how many are positive; divide by m.": lambda s, f, p, m: neighbours_share(s, f, p, m) * m,
                "Positive against negative; the share is of all m.": lambda s, f, p, m: (
                    neighbours_share(s, f, p, m) / (1 - neighbours_share(s, f, p, m))
                ),
                "The first neighbour was left out; none of the images is the seed's own here.": lambda *a: (
                    neighbours_share(*a, order=lambda score: np.argsort(-score)[1:])
                ),
            },
        ),
        hints=(
            "One matrix product: seeds with all patches of all images. Then give it back its axes.",
            "The maximum over the patches leaves one number for each seed and image.",
            "np.argsort sorts upwards. positive[...] of an array of places is an array of answers.",
        ),
    ),
    exercise(
        "16.7",
        spot_the_bug(
            "repaired_order",
            lambda f: order_by(f, from_mean(f).argmin()),
            heaps,
            lambda f: order_by(f, from_mean(f).argmax()),
            "The exemplar is the member farthest from the mean, so each cluster begins with its oddest patch.",
            {
                "This sorts by the distance from the mean; the others go by the exemplar, a member.": lambda f: (
                    np.argsort(from_mean(f))
                ),
                "The order is upside down: the exemplar comes first.": lambda f: order_by(f, from_mean(f).argmin())[
                    ::-1
                ],
            },
        ),
        hints=(
            "Which member is the face of a cluster? Which one does the program take?",
            "One word of the code is its opposite.",
        ),
    ),
)
