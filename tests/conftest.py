"""One thread, no display, and artifacts in a folder of this run; the datasets stay where the user has them."""
import os, shutil, subprocess, sys, tempfile
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

from lsd_nb.data import data_dir

os.environ["LSD_NB_DATA"] = str(data_dir())
CACHE = tempfile.mkdtemp(prefix="lsd_nb-tests-")
os.environ["LSD_NB_CACHE"] = CACHE


def pytest_unconfigure(config):
    shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture(scope="session")
def tiny():
    "A cache with the three networks of the preset `tiny`, trained by the command line, and labelled means that are planted."
    import torch
    from typer.testing import CliRunner
    from lsd_nb import cli
    from lsd_nb.training import save_artifact
    done = CliRunner().invoke(cli.app, ["train", "all", "--preset", "tiny", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    config = cli._means_config("mnist", "tiny")   # networks this small don't draw every label, so the means are random numbers
    shape = (config.n_sets, config.encoder.classifier.classes, config.encoder.gan.latent_dim)
    sums = config.per_set * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    save_artifact(config, dict(sums=sums, squares=sums**2, counts=torch.full(shape[:2], config.per_set)), {"draws": 1000})
    return Path(CACHE)


@pytest.fixture
def own_cache(tiny, tmp_path, monkeypatch):
    "A copy of that cache, for tests that change it."
    shutil.copytree(tiny/"artifacts", tmp_path/"cache/artifacts")
    monkeypatch.setenv("LSD_NB_CACHE", str(tmp_path/"cache"))
    return tmp_path/"cache"


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    "The site, built once: its folder, and what the build said."
    pytest.importorskip("sphinx", reason="the site is built by Sphinx: pip install -e '.[dev,docs]' -c constraints.txt")
    root, out = Path(__file__).resolve().parents[1], tmp_path_factory.mktemp("site")
    run = subprocess.run([sys.executable, "-m", "sphinx", "-W", "-n", "--keep-going", "-q", "-c", "docs",
                          "-d", str(out/"doctrees"), "nbs", str(out/"html")], cwd=root, capture_output=True, text=True)
    return out/"html", run
