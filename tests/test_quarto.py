"""nbdev_docs, as far as it goes without Quarto: what nbdev makes of the notebooks."""

import re
import shutil
import subprocess
import sys

import pytest
from house import NBS, NOTEBOOKS, ROOT, notebook, text

yaml = pytest.importorskip(
    "yaml", reason="needs the extra docs: pip install -e '.[dev,docs]' -c constraints.txt"
)


@pytest.fixture(scope="module")
def processed(tmp_path_factory):
    "The project as nbdev_docs leaves it just before it calls Quarto."
    target = tmp_path_factory.mktemp("quarto")
    for name in ("settings.ini", "README.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, target)
    for name in ("nbs", "lsd_nb"):
        shutil.copytree(
            ROOT / name,
            target / name,
            ignore=shutil.ignore_patterns("__pycache__", "pretrained", ".*", "*.tmp"),
        )
    code = "from nbdev import quarto; quarto.refresh_quarto_yml(); quarto.proc_nbs(n_workers=0)"
    run = subprocess.run([sys.executable, "-c", code], cwd=target, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    return target


def test_every_page_reaches_quarto(processed):
    for path in NOTEBOOKS:
        assert (processed / "_proc" / path.name).stat().st_size > 500, path.name
    for name in (
        "_quarto.yml",
        "sidebar.yml",
        "nbdev.yml",
        "styles.css",
        "playground.md",
        "notation.md",
    ):
        assert (processed / "_proc" / name).exists(), name


def test_committed_settings_are_those_of_nbdev(processed):
    for name in ("nbdev.yml", "_quarto.yml", "sidebar.yml"):
        assert (processed / "nbs" / name).read_bytes() == (NBS / name).read_bytes(), (
            f"nbs/{name} is not what nbdev writes"
        )


def test_pictures_and_pages_of_the_settings_are_there():
    quarto = yaml.safe_load((NBS / "_quarto.yml").read_text())
    for name in [quarto["format"]["html"]["css"], *quarto["metadata-files"]]:
        assert (NBS / name).exists(), name
    contents = yaml.safe_load((NBS / "sidebar.yml").read_text())["website"]["sidebar"]["contents"]
    assert [c["section"] for c in contents if isinstance(c, dict)] == [
        "Method",
        "Results",
        "Use it",
        "Companions",
        "Reference",
    ]


def test_exported_cells_are_documented_for_quarto(processed):
    page = (processed / "_proc" / "06_quasi_eigenvectors.ipynb").read_text(encoding="utf-8")
    assert "orthogonalise" in page and "#| export" not in page


@pytest.mark.parametrize(
    "path", [*NOTEBOOKS, NBS / "playground.md", NBS / "notation.md"], ids=lambda p: p.stem
)
def test_only_the_common_subset_of_markup(path):
    cells = (
        [path.read_text(encoding="utf-8")]
        if path.suffix == ".md"
        else [text(c) for c in notebook(path)["cells"] if c["cell_type"] == "markdown"]
    )
    for cell in cells:
        prose = re.sub(r"^```.*?^```|`[^`]*`", "", cell, flags=re.S | re.M)
        found = re.findall(
            r"(?<![\w.])@(?:fig|tbl|sec|eq)-\w+|^:{3,}\{\w+\}"
            r"|\{(?:ref|doc|numref|math|eq|term|cite)\}|^\(\w+\)=|^\+\+\+|%%",
            prose,
            flags=re.M,
        )
        assert not found, f"{found}: this is markup of one of the two programs only"
        for div in re.findall(r"^:{3,}[^\S\n]*(\{[^}]*\})", prose, flags=re.M):
            assert re.fullmatch(
                r"\{\.(?:callout-(?:note|tip|warning|important|caution)|grid|g-col-\d+)[^}]*\}", div
            ), div
        opened, closed = (
            len(re.findall(p, prose, flags=re.M)) for p in (r"^:{3,}[^\S\n]*\{", r"^:{3,}[^\S\n]*$")
        )
        assert opened == closed, "a ::: is not closed"
        for target in re.findall(r"\]\(([^)#\s]+\.(?:ipynb|md|png|svg|gif))", prose):
            assert (NBS / target).exists(), f"{target} is not there"
