"""Subword sampling: texts in, one of the ways to cut each into a unigram tokenizer's pieces out, drawn anew each time.

Pieces y_1 … y_n are drawn with a probability in proportion to (p(y_1) … p(y_n))^alpha, over all ways to cut the text
(Kudo 2018, "Subword Regularization", section 3.1, without a limit to the best ones): a model that sees its words
spelled in many ways learns fewer of them by heart. Sums run forwards and draws backwards through all texts of a batch
side by side. Shapes: N texts, T characters, L characters of the longest piece.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from penna.errors import TokenizerError
from penna.tokenizer.tokenizer import Tokenizer, check_text

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_CHARACTERS_AT_ONCE = 1 << 16
_CODE_POINT = 21  # bits
_RARER = 10.0  # nats: how much less likely than the rarest piece a character without one is, as in SentencePiece
_NONE = -1


class SubwordSampler:
    """Draws segmentations. Raises TokenizerError for a tokenizer that is no unigram model, or loses something."""

    def __init__(self, tokenizer: Tokenizer, alpha: float) -> None:
        pieces = tokenizer.unigram_pieces() if tokenizer.lossless else None
        if pieces is None:
            raise TokenizerError(
                f"Subwords cannot be sampled: the tokenizer's kind is {tokenizer.kind}.",
                "A unigram tokenizer that loses nothing; it alone knows how likely each of its pieces is.",
                'Take [tokenizer] kind = "unigram", or leave task.subword_sampling out.',
            )
        self._bytes = {int(found[1], 16): i for i, (name, _) in enumerate(pieces) if (found := _BYTE.fullmatch(name))}
        kept = set(tokenizer.special_tokens.values()) | set(self._bytes.values())  # no text is cut into these
        words = {index: name for index, (name, _) in enumerate(pieces) if index not in kept}
        self._longest = max(map(len, words.values()))
        self._trie = _Trie(words)
        self._alone = len(pieces)  # stands for a character without a piece
        rarest = min(pieces[index][1] for index in words) - _RARER
        self._scores = alpha * np.array([*(score for _, score in pieces), rarest])
        self._lengths = [len(name) for name, _ in pieces]

    def encode_batch(self, texts: Sequence[str], seed: Sequence[int]) -> list[list[int]]:
        """Ids of each text, drawn; equal texts in the same order with the same seed give equal ids.

        Raises TokenizerError for text with a lone surrogate.
        """
        for place, text in enumerate(texts):
            check_text(text, f"text {place + 1} of {len(texts)}")
        random = np.random.default_rng(seed)
        found: dict[int, list[int]] = {place: [] for place, text in enumerate(texts) if not text}
        others = sorted(set(range(len(texts))) - found.keys(), key=lambda place: len(texts[place]))
        for batch in _batches(others, texts):
            found.update(zip(batch, self._draw([texts[place] for place in batch], random), strict=True))
        return [found[place] for place in range(len(texts))]

    def _draw(self, texts: Sequence[str], random: np.random.Generator) -> Iterator[list[int]]:
        """A segmentation of each text, of about the same length and not empty."""
        lengths = np.array([len(text) for text in texts])
        pieces = self._pieces_ending(_code_points(texts, lengths))  # (T, N, L)
        scores = np.where(pieces == _NONE, -np.inf, self._scores[pieces])
        sums = _log_sums(scores)  # (T + L, N)
        rows, end = np.arange(len(texts)), lengths.copy()
        drawn: list[NDArray[np.int64]] = []
        while (going := end > 0).any():
            last = np.maximum(end - 1, 0)
            # What lies before a piece of l + 1 characters that ends behind ``last``.
            before = sums[last[:, None] + self._longest - 1 - np.arange(self._longest), rows[:, None]]  # (N, L)
            shares = np.exp(scores[last, rows] + before - sums[last + self._longest, rows][:, None]).cumsum(axis=1)
            chosen = (shares <= random.random(len(texts))[:, None] * shares[:, -1:]).sum(axis=1)
            drawn.append(np.where(going, pieces[last, rows, chosen], _NONE))
            end = np.where(going, last - chosen, 0)
        for text, ids in zip(texts, np.stack(drawn[::-1], axis=1), strict=True):
            kept: list[int] = ids[ids != _NONE].tolist()
            yield self._spelled(text, kept) if self._alone in kept else kept

    def _pieces_ending(self, characters: NDArray[np.int64]) -> NDArray[np.int32]:
        """The piece of l + 1 characters that ends with each character: (N, T) -> (T, N, L), -1 where there is none."""
        count, width = characters.shape
        found = np.full((width, count, self._longest), _NONE, dtype=np.int32)
        found[:, :, 0] = self._alone
        row, start = np.nonzero(characters != _NONE)
        node = np.zeros(len(row), dtype=np.int64)
        for length in range(self._longest):
            inside = start + length < width
            row, start, node = row[inside], start[inside], node[inside]
            there, node = self._trie.follow(node, characters[row, start + length])
            row, start = row[there], start[there]
            piece = self._trie.pieces[node]
            ends = piece != _NONE
            found[start[ends] + length, row[ends], length] = piece[ends]
        return found

    def _spelled(self, text: str, ids: Sequence[int]) -> list[int]:
        """A segmentation with the bytes of characters that have no piece."""
        found: list[int] = []
        place = 0
        for index in ids:
            alone = index == self._alone
            found += [self._bytes[byte] for byte in text[place].encode("utf-8")] if alone else [index]
            place += 1 if alone else self._lengths[index]
        return found


class _Trie:
    """The pieces by their characters: nodes are numbers, 0 is the root."""

    def __init__(self, words: Mapping[int, str]) -> None:
        edges: dict[int, int] = {}  # node and code point -> node
        ends: dict[int, int] = {}
        for index, word in words.items():
            node = 0
            for letter in word:
                node = edges.setdefault(node << _CODE_POINT | ord(letter), len(edges) + 1)
            ends[node] = index
        self.pieces = np.full(len(edges) + 1, _NONE, dtype=np.int32)  # per node
        self.pieces[list(ends)] = list(ends.values())
        self._keys = np.array(sorted(edges))
        self._nodes = np.array([edges[key] for key in self._keys.tolist()])

    def follow(
        self, nodes: NDArray[np.int64], letters: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Which nodes have an edge of their letter (-1 is on none), and where these lead."""
        keys = np.where(letters == _NONE, _NONE, nodes << _CODE_POINT | letters)
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        there = self._keys[place] == keys
        return there, self._nodes[place[there]]


def _log_sums(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log weights of all ways together to cut the first t characters, in row L - 1 + t: (T, N, L) -> (T + L, N)."""
    width, count, longest = scores.shape
    sums = np.full((longest + width, count), -np.inf)
    sums[longest - 1] = 0.0
    for end in range(width):
        ways = scores[end] + sums[end : end + longest][::-1].T  # (N, L): the shortest piece leaves the most before it
        top = ways.max(axis=1)
        sums[longest + end] = top + np.log(np.exp(ways - top[:, None]).sum(axis=1))
    return sums


def _code_points(texts: Sequence[str], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Texts as rows of code points, filled up with -1 on the right: (N, T)."""
    filled = np.full((len(texts), int(lengths.max())), _NONE, dtype=np.int64)
    filled[np.arange(filled.shape[1]) < lengths[:, None]] = np.frombuffer("".join(texts).encode("utf-32-le"), "<u4")
    return filled


def _batches(places: Sequence[int], texts: Sequence[str]) -> Iterator[list[int]]:
    """Texts in the order of their lengths, cut so that each batch is a rectangle of bounded size."""
    batch: list[int] = []
    for place in places:
        if batch and (len(batch) + 1) * len(texts[place]) > _CHARACTERS_AT_ONCE:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
