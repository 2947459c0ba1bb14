"""The paper shelf: one file a paper, short, imported by nobody, and each runs to its end in its quick form."""

import re

import pytest

from experiments.lab import papers, runner

FILES = sorted(f for f in runner.SHELF.glob("*.py") if f.name != "__init__.py")


def test_the_list_has_every_paper_once_and_every_file():
    assert sorted(p.number for p in papers.PAPERS) == list(range(1, 66))
    assert {p.group for p in papers.PAPERS} == set(papers.GROUPS)
    listed = [name for p in papers.PAPERS for name in p.experiments]
    assert {f.stem for f in FILES} <= set(listed) <= set(runner.names()) and len(set(listed)) == len(listed)
    assert not [p.name for p in papers.PAPERS if p.experiments and p.why], "an experiment, or why there is none"


def test_one_paper_is_one_file_of_150_lines_that_nobody_imports():
    for file in FILES:
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 150, file.name
    root = runner.HERE.parent
    sources = [f for part in ("ddpm", "experiments", "lessons") for f in (root / part).rglob("*.py")]
    imports = [f.name for f in sources if re.search(r"(from|import) experiments\.shelf", f.read_text(encoding="utf-8"))]
    assert not imports


def test_the_page_of_the_shelf_is_that_of_the_results():
    assert (runner.RESULTS / "SHELF.md").read_text(encoding="utf-8") == papers.page()


@pytest.mark.slow
@pytest.mark.parametrize("name", [f.stem for f in FILES])
def test_quick_form(name, tmp_path):
    """Each row that is checked agrees with its closed form, in the quick form; the picture is drawn."""
    try:
        folder = runner.make(name, quick=True, out=tmp_path)
    except runner.Unavailable as missing:
        pytest.skip(str(missing))
    assert (folder / "figure.png").stat().st_size > 5000
