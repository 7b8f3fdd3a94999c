"""What stands around every page: header, ways to the other pages, theme and language; and what pages are built with.

A page draws itself within ``frame``; helpers below it say what a figure means, what went wrong, which run is meant, and
that something is being worked on. Errors come to the reader as Penna's three parts, and never as a traceback.
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
from penna.studio.models import no_run
from penna.studio.state import RunRow, Studio
from penna.studio.words import LANGUAGES, add, language, preferred, t, use_language

P = ParamSpec("P")
T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_THEMES: dict[str, bool | None] = {"auto": None, "light": False, "dark": True}
PLACES = {  # page: its address and icon, in the order of the menu
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
WORDS = {
    "page.runs": ("Runs", "학습 기록", "训练记录"),
    "page.new": ("New run", "새 학습", "新建训练"),
    "page.playground": ("Playground", "실험실", "试写"),
    "page.chat": ("Chat", "대화", "对话"),
    "page.compare": ("Compare", "비교", "比较"),
    "page.explain": ("Explain", "설명", "解释"),
    "page.decoding": ("Decoding lab", "디코딩 실험", "解码实验"),
    "page.classify": ("Classify", "분류", "分类"),
    "page.complete": ("Complete", "이어 쓰기", "续写"),
    "page.glossary": ("Glossary", "용어집", "术语表"),
    "frame.skip": ("Skip to the content", "본문으로 건너뛰기", "跳到正文"),
    "frame.menu": ("Open or close the menu", "메뉴 열기/닫기", "打开或关闭菜单"),
    "frame.pages": ("Pages", "페이지", "页面"),
    "frame.theme": ("Theme", "화면 테마", "主题"),
    "frame.auto": ("As the system", "시스템 설정", "跟随系统"),
    "frame.light": ("Light", "밝게", "浅色"),
    "frame.dark": ("Dark", "어둡게", "深色"),
    "frame.language": ("Language", "언어", "语言"),
    "frame.run": ("Run", "학습 기록", "训练记录"),
    "frame.no-run": (
        "There is no run for this page yet. Train one: New run.",
        "이 페이지에서 쓸 학습 기록이 아직 없습니다. '새 학습'에서 시작하세요.",
        "还没有可用于此页面的训练。请在“新建训练”中开始。",
    ),
    "frame.busy": ("Working…", "처리 중…", "处理中…"),
    "frame.problem": ("This did not work", "처리하지 못했습니다", "操作未成功"),
}


@contextmanager
def frame(studio: Studio, page: str, title: str | None = None) -> Generator[ui.element]:
    """Draw what stands around a page; the block draws the page. Without a title, the page is called t("page.PAGE")."""
    kept = app.storage.user
    use_language(kept.get("language") or preferred(context.client.request.headers.get("accept-language", "")))
    title = t(f"page.{page}") if title is None else title
    ui.page_title(f"{title} · Penna")
    ui.add_head_html(f'<script>document.documentElement.lang = "{language()}";</script>')
    theme = kept.get("theme", "auto")
    ui.dark_mode(_THEMES.get(theme))
    ui.colors(primary="#1d5bb8", negative="#b3261e", positive="#1b6e3c", warning="#8a5a00", dark_page="#15181d")
    with ui.left_drawer(value=False, bordered=True).props("show-if-above width=230 breakpoint=900") as drawer:
        _ways(page)
    with ui.header(elevated=False).classes("bar"):
        menu = ui.button(icon="menu", on_click=drawer.toggle).props("flat round color=white")
        menu.props(f'aria-label="{t("frame.menu")}"')
        ui.link("Penna", "/").classes("brand")
        ui.space()
        _choice("frame.language", "translate", LANGUAGES, language(), lambda code: _keep("language", code))
        themes = {name: t(f"frame.{name}") for name in _THEMES}
        _choice("frame.theme", "contrast", themes, theme, lambda name: _keep("theme", name))
    with ui.element("div").classes("page") as main:
        ui.skip_link(t("frame.skip"), target=main)
        heading(title, 1)
        yield main


def heading(words: str, level: int = 2) -> ui.element:
    """A heading below the page's own, which is of level 1."""
    return TextElement(tag=f"h{level}", text=words).classes("heading")


def meaning(key: str, **values: object) -> ui.label:
    """A sentence that says what the figure above it means."""
    return ui.label(t(key, **values)).classes("meaning")


def problem(error: BaseException) -> ui.element:
    """What went wrong, in Penna's three parts; a fault of ours goes to the log and is named by its kind alone."""
    if not isinstance(error, PennaError):
        _LOG.error("a page failed", exc_info=error)
        error = PennaError(
            f"Something in Penna broke: {type(error).__name__}.",
            "This is a fault of Penna, not yours; the terminal that runs the studio shows where.",
            "Try again, or reload the page.",
        )
    with ui.element("section").classes("problem").props(f'role=alert aria-label="{t("frame.problem")}"') as card:
        ui.label(error.happened).classes("happened")
        for part in (error.expected, error.advice):
            if part:
                ui.label(part)
    return card


@contextmanager
def told_problems(place: ui.element) -> Generator[None]:
    """Show in ``place`` what the block raises, in place of what stood there before; nothing leaves the block."""
    place.clear()
    try:
        yield
    except asyncio.CancelledError:
        raise
    except Exception as error:
        with place:
            problem(error)


@contextmanager
def busy(words: str | None = None) -> Generator[ui.element]:
    """Say that something is worked on, as long as the block lasts."""
    with ui.row().classes("busy").props("role=status") as shown:
        ui.spinner(size="1.4em").props("aria-hidden=true")
        ui.label(words or t("frame.busy"))
    try:
        yield shown
    finally:
        if not shown.is_deleted:
            shown.delete()


async def in_thread(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call what takes moments in a thread, so that pages stay responsive; `Studio.long` is for what takes minutes."""
    return await asyncio.to_thread(function, *arguments, **named)


def run_select(
    studio: Studio,
    *,
    tasks: Sequence[str] | None = None,
    label: str | None = None,
    remember: str = "run",
    wanted: str | None = None,
    on_change: Callable[[str], Any] | None = None,
) -> ui.select | None:
    """A choice among the runs that have a model, of these tasks; what was chosen last stands there again.

    ``wanted``, such as what the address names, goes before that, and is told where it is none of them. Where there are
    no runs, a sentence says so, and None comes back.
    """
    names = [row.name for row in usable(studio, tasks)]
    if not names:
        ui.label(t("frame.no-run")).classes("meaning")
        return None
    key = f"chosen.{remember}"
    if wanted and wanted not in names:
        problem(RunError(*no_run(wanted, studio.runs_dir)))
    chosen = next((name for name in (wanted, app.storage.user.get(key)) if name in names), names[0])

    def changed(value: str) -> Any:
        app.storage.user[key] = value
        return on_change(value) if on_change is not None else None

    select = ui.select(names, value=chosen, label=label or t("frame.run"), on_change=lambda event: changed(event.value))
    return select.props("outlined dense options-dense").classes("run-select")


def usable(studio: Studio, tasks: Sequence[str] | None = None) -> list[RunRow]:
    """The runs that have a model to be used, of these tasks."""
    rows = [row for row in studio.runs() if row.task is not None and (row.path / "last").is_symlink()]
    return [row for row in rows if tasks is None or row.task in tasks]


def add_frame() -> None:
    """Put words and style in place, once for a studio."""
    add(WORDS)
    ui.button.default_props("no-caps")
    app.config.quasar_config["loadingBar"]["skipHijack"] = True  # a bar for every request, which no reader is told of
    ui.add_css(Path(__file__).with_name("studio.css").read_text(encoding="utf-8"), shared=True)


def _ways(here: str) -> None:
    with ui.element("nav").props(f'aria-label="{t("frame.pages")}"').classes("ways"):
        for page, (target, icon) in PLACES.items():
            with ui.link(target=target).classes("way") as way:
                ui.icon(icon).props("aria-hidden=true")
                ui.label(t(f"page.{page}"))
            if page == here:
                way.props("aria-current=page")


def _choice(key: str, icon: str, choices: dict[str, str], chosen: str, on_choice: Callable[[str], None]) -> None:
    """A button in the header that opens a list of choices."""
    button = ui.button(icon=icon).props(f'flat round color=white aria-haspopup=menu aria-label="{t(key)}"')
    with button, ui.menu().props("auto-close"):
        for code, words in choices.items():
            item = ui.menu_item(words, on_click=partial(on_choice, code)).props("role=menuitem")
            if code == chosen:
                item.classes("chosen").props("aria-current=true")


def _keep(what: str, value: str) -> None:
    app.storage.user[what] = value
    ui.navigate.reload()
