"""The learner's files: a lesson without its solutions, with a check after each exercise.

What stood between the marks becomes `# TODO 1.2: one line` and `raise NotImplementedError("1.2")`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from ddpm.course import lesson as lessons

HOW = """\
# %% [markdown]
# > **How this works.** Write what is marked `TODO`, save, and ask: `ddpm course check {first}` in a terminal, or run
# > the line `… = checked(…)` below the exercise. It says which mistake you made, if it is a known one. Stuck?
# > `ddpm course hint {first}`. Exercises can be skipped: the lesson goes on with the reference version.

# %%
from ddpm.course import checked
"""

INSTALL = """\
import importlib.util

if importlib.util.find_spec("ddpm") is None:  # on Colab, once
    %pip install --quiet "{source}"
"""


def size(lines: int) -> str:
    """'one line', '4 lines'"""
    return "one line" if lines == 1 else f"{lines} lines"


def stubbed(lines: list[str], number: str) -> list[str]:
    """The lines with each solution replaced by a TODO that says how long the reference is."""
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
    """A lesson for learners, in percent format; `checks`: with the introduction and the line after each exercise."""
    full = lessons.text_of(lesson)
    tasks = {t.number: t for t in lessons.tasks(full)}
    header = full[: full.index("# %%")] if "# %%" in full else ""
    out, number, left = [header.rstrip("\n")], "", set[str]()
    for place, cell in enumerate(lessons.cells(full)):
        for line in cell.lines:
            if heading := lessons.HEADING.match(line):
                number = heading.group(1)
                left = set(tasks[number].functions)
        body = stubbed(cell.lines, number)
        out.append("\n".join(["# %% [markdown]" if cell.markdown else "# %%", *body]).rstrip())
        defined = {m.group(1) for line in cell.lines if (m := lessons.DEF.match(line))}
        if checks and left and not left - defined:
            names = ", ".join(tasks[number].functions)
            out.append(f'# %%\n{names} = checked("{number}", {names})')
        left -= defined
        if checks and place == 0 and tasks:
            out.append(HOW.format(first=next(iter(tasks))).rstrip())
    return "\n\n".join(spaced(part) for part in out) + "\n"


def spaced(part: str) -> str:
    """One more blank line before a cell that begins with a definition, as formatters want it."""
    return "\n" + part if re.match(r"# %%\n(def|class|@)", part) else part


def notebook(lesson: int, source: str = "ddpm") -> str:
    """The same as .ipynb, with a cell that installs the package on Colab. Needs jupytext (the extra `course`).

    source: what pip installs there: a name, a wheel's URL, git+https://…
    """
    try:
        import jupytext
        import nbformat
    except ImportError:
        raise ValueError("notebooks need jupytext: pip install 'ddpm[course]'; the .py files need nothing") from None
    book = jupytext.reads(text(lesson), fmt="py:percent")
    book.cells.insert(1, nbformat.v4.new_code_cell(INSTALL.format(source=source).rstrip()))
    for i, cell in enumerate(book.cells):
        cell["id"] = f"l{lesson:02d}-{i:03d}"  # the same file every time
    book.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.writes(book) + "\n"


def write(folder: Path, notebooks: bool = False, source: str = "ddpm") -> tuple[list[Path], list[Path]]:
    """All lessons into `folder`; files that are there stay as they are.   ->  (written, left alone)"""
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
    """{function: its stub} of one exercise."""
    task = lessons.task(number)
    full = lessons.text_of(task.lesson)
    blocks = {name: lessons.source(full, name) or "" for name in task.functions}
    return {name: "\n".join(stubbed(block.splitlines(), number)) for name, block in blocks.items()}


def reset(file: Path, number: str) -> str:
    """Put the stubs of one exercise back into a learner's file.   ->  the code that stood there"""
    old: list[str] = []
    if file.suffix == ".ipynb":
        book = json.loads(file.read_text(encoding="utf-8"))
        for cell in book["cells"]:
            if cell["cell_type"] == "code":
                replaced = put_back("".join(cell["source"]), number, old)
                cell["source"] = replaced.splitlines(keepends=True)
        new = json.dumps(book, indent=1, ensure_ascii=False) + "\n"
    else:
        new = put_back(file.read_text(encoding="utf-8"), number, old)
    if not old:
        raise ValueError(f"{file.name} has none of the functions of {number}; `ddpm course init` in a new folder has")
    tmp = file.with_name(f".{file.name}.tmp")
    tmp.write_text(new, encoding="utf-8")
    tmp.replace(file)
    return "\n\n\n".join(old)


def put_back(code: str, number: str, old: list[str]) -> str:
    """`code` with the stubs in place of the functions; what they were is added to `old`."""
    for name, block in stub(number).items():
        found = lessons.source(code, name)
        if found is not None:
            old.append(found)
            code = code.replace(found, block)
    return code
