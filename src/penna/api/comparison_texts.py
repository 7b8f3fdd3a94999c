"""Texts of every arm side by side: arms and prompts in, what each arm's first run makes of each prompt out.

The settings are the same for all arms, whatever a run has as its own, and so is the seed of each prompt. A chat model
replies to the prompt, a classifier tells the probabilities of its classes, a model that completes writes what belongs
behind the prompt, any other goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from penna.api.chatting import ChatSettings, Conversation
from penna.api.classifying import classifier
from penna.api.completing import GREEDY, completer
from penna.api.models import load
from penna.api.writing import DEFAULT, write_request
from penna.compare.experiments.arms import Arm
from penna.compare.experiments.comparison import ArmText, PromptTexts
from penna.config.generation import GenerationConfig
from penna.data.inspection.findings import plural
from penna.errors import DataError, PennaError
from penna.exchange.load import LoadedModel
from penna.generate.writing import write

Say = Callable[[str], None]
_CLASSES = 5  # the likeliest, told


def write_texts(
    arms: Sequence[Arm],
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    seed: int = 0,
    device: str = "auto",
    say: Say = lambda _: None,
) -> list[PromptTexts]:
    """What each arm makes of each prompt; prompt number n is written with the seed ``seed + n`` by all.

    An arm that cannot is told with the reason; the others are written. No model is loaded where there is no prompt.
    """
    if not prompts:
        return []
    by_arm: list[list[ArmText]] = []
    for arm in arms:
        run = arm.first
        say(f"Texts of {arm.name} ({run.name})")
        try:
            loaded = load(str(run.folder.path), device=device)
            made = [_text(loaded, prompt, max_new_tokens, seed + number) for number, prompt in enumerate(prompts)]
        except PennaError as error:  # of the run itself: no checkpoint, or a damaged one
            made = [(None, error.happened)] * len(prompts)
        by_arm.append([ArmText(arm.name, run.name, text, note) for text, note in made])
    return [
        PromptTexts(prompt, seed + number, tuple(texts[number] for texts in by_arm))
        for number, prompt in enumerate(prompts)
    ]


def text_settings(kind: str, max_new_tokens: int, seed: int) -> str:
    """How texts of a task are written, for people."""
    if kind == "classify":
        return f"the {_CLASSES} likeliest classes with their probabilities"
    config, what = {
        "chat": (ChatSettings().generation, "replies"),
        "complete": (GREEDY, "completions"),
    }.get(kind, (DEFAULT, "continuations"))
    drawn = "greedy" if config.temperature == 0 else f"temperature {config.temperature:g}, seeds from {seed}"
    return f"{what} of at most {plural(max_new_tokens, 'token', 'tokens')}, {drawn}, the same for every arm"


def _text(loaded: LoadedModel, prompt: str, max_new_tokens: int, seed: int) -> tuple[str | None, str]:
    """A text and how it ended, or why there is none."""
    try:
        match loaded.task.kind:
            case "classify":
                return _classes(loaded, prompt)
            case "chat":
                return _reply(loaded, prompt, max_new_tokens, seed)
            case "complete":
                return _completion(loaded, prompt, max_new_tokens, seed)
            case _:
                return _continuation(loaded, prompt, max_new_tokens, seed)
    except PennaError as error:
        return None, error.happened


def _continuation(loaded: LoadedModel, prompt: str, max_new_tokens: int, seed: int) -> tuple[str, str]:
    request = write_request(loaded, prompt, _as_long(DEFAULT, max_new_tokens), seed=seed)
    (written,) = write(loaded.model, loaded.need_tokenizer(), [request], show_special=True)
    return written.text, _ending(written.finish)


def _reply(loaded: LoadedModel, prompt: str, max_new_tokens: int, seed: int) -> tuple[str, str]:
    if not prompt.strip():
        raise DataError("A reply needs a line to reply to, and the prompt is empty.")
    settings = ChatSettings()
    generation = _as_long(settings.generation, max_new_tokens)
    conversation = Conversation(loaded, replace(settings, generation=generation, seed=seed))
    text = "".join(conversation.say(prompt))
    assert conversation.last_reply is not None
    return text, _ending(conversation.last_reply.finish)


def _completion(loaded: LoadedModel, prompt: str, max_new_tokens: int, seed: int) -> tuple[str, str]:
    at_hand = completer(loaded)
    room = min(max_new_tokens, at_hand.form.longest(at_hand.tokenizer))
    requests, _ = at_hand.requests([prompt], _as_long(GREEDY, room), seed=seed)
    (completed,) = at_hand.write(requests)
    return completed.text, _ending(completed.finish)


def _classes(loaded: LoadedModel, prompt: str) -> tuple[str, str]:
    found = classifier(loaded).classify([prompt])
    ranked = sorted(zip(found.labels, found.probabilities[0].tolist(), strict=True), key=lambda pair: -pair[1])
    return "\n".join(f"{label} {probability:.1%}" for label, probability in ranked[:_CLASSES]), ""


def _as_long(config: GenerationConfig, max_new_tokens: int) -> GenerationConfig:
    return config.model_copy(update={"max_new_tokens": max_new_tokens})


def _ending(finish: str) -> str:
    return "ended" if finish == "stop" else ""
