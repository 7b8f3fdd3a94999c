"""What a model learned, checked before anything is done with it: each refusal names the model and its task."""

from __future__ import annotations

from penna.config.tasks import ClassifyTask
from penna.errors import RunError, TokenizerError
from penna.loading import LoadedModel
from penna.tokenizer.chat import chat_template
from penna.tokenizer.tokenizer import Tokenizer


def check_can_generate(loaded: LoadedModel) -> None:
    """Raise RunError where a model never learned which token comes next."""
    task = loaded.task
    if isinstance(task, ClassifyTask) and task.lm_weight == 0:
        raise RunError(
            f"{loaded.source} never learned to write: its task is {task.kind}, with lm_weight = 0.",
            "A model that learned which token comes next.",
            "Let it tell classes (`penna classify`), or train one that learns to write as well: --task.lm-weight 0.5.",
        )


def check_can_continue(loaded: LoadedModel) -> None:
    """Raise RunError where a model cannot go on with a text, because it writes from a source."""
    kind = loaded.task.kind
    if loaded.model.config.arch == "seq2seq":
        raise RunError(
            f"{loaded.source} cannot go on with a text: its encoder reads a source, and its task is {kind}.",
            'A model without an encoder (arch = "gpt").',
            f"Use it for its task: `penna {kind} {loaded.source}` to write, `penna evaluate {loaded.source}` to "
            "measure.",
        )


def need_chat_tokenizer(loaded: LoadedModel) -> Tokenizer:
    """The tokenizer of a model that can chat. Raises TokenizerError where nothing says how turns become text,
    TemplateError where what says it cannot be used."""
    tokenizer = loaded.require_tokenizer()
    if tokenizer.chat_template is None:
        raise TokenizerError(
            f"{loaded.source} learned no dialogues: its task is {loaded.task.kind}, and its tokenizer has no chat "
            "template.",
            "A chat template, which says how turns become text; a model that learned dialogues has one.",
            f"Train one from it: `penna train my.jsonl --task.kind chat --train.init-from {loaded.source}`.",
        )
    chat_template(tokenizer)  # tries it out
    return tokenizer
