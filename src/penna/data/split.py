"""Which part a document or a record goes to: by its own text, so that exact duplicates never stand on both sides."""

from __future__ import annotations

import hashlib

AUTO_DOCUMENTS = 20  # fewer than this are split by position


def goes_to_validation(text: str, fraction: float) -> bool:
    """Whether this text is among the ``fraction`` of all texts that are kept for validation."""
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64
