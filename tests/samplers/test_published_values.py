"""Numbers that diffusers' own tests publish (tests/schedulers, August 2026), from our schedules and samplers.

Each of them is the sum (or mean) of |x| after a loop with a network that multiplies: ε̂ or v̂ = x i/(i+1), i being the
peer's time. It begins with an image made by a formula, so that nothing but the schedule, the list of times and the
sampler decides. Where the peer adds noise, the noise is that of torch's generator with seed 0, in the place of ours.

Our x is √ᾱ x̄ where Karras's samplers carry x̄ (Euler, Heun, KDPM2, EDM): so x_T = √ᾱ_T x̄_T, and x_0 = x̄_0.

Published and not reproduced:
  - we have no such method: LMS, PNDM, IPNDM, DEIS, UniPC, DPM-Solver++ in single steps, SA-Solver, the SDE solvers,
    KDPM2 with ancestral noise, score_sde's correctors, and the consistency samplers (CM, LCM, TCD);
    DPM-Solver++(2M) goes down only, so its inversion is missing;
  - 1.1364 and 19.8933 have a dynamic threshold that is .5 at most; `dynamic_threshold` wants 1 at least;
  - 1394.2185 and 542.6722 (DDIM inversion) put a clipped x̂0 beside the unclipped ε; `clip_x0` derives ε again;
  - 252.2682 and 258.2045 (UnCLIP) end in x̂0 β_1/(1-ᾱ_1), which is x̂0, but in the peer's float32 .9995 x̂0;
  - at i = 0 the peer's DDPM variance is 0, ours that of the step before, as in Ho's code; neither adds noise there.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm.contracts import Partial
from ddpm.forward import q_sample
from ddpm.guide import clip_x0
from ddpm.networks.heads import head
from ddpm.sample import ddim_step, ddpm_step, make_variance, walk
from ddpm.samplers.edm import edm_sigmas, from_sigma, preconditioned
from ddpm.samplers.solvers import begin, heun_step, midpoint_step, multistep, sigma_bar
from ddpm.samplers.variance import learned
from ddpm.schedule import cosine, from_beta, linear_ho, make_times
from ddpm.tools import keys

KEY = jax.random.key(0)
SHAPE = (4, 3, 8, 8)
START, NOISE = (
    np.float32(np.arange(768)[::way] / 768).reshape(3, 8, 8, 4).transpose(3, 0, 1, 2) for way in (1, -1)
)  # fmt: skip


def _times_i(x, t, c=None, *, i):
    i = i[t].reshape(-1, 1, 1, 1)
    return x * (i / (i + 1))


def dummy(i):
    """The peer's network, whose output is x i/(i+1); i: (T+1,) its time at each of our times."""
    return Partial(_times_i, i=jnp.asarray(i, jnp.float32))


def counted(T=1000):
    """The peer's time at each of ours where it counts 0…T-1."""
    return np.maximum(np.arange(T + 1) - 1, 0)


def total(x):
    return float(np.abs(np.asarray(x, np.float64)).sum())


def mean(x):
    return total(x) / START.size


@functools.cache
def torch_noise(n):
    """(n+1, 4, 3, 8, 8): what the peer draws in n steps with torch.manual_seed(0), and zeros where it draws none."""
    torch = pytest.importorskip("torch", reason="the published noise is torch's: pip install torch")
    generator = torch.manual_seed(0)
    return np.stack([*(torch.randn(SHAPE, generator=generator).numpy() for _ in range(n)), np.zeros(SHAPE, np.float32)])


def noisy_walk(step, x, times, drawn):
    """`walk` with torch's noise in the place of ours: step i gets the i-th draw."""
    noise = jnp.asarray(torch_noise(drawn))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "fold_in", lambda key, i: key[i])
        patch.setattr(keys, "normal_like", lambda key, x: key)
        return walk(step, noise, jnp.asarray(x), times)


# --- DDPM and DDIM ----------------------------------------------------------------------------------------------------


def ddpm(predict="eps", times=None, x=None, schedule=None):
    schedule = schedule or linear_ho()
    times = make_times(1000, 1000) if times is None else times
    eps = clip_x0(head(dummy(counted()), schedule, predict), schedule)
    drawn = len(times) - 2  # none in the last step
    return total(noisy_walk(ddpm_step(eps, schedule), START if x is None else x, times, drawn))


def ddpm_with_noise():
    x = q_sample(linear_ho(), jnp.asarray(START), 2, jnp.asarray(NOISE))
    return ddpm(times=np.array([2, 1, 0]), x=x)


def each_at_its_time(step, times_s):
    """One step of three batches at the peer's times 0, 1, 2."""
    batches = [(START, 1), (START + np.float32(0.1), 2), (START - np.float32(0.1), 3)]
    return sum(total(step(KEY, jnp.asarray(x), t, s)) for (x, t), s in zip(batches, times_s, strict=True))


def ddpm_batch_step():
    zero = Partial(lambda schedule, x_t, t, s, c: jnp.zeros(()))
    eps = clip_x0(dummy(counted()), linear_ho())
    return each_at_its_time(ddpm_step(eps, linear_ho(), variance=zero), (0, 1, 2))


def ddim(predict="eps", schedule=None, first=0, last=10, x=None):
    schedule = schedule or linear_ho()
    times = make_times(1000, 10, "leading")[first : last + 1]
    eps = head(dummy(counted()), schedule, predict)
    x = START if x is None else x
    return total(walk(ddim_step(eps, schedule), KEY, jnp.asarray(x), times))


def ddim_with_noise():
    return ddim(first=8, x=q_sample(linear_ho(), jnp.asarray(START), 101, jnp.asarray(NOISE)))


def ddim_batch_step():
    """Of ten steps, so that the times 0, 1, 2 all lead to clean data."""
    return each_at_its_time(ddim_step(clip_x0(dummy(counted()), linear_ho()), linear_ho()), (0, 0, 0))


def late():
    """β from .01."""
    return from_beta(np.linspace(0.01, 0.02, 1000))


def inversion(schedule=None):
    """The peer asks its network at the end of each step: 0 -> 1 at i = 0, 1 -> 101 at i = 100, …"""
    schedule = schedule or linear_ho()
    i = np.arange(1001) + 99
    i[0] = 0
    times = np.array([0, *range(1, 1000, 100)])
    return total(walk(ddim_step(dummy(i), schedule), KEY, jnp.asarray(START), times))


def variance(name, schedule, t, s):
    return float(make_variance(name)(schedule, jnp.zeros((1, 1)), t, s))


def log_learned(t):
    """log σ² of UnCLIP's cosine schedule where the network says v = .5."""
    half = learned(lambda x, t, c: jnp.full_like(x, 0.5))
    return float(jnp.log(half(cosine(), jnp.zeros((1, 1)), t, t - 1))[0, 0])


DIRECT = [
    ("DDPM batch step", 1153.1833, 1e-2, ddpm_batch_step),
    ("DDPM variance, i = 487", 0.00979, 1e-5, lambda: variance("fixed_small", linear_ho(), 488, 487)),
    ("DDPM variance, i = 999", 0.02, 1e-5, lambda: variance("fixed_small", linear_ho(), 1000, 999)),
    ("DDIM", 172.0067, 1e-2, ddim),
    ("DDIM, v", 52.5302, 1e-2, lambda: ddim("v")),
    ("DDIM, β from .01, to t = 0", 149.8295, 1e-2, lambda: ddim(schedule=late())),
    ("DDIM, β from .01, to t = 1", 149.0784, 1e-2, lambda: ddim(schedule=late(), last=9)),
    ("DDIM from a noised image", 354.5418, 1e-2, ddim_with_noise),
    ("DDIM batch step", 1147.7904, 1e-2, ddim_batch_step),
    ("DDIM variance, 420 -> 400", 0.14771, 1e-5, lambda: variance("fixed_small", linear_ho(), 421, 401)),
    ("DDIM variance, 980 -> 960", 0.32460, 1e-5, lambda: variance("fixed_small", linear_ho(), 981, 961)),
    ("DDIM variance, 487 -> 486", 0.00979, 1e-5, lambda: variance("fixed_small", linear_ho(), 488, 487)),
    ("DDIM variance, 999 -> 998", 0.02, 1e-5, lambda: variance("fixed_small", linear_ho(), 1000, 999)),
    ("DDIM inversion", 671.6816, 1e-2, inversion),
    ("DDIM inversion, β from .01, from t = 0", 539.9622, 1e-2, lambda: inversion(schedule=late())),
    ("UnCLIP deviation, i = 487", 0.0549625, 1e-5, lambda: variance("fixed_small", cosine(), 488, 487) ** 0.5),
    ("UnCLIP deviation, i = 999", 0.9994987, 1e-5, lambda: variance("fixed_small", cosine(), 1000, 999) ** 0.5),
    ("UnCLIP log variance, i = 1", -10.1712790, 2e-4, lambda: log_learned(2)),
    ("UnCLIP log variance, i = 487", -5.7998052, 1e-5, lambda: log_learned(488)),
    ("UnCLIP log variance, i = 999", -0.0010011, 1e-5, lambda: log_learned(1000)),
]
WITH_NOISE = [
    ("DDPM", 258.9606, 1e-2, ddpm),
    ("DDPM, v", 202.0296, 1e-2, lambda: ddpm("v")),
    ("DDPM from a noised image", 387.9466, 1e-2, ddpm_with_noise),
]


# --- Karras's samplers, in x̄ ------------------------------------------------------------------------------------------


class Levels:
    """The noise levels of the peer's ten steps: their times i (not whole) and σ, falling."""

    def __init__(self, T=1100, karras=False, halves=False):
        sigma = np.asarray(sigma_bar(linear_ho(T), jnp.arange(1, T + 1)), np.float64)
        self.i = np.linspace(0, T - 1, 10)[::-1]
        self.sigma = np.interp(self.i, np.arange(T), sigma)
        self.all = np.log(sigma)
        if karras:
            self.sigma = edm_sigmas(10, self.sigma[-1], self.sigma[0])
        if karras or halves:
            if halves:  # a level between each two, at the mean of log σ
                between = np.sqrt(self.sigma[1:] * self.sigma[:-1])
                self.sigma = np.insert(self.sigma, range(1, 10), between)
            self.i = np.interp(np.log(self.sigma), self.all, np.arange(T))
        self.schedule = from_sigma(self.sigma)
        self.net = dummy(np.append(self.i, 0)[::-1])

    def start(self, t):
        """x_t of the image times the largest σ, and with noise of level t where it begins below."""
        x_bar = START * self.sigma[0] + (NOISE * self.sigma[len(self.sigma) - t] if t < len(self.sigma) else 0)
        return jnp.asarray(np.sqrt(self.schedule.alpha_bar[t]) * x_bar)

    def step(self, make_step, predict):
        """The peer's tests take what `scale_model_input` returns, x̄ √ᾱ, as the image x̄ itself from there on.

        So at each call the image shrinks by √ᾱ, and its network sees the smaller x̄ where ours sees √ᾱ x̄.
        """
        root = jnp.sqrt(self.schedule.alpha_bar)

        def step(key, x_t, t, s):
            def eps(x, time, c):
                again = jnp.where(time == t, 1.0, root[time]).reshape(-1, 1, 1, 1)  # the second call of a step
                return head(net, self.schedule, predict)(again * x, time, c)

            return make_step(eps, self.schedule)(key, root[t] * x_t, t, s)

        def net(x, time, c):
            return self.net(x / root[time].reshape(-1, 1, 1, 1), time, c)

        return Partial(step)


def karras(make_step, predict="eps", last=10, halves=False, **of):
    """Walk down the levels with a step; `last`: only so many of them, from a noised image."""
    levels = Levels(halves=halves, **of)
    stride = 1 + halves
    times = np.append(np.arange(stride * (last - 1) + 1, 0, -stride), 0)
    return total(walk(levels.step(make_step, predict), KEY, levels.start(times[0]), times))


def ancestral(predict="eps", last=10):
    """Euler's ancestral steps are DDIM's with η = 1."""
    levels = Levels()
    step = levels.step(functools.partial(ddim_step, eta=1.0), predict)
    return total(noisy_walk(step, levels.start(last), np.arange(last, -1, -1), last))


DIRECT += [
    ("Euler", 10.0807, 1e-2, lambda: karras(ddim_step)),
    ("Euler, v", 0.0002, 1e-2, lambda: karras(ddim_step, "v")),
    ("Euler, Karras's levels", 124.52299499511719, 1e-2, lambda: karras(ddim_step, karras=True)),
    ("Euler from a noised image", 57062.9297, 0.2, lambda: karras(ddim_step, last=2)),
    ("Heun", 0.1233, 1e-2, lambda: karras(heun_step)),
    ("Heun, v", 4.6934e-07, 1e-2, lambda: karras(heun_step, "v")),
    ("Heun, Karras's levels", 0.00015, 1e-2, lambda: karras(heun_step, karras=True)),
    ("Heun from a noised image", 75074.8906, 0.2, lambda: karras(heun_step, last=2)),
    ("KDPM2", 20.4125, 1e-2, lambda: karras(midpoint_step, halves=True)),
    ("KDPM2, v", 4.6934e-07, 1e-2, lambda: karras(midpoint_step, "v", halves=True)),
    ("KDPM2 from a noised image", 70408.4062, 0.2, lambda: karras(midpoint_step, last=2, halves=True)),
]
WITH_NOISE += [  # sums of 6e4 and more: .2 is three millionths, what float32 leaves of them
    ("Euler ancestral", 152.3192, 1e-2, ancestral),
    ("Euler ancestral, v", 108.4439, 1e-2, lambda: ancestral("v")),
    ("Euler ancestral from a noised image", 56163.0508, 0.2, lambda: ancestral(last=2)),
]


# --- DPM-Solver++(2M) and EDM -----------------------------------------------------------------------------------------

TEN = np.append(np.round(np.linspace(0, 999, 11))[:0:-1].astype(int) + 1, 1)  # ten times, and the last is t = 1


def solver(predict="eps", first=0):
    schedule = linear_ho()
    eps = head(dummy(counted()), schedule, predict)
    x = jnp.asarray(START)
    x = q_sample(schedule, x, int(TEN[first]), jnp.asarray(NOISE)) if first else x
    return walk(multistep(eps, schedule), KEY, begin(x), TEN[first:]).x


def solver_at(levels, predict="v"):
    """At ten levels of σ of one's own, whose times are rounded to whole ones."""
    sigma = np.asarray(sigma_bar(linear_ho(), jnp.arange(1, 1001)), np.float64)
    levels = edm_sigmas(10, sigma[0], sigma[-1]) if levels == "karras" else np.geomspace(sigma[-1], sigma[0], 10)
    i = np.round(np.interp(np.log(levels), np.log(sigma), np.arange(1000)))
    schedule = from_sigma(levels)
    eps = head(dummy(np.append(i, 0)[::-1]), schedule, predict)
    return walk(multistep(eps, schedule), KEY, begin(jnp.asarray(START)), np.arange(10, 0, -1)).x


def _scaled_by(x, c_noise, c=None, *, of_input):
    i = c_noise.reshape(-1, 1, 1, 1)
    sigma = jnp.exp(4 * i)
    return x * (1.0 if of_input else jnp.sqrt(sigma**2 + 0.25)) * (i / (i + 1))


def edm(make_step=ddim_step, n=10, first=0, start=None, last=0, of_input=True):
    """EDM's preconditioned network, i = log σ / 4, of its input c_in x̄ (or of x̄)."""
    sigma = edm_sigmas(n)
    schedule = from_sigma(sigma)
    eps = preconditioned(functools.partial(_scaled_by, of_input=of_input), schedule)
    x_bar = START * np.sqrt(80**2 + 1) if start is None else start(sigma[first])
    x = jnp.asarray(np.sqrt(schedule.alpha_bar[n - first]) * x_bar, dtype=float)
    times = np.arange(n - first, last - 1, -1)
    if make_step is multistep:
        x = walk(multistep(eps, schedule), KEY, begin(x), times).x
    else:
        x = walk(make_step(eps, schedule), KEY, x, times)
    return x / np.sqrt(schedule.alpha_bar[last])


DIRECT += [
    ("DPM-Solver++(2M)", 0.3301, 1e-3, lambda: mean(solver())),
    ("DPM-Solver++(2M), v", 0.2251, 1e-3, lambda: mean(solver("v"))),
    ("DPM-Solver++(2M) from a noised image", 318.4111, 1e-2, lambda: total(solver(first=5))),
    ("DPM-Solver++(2M), Karras's levels, v", 0.2096, 1e-3, lambda: mean(solver_at("karras"))),
    ("DPM-Solver++(2M), levels even in log σ, v", 0.1554, 1e-3, lambda: mean(solver_at("lu"))),
    ("EDM, Euler", 34.1855, 1e-3, lambda: total(edm())),
    (
        "EDM, DPM-Solver++(2M)",
        0.0001,
        1e-3,
        lambda: mean(edm(multistep, start=lambda s: START, last=1, of_input=False)),
    ),
    (
        "EDM, DPM-Solver++(2M) from a noised image",
        8.1661,
        1e-2,
        lambda: total(edm(multistep, first=5, start=lambda s: START + NOISE * s, last=1, of_input=False)),
    ),
]


def named(rows):
    return [pytest.param(value, within, ours, id=name) for name, value, within, ours in rows]


@pytest.mark.parametrize("published, within, ours", named(DIRECT))
def test_published_value(published, within, ours):
    assert ours() == pytest.approx(published, abs=within)


@pytest.mark.parametrize("published, within, ours", named(WITH_NOISE))
def test_published_value_with_torchs_noise(published, within, ours):
    assert ours() == pytest.approx(published, abs=within)
