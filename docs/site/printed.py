"""The book and the slides, made of the site's pages: no second text to keep.

    python docs/site/build.py                     first the site, in site/html
    python docs/site/printed.py [SITE]            then SITE/book.html and SITE/slides/LESSON.html; with Chromium, PDFs

The book is every lesson, the refreshers and the pages of the heart, one after the other. The slides of a lesson are its
chapters: the title, the first paragraphs, formulas, exercises and pictures, without code, and without what follows a
bet. Arrow keys turn them, and the browser prints them one a page.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bs4 import BeautifulSoup, Tag

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="{up}_static/katex/katex.min.css"><link rel="stylesheet" href="{up}_static/pygments.css">
<link rel="stylesheet" href="{up}_static/styles/furo.css"><link rel="stylesheet" href="{up}_static/site.css">
<style>{style}</style></head><body data-theme="light">
"""
BOOK = """
body { font-size: 10.5pt; background: white; }
article { max-width: 46em; margin: 0 auto; padding: 0 1em; }
article.page { break-before: page; }
.only-dark, .headerlink, iframe, a.draw { display: none !important; }
pre { white-space: pre-wrap; font-size: 8pt !important; }
img { max-width: 100%; height: auto; }
@page { size: A4; margin: 18mm 16mm; }
@media print {
  .pair { display: block !important; }
  h2, h3 { break-after: avoid; }
  img, .katex-display { break-inside: avoid; }
}
"""
SLIDES = """
html { background: #222; }
body { margin: 0; background: none; }
section.slide { background: white; color: black; width: 1280px; height: 720px; box-sizing: border-box;
  padding: 48px 64px; margin: 0 auto 16px; overflow: hidden; font-size: 25px; line-height: 1.4; }
section.slide h1, section.slide h2 { font-size: 40px; margin: 0 0 .5em; color: #0f5a8c; }
section.slide h3 { font-size: 28px; margin: .4em 0; }
section.slide img { max-width: 100%; max-height: 500px; width: auto !important; display: block; margin: 0 auto; }
.only-dark, .headerlink { display: none !important; }
@page { size: 1280px 720px; margin: 0; }
@media print { html { background: white; } section.slide { margin: 0; break-after: page; } }
"""
KEYS = """<script>
addEventListener("keydown", e => {
  const step = {ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1}[e.key];
  if (!step) return;
  e.preventDefault();
  const all = [...document.querySelectorAll("section.slide")];
  const now = all.findIndex(s => s.getBoundingClientRect().bottom > 20);
  all[Math.max(0, Math.min(all.length - 1, now + step))].scrollIntoView();
});
</script></body></html>
"""


def article(page: Path) -> Tag:
    """What a page says, without the bars around it."""
    found = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").find("article")
    if not isinstance(found, Tag):
        raise ValueError(f"{page} has no article; build the site again: python docs/site/build.py")
    for gone in found.select(".headerlink, iframe, script, a.draw"):
        gone.decompose()
    return found


def lifted(found: Tag, up: str, down: str) -> Tag:
    """Addresses that began with `up` begin with `down`; links inside the site lose their target."""
    for image in found.find_all("img"):
        image["src"] = image["src"].replace(up, down, 1)
        image.attrs.pop("loading", None)
    for link in found.find_all("a", href=True):
        if not link["href"].startswith("http"):
            link.unwrap()
    return found


def order(site: Path) -> list[Path]:
    """The pages of the book, as one reads: before you begin, the lessons, the refreshers, the heart, the notations."""
    start = BeautifulSoup((site / "index.html").read_text(encoding="utf-8"), "html.parser")
    listed = [a["href"] for a in start.select(".sidebar-tree a.reference") if not a["href"].startswith("#")]
    heart = [p for p in listed if p.startswith("library/") and p.count(".") == 1]
    return [site / p for p in listed if not p.startswith(("library/", "gallery/"))] + [site / p for p in heart]


def book(site: Path) -> Path:
    """Write book.html beside the pages."""
    out = [HEAD.format(title="ddpm: diffusion models from scratch", up="", style=BOOK)]
    for page in order(site):
        found = lifted(article(page), "../", "")
        found["class"] = "page"
        for fold in found.find_all("details"):
            if "hide" in fold.get("class", []):  # the reference solutions
                fold.decompose()
            else:
                fold["open"] = ""
        out.append(str(found))
    file = site / "book.html"
    file.write_text("\n".join([*out, "</body></html>\n"]), encoding="utf-8")
    return file


def slides_of(found: Tag) -> Iterator[str]:
    """A slide for the title, and for each chapter: its text, and one for each picture and each exercise."""
    title = found.find("h1")
    table = found.find("table")
    yield f"{title}{table or ''}"
    for chapter in found.select("section > section"):
        heading = chapter.find(["h2", "h3"])
        if heading is None or heading.name != "h2":
            continue
        body: list[str] = []
        pictures: list[str] = []
        exercises: list[str] = []
        for node in chapter.find_all(["p", "h3", "img", "div", "blockquote", "ul"]):
            if node.find_parent(class_="highlight") or node.find_parent("details", class_=["hide", "bet"]):
                continue
            if node.name == "img" and "only-dark" not in node.get("class", []):
                pictures.append(str(node))
            elif node.name == "h3":
                exercises.append(f"<p><b>{node.get_text()}</b></p>")
            elif node.name == "div" and "math" in node.get("class", []) and len(body) < 6:
                body.append(str(node))
            elif (
                node.name in ("p", "ul")
                and not exercises
                and not node.find_parent(["ul", "blockquote"])
                and len(body) < 3
            ):
                body.append(str(node))
        yield f"{heading}{''.join(body)}{''.join(exercises)}"
        yield from (f"{heading}{picture}" for picture in pictures)


def slides(site: Path, page: Path) -> Path:
    """Write the slides of a lesson."""
    found = lifted(article(page), "../", "../")
    title = found.find("h1")
    head = HEAD.format(title=title.get_text() if title else page.stem, up="../", style=SLIDES)
    shown = "\n".join(f'<section class="slide">{slide}</section>' for slide in slides_of(found))
    file = site / "slides" / page.name
    file.parent.mkdir(exist_ok=True)
    file.write_text(head + shown + KEYS, encoding="utf-8")
    return file


def pdf(browser: str, file: Path) -> Path:
    """Print a page."""
    made = file.with_suffix(".pdf")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    subprocess.run([*command, f"--print-to-pdf={made}", file.resolve().as_uri()], check=True, capture_output=True)
    return made


def main() -> int:
    """Write the book and the slides; print them where there is a browser."""
    parser = argparse.ArgumentParser(description="Make the book and the slides of a site that has been built.")
    parser.add_argument("site", nargs="?", type=Path, default=Path("site/html"), help="the folder html of the site")
    site = parser.parse_args().site
    if not (site / "index.html").is_file():
        print(f"{site} holds no site; build it first: python docs/site/build.py", file=sys.stderr)
        return 1
    made = [book(site), *(slides(site, page) for page in sorted((site / "lessons").glob("l*.html")))]
    browser = next((b for b in map(shutil.which, BROWSERS) if b), None)
    for file in made:
        print(pdf(browser, file) if browser else file)
    if not browser:
        print("no Chromium here, so no PDF: open these pages in a browser, and print them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
