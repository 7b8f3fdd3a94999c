"""The glossary: what the studio's words mean, a sentence each, with a field to find them by."""

from __future__ import annotations

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from penna.studio.frame import frame
from penna.studio.pages.glossary_terms import TERMS
from penna.studio.state import Studio
from penna.studio.words import add as add_words
from penna.studio.words import t

WORDS = {
    "glossary.find": ("Find a word", "용어 찾기", "查找词语"),
    "glossary.none": ("No word of these pages is called that.", "그런 용어는 없습니다.", "没有这样的词语。"),
}


def add(studio: Studio) -> None:
    """Put the page in place."""
    add_words(WORDS)
    for key, name, sentence in TERMS:
        add_words({f"glossary.{key}": name, f"glossary.means-{key}": sentence})

    @ui.page("/glossary")
    def glossary() -> None:
        with frame(studio, "glossary"):
            wanted = ui.input(label=t("glossary.find")).props("outlined dense clearable").classes("run-select")

            @ui.refreshable
            def terms() -> None:
                part = (wanted.value or "").lower()
                rows = [(key, t(f"glossary.{key}"), t(f"glossary.means-{key}")) for key, _, _ in TERMS]
                found = [row for row in rows if part in f"{row[1]} {row[2]}".lower()]
                if not found:
                    ui.label(t("glossary.none")).classes("meaning")
                    return
                with ui.element("dl").classes("terms"):
                    for key, name, sentence in found:
                        with ui.element("div").props(f"id={key}"):
                            TextElement(tag="dt", text=name)
                            TextElement(tag="dd", text=sentence)

            terms()
            wanted.on_value_change(terms.refresh)
