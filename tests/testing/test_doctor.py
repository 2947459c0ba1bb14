"""Every bug of the museum is found by name from outside, right code passes, bad callables get a sentence."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ddpm import testing
from ddpm.cli import start
from ddpm.schedule import cosine, make_times
from ddpm.testing import Convention, adapters, examine
from ddpm.testing.mistakes import How, levels, moves, right, wrong_levels
from ddpm.testing.published import PUBLISHED
from experiments.bug_museum import MUSEUM

A = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])  # ᾱ_0…ᾱ_1000
TIMES = make_times(1000, 10)


def at(t):
    """ᾱ_t shaped for images, t: () or (n,)."""
    return A[t] if np.ndim(t) == 0 else A[t][:, None, None, None]


# --- a stranger's code, right: written apart from the library's -------------------------------------------------------


def q_sample(x0, t, noise):
    return at(t) ** 0.5 * x0 + (1 - at(t)) ** 0.5 * noise


def ddim(x, t, s, eps):
    x0 = (x - (1 - A[t]) ** 0.5 * eps) / A[t] ** 0.5
    return A[s] ** 0.5 * x0 + (1 - A[s]) ** 0.5 * eps


def beta_tilde(t, s):
    return (1 - A[s]) / (1 - A[t]) * (1 - A[t] / A[s])


def noisy(x, t, s, eps, z):
    """Eq. 12 with η = 1"""
    x0, var = (x - (1 - A[t]) ** 0.5 * eps) / A[t] ** 0.5, beta_tilde(t, s)
    return A[s] ** 0.5 * x0 + (1 - A[s] - var) ** 0.5 * eps + var**0.5 * z


def posterior(x, t, s, eps, z, var=beta_tilde, clip=False):
    """Eqs. 6-7"""
    x0 = (x - (1 - A[t]) ** 0.5 * eps) / A[t] ** 0.5
    x0 = np.clip(x0, -1, 1) if clip else x0
    b = 1 - A[t] / A[s]
    mean = (A[s] ** 0.5 * b * x0 + (A[t] / A[s]) ** 0.5 * (1 - A[s]) * x) / (1 - A[t])
    return mean + (var(t, s) ** 0.5 * z if s else 0)


def loss(model, x0):
    rng = np.random.default_rng(5)
    t, e = rng.integers(1, 1001, len(x0)), rng.normal(size=x0.shape)
    return ((e - model(q_sample(x0, t, e), t)) ** 2).mean()


def encode(model, x0):
    for t, s in zip(range(0, 1000, 50), range(50, 1001, 50), strict=True):
        x0 = ddim(x0, t, s, model(x0, t))
    return x0


def fid(mu1, sigma1, mu2, sigma2):
    root = np.sqrt(np.linalg.eigvals(sigma1 @ sigma2).real.clip(0)).sum()
    return ((mu1 - mu2) ** 2).sum() + np.trace(sigma1 + sigma2) - 2 * root


RIGHT = {
    "schedule": lambda: testing.check_schedule(A),
    "schedule from 0": lambda: testing.check_schedule(A[1:].astype(np.float32)),
    "cosine": lambda: testing.check_schedule(lambda T: cosine(T).alpha_bar, "cosine", 30),
    "forward": lambda: testing.check_forward(q_sample),
    "forward in JAX, times from 0": lambda: testing.check_forward(
        lambda x0, t, e: q_sample(x0, np.asarray(t) + 1, e), convention=Convention("jax", first_time=0)
    ),
    "loss": lambda: testing.check_loss(loss),
    "loss formula": lambda: testing.check_loss(lambda eps, eps_hat: ((eps - eps_hat) ** 2).mean((1, 2, 3))),
    "weight": lambda: testing.check_weight(lambda snr: np.minimum(snr, 5) / (snr + 1), "v"),
    "average": lambda: testing.check_average(lambda n: min(0.9999, (1 + n) / (10 + n))),
    "ddim": lambda: testing.check_sampler(testing.from_step(ddim, TIMES)),
    "ddim, linspace": lambda: testing.check_sampler(testing.from_step(ddim, make_times(1000, 10, "linspace"))),
    "η = 1": lambda: testing.check_sampler(testing.from_step(noisy, TIMES), eta=1.0),
    "η = 1 is ddpm": lambda: testing.check_sampler(testing.from_step(noisy, TIMES), step="ddpm"),
    "ddpm": lambda: testing.check_sampler(testing.from_step(posterior, TIMES), step="ddpm"),
    "ddpm, clipped": lambda: testing.check_sampler(
        testing.from_step(lambda x, t, s, eps, z: posterior(x, t, s, eps, z, clip=True), TIMES), step="ddpm", clip=True
    ),
    "ddpm large": lambda: testing.check_sampler(
        testing.from_step(lambda x, t, s, eps, z: posterior(x, t, s, eps, z, lambda t, s: 1 - A[t] / A[s]), TIMES),
        step="ddpm_large",
    ),
    "samples": lambda: testing.check_samples(testing.from_step(ddim, make_times(1000, 100))),
    "guidance s": lambda: testing.check_guidance(lambda cond, uncond, s: uncond + s * (cond - uncond)),
    "guidance w": lambda: testing.check_guidance(lambda cond, uncond, w: (1 + w) * cond - w * uncond, "w"),
    "inversion": lambda: testing.check_inversion(encode),
    "fid": lambda: testing.check_fid(fid),
    "fid of features": lambda: testing.check_fid(lambda a, b: fid(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_code_passes(name):
    answer = RIGHT[name]()
    assert answer, str(answer)


@pytest.mark.slow  # importing torch takes seconds
def test_torch_in_and_out_channels_first():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch diffusers")
    a = torch.tensor(A[1:], dtype=torch.float32)
    seen = []

    def add_noise(x0, t, noise):
        seen.append(tuple(x0.shape[1:]))
        return a[t][:, None, None, None].sqrt() * x0 + (1 - a[t][:, None, None, None]).sqrt() * noise

    assert testing.check_forward(add_noise, convention=adapters.TORCH)
    assert seen[0] == (2, 4, 3)
    one_late = testing.check_forward(add_noise, convention=Convention("torch", 1, True))
    assert one_late.name in ("raises", "ᾱ one too late")


# --- the bug museum, from outside -------------------------------------------------------------------------------------


def wrapping(x, t, s, eps):
    a = A[1:]  # counts from 0: at the last step s - 1 is -1
    x0 = (x - (1 - a[t - 1]) ** 0.5 * eps) / a[t - 1] ** 0.5
    return a[s - 1] ** 0.5 * x0 + (1 - a[s - 1]) ** 0.5 * eps


def root_of_log(x, t, s, eps, z):
    with np.errstate(invalid="ignore"):
        return posterior(x, t, s, eps, z, lambda t, s: np.log(1 - A[t] / A[s]))


def clipped_raw(x, t, s, eps):
    x0 = np.clip((x - (1 - A[t]) ** 0.5 * eps) / A[t] ** 0.5, -1, 1)
    return A[s] ** 0.5 * x0 + (1 - A[s]) ** 0.5 * eps


def on_top(x, t, s, eps, z):
    return ddim(x, t, s, eps) + beta_tilde(t, s) ** 0.5 * z


def cosine_ddim(x, t, s, eps):
    a = COSINE
    return (a[s] / a[t]) ** 0.5 * (x - (1 - a[t]) ** 0.5 * eps) + (1 - a[s]) ** 0.5 * eps


COSINE = np.asarray(cosine().alpha_bar, np.float64)
BUGS = {
    "wrapped_index": lambda: testing.check_sampler(testing.from_step(wrapping, TIMES)),
    "repaint_root": lambda: testing.check_forward(lambda x0, t, eps: at(t) ** 0.5 * x0 + (1 - at(t)) * eps),
    "next_time_not_on_the_list": lambda: testing.check_sampler(
        testing.from_step(lambda x, t, eps: ddim(x, t, max(t - 100, 0), eps), make_times(1000, 10, "linspace"))
    ),
    "log_of_a_variance_as_its_square": lambda: testing.check_sampler(
        testing.from_step(root_of_log, TIMES), step="ddpm_large"
    ),
    "min_snr_for_v": lambda: testing.check_weight(lambda snr: np.minimum(snr, 5) / snr, "v"),
    "young_average": lambda: testing.check_average(lambda n: 0.9999),
    "cosine_blow_up": lambda: testing.check_sampler(testing.from_step(cosine_ddim, TIMES), "cosine", clip=True),
    "w_for_s": lambda: testing.check_guidance(lambda cond, uncond, w: uncond + w * (cond - uncond), "w"),
    "raw_eps_with_clipped_x0": lambda: testing.check_sampler(testing.from_step(clipped_raw, TIMES), clip=True),
    "noise_on_top": lambda: testing.check_sampler(testing.from_step(on_top, TIMES), eta=1.0),
}


@pytest.mark.parametrize("make", MUSEUM, ids=[make.__name__ for make in MUSEUM])
def test_each_bug_of_the_museum_is_found_by_name(make):
    answer = BUGS[make.__name__]()
    assert not answer and answer.name == PUBLISHED[make.__name__].name, str(answer)
    assert answer.sentence and answer.effect and PUBLISHED[make.__name__].where in str(answer)


def test_the_effect_is_that_of_the_exact_answer():
    """w = 1 taken for s: no guidance, so the mean is the class's, 1; the right one is the museum's 1.3197."""
    answer = BUGS["w_for_s"]()
    assert "the mean 0.99" in answer.effect and "instead of 1.32" in answer.effect


def test_a_step_without_noise_has_no_wrong_variance():
    """Each formula of σ is a mistake with η = .5 alone; of what is left with η = 0, all change the mean."""
    without, noise = moves(How()), moves(How(0.5))
    assert {m.key for m in without} < {m.key for m in noise} and len(noise) > len(without) + 5
    x, e = np.random.default_rng(1).normal(size=(2, 5))
    for m in without:
        mean = m.wrong(x, e, 0.2, 0.7)[0]
        assert np.shape(mean) != x.shape or not np.allclose(mean, right(How(), x, e, 0.2, 0.7)[0])


def test_all_wrong_levels_differ():
    times = make_times(1000, 9)  # 9 does not divide 1000
    rows = [levels(A, times), *(m.wrong(A, times) for m in wrong_levels())]
    assert not any(np.allclose(a, b) for i, a in enumerate(rows) for b in rows[:i])


def noise_at_the_end(x, t, s, eps, z):
    return posterior(x, t, s, eps, z) + (0 if s else (1 - A[t]) ** 0.5 * z)


def large(x, t, s, eps, z):
    return posterior(x, t, s, eps, z, lambda t, s: 1 - A[t] / A[s])


def one_loss(q):
    """The loss with another q(x_t | x_0)."""

    def f(model, x0):
        rng = np.random.default_rng(5)
        t, e = rng.integers(1, 1001, len(x0)), rng.normal(size=x0.shape)
        return ((e - model(q(x0, t, e), t)) ** 2).mean()

    return f


NAMED = {
    "the other variance, fixed_large": lambda: testing.check_sampler(testing.from_step(large, TIMES), step="ddpm"),
    "the other variance, fixed_small": lambda: testing.check_sampler(
        testing.from_step(posterior_small, TIMES), step="ddpm_large"
    ),
    "z is multiplied by σ²": lambda: testing.check_sampler(
        testing.from_step(
            lambda x, t, s, eps, z: posterior(x, t, s, eps, z, lambda t, s: beta_tilde(t, s) ** 2), TIMES
        ),
        step="ddpm",
    ),
    "noise at the last step": lambda: testing.check_sampler(testing.from_step(noise_at_the_end, TIMES), step="ddpm"),
    "ᾱ one too early": lambda: testing.check_forward(lambda x0, t, e: q_sample(x0, t - 1, e)),
    "ᾱ one too late": lambda: testing.check_forward(lambda x0, t, e: q_sample(x0, np.minimum(t + 1, 1000), e)),
    "last level ᾱ_1": lambda: testing.check_sampler(
        testing.from_step(lambda x, t, s, eps: ddim(x, t, max(s, 1), eps), TIMES)
    ),
    "noise of the known pixels without its root": lambda: testing.check_loss(
        one_loss(lambda x0, t, e: at(t) ** 0.5 * x0 + (1 - at(t)) * e)
    ),
    "schedule cosine": lambda: testing.check_schedule(COSINE),
    "reversed": lambda: testing.check_schedule(A[::-1]),
}


def posterior_small(x, t, s, eps, z):
    return posterior(x, t, s, eps, z)


@pytest.mark.parametrize("name", NAMED)
def test_further_mistakes_by_name(name):
    answer = NAMED[name]()
    assert answer.name == name, str(answer)


# --- callables that cannot be checked ---------------------------------------------------------------------------------


def raises(x, t, s, eps):
    raise KeyError("alpha")


def changes(x, t, s, eps):
    x *= 2
    return x


def slow(x, t, s, eps):
    while True:
        pass


BAD = {
    "raises": (raises, "KeyError: 'alpha'"),
    "shape": (lambda x, t, s, eps: x[:1], "(1, 4, 3, 2)"),
    "changes its argument": (changes, "x_t"),
    "not deterministic": (lambda x, t, s, eps: x + np.random.default_rng().normal(), "noise has to be an argument"),
    "too slow": (slow, "0.3 s"),
    "returns nothing": (lambda x, t, s, eps: None, "return"),
    "not an array": (lambda x, t, s, eps: "x", "str"),
    "parameters": (lambda x, banana, s, eps, z, more: x, "banana"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_callable_gets_a_sentence(kind):
    f, words = BAD[kind]
    answer = testing.check_sampler(testing.from_step(f, TIMES, Convention(seconds=0.3)), convention=Convention())
    assert not answer and answer.name == kind and words in answer.sentence, str(answer)


def test_noise_that_is_not_fresh_does_not_pass():
    """It has the right mean and variance, but it is x itself."""
    old = testing.from_step(lambda x, t, s, eps: noisy(x, t, s, eps, (x - x.mean()) / x.std()), TIMES)
    assert not testing.check_sampler(old, eta=1.0)


def test_a_time_outside_the_convention_is_a_fault():
    sampler = testing.from_step(lambda x, t, s, eps: 0.7 * x + 0.1, TIMES, Convention(first_time=0))
    assert testing.check_sampler(sampler, convention=Convention(first_time=0)).name == "unknown"
    assert any("begins at t = 999" in words for words in testing.check_sampler(sampler).conventions)
    low = testing.check_sampler(lambda model, x: model(x, 0))
    assert low.name == "times" and "1..1000" in low.sentence


def test_noise_that_is_no_argument_of_a_sampler():
    rng = np.random.default_rng()
    assert testing.check_sampler(lambda model, x: model(x, 1000) + rng.normal()).name in (
        "unknown",
        "not deterministic",
    )


WRONG = {
    "the mean over a sum": (lambda model, x0: loss(model, x0) * x0[0].size, "summed over pixels"),
    "one time for all": (
        lambda model, x0: ((model(q_sample(x0, np.full(len(x0), 7), x0), np.full(len(x0), 7)) - x0) ** 2).mean(),
        "one time for all",
    ),
    "half of the times": (
        lambda model, x0: ((model(x0, np.arange(len(x0)) % 500 + 1) - x0) ** 2).mean(),
        "times are left out",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_losses_by_name(case):
    f, name = WRONG[case]
    assert testing.check_loss(f).name == name


# --- the command, pytest's fixtures, diffusers ------------------------------------------------------------------------


def test_the_command_reports_and_refuses(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = "import numpy as np\nA = np.concatenate([[1], np.cumprod(1 - np.linspace(1e-4, .02, 1000))])\n"
    code += "def q_sample(x0, t, eps):\n    a = A[t][:, None, None, None]\n    return a * x0 + (1 - a) * eps\n"
    code += "def odd(fish):\n    return fish\n"
    (tmp_path / "their_code.py").write_text(code)
    assert start.main(["doctor", "their_code:q_sample"]) == 0
    assert "The square roots are missing" in capsys.readouterr().out
    for args, words in (
        (["their_code:odd"], "give --as"),
        (["their_code:q_simple"], "Did you mean 'q_sample'"),
        (["their_code"], "module:name"),
        (["no_such_module:f"], "no module 'no_such_module'"),
        (["their_code:A"], "give a function"),
        (["their_code:q_sample", "--timestep-spacing", "trailing"], "no scheduler"),
        (["their_code:q_sample", "--as", "frwd"], "Did you mean 'forward'"),
    ):
        assert start.main(["doctor", *args]) == 2, args
        assert words in capsys.readouterr().err, args
    sys.modules.pop("their_code", None)


@pytest.mark.slow
def test_fixtures_of_the_plug_in(tmp_path):
    """In a process of its own: a right function passes, a wrong one fails with the mistake's name."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["ddpm.testing.plugin"]\n')
    (tmp_path / "test_theirs.py").write_text(
        "def test_right(check_guidance):\n    check_guidance(lambda cond, uncond, s: uncond + s * (cond - uncond))\n"
        "def test_wrong(check_guidance):\n    check_guidance(lambda cond, uncond, w: (1 + w) * cond - w * uncond)\n"
    )
    root = str(Path(testing.__file__).parents[2])
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True, text=True, env=env, cwd=tmp_path,
    )  # fmt: skip
    assert "1 failed, 1 passed" in done.stdout and "w taken for s" in done.stdout, done.stdout + done.stderr


diffusers_case = pytest.mark.parametrize(
    "name, options, eta, want",
    [
        ("DDIMScheduler", {}, 0.0, PUBLISHED["raw_eps_with_clipped_x0"].name),
        ("DDIMScheduler", {"timestep_spacing": "trailing", "clip_sample": False}, 0.0, ""),
        ("DDIMScheduler", {"timestep_spacing": "trailing", "clip_sample": False}, 1.0, ""),
        ("DDIMScheduler", {"timestep_spacing": "linspace", "clip_sample": False}, 0.0, "next time computed, not read"),
        ("DDIMScheduler", {"set_alpha_to_one": False, "clip_sample": False}, 0.0, "last level ᾱ_1"),
        ("DDPMScheduler", {}, 0.0, ""),
        ("DDPMScheduler", {"variance_type": "fixed_large", "clip_sample": False}, 0.0, ""),
        ("DDPMScheduler", {"variance_type": "fixed_large_log"}, 0.0, "fixed_large_log is not a number"),
    ],
)


@pytest.mark.slow
@diffusers_case
def test_known_differences_of_diffusers(name, options, eta, want):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install torch diffusers")
    levels_, forward, sampler = examine.examine_scheduler(getattr(diffusers, name), options, 10, eta)
    assert levels_ and forward
    assert sampler.name == want, str(sampler)


@pytest.mark.slow
def test_an_unknown_option_of_a_scheduler_is_refused():
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install torch diffusers")
    with pytest.raises(ValueError, match="Did you mean 'clip_sample'"):
        examine.examine_scheduler(diffusers.DDIMScheduler, {"clip_sampel": True}, 10, 0.0)
    assert adapters.TORCH.first_time == 0


PAGE = Path(testing.__file__).parents[2] / "docs" / "testing.md"


slow = pytest.mark.slow


@pytest.mark.parametrize(
    "place, needs", [(0, ""), pytest.param(1, "torch", marks=slow), pytest.param(2, "diffusers", marks=slow)]
)
def test_the_examples_of_the_page_print_what_it_says(place, needs, capsys):
    """Each line that the page shows is the beginning of a line that its example prints."""
    if needs:
        pytest.importorskip(needs, reason=f"{needs} is not installed: pip install torch diffusers")
    text = PAGE.read_text(encoding="utf-8")
    code, shown = (re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)[place] for kind in ("python", "text"))
    exec(compile(code, "docs/testing.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert all(any(line.startswith(words) for line in printed) for words in shown.splitlines()), "\n".join(printed)
