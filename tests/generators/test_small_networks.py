"""The trained generators: networks, losses of two players, drawing, files, and the command."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ddpm import generators as gen
from ddpm.cli import generator as command
from ddpm.cli.generator_options import GeneratorCommand
from ddpm.cli.start import main
from ddpm.datasets import sources
from ddpm.generators import fitting, ring, trained

TINY = gen.GeneratorConfig("vae", 8, 1, 10, 3, 4)


def of(kind, **changes):
    return dataclasses.replace(TINY, kind=kind, **changes)


@pytest.fixture(scope="module")
def params():
    """Random numbers: nothing is compiled for them"""
    rng = np.random.default_rng(0)

    def drawn(a):
        return jnp.asarray(0.3 * rng.normal(size=a.shape), jnp.float32)

    shapes = {kind: jax.eval_shape(gen.build(of(kind)).init, jax.random.key(0)) for kind in ("vae", "cgan", "acgan")}
    return jax.tree.map(drawn, shapes)


@pytest.fixture(scope="module")
def vae(params):
    return gen.Generator(TINY, params["vae"] | {"log_r2": jnp.log(jnp.float32(0.25))}, {})


@pytest.fixture(scope="module")
def digits():
    return sources.load("digits")


# --- networks and losses ----------------------------------------------------------------------------------------------


def test_shapes_of_every_kind():
    for kind in gen.KINDS:
        size, channels = (28, 1) if kind in ("vae", "cgan") else (32, 3)
        config = gen.GeneratorConfig(kind, size, channels)
        nets, c = gen.build(config), jnp.zeros(5, jnp.int32)
        params = jax.eval_shape(nets.init, jax.random.key(0))
        z = jax.ShapeDtypeStruct((5, config.codes), jnp.float32)
        x = jax.eval_shape(lambda p, z, n=nets, c=c: n.decode(p, z, c), params, z)
        assert x.shape == (5, size, size, channels)
        if kind in gen.ENCODED:
            assert [a.shape for a in jax.eval_shape(lambda p, x, n=nets, c=c: n.encode(p, x, c), params, x)] == [
                (5, config.codes)
            ] * 2
        else:
            a, log_c = jax.eval_shape(lambda p, x, n=nets, c=c: n.disc(p, x, c), params, x)
            assert a.shape == (5,) and (log_c is None) == (kind in ("gan", "cgan"))


def test_labels_change_the_decoder_and_the_projection(params):
    nets, other = gen.build(of("cgan")), gen.build(of("acgan"))
    z, c = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32), jnp.array([1, 4])

    @jax.jit
    def both(z, c):
        x = nets.decode(params["cgan"], z, c)
        fixed = jnp.ones_like(x) / 2
        return x, nets.disc(params["cgan"], fixed, c)[0], other.disc(params["acgan"], fixed, c)[0]

    one, next_one = both(z, c), both(z, c + 1)
    assert all(float(jnp.abs(a - b).max()) > 1e-3 for a, b in zip(one[:2], next_one[:2], strict=True))
    np.testing.assert_array_equal(one[2], next_one[2])


def test_a_discriminator_judges_each_image_alone_and_sees_its_mean(params):
    """As R1 wants it; and neither a brighter batch nor more contrast is hidden by a norm."""
    disc = jax.jit(lambda x, c: gen.build(of("cgan")).disc(params["cgan"], x, c)[0])
    x, c = 0.5 * np.random.default_rng(2).normal(size=(3, 8, 8, 1)).astype(np.float32), jnp.array([1, 2, 3])
    a = disc(x, c)
    np.testing.assert_allclose(disc(np.stack([0 * x[0], x[1], 2 * x[2]]), c)[1], a[1], atol=1e-5)
    for other in (x + np.float32(0.3), 0.5 * x):
        assert float(jnp.abs(disc(other, c) - a).min()) > 1e-3


def test_the_variance_of_the_decoder_is_learned_at_its_closed_form(params):
    """L = A/(2 r²) + (D/2) log r² + KL: its first and second derivatives by log r² add up to D/2 everywhere.

    So D counts all pixels, with the sum over pixels next to the sum over codes, and the optimum is r² = A/D.
    """
    loss, x = gen.encoded_loss(TINY), jax.random.uniform(jax.random.key(3), (4, 8, 8, 1), minval=-1)
    c = jnp.arange(4)

    def of_log(log_r2):
        return loss(params["vae"] | {"log_r2": log_r2}, jax.random.key(4), x, c)

    first, second = jax.jit(lambda a: (jax.grad(of_log)(a), jax.grad(jax.grad(of_log))(a)))(jnp.float32(-0.7))
    assert float(first + second) == pytest.approx(32, rel=1e-4)


def test_information_lies_between_nothing_and_log_K():
    c = jnp.arange(40) % 10
    sure = 60.0 * jax.nn.one_hot(c, 10)
    assert float(gen.information(jax.nn.log_softmax(sure), c)) == pytest.approx(np.log(10), abs=1e-5)
    assert float(gen.information(jnp.full((40, 10), -jnp.log(10.0)), c)) == pytest.approx(0, abs=1e-5)
    twice = gen.information(jax.nn.log_softmax(jax.nn.softmax(sure)), c)
    assert float(twice) == pytest.approx(1 + np.log(10) - np.log(np.e + 9), abs=1e-5)  # .841
    with pytest.raises(ValueError, match=r"log_q has shape \(40,\)"):
        gen.information(jnp.zeros(40), c)


def test_the_category_of_an_infogan_is_further_numbers_beside_the_noise():
    """As in the paper: G(z, c) is a GAN without labels on (z, one-hot c), so that c reaches all of the first map."""
    info, plain = gen.build(of("infogan")), gen.build(of("gan", codes=TINY.codes + 10))
    params = info.init(jax.random.key(0))
    decoder = dict(params["decoder"])
    table = decoder.pop("table")
    kernel = jnp.concatenate([decoder["first"]["kernel"], table])
    beside = {"decoder": decoder | {"first": decoder["first"] | {"kernel": kernel}}}
    z, c = jax.random.normal(jax.random.key(1), (4, TINY.codes)), jnp.array([0, 3, 9, 3])
    both = plain.decode(beside, jnp.concatenate([z, jax.nn.one_hot(c, 10)], 1))
    np.testing.assert_allclose(info.decode(params, z, c), both, atol=2e-6)


def test_steps_in_turn_keep_the_circle_of_the_dirac_gan(x64):
    """p = δ_0, q = δ_θ, D = σ(ψ x): in turns the linearised step has modulus 1, at once √(1 + η²/4).

    [Mescheder et al. 2018]
    """
    eta, sgd = 0.3, optax.sgd(0.3)

    def disc(psi, theta, step, key):
        return gen.discriminator_loss(0.0 * psi[None], psi[None] * theta)

    def generator(theta, psi, key):
        return gen.generator_loss(psi[None] * theta)[0]

    step = gen.make_step(disc, generator, sgd)

    def moved(at):
        state, _ = step(gen.begin(at[1], at[0], sgd), jax.random.key(0))
        return jnp.stack([state.gen.params, state.disc.params])

    jacobian = np.asarray(jax.jacobian(moved)(jnp.zeros(2)))
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(jacobian)), 1, atol=1e-12)
    at_once = np.array([[1, eta / 2], [-eta / 2, 1]])
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(at_once)), np.sqrt(1 + eta**2 / 4))


def test_r1_comes_every_sixteenth_step_with_sixteen_times_its_weight(params):
    config, p = of("cgan"), params["cgan"]
    plain, loss_gen = gen.game_losses(config, 0.0, 1.0)
    with_r1, _ = gen.game_losses(config, 2.0, 1.0)
    x, c, key = jax.random.normal(jax.random.key(5), (4, 8, 8, 1)), jnp.arange(4), jax.random.key(6)
    disc = gen.build(config).disc

    @jax.jit
    def all_of_it(n):
        at = (p["disc"], p["decoder"], n, key, x, c)
        slope = gen.r1(lambda x: disc(p, x, c)[0], x).mean()
        return plain(*at), with_r1(*at), slope, loss_gen(p["decoder"], p["disc"], key, x, c)

    none, some, slope, of_gen = map(float, all_of_it(0))
    assert some - none == pytest.approx(16 * 2 * slope, rel=1e-3) and of_gen > 0
    assert float(all_of_it(1)[1]) == pytest.approx(none, rel=1e-6)


# --- the ring ---------------------------------------------------------------------------------------------------------


def test_the_ring_covers_itself_and_one_mode_is_one():
    x = np.asarray(ring.draw(jax.random.key(0), 20_000))
    found = ring.covered(x)
    assert found.hit == 8 and found.near == pytest.approx(1 - np.exp(-4.5), abs=3e-3)
    np.testing.assert_allclose(found.share, 1 / 8, atol=0.01)
    one = ring.covered(x[np.linalg.norm(x - [1, 0], axis=1) < 0.3])
    assert one.hit == 1 and ring.covered(0 * x).near == 0
    with pytest.raises(ValueError, match="x has shape"):
        ring.covered(x[:10])


# --- drawing and files ------------------------------------------------------------------------------------------------


def test_an_image_does_not_depend_on_its_batch_and_noise_has_variance_r2(vae):
    c = np.arange(12) % 10
    x = vae.draw(jax.random.key(0), 12, c)
    np.testing.assert_allclose(vae.draw(jax.random.key(0), 12, c, batch=5), x, atol=1e-5)
    vague = dataclasses.replace(vae, params=jax.tree.map(lambda a: 0 * a, vae.params) | {"log_r2": jnp.log(0.01)})
    noisy = vague.draw(jax.random.key(0), 12, np.zeros(12, int), noise=True)
    assert noisy.std() == pytest.approx(0.1, rel=0.15)


def test_the_bound_of_an_image_does_not_depend_on_the_others(vae):
    """Each image has its own noise: neither the size of a batch nor a place in it changes its bound."""
    x, c = np.tile(np.linspace(-1, 1, 8).reshape(1, 8, 1, 1), (4, 1, 8, 1)).astype(np.float32), np.zeros(4, np.int32)
    together, apart = (vae.bound(jax.random.key(0), x, c, 2, batch=b) for b in (4, 2))
    np.testing.assert_allclose(together, apart, rtol=1e-5)
    assert len(set(together.round(3).tolist())) == 4


def test_the_bound_rises_with_K(vae):
    x, c = np.zeros((40, 8, 8, 1), np.float32), np.arange(40) % 10
    one, many = (vae.bound(jax.random.key(0), x, c, K).mean() for K in (1, 10))
    assert one < many
    assert vae.codes(x, c).shape == (40, 3) and vae.copies(x, c).shape == x.shape


def test_what_does_not_fit_is_refused(vae, tmp_path):
    z = jnp.zeros((2, 5))
    for words, call in (
        ("k is|codes is 65", lambda: of("vae", codes=65)),  # more than the numbers of an image
        ("kind 'gann' is not known.*'gan'", lambda: of("gann")),
        ("image_size is 30", lambda: of("vae", image_size=30)),
        (r"z has shape \(2, 5\); this decoder takes codes \(B, 3\)", lambda: gen.build(TINY).decode(vae.params, z)),
        ("c is None", lambda: gen.build(TINY).decode(vae.params, z[:, :3])),
        ("2 labels in 0..9", lambda: gen.build(TINY).decode(vae.params, z[:, :3], jnp.array([0, 10]))),
        ("no distribution of codes", lambda: dataclasses.replace(vae, config=of("ae")).draw(jax.random.key(0), 4)),
        ("noise is for a vae", lambda: gen.Generator(of("gan"), {}, {}).draw(jax.random.key(0), 4, noise=True)),
        ("no encoder", lambda: gen.Generator(of("gan"), {}, {}).codes(np.zeros((1, 8, 8, 1), np.float32))),
        ("gamma is the weight of R1", lambda: gen.Recipe(gamma=1.0).of("vae")),
        ("weight is that of labels", lambda: gen.Recipe(weight=1.0).of("cgan")),
        ("steps is 0", lambda: gen.fit(TINY, gen.Recipe(steps=0), np.zeros((9, 8, 8, 1), np.uint8))),
        ("y is needed", lambda: gen.fit(TINY, gen.Recipe(), np.zeros((9, 8, 8, 1), np.uint8))),
        ("no discriminator", lambda: gen.game_losses(TINY, 1.0, 1.0)),
        ("generator 'nowhere' is not known", lambda: gen.load("nowhere")),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_files_go_and_come_back_and_a_decoder_that_does_not_fit_is_found(vae, tmp_path):
    trained.save(tmp_path / "generator", vae)
    back = trained.load(str(tmp_path))
    assert back.config == TINY and back.card["kind"] == "generator"
    jax.tree.map(np.testing.assert_array_equal, back.params, vae.params)
    other = gen.build(of("vae", codes=2)).init(jax.random.key(0))
    trained.save(tmp_path / "mixed", dataclasses.replace(vae, params=vae.params | {"decoder": other["decoder"]}))
    words = (
        r"kind vae do not fit .*first/kernel should have shape \(3, 32\), the file has \(2, 32\); .*train them again"
    )
    with pytest.raises(ValueError, match=words):
        trained.load(str(tmp_path / "mixed"))


# --- training ---------------------------------------------------------------------------------------------------------


def test_a_loss_that_explodes_is_named_with_its_step():
    """NaN, infinity and ten thousand times the first loss; what is merely large, as R1 makes it, is no divergence."""
    vae, gan = gen.Recipe(lr=0.5).of("vae"), gen.Recipe(gamma=3.0).of("cgan")
    fitting.refuse_divergence([300.0, -900.0, 2e5], 350.0, 1500, vae)
    fitting.refuse_divergence([(40.0, 1.0), (0.0, 90.0)], (1.4, 0.7), 16, gan)
    for losses, first, n, how, words in (
        ([1.0, np.nan, np.nan], 350.0, 150, vae, r"step 149: loss nan, 350 in the first step.* Lower lr \(it is 0.5\)"),
        ([1.0, np.inf], np.inf, 2, vae, "step 2: loss inf, inf in the first"),
        ([-4e6], 350.0, 50, vae, r"step 50: loss -4e\+06"),
        (
            [(1.0, 2.0), (np.nan, 0.7)],
            (1.4, 0.7),
            2,
            gan,
            r"nan \(discriminator\) and 0.7.* or raise gamma \(it is 3\)",
        ),
    ):
        with pytest.raises(RuntimeError, match=words):
            fitting.refuse_divergence(losses, first, n, how)


def test_a_training_that_diverges_ends_early_and_writes_nothing(tmp_path, capsys, monkeypatch):
    taken = []

    def step(state, key, x, c):  # in place of a network: nothing is compiled
        taken.append(1)
        return state, jnp.float32(np.nan if len(taken) > 70 else 3.0)

    monkeypatch.setattr(fitting, "first_state", lambda config, how: (None, step))
    assert main(["generator", "--kind", "ae", "--data", "digits", "--steps", "5000", "--out", str(tmp_path / "r")]) == 2
    assert "diverged in step 71: loss nan, 3 in the first step" in capsys.readouterr().err
    assert len(taken) == 100 and not (tmp_path / "r").exists()


@pytest.mark.slow
def test_the_command_trains_draws_and_draws_again(digits, tmp_path, capsys):
    g = command.run(GeneratorCommand("vae", "digits", steps=40, codes=3, width=4, out=tmp_path, n=3))
    told = capsys.readouterr().out
    assert "vae of digits" in told and "40 steps of 128" in told and "minutes of processor time" in told
    assert (tmp_path / "samples.png").stat().st_size > 1000
    card = json.loads((tmp_path / "generator.json").read_text())
    assert card["train"]["lr"] == 2e-3 and card["data"]["name"] == "digits" and len(card["classes"]) == 10
    x, c = digits.x_train[:200] / np.float32(127.5) - 1, digits.y_train[:200]
    start = gen.Generator(g.config, gen.build(g.config).init(jax.random.key(1)), {})
    assert g.bound(jax.random.key(0), x, c).mean() > start.bound(jax.random.key(0), x, c).mean() + 10
    assert main(["generator", "--trained", str(tmp_path), "--out", str(tmp_path / "again"), "--n", "3"]) == 0
    assert (tmp_path / "again" / "samples.png").exists()


def test_the_command_refuses_options_that_do_not_fit(capsys):
    for args, words in (
        (["--kind", "vae", "--gamma", "2"], "gamma is the weight of R1"),
        (["--trained", "x", "--steps", "3", "--lr", "0.1"], "--steps, --lr: this is for a training"),
        (["--data", "digits", "--codes", "65"], "codes is 65; give a whole number in 1..64"),
    ):
        assert main(["generator", *args]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.slow
def test_a_conditional_gan_of_digits_draws_the_digit_that_is_asked(digits):
    """Judged by the nearest class mean, which is right on 90 % of the test digits."""
    config = gen.GeneratorConfig("cgan", 8, 1, 10, 32, 16)
    g = gen.fit(config, gen.Recipe(steps=1200, ema=0.99), digits.x_train, digits.y_train)
    x = digits.x_train.reshape(len(digits.x_train), -1) / 127.5 - 1
    means = np.stack([x[digits.y_train == k].mean(0) for k in range(10)])
    c = np.arange(400) % 10
    made = g.draw(jax.random.key(0), 400, c).reshape(400, -1)
    guess = ((made[:, None] - means) ** 2).sum(-1).argmin(1)
    assert (guess == c).mean() > 0.7
    assert made.std(0).mean() > 0.3 * x.std(0).mean()
