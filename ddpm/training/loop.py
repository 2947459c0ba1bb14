"""The training loop and what runs between steps: logs, evaluation, checkpoints."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from ddpm import data, plot
from ddpm.config import UNetConfig
from ddpm.flows.own_sampling import FewStepsCard, card_of
from ddpm.flows.table import FEW_STEPS
from ddpm.schedule import Schedule
from ddpm.tools import checkpoint, machine
from ddpm.tools.files import Damaged, sweep, write_atomic
from ddpm.train import TrainState
from ddpm.training import averages, by_layer, captions, cost, devices, diagnose, few_steps, resume, signals, tables
from ddpm.training.adam import learning_rate
from ddpm.training.begin import begun
from ddpm.training.config import TrainConfig
from ddpm.training.feed import Feed
from ddpm.training.gaussian_baseline import baseline
from ddpm.training.loggers import Board, Csv, Logger
from ddpm.training.step import fitted_prior, init_state, make_sharded_step, make_step
from ddpm.training.watching import loss_on_test, sample_grid, save_film


class Diverged(RuntimeError):
    """The loss or the gradient is not finite."""


def steps_per_call(config: TrainConfig, platform: str) -> int:
    """Return the steps per compiled call: as configured, or one on a CPU and up to ten elsewhere."""
    if config.steps_per_call or platform == "cpu":  # on a CPU some gradients are slow in a loop, and a call is cheap
        return config.steps_per_call or 1
    fits = math.gcd(config.steps, *(getattr(config, event) for event in config.EVENTS))  # calls end at all events
    return max(k for k in range(1, 11) if fits % k == 0)


class Training:
    """A training run: its state, its compiled step, and what runs between steps."""

    teacher: Any = None  # the model that a few-step loss learns from
    begin: Any = None  # the model whose parameters are the first ones

    def __init__(
        self,
        config: TrainConfig,
        unet: UNetConfig,
        schedule: Schedule,
        dataset: data.Dataset,
        folder: Path,
        mesh: Any = None,
        quiet: bool = False,
        loggers: Sequence[Logger] = (),
    ):
        self.config, self.unet, self.schedule, self.dataset = config, unet, schedule, dataset
        self.folder, self.mesh, self.quiet, self.writes = folder, mesh, quiet, devices.lead()
        self.about = {
            "train": dataclasses.asdict(config),
            "unet": dataclasses.asdict(unet),
            "data": {"name": config.data, "sha256": dataset.sha256, "classes": list(dataset.class_names)},
            "versions": machine.versions(),
            "device": machine.device_name(),
        }
        self.feed = Feed(config.seed, config.batch, dataset.x_train, captions.conditions(unet, dataset), mesh)
        platform = jax.devices()[0].platform
        self.k, self.on_cpu = steps_per_call(config, platform), platform == "cpu"
        self.programs: dict[int, Any] = {}
        self.placed = devices.replicate(mesh, schedule)
        self.loggers = list(loggers) if self.writes else []

    def say(self, *words: Any) -> None:
        """Print, unless this process is quiet."""
        if not self.quiet:
            print(*words)

    # --- before ---

    def restore(self) -> bool:
        """Restore the newest intact checkpoint or initialise; return True if steps remain."""
        config, found = self.config, None
        if self.writes:
            self.folder.mkdir(parents=True, exist_ok=True)
            sweep(self.folder)
            like = jax.eval_shape(lambda: init_state(config, self.unet))
            try:
                found = checkpoint.restore(self.folder / "checkpoints", like)
            except Damaged as e:
                raise Damaged(f"{e}, or begin anew with --restart") from None
        # The state, on every device; what cannot be initialised leaves no config.json
        state = found[0] if found else begun(init_state(config, self.unet, self.prior()), self.begin)
        if self.writes:
            text = json.dumps(self.about, indent=1, ensure_ascii=False) + "\n"
            write_atomic(self.folder / "config.json", text.encode())
        self.state: TrainState = devices.replicate(self.mesh, state)
        self.step = self.first = int(self.state.step)
        machine.give_memory_back()  # what compiling the first draw of the parameters needed
        if self.step >= config.steps:
            self.say(f"{self.folder} has its {config.steps} steps already; raise --steps to train on")
            return False
        # What has changed since
        if found:
            self.say(f"resuming {self.folder} at step {self.step}")
            for word in (
                resume.other_versions(found[1], machine.versions()),
                resume.rate_jump(found[1], config, self.step),
            ):
                if word:
                    self.say(word)
        return True

    def prior(self) -> Any:
        """Fit the Gaussian that the network continues, or take the teacher's parameters, if there is one; else ()."""
        config = self.config
        if self.teacher is not None:
            return few_steps.Teacher(self.teacher.params)
        if config.predict != "gaussian":
            return ()
        self.say(f"fitting the Gaussian of the data: {config.gaussian}, rank {config.gaussian_rank}")
        return fitted_prior(config, self.unet, self.schedule, self.dataset.x_train, self.dataset.y_train)

    def open_loggers(self) -> float:
        """Add the CSV files, truncated at the current step, and TensorBoard; return the seconds of the run so far."""
        if not self.writes:
            return 0.0
        columns = {"metrics": tables.COLUMNS[1:]}
        if self.config.eval_every:
            columns["eval"] = ["images", "params", "ema", *averages.decays(self.config)]
        if self.config.watch:
            columns["layers"] = list(by_layer.layers(self.state.params))
        csv = Csv(self.folder, columns, self.step, min(1000, len(self.dataset.x_test)))
        board = [Board(self.folder, self.step)] if self.config.tensorboard else []
        self.loggers = [csv, *board, *self.loggers]
        return csv.seconds

    def program(self, k: int) -> Any:
        """Return the compiled program for k steps."""
        if k not in self.programs:
            args = (self.state, self.placed, *self.feed(self.step, k))
            if self.mesh is None:
                make = make_step(self.config, self.unet, many=k > 1)
            else:
                make = make_sharded_step(self.config, self.unet, self.mesh, many=k > 1)
            self.say(
                f"compiling {k} training step{'' if k == 1 else 's'} (up to a minute; once for each version, then kept)"
            )
            self.programs[k] = make.lower(*args).compile()
            machine.give_memory_back()  # what the compiler needed: several times what a step needs
        return self.programs[k]

    def next_k(self) -> int:
        """Return the number of steps of the next call."""
        return self.k if self.step % self.k == 0 and self.step + self.k <= self.config.steps else 1

    # --- the loop ---

    def go(self) -> None:
        """Run all remaining steps."""
        if not self.restore():
            return
        seconds_before = self.open_loggers()
        # cost, baseline and progress bar
        config, k = self.config, self.next_k()
        seconds = cost.time_step(self.program(k), self.state, self.placed, *self.feed(self.step, k)) / k
        left = config.steps - self.step
        self.say(cost.describe(self.program(k), config, self.state.params, seconds, left))
        self.base = None  # for errors of a prediction: the bound has another floor
        if self.writes and config.loss not in ("vlb", "hybrid", *FEW_STEPS):
            self.base = baseline(self.folder, self.dataset, self.schedule, self.unet.num_classes > 0, config)
        machine.give_memory_back()
        self.losses: list[jax.Array] = []
        now = time.perf_counter()
        self.start, self.last = now - seconds_before, (now, self.step)
        self.bar = tqdm(
            total=config.steps, initial=self.step, unit="step", disable=self.quiet, file=sys.stderr, mininterval=0.5
        )
        # steps until the end or a signal
        calls, number = 0, 0
        try:
            with signals.received(*devices.own_signals()) as came:
                while self.step < config.steps and not number:
                    self.advance()
                    calls += 1
                    number = devices.asked_to_stop(came, calls)
        except OSError as e:  # such as a full disk
            if " saved" in str(e):  # a checkpoint's error says so itself
                raise
            raise type(e)(e.errno, f"{e.strerror or e}; {self.kept()}", e.filename) from e
        finally:
            self.bar.close()
        # final checkpoint of a stopped run
        if self.step < config.steps:
            self.save()
            self.say(f"\nstopped; step {self.step} is saved. The same command resumes from there")
            raise signals.Stopped(number)
        self.say(f"done: {self.folder}/loss.png, {self.folder}/samples_{self.step:08d}.png")

    def kept(self) -> str:
        """Say which step is saved, and that the run resumes from it."""
        saved = checkpoint.steps(self.folder / "checkpoints")
        return f"step {saved[-1]} is saved, and the same command resumes from it" if saved else "no step is saved yet"

    def due(self, every: int) -> bool:
        """True if an event with this interval (0: never) is due at the current step."""
        return every > 0 and self.step % every == 0

    def advance(self) -> None:
        """Make one call of the compiled step, and run the events that are due."""
        config, k = self.config, self.next_k()
        self.state, metrics = self.program(k)(self.state, self.placed, *self.feed(self.step, k))
        self.step, self.last_k = self.step + k, k
        if self.on_cpu:  # a step that waits for its turn would hold its temporary arrays already
            jax.block_until_ready((self.state, metrics))
            if self.step <= 3 * k + self.first:  # until the temporary arrays have found their place
                machine.give_memory_back()
        jax.block_until_ready(self.losses[-1:])  # stay one call ahead of the device, so the bar is accurate
        self.losses.append(metrics.loss)
        at_end = self.step == config.steps
        if at_end or self.due(config.log_every) or self.due(config.save_every) or self.due(config.eval_every):
            self.log(metrics)
        self.bar.update(self.step - self.bar.n)
        pause = time.perf_counter()
        if self.due(config.eval_every):
            self.evaluate()
        if self.due(config.snapshot_every) and self.writes:
            averages.save_snapshot(self.folder, self.step, self.state.emas)
        if at_end or self.due(config.save_every):
            self.save(loss=True, pictures=at_end or self.due(config.sample_every))
            machine.give_memory_back()  # of what is drawn and measured between steps
        self.last = (self.last[0] + time.perf_counter() - pause, self.last[1])

    def log(self, metrics: Any) -> None:
        """Add a row to metrics.csv, or stop the run if the loss is not finite."""
        config, now = self.config, time.perf_counter()
        values = np.concatenate([np.ravel(a) for a in jax.device_get(self.losses)])
        norm, layers = (np.asarray(a if self.last_k == 1 else a[-1]) for a in metrics[1:])
        if not np.isfinite(values).all():
            self.diverged()
        rate = config.batch * (self.step - self.last[1]) / (now - self.last[0])
        lr = float(learning_rate(config)(self.step))
        found = {"loss": float(values.mean()), "grad_norm": float(norm), "lr": lr, "images_per_s": rate}
        found |= {"seconds": now - self.start}
        if config.watch:
            names = by_layer.layers(self.state.params)
            found |= {f"layers/{name}": float(a) for name, a in zip(names, layers, strict=True)}
        for logger in self.loggers:
            logger.add(self.step, found)
        baseline = "" if self.base is None else f", Gaussian {self.base:.4f}"
        self.bar.set_postfix_str(f"loss {values.mean():.4f}{baseline}, {rate:,.0f} images/s", False)
        self.losses, self.last = [], (now, self.step)

    def evaluate(self) -> None:
        """Add a row to eval.csv: the test loss of the parameters and of each average."""
        if not self.writes:
            return
        config, state = self.config, devices.on_host(self.mesh, self.state)
        values = loss_on_test(self.unet, self.schedule, state, self.dataset, config.conditional, predict=config.predict)
        for logger in self.loggers:
            logger.add(self.step, {f"test_loss/{name}": float(v) for name, v in values.items()})

    def save(self, loss: bool = False, pictures: bool = False) -> None:
        """Save a checkpoint; optionally the loss curve, and samples from the average."""
        if not self.writes:
            return
        state = devices.on_host(self.mesh, self.state)
        self.step = int(state.step)
        checkpoint.save(self.folder / "checkpoints", self.step, state, self.about)
        if loss:
            what = "ε-MSE per pixel" if self.config.loss == "simple" else f"loss: {self.config.loss}"
            plot.save_loss(self.folder / "loss.png", tables.read_metrics(self.folder), self.base, what)
        if pictures:
            config, few = self.config, FewStepsCard(**card_of(self.about))
            drawn = sample_grid(self.unet, self.schedule, state.ema, config.seed, config.predict, state.prior, few)
            plot.save_grid(self.folder / f"samples_{self.step:08d}.png", drawn, columns=8)
            if self.config.film:
                save_film(self.folder)

    def diverged(self) -> None:
        """Save the last good state, and raise an error that explains the failed step."""
        self.step = int(self.state.step)
        self.save()
        ids, state = self.feed.ids(self.step), devices.on_host(self.mesh, self.state)
        x, c = self.dataset.x_train[ids], captions.conditions(self.unet, self.dataset)[ids]
        why = diagnose.explain(self.config, self.unet, self.schedule, state, x, c)
        raise Diverged(
            f"the loss or its gradient was not finite after step {self.step}: {why}. The state of that step, the last "
            f"good one, is saved in {self.folder / 'checkpoints'}. Try a smaller --lr (it was {self.config.lr})"
        )
