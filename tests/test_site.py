"""The site as a reader gets it: figures, formulas, links, nothing from another host, no sideways scroll on a phone."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "docs" / "site" / "build.py"
PYTHON = os.environ.get("DDPM_SITE_PYTHON", sys.executable)
BROWSER = next((b for b in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if b), None)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The first lesson is run, the library and the gallery are rendered; DDPM_SITE names a site that exists."""
    if ready := os.environ.get("DDPM_SITE"):
        return Path(ready)
    needs = "import sphinx, myst_nb, furo, sphinxcontrib.katex, jax"
    if not BUILD.exists() or subprocess.run([PYTHON, "-c", needs], capture_output=True).returncode:
        pytest.skip("the site needs the extra `course` (or DDPM_SITE_PYTHON)")
    if not shutil.which("node"):
        pytest.skip("the site's formulas need node")
    out = tmp_path_factory.mktemp("site")
    env = os.environ | {"DDPM_BUDGET": "smoke"}
    done = subprocess.run([PYTHON, str(BUILD), str(out), "--lessons", "1"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "WARNING" not in done.stderr, done.stderr[-3000:]
    return out / "html"


class Page(HTMLParser):
    """Images, links, assets, ids and the words of a page."""

    def __init__(self, file):
        super().__init__()
        self.file, self.images, self.links, self.assets, self.ids, self.words, self.inside = (
            file,
            [],
            [],
            [],
            set(),
            [],
            [],
        )
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        a = dict(attributes)
        self.ids |= {a["id"]} if "id" in a else set()
        if tag == "img":
            self.images.append(a.get("src", ""))
        if tag == "a" and "href" in a:
            self.links.append(a["href"])
        if (tag == "script" and "src" in a) or (tag == "link" and a.get("rel") in ("stylesheet", "icon", "preload")):
            self.assets.append(a.get("src") or a.get("href"))
        if tag in ("script", "style", "pre", "code", "annotation"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.words.append(data)


def pages(site):
    return {file: Page(file) for file in sorted(site.rglob("*.html")) if "_static" not in file.parts}


def lesson_pages(site):
    return sorted((site / "lessons").glob("l*.html"))


def test_each_lesson_has_its_figure_its_folded_solutions_and_rendered_formulas(site):
    assert lesson_pages(site)
    for file in lesson_pages(site):
        html, page = file.read_text(encoding="utf-8"), Page(file)
        figures = [i for i in page.images if "_images" in i]
        assert figures, f"{file.name} has no picture"
        assert all((file.parent / unquote(i)).resolve().stat().st_size > 10_000 for i in figures)
        assert "<details" in html and "Show the reference solution" in html
        assert 'class="katex"' in html and "katex-error" not in html
        assert "Traceback" not in html and "output stderr" not in html


def test_no_raw_markup_is_left(site):
    for file, page in pages(site).items():
        words = " ".join(page.words)
        for raw in ("$$", ":::", "{note}", "```", "\\frac", "\\bar"):
            assert raw not in words, f"{file.name} shows {raw}"


def test_nothing_comes_from_another_host(site):
    for file, page in pages(site).items():
        for asset in page.assets + page.images:
            assert not urlparse(asset).scheme or asset.startswith("data:"), f"{file.name} loads {asset}"
    for css in site.rglob("*.css"):
        for url in re.findall(r"url\(([^)]+)\)", css.read_text(encoding="utf-8")):
            assert "//" not in url.strip("\"'").removeprefix("data:")[:8], f"{css.name} loads {url}"


def test_links_lead_somewhere(site):
    known = pages(site)
    for file, page in known.items():
        for link in page.links:
            parts = urlparse(link)
            if parts.scheme or not (parts.path or parts.fragment):
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            assert target.exists(), f"{file.name} links to {link}"
            if parts.fragment and target in known:
                assert unquote(parts.fragment) in known[target].ids, f"{file.name} links to {link}"


WRAP = """<body style="margin:0"><iframe src="{page}" width="{width}" height="2000" style="border:0"></iframe><script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument;
  const held = e => {{  // it scrolls, or is cut, inside an element of the page
    for (let p = e; p && p.tagName !== "ARTICLE"; p = p.parentElement)
      if (page.defaultView.getComputedStyle(p).overflowX !== "visible") return true;
    return false;
  }};
  let over = page.documentElement.scrollWidth - {width};
  for (const e of page.querySelectorAll("article, article *"))
    if (!held(e)) over = Math.max(over, Math.round(e.getBoundingClientRect().right) - {width});
  document.body.setAttribute("data-over", over);
}});</script></body>"""


@pytest.mark.parametrize("width", [390, 1400])
def test_no_page_scrolls_sideways(site, tmp_path, width):
    if not BROWSER:
        pytest.skip("no Chromium here")
    for file in [site / "index.html", *lesson_pages(site), site / "gallery" / "index.html", site / "rosetta.html"]:
        wrapper = tmp_path / f"{file.stem}.html"
        wrapper.write_text(WRAP.format(page=file.as_uri(), width=width))
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--allow-file-access-from-files",
            "--disable-web-security",
        ]
        flags += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--window-size=1500,2100"]
        done = subprocess.run(
            [BROWSER, *flags, "--dump-dom", wrapper.as_uri()], capture_output=True, text=True, timeout=120
        )
        over = re.search(r'data-over="(-?\d+)"', done.stdout)
        assert over, done.stderr[-500:]
        assert int(over.group(1)) <= 0, f"{file.name} is {over.group(1)} pixels too wide at {width}"
