"""Images to files and back, bit for bit, and files that are not what they should be."""

import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from ddpm.datasets import formats
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
    x = image_files.load_folder(tmp_path)[0]
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


def test_sub_folders_are_labels(tmp_path):
    x = images(4, 3)
    image_files.save_png(tmp_path / "1", x[:3])
    image_files.save_png(tmp_path / "Dress", x[3:])
    back, labels = image_files.load(tmp_path, classes=("Shirt", "Bag", "dress"))
    np.testing.assert_array_equal(back, x)
    np.testing.assert_array_equal(labels, [1, 1, 1, 2])
    with pytest.raises(ValueError, match="Dress is not a class; name sub-folders by number"):
        image_files.load(tmp_path)


def test_a_size_is_checked_before_pixels_are_decoded(tmp_path, monkeypatch):
    """28x28 are wanted: half a megabyte of PNG could be gigabytes of pixels, and so an .npz of zeros."""
    Image.fromarray(np.zeros((3000, 3000), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr("ddpm.tools.pictures.decode", None)
    with pytest.raises(ValueError, match=r"a\.png has size 3000x3000; 28x28 are wanted"):
        image_files.load(tmp_path, size=(28, 28))
    np.savez_compressed(tmp_path / "s.npz", arr_0=np.zeros((2, 3000, 300), np.uint8))
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(ValueError, match=r"^[^:]*s\.npz: arr_0 has shape \(2, 3000, 300\); images of 28x28"):
        image_files.load(tmp_path / "s.npz", size=(28, 28))


def test_an_array_that_claims_more_than_its_file_holds(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 8, 8, 1)})
    with zipfile.ZipFile(tmp_path / "s.npz", "w") as archive:
        archive.writestr("arr_0.npy", header.getvalue() + bytes(64))
    with pytest.raises(Damaged, match=r"arr_0\.npy claims uint8 \(1099511627776, 8, 8, 1\), and holds 64 bytes"):
        image_files.load(tmp_path / "s.npz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_does_not_hang(tmp_path):
    (tmp_path / "p").mkdir()
    for pipe in (tmp_path / "s.npz", tmp_path / "p/a.png"):
        os.mkfifo(pipe)
    for path in (tmp_path / "s.npz", tmp_path / "p"):
        with pytest.raises(ValueError, match="is a pipe, a socket or a device, not a file"):
            image_files.load(path)
    with pytest.raises(ValueError, match="is a pipe, a socket or a device, not a file"):
        formats.read_npz(tmp_path / "s.npz")
