"""The kinds of small generators, and how they are trained; also the options of `ddpm generator`. No JAX here."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

KINDS = {
    "ae": "autoencoder, least squared error",
    "vae": "variational autoencoder, learned decoder variance, labels by FiLM",
    "gan": "GAN without labels, non-saturating loss and R1",
    "cgan": "GAN whose discriminator sees the label, by projection",
    "infogan": "GAN without labels that finds a categorical code by itself",
    "acgan": "GAN whose discriminator also classifies",
}
ENCODED = ("ae", "vae")  # an encoder and a decoder
GAMES = ("gan", "cgan", "infogan", "acgan")  # a generator and a discriminator


@dataclass(frozen=True)
class Recipe:
    """How a generator is trained; None is what suits its kind, which `of` fills in."""

    steps: int = 1500
    minutes: float = 0.0  # of processor time, after which it ends instead; 0: by the number of steps
    batch: Any = None  # images a step; 128, of two players 64
    lr: Any = None  # Adam's rate; 2e-3, of two players 1e-3
    gamma: Any = None  # weight of R1, of two players; 1
    weight: Any = None  # λ of the labels (acgan) or of the code (infogan); 1
    ema: float = 0.999  # decay of the average of the parameters, which is what is kept
    seed: int = 0  # of the parameters, the order of the images and all draws

    def of(self, kind: str) -> Recipe:
        """The recipe with the numbers of this kind; an option that the kind has no use for is refused."""
        encoded = kind in ENCODED
        if self.gamma is not None and encoded:
            raise ValueError(f"gamma is the weight of R1, for a GAN; a {kind} has no discriminator. Leave it out")
        if self.weight is not None and kind not in ("infogan", "acgan"):
            raise ValueError(f"weight is that of labels or a code, for acgan and infogan; leave it out for {kind}")
        fill: dict[str, Any] = {"batch": 128, "lr": 2e-3} if encoded else {"batch": 64, "lr": 1e-3, "gamma": 1.0}
        fill |= {"weight": 1.0} if kind in ("infogan", "acgan") else {}
        return dataclasses.replace(self, **{k: v for k, v in fill.items() if getattr(self, k) is None})
