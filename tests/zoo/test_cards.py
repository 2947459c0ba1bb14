"""Cards of models: what a name, a folder or a damaged file is; one sentence says it before anything is built."""

import dataclasses
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from ddpm import generators, weights
from ddpm.classifiers import classifier
from ddpm.config import UNetConfig
from ddpm.tools import files
from ddpm.training.config import TrainConfig
from ddpm.zoo import cards, model
from ddpm.zoo import diffusers as interop

GOLDEN = Path(__file__).parent / "golden"
TINY = UNetConfig(8, 1, channels=8, multipliers=(1, 2), blocks=1, attention=(4,), groups=4, num_classes=3)
RUN = {
    "train": dataclasses.asdict(TrainConfig(data="digits", preset="digits", power_ema=(0.1,))),
    "unet": dataclasses.asdict(TINY),
    "data": {"name": "digits", "sha256": "0" * 64, "classes": ["zero", "one", "two"]},
}
CARD = {
    "sha256": "0" * 64,
    "kind": "denoiser",
    "unet": dataclasses.asdict(TINY),
    "schedule": {"name": "cosine", "T": 1000},
    "classes": ["zero", "one", "two"],
    "first_time": 0,
    "predict": "v",
}


def as_json(value):
    return json.loads(json.dumps(value))


@pytest.fixture
def run(tmp_path):
    """The folder of a run with its config.json."""
    (tmp_path / "run").mkdir()
    files.write_json(tmp_path / "run" / "config.json", RUN)
    return tmp_path / "run"


# --- what it is -------------------------------------------------------------------------------------------------------


def test_a_classifier_is_said_to_be_one():
    with pytest.raises(ValueError, match=r"fashion_mnist_classifier is a classifier.*denoisers: .*cifar10, cities"):
        model.load("fashion_mnist_classifier")
    with pytest.raises(ValueError, match="is a classifier"):
        model.load(weights.FOLDER / "fashion_mnist_classifier")


def test_a_generator_is_said_to_be_one_with_the_command_that_draws_with_it(tmp_path):
    with pytest.raises(ValueError, match=r"is a generator.*`ddpm generator --trained fashion_mnist_cgan`"):
        model.load("fashion_mnist_cgan")
    (tmp_path / "generator.json").write_text("{}")
    with pytest.raises(ValueError, match=f"--trained {tmp_path}`"):
        model.load(tmp_path)


def test_a_folder_of_diffusers_is_said_to_be_one(tmp_path):
    shutil.copytree(GOLDEN / "unet2d_plain", tmp_path / "runs" / "peer")
    pipeline = tmp_path / "pipeline"
    (pipeline / "unet").mkdir(parents=True)
    (pipeline / "model_index.json").write_text("{}")
    for folder in (tmp_path / "runs" / "peer", pipeline):
        with pytest.raises(ValueError, match=rf"{folder} holds .*diffusers.*ddpm import {folder}"):
            model.load(folder)


def test_a_name_that_is_nothing_says_what_would_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no model 'nothing': neither shipped weights"):
        model.load("nothing")
    with pytest.raises(ValueError, match=r"Give nothing without \.json"):
        model.load("nothing.json")
    (tmp_path / "cities").mkdir()  # a folder of that name, such as data, does not hide what ships
    assert cards.find("cities") == weights.FOLDER / "cities"
    with pytest.raises(ValueError, match="is a folder without config"):
        cards.find(tmp_path)


@pytest.mark.parametrize(
    "content, words",
    [
        ("{}", "is not the configuration of a run of `ddpm train`: it has no train and unet"),
        ("", "is empty"),
        ('{"train": {"data"', "not valid JSON"),
        ("[]", "holds a list"),
        ("null", "holds null"),
        ('{"_class_name": "UNet2DModel"}', "ddpm import"),
        ('{"train": null, "unet": null}', "unet is None; wanted an object"),
    ],
)
def test_a_config_that_is_none_is_named_with_what_it_is(run, content, words):
    (run / "config.json").write_text(content)
    with pytest.raises(ValueError, match=words) as e:
        model.load(run)
    assert str(run) in str(e.value)


def test_a_pipe_in_place_of_a_config_is_refused(run):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no FIFO on this system")
    (run / "config.json").unlink()
    os.mkfifo(run / "config.json")
    with pytest.raises(files.Damaged, match=r"config\.json is a pipe"):
        model.load(run)


# --- what it says -----------------------------------------------------------------------------------------------------


def flips(whole, n, seed=0):
    """The bytes with one bit flipped, n times."""
    for bit in np.random.default_rng(seed).choice(8 * len(whole), n, replace=False):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def test_a_flipped_bit_of_a_runs_config_is_refused_by_name_or_changes_nothing(run):
    """The checkpoint's card has a digest; a config.json that disagrees with it is refused."""
    file = run / "config.json"
    free = TrainConfig.FREE

    def fields(card):
        train = {k: v for k, v in dataclasses.asdict(card.train).items() if k not in free}
        return card.unet, card.data, train

    good, _ = cards.run_card(run)
    cards.same_run(file, good, RUN | {"step": 3})
    for changed in flips(file.read_bytes(), 400):
        file.write_bytes(changed)
        try:
            card, _ = cards.run_card(run)
            cards.same_run(file, card, as_json(RUN) | {"step": 3})
        except ValueError as e:
            assert "config.json" in str(e)
        else:
            assert fields(card) == fields(good)


def test_a_changed_class_name_is_named_with_both_values(run):
    files.write_json(run / "config.json", RUN | {"data": RUN["data"] | {"classes": ["zero", "One", "two"]}})
    with pytest.raises(files.Damaged, match=r"config\.json: data: classes is .*'One'.*step 7 was saved with .*'one'"):
        cards.same_run(run / "config.json", cards.run_card(run)[0], as_json(RUN) | {"step": 7})


def test_a_flipped_bit_of_a_card_without_digest_is_a_sentence(tmp_path):
    """Such cards are of version 0.1: a value that still fits passes, but nothing ends in a traceback."""
    whole = json.dumps(CARD, indent=1).encode()
    refused = 0
    for changed in flips(whole, 400):
        (tmp_path / "w.json").write_bytes(changed)
        try:
            cards.weights_card(tmp_path / "w", files.load_card(tmp_path / "w"))
        except ValueError as e:
            assert "w.json" in str(e)
            refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"schedule": {"name": "cosine", "T": 10**9}}, "T is 1000000000; wanted a whole number in 1 to 100,000"),
        ({"schedule": {"name": "cosine"}}, "T is missing"),
        ({"schedule": None}, "schedule is None"),
        ({"schedule": "cosine"}, "schedule is 'cosine'"),
        ({"classes": None}, "classes is None"),
        ({"classes": ["zero"]}, "classes has 1 names, but num_classes is 3"),
        ({"classes": [1, 2, 3]}, r"classes\[0\] is 1; wanted a text"),
        ({"unet": []}, "unet is"),
        ({"unet": {"blocks": 2000}}, "blocks is 2000; wanted a whole number in 1 to 16"),
        ({"unet": {"channels": "32"}}, "channels is '32'"),
        ({"unet": {"channels": 4096, "multipliers": [1, 64], "attention": []}}, "wider than what is read"),
        ({"unet": {"multipliers": [1] * 9, "image_size": 256, "attention": []}}, "9 levels; at most 8"),
        ({"unet": {"groups": 0}}, "groups is 0"),
        ({"unet": {"heads": 4}}, "'heads' is not a field of it"),
        ({"predict": "score"}, "predict is 'score'"),
        ({"first_time": 2}, "first_time is 2"),
        ({"kind": "vae"}, "kind is 'vae'"),
        ({"sampling": {"rule": "random"}}, "rule is 'random'"),
    ],
)
def test_what_a_card_cannot_say_is_refused_before_anything_is_built(tmp_path, fields, words):
    began = time.process_time()
    with pytest.raises(ValueError, match=words) as e:
        cards.weights_card(tmp_path / "w", CARD | fields)
    assert str(tmp_path / "w.json") in str(e.value)
    if "kind" not in fields:
        assert "has no digest" in str(e.value)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "card, words",
    [
        ({}, "c.json: config is None; wanted an object"),
        ({"config": []}, "config is"),
        ({"config": {"widths": 3}}, "config: widths is 3; wanted a list"),
        ({"config": {"num_classes": 10**12}}, "config: num_classes is 1000000000000"),
        ({"config": {"schedule": "cosine", "T": 10**9}}, "config: T is 1000000000"),
        ({"config": {"depth": 3}}, "config: 'depth' is not a field of it"),
        ({"config": {}, "kind": "denoiser"}, "kind is 'denoiser'; wanted 'classifier'"),
    ],
)
def test_what_a_classifiers_card_cannot_say_is_refused(card, words):
    with pytest.raises(ValueError, match=words):
        classifier.read_config(card, "c.json")


def test_the_cards_that_ship_have_digests():
    for name in weights.cards():
        card = files.load_card(weights.FOLDER / name)
        assert card["card_sha256"] == files.digest(card)
        if card["kind"] == "denoiser":
            cards.weights_card(weights.FOLDER / name, card)
        elif card["kind"] == "generator":
            assert as_json(dataclasses.asdict(generators.load(name).config)) == card["config"]
        else:
            assert as_json(dataclasses.asdict(classifier.read_config(card, name))) == card["config"]


# --- weights of diffusers ---------------------------------------------------------------------------------------------


@pytest.fixture
def peer(tmp_path):
    """A copy of a golden folder, to be spoilt."""
    shutil.copytree(GOLDEN / "unet2d_plain", tmp_path / "peer")
    return tmp_path / "peer"


CONFIGS = [
    ({"layers_per_block": 2000}, "layers_per_block is 2000"),
    ({"layers_per_block": "2"}, "layers_per_block is '2'"),
    ({"layers_per_block": None}, "layers_per_block is None"),
    ({"layers_per_block": 0}, "layers_per_block is 0"),
    ({"block_out_channels": 6}, "block_out_channels is 6"),
    ({"block_out_channels": []}, "block_out_channels"),
    ({"block_out_channels": [0, 0]}, "block_out_channels"),
    ({"block_out_channels": [-6, 12]}, "block_out_channels"),
    ({"block_out_channels": [6, "12"]}, "block_out_channels"),
    ({"block_out_channels": [6, 10**12]}, "block_out_channels"),
    ({"block_out_channels": [6] * 40}, "block_out_channels"),
    ({"down_block_types": None}, "down_block_types is None"),
    ({"down_block_types": [["DownBlock2D"], "DownBlock2D"]}, "down_block_types"),
    ({"down_block_types": ["DownBlock2D"]}, "up_block_types"),
    ({"up_block_types": {"a": 1}}, "up_block_types"),
    ({"sample_size": 10**9}, "sample_size"),
    ({"sample_size": [8, [8]]}, "sample_size"),
    ({"sample_size": "8"}, "sample_size"),
    ({"sample_size": -8}, "sample_size"),
    ({"in_channels": 0}, "in_channels"),
    ({"in_channels": 1e30}, "in_channels"),
    ({"norm_num_groups": 0}, "norm_num_groups"),
    ({"dropout": "0"}, "dropout"),
    ({"dropout": float("nan")}, "dropout"),
    ({"attention_head_dim": []}, "attention_head_dim"),
    ({"num_class_embeds": -3}, "num_class_embeds"),
    ({"num_class_embeds": 10**12}, "num_class_embeds"),
    ({"act_fn": ["silu"]}, "act_fn"),
    ({"norm_eps": None}, "norm_eps"),
    ({"_class_name": ["UNet2DModel"]}, "_class_name"),
    ({"skip_time_act": True}, "skip_time_act is True, only 'no such field'"),
]


@pytest.mark.parametrize("fields, words", CONFIGS)
def test_a_hostile_configuration_is_one_sentence_at_once(peer, fields, words):
    file = peer / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    began = time.process_time()
    with pytest.raises(interop.Misfit, match=words) as e:
        interop.load(peer, null_label="last")
    assert "config.json" in str(e.value) and time.process_time() - began < 2


@pytest.mark.parametrize("file", ["config.json", "scheduler_config.json", "ddpm.json"])
@pytest.mark.parametrize("content", ["[]", "null", "", '{"a"'])
def test_what_is_no_object_is_named(peer, file, content):
    (peer / file).write_text(content)
    with pytest.raises(interop.Misfit, match=file.replace(".", r"\.")):
        interop.load(peer)


@pytest.mark.parametrize(
    "ours, words",
    [
        ({"schedule": {"name": "cosine", "T": 10**9}}, "T is 1000000000"),
        ({"schedule": {"name": "cosines", "T": 10}}, "Did you mean 'cosine'"),
        ({"patch": 0}, "patch is 0"),
        ({"patch": "2"}, "patch is '2'"),
        ({"classes": 3}, "classes is 3"),
    ],
)
def test_what_our_own_file_cannot_say_is_refused(peer, ours, words):
    (peer / "ddpm.json").write_text(json.dumps(ours))
    with pytest.raises(interop.Misfit, match=words):
        interop.load(peer)


def test_half_precision_and_several_files_are_the_same_network(peer):
    from safetensors.numpy import load_file, save_file

    whole = interop.load(peer)
    tensors = load_file(peer / interop.WEIGHTS)
    (peer / interop.WEIGHTS).unlink()
    # the half-precision variant
    variant = peer / "diffusion_pytorch_model.fp16.safetensors"
    save_file({k: a.astype(np.float16) for k, a in tensors.items()}, variant)
    for k, a in files.flatten(interop.load(peer).params).items():
        np.testing.assert_array_equal(a, files.flatten(whole.params)[k].astype(np.float16))
    variant.unlink()
    # two shards with an index
    names = sorted(tensors)
    shard = {name: f"diffusion_pytorch_model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(shard.values()):
        save_file({k: tensors[k] for k in names if shard[k] == file}, peer / file)
    index = peer / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shard}))
    for k, a in files.flatten(interop.load(peer).params).items():
        np.testing.assert_array_equal(a, files.flatten(whole.params)[k])
    # an index that points elsewhere, or at nothing
    for at, words in (
        ("../w.safetensors", "is not the name of a"),
        ("gone.safetensors", "gone.safetensors is missing"),
    ):
        index.write_text(json.dumps({"weight_map": {"a": at}}))
        with pytest.raises(interop.Misfit, match=words):
            interop.load(peer)
    index.write_text(json.dumps({"weight_map": None}))
    with pytest.raises(interop.Misfit, match="weight_map is None"):
        interop.load(peer)


def test_pickles_are_spoken_of_only_where_there_are_some(peer):
    (peer / interop.WEIGHTS).rename(peer / "other.safetensors")
    with pytest.raises(interop.Misfit, match=r"it holds other\.safetensors\. UNet2DModel") as e:
        interop.load(peer)
    assert "can run any code" not in str(e.value)
