"""Every cell of the Rosetta table is evaluated where its code base is installed, and compared with ours."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import forward, guide, sample, schedule
from ddpm.editing import inpaint
from ddpm.losses import bound, weighting
from ddpm.networks import heads
from ddpm.samplers import variance
from experiments.rosetta import PEERS, ROWS, markdown

RNG = np.random.default_rng(0)
X0, NOISE, EPS = RNG.normal(size=(3, 2, 1, 4, 4)).astype(np.float32)  # channels first, for the peers
TIMES = (1, 300, 700)  # their i


def last(a):
    """Channels last, as ours."""
    return jnp.asarray(a.transpose(0, 2, 3, 1))


@cache
def ours(i):
    """The names that our column uses."""
    names = {}
    for module in (bound, forward, guide, heads, inpaint, sample, schedule, variance, weighting):
        names |= {k: v for k, v in vars(module).items() if callable(v)}
    s = schedule.linear()
    x0, noise, eps = last(X0), last(NOISE), last(EPS)
    t = jnp.full(2, i + 1)
    return names | {
        "schedule": s, "x0": x0, "noise": noise, "eps": eps, "t": i + 1, "s": i, "log": np.log, "range": range,
        "x_t": forward.q_sample(s, x0, t, noise), "net": lambda x, t, c: eps, "key": jax.random.key(0),
        "net_or_zero": lambda x, t, c: eps * (c is not None), "label": jnp.zeros(2, int),
    }  # fmt: skip


def common(torch, i, index, **more):
    x_t = ours(i)["x_t"]
    x_t = torch.from_numpy(np.array(x_t).transpose(0, 3, 1, 2).copy())
    given = {"x0": torch.from_numpy(X0), "noise": torch.from_numpy(NOISE), "eps": torch.from_numpy(EPS), "x_t": x_t}
    return given | {"log": np.log, "minimum": np.minimum, "cumprod": np.cumprod, "np": np, "i": index} | more


@cache
def diffusers(i):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch diffusers")
    peer = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install torch diffusers")
    from diffusers.guiders import ClassifierFreeGuidance
    from diffusers.training_utils import compute_snr

    def timesteps(N, rule):
        scheduler = peer.DDIMScheduler(timestep_spacing=rule)
        scheduler.set_timesteps(N)
        return scheduler.timesteps.numpy()

    def repaint_length(N, jump, resample):
        scheduler = peer.RePaintScheduler()
        scheduler.set_timesteps(N, jump, resample)
        return len(scheduler.timesteps)

    ddim = peer.DDIMScheduler(clip_sample=False)
    ddim.set_timesteps(1000)
    names = {
        "ddpm": peer.DDPMScheduler(clip_sample=False), "ddim": ddim, "DDPMScheduler": peer.DDPMScheduler,
        "ddpm_v": peer.DDPMScheduler(clip_sample=False, prediction_type="v_prediction"),
        "compute_snr": lambda s, i: compute_snr(s, torch.tensor([int(i)])), "timesteps": timesteps,
        "ClassifierFreeGuidance": ClassifierFreeGuidance, "repaint_length": repaint_length,
    }  # fmt: skip
    return common(torch, i, torch.tensor(i), **names)


@cache
def improved_diffusion(i):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch diffusers")
    gd = pytest.importorskip("improved_diffusion.gaussian_diffusion", reason="improved-diffusion is not installed")
    from improved_diffusion.respace import space_timesteps

    diffusion = gd.GaussianDiffusion(
        betas=gd.get_named_beta_schedule("linear", 1000), model_mean_type=gd.ModelMeanType.EPSILON,
        model_var_type=gd.ModelVarType.FIXED_SMALL, loss_type=gd.LossType.MSE,
    )  # fmt: skip
    names = {"diffusion": diffusion, "get_named_beta_schedule": gd.get_named_beta_schedule}
    names |= {"space_timesteps": space_timesteps, "net": lambda x, t: torch.from_numpy(EPS), "sorted": sorted}
    return common(torch, i, torch.full((2,), i), **names)


@cache
def lucidrains(i):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch diffusers")
    name = "denoising_diffusion_pytorch.denoising_diffusion_pytorch"
    peer = pytest.importorskip(name, reason="denoising-diffusion-pytorch is not installed")

    class Net(torch.nn.Module):
        channels, out_dim, self_condition = 1, 1, False
        random_or_learned_sinusoidal_cond = False

    diffusion = peer.GaussianDiffusion(
        Net(), image_size=4, timesteps=1000, beta_schedule="linear", objective="pred_noise", min_snr_loss_weight=True
    )
    names = {k: getattr(peer, k) for k in ("linear_beta_schedule", "cosine_beta_schedule", "sigmoid_beta_schedule")}
    return common(torch, i, torch.full((2,), i), diffusion=diffusion, linspace=np.linspace, **names)


def number(value, first):
    """As a NumPy array with channels last; one entry where a table was indexed with one time for each image."""
    value = np.asarray(value, dtype=np.float64)
    if value.ndim == 4 and value.shape[1] == 1:
        value = value.transpose(0, 2, 3, 1)
    if first.ndim == 0 and value.ndim:
        return value.ravel()[0]
    return value


CELLS = [(peer, row) for row in ROWS for peer in PEERS if getattr(row, peer)]


@pytest.mark.parametrize(("peer", "row"), CELLS, ids=[f"{peer}: {row.symbol}" for peer, row in CELLS])
def test_each_cell(peer, row):
    cell = getattr(row, peer)
    for i in TIMES:
        reference = eval(cell.lstrip("≠ "), globals()[peer](i))  # the expressions are those of our own table
        expected = np.asarray(eval(row.ours, ours(i)), dtype=np.float64)
        expected = expected.ravel()[0] if expected.size == 1 else expected
        reference = number(reference, np.asarray(expected))
        if cell.startswith("≠"):
            assert not np.allclose(reference, expected, rtol=0.1), "they agree now: take the mark away"
        else:
            np.testing.assert_allclose(reference, expected, rtol=2e-3, atol=2e-4)


def test_every_row_has_ours_and_a_peer():
    for row in ROWS:
        assert row.ours and any(getattr(row, peer) for peer in PEERS)


def test_it_prints_as_markdown():
    lines = markdown().splitlines()
    assert len(lines) == len(ROWS) + 2
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_the_page_is_the_table():
    from experiments import rosetta

    assert rosetta.PAGE.read_text() == rosetta.page(), "run python -m experiments.rosetta"
