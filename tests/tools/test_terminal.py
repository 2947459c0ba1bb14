"""One sentence for each error, whatever the terminal, the home folder and the disk are like."""

import ast
import errno
import json
import os
import pwd
from pathlib import Path

import pytest

import ddpm
from ddpm.tools import cache, check, files, terminal

ROOT = Path(ddpm.__file__).parent


def raised(f, *args):
    try:
        f(*args)
    except BaseException as e:
        return e


def test_what_the_library_raises_is_told_from_what_happens_to_it():
    assert terminal.on_purpose(raised(check.whole, "n", 0, 1))
    assert terminal.on_purpose(raised(check.times, 0.5, check.jnp.zeros(1), 10))  # a TypeError of ours
    assert not terminal.on_purpose(raised(files.digest, None))  # AttributeError: None has no items, in a file of ours
    assert not terminal.on_purpose(raised(int, "x")) and not terminal.on_purpose(ValueError("never raised"))


def test_an_unexpected_error_keeps_its_traceback_in_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(terminal.tempfile, "tempdir", str(tmp_path))
    assert terminal.exit_status(raised({}.__getitem__, "shape")) == 1
    printed = capsys.readouterr().err
    (file,) = tmp_path.iterdir()
    assert (
        printed.startswith("ddpm: unexpected KeyError: 'shape'\n")
        and str(file) in printed
        and "Traceback" not in printed
    )
    assert "KeyError: 'shape'" in file.read_text(encoding="utf-8")
    monkeypatch.setattr(terminal.tempfile, "tempdir", str(tmp_path / "missing"))
    assert terminal.exit_status(raised({}.__getitem__, "shape")) == 1 and "Traceback" in capsys.readouterr().err


def test_text_is_read_and_written_as_utf_8():
    """A locale may say otherwise, so each call that reads or writes text names the encoding."""
    for file in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            of = getattr(getattr(node.func, "value", None), "id", "")
            mode = node.args[1].value if len(node.args) > 1 and isinstance(node.args[1], ast.Constant) else "r"
            text = name in ("read_text", "write_text") or (name == "open" and of == "" and "b" not in str(mode))
            assert not text or any(k.arg == "encoding" for k in node.keywords), f"{file}:{node.lineno}"


def test_a_user_without_a_home_has_a_cache(monkeypatch, tmp_path):
    """As in a container that runs as a number."""

    def unknown(uid):
        raise KeyError(f"uid not found: {uid}")

    for name in ("HOME", "XDG_CACHE_HOME", "DDPM_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.chdir(tmp_path)
    assert cache.folder().is_absolute() and not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000, b'{"a": "\xff"}'])
def test_a_file_that_is_no_json_object_is_named(tmp_path, text):
    file = tmp_path / "config.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(files.Damaged, match=r"config\.json (is|holds)"):
        files.read_json(file)
    file.write_text(json.dumps({"β": 1}, ensure_ascii=False), encoding="utf-8")
    assert files.read_json(file) == {"β": 1}


def test_a_path_is_tried_before_the_work_and_nothing_is_left(tmp_path):
    assert files.check_writable(tmp_path / "new" / "deep" / "x.png") and not list(tmp_path.iterdir())
    (tmp_path / "file").write_bytes(b"kept")
    assert files.check_writable(tmp_path / "file") and (tmp_path / "file").read_bytes() == b"kept"
    for bad in (tmp_path / "file" / "x.png", tmp_path, Path("/proc/none/x.png"), Path("/proc/x.png")):
        with pytest.raises(OSError, match=r"cannot be written .*another path"):
            files.check_writable(bad)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*x\.json") as e:
        files.write_atomic(tmp_path / "x.json", b"{}")
    assert e.value.errno == errno.ENOSPC and not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", [-1, 2**32, 10**20, 0.5])
def test_a_seed_that_jax_would_change_is_refused(seed):
    with pytest.raises(ValueError, match="seed is"):
        check.seed(seed)
