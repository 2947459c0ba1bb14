"""Each kind of bad argument is refused in one place, with its name, its value and the remedy."""

import jax
import numpy as np
import pytest

from ddpm.config import UNetConfig
from ddpm.tools import check


@pytest.mark.parametrize("times", [[5], [0, 5], [5, 5, 0], [5, 3], [5.0, 0.0], [11, 0], [[5, 0]]])
def test_only_a_list_that_falls_to_0_is_walked_down(times):
    np.testing.assert_array_equal(check.falling_to_0([10, 4, 0], 10), [10, 4, 0])
    with pytest.raises(ValueError, match=r"times is .*; give times in 0..10 that fall to 0, as make_times does"):
        check.falling_to_0(times, 10)


def test_of_a_large_array_the_first_wrong_number_is_named_with_its_place():
    a = np.zeros((30, 3))
    a[7, 2], a[9, 0] = np.inf, -1
    with pytest.raises(ValueError, match=r"^w holds inf at \(7, 2\); give a finite number in \[0, 1\]$"):
        check.number("w", a, 0, 1)
    with pytest.raises(ValueError, match=r"^w is \[0\. 2\.\]; give"):
        check.number("w", np.array([0.0, 2.0]), 0, 1)
    assert check.number("w", 0 * np.nan_to_num(a), 0, 1).shape == (30, 3)


def test_one_label_stands_for_all_only_where_it_may():
    np.testing.assert_array_equal(check.classes("c", 2, 3, one=True), [2, 2, 2])
    np.testing.assert_array_equal(check.classes("c", [0, 1], 2), [0, 1])
    for c, n, one in ((2, 3, False), ([0, 1], 3, True), ([0, -1], 2, True), ([0.0, 1.0], 2, True)):
        with pytest.raises(ValueError, match=f"c is .*; give .*{n} (whole numbers|images, as integers) >= 0"):
            check.classes("c", c, n, one=one)


def test_one_number_for_each_time_also_inside_jit():
    assert jax.jit(lambda a: check.by_time("gamma", a, 3))(np.ones(4)).shape == (4,)
    with pytest.raises(ValueError, match=r"gamma has shape \(3,\); give one number for each time 0..3: \(4,\)"):
        check.by_time("gamma", np.ones(3), 3)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("image_size", 0, "image_size is 0; give whole numbers >= 1"),
        ("channels", -8, "channels is -8"),
        ("groups", 0, "groups is 0"),
        ("multipliers", (1, 0), r"multipliers is \(1, 0\)"),
        ("multipliers", (), "give the width of each level"),
        ("num_classes", -1, "num_classes is -1; give whole numbers >= 0"),
        ("dropout", 1.0, r"dropout is 1.0; give a rate in \[0, 1\)"),
        ("dropout", float("nan"), "dropout is nan"),
        ("dtype", "float16", "Known: float32, bfloat16"),
        ("norm_eps", 1.0, r"norm_eps is 1.0; give a rate in \[0, 1\)"),
        ("channels", 33, r"channels 33 \* 1 is not divisible by groups 32"),
        ("attention", (9,), "attention at size 9 is not among"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused_by_field(field, value, words):
    good = {"image_size": 28, "multipliers": (1, 2), "attention": (14,)}
    UNetConfig(**good)
    with pytest.raises(ValueError, match=words):
        UNetConfig(**good | {field: value})
