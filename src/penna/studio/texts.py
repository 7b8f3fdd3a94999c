"""Which texts a page may name: those in the folder the studio was started with, and those that were sent to it.

A page never gives a path. It gives a key of this list, which is read anew each time; a link that leads out of the
folder is not on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from penna.data.sources.files import find_files
from penna.errors import DataError, PennaError

MOST = 2000  # files of a folder that are listed


@dataclass(frozen=True)
class ListedText:
    """A text that may be chosen."""

    key: str
    name: str  # below its folder
    path: Path
    origin: Literal["folder", "upload"]
    size: int  # bytes


def listed_texts(data_dir: Path | None, uploads: Path) -> list[ListedText]:
    """The texts there are, uploads first; of a folder with very many, the first 2,000 by name."""
    sent = sorted(uploads.iterdir()) if uploads.is_dir() else []
    found = [_listed(file, uploads, "upload") for file in sent if file.is_file() and not file.name.startswith(".")]
    if data_dir is not None:
        found += [_listed(file, data_dir, "folder") for file in islice(_inside(data_dir), MOST)]
    return found


def chosen_texts(keys: list[str], data_dir: Path | None, uploads: Path) -> list[Path]:
    """The paths of keys. Raises DataError for one that is not on the list (any more)."""
    known = {text.key: text.path for text in listed_texts(data_dir, uploads)}
    for key in keys:
        if key not in known:
            raise DataError(
                f"There is no text {key.partition(':')[2]!r} to choose.",
                "A file that was uploaded, or one in the folder the studio was started with.",
                "It may have been removed: choose from the list as it is now.",
            )
    return [known[key] for key in keys]


def options(listed: list[ListedText]) -> dict[str, str]:
    """Keys and what they are called, for a field to choose from."""
    return {text.key: f"{'⇪ ' if text.origin == 'upload' else ''}{text.name} · {_size(text.size)}" for text in listed}


def _inside(folder: Path) -> list[Path]:
    """Files of a folder that are text by their endings and do not lie elsewhere."""
    try:
        files = find_files([str(folder)])
    except PennaError:  # a folder without text is an empty list
        return []
    root = folder.resolve()
    named = [file for file in files if str(file).isprintable() and "$" not in str(file)]
    return [file for file in named if file.resolve().is_relative_to(root)]


def _listed(file: Path, folder: Path, origin: Literal["folder", "upload"]) -> ListedText:
    name = file.relative_to(folder).as_posix()
    return ListedText(f"{origin}:{name}", name, file, origin, file.stat().st_size)


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"
