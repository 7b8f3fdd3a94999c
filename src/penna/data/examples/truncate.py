"""Cutting: ids that are too many in, as many as there is room for out."""

from __future__ import annotations

from collections.abc import Sequence

from penna.config.tasks import Truncation


def cut_to(ids: Sequence[int], size: int, cut: Truncation) -> list[int]:
    """At most ``size`` of the ids, in their order; ``cut`` says which part is left out where there are more.

    The middle leaves the beginning and the end, and of an odd number the beginning has one more.
    """
    if len(ids) <= size:
        return list(ids)
    size = max(size, 0)
    begin = {"tail": size, "head": 0, "middle": size - size // 2}[cut]
    return [*ids[:begin], *ids[len(ids) - (size - begin) :]]
