"""Files: what was saved comes back, what is damaged is refused, what was interrupted leaves the old one whole."""

import json
import os
import subprocess

import jax.numpy as jnp
import numpy as np
import pytest

from ddpm.tools import checkpoint, files, lock

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
    with pytest.raises(OSError, match=r"No space left.*w\.safetensors"):
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


def test_a_checkpoint_with_nan_is_passed_over_like_a_damaged_one(tmp_path):
    """Its checksum fits: it was saved so. If no other is left, all are listed."""
    checkpoint.save(tmp_path, 1, state(1), {})
    spoiled = state(2) | {"params": {"w": jnp.array([[0, 1], [2, jnp.nan]])}}
    checkpoint.save(tmp_path, 2, spoiled, {})
    with pytest.warns(UserWarning, match=r"step_00000002: params\.w holds NaN"):
        assert equal(checkpoint.restore(tmp_path, state(0))[0], state(1))
    (tmp_path / "step_00000001.safetensors").unlink()
    with (
        pytest.warns(UserWarning, match="step_0000000"),
        pytest.raises(files.Damaged, match=r"step_00000002: .*NaN.*step_00000001\.safetensors is missing"),
    ):
        checkpoint.restore(tmp_path, state(0))


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


# --- files that are not what they should be ---------------------------------------------------------------------------


@pytest.fixture
def pipe(tmp_path):
    """A FIFO that nobody writes into: opening it for reading would hang."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("no FIFO on this system")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_a_pipe_is_refused_and_not_waited_for(pipe, tmp_path):
    for read in (files.read_bytes, files.read_json):
        with pytest.raises(files.Damaged, match="pipe is a pipe"):
            read(pipe)
    files.save(tmp_path / "w", TREE, {})
    for suffix in (".safetensors", ".json"):
        os.replace(tmp_path / f"w{suffix}", tmp_path / "kept")
        (tmp_path / f"w{suffix}").symlink_to(pipe)
        with pytest.raises(files.Damaged, match="pipe"):
            files.load(tmp_path / "w")
        os.replace(tmp_path / "kept", tmp_path / f"w{suffix}")


def test_a_pipe_is_not_replaced_by_a_file(pipe):
    """Nor is /dev/null, which root could replace for everybody."""
    for write in (lambda p: files.write_atomic(p, b"x"), files.check_writable):
        with pytest.raises(OSError, match=r"pipe or a socket.*pipe'?|pipe cannot be written"):
            write(pipe)
    assert pipe.is_fifo() and os.listdir(pipe.parent) == ["pipe"]
    with pytest.raises(files.Damaged, match="lock is a pipe"), lock.held(pipe.rename(pipe.with_name("lock")).parent):
        pass


def test_a_size_is_checked_before_a_byte_is_read(tmp_path):
    with open(tmp_path / "large.json", "wb") as f:
        f.truncate(files.MOST_JSON + 1)  # a hole: it takes no space
    with pytest.raises(files.Damaged, match=r"large\.json has 16,777,217 bytes; at most 16,777,216"):
        files.read_json(tmp_path / "large.json")
    with pytest.raises(files.Damaged, match="is a folder"):
        files.read_bytes(tmp_path)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"[]", "holds a list"),
        (b"null", "holds null"),
        (b"3", "holds a number"),
        (b'"a"', "holds a text"),
        (b'{"a": 1', "not valid JSON"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"a": ' + b"1" * 5000 + b"}", "not valid JSON"),
    ],
)
def test_json_that_is_no_object_is_said(tmp_path, content, words):
    (tmp_path / "c.json").write_bytes(content)
    with pytest.raises(files.Damaged, match=rf"c\.json.*{words}"):
        files.read_json(tmp_path / "c.json")


def test_each_flipped_bit_of_a_card_is_refused_or_changes_nothing(tmp_path):
    card = {"classes": ["Dress", "Sandal ε"], "schedule": {"name": "cosine", "T": 1000}, "first_time": 1, "x": 0.1}
    files.save(tmp_path / "w", TREE, card)
    whole = (tmp_path / "w.json").read_bytes()
    refused = 0
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        (tmp_path / "w.json").write_bytes(changed)
        try:
            found = files.load_card(tmp_path / "w")
        except files.Damaged as e:
            assert "w.json" in str(e)
            refused += 1
        else:  # white space, or the name of the digest itself
            assert card.items() <= found.items()
    assert refused > 0.9 * 8 * len(whole)


def test_a_card_without_digest_is_read_and_gets_one(tmp_path):
    """Cards of version 0.1 have none. Saved again, the card has both checksums of what is saved."""
    files.save(tmp_path / "w", TREE, {"a": 1})
    card = json.loads((tmp_path / "w.json").read_text())
    del card["card_sha256"]
    (tmp_path / "w.json").write_text(json.dumps(card))
    _, old = files.load(tmp_path / "w")
    files.save(tmp_path / "w", {"b": np.zeros(3)}, old)
    tree, new = files.load(tmp_path / "w")
    assert equal(tree, {"b": np.zeros(3)}) and new["a"] == 1 and new["sha256"] != old["sha256"]


def safetensors(head, body=b"\0" * 8):
    head = head if isinstance(head, bytes) else json.dumps(head).encode()
    return len(head).to_bytes(8, "little") + head + body


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        safetensors(b"not JSON"),
        safetensors([]),
        safetensors({"a": None}),
        safetensors({"a": {}}),
        safetensors({"a": ONE | {"dtype": ["F32"]}}),
        safetensors({"a": ONE | {"shape": [10**9, 10**9]}}),
        safetensors({"a": ONE | {"data_offsets": [0, 10**12]}}),
        safetensors({"a": ONE}, b"\0"),
    ],
)
def test_a_hostile_head_is_one_sentence(data):
    with pytest.raises(files.Damaged, match=r"w\.safetensors"):
        files.tensors(data, "w.safetensors")


def test_a_type_that_numpy_lacks_is_named():
    assert files.tensors(safetensors({"a": ONE}), "w")["a"].shape == (2,)
    with pytest.raises(files.Damaged, match=r"w: a has the type F8_E4M3"):
        files.tensors(safetensors({"a": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}}), "w")


# --- what a kill leaves -----------------------------------------------------------------------------------------------


def test_only_temporary_files_of_ended_processes_are_swept(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    here = files.host()
    left = tmp_path / f".step_1.json.{here}.{ended.pid}.tmp"
    day_old = tmp_path / ".step_2.json.12.tmp"  # as version 0.1 named them
    live = tmp_path / f".step_3.json.{here}.{os.getpid()}.tmp"
    elsewhere = tmp_path / f".step_4.json.not-{here}.{ended.pid}.tmp"
    other = tmp_path / ".editor.tmp"
    for file in (left, day_old, live, elsewhere, other):
        file.write_text("")
    os.utime(day_old, (0, 0))
    assert sorted(files.sweep(tmp_path)) == sorted([left, day_old])
    assert all(file.exists() for file in (live, elsewhere, other))
    left.write_text("")
    files.write_atomic(tmp_path / "step_1.json", b"")  # the same file, written again
    assert not left.exists()


def test_a_restored_run_has_swept_its_folder(tmp_path):
    checkpoint.save(tmp_path, 1, state(1), {})
    (tmp_path / ".step_00000002.safetensors.7.tmp").write_text("")
    os.utime(tmp_path / ".step_00000002.safetensors.7.tmp", (0, 0))
    checkpoint.restore(tmp_path, state(0))
    assert {p.name for p in tmp_path.iterdir()} == {"step_00000001.json", "step_00000001.safetensors"}


def test_a_full_disk_says_which_step_is_saved(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 7, state(1), {})

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"step 8; step 7 is saved.*step_00000008\.safetensors"):
        checkpoint.save(tmp_path, 8, state(2), {})
