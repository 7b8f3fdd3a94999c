"""The layout around every page, and the elements that pages share: headings, notes, errors, the choice of a run.

An error is shown as Penna's three sentences, never as a traceback.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from nicegui import app, context, ui
from nicegui.elements.mixins.text_element import TextElement

from penna.errors import PennaError, RunError
from penna.studio.i18n import LANGUAGES, current_language, preferred_language, set_language, t
from penna.studio.models import missing_run_message
from penna.studio.workspace import RunRow, Studio

P = ParamSpec("P")
T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_THEMES: dict[str, bool | None] = {"auto": None, "light": False, "dark": True}
PAGES = {  # page: its address and icon, in the order of the menu
    "runs": ("/", "list"),
    "new": ("/new", "add_circle_outline"),
    "playground": ("/playground", "edit_note"),
    "chat": ("/chat", "forum"),
    "compare": ("/compare", "stacked_line_chart"),
    "explain": ("/explain", "troubleshoot"),
    "decoding": ("/decoding", "tune"),
    "classify": ("/classify", "label"),
    "complete": ("/complete", "short_text"),
    "glossary": ("/glossary", "menu_book"),
}


def install_layout() -> None:
    """Install the style and the defaults of all pages, once per process."""
    ui.button.default_props("no-caps")
    app.config.quasar_config["loadingBar"]["skipHijack"] = True  # no progress bar for background requests
    ui.add_css(Path(__file__).with_name("studio.css").read_text(encoding="utf-8"), shared=True)


@contextmanager
def page_layout(studio: Studio, page: str, title: str | None = None) -> Generator[ui.element]:
    """Build the header and menu; the block builds the page. The title is t("page.PAGE") unless given."""
    stored = app.storage.user
    accepted = context.client.request.headers.get("accept-language", "")
    set_language(stored.get("language") or preferred_language(accepted))
    title = t(f"page.{page}") if title is None else title
    ui.page_title(f"{title} · Penna")
    ui.add_head_html(f'<script>document.documentElement.lang = "{current_language()}";</script>')
    theme = stored.get("theme", "auto")
    ui.dark_mode(_THEMES.get(theme))
    ui.colors(primary="#1d5bb8", negative="#b3261e", positive="#1b6e3c", warning="#8a5a00", dark_page="#15181d")
    with ui.left_drawer(value=False, bordered=True).props("show-if-above width=230 breakpoint=900") as drawer:
        _menu(page)
    with ui.header(elevated=False).classes("bar"):
        button = ui.button(icon="menu", on_click=drawer.toggle).props("flat round color=white")
        button.props(f'aria-label="{t("layout.menu")}"')
        ui.link("Penna", "/").classes("brand")
        ui.space()
        _setting("language", "translate", LANGUAGES, current_language())
        _setting("theme", "contrast", {name: t(f"layout.{name}") for name in _THEMES}, theme)
    with ui.element("div").classes("page") as main:
        ui.skip_link(t("layout.skip"), target=main)
        heading(title, 1)
        yield main


def _menu(current: str) -> None:
    with ui.element("nav").props(f'aria-label="{t("layout.pages")}"').classes("menu"):
        for page, (target, icon) in PAGES.items():
            with ui.link(target=target).classes("entry") as link:
                ui.icon(icon).props("aria-hidden=true")
                ui.label(t(f"page.{page}"))
            if page == current:
                link.props("aria-current=page")


def _setting(name: str, icon: str, choices: dict[str, str], current: str) -> None:
    """A button in the header that opens a menu of choices, stored per browser."""

    def choose(choice: str) -> None:
        app.storage.user[name] = choice
        ui.navigate.reload()

    button = ui.button(icon=icon).props("flat round color=white aria-haspopup=menu")
    with button.props(f'aria-label="{t(f"layout.{name}")}"'), ui.menu().props("auto-close"):
        for choice, label in choices.items():
            item = ui.menu_item(label, on_click=partial(choose, choice)).props("role=menuitem")
            if choice == current:
                item.classes("chosen").props("aria-current=true")


def heading(text: str, level: int = 2) -> ui.element:
    """A heading; level 1 is the page's title."""
    return TextElement(tag=f"h{level}", text=text).classes("heading")


def note(key: str, **values: object) -> ui.label:
    """A translated sentence that explains the element above it."""
    return ui.label(t(key, **values)).classes("note")


def show_command(label: str, command: str) -> None:
    """The terminal command that does the same as the page."""
    ui.label(label).classes("name")
    ui.label(command).classes("code")


def show_error(error: BaseException) -> ui.element:
    """An error as Penna's three sentences. An unexpected one is logged and shown by its class only."""
    if not isinstance(error, PennaError):
        _LOG.error("a page failed", exc_info=error)
        error = PennaError(
            f"Something in Penna failed: {type(error).__name__}.",
            "This is a bug in Penna, not in your input; the terminal that runs the studio shows the details.",
            "Try again, or reload the page.",
        )
    with ui.element("section").classes("problem").props(f'role=alert aria-label="{t("layout.problem")}"') as card:
        ui.label(error.happened).classes("happened")
        for part in (error.expected, error.advice):
            if part:
                ui.label(part)
    return card


@contextmanager
def errors_shown_in(place: ui.element) -> Generator[None]:
    """Clear ``place``, and show an error that the block raises there. The error goes no further."""
    place.clear()
    try:
        yield
    except asyncio.CancelledError:
        raise
    except Exception as error:
        with place:
            show_error(error)


@contextmanager
def busy(text: str | None = None) -> Generator[ui.element]:
    """Show a spinner while the block runs."""
    with ui.row().classes("busy").props("role=status") as shown:
        ui.spinner(size="1.4em").props("aria-hidden=true")
        ui.label(text or t("layout.busy"))
    try:
        yield shown
    finally:
        if not shown.is_deleted:
            shown.delete()


async def in_thread(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Run a call of at most some seconds in a thread. Use ``Studio.background`` for work of minutes."""
    return await asyncio.to_thread(function, *arguments, **named)


def run_select(
    studio: Studio,
    *,
    tasks: Sequence[str] | None = None,
    label: str | None = None,
    remember: str = "run",
    preselected: str | None = None,
    on_change: Callable[[str], Any] | None = None,
) -> ui.select | None:
    """A choice among the usable runs of these tasks; the browser's last choice under ``remember`` is preselected.

    ``preselected`` (from the address) has precedence; an error is shown if no such run exists. Without any usable run,
    a note is shown and the result is None.
    """
    names = [row.name for row in usable_runs(studio, tasks)]
    if not names:
        note("layout.no-run")
        return None
    key = f"chosen.{remember}"
    if preselected and preselected not in names:
        show_error(RunError(*missing_run_message(preselected, studio.runs_dir)))
    chosen = next((name for name in (preselected, app.storage.user.get(key)) if name in names), names[0])

    def changed(value: str) -> Any:
        app.storage.user[key] = value
        return on_change(value) if on_change is not None else None

    select = ui.select(
        names, value=chosen, label=label or t("layout.run"), on_change=lambda event: changed(event.value)
    )
    return select.props("outlined dense options-dense").classes("run-select")


def usable_runs(studio: Studio, tasks: Sequence[str] | None = None) -> list[RunRow]:
    """The runs of these tasks (all tasks if None) that have a checkpoint."""
    rows = [row for row in studio.runs() if row.task is not None and (row.path / "last").is_symlink()]
    return [row for row in rows if tasks is None or row.task in tasks]
