"""Files to documents: what the paths of a recipe hold, one text at a time.

``.txt`` files give a document per file, block or line; ``.jsonl`` files one per line, from one field. Nothing is
dropped in silence: a record that cannot be used comes out as a ``BadRecord`` with its file, line and reason. A file
that is no text at all stops everything, with what it seems to be.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penna.config.recipe import expand_path
from penna.config.sections import DataConfig
from penna.data.python_text import python_documents
from penna.errors import DataError

READABLE = (".txt", ".jsonl")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")  # str.splitlines would also cut at U+2028 and form feeds
_FOREIGN = (".json", ".csv", ".tsv", ".parquet", ".gz", ".xz", ".zst", ".zip", ".pdf", ".docx", ".html")


@dataclass(frozen=True)
class BadRecord:
    """A record that cannot be used: where it stands and why."""

    file: Path
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


def find_files(paths: Iterable[str]) -> list[Path]:
    """The readable files that paths name, folders searched through, in a fixed order.

    Raises DataError for a path that is missing, or a folder with nothing readable in it.
    """
    files: list[Path] = []
    for given in paths:
        path = expand_path(given)
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in READABLE and file.is_file())
            if not inside:
                raise DataError(
                    f"The folder {path} holds no {' or '.join(READABLE)} file.",
                    "A folder is searched for these, at any depth.",
                    "Name the files themselves, or convert them to UTF-8 text first.",
                )
            files.extend(inside)
        elif path.is_file():
            if path.suffix.lower() in _FOREIGN:
                raise DataError(
                    f"{path} is a {path.suffix} file, which is not read.",
                    f"Text comes as {' or '.join(READABLE)} (any other ending is taken as plain text).",
                    "Convert it first.",
                )
            files.append(path)
        else:
            raise DataError(
                f"There is no file or folder {path}.",
                "A path of text to learn from, or the name of a recipe (`penna recipes` lists them).",
                "Check the spelling; the path is seen from the folder you stand in.",
            )
    return files


def read_documents(config: DataConfig) -> Iterator[str | BadRecord]:
    """Every document of the configured source, in order."""
    if config.source == "python":
        records: Iterator[str | BadRecord] = iter(python_documents())
    else:
        records = read_files(find_files(config.path), config)
    return itertools.islice(records, config.limit)


def read_files(files: Iterable[Path], config: DataConfig) -> Iterator[str | BadRecord]:
    """Every document of these files, in order."""
    for file in files:
        if file.suffix.lower() == ".jsonl":
            yield from _jsonl(file, config.text_column)
        elif config.document == "file":
            yield _read_text(file)
        else:
            yield from _pieces(_read_text(file), config.document)


def _read_text(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(
            f"{file} cannot be read: {error.strerror}.", "A readable file.", "Check its permissions."
        ) from error
    return _decode(content, file)


def _decode(content: bytes, file: Path) -> str:
    """UTF-8 bytes to text, a byte-order mark left out; line ends stay as they are."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _not_utf8(file, "it begins with the byte-order mark of UTF-16", "UTF-16")
    if b"\0" in content[:8192]:
        raise DataError(
            f"{file} is a binary file (it holds NUL bytes).",
            "Plain text in UTF-8.",
            "Give the text itself; a .docx or .pdf must be converted first.",
        )
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        where = f"byte 0x{content[error.start]:02x} at line {line} (offset {error.start}) is not UTF-8"
        raise _not_utf8(file, where, "CP949 or LATIN1") from error


def _not_utf8(file: Path, reason: str, encoding: str) -> DataError:
    return DataError(
        f"{file} is not UTF-8: {reason}.",
        "Text is read as UTF-8.",
        f"Convert it: iconv -f {encoding} -t UTF-8 {file.name} > converted.txt",
    )


def _pieces(text: str, document: str) -> Iterator[str]:
    """Lines, or blocks between blank lines, without the line end behind them; blank ones are no documents."""
    lines = _LINE.findall(text)
    if document == "line":
        yield from (line.rstrip("\r\n") for line in lines if line.strip())
        return
    for blank, block in itertools.groupby(lines, key=lambda line: not line.strip()):
        if not blank:
            yield "".join(block).rstrip("\r\n")


def _jsonl(file: Path, column: str) -> Iterator[str | BadRecord]:
    try:
        with open(file, "rb") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield _json_text(line, column, file, number)
    except OSError as error:
        raise DataError(
            f"{file} cannot be read: {error.strerror}.", "A readable file.", "Check its permissions."
        ) from error


def _json_text(line: bytes, column: str, file: Path, number: int) -> str | BadRecord:
    try:
        record: Any = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError:
        return BadRecord(file, number, "not UTF-8")
    except (ValueError, RecursionError) as error:
        return BadRecord(file, number, f"not JSON ({error})")
    if not isinstance(record, dict) or column not in record:
        found = ", ".join(map(repr, record)) if isinstance(record, dict) else type(record).__name__
        return BadRecord(file, number, f"no field {column!r} (found: {found}; --data.text-column chooses)")
    text: Any = record[column]
    if not isinstance(text, str):
        return BadRecord(file, number, f"field {column!r} is {type(text).__name__}, not text")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return BadRecord(file, number, f"field {column!r} holds half a character (a lone surrogate)")
    return text
