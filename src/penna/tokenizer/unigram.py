"""The unigram tokenizer: SentencePiece learns the pieces, the `tokenizers` library applies them.

In comes training text, out comes a vocabulary laid out as: the separator (id 0), newline, tab, the 256 bytes, then the
learned pieces with their log-probabilities; text is cut into the pieces whose product is most probable (Kudo 2018,
arXiv:1804.10959). Ids are those of the SentencePiece model. Three things differ from SentencePiece's habits so that no
text is changed: pieces hold a plain space where it writes "▁" (a real "▁" goes to its bytes), nothing is normalised,
and text that spells a control or byte token ("<0x41>") is cut after its "<", so that it stays text.
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
from penna.tokenizer.files import SEPARATOR, add_special_tokens
from penna.tokenizer.sentencepiece_model import exact_score

OWN_TOKENS = ("\n", "\t")
_BEFORE_PIECES = 1 + len(OWN_TOKENS) + 256
MIN_UNIGRAM_VOCABULARY = _BEFORE_PIECES + 32
"""The separator, newline and tab, the bytes, and at least a handful of pieces."""

CHARACTER_COVERAGE = 0.9995
"""The share of the text's characters that get a token of their own; SentencePiece's own default."""

MAX_SENTENCE_CHARACTERS = 1000
"""In characters; SentencePiece drops sentences of more than 4192 bytes without a word, so longer ones are cut."""

MAX_TRAINING_CHARACTERS = 20_000_000
"""What is learned from at most, and held in memory: with what SentencePiece needs, some 50 bytes each, so 1 GB."""

THREADS = 8
"""Fixed: SentencePiece sums per thread, so another number gives scores that differ in the last digits."""

# "<" where the text spells a byte token or the separator; the library reads "<0x+f>" as a byte too. No such piece is
# learned: SentencePiece lets none mix letters with digits or signs.
_LITERAL = r"<(?=0x[+0-9A-Fa-f][0-9A-Fa-f]>|\|endoftext\|>)"
# SentencePiece keeps NUL, U+2581 and U+2585 for itself, and skips sentences that hold them.
_RESERVED = "\0\u2581\u2585"
_CUTS = re.compile(f"[{''.join(OWN_TOKENS)}{_RESERVED}]")


def train_unigram(
    texts: Iterable[str], vocab_size: int, report: Callable[[str], None] = lambda _: None
) -> tokenizers.Tokenizer:
    """Learn up to ``vocab_size`` tokens from ``texts``; fewer when the text is too small for more.

    The text is held in memory. Of more than MOST_CHARACTERS every second line is learned from, or every fourth, and so
    on: an even sample of all of it, the same one every time, and ``say`` is told. Raises TokenizerError when
    SentencePiece cannot learn from the text.
    """
    if vocab_size < MIN_UNIGRAM_VOCABULARY:
        raise TokenizerError(
            f"A unigram tokenizer of {vocab_size} tokens cannot be made.",
            f"Expected vocab_size of at least {MIN_UNIGRAM_VOCABULARY}: bytes, newline, tab, separator and pieces.",
            'Give a larger vocab_size, or use kind = "char" for a small vocabulary.',
        )
    lines, step = _lines(texts)
    if step > 1:
        report(
            f"The text is longer than the {MAX_TRAINING_CHARACTERS:,} characters a unigram tokenizer is learned from: "
            f"it learns from one line in {step}."
        )
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(line)
    rare = _rare(counts, most=(vocab_size - _BEFORE_PIECES) // 2)
    pieces = _learn(_sentences(lines, rare), vocab_size)
    inner = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(_LITERAL), behavior="merged_with_previous")
    inner.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    add_special_tokens(inner, [SEPARATOR])
    return inner


def _lines(texts: Iterable[str]) -> tuple[list[str], int]:
    """The text cut at lines, reserved characters and LONGEST_SENTENCE: all of it, or one line in how many."""
    lines: list[str] = []
    step, held, place = 1, 0, 0
    for text in texts:
        for line in (part for found in _CUTS.split(text) if found for part in _short(found)):
            if place % step == 0:
                lines.append(line)
                held += len(line)
            place += 1
            while held > MAX_TRAINING_CHARACTERS and len(lines) > 1:
                step *= 2
                lines = lines[::2]  # the first of all is kept, so that those kept are every step-th
                held = sum(map(len, lines))
    return lines, step


def _sentences(lines: list[str], rare: set[str]) -> Iterator[str]:
    """The lines cut again where a rare character stands (no piece is to hold one), and where they are too long."""
    cuts = dict.fromkeys(map(ord, rare), "\n")
    for line in lines:
        for sentence in line.translate(cuts).split("\n") if cuts else [line]:
            yield from _short(sentence)


def _rare(counts: Counter[str], most: int) -> set[str]:
    """The characters that go to bytes: all but the ``most`` frequent ones, and of those the ones beyond COVERAGE.

    SentencePiece's own coverage knows no ``most``, and gives up where the characters fill the vocabulary.
    """
    wanted = CHARACTER_COVERAGE * counts.total()
    covered = 0
    rare: set[str] = set()
    for rank, (character, count) in enumerate(sorted(counts.items(), key=lambda item: (-item[1], item[0]))):
        if rank >= most or covered >= wanted:
            rare.add(character)
        covered += count
    return rare


def _short(sentence: str) -> Iterator[str]:
    """``sentence`` in parts of at most LONGEST_SENTENCE characters, cut before a space where there is one."""
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
    """SentencePiece's pieces in the order of their ids, and their log-probabilities."""
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
            user_defined_symbols=list(OWN_TOKENS),
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
            f"SentencePiece could not learn a unigram vocabulary of {vocab_size} tokens from the text: "
            f"{str(error).strip()}.",
            "Expected text with enough different words to learn from; a few pages, at least.",
            'Give more text, or use kind = "bpe" or "char", which learn from any text.',
        ) from error
    processor: Any = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(cast(int, processor.vocab_size()))
    return [(_spelling(processor.id_to_piece(index)), exact_score(processor.get_score(index))) for index in ids]


def _spelling(piece: str) -> str:
    return piece.replace("\u2581", " ")
