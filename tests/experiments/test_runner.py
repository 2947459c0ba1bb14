"""The experiments' runner: what it refuses, what it writes, and that an interrupted set resumes where it stopped."""

import dataclasses
import json
from types import ModuleType

import matplotlib.pyplot as plt
import pytest

from experiments import __main__ as command
from experiments.lab import gallery, runner
from experiments.lab.runner import Result, Row


@dataclasses.dataclass(frozen=True)
class Config:
    n: int = 3
    scale: float = 1.0
    data: str = ""


def toy(tmp_path, monkeypatch, ours=2.0, fails=False):
    """A module as experiments are, that counts its runs."""
    file = tmp_path / "toy.py"
    file.write_text('"""Toy: a title.\n\nWords."""\n')
    module = ModuleType("experiments.toy", file.read_text()[3:-4])
    runs = []

    def run(config):
        runs.append(config)
        if fails:
            raise runner.Unavailable("no data here; set DDPM_DATA_DIR")
        return Result([Row("two", 2.1, 2.0, ours, within=1e-6)], plt.figure(figsize=(2, 2)), {"n": config.n})

    module.__dict__.update(Config=Config, QUICK={"n": 1}, PAPER="Nobody 2000", MINUTES=0.1, run=run, __file__=str(file))
    monkeypatch.setattr(runner, "names", lambda which="all": ["toy"])
    monkeypatch.setattr(runner, "find", lambda name: module)
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(runner, "ELSEWHERE", tmp_path / "elsewhere")
    return module, runs


def test_the_default_goes_into_the_results_and_anything_else_elsewhere(tmp_path, monkeypatch, capsys):
    _, runs = toy(tmp_path, monkeypatch)
    folder = runner.make("toy")
    assert folder == tmp_path / "results/toy" and {f.name for f in folder.iterdir()} == {
        "config.json", "metrics.json", "figure.png"
    }  # fmt: skip
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["command"] == "python -m experiments toy" and metrics["rows"][0]["ours"] == 2
    assert {"device", "seconds", "commit", "versions", "date"} <= set(metrics)
    before = (folder / "metrics.json").read_bytes()
    assert runner.make("toy", ["n=7"]) == runner.make("toy", quick=True) == tmp_path / "elsewhere/toy"
    assert [c.n for c in runs] == [3, 7, 1] and (folder / "metrics.json").read_bytes() == before
    assert "| two | 2.1 | 2 | 2 |" in capsys.readouterr().out


def test_what_is_up_to_date_is_not_made_again(tmp_path, monkeypatch):
    module, runs = toy(tmp_path, monkeypatch)
    folder = runner.make("toy")
    runner.make("toy")
    assert len(runs) == 1
    (folder / "figure.png").unlink()  # as if it had been interrupted between two files
    runner.make("toy")
    assert len(runs) == 2
    runner.make("toy", force=True)
    assert len(runs) == 3
    with open(module.__file__, "a") as f:
        f.write("x = 1\n")
    runner.make("toy")
    assert len(runs) == 4
    with open(module.__file__, "a") as f:
        f.write("\n\n")  # layout does not count
    runner.make("toy")
    assert len(runs) == 4


def test_a_picture_is_drawn_again_without_measuring(tmp_path, monkeypatch, capsys):
    module, runs = toy(tmp_path, monkeypatch)
    folder = runner.make("toy")
    with pytest.raises(ValueError, match="without --redraw"):
        runner.make("toy", redraw=True)
    drawn = []

    def redraw(rows, numbers):
        drawn.append((rows[0]["ours"], numbers["n"]))
        return plt.figure(figsize=(3, 1))

    module.redraw = redraw
    with open(module.__file__, "a") as f:
        f.write("\n\ndef redraw(rows, numbers):\n    return None\n")  # how it is drawn does not make it out of date
    before, picture = (folder / "metrics.json").read_bytes(), (folder / "figure.png").read_bytes()
    assert command.main(["toy", "--redraw"]) == 0
    assert drawn == [(2, 3)] and len(runs) == 1 and (folder / "metrics.json").read_bytes() == before
    assert (folder / "figure.png").read_bytes() != picture
    with open(module.__file__, "a") as f:
        f.write("x = 1\n")
    assert command.main(["toy", "--redraw"]) == 2  # measured by other code
    assert "holds no result of toy as it is now" in capsys.readouterr().err


def test_what_is_left_to_make_and_how_long_it_takes_is_said_first(tmp_path, monkeypatch, capsys):
    toy(tmp_path, monkeypatch)
    assert "1 of 1 experiments to run, about 0 min" in command.forecast(["toy"], False)
    assert command.main(["toy", "--quick", "n=7"]) == 0  # options and fields in any order
    runner.make("toy")
    assert command.forecast(["toy"], False).startswith("0 of 1") and command.forecast(["toy"], True).startswith(
        "1 of 1"
    )


def test_a_wrong_row_fails_and_leaves_nothing(tmp_path, monkeypatch):
    toy(tmp_path, monkeypatch, ours=2.001)
    with pytest.raises(AssertionError, match=r"ours 2\.001, exact 2"):
        runner.make("toy")
    assert not (tmp_path / "results").exists()


def test_a_tolerance_is_relative_and_absolute_below_near():
    Row("", exact=100.0, ours=100.9, within=0.01).check()
    Row("", exact=0.0, ours=0.009, within=0.01, near=1.0).check()
    for bad in (Row("", exact=100.0, ours=101.1, within=0.01), Row("", exact=0.0, ours=1e-9, within=0.01)):
        with pytest.raises(AssertionError):
            bad.check()
    with pytest.raises(AssertionError):
        Row("", exact=1.0, ours=float("nan"), within=1.0).check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("m=3", r"not field=value.*n=3"),
        ("n", "not field=value"),
        ("n=2.5", "give a int"),
        ("scale='a'", "give a float"),
    ],
)
def test_bad_fields_are_named(tmp_path, monkeypatch, change, message):
    _, runs = toy(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=message):
        runner.make("toy", [change])
    assert command.main(["toy", change]) == 2 and not runs


def test_fields_take_their_types(tmp_path, monkeypatch):
    module, _ = toy(tmp_path, monkeypatch)
    assert runner.configure(module, ["scale=2", "data=digits"], False) == Config(3, 2.0, "digits")


def test_what_cannot_run_is_left_out_and_said(tmp_path, monkeypatch, capsys):
    toy(tmp_path, monkeypatch, fails=True)
    assert command.main(["all"]) == 0
    assert "left out: no data here" in capsys.readouterr().out
    assert command.main(["toy"]) == 2
    assert command.main(["all", "n=3"]) == 2


def test_unknown_experiment_is_named(capsys):
    assert command.main(["nothing"]) == 2
    assert "cfg_tilted" in capsys.readouterr().err


@pytest.mark.slow
def test_the_gallery_is_that_of_the_results():
    """No number in it was typed: it is made anew from metrics.json, and every result is that of the code as it is."""
    assert (runner.RESULTS / "README.md").read_text() == gallery.page()
    assert all(runner.is_current(name) for name in gallery.results())


def test_a_row_next_to_an_exact_value_is_checked_or_says_why(tmp_path, monkeypatch):
    """Without a tolerance and without a reason nothing is written."""
    module, _ = toy(tmp_path, monkeypatch)
    module.run = lambda config: Result([Row("a number", None, 1.0, 2.0)], plt.figure(figsize=(2, 2)))
    with pytest.raises(AssertionError, match="'a number' has an exact value and no tolerance"):
        runner.make("toy")
    assert not (tmp_path / "results/toy").exists()
    module.UNCHECKED = "It is another thing."
    assert (runner.make("toy") / "metrics.json").exists()


MEASURED = {name: file for name in runner.names() if (file := runner.RESULTS / name / "metrics.json").exists()}


@pytest.mark.parametrize("name", sorted(MEASURED))
def test_every_committed_row_is_checked_or_says_why(name):
    module, rows = runner.find(name), json.loads(MEASURED[name].read_text())["rows"]
    for r in rows:
        Row(**r).check()
    assert bool(runner.unchecked(rows)) == hasattr(module, "UNCHECKED")
