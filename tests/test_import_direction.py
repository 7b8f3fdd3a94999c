"""A module imports only from its own or an earlier layer, and light modules import no heavy library."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import penna

PACKAGE = Path(penna.__file__).parent
# From the bottom to the top, as in docs/architecture.md; packages in one layer do not import each other.
LAYERS = (
    ("errors",),
    ("storage",),
    ("formatting",),
    ("config",),
    ("tokenizer",),
    ("data",),
    ("model",),
    ("runs",),
    ("interop",),
    ("loading",),
    ("train",),
    ("generate",),
    ("evaluate", "explain"),
    ("tasks",),
    ("report",),
    ("api",),
    ("serve",),
    ("studio",),
    ("cli",),
    ("recipes", "experiments"),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
SHARED_BY_TASKS = "example_task"  # the base of the tasks that learn from examples
MODULES_WITH_TORCH = ("data/batches.py", "data/examples/batches.py")
FORBIDDEN = {"config": {"torch", "numpy"}, "tokenizer": {"torch"}, "data": {"torch"}}


def imported(file: Path, package: Path) -> Iterator[tuple[int, str]]:
    """The line and absolute dotted name of every import in a file, including those inside functions."""
    inside = ("penna", *file.relative_to(package).parent.parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = inside[: len(inside) - node.level + 1] if node.level else ()
            base = ".".join((*parents, *([node.module] if node.module else [])))
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def violations(package: Path) -> list[str]:
    """The forbidden imports in a package folder with penna's layout, one line each."""
    found: list[str] = []
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package).with_suffix("").parts
        here = parts[0]
        if here in ("__init__", "__main__"):
            continue  # they may import any layer; what that loads is tested below
        module = "/".join(parts)
        if here not in LEVEL:
            found.append(f"{module}: is in no layer")
            continue
        for line, name in imported(file, package):
            root, *rest = name.split(".")
            if root in FORBIDDEN.get(here, ()) and f"{module}.py" not in MODULES_WITH_TORCH:
                found.append(f"{module}:{line}: imports {root}")
            if root != "penna" or not rest or rest[0].startswith("__"):
                continue
            # A public name of the root, for example penna.train_a_model, comes from api.
            there = rest[0] if rest[0] in LEVEL else "api"
            if LEVEL[there] > LEVEL[here]:
                found.append(f"{module}:{line}: imports {name} from a higher layer")
            elif there != here and LEVEL[there] == LEVEL[here]:
                found.append(f"{module}:{line}: imports {name} from the same layer")
            elif here == there == "tasks" and len(parts) > 1 and rest[1] not in (parts[1], SHARED_BY_TASKS):
                found.append(f"{module}:{line}: imports {name} from another task")
    return found


def test_no_module_imports_from_a_higher_layer():
    assert violations(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        (
            "config/a.py",
            "from penna.data.shards import TokenStream",
            "penna.data.shards.TokenStream from a higher layer",
        ),
        ("data/a.py", "import penna.train.trainer", "penna.train.trainer from a higher layer"),
        ("model/a.py", "from penna import train", "penna.train from a higher layer"),
        ("interop/a.py", "from penna.loading import load_model", "penna.loading.load_model from a higher layer"),
        ("tasks/chat.py", "import penna.report.epochs", "penna.report.epochs from a higher layer"),
        ("train/a.py", "def f():\n    from penna.generate import engine", "penna.generate.engine from a higher layer"),
        ("tokenizer/a.py", "from ..data import shards", "penna.data.shards from a higher layer"),
        ("tokenizer/deep/a.py", "from ...cli.main import main", "penna.cli.main.main from a higher layer"),
        (
            "runs/a.py",
            "import importlib\nimportlib.import_module('penna.train.trainer')",
            "penna.train.trainer from a higher layer",
        ),
        ("runs/a.py", "from penna import generate_text", "penna.generate_text from a higher layer"),
        ("errors.py", "from penna.config import recipe", "penna.config.recipe from a higher layer"),
        ("api.py", "from penna.cli.main import main", "penna.cli.main.main from a higher layer"),
        ("evaluate/a.py", "import penna.explain.words", "penna.explain.words from the same layer"),
        ("explain/a.py", "import penna.evaluate.words", "penna.evaluate.words from the same layer"),
        ("tasks/chat.py", "from penna.tasks.pretrain import x", "penna.tasks.pretrain.x from another task"),
        ("tasks/chat.py", "from penna.tasks import pretrain", "penna.tasks.pretrain from another task"),
        ("config/a.py", "import numpy as np", "imports numpy"),
        ("tokenizer/a.py", "from torch import nn", "imports torch"),
        ("data/shards.py", "import torch", "imports torch"),
        ("helpers/a.py", "", "is in no layer"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, file: str, line: str, expected: str):
    module = tmp_path / file
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text(line + "\n")
    (found,) = violations(tmp_path)
    assert found.endswith(expected)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("errors.py", "import os"),
        ("config/a.py", "from penna.errors import PennaError"),
        ("interop/a.py", "import penna\nfrom penna import __version__"),
        ("train/a.py", "from penna.loading import load_model"),
        ("evaluate/a.py", "from penna.train.objective import Objective"),
        ("report/a.py", "from penna.tasks.chat import b"),
        ("data/batches.py", "import torch"),
        ("tasks/chat/a.py", "from penna.tasks.chat import b"),
        ("tasks/chat.py", "from penna.tasks.example_task import PreparedExampleTask"),
        ("cli/a.py", "from penna import api, train_a_model"),
    ],
)
def test_an_import_from_a_lower_layer_is_allowed(tmp_path: Path, file: str, line: str):
    module = tmp_path / file
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text(line + "\n")
    assert violations(tmp_path) == []


def loaded_packages(statement: str) -> set[str]:
    """The top-level packages that a new interpreter loads for a statement, by ``-X importtime``."""
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", statement], capture_output=True, text=True, check=True
    )
    names = [line.rsplit("|", 1)[1].strip() for line in process.stderr.splitlines() if line.startswith("import time:")]
    assert "encodings" in names
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize(
    ("statement", "excluded"),
    [
        ("import penna", {"torch", "numpy", "pydantic", "tokenizers"}),
        ("import penna.cli.main", {"torch", "numpy", "pydantic", "tokenizers"}),
        ("import penna.config.recipe", {"torch", "numpy"}),
        ("import penna.tokenizer.train, penna.tokenizer.stream_decoder", {"torch"}),
        ("import penna.data.prepare", {"torch"}),
    ],
)
def test_light_modules_load_no_heavy_library(statement: str, excluded: set[str]):
    assert loaded_packages(statement) & excluded == set()


def test_loaded_packages_finds_a_heavy_library():
    assert "numpy" in loaded_packages("import penna.data.shards")
