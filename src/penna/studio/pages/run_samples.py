"""What a run wrote as it learned: a scrubber over the steps at which it was asked, and the texts of one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nicegui import ui

from penna.studio.frame import heading, meaning
from penna.studio.words import t

WORDS = {
    "samples.title": ("Samples", "예시 글", "样本"),
    "samples.scrub": ("Step of the samples", "예시 글의 단계", "样本的步数"),
    "samples.step": ("Step {step:,}", "{step:,}단계", "第 {step:,} 步"),
    "samples.before": ("Earlier", "이전", "较早"),
    "samples.after": ("Later", "이후", "较晚"),
    "samples.means": (
        "What the model wrote at this step, from the same beginnings all through the run. Move the scrubber to see it "
        "learn.",
        "같은 시작말로 이 단계의 모델이 쓴 글입니다. 막대를 움직이면 배워 가는 모습을 볼 수 있습니다.",
        "模型在这一步根据相同的开头写出的文字。拖动滑块可以看到它的学习过程。",
    ),
}


class Samples:
    """The samples of one run, which grow while it trains."""

    def __init__(self) -> None:
        self._by_step: dict[int, list[dict[str, Any]]] = {}
        with ui.element("section").classes("card") as self._card:
            heading(t("samples.title"))
            with ui.element("div").classes("scrubber"):
                before = ui.button(icon="chevron_left", on_click=lambda: self._move(-1)).props("flat round")
                before.props["aria-label"] = t("samples.before")
                self._slider = ui.slider(min=0, max=0, step=1, value=0, on_change=self._draw)
                self._slider.props["aria-label"] = t("samples.scrub")
                after = ui.button(icon="chevron_right", on_click=lambda: self._move(1)).props("flat round")
                after.props["aria-label"] = t("samples.after")
                self._at = ui.label().classes("badge").props("aria-live=polite")
            self._texts = ui.element("div").classes("samples")
            meaning("samples.means")
        self._card.visible = False

    def update(self, rows: Sequence[dict[str, Any]]) -> None:
        """Take the rows of samples.jsonl; where the last step was looked at, the new last one is."""
        follows = self._place >= len(self._by_step) - 1
        self._by_step = {}
        for row in rows:
            self._by_step.setdefault(row["step"], []).append(row)
        self._card.visible = bool(self._by_step)
        last = max(0, len(self._by_step) - 1)
        self._slider.props["max"] = last
        if follows:
            self._slider.value = last
        self._slider.update()
        self._draw()

    @property
    def _place(self) -> int:
        return int(self._slider.value or 0)

    def _move(self, by: int) -> None:
        self._slider.value = min(max(0, self._place + by), max(0, len(self._by_step) - 1))

    def _draw(self) -> None:
        self._texts.clear()
        steps = list(self._by_step)
        if not steps:
            return
        step = steps[min(self._place, len(steps) - 1)]
        self._at.text = t("samples.step", step=step)
        with self._texts:
            for row in self._by_step[step]:
                with ui.element("p").classes("written"):
                    ui.label(row["prompt"] + row["between"]).props("tag=b")
                    ui.label(row["text"]).props("tag=span")
