"""Shards: tokens are read back, across files and as a ring, and damage is detected."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written_shards import write_documents

from penna.data import shards
from penna.data.shards import MANIFEST, Manifest, TokenStream, read_manifest
from penna.errors import DataError


def write(folder: Path, documents: list[list[int]], vocab_size: int = 300, part: str = "train") -> Manifest:
    return write_documents(folder, {part: documents}, vocab_size)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_SHARD_TOKENS", 5)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 65535), min_size=1, max_size=9), max_size=8),
    st.sampled_from([65536, 65537, 1_000_000]),
    st.integers(1, 12),
)
def test_ids_are_read_back_unchanged(tmp_path_factory, documents, vocab_size, shard_tokens):
    folder = tmp_path_factory.mktemp("s") / "shards"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_SHARD_TOKENS", shard_tokens)
        patch.setattr(os, "fsync", lambda _: None)  # which takes milliseconds
        manifest = write(folder, documents, vocab_size)
    expected = [number for ids in documents for number in ids]
    stream = TokenStream(folder, "train")
    assert len(stream) == len(expected)
    assert stream.read(0, len(stream)).tolist() == expected
    assert stream.read(0, len(stream)).dtype == np.int64
    part = manifest.parts["train"]
    assert (part.tokens, part.documents, part.bytes) == (len(expected), len(documents), 2 * len(expected))
    assert part.words == len(documents)
    assert read_manifest(folder) == manifest


@pytest.mark.parametrize(("vocab_size", "dtype"), [(2, "<u2"), (65536, "<u2"), (65537, "<u4"), (10**6, "<u4")])
def test_the_id_type_depends_on_the_vocabulary_size(tmp_path: Path, vocab_size: int, dtype: str):
    manifest = write(tmp_path / "s", [[0, 1, vocab_size - 1]], vocab_size)
    assert manifest.dtype == dtype
    raw = (tmp_path / "s" / "train-00000.bin").read_bytes()
    assert raw == b"".join(number.to_bytes(int(dtype[2]), "little") for number in (0, 1, vocab_size - 1))


@pytest.mark.usefixtures("small_shards")
def test_documents_fill_one_shard_after_another(tmp_path: Path):
    manifest = write(tmp_path / "s", [[1, 2], [3, 4, 5, 6], [7], [8] * 11, [9]])
    sizes = {file.name: file.stat().st_size // 2 for file in (tmp_path / "s").glob("*.bin")}
    assert sizes == {"train-00000.bin": 6, "train-00001.bin": 12, "train-00002.bin": 1}
    assert list(manifest.parts["train"].files) == sorted(sizes)


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> tuple[TokenStream, np.ndarray]:
    """A stream over shards of 6, 12 and 1 tokens, and its tokens."""
    folder = tmp_path_factory.mktemp("ring") / "s"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_SHARD_TOKENS", 5)
        write(folder, [[1, 2], [3, 4, 5, 6], [7], list(range(8, 19)), [19]])
    return TokenStream(folder, "train"), np.arange(1, 20)


@settings(max_examples=200, deadline=None)
@given(start=st.integers(0, 80), count=st.integers(0, 70))
def test_reading_continues_across_shards_and_around_the_ring(ring, start: int, count: int):
    stream, tokens = ring
    expected = np.take(tokens, np.arange(start, start + count), mode="wrap")
    np.testing.assert_array_equal(stream.read(start, count), expected)


@pytest.mark.parametrize("shard_tokens", [5, 1 << 20])
def test_windows_agree_with_single_reads(shard_tokens: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shards, "_SHARD_TOKENS", shard_tokens)
    write(tmp_path / "s", [list(range(10 * n, 10 * n + 7)) for n in range(5)])
    stream = TokenStream(tmp_path / "s", "train")
    starts = np.array([0, 3, 33, 34, 40, 69])
    expected = np.stack([stream.read(int(start), 9) for start in starts])
    np.testing.assert_array_equal(stream.windows(starts, 9), expected)


def test_an_empty_part_has_no_tokens(tmp_path: Path):
    write(tmp_path / "s", [])
    assert len(TokenStream(tmp_path / "s", "train")) == 0


# --- damage


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-2])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("harm", [truncate, flip, Path.unlink])
@pytest.mark.parametrize("shard", [0, 2])
@pytest.mark.usefixtures("small_shards")
def test_a_truncated_altered_or_missing_shard_is_refused(tmp_path: Path, harm, shard: int):
    write(tmp_path / "s", [[1] * 5, [2] * 5, [3] * 5])
    file = tmp_path / "s" / f"train-{shard:05d}.bin"
    harm(file)
    with pytest.raises(DataError) as caught:
        TokenStream(tmp_path / "s", "train")
    assert str(file) in caught.value.happened
    assert f"Remove the folder {tmp_path / 's'}" in caught.value.advice


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", "null", "{}", '{"parts": 3}', '{"parts": {"train": {}}}', '{"parts": []}']
)
def test_an_invalid_manifest_is_refused(tmp_path: Path, content: str):
    write(tmp_path / "s", [[1]])
    (tmp_path / "s" / MANIFEST).write_text(content)
    with pytest.raises(DataError, match="damaged"):
        TokenStream(tmp_path / "s", "train")


@pytest.mark.parametrize(
    ("old", "new"), [('"tokens": 3', '"tokens": 4'), ('"<u2"', '"<u4"'), ('"<u2"', '"<f9"'), ('"train"', '"trian"')]
)
def test_a_manifest_that_does_not_match_its_shards_is_refused(tmp_path: Path, old: str, new: str):
    write(tmp_path / "s", [[1, 2, 3]])
    manifest = tmp_path / "s" / MANIFEST
    assert old in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(old, new))
    with pytest.raises(DataError, match="damaged"):
        TokenStream(tmp_path / "s", "train")


def test_a_missing_manifest_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="damaged"):
        TokenStream(tmp_path / "nowhere", "train")


def test_the_manifest_is_json_that_others_can_read(tmp_path: Path):
    write(tmp_path / "s", [[1, 2, 3]])
    raw = json.loads((tmp_path / "s" / MANIFEST).read_text())
    assert raw["dtype"] == "<u2"
    assert raw["parts"]["train"]["tokens"] == 3
