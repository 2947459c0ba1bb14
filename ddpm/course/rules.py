"""Rules for the text of a submission: what it may not contain, and what its row remarks on.

They are read off the text before anything runs: imports from a list, no attributes with two underscores, no names that
lead to stack frames, threads, other processes or files. They protect the other submissions from accidents and
curiosity. A text can hide what it does; what it could gain is small, because the answers are not in its process.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

ALLOWED = {
    *("numpy", "jax", "math", "cmath", "itertools", "functools", "collections", "dataclasses", "typing", "operator"),
    *("scipy", "flax", "optax", "ddpm", "einops", "random", "statistics", "fractions", "string", "time", "__future__"),
}
REFUSED = ("ddpm.course", "ddpm.cli", "ddpm.testing", "jax.experimental.host_callback")
REFUSED_NAMES = {
    *("__import__", "eval", "exec", "compile", "open", "input", "globals", "locals", "vars", "breakpoint"),
    *("__builtins__", "__loader__", "__spec__", "setattr", "delattr"),
}
REFUSED_ATTRIBUTES = {
    *("course", "cli", "tools"),  # of ddpm
    *("sys", "_sys", "os", "_os", "gc", "inspect", "builtins", "modules", "importlib", "import_module", "subprocess"),
    *("threading", "_thread", "_threading", "Thread", "ThreadPoolExecutor", "concurrent", "multiprocessing", "socket"),
    *("ctypes", "ctypeslib", "pathlib", "Path", "io", "shutil", "tempfile", "pickle", "f2py", "distutils"),
    *("f_back", "f_globals", "f_locals", "f_builtins", "gi_frame", "cr_frame", "ag_frame", "tb_frame", "tb_next"),
    *("_getframe", "_current_frames", "_src"),
    *(
        "profiler",
        "distributed",
        "ffi",
        "collect_profile",
        "monitoring",
        "attrgetter",
        "methodcaller",
        "get_type_hints",
    ),
}
Nodes = list[tuple[ast.stmt, str]]  # statements, each with the name of its file


class Forbidden(BaseException):
    """Raised for actions that no exercise needs; not an Exception, so that it is not caught by accident."""


def forbidden(nodes: Nodes, own: str, shipped: Nodes) -> str:
    """Find what a text may not contain, or ''.   shipped: the lesson's own solution, whose imports are allowed"""
    needed = {module.partition(".")[0] for module in modules(shipped)}
    for node in (n for statement, file in nodes if file == own for n in ast.walk(statement)):
        line = getattr(node, "lineno", 0)
        for module in imported(node):
            root, *inner = module.split(".")
            unknown = root not in ALLOWED and root not in needed
            if unknown or module.startswith(REFUSED) or (root != "ddpm" and REFUSED_ATTRIBUTES & set(inner)):
                return f"it imports {module} (line {line}), which no exercise needs"
        if isinstance(node, ast.Name) and node.id in REFUSED_NAMES:
            return f"it uses {node.id} (line {line}), which no exercise needs"
        if isinstance(node, ast.Name) and node.id == "getattr":
            return f"it uses getattr (line {line}), which no exercise needs; write the name after a dot"
        if isinstance(node, ast.Attribute) and (node.attr.startswith("__") or node.attr in REFUSED_ATTRIBUTES):
            return f"it uses {node.attr} (line {line}), which no exercise needs"
    return ""


def remark(nodes: Nodes, own: str, shipped: Nodes) -> str:
    """Name what an answer takes from the library though the lesson's solution does not, or ''."""
    taken = used([entry for entry in nodes if entry[1] == own]) - used(shipped)
    of_library = sorted(module for module in taken if module.partition(".")[0] == "ddpm")
    return f"It passes with the library's {', '.join(of_library)}, which the lesson does not use." if of_library else ""


def used(nodes: Nodes) -> set[str]:
    """Collect the full names of the imports whose short name the statements use."""
    inside = [node for statement, _ in nodes for node in ast.walk(statement)]
    short = {node.id for node in inside if isinstance(node, ast.Name)}
    imports = [
        (a, f"{node.module}." if isinstance(node, ast.ImportFrom) else "")
        for node in inside
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for a in node.names
    ]
    return {module + a.name for a, module in imports if (a.asname or a.name.partition(".")[0]) in short}


def modules(nodes: Nodes) -> set[str]:
    """Collect the full names of all that the statements import."""
    return {module for statement, _ in nodes for node in ast.walk(statement) for module in imported(node)}


def imported(node: ast.AST) -> Iterator[str]:
    """List the full names of the modules that a statement imports."""
    if isinstance(node, ast.Import):
        yield from (a.name for a in node.names)
    if isinstance(node, ast.ImportFrom):
        yield from (f"{'.' * node.level}{node.module or ''}.{a.name}" for a in node.names)
