"""Many devices and many processes: the same training as on one."""

import os
import signal
import socket
import subprocess
import sys
import time

import child
import numpy as np
import pytest
import test_resume

from ddpm import config
from ddpm.tools import checkpoint
from ddpm.training import devices, loop, run, tables
from ddpm.training.config import TrainConfig

WITHIN = 90  # seconds after a process was killed, until the others have stopped (devices.SILENCE, and some)


@pytest.mark.slow
def test_eight_devices_have_the_gradient_of_one():
    """One step of SGD, for Adam would hide a factor; each device's share is also cut into parts."""
    code = """
import jax
jax.config.update("jax_num_cpu_devices", 8)
import numpy as np
from ddpm.training import devices
from ddpm.training import step as train
from ddpm.training.config import TrainConfig
from ddpm.training.feed import Feed
from ddpm.schedule import cosine
from child import TINY
rng = np.random.default_rng(0)
x, c = rng.integers(0, 256, (64, 8, 8, 1)).astype(np.uint8), np.zeros(64, np.int32)
schedule, mesh = cosine(100), devices.make_mesh()
assert mesh.size == 8
config = TrainConfig(batch=16, accumulate=2, flip=True, warmup=0)
train.optimiser = lambda config: train.optax.sgd(1.0)
state = train.init_state(config, TINY)
one = train.make_step(config, TINY).lower(state, schedule, *Feed(0, 16, x, c)(0)).compile()
state8, schedule8 = devices.replicate(mesh, (state, schedule))
feed = Feed(0, 16, x, c, mesh)(0)
assert len(feed[0].sharding.device_set) == 8 and feed[0].addressable_shards[0].data.shape == (2, 8, 8, 1)
eight = train.make_sharded_step(config, TINY, mesh).lower(state8, schedule8, *feed).compile()
new8, m8 = eight(state8, schedule8, *feed)
new, m = one(jax.tree.map(jax.numpy.copy, state), schedule, *Feed(0, 16, x, c)(0))
np.testing.assert_allclose(m.loss, m8.loss, rtol=1e-6)
np.testing.assert_allclose(m.layers, m8.layers, rtol=1e-4, atol=1e-7)
for a, b, before in zip(*map(jax.tree.leaves, (new.params, new8.params, state.params)), strict=True):
    assert b.sharding.is_fully_replicated
    np.testing.assert_allclose(a - before, np.asarray(b) - before, atol=2e-6)
print("equal")
"""
    run_ = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env())
    assert run_.returncode == 0 and "equal" in run_.stdout, run_.stderr


def env(**more):
    import jax

    root = os.path.dirname(os.path.abspath(child.__file__))
    kept = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": root}
    return os.environ | kept | {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir} | more


def free_port():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def slurm(i):
    """What SLURM tells process i of 2. JAX makes the port from the number of the job."""
    return {
        "SLURM_JOB_ID": str(JOB), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2", "SLURM_PROCID": str(i),
        "SLURM_LOCALID": str(i), "SLURM_STEP_NUM_NODES": "1",
    }  # fmt: skip


JOB = np.random.default_rng().integers(2**12)


def by_hand(port):
    """What to set where no launcher is: host and port of process 0, how many there are, and which one this is."""
    address = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2"}
    return lambda i: address | {"JAX_PROCESS_ID": str(i)}


# A constant rate: then the number of steps is no part of the program, and both tests share what is compiled.
CONSTANT = ("--lr-schedule", "constant")


def alone(steps):
    """The same run in a single process."""
    return TrainConfig(name="r", **{**test_resume.ARGS, "steps": steps, "lr_schedule": "constant"})


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(config.UNETS, "tiny", child.TINY)
    monkeypatch.setattr(loop, "sample_grid", lambda *args: np.zeros((8, 8, 8, 1)))


@pytest.mark.slow
def test_two_processes_are_one_and_a_signal_to_one_stops_both_at_one_step(tmp_path, tiny):
    """Under SLURM, over gloo, each in a folder of its own: only number 0 writes. Number 1 gets Ctrl-C at step 20.

    Both then stop after the same step, which is saved, and say no more than that; a single process has the same losses.
    """
    folders = [tmp_path / "0", tmp_path / "1"]
    for folder in folders:
        folder.mkdir()
    more = ("--steps", "1000000", "--save-every", "1000000")
    both = [
        test_resume.start(folders[i], spoil, *CONSTANT, *more, env=env(**slurm(i)))
        for i, spoil in ((0, "none"), (1, "int:20"))
    ]
    printed = [p.communicate(timeout=600)[0] for p in both]
    assert [p.returncode for p in both] == [128 + signal.SIGTERM] * 2, printed
    two = folders[0] / "runs" / "r"
    (step,) = checkpoint.steps(two / "checkpoints")
    assert (
        step > 20 and f"stopped; step {step} is saved" in printed[0] and "Check failure" not in printed[0] + printed[1]
    )
    assert not list(folders[1].iterdir()) and "GFLOP" in printed[0] and "GFLOP" not in printed[1]
    whole = run.train(alone(step), tmp_path / "one", quiet=True)
    a, b = tables.read_metrics(two), tables.read_metrics(whole)
    early = a["step"] <= 25  # rounding grows from step to step
    np.testing.assert_array_equal(a["step"], b["step"][: len(a["step"])])
    np.testing.assert_allclose(a["loss"][early], b["loss"][: len(early)][early], rtol=1e-4)
    # before Adam, which would hide a factor
    np.testing.assert_allclose(a["grad_norm"][early], b["grad_norm"][: len(early)][early], rtol=2e-3)


@pytest.mark.slow
def test_one_process_is_killed_and_the_run_goes_on_alone(tmp_path, tiny):
    """The other one stops with a sentence, in time; its checkpoint at step 25 goes on in a single process."""
    where = by_hand(free_port())
    spoil = ["none", "step:30"]
    both = [test_resume.start(tmp_path, spoil[i], *CONSTANT, env=env(**where(i))) for i in (0, 1)]
    both[1].communicate(timeout=600)
    assert both[1].returncode == -signal.SIGKILL
    since = time.monotonic()
    printed = both[0].communicate(timeout=600)[0]
    assert both[0].returncode not in (0, None) and time.monotonic() - since < WITHIN, printed
    folder = run.train(alone(30), tmp_path / "runs", quiet=True)
    np.testing.assert_array_equal(tables.read_metrics(folder)["step"], [5, 10, 15, 20, 25, 30])
    assert np.isfinite(tables.read_metrics(folder)["loss"]).all()


def test_what_cannot_be_spread_is_refused_before_anything_is_built(tmp_path, tiny):
    base = {**test_resume.ARGS, "name": "r"}
    with pytest.raises(ValueError, match="devices is 8; there is 1 in 1 process"):
        run.train(TrainConfig(**base, devices=8), tmp_path, quiet=True)
    with pytest.raises(ValueError, match=r"batch 8 is not divisible by 3 devices; give a multiple of 3, such as 9"):
        run.check_batch(TrainConfig(**base), 1500, 3)
    with pytest.raises(
        ValueError, match=r"batch 8 is not divisible by 4 devices x accumulate 4; give a multiple of 16"
    ):
        run.check_batch(TrainConfig(**base, accumulate=4), 1500, 4)
    assert not list(tmp_path.iterdir())


def test_half_an_address_is_refused(monkeypatch):
    monkeypatch.setenv("JAX_PROCESS_ID", "1")
    monkeypatch.delenv("JAX_NUM_PROCESSES", raising=False)
    with pytest.raises(ValueError, match="JAX_NUM_PROCESSES is not"):
        devices.start()
