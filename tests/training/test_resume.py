"""Exact resume, by really killing a process: the resumed run is the run that was never stopped, bit for bit."""

import os
import shutil
import signal
import subprocess
import sys

import child
import numpy as np
import pytest

from ddpm import config
from ddpm.tools import checkpoint
from ddpm.training import loop, run, tables
from ddpm.training.config import TrainConfig

ARGS = {"data": "digits", "preset": "tiny", "steps": 100, "batch": 8, "save_every": 25, "log_every": 5}
ARGS |= {"more_ema": (0.9,), "power_ema": (0.1,), "warmup": 10, "dropout": 0.1}
CONFIG = TrainConfig(name="r", **ARGS)


def start(folder, spoil, *more, env=None):
    """`ddpm train` with these arguments in another process."""
    args = [
        w for k, v in ARGS.items() for w in (f"--{k.replace('_', '-')}", *map(str, v if isinstance(v, tuple) else [v]))
    ]
    import jax

    env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir, **(env or {})}
    root = os.path.dirname(os.path.abspath(child.__file__))
    command = [sys.executable, "-m", "child", spoil, "train", "--name", "r", *args, *more]
    env |= {"PYTHONPATH": root}
    return subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(config.UNETS, "tiny", child.TINY)
    monkeypatch.setattr(loop, "sample_grid", lambda *args: np.zeros((8, 8, 8, 1)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that was never stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config.UNETS, "tiny", child.TINY)
        patch.setattr(loop, "sample_grid", lambda *args: np.zeros((8, 8, 8, 1)))
        return run.train(CONFIG, tmp_path_factory.mktemp("whole"), quiet=True)


def last(folder):
    """The bytes of the last checkpoint: parameters, averages, Adam's moments, step."""
    return (folder / "checkpoints" / "step_00000100.safetensors").read_bytes()


def goes_on(runs, whole, begun=()):
    """The run in `runs` ends as the one that was never stopped; its table too, but for the means of windows `begun`."""
    folder = run.train(CONFIG, runs, quiet=True)
    assert last(folder) == last(whole)
    a, b = tables.read_metrics(folder), tables.read_metrics(whole)
    for column in ("step", "loss", "grad_norm", "lr"):
        kept = ~np.isin(b["step"], begun) if column == "loss" else slice(None)
        np.testing.assert_array_equal(np.array(a[column])[kept], np.array(b[column])[kept])


@pytest.mark.slow
@pytest.mark.parametrize(
    "spoil, at",
    [
        ("step:60", 50),  # between two checkpoints
        ("file:step_00000050.json", 25),  # in a save: the arrays are there, their card is not
    ],
)
def test_100_steps_are_50_and_a_kill_and_the_rest(spoil, at, tmp_path, whole):
    process = start(tmp_path, spoil)
    printed = process.communicate(timeout=600)[0]
    assert process.returncode == -signal.SIGKILL, printed
    assert max(checkpoint.steps(tmp_path / "runs" / "r" / "checkpoints")) == at
    goes_on(tmp_path / "runs", whole)


@pytest.mark.slow
@pytest.mark.parametrize("name, number", [("int", signal.SIGINT), ("term", signal.SIGTERM)])
def test_a_run_that_is_told_to_stop_saves_the_step_it_is_at(name, number, tmp_path, whole):
    """Ctrl-C, or the SIGTERM of a scheduler or a container: not the last checkpoint, at 50, but where it was."""
    process = start(tmp_path, f"{name}:60")
    printed = process.communicate(timeout=600)[0]
    assert process.returncode == 128 + number and "stopped; step 61 is saved" in printed, printed
    assert max(checkpoint.steps(tmp_path / "runs" / "r" / "checkpoints")) == 61
    goes_on(tmp_path / "runs", whole, begun=[65])  # a row is the mean since the one before, or since the start


@pytest.mark.parametrize("place", ["fsync", "replace"])
@pytest.mark.parametrize("suffix", ["safetensors", "json"])
def test_a_kill_anywhere_in_a_save_leaves_the_one_before(place, suffix, tmp_path):
    """Killed before the file is on the disk, or before it has its name."""
    code = f"""
import os, signal
import numpy as np
from ddpm.tools import files as store
store.save("step_00000001", {{"w": np.arange(3.0)}}, {{"step": 1}})
real, writing, open_ = os.{place}, [], open
store.open = lambda path, mode: writing.append(str(path)) or open_(path, mode)
os.{place} = lambda *a: os.kill(os.getpid(), signal.SIGKILL) if ".{suffix}." in writing[-1] else real(*a)
store.save("step_00000002", {{"w": np.arange(3.0) + 1}}, {{"step": 2}})
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path)
    assert process.returncode == -signal.SIGKILL
    state, card = checkpoint.restore(tmp_path, {"w": np.zeros(3)})
    assert card["step"] == 1 and list(state["w"]) == [0, 1, 2]


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def flip(file):
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1
    file.write_bytes(bytes(content))


@pytest.mark.slow
@pytest.mark.parametrize("harm", [cut, flip, lambda file: file.unlink()], ids=["cut", "flipped", "missing"])
def test_a_damaged_last_checkpoint_is_passed_over(harm, tmp_path, whole):
    shutil.copytree(whole, tmp_path / "r")
    harm(tmp_path / "r" / "checkpoints" / "step_00000100.safetensors")
    with pytest.warns(UserWarning, match="step_00000100"):
        goes_on(tmp_path, whole)
