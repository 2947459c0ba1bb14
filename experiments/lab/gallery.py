"""The gallery of figures and tables, written from the results in the repository: no number is typed in.

    python -m experiments.lab.gallery          writes experiments/results/README.md

The page marks a result as out of date if its experiment was changed afterwards.
"""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

from ddpm.tools.files import write_atomic
from experiments.lab import runner


def results() -> dict[str, dict[str, Any]]:
    """The metrics of every experiment that has a result."""
    files = {name: runner.RESULTS / name / "metrics.json" for name in runner.names()}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}


def widest_gap(rows: list[dict[str, Any]]) -> float | None:
    """The largest |ours - exact| in units of max(|exact|, near), over the rows with a tolerance."""
    gaps = [
        abs(r["ours"] - r["exact"]) / (max(abs(r["exact"]), r["near"]) or 1.0)
        for r in rows
        if r["within"] is not None and r["exact"] is not None and r["ours"] is not None
    ]
    return max(gaps) if gaps else None


# The row that stands for each table in the index; the first one if none is named.
HEADLINES = {
    "cfg_p_uncond": "best distance over w, .2 over .1",
    "correspondence": "PCK at 0.1, up.0.0, t = 20, minus the mean of the position",
    "ddpm_table2": "ε, L_simple: bits/dim, σ² = β",
    "ema_short": "d = .9999: share of the initial parameters",
    "iddpm_table2": "cosine, L_hybrid: bits/dim",
    "few_calls": "fashion_mnist: ddim, searched, 2 calls",
    "min_snr": "speed-up: factor in steps",
    "adaptive_guidance": "distance, first 50% minus full guidance (a quarter saved)",
    "cfg_tilted": "mean, w = 4",
    "clip_pmi": "loss of a network, width 34, N = 256",
    "cfg_tradeoff": "w = 1: Fréchet distance",
    "classifier_guidance": "no labels, scale 10: Fréchet distance",
    "composition": "sum of denoisers, DDIM 1,000: variance",
    "ddim_garments": "η = 0, S = 10",
    "ddim_table1": "fashion_mnist, η = 0, S = 10",
    "denoisers_by_t": "gain along the first direction, T → 700",
    "ema_memory": "fixed decay, 10,000 steps",
    "progressive_coding": "fashion_mnist, T - t + 1 = 900: bits/dim",
    "progressive_garments": "T - t + 1 = 900: error in grey levels",
    "repaint_garments": "wide, j = 5, r = 4: feature distance",
    "solver_orders": "DPM-Solver++(2M), order",
    "teleportation": "increase of the distance by jumping over 30%",
    "typicality_exact": "T(1 | +1), t in (0.1T, 0.7T]",
    "variance_price": "fixed_small, 1000 steps, bits/dim above the best",
}


def index(page: str = "", names: tuple[str, ...] = ()) -> str:
    """One line for each experiment: one row of its table, and how many rows are checked; links into `page`.

    names: only these experiments, with the first part of their titles; all if empty
    """
    lines = [
        "| figure or table | one row of it | paper | exact | ours | checked rows | device, date |",
        "|" + "---|" * 7,
    ]
    for name, r in results().items():
        if names and name not in names:
            continue
        title = runner.title(runner.find(name))
        title = title.partition(":")[0] if names else title
        row = next((row for row in r["rows"] if row["what"] == HEADLINES.get(name)), r["rows"][0])
        checked = sum(row["within"] is not None for row in r["rows"])
        cells = [
            f"[{title}]({page}#{name})",
            row["what"],
            *(runner.show(row[column]) for column in ("paper", "exact", "ours")),
            f"{checked} of {len(r['rows'])}",
            f"{r['device']}, {r['date']}",
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def page() -> str:
    """The gallery as a page in Markdown."""
    parts = [
        "# Papers' figures and tables, reproduced",
        "There are three columns that are never mixed: what the *paper* prints, what is *exact* (a closed form or a "
        "quadrature in NumPy, no training), and what *our* code gives: the library on the same exact case, or the "
        "shipped network on data. Where a row is checked, the command fails if `ours` does not agree with `exact`. The "
        "figures are made by `make figures`, and this page by `python -m experiments.lab.gallery`.",
        index(),
    ]
    for name, r in results().items():
        module = runner.find(name)
        note = "" if runner.is_current(name) else "\n\n*The experiment was changed after this result was made.*"
        parts += [
            f'<a id="{name}"></a>\n\n## {runner.title(module)}',
            f"*{r['paper']}* · `{r['command']}`{note}",
            runner.words(module),
            f"![{runner.title(module)}]({name}/figure.png)",
            *([module.in_one_table(r["numbers"])] if hasattr(module, "in_one_table") else []),
            f"<details><summary>the table: {len(r['rows'])} rows</summary>\n\n"
            f"{runner.table(r['rows'])}\n{_why(module, r)}\n</details>",
        ]
    return "\n\n".join(parts) + "\n"


def _why(module: ModuleType, result: dict[str, Any]) -> str:
    """The sentence about rows that are not held to their exact value, where there are any."""
    some = runner.unchecked(result["rows"])
    return f"\nNot held to the exact column ({len(some)} rows): {module.UNCHECKED}\n" if some else ""


def main() -> None:
    """Write the gallery."""
    write_atomic(runner.RESULTS / "README.md", page().encode())
    print(f"experiments/results/README.md: {len(results())} results")


if __name__ == "__main__":
    main()
