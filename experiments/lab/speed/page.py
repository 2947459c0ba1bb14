"""How fast the page that draws is in a browser: calls of the network a second in Chromium, on one core.

    python -m experiments.lab.speed.page                 writes the page and its picture to out/page, prints the rate

Needs node and chromium. The page is opened from the disk, draws one image of 20 steps with guidance (40 calls), and
states its own milliseconds a call; the whole browser is bound to one core.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from ddpm.tools import machine
from ddpm.zoo import model, web_page

DRIVER = Path(__file__).parents[3] / "tests" / "zoo" / "page_browser.mjs"
GOAL = 10  # calls a second


def main(name: str = "fashion_mnist", out: Path = Path("out/page")) -> float:
    """Export the model, open the page on one core, and print the calls a second."""
    node, browser = shutil.which("node"), shutil.which("chromium") or shutil.which("google-chrome")
    if not node or not browser:
        raise SystemExit("this needs node and chromium on the PATH")
    out.mkdir(parents=True, exist_ok=True)
    page = (out / f"{name}.html").resolve()
    page.unlink(missing_ok=True)
    web_page.save(page, model.load(name))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # also of the processes that are started from here
    task = {
        "browser": browser,
        "profile": str((out / "profile").resolve()),
        "url": page.as_uri(),
        "ways": [{"width": 1440, "scheme": "light", "full": False}],
        "pictures": str(out.resolve()),
    }
    (out / "task.json").write_text(json.dumps(task))
    subprocess.run([node, str(DRIVER), str(out / "task.json"), str(out / "seen.json")], check=True, timeout=300)
    seen = json.loads((out / "seen.json").read_text())
    if "failed" in seen:
        raise SystemExit(seen["failed"])
    status = seen["pages"][0]["status"]
    rate = 1000 / float(re.search(r"([\d.]+) ms a call", status)[1])  # type: ignore[index]
    print(f"{status}\n{rate:.0f} calls a second in Chromium on one core (goal {GOAL}); {machine.device_name()}")
    return rate


if __name__ == "__main__":
    main()
