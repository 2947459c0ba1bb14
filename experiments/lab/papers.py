"""The paper shelf as a list: sixty-five papers in nine groups, what each is about, and where its idea runs.

    python -m experiments.lab.papers           writes experiments/results/SHELF.md

A paper is `exact` if its experiment has rows that are held to an exact value, `ours` if it has an experiment without
such rows, and `to come` or `page` otherwise: then one sentence says what it is, and `why` why no code runs here.
"""

from __future__ import annotations

from typing import NamedTuple

from ddpm.tools.files import write_atomic
from experiments.lab import gallery, runner

GROUPS = {
    "A": (
        "Steering by value",
        "How a reward, a measurement or a classifier bends sampling, and when it bends it right",
    ),
    "B": ("Few steps", "Where the error of few steps comes from, and what takes it away"),
    "C": ("Geometry and errors of the score", "What the score knows of the shape of the data, and what its error does"),
    "R": ("What a denoiser knows", "Classes, factors and features inside a network that was trained to remove noise"),
    "D": ("What a condition does", "Several conditions at once, and conditions that change on the way"),
    "E": ("Editing embeddings and weights", "One class, one attribute, one concept: changed without training again"),
    "F": ("Tokens", "Discrete chains, and transformers in place of the U-Net"),
    "G": ("Data: noise, bias, shift", "What training data do to the model, and the model to the data"),
    "H": ("Latents, pairs, other data", "Compressed images, pairs of images, graphs, shapes and boxes"),
}


class Paper(NamedTuple):
    """One paper of the list."""

    number: int
    group: str
    name: str
    idea: str  # one line
    experiments: tuple[str, ...] = ()
    why: str = ""  # why there is a page only


PAPERS = (
    Paper(43, "A", "SVDD", "Keep one of M candidates of each step, in proportion to e^value", ("svdd",)),
    Paper(48, "A", "Steered Diffusion", "Follow the gradient of a measurement's error", ("steered",)),
    Paper(29, "A", "Diffusion Tree Sampling", "Back rewards up through a tree of noisy images", ("tree_sampling",)),
    Paper(17, "A", "EluCD", "Guide by a clean classifier at the predicted image, its logits tempered", ("elucd",)),
    Paper(30, "A", "PPAP", "Experts for ranges of noise, made from one clean model without labels", ("ppap",)),
    Paper(34, "A", "TSDiff", "Forecast a series with an unconditional model, guided by what was observed", ("tsdiff",)),
    Paper(51, "A", "LaCon", "Read a condition out of inner features, and guide by its gradient", ("inner_features",)),
    Paper(15, "A", "Medical diffusion: a survey", "Anomaly maps, reconstruction from parts", ("medical",)),
    Paper(11, "A", "IterComp", "Learn a reward from ranked pairs, maximise it, repeat", ("ranked_pairs",)),
    Paper(49, "A", "COW", "Cycle between two noise levels, the known part put in again each time", ("cow",)),
    Paper(1, "A", "AlignDiff", "Plans conditioned on how strong each attribute is", ("strengths",)),
    Paper(45, "A", "LDFaceNet", "Swap what is inside a mask, guided by a classifier",
          why="A mask and a classifier's guidance: `repaint_garments` and `steered` run both, without faces."),
    Paper(32, "B", "AutoDiffusion", "Search the list of times that suits few steps", ("few_calls",)),
    Paper(23, "B", "Distillation of guided models", "First the guidance, then the steps go into a student",
          ("guided_distillation",)),
    Paper(33, "B", "BOOT", "Distil into one step along the signal, without data", ("boot",)),
    Paper(22, "B", "EVODiff", "Let the conditional variance choose the form of a solver's step", ("evodiff",)),
    Paper(54, "B", "Adaptive guidance", "Stop guiding where both predictions agree",
          ("adaptive_guidance", "linear_guidance")),
    Paper(24, "B", "SIGN", "One step that is idempotent: f(f(z)) = f(z)", ("idempotent",)),
    Paper(61, "C", "ODE–SDE gap", "A wrong score makes the two samplers disagree, and by how much", ("ode_sde_gap",)),
    Paper(20, "C", "Gauge freedom", "Fields that can be added to the score without changing any marginal",
          ("gauge_freedom",)),
    Paper(63, "C", "The Gaussian score", "At high noise the learned score is that of a Gaussian",
          ("denoisers_by_t", "teleportation", "score_by_noise")),
    Paper(58, "C", "Subspace clustering", "Training on a mixture of low-rank Gaussians is subspace clustering",
          ("subspace_clustering",)),
    Paper(8, "C", "Theory: an overview", "How many samples a score needs, and what a reward reaches", ("sample_size",)),
    Paper(14, "C", "The principles of diffusion models", "Five names of one prediction; flow maps that compose",
          ("flow_paths",)),
    Paper(9, "R", "DiTi", "Which attribute is lost at which time", ("diti",)),
    Paper(64, "R", "DiffusionPID", "Information between words and pixels, in parts: unique, redundant, joint",
          ("diffusion_pid",)),
    Paper(62, "R", "Compositionality of diffusion classifiers", "What a diffusion classifier can tell apart",
          ("compositionality",)),
    Paper(25, "R", "Beat GANs on classification", "Features of a denoiser, pooled and read by several heads",
          ("pooled_heads",)),
    Paper(28, "R", "Diffusion classifier", "Classify by the label whose noise is predicted best",
          ("diffusion_classifier", "classifier_draws")),
    Paper(10, "R", "DDAE++", "A denoiser that conditions on its own features",
          why="It shows only after two long trainings; exact is only that it starts as the model without it."),
    Paper(38, "D", "Composable diffusion", "AND and NOT by sums of denoisers", ("composition", "composed_towns")),
    Paper(26, "D", "ProSpect", "Another condition for each stage of the noise", ("prospect",)),
    Paper(39, "D", "Black–Scholes blending", "Choose the prompt of each step by the price of an option", ("blending",)),
    Paper(42, "D", "VSC", "Words that are added up lose which attribute belongs to which thing", ("binding",)),
    Paper(41, "D", "OneActor", "Guide towards one cluster of a class and away from the others", ("one_cluster",)),
    Paper(5, "D", "ImgAny", "Any subset of conditions, composed",
          why="Composing runs in `composition`, `response`, `strengths`; new are encoders for each condition."),
    Paper(18, "E", "DiffQuickFix", "Edit a concept by a closed-form change of one matrix", ("quick_fix",)),
    Paper(13, "E", "Attribute directions", "A direction of conditions that turns one attribute", ("directions",)),
    Paper(60, "E", "Orthogonal adaptation", "Adapters that leave each other alone: their bases are orthogonal",
          ("orthogonal",)),
    Paper(4, "E", "Att-Adapter", "Request a measured attribute by its number", ("adapter",)),
    Paper(3, "E", "PreciseControl", "Fine control of one face attribute, the others left alone", ("response",)),
    Paper(12, "E", "DVP", "A program of visual steps; the statistics of one prediction moved to another",
          ("adain",)),
    Paper(27, "F", "RADD", "The ratio of an absorbing chain is a conditional without time", ("radd",)),
    Paper(47, "F", "DiT-MoE", "A transformer with experts, of which each token visits a few", ("experts",)),
    Paper(65, "F", "ACDiT", "Blocks one after the other, diffusion inside each", ("blockwise",)),
    Paper(40, "G", "SDA", "Adapt the test data to the model by noising and denoising", ("alignment",)),
    Paper(6, "G", "DiffLens", "A sparse dictionary of inner features, to see and to turn a bias",
          ("bias_feature",)),
    Paper(46, "G", "Slight corruption", "A little wrong conditioning is claimed to help", ("corruption",)),
    Paper(55, "G", "AFA", "Average several models, with weights that depend on x_t", ("afa",)),
    Paper(21, "G", "InvDiff", "Make a biased model fair without knowing the groups", ("invariant",)),
    Paper(57, "G", "PFCD", "The right number of things, by the expected count", ("count",)),
    Paper(37, "G", "DomainStudio", "Ten images of a new domain", ("ten_images",)),
    Paper(31, "G", "Style extraction", "Layout from one image, style from another", ("new_light",)),
    Paper(16, "G", "Large images", "Patches with unlabelled features, joined to a large image",
          ("large_images",)),
    Paper(7, "H", "Microstructures", "Two-phase materials: a Gaussian field, cut at a level", ("microstructures",)),
    Paper(52, "H", "Latent diffusion", "Diffuse in the space of an autoencoder",
          ("latent_size", "latent_scale", "latent_factor")),
    Paper(56, "H", "DiffuseVAE", "A VAE draws the draft, diffusion adds the rest", ("diffuse_vae",)),
    Paper(19, "H", "UniCon", "One model of a pair of images, each with its own time", ("two_times",)),
    Paper(36, "H", "MT-Diffusion", "Several kinds of data in one chain", ("labels_in_chain",)),
    Paper(50, "H", "ConsistencyDet", "Find an object by denoising its box", ("box_denoising",)),
    Paper(53, "H", "Sheaf diffusion", "The heat equation on a graph whose edges carry maps", ("sheaf",)),
    Paper(59, "H", "Direct2.5", "Several views of one body, drawn together",
          why="Views that are drawn together need a model of several views, which is not trained here."),
    Paper(2, "H", "Speech to face", "A condition learned by contrast", ("contrast",)),
    Paper(35, "H", "STAR", "How the parts of the field hang together",
          why="It is an overview, and the lessons go through the parts that it puts in order."),
    Paper(44, "H", "DivControl", "Shared and specific parts of many controls",
          why="Many controls would have to be trained; shared and separate directions are in `orthogonal`."),
)  # fmt: skip


def state(paper: Paper, results: dict) -> str:
    """`exact`, `ours`, `page`, or `to come`."""
    rows = [row for name in paper.experiments for row in results.get(name, {"rows": ()})["rows"]]
    if rows:
        return "exact" if any(row["within"] is not None for row in rows) else "ours"
    return "page" if paper.why else "to come"


def summary(states: list[str]) -> str:
    """The paragraph above the list: how many papers are in which state, and what the states mean."""
    counts = ", ".join(f"{states.count(s)} {s}" for s in ("exact", "ours", "page", "to come") if s in states)
    return (
        f"{len(PAPERS)} papers, by what one learns from them: {counts}. *Exact*: its core idea runs with its exact "
        "case, and the command fails if they disagree. *Ours*: it runs, and there is no exact value. One paper is one "
        "file of `experiments/shelf/`, of at most 150 lines; `python -m experiments shelf` makes all of them."
    )


def page() -> str:
    """The shelf as a page in Markdown, by group: number, paper, idea, state, and the figure."""
    results = gallery.results()
    states = [state(paper, results) for paper in PAPERS]
    parts = ["# The paper shelf", summary(states)]
    for letter, (title, learned) in GROUPS.items():
        lines = ["| | paper | its idea | state | figure |", "|---|---|---|---|---|"]
        for paper, s in zip(PAPERS, states, strict=True):
            if paper.group != letter:
                continue
            made = [name for name in paper.experiments if name in results]
            links = ", ".join(f"[{name}](README.md#{name})" for name in made)
            picture = f'<a href="README.md#{made[0]}"><img src="{made[0]}/figure.png" width="220"></a>' if made else ""
            what = f"{paper.idea}. {paper.why}".replace(" .", ".").strip()
            lines.append(f"| {paper.number} | {paper.name} | {what} | {s}{': ' + links if links else ''} | {picture} |")
        parts += [f"## {title}", f"{learned}.", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the page."""
    assert set(runner.names()) >= {name for paper in PAPERS for name in paper.experiments}
    write_atomic(runner.RESULTS / "SHELF.md", page().encode())
    print(f"experiments/results/SHELF.md: {len(PAPERS)} papers")


if __name__ == "__main__":
    main()
