"""The experiments on numbers themselves: their sets are what they say, and orders are read correctly."""

from types import SimpleNamespace

import numpy as np
import pytest

from ddpm import data
from ddpm.datasets import sources
from experiments import fooled, ranking


def measured(value, error=0.01):
    return {"value": value, "interval": [value - 1.96 * error, value + 1.96 * error]}


def test_an_order_names_what_stands_against_the_list():
    found = {k: {"frechet": measured(v)} for k, v in {"a": 1.0, "b": 1.01, "c": 3.0, "d": 2.0, "e": 5.0}.items()}
    found["no such number"] = {}
    low = ranking.order(found, "frechet", higher=False)
    assert low["order"] == ["a", "b", "d", "c", "e"]
    assert low["against_the_list"] == ["d before c"] and low["within_two_standard_errors"] == ["a ~ b"]
    high = ranking.order(found, "frechet", higher=True)
    assert high["order"] == low["order"][::-1] and high["against_the_list"] == ["c before b", "e before d"]


@pytest.fixture(scope="module")
def digits():
    return sources.load("digits")


def test_the_gaussian_fit_has_the_moments_of_the_images(digits):
    """Images of correlated pixels far from black and white, where bytes cut no tail."""
    rng = np.random.default_rng(0)
    common, own = rng.normal(size=(5000, 1)), rng.normal(size=(5000, 16))
    x = data.to_uint8(0.1 + 0.15 * common + 0.1 * own).reshape(-1, 4, 4, 1)
    d = SimpleNamespace(x_train=x, image_shape=(4, 4, 1))
    drawn = data.to_float(fooled.gaussian(d, 20_000, 0)).reshape(-1, 16)
    flat = data.to_float(x).reshape(-1, 16)
    np.testing.assert_allclose(drawn.mean(0), flat.mean(0), atol=0.006)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(flat.T), atol=0.002)
    assert fooled.noise(digits, 5, 0).std() > 60


def test_whitened_pixels_have_unit_covariance_and_known_distances(digits, monkeypatch):
    monkeypatch.setattr(fooled, "COMPONENTS", 20)
    pixels = fooled.Pixels(digits.x_train)
    np.testing.assert_allclose(pixels.train.cov, np.eye(20), atol=2e-3)
    assert pixels.distance(digits.x_train) == pytest.approx(0, abs=1e-5)
    mean = data.to_float(digits.x_train).mean(0)
    assert pixels.distance(np.repeat(mean[None], 10, 0)) == pytest.approx(20, rel=2e-3)  # tr I and no variance
    noise = np.random.default_rng(0).normal(size=(20_000, 64)).astype(np.float32)
    assert pixels.distance(noise) == pytest.approx(pixels.of_noise(), rel=0.02)


def test_a_table_is_drawn_with_what_is_missing():
    row = {"frechet": measured(1.0) | {"as_good_as_test": True, "test": 1.0}}
    figure = fooled.table_figure({"a": row, "b": {}}, "title")
    assert len(figure.axes[0].patches) == 2 * len(fooled.COLUMNS)
