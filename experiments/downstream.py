"""What an autoencoder's codes are worth to a classifier, by the number of labels.

Representations are learned without labels so that few labels suffice. On Gaussian classes the truth is known: linear
discriminant analysis with n labels a class in D numbers is right with probability Φ(½ δ²/√(δ² + 2D/n)), where δ is the
distance of the means. An encoder that keeps the right k directions turns D into k. So it helps where n is small, and
not at all where n is large; an encoder that loses a part of δ costs something at every n. The exact column is this
formula; ours draws such classes and counts. Then garments: linear classifiers on the 16 codes of a small autoencoder,
on as many principal components, on the codes of an encoder that was never trained, and on the pixels; and the encoder
trained on for a few steps with the labels, from the autoencoder and from scratch. The autoencoder copies better than
principal components, and from a hundred labels on its codes classify better as well. But the pixels are best at every
number of labels, already with ten a class: 16 codes lose more of what tells garments apart than they save in numbers to
estimate. A random encoder is the worst, so the training of the copies did help. What does not carry over: codes of much
larger encoders, which were trained on more than copying, and of a longer training on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from scipy.stats import norm

from ddpm import data, plot
from ddpm.datasets import sources
from ddpm.evaluation.statistics import stratified_subset
from ddpm.features.probe import linear_probe
from ddpm.generators import Generator, GeneratorConfig, Recipe, build, fit
from ddpm.train import TrainState, make_step
from experiments.lab.runner import Result, Row, Unavailable

PAPER = "Hinton and Salakhutdinov 2006; Bengio et al. 2013, Sec. 2"
MINUTES = 3.0
UNCHECKED = "The formula of discriminant analysis is an approximation for n much above 1; the rows held to it say so."
WAYS = ("pixels", "principal components", "encoder, frozen", "encoder, trained on", "random encoder", "from scratch")


@dataclass(frozen=True)
class Config:
    """Data, the autoencoder's steps and codes, labels a class, test images, and steps of training on."""

    data: str = "fashion_mnist"
    steps: int = 500
    codes: int = 16
    width: int = 24
    labels: tuple[int, ...] = (10, 100, 1000)
    n: int = 2000
    tuned: int = 120
    D: int = 50
    delta: float = 2.0
    seed: int = 0


QUICK = {"data": "digits", "steps": 30, "codes": 8, "width": 8, "labels": (10,), "n": 200, "tuned": 10}


def by_formula(delta: float, D: int, n: int) -> float:
    """The accuracy of discriminant analysis with n labels a class and known covariance."""
    return float(norm.cdf(0.5 * delta**2 / np.sqrt(delta**2 + 2 * D / n)))


def counted(delta: float, D: int, n: int, seed: int, repeats: int = 2000) -> float:
    """The same, over drawn means of the two classes: the exact accuracy of each classifier, averaged."""
    rng = np.random.default_rng([seed, D, n])
    middle = np.zeros(D)
    middle[0] = delta / 2
    a, b = (s * middle + rng.normal(size=(repeats, D)) / np.sqrt(n) for s in (1, -1))
    w, centre = a - b, (a + b) / 2
    size = np.linalg.norm(w, axis=1)
    right = [norm.cdf(s * (w @ (s * middle) - (w * centre).sum(1)) / size) for s in (1, -1)]
    return float(np.mean(right))


def tuned(g: Generator, x: np.ndarray, y: np.ndarray, steps: int, seed: int) -> Any:
    """Train encoder and a linear layer on the labels; return images -> classes."""
    encode: Any = build(g.config).encode
    K, k = int(y.max()) + 1, g.config.codes
    # 16 codes may forget what a class needs, so the layer reads mean and log variance, 2k numbers
    params = {"encoder": g.params["encoder"], "w": jnp.zeros((2 * k, K)), "b": jnp.zeros(K)}

    def logits(p: dict, x: jax.Array) -> jax.Array:
        return jnp.concatenate(encode(p, x), 1) @ p["w"] + p["b"][None]

    def loss(p: dict, x: jax.Array, y: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(logits(p, x), y).mean()

    adam = optax.adam(optax.cosine_decay_schedule(1e-3, steps))
    step = make_step(loss, adam, 0.99)
    state = TrainState(jnp.int32(0), params, jax.tree.map(jnp.copy, params), adam.init(params))
    batch = min(64, len(x))
    for n in range(steps):
        ids = data.batch_ids(seed, n, len(x), batch)
        state, _ = step(state, x[ids], y[ids])
    run = jax.jit(logits)
    return lambda x: np.concatenate([np.asarray(run(state.ema, part)).argmax(1) for part in np.split(x, 10)])


def run(config: Config) -> Result:
    """Train the autoencoder once, then classify with each representation and number of labels."""
    try:
        d = sources.load(config.data)
    except FileNotFoundError as error:
        raise Unavailable(f"this needs {config.data}, which is not here: {error}") from None
    # Gaussian classes
    rows = []
    for D in (config.D, max(2, config.D // 5)):
        for n in (5, *config.labels):
            exact, ours = by_formula(config.delta, D, n), counted(config.delta, D, n, config.seed)
            rows.append(Row(f"Gaussian classes, {D} numbers, {n} a class", None, exact, ours, within=0.02))
    rows.append(Row("Gaussian classes, all labels", None, float(norm.cdf(config.delta / 2))))
    # An autoencoder, an untrained encoder, and principal components
    H, _, C = d.image_shape
    sizes = GeneratorConfig("ae", H, C, d.num_classes, config.codes, config.width)
    ae = fit(sizes, Recipe(config.steps, seed=config.seed), d.x_train)
    fresh = Generator(sizes, build(sizes).init(jax.random.key(config.seed + 1)), {})
    test = stratified_subset(d.y_test, min(config.n, len(d.x_test)), config.seed)
    test = test[: len(test) // 10 * 10]
    x_test, y_test = data.to_float(d.x_test[test]), d.y_test[test]
    x_all = data.to_float(d.x_train)
    mean = x_all.reshape(len(x_all), -1).mean(0)
    cov = np.cov(x_all.reshape(len(x_all), -1), rowvar=False)
    var, U = np.linalg.eigh(cov)
    copied = float(((ae.copies(x_test) - x_test) ** 2).mean())
    rows.append(Row(f"error a pixel of {config.codes} codes (exact: principal components)", None,
                    float(var[: -config.codes].sum() / len(var)), copied))  # fmt: skip
    features = {
        "pixels": lambda x: x.reshape(len(x), -1),
        "principal components": lambda x: (x.reshape(len(x), -1) - mean) @ U[:, -config.codes :],
        "encoder, frozen": ae.codes,
        "random encoder": fresh.codes,
    }
    found: dict[str, list[float]] = {}
    for n in config.labels:
        some = stratified_subset(d.y_train, n * d.num_classes, config.seed)
        x, y = x_all[some], d.y_train[some].astype(np.int32)
        for name in WAYS:
            if name in features:
                f = features[name]
                value = linear_probe(f(x), y, f(x_test), y_test, Cs=(0.01, 0.1), seed=config.seed).accuracy
            else:
                start = ae if name == "encoder, trained on" else fresh
                value = float((tuned(start, x, y, config.tuned, config.seed)(x_test) == y_test).mean())
            found.setdefault(name, []).append(value)
            rows.append(Row(f"{n} labels a class: {name}", None, None, value))
            print(f"{n} labels a class, {name}: {value:.3f}", flush=True)
    curve = np.geomspace(2, 2000, 60)
    lines = {str(D): [by_formula(config.delta, D, n) for n in curve] for D in (config.D, max(2, config.D // 5))}
    numbers = {"labels": config.labels, "found": found, "n": len(test), "curve": curve, "lines": lines}
    return Result(rows, None, numbers | {"points": [[r.what, r.ours] for r in rows if r.within]})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw accuracy by labels: of Gaussian classes, and of garments."""
    with plot.style():
        figure = plot.new_figure(9.2, 3.4)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
        for colour, (D, line) in zip(("C0", "C3"), numbers["lines"].items(), strict=True):
            left.plot(numbers["curve"], line, color=colour, ls="-", label=f"{D} numbers")
            of = [(float(w.split()[-3]), v) for w, v in numbers["points"] if f", {D} numbers," in w]
            left.plot(*np.array(of).T, "o", ms=4, color=colour)
        most = next(r["exact"] for r in rows if r["what"].endswith("all labels"))
        left.axhline(most, color="0.6", ls=":", lw=1)
        left.set(xscale="log", xlabel="labels a class", ylabel="accuracy", title="two Gaussian classes, exactly")
        left.legend(fontsize=8)
        for i, (name, values) in enumerate(numbers["found"].items()):
            right.plot(numbers["labels"], values, "o-", ms=4, color=f"C{i}", label=name)
        right.set(xscale="log", xlabel="labels a class", title=f"garments, {numbers['n']:,} test images")
        right.legend(fontsize=7)
    return figure
