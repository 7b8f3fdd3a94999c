"""What a SentencePiece ``.model`` file says: its pieces, its kind, and how it normalises text.

The file is a protocol buffer (``ModelProto`` of google/sentencepiece, src/sentencepiece_model.proto). The package's
own reader of it needs the protobuf library; the dozen fields that matter are read here from the wire format itself
(developers.google.com/protocol-buffers/docs/encoding): a file is a row of (field number, value), a value is a number,
four bytes, or bytes that may be such a row again. In come the bytes, out comes a `SentencePieceModel`; numbers left
out have the defaults of the ``.proto``.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar


class PieceKind(IntEnum):
    """What a piece is for."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class ModelKind(IntEnum):
    """How text is cut into pieces."""

    UNIGRAM = 1
    BPE = 2
    WORD = 3
    CHAR = 4


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary; its id is its place."""

    text: str
    score: float
    kind: PieceKind


@dataclass(frozen=True)
class SentencePieceModel:
    """The fields that decide which ids a text gets."""

    pieces: tuple[Piece, ...]
    kind: ModelKind
    byte_fallback: bool
    space_is_suffix: bool
    """``treat_whitespace_as_suffix``: the space belongs to the word before it."""
    charsmap: bytes
    """The compiled normalisation rules; b"" for none (``identity``)."""
    dummy_prefix: bool
    """``add_dummy_prefix``: a space is put before the text."""
    trims_spaces: bool
    """``remove_extra_whitespaces``: spaces at both ends go, and runs become one."""
    escapes_spaces: bool
    """``escape_whitespaces``: a space is written "▁" (U+2581)."""
    roles: dict[str, int]
    """The ids of "unk", "bos", "eos" and "pad", where there is one."""


def exact_score(score: float) -> float:
    """A 32-bit score by its shortest digits: written to JSON and read back it stays itself, to the last bit."""
    return float(f"{score:.9g}")


class ModelFormatError(ValueError):
    """The bytes are no SentencePiece model."""


Value = int | bytes
_ROLE_FIELDS = {"unk": (40, 0), "bos": (41, 1), "eos": (42, 2), "pad": (43, -1)}  # field number and default
_Kind = TypeVar("_Kind", PieceKind, ModelKind)


def parse_model(content: bytes) -> SentencePieceModel:
    """The model in a file's bytes. Raises NotAModelError with the reason where it is none."""
    pieces: list[Piece] = []
    trainer: dict[int, Value] = {}
    normalizer: dict[int, Value] = {}
    for number, value in _fields(content):
        match number, value:
            case 1, bytes():
                pieces.append(_piece(value))
            case 2, bytes():
                trainer.update(_fields(value))
            case 3, bytes():
                normalizer.update(_fields(value))
            case _:
                pass
    if not pieces or not (trainer or normalizer):
        raise ModelFormatError("it holds no pieces" if not pieces else "it says nothing of how text is cut")
    roles = {role: _number(trainer, field, default) for role, (field, default) in _ROLE_FIELDS.items()}
    return SentencePieceModel(
        pieces=tuple(pieces),
        kind=_enum(ModelKind, _number(trainer, 3, 1), "kind of model"),
        byte_fallback=bool(_number(trainer, 35, 0)),
        space_is_suffix=bool(_number(trainer, 24, 0)),
        charsmap=_bytes(normalizer, 2),
        dummy_prefix=bool(_number(normalizer, 3, 1)),
        trims_spaces=bool(_number(normalizer, 4, 1)),
        escapes_spaces=bool(_number(normalizer, 5, 1)),
        roles={role: index for role, index in roles.items() if 0 <= index < len(pieces)},
    )


def _piece(content: bytes) -> Piece:
    fields = dict(_fields(content))
    score = _bytes(fields, 2) or b"\0\0\0\0"
    if len(score) != 4:
        raise ModelFormatError("a score is not four bytes long")
    try:
        text = _bytes(fields, 1).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelFormatError("a piece is not UTF-8") from error
    return Piece(text, struct.unpack("<f", score)[0], _enum(PieceKind, _number(fields, 3, 1), "kind of piece"))


def _enum(kinds: type[_Kind], number: int, name: str) -> _Kind:
    try:
        return kinds(number)
    except ValueError as error:
        raise ModelFormatError(f"there is no {name} {number}") from error


def _number(fields: dict[int, Value], number: int, default: int) -> int:
    value = fields.get(number, default)
    if not isinstance(value, int):
        raise ModelFormatError(f"field {number} is no number")
    return value - (1 << 64) if value >= 1 << 63 else value  # negative numbers are written in 64 bits


def _bytes(fields: dict[int, Value], number: int) -> bytes:
    value = fields.get(number, b"")
    if not isinstance(value, bytes):
        raise ModelFormatError(f"field {number} is a number")
    return value


def _fields(content: bytes) -> Iterator[tuple[int, Value]]:
    """The (field number, value) pairs of a message: numbers for wire type 0, bytes for the others."""
    place = 0
    while place < len(content):
        tag, place = _varint(content, place)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, place = _varint(content, place)
            yield number, value
            continue
        if wire_type == 2:
            length, place = _varint(content, place)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise ModelFormatError(f"there is no wire type {wire_type}")
        if number == 0 or place + length > len(content):
            raise ModelFormatError("it ends in the middle of a field" if number else "a field has no number")
        yield number, content[place : place + length]
        place += length


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """A number in groups of seven bits, lowest first, and where the next field begins."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(content):
            raise ModelFormatError("it ends in the middle of a number")
        value |= (content[place] & 0x7F) << shift
        place += 1
        if content[place - 1] < 0x80:
            return value, place
    raise ModelFormatError("a number is too long")
