"""t* and rank of the Gaussian above it: exact on models whose network adds nothing to a Gaussian."""

import json

import jax
import numpy as np
import pytest

from ddpm import data, weights
from ddpm.config import UNetConfig
from ddpm.datasets import sources
from ddpm.network import build
from ddpm.networks.skip import make_prior
from ddpm.oracles import low_rank
from ddpm.schedule import cosine
from ddpm.zoo import model
from experiments import gaussian_interval
from experiments.lab import runner

TINY = UNetConfig(
    8, 1, channels=8, multipliers=(1,), blocks=1, attention=(), groups=4, num_classes=10, extra_channels=1
)
CHAIN, TIMES = cosine(1000), [300, 600, 900]


@pytest.fixture(scope="module")
def digits():
    d = sources.load("digits")
    return np.asarray(data.to_float(d.x_train)), d.y_train


@pytest.fixture(scope="module")
def untrained(digits):
    """A network whose output is still 0: its denoiser is that of the Gaussian of rank 4 which it continues."""
    card = {"schedule": {"name": "cosine", "T": 1000}, "predict": "gaussian", "train": {"data": "digits"}}
    card |= {"drawing": {"guidance": 2.0, "gaussian_above": 750}}
    prior = make_prior(low_rank.fit(*digits, rank=4).half(), CHAIN)
    return model.Model("m", TINY, build(TINY)[0](jax.random.key(0)), CHAIN, tuple("0123456789"), card, prior)


def test_the_loss_of_another_gaussian_is_found_with_a_smaller_error(untrained, digits):
    """The network is a Gaussian of rank 4, whose loss is known; it is compared with one of rank 6 on equal noise."""
    (x, c), six = digits, low_rank.fit(*digits, rank=6)
    found = gaussian_interval.errors(untrained, six, x[:400], c[:400], TIMES, batch=150)
    value, error = found.loss(six.loss_on(CHAIN, x[:400], c[:400])[TIMES])
    exact = untrained.prior.gaussian.loss_on(CHAIN, x[:400], c[:400])[TIMES]
    np.testing.assert_array_less(np.abs(value - exact), 5 * error)
    assert (error < 0.6 * found.network.std(1) / 20).all()


def test_fewer_directions_are_those_of_a_smaller_fit(digits):
    """Principal directions are nested, and what is left out keeps its variance."""
    many, few = (low_rank.fit(*digits, rank=rank) for rank in (9, 4))
    cut = gaussian_interval.truncated(many, 4)
    assert cut.var.shape == few.var.shape and cut.basis.shape == few.basis.shape
    np.testing.assert_allclose(cut.loss(CHAIN), few.loss(CHAIN), rtol=1e-4)
    np.testing.assert_allclose(cut.loss_on(CHAIN, *digits)[1:], few.loss_on(CHAIN, *digits)[1:], rtol=1e-4)
    total = [np.asarray(g.var.sum(1) + (64 - g.var.shape[1]) * g.rest) for g in (many, cut)]
    np.testing.assert_allclose(*total, rtol=1e-5)


def test_a_gaussian_takes_over_where_the_ratio_stays_above_one():
    """exp(a (t - 700)) crosses 1 at 700, wherever it is measured; a dip at 500 does not count as a crossing."""
    times = [500, 600, 690, 780, 900]
    ratio = np.exp(0.003 * (np.array(times) - 700.0))
    assert gaussian_interval.crossing(times, ratio) == pytest.approx(700)
    assert gaussian_interval.crossing(times, [1.1, *ratio[1:]]) == pytest.approx(700)
    assert gaussian_interval.crossing(times, ratio + 1) == 500 and gaussian_interval.crossing(times, ratio / 9) is None


def test_each_value_of_t_star_draws_by_other_times():
    """Between two of them, and between the last and T, there is a time of the walk."""
    config = gaussian_interval.Config()
    walk = np.array(config.walk)
    above = sorted({cell.above for cell in gaussian_interval.cells(config, 1000, 64)})
    assert above[-1] == 1000 and len({(walk > t).sum() for t in above}) == len(above)
    twice = [cell for cell in gaussian_interval.cells(config, 1000, 64) if cell.seeds == 2]
    assert {cell.above for cell in twice} == set(config.twice) and {cell.rank for cell in twice} == {64, 256}


def test_the_card_has_a_t_star_that_none_is_better_than():
    """As was measured, with its rank and beyond twice the error; and the loss crosses where it does on test images."""
    numbers = json.loads((runner.RESULTS / "gaussian_interval" / "metrics.json").read_text())["numbers"]
    drawing, card = weights.cards()["cifar10"]["drawing"], numbers["card"]
    assert (drawing["gaussian_above"], drawing["guidance"]) == (card["above"], card["guidance"])
    cells = [k for k in numbers["cells"] if k["rank"] == card["rank"] and k["above"] != card["above"]]
    assert all(k["further"] > -2 * k["further_error"] for k in cells)
    assert next(k for k in cells if k["above"] == card["T"])["further"] > 3
    held, test = (numbers["losses"][of]["ends"][f"class, rank {card['rank']}"] for of in ("held-out", "test"))
    assert abs(held - test) < 1 and min(held, test) > 900


@pytest.mark.slow
def test_where_the_network_adds_nothing_no_t_star_is_better(untrained, tmp_path, monkeypatch):
    """The quick form on digits: with the rank that the network continues, every t* draws the same images."""
    monkeypatch.setenv("DDPM_CACHE_DIR", str(tmp_path / "cache"))
    model.save(tmp_path / "m", untrained, {"train": {"data": "digits"}})
    changes = [f"model={tmp_path / 'm'}", "above=(600, 750)", "drawn=(2, 4)"]
    folder = runner.make("gaussian_interval", changes, quick=True, out=tmp_path)
    assert (folder / "figure.png").stat().st_size > 5000
    cells = json.loads((folder / "metrics.json").read_text())["numbers"]["cells"]
    own, other = ([k for k in cells if k["rank"] == rank] for rank in (4, 2))
    assert {k["above"] for k in own} == {600, 750, 1000} and all(abs(k["further"]) < 1e-3 * k["frechet"] for k in own)
    assert all(abs(k["further"]) > 1e-3 * k["frechet"] for k in other)
