"""The forms of the New run page: the text, uploaded or chosen, and the recipe with its changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from nicegui import ui
from nicegui.events import GenericEventArguments

from penna.config.tasks import ChatTask, ClassifyTask, CompleteTask, PretrainTask
from penna.errors import DataError, PennaError
from penna.studio.i18n import t
from penna.studio.layout import heading, in_thread, note, show_error, usable_runs
from penna.studio.text_files import MAX_FILE, PART, ROUTE, TextFile, list_texts, resolve_texts, text_options, too_large
from penna.studio.train_command import (
    DEFAULT,
    SIZES,
    OfferedRecipe,
    RunChoices,
    filled_fields,
    parse_fields,
)
from penna.studio.workspace import Studio

OnChange = Callable[[], Any]
_DOCUMENTS = ("file", "block", "line")
_TASKS = tuple(
    str(get_args(task.model_fields["kind"].annotation)[0])
    for task in (PretrainTask, ClassifyTask, ChatTask, CompleteTask)
)
_TASK_OF_SHAPE = {"labeled": "classify", "messages": "chat", "completion": "complete"}
_TOKENIZERS = ("bpe", "unigram", "char")
STYLE = """
.upload { display: flex; flex-direction: column; gap: 4px; border: 1px dashed var(--line); border-radius: 8px; }
.upload { padding: 10px 12px; }
.upload input { max-width: 100%; color: var(--ink); font: inherit; }
.token { display: inline; border: 1px solid var(--line); border-radius: 4px; padding: 0 2px; margin: 1px; }
.token { background: var(--sheet); white-space: pre-wrap; }
"""
# Sends the chosen files part by part, and emits an event for the page after some of the responses.
_UPLOAD = """
async (event) => {
  const input = event.target, files = [...input.files];
  emit({ begins: true });
  for (const file of files) {
    const digits = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0"));
    const key = digits.join("");
    const address = `ROUTE/${key}?name=${encodeURIComponent(file.name)}&size=${file.size}`;
    let begin = 0, result = {}, number = 0;
    if (file.size > LIMIT) result = { refused: true };
    while (!result.kept && !result.problem && !result.lost && !result.refused) {
      const part = file.slice(begin, begin + PART);
      try {
        const response = await fetch(`${address}&begin=${begin}`, { method: "PUT", body: part });
        result = response.ok ? await response.json() : { lost: true };
      } catch (error) {
        result = { lost: true };
      }
      begin += part.size;
      number += 1;
      const ended = result.kept || result.problem || result.lost;
      if (!ended && number % 8 === 1) emit({ name: file.name, size: file.size, sent: begin });
    }
    emit({ name: file.name, size: file.size, sent: begin, ...result });
  }
  input.value = "";
}
"""


def _upload_field(label: str, on_event: Callable[[dict[str, Any]], Any]) -> None:
    """A field for files. ``on_event`` receives ``begins`` when files are chosen, then ``name``, ``size`` and ``sent``
    bytes of each file and, at its end, one of ``kept`` (its new name), ``problem`` (the error's sentences), ``lost``
    (the connection) and ``refused`` (too large)."""

    def forward(event: GenericEventArguments) -> Any:
        return on_event(event.args)

    script = _UPLOAD.replace("ROUTE", ROUTE).replace("PART", str(PART)).replace("LIMIT", str(MAX_FILE))
    with ui.element("label").classes("upload"):
        ui.label(label).classes("name")
        field = ui.element("input").props("type=file multiple")
        field.on("change", forward, js_handler=script.strip())


class TextForm:
    """Step 1: the texts, and how they are read."""

    def __init__(self, studio: Studio, files: list[TextFile], on_change: OnChange) -> None:
        self._studio, self._on_change = studio, on_change
        heading(t("new.texts"))
        note("new.texts-note")
        self._texts = self._file_select(t("new.choose"), files)
        if studio.data_dir is None:
            note("new.no-folder")
        _upload_field(t("new.upload", most=f"{MAX_FILE // 10**6:,}"), self._on_upload)
        self._progress = ui.label().props("role=status").classes("note")
        self._errors = ui.element("div")
        self._uploaded: list[str] = []  # names of the files that were chosen together
        self._valid_texts = self._file_select(t("new.valid"), files)
        with ui.element("div").classes("line"):
            documents = {name: t(f"new.document-{name}") for name in _DOCUMENTS}
            self._document = ui.select(documents, value="file", label=t("new.document"), on_change=on_change)
            self._document.props("outlined dense options-dense").classes("run-select")
            self._columns = {name: ui.input(t(f"new.{name}-column"), on_change=on_change) for name in ("text", "label")}
            for column in self._columns.values():
                column.props("outlined dense clearable debounce=400")

    @property
    def paths(self) -> tuple[Path, ...]:
        """The training texts. Raises DataError for one that no longer exists."""
        return self._chosen(self._texts)

    @property
    def valid_paths(self) -> tuple[Path, ...]:
        """The validation texts; empty if a part of the training text is held out."""
        return self._chosen(self._valid_texts)

    @property
    def fields(self) -> dict[str, Any]:
        """Recipe fields that say how the texts are read."""
        document = None if self._document.value == "file" else self._document.value
        columns = [(f"data.{name}_column", field.value) for name, field in self._columns.items()]
        return filled_fields([("data.document", document), *columns])

    def _chosen(self, select: ui.select) -> tuple[Path, ...]:
        return tuple(resolve_texts(list(select.value or []), self._studio.data_dir, self._studio.uploads))

    def _file_select(self, label: str, files: list[TextFile]) -> ui.select:
        select = ui.select(text_options(files), value=[], multiple=True, label=label, on_change=self._on_change)
        return select.props("outlined dense use-chips options-dense").style("width: 100%")

    async def _on_upload(self, event: dict[str, Any]) -> None:
        if event.get("begins"):
            self._uploaded.clear()
            self._errors.clear()
            return
        name, size = str(event["name"])[:80], int(event["size"])
        if kept := event.get("kept"):
            self._uploaded.append(kept)
            self._progress.text = t("new.uploaded", name=", ".join(self._uploaded))
            options = text_options(await in_thread(list_texts, self._studio.data_dir, self._studio.uploads))
            self._texts.set_options(options, value=[*self._texts.value, f"upload:{kept}"])
            self._valid_texts.set_options(options, value=self._valid_texts.value)
        elif error := _upload_error(event, name, size):
            self._progress.text = ""
            with self._errors:
                show_error(error)
        else:
            self._progress.text = t("new.uploading", name=name, share=f"{100 * int(event['sent']) / size:.0f}")


def _upload_error(event: dict[str, Any], name: str, size: int) -> PennaError | None:
    """The error of an upload; None if it is still running."""
    if parts := event.get("problem"):
        return DataError(*(str(part) for part in list(parts)[:3]))
    if event.get("refused"):
        return too_large(name, size)
    if event.get("lost"):
        return DataError(
            f"The upload of {name} broke off after {int(event['sent']) / 1e6:,.1f} of {size / 1e6:,.1f} MB.",
            "The connection to the studio must last until the end.",
            "Check that the studio is running, and choose the file again.",
        )
    return None


class RecipeForm:
    """Step 2: the recipe, and fields that override it."""

    def __init__(self, studio: Studio, recipes: Sequence[OfferedRecipe], texts: TextForm, on_change: OnChange) -> None:
        self._texts, self._recipes = texts, {recipe.name: recipe for recipe in recipes}
        self._start_runs = {row.name: row.path for row in usable_runs(studio)}
        as_recipe = {"": t("new.as-recipe")}
        heading(t("new.recipe-step"))
        note("new.recipe-note")
        with ui.element("div").classes("line"):
            names = {recipe.name: f"{recipe.name}: {recipe.description}" for recipe in recipes}
            self._recipe = _select(t("new.recipe"), names, DEFAULT, on_change).classes("grow")
            tasks = {name: t(f"new.task-{name}") for name in _TASKS}
            self._task = _select(t("new.task"), {**as_recipe, **tasks}, "", on_change)
            sizes = {name: t(f"new.size-{name}") for name in SIZES}
            self._size = _select(t("new.size"), {**as_recipe, **sizes}, "", on_change)
        with ui.element("div").classes("line"):
            self._minutes = ui.number(t("new.minutes"), min=0.1, step=1, on_change=on_change)
            tokenizers = {name: name for name in _TOKENIZERS}
            self._tokenizer = _select(t("new.tokenizer"), {**as_recipe, **tokenizers}, "", on_change)
            self._vocab_size = ui.number(t("new.vocab"), min=2, step=1, precision=0, on_change=on_change)
            for field in (self._minutes, self._vocab_size):
                field.props("outlined dense clearable debounce=400")
            starts = {"": t("new.from-nothing"), **{name: name for name in self._start_runs}}
            self._start = _select(t("new.start"), starts, "", on_change)
        self._more = ui.textarea(t("new.more"), on_change=on_change).props("outlined dense autogrow debounce=500")
        self._more.props["placeholder"] = "train.batch_size = 32"
        self._more.style("width: 100%")
        note("new.more-note")

    def suggest_task(self, shape: str) -> None:
        """Choose the task for records of a shape, unless a person has chosen one."""
        task = _TASK_OF_SHAPE.get(shape)
        if task is not None and not self._task.value and self._recipes[self._recipe.value].task != task:
            self._task.value = task

    def checked_choices(self) -> RunChoices:
        """All choices. Raises what ``choices`` raises, and an error if recipe and text do not fit."""
        choices = self.choices()
        choices.check_text(self._recipes[choices.recipe])
        return choices

    def choices(self) -> RunChoices:
        """All choices. Raises DataError for a text that no longer exists, RecipeError for an unknown field."""
        minutes, vocab_size = self._minutes.value, self._vocab_size.value
        fields = filled_fields(
            [
                ("tokenizer.kind", self._tokenizer.value),
                ("tokenizer.vocab_size", None if vocab_size is None else int(vocab_size)),
                ("train.minutes", None if minutes is None else float(minutes)),
            ]
        )
        return RunChoices(
            texts=self._texts.paths,
            valid_texts=self._texts.valid_paths,
            recipe=self._recipe.value,
            task=self._task.value or None,
            size=self._size.value or None,
            init_from=self._start_runs.get(self._start.value),
            fields={**self._texts.fields, **fields, **parse_fields(self._more.value or "")},
        )


def _select(label: str, options: dict[str, str], value: str, on_change: OnChange) -> ui.select:
    select = ui.select(options, value=value, label=label, on_change=on_change)
    return select.props("outlined dense options-dense").classes("run-select")
