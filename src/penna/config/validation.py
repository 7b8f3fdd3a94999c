"""Pydantic's validation errors as plain sentences: the field, the rule, the value and the nearest spelling."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

_WHOLE_NUMBER, _NUMBER, _BOOLEAN = "a whole number", "a number", "true or false"
_RULES = {
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "finite_number": "a finite number",
    "int_type": _WHOLE_NUMBER,
    "int_parsing": _WHOLE_NUMBER,
    "int_from_float": _WHOLE_NUMBER,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "bool_type": _BOOLEAN,
    "bool_parsing": _BOOLEAN,
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


def describe_errors(name: str, details: Sequence[Any]) -> str:
    """The errors of one field as a sentence: "model.n_layer must be at least 1 (got 0)."

    A field with alternatives (``bool | Literal["never"]``) has one error per alternative. The message of a ValueError
    that begins with "must" continues the field's name; any other message is a sentence of its own.
    """
    first = details[0]
    value = first["input"]
    message = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    if first["type"] == "missing":
        return f"{name} is missing."
    if first["type"] == "value_error":
        if message.startswith("must "):
            return f"{name} {message} (got {value!r})."
        return f"{name}: {message}." if name else f"{message}."
    rules = dict.fromkeys(_rule(detail) for detail in details)
    choices = [choice for detail in details if detail["type"] == "literal_error" for choice in allowed_choices(detail)]
    return f"{name} must be {' or '.join(rules)} (got {value!r}).{did_you_mean(str(value), choices)}"


def _rule(detail: Any) -> str:
    context = detail.get("ctx", {})
    if detail["type"] == "literal_error":
        choices = [repr(choice) for choice in allowed_choices(detail)]
        return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    if detail["type"] in _RULES:
        return _RULES[detail["type"]].format_map({key: _plain_number(limit) for key, limit in context.items()})
    message = str(detail["msg"])
    return f"valid: {message[0].lower()}{message[1:]}"


def _plain_number(limit: Any) -> Any:
    """1 instead of 1.0."""
    return int(limit) if isinstance(limit, float) and limit.is_integer() else limit


def allowed_choices(detail: Any) -> list[str]:
    """The values that a field with fixed choices, or the ``kind`` of a section, may have."""
    context = detail["ctx"]
    return re.findall(r"'([^']*)'", context.get("expected_tags") or context["expected"])


def did_you_mean(word: str, known: Iterable[str], form: str = "{!r}") -> str:
    """ " Did you mean 'x'?" for the known word nearest to ``word``; empty if none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {form.format(near[0])}?" if near else ""
