"""Helpers for the tests of sources: write files in every compression, and read documents back whole."""

import gzip
import lzma
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from penna.config.sections import DataConfig
from penna.data.sources.reader import read_records, read_texts
from penna.data.sources.records import CHUNK_CHARACTERS, BadRecord

PACKINGS = ("", ".gz", ".xz", ".zst")


def pack(content: bytes, packing: str) -> bytes:
    """Content as another program would compress it."""
    if packing == ".gz":
        return gzip.compress(content, 1)
    if packing == ".xz":
        return lzma.compress(content, preset=0)
    if packing == ".zst":
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(content)
        return sink.getvalue().to_pybytes()
    return content


def write(file: Path, content: str | bytes) -> Path:
    """A file, compressed according to its suffix."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = content.encode("utf-8") if isinstance(content, str) else content
    file.write_bytes(pack(content, file.suffix if file.suffix in PACKINGS else ""))
    return file


def read(config: DataConfig, part: Literal["train", "valid"] = "train") -> list[str | BadRecord]:
    """Every document, joined from its chunks."""
    documents: list[str | BadRecord] = []
    for piece in read_texts(config, part):
        if isinstance(piece, BadRecord):
            documents.append(piece)
            continue
        assert len(piece.text) <= CHUNK_CHARACTERS
        if piece.starts:
            documents.append(piece.text)
        else:
            last = documents[-1]
            assert isinstance(last, str)
            documents[-1] = last + piece.text
    return documents


def documents(*paths: Path, **fields: object) -> list[str | BadRecord]:
    return read(DataConfig(path=[str(path) for path in paths], **fields))


def records(*paths: Path, **fields: object) -> list[Any]:
    """Every Record and BadRecord; the tests know which one they read."""
    return list(read_records(DataConfig(path=[str(path) for path in paths], **fields)))
