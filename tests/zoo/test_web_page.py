"""A model as a page: its JavaScript and WebAssembly give JAX's numbers, and a browser can use all of it."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ddpm import config, network, typicality
from ddpm.cli import start
from ddpm.sample import Sampling, ddim_step
from ddpm.samplers.generation import generate
from ddpm.schedule import cosine, make_times
from ddpm.tools import files
from ddpm.zoo import model, web_page

HERE = Path(__file__).parent
NODE, BROWSER = shutil.which("node"), shutil.which("chromium") or shutil.which("google-chrome")
needs_node = pytest.mark.skipif(not NODE, reason="node is not installed")


def node(script, task, folder, **options):
    """Run a script of this folder with a task, and return what it wrote."""
    (folder / "task.json").write_text(json.dumps(task))
    command = [NODE, str(HERE / script), str(folder / "task.json"), str(folder / "out.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((folder / "out.json").read_text())


def model_of(unet, seed=0, **card):
    """A model with random parameters of the size that trained ones have."""
    shapes = jax.eval_shape(network.build(unet)[0], jax.random.key(0))
    rng = np.random.default_rng(seed)

    def drawn(a):
        return jnp.asarray(rng.normal(size=a.shape) / max(8, np.prod(a.shape[:-1])) ** 0.5, float)

    params = jax.tree.map(drawn, shapes)
    classes = tuple(f"class {k}" for k in range(unet.num_classes))
    about = {"schedule": {"name": "cosine", "T": 100}, **card}
    return model.Model("tiny", unet, params, cosine(100), classes, about)


def task_of(m, folder, packed=False, **more):
    """A model for the script page_numbers.mjs; its weights as float32, or as in the page."""
    tensors, raw = web_page.packed(m.params)
    if not packed:
        flat, first, tensors = sorted(files.flatten(m.params).items()), 0, []
        for name, a in flat:
            tensors.append([name, list(a.shape), first, a.size])
            first += a.size
        raw = np.concatenate([np.ravel(a) for _, a in flat]).astype("<f4").tobytes()
    file = folder / f"{m.name}{'.packed' * packed}.bin"
    file.write_bytes(raw)
    about = web_page.about(m) | {"tensors": tensors}
    return {"name": m.name, "weights": str(file), "packed": packed, "about": about, **more}


# --- random numbers ---------------------------------------------------------------------------------------------------


@needs_node
def test_the_same_seed_gives_the_bits_of_jax(tmp_path):
    """Keys, bits and integers to the bit; normals to a few units in the last place, most to the bit."""
    key, n = jax.random.key(7), 2000
    pairs = [(1000, 20), (1000, 30), (100, 8), (250, 100), (100, 100)]
    task = {"seed": 7, "n": n, "times": pairs}
    out = node("page_numbers.mjs", {"folder": str(web_page.FOLDER), "random": task}, tmp_path)
    assert out["split"] == jax.random.key_data(jax.random.split(key, 3)).tolist()
    assert out["fold"] == jax.random.key_data(jax.random.fold_in(key, 12345)).tolist()
    assert out["bits"] == jax.random.bits(key, (n,)).tolist()
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(40))
    assert out["integers"] == jax.vmap(lambda k: jax.random.randint(k, (), 101, 701))(keys).tolist()
    normal = np.asarray(jax.random.normal(key, (n,)), np.float64)
    assert np.abs(normal - out["normal"]).max() < 1e-6
    assert out["times"] == [make_times(*pair).tolist() for pair in pairs]


# --- the network and the walk -----------------------------------------------------------------------------------------

UNETS = {
    "grey, attention, classes": config.UNetConfig(
        8, 1, channels=8, multipliers=(1, 2), blocks=1, attention=(4,), groups=4, num_classes=3
    ),
    "colour, 10 x 6, blocks of pixels, FiLM": config.UNetConfig(
        10,
        3,
        image_width=6,
        patch=2,
        channels=12,
        multipliers=(1, 2),
        blocks=1,
        attention=(),
        groups=4,
        scale_shift=True,
    ),
}


@pytest.mark.slow
@needs_node
@pytest.mark.parametrize("name", UNETS)
def test_the_network_gives_jaxs_numbers(name, tmp_path):
    """To 2e-5 with float32 weights: sizes that no piece of pixels divides, zeros around an odd size, both norms."""
    m = model_of(UNETS[name])
    x = np.random.default_rng(1).normal(size=(3, *m.image_shape)).astype(np.float32)
    t, c = [1, 50, 100], ([0, 2, 3] if m.num_classes else None)
    calls = [{"x": x[i].ravel().tolist(), "t": t[i], "c": c and c[i]} for i in range(3)]
    task = {"folder": str(web_page.FOLDER), "models": [task_of(m, tmp_path, calls=calls)]}
    out = node("page_numbers.mjs", task, tmp_path)
    want = np.asarray(jax.jit(m.net)(jnp.asarray(x), jnp.asarray(t), c and jnp.asarray(c))).reshape(3, -1)
    assert np.abs(want).max() > 0.1
    np.testing.assert_allclose(out["tiny"]["net"], want, atol=2e-5)


@needs_node
def test_packed_weights_are_right_to_18_bits(tmp_path):
    """Each kernel's number to half a step, 2^-18 of the largest of its output channel; what has one axis is exact."""
    m = model_of(UNETS["colour, 10 x 6, blocks of pixels, FiLM"])
    task = {"folder": str(web_page.FOLDER), "models": [task_of(m, tmp_path, True, calls=[])]}
    found = node("page_numbers.mjs", task, tmp_path)["tiny"]["weights"]
    for name, a in files.flatten(m.params).items():
        step = np.abs(a).reshape(-1, a.shape[-1]).max(0) / (2**17 - 1) if a.ndim > 1 else 0
        error = np.abs(np.reshape(found[name], a.shape) - np.asarray(a, np.float64))
        assert np.all(error <= 0.5001 * step + 1e-7 * np.abs(a)), name


def linear_eps(x, t, c):
    """A denoiser that depends on all of its arguments; `null` is 3."""
    t, c = (jnp.asarray(a, float).reshape(-1, 1, 1, 1) for a in (t, jnp.full(len(x), 3) if c is None else c))
    return 0.6 * x + 0.004 * t - 0.2 * c + 0.3


@pytest.mark.slow
@needs_node
def test_walks_and_typicality_are_those_of_the_library(tmp_path):
    """DDIM with and without noise, DDPM, with guidance, from a seed; T(x|c) with its standard error and map."""
    m = model_of(UNETS["grey, attention, classes"])
    ways = [("ddim", 0.0, 7, 2.0), ("ddim", 0.6, 7, 1.0), ("ddpm", 0.0, 12, 3.0)]
    requests = [
        {"c": 2, "sampler": s, "eta": eta, "steps": n, "guidance": g, "seed": 5, "index": 4} for s, eta, n, g in ways
    ]
    x0 = np.random.default_rng(2).uniform(-1, 1, (1, 8, 8, 1)).astype(np.float32)
    measured = {"x0": x0.ravel().tolist(), "c": 2, "draws": 20, "seed": 11}
    task = task_of(m, tmp_path, calls=[], walks=requests, typicality=measured) | {"linear": [0.6, 0.004, -0.2, 0.3]}
    out = node("page_numbers.mjs", {"folder": str(web_page.FOLDER), "models": [task]}, tmp_path)["tiny"]
    linear_eps.labels = lambda *_: 3
    for (sampler, eta, steps, guidance), x in zip(ways, out["walks"], strict=True):
        make = (lambda eps, schedule, c, eta=eta: ddim_step(eps, schedule, c, eta)) if eta else sampler
        how = Sampling(make, steps, guidance)
        want = generate(linear_eps, m.schedule, jax.random.key(5), (8, 8, 1), np.full(5, 2), how)[4]
        assert np.abs(np.reshape(x, want.shape) - want).max() < 1e-4, sampler
    draws = typicality.Draws(20)
    want = typicality.measure(linear_eps, m.schedule, x0, 2, jax.random.key(11), draws)
    assert out["typicality"]["value"] == pytest.approx(want.value[0], rel=1e-4)
    assert out["typicality"]["stderr"] == pytest.approx(want.stderr[0], rel=1e-4)
    np.testing.assert_allclose(np.reshape(out["typicality"]["map"], (8, 8)), want.map[0], atol=1e-5)


@needs_node
@pytest.mark.slow
def test_the_page_of_the_garments_draws_what_sample_draws(tmp_path):
    """With its packed weights: seed 7 with 20 steps and with 5 searched ones, to one of 255 grey levels."""
    m = model.load("fashion_mnist").plain
    x = np.random.default_rng(0).normal(size=m.image_shape).astype(np.float32)
    exact = task_of(m, tmp_path, calls=[{"x": x.ravel().tolist(), "t": 500, "c": 3}])
    requests = [{"c": 9, "sampler": "ddim", "eta": 0, "steps": n, "guidance": 2.0, "seed": 7} for n in (5, 20)]
    packed = task_of(dataclasses.replace(m, name="packed"), tmp_path, True, calls=[], walks=requests)
    out = node("page_numbers.mjs", {"folder": str(web_page.FOLDER), "models": [exact, packed]}, tmp_path)
    want = np.asarray(m.net(jnp.asarray(x)[None], jnp.array([500]), jnp.array([3]))).ravel()
    np.testing.assert_allclose(out["fashion_mnist"]["net"][0], want, atol=2e-5)
    for n, x in zip((5, 20), out["packed"]["walks"], strict=True):
        drawn = generate(m.eps, m.schedule, jax.random.key(7), m.image_shape, np.array([9]), m.how("ddim", n, 2.0))
        assert np.abs(drawn.ravel() - x).max() * 127.5 < 1


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_module_is_what_the_c_gives(tmp_path):
    ziglang = pytest.importorskip("ziglang", reason="the kernels are compiled with the package ziglang")
    assert ziglang
    source = (web_page.FOLDER / "kernels.c").read_text()
    version = subprocess.run(
        [sys.executable, "-m", "ziglang", "version"], capture_output=True, text=True
    ).stdout.strip()
    if f"zig {version}" not in source:
        pytest.skip(f"kernels.wasm is of another compiler than zig {version}")
    web_page.compile_kernels(tmp_path / "kernels.wasm")
    assert (tmp_path / "kernels.wasm").read_bytes() == (web_page.FOLDER / "kernels.wasm").read_bytes()


def test_a_page_is_one_file_and_names_are_escaped():
    m = model_of(UNETS["grey, attention, classes"])
    m = dataclasses.replace(m, name="<b>", classes=("</script><img src=x onerror=alert(1)>", "b", "c"))
    page = web_page.page(m)
    assert "<img" not in page and "<b>" not in page and page.count("</script>") == page.count("<script") == 5
    about = json.loads(re.search(r'id="about">(.*?)</script>', page, re.S).group(1))
    assert about["classes"][0].startswith("</script>") and about["unet"]["padded"] == [8, 8]
    rest = re.sub(r'id="about">.*?</script>', "", page, flags=re.S)
    assert not re.search(r"https?://|\bsrc=|\bimport\b|\bexport\b", rest)
    assert "default-src 'none'" in page


REFUSED = {
    "learned variance": ({"learned_variance": True}, {}, "predicts its variance"),
    "more input": ({"extra_channels": 1}, {}, "1 channels more"),
    "heads": ({"head_width": 4}, {}, "head_width is 4"),
    "no null label": ({"null_label": False}, {}, "null_label is False"),
    "a flow": ({}, {"predict": "flow"}, "predicts 'flow'"),
    "settings": ({}, {"sampling": {"clip": True}}, "settings of its own"),
    "two channels": ({"image_channels": 2}, {}, "2 channels"),
    "narrow": ({"channels": 6, "groups": 2}, {}, "four channels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_page_cannot_carry_is_refused_with_the_reason(name):
    changes, card, words = REFUSED[name]
    m = model_of(UNETS["grey, attention, classes"])
    m = dataclasses.replace(m, unet=dataclasses.replace(m.unet, **changes), card=m.card | card)
    with pytest.raises(ValueError, match=words):
        web_page.page(m)


def test_a_model_that_is_too_large_is_refused_with_its_size():
    m = model_of(UNETS["grey, attention, classes"])
    many = {"kernel": np.broadcast_to(np.float32(0), (5000, 4000))}
    assert "56 MB in a page" in web_page.refusal(dataclasses.replace(m, params=many))


@pytest.mark.slow
def test_the_command_writes_the_page_once(tmp_path, capsys):
    file = tmp_path / "garments.html"
    assert start.main(["export", "fashion_mnist", "--to", str(file)]) == 0
    assert file.stat().st_size < 3_000_000 and "MB" in capsys.readouterr().out
    assert start.main(["export", "fashion_mnist", "--to", str(file)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_lessons_link_to_the_page_and_load_it_on_a_click(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE.parents[1] / "docs" / "site"))
    import pages

    for number, (chapter, settings, _) in pages.DRAWS.items():
        cells = json.loads(pages.lesson_page(number))["cells"]
        (place,) = (i for i, c in enumerate(cells) if 'class="draw"' in c["source"])
        assert f"draw.html?{settings}" in cells[place]["source"] and "<iframe" not in cells[place]["source"]
        assert re.search(rf"^## \d+\. {chapter}$", cells[place - 1]["source"], re.M)


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not (NODE and BROWSER), reason="node and Chromium are not both installed")
def test_a_browser_draws_measures_and_asks_for_nothing(tmp_path):
    """From file://, at 1440 and 390 pixels, light and dark: each control changes the picture; no request, no error."""
    m = model_of(UNETS["grey, attention, classes"])
    file = tmp_path / "page.html"
    file.write_text(web_page.page(m))
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)).save(tmp_path / "own.png")
    controls = [["class", "0"], ["guidance", "4"], ["eta", "0.5"], ["sampler", "ddpm"], ["seed", "7"], ["steps", "9"]]
    ways = [{"width": 1440, "scheme": "light", "full": True}, {"width": 390, "scheme": "dark", "full": False}]
    task = {
        "browser": BROWSER, "profile": str(tmp_path / "profile"), "url": file.as_uri(),
        "steps": 5, "controls": controls,
        "picture": str(tmp_path / "own.png"), "ways": ways, "pictures": os.environ.get("DDPM_PAGE_PICTURES"),
    }  # fmt: skip
    out = node("page_browser.mjs", task, tmp_path)
    assert "failed" not in out, out["failed"]
    assert out["requests"] == [] and out["errors"] == []
    desk, phone = out["pages"]
    drawn = list(desk["drawn"].values())
    alike = [(i, j) for i, a in enumerate(drawn) for j, b in enumerate(drawn[:i]) if a == b]
    assert len(drawn) == len(controls) and not alike
    # The picture is that of the library, and the slider's left end is its noise
    key_x, _ = jax.random.split(jax.random.key(7))
    noise = np.asarray(jax.random.normal(jax.random.fold_in(key_x, 0), (8, 8, 1))).ravel()
    np.testing.assert_allclose(desk["noise"], np.clip(np.round((noise + 1) * 127.5), 0, 255), atol=1)
    assert desk["noiseTime"] == "t = 100" and "class 0: 9 of 9 steps, 18 calls" in desk["status"]
    assert re.match(r"T\(x\|class 0\) = -?\d\.\d+ ± \d\.\d+, 5 draws", desk["typicality"]) and len(set(desk["map"])) > 5
    assert desk["row"] == list(m.classes)
    assert len(set(desk["own"]["pixels"])) > 20 and desk["own"]["typicality"] != desk["typicality"]
    for seen in (desk, phone):
        assert seen["wide"] <= seen["width"] and seen["unnamed"] == []
    assert phone["paper"] == "rgb(20, 22, 24)" and desk["paper"] == "rgb(255, 255, 255)"
