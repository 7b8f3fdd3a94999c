"""Helper: a token stream in memory."""

import numpy as np


class IdStream:
    """A stream of given ids that remembers its longest read."""

    def __init__(self, ids: list[int]) -> None:
        self.ids, self.longest_read = np.array(ids, dtype=np.int64), 0

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, start: int, count: int) -> np.ndarray:
        assert start + count <= len(self.ids)
        self.longest_read = max(self.longest_read, count)
        return self.ids[start : start + count]
