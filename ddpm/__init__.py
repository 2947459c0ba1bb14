"""ddpm: diffusion models from scratch in JAX, checked against exact answers.

Twelve files teach the chain. Read them in this order, which is also the order of imports and of the data:

    contracts   the callables that everything is made of: eps, guide, step, walk
    config      the network's sizes and presets
    data        images and labels: uint8 at rest, float32 in [-1, 1] inside
    schedule    β_t, ᾱ_t, SNR, and lists of times
    forward     q(x_t | x_0), its posterior, and ε, x0, score
    oracle      the exact ε* of Gaussians and mixtures
    network     the ε-prediction U-Net
    loss        L_simple
    train       Algorithm 1: the step and the average of the parameters
    guide       eps -> eps: classifier-free guidance, clipping x̂0
    sample      the loop `walk`, and the steps of DDPM and DDIM
    typicality  T(x|c): what makes an image look like its class, and where

What continues one of them lives in the folder of its plural or kin:

    oracles/     finite sets of images, grids of independent cells, regions of one colour, fitted Gaussians
    networks/    heads that predict x0, v, μ, a velocity or F; a transformer (DiT); reading captions; LoRA, ControlNet
    samplers/    Heun, DPM-Solver++(2M), EDM, learned and optimal variance, Langevin, respacing, many images at once
    guides/      negative, interval, classifier guidance, thresholding; AND, NOT, two scales; adaptive guidance
    flows/       flow matching on Gaussian paths, exact maps and errors; MeanFlow, shortcut, consistency, progressive
    losses/      weightings, the variational bound, times drawn, objectives by name, distillation, CLIP's loss
    editing/     inpainting and RePaint, SDEdit, DDIM inversion, translation
    generators/  VAEs and GANs: losses, exact solutions, small networks and their training
    distillation/ SDS, VSD and DDS: gradients of images and volumes from a denoiser, and where they end
    discrete/    chains of tokens: the absorbing chain, its steps and its losses
    datasets/    where data sets come from; the drawn worlds `cities`, `blocks` (3-D), `wardrobe` (captions)
    classifiers/ labels and features of images, clean and noisy; classification by denoising
    evaluation/  ε-MSE, bits/dim, accuracy, Fréchet distance, each with its floor
    latents/     codes of an autoencoder with their scale; exact errors of latent diffusion where it is linear
    training/    a run: options, step, loop, folder, averages, devices, few-step losses, comparison with reference runs
    zoo/         trained models by name, in and out of diffusers' format, out as ONNX; their files are in weights/
    features/    what the layers know: DIFT, correspondence, linear probes
    mining/      typical patches of a class, clustered, with p-values and baselines
    tools/       what knows nothing of diffusion: checks, files, batches, array operations
    course/      lessons with exercises that check themselves; the challenge of few calls
    testing/     checks of other people's schedules, losses, samplers and guidance, which name the mistake
    cli/         the command `ddpm`, one file a command

`plot` draws pictures. Imports go one way only; tests/test_house.py has the order.

Four kinds of callables make everything, by wrapping:

    eps    : (x_t (B, ...), t (B,) int, c | None) -> (B, ...)    a denoiser: a network, or an oracle
    guide  : eps -> eps                                          cfg, clip_x0, …
    step   : (key, x_t, t, s) -> x_s                             ddpm_step, ddim_step, …
    walk   : (step, key, x_T, times) -> x_0                      the one loop

`import ddpm` is quick: every module and name is imported when it is first used.
"""

import sys
from typing import Any

from ddpm.tools.lazy import namespace
from ddpm.tools.moved import MOVED, Finder, sentence
from ddpm.tools.xla import set_flags

__version__ = "0.2.0"

set_flags()
sys.meta_path.append(Finder)

_NAMES = {
    "data": (),
    "schedule": ("Schedule", "cosine", "linear", "linear_ho", "make_schedule", "make_times"),
    "forward": ("eps_from_x0", "q_posterior", "q_sample", "q_step", "x0_from_eps"),
    "oracle": ("Mixture", "gaussian", "mixture"),
    "config": ("UNetConfig", "unet_config"),
    "network": ("build", "eps_fn"),
    "loss": ("simple_loss", "squared_error"),
    "sample": ("Sampling", "ddim_step", "ddpm_step", "walk"),
    "guide": ("cfg", "clip_x0"),
    "datasets": (),
    "zoo": (),
}
_MODULES = (
    *("contracts", "train", "typicality", "plot", "tools", "oracles", "networks", "samplers", "guides", "flows"),
    *("losses", "editing", "generators", "distillation", "discrete", "classifiers", "evaluation", "latents"),
    *("training", "features", "mining", "course", "testing", "cli", "weights"),
)
_LOADERS = {"load_data": "datasets", "load_model": "zoo"}  # their function `load`
_get, _names = namespace(__name__, _NAMES | dict.fromkeys(_MODULES, ()))

__all__ = ["__version__", *(name for names in _NAMES.values() for name in names), *_LOADERS]


def __getattr__(name: str) -> Any:
    if name in MOVED:
        raise AttributeError(sentence(name))
    return _get(_LOADERS[name]).load if name in _LOADERS else _get(name)


def __dir__() -> list[str]:
    return [*_names(), *_LOADERS, "__version__"]
