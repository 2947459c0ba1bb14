"""Load and save trained models: parameters, schedule, class names and card.

model = load("fashion_mnist")          shipped weights by name
model = load("runs/fashion_mnist-cpu") the averaged weights of a run's newest checkpoint
model.eps                              the denoiser, for all samplers and guides
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddpm.config import UNetConfig
from ddpm.contracts import Eps, Partial
from ddpm.flows import own_sampling
from ddpm.flows.own_sampling import FewStepsCard
from ddpm.flows.paths import make_chain
from ddpm.guide import clip_x0
from ddpm.guides.rules import dynamic_threshold, gaussian_above
from ddpm.losses.objectives import denoiser
from ddpm.networks.dit import eps_fn
from ddpm.networks.inspect import param_shapes
from ddpm.networks.numbers import at_number
from ddpm.networks.skip import Prior
from ddpm.oracles.spectrum import Axes
from ddpm.sample import Sampling, ddpm_step
from ddpm.samplers import best_times, table
from ddpm.samplers.names import RULES, STEPS
from ddpm.samplers.respacing import zero_terminal_snr
from ddpm.samplers.variance import learned, v_half
from ddpm.schedule import Schedule, from_beta
from ddpm.tools import check, checkpoint, files, schema
from ddpm.tools.partials import affine
from ddpm.training.gaussian_baseline import FILE
from ddpm.zoo import cards, priors
from ddpm.zoo.cards import DrawingCard, SamplingCard, ScheduleCard
from ddpm.zoo.offset import OffsetSampling


@dataclass(frozen=True)
class Model:
    """A denoiser with everything needed to use it."""

    name: str
    unet: UNetConfig
    params: dict
    schedule: Schedule
    classes: tuple[str, ...]
    card: dict
    prior: Prior | None = None  # the Gaussian that the network continues, where it predicts `gaussian`

    @property
    def eps(self) -> Eps:
        """ε̂(x_t, t, c), t = 1…T; above the card's `gaussian_above`, that of the Gaussian"""
        eps = self.told(0.0) if self.few.told else self._denoiser(self.net)
        if self.prior and self.drawing.gaussian_above:
            eps = gaussian_above(eps, self.prior.gaussian.eps(self.schedule), self.drawing.gaussian_above)
        return Partial(_within, eps=eps, schedule=self.schedule)

    def told(self, h: float) -> Eps:
        """ε̂ of a network that is told a number, at that number: of a few-step model, a jump or a scale."""
        return self._denoiser(at_number(self.net, h))

    def _denoiser(self, net: Eps) -> Eps:
        learned, sees = self.unet.learned_variance, self.unet.extra_channels > 0
        return denoiser(net, learned, self.schedule, self.predict, self.prior, sees)

    @property
    def few(self) -> FewStepsCard:
        """How the model draws if it is one of few steps; its `loss` is empty if it is not."""
        return schema.read(FewStepsCard, own_sampling.card_of(self.card), f"{self.name}: few_steps", cards.LIMITS)

    @property
    def net(self) -> Eps:
        """Return the raw network (x_t, t, c), t = 1…T; a learned variance adds v as a second half of channels.

        Imported weights that number their noise levels from 0 are evaluated at t-1.
        """
        net = own_sampling.raw(self.few, eps_fn(self.unet, self.params), self.schedule.T)
        return net if self.card.get("first_time", 1) == 1 else Partial(_from_zero, net)

    @property
    def predict(self) -> str:
        """Return what the network predicts: `eps`, `v`, `flow`, … or `gaussian`; `Model.eps` derives ε̂ from it."""
        return self.card.get("predict", self.card.get("train", {}).get("predict", "eps"))

    @property
    def variance(self) -> Partial | str:
        """Return σ² of the reverse steps for samplers and the bound: learned, or the card's, or `fixed_large` (β)."""
        return learned(v_half(self.net)) if self.unet.learned_variance else self.sampling.variance

    @property
    def sampling(self) -> SamplingCard:
        """Return how samplers should be set: as at the model's origin if it was imported, else our defaults."""
        return schema.read(SamplingCard, self.card.get("sampling") or {}, f"{self.name}: sampling", cards.LIMITS)

    @property
    def drawing(self) -> DrawingCard:
        """Return how the model draws well, as its card says; guidance 2 and the network alone if it says nothing."""
        return schema.read(DrawingCard, self.card.get("drawing") or {}, f"{self.name}: drawing", cards.LIMITS)

    @property
    def plain(self) -> Model:
        """The network at every t, drawn as if the card had no `drawing`, with guidance 2.

        A model whose card leaves no t to a Gaussian is returned as it is. Another checksum keeps cached results apart.
        """
        if not self.drawing.gaussian_above:
            return self
        card = {k: v for k, v in self.card.items() if k != "drawing"} | {"sha256": f"{self.card.get('sha256')} plain"}
        return dataclasses.replace(self, card=card)

    def in_range(self, eps: Eps) -> Eps:
        """Keep the predicted image in range as `sampling` states: clipping, dynamic thresholding, or neither."""
        how = self.sampling
        if how.percentile is not None:
            return dynamic_threshold(eps, self.schedule, how.percentile, how.most)
        return clip_x0(eps, self.schedule, -how.clip_range, how.clip_range) if how.clip else eps

    @property
    def axes(self) -> Axes | None:
        """Return the principal axes of the training images, if the card has them."""
        if self.card.get("axes") is None:
            return None
        card = schema.read(cards.AxesCard, self.card["axes"], f"{self.name}: axes", cards.LIMITS)
        return Axes(np.array(card.var), np.array(card.mean), np.array(card.number))

    def times_rule(self, name: str) -> str | Callable[[Schedule, int], np.ndarray]:
        """Return the rule of `ddpm.samplers.table.TIMES` with this name, for `Sampling`."""
        if check.choice("times", name, table.TIMES) != "searched":
            return RULES.get(name, name)
        if (axes := self.axes) is None:
            raise ValueError(
                f"times 'searched' needs the covariance of the training images, which the card of {self.name!r} lacks; "
                f"take other --times, or for a run of `ddpm train` give its command again, which adds it"
            )
        return best_times.rule(axes)

    def how(self, sampler: str = "", steps: int | None = None, guidance: float = 1.0, rule: str = "") -> Sampling:
        """Return how images are drawn: by our defaults, or as `sampling` says if the model was imported.

        sampler, rule: names of `ddpm.samplers.table`. Without a sampler: that of the card; for up to `FEW` steps ddim,
        whose times are `searched` up to the number in the card, if it has `axes`, and dpm_2m beyond that number.
        """
        few, searched = 1 <= (steps or 0) <= table.FEW, 1 <= (steps or 0) <= self.drawing.searched
        sampler = sampler or (self.drawing.sampler if not few else "ddim" if searched or rule else "dpm_2m")
        make: Any = check.choice("sampler", sampler, table.SAMPLERS)
        if self.few.loss:
            if sampler != "ddim" or rule:
                raise ValueError(f"{self.name!r} is of few steps and has its own sampler; leave sampler and times out")
            return own_sampling.how(self.few, self.name, self.net, self.told, steps, guidance)
        if sampler == "ddpm_learned":
            make = self._learned_step()
        if "sampling" not in self.card:
            searched &= sampler == "ddim" and (steps or 0) <= self.schedule.T and self.axes is not None
            return Sampling(make, steps, guidance, self.times_rule(rule or ("searched" if searched else "trailing")))
        make = STEPS.get(sampler, make)

        def in_range_step(eps: Eps, schedule: Schedule, c: Any) -> Partial:
            return make(self.in_range(eps), schedule, c)

        in_range_step.__name__ = sampler
        offset = 0 if rule else self.sampling.offset
        chosen = self.times_rule(rule or self.sampling.rule)
        return OffsetSampling(in_range_step, steps, guidance, chosen, False, offset)

    def _learned_step(self) -> Callable[..., Partial]:
        if not self.unet.learned_variance:
            raise ValueError(
                f"sampler 'ddpm_learned' needs a network that predicts its variance, which {self.name!r} does not; "
                f"take ddpm or ddpm_large, or train with --loss hybrid --variance learned"
            )
        make = functools.partial(ddpm_step, variance=self.variance)
        functools.update_wrapper(make, ddpm_step).__name__ = "ddpm_learned"
        return make

    @property
    def num_classes(self) -> int:
        """Return the number of classes, which is also the null label; 0 if the network takes no labels."""
        return self.unet.num_classes

    def guided(self, scale: float | None) -> float:
        """Return this guidance scale; if None, that of the card, else 2; 1 without a label for no class."""
        if self.few.loss:
            return own_sampling.guided(self.few, self.name, scale)
        if not self.unet.null_label and scale not in (None, 1):
            raise ValueError(
                f"guidance is {scale:g}, but {self.name!r} has no label for no class, which guidance compares with; "
                f"leave it out"
            )
        return (self.drawing.guidance if self.unet.null_label else 1.0) if scale is None else scale

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)"""
        return self.unet.image_shape


@affine
def _within(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, eps: Eps, schedule: Schedule) -> jax.Array:
    """The denoiser that refuses times outside 1…T, where they can be read, and shows its chain."""
    check.times(t, x_t, schedule.T)
    return eps(x_t, t, c)


def _from_zero(net: Eps, x_t: jax.Array, t: jax.Array, c: jax.Array | None = None) -> jax.Array:
    return net(x_t, t - 1, c)


def load(name: str | Path) -> Model:
    """Load a shipped model by name, a run from its folder, or weights from a path without suffix.

    What is no denoiser of this library, such as a classifier, a diffusers folder or a damaged card, is refused.
    """
    path = cards.find(name)
    if path.is_dir():
        return _from_run(path)
    card = cards.weights_card(path, whole := files.load_card(path))
    return _model(path, card, whole, files.load(path)[0])


def make(schedule: ScheduleCard) -> Schedule:
    """Build the schedule of a card."""
    made = from_beta(schedule.beta) if schedule.beta else make_chain(schedule.name, schedule.T)
    return zero_terminal_snr(made) if schedule.zero_terminal_snr else made


def save(path: str | Path, model: Model, card: dict) -> None:
    """Save the weights and the card; `load(path)` reads them back, float16 as float32."""
    about = {
        "kind": "denoiser",
        "unet": dataclasses.asdict(model.unet),
        "schedule": model.card["schedule"] | {"T": model.schedule.T},
        "classes": list(model.classes),
        **{k: model.card[k] for k in ("axes", "drawing") if model.card.get(k)},
        **({"few_steps": own_sampling.card_of(model.card)} if model.few.loss else {}),
    } | ({"predict": model.predict} if model.predict != "eps" else {})
    gaussian = priors.arrays(model.prior, model.unet, model.schedule, f"model {model.name!r}")
    files.save(path, model.params | gaussian, about | card)


def _model(path: Path, card: cards.WeightsCard, whole: dict[str, Any], params: dict) -> Model:
    params = dict(params)
    gaussian, weight = params.pop("gaussian", None), params.pop("gaussian_weight", None)
    files.refuse_other_shapes(params, param_shapes(card.unet), f"weights {str(path)!r}")
    if (gaussian is None) == (card.predict == "gaussian"):
        raise ValueError(
            f"{path}: the card says that the network predicts {card.predict!r}, and the weights have "
            f"{'no' if gaussian is None else 'a'} Gaussian that it continues; they do not belong together"
        )
    try:
        schedule = make(card.schedule)
    except ValueError as e:
        raise ValueError(f"{path}.json: schedule: {e}") from None
    params = jax.device_put(jax.tree.map(lambda a: a.astype(np.float32) if a.dtype == np.float16 else a, params))
    where = f"weights {str(path)!r}"
    prior = None if gaussian is None else priors.read(gaussian, weight, card.unet, schedule, where)
    above = card.drawing and card.drawing.gaussian_above
    if above and (prior is None or above > schedule.T):
        why = "the weights hold no Gaussian" if prior is None else f"the chain has the times 1..{schedule.T}"
        raise ValueError(f"{path}.json: drawing: gaussian_above is {above}, but {why}")
    return Model(path.name, card.unet, params, schedule, card.classes, whole, prior)


def _from_run(folder: Path) -> Model:
    from ddpm.training.step import init_state

    run, about = cards.run_card(folder)
    about["train"] = dataclasses.asdict(run.train)
    same = functools.partial(cards.same_run, folder / "config.json", run)
    found = checkpoint.restore(folder / "checkpoints", jax.eval_shape(lambda: init_state(run.train, run.unet)), same)
    if found is None:
        raise ValueError(f"{folder} has no whole checkpoint yet; let `ddpm train` reach its first --save-every")
    state, saved = found
    schedule = ScheduleCard(run.train.chain, run.train.T)
    card = {**about, "schedule": dataclasses.asdict(schedule), "step": saved["step"]}
    if (folder / FILE).exists():
        card["axes"] = files.read_json(folder / FILE).get("axes")
    return Model(
        folder.name,
        run.unet,
        state.ema,
        make(schedule),
        run.data.classes,
        card,
        state.prior if isinstance(state.prior, Prior) else None,
    )
