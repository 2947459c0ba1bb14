"""A certificate of images: what was measured, with which network, and how these numbers can be fooled on these images.

    made = certify(x, c, dataset, classifier, measures, asked)      plain numbers and text, with a digest of themselves
    page(made)                                                      one HTML file without script, which holds them too
    differences(made, again)                                        what is not equal after measuring again

The schema is docs/certificate.schema.json.
"""

from __future__ import annotations

import hashlib
import html
import json
from pathlib import Path
from typing import Any

import numpy as np

from ddpm.classifiers.classifier import Classifier
from ddpm.data import Dataset
from ddpm.evaluation.measure import Measure
from ddpm.tools import files, machine

KIND = "ddpm certificate"
VERSION = 1
BEGIN, END = '<pre id="certificate">', "</pre>"
TOLERANCE = 1e-4  # relative: another processor sums in another order
SHARE = 0.01  # of images above which a way to fool the numbers is pointed out


def samples_sha256(x: np.ndarray, c: np.ndarray | None) -> str:
    """The checksum of images (n, H, W, C) uint8 and their labels, whatever file they came from."""
    return hashlib.sha256(x.tobytes() + (b"" if c is None else c.tobytes())).hexdigest()


def certify(
    x: np.ndarray,
    c: np.ndarray | None,
    dataset: Dataset,
    judge: Classifier | None,
    measures: dict[str, Measure],
    asked: dict[str, Any],
) -> dict[str, Any]:
    """All that a reader needs to know about the numbers, as plain text and numbers.

    x: (n, H, W, C) uint8;  c: (n,) labels or None;  asked: the options with which it is measured again
    """
    n, height, width, channels = x.shape
    features = "none: no classifier of these data" if judge is None else f"last hidden layer of {judge.name}"
    return files.signed(
        {
            "kind": KIND,
            "version": VERSION,
            "samples": {
                "sha256": samples_sha256(x, c), "n": n, "height": height, "width": width, "channels": channels,
                "bits": 8, "labels": c is not None,
            },
            "data": {
                "name": dataset.name, "sha256": dataset.sha256,
                "split": f"distances to {len(dataset.x_train):,} training images; floors of test images, at equal n",
                "resize": "none: the images have the size of the data",
            },
            "network": {"features": features, "sha256": None if judge is None else judge.card.get("sha256")},
            "asked": asked,
            "measures": {k: told(m) for k, m in measures.items()},
            "fooled": fooled(x, c, dataset, judge, measures),
            "versions": machine.versions(),
        }
    )  # fmt: skip


def told(m: Measure) -> dict[str, Any]:
    """A measure without the details of each image."""
    kept = ("name", "value", "standard_error", "n", "against", "features", "seed", "better", "error")
    out = {k: getattr(m, k) for k in kept}
    return out | {
        "interval": list(m.low_high),
        "floor": None if m.reference is None else {"value": m.reference, "what": m.reference_what},
    }


# --- how the numbers can be fooled ------------------------------------------------------------------------------------


def fooled(
    x: np.ndarray, c: np.ndarray | None, dataset: Dataset, judge: Classifier | None, measures: dict[str, Measure]
) -> list[dict[str, Any]]:
    """Known ways in which good numbers can lie, each looked for in these images: {what, found, examples, seen, why}."""
    n = len(x)
    flat = np.ascontiguousarray(x.reshape(n, -1))
    keys = [row.tobytes() for row in flat]
    first: dict[bytes, int] = {}
    again = [i for i, key in enumerate(keys) if first.setdefault(key, i) != i]
    train = {row.tobytes() for row in np.ascontiguousarray(dataset.x_train.reshape(len(dataset.x_train), -1))}
    copies = [i for i, key in enumerate(keys) if key in train]
    plain = np.flatnonzero(np.ptp(flat, axis=1) <= 2).tolist()
    rows = [
        way("duplicates", again, n, "images equal to an earlier one; accuracy and precision do not see them"),
        way("copies of training images", copies, n, "every distance calls them perfect; only neighbours see them"),
        way("constant images", plain, n, "all pixels equal within 2 of 255"),
    ]
    near = measures.get("nearest_pixels")
    if near is not None:
        low, high = near.low_high
        rows.append(
            {
                "what": "nearer to training images than unseen images are", "found": near.value, "examples": [],
                "seen": bool(low > 0.5), "why": f"share in pixels, 95 % {low:.3g} … {high:.3g}; .5 as unseen images, "
                "more for copies with small changes, or for blur",
            }
        )  # fmt: skip
    if dataset.num_classes:
        rows.append(missing(x, c, dataset, judge))
    return rows


def way(what: str, which: list[int], n: int, why: str) -> dict[str, Any]:
    """One way to fool numbers: the share of the images, and the first of them."""
    return {"what": what, "found": len(which) / n, "examples": which[:10], "seen": len(which) / n >= SHARE, "why": why}


def missing(x: np.ndarray, c: np.ndarray | None, dataset: Dataset, judge: Classifier | None) -> dict[str, Any]:
    """Classes with less than a fifth of their share of the training images, by the classifier, else by the labels."""
    by = "labels" if judge is None else "classifier"
    guess = c if judge is None else judge(x)[0].argmax(1)
    if guess is None:
        return {"what": "missing classes", "found": 0.0, "examples": [], "seen": False, "why": "no labels to count"}
    real = np.bincount(dataset.y_train, minlength=dataset.num_classes) / len(dataset.y_train)
    share = np.bincount(guess, minlength=dataset.num_classes) / len(guess)
    gone = [k for k in range(dataset.num_classes) if share[k] < real[k] / 5]
    names = ", ".join(dataset.class_names[k] for k in gone) or "none"
    why = f"by the {by}: {names}. Accuracy and precision do not see a missing class"
    return {
        "what": "missing classes", "found": len(gone) / dataset.num_classes, "examples": gone, "seen": bool(gone),
        "why": why,
    }  # fmt: skip


# --- in and out of files ----------------------------------------------------------------------------------------------


def page(made: dict[str, Any]) -> str:
    """The certificate as one HTML page without script: tables, and its own numbers as JSON at the end."""

    def row(cells: list[Any], tag: str = "td") -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in cells) + "</tr>"

    def table(head: list[str], rows: list[list[Any]]) -> str:
        return f"<table><thead>{row(head, 'th')}</thead><tbody>{''.join(map(row, rows))}</tbody></table>"

    s, d = made["samples"], made["data"]
    measures = [
        [
            m["name"], f"{m['value']:.5g}", " … ".join(f"{v:.4g}" for v in m["interval"]),
            f"{m['floor']['value']:.4g} ({m['floor']['what']})" if m["floor"] else "", f"{m['n']:,}", m["better"],
            m["features"],
        ]
        for m in made["measures"].values()
    ]  # fmt: skip
    ways = [[f["what"], f"{f['found']:.3g}", "seen" if f["seen"] else "not seen", f["why"]] for f in made["fooled"]]
    about = [
        ["images", f"{s['n']:,}, {s['height']}x{s['width']}x{s['channels']}, {s['bits']} bit, sha256 {s['sha256']}"],
        ["compared with", f"{d['name']}, {d['split']}; sha256 {d['sha256']}"],
        ["resize", d["resize"]],
        ["features", f"{made['network']['features']}, sha256 {made['network']['sha256']}"],
        ["versions", ", ".join(f"{k} {v}" for k, v in made["versions"].items())],
        ["certificate", f"sha256 {made['card_sha256']}"],
    ]
    source = (Path(__file__).parent / "certificate.html").read_text(encoding="utf-8")
    parts = {
        "ABOUT": table(["", ""], about),
        "MEASURES": table(["measure", "value", "95 % interval", "floor", "n", "better", "features"], measures),
        "WAYS": table(["what would fool them", "share", "", "why"], ways),
        "JSON": html.escape(json.dumps(made, indent=1, ensure_ascii=False)),
    }
    for name, text in parts.items():
        source = source.replace(f"[[{name}]]", text)
    return source


def write(path: Path, made: dict[str, Any]) -> None:
    """Write the certificate as JSON, or as a page if the name ends in .html."""
    text = page(made) if path.suffix == ".html" else json.dumps(made, indent=1, ensure_ascii=False) + "\n"
    files.write_atomic(path, text.encode())


def suffix(path: Path) -> Path:
    """Refuse names that are neither .json nor .html."""
    if path.suffix not in (".json", ".html"):
        raise ValueError(f"certificate is {str(path)!r}; give a name that ends in .json or .html")
    return path


def read(path: Path) -> dict[str, Any]:
    """Read a certificate from either form; one whose digest does not fit was changed, and is refused."""
    text = files.read_bytes(suffix(path), 50_000_000).decode("utf-8", "replace")
    if path.suffix == ".html":
        start = text.find(BEGIN)
        if start < 0:
            raise ValueError(f"{path} is no certificate: it holds no numbers of one")
        text = html.unescape(text[start + len(BEGIN) : text.find(END, start)])
    try:
        made = json.loads(text)
        right = made["kind"] == KIND
    except (ValueError, KeyError, TypeError):
        right = False
    if not right:
        raise ValueError(f"{path} is no certificate; `ddpm evaluate --samples THEIRS --certificate NAME` writes one")
    if made.get("version") != VERSION:
        raise ValueError(f"{path} has version {made.get('version')!r} of the schema; this library reads {VERSION}")
    if made.get("card_sha256") != files.digest(made):
        raise ValueError(f"{path} was changed after it was written: its digest does not fit its content")
    return made


def differences(made: dict[str, Any], again: dict[str, Any]) -> list[str]:
    """What differs between a certificate and the same measured again: one sentence each; none if they are equal."""
    found = []
    for part in ("samples", "data", "network"):
        found += [
            f"{part}: {k} is {again[part].get(k)}, and {v} in the certificate"
            for k, v in made[part].items()
            if again[part].get(k) != v
        ]
    for key in made["measures"].keys() | again["measures"].keys():
        was, now = (m["measures"].get(key) for m in (made, again))
        if was is None or now is None:
            found.append(f"{key} is only in {'the new measurement' if was is None else 'the certificate'}")
            continue
        scale = max(abs(was["value"]), was["standard_error"], 1e-9)
        if not abs(was["value"] - now["value"]) <= TOLERANCE * scale or was["n"] != now["n"]:
            found.append(
                f"{was['name']} is {now['value']:.6g} (n = {now['n']}), and {was['value']:.6g} in the certificate"
            )
    ways = {f["what"]: f for f in again["fooled"]}
    found += [f"{f['what']}: another result" for f in made["fooled"] if not same(f, ways.get(f["what"]))]
    return sorted(found)


def same(a: dict[str, Any], b: dict[str, Any] | None) -> bool:
    """Whether two findings are equal, their shares up to rounding."""
    return b is not None and a["seen"] == b["seen"] and abs(a["found"] - b["found"]) <= TOLERANCE
