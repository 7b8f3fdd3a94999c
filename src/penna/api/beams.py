"""Beam search, traced: all partial texts that it considered, as a tree, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from penna.api.generate import prompt_request
from penna.config.generation import GenerationConfig
from penna.errors import RecipeError
from penna.generate.beam_tree import BeamTree, BeamTreeBuilder, TreeStep
from penna.generate.engine import generate
from penna.generate.request import BeamStep, Finish
from penna.loading import LoadedModel


def trace_beam_search(
    loaded: LoadedModel, prompt: str, config: GenerationConfig, *, on_event: Callable[[TreeStep], None] = lambda _: None
) -> BeamTree:
    """Search for the likeliest continuations of a prompt; ``on_event`` receives each step when it is done.

    With as many beams as partial texts in any step but the last, the search is exhaustive: the best text is the best of
    all. An empty prompt starts a document. Raises RecipeError if ``config`` is no beam search, DeviceError if there is
    not enough memory, and the errors of ``penna.api.generate.prompt_request``.
    """
    if config.strategy != "beam":
        raise RecipeError(
            f"num_beams = {config.num_beams} is not a beam search.",
            "A beam search needs at least 2 beams; with one it is greedy decoding.",
            "Use, for example, --num-beams 4.",
        )
    if not config.max_new_tokens:
        raise RecipeError(
            "max_new_tokens = 0 leaves nothing to search.",
            "At least one step is needed.",
            "Use, for example, --max-new-tokens 8.",
        )
    request = prompt_request(loaded, prompt, config, report_beams=True)
    builder = BeamTreeBuilder(loaded.require_tokenizer(), request, prompt)
    for event in generate(loaded.model, [request]):
        if isinstance(event, BeamStep):
            on_event(builder.add_step(event))
        elif isinstance(event, Finish):
            return builder.finish(event)
    raise AssertionError("a request ends with a Finish")


def beam_tree_to_json(tree: BeamTree) -> dict[str, Any]:
    """A whole tree as JSON."""
    return {
        "prompt": tree.prompt,
        "prompt_ids": list(tree.prompt_ids),
        "settings": tree.config.explicit_settings(),
        "steps": [
            {
                "step": step.number,
                "held": step.held,
                "nodes": [
                    {**asdict(node), "token_probability": node.token_probability, "probability": node.probability}
                    for node in step.nodes
                ],
            }
            for step in tree.steps
        ],
        "texts": [{**asdict(found), "probability": math.exp(found.logprob)} for found in tree.texts],
    }
