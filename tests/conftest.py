"""One thread, no display, artifacts in a folder of this run; datasets stay where they are."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

import numpy as np  # these read what is set above
import torch

from lsd_nb.fetching import data_dir

os.environ["LSD_NB_DATA"] = str(data_dir())
CACHE = tempfile.mkdtemp(prefix="lsd_nb-tests-")
os.environ["LSD_NB_CACHE"] = CACHE


def pytest_collection_modifyitems(items):
    "With several workers a file stays on one, or a kind's trainings; and all that needs the site."
    for item in items:
        group = "site" if "site" in item.fixturenames else item.path.stem
        if group == "test_training" and hasattr(item, "callspec"):
            group += f"-{item.callspec.params.get('step')}"
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    "Every test, and every fixture made for it, draws the same numbers, whatever ran before."
    torch.manual_seed(0)
    np.random.seed(0)


def pytest_unconfigure(config):
    shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture(scope="session")
def tiny():
    "A cache with the networks and means of the preset `tiny`, made by the command line."
    from typer.testing import CliRunner

    from lsd_nb import cli

    for line in (["train", "all"], ["means"]):
        done = CliRunner().invoke(cli.app, [*line, "--preset", "tiny", "--device", "cpu"])
        assert done.exit_code == 0, done.output
    return Path(CACHE)


@pytest.fixture
def own_cache(tiny, tmp_path, monkeypatch):
    "A copy of that cache, for tests that change it."
    shutil.copytree(tiny / "artifacts", tmp_path / "cache/artifacts")
    monkeypatch.setenv("LSD_NB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    "The site, built once: its folder, and what the build said."
    pytest.importorskip(
        "sphinx",
        reason="the site is built by Sphinx: pip install -e '.[dev,docs]' -c constraints.txt",
    )
    root, out = Path(__file__).resolve().parents[1], tmp_path_factory.mktemp("site")
    gathered = subprocess.run(
        [sys.executable, "docs/playground.py"], cwd=root, capture_output=True, text=True
    )  # nothing to do after `make test`
    if gathered.returncode:
        print(gathered.stderr)  # the page then says so, and the tests of the playground fail
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "-W",
            "-n",
            "--keep-going",
            "-q",
            "-c",
            "docs",
            "-d",
            str(out / "doctrees"),
            "nbs",
            str(out / "html"),
        ],
        cwd=root,
        capture_output=True,
        text=True,
    )
    return out / "html", run


@pytest.fixture(scope="session")
def figure(tmp_path_factory):
    "A site of one notebook with a plotly figure."
    pytest.importorskip("plotly", reason="pip install -e '.[dev,docs]' -c constraints.txt")
    import nbformat
    import plotly.graph_objects as go

    source, out, root = (
        tmp_path_factory.mktemp("source"),
        tmp_path_factory.mktemp("figure"),
        Path(__file__).resolve().parents[1],
    )
    drawn = go.Figure(
        go.Heatmap(z=[[1, 2], [3, 4]], colorscale="RdBu"), layout=dict(title="four numbers")
    ).to_plotly_json()
    import plotly.utils

    output = nbformat.v4.new_output(
        "display_data",
        data={
            "application/vnd.plotly.v1+json": json.loads(
                json.dumps(drawn, cls=plotly.utils.PlotlyJSONEncoder)
            )
        },
    )
    cells = [
        nbformat.v4.new_markdown_cell("# A figure\n\n> Four numbers."),
        nbformat.v4.new_code_cell("#| fig-alt: Four coloured squares.\nfig", outputs=[output]),
    ]
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=cells,
            metadata={
                "kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}
            },
        ),
        source / "index.ipynb",
    )
    (source / "sidebar.yml").write_text("website: {sidebar: {contents: [index.ipynb]}}")
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "-W",
            "-n",
            "-q",
            "-c",
            "docs",
            "-d",
            str(out / "doctrees"),
            str(source),
            str(out / "html"),
        ],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return out / "html"
