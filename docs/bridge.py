"""The bridge from nbdev to Sphinx: reads a notebook as `nbdev_docs` would, for MyST-NB, in memory.

Sphinx says `source-read`; the bridge runs nbdev's own processors and gives back a notebook without
directives: exported source is folded, `show_doc(x)` is an autodoc directive, `#| echo: false` and
its like are MyST-NB's tags, Quarto's callouts and columns are directives. Docments become `:param:`
fields, a back-ticked name of the package a link, and nbs/sidebar.yml gives the order of the pages.
"""

import ast
import importlib
import json
import re
from collections import Counter
from html import escape
from importlib.util import find_spec
from inspect import getsourcelines, isclass, isfunction, unwrap
from pathlib import Path

import yaml
from docutils import nodes
from execnb.nbio import dict2nb
from fastcore.docments import docments
from myst_parser.mdit_to_docutils.base import make_document
from myst_parser.mocking import MockRSTParser
from nbdev.process import NBProcessor
from nbdev.processors import (
    add_show_docs,
    clean_magics,
    filter_stream_,
    hide_,
    hide_line,
    populate_language,
    rm_header_dash,
    strip_ansi,
)
from nbformat import from_dict, v4
from sphinx.addnodes import pending_xref
from sphinx.util.docutils import SphinxDirective

PROCS = [
    populate_language,
    add_show_docs,
    strip_ansi,
    hide_line,
    filter_stream_,
    rm_header_dash,
    clean_magics,
    hide_,
]
EXPORT = {"export", "exports", "exporti"}
TAGS = {
    "echo: false": "remove-input",
    "output: false": "remove-output",
    "warning: false": "remove-stderr",
    "code-fold: true": "hide-input",
}


# ---- the order of the pages


def parts(srcdir):
    "The parts of the sidebar, (title, pages) each, without what is not there."
    contents = yaml.safe_load((Path(srcdir) / "sidebar.yml").read_text(encoding="utf-8"))[
        "website"
    ]["sidebar"]["contents"]
    sections = [
        (c["section"], [Path(n).stem for n in c["contents"] if (Path(srcdir) / n).exists()])
        for c in contents
        if not isinstance(c, str)
    ]
    return [(title, pages) for title, pages in sections if pages]


def tree(srcdir):
    "The tables of contents that make Furo's sidebar and its previous and next."
    table = "```{{toctree}}\n:hidden:\n:caption: {}\n\n{}\n```".format
    every = [(title, "\n".join(pages)) for title, pages in parts(srcdir)]
    every = [
        (title, f"{pages}\nAll names <genindex>" if title == "Reference" else pages)
        for title, pages in every
    ]
    return "\n\n".join(table(*part) for part in every)


# ---- what a module documents


def modules(libdir):
    "The modules that notebooks export, `basis` and `studies.anomaly` alike."
    paths = sorted(Path(libdir).rglob("[!_]*.py"))
    return [".".join(path.relative_to(libdir).with_suffix("").parts) for path in paths]


def module_of(name):
    return importlib.import_module(f"lsd_nb.{name}")


def methods(cls):
    "Names of the public methods and properties that stand in a class's body, with a docstring."
    found = []
    for name, f in vars(cls).items():
        inner = getattr(f, "__func__", None) or getattr(f, "fget", None)
        inner = unwrap(inner or getattr(f, "func", None) or f)
        own = isfunction(inner) and inner.__doc__ and inner.__module__ == cls.__module__
        if own and not name.startswith("_"):
            found.append(name)
    return found


def classes(module):
    return [
        c for c in (getattr(module_of(module), n) for n in module_of(module).__all__) if isclass(c)
    ]


# ---- cells


def div(found):
    "One of Quarto's `::: {…}` lines as a directive of MyST."
    fence, attributes = found[1], found[2]
    kind, title = (
        re.search(r"\.callout-(\w+)", attributes),
        re.search(r'title="([^"]*)"', attributes),
    )
    if kind and title:
        return f"{fence}{{admonition}} {title[1]}\n:class: {kind[1]}"
    if kind:
        return f"{fence}{{{kind[1]}}}"
    if re.search(r"\.grid\b", attributes):
        return f"{fence}{{grid}} 1 1 3 3\n:gutter: 3\n"
    if re.search(r"\.g-col-\d+", attributes):
        return f"{fence}{{grid-item-card}}"
    return f"{fence}{{div}} " + " ".join(re.findall(r"\.([\w-]+)", attributes))


def markdown(text):
    "A Markdown cell in MyST's words; a file outside nbs/ comes along as a download."
    text = re.sub(r"\]\((?=\.\./)", "](path:", text)
    return re.sub(r"^(:{3,})\s*\{([^}]*)\}\s*$", div, text, flags=re.M)


def directive(kind, name, **options):
    "An autodoc directive inside a Markdown cell."
    return v4.new_markdown_cell(
        "\n".join(
            [
                "```{entry}",
                f".. {kind}:: {name}",
                *(f"   :{k}: {v}" for k, v in options.items() if v),
                "```",
            ]
        )
    )


def show_doc(cell, module):
    "The entry of what a cell `show_doc(x)` shows."
    name = ast.unparse(cell.parsed_()[0].value.args[0])
    found = module_of(module)
    for part in name.split("."):
        found = getattr(found, part)
    kind = "autoclass" if isclass(found) else "automethod" if "." in name else "autofunction"
    return directive(
        kind, f"lsd_nb.{module}.{name}", members=isclass(found) and ", ".join(methods(found))
    )


def constants(cell, module):
    "Entries of the constants of an exported cell, which nbdev does not show."
    names = [
        t.id
        for n in cell.parsed_()
        if isinstance(n, ast.Assign | ast.AnnAssign)
        for t in getattr(n, "targets", None) or [n.target]
        if isinstance(t, ast.Name) and t.id in module_of(module).__all__
    ]
    return [directive("autodata", f"lsd_nb.{module}.{name}", **{"no-value": " "}) for name in names]


def alt(cell, before):
    "What a picture of this cell shows: its `#| fig-alt:`, or the last paragraph before it."
    said = cell.directives_.get("fig-alt:")
    text = " ".join(said).strip("\"'") if said else before.strip().split("\n\n")[-1]
    text = " ".join(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"[*`$>#]", "", text)).split())
    return text if said or len(text) < 200 else text[:200].rsplit(" ", 1)[0] + " …"


def plotly_script():
    "plotly's own script, from the installed package; a list, empty without it."
    found = find_spec("plotly")
    return [str(Path(found.origin).parent / "package_data" / "plotly.min.js")] if found else []


def interactive(out, n, said):
    "An output with a plotly figure as HTML that draws it with this site's script; others stay."
    figure = out.get("data", {}).get("application/vnd.plotly.v1+json")
    if not figure:
        return out
    if not plotly_script():
        raise ModuleNotFoundError("this notebook has a plotly figure: pip install plotly")
    import plotly.io

    page = plotly.io.to_html(
        plotly.io.from_json(
            json.dumps({k: figure[k] for k in ("data", "layout") if k in figure}), skip_invalid=True
        ),
        config={"responsive": True, "displaylogo": False},
        full_html=False,
        include_plotlyjs=False,
        include_mathjax=False,
        div_id=f"plotly-{n}",
    )
    box = f'<div class="plotly-box" role="img" aria-label="{escape(said, quote=True)}">{page}</div>'
    return v4.new_output(
        "display_data", data={"text/html": f'<script src="_static/plotly.min.js"></script>{box}'}
    )


def code(cell, before):
    "A code cell without directives, its options as tags."
    said = {f"{key} {' '.join(value).lower()}".strip() for key, value in cell.directives_.items()}
    new = v4.new_code_cell(
        "\n".join(line for line in cell.source.splitlines() if not line.startswith("#|")).strip()
    )
    new.outputs = [
        interactive(out, f"{cell.idx_}-{i}", alt(cell, before))
        for i, out in enumerate(from_dict(cell.get("outputs", [])))
    ]
    new.execution_count = None
    tags = [tag for option, tag in TAGS.items() if option in said]
    if EXPORT & said:
        tags.append("hide-input")
    new.metadata = from_dict({"tags": tags, "mystnb": {"image": {"alt": alt(cell, before)}}})
    return new


def bridged(nb, name, srcdir):
    "The notebook that Sphinx sees: a dictionary in, a notebook out."
    nb = NBProcessor(nb=dict2nb(nb), procs=PROCS, process=True).nb
    module = next(
        (c.directives_["default_exp"][0] for c in nb.cells if "default_exp" in c.directives_), None
    )
    cells, entries, before = [], [], ""
    for cell in reversed(
        nb.cells
    ):  # backwards, since nbdev puts the entries after the source, and here they come first
        said = cell.directives_ if "directives_" in cell else {}
        if cell.cell_type == "markdown":
            cells.append(v4.new_markdown_cell(markdown(cell.source)))
        elif cell.cell_type != "code" or "default_exp" in said or said.get("include:") == ["false"]:
            continue
        elif re.match(r"show_doc\(", cell.source):
            entries.append(show_doc(cell, module))
        elif cell.source.strip():
            before = next(
                (c.source for c in reversed(nb.cells[: cell.idx_]) if c.cell_type == "markdown"), ""
            )
            cells.append(code(cell, before))
            if EXPORT & set(said):
                entries = constants(cell, module)[::-1] + entries[::-1]
        if not re.match(r"show_doc\(", cell.source):
            cells, entries = cells + entries, []
    cells.reverse()
    if module:
        cells.insert(1, directive("py:module", f"lsd_nb.{module}"))
    if name == "index":
        cells.append(v4.new_markdown_cell(tree(srcdir)))
    return v4.new_notebook(cells=cells, metadata=from_dict(nb.metadata))


def read(app, docname, source):
    "On `source-read`: the notebook as Sphinx is to see it."
    if Path(app.env.doc2path(docname)).suffix == ".ipynb":
        source[0] = json.dumps(bridged(json.loads(source[0]), docname, app.srcdir))
    else:
        source[0] = markdown(source[0])


# ---- entries


class Entry(SphinxDirective):
    "`{entry}`: reStructuredText inside a notebook."

    # MyST's own `{eval-rst}` pads it with 10000 empty lines per cell before it

    has_content = True

    def run(self):
        document = make_document(self.env.doc2path(self.env.docname))
        document.settings, document.reporter = (
            self.state.document.settings,
            self.state.document.reporter,
        )
        MockRSTParser().parse("\n".join(self.content), document)
        return document.children


def rst(text):
    "A line of Markdown (maths in dollars, names in back-ticks) as reStructuredText."
    pieces = re.split(r"(\$[^$]+\$|`[^`]+`)", text)
    quote = {"$": r"\ :math:`{}`\ ", "`": r"\ ``{}``\ "}
    return "".join(
        quote[p[0]].format(p[1:-1]) if i % 2 else re.sub(r"(?<!^    )([\\*_|`])", r"\\\1", p)
        for i, p in enumerate(pieces)
    )


def listed(line):
    "An indented line of a docstring as an item of a list, a deeper one as more of that item."
    indent, text = len(line) - len(line.lstrip()), line.strip()
    if not indent or not text:
        return line
    text = re.sub(r"(?<![`\w])([a-z]\w*_)(?![`\w])", r"`\1`", text)  # fitted attributes
    return f"    * {text}" if indent <= 4 else f"      {text}"


def on_one_line(f):
    "True for a function whose whole signature stands on one line."
    if isclass(f):
        return False
    first = next(
        line for line in getsourcelines(f)[0] if line.lstrip().startswith(("def", "async"))
    )
    return bool(re.search(r":\s*#", first))


def docstring(app, what, name, obj, options, lines):
    "On `autodoc-process-docstring`: Markdown to reStructuredText, and the docments as fields."
    if what == "data" and obj.__doc__ == type(obj).__doc__:  # that of dict or tuple
        lines[:] = []
    lines[:] = [rst(listed(line)) for line in lines]
    if what not in ("class", "exception", "function", "method"):
        return
    if isclass(obj) and "__init__" not in vars(obj):
        return
    said = {key: value.docment for key, value in docments(obj, full=True).items() if value.docment}
    back = said.pop("return", None)
    if len(said) == 1 and not back and on_one_line(obj):  # the comment is that of what comes back
        back, said = said.popitem()[1], {}
    lines += ["", *(f":param {key}: {rst(' '.join(value.split()))}" for key, value in said.items())]
    if back and not isclass(obj):
        lines.append(f":returns: {rst(' '.join(back.split()))}")


# ---- links


def names(libdir):
    "Every way to write a public name that is clear → its full name."
    full, said_alone = [], set()
    for module in modules(libdir):
        here = [f"lsd_nb.{module}", *(f"lsd_nb.{module}.{n}" for n in module_of(module).__all__)]
        said_alone |= set(here)
        full += here
        full += [f"lsd_nb.{module}.{c.__name__}.{n}" for c in classes(module) for n in methods(c)]
    ends = [
        (".".join(name.split(".")[i:]), name) for name in full for i in range(name.count(".") + 1)
    ]
    # `data` is a module and a function, `fit` alone says too little
    often = Counter(short for short, _ in ends)
    return {
        short: name
        for short, name in ends
        if often[short] == 1 and ("." in short or name in said_alone)
    }


def link(app, doctree):
    "On `doctree-read`: a back-ticked name of the package becomes a link to its entry."
    known = app.config.bridge_names
    for literal in list(doctree.findall(nodes.literal)):
        full = known.get(literal.astext().split("(")[0])
        up = literal.parent
        while up and not isinstance(up, (nodes.title, nodes.reference, pending_xref)):
            up = up.parent
        if not full or up:
            continue
        ref = pending_xref(
            "",
            refdomain="py",
            reftype="obj",
            reftarget=full,
            refexplicit=True,
            refdoc=app.env.docname,
        )
        literal.replace_self(ref)
        ref += literal


def unlinked(app, env, node, content):
    "On `missing-reference`: a type of torch, or a private one, is no link and no fault."
    target = node["reftarget"]
    if node.get("refdomain") == "py" and (not target.startswith("lsd_nb.") or "._" in target):
        return content


def scripts(app, pagename, templatename, context, doctree):
    "On `html-page-context`: the playground's scripts, on its own page only."
    if pagename == "playground":
        app.add_js_file("latent_files.js")
        app.add_js_file("playground.js")


def setup(app):
    app.add_config_value("bridge_names", {}, "")
    app.add_directive("entry", Entry)
    app.connect("source-read", read)
    app.connect("autodoc-process-docstring", docstring)
    app.connect("doctree-read", link)
    app.connect("missing-reference", unlinked)
    app.connect("html-page-context", scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
