"""The section of a recipe that says what is learned: a union told apart by ``kind``.

An option that does not apply to a task cannot be written down.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from penna.config.sections import Section

_KINDS = "What is learned: pretrain, classify, chat or complete."
Truncation = Literal["tail", "head", "middle"]


def _with_one_prompt(template: str) -> str:
    if template.count("{prompt}") != 1:
        raise ValueError(f"{template!r} has {{prompt}} {template.count('{prompt}')} times, where it must stand once")
    return template


_WEIGHTS = "give none, balanced, or weights of labels, such as spam=4,ham=1"


def _weights(value: Any) -> Any:
    """A table as the command line can write it: label=weight, several with commas between."""
    if isinstance(value, str) and value not in ("none", "balanced"):
        pairs = [part.rpartition("=")[::2] for part in value.split(",")]
        value = {label.strip(): weight.strip() for label, weight in pairs}
    if isinstance(value, dict):
        for label, weight in value.items():
            try:
                float(weight)
            except (TypeError, ValueError):
                raise ValueError(f"{label or weight!r} has no weight; {_WEIGHTS}") from None
    elif value not in ("none", "balanced"):
        raise ValueError(_WEIGHTS)
    return value


class PretrainTask(Section):
    """Learn to predict every next token of running text."""

    kind: Literal["pretrain"] = Field(default="pretrain", description=_KINDS)


class ClassifyTask(Section):
    """Learn the label of a text, or of a pair of texts, and to predict its tokens beside it (Radford et al. 2018)."""

    kind: Literal["classify"] = Field(default="classify", description=_KINDS)
    labels: list[str] = Field(
        default=[], description="The classes, in order; those of the training data, sorted, unless given."
    )
    pooling: Literal["last", "mean"] = Field(
        default="last", description="The hidden state the label is read from: the last token's, or the mean of all."
    )
    lm_weight: float = Field(
        default=0.5, ge=0, le=1, description="Weight of the next-token loss beside the label's; 0: the label alone."
    )
    class_weights: Annotated[Literal["none", "balanced"] | dict[str, float], BeforeValidator(_weights)] = Field(
        default="none",
        description="What an example of each class counts: all alike (none), each class as a whole alike (balanced), "
        "or a table of labels and weights (spam=4,ham=1).",
    )
    best: Literal["accuracy", "macro_f1"] = Field(
        default="accuracy", description="What the best checkpoint, and patience, go by on the validation part."
    )
    cut: Truncation = Field(default="tail", description="Which part of a text longer than the block is left out.")
    subword_sampling: float | None = Field(
        default=None,
        ge=0,
        description="Cut the training texts into other pieces each epoch, drawn by their probabilities to this power "
        "(unigram tokenizers; Kudo 2018 has 0.1 to 0.5); none: always into the likeliest.",
    )


class ChatTask(Section):
    """Learn the turns of dialogues."""

    kind: Literal["chat"] = Field(default="chat", description=_KINDS)
    template: str = Field(
        default="auto",
        description="How turns become text: penna, cls-sep ([CLS]turn[SEP]turn[SEP]) or a jinja file; auto: the "
        "tokenizer's own chat template, else penna.",
    )
    loss_on: Literal["replies", "all"] = Field(
        default="replies", description="Learn the assistant's turns alone, or every token of the dialogue."
    )


class CompleteTask(Section):
    """Learn to write a completion behind a prompt, such as a summary behind its article."""

    kind: Literal["complete"] = Field(default="complete", description=_KINDS)
    template: Annotated[str, AfterValidator(_with_one_prompt)] = Field(
        default="{prompt}",
        description="The text in front of the separator; {prompt} stands for the record's.",
    )
    separator: str = Field(
        default="<|answer|>",
        description="The control token between prompt and completion; an empty one is none (the template then ends in "
        'words of its own, such as "{prompt}\\nTL;DR:"). An encoder reads prompts apart, and needs none.',
    )
    cut: Truncation = Field(
        default="tail", description="Which part of a prompt is left out where both do not fit the block."
    )


TaskConfig = Annotated[PretrainTask | ClassifyTask | ChatTask | CompleteTask, Field(discriminator="kind")]
