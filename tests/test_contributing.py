"""The examples of CONTRIBUTING.md work as they stand there, and keep the rules that it names."""

import json
import os
import re
import subprocess
import sys

import nbformat
import pytest
import torch
from house import ROOT, comment_lines
from test_structure import LIBRARY, ORDER, STUDIES, class_faults, undocumented
from test_sync import copied_tree, nbdev

GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def example(title):
    "The block of Python below one of the guide's `###` headings."
    part = re.search(rf"^### {title}$(.*?)(?=^##)", GUIDE, flags=re.S | re.M)
    (code,) = re.findall(r"^```python\n(.*?)^```$", part[1], flags=re.S | re.M)
    return code


def cells(code):
    "A text in which `# %%` begins a cell, as the cells of a notebook."
    for kind, text in re.findall(r"^# %%( \[markdown\])?\n(.*?)(?=^# %%|\Z)", code, re.S | re.M):
        if kind:
            yield nbformat.v4.new_markdown_cell(re.sub(r"^# ?", "", text, flags=re.M).strip())
        else:
            yield nbformat.v4.new_code_cell(text.strip())


@pytest.fixture
def place(tmp_path, monkeypatch):
    "An empty folder to work in, with a cache of its own."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LSD_NB_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def stripes(place):
    "What the example of a dataset defines, run in that folder."
    names = {}
    exec(example("A dataset"), names)
    return names


def test_a_chapter(tmp_path_factory):
    copy = copied_tree(tmp_path_factory.mktemp("tree"))
    code = example("A chapter")
    name = re.search(r"`nbs/(\w+)\.ipynb`", GUIDE)[1]
    module = re.search(r"^#\| default_exp (\S+)", code, re.M)[1]
    assert not (ROOT / "nbs" / f"{name}.ipynb").exists(), "the example's number is taken"
    nb = nbformat.v4.new_notebook(cells=list(cells(code)))
    nbformat.write(nb, copy / "nbs" / f"{name}.ipynb")
    nbdev(copy, "nbdev_export")
    written = copy.joinpath("lsd_nb", *module.split(".")).with_suffix(".py").read_text("utf-8")
    assert undocumented(written, ["mean_length"]) == [] and class_faults(written, set()) == []
    shown = [c.source for c in nb.cells if c.cell_type == "code"]
    shown = [s for s in shown if not s.startswith(("#| export", "#| default_exp"))]
    (copy / "run.py").write_text(
        f"from lsd_nb.{module} import *\nimport torch\n" + "\n".join(shown)
    )
    run = subprocess.run(
        [sys.executable, "run.py"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


def test_a_dataset(stripes):
    data = stripes["data"]
    assert len(data.train.labels) + len(data.valid.labels) == 600 and len(data.test.labels) == 100
    assert data.test.images.shape == (100, 1, 28, 28) and data.test.images.min() >= -1
    halves = data.test.images.mean((1, 2)).view(100, 2, 14).mean(2)
    assert torch.equal(halves.argmax(1), data.test.labels)


def test_a_trainable_network(stripes, place, monkeypatch):
    from lsd_nb.training import Config

    code = example("A trainable network")
    monkeypatch.setattr(Config, "kinds", dict(Config.kinds))
    names = {"__name__": __name__}
    exec(code, names)
    config = names["LinearCodeConfig"].preset("tiny", dataset="stripes")
    assert Config.kinds["linear_code"] is names["LinearCodeConfig"]
    record = json.loads((place / "cache/artifacts" / f"{config.filename}.json").read_text())
    assert Config.from_json(place / "cache/artifacts" / f"{config.filename}.json") == config
    assert record["history"][0]["loss"] > 0
    images = stripes["data"].test.images
    with torch.inference_mode():
        error = (names["net"](images) - images.flatten(1)).square().mean()
    untrained = (config.network()(images) - images.flatten(1)).square().mean()
    assert error < untrained
    assert [f for f in undocumented(code, ["LinearCodeConfig"]) if "task" not in f] == []


def test_an_operator():
    names = {}
    code = example("An operator")
    exec(code, names)
    before, after = names["before"], names["after"]
    torch.testing.assert_close(after, before[:, [2, 0, 1, 3, 4]], rtol=1e-4, atol=1e-4)
    assert undocumented(code, ["cycle"]) == []


def test_the_guide_names_the_order_of_the_house():
    said = re.search(r"Imports go one way: (.*?), then `studies/`", GUIDE, re.S)[1]
    assert re.findall(r"\w+", said) == LIBRARY and ORDER[-1] == "cli" and STUDIES


def test_files_that_the_guide_names_are_there():
    for name in re.findall(r"`((?:docs|tests|nbs)/[\w./-]+\.(?:py|yml))`", GUIDE):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`(\d\d[a-z]?_\w+)`", GUIDE):
        assert (ROOT / "nbs" / f"{name}.ipynb").exists(), name


def test_examples_fit_the_page():
    for title in ("A chapter", "A dataset", "A trainable network", "An operator"):
        code = example(title)
        assert max(map(len, code.splitlines())) <= 100 and comment_lines(code)
