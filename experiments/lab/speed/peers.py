"""The PyTorch libraries: diffusers' UNet2DModel at equal architecture, eager and compiled, and lucidrains' Unet.

Everything here returns plain functions without arguments, or None where a library is not installed. On a machine where
JAX and PyTorch both see a GPU they run there, and every function waits for its result.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock

import jax

from ddpm.config import UNetConfig
from ddpm.zoo import diffusers_config

Step = Callable[[], Any]


def device() -> str:
    """`cuda` if both JAX and PyTorch can use it, else `cpu`."""
    import torch

    return "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"


def wait() -> None:
    """Wait until the device has finished all work."""
    import torch

    if device() == "cuda":
        torch.cuda.synchronize()


def diffusers_unet(unet: UNetConfig) -> Any:
    """The same network, layer by layer (see `ddpm.zoo.diffusers_config`), or None."""
    try:
        import diffusers
    except ImportError:
        return None
    config = {k: v for k, v in diffusers_config.from_unet(unet).items() if not k.startswith("_")}
    model: Any = diffusers.UNet2DModel(**config)
    return model.to(device())


def lucidrains_unet(unet: UNetConfig) -> Any:
    """The nearest network of denoising-diffusion-pytorch, with the same widths and sizes; None if not installed.

    The architecture differs: its blocks have RMS norms, its levels linear attention, its end convolutions 7 x 7.
    """
    try:
        module = _import_lucidrains()
    except ImportError:
        return None
    sizes = [unet.image_size // 2**i for i in range(len(unet.multipliers))]
    full = tuple(s in unet.attention for s in sizes)
    return module.Unet(dim=unet.channels, dim_mults=unet.multipliers, channels=unet.image_channels, full_attn=full).to(
        device()
    )


def _import_lucidrains() -> Any:
    """Import its file of networks; packages that only its trainer uses (torchvision, accelerate, …) may be missing."""
    name = "denoising_diffusion_pytorch"
    if importlib.util.find_spec(name) is None:
        raise ImportError(name)
    stubs: dict[str, Any] = {}
    for other in ("torchvision", "torchvision.transforms", "torchvision.utils", "accelerate", "ema_pytorch"):
        try:
            importlib.import_module(other)
        except (ImportError, RuntimeError):  # RuntimeError: built for another torch
            stubs[other] = MagicMock()
    stubs[f"{name}.fid_evaluation"] = MagicMock()
    package = types.ModuleType(name)  # without its __init__, which imports the trainer
    package.__path__ = list(importlib.util.find_spec(name).submodule_search_locations or [])  # type: ignore[union-attr]
    new = stubs | {name: package}
    before = {k: sys.modules.get(k) for k in new}
    sys.modules.update(new)
    try:
        return importlib.import_module(f"{name}.{name}")
    finally:
        for k, module in before.items():
            sys.modules.pop(k) if module is None else sys.modules.__setitem__(k, module)


def call(model: Any, x: Any, t: Any) -> Any:
    """ε̂ of either library."""
    y = model(x, t)
    return y if hasattr(y, "shape") else y.sample


def training_step(model: Any, unet: UNetConfig, batch: int) -> Step:
    """A training step on one batch: loss, gradient, clipping, Adam and the average."""
    import torch

    where = device()
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-4)
    ema = [p.detach().clone() for p in model.parameters()]
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0).to(where)
    x0 = torch.rand(batch, unet.image_channels, unet.image_size, unet.image_size, device=where) * 2 - 1

    def step() -> None:
        t, noise = torch.randint(0, 1000, (batch,), device=where), torch.randn_like(x0)
        a = alpha_bar[t][:, None, None, None]
        loss = ((call(model, a.sqrt() * x0 + (1 - a).sqrt() * noise, t) - noise) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        torch._foreach_lerp_(ema, list(model.parameters()), 0.001)
        wait()

    return step


def ddim(model: Any, unet: UNetConfig, batch: int, times: Any, alpha_bar: Any) -> Step:
    """DDIM over our list of times (1…T, falling to 0), x̂0 clipped."""
    import numpy as np
    import torch

    where = device()
    a = torch.tensor(np.asarray(alpha_bar, np.float32), device=where)
    x_T = torch.randn(batch, unet.image_channels, unet.image_size, unet.image_size, device=where)

    def walk() -> None:
        x = x_T
        with torch.inference_mode():
            for t, s in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
                eps = call(model, x, torch.full((batch,), t - 1, device=where))
                x0 = ((x - (1 - a[t]).sqrt() * eps) / a[t].sqrt()).clip(-1, 1)
                eps = (x - a[t].sqrt() * x0) / (1 - a[t]).sqrt()
                x = a[s].sqrt() * x0 + (1 - a[s]).sqrt() * eps
        wait()

    return walk
