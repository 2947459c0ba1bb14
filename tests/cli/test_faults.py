"""What the commands refuse, and when: before the long work, in one sentence, with nothing half done."""

import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import random_params

from ddpm.cli import images, mine, options, start
from ddpm.config import UNetConfig
from ddpm.datasets import sources
from ddpm.evaluation import model as ev
from ddpm.sample import Sampling
from ddpm.schedule import cosine
from ddpm.tools import check
from ddpm.training import loop
from ddpm.zoo import model

pytestmark = pytest.mark.filterwarnings("ignore")
UNET = UNetConfig(8, 1, channels=8, multipliers=(1,), blocks=1, attention=(), groups=4, num_classes=3)


def saved(path, params, unet=UNET):
    """A model with 20 noise levels."""
    m = model.Model(path.name, unet, params, cosine(20), tuple("abc"[: unet.num_classes]), {})
    model.save(path, model.dataclasses.replace(m, card={"schedule": {"name": "cosine"}}), {"train": {"p_uncond": 0.1}})
    return str(path)


@pytest.fixture(scope="module")
def twenty(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("weights") / "twenty", random_params(UNET))


def refused(capsys, *args):
    assert start.main([*map(str, args)]) == 2
    return capsys.readouterr().err


@pytest.mark.slow
def test_a_chain_shorter_than_fifty_steps_is_walked_whole(twenty, tmp_path, capsys, monkeypatch):
    """The number of steps is min(50, T) where it is not given: in sample, typicality and mine."""
    monkeypatch.chdir(tmp_path)
    assert start.main(["sample", "--model", twenty, "--n", "2", "--npz", "x.npz"]) == 0
    assert start.main(["typicality", "--model", twenty, "--n", "2", "--draws", "4"]) == 0
    assert "(DDIM, 20 steps, guidance 2, seed 0)" in capsys.readouterr().out
    assert "steps" in refused(capsys, "typicality", "--model", twenty, "--n", "2", "--steps", "21")
    monkeypatch.setattr(images, "generate", lambda *a: np.zeros((a[6], 8, 8, 1), np.float32))
    own, others = mine.images(options.Mine("a", n=5, others=1, steps=7), model.load(twenty), 0)
    assert (len(own.x), list(others.c)) == (5, [1]) and "(DDIM, 7 steps" in own.source


def test_a_guidance_that_nothing_follows_is_refused(twenty, tmp_path, capsys, monkeypatch):
    bare = model.dataclasses.replace(UNET, num_classes=0)
    plain = saved(tmp_path / "plain", random_params(bare), bare)
    seven = ["--guidance", "7", "--out", tmp_path / "x.png"]
    assert "guidance is 7, but no class" in refused(capsys, "sample", "--model", twenty, "--label", "none", *seven)
    assert "guidance is 7, but no class" in refused(capsys, "sample", "--model", plain, *seven)
    assert "trained without classes" in refused(capsys, "sample", "--model", plain, "--label", "3")
    monkeypatch.setattr(images, "generate", lambda *a: np.zeros((a[6], 8, 8, 1), np.float32))
    assert start.main(["sample", "--model", plain, "--guidance", "1", *map(str, seven[2:])]) == 0


@pytest.mark.parametrize(
    "args",
    [
        ["sample", "--out", "file/x.png"],
        ["sample", "--npz", "file/x.npz", "--out", "x.png"],
        ["typicality", "--out", "file/x.png"],
        ["mine", "--label", "0", "--out", "file/m"],
        ["evaluate", "--out", "file/e.json"],
        ["demo", "--out", "file/d"],
    ],
)
def test_an_unwritable_out_is_found_before_anything_is_drawn(args, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    for module in (images, ev):
        monkeypatch.setattr(module, "generate", lambda *a, **k: pytest.fail("drawn"))
    monkeypatch.setenv("DDPM_CACHE_DIR", str(tmp_path / "cache"))
    printed = refused(capsys, *args)
    assert "cannot be written" in printed and "file/" in printed and os.listdir() == ["file"]


@pytest.mark.parametrize("command", ["sample", "typicality"])
def test_a_number_of_images_that_no_index_can_hold_is_refused(command, twenty, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "n is 1" + "0" * 20 in refused(capsys, command, "--model", twenty, "--label", "a", "--n", 10**20)


def test_weights_that_give_nan_draw_no_picture(tmp_path, capsys):
    """The checksum of the file fits; only its numbers are none."""
    params = jax.tree.map(lambda a: jnp.full_like(a, jnp.nan), random_params(UNET))
    path = saved(tmp_path / "nan", params)
    out = tmp_path / "x.png"
    assert "6 of 6 images hold NaN" in refused(capsys, "sample", "--model", path, "--n", "2", "--out", out)
    assert not out.exists()


def test_a_damaged_baseline_has_a_name(tmp_path):
    file = tmp_path / "baseline.json"
    for text in ("", '{"linear_gaussian_lost": 0.1}', '{"linear_gaussian_loss": NaN}', "3"):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=r"baseline\.json"):
            loop.baseline(tmp_path, None, None, False)


@pytest.mark.parametrize("name", ["..", "../x", "/x", "."])
def test_a_name_that_leads_out_of_its_folder_is_refused(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        start.main(["train", "--data", "digits", "--preset", "digits", "--name", name])
    assert "inside runs/" in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "without a folder" in refused(capsys, "import", tmp_path, "--name", name) and not os.listdir()


def test_info_offers_only_what_can_be_sampled(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in {"empty": "{}", "foreign": '{"_class_name": "UNet2DModel"}', "cut": '{"tr', "list": "[]"}.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.json").write_text(text, encoding="utf-8")
    assert start.main(["info"]) == 0
    printed = capsys.readouterr().out
    shipped = printed[printed.index("ddpm sample --model NAME") : printed.index("shipped classifiers")]
    assert "fashion_mnist " in shipped and "classifier" not in shipped
    for name in ("empty", "foreign", "cut", "list"):
        assert (f"runs/{name}" in printed and "config.json" in printed) or "ddpm import" in printed
    assert printed.count("not a run") == 4


def test_an_unexpected_error_is_no_traceback(monkeypatch, capsys):
    monkeypatch.setattr(start, "run", lambda command: {}["shape"])
    assert start.main(["info"]) == 1
    printed = capsys.readouterr().err
    assert "unexpected KeyError" in printed and "report" in printed and "Traceback" not in printed


# --- the picker of images ---------------------------------------------------------------------------------------------


def test_the_picker_takes_the_first_images_of_each_class_and_equal_shares_of_others():
    d = sources.load("digits")
    unet = model.dataclasses.replace(UNET, num_classes=10)
    m = model.Model("m", unet, {}, cosine(20), d.class_names, {})
    all_classes = images.pick(m, images.Wanted("digits", n=3))
    assert [list(all_classes.ids[all_classes.c == k]) for k in range(10)] == [
        list(np.flatnonzero(d.y_test == k)[:3]) for k in range(10)
    ]
    picked = images.pick(m, images.Wanted("digits", "7", n=4, others=11, split="train"))
    np.testing.assert_array_equal(images.data.to_uint8(picked.x), d.x_train[picked.ids])
    assert list(picked.c[:4]) == [7] * 4 and len(picked.x) == 15 and 7 not in picked.c[4:]
    shares = np.bincount(picked.c[4:], minlength=10)
    assert shares.max() == 2 and shares.sum() == 11  # two of each, until there are eleven
    assert picked.take(np.array([1])).ids == picked.ids[1]


def test_the_picker_draws_image_i_from_its_own_noise(monkeypatch):
    """The labels come in the same order as of a data set; the sampler is handed on."""
    seen = []

    def generate(eps, schedule, key, shape, c, how, n):
        seen.append((key, c, how, n))
        return np.zeros((n, *shape), np.float32)

    monkeypatch.setattr(images, "generate", generate)
    m = model.Model("m", UNET, {}, cosine(20), tuple("abc"), {})
    how = Sampling("ddpm", 5, 3.0)
    picked = images.pick(m, images.Wanted(label="b", n=2, others=3, seed=4, how=how))
    ((key, c, used, n),) = seen
    assert list(c) == list(picked.c) == [1, 1, 0, 0, 2] and used is how and n == 5
    assert key == jax.random.key(4) and picked.source == "drawn by m (DDPM, 5 steps, guidance 3, seed 4)"
    assert images.pick(m, images.Wanted(label="none", n=2)).c is None
    with pytest.raises(ValueError, match="seed is"):
        images.pick(m, images.Wanted(seed=2**32))


def test_every_command_with_a_seed_has_one_that_jax_keeps(monkeypatch):
    """2³² would be seed 0."""
    assert np.array_equal(jax.random.key_data(jax.random.key(2**32)), jax.random.key_data(jax.random.key(0)))
    with pytest.raises(ValueError, match="seed is 4294967296"):
        monkeypatch.setitem(start.RUN, "Sample", "ddpm.cli.info:run")  # a command that would not notice
        start.run(options.Sample(seed=2**32))
    assert check.seed(2**32 - 1) == 2**32 - 1 and json.dumps(check.seed(np.int64(3))) == "3"
