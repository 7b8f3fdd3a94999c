"""Checks of what a model was trained for. Errors name the model and its task."""

from __future__ import annotations

from penna.config.tasks import ClassifyTask
from penna.errors import RunError, TokenizerError
from penna.loading import LoadedModel
from penna.tokenizer.chat import chat_template
from penna.tokenizer.tokenizer import Tokenizer


def check_can_generate(loaded: LoadedModel) -> None:
    """Raise RunError if the model was not trained to predict the next token."""
    task = loaded.task
    if isinstance(task, ClassifyTask) and task.lm_weight == 0:
        raise RunError(
            f"{loaded.source} was never trained to generate text: its task is {task.kind}, with lm_weight = 0.",
            "Generation needs a model trained to predict the next token.",
            "Use it to classify (`penna classify`), or train one that also generates: --task.lm-weight 0.5.",
        )


def check_can_continue(loaded: LoadedModel) -> None:
    """Raise RunError if the model cannot continue a text because it generates from a source."""
    kind = loaded.task.kind
    if loaded.model.config.arch == "seq2seq":
        raise RunError(
            f"{loaded.source} cannot continue a text: its encoder reads a source, and its task is {kind}.",
            'This needs a model without an encoder (arch = "gpt").',
            f"Use it for its task: `penna {kind} {loaded.source}` to generate, `penna evaluate {loaded.source}` to "
            "measure.",
        )


def need_chat_tokenizer(loaded: LoadedModel) -> Tokenizer:
    """The tokenizer of a model that can chat. Raises TokenizerError without a chat template, TemplateError for an
    invalid one."""
    tokenizer = loaded.require_tokenizer()
    if tokenizer.chat_template is None:
        raise TokenizerError(
            f"{loaded.source} was not trained on dialogues: its task is {loaded.task.kind}, and its tokenizer has no "
            "chat template.",
            "A chat template turns messages into text; models trained on dialogues have one.",
            f"Train one from it: `penna train my.jsonl --task.kind chat --train.init-from {loaded.source}`.",
        )
    chat_template(tokenizer)  # raises if it is invalid
    return tokenizer
