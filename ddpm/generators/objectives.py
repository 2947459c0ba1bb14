"""The losses of the small generators, as functions of their parameters.

    ae        E ‖x - x̂‖²
    vae       -E [log p(x | z, c) - KL(q(z | x) ‖ N(0, I))],  r² learned          `generators.variational`
    gan, cgan discriminator: -E log D - E log(1 - D) + γ R1;  generator: -E log D  `generators.adversarial`
    infogan   the same, and both players raise λ L_I, the bound on I(c; x)         [Chen et al. 2016]
    acgan     the same, and both raise λ E log C(c | x), the discriminator on real and on generated images

γ and λ are `gamma` and `weight` of a recipe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ddpm.generators.adversarial import discriminator_loss, generator_loss, r1
from ddpm.generators.networks import GeneratorConfig, build
from ddpm.generators.table import ENCODED
from ddpm.generators.variational import elbo
from ddpm.tools import check

LAZY = 16  # R1 is computed at each 16th step, with 16 times its weight   [Karras et al. 2020, StyleGAN2]


def information(log_q: jax.Array, c: jax.Array) -> jax.Array:
    """L_I = E log Q(c | x) + log K ≤ I(c; x) ≤ log K for codes c drawn evenly from K values.   [InfoGAN, Eq. 5]

    log_q: (B, K) log probabilities, normalised once: a second softmax in front of the logarithm leaves at most
    1 + log K - log(e + K - 1), which is .841 of 2.303 nats at K = 10;  c: (B,) the codes that made each x  ->  ()
    """
    if log_q.ndim != 2 or c.shape != log_q.shape[:1]:
        raise ValueError(f"log_q has shape {log_q.shape} and c {c.shape}; give (B, K) and (B,)")
    return jnp.take_along_axis(log_q, c[:, None], 1).mean() + jnp.log(float(log_q.shape[1]))


def encoded_loss(config: GeneratorConfig) -> Callable[..., jax.Array]:
    """loss(params, key, x0, c) of an autoencoder or a VAE, the mean over the images; of a VAE in nats."""
    check.choice("kind", config.kind, ENCODED)
    nets = build(config)
    encode_: Any = nets.encode

    def squared(params: dict, key: jax.Array, x0: jax.Array, c: Any = None) -> jax.Array:
        m, _ = encode_(params, x0)
        return ((x0 - nets.decode(params, m)) ** 2).sum((1, 2, 3)).mean()

    def bound(params: dict, key: jax.Array, x0: jax.Array, c: Any = None) -> jax.Array:
        c = c if config.labels else None
        encode, decode = lambda x: encode_(params, x, c), lambda z: nets.decode(params, z, c)
        fit, kl = elbo(key, x0, encode, decode, jnp.exp(params["log_r2"]))
        return (kl - fit).mean()

    return squared if config.kind == "ae" else bound


def game_losses(config: GeneratorConfig, gamma: float, weight: Any) -> tuple[Callable, Callable]:
    """The losses of discriminator and generator for `players.make_step`, with R1's γ and the λ of labels or codes."""
    nets, kind = build(config), config.kind
    disc = nets.disc
    if disc is None:
        raise ValueError(f"kind {kind!r} has no discriminator; its loss is encoded_loss")

    def generated(key: jax.Array, gen: Any, n: int, c: Any) -> tuple[jax.Array, Any]:
        """n images and the labels or codes that they were asked to show; labels are those of the batch."""
        key_z, key_c = jax.random.split(key)
        if kind == "infogan":
            c = jax.random.randint(key_c, (n,), 0, config.categories)
        z = jax.random.normal(key_z, (n, config.codes))
        return nets.decode({"decoder": gen}, z, c if config.labels else None), c

    def loss_disc(params: Any, gen: Any, step: Any, key: jax.Array, x0: jax.Array, c: Any = None) -> jax.Array:
        def D(x: jax.Array, c: Any) -> tuple[jax.Array, Any]:
            return disc({"disc": params}, x, c)

        fake, asked = generated(key, gen, len(x0), c)
        (real_a, real_c), (fake_a, fake_c) = D(x0, c), D(fake, asked)
        loss = discriminator_loss(real_a, fake_a)
        if kind == "acgan":
            loss -= weight * (information(real_c, c) + information(fake_c, asked))
        if kind == "infogan":
            loss -= weight * information(fake_c, asked)
        if not gamma:
            return loss
        slope = lambda: r1(lambda x: D(x, c)[0], x0).mean()  # noqa: E731
        return loss + LAZY * gamma * jax.lax.cond(step % LAZY == 0, slope, lambda: jnp.zeros(()))

    def loss_gen(gen: Any, params: Any, key: jax.Array, x0: jax.Array, c: Any = None) -> jax.Array:
        fake, asked = generated(key, gen, len(x0), c)
        a, log_c = disc({"disc": params}, fake, asked)
        loss = generator_loss(a).mean()
        return loss - weight * information(log_c, asked) if kind in ("infogan", "acgan") else loss

    return loss_disc, loss_gen
