"""What a run's folder refuses, and what is printed when a run is resumed."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from ddpm import config
from ddpm.config import UNetConfig
from ddpm.datasets import sources
from ddpm.tools import checkpoint, files, lock
from ddpm.training import loop, resume, run, tables
from ddpm.training.config import TrainConfig

TINY = UNetConfig(8, 1, channels=8, multipliers=(1,), blocks=1, attention=(), groups=4)
BASE = TrainConfig(
    data="digits", preset="tiny", name="r", steps=2, batch=16, warmup=2, lr_schedule="constant", save_every=1,
    log_every=1,
)  # fmt: skip


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(config.UNETS, "tiny", TINY)
    monkeypatch.setattr(loop, "sample_grid", lambda *args: np.zeros((8, 8, 8, 1)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two steps, each of which is saved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config.UNETS, "tiny", TINY)
        patch.setattr(loop, "sample_grid", lambda *args: np.zeros((8, 8, 8, 1)))
        return run.train(BASE, tmp_path_factory.mktemp("runs"), quiet=True)


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "r")


def content(folder):
    """All files and what is in them."""
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_other_images_under_the_same_name_are_refused(folder, monkeypatch):
    before, digits = content(folder), sources.load("digits")
    x = digits.x_train.copy()
    x[0, 0, 0] ^= 1  # one pixel by one grey level
    monkeypatch.setattr(sources, "load", lambda *args: dataclasses.replace(digits, x_train=x))
    with pytest.raises(ValueError, match=rf"on other images .*'digits' had the SHA-256 {digits.sha256[:12]}…, now"):
        run.train(dataclasses.replace(BASE, steps=3), folder.parent, quiet=True)
    assert content(folder) == before


@pytest.mark.slow
def test_without_config_json_the_card_of_the_checkpoint_is_compared(folder):
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"step_00000002\.json\): seed was 0, now 1"):
        run.train(dataclasses.replace(BASE, seed=1), folder.parent, quiet=True)
    assert not (folder / "config.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("text, words", [("{", "not valid JSON"), ("[]", "a list"), ('{"unet": {}}', "no train")])
def test_a_damaged_config_json_is_named_with_a_remedy(folder, text, words):
    (folder / "config.json").write_text(text)
    with pytest.raises(files.Damaged, match=rf"config\.json.*{words}.*delete it"):
        run.train(BASE, folder.parent, quiet=True)


@pytest.mark.slow
def test_what_has_changed_since_the_last_step_is_said_when_a_run_is_resumed(folder, capsys, monkeypatch):
    """Versions, learning rate, the lock and the temporary file of a process that was killed."""
    kept = folder / "checkpoints"
    arrays, card = files.load(checkpoint.stem(kept, 2))
    card["versions"]["jax"] = "0.1.0"
    files.save(checkpoint.stem(kept, 2), arrays, card)
    (folder / "lock").write_text("process 1 on elsewhere, since long\n")
    left = folder / f".metrics.csv.{files.host()}.999999999.tmp"
    left.touch()
    monkeypatch.setattr(resume, "rate_jump", lambda card, config, step: f"rate at {step}: {card['step']}")
    run.train(dataclasses.replace(BASE, steps=3), folder.parent)
    printed = capsys.readouterr().out
    assert "was left locked by process 1 on elsewhere" in printed
    assert (
        "it was trained with jax 0.1.0 (now" in printed
        and "ddpm" not in printed.split("trained with")[1].splitlines()[0]
    )
    assert "rate at 2: 2\n" in printed
    assert not left.exists() and not (folder / "lock").exists()


def test_a_learning_rate_that_goes_on_as_it_was_is_not_mentioned():
    """`constant` does not depend on the number of steps; `late_cosine` does, past half of the smaller number."""
    late, constant = TrainConfig(steps=1000), TrainConfig(steps=1000, lr_schedule="constant")
    for before, step, words in ((constant, 900, ""), (late, 400, ""), (late, 1000, "was 0 with --steps 1000")):
        after = dataclasses.replace(before, steps=2000)
        printed = resume.rate_jump({"train": json.loads(json.dumps(dataclasses.asdict(before)))}, after, step)
        assert words in printed and bool(words) == bool(printed)


@pytest.mark.slow
def test_a_run_without_a_checkpoint_that_can_be_read_stops_and_starts_anew_only_when_told(folder):
    for file in (folder / "checkpoints").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-9])
    before = content(folder)
    with (
        pytest.warns(UserWarning, match="step_0000000"),
        pytest.raises(files.Damaged, match=r"step_00000002.*step_00000001.*--restart"),
    ):
        run.train(dataclasses.replace(BASE, steps=3), folder.parent, quiet=True)
    assert content(folder) == before
    run.train(dataclasses.replace(BASE, seed=1, restart=True), folder.parent, quiet=True)
    np.testing.assert_array_equal(tables.read_metrics(folder)["step"], [1, 2])
    assert {p.relative_to(folder): text for p, text in before.items()} == {
        p.relative_to(f"{folder}.1"): text for p, text in content(folder.with_name("r.1")).items()
    }
    assert not json.loads((folder / "config.json").read_text())["train"]["restart"]


@pytest.mark.slow
def test_a_second_process_in_the_folder_is_refused(folder):
    before = content(folder)
    with lock.held(folder), pytest.raises(ValueError, match=r"r is in use by process \d+ on "):
        run.train(dataclasses.replace(BASE, steps=3), folder.parent, quiet=True)
    assert content(folder) == before


@pytest.mark.slow
def test_a_table_that_holds_no_numbers_is_named(folder):
    (folder / "metrics.csv").write_text("step,loss,grad_norm,lr,images_per_s,seconds\n1,x,1,1,1,1\n")
    with pytest.raises(files.Damaged, match=r"metrics\.csv.*'x'"):
        run.train(dataclasses.replace(BASE, steps=3), folder.parent, quiet=True)


@pytest.mark.slow
def test_a_full_disk_names_the_file_and_the_step_that_is_saved(folder, monkeypatch):
    """The table cannot grow; the checkpoints are whole."""
    add = tables.Table.add

    def full(table, row):
        if row[0] == 4:
            raise OSError(28, "No space left on device", str(table.file))
        add(table, row)

    monkeypatch.setattr(tables.Table, "add", full)
    with pytest.raises(OSError, match=r"No space left on device; step 3 is saved.*metrics\.csv"):
        run.train(dataclasses.replace(BASE, steps=5), folder.parent, quiet=True)
