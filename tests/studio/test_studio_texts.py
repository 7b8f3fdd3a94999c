"""Which texts a page may name: those in two folders, and nothing outside them whatever is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from penna.errors import DataError
from penna.studio.texts import chosen_texts, listed_texts


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


def test_only_texts_inside_are_listed(folders: tuple[Path, Path]) -> None:
    data, uploads = folders
    assert [text.key for text in listed_texts(data, uploads)] == [
        "upload:sent.txt",
        "folder:a.txt",
        "folder:deep/b.jsonl.gz",
        "folder:in.txt",
    ]
    assert [text.key for text in listed_texts(None, uploads)] == ["upload:sent.txt"]


def test_a_chosen_key_is_its_path(folders: tuple[Path, Path]) -> None:
    data, uploads = folders
    assert chosen_texts(["folder:a.txt", "upload:sent.txt"], data, uploads) == [data / "a.txt", uploads / "sent.txt"]


@pytest.mark.parametrize(
    "key",
    ["folder:out.txt", "folder:outside/secret.txt", "folder:../secret.txt", "upload:../secret.txt", "/etc/passwd",
     "upload:.parts/0/half.txt", "folder:.hidden.txt", "folder:", "", "hf://owner/name"],
)  # fmt: skip
def test_what_is_not_listed_cannot_be_chosen(folders: tuple[Path, Path], key: str) -> None:
    with pytest.raises(DataError, match="There is no text"):
        chosen_texts([key], *folders)


def test_a_folder_without_text_is_an_empty_list(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert listed_texts(tmp_path / "data", tmp_path / "uploads") == []
