"""The floors of the house: an import goes to an earlier floor or stays on its own, and light things stay light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import penna

PACKAGE = Path(penna.__file__).parent
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
TORCH_IN_DATA = ("data/batches.py", "data/examples/batches.py")
FOREIGN = {"config": {"torch", "numpy"}, "tokenizer": {"torch"}, "data": {"torch"}}


def imported(file: Path, package: Path) -> Iterator[tuple[int, str]]:
    """Every (line, absolute dotted name) that a file imports, wherever in it the import stands."""
    inside = ("penna", *file.relative_to(package).parent.parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = inside[: len(inside) - node.level + 1] if node.level else ()
            base = ".".join((*above, *([node.module] if node.module else [])))
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def faults_in(package: Path) -> list[str]:
    """What breaks the order of the floors in a package folder laid out like penna, one line each."""
    faults: list[str] = []
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package).with_suffix("").parts
        here = parts[0]
        if here in ("__init__", "__main__"):
            continue  # the package's own face shows what it likes; what it makes heavy is tested below
        place = "/".join(parts)
        if here not in LEVEL:
            faults.append(f"{place}: stands on no floor")
            continue
        for line, name in imported(file, package):
            root, *rest = name.split(".")
            if root in FOREIGN.get(here, ()) and f"{place}.py" not in TORCH_IN_DATA:
                faults.append(f"{place}:{line}: imports {root}")
            if root != "penna" or not rest or rest[0].startswith("__"):
                continue
            # A name of the root that is no floor, such as penna.train_a_model, comes from api.
            there = rest[0] if rest[0] in LEVEL else "api"
            if LEVEL[there] > LEVEL[here]:
                faults.append(f"{place}:{line}: upward to {name}")
            elif there != here and LEVEL[there] == LEVEL[here]:
                faults.append(f"{place}:{line}: sideways to {name}")
            elif here == there == "tasks" and len(parts) > 1 and rest[1:2] != [parts[1]]:
                faults.append(f"{place}:{line}: one task imports another, {name}")
    return faults


def test_no_file_of_penna_imports_upward_or_sideways():
    assert faults_in(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "line", "fault"),
    [
        ("config/a.py", "from penna.data.shards import TokenStream", "upward to penna.data.shards.TokenStream"),
        ("data/a.py", "import penna.train.trainer", "upward to penna.train.trainer"),
        ("model/a.py", "from penna import train", "upward to penna.train"),
        ("train/a.py", "def f():\n    from penna.generate import engine", "upward to penna.generate.engine"),
        ("tokenizer/a.py", "from ..data import shards", "upward to penna.data.shards"),
        ("tokenizer/deep/a.py", "from ...cli.main import main", "upward to penna.cli.main.main"),
        (
            "runs/a.py",
            "import importlib\nimportlib.import_module('penna.train.trainer')",
            "upward to penna.train.trainer",
        ),
        ("runs/a.py", "from penna import generate_text", "upward to penna.generate_text"),
        ("errors.py", "from penna.config import recipe", "upward to penna.config.recipe"),
        ("api.py", "from penna.cli.main import main", "upward to penna.cli.main.main"),
        ("evaluate/a.py", "import penna.explain.words", "sideways to penna.explain.words"),
        ("explain/a.py", "import penna.evaluate.words", "sideways to penna.evaluate.words"),
        ("tasks/chat.py", "from penna.tasks.pretrain import x", "one task imports another, penna.tasks.pretrain.x"),
        ("tasks/chat.py", "from penna.tasks import pretrain", "one task imports another, penna.tasks.pretrain"),
        ("config/a.py", "import numpy as np", "imports numpy"),
        ("tokenizer/a.py", "from torch import nn", "imports torch"),
        ("data/shards.py", "import torch", "imports torch"),
        ("helpers/a.py", "", "stands on no floor"),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, file: str, line: str, fault: str):
    planted = tmp_path / file
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.write_text(line + "\n")
    (found,) = faults_in(tmp_path)
    assert found.endswith(fault)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("errors.py", "import os"),
        ("config/a.py", "from penna.errors import PennaError"),
        ("interop/a.py", "import penna\nfrom penna import __version__"),
        ("evaluate/a.py", "from penna.train.objective import Objective"),
        ("data/batches.py", "import torch"),
        ("tasks/chat/a.py", "from penna.tasks.chat import b"),
        ("cli/a.py", "from penna import api, train_a_model"),
    ],
)
def test_an_import_downward_is_allowed(tmp_path: Path, file: str, line: str):
    planted = tmp_path / file
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.write_text(line + "\n")
    assert faults_in(tmp_path) == []


def loaded_by(statement: str) -> set[str]:
    """The top-level packages that an interpreter of its own has loaded after a statement, by ``-X importtime``."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", statement], capture_output=True, text=True, check=True
    )
    names = [line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert "encodings" in names
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize(
    ("statement", "without"),
    [
        ("import penna", {"torch", "numpy", "pydantic", "tokenizers"}),
        ("import penna.cli.main", {"torch", "numpy", "pydantic", "tokenizers"}),
        ("import penna.config.recipe", {"torch", "numpy"}),
        ("import penna.tokenizer.train, penna.tokenizer.stream_decoder", {"torch"}),
        ("import penna.data.prepare", {"torch"}),
    ],
)
def test_importing_the_light_parts_loads_no_heavy_library(statement: str, without: set[str]):
    assert loaded_by(statement) & without == set()


def test_the_look_at_what_an_import_loads_sees_a_heavy_library():
    assert "numpy" in loaded_by("import penna.data.shards")
