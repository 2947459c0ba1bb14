"""Files: what was saved comes back, what is damaged is refused, what was interrupted leaves the old one whole."""

import json
import os

import jax.numpy as jnp
import numpy as np
import pytest

from ddpm.tools import checkpoint, files

TREE = {"a": {0: {"kernel": np.arange(6.0).reshape(2, 3)}, 1: {"kernel": np.ones(2)}}, "b": np.int32(7)}


def equal(a, b):
    a, b = files.flatten(a), files.flatten(b)
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_round_trip(tmp_path):
    files.save(tmp_path / "w", TREE, {"note": "ε"})
    tree, card = files.load(tmp_path / "w")
    assert equal(tree, TREE) and card["note"] == "ε"
    assert list(tree["a"]) == [0, 1]  # list positions stay ints


@pytest.mark.parametrize("damage", ["cut", "flip", "missing", "card cut", "card missing"])
def test_damage_is_refused(tmp_path, damage):
    files.save(tmp_path / "w", TREE, {})
    file = tmp_path / ("w.json" if damage.startswith("card") else "w.safetensors")
    data = bytearray(file.read_bytes())
    if damage.endswith("missing"):
        file.unlink()
    elif damage.endswith("cut"):
        file.write_bytes(data[: len(data) // 2])
    else:
        data[-3] ^= 1
        file.write_bytes(data)
    with pytest.raises(files.Damaged, match=str(file.name)):
        files.load(tmp_path / "w")


@pytest.mark.parametrize("when", ["write", "rename"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, when):
    files.save(tmp_path / "w", TREE, {"version": 1})

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync" if when == "write" else "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        files.save(tmp_path / "w", {"b": np.zeros(3)}, {"version": 2})
    monkeypatch.undo()
    tree, card = files.load(tmp_path / "w")
    assert equal(tree, TREE) and card["version"] == 1
    assert not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob(".*.tmp"))


def state(value):
    return {"params": {"w": jnp.full((2, 2), value)}, "step": jnp.int32(value)}


def test_checkpoints_keep_the_last_two_and_restore_the_newest(tmp_path):
    for n in (1, 2, 3):
        checkpoint.save(tmp_path, n, state(n), {"note": n})
    assert checkpoint.steps(tmp_path) == [2, 3]
    restored, card = checkpoint.restore(tmp_path, state(0))
    assert equal(restored, state(3)) and card["note"] == 3 and card["step"] == 3


@pytest.mark.parametrize("damage", [lambda d: d[:-5], lambda d: d[:-5] + bytes([d[-5] ^ 64]) + d[-4:]])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, damage):
    checkpoint.save(tmp_path, 1, state(1), {})
    checkpoint.save(tmp_path, 2, state(2), {})
    file = tmp_path / "step_00000002.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.warns(UserWarning, match="step_00000002"):
        restored, card = checkpoint.restore(tmp_path, state(0))
    assert equal(restored, state(1)) and card["step"] == 1


def test_an_interrupted_save_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, state(1), {})

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path, 2, state(2), {})
    monkeypatch.undo()
    assert equal(checkpoint.restore(tmp_path, state(0))[0], state(1))


def test_a_checkpoint_of_another_network_says_which_tensor(tmp_path):
    checkpoint.save(tmp_path, 1, state(1), {})
    with pytest.raises(ValueError, match=r"params\.w has shape \(2, 2\), this run wants \(3,\)"):
        checkpoint.restore(tmp_path, {"params": {"w": jnp.zeros(3)}, "step": jnp.int32(0)})
    with pytest.raises(ValueError, match=r"params\.v is in this run only"):
        checkpoint.restore(tmp_path, {"params": {"w": jnp.zeros((2, 2)), "v": jnp.zeros(1)}, "step": jnp.int32(0)})


def test_nothing_to_restore(tmp_path):
    assert checkpoint.restore(tmp_path / "none", state(0)) is None


def test_the_card_is_json(tmp_path):
    files.save(tmp_path / "w", TREE, {"x": 1})
    assert json.loads((tmp_path / "w.json").read_text())["x"] == 1
