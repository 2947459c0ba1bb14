"""Turn training runs into a reference: a card with its curve and grids here, and a band for `ddpm compare`.

    python -m experiments.reference_runs.collect runs/fashion_mnist --name fashion_mnist
    python -m experiments.reference_runs.collect runs/digits-0 runs/digits-1 … --name digits       several seeds

The average (EMA) and the raw parameters of a run each draw a grid from the same noise: DDIM, 25 steps, guidance 2.
Several runs must differ in their seed only; pictures and rates are those of the first one. A single run cannot tell how
much seeds differ: its band takes that from another reference (`--spread-from`), and the card states this.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from ddpm import plot
from ddpm.cli import compare as compare_
from ddpm.cli.start import use_compile_cache
from ddpm.networks.inspect import count
from ddpm.tools import checkpoint
from ddpm.tools.files import write_atomic
from ddpm.tools.origin import commit
from ddpm.training import config as config_
from ddpm.training import reference as compare
from ddpm.training.loop import sample_grid
from ddpm.training.step import init_state, make_step
from ddpm.zoo import model

HERE = Path(__file__).parent
SEED_ONLY = {"seed", "name", "log_every", "save_every", "sample_every", "data_dir"}


@dataclass(frozen=True)
class Config:
    """Which runs to collect, and the name of the reference."""

    runs: tyro.conf.Positional[tuple[Path, ...]]  # folders that `ddpm train` made
    name: str  # the name of the reference
    windows: int = 60  # about how many windows the steps are cut into
    spread_from: str = "digits"  # for a single run: the reference that tells how much seeds differ
    note: str = ""  # a remark for the card
    out: Path = HERE  # where the folder NAME is written
    reference: Path = compare.FOLDER  # where NAME.json is written


def same_but_for_the_seed(configs: list[dict[str, Any]]) -> None:
    """Refuse runs that are not repetitions of one training."""
    for other in configs[1:]:
        wrong = [k for k, v in configs[0]["train"].items() if k not in SEED_ONLY and other["train"].get(k) != v]
        wrong += ["unet"] * (other["unet"] != configs[0]["unet"])
        if wrong:
            raise ValueError(f"these runs differ in {', '.join(wrong)}; a reference is one training with several seeds")
    seeds = [c["train"]["seed"] for c in configs]
    if len(set(seeds)) < len(seeds):
        raise ValueError(
            f"the seeds are {seeds}; the same seed twice tells nothing about the spread; give runs with different seeds"
        )


def window_edges(last: float, rows: int, windows: int) -> np.ndarray:
    """0, w, 2w … up to the last step; w a whole number of rows."""
    every = last / rows
    width = max(1, round(last / windows / every)) * every
    return np.round(np.arange(0, last + 1, width))


def band(config: Config, curves: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """(edges, window means (S, n), how the band was measured)."""
    last = min(step[-1] for step, _ in curves)
    edges = window_edges(last, int((curves[0][0] <= last).sum()), config.windows)
    means = np.stack([compare.window_means(step, loss, edges) for step, loss in curves])
    noise = float(np.sqrt(np.mean([compare.step_noise(*c) ** 2 for c in curves])))
    if len(curves) > 1:
        spread = compare.seed_spread(means, noise, float(edges[1]))
        how = f"measured between {len(curves)} seeds"
    else:
        spread = compare.load(config.spread_from).seed_spread
        how = f"one seed only: assumed to be that of {config.spread_from!r}"
    return edges, means, {"noise_per_step": round(noise, 5), "seed_spread": round(spread, 5), "seed_spread_is": how}


def left_out(reference: compare.Reference) -> float:
    """Share of the windows of each run that lie inside the band of all the others (95 % if the band is right)."""
    inside = []
    for i in range(len(reference.loss)):
        others = dataclasses.replace(reference, loss=np.delete(reference.loss, i, 0))
        inside.append(np.abs(np.log(reference.loss[i]) - others.log_mean) <= 2 * others.sigma())
    return float(np.mean(inside))


def step_mib(train: config_.TrainConfig, unet: Any, schedule: Any) -> float:
    """Memory in MiB of one training step on this device: state and temporaries, without the data set."""
    shape = jax.ShapeDtypeStruct
    state = jax.eval_shape(lambda: init_state(train, unet))
    images, labels = shape((train.batch, *unet.image_shape), np.uint8), shape((train.batch,), np.int32)
    program = make_step(train, unet).lower(state, schedule, images, labels, shape((train.batch,), np.int32)).compile()
    memory: Any = program.memory_analysis()
    return (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 2**20


def draw(run: Path, m: model.Model, folder: Path) -> None:
    """Draw the grids of the average and of the raw parameters."""
    train = config_.TrainConfig.saved(m.card["train"])
    found = checkpoint.restore(run / "checkpoints", jax.eval_shape(lambda: init_state(train, m.unet)))
    assert found is not None  # model.load has read it
    for kind, params in (("ema", found[0].ema), ("raw", found[0].params)):
        plot.save_grid(
            folder / f"samples_{kind}.png",
            sample_grid(m.unet, m.schedule, params, train.seed, train.predict, m.prior),
            columns=8,
        )


def card(about: dict[str, Any]) -> str:
    """The card in Markdown."""
    measured = [
        ("parameters", f"{about['parameters']:,}"),
        ("steps", f"{about['steps']:,} of {about['train']['batch']} images"),
        ("minutes", f"{about['minutes']:.0f} on {about['device']}"),
        ("images a second", f"{about['images_per_s']:,.0f} (median of the rows)"),
        ("memory of a step", f"{about['step_MiB']:,.0f} MiB: state and temporaries, without the data set"),
        ("loss, last window", f"{about['last_loss']:.4f} (training images)"),
        ("best linear-Gaussian denoiser", f"{about['baseline']:.4f} (the same images, exact)"),
        ("one step's loss varies by", f"{100 * about['noise_per_step']:.1f} %"),
        ("seeds differ by", f"{100 * about['seed_spread']:.2f} % beyond that ({about['seed_spread_is']})"),
    ]
    if about["inside_when_left_out"] is not None:
        share = f"{100 * about['inside_when_left_out']:.0f} % (95 % if it is right)"
        measured.append(("windows of each seed inside the band of the others", share))
    rows = "\n".join(f"| {k} | {v} |" for k, v in measured)
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    seeds = ", ".join(map(str, about["seeds"]))
    drawn = "DDIM, 25 steps, guidance 2), a class a row" if about["unet"]["num_classes"] else "DDIM, 25 steps)"
    return (
        f"# {about['name']}\n\n{about['summary']}\n\n    {about['command']}\n\n| | |\n|---|---|\n{rows}\n\n"
        f"Seeds: {seeds}. {versions}; collected at commit {about['commit']}. {about['note']}\n\n"
        "`loss.png`: the curve and its band. `samples_ema.png`, `samples_raw.png`: drawn by the average of the "
        f"parameters and by the last ones, from the same noise ({drawn}.\n"
    )


def main(config: Config) -> dict[str, Any]:
    """Read the runs, write the folder and the reference."""
    use_compile_cache()
    read = [compare.read(run) for run in config.runs]
    same_but_for_the_seed([about for *_, about in read])
    edges, means, noise = band(config, [(step, loss) for step, loss, _ in read])
    m, about, first = model.load(config.runs[0]), read[0][2], config.runs[0]
    with open(first / "metrics.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    train = about["train"]
    reference = compare.Reference(
        config.name,
        f"{train['data']}, preset {train['preset']}, {train['steps']:,} steps of {train['batch']}, "
        f"{len(read)} seed{'s' * (len(read) > 1)}",
        train,
        about["unet"],
        edges,
        means,
        noise["noise_per_step"],
        noise["seed_spread"],
    )
    facts = noise | {
        "seeds": [a["train"]["seed"] for *_, a in read],
        "parameters": count(m.params),
        "steps": int(rows[-1]["step"]),
        "minutes": round(float(rows[-1]["seconds"]) / 60, 1),
        "images_per_s": float(np.median([float(r["images_per_s"]) for r in rows])),
        "step_MiB": round(step_mib(config_.TrainConfig.saved(about["train"]), m.unet, m.schedule), 1),
        "last_loss": float(f"{means[0, -1]:.5g}"),
        "baseline": json.loads((first / "baseline.json").read_text())["linear_gaussian_loss"],
        "inside_when_left_out": round(left_out(reference), 3) if len(read) > 2 else None,
        "device": about["device"].replace("1 cores", "1 core"),
        "versions": about["versions"],
        "data_sha256": about["data"]["sha256"],
        "command": config_.TrainConfig.saved(about["train"]).command(),
        "commit": commit() or "unknown",
        "note": config.note,
    }
    whole = compare.as_json(reference, facts)
    folder = config.out / config.name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(first / "metrics.csv", folder / "metrics.csv")
    write_atomic(folder / "card.md", card(whole).encode())
    write_atomic(config.reference / f"{config.name}.json", _compact(whole))
    step, loss, _ = read[0]
    picture = compare.compare(step, loss, about, reference)
    compare_.save_picture(folder / "loss.png", step, loss, picture, reference)
    draw(first, m, folder)
    print(card(whole), f"\n{folder}, {config.reference / config.name}.json", sep="")
    return whole


def _compact(whole: dict[str, Any]) -> bytes:
    """JSON with one field on each line."""
    out = io.StringIO()
    lines = [f" {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in whole.items()]
    out.write("{\n" + ",\n".join(lines) + "\n}\n")
    return out.getvalue().encode()


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
