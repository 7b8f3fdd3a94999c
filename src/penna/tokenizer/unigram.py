"""Training a unigram tokenizer: SentencePiece learns the pieces, the `tokenizers` library applies them (Kudo 2018,
arXiv:1804.10959).

The vocabulary is the separator (id 0), newline, tab, the 256 bytes, and learned pieces with their log-probabilities.
Ids are those of the SentencePiece model. To be lossless, three things differ from SentencePiece: pieces contain plain
spaces instead of "▁" (a real "▁" is encoded as bytes), nothing is normalized, and text that spells a control or byte
token ("<0x41>") is split after its "<", so that it stays text.
"""

import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import sentencepiece
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers

from penna.errors import TokenizerError
from penna.tokenizer.files import SEPARATOR
from penna.tokenizer.sentencepiece_model import exact_score

WHITESPACE_TOKENS = ("\n", "\t")
_BEFORE_PIECES = 1 + len(WHITESPACE_TOKENS) + 256
MIN_UNIGRAM_VOCABULARY = _BEFORE_PIECES + 32
"""The separator, newline, tab, the bytes, and a few pieces."""

CHARACTER_COVERAGE = 0.9995
"""Share of the text's characters that get their own token; SentencePiece's default."""

MAX_SENTENCE_CHARACTERS = 1000
"""Longer sentences are split: SentencePiece silently drops sentences of more than 4192 bytes."""

MAX_TRAINING_CHARACTERS = 20_000_000
"""Maximum training text; SentencePiece needs about 50 bytes of memory per character, so 1 GB."""

THREADS = 8
"""Fixed, because SentencePiece sums per thread: another number changes the last digits of the scores."""

# The "<" of text that spells a byte token or the separator; the library parses "<0x+f>" as a byte, too. No piece
# contains such text: SentencePiece does not mix letters with digits or signs.
_LITERAL = r"<(?=0x[+0-9A-Fa-f][0-9A-Fa-f]>|\|endoftext\|>)"
# SentencePiece reserves NUL, U+2581 and U+2585, and skips sentences that contain them.
_RESERVED = "\0\u2581\u2585"
_SPLITS = re.compile(f"[{''.join(WHITESPACE_TOKENS)}{_RESERVED}]")


def train_unigram(
    texts: Iterable[str], vocab_size: int, report: Callable[[str], None] = lambda _: None
) -> tokenizers.Tokenizer:
    """Learn up to ``vocab_size`` tokens from ``texts``; fewer when the text is too small for more.

    The text is kept in memory. Of more than MAX_TRAINING_CHARACTERS, every second line is used, or every fourth, and so
    on: an even, reproducible sample, which ``report`` mentions. Raises TokenizerError if SentencePiece fails.
    """
    if vocab_size < MIN_UNIGRAM_VOCABULARY:
        raise TokenizerError(
            f"A unigram tokenizer cannot have {vocab_size} tokens.",
            f"It needs a vocab_size of at least {MIN_UNIGRAM_VOCABULARY}: bytes, newline, tab, separator and pieces.",
            'Use a larger vocab_size, or kind = "char" for a small vocabulary.',
        )
    lines, step = _lines(texts)
    if step > 1:
        report(
            f"The text has more than {MAX_TRAINING_CHARACTERS:,} characters: the unigram tokenizer uses one line "
            f"in {step}."
        )
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(line)
    rare = _rare_characters(counts, most=(vocab_size - _BEFORE_PIECES) // 2)
    pieces = _learn(_sentences(lines, rare), vocab_size)
    inner = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(_LITERAL), behavior="merged_with_previous")
    inner.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    inner.add_special_tokens([SEPARATOR])
    return inner


def _lines(texts: Iterable[str]) -> tuple[list[str], int]:
    """The text split at line ends, reserved characters and the maximum length; and n if only every n-th is kept."""
    lines: list[str] = []
    step, total, number = 1, 0, 0
    for text in texts:
        for line in (part for found in _SPLITS.split(text) if found for part in _split_long(found)):
            if number % step == 0:
                lines.append(line)
                total += len(line)
            number += 1
            while total > MAX_TRAINING_CHARACTERS and len(lines) > 1:
                step *= 2
                lines = lines[::2]  # keeps the first line, so that every step-th line is kept
                total = sum(map(len, lines))
    return lines, step


def _sentences(lines: list[str], rare: set[str]) -> Iterator[str]:
    """The lines, split at rare characters (which no piece contains) and at the maximum length."""
    cuts = dict.fromkeys(map(ord, rare), "\n")
    for line in lines:
        for sentence in line.translate(cuts).split("\n") if cuts else [line]:
            yield from _split_long(sentence)


def _rare_characters(counts: Counter[str], most: int) -> set[str]:
    """The characters that are encoded as bytes: those beyond CHARACTER_COVERAGE or the ``most`` frequent ones.

    SentencePiece's own coverage has no maximum, and fails if the characters fill the vocabulary.
    """
    target = CHARACTER_COVERAGE * counts.total()
    covered = 0
    rare: set[str] = set()
    for rank, (character, count) in enumerate(sorted(counts.items(), key=lambda item: (-item[1], item[0]))):
        if rank >= most or covered >= target:
            rare.add(character)
        covered += count
    return rare


def _split_long(sentence: str) -> Iterator[str]:
    """``sentence`` in parts of at most MAX_SENTENCE_CHARACTERS, split before a space if there is one."""
    start = 0
    while len(sentence) - start > MAX_SENTENCE_CHARACTERS:
        end = start + MAX_SENTENCE_CHARACTERS
        space = sentence.rfind(" ", start + 1, end)
        end = space if space > 0 else end
        yield sentence[start:end]
        start = end
    if start < len(sentence):
        yield sentence[start:]


def _learn(sentences: Iterator[str], vocab_size: int) -> list[tuple[str, float]]:
    """SentencePiece's pieces and their log-probabilities, by id."""
    model = io.BytesIO()
    trainer: Any = sentencepiece.SentencePieceTrainer
    try:
        trainer.train(
            sentence_iterator=sentences,
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            character_coverage=1.0,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            byte_fallback=True,
            user_defined_symbols=list(WHITESPACE_TOKENS),
            unk_id=0,
            unk_piece=SEPARATOR,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise TokenizerError(
            f"SentencePiece cannot learn a unigram vocabulary of {vocab_size} tokens from the text: "
            f"{str(error).strip()}.",
            "It needs at least a few pages of varied text.",
            'Use more text, or kind = "bpe" or "char", which can learn from any text.',
        ) from error
    processor: Any = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(cast(int, processor.vocab_size()))
    return [(processor.id_to_piece(i).replace("\u2581", " "), exact_score(processor.get_score(i))) for i in ids]
