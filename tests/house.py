"""What the tests of the house share: where things are, how to read modules and notebooks."""

import ast
import io
import json
import re
import tokenize
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIB, NBS = ROOT / "lsd_nb", ROOT / "nbs"
NOTEBOOKS = sorted(NBS.glob("[!.]*.ipynb"))


def module_name(path):
    "`studies.anomaly` for lsd_nb/studies/anomaly.py."
    return ".".join(path.relative_to(LIB).with_suffix("").parts)


MODULES = sorted(module_name(p) for p in LIB.rglob("*.py") if not p.stem.startswith("_"))


def path_of(module):
    return LIB.joinpath(*module.split(".")).with_suffix(".py")


@cache
def source(module):
    return path_of(module).read_text(encoding="utf-8")


@cache
def tree(module):
    return ast.parse(source(module))


def notebook_of(module):
    "The notebook that the header of a module names."
    found = re.search(r"File to edit: (?:\.\./)+nbs/(.+)\.ipynb", source(module))
    return found and found[1]


def exported(module):
    "`__all__` as the module's text has it."
    return next(
        (
            ast.literal_eval(node.value)
            for node in tree(module).body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
        ),
        [],
    )


def own_module(name, modules=MODULES):
    "The module in a dotted name: `basis` of `lsd_nb.basis.LatentBasis`; `__init__`; None."
    parts = name.rstrip(".").split(".")
    if parts[0] != "lsd_nb":
        return None
    for n in range(len(parts), 1, -1):
        if ".".join(parts[1:n]) in modules:
            return ".".join(parts[1:n])
    return "studies" if parts[1:2] == ["studies"] else "__init__"


def named(node):
    "The module a string of the program names, as for `import_module` (`lsd_nb.x:Name` included)."
    if isinstance(node, ast.JoinedStr):
        first = node.values[0]
        return first.value if isinstance(first, ast.Constant) else None
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        name = node.value.partition(":")[0]
        return name if re.fullmatch(r"lsd_nb(\.\w+)+", name) else None
    return None


def imports_of(nodes, module="", modules=MODULES):
    "The modules of lsd_nb that a piece of a module's text imports, by a statement or by a string."
    names = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            here = ["lsd_nb", *module.split(".")]
            base = ".".join([*here[: len(here) - node.level], node.module or ""])
            base = (base if node.level else node.module or "").rstrip(".")
            names += [f"{base}.{a.name}" for a in node.names]
        elif named(node):
            names.append(named(node))
    return {m for m in (own_module(n, modules) for n in names) if m}


def imports(module):
    "The modules of lsd_nb that a module imports, wherever in its text."
    return imports_of(ast.walk(tree(module)), module)


def packages(module):
    "The top-level packages that a module imports, and their full dotted names."
    full = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            full |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            full.add(node.module)
    return {name.split(".")[0] for name in full} | full


def comment_lines(text):
    "Line number → comment text."
    return {
        t.start[0]: t.string.lstrip("# ")
        for t in tokenize.generate_tokens(io.StringIO(text).readline)
        if t.type == tokenize.COMMENT
    }


@cache
def notebook(path):
    return json.loads(path.read_text(encoding="utf-8"))


def text(cell):
    return "".join(cell["source"])


def code_cells(path):
    return [c for c in notebook(path)["cells"] if c["cell_type"] == "code"]


def directives(cell):
    "The names after `#|` at the top of a cell."
    found = []
    for line in text(cell).splitlines():
        if not line.strip().startswith("#|"):
            break
        found.append(line.strip()[2:].split(":")[0].split()[0])
    return found
