"""A model as one HTML file, which draws and measures in the browser: `ddpm export MODEL --to page`.

    page.html, app.js     the controls and pictures
    worker.js, walk.js    guidance, clipping, DDIM and DDPM, typicality: as in the heart, step for step
    unet.js, kernels.c    the network; the layers are C, compiled to WebAssembly with SIMD (`compile_kernels`)
    random.js             jax.random: the same seed gives the same noise

All of it is in the folder `page`. Kernels are stored as whole numbers of 18 bits with a scale for each output channel,
which moves a sample by less than one grey level (float16 moves it by up to four). The page asks for nothing from
anywhere; its security policy would not let it.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ddpm.config import UNetConfig
from ddpm.samplers import table
from ddpm.samplers.respacing import alpha_bar_in_float64
from ddpm.tools import files
from ddpm.zoo.model import Model

FOLDER = Path(__file__).parent / "page"
PREDICTS = ("eps", "x0", "v")
MOST = 24_000_000  # bytes of a page; a browser starts with it in seconds
WIDEST = 4096  # channels or positions in kernels.c
STEPS = 20
# The fields of UNetConfig that the page reads, or that change nothing there; the others have to be at their defaults.
READ: tuple[str, ...] = (
    "image_size",
    "image_channels",
    "image_width",
    "patch",
    "channels",
    "multipliers",
    "blocks",
    "attention",
)
READ += ("groups", "num_classes", "scale_shift", "dropout", "dtype")


def refusal(model: Model) -> str | None:
    """Why this model cannot be a page, or None."""
    unet = model.unet
    if type(unet) is not UNetConfig:
        return f"its network is a {type(unet).__name__.removesuffix('Config')}; the page has U-Nets alone"
    if unet.learned_variance:
        return "it predicts its variance; the page's samplers have fixed ones"
    if unet.extra_channels:
        return f"its input has {unet.extra_channels} channels more than the image; the page has nothing to put there"
    if model.predict not in PREDICTS:
        return f"it predicts {model.predict!r}; the page reads {', '.join(PREDICTS)}"
    if "sampling" in model.card:
        return "it was imported with sampling settings of its own, which the page does not have"
    for f in dataclasses.fields(UNetConfig):
        if f.name not in READ and getattr(unet, f.name) != f.default:
            return f"{f.name} is {getattr(unet, f.name)}; the page has only {f.default}, as in Ho et al.'s network"
    if unet.image_channels not in (1, 3):
        return f"its images have {unet.image_channels} channels; the page shows grey (1) and colour (3)"
    widths = [unet.channels * m for m in unet.multipliers]
    if any(w % 4 for w in widths) or unet.channels < 4:
        return f"its widths are {widths}; the page's kernels take four channels at a time"
    attended = max((*unet.attention, unet.map_sizes[-1])) ** 2
    if 2 * max(widths) > WIDEST or attended > WIDEST:
        return f"it is too wide: the page's kernels take {WIDEST} channels, and attention among {WIDEST} positions"
    size = sum(int(np.size(a)) for a in files.flatten(model.params).values()) * 45 // 16
    if size > MOST:
        return f"its weights alone are {size / 1e6:.0f} MB in a page; {MOST / 1e6:.0f} MB are carried at most"
    return None


BITS = 18  # of a kernel's numbers: 16 in one array, the two highest in another
PLAIN = bytes.maketrans(b"<>&", b",./")  # base 85 without what has a meaning in HTML


def packed(params: dict[str, Any]) -> tuple[list[list[Any]], bytes]:
    """All tensors as bytes, and their list: [name, shape, first, length, first scale or null].

    Tensors of one axis are float32. Others are w = scale (k - 2^17), k in 18 bits, with a scale for each last index.
    The bytes: all float32 (those tensors, and all scales), then the lower 16 bits of every k, then four k's upper two.
    """
    tensors: list[list[Any]] = []
    floats: list[np.ndarray] = []
    numbers: list[np.ndarray] = []
    placed = counted = 0
    for name, tensor in sorted(files.flatten(params).items()):
        w = np.asarray(tensor, np.float64)
        if w.ndim < 2:
            tensors.append([name, list(w.shape), placed, w.size, None])
            floats.append(w)
        else:
            scale = np.abs(w).reshape(-1, w.shape[-1]).max(0) / (2 ** (BITS - 1) - 1)
            scale = np.maximum(scale, 1e-30).astype(np.float32)
            tensors.append([name, list(w.shape), counted, w.size, placed])
            floats.append(scale)
            numbers.append((np.round(w / scale) + 2 ** (BITS - 1)).astype(np.uint32).ravel())
            counted += w.size
        placed += floats[-1].size
    k = np.concatenate(numbers)
    k = np.append(k, np.zeros(-k.size % 8, np.uint32))
    high = (k >> 16).reshape(-1, 4)
    four = (high[:, 0] | high[:, 1] << 2 | high[:, 2] << 4 | high[:, 3] << 6).astype(np.uint8)
    parts = [np.concatenate(floats).astype("<f4"), (k & 0xFFFF).astype("<u2"), four]
    data = b"".join(part.tobytes() for part in parts)
    return tensors, data + bytes(-len(data) % 4)


def text_of(data: bytes) -> str:
    """Bytes as text, five characters for four; the number of bytes is a multiple of four."""
    return base64.b85encode(data).translate(PLAIN).decode()


def about(model: Model) -> dict[str, Any]:
    """What the page knows of the model besides its weights, with the lists of few times that `ddpm sample` takes."""
    few: dict[int, list[int]] = {}
    if model.axes is not None:
        for n in range(1, min(table.FEW, model.schedule.T) + 1):
            few[n] = model.how("ddim", n).times(model.schedule).tolist()
    return {
        "name": model.name,
        "unet": dataclasses.asdict(model.unet) | {"shape": model.image_shape, "padded": model.unet.padded},
        "classes": list(model.classes) if model.num_classes else [],
        "T": model.schedule.T,
        "alphaBar": [float(f"{a:.12g}") for a in alpha_bar_in_float64(model.schedule)],
        "predict": model.predict,
        "firstTime": model.card.get("first_time", 1),
        "searched": few,
        "guidance": model.guided(None) if model.num_classes else 1.0,
    }


def script(*names: str) -> str:
    """The modules as one classic script: without imports and exports."""
    text = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in names)
    text = re.sub(r"^import [^;]*;\n", "", text, flags=re.M)
    return re.sub(r"^export ", "", text, flags=re.M)


def page(model: Model) -> str:
    """The whole page; a model that it cannot carry is refused with the reason."""
    import jinja2

    if reason := refusal(model):
        raise ValueError(f"model {model.name!r} cannot be a page: {reason}")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    source = (FOLDER / "page.html").read_text(encoding="utf-8")
    tensors, weights = packed(model.params)
    wasm = (FOLDER / "kernels.wasm").read_bytes()
    known = about(model) | {"tensors": tensors, "wasm": len(wasm)}
    text = json.dumps(known, ensure_ascii=False, separators=(",", ":"))
    raw = {
        "about": text.replace("<", "\\u003c"),  # so that a class name cannot end the script
        "weights": text_of(weights),
        "kernels": text_of(wasm + bytes(-len(wasm) % 4)),
        "engine": script("random.js", "unet.js", "walk.js", "worker.js"),
        "app": script("app.js"),
    }
    summary = f"{model.image_shape[0]} × {model.image_shape[1]} pixels, {model.card.get('parameters', 0):,} parameters."
    made = template.from_string(source).render(
        title=f"{model.name}, drawn in your browser",
        summary=summary if model.card.get("parameters") else "",
        steps=min(STEPS, model.schedule.T),
        **{k: jinja2.utils.markupsafe.Markup(v) for k, v in raw.items()},
    )
    if len(made) > MOST:
        raise ValueError(f"model {model.name!r} cannot be a page: it would have {len(made) / 1e6:.0f} MB")
    return made


def save(path: Path, model: Model) -> None:
    """Write the page; an existing file is not overwritten."""
    if path.exists():
        raise ValueError(f"{path} is there already; give another name")
    made = page(model)
    files.write_atomic(files.check_writable(path), made.encode())


def compile_kernels(out: Path) -> None:
    """Compile kernels.c with the command that stands in it; needs `pip install ziglang`."""
    source = (FOLDER / "kernels.c").read_text(encoding="utf-8")
    command = re.search(r"python (-m ziglang .*?) -o kernels", source.replace("\\\n", " "), re.S)
    assert command is not None
    subprocess.run(
        [sys.executable, *command.group(1).split(), "-o", str(out), str(FOLDER / "kernels.c")], check=True, cwd=FOLDER
    )
