"""How texts are written, as flags: one for every field of GenerationConfig.

Name, description and type of each come from the model itself, and the values are checked there.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any


def add_generation_arguments(parser: argparse.ArgumentParser, own: Mapping[str, str]) -> None:
    """A flag for every setting of writing, and ``--greedy``; ``own`` says what counts where the run says nothing."""
    from penna.config.generation import GenerationConfig, setting_type

    group = parser.add_argument_group(
        "how texts are written",
        "What is given here is laid over the run's own settings (its generation_config.json); without those, what "
        "stands in brackets counts. Where it chooses another strategy than the run's, all that chose the run's gives "
        "way: --num-beams 4 is enough where the run draws at a temperature, and --top-p 0.9 where it is greedy, which "
        "then draws at temperature 1. --top-k none takes a limit of the run away. In texts, \\n is a line end.",
    )
    alone = group.add_mutually_exclusive_group()
    alone.add_argument("--greedy", action="store_true", help="always the likeliest token: --temperature 0")
    for name, field in GenerationConfig.model_fields.items():
        kind, target = setting_type(name), alone if name == "temperature" else group
        usual = own.get(name, "" if field.default is None or kind.is_repeatable else str(field.default).lower())
        described = (field.description or "").rstrip(".")
        described = described[:1].lower() + described[1:] + ("; repeatable" if kind.is_repeatable else "")
        target.add_argument(
            f"--{name.replace('_', '-')}",
            action="append" if kind.is_repeatable else "store",
            metavar=kind.metavar,
            help=(described + (f" ({usual})" if usual else "")).replace("%", "%%"),
        )


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that flags give. Raises RecipeError for a value of another kind."""
    from penna.config.generation import GenerationConfig, parse_texts, parse_value

    given: dict[str, Any] = {}
    for name in GenerationConfig.model_fields:
        words = getattr(arguments, name)
        if words is not None:
            given[name] = parse_texts(name, words) if isinstance(words, list) else parse_value(name, words)
    return {**given, "temperature": 0.0} if arguments.greedy else given
