"""The house: what lives where, and in which direction imports point."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import ddpm
from ddpm.tools.moved import MOVED

ROOT = Path(ddpm.__file__).parent
HEART = (
    *("contracts", "config", "data", "schedule", "forward", "oracle", "network", "loss", "train", "guide"),
    *("sample", "typicality"),
)
ORDER = (
    *("tools", "weights", *HEART, "plot", "oracles", "networks", "samplers", "guides", "flows", "losses", "editing"),
    *("generators", "distillation", "discrete", "datasets", "classifiers", "evaluation", "latents", "training", "zoo"),
    *("features", "mining", "course", "testing", "cli"),
)
FILES = sorted(f for f in ROOT.rglob("*.py") if "checks" not in f.parts)
TREES = {f.relative_to(ROOT): ast.parse(f.read_text(encoding="utf-8")) for f in FILES}


def imported(tree):
    """The modules `ddpm.…` that a file imports anywhere, in functions too: as tuples of names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (tuple(name.split(".")[1:]) for name in names if name.startswith("ddpm."))


def test_the_heart_is_twelve_files_of_1500_lines():
    files = {f.stem for f in ROOT.glob("*.py")} - {"__init__", "plot"}
    assert files == set(HEART)
    assert sum(len((ROOT / f"{name}.py").read_text(encoding="utf-8").splitlines()) for name in HEART) <= 1500


def test_every_folder_and_file_has_a_place_in_the_order():
    top = {f.parts[0].removesuffix(".py") for f in TREES} - {"__init__"}
    assert top == set(ORDER)


def test_imports_point_one_way():
    """From right to left in ORDER, also inside functions: so no two wings can be in a circle."""
    upward = [
        f"{file}: ddpm.{'.'.join(names)}"
        for file, tree in TREES.items()
        if file != Path("__init__.py")
        for names in imported(tree)
        if names[0] in ORDER and ORDER.index(names[0]) > ORDER.index(file.parts[0].removesuffix(".py"))
    ]
    assert not upward


def test_no_circle_of_files_inside_a_wing():
    modules = {f.with_suffix("").parts for f in TREES if f.name != "__init__.py"}
    edges = {
        f.with_suffix("").parts: {n[:2] if n[:2] in modules else n[:1] for n in imported(tree)} & modules
        for f, tree in TREES.items()
    }
    done: set = set()

    def visit(module, path):
        assert module not in path, " -> ".join(".".join(m) for m in [*path, module])
        if module not in done:
            for below in edges.get(module, ()):
                visit(below, [*path, module])
            done.add(module)

    for module in edges:
        visit(module, [])


def test_files_functions_and_signatures_stay_readable():
    """At most 300 lines a file; at most 60 lines and eight parameters a function.

    Under `@technique` nobody gives all parameters at once: the maker takes those that are bound, and the function that
    it returns takes the positional-only ones; each has at most eight.
    """
    long = [str(f) for f in FILES if len(f.read_text(encoding="utf-8").splitlines()) > 300]
    assert not long
    found = set()
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                a = node.args
                bound = len(a.args) + len(a.kwonlyargs) - (bool(a.args) and a.args[0].arg == "self")
                makers = {ast.unparse(d).partition("(")[0] for d in node.decorator_list}
                n = max(len(a.posonlyargs), bound) if "technique" in makers else len(a.posonlyargs) + bound
                if node.end_lineno - node.lineno + 1 > 60 or n > 8:
                    found.add(f"{file.as_posix()}:{node.name}")
    assert not found, f"divide these: {found}"


def test_no_module_has_a_function_of_its_own_name():
    """So that `ddpm.sample` is one thing. (The course's files keep the names that its sheets import.)"""
    own = {
        file.as_posix()
        for file, tree in TREES.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == file.stem and file.parts[0] != "course"
    }
    assert not own


@pytest.mark.parametrize("old", ["solvers", "pytree", "check", "world", "train_"])
def test_an_old_name_says_where_the_thing_is_now(old):
    if old not in MOVED:
        with pytest.raises(ModuleNotFoundError, match=f"No module named 'ddpm.{old}'"):
            importlib.import_module(f"ddpm.{old}")
        return
    with pytest.raises(ImportError, match=f"ddpm.{old} has moved: import ddpm.{MOVED[old]} instead"):
        importlib.import_module(f"ddpm.{old}")
    with pytest.raises(AttributeError, match="has moved"):
        getattr(ddpm, old)


def test_every_old_name_leads_to_a_module():
    assert all((ROOT / (new.replace(".", "/") + ".py")).exists() for new in MOVED.values())


def test_every_public_name_can_be_had():
    """Each name that a lazy namespace lists is there; and `import ddpm` alone imports no JAX."""
    for wing in [ddpm, *(importlib.import_module(f"ddpm.{n}") for n in ORDER if (ROOT / n / "__init__.py").exists())]:
        for name in dir(wing):
            assert getattr(wing, name) is not None
    code = "import sys, ddpm; assert 'jax' not in sys.modules; assert ddpm.samplers.heun_step"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent).returncode == 0
