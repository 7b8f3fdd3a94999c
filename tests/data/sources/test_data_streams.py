"""Streams: compression round-trips, and a truncated or damaged file is always detected."""

import gzip
import io
import lzma
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import PACKINGS, pack, write

from penna.data.sources import streams
from penna.data.sources.streams import CHUNK, TooLong, byte_chunks, decoded_chunks, line_batches
from penna.errors import DataError

NOISE = random.Random(0).randbytes(300_000)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("content", [b"x", NOISE, b"a" * (3 * CHUNK + 5), NOISE * 9], ids=["x", "noise", "as", "long"])
def test_compressed_content_is_read_back_in_chunks(tmp_path: Path, packing: str, content: bytes):
    chunks = list(byte_chunks(write(tmp_path / f"a.txt{packing}", content)))
    assert b"".join(chunks) == content
    assert all(0 < len(chunk) <= CHUNK for chunk in chunks)


@pytest.mark.parametrize("packing", [".gz", ".xz", ".zst"])
def test_concatenated_compressed_files_are_one(tmp_path: Path, packing: str):
    file = tmp_path / f"a.txt{packing}"
    parts = [NOISE, b"", b"b" * (2 * CHUNK), b"c"]
    file.write_bytes(b"".join(pack(part, packing) for part in parts))
    assert b"".join(byte_chunks(file)) == b"".join(parts)


@pytest.mark.parametrize("packing", [".gz", ".xz"])
def test_padding_after_compressed_files_is_ignored(tmp_path: Path, packing: str):
    file = tmp_path / f"a.txt{packing}"
    file.write_bytes(pack(b"one", packing) + bytes(8) + pack(b"two", packing) + bytes(4))
    assert b"".join(byte_chunks(file)) == b"onetwo"


@pytest.mark.parametrize("packing", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("kept", [0, 1, 5, 0.3, -1])
def test_a_truncated_compressed_file_is_refused(tmp_path: Path, packing: str, kept: float):
    whole = pack(NOISE, packing)
    file = tmp_path / f"a.txt{packing}"
    file.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(DataError, match=r"ends early, after [\d,]+ decompressed bytes") as caught:
        list(byte_chunks(file))
    assert str(file) in caught.value.happened
    assert "fetch it again" in caught.value.advice


def test_the_error_of_a_truncated_gzip_counts_its_bytes(tmp_path: Path):
    file = tmp_path / "a.txt.gz"
    file.write_bytes(gzip.compress(b"abc\n" * 100_000)[:-8])  # the sum and the length alone are missing
    with pytest.raises(DataError, match="ends early, after 400,000 decompressed bytes"):
        list(byte_chunks(file))


@pytest.mark.parametrize("packing", [".gz", ".xz", ".zst"])
def test_an_uncompressed_file_with_a_compressed_suffix_is_refused(tmp_path: Path, packing: str):
    file = tmp_path / f"a.txt{packing}"
    file.write_bytes(b"plain text, not packed at all")
    with pytest.raises(DataError, match=rf"is damaged, or not a \{packing} file"):
        list(byte_chunks(file))


@pytest.mark.parametrize("packing", [".gz", ".xz"])
def test_a_flipped_bit_is_found(tmp_path: Path, packing: str):
    packed = bytearray(pack(NOISE, packing))
    packed[len(packed) // 2] ^= 4
    file = tmp_path / f"a.txt{packing}"
    file.write_bytes(packed)
    with pytest.raises(DataError, match=r"is damaged, or not a .* \(after [\d,]+ decompressed bytes"):
        list(byte_chunks(file))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=30).map(lambda noise: "가a🙂".encode() * 9 + noise), st.sampled_from([16, 24, 48]))
def test_decoding_in_chunks_finds_the_same_error_as_decoding_at_once(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, chunk: int
):
    file = tmp_path_factory.getbasetemp() / "decoded.txt"
    file.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "CHUNK", chunk)
        patch.setattr(streams, "_HEAD", 4)
        try:
            expected = content.decode()
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            where = f"byte 0x{content[error.start]:02x} at line {line} \\(offset {error.start}\\)"
            with pytest.raises(DataError, match=where):
                list(decoded_chunks(file))
        else:
            assert "".join(decoded_chunks(file)) == expected


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_byte_that_is_not_utf8_is_reported_with_its_line_far_into_a_file(tmp_path: Path, packing: str):
    lines = 700_000
    file = write(tmp_path / f"a.txt{packing}", "é\n".encode() * lines + b"caf\xe9\n")
    with pytest.raises(DataError, match=rf"byte 0xe9 at line {lines + 1} \(offset {3 * lines + 3}\) is not UTF-8"):
        list(decoded_chunks(file))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(alphabet="ab\r\n", min_size=1, max_size=6).map(str.encode), max_size=8))
def test_lines_do_not_depend_on_the_chunks_they_come_in(chunks: list[bytes]):
    content = b"".join(chunks)
    expected = [line.encode() for line in io.StringIO(content.decode(), newline="")]
    assert [line for lines in line_batches(iter(chunks)) for line in lines] == expected


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(alphabet='a"\n', min_size=1, max_size=9).map(str.encode), max_size=8))
def test_the_text_of_a_line_that_is_too_long_is_not_kept(chunks: list[bytes]):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "RECORD_LIMIT", 12)
        found = [line for lines in line_batches(iter(chunks)) for line in lines]
    expected = [line.encode() for line in io.StringIO(b"".join(chunks).decode(), newline="")]
    # A line within one chunk is in memory anyway; only those that were put together are measured.
    for line, whole in zip(found, expected, strict=True):
        assert line == (TooLong(len(whole), whole.count(b'"')) if len(whole) > 12 else whole)


# --- memory

MEASURE = """
import resource, sys
from penna.config.sections import DataConfig
from penna.data.sources.reader import read_texts
import pyarrow, pyarrow.parquet
list(read_texts(DataConfig(path=sys.argv[1], document=sys.argv[3])))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
pieces = characters = bad = 0
for piece in read_texts(DataConfig(path=sys.argv[2], document=sys.argv[3])):
    if hasattr(piece, "reason"):
        bad += 1
        print(piece)
    else:
        characters += len(piece.text)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, characters, bad)
"""


def measured(small: Path, large: Path, kind: str = "file") -> tuple[float, int, int, str]:
    """MiB that reading ``large`` adds to what reading ``small`` took, characters, bad records, and what was printed."""
    command = [sys.executable, "-c", MEASURE, str(small), str(large), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    *said, last = done.stdout.splitlines()
    grown, characters, bad = map(int, last.split())
    return grown / 1024, characters, bad, "\n".join(said)


def write_large(file: Path, unit: bytes, times: int, before: bytes = b"", after: bytes = b"") -> Path:
    opened: Any = {".gz": gzip.open, ".xz": lzma.open}.get(file.suffix, open)
    with opened(file, "wb", **({"compresslevel": 1} if file.suffix == ".gz" else {})) as out:
        out.write(before)
        for _ in range(times):
            out.write(unit)
        out.write(after)
    return file


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "line", "block"])
@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("a.txt", "가나다 라마바\n".encode() * 50_000),
        ("a.txt", b"x" * 1_000_000),
        ("a.txt", b"\n \n" * 300_000),
        ("a.txt.gz", b"one line of text\n" * 60_000),
    ],
    ids=["lines", "one-line", "blank-lines", "gz"],
)
def test_memory_is_flat_in_the_size_of_a_text(tmp_path: Path, name: str, unit: bytes, kind: str):
    small = write_large(tmp_path / f"small{name}", unit, 4)
    large = write_large(tmp_path / f"large{name}", unit, 120)
    grown, characters, bad, _ = measured(small, large, kind)
    assert grown < 16
    assert bad == 0
    if not (unit.isspace() and kind != "file"):
        assert characters > 60_000_000 or "가" in unit.decode()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "before", "after"),
    [
        (".jsonl", b'{"text": "a"}\n{"text": "', b'"}\n{"text": "z"}\n'),
        (".csv", b"text\na\n", b"\nz\n"),
        (".csv", b'text\na\n"', b'"\nz\n'),
        (".tsv", b"text\na\n", b"\nz\n"),
        (".txt", b"a\n", b"\nz\n"),
    ],
)
def test_a_line_of_300_megabytes_is_not_kept_in_memory(tmp_path: Path, ending: str, before: bytes, after: bytes):
    small = write_large(tmp_path / f"small{ending}", b"x" * 1_000_000, 3, before, after)
    large = write_large(tmp_path / f"large{ending}", b"x" * 1_000_000, 300, before, after)
    grown, characters, bad, said = measured(small, large, "line")
    if ending == ".txt":
        assert grown < 16
        assert (characters, bad) == (300_000_002, 0)
    else:
        assert grown < 100  # the 64 MiB a record may have
        assert (characters, bad) == (2, 1)
        assert f"{large}:{before.count(10) + 1}: 300,0" in said
        assert "bytes long; at most 67,108,864 are allowed" in said


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".jsonl.xz", ".jsonl.zst"])
def test_memory_is_flat_in_the_number_of_records(tmp_path: Path, ending: str):
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    text = "some words " * 40
    for name, times in (("small", 5_000), ("large", 200_000)):
        file = tmp_path / f"{name}{ending}"
        if ending == ".parquet":
            with pq.ParquetWriter(file, pa.schema([("text", pa.string())]), compression="none") as writer:
                for start in range(0, times, 5_000):
                    rows = [f"{text}{number}" for number in range(start, start + 5_000)]
                    writer.write_table(pa.table({"text": rows}))
        elif ".jsonl" in ending:
            write(file, b"".join(json.dumps({"text": f"{text}{n}"}).encode() + b"\n" for n in range(times)))
        else:
            write(file, "text\n" + "".join(f"{text}{n}\n" for n in range(times)))
    grown, characters, bad, _ = measured(tmp_path / f"small{ending}", tmp_path / f"large{ending}")
    assert grown < 24
    assert characters > 200_000 * len(text)
    assert bad == 0
