"""Nothing that can execute is ever read or built from data: by walking the package's syntax trees."""

import ast
from pathlib import Path

import pytest

import sisy_redis

PACKAGE = Path(str(sisy_redis.__file__)).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
# What can turn data into code when it reads it.
READERS = {"pickle", "_pickle", "cPickle", "marshal", "yaml", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle"}
BUILDERS = {"eval", "exec", "compile", "__import__"}
SHELLS = {("os", "system"), ("os", "popen"), ("subprocess", "getoutput"), ("subprocess", "getstatusoutput")}


def violations(tree: ast.AST) -> list[str]:
    """What in a module could execute data, with its line."""
    found = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "").partition(".")[0]]
            names += [alias.name for alias in node.names if node.module == "builtins" and alias.name in BUILDERS]
            names = [name for name in names if name in READERS or name in BUILDERS]
        elif isinstance(node, ast.Name) and node.id in BUILDERS:
            found.append(f"{node.lineno}: {node.id}")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            pair = (node.value.id, node.attr)
            if pair in SHELLS or (node.value.id in ("builtins", "__builtins__") and node.attr in BUILDERS):
                found.append(f"{node.lineno}: {'.'.join(pair)}")
        elif isinstance(node, ast.keyword) and node.arg == "shell":
            found.append(f"{node.value.lineno}: shell=")
        found += [f"{node.lineno}: {name}" for name in names if name in READERS | BUILDERS]  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_imports_or_calls_what_executes_data(module: Path) -> None:
    assert violations(ast.parse(module.read_text())) == []


def test_the_walk_met_the_whole_package() -> None:
    names = {path.relative_to(PACKAGE).as_posix() for path in MODULES}
    assert {"codec.py", "worker/child.py", "cli/commands.py", "contrib/django/apps.py"} <= names


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "import a, yaml as y",
        "from marshal import loads",
        "from yaml.loader import Loader",
        "def f(x):\n    return eval(x)",
        "run = exec",
        "compile('1', '', 'eval')",
        "import builtins\nbuiltins.exec('1')",
        "from builtins import eval",
        "import os\nos.system('ls')",
        "run(a, shell=True)",
    ],
)
def test_the_walk_notices_each_of_them(code: str) -> None:
    assert violations(ast.parse(code))


def test_the_walk_leaves_regular_expressions_alone() -> None:
    assert violations(ast.parse("import re\nre.compile('a')")) == []
