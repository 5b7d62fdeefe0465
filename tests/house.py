"""What the tests of the house rules share: where things are, and how to read modules and notebooks."""

import ast
import io
import json
import re
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIB, NBS = ROOT / "lsd_nb", ROOT / "nbs"
MODULES = sorted(p.stem for p in LIB.glob("*.py") if not p.stem.startswith("_"))
NOTEBOOKS = sorted(NBS.glob("[!.]*.ipynb"))


def source(module):
    return (LIB / f"{module}.py").read_text(encoding="utf-8")


def tree(module):
    return ast.parse(source(module))


def notebook_of(module):
    "The notebook that the header of a module names."
    found = re.search(r"File to edit: \.\./nbs/(.+)\.ipynb", source(module))
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


def imports(module):
    "The modules of lsd_nb that a module imports, wherever in its text."
    names = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("lsd_nb.")}
            if any(a.name == "lsd_nb" for a in node.names):
                names.add("__init__")
        elif isinstance(node, ast.ImportFrom):
            base = ("lsd_nb." if node.level else "") + (node.module or "")
            if base.rstrip(".") == "lsd_nb":
                names |= {a.name if a.name in MODULES else "__init__" for a in node.names}
            elif base.startswith("lsd_nb."):
                names.add(base.split(".")[1])
    return names


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


def notebook(path):
    return json.loads(path.read_text(encoding="utf-8"))


def text(cell):
    return "".join(cell["source"])


def directives(cell):
    "The names after `#|` at the top of a cell."
    found = []
    for line in text(cell).splitlines():
        if not line.strip().startswith("#|"):
            break
        found.append(line.strip()[2:].split(":")[0].split()[0])
    return found
