"""The rules of the house: layers, public names, whole classes, docments, notebooks one can read."""

import ast
import configparser
import importlib
import re
from collections import Counter

import pytest
from house import (
    LIB,
    MODULES,
    NBS,
    NOTEBOOKS,
    ROOT,
    code_cells,
    comment_lines,
    directives,
    exported,
    imports,
    imports_of,
    notebook,
    notebook_of,
    packages,
    source,
    text,
    tree,
)

import lsd_nb

each_module = pytest.mark.parametrize("module", MODULES)
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


# ---- layers


@each_module
def test_module_has_a_notebook(module):
    name = notebook_of(module)
    assert name, f"{module}.py names no notebook: modules are exported, never written by hand"
    assert (NBS / f"{name}.ipynb").exists(), (
        f"{module}.py comes from nbs/{name}.ipynb, which is not there"
    )


# The order of the house: a module imports only what stands before it. New ones get a place here.
LIBRARY = [
    "core",
    "training",
    "models",
    "fetching",
    "image_files",
    "noise",
    "data",
    "metrics",
    "pictures",
    "classifier",
    "gan",
    "judge",
    "encoder",
    "latents",
    "basis",
    "large",
    "operators",
    "descent",
    "attributes",
    "decomposition",
    "saving",
    "collections",
    "explore",
    "export",
]
STUDIES = [
    "reproduction",
    "ablation",
    "topology",
    "classification",
    "denoising",
    "rotation",
    "own_pictures",
    "representation",
    "autoencoders",
    "heatmaps",
    "anomaly",
    "interpolation",
    "infogan",
    "infogan_controls",
    "word_vectors",
    "physics",
    "other_pictures",
    "scoreboard",
    "benchmarks",
]
ORDER = [*LIBRARY, *(f"studies.{name}" for name in STUDIES), "commands", "cli"]
TENSORS_ONLY = ("basis", "large", "operators", "attributes")
# what a command, or a method that opens another room, imports only when it is called
WHEN_CALLED = {
    ("cli", "studies"),
    ("commands", "studies"),
    ("decomposition", "explore"),
    ("decomposition", "saving"),
}


def wrong_imports(module, found):
    "What is wrong with a module's imports, one line each."
    if module not in ORDER:
        return [f"{module} has no place in the order of the house (tests/test_structure.py)"]
    faults = []
    for other in sorted(found):
        if other == "__init__":
            faults.append(f"{module} imports the package: take the module that has the name")
        elif module in LIBRARY and other.startswith("studies"):
            faults.append(f"{module} is of the library and imports {other}")
        elif other not in ORDER[: ORDER.index(module)] and (module, other) not in WHEN_CALLED:
            faults.append(f"{module} imports {other}, which comes later in the house")
    return faults


@each_module
def test_imports_go_one_way(module):
    faults = wrong_imports(module, imports(module))
    assert not faults, "\n" + "\n".join(faults)


def test_some_imports_wait_until_they_are_called():
    for module, late in WHEN_CALLED:
        found = imports_of(tree(module).body, module) if module in MODULES else ()
        assert not [m for m in found if m.startswith(late)], module


def test_imports_checker_sees_faults():
    code = """
from ..core import LSDError
from ..decomposition import LatentSpectralDecomposition
import lsd_nb.cli
def f(name): return importlib.import_module(f"lsd_nb.studies.{name}")
REGISTRY = {"gan": "lsd_nb.gan:GANConfig"}
"""
    found = imports_of(ast.walk(ast.parse(code)), "studies.anomaly")
    assert found == {"core", "decomposition", "cli", "studies", "gan"}
    assert wrong_imports("basis", {"core"}) == []
    assert len(wrong_imports("basis", {"operators", "studies.anomaly", "cli", "__init__"})) == 4
    assert len(wrong_imports("basis", {"studies"})) == 1 and not wrong_imports("cli", {"studies"})
    assert wrong_imports("no_such_module", set())


def reached(module):
    "Everything of lsd_nb that comes along when a module is imported."
    found = set()
    todo = imports(module)
    while todo:
        found |= todo
        todo = {m for name in todo & set(MODULES) for m in imports(name)} - found
    return found


@pytest.mark.parametrize("module", [m for m in TENSORS_ONLY if m in MODULES])
def test_tensor_layer_knows_no_images_and_no_networks(module):
    allowed = {"core", *TENSORS_ONLY}
    assert reached(module) <= allowed, sorted(reached(module) - allowed)
    assert not packages(module) & {"torchvision", "PIL", "accelerate", "torch.nn"}


@each_module
def test_development_tools_stay_outside(module):
    assert not packages(module) & {"fastcore", "nbdev", "execnb", "ghapi", "pytest", "IPython"}


@each_module
def test_no_pickle_is_loaded(module):
    assert not packages(module) & {
        "pickle",
        "cPickle",
        "dill",
        "cloudpickle",
        "joblib",
        "shelve",
        "marshal",
    }
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute):
            owner = getattr(node.value, "id", "")
            assert (owner, node.attr) not in {
                ("torch", "load"),
                ("torch", "save"),
                ("accelerator", "load_state"),
            }
        if isinstance(node, ast.keyword):
            assert node.arg not in ("allow_pickle", "weights_only")


# ---- public names


@each_module
def test_all_is_what_the_module_has(module):
    loaded = importlib.import_module(f"lsd_nb.{module}")
    names = exported(module)
    assert len(names) == len(set(names))
    for name in names:
        assert hasattr(loaded, name), f"{module}.__all__ has {name}, the module has not"
    assert len(names) <= 20, f"{module} exports {len(names)} names: few, in the field's words"


def test_each_thing_has_one_place():
    "A name stands in one module; commands may be called as what they run."
    homes = {}
    for module in MODULES:
        for name in exported(module) if module not in ("cli", "commands") else []:
            homes.setdefault(name, []).append(module)
    double = {name: modules for name, modules in homes.items() if len(modules) > 1}
    assert not double, double


def test_package_exports_resolve():
    init = ast.parse((LIB / "__init__.pyi").read_text(encoding="utf-8"))
    taken = {}
    for node in init.body:
        if not isinstance(node, ast.ImportFrom):
            continue
        module = (node.module or "").removeprefix("lsd_nb.")
        if module not in MODULES:
            continue
        for alias in node.names:
            assert alias.name in exported(module), (
                f"lsd_nb re-exports {alias.name}, which {module} does not export"
            )
            taken[alias.asname or alias.name] = module
    for name in taken:
        assert hasattr(lsd_nb, name)
    assert set(lsd_nb.__all__) == set(taken), "__all__ and the imports differ"


def test_version_is_that_of_settings():
    settings = configparser.ConfigParser(delimiters=["="])
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    version = settings["DEFAULT"]["version"]
    assert lsd_nb.__version__ == version
    for name, said in (
        ("CITATION.cff", f"\nversion: {version}\n"),
        ("CHANGELOG.md", f"## {version} "),
    ):
        assert said in (ROOT / name).read_text(encoding="utf-8"), f"{name} is of another version"


# ---- classes


def class_faults(code, classes):
    "What is hung onto classes after their bodies in a module; `classes` are the package's names."
    module, faults = ast.parse(code), []
    known = set(classes) | {n.name for n in ast.walk(module) if isinstance(n, ast.ClassDef)}
    for node in ast.walk(module):
        call = isinstance(node, ast.Call) and getattr(node.func, "id", "")
        if call in ("setattr", "delattr") and getattr(node.args[0], "id", "") in known | {"cls"}:
            faults.append(f"line {node.lineno}: {ast.unparse(node)[:60]}")
        targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
        for t in targets if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)) else []:
            for part in getattr(t, "elts", [t]):
                owner = isinstance(part, ast.Attribute) and getattr(part.value, "id", "")
                if owner and owner in known:
                    faults.append(f"line {node.lineno}: {ast.unparse(t)} = …")
    return faults


def package_classes():
    "Every class of the package: (module, its definition)."
    return [(m, n) for m in MODULES for n in ast.walk(tree(m)) if isinstance(n, ast.ClassDef)]


@each_module
def test_classes_are_whole(module):
    faults = class_faults(source(module), {node.name for _, node in package_classes()})
    assert not faults, "methods and attributes belong into the class's body:\n" + "\n".join(faults)


def test_checker_sees_what_is_hung_onto_a_class():
    code = """
class A: pass
def f(self): self.x = 1
A.f = f
A.g = property(lambda self: 1)
setattr(A, "h", f)
B.k: int = 3
torch.x, B.kinds["a"] = 1, 2
"""
    assert len(class_faults(code, {"B"})) == 4


def test_attributes_are_set_by_name_in_few_places():
    """Only by the one layer that lets functions and methods answer in one line, which puts nothing
    on a class that its body does not have."""
    calls = [(m, n) for m in MODULES for n in ast.walk(tree(m)) if isinstance(n, ast.Call)]
    found = Counter(m for m, n in calls if getattr(n.func, "id", "") in ("setattr", "delattr"))
    assert found == {"core": 2}
    cls = lsd_nb.LatentBasis
    body = {name for name, f in vars(cls).items() if callable(f) or isinstance(f, classmethod)}
    written = next(n for _, n in package_classes() if n.name == "LatentBasis").body
    assert {n.name for n in written if isinstance(n, ast.FunctionDef)} >= body - {"set_fit_request"}


def test_no_private_base_for_one_class():
    classes = package_classes()
    bases = [ast.unparse(b).split(".")[-1] for _, node in classes for b in node.bases]
    lonely = [
        f"{module}.{node.name}"
        for module, node in classes
        if node.name.startswith("_") and bases.count(node.name) == 1
    ]
    assert not lonely, f"a private base with a single child belongs into the child: {lonely}"


@pytest.mark.parametrize(
    "name, made, methods",
    [
        ("LatentSpectralDecomposition", "(None)", {"fit", "rotate", "relabel", "denoise"}),
        ("LatentBasis", "()", {"fit", "transform", "inverse_transform", "predict", "save"}),
    ],
)
def test_editors_complete_the_methods(name, made, methods):
    jedi = pytest.importorskip("jedi", reason="pip install -e '.[dev]' -c constraints.txt")
    code = f"from lsd_nb import {name}\nthing = {name}{made}\nthing."
    found = {c.name for c in jedi.Script(code).complete(3, len("thing."))}
    assert methods <= found, f"not completed: {sorted(methods - found)}"


# ---- lines


@each_module
def test_lines_fit_the_page(module):
    faults, statements = [], {}
    code = source(module)
    code = re.sub(r"^__all__ = \[.*?\]$", "", code, count=1, flags=re.S | re.M)  # nbdev's lines
    for line in code.splitlines():
        if len(line) > 100 and not line.startswith("# %%"):
            faults.append(f"{len(line)} characters: {line[:70]} …")
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.stmt):
            statements.setdefault(node.lineno, []).append(node)
    for line, nodes in statements.items():
        if len(nodes) > 1:
            faults.append(
                f"{len(nodes)} statements on one line: {code.splitlines()[line - 1][:70]}"
            )
    assert not faults, "\n" + "\n".join(faults)


# ---- docments


def public(name):
    return not name.startswith("_") or name in ("__init__", "__call__")


def functions(nodes, names=None, owner=""):
    "Public functions and methods of a list of definitions, with their dotted names."
    for node in nodes:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if not (public(node.name) if names is None else node.name in names):
            continue
        if isinstance(node, ast.ClassDef):
            yield from functions(node.body, None, f"{node.name}.")
        else:
            yield owner + node.name, node


def gives_back(node):
    "True if a function returns or yields a value (functions inside it do not count)."
    todo = list(node.body)
    while todo:
        n = todo.pop()
        if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            continue
        if isinstance(n, (ast.Yield, ast.YieldFrom)):
            return True
        if (
            isinstance(n, ast.Return)
            and n.value is not None
            and getattr(n.value, "value", 0) is not None
        ):
            return True
        todo += ast.iter_child_nodes(n)
    return False


SHAPE = re.compile(r"\(.*\)|scalar|shape|dict|list|\bN\b")


def above(lines, comments, number):
    "The comments that stand alone on the lines directly above line `number`, as one text."
    found = []
    while number > 1 and number - 1 in comments and lines[number - 2].lstrip().startswith("#"):
        number -= 1
        found.insert(0, comments[number])
    return " ".join(found)


def undocumented(code, names):
    "What the docments of a module's exported names lack, one line each."
    module, comments, faults = ast.parse(code), comment_lines(code), []
    rows = code.splitlines()
    for name, node in functions(module.body, names):
        if not ast.get_docstring(node) and not name.endswith("__init__"):
            faults.append(f"{name}: no docstring")
        a = node.args
        params = [p for p in a.posonlyargs + a.args + [a.vararg] + a.kwonlyargs + [a.kwarg] if p]
        method = params[:1] and params[0].arg in ("self", "cls")
        together = len({p.lineno for p in params} | {p.end_lineno for p in params}) <= 1
        params = [p for p in params if p.arg not in ("self", "cls")]
        last = max([node.lineno] + [p.end_lineno for p in params])
        end = node.returns.end_lineno if node.returns else last
        # a method whose parameters fit on one line: its docstring, or a comment, says it all
        if method and together:
            says = f"{comments.get(last, '')} {comments.get(end, '')} {ast.get_docstring(node)}"
            if "Tensor" in ast.unparse(a) and not SHAPE.search(says):
                faults.append(f"{name}: neither docstring nor comment gives a shape")
            continue
        for p in params:
            says = comments.get(p.end_lineno) or above(rows, comments, p.lineno)
            kind = ast.unparse(p.annotation) if p.annotation else ""
            if not says:
                faults.append(f"{name}({p.arg}): no comment on its line or above it")
            elif re.search(r"\b(Tensor|ndarray)\b", kind) and not SHAPE.search(says + kind):
                faults.append(f"{name}({p.arg}): “{says}” gives no shape")
        itself = node.returns is not None and ast.unparse(node.returns) in ("Self", "None")
        if gives_back(node) and not itself and not name.endswith("__init__"):
            lines = {end} | set(range(last + 1, node.body[0].lineno))
            if end == last and end > node.lineno:
                lines.discard(last)
            if not any(comments.get(line) for line in lines):
                faults.append(f"{name}: no comment on what it returns")
    for node in module.body:
        if not isinstance(node, ast.ClassDef) or node.name not in names:
            continue
        if not ast.get_docstring(node):
            faults.append(f"{node.name}: no docstring")
        if not any("dataclass" in ast.unparse(d) for d in node.decorator_list):
            continue
        for field in node.body:
            if (
                isinstance(field, ast.AnnAssign)
                and not field.target.id.startswith("_")
                and "ClassVar" not in ast.unparse(field.annotation)
                and not comments.get(field.end_lineno)
                and not above(rows, comments, field.lineno)
            ):
                faults.append(f"{node.name}.{field.target.id}: no comment on its line")
    return faults


@each_module
def test_docments(module):
    faults = undocumented(source(module), exported(module))
    assert not faults, "\n" + "\n".join(faults)


def test_docments_checker_sees_faults():
    bad = "def f(\n    x: Tensor,  # numbers\n    y,\n):\n    return x\n"
    good = """def f(
    x: Tensor,  # numbers (N, 2), in [0, 1]
    # an integer, and what
    # there is to say of it
    y: int = 3,
) -> Tensor:  # (N,)
    "Does."
    return x
"""
    assert len(undocumented(bad, ["f"])) == 4
    assert undocumented(good, ["f"]) == []


# ---- notebooks


def markdown(path):
    return [text(c) for c in notebook(path)["cells"] if c["cell_type"] == "markdown"]


def unfenced(markdown_text):
    return re.sub(r"^```.*?^```", "", markdown_text, flags=re.S | re.M)


@each_notebook
def test_title_and_subtitle(path):
    cells = notebook(path)["cells"]
    assert cells[0]["cell_type"] == "markdown", "the first cell is the title"
    heads = [h for t in markdown(path) for h in re.findall(r"^# .+$", unfenced(t), flags=re.M)]
    assert len(heads) == 1 and text(cells[0]).startswith("# "), f"exactly one H1, on top: {heads}"
    sub = re.search(r"^> .+", text(cells[0]) + "\n" + text(cells[1]), flags=re.M)
    assert sub, "a one-sentence > subtitle follows the title"
    assert "\\" not in sub[0], "no backslashes in the subtitle"


SECOND_MEANINGS = {  # see nbs/notation.md
    r"[⟩>|)] ?/ ?C\b|C ?\\?,?δ": "C is the classifier: a squared length is M",
    r"log \\?(σ|sigma)\(|sigma\(D": "σ is a deviation, the logistic function p(t)",
    r"β ?= ?\(|β_[12]|\\beta_[12]|\\alpha \\ne \\beta": "β is a weight: Adam has decay rates",
    r"[ΣS] ?V\^": "V counts latents: singular vectors are P and Q",
}


@each_notebook
def test_a_letter_means_one_thing(path):
    shown = "\n".join(text(c) for c in notebook(path)["cells"])
    found = [f"{why}: {m[0]}" for p, why in SECOND_MEANINGS.items() for m in re.finditer(p, shown)]
    assert not found


def test_letters_with_a_second_meaning_are_seen():
    for faulty in (
        "$c = ⟨ξ_k|z⟩/C$",
        "$ξξ = C\\,δ_{ij}$",
        r"$-\log \sigma(D(x))$",
        "Adam with β = (0.5, 0.9)",
        r"$U S V^\mathsf{T}$",
    ):
        assert [p for p in SECOND_MEANINGS if re.search(p, faulty)], faulty


@each_notebook
def test_outputs_are_saved_and_sound(path):
    cells = [c for c in notebook(path)["cells"] if c["cell_type"] == "code"]
    outputs = [o for c in cells for o in c["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error"], "a saved output is an error"
    assert outputs or not cells, "notebooks are committed with their outputs: make notebooks"
    assert path.stat().st_size < 1_000_000, "a notebook stays below 1 MB: smaller figures"


@each_notebook
def test_no_paths_of_one_machine(path):
    found = []
    for cell in notebook(path)["cells"]:
        parts = [text(cell)]
        for o in cell.get("outputs", []):
            parts.append("".join(o.get("text", "")))
            parts += ["".join(v) for k, v in o.get("data", {}).items() if k.startswith("text/")]
        found += [
            m[0]
            for p in parts
            for m in re.finditer(
                r"(?<![\w./:~])/(?:home|root|Users|work|tmp|mnt|opt)/\S*|\b[A-Z]:\\\S+", p
            )
        ]
    assert not found, f"paths of one machine: {found[:5]}"


def length(cell):
    "Lines of a cell that are neither empty nor directives."
    return len([n for n in text(cell).splitlines() if n.strip() and not n.startswith("#|")])


@each_notebook
def test_exported_cells_are_short(path):
    for cell in code_cells(path):
        if not {"export", "exports"} & set(directives(cell)):
            continue
        most = 200 if re.search(r"^class \w+", text(cell), flags=re.M) else 45
        assert length(cell) <= most, (
            f"{length(cell)} lines in an exported cell, at most {most}: {text(cell)[:90]!r}"
        )


@each_notebook
def test_directives_are_known(path):
    known = {
        "export",
        "exports",
        "default_exp",
        "hide",
        "hide_line",
        "slow",
        "notest",
        "filter_stream",
        "eval",
        "echo",
        "output",
        "include",
        "warning",
        "label",
        "fig-cap",
        "fig-alt",
        "code-fold",
        "code-summary",
    }
    for cell in notebook(path)["cells"]:
        if cell["cell_type"] == "code":
            assert set(directives(cell)) <= known, (
                f"{directives(cell)}: not used here (and #| exporti hides what users run)"
            )


def test_sidebar_lists_every_notebook_in_the_order_of_numbers():
    listed = re.findall(r"[\w.-]+\.ipynb", (NBS / "sidebar.yml").read_text(encoding="utf-8"))
    there = [path.name for path in NOTEBOOKS]
    assert listed[0] == "index.ipynb" and listed[-1] == "99_cli.ipynb"
    assert sorted(there) == sorted(listed), sorted(set(there) ^ set(listed))
    assert listed[1:] == sorted(listed[1:]), "numbers are the reading order"


# ---- habits


def shown(path):
    "The code cells of a notebook that are neither exported nor hidden."
    return [
        text(c)
        for c in notebook(path)["cells"]
        if c["cell_type"] == "code"
        and not {"export", "exports", "default_exp", "hide"} & set(directives(c))
    ]


@each_notebook
def test_says_how_long_it_takes_and_what_it_needs(path):
    if path.stem == "index":
        return  # the landing page is not run by its readers
    top = re.search(r"^\*[^*].*\*$", text(notebook(path)["cells"][0]), flags=re.M)
    assert top, (
        "below the subtitle, a line in italics says how long the chapter takes and what it needs"
    )
    said = top[0].lower()
    assert re.search(r"second|minute|hour", said) and re.search(r"need|from|bundled", said), said


def one_line_each(code):
    "A cell with every simple statement on one line, as far as Python reads it."
    try:
        return ast.unparse(ast.parse(re.sub(r"^[%!].*$", "", code, flags=re.M))).replace("'", '"')
    except SyntaxError:
        return code


@each_notebook
def test_another_dataset_is_one_line(path):
    cells = shown(path)
    if path.stem in ("99_cli", "28_other_pictures"):
        return  # its commands take --dataset; two datasets of its own are what it is about
    if path.stem.startswith("9") or not any(
        re.search(
            r"\b(load_dataset\((?!toy)|load_pretrained\(|labelled_means\(|preset\(.small.)", c
        )
        for c in cells
    ):
        return
    assert sum(bool(re.search(r'^dataset = "mnist" ', c, flags=re.M)) for c in cells) == 1, (
        'one cell says `dataset = "mnist"    # the one line to change for another dataset`'
    )
    if path.stem != "index":
        assert '`dataset = "mnist"`' in text(notebook(path)["cells"][0]), (
            "the line at the top says so too"
        )
    for c in map(one_line_each, cells):
        fixed = re.findall(
            r'.*\b(?:load_dataset|load_pretrained|mnist)\((?:"mnist"|\)|progress).*'
            r'|.*preset\("small"(?!.*dataset=).*',
            c,
        )
        fixed = [line for line in fixed if "test_" not in line]
        assert not fixed, f"this cell is for MNIST only: {fixed}"


@each_notebook
def test_imports_stand_alone(path):
    if not any("default_exp" in directives(c) for c in notebook(path)["cells"]):
        return
    for cell in notebook(path)["cells"]:  # nbdev_docs runs every cell that imports something
        if (
            cell["cell_type"] != "code"
            or {"hide", "export", "exports"} & set(directives(cell))
            or "#| eval: false" in text(cell)
        ):
            continue
        try:
            nodes = ast.parse(re.sub(r"^[%!].*$", "", text(cell), flags=re.M)).body
        except SyntaxError:
            continue
        kinds = {isinstance(n, (ast.Import, ast.ImportFrom)) for n in nodes}
        assert kinds != {True, False}, (
            f"imports and other code in one cell: {text(cell)[:90]!r}; "
            "import in the hidden cell on top"
        )
