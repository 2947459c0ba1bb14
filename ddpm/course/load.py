"""Definitions from a lesson: only the imports, functions, classes and literals of an exercise.

A lesson trains and draws when it runs; a check must not. So only those top-level statements are executed that the
requested functions need, directly or indirectly, and of assignments only literals such as `SIZES = (3, 5)`.
Functions of *other* exercises come from the lesson as it ships, so an earlier mistake affects no later answer.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any

from ddpm.course import lesson as lessons

Index = dict[str, ast.stmt]


def index(tree: ast.Module) -> Index:
    """Map each name to the last statement that defines it."""
    found: Index = {}
    for node in tree.body:
        for name in bound(node):
            found[name] = node
    return found


def bound(node: ast.stmt) -> Iterator[str]:
    """List the names that an allowed top-level statement defines."""
    match node:
        case ast.Import() | ast.ImportFrom():
            yield from ((a.asname or a.name).split(".")[0] for a in node.names)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.Assign() if is_literal(node.value):
            for target in node.targets:
                yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None and is_literal(value):
            yield name


def is_literal(node: ast.expr) -> bool:
    """Test for numbers, strings, and containers of them."""
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


@lru_cache(maxsize=8)
def tree(text: str, name: str) -> ast.Module:
    """Parse a file; the last few are kept, because every exercise of a lesson asks for its file."""
    return ast.parse(text, name)


def parse(text: str, name: str) -> ast.Module:
    """Parse a file; a SyntaxError becomes a ValueError with its line."""
    try:
        return tree(text, name)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        where = f", line {e.lineno}: `{(e.text or '').strip()}`" if isinstance(e, SyntaxError) else ""
        raise ValueError(f"{name} is not valid Python{where} ({getattr(e, 'msg', e)})") from None


def parse_around(text: str, name: str, number: str) -> ast.Module:
    """Parse a file without the cells of other exercises that are not valid Python; lines keep their numbers."""
    try:
        return tree(text, name)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        rows = text.splitlines()
    task = lessons.task(number)
    others = [f for t in lessons.all_tasks().values() if t.lesson == task.lesson and t != task for f in t.functions]
    starts = [0, *(i for i, row in enumerate(rows) if row.startswith("# %%")), len(rows)]
    for i, j in pairwise(starts):
        cell = "\n".join(rows[i:j])
        own, other = (any(lessons.source(cell, f) is not None for f in names) for names in (task.functions, others))
        if other and not own and not valid(cell):
            rows[i:j] = [""] * (j - i)
    return parse("\n".join(rows), name)


def valid(code: str) -> bool:
    """Test whether the code is valid Python."""
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def closure(text: str, number: str, name: str) -> list[tuple[ast.stmt, str]]:
    """Collect all that exercise `number` needs: (statement, file name), in executable order.

    A file without one of its functions raises ValueError.
    """
    task = lessons.task(number)
    own, shipped = index(parse_around(text, name, number)), index(tree(lessons.text_of(task.lesson), "the lesson"))
    others = {f for t in lessons.all_tasks().values() if t.lesson == task.lesson for f in t.functions}
    others -= set(task.functions)
    if missing := [f for f in task.functions if f not in own]:
        raise ValueError(f"{name} has no function `{missing[0]}`; `ddpm course reset {number}` puts it back")
    wanted, seen, out = list(task.functions), set(), []
    while wanted:
        used = wanted.pop()
        node, file = (shipped.get(used), "the lesson") if used in others else (own.get(used), name)
        if used in seen or node is None:
            continue
        seen.add(used)
        out.append((node, file))
        wanted += [n.id for n in ast.walk(node) if isinstance(n, ast.Name)]
    imports = (ast.Import, ast.ImportFrom)
    unique = {id(node): (node, file) for node, file in out}.values()
    return sorted(unique, key=lambda e: (0 if isinstance(e[0], imports) else 1, e[0].lineno))


def functions(text: str, number: str, name: str = "your file") -> dict[str, Any]:
    """Load the learner's functions of one exercise.   text: percent Python  ->  {function: callable}"""
    namespace: dict[str, Any] = {"__name__": "lesson"}
    for node, file in closure(text, number, name):
        exec(compile(ast.Module([node], []), file, "exec"), namespace)
    return {f: namespace[f] for f in lessons.task(number).functions}


def reference(number: str) -> dict[str, Any]:
    """Load the functions of one exercise as they ship."""
    return functions(lessons.text_of(lessons.task(number).lesson), number, "the lesson")
