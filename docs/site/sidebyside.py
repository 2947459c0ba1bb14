"""Boxes for the style sheet: an exercise from its text to its solution, and prose with the code that follows it.

A page of a lesson is a sequence of text and cells. Each run of text is put in one box with the cells after it: on wide
screens the style sheet sets them side by side, below 1500 pixels one under the other. On a page of the library the
words are a docstring, and the code its function. Of each pair of figures (figures.py), one is for light pages.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform


def is_cell(node: nodes.Node) -> bool:
    """A cell that is run."""
    return isinstance(node, nodes.container) and node.get("nb_element") == "cell_code"


def is_output(node: nodes.Node) -> bool:
    """What a cell has shown."""
    return isinstance(node, nodes.container) and node.get("nb_element") == "cell_code_output"


def is_code(node: nodes.Node) -> bool:
    """A cell, or the stub of an exercise."""
    return isinstance(node, nodes.literal_block) or is_cell(node)


def is_picture(node: nodes.Node) -> bool:
    """A cell that has drawn something: too wide for a column."""
    return is_cell(node) and any(node.findall(nodes.image))


class SideBySide(SphinxTransform):
    """Wrap text and code of the lessons' sections in pairs."""

    default_priority = 820

    def apply(self, **_: object) -> None:
        for output in filter(is_output, self.document.findall(nodes.container)):
            for i, image in enumerate(output.findall(nodes.image)):
                image["classes"].append(("only-light", "only-dark")[i % 2])
                image["alt"] = "what this cell has drawn"
                image["width"] = "100%"  # Sphinx then links it to its file: a phone can show that one larger
        for formula in list(self.document.findall(nodes.math)):
            keep_together(formula)
        if not self.env.docname.startswith(("lessons/", "library/")):
            return
        for section in list(self.document.findall(nodes.section)):
            solutions = [i for i, n in enumerate(section.children) if is_cell(n) and "tag_hide-input" in n["classes"]]
            if solutions and section.children[0].astext().startswith("Exercise"):
                end = solutions[-1] + 1
                box = nodes.container("", *paired(section.children[1:end]), classes=["exercise"])
                section.children = [section.children[0], box, *paired(section.children[end:])]
            else:
                section.children = paired(section.children)
            for child in section.children:
                child.parent = section


def keep_together(formula: nodes.math) -> None:
    """Take the comma after a formula into it: browsers would let the next line begin with it."""
    after = formula.next_node(descend=False, siblings=True)
    if isinstance(after, nodes.Text) and after[:1] in tuple(",.;:?!"):
        formula.replace(formula.children[0], nodes.Text(rf"{formula.astext()}\text{{{after[0]}}}"))
        after.parent.replace(after, nodes.Text(after[1:]))


def is_fold(node: nodes.Node) -> bool:
    """The beginning or the end of what is folded after a bet: no box may hold one of them without the other."""
    return isinstance(node, nodes.raw) and "details" in node.astext()


def paired(children: list[nodes.Node]) -> list[nodes.Node]:
    """Titles, inner sections and pictures stay; each run of text and the code after it become one box."""
    out: list[nodes.Node] = []
    prose: list[nodes.Node] = []
    code: list[nodes.Node] = []

    def flush() -> None:
        if prose and code:
            sides = [nodes.container("", *prose, classes=["prose"]), nodes.container("", *code, classes=["code"])]
            out.append(nodes.container("", *sides, classes=["pair"]))
        else:
            out.extend(prose + code)
        prose.clear()
        code.clear()

    for child in children:
        if isinstance(child, (nodes.title, nodes.section)) or is_picture(child) or is_fold(child):
            flush()
            out.append(child)
        elif is_code(child):
            code.append(child)
        else:
            if code:
                flush()
            prose.append(child)
    flush()
    return out


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    app.add_transform(SideBySide)
    return {"parallel_read_safe": True}
