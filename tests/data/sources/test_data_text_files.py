"""Plain text: documents, lines and blocks agree with an independent reader, and chunks depend on the text alone."""

import io
import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import documents, records, write

from penna.config.sections import DataConfig
from penna.data.sources import reader as sources
from penna.data.sources import records as records_module
from penna.data.sources import streams, text_files
from penna.data.sources.reader import read_records, read_texts
from penna.data.sources.records import CHUNK_CHARACTERS, BadRecord, TextChunk, split_text

KINDS = ("file", "block", "line")


def expected_documents(text: str, kind: str) -> list[tuple[int, str]]:
    """(line, text) of each document, by Python's own reading of lines from the whole text."""
    if kind == "file":
        return [(1, text)]
    lines = list(enumerate(io.StringIO(text, newline=""), start=1))
    if kind == "line":
        return [(number, line.rstrip("\r\n")) for number, line in lines if line.strip()]
    blocks = itertools.groupby(lines, key=lambda line: not line[1].strip())
    found = [list(block) for blank, block in blocks if not blank]
    return [(block[0][0], "".join(line for _, line in block).rstrip("\r\n")) for block in found]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("text") / "a.txt"


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab \n\r\t\u2028\x0c가🙂", max_size=60), st.sampled_from(KINDS))
def test_documents_are_those_an_independent_reader_finds(scratch: Path, text: str, kind: str):
    scratch.write_bytes(text.encode())
    expected = expected_documents(text, kind)
    assert documents(scratch, document=kind) == [document for _, document in expected]
    assert [(record.line, record.fields["text"]) for record in records(scratch, document=kind)] == expected


PARTS = ["a", "b ", " ", "\n", "\r\n", "\r\n", "\r", "\t\t\t\t", "      ", "가나다라마바사", "🙂"]


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(PARTS), min_size=4, max_size=40).map("".join),
    st.sampled_from(KINDS),
    st.integers(3, 9),
    st.sampled_from([16, 17, 24]),
)
def test_chunks_depend_on_the_text_alone(scratch: Path, text: str, kind: str, piece: int, chunk: int):
    """With reads of a few bytes and chunks of a few characters, borders occur at every position."""
    scratch.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        for module in (records_module, text_files, sources):
            patch.setattr(module, "CHUNK_CHARACTERS", piece)
        patch.setattr(streams, "CHUNK", chunk)
        patch.setattr(streams, "_HEAD", 4)
        found = list(read_texts(DataConfig(path=str(scratch), document=kind)))
        wanted: list[TextChunk] = []
        for _, document in blank_if_short(text, kind, piece):
            wanted += [TextChunk(part, number == 0) for number, part in enumerate(split_text(document))]
    assert found == wanted


def blank_if_short(text: str, kind: str, piece: int) -> list[tuple[int, str]]:
    """As expected_documents, except that a blank line longer than a chunk counts as text."""
    if kind == "file":
        return [(1, text)]
    marked = [
        (number, line, not line.strip() and len(line) <= piece)
        for number, line in enumerate(io.StringIO(text, newline=""), start=1)
    ]
    if kind == "line":
        return [(number, line.rstrip("\r\n")) for number, line, blank in marked if not blank]
    groups = [(blank, list(block)) for blank, block in itertools.groupby(marked, key=lambda line: line[2])]
    # The last line's end alone is cut off: what stands before it may be white space that counts as text.
    blocks = [(block[0][0], "".join(line for _, line, _ in block)) for blank, block in groups if not blank]
    return [(number, without_last_line_end(block)) for number, block in blocks]


def without_last_line_end(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text.removesuffix("\r")


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab \n\r가", min_size=1, max_size=80), st.integers(2, 12))
def test_documents_are_split_after_line_ends_or_spaces_and_never_inside_a_line_end(text: str, piece: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records_module, "CHUNK_CHARACTERS", piece)
        pieces = list(split_text(text))
    assert "".join(pieces) == text
    assert all(0 < len(part) <= piece for part in pieces)
    for part, following in itertools.pairwise(pieces):
        assert not (part.endswith("\r") and following.startswith("\n"))
        if part[-1] not in "\r\n":
            # No line end was there to cut behind, except one whose other half would not have fitted.
            assert "\n" not in part and "\r" not in part
            assert part.endswith(" ") or " " not in part
            shortened = following.startswith("\r\n") and len(part) == piece - 1
            assert part.endswith(" ") or len(part) == piece or shortened


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("length", [CHUNK_CHARACTERS - 1, CHUNK_CHARACTERS, CHUNK_CHARACTERS + 1, 3 * CHUNK_CHARACTERS])
@pytest.mark.parametrize("kind", KINDS)
def test_long_lines_come_complete_in_chunks(tmp_path: Path, kind: str, length: int, ending: str):
    text = ("가나다🙂" * (length // 4 + 1))[:length]
    file = write(tmp_path / "a.txt", f"a{ending}{ending}{text}{ending}{ending}b{ending}")
    pieces = list(read_texts(DataConfig(path=str(file), document=kind)))
    assert all(isinstance(piece, TextChunk) and len(piece.text) <= CHUNK_CHARACTERS for piece in pieces)
    if kind != "file":
        assert documents(file, document=kind) == ["a", text, "b"]
    else:
        assert documents(file) == [f"a{ending}{ending}{text}{ending}{ending}b{ending}"]


def test_a_document_that_is_too_long_is_a_bad_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(text_files, "RECORD_LIMIT", CHUNK_CHARACTERS + 10)
    file = write(tmp_path / "a.txt", "one\n" + "x" * (CHUNK_CHARACTERS + 11) + "\nthree\n")
    first, bad, last = records(file, document="line")
    assert (first.fields, last.fields, last.line) == ({"text": "one"}, {"text": "three"}, 3)
    assert isinstance(bad, BadRecord)
    assert str(bad).startswith(f"{file}:2: {CHUNK_CHARACTERS + 11:,} characters long")


@pytest.mark.skipif("PENNA_DATA" not in os.environ, reason="needs the data sets")
@pytest.mark.parametrize(
    ("name", "dialogues", "turns"),
    [
        ("chitchat.test.txt", 2_000, 5_772),
        ("chitchat.valid.txt", 2_000, 5_849),
        ("smile.test.txt", 500, 5_997),
        ("kdconv.txt", 662, 14_454),
        ("crosswoz.txt", 1_000, 16_934),
        pytest.param("chitchat.train.txt.gz", 53_878, 163_168, marks=pytest.mark.slow),
        pytest.param("smile.train.txt.gz", 8_810, 104_853, marks=pytest.mark.slow),
    ],
)
def test_the_blocks_of_real_dialogues_are_all_there(name: str, dialogues: int, turns: int):
    from penna.data.sources.fields import messages_of

    config = DataConfig(path=f"$PENNA_DATA/zh-dialog/{name}", document="block")
    found = [messages_of(record, config) for record in read_records(config)]
    assert not any(isinstance(dialogue, BadRecord) for dialogue in found)
    assert (len(found), sum(map(len, found))) == (dialogues, turns)
