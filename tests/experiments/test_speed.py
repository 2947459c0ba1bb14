"""The benchmark's arithmetic, and that it times every layer of the network."""

import time

import pytest

from ddpm.config import UNetConfig
from ddpm.zoo import diffusers
from experiments.lab.speed import operators, parts

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
