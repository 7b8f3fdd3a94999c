"""Step two of a new run: the recipe, what is learned, how large the model is and for how long it learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

from nicegui import ui

from penna.config.tasks import ChatTask, ClassifyTask, CompleteTask, PretrainTask
from penna.studio.frame import heading, meaning, usable
from penna.studio.pages.new_run_texts import TextChoice
from penna.studio.plans import DEFAULT, SIZES, Choices, OfferedRecipe, check_text, fields_from, written_fields
from penna.studio.state import Studio
from penna.studio.words import t

_TASKS = tuple(
    str(get_args(task.model_fields["kind"].annotation)[0])
    for task in (PretrainTask, ClassifyTask, ChatTask, CompleteTask)
)
_TOKENIZERS = ("bpe", "unigram", "char")


class RecipeChoice:
    """A recipe and what is laid over it."""

    def __init__(
        self, studio: Studio, offered: Sequence[OfferedRecipe], texts: TextChoice, on_change: Callable[[], Any]
    ) -> None:
        self._texts, self._offered = texts, {recipe.name: recipe for recipe in offered}
        self._starts = {row.name: row.path for row in usable(studio)}
        as_is = t("new.as-recipe")
        heading(t("new.recipe-step"))
        meaning("new.recipe-mean")
        with ui.element("div").classes("line"):
            names = {recipe.name: f"{recipe.name}: {recipe.description}" for recipe in offered}
            self._recipe = _select(names, DEFAULT, "new.recipe", on_change).classes("grow")
            tasks = {name: t(f"new.task-{name}") for name in _TASKS}
            self._task = _select({"": as_is, **tasks}, "", "new.task", on_change)
            sizes = {name: t(f"new.size-{name}") for name in SIZES}
            self._size = _select({"": as_is, **sizes}, "", "new.size", on_change)
        with ui.element("div").classes("line"):
            self._minutes = ui.number(t("new.minutes"), min=0.1, step=1, on_change=on_change)
            self._minutes.props("outlined dense clearable debounce=400")
            self._tokenizer = _select(
                {"": as_is, **{name: name for name in _TOKENIZERS}}, "", "new.tokenizer", on_change
            )
            self._vocab = ui.number(t("new.vocab"), min=2, step=1, precision=0, on_change=on_change)
            self._vocab.props("outlined dense clearable debounce=400")
            starts = {"": t("new.from-nothing"), **{name: name for name in self._starts}}
            self._start = _select(starts, "", "new.start", on_change)
        self._more = ui.textarea(t("new.more"), on_change=on_change).props("outlined dense autogrow debounce=500")
        self._more.props["placeholder"] = "train.batch_size = 32"
        self._more.style("width: 100%")
        meaning("new.more-mean")

    def propose_task(self, shape: str) -> None:
        """Choose the task that records of a shape are for, where nobody has chosen one."""
        task = {"labeled": "classify", "messages": "chat", "completion": "complete"}.get(shape)
        if task is not None and not self._task.value and self._offered[self._recipe.value].task != task:
            self._task.value = task

    def checked_choices(self) -> Choices:
        """All that is chosen. Raises what ``choices`` does, and where recipe and text do not go together."""
        choices = self.choices()
        check_text(self._offered[choices.recipe], has_text=bool(choices.texts))
        return choices

    def choices(self) -> Choices:
        """All that is chosen. Raises DataError for a text that is gone, RecipeError for a field that is none."""
        minutes, vocab = self._minutes.value, self._vocab.value
        fields = fields_from(
            [
                ("tokenizer.kind", self._tokenizer.value),
                ("tokenizer.vocab_size", None if vocab is None else int(vocab)),
                ("train.minutes", None if minutes is None else float(minutes)),
            ]
        )
        return Choices(
            texts=self._texts.paths,
            tests=self._texts.tests,
            recipe=self._recipe.value,
            task=self._task.value or None,
            size=self._size.value or None,
            start=self._starts.get(self._start.value),
            fields={**self._texts.fields, **fields, **written_fields(self._more.value or "")},
        )


def _select(options: dict[str, str], value: str, key: str, on_change: Callable[[], Any]) -> ui.select:
    select = ui.select(options, value=value, label=t(key), on_change=on_change)
    return select.props("outlined dense options-dense").classes("run-select")
