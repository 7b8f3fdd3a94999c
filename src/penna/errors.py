"""The errors Penna raises on purpose.

Every message has three parts: what happened, with the value; what was expected; what to do. The command line prints
the message alone (``--debug`` adds the traceback) and exits with the class's ``exit_code``: 2 when the person can mend
it, 1 when the fault is ours.
"""

import re


class PennaError(Exception):
    """Base of all errors Penna raises on purpose."""

    exit_code = 2

    def __init__(self, happened: str, expected: str = "", todo: str = "") -> None:
        self.happened, self.expected, self.todo = map(_ended_once, (happened, expected, todo))
        super().__init__("\n".join(part for part in (self.happened, self.expected, self.todo) if part))


def _ended_once(part: str) -> str:
    """A part of a message whose lines end in one full stop, where what they quote brought one along."""
    return re.sub(r"(?<![./])\.\.$", ".", part, flags=re.MULTILINE)


class RecipeError(PennaError):
    """A recipe or an override that cannot be followed."""


class DataError(PennaError):
    """Text or shards that cannot be read, or are too small for what was asked."""


class TokenizerError(PennaError):
    """A tokenizer that cannot be trained, read, or does not fit."""


class RunError(PennaError):
    """A run folder that is missing, taken, damaged, or in use."""


class InteropError(PennaError):
    """A foreign model that cannot be read, or a model no foreign class can hold."""


class DeviceError(PennaError):
    """A device that is not there, too little memory or disk, or a place that may not be written."""


class TrainingError(PennaError):
    """Training that cannot go on, such as a loss that is not finite."""

    exit_code = 1
