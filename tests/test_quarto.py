"""nbdev_docs, as far as it can be judged without Quarto: its settings, and markup that Quarto and Sphinx both understand."""
import re

import pytest

from house import NBS, NOTEBOOKS, notebook, text

yaml = pytest.importorskip("yaml", reason="needs the extra docs: pip install -e '.[dev,docs]' -c constraints.txt")


def test_pictures_and_pages_of_the_settings_are_there():
    quarto = yaml.safe_load((NBS/"_quarto.yml").read_text())
    for name in [quarto["format"]["html"]["css"], *quarto["metadata-files"]]: assert (NBS/name).exists(), name
    contents = yaml.safe_load((NBS/"sidebar.yml").read_text())["website"]["sidebar"]["contents"]
    assert [c["section"] for c in contents if isinstance(c, dict)] == ["Method", "Results", "Companions", "Reference"]

@pytest.mark.parametrize("path", [*NOTEBOOKS, NBS/"playground.md"], ids=lambda p: p.stem)
def test_only_the_common_subset_of_markup(path):
    cells = [path.read_text(encoding="utf-8")] if path.suffix == ".md" else [text(c) for c in notebook(path)["cells"] if c["cell_type"] == "markdown"]
    for cell in cells:
        prose = re.sub(r"^```.*?^```|`[^`]*`", "", cell, flags=re.S | re.M)
        found = re.findall(r"(?<![\w.])@(?:fig|tbl|sec|eq)-\w+|^:{3,}\{\w+\}|\{(?:ref|doc|numref|math|eq|term|cite)\}|^\(\w+\)=|^\+\+\+|%%", prose, flags=re.M)
        assert not found, f"{found}: this is markup of one of the two programs only"
        for div in re.findall(r"^:{3,}[^\S\n]*(\{[^}]*\})", prose, flags=re.M): assert re.fullmatch(r"\{\.(?:callout-(?:note|tip|warning|important|caution)|grid|g-col-\d+)[^}]*\}", div), div
        opened, closed = (len(re.findall(p, prose, flags=re.M)) for p in (r"^:{3,}[^\S\n]*\{", r"^:{3,}[^\S\n]*$"))
        assert opened == closed, "a ::: is not closed"
        for target in re.findall(r"\]\(([^)#\s]+\.(?:ipynb|md|png|svg|gif))", prose): assert (NBS/target).exists(), f"{target} is not there"
