"""Few-step losses as trainings: what they are at the exact solution, what is refused, and runs that draw."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import config, flows, oracle
from ddpm.config import UNetConfig
from ddpm.contracts import Partial
from ddpm.flows import own_sampling, paths, steps
from ddpm.flows.own_sampling import FewStepsCard
from ddpm.guide import cfg
from ddpm.networks import dit, numbers
from ddpm.networks.dit_config import DiTConfig
from ddpm.sample import ddim_step, walk
from ddpm.schedule import cosine, make_times
from ddpm.tools import ops
from ddpm.training import few_steps, run, step
from ddpm.training.config import TrainConfig
from ddpm.zoo import model

LINEAR, T, LAM = paths.make_path("linear"), 1000, 0.25
CHAIN = paths.make_chain("linear_path", T)
TINY = UNetConfig(8, 1, channels=8, multipliers=(1,), blocks=1, attention=(), groups=4, num_classes=10)
FLOW = {"predict": "flow", "path": "linear"}
# Four pairs with the moments of (x0, ε), by which the mean square of anything linear in the two is exact
X0, N = (np.array(a, np.float32)[:, None] for a in (np.sqrt(LAM) * np.array([1, 1, -1, -1]), [1, -1, 1, -1]))


def in_the_chain(f):
    """A function of the linear path's own x and τ as a network, which is given x/c and t."""

    def net(x_t, t, c=None):
        tau = jnp.asarray(t) * paths.LAST / T
        return f(x_t * steps.unit(tau, x_t), tau, c)

    return net


EXACT = flows.exact_velocity(oracle.gaussian([0.0], LAM), LINEAR)
VELOCITY = in_the_chain(lambda x, tau, c: EXACT(x, tau))
AVERAGE = in_the_chain(
    lambda x, tau, c: flows.exact_average(oracle.gaussian([0.0], LAM))(x, tau - c[1], tau)
)  # u(x, r, t) with h = t - r
END = in_the_chain(  # (x - f)/τ of the exact consistency function f
    lambda x, tau, c: (1 - np.sqrt(LAM) / jnp.sqrt((1 - tau) ** 2 * LAM + tau**2))[:, None] * x / tau[:, None]
)


def draws(t, more, n=4):
    return step.Draws(jnp.asarray(X0[:n]), jnp.full(n, t), jnp.asarray(N[:n]), None, None, more)


def terms(loss, student, drawn, teacher=None, **options):
    setup = TrainConfig(**(FLOW | {"loss": loss, "teacher": "x" if teacher else ""} | options))
    nets = few_steps.Nets(student, teacher, False, 10)
    return few_steps.terms(setup, nets, CHAIN, drawn)


@pytest.mark.slow
def test_each_loss_at_its_exact_solution():
    """What is left of it is known: λ v_r/v_t², the floor of flow matching, 0, and of consistency 2λ (1 - cos Δθ)."""
    t, s, full = 0.8, 0.3, lambda a: (jnp.full(4, a),)
    found = terms("meanflow", AVERAGE, draws(t, full(s)))
    assert found.mean() == pytest.approx(flows.loss_at_solution(LAM, s, t).item(), rel=1e-4)
    found = terms("shortcut", AVERAGE, draws(0.75, full(0.25)))  # the first compares jumps, the others velocities
    assert found[0] == pytest.approx(0, abs=1e-9)
    x = (0.25 * X0 + 0.75 * N)[1:]
    np.testing.assert_allclose(found[1:], ((N - X0)[1:] - EXACT(x, 0.75))[:, 0] ** 2, rtol=1e-4)
    k, left = few_steps._huber(X0), flows.training_loss_at_solution(LINEAR, LAM, t, 0.7)[0]
    found = terms("consistency", END, draws(t, full(0.7)))
    assert (((0.1 * found + k) ** 2 - k**2).mean()) == pytest.approx(left, rel=2e-3)
    found = terms("consistency_distillation", END, draws(t, full(0.78)), VELOCITY)
    assert found.max() < 1e-4


def test_taught_losses_vanish_at_what_the_teacher_does():
    """Progressive: two steps in one; guided: two calls in one; reflow: the floor is that of its own images."""
    t, m, s = (jnp.full(4, i) for i in (1000, 750, 500))
    walked = walk(ddim_step(_eps(VELOCITY), CHAIN), jax.random.key(0), jnp.asarray(N), [1000, 750, 500])
    a, b = jnp.sqrt(CHAIN.alpha_bar), CHAIN.std
    ratio = b[500] / b[1000]
    x0 = (walked - ratio * N) / (a[500] - ratio * a[1000])
    one_step = lambda x_t, t, c: (x_t * (a + b)[1000] ** 0 * 0) + _flow_of(x_t, x0)  # noqa: E731
    drawn = step.Draws(jnp.asarray(0 * X0), t, jnp.asarray(N), None, None, (m, s, jnp.zeros(4)))
    x_t = b[1000] * N  # the state of the image 0
    np.testing.assert_allclose(x_t, N, rtol=1e-5)
    assert terms("progressive", one_step, drawn, VELOCITY, calls=2).max() < 1e-5
    assert terms("progressive", VELOCITY, drawn, VELOCITY, calls=2).min() > 1e-4
    # guided, with a teacher whose answer is its label, 0 if there is none
    labelled = lambda x_t, t, c: jnp.zeros_like(x_t) + (0 if c is None else c[:, None])  # noqa: E731
    student = lambda x_t, t, c: (c[0] * (1 + 3 * c[1]))[:, None] + 0 * x_t  # noqa: E731
    drawn = step.Draws(jnp.asarray(X0), m, jnp.asarray(N), jnp.arange(4), None, (jnp.linspace(0, 1, 4),))
    assert terms("guided", student, drawn, labelled, predict="eps", path="").max() < 1e-9
    asked = []
    seen = lambda x_t, t, c: asked.append(np.asarray(c[1])) or student(x_t, t, c)  # noqa: E731
    terms("guided", seen, drawn, labelled, predict="eps", path="")
    np.testing.assert_allclose(asked[0], np.linspace(0, 1, 4), atol=1e-6)  # the network is told h, not the scale
    wanted = cfg(labelled, 2.0)(jnp.asarray(X0), m, jnp.arange(4))
    np.testing.assert_allclose(wanted[:, 0], 2 * np.arange(4))
    # reflow: the target is ε minus the teacher's own image, here √λ times the product of cosines
    gain = flows.linear_solution(LINEAR, LAM, np.linspace(paths.LAST, 0, 5))[0][0]
    drawn = step.Draws(jnp.asarray(X0), m, jnp.asarray(N), None, None, ())
    target = lambda x_t, t, c: jnp.asarray((1 - gain) * N)  # noqa: E731
    assert terms("reflow", target, drawn, VELOCITY, calls=4).max() < 1e-4
    # and of guidance 2 what a teacher says of twice the label: velocities ε - label/8 lead to label/8, about
    flow = lambda x_t, t, c: jnp.asarray(N) - (0 if c is None else c[:, None] / 8)  # noqa: E731
    labels = drawn._replace(c=jnp.asarray([0, 1, 2, 3]))
    target = lambda x_t, t, c: jnp.asarray(N) - c[:, None] / 4  # noqa: E731
    assert terms("reflow", target, labels, flow, calls=1, guidance=2.0).max() < 1e-4


def _eps(net):
    return few_steps._denoiser(TrainConfig(**FLOW), net, CHAIN)


def _flow_of(x_t, x0):
    """û of the image x̂0 at t = T, where x_t = a x0 + b ε."""
    a, b = jnp.sqrt(CHAIN.alpha_bar)[1000], CHAIN.std[1000]
    return (x_t - a * x0) / b - x0


def test_what_is_drawn():
    key = jax.random.key(0)
    drawn = {
        loss: few_steps.draw(TrainConfig(**FLOW, loss=loss, **options), key, 400, CHAIN, 0)
        for loss, options in {
            "meanflow": {},
            "shortcut": {},
            "consistency": {"steps": 100},
            "progressive": {"teacher": "x", "calls": 4},
        }.items()
    }
    t, (r,) = drawn["meanflow"]
    assert (r <= t).all() and t.std() > 0.2 and (r == t).mean() == pytest.approx(0.25, abs=0.08)
    t, (d,) = drawn["shortcut"]
    assert (d[:100] > 0).all() and (d[100:] == 0).all() and (t > 0).all()
    t, (s,) = drawn["consistency"]
    np.testing.assert_allclose(t - s, 0.1, atol=1e-6)
    late = few_steps.draw(TrainConfig(**FLOW, loss="consistency", steps=100), key, 400, CHAIN, jnp.asarray(99))
    np.testing.assert_allclose(late[0] - late[1][0], 1 / 160, atol=1e-6)
    t, (m, s, _) = drawn["progressive"]
    grid = make_times(T, 8)
    assert set(zip(*(np.asarray(a).tolist() for a in (t, m, s)), strict=True)) == set(
        zip(grid[0:8:2].tolist(), grid[1:9:2].tolist(), grid[2:9:2].tolist(), strict=True)
    )


@pytest.mark.parametrize("calls", [1, 4])
def test_the_steps_of_few_step_models_end_where_the_exact_map_does(calls):
    """Average velocities: at the image of the flow map for any number of calls. Consistency: at one of its law."""
    x, times = jnp.asarray(np.linspace(-2, 2, 9), jnp.float32)[:, None], make_times(T, calls)
    few = FewStepsCard("meanflow")
    how = own_sampling.how(few, "m", AVERAGE, None, calls, 1.0)
    found = walk(how.step(_eps(VELOCITY), CHAIN, None), jax.random.key(0), x, how.times(CHAIN))
    np.testing.assert_allclose(found, np.sqrt(LAM) * x, atol=2e-3)
    how = own_sampling.how(FewStepsCard("consistency"), "m", END, None, calls, 1.0)
    noise = jax.random.normal(jax.random.key(1), (4000, 1))
    found = walk(how.step(_eps(END), CHAIN, None), jax.random.key(2), noise, times)
    assert found.std() == pytest.approx(np.sqrt(LAM), rel=0.06)  # clipped at ±1, two deviations
    assert how.steps == calls


@pytest.mark.slow
def test_a_number_enters_by_channels_and_a_wider_network_begins_as_the_old_one():
    x, t = jax.random.normal(jax.random.key(0), (2, 8, 8, 1)), jnp.array([3, 900])
    h, c = jnp.array([0.25, 0.5]), jnp.array([1, 2])
    seen = numbers.with_number(x, h)
    np.testing.assert_allclose(seen[0, 3, 4, 1:], [0.25, np.sqrt(0.5), 1, 0], atol=1e-6)
    unet = DiTConfig(8, 1, patch=4, channels=8, blocks=1, attention_heads=2, num_classes=10)
    wide = numbers.with_channels(unet)
    params, new = (jax.jit(dit.build(config)[0])(jax.random.key(1)) for config in (unet, wide))
    params = jax.tree.map(lambda a: a + 0.1 * jax.random.normal(jax.random.key(a.size), a.shape), params)
    begun = few_steps.first_params(wide, new, few_steps.Teacher(params))
    call = jax.jit(lambda params, h: numbers.told_net(dit.eps_fn(wide, params))(x, t, (c, h)))
    np.testing.assert_allclose(call(begun, h), jax.jit(dit.build(unet)[1])(params, x, t, c), atol=1e-4)
    bent = jax.tree.map(lambda a: a + 0.1 * jax.random.normal(jax.random.key(1), a.shape), begun)
    assert abs(call(bent, h) - call(bent, 0 * h)).max() > 1e-3
    # the first convolution of a U-Net, whose input is patch² times the channels
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 4, 6)), jnp.float32)
    grown = numbers.widened({"k": kernel}, {"k": jnp.zeros((3, 3, 20, 6))}, dataclasses.replace(TINY, patch=2))["k"]
    image = jax.random.normal(jax.random.key(3), (2, 8, 8, 1))
    pixels, more = (ops.space_to_depth(a, 2) for a in (image, numbers.with_number(image, h)))
    np.testing.assert_allclose(jnp.einsum("bhwc,co->bhwo", more, grown[1, 1]), pixels @ kernel[1, 1], atol=1e-5)


def test_average_velocities_are_given_a_slow_time():
    """τ in 0…1, and not t = 0…T: else the derivative of MeanFlow's loss is that of fast sinusoids."""
    seen = []
    net = lambda x, t, c: seen.append(float(t[0])) or x[..., :1]  # noqa: E731
    for loss, wanted in (("meanflow", 0.5), ("guided", 500)):
        told = own_sampling.raw(FewStepsCard(loss, 0, True), net, 1000)
        told(jnp.ones((1, 2, 2, 1)), jnp.asarray([500.0]), (None, jnp.zeros(1)))
        assert seen[-1] == pytest.approx(wanted, rel=2e-3)
    assert own_sampling.raw(FewStepsCard("consistency"), net, 1000) is net


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"loss": "meanflow"}, "give predict flow and path linear"),
        ({**FLOW, "loss": "meanflow", "path": "vp"}, "path linear"),
        ({**FLOW, "loss": "reflow", "calls": 4}, "learns from a teacher"),
        ({**FLOW, "loss": "meanflow", "teacher": "x"}, "has none; losses with one"),
        ({**FLOW, "loss": "consistency", "guidance": 2.0}, "guidance is 2.0"),
        ({**FLOW, "guidance": 2.0}, "guidance is 2.0"),
        ({**FLOW, "loss": "meanflow", "guidance": 2.0, "p_uncond": 0.0}, "p_uncond above 0"),
        ({"loss": "progressive", "teacher": "x"}, "calls is 0"),
        ({**FLOW, "calls": 4}, "calls is 4"),
        ({**FLOW, "loss": "shortcut", "importance": True}, "without importance"),
        ({**FLOW, "loss": "shortcut", "times": "logit_normal"}, "draws its own times"),
        ({"loss": "guided", "teacher": "x", "predict": "mu"}, "does not train predict mu"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        TrainConfig(**options)


def test_teachers_that_do_not_fit_are_refused():
    """Another prediction, schedule, data, network; a few-step model; guidance without an answer for no class."""
    setup = TrainConfig(**FLOW, data="digits", preset="tiny", loss="guided", teacher="x", T=20)
    chain = paths.make_chain("linear_path", 20)
    card = {
        "predict": "flow",
        "schedule": {"name": "linear_path"},
        "data": {"sha256": "abc"},
        "train": {"p_uncond": 0.1, "data": "digits"},
    }
    good = model.Model("t", TINY, {}, chain, (), card)

    def refused(says, setup=setup, unet=TINY, **changes):
        about = {**card, **changes.pop("card", {})}
        with pytest.raises(ValueError, match=says):
            few_steps.check_teacher(setup, unet, chain, "abc", dataclasses.replace(good, card=about, **changes))

    few_steps.check_teacher(setup, TINY, chain, "abc", good)
    refused("predicts eps", card={"predict": "eps"})
    refused("schedule linear_path with T = 20", schedule=cosine(20))
    refused("other images", card={"data": {"sha256": "else"}})
    refused("another network", unet=dataclasses.replace(TINY, channels=16))
    refused("no answer without a class", card={"train": {"p_uncond": 0.0}})
    refused("few-step model of loss meanflow", card={"train": {"loss": "meanflow"}})
    progressive = dataclasses.replace(setup, loss="progressive", calls=4)
    refused("draws with 4 calls", progressive, card={"train": {"loss": "progressive", "calls": 4}})
    with pytest.raises(ValueError, match="learns from a teacher"):
        few_steps.check_teacher(setup, TINY, chain, "abc", None)


def test_a_model_of_few_steps_refuses_other_ways_to_draw():
    few = FewStepsCard("progressive", 4)
    with pytest.raises(ValueError, match="learned to draw in 4 steps"):
        own_sampling.how(few, "m", None, None, 2, 1.0)
    with pytest.raises(ValueError, match="halves of halves"):
        own_sampling.how(FewStepsCard("shortcut"), "m", None, None, 3, 1.0)
    with pytest.raises(ValueError, match="settled in its training"):
        own_sampling.guided(few, "m", 2.0)
    with pytest.raises(ValueError, match="scales 1 to 4"):
        own_sampling.guided(FewStepsCard("guided", 0, True), "m", 5.0)
    assert own_sampling.guided(FewStepsCard("guided", 0, True), "m", None) == 2


@pytest.mark.slow
def test_a_run_of_few_steps_is_taught_resumes_is_saved_and_draws(tmp_path, monkeypatch):
    """A guided student of a flow, then its progressive half, with a scale each; the teacher is part of the run."""
    monkeypatch.setitem(config.UNETS, "tiny", TINY)
    base = TrainConfig(
        **FLOW,
        data="digits",
        preset="tiny",
        steps=2,
        batch=16,
        warmup=1,
        save_every=1,
        log_every=1,
        T=20,
        sample_every=0,
    )
    flow = model.load(run.train(dataclasses.replace(base, name="flow"), tmp_path, quiet=True))
    student = dataclasses.replace(base, loss="guided", teacher="flow", name="guided")
    guided = model.load(run.train(student, tmp_path, quiet=True, teacher=flow))
    assert guided.few == FewStepsCard("guided", 0, True)
    half = dataclasses.replace(base, loss="progressive", calls=4, teacher="guided", name="half")
    run.train(half, tmp_path, quiet=True, teacher=guided)
    m = model.load(run.train(dataclasses.replace(half, steps=2), tmp_path, quiet=True, teacher=guided))
    x, c = jax.random.normal(jax.random.key(0), (2, 8, 8, 1)), jnp.array([1, 2])
    model.save(tmp_path / "w", m, {})
    for found in (m, model.load(tmp_path / "w")):
        assert found.few == FewStepsCard("progressive", 4, True) and isinstance(found.eps, Partial)
        how = found.how(steps=None, guidance=found.guided(3.0))
        drawn = walk(how.step(found.eps, found.schedule, c), jax.random.key(0), x, how.times(found.schedule))
        assert how.steps == 4 and drawn.shape == x.shape and abs(drawn).max() <= 1
    with pytest.raises(ValueError, match="own sampler"):
        m.how("heun")
