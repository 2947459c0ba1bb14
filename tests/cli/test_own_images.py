"""One's own images at the command line: the same options for every command, what `ddpm info` shows, no classifier."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tyro
from PIL import Image

from ddpm.classifiers import recipes
from ddpm.cli import classifier as classifier_cli
from ddpm.cli import options, start
from ddpm.datasets import sources
from ddpm.evaluation import bits, scores
from ddpm.oracles import gaussian
from ddpm.schedule import cosine
from ddpm.tools import image_files

COMMANDS = ["train", "typicality", "mine --label 0", "evaluate", "classifier", "info"]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Two classes of 15 images of 6x6, and a broken one; the working folder is around them."""
    monkeypatch.setenv("DDPM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for k in range(2):
        (tmp_path / f"photos/c{k}").mkdir(parents=True)
        for i, x in enumerate(rng.integers(100 * k, 100 * k + 150, (15, 6, 6), dtype=np.uint8)):
            Image.fromarray(x).save(tmp_path / f"photos/c{k}/{i}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_with_data_takes_the_options_of_own_images(words, photos, monkeypatch):
    """They become part of the text of --data, which a run keeps; without them the text stays as it is."""
    seen = []
    name = {"classifier": "ClassifierCommand"}.get(words.split()[0], words.split()[0].capitalize())
    monkeypatch.setitem(start.RUN, name, "seen:append")
    monkeypatch.setattr(start.importlib, "import_module", lambda _: seen)
    for more in ([], ["--size", "4", "--fit", "pad", "--grey", "--skip-bad"]):
        assert start.main([*words.split(), "--data", "photos", *more]) == 0
    assert [c.data for c in seen] == ["photos", "photos,size=4,fit=pad,grey,skip_bad"]
    assert sources.load(seen[1].data).image_shape == (4, 4, 1)
    if words == "train":
        assert seen[1].kept().data == seen[1].data and type(seen[1].kept()).__name__ == "TrainConfig"


@pytest.mark.parametrize(
    "args, words",
    [
        (["info", "--data", "digits", "--size", "4"], "--size: this is for your own images, given by their path"),
        (["typicality", "--grey", "--skip-bad"], "--grey, --skip-bad: this is for your own images"),
        (["info", "--size", "4"], "no --data is given"),
        (["info", "--data", "photos", "--size", "0"], "size is 0; give a side of 1..4096"),
        (["info", "--data", "phots"], "data set 'phots' is not known"),
        (
            ["train", "--data", "photos"],
            "--multipliers 1 --patch 1 --attention; or bring the images to its size: --size 28 --grey",
        ),
        (["classifier", "--data", "photos"], "batch is 64; photos has 2"),
    ],
)
def test_what_is_refused(args, words, photos, capsys):
    assert start.main(args) == 2
    assert words in capsys.readouterr().err and not (photos.parent / "runs").exists()


def test_info_shows_what_was_read_and_the_exact_baseline(photos, capsys):
    """The baseline is that of `linear_loss`, which is computed with eigenvectors."""
    (photos / "c0/notes.txt").write_text("x")
    (photos / "c1/bad.png").write_bytes(b"x")
    assert start.main(["info", "--data", "photos"]) == 2 and "--skip-bad" in capsys.readouterr().err
    assert start.main(["info", "--data", "photos", "--skip-bad"]) == 0
    out = capsys.readouterr().out
    d = sources.load("photos", skip_bad=True)
    assert "has memorised them" in out and len(d.x_train) <= 36
    assert "30 images 6x6x1" in out and "c0 15, c1 15" in out and "1 .txt files" in out and "bad.png" in out
    x, schedule = d.x_train / 127.5 - 1.0, cosine(1000)
    for name, c in (("no class", None), ("class given", d.y_train)):
        loss = gaussian.linear_loss(gaussian.fit(x, c), schedule, x, c)[1:].mean()
        assert float(out.split(name)[1].split()[0]) == pytest.approx(loss, abs=6e-5)


def test_without_a_classifier_copies_are_found_by_their_pixels(photos):
    d = sources.load(str(photos))
    copies = scores.score_images(np.repeat(d.x_train[:4], 2, 0), None, d, None)
    unseen = scores.score_images(np.repeat(d.x_test, 2, 0), None, d, None)
    assert copies.keys() == unseen.keys() == {"nearest_pixels"}
    assert copies["nearest_pixels"].value == 1 and unseen["nearest_pixels"].value == 0.5
    assert copies["nearest_pixels"].detail["median_distance"] == 0


def test_evaluate_does_what_it_can_without_a_classifier(photos, capsys):
    d = sources.load(str(photos))
    image_files.save_npz(photos.parent / "x.npz", d.x_train[:8])
    assert start.main(["evaluate", "--samples", "x.npz", "--data", "photos"]) == 0
    assert "`ddpm classifier --data photos` trains one" in capsys.readouterr().out
    found = json.loads((photos.parent / "out/evaluate.json").read_text())
    assert list(found["measures"]) == ["nearest_pixels"] and found["classifier_sha256"] is None
    assert (photos.parent / "out/evaluate_neighbours.png").stat().st_size > 1000


def test_a_gaussian_that_cannot_be_fitted_is_no_reference(photos):
    d = sources.load(str(photos))
    assert bits._gaussian_reference(d, 0) == (None, "")  # fewer images than pixels
    many = dataclasses.replace(d, x_train=np.random.default_rng(0).integers(0, 256, (99, 6, 6, 1), dtype=np.uint8))
    assert np.isfinite(bits._gaussian_reference(many, 0)[0])


def test_a_classifier_of_own_images_has_their_shape_and_classes(photos):
    d = sources.load(str(photos))
    config = classifier_cli.config_of("photos", "", d)
    assert config.image_shape == d.image_shape and config.num_classes == 2
    assert classifier_cli.config_of("photos", "cosine", d).schedule == "cosine"
    assert options.ClassifierCommand(data="../my photos/,size=8").name == "my-photos_classifier"
    how = options.recipe_of(options.ClassifierCommand(data="a b,size=8", epochs=3))
    assert recipes.command_line(how) == "ddpm classifier --data 'a b,size=8' --epochs 3"
    with pytest.raises(ValueError, match="6x5, which are not square; give --size"):
        classifier_cli.config_of("photos", "", dataclasses.replace(d, x_train=d.x_train[:, :, :5]))
    with pytest.raises(ValueError, match="fewer than two classes"):
        classifier_cli.config_of("photos", "", dataclasses.replace(d, class_names=()))


def test_the_page_on_own_pictures_is_true(tmp_path, capsys):
    """Its pictures are drawn and read, its commands are understood, and few pictures are known by heart."""
    page = (Path(__file__).parents[2] / "docs" / "own_pictures.md").read_text(encoding="utf-8")
    scope = {"__name__": "page"}
    for code in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(compile(code, "own_pictures.md", "exec"), scope)
    scope["write"](tmp_path / "shapes", 30)
    data = sources.load(f"{tmp_path / 'shapes'},size=32")
    assert data.image_shape == (32, 32, 3) and data.class_names == ("cross", "disc", "square")
    ((few, fresh),) = scope["expect"]((60,), 100)
    assert few < 0.06 < 0.3 < fresh
    lines = re.findall(r"^ddpm (.*)$", page, re.M)
    for line in lines:
        tyro.cli(options.commands(), args=line.split(), config=(tyro.conf.OmitArgPrefixes,))
    assert len(lines) == 4
