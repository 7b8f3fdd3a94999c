"""What a method of attribution gives: a score for each token that may have mattered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Method = Literal[
    "occlusion",
    "gradient-x-input",
    "integrated-gradients",
    "information",
    "attention",
    "rollout",
    "value-zeroing",
    "random",  # no method: the floor that others are held against
]
METHODS: tuple[Method, ...] = tuple(method for method in get_args(Method) if method != "random")
DEFAULT_METHODS: tuple[Method, ...] = ("occlusion", "integrated-gradients")
SIGNED: frozenset[Method] = frozenset({"occlusion", "gradient-x-input", "integrated-gradients", "random"})
"""Methods that tell what spoke for an answer (positive) from what spoke against it; others say how much it counted."""


@dataclass(frozen=True)
class Scores:
    """The scores of one method on one question."""

    method: Method
    values: tuple[float, ...]  # one for each token of the question's ``features``
    about: dict[str, Any] = field(default_factory=dict)  # settings and checks, for JSON: steps, gap, layer, ...
