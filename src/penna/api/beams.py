"""Beam search, watched: a model and a prompt in, the tree of all partial texts it looked at out, step by step."""

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
    """Search for the likeliest texts behind a prompt; ``listen`` hears of each step as it is done.

    With as many beams as there are partial texts of any step but the last, the search is exhaustive: the best text is
    the best of all. An empty prompt begins a document. Raises RecipeError where ``config`` means no beam search,
    DeviceError where the memory does not hold so many beams, and what ``penna.api.generate.prompt_request`` raises.
    """
    if config.strategy != "beam":
        raise RecipeError(
            f"num_beams = {config.num_beams} is no beam search.",
            "2 beams or more; a single one is what greedy decoding keeps.",
            "Such as --num-beams 4.",
        )
    if not config.max_new_tokens:
        raise RecipeError(
            "max_new_tokens = 0 leaves nothing to search.", "A step or more.", "For example --max-new-tokens 8."
        )
    request = prompt_request(loaded, prompt, config, report_beams=True)
    grower = BeamTreeBuilder(loaded.require_tokenizer(), request, prompt)
    for event in generate(loaded.model, [request]):
        if isinstance(event, BeamStep):
            on_event(grower.add_step(event))
        elif isinstance(event, Finish):
            return grower.finish(event)
    raise AssertionError("a request ends with its Finish")


def beam_tree_to_json(tree: BeamTree) -> dict[str, Any]:
    """A whole tree as plain dictionaries, lists, strings and numbers."""
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
