"""Read one image file of the common kinds as 8-bit grey or RGB pixels, at a size that is asked for.

The header is looked at before a pixel is decoded: format, size, animation and mode are checked there. What has one
right conversion is converted, everything else is refused with the remedy:

    1, L, RGB, palette            their 8-bit values
    16-bit grey                   round(v / 257); of 16-bit RGB the high byte, v // 256
    transparency of every kind    composed on a grey `ground`, 255 = white unless told otherwise
    EXIF orientation              applied
    animations, CMYK, Lab, HSV, 32-bit and float modes: refused. Colour profiles are not applied.
"""

from __future__ import annotations

import io
import zlib
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ddpm.tools.files import Damaged

SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif"}
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
MOST_PIXELS = 1 << 26  # of one file: 8,192 x 8,192
FITS = ("crop", "pad", "stretch")
GREY = ("1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N", "I")
MODES = (*GREY, "P", "PA", "RGB", "RGBA")
ORIENTED = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")  # where a file may say how it is turned


class Head(NamedTuple):
    """What the header of an image file says."""

    height: int  # after the EXIF orientation
    width: int
    grey: bool  # stored without colours


def head(content: bytes, name: object) -> Head:
    """Read size and colours from the header of a file, and check that its pixels can be read rightly."""
    return _head(_opened(content, name))


def _head(image: Image.Image) -> Head:
    width, height = image.size[::-1] if _orientation(image) >= 5 else image.size
    return Head(height, width, image.mode in GREY)


def decode(content: bytes, name: object, size: tuple[int, int] | None = None, **how: Any) -> np.ndarray:
    """Decode a file to uint8 (H, W, 1) or (H, W, 3), as `read` does."""
    return read(content, name, size, **how)[1]


def read(
    content: bytes,
    name: object,
    size: tuple[int, int] | None = None,
    *,
    grey: bool | None = None,
    fit: str = "crop",
    ground: int = 255,
) -> tuple[Head, np.ndarray]:
    """Read the header, and decode a file to uint8 (H, W, 1) or (H, W, 3).

    size: (H, W), reached by `fitted`, or None for the size of the file;  grey: True or False for 1 or 3 channels, None
    for what the file has;  ground: the grey behind transparent pixels and around padded images.
    """
    image = _opened(content, name)
    seen = _head(image)
    if size:  # a JPEG is decoded at 1/2, 1/4 or 1/8 where that is still twice as large as wanted
        image.draft(None, (2 * max(size), 2 * max(size)))
    try:
        image.load()
        image = ImageOps.exif_transpose(image) if _orientation(image) > 1 else image
        flat = flattened(image, name, ground)
        if size:
            flat = fitted(flat, size, fit, ground)
        if grey is not None:
            flat = flat.convert("L" if grey else "RGB")
        pixels = np.asarray(flat)
    except Damaged:
        raise
    except Exception as e:  # a decoder raises many kinds of errors; all say the same
        raise Damaged(f"{name} is not a whole image: {e}. Put a whole file in its place") from None
    return seen, pixels[..., None] if pixels.ndim == 2 else pixels


def flattened(image: Image.Image, name: object, ground: int = 255) -> Image.Image:
    """Convert an image to mode L or RGB: 16 bits become 8, transparent pixels show the ground."""
    see_through = image.info.get("transparency")
    if image.mode.startswith("I"):  # 16-bit grey
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise Damaged(f"{name} has values {values.min()}..{values.max()}, not 16-bit grey; save it as 8-bit PNG")
        levels = ((values + 128) // 257).astype(np.uint8)  # round(v / 257)
        if isinstance(see_through, int):
            levels[values == see_through] = ground
        return Image.fromarray(levels)
    base = "L" if image.mode in GREY else "RGB"
    if image.mode in ("LA", "PA", "RGBA") or see_through is not None:
        image = image.convert("LA" if base == "L" else "RGBA")
        composed = Image.new(base, image.size, ground if base == "L" else (ground,) * 3)
        composed.paste(image.convert(base), mask=image.getchannel("A"))
        return composed
    return image if image.mode == base else image.convert(base)


def fitted(image: Image.Image, size: tuple[int, int], fit: str = "crop", ground: int = 255) -> Image.Image:
    """Resize with antialiasing (Lanczos) to (H, W) by one of three ways.

    crop: the largest part of this shape around the centre;  pad: all of it, centred on the ground;  stretch: all of it,
    out of proportion.
    """
    (height, width), (w, h) = size, image.size
    if (w, h) == (width, height):
        return image
    how = {"resample": Image.Resampling.LANCZOS, "reducing_gap": 3.0}
    if fit == "stretch":
        return image.resize((width, height), **how)  # type: ignore[arg-type]
    if fit == "crop":
        scale = min(w / width, h / height)
        left, top = (w - scale * width) / 2, (h - scale * height) / 2
        box = (max(left, 0), max(top, 0), min(left + scale * width, w), min(top + scale * height, h))
        return image.resize((width, height), box=box, **how)  # type: ignore[arg-type]
    if fit != "pad":
        raise ValueError(f"fit {fit!r} is not known. Known: {', '.join(FITS)}")
    scale = max(w / width, h / height)
    inner = (max(1, min(width, round(w / scale))), max(1, min(height, round(h / scale))))
    out = Image.new(image.mode, (width, height), ground if image.mode == "L" else (ground,) * 3)
    out.paste(image.resize(inner, **how), ((width - inner[0]) // 2, (height - inner[1]) // 2))  # type: ignore[arg-type]
    return out


def _opened(content: bytes, name: object) -> Image.Image:
    """Open a file, and check what its header says; no pixel is decoded."""
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Damaged(f"{name} claims to be larger than {MOST_PIXELS:,} pixels; make it smaller") from None
    except UnidentifiedImageError:
        begin = content[:8].hex() or "nothing"
        raise Damaged(f"{name} is not a PNG, JPEG, WebP, BMP or GIF image; it begins with {begin}") from None
    except Exception as e:  # a decoder raises many kinds of errors; all say the same
        raise Damaged(f"{name} is not a whole image: {e}. Put a whole file in its place") from None
    # What the header says
    w, h = image.size
    if w * h > MOST_PIXELS or w * h == 0:
        raise Damaged(f"{name} claims {h}x{w} pixels; 1 to {MOST_PIXELS:,} are read. Make it smaller")
    if getattr(image, "n_frames", 1) > 1:
        raise Damaged(f"{name} is an animation of {image.n_frames} frames; save the frame that is meant")  # type: ignore[attr-defined]
    if image.mode not in MODES:
        raise Damaged(f"{name} has mode {image.mode}, which has no one right conversion; save it as 8-bit RGB or grey")
    if image.format == "PNG":
        _check_png(content, name)
    return image


def _check_png(content: bytes, name: object) -> None:
    """Check the checksum of each chunk of a PNG: Pillow does not look at those of the pixels."""
    at = 8
    while at + 12 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4])
        if zlib.crc32(content[at + 4 : end]) != int.from_bytes(content[end : end + 4]) or end + 4 > len(content):
            break
        if content[at + 4 : at + 8] == b"IEND":
            return
        at = end + 4
    raise Damaged(f"{name} is not a whole PNG image: it was cut short or changed. Put a whole file in its place")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation 1..8; 1 where the file says nothing."""
    if not any(key in image.info for key in ORIENTED):
        return 1
    try:
        turned = image.getexif().get(0x0112, 1)
    except Exception:  # damaged EXIF is ignored, as by every viewer
        return 1
    return turned if turned in range(1, 9) else 1
