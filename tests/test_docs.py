"""The site: built without a warning, complete, in one piece, nothing loaded from elsewhere."""

import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from house import MODULES, NBS, ROOT, exported, notebook_of

yaml = pytest.importorskip(
    "yaml", reason="the site needs the extra docs: pip install -e '.[dev,docs]' -c constraints.txt"
)
pytest.importorskip(
    "sphinx",
    reason="the site needs the extra docs: pip install -e '.[dev,docs]' -c constraints.txt",
)
bridge = pytest.importorskip("bridge")  # of docs/

LOADED = {
    "script": ["src"],
    "img": ["src", "srcset"],
    "link": ["href"],
    "iframe": ["src"],
    "source": ["src", "srcset"],
    "video": ["src", "poster"],
    "audio": ["src"],
    "embed": ["src"],
    "object": ["data"],
    "form": ["action"],
    "use": ["href"],
    "image": ["href"],
    "base": ["href"],
}
FOREIGN = re.compile(r"^\s*(https?:|ftp:|wss?:|//)", re.I)
VOID = {
    "area",
    "base",
    "br",
    "col",
    "embed",
    "hr",
    "img",
    "input",
    "link",
    "meta",
    "source",
    "track",
    "wbr",
}


class Page(HTMLParser):
    "What the tests want to know of a page."

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads, self.images, self.text, self.next, self.open = (
            set(),
            [],
            [],
            [],
            [],
            None,
            [],
        )
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        a = {k: v or "" for k, v in attrs}
        self.ids.add(a.get("id"))
        if tag == "a" and "href" in a:
            self.links.append(a["href"])
            if "next-page" in a.get("class", "").split():
                self.next = a["href"]
        if tag == "img":
            self.images.append(a)
        self.loads += [a[key] for key in LOADED.get(tag, []) if key in a]
        self.loads += re.findall(r"url\(['\"]?([^'\")]+)", a.get("style", ""))
        if a.get("http-equiv", "").lower() == "refresh":
            self.loads.append(a.get("content", "").split("=")[-1])
        if tag not in VOID:
            self.open.append((tag, "math" in a.get("class", "").split()))

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if any(tag == "style" for tag, _ in self.open):
            self.loads += re.findall(r"(?:url\(|@import\s+)['\"]?([^'\");]+)", data)
        if not any(
            math or tag in ("code", "pre", "script", "style", "title") for tag, math in self.open
        ):
            self.text.append(data)


@pytest.fixture(scope="module")
def built(site):
    folder, run = site
    assert run.returncode == 0, f"the site has faults:\n{run.stderr[-6000:]}"
    return folder


@pytest.fixture(scope="module")
def pages(built):
    return {p.relative_to(built).as_posix(): Page(p) for p in sorted(built.rglob("*.html"))}


def sidebar():
    contents = yaml.safe_load((NBS / "sidebar.yml").read_text(encoding="utf-8"))["website"][
        "sidebar"
    ]["contents"]
    return [Path(n).stem for c in contents for n in ([c] if isinstance(c, str) else c["contents"])]


def test_every_page_of_the_sidebar_is_there(pages):
    assert [n for n in sidebar() if f"{n}.html" not in pages] == []


def test_next_leads_through_the_sidebar(pages):
    here, way = "index.html", []
    while here:
        way.append(here)
        here = pages[here].next
    chapters = [p.removesuffix(".html") for p in way]
    assert [c for c in chapters if c in sidebar()] == sidebar(), (
        "previous and next don't follow nbs/sidebar.yml"
    )


def test_links_and_anchors_resolve(built, pages):
    broken = []
    for name, page in pages.items():
        for link in page.links + page.loads:
            if not link or re.match(r"[a-z][a-z0-9+.-]*:|//", link, re.I):
                continue
            url = urlsplit(link)
            target = (
                ((built / name).parent / unquote(url.path)).resolve() if url.path else built / name
            )
            key = (
                target.relative_to(built.resolve()).as_posix()
                if target.is_relative_to(built.resolve())
                else None
            )
            if not target.exists() or key is None:
                broken.append(f"{name} → {link}: no such file")
            elif key in pages and url.fragment and unquote(url.fragment) not in pages[key].ids:
                broken.append(f"{name} → {link}: no such anchor")
    assert not broken, "\n" + "\n".join(broken)


def test_nothing_is_loaded_from_elsewhere(built, pages):
    faults = [
        f"{name}: {load}"
        for name, page in pages.items()
        for load in page.loads
        if FOREIGN.match(load)
    ]
    for css in built.rglob("*.css"):
        faults += [
            f"{css.name}: {u}"
            for u in re.findall(
                r"(?:url\(|@import\s+)['\"]?([^'\");]+)", css.read_text(encoding="utf-8")
            )
            if FOREIGN.match(u)
        ]
    assert not faults, "\n" + "\n".join(faults)


def test_no_maths_is_left_as_dollars(pages):
    faults = [
        f"{name}: {text.strip()[:100]}"
        for name, page in pages.items()
        for text in page.text
        if "$" in text
    ]
    assert not faults, "\n" + "\n".join(faults)


def test_pictures_say_what_they_show(pages):
    faults = [
        f"{name}: {i['src']}"
        for name, page in pages.items()
        for i in page.images
        if len(i.get("alt", "")) < 10 or i["alt"].endswith(".png")
    ]
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_an_entry(module, pages):
    page = pages[f"{notebook_of(module)}.html"]
    assert [n for n in exported(module) if f"lsd_nb.{module}.{n}" not in page.ids] == []


def test_methods_have_entries_where_they_are_written(pages):
    page = pages["06_quasi_eigenvectors.html"]
    assert [
        n
        for n in ("fit", "transform", "predict", "save", "load", "from_means")
        if f"lsd_nb.basis.LatentBasis.{n}" not in page.ids
    ] == []
    assert "_modules/lsd_nb/basis.html#LatentBasis.transform" in page.links
    assert not [i for i in page.ids if i and i.endswith("_request")], (
        "methods that scikit-learn put there"
    )


def test_names_in_the_text_are_links(pages):
    assert any(
        link.endswith("06_quasi_eigenvectors.html#lsd_nb.basis.LatentBasis")
        for link in pages["index.html"].links + pages["08_decomposition.html"].links
    )


def test_search_index_knows_the_method(built):
    index = json.loads(
        re.fullmatch(
            r"Search\.setIndex\((.*)\)",
            (built / "searchindex.js").read_text(encoding="utf-8"),
            re.S,
        )[1]
    )

    def where(word):
        found = [index[kind].get(word, []) for kind in ("terms", "titleterms")]
        numbers = {n for i in found for n in ([i] if isinstance(i, int) else i)}
        return {index["docnames"][n] for n in numbers}

    assert "06_quasi_eigenvectors" in where("quasi") & where("eigenvector")


def test_a_plotly_figure_loads_nothing_from_elsewhere(figure):
    page = Page(figure / "index.html")
    assert (
        "_static/plotly.min.js" in page.loads
        and (figure / "_static" / "plotly.min.js").stat().st_size > 1e6
    )
    assert not [load for load in page.loads if FOREIGN.match(load)]
    assert "Four coloured squares." in (figure / "index.html").read_text(encoding="utf-8")


def test_no_widget_is_left_dead(pages, built):
    assert not [
        name for name in pages if "widget-view+json" in (built / name).read_text(encoding="utf-8")
    ]
    assert pages["15_explore.html"].images, "the chapter of the knobs shows its strip"


def test_scripts_of_the_site_name_no_other_host(built):
    for name in ("playground.js", "latent_files.js"):
        script = (built / "_static" / name).read_text(encoding="utf-8")
        assert not re.search(r"https?://|//cdn|@import", script)
    assert "playground.js" not in (built / "index.html").read_text(encoding="utf-8"), (
        "only its own page loads it"
    )


# ---- the playground's files


def test_the_runtime_is_used_only_with_the_right_sum(monkeypatch, tmp_path):
    import playground

    def pack(command, **options):
        (Path(command[-1]) / "onnxruntime-web.tgz").write_bytes(b"something else")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(playground.subprocess, "run", pack)
    monkeypatch.setattr(playground, "FOLDER", tmp_path)
    with pytest.raises(SystemExit, match="do not use it"):
        playground.fetch()
    assert not list(tmp_path.iterdir())


def test_no_npm_is_one_line(monkeypatch, tmp_path):
    import playground

    monkeypatch.setattr(
        playground.subprocess,
        "run",
        lambda command, **options: subprocess.CompletedProcess(
            command, 1, "", "npm error\nno network"
        ),
    )
    with pytest.raises(SystemExit, match="no network"):
        playground.fetch()


def test_old_files_of_the_playground_are_noticed(monkeypatch):
    import playground

    monkeypatch.setattr(playground, "means_config", lambda: type("Other", (), {"key": "another"}))
    assert playground.stored() != playground.state()


# ---- the bridge, by itself


def seen(*cells):
    "What Sphinx gets of a notebook with these cells, (kind, text) each."
    raw = dict(
        metadata={},
        nbformat=4,
        nbformat_minor=5,
        cells=[
            dict(
                cell_type=kind,
                source=text,
                metadata={},
                id=str(i),
                **(dict(outputs=[], execution_count=1) if kind == "code" else {}),
            )
            for i, (kind, text) in enumerate(cells)
        ],
    )
    return bridged(raw)


def bridged(raw):
    return bridge.bridged(raw, "x", NBS).cells


def test_bridge_hides_folds_and_tags():
    cells = seen(
        ("markdown", "# T"),
        ("code", "#| hide\na = 1"),
        ("code", "#| echo: false\nb = 2"),
        ("code", "#| include: false\nc"),
        ("code", "#| slow\nd"),
    )
    assert [c.source for c in cells] == ["# T", "b = 2", "d"]
    assert cells[1].metadata.tags == ["remove-input"] and cells[2].metadata.tags == []


def test_bridge_puts_the_entry_before_its_folded_source():
    cells = seen(
        ("markdown", "# T"),
        ("code", "#| default_exp core"),
        ("code", "#| export\ndef cache_dir(): ...\ndef pick_device(): ..."),
        ("code", "1 + 1"),
    )
    text = [c.source for c in cells]
    assert "py:module:: lsd_nb.core" in text[1]
    assert (
        "autofunction:: lsd_nb.core.cache_dir" in text[2]
        and "autofunction:: lsd_nb.core.pick_device" in text[3]
    )
    assert (
        text[4].startswith("def cache_dir")
        and cells[4].metadata.tags == ["hide-input"]
        and text[5] == "1 + 1"
    )


def test_bridge_speaks_quarto():
    assert bridge.markdown("::: {.callout-tip}\nhello\n:::") == ":::{tip}\nhello\n:::"
    assert bridge.markdown('::: {.callout-note title="Mind"}\nx\n:::').startswith(
        ":::{admonition} Mind\n:class: note"
    )


def test_bridge_turns_docstrings_into_rst():
    assert bridge.rst("`x_` is $a_1$, not *b_*") == r"\ ``x_``\  is \ :math:`a_1`\ , not \*b\_\*"


def test_bridge_links_only_names_that_are_clear():
    names = bridge.names(ROOT / "lsd_nb")
    assert names["LatentBasis"] == names["basis.LatentBasis"] == "lsd_nb.basis.LatentBasis"
    assert names["LatentBasis.transform"] == "lsd_nb.basis.LatentBasis.transform"
    assert names["linear_autoencoder"].endswith("studies.representation.linear_autoencoder")
    assert "transform" not in names and not any(
        part.startswith("_") for name in names for part in name.split(".")
    )
