"""Describe a measurement: its object, reference, features, uncertainty and baseline."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Measure:
    """A measured value with everything that it depends on."""

    name: str
    value: float
    standard_error: float
    n: int  # images, or draws of the noise
    of: str  # the object of the measurement
    against: str = ""  # the other side of the comparison, or how it was measured
    features: str = ""  # the network, by name, width and checksum; or "pixels"
    seed: int | None = None  # of the subsets and resamplings (and of the noise)
    better: str = ""  # "lower", "higher", or empty if neither is
    error: str = ""  # how the standard error was estimated
    reference: float | None = None  # the value to compare with: a floor or a baseline
    reference_what: str = ""  # what the reference value was measured on
    interval: tuple[float, float] | None = None  # 95 %; value ± 1.96 standard errors if not given
    detail: dict = field(default_factory=dict, repr=False)  # per class, per time, curves: plain numbers

    @property
    def low_high(self) -> tuple[float, float]:
        """Return the 95 % interval."""
        half = 1.96 * self.standard_error
        return self.interval or (self.value - half, self.value + half)

    def __str__(self) -> str:
        low, high = self.low_high
        reference = "" if self.reference is None else f", reference {self.reference:.4g} ({self.reference_what})"
        seed = "" if self.seed is None else f", seed {self.seed}"
        rest = "; ".join(s for s in (f"n = {self.n:,} {self.of}", self.against, self.features) if s)
        better = f" ({self.better} is better)" if self.better else ""
        return f"{self.name} {self.value:.4g} [{low:.4g}, {high:.4g}]{reference}{better}; {rest}{seed}"

    def as_dict(self) -> dict:
        """Convert to plain numbers and text, for JSON."""
        return {**dataclasses.asdict(self), "interval": list(self.low_high)}


def from_json(measures: dict[str, dict]) -> dict[str, Measure]:
    """Invert `as_json`; also read files in which the reference is called `beside`."""
    old = {"beside": "reference", "beside_what": "reference_what"}
    renamed = {k: {old.get(name, name): v for name, v in m.items()} for k, m in measures.items()}
    return {k: Measure(**{**m, "interval": tuple(m["interval"])}) for k, m in renamed.items()}


def table(measures: dict[str, Measure]) -> str:
    """Format one row per measure: value, 95 % interval, baseline, n and direction."""
    rows = [("", "value", "95 % interval", "reference", "n", "")]
    for m in measures.values():
        low, high = m.low_high
        reference = "" if m.reference is None else f"{m.reference:.4f} {m.reference_what}"
        rows.append((m.name, f"{m.value:.4f}", f"{low:.4f} … {high:.4f}", reference, f"{m.n:,}", m.better))
    width = [max(len(r[i]) for r in rows) for i in range(6)]
    lines = ["  ".join(f"{s:{side}{w}}" for s, side, w in zip(r, "<>><><", width, strict=True)) for r in rows]
    notes = dict.fromkeys(f"{m.name}: {m.of}{', ' + m.against if m.against else ''}" for m in measures.values())
    features = dict.fromkeys(f"features: {m.features}" for m in measures.values() if m.features not in ("", "pixels"))
    return "\n".join([*(line.rstrip() for line in lines), "", *notes, *features])


def as_json(measures: dict[str, Measure]) -> dict[str, dict]:
    """Convert all measures to plain numbers and text."""
    return {k: m.as_dict() for k, m in measures.items()}
