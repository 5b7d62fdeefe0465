"""The notebooks are the source: exporting, cleaning and README generation change nothing.

Done on a copy of the tree. And the pinned versions fit the Pythons that they are pinned for.
"""

import os
import shutil
import subprocess
import sys
from importlib import metadata

import pytest
from house import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet


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


def test_a_pinned_version_takes_every_python_that_its_line_is_for():
    "Also the older patches of a minor version, such as the one that a distribution ships."
    # a line without a marker may be of a package that only newer Pythons need
    releases, seen = [f"3.{minor}.{patch}" for minor in range(11, 15) for patch in (0, 2, 20)], 0
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pinned = Requirement(line)
        try:
            found = metadata.metadata(pinned.name)
        except metadata.PackageNotFoundError:  # an extra, or for another Python
            continue
        needs = SpecifierSet(found["Requires-Python"] or "")
        if found["Version"] not in pinned.specifier:
            continue
        for release in [*releases, "3.10.0"] if pinned.marker else releases:
            this = {"python_version": release.rsplit(".", 1)[0], "python_full_version": release}
            if not pinned.marker or pinned.marker.evaluate(this):
                seen += 1
                assert release in needs, f"{line}: needs Python {needs}"
    assert seen > 100
