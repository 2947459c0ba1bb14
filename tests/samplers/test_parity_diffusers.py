"""Parity with diffusers' schedulers, which count times from 0: their i is our t = i + 1. Differences that we expect are
tests too, so that we notice when they go away.

The noise of a stochastic step is that of diffusers: a torch generator's, put in the place of jax.random.normal.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch diffusers")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install torch diffusers")

from ddpm import (  # noqa: E402
    forward,
    oracle,
)
from ddpm.editing import inpaint  # noqa: E402
from ddpm.editing.inversion import decode, encode  # noqa: E402
from ddpm.guide import cfg, clip_x0, w_to_s  # noqa: E402
from ddpm.losses import weighting  # noqa: E402
from ddpm.networks import heads  # noqa: E402
from ddpm.sample import ddim_step, ddpm_step, make_variance, walk  # noqa: E402
from ddpm.samplers.respacing import zero_terminal_snr  # noqa: E402
from ddpm.samplers.solvers import begin, heun_step, multistep  # noqa: E402
from ddpm.samplers.variance import learned  # noqa: E402
from ddpm.schedule import cosine, linear, linear_ho, log_snr, make_times, sigmoid, snr  # noqa: E402

SHAPE = (4, 3, 3, 1)
KEY = jax.random.key(0)


def arrays(seed, n=1):
    return np.random.default_rng(seed).normal(size=(n, *SHAPE)).astype(np.float32)


def t_(a):
    return torch.from_numpy(np.array(a, dtype=np.float32))


@pytest.fixture
def their_noise(monkeypatch):
    """Both draw the same noise: jax.random.normal gives what a torch generator seeded with 7 gives."""
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(7)).numpy()
    monkeypatch.setattr(jax.random, "normal", lambda key, shape=(), dtype=float: jnp.asarray(noise))
    return lambda: torch.Generator().manual_seed(7)


# --- schedules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reference", "ours"), [("linear", linear), ("squaredcos_cap_v2", cosine)])
def test_alpha_bar(x64, reference, ours):
    """They multiply in float32: 1-ᾱ of i = 0 is off by up to 1e-3 of itself, ᾱ by 2e-5."""
    peer = diffusers.DDPMScheduler(beta_schedule=reference).alphas_cumprod.numpy()
    alpha_bar = np.asarray(ours().alpha_bar)[1:]
    np.testing.assert_allclose(peer, alpha_bar, rtol=2e-5)
    np.testing.assert_allclose(1 - peer, 1 - alpha_bar, rtol=1e-3)


def test_linear_of_theirs_is_linear_ho(x64):
    peer = diffusers.DDPMScheduler(100, beta_schedule="linear").alphas_cumprod.numpy()
    np.testing.assert_allclose(peer, linear_ho(100).alpha_bar[1:], rtol=2e-5)
    assert (
        abs(peer[-1] - linear(100).alpha_bar[-1]) > 0.3
    )  # expected: that of diffusers does not scale, and ends at .364


def test_sigmoid_is_another_schedule(x64):
    """Expected difference: diffusers has a sigmoid of β, ours (Jabri's) of ᾱ."""
    peer = diffusers.DDPMScheduler(beta_schedule="sigmoid").alphas_cumprod.numpy()
    assert np.abs(peer - sigmoid().alpha_bar[1:]).max() > 0.2


def test_zero_terminal_snr(x64):
    from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr

    betas = rescale_zero_terminal_snr(torch.from_numpy(np.array(linear().beta)[1:]))
    np.testing.assert_allclose(np.cumprod(1 - betas.numpy()), zero_terminal_snr(linear()).alpha_bar[1:], atol=1e-12)


@pytest.mark.parametrize("N", [10, 20, 50, 100, 30])
@pytest.mark.parametrize("rule", ["leading", "linspace", "trailing"])
def test_lists_of_times(N, rule):
    peer = diffusers.DDIMScheduler(timestep_spacing=rule)
    peer.set_timesteps(N)
    np.testing.assert_array_equal(make_times(1000, N, rule)[:-1], peer.timesteps.numpy() + 1)


def test_snr_and_min_snr():
    from diffusers.training_utils import compute_snr

    reference = compute_snr(diffusers.DDPMScheduler(), torch.arange(1000)).numpy()
    np.testing.assert_allclose(reference[1:], snr(linear())[2:], rtol=1e-3)
    weight = np.minimum(reference, 5) / reference  # the line of their training scripts
    np.testing.assert_allclose(weight[1:], weighting.min_snr(linear())[2:], rtol=1e-3)
    np.testing.assert_allclose(np.log(reference[1:]), log_snr(linear())[2:], atol=1e-3)


# --- forward ----------------------------------------------------------------------------------------------------------


def test_add_noise_and_velocity():
    peer, (x0, noise) = diffusers.DDPMScheduler(), arrays(0, 2)
    i = np.array([0, 10, 500, 999])
    t = jnp.asarray(i + 1)
    reference = peer.add_noise(t_(x0), t_(noise), torch.from_numpy(i)).numpy()
    x_t = forward.q_sample(linear(), x0, t, noise)
    np.testing.assert_allclose(x_t, reference, atol=2e-6)
    velocity = peer.get_velocity(t_(x0), t_(noise), torch.from_numpy(i)).numpy()
    np.testing.assert_allclose(heads.v_from_eps(linear(), x_t, t, noise)[:3], velocity[:3], atol=1e-4)
    # at ᾱ = 4e-5 v from ε divides a rounding error by √ᾱ = .006: their v is formed from x0 and ε directly
    np.testing.assert_allclose(heads.v_from_x0(linear(), x_t, t, x0)[1:], velocity[1:], atol=1e-4)


# --- steps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("i", [1, 20, 500, 999])
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("clip", [False, True])
def test_ancestral_step(their_noise, i, variance, clip):
    """1e-5, and more at the first times, where float32 leaves 1-ᾱ (multiplied up there) right to 1e-3 only."""
    peer, (x, eps) = diffusers.DDPMScheduler(variance_type=variance, clip_sample=clip), arrays(i, 2)
    reference = peer.step(t_(eps), i, t_(x), generator=their_noise()).prev_sample.numpy()
    denoiser = lambda x, t, c: jnp.asarray(eps)  # noqa: E731
    denoiser = clip_x0(denoiser, linear()) if clip else denoiser
    ours = ddpm_step(denoiser, linear(), variance=variance)(KEY, jnp.asarray(x), i + 1, i)
    np.testing.assert_allclose(ours, reference, atol={1: 5e-4, 20: 3e-5}.get(i, 1e-5))


@pytest.mark.parametrize("i", [1, 20, 500, 999])
def test_learned_range(their_noise, i):
    peer, (x, eps, v) = diffusers.DDPMScheduler(variance_type="learned_range", clip_sample=False), arrays(i, 3)
    v = np.tanh(v)
    both = np.concatenate([eps, v], -1).transpose(0, 3, 1, 2)  # they have channels first
    noise = torch.randn(SHAPE, generator=their_noise()).numpy().reshape(4, 1, 3, 3)
    x_first = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    reference = peer.step(t_(both), i, t_(x_first), generator=their_noise()).prev_sample.numpy().transpose(0, 2, 3, 1)
    variance = learned(lambda x, t, c: jnp.asarray(v))
    step = ddpm_step(lambda x, t, c: jnp.asarray(eps), linear(), variance=variance)
    np.testing.assert_allclose(noise.transpose(0, 2, 3, 1), jax.random.normal(KEY, SHAPE), atol=0)  # the same draw
    np.testing.assert_allclose(step(KEY, jnp.asarray(x), i + 1, i), reference, atol=2e-4 if i == 1 else 1e-5)


def test_the_first_variance_differs():
    """Expected difference at i = 0: they clamp β̃ = 0 to 1e-20 (log -46); ours is that of i = 1 (log -9.8), as Ho's."""
    peer = diffusers.DDPMScheduler(variance_type="fixed_small")
    x = jnp.zeros((1, 1))
    assert float(peer._get_variance(0)) == pytest.approx(1e-20)
    ours = make_variance("fixed_small")
    assert np.log(ours(linear(), x, 1, 0)) == pytest.approx(-9.817, abs=0.01)
    assert float(peer._get_variance(1)) == pytest.approx(float(ours(linear(), x, 2, 1)), rel=2e-3)


def test_fixed_large_log_is_still_nan():
    """Expected difference: √(log β) is not a number; we do not have that name."""
    peer = diffusers.DDPMScheduler(variance_type="fixed_large_log")
    out = peer.step(torch.zeros(1, 1), 500, torch.zeros(1, 1)).prev_sample
    assert torch.isnan(out).all()
    with pytest.raises(ValueError, match="Known: fixed_small, fixed_large"):
        make_variance("fixed_large_log")


@pytest.mark.parametrize("rule", ["leading", "trailing"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("clip", [False, True])
def test_ddim_step(their_noise, rule, eta, clip):
    """With `use_clipped_model_output` they derive ε again from the clipped x̂0, as we do."""
    peer = diffusers.DDIMScheduler(timestep_spacing=rule, clip_sample=clip)
    peer.set_timesteps(10)
    times = make_times(1000, 10, rule)
    for k in (0, 4, 9):
        x, eps = arrays(k, 2)
        i = int(peer.timesteps[k])
        reference = peer.step(
            t_(eps), i, t_(x), eta=eta, use_clipped_model_output=clip, generator=their_noise()
        ).prev_sample.numpy()  # fmt: skip
        denoiser = lambda x, t, c, eps=eps: jnp.asarray(eps)  # noqa: E731
        denoiser = clip_x0(denoiser, linear()) if clip else denoiser
        ours = ddim_step(denoiser, linear(), eta=eta)(KEY, jnp.asarray(x), int(times[k]), int(times[k + 1]))
        np.testing.assert_allclose(ours, reference, atol=5e-5 if k == 9 else 1e-5)


def test_without_the_flag_their_clipped_ddim_keeps_the_raw_eps():
    """Expected difference: by default they combine the clipped x̂0 with the unclipped ε."""
    peer, (x, eps) = diffusers.DDIMScheduler(clip_sample=True), arrays(0, 2)
    peer.set_timesteps(10)
    reference = peer.step(t_(eps), 900, t_(x)).prev_sample.numpy()
    ours = ddim_step(clip_x0(lambda x, t, c: jnp.asarray(eps), linear()), linear())(KEY, jnp.asarray(x), 901, 801)
    assert np.abs(ours - reference).max() > 0.1


def test_ddim_linspace_differs():
    """Expected difference: their step takes t - T//N for the next time, which on a linspace list is not on the list."""
    peer, (x, eps) = diffusers.DDIMScheduler(timestep_spacing="linspace", clip_sample=False), arrays(0, 2)
    peer.set_timesteps(10)
    times = make_times(1000, 10, "linspace")
    reference = peer.step(t_(eps), 999, t_(x)).prev_sample.numpy()
    step = ddim_step(lambda x, t, c: jnp.asarray(eps), linear())
    assert np.abs(step(KEY, jnp.asarray(x), times[0], times[1]) - reference).max() > 0.01  # 1000 -> 889 by the list
    np.testing.assert_allclose(
        step(KEY, jnp.asarray(x), 1000, 900), reference, atol=1e-5
    )  # 1000 -> 900 is what they do


def test_inversion_round_trip():
    """A constant ε, up and down: back to 1e-4 in float32. Theirs returns too, if its default clipping is off."""
    x0, eps = arrays(0, 2)
    denoiser = lambda x, t, c: jnp.asarray(eps)  # noqa: E731
    times = make_times(1000, 50, "leading")
    back = decode(denoiser, linear(), encode(denoiser, linear(), jnp.asarray(x0), times), times)
    np.testing.assert_allclose(back, x0, atol=1e-4)
    assert diffusers.DDIMInverseScheduler().config.clip_sample  # the usual cause of "inversion does not round-trip"


# --- solvers ----------------------------------------------------------------------------------------------------------


def gaussian_eps(alpha_bar, x, lam=0.25):
    return (1 - alpha_bar) ** 0.5 * x / (alpha_bar * lam + 1 - alpha_bar)


@pytest.mark.parametrize("N", [5, 20])
def test_dpm_solver_pp_2m(N):
    peer = diffusers.DPMSolverMultistepScheduler(
        timestep_spacing="trailing", algorithm_type="dpmsolver++", solver_order=2, final_sigmas_type="zero"
    )  # fmt: skip
    peer.set_timesteps(N)
    (x_T,) = arrays(0, 1)
    x = t_(x_T)
    for i in peer.timesteps:
        x = peer.step(gaussian_eps(peer.alphas_cumprod[i], x), i, x).prev_sample
    schedule = linear()
    eps = oracle.gaussian(np.zeros(9), 0.25).eps(schedule)
    ours = walk(multistep(eps, schedule), KEY, begin(jnp.asarray(x_T)), make_times(1000, N)).x
    np.testing.assert_allclose(ours, x.numpy(), atol=2e-4)


def test_heun():
    """Theirs is Karras's Heun in x̄ = x/√ᾱ; both ends of each step are on the same list."""
    peer = diffusers.HeunDiscreteScheduler(
        beta_schedule="linear", beta_start=1e-4, beta_end=0.02, timestep_spacing="trailing"
    )
    peer.set_timesteps(20)
    (x_T,) = arrays(0, 1)
    a_T = float(linear().alpha_bar[1000])
    x = t_(x_T / np.sqrt(a_T))
    for i in peer.timesteps:
        a = peer.alphas_cumprod[int(i)]
        x = peer.step(gaussian_eps(a, x * a**0.5), i, x).prev_sample
    schedule = linear()
    eps = oracle.gaussian(np.zeros(9), 0.25).eps(schedule)
    ours = walk(heun_step(eps, schedule), KEY, jnp.asarray(x_T), make_times(1000, 20))
    np.testing.assert_allclose(ours, x.numpy(), atol=2e-3)


# --- guidance and editing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_classifier_free_guidance(scale):
    from diffusers.guiders import ClassifierFreeGuidance

    x, eps_null, eps_c = arrays(0, 3)
    denoiser = lambda x, t, c: jnp.asarray(eps_null if c is None else eps_c)  # noqa: E731
    ours = cfg(denoiser, scale)(jnp.asarray(x), 5, jnp.zeros(4, int))
    for original, value in ((False, scale), (True, scale - 1)):
        if (original and np.isclose(value, 0)) or (not original and np.isclose(value, 1)):
            continue  # there they call the network once
        guider = ClassifierFreeGuidance(guidance_scale=value, use_original_formulation=original)
        guider.set_state(0, 10, torch.tensor(5))
        reference = guider.forward(t_(eps_c), t_(eps_null))
        reference = reference.pred if hasattr(reference, "pred") else reference[0]
        np.testing.assert_allclose(ours, reference.numpy(), atol=2e-6)
        assert w_to_s(scale - 1) == scale


def test_repaint_schedule():
    peer = diffusers.RePaintScheduler()
    peer.set_timesteps(250, jump_length=10, jump_n_sample=10)
    reference = peer.timesteps.numpy() // 4  # positions
    ours = inpaint.repaint_times(np.arange(250, -1, -1), 10, 10)
    np.testing.assert_array_equal(ours[1:], reference[: len(ours) - 1] + 1 - (reference[0] - 248))
