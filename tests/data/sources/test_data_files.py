"""Files: the meaning of folders, patterns and names, and reports on skipped files."""

import os
from pathlib import Path

import pytest
from reading import documents, write

from penna.data.sources.files import describe_skipped, find_files, format_of, skipped_files, suffixes
from penna.errors import DataError

NAMES = (
    "b.txt",
    "a/z.txt",
    "a/B.TXT",
    "a.jsonl",
    "c.JSONL",
    "d.csv.gz",
    "a/e.md",
    "a/f.pdf",
    "g",
    "h.json.bak",
    "i.gz",
)
READ = ["a/B.TXT", "a/z.txt", "a.jsonl", "b.txt", "c.JSONL", "d.csv.gz"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*NAMES, ".hidden.txt", ".git/x.txt", "a/.cache/y.txt"):
        write(tmp_path / name, '{"text": "x"}' if "json" in name.lower() else "text\n")
    return tmp_path


def names(files: list[Path], folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in files]


def test_a_folder_gives_its_readable_files_at_any_depth_in_a_fixed_order(folder: Path):
    assert names(find_files([str(folder)]), folder) == READ


def test_a_folder_of_many_formats_is_read_as_one(tmp_path: Path):
    write(tmp_path / "a" / "one.txt", "one")
    write(tmp_path / "b.jsonl.xz", '{"text": "two"}\n')
    write(tmp_path / "c.tsv", "text\nthree\n")
    assert documents(tmp_path) == ["one", "two", "three"]


def test_skipped_files_of_a_folder_are_counted(folder: Path):
    counts = skipped_files([str(folder)])
    assert counts == {"": 1, ".bak": 1, ".gz": 1, ".md": 1, ".pdf": 1}
    assert sum(counts.values()) + len(READ) == len(NAMES)
    assert describe_skipped(counts) == "1 without suffix, 1 .bak, 1 .gz, 1 .md, 1 .pdf"
    assert skipped_files([str(folder / "b.txt"), str(folder / "*.md"), "nowhere", "-", "hf://a/b"]) == {}


@pytest.mark.parametrize("pattern", ["**", "**/*"])
def test_a_pattern_of_anything_is_read_as_the_folder_is(folder: Path, pattern: str):
    assert names(find_files([str(folder / pattern)]), folder) == READ
    assert skipped_files([str(folder / pattern)]) == skipped_files([str(folder)])


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.jsonl", ["a.jsonl"]),
        ("[ab].*", ["a.jsonl", "b.txt"]),
        ("*", READ),
        ("**/*.txt", ["a/z.txt", "b.txt"]),
        ("**/*.md", ["a/e.md"]),
        ("?.csv.gz", ["d.csv.gz"]),
        ("g*", ["g"]),
    ],
)
def test_patterns_name_files(folder: Path, pattern: str, found: list[str]):
    assert names(find_files([str(folder / pattern)]), folder) == found


def test_a_file_whose_name_contains_a_wildcard_is_read(tmp_path: Path):
    write(tmp_path / "a[1].txt", "literal")
    write(tmp_path / "a1.txt", "pattern")
    assert documents(tmp_path / "a[1].txt") == ["literal"]


def test_a_folder_without_a_readable_file_lists_what_it_contains(tmp_path: Path):
    write(tmp_path / "a.md", "x")
    write(tmp_path / "b" / "c.pdf", "x")
    for path in (tmp_path, tmp_path / "**"):
        with pytest.raises(DataError, match=r"contains no .*\.parquet file \(only 1 \.md, 1 \.pdf\)") as caught:
            find_files([str(path)])
        assert str(path) in caught.value.happened
    assert skipped_files([str(tmp_path)]) == {".md": 1, ".pdf": 1}
    with pytest.raises(DataError, match=r"contains no .* file\."):
        find_files([str(tmp_path / "*.txt")])


def test_links_are_followed_and_a_circle_of_them_is_walked_once(tmp_path: Path):
    write(tmp_path / "real" / "a.txt", "x")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "circle").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "gone.txt").symlink_to(tmp_path / "nowhere")
    assert names(find_files([str(tmp_path / "data")]), tmp_path) == ["data/linked/a.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_inside_that_may_not_be_read_is_named(tmp_path: Path):
    write(tmp_path / "a.txt", "x")
    (tmp_path / "closed").mkdir(mode=0)
    try:
        with pytest.raises(DataError, match="closed cannot be read: Permission denied"):
            find_files([str(tmp_path)])
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_a_folder_that_vanishes_while_it_is_searched_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch):
    scandir = os.scandir

    def failing(path: str) -> object:
        if str(path).endswith("a"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(DataError, match="/a cannot be read: Permission denied"):
        find_files([str(folder)])


@pytest.mark.parametrize("ending", [".zip", ".pdf", ".DOCX", ".html", ".pdf.gz"])
def test_an_unsupported_file_type_is_named(tmp_path: Path, ending: str):
    file = write(tmp_path / f"a{ending}", "x")
    with pytest.raises(DataError, match=rf"a\{ending} is a .* file, which Penna cannot read"):
        find_files([str(file)])
    assert find_files([str(file)], "txt") == [file]


def test_a_hub_id_without_its_prefix_gets_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="no file or folder owner/name") as caught:
        find_files(["owner/name"])
    assert "hf://owner/name" in caught.value.advice
    (tmp_path / "owner").mkdir()
    for local in ("owner/name", "a/b/c", "nowhere", "other/text.jsonl", "/owner/name"):
        with pytest.raises(DataError) as caught:
            find_files([local])
        assert "hf://" not in caught.value.advice


def test_a_pipe_says_how_it_can_be_read(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="neither a file nor a folder") as caught:
        find_files([str(tmp_path / "pipe")])
    assert "pipe it in with -" in caught.value.advice


@pytest.mark.parametrize(
    ("name", "endings", "format"),
    [
        ("a.txt", (".txt", ""), "txt"),
        ("a.JSONL.GZ", (".jsonl", ".gz"), "jsonl"),
        ("a.ndjson", (".ndjson", ""), "jsonl"),
        ("a.b.tsv.xz", (".tsv", ".xz"), "tsv"),
        ("a.gz", ("", ".gz"), "txt"),
        ("README", ("", ""), "txt"),
        ("a.md", (".md", ""), "txt"),
        ("a.parquet.zst", (".parquet", ".zst"), "parquet"),
    ],
)
def test_endings_say_the_format_and_the_packing(name: str, endings: tuple[str, str], format: str):
    assert suffixes(Path(name)) == endings
    assert format_of(Path(name)) == format
    assert format_of(Path(name), "csv") == "csv"
