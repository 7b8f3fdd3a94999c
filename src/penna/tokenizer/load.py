"""The forms a tokenizer comes in, and how each is read.

In comes a path a person gave: a folder, a file or a run. Out comes a ready `tokenizers.Tokenizer` and the settings
found beside it, or an error that says what was looked for. In a folder the fullest form is taken first:
``tokenizer.json`` (the whole algorithm in one file), GPT-2's ``vocab.json`` + ``merges.txt``, a SentencePiece
``.model`` (`penna.tokenizer.sentencepiece_conversion`), a WordPiece ``vocab.txt``. Whatever it came as,
the tokenizer is one and the same kind of object afterwards, and is saved in one form.
"""

import re
from pathlib import Path
from typing import cast

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from penna.errors import TokenizerError
from penna.tokenizer.files import (
    CONFIG_FILE,
    SEPARATOR,
    TOKENIZER_FILE,
    Settings,
    add_special_tokens,
    converted_settings,
    read_json_object,
    read_settings,
    read_text,
    special_token_text,
)
from penna.tokenizer.sentencepiece_conversion import read_sentencepiece

# MERGED tokenizer.wordpiece: WordPiece, the form of BERT's vocabularies, which Chinese GPT-2 models often use: one
# ``vocab.txt``, a token a line.
#
# In comes that file and the ``tokenizer_config.json`` beside it, if there is one; out comes the tokenizer that
# `transformers` calls ``BertTokenizerFast``. Text is cleaned (control characters dropped, every white space a space),
# spaces are put around Chinese characters, it is lower-cased and stripped of accents unless the settings say
# otherwise,
# cut at white space and punctuation, and each word is taken apart from the left into the longest tokens there are
# (Wu et al. 2016, arXiv:1609.08144, section 4.1); ``##`` marks a token that goes on inside a word. A word that
# cannot be
# taken apart becomes ``[UNK]``. So this form loses case, spaces and rare characters: what is decoded is not what was
# read.


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
    special = {key: special_token_text(settings, key) or name for key, name in _SPECIAL.items()}
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
    kept = converted_settings(settings, special, vocab)
    add_special_tokens(inner, list(dict.fromkeys(name for key, name in kept.items() if key.endswith("_token"))))
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


VOCAB_FILE = "vocab.json"
MERGES_FILE = "merges.txt"
MODEL_SUFFIX = ".model"
WORDPIECE_FILE = "vocab.txt"
RUN_SUBFOLDER = "tokenizer"

_READABLE = (
    f"Expected a folder with {TOKENIZER_FILE}, with {VOCAB_FILE} and {MERGES_FILE} (GPT-2's form), with a "
    f"*{MODEL_SUFFIX} (SentencePiece) or with {WORDPIECE_FILE} (WordPiece); one of these files; or a run folder (which "
    f"holds {RUN_SUBFOLDER}/)."
)


def read_tokenizer(path: Path) -> tuple[tokenizers.Tokenizer, Settings]:
    """The tokenizer at ``path`` and the settings to keep with it ({} where there are none).

    Raises TokenizerError when nothing is there, when nothing there is a tokenizer, or when a file is damaged.
    """
    if not path.exists():
        raise _missing(path)
    file = _file_in(path) if path.is_dir() else path
    settings = read_settings(file.parent)
    if file.name.endswith(MERGES_FILE):
        file = file.with_name(file.name.removesuffix(MERGES_FILE) + VOCAB_FILE)
    if file.name.endswith(VOCAB_FILE):
        merges = file.with_name(file.name.removesuffix(VOCAB_FILE) + MERGES_FILE)
        return _read_gpt2_form(file, merges, settings), settings
    if file.suffix == MODEL_SUFFIX:
        return read_sentencepiece(file, settings)
    if file.suffix == ".txt":
        return read_wordpiece(file, settings)
    return _read_tokenizer_json(file), settings


def _file_in(folder: Path) -> Path:
    """The file to read in a folder, or in the ``tokenizer/`` of a run folder."""
    if (folder / TOKENIZER_FILE).is_file():
        return folder / TOKENIZER_FILE
    if (folder / VOCAB_FILE).is_file():
        return folder / VOCAB_FILE
    found = sorted(file for file in folder.glob(f"*{MODEL_SUFFIX}") if file.is_file())
    if len(found) > 1:
        raise TokenizerError(
            f"The folder {folder} holds {len(found)} SentencePiece models: {', '.join(file.name for file in found)}.",
            f"Expected one, where there is no {TOKENIZER_FILE}.",
            "Name the file itself.",
        )
    if found:
        return found[0]
    if (folder / WORDPIECE_FILE).is_file():
        return folder / WORDPIECE_FILE
    if (folder / RUN_SUBFOLDER).is_dir():
        return _file_in(folder / RUN_SUBFOLDER)
    names = sorted(entry.name for entry in folder.iterdir())
    held = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "nothing"
    raise TokenizerError(f"The folder {folder} holds no tokenizer (it holds {held}).", _READABLE, "Check the path.")


def _missing(path: Path) -> TokenizerError:
    name = path.as_posix()
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        return TokenizerError(
            f"There is no local folder {name}; it looks like a name on the Hugging Face hub.",
            f"Tokenizers are read from local files. {_READABLE}",
            f"Where there is a network, run: hf download {name} {TOKENIZER_FILE} {CONFIG_FILE} --local-dir {name}\n"
            "then give the path of that folder (copied to this machine, if it was another).",
        )
    return TokenizerError(f"There is no file or folder {path}.", _READABLE, "Check the path.")


def _read_tokenizer_json(file: Path) -> tokenizers.Tokenizer:
    read_json_object(file)  # for its better words on what is wrong
    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(
            f"{file} is JSON, but not a tokenizer: {error}.",
            f"Expected a {TOKENIZER_FILE} as the tokenizers library (0.20 or newer) writes it.",
            "Check that it is the right file, or save it again with the tool that made it.",
        ) from error


def _read_gpt2_form(vocab_file: Path, merges_file: Path, settings: Settings) -> tokenizers.Tokenizer:
    """GPT-2's pair of files; byte-level BPE with no space put in front, as its encoder.py does it."""
    if not merges_file.is_file():
        raise TokenizerError(
            f"{vocab_file} is there, but {merges_file.name} is not beside it.",
            "GPT-2's form is two files: the vocabulary and the merges that build it.",
            f"Put {merges_file.name} into {vocab_file.parent}.",
        )
    vocab = cast("dict[str, int]", read_json_object(vocab_file))
    lacking = [letter for letter in pre_tokenizers.ByteLevel.alphabet() if not isinstance(vocab.get(letter), int)]
    if lacking:
        raise TokenizerError(
            f"{vocab_file} has no entry for {len(lacking)} of the 256 bytes.",
            "Expected a byte-level vocabulary such as GPT-2's, in which every byte has a token.",
            f"If the model comes with a {TOKENIZER_FILE}, put that into the folder: it is read first.",
        )
    lines = read_text(merges_file).replace("\r\n", "\n").split("\n")
    pairs = [tuple(line.split(" ")) for line in lines if line.strip() and not line.startswith("#version")]
    try:
        model = models.BPE(vocab=vocab, merges=cast("list[tuple[str, str]]", pairs))
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(
            f"{merges_file} does not fit {vocab_file}: {error}.",
            "Expected one merge of two tokens per line, both and their joining in the vocabulary.",
            "Take both files from the same model.",
        ) from error
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    inner.decoder = decoders.ByteLevel()
    named = [
        SEPARATOR,
        *(special_token_text(settings, key) for key in ("eos_token", "bos_token", "unk_token", "pad_token")),
    ]
    add_special_tokens(inner, [name for name in dict.fromkeys(named) if name in vocab])
    return inner
