"""`ddpm import` and `ddpm export`: models in and out of diffusers' format, and out as ONNX or as a page."""

from __future__ import annotations

from pathlib import Path

from ddpm.cli import options
from ddpm.zoo import model


def import_(command: options.Import) -> None:
    """Convert the weights of a diffusers folder to a model of this library."""
    from ddpm.zoo import diffusers

    name = command.name or Path(command.source).resolve().name
    if name in ("", ".", "..") or Path(name).name != name:
        raise ValueError(f"name is {name!r}; give the name of a file in {command.out}, without a folder")
    target = command.out / name
    if (command.out / f"{name}.json").exists():
        raise ValueError(f"{target}.json is there already; give another --name or --out")
    m = diffusers.load(command.source, command.schedule, command.T, command.null_label, name, size=command.size)
    model.save(target, m, m.card)
    print(f"{m.card['summary']}, {m.card['schedule']['name']} schedule, T = {m.schedule.T:,}")
    label = "" if m.num_classes else " --label none"
    print(f"{target}.safetensors and its card; ddpm sample --model {target}{label}")


def export_(command: options.Export) -> None:
    """Write a model of this library as a folder of diffusers, an .onnx file, or an .html page that draws."""
    m = model.load(command.model)
    if str(command.to) == "onnx" or command.to.suffix == ".onnx":
        return _onnx(m, Path("out", f"{m.name}.onnx") if str(command.to) == "onnx" else command.to)
    if str(command.to) == "page" or command.to.suffix == ".html":
        return _page(m, Path("out", f"{m.name}.html") if str(command.to) == "page" else command.to)
    from ddpm.zoo import diffusers

    diffusers.save(command.to, m)
    print(f"{command.to}: diffusers.UNet2DModel.from_pretrained({str(command.to)!r}); its times are ours minus one")
    if m.unet.patch > 1:
        print(
            f"It sees {m.unet.patch}x{m.unet.patch} pixels as channels: give it torch's pixel_unshuffle(x, "
            f"{m.unet.patch}), and pixel_shuffle(·, {m.unet.patch}) its answer"
        )
    if m.num_classes:
        print(f"class_labels: 0..{m.num_classes - 1}{f', and {m.num_classes} for no class' * m.unet.null_label}")


def _onnx(m: model.Model, file: Path) -> None:
    from ddpm.zoo import onnx_graph

    onnx_graph.save(file, m)
    null = f" with {m.num_classes} for no class" if m.unet.null_label else ""
    label = f", c (B,) int64{null}" if m.num_classes else ""
    shape = ", ".join(map(str, m.image_shape))
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB. Inputs: x_t (B, {shape}) float32, t (B,) int64 in 1…T{label}.")
    print(f"Output: {m.predict}. The file's metadata have alpha_bar of t = 0…{m.schedule.T}, and the classes.")


def _page(m: model.Model, file: Path) -> None:
    from ddpm.zoo import web_page

    web_page.save(file, m)
    print(f"{file}: {file.stat().st_size / 1e6:.2f} MB. Open it in a browser; it needs no network and no GPU.")
