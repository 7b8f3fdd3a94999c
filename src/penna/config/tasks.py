"""The task section of a recipe: what is learned. Each ``kind`` has only the options that apply to it."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from penna.config.sections import Section

_KIND = "What the model learns: pretrain, classify, chat or complete."
Truncation = Literal["tail", "head", "middle"]


def _check_template(template: str) -> str:
    if template.count("{prompt}") != 1:
        raise ValueError(f"must contain {{prompt}} exactly once, not {template.count('{prompt}')} times")
    return template


_WEIGHTS = "must be none, balanced, or label weights such as spam=4,ham=1"


def _parse_weights(value: Any) -> Any:
    """Parse label weights from the command line's form, ``label=weight,label=weight``."""
    if isinstance(value, str) and value not in ("none", "balanced"):
        pairs = [part.rpartition("=")[::2] for part in value.split(",")]
        value = {label.strip(): weight.strip() for label, weight in pairs}
    if isinstance(value, dict):
        for label, weight in value.items():
            try:
                float(weight)
            except (TypeError, ValueError):
                raise ValueError(f"{_WEIGHTS}; {label or weight!r} has no weight") from None
    elif value not in ("none", "balanced"):
        raise ValueError(_WEIGHTS)
    return value


class PretrainTask(Section):
    """Predict the next token of running text."""

    kind: Literal["pretrain"] = Field(default="pretrain", description=_KIND)


class ClassifyTask(Section):
    """Predict the label of a text or of a pair of texts, and optionally its tokens too (Radford et al. 2018)."""

    kind: Literal["classify"] = Field(default="classify", description=_KIND)
    labels: list[str] = Field(
        default=[], description="The classes, in order; default: the labels of the training data, sorted."
    )
    pooling: Literal["last", "mean"] = Field(
        default="last",
        description="The hidden state that is classified: the last token's (last), or the mean of all (mean).",
    )
    lm_weight: float = Field(
        default=0.5, ge=0, le=1, description="Weight of an additional next-token loss; 0: learn only the label."
    )
    class_weights: Annotated[Literal["none", "balanced"] | dict[str, float], BeforeValidator(_parse_weights)] = Field(
        default="none",
        description="Weight of each class in the loss. none: equal examples. balanced: equal classes. Or weights by "
        "label (spam=4,ham=1).",
    )
    best: Literal["accuracy", "macro_f1"] = Field(
        default="accuracy", description="The validation metric that selects the best checkpoint and drives patience."
    )
    cut: Truncation = Field(
        default="tail",
        description="The part dropped from a text longer than the block: tail, head or middle.",
    )
    subword_sampling: float | None = Field(
        default=None,
        ge=0,
        description="Tokenize the training texts differently in each epoch (subword regularization, unigram tokenizers "
        "only). Segmentations are drawn by their probabilities to this power (Kudo 2018: 0.1 to 0.5); none: always "
        "use the most probable one.",
    )


class ChatTask(Section):
    """Generate the assistant's replies in dialogues."""

    kind: Literal["chat"] = Field(default="chat", description=_KIND)
    template: str = Field(
        default="auto",
        description="The chat template: penna, cls-sep ([CLS]turn[SEP]turn[SEP]) or a jinja file. auto: the "
        "tokenizer's own template, or else penna.",
    )
    loss_on: Literal["replies", "all"] = Field(
        default="replies", description="Learn only the assistant's replies, or every token of the dialogue (all)."
    )


class CompleteTask(Section):
    """Generate a completion after a prompt, such as a summary after its article."""

    kind: Literal["complete"] = Field(default="complete", description=_KIND)
    template: Annotated[str, AfterValidator(_check_template)] = Field(
        default="{prompt}",
        description="The text before the separator; {prompt} is replaced by the record's prompt.",
    )
    separator: str = Field(
        default="<|answer|>",
        description="The control token between prompt and completion. Leave it empty for a plain-text cue in the "
        'template, such as "{prompt}\\nTL;DR:". Not used with seq2seq.',
    )
    cut: Truncation = Field(
        default="tail",
        description="The part dropped from a prompt that does not fit the block with its completion: tail, head or "
        "middle.",
    )


TaskConfig = Annotated[PretrainTask | ClassifyTask | ChatTask | CompleteTask, Field(discriminator="kind")]
