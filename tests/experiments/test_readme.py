"""The README and its pages: the ten lines run, the numbers are those of the cards, links and commands exist."""

import doctest
import re
import typing
from pathlib import Path

import pytest

from ddpm.cli import options
from ddpm.course import cli as course
from experiments.lab import readme_pages

ROOT = Path(__file__).parents[2]
TEXTS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/scale.md",
    "docs/testing.md",
    "docs/loggers.md",
    "docs/own_pictures.md",
    *readme_pages.PAGES,
)
pytestmark = pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="not in a checkout")


@pytest.mark.slow
def test_the_ten_lines_run():
    # Arrays of different rank are added in user code too: the strictness of the tests is not for the reader.
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted >= 8 and result.failed == 0


def test_the_tables_are_those_of_the_cards():
    text = (ROOT / "README.md").read_text()
    assert readme_pages.rendered(text) == text, "run python -m experiments.lab.readme_pages"
    for name, page in readme_pages.PAGES.items():
        assert (ROOT / name).read_text() == page() + "\n", f"{name}: run python -m experiments.lab.readme_pages"


def test_the_readme_is_short_and_no_number_in_its_prose_is_typed_in():
    """Every number stands in a generated part, in code, or is a version; the equations' own are allowed."""
    text = (ROOT / "README.md").read_text()
    assert 6000 <= len(text.encode()) <= 7168
    for generated in readme_pages.PARTS:
        text = re.sub(rf"<!-- {generated} -->.*?<!-- end -->", "", text, flags=re.S)
    prose = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", "", text, flags=re.S)
    assert set(re.findall(r"(?<!\w)[\d.,]*\d", prose)) <= {"3.11", "1", "0"}  # Python; t = 1…T, t = 0, ᾱ_0 = 1


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name):
    for link, anchor in re.findall(r"\]\(([^)#]+)(?:#([^)]*))?\)", (ROOT / name).read_text()):
        target = (ROOT / name).parent / link
        assert link.startswith("http") or target.exists(), link
        assert not anchor or f'<a id="{anchor}">' in target.read_text(), anchor


def test_nobody_is_told_to_install_a_strangers_package():
    """`ddpm` on the public index is another project; ours is the distribution ddpm-jax."""
    stranger = re.compile(r"pip install( -\S+)* +['\"]?ddpm\b(?!-jax)|\bddpm\[[a-z]|pip: \[ddpm")
    assert stranger.search("pip install -q ddpm") and stranger.search("pip install 'ddpm[hub]'")
    for file in [*(ROOT / name for name in TEXTS), *(ROOT / "ddpm").rglob("*.py"), *(ROOT / "lessons").glob("*.py")]:
        assert not stranger.search(file.read_text(encoding="utf-8")), file


def test_every_command_that_is_named_exists():
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"(?:^|bin/|`)ddpm ([a-z]+)", text, flags=re.M))
    known = {a.__metadata__[0].name for a in typing.get_args(options.commands())}
    assert {"train", "mine", "course"} <= named <= known
    for command in re.findall(r"ddpm course ([a-z]+)", text):
        assert f"{command}" in Path(course.__file__).read_text(), command
