"""The challenge's image track: calls are counted, distances are right, and what breaks a rule is refused."""

from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm.cli import start
from ddpm.course import challenge, entries, image_track
from ddpm.course.image_track import Rules

ENTRIES = sorted((Path(__file__).parents[2] / "docs" / "challenge" / "images").glob("*.py"))
MEANS = """
import jax.numpy as jnp
import numpy as np


def train(images, labels, seed, left):
    assert left() > 0.5
    return {"of": {"class": np.stack([images[labels == k].mean(0) for k in range(10)]) / 127.5 - 1}}


def network(params, x, c):
    return params["of"]["class"][c] + 0 * jnp.sum(x)


def sample(net, noise, labels, calls, seed):
    return net(noise, labels)
"""
NOTHING = "def network(params, x): return x\n\n\ndef sample(net, noise, labels, calls, seed): return noise\n"


def nodes_of(text):
    return entries.checked(text, "mine.py", image_track.FUNCTIONS, image_track.may_import, "…")


def images(n, seed, shape=(4, 4, 1)):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(np.uint8)


DATA = SimpleNamespace(
    x_train=images(40, 0), y_train=np.arange(40) % 10, x_test=images(20, 1), y_test=np.arange(20) % 10, sha256="tiny"
)


def test_an_entry_trains_and_draws_in_two_processes_and_a_new_sampler_is_no_new_training(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_CACHE_DIR", str(tmp_path))
    about = Rules(seed=3, minutes=0.5, n=20)
    params, seconds = image_track.trained(nodes_of(MEANS), "mine.py", DATA, about)
    drawn, labels = image_track.drawn(nodes_of(MEANS), "mine.py", params, (4, 4, 1), about)
    wanted = np.stack([DATA.x_train[DATA.y_train == k].mean(0) for k in labels])
    assert drawn.shape == (4, 20, 4, 4, 1) and np.abs(drawn - wanted).max() <= 0.51  # rounded to 8 bits
    assert sorted(labels.tolist()) == sorted(list(range(10)) * 2) and 0 <= seconds < 30

    def no_process(*_):
        raise AssertionError("a training that is kept is not made again")

    monkeypatch.setattr(entries, "answers", no_process)
    again, _ = image_track.trained(nodes_of(MEANS.replace("net(noise, labels)", "noise")), "mine.py", DATA, about)
    assert np.array_equal(again["of"]["class"], params["of"]["class"])
    with pytest.raises(AssertionError):
        image_track.trained(nodes_of(MEANS.replace("> 0.5", "> 0.4")), "mine.py", DATA, about)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("while True: pass", "seconds of processor time"),
        ("return {{'a': np.load('{secret}')}}", "open, to read outside"),
        ("return {{'a': np.zeros(1_100_000)}}", "1,100,000 parameters"),
    ],
)
def test_a_training_that_loops_reads_the_test_set_or_is_too_large_is_refused(tmp_path, monkeypatch, body, sentence):
    monkeypatch.setenv("DDPM_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(image_track, "START", 0.5)
    monkeypatch.setattr(image_track, "GRACE", 0.5)
    np.save(tmp_path / "test.npy", np.zeros(3))
    body = body.format(secret=tmp_path / "test.npy")
    train = f"import numpy as np\n\n\ndef train(images, labels, seed, left):\n    {body}\n\n\n"
    with pytest.raises(ValueError, match=sentence):
        image_track.trained(nodes_of(train + NOTHING), "mine.py", DATA, Rules(minutes=0.01))
    assert not list(tmp_path.glob("challenge-*"))


@pytest.mark.parametrize(
    ("top", "sentence"),
    [
        ("import time", "imports time; .* no clock"),
        ("from ddpm.datasets import sources", "imports ddpm.datasets.sources"),
        ("from ddpm.zoo import model", "imports ddpm.zoo.model"),
        ("from ddpm.training import run", "imports ddpm.training.run"),  # begins as `train`, which may be imported
        ("import ddpm", "imports ddpm;"),
        ("from jax.experimental import io_callback", "imports jax.experimental.io_callback"),
        ("x = open('a')", "it uses open"),
        ("# " + 20_000 * "a", "has 20,"),
    ],
)
def test_what_an_entry_may_not_contain_is_found_before_it_runs(tmp_path, top, sentence):
    file = tmp_path / "mine.py"
    file.write_text(f"{top}\n\n\ndef train(images, labels, seed, left): return {{}}\n\n\n{NOTHING}")
    with pytest.raises(ValueError, match=sentence):
        image_track.judged(file, Rules())


def test_calls_are_counted_and_the_parameters_stay_with_the_network():
    noise, labels, kept = np.ones((4, 2, 2, 1), np.float32), np.zeros(4, np.int32), []

    def network(params, x):
        kept.append(params)
        return params["w"] * x

    def run(sample, calls=2):
        return image_track.run_drawing(network, sample, {"w": np.float32(0.5)}, noise, labels, calls, 0)

    assert np.all(run(lambda net, x, c, calls, seed: net(net(x))) == round(1.25 * 127.5))  # a quarter, in 8 bits
    for sample, sentence in (
        (lambda net, x, c, calls, seed: net(net(net(x))), "more than 2 times"),
        (lambda net, x, c, calls, seed: net(np.tile(x, (2, 1, 1, 1))), "the noise's shape"),
        (lambda net, x, c, calls, seed: jax.jit(net)(jnp.asarray(x)), "not inside jit"),
        (lambda net, x, c, calls, seed: x * np.nan, "finite numbers of shape"),
    ):
        with pytest.raises(ValueError, match=sentence):
            run(sample)
    with pytest.raises(jax.errors.UnexpectedTracerError):  # what `network` saw is no array that another call could use
        run(lambda net, x, c, calls, seed: net(x) + np.asarray(kept[-1]["w"] + jnp.zeros(1)))


def test_left_is_the_share_of_processor_time_and_params_are_a_dict():
    seen = []
    image_track.run_training(lambda x, c, seed, left: seen.append(left()) or {}, None, None, 0, 1000.0)
    assert 0.99 < seen[0] <= 1
    with pytest.raises(TypeError, match="give a dict"):
        image_track.run_training(lambda x, c, seed, left: [1.0], None, None, 0, 1.0)


def test_score_is_the_mean_log_ratio_to_the_floor_and_copies_are_refused():
    """Features that are those of the training images, moved by δ, have the distance δ²."""
    noise = np.random.default_rng(0)
    x, far = images(300, 2), np.array([1.0, 2.0, 3.0, 4.0])
    f = noise.normal(size=(300, 2))
    shifts = iter(far)
    judge = SimpleNamespace(features=lambda x: f + np.array([next(shifts), 0]), predict=lambda x: np.arange(300) % 10)
    data = SimpleNamespace(x_train=x, x_test=images(300, 3), y_test=np.arange(300) % 10)
    real = SimpleNamespace(train=f, test=f + 0.5)
    drawn = np.stack([images(300, 4)] * 4)
    row = image_track.scored(drawn, (np.arange(300) % 10) // 5 * 5, data, judge, real)
    np.testing.assert_allclose(row["frechet"], far**2, rtol=1e-6)
    np.testing.assert_allclose(row["score"], np.mean(np.log(far**2 / 0.5)), rtol=1e-6)
    assert np.allclose(row["accuracy"], 0.2) and np.allclose(row["accuracy_error"], np.sqrt(0.16 / 300))
    with pytest.raises(ValueError, match="copies"):
        image_track.scored(np.stack([x] * 4), np.arange(300) % 10, data, judge, real)


def test_without_the_data_an_entry_is_one_sentence_and_the_board_stays(tmp_path, monkeypatch, capsys):
    for name in ("DDPM_DATA_DIR", "DDPM_CACHE_DIR", "HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("DDPM_OFFLINE", "1")
    board = tmp_path / "board.json"
    assert start.main(["challenge", "submit", str(ENTRIES[0]), "--board", str(board)]) == 2
    assert "fashion_mnist" in capsys.readouterr().err and not board.exists()
    for minutes in ("0", "nan", "inf"):
        assert start.main(["challenge", "run", str(ENTRIES[0]), "--minutes", minutes]) == 2
        assert "some time" in capsys.readouterr().err


def test_our_own_entries_keep_the_rules_and_their_rows_are_on_the_board(capsys):
    for file in ENTRIES:
        assert nodes_of(file.read_text())
    board = ENTRIES[0].parents[1] / "board.json"
    rows = challenge.read(board)["images"]
    assert {row["entry"] for row in rows} <= {file.stem for file in ENTRIES}
    assert all({"seed", "commit", "floor", "minutes", "seconds"} <= set(row) for row in rows)
    assert start.main(["challenge", "board", "--board", str(board)]) == 0
    assert all(row["entry"] in capsys.readouterr().out for row in rows[:1])


def test_a_shorter_training_is_not_above_a_longer_one():
    row = {"frechet": [9.0] * 4, "error": [1.0] * 4, "accuracy": [0.5] * 4, "floor": 1.0, "n": 1000}
    rows = [row | {"entry": e, "minutes": m, "score": s} for e, m, s in (("a", 2, 0.1), ("b", 10, 3), ("c", 10, 1))]
    lines = challenge.printed({"gaussian": [], "images": rows})
    assert [line.split()[0] for line in lines[1:]] == ["c", "b", "a"]


def test_the_numbers_of_the_page_are_those_of_the_board():
    folder = ENTRIES[0].parents[1]
    board, page = challenge.read(folder / "board.json"), (folder.parent / "challenge.md").read_text(encoding="utf-8")
    images = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `") and "±" in line}
    for row in board["images"]:
        three = zip(row["frechet"], row["error"], row["accuracy"], strict=True)
        cells = [*(f"{d:.0f} ± {e:.0f} ({a:.2f})" for d, e, a in three), f"{row['score']:.2f}"]
        assert images[row["entry"]].removesuffix(" |").split(" | ")[1:] == cells
    for row in board["gaussian"]:
        line = next(line for line in page.splitlines() if line.startswith(f"| `{row['entry']}`") and "±" not in line)
        cells = [f"{w:.1f}" if w > 1e-9 else "0" for w in row["w2"]]
        assert line.removesuffix(" |").split(" | ")[1:] == cells
