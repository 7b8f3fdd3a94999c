"""Converting a SentencePiece ``.model`` (unigram, BPE or characters) to a `tokenizers.Tokenizer` with the same ids.

SentencePiece works like this (google/sentencepiece, src/normalizer.cc, src/unigram_model.cc, src/bpe_model.cc):

- It normalizes by rules (`penna.tokenizer.charsmap`), trims spaces, adds one in front, and writes "▁" for each.
- Unigram: the most probable segmentation (Kudo 2018, arXiv:1804.10959). A user-defined symbol scores 0.1 per byte after
  the first (since SentencePiece 0.2.3; -0.1 before).
- BPE: of all neighbors whose concatenation is a piece, the one with the best score is merged first, the leftmost of
  equals. User-defined symbols are split off before.
- Consecutive unknown characters are one unknown token, or with byte fallback their bytes.
- Text that spells a control or byte token stays text. The library would parse the token, so such text is split where no
  piece could span.

One difference remains: SentencePiece adds up scores in 32 bits, the library in 64. If two segmentations cost the same,
or nearly, SentencePiece's choice depends on rounding (repeated letters; lines of thousands of characters). Models that
cannot be converted are refused with the reason.
"""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from penna.errors import TokenizerError
from penna.tokenizer.charsmap import START, CharsmapError, Rules
from penna.tokenizer.files import Settings, converted_settings
from penna.tokenizer.sentencepiece_model import (
    ModelFormatError,
    ModelKind,
    PieceKind,
    SentencePieceModel,
    exact_score,
    parse_model,
)

SPACE = "\u2581"


class _ConversionError(ValueError):
    """The model cannot be converted with the same ids; the message says why."""


def read_sentencepiece(file: Path, settings: Settings) -> tuple[tokenizers.Tokenizer, Settings]:
    """The tokenizer of a ``.model`` file and its settings.

    The special tokens are the model's (bos, eos, unk, pad), unless ``settings`` names others. Raises TokenizerError for
    a file that is not a model, and for a model that cannot be converted with the same ids.
    """
    try:
        model = parse_model(file.read_bytes())
    except OSError as error:
        raise TokenizerError(
            f"{file} cannot be read: {error.strerror}.", "Expected a readable file.", "Check its permissions."
        ) from error
    except ModelFormatError as error:
        raise TokenizerError(
            f"{file} is not a SentencePiece model: {error}.",
            "Expected a .model file of SentencePiece.",
            "Check that it is the right file, and complete. Some .model files have other formats (tiktoken); use "
            "the tokenizer.json of that model instead.",
        ) from error
    try:
        inner = _convert(model)
    except (_ConversionError, CharsmapError) as error:
        raise TokenizerError(
            f"{file} cannot be converted with the same ids for every text: {error}.",
            "Expected a unigram, BPE or character model that the tokenizers library can reproduce.",
            "If the model comes with a tokenizer.json, use that instead.",
        ) from error
    names = {f"{role}_token": model.pieces[index].text for role, index in model.roles.items()}
    return inner, converted_settings(settings, names, {piece.text for piece in model.pieces})


def _convert(model: SentencePieceModel) -> tokenizers.Tokenizer:
    _check(model)
    texts = {piece.text for piece in model.pieces if piece.kind in (PieceKind.NORMAL, PieceKind.USER_DEFINED)}
    symbols = [piece.text for piece in model.pieces if piece.kind is PieceKind.USER_DEFINED]
    unknown = model.pieces[_unknown_id(model)].text
    # Text that spells an unknown token of unknown letters becomes that token anyway.
    harmless = {unknown} if not model.byte_fallback and texts.isdisjoint(unknown) else set[str]()
    reserved = [piece.text for piece in model.pieces if piece.text not in texts | harmless]
    splits: list[Any] = []
    if model.kind is ModelKind.UNIGRAM:
        inner = tokenizers.Tokenizer(_unigram(model))
        splits = _split_reserved(reserved, texts, model.byte_fallback)
    else:
        long_symbols = [symbol for symbol in symbols if len(symbol) > 1]
        inner = tokenizers.Tokenizer(_bpe(model, texts, ignore_merges=bool(long_symbols)))
        if symbols:
            splits.append(pre_tokenizers.Split(Regex(_any_of(symbols)), behavior="isolated"))
        if long_symbols:
            splits += _split_reserved(reserved, texts, model.byte_fallback)
    if SPACE in texts and not any(right == SPACE != left for text in texts for left, right in pairwise(text)):
        # No piece crosses a word boundary, so words can be split off, which makes the library's cache effective.
        splits.append(pre_tokenizers.Split(Regex(f"{SPACE}+[^{SPACE}]*"), behavior="isolated"))
    if splits:
        inner.pre_tokenizer = pre_tokenizers.Sequence(splits)
    if steps := _normalizers(model, symbols, texts):
        inner.normalizer = normalizers.Sequence(steps)
    strip = [decoders.Strip(" ", 1, 0)] if model.dummy_prefix or model.trims_spaces else []
    inner.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    special = (PieceKind.CONTROL, PieceKind.UNKNOWN)
    inner.add_special_tokens([piece.text for piece in model.pieces if piece.kind in special])
    return inner


def _check(model: SentencePieceModel) -> None:
    """Raise for a model that SentencePiece itself would not load, and for options that have no equivalent."""
    kinds = [piece.kind for piece in model.pieces]
    if model.kind is ModelKind.WORD:
        raise _ConversionError("it is a model of whole words (model_type=word)")
    if model.space_is_suffix:
        raise _ConversionError("a space belongs to the word before it (treat_whitespace_as_suffix)")
    if not model.escapes_spaces:
        raise _ConversionError("it does not write spaces as ▁ (escape_whitespaces=false)")
    if PieceKind.UNUSED in kinds:
        raise _ConversionError(f"the piece {model.pieces[kinds.index(PieceKind.UNUSED)].text!r} is marked as unused")
    if kinds.count(PieceKind.UNKNOWN) != 1:
        raise _ConversionError(f"it has {kinds.count(PieceKind.UNKNOWN)} unknown tokens instead of one")
    if model.byte_fallback != (PieceKind.BYTE in kinds) or kinds.count(PieceKind.BYTE) not in (0, 256):
        raise _ConversionError(
            f"it has {kinds.count(PieceKind.BYTE)} byte tokens, with byte_fallback={model.byte_fallback}"
        )
    seen: set[str] = set()
    for piece in model.pieces:
        if not piece.text or piece.text in seen:
            raise _ConversionError(f"the piece {piece.text!r} occurs twice" if piece.text else "it has an empty piece")
        if piece.kind is PieceKind.USER_DEFINED and " " in piece.text:
            raise _ConversionError(
                f"the user-defined symbol {piece.text!r} has a space, which normalized text never has"
            )
        if piece.kind in (PieceKind.CONTROL, PieceKind.UNKNOWN) and len(piece.text) == 1:
            raise _ConversionError(f"the control token {piece.text!r} is a single character, which text may contain")
        seen.add(piece.text)


def _normalizers(model: SentencePieceModel, symbols: list[str], texts: set[str]) -> list[Any]:
    """Normalizer::Normalize, step by step. The trailing trim also removes "▁" of the text and the added prefix."""
    start = ""
    steps: list[Any] = []
    last: list[Any] = []
    if model.charsmap:
        rules = Rules(model.charsmap, symbols, None if model.byte_fallback else set("".join(texts)))
        steps, last, start = rules.steps(), rules.last_steps(), START
    elif model.dummy_prefix:
        steps, start = [normalizers.Prepend(SPACE)], SPACE
    if model.trims_spaces:
        steps += [normalizers.Replace(Regex(rf"\A{start}\K +"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    steps.append(normalizers.Replace(" ", SPACE))
    if model.charsmap:
        steps.append(normalizers.Replace(START, SPACE if model.dummy_prefix else ""))
    if model.trims_spaces:
        steps.append(normalizers.Replace(Regex(rf"{SPACE}+\z"), ""))
    return [*steps, *last]


def _unigram(model: SentencePieceModel) -> Any:
    """The pieces with the scores of `unigram_model.cc`; pieces that are not text get the worst score."""
    worst = min((piece.score for piece in model.pieces if piece.kind is PieceKind.NORMAL), default=0.0)

    def score(kind: PieceKind, text: str, own: float) -> float:
        if kind is PieceKind.USER_DEFINED:
            return 0.1 * len(text.encode()) - 0.1
        return exact_score(own if kind is PieceKind.NORMAL else worst)

    vocab = [(piece.text, score(piece.kind, piece.text, piece.score)) for piece in model.pieces]
    return models.Unigram(vocab, unk_id=_unknown_id(model), byte_fallback=model.byte_fallback)


def _bpe(model: SentencePieceModel, texts: set[str], *, ignore_merges: bool) -> Any:
    """BPE with a merge for every pair of pieces that makes a piece, best score first.

    The merges that make the same piece have equal rank in SentencePiece and adjacent ranks here. This has no effect:
    they could only conflict over the same middle piece, and the leftmost pair is merged first.
    """
    pieces = [piece for piece in model.pieces if piece.kind is PieceKind.NORMAL and len(piece.text) > 1]
    letters = {text for text in texts if len(text) == 1}
    normal = {piece.text for piece in model.pieces if piece.kind is PieceKind.NORMAL}
    vocab = {piece.text: index for index, piece in enumerate(model.pieces)}
    merges: list[tuple[str, str]] = []
    scores: set[float] = set()
    if model.kind is ModelKind.BPE:
        for piece in sorted(pieces, key=lambda piece: -piece.score):
            text = piece.text
            if lacking := set(text) - letters:
                raise _ConversionError(f"the piece {text!r} contains {min(lacking)!r}, which is not a piece")
            pairs = [(text[:split], text[split:]) for split in range(len(text) - 1, 0, -1)]
            possible = [(left, right) for left, right in pairs if left in normal and right in normal]
            if possible and piece.score in scores:
                raise _ConversionError(f"the piece {text!r} has the same score as another")
            scores.add(piece.score)
            merges += possible
    options = {
        "unk_token": model.pieces[_unknown_id(model)].text,
        "fuse_unk": True,
        "byte_fallback": model.byte_fallback,
    }
    bpe: Any = models.BPE(vocab=vocab, merges=merges, **options)
    if not ignore_merges:
        return bpe
    # A symbol that was split off must be found as a whole, without merges. This finds other pieces in the same way, so
    # merging must lead to all of them.
    for piece in pieces:
        if [token.id for token in bpe.tokenize(piece.text)] != [vocab[piece.text]]:
            raise _ConversionError(f"it has user-defined symbols, and the piece {piece.text!r} that no merges make")
    return models.BPE(vocab=vocab, merges=merges, ignore_merges=True, **options)


def _unknown_id(model: SentencePieceModel) -> int:
    return next(index for index, piece in enumerate(model.pieces) if piece.kind is PieceKind.UNKNOWN)


def _split_reserved(reserved: Iterable[str], texts: set[str], byte_fallback: bool) -> list[Any]:
    """A step that splits text which spells a reserved token, between two letters that no piece has side by side."""
    adjacent = {left + right for text in texts for left, right in pairwise(text)}
    patterns: list[str] = []
    for name in reserved:
        positions = [split for split in range(1, len(name)) if name[split - 1 : split + 1] not in adjacent]
        if not byte_fallback:  # two adjacent unknown letters are one token, and must not be split
            positions = [split for split in positions if name[split - 1] in texts or name[split] in texts]
        if not positions:
            raise _ConversionError(f"text that spells {name!r} would become that token")
        patterns.append(f"{_escape(name[: positions[0]])}(?={_escape(name[positions[0] :])})")
    return [pre_tokenizers.Split(Regex("|".join(patterns)), behavior="merged_with_previous")] if patterns else []


def _any_of(symbols: Iterable[str]) -> str:
    return "|".join(_escape(symbol) for symbol in sorted(symbols, key=lambda symbol: (-len(symbol), symbol)))


def _escape(text: str) -> str:
    return "".join(f"\\x{{{ord(letter):X}}}" for letter in text)
