"""The command `ddpm`: train, sample, typicality, evaluate, compare, import, export, doctor, certificate, info, demo.

Each command is a frozen dataclass; tyro turns its fields and their comments into options and help. JAX is imported only
when a command needs it, so that `ddpm --help` and `ddpm info` answer at once.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys

import tyro

from ddpm.cli.options import Train, commands
from ddpm.cli.own import folded
from ddpm.tools.terminal import exit_status, replace_unknown_characters
from ddpm.tools.xla import programs_folder

# The function that runs a command, by the class of its options; its module is imported only then.
RUN = {
    "Train": "ddpm.cli.train:run",
    "Sample": "ddpm.cli.sample:run",
    "Typicality": "ddpm.cli.typicality:run",
    "Mine": "ddpm.cli.mine:run",
    "Evaluate": "ddpm.cli.evaluate:run",
    "ClassifierCommand": "ddpm.cli.classifier:run",
    "GeneratorCommand": "ddpm.cli.generator:run",
    "Compare": "ddpm.cli.compare:run",
    "Import": "ddpm.cli.weights:import_",
    "Export": "ddpm.cli.weights:export_",
    "Doctor": "ddpm.cli.doctor:run",
    "Certificate": "ddpm.cli.certificate:run",
    "Info": "ddpm.cli.info:run",
    "Demo": "ddpm.cli.demo:run",
}

# The commands that allocate much.
HEAVY = ("train", "sample", "typicality", "mine", "evaluate", "classifier", "generator", "demo")


def main(args: list[str] | None = None) -> int:
    """Run one command; an error becomes one sentence and exit status 2 (or 1, see `exit_status`)."""
    import ddpm

    args = sys.argv[1:] if args is None else args
    if args[:1] == ["course"]:
        from ddpm.course import cli as course

        return course.main(args[1:])
    if args[:1] == ["challenge"]:
        from ddpm.course import challenge

        return challenge.main(args[1:])
    # Parsing; a training may begin with the options of an earlier one
    train = Train()
    try:
        if args[:1] == ["train"]:
            from ddpm.cli.earlier import defaults

            train = defaults(args)
    except (OSError, ValueError) as e:
        return exit_status(e)
    command = tyro.cli(
        commands(train),
        prog="ddpm",
        description=f"Diffusion models from scratch in JAX, version {ddpm.__version__}. More: `ddpm COMMAND --help`.",
        args=args,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    # The command; an error becomes one sentence
    try:
        run(command)
    except BrokenPipeError:
        raise
    except Exception as e:
        return exit_status(e)
    except KeyboardInterrupt as e:
        return 128 + getattr(e, "number", signal.SIGINT)
    return 0


def entry() -> int:
    """Run `main` as the console command, in a process with huge memory pages."""
    replace_unknown_characters()
    if len(sys.argv) > 1 and sys.argv[1] in HEAVY:
        ask_for_huge_pages()
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader closed the pipe: `ddpm info | head -3`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status


# glibc's malloc: huge pages, and freed memory stays with the process.
MALLOC = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=68719476736:glibc.malloc.arena_max=1"
)


def ask_for_huge_pages() -> None:
    """Restart with other malloc settings on Linux, unless GLIBC_TUNABLES is set already.

    A training step frees and allocates some 200 MB of temporary arrays. In pages of 4 KB that is 54,000 page faults per
    step, a quarter of the time of the `cpu` preset; in huge pages 600. Pages that are given back, as a virtual machine
    gives them to its host, must be fetched and cleared again, which takes up to a second. So they are kept.
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = MALLOC
        with contextlib.suppress(OSError):  # without huge pages it is slower, and right
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def run(command: object) -> None:
    """Run one parsed command."""
    if not 0 <= (seed := getattr(command, "seed", 0)) < 2**32:  # JAX drops the higher bits: 2³² would be 0
        raise ValueError(f"seed is {seed}; give a whole number in 0..{2**32 - 1}")
    command = folded(command)
    module, _, function = RUN[type(command).__name__].partition(":")
    if module != "ddpm.cli.info":
        use_compile_cache()
    getattr(importlib.import_module(module), function)(command)


def use_compile_cache() -> None:
    """Keep compiled programs between runs, in JAX_COMPILATION_CACHE_DIR or ~/.cache/ddpm/jax, where there is a home."""
    import jax

    folder = programs_folder()
    if folder is None:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
