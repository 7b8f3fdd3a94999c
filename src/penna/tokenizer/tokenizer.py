"""The tokenizer: text to token ids and back.

It wraps a `tokenizers.Tokenizer` and guarantees three things:

- Plain text never becomes control tokens: text that spells "<|endoftext|>" gets the ids of those characters.
- Tokenizers that Penna trains are lossless: ``decode(encode(text)) == text`` for all text that UTF-8 can encode.
- Decoding joins the tokens' bytes and reads them as UTF-8, here and in `penna.tokenizer.stream_decoder`.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import tokenizers

from penna.errors import TokenizerError
from penna.tokenizer import files
from penna.tokenizer.files import SEPARATOR as SEPARATOR
from penna.tokenizer.load import read_tokenizer
from penna.tokenizer.properties import TokenizerProperties, tokenizer_properties
from penna.tokenizer.token_bytes import TokenBytes, token_bytes


class Tokenizer:
    """Text to ids and back. Create one with `Tokenizer.load` or `penna.tokenizer.train.train_tokenizer`."""

    def __init__(self, inner: tokenizers.Tokenizer, settings: files.Settings | None = None) -> None:
        """Wrap ``inner``; ``settings`` is the content of its ``tokenizer_config.json``, if it has one."""
        inner.encode_special_tokens = True
        inner.no_truncation()
        inner.no_padding()
        self._inner = inner
        self._settings = dict(settings or {})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a tokenizer from a folder, a run, or a file in one of the formats of `penna.tokenizer.load`.

        Raises TokenizerError if ``path`` has no readable tokenizer.
        """
        return cls(*read_tokenizer(Path(path).expanduser()))

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json``, which `transformers.AutoTokenizer` reads.

        `transformers` parses special tokens in plain text unless it is called with ``split_special_tokens=True``; the
        files cannot change that.
        """
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", **self._settings}
        if self.separator_id is not None:
            settings.setdefault("eos_token", self.token_text(self.separator_id))
        settings["clean_up_tokenization_spaces"] = False
        files.write_tokenizer_files(Path(folder), self._inner.to_str(pretty=True), settings)

    @cached_property
    def vocab_size(self) -> int:
        """Rows that an embedding needs: the highest id plus one."""
        return len(self.byte_table.rendered)

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Name to id of the control tokens. Plain text is never encoded to them."""
        added = self._inner.get_added_tokens_decoder()
        return {token.content: index for index, token in sorted(added.items()) if token.special}

    @cached_property
    def separator_id(self) -> int | None:
        """The id between documents; for other tools' tokenizers, their end, separator or beginning token."""
        keys = ("eos_token", "sep_token", "bos_token")
        eos, sep, bos = (files.special_token_text(self._settings, key) for key in keys)
        ids = (self._inner.token_to_id(name) for name in (eos, sep, SEPARATOR, bos) if name is not None)
        return next((index for index in ids if index is not None), None)

    @property
    def chat_template(self) -> str | None:
        """The jinja source of the chat template (`penna.tokenizer.chat`), or None."""
        return files.chat_template_source(self._settings)

    @cached_property
    def template_encoder(self) -> tokenizers.Tokenizer:
        """The library's tokenizer with control tokens in the text parsed as such. Only for text from a template."""
        inner = tokenizers.Tokenizer.from_str(self._inner.to_str())
        inner.encode_special_tokens = False
        return inner

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``, without added special tokens.

        Raises TokenizerError for text with a lone surrogate, which UTF-8 cannot encode.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, encoded in parallel (``RAYON_NUM_THREADS`` sets the number of threads)."""
        for number, text in enumerate(texts, 1):
            check_text(text, f"text {number} of {len(texts)}" if len(texts) > 1 else "the text")
        return [encoding.ids for encoding in self._inner.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``, with special tokens by name; bytes that form no character become U+FFFD.

        Raises TokenizerError for an id outside the vocabulary.
        """
        self._check_ids(ids)
        if not self.byte_table.is_supported:
            return self._inner.decode(list(ids), skip_special_tokens=False)
        return self.byte_table.decode(ids)

    @property
    def lossless(self) -> bool:
        """Whether every text is decoded from its ids byte for byte.

        True for what Penna trains and for GPT-2's tokenizer. False for a tokenizer that normalizes, adds or drops
        spaces, or has an unknown token; some texts may still survive.
        """
        return self._properties.lossless

    @property
    def kind(self) -> str:
        """The algorithm: "characters", "byte-level BPE", "BPE", "unigram", "WordPiece" or "words"."""
        return self._properties.kind

    @property
    def unknown_id(self) -> int | None:
        """The id of the unknown token; None if every text has tokens."""
        return self._properties.unknown_id

    @cached_property
    def _properties(self) -> TokenizerProperties:
        return tokenizer_properties(self._inner, self.byte_table)

    def token_bytes(self) -> list[bytes]:
        """The UTF-8 bytes of each token, by id; b"" for special tokens.

        If the tokenizer is not `lossless`, these are the decoded bytes, not those of the encoded text (WordPiece adds
        spaces, and an unknown token has no bytes). Compute bits per byte over the bytes of the text itself.
        """
        special = self.byte_table.special_ids
        return [b"" if index in special else rendered for index, rendered in enumerate(self.byte_table.rendered)]

    def max_characters(self, tokens: int) -> float:
        """The greatest length of a text with ``tokens`` tokens; infinite if the tokenizer is not `lossless`."""
        return tokens * self._max_token_bytes if self.lossless else math.inf

    @cached_property
    def _max_token_bytes(self) -> int:
        return max(map(len, self.byte_table.rendered))

    def rendered_bytes(self, index: int) -> bytes:
        """The decoded bytes of one id inside a text; for a special token, its name."""
        self._check_ids([index])
        return self.byte_table.rendered[index]

    def token_text(self, index: int) -> str:
        """One token for display: a space as "␣", part of a character as "\\xe2", a newline as "\\n".

        A special token is shown by name, and a WordPiece token as in the vocabulary, with its "##".
        """
        rendered = self.rendered_bytes(index)
        if index in self.byte_table.special_ids or self.kind == "WordPiece":
            return "".join(map(_printable, self._inner.id_to_token(index) or ""))
        text = rendered.decode("utf-8", errors="backslashreplace")
        return "".join("␣" if letter == " " else _printable(letter) for letter in text)

    def unigram_pieces(self) -> list[tuple[str, float]] | None:
        """The pieces of a unigram tokenizer and their log-probabilities, by id; None for another kind."""
        model: dict[str, Any] = json.loads(self._inner.to_str())["model"]
        return [(piece, score) for piece, score in model["vocab"]] if model["type"] == "Unigram" else None

    def fingerprint(self) -> str:
        """SHA-256 (hex) of ``tokenizer.json``, independent of its spacing and key order."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        content: Any = json.loads(self._inner.to_str())
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @cached_property
    def byte_table(self) -> TokenBytes:
        """The bytes of every token, inside a text and at its start."""
        return token_bytes(self._inner)

    def _check_ids(self, ids: Sequence[int]) -> None:
        size = self.vocab_size
        if len(ids) and (min(ids) < 0 or max(ids) >= size):
            wrong = next(index for index in ids if not 0 <= index < size)
            raise TokenizerError(
                f"Token id {wrong} is not in the vocabulary.",
                f"Expected ids from 0 to {size - 1}.",
                "Use the tokenizer that the model was trained with.",
            )

    def __reduce__(self) -> tuple[Any, tuple[str, files.Settings]]:
        """For other processes: the library's own pickling loses ``encode_special_tokens``."""
        return _rebuild, (self._inner.to_str(), self._settings)


def _rebuild(tokenizer_json: str, settings: files.Settings) -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(tokenizer_json), settings)


def check_text(text: str, name: str) -> None:
    """Raise TokenizerError if UTF-8 cannot encode ``text``, which the message calls ``name``."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"Character {error.start} of {name} is a lone surrogate, U+{ord(text[error.start]):04X}.",
            "Expected Unicode text; a lone surrogate is half a character and has no UTF-8 form.",
            "Read the source as UTF-8, or repair the text with "
            'text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").',
        ) from error


def _printable(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
