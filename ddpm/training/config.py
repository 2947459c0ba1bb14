"""Define the options of a training run; they are validated on creation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm.config import DTYPES, GAUSSIANS, LOSSES, TIMES
from ddpm.datasets.reading import short_name
from ddpm.flows.table import FEW_STEPS, GUIDABLE, ON_A_LINE, TAUGHT

LR_SCHEDULES = ("late_cosine", "cosine", "linear", "constant")
PREDICT = ("eps", "x0", "v", "mu", "flow", "edm", "gaussian")
PATHS = ("linear", "trigonometric", "cosine", "vp")  # of `ddpm.flows.paths`
COUPLINGS = ("independent", "transport")
VARIANCES = ("fixed_large", "fixed_small", "learned")
ANY_TIMES = ("meanflow", "guided", "reflow")  # few-step losses whose times may be logit-normal
MOST_POWER = 0.288  # √(1/12): the relative width of the average with equal weights, the widest of its family


@dataclass(frozen=True)
class TrainConfig:
    """The options of a training run; they are written to runs/NAME/config.json."""

    data: str = "fashion_mnist"  # fashion_mnist, cifar10, digits, … (`ddpm info`), or the path of your own images
    preset: str = "cpu"  # the network: cpu, small, … (`ddpm info` has all); or auto, where --minutes is given
    name: str = ""  # the folder runs/NAME; DATA-PRESET if empty
    steps: int = 3000  # training steps in total; a resumed run continues to this number
    batch: int = 64  # images per step
    accumulate: int = 1  # parts of a batch, computed one after the other: the same step with less memory
    lr: float = 1e-3  # Adam's learning rate after the warm-up
    lr_schedule: str = "late_cosine"  # after the warm-up: late_cosine (see decay), cosine, linear (to 0), or constant
    warmup: int = 200  # steps during which the learning rate rises from 0
    decay: float = 0.5  # late_cosine: the last share of the steps, during which the rate falls to 0 along a half cosine
    clip: float = 1.0  # largest norm of the gradient; a longer one is shortened to it
    ema: float = 0.999  # the average of the parameters decays by min(ema, (1+n)/(10+n)); samples come from this one
    more_ema: tuple[float, ...] = ()  # additional averages with these decays
    fixed_ema: tuple[float, ...] = ()  # averages with these decays, without the slow start of min(d, (1+n)/(10+n))
    power_ema: tuple[float, ...] = ()  # averages of these relative widths (e.g. 0.1): Karras et al.'s power profile
    p_uncond: float = 0.1  # share of the labels replaced by the null label, for guidance; ignored without classes
    conditional: bool = True  # give the network the class labels
    schedule: str = "cosine"  # linear, linear_ho or cosine
    path: str = ""  # in place of --schedule, the chain of a flow's path: linear, trigonometric, cosine or vp
    T: int = 1000  # number of noise levels
    times: str = "uniform"  # how often each t is drawn: uniform, logit_normal (as SD3), log_normal (in σ, as EDM)
    coupling: str = "independent"  # which noise of the batch an image gets; transport: a near one, class by class
    # what the network predicts: eps; x0; v; mu (the mean of the reverse step); flow (ε - x0); edm; or gaussian: the
    # difference from the best linear denoiser
    predict: str = "eps"
    # with --predict gaussian, whose denoiser that is: class (each class has one), pooled (each class has means and
    # variances along common directions), one (the same for all classes), or isotropic (one variance)
    gaussian: str = "class"
    gaussian_rank: int = 64  # directions of that Gaussian with a variance of their own; the rest has one
    # LOW HIGH, such as 100 300: from t = HIGH down to LOW that Gaussian fades into one of a single variance, a better
    # start where edges count; 0 0: it does not
    gaussian_fade: tuple[int, int] = (0, 0)
    gaussian_input: bool = True  # the network sees that Gaussian's estimate of x0, as further channels of its input
    # what is minimised: simple (the mean of ‖ε - ε̂‖²); min_snr and p2 (the same with weights over t); mse (the error of
    # what --predict names; flow and edm take it in place of simple); velocity (the error of the velocity of --path);
    # vlb (the variational bound); hybrid (simple, while vlb trains the variance). For models of few steps: meanflow,
    # shortcut, consistency; and with --teacher consistency_distillation, progressive, guided, reflow
    loss: str = "simple"
    teacher: str = ""  # the model that such a loss learns from: shipped weights by name, a folder runs/NAME, or a path
    begin: str = ""  # fine-tuning: the model whose parameters are the first: shipped weights, runs/NAME, or a path
    # the guidance scale inside a model of few steps, which then draws without guidance
    guidance: float = 1.0
    calls: int = 0  # progressive: steps of the new model, half of its teacher's; reflow: steps of the teacher
    # of the steps in vlb and hybrid: fixed_large (β), fixed_small (β̃), or learned by the network
    variance: str = "fixed_large"
    importance: bool = False  # draw t where the loss is large, not evenly (made for vlb)
    flip: bool = False  # mirror half of the images horizontally
    dropout: float = 0.0  # rate in each residual block during training (Ho et al. on CIFAR-10: 0.1)
    # width of the first level. This option and the next five change the preset's network, and fit it to the images
    channels: int | None = None
    multipliers: tuple[int, ...] | None = None  # widths of the levels, as multiples of --channels: 1 2 2
    blocks: int | None = None  # residual blocks of each level
    attention: tuple[int, ...] | None = None  # sizes of the feature maps that have attention; without a number: none
    patch: int | None = None  # patch x patch pixels become the channels of one position: faster, and less exact
    scale_shift: bool | None = None  # time enters as scale and shift of the norms, not as a sum
    minutes: float | None = None  # with --preset auto: the largest network, and the steps, that fit into this time
    dtype: str = "float32"  # of convolutions and matrix products; bfloat16 for a GPU or TPU (parameters stay float32)
    seed: int = 0  # of the parameters, the noise, the times and the order of the data
    devices: int = 0  # devices that share a batch; 0: all available. On a CPU: that many virtual ones, to try it
    steps_per_call: int = 0  # steps in one compiled loop; 0: one on a CPU, up to ten elsewhere
    log_every: int = 50  # steps between rows of metrics.csv
    save_every: int = 500  # steps between checkpoints
    sample_every: int = 1000  # steps between sample grids; 0: only at the end
    eval_every: int = 0  # steps between rows of eval.csv, the loss on test images; 0: never
    snapshot_every: int = 0  # steps between copies of the power_ema averages, to combine afterwards; 0: none
    watch: bool = False  # also write layers.csv: the norm of the gradient in each layer, at each row of metrics.csv
    film: bool = False  # also write film.webp: the sample grids of all steps, from the same noise (see sample_every)
    tensorboard: bool = False  # also write logs for TensorBoard (pip install tensorboardX)
    restart: bool = False  # begin anew at step 0; what runs/NAME holds is kept as runs/NAME.1, or .2, …
    data_dir: str | None = None  # folder of the data; else DDPM_DATA_DIR, else a cache in the home folder

    def __post_init__(self) -> None:
        # ranges of numbers
        for field in ("steps", "batch", "accumulate", "T", "gaussian_rank", "log_every", "save_every"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}; give a whole number >= 1")
        for field in ("warmup", "seed", "devices", "steps_per_call", "sample_every", "eval_every", "snapshot_every"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field} is {getattr(self, field)}; give a whole number >= 0")
        for field in ("lr", "clip"):
            if not 0 < getattr(self, field) < float("inf"):
                raise ValueError(f"{field} is {getattr(self, field)}; give a positive number")
        if (self.preset == "auto") != (self.minutes is not None) or not (
            self.minutes is None or 0 < self.minutes < float("inf")
        ):
            raise ValueError(
                f"preset is {self.preset!r}, minutes is {self.minutes}; give both, such as --preset auto --minutes 10"
            )
        for field in ("ema", "p_uncond", "decay"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field} is {getattr(self, field)}; give a number in [0, 1]")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; give a rate in [0, 1)")
        # decays and widths of the averages
        if not all(0 < d < 1 for d in self.more_ema):
            raise ValueError(f"more_ema is {self.more_ema}; give decays in (0, 1)")
        if not all(0 < d < 1 for d in self.fixed_ema):
            raise ValueError(f"fixed_ema is {self.fixed_ema}; give decays in (0, 1)")
        if not all(0 < s < MOST_POWER for s in self.power_ema):
            raise ValueError(f"power_ema is {self.power_ema}; give relative widths in (0, {MOST_POWER})")
        if self.name and (Path(self.name).is_absolute() or ".." in Path(self.name).parts or not Path(self.name).parts):
            raise ValueError(f"name {self.name!r} is no folder inside runs/; give a name such as {self.data}-2")
        # names
        names = {
            "lr_schedule": LR_SCHEDULES,
            "dtype": DTYPES,
            "predict": PREDICT,
            "gaussian": GAUSSIANS,
            "loss": (*LOSSES, *FEW_STEPS),
            "path": ("", *PATHS),
            "times": TIMES,
            "coupling": COUPLINGS,
        }
        for field, known in (names | {"variance": VARIANCES}).items():
            if getattr(self, field) not in known:
                names_of = ", ".join(filter(None, known))
                raise ValueError(f"{field} {getattr(self, field)!r} is not known. Known: {names_of}")
        self._refuse_exclusive_choices()
        self._refuse_for_few_steps()
        # divisibility of batches and intervals
        if self.batch % self.accumulate:
            raise ValueError(f"batch {self.batch} is not divisible by accumulate {self.accumulate}")
        if self.snapshot_every and not self.power_ema:
            raise ValueError("snapshot_every keeps the averages of power_ema; give some, such as power_ema 0.05 0.1")
        if self.steps_per_call > 1:
            for field in ("steps", *self.EVENTS):
                if getattr(self, field) % self.steps_per_call:
                    raise ValueError(
                        f"{field} {getattr(self, field)} is not divisible by steps_per_call {self.steps_per_call}"
                    )

    def _refuse_exclusive_choices(self) -> None:
        if self.variance == "learned" and self.loss not in ("vlb", "hybrid"):
            raise ValueError(f"variance learned is trained by loss vlb or hybrid only; loss is {self.loss!r}")
        if self.loss == "hybrid" and self.variance != "learned":
            raise ValueError(f"loss hybrid trains a variance; give variance learned (it is {self.variance!r})")
        if self.predict == "gaussian" and (self.variance == "learned" or self.loss == "mse"):
            raise ValueError("predict gaussian is trained by the losses of eps; give loss simple, min_snr or p2")
        low, high = self.gaussian_fade
        fades = self.predict == "gaussian" and self.gaussian != "isotropic"
        if (low, high) != (0, 0) and not (fades and 0 <= low < high <= self.T):
            raise ValueError(
                f"gaussian_fade is {low} {high} with predict {self.predict} and gaussian {self.gaussian}; give two "
                f"times 0 <= LOW < HIGH <= T = {self.T}, such as {self.T // 10} {3 * self.T // 10}, with predict "
                f"gaussian and gaussian class, pooled or one"
            )
        if not self.gaussian_input and self.predict != "gaussian":
            raise ValueError(
                f"gaussian_input is False, but predict {self.predict} has no Gaussian; leave it out or give predict "
                f"gaussian"
            )
        if self.predict in ("flow", "edm") and self.loss == "simple":
            object.__setattr__(self, "loss", "mse")  # their own error is what their papers minimise
        if self.predict == "edm" and self.loss in ("vlb", "hybrid"):
            raise ValueError(f"predict edm is not trained by loss {self.loss}; give mse, min_snr, p2 or velocity")
        if self.path and self.schedule != type(self).schedule:
            raise ValueError(f"path {self.path} and schedule {self.schedule} are two chains; leave one of them out")
        if self.loss == "velocity" and not self.path:
            raise ValueError("loss velocity is the error of a path's velocity; give a path, such as path linear")
        if self.importance and self.times != "uniform":
            raise ValueError(f"importance draws t by its loss, so times cannot be {self.times}; leave one of them out")

    def _refuse_for_few_steps(self) -> None:
        loss, few = self.loss, self.loss in FEW_STEPS
        if loss in ON_A_LINE and (self.predict != "flow" or self.path != "linear"):
            raise ValueError(
                f"loss {loss} trains velocities of the linear path; give predict flow and path linear (they are "
                f"{self.predict} and {self.path or self.schedule!r})"
            )
        if few and self.predict in ("gaussian", "mu"):
            raise ValueError(f"loss {loss} does not train predict {self.predict}; give eps, x0, v, flow or edm")
        if (loss in TAUGHT) != bool(self.teacher):
            raise ValueError(
                f"loss {loss} learns from a teacher; give teacher, such as runs/NAME"
                if loss in TAUGHT
                else f"teacher is {self.teacher!r}, but loss {loss} has none; losses with one: {', '.join(TAUGHT)}"
            )
        if few and self.begin:
            raise ValueError(f"begin is {self.begin!r}, but a model of loss {loss} begins otherwise; leave begin out")
        if not 0 < self.guidance < float("inf") or (self.guidance != 1 and loss not in GUIDABLE):
            raise ValueError(
                f"guidance is {self.guidance} in a training by loss {loss}; give a positive number to one of "
                f"{', '.join(GUIDABLE)}, else leave it at 1"
            )
        if self.guidance != 1 and not (self.conditional and (self.teacher or self.p_uncond > 0)):
            raise ValueError("guidance compares with no class; give conditional, and p_uncond above 0")
        if (self.calls >= 1) != (loss in ("progressive", "reflow")) or self.calls > self.T // 2:
            raise ValueError(
                f"calls is {self.calls} with loss {loss}; progressive and reflow want 1..{self.T // 2}, others none"
            )
        if few and (self.importance or self.eval_every or self.preset == "auto"):
            raise ValueError(f"loss {loss} goes without importance, eval_every and preset auto; leave them out")
        if (few and self.times == "log_normal") or (few and self.times != "uniform" and loss not in ANY_TIMES):
            raise ValueError(f"loss {loss} draws its own times; leave times {self.times} out")

    # The intervals of what happens between two steps.
    EVENTS = ("log_every", "save_every", "sample_every", "eval_every", "snapshot_every")

    # The fields that a resumed run may change; all others must keep their values. (The numbers of devices and of steps
    # per call change only the rounding.)
    FREE = (
        "name",
        "steps",
        "devices",
        "steps_per_call",
        *EVENTS,
        "watch",
        "film",
        "tensorboard",
        "restart",
        "data_dir",
    )

    @property
    def chain(self) -> str:
        """The name of the schedule, or of the path's chain, for `ddpm.flows.paths.make_chain`."""
        return f"{self.path}_path" if self.path else self.schedule

    @property
    def run_name(self) -> str:
        """The name of the folder under runs/; of a data set given by its path, the last part."""
        return self.name or f"{short_name(self.data)}-{self.preset}"

    def command(self, without: tuple[str, ...] = ("name", "restart", "data_dir")) -> str:
        """Return the command `ddpm train …` with all options that differ from their defaults."""
        words = ["ddpm train"]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value == field.default or field.name in without:
                continue
            if isinstance(value, bool):
                words.append(f"--{'' if value else 'no-'}{field.name.replace('_', '-')}")
            else:
                listed = " ".join(map(str, value)) if isinstance(value, tuple) else value
                words.append(f"--{field.name.replace('_', '-')} {listed}")
        return " ".join(words)

    @classmethod
    def saved(cls, fields: dict[str, Any]) -> TrainConfig:
        """Read back the configuration of a run; a field missing from its config.json has its default."""
        names = {f.name for f in dataclasses.fields(cls)}
        known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items() if k in names}
        return cls(**known)
