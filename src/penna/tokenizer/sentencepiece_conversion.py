"""A SentencePiece ``.model``, rebuilt as a tokenizer of the `tokenizers` library that gives the same ids.

In comes the file (unigram, BPE or characters), out comes the tokenizer and the settings to keep with it. What
SentencePiece does and how it is said here (google/sentencepiece, src/normalizer.cc, src/unigram_model.cc,
src/bpe_model.cc):

- it normalises by rules (`penna.tokenizer.charsmap`), trims spaces, puts one in front, and writes "▁" for each;
- unigram: the most probable pieces (Kudo 2018, arXiv:1804.10959); a user-defined symbol scores 0.1 for each byte but
  the first (as in SentencePiece 0.2.3; earlier ones gave it -0.1);
- BPE: of all neighbours whose joining is a piece, the best-scored are joined first, the leftmost of equals; a
  user-defined symbol is taken out beforehand;
- unknown characters in a row are one unknown token, or with byte fallback their bytes;
- text that spells a control or byte token is text. The library would take it for the token, so such text is cut
  where no piece could have reached across.

One thing cannot be had: SentencePiece adds up a whole line's scores in 32 bits, the library in 64. Where two ways to
cut cost the same, or very nearly, SentencePiece's choice hangs on the rounding of all that went before (runs of one
letter; lines of thousands of characters). What cannot be rebuilt at all is refused by name.
"""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from penna.errors import TokenizerError
from penna.tokenizer.charsmap import START, CharsmapError, Rules
from penna.tokenizer.files import Settings, add_special_tokens, converted_settings
from penna.tokenizer.sentencepiece_model import (
    ModelFormatError,
    ModelKind,
    PieceKind,
    SentencePieceModel,
    exact_score,
    parse_model,
)

SPACE = "\u2581"


class _UnlikeError(ValueError):
    """Something that cannot be rebuilt with the same ids; the message says what."""


def read_sentencepiece(file: Path, settings: Settings) -> tuple[tokenizers.Tokenizer, Settings]:
    """The tokenizer of a ``.model`` and the settings to keep with it.

    The special tokens are those the model names (bos, eos, unk, pad), unless ``settings`` names others.
    Raises TokenizerError for a file that is no model, and for a model that cannot be rebuilt with the same ids.
    """
    try:
        model = parse_model(file.read_bytes())
    except OSError as error:
        raise TokenizerError(f"{file} cannot be read: {error.strerror}.", "A readable file.", "Check it.") from error
    except ModelFormatError as error:
        raise TokenizerError(
            f"{file} is no SentencePiece model: {error}.",
            "Expected a .model as SentencePiece writes it.",
            "Check that it is the right file, and whole. Some .model files hold other forms (tiktoken's, for one): "
            "take the tokenizer.json that comes with that model.",
        ) from error
    try:
        inner = _rebuilt(model)
    except (_UnlikeError, CharsmapError) as error:
        raise TokenizerError(
            f"{file} cannot be rebuilt so that every text gets the same ids: {error}.",
            "Expected a unigram, BPE or character model whose pieces and rules the tokenizers library can follow.",
            "If the model comes with a tokenizer.json, read that instead.",
        ) from error
    names = {f"{role}_token": model.pieces[index].text for role, index in model.roles.items()}
    kept = converted_settings(settings, names, {piece.text for piece in model.pieces})
    return inner, kept


def _rebuilt(model: SentencePieceModel) -> tokenizers.Tokenizer:
    _check(model)
    texts = {piece.text for piece in model.pieces if piece.kind in (PieceKind.NORMAL, PieceKind.USER_DEFINED)}
    symbols = [piece.text for piece in model.pieces if piece.kind is PieceKind.USER_DEFINED]
    unknown = model.pieces[_unknown(model)].text
    # An unknown token of unknown letters is what text that spells it becomes in any case.
    keep_text = {unknown} if not model.byte_fallback and texts.isdisjoint(unknown) else set[str]()
    reserved = [piece.text for piece in model.pieces if piece.text not in texts | keep_text]
    cuts: list[Any] = []
    if model.kind is ModelKind.UNIGRAM:
        inner = tokenizers.Tokenizer(_unigram(model))
        cuts = _cuts_in_reserved(reserved, texts, model.byte_fallback)
    else:
        long_symbols = [symbol for symbol in symbols if len(symbol) > 1]
        inner = tokenizers.Tokenizer(_bpe(model, texts, whole=bool(long_symbols)))
        if symbols:
            cuts.append(pre_tokenizers.Split(Regex(_any_of(symbols)), behavior="isolated"))
        if long_symbols:
            cuts += _cuts_in_reserved(reserved, texts, model.byte_fallback)
    if SPACE in texts and not any(right == SPACE != left for text in texts for left, right in pairwise(text)):
        cuts.append(pre_tokenizers.Split(Regex(f"{SPACE}+[^{SPACE}]*"), behavior="isolated"))  # words, for the cache
    if cuts:
        inner.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    if steps := _normalizers(model, symbols, texts):
        inner.normalizer = normalizers.Sequence(steps)
    strip = [decoders.Strip(" ", 1, 0)] if model.dummy_prefix or model.trims_spaces else []
    inner.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    special = (PieceKind.CONTROL, PieceKind.UNKNOWN)
    add_special_tokens(inner, [piece.text for piece in model.pieces if piece.kind in special])
    return inner


def _check(model: SentencePieceModel) -> None:
    """Raise for what SentencePiece itself would not load, and for options that have no counterpart."""
    kinds = [piece.kind for piece in model.pieces]
    if model.kind is ModelKind.WORD:
        raise _UnlikeError("it is a model of whole words (model_type=word)")
    if model.space_is_suffix:
        raise _UnlikeError("it keeps the space behind a word (treat_whitespace_as_suffix)")
    if not model.escapes_spaces:
        raise _UnlikeError("it does not write spaces as ▁ (escape_whitespaces=false)")
    if PieceKind.UNUSED in kinds:
        raise _UnlikeError(f"the piece {model.pieces[kinds.index(PieceKind.UNUSED)].text!r} is marked as unused")
    if kinds.count(PieceKind.UNKNOWN) != 1:
        raise _UnlikeError(f"it has {kinds.count(PieceKind.UNKNOWN)} unknown tokens instead of one")
    if model.byte_fallback != (PieceKind.BYTE in kinds) or kinds.count(PieceKind.BYTE) not in (0, 256):
        raise _UnlikeError(
            f"it has {kinds.count(PieceKind.BYTE)} byte tokens, with byte_fallback={model.byte_fallback}"
        )
    seen: set[str] = set()
    for piece in model.pieces:
        if not piece.text or piece.text in seen:
            raise _UnlikeError(f"the piece {piece.text!r} stands twice" if piece.text else "it has an empty piece")
        if piece.kind is PieceKind.USER_DEFINED and " " in piece.text:
            raise _UnlikeError(f"the user-defined symbol {piece.text!r} has a space, which text never has there")
        if piece.kind in (PieceKind.CONTROL, PieceKind.UNKNOWN) and len(piece.text) == 1:
            raise _UnlikeError(f"the control token {piece.text!r} is a single character, which text may have")
        seen.add(piece.text)


def _normalizers(model: SentencePieceModel, symbols: list[str], texts: set[str]) -> list[Any]:
    """Normalizer::Normalize, step by step. The trailing trim takes "▁" of the text and the front space as well."""
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
    """The scores as `unigram_model.cc` has them; those of tokens that are no text are out of the way."""
    normal = [piece.score for piece in model.pieces if piece.kind is PieceKind.NORMAL]
    worst = min(normal, default=0.0)

    def score(kind: PieceKind, text: str, own: float) -> float:
        if kind is PieceKind.USER_DEFINED:
            return 0.1 * len(text.encode()) - 0.1
        return exact_score(own if kind is PieceKind.NORMAL else worst)

    vocab = [(piece.text, score(piece.kind, piece.text, piece.score)) for piece in model.pieces]
    return models.Unigram(vocab, unk_id=_unknown(model), byte_fallback=model.byte_fallback)


def _bpe(model: SentencePieceModel, texts: set[str], *, whole: bool) -> Any:
    """BPE with every pair of pieces whose joining is a piece, best first; with ``whole`` a text that is a piece is it.

    The ways to make one piece are equals to SentencePiece, and neighbours in rank here. That could only show where two
    of them reach for the same middle, which joining the leftmost pair first does not leave over.
    """
    pieces = [piece for piece in model.pieces if piece.kind is PieceKind.NORMAL and len(piece.text) > 1]
    letters = {text for text in texts if len(text) == 1}
    normal = {piece.text for piece in model.pieces if piece.kind is PieceKind.NORMAL}
    vocab = {piece.text: index for index, piece in enumerate(model.pieces)}
    merges: list[tuple[str, str]] = []
    scores: set[float] = set()
    if model.kind is ModelKind.BPE:
        for piece in sorted(pieces, key=lambda piece: -piece.score):
            if lacking := set(piece.text) - letters:
                raise _UnlikeError(f"the piece {piece.text!r} has {min(lacking)!r}, which is no piece of its own")
            text = piece.text
            pairs = [(text[:place], text[place:]) for place in range(len(text) - 1, 0, -1)]
            made = [(left, right) for left, right in pairs if left in normal and right in normal]
            if made and piece.score in scores:
                raise _UnlikeError(f"the piece {piece.text!r} has the same score as another")
            scores.add(piece.score)
            merges += made
    options = {"unk_token": model.pieces[_unknown(model)].text, "fuse_unk": True, "byte_fallback": model.byte_fallback}
    bpe: Any = models.BPE(vocab=vocab, merges=merges, **options)
    if not whole:
        return bpe
    # With a text that is a piece taken as it is, a symbol that was cut out is found. No piece may be found so that
    # joining would not have made.
    for piece in pieces:
        if [token.id for token in bpe.tokenize(piece.text)] != [vocab[piece.text]]:
            raise _UnlikeError(f"it has user-defined symbols and a piece that joining does not make, {piece.text!r}")
    return models.BPE(vocab=vocab, merges=merges, ignore_merges=True, **options)


def _unknown(model: SentencePieceModel) -> int:
    return next(index for index, piece in enumerate(model.pieces) if piece.kind is PieceKind.UNKNOWN)


def _cuts_in_reserved(reserved: Iterable[str], texts: set[str], byte_fallback: bool) -> list[Any]:
    """A step that cuts text which spells a reserved token, between two letters that stand together in no piece."""
    together = {left + right for text in texts for left, right in pairwise(text)}
    ways: list[str] = []
    for name in reserved:
        places = [place for place in range(1, len(name)) if name[place - 1 : place + 1] not in together]
        if not byte_fallback:  # two unknown letters are one token, which a cut would make two
            places = [place for place in places if name[place - 1] in texts or name[place] in texts]
        if not places:
            raise _UnlikeError(f"text that spells {name!r} could not be told from that token")
        ways.append(f"{_literal(name[: places[0]])}(?={_literal(name[places[0] :])})")
    return [pre_tokenizers.Split(Regex("|".join(ways)), behavior="merged_with_previous")] if ways else []


def _any_of(symbols: Iterable[str]) -> str:
    return "|".join(_literal(symbol) for symbol in sorted(symbols, key=lambda symbol: (-len(symbol), symbol)))


def _literal(text: str) -> str:
    return "".join(f"\\x{{{ord(letter):X}}}" for letter in text)
