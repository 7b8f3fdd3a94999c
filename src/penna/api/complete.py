"""Complete texts with a model, and rank the sentences of a text as its completion.

A run of the task complete reads a text in the format that it was trained on. Any other model reads it in a template
whose words are the instruction, by default "TL;DR:" (Radford et al. 2019, section 3.6).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
from penna.generate.text_stream import TextDelta, TextStyle, generate_texts, request_for, stream_texts
from penna.loading import LoadedModel
from penna.tasks.complete import CompletionFormat
from penna.tokenizer.tokenizer import Tokenizer

ZERO_SHOT = "{prompt}\nTL;DR:"
GREEDY = GenerationConfig(temperature=0)
_LENGTH_SETTINGS = ("max_new_tokens", "min_new_tokens")
_DEFAULT_NEW_TOKENS = 128  # if the training completions are unknown
_MEAN_FACTOR = 3  # times the mean length of the training completions


@dataclass(frozen=True)
class GeneratedCompletion:
    """The completion of one text."""

    text: str
    finish: str  # "stop", or "length" if it has the maximum number of tokens
    tokens: int
    logprob: float  # natural logarithm of the probability of these tokens under the model


@dataclass(frozen=True)
class RankedSentence:
    """A sentence of a text, scored as the completion of that text."""

    place: int  # number among the sentences of the text
    text: str
    logprob: float  # natural logarithm of its probability after the text, per token
    gain: float  # log P(sentence | text) - log P(sentence), of the whole sentence


@dataclass(frozen=True)
class Completer:
    """A loaded model with the format in which it completes texts."""

    loaded: LoadedModel
    tokenizer: Tokenizer
    format: CompletionFormat

    def new_tokens(self, limit: int | None = None) -> int:
        """The maximum number of generated tokens, which are reserved in the block next to the text.

        The default is three times the mean of the training completions, and at most half a block. Raises RecipeError if
        no token of the text would fit.
        """
        longest = self.format.longest(self.tokenizer)
        if limit is None:
            data = {} if self.loaded.run is None else self.loaded.run.info().get("data", {})
            learned, examples = data.get("train_targets", data.get("train_due", 0)), data.get("train_examples", 0)
            default = -(-_MEAN_FACTOR * learned // examples) if learned and examples else _DEFAULT_NEW_TOKENS
            limit = min(default, self.loaded.model.config.block_size // 2, max(longest, 1))
        if not 1 <= limit <= longest:
            raise RecipeError(
                f"{limit:,} new tokens leave no space for the text in a block of "
                f"{self.loaded.model.config.block_size:,}."
                if limit > longest
                else f"--max-new-tokens must be at least 1 (got {limit:,}).",
                f"The text, its template and the completion share the block: use 1 to {longest:,} new tokens.",
                "Change --max-new-tokens.",
            )
        return limit

    def requests(
        self, texts: Sequence[str], config: GenerationConfig = GREEDY, *, seed: int = 0
    ) -> tuple[list[Request], list[bool]]:
        """The engine's request for each text, and whether the text was truncated.

        Unless ``max_new_tokens`` is set, it is ``new_tokens()``. Raises DataError for a text without a token.
        """
        new_tokens = self.new_tokens(config.max_new_tokens if "max_new_tokens" in config.model_fields_set else None)
        config = config.model_copy(update={"max_new_tokens": new_tokens})
        requests: list[Request] = []
        cut: list[bool] = []
        prompts = self.format.prompts(texts, self.tokenizer, [new_tokens] * len(texts))
        for number, prompt in enumerate(prompts, start=1):
            if isinstance(prompt, str):
                raise DataError(
                    f"Text {number} of {len(texts)} cannot be completed: {prompt}.",
                    "A text needs at least one word.",
                    "Check that the file is the right one and not empty.",
                )
            requests.append(request_for(self.tokenizer, prompt.ids, config, seed=seed, source=prompt.source))
            cut.append(prompt.truncated)
        return requests, cut

    def stream(self, requests: Sequence[Request]) -> Iterator[TextDelta]:
        """The completions in parts, without control tokens and leading white space."""
        return stream_texts(self.loaded.model, self.tokenizer, requests, TextStyle(strip_start=True))

    def generate(self, requests: Sequence[Request]) -> list[GeneratedCompletion]:
        """The completions of all requests, in batches."""
        return [
            GeneratedCompletion(result.text.strip(), result.finish, len(result.ids), result.logprob)
            for result in generate_texts(self.loaded.model, self.tokenizer, requests)
        ]

    def rank(self, text: str) -> list[RankedSentence]:
        """The sentences of a text in order, each scored as its completion.

        The probability of a sentence after the text depends on its words as much as on the text; how much more likely
        it is than without the text (its pointwise mutual information with the text) measures what the text is about.
        The end of the sentence is not scored, because a summary may continue; of a sentence longer than half a block
        only the beginning is. Raises DataError if the text has no sentence.
        """
        found = sentences(text)
        targets = self.format.targets(found, self.tokenizer)
        longest = min(self.format.longest(self.tokenizer), self.loaded.model.config.block_size // 2)
        new_tokens = max(1, min(longest, max(map(len, targets), default=1)))
        (request,), _ = self.requests([text], GREEDY.model_copy(update={"max_new_tokens": new_tokens}))
        numbers = [number for number, ids in enumerate(targets) if ids]
        beginnings = [targets[number][:new_tokens] for number in numbers]
        bare = self.format.without_text(self.tokenizer)
        after = self._scores(request.ids, request.source, beginnings)
        alone = self._scores(bare.ids, bare.source, beginnings)
        return [
            RankedSentence(number, found[number], -float(mean), float(gain))
            for number, mean, gain in zip(numbers, after.means, alone.nats - after.nats, strict=True)
        ]

    def _scores(self, ids: Sequence[int], source: Sequence[int], targets: Sequence[Sequence[int]]) -> ExampleScores:
        """The cost of each target after the same prompt."""
        masks = [[False] * len(ids) + [True] * len(target) for target in targets]
        examples = [Example([*ids, *target], mask, source=source) for target, mask in zip(targets, masks, strict=True)]
        return score_examples(self.loaded.model, examples)


def completer(
    loaded: LoadedModel, *, template: str | None = None, cut: Truncation | None = None, task: CompleteTask | None = None
) -> Completer:
    """A model as a completer, in the format it was trained on or else with "TL;DR:" as the only instruction.

    ``template`` and ``cut`` replace its own, ``task`` all of its settings. Raises RecipeError for a template without
    {prompt} and for a separator that the model does not know; RunError if the model cannot generate text.
    """
    check_can_generate(loaded)
    if task is None:
        learned = loaded.task
        task = learned if isinstance(learned, CompleteTask) else CompleteTask(template=ZERO_SHOT, separator="")
    if template is not None and template.count("{prompt}") != 1:
        raise RecipeError(
            f"The template {template!r} contains {{prompt}} {template.count('{prompt}')} times.",
            "{prompt} is replaced by the text and must appear exactly once.",
            r'For example: --template "{prompt}\nTL;DR:".',
        )
    changes = {name: value for name, value in (("template", template), ("cut", cut)) if value is not None}
    checked = build_recipe({"task": {**task.model_dump(), **changes}}, origin="task").task
    assert isinstance(checked, CompleteTask)
    tokenizer = loaded.require_tokenizer()
    if checked.separator and loaded.model.config.arch == "gpt" and checked.separator not in tokenizer.special_tokens:
        raise RecipeError(
            f"The model does not know the control token {checked.separator!r}.",
            "The separator must be a token that the model was trained with.",
            r'Set task.separator = "" and end the template with an instruction in words: "{prompt}\nTL;DR:".',
        )
    return Completer(loaded, tokenizer, CompletionFormat(checked, loaded.model.config))


def completion_settings(loaded: LoadedModel) -> GenerationConfig:
    """The default generation settings of completions: the model's own, or greedy decoding if it has none.

    Lengths are left to ``Completer.new_tokens``.
    """
    changed = default_settings(loaded, GREEDY).explicit_settings()
    return generation_config({name: value for name, value in changed.items() if name not in _LENGTH_SETTINGS})


def complete(
    loaded: LoadedModel,
    texts: Sequence[str],
    *,
    template: str | None = None,
    cut: Truncation | None = None,
    config: GenerationConfig = GREEDY,
    seed: int = 0,
) -> list[GeneratedCompletion]:
    """The completion of each text, such as the summary of an article. For streaming use Completer."""
    model = completer(loaded, template=template, cut=cut)
    return model.generate(model.requests(texts, config, seed=seed)[0])


def rank_sentences(
    loaded: LoadedModel, text: str, *, template: str | None = None, cut: Truncation | None = None
) -> list[RankedSentence]:
    """The sentences of a text in order, each scored as its completion (``Completer.rank``)."""
    return completer(loaded, template=template, cut=cut).rank(text)


def top_sentences(ranked: Sequence[RankedSentence], count: int) -> list[RankedSentence]:
    """The ``count`` sentences with the highest gain, in the order of the text."""
    best = np.argsort([-sentence.gain for sentence in ranked], kind="stable")[:count]
    return [ranked[number] for number in sorted(best)]
