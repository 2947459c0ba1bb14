"""The page of shapes that turn: what is in the file, and what a browser draws of it."""

import base64
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from ddpm.mining.turning import SIDES, Solid, packed, save

BROWSER = next((b for b in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if b), None)


def solid(name="one", seed=0):
    rng = np.random.default_rng(seed)
    volume = np.where(rng.random((4, 4, 4)) < 0.5, 0.9, 0.0)
    T = rng.normal(size=64)
    T[::5] = np.nan
    return Solid(name, volume, T, rng.random((4, 4, 4)) < 0.2)


def test_a_voxel_is_packed_with_its_open_sides():
    s = solid()
    rows = np.frombuffer(packed(s, 2.0), np.uint8).reshape(-1, 7).astype(int)
    filled = {tuple(at) for at in np.argwhere(s.volume > 0)}
    sides = {
        at: [bit for bit, d in enumerate(SIDES) if tuple(np.add(at, d)) not in filled] for at in filled
    }  # as one looks at it
    assert {tuple(r[:3]) for r in rows} == {at for at, open_ in sides.items() if open_}
    for r in rows:
        at = tuple(r[:3])
        T = np.nan_to_num(s.T.reshape(4, 4, 4)[at])
        assert r[3] == np.round(255 * 0.9) and r[5] == s.planted[at]
        assert r[4] == 100 + np.clip(np.round(50 * T), -100, 100)
        assert [bit for bit in range(6) if r[6] >> bit & 1] == sides[at]


def test_the_page_is_one_file_with_the_best_shape_first(tmp_path):
    strong = solid("</script>", 1)
    strong = strong._replace(T=np.where(np.isnan(strong.T), np.nan, 9.0))
    save(tmp_path / "shapes.html", "A <b> title", "Words.", [solid(), strong], 2)
    html = (tmp_path / "shapes.html").read_text()
    assert not re.search(r'(src|href)="', html) and "A &lt;b&gt; title" in html
    (text,) = re.findall(r'type="application/json" id="shapes">(.*?)</script>', html)
    shapes = json.loads(text)
    assert [s["name"] for s in shapes] == ["</script>", "one"] and shapes[0]["truth"]
    assert shapes[0]["about"].endswith("+9000.00")
    assert len(base64.b64decode(shapes[1]["voxels"])) % 7 == 0


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no browser")
def test_a_browser_draws_it(tmp_path):
    """The list is filled by the script, and the colours follow T: all red where every voxel helps."""
    red = solid()._replace(T=np.full(64, 1.0), planted=None)
    save(tmp_path / "shapes.html", "t", "w", [red], 2)
    html = (tmp_path / "shapes.html").read_text()
    probe = """<script>const p = pen.getImageData(0, 0, 900, 900).data; let n = 0, r = 0;
    for (let i = 0; i < p.length; i += 4) if (p[i + 3] === 255) { n++; r += p[i] > 2 * p[i + 1]; }
    document.title = [n > 20000, r === n, document.querySelectorAll("#list button").length].join();</script></body>"""
    (tmp_path / "probe.html").write_text(html.replace("</body>", probe))
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"file://{tmp_path}/probe.html"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "<title>true,true,1</title>" in done.stdout
    assert 'value="planted"' not in done.stdout  # no truth, no such choice


@pytest.mark.parametrize(
    ("solids", "match"),
    [
        ([], "no shape"),
        ([solid()._replace(T=np.zeros(63))], "T of 64"),
        ([solid()._replace(volume=np.zeros((4, 4, 4)))], "not all empty"),
    ],
)
def test_bad_input_is_refused(solids, match, tmp_path):
    with pytest.raises(ValueError, match=match):
        save(tmp_path / "shapes.html", "t", "w", solids, 2)
