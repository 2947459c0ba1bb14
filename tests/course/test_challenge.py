"""The challenge: scores by closed forms, and entries that break a rule are refused with a sentence."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from ddpm import schedule
from ddpm.cli import start
from ddpm.course import challenge
from ddpm.samplers import best_times

ENTRIES = Path(__file__).parents[2] / "docs" / "challenge"


def entry(tmp_path, body, top=""):
    """A file with this body of `sample`."""
    file = tmp_path / "mine.py"
    file.write_text(f"import numpy as np\n{top}\n\n\ndef sample(eps, noise, calls):\n    {body}\n")
    return file


def test_ddim_scores_its_closed_form():
    """In this process: the walk of an entry in N calls is w2_of_times of its list, and the exact map scores 0."""
    var, mean, number = challenge.track()
    chain = schedule.cosine(1000)
    times = best_times.searched(chain, var, 4, mean, number=number)
    alpha_bar = np.asarray(chain.alpha_bar, np.float64)[times]

    def ddim(eps, x, calls):
        for p, q in itertools.pairwise(alpha_bar):
            e = eps(x, p)
            x = np.sqrt(q) * (x - np.sqrt(1 - p) * e) / np.sqrt(p) + np.sqrt(1 - q) * e
        return x

    noise = np.repeat(challenge.quantiles()[:, None], len(var), axis=1)
    drawn = challenge.run_entry(ddim, noise, var, mean, 4)
    wanted = best_times.w2_of_times(chain, var, times, mean, number)
    assert np.isclose(challenge.score(drawn, var, mean, number), wanted, rtol=1e-9)
    assert challenge.score(mean + np.sqrt(var) * noise, var, mean, number) < 1e-20
    assert np.isclose(challenge.score(mean + 0 * noise, var, mean, number), (var * number).sum())
    with pytest.raises(ValueError, match="more than 3 times"):
        challenge.run_entry(ddim, noise, var, mean, 3)
    with pytest.raises(ValueError, match="give"):
        challenge.run_entry(lambda eps, x, calls: eps(np.tile(x, (2, 1)), 0.5), noise, var, mean, 3)


def test_an_entry_is_scored_in_the_sandbox_and_put_on_the_board_once(tmp_path, capsys):
    board = tmp_path / "board.json"
    for _ in range(2):
        args = ["challenge", "submit", str(ENTRIES / "read_off.py"), "--board", str(board), "--seed", "3"]
        assert start.main(args) == 0
    (row,) = json.loads(board.read_text())["gaussian"]
    assert row["entry"] == "read_off" and row["seed"] == 3 and "commit" in row and max(row["w2"]) < 1e-6
    assert start.main(["challenge", "board", "--board", str(board)]) == 0
    assert "read_off" in capsys.readouterr().out


def test_the_committed_board_is_that_of_the_entries():
    rows = {row["entry"]: row["w2"] for row in challenge.read(ENTRIES / "board.json")["gaussian"]}
    assert set(rows) == {file.stem for file in ENTRIES.glob("*.py")}
    assert np.allclose(challenge.judged(ENTRIES / "free_start.py"), rows["free_start"], rtol=1e-9)


@pytest.mark.parametrize(
    ("body", "top", "sentence"),
    [
        ("return noise", "import time", "no clock"),
        ("return noise", "from ddpm.datasets import sources", "imports ddpm.datasets"),
        ("return open('x').read()", "", "it uses open"),
        ("return noise.__class__", "", "it uses __class__"),
    ],
)
def test_what_an_entry_may_not_contain_is_found_before_it_runs(tmp_path, body, top, sentence):
    with pytest.raises(ValueError, match=sentence):
        challenge.judged(entry(tmp_path, body, top))


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("return np.load('{secret}')", "open, to read outside"),
        ("while True: pass", "more than 1 seconds of processor time"),
        ("return [eps(noise, 0.5) for _ in range(calls + 1)][0]", "more than 1 times"),
        ("return noise * np.nan", "finite numbers of shape"),
    ],
)
def test_what_an_entry_may_not_do_is_refused_while_it_runs(tmp_path, body, sentence):
    np.save(tmp_path / "test.npy", np.zeros(3))
    with pytest.raises(ValueError, match=sentence):
        challenge.judged(entry(tmp_path, body.format(secret=tmp_path / "test.npy")), seconds=1.0)


def test_a_missing_entry_and_a_broken_board_are_one_sentence(tmp_path, capsys):
    (tmp_path / "board.json").write_text("[]")
    assert start.main(["challenge", "run", str(tmp_path / "none.py")]) == 2
    assert start.main(["challenge", "board", "--board", str(tmp_path / "board.json")]) == 2
    first, second = capsys.readouterr().err.strip().splitlines()
    assert "is not there" in first and "is not a board" in second
