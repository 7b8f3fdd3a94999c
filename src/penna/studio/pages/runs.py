"""The list of runs: what each is, how far it is, and the best it came to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import quote

from nicegui import ui

from penna.studio.frame import frame, in_thread, meaning, problem
from penna.studio.jobs import from_here
from penna.studio.state import Best, RunRow, Studio
from penna.studio.words import add as add_words
from penna.studio.words import t

WORDS = {
    "runs.means": (
        "Every run in {folder}, the one at work first. The best figure is measured on text the run did not learn from.",
        "{folder}에 있는 모든 학습 기록입니다. 진행 중인 것이 먼저 나옵니다. "
        "최고 수치는 학습에 쓰지 않은 글에서 잰 값입니다.",
        "{folder} 中的所有训练，进行中的排在最前。最佳指标是在训练未使用的文本上测得的。",
    ),
    "runs.none": (
        "There are no runs in {folder} yet. New run trains one from a text of yours.",
        "{folder}에 아직 학습 기록이 없습니다. '새 학습'에서 글로 모델을 학습시켜 보세요.",
        "{folder} 中还没有训练。可在“新建训练”中用您的文本训练一个。",
    ),
    "runs.table": ("Runs", "학습 기록 표", "训练列表"),
    "runs.filter": ("Name contains", "이름에 포함된 말", "名称包含"),
    "runs.shown": (
        "{n} of {all} runs are shown.",
        "학습 기록 {all}개 중 {n}개를 보여 줍니다.",
        "共 {all} 个训练，显示 {n} 个。",
    ),
    "runs.name": ("Name", "이름", "名称"),
    "runs.state": ("State", "상태", "状态"),
    "runs.task": ("Task", "과제", "任务"),
    "runs.data": ("Data", "데이터", "数据"),
    "runs.progress": ("Progress", "진행", "进度"),
    "runs.best": ("Best figure", "최고 수치", "最佳指标"),
    "runs.changed": ("Last written", "마지막 기록", "最近写入"),
    "state.preparing": ("preparing", "준비 중", "准备中"),
    "state.training": ("training", "학습 중", "训练中"),
    "state.interrupted": ("interrupted", "중단됨", "已中断"),
    "state.stopped": ("stopped", "멈춤", "已停止"),
    "state.finished": ("finished", "완료", "已完成"),
    "state.imported": ("imported", "가져옴", "已导入"),
    "state.failed": ("failed", "실패", "失败"),
    "state.damaged": ("damaged", "손상됨", "已损坏"),
    "task.pretrain": ("language model", "언어 모델", "语言模型"),
    "task.chat": ("chat", "대화", "对话"),
    "task.classify": ("classify", "분류", "分类"),
    "task.complete": ("complete", "이어 쓰기", "续写"),
    "figure.bits_per_byte": ("{value:.3f} bits per byte", "바이트당 {value:.3f}비트", "每字节 {value:.3f} 比特"),
    "figure.accuracy": ("{value:.1%} correct", "정확도 {value:.1%}", "准确率 {value:.1%}"),
    "figure.loss": ("loss {value:.3f}", "손실 {value:.3f}", "损失 {value:.3f}"),
    "runs.at-step": ("at step {step:,}", "{step:,}단계", "第 {step:,} 步"),
}
_REFRESH = 3.0  # seconds between looks at the folder
_MOST = 200  # runs shown at once; the filter finds the others


def add(studio: Studio) -> None:
    """Put the page in place."""
    add_words(WORDS)

    @ui.page("/", response_timeout=20)
    async def runs() -> None:
        rows = await in_thread(studio.runs)
        with frame(studio, "runs"):
            if not rows:
                meaning("runs.none", folder=from_here(str(studio.runs_dir)))
                return
            filtered = ui.input(label=t("runs.filter")).props("outlined dense clearable").classes("run-select")

            @ui.refreshable
            def table(rows: Sequence[RunRow], wanted: str) -> None:
                found = [row for row in rows if wanted in row.name.lower()]
                _table(found[:_MOST])
                if wanted or len(found) > _MOST:
                    meaning("runs.shown", n=min(len(found), _MOST), all=len(rows))

            shown = (rows, "")

            async def look() -> None:
                nonlocal shown
                now = (await in_thread(studio.runs), (filtered.value or "").lower())
                if now != shown and not filtered.is_deleted:
                    shown = now
                    table.refresh(*now)

            table(*shown)
            meaning("runs.means", folder=from_here(str(studio.runs_dir)))
            filtered.on_value_change(look)
            ui.timer(_REFRESH, look)


def state_badge(row: RunRow) -> None:
    """A run's state as a word in a frame."""
    badge = ui.label(t(f"state.{row.state}")).classes("badge")
    if row.is_alive:
        badge.classes("alive")
    elif row.state in ("failed", "damaged"):
        badge.classes("bad")


def best_words(best: Best) -> str:
    """A best figure in words."""
    return t(f"figure.{best.figure}", value=best.value)


def address_of(name: str) -> str:
    """The page of a run."""
    return f"/run/{quote(name)}"


def data_words(data: Sequence[str]) -> str:
    """The files a run learns from, by their last names."""
    names = [path.rstrip("/").rsplit("/", 1)[-1] for path in data]
    return ", ".join(names[:2]) + (f" + {len(names) - 2}" if len(names) > 2 else "")


def _table(rows: Sequence[RunRow]) -> None:
    scrolls = ui.element("div").classes("scrolls").props("tabindex=0 role=region")
    scrolls.props["aria-label"] = t("runs.table")
    with scrolls, ui.element("table").classes("plain stacks"):
        with ui.element("thead"), ui.element("tr"):
            for key in ("name", "state", "task", "data", "progress", "best", "changed"):
                with ui.element("th").props("scope=col"):
                    ui.label(t(f"runs.{key}"))
        with ui.element("tbody"):
            for row in rows:
                with ui.element("tr"):
                    _cells(row)
    for row in rows:
        if row.state == "damaged" and row.problem is not None:
            problem(row.problem)


def _cells(row: RunRow) -> None:
    with _cell("name"):
        ui.link(row.name, address_of(row.name))
    with _cell("state"):
        state_badge(row)
    with _cell("task"):
        ui.label("" if row.task is None else t(f"task.{row.task}"))
    with _cell("data"):
        ui.label(data_words(row.data))
    with _cell("progress"):
        ui.label(f"{row.share:.0%}" if row.step else "")
    with _cell("best"):
        if row.best is not None:
            ui.label(best_words(row.best))
            ui.label(t("runs.at-step", step=row.best.step)).classes("name")
    with _cell("changed"):
        if row.changed:
            ui.label(f"{datetime.fromtimestamp(row.changed):%Y-%m-%d %H:%M}")


def _cell(key: str) -> ui.element:
    cell = ui.element("td")
    cell.props["data-label"] = t(f"runs.{key}")
    return cell
