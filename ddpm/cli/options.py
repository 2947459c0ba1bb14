"""The options of every command, as frozen dataclasses; reading them does not import JAX."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ddpm.classifiers.recipes import ClassifierTrainConfig, default_recipe
from ddpm.cli.generator_options import GeneratorCommand
from ddpm.cli.own import NONE, Own
from ddpm.cli.theirs import Certificate, Doctor
from ddpm.datasets.reading import short_name
from ddpm.samplers import table
from ddpm.training.config import TrainConfig

SAMPLER = (
    f"the step from noise to less noise; N steps are N network calls. {table.words(table.SAMPLERS)}. Empty: that of "
    f"the model's card, if it names one, for more than {table.FEW} steps; up to so many ddim, or where searched times "
    f"are worse, as on cifar10 beyond 2 steps, dpm_2m"
)
TIMES = (
    f"the list of times that is visited. {table.words(table.TIMES)}. Empty: that of an imported model; searched for up "
    f"to {table.FEW} steps of ddim, or as many as the card says, where it has the covariance (even ones: --times "
    f"trailing); else trailing"
)


@dataclass(frozen=True)
class Train(TrainConfig):
    """Train a denoiser, or resume a run."""

    config: Path | None = None  # begin with the options of a run's config.json; options given as well override them
    like: str = ""  # take the options (not the parameters: --begin) of a model: shipped weights, runs/NAME, or a path
    own: Own = NONE

    def kept(self) -> TrainConfig:
        """Return the options that a run keeps."""
        return TrainConfig(**{f.name: getattr(self, f.name) for f in dataclasses.fields(TrainConfig)})


@dataclass(frozen=True)
class ClassifierCommand:
    """Train a classifier of a data set. Omitted options follow the recipe of that data set. Resumable.

    Example: ddpm classifier --data fashion_mnist --schedule cosine
    """

    data: str = "fashion_mnist"  # fashion_mnist, cifar10 or digits, or the path of your own images
    schedule: str = ""  # train p(c | x_t, t) on this noise schedule; empty: clean images
    epochs: int | None = None  # passes over the training images; the recipes have 12, 4 (cifar10) or 20 (your own)
    batch: int | None = None  # images per step
    lr: float | None = None  # highest rate of the one-cycle schedule
    momentum: float | None = None  # Nesterov's momentum; with --schedule Adam's β1
    weight_decay: float | None = None  # weight decay, of the kernels only
    smoothing: float | None = None  # label smoothing: this share of each label goes to all classes
    shift: int | None = None  # each image is moved by up to this many pixels in both directions
    flip: bool | None = None  # mirror half of the images, left and right
    erase: int | None = None  # side of the square that is set to mid grey at a random place, pixels; 0: none
    ema: float | None = None  # decay of the average of the parameters, which is what is kept
    muon: float | None = None  # highest rate of Muon for the convolutions; 0: all by SGD
    seed: int = 0  # of the parameters, the order of the data and its augmentation
    validate: int = 0  # leave out this many training images, the last ones, and measure on them; nothing is written
    note: str = ""  # a further remark for the card
    out: Path | None = None  # the folder of the run; runs/DATA_classifier or runs/DATA_noisy_classifier if not given
    ship: bool = False  # also put weights and card into the package's own folder of weights
    data_dir: str | None = None  # where the data are; else DDPM_DATA_DIR
    own: Own = NONE

    @property
    def name(self) -> str:
        """The name under which the classifier ships."""
        return f"{short_name(self.data)}{'_noisy' if self.schedule else ''}_classifier"


def recipe_of(command: ClassifierCommand) -> ClassifierTrainConfig:
    """Return the recipe with the changes of the command."""
    fields = {f.name for f in dataclasses.fields(ClassifierTrainConfig)}
    given = {k: v for k, v in vars(command).items() if k in fields and v is not None}
    return dataclasses.replace(default_recipe(command.data, command.schedule), **given)


@dataclass(frozen=True)
class Sample:
    """Draw images with a trained model: a grid as PNG.

    Example: ddpm sample --label "Ankle boot" --n 20 --guidance 3
    """

    model: str = "fashion_mnist"  # shipped weights by name (see `ddpm info`), a folder runs/NAME, or a path
    label: str = "all"  # a class by name or number; "all" draws n of each, one row per class; "none": no class
    prompt: str | None = None  # what to draw in words, for a model that was trained with captions (--data wardrobe)
    n: int = 10  # number of images (of each class)
    sampler: Annotated[str, tyro.conf.arg(help=SAMPLER)] = ""
    steps: int | None = None  # N, 1..T; 50, or T if that is less
    # scale s of classifier-free guidance: 0 is no class, 1 the class, above 1 nearer to the class and less varied. If
    # not given: the value in the model's card, else 2
    guidance: float | None = None
    # use the network at every t, even where the card leaves the highest noise to a Gaussian; the card's other settings
    # for drawing are then ignored too, so the guidance is 2 unless it is given
    plain: bool = False
    times: Annotated[str, tyro.conf.arg(help=TIMES, aliases=["--rule"])] = ""
    seed: int = 0  # of the initial noise
    out: Path = Path("out/samples.png")  # the picture
    npz: Path | None = None  # also write the images as uint8 arr_0 and the labels as arr_1
    film: tuple[Path, ...] = ()  # also films of up to ten images: NAME.webp, .gif, .png (a strip), .npz (all numbers)
    # more in the film: guidance (what the class changes in ε̂), typicality (the map T(x|c) of the image)
    film_with: tuple[Literal["guidance", "typicality"], ...] = ()


@dataclass(frozen=True)
class Typicality:
    """Measure what makes images look like their class: T(x|c), its standard error, and its map.

    Example: ddpm typicality --data fashion_mnist --label Dress --n 200
    """

    model: str = "fashion_mnist"  # shipped weights by name, a folder runs/NAME, or a path
    data: str = "generated"  # test images of fashion_mnist, …, or of your own; "generated": drawn by the model itself
    label: str = "all"  # a class by name or number, or "all"
    n: int = 20  # images of each class
    draws: int = 100  # pairs (t, ε) for each image
    t_range: tuple[float, float] = (0.1, 0.7)  # shares of T between which t is drawn
    steps: int | None = None  # network calls for each generated image; 50, or T if that is less
    seed: int = 0  # of the draws (and of the generated images)
    out: Path = Path("out/typicality.png")  # the picture; the numbers are written next to it as .csv
    data_dir: str | None = None  # where the data are; else DDPM_DATA_DIR
    own: Own = NONE


@dataclass(frozen=True)
class Mine:
    """Find what makes a class look like itself: its most typical patches, clustered, with p-values. Resumable.

    Example: ddpm mine --data fashion_mnist --label "Ankle boot" --n 1000
             ddpm mine --data blocks --label Amra        shapes in three dimensions; their page turns them
    """

    label: str  # a class by name or number
    model: str = ""  # shipped weights by name, a folder runs/NAME, or a path; if not given, those named like the data
    data: str = "generated"  # fashion_mnist, cities, …, or your own images; "generated": drawn by the model itself
    split: Literal["test", "train"] = "test"  # of the data
    n: int = 300  # images of the label
    others: int = 100  # images of other labels, for the null; 0: none
    draws: int = 100  # pairs (t, ε) for each image
    t_range: tuple[float, float] = (0.1, 0.7)  # shares of T between which t is drawn
    patch: int = 6  # side in pixels; 6 suits images of 28 pixels, 8 of 32
    per_image: int = 5  # patches per image, which do not touch
    top: int = 1000  # how many patches are clustered, the most typical of all images
    clusters: int = 16  # k of k-means
    steps: int | None = None  # network calls for each generated image; 50, or T if that is less
    layer: str = ""  # of the U-Net, whose features describe the patches; empty: up.1 (with one level: up.0.0)
    seed: int = 0  # of the draws (and of the generated images)
    out: Path | None = None  # the folder; out/mine/DATA-LABEL if not given. The same command resumes there
    data_dir: str | None = None  # where the data are; else DDPM_DATA_DIR
    own: Own = NONE


@dataclass(frozen=True)
class Evaluate:
    """Measure a model: ε-MSE, accuracy of samples, Fréchet distance, each next to its baseline or floor.

    Example: ddpm evaluate --model fashion_mnist --n 2000
    """

    model: str = "fashion_mnist"  # shipped weights by name, a folder runs/NAME, or a path
    samples: Path | None = None  # score these images instead of a model: an .npz with arr_0 (arr_1), or a folder of PNG
    data: str = "fashion_mnist"  # the data set to compare with: a name (see `ddpm info`), or your own images
    classifier: str = ""  # the classifier that gives labels and features; DATA_classifier if empty
    n: int = 2000  # images to draw
    sampler: Annotated[str, tyro.conf.arg(help=SAMPLER)] = ""
    steps: int | None = None  # N, 1..T; 50, or T if that is less
    guidance: float | None = None  # scale s of classifier-free guidance; if not given, the card's value, else 2
    # use the network at every t, even where the card leaves the highest noise to a Gaussian; the card's other settings
    # for drawing are then ignored too, so the guidance is 2 unless it is given
    plain: bool = False
    times: Annotated[str, tyro.conf.arg(help=TIMES, aliases=["--rule"])] = ""
    seed: int = 0  # of the samples
    n_bound: int = 500  # test images whose bits/dim are measured by the variational bound; 0: none
    n_flow: int = 100  # and by the probability-flow ODE
    inception: bool = False  # also Inception FID and KID; this needs torch-fidelity, and weights from the internet
    cache: bool = True  # keep images and numbers under the hash of weights, data, settings and code
    certificate: Path | None = None  # of --samples: NAME.json or NAME.html, for `ddpm certificate verify`
    out: Path = Path("out/evaluate.json")  # all numbers and their settings; the pictures are written next to it
    data_dir: str | None = None  # where the data are; else DDPM_DATA_DIR
    own: Own = NONE


@dataclass(frozen=True)
class Compare:
    """Compare the loss of a training with a reference run, in words and as a picture.

    Losses are compared at the same step. Where there is no reference for the data and preset, the loss is compared with
    the exact one of a Gaussian, and with itself a little earlier.

    Example: ddpm compare runs/fashion_mnist-cpu
    """

    run: tyro.conf.Positional[Path]  # a folder runs/NAME, or a metrics.csv
    reference: str = ""  # a reference by name (see `ddpm info`); the one of the same data and preset if empty
    out: Path = Path("out/compare.png")  # the picture


@dataclass(frozen=True)
class Import:
    """Import the weights of a diffusers UNet2DModel, from a folder or from the Hugging Face hub.

    Example: ddpm import google/ddpm-cifar10-32
    """

    source: tyro.conf.Positional[str]  # a folder with config.json and .safetensors, or owner/name on the hub
    out: Path = Path("out")  # the folder for NAME.safetensors and its card NAME.json
    name: str = ""  # NAME of the two files; the last part of the source if empty
    schedule: str = ""  # linear_ho, linear or cosine: needed where the source has no scheduler_config.json
    T: int = 1000  # number of noise levels, in that case
    null_label: str = ""  # "last": the last row of the class table means "no class"; empty: each row is a class
    size: int = 0  # side of the images in pixels, where the source's config.json leaves it open


@dataclass(frozen=True)
class Export:
    """Write a model as a folder that diffusers' UNet2DModel and DDPMPipeline read, as an ONNX graph, or a page.

    Examples: ddpm export fashion_mnist --to out/for_diffusers; the same with --to onnx, or with --to page
    """

    model: tyro.conf.Positional[str]  # shipped weights by name, a folder runs/NAME, or a path
    to: Path  # a new folder, for diffusers; onnx or NAME.onnx; page or NAME.html, a page that draws


@dataclass(frozen=True)
class Info:
    """Show versions, shipped weights with their numbers, data sets found, presets and runs; or a data set.

    Example: ddpm info --data photos --size 32
    """

    devices: bool = False  # also ask JAX for its devices (takes a second)
    data: str = ""  # show this data set instead: its images and classes, what was left out, and its exact baseline
    data_dir: str | None = None  # where the data are; else DDPM_DATA_DIR
    own: Own = NONE


@dataclass(frozen=True)
class Demo:
    """Show everything in one to two minutes: garments, samplers, typicality, and a short training.

    The training beats an exact baseline.
    """

    out: Path = Path("out/demo")  # where the pictures go
    steps: int = 400  # of the training on digits


@dataclass(frozen=True)
class Course:
    """Lessons with exercises that check themselves: `ddpm course --help`."""


@dataclass(frozen=True)
class Challenge:
    """Few calls: of an exact denoiser, or of a network trained in ten minutes: `ddpm challenge --help`."""


OTHERS = (
    Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Typicality, tyro.conf.subcommand("typicality")]
    | Annotated[Mine, tyro.conf.subcommand("mine")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[ClassifierCommand, tyro.conf.subcommand("classifier")]
    | Annotated[GeneratorCommand, tyro.conf.subcommand("generator")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Import, tyro.conf.subcommand("import")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
    | Annotated[Certificate, tyro.conf.subcommand("certificate")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Course, tyro.conf.subcommand("course")]
    | Annotated[Challenge, tyro.conf.subcommand("challenge")]
)


def commands(train: Train = Train()) -> Any:
    """Return the union of all commands, for tyro; train: the defaults of `ddpm train`."""
    about = tyro.conf.subcommand("train", default=train, description="Train a denoiser, or resume a run.")
    return Annotated[Train, about] | OTHERS
