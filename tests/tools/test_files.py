"""Images to files and back, bit for bit, and files that are not what they should be."""

import numpy as np
import pytest
from PIL import Image

from ddpm.tools import image_files
from ddpm.tools.files import Damaged


def images(n=5, channels=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 6, 4, channels)).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_npz_round_trip_in_the_keys_that_evaluators_read(tmp_path, channels):
    x, c = images(channels=channels), np.arange(5, dtype=np.int32)
    image_files.save_npz(tmp_path / "s.npz", x, c)
    with np.load(tmp_path / "s.npz") as file:
        assert file.files == ["arr_0", "arr_1"]
        assert file["arr_0"].dtype == np.uint8 and file["arr_1"].dtype == np.int64
    back, labels = image_files.load(tmp_path / "s.npz")
    np.testing.assert_array_equal(back, x)
    np.testing.assert_array_equal(labels, c)
    image_files.save_npz(tmp_path / "s.npz", x)
    assert image_files.load(tmp_path / "s.npz")[1] is None


@pytest.mark.parametrize("channels", [1, 3])
def test_png_round_trip_in_order(tmp_path, channels):
    x = images(12, channels)
    image_files.save_png(tmp_path / "new" / "folder", x)
    assert sorted(p.name for p in (tmp_path / "new/folder").iterdir())[10] == "000010.png"
    back, labels = image_files.load(tmp_path / "new" / "folder")
    np.testing.assert_array_equal(back, x)
    assert labels is None


def test_grey_as_three_equal_channels_and_back(tmp_path):
    x = images()
    image_files.save_png(tmp_path / "p", x, rgb=True)
    image_files.save_npz(tmp_path / "s.npz", x, rgb=True)
    for path in ("p", "s.npz"):
        assert image_files.load(tmp_path / path)[0].shape == (5, 6, 4, 3)
        np.testing.assert_array_equal(image_files.load(tmp_path / path, channels=1)[0], x)
    image_files.save_png(tmp_path / "c", images(channels=3))  # real colours stay
    assert image_files.load(tmp_path / "c", channels=1)[0].shape == (5, 6, 4, 3)


def test_grey_and_colour_files_in_one_folder_become_colour(tmp_path):
    grey, colour = images(1), images(1, 3)
    Image.fromarray(grey[0, :, :, 0]).save(tmp_path / "a.png")
    Image.fromarray(colour[0]).save(tmp_path / "b.PNG")
    x = image_files.load_png(tmp_path)
    np.testing.assert_array_equal(x[0], np.repeat(grey[0], 3, axis=2))
    np.testing.assert_array_equal(x[1], colour[0])


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(TypeError, match="to_uint8"):
        image_files.save_npz(tmp_path / "s.npz", np.zeros((2, 4, 4, 1)))
    with pytest.raises(ValueError, match=r"\(n, H, W, 1\)"):
        image_files.save_png(tmp_path / "p", np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="give 5 integers"):
        image_files.save_npz(tmp_path / "s.npz", images(), np.arange(4))
    image_files.save_png(tmp_path / "p", images())
    with pytest.raises(ValueError, match="not empty"):
        image_files.save_png(tmp_path / "p", images())


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.npz"):
        image_files.load(tmp_path / "nothing.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no \.png"):
        image_files.load(tmp_path / "empty")
    image_files.save_npz(tmp_path / "s.npz", images(400))
    whole = (tmp_path / "s.npz").read_bytes()
    (tmp_path / "s.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Damaged, match=r"s\.npz"):
        image_files.load(tmp_path / "s.npz")
    np.savez(tmp_path / "other.npz", images=images())
    with pytest.raises(ValueError, match="arr_0"):
        image_files.load(tmp_path / "other.npz")
    np.savez(tmp_path / "bad.npz", arr_0=images(), arr_1=np.arange(4))
    with pytest.raises(ValueError, match="5 labels"):
        image_files.load(tmp_path / "bad.npz")
    image_files.save_png(tmp_path / "p", images())
    (tmp_path / "p/000002.png").write_bytes(b"no image")
    with pytest.raises(Damaged, match="000002"):
        image_files.load(tmp_path / "p")
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(tmp_path / "p/000002.png")
    with pytest.raises(ValueError, match="has size"):
        image_files.load(tmp_path / "p")
