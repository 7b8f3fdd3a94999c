"""Texts that stand one on a line: of a file or of the standard input, decoded, their line ends taken off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from penna.errors import DataError


def opened(file: str) -> IO[bytes]:
    """A file of texts, to be closed by the caller. Raises DataError where it cannot be read."""
    try:
        return open(file, "rb")
    except OSError as error:
        raise DataError(
            f"{file} cannot be read: {error.strerror or error}.",
            "A UTF-8 file with a text on each line.",
            "Check the path.",
        ) from error


def text_lines(lines: IO[bytes], name: str) -> Iterator[tuple[int, str]]:
    """The lines with their numbers, from 1. Raises DataError, which says the line, for what is not UTF-8."""
    for number, line in enumerate(lines, start=1):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(
                f"Line {number} of {name} is not text: byte {error.start + 1} is no part of a UTF-8 character.",
                "UTF-8 with a text on each line.",
                "Save it as UTF-8 text, or unpack it first, as zcat does.",
            ) from error
