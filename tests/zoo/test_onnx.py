"""The ONNX graph gives JAX's answer in onnxruntime, and says what a sampler needs."""

import dataclasses
import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from test_interop import TINY, random_model, run

from ddpm.cli import start
from ddpm.zoo import model, onnx_graph

VARIANTS = [
    ({}, 1),
    ({"patch": 2, "image_size": 16, "image_channels": 3, "num_classes": 0, "learned_variance": True}, 0),
    ({"scale_shift": True, "multipliers": (2, 1), "attention": (8, 4), "image_size": 7, "image_width": 5,
      "head_width": 2, "middle_groups": 2, "norm_eps": 1e-3, "time_shift": 0, "symmetric": True}, 1),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant, first_time", VARIANTS, ids=["classes", "patch, times from 0", "film, odd sizes, heads"]
)
def test_onnxruntime_gives_the_answer_of_jax(variant, first_time):
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime (pip install onnx onnxruntime)")
    pytest.importorskip("onnx", reason="needs onnx (pip install onnx onnxruntime)")
    m = random_model(dataclasses.replace(TINY, **variant), size=0.1)
    m = dataclasses.replace(m, card=m.card | {"first_time": first_time})
    session = runtime.InferenceSession(onnx_graph.to_onnx(m))
    x = np.random.default_rng(1).normal(size=(3, *m.image_shape)).astype(np.float32)
    t, c = np.array([1, 400, 1000]), np.array([0, 2, 3])
    want = run(m, x, t, jnp.asarray(c) if m.num_classes else None)
    assert np.abs(want).max() > 0.5
    for B in (3, 1):  # which is free in the graph
        (got,) = session.run(["eps"], {"x_t": x[:B], "t": t[:B]} | ({"c": c[:B]} if m.num_classes else {}))
        np.testing.assert_allclose(got, want[:B], atol=2e-5)
    about = session.get_modelmeta().custom_metadata_map
    np.testing.assert_array_equal(np.float32(json.loads(about["alpha_bar"])), m.schedule.alpha_bar)
    assert about["predict"] == "eps" and json.loads(about["classes"]) == list(m.classes)


def test_the_command_writes_one_new_file(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnx", reason="needs onnx (pip install onnx onnxruntime)")
    monkeypatch.chdir(tmp_path)
    m = random_model(dataclasses.replace(TINY, num_classes=0))
    model.save("boot", m, m.card)
    assert start.main(["export", "boot", "--to", "onnx"]) == 0
    assert "x_t (B, 8, 8, 1) float32, t (B,) int64 in 1…T." in capsys.readouterr().out
    assert (tmp_path / "out" / "boot.onnx").stat().st_size > 10_000
    assert start.main(["export", "boot", "--to", "out/boot.onnx"]) == 2
    assert "out/boot.onnx is there already" in capsys.readouterr().err


def test_what_cannot_be_exported_is_refused_in_one_sentence(monkeypatch):
    m = random_model(TINY)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match="pip install onnx"):
        onnx_graph.to_onnx(m)
    monkeypatch.undo()
    pytest.importorskip("onnx", reason="needs onnx (pip install onnx onnxruntime)")
    with pytest.raises(ValueError, match="predicts 'gaussian'"):
        onnx_graph.to_onnx(dataclasses.replace(m, card=m.card | {"predict": "gaussian"}))
