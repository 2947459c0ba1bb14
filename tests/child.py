"""`ddpm train` on a network that compiles in seconds, to be killed by tests: python -m child SPOIL ARGS…

The pictures are left out. SPOIL is what goes wrong: `step:N` kills the process (kill -9) when it reads the images of
step N, `file:NAME` before it writes that file; `int:N` and `term:N` send it SIGINT or SIGTERM when it reads those of
step N, `none` lets it be.
"""

import os
import signal
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")

import numpy as np

from ddpm import config, data
from ddpm.tools import files

TINY = config.UNetConfig(8, 1, channels=8, multipliers=(1,), blocks=1, attention=(), groups=4)
config.UNETS["tiny"] = TINY


AT_A_STEP = {"step": signal.SIGKILL, "int": signal.SIGINT, "term": signal.SIGTERM}


def kill(number=signal.SIGKILL):
    os.kill(os.getpid(), number)


def spoil(what):
    """Put the accident in its place."""
    kind, _, of = what.partition(":")
    ids, write = data.batch_ids, files.write_atomic
    if kind in AT_A_STEP:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it

        def or_not(seed, step, n, batch):
            if step == int(of):
                kill(AT_A_STEP[kind])
            return ids(seed, step, n, batch)

        data.batch_ids = or_not
    if kind == "file":
        files.write_atomic = lambda path, content: kill() if path.name == of else write(path, content)


def no_pictures():
    """Sampling would take longer to compile than the rest."""
    from ddpm.training import loop

    loop.sample_grid = lambda *args: np.zeros((8, 8, 8, 1))


if __name__ == "__main__":
    spoil(sys.argv[1])
    from ddpm.cli import start
    from ddpm.training import devices

    devices.start()
    no_pictures()
    sys.exit(start.main(sys.argv[2:]))
