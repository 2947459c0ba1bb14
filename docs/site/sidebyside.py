"""On wide screens, prose on the left and the code that follows it on the right; below 1500 pixels one column.

A page of the lessons is a sequence of text and cells. Each run of text is put in one box with the cells after it; what
the boxes look like is the style sheet's affair.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform


def is_code(node: nodes.Node) -> bool:
    """A cell that is run, or the stub of an exercise."""
    return isinstance(node, nodes.literal_block) or (
        isinstance(node, nodes.container) and node.get("nb_element") == "cell_code"
    )


class SideBySide(SphinxTransform):
    """Wrap text and code of the lessons' sections in pairs."""

    default_priority = 820

    def apply(self, **_: object) -> None:
        if not self.env.docname.startswith("lessons/"):
            return
        for section in list(self.document.findall(nodes.section)):
            self.pair(section)

    def pair(self, section: nodes.section) -> None:
        """The children of one section: titles and inner sections stay, the rest is paired."""
        children, prose, code = list(section.children), nodes.container(), nodes.container()
        section.children = []

        def flush() -> None:
            nonlocal prose, code
            if prose.children and code.children:
                prose["classes"], code["classes"] = ["prose"], ["code"]
                section.append(nodes.container("", prose, code, classes=["pair"]))
            else:
                section.extend(prose.children + code.children)
            prose, code = nodes.container(), nodes.container()

        for child in children:
            if isinstance(child, (nodes.title, nodes.section)):
                flush()
                section.append(child)
            elif is_code(child):
                code.append(child)
            else:
                if code.children:
                    flush()
                prose.append(child)
        flush()


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    app.add_transform(SideBySide)
    return {"parallel_read_safe": True}
