"""How a tokenizer cuts a text: lengths in tokens, how much a token holds, and what it has no token for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from penna.data.inspection.codepoints import Batch
from penna.data.inspection.lengths import LengthCounter
from penna.data.inspection.result import Amount, Cut, Lengths
from penna.text.tokenizer import Tokenizer

_SAMPLES = 3
_SAMPLE_CHARACTERS = 48
_UNKNOWN = ("<unk>", "[UNK]", "<|unk|>", "<UNK>", "[unk]")


class CutCounter:
    """Encodes every batch it is shown, and keeps counts."""

    def __init__(self, tokenizer: Tokenizer, name: str) -> None:
        self._tokenizer, self._name = tokenizer, name
        self._lengths = LengthCounter("documents", "tokens")
        self._counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)

    def add(self, batch: Batch) -> None:
        """Encode a batch. The pieces of a long document are encoded by themselves."""
        encoded = self._tokenizer.encode_batch(batch.texts)
        self._lengths.add_pieces(np.array([len(ids) for ids in encoded]), batch.starts)
        every = np.fromiter(itertools.chain.from_iterable(encoded), dtype=np.int64)
        self._counts += np.bincount(every, minlength=len(self._counts))

    def count(self, text: str) -> int:
        """The tokens of one text."""
        return len(self._tokenizer.encode(text))

    def lengths(self) -> Lengths:
        """Lengths of the documents in tokens."""
        return self._lengths.told()

    def told(self, amount: Amount, sample: Sequence[str]) -> Cut:
        """The figures of all batches, which hold ``amount`` of text; ``sample`` gives a few lines to show."""
        tokens = int(self._counts.sum())
        special = self._tokenizer.special_tokens
        unknown = sum(int(self._counts[special[name]]) for name in _UNKNOWN if name in special)
        step = max(1, len(sample) // _SAMPLES)
        return Cut(
            tokenizer=self._name,
            vocab_size=self._tokenizer.vocab_size,
            tokens=tokens,
            tokens_per_word=tokens / max(amount.words, 1),
            tokens_per_character=tokens / max(amount.characters, 1),
            bytes_per_token=amount.bytes / max(tokens, 1),
            unknown=unknown / max(tokens, 1),
            used=int(np.count_nonzero(self._counts)),
            samples=tuple(self._pieces(text) for text in sample[::step][:_SAMPLES]),
        )

    def _pieces(self, text: str) -> tuple[str, ...]:
        first = next(line for line in text.splitlines() if line.strip())[:_SAMPLE_CHARACTERS]
        return tuple(self._tokenizer.token_text(index) for index in self._tokenizer.encode(first))
