"""The command `ddpm`: train, sample, typicality, evaluate, compare, import, export, info, demo.

Each command is a frozen dataclass; tyro turns its fields and their comments into options and help. JAX is imported only
when a command needs it, so that `ddpm --help` and `ddpm info` answer at once.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ddpm.classifier_config import ClassifierCommand
from ddpm.config import TrainConfig


@dataclass(frozen=True)
class Sample:
    """Draw images with a trained model: a grid as PNG.

    Example: ddpm sample --label "Ankle boot" --n 20 --guidance 3
    """

    model: str = "fashion_mnist"  # shipped weights by name (see `ddpm info`), a folder runs/NAME, or a path
    label: str = "all"  # a class by name or number; "all" draws n of each, a row a class; "none" leaves the class open
    n: int = 10  # images (of each class)
    sampler: str = "ddim"  # ddim: deterministic; ddpm: ancestral with variance β̃; ddpm_large: with β
    steps: int = 50  # network calls, 1..T; ddpm looks best with all T
    guidance: float = 2.0  # scale s: 1 = conditional, 0 = unconditional, above 1 = closer to the class
    rule: str = "trailing"  # which times are visited: trailing, leading, linspace or quad
    seed: int = 0  # of the initial noise
    out: Path = Path("out/samples.png")  # the picture
    npz: Path | None = None  # also write the images as uint8 arr_0 and the labels as arr_1


@dataclass(frozen=True)
class Typicality:
    """Measure what makes images look like their class: T(x|c), with its standard error, and where in the image.

    Example: ddpm typicality --data fashion_mnist --label Dress --n 200
    """

    model: str = "fashion_mnist"  # shipped weights by name, a folder runs/NAME, or a path
    data: str = "generated"  # test images of fashion_mnist, cifar10 or digits; "generated": drawn by the model itself
    label: str = "all"  # a class by name or number, or "all"
    n: int = 20  # images of each class
    draws: int = 100  # pairs (t, ε) for each image
    t_range: tuple[float, float] = (0.1, 0.7)  # shares of T between which t is drawn
    seed: int = 0  # of the draws (and of the generated images)
    out: Path = Path("out/typicality.png")  # the picture; the numbers go beside it as .csv
    data_dir: str | None = None  # where the data are; else DDPM_DATA_DIR


@dataclass(frozen=True)
class Mine:
    """Find what makes a class look like itself: its most typical patches, clustered, with p-values. Resumable.

    Example: ddpm mine --data fashion_mnist --label "Ankle boot" --n 1000
    """

    label: str  # a class by name or number
    model: str = "fashion_mnist"  # shipped weights by name, a folder runs/NAME, or a path
    data: str = "generated"  # fashion_mnist, cifar10, digits or cities; "generated": drawn by the model itself
    split: Literal["test", "train"] = "test"  # of the data
    n: int = 300  # images of the label
    others: int = 100  # images of other labels, for the null; 0: none
    draws: int = 100  # pairs (t, ε) for each image
    t_range: tuple[float, float] = (0.1, 0.7)  # shares of T between which t is drawn
    patch: int = 6  # side in pixels; 6 suits images of 28 pixels, 8 of 32
    per_image: int = 5  # patches of an image, that do not touch
    top: int = 1000  # patches that are clustered, the most typical of all
    clusters: int = 16  # k of k-means
    layer: str = ""  # of the U-Net, whose features describe the patches; up.1 (of a network with one level up.0.0)
    seed: int = 0  # of the draws (and of the generated images)
    out: Path | None = None  # the folder; out/mine/DATA-LABEL if not given. The same command goes on there
    data_dir: str | None = None  # where the data are; else DDPM_DATA_DIR


@dataclass(frozen=True)
class Evaluate:
    """Measure a model: ε-MSE, accuracy of conditional samples, Fréchet distance, each beside its baseline or floor.

    Example: ddpm evaluate --model fashion_mnist --n 2000
    """

    model: str = "fashion_mnist"  # shipped weights by name, a folder runs/NAME, or a path
    samples: Path | None = None  # score these images instead of a model: an .npz with arr_0 (arr_1), or a folder of PNG
    data: str = "fashion_mnist"  # the data set to compare with
    classifier: str = ""  # the classifier that gives labels and features; DATA_classifier if empty
    n: int = 2000  # images to draw
    sampler: str = "ddim"  # ddim, ddpm or ddpm_large
    steps: int = 50  # network calls an image
    guidance: float = 2.0  # scale s
    seed: int = 0  # of the samples
    n_bound: int = 500  # test images whose bits/dim are measured by the variational bound; 0: none
    n_flow: int = 100  # and by the probability-flow ODE
    inception: bool = False  # also Inception FID and KID: wants torch-fidelity, and weights from the internet
    cache: bool = True  # keep images and numbers under the hash of weights, data, settings and code
    out: Path = Path("out/evaluate.json")  # all numbers, with how they were made; the pictures go beside it
    data_dir: str | None = None  # where the data are; else DDPM_DATA_DIR


@dataclass(frozen=True)
class Compare:
    """Is a training going well? Its loss beside a reference run's at the same step, in words and as a picture.

    Example: ddpm compare runs/fashion_mnist-cpu
    """

    run: tyro.conf.Positional[Path]  # a folder runs/NAME, or a metrics.csv
    reference: str = ""  # a reference by name (see `ddpm info`); the one of the same data and preset if empty
    out: Path = Path("out/compare.png")  # the picture


@dataclass(frozen=True)
class Import:
    """Take in the weights of a diffusers UNet2DModel, from a folder or from the Hugging Face hub.

    Example: ddpm import google/ddpm-cifar10-32
    """

    source: tyro.conf.Positional[str]  # a folder with config.json and .safetensors, or owner/name on the hub
    out: Path = Path("out")  # the folder that NAME.safetensors and its card NAME.json go to
    name: str = ""  # NAME; the last part of the source if empty
    schedule: str = ""  # where the source has no scheduler_config.json: linear_ho, linear or cosine
    T: int = 1000  # its noise levels, in that case
    null_label: str = ""  # "last": the last row of its class table means "no class"


@dataclass(frozen=True)
class Export:
    """Write a model as a folder that diffusers' UNet2DModel.from_pretrained and DDPMPipeline.from_pretrained read.

    Example: ddpm export fashion_mnist --to out/for_diffusers
    """

    model: tyro.conf.Positional[str]  # shipped weights by name, a folder runs/NAME, or a path
    to: Path  # a new folder


@dataclass(frozen=True)
class Info:
    """What is here: versions, shipped weights with their numbers, data sets found, presets, runs."""

    devices: bool = False  # also ask JAX for its devices (takes a second)


@dataclass(frozen=True)
class Demo:
    """Everything in three minutes: garments, samplers, typicality, and a training that beats an exact baseline."""

    out: Path = Path("out/demo")  # where the pictures go
    steps: int = 1000  # of the training on digits


@dataclass(frozen=True)
class Course:
    """Lessons with exercises that check themselves: `ddpm course --help`."""


COMMANDS = (
    Annotated[TrainConfig, tyro.conf.subcommand("train", description="Train a denoiser, or go on with a run.")]
    | Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Typicality, tyro.conf.subcommand("typicality")]
    | Annotated[Mine, tyro.conf.subcommand("mine")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[ClassifierCommand, tyro.conf.subcommand("classifier")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Import, tyro.conf.subcommand("import")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Course, tyro.conf.subcommand("course")]
)


def main(args: list[str] | None = None) -> int:
    """Run one command; a ValueError becomes one line and exit status 2."""
    import ddpm

    args = sys.argv[1:] if args is None else args
    if args[:1] == ["course"]:
        from ddpm.course import cli as course

        return course.main(args[1:])
    command = tyro.cli(
        COMMANDS,
        prog="ddpm",
        description=f"Diffusion models from scratch in JAX, version {ddpm.__version__}. More: `ddpm COMMAND --help`.",
        args=args,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    try:
        run(command)
    except BrokenPipeError:
        raise
    except (ValueError, FileNotFoundError, OSError, RuntimeError) as e:
        if os.environ.get("DDPM_TRACEBACK"):
            raise
        print(f"ddpm: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as e:
        return 128 + getattr(e, "number", signal.SIGINT)
    return 0


def entry() -> int:
    """The console command: `main` in a process whose memory comes in huge pages."""
    if len(sys.argv) > 1 and sys.argv[1] in ("train", "sample", "typicality", "mine", "evaluate", "classifier", "demo"):
        ask_for_huge_pages()
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough: `ddpm info | head -3`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status


# glibc's malloc: huge pages, and freed memory stays with the process.
MALLOC = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=68719476736:glibc.malloc.arena_max=1"
)


def ask_for_huge_pages() -> None:
    """On Linux start again with another malloc, unless GLIBC_TUNABLES says something already.

    A training step frees and takes some 200 MB of temporary arrays. In pages of 4 KB that is 54,000 page faults a step,
    a quarter of the time of the `cpu` preset; in huge pages 600. Where freed pages are given back, as a virtual machine
    gives them to its host, they must be fetched and cleared again: up to a second. So they are kept.
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = MALLOC
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def run(command: object) -> None:
    """Carry out one parsed command."""
    if isinstance(command, Info):
        from ddpm import info

        return info.show(command.devices)
    use_compile_cache()
    if isinstance(command, TrainConfig):
        from ddpm import distributed

        distributed.start(command.devices)  # before anything else of JAX
        from ddpm import run as run_

        run_.train(command)
    else:
        from ddpm import commands

        commands.RUN[type(command).__name__](command)


def use_compile_cache() -> None:
    """Keep compiled programs between runs, in JAX_COMPILATION_CACHE_DIR or ~/.cache/ddpm/jax."""
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(Path.home() / ".cache" / "ddpm" / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


if __name__ == "__main__":
    sys.exit(entry())
