"""The answer of a check: a pass, or a named mistake with its effect on samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from ddpm.testing.calling import Fault
from ddpm.testing.published import PUBLISHED


@dataclass(frozen=True)
class Answer:
    """What a check found. It is true where the callable passed."""

    about: str  # what was checked
    passed: bool
    name: str = ""  # of the mistake: a published bug, or "unknown", or the kind of fault ("raises", "shape", …)
    sentence: str = ""
    effect: str = ""  # on samples, measured on a case whose answer is known
    conventions: tuple[str, ...] = ()  # what was recognised on the way: times, variance, clipping, …
    numbers: dict[str, Any] = field(default_factory=dict, repr=False)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        first = f"{self.about}: passed" if self.passed else f"{self.about}: {self.name}. {self.sentence}"
        lines = [first, *([f"effect: {self.effect}"] if self.effect else []), *self.conventions]
        return "\n  ".join(lines)


def mistaken(about: str, key: str, sentence: str, effect: str, **more: Any) -> Answer:
    """The answer that names a mistake; key: of a published bug, or a name in words."""
    known = PUBLISHED.get(key)
    where = f" Published: {known.where}." if known else ""
    return Answer(about, False, known.name if known else key, sentence + where, effect, **more)


def answered(about: str) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Turn a `Fault` (the callable raised, has another shape, was too slow, …) into an answer about `about`."""

    def decorate(check: Callable[..., Answer]) -> Callable[..., Answer]:
        @wraps(check)
        def run(*args: Any, **kwargs: Any) -> Answer:
            try:
                return check(*args, **kwargs)
            except Fault as fault:
                return Answer(about, False, fault.kind, str(fault))

        return run

    return decorate
