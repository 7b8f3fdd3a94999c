"""Completing: a model and texts in, what it writes behind each out, or which of a text's sentences it rates highest.

A run of the task complete reads a text as it learned to. Any other model reads it in a template whose own words say
what is wanted, "TL;DR:" unless another is given (Radford et al. 2019, section 3.6).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from penna.api.capabilities import check_can_generate
from penna.api.generation_defaults import default_settings
from penna.config.generation import GenerationConfig, generation_config
from penna.config.recipe import build_recipe
from penna.config.tasks import CompleteTask, Truncation
from penna.data.examples.example import Example
from penna.errors import DataError, RecipeError
from penna.evaluate.completions import ExampleScores, score_examples
from penna.evaluate.sentences import sentences
from penna.generate.request import Request
from penna.generate.text_stream import TextDelta, generate_texts, request_for, stream_texts
from penna.loading import LoadedModel
from penna.tasks.complete import CompletionFormat
from penna.tokenizer.tokenizer import Tokenizer

ZERO_SHOT = "{prompt}\nTL;DR:"
GREEDY = GenerationConfig(temperature=0)
_HOW_MUCH = ("max_new_tokens", "min_new_tokens")
_NEW_TOKENS = 128  # where the model never learned how long a completion is
_OF_THE_MEAN = 3  # times the mean of those it learned from


@dataclass(frozen=True)
class GeneratedCompletion:
    """What was written behind one text."""

    text: str
    finish: str  # "stop", or "length" where all the tokens allowed were written
    tokens: int
    logprob: float  # natural logarithm of the probability of these tokens under the model


@dataclass(frozen=True)
class RankedSentence:
    """A sentence of a text, and what the model would think of it as its completion of that text."""

    place: int  # among the sentences of the text
    text: str
    logprob: float  # natural logarithm of its probability behind the text, per token
    gain: float  # by how much more likely the text makes it, as a whole: log P(sentence | text) - log P(sentence)


@dataclass(frozen=True)
class Completer:
    """A model at hand, and how it reads what is to be completed."""

    loaded: LoadedModel
    tokenizer: Tokenizer
    format: CompletionFormat

    def new_tokens(self, wanted: int | None = None) -> int:
        """How many tokens may be written; as many must be left free beside the text.

        Unless said, three times the mean of the completions the run learned from, and half a block at most. Raises
        RecipeError where no token of the text would fit beside them.
        """
        longest = self.format.longest(self.tokenizer)
        if wanted is None:
            data = {} if self.loaded.run is None else self.loaded.run.info().get("data", {})
            learned, examples = data.get("train_targets", data.get("train_due", 0)), data.get("train_examples", 0)
            usual = -(-_OF_THE_MEAN * learned // examples) if learned and examples else _NEW_TOKENS
            wanted = min(usual, self.loaded.model.config.block_size // 2, max(longest, 1))
        if not 1 <= wanted <= longest:
            raise RecipeError(
                f"{wanted:,} new tokens leave no room for the text in a block of "
                f"{self.loaded.model.config.block_size:,}."
                if wanted > longest
                else f"{wanted:,} new tokens cannot be written.",
                f"From 1 to {longest:,}: the text, its template and what is written behind it share the block.",
                "Choose another --max-new-tokens.",
            )
        return wanted

    def requests(
        self, texts: Sequence[str], config: GenerationConfig = GREEDY, *, seed: int = 0
    ) -> tuple[list[Request], list[bool]]:
        """What the engine is asked for each text, and whether a part of the text had to be left out.

        Where ``max_new_tokens`` is not among the settings given, it is ``new_tokens()``. Raises DataError for a text
        without a token.
        """
        said = config.max_new_tokens if "max_new_tokens" in config.model_fields_set else None
        new = self.new_tokens(said)
        config = config.model_copy(update={"max_new_tokens": new})
        requests: list[Request] = []
        cut: list[bool] = []
        for number, prompt in enumerate(self.format.prompts(texts, self.tokenizer, [new] * len(texts)), start=1):
            if isinstance(prompt, str):
                raise DataError(
                    f"Text {number} of {len(texts)} cannot be completed: {prompt}.",
                    "A text with at least one word.",
                    "Check that the file is the right one and not empty.",
                )
            requests.append(request_for(self.tokenizer, prompt.ids, config, seed=seed, source=prompt.source))
            cut.append(prompt.cut)
        return requests, cut

    def stream(self, requests: Sequence[Request]) -> Iterator[TextDelta]:
        """What is written for each, in pieces; control tokens and the white space in front are left out."""
        begun = [False] * len(requests)
        for piece in stream_texts(self.loaded.model, self.tokenizer, requests):
            text = piece.text if begun[piece.request] else piece.text.lstrip()
            begun[piece.request] = begun[piece.request] or bool(text)
            yield replace(piece, text=text)

    def generate(self, requests: Sequence[Request]) -> list[GeneratedCompletion]:
        """What is written for each request, many side by side."""
        return [
            GeneratedCompletion(result.text.strip(), result.finish, len(result.ids), result.logprob)
            for result in generate_texts(self.loaded.model, self.tokenizer, requests)
        ]

    def rank(self, text: str) -> list[RankedSentence]:
        """The sentences of a text in their order, with what the model would think of each as its completion.

        How likely a sentence is behind the text says as much of its words as of the text; by how much more likely it
        is than behind no text (its pointwise mutual information with the text) says what the text is about. The
        sentence's end is left out, for a summary may go on behind it; of one longer than half a block the beginning
        counts. Raises DataError where the text has no sentence.
        """
        found = sentences(text)
        targets = self.format.targets(found, self.tokenizer)
        longest = min(self.format.longest(self.tokenizer), self.loaded.model.config.block_size // 2)
        new = max(1, min(longest, max(map(len, targets), default=1)))
        (request,), _ = self.requests([text], GREEDY.model_copy(update={"max_new_tokens": new}))
        places = [place for place, ids in enumerate(targets) if ids]
        begun = [targets[place][:new] for place in places]
        bare = self.format.without_text(self.tokenizer)
        behind, alone = self._scores(request.ids, request.source, begun), self._scores(bare.ids, bare.source, begun)
        return [
            RankedSentence(place, found[place], -float(mean), float(gain))
            for place, mean, gain in zip(places, behind.means, alone.nats - behind.nats, strict=True)
        ]

    def _scores(self, ids: Sequence[int], source: Sequence[int], targets: Sequence[Sequence[int]]) -> ExampleScores:
        """What each target costs behind the same prompt."""
        due = [[False] * len(ids) + [True] * len(target) for target in targets]
        examples = [Example([*ids, *target], mask, source=source) for target, mask in zip(targets, due, strict=True)]
        return score_examples(self.loaded.model, examples)


def completer(
    loaded: LoadedModel, *, template: str | None = None, cut: Truncation | None = None, task: CompleteTask | None = None
) -> Completer:
    """How a model reads what is to be completed: as it learned to, else behind "TL;DR:" as its only instruction.

    ``template`` and ``cut`` take the place of its own, ``task`` of all of them. Raises RecipeError for a template
    without {prompt}, and for a separator that the model does not know; RunError where the model never learned to write.
    """
    check_can_generate(loaded)
    if task is None:
        learned = loaded.task
        task = learned if isinstance(learned, CompleteTask) else CompleteTask(template=ZERO_SHOT, separator="")
    if template is not None and template.count("{prompt}") != 1:
        raise RecipeError(
            f"The template {template!r} has no place for the text."
            if "{prompt}" not in template
            else f"The template {template!r} has several places for the text.",
            "{prompt} stands for it, once.",
            r'Such as --template "{prompt}\nTL;DR:".',
        )
    changes = {name: value for name, value in (("template", template), ("cut", cut)) if value is not None}
    checked = build_recipe({"task": {**task.model_dump(), **changes}}, origin="task").task
    assert isinstance(checked, CompleteTask)
    tokenizer = loaded.require_tokenizer()
    if checked.separator and loaded.model.config.arch == "gpt" and checked.separator not in tokenizer.special_tokens:
        raise RecipeError(
            f"The model does not know the control token {checked.separator!r}.",
            "A separator is one that the model learned; a model that learned none is told by words what to do.",
            r'Leave it empty (task.separator = "") and end the template with such words: "{prompt}\nTL;DR:".',
        )
    return Completer(loaded, tokenizer, CompletionFormat(checked, loaded.model.config))


def completion_settings(loaded: LoadedModel) -> GenerationConfig:
    """How a model writes completions unless told otherwise: by its own settings, greedily where it has none; how much
    is left to ``Completer.new_tokens``."""
    said = default_settings(loaded, GREEDY).explicit_settings()
    return generation_config({name: value for name, value in said.items() if name not in _HOW_MUCH})


def complete(
    loaded: LoadedModel,
    texts: Sequence[str],
    *,
    template: str | None = None,
    cut: Truncation | None = None,
    config: GenerationConfig = GREEDY,
    seed: int = 0,
) -> list[GeneratedCompletion]:
    """What the model writes behind each text, such as a summary behind an article. For one in pieces see Completer."""
    at_hand = completer(loaded, template=template, cut=cut)
    return at_hand.generate(at_hand.requests(texts, config, seed=seed)[0])


def rank_sentences(
    loaded: LoadedModel, text: str, *, template: str | None = None, cut: Truncation | None = None
) -> list[RankedSentence]:
    """The sentences of a text in their order, with what the model would think of each (``Completer.rank``)."""
    return completer(loaded, template=template, cut=cut).rank(text)


def top_sentences(ranked: Sequence[RankedSentence], count: int) -> list[RankedSentence]:
    """The ``count`` sentences that the text makes most more likely, in the order of the text."""
    best = np.argsort([-sentence.gain for sentence in ranked], kind="stable")[:count]
    return [ranked[number] for number in sorted(best)]
