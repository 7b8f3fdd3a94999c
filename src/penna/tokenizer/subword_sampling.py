"""Subword sampling: random segmentations of texts into the pieces of a unigram tokenizer.

Pieces y_1 … y_n are drawn with probability proportional to (p(y_1) … p(y_n))^alpha, over all segmentations of a text
(Kudo 2018, "Subword Regularization", section 3.1, without an n-best limit). A model that sees its words in many
spellings overfits less. Weights are summed forward and pieces drawn backward, for a batch of texts at a time. Shapes: N
texts, T characters, L characters of the longest piece.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from penna.errors import TokenizerError
from penna.tokenizer.tokenizer import Tokenizer, check_text

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
_BATCH_CHARACTERS = 1 << 16
_CODE_POINT_BITS = 21
_UNKNOWN_PENALTY = 10.0  # nats below the rarest piece, for a character without a piece, as in SentencePiece
_NONE = -1


class SubwordSampler:
    """Draws segmentations. Raises TokenizerError unless the tokenizer is a lossless unigram model."""

    def __init__(self, tokenizer: Tokenizer, alpha: float) -> None:
        pieces = tokenizer.unigram_pieces() if tokenizer.lossless else None
        if pieces is None:
            raise TokenizerError(
                f"Subword sampling does not work with this tokenizer, which is of the kind {tokenizer.kind}.",
                "It needs a lossless unigram tokenizer, which has a probability for each piece.",
                'Use [tokenizer] kind = "unigram", or leave task.subword_sampling out.',
            )
        self._bytes = {
            int(found[1], 16): i for i, (name, _) in enumerate(pieces) if (found := _BYTE_TOKEN.fullmatch(name))
        }
        kept = set(tokenizer.special_tokens.values()) | set(self._bytes.values())  # no text is segmented into these
        words = {index: name for index, (name, _) in enumerate(pieces) if index not in kept}
        self._longest = max(map(len, words.values()))
        self._trie = _Trie(words)
        self._no_piece = len(pieces)  # the index of a character without a piece
        rarest = min(pieces[index][1] for index in words) - _UNKNOWN_PENALTY
        self._scores = alpha * np.array([*(score for _, score in pieces), rarest])
        self._lengths = [len(name) for name, _ in pieces]

    def encode_batch(self, texts: Sequence[str], seed: Sequence[int]) -> list[list[int]]:
        """Random segmentations of the texts as ids; the same texts in the same order with the same seed give the same.

        Raises TokenizerError for text with a lone surrogate.
        """
        for number, text in enumerate(texts, 1):
            check_text(text, f"text {number} of {len(texts)}")
        random = np.random.default_rng(seed)
        drawn: dict[int, list[int]] = {index: [] for index, text in enumerate(texts) if not text}
        others = sorted(set(range(len(texts))) - drawn.keys(), key=lambda index: len(texts[index]))
        for batch in _batches(others, texts):
            drawn.update(zip(batch, self._draw([texts[index] for index in batch], random), strict=True))
        return [drawn[index] for index in range(len(texts))]

    def _draw(self, texts: Sequence[str], random: np.random.Generator) -> Iterator[list[int]]:
        """A segmentation of each text. The texts are not empty and have similar lengths."""
        lengths = np.array([len(text) for text in texts])
        pieces = self._pieces_ending(_code_points(texts, lengths))  # (T, N, L)
        scores = np.where(pieces == _NONE, -np.inf, self._scores[pieces])
        sums = _log_sums(scores)  # (T + L, N)
        rows, end = np.arange(len(texts)), lengths.copy()
        drawn: list[NDArray[np.int64]] = []
        while (unfinished := end > 0).any():
            last = np.maximum(end - 1, 0)
            # The log weight of the text before a piece of l + 1 characters that ends at ``last``.
            before = sums[last[:, None] + self._longest - 1 - np.arange(self._longest), rows[:, None]]  # (N, L)
            shares = np.exp(scores[last, rows] + before - sums[last + self._longest, rows][:, None]).cumsum(axis=1)
            chosen = (shares <= random.random(len(texts))[:, None] * shares[:, -1:]).sum(axis=1)
            drawn.append(np.where(unfinished, pieces[last, rows, chosen], _NONE))
            end = np.where(unfinished, last - chosen, 0)
        for text, ids in zip(texts, np.stack(drawn[::-1], axis=1), strict=True):
            kept: list[int] = ids[ids != _NONE].tolist()
            yield self._with_bytes(text, kept) if self._no_piece in kept else kept

    def _pieces_ending(self, characters: NDArray[np.int64]) -> NDArray[np.int32]:
        """The piece of l + 1 characters that ends at each character: (N, T) -> (T, N, L), -1 for none."""
        count, width = characters.shape
        found = np.full((width, count, self._longest), _NONE, dtype=np.int32)
        found[:, :, 0] = self._no_piece
        row, start = np.nonzero(characters != _NONE)
        node = np.zeros(len(row), dtype=np.int64)
        for length in range(self._longest):
            inside = start + length < width
            row, start, node = row[inside], start[inside], node[inside]
            exists, node = self._trie.follow(node, characters[row, start + length])
            row, start = row[exists], start[exists]
            piece = self._trie.pieces[node]
            ends = piece != _NONE
            found[start[ends] + length, row[ends], length] = piece[ends]
        return found

    def _with_bytes(self, text: str, ids: Sequence[int]) -> list[int]:
        """A segmentation with byte tokens for the characters that have no piece."""
        complete: list[int] = []
        position = 0
        for index in ids:
            if index == self._no_piece:
                complete += [self._bytes[byte] for byte in text[position].encode("utf-8")]
                position += 1
            else:
                complete.append(index)
                position += self._lengths[index]
        return complete


class _Trie:
    """The pieces by their characters; nodes are numbers, and 0 is the root."""

    def __init__(self, words: Mapping[int, str]) -> None:
        edges: dict[int, int] = {}  # node and code point -> node
        ends: dict[int, int] = {}
        for index, word in words.items():
            node = 0
            for letter in word:
                node = edges.setdefault(node << _CODE_POINT_BITS | ord(letter), len(edges) + 1)
            ends[node] = index
        self.pieces = np.full(len(edges) + 1, _NONE, dtype=np.int32)  # per node
        self.pieces[list(ends)] = list(ends.values())
        self._keys = np.array(sorted(edges))
        self._nodes = np.array([edges[key] for key in self._keys.tolist()])

    def follow(
        self, nodes: NDArray[np.int64], letters: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Which nodes have an edge with their letter (-1 has none), and the nodes that these lead to."""
        keys = np.where(letters == _NONE, _NONE, nodes << _CODE_POINT_BITS | letters)
        edge = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        exists = self._keys[edge] == keys
        return exists, self._nodes[edge[exists]]


def _log_sums(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log total weight of the segmentations of the first t characters, in row L - 1 + t: (T, N, L) -> (T + L, N)."""
    width, count, longest = scores.shape
    sums = np.full((longest + width, count), -np.inf)
    sums[longest - 1] = 0.0
    for end in range(width):
        weights = scores[end] + sums[end : end + longest][::-1].T  # (N, L): the shortest piece has the most text before
        top = weights.max(axis=1)
        sums[longest + end] = top + np.log(np.exp(weights - top[:, None]).sum(axis=1))
    return sums


def _code_points(texts: Sequence[str], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Texts as rows of code points, padded with -1 on the right: (N, T)."""
    padded = np.full((len(texts), int(lengths.max())), _NONE, dtype=np.int64)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = np.frombuffer("".join(texts).encode("utf-32-le"), "<u4")
    return padded


def _batches(indices: Sequence[int], texts: Sequence[str]) -> Iterator[list[int]]:
    """Batches of texts, which are sorted by length, so that each batch is a rectangle of limited size."""
    batch: list[int] = []
    for index in indices:
        if batch and (len(batch) + 1) * len(texts[index]) > _BATCH_CHARACTERS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
