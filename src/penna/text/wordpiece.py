"""WordPiece, the form of BERT's vocabularies, which Chinese GPT-2 models often use: one ``vocab.txt``, a token a line.

In comes that file and the ``tokenizer_config.json`` beside it, if there is one; out comes the tokenizer that
`transformers` calls ``BertTokenizerFast``. Text is cleaned (control characters dropped, every white space a space),
spaces are put around Chinese characters, it is lower-cased and stripped of accents unless the settings say otherwise,
cut at white space and punctuation, and each word is taken apart from the left into the longest tokens there are
(Wu et al. 2016, arXiv:1609.08144, section 4.1); ``##`` marks a token that goes on inside a word. A word that cannot be
taken apart becomes ``[UNK]``. So this form loses case, spaces and rare characters: what is decoded is not what was
read.
"""

from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from penna.errors import TokenizerError
from penna.text.files import Settings, mark_special, read_text, settings_of_rebuilt, special_name

CONTINUES = "##"
_SHOWN = 40  # characters of a token in a message
_SPECIAL = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


def read_wordpiece(file: Path, settings: Settings) -> tuple[tokenizers.Tokenizer, Settings]:
    """The tokenizer of a ``vocab.txt`` and the settings to keep with it.

    ``do_lower_case`` (true), ``strip_accents`` (as lower-casing), ``tokenize_chinese_chars`` (true) and the names of
    the special tokens are taken from ``settings``. Nothing is put around a text: no ``[CLS]``, no ``[SEP]``.
    Raises TokenizerError for a file with a token twice or without the unknown token.
    """
    special = {key: special_name(settings, key) or name for key, name in _SPECIAL.items()}
    vocab = _vocab(file, special["unk_token"])
    lower_case, accents = settings.get("do_lower_case", True), settings.get("strip_accents")
    inner = tokenizers.Tokenizer(
        models.WordPiece(vocab=vocab, unk_token=special["unk_token"], continuing_subword_prefix=CONTINUES)
    )
    inner.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=bool(settings.get("tokenize_chinese_chars", True)),
        strip_accents=None if accents is None else bool(accents),
        lowercase=bool(lower_case),
    )
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece(prefix=CONTINUES)
    kept = settings_of_rebuilt(settings, special, vocab)
    mark_special(inner, list(dict.fromkeys(name for key, name in kept.items() if key.endswith("_token"))))
    return inner, kept


def _vocab(file: Path, unknown: str) -> dict[str, int]:
    """Token to id, which is the line's number from 0. Only line feeds end a line (BERT's lists have one of U+2028)."""
    lines = [line.rstrip() for line in read_text(file).split("\n")]  # as the library reads them
    if lines[-1] == "":
        lines.pop()
    if unknown not in lines:
        raise TokenizerError(
            f"{file} has no {unknown}.",
            "Expected a WordPiece vocabulary: one token a line, among them the one for what has no token.",
            "Check that it is a vocabulary and no other text; if it names its unknown token otherwise, say so as "
            'unk_token in a tokenizer_config.json beside it: {"unk_token": "<unk>"}.',
        )
    vocab: dict[str, int] = {}
    for index, token in enumerate(lines):
        if token in vocab:
            raise TokenizerError(
                f"{file} has {token[:_SHOWN]!r} twice: in line {vocab[token] + 1} and in line {index + 1}.",
                "Expected a WordPiece vocabulary: one token a line, each once; the line's number is the id.",
                "Check that it is the right file; if it is, fetch it again.",
            )
        vocab[token] = index
    return vocab
