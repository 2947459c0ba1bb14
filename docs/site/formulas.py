"""The formulas of docstrings as TeX: an indented block of a docstring is plain text with Unicode symbols.

    ε̂ = ε_∅ + s (ε_c - ε_∅)       becomes       \\hat{\\varepsilon} = \\varepsilon_{\\varnothing} + s (…)

What it cannot read it leaves alone: `block` returns None then, and the page shows the text as it is written.
"""

from __future__ import annotations

import re
import unicodedata

ACCENTS = {"\u0302": "hat", "\u0304": "bar", "\u0303": "tilde", "\u0307": "dot"}
GREEK = dict(zip("αβγδζηθκλμνξπρστφψω", "alpha beta gamma delta zeta eta theta kappa lambda mu nu xi pi rho sigma tau "
                 "varphi psi omega".split(), strict=True))  # fmt: skip
GREEK |= {"ε": "varepsilon", "Γ": "Gamma", "Δ": "Delta", "Λ": "Lambda", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega"}
GREEK |= {"χ": "chi", "ι": "iota", "Θ": "Theta", "ϕ": "phi"}
SYMBOLS = {
    "‖": r"\|", "∇": r"\nabla ", "∂": r"\partial ", "∏": r"\prod ", "∫": r"\int ", "∝": r"\propto ",
    "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "→": r"\to ", "←": r"\leftarrow ",
    "∅": r"\varnothing ", "…": r"\dots ", "×": r"\times ", "·": r"\cdot ", "⊙": r"\odot ", "ℓ": r"\ell ",
    "~": r"\sim ", "½": r"\tfrac12 ", "¼": r"\tfrac14 ", "−": "-", "∈": r"\in ", "∩": r"\cap ", "∘": r"\circ ",
    "%": r"\%", "≪": r"\ll ", "|": r"\mid ", "⌈": r"\lceil ", "⌉": r"\rceil ", "′": "'", "∓": r"\mp ", "±": r"\pm ",
    "⊗": r"\otimes ", "⟨": r"\langle ", "⟩": r"\rangle ", "∪": r"\cup ",
}  # fmt: skip
RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻ᵀ", [*"0123456789", "-", r"\top "], strict=True))
LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
NAMES = set(
    "log exp max min tr det div cos sin argmin argmax mean var cov corr vec norm diag silu gelu sg net pool KL SNR erf "
    "sgn mod softmax".split()
)
MATH = re.compile(r"[=∝~≤]")
CITED = re.compile(r"\s*\[([^\[\]]*(?:\d{4}|Eqs?\.|Alg\.|Fig\.|Sec\.|Table)[^\[\]]*)\]\s*$")


class Unreadable(ValueError):
    """A character or a form that has no translation here."""


def joined(parts: list[str]) -> str:
    """The parts in a row, with a space between a command and a letter: πh is \\pi h."""
    return re.sub(r"(\\[A-Za-z]+)\x00(?=[A-Za-z])", r"\1 ", "\x00".join(parts)).replace("\x00", "")


class Reader:
    """One formula, read from left to right."""

    def __init__(self, text: str):
        self.text, self.at = unicodedata.normalize("NFD", text), 0

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def closing(self, opens: str, closes: str) -> str:
        """What is inside the bracket that begins here; reading continues behind it."""
        depth, start = 0, self.at
        for i in range(start, len(self.text)):
            depth += (self.text[i] == opens) - (self.text[i] == closes)
            if not depth:
                self.at = i + 1
                return self.text[start + 1 : i]
        raise Unreadable(f"{opens} is not closed")

    def formula(self) -> str:
        """All of it."""
        out = []
        while self.peek():
            if self.peek() == " ":
                gap = re.match(" +", self.text[self.at :]).group()  # type: ignore[union-attr]
                self.at += len(gap)
                out.append(r"\qquad " if len(gap) > 2 else " ")
            else:
                out.append(self.atom())
        return joined(out)

    def atom(self) -> str:
        """A symbol, a name, a number or a bracket, with its accents, indices and powers."""
        c = self.peek()
        if c == "√":
            self.at += 1
            inside = Reader(self.closing("(", ")")).formula() if self.peek() == "(" else self.atom()
            if self.peek() == "[":  # √E[…]
                inside += f"[{Reader(self.closing('[', ']')).formula()}]"
            return rf"\sqrt{{{inside}}}"
        if c == "{":
            return self.scripts(rf"\{{{Reader(self.closing('{', '}')).formula()}\}}")
        word = re.match(r"[A-Za-z]{2,}(?:'s)?(?![\u0300-\u036f])", self.text[self.at :])
        if word and word.group() not in ("dt", "dx", "du", "kl"):
            return self.name(word.group())
        self.at += 1
        if c == "*":
            return "*"
        if c in GREEK:
            return self.scripts(self.accents(rf"\{GREEK[c]}"))
        if c.isascii() and c.isalpha():
            mean = c == "E" and self.peek() in ("[", "_", " ", "‖")
            return self.scripts(r"\mathbb{E}" if mean else self.accents(c))
        if c in "ΣΠ":
            return self.sum_or_matrix(c)
        if c in SYMBOLS:
            return self.scripts(SYMBOLS[c].rstrip() + " ") if c in "‖∏∫∇∅∂ℓ" else SYMBOLS[c]
        if c.isdigit() or c in "()[]":
            return self.scripts(c)
        if c in "+-=,;:./<>!'&":
            return r"\&" if c == "&" else c
        raise Unreadable(c)

    def sum_or_matrix(self, c: str) -> str:
        """A sum or product has an index, and a factor after a space; a covariance has not both."""
        indexed = self.scripts("")
        of_two = re.match(r" Σ_\w+[\^⁻]", self.text[self.at :])  # Σ_q Σ_p^½ is a product of matrices
        over = (
            indexed.startswith("_")
            and "^" not in indexed
            and not of_two
            and re.match(r" [^\W\d_]| [√‖(∂∇]", self.text[self.at :])
        )
        return {"Σ": r"\sum" if over else r"\Sigma", "Π": r"\prod" if over else r"\Pi"}[c] + indexed + " "

    def name(self, word: str) -> str:
        """An operator, or words of prose with their spaces."""
        self.at += len(word)
        if word in NAMES:
            return self.scripts(rf"\operatorname{{{word}}}")
        rest = re.match(r"(?: [A-Za-z][a-zA-Z']+(?![\w(]))*", self.text[self.at :]).group()  # type: ignore[union-attr]
        self.at += len(rest)
        tex = self.scripts(rf"\text{{{word}{rest}}}")
        return rf"\ {tex}\ " if self.peek() in ("", " ") else tex

    def accents(self, symbol: str) -> str:
        while self.peek() in ACCENTS and self.peek():
            symbol = rf"\{ACCENTS[self.peek()]}{{{symbol}}}"
            self.at += 1
        return symbol

    def scripts(self, symbol: str) -> str:
        """Indices `_t`, `_{…}`, `x0`, powers `²`, `⁻¹`, `^{…}`, `^-D`, and the star of ε*."""
        low = high = ""
        if symbol and (symbol[-1].isalpha() or symbol.endswith("}")):
            digits = re.match(r"\d+", self.text[self.at :]) if re.fullmatch(r"x|\\\w+\{x\}", symbol) else None
            if digits:
                low, self.at = digits.group(), self.at + digits.end()
            elif self.peek() == "*" and re.match(r"\*[(_,)]", self.text[self.at :] + ")"):
                high, self.at = "*", self.at + 1
        while c := self.peek():
            if c in LOWERED:
                low += LOWERED[c]
                self.at += 1
            elif c in RAISED:
                high += RAISED[c]
                self.at += 1
            elif c in "_^":
                self.at += 1
                script = self.script()
                low, high = (low + script, high) if c == "_" else (low, high + script)
            else:
                break
        return symbol + (f"_{{{low}}}" if low else "") + (f"^{{{high}}}" if high else "")

    def script(self) -> str:
        """What stands below or above: a bracket, or letters and digits up to something else."""
        if self.peek() == "{":
            return Reader(self.closing("{", "}")).formula()
        sign = "-" if self.peek() == "-" else ""
        self.at += len(sign)
        run = re.match(r"(?:\w[\u0300-\u036f]*|[∅½])+", self.text[self.at :])
        if not run:
            raise Unreadable(self.peek())
        words = re.split("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻ᵀ_]", run.group())[0]
        self.at += len(words)
        if len(words) > 1 and words.isascii() and words.isalpha() and len(words) > 3:
            return rf"{sign}\text{{{words}}}"
        return sign + joined([Reader(c).formula() for c in re.findall(r".[\u0300-\u036f]*", words)])


def line(text: str) -> str:
    """One line: its formulas, and the citation at its end."""
    cited = CITED.search(text)
    body = text[: cited.start()] if cited else text
    tex = Reader(body.strip()).formula()
    return tex + (rf"\qquad\text{{\small[{cited.group(1)}]}}" if cited else "")


def block(text: str) -> str | None:
    """The TeX of an indented block; None where it is no formula, or holds what this file cannot read."""
    lines = [part for part in text.splitlines() if part.strip()]
    if not lines or not all(MATH.search(part) for part in lines) or re.search(r"[`\"#$\\]|->", text):
        return None
    if sum(len(w) > 3 for w in re.findall(r"[A-Za-z]+", CITED.sub("", text))) > 4 * len(lines):
        return None  # prose in columns
    try:
        rows = [line(part) for part in lines]
    except Unreadable:
        return None
    inner = " \\\\\n".join(rows)
    return rf"\begin{{gathered}}{chr(10)}{inner}{chr(10)}\end{{gathered}}" if len(rows) > 1 else rows[0]


# Formulas inside running text. One of their words has what prose does not have: a Greek letter, an accent, a root, an
# index. What is between two such words (operators, numbers, single letters) belongs to the formula.
STRONG = re.compile(r"[\u0302-\u0307√‖∇∂∏∫∝∞≤≥≠∅⊙ℓ²³⁻½ᵀ∈Σ]|[α-ωΓΔΛΦΨΩ]|(?<![\w.])[A-Za-z]_(?:\w{1,2}|\{[^}]*\})(?!\w)")
WEAK = re.compile(r"[-+=~/|<>·×→…()\[\]{},.:;0-9\s]|(?<![A-Za-z])[A-Za-z](?![A-Za-z])|\bx0\b")
SUBSCRIPT = re.compile(r"_(?:\{[^}]*\}|simple|vlb|hybrid|\w{1,3}(?!\w))")


def of_formula(word: str) -> bool:
    """Whether a word, up to spaces, can be in a formula: nothing is left of it but symbols and single letters."""
    rest = SUBSCRIPT.sub("", unicodedata.normalize("NFD", word))
    rest = re.sub(rf"\b(?:{'|'.join(sorted(NAMES))})\b", "", rest)
    return "`" not in word and "->" not in word and not WEAK.sub("", STRONG.sub("", rest)).strip("*'%^!&")


def inline(text: str) -> list[tuple[bool, str]]:
    """Split running text into (is it a formula, text or TeX)."""
    out: list[tuple[bool, str]] = []
    words = re.split(r"( +|\n)", text)
    i = 0
    while i < len(words):
        j = i
        while j < len(words) and (words[j] == " " or (words[j].strip() and of_formula(words[j]))):
            j += 1
            if words[j - 1][-1] in ",.:;" and not unclosed("".join(words[i:j])):
                break  # the end of a part of the sentence
        for end in range(j, i, -1):  # the longest run that is a formula
            run = "".join(words[i:end])
            body = run.rstrip(".,;: ")
            if run == run.strip() and not re.match(r"(?!-\S)[-+=~/|<>·×→…,;:)\]]", body) and tex_of(body):
                out += [(True, tex_of(body)), (False, run[len(body) :])]
                i = end
                break
        else:
            out.append((False, words[i]))
            i += 1
    return out


def unclosed(text: str) -> bool:
    """Whether a bracket is open, or closed without having been open."""
    return any(text.count(a) != text.count(b) for a, b in ("()", "[]", "{}"))


def tex_of(body: str) -> str:
    """The TeX of a formula in running text, or nothing: brackets and ends have to be whole."""
    plain = unicodedata.normalize("NFD", body)
    if not STRONG.search(plain) or re.search(r"[-+=~/|<·×,]$", body) or re.search(r"[`\"#$\\]|\.\.\.", body):
        return ""
    if unclosed(body) or body.count("‖") % 2 or re.search(r"\d\.\.\d|[A-Za-z]=|\de-\d|^[^\w(√‖∇]+$", body):
        return ""
    if re.search(rf"(?:^|\\W)(?:{'|'.join(NAMES)})$", body):
        return ""  # it goes on
    try:
        return Reader(body).formula().strip()
    except Unreadable:
        return ""
