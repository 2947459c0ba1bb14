"""Build the site: lessons with their figures, the library as annotated pages, the gallery, the table of notations.

    python docs/site/build.py [OUT] [--lessons 1 3] [--execute off]        (make site)

Pages are made from the lessons, the modules and the results (pages.py); Sphinx and MyST-NB run the lessons, cached by
their code and by the library's, and render everything. Needs the extra `course`, and node for the formulas. Nothing on
a page comes from another host.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(HERE)]

import pages  # noqa: E402

from ddpm.course import lesson as lessons  # noqa: E402
from ddpm.zoo import model, web_page  # noqa: E402


def make_sources(source: Path, chosen: list[int]) -> None:
    """Write all pages into a fresh folder."""
    shutil.rmtree(source, ignore_errors=True)
    for folder in ("lessons", "library", "gallery", "static/gallery"):
        (source / folder).mkdir(parents=True)
    for name in ("conf.py", "sidebyside.py", "figures.py"):
        shutil.copy(HERE / name, source)
    shutil.copytree(HERE / "static", source / "static", dirs_exist_ok=True)
    if set(chosen) & set(pages.DRAWS):
        (source / "static" / "draw.html").write_text(web_page.page(model.load("fashion_mnist")), encoding="utf-8")
    results = ROOT / "experiments" / "results"
    pages.hero(results / "garments" / "figure.png", source)
    shutil.copy(results / "rosetta" / "rosetta.md", source / "rosetta.md")

    def write(page: str, text: str) -> None:
        (source / page).write_text(text, encoding="utf-8")

    for number in chosen:
        write(f"lessons/{lessons.files()[number].stem}.ipynb", pages.lesson_page(number))
    for name, file in pages.module_pages().items():
        write(f"library/{name}.md", pages.module_page(name, file))
    write("library/index.md", pages.library_page())
    write("gallery/index.md", pages.gallery_page(source))
    write("gallery/shelf.md", pages.shelf_page())
    write("index.md", pages.index_page(chosen))
    write("begin.md", pages.begin_page())
    shutil.copy(HERE / "refreshers.md", source / "refreshers.md")


def library_hash() -> str:
    """The cache knows the lessons' code only; this makes it know the library's."""
    digest = hashlib.sha256()
    for file in sorted([*(ROOT / "ddpm").rglob("*.py"), HERE / "figures.py"]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def main() -> int:
    """Write the pages, run Sphinx."""
    parser = argparse.ArgumentParser(description="Build the site.")
    parser.add_argument("out", nargs="?", type=Path, default=ROOT / "site", help="where to")
    parser.add_argument("--lessons", nargs="*", type=int, default=list(lessons.files()), help="only these")
    parser.add_argument("--execute", choices=["cache", "force", "off"], default="cache", help="run the lessons")
    args = parser.parse_args()
    out = args.out.resolve()
    make_sources(out / "source", args.lessons)
    env = os.environ | {"DDPM_SITE_CACHE": str(out / "cache" / library_hash()), "DDPM_SITE_EXECUTE": args.execute}
    paths = [str(ROOT), str(out / "source"), os.environ.get("PYTHONPATH", "")]
    env["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(out / "source"), str(out / "html")]
    done = subprocess.run(command, env=env, check=False)
    if done.returncode == 0:
        print(f"{out / 'html' / 'index.html'}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
