"""The Glossary page: the studio's terms, each with a sentence, and a field to search them."""

from __future__ import annotations

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from penna.studio.i18n import t, texts
from penna.studio.layout import note, page_layout
from penna.studio.workspace import Studio

_PREFIX, _SUFFIX = "glossary.", "-note"
TERMS = tuple(
    key.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    for key in texts("en")
    if key.startswith(_PREFIX) and key.endswith(_SUFFIX)
)


def add(studio: Studio) -> None:
    """Register the page."""

    @ui.page("/glossary")
    def glossary() -> None:
        with page_layout(studio, "glossary"):
            search = ui.input(label=t("glossary.find")).props("outlined dense clearable").classes("run-select")

            @ui.refreshable
            def terms() -> None:
                part = (search.value or "").lower()
                entries = [(term, t(f"glossary.{term}"), t(f"glossary.{term}-note")) for term in TERMS]
                matches = [entry for entry in entries if part in f"{entry[1]} {entry[2]}".lower()]
                if not matches:
                    note("glossary.none")
                    return
                with ui.element("dl").classes("terms"):
                    for term, name, sentence in matches:
                        with ui.element("div").props(f"id={term}"):
                            TextElement(tag="dt", text=name)
                            TextElement(tag="dd", text=sentence)

            terms()
            search.on_value_change(terms.refresh)
