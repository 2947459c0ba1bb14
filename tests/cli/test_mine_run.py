"""`ddpm mine` from the command line to its page, on drawn images and a network that has not learned anything."""

import base64
import csv
import dataclasses
import io
import json
import re

import jax
import numpy as np
import pytest
from PIL import Image

from ddpm.cli import mine as mine_cli
from ddpm.cli import options, start
from ddpm.config import UNetConfig
from ddpm.datasets import blocks, sources, world
from ddpm.mining import report
from ddpm.mining.patches import Patches
from ddpm.mining.patterns import Mined
from ddpm.network import build
from ddpm.schedule import linear
from ddpm.zoo import model

UNET = UNetConfig(28, 1, patch=4, channels=8, multipliers=(1,), blocks=1, attention=(), groups=4, num_classes=4)
FLAGS = "--n 6 --others 4 --draws 4 --clusters 2 --top 8 --layer up.0".split()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network with random weights that are not near zero anywhere, so that labels change its answer."""
    params = build(UNET)[0](jax.random.key(0))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    params = tree.unflatten([a + 0.1 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)])
    m = model.Model("m", UNET, params, linear(1000), world.CLASSES, {"schedule": {"name": "linear"}})
    path = tmp_path_factory.mktemp("weights") / "m"
    model.save(path, m, {"train": {"p_uncond": 0.1}})
    return path


def mined(weights, out, *flags):
    return start.main(["mine", "--model", str(weights), "--label", "brevik", "--out", str(out), *FLAGS, *flags])


@pytest.mark.parametrize(
    ("flags", "loaded"),
    [
        (["--data", "blocks"], "blocks"),  # weights that are named like the data
        (["--data", "digits"], "fashion_mnist"),  # none are
        ([], "fashion_mnist"),
        (["--data", "blocks", "--model", "cities"], "cities"),
    ],
)
def test_the_model_is_that_of_the_data_if_none_is_given(flags, loaded, monkeypatch):
    seen = []

    def load(name):
        seen.append(name)
        raise ValueError("enough")

    monkeypatch.setattr(model, "load", load)
    start.main(["mine", "--label", "0", *flags])
    assert seen == [loaded]


@pytest.mark.slow
def test_the_page_the_sheets_and_the_numbers(weights, tmp_path, capsys):
    assert mined(weights, tmp_path, "--data", "cities") == 0
    printed = capsys.readouterr().out
    assert "6 images x 4 draws x 2 conditions = 48 images forward" in printed
    html = (tmp_path / "index.html").read_text()
    assert (
        not re.search(r'(src|href)="(?!data:)', html)
        and "Brevik" in html
        and "<script" not in html
        and '<meta name="viewport"' in html
    )
    pictures = [Image.open(io.BytesIO(base64.b64decode(p))) for p in re.findall(r"base64,([^\"]+)", html)]
    rows = list(csv.DictReader((tmp_path / "patches.csv").open()))
    numbers = json.loads((tmp_path / "summary.json").read_text())
    assert len(pictures) == 1 + len(numbers["clusters"]) and len(rows) == 8
    T = [float(r["T"]) for r in rows]
    assert numbers["median_score"] == pytest.approx(np.median(T), rel=1e-4)
    x, y = sources.load("cities").x_test, sources.load("cities").y_test
    assert all(y[int(r["image"])] == 1 and float(r["p_label"]) >= 0.2 for r in rows) and len(x) == 2000
    clusters = list(csv.DictReader((tmp_path / "clusters.csv").open()))
    medians = [float(c["median_T"]) for c in clusters]
    assert medians == sorted(medians, reverse=True) and sum(int(c["patches"]) for c in clusters) == 8
    assert (tmp_path / "clusters_1.png").stat().st_size > 2000

    again = (tmp_path / "patches.csv").read_bytes()
    assert mined(weights, tmp_path, "--data", "cities") == 0  # nothing is measured twice
    assert "6 of 6 images are measured already" in capsys.readouterr().out
    assert again == (tmp_path / "patches.csv").read_bytes()
    assert mined(weights, tmp_path, "--data", "cities", "--seed", "1") == 2
    assert "seed was 0, now 1" in capsys.readouterr().err

    config = tmp_path / "maps/config.json"
    config.write_bytes(config.read_bytes()[:-20])
    assert mined(weights, tmp_path, "--data", "cities") == 2  # a damaged file has a name
    assert str(config) in capsys.readouterr().err


@pytest.mark.slow
def test_without_data_it_mines_what_the_model_draws(weights, tmp_path, capsys):
    assert mined(weights, tmp_path, "--others", "0") == 0
    assert (
        "drawn by m" in capsys.readouterr().out and json.loads((tmp_path / "summary.json").read_text())["images"] == 6
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags, words",
    [
        ("--patch 29", "patch is 29"),
        ("--clusters 9", "fewer than the 9 clusters"),
        ("--t-range 0.4 0.4", "t_range"),
        ("--draws 3", "draws is 3"),
        ("--n 0", "n is 0"),
        ("--label Paris", "Paris"),
        ("--layer up.7", "layer 'up.7'"),
        ("--data digits", "wants images"),
    ],
)
def test_what_is_refused_is_refused_at_once(weights, tmp_path, capsys, flags, words):
    assert mined(weights, tmp_path / "new", *flags.split()) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_model_without_a_null_label_is_refused(weights, tmp_path, capsys):
    m = model.load(weights)
    model.save(tmp_path / "never", m, {"train": {"p_uncond": 0.0}})
    assert start.main(["mine", "--model", str(tmp_path / "never"), "--label", "0"]) == 2
    assert "never saw ∅" in capsys.readouterr().err


@pytest.mark.slow
def test_a_label_without_images_is_refused(weights, monkeypatch):
    d = sources.load("cities")
    keep = d.y_test != 1
    monkeypatch.setattr(
        sources, "load", lambda *_: dataclasses.replace(d, x_test=d.x_test[keep], y_test=d.y_test[keep])
    )
    with pytest.raises(ValueError, match=r"no test image of 'Brevik'; take another --split"):
        mine_cli.run(options.Mine("Brevik", model=str(weights), data="cities", n=6, draws=4, clusters=2, layer="up.0"))


def test_the_frame_is_around_the_patch():
    """Inside the frame of `in_place` lie the pixels of the patch, enlarged; above it in the tile the patch itself."""
    x = np.random.default_rng(0).uniform(-1, 1, (1, 8, 8, 1))
    where = Patches(np.array([[0, 2, 3]]), np.zeros(1), np.zeros(1, int))
    framed = report.in_place(x[0], 2, 3, 4, zoom=4)
    red = np.all(framed == report.FRAME, -1)
    rows, columns = np.nonzero(red)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 23, 12, 27) and red.sum() == 4 * 15
    np.testing.assert_array_equal(framed[9:23, 13:27], report.enlarge(report.rgb(x[0, 2:6, 3:7]), 4)[1:15, 1:15])
    result = Mined(where, *[np.zeros(1)] * 5, [], where)
    (tile,) = report.tiles(x, result, [0], 4)
    np.testing.assert_array_equal(tile[:32], report.enlarge(report.rgb(x[0, 2:6, 3:7]), 8))


@pytest.mark.slow
def test_blocks_get_a_page_of_shapes_that_turn(tmp_path, capsys):
    """Ten views of a style are two whole shapes; seven are one."""
    unet = dataclasses.replace(UNET, image_size=24)
    m = model.Model(
        "b", unet, build(unet)[0](jax.random.key(0)), linear(1000), blocks.CLASSES, {"schedule": {"name": "linear"}}
    )
    model.save(tmp_path / "b", m, {"train": {"p_uncond": 0.1}})
    for n, whole in ((10, 2), (7, 1)):
        out = tmp_path / str(n)
        flags = ["--model", str(tmp_path / "b"), "--data", "blocks", "--label", "Beli", "--out", str(out), *FLAGS]
        assert start.main(["mine", *flags, "--n", str(n)]) == 0
        assert f"{out / 'shapes.html'}, {whole} with all their views" in capsys.readouterr().out
        (text,) = re.findall(r'id="shapes">(.*?)</script>', (out / "shapes.html").read_text())
        assert len(json.loads(text)) == whole
