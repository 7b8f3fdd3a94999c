"""The panels of a run's page: status, curves and samples. Each is updated while the run trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nicegui import ui

from penna.studio.charts import line_chart, show_chart
from penna.studio.i18n import t
from penna.studio.layout import heading, note
from penna.studio.pages.runs import best_text, state_class
from penna.studio.workspace import RunRow, thin

_VALUES = ("step", "epoch", "tokens_per_second", "elapsed", "eta", "memory", "best")
_NONE = "–"
METRICS = ("loss", "bits_per_byte", "accuracy", "macro_f1", "learning_rate", "tokens_per_second")
AXES = ("step", "epoch", "tokens", "seconds")
_MAX_POINTS = 600  # of a line


class Status:
    """State, progress, speed, memory and best metric of a run."""

    def __init__(self) -> None:
        with ui.element("div").classes("line"):
            self._badge = ui.label().classes("badge").props("role=status")
            self._bar = ui.linear_progress(value=0, show_value=False).classes("grow").props("rounded size=10px")
            self._bar.props["aria-label"] = t("status.progress")
        self._values: dict[str, ui.label] = {}
        with ui.element("div").classes("metrics"):
            for key in _VALUES:
                with ui.element("div").classes("card"):
                    ui.label(t(f"status.{key}")).classes("name")
                    self._values[key] = ui.label(_NONE).classes("value")
        self._note = note("status.note", share=0)

    def update(self, row: RunRow, rows: Sequence[dict[str, Any]], memory: int | None) -> None:
        """Show the state of a run; ``memory`` is that of its process, in bytes."""
        last = rows[-1] if rows else {}
        speed = next((each["tokens_per_second"] for each in reversed(rows) if "tokens_per_second" in each), None)
        seconds = last.get("seconds")
        left = seconds * (1 - row.share) / row.share if seconds and row.share and row.is_alive else None
        values = {
            "step": f"{row.step:,}",
            "epoch": f"{last['epoch']:.2f}" if "epoch" in last else _NONE,
            "tokens_per_second": f"{speed:,.0f}" if speed is not None else _NONE,
            "elapsed": clock(seconds) if seconds is not None else _NONE,
            "eta": clock(left) if left is not None else _NONE,
            "memory": _NONE if memory is None else f"{memory / 1e6:,.0f} MB",
            "best": best_text(row.best) if row.best is not None else _NONE,
        }
        for key, text in values.items():
            self._values[key].text = text
        self._badge.text = t(f"state.{row.state}")
        self._badge.classes(remove="alive bad", add=state_class(row))
        self._bar.value = row.share
        self._note.text = t("status.note", share=row.share)


def clock(seconds: float) -> str:
    """Seconds as 0:42, 12:05 or 3:12:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Curves:
    """A metric of the log over steps, epochs, tokens or time."""

    def __init__(self) -> None:
        self._rows: Sequence[dict[str, Any]] = ()
        with ui.element("section").classes("card"):
            heading(t("curves.title"))
            with ui.element("div").classes("line"):
                self._metric = ui.select({"loss": t("curves.loss")}, value="loss", label=t("curves.metric"))
                axes = {axis: t(f"curves.{axis}") for axis in AXES}
                self._axis = ui.select(axes, value="step", label=t("curves.axis"))
                for select in (self._metric, self._axis):
                    select.props("outlined dense options-dense").classes("run-select")
                    select.on_value_change(self._draw)
            self._chart = show_chart(line_chart({}, t("curves.step"), ""), t("curves.title"))
            self._note = note("curves.none")

    def update(self, rows: Sequence[dict[str, Any]]) -> None:
        """Show the rows of metrics.jsonl."""
        self._rows = rows
        logged = [metric for metric in METRICS if any(metric in row for row in rows[-50:])]
        if logged and list(self._metric.options) != logged:
            chosen = self._metric.value if self._metric.value in logged else logged[0]
            self._metric.set_options({metric: t(f"curves.{metric}") for metric in logged}, value=chosen)
        self._draw()

    def _draw(self) -> None:
        metric, axis = str(self._metric.value), str(self._axis.value)
        splits = ("train",) if metric == "learning_rate" else ("train", "valid")  # the learning rate is the same
        series = {t(f"curves.{split}"): thin(self._points(split, metric, axis), _MAX_POINTS) for split in splits}
        series = {name: points for name, points in series.items() if points}
        options = line_chart(series, t(f"curves.{axis}"), "")
        self._chart.options["series"] = options["series"]
        self._chart.options["xAxis"]["name"] = t(f"curves.{axis}")
        self._chart.update()
        last_values = ", ".join(f"{name} {points[-1][1]:.4g}" for name, points in series.items())
        self._chart.props["aria-label"] = f"{t(f'curves.{metric}')}: {last_values}"
        self._note.text = t(f"curves.{metric}-note") if self._rows else t("curves.none")

    def _points(self, split: str, metric: str, axis: str) -> list[tuple[float, float]]:
        return [
            (row[axis], row[metric])
            for row in self._rows
            if row.get("split") == split and metric in row and axis in row
        ]


class Samples:
    """The samples of a run: a slider over the steps, and the texts of one step."""

    def __init__(self) -> None:
        self._by_step: dict[int, list[dict[str, Any]]] = {}
        with ui.element("section").classes("card") as self._card:
            heading(t("samples.title"))
            with ui.element("div").classes("scrubber"):
                earlier = ui.button(icon="chevron_left", on_click=lambda: self._move(-1)).props("flat round")
                earlier.props["aria-label"] = t("samples.earlier")
                self._slider = ui.slider(min=0, max=0, step=1, value=0, on_change=self._draw)
                self._slider.props["aria-label"] = t("samples.slider")
                later = ui.button(icon="chevron_right", on_click=lambda: self._move(1)).props("flat round")
                later.props["aria-label"] = t("samples.later")
                self._step = ui.label().classes("badge").props("aria-live=polite")
            self._texts = ui.element("div").classes("samples")
            note("samples.note")
        self._card.visible = False

    def update(self, rows: Sequence[dict[str, Any]]) -> None:
        """Show the rows of samples.jsonl. If the last step was shown, the new last step is."""
        is_at_end = self._place >= len(self._by_step) - 1
        self._by_step = {}
        for row in rows:
            self._by_step.setdefault(row["step"], []).append(row)
        self._card.visible = bool(self._by_step)
        last = max(0, len(self._by_step) - 1)
        self._slider.props["max"] = last
        if is_at_end:
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
        self._step.text = t("samples.step", step=step)
        with self._texts:
            for row in self._by_step[step]:
                with ui.element("p").classes("generated"):
                    ui.label(row["prompt"] + row["between"]).props("tag=b")
                    ui.label(row["text"]).props("tag=span")
