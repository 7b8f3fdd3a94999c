"""Reading SentencePiece ``.model`` files: their pieces, algorithm and normalization options.

The file is a protocol buffer (``ModelProto`` in google/sentencepiece, src/sentencepiece_model.proto). The reader that
ships with sentencepiece needs a protobuf of exactly its own version, and registers a descriptor that clashes with the
one in transformers; so the few fields that matter are read from the wire format
(protobuf.dev/programming-guides/encoding). Missing fields have the defaults of the ``.proto``.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum


class PieceKind(IntEnum):
    """The type of a piece."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class ModelKind(IntEnum):
    """The segmentation algorithm."""

    UNIGRAM = 1
    BPE = 2
    WORD = 3
    CHAR = 4


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary; its id is its index."""

    text: str
    score: float
    kind: PieceKind


@dataclass(frozen=True)
class SentencePieceModel:
    """The fields that affect ids."""

    pieces: tuple[Piece, ...]
    kind: ModelKind
    byte_fallback: bool
    space_is_suffix: bool
    """``treat_whitespace_as_suffix``: a space belongs to the word before it."""
    charsmap: bytes
    """``precompiled_charsmap``: the compiled normalization rules; b"" for none."""
    dummy_prefix: bool
    """``add_dummy_prefix``: a space is added before the text."""
    trims_spaces: bool
    """``remove_extra_whitespaces``: spaces at both ends are removed, and repeated ones merged."""
    escapes_spaces: bool
    """``escape_whitespaces``: a space is written as "▁" (U+2581)."""
    roles: dict[str, int]
    """The ids of "unk", "bos", "eos" and "pad", as far as they exist."""


class ModelFormatError(ValueError):
    """The bytes are not a SentencePiece model."""


def exact_score(score: float) -> float:
    """A 32-bit score with its shortest digits, so that a round trip through JSON does not change it."""
    return float(f"{score:.9g}")


_Fields = dict[int, int | bytes]
_ROLES = {"unk": (40, 0), "bos": (41, 1), "eos": (42, 2), "pad": (43, -1)}  # field number and default


def parse_model(content: bytes) -> SentencePieceModel:
    """The model in a file's bytes. Raises ModelFormatError if they are not one."""
    pieces: list[Piece] = []
    trainer: _Fields = {}
    normalizer: _Fields = {}
    for number, value in _fields(content):
        if isinstance(value, bytes) and number == 1:
            pieces.append(_parse_piece(dict(_fields(value))))
        elif isinstance(value, bytes) and number in (2, 3):
            (trainer if number == 2 else normalizer).update(_fields(value))
    if not pieces or not (trainer or normalizer):
        raise ModelFormatError("it has no pieces" if not pieces else "it has no settings")
    roles = {role: _number(trainer, field, default) for role, (field, default) in _ROLES.items()}
    try:
        return SentencePieceModel(
            pieces=tuple(pieces),
            kind=ModelKind(_number(trainer, 3, 1)),
            byte_fallback=bool(_number(trainer, 35, 0)),
            space_is_suffix=bool(_number(trainer, 24, 0)),
            charsmap=_bytes(normalizer, 2),
            dummy_prefix=bool(_number(normalizer, 3, 1)),
            trims_spaces=bool(_number(normalizer, 4, 1)),
            escapes_spaces=bool(_number(normalizer, 5, 1)),
            roles={role: index for role, index in roles.items() if 0 <= index < len(pieces)},
        )
    except ValueError as error:
        raise ModelFormatError(str(error)) from error


def _parse_piece(fields: _Fields) -> Piece:
    try:
        (score,) = struct.unpack("<f", _bytes(fields, 2) or bytes(4))
        return Piece(_bytes(fields, 1).decode("utf-8"), score, PieceKind(_number(fields, 3, 1)))
    except (ValueError, struct.error) as error:
        raise ModelFormatError(f"a piece is damaged ({error})") from error


def _number(fields: _Fields, number: int, default: int) -> int:
    value = fields.get(number, default)
    if not isinstance(value, int):
        raise ModelFormatError(f"field {number} is not a number")
    return value - (1 << 64) if value >= 1 << 63 else value  # negative numbers have 64 bits


def _bytes(fields: _Fields, number: int) -> bytes:
    value = fields.get(number, b"")
    if not isinstance(value, bytes):
        raise ModelFormatError(f"field {number} is a number")
    return value


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The (field number, value) pairs of a message: numbers for wire type 0, bytes for the others."""
    position = 0
    while position < len(content):
        tag, position = _varint(content, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type not in (0, 1, 2, 5) or number == 0:
            raise ModelFormatError(f"field {number} has the wire type {wire_type}")
        if wire_type == 0:
            value, position = _varint(content, position)
            yield number, value
            continue
        length = {1: 8, 5: 4}.get(wire_type)
        if length is None:
            length, position = _varint(content, position)
        if position + length > len(content):
            raise ModelFormatError("it ends inside a field")
        yield number, content[position : position + length]
        position += length


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """A number in groups of seven bits, lowest first, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(content):
            raise ModelFormatError("it ends inside a number")
        value |= (content[position] & 0x7F) << shift
        position += 1
        if content[position - 1] < 0x80:
            return value, position
    raise ModelFormatError("a number is too long")
