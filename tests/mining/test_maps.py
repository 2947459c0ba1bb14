"""Chunked maps: the same as one measurement, and the same after a kill; damaged chunks are measured again."""

import json

import jax
import numpy as np
import pytest

from ddpm import typicality
from ddpm.contracts import Partial
from ddpm.mining import maps
from ddpm.schedule import linear

SCHEDULE = linear(50)


def gain_eps(gain, x_t, t, c):
    """Knows the noise a little, and better with the class in the left half of the image."""
    known = gain * x_t
    return known if c is None else known.at[:, :, :3].multiply(1.5)


EPS = Partial(gain_eps, jax.numpy.float32(0.4))
X = np.random.default_rng(0).uniform(-1, 1, (7, 6, 6, 1)).astype(np.float32)


def measured(folder, **change):
    o = {"draws": 12, "t_range": (0.1, 0.7), "seed": 0, "chunk": 3} | change
    how = maps.Request(typicality.Draws(o["draws"], o["t_range"]), o["seed"], o["chunk"])
    rest = {"null": o.get("null"), "report": o.get("report", lambda _: None)}
    return maps.measure(folder, o.get("eps", EPS), SCHEDULE, o.get("x0", X), 1, how, **rest)


def test_it_is_typicality_by_groups(tmp_path):
    m = measured(tmp_path / "a")
    assert m.groups.shape == (7, 6, 6, 6) and m.draws == 12
    keys = [jax.random.fold_in(jax.random.key(0), g) for g in range(6)]
    direct = [typicality.measure(EPS, SCHEDULE, X, 1, key, typicality.Draws(2)) for key in keys]
    np.testing.assert_allclose(m.groups, np.stack([T.map for T in direct], 1), atol=1e-6)
    np.testing.assert_allclose(m.value, np.mean([T.value for T in direct], 0), atol=1e-6)
    np.testing.assert_allclose(m.stderr, np.sqrt(sum(T.stderr**2 for T in direct)) / 6, rtol=1e-5)
    np.testing.assert_allclose(m.map.mean((1, 2)), m.value, atol=1e-6)


def test_a_stopped_measurement_goes_on(tmp_path, monkeypatch):
    whole = measured(tmp_path / "whole")
    calls, real = [], typicality.measure

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 9:  # in the middle of the second chunk
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(maps.typicality, "measure", counted)
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path / "b")
    assert len(list((tmp_path / "b").glob("chunk_*.npz"))) == 1
    lines = []
    again = measured(tmp_path / "b", report=lines.append)
    assert len(calls) == 9 + 2 * 6 and "3 of 7 images are measured already" in lines[0]
    np.testing.assert_array_equal(whole.groups, again.groups)
    np.testing.assert_array_equal(whole.stderr, again.stderr)
    measured(tmp_path / "b")
    assert len(calls) == 21  # nothing is left to do


def test_a_damaged_chunk_is_measured_again(tmp_path):
    whole = measured(tmp_path)
    file = tmp_path / "chunk_00001.npz"
    file.write_bytes(file.read_bytes()[:200])
    np.testing.assert_array_equal(measured(tmp_path).groups, whole.groups)
    np.savez(tmp_path / "chunk_00000.npz", groups=np.zeros((1, 2)), stderr=np.zeros(1))
    np.testing.assert_array_equal(measured(tmp_path).groups, whole.groups)


def test_a_folder_of_an_earlier_version_is_read(tmp_path, monkeypatch):
    """Its configuration and chunks, as version 0.2 wrote them; nothing is measured."""
    c = np.ones(7, np.int32)
    config = {"images": 7, "draws": 12, "t_range": [0.1, 0.7], "seed": 0, "chunk": 3}
    config |= {"data_sha256": maps.digest(X, c, []), "eps_sha256": maps.digest(EPS, SCHEDULE.beta, SCHEDULE.alpha_bar)}
    (tmp_path / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    groups = np.random.default_rng(1).normal(size=(7, 6, 6, 6)).astype(np.float32)
    for i in range(3):
        part = slice(3 * i, 3 * i + 3)
        np.savez(tmp_path / f"chunk_{i:05d}.npz", groups=groups[part], stderr=groups[part, 0, 0, 0])
    monkeypatch.setattr(maps.typicality, "measure", lambda *a, **k: pytest.fail("measured"))
    np.testing.assert_array_equal(measured(tmp_path).groups, groups)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"draws": 24}, "draws was 12, now 24"),
        ({"t_range": (0.2, 0.7)}, "t_range was"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"x0": X / 2}, "data_sha256"),
        ({"eps": Partial(gain_eps, jax.numpy.float32(0.3))}, "eps_sha256"),
        ({"null": 0}, "data_sha256"),
    ],
)
def test_another_measurement_is_refused(tmp_path, change, words):
    measured(tmp_path)
    before = {f: f.read_bytes() for f in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=words):
        measured(tmp_path, **change)
    assert before == {f: f.read_bytes() for f in tmp_path.iterdir()}


def test_the_cost_comes_before_the_work(tmp_path):
    lines = []
    measured(tmp_path, report=lines.append)
    assert "7 images x 12 draws x 2 conditions = 168 images forward" in lines[0] and "min left" in lines[1]


@pytest.mark.parametrize(
    "change, words",
    [({"draws": 1}, "draws"), ({"draws": 11}, "even"), ({"t_range": (0.3, 0.3)}, "t_range"), ({"chunk": 0}, "chunk")],
)
def test_refusals(tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        measured(tmp_path / "new", **change)
    assert not (tmp_path / "new").exists()
