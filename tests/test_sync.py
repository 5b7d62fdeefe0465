"""The notebooks are the source: exporting, cleaning and README generation change nothing.

Done on a copy of the tree.
"""

import os
import shutil
import subprocess
import sys

import pytest
from house import ROOT


def copied_tree(target):
    "Copy what nbdev reads and writes to a folder; its path."
    shutil.copy(ROOT / "settings.ini", target)
    for folder in ("nbs", "lsd_nb"):
        shutil.copytree(
            ROOT / folder,
            target / folder,
            ignore=shutil.ignore_patterns("__pycache__", "pretrained", ".*", "*.tmp"),
        )
    return target


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    "A copy of the tree, the user's settings of Jupyter and git out of reach."
    return copied_tree(tmp_path_factory.mktemp("tree"))


def nbdev(copy, command):
    "Run a command of nbdev in the copy."
    module = "nbdev.clean" if command == "nbdev_clean" else "nbdev.doclinks"
    code = f"import sys; sys.argv = ['{command}']; from {module} import {command}; {command}()"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=copy,
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(copy), "XDG_CONFIG_HOME": str(copy)},
    )
    assert run.returncode == 0, run.stderr


def differences(copy, folder, pattern):
    "Files of a folder that are not the same here and in the copy."

    def files(base):
        found = (base / folder).rglob(pattern)
        return {p.relative_to(base): p.read_bytes() for p in found if not p.name.startswith(".")}

    here, there = files(ROOT), files(copy)
    return sorted(str(n) for n in here | there if here.get(n) != there.get(n))


def test_export_leaves_no_difference(copy):
    nbdev(copy, "nbdev_export")
    assert not differences(copy, "lsd_nb", "*.py"), (
        "the package is not what the notebooks export: run nbdev_export"
    )


def test_notebooks_are_clean(copy):
    nbdev(copy, "nbdev_clean")
    assert not differences(copy, "nbs", "*.ipynb"), "notebooks are not clean: run nbdev_clean"


def test_readme_is_that_of_the_index():
    run = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "readme.py"), "--check"],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr.strip()
