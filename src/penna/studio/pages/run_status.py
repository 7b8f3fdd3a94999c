"""How far a run is: its state, what it has spent of its budget, how fast it is, and what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nicegui import ui

from penna.studio.frame import meaning
from penna.studio.pages.runs import best_words
from penna.studio.state import RunRow
from penna.studio.words import t

WORDS = {
    "status.step": ("Step", "단계", "步数"),
    "status.epoch": ("Epochs", "에포크", "轮数"),
    "status.tokens_per_second": ("Tokens a second", "초당 토큰", "每秒词元"),
    "status.spent": ("Time spent", "걸린 시간", "已用时间"),
    "status.eta": ("Time left", "남은 시간", "剩余时间"),
    "status.memory": ("Memory", "메모리", "内存"),
    "status.best": ("Best figure", "최고 수치", "最佳指标"),
    "status.progress": ("Share of the budget that is spent", "정해진 분량 중 마친 비율", "已完成的预算比例"),
    "status.means": (
        "{share:.0%} of its budget is spent. Time left is reckoned from the time spent so far; memory is what the "
        "training process holds.",
        "정해진 분량의 {share:.0%}를 마쳤습니다. 남은 시간은 지금까지 걸린 시간으로 어림한 것이고, "
        "메모리는 학습 프로세스가 쓰는 양입니다.",
        "已完成预算的 {share:.0%}。剩余时间按已用时间估算；内存是训练进程占用的量。",
    ),
}
_KEYS = ("step", "epoch", "tokens_per_second", "spent", "eta", "memory", "best")
_NONE = "–"


class Status:
    """The figures at the head of a run's page."""

    def __init__(self) -> None:
        with ui.element("div").classes("line"):
            self._badge = ui.label().classes("badge").props("role=status")
            self._bar = ui.linear_progress(value=0, show_value=False).classes("grow").props("rounded size=10px")
            self._bar.props["aria-label"] = t("status.progress")
        self._values: dict[str, ui.label] = {}
        with ui.element("div").classes("figures"):
            for key in _KEYS:
                with ui.element("div").classes("card"):
                    ui.label(t(f"status.{key}")).classes("name")
                    self._values[key] = ui.label(_NONE).classes("value")
        self._means = meaning("status.means", share=0)

    def update(self, row: RunRow, rows: Sequence[dict[str, Any]], memory: int | None) -> None:
        """Show a run as it is now; ``memory`` is what its process holds, in bytes."""
        last = rows[-1] if rows else {}
        speed = next((one["tokens_per_second"] for one in reversed(rows) if "tokens_per_second" in one), None)
        seconds = last.get("seconds")
        left = seconds * (1 - row.share) / row.share if seconds and row.share and row.is_alive else None
        shown = {
            "step": f"{row.step:,}",
            "epoch": f"{last['epoch']:.2f}" if "epoch" in last else _NONE,
            "tokens_per_second": f"{speed:,.0f}" if speed is not None else _NONE,
            "spent": duration(seconds) if seconds is not None else _NONE,
            "eta": duration(left) if left is not None else _NONE,
            "memory": _NONE if memory is None else f"{memory / 1e6:,.0f} MB",
            "best": best_words(row.best) if row.best is not None else _NONE,
        }
        for key, words in shown.items():
            self._values[key].text = words
        self._badge.text = t(f"state.{row.state}")
        self._badge.classes(
            remove="alive bad", add="alive" if row.is_alive else "bad" if row.state in ("failed", "damaged") else ""
        )
        self._bar.value = row.share
        self._means.text = t("status.means", share=row.share)


def duration(seconds: float) -> str:
    """Seconds as a clock has them: 0:42, 12:05, 3:12:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
