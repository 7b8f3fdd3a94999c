"""A map of weights as a PNG in a data address: one purple, the more opaque the larger a weight, so that it can be seen
on white and on black.

How opaque a pixel is goes by the root of its weight, which keeps small ones visible; what reads the picture can get the
weights back to 1 in 255 of that.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Sequence

_PURPLE = bytes((139, 92, 214))


def map_address(weights: Sequence[Sequence[float]]) -> str:
    """The address of a picture with a pixel for each weight from 0 to 1; all rows are of one length."""
    header = struct.pack(">IIBBBBB", len(weights[0]), len(weights), 8, 3, 0, 0, 0)  # 8 bits, by a palette
    pixels = b"".join(b"\0" + bytes(_opacity(weight) for weight in row) for row in weights)
    chunks = [
        (b"IHDR", header), (b"PLTE", _PURPLE * 256), (b"tRNS", bytes(range(256))), (b"IDAT", zlib.compress(pixels, 9)),
        (b"IEND", b""),
    ]  # fmt: skip
    content = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def _opacity(weight: float) -> int:
    return round(255 * math.sqrt(min(max(weight, 0.0), 1.0)))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
