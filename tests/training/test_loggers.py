"""Loggers: each gets the numbers that the tables have; the lines in docs/loggers.md are tried as they stand."""

import dataclasses
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from test_train import BASE, runs  # noqa: F401

from ddpm.training import loggers, run, tables

PAGE = Path(__file__).parents[2] / "docs" / "loggers.md"


class Kept:
    """A logger that keeps what it gets."""

    def __init__(self):
        self.rows = []

    def add(self, step, values):
        self.rows.append({"step": step} | values)


def example(package):
    """The class that the page shows for a package."""
    (code,) = re.findall(rf"```python\n(import {package}\n.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    scope = {}
    exec(compile(code.partition("\ntrain(")[0], package, "exec"), scope)
    return scope["Logger"]


@pytest.mark.slow
def test_a_logger_gets_what_the_tables_have(runs):  # noqa: F811
    mine = Kept()
    config = dataclasses.replace(BASE, steps=2, eval_every=2, watch=True)
    folder = run.train(config, runs, quiet=True, loggers=[mine])
    for name, prefix in loggers.FILES.items():
        table = tables.read_table(folder / f"{name}.csv")
        rows = [r for r in mine.rows if all(prefix + k in r for k in table if k not in ("step", "images"))]
        assert len(rows) == len(table["step"]) == (1 if name == "eval" else 2)
        for k, column in table.items():
            found = [r[k if k == "step" else prefix + k] if k != "images" else 297 for r in rows]
            np.testing.assert_allclose(column, found, rtol=6e-4, atol=0.051 if k in ("seconds", "images_per_s") else 0)


def test_what_is_no_logger_is_refused_before_the_folder_is_made(tmp_path):
    with pytest.raises(ValueError, match=r"loggers\[1\] is 'wandb'; give an object with a method add"):
        run.train(BASE, tmp_path, quiet=True, loggers=[Kept(), "wandb"])
    assert not list(tmp_path.iterdir())


def test_tensorboard_writes_or_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install tensorboardX"):
        run.train(dataclasses.replace(BASE, tensorboard=True), tmp_path / "x", quiet=True)
    assert not (tmp_path / "x").exists()
    pytest.importorskip("tensorboardX", reason="the extra `tensorboard` is not installed")
    board = loggers.Board(tmp_path, 0)
    board.add(1, {"loss": 0.5})
    board.writer.close()
    assert next((tmp_path / "tensorboard").iterdir()).stat().st_size > 50


@pytest.mark.parametrize("package", ["trackio", "wandb"])
def test_the_loggers_of_the_page_log_each_step(package, monkeypatch):
    seen = []

    def begin(**about):
        return types.SimpleNamespace(log=lambda values, step: seen.append((step, values)), about=about)

    monkeypatch.setitem(sys.modules, package, types.SimpleNamespace(init=begin))
    logger = example(package)("photos")
    logger.add(5, {"loss": 0.5})
    logger.add(6, {"loss": 0.25})
    assert seen == [(5, {"loss": 0.5}), (6, {"loss": 0.25})] and logger.run.about == {"project": "photos"}


def test_trackio_keeps_the_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    trackio = pytest.importorskip("trackio", reason="needs trackio (pip install trackio)")
    logger = example("trackio")("photos")
    logger.add(5, {"loss": 0.5})
    logger.add(6, {"loss": 0.25})
    trackio.finish()
    files = [f for f in tmp_path.rglob("*") if f.is_file() and "photos" in f.name]
    assert any(b"loss" in f.read_bytes() for f in files)
