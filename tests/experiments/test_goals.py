"""The page of goals: its verdicts, and the numbers of version 0.1 against the history they come from."""

import json
import subprocess

import pytest

from experiments.lab import goals
from experiments.lab.goals import Goal


@pytest.mark.parametrize(
    ("goal", "now", "better", "reached"),
    [(5, 5.0, -1, True), (5, 5.01, -1, False), (5, 4.9, -1, True), (0.85, 0.85, 1, True), (0.85, 0.849, 1, False)],
)
def test_a_goal_is_reached_at_its_number_and_beyond(goal, now, better, reached):
    assert Goal("", goal, now, better).reached is reached


def test_the_verdict_is_that_of_the_number_in_the_row():
    """What is printed as 5 is not said to miss 5."""
    row = goals.table([Goal("start", 5, 5.0049, -1, 5.94, "s", "Because.")])[-1]
    assert row == "| start | ≤ 5 s | 5.94 s | 5 s | yes |"


def test_the_numbers_before_are_those_that_version_0_1_committed():
    kept = goals.read("goals/before.json")
    for name, of in kept.items():
        done = subprocess.run(["git", "show", f"{of['commit']}:{of['path']}"], capture_output=True, cwd=goals.ROOT)
        if done.returncode:
            pytest.skip("this checkout has not the whole history")
        value = json.loads(done.stdout)
        for key in of["keys"]:
            value = value[key]
        assert value == of["value"], name


def test_the_goal_is_reached_on_the_line_between_two_measurements():
    curve = [{"seconds": s, "test_loss": loss} for s, loss in ((1, 9.0), (10, 0.5), (30, 0.1))]
    assert goals.seconds_to(0.3, curve) == pytest.approx(20)
    assert goals.seconds_to(0.1, curve) == pytest.approx(30)
