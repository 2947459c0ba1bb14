"""The weights that ship: NAME.safetensors with NAME.json, its card. Reading cards needs neither JAX nor weights."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parent


def cards(kind: str | None = None) -> dict[str, dict]:
    """The cards by name; `kind` is "denoiser", "classifier" or "generator", None for all."""
    found = {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in sorted(FOLDER.glob("*.json"))}
    return {name: card for name, card in found.items() if kind in (None, card.get("kind"))}
