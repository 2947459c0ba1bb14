"""One garment redrawn as another: DDIM encoding with one class, decoding with another.

Siglidis et al. translate street views between countries from their DDIM encoding and measure typicality on the
translations: their "parallel data". Here garments of one class are encoded and decoded as another. Four things are
measured on real test images. The first is the error of the round trip, which is the floor of all changes and falls with
the number of steps (Song et al., Table 2, print it for CIFAR-10, 32 x 32, per-pixel MSE on [0, 1]: .0023 at 50 steps,
.0009 at 100; it is another network on another data set, so only the size can be compared). The others are how much the
translation changes, how often the classifier predicts the new class, and the typicality of both classes before and
after. The figure shows images that the network drew itself. Plain decoding leaves about half of the garments what they
were: the code still holds the class. With guidance in the decoding, the classifier predicts the new class for 85 % of
them and both typicalities change their sign, at twice the change of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ddpm import data, plot
from ddpm.classifiers import classifier
from ddpm.datasets import sources
from ddpm.editing.translation import translate, typicality_shift
from ddpm.sample import Sampling
from ddpm.samplers.generation import generate
from ddpm.typicality import Draws
from ddpm.zoo import model
from experiments.lab.runner import Result, Row, Unavailable

PAPER = "Siglidis et al. 2024, Sec. 5; Song et al. 2021, Table 2"
MINUTES = 6


@dataclass(frozen=True)
class Config:
    """The network, the pairs of classes, and the images of each."""

    data: str = "fashion_mnist"
    model: str = "fashion_mnist"
    pairs: tuple[tuple[int, int], ...] = ((0, 3), (7, 9), (2, 4), (3, 0))
    n: int = 15  # test images of each pair
    steps: int = 50
    start: float = 0.9  # share of T up to which an image is encoded
    guidance: float = 2.0
    draws: int = 20  # of typicality
    round_trips: tuple[int, ...] = (20, 50)
    seed: int = 0


QUICK = {
    "data": "digits",
    "model": "",
    "pairs": ((0, 1), (3, 8)),
    "n": 3,
    "steps": 5,
    "draws": 4,
    "round_trips": (5, 10),
}


def run(config: Config) -> Result:
    """Measure on real images, and draw generated ones."""
    try:
        d = sources.load(config.data)
    except (ValueError, FileNotFoundError, OSError) as missing:
        raise Unavailable(str(missing)) from None
    if config.model:
        net = model.load(config.model)
        judge: Any = classifier.load(config.data)
    else:
        from experiments.ddae import untrained

        net, judge = untrained(), None
    eps, schedule, key = net.eps, net.schedule, jax.random.key(config.seed)
    x = np.concatenate([data.to_float(d.x_test[d.y_test == a][: config.n]) for a, _ in config.pairs])
    a, b = (np.repeat([p[i] for p in config.pairs], config.n)[: len(x)] for i in (0, 1))

    rows: list[Row] = []
    numbers: dict[str, Any] = {}
    paper = {20: 0.0065, 50: 0.0023, 100: 0.0009}
    trips = {}
    for steps in config.round_trips:
        error = translate(eps, schedule, x, a, a, steps=steps, start=config.start).error(x) / 4  # on [0, 1]
        trips[steps] = {"mse": error.mean(), "stderr": error.std(ddof=1) / np.sqrt(len(error))}
        what = f"round trip, {steps} steps each way: MSE on [0, 1]"
        rows.append(Row(what, paper.get(steps), None, error.mean(), trips[steps]["stderr"]))
    for guidance in (1.0, config.guidance):
        got = translate(eps, schedule, x, a, b, steps=config.steps, start=config.start, guidance=guidance)
        T = typicality_shift(eps, schedule, x, got.image, a, b, key, Draws(config.draws))
        name, change = f"s = {guidance:g}", got.change(x) / 4
        about: dict[str, Any] = {"change": change.mean(), "share_T_b_rises": (T["after_b"] > T["before_b"]).mean()}
        about |= {k: v.mean() for k, v in T.items()}
        about["share_more_b_than_a_after"] = (T["after_b"] > T["after_a"]).mean()
        about["share_more_b_than_a_before"] = (T["before_b"] > T["before_a"]).mean()
        rows.append(Row(f"{name}: change of the image, MSE on [0, 1]", None, None, about["change"]))
        if judge is not None:
            seen = judge.predict(data.to_uint8(got.image)) == b
            about["classified_as_b"] = seen.mean()
            about["classified_as_b_by_pair"] = {
                f"{d.class_names[p]} -> {d.class_names[q]}": seen[(a == p) & (b == q)].mean() for p, q in config.pairs
            }
            rows.append(Row(f"{name}: share that the classifier assigns to the new class", None, None, seen.mean()))
        for k, label in (("b", "new"), ("a", "old")):
            for when in ("before", "after"):
                v = T[f"{when}_{k}"]
                rows.append(
                    Row(f"{name}: mean T(x|{label} class) x 1000, {when}", None, None, 1000 * v.mean(),
                        1000 * v.std(ddof=1) / np.sqrt(len(v)))
                )  # fmt: skip
        rows.append(
            Row(f"{name}: share with T(x|new) > T(x|old), after", None, None, about["share_more_b_than_a_after"])
        )
        numbers[name] = about
    numbers |= {"n": len(x), "split": f"first {config.n} test images of each class", "round_trips": trips}
    return Result(rows, picture(config, net, d.class_names, key), numbers)


def picture(config: Config, net: model.Model, names: tuple[str, ...], key: jax.Array) -> Any:
    """Draw generated images, their round trips, and their translations."""
    per = 5
    a, b = (np.repeat([p[i] for p in config.pairs], per) for i in (0, 1))
    x = np.asarray(
        generate(net.eps, net.schedule, key, net.image_shape, a, Sampling(steps=config.steps, guidance=config.guidance))
    )
    how = {"steps": config.steps, "start": config.start}
    plain = translate(net.eps, net.schedule, x, a, b, **how)  # type: ignore[arg-type]
    guided = translate(net.eps, net.schedule, x, a, b, guidance=config.guidance, **how)  # type: ignore[arg-type]
    shown = {
        "drawn": x,
        "round trip": plain.back,
        "translated": plain.image,
        f"… guided, s = {config.guidance:g}": guided.image,
    }
    with plot.style():
        figure = plot.new_figure(1.5 + 2.4 * len(config.pairs), 2.25)
        for j, ((p, q), axes) in enumerate(zip(config.pairs, figure.subplots(1, len(config.pairs)), strict=True)):
            part = slice(j * per, (j + 1) * per)
            canvas = plot.grid(np.concatenate([np.clip(v[part], -1, 1) for v in shown.values()]), per)
            axes.imshow(canvas[..., 0], cmap="gray", vmin=0, vmax=255)
            axes.set_title(f"{names[p]} → {names[q]}", fontsize=8)
            axes.set_xticks([])
            height = (canvas.shape[0] - 2) / len(shown)
            axes.set_yticks([2 + height * (i + 0.5) for i in range(len(shown))], list(shown) if j == 0 else [])
            axes.tick_params(length=0, labelsize=8)
            axes.spines[:].set_visible(False)
    return figure
