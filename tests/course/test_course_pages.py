"""The pages around the lessons: the numbers are those of the lessons, and the formulas hold."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from ddpm.course import checks, export, student
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


@pytest.mark.parametrize(
    "text, tex",
    [
        ("x_t = √ᾱ_t x0 + √(1-ᾱ_t) β", r"x_{t} = \sqrt{\bar{\alpha}_{t}} x_{0} + \sqrt{1-\bar{\alpha}_{t}} \beta"),
        ("s = ε_∅ + Σ_i w_i (ε̂_i)", r"s = \varepsilon_{\varnothing} + \sum_{i} w_{i} (\hat{\varepsilon}_{i})"),
        ("Σ_t⁻¹ = L_simple", r"\Sigma_{t}^{-1} = L_{\text{simple}}"),
        ("W = aḃ - ȧb", r"W = a\dot{b} - \dot{a}b"),
        ("ΔW = sin πh_σt", r"\Delta W = \operatorname{sin} \pi h_{\sigma t}"),  # a command ends before a letter
        ("p ∝ E[L_t²]   [Ho 2020, Eq. 4]", r"p \propto \mathbb{E}[L_{t}^{2}]\qquad\text{\small[Ho 2020, Eq. 4]}"),
    ],
)
def test_a_formula_of_a_docstring_becomes_tex(pages, text, tex):
    made = pages.formulas.block(f"    {text}")
    assert re.sub(r"\s+", " ", made).replace(" }", "}") == tex


@pytest.mark.parametrize(
    "text", ["    pip install it", "    step : (key, x_t) -> x_s", "    a = `code`", "    1  seeds of it"]
)
def test_what_is_no_formula_stays_as_it_is_written(pages, text):
    assert pages.formulas.block(text) is None and "<pre>" in pages.docstring_html(text)


@pytest.mark.parametrize(
    "text, found",
    [
        ("Draw x_t ~ N(√ᾱ_t x0, I), for a key.", ["x_t ~ N(√ᾱ_t x0, I)"]),
        ("x0: (B, ...) data;  t: (B,) int in 1..T", []),  # shapes and prose
        ("the score, -ε̂/√(1-ᾱ_t), and x̂0.", ["-ε̂/√(1-ᾱ_t)", "x̂0"]),
        ("`a_t` is code, num_classes too, a -> b as well", []),
        ("tr (Σ_p^½ Σ_q Σ_p^½)^½ is a number", ["tr (Σ_p^½ Σ_q Σ_p^½)^½"]),
        ("(half of ε_t, an open bracket", ["ε_t"]),
    ],
)
def test_formulas_of_running_text_are_found_and_the_rest_stays_as_it_is(pages, text, found):
    parts = pages.formulas.inline(text)
    assert [tex for is_formula, tex in parts if is_formula] == [pages.formulas.Reader(f).formula() for f in found]
    plain = "".join(word for is_formula, word in parts if not is_formula)
    for formula in found:
        text = text.replace(formula, "", 1)
    assert plain == text and "\\sum" not in "".join(tex for _, tex in parts)
    assert pages.running_text("a*b `c_d` <e>") == r"a\*b <code>c\_d</code> \<e\>"
    assert pages.running_text("`f(x)[0](key)`") == r"<code>f(x)\[0\](key)</code>"  # no link


def test_what_follows_a_bet_is_folded_up_to_the_next_heading(pages):
    """Each lesson with a bet opens and closes as many folds, none within another, and none around a heading."""
    bets = 0
    for number in lessons.files():
        open_now = False
        closed = False
        for source in (c["source"] for c in json.loads(pages.lesson_page(number))["cells"]):
            assert not closed or source.startswith("#")  # nothing of the answer is left between fold and heading
            closed = source == pages.CLOSE
            if source == pages.OPEN:
                assert not open_now
                open_now, bets = True, bets + 1
            elif source == pages.CLOSE:
                assert open_now
                open_now = False
            assert not (open_now and re.match("#+ ", source))
        assert not open_now
    parts = [p for n in checks.lessons_with_checks() for e in checks.of_lesson(n).values() for p in e.parts]
    assert bets == sum(p.kind == "prediction" for p in parts) > 5


@pytest.mark.parametrize("lesson", [n for n in lessons.files() if '"""Your bet' in lessons.text_of(n)])
def test_a_notebook_tells_the_answer_of_a_bet_only_after_a_click(lesson):
    """The learner's, and both graders': text is inside <details> and code is hidden, up to the next heading."""
    pytest.importorskip("jupytext")
    books = [student.notebook(lesson), *(export.notebook(lesson, to, 0) for to in ("nbgrader", "otter"))]
    for cells in (json.loads(book)["cells"] for book in books):
        told, seen = False, 0
        for c in cells:
            source = "".join(c["source"])
            told = told and not source.startswith("#" * 2)
            if c["cell_type"] == "markdown":
                assert told == source.startswith(lessons.FOLD) == source.endswith("</details>"), source
                assert source.count("details>") == told and source.count("<details") == told
            elif c["cell_type"] == "code" and "TODO" not in source and "SOLUTION" not in source:
                mine = source.startswith(("require(", "checked")) or " = checked(" in source
                assert c["metadata"].get("jupyter") == ({"source_hidden": True} if told and not mine else None)
            told = told or '"""Your bet' in source
            seen += told
        assert seen
