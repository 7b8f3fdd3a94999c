"""Sources: every document of every readable file in order, and a clear error for everything else."""

import codecs
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import documents, read, write

from penna.config.sections import DataConfig
from penna.data.corpus import read_corpus
from penna.data.sources.python_text import python_documents
from penna.data.sources.records import BadRecord
from penna.errors import DataError

# --- plain text

POEM = "one\r\ntwo  \n\n \t\n\nthree\n\x0cfour\u2028five\x85\n\r\nsix"


def test_a_file_is_one_document_with_unchanged_line_ends(tmp_path: Path):
    assert documents(write(tmp_path / "a.txt", POEM)) == [POEM]


def test_a_document_is_a_line_that_is_not_blank(tmp_path: Path):
    lines = documents(write(tmp_path / "a.txt", POEM), document="line")
    assert lines == ["one", "two  ", "three", "\x0cfour\u2028five\x85", "six"]


def test_a_document_is_a_block_between_blank_lines_with_its_inner_line_ends_as_they_are(tmp_path: Path):
    blocks = documents(write(tmp_path / "a.txt", POEM), document="block")
    assert blocks == ["one\r\ntwo  ", "three\n\x0cfour\u2028five\x85", "six"]


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab \n\r\t\u2028가", max_size=40))
def test_lines_are_those_of_every_text_editor(tmp_path_factory: pytest.TempPathFactory, text: str):
    file = tmp_path_factory.mktemp("lines") / "a.txt"
    file.write_bytes(text.encode())
    with open(file, encoding="utf-8") as stream:  # universal newlines as the oracle
        expected = [line.rstrip("\n") for line in stream if line.strip()]
    assert documents(file, document="line") == expected


def test_a_byte_order_mark_is_left_out(tmp_path: Path):
    assert documents(write(tmp_path / "a.txt", codecs.BOM_UTF8 + "ab\ufeffc".encode())) == ["ab\ufeffc"]
    record = codecs.BOM_UTF8 + b'{"text": "ab"}\n{"text": "c"}'
    assert documents(write(tmp_path / "a.jsonl", record)) == ["ab", "c"]


@pytest.mark.parametrize("text", ["x", "한", "one line", "one line\n"])
@pytest.mark.parametrize("kind", ["file", "line", "block"])
def test_the_smallest_texts_are_documents(tmp_path: Path, text: str, kind: str):
    expected = text if kind == "file" else text.rstrip("\n")
    assert documents(write(tmp_path / "a.txt", text), document=kind) == [expected]


def test_a_file_with_another_ending_is_plain_text(tmp_path: Path):
    assert documents(write(tmp_path / "README", "hello")) == ["hello"]
    assert documents(write(tmp_path / "a.md", "hello")) == ["hello"]


# --- jsonl


def test_jsonl_gives_the_text_of_each_record_and_skips_blank_lines(tmp_path: Path):
    texts = ["one\ntwo", "세 번째", "", 'a\u2028b\\"', "🙂"]
    lines = [json.dumps({"text": text, "n": 1}, ensure_ascii=n % 2 == 0) for n, text in enumerate(texts)]
    assert documents(write(tmp_path / "a.jsonl", "\r\n\n".join(lines))) == texts


def test_jsonl_reads_the_named_text_column(tmp_path: Path):
    file = write(tmp_path / "a.jsonl", '{"text": "no", "body": "yes"}\n')
    assert documents(file, text_column="body") == ["yes"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{broken", "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b'{"text": 3}', "field 'text' is a number, not text"),
        (b'{"text": null}', "field 'text' is nothing, not text"),
        (
            b'{"body": "x", "title": "y"}',
            "no field for the text (found: 'body', 'title'; --data.text-column selects another)",
        ),
        (
            b'{"body": "x", "title": null}',
            "no field for the text (found: 'body', 'title'; --data.text-column selects another)",
        ),
        (
            b'{"id": 1, "label": "good"}',
            "no field for the text (found: 'id', 'label'; --data.text-column selects another)",
        ),
        (b'["text"]', "a list, not a record"),
        (b"3", "a number, not a record"),
        (b'{"text": "\0"}', "not JSON (Invalid control character at column 11)"),
        (b'{"text": "\\ud83d"}', "half a character (a lone surrogate)"),
        (b"[" * 200_000, "not JSON"),
        (b'{"text": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_a_bad_record_has_file_line_and_reason(tmp_path: Path, line: bytes, reason: str):
    file = write(tmp_path / "a.jsonl", b'{"text": "one"}\n\n' + line + b'\n{"text": "two"}\n')
    first, bad, last = documents(file)
    assert (first, last) == ("one", "two")
    assert isinstance(bad, BadRecord)
    assert str(bad).startswith(f"{file}:3: ")
    assert reason in bad.reason


def test_a_pair_of_escaped_surrogates_is_one_character(tmp_path: Path):
    assert documents(write(tmp_path / "a.jsonl", b'{"text": "\\ud83d\\ude42"}')) == ["🙂"]


@pytest.mark.parametrize(("good", "bad", "stops"), [(99, 1, False), (198, 2, False), (98, 1, True), (9, 1, True)])
def test_more_than_one_bad_record_in_a_hundred_stops(tmp_path: Path, good: int, bad: int, stops: bool):
    file = write(tmp_path / "a.jsonl", '{"text": "x"}\n' * good + "{\n" * bad)
    config = DataConfig(path=str(file))
    if not stops:
        counts = read_corpus(config).counts
        assert (counts.documents, len(counts.bad)) == (good, bad)
        return
    with pytest.raises(DataError) as caught:
        read_corpus(config)
    assert f"{bad} of {good + bad} records cannot be used" in caught.value.happened
    assert f"{file}:{good + 1}: not JSON" in caught.value.happened
    assert "1%" in caught.value.expected
    assert "--data.allow-bad-records" in caught.value.advice


def test_the_allowed_share_of_bad_records_is_respected(tmp_path: Path):
    file = write(tmp_path / "a.jsonl", '{"text": "x"}\n' * 9 + "{\n")
    assert len(read_corpus(DataConfig(path=str(file), allow_bad_records=0.1)).counts.bad) == 1
    file = write(tmp_path / "b.jsonl", '{"text": "x"}\n' * 999 + "{\n")
    with pytest.raises(DataError):
        read_corpus(DataConfig(path=str(file), allow_bad_records=0))


def test_of_many_bad_records_five_are_shown_and_the_rest_counted(tmp_path: Path):
    file = write(tmp_path / "a.jsonl", "{\n" * 12)
    with pytest.raises(DataError) as caught:
        read_corpus(DataConfig(path=str(file)))
    assert caught.value.happened.count(f"{file}:") == 5
    assert "and 7 more" in caught.value.happened


def test_a_wrong_text_column_says_which_columns_there_are(tmp_path: Path):
    file = write(tmp_path / "a.jsonl", '{"document": "x", "label": 1}\n')
    with pytest.raises(DataError, match=r"no field 'body' \(found: 'document', 'label'; --data\.text-column selects"):
        read_corpus(DataConfig(path=str(file), text_column="body"))


# --- several paths, limit


def test_paths_are_read_in_the_order_given(tmp_path: Path):
    for name in "ab":
        write(tmp_path / f"{name}.txt", name)
    config = DataConfig(path=[str(tmp_path / "b.txt"), str(tmp_path / "a.txt")])
    assert read(config) == ["b", "a"]


def test_paths_take_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOME_TEXT", str(tmp_path))
    write(tmp_path / "a.txt", "hello")
    assert read(DataConfig(path="$SOME_TEXT/a.txt")) == ["hello"]


def test_limit_reads_only_the_first_documents(tmp_path: Path):
    write(tmp_path / "a.txt", "1\n2\n3")
    write(tmp_path / "b.txt", "4\n5\n6")
    assert documents(tmp_path, document="line", limit=4) == ["1", "2", "3", "4"]
    assert read_corpus(DataConfig(path=str(tmp_path), document="line", limit=4)).counts.documents == 4


def test_limit_counts_documents_and_bad_records_not_chunks(tmp_path: Path):
    long = "words and words\n" * 40_000
    write(tmp_path / "a.txt", long)
    write(tmp_path / "b.jsonl", "{\n" + json.dumps({"text": long}) + "\n" + '{"text": "c"}\n')
    for limit in (1, 2, 3, 4):
        found = documents(tmp_path, limit=limit)
        assert len(found) == limit
        assert found[0] == long
        assert all(isinstance(bad, BadRecord) for bad in found[1:2])
        assert found[2:] == [long, "c"][: max(limit - 2, 0)]
    config = DataConfig(path=str(tmp_path / "a.txt"), valid_path=str(tmp_path), limit=1, valid_limit=3)
    assert (len(read(config)), len(read(config, "valid"))) == (1, 3)


def test_without_validation_files_the_validation_part_is_empty(tmp_path: Path):
    assert read(DataConfig(path=str(write(tmp_path / "a.txt", "x"))), "valid") == []


# --- what is no text


def refusal(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        read_corpus(DataConfig(path=str(path)))
    assert str(path) in caught.value.happened
    assert caught.value.expected
    assert caught.value.advice
    return caught.value


def test_a_missing_path_is_named(tmp_path: Path):
    assert "no file or folder" in refusal(tmp_path / "nowhere.txt").happened


def test_no_path_at_all_says_how_to_give_one():
    with pytest.raises(DataError, match="names no text") as caught:
        read_corpus(DataConfig())
    assert "--data.path" in caught.value.advice


@pytest.mark.parametrize("content", ["", " \n\t\n", "\ufeff"])
def test_a_text_with_nothing_in_it_is_refused(tmp_path: Path, content: str):
    assert "no text" in refusal(write(tmp_path / "a.txt", content)).happened


def test_empty_documents_are_counted_and_left_out(tmp_path: Path):
    write(tmp_path / "a.txt", "")
    write(tmp_path / "b.txt", "hello")
    write(tmp_path / "c.jsonl", '{"text": "  "}\n{"text": "x"}\n')
    corpus = read_corpus(DataConfig(path=str(tmp_path), valid_path=str(tmp_path / "b.txt")))
    assert (corpus.counts.documents, corpus.counts.empty) == (2, 2)
    assert [piece.text for piece in corpus.chunks("train")] == ["hello", "x"]


def test_a_binary_file_is_refused_as_one(tmp_path: Path):
    assert "binary" in refusal(write(tmp_path / "a.txt", b"PK\x03\x04\0\0")).happened


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le"])
def test_utf16_is_refused(tmp_path: Path, encoding: str):
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    error = refusal(write(tmp_path / "a.txt", mark + "hello, 세상".encode(encoding)))
    if encoding == "utf-16-le":
        assert "NUL" in error.happened  # without a byte-order mark it cannot be told from a binary file
    else:
        assert "UTF-16" in error.happened
        assert "iconv -f UTF-16 -t UTF-8 a.txt" in error.advice


@pytest.mark.parametrize(("encoding", "text"), [("latin-1", "caf\xe9 noir"), ("cp949", "안녕하세요")])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_another_encoding_is_refused_with_the_byte_its_line_and_how_to_convert(
    tmp_path: Path, encoding: str, text: str, mark: bytes
):
    error = refusal(write(tmp_path / "a.txt", mark + b"plain line\nsecond\n" + text.encode(encoding)))
    offset, byte = (21, 0xE9) if encoding == "latin-1" else (18, text.encode("cp949")[0])
    assert f"byte 0x{byte:02x} at line 3 (offset {len(mark) + offset}) is not UTF-8" in error.happened
    assert "iconv -f" in error.advice


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that is there and cannot be read")
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz", "a.jsonl.zst", "a.csv.xz", "a.parquet.gz"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str):
    (tmp_path / name).symlink_to("/proc/self/mem")
    assert "cannot be read: Input/output error" in refusal(tmp_path / name).happened


# --- Python's own documentation


def test_the_python_source_gives_the_reference_topics_and_the_docstrings_of_the_library():
    from pydoc_data.topics import topics

    found = list(python_documents())
    assert found[: len(topics)] == list(topics.values())
    modules = found[len(topics) :]
    assert len(modules) > 100
    assert any(json.JSONEncoder.__doc__.strip().splitlines()[0] in text for text in modules)
    assert all(len(text) >= 200 for text in modules)


def test_reading_the_python_source_imports_none_of_it():
    check = (
        "import sys, penna.data.sources.python_text as source; before = set(sys.modules); source.python_documents();"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    new = done.stdout.split()
    # sysconfig says where the library is, and a codec reads a file that declares its encoding.
    assert all(name.startswith(("encodings.", "_sysconfigdata")) for name in new), new
