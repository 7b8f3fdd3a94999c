"""Only listed text files can be chosen; an upload is stored completely, or refused with nothing left behind."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from penna.errors import DataError, DeviceError, PennaError
from penna.studio.text_files import PART, ROUTE, Uploads, add_upload_route, list_texts, resolve_texts

KEY = "0123456789abcdef" * 2


def send(uploads: Uploads, name: str, content: bytes, *, key: str = KEY, part: int = PART) -> str | None:
    kept = None
    for begin in range(0, max(len(content), 1), part):
        kept = uploads.add_part(key, name, len(content), begin, content[begin : begin + part])
    return kept


def files_of(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def client(uploads: Uploads) -> TestClient:
    app = FastAPI()
    add_upload_route(app, uploads)
    return TestClient(app)


def put(
    browser: TestClient, name: str, content: bytes, *, begin: int = 0, size: int | None = None
) -> dict[str, object]:
    parameters = {"name": name, "size": str(len(content) if size is None else size), "begin": str(begin)}
    response = browser.put(f"{ROUTE}/{KEY}", params=parameters, content=content)
    assert response.status_code == 200
    return response.json()


def test_a_file_uploaded_in_parts_is_stored_byte_for_byte(tmp_path: Path) -> None:
    content = "한국어와 English.\n".encode() * 200
    uploads = Uploads(tmp_path / "uploads")
    assert send(uploads, "글.txt", content, part=7001) == "글.txt"
    assert (tmp_path / "uploads" / "글.txt").read_bytes() == content
    assert files_of(tmp_path / "uploads") == ["글.txt"]


def test_a_taken_name_gets_a_number_and_the_old_file_stays(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    assert send(uploads, "a.txt.gz", gzip.compress(b"one", mtime=0)) == "a.txt.gz"
    assert send(uploads, "a.txt.gz", gzip.compress(b"two", mtime=0)) == "a-2.txt.gz"
    assert gzip.decompress((tmp_path / "a.txt.gz").read_bytes()) == b"one"


@pytest.mark.parametrize(
    "name",
    ["../a.txt", "/etc/passwd", "a/b.txt", "a\\b.txt", ".hidden", "-rf.txt", "", "a\0.txt", "a\n.txt", "$HOME.txt", "a*.txt",
     "a.", "x" * 200, "~root", "hf://owner/name"],
)  # fmt: skip
def test_an_unsafe_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot be stored under the name"):
        send(Uploads(tmp_path / "uploads"), name, b"text")
    assert files_of(tmp_path) == []


@given(name=st.text(max_size=40))
def test_no_name_leads_out_of_the_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    place = tmp_path_factory.mktemp("any")
    try:
        kept = send(Uploads(place / "uploads"), name, b"text")
    except PennaError:
        assert files_of(place) == []
    else:
        assert kept is not None
        assert files_of(place) == [f"uploads/{kept}"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("program.txt", b"\x7fELF\0\0" + b"a" * 9000, "is a binary file"),
        ("wide.txt", "text".encode("utf-16"), "UTF-16 byte-order mark"),
        ("packed.txt.gz", gzip.compress(b"\0\0text", mtime=0), "is a binary file"),
        ("no.txt.gz", b"plain text, not packed", "is damaged, or not a .gz file"),
        ("notes.docx", b"PK\3\4", "is a .docx file, which Penna cannot read"),
        ("pages.pdf", b"%PDF-1.7", "is a .pdf file, which Penna cannot read"),
        ("rows.parquet", b"text", "is not a .parquet file"),
    ],
)
def test_content_that_is_not_text_is_refused_without_naming_the_folder(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    with pytest.raises(DataError) as caught:
        send(Uploads(tmp_path / "uploads"), name, content)
    error = caught.value
    assert said in error.happened
    assert error.expected
    assert error.advice
    assert str(tmp_path) not in str(error)
    assert files_of(tmp_path) == []


def test_parquet_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": ["one", "two"]}), file)
    assert send(Uploads(tmp_path / "uploads"), "rows.parquet", file.read_bytes()) == "rows.parquet"


def test_a_binary_file_is_refused_at_its_first_part(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    with pytest.raises(DataError, match="binary"):
        uploads.add_part(KEY, "a.txt", 400_000_000, 0, b"\0" * PART)
    assert files_of(tmp_path) == []


def test_a_file_over_the_limit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads", max_file=1000)
    with pytest.raises(DataError, match=r"big\.txt has .* MB; the limit for an upload is"):
        uploads.add_part(KEY, "big.txt", 2 << 30, 0, b"text")
    assert not (tmp_path / "uploads").exists()
    assert send(uploads, "fits.txt", b"a" * 1000) == "fits.txt"


def test_a_file_longer_than_announced_is_deleted(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    uploads.add_part(KEY, "a.txt", 10, 0, b"12345")
    with pytest.raises(DataError, match="did not arrive completely"):
        uploads.add_part(KEY, "a.txt", 10, 5, b"123456")
    assert files_of(tmp_path) == []


@pytest.mark.parametrize("begin", [0, 3, 7])
def test_missing_or_repeated_parts_are_refused(tmp_path: Path, begin: int) -> None:
    uploads = Uploads(tmp_path)
    uploads.add_part(KEY, "a.txt", 10, 0, b"12345")
    if begin == 0:  # starting again is allowed
        assert uploads.add_part(KEY, "a.txt", 10, 0, b"12345") is None
        return
    with pytest.raises(DataError, match="did not arrive completely"):
        uploads.add_part(KEY, "a.txt", 10, begin, b"12345")


@pytest.mark.parametrize("key", ["..", "../..", "0" * 31, "g" * 32, ""])
def test_an_invalid_key_creates_no_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(DataError, match="did not arrive completely"):
        Uploads(tmp_path / "uploads").add_part(key, "a.txt", 4, 0, b"text")
    assert files_of(tmp_path) == []


def test_a_full_disk_is_reported_at_the_first_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100})())
    with pytest.raises(DeviceError, match="MB free"):
        send(Uploads(tmp_path), "a.txt", b"a" * 1000)


def test_all_files_together_have_a_limit_and_incomplete_ones_count_with_their_final_size(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, max_total=100)
    assert send(uploads, "a.txt", b"a" * 40) == "a.txt"
    uploads.add_part("1" * 32, "b.txt", 50, 0, b"b")
    with pytest.raises(DeviceError, match=r"c\.txt has .* MB, and the texts in .* already have .* MB") as refused:
        send(uploads, "c.txt", b"c" * 11)
    assert refused.value.advice
    assert send(uploads, "d.txt", b"d" * 10) == "d.txt"
    uploads.add_part("1" * 32, "b.txt", 50, 0, b"b")  # started again, it counts once
    assert uploads.add_part("1" * 32, "b.txt", 50, 1, b"b" * 49) == "b.txt"
    (tmp_path / "a.txt").unlink()
    assert send(uploads, "c.txt", b"c" * 40) == "c.txt"


def test_the_route_accepts_parts_and_reports_refusals_in_three_sentences(tmp_path: Path) -> None:
    browser = client(Uploads(tmp_path))
    assert put(browser, "a.txt", b"12345", size=9) == {"received": 5}
    assert put(browser, "a.txt", b"6789", begin=5, size=9) == {"kept": "a.txt"}
    assert (tmp_path / "a.txt").read_bytes() == b"123456789"
    problem = put(browser, "b.txt", b"\0\0\0")["problem"]
    assert isinstance(problem, list)
    assert [bool(part) for part in problem] == [True, True, True]
    assert problem[0] == "b.txt is a binary file (it contains NUL bytes)."


def test_the_route_refuses_a_part_that_is_too_large(tmp_path: Path) -> None:
    assert "problem" in put(client(Uploads(tmp_path)), "a.txt", b"a" * (PART + 1))
    assert files_of(tmp_path) == []


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    data, uploads = tmp_path / "data", tmp_path / "uploads"
    (data / "deep").mkdir(parents=True)
    (uploads / ".parts" / "0").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret")
    (data / "a.txt").write_text("a")
    (data / "deep" / "b.jsonl.gz").write_text("b")
    (data / "picture.png").write_text("c")
    (data / ".hidden.txt").write_text("d")
    (data / "out.txt").symlink_to(tmp_path / "secret.txt")
    (data / "outside").symlink_to(tmp_path)
    (data / "in.txt").symlink_to(data / "a.txt")
    (uploads / "sent.txt").write_text("e")
    (uploads / ".parts" / "0" / "half.txt").write_text("f")
    return data, uploads


def test_only_texts_inside_the_folders_are_listed(folders: tuple[Path, Path]) -> None:
    data, uploads = folders
    assert [text.key for text in list_texts(data, uploads)] == [
        "upload:sent.txt",
        "folder:a.txt",
        "folder:deep/b.jsonl.gz",
        "folder:in.txt",
    ]
    assert [text.key for text in list_texts(None, uploads)] == ["upload:sent.txt"]


def test_a_listed_key_resolves_to_its_path(folders: tuple[Path, Path]) -> None:
    data, uploads = folders
    assert resolve_texts(["folder:a.txt", "upload:sent.txt"], data, uploads) == [data / "a.txt", uploads / "sent.txt"]


@pytest.mark.parametrize(
    "key",
    ["folder:out.txt", "folder:outside/secret.txt", "folder:../secret.txt", "upload:../secret.txt", "/etc/passwd",
     "upload:.parts/0/half.txt", "folder:.hidden.txt", "folder:", "", "hf://owner/name"],
)  # fmt: skip
def test_a_key_that_is_not_listed_is_refused(folders: tuple[Path, Path], key: str) -> None:
    with pytest.raises(DataError, match="There is no text"):
        resolve_texts([key], *folders)


def test_a_folder_without_text_gives_an_empty_list(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert list_texts(tmp_path / "data", tmp_path / "uploads") == []
