"""Build the site: lessons with their figures, the library as annotated pages, the gallery, the table of notations.

    python docs/site/build.py [OUT] [--lessons 1 3] [--execute off]        (make site)

Pages are made from the lessons, the modules and the results, so that there is no second text to keep; Sphinx and
MyST-NB run the lessons (cached by their code and by the library's) and render everything. Needs the extra `course`, and
node for the formulas. Nothing on a page comes from another host.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT))

from ddpm.course import lesson as lessons  # noqa: E402
from ddpm.course import student  # noqa: E402


def cell(kind: str, source: str, **metadata: object) -> dict:
    """A cell of a notebook."""
    out = {"cell_type": kind, "metadata": metadata, "source": source.strip("\n")}
    return out | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def lesson_page(number: int) -> str:
    """A lesson as a notebook: of an exercise the stub is shown, and the solution is run and folded."""
    cells = []
    task = ""
    for part in lessons.cells(lessons.text_of(number)):
        part.lines = [line for line in part.lines if not line.startswith("# ruff:")]
        body = "\n".join(part.lines).strip("\n")
        for heading in filter(None, map(lessons.HEADING.match, part.lines)):
            task = heading.group(1)
        if part.markdown:
            cells.append(cell("markdown", "\n".join(line.removeprefix("#").removeprefix(" ") for line in part.lines)))
        elif lessons.BEGIN in body:
            stub = "\n".join(student.stubbed(part.lines, task)).strip("\n")
            cells.append(cell("markdown", f"```python\n{stub}\n```"))
            solved = "\n".join(line for line in part.lines if line.strip() not in (lessons.BEGIN, lessons.END))
            cells.append(cell("code", solved, tags=["hide-input"]))
        elif re.fullmatch(r"(\s*#.*\n?)*", body):
            continue
        else:
            cells.append(cell("code", body))
    for i, c in enumerate(cells):
        c["id"] = f"l{number:02d}-{i:03d}"
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})


def module_page(file: Path) -> str:
    """A module of the library: its docstring, and for each function or class the docstring beside the code."""
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    words = ast.get_docstring(tree) or ""
    out = [f"# ddpm.{file.stem}", literal(words)]
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            code = "\n".join(text.splitlines()[first_line(node) - 1 : node.end_lineno])
            out += [f"## `{node.name}`", f"```python\n{code}\n```"]
    return "\n\n".join(out) + "\n"


def first_line(node: ast.FunctionDef | ast.ClassDef) -> int:
    """With its decorators."""
    return min([node.lineno, *(d.lineno for d in node.decorator_list)])


def literal(words: str) -> str:
    """A docstring as it stands: its columns mean something."""
    return f"```text\n{words}\n```"


def gallery_page(source: Path) -> str:
    """The experiments that have a picture, with the first line of what they say about themselves."""
    out = ["# Gallery", "Each picture is made again by `python -m experiments NAME`; the numbers lie beside it."]
    for folder in sorted((ROOT / "experiments" / "results").iterdir()):
        picture, module = folder / "figure.png", ROOT / "experiments" / f"{folder.name}.py"
        if not picture.is_file():
            continue
        shutil.copy(picture, source / "gallery" / f"{folder.name}.png")
        words = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) if module.is_file() else ""
        title = (words or folder.name).split("\n\n")[0].replace("\n", " ")
        out += [f"## {folder.name}", title, f"![{folder.name}]({folder.name}.png)"]
    return "\n\n".join(out) + "\n"


def index_page(chosen: list[int], rosetta: bool) -> str:
    """The front page, with the tables of contents."""
    chapters = "\n".join(f"lessons/{lessons.files()[number].stem}" for number in chosen)
    more = "gallery/index\n" + ("rosetta" if rosetta else "")
    words = (HERE / "index.md").read_text(encoding="utf-8")
    toc = "\n\n```{{toctree}}\n:caption: {}\n:maxdepth: 1\n\n{}\n```"
    return (
        words
        + toc.format("Lessons", chapters)
        + toc.format("Results", more)
        + toc.format("Library", "library/index")
        + "\n"
    )


def library_page(modules: list[str]) -> str:
    """The map of the library, and a page for each module."""
    words = ast.get_docstring(ast.parse((ROOT / "ddpm" / "__init__.py").read_text(encoding="utf-8"))) or ""
    return f"# The library\n\n{literal(words)}\n\n```{{toctree}}\n:maxdepth: 1\n\n" + "\n".join(modules) + "\n```\n"


def make_sources(source: Path, chosen: list[int]) -> None:
    """Write all pages into a fresh folder."""
    shutil.rmtree(source, ignore_errors=True)
    for folder in ("lessons", "library", "gallery"):
        (source / folder).mkdir(parents=True)
    for name in ("conf.py", "sidebyside.py"):
        shutil.copy(HERE / name, source)
    shutil.copytree(HERE / "static", source / "static")
    for number in chosen:
        page = source / "lessons" / f"{lessons.files()[number].stem}.ipynb"
        page.write_text(lesson_page(number), encoding="utf-8")
    modules = [f.stem for f in sorted((ROOT / "ddpm").glob("*.py")) if f.stem != "__init__"]
    for name in modules:
        (source / "library" / f"{name}.md").write_text(module_page(ROOT / "ddpm" / f"{name}.py"), encoding="utf-8")
    (source / "library" / "index.md").write_text(library_page(modules), encoding="utf-8")
    (source / "gallery" / "index.md").write_text(gallery_page(source), encoding="utf-8")
    rosetta = ROOT / "experiments" / "results" / "rosetta" / "rosetta.md"
    if rosetta.is_file():
        shutil.copy(rosetta, source / "rosetta.md")
    (source / "index.md").write_text(index_page(chosen, rosetta.is_file()), encoding="utf-8")


def library_hash() -> str:
    """The cache knows the lessons' code only; this makes it know the library's."""
    digest = hashlib.sha256()
    for file in sorted((ROOT / "ddpm").glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def main() -> int:
    """Write the pages, run Sphinx."""
    parser = argparse.ArgumentParser(description="Build the site.")
    parser.add_argument("out", nargs="?", type=Path, default=ROOT / "site", help="where to")
    parser.add_argument("--lessons", nargs="*", type=int, default=list(lessons.files()), help="only these")
    parser.add_argument("--execute", choices=["cache", "force", "off"], default="cache", help="run the lessons")
    args = parser.parse_args()
    out = args.out.resolve()
    make_sources(out / "source", args.lessons)
    env = os.environ | {"DDPM_SITE_CACHE": str(out / "cache" / library_hash()), "DDPM_SITE_EXECUTE": args.execute}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(out / "source"), str(out / "html")]
    done = subprocess.run(command, env=env, check=False)
    if done.returncode == 0:
        print(f"{out / 'html' / 'index.html'}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
