"""Paths of a recipe to files: what a folder or a pattern stands for, and how each file is to be read.

Named files are read whatever they are called; from folders, and from patterns that end in a bare ``*`` or ``**``, only
files with a known ending are taken, and ``passed_over`` counts the others, so that nothing is left out in silence.
"""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from penna.config.recipe import expand_path
from penna.errors import DataError

Format = Literal["txt", "jsonl", "json", "tsv", "csv", "parquet"]

_FORMATS: dict[str, Format] = {
    ".txt": "txt",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".tsv": "tsv",
    ".csv": "csv",
    ".parquet": "parquet",
}
READABLE = ".txt, .jsonl, .json, .tsv, .csv or .parquet"  # as messages name them
COMPRESSED = (".gz", ".xz", ".zst")
_FOREIGN = {".zip", ".tar", ".tgz", ".bz2", ".7z", ".rar", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".html", ".epub"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def suffixes(file: Path) -> tuple[str, str]:
    """A file's own ending and that of its compression, both in small letters: ("", ".gz") for "notes.gz"."""
    compression = file.suffix.lower()
    if compression in COMPRESSED:
        return file.with_suffix("").suffix.lower(), compression
    return compression, ""


def format_of(file: Path, given: Literal["auto"] | Format = "auto") -> Format:
    """How a file is read: as the format that is given, else by its ending; an unknown ending is plain text."""
    return _FORMATS.get(suffixes(file)[0], "txt") if given == "auto" else given


def find_files(paths: Iterable[str], given: Literal["auto"] | Format = "auto") -> list[Path]:
    """The files that paths name, folders searched through, in a fixed order: paths as given, each one's files by name.

    Raises DataError for a path that is missing or no text, and for a folder with nothing readable in it.
    """
    return [file for path in paths for file in _files_of(path, given, Counter())]


def skipped_files(paths: Iterable[str]) -> dict[str, int]:
    """How many files of which ending lie in the folders (and bare patterns) among ``paths`` and are not read.

    Files without an ending count under "". Hidden files and folders, whose names begin with a dot, do not count.
    """
    passed: Counter[str] = Counter()
    for path in paths:
        # A folder with nothing to read is counted, too; reading it raises the error.
        _files_of(path, "auto", passed, complain=False)
    return dict(sorted(passed.items()))


def _files_of(
    given: str, format: Literal["auto"] | Format, passed: Counter[str], *, complain: bool = True
) -> list[Path]:
    path = expand_path(given)
    if path.is_dir():
        files = _readable(_search(path), passed)
        if not files and complain:
            raise _nothing_in(f"The folder {path}", passed)
        return files
    if path.is_file():
        return [_checked(path, format)] if complain else []
    if glob.has_magic(str(path)):
        files = _matches(path, format, passed, complain)
        if not files and complain:
            raise _nothing_in(f"The pattern {path}", passed)
        return files
    if complain:
        raise _missing(path, given)
    return []


def _matches(pattern: Path, format: Literal["auto"] | Format, passed: Counter[str], complain: bool) -> list[Path]:
    """What a pattern stands for: each match as if it were named, except that a bare * or ** takes what is readable."""
    found = sorted(Path(match) for match in glob.glob(str(pattern), recursive=True))
    files: list[Path] = []
    for match in found:
        if match.is_dir():
            if "**" not in pattern.parts:  # ** has found what lies inside by itself
                files.extend(_readable(_search(match), passed))
        elif pattern.name in ("*", "**"):
            files.extend(_readable([match], passed))
        else:
            files.append(_checked(match, format) if complain else match)
    return files


def _search(folder: Path) -> list[Path]:
    """Every file below a folder that is not hidden, sorted. Links are followed, each folder entered once."""
    seen: set[str] = set()
    files: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=_unreadable, followlinks=True):
        seen.add(os.path.realpath(place))
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(place, name)) not in seen
        )
        files.extend(Path(place, name) for name in names if not name.startswith("."))
    return sorted(file for file in files if file.is_file())


def _unreadable(error: OSError) -> None:
    raise DataError(
        f"The folder {error.filename} cannot be read: {error.strerror}.",
        "A folder is searched at any depth, and nothing in it is left out in silence.",
        "Change its permissions, or name the files themselves.",
    ) from error


def _readable(files: Iterable[Path], passed: Counter[str]) -> list[Path]:
    """The files with a known ending; the others are counted."""
    readable: list[Path] = []
    for file in files:
        ending, compression = suffixes(file)
        if ending in _FORMATS:
            readable.append(file)
        else:
            passed[ending + compression] += 1
    return readable


def _checked(file: Path, format: Literal["auto"] | Format) -> Path:
    ending, _ = suffixes(file)
    if format == "auto" and ending in _FOREIGN:
        raise DataError(
            f"{file} is a {file.suffix} file, which is not read.",
            f"Text comes as {READABLE}, each also {', '.join(COMPRESSED)} (any other ending is taken as plain text).",
            "Convert it first; --data.format says how to read a file whatever its ending.",
        )
    return file


def _nothing_in(where: str, passed: Counter[str]) -> DataError:
    others = f" (only {describe_skipped(dict(sorted(passed.items())))})" if passed else ""
    return DataError(
        f"{where} holds no {READABLE} file{others}.",
        f"A folder is searched for these, at any depth, each also {', '.join(COMPRESSED)}; hidden files are left out.",
        'Name the files themselves, or by a pattern such as "folder/part-*", or convert them to UTF-8 text first.',
    )


def describe_skipped(passed: dict[str, int]) -> str:
    """Counts of ``passed_over`` in words: "2 .md, 1 without ending"."""
    return ", ".join(f"{count:,} {ending or 'without ending'}" for ending, count in passed.items())


def _missing(path: Path, given: str) -> DataError:
    if path.exists():
        return DataError(
            f"{path} is neither a file nor a folder.",
            "Text is read more than once, and a pipe gives it only once.",
            "Write it to a file, or pipe it in with - as the path: it is kept then.",
        )
    hints = list(_hints(path, given))
    return DataError(
        f"There is no file or folder {path}.",
        "A path of text to learn from, or the name of a recipe (`penna recipes` lists them).",
        " ".join(["Check the spelling; the path is seen from the folder you stand in.", *hints]),
    )


def _hints(path: Path, given: str) -> Iterator[str]:
    if _HUB_ID.fullmatch(given) and suffixes(path)[0] not in _FORMATS and not path.parent.exists():
        yield f"A data set of the Hugging Face hub is named hf://{given}."
