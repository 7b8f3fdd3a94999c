"""Translations of the pages: ``locales/LANGUAGE.toml`` has a table for each page, with a text for each key.

A page calls ``t("table.key")``. The language belongs to the browser's connection; ``page_layout`` sets it.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from nicegui import context
from nicegui.slot import Slot

LANGUAGES = {"en": "English", "ko": "한국어", "zh": "中文"}
_FOLDER = Path(__file__).with_name("locales")
_LANGUAGE = "language"


@cache
def texts(language: str) -> dict[str, str]:
    """All texts of a language by "table.key"."""
    tables = tomllib.loads((_FOLDER / f"{language}.toml").read_text(encoding="utf-8"))
    return {f"{table}.{key}": text for table, entries in tables.items() for key, text in entries.items()}


def t(key: str, **values: object) -> str:
    """The text of a key in the reader's language, with its {placeholders} filled in. Raises KeyError if unknown."""
    text = texts(current_language())[key]
    return text.format(**values) if values else text


def current_language() -> str:
    """The reader's language, one of LANGUAGES; English outside a page."""
    return context.client.storage.get(_LANGUAGE, "en") if Slot.get_stack() else "en"


def set_language(language: str) -> None:
    """Set the language of the page that is being built."""
    context.client.storage[_LANGUAGE] = language


def preferred_language(accept_language: str) -> str:
    """The first supported language of an Accept-Language header; English if there is none."""
    for part in accept_language.lower().split(","):
        language = part.strip().split(";")[0].split("-")[0]
        if language in LANGUAGES:
            return language
    return "en"
