"""The learner's files: a lesson without its solutions, with a check after each exercise.

The code between the marks becomes `# TODO 1.2: one line` and `raise NotImplementedError("1.2")`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from ddpm.course import lesson as lessons

HOW = """\
# %% [markdown]
# > **How this works.** Write what is marked `TODO`, save, and ask: `ddpm course check {first}` in a terminal, or run
# > the line `… = checked(…)` below the exercise. It names your mistake, if it is a known one. Stuck?
# > `ddpm course hint {first}`. Exercises can be skipped: the lesson continues with the reference version.

# %%
from ddpm.course import checked
"""

INSTALL = """\
import importlib.util

if importlib.util.find_spec("ddpm") is None:  # on Colab, once
    %pip install --quiet "{source}"
"""
MISSING = """\
import importlib.util

# This notebook needs the package of the course. Where it is not installed, write above these lines
#     %pip install "the address or the wheel that your teacher gives"
if importlib.util.find_spec("ddpm") is None:
    raise ImportError("the package of this course is not installed: ask your teacher for its address or its wheel")
"""


def install(source: str) -> str:
    """Return a notebook's first cell: it installs the package, or reports that it is missing.

    source: a git address (git+https://…), a wheel's address or path, a folder; "" for none. A bare
    name is refused, because the public index would return a package of somebody else.
    """
    if not source:
        return MISSING.rstrip()
    if not ("/" in source or source.endswith(".whl")) or set(source) & set('"\\\n'):
        raise ValueError(
            f"source is {source!r}; give a git address (git+https://…) or the address or path of a wheel: "
            "a bare name would be looked up on the public index, where it may be another project"
        )
    return INSTALL.format(source=source).rstrip()


def size(lines: int) -> str:
    """Format a number of lines: 'one line', '4 lines'."""
    return "one line" if lines == 1 else f"{lines} lines"


def stubbed(lines: list[str], number: str) -> list[str]:
    """Replace each solution by a TODO that states the length of the reference."""
    out: list[str] = []
    indent, count = None, 0
    for line in lines:
        if line.strip() == lessons.BEGIN:
            indent, count = line[: line.index("#")], 0
        elif line.strip() == lessons.END:
            out += [f"{indent}# TODO {number}: {size(count)}", f'{indent}raise NotImplementedError("{number}")']
            indent = None
        elif indent is not None:
            count += 1
        else:
            out.append(line)
    return out


def text(lesson: int, checks: bool = True) -> str:
    """Write a lesson for learners, in percent format.

    checks: with the introduction and the line after each exercise
    """
    full = lessons.text_of(lesson)
    tasks = {t.number: t for t in lessons.tasks(full)}
    header = full[: full.index("# %%")] if "# %%" in full else ""
    out, number, left = [header.rstrip("\n")], "", set[str]()
    for place, (cell, told) in enumerate(lessons.with_bets(full)):
        for line in cell.lines:
            if heading := lessons.HEADING.match(line):
                number = heading.group(1)
                left = set(tasks[number].functions)
        body = stubbed(cell.lines, number)
        mark = "# %% [markdown]" if cell.markdown else "# %%"
        if told and cell.markdown:
            prose = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body)
            body = [f"# {line}".rstrip() for line in lessons.folded(prose).splitlines()]
        elif told and body == cell.lines:  # code without an exercise
            mark += f" jupyter={json.dumps(lessons.HIDDEN['jupyter'])}"
        out.append("\n".join([mark, *body]).rstrip())
        defined = {m.group(1) for line in cell.lines if (m := lessons.DEF.match(line))}
        if checks and left and not left - defined:
            names = ", ".join(tasks[number].functions)
            out.append(f'# %%\n{names} = checked("{number}", {names})')
        left -= defined
        if checks and place == 0 and tasks:
            out.append(HOW.format(first=next(iter(tasks))).rstrip())
    return "\n\n".join(spaced(part) for part in out) + "\n"


def spaced(part: str) -> str:
    """Add a blank line before a cell that begins with a definition, as formatters do."""
    return "\n" + part if re.match(r"# %%( jupyter=.*)?\n(def|class|@)", part) else part


def notebook(lesson: int, source: str = "") -> str:
    """Write the lesson as .ipynb, with a cell that installs the package on Colab.

    It needs jupytext (the extra `course`).

    source: what pip installs there, as in `install`
    """
    try:
        import jupytext
        import nbformat
    except ImportError:
        raise ValueError("notebooks need jupytext: pip install jupytext nbformat; the .py files need nothing") from None
    book = jupytext.reads(text(lesson), fmt="py:percent")
    book.cells.insert(1, nbformat.v4.new_code_cell(install(source)))
    for i, cell in enumerate(book.cells):
        cell["id"] = f"l{lesson:02d}-{i:03d}"  # a stable id, so that the file is reproducible
    book.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.writes(book) + "\n"


def put(file: Path, text: str) -> None:
    """Write a file that does not exist yet."""
    if file.exists():
        raise ValueError(f"{file} is there already; choose another --out, or delete it first")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def write(folder: Path, notebooks: bool = False, source: str = "") -> tuple[list[Path], list[Path]]:
    """Write all lessons into `folder`; existing files are kept.   ->  (written, kept)"""
    folder.mkdir(parents=True, exist_ok=True)
    written, kept = [], []
    for lesson, shipped in lessons.files().items():
        file = folder / (shipped.stem + (".ipynb" if notebooks else ".py"))
        if file.exists():
            kept.append(file)
            continue
        file.write_text(notebook(lesson, source) if notebooks else text(lesson), encoding="utf-8")
        written.append(file)
    return written, kept


def stub(number: str) -> dict[str, str]:
    """Return the stubs of one exercise: {function: stub}."""
    task = lessons.task(number)
    full = lessons.text_of(task.lesson)
    blocks = {name: lessons.source(full, name) or "" for name in task.functions}
    return {name: "\n".join(stubbed(block.splitlines(), number)) for name, block in blocks.items()}


def reset(file: Path, number: str) -> str:
    """Restore the stubs of one exercise in a learner's file.   ->  the replaced code"""
    old: list[str] = []
    if file.suffix == ".ipynb":
        book = json.loads(lessons.decoded(file))
        for cell in book["cells"]:
            if cell["cell_type"] == "code":
                replaced = put_back("".join(cell["source"]), number, old)
                cell["source"] = replaced.splitlines(keepends=True)
        new = json.dumps(book, indent=1, ensure_ascii=False) + "\n"
    else:
        new = put_back(lessons.decoded(file), number, old)
    if not old:
        raise ValueError(f"{file.name} has none of the functions of {number}; `ddpm course init` in a new folder has")
    tmp = file.with_name(f".{file.name}.tmp")
    tmp.write_text(new, encoding="utf-8")
    tmp.replace(file)
    return "\n\n\n".join(old)


def put_back(code: str, number: str, old: list[str]) -> str:
    """Replace the functions in `code` by their stubs; the replaced code is added to `old`."""
    for name, block in stub(number).items():
        found = lessons.source(code, name)
        if found is not None:
            old.append(found)
            code = code.replace(found, block)
    return code
