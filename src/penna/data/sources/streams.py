"""Files as bytes, characters and lines: decompressed, checked and decoded in chunks, with memory independent of size.

A file that is truncated, damaged, binary or not UTF-8 raises a DataError that names the place, because what is missing
after it is unknown.
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

CHUNK = 1 << 20  # uncompressed bytes in memory at once
_HEAD = 8192  # bytes that are searched for signs of a binary file
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class _DamagedError(Exception):
    """Compressed data that cannot be decompressed; the message is the library's."""


def byte_chunks(file: Path) -> Iterator[bytes]:
    """A file's content in chunks of 1 to CHUNK bytes, decompressed according to its suffix."""
    compression = suffixes(file)[1]
    read = 0
    try:
        with readable(file), open(file, "rb") as raw:
            for chunk in _decompressed(raw, compression):
                if chunk:
                    read += len(chunk)
                    yield chunk
    except EOFError as error:
        raise DataError(
            f"{file} ends early, after {read:,} decompressed bytes.",
            f"A complete {compression} file is needed.",
            "It was probably not copied or downloaded completely; fetch it again.",
        ) from error
    except (_DamagedError, zlib.error, lzma.LZMAError) as error:
        raise DataError(
            f"{file} is damaged, or not a {compression} file: {error} (after {read:,} decompressed bytes).",
            f"A complete {compression} file is needed; the suffix of a file says how it is compressed.",
            "Fetch it again, or correct its suffix.",
        ) from error


@contextmanager
def readable(file: Path) -> Generator[None]:
    """Turn the operating system's errors about reading ``file`` into a DataError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(
            f"{file} cannot be read: {reason}.", "The file must be readable.", "Check its permissions and its disk."
        ) from error


def _decompressed(raw: IO[bytes], compression: str) -> Iterator[bytes]:
    if compression == ".gz":
        return _gunzipped(raw)
    if compression == ".xz":
        return _unxzed(raw)
    if compression == ".zst":
        return _unzsted(raw)
    return iter(lambda: raw.read(CHUNK), b"")


def _gunzipped(raw: IO[bytes]) -> Iterator[bytes]:
    """The members of a gzip file. By hand, because gzip.open is slower and accepts an empty file."""
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
    for compressed in iter(lambda: raw.read(CHUNK >> 3), b""):
        rest = compressed
        while rest:
            if inflate.eof:
                rest = rest.lstrip(b"\0")  # padding, as on tapes
                if not rest:
                    break
                inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
            # The checksum follows the data, so some input is left until all data is out.
            yield inflate.decompress(rest, CHUNK)
            rest = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
    if not inflate.eof:
        raise EOFError


def _unxzed(raw: IO[bytes]) -> Iterator[bytes]:
    """The streams of an .xz file. By hand, because lzma.open ignores padding and everything after it."""
    unpack = lzma.LZMADecompressor()
    for compressed in iter(lambda: raw.read(CHUNK >> 3), b""):
        rest = compressed
        while rest or not (unpack.eof or unpack.needs_input):
            if unpack.eof:
                rest = rest.lstrip(b"\0")  # padding, which the format allows
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
                if error.errno is not None:  # the disk failed, not the content
                    raise
                if "runcated" in str(error):
                    raise EOFError from error
                raise _DamagedError(str(error)) from error
            if not out:
                return
            yield out


def checked_chunks(file: Path, *, may_hold_nul: bool = False) -> Iterator[bytes]:
    """The chunks of a text file. Raises DataError for UTF-16, and for NUL in its first 8,192 bytes."""
    chunks = byte_chunks(file)
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= _HEAD:
            break
    if head.startswith(_UTF16):
        raise _not_utf8(file, "it starts with a UTF-16 byte-order mark", "UTF-16")
    if not may_hold_nul and b"\0" in head[:_HEAD]:
        raise DataError(
            f"{file} is a binary file (it contains NUL bytes).",
            "Plain text in UTF-8 is needed.",
            "Convert a .docx or .pdf to text first.",
        )
    if head:
        yield head
    yield from chunks


def decoded_chunks(file: Path) -> Iterator[str]:
    """A file's characters, without a byte-order mark; line ends are unchanged."""
    offset, rest = 0, b""  # of the first byte not yet decoded; the first bytes of a character
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
        # Lines are counted in a second pass, so that valid text is read at full speed.
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
        "Text must be UTF-8.",
        f"Convert it: iconv -f {encoding} -t UTF-8 {file.name} > converted.txt",
    )


@dataclass(frozen=True)
class TooLong:
    """A skipped line of more than RECORD_LIMIT bytes: its size, and the number of ``"`` in it."""

    size: int
    quotes: int


class _OpenLine:
    """The part of a line that was read so far; the text of one that is too long is not kept."""

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
    r"""Lines with their ends (``\n``, ``\r\n`` or ``\r``), many at a time, without a byte-order mark."""
    open_line = _OpenLine()
    first, carriage_return = True, b""
    for chunk in chunks:
        content = carriage_return + chunk.removeprefix(codecs.BOM_UTF8 if first else b"")
        first = False
        # Only the next chunk shows whether a last \r is part of \r\n.
        carriage_return = b"\r" if content.endswith(b"\r") else b""
        lines = content.removesuffix(b"\r").splitlines(keepends=True)
        last = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        if lines and open_line.size:
            yield [open_line.close(lines.pop(0)), *lines]
        else:
            yield [*lines]
        if last:
            open_line.add(last)
    if open_line.size or carriage_return:
        yield [open_line.close(carriage_return)]
