"""Losses of few-step models at the exact solution, on Gaussians and a mixture, and what they converge to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import flows, oracle
from ddpm.flows import consistency, paths
from ddpm.losses.distillation import distillation_loss
from ddpm.schedule import cosine

LINEAR, LAM = paths.make_path("linear"), 0.25
# Four pairs with the moments of (x0, ε), by which the mean square of anything linear in the two is exact
X0, N = (np.array(a)[:, None] for a in (np.sqrt(LAM) * np.array([1.0, 1, -1, -1]), [1.0, -1, 1, -1]))


def data():
    """N(0, λ), in the precision of the test."""
    return oracle.gaussian([0.0], LAM)


def full(*values):
    return (jnp.full(4, v) for v in values)


# --- MeanFlow ---------------------------------------------------------------------------------------------------------


def test_exact_average_is_the_flow_map_and_at_equal_times_the_velocity(x64):
    m = oracle.gaussian([0.5, -1.0], [[0.3, 0.1], [0.1, 0.2]])
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2)))
    u = flows.exact_average(m)
    for r, t in ((0.0, 1.0), (0.3, 0.8)):
        wanted = (x - flows.gaussian_map(m, LINEAR, x, t, r)) / (t - r)
        np.testing.assert_allclose(u(x, jnp.full(3, r), jnp.full(3, t)), wanted, rtol=1e-9)
    same = u(x, jnp.full(3, 0.6), jnp.full(3, 0.6))
    np.testing.assert_allclose(same, flows.exact_velocity(m, LINEAR)(x, 0.6), rtol=1e-9)
    end = flows.gaussian_map(m, LINEAR, x, 1.0, 0.0)
    for times in ([1, 0], [1, 0.7, 0.2, 0]):  # any list of times ends at the same image
        np.testing.assert_allclose(flows.jump(u, x, times), end, rtol=1e-9)


def test_the_target_of_meanflow_is_its_identity(x64):
    """With û in place of u_c the target at the exact u is u: Eq. 6. Each usual mistake gives another number."""
    u, velocity = flows.exact_average(data()), flows.exact_velocity(data(), LINEAR)
    x, (r, t) = jnp.full((4, 1), 1.0), full(0.3, 0.8)
    exact, v = u(x, r, t), velocity(x, 0.8)
    np.testing.assert_allclose(flows.meanflow_target(u, x, r, t, v), exact, rtol=1e-9)
    wrong = {
        "r and t swapped": flows.meanflow_target(lambda x, r, t, c: u(x, t, r, c), x, r, t, v),
        "h without its derivative": flows.meanflow_target(lambda x, r, t, c: u(x, r, 0.8 + 0 * t), x, r, t, v),
        "no derivative by x": flows.meanflow_target(u, x, r, t, v, along=0 * v),
        "u in the tangent": flows.meanflow_target(u, x, r, t, v, along=exact),
    }
    for name, value in wrong.items():
        assert abs(value - exact).max() > 0.05, name


def test_the_target_of_meanflow_on_a_mixture(x64):
    """The average velocity of ½N(±1, .25) from its quantile map, with derivatives by central differences."""
    m = oracle.mixture([[-1.0], [1.0]], LAM)
    average = lambda x, r, t: (x - flows.quantile_map(m, LINEAR, [[x]], t, r)[0, 0]) / (t - r)  # noqa: E731
    x_0, r_0, t_0, h = 0.5, 0.2, 0.8, 1e-5
    value = average(x_0, r_0, t_0)
    u_x = (average(x_0 + h, r_0, t_0) - average(x_0 - h, r_0, t_0)) / (2 * h)
    u_t = (average(x_0, r_0, t_0 + h) - average(x_0, r_0, t_0 - h)) / (2 * h)
    tangent_plane = lambda x, r, t, c: value + u_x * (x - x_0) + u_t * (t[:, None] - t_0)  # noqa: E731
    x = jnp.full((1, 1), x_0)
    v = flows.exact_velocity(m, LINEAR)(x, t_0)
    target = flows.meanflow_target(tangent_plane, x, jnp.full(1, r_0), jnp.full(1, t_0), v)
    np.testing.assert_allclose(target, value, rtol=1e-6)


def test_the_loss_of_meanflow_at_the_exact_solution(x64):
    """λ v_r/v_t², and λ/v_t of improved MeanFlow, where the derivative goes along the marginal velocity."""
    u, (r, t) = flows.exact_average(data()), full(0.3, 0.8)
    loss = flows.meanflow_loss(u, jnp.asarray(X0), r, t, jnp.asarray(N))
    assert loss.mean() == pytest.approx(flows.loss_at_solution(LAM, 0.3, 0.8), rel=1e-9)
    x = 0.2 * X0 + 0.8 * N
    along = flows.exact_velocity(data(), LINEAR)(jnp.asarray(x), 0.8)
    error = u(x, r, t) - flows.meanflow_target(u, jnp.asarray(x), r, t, jnp.asarray(N - X0), along=along)
    assert (error**2).mean() == pytest.approx(LAM / (0.04 * LAM + 0.64), rel=1e-9)
    same = flows.meanflow_loss(u, jnp.asarray(X0), t, t, jnp.asarray(N))  # r = t: flow matching
    velocity = flows.exact_velocity(data(), LINEAR)
    np.testing.assert_allclose(same, flows.flow_matching_loss(velocity, LINEAR, jnp.asarray(X0), t, N), rtol=1e-9)


def test_the_exact_average_is_a_minimum_only_because_the_gradient_stops(x64):
    """d/dg of the loss of g u* vanishes at g = 1, and does not when it also flows through the target."""
    u, (r, t) = flows.exact_average(data()), full(0.3, 0.8)
    slope = lambda loss: float(jax.grad(lambda g: loss(g).mean())(1.0))  # noqa: E731
    scaled = lambda g: lambda x, r, t, c: g * u(x, r, t, c)  # noqa: E731
    ours = slope(lambda g: flows.meanflow_loss(scaled(g), jnp.asarray(X0), r, t, jnp.asarray(N)))
    assert ours == pytest.approx(0, abs=1e-12)

    def through(g):  # the same loss without stop-gradient
        x, v = jnp.asarray(0.2 * X0 + 0.8 * N), jnp.asarray(N - X0)
        value, du = jax.jvp(lambda x, t: scaled(g)(x, r, t, None), (x, t), (v, jnp.ones(4)))
        return (value - (v - (t - r)[:, None] * du)) ** 2

    assert abs(slope(through)) > 0.01


def test_adaptive_weight_hides_the_loss_and_pairs_are_ordered():
    error = jnp.asarray([784.0, 240.0])
    np.testing.assert_allclose(error * flows.adaptive_weight(error), 1, atol=1e-4)  # whatever was learned
    np.testing.assert_allclose(flows.adaptive_weight(error, 0.75, 1e-3), error**-0.75, rtol=1e-4)
    r, t = flows.draw_pairs(jax.random.key(0), 20_000, 0.25)
    assert (r <= t).all() and (r == t).mean() == pytest.approx(0.25, abs=0.015)
    z = np.log(t / (1 - t))[r == t]  # the greater of two normal draws: mean -.4 + 1/√π
    assert z.mean() == pytest.approx(-0.4 + 1 / np.sqrt(np.pi), abs=0.05)


# --- shortcut ---------------------------------------------------------------------------------------------------------


def test_the_exact_shortcut_agrees_with_itself_and_euler_is_what_training_finds(x64):
    exact = flows.as_shortcut(flows.exact_average(data()))
    x, (t, d) = jnp.asarray(X0 + 0.3 * N), full(0.75, 0.25)
    # M so large that d is not the finest jump
    np.testing.assert_allclose(flows.self_consistency_loss(exact, x, t, d, M=128), 0, atol=1e-20)
    asked = []  # the finest jump is asked for as d = 0
    flows.self_consistency_loss(lambda x, t, d, c: asked.append(float(d[0])) or x, x, t, d, M=4)
    assert asked == [0, 0, 0.5]
    half, quarter = full(1.0, 0.25)
    assert float(flows.self_consistency_loss(lambda x, t, d, c: exact(x, t, 0 * d, c), x, half, quarter).max()) > 1e-4

    # A table of slopes that satisfies d = 0: velocity, and 2d from d, has loss 0 and jumps as M steps of Euler do
    M, velocity = 4, flows.exact_velocity(data(), LINEAR)

    def euler(x, t, d, c=None):
        n = round(float(d[0]) * M)
        y, at = x, t
        for _ in range(max(n, 1)):
            y, at = y - velocity(y, at) / M, at - 1 / M
        return (x - y) / (max(n, 1) / M)

    for jump, start in ((0.25, 1.0), (0.5, 1.0), (0.25, 0.5)):
        t, d = full(start, jump)
        np.testing.assert_allclose(flows.self_consistency_loss(euler, x, t, d, M=M), 0, atol=1e-20)
    gain, _ = flows.linear_solution(LINEAR, LAM, np.linspace(1, 0, M + 1))
    np.testing.assert_allclose(flows.jump(flows.as_average(euler), x, [1, 0]), gain[0] * x, rtol=1e-9)


def test_jumps_fit_into_the_interval():
    t, d = flows.draw_jumps(jax.random.key(0), 4000, 8)
    assert set(np.asarray(d).tolist()) == {0.5, 0.25, 0.125} and (t <= 1).all() and (2 * d <= t + 1e-6).all()
    np.testing.assert_allclose(t / (2 * d), np.round(t / (2 * d)), atol=1e-5)


# --- consistency ------------------------------------------------------------------------------------------------------


def exact_f(path):
    def f(x, tau, c=None):
        p = path.at(tau.reshape(-1, 1))
        return jnp.sqrt(LAM / (p.a**2 * LAM + p.b**2)) * x

    return f


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_what_consistency_losses_are_at_the_exact_function(name, x64):
    path, (t, s) = paths.make_path(name), full(0.7, 0.5)
    x0, noise = jnp.asarray(X0), jnp.asarray(N)
    loss = flows.consistency_training_loss(exact_f(path), path, x0, t, s, noise)
    assert loss.mean() == pytest.approx(consistency.training_loss_at_solution(path, LAM, 0.7, 0.5)[0], rel=1e-9)
    along = lambda g: lambda x, tau, c: g * exact_f(path)(x, tau)  # noqa: E731
    mean_loss = lambda g: flows.consistency_training_loss(along(g), path, x0, t, s, noise).mean()  # noqa: E731
    # by one side alone E[2 (f_t - f_s) f_t]: the loss itself; by both it would be twice that
    assert jax.grad(mean_loss)(1.0) == pytest.approx(float(loss.mean()), rel=1e-9)
    velocity = flows.exact_velocity(data(), path)
    errors = []
    for s in (0.66, 0.68):  # by a teacher it is 0 but for the solver's step, of third order
        distilled = flows.consistency_distillation_loss(exact_f(path), velocity, x0 + noise, t, jnp.full(4, s))
        errors.append(float(jnp.sqrt(distilled).mean()))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(3, abs=0.6)


def test_consistency_training_converges_to_ddim_on_its_times(x64):
    """f_i(x) = g_i x; each g_i where the gradient of the loss vanishes, from g of the time before it."""
    times, g, at = np.array([0.0, 0.2, 0.5, 0.8, 1.0]), [1.0], paths.make_path("linear").table
    for i in range(1, len(times)):
        t, s = full(times[i], times[i - 1])

        def loss(gain, i=i, t=t, s=s):
            f = lambda x, tau, c: jnp.where(tau == times[i], gain, g[i - 1])[:, None] * x  # noqa: E731
            return flows.consistency_training_loss(f, LINEAR, jnp.asarray(X0), t, s, jnp.asarray(N)).mean()

        slope, curve = jax.grad(loss)(0.0), jax.hessian(loss)(0.0)
        g.append(float(-slope / curve))  # a parabola
    end = at(1.0)
    deviation = g[-1] * np.sqrt(end.a**2 * LAM + end.b**2)
    assert deviation == pytest.approx(consistency.training_fixed_point(LINEAR, LAM, times)[0], rel=1e-9)
    assert deviation == pytest.approx(flows.linear_solution(LINEAR, LAM, times[::-1])[0][0], rel=1e-9)
    # with both gradients, or with new noise, it is another
    assert deviation < 0.98 * np.sqrt(LAM)


def test_a_consistency_function_is_the_identity_at_zero_and_samples_in_any_number_of_calls(x64):
    f = flows.consistency_function(lambda x, tau, c: 5 + x, LINEAR)
    x = jnp.asarray(X0 + N)
    np.testing.assert_allclose(f(x, jnp.zeros(4)), x, rtol=1e-12)
    p, tau = LINEAR.at(0.4), jnp.full(4, 0.4)  # an output 0 is E[x0 | x] of N(0, σ_d²)
    of_zero = flows.consistency_function(lambda x, tau, c: 0 * x, LINEAR)(x, tau)
    np.testing.assert_allclose(of_zero, p.a * 0.25 / (p.a**2 * 0.25 + p.b**2) * x, rtol=1e-9)
    one = consistency.sample(exact_f(LINEAR), LINEAR, jax.random.key(0), x, [1.0])
    np.testing.assert_allclose(one, flows.gaussian_map(data(), LINEAR, x, 1.0, 0.0), rtol=1e-9)
    many = jax.random.normal(jax.random.key(1), (20_000, 1))
    two = consistency.sample(exact_f(LINEAR), LINEAR, jax.random.key(0), many, [1.0, 0.4])
    assert float(two.std()) == pytest.approx(np.sqrt(LAM), rel=0.02)


def test_pseudo_huber_and_the_growing_number_of_times():
    small, large = (flows.pseudo_huber(jnp.full((1, 4), a), 0.5)[0] for a in (1e-3, 1e3))
    assert small == pytest.approx(4e-6 / (2 * 0.5), rel=1e-2) and large == pytest.approx(2e3 - 0.5, rel=1e-3)
    grown = [flows.number_of_times(k, 800) for k in range(0, 800, 100)]
    assert grown == [11, 21, 41, 81, 161, 321, 641, 1281]
    assert [flows.number_of_times(k, 800) for k in (99, 199)] == [11, 21]
    assert flows.number_of_times(799, 801) == 1281  # never more than the last


# --- progressive and guided distillation ------------------------------------------------------------------------------


def test_one_ddim_step_of_the_progressive_target_lands_where_two_of_the_teacher_do(x64):
    from ddpm.forward import eps_from_x0
    from ddpm.sample import ddim_step

    s = cosine(50)
    m = oracle.mixture([[-1.0], [1.0]], LAM)
    teacher, x, key = m.eps(s), jnp.asarray(X0 + N), jax.random.key(0)
    two = ddim_step(teacher, s)
    two = two(key, two(key, x, 40, 30), 30, 20)
    target = flows.progressive_target(teacher, s, x, 40, 30, 20)
    student = lambda x, t, c: eps_from_x0(s, x, t, target)  # noqa: E731
    np.testing.assert_allclose(ddim_step(student, s)(key, x, 40, 20), two, rtol=1e-9)
    np.testing.assert_allclose(flows.progressive_loss(student, teacher, s, x, 40, 30, 20), 0, atol=1e-20)
    last = flows.progressive_target(teacher, s, x, 20, 10, 0)  # at s = 0 it is the image itself
    down = ddim_step(teacher, s)
    np.testing.assert_allclose(last, down(key, down(key, x, 20, 10), 10, 0), rtol=1e-9)
    # the weight: max(SNR, 1) of the error of x̂0
    off = lambda x, t, c: eps_from_x0(s, x, t, target + 0.5)  # noqa: E731
    for t, mid, low in ((40, 30, 20), (10, 5, 2)):
        target = flows.progressive_target(teacher, s, x, t, mid, low)
        snr = float(s.alpha_bar[t] / (1 - s.alpha_bar[t]))
        found = flows.progressive_loss(off, teacher, s, x, t, mid, low)
        np.testing.assert_allclose(found, 0.25 * max(snr, 1), rtol=1e-6)


def test_both_stages_of_guided_distillation_are_zero_at_their_solution(x64):
    """Stage 1: one call with (c, s) that is guidance. Stage 2: two steps of it in one, with the same (c, s)."""
    from ddpm.guide import cfg

    s, c, scale = cosine(50), jnp.asarray([0, 1, 0, 1]), jnp.full(4, 2.0)
    eps = oracle.mixture([[-1.0], [1.0]], LAM).eps(s)
    student = lambda x, t, cs: cfg(eps, cs[1])(x, t, cs[0])  # noqa: E731
    x, t = jnp.asarray(X0 + N), jnp.full(4, 30)
    np.testing.assert_allclose(distillation_loss(student, eps, x, t, c, scale), 0, atol=1e-20)
    of_student = flows.progressive_target(student, s, x, 30, 20, 10, (c, scale))
    np.testing.assert_allclose(of_student, flows.progressive_target(cfg(eps, 2.0), s, x, 30, 20, 10, c), rtol=1e-9)


def test_lists_of_times_are_halved():
    np.testing.assert_array_equal(flows.halved([1000, 750, 500, 250, 0]), [1000, 500, 0])


def test_bad_input_is_refused():
    u, x, half = flows.exact_average(data()), jnp.ones((4, 1)), jnp.full(4, 0.5)
    for call, message in (
        (lambda: flows.meanflow_loss(u, x, half, half / 2, x), "so r <= t"),
        (lambda: flows.meanflow_loss(u, x, half, 3 * half, x), "t is"),
        (lambda: flows.jump(u, x, [0, 1]), "that fall"),
        (lambda: flows.exact_average(oracle.mixture([[0.0], [1.0]], 1.0))(x, half, half), "2 components"),
        (lambda: flows.self_consistency_loss(None, x, half, half), "must not be below 0"),
        (lambda: flows.draw_jumps(jax.random.key(0), 2, 6), "power of 2"),
        (lambda: flows.consistency_training_loss(None, LINEAR, x, half, half, x), "so s < t"),
        (lambda: flows.number_of_times(0, 10, 20, 10), "last >= first"),
        (lambda: consistency.sample(None, LINEAR, None, x, [0.5, 0.0]), "times in"),
        (lambda: flows.progressive_target(None, cosine(9), x, 5, 6, 2), "s < t"),
        (lambda: flows.halved([3, 2, 1, 0]), "even number"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
