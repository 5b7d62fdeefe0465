"""An exported function may only use names that its module has.

One defined in an unexported cell is a NameError for users. Checked without calling anything: every
global name that any code of a module loads must be in the imported module or a builtin.
"""

import builtins
import dis
import importlib
import types

import pytest
from house import MODULES, path_of

LOADS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
STORES = {"STORE_NAME", "STORE_GLOBAL"}


def missing_names(code, namespace):
    "(function, name) for each global name that `code`, or any code inside it, would not find."
    steps = list(dis.get_instructions(code))
    own = {s.argval for s in steps if s.opname in STORES} | {
        "__name__",
        "__qualname__",
        "__module__",
        "__annotations__",
    }
    found = {
        (code.co_name, s.argval)
        for s in steps
        if s.opname in LOADS
        and s.argval not in own
        and s.argval not in namespace
        and not hasattr(builtins, s.argval)
    }
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            found |= missing_names(inner, namespace)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_module_needs_only_its_own_names(module):
    loaded = importlib.import_module(f"lsd_nb.{module}")
    path = path_of(module)
    missing = missing_names(
        compile(path.read_text(encoding="utf-8"), str(path), "exec"), vars(loaded)
    )
    assert not missing, f"names only a notebook has: {sorted(missing)}"


PLANTED = """
import math
LIMIT = 3
def fine(x): return [math.sqrt(v) for v in x if v < LIMIT]
def leaky(x): return helper_of_the_notebook(x)
class Thing:
    size = LIMIT
    double = size*2
    def method(self): return (lambda v: v + missing_constant)(self.size)
def outer():
    def inner(): return also_missing
    class Local:
        a = LIMIT
        b = a
    return inner, Local
"""


def test_checker_finds_planted_names():
    namespace = {}
    code = compile(PLANTED, "planted.py", "exec")
    exec(code, namespace)
    assert {name for _, name in missing_names(code, namespace)} == {
        "helper_of_the_notebook",
        "missing_constant",
        "also_missing",
    }
