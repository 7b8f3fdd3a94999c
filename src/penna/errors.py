"""The errors that Penna raises for its users.

A message has three parts: what happened, with the value; what was expected; what to do. The command line prints the
message (``--debug`` adds the traceback) and exits with the class's ``exit_code``.
"""

import re


class PennaError(Exception):
    """Base class of all errors that a user can act on."""

    exit_code = 2  # the user can fix it; 1 means that training itself failed

    def __init__(self, happened: str, expected: str = "", advice: str = "") -> None:
        self.happened, self.expected, self.advice = map(_without_double_stops, (happened, expected, advice))
        super().__init__("\n".join(part for part in (self.happened, self.expected, self.advice) if part))


def _without_double_stops(part: str) -> str:
    """Drop the second full stop from lines that end in a quoted sentence."""
    return re.sub(r"(?<![./])\.\.$", ".", part, flags=re.MULTILINE)


class RecipeError(PennaError):
    """A recipe, option or setting is invalid."""


class DataError(PennaError):
    """Text or token shards are unreadable, damaged or too small."""


class TokenizerError(PennaError):
    """A tokenizer cannot be trained or read, or does not fit the model."""


class RunError(PennaError):
    """A run folder is missing, damaged or in use, or its name is taken."""


class InteropError(PennaError):
    """A model in another tool's format cannot be read or written."""


class DeviceError(PennaError):
    """A device is missing, memory or disk is too small, or a path is not writable."""


class TrainingError(PennaError):
    """Training cannot continue, for example because the loss is not finite."""

    exit_code = 1
