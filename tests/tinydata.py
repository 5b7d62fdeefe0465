"""Tiny IDX files for the tests of fetching and loading."""

import errno
import gzip
import hashlib
import struct

import numpy as np

from lsd_nb.fetching import IDX_FILES as FILES


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
    return dict(zip(FILES, contents, strict=True))


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
    return lambda name, temp, progress: put(temp / "got", contents)
