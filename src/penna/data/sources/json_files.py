"""JSON as records: one object per line (.jsonl), or one list of objects in a file (.json).

Of a .jsonl, memory holds one line, and a bad line is one bad record. A .json is read whole, because only its end shows
that it is valid; large data belong in .jsonl.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from penna.data.sources.records import BadRecord, Record, describe_type, too_large
from penna.data.sources.streams import TooLong, checked_chunks, decoded_chunks, line_batches
from penna.errors import DataError

_decode = json.JSONDecoder().decode
_decode_at = json.JSONDecoder().raw_decode
_WHITE = " \t\n\r"


def jsonl_records(file: Path) -> Iterator[Record | BadRecord]:
    """The records of a JSON lines file; blank lines are skipped."""
    name, lines = str(file), chain.from_iterable(line_batches(checked_chunks(file, may_hold_nul=True)))
    for number, line in enumerate(lines, start=1):
        if isinstance(line, TooLong):
            yield too_large(name, number, line.size)
        elif not line.isspace():
            yield _record(line, name, number)


def _record(line: bytes, name: str, number: int) -> Record | BadRecord:
    try:
        fields: Any = _decode(line.decode())
    except UnicodeDecodeError as error:
        return BadRecord(name, number, f"not UTF-8 (byte 0x{line[error.start]:02x} at {error.start})")
    except json.JSONDecodeError as error:
        return BadRecord(name, number, f"not JSON ({_reason(error)} at column {error.colno})")
    except (ValueError, RecursionError) as error:
        return BadRecord(name, number, f"not JSON ({error})")
    return _checked(fields, name, number)


def _reason(error: json.JSONDecodeError) -> str:
    return error.msg.removesuffix(" at")  # some of the messages expect a position after them


def _checked(fields: Any, name: str, number: int) -> Record | BadRecord:
    if not isinstance(fields, dict):
        return BadRecord(name, number, f'{describe_type(fields)}, not a record such as {{"text": "..."}}')
    return Record(fields, name, number)


def json_records(file: Path) -> Iterator[Record | BadRecord]:
    """The records of a JSON file that is a list, or an object with one list of records in it.

    Raises DataError if the file is neither; a list member that is not an object is a BadRecord.
    """
    text = "".join(decoded_chunks(file))
    start = _skip(text, 0)
    if start == len(text):
        return
    try:
        value: Any
        value, end = _decode_at(text, start)
    except (ValueError, RecursionError) as error:
        reason = str(error)
        if isinstance(error, json.JSONDecodeError):
            reason = f"{_reason(error)} at line {error.lineno}, column {error.colno}"
        raise _not_a_list(file, f"is not JSON: {reason}") from error
    if _skip(text, end) < len(text):
        raise _not_a_list(file, "contains several JSON values; is it JSON lines (jsonl)?")
    if isinstance(value, dict):
        start = _list_inside(file, text, start)
    elif not isinstance(value, list):
        raise _not_a_list(file, f"contains {describe_type(value)}")
    del value  # each record is decoded again, to find its line
    name, line, seen = str(file), 1, 0
    for at, member in _members(text, start):
        line += text.count("\n", seen, at)
        seen = at
        yield _checked(member, name, line)


def _not_a_list(file: Path, what: str) -> DataError:
    return DataError(
        f"{file} {what}.",
        "A .json file must be a list of records, or an object that contains one; a .jsonl has one record per line.",
        "Fix the file, or name its format: --data.format jsonl.",
    )


def _list_inside(file: Path, text: str, start: int) -> int:
    """The start of the only list of records in the object at ``start``."""
    starts: dict[str, int] = {}
    at = _skip(text, start + 1)
    while text[at] != "}":
        key, at = _decode_at(text, at)
        value_start = _skip(text, _skip(text, at) + 1)
        value, at = _decode_at(text, value_start)
        if isinstance(value, list) and all(isinstance(member, dict) for member in value[:1]):
            starts[key] = value_start
        at = _skip(text, at)
        at = _skip(text, at + 1) if text[at] == "," else at
    if len(starts) != 1:
        found = f"{len(starts)} lists of records ({', '.join(map(repr, starts))})" if starts else "no list of records"
        raise _not_a_list(file, f"is an object with {found}")
    return next(iter(starts.values()))


def _members(text: str, start: int) -> Iterator[tuple[int, Any]]:
    """Each member of the list at ``start``, with its position. The text is known to be JSON."""
    at = _skip(text, start + 1)
    while text[at] != "]":
        member, end = _decode_at(text, at)
        yield at, member
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at


def _skip(text: str, at: int) -> int:
    """The position of the next character that is not white space."""
    while at < len(text) and text[at] in _WHITE:
        at += 1
    return at
