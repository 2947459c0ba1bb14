"""Configuration of a U-Net that reads captions, and its preset. JAX is not imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ddpm.config import UNetConfig


@dataclass(frozen=True)
class TextConfig(UNetConfig):
    """A U-Net with a text encoder and cross-attention after each of its attentions."""

    words: tuple[str, ...] = ()  # the vocabulary
    tokens: int = 16  # the length of a text: the mark that begins it, its words, and filling
    text_width: int = 64
    text_layers: int = 2
    text_heads: int = 4  # of the text encoder and of the cross-attention
    text_heard: Literal["words", "mean", "both"] = "words"  # by the cross-attentions: each of τ(T), their mean, or both

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokens < 2 or self.text_layers < 0 or self.text_heads < 1 or self.text_width % self.text_heads:
            raise ValueError(
                f"tokens is {self.tokens}, text_layers {self.text_layers}, text_width {self.text_width} and text_heads "
                f"{self.text_heads}; give tokens >= 2, layers >= 0, and a width that the heads divide"
            )
        if len(set(self.words)) < len(self.words):
            raise ValueError("words holds a word twice; give each once")
        for m in self.multipliers:
            if (self.channels * m) % self.text_heads:
                raise ValueError(f"channels {self.channels} * {m} is not divisible by text_heads {self.text_heads}")


TEXTS: dict[str, TextConfig] = {
    # The preset `cpu` in colour: 14x14 positions of 12 channels; six cross-attentions, at 7x7 and in the middle.
    "wardrobe": TextConfig(28, 3, patch=2, channels=32, multipliers=(1, 2), attention=(7,), groups=8),
}
