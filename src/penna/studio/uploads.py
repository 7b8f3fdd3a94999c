"""Texts that a browser sends: parts of a file in, a whole checked file in the studio's folder out.

A file comes in parts of at most 512 kB, one request each, so that no body is larger than the server lets in, nothing is
held in memory, and a refusal is told before the rest is sent. It is refused by its name, by its size, and by its first
bytes where they are no text. A file that is not whole lies apart, its size in the name of its place; one that is never
changes or is replaced. All of them together have a limit.
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
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from penna.data.sources.files import find_files, format_of
from penna.data.sources.streams import checked_chunks
from penna.errors import DataError, DeviceError, PennaError
from penna.storage import flush, friendly_disk_errors

LIMIT = 512_000_000  # bytes of a file
QUOTA = 16 << 30  # bytes of all files together, those that are being sent among them
PART = 512 << 10  # bytes of a part
ROUTE = "/studio/uploads"
_NAME = re.compile(r"\w[\w .()\-]*")
_NAME_BYTES = 160
_KEY = re.compile(r"[0-9a-f]{32}")
_ABANDONED = 24 * 3600  # seconds after which parts are thrown away


class Uploads:
    """The texts that were sent to one studio."""

    def __init__(self, folder: Path, limit: int = LIMIT, quota: int = QUOTA) -> None:
        self.folder, self.limit, self.quota = folder, limit, quota
        self._lock = threading.Lock()

    def add_part(self, key: str, name: str, size: int, begin: int, part: bytes) -> str | None:
        """Write a part at its place; the name the file was given once it is whole, else None.

        ``key`` is the upload's own, 32 hexadecimal digits. Raises DataError for a name, a size, an order or a content
        that is refused, and DeviceError where the disk has no room; what was sent of it is gone then.
        """
        name = self._checked_name(name)
        self._check_size(name, size)
        if not _KEY.fullmatch(key) or begin < 0 or len(part) > PART:
            raise _broken_off(name)
        place = self.folder / ".parts" / f"{key}-{size}"
        with self._lock, friendly_disk_errors(self.folder):
            try:
                return self._written(place, name, size, begin, part)
            except (PennaError, OSError):
                shutil.rmtree(place, ignore_errors=True)
                raise

    def _written(self, place: Path, name: str, size: int, begin: int, part: bytes) -> str | None:
        file = place / name
        if begin == 0:
            self._sweep()
            shutil.rmtree(place, ignore_errors=True)
            self._check_room(name, size)
            place.mkdir(parents=True)
            file.touch()
        there = file.stat().st_size if file.is_file() else -1
        if begin != there or begin + len(part) > size or not part:
            raise _broken_off(name)
        with open(file, "ab") as whole:
            whole.write(part)
        if begin == 0:
            _check_content(file)
        if begin + len(part) < size:
            return None
        flush(file)
        kept = self._free_name(name)
        os.rename(file, self.folder / kept)
        shutil.rmtree(place, ignore_errors=True)
        return kept

    def _checked_name(self, name: str) -> str:
        plain = unicodedata.normalize("NFC", name)
        if not _NAME.fullmatch(plain) or plain[-1] in " ." or len(plain.encode()) > _NAME_BYTES:
            raise DataError(
                f"A file cannot be kept under the name {name[:80]!r}.",
                f"A plain file name of at most {_NAME_BYTES} bytes: letters, digits, spaces, '.', '_', '-' and "
                "brackets, a letter or digit first.",
                "Rename the file, and send it again.",
            )
        return plain

    def _check_size(self, name: str, size: int) -> None:
        if size < 1:
            raise DataError(f"{name} is empty.", "A file with text in it.", "Choose another file.")
        if size > self.limit:
            raise DataError(
                f"{name} has {size / 1e6:,.0f} MB; this studio takes files of at most {self.limit / 1e6:,.0f} MB.",
                "A file within that limit, or one that lies on this machine already.",
                "Put it into the folder that the studio reads (penna studio --data-dir FOLDER), and choose it there.",
            )

    def _check_room(self, name: str, size: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        taken = self._taken()
        if taken + size > self.quota:
            raise DeviceError(
                f"{name} has {size / 1e6:,.0f} MB; the texts in {self.folder} have {taken / 1e6:,.0f} MB already.",
                f"At most {self.quota / 1e6:,.0f} MB together.",
                "Remove some of them, or put the file into the folder that the studio reads (--data-dir FOLDER).",
            )
        free = shutil.disk_usage(self.folder).free
        if free < size:
            raise DeviceError(
                f"{name} has {size / 1e6:,.0f} MB; the disk of {self.folder} has {free / 1e6:,.0f} MB free.",
                "Room for the whole file.",
                "Free some space, or start the studio with another --runs-dir.",
            )

    def _taken(self) -> int:
        """Bytes of all that is here, and of what is being sent as it will be."""
        whole = sum(file.stat().st_size for file in self.folder.iterdir() if file.is_file())
        return whole + sum(int(place.name.partition("-")[2]) for place in (self.folder / ".parts").glob("*-*"))

    def _sweep(self) -> None:
        """Throw away what was never sent to its end."""
        for place in (self.folder / ".parts").glob("*"):
            if place.stat().st_mtime < time.time() - _ABANDONED:
                shutil.rmtree(place, ignore_errors=True)

    def _free_name(self, name: str) -> str:
        stem, dot, ending = name.partition(".")
        number, free = 2, name
        while (self.folder / free).exists():
            number, free = number + 1, f"{stem}-{number}{dot}{ending}"
        return free


def _check_content(file: Path) -> None:
    """Refuse what the first part of a file shows to be no text. Raises DataError, which calls the file by its name."""
    try:
        find_files([str(file)])
        if format_of(file) != "parquet":
            next(checked_chunks(file), b"")
            return
    except DataError as error:
        parts = (error.happened, error.expected, error.advice)
        raise DataError(*(part.replace(str(file), file.name) for part in parts)) from error
    with open(file, "rb") as head:
        if head.read(4) != b"PAR1":
            raise DataError(
                f"{file.name} is no .parquet file, by its first bytes.",
                "The ending of a file says how it is read.",
                "Give it its right ending, or write it anew.",
            )


def _broken_off(name: str) -> DataError:
    return DataError(
        f"{name[:80]} did not come in one piece: a part of it is missing, or came twice.",
        "All parts of a file, one behind another.",
        "Choose the file again.",
    )


def add_route(app: FastAPI, uploads: Uploads) -> None:
    """Let browsers send parts. A refusal is an answer like any other: its three parts, for the page to show."""

    @app.put(f"{ROUTE}/{{key}}", include_in_schema=False)
    async def take(request: Request, key: str, name: str, size: int, begin: int) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        try:
            part = await request.body()  # `penna.studio.guard` has read it, within its limits
            kept = await asyncio.to_thread(uploads.add_part, key, name, size, begin, part)
        except PennaError as error:
            return JSONResponse({"problem": [error.happened, error.expected, error.advice]})
        answer: Mapping[str, Any] = {"received": begin + len(part)} if kept is None else {"kept": kept}
        return JSONResponse(answer)
