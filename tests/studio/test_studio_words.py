"""The words of the studio: whole in three languages, with the same values in each."""

import pkgutil
import string
from importlib import import_module

import pytest

from penna.studio import pages, words
from penna.studio.frame import WORDS
from penna.studio.words import LANGUAGES, preferred

MODULES = [f"penna.studio.pages.{module.name}" for module in pkgutil.iter_modules(pages.__path__)]


def tables() -> list[tuple[str, dict[str, words.Row]]]:
    found = [("frame", WORDS)]
    for name in MODULES:
        table = getattr(import_module(name), "WORDS", None)
        if table is not None:
            found.append((name.rsplit(".", 1)[1], table))
    return found


def values(text: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_every_word_is_there_in_every_language_with_the_same_values():
    faults = [
        f"{name}: {key}"
        for name, table in tables()
        for key, row in table.items()
        if len(row) != len(LANGUAGES) or not all(row) or len({frozenset(values(text)) for text in row}) != 1
    ]
    assert faults == []


def test_korean_and_chinese_are_written_in_their_own_letters():
    names = {"runs.name", "status.best"}  # a sample that has no English in it
    korean = [row[1] for _, table in tables() for key, row in table.items() if key in names]
    chinese = [row[2] for _, table in tables() for key, row in table.items() if key in names]
    assert korean and all(any("가" <= letter <= "힣" for letter in text) for text in korean)
    assert chinese and all(any("一" <= letter <= "鿿" for letter in text) for text in chinese)


def test_a_table_that_lacks_a_language_or_changes_a_word_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(words, "_TABLE", {})
    words.add({"a": ("one", "하나", "一")})
    words.add({"a": ("one", "하나", "一")})
    with pytest.raises(ValueError, match="'a'"):
        words.add({"a": ("one!", "하나", "一")})
    with pytest.raises(ValueError, match="'b'"):
        words.add({"b": ("two", "", "二")})
    assert words.t("a") == "one"


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        ("zh-TW,zh;q=0.9", "zh"),
        ("fr-FR,fr;q=0.9,zh;q=0.3", "zh"),
        ("fr", "en"),
        ("", "en"),
    ],
)
def test_the_language_is_the_first_that_the_browser_asks_for_and_the_studio_speaks(accepted: str, language: str):
    assert preferred(accepted) == language
