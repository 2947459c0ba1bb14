"""Make the golden files of tests/zoo/test_interop.py with diffusers: two tiny networks, and the names of a large one.

    python tests/zoo/golden/make_unet2d.py          (needs PyTorch and diffusers; the versions are kept in the files)

Each folder is what the `save_pretrained` of UNet2DModel and DDPMScheduler write, with an `io.npz` in it: x, t and c
in the peer's layout and counting, and the peer's answer y. Weights are random: norms near one, no layer zero.
"""

import json
from pathlib import Path

import diffusers
import numpy as np
import torch

HERE = Path(__file__).parent
HO = {  # Ho et al.'s network, as google/ddpm-cifar10-32 has it
    "sample_size": 32,
    "block_out_channels": (128, 256, 256, 256),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "downsample_padding": 0,
    "norm_num_groups": 32,
    "norm_eps": 1e-6,
    "freq_shift": 1,
    "flip_sin_to_cos": False,
    "attention_head_dim": None,
}
TINY = HO | {
    "sample_size": 8,
    "block_out_channels": (6, 12),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 3,
}
FOLDERS = {
    "unet2d_plain": (TINY, {"beta_schedule": "linear"}),
    "unet2d_classes": (
        TINY
        | {
            "in_channels": 1,
            "out_channels": 2,
            "num_class_embeds": 4,
            "resnet_time_scale_shift": "scale_shift",
            "attn_norm_num_groups": 3,
        },
        {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 100, "variance_type": "learned_range"},
    ),
}


def randomise(model, seed: int) -> None:
    """Weights that leave no path unused."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            around = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            p.copy_(around + 0.15 * torch.randn(p.shape, generator=draw))


def main() -> None:
    """Write the folders and the list of names."""
    for seed, (name, (config, scheduler)) in enumerate(FOLDERS.items()):
        model = diffusers.UNet2DModel(**config)
        randomise(model, seed)
        model.save_pretrained(HERE / name)
        diffusers.DDPMScheduler(**scheduler).save_pretrained(HERE / name)
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(3, config.get("in_channels", 3), 8, 8)).astype(np.float32)
        t, c = np.array([0, 37, 99]), np.array([0, 2, 3])
        with torch.no_grad():
            labels = torch.from_numpy(c) if "num_class_embeds" in config else None
            y = model(torch.from_numpy(x), torch.from_numpy(t), labels).sample.numpy()
        np.savez(HERE / name / "io.npz", x=x, t=t, c=c, y=y, torch=torch.__version__, diffusers=diffusers.__version__)
    with torch.device("meta"):
        shapes = {k: list(a.shape) for k, a in diffusers.UNet2DModel(**HO).state_dict().items()}
    lines = ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(shapes.items()))
    (HERE / "ddpm_cifar10_32.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()
