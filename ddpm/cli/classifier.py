"""`ddpm classifier`: train a classifier, measure it on the test images, write weights and card.

    ddpm classifier --data fashion_mnist                     p(c | x), which gives accuracies and features
    ddpm classifier --data fashion_mnist --schedule cosine   p(c | x_t, t), for classifier guidance
    ddpm classifier --data fashion_mnist --validate 5000     the same, measured on the last 5,000 training images

The files are runs/NAME/classifier.safetensors and .json, which `classifier.load("runs/NAME")` reads; --ship also writes
them to the package's own weights, which `classifier.load("fashion_mnist")` reads. --validate leaves the last images out
of the training and writes nothing, so that a recipe can be chosen without the test images.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import data, weights
from ddpm.classifiers.classifier import Classifier, Config, accuracy, build, save
from ddpm.classifiers.convnet import ClassifierConfig
from ddpm.classifiers.fitting import CONFIGS, train
from ddpm.classifiers.recipes import RECIPES, command_line
from ddpm.classifiers.timenet import TimeNetConfig
from ddpm.cli.options import ClassifierCommand, recipe_of
from ddpm.datasets import sources
from ddpm.datasets.reading import is_own
from ddpm.evaluation.statistics import stratified_subset
from ddpm.forward import q_sample
from ddpm.networks.inspect import count
from ddpm.oracles import gaussian as gaussian_
from ddpm.oracles.finite_set import finite
from ddpm.schedule import Schedule, make_schedule
from ddpm.tools import check
from ddpm.tools.files import check_writable
from ddpm.tools.origin import commit

TIMES = (1, 10, 50, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000)


def config_of(name: str, schedule: str, images: data.Dataset) -> Config:
    """Return the network config for a data set, for clean or for noisy images."""
    H, W, C = images.image_shape
    if name not in CONFIGS and (H != W or images.num_classes < 2):
        what = (
            f"images {H}x{W}, which are not square; give --size" if H != W else "fewer than two classes to tell apart"
        )
        raise ValueError(f"{images.name} has {what}")
    own = ClassifierConfig(
        H, C, images.num_classes, patch=2 if C == 3 else 3, widths=(32, 64, 128)[: 2 if H < 16 else 3]
    )
    clean = CONFIGS.get(name, own)
    return (
        TimeNetConfig(clean.image_size, clean.image_channels, clean.num_classes, schedule=schedule)
        if schedule
        else clean
    )


def by_time(
    log_posterior: Callable[[jax.Array, int], Any], schedule: Schedule, x: Any, y: Any, times: Any, seed: int = 0
) -> dict[str, dict[int, float]]:
    """Measure log p(c | x_t) at each time: {"accuracy": {t: …}, "cross_entropy": {t: nats}}.

    The function maps (x_t, t) -> (B, K);  x: (N, H, W, C) uint8. Each image and time has one noise, the same for all
    classifiers with this seed. A probability of 0 for the true class counts as 1e-30.
    """
    x0 = jnp.asarray(data.to_float(np.asarray(x)))
    found: dict[str, dict[int, float]] = {"accuracy": {}, "cross_entropy": {}}
    for t in (int(t) for t in times):
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(seed), t), x0.shape)
        x_t = q_sample(schedule, x0, jnp.int32(t), noise)
        log_p = np.concatenate([np.asarray(log_posterior(x_t[i : i + 100], t)) for i in range(0, len(y), 100)])
        found["accuracy"][t] = round(float((log_p.argmax(1) == y).mean()), 4)
        true = np.maximum(log_p[np.arange(len(y)), y], np.log(1e-30))
        found["cross_entropy"][t] = round(float(-true.mean()), 4)
    return found


def noisy_test(classifier: Classifier, images: data.Dataset, x: Any, y: Any, seed: int = 0) -> dict[str, Any]:
    """Measure p(c | x_t, t) by t, next to two baselines on the same images and noises.

    Up to 2,000 images are used, the same number of each class. gaussian: the exact posterior if each class were one
    Gaussian, fitted to its training images. ideal: the exact posterior if the distribution were the training images
    themselves (`oracles.finite_set`), on 200 images; where t is small it is overconfident.
    """
    # Images, times and the two baselines
    some = stratified_subset(y, min(2000, len(y)), seed)
    x, y = x[some], y[some]
    assert isinstance(classifier.config, TimeNetConfig)
    schedule = make_schedule(classifier.config.schedule, classifier.config.T)
    times = [t for t in TIMES if t <= schedule.T]
    gaussian = gaussian_.fit(data.to_float(images.x_train), images.y_train)
    whole = finite(images.x_train, images.y_train)

    # log p(c | x_t) of the network and of a baseline
    def network(x_t: jax.Array, t: int) -> Any:
        return jax.nn.log_softmax(classifier.logits(x_t, t))

    def exact(of: Any) -> Callable[[jax.Array, int], Any]:
        return lambda x_t, t: jnp.log(of.class_posterior(schedule, x_t, jnp.int32(t)))

    first = stratified_subset(y, min(200, len(y)), seed)
    return {
        "network": by_time(network, schedule, x, y, [0, *times], seed),
        "gaussian": by_time(exact(gaussian), schedule, x, y, times, seed),
        "ideal": by_time(exact(whole), schedule, x[first], y[first], times, seed) | {"n": len(first)},
        "n": len(y),
        "seed": seed,
    }


def run(command: ClassifierCommand) -> Classifier:
    """Train a classifier of a data set, measure it on the test images, and write weights and card."""
    from ddpm.tools.machine import device_name, versions

    # Recipe, network and images
    if not is_own(command.data, sources.NAMES):
        check.choice("data set", command.data, RECIPES)
    how, images = recipe_of(command), sources.load(command.data, command.data_dir)
    config = config_of(command.data, command.schedule, images)
    if not 1 <= how.batch <= len(images.x_train):
        n = len(images.x_train)
        raise ValueError(f"batch is {how.batch}; {images.name} has {n:,} training images, so give --batch 1..{n}")
    x, y, x_test, y_test = images.x_train, images.y_train, images.x_test, images.y_test
    if command.validate:
        split = len(x) - check.whole("validate", command.validate, 1, len(x) - how.batch)
        x, y, x_test, y_test = x[:split], y[:split], x[split:], y[split:]
    # Announcement of the sizes and of the files
    params = count(jax.eval_shape(build(config)[0], jax.random.key(0)))
    steps = len(x) // how.batch * how.epochs
    print(f"{command.data}: a classifier of {params:,} parameters, {steps:,} steps of {how.batch} on {device_name()}")
    folder = command.out or Path("runs") / command.name
    places = [] if command.validate else [folder / "classifier", *([weights.FOLDER / command.name] * command.ship)]
    for place in places:
        check_writable(place.with_name(place.name + ".safetensors"))
        print(f"weights and card will go to {place}.safetensors, .json")
    # Training and measurement
    resumed = (folder / "checkpoints").exists()
    start, at_commit = time.perf_counter(), commit()
    classifier = train(config, how, x, y, folder=None if command.validate else folder / "checkpoints")
    seconds = time.perf_counter() - start
    if command.schedule:
        test = noisy_test(classifier, images, x_test, y_test, command.seed)
    else:
        test = accuracy(classifier, x_test, y_test)
    # The card: what was trained, how, and how good it is
    card: dict[str, Any] = {
        "parameters": params,
        "train": dataclasses.asdict(how),
        "data": {"name": command.data, "sha256": images.sha256, "train_images": len(x)},
        "test": test,
        "seconds" if not resumed else "seconds_since_it_went_on": round(seconds),
        "device": device_name().replace(" 1 cores", " 1 core"),
        "versions": versions(),
        "commit": at_commit,
        "command": command_line(how),
    } | ({"note": command.note} if command.note else {})
    if command.schedule:
        right = test["network"]["accuracy"]
        some = ", ".join(f"{right[t]:.3f} at t = {t}" for t in (0, 200, 500, 800) if t in right)
        card["summary"] = f"classifier of noisy images, {command.schedule} schedule, test accuracy {some}"
    # Files
    classifier = dataclasses.replace(classifier, card=card, name=command.name)
    print(f"{'held-out training images' if command.validate else 'test'}: {test}\n{seconds:.0f} s")
    for place in places:
        save(place, classifier)
        print(f"weights and card: {place}.safetensors, .json")
    if places:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return classifier
