"""A folder belongs to one process at a time; a process that was killed does not keep it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ddpm
from ddpm.tools import lock


def test_a_lock_is_refused_while_its_owner_lives_and_taken_over_when_it_was_killed(tmp_path):
    code = "import sys, time\nfrom pathlib import Path\nfrom ddpm.tools import lock\n"
    code += "with lock.held(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(600)\n"
    env = os.environ | {"PYTHONPATH": str(Path(ddpm.__file__).parent.parent)}
    owner = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"is in use by process {owner.pid} on "), lock.held(tmp_path):
            pass
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.communicate()
    with lock.held(tmp_path) as before:
        assert before.startswith(f"process {owner.pid} on ")
    with lock.held(tmp_path) as before:
        assert before == ""
    assert not list(tmp_path.iterdir())


def test_without_locks_of_the_system_the_owner_is_asked_for(tmp_path, monkeypatch):
    """Windows and some network file systems have none: a living process of this host holds, a dead one does not."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    host = lock.host()
    for words, refused in (
        (f"process {os.getpid()} on {host}, since today", True),
        ("process 1 on elsewhere, since today", True),
        (f"process 999999999 on {host}, since today", False),
        ("", False),
    ):
        (tmp_path / "lock").write_text(words)
        if refused:
            with pytest.raises(ValueError, match="is in use by process"), lock.held(tmp_path):
                pass
        else:
            with lock.held(tmp_path) as before:
                assert before == words
