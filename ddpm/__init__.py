"""ddpm: diffusion models from scratch in JAX, checked against exact answers.

The map, in the order in which data flow and in which to read; beside it what stands next to each:

    data        images and labels: found on this disk or fetched once      formats: the files they come in
    schedule    β_t, ᾱ_t, SNR, and lists of times
    forward     q(x_t | x_0), its posterior, and ε, x0, v, score
    oracle      the exact ε* of Gaussians and mixtures                     finite: of a finite set of images
    cells       the exact ε* of pictures made of independent cells
    network     the ε-prediction U-Net                                     layers: its parts; config: sizes and presets
    loss        L_simple                                                   weighting: Min-SNR, P2, the bound's
    bound       the variational bound, bits/dim, L_hybrid                  importance: which t to draw for it
    objective   what a training minimises: each of these by name, for a network that predicts ε, x0, v or μ
    train       Algorithm 1: Adam, warm-up, clipping, the average          run: its folder; checkpoint, store: files
                                                                           stop: Ctrl-C, SIGTERM, between two steps
    sample      one loop, `walk`, and the steps of DDPM and DDIM           generate: many images, with a bar
    variance    fixed, learned and optimal σ²
    solvers     Heun, DPM-Solver++(2M)                                     edm: Karras et al.'s times and weights
    encode      DDIM inversion, slerp                                      likelihood: log p by the ODE
    translate   an image of one class redrawn as another
    langevin    annealed, and as a corrector                               teleport: the first steps in closed form
    guide       eps -> eps: classifier-free and other guidance, clipping   compose: AND, NOT, two scales
    adaptive    guidance that stops when it no longer matters
    inpaint     masks, x0-replacement, RePaint, SDEdit
    classifier  labels and features of images                              saliency: where its answer would change
                in two networks: convnet, timenet (noisy images)           classifier_train, classifier_run: its making
    diffusion_classifier   the class with which an image is denoised best
    features    what the layers say (DIFT), correspondence                 probe: linear probes by layer and t
    typicality  T(x|c): what makes an image look like its class, and where  doersch, hog: the baseline without a network
    mine        its most typical patches, clustered, with p-values         patches; maps: resumable; mine_run, page
    world       drawn cities: which patches should be found                localisation: whether they were
    evaluate    ε-MSE, accuracy, Fréchet distance, each with its floor     scoring, metrics, measure; export: to files
    plot        pictures
    model       a trained denoiser by name                                 weights: those that ship
    cli         the command `ddpm`                                         commands, info, demo: what it does
    check       the errors at the doors                                    pytree: functions as arguments of jit
    parts       many images, a batch at a time
    xla         a flag of the compiler, set when this package is imported

Four kinds of callables make everything, by wrapping:

    eps    : (x_t (B, ...), t (B,) int, c | None) -> (B, ...)    a denoiser: a network, or an oracle
    guide  : eps -> eps                                          cfg, clip_x0, …
    step   : (key, x_t, t, s) -> x_s                             ddpm_step, ddim_step, …
    walk   : (step, key, x_T, times) -> x_0                      the one loop

`import ddpm` is quick: each name below is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from ddpm.xla import convolve_on_all_cores

__version__ = "0.1.0"

convolve_on_all_cores()

# Public names, by module. Functions that are called as their module is (sample, generate, typicality, evaluate) are not
# here: `ddpm.sample` is the module, and `from ddpm.sample import sample` the function.
_NAMES = {
    "schedule": ("Schedule", "cosine", "linear", "linear_ho", "make_schedule", "make_times"),
    "forward": ("eps_from_x0", "q_posterior", "q_sample", "q_step", "x0_from_eps"),
    "oracle": ("Mixture", "fit", "gaussian", "linear_loss", "mixture"),
    "config": ("TrainConfig", "UNetConfig", "unet_config"),
    "network": ("build", "eps_fn"),
    "loss": ("simple_loss", "squared_error"),
    "sample": ("ddim_step", "ddpm_step", "walk"),
    "guide": ("cfg", "clip_x0"),
    "model": ("Model",),
}
_HOME = {name: (module, name) for module, names in _NAMES.items() for name in names}
_HOME |= {"load_data": ("data", "load"), "load_model": ("model", "load")}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        module, attribute = _HOME[name]
        return getattr(importlib.import_module(f"ddpm.{module}"), attribute)
    raise AttributeError(f"module 'ddpm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
