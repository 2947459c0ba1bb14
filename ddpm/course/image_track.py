"""The laptop challenge, image track: train in ten processor-minutes, then draw with 1, 2, 4 and 8 calls.

An entry is a file with three functions:

    train(images, labels, seed, left) -> params         images (N, H, W, C) uint8; left() is the share of time left
    network(params, x, ...) -> array                    what counts as a call, compiled by the grader
    sample(net, noise, labels, calls, seed) -> images   in [-1, 1]; net(x, ...) is the network, `calls` times at most

Training and drawing run in two processes of the course's sandbox, and only arrays go from the first to the second. The
entry never holds the parameters while it draws: `network` sees them while it is traced, so `sample` has no second
network. Images are scored by the Fréchet distance of the shipped classifier's features and by accuracy, each with its
error, and their floor, which is that of as many test images.
"""

from __future__ import annotations

import ast
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddpm.course import entries
from ddpm.course.process import PACKAGE, Limits
from ddpm.course.worker import Job, Question
from ddpm.tools import cache
from ddpm.tools.files import Damaged, flatten, load, save, unflatten

CALLS = (1, 2, 4, 8)
MINUTES = 10.0  # of processor time, all threads together
MOST = 1_050_000  # parameters
START, GRACE = 15.0, 5.0  # seconds of processor time: of imports and reading, before left() begins; after left() = 0
DRAW = 0.5  # seconds of processor time for an image, all calls together
CHUNK = 250  # images that `sample` draws at once
COPIES = 0.3  # drawn images may not be nearer to the training images than this share of the test images' distance
OPEN = (
    *("config", "contracts", "schedule", "forward", "oracle", "oracles", "network", "networks", "loss", "losses"),
    *("train", "guide", "guides", "sample", "samplers", "flows", "training.timed"),
)
FUNCTIONS = {
    "train": "images, labels, seed, left",
    "network": "params, x, ...",
    "sample": "net, noise, labels, calls, seed",
}


@dataclass(frozen=True)
class Rules:
    """The seed of training and noise, the training's budget of processor time in minutes, and the images drawn."""

    seed: int = 0
    minutes: float = MINUTES
    n: int = 1000


def may_import(module: str) -> bool:
    """NumPy, JAX, optax and the parts of the library that know no data, no weights and no files."""
    root, _, rest = module.partition(".")
    if root == "ddpm":
        return any(rest == part or rest.startswith(f"{part}.") for part in OPEN)
    return root in (*entries.PURE, "jax", "optax") and not rest.startswith("experimental")


# --- in the sandbox ---------------------------------------------------------------------------------------------------


def run_training(train: Callable[..., Any], images: np.ndarray, labels: np.ndarray, seed: int, seconds: float) -> Any:
    """Train, and return: the processor time, the names of the parameters as bytes of JSON, the parameters."""
    begin = time.process_time()
    params = train(images, labels, seed, lambda: max(0.0, 1 - (time.process_time() - begin) / seconds))
    used = time.process_time() - begin
    if not isinstance(params, dict):
        raise TypeError(f"train returned a {type(params).__name__}; give a dict of arrays, which may hold dicts")
    flat = {name: np.asarray(a, np.float32) for name, a in flatten(params).items()}
    return (np.float64(used), np.frombuffer(json.dumps(list(flat)).encode(), np.uint8), *flat.values())


def run_drawing(network: Any, sample: Any, params: dict, noise: np.ndarray, labels: np.ndarray, calls: int, seed: int):
    """Draw with a network that counts its calls: (n, H, W, C) uint8."""
    import jax

    compiled = jax.jit(network)

    def drawn(i: int) -> np.ndarray:
        x, left = noise[i : i + CHUNK], calls

        def net(state: Any, *more: Any) -> np.ndarray:
            nonlocal left
            if left == 0:
                raise ValueError(f"net is called more than {calls} times")
            if isinstance(state, jax.core.Tracer) or np.shape(state) != x.shape:
                raise ValueError(f"net wants an array of the noise's shape {x.shape}, not inside jit, grad or scan")
            left -= 1
            return np.asarray(compiled(params, np.asarray(state, np.float32), *more))

        out = np.asarray(sample(net, x.copy(), labels[i : i + CHUNK].copy(), calls, seed + i), np.float32)
        if out.shape != x.shape or not np.all(np.isfinite(out)):
            raise ValueError(f"sample has to return finite numbers of shape {x.shape}")
        return np.clip(np.round((out + 1) * 127.5), 0, 255).astype(np.uint8)

    return np.concatenate([drawn(i) for i in range(0, len(noise), CHUNK)])


# --- outside of it ----------------------------------------------------------------------------------------------------


def trained(nodes: list, name: str, data: Any, about: Rules) -> tuple[dict, float]:
    """Train an entry, or read its parameters from the cache, and the processor time that they took.

    The cache knows all of the entry but `sample`, which may change without a new training, and the library's code.
    """
    own = [node for node, _ in nodes if not isinstance(node, ast.Expr)]  # without the words at the top
    parts = [ast.dump(node) for node in own if not (isinstance(node, ast.FunctionDef) and node.name == "sample")]
    library = [f.read_text(encoding="utf-8") for f in sorted(PACKAGE.rglob("*.py"))]
    path = cache.path("challenge", parts, cache.key(*library), data.sha256, about.seed, about.minutes)
    try:
        params, card = load(path)
        return params, card["seconds"]
    except (Damaged, FileNotFoundError):
        pass
    seconds = 60 * about.minutes
    case = (data.x_train, data.y_train, about.seed, seconds)
    job = Job("training", ["train"], nodes, name, [Question(("train",), run_training, [case], False)])
    (answer,) = entries.answers(job, limits(START + seconds + GRACE), name)
    if answer.error:
        raise ValueError(f"{name}, train: {answer.error}: {answer.message}")
    used, names, *arrays = answer.arrays
    params = unflatten(dict(zip(json.loads(names.tobytes()), arrays, strict=True)))
    # What it may not be
    if not all(np.all(np.isfinite(a)) for a in arrays):
        raise ValueError(f"{name}: train returned parameters that are not finite")
    if (many := sum(a.size for a in arrays)) > MOST:
        raise ValueError(f"{name} has {many:,} parameters; the challenge has at most {MOST:,}")
    save(path, params, {"seconds": float(used)})
    return params, float(used)


def limits(seconds: float) -> Limits:
    """The sandbox: processor time, memory, and out of reach the shipped weights and data."""
    return Limits(seconds, memory=12.0, hidden=(str(PACKAGE / "weights"), str(PACKAGE / "datasets")))


def drawn(nodes: list, name: str, params: dict, shape: tuple[int, ...], about: Rules) -> tuple[np.ndarray, np.ndarray]:
    """Draw n images with each number of calls: (4, n, H, W, C) uint8, and their labels (n,), equally many of each."""
    rng = np.random.default_rng(about.seed)
    labels = rng.permutation(np.arange(about.n, dtype=np.int32) % 10)
    noise = rng.standard_normal((about.n, *shape)).astype(np.float32)
    cases = [(params, noise, labels, calls, about.seed) for calls in CALLS]
    job = Job(
        "drawing", ["network", "sample"], nodes, name, [Question(("network", "sample"), run_drawing, cases, False)]
    )
    found = entries.answers(job, limits(60 + DRAW * about.n), name)
    for calls, answer in zip(CALLS, found, strict=True):
        if answer.error:
            raise ValueError(f"{name}, {calls} calls: {answer.error}: {answer.message}")
    return np.stack([answer.arrays[0] for answer in found]), labels


def scored(images: np.ndarray, labels: np.ndarray, data: Any, judge: Any, real: Any) -> dict[str, Any]:
    """Fréchet distance and accuracy with their errors at each number of calls, the floor, and the score.

    images: (4, n, H, W, C);  judge: with features and predict, a classifier;  real: its features, train and test

    The score is the mean over the numbers of calls of log(distance/floor); 0 would be as good as real images.
    """
    from ddpm.evaluation import distances, neighbours, statistics

    n, of_train = len(labels), distances.moments(real.train)

    def distance(f: np.ndarray) -> float:
        return distances.frechet_moments(distances.moments(f), of_train)

    # Copies of training images are no samples
    some = statistics.stratified_subset(data.y_test, min(n, 200), 0)
    flat = [
        a.reshape(len(a), -1).astype(np.float32) / 127.5 for a in (images[-1][:200], data.x_test[some], data.x_train)
    ]
    ours, theirs = (np.median(neighbours.nearest(a, flat[2])[0]) for a in flat[:2])
    if ours < COPIES * theirs:
        raise ValueError(
            f"the images are copies: half of them are nearer than {ours:.2g} to a training image; of test images, half "
            f"are nearer than {theirs:.2g}"
        )
    row: dict[str, Any] = {"frechet": [], "error": [], "accuracy": [], "accuracy_error": []}
    for x in images:
        f, p = judge.features(x), float((judge.predict(x) == labels).mean())
        row["frechet"].append(distance(f))
        row["error"].append(statistics.bootstrap(f, distance, draws=40, strata=labels))
        row["accuracy"].append(p)
        row["accuracy_error"].append(float(np.sqrt(max(p * (1 - p), 1 / n) / n)))
    row["floor"] = distance(real.test[statistics.stratified_subset(data.y_test, n, 0)])
    row["score"] = float(np.mean(np.log(np.array(row["frechet"]) / row["floor"])))
    return row


def judged(file: Path, about: Rules) -> dict[str, Any]:
    """Train, draw and score an entry on Fashion-MNIST: its row; a ValueError tells why it has none."""
    from ddpm.classifiers import classifier
    from ddpm.datasets import sources
    from ddpm.evaluation import real_features

    # What can be refused is refused before anything runs
    words = f"{', '.join(m for m in entries.PURE if m != '__future__')}, jax, optax and ddpm.{{{','.join(OPEN)}}}"
    nodes = entries.checked(entries.text_of(file), file.name, FUNCTIONS, may_import, words)
    if about.n < 200 or not 0 < about.minutes < 1e4:  # also NaN
        raise ValueError(f"n is {about.n} and minutes is {about.minutes:g}; give at least 200 images, and some time")
    data = sources.load("fashion_mnist")
    params, seconds = trained(nodes, file.name, data, about)
    images, labels = drawn(nodes, file.name, params, data.image_shape, about)
    judge = classifier.load("fashion_mnist")
    row = scored(images, labels, data, judge, real_features.reference(data, judge))
    many = sum(a.size for a in flatten(params).values())
    return row | {"n": about.n, "minutes": about.minutes, "seconds": seconds, "parameters": int(many)}
