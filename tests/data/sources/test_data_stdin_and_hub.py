"""Text that is not in a file: standard input, which is saved as one, and hub datasets."""

import gzip
import hashlib
import io
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from reading import documents, read, records

from penna.config.sections import DataConfig
from penna.data.sources.hub import HubDataset, hub_dataset
from penna.data.sources.standard_input import save_standard_input
from penna.errors import DataError, DeviceError

# --- standard input


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENNA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("size", [1, 1 << 20, (1 << 20) + 1, 5_000_000])
def test_standard_input_is_saved_under_its_hash(cache: Path, size: int):
    content = b"a line of text\n" * (size // 15) + b"x" * (size % 15)
    file = save_standard_input(io.BytesIO(content))
    assert file == cache / "standard-input" / f"{hashlib.sha256(content).hexdigest()}.txt"
    assert file.read_bytes() == content
    assert save_standard_input(io.BytesIO(content)) == file
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("content", "format", "ending"),
    [
        (b'{"text": "x"}\n{"text": "y"}\n', "auto", ".jsonl"),
        (b'\n {"text": "x"}', "auto", ".jsonl"),
        (b"{not json}\n", "auto", ".txt"),
        (b"[1]\n", "auto", ".txt"),
        (b"text\nx\n", "csv", ".csv"),
        (gzip.compress(b"text\nx\n", mtime=0), "tsv", ".tsv.gz"),
        (gzip.compress(b"text", mtime=0), "auto", ".txt.gz"),
    ],
)
def test_the_kept_file_has_the_ending_of_its_format(cache: Path, content: bytes, format: Any, ending: str):
    assert save_standard_input(io.BytesIO(content), format).name.partition(".")[2] == ending[1:]


def test_kept_input_reads_as_any_file(cache: Path):
    assert documents(save_standard_input(io.BytesIO(b'{"text": "x"}\n{"text": "y"}\n'))) == ["x", "y"]
    packed = gzip.compress(b"text\tlabel\nx\t1\n", mtime=0)
    assert documents(save_standard_input(io.BytesIO(packed), "tsv")) == ["x"]


def test_nothing_piped_in_says_how_to_pipe(cache: Path):
    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    for stream in (io.BytesIO(), Terminal(b"typed")):
        with pytest.raises(DataError, match="The standard input is empty") as caught:
            save_standard_input(stream)
        assert "penna train -" in caught.value.expected
    assert not cache.exists()


def test_a_broken_stream_leaves_no_file(cache: Path):
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise OSError(28, "No space left on device")
            return super().read(10)

    with pytest.raises(DeviceError, match="disk is full"):
        save_standard_input(Broken(b"x" * 100))
    assert list((cache / "standard-input").iterdir()) == []


def test_the_standard_input_itself_cannot_be_read_twice():
    with pytest.raises(DataError, match="standard input") as caught:
        read(DataConfig(path="-"))
    assert "file" in caught.value.expected


# --- the hub


def test_a_hub_path_names_a_data_set_and_perhaps_a_split():
    assert hub_dataset("hf://owner/na-me.2") == HubDataset("owner/na-me.2", "train")
    assert hub_dataset("hf://owner/name", "valid") == HubDataset("owner/name", "validation")
    assert hub_dataset("hf://owner/name:test", "valid") == HubDataset("owner/name", "test")


@pytest.mark.parametrize("path", ["hf://", "hf://name", "hf://a/b/c", "hf://a/b:", "hf://a/b:c:d", "hf://a b/c"])
def test_a_hub_path_of_another_form_is_refused(path: str):
    with pytest.raises(DataError, match="is not the name of a Hugging Face dataset") as caught:
        read(DataConfig(path=path))
    assert "hf://owner/name:split" in caught.value.expected


def library(monkeypatch: pytest.MonkeyPatch, load: Any) -> None:
    module: Any = types.ModuleType("datasets")
    module.load_dataset = load
    monkeypatch.setitem(sys.modules, "datasets", module)


def test_rows_of_the_hub_are_records(monkeypatch: pytest.MonkeyPatch):
    rows = [{"text": "one", "label": 1}, {"text": "two", "label": 0}]
    asked: list[Any] = []

    def load(name: str, **options: Any) -> list[dict[str, Any]]:
        asked.append((name, options))
        return rows

    library(monkeypatch, load)
    config = DataConfig(path="hf://owner/name:test", valid_path="hf://owner/name", limit=1)
    assert read(config) == ["one"]
    assert read(config, "valid") == ["one", "two"]
    assert asked == [
        ("owner/name", {"split": "test", "streaming": True}),
        ("owner/name", {"split": "validation", "streaming": True}),
    ]
    found = records("hf://owner/name")  # type: ignore[arg-type]
    assert [record.fields for record in found] == rows
    assert [(record.file, record.line) for record in found] == [("hf://owner/name:train", n) for n in (1, 2)]


@pytest.mark.parametrize("installed", [True, False])
def test_an_unavailable_hub_gives_advice_on_downloading_files(monkeypatch: pytest.MonkeyPatch, installed: bool):
    def load(name: str, **options: Any) -> Any:
        raise ConnectionError("Couldn't reach the Hub\nand so on")

    if installed:
        library(monkeypatch, load)
    else:
        monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError) as caught:
        read(DataConfig(path="hf://owner/name"))
    why = "ConnectionError: Couldn't reach the Hub (after row 0)" if installed else "datasets is not installed"
    assert why in caught.value.happened
    assert "hf://owner/name:train cannot be read" in caught.value.happened
    assert "pip install datasets" in caught.value.expected
    assert "hf download --repo-type dataset owner/name --local-dir name" in caught.value.advice
    assert "--data.path name" in caught.value.advice
