"""`ddpm evaluate`: one table, one JSON, one picture; results that are kept; Inception through a library."""

import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ddpm.classifiers import classifier as cl
from ddpm.classifiers import convnet
from ddpm.classifiers import fitting as ct
from ddpm.classifiers import recipes as cc
from ddpm.cli import evaluate as evaluate_cli
from ddpm.cli import options, start
from ddpm.datasets import sources
from ddpm.evaluation import inception, measure, scores
from ddpm.evaluation import model as ev
from ddpm.schedule import cosine
from ddpm.tools import cache, image_files


@pytest.fixture(scope="module")
def digits():
    return sources.load("digits")


@pytest.fixture(scope="module")
def judge(digits):
    """A classifier of two epochs."""
    config = convnet.ClassifierConfig(8, 1, widths=(8,), features=8, mirror=False)
    how = cc.ClassifierTrainConfig(data="digits", epochs=2, batch=64, lr=0.1, shift=0, flip=False, erase=0)
    return ct.train(config, how, digits.x_train, digits.y_train)


@pytest.fixture
def judged(digits, judge, tmp_path, monkeypatch):
    """An `ddpm evaluate --samples` of 100 test digits, with a classifier of its own."""
    monkeypatch.setenv("DDPM_CACHE_DIR", str(tmp_path / "cache"))
    cl.save(tmp_path / "judge", judge)
    image_files.save_npz(tmp_path / "x.npz", digits.x_test[:100], digits.y_test[:100].astype(int))
    return options.Evaluate(
        samples=tmp_path / "x.npz", data="digits", classifier=str(tmp_path / "judge"), out=tmp_path / "out" / "e.json"
    )


@pytest.mark.slow
def test_samples_are_scored_once(judged, capsys, monkeypatch):
    evaluate_cli.run(judged)
    first = capsys.readouterr().out
    folder = judged.out.parent
    assert {p.name for p in folder.iterdir()} == {"e.json", "e.png", "e_neighbours.png"}
    numbers = json.loads(judged.out.read_text())
    assert numbers["measures"]["frechet"]["n"] == 100 and len(numbers["samples_sha256"]) == 64
    monkeypatch.setattr(scores, "_frechet", lambda *a: pytest.fail("measured again"))
    evaluate_cli.run(judged)
    second = capsys.readouterr().out
    assert "known:" in second and first.splitlines()[0] in second
    again = json.loads(judged.out.read_text())
    assert again["measures"] == numbers["measures"]


def test_other_images_or_seeds_or_no_cache_are_measured(judged, digits, monkeypatch):
    evaluate_cli.run(judged)
    image_files.save_npz(judged.samples, digits.x_test[100:200], digits.y_test[100:200].astype(int))
    monkeypatch.setattr(scores, "_frechet", lambda *a: (_ for _ in ()).throw(InterruptedError("measured")))
    for changed in (judged, dataclasses.replace(judged, seed=1), dataclasses.replace(judged, cache=False)):
        with pytest.raises(InterruptedError, match="measured"):
            evaluate_cli.run(changed)


def test_a_damaged_result_is_measured_again(judged, tmp_path):
    evaluate_cli.run(judged)
    (kept,) = (tmp_path / "cache").glob("evaluation-*.json")
    whole = kept.read_text()
    kept.write_text(whole[:100])
    evaluate_cli.run(judged)
    assert json.loads(kept.read_text()) == json.loads(whole)


def test_samples_that_cannot_be_scored_are_refused_by_name(judged, digits, tmp_path, capsys):
    x = digits.x_test[:40]
    names = np.array(["a"] * 40)
    cases = {
        "float.npz": ({"arr_0": x / 255.0}, "arr_0 has type float64"),
        "names.npz": ({"arr_0": x, "arr_1": names}, "arr_1 has type <U1; labels are the numbers"),
        "many.npz": ({"arr_0": x, "arr_1": np.arange(40)}, "in 0..9"),
    }
    for name, (arrays, _) in cases.items():
        np.savez(tmp_path / name, **arrays)
    np.save(tmp_path / "x.npy", x)
    for name, words in {**{k: v[1] for k, v in cases.items()}, "x.npy": "is a .npy file"}.items():
        args = ["--data", "digits", "--classifier", judged.classifier, "--out", str(judged.out)]
        assert start.main(["evaluate", "--samples", str(tmp_path / name), *args]) == 2
        printed = capsys.readouterr().err
        assert words in printed and printed.startswith("ddpm: ") and not judged.out.parent.exists()


def test_a_classifier_of_other_images_is_refused_before_anything_is_read_or_drawn(judged, capsys, monkeypatch):
    for name in ("from_files", "from_model"):
        monkeypatch.setattr(evaluate_cli, name, lambda *a: pytest.fail("went on"))
    args = ["--data", "digits", "--classifier", "fashion_mnist", "--out", str(judged.out)]
    for source in (["--samples", str(judged.samples)], ["--model", "fashion_mnist"]):
        assert start.main(["evaluate", *source, *args]) == 2
        printed = capsys.readouterr().err
        assert "(28, 28, 1) of 10 classes; digits has (8, 8, 1) of 10" in printed and "--classifier" in printed


# --- the cache --------------------------------------------------------------------------------------------------------


def test_a_flipped_bit_in_a_kept_result_is_never_believed(tmp_path):
    path, value = tmp_path / "e.json", {"eps": {"value": 0.125, "interval": [0.1, 0.25], "detail": {"n": 3}}}
    cache.write(path, value)
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert cache.read(path) is None
    path.write_bytes(whole)
    assert cache.read(path) == value and cache.read(tmp_path / "none.json") is None


def test_a_flipped_bit_in_kept_samples_is_never_believed(tmp_path, monkeypatch):
    """Whatever comes back is what was drawn, labels too; what is damaged is drawn again."""
    monkeypatch.setenv("DDPM_CACHE_DIR", str(tmp_path))
    rng, again = np.random.default_rng(0), []
    x = rng.uniform(-1, 1, (6, 2, 2, 1))
    monkeypatch.setattr(ev, "generate", lambda *a: again.append(1) or x)
    m = SimpleNamespace(card={"sha256": "a"}, num_classes=3, image_shape=(2, 2, 1), eps=None, schedule=cosine(60))
    drawn = ev.drawn(m, 6)
    (file,) = tmp_path.glob("samples-*.npz")
    whole = file.read_bytes()
    np.testing.assert_array_equal(ev.drawn(m, 6)[1], [0, 1, 2, 0, 1, 2])
    assert len(again) == 1
    for byte in range(len(whole)):
        flipped = bytearray(whole)
        flipped[byte] ^= 1 << rng.integers(8)
        file.write_bytes(flipped)
        for a, b in zip(ev.drawn(m, 6), drawn, strict=True):
            np.testing.assert_array_equal(a, b)
    assert len(again) > len(whole) / 2


def test_a_result_of_an_earlier_version_has_no_digest_and_is_read(tmp_path):
    measures = {"eps_mse": measure.Measure("ε-MSE", 0.5, 0.1, 3, "draws")}
    (tmp_path / "old.json").write_text(json.dumps(measure.as_json(measures)), encoding="utf-8")
    found = evaluate_cli.kept(tmp_path / "old.json")
    assert found["eps_mse"].value == 0.5 and found["eps_mse"].low_high == measures["eps_mse"].low_high


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    cache.write(tmp_path / "file" / "x.json", 1)
    assert "could not keep" in capsys.readouterr().err


def test_keys_depend_on_every_part_and_not_on_the_order_of_dicts():
    assert cache.key("a", {"x": 1, "y": 2}) == cache.key("a", {"y": 2, "x": 1})
    keys = {cache.key("a", 1), cache.key("a", 2), cache.key("b", 1), cache.key("a1"), cache.key("a", "1"), cache.key()}
    assert len(keys) == 6
    assert cache.code(cache) != cache.code(cache, image_files) and cache.code(cache) == cache.code(cache)


# --- Inception --------------------------------------------------------------------------------------------------------


def test_without_the_library_it_says_what_is_missing(digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(RuntimeError, match=r"pip install torch-fidelity.*downloads"):
        inception.measures(digits.x_test, digits)


def test_the_library_gets_folders_of_colour_images(digits, monkeypatch):
    seen = []

    def calculate_metrics(**how):
        x, n = image_files.load_png(how["input1"]), len(list(Path(how["input2"]).iterdir()))
        seen.append((how["input1"].split("/")[-1], x.shape, n))
        assert np.all(x[..., 0] == x[..., 2]) or x.shape[-1] == 1
        return {
            "frechet_inception_distance": 10.0 * len(seen),
            "kernel_inception_distance_mean": 0.5,
            "kernel_inception_distance_std": 0.1,
        }

    monkeypatch.setitem(sys.modules, "torch_fidelity", SimpleNamespace(calculate_metrics=calculate_metrics))
    m = inception.measures(digits.x_train[:50], digits, of="mine", n_train=200)
    assert seen == [("samples", (50, 8, 8, 3), 200), ("test", (50, 8, 8, 3), 200)]
    assert m["inception_fid"].value == 10.0 and m["inception_fid"].reference == 20.0
    assert m["inception_kid"].standard_error == pytest.approx(0.01)

    def offline(**how):
        raise OSError("no route to host")

    monkeypatch.setitem(sys.modules, "torch_fidelity", SimpleNamespace(calculate_metrics=offline))
    with pytest.raises(RuntimeError, match="no route to host"):
        inception.measures(digits.x_train[:50], digits, n_train=200)


def test_a_certificate_is_written_and_verified(judged, digits, capsys):
    """Equal for these images; other images, and a number that was changed and signed again, are refused."""
    from ddpm.evaluation import certificate
    from ddpm.tools import files

    file = judged.out.with_name("c.html")
    evaluate_cli.run(dataclasses.replace(judged, certificate=file))
    arguments = ["certificate", "verify", str(file), "--samples", str(judged.samples)]
    assert start.main(arguments) == 0 and "equal: " in capsys.readouterr().out
    made = certificate.read(file)
    assert made["network"]["sha256"] and made["measures"]["frechet"]["floor"]["value"] > 0
    made["measures"]["frechet"]["value"] *= 0.9
    certificate.write(file, files.signed(made))
    assert start.main(arguments) == 2 and "Fréchet distance is" in capsys.readouterr().err
    image_files.save_npz(judged.samples, digits.x_test[100:200], digits.y_test[100:200].astype(int))
    assert start.main(arguments) == 2 and "are other images" in capsys.readouterr().err


def test_a_certificate_needs_samples_and_a_name_that_says_its_form(judged, capsys):
    with pytest.raises(ValueError, match="give them by --samples"):
        evaluate_cli.run(dataclasses.replace(judged, samples=None, certificate=judged.out))
    with pytest.raises(ValueError, match=r"ends in \.json or \.html"):
        evaluate_cli.run(dataclasses.replace(judged, certificate=judged.out.with_suffix(".txt")))
