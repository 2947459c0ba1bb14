"""What an image file holds comes back as the pixels that it means, or is refused by name."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from ddpm.tools import pictures
from ddpm.tools.files import Damaged

GREY16 = np.array([[0, 257, 31868], [128, 129, 65535]], np.uint16)  # 31868 = 124 · 257
RGBA = np.array([[[200, 100, 50, 255], [10, 20, 30, 0], [0, 255, 0, 51]]], np.uint8)


def packed(image, kind="PNG", **how):
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def png(width, height, depth, kind, rows, **extra):
    """A PNG written by hand: rows of bytes, and chunks such as tRNS before them."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    chunks = b"".join(chunk(name.encode(), content) for name, content in extra.items())
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + head + chunks + pixels + chunk(b"IEND", b"")


def test_16_bit_grey_becomes_the_nearest_of_256_levels():
    x = pictures.decode(packed(Image.fromarray(GREY16)), "x.png")
    np.testing.assert_array_equal(x[..., 0], np.round(GREY16 / 257))
    ramp = np.repeat(np.arange(256, dtype=np.uint16) * 257, 2).reshape(2, 256)
    back = pictures.decode(packed(Image.fromarray(ramp)), "x.png")
    assert back.mean() == 127.5  # saturated, it was 253


def test_16_bit_colour_keeps_its_high_byte():
    values = np.array([[[0, 257 * 99, 65535], [257, 40000, 513]]], ">u2")
    x = pictures.decode(png(2, 1, 16, 2, [values.tobytes()]), "x.png")
    np.testing.assert_array_equal(x, values >> 8)


@pytest.mark.parametrize("ground", [0, 255, 128])
def test_transparent_pixels_show_the_ground(ground):
    alpha = RGBA[..., 3:] / 255
    wanted = np.round(RGBA[..., :3] * alpha + ground * (1 - alpha))
    x = pictures.decode(packed(Image.fromarray(RGBA)), "x.png", ground=ground)
    np.testing.assert_allclose(x, wanted, atol=1)
    assert (x[0, 1] == ground).all() and (x[0, 0] == (200, 100, 50)).all()
    la = pictures.decode(packed(Image.fromarray(RGBA[..., [0, 3]], "LA")), "x.png", ground=ground)
    np.testing.assert_allclose(la[..., 0], wanted[..., 0], atol=1)
    webp = pictures.decode(packed(Image.fromarray(RGBA), "WEBP", lossless=True), "x.webp", ground=ground)
    np.testing.assert_allclose(webp, wanted, atol=1)


def test_one_transparent_colour_shows_the_ground():
    """tRNS of grey, 16-bit grey, colour, and of a palette: a colour that stands for "nothing"."""
    grey = png(2, 1, 8, 0, [b"\x07\x40"], tRNS=b"\0\x07")
    assert pictures.decode(grey, "x.png").ravel().tolist() == [255, 0x40]
    deep = png(2, 1, 16, 0, [b"\x07\x01\x40\x40"], tRNS=b"\x07\x01")
    assert pictures.decode(deep, "x.png", ground=3).ravel().tolist() == [3, 0x40]
    colour = png(2, 1, 8, 2, [b"\x01\x02\x03\x04\x05\x06"], tRNS=b"\0\x01\0\x02\0\x03")
    assert pictures.decode(colour, "x.png").tolist() == [[[255] * 3, [4, 5, 6]]]
    palette = png(2, 1, 8, 3, [b"\0\x01"], PLTE=b"\x01\x02\x03\x04\x05\x06", tRNS=b"\0")
    assert pictures.decode(palette, "x.png").tolist() == [[[255] * 3, [4, 5, 6]]]


def test_black_and_white_and_palettes():
    assert pictures.decode(png(8, 1, 1, 0, [b"\xa0"]), "x").ravel().tolist() == [255, 0, 255, 0, 0, 0, 0, 0]
    image = Image.fromarray(RGBA[..., :3]).convert("P", palette=Image.Palette.ADAPTIVE)
    np.testing.assert_array_equal(pictures.decode(packed(image), "x"), RGBA[..., :3])
    single = packed(image, "GIF")
    np.testing.assert_array_equal(pictures.decode(single, "x"), RGBA[..., :3])


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_formats_give_back_every_pixel(kind, channels):
    x = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    content = packed(Image.fromarray(x.squeeze()), kind, **({"lossless": True} if kind == "WEBP" else {}))
    back = pictures.decode(content, "x", grey=channels == 1)
    np.testing.assert_array_equal(back, x)
    assert pictures.head(content, "x")[:2] == (5, 7)


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_is_applied(turn):
    """All eight are the transpositions of the square, as Pillow's own function does them."""
    stored = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    exif = Image.Exif()
    exif[0x0112] = turn
    content = packed(stored, exif=exif)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    x = pictures.decode(content, "x")
    np.testing.assert_array_equal(x[..., 0], wanted)
    assert pictures.head(content, "x")[:2] == x.shape[:2] == ((3, 2) if turn > 4 else (2, 3))
    assert sorted(x.ravel()) == sorted(np.asarray(stored).ravel())


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_the_three_ways_to_a_size():
    """A grey image, white on its left third: a crop of the middle has no white, a stretch a third, a pad all of it."""
    x = np.full((20, 60), 100, np.uint8)
    x[:, :20] = 250
    image = Image.fromarray(x)
    crop, pad, stretch = (np.asarray(pictures.fitted(image, (20, 20), fit, ground=0)) for fit in pictures.FITS)
    assert (crop[:, 3:] == 100).all()
    assert (pad[:6] == 0).all() and (pad[14:] == 0).all() and pad[7:13, 0].min() > 240
    np.testing.assert_allclose(stretch.mean(), x.mean(), atol=1)
    np.testing.assert_array_equal(pictures.fitted(image, (20, 60)), x)  # nothing to do


def test_shrinking_does_not_alias():
    """Stripes of one pixel become their mean, as light does; every second pixel would be all black."""
    x = np.zeros((64, 64), np.uint8)
    x[:, ::2] = 255
    small = np.asarray(pictures.fitted(Image.fromarray(x), (8, 8)))
    assert np.abs(small.astype(int) - 127).max() <= 6
    content = packed(Image.fromarray(x), "JPEG", quality=95)
    assert np.abs(pictures.decode(content, "x", (8, 8)).astype(int) - 127).max() <= 8


def test_a_crop_is_the_middle():
    """A horizontal ramp, cropped to the square in its middle, has the mean of the middle."""
    x = np.tile(np.arange(120, dtype=np.uint8), (40, 1))
    small = np.asarray(pictures.fitted(Image.fromarray(x), (10, 10))).astype(float)
    np.testing.assert_allclose(small[:, 1:-1], np.tile(41.5 + 4 * np.arange(1, 9), (10, 1)), atol=1)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 5)])
@pytest.mark.parametrize("fit", pictures.FITS)
def test_any_size_becomes_the_size_wanted(size, fit):
    content = packed(Image.fromarray(np.full(size, 77, np.uint8)))
    x = pictures.decode(content, "x", (12, 8), fit=fit, ground=77)
    assert x.shape == (12, 8, 1) and (x == 77).all()


def test_a_large_jpeg_is_not_decoded_in_full():
    """At an eighth of the size: the same picture to a level or two."""
    y, x = np.mgrid[:1024, :1024]
    picture = np.stack([x // 4, y // 4, (x + y) // 8], -1).astype(np.uint8)
    content = packed(Image.fromarray(picture), "JPEG", quality=95)
    small = pictures.decode(content, "x", (32, 32)).astype(int)
    exact = picture.reshape(32, 32, 32, 32, 3).mean((1, 3))
    assert np.abs(small - exact)[1:-1, 1:-1].max() <= 3


# --- what is refused --------------------------------------------------------------------------------------------------


def frames(kind):
    return packed(Image.new("RGB", (4, 4)), kind, save_all=True, append_images=[Image.new("RGB", (4, 4), "red")])


REFUSED = {
    "gif of two frames": (lambda: frames("GIF"), "x is an animation of 2 frames; save the frame"),
    "png of two frames": (lambda: frames("PNG"), "x is an animation of 2 frames"),
    "webp of two frames": (lambda: frames("WEBP"), "x is an animation of 2 frames"),
    "cmyk": (lambda: packed(Image.new("CMYK", (4, 4)), "JPEG"), "x has mode CMYK.*save it as 8-bit RGB"),
    "tiff": (lambda: packed(Image.new("F", (4, 4)), "TIFF"), "x is not a PNG, JPEG, WebP, BMP or GIF"),
    "text": (lambda: b"<html>", "x is not a PNG, JPEG.*it begins with 3c68746d6c3e"),
    "nothing": (lambda: b"", "begins with nothing"),
    "bomb": (lambda: png(1 << 16, 1 << 16, 8, 0, []), r"x claims .*pixels.* smaller"),
    "smaller bomb": (lambda: png(9000, 9000, 8, 0, []), "x claims 9000x9000 pixels"),
    "cut png": (lambda: packed(Image.new("L", (40, 40), 9))[:-9], "x is not a whole PNG"),
    "cut jpeg": (lambda: packed(Image.fromarray(NOISE), "JPEG")[:-200], "x is not a whole image"),
    "header only": (lambda: png(4, 4, 8, 0, []), "x is not a whole image"),
}
NOISE = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)


@pytest.mark.parametrize("what", REFUSED)
def test_refused_by_name(what):
    make, message = REFUSED[what]
    with pytest.raises(Damaged, match=message):
        pictures.decode(make(), "x")


def test_every_changed_byte_of_a_png_is_noticed():
    content = packed(Image.fromarray(NOISE[:12, :12]))
    for i in range(len(content)):
        changed = bytearray(content)
        changed[i] ^= 4
        with pytest.raises(Damaged):
            pictures.decode(bytes(changed), "x")


def test_the_largest_photographs_are_read():
    """8,000 x 8,000 is below the limit: its header is, and a pixel is what it was."""
    content = packed(Image.new("1", (8000, 8000), 1))
    assert pictures.head(content, "x") == (8000, 8000, True)
