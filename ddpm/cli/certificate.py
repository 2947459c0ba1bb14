"""`ddpm certificate verify`: measure the images of a certificate again, and compare."""

from __future__ import annotations

from pathlib import Path

from ddpm.cli import evaluate, options, theirs
from ddpm.datasets import sources
from ddpm.evaluation import certificate


def run(command: theirs.Certificate) -> None:
    """Print that all numbers are equal, or raise an error that lists those that are not."""
    made = certificate.read(command.file)
    asked = options.Evaluate(
        samples=Path(command.samples), data_dir=command.data_dir, **{k: made["asked"][k] for k in ASKED}
    )
    dataset = sources.load(asked.data, asked.data_dir)
    scored = evaluate.from_files(asked, dataset)
    if (now := scored.about["samples_sha256"]) != (was := made["samples"]["sha256"]):
        raise ValueError(f"{command.samples} are other images than the certificate's: sha256 {now}, and {was} there")
    judge = evaluate.judge_of(asked, dataset)
    measures = evaluate.measured(asked, dataset, judge, scored)
    again = certificate.certify(scored.x, scored.c, dataset, judge, measures, made["asked"])
    wrong = certificate.differences(made, again)
    then = made["versions"]
    other = [f"{k} {v} ({then.get(k)} there)" for k, v in again["versions"].items() if then.get(k) != v]
    if other:
        print(f"measured with other versions: {', '.join(other)}")
    if wrong:
        raise ValueError(f"{command.file} is not what these images give:\n  " + "\n  ".join(wrong))
    ways = f"{len(again['fooled'])} ways to fool them"
    print(f"equal: {len(again['measures'])} measures of {len(scored.x):,} images, and {ways}")


ASKED = tuple(evaluate.certified(options.Evaluate()))
