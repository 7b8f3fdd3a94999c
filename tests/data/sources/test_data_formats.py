"""Formats: every suffix and compression gives the written records, and errors name place and reason."""

import csv
import gzip
import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import PACKINGS, documents, read, records, write

from penna.config.sections import DataConfig
from penna.data.sources import streams, tables
from penna.data.sources.reader import read_records
from penna.data.sources.records import CHUNK_CHARACTERS, BadRecord, Record
from penna.errors import DataError

ROWS = [
    {"id": "1", "text": "one, \"two\" and 'three'", "label": "0"},
    {"id": "2", "text": "세 번째 줄🙂", "label": "1"},
    {"id": "3", "text": "", "label": "0"},
    {"id": "4", "text": "\u2028 \x0c \x85 null and NA", "label": "1"},
    {"id": "5", "text": '"""', "label": "1"},
]


def written(rows: list[dict[str, Any]], format: str) -> bytes:
    """Rows as the library of each format writes them."""
    out = io.StringIO()
    if format == "jsonl":
        out.write("".join(json.dumps(row) + "\n" for row in rows))
    elif format == "json":
        json.dump(rows, out, indent=1)
    elif format == "csv":
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    elif format == "tsv":
        lines = [list(rows[0]), *(list(row.values()) for row in rows)]
        out.write("".join("\t".join(line) + "\n" for line in lines))
    else:
        table = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), table, row_group_size=2)
        return table.getvalue()
    return out.getvalue().encode()


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("format", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_format_and_compression_gives_the_written_rows(tmp_path: Path, format: str, packing: str):
    file = write(tmp_path / f"a.{format}{packing}", written(ROWS, format))
    found = records(file)
    assert [record.fields for record in found] == ROWS
    assert {record.file for record in found} == {str(file)}
    first = {"jsonl": 1, "json": 2, "csv": 2, "tsv": 2, "parquet": 1}[format]
    step = 5 if format == "json" else 1  # json.dump writes an object of three fields in five lines
    assert [record.line for record in found] == [first + step * number for number in range(5)]
    assert documents(file) == [row["text"] for row in ROWS]


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("kind", ["file", "line", "block"])
def test_plain_text_is_the_same_from_every_compression(tmp_path: Path, packing: str, kind: str):
    text = "one\r\n\r\n가나다\n" * 3
    file = write(tmp_path / f"a.txt{packing}", text)
    expected = {"file": [text], "line": ["one", "가나다"] * 3, "block": ["one", *["가나다\none"] * 2, "가나다"]}
    assert documents(file, document=kind) == expected[kind]


@pytest.mark.parametrize("format", ["jsonl", "json", "csv", "tsv", "parquet", "txt"])
def test_the_given_format_overrides_the_suffix(tmp_path: Path, format: str):
    content = written(ROWS, format) if format != "txt" else b"plain\n"
    for name in ("a.html", "a.txt", "a.json", "a", "a.data.gz"):
        file = write(tmp_path / name, content)
        expected = ["plain\n"] if format == "txt" else [row["text"] for row in ROWS]
        assert documents(file, format=format) == expected


def test_a_long_text_in_a_record_comes_in_chunks(tmp_path: Path):
    text = "한 줄의 글이다\r\n" * 60_000
    for format in ("jsonl", "json", "csv", "parquet"):
        file = write(tmp_path / f"a.{format}", written([{"text": text}, {"text": "end"}], format))
        assert documents(file) == [text, "end"]
        assert len(text) > 2 * CHUNK_CHARACTERS


VALUES = st.text(alphabet='ab,"\t가 \u2028\n\r', max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(VALUES, VALUES), max_size=6), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_what_the_csv_module_writes_is_read_exactly(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], ending: str, tabs: bool
):
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t" if tabs else ",", lineterminator=ending, quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "b"), *rows])
    file = write(tmp_path_factory.getbasetemp() / ("r.tsv" if tabs else "r.csv"), out.getvalue())
    found = records(file, quoting="on")
    assert [tuple(record.fields.values()) for record in found] == rows
    # The line a record begins on, as an editor counts lines.
    lines = io.StringIO(out.getvalue(), newline="").readlines()
    assert all(lines[record.line - 1].startswith('"') for record in found)
    before = [sum(len(io.StringIO(value + "x", newline="").readlines()) - 1 for value in row) for row in rows]
    assert [record.line for record in found] == [2 + number + sum(before[:number]) for number in range(len(rows))]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(*[st.text(alphabet='a,"가 \u2028\x85', max_size=9)] * 2), max_size=6))
def test_without_quoting_a_table_is_lines_and_tabs(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
):
    file = write(
        tmp_path_factory.getbasetemp() / "q.tsv", "".join("\t".join(row) + "\n" for row in [("a", "b"), *rows])
    )
    assert [tuple(record.fields.values()) for record in records(file)] == rows


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=4), st.none() | st.text(max_size=9) | st.integers() | st.booleans())))
def test_json_lines_give_what_was_dumped(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]):
    folder = tmp_path_factory.getbasetemp()
    lines = write(folder / "l.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    whole = write(folder / "w.json", json.dumps({"version": 1, "data": rows, "names": ["x"]}, indent=2))
    assert [record.fields for record in records(lines)] == rows
    assert [record.fields for record in records(whole)] == rows


# --- tables


def test_columns_can_be_named_for_a_table_without_names(tmp_path: Path):
    file = write(tmp_path / "a.tsv", "good\tone\nbad\ttwo\n")
    assert [record.fields for record in records(file, columns=["label", "text"])] == [
        {"label": "good", "text": "one"},
        {"label": "bad", "text": "two"},
    ]
    assert documents(file, columns=["label", "what"]) == ["one", "two"]  # the one column beside the label


@pytest.mark.parametrize("format", ["csv", "tsv"])
def test_rows_with_a_wrong_number_of_values_are_bad_records(tmp_path: Path, format: str):
    comma = "," if format == "csv" else "\t"
    lines = ["text,label", "a,1", "b", "", "c,1,2", "d,4"]
    file = write(tmp_path / f"a.{format}", "\r\n".join(lines).replace(",", comma))
    found = records(file)
    assert [record.fields["text"] for record in found if isinstance(record, Record)] == ["a", "d"]
    assert [str(record) for record in found if isinstance(record, BadRecord)] == [
        f"{file}:3: 1 column instead of 2",
        f"{file}:5: 3 columns instead of 2",
    ]


@pytest.mark.parametrize("format", ["csv", "tsv"])
def test_a_row_that_is_not_utf8_is_a_bad_record(tmp_path: Path, format: str):
    file = write(tmp_path / f"a.{format}", b"text\none\ncaf\xe9\nthree\n")
    one, bad, three = records(file)
    assert [one.fields, three.fields] == [{"text": "one"}, {"text": "three"}]
    assert str(bad).startswith(f"{file}:3: not UTF-8 (byte 0xe9; iconv -f CP949 or LATIN1 -t UTF-8")
    with pytest.raises(DataError, match=r"line 1 is not UTF-8 \(byte 0xe9"):
        records(write(tmp_path / f"b.{format}", b"t\xe9xt\none\n"))


def test_a_quote_inside_a_value_is_a_bad_record_and_later_lines_are_read(tmp_path: Path):
    file = write(tmp_path / "a.csv", 'text,label\n"he said "no" twice",1\n"fine\nand fine",2\nalso 5" fine,3\n')
    bad, fine, also = records(file)
    assert str(bad).startswith(f"{file}:2: not a row of values (")
    assert (fine.fields["text"], fine.line) == ("fine\nand fine", 3)
    assert (also.fields["text"], also.line) == ('also 5" fine', 5)


def test_an_unclosed_quote_is_an_error_with_its_line(tmp_path: Path):
    file = write(tmp_path / "a.csv", 'text\none\n"two\nthree\nfour\n')
    with pytest.raises(DataError, match=f"{file}:3: the quote that opens here is never closed") as caught:
        records(file)
    assert "--data.quoting off" in caught.value.advice
    assert documents(file, quoting="off") == ["one", '"two', "three", "four"]


@pytest.mark.parametrize("format", ["csv", "tsv"])
def test_values_of_any_length_are_read_and_the_setting_of_the_csv_module_is_left_alone(tmp_path: Path, format: str):
    before = csv.field_size_limit()
    long = "x" * (2 * before)
    file = write(tmp_path / f"a.{format}", f"text\none\n{long}\ntwo\n")
    seen: list[int] = []
    for _ in read_records(DataConfig(path=str(file), quoting="on")):
        seen.append(csv.field_size_limit())
    assert seen == [before] * 3
    assert documents(file, quoting="on") == ["one", long, "two"]


def test_two_tables_are_read_at_once(tmp_path: Path):
    long = "x" * 200_000
    files = [write(tmp_path / f"{n}.csv", "text\n" + f"{long}{n}\n" * 20) for n in range(2)]
    found: list[list[Any]] = [[], []]
    threads = [threading.Thread(target=lambda n=n: found[n].extend(documents(files[n]))) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[f"{long}{n}"] * 20 for n in range(2)]


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("text\na\n{long}\nz\n", {3}),
        ('text\na\n"{long}"\nz\n', {3}),
        ('text\na\n"short\nlines\n{long}\n"\nz\n', {3}),
        ('text\na\n"{long}\nmore lines, ""quoted""\n{long}"\nz\n', {3}),
        ('text\na\n"{short}\n{short}\n{short}"\nz\n', {3}),
    ],
)
@pytest.mark.parametrize("chunk", [64, 1 << 20])
def test_a_record_that_is_too_long_is_a_bad_record_with_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, lines: set[int], chunk: int
):
    for module in (streams, tables):
        monkeypatch.setattr(module, "RECORD_LIMIT", 1000)
    monkeypatch.setattr(streams, "CHUNK", chunk)
    content = content.format(long="x" * 1200, short="y" * 500)
    a, bad, z = records(write(tmp_path / "a.csv", content))
    assert (a.fields, z.fields, z.line) == ({"text": "a"}, {"text": "z"}, content.count("\n"))
    assert isinstance(bad, BadRecord)
    size = len(content) - len("text\na\nz\n")
    assert str(bad).startswith(f"{tmp_path / 'a.csv'}:3: {size:,} bytes long")


def test_json_lines_that_are_too_long_are_bad_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streams, "RECORD_LIMIT", 1000)
    monkeypatch.setattr(streams, "CHUNK", 64)
    monkeypatch.setattr(streams, "_HEAD", 4)
    long = json.dumps({"text": "x" * 1200})
    file = write(tmp_path / "a.jsonl", '{"text": "a"}\n' + long + '\r\n{"text": "z"}')
    a, bad, z = records(file)
    assert (a.line, z.line) == (1, 3)
    assert str(bad).startswith(f"{file}:2: {len(long) + 2:,} bytes long")


def test_a_missing_text_column_is_an_error_before_reading(tmp_path: Path):
    for format in ("csv", "tsv", "parquet"):
        rows = [{"id": "1", "body": "x", "title": "y"}]
        file = write(tmp_path / f"a.{format}", written(rows, format))
        with pytest.raises(DataError, match="The text column of") as caught:
            documents(file)
        assert "'id', 'body', 'title'" in caught.value.expected
        assert "--data.text-column" in caught.value.advice
        with pytest.raises(DataError, match="has no column 'story'"):
            documents(file, text_column="story")
        assert documents(file, text_column="body") == ["x"]


def test_columns_with_the_same_name_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="line 1 repeats the name 'a'") as caught:
        records(write(tmp_path / "a.csv", "a,b,a\n1,2,3\n"))
    assert "--data.columns" in caught.value.advice


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".json", ".txt"])
def test_an_empty_file_has_no_records(tmp_path: Path, ending: str):
    assert records(write(tmp_path / f"a{ending}", ""), document="line") == []
    assert records(write(tmp_path / f"b{ending}.gz", " \n"), document="line") == []


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".json", ".txt"])
@pytest.mark.parametrize("packing", PACKINGS)
def test_utf16_is_named_as_such_in_every_format(tmp_path: Path, ending: str, packing: str):
    file = write(tmp_path / f"a{ending}{packing}", 'text\n{"text": "x"}\n'.encode("utf-16"))
    with pytest.raises(DataError, match="UTF-16 byte-order mark"):
        documents(file)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".json", ".txt"])
def test_a_byte_order_mark_is_left_out_of_every_format(tmp_path: Path, ending: str):
    content = {".jsonl": '{"text": "x"}\n', ".json": '[{"text": "x"}]', ".txt": "x"}.get(ending, "text\nx\n")
    assert documents(write(tmp_path / f"a{ending}", "\ufeff" + content)) == ["x"]


def test_nul_is_allowed_in_a_json_string_but_not_in_a_table(tmp_path: Path):
    assert documents(write(tmp_path / "a.jsonl", '{"text": "a\\u0000b"}\n')) == ["a\0b"]
    with pytest.raises(DataError, match="binary file"):
        documents(write(tmp_path / "a.csv", b"text\na\0b\n"))


# --- json


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('[{"text": "a"},\n {"text": b}]', "is not JSON: Expecting value at line 2, column 11"),
        ('[{"text": "a"}', "is not JSON: Expecting ',' delimiter at line 1, column 15"),
        ('{"text": "a"}\n{"text": "b"}', "contains several JSON values"),
        ('{"text": "a"}', "is an object with no list of records"),
        ('{"a": [{}], "b": [{}]}', "is an object with 2 lists of records ('a', 'b')"),
        ('{"text": ["a", "b"]}', "is an object with no list of records"),
        ('"text"', "contains text"),
    ],
)
def test_a_json_file_without_a_list_of_records_is_refused(tmp_path: Path, content: str, reason: str):
    file = write(tmp_path / "a.json", content)
    with pytest.raises(DataError) as caught:
        records(file)
    assert caught.value.happened.startswith(f"{file} {reason}")
    assert "--data.format jsonl" in caught.value.advice


def test_a_list_member_that_is_not_an_object_is_a_bad_record_with_its_line(tmp_path: Path):
    file = write(tmp_path / "a.json", '[\n{"text": "a\\n"},\n\n"b", {"text": "c"}\n]\n')
    a, bad, c = records(file)
    assert (a.line, c.line) == (2, 4)
    assert str(bad).startswith(f"{file}:4: text, not a record")


# --- parquet


def test_only_the_column_with_the_text_is_read_for_texts(tmp_path: Path):
    """A column Python cannot hold is in the way of records, and not of texts."""
    large = pa.array([1 << 62, 5], pa.timestamp("us"))
    pq.write_table(pa.table({"text": ["a", "b"], "when": large}), tmp_path / "a.parquet")
    assert documents(tmp_path / "a.parquet") == ["a", "b"]
    bad, good = records(tmp_path / "a.parquet")
    assert str(bad).startswith(f"{tmp_path / 'a.parquet'}:1: a value that cannot be read")
    assert good.fields["text"] == "b"


def test_a_parquet_row_that_is_not_utf8_is_a_bad_record(tmp_path: Path):
    column = pa.array([b"one", b"caf\xe9", b"three"]).view(pa.string())
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    found = documents(tmp_path / "a.parquet")
    assert [found[0], str(found[1]), found[2]] == ["one", f"{tmp_path / 'a.parquet'}:2: not UTF-8", "three"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_string_columns_of_every_type_are_text(tmp_path: Path, kind: pa.DataType):
    table = pa.table({"n": [1, 2], "body": pa.array(["a", "b"]).cast(kind)})
    pq.write_table(table, tmp_path / "a.parquet")
    assert documents(tmp_path / "a.parquet") == ["a", "b"]


def test_nested_records_come_out_of_parquet(tmp_path: Path):
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    pq.write_table(pa.Table.from_pylist([{"messages": turns}]), tmp_path / "a.parquet")
    (record,) = records(tmp_path / "a.parquet")
    assert record.fields == {"messages": turns}


def test_a_null_text_is_a_bad_record(tmp_path: Path):
    pq.write_table(pa.table({"text": ["a", None]}), tmp_path / "a.parquet")
    a, bad = documents(tmp_path / "a.parquet")
    assert (a, str(bad)) == ("a", f"{tmp_path / 'a.parquet'}:2: field 'text' is nothing, not text")


@pytest.mark.parametrize("packing", ["", ".gz"])
@pytest.mark.parametrize("kept", [0, 3, 40, -20])
def test_a_broken_parquet_is_refused(tmp_path: Path, kept: int, packing: str):
    file = write(tmp_path / f"a.parquet{packing}", written(ROWS, "parquet")[:kept])
    with pytest.raises(DataError, match=r"is damaged, or not a \.parquet file"):
        records(file)


# --- NSMC


@pytest.mark.skipif("PENNA_DATA" not in os.environ, reason="needs the data sets")
@pytest.mark.parametrize(
    ("part", "number", "empty"), [("test", 50_000, 3), pytest.param("train", 150_000, 5, marks=pytest.mark.slow)]
)
def test_nsmc_comes_out_byte_for_byte(part: str, number: int, empty: int):
    path = Path(os.environ["PENNA_DATA"]) / "nsmc" / f"{part}.tsv.gz"
    found: list[Any] = list(read_records(DataConfig(path=str(path))))
    assert len(found) == number
    lines = ["\t".join(record.fields.values()) for record in found]
    assert "\n".join(["id\tdocument\tlabel", *lines, ""]).encode() == gzip.decompress(path.read_bytes())
    assert [record.line for record in found] == list(range(2, number + 2))
    texts = read(DataConfig(path=str(path)))
    assert texts == [record.fields["document"] for record in found]
    assert (len(texts), texts.count("")) == (number, empty)
    assert any(isinstance(text, str) and text.startswith('"""') and text.endswith('"""') for text in texts)
