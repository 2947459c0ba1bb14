"""Every lesson imports silently, runs as a script within its smallest budget, and leaves picture and numbers."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from lessons import __main__ as runner

LESSONS = sorted((Path(__file__).parents[2] / "lessons").glob("l[0-9][0-9]_*.py"))


# What `python lessons/lNN.py` does, in two steps: import it, which has to be silent; run what a script runs as well.
TWICE = """
import ast, importlib, os, resource, sys
before = os.listdir()
module = importlib.import_module(sys.argv[1])
print("-- imported:", sorted(set(os.listdir()) - set(before)), flush=True)
module.__name__ = "__main__"
for node in ast.parse(open(module.__file__, encoding="utf-8").read()).body:
    if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
        exec(compile(ast.Module([node], []), module.__file__, "exec"), vars(module))
print("-- seconds:", sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
"""


def run(args, cwd):
    env = os.environ | {"DDPM_BUDGET": "smoke", "MPLBACKEND": "agg", "JAX_PLATFORMS": "cpu", "DDPM_OFFLINE": "1"}
    env |= {"TQDM_DISABLE": "1"}  # a slow machine would show progress
    env |= {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}  # a lesson's page compiles the same
    env |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "PYTHONPATH": str(LESSONS[0].parent.parent)}
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, env=env, capture_output=True, text=True, timeout=900, check=False
    )


def cells(file):
    """The cells of a file in percent format: (is it markdown, its lines)."""
    out = []
    for line in file.read_text().splitlines():
        if line.startswith("# %%"):
            out.append(("[markdown]" in line, []))
        elif out:
            out[-1][1].append(line)
    return out


def test_there_are_lessons():
    assert LESSONS


@pytest.mark.slow
@pytest.mark.parametrize("file", LESSONS, ids=lambda f: f.stem)
def test_imports_silently_and_runs_in_a_minute(file, tmp_path):
    """Silent, then a picture, its numbers and one line; a minute of processor time for each lesson at most."""
    done = run(["-W", "error::UserWarning", "-c", TWICE, f"lessons.{file.stem}"], tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-3000:]
    imported, *lines, seconds = done.stdout.splitlines()
    assert imported == "-- imported: []", "importing it prints, or writes files"
    name = file.stem[:3]
    assert len(lines) == 1 and lines[0].startswith(f"L{int(name[1:])}: ")
    picture = (tmp_path / "out" / f"{name}.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 20_000
    assert json.loads((tmp_path / "out" / f"{name}.json").read_text())["budget"] == "smoke"
    assert float(seconds.split()[-1]) < 60, f"{seconds} of processor time"


@pytest.mark.slow
def test_runs_as_a_script_and_prints_its_times(tmp_path):
    done = run(["-m", "lessons", "1", "--budget", "smoke"], tmp_path)
    assert done.returncode in (0, 1) and (tmp_path / "out" / "l01.png").exists(), done.stderr[-3000:]
    first, head, row = done.stdout.splitlines()
    assert first.startswith("L1: ") and "limit" in head and re.fullmatch(r"L1 +[\d.]+ s +[\d.]+ s +60 s.*", row)
    assert (done.returncode == 1) == ("longer" in row)


def test_the_minutes_of_a_header_are_understood(monkeypatch):
    for words, minutes in {"seconds": 1, "a minute": 1, "2 minutes": 2, "12 minutes": 12}.items():
        text = f"# | time | 40 minutes to read and do, {words} to run |"
        monkeypatch.setattr(runner.lessons, "text_of", lambda number, text=text: text)
        assert runner.stated(1) == minutes


@pytest.mark.parametrize("file", LESSONS, ids=lambda f: f.stem)
def test_form(file):
    """Cells of at most 25 lines; a header with the five entries; claims are checked; formulas are closed."""
    assert file.read_text().startswith("# ---\n# jupyter:\n#   jupytext:\n")  # jupytext knows it by this
    parts = cells(file)
    for markdown, lines in parts:
        code = "\n".join(lines).strip("\n").split("\n")
        if not markdown:
            assert len(code) <= 25, f"{file.name}: a cell of {len(code)} lines, beginning {code[:2]}"
        else:
            assert all(line.startswith("#") or not line for line in code), f"{file.name}: prose outside a comment"
            assert "\n".join(code).count("$") % 2 == 0, f"{file.name}: a formula is not closed in {code[:3]}"
    header = "\n".join(parts[0][1])
    assert re.search(rf"^# # L{int(file.stem[1:3])}\. ", header, re.M)
    for entry in ("you learn", "time", "difficulty", "importance", "paper"):
        assert f"| {entry} |" in header
    assert sum("assert " in line for markdown, lines in parts if not markdown for line in lines) >= 10
    assert "## Further reading" in "\n".join(parts[-1][1])


@pytest.mark.parametrize("file", LESSONS, ids=lambda f: f.stem)
def test_exercises_stand_alone(file):
    """Each exercise is announced by its number, has marked solutions and docstrings with shapes, and uses
    nothing but its arguments, imports and functions defined before: so it can be checked without running the lesson."""
    text = file.read_text()
    numbers = re.findall(r"^# ### Exercise (\d+\.\d+) - ", text, re.M)
    assert numbers == [f"{int(file.stem[1:3])}.{i + 1}" for i in range(len(numbers))] and len(numbers) >= 3
    assert text.count("### BEGIN SOLUTION") == text.count("### END SOLUTION") >= len(numbers)
    tree, known = ast.parse(text), set(dir(__builtins__)) | set(__builtins__ if isinstance(__builtins__, dict) else ())
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            known |= {(a.asname or a.name).split(".")[0] for a in node.names}
        if isinstance(node, ast.FunctionDef):
            source = ast.get_source_segment(text, node)
            if "### BEGIN SOLUTION" in source:
                assert "->" in (ast.get_docstring(node) or ""), f"{node.name}: no shapes in its docstring"
                used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
                local = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
                local |= {a.arg for a in ast.walk(node) if isinstance(a, ast.arg)}
                local |= {n.name for n in ast.walk(node) if isinstance(n, ast.FunctionDef)}
                assert used <= known | local, f"{node.name} uses {used - known - local} of the lesson"
            known.add(node.name)
