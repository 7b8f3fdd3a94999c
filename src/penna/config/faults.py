"""Faults of a recipe in a person's words: the field, the value, what is allowed, the nearest spelling."""

from __future__ import annotations

import difflib
import re
from typing import Any

from penna.config.schema import SECTIONS, fields_named, fields_of_kind, section_models
from penna.errors import RecipeError


def unknown_field(dotted: str, value: Any) -> RecipeError:
    """The error for a dotted name that no section has."""
    section, _, field = dotted.partition(".")
    if section not in SECTIONS:
        near = difflib.get_close_matches(section, SECTIONS, n=1)
        return RecipeError(
            f"There is no section {section!r} (in {dotted} = {value!r}).",
            f"Sections: {', '.join(SECTIONS)}." + (f" Nearest: {near[0]}." if near else ""),
            "`penna recipes default` prints every field.",
        )
    names = sorted({name for model in section_models(section) for name in model.model_fields})
    near = difflib.get_close_matches(field, names, n=1)
    return RecipeError(
        f"There is no field {dotted} (given {value!r}).",
        f"Fields of {section}: {', '.join(names)}.",
        f"Did you mean {section}.{near[0]}?" if near else "`penna recipes default` prints every field.",
    )


def explain_fault(detail: Any) -> tuple[str, str]:
    """One pydantic fault as (what happened, what is expected)."""
    # A union's fault carries the kind between section and field; leave it out of the name.
    loc = [str(part) for part in detail["loc"]]
    section = loc[0] if loc else ""
    if len(loc) > 1 and section in SECTIONS and len(section_models(section)) > 1:
        loc.pop(1)
    dotted = ".".join(loc)
    value = detail.get("input")
    if detail["type"] == "extra_forbidden":
        if section not in SECTIONS:
            error = unknown_field(dotted + (".x" if len(loc) == 1 else ""), value)
            near = difflib.get_close_matches(section, SECTIONS, n=1)
            return f"there is no section {section!r}." + (f" Did you mean {near[0]!r}?" if near else ""), error.expected
        kinds = [str(detail["loc"][1])] if len(detail["loc"]) > 2 else []
        fields = fields_of_kind(section, kinds[0]) if kinds else set(section_models(section)[0].model_fields)
        near = difflib.get_close_matches(loc[-1], sorted(fields), n=1)
        of = f" of kind {kinds[0]!r}" if kinds else ""
        return (
            f"{dotted} = {value!r}: no such field{of}." + (f" Did you mean {section}.{near[0]}?" if near else ""),
            f"Fields of {section}{of}: {', '.join(sorted(fields))}.",
        )
    if detail["type"] in ("literal_error", "union_tag_invalid"):
        context = detail["ctx"]
        if "tag" in context:
            dotted, value = f"{dotted}.kind", context["tag"]
        allowed = re.findall(r"'([^']*)'", context.get("expected_tags") or context["expected"])
        near = difflib.get_close_matches(str(value), allowed, n=1)
        said = f"{dotted} = {value!r}: input should be one of {', '.join(map(repr, allowed))}."
        return said + (f" Did you mean {near[0]!r}?" if near else ""), _meaning(dotted)
    message = str(detail["msg"]).removeprefix("Value error, ")
    kind = str(detail["loc"][1]) if len(detail["loc"]) > 2 else ""
    if detail["type"] == "value_error":
        fit = f"The fields of [{section}] must fit together." if section else "A recipe's sections must fit together."
        said = f"{dotted}: {message}." if dotted else f"{message}."
        return said, _meaning(dotted, kind) if fields_named(dotted) else fit
    return f"{dotted} = {value!r}: {message[0].lower()}{message[1:]}.", _meaning(dotted, kind)


def _meaning(dotted: str, kind: str = "") -> str:
    """What a field means, as its section describes it, or as the section's kind does where that is known."""
    section, _, name = dotted.partition(".")
    models = section_models(section) if section in SECTIONS else []
    of_kind = [model for model in models if "kind" in model.model_fields and model.model_fields["kind"].default == kind]
    found = [model.model_fields[name] for model in of_kind or models if name in model.model_fields]
    descriptions = {field.description for field in found if field.description}
    return f"{dotted}: {' '.join(sorted(descriptions))}" if descriptions else ""
