"""The site as a reader gets it: figures, formulas, links, nothing from another host; readable and not too wide, in
light and in dark, on a phone and on a desk. Three lessons are run for it, with the smallest budget;
DDPM_SITE_LESSONS=8,13 runs others, and all all."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import jax
import numpy as np
import pytest
from PIL import Image

from ddpm.course import lesson as lessons

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "docs" / "site" / "build.py"
PYTHON = os.environ.get("DDPM_SITE_PYTHON", sys.executable)
ALL = lessons.files()
NAMED = os.environ.get("DDPM_SITE_LESSONS", "1,6,15")
CHOSEN = list(ALL) if NAMED == "all" else [int(number) for number in NAMED.split(",")]
BROWSER = next((b for b in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if b), None)
pytestmark = [pytest.mark.slow, pytest.mark.first]  # the longest file; --dist loadfile builds it once


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The site with the chosen lessons; DDPM_SITE names one that exists."""
    if ready := os.environ.get("DDPM_SITE"):
        return Path(ready)
    needs = "import sphinx, myst_nb, furo, sphinx_design, sphinxcontrib.katex, jax"
    if not BUILD.exists() or subprocess.run([PYTHON, "-c", needs], capture_output=True).returncode:
        pytest.skip("the site needs the extra `course` (or DDPM_SITE_PYTHON)")
    if not shutil.which("node"):
        pytest.skip("the site's formulas need node")
    out = tmp_path_factory.mktemp("site")
    env = os.environ | {"DDPM_BUDGET": "smoke", "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}
    env |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}  # what the lessons' own test compiles as well
    log = out / "stderr.txt"  # a file: a pipe would stay open as long as a kernel or node that the build left behind
    with log.open("w") as stderr:
        done = subprocess.run(
            [PYTHON, str(BUILD), str(out), "--lessons", *map(str, CHOSEN)],
            env=env, stdout=subprocess.DEVNULL, stderr=stderr,
        )  # fmt: skip
    printed = log.read_text(encoding="utf-8")
    assert done.returncode == 0, printed[-3000:]
    assert "WARNING: " not in printed, printed[-3000:]  # Sphinx's; the kernel's has a bar
    return out / "html"


LIBRARY = ("index", "schedule", "guide", "oracle", "typicality")  # of the library's pages, those seen at all widths
WIDTHS = (390, 1024, 1366, 1400)  # a phone, a tablet, laptops; in the middle two a page of each kind


class Page(HTMLParser):
    """Images, links, assets, ids and the words of a page."""

    def __init__(self, file):
        super().__init__()
        self.file, self.ids = file, set()
        self.images, self.links, self.assets, self.words, self.inside = [], [], [], [], []
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
    if "DDPM_SITE" not in os.environ:
        assert {f.stem for f in lesson_pages(site)} == {ALL[number].stem for number in CHOSEN}
    for file in lesson_pages(site):
        html, page = file.read_text(encoding="utf-8"), Page(file)
        figures = [i for i in page.images if "_images" in i]
        assert figures, f"{file.name} has no picture"
        assert all((file.parent / unquote(i)).resolve().stat().st_size > 10_000 for i in figures)
        assert "<details" in html and "Show the reference solution" in html
        assert 'class="katex"' in html and "katex-error" not in html
        assert "Traceback" not in html and "output stderr" not in html
        assert not re.search(r"np\.float(32|64)\(", html), f"{file.name} shows a number's type"  # code has tags
        assert not re.search(r"</span>[,.;:?!]", html), f"{file.name}: a line may begin with what follows a formula"
        exercises = [t.number for t in lessons.all_tasks().values() if t.lesson == int(file.stem[1:3])]
        boxes = html.count('<div class="exercise docutils container">')
        assert boxes == len(exercises) == len(re.findall(r"<h3>Exercise ", html)), f"{file.name}: {boxes} boxes"


def test_each_figure_is_there_for_light_and_for_dark_pages(site):
    """In the dark the paper is dark, the hue of a line stays, and a photograph is not inverted."""
    for file in lesson_pages(site):
        html = file.read_text(encoding="utf-8")
        light, dark = (re.findall(rf'<img[^>]*class="only-{t}"[^>]*src="([^"]+)"', html) for t in ("light", "dark"))
        assert light and len(light) == len(dark), file.name
        for pair in zip(light, dark, strict=True):
            a, b = (np.asarray(Image.open(file.parent / unquote(p)).convert("RGB"), float) for p in pair)
            assert a.shape == b.shape and a[0, 0].min() > 250 and b[0, 0].max() < 30


def test_dark_figures():
    sys.path.insert(0, str(BUILD.parent))
    import figures

    def one(colour, keep=()):
        return np.asarray(figures.dark(Image.new("RGB", (2, 1), colour), list(keep)), float)[0]

    assert np.allclose(one("white"), figures.PAPER) and np.allclose(one("black"), figures.INK)
    assert np.allclose(one("#1f4e79", [(1, 0, 2, 1)])[1], [0x1F, 0x4E, 0x79])  # a picture stays
    for colour in ((31, 78, 121), (181, 82, 59), (46, 125, 50)):  # a hue is the angle around the grey axis
        hues = [np.arctan2(np.sqrt(3) * (g - b), 2 * r - g - b) for r, g, b in (colour, one(colour)[0])]
        assert abs(hues[0] - hues[1]) < 0.1


def test_pictures_inside_a_dark_figure_stay_as_they_are():
    """A picture at the left, a line at the right."""
    sys.path.insert(0, str(BUILD.parent))
    import figures
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    picture = np.random.default_rng(0).uniform(size=(5, 7, 3))
    left.imshow(picture)
    right.plot([0, 1], [0, 1], color="#1f4e79")
    light, dark = (np.asarray(Image.open(io.BytesIO(png)), float) for png in figures.both(figure))
    ((x0, y0, x1, y1),) = figures.boxes(figure)
    assert np.array_equal(light[y0:y1, x0:x1], dark[y0:y1, x0:x1])
    middle = light[(y0 + y1) // 2, (x0 + x1) // 2]  # row 2 of 5, column 3 of 7: the box is where the picture is
    assert np.allclose(middle, 255 * picture[2, 3], atol=1)
    outside = np.ones(light.shape[:2], bool)
    outside[y0:y1, x0:x1] = False
    assert light[outside].mean() > 225 and dark[outside].mean() < 60
    assert np.abs(light[outside] - dark[outside]).max() > 200


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


@pytest.fixture(scope="session")
def seen(site, tmp_path_factory):
    """What a browser finds: {(page, width, theme): words, pale text, width, pictures}."""
    if not BROWSER:
        pytest.skip("no Chromium here")
    folder, out = tmp_path_factory.mktemp("browser"), {}
    script = (Path(__file__).parent / "audit.js").read_text(encoding="utf-8")
    for width in WIDTHS:
        every = [f for f in pages(site) if f.parent.name != "library" or width == 390 or f.stem in LIBRARY]
        if width in WIDTHS[1:3]:
            every = [f for f in every if f.stem in ("index", "l15_typicality", "guide")]
        urls = [file.as_uri() for file in every]
        told = script.replace("/*pages*/[]", json.dumps(urls)).replace("/*width*/390", str(width))
        (folder / "audit.html").write_text(f"<iframe height=2000></iframe><script>{told}</script>", encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
        flags += ["--disable-web-security", f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=3600000"]
        command = [BROWSER, *flags, "--window-size=1500,2100", "--dump-dom", (folder / "audit.html").as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        found = re.search(r'data-found="([^"]+)"', done.stdout)
        assert found, done.stderr[-1000:]
        for r in json.loads(unquote(found.group(1))):
            out[Path(unquote(urlparse(r["url"]).path)).relative_to(site).as_posix(), width, r["theme"]] = r
        assert sum(key[1] == width for key in out) == 2 * len(urls)
    return out


def test_no_page_scrolls_sideways(seen):
    assert {key: r["wide"] for key, r in seen.items() if r["wide"] > 0} == {}


def test_text_can_be_read_in_light_and_in_dark(seen):
    """Contrast of every text against what lies behind it: 4.5 or more (WCAG 2.2, AA)."""
    pale = {line: key for key, r in seen.items() for line in r["hard"]}
    assert pale == {}
    assert all(r["words"] > 10 for r in seen.values())


def test_dark_is_dark_and_pictures_are_shown_once(seen):
    for (page, width, theme), r in seen.items():
        assert (max(map(int, re.findall(r"\d+", r["paper"])[:3])) < 60) == (theme == "dark"), (page, theme, r["paper"])
        assert r["broken"] == []
        assert r["pictures"] == seen[page, width, "light"]["pictures"]
        assert r["pictures"] > 0 or not page.startswith(("lessons/", "gallery/", "index"))


def test_the_book_holds_every_lesson_and_the_slides_no_answers(site, tmp_path):
    """The book ends with the heart; a slide has no code, and nothing of what follows a bet."""
    sys.path.insert(0, str(BUILD.parent))
    import printed

    copy = shutil.copytree(site, tmp_path / "html")
    text = printed.book(copy).read_text(encoding="utf-8")
    titles = re.findall(r"<h1>([^<]+)", text)
    assert [t for t in titles if re.match(r"L\d", t)] == [
        re.search(r"<h1>([^<]+)", f.read_text(encoding="utf-8")).group(1) for f in lesson_pages(site)
    ]
    assert titles[-2:] != titles[:2] and "ddpm.typicality" in titles and "Show the reference solution" not in text
    for src in re.findall(r'<img[^>]*src="([^"]+)"', text):
        assert (copy / unquote(src)).is_file(), src
    for lesson in lesson_pages(copy):
        slides = printed.slides(copy, lesson).read_text(encoding="utf-8")
        assert slides.count('<section class="slide">') > 4 and "<pre" not in slides
        for src in re.findall(r'<img[^>]*src="([^"]+)"', slides):
            assert (copy / "slides" / unquote(src)).is_file(), src
        fold = re.search(r'<details class="bet">.*?<p>(.*?)</p>', lesson.read_text(encoding="utf-8"), re.S)
        assert fold is None or fold.group(1) not in slides
