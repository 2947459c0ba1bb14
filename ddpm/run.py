"""A training run and its folder: runs/NAME/{config.json, metrics.csv, loss.png, samples_*.png, checkpoints/}.

`train(config)` starts the run, or goes on from its last good checkpoint; `model.load("runs/NAME")` reads it back.
"""

from __future__ import annotations

import csv
import dataclasses
import importlib.metadata
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from ddpm import checkpoint, data, plot
from ddpm.config import UNETS, TrainConfig, UNetConfig, unet_config
from ddpm.network import count, eps_fn
from ddpm.oracle import fit, linear_loss
from ddpm.sample import sample
from ddpm.schedule import Schedule, make_schedule
from ddpm.store import write_atomic
from ddpm.train import TrainState, init_state, learning_rate, make_step

COLUMNS = ["step", "loss", "grad_norm", "lr", "images_per_s", "seconds"]


class Diverged(RuntimeError):
    """The loss or the gradient is no longer a number."""


def network_for(config: TrainConfig, dataset: data.Dataset) -> UNetConfig:
    """The preset, with the classes of the data; refused if it was made for images of another shape."""
    classes = dataset.num_classes if config.conditional else 0
    unet = unet_config(config.preset, num_classes=classes)
    if unet.image_shape != dataset.image_shape:
        fits = [name for name, u in UNETS.items() if u.image_shape == dataset.image_shape]
        raise ValueError(
            f"preset {config.preset!r} is for images {unet.image_shape}, but {config.data} has {dataset.image_shape}; "
            f"presets that fit: {', '.join(fits) or 'none'}"
        )
    return unet


def versions() -> dict[str, str]:
    """What a number depends on besides the code."""
    packages = {p: importlib.metadata.version(p) for p in ("ddpm", "jax", "jaxlib", "flax", "optax", "numpy")}
    return {"python": platform.python_version(), **packages}


def device_name() -> str:
    """The device that JAX computes on, in words."""
    d = jax.devices()[0]
    if d.platform != "cpu":
        return f"{jax.device_count()} x {d.device_kind}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # not on a Mac
    return f"CPU, {cores} core{'' if cores == 1 else 's'}"


def check_same(folder: Path, config: TrainConfig, unet: UNetConfig) -> None:
    """Refuse to go on with a run whose configuration differs, naming the fields."""
    file = folder / "config.json"
    if not file.exists():
        return
    old = json.loads(file.read_text())
    new = {"train": dataclasses.asdict(config), "unet": dataclasses.asdict(unet)}
    new = json.loads(json.dumps(new))
    wrong = [
        f"{k} was {old[part].get(k)!r}, now {v!r}"
        for part in ("train", "unet")
        for k, v in new[part].items()
        if old[part].get(k) != v and not (part == "train" and k in TrainConfig.FREE)
    ]
    if wrong:
        raise ValueError(
            f"{folder} holds a run with another configuration: {'; '.join(wrong)}. "
            f"Use the old values to go on with it, or another --name to start anew"
        )


def describe_cost(compiled: Any, config: TrainConfig, unet: UNetConfig, seconds: float, left: int) -> str:
    """What the run will cost, before it starts."""
    cost, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
    gflop = cost.get("flops", float("nan")) / 1e9
    mib = (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 2**20 if memory else float("nan")
    params = count(jax.eval_shape(lambda: init_state(config, unet)).params)
    return (
        f"{params:,} parameters · {gflop:,.1f} GFLOP and {seconds:.3f} s a step of {config.batch} images "
        f"({gflop / seconds:,.0f} GFLOP/s) · {mib:,.0f} MiB · {left:,} steps: about {left * seconds / 60:,.0f} min "
        f"on {device_name()}"
    )


def grid_labels(unet: UNetConfig, per_class: int = 8) -> np.ndarray | None:
    """The labels of a sample grid, one row a class."""
    return np.repeat(np.arange(unet.num_classes), per_class) if unet.num_classes else None


def sample_grid(unet: UNetConfig, schedule: Schedule, params: dict, seed: int = 0) -> np.ndarray:
    """Images for a grid with a row for each class: DDIM, 25 steps, guidance 2."""
    c = grid_labels(unet)
    shape = (64 if c is None else len(c), *unet.image_shape)
    return np.asarray(sample(eps_fn(unet, params), schedule, jax.random.key(seed), shape, c, steps=25, guidance=2.0))


def baseline(folder: Path, dataset: data.Dataset, schedule: Schedule, conditional: bool) -> float:
    """The loss of the best linear-Gaussian denoiser on the training images, exact; kept in baseline.json."""
    file = folder / "baseline.json"
    if not file.exists():
        c = dataset.y_train if conditional else None
        x = data.to_float(dataset.x_train)
        value = float(linear_loss(fit(x, c), schedule, x, c)[1:].mean())
        write_atomic(file, json.dumps({"linear_gaussian_loss": value, "images": len(x), "split": "train"}).encode())
    return json.loads(file.read_text())["linear_gaussian_loss"]


def read_metrics(folder: Path) -> dict[str, np.ndarray]:
    """metrics.csv as columns."""
    with open(folder / "metrics.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    return {k: np.array([float(r[k]) for r in rows]) for k in COLUMNS}


def _start_metrics(folder: Path, step: int) -> float:
    """Make metrics.csv, or cut the rows that lie after the checkpoint; returns the seconds spent so far."""
    file = folder / "metrics.csv"
    kept: list[list[str]] = []
    if file.exists():
        with open(file, newline="") as f:
            kept = [r for r in list(csv.reader(f))[1:] if len(r) == len(COLUMNS) and int(r[0]) <= step]
    lines = [",".join(COLUMNS)] + [",".join(r) for r in kept]
    write_atomic(file, ("\n".join(lines) + "\n").encode())
    return float(kept[-1][-1]) if kept else 0.0


def train(config: TrainConfig, runs: str | Path = "runs", quiet: bool = False) -> Path:
    """Run Algorithm 1 as `config` says, or go on with it; returns the run's folder."""
    say = (lambda *_: None) if quiet else print
    dataset = data.load(config.data, config.data_dir)
    unet = network_for(config, dataset)
    if config.batch > len(dataset.x_train):
        raise ValueError(f"batch is {config.batch}; {config.data} has {len(dataset.x_train)} training images")
    schedule = make_schedule(config.schedule, config.T)
    folder = Path(runs) / config.run_name
    check_same(folder, config, unet)
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "train": dataclasses.asdict(config),
        "unet": dataclasses.asdict(unet),
        "data": {"name": config.data, "sha256": dataset.sha256, "classes": list(dataset.class_names)},
        "versions": versions(),
        "device": device_name(),
    }
    write_atomic(folder / "config.json", (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode())

    found = checkpoint.restore(folder / "checkpoints", jax.eval_shape(lambda: init_state(config, unet)))
    state = found[0] if found else init_state(config, unet)
    step = int(state.step)
    if step >= config.steps:
        say(f"{folder} has its {config.steps} steps already; raise --steps to train on")
        return folder
    if found:
        say(f"resuming {folder} at step {step}")
    spent = _start_metrics(folder, step)

    images, labels = jnp.asarray(dataset.x_train), jnp.asarray(dataset.y_train)
    ids = data.batch_ids(config.seed, step, len(images), config.batch)
    compiled = make_step(config, unet).lower(state, schedule, images, labels, ids).compile()
    seconds = _time_step(compiled, state, schedule, images, labels, ids)
    say(describe_cost(compiled, config, unet, seconds, config.steps - step))
    base = baseline(folder, dataset, schedule, config.conditional)

    lr = learning_rate(config)
    bar = tqdm(total=config.steps, initial=step, unit="step", disable=quiet, file=sys.stderr, mininterval=0.5)
    losses: list[jax.Array] = []
    start, last = time.perf_counter() - spent, (time.perf_counter(), step)

    def save_all(with_samples: bool) -> None:
        checkpoint.save(folder / "checkpoints", step, state, about)
        plot.save_loss(folder / "loss.png", read_metrics(folder), base)
        if with_samples:
            pictures = sample_grid(unet, schedule, state.ema, config.seed)
            plot.save_grid(folder / f"samples_{step:08d}.png", pictures, columns=8)

    try:
        while step < config.steps:
            ids = data.batch_ids(config.seed, step, len(images), config.batch)
            state, metrics = compiled(state, schedule, images, labels, ids)
            step += 1
            jax.block_until_ready(losses[-1:])  # one step ahead of the device, not fifty: the bar tells the truth
            losses.append(metrics.loss)
            if step % config.log_every == 0 or step == config.steps or step % config.save_every == 0:
                values = np.array(jax.device_get(losses))
                if not np.isfinite(values).all() or not np.isfinite(float(metrics.grad_norm)):
                    step = int(state.step)
                    checkpoint.save(folder / "checkpoints", step, state, about)
                    raise Diverged(
                        f"the loss or its gradient was not finite after step {step}. That state, the last good "
                        f"one, is saved in {folder / 'checkpoints'}. Try a smaller --lr (it was {config.lr})"
                    )
                now = time.perf_counter()
                rate = config.batch * (step - last[1]) / (now - last[0])
                row = [step, f"{values.mean():.6g}", f"{float(metrics.grad_norm):.4g}", f"{float(lr(step)):.4g}"]
                with open(folder / "metrics.csv", "a") as f:
                    f.write(",".join(map(str, [*row, f"{rate:.1f}", f"{now - start:.1f}"])) + "\n")
                bar.set_postfix_str(f"loss {values.mean():.4f}, Gaussian {base:.4f}, {rate:,.0f} images/s", False)
                losses, last = [], (now, step)
            bar.update(step - bar.n)
            at_end = step == config.steps
            if at_end or step % config.save_every == 0:
                save_all(at_end or bool(config.sample_every and step % config.sample_every == 0))
                last = (time.perf_counter(), step)
    except KeyboardInterrupt:
        jax.block_until_ready(state)
        step = int(state.step)
        checkpoint.save(folder / "checkpoints", step, state, about)
        say(f"\nstopped; step {step} is saved. The same command goes on from there")
        raise
    finally:
        bar.close()
    say(f"done: {folder}/loss.png, {folder}/samples_{step:08d}.png")
    return folder


def _time_step(compiled: Any, state: TrainState, *args: Any) -> float:
    """Seconds of one step, measured on a copy of the state."""
    copy, _ = jax.block_until_ready(compiled(jax.tree.map(jnp.copy, state), *args))
    start = time.perf_counter()
    for _ in range(2):
        copy, _ = jax.block_until_ready(compiled(copy, *args))
    return (time.perf_counter() - start) / 2
