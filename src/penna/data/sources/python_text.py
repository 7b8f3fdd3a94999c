"""The text every machine has: Python's reference topics and the standard library's docstrings.

Read from the running interpreter's own files and parsed with ``ast``; nothing of it is imported or run. It is what
`penna demo` learns from, so that the first two minutes need no download.
"""

from __future__ import annotations

import ast
import inspect
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from penna.errors import DataError

_SHORTEST = 200  # characters; shorter docstrings say little but "Return the x of y."


@cache
def python_documents() -> tuple[str, ...]:
    """Reference topics first, then one document per module's docstrings, in a fixed order."""
    library = Path(sysconfig.get_path("stdlib"))
    topics = list(_topics(library / "pydoc_data" / "topics.py"))
    # The package's own folders of two levels hold what people import; tests and site-packages do not count.
    files = sorted(library.glob("*.py")) + sorted(
        file
        for file in library.glob("*/*.py")
        if file.parent.name not in {"site-packages", "test", "idlelib", "lib2to3"}
    )
    modules = [text for file in files if len(text := _docstrings(file)) >= _SHORTEST]
    if not topics and not modules:
        raise DataError(
            f"This Python has no readable standard library under {library}.",
            "`penna demo` learns from the interpreter's own documentation.",
            "Train on a text of your own: `penna train my.txt`.",
        )
    return tuple(topics + modules)


def _topics(file: Path) -> Iterator[str]:
    """The values of the one dictionary that pydoc_data/topics.py is."""
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
    """A module's tree; None for the few files that are kept broken on purpose."""
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
