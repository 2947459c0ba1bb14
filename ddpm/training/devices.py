"""Train in parallel on one device or many hosts, over a JAX mesh with one axis, `data`.

    the batch   (B, ...) is split into rows, one part for each device; a process reads and places only its own rows
    the state   is the same on every device
    process 0   is the only one that writes: checkpoints, tables, pictures

`start()` joins the processes. Under SLURM and Open MPI, on GKE and on TPU pods, JAX finds them itself; elsewhere set
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

SILENCE = 60  # seconds without a heartbeat after which a process counts as lost, and the others stop
# Any of these environment variables indicates that this process is one of several.
CLUSTER = {
    "SLURM_NTASKS",
    "OMPI_COMM_WORLD_SIZE",
    "TPU_WORKER_HOSTNAMES",
    "MEGASCALE_COORDINATOR_ADDRESS",
    "JOB_COMPLETION_INDEX",
}


def start(devices: int = 0, silence: int = SILENCE) -> None:
    """Join the other processes of the job, if there are any.

    Call it before any other JAX function; a second call does nothing.
    devices: the number of virtual devices, for a single process on a CPU.
    """
    if jax.distributed.is_initialized():
        return
    # processes named by the environment
    limits: dict[str, Any] = {"heartbeat_timeout_seconds": silence, "shutdown_timeout_seconds": silence}
    if "JAX_PROCESS_ID" in os.environ:
        try:
            count, own = (int(os.environ[name]) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
            address = os.environ["JAX_COORDINATOR_ADDRESS"]
        except KeyError as e:
            raise ValueError(f"JAX_PROCESS_ID is set, but {e.args[0]} is not; set both, or neither") from None
        jax.distributed.initialize(address, count, own, **limits)
    elif not any(os.environ.get(name) == "1" for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")):
        # processes that JAX finds itself
        try:
            jax.distributed.initialize(**limits)
        except ValueError as e:
            if "coordinator_address should be defined" not in str(e):  # else: JAX sees no cluster here
                raise
        except RuntimeError as e:  # JAX is already initialised: too late to join a cluster, harmless without one
            if "must be called before" not in str(e) or CLUSTER & os.environ.keys():
                raise
    # virtual devices of a single process
    if devices > 1 and not jax.distributed.is_initialized():
        jax.config.update("jax_num_cpu_devices", devices)


def lead() -> bool:
    """True in the one process that writes (number 0)."""
    return jax.process_index() == 0


def make_mesh(devices: int = 0) -> Mesh | None:
    """Return the mesh of `devices` devices (0: all, of all processes), or None for one device."""
    there, n = jax.device_count(), devices or jax.device_count()
    if n > there or (jax.process_count() > 1 and n != there):
        have = f"there {'is' if there == 1 else 'are'} {there} in {jax.process_count()} process(es)"
        raise ValueError(f"devices is {n}; {have}; give {there}, or 0 for all of them")
    return Mesh(np.array(jax.devices()[:n]), ("data",)) if n > 1 else None


def rows(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Shard along `axis`, one part for each device."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))


def everywhere(mesh: Mesh) -> NamedSharding:
    """Replicate on every device."""
    return NamedSharding(mesh, PartitionSpec())


def my_rows(batch: int) -> slice:
    """Return the rows of a batch that this process reads, in the order of the processes."""
    share = batch // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def place_rows(mesh: Mesh, own: np.ndarray, axis: int = 0) -> jax.Array:
    """Assemble a global array from each process's `my_rows` along `axis`; no process holds the rows of another."""
    shape = tuple(n * jax.process_count() if i == axis else n for i, n in enumerate(own.shape))
    return jax.make_array_from_process_local_data(rows(mesh, axis), own, shape)


def place_same(mesh: Mesh, a: Any) -> jax.Array:
    """Place an array that every process holds on every device."""
    return jax.make_array_from_process_local_data(everywhere(mesh), np.asarray(a), np.shape(a))


def replicate(mesh: Mesh | None, tree: Any) -> Any:
    """Copy the tree of process 0 to every device of the mesh."""
    if mesh is None:
        return tree
    tree = jax.tree.map(np.asarray, tree)
    if jax.process_count() > 1:
        tree = multihost_utils.broadcast_one_to_all(tree)
    return jax.tree.map(lambda a: place_same(mesh, a), tree)


def own_signals() -> tuple[int, ...]:
    """Return the signals to handle here; with several processes JAX handles SIGTERM, see `asked_to_stop`."""
    return (signal.SIGINT,) if jax.process_count() > 1 else (signal.SIGINT, signal.SIGTERM)


def asked_to_stop(came: list[int], call: int) -> int:
    """Return the signal at which to stop after this call, or 0.

    came: the signals that this process has received (`ddpm.training.signals`)
    call: 1, 2, …, a step of the loop, with the same count in all processes
    With several processes all stop after the same call, with SIGTERM: once a scheduler has sent it to one of them, or
    one has received another signal and passes it on so.
    """
    if jax.process_count() == 1:
        return came[0] if came else 0
    if came:
        os.kill(os.getpid(), signal.SIGTERM)  # JAX takes it, and tells the others
    return int(signal.SIGTERM) if multihost_utils.reached_preemption_sync_point(call) else 0


def on_host(mesh: Mesh | None, tree: Any) -> Any:
    """Return the tree for work of this process alone: off the mesh, if there is one."""
    return tree if mesh is None else jax.device_get(tree)
