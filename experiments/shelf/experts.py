"""DiT-MoE: the exact denoiser of a mixture is a layer of experts with a linear router, and how many it needs.

The claim: a transformer whose MLPs are E experts, of which a router picks k for each token, with one more that all use,
has the parameters of a large model at the work of a small one; a term E Σ_e f_e P_e (f: the share of tokens, P: the
mean gate) keeps all of them in use. For a mixture of E Gaussians of equal variance E[x0 | x_t] = Σ_e p(e | x_t) (an
affine map of x_t), and log p(e | x_t) is affine too: a layer of E experts with a linear router and a softmax, exactly.
The eight means lie on a ring around (2, 1), not around 0. Around 0 the few gates that are kept would give nearly
nothing at high noise, which happens to be the right answer where the mean of all data is 0, and to drop gates would
look harmless.

What we see: all experts with their gates are the denoiser. For fewer of them it depends on t. At t = 50 two of eight
are enough, since p(e | x_t) is certain; above it the gates that were dropped are missed. With two experts the error
grows at high noise by .8 of the least one if the gates are made to sum to 1 again, and by 1.25 if not. With one expert
for all, the mean of the others, which takes what is not routed, it grows by less than .05 at every t: that expert is
right where nothing is known. The term for balance is 1 at equal use and E at collapse; where classes are unequal the
right router pays 1.8 to 3.2, and a wrong one would pay less. What does not carry over: the experts of a network are no
classes, and learn together with the router.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import oracle, plot
from ddpm.forward import x0_and_eps
from ddpm.schedule import linear
from experiments.lab.runner import Result, Row, float64

PAPER = "Fei et al. 2024, Scaling diffusion transformers to 16 billion parameters (DiT-MoE)"
MINUTES = 0.2
E, VAR, RADIUS = 8, 0.02, 1.5
ALPHA_BAR = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])
ANGLE = 2 * np.pi * np.arange(E) / E
MEAN = RADIUS * np.stack([np.cos(ANGLE), np.sin(ANGLE)], 1) + np.array([2.0, 1.0])
WEIGHTS = {"equal": np.full(E, 1 / E), "unequal": np.array([0.4, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05])}
GATES = ("gates as they are", "gates that sum to 1", "and one for all")


@dataclass(frozen=True)
class Config:
    """Points, times, numbers of experts in use, and the seed."""

    n: int = 20_000
    times: tuple[int, ...] = (50, 100, 200, 300, 400, 500, 600, 700, 800, 900)
    active: tuple[int, ...] = (1, 2)
    seed: int = 0


QUICK = {"n": 1000, "times": (100, 500), "active": (1, 2)}


def layer(x: np.ndarray, t: int, weight: np.ndarray, k: int, gates: str) -> tuple[np.ndarray, np.ndarray]:
    """x̂0 of k of the experts, and all gates (n, E).   gates: one of GATES

    expert e: x̂0 = μ_e + g (x - √ᾱ μ_e), g = √ᾱ λ/v;   router: √ᾱ μ_e·x/v - ᾱ‖μ_e‖²/2v + log w_e
    """
    a = ALPHA_BAR[t]
    v = a * VAR + 1 - a
    g = np.sqrt(a) * VAR / v
    expert = g * x[:, None] + (1 - g * np.sqrt(a)) * MEAN  # (n, E, 2)
    logit = np.sqrt(a) / v * x @ MEAN.T - a * (MEAN**2).sum(1) / 2 / v + np.log(weight)
    p = np.exp(logit - logit.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    kept = np.where(p >= np.sort(p, 1)[:, E - k][:, None], p, 0)  # the k largest
    if gates == "gates that sum to 1":
        kept = kept / kept.sum(1, keepdims=True)
    out = (kept[..., None] * expert).sum(1)
    if gates == "and one for all":  # what is not routed goes to one expert for all, the mean of the experts
        out += (1 - kept.sum(1, keepdims=True)) * (weight[:, None] * expert).sum(1)
    return out, p


def balance(p: np.ndarray, k: int) -> float:
    """E Σ_e f_e P_e, f: the share of the choices that fall on e, P: the mean gate"""
    chosen = np.argsort(-p, 1)[:, :k]
    f = np.bincount(chosen.ravel(), minlength=E) / chosen.size
    return float(E * (f * p.mean(0)).sum())


def run(config: Config) -> Result:
    """Compare the layer with the library's denoiser, and fewer experts with all of them; and the balance."""
    rows, curves, rng = list[Row](), dict[str, list[tuple]](), np.random.default_rng(config.seed)
    with float64():
        for name, weight in WEIGHTS.items():
            eps = oracle.mixture(MEAN, VAR, weight).eps(linear())
            x0 = MEAN[rng.choice(E, config.n, p=weight)] + np.sqrt(VAR) * rng.normal(size=(config.n, 2))
            for t in config.times:
                x = np.sqrt(ALPHA_BAR[t]) * x0 + np.sqrt(1 - ALPHA_BAR[t]) * rng.normal(size=x0.shape)
                full, p = layer(x, t, weight, E, GATES[0])
                true = np.asarray(x0_and_eps(eps, linear(), jnp.asarray(x), t)[0])
                off, least = float(np.abs(full - true).max()), float(((true - x0) ** 2).sum(1).mean())
                rows.append(Row(f"{name} classes, t = {t}: all experts, from x̂0", None, 0.0, off, None, 1e-9, 1.0))
                curves.setdefault(f"{name} classes", []).append((t, balance(p, 1)))
                for k, gates in itertools.product(config.active if name == "equal" else (), GATES):
                    added = float(((layer(x, t, weight, k, gates)[0] - true) ** 2).sum(1).mean()) / least
                    curves.setdefault(f"{k}, {gates}", []).append((t, added))
                    if t in config.times[::4]:
                        rows.append(Row(f"t = {t}, {k} of {E} experts, {gates}: error added, a share", ours=added))
            found = balance(layer(x0, 1, weight, E, GATES[0])[1], 1)
            exact = float(E * (weight**2).sum())
            rows.append(Row(f"{name} classes, clean: balance of the right router", None, exact, found, None, 0.1))
    for name, p, exact in (("equal use", np.eye(E), 1.0), ("collapse", np.eye(E)[np.zeros(100, int)], float(E))):
        rows.append(Row(f"balance at {name}", None, exact, balance(p, 1), within=1e-9))
    return Result(rows, None, {"curves": curves})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the error that fewer experts add, and the balance of the right router."""
    with plot.style():
        figure = plot.new_figure(9.4, 3.0)
        axes = figure.subplots(1, 3)
        colors = dict(zip(GATES, ("#1b4f72", "#c0392b", "#d68910"), strict=True))
        active = sorted({name.split(",")[0] for name in numbers["curves"] if "," in name})[:2]
        for name, found in numbers["curves"].items():
            k, _, gates = name.partition(", ")
            if k in active:
                axes[active.index(k)].plot(*np.array(found).T, "o-", ms=3, color=colors[gates], label=gates)
            elif not gates:
                axes[2].plot(*np.array(found).T, "o-", ms=3, label=name)
        for ax, k in zip(axes, active, strict=False):
            ax.set(title=f"{k} of {E} experts", ylabel="error added, a share", ylim=(1e-4, 20), yscale="log")
        axes[2].set(title="balance of the right router", ylabel="E Σ f P", ylim=(0, None))
        for ax in axes:
            ax.set_xlabel("t")
            ax.legend(fontsize=8)
    return figure
