"""Run an experiment by name: `python -m experiments NAME [field=value …] [--quick]`."""

from __future__ import annotations

import argparse
import sys
import time

import jax

from ddpm.cli.start import ask_for_huge_pages, use_compile_cache
from ddpm.tools.terminal import replace_unknown_characters
from experiments.lab import runner


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m experiments",
        description="Reproduce the papers' figures and tables: paper | exact | ours. Without a name: list them.",
        epilog="examples:  python -m experiments cfg_tilted     python -m experiments all --quick",
    )
    p.add_argument("name", nargs="?", help="an experiment, or `all`, or `shelf`: the paper shelf")
    p.add_argument(
        "changes",
        nargs="*",
        metavar="field=value",
        help="change fields of its Config; results then go to out/experiments",
    )
    p.add_argument("--quick", action="store_true", help="use small numbers, to check that it runs")
    p.add_argument("--force", action="store_true", help="run it again although it is up to date")
    p.add_argument("--redraw", action="store_true", help="draw only its figure, from the numbers in metrics.json")
    return p


def listing() -> str:
    """List every experiment with its paper and its minutes."""
    modules = {name: runner.find(name) for name in runner.names()}
    width = max(map(len, modules))
    lines = [f"{n:{width}}  {m.MINUTES:5.1f} min  {runner.title(m)}  [{m.PAPER}]" for n, m in modules.items()]
    return "\n".join([*lines, f"in all about {sum(m.MINUTES for m in modules.values()):.0f} min on 2 CPU cores"])


def forecast(wanted: list[str], force: bool) -> str:
    """State which experiments will run, and for how long."""
    left = [n for n in wanted if force or not runner.is_current(n)]
    minutes = sum(runner.find(n).MINUTES for n in left)
    names = f": {', '.join(left)}" if left else ""
    return f"{len(left)} of {len(wanted)} experiments to run, about {minutes:.0f} min on 2 CPU cores{names}"


def main(argv: list[str] | None = None) -> int:
    """Run the named experiments; the exit status is 2 for a bad command."""
    args = parser().parse_intermixed_args(argv)
    use_compile_cache()
    if args.name is None:
        print(listing())
        return 0
    if args.name not in ("all", "shelf"):
        try:
            runner.make(args.name, args.changes, args.quick, args.force, redraw=args.redraw)
        except (ValueError, runner.Unavailable) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        return 0
    if args.changes:
        print(f"error: field=value belongs to one experiment; name it instead of `{args.name}`", file=sys.stderr)
        return 2
    wanted, left_out, start = runner.names(args.name), [], time.perf_counter()
    if not args.quick:
        print(forecast(wanted, args.force), flush=True)
    for name in wanted:
        try:
            runner.make(name, (), args.quick, args.force)
        except runner.Unavailable as error:
            left_out.append(name)
            print(f"{name}: left out: {error}\n")
        jax.clear_caches()  # no other experiment uses these programs; each holds 6 of the 65,530 maps that Linux allows
    done = len(wanted) - len(left_out)
    print(f"{done} of {len(wanted)} in {(time.perf_counter() - start) / 60:.1f} min")
    return 0


if __name__ == "__main__":
    replace_unknown_characters()
    ask_for_huge_pages()
    sys.exit(main())
