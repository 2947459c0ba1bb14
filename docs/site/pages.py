"""The texts of the site's pages, made from the lessons, the modules and the results: no second text to keep."""

from __future__ import annotations

import ast
import itertools
import json
import re
from html import escape
from pathlib import Path

import figures
import formulas
from PIL import Image

from ddpm.course import lesson as lessons
from ddpm.course import student
from experiments.lab import gallery, papers, runner

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FIRST = "import figures\n\nfigures.show_for_light_and_dark()\nfigures.round_numbers()"  # a hidden cell of each lesson


# ---------------------------------------------------------------------------------------------- lessons


def cell(kind: str, source: str, **metadata: object) -> dict:
    """A cell of a notebook."""
    out = {"cell_type": kind, "metadata": metadata, "source": source.strip("\n")}
    return out | ({"outputs": [], "execution_count": None} if kind == "code" else {})


# What follows a bet, up to the next heading, is folded: it tells the answer.
OPEN = f"```{{raw}} html\n{lessons.FOLD}\n```"
CLOSE = "```{raw} html\n</details>\n```"


def lesson_page(number: int) -> str:
    """A lesson as a notebook: of an exercise the stub is shown, and the solution is run and folded."""
    cells = []
    task, bet = "", False
    for part, told in lessons.with_bets(lessons.text_of(number)):
        part.lines = [line for line in part.lines if not line.startswith("# ruff:")]
        body = "\n".join(part.lines).strip("\n")
        for heading in filter(None, map(lessons.HEADING.match, part.lines)):
            task = heading.group(1)
        if told != bet:
            cells.append(cell("markdown", OPEN if told else CLOSE))
            bet = told
        if part.markdown:
            cells.append(cell("markdown", "\n".join(line.removeprefix("#").removeprefix(" ") for line in part.lines)))
        elif lessons.BEGIN in body:
            stub = "\n".join(student.stubbed(part.lines, task)).strip("\n")
            cells.append(cell("markdown", f"```python\n{stub}\n```"))
            solved = "\n".join(line for line in part.lines if line.strip() not in (lessons.BEGIN, lessons.END))
            cells.append(cell("code", solved, tags=["hide-input"]))
        elif re.fullmatch(r"(\s*#.*\n?)*", body):
            continue
        else:
            cells.append(cell("code", body))
    if number in DRAWS:
        cells = with_drawing(cells, number)
    cells.insert(1, cell("code", FIRST, tags=["remove-cell"]))
    for i, c in enumerate(cells):
        c["id"] = f"l{number:02d}-{i:03d}"
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})


# Where the page that draws teaches: the lesson, the chapter below which it stands, and its first settings.
DRAWS = {
    6: ("Garments", "steps=5", "Few steps, and η: draw with them"),
    9: ("Garments", "guidance=4", "Guidance: move the scale"),
    15: ("Garments", "steps=20", "Typicality: measure it, also of a picture of yours"),
}


def drawing_cell(number: int) -> dict:
    """A link to the page that draws; a click puts it into the lesson. Nothing of it is loaded before."""
    _, settings, words = DRAWS[number]
    here = f"../_static/draw.html?{settings}"
    frame = f"Object.assign(document.createElement('iframe'),{{src:this.href,title:'{words}',className:'draw'}})"
    link = f'<a class="draw" href="{here}" onclick="this.replaceWith({frame});return false">{words} ▸</a>'
    return cell("markdown", f"```{{raw}} html\n<p>{link}</p>\n```")


def with_drawing(cells: list[dict], number: int) -> list[dict]:
    """The cells of a lesson, with the page that draws below its chapter."""
    chapter = re.compile(rf"^## \d+\. {DRAWS[number][0]}$", re.M)
    place = next(i for i, c in enumerate(cells) if c["cell_type"] == "markdown" and chapter.search(c["source"]))
    return [*cells[: place + 1], drawing_cell(number), *cells[place + 1 :]]


def header(number: int) -> dict[str, str]:
    """The title of a lesson, and the rows of its first table: you learn, time, difficulty, …"""
    first = lessons.cells(lessons.text_of(number))[0]
    text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in first.lines)
    title = re.search(r"^# (.+)$", text, re.M)
    return {"title": title.group(1) if title else "", **dict(re.findall(r"^\| ([a-z ]+) \| (.+) \|$", text, re.M))}


def lesson_card(number: int) -> str:
    """A lesson on the start page."""
    about = header(number)
    small = f"{about.get('time', '')} · {about.get('difficulty', '')}"
    return (
        f"```{{grid-item-card}} {about['title']}\n:link: lessons/{lessons.files()[number].stem}\n:link-type: doc\n\n"
        f"{about.get('you learn', '')}\n+++\n{small}\n```"
    )


def hero(picture: Path, source: Path) -> None:
    """The picture of the start page: five kinds of the garments that the shipped model has drawn."""
    with Image.open(picture) as opened:
        image = opened.convert("RGB")
    for name, paper in {"garments": (255, 255, 255), "garments-dark": tuple(figures.PAPER)}.items():
        figures.strip(image, (0, 3, 5, 8, 9), paper).save(source / f"{name}.png")


def minutes(number: int) -> tuple[int, int]:
    """The minutes in the header of a lesson: to read and do, to run (less than one counts as none)."""
    read, run = re.fullmatch(r"(\d+) minutes to read and do, (.+) to run", header(number)["time"]).groups()  # type: ignore[union-attr]
    words = run.split()
    return int(read), int(words[0]) if words[0].isdigit() else int(words[0] == "a")


def begin_page() -> str:
    """What to know before one begins, and how long it takes: the numbers are those of the lessons."""
    words = (HERE / "begin.md").read_text(encoding="utf-8")
    times = {number: minutes(number) for number in lessons.files()}
    total = sum(read for read, _ in times.values())

    def track(match: re.Match) -> str:
        numbers = [int(n) for n in match.group(1).split()]
        return f"{', '.join(f'L{n}' for n in numbers)} | {sum(times[n][0] for n in numbers)}"

    for name, value in {
        "N_LESSONS": len(times),
        "N_EXERCISES": len(lessons.all_tasks()),
        "MINUTES": total,
        "HOURS": round(total / 60),
        "RUN": sum(run for _, run in times.values()),
    }.items():
        words = words.replace(f"{{{{{name}}}}}", str(value))
    return re.sub(r"\{\{TRACK ([\d ]+)\}\}", track, words)


def index_page(chosen: list[int]) -> str:
    """The start page, with the tables of contents."""
    words = (HERE / "index.md").read_text(encoding="utf-8")
    exercises = sum(t.lesson in chosen for t in lessons.all_tasks().values())
    for name, value in {
        "FIRST": lessons.files()[chosen[0]].stem,
        "N_LESSONS": str(len(chosen)),
        "N_EXERCISES": str(exercises),
        "N_FIGURES": str(len(gallery.results())),
        "LESSON_CARDS": "\n".join(map(lesson_card, chosen)),
    }.items():
        words = words.replace(f"{{{{{name}}}}}", value)
    chapters = "\n".join(f"lessons/{lessons.files()[number].stem}" for number in chosen)
    toc = "\n\n```{{toctree}}\n:caption: {}\n:hidden:\n:maxdepth: 1\n\n{}\n```"
    parts = {
        "Learn": f"begin\n{chapters}\nrefreshers",
        "Read": "library/index\nrosetta",
        "Reproduce": "gallery/index\ngallery/shelf",
    }
    return words + "".join(toc.format(caption, entries) for caption, entries in parts.items()) + "\n"


# ---------------------------------------------------------------------------------------------- the library


def running_text(line: str) -> str:
    """A line of a docstring in Markdown: code stays code, formulas are typeset, and nothing else means anything."""
    out = []
    for i, part in enumerate(re.split(r"`([^`\n]+)`", line)):
        if i % 2:
            out.append(re.sub(r"([\\*_{}\[\]~$^])", r"\\\1", f"<code>{escape(part, quote=False)}</code>"))
            continue
        for is_formula, text in formulas.inline(part):
            plain = re.sub(r"([\\`*_{}\[\]()#+.!|<>&~$^:-])", r"\\\1", text)
            out.append(f"${text}$" if is_formula else re.sub(" {3,}", " &emsp;", plain))
    return "".join(out)


def docstring_html(words: str) -> str:
    """A docstring as paragraphs, with the ends of its lines; an indented block is a formula or keeps its columns."""
    out = []
    for block in re.split(r"\n\s*\n", words.strip("\n")):
        if all(line.startswith("    ") for line in block.splitlines()):
            tex = formulas.block(block)
            shown = f"<pre>{escape(block, quote=False)}</pre>"
            out.append(f'</div>\n\n$$\n{tex}\n$$\n\n<div class="docstring">' if tex else shown)
            continue
        lines = block.splitlines()
        ends = [len(a) + 1 + len(b.split()[0]) <= 114 for a, b in itertools.pairwise(lines)]
        shown = [running_text(a) + ("\\" if end else "") for a, end in zip(lines, [*ends, False], strict=True)]
        out.append("\n" + "\n".join(shown) + "\n")
    return '<div class="docstring">\n' + "\n".join(out) + "\n</div>"


def without_docstring(text: str, node: ast.FunctionDef | ast.ClassDef) -> str:
    """The source of a definition, its docstring taken out."""
    lines = text.splitlines()
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    kept = list(range(first, (node.end_lineno or first) + 1))
    if ast.get_docstring(node) is not None:
        words = node.body[0]
        end = words.end_lineno or words.lineno
        gone = range(words.lineno, end + (1 if lines[end : end + 1] != [""] else 2))  # with the empty line below
        kept = [i for i in kept if i not in gone] if len(node.body) > 1 else kept
    return "\n".join(lines[i - 1] for i in kept)


def module_pages() -> dict[str, Path]:
    """The library's files by the name of their page: `sample`, `samplers.solvers`. The commands and the course are not
    part of it."""
    files = {".".join(f.relative_to(ROOT / "ddpm").with_suffix("").parts): f for f in (ROOT / "ddpm").rglob("*.py")}
    return {n: f for n, f in sorted(files.items()) if f.stem != "__init__" and not n.startswith(("cli.", "course."))}


def module_page(name: str, file: Path) -> str:
    """A module: its docstring; then each public function or class, its docstring next to its code, helpers with it."""
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    out = [f"# ddpm.{name}", docstring_html(ast.get_docstring(tree) or "")]
    first = True
    for node in tree.body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            continue
        if first or not node.name.startswith("_"):
            out.append(f"## {node.name}".replace("_", "\\_"))
            first = False
        if words := ast.get_docstring(node):
            out.append(docstring_html(words))
        out.append(f"```python\n{without_docstring(text, node)}\n```")
    return "\n\n".join(out) + "\n"


def library_page() -> str:
    """The map, with a link at each file of the heart; then the wings as chapters, a page a file."""
    words = ast.get_docstring(ast.parse((ROOT / "ddpm" / "__init__.py").read_text(encoding="utf-8"))) or ""
    names = list(module_pages())
    heart = [n for n in re.findall(r"(?m)^    ([a-z]+)  +[^ :]", words) if n in names]
    chapters = {"The heart": [*heart, "plot"]}
    for wing in re.findall(r"(?m)^    ([a-z]+)/", words):
        chapters[wing] = [n for n in names if n.startswith(f"{wing}.")]
    shown = re.sub(
        rf"(?m)^(    |<pre>    )({'|'.join(heart)})(?=  +[^ :])", r'\1<a href="\2.html">\2</a>', docstring_html(words)
    )
    out = ["# The library", shown]
    for chapter, pages in chapters.items():
        if pages:
            out.append(f"```{{toctree}}\n:hidden:\n:maxdepth: 1\n:caption: {chapter}\n\n" + "\n".join(pages) + "\n```")
    return "\n\n".join(out) + "\n"


# ---------------------------------------------------------------------------------------------- the results


def two_pictures(picture: Path, folder: Path, name: str, graph: bool) -> None:
    """A picture for light pages and one for dark ones: a graph is turned dark, a photograph stays as it is."""
    with Image.open(picture) as opened:
        image = opened.convert("RGB")
    image.save(folder / f"{name}.png")
    figures.dark(image, [] if graph else [(0, 0, *image.size)]).save(folder / f"{name}-dark.png")


def small(pictures: list[Path], folder: Path) -> None:
    """Thumbnails of the same names."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        with Image.open(picture) as image:
            image.resize((480, round(480 * image.height / image.width))).save(folder / picture.name, optimize=True)


# Six figures that stand above the others, large.
LARGE = ("mining", "cfg_tilted", "solver_orders", "progressive_garments", "ddim_table1", "typicality_exact")


def paper_of(result: dict) -> str:
    """The first paper that a result names, with its year: its place in the gallery."""
    return re.match(r"[^;(]*?\d{4}[a-z]?|[^;(]*", result["paper"]).group().strip()  # type: ignore[union-attr]


def thumb(name: str, link: str, words: str, below: str) -> str:
    """A thumbnail with a title and a smaller line, which leads to `link`."""
    image = '<img class="only-{}" src="../_static/gallery/{}.png" alt="" loading="lazy">'
    both = image.format("light", name) + image.format("dark", f"{name}-dark")
    return f'<a class="thumb" href="{link}">{both}<span>{words}<br><small>{escape(below)}</small></span></a>'


def shelf_page() -> str:
    """The paper shelf: all papers by what one learns from them; those that run as thumbnails, the others as a list."""
    results = gallery.results()
    states = [papers.state(paper, results) for paper in papers.PAPERS]
    parts = ["# The paper shelf", papers.summary(states)]
    for letter, (title, learned) in papers.GROUPS.items():
        cards, lines = [], []
        for paper, state in zip(papers.PAPERS, states, strict=True):
            made = [name for name in paper.experiments if name in results]
            if paper.group == letter and made:
                link = "index.html#" + made[0].replace("_", "-")
                cards.append(thumb(made[0], link, f"{paper.name}: {state}", paper.idea))
            elif paper.group == letter:
                lines.append(f"- **{paper.name}** ({state}). {paper.idea}. {paper.why}".rstrip())
        grid = '<div class="thumbs">\n' + "\n".join(cards) + "\n</div>" if cards else ""
        parts += [f"## {title}", f"{learned}.", grid, "\n".join(lines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def gallery_page(source: Path) -> str:
    """Six large figures, all the others by paper and year; then each with what it shows, and its table folded."""
    parts: list[str] = []
    cards: dict[str, str] = {}
    by_paper = sorted(gallery.results().items(), key=lambda item: (paper_of(item[1])[-4:], paper_of(item[1]), item[0]))
    for name, result in by_paper:
        picture, module = runner.RESULTS / name / "figure.png", runner.find(name)
        if not picture.is_file():
            continue
        code = Path(module.__file__ or "").read_text(encoding="utf-8")
        two_pictures(picture, source / "gallery", name, graph=not re.search(r"imshow|grid\(", code))
        title = runner.title(module)
        target = name.replace("_", "-")
        cards[name] = thumb(name, f"#{target}", title, paper_of(result))
        width = f":width: {Image.open(picture).width * 5 // 8}px"
        table = runner.table(result["rows"])
        parts += [
            f"({target})=\n## {title}",
            f"*{result['paper']}* · `{result['command']}`",
            runner.words(module),
            f"```{{image}} {name}.png\n:alt: {title}\n{width}\n:class: only-light\n```",
            f"```{{image}} {name}-dark.png\n:alt: {title}\n{width}\n:class: only-dark\n```",
            f"````{{dropdown}} the table: {len(result['rows'])} rows\n\n{table}\n````",
        ]
    small(sorted((source / "gallery").glob("*.png")), source / "static" / "gallery")
    words = (
        "Papers' figures and tables, made again. Three columns that are never mixed up: what the *paper* prints, what "
        "is *exact* (a closed form or a quadrature in NumPy, no training), and what *our* code gives: the library on "
        "the same exact case, or the shipped network on data. The command under a title makes it again."
    )
    first = [cards.pop(name) for name in LARGE if name in cards]
    large = '<div class="thumbs large">\n' + "\n".join(first) + "\n</div>"
    grid = '<div class="thumbs">\n' + "\n".join(cards.values()) + "\n</div>"
    return "\n\n".join(["# Gallery", words, large, "All by paper, the oldest first:", grid, *parts]) + "\n"
