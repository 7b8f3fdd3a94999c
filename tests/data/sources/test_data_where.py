"""data.where: records are selected by the value of a column, in every format, as texts and as records."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penna.config.recipe import build_recipe
from penna.config.sections import DataConfig
from penna.data.sources.reader import read_records, read_texts
from penna.data.sources.records import BadRecord, Record, TextChunk
from penna.errors import RecipeError

ROWS = [
    {"text": f"{kind} {number}", "kind": kind, "year": year}
    for number, (kind, year) in enumerate([("tech", 2004), ("sport", 2004), ("tech", 2005), ("arts", 2005)])
]


def written(folder: Path, ending: str) -> str:
    file = folder / f"rows.{ending}"
    match ending:
        case "jsonl.gz":
            file.write_bytes(gzip.compress("\n".join(map(json.dumps, ROWS)).encode()))
        case "json":
            file.write_text(json.dumps(ROWS))
        case "parquet":
            pq.write_table(pa.Table.from_pylist(ROWS), file)
        case _:
            file.write_text("\n".join(["text\tkind\tyear", *("\t".join(map(str, row.values())) for row in ROWS)]))
    return str(file)


@pytest.mark.parametrize("ending", ["jsonl.gz", "json", "parquet", "tsv"])
@pytest.mark.parametrize(
    ("where", "left"),
    [
        ([], [0, 1, 2, 3]),
        ("kind=tech", [0, 2]),
        (["kind=tech", "kind=arts"], [0, 2, 3]),
        (["kind=tech", "kind=arts", "year=2005"], [2, 3]),
        (["kind=none"], []),
    ],
)
def test_only_records_with_the_values_are_read(tmp_path: Path, ending: str, where: list[str], left: list[int]) -> None:
    data = DataConfig.model_validate({"path": written(tmp_path, ending), "where": where})
    texts = [ROWS[number]["text"] for number in left]
    assert [piece.text for piece in read_texts(data) if isinstance(piece, TextChunk)] == texts
    assert [record.fields["text"] for record in read_records(data) if isinstance(record, Record)] == texts


def test_the_limit_counts_filtered_records(tmp_path: Path) -> None:
    data = DataConfig(path=[written(tmp_path, "json")], where=["kind=tech"], limit=2)
    assert len(list(read_texts(data))) == len(list(read_records(data))) == 2


@pytest.mark.parametrize("ending", ["json", "txt"])
def test_a_record_without_the_column_is_a_bad_one(tmp_path: Path, ending: str) -> None:
    (tmp_path / "rows.txt").write_text("a text")
    path = str(tmp_path / "rows.txt") if ending == "txt" else written(tmp_path, "json")
    found = list(read_texts(DataConfig(path=[path], where=["topic=tech"])))
    assert found and all(isinstance(record, BadRecord) and "no field 'topic'" in record.reason for record in found)


def test_a_condition_names_a_column_and_a_value() -> None:
    with pytest.raises(RecipeError, match=r"data\.where"):
        build_recipe({"data": {"where": ["tech"]}})
