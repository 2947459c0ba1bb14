"""`wardrobe`: drawn garments with captions, and an exactly known distribution.

    picture = one garment on a ground, 28 x 28 RGB: geometry x colours x pattern x light

6 garments, 2 sizes, 3 columns, 2 rows, 4 patterns, 8 colour words in two shades for garment, ink and ground, 16 bits of
a badge, day or night: 2.4·10⁹ pictures and 428,652 captions. The best denoiser is known under every caption, and under
outlines, known pixels, grey images, instructions and subjects (`law`, `evidence`). `read` is an exact judge of what a
picture shows, in place of a score by a network.
"""

from ddpm.tools.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "words": ("ATTRIBUTES", "Attributes", "palette"),
        "silhouettes": ("Shapes", "edges", "geometry", "shapes"),
        "law": ("Reading", "asked", "distribution", "read", "right", "weights"),
        "evidence": ("badge", "exactly", "in_grey", "instructed", "known", "merged", "outlined", "subject"),
        "edits": ("INSTRUCTIONS", "after", "edited"),
        "drawing": ("draw", "draw_attributes", "painted", "values_of"),
        "matching": ("embeddings", "information", "log_ratio", "noisy", "tables"),
        "pairs": ("Captioned", "values_for"),
        "captions": ("VOCABULARY", "caption", "mentioned", "parsed"),
    },
)
