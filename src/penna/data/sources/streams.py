"""Files to bytes, characters and lines: opened, unpacked, checked and decoded bit by bit, memory flat in their size.

A file that is cut off, damaged, binary or not UTF-8 stops everything with a DataError that says where: what stands
behind that place could not be told from what is missing.
"""

from __future__ import annotations

import codecs
import lzma
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from penna.data.sources.files import suffixes
from penna.data.sources.records import RECORD_LIMIT
from penna.errors import DataError

CHUNK = 1 << 20  # bytes that are in memory at once, uncompressed
_HEAD = 8192  # bytes in which a binary file shows itself
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class _DamagedError(Exception):
    """Compressed data that cannot be unpacked, in its library's words."""


def byte_chunks(file: Path) -> Iterator[bytes]:
    """A file's content in chunks of at most CHUNK bytes, none empty, decompressed where its ending says so."""
    compression = suffixes(file)[1]
    came_out = 0
    try:
        with readable(file), open(file, "rb") as raw:
            for chunk in _unpacked(raw, compression):
                if chunk:
                    came_out += len(chunk)
                    yield chunk
    except EOFError as error:
        raise DataError(
            f"{file} ends early: {came_out:,} bytes came out of it, and there is no end behind them.",
            f"A whole {compression} file.",
            "It was not copied or downloaded to its end: fetch it again.",
        ) from error
    except (_DamagedError, zlib.error, lzma.LZMAError) as error:
        raise DataError(
            f"{file} is damaged, or no {compression} file: {error} (behind the first {came_out:,} bytes it holds).",
            f"A whole {compression} file; the ending of a file says how it is compressed.",
            "Fetch it again, or give the file its right ending.",
        ) from error


@contextmanager
def readable(file: Path) -> Generator[None]:
    """Turn the operating system's errors about reading ``file`` into a DataError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(
            f"{file} cannot be read: {reason}.", "A readable file.", "Check its permissions, and the disk it is on."
        ) from error


def _unpacked(raw: IO[bytes], compression: str) -> Iterator[bytes]:
    if compression == ".gz":
        return _gunzipped(raw)
    if compression == ".xz":
        return _unxzed(raw)
    if compression == ".zst":
        return _unzsted(raw)
    return iter(lambda: raw.read(CHUNK), b"")


def _gunzipped(raw: IO[bytes]) -> Iterator[bytes]:
    """Members of a gzip file one behind another; zlib checks each one's length and sum."""
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
    for packed in iter(lambda: raw.read(CHUNK >> 3), b""):
        rest = packed
        while rest:
            if inflate.eof:
                rest = rest.lstrip(b"\0")  # padding, as on tapes
                if not rest:
                    break
                inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
            # The check sum stands behind the data, so something is left to read until all of them are out.
            yield inflate.decompress(rest, CHUNK)
            rest = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
    if not inflate.eof:
        raise EOFError


def _unxzed(raw: IO[bytes]) -> Iterator[bytes]:
    """Streams of an .xz file one behind another."""
    unpack = lzma.LZMADecompressor()
    for packed in iter(lambda: raw.read(CHUNK >> 3), b""):
        rest = packed
        while rest or not (unpack.eof or unpack.needs_input):
            if unpack.eof:
                rest = rest.lstrip(b"\0")  # padding, as the format allows
                if not rest:
                    break
                unpack = lzma.LZMADecompressor()
            yield unpack.decompress(rest, CHUNK)
            rest = unpack.unused_data
    if not unpack.eof:
        raise EOFError


def _unzsted(raw: IO[bytes]) -> Iterator[bytes]:
    import pyarrow as pa

    if not raw.read(1):
        raise EOFError
    raw.seek(0)
    with pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd") as stream:
        while True:
            try:
                out = stream.read(CHUNK)
            except OSError as error:
                if error.errno is not None:  # the disk's fault, not the content's
                    raise
                if "runcated" in str(error):
                    raise EOFError from error
                raise _DamagedError(str(error)) from error
            if not out:
                return
            yield out


def checked_chunks(file: Path, *, may_hold_nul: bool = False) -> Iterator[bytes]:
    """Chunks of a file that is text: the first holds its first 8,192 bytes, in which UTF-16 and NUL are refused."""
    chunks = byte_chunks(file)
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= _HEAD:
            break
    if head.startswith(_UTF16):
        raise _not_utf8(file, "it begins with the byte-order mark of UTF-16", "UTF-16")
    if not may_hold_nul and b"\0" in head[:_HEAD]:
        raise DataError(
            f"{file} is a binary file (it holds NUL bytes).",
            "Plain text in UTF-8.",
            "Give the text itself; a .docx or .pdf must be converted first.",
        )
    if head:
        yield head
    yield from chunks


def decoded_chunks(file: Path) -> Iterator[str]:
    """A file's characters from UTF-8, a byte-order mark left out; line ends stay as they are."""
    offset, rest = 0, b""  # of the first byte that is not decoded yet; the first bytes of a character
    for chunk in checked_chunks(file):
        content = rest + chunk
        text, used = _decode(content, file, offset, final=False)
        rest = content[used:]
        yield text.removeprefix("\ufeff") if offset == 0 else text
        offset += used
    _decode(rest, file, offset, final=True)


def _decode(content: bytes, file: Path, offset: int, final: bool) -> tuple[str, int]:
    try:
        return codecs.utf_8_decode(content, "strict", final)
    except UnicodeDecodeError as error:
        byte, offset = content[error.start], offset + error.start
        # Lines are counted by reading again, so that text without faults is read at full speed.
        where = f"byte 0x{byte:02x} at line {_line_at(file, offset)} (offset {offset}) is not UTF-8"
        raise _not_utf8(file, where, "CP949 or LATIN1") from error


def _line_at(file: Path, offset: int) -> int:
    line = 1
    for chunk in byte_chunks(file):
        line += chunk.count(b"\n", 0, offset)
        offset -= len(chunk)
        if offset <= 0:
            break
    return line


def _not_utf8(file: Path, reason: str, encoding: str) -> DataError:
    return DataError(
        f"{file} is not UTF-8: {reason}.",
        "Text is read as UTF-8.",
        f"Convert it: iconv -f {encoding} -t UTF-8 {file.name} > converted.txt",
    )


@dataclass(frozen=True)
class TooLong:
    """A line of more than RECORD_LIMIT bytes, which was passed over: its size, and how many ``"`` it holds."""

    size: int
    quotes: int


class _OpenLine:
    """The part of a line that was read so far; not kept where it grows too long."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._quotes, self.size = 0, 0

    def add(self, part: bytes) -> None:
        self.size += len(part)
        self._parts.append(part)
        if self.size > RECORD_LIMIT:
            self._quotes += sum(part.count(b'"') for part in self._parts)
            self._parts.clear()

    def close(self, part: bytes) -> bytes | TooLong:
        self.add(part)
        line = b"".join(self._parts) if self.size <= RECORD_LIMIT else TooLong(self.size, self._quotes)
        self._parts, self._quotes, self.size = [], 0, 0
        return line


def line_batches(chunks: Iterator[bytes]) -> Iterator[list[bytes | TooLong]]:
    r"""Lines with their ends (``\n``, ``\r\n`` or ``\r``), many at a time, a byte-order mark left out."""
    held = _OpenLine()
    first, carriage_return = True, b""
    for chunk in chunks:
        content = carriage_return + chunk.removeprefix(codecs.BOM_UTF8 if first else b"")
        first = False
        # Whether a last \r is a line end by itself shows in the next chunk.
        carriage_return = b"\r" if content.endswith(b"\r") else b""
        lines = content.removesuffix(b"\r").splitlines(keepends=True)
        last = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        if lines and held.size:
            yield [held.close(lines.pop(0)), *lines]
        else:
            yield [*lines]
        if last:
            held.add(last)
    if held.size or carriage_return:
        yield [held.close(carriage_return)]
