"""Every place a set can come from gives the same set; what is broken is named; a batch is a function of its step."""

import gzip
import hashlib
import http.server
import io
import os
import pickle
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import time
import types
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import data
from ddpm.datasets import formats, published, sources
from ddpm.datasets import prepared as prepared_
from ddpm.tools import cache, image_files
from ddpm.tools.files import Damaged

KEYS = ("x_train", "y_train", "x_test", "y_test")


def fake(name, n_train=50, n_test=20):
    """Random arrays in the shape of a published set; each class occurs."""
    rng = np.random.default_rng(0)
    shape = published.PUBLISHED[name].shape
    out = {}
    for split, n in (("train", n_train), ("test", n_test)):
        out[f"x_{split}"] = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        out[f"y_{split}"] = (np.arange(n) % 10).astype(np.int32)
    return out


def idx_bytes(a):
    a = a.squeeze(-1) if a.ndim == 4 else a
    return bytes([0, 0, 8, a.ndim]) + struct.pack(f">{a.ndim}I", *a.shape) + a.astype(np.uint8).tobytes()


def write_idx(folder, arrays, zipped=True):
    folder.mkdir(parents=True, exist_ok=True)
    for key, stem in formats.IDX.items():
        raw = idx_bytes(arrays[key])
        (folder / f"{stem}{'.gz' if zipped else ''}").write_bytes(gzip.compress(raw) if zipped else raw)


def publish(monkeypatch, name, arrays):
    """Let the checksums of these arrays be those of a published set."""
    sums = tuple(hashlib.sha256(idx_bytes(arrays[key])).hexdigest() for key in formats.IDX)
    monkeypatch.setitem(published.PUBLISHED, name, published.PUBLISHED[name]._replace(unpacked=sums))


def cifar_files(arrays):
    """{file name: bytes}: the label, then all red, all green, all blue, image by image."""
    parts = list(zip(np.split(arrays["x_train"], 5), np.split(arrays["y_train"], 5), strict=True))
    parts.append((arrays["x_test"], arrays["y_test"]))
    out = {}
    for file, (x, y) in zip([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"], parts, strict=True):
        out[file] = b"".join(
            bytes([label]) + b"".join(image[:, :, colour].tobytes() for colour in range(3))
            for image, label in zip(x, y, strict=True)
        )
    return out


def write_tar(file, members):
    with tarfile.open(file, "w:gz") as tar:
        for name, content in {"readme.html": b"hello", **members}.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def assert_same(dataset, arrays):
    for key in KEYS:
        got = getattr(dataset, key)
        np.testing.assert_array_equal(got, arrays[key])
        assert got.dtype == (np.uint8 if key[0] == "x" else np.int32)


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path_factory):
    """No data folder, an empty cache, no network, no tensorflow-datasets; returns the cache folder."""
    cache = tmp_path_factory.mktemp("home") / "cache"
    monkeypatch.setattr("pooch.os_cache", lambda name: cache / name)
    monkeypatch.delenv("DDPM_DATA_DIR", raising=False)
    monkeypatch.delenv("DDPM_OFFLINE", raising=False)
    for module in (sources, prepared_):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr(published, "fetch", no_network)
    publish(monkeypatch, "fashion_mnist", fake("fashion_mnist"))
    return cache / "ddpm"


REAL_UNPACKED = published.PUBLISHED["fashion_mnist"].unpacked
REAL_DIR, REAL_FETCH = os.environ.get("DDPM_DATA_DIR"), published.fetch


def no_network(name, folder):
    raise ConnectionError("no route to host")


# --- sources ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(published.PUBLISHED))
def test_npz(name, tmp_path):
    arrays = fake(name)
    np.savez(tmp_path / f"{name}.npz", **arrays)
    dataset = sources.load(name, tmp_path)
    assert_same(dataset, arrays)
    assert sources.where(name, tmp_path) == dataset.source == str(tmp_path / f"{name}.npz")
    assert (dataset.num_classes, dataset.image_shape) == (10, published.PUBLISHED[name].shape)


def test_npz_as_keras_ships_it(tmp_path):
    """Grey without a channel axis; labels uint8, of CIFAR-10 as a column."""
    grey, colour = fake("fashion_mnist"), fake("cifar10")
    np.savez(
        tmp_path / "fashion_mnist.npz", **{k: a[..., 0] if k[0] == "x" else a.astype("u1") for k, a in grey.items()}
    )
    np.savez(tmp_path / "cifar10.npz", **{k: a if k[0] == "x" else a[:, None].astype("i8") for k, a in colour.items()})
    assert_same(sources.load("fashion_mnist", tmp_path), grey)
    assert_same(sources.load("cifar10", tmp_path), colour)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("sub", ["", "fashion_mnist", "FashionMNIST/raw"])
def test_idx_files(sub, zipped, tmp_path):
    arrays = fake("fashion_mnist")
    write_idx(tmp_path / sub, arrays, zipped)
    dataset = sources.load("fashion_mnist", tmp_path)
    assert_same(dataset, arrays)
    assert sources.where("fashion_mnist", tmp_path) == dataset.source == str(tmp_path / sub)


@pytest.mark.parametrize("sub", ["", "cifar10"])
@pytest.mark.parametrize("kind", ["tar", "folder"])
def test_cifar_files(sub, kind, tmp_path):
    arrays, place = fake("cifar10"), tmp_path / sub
    place.mkdir(exist_ok=True)
    if kind == "tar":
        write_tar(place / "cifar-10-binary.tar.gz", cifar_files(arrays))
    else:
        (place / "cifar-10-batches-bin").mkdir()
        for file, content in cifar_files(arrays).items():
            (place / "cifar-10-batches-bin" / file).write_bytes(content)
    assert_same(sources.load("cifar10", tmp_path), arrays)


def test_order_of_sources(tmp_path, monkeypatch, alone):
    """The given folder before DDPM_DATA_DIR before the cache; in a folder, the .npz before the raw files."""
    sets = [fake("fashion_mnist", n_train=n) for n in (11, 12, 13, 14)]
    given, default = tmp_path / "given", tmp_path / "default"
    for folder in (given, default, alone):
        folder.mkdir(parents=True)
    np.savez(alone / "fashion_mnist.npz", **sets[0])
    assert_same(sources.load("fashion_mnist"), sets[0])
    np.savez(default / "fashion_mnist.npz", **sets[1])
    monkeypatch.setenv("DDPM_DATA_DIR", str(default))
    assert_same(sources.load("fashion_mnist"), sets[1])
    assert_same(sources.load("fashion_mnist", given), sets[1])  # nothing there yet: the next place
    write_idx(given, sets[2])
    publish(monkeypatch, "fashion_mnist", sets[2])
    assert_same(sources.load("fashion_mnist", given), sets[2])
    np.savez(given / "fashion_mnist.npz", **sets[3])
    assert_same(sources.load("fashion_mnist", given), sets[3])


def test_content_hash_does_not_depend_on_the_source(tmp_path):
    arrays = fake("fashion_mnist")
    a, b, c = (tmp_path / s for s in "abc")
    for folder in (a, b, c):
        folder.mkdir()
    np.savez(a / "fashion_mnist.npz", **arrays)
    write_idx(b, arrays)
    changed = arrays | {"x_test": arrays["x_test"] ^ (np.arange(20) == 3).astype("u1")[:, None, None, None]}
    np.savez(c / "fashion_mnist.npz", **changed)
    first, second, third = (sources.load("fashion_mnist", folder).sha256 for folder in (a, b, c))
    assert first == second != third


# --- tensorflow-datasets (a stand-in with its interface) --------------------------------------------------------------


@pytest.fixture
def tfds(monkeypatch):
    """A module that knows `builder_from_directory`, and records its calls. Add `.arrays` and `.format`."""
    module = types.SimpleNamespace(calls=[], arrays=fake("fashion_mnist"), format="array_record", prepare=None)

    def rows(split):
        pairs = zip(module.arrays[f"x_{split}"], module.arrays[f"y_{split}"], strict=True)
        return [{"image": x, "label": np.int64(y)} for x, y in pairs]

    class Builder:
        def __init__(self, folder):
            self.data_dir = folder

        def as_data_source(self, split):
            if module.format == "tfrecord":
                raise NotImplementedError("FileFormat.TFRECORD is not supported")
            module.calls.append(f"source {split}")
            return rows(split)

        def as_dataset(self, split):
            return split

        def download_and_prepare(self, download_dir, download_config):
            module.prepare(self, download_config.manual_dir)

    module.builder_from_directory = Builder
    module.as_numpy = rows
    module.builder = lambda name, data_dir, file_format: Builder(f"{data_dir}/{name}/3.0.1")
    module.download = types.SimpleNamespace(DownloadConfig=types.SimpleNamespace)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
    for module_ in (sources, prepared_):
        monkeypatch.setattr(module_, "find_spec", lambda name: name == "tensorflow_datasets" or None)
    return module


def prepared(folder):
    (folder / "fashion_mnist/3.0.1").mkdir(parents=True)
    (folder / "fashion_mnist/3.0.1/dataset_info.json").write_text("{}")
    return folder / "fashion_mnist/3.0.1"


def test_prepared_set_is_read_once_and_kept(tfds, tmp_path):
    assert sources.where("fashion_mnist", tmp_path) is None
    folder = prepared(tmp_path)
    assert sources.where("fashion_mnist", tmp_path) == str(folder)
    assert_same(sources.load("fashion_mnist", tmp_path), tfds.arrays)
    again = sources.load("fashion_mnist", tmp_path)
    assert_same(again, tfds.arrays)
    assert again.source == str(tmp_path / "fashion_mnist.npz") and tfds.calls == ["source train", "source test"]


def test_prepared_set_in_a_folder_that_cannot_be_written(tfds, tmp_path, monkeypatch, capsys):
    prepared(tmp_path)

    def full(file, arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(formats, "write_npz", full)
    assert_same(sources.load("fashion_mnist", tmp_path), tfds.arrays)
    assert "No space left" in capsys.readouterr().err


def test_tfrecord_needs_tensorflow(tfds, tmp_path, monkeypatch):
    folder, tfds.format = prepared(tmp_path), "tfrecord"
    with pytest.raises(ValueError, match=f"{folder} is stored as tfrecord: install TensorFlow"):
        sources.load("fashion_mnist", tmp_path)
    for module_ in (sources, prepared_):
        monkeypatch.setattr(module_, "find_spec", lambda name: True)
    assert_same(sources.load("fashion_mnist", tmp_path), tfds.arrays)


def test_prepared_set_without_the_library_is_not_found(tmp_path):
    prepared(tmp_path)
    with pytest.raises(FileNotFoundError, match="not installed"):
        sources.load("fashion_mnist", tmp_path)


def test_any_set_of_images_with_labels(tfds, tmp_path, capsys):
    """`tfds:NAME`: sizes that differ are brought to one; one split only is divided, two are kept."""
    rng, S = np.random.default_rng(0), types.SimpleNamespace
    sizes = [(8, 8)] * 20 + [(12, 9)] * 10
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    rows = [{"image": x, "label": np.int64(i % 2)} for i, x in enumerate(images)]
    splits = {"train": rows[:21], "validation": rows[21:]}

    def builder(folder):
        info = S(features={"image": 0, "label": S(names=["cat", "dog"])}, splits=splits)
        return S(info=info, data_dir=folder, as_data_source=lambda split: splits[split])

    tfds.builder_from_directory = builder
    (tmp_path / "pets/1.0.0").mkdir(parents=True)
    (tmp_path / "pets/1.0.0/dataset_info.json").write_text("{}")
    d = sources.load("tfds:pets", tmp_path)
    assert (d.name, d.class_names, d.image_shape) == ("pets", ("cat", "dog"), (8, 8, 3))
    np.testing.assert_array_equal(d.x_train[:20], images[:20])
    np.testing.assert_array_equal(d.y_test, np.arange(21, 30) % 2)
    assert "20 of 8x8, 10 of 12x9, brought to 8x8" in capsys.readouterr().err
    splits.pop("validation")
    d = sources.load("tfds:pets,size=4,grey", tmp_path)
    assert d.image_shape == (4, 4, 1) and len(d.x_train) + len(d.x_test) == 21 and len(d.x_test) >= 2
    with pytest.raises(ValueError, match="needs tensorflow-datasets"):
        with pytest.MonkeyPatch.context() as m:
            m.setattr(prepared_, "find_spec", lambda name: None)
            sources.load("tfds:pets", tmp_path)


# --- download ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves `tmp_path`/www; Fashion-MNIST's published files are stand-ins there, with their own checksums."""
    www, arrays = tmp_path / "www", fake("fashion_mnist")
    write_idx(www, arrays)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            requests.append(self.path)

    requests: list[str] = []
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=www))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    about = published.PUBLISHED["fashion_mnist"]
    sums = {f: hashlib.sha256((www / f).read_bytes()).hexdigest() for f in about.files}
    url = f"http://127.0.0.1:{httpd.server_port}"
    monkeypatch.setitem(published.PUBLISHED, "fashion_mnist", about._replace(url=url, files=sums))
    monkeypatch.setattr(published, "fetch", REAL_FETCH)
    for key in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(key, "127.0.0.1")
    yield types.SimpleNamespace(www=www, arrays=arrays, requests=requests)
    httpd.shutdown()
    httpd.server_close()


def test_downloads_once_without_tensorflow(server, alone):
    dataset = sources.load("fashion_mnist")
    assert_same(dataset, server.arrays)
    assert dataset.source == str(alone / "fashion_mnist.npz") and len(server.requests) == 4
    assert [f.name for f in alone.iterdir()] == ["fashion_mnist.npz"]  # nothing else is left behind
    again = sources.load("fashion_mnist")
    assert_same(again, server.arrays)
    assert len(server.requests) == 4 and again.sha256 == dataset.sha256


def test_download_goes_to_the_chosen_folder(server, tmp_path, monkeypatch):
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    monkeypatch.setenv("DDPM_DATA_DIR", str(chosen))
    assert sources.load("fashion_mnist").source == str(chosen / "fashion_mnist.npz")
    assert (chosen / "fashion_mnist.npz").is_file()


def test_wrong_checksum_is_refused(server, alone):
    file = server.www / "t10k-labels-idx1-ubyte.gz"
    file.write_bytes(gzip.compress(idx_bytes(server.arrays["y_test"][::-1])))  # well-formed, but not what was published
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte\.gz: what came is not what was published"):
        sources.load("fashion_mnist")
    assert list(alone.iterdir()) == []


def test_missing_on_the_server(server):
    (server.www / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="404"):
        sources.load("fashion_mnist")


def test_offline_does_not_ask(server, monkeypatch):
    monkeypatch.setenv("DDPM_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="DDPM_OFFLINE is set"):
        sources.load("fashion_mnist")
    assert server.requests == []


def test_where_tensorflow_is_it_prepares_the_set_too(server, tfds, alone, monkeypatch, capsys):
    for module_ in (sources, prepared_):
        monkeypatch.setattr(module_, "find_spec", lambda name: True)
    seen = []
    tfds.prepare = lambda builder, manual_dir: seen.extend(sorted(os.listdir(manual_dir)))
    tfds.arrays = fake("fashion_mnist", n_train=33)  # it shuffles; ours is the published order
    assert_same(sources.load("fashion_mnist"), server.arrays)
    assert seen == sorted(
        published.PUBLISHED["fashion_mnist"].files
    )  # it gets the files, and so never waits for a network

    def broken(builder, manual_dir):
        raise ModuleNotFoundError("No module named 'importlib_resources'")

    (alone / "fashion_mnist.npz").unlink()
    tfds.prepare = broken
    assert_same(sources.load("fashion_mnist"), server.arrays)
    assert "importlib_resources" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(published.PUBLISHED))
def test_no_network_says_at_once_what_to_do(name, tmp_path, monkeypatch, alone):
    monkeypatch.setenv("DDPM_DATA_DIR", str(tmp_path / "typo"))
    start = time.monotonic()
    with pytest.raises(FileNotFoundError) as e:
        sources.load(name)
    assert time.monotonic() - start < 1
    for words in (f"{tmp_path}/typo (no such folder)", str(alone), f"{name}.npz", "x_train", "no route to host"):
        assert words in str(e.value)
    for words in ("DDPM_DATA_DIR", "--data digits", *published.PUBLISHED[name].files, published.PUBLISHED[name].url):
        assert words in str(e.value)
    assert sources.where(name) is None


def test_unreachable_server_fails_within_seconds(monkeypatch):
    about = published.PUBLISHED["cifar10"]
    monkeypatch.setitem(published.PUBLISHED, "cifar10", about._replace(url="http://127.0.0.1:9"))
    monkeypatch.setattr(published, "fetch", REAL_FETCH)
    for key in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(key, "127.0.0.1")
    start = time.monotonic()
    with pytest.raises(FileNotFoundError, match="ConnectionError"):
        sources.load("cifar10")
    assert time.monotonic() - start < 2


# --- what can be wrong ------------------------------------------------------------------------------------------------


def test_unknown_name():
    with pytest.raises(ValueError, match=r"fashion_mnist, cifar10, digits.*Did you mean 'fashion_mnist'"):
        sources.load("fashion-mnist")
    with pytest.raises(ValueError, match=r"data set 'x' is not known.*path of a folder of images"):
        sources.where("x")


def test_data_dir_must_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data_dir .*nowhere' is not a folder"):
        sources.load("cifar10", tmp_path / "nowhere")


@pytest.mark.parametrize("cut", [0, 10, 0.5, 0.99])
def test_truncated_npz(cut, tmp_path):
    file = tmp_path / "fashion_mnist.npz"
    np.savez_compressed(file, **fake("fashion_mnist"))
    whole = file.read_bytes()
    file.write_bytes(whole[: cut if cut >= 1 else int(cut * len(whole))])
    with pytest.raises(ValueError, match=r"fashion_mnist\.npz is not a whole \.npz file"):
        sources.load("fashion_mnist", tmp_path)


def test_flipped_byte_in_npz(tmp_path):
    file = tmp_path / "fashion_mnist.npz"
    np.savez(file, **fake("fashion_mnist"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"fashion_mnist\.npz is not a whole \.npz file"):
        sources.load("fashion_mnist", tmp_path)


def test_no_flipped_bit_of_the_list_of_an_npz_loses_its_labels(tmp_path):
    """The central directory, bit by bit: refused, or the same images and labels."""
    file = tmp_path / "a.npz"
    x, y = np.random.default_rng(0).integers(0, 255, (6, 2, 2), np.uint8), np.arange(6)
    np.savez(file, arr_0=x, arr_1=y)
    whole, refused = file.read_bytes(), 0
    for i in range(8 * whole.find(b"PK\x01\x02"), 8 * len(whole)):
        content = bytearray(whole)
        content[i // 8] ^= 1 << i % 8
        file.write_bytes(content)
        try:
            images, labels = image_files.load_npz(file)
        except (ValueError, OSError):
            refused += 1
            continue
        np.testing.assert_array_equal(images[..., 0], x)
        np.testing.assert_array_equal(labels, y)
    assert refused > 400


def test_npy_and_pickles_are_refused(tmp_path):
    file = tmp_path / "fashion_mnist.npz"
    with open(file, "wb") as f:
        np.save(f, np.zeros(3))
    with pytest.raises(ValueError, match=r"fashion_mnist\.npz is not a whole"):
        sources.load("fashion_mnist", tmp_path)
    np.savez(file, **fake("fashion_mnist") | {"y_test": np.array([{}] * 20, dtype=object)})
    with pytest.raises(ValueError, match=r"fashion_mnist\.npz .*allow_pickle"):
        sources.load("fashion_mnist", tmp_path)


BROKEN = {
    "keys": (
        lambda a: {"images": a["x_train"], "x_test": a["x_test"]},
        "lacks x_train, y_train, y_test; it holds images",
    ),
    "shape": (
        lambda a: a | {"x_train": a["x_train"][:, :27]},
        r"x_train is uint8 \(50, 27, 28, 1\); wanted uint8 \(N, 28",
    ),
    "channels first": (lambda a: a | {"x_train": a["x_train"].transpose(0, 3, 1, 2)}, r"\(50, 1, 28, 28\)"),
    "floats": (lambda a: a | {"x_test": a["x_test"] / 255}, "x_test is float64"),
    "empty": (lambda a: a | {"x_test": a["x_test"][:0]}, r"x_test is uint8 \(0, 28"),
    "too few labels": (lambda a: a | {"y_train": a["y_train"][:-1]}, r"y_train is int32 \(49,\); .* each of 50 images"),
    "one-hot labels": (lambda a: a | {"y_test": np.eye(10, dtype=int)[a["y_test"]]}, r"y_test is int64 \(20, 10\)"),
    "float labels": (lambda a: a | {"y_test": a["y_test"] * 1.0}, "y_test is float64"),
    "labels from 1": (lambda a: a | {"y_train": a["y_train"] + 1}, r"y_train lies in 1\.\.10; labels are 0\.\.9"),
    "negative labels": (lambda a: a | {"y_test": a["y_test"] - 1}, r"y_test lies in -1\.\.8"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_wrong_contents_of_npz(what, tmp_path):
    change, message = BROKEN[what]
    np.savez(tmp_path / "fashion_mnist.npz", **change(fake("fashion_mnist")))
    with pytest.raises(ValueError, match=message) as e:
        sources.load("fashion_mnist", tmp_path)
    assert str(tmp_path / "fashion_mnist.npz") in str(e.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda raw: gzip.compress(raw)[:-20], "not a whole gzip file"),
        (lambda raw: b"<html>not found</html>", "not a whole gzip file"),
        (lambda raw: gzip.compress(raw[:-1]), r"holds \d+ bytes; its header says"),
        (lambda raw: gzip.compress(raw + b"\0"), r"holds \d+ bytes; its header says"),
        (lambda raw: gzip.compress(b"\0\0\x0d" + raw[3:]), "not an IDX file of bytes; it begins with 00000d"),
        (lambda raw: gzip.compress(raw[:9]), "not an IDX file"),
        (lambda raw: gzip.compress(b""), "not an IDX file"),
    ],
)
def test_broken_idx(content, message, tmp_path):
    arrays = fake("fashion_mnist")
    write_idx(tmp_path, arrays)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(content(idx_bytes(arrays["x_train"])))
    with pytest.raises(ValueError, match=message) as e:
        sources.load("fashion_mnist", tmp_path)
    assert str(file) in str(e.value)


def test_broken_cifar(tmp_path):
    members, file = cifar_files(fake("cifar10")), tmp_path / "cifar-10-binary.tar.gz"
    write_tar(file, {k: v for k, v in members.items() if k != "data_batch_4.bin"})
    with pytest.raises(ValueError, match=r"lacks data_batch_4\.bin"):
        sources.load("cifar10", tmp_path)
    write_tar(file, members | {"data_batch_2.bin": members["data_batch_2.bin"][:-5]})
    with pytest.raises(ValueError, match=r"data_batch_2\.bin has \d+ bytes, not a multiple of 3,073"):
        sources.load("cifar10", tmp_path)
    write_tar(file, members)
    file.write_bytes(file.read_bytes()[:-3000])
    with pytest.raises(ValueError, match=r"cifar-10-binary\.tar\.gz is not a whole tar\.gz file"):
        sources.load("cifar10", tmp_path)


def test_three_of_four_files_are_not_a_set(tmp_path):
    write_idx(tmp_path, fake("fashion_mnist"))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    assert sources.where("fashion_mnist", tmp_path) is None


# --- which set is it? -------------------------------------------------------------------------------------------------


def test_mnist_is_not_taken_for_fashion_mnist(tmp_path, monkeypatch):
    """The files of both have the same names; only checksums tell them apart."""
    mnist = fake("mnist", n_train=11, n_test=21)
    publish(monkeypatch, "mnist", mnist)
    write_idx(tmp_path, mnist)
    assert sources.where("fashion_mnist", tmp_path) is None
    with pytest.raises(FileNotFoundError, match=r"its four IDX files are those of mnist"):
        sources.load("fashion_mnist", tmp_path)
    assert_same(sources.load("mnist", tmp_path), mnist)
    write_idx(tmp_path / "fashion_mnist", fake("fashion_mnist"))  # both at once
    assert_same(sources.load("fashion_mnist", tmp_path), fake("fashion_mnist"))
    assert sources.load("mnist", tmp_path).class_names == tuple("0123456789")


def test_the_checksums_are_those_of_the_real_fashion_mnist():
    """Made again from the arrays; so those of the others are read off the same lists."""
    if REAL_DIR is None or sources.where("fashion_mnist", REAL_DIR) is None:
        pytest.skip("set DDPM_DATA_DIR to a folder with fashion_mnist")
    d = sources.load("fashion_mnist", REAL_DIR)
    made = tuple(hashlib.sha256(idx_bytes(getattr(d, key))).hexdigest() for key in formats.IDX)
    assert made == REAL_UNPACKED
    sums = [s for about in published.PUBLISHED.values() for s in (*about.files.values(), *about.unpacked)]
    assert len(set(sums)) == len(sums) and all(len(bytes.fromhex(s)) == 32 for s in sums)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("key", formats.IDX)
def test_a_changed_byte_in_an_idx_file_is_noticed(key, zipped, tmp_path):
    """The format has no checksum of its own, and a file that was packed again has a good one."""
    arrays = fake("fashion_mnist")
    write_idx(tmp_path, arrays, zipped)
    changed = arrays[key].copy()
    changed.flat[7] ^= 1
    raw = idx_bytes(changed)
    file = tmp_path / f"{formats.IDX[key]}{'.gz' if zipped else ''}"
    file.write_bytes(gzip.compress(raw) if zipped else raw)
    with pytest.raises(Damaged, match=rf"{file.name} is not the published file of fashion_mnist: its SHA-256"):
        sources.load("fashion_mnist", tmp_path)


def test_one_file_of_another_set_is_named(tmp_path, monkeypatch):
    publish(monkeypatch, "mnist", fake("mnist", n_train=11, n_test=21))
    write_idx(tmp_path, fake("fashion_mnist") | {"x_train": fake("mnist", n_train=11, n_test=21)["x_train"]})
    with pytest.raises(Damaged, match=r"train-images.*\.gz is mnist's file of that name"):
        sources.load("fashion_mnist", tmp_path)


@pytest.mark.parametrize("pattern", ["{0}.idx{1}", "{0}-idx{1}/{0}-idx{1}", "{0}-idx{1}/{0}.idx{1}"])
def test_names_of_idx_files_at_kaggle(pattern, tmp_path):
    arrays = fake("fashion_mnist")
    for key, stem in formats.IDX.items():
        file = tmp_path / pattern.format(*stem.split("-idx"))
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(idx_bytes(arrays[key]))
    assert_same(sources.load("fashion_mnist", tmp_path), arrays)


def pickled(images, labels):
    """A batch as Python 2 pickled it: bytes for keys, one row of three planes an image."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    batch = {b"batch_label": b"batch", b"labels": labels.tolist(), b"data": np.ascontiguousarray(planes)}
    return pickle.dumps(batch, protocol=2)


@pytest.mark.parametrize("place", ["", "cifar-10-python", "cifar-10-batches-py-target", "tar"])
def test_cifar_for_python(place, tmp_path):
    """The folder of torchvision, Kaggle and Keras, and the tar file."""
    arrays = fake("cifar10")
    x, y = (np.split(arrays[f"{k}_train"], 5) for k in "xy")
    batches = [*zip(x, y, strict=True), (arrays["x_test"], arrays["y_test"])]
    files = {n: pickled(*batch) for n, batch in zip(formats.CIFAR, batches, strict=True)}
    if place == "tar":
        write_tar(tmp_path / "cifar-10-python.tar.gz", files)
    else:
        folder = tmp_path / place / "cifar-10-batches-py"
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    assert_same(sources.load("cifar10", tmp_path), arrays)


def test_a_pickle_that_is_a_program_is_not_run(tmp_path):
    program = b"cos\nsystem\n(S'touch " + bytes(tmp_path) + b"/run'\ntR."
    with pytest.raises(Damaged, match=r"test_batch is not a batch of CIFAR-10.*it asks for os\.system"):
        formats._records(program, tmp_path / "test_batch")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_changed_byte_in_a_whole_batch_of_cifar_is_noticed(tmp_path):
    """The real batches fit their checksums; one pixel more or less does not, in neither kind of file."""
    if REAL_DIR is None or sources.where("cifar10", REAL_DIR) is None:
        pytest.skip("set DDPM_DATA_DIR to a folder with cifar10")
    d = sources.load("cifar10", REAL_DIR)
    planes = d.x_train.transpose(0, 3, 1, 2).reshape(50_000, 3072)
    records = np.column_stack([d.y_train.astype(np.uint8), planes])
    for i, name in enumerate(formats.CIFAR):
        part = records[10_000 * i : 10_000 * (i + 1)] if name != "test_batch" else records[:1]
        assert name == "test_batch" or hashlib.md5(part.tobytes()).hexdigest() == formats.CIFAR[name]
        if name == "data_batch_4":
            part[77, 99] ^= 1
        (tmp_path / f"{name}.bin").write_bytes(part.tobytes())
    with pytest.raises(Damaged, match=r"data_batch_4\.bin is not the published batch"):
        formats.read_cifar([tmp_path / f"{name}.bin" for name in formats.CIFAR])


def test_where_there_is_no_home(monkeypatch, tmp_path):
    """A container may run as a number: no HOME, no entry in passwd. Then a temporary folder is the cache."""
    monkeypatch.undo()  # of the cache that these tests have
    monkeypatch.delenv("HOME", raising=False)
    for name in ("DDPM_CACHE_DIR", "DDPM_DATA_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    cache._temporary.cache_clear()
    assert cache.folder() == sources.cache_dir() == tmp_path / f"ddpm-cache-{os.getuid()}"
    assert stat.S_IMODE(cache.folder().stat().st_mode) == 0o700
    assert sources.where("cifar10") is None
    cache._temporary.cache_clear()
    (tmp_path / f"ddpm-cache-{os.getuid()}").rmdir()
    (tmp_path / f"ddpm-cache-{os.getuid()}").symlink_to(tmp_path)  # somebody else's bait
    assert cache.folder().name.startswith("ddpm-cache-") and not cache.folder().is_symlink()
    cache._temporary.cache_clear()


# --- the real ones ----------------------------------------------------------------------------------------------------


def test_digits():
    """All 1,797, each once; every class shared out 1,500 : 297 to within one image; the same split each time."""
    from sklearn.datasets import load_digits

    d, published = sources.load("digits"), load_digits()
    assert (d.image_shape, d.num_classes, len(d.x_train), len(d.x_test)) == ((8, 8, 1), 10, 1500, 297)
    assert sources.where("digits") == "built in" and sources.load("digits").sha256 == d.sha256
    both = np.concatenate([d.x_train, d.x_test])[..., 0]
    back = np.round(both * (16 / 255))  # the scaling loses nothing
    rows = np.column_stack([back.reshape(1797, 64), np.concatenate([d.y_train, d.y_test])])
    wanted = np.column_stack([published.data, published.target])
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], wanted[np.lexsort(wanted.T)])
    assert set(np.unique(both)) == {round(v * 255 / 16) for v in range(17)}
    share = np.bincount(d.y_test) - np.bincount(published.target) * 297 / 1797
    assert np.abs(share).max() < 1
    assert np.abs(np.diff(d.y_train)).max() > 1  # shuffled, not by class


@pytest.mark.parametrize(("name", "train"), [("fashion_mnist", 60_000), ("cifar10", 50_000)])
def test_the_published_sets(name, train):
    if REAL_DIR is None or sources.where(name, REAL_DIR) is None:
        pytest.skip(f"set DDPM_DATA_DIR to a folder with {name}")
    d = sources.load(name, REAL_DIR)
    assert len(d.x_train) == train
    np.testing.assert_array_equal(np.bincount(d.y_train), np.full(10, train // 10))
    assert d.x_train.min() == 0 and d.x_train.max() == 255


def test_arrays_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        sources.load("digits").x_train[0] = 0


# --- scaling, classes, batches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("xp", [np, jnp])
def test_scaling_round_trip(xp):
    """All 256 values come back; 0 and 255 become -1 and 1 exactly."""
    x = xp.arange(256, dtype=xp.uint8).reshape(1, 16, 16, 1)
    y = data.to_float(x)
    assert y.dtype == np.float32 and (y.min(), y.max()) == (-1, 1)
    np.testing.assert_array_equal(data.to_uint8(y), x)
    np.testing.assert_allclose(np.diff(np.asarray(y).ravel()), 2 / 255, rtol=1e-4)


def test_scaling_inside_jit():
    x = jnp.arange(256, dtype=jnp.uint8)
    y = jax.jit(data.to_float)(x)
    np.testing.assert_allclose(y, data.to_float(np.asarray(x)), atol=1e-7)
    np.testing.assert_array_equal(jax.jit(data.to_uint8)(y), x)
    half = data.to_uint8(y.astype(jnp.bfloat16))  # 8 bits of precision: off by one at most
    assert half.dtype == jnp.uint8 and np.abs(np.asarray(half, int) - np.arange(256)).max() <= 1


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_nan_is_no_grey_level(array):
    with pytest.raises(ValueError, match="NaN"):
        data.to_uint8(array([[0.0, np.nan]]))
    assert data.to_uint8(array([-np.inf, np.inf])).tolist() == [0, 255]


def test_to_uint8_rounds_and_clips():
    """Never off by more than half a level, and what lies outside [-1, 1] goes to the ends."""
    y = np.random.default_rng(0).uniform(-1, 1, 1000)
    assert np.abs(data.to_uint8(y) - (y + 1) * 127.5).max() <= 0.5 + 1e-4
    np.testing.assert_array_equal(data.to_uint8(np.array([-7.0, -1.001, 1.001, 9.0])), [0, 0, 255, 255])


def test_scaling_refuses_the_wrong_type():
    with pytest.raises(TypeError, match="x has type float32; to_float scales uint8"):
        data.to_float(np.zeros(3, np.float32))
    with pytest.raises(TypeError, match="x has type uint8; to_uint8 takes floats"):
        data.to_uint8(np.zeros(3, np.uint8))
    with pytest.raises(TypeError, match="x has type list"):
        data.to_float([1, 2])


def test_class_index():
    names = published.PUBLISHED["fashion_mnist"].class_names
    for i, name in enumerate(names):
        assert (
            i == data.class_index(names, i) == data.class_index(names, str(i)) == data.class_index(names, np.int64(i))
        )
        assert i == data.class_index(names, name) == data.class_index(names, f" {name.upper()} ")
    with pytest.raises(ValueError, match=r"'trowser' is not known.*T-shirt/top.*Did you mean 'Trouser'"):
        data.class_index(names, "trowser")
    for bad in (10, -1, "99"):
        with pytest.raises(ValueError, match=rf"class {bad} is not known; the classes are 0\.\.9"):
            data.class_index(names, bad)
    for bad in ("", "3.0", "--1", "zzz"):
        with pytest.raises(ValueError, match="is not known"):
            data.class_index(names, bad)


@pytest.mark.parametrize(("n", "batch"), [(100, 10), (103, 10), (7, 7), (5, 1)])
def test_an_epoch_visits_every_image_once(n, batch):
    per_epoch = n // batch
    epochs = []
    for epoch in range(3):
        ids = np.concatenate([data.batch_ids(3, epoch * per_epoch + i, n, batch) for i in range(per_epoch)])
        assert ids.dtype == np.int32 and len(set(ids.tolist())) == len(ids) == per_epoch * batch
        assert 0 <= ids.min() and ids.max() < n
        epochs.append(tuple(ids))
    assert len(set(epochs)) == 3  # each in another order


def test_batches_resume_anywhere():
    """A fresh process that begins at step 17 sees what a straight run sees there; in any order; other seeds do not."""
    straight = [data.batch_ids(1, step, 60, 16).copy() for step in range(40)]
    data._permutation.cache_clear()
    for step in (17, 3, 39, 0):
        np.testing.assert_array_equal(data.batch_ids(1, step, 60, 16), straight[step])
    assert not np.array_equal(data.batch_ids(2, 17, 60, 16), straight[17])


def test_a_batch_costs_microseconds():
    data.batch_ids(0, 0, 60_000, 128)
    start = time.perf_counter()
    for step in range(400):
        data.batch_ids(0, step, 60_000, 128)
    assert (time.perf_counter() - start) / 400 < 200e-6


def test_batch_ids_refuses_nonsense():
    for batch in (0, 11):
        with pytest.raises(ValueError, match=rf"batch is {batch}; a set of 10 images makes batches of 1\.\.10"):
            data.batch_ids(0, 0, 10, batch)
    with pytest.raises(ValueError, match="step is -1"):
        data.batch_ids(0, -1, 10, 5)


def test_importing_does_not_import_jax():
    """So that the command line can say quickly where a set would be found."""
    code = (
        "import sys, ddpm; before = set(sys.modules); from ddpm.datasets import sources; sources.where('cifar10');"
        "new = set(sys.modules) - before; sys.exit(any(m.split('.')[0] in ('jax', 'sklearn', 'requests') for m in new))"
    )
    env = os.environ | {"DDPM_DATA_DIR": os.path.dirname(__file__)}
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == 0
