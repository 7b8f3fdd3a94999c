"""The shape of a recipe: its sections, and which models and fields each may have."""

from __future__ import annotations

import difflib
import re
from types import UnionType
from typing import Any, Self, Union, get_args, get_origin

from pydantic import BaseModel, Field, model_validator

from penna.config.sections import DataConfig, ModelConfig, Section, TokenizerConfig
from penna.config.tasks import CompleteTask, PretrainTask, TaskConfig
from penna.config.training import AdamWConfig, LinearSchedule, OptimConfig, ScheduleConfig, TrainConfig
from penna.errors import RecipeError


class Recipe(Section):
    """A whole run: what is read, how it becomes tokens, which model learns, how, and for how long."""

    description: str = Field(default="", description="One line for `penna recipes`.")
    data: DataConfig = DataConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    task: TaskConfig = PretrainTask()
    optim: OptimConfig = AdamWConfig()
    schedule: ScheduleConfig = LinearSchedule()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _an_encoder_needs_a_source(self) -> Self:
        if self.model.arch != "seq2seq":
            return self
        if self.task.kind == "pretrain":
            raise ValueError('model.arch = "seq2seq" reads a source, and running text has none: pretraining wants gpt')
        if self.task.kind == "classify":
            raise ValueError('model.arch = "seq2seq" writes behind a source, and a label is not written: take gpt')
        if self.task.kind == "complete" and self.task.separator not in ("", CompleteTask().separator):
            raise ValueError(
                f'task.separator = "{self.task.separator}" does not go with model.arch = "seq2seq": its encoder reads '
                "the prompt apart from what its decoder writes"
            )
        if self.task.kind == "chat" and self.task.loss_on == "all":
            raise ValueError(
                'task.loss_on = "all" does not go with model.arch = "seq2seq": its decoder writes replies alone'
            )
        return self

    @model_validator(mode="after")
    def _what_only_pretraining_has(self) -> Self:
        if self.task.kind != "pretrain" and self.data.windows != "packed":
            raise ValueError(f'data.windows belongs to pretraining; task.kind = "{self.task.kind}" reads examples')
        return self


SECTIONS = tuple(name for name in Recipe.model_fields if name != "description")


def section_models(section: str) -> list[type[BaseModel]]:
    """The models a section may be: one, or one per kind."""
    annotation = Recipe.model_fields[section].annotation
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return [member for member in members if isinstance(member, type) and issubclass(member, BaseModel)]


def find_fields(dotted: str) -> list[Any]:
    """The pydantic fields of a dotted name: one, or one per kind that has it; none where no section does."""
    section, _, field = dotted.partition(".")
    if section not in SECTIONS:
        return []
    return [model.model_fields[field] for model in section_models(section) if field in model.model_fields]


def fields_of_kind(section: str, kind: str) -> set[str]:
    """Field names of a section's kind; of all its kinds where the kind is unknown."""
    for model in section_models(section) if section in SECTIONS else []:
        if "kind" in model.model_fields and kind in get_args(model.model_fields["kind"].annotation):
            return set(model.model_fields)
    # An unknown kind, or a section with one model: nothing to drop, and validation has its say.
    return (
        {field for model in section_models(section) for field in model.model_fields} if section in SECTIONS else set()
    )


# MERGED config.faults: Faults of a recipe in a person's words: the field, the value, what is allowed, the nearest
# spelling.


def unknown_field_error(dotted: str, value: Any) -> RecipeError:
    """The error for a dotted name that no section has."""
    section, _, field = dotted.partition(".")
    if section not in SECTIONS:
        near = difflib.get_close_matches(section, SECTIONS, n=1)
        return RecipeError(
            f"There is no section {section!r} (in {dotted} = {value!r}).",
            f"Sections: {', '.join(SECTIONS)}." + (f" Nearest: {near[0]}." if near else ""),
            "`penna recipes default` prints every field.",
        )
    names = sorted({name for model in section_models(section) for name in model.model_fields})
    near = difflib.get_close_matches(field, names, n=1)
    return RecipeError(
        f"There is no field {dotted} (given {value!r}).",
        f"Fields of {section}: {', '.join(names)}.",
        f"Did you mean {section}.{near[0]}?" if near else "`penna recipes default` prints every field.",
    )


def explain_error(detail: Any) -> tuple[str, str]:
    """One pydantic fault as (what happened, what is expected)."""
    # A union's fault carries the kind between section and field; leave it out of the name.
    loc = [str(part) for part in detail["loc"]]
    section = loc[0] if loc else ""
    if len(loc) > 1 and section in SECTIONS and len(section_models(section)) > 1:
        loc.pop(1)
    dotted = ".".join(loc)
    value = detail.get("input")
    if detail["type"] == "extra_forbidden":
        if section not in SECTIONS:
            error = unknown_field_error(dotted + (".x" if len(loc) == 1 else ""), value)
            near = difflib.get_close_matches(section, SECTIONS, n=1)
            return f"there is no section {section!r}." + (f" Did you mean {near[0]!r}?" if near else ""), error.expected
        kinds = [str(detail["loc"][1])] if len(detail["loc"]) > 2 else []
        fields = fields_of_kind(section, kinds[0]) if kinds else set(section_models(section)[0].model_fields)
        near = difflib.get_close_matches(loc[-1], sorted(fields), n=1)
        of = f" of kind {kinds[0]!r}" if kinds else ""
        return (
            f"{dotted} = {value!r}: no such field{of}." + (f" Did you mean {section}.{near[0]}?" if near else ""),
            f"Fields of {section}{of}: {', '.join(sorted(fields))}.",
        )
    if detail["type"] in ("literal_error", "union_tag_invalid"):
        context = detail["ctx"]
        if "tag" in context:
            dotted, value = f"{dotted}.kind", context["tag"]
        allowed = re.findall(r"'([^']*)'", context.get("expected_tags") or context["expected"])
        near = difflib.get_close_matches(str(value), allowed, n=1)
        said = f"{dotted} = {value!r}: input should be one of {', '.join(map(repr, allowed))}."
        return said + (f" Did you mean {near[0]!r}?" if near else ""), _meaning(dotted)
    message = str(detail["msg"]).removeprefix("Value error, ")
    kind = str(detail["loc"][1]) if len(detail["loc"]) > 2 else ""
    if detail["type"] == "value_error":
        fit = f"The fields of [{section}] must fit together." if section else "A recipe's sections must fit together."
        said = f"{dotted}: {message}." if dotted else f"{message}."
        return said, _meaning(dotted, kind) if find_fields(dotted) else fit
    return f"{dotted} = {value!r}: {message[0].lower()}{message[1:]}.", _meaning(dotted, kind)


def _meaning(dotted: str, kind: str = "") -> str:
    """What a field means, as its section describes it, or as the section's kind does where that is known."""
    section, _, name = dotted.partition(".")
    models = section_models(section) if section in SECTIONS else []
    of_kind = [model for model in models if "kind" in model.model_fields and model.model_fields["kind"].default == kind]
    found = [model.model_fields[name] for model in of_kind or models if name in model.model_fields]
    descriptions = {field.description for field in found if field.description}
    return f"{dotted}: {' '.join(sorted(descriptions))}" if descriptions else ""
