"""Another dataset is one line: chapters run on a folder after a change of `dataset = "mnist"`."""

import json
from importlib.resources import files

import nbformat
import pytest
import torch
from house import NBS
from nbclient import NotebookClient

from lsd_nb.core import load_tensors
from lsd_nb.data import load_dataset
from lsd_nb.encoder import EncoderConfig
from lsd_nb.training import save_artifact


def write_idx(path, values):
    "An IDX file of bytes, (N,) or (N, H, W)."
    path.write_bytes(
        bytes([0, 0, 8, values.ndim])
        + b"".join(n.to_bytes(4, "big") for n in values.shape)
        + values.to(torch.uint8).numpy().tobytes()
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "A dataset of its own: 6,000 training and 2,500 test images, stored as four IDX files."
    path, data = tmp_path_factory.mktemp("images"), load_dataset(progress=False)
    for name, part, n in (("train", data.train, 6000), ("t10k", data.test, 2500)):
        write_idx(path / f"{name}-images-idx3-ubyte", ((part.images[:n, 0] + 1) * 127.5).round())
        write_idx(path / f"{name}-labels-idx1-ubyte", part.labels[:n])
    return path


@pytest.fixture
def trained(folder, tmp_path, monkeypatch):
    "Networks `trained` on it: the bundled ones, stored under the configurations of the folder."
    monkeypatch.setenv("LSD_NB_CACHE", str(tmp_path / "cache"))
    bundled, mine = EncoderConfig.for_dataset("mnist"), EncoderConfig.for_dataset(str(folder))
    for old, new in zip(
        (bundled.gan, bundled.classifier, bundled),
        (mine.gan, mine.classifier, mine),
        strict=True,
    ):
        assert old.key != new.key
        path = files("lsd_nb") / "pretrained" / f"{old.filename}.safetensors"
        record = json.loads(path.with_suffix(".json").read_text())
        save_artifact(
            new,
            load_tensors(path)[0],
            {k: v for k, v in record.items() if k not in ("step", "key", "config")},
        )
    return folder


def run(name, folder, want):
    "A chapter with the one line changed; the cells that say nothing about its images are left out."
    nb = nbformat.read(NBS / f"{name}.ipynb", as_version=4)
    lines = [
        c for c in nb.cells if c.cell_type == "code" and c.source.startswith('dataset = "mnist"')
    ]
    assert len(lines) == 1
    lines[0].source = f"dataset = {str(folder)!r}"
    nb.cells = [c for c in nb.cells if c.cell_type == "code" and want(c.source)]
    NotebookClient(
        nb, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(NBS)}}
    ).execute()
    return "".join(o.get("text", "") for c in nb.cells for o in c.outputs)


def no_slow(source):
    return not source.startswith("#| slow")


@pytest.mark.parametrize(
    "name, says", [("02_gan", "hardware"), ("08_decomposition", "the first 2,000 test images")]
)
def test_chapter_runs_on_another_dataset(name, says, trained):
    assert says in run(name, trained, no_slow)


def test_chapter_without_its_networks_says_what_to_run(folder, tmp_path, monkeypatch):
    from nbclient.exceptions import CellExecutionError

    monkeypatch.setenv("LSD_NB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(CellExecutionError, match=f"lsd-nb train gan --dataset {folder}"):
        run("02_gan", folder, no_slow)
