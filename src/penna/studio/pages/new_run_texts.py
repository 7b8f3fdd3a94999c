"""Step one of a new run: which text it learns from, sent from the browser or chosen from the studio's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nicegui import ui

from penna.errors import DataError, PennaError
from penna.studio.frame import heading, in_thread, meaning, problem
from penna.studio.pages.upload_input import upload_input
from penna.studio.plans import fields_from
from penna.studio.state import Studio
from penna.studio.texts import ListedText, chosen_texts, listed_texts, options
from penna.studio.uploads import LIMIT
from penna.studio.words import t

_DOCUMENTS = ("file", "block", "line")
Changed = Callable[[], Any]


class TextChoice:
    """What is read, and how."""

    def __init__(self, studio: Studio, listed: list[ListedText], on_change: Changed) -> None:
        self._studio, self._on_change = studio, on_change
        heading(t("new.texts"))
        meaning("new.texts-mean")
        self._texts = self._chooser("new.choose", listed)
        if studio.data_dir is None:
            meaning("new.no-folder")
        self._field = upload_input(t("new.upload", most=f"{LIMIT // 10**6:,}"), LIMIT, self._answered)
        self._progress = ui.label().props("role=status").classes("meaning")
        self._told = ui.element("div")
        self._kept: list[str] = []  # of the files that were chosen together
        self._tests = self._chooser("new.tests", listed)
        with ui.element("div").classes("line"):
            documents = {name: t(f"new.document-{name}") for name in _DOCUMENTS}
            self._document = ui.select(documents, value="file", label=t("new.document"), on_change=on_change)
            self._document.props("outlined dense options-dense").classes("run-select")
            self._columns = {
                name: ui.input(t(f"new.{name}"), on_change=on_change).props("outlined dense clearable debounce=400")
                for name in ("text-column", "label-column")
            }

    @property
    def paths(self) -> tuple[Path, ...]:
        """The texts to learn from. Raises DataError for one that is gone."""
        return self._chosen(self._texts)

    @property
    def tests(self) -> tuple[Path, ...]:
        """The texts to measure on; none: a part is split off."""
        return self._chosen(self._tests)

    @property
    def fields(self) -> dict[str, Any]:
        """Fields of the section data that say how they are read."""
        document = None if self._document.value == "file" else self._document.value
        columns = [(f"data.{name.replace('-', '_')}", field.value) for name, field in self._columns.items()]
        return fields_from([("data.document", document), *columns])

    def _chosen(self, chooser: ui.select) -> tuple[Path, ...]:
        return tuple(chosen_texts(list(chooser.value or []), self._studio.data_dir, self._studio.uploads))

    def _chooser(self, key: str, listed: list[ListedText]) -> ui.select:
        chooser = ui.select(options(listed), value=[], multiple=True, label=t(key), on_change=self._on_change)
        return chooser.props("outlined dense use-chips options-dense").style("width: 100%")

    async def _answered(self, told: dict[str, Any]) -> None:
        """What the browser says of the files that it sends."""
        if told.get("begins"):
            self._kept.clear()
            self._told.clear()
            return
        name, size = str(told["name"])[:80], int(told["size"])
        if kept := told.get("kept"):
            self._kept.append(kept)
            self._progress.text = t("new.uploaded", name=", ".join(self._kept))
            listed = await in_thread(listed_texts, self._studio.data_dir, self._studio.uploads)
            self._texts.set_options(options(listed), value=[*self._texts.value, f"upload:{kept}"])
            self._tests.set_options(options(listed), value=self._tests.value)
        elif error := _fault(told, name, size):
            self._progress.text = ""
            with self._told:
                problem(error)
        else:
            self._progress.text = t("new.uploading", name=name, share=f"{100 * int(told['sent']) / size:.0f}")


def _fault(told: dict[str, Any], name: str, size: int) -> PennaError | None:
    """What is wrong with a file that did not come; None where it is on its way."""
    if parts := told.get("problem"):
        return DataError(*(str(part) for part in list(parts)[:3]))
    if told.get("refused"):
        return DataError(
            f"{name} has {size / 1e6:,.0f} MB; this studio takes files of at most {LIMIT / 1e6:,.0f} MB.",
            "A file within that limit, or one that lies on this machine already.",
            "Put it into the folder that the studio reads (penna studio --data-dir FOLDER), and choose it there.",
        )
    if told.get("lost"):
        return DataError(
            f"{name} broke off after {int(told['sent']) / 1e6:,.1f} of {size / 1e6:,.1f} MB.",
            "A connection to the studio until all of it is here.",
            "See that the studio is still running, and choose the file again.",
        )
    return None
