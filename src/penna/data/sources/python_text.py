"""The text of `penna demo`: Python's reference topics and the standard library's docstrings.

Every machine has it, so the demo needs no download. The files are parsed with ``ast``; nothing is imported or run.
"""

from __future__ import annotations

import ast
import inspect
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from penna.errors import DataError

_SHORTEST = 200  # characters; shorter docstrings say little more than "Return the x of y."


@cache
def python_documents() -> tuple[str, ...]:
    """Reference topics first, then one document per module's docstrings, in a fixed order."""
    library = Path(sysconfig.get_path("stdlib"))
    topics = list(_topics(library / "pydoc_data" / "topics.py"))
    # Two levels hold the modules that people import; tests and site-packages do not count.
    files = sorted(library.glob("*.py")) + sorted(
        file
        for file in library.glob("*/*.py")
        if file.parent.name not in {"site-packages", "test", "idlelib", "lib2to3"}
    )
    modules = [text for file in files if len(text := _docstrings(file)) >= _SHORTEST]
    if not topics and not modules:
        raise DataError(
            f"This Python has no readable standard library under {library}.",
            "`penna demo` trains on the documentation of Python itself.",
            "Train on your own text: `penna train my.txt`.",
        )
    return tuple(topics + modules)


def _topics(file: Path) -> Iterator[str]:
    """The values of the only dictionary in pydoc_data/topics.py."""
    tree = _parse(file)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Dict):
            for value in node.values:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.value
            return


def _docstrings(file: Path) -> str:
    tree = _parse(file)
    if tree is None:
        return ""
    texts: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and len(text) >= 40:
                texts.append(inspect.cleandoc(text))
    return "\n\n".join(texts)


def _parse(file: Path) -> ast.Module | None:
    """A module's tree; None for the few files that are invalid on purpose."""
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
