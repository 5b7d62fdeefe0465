"""Files with a right checksum and wrong content, and files that are only damaged.

A loader either gives a sound result or one line of `LSDError` that names the file. Nothing else.
"""

import gzip
import io
import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from lsd_nb import core
from lsd_nb.basis import LatentBasis
from lsd_nb.classifier import ClassifierConfig
from lsd_nb.core import LSDError, load_tensors, read_json, save_tensors
from lsd_nb.data import load_dataset
from lsd_nb.image_files import read_images
from lsd_nb.latents import LabelledMeans, load_parts, save_parts
from lsd_nb.training import Config, find_artifact, load_or_train, save_artifact

JUNK = [None, [], {}, 0, -1, 2.5, 1e300, 10**6, 10**400, True, "", "x", "é" * 300, [[1], [1, 2]]]
TEXTS = [b"", b"[]", b"null", b"7", b'"x"', b"\xff\xfe{}", b'{"a": ', b"[" * 100_000]
TEXTS += [b"1" * 5000, b'{"epochs": ' + b"1" * 5000 + b"}", b'{"a": NaN}', b'{"a": 1e999}']


# ---- what is done to a file


def damage(path: Path, rng: random.Random) -> None:
    "Bytes flipped, cut, repeated, replaced."
    data, kind = bytearray(path.read_bytes()), rng.randrange(6)
    if kind == 0:
        for _ in range(rng.choice((1, 1, 8, 64))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data = data[: rng.randrange(len(data))]
    elif kind == 2:
        data += data[: rng.randrange(1, 100)]
    elif kind == 3:
        at = rng.randrange(len(data))
        data[at : at + 16] = bytes(16)
    elif kind == 4:
        data = data[: rng.choice((0, 1, 7, 8, 9))]
    else:
        at = rng.randrange(min(len(data), 200))
        data[at : at + 8] = rng.randbytes(8)
    path.write_bytes(data)


def other_tensor(t: torch.Tensor, rng: random.Random) -> torch.Tensor:
    "A tensor of another shape, type or value."
    changed = [
        lambda: t[None],
        lambda: t[..., :0],
        lambda: torch.cat([t, t]) if t.ndim else t[None],
        lambda: t.reshape(-1),
        lambda: t[0] if t.ndim and len(t) else t,
        lambda: t.transpose(0, -1) if t.ndim > 1 else t[:1],
        lambda: t.to(torch.int8),
        lambda: t.to(torch.float16),
        lambda: t.to(torch.complex64) if not t.is_complex() else t,
        lambda: t.bool(),
        lambda: torch.zeros_like(t),
        lambda: t.double() - 1,
        lambda: (t.double() - 1).to(t.dtype),
        lambda: t * 10**6,
    ]
    if t.is_floating_point():
        for value in (float("nan"), float("inf"), torch.finfo(t.dtype).max / 10):
            changed.append(lambda v=value: torch.full_like(t, v))
            changed.append(lambda v=value: t.flatten().index_fill(0, torch.tensor(0), v).view_as(t))
    return rng.choice(changed)()


def other_value(found: dict, rng: random.Random) -> None:
    "One entry of a nested object dropped, replaced or added."
    inner = [v for v in found.values() if isinstance(v, dict) and v]
    if inner and rng.random() < 0.5:
        other_value(rng.choice(inner), rng)
        return
    key, kind = rng.choice(sorted(found)), rng.randrange(4)
    if kind == 0:
        found.pop(key)
    elif kind == 1:
        found[rng.choice(("", "x", "epochs", "é"))] = rng.choice(JUNK)
    else:
        found[key] = rng.choice(JUNK)


def falsify(path: Path, rng: random.Random) -> None:
    "Another content of the right form: a safetensors file keeps a right checksum."
    if path.suffix == ".json":
        found = json.loads(path.read_bytes())
        other_value(found, rng)
        path.write_bytes(rng.choice(TEXTS) if rng.random() < 0.3 else json.dumps(found).encode())
        return
    tensors, meta = load_tensors(path)
    kind, name = rng.randrange(6), rng.choice(sorted(tensors))
    if kind == 0:
        tensors[rng.choice(("x", "squares", f"{name}.x"))] = tensors.pop(name)
    elif kind == 1:
        tensors.pop(name)
    elif kind == 2 and meta:
        other_value(meta, rng)
    elif kind == 3:
        text = rng.choice(TEXTS).decode(errors="replace")
        tensors = {k: v.contiguous() for k, v in tensors.items()}
        sums = {"meta": text, "sha256": core._digest(tensors, text)}
        path.write_bytes(save(tensors, rng.choice((sums, {"meta": text}, None, sums))))
        return
    else:
        tensors[name] = other_tensor(tensors[name], rng)
    save_tensors(path, tensors, meta)


# ---- what is loaded, and when the result is sound


@dataclass
class Loader:
    "How to write a whole file, how to read it, and what a sound result is."

    write: Callable[[Path], list[Path]]  # makes files in a folder; those that may be damaged
    read: Callable[[Path], object]  # reads the folder
    sound: Callable[[object], bool]
    false: bool = True  # can its content be falsified under a right checksum?


def finite(*tensors) -> bool:
    "Are all numbers finite?"
    return all(bool(torch.isfinite(torch.as_tensor(t).double()).all()) for t in tensors)


def tiny() -> ClassifierConfig:
    "A network of a few weights."
    return ClassifierConfig.preset("tiny", widths=(2, 2, 2), classes=3)


def write_network(folder: Path) -> list[Path]:
    "Weights and the record beside them."
    torch.manual_seed(0)
    path = save_artifact(tiny(), tiny().network().state_dict(), {"history": [], "seconds": 1.0})
    return [path, path.with_suffix(".json")]


def sound_network(net) -> bool:
    "Does it answer with finite logits?"
    with torch.no_grad():
        said = net(torch.zeros(2, 1, 28, 28))
    return said.shape == (2, 3) and finite(said, *net.state_dict().values())


def statistics() -> LabelledMeans:
    "Three labels, two sets, five dimensions."
    found = LabelledMeans.empty(3, 5, 4, 2)
    g = torch.Generator().manual_seed(0)
    y = torch.arange(24) % 3
    found.add(torch.randn(24, 5, generator=g) + torch.eye(5)[y], y)
    return found


def sound_statistics(found) -> bool:
    "Finite sums of the right shapes, and whole numbers beside them."
    many = found.values() if isinstance(found, dict) else [found]
    for s in many:
        n, l = s.sums.shape[:2]
        names = s.label_names
        right = type(s.per_set) is int and type(s.draws) is int and s.per_set > 0 <= s.draws
        right &= names is None or (len(names) == l and all(isinstance(t, str) for t in names))
        if not right or s.counts.shape != (n, l) or not finite(s.sums, s.moments):
            return False
    return True


def basis() -> LatentBasis:
    "Fitted on noise around three points."
    g = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    return LatentBasis().fit(torch.randn(60, 5, generator=g) + 3 * torch.eye(5)[y], y)


def sound_basis(b) -> bool:
    "Finite answers, and labels that are among its own."
    z = torch.zeros(2, 5) + torch.arange(5)
    c, back = b.transform(z), b.inverse_transform(b.transform(z))
    known = set(np.asarray(b.classes_).tolist())
    return finite(c, back) and set(np.asarray(b.predict(z)).tolist()) <= known


def arrays() -> tuple[np.ndarray, np.ndarray]:
    "24 pictures of 8 × 8 bytes with three labels."
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (24, 8, 8), np.uint8), (np.arange(24) % 3).astype(np.uint8)


def write_npz(folder: Path) -> list[Path]:
    "An archive of NumPy."
    x, y = arrays()
    np.savez(folder / "own.npz", images=x, labels=y, classes=np.array(["a", "b", "c"]))
    return [folder / "own.npz"]


def falsify_npz(path: Path, rng: random.Random) -> None:
    "Arrays of other names, shapes, types and values."
    x, y = arrays()
    found = {"images": x, "labels": y, "classes": np.array(["a", "b", "c"])}
    name = rng.choice(list(found))
    a = found[name]
    floats = a.astype(float) if a.dtype.kind != "U" else np.ones(3)
    bad = [a[:0], a[None], a[:5], a.reshape(-1), np.array(["x"] * len(a)), floats * np.nan]
    bad += [floats + 0.5, floats * 1e300, floats * 1j, -floats, a.astype(object), floats[0]]
    bad += [floats.astype(np.float16), floats.astype(">f8"), np.array(None), floats.astype("M8[s]")]
    if rng.random() < 0.2:
        found.pop(name)
    else:
        found[name] = rng.choice(bad)
    np.savez(path, **found)


def write_idx(folder: Path) -> list[Path]:
    "The four files of an IDX dataset, one of them packed."
    x, y = arrays()
    made = []
    for part in ("train", "t10k"):
        for name, a in ((f"{part}-images-idx3-ubyte", x), (f"{part}-labels-idx1-ubyte", y)):
            data = bytes((0, 0, 8, a.ndim)) + struct.pack(f">{a.ndim}I", *a.shape) + a.tobytes()
            path = folder / (f"{name}.gz" if part == "t10k" else name)
            path.write_bytes(gzip.compress(data) if part == "t10k" else data)
            made.append(path)
    return made


def write_folders(folder: Path) -> list[Path]:
    "A folder of pictures per label."
    made = []
    for k, pixels in enumerate(arrays()[0][:12]):
        path = folder / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
        made.append(path)
    return made


def sound_data(data) -> bool:
    "Pictures in [-1, 1], and a name for each label."
    for images, labels in (data.train, data.valid, data.test):
        good = images.ndim == 4 and images.shape[1] in (1, 3) and len(images) == len(labels)
        good = good and finite(images) and images.abs().amax() <= 1
        if not good or (len(labels) and not 0 <= labels.min() <= labels.max() < len(data.classes)):
            return False
    return True


MODES = {"png": ("L", "RGB", "RGBA", "P", "I;16", "1"), "tiff": ("L", "F", "I;16", "CMYK")}
MODES |= {"jpg": ("L", "RGB", "CMYK"), "gif": ("P",), "bmp": ("RGB",), "ppm": ("RGB",)}


def write_pictures(folder: Path) -> list[Path]:
    "One picture of each kind."
    made = []
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8))
    for ending, modes in MODES.items():
        for mode in modes:
            path = folder / f"{mode.replace(';', '')}.{ending}"
            picture = grey.convert("I").convert(mode) if mode == "I;16" else grey.convert(mode)
            buffer = io.BytesIO()
            picture.save(buffer, {"jpg": "JPEG"}.get(ending, ending.upper()))
            path.write_bytes(buffer.getvalue())
            made.append(path)
    return made


def falsify_picture(path: Path, rng: random.Random) -> None:
    "A header of another size, values that are no numbers, a strip of pixels."
    kind, made = rng.randrange(4), io.BytesIO()
    if kind == 0:  # 1 × 60,000 pixels and more: a few hundred bytes
        size = rng.choice(((1, 60_000), (30_000, 1), (20_000, 20_000)))
        Image.new("1", size).save(made, "PNG")
    elif kind == 1:
        values = np.full((9, 9), rng.choice((np.nan, np.inf, -1e30, 1e30, 0)), np.float32)
        values[0] = rng.choice((0, 1, np.nan))
        Image.fromarray(values).save(made, "TIFF")
    elif kind == 2:
        Image.new("I;16", (9, 9), rng.choice((0, 4095, 65535))).save(made, "PNG")
    else:
        frames = [Image.new("L", (9, 9), k) for k in (0, 200)]
        frames[0].save(made, "GIF", save_all=True, append_images=frames[1:])
    path.write_bytes(made.getvalue())


def sound_pictures(found) -> bool:
    "One image in [-1, 1] for each file."
    images, _ = found
    return images.shape[1:] == (1, 28, 28) and finite(images) and images.abs().amax() <= 1


def only(folder: Path, *endings: str) -> list[Path]:
    "The files of a folder with these endings, in order."
    return sorted(p for p in folder.rglob("*") if p.suffix in endings)


def write_means(folder: Path) -> list[Path]:
    "A file of labelled means."
    return [statistics().save(folder / "means.safetensors")]


def write_parts(folder: Path) -> list[Path]:
    "A file of two parts."
    parts = {(k + 1, 0): statistics().take([k]) for k in range(2)}
    return [save_parts(folder / "parts.safetensors", parts, {"places": [[1, 0], [2, 0]]})]


def write_basis(folder: Path) -> list[Path]:
    "A file of a basis."
    basis().save(folder / "basis.safetensors")
    return [folder / "basis.safetensors"]


def write_record(folder: Path) -> list[Path]:
    "A record beside weights that are not there."
    return write_network(folder)[1:]


LOADERS = {
    "load_or_train": Loader(
        write_network, lambda f: load_or_train(tiny(), "cpu", train=False), sound_network
    ),
    "find_artifact": Loader(
        write_network,
        lambda f: find_artifact(tiny()),
        lambda found: found is not None and isinstance(found[1], dict),
    ),
    "Config.from_json": Loader(
        write_record,
        lambda f: Config.from_json(only(f, ".json")[0]),
        lambda c: isinstance(c, ClassifierConfig) and c == type(c)(**vars(c)),
    ),
    "LabelledMeans.load": Loader(
        write_means, lambda f: LabelledMeans.load(f / "means.safetensors"), sound_statistics
    ),
    "load_parts": Loader(
        write_parts, lambda f: load_parts(f / "parts.safetensors")[0], sound_statistics
    ),
    "LatentBasis.load": Loader(
        write_basis, lambda f: LatentBasis.load(f / "basis.safetensors"), sound_basis
    ),
    "load_tensors": Loader(
        write_basis,
        lambda f: load_tensors(f / "basis.safetensors"),
        lambda found: isinstance(found[1], dict),
    ),
    "read_json": Loader(
        write_record, lambda f: read_json(only(f, ".json")[0]), lambda d: isinstance(d, dict)
    ),
    "load_dataset, npz": Loader(
        write_npz, lambda f: load_dataset(f / "own.npz", progress=False), sound_data, False
    ),
    "load_dataset, IDX": Loader(
        write_idx, lambda f: load_dataset(f, progress=False), sound_data, False
    ),
    "load_dataset, folders": Loader(
        write_folders, lambda f: load_dataset(f, progress=False), sound_data, False
    ),
    "read_images": Loader(write_pictures, lambda f: _all_pictures(f), sound_pictures, False),
}
OWN = {"load_dataset, npz": falsify_npz, "read_images": falsify_picture}
OWN |= {"load_dataset, folders": falsify_picture}


def _all_pictures(folder: Path):
    "Every picture of a folder, at once."
    return read_images(only(folder, *(f".{e}" for e in MODES)))


# ---- the campaign


NAMES = list(LOADERS)


def draw(name: str, folder: Path, rng: random.Random) -> tuple[str, str]:
    "Write, spoil and read one file: what came of it, and the details."
    loader = LOADERS[name]
    path = rng.choice(loader.write(folder))
    spoil = damage
    if rng.random() < 0.6 and (loader.false or name in OWN):
        spoil = OWN.get(name, falsify)
    spoil(path, rng)
    what = f"{name}, {spoil.__name__}, {path.name}"
    try:
        found = loader.read(folder)
        return ("right", what) if loader.sound(found) else ("silent", what)
    except LSDError as e:
        text = str(e)
        named = path.stem in text or str(folder) in text
        good = "\n" not in text and named and len(text) <= 1500
        return ("refused", what) if good else ("unclear", f"{what}: {text[:200]}")
    except Exception as e:
        return "obscure", f"{what}: {type(e).__name__}: {' '.join(str(e).split())[:200]}"


PROMISED = {"right", "refused"}
