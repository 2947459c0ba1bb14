"""Run lessons as scripts and compare their times with their headers: `python -m lessons [4 6] [--budget short]`.

Pictures and numbers go to out/. The exit status is 1 if a lesson fails, or needs more minutes than its header states
(with the budget `smoke`: more than one).
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time

from ddpm.course import lesson as lessons


def stated(number: int) -> int:
    """The minutes that the header of a lesson gives for running it: `40 minutes to read and do, 2 minutes to run`."""
    found = re.search(r"^# \| time \| .*?([\w ]+) to run\b", lessons.text_of(number), re.M)
    words = found.group(1).split() if found else []
    return int(words[-2]) if len(words) > 1 and words[-2].isdigit() else 1  # `seconds`, `a minute`


def run(number: int, budget: str) -> tuple[int, float, float]:
    """(exit status, seconds on the clock, seconds of processor time) of one lesson."""
    env = os.environ | {"DDPM_BUDGET": budget, "MPLBACKEND": "agg"}
    before, start = os.times(), time.monotonic()
    done = subprocess.run([sys.executable, str(lessons.files()[number])], env=env, check=False)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return done.returncode, time.monotonic() - start, spent


def main() -> int:
    """Run the requested lessons, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m lessons", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("lessons", nargs="*", type=int, help="numbers of the lessons; all if none is given")
    parser.add_argument("--budget", choices=["smoke", "short", "full"], default="short")
    args = parser.parse_args()
    rows, good = [], True
    for number in args.lessons or lessons.files():
        lessons.text_of(number)  # refuses a number without a lesson
        status, clock, spent = run(number, args.budget)
        limit = 60 * (1 if args.budget == "smoke" else stated(number))
        fits = clock <= limit or args.budget == "full"
        good &= status == 0 and fits
        verdict = "failed" if status else "" if fits else "longer than its header states"
        rows.append(f"L{number:<3} {clock:7.1f} s {spent:9.1f} s {limit:6} s  {verdict}".rstrip())
    print("\n".join([f"{args.budget:4}    clock   processor     limit", *rows]))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
