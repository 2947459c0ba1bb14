"""Checks of what a training is made of: the loss, the weight of each time, the average of the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from ddpm import schedule as schedules
from ddpm import train
from ddpm.losses import weighting
from ddpm.testing.answers import Answer, answered, mistaken
from ddpm.testing.calling import Convention, Fault, array, by_name, call, name_of, timed
from ddpm.testing.mistakes import Mistake, tried
from ddpm.testing.noising import SHAPE, forward_mistakes, levels_of, per_image
from ddpm.tools import check

BATCH = 2048


def reductions() -> list[Mistake]:
    """What a loss may be of the true noise ε and ε̂ (n, …): the mean square first, which is right."""
    each, name = (1, 2, 3), "summed over pixels"
    pixels = "It is the sum over pixels and channels, not their mean."
    batch = "It is the sum over the batch too, so that the step grows with it."
    absolute = "This is the absolute error, whose best answer is the median; the score is a mean."
    root = "The root of the mean square weights a batch by its own error."
    return [
        Mistake("", "", lambda e, p: np.mean((e - p) ** 2)),
        Mistake("", "", lambda e, p: np.mean((e - p) ** 2, each)),
        Mistake(name, pixels, lambda e, p: np.mean(np.sum((e - p) ** 2, each))),
        Mistake(name, pixels, lambda e, p: np.sum((e - p) ** 2, each)),
        Mistake("summed over everything", batch, lambda e, p: np.sum((e - p) ** 2)),
        Mistake("half of it", "There is a factor ½.", lambda e, p: 0.5 * np.mean((e - p) ** 2)),
        Mistake("absolute error", absolute, lambda e, p: np.mean(np.abs(e - p))),
        Mistake("the root was taken", root, lambda e, p: np.sqrt(np.mean((e - p) ** 2))),
        Mistake("not squared", "The difference is not squared, so errors cancel.", lambda e, p: np.mean(e - p)),
    ]


def by_reduction(value: np.ndarray, e: np.ndarray, p: np.ndarray) -> tuple[Mistake | None, float]:
    """The reduction that gives `value`, and the factor by which it is larger than the right one."""
    ratio = float(np.mean(value) / np.mean((e - p) ** 2))
    for m in reductions():
        want = np.asarray(m.wrong(e, p))
        if want.shape == value.shape and np.allclose(value, want, rtol=2e-3, atol=1e-5):
            return m, ratio
    return None, ratio


@answered("loss")
def check_loss(loss: Callable[..., Any], schedule: Any = "linear", convention: Convention = Convention()) -> Answer:
    """Compare loss(denoiser, x0), or loss(noise, eps_hat), with the mean of (ε - ε̂)².   [Ho et al. 2020, Eq. 14]

    The denoiser is ours: of x_t and t that it is asked for, ε is found, and so are wrong times and a wrong x_t.
    The value may be one number, or one for each image.
    """
    rng = np.random.default_rng(0)
    alpha_bar = levels_of(schedule)
    x0 = rng.uniform(-1, 1, (BATCH, *SHAPE))
    if not takes_denoiser(loss):
        e, p = rng.normal(size=(2, 16, *SHAPE))
        value = convention.take(call(loss, {"noise": e, "eps_hat": p}, convention, again=True))
        return of_reduction(value, e, p, ())
    asked: list[tuple[np.ndarray, np.ndarray]] = []

    def denoiser(x_t: Any, t: Any, *_: Any, **__: Any) -> Any:
        times = np.asarray(t.cpu() if hasattr(t, "cpu") else t).astype(float).reshape(-1)
        x = array(loss, x_t, convention, x0.shape)
        asked.append((x, np.broadcast_to(times + 1 - convention.first_time, len(x))))
        return convention.give(0.5 * x + 0.1)

    value = convention.take(call(loss, {"denoiser": denoiser, "x0": x0}, convention))
    if len(asked) != 1:
        raise Fault("calls", f"{name_of(loss)} called the denoiser {len(asked)} times; the loss needs one call.")
    x_t, t = asked[0]
    times = wrong_times(t, len(alpha_bar) - 1, convention)
    if times:
        return mistaken("loss", times[0], times[1], "times that are never trained are guessed when sampling")
    # ε from x_t, by the formula that gives standard normal noise at every level
    for m in forward_mistakes():
        e = noise_of(m.wrong, x_t, x0, alpha_bar[t.astype(int)])
        if e is not None:
            break
    else:
        return mistaken("loss", "unknown", "x_t is no known mixture of x0 and noise at these times.", "")
    if m.key:
        return mistaken("loss", m.key, f"x_t is wrong. {m.sentence}", "the network learns levels that sampling has not")
    return of_reduction(value, e, 0.5 * x_t + 0.1, ("times: uniform over 1…T",))


def takes_denoiser(loss: Callable[..., Any]) -> bool:
    """Whether the loss has the parameters (denoiser, x0); else it compares ε with ε̂."""
    try:
        args, kwargs = by_name(loss, {"noise": 0, "eps_hat": 1})
    except Fault:
        return True
    return [*args, *kwargs.values()] != [0, 1] or not any(
        name in loss.__code__.co_varnames for name in ("eps_hat", "pred", "prediction", "noise_pred", "model_output",
                                               "predicted_noise", "eps_pred")
    )  # fmt: skip


def of_reduction(value: np.ndarray, e: np.ndarray, p: np.ndarray, words: tuple[str, ...]) -> Answer:
    """The answer about the last step of a loss: how the squares are summed."""
    m, ratio = by_reduction(value, e, p)
    effect = f"the loss is {ratio:.4g} times L_simple, and with SGD the learning rate as well"
    if m is None:
        return mistaken("loss", "unknown", f"It is {np.mean(value):.5g}, and no known function of ε - ε̂.", effect)
    if m.key:
        return mistaken("loss", m.key, m.sentence, effect, conventions=words)
    each = "one value for each image" if value.shape else "one value for the batch"
    return Answer("loss", True, conventions=(*words, f"{each}, the mean over pixels"))


def wrong_times(t: np.ndarray, T: int, convention: Convention) -> tuple[str, str] | None:
    """What is wrong with the times of 2,048 images, in a name and a sentence."""
    first = convention.first_time
    if np.any(t != np.round(t)) or t.min() < 1 or t.max() > T:
        low, high = t.min() - 1 + first, t.max() - 1 + first
        return "times out of range", f"Its times reach from {low:g} to {high:g}; they lie in {first}..{T - 1 + first}."
    if len(np.unique(t)) == 1:
        return "one time for all", "The whole batch has one time; draw one for each image, else the gradient is noisy."
    # Uniform times leave the first or last twentieth empty once in e^100 batches
    if t.min() > 1 + T / 20 or t.max() < T - T / 20:
        return "times are left out", f"Its times reach from {t.min():g} to {t.max():g} of 1..{T}."
    if abs(t.mean() - (T + 1) / 2) > 6 * T / np.sqrt(12 * len(t)):
        return "times are not uniform", f"The mean of its times is {t.mean():.4g}; uniform ones have {(T + 1) / 2:g}."
    return None


def noise_of(q: Callable, x_t: np.ndarray, x0: np.ndarray, a: np.ndarray) -> np.ndarray | None:
    """ε of x_t = A x0 + B ε under this formula, if it is standard normal and independent of x0 at all levels."""
    shaped = per_image(a, x0)
    zero, one = np.zeros_like(shaped), np.ones_like(shaped)
    with np.errstate(all="ignore"):
        e = (x_t - tried(q, one, shaped, zero) * x0) / tried(q, zero, shaped, one)
    order = np.array_split(np.argsort(a), 8)
    for rows in order:
        z, x = e[rows], x0[rows]
        few = 6 / np.sqrt(z.size)
        if not (abs((z * x).mean()) < few and abs(z.var() - 1) < few * np.sqrt(2)):  # a NaN fails too
            return None
    return e


# --- the weight of each time ------------------------------------------------------------------------------------------

TARGETS = {"eps": "ε", "x0": "x0", "v": "v"}


@answered("weight")
def check_weight(
    weight: Any,
    target: str = "eps",
    gamma: float = 5.0,
    schedule: Any = "linear",
    convention: Convention = Convention(),
) -> Answer:
    """Compare weights of t = 1…T with Min-SNR-γ's for this target, up to a factor.   [Hang et al. 2023]

    weight: T numbers, or a function of the SNR (T,), or of t;  target: what the network predicts: eps, x0 or v
    """
    check.choice("target", target, TARGETS)
    s = schedules.make_schedule(schedule) if isinstance(schedule, str) else schedule
    snr = levels_of(s)[1:] / (1 - levels_of(s)[1:])
    if callable(weight) and not hasattr(weight, "__array__"):
        given: dict[str, Any] = {"snr": snr}
        names = getattr(getattr(weight, "__code__", None), "co_varnames", ("snr",))
        if names[:1] in (("t",), ("timesteps",)):
            given = {"t": np.arange(1, len(snr) + 1)}
        weight = call(weight, given, convention, again=True)
    w = convention.take(weight)
    if w.shape != snr.shape:
        raise Fault("shape", f"it has the shape {w.shape}; wanted is one weight for each time 1…T: {snr.shape}.")
    rows = {k: np.asarray(weighting.for_target(s, weighting.min_snr(s, gamma), k), np.float64)[1:] for k in TARGETS}

    def fits(row: np.ndarray) -> bool:
        return np.allclose(w, row * (w @ row / (row @ row)), rtol=5e-3, atol=1e-6 * np.abs(w).max())

    if fits(rows[target]):
        return Answer("weight", True, conventions=(f"Min-SNR, γ = {gamma:g}, for {TARGETS[target]}",))
    share = w[-1] / w.sum() * len(w)
    good = rows[target][-1] / rows[target].sum() * len(w)
    effect = f"pure noise, t = T, counts {share:.3g} times the mean weight instead of {good:.3g} times"
    for k in TARGETS:
        if k != target and fits(rows[k]):
            sentence = f"This is Min-SNR's weight for {TARGETS[k]}; the network predicts {TARGETS[target]}."
            return mistaken("weight", "min_snr_for_v", sentence, effect)
    if np.allclose(w, w[0]):
        return mistaken("weight", "no weight", "All times have the same weight.", effect)
    if fits(snr):
        return mistaken("weight", "SNR without its minimum", "The minimum with γ is missing.", effect)
    return mistaken("weight", "unknown", "These weights are no Min-SNR of ε, x0 or v.", effect)


# --- the average of the parameters ------------------------------------------------------------------------------------


@answered("average")
def check_average(
    decay: Callable[..., Any], most: float = 0.9999, steps: int = 5000, convention: Convention = Convention()
) -> Answer:
    """Compare decay(n) at the updates n = 0…steps-1 with min(most, (1+n)/(10+n)), the usual warm-up."""
    n = np.arange(check.whole("steps", steps, 2))
    d = np.array([float(convention.take(timed(decay, [int(k)], {}, convention.seconds))) for k in n])
    want = np.asarray(train.ema_decay(jnp.asarray(n, float), most), np.float64)
    kept, good = np.prod(d), np.prod(want)
    effect = f"after {steps:,} updates {kept:.2g} of the average are the initial weights instead of {good:.2g}"
    if np.any(d < 0) or np.any(d > 1):
        return mistaken("average", "unknown", "A decay lies in 0…1.", effect)
    if np.allclose(d, want, atol=1e-5):
        return Answer("average", True, effect, conventions=(f"warm-up (1+n)/(10+n), at most {most}",))
    if np.allclose(d, d[0]):
        return mistaken("average", "young_average", f"The decay is {d[0]:g} from the first update on.", effect)
    if kept < 1e-3:
        return Answer("average", True, conventions=("another warm-up than (1+n)/(10+n)",), effect=effect)
    return mistaken("average", "unknown", "The decay rises too fast at the beginning.", effect)
