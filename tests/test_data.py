"""What 01_data should not hold: damaged files and archives, and the batch order for many cases."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tinydata import FILES, idx, one_line, put, tiny

from lsd_nb.core import LSDError
from lsd_nb.data import batches, load_dataset, save_dataset, sprites

few = settings(max_examples=40, deadline=None)


# ---- datasets by path


@pytest.mark.parametrize("sub, gz", [("", False), ("raw", False), ("", True), ("raw", True)])
def test_by_path(tmp_path, sub, gz):
    put(tmp_path / "mine" / sub, tiny(n=24, size=7), gz)
    got = load_dataset(tmp_path / "mine")
    assert got.train.images.shape == (22, 1, 7, 7) and got.train.images.dtype == torch.float32
    assert got.valid.labels.tolist() == [2, 3] and got.classes == [str(k) for k in range(10)]
    assert got.test.images[5, 0, 0, 0].item() == pytest.approx(5 / 127.5 - 1, abs=1e-6)
    assert (
        sorted(p.suffix for p in (tmp_path / "mine" / sub).iterdir() if p.is_file())
        == [".gz" * gz] * 4
    )


def test_by_the_name_of_a_folder_among_the_data(tmp_path, monkeypatch):
    monkeypatch.setenv("LSD_NB_DATA", str(tmp_path))
    put(tmp_path / "mine/raw", tiny())
    assert load_dataset("mine").name == "mine"


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda c: c.update({FILES[0]: c[FILES[0]][:700]}), "is not a whole IDX file"),
        (lambda c: c.update({FILES[3]: b""}), "is not a whole IDX file"),
        (lambda c: c.update({FILES[0]: b"\x89PNG" + bytes(99)}), "is not a whole IDX file"),
        (lambda c: c.update({FILES[1]: idx(np.arange(5))}), "36 images but 5 labels"),
        (lambda c: c.update(dict(list(tiny(0).items())[2:])), "has no images"),
        (lambda c: c.update(dict(list(tiny(size=9).items())[2:])), "do not fit"),
        (lambda c: c.pop(FILES[2]), "unknown dataset"),
    ],
)
def test_bad_files_by_path(tmp_path, change, says):
    contents = tiny()
    change(contents)
    put(tmp_path / "bad", contents)
    with pytest.raises(LSDError, match=says) as e:
        load_dataset(tmp_path / "bad")
    one_line(e)


def test_bad_gz_by_path(tmp_path):
    put(tmp_path, tiny(), gz=True)
    path = tmp_path / f"{FILES[0]}.gz"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(LSDError, match="cannot be unpacked") as e:
        load_dataset(tmp_path)
    one_line(e)


# ---- batches


@few
@given(
    n=st.integers(1, 60),
    per=st.integers(1, 9),
    world=st.integers(1, 4),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 5),
    drop=st.booleans(),
)
def test_every_example_once_and_shards_make_the_whole(n, per, world, seed, epoch, drop):
    size, x = per * world, torch.arange(n)
    if drop and n < size:
        return

    def make(**kw):
        made = batches(x, batch_size=size, seed=seed, epoch=epoch, drop_last=drop, **kw)
        return [b for (b,) in made]

    whole = make()
    assert (
        len(whole)
        == len(batches(x, batch_size=size, seed=seed, drop_last=drop))
        == (n // size if drop else -(-n // size))
    )
    seen = torch.cat(whole)
    assert len(seen.unique()) == len(seen) == (n // size * size if drop else n)
    for parts in zip(whole, *(make(shard=(rank, world)) for rank in range(world)), strict=True):
        assert torch.equal(parts[0], torch.cat(parts[1:]))


@few
@given(n=st.integers(8, 60), start=st.integers(0, 3), seed=st.one_of(st.none(), st.integers(0, 99)))
def test_resuming_gives_the_rest(n, start, seed):
    x = torch.arange(n)
    if start > n // 8:
        return
    rest = batches(x, batch_size=8, seed=seed, start=start)
    whole = list(batches(x, batch_size=8, seed=seed))
    assert len(rest) == len(whole) - start
    for (a,), (b,) in zip(rest, whole[start:], strict=True):
        assert torch.equal(a, b)


def test_order_is_stable_and_depends_on_seed_and_epoch():
    x = torch.arange(1000)

    def first(**kw):
        return next(iter(batches(x, batch_size=500, **kw)))[0].tolist()

    torch.manual_seed(1)
    a = first(seed=0)
    torch.manual_seed(2)
    b = first(seed=0)
    assert a == b
    assert len({tuple(first(seed=s, epoch=e)) for s in range(3) for e in range(3)}) == 9
    assert first() == list(range(500))


def test_pairs_stay_together_and_iteration_repeats():
    x = torch.arange(50)
    both = batches(x, -x, batch_size=7, seed=3)
    assert all(torch.equal(a, -b) for a, b in both)
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(both, both, strict=True))


@pytest.mark.parametrize(
    "kwargs",
    [
        dict(batch_size=0),
        dict(batch_size=4, shard=(2, 2)),
        dict(batch_size=5, shard=(0, 2)),
        dict(batch_size=99, seed=0),
        dict(batch_size=4, start=99),
        dict(batch_size=4, epoch=-1),
        dict(batch_size=4, seed=-1),
        dict(batch_size=2.5),
        dict(batch_size=float("nan")),
        dict(batch_size=None),
        dict(batch_size=4, seed="x"),
        dict(batch_size=4, shard=3),
        dict(batch_size=4, shard=("0", 1)),
        dict(batch_size=4, start=0.5),
    ],
)
def test_bad_batches(kwargs):
    with pytest.raises(LSDError, match="batches: ") as e:
        batches(torch.arange(10), **kwargs)
    one_line(e)


def test_bad_tensors_for_batches():
    for tensors in ((), (torch.arange(3), torch.arange(4)), (torch.arange(0),), (None,), (3,)):
        with pytest.raises(LSDError, match="batches: "):
            batches(*tensors, batch_size=2)


# ---- folders of pictures


def picture(path, colour=(200, 30, 60), size=(16, 16), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)


def farm(folder, n=10, **kwargs):
    for name in ("cow", "pig", "ass"):
        for k in range(n):
            picture(folder / name / f"{k}.png", (20 * k, len(name), ord(name[0])), **kwargs)
    return folder


def test_class_folders(tmp_path, capsys):
    data = load_dataset(farm(tmp_path / "farm"))
    assert data.classes == ["ass", "cow", "pig"]
    assert [len(s.labels) for s in (data.train, data.valid, data.test)] == [24, 2, 4]
    assert data.train.images.shape[1:] == (3, 16, 16)
    err = capsys.readouterr().err
    assert "16×16" in err and "ass, cow, pig" in err and "not verified" in err
    blue = (data.train.images[:, 2, 0, 0] + 1) * 127.5
    assert [data.classes[k][0] for k in data.train.labels] == [chr(round(b.item())) for b in blue]
    again = load_dataset(tmp_path / "farm", progress=False)
    assert again.fingerprint == data.fingerprint
    assert torch.equal(again.train.images, data.train.images)
    picture(tmp_path / "farm/cow/3.png", (1, 2, 3))
    assert load_dataset(tmp_path / "farm", progress=False).fingerprint != data.fingerprint


def test_class_folders_with_a_test_part(tmp_path):
    farm(tmp_path / "train")
    farm(tmp_path / "test", 2)
    data = load_dataset(tmp_path, progress=False)
    assert [len(s.labels) for s in (data.train, data.valid, data.test)] == [28, 2, 6]
    picture(tmp_path / "test/emu/1.png")
    with pytest.raises(LSDError, match="emu in test but not in train") as e:
        load_dataset(tmp_path)
    one_line(e)


def test_grey_folders_and_kinds_of_files(tmp_path):
    farm(tmp_path / "farm", mode="L")
    for name in ("x.txt", "Thumbs.db", ".hidden.png/x"):
        path = tmp_path / "farm/cow" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("no picture")
    (tmp_path / "farm/empty").mkdir()
    assert load_dataset(tmp_path / "farm").train.images.shape == (24, 1, 16, 16)
    picture(tmp_path / "farm/pig/new.jpg")
    assert load_dataset(tmp_path / "farm").train.images.shape[1] == 3
    assert load_dataset(tmp_path / "farm", channels=1).train.images.shape[1] == 1
    (tmp_path / "farm/pig/new.jpg").write_text("no picture")
    with pytest.raises(LSDError, match=r"new.jpg cannot be read as an image") as e:
        load_dataset(tmp_path / "farm")
    one_line(e)


def test_pictures_of_different_sizes(tmp_path):
    farm(tmp_path)
    picture(tmp_path / "cow/wide.png", size=(40, 10))
    with pytest.raises(LSDError, match=r"2 sizes, from 10×40 to 16×16: give size=") as e:
        load_dataset(tmp_path)
    one_line(e)
    assert load_dataset(tmp_path, size=8).train.images.shape[1:] == (3, 8, 8)
    assert load_dataset(tmp_path, size=48, fit="pad").train.images.shape[1:] == (3, 48, 48)
    with pytest.raises(LSDError, match="resize them"):
        load_dataset(tmp_path, size=32, fit="pad")
    for bad in (dict(size=0), dict(size="8"), dict(size=8, fit="x"), dict(size=8, channels=2)):
        with pytest.raises(LSDError, match="expected") as e:
            load_dataset(tmp_path, **bad)
        one_line(e)


def test_every_label_is_in_every_part(tmp_path):
    labels = np.repeat(np.arange(5), [500, 100, 40, 20, 20])
    data = load_dataset((np.zeros((680, 4, 4), np.uint8), labels), progress=False)
    for split in (data.train, data.valid, data.test):
        assert len(split.labels.unique()) == 5


# ---- arrays and archives


def pictures(n=24, shape=(6, 6), dtype=np.uint8):
    size = (n, *shape)
    return np.random.default_rng(0).integers(0, 255, size).astype(dtype)


def test_arrays_with_names_and_a_test_part():
    names = np.array(["b", "a", "c"] * 8)
    data = load_dataset(((pictures(), names), (pictures(6), names[:6])), progress=False)
    assert data.classes == ["a", "b", "c"] and len(data.test.labels) == 6
    assert data.test.labels.tolist() == [1, 0, 2] * 2
    assert data.name == "arrays" and len(data.fingerprint) == 32


@pytest.mark.parametrize("shape", [(6, 6), (1, 6, 6), (6, 6, 1), (3, 6, 6), (6, 6, 3)])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_arrays_of_any_layout(shape, kind):
    images, labels = pictures(shape=shape), np.arange(24) % 4
    if kind == "torch":
        images, labels = torch.from_numpy(images), torch.from_numpy(labels)[:, None]
    data = load_dataset((images, labels), progress=False)
    assert data.train.images.shape[1:] == (3 if 3 in shape else 1, 6, 6)
    assert data.train.images.dtype == torch.float32 and data.train.labels.dtype == torch.int64


@pytest.mark.parametrize(
    "images, labels, says",
    [
        (None, [0], "array of numbers"),
        ("pictures", [0], "images have shape"),
        ([[1, 2], [3]], [0], "array of numbers"),
        (np.array([object()]), [0], "array of numbers"),
        (pictures() * 1j, np.zeros(24), "complex128"),
        (pictures()[0], [0], "images have shape"),
        (pictures(shape=(6, 6, 2)), np.zeros(24), "images have shape"),
        (pictures() + np.nan, np.zeros(24), "expected bytes"),
        (pictures(dtype=float) * 9, np.zeros(24), "expected bytes"),
        (pictures(dtype=float) - 9, np.zeros(24), "expected bytes"),
        (pictures(), np.zeros(23), "24 images but 23 labels"),
        (pictures(), np.zeros(24) + 0.5, "whole numbers"),
        (pictures(), np.zeros(24) - 1, "labels go from -1"),
        (pictures(), np.zeros(24) + np.nan, "expected"),
        (pictures(), [None] * 24, "labels are object"),
        (pictures(), np.zeros((24, 2)), "expected"),
        (pictures(1), [0], "too few"),
        (pictures(0), [], "at least one entry"),
    ],
)
def test_bad_arrays(images, labels, says):
    with pytest.raises(LSDError, match=says) as e:
        load_dataset((images, labels), progress=False)
    one_line(e)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        7,
        "",
        2.5,
        [],
        (),
        [1, 2, 3],
        object(),
        {"a": 1},
        b"x",
        "x" * 5000,
        "a\0b",
        "~nobody/x",
    ],
)
def test_bad_sources(bad):
    with pytest.raises(LSDError) as e:
        load_dataset(bad)
    one_line(e)


def test_archives(tmp_path, capsys):
    x, y = pictures(), np.arange(24) % 3
    np.savez(tmp_path / "a.npz", images=x, labels=y, classes=np.array(["u", "v", "w"]))
    np.savez(tmp_path / "b.npz", x_train=x, y_train=y, x_test=x[:5] / 255.0, y_test=y[:5])
    a, b = load_dataset(tmp_path / "a.npz"), load_dataset(str(tmp_path / "b.npz"))
    assert a.classes == ["u", "v", "w"] and b.classes == ["0", "1", "2"]
    assert (
        len(b.test.labels) == 5 and (b.test.images[0, 0] + 1).mul(127.5)[0, 0].round() == x[0, 0, 0]
    )
    assert "values taken as [0, 1]" in capsys.readouterr().err


@pytest.mark.parametrize(
    "damage", ["empty", "text", "cut", "object", "names", "huge", "bomb", "few"]
)
def test_bad_archives(tmp_path, damage):
    path, x, y = tmp_path / "x.npz", pictures(), np.arange(24) % 3
    np.savez(path, images=x, labels=y)
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("no archive")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "object":
        np.savez(path, images=x, labels=np.array([{}] * 24))
    elif damage == "names":
        np.savez(path, a=x, b=y)
    elif damage == "few":
        np.savez(path, images=x, labels=y, classes=np.array(["one"]))
    else:
        head = io.BytesIO()
        shape = (10**6, 10**6) if damage == "huge" else (3, 2**30, 2)
        np.lib.format.write_array_header_1_0(
            head, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("images.npy", head.getvalue() + bytes(10**6))
    with pytest.raises(LSDError, match=r"x.npz|label names") as e:
        load_dataset(path)
    one_line(e)


def test_stored_datasets_come_back(tmp_path):
    data = load_dataset("digits", progress=False)
    stored = load_dataset(save_dataset(data, tmp_path / "d.npz"), progress=False)
    assert stored.classes == data.classes and torch.equal(stored.test.labels, data.test.labels)
    assert (stored.test.images - data.test.images).abs().max() < 1 / 250
    with pytest.raises(LSDError, match=r"does not end in .npz"):
        save_dataset(data, tmp_path / "d.zip")


# ---- CIFAR-10


def cifar(folder, n=20, label=0):
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name in [f"data_batch_{k}.bin" for k in range(1, 6)] + ["test_batch.bin"]:
        records = rng.integers(0, 255, (n, 3073)).astype(np.uint8)
        records[:, 0] = np.arange(n) % 10 + label
        records.tofile(folder / name)
    return folder


def test_cifar10(tmp_path):
    cifar(tmp_path / "data/cifar-10-batches-bin")
    data = load_dataset(tmp_path / "data", progress=False)
    assert data.train.images.shape == (92, 3, 32, 32) and data.classes[9] == "truck"
    first = np.fromfile(tmp_path / "data/cifar-10-batches-bin/data_batch_1.bin", np.uint8)
    assert (data.train.images[0, 0, 0, :5] + 1).mul(127.5).round().tolist() == first[1:6].tolist()
    with open(tmp_path / "data/cifar-10-batches-bin/data_batch_2.bin", "ab") as file:
        file.write(b"!")
    with pytest.raises(LSDError, match="not whole records") as e:
        load_dataset(tmp_path / "data")
    one_line(e)
    with pytest.raises(LSDError, match="not whole records"):
        load_dataset(cifar(tmp_path / "other", label=9))


# ---- drawn ones


def test_sprites_are_the_same_everywhere():
    images, factors = sprites(100, seed=7)
    content = hashlib.md5(((images + 1) * 127.5).round().byte().numpy().tobytes()).hexdigest()
    assert content == "97e26068da963caba9d25b8fd01ca7a5"
    for name, top in (("shape", 4), ("hue", 6)):
        assert set(factors[name].tolist()) == set(range(top))


@pytest.mark.parametrize(
    "bad", [dict(n=0), dict(n=2.5), dict(n=None), dict(seed=-1), dict(seed=None), dict(n=10**9)]
)
def test_bad_sprites(bad):
    with pytest.raises(LSDError, match="expected") as e:
        sprites(**bad)
    one_line(e)


def test_sprites_as_a_dataset():
    data, factors = load_dataset("sprites_hue", progress=False), sprites()[1]
    assert data.classes[0] == "red" and data.train.images.shape[1:] == (3, 32, 32)
    assert torch.equal(data.test.labels, factors["hue"][-4000:])


def test_no_network_is_needed(monkeypatch, tmp_path):
    monkeypatch.setenv("LSD_NB_DATA", str(tmp_path))
    monkeypatch.setattr("socket.socket", None)
    data = load_dataset("digits", progress=False)
    assert data.train.images.shape == (1413, 1, 8, 8) and data.train.images.abs().max() == 1
    assert load_dataset("digits", progress=False, size=28).test.images.shape == (256, 1, 28, 28)
