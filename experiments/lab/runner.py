"""What all figures and tables share: `paper | exact | ours`, and one command and one folder of results each.

An experiment is a module of this package, or of its folder `shelf` (one paper, one file), with

    a docstring           its title, then what the paper claims, what we see, and what does not carry over
    PAPER                 where it is printed
    MINUTES               about how long it takes on two CPU cores
    Config, QUICK         a frozen dataclass of the settings, and the settings that `--quick` changes
    run(config) -> Result

and may have NEEDS, a sentence about what it cannot run without; UNCHECKED, a sentence that says why some rows with an
exact value are not held to it by a tolerance (without either they are refused); and redraw(rows, numbers) -> Figure,
which draws its figure from metrics.json (then `run` need not draw, and `--redraw` fixes a figure without measuring);
and in_one_table(numbers) -> str, a table in Markdown that the gallery shows below the figure.
`python -m experiments NAME` writes NAME/{config.json, metrics.json, figure.png} under experiments/results, or under
out/experiments if a field was changed: so the results in the repository are always those of the default configuration.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib
import json
import math
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
from matplotlib.figure import Figure

from ddpm import plot
from ddpm.tools.files import write_atomic
from ddpm.tools.machine import device_name, versions
from ddpm.tools.origin import commit

HERE = Path(__file__).parent.parent
SHELF = HERE / "shelf"
RESULTS = HERE / "results"
ELSEWHERE = Path("out/experiments")


@dataclass(frozen=True)
class Row:
    """One row of the table. A missing column is None; with a tolerance, `ours` must agree with `exact`."""

    what: str
    paper: float | None = None
    exact: float | None = None
    ours: float | None = None
    spread: float | None = None  # standard error of `ours`, or half the range over seeds
    within: float | None = None  # |ours - exact| ≤ within · max(|exact|, `near`)
    near: float = 0.0  # the size below which an error is absolute

    def check(self) -> None:
        """Fail if `ours` differs from `exact` by more than the tolerance."""
        if self.within is None or self.exact is None or self.ours is None:
            return
        if not abs(self.ours - self.exact) <= self.within * max(abs(self.exact), self.near):
            raise AssertionError(
                f"{self.what}: ours {self.ours:.8g}, exact {self.exact:.8g}, tolerance {self.within:g}"
            )


@dataclass(frozen=True)
class Result:
    """The rows, the figure and the other numbers of an experiment."""

    rows: Sequence[Row]
    figure: Figure | None  # None: the experiment's redraw draws it
    numbers: dict[str, Any] = field(default_factory=dict)  # other values to keep: curves, counts, n, split


class Unavailable(RuntimeError):
    """Something that the experiment needs is missing; the message names it and the remedy."""


def names(which: str = "all") -> list[str]:
    """Names of all experiments, or of `shelf`: the modules there that define run, Config and PAPER."""
    files = [*SHELF.glob("*.py"), *(HERE.glob("*.py") if which == "all" else ())]
    return [f.stem for f in sorted(files, key=lambda f: f.stem) if _defines_experiment(f, f.stat().st_mtime_ns)]


@functools.cache  # a file that was not changed is read once
def _defines_experiment(file: Path, changed: int) -> bool:
    tree = ast.parse(file.read_text())
    top = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    top |= {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    return {"run", "Config", "PAPER"} <= top


def find(name: str) -> ModuleType:
    """Import the experiment of that name."""
    if name not in names():
        raise ValueError(f"there is no experiment {name!r}; there are {', '.join(names())}")
    folder = "experiments.shelf" if (SHELF / f"{name}.py").exists() else "experiments"
    return importlib.import_module(f"{folder}.{name}")


def title(module: ModuleType) -> str:
    """The first line of the experiment's docstring."""
    return (module.__doc__ or "").strip().split("\n")[0].rstrip(".")


def words(module: ModuleType) -> str:
    """The rest of the experiment's docstring."""
    return (module.__doc__ or "").strip().partition("\n")[2].strip()


def configure(module: ModuleType, changes: Sequence[str], quick: bool) -> Any:
    """Return the experiment's Config with `field=value` changes; refuse unknown fields and other types."""
    config = module.Config()
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    new: dict[str, Any] = dict(module.QUICK) if quick else {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or name not in fields:
            known = ", ".join(f"{k}={v!r}" for k, v in fields.items()) or "none"
            raise ValueError(f"{change!r} is not field=value of this experiment; its fields: {known}")
        old = fields[name]
        value: Any = text if isinstance(old, str) else ast.literal_eval(text)
        if isinstance(old, float) and isinstance(value, int):
            value = float(value)
        if type(value) is not type(old):
            raise ValueError(f"{name} is {text!r}; give a {type(old).__name__} such as {old!r}")
        new[name] = value
    return dataclasses.replace(config, **new)


def fingerprint(module: ModuleType, config: Any) -> str:
    """Hash the experiment's code and its configuration: a result with another fingerprint is out of date.

    The module's docstring, its layout and its imports do not count (where a name of the library lives is no part of a
    measurement), nor does `redraw`, which only draws what was measured.
    """
    source = text = Path(str(module.__file__)).read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        redraw = isinstance(node, ast.FunctionDef) and node.name == "redraw"
        redraw |= isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "UNCHECKED"
        if redraw or isinstance(node, ast.Import | ast.ImportFrom):
            text = text.replace(ast.get_source_segment(source, node) or "", "", 1)
    text = text.replace(module.__doc__ or "", "", 1)
    return hashlib.sha256((re.sub(r"[\s,()]+", "", text) + repr(config)).encode()).hexdigest()[:16]


def is_done(folder: Path, mark: str) -> bool:
    """True if the folder holds a complete result with this fingerprint."""
    file = folder / "metrics.json"
    return (folder / "figure.png").exists() and file.exists() and json.loads(file.read_text())["fingerprint"] == mark


def is_current(name: str) -> bool:
    """True if the result in the repository was made by the experiment as it is now."""
    module = find(name)
    return is_done(RESULTS / name, fingerprint(module, module.Config()))


def clean(x: Any) -> Any:
    """Round numbers to six digits, so that repeated runs write equal files; arrays become lists, NaN None."""
    if isinstance(x, dict):
        return {str(k): clean(v) for k, v in x.items()}
    if hasattr(x, "tolist"):
        x = x.tolist()
    if isinstance(x, list | tuple):
        return [clean(v) for v in x]
    if isinstance(x, float):
        return None if not math.isfinite(x) else x if x.is_integer() else float(f"{x:.6g}")
    return x


def show(x: float | None) -> str:
    """Format a number for a table: four digits, whole counts."""
    if x is None:
        return ""
    return f"{x:,.0f}" if float(x).is_integer() and abs(x) >= 10 else f"{x:.4g}"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """`paper | exact | ours` in Markdown; a column that is empty throughout is left out."""
    columns = [c for c in ("paper", "exact", "ours") if any(r[c] is not None for r in rows)]
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for r in rows:
        cells = [show(r[c]) + (f" ± {r['spread']:.2g}" if c == "ours" and r["spread"] else "") for c in columns]
        lines.append("| " + r["what"].replace("|", "\\|") + " | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def unchecked(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The rows where ours stands next to an exact value that it is not held to: each has a reason, in UNCHECKED."""
    return [r["what"] for r in rows if r["exact"] is not None and r["ours"] is not None and r["within"] is None]


def command(name: str, config: Any, module: ModuleType) -> str:
    """The command that makes this result again."""
    default = module.Config()
    changed = [
        f"{f.name}={str(getattr(config, f.name)).replace(' ', '')}"
        for f in dataclasses.fields(config)
        if getattr(config, f.name) != getattr(default, f.name)
    ]
    return " ".join(["python -m experiments", name, *changed])


def make(
    name: str,
    changes: Sequence[str] = (),
    quick: bool = False,
    force: bool = False,
    out: Path | None = None,
    redraw: bool = False,
) -> Path:
    """Run the experiment, check its rows and write its folder, unless the folder is up to date.

    redraw: draw only the figure, from the numbers in metrics.json.
    """
    module = find(name)
    config = configure(module, changes, quick)
    folder = (out or (RESULTS if config == module.Config() else ELSEWHERE)) / name
    mark = fingerprint(module, config)
    if redraw:
        _draw_again(name, module, folder, mark)
        return folder
    if is_done(folder, mark) and not force:
        print(f"{name}: up to date in {os.path.relpath(folder)} (--force runs it again)")
        return folder
    print(f"{name}: {title(module)} · about {module.MINUTES:g} min on 2 CPU cores", flush=True)
    start = time.perf_counter()
    result = module.run(config)
    for row in result.rows:
        row.check()
    if unchecked(rows := [dataclasses.asdict(row) for row in result.rows]) and not hasattr(module, "UNCHECKED"):
        raise AssertionError(
            f"{name}: {unchecked(rows)[0]!r} has an exact value and no tolerance; give it `within`, "
            "or say in UNCHECKED why ours is not held to it"
        )
    about = {
        "experiment": name,
        "paper": module.PAPER,
        "command": command(name, config, module),
        "seed": getattr(config, "seed", None),
        "seconds": round(time.perf_counter() - start, 1),
        "device": device_name(),
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit() or "unknown",
        "versions": versions(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "config.json", _json(dataclasses.asdict(config)))
    figure = result.figure or module.redraw(clean(rows), clean(result.numbers))
    plot.save_figure(folder / "figure.png", figure)
    write_atomic(
        folder / "metrics.json", _json({"fingerprint": mark, **about, "rows": rows, "numbers": result.numbers})
    )
    print(table(clean(rows)))
    print(
        f"{os.path.relpath(folder)}: metrics.json, figure.png · {about['seconds']:.0f} s on {about['device']}\n",
        flush=True,
    )
    return folder


def _draw_again(name: str, module: ModuleType, folder: Path, mark: str) -> None:
    """Draw the figure of a result that is up to date."""
    if not hasattr(module, "redraw"):
        raise ValueError(f"{name} draws while it measures, so --redraw cannot be used; run it without --redraw")
    if not is_done(folder, mark):
        raise ValueError(f"{os.path.relpath(folder)} holds no result of {name} as it is now; run it without --redraw")
    found = json.loads((folder / "metrics.json").read_text())
    plot.save_figure(folder / "figure.png", module.redraw(found["rows"], found["numbers"]))
    print(f"{os.path.relpath(folder)}: figure.png, drawn again from metrics.json")


def _json(x: Any) -> bytes:
    """JSON with a line for each entry, but arrays of numbers in one: pictures would have a line for each pixel."""
    text = json.dumps(clean(x), indent=1, ensure_ascii=False)
    return (re.sub(r"\[[-+\d.eE,\s\[\]]*\]", lambda m: re.sub(r"\s+", "", m[0]), text) + "\n").encode()


def float64() -> Any:
    """Enable float64, in which exact experiments compute: `with float64(): …`"""
    return jax.enable_x64(True)
