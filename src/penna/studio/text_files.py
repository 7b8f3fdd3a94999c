"""Text files that a page may use: those in the data folder, and uploads.

A page never sends a path. It sends the key of a listed file; links that lead out of the folder are not listed.

A browser uploads a file in parts of at most 512 kB, one request each, so that no request is large, nothing is held in
memory, and a refusal comes early. A file is refused by its name, its size, or first bytes that are not text. Incomplete
files are kept in a folder of their own, whose name holds the final size; complete files never change.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import threading
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from penna.data.sources.files import find_files, format_of
from penna.data.sources.streams import checked_chunks
from penna.errors import DataError, DeviceError, PennaError
from penna.storage import flush, friendly_disk_errors

MAX_LISTED = 2000  # files of the data folder
MAX_FILE = 512_000_000  # bytes
MAX_TOTAL = 16 << 30  # bytes of all uploads, incomplete ones included
PART = 512 << 10  # bytes
ROUTE = "/studio/uploads"
_NAME = re.compile(r"\w[\w .()\-]*")
_NAME_BYTES = 160
_KEY = re.compile(r"[0-9a-f]{32}")
_ABANDONED_SECONDS = 24 * 3600  # age at which incomplete files are deleted


@dataclass(frozen=True)
class TextFile:
    """A text file that may be chosen."""

    key: str
    name: str  # relative to its folder
    path: Path
    origin: Literal["folder", "upload"]
    size: int  # bytes


def list_texts(data_dir: Path | None, uploads: Path) -> list[TextFile]:
    """The available text files: uploads, then the first 2,000 of the data folder by name."""
    uploaded = sorted(uploads.iterdir()) if uploads.is_dir() else []
    files = [
        _text_file(file, uploads, "upload") for file in uploaded if file.is_file() and not file.name.startswith(".")
    ]
    if data_dir is not None:
        files += [_text_file(file, data_dir, "folder") for file in islice(_files_inside(data_dir), MAX_LISTED)]
    return files


def resolve_texts(keys: list[str], data_dir: Path | None, uploads: Path) -> list[Path]:
    """The paths of keys. Raises DataError for a key that is not listed."""
    paths = {text.key: text.path for text in list_texts(data_dir, uploads)}
    for key in keys:
        if key not in paths:
            raise DataError(
                f"There is no text {key.partition(':')[2]!r} to choose.",
                "Choose an uploaded file, or one in the studio's data folder.",
                "It may have been deleted: reload the page and choose again.",
            )
    return [paths[key] for key in keys]


def text_options(files: list[TextFile]) -> dict[str, str]:
    """Keys and labels for a select field."""
    return {file.key: f"{'⇪ ' if file.origin == 'upload' else ''}{file.name} · {_size(file.size)}" for file in files}


def _files_inside(folder: Path) -> list[Path]:
    """Files that are text by their extension and, after following links, inside the folder."""
    try:
        files = find_files([str(folder)])
    except PennaError:  # a folder without text
        return []
    root = folder.resolve()
    named = [file for file in files if str(file).isprintable() and "$" not in str(file)]
    return [file for file in named if file.resolve().is_relative_to(root)]


def _text_file(file: Path, folder: Path, origin: Literal["folder", "upload"]) -> TextFile:
    name = file.relative_to(folder).as_posix()
    return TextFile(f"{origin}:{name}", name, file, origin, file.stat().st_size)


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"


class Uploads:
    """The uploads of one studio."""

    def __init__(self, folder: Path, max_file: int = MAX_FILE, max_total: int = MAX_TOTAL) -> None:
        self.folder, self.max_file, self.max_total = folder, max_file, max_total
        self._lock = threading.Lock()

    def add_part(self, key: str, name: str, size: int, begin: int, part: bytes) -> str | None:
        """Write a part of a file; return the name of the file once it is complete, otherwise None.

        Raises DataError for a name, size, order or content that is refused, and DeviceError for a full disk; the
        incomplete file is deleted then.

        Args:
            key: Identifies the upload, 32 hexadecimal digits.
            name: The file's name.
            size: The size of the whole file in bytes.
            begin: The position of the part in the file.
            part: The bytes.
        """
        name = self._checked_name(name)
        self._check_size(name, size)
        if not _KEY.fullmatch(key) or begin < 0 or len(part) > PART:
            raise _incomplete(name)
        folder = self.folder / ".parts" / f"{key}-{size}"
        with self._lock, friendly_disk_errors(self.folder):
            try:
                return self._write(folder, name, size, begin, part)
            except (PennaError, OSError):
                shutil.rmtree(folder, ignore_errors=True)
                raise

    def _write(self, folder: Path, name: str, size: int, begin: int, part: bytes) -> str | None:
        file = folder / name
        if begin == 0:
            self._delete_abandoned()
            shutil.rmtree(folder, ignore_errors=True)
            self._check_space(name, size)
            folder.mkdir(parents=True)
            file.touch()
        received = file.stat().st_size if file.is_file() else -1
        if begin != received or begin + len(part) > size or not part:
            raise _incomplete(name)
        with open(file, "ab") as output:
            output.write(part)
        if begin == 0:
            _check_content(file)
        if begin + len(part) < size:
            return None
        flush(file)
        kept = self._free_name(name)
        os.rename(file, self.folder / kept)
        shutil.rmtree(folder, ignore_errors=True)
        return kept

    def _checked_name(self, name: str) -> str:
        normalized = unicodedata.normalize("NFC", name)
        if not _NAME.fullmatch(normalized) or normalized[-1] in " ." or len(normalized.encode()) > _NAME_BYTES:
            raise DataError(
                f"A file cannot be stored under the name {name[:80]!r}.",
                f"The name must have at most {_NAME_BYTES} bytes, start with a letter or digit, and contain only "
                "letters, digits, spaces, '.', '_', '-' and parentheses.",
                "Rename the file and upload it again.",
            )
        return normalized

    def _check_size(self, name: str, size: int) -> None:
        if size < 1:
            raise DataError(f"{name} is empty.", "The file must contain text.", "Choose another file.")
        if size > self.max_file:
            raise too_large(name, size, self.max_file)

    def _check_space(self, name: str, size: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        used = self._used()
        if used + size > self.max_total:
            raise DeviceError(
                f"{name} has {size / 1e6:,.0f} MB, and the texts in {self.folder} already have {used / 1e6:,.0f} MB.",
                f"All uploads together may have at most {self.max_total / 1e6:,.0f} MB.",
                "Delete some of them, or put the file into the studio's data folder (--data-dir FOLDER).",
            )
        free = shutil.disk_usage(self.folder).free
        if free < size:
            raise DeviceError(
                f"{name} has {size / 1e6:,.0f} MB, but the disk of {self.folder} has only {free / 1e6:,.0f} MB free.",
                "The whole file must fit on the disk.",
                "Free some space, or start the studio with another --runs-dir.",
            )

    def _used(self) -> int:
        """Bytes of complete files, and the final sizes of incomplete ones."""
        complete = sum(file.stat().st_size for file in self.folder.iterdir() if file.is_file())
        return complete + sum(int(folder.name.partition("-")[2]) for folder in (self.folder / ".parts").glob("*-*"))

    def _delete_abandoned(self) -> None:
        for folder in (self.folder / ".parts").glob("*"):
            if folder.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)

    def _free_name(self, name: str) -> str:
        stem, dot, extension = name.partition(".")
        number, free = 2, name
        while (self.folder / free).exists():
            number, free = number + 1, f"{stem}-{number}{dot}{extension}"
        return free


def _check_content(file: Path) -> None:
    """Raise a DataError, which names the file without its folder, if the first part is not text."""
    try:
        find_files([str(file)])
        if format_of(file) != "parquet":
            next(checked_chunks(file), b"")
            return
    except DataError as error:
        parts = (error.happened, error.expected, error.advice)
        raise DataError(*(part.replace(str(file), file.name) for part in parts)) from error
    with open(file, "rb") as content:
        if content.read(4) != b"PAR1":
            raise DataError(
                f"{file.name} is not a .parquet file: its first bytes are different.",
                "The extension of a file must match its format.",
                "Correct the extension, or write the file again.",
            )


def too_large(name: str, size: int, max_file: int = MAX_FILE) -> DataError:
    """The error about a file that is larger than the limit."""
    return DataError(
        f"{name} has {size / 1e6:,.0f} MB; the limit for an upload is {max_file / 1e6:,.0f} MB.",
        "Upload a smaller file, or use one that is already on this machine.",
        "Put it into the studio's data folder (penna studio --data-dir FOLDER) and choose it there.",
    )


def _incomplete(name: str) -> DataError:
    return DataError(
        f"{name[:80]} did not arrive completely: a part is missing or came twice.",
        "All parts of a file must arrive in order.",
        "Choose the file again.",
    )


def add_upload_route(app: FastAPI, uploads: Uploads) -> None:
    """Add the route for parts of files. A refused file is a normal response with the error's three sentences."""

    @app.put(f"{ROUTE}/{{key}}", include_in_schema=False)
    async def upload(request: Request, key: str, name: str, size: int, begin: int) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        try:
            part = await request.body()  # the middleware has limited its size and time
            kept = await asyncio.to_thread(uploads.add_part, key, name, size, begin, part)
        except PennaError as error:
            return JSONResponse({"problem": [error.happened, error.expected, error.advice]})
        response: Mapping[str, Any] = {"received": begin + len(part)} if kept is None else {"kept": kept}
        return JSONResponse(response)
