"""The command line: quick answers, clear errors, and what it writes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ddpm.cli import start
from ddpm.datasets import sources

pytestmark = pytest.mark.filterwarnings("ignore")


def test_help_and_info_do_not_import_jax():
    code = (
        "import sys, contextlib, io\n"
        "from ddpm.cli import start as cli\n"
        "with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "    try: cli.main(['--help'])\n"
        "    except SystemExit: pass\n"
        "    cli.main(['info'])\n"
        "assert 'fashion_mnist' in out.getvalue() and 'typicality' in out.getvalue()\n"
        "slow = {'jax', 'flax', 'optax', 'matplotlib', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_option_says_what_it_does(capsys):
    """A comment that is broken over lines by the formatter would vanish from the help."""
    for command in "train sample typicality mine evaluate classifier compare import export doctor certificate".split():
        with pytest.raises(SystemExit):
            start.main([command, "--help"])
        text = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert "--help" in text
        assert not re.findall(r"--[\w-]+(?: [A-Z{\[]\S*)* \(default", text)


@pytest.mark.parametrize(
    "args, words",
    [
        (["sample", "--label", "Ankel boot"], "Ankle boot"),
        (["sample", "--label", "10"], "0..9"),
        (["sample", "--sampler", "dimm"], "ddim"),
        (["sample", "--sampler", "ddpm_learned"], "predicts its variance"),
        (["sample", "--times", "krras"], "Did you mean 'karras'"),
        (["evaluate", "--rule", "trailling"], "Did you mean 'trailing'"),
        (["sample", "--steps", "1001"], "1000"),
        (["sample", "--steps", "0"], "steps"),
        (["sample", "--guidance", "-1"], "guidance"),
        (["sample", "--guidance", "nan"], "guidance"),
        (["sample", "--n", "0"], "n is 0"),
        (["sample", "--seed", "100000000000000000000"], "0..4294967295"),
        (["mine", "--label", "0", "--seed", "4294967296"], "seed is 4294967296"),
        (["sample", "--seed", "-1"], "seed is -1"),
        (["sample", "--model", "fashon"], "fashion_mnist"),
        (["train", "--data", "imagenet"], "fashion_mnist"),
        (["train", "--data", "digits", "--preset", "cpu"], "presets that fit: digits"),
        (["typicality", "--data", "digits"], "digits"),
        (["typicality", "--t-range", "0.7", "0.1", "--n", "1"], "t_range"),
    ],
)
def test_bad_input_is_one_line_with_the_remedy(args, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert start.main(args) == 2
    err = capsys.readouterr().err
    assert words in err and "Traceback" not in err and err.strip().splitlines()[-1].startswith("ddpm: ")
    assert not list(tmp_path.iterdir())  # nothing was half done


def test_an_unknown_option_suggests_the_right_one(capsys):
    with pytest.raises(SystemExit) as e:
        start.main(["sample", "--guidence", "2"])
    assert e.value.code == 2
    assert "--guidance" in capsys.readouterr().err


def test_sample_by_class_writes_a_grid_and_an_npz(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert start.main(["sample", "--label", "ankle boot", "--n", "3", "--steps", "4", "--npz", "x.npz"]) == 0
    arrays = np.load("x.npz")
    assert arrays["arr_0"].shape == (3, 28, 28, 1) and arrays["arr_0"].dtype == np.uint8
    assert list(arrays["arr_1"]) == [9, 9, 9] and (tmp_path / "out/samples.png").stat().st_size > 500
    assert start.main(["sample", "--label", "9", "--n", "3", "--steps", "4", "--npz", "y.npz", "--seed", "0"]) == 0
    np.testing.assert_array_equal(arrays["arr_0"], np.load("y.npz")["arr_0"])


@pytest.mark.slow
def test_typicality_of_generated_garments(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert start.main(["typicality", "--label", "Trouser", "--n", "3", "--draws", "5"]) == 0
    rows = (tmp_path / "out/typicality.csv").read_text().splitlines()
    assert rows[0] == "image,class,typicality,stderr" and len(rows) == 4
    assert "Trouser" in capsys.readouterr().out


@pytest.mark.slow
def test_train_on_digits_makes_a_run_that_the_other_commands_take(tmp_path, monkeypatch, capsys):
    from ddpm import config

    tiny = config.UNetConfig(8, 1, channels=8, multipliers=(1, 2), blocks=1, attention=(), groups=4)
    monkeypatch.setitem(config.UNETS, "tiny", tiny)
    monkeypatch.chdir(tmp_path)
    train = ["train", "--data", "digits", "--preset", "tiny", "--name", "r", "--steps", "4", "--save-every", "4"]
    assert start.main(train) == 0
    printed = capsys.readouterr().out
    assert "parameters" in printed and "GFLOP" in printed and "MiB" in printed and "min" in printed
    assert start.main(train) == 0 and "4 steps already" in capsys.readouterr().out
    assert start.main([*train, "--lr", "0.5"]) == 2 and "lr was 0.001, now 0.5" in capsys.readouterr().err
    two = ["sample", "--model", "runs/r", "--label", "7", "--n", "2", "--steps", "2"]
    assert start.main(two) == 0  # at times that are searched on the digits' covariance, which is beside the run
    shutil.copy("out/samples.png", "out/first.png")
    assert start.main([*two, "--rule", "searched"]) == 0
    assert Path("out/first.png").read_bytes() == Path("out/samples.png").read_bytes()
    assert start.main([*two, "--times", "trailing"]) == 0
    assert Path("out/first.png").read_bytes() != Path("out/samples.png").read_bytes()
    assert start.main(["info"]) == 0 and "step 4 of 4" in capsys.readouterr().out
    assert sources.where("digits")


def test_any_terminal_can_show_what_the_commands_say(tmp_path):
    """Under cp1252, under an ASCII locale that Python may not improve, and without a home folder."""
    code = (
        "import os, pwd, sys\n"
        "pwd.getpwuid = {}.__getitem__\n"  # a user who is only a number
        "from ddpm.cli import start\n"
        "sys.argv[1:] = sys.argv[1].split()\n"
        "sys.exit(start.entry())\n"
    )
    strange = [{"PYTHONIOENCODING": "cp1252"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
    for words, more in zip(["info", "train --help"], strange, strict=True):
        env = {k: v for k, v in os.environ.items() if k not in ("HOME", "DDPM_CACHE_DIR", "LANG")} | more
        done = subprocess.run([sys.executable, "-c", code, words], env=env, capture_output=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr.decode("cp1252")
        assert b"fashion_mnist" in done.stdout and b"ddpm train" in done.stdout
    assert not list(tmp_path.iterdir())


def test_huge_pages_are_asked_for_once(monkeypatch):
    calls = []
    monkeypatch.setattr(os, "execv", lambda *args: calls.append(args))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    start.ask_for_huge_pages()
    assert os.environ["GLIBC_TUNABLES"] == start.MALLOC
    start.ask_for_huge_pages()
    assert len(calls) == 1 and calls[0][0] == sys.executable

    def refuses(*args):
        raise PermissionError("exec")

    monkeypatch.setattr(os, "execv", refuses)
    monkeypatch.delenv("GLIBC_TUNABLES")
    start.ask_for_huge_pages()  # and goes on without


def test_glibc_knows_each_of_its_settings():
    """One that it does not know it would leave out, without a word."""
    loader = next(iter(sorted(Path("/lib64").glob("ld-linux-*.so.*"))), None)
    if loader is None:
        pytest.skip("no glibc here")
    told = subprocess.run(
        [loader, "--list-tunables"], env={"GLIBC_TUNABLES": start.MALLOC}, capture_output=True, text=True
    )
    if told.returncode:
        pytest.skip("this glibc does not list its settings")
    for name, value in (setting.split("=") for setting in start.MALLOC.split(":")):
        assert int(re.findall(rf"^{name}: (\S+)", told.stdout, re.MULTILINE)[0], 0) == int(value)


@pytest.mark.parametrize("args", [["info"], ["course", "status"]])
def test_a_reader_that_has_seen_enough_is_no_error(args, tmp_path):
    """As `ddpm info | head -3`."""
    if args[0] == "course":
        assert start.main(["course", "init", str(tmp_path)]) == 0
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "ddpm.cli", *args]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
