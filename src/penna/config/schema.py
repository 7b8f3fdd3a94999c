"""The recipe as a whole: its sections, their fields, and the errors about them."""

from __future__ import annotations

from types import UnionType
from typing import Any, Self, Union, get_args, get_origin

from pydantic import BaseModel, Field, model_validator

from penna.config.sections import DataConfig, ModelConfig, Section, TokenizerConfig
from penna.config.tasks import CompleteTask, PretrainTask, TaskConfig
from penna.config.training import AdamWConfig, LinearSchedule, OptimConfig, ScheduleConfig, TrainConfig
from penna.config.validation import allowed_choices, describe_errors, did_you_mean
from penna.errors import RecipeError


class Recipe(Section):
    """A complete run: the data, the tokenizer, the model, the task, and how long and with what settings it trains."""

    description: str = Field(default="", description="One line for `penna recipes`.")
    data: DataConfig = DataConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    task: TaskConfig = PretrainTask()
    optim: OptimConfig = AdamWConfig()
    schedule: ScheduleConfig = LinearSchedule()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _check_seq2seq(self) -> Self:
        if self.model.arch != "seq2seq":
            return self
        if self.task.kind in ("pretrain", "classify"):
            raise ValueError(
                f'model.arch = "seq2seq" does not work with task.kind = "{self.task.kind}", which has no source text '
                'or no target text; use model.arch = "gpt"'
            )
        if self.task.kind == "complete" and self.task.separator not in ("", CompleteTask().separator):
            raise ValueError(
                f'task.separator = "{self.task.separator}" does not work with model.arch = "seq2seq", whose encoder '
                "reads the prompt separately; leave it out"
            )
        if self.task.kind == "chat" and self.task.loss_on == "all":
            raise ValueError(
                'task.loss_on = "all" does not work with model.arch = "seq2seq", whose decoder learns only replies; '
                "leave it out"
            )
        return self

    @model_validator(mode="after")
    def _check_windows(self) -> Self:
        if self.task.kind != "pretrain" and self.data.windows != "packed":
            raise ValueError(f'data.windows is for pretraining only, not for task.kind = "{self.task.kind}"')
        return self


SECTIONS = tuple(name for name in Recipe.model_fields if name != "description")


def section_models(section: str) -> list[type[BaseModel]]:
    """The models of a section: one, or one per kind."""
    annotation = Recipe.model_fields[section].annotation
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return [member for member in members if isinstance(member, type) and issubclass(member, BaseModel)]


def find_fields(dotted: str) -> list[Any]:
    """The pydantic fields with a dotted name: one, or one per kind that has it; none for an unknown name."""
    section, _, field = dotted.partition(".")
    if section not in SECTIONS:
        return []
    return [model.model_fields[field] for model in section_models(section) if field in model.model_fields]


def fields_of_kind(section: str, kind: str) -> set[str]:
    """Field names of a section's kind, or of all its kinds if the kind is unknown."""
    models = section_models(section) if section in SECTIONS else []
    for model in models:
        if "kind" in model.model_fields and kind in get_args(model.model_fields["kind"].annotation):
            return set(model.model_fields)
    return {field for model in models for field in model.model_fields}


def unknown_field_error(dotted: str, value: Any) -> RecipeError:
    """The error for a dotted name that no section has."""
    section, _, field = dotted.partition(".")
    advice = "`penna recipes default` prints every field."
    if section not in SECTIONS:
        return RecipeError(
            f"There is no section {section!r} (in {dotted} = {value!r}).",
            _list_sections(),
            did_you_mean(section, SECTIONS).strip() or advice,
        )
    names = sorted({name for model in section_models(section) for name in model.model_fields})
    return RecipeError(
        f"There is no field {dotted} (got {value!r}).",
        f"Fields of {section}: {', '.join(names)}.",
        did_you_mean(field, names, section + ".{}").strip() or advice,
    )


def explain_error(detail: Any) -> tuple[str, str]:
    """One of pydantic's errors as (what happened, what was expected)."""
    # The location of an error in a union has the kind between section and field.
    loc = [str(part) for part in detail["loc"]]
    section = loc[0] if loc else ""
    kind = loc.pop(1) if len(loc) > 1 and section in SECTIONS and len(section_models(section)) > 1 else ""
    dotted, value = ".".join(loc), detail.get("input")
    if detail["type"] == "extra_forbidden":
        if section not in SECTIONS:
            return f"there is no section {section!r}.{did_you_mean(section, SECTIONS)}", _list_sections()
        fields = sorted(fields_of_kind(section, kind))
        of_kind = f" with {section}.kind = {kind!r}" if kind else ""
        return (
            f"there is no field {dotted}{of_kind} (got {value!r}).{did_you_mean(loc[-1], fields, section + '.{}')}",
            f"Fields of {section}{of_kind}: {', '.join(fields)}.",
        )
    if detail["type"] in ("literal_error", "union_tag_invalid"):
        if "tag" in detail["ctx"]:
            dotted, value = f"{dotted}.kind", detail["ctx"]["tag"]
        choices = allowed_choices(detail)
        rule = f"{dotted} must be one of {', '.join(map(repr, choices))} (got {value!r})."
        return rule + did_you_mean(str(value), choices), _describe_field(dotted, kind)
    if detail["type"] == "value_error" and not find_fields(dotted):
        message = str(detail["msg"]).removeprefix("Value error, ")
        if section:
            return f"in [{section}], {message}.", f"The fields of [{section}] must fit together."
        return f"{message}.", "The sections of a recipe must fit together."
    return describe_errors(dotted, [detail]), _describe_field(dotted, kind)


def _list_sections() -> str:
    return f"Sections: {', '.join(SECTIONS)}."


def _describe_field(dotted: str, kind: str = "") -> str:
    """A field's description in the given kind of its section, or in all kinds if the kind is unknown."""
    section, _, name = dotted.partition(".")
    models = section_models(section) if section in SECTIONS else []
    of_kind = [model for model in models if "kind" in model.model_fields and model.model_fields["kind"].default == kind]
    found = [model.model_fields[name] for model in of_kind or models if name in model.model_fields]
    descriptions = {field.description for field in found if field.description}
    return f"{dotted}: {' '.join(sorted(descriptions))}" if descriptions else ""
