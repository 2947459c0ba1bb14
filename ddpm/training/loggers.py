"""Where the numbers of a training go: a list of objects with `add(step, {name: value})`.

    train(config, loggers=[mine])        besides the tables of the run, and TensorBoard with `--tensorboard`

Each row of metrics.csv is one call, with `loss, grad_norm, lr, images_per_s, seconds` and, with `--watch`, the norm of
each layer's gradient as `layers/NAME`; each row of eval.csv is one call with `test_loss/params`, `test_loss/ema`, ….
After a resume the steps since the checkpoint come again. docs/loggers.md has loggers for trackio and wandb.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from ddpm.training.tables import Table

FILES = {"metrics": "", "eval": "test_loss/", "layers": "layers/"}  # the prefix of the values of each table
DIGITS = {"grad_norm": ".4g", "lr": ".4g", "images_per_s": ".1f", "seconds": ".1f"}  # the others have six


class Logger(Protocol):
    """Whatever takes the numbers of a training."""

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Take the values of one step by name."""


class Csv:
    """The tables of a run: metrics.csv, and if they have columns, eval.csv and layers.csv."""

    def __init__(self, folder: Path, columns: Mapping[str, Sequence[str]], step: int, images: int):
        self.images = images  # of a test loss
        self.tables = {name: Table(folder / f"{name}.csv", ["step", *of], step) for name, of in columns.items()}
        last = self.tables["metrics"].last
        self.seconds = float(last[-1]) if last else 0.0  # those of the run until now

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Append a row to each table of which there are values."""
        for name, table in self.tables.items():
            columns = table.columns[1:]
            own = {k: f"{values[FILES[name] + k]:{DIGITS.get(k, '.6g')}}" for k in columns if FILES[name] + k in values}
            if own:
                own |= {"images": str(self.images)} if name == "eval" else {}
                table.add([step, *(own[k] for k in columns)])


class Board:
    """Write scalars for TensorBoard, through tensorboardX."""

    def __init__(self, folder: Path, step: int):
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write each value under its name."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()


def check(loggers: Sequence[Logger], board: bool) -> None:
    """Refuse an object without `add`, and TensorBoard where tensorboardX is missing, before the training begins."""
    for i, logger in enumerate(loggers):
        if not callable(getattr(logger, "add", None)):
            raise ValueError(f"loggers[{i}] is {logger!r}; give an object with a method add(step, values)")
    if board and find_spec("tensorboardX") is None:
        raise ValueError("tensorboard wants tensorboardX, which is missing: pip install tensorboardX")
