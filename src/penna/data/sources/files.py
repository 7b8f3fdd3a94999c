"""The files that the paths of a recipe name, and the format of each.

A named file is read whatever its suffix. Of folders, and of patterns that end in a bare ``*`` or ``**``, only files
with a known suffix are read; ``skipped_files`` counts the others, so that nothing is skipped silently.
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
READABLE = ".txt, .jsonl, .json, .tsv, .csv or .parquet"
COMPRESSED = (".gz", ".xz", ".zst")
_FOREIGN = {".zip", ".tar", ".tgz", ".bz2", ".7z", ".rar", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".html", ".epub"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def suffixes(file: Path) -> tuple[str, str]:
    """A file's own suffix and that of its compression, both in lower case: ("", ".gz") for "notes.gz"."""
    compression = file.suffix.lower()
    if compression in COMPRESSED:
        return file.with_suffix("").suffix.lower(), compression
    return compression, ""


def format_of(file: Path, given: Literal["auto"] | Format = "auto") -> Format:
    """The given format, or that of the file's suffix; an unknown suffix is plain text."""
    return _FORMATS.get(suffixes(file)[0], "txt") if given == "auto" else given


def find_files(paths: Iterable[str], given: Literal["auto"] | Format = "auto") -> list[Path]:
    """The files that paths name, in a fixed order: paths as given, their files sorted. Folders are searched.

    Raises DataError for a path that is missing or not text, and for a folder without a readable file.
    """
    return [file for path in paths for file in _files_of(path, given, Counter())]


def skipped_files(paths: Iterable[str]) -> dict[str, int]:
    """The number of files, by suffix, in the folders (and bare patterns) among ``paths`` that are not read.

    The key of files without a suffix is "". Hidden files and folders, whose names begin with a dot, do not count.
    """
    skipped: Counter[str] = Counter()
    for path in paths:
        # Folders without a readable file are counted, too; reading them raises the error.
        _files_of(path, "auto", skipped, strict=False)
    return dict(sorted(skipped.items()))


def _files_of(
    given: str, format: Literal["auto"] | Format, skipped: Counter[str], *, strict: bool = True
) -> list[Path]:
    path = expand_path(given)
    if path.is_dir():
        files = _readable(_search(path), skipped)
        if not files and strict:
            raise _nothing_in(f"The folder {path}", skipped)
        return files
    if path.is_file():
        return [_checked(path, format)] if strict else []
    if glob.has_magic(str(path)):
        files = _matches(path, format, skipped, strict)
        if not files and strict:
            raise _nothing_in(f"The pattern {path}", skipped)
        return files
    if strict:
        raise _missing(path, given)
    return []


def _matches(pattern: Path, format: Literal["auto"] | Format, skipped: Counter[str], strict: bool) -> list[Path]:
    """The files that match a pattern, as if they were named; a bare * or ** matches only readable ones."""
    found = sorted(Path(match) for match in glob.glob(str(pattern), recursive=True))
    files: list[Path] = []
    for match in found:
        if match.is_dir():
            if "**" not in pattern.parts:  # ** has already found its files
                files.extend(_readable(_search(match), skipped))
        elif pattern.name in ("*", "**"):
            files.extend(_readable([match], skipped))
        else:
            files.append(_checked(match, format) if strict else match)
    return files


def _search(folder: Path) -> list[Path]:
    """Every file below a folder that is not hidden, sorted. Links are followed; each folder is entered once."""
    seen: set[str] = set()
    files: list[Path] = []
    for directory, folders, names in os.walk(folder, onerror=_unreadable, followlinks=True):
        seen.add(os.path.realpath(directory))
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(directory, name)) not in seen
        )
        files.extend(Path(directory, name) for name in names if not name.startswith("."))
    return sorted(file for file in files if file.is_file())


def _unreadable(error: OSError) -> None:
    raise DataError(
        f"The folder {error.filename} cannot be read: {error.strerror}.",
        "A folder is searched at any depth, and nothing in it is skipped silently.",
        "Change its permissions, or name the files themselves.",
    ) from error


def _readable(files: Iterable[Path], skipped: Counter[str]) -> list[Path]:
    """The files with a known suffix; the others are counted."""
    readable: list[Path] = []
    for file in files:
        suffix, compression = suffixes(file)
        if suffix in _FORMATS:
            readable.append(file)
        else:
            skipped[suffix + compression] += 1
    return readable


def _checked(file: Path, format: Literal["auto"] | Format) -> Path:
    suffix, _ = suffixes(file)
    if format == "auto" and suffix in _FOREIGN:
        raise DataError(
            f"{file} is a {file.suffix} file, which Penna cannot read.",
            f"Text can be {READABLE}, also compressed ({', '.join(COMPRESSED)}); other suffixes are plain text.",
            "Convert it first, or name its format with --data.format.",
        )
    return file


def _nothing_in(name: str, skipped: Counter[str]) -> DataError:
    others = f" (only {describe_skipped(dict(sorted(skipped.items())))})" if skipped else ""
    return DataError(
        f"{name} contains no {READABLE} file{others}.",
        f"A folder is searched at any depth for these, also compressed ({', '.join(COMPRESSED)}), except hidden files.",
        'Name the files themselves, use a pattern such as "folder/part-*", or convert them to UTF-8 text.',
    )


def describe_skipped(skipped: dict[str, int]) -> str:
    """Counts of ``skipped_files`` for a message: "2 .md, 1 without suffix"."""
    return ", ".join(f"{count:,} {suffix or 'without suffix'}" for suffix, count in skipped.items())


def _missing(path: Path, given: str) -> DataError:
    if path.exists():
        return DataError(
            f"{path} is neither a file nor a folder.",
            "Text is read several times, but a pipe can be read only once.",
            "Write it to a file, or pipe it in with - as the path, which saves it.",
        )
    hints = list(_hints(path, given))
    return DataError(
        f"There is no file or folder {path}.",
        "Name a text file, a folder, or a recipe (`penna recipes` lists them).",
        " ".join(["Check the spelling; a relative path starts at the current folder.", *hints]),
    )


def _hints(path: Path, given: str) -> Iterator[str]:
    if _HUB_ID.fullmatch(given) and suffixes(path)[0] not in _FORMATS and not path.parent.exists():
        yield f"For a Hugging Face dataset, write hf://{given}."
