"""JSON to records: one object a line (.jsonl), or one list of objects in a file (.json).

Of .jsonl memory holds a line; a line that is no record is told and passed over. A .json file is read whole, because
only its end says that it is one: memory grows with its size, so large data belong in .jsonl.
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
    """The records of a JSON lines file; blank lines are passed over."""
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
    return error.msg.removesuffix(" at")  # some of the messages expect the place behind them


def _checked(fields: Any, name: str, number: int) -> Record | BadRecord:
    if not isinstance(fields, dict):
        return BadRecord(name, number, f'{describe_type(fields)}, not a record such as {{"text": "..."}}')
    return Record(fields, name, number)


def json_records(file: Path) -> Iterator[Record | BadRecord]:
    """The records of a JSON file that is a list, or an object with one list of records in it.

    Raises DataError where the file is neither; a member of the list that is no object is a BadRecord.
    """
    text = "".join(decoded_chunks(file))
    start = _skip(text, 0)
    if start == len(text):
        return
    try:
        value: Any
        value, end = _decode_at(text, start)
    except (ValueError, RecursionError) as error:
        where = str(error)
        if isinstance(error, json.JSONDecodeError):
            where = f"{_reason(error)} at line {error.lineno}, column {error.colno}"
        raise _not_a_list(file, f"is not JSON: {where}") from error
    if _skip(text, end) < len(text):
        raise _not_a_list(file, "holds several JSON values, one behind another; JSON lines are read with jsonl")
    if isinstance(value, dict):
        start = _list_inside(file, text, start)
    elif not isinstance(value, list):
        raise _not_a_list(file, f"holds {describe_type(value)}")
    del value  # each record is decoded anew, for the line it stands on
    name, line, seen = str(file), 1, 0
    for at, member in _members(text, start):
        line += text.count("\n", seen, at)
        seen = at
        yield _checked(member, name, line)


def _not_a_list(file: Path, what: str) -> DataError:
    return DataError(
        f"{file} {what}.",
        "A .json file is one list of records, or an object that holds one; a .jsonl has one record a line.",
        "Mend it, or say what it is: --data.format jsonl.",
    )


def _list_inside(file: Path, text: str, start: int) -> int:
    """Where, in the object that begins at ``start``, the one list of records begins."""
    places: dict[str, int] = {}
    at = _skip(text, start + 1)
    while text[at] != "}":
        key, at = _decode_at(text, at)
        place = _skip(text, _skip(text, at) + 1)
        value, at = _decode_at(text, place)
        if isinstance(value, list) and all(isinstance(member, dict) for member in value[:1]):
            places[key] = place
        at = _skip(text, at)
        at = _skip(text, at + 1) if text[at] == "," else at
    if len(places) != 1:
        found = f"{len(places)} lists of records ({', '.join(map(repr, places))})" if places else "no list of records"
        raise _not_a_list(file, f"is an object with {found} in it")
    return next(iter(places.values()))


def _members(text: str, start: int) -> Iterator[tuple[int, Any]]:
    """Each member of the list that begins at ``start``, with its place. The text is known to be JSON."""
    at = _skip(text, start + 1)
    while text[at] != "]":
        member, end = _decode_at(text, at)
        yield at, member
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at


def _skip(text: str, at: int) -> int:
    """The place of the next character that is not white space."""
    while at < len(text) and text[at] in _WHITE:
        at += 1
    return at
