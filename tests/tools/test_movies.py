"""Films: what is written is what was drawn, in the kind of file and the bytes that were allowed."""

import io

import numpy as np
import pytest
from PIL import Image

from ddpm.tools import movies

RNG = np.random.default_rng(0)
NOISE = [RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8) for _ in range(9)]
FLAT = [np.full((20, 30, 3), 20 * i, np.uint8) for i in range(9)]


def read(path):
    image, frames, times = Image.open(path), [], []
    for i in range(getattr(image, "n_frames", 1)):
        image.seek(i)
        frames.append(np.asarray(image.convert("RGB")))
        times.append(image.info.get("duration"))
    return frames, times


def test_a_webp_has_all_frames_to_the_bit_and_lasts_as_long_as_asked(tmp_path):
    assert movies.save(tmp_path / "a.webp", NOISE, seconds=1.8) == 9
    frames, _ = read(tmp_path / "a.webp")
    np.testing.assert_array_equal(frames, NOISE)
    movies.save(tmp_path / "a.gif", FLAT, seconds=1.8)
    frames, times = read(tmp_path / "a.gif")
    assert np.abs(np.array(frames).astype(int) - FLAT).max() <= 8 and times == [200] * 8 + [2200]


def test_a_strip_has_up_to_eight_frames_with_the_first_and_the_last(tmp_path):
    assert movies.save(tmp_path / "a.png", NOISE) == 8
    (strip,), _ = read(tmp_path / "a.png")
    assert strip.shape == (160, 30, 3)
    np.testing.assert_array_equal(strip[:20], NOISE[0])
    np.testing.assert_array_equal(strip[-20:], NOISE[-1])


@pytest.mark.parametrize("kind", ["webp", "gif", "png"])
def test_too_many_bytes_leave_frames_out_between_the_first_and_the_last(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    n = movies.save(path, NOISE, most_bytes=8000)
    frames = read(path)[0] if kind != "png" else np.split(read(path)[0][0], n)
    assert 2 <= n < 8 and len(frames) == n and path.stat().st_size <= 8000
    for got, wanted in ((frames[0], NOISE[0]), (frames[-1], NOISE[-1])):
        assert np.abs(got.astype(int) - wanted).mean() < 20  # 256 colours of a GIF
    with pytest.raises(ValueError, match=r"two frames of .* take .*100 are allowed"):
        movies.save(tmp_path / "b.webp", NOISE, most_bytes=100)
    assert not (tmp_path / "b.webp").exists()


@pytest.mark.parametrize("n, most", [(9, 4), (9, 20), (2, 1), (1, 5), (100, 7)])
def test_an_even_choice_has_both_ends(n, most):
    some = movies.even(n, most)
    assert some[0] == 0 and some[-1] == n - 1 and len(some) == min(n, max(2, most))
    gaps = np.diff(some)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_the_text_stands_above_the_frame():
    frame = movies.titled(FLAT[3], "t = 1000")
    np.testing.assert_array_equal(frame[movies.BAR :], FLAT[3])
    assert frame[: movies.BAR].min() < 128
    assert Image.open(io.BytesIO(movies._png([frame]))).size == (30, 34)
