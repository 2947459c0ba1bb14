"""The pages around the lessons: the numbers are those of the lessons, and the formulas hold."""

import importlib
import re
import sys
from pathlib import Path

import pytest

from ddpm.course import lesson as lessons

SITE = Path(__file__).parents[2] / "docs" / "site"


@pytest.fixture(scope="module")
def pages():
    sys.path.insert(0, str(SITE))
    yield importlib.import_module("pages")
    sys.path.remove(str(SITE))


def test_the_code_of_the_refreshers_runs():
    blocks = re.findall(r"```python\n(.*?)```", (SITE / "refreshers.md").read_text(encoding="utf-8"), re.S)
    scope = {}
    for block in blocks:
        assert "assert " in block
        exec(block, scope)
    assert len(blocks) == 3


def test_the_page_before_the_lessons_has_their_numbers(pages):
    text = pages.begin_page()
    read = {n: int(re.search(r"\| (\d+) minutes to read", lessons.text_of(n)).group(1)) for n in lessons.files()}
    assert "{{" not in text and f"{sum(read.values())} minutes to read and do" in text
    assert f"{len(read)} lessons, {len(lessons.all_tasks())} exercises" in text
    for row in re.findall(r"^\| .* \| (L\d.*) \| (\d+) \|$", text, re.M):
        assert sum(read[int(n)] for n in re.findall(r"L(\d+)", row[0])) == int(row[1])
    assert {int(n) for n in re.findall(r"\bL(\d+)\b", text)} <= set(read)
    assert pages.minutes(0) == (20, 0) and pages.minutes(5) == (60, 1)
    for name in set(re.findall(r"`(ddpm\.\w+)`", text)):
        importlib.import_module(name)
