"""The README: its ten lines run, its numbers are those of the cards, its links and commands exist."""

import doctest
import re
import typing
from pathlib import Path

import pytest

from ddpm.cli import options
from ddpm.course import cli as course
from experiments import readme

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="not in a checkout")


def test_the_ten_lines_run():
    # Arrays of different rank are added in user code too: the strictness of the tests is not for the reader.
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted >= 8 and result.failed == 0


def test_the_tables_are_those_of_the_cards():
    text = (ROOT / "README.md").read_text()
    assert readme.rendered(text) == text, "run python -m experiments.readme"


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert link.startswith("http") or (ROOT / link).exists(), link


def test_every_command_that_is_named_exists():
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"(?:bin/|`)ddpm ([a-z]+)", text))
    known = {a.__metadata__[0].name for a in typing.get_args(options.COMMANDS)}
    assert {"train", "mine", "course"} <= named <= known
    for command in re.findall(r"ddpm course ([a-z]+)", text):
        assert f"{command}" in Path(course.__file__).read_text(), command
