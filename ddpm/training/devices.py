"""From one device to many hosts, on JAX's own engine: data parallel over a mesh with one axis, `data`.

    the batch   (B, ...) is cut into rows, one part for each device; a process reads and places the rows of its own
    the state   is the same on every device
    one process (number 0) writes: checkpoints, tables, pictures

`start()` joins the processes. Under SLURM, Open MPI, on GKE and on TPU pods JAX finds them itself; elsewhere set
JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID. The command is the same:

    srun -n 8 ddpm train …          mpirun -n 8 ddpm train …
"""

from __future__ import annotations

import os
import signal
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

SILENCE = 60  # seconds without a sign of life after which a process counts as gone, and the others stop
# Any of these in the environment says that this process is one of several.
CLUSTER = {
    "SLURM_NTASKS",
    "OMPI_COMM_WORLD_SIZE",
    "TPU_WORKER_HOSTNAMES",
    "MEGASCALE_COORDINATOR_ADDRESS",
    "JOB_COMPLETION_INDEX",
}


def start(devices: int = 0, silence: int = SILENCE) -> None:
    """Join the other processes of the job, if there are any. Before anything else of JAX; a second call does nothing.

    devices: on a CPU in a single process, that many virtual ones.
    """
    if jax.distributed.is_initialized():
        return
    limits: dict[str, Any] = {"heartbeat_timeout_seconds": silence, "shutdown_timeout_seconds": silence}
    if "JAX_PROCESS_ID" in os.environ:
        try:
            count, mine = (int(os.environ[name]) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
            address = os.environ["JAX_COORDINATOR_ADDRESS"]
        except KeyError as e:
            raise ValueError(f"JAX_PROCESS_ID is set, but {e.args[0]} is not; set both, or neither") from None
        jax.distributed.initialize(address, count, mine, **limits)
    elif not any(os.environ.get(name) == "1" for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")):
        try:
            jax.distributed.initialize(**limits)
        except ValueError as e:
            if "coordinator_address should be defined" not in str(e):  # else: JAX sees no cluster here
                raise
        except (
            RuntimeError
        ) as e:  # JAX has computed already: too late to join a cluster, and no matter where there is none
            if "must be called before" not in str(e) or CLUSTER & os.environ.keys():
                raise
    if devices > 1 and not jax.distributed.is_initialized():
        jax.config.update("jax_num_cpu_devices", devices)


def lead() -> bool:
    """True in the one process that writes."""
    return jax.process_index() == 0


def make_mesh(devices: int = 0) -> Mesh | None:
    """The mesh of `devices` devices (0: all, of all processes), or None for a single one."""
    there, n = jax.device_count(), devices or jax.device_count()
    if n > there or (jax.process_count() > 1 and n != there):
        have = f"there {'is' if there == 1 else 'are'} {there} in {jax.process_count()} process(es)"
        raise ValueError(f"devices is {n}; {have}; give {there}, or 0 for all of them")
    return Mesh(np.array(jax.devices()[:n]), ("data",)) if n > 1 else None


def rows(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Cut along `axis`, one part for each device."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))


def everywhere(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def my_rows(batch: int) -> slice:
    """Which rows of a batch this process reads: its share, in the order of the processes."""
    share = batch // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def place_rows(mesh: Mesh, mine: np.ndarray, axis: int = 0) -> jax.Array:
    """The global array whose `my_rows` along `axis` are `mine`: no process holds the rows of another."""
    shape = tuple(n * jax.process_count() if i == axis else n for i, n in enumerate(mine.shape))
    return jax.make_array_from_process_local_data(rows(mesh, axis), mine, shape)


def place_same(mesh: Mesh, a: Any) -> jax.Array:
    """An array that every process has, on every device."""
    return jax.make_array_from_process_local_data(everywhere(mesh), np.asarray(a), np.shape(a))


def replicate(mesh: Mesh | None, tree: Any) -> Any:
    """The tree of process 0, on every device of the mesh."""
    if mesh is None:
        return tree
    tree = jax.tree.map(np.asarray, tree)
    if jax.process_count() > 1:
        tree = multihost_utils.broadcast_one_to_all(tree)
    return jax.tree.map(lambda a: place_same(mesh, a), tree)


def own_signals() -> tuple[int, ...]:
    """The signals that stop a process alone. With several processes JAX listens for SIGTERM, and `preempted` has it."""
    return (signal.SIGINT,) if jax.process_count() > 1 else (signal.SIGINT, signal.SIGTERM)


def preempted(call: int) -> int:
    """SIGTERM once a scheduler has sent it to any process of the job, in all of them after the same call; else 0.

    call: 1, 2, … a step of the loop, counted alike everywhere. (A single process has no need of it: `ddpm.stop`.)
    """
    several = jax.process_count() > 1
    return int(signal.SIGTERM) if several and multihost_utils.reached_preemption_sync_point(call) else 0


def on_host(mesh: Mesh | None, tree: Any) -> Any:
    """The tree for work that this process does alone: off the mesh, where there is one."""
    return tree if mesh is None else jax.device_get(tree)
