"""`ddpm train --config` and `--like`: the options of an earlier training, those that override them, refusals."""

import dataclasses
import json

import pytest

from ddpm import weights
from ddpm.cli import earlier, start
from ddpm.training.config import TrainConfig

OLD = TrainConfig(
    data="digits", preset="digits", name="old", lr=3e-4, more_ema=(0.9, 0.99), flip=True, conditional=False,
    data_dir="/there", restart=True, steps=700,
)  # fmt: skip


@pytest.fixture
def parsed(tmp_path, monkeypatch):
    """Run `ddpm train` with some words; return the options that the training would get."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/old").mkdir(parents=True)
    about = {"train": dataclasses.asdict(OLD)}
    (tmp_path / "runs/old/config.json").write_text(json.dumps(about))
    from ddpm.cli import train

    got = []
    monkeypatch.setattr(train.training_run, "train", got.append)
    monkeypatch.setattr(train.devices, "start", lambda n: None)
    return lambda *words: start.main(["train", *words]) or got.pop()


@pytest.mark.parametrize("config", ["runs/old/config.json", "runs/old"])
def test_all_options_of_a_run_are_taken_over_but_those_of_a_place(parsed, config, capsys):
    assert parsed("--config", config) == dataclasses.replace(OLD, data_dir=None, restart=False)
    assert "changed: nothing" in capsys.readouterr().out


def test_options_given_as_well_override_it_and_are_listed(parsed, capsys):
    """Also those that are set back to the usual value, and those of own images."""
    got = parsed("--lr", "0.001", "--config=runs/old", "--no-flip", "--name", "new", "--more-ema", "0.5")
    wanted = {"lr": 1e-3, "flip": False, "name": "new", "more_ema": (0.5,), "data_dir": None, "restart": False}
    assert got == dataclasses.replace(OLD, **wanted)
    out = capsys.readouterr().out
    for words in ("lr 0.001 (was 0.0003)", "flip False (was True)", "name 'new' (was 'old')", "(was (0.9, 0.99))"):
        assert words in out
    assert "steps" not in out
    got = parsed("--config", "runs/old", "--data", "./photos,size=8,grey", "--size", "4")
    assert got.data == "./photos,grey,size=4"


def test_like_a_shipped_model_is_a_new_run_with_its_options(parsed):
    card = weights.cards("denoiser")["fashion_mnist"]["train"]
    got = parsed("--like", "fashion_mnist", "--steps", "9")
    kept = {k: v for k, v in card.items() if k not in ("steps", "name", "data_dir", "restart")}
    assert all(json.loads(json.dumps(getattr(got, k))) == v for k, v in kept.items())
    assert (got.steps, got.name) == (9, "")
    assert parsed() == TrainConfig()  # and nothing remains of it


@pytest.mark.parametrize(
    "text, words",
    [
        (None, "config.json is not there; give the config.json of a run"),
        ("{", "is not"),
        ("[1]", "runs/bad/config.json"),
        ("{}", "has no record of how it was trained"),
        ('{"train": {"lr": "fast"}}', "train: lr is 'fast'; wanted a number"),
        ('{"train": {"lr": -1}}', "train: lr is -1.0; give a positive number"),
    ],
)
def test_what_is_no_config_is_refused_before_anything_starts(parsed, tmp_path, text, words, capsys):
    (tmp_path / "runs/bad").mkdir()
    if text is not None:
        (tmp_path / "runs/bad/config.json").write_text(text)
    assert parsed("--config", "runs/bad/config.json") == 2
    err = capsys.readouterr().err
    assert words in err and err.startswith("ddpm: ")


def test_both_or_no_model_are_refused(parsed, capsys):
    assert parsed("--config", "runs/old", "--like", "cities") == 2
    assert "leave one of them out" in capsys.readouterr().err
    assert parsed("--like", "fashion_mnist_classifier") == 2 and "is a classifier" in capsys.readouterr().err
    assert parsed("--like", "nothing") == 2 and "no model 'nothing'" in capsys.readouterr().err


def test_the_last_value_of_an_option_counts():
    assert earlier._value(["--like", "a", "--like=b"], "--like") == "b"
    assert earlier._value(["--liked", "a", "--lr", "3"], "--like") is None
