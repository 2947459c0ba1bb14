"""Weights in and out: diffusers' own folders give diffusers' own answers, and its loader reads ours."""

import dataclasses
import json
import shutil
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ddpm.cli import start
from ddpm.config import UNETS, UNetConfig
from ddpm.networks.inspect import count, param_shapes
from ddpm.schedule import make_schedule
from ddpm.tools.files import flatten
from ddpm.tools.ops import time_embedding
from ddpm.zoo import diffusers as interop
from ddpm.zoo import diffusers_config, model
from ddpm.zoo.cards import ScheduleCard

GOLDEN = Path(__file__).parent / "golden"
TINY = UNetConfig(8, 1, channels=8, multipliers=(1, 2), blocks=1, attention=(4,), groups=4, num_classes=3)


def run(m, x, t, c=None):
    return np.asarray(jax.jit(lambda e, *a: e(*a))(m.net, jnp.asarray(x), jnp.asarray(t), c))


def nhwc(a):
    return np.asarray(a).transpose(0, 2, 3, 1)


def random_model(unet, schedule="cosine", T=1000, seed=0, size=0.15):
    """A model with weights that are nowhere zero; its norms scale by about one."""
    rng = np.random.default_rng(seed)

    def draw(path, a):
        return np.float32((path[-1].key == "scale") + size * rng.normal(size=a.shape))

    params = jax.tree_util.tree_map_with_path(draw, param_shapes(unet))
    classes = tuple("abcdefghij"[: unet.num_classes])
    card = {"schedule": {"name": schedule, "T": T}}
    return model.Model("random", unet, params, make_schedule(schedule, T), classes, card)


@pytest.fixture
def folder(tmp_path):
    """A copy of a golden folder, to be spoilt."""
    shutil.copytree(GOLDEN / "unet2d_plain", tmp_path / "peer")
    return tmp_path / "peer"


def change(folder, **fields):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


# --- in ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["unet2d_plain", "unet2d_classes"])
def test_a_folder_of_the_peer_gives_the_peers_answer_without_the_peer(name):
    io = np.load(GOLDEN / name / "io.npz")
    m = interop.load(GOLDEN / name, null_label="last")
    c = jnp.asarray(io["c"], jnp.int32) if m.num_classes else None
    got = run(m, nhwc(io["x"]), io["t"] + 1, c)  # its noise levels 0…T-1 are our 1…T
    assert np.abs(io["y"]).max() > 0.3
    np.testing.assert_allclose(got, nhwc(io["y"]), atol=2e-5)
    assert m.card["schedule"]["name"] == {"unet2d_plain": "linear_ho", "unet2d_classes": "cosine"}[name]
    assert m.unet.learned_variance == m.unet.scale_shift == (name == "unet2d_classes")


def test_the_large_network_has_the_released_names_and_shapes():
    wanted = {k: tuple(v) for k, v in json.loads((GOLDEN / "ddpm_cifar10_32.json").read_text()).items()}
    layout = interop.layouts(UNETS["cifar10"])
    assert len(wanted) == 328 and count(param_shapes(UNETS["cifar10"])) == 35_746_307
    assert dict(layout.values()) == wanted
    assert len({peer for peer, _ in layout.values()}) == len(layout)


def test_the_released_configuration_is_the_cifar10_preset():
    """The content of config.json of google/ddpm-cifar10-32."""
    config = {
        "_class_name": "UNet2DModel",
        "_diffusers_version": "0.1.1",
        "act_fn": "silu",
        "attention_head_dim": None,
        "block_out_channels": [128, 256, 256, 256],
        "center_input_sample": False,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        "downsample_padding": 0,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "in_channels": 3,
        "layers_per_block": 2,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-06,
        "norm_num_groups": 32,
        "out_channels": 3,
        "sample_size": 32,
        "time_embedding_type": "positional",
        "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    }
    assert diffusers_config.to_unet(config) == UNETS["cifar10"]


def test_old_attention_names_and_half_precision_load(folder):
    m = interop.load(folder)
    new = {v: k for k, v in interop.OLD_NAMES.items()}
    tensors = load_file(folder / interop.WEIGHTS)
    old = {}
    for name, a in tensors.items():
        for today, before in new.items():
            name = name.replace(f".{today}.", f".{before}.")
        old[name] = a.astype(np.float16)
    assert old.keys() != tensors.keys()
    save_file(old, folder / interop.WEIGHTS)
    for a, b in zip(jax.tree.leaves(interop.load(folder).params), jax.tree.leaves(m.params), strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b.astype(np.float16).astype(np.float32))


def test_unet_and_scheduler_in_folders_of_their_own(tmp_path):
    (tmp_path / "scheduler").mkdir()
    shutil.copytree(GOLDEN / "unet2d_classes", tmp_path / "unet")
    (tmp_path / "unet" / interop.SCHEDULER).rename(tmp_path / "scheduler" / interop.SCHEDULER)
    m = interop.load(tmp_path, null_label="last")
    assert m.card["schedule"] == {"name": "cosine", "T": 100} and m.num_classes == 3


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"freq_shift": 2}, "freq_shift is 2; wanted a whole number in 0 to 1"),
        ({"attention_head_dim": 7}, "channels 6 * 2 is not divisible by head_width 7"),
        ({"norm_eps": -1.0}, "norm_eps is -1.0"),
        ({"downsample_padding": 2}, "downsample_padding is 2"),
        ({"act_fn": "gelu"}, "act_fn is 'gelu'"),
        ({"block_out_channels": [6, 9]}, "block_out_channels"),
        ({"up_block_types": ["UpBlock2D", "UpBlock2D"]}, "up_block_types"),
        ({"down_block_types": ["ResnetDownsampleBlock2D", "DownBlock2D"]}, "down_block_types"),
        ({"num_class_embeds": 0}, "num_class_embeds is 0"),
        ({"sample_size": None}, "the file leaves the size open; say it with --size"),
        ({"sample_size": 7}, "sample_size is 7, only 'multiples of 2'"),
        ({"resnet_time_scale_shift": "spatial"}, "resnet_time_scale_shift is 'spatial'"),
        ({"time_embedding_dim": 7}, "time_embedding_dim is 7"),
        ({"out_channels": 5}, "out_channels is 5"),
        ({"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel"),
        ({"norm_num_groups": 4, "attn_norm_num_groups": 4}, "not divisible by groups"),
    ],
)
def test_a_field_that_our_network_cannot_follow_is_named(folder, fields, words):
    change(folder, **fields)
    with pytest.raises(interop.Misfit) as e:
        interop.load(folder)
    assert words in str(e.value) and "config.json" in str(e.value)


def test_one_message_names_every_field_of_both_files(folder):
    change(folder, act_fn="gelu", center_input_sample=True, time_embedding_dim=7, dancing=True, out_channels=5)
    file = folder / interop.SCHEDULER
    wrong = {"prediction_type": "flow_prediction", "beta_schedule": "sigmoid"}
    file.write_text(json.dumps(json.loads(file.read_text()) | wrong))
    with pytest.raises(interop.Misfit) as e:
        interop.load(folder)
    for field in ("act_fn", "center_input_sample", "time_embedding_dim", "dancing", "out_channels", *wrong):
        assert str(e.value).count(f"{field} is") == 1


def test_a_class_table_without_a_row_for_no_class(folder):
    change(folder, num_class_embeds=4)
    file = folder / interop.WEIGHTS
    save_file(load_file(file) | {"class_embedding.weight": np.eye(4, 24, dtype=np.float32)}, file)
    m = interop.load(folder)
    assert m.num_classes == 4 and m.guided(None) == 1 and m.guided(1) == 1
    with pytest.raises(ValueError, match=r"guidance is 2, but 'peer' has no label for no class"):
        m.guided(2)
    x, t = jnp.zeros((2, 8, 8, 3)), jnp.array([1, 2])
    with pytest.raises(ValueError, match="no label for no class; give the classes c"):
        m.net(x, t, None)
    with pytest.raises(ValueError, match=r"outside 0\.\.3"):
        m.net(x, t, jnp.array([0, 4]))
    assert interop.load(folder, null_label="last").num_classes == 3


def test_a_tensor_that_does_not_fit_is_named(folder):
    file = folder / interop.WEIGHTS
    whole = load_file(file)
    save_file({k: a for k, a in whole.items() if k != "conv_in.bias"}, file)
    with pytest.raises(interop.Misfit, match=r"conv_in\.bias is missing"):
        interop.load(folder)
    save_file(whole | {"extra.weight": np.zeros(3, np.float32)}, file)
    with pytest.raises(interop.Misfit, match=r"extra\.weight does not belong"):
        interop.load(folder)
    save_file(whole | {"conv_in.bias": np.zeros(3, np.float32)}, file)
    with pytest.raises(interop.Misfit, match=r"conv_in\.bias has shape \(3,\), this network wants \(6,\)"):
        interop.load(folder)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(interop.Misfit, match="damaged or cut short"):
        interop.load(folder)
    file.rename(folder / "diffusion_pytorch_model.bin")
    with pytest.raises(interop.Misfit, match=r"Pickled weights \(\.bin\) are not read.*save_pretrained"):
        interop.load(folder)


def test_a_folder_without_schedule_wants_one(folder):
    (folder / interop.SCHEDULER).unlink()
    with pytest.raises(interop.Misfit, match="--schedule linear_ho"):
        interop.load(folder)
    assert interop.load(folder, schedule="linear_ho", T=50).schedule.T == 50


def test_the_hub_is_asked_for_owner_and_name_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub = types.SimpleNamespace(snapshot_download=lambda repo, allow_patterns: GOLDEN / "unet2d_plain")
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert interop.load("owner/tiny").name == "tiny"
    with pytest.raises(interop.Misfit, match="neither a folder nor"):
        interop.load("no such folder")

    def offline(repo, allow_patterns):
        raise OSError("no route to the host")

    hub.snapshot_download = offline
    with pytest.raises(interop.Misfit, match=r"could not be fetched.*no route to the host.*Without network"):
        interop.load("owner/tiny")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(interop.Misfit, match=r"pip install huggingface_hub"):
        interop.load("owner/tiny")


# --- out --------------------------------------------------------------------------------------------------------------


def test_turned_time_is_the_next_time():
    kernel = np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)
    t = jnp.array([0, 1, 10, 100])
    np.testing.assert_allclose(
        time_embedding(t, 16) @ interop.turn_time(kernel), time_embedding(t + 1, 16) @ kernel, atol=2e-5
    )


VARIANTS = [
    {},
    {"num_classes": 0, "attention": (), "blocks": 2},
    {"patch": 2, "image_size": 16, "image_channels": 3, "learned_variance": True},
    {"scale_shift": True, "attention": (8,), "image_width": 4, "head_width": 2,
     "middle_groups": 0, "norm_eps": 1e-3, "time_shift": 0, "symmetric": True, "null_label": False},
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS, ids=["classes", "no classes", "patch", "film"])
def test_export_then_import_is_the_same_denoiser(variant, tmp_path):
    m = random_model(dataclasses.replace(TINY, **variant))
    interop.save(tmp_path / "e", m)
    back = interop.load(tmp_path / "e")
    assert (back.unet, back.classes, back.card["schedule"]) == (m.unet, m.classes, m.card["schedule"])
    x = np.random.default_rng(1).normal(size=(3, *m.image_shape)).astype(np.float32)
    t = np.array([1, 500, 1000])
    c = jnp.array([0, 1, 2]) if m.num_classes else None
    np.testing.assert_allclose(run(back, x, t, c), run(m, x, t, c), atol=1e-4)
    interop.save(tmp_path / "again", back)  # counts from zero already: nothing is turned twice
    one, two = (load_file(tmp_path / k / interop.WEIGHTS) for k in ("e", "again"))
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


def test_an_export_does_not_write_over_anything(tmp_path):
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "mine").write_text("")
    with pytest.raises(interop.Misfit, match="not empty"):
        interop.save(tmp_path / "e", random_model(TINY))
    assert [p.name for p in (tmp_path / "e").iterdir()] == ["mine"]


def test_what_the_peer_cannot_be_is_not_exported(tmp_path):
    """Its time embedding is as wide as its first level."""
    with pytest.raises(interop.Misfit, match=r"multipliers \(2, 4\)"):
        interop.save(tmp_path / "e", random_model(dataclasses.replace(TINY, multipliers=(2, 4))))
    assert not (tmp_path / "e").exists()
    with pytest.raises(interop.Misfit, match="images of 7x8 cannot be exported: our network pads them to 8x8"):
        interop.save(tmp_path / "e", random_model(dataclasses.replace(TINY, image_size=7, image_width=8)))


@pytest.mark.parametrize("name, T", [("linear", 200), ("linear_ho", 1000), ("cosine", 100)])
def test_schedules_have_names_on_both_sides(name, T):
    there = diffusers_config.from_schedule(ScheduleCard(name, T), make_schedule(name, T))
    assert diffusers_config.to_schedule(there) == (name, T)


def test_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert start.main(["import", str(GOLDEN / "unet2d_plain")]) == 0
    assert "ddpm sample --model out/unet2d_plain" in capsys.readouterr().out
    io = np.load(GOLDEN / "unet2d_plain" / "io.npz")
    m = model.load("out/unet2d_plain")
    np.testing.assert_allclose(run(m, nhwc(io["x"]), io["t"] + 1), nhwc(io["y"]), atol=2e-5)
    assert start.main(["export", "out/unet2d_plain", "--to", "e"]) == 0
    first, again = (load_file(f / interop.WEIGHTS) for f in (GOLDEN / "unet2d_plain", tmp_path / "e"))
    assert first.keys() == again.keys() and all((first[k] == again[k]).all() for k in first)
    assert start.main(["import", str(GOLDEN / "unet2d_plain")]) == 2 and "is there already" in capsys.readouterr().err
    assert start.main(["import", "nothing-here"]) == 2 and "Traceback" not in capsys.readouterr().err


# --- compared with diffusers ------------------------------------------------------------------------------------------

CONFIGS = {
    "16² colour, two levels of attention": UNetConfig(
        16, 3, channels=16, multipliers=(1, 2, 2), attention=(16, 8), groups=8
    ),
    "28² grey, three blocks": UNetConfig(28, 1, channels=16, multipliers=(1, 2), blocks=3, attention=(14,), groups=4),
    "8², four levels, no attention but the middle's": UNetConfig(
        8, 2, channels=8, multipliers=(1, 1, 2, 4), blocks=1, attention=(), groups=8
    ),
    "classes, FiLM, learned variance": UNetConfig(
        12,
        1,
        channels=16,
        multipliers=(1, 2),
        blocks=1,
        attention=(6,),
        groups=8,
        num_classes=4,
        scale_shift=True,
        learned_variance=True,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("unet", CONFIGS.values(), ids=CONFIGS.keys())
def test_the_peer_reads_our_folder_and_answers_the_same(unet, tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch (pip install torch diffusers)")
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers (pip install torch diffusers)")
    m = random_model(unet, size=0.1)
    interop.save(tmp_path / "e", m)
    peer = diffusers.UNet2DModel.from_pretrained(tmp_path / "e")
    x = np.random.default_rng(1).normal(size=(3, *m.image_shape)).astype(np.float32)
    t, c = np.array([1, 400, 1000]), np.array([0, unet.num_classes // 2, unet.num_classes], np.int32)
    labels = torch.from_numpy(c) if unet.num_classes else None
    with torch.no_grad():
        want = nhwc(peer(torch.from_numpy(x.transpose(0, 3, 1, 2)), torch.from_numpy(t - 1), labels).sample.numpy())
    got = run(m, x, t, jnp.asarray(c) if unet.num_classes else None)
    assert np.abs(want).max() > 0.1
    np.testing.assert_allclose(got, want, atol=2e-5)


def peer_config(rng):
    """A random `UNet2DModel`, of all the fields that are imported."""
    levels, groups = int(rng.integers(1, 3)), int(rng.choice([2, 4]))
    attend, image = rng.integers(2, size=levels), int(rng.integers(1, 4))
    least = 2**levels
    return {
        "sample_size": [None, least, (least, least // 2 * 3)][rng.integers(3)],
        "in_channels": image,
        "out_channels": image * int(rng.integers(1, 3)),
        "block_out_channels": [int(rng.choice([4, 8]))] + [8 * int(rng.integers(1, 4)) for _ in range(levels - 1)],
        "down_block_types": ["Attn" * a + "DownBlock2D" for a in attend],
        "up_block_types": ["Attn" * a + "UpBlock2D" for a in attend[::-1]],
        "layers_per_block": int(rng.integers(1, 3)),
        "flip_sin_to_cos": bool(rng.integers(2)),
        "freq_shift": int(rng.integers(2)),
        "downsample_padding": int(rng.integers(2)),
        "norm_eps": float(rng.choice([1e-6, 1e-5, 1e-3])),
        "attention_head_dim": [None, 2, 4][rng.integers(3)],
        "norm_num_groups": groups,
        "attn_norm_num_groups": [None, groups, 2][rng.integers(3)],
        "resnet_time_scale_shift": ["default", "scale_shift"][rng.integers(2)],
        "add_attention": bool(rng.integers(2)),
        "num_class_embeds": [None, 3][rng.integers(2)],
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_a_random_network_of_the_peer_is_imported_with_its_answers(seed, tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch (pip install torch diffusers)")
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers (pip install torch diffusers)")
    rng = np.random.default_rng(seed)
    fields = peer_config(rng)
    peer = diffusers.UNet2DModel(**fields).eval()
    with torch.no_grad():  # weights that are nowhere zero
        for name, p in peer.named_parameters():
            p.copy_(torch.from_numpy(rng.normal("norm" in name and name.endswith("weight"), 0.15, p.shape)))
    peer.save_pretrained(tmp_path)
    size = 0 if fields["sample_size"] else 2 ** len(fields["block_out_channels"])
    m = interop.load(tmp_path, schedule="linear_ho", size=size)
    x = rng.normal(size=(3, *m.image_shape)).astype(np.float32)
    t, c = np.array([0, 400, 999]), np.array([0, 2, 1]) if m.num_classes else None
    with torch.no_grad():
        labels = None if c is None else torch.from_numpy(c)
        want = nhwc(peer(torch.from_numpy(x.transpose(0, 3, 1, 2)), torch.from_numpy(t), labels).sample.numpy())
    assert np.abs(want).max() > 0.3
    np.testing.assert_allclose(run(m, x, t + 1, None if c is None else jnp.asarray(c)), want, atol=2e-5)


def test_the_peers_pipeline_runs_on_our_folder(tmp_path):
    pytest.importorskip("torch", reason="needs PyTorch (pip install torch diffusers)")
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers (pip install torch diffusers)")
    m = random_model(dataclasses.replace(TINY, num_classes=0), schedule="linear", T=100, size=0.05)
    interop.save(tmp_path / "e", m)
    pipe = diffusers.DDPMPipeline.from_pretrained(tmp_path / "e")
    np.testing.assert_allclose(pipe.scheduler.alphas_cumprod, m.schedule.alpha_bar[1:], rtol=1e-4)
    pipe.set_progress_bar_config(disable=True)
    assert np.isfinite(pipe(num_inference_steps=2, output_type="np").images).all()


@pytest.mark.slow
def test_pixels_of_the_export_are_those_of_pixel_unshuffle(tmp_path):
    """A network on blocks of 2 x 2 pixels is one of four times the channels on torch's `pixel_unshuffle`."""
    torch = pytest.importorskip("torch", reason="needs PyTorch (pip install torch diffusers)")
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers (pip install torch diffusers)")
    unet = dataclasses.replace(TINY, patch=2, image_size=16, image_channels=3, num_classes=0, learned_variance=True)
    m = random_model(unet, size=0.1)
    interop.save(tmp_path / "e", m)
    peer = diffusers.UNet2DModel.from_pretrained(tmp_path / "e")
    x = np.random.default_rng(1).normal(size=(2, 16, 16, 3)).astype(np.float32)
    with torch.no_grad():
        blocks = torch.nn.functional.pixel_unshuffle(torch.from_numpy(x.transpose(0, 3, 1, 2)), 2)
        want = nhwc(torch.nn.functional.pixel_shuffle(peer(blocks, torch.tensor([9, 499])).sample, 2).numpy())
    np.testing.assert_allclose(run(m, x, np.array([10, 500])), want, atol=2e-5)


def test_exported_names_are_flat(tmp_path):
    m = random_model(TINY)
    assert set(interop.to_tensors(m)) == {peer for peer, _ in interop.layouts(TINY).values()}
    assert len(flatten(m.params)) == len(interop.to_tensors(m))
