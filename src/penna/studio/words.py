"""What the studio says, in English, Korean and Chinese: a key in, the words in the reader's language out.

Every page keeps its own table and hands it to ``add`` when it is put in place, so that a page and its words stand in
one file. The language is kept with the browser's connection, which ``frame`` sets it for.
"""

from __future__ import annotations

from collections.abc import Mapping

from nicegui import context
from nicegui.slot import Slot

Row = tuple[str, str, str]  # English, Korean, Chinese
LANGUAGES = {"en": "English", "ko": "한국어", "zh": "中文"}
_PLACES = {code: place for place, code in enumerate(LANGUAGES)}
_KEPT = "language"
_TABLE: dict[str, Row] = {}


def add(table: Mapping[str, Row]) -> None:
    """Take the words of a page in. Raises ValueError where a key has other words already, or a row lacks one."""
    for key, row in table.items():
        if len(row) != len(LANGUAGES) or not all(row):
            raise ValueError(f"{key!r} needs words in {', '.join(LANGUAGES.values())}")
        if _TABLE.setdefault(key, row) != row:
            raise ValueError(f"two pages have words of their own for {key!r}")


def t(key: str, **values: object) -> str:
    """The words of a key in the reader's language, with values put where they have {names}."""
    words = _TABLE[key][_PLACES[language()]]
    return words.format(**values) if values else words


def language() -> str:
    """The reader's language, one of LANGUAGES; English where nobody reads."""
    return context.client.storage.get(_KEPT, "en") if Slot.get_stack() else "en"


def use_language(code: str) -> None:
    """Set the language of the page that is being drawn."""
    context.client.storage[_KEPT] = code


def preferred(accepted: str) -> str:
    """The first language of an Accept-Language header that the studio speaks; English where there is none."""
    for part in accepted.lower().split(","):
        code = part.strip().split(";")[0].split("-")[0]
        if code in LANGUAGES:
            return code
    return "en"
