"""One's own images: what is in a folder comes out as a data set, or a sentence says why not; nothing in it changes."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm.datasets import kept, listing, own, reading, sources, split
from ddpm.tools import cache, pictures
from ddpm.tools.files import Damaged


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    """A cache of its own for each test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DDPM_CACHE_DIR", str(folder))
    return folder


def draw(n, size=(6, 4), channels=3, seed=0):
    shape = (n, *size, channels) if channels == 3 else (n, *size)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, x, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(x).save(path, **how)


def classes(folder, n=20, names=("cat", "dog"), **how):
    """A folder of n images for each class; returns {path: pixels}."""
    saved = {}
    for k, name in enumerate(names):
        for i, x in enumerate(draw(n, seed=k, **how)):
            saved[f"{name}/{i:03d}.png"] = x
            save(folder / name / f"{i:03d}.png", x)
    return saved


def everything(d):
    """{pixels: (label, is a test image)}"""
    return {
        x.tobytes(): (int(k), test)
        for images, labels, test in ((d.x_train, d.y_train, False), (d.x_test, d.y_test, True))
        for x, k in zip(images, labels, strict=True)
    }


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_class_folders_give_every_image_its_class(tmp_path, capsys):
    saved = classes(tmp_path / "pets", names=("dog", "cat"))
    d = sources.load(str(tmp_path / "pets"))
    found = everything(d)
    assert (d.name, d.class_names, d.image_shape) == ("pets", ("cat", "dog"), (6, 4, 3))
    assert {x.tobytes(): int(path[:3] == "dog") for path, x in saved.items()} == {x: k for x, (k, _) in found.items()}
    assert set(d.y_test) == {0, 1} and len(d.x_train) + len(d.x_test) == 40
    printed = capsys.readouterr().err
    assert "pets: 40 images 6x4x3" in printed and "cat 20, dog 20" in printed


def test_a_flat_folder_has_no_classes(tmp_path):
    for i, x in enumerate(draw(12, channels=1)):
        save(tmp_path / f"{i}.png", x)
    d = sources.load(tmp_path)
    assert (d.class_names, d.num_classes, d.image_shape) == ((), 0, (6, 4, 1))
    assert not d.y_train.any() and d.y_train.dtype == np.int32


def test_train_and_test_folders_are_kept(tmp_path, capsys):
    a, b = draw(10), draw(6, seed=1)
    for i in range(10):
        save(tmp_path / "train" / f"c{i % 2}" / f"{i}.png", a[i])
    for i in range(6):
        save(tmp_path / "test" / f"c{i % 2}" / f"{i}.png", b[i])
    save(tmp_path / "test/c0/leak.png", a[0])
    d = sources.load(tmp_path)
    assert {x.tobytes() for x in d.x_train} == {x.tobytes() for x in a}
    assert {x.tobytes() for x in d.x_test} == {x.tobytes() for x in (*b, a[0])}
    assert "1 images are in both train and test" in capsys.readouterr().err


def test_numbers_are_sorted_as_numbers(tmp_path):
    classes(tmp_path, n=2, names=[str(k) for k in range(11)])
    assert sources.load(tmp_path).class_names == tuple(str(k) for k in range(11))


@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_a_table_of_labels(tmp_path, sign):
    """Names with and without their suffix; the table lies in the folder, or is given."""
    x = draw(8)
    for i in range(8):
        save(tmp_path / "flat" / f"{i}.png", x[i])
    rows = [f"{i}{'.png' if i % 2 else ''}{sign}{'odd' if i % 2 else 'even'}" for i in range(8)]
    table = "\ufeff" + "\n".join([f"id{sign}label", *rows])
    (tmp_path / "t.csv").write_text(table, encoding="utf-8")
    d = sources.load(tmp_path / "flat", labels=str(tmp_path / "t.csv"))
    assert d.class_names == ("even", "odd")
    assert {x: k for x, (k, _) in everything(d).items()} == {x[i].tobytes(): i % 2 for i in range(8)}
    (tmp_path / "flat/labels.csv").write_text(table, encoding="utf-8")
    assert sources.load(tmp_path / "flat").sha256 == d.sha256


def test_a_zip_is_the_same_as_its_folder(tmp_path):
    classes(tmp_path / "pets", n=5)
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for file in sorted((tmp_path / "pets").rglob("*.png")):
            archive.write(file, file.relative_to(tmp_path))
        archive.writestr("__MACOSX/pets/cat/._000.png", b"junk")
    a, b = sources.load(tmp_path / "pets"), sources.load(tmp_path / "pets.zip")
    assert a.sha256 == b.sha256 and (a.name, a.class_names) == (b.name, b.class_names)


def test_sizes_become_the_most_common_or_the_one_asked_for(tmp_path, capsys):
    for i, x in enumerate(draw(9, (8, 8))):
        save(tmp_path / f"a{i}.jpg", x)
    for i, x in enumerate(draw(5, (16, 12), seed=1)):
        save(tmp_path / f"b{i}.webp", x)
    save(tmp_path / "c.bmp", draw(1, (3, 3), seed=2)[0])
    assert sources.load(tmp_path).image_shape == (8, 8, 3)
    printed = capsys.readouterr().err
    assert "sizes: 9 of 8x8, 5 of 16x12, 1 of 3x3, brought to 8x8; 1 of them smaller" in printed
    for text, shape in (
        (",size=4", (4, 4, 3)),
        (",size=4,grey", (4, 4, 1)),
        (",size=10,fit=pad,ground=0", (10, 10, 3)),
    ):
        assert sources.load(f"{tmp_path}{text}").image_shape == shape
    a, b = sources.load(f"{tmp_path},size=4,grey"), sources.load(tmp_path, size=4, grey=True)
    assert a.sha256 == b.sha256


def test_one_colour_image_makes_all_of_them_colour(tmp_path):
    grey = draw(9, channels=1)
    for i in range(9):
        save(tmp_path / f"{i}.png", grey[i])
    save(tmp_path / "c.png", draw(1)[0])
    d = sources.load(tmp_path)
    assert d.image_shape == (6, 4, 3)
    assert {np.dstack([x] * 3).tobytes() for x in grey} < set(everything(d))
    assert sources.load(tmp_path, grey=True).image_shape == (6, 4, 1)


def test_npz_of_either_kind(tmp_path):
    x, y = draw(30, (8, 8)), np.arange(30) % 3
    np.savez(tmp_path / "a.npz", arr_0=x, arr_1=y)
    d = sources.load(tmp_path / "a.npz")
    assert everything(d).keys() == {i.tobytes() for i in x} and d.class_names == ("0", "1", "2")
    arrays = {"x_train": x[:20], "y_train": y[:20], "x_test": x[20:], "y_test": y[20:]}
    np.savez(tmp_path / "b.npz", **arrays, class_names=np.array(["a", "b", "c"]))
    d = sources.load(tmp_path / "b.npz")
    np.testing.assert_array_equal(d.x_test, x[20:])
    assert d.class_names == ("a", "b", "c")
    np.savez(tmp_path / "c.npz", arr_0=x)
    assert sources.load(tmp_path / "c.npz").num_classes == 0
    with pytest.raises(ValueError, match="size is for image files"):
        sources.load(tmp_path / "c.npz", size=4)
    np.savez(tmp_path / "d.npz", images=x)
    with pytest.raises(ValueError, match=r"holds images; images are wanted under arr_0; or .* x_train"):
        sources.load(tmp_path / "d.npz")


@pytest.mark.parametrize("first", ["grey", "small", "bad"])
def test_a_first_image_unlike_the_others_changes_nothing(tmp_path, first):
    """All images are read as the first one is, until another says that this was wrong."""
    x = draw(20, (8, 8))
    for i in range(20):
        save(tmp_path / f"b{i}.png", x[i])
    wanted = everything(sources.load(tmp_path)).keys()
    if first == "bad":
        (tmp_path / "a.png").write_bytes(b"no image")
    else:
        save(tmp_path / "a.png", draw(1, (8, 8), channels=1)[0] if first == "grey" else draw(1, (5, 5))[0])
    got = everything(sources.load(tmp_path, skip_bad=True)).keys()
    assert wanted <= got and len(got) == (20 if first == "bad" else 21)


# --- the split --------------------------------------------------------------------------------------------------------


def test_equal_images_are_on_one_side_and_are_counted(tmp_path, capsys):
    """Equal pixels: in another format, under another name, in another class."""
    x = draw(60, (5, 5))
    for i in range(60):
        save(tmp_path / "a" / f"{i}.png", x[i])
        save(tmp_path / ("b" if i % 2 else "a") / f"again {i}.bmp", x[i])
    d = sources.load(tmp_path)
    train, test = ({i.tobytes() for i in part} for part in (d.x_train, d.x_test))
    assert not train & test and len(train | test) == 60 and len(test) > 0
    printed = capsys.readouterr().err
    assert "60 images equal another one" in printed and "30 images are in two classes" in printed


def test_an_image_stays_on_its_side_when_others_come(tmp_path):
    classes(tmp_path, n=30)
    before = everything(sources.load(tmp_path))
    classes(tmp_path, n=60)
    after = everything(sources.load(tmp_path))
    moved = [x for x, (_, test) in before.items() if after[x][1] != test]
    assert not moved and len(after) == 120


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_share_to_test_on(share):
    """Binomial(5000, share): within four standard deviations."""
    hashes = [bytes(h) for h in np.random.default_rng(0).integers(0, 256, (5000, 32), dtype=np.uint8)]
    test, _ = split.sides(hashes, np.zeros(5000, int), [None] * 5000, (), share, "x")
    assert abs(test.sum() - 5000 * share) < 4 * np.sqrt(5000 * share * (1 - share))


def test_dividing_in_place_is_a_stable_partition():
    rng = np.random.default_rng(0)
    x = np.arange(5000).reshape(-1, 1, 1, 1)
    rows = np.sort(rng.permutation(5000)[:4000])
    test = rng.random(4000) < 0.3
    wanted = np.concatenate([rows[~test], rows[test]])
    out, y, n = split.divided(x, rows.copy(), rows, test)
    np.testing.assert_array_equal(out[:, 0, 0, 0], wanted)
    np.testing.assert_array_equal(y, wanted)
    assert n == (~test).sum() and np.shares_memory(out, x)


# --- the cache --------------------------------------------------------------------------------------------------------


def test_the_second_time_nothing_is_decoded(tmp_path, monkeypatch, capsys):
    classes(tmp_path)
    first, printed = sources.load(tmp_path), capsys.readouterr().err
    with monkeypatch.context() as m:
        m.setattr(pictures, "decode", None)
        again = sources.load(tmp_path)
    assert again.sha256 == first.sha256 and again.class_names == first.class_names
    assert capsys.readouterr().err == printed and not again.x_train.flags.writeable
    save(tmp_path / "cat/000.png", draw(1, seed=9)[0])  # another content: another key
    assert sources.load(tmp_path).sha256 != first.sha256


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "card.json"])
def test_a_changed_byte_in_the_cache_is_noticed(tmp_path, home, name, capsys):
    classes(tmp_path)
    first = sources.load(tmp_path)
    (file,) = home.glob(f"images-*/{name}")
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    assert sources.load(tmp_path).sha256 == first.sha256
    assert "is damaged" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_is_not_fatal(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DDPM_CACHE_DIR", str(tmp_path / "file" / "cache"))
    classes(tmp_path / "pets")
    assert len(sources.load(tmp_path / "pets").x_train) > 20
    assert "could not keep the images" in capsys.readouterr().err


def test_what_a_killed_process_left_is_swept(tmp_path, home):
    (home / ".images-abc").mkdir()
    os.utime(home / ".images-abc", (0, 0))
    classes(tmp_path)
    sources.load(tmp_path)
    assert [f.name[:7] for f in home.iterdir()] == ["images-"]


def test_the_folder_stays_as_it_is(tmp_path):
    classes(tmp_path)
    before = {f: (f.stat().st_mtime_ns, f.stat().st_size) for f in tmp_path.rglob("*")}
    sources.load(tmp_path, size=3)
    assert {f: (f.stat().st_mtime_ns, f.stat().st_size) for f in tmp_path.rglob("*")} == before


# --- what is skipped, and what is refused -----------------------------------------------------------------------------


def test_what_is_no_image_is_skipped_and_counted(tmp_path, capsys):
    classes(tmp_path / "pets", n=3)
    folder = tmp_path / "pets/cat"
    for name in (".hidden.png", "._000.png", "Thumbs.db", "notes.txt", "raw.tif"):
        (folder / name).write_bytes(b"x")
    (folder / "link.png").symlink_to(folder / "000.png")
    (tmp_path / "pets/loop").symlink_to(tmp_path / "pets")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.png")
    assert len(everything(sources.load(tmp_path / "pets"))) == 6
    printed = capsys.readouterr().err
    for words in ("3 hidden or system files", "2 symbolic links", "1 .txt files", "1 .tif files", "1 pipes"):
        assert f"skipped: {words}" in printed


def test_bad_files_are_named_and_refused_or_skipped(tmp_path, capsys):
    classes(tmp_path, n=10)
    whole = (tmp_path / "cat/003.png").read_bytes()
    (tmp_path / "cat/003.png").write_bytes(whole[:-30])
    stream = io.BytesIO()
    Image.fromarray(draw(1, (40, 40))[0]).save(stream, "JPEG")
    (tmp_path / "dog/004.jpg").write_bytes(stream.getvalue()[:-200])
    with pytest.raises(Damaged, match=r"cat/003\.png is not a whole PNG.*leave such files out: --skip-bad"):
        sources.load(tmp_path)
    for _ in range(2):  # read, and from the cache
        d = sources.load(tmp_path, skip_bad=True, size=6)
        printed = capsys.readouterr().err
        assert len(everything(d)) == 19 and "skipped: 2 files that cannot be read" in printed
        assert "cat/003.png" in printed and "dog/004.jpg" in printed


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    classes(tmp_path, n=3)
    real = open

    def no_entry(file, *args):
        if str(file).endswith("001.png"):
            raise PermissionError(13, "Permission denied")
        return real(file, *args)

    monkeypatch.setattr(listing, "open", no_entry, raising=False)
    with pytest.raises(Damaged, match=r"001\.png cannot be read: Permission denied"):
        sources.load(tmp_path)


@pytest.mark.parametrize("what", ["changed", "gone", "new"])
def test_a_folder_that_changes_while_it_is_read(tmp_path, what, monkeypatch):
    classes(tmp_path, n=3)
    file = tmp_path / "dog/002.png"
    real = own._read

    def meanwhile(*args):
        if what == "new":
            save(tmp_path / "dog/later.png", draw(1, seed=5)[0])
        elif what == "gone":
            file.unlink()
        else:
            save(file, draw(1, seed=5)[0])
        return real(*args)

    monkeypatch.setattr(own, "_read", meanwhile)
    with pytest.raises(ValueError, match=f"has {'gone' if what == 'gone' else 'changed'} while"):
        sources.load(tmp_path)


def one(folder):
    save(folder / "a.png", draw(1)[0])


def twice(folder):
    for name in "ab":
        save(folder / f"{name}.png", draw(1)[0])


def lonely(folder):
    classes(folder, n=3)
    save(folder / "emu/a.png", draw(1, seed=7)[0])


def huge(folder):
    for i in range(2):
        save(folder / f"{i}.png", np.full((300, 400), i, np.uint8))


def mixed(folder):
    classes(folder, n=3)
    one(folder)


def deep(folder):
    save(folder / "a/b/c.png", draw(1)[0])


def table(text):
    def make(folder):
        for i, x in enumerate(draw(3)):
            save(folder / f"{i}.png", x)
        (folder / "labels.csv").write_text(text)

    return make


def both(folder):
    classes(folder, n=3)
    (folder / "labels.csv").write_text("file,label\n000.png,a\n")


REFUSED = {
    "empty": (lambda folder: None, r"holds no image \(.png .jpg .webp .bmp .gif\); it holds nothing"),
    "other files": (lambda folder: (folder / "a.txt").write_text("x"), "holds no image .*it holds 1 .txt files"),
    "one image": (one, "holds one image, or copies of one; give at least two"),
    "copies of one": (twice, "holds one image, or copies of one"),
    "a class of one": (lonely, "class 'emu' has one image; give at least two different ones"),
    "too large": (huge, r"are 300x400; give a size, such as --size 64"),
    "beside classes": (mixed, r"a\.png lies next to class folders"),
    "two deep": (deep, r"a/b/c\.png lies two folders deep"),
    "a page as a class": (lambda f: classes(f, 2, ("a", "<b>")), "'<b>' cannot be the name of a class"),
    "a line as a class": (lambda f: classes(f, 2, ("a", "b\nc")), "cannot be the name of a class"),
    "classes that differ in case": (lambda f: classes(f, 2, ("Cat", "cat")), "'Cat' and 'cat' differ only in case"),
    "labels and classes": (both, "labels.csv gives labels, and so do the sub-folders"),
    "a table without a row": (table("file,label\n0,a\n1.png,b\n"), r"has no row for 2\.png"),
    "a table without an image": (table("file,label\n0,a\n1,a\n2,a\n../9,b\n"), r"1 rows without an image.*'\.\./9'"),
    "two labels": (table("file,label\n0,a\n0,b\n"), "gives 0 two labels: 'a' and 'b'"),
    "a path as a label": (table("file,label\n0,a\n1,a\n2,../x\n"), r"'\.\./x' cannot be the name of a class"),
    "no header": (table("0.png,a\n"), r"begins with 0\.png, a; a header with the columns file and label"),
    "a row too long": (table("file,label\n0,a,b\n"), "row 2 has 3 columns; the header has 2"),
    "an empty table": (table(""), "begins with nothing"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_with_a_sentence(what, tmp_path, home):
    make, message = REFUSED[what]
    (tmp_path / "f").mkdir()
    make(tmp_path / "f")
    with pytest.raises(ValueError, match=message):
        sources.load(tmp_path / "f")
    assert not list(home.iterdir())  # nothing half-written


def test_names_that_differ_in_case_are_said(tmp_path, capsys):
    x = draw(3)
    for name, image in zip(("a.png", "A.png", "b.png"), x, strict=True):
        save(tmp_path / name, image)
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip("this file system does not tell cases apart")
    assert len(everything(sources.load(tmp_path))) == 3
    assert "1 name differs from another only in case" in capsys.readouterr().err


def test_zips_that_are_refused(tmp_path):
    def packed(*names):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for name in names:
                archive.writestr(name, b"x")
        return tmp_path / "a.zip"

    with pytest.raises(Damaged, match=r"holds '\.\./x\.png', a path that leads out"):
        sources.load(packed("../x.png"))
    with pytest.raises(ValueError, match="holds no image"):
        sources.load(packed("a.txt"))
    (tmp_path / "a.zip").write_bytes(packed("a.png").read_bytes()[:-30])
    with pytest.raises(Damaged, match=r"a\.zip is not a whole \.zip"):
        sources.load(tmp_path / "a.zip")


# --- paths and options ------------------------------------------------------------------------------------------------


def test_a_name_is_no_path_and_a_path_no_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classes(tmp_path / "digits", n=3)
    assert sources.load("digits").image_shape == (8, 8, 1)  # scikit-learn's
    assert sources.load("./digits").image_shape == (6, 4, 3)
    assert sources.where("./digits") == "digits"
    classes(tmp_path / "my,pets", n=3)
    assert sources.load("my,pets").name == "my-pets"
    assert sources.load("my,pets,size=3").image_shape == (3, 3, 3)
    for text, error, message in (
        ("nowhere/at/all", FileNotFoundError, "nowhere/at/all is not there"),
        ("a.npz", FileNotFoundError, r"a\.npz is not there"),
        ("", ValueError, "data set '' is not known"),
        ("digits,size=4", ValueError, "size=4 is for one's own images; digits is read"),
        ("./digits,size=x", ValueError, "'x' is not a value for size"),
        ("./digits,sice=4", ValueError, "sice is not an option. Known: size, fit"),
        ("./digits,size=0", ValueError, r"size is 0; give a side of 1\.\.4096"),
        ("./digits,fit=zoom", ValueError, "fit 'zoom' is not known"),
        ("./digits,ground=256", ValueError, "ground is 256"),
        ("./digits,test=1", ValueError, "test is 1.0"),
        (str(Path(__file__)), ValueError, "is not a folder of images, a .zip of one, or an .npz"),
    ):
        with pytest.raises(error, match=message):
            sources.load(text)
    with pytest.raises(ValueError, match="size is for one's own images"):
        sources.load("digits", size=4)


def test_a_word_for_file_names(tmp_path):
    for text, word in (
        ("cifar10", "cifar10"),
        (f"{tmp_path}/my photos/,size=8", "my-photos"),
        (f"{tmp_path}/a.npz", "a"),
        ("../..", Path("../..").resolve().name or "images"),
        ("tfds:beans/v1,size=4", "beans-v1"),
    ):
        assert reading.short_name(text) == word


def test_memory_and_threads_do_not_change_what_comes_out(tmp_path, monkeypatch):
    """In order of the paths, whatever thread was faster."""
    saved = classes(tmp_path, n=70, names=("b", "a"))
    d = sources.load(tmp_path)
    test = {x.tobytes() for x in d.x_test}
    wanted = [x for path, x in sorted(saved.items()) if x.tobytes() not in test]
    np.testing.assert_array_equal(d.x_train, wanted)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setenv("DDPM_CACHE_DIR", str(tmp_path / "other"))
    assert sources.load(tmp_path).sha256 == d.sha256


def test_listing_reads_nothing(tmp_path):
    classes(tmp_path, n=2)
    (tmp_path / "cat/000.png").write_bytes(b"")
    found = listing.listed(tmp_path)
    assert [e.path for e in found.entries] == ["cat/000.png", "cat/001.png", "dog/000.png", "dog/001.png"]
    assert kept.find(cache.key("nothing")) is None
