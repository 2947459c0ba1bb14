"""The benchmark's arithmetic, and that it times every layer of the network."""

import math
import time

import jax
import numpy as np
import pytest

from ddpm.config import UNetConfig, unet_config
from ddpm.networks.inspect import param_shapes
from ddpm.tools import layers, ops
from ddpm.tools.files import flatten
from ddpm.zoo import diffusers
from experiments.lab.speed import forms, operators, parts, turns

TINY = UNetConfig(8, 1, channels=8, multipliers=(1, 2), blocks=2, attention=(4,), groups=4)


def test_ratios_are_taken_inside_each_round():
    """A machine that slows down threefold in the second half does not change them."""
    ours, peer = [1.0, 1.0, 3.0, 3.0], [0.5, 0.5, 1.5, 1.5]
    result = parts.compared({"ddpm": ours, "diffusers": peer, "other": ours})
    assert result["ratio"] == 0.5 and result["ratio_diffusers_quartiles"] == [0.5, 0.5]
    low, high = parts.compared({"ddpm": [1.0, 3.0]})["ddpm_quartiles"]
    assert 1 <= low <= high <= 3  # two rounds have no quartiles beyond themselves
    assert result["ratio_other"] == 1.0 and result["ddpm_seconds"] == 2.0


def test_sides_take_turns_and_the_first_round_does_not_count():
    order = []
    times = parts.rounds_of(3, {"a": lambda: order.append("a"), "b": lambda: (order.append("b"), time.sleep(0.01))})
    assert "".join(order) == "ab" * 4 and [len(v) for v in times.values()] == [3, 3]
    assert min(times["b"]) >= 0.01


def test_every_layer_of_the_network_is_timed():
    pytest.importorskip("torch", reason="needs PyTorch (pip install torch diffusers)")
    pytest.importorskip("diffusers", reason="needs diffusers (pip install torch diffusers)")
    found = operators.layers(TINY, 2)
    names = [peer for peer, shape in diffusers.layouts(TINY).values() if peer.endswith("weight")]
    shapes = {peer: shape for peer, shape in diffusers.layouts(TINY).values()}
    convs = [n for n in names if len(shapes[n]) == 4]
    assert sum(v for (kind, *_), v in found.items() if kind == "conv") == len(convs)
    assert sum(v for (kind, *_), v in found.items() if kind == "norm") == sum("norm" in n for n in names)
    assert sum(v for (kind, *_), v in found.items() if kind == "attention") == sum("to_q.weight" in n for n in names)
    weights = sum(v * c * o * k * k for (kind, *s), v in found.items() if kind == "conv" for _, c, o, k, _ in [s])
    assert weights == sum(shapes[n][0] * shapes[n][1] * shapes[n][2] * shapes[n][3] for n in convs)


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


FORMS = {
    "im2col": forms.im2col,
    "nine products": forms.nine_products,
    "Winograd": lambda x, w: forms.winograd(x, forms.winograd_kernel(w)),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_a_convolution_is_the_convolution(form):
    """Also on sides that are odd, and that differ."""
    x, w = drawn(2, 5, 4, 3), drawn(3, 3, 3, 2, seed=1)
    np.testing.assert_allclose(jax.jit(form)(x, w), ops.conv(x, w), atol=1e-5)


@pytest.mark.parametrize("form", [forms.norm_folded, forms.norm_two_sums])
def test_every_form_of_the_norm_is_the_norm(form):
    x, scale, bias = 2 + drawn(2, 3, 4, 6), drawn(6, seed=1), drawn(6, seed=2)
    want = ops.group_norm(x, scale, bias, 3)
    np.testing.assert_allclose(jax.jit(form, static_argnums=3)(x, scale, bias, 3), want, atol=1e-5)


def test_the_census_has_every_kernel_and_every_norm_before_a_silu():
    """The numbers of the kernels and scales, counted in the parameters; and our operators are in their places again."""
    unet = unet_config("digits")
    before = layers.conv, layers.group_norm
    found = forms.census(unet)
    assert (layers.conv, layers.group_norm) == before
    shapes = {k: a.shape for k, a in flatten(param_shapes(unet)).items()}
    kernels = sum(math.prod(s) for k, s in shapes.items() if len(s) == 4 and "samplers" not in k)
    scales = sum(s[0] for k, s in shapes.items() if k.endswith("scale") and "group_norm" not in k)
    assert sum(n * i * o * k * k for (kind, *s), n in found.items() if kind == "conv" for _, i, o, k in [s]) == kernels
    assert sum(n * s[1] for (kind, *s), n in found.items() if kind == "norm") == scales
    assert sum(n for (kind, *_), n in found.items() if kind == "attention") == sum("to_q/bias" in k for k in shapes)
    assert sum(n for (kind, *_), n in found.items() if kind == "up") == sum("upsamplers" in k for k in shapes) / 2


def test_processes_take_turns_forth_and_back():
    asked = []

    class Fake:
        def __init__(self, slow):
            self.slow = slow

        def time(self, side):
            asked.append(side)
            return self.slow * len(asked), 1.0

    workers = {"a": Fake(1.0), "b": Fake(2.0)}
    times = turns.rounds_of(workers, [("x", "a", "x"), ("y", "b", "y")], 2)
    assert asked == ["x", "y", "y", "x"] and times["x"] == [(1.0, 1.0), (4.0, 1.0)]
    assert turns.share(times, "y", "x") == (2.75, 1.25 / 2)  # 4/1 and 6/4: each in its round


def test_a_process_builds_its_job_and_times_what_it_is_told(capsys):
    calls = []
    lines = iter(['{"least": 0.0}', '"side"', '"side"'])
    turns.serve(lambda job: ({"side": lambda: calls.append(job)}, "about"), lines)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == '{"sides": ["side"], "about": "about"}' and len(said) == 3 and len(calls) == 4
