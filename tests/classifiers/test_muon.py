"""Muon: directions are kept, singular values made equal; nothing else is touched."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm.classifiers import classifier as cl
from ddpm.classifiers import convnet
from ddpm.classifiers import fitting as ct
from ddpm.classifiers import recipes as cc
from ddpm.classifiers.optimiser import muon, orthogonal, unit_kernels
from ddpm.datasets import sources


@pytest.mark.parametrize("shape", [(3, 3, 4, 20), (3, 3, 2, 5), (7, 7)])
def test_singular_vectors_stay_and_values_become_alike(shape):
    G = jax.random.normal(jax.random.key(0), shape)
    matrix = np.asarray(G).reshape(-1, shape[-1])
    U, _, Vt = np.linalg.svd(matrix, full_matrices=False)
    inner = U.T @ np.asarray(orthogonal(G, 5)).reshape(matrix.shape) @ Vt.T  # diagonal where the vectors are the same
    np.testing.assert_allclose(inner, np.diag(np.diag(inner)), atol=1e-3)
    assert np.all((np.diag(inner) > 0.3) & (np.diag(inner) < 1.3))


def test_the_size_of_the_gradient_does_not_matter():
    G = jax.random.normal(jax.random.key(1), (3, 3, 4, 6))
    np.testing.assert_allclose(orthogonal(1e3 * G), orthogonal(G), atol=1e-4)
    np.testing.assert_allclose(orthogonal(-G), -orthogonal(G), atol=1e-6)


def test_its_momentum_is_nesterovs():
    """Two steps of the same gradient: directions orth(G + βG), then orth(G + β(G + βG)): all the same one."""
    G, tx = {"a": jax.random.normal(jax.random.key(2), (3, 3, 2, 4))}, muon(0.5, 0.6)
    state = tx.init(G)
    for _ in range(2):
        update, state = tx.update(G, state, G)
        np.testing.assert_allclose(update["a"], -0.5 * orthogonal(G["a"]), atol=1e-4)
    update, _ = tx.update({"a": jnp.zeros_like(G["a"])}, state, G)  # without a gradient it goes on
    np.testing.assert_allclose(update["a"], -0.5 * orthogonal(G["a"]), atol=1e-4)


def test_only_kernels_of_convolutions_get_the_norm():
    params = {"k": 7 * jnp.ones((3, 3, 2, 9)), "head": 7 * jnp.ones((4, 2)), "b": 7 * jnp.ones(3)}
    unit = unit_kernels(params)
    assert float(jnp.linalg.norm(unit["k"])) == pytest.approx(3)
    assert unit["head"] is params["head"] and unit["b"] is params["b"]


@pytest.mark.slow
def test_it_learns_the_digits_in_few_passes():
    d, config = sources.load("digits"), convnet.ClassifierConfig(8, 1, widths=(16, 32), mirror=False)
    how = dataclasses.replace(cc.default_recipe("digits"), epochs=6, ema=0.9, muon=0.24, momentum=0.85, lr=0.3)
    made = ct.train(config, how, d.x_train, d.y_train)
    assert cl.accuracy(made, d.x_test, d.y_test)["accuracy"] > 0.9
    assert cc.default_recipe("cifar10", "cosine").muon == 0
