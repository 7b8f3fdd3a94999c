"""Reading a tokenizer from a folder, a file or a run, in any of its formats.

In a folder, the first of these is read: ``tokenizer.json`` (the `tokenizers` library), ``vocab.json`` with
``merges.txt`` (GPT-2), a ``.model`` file (SentencePiece), ``vocab.txt`` (WordPiece). All become a
`tokenizers.Tokenizer`.
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
    converted_settings,
    read_json_object,
    read_settings,
    read_text,
    special_token_text,
)
from penna.tokenizer.sentencepiece_conversion import read_sentencepiece

VOCAB_FILE = "vocab.json"
MERGES_FILE = "merges.txt"
MODEL_SUFFIX = ".model"
WORDPIECE_FILE = "vocab.txt"
RUN_SUBFOLDER = "tokenizer"

_EXPECTED = (
    f"Expected a folder with {TOKENIZER_FILE}, with {VOCAB_FILE} and {MERGES_FILE} (GPT-2), with a *{MODEL_SUFFIX} "
    f"(SentencePiece) or with {WORDPIECE_FILE} (WordPiece); one of these files; or a run folder (with "
    f"{RUN_SUBFOLDER}/)."
)
_CHECK_PATH = "Check the path."


def read_tokenizer(path: Path) -> tuple[tokenizers.Tokenizer, Settings]:
    """The tokenizer at ``path`` and its settings, which may be empty.

    Raises TokenizerError if there is no tokenizer, or if a file is damaged.
    """
    if not path.exists():
        raise _missing_path_error(path)
    file = _find_file(path) if path.is_dir() else path
    settings = read_settings(file.parent)
    if file.name.endswith(MERGES_FILE):
        file = file.with_name(file.name.removesuffix(MERGES_FILE) + VOCAB_FILE)
    if file.name.endswith(VOCAB_FILE):
        merges = file.with_name(file.name.removesuffix(VOCAB_FILE) + MERGES_FILE)
        return _read_gpt2(file, merges, settings), settings
    if file.suffix == MODEL_SUFFIX:
        return read_sentencepiece(file, settings)
    if file.suffix == ".txt":
        return _read_wordpiece(file, settings)
    return _read_tokenizer_json(file), settings


def _find_file(folder: Path) -> Path:
    """The file to read in a folder, or in the ``tokenizer/`` of a run folder."""
    if (folder / TOKENIZER_FILE).is_file():
        return folder / TOKENIZER_FILE
    if (folder / VOCAB_FILE).is_file():
        return folder / VOCAB_FILE
    found = sorted(file for file in folder.glob(f"*{MODEL_SUFFIX}") if file.is_file())
    if len(found) > 1:
        raise TokenizerError(
            f"The folder {folder} has {len(found)} SentencePiece models: {', '.join(file.name for file in found)}.",
            f"Expected a single one, because there is no {TOKENIZER_FILE}.",
            "Give the path of the file instead.",
        )
    if found:
        return found[0]
    if (folder / WORDPIECE_FILE).is_file():
        return folder / WORDPIECE_FILE
    if (folder / RUN_SUBFOLDER).is_dir():
        return _find_file(folder / RUN_SUBFOLDER)
    names = sorted(entry.name for entry in folder.iterdir())
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "nothing"
    raise TokenizerError(f"The folder {folder} contains no tokenizer (it contains {listed}).", _EXPECTED, _CHECK_PATH)


def _missing_path_error(path: Path) -> TokenizerError:
    name = path.as_posix()
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        return TokenizerError(
            f"There is no local folder {name}; it looks like a name on the Hugging Face hub.",
            f"Tokenizers are read from local files. {_EXPECTED}",
            f"With a network, run: hf download {name} {TOKENIZER_FILE} {CONFIG_FILE} --local-dir {name}\n"
            "Then give the path of that folder.",
        )
    return TokenizerError(f"There is no file or folder {path}.", _EXPECTED, _CHECK_PATH)


def _read_tokenizer_json(file: Path) -> tokenizers.Tokenizer:
    read_json_object(file)  # for its clearer errors
    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(
            f"{file} is JSON, but not a tokenizer: {error}.",
            f"Expected a {TOKENIZER_FILE} of the tokenizers library, version 0.20 or newer.",
            "Check that it is the right file, or save it again with the tool that wrote it.",
        ) from error


def _read_gpt2(vocab_file: Path, merges_file: Path, settings: Settings) -> tokenizers.Tokenizer:
    """GPT-2's two files: byte-level BPE without a prefix space, as in its encoder.py."""
    if not merges_file.is_file():
        raise TokenizerError(
            f"{vocab_file} exists, but {merges_file.name} is missing.",
            "GPT-2's format has two files: the vocabulary and its merges.",
            f"Put {merges_file.name} into {vocab_file.parent}.",
        )
    vocab = cast("dict[str, int]", read_json_object(vocab_file))
    lacking = [letter for letter in pre_tokenizers.ByteLevel.alphabet() if not isinstance(vocab.get(letter), int)]
    if lacking:
        raise TokenizerError(
            f"{vocab_file} has no entry for {len(lacking)} of the 256 bytes.",
            "Expected a byte-level vocabulary such as GPT-2's, in which every byte has a token.",
            f"If the model comes with a {TOKENIZER_FILE}, put it into the folder: it is read first.",
        )
    lines = read_text(merges_file).replace("\r\n", "\n").split("\n")
    pairs = [tuple(line.split(" ")) for line in lines if line.strip() and not line.startswith("#version")]
    try:
        model = models.BPE(vocab=vocab, merges=cast("list[tuple[str, str]]", pairs))
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(
            f"{merges_file} does not fit {vocab_file}: {error}.",
            "Expected one merge of two tokens per line, with both tokens and the merged one in the vocabulary.",
            "Use two files of the same model.",
        ) from error
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    inner.decoder = decoders.ByteLevel()
    keys = ("eos_token", "bos_token", "unk_token", "pad_token")
    named = [SEPARATOR, *(special_token_text(settings, key) for key in keys)]
    inner.add_special_tokens([name for name in dict.fromkeys(named) if name in vocab])
    return inner


_WORD_CONTINUATION = "##"
_SHOWN = 40  # characters of a token in a message
_WORDPIECE_SPECIAL = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


def _read_wordpiece(file: Path, settings: Settings) -> tuple[tokenizers.Tokenizer, Settings]:
    """The WordPiece tokenizer of a ``vocab.txt``: `transformers`' BertTokenizerFast (Wu et al. 2016, section 4.1).

    Text is cleaned, lower-cased and stripped of accents as the settings say, and split at white space, punctuation and
    Chinese characters; each word becomes the longest matching tokens from the left, or ``[UNK]``. So case, spaces and
    rare characters are lost. No special tokens are added. Raises TokenizerError for a duplicate token or a missing
    unknown token.
    """
    special = {key: special_token_text(settings, key) or name for key, name in _WORDPIECE_SPECIAL.items()}
    vocab = _read_wordpiece_vocab(file, special["unk_token"])
    lower_case, accents = settings.get("do_lower_case", True), settings.get("strip_accents")
    inner = tokenizers.Tokenizer(
        models.WordPiece(vocab=vocab, unk_token=special["unk_token"], continuing_subword_prefix=_WORD_CONTINUATION)
    )
    inner.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=bool(settings.get("tokenize_chinese_chars", True)),
        strip_accents=None if accents is None else bool(accents),
        lowercase=bool(lower_case),
    )
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece(prefix=_WORD_CONTINUATION)
    kept = converted_settings(settings, special, vocab)
    inner.add_special_tokens(list(dict.fromkeys(name for key, name in kept.items() if key.endswith("_token"))))
    return inner, kept


def _read_wordpiece_vocab(file: Path, unknown: str) -> dict[str, int]:
    """Token to id, which is its line number from 0. Only line feeds end a line: BERT's vocabularies contain U+2028."""
    expected = "Expected a WordPiece vocabulary with one token per line, each once."
    lines = [line.rstrip() for line in read_text(file).split("\n")]  # as the library reads them
    if lines[-1] == "":
        lines.pop()
    if unknown not in lines:
        raise TokenizerError(
            f"{file} has no {unknown}, the unknown token.",
            expected,
            "Check that it is a vocabulary. If its unknown token has another name, give it in a "
            'tokenizer_config.json in the same folder: {"unk_token": "<unk>"}.',
        )
    vocab: dict[str, int] = {}
    for index, token in enumerate(lines):
        if token in vocab:
            raise TokenizerError(
                f"{file} has {token[:_SHOWN]!r} twice: in line {vocab[token] + 1} and in line {index + 1}.",
                expected,
                "Check that it is the right file. If it is, download it again.",
            )
        vocab[token] = index
    return vocab
