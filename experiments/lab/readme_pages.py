"""The README's numbers and the pages that it links, written from the cards and results: no number is typed in.

    python -m experiments.lab.readme_pages          writes README.md between its markers, and three pages in docs/

The table of the papers' figures is in experiments/results/README.md, which `python -m experiments.lab.gallery` writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ddpm import weights
from ddpm.tools.files import write_atomic
from experiments.lab import gallery, goals
from experiments.lab.speed import startup

ROOT = Path(__file__).parents[2]


NUMBERS = ("eps_mse", "bits_bound", "accuracy", "frechet")
FIGURES = ("cfg_tilted", "ddim_table1", "progressive_garments", "solver_orders", "mining")


def _measures(card: dict[str, Any], names: Iterable[str]) -> list[str]:
    """A table of these measures of a card, each next to its baseline or floor."""
    rows = ["| measure | value | 95 % interval | compared with | n |", "|---|---|---|---|---|"]
    for m in (card["measures"][name] for name in names):
        low, high = m["interval"]
        other = "" if m["reference"] is None else f"{m['reference']:.4g} ({m['reference_what']})"
        rows.append(f"| {m['name']} | {m['value']:.4g} | {low:.4g} … {high:.4g} | {other} | {m['n']:,} |")
    return rows


def _training(card: dict[str, Any]) -> str:
    """How long the training took, and on which device."""
    return f"{card['training_seconds'] / 60:.0f} minutes on {card['training_device'].replace('1 cores', '1 core')}"


def caption(name: str = "fashion_mnist") -> str:
    """The caption of the first picture."""
    card = weights.cards("denoiser")[name]
    return (
        f"<sub>Drawn by the shipped model, {card['parameters']:,} parameters, trained in {_training(card)}: "
        "`ddpm sample --n 10 --out experiments/results/garments/figure.png`</sub>"
    )


def numbers(name: str = "fashion_mnist") -> str:
    """Four measures of the shipped model, from its card."""
    return "\n".join(_measures(weights.cards("denoiser")[name], NUMBERS))


def card_section(name: str) -> list[str]:
    """All measures of a shipped model, from its card, and how it is drawn."""
    card = weights.cards("denoiser")[name]
    unet, train, drawing = card["unet"], card["train"], card.get("drawing") or {}
    judge = weights.cards("classifier")[f"{train['data']}_classifier"]
    what = (
        "continues a Gaussian of each class"
        if card.get("predict", train.get("predict")) == "gaussian"
        else "predicts ε"
    )
    above = f", above t = {drawing['gaussian_above']} the Gaussian alone" if drawing.get("gaussian_above") else ""
    given, none = (card["measures"][k] for k in ("eps_mse", "eps_mse_null"))
    least = none["reference"]
    than_worse = (
        f" ({given['value'] / least:.3f} of the one without classes, which is better on these images)"
        if least < given["reference"]
        else ""
    )
    n = judge["test"]["n"] if "n" in judge["test"] else None
    return [
        f"## `{name}`",
        "",
        f"{card['parameters']:,} parameters, {unet['patch']}x{unet['patch']} pixels a position; it {what}; "
        f"{train['schedule']} schedule, T = {train['T']:,}; {card['steps']:,} steps of {train['batch']} images, "
        f"{_training(card)}. Its test ε-MSE is "
        f"**{card['eps_mse_over_linear_gaussian']:.3f}** of that of the best class-conditional linear-Gaussian "
        f"denoiser{than_worse}. Images: DDIM, 50 steps, guidance {drawing.get('guidance', 2):g}{above}, 8 bit. "
        f"Accuracy and distances are those of the shipped classifier (test accuracy {judge['test']['accuracy']:.4f}"
        f"{'' if n is None else f', n = {n:,}'}); there is no Inception network here.",
        "",
        *_measures(card, card["measures"]),
        "",
        f"These numbers are reproduced by `{card['commands']['measure']}`; the card, "
        f"[`ddpm/weights/{name}.json`](../ddpm/weights/{name}.json), states what each number is compared with, and "
        f"in which features. The model was trained by `{card['commands']['train']}`.",
        "",
    ]


def card_page() -> str:
    """docs/card.md: all measures of the two models of images that the lessons use."""
    return "\n".join(
        [
            "# The shipped models, measured",
            "",
            *card_section("fashion_mnist"),
            *card_section("cifar10"),
            "`ddpm info` lists the other models. What was to be reached with these two is in [goals](goals.md).",
            "",
            "This page is written by `python -m experiments.lab.readme_pages`.",
        ]
    )


PEERS = {"diffusers": "diffusers", "diffusers_compiled": "diffusers under torch.compile", "lucidrains": "lucidrains'"}


def _peers(part: dict[str, Any]) -> str:
    """The seconds of each other library, and our speed as a share of its speed."""
    words = []
    for name, called in PEERS.items():
        ratio = part.get("ratio" if name == "diffusers" else f"ratio_{name}")
        if ratio is not None:
            words.append(f"{called} {part[f'{name}_seconds']:.2f} s: **{ratio:.2f}** of its speed")
    return "; ".join(words) or "no other library was installed"


def time_to_loss() -> list[str]:
    """The row of `experiments.lab.time_to_loss`, if its result is in the repository."""
    path = ROOT / "experiments/results/time_to_loss/metrics.json"
    if not path.exists():
        return []
    r = json.loads(path.read_text())
    first = "first_step_or_compile_seconds"
    words = [
        f"{k} {goals.seconds_to(r['goal'], v['curve']):.0f} s + {v[first]:.0f} s to begin"
        if v["reached"]
        else f"{k} not reached"
        for k, v in r["sides"].items()
    ]
    what = f"training to a test ε-MSE of {r['goal']:.4f}, from an empty cache; `python -m experiments.lab.time_to_loss`"
    return [f"| {what}, seed {r['config']['seed']} | {'; '.join(words)} |"]


def speed_page() -> str:
    """docs/speed.md: the measurements of `python -m experiments.lab.speed`."""
    r = json.loads((ROOT / "experiments/results/speed/metrics.json").read_text())
    step, walk, typical = r["training_step"], r["sampling"], r["typicality"]
    rows = ["# Speed", "", "| what | measured |", "|---|---|"]
    rows += [
        f"| training step, Ho et al.'s design at 32 channels ({step['parameters']:,} parameters), "
        f"batch {step['batch']} | {step['ddpm_seconds']:.2f} s; {_peers(step)} |",
        f"| DDIM with that network, {r['ddim']['steps']} steps, batch {r['ddim']['batch']} "
        f"| {r['ddim']['ddpm_seconds']:.2f} s; {_peers(r['ddim'])} |",
        "| operators timed alone, our speed as a share of PyTorch's | "
        + ", ".join(f"{k} {v['ratio']:.2f}" for k, v in r["operators"]["operators"].items())
        + " |",
        f"| a DDIM walk of {walk['steps']} steps with the `cpu` preset, batch {walk['batch']} "
        f"| {walk['walk_seconds']:.2f} s; the bare network calls take {100 * walk['network_share']:.0f} % of that |",
        f"| guided over unguided sampling | {walk['guided_over_unguided']:.2f} |",
        "| programs compiled for a new guidance, seed and schedule "
        f"| {walk['compiled_again_for_new_guidance_seed_schedule']} |",
        f"| typicality, {typical['draws']} draws | {typical['image_draws_per_second']:,.0f} image-draws a second, "
        f"{100 * typical['share_of_bare_forward']:.0f} % of the bare forward's rate |",
        f"| its temporary memory at 10 and at 100 draws | {typical['temporary_MiB_at_10_draws']:.1f} and "
        f"{typical['temporary_MiB_at_100_draws']:.1f} MiB |",
    ]
    for name, words in (("cache_empty", "with an empty cache"), ("cache_filled", "and from the cache")):
        image, cpu, small = (r["startup"][what][name] for what in startup.WHAT)
        rows.append(
            f"| a start, {words}: first image; training step of `cpu` and of `small` compiled; most memory for each "
            f"| {image['first_image_seconds']:.1f} s; {cpu['compile_seconds']:.1f} and {small['compile_seconds']:.1f} "
            f"s; {image['peak_MiB']:,}, {cpu['peak_MiB']:,} and {small['peak_MiB']:,} MiB |"
        )
    rows += time_to_loss()
    packages = ", ".join(f"{k} {v}" for k, v in r["versions"].items() if k in ("jax", "torch", "diffusers"))
    return "\n".join(
        [
            *rows,
            "",
            f"Measured on {r['device']} with {packages} by `python -m experiments.lab.speed`; the libraries take turns "
            "in one run.",
            "",
            "What was to be reached, and what is, is in [goals](goals.md). This page is written by `python -m "
            "experiments.lab.readme_pages`.",
        ]
    )


def figures() -> str:
    """Five of the reproduced figures and tables."""
    return gallery.index("experiments/results/README.md", FIGURES)


PARTS = {"caption": caption, "numbers": numbers, "figures": figures}
PAGES = {"docs/card.md": card_page, "docs/speed.md": speed_page, "docs/goals.md": goals.page}


def rendered(text: str) -> str:
    """The README with its generated parts renewed."""
    for name, part in PARTS.items():
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        _, mark, after = rest.partition("<!-- end -->")
        text = f"{before}<!-- {name} -->\n{part()}\n{mark}{after}"
    return text


def main() -> None:
    """Write the README's generated parts and the pages."""
    file = ROOT / "README.md"
    write_atomic(file, rendered(file.read_text()).encode())
    for name, page in PAGES.items():
        write_atomic(ROOT / name, f"{page()}\n".encode())


if __name__ == "__main__":
    main()
