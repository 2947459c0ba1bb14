"""`ddpm compare`: windows, noise and spread against runs whose statistics are known."""

import dataclasses
import json

import numpy as np
import pytest

from ddpm.cli import start
from ddpm.config import unet_config
from ddpm.training import reference as compare
from ddpm.training.config import TrainConfig
from experiments.reference_runs import collect

R, S, STEPS, EVERY, WIDTH = 0.08, 0.01, 4000, 10, 100


def curve(step):
    return 0.07 + 0.9 * np.exp(-step / 100)


def run(seed, spread=S, noise=R, factor=1.0, every=EVERY):
    """Rows of a run: every step's loss is curve · (1 + seed's share) · (1 + noise)."""
    rng = np.random.default_rng(seed)
    n = np.arange(1, STEPS + 1)
    each = factor * curve(n) * (1 + spread * rng.normal()) * (1 + noise * rng.normal(size=STEPS))
    return n[every - 1 :: every], each.reshape(-1, every).mean(1)


def reference(seeds, noise=R, spread=S):
    edges = np.arange(0, STEPS + 1, WIDTH)
    means = np.stack([compare.window_means(*run(s), edges) for s in seeds])
    train = dataclasses.asdict(TrainConfig(steps=STEPS))
    return compare.Reference(
        "made", "made up", train, dataclasses.asdict(unet_config("cpu")), edges, means, noise, spread
    )


def config_of(r, **changes):
    return {"train": r.train | changes, "unet": r.unet}


def test_window_means_are_those_of_the_steps():
    each = np.random.default_rng(0).uniform(1, 2, 60)
    rows = np.array([7, 20, 25, 40, 60])  # rows of several lengths, as around checkpoints
    loss = [c.mean() for c in np.split(each, rows[:-1])]
    got = compare.window_means(rows, loss, [0, 20, 40, 60, 80])
    np.testing.assert_allclose(got, each.reshape(3, 20).mean(1))
    np.testing.assert_allclose(compare.window_means([10, 30], [1.0, 2.0], [0, 20, 30]), [1.5, 2.0])


@pytest.mark.parametrize("every", [5, 10, 50])
def test_noise_of_a_step_is_found_whatever_the_rows_hold(every):
    assert compare.step_noise(*run(0, every=every)) == pytest.approx(R, rel=0.25)


def test_spread_of_seeds_is_found_and_is_not_the_noise():
    edges = np.arange(0, STEPS + 1, WIDTH)
    for spread, low, high in ((0.02, 0.014, 0.026), (0.0, 0.0, 0.004)):
        means = np.stack([compare.window_means(*run(s, spread), edges) for s in range(24)])
        assert low <= compare.seed_spread(means, R, WIDTH) <= high


@pytest.mark.parametrize("seeds", [1, 6])
def test_the_band_holds_95_percent_of_the_windows_of_a_run_like_it(seeds):
    """Over references and runs drawn anew: both are off, and the band allows for both."""
    inside = []
    for trial in range(60):
        r = reference(range(100 * trial, 100 * trial + seeds))
        inside.append(compare.compare(*run(100 * trial + 99), config_of(r), r).inside.mean())
    assert np.mean(inside) == pytest.approx(0.954, abs=0.03)


def test_verdicts():
    r = reference(range(6))
    good = compare.compare(*run(50), config_of(r), r)
    assert "as it should be" in compare.verdict(good, r) and good.differences == ()
    seeds = S**2 * (1 + 1 / 6)  # windows average the noise away, but not what seeds differ by
    np.testing.assert_allclose(r.sigma(5) ** 2 - seeds, (r.sigma() ** 2 - seeds) / 5)
    bad = compare.compare(*run(50, factor=1.1), config_of(r), r)
    assert "above the band" in compare.verdict(bad, r) and "it learns, but worse" in compare.verdict(bad, r)
    assert bad.recent[0] == pytest.approx(np.log(1.1), abs=0.03)
    better = compare.compare(*run(50, factor=0.9), config_of(r), r)
    assert "below the band" in compare.verdict(better, r) and "better than the reference" in compare.verdict(better, r)
    step, loss = run(50)
    up = np.where(step > 3000, 2 * loss, loss)
    assert "diverging" in compare.verdict(compare.compare(step, up, config_of(r), r), r)
    assert "next to nothing" in compare.verdict(compare.compare(step, np.ones_like(loss), config_of(r), r), r)


def test_a_part_of_a_run_is_compared_with_that_part():
    r = reference(range(6))
    step, loss = run(50)
    c = compare.compare(step[:55], loss[:55], config_of(r), r)  # up to step 550: five windows are whole
    assert list(c.end) == [100, 200, 300, 400, 500]
    with pytest.raises(ValueError, match="too early: the first window of made ends at step 100"):
        compare.compare(step[:5], loss[:5], config_of(r), r)


def test_another_training_is_said_to_be_one():
    r = reference(range(6))
    c = compare.compare(*run(50), config_of(r, batch=32, schedule="linear"), r)
    assert len(c.differences) == 2 and "batch is 32, the reference's 64" in c.differences
    assert "only for orientation" in compare.verdict(c, r)
    longer = compare.compare(*run(50), config_of(r, steps=2 * STEPS), r)
    assert longer.end[-1] == STEPS / 2 and "learning rate falls" in longer.differences[0]
    free = compare.compare(*run(50), config_of(r, seed=7, log_every=3, name="x"), r)
    assert free.differences == ()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A made-up reference on disk, and a run to compare."""
    monkeypatch.setattr(compare, "FOLDER", tmp_path / "reference")
    (tmp_path / "reference").mkdir()
    r = reference(range(6))
    (tmp_path / "reference" / "made.json").write_text(json.dumps(compare.as_json(r, {})))
    (tmp_path / "run").mkdir()
    rows = "".join(f"{s},{x:.6g}\n" for s, x in zip(*run(50), strict=True))
    (tmp_path / "run" / "metrics.csv").write_text("step,loss\n" + rows)
    (tmp_path / "run" / "config.json").write_text(json.dumps(config_of(r)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_says_it_in_words_and_draws_it(folder, capsys):
    assert start.main(["compare", "run"]) == 0
    printed = capsys.readouterr().out
    assert "made up" in printed and "inside the band" in printed and "windows inside so far" in printed
    assert (folder / "out" / "compare.png").stat().st_size > 5000
    assert start.main(["compare", "run/metrics.csv", "--reference", "made"]) == 0


def test_the_command_says_what_is_missing(folder, capsys):
    assert start.main(["compare", "nothing"]) == 2 and "metrics.csv is missing" in capsys.readouterr().err
    assert start.main(["compare", "run", "--reference", "mode"]) == 2 and "made" in capsys.readouterr().err
    about = json.loads((folder / "run" / "config.json").read_text())
    about["train"]["preset"] = "large"
    (folder / "run" / "config.json").write_text(json.dumps(about))
    (folder / "run" / "baseline.json").write_text('{"linear_gaussian_loss": 0.1}')
    assert start.main(["compare", "run"]) == 0
    printed = capsys.readouterr().out
    assert (
        "no reference for fashion_mnist with preset large" in printed and "linear-Gaussian denoiser, 0.1000" in printed
    )
    assert (folder / "out" / "compare.png").stat().st_size > 5000


def test_a_loss_alone_is_compared_with_itself_and_a_gaussian():
    """Two halves of a flat loss differ by more than 2 σ about once in twenty runs; a falling and a rising one do."""
    n = np.arange(1, STEPS + 1)

    def verdict(seed, slope, base=None):
        each = 0.07 * np.exp(slope * n / STEPS) * (1 + R * np.random.default_rng(seed).normal(size=STEPS))
        return compare.alone(n[EVERY - 1 :: EVERY], each.reshape(-1, EVERY).mean(1), base)

    assert 178 <= sum("no more than its noise" in verdict(seed, 0) for seed in range(200)) <= 198
    assert "it still falls" in verdict(0, -0.6) and "it rises" in verdict(0, 0.6)
    assert "below the exact loss" in verdict(0, 0, 0.1) and "times the exact loss" in verdict(0, 0, 0.05)
    assert "cannot be said" in compare.alone(np.array([10, 20]), np.array([1.0, 0.5]))


def test_the_references_that_ship_hold_together():
    """Windows rise, losses end well below those of a network that predicts nothing, and the files say what they are."""
    for name, about in compare.references().items():
        r = compare.load(name)
        assert np.all(np.diff(r.edges) > 0) and r.loss.shape == (len(about["seeds"]), len(r.edges) - 1)
        assert np.all(r.loss > 0) and np.all(r.loss[:, -1] < 0.5)
        assert 0 < r.noise_per_step < 1 and 0 <= r.seed_spread < 0.2
        assert about["command"].startswith("ddpm train") and about["device"] and about["seed_spread_is"]


def test_windows_are_whole_rows_and_seeds_are_told_apart():
    edges = collect.window_edges(14500, 290, 60)
    assert edges[1] % 50 == 0 and edges[-1] <= 14500 and 50 <= len(edges) <= 70
    one = {"train": {"seed": 0, "lr": 1.0, "name": "a"}, "unet": {}}
    two = {"train": {"seed": 1, "lr": 1.0, "name": "b"}, "unet": {}}
    collect.same_but_for_the_seed([one, two])
    with pytest.raises(ValueError, match="the same seed twice"):
        collect.same_but_for_the_seed([one, one])
    with pytest.raises(ValueError, match="differ in lr"):
        collect.same_but_for_the_seed([one, {"train": two["train"] | {"lr": 2.0}, "unet": {}}])
