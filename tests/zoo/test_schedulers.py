"""Every scheduler of diffusers: its process is imported with equal values, or the class or field is refused by name."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm.samplers.generation import generate
from ddpm.schedule import make_times
from ddpm.zoo import diffusers as interop
from ddpm.zoo import model
from ddpm.zoo.diffusers_schedule import CLASSES, from_sampling, to_process, to_schedule

GOLDEN = Path(__file__).parent / "golden"
HO = {"beta_start": 1e-4, "beta_end": 0.02}


def alpha_bar(config):
    return np.asarray(model.make(to_process(config).schedule).alpha_bar)[1:]


def scheduler_names():
    try:
        import torch  # noqa: F401
        from diffusers import schedulers
        from diffusers.schedulers import deprecated
    except ImportError:
        return []
    found = {n for space in (schedulers, deprecated) for n in dir(space) if n.endswith("Scheduler")}
    return sorted(found)


@pytest.mark.parametrize("name", scheduler_names() or [pytest.param("", marks=pytest.mark.skip("needs diffusers"))])
def test_each_scheduler_is_imported_right_or_refused(name):
    """With its own defaults, Ho et al.'s β, other β, the cosine schedule, and trained at zero terminal SNR."""
    import diffusers

    imported, zero = 0, {"rescale_betas_zero_snr": True}
    scaled = {"beta_schedule": "scaled_linear", "beta_start": 0.001, "beta_end": 0.015}
    listed = {"trained_betas": np.linspace(1e-4, 0.05, 1000).tolist()}
    for fields in ({}, HO, {"beta_schedule": "squaredcos_cap_v2"}, scaled, listed, HO | zero, scaled | zero):
        config = {"_class_name": name} | fields
        try:
            peer = getattr(diffusers, name)(**fields)
            config = json.loads(peer.to_json_string())
        except Exception:  # it lacks the field, or a package: then its name alone is asked
            peer = None
        if peer is not None and not fields.keys() <= config.keys():
            continue
        if config.get("rescale_betas_zero_snr"):
            config["prediction_type"] = "v_prediction"
        if name not in CLASSES:
            with pytest.raises(ValueError, match=f"_class_name is '?{name[:10]}"):
                to_process(config)
            continue
        ours = alpha_bar(config)
        if peer is not None:
            np.testing.assert_allclose(
                ours, np.asarray(peer.alphas_cumprod), rtol=2e-5, atol=2e-6 if not ours[-1] else 0
            )
            imported += 1
    assert imported >= (4 if name in CLASSES and name != "DPMSolverSDEScheduler" else 0)  # which needs torchsde


def test_no_class_name_is_no_scheduler():
    for config in ({}, {"num_train_timesteps": 1000}, {"_class_name": None}, {"_class_name": ["DDPMScheduler"]}):
        with pytest.raises(ValueError, match="_class_name is"):
            to_process(config)


@pytest.mark.parametrize(
    "name", ["FlowMatchEulerDiscreteScheduler", "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler",
             "ScoreSdeVeScheduler", "CMStochasticIterativeScheduler", "LCMScheduler"]
)  # fmt: skip
def test_another_process_is_refused_by_name(name):
    with pytest.raises(ValueError, match=name[:10]):
        to_schedule({"_class_name": name, "num_train_timesteps": 1000, "shift": 1.0})


def config(**fields):
    return {"_class_name": "DDPMScheduler"} | fields


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"num_train_timesteps": 10**9}, "num_train_timesteps is 1000000000"),
        ({"num_train_timesteps": "1000"}, "num_train_timesteps is '1000'"),
        ({"num_train_timesteps": 1000.5}, "num_train_timesteps is 1000.5"),
        ({"num_train_timesteps": 0}, "num_train_timesteps is 0"),
        ({"beta_start": None}, "beta_start is None"),
        ({"beta_end": float("nan")}, "beta_end is nan"),
        ({"beta_schedule": []}, "beta_schedule is"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule is 'sigmoid'"),
        ({"beta_end": 1.5}, "beta_end is 1.5"),
        ({"trained_betas": [0.1]}, "beta has 1 numbers, but T is 1000"),
        ({"trained_betas": ["a"]}, r"trained_betas\[0\] is 'a'"),
        ({"timestep_type": "continuous", "timestep_spacing": "log"}, "timestep_type is .*; timestep_spacing is 'log'"),
        ({"prediction_type": "flow_prediction"}, "prediction_type is 'flow_prediction'"),
        ({"prediction_type": {}}, "prediction_type is"),
        ({"use_flow_sigmas": True}, "use_flow_sigmas is True"),
        ({"timestep_type": "continuous"}, "timestep_type is 'continuous'"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr is True"),
        ({"snr_shift_scale": 3.0}, "snr_shift_scale is 3.0, only 'no such field'"),
        ({"variance_type": "fixed_large_log"}, "variance_type is 'fixed_large_log'"),
        ({"variance_type": "learned"}, "variance_type is 'learned'"),
        ({"timestep_spacing": "log"}, "timestep_spacing is 'log'"),
        ({"clip_sample": "yes"}, "clip_sample is 'yes'"),
        ({"clip_sample_range": 0}, "clip_sample_range is 0"),
        ({"steps_offset": -1}, "steps_offset is -1"),
    ],
)
def test_a_field_that_means_another_function_is_named(fields, words):
    with pytest.raises(ValueError, match=words):
        to_process(config(**fields))


def test_scaled_linear_is_linear_in_the_root_of_beta():
    card = to_process(config(beta_schedule="scaled_linear", beta_start=0.01, beta_end=0.04, num_train_timesteps=5))
    np.testing.assert_allclose(np.sqrt(card.schedule.beta), [0.1, 0.125, 0.15, 0.175, 0.2], rtol=1e-12)


def test_zero_terminal_snr_is_honoured_for_v():
    """Lin et al. (2023), Alg. 1: ᾱ_T = 0, ᾱ_1 stays, √ᾱ is an affine function of the plain one."""
    plain = np.sqrt(alpha_bar(config()))
    shifted = np.sqrt(alpha_bar(config(rescale_betas_zero_snr=True, prediction_type="v_prediction")))
    assert shifted[-1] == 0 and shifted[0] == pytest.approx(plain[0], abs=1e-7)
    np.testing.assert_allclose(shifted, (plain - plain[-1]) * plain[0] / (plain[0] - plain[-1]), atol=1e-6)


def put(folder, **fields):
    file = folder / interop.SCHEDULER
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.fixture
def folder(tmp_path):
    """A copy of a golden folder, to be changed."""
    shutil.copytree(GOLDEN / "unet2d_plain", tmp_path / "peer")
    return tmp_path / "peer"


@pytest.mark.slow
def test_a_v_network_comes_through_import_save_and_load(folder, tmp_path):
    put(folder, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    m = interop.load(folder)
    model.save(tmp_path / "m", m, m.card)
    back = model.load(tmp_path / "m")
    assert back.predict == m.predict == "v" and back.schedule.alpha_bar[-1] == 0
    np.testing.assert_array_equal(back.schedule.alpha_bar, m.schedule.alpha_bar)
    assert back.sampling == m.sampling and back.sampling.rule == "trailing"
    # ε̂ = √ᾱ v̂ + √(1-ᾱ) x_t, which at ᾱ_T = 0 is x_t itself
    x, t = jnp.ones((2, *m.image_shape)), jnp.array([1000, 400])
    a = m.schedule.alpha_bar[t].reshape(2, 1, 1, 1)
    eps, v = jax.jit(lambda eps, net: (eps(x, t, None), net(x, t, None)))(m.eps, m.net)
    np.testing.assert_allclose(eps, jnp.sqrt(a) * v + jnp.sqrt(1 - a) * x, atol=1e-5)
    np.testing.assert_allclose(eps[0], x[0], atol=1e-6)


def test_settings_of_the_sampler_are_kept_and_become_the_defaults(folder):
    put(folder, clip_sample=False, timestep_spacing="leading", steps_offset=1, variance_type="fixed_large")
    m = interop.load(folder)
    np.testing.assert_array_equal(m.how(steps=5).times(m.schedule)[:-1] - 1, [801, 601, 401, 201, 1])  # as published
    np.testing.assert_array_equal(m.how(steps=10, rule="trailing").times(m.schedule), make_times(1000, 10))
    with pytest.raises(ValueError, match="leads above T = 1000"):
        m.how(steps=1000).times(m.schedule)
    assert m.variance == "fixed_large" and m.in_range(m.eps) is not None
    x, t = 3 * jnp.ones((1, *m.image_shape)), jnp.array([900])
    far = lambda x, t, c: -2 * jnp.ones_like(x)  # noqa: E731
    assert jnp.all(m.in_range(far)(x, t, None) == far(x, t, None))
    put(folder, clip_sample=True, clip_sample_range=0.5)
    m = interop.load(folder)
    a = m.schedule.alpha_bar[900]
    x0 = (x - jnp.sqrt(1 - a) * m.in_range(far)(x, t, None)) / jnp.sqrt(a)
    np.testing.assert_allclose(x0, 0.5, atol=1e-4)
    put(folder, variance_type="learned_range")
    with pytest.raises(interop.Misfit, match="variance_type is learned_range, but config"):
        interop.load(folder)


@pytest.mark.slow
def test_drawn_images_follow_the_settings(folder):
    """The same step, by hand: times of `leading`, and x̂0 within ±.5."""
    put(folder, timestep_spacing="leading", clip_sample_range=0.5)
    m = interop.load(folder)
    m = dataclasses.replace(m, params=jax.tree.map(jnp.zeros_like, m.params))  # ε̂ = 0
    got = generate(m.eps, m.schedule, jax.random.key(0), m.image_shape, n=2, how=m.how(steps=2))
    assert np.abs(got).max() == pytest.approx(0.5, abs=1e-3)
    assert len(m.how(steps=2).times(m.schedule)) == 3 and m.how(steps=2).times(m.schedule)[0] == 501


def test_settings_survive_the_way_out_and_in_again(folder, tmp_path):
    put(folder, thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=2.0, steps_offset=3)
    m = interop.load(folder)
    assert m.sampling.percentile == pytest.approx(90) and m.sampling.most == 2.0
    interop.save(tmp_path / "out", m)
    assert interop.load(tmp_path / "out").sampling == m.sampling
    written = json.loads((tmp_path / "out" / interop.SCHEDULER).read_text())
    want = dataclasses.replace(m.sampling, peer=None)
    assert dataclasses.replace(to_process(written).sampling, peer=None) == want
    assert from_sampling(want).items() <= written.items()


@pytest.mark.parametrize("predict", ["v_prediction", "sample"])
@pytest.mark.parametrize("fields", [{}, {"beta_schedule": "scaled_linear"}, {"trained_betas": [0.1, 0.2, 0.3]}])
def test_a_process_survives_the_way_out_and_in_again(folder, tmp_path, predict, fields):
    put(folder, prediction_type=predict, rescale_betas_zero_snr=True, num_train_timesteps=3, **fields)
    m = interop.load(folder)
    interop.save(tmp_path / "out", m)
    written = to_process(json.loads((tmp_path / "out" / interop.SCHEDULER).read_text()))
    assert interop.PREDICT[predict] == m.predict == written.predict == interop.load(tmp_path / "out").predict
    assert m.schedule.alpha_bar[-1] == 0
    for again in (model.make(written.schedule), interop.load(tmp_path / "out").schedule):
        np.testing.assert_array_equal(again.alpha_bar, m.schedule.alpha_bar)


def test_dynamic_thresholding_is_the_peers():
    torch = pytest.importorskip("torch", reason="needs PyTorch (pip install torch diffusers)")
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers (pip install torch diffusers)")
    peer = diffusers.DDIMScheduler(thresholding=True, dynamic_thresholding_ratio=0.8, sample_max_value=1.5)
    unet = interop.load(GOLDEN / "unet2d_plain").unet
    sampling = dataclasses.asdict(to_process(json.loads(peer.to_json_string())).sampling)
    card = {"schedule": {"name": "linear_ho", "T": 1000}, "sampling": sampling}
    m = model.Model("m", unet, {}, model.make(to_process(config()).schedule), (), card)
    x, eps = np.random.default_rng(0).normal(size=(2, 2, 8, 8, 3)).astype(np.float32)
    t, a = jnp.array([500, 500]), m.schedule.alpha_bar[500]
    got = m.in_range(lambda x, t, c: jnp.asarray(eps))(jnp.asarray(x), t, None)
    x0 = (x - np.sqrt(1 - a) * got) / np.sqrt(a)
    want = peer._threshold_sample(torch.from_numpy(np.asarray((x - np.sqrt(1 - a) * eps) / np.sqrt(a))))
    np.testing.assert_allclose(x0, want.numpy(), atol=1e-4)
