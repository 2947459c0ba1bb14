"""`ddpm import` and `ddpm export`: models in and out of diffusers' format."""

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
    m = diffusers.load(command.source, command.schedule, command.T, command.null_label, name)
    model.save(target, m, m.card)
    print(f"{m.card['summary']}, {m.card['schedule']['name']} schedule, T = {m.schedule.T:,}")
    label = "" if m.num_classes else " --label none"
    print(f"{target}.safetensors and its card; ddpm sample --model {target}{label}")


def export_(command: options.Export) -> None:
    """Write a model of this library as a folder of diffusers."""
    from ddpm.zoo import diffusers

    m = model.load(command.model)
    diffusers.save(command.to, m)
    print(f"{command.to}: diffusers.UNet2DModel.from_pretrained({str(command.to)!r}); its times are ours minus one")
    if m.unet.patch > 1:
        print(
            f"It sees {m.unet.patch}x{m.unet.patch} pixels as channels: give it torch's pixel_unshuffle(x, "
            f"{m.unet.patch}), and pixel_shuffle(·, {m.unet.patch}) its answer"
        )
    if m.num_classes:
        print(f"class_labels: 0..{m.num_classes - 1}, and {m.num_classes} for no class")
