"""The shape of a recipe: its sections, and which models and fields each may have."""

from __future__ import annotations

from types import UnionType
from typing import Any, Self, Union, get_args, get_origin

from pydantic import BaseModel, Field, model_validator

from penna.config.sections import DataConfig, ModelConfig, Section, TokenizerConfig
from penna.config.tasks import CompleteTask, PretrainTask, TaskConfig
from penna.config.training import AdamWConfig, LinearSchedule, OptimConfig, ScheduleConfig, TrainConfig


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


def fields_named(dotted: str) -> list[Any]:
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
