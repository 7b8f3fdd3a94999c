"""The tokenizer: characters in, token ids out, and back.

A thin face over a `tokenizers.Tokenizer` that holds three promises. Plain text is plain text: a document that spells
"<|endoftext|>" gets the tokens of those thirteen characters, never the separator's id, so text cannot pass itself off
as control tokens. What Penna trains loses nothing: ``decode(encode(text)) == text`` for every text that UTF-8 can
hold. And decoding means one thing everywhere: the tokens' bytes are joined and read as UTF-8, which is also what
`penna.tokenizer.stream_decoder` does piece by piece.
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
from penna.tokenizer import load as forms
from penna.tokenizer.files import SEPARATOR as SEPARATOR
from penna.tokenizer.properties import TokenizerProperties, tokenizer_properties
from penna.tokenizer.token_bytes import TokenBytes, token_bytes


class Tokenizer:
    """Text to ids and back; made by `Tokenizer.load` or `penna.tokenizer.train.train_tokenizer`."""

    def __init__(self, inner: tokenizers.Tokenizer, settings: files.Settings | None = None) -> None:
        """Take over ``inner``; ``settings`` is the content of its ``tokenizer_config.json``, if it has one."""
        inner.encode_special_tokens = True
        inner.no_truncation()
        inner.no_padding()
        self._inner = inner
        self._settings = dict(settings or {})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a tokenizer from a folder, a run, or a file in one of the forms of `penna.tokenizer.load`.

        Raises TokenizerError when ``path`` holds no readable tokenizer; the message lists what was looked for.
        """
        return cls(*forms.read_tokenizer(Path(path).expanduser()))

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json``, which `transformers.AutoTokenizer` reads as they are.

        Only one thing is not stored in them: `transformers` takes special tokens spelled in a text for the tokens
        themselves, unless it is called with ``split_special_tokens=True``.
        """
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", **self._settings}
        if self.separator_id is not None:
            settings.setdefault("eos_token", self.token_text(self.separator_id))
        settings["clean_up_tokenization_spaces"] = False
        files.write_tokenizer_files(Path(folder), self._inner.to_str(pretty=True), settings)

    @cached_property
    def vocab_size(self) -> int:
        """Rows an embedding needs: the highest id, and one."""
        return len(self._surface.rendered)

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Name to id of the control tokens, which no plain text is encoded to."""
        added = self._inner.get_added_tokens_decoder()
        return {token.content: index for index, token in sorted(added.items()) if token.special}

    @cached_property
    def separator_id(self) -> int | None:
        """The id that stands between documents; of a foreign tokenizer its end, separator or beginning token."""
        keys = ("eos_token", "sep_token", "bos_token")
        eos, sep, bos = (files.special_token_text(self._settings, key) for key in keys)
        ids = (self._inner.token_to_id(name) for name in (eos, sep, SEPARATOR, bos) if name is not None)
        return next((index for index in ids if index is not None), None)

    @property
    def chat_template(self) -> str | None:
        """How turns become text: the source of a jinja template (`penna.tokenizer.chat`); None where there is none."""
        return files.chat_template_source(self._settings)

    @cached_property
    def template_encoder(self) -> tokenizers.Tokenizer:
        """The library's tokenizer that takes control tokens spelled in a text for themselves: for templates alone."""
        inner = tokenizers.Tokenizer.from_str(self._inner.to_str())
        inner.encode_special_tokens = False
        return inner

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``, with nothing added before, after or between.

        Raises TokenizerError for text with a lone surrogate, which is half a character and has no UTF-8 form.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, encoded side by side on all cores (``RAYON_NUM_THREADS`` sets how many)."""
        for place, text in enumerate(texts):
            check_text(text, f"text {place + 1} of {len(texts)}" if len(texts) > 1 else "the text")
        return [encoding.ids for encoding in self._inner.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``, special tokens by their names; bytes that form no character become U+FFFD.

        Raises TokenizerError for an id outside the vocabulary.
        """
        self._check_ids(ids)
        if not self._surface.is_supported:
            return self._inner.decode(list(ids), skip_special_tokens=False)
        return self._surface.decode(ids)

    @property
    def lossless(self) -> bool:
        """Whether every text comes back from its ids, byte for byte, as the tokenizer is built.

        What Penna trains and GPT-2's form do. A tokenizer that normalises, drops or adds spaces, or has an unknown
        token for some characters does not; a given text may come back all the same.
        """
        return self._build.lossless

    @property
    def kind(self) -> str:
        """How text is cut, in words: "characters", "byte-level BPE", "BPE", "unigram", "WordPiece" or "words"."""
        return self._build.kind

    @property
    def unknown_id(self) -> int | None:
        """The id that stands for what has no token; None where there is no such thing."""
        return self._build.unknown_id

    @cached_property
    def _build(self) -> TokenizerProperties:
        return tokenizer_properties(self._inner, self._surface)

    def token_bytes(self) -> list[bytes]:
        """Per id, the UTF-8 bytes the token stands for in text; b"" for special tokens, which stand for none.

        For a tokenizer that is not `lossless` these are the bytes that decoding writes, which are not those that were
        read: WordPiece writes spaces nobody wrote, and nothing for an unknown character. Bits per byte of a text must
        then be taken over the bytes of that text itself.
        """
        special = self._surface.special_ids
        return [b"" if index in special else piece for index, piece in enumerate(self._surface.rendered)]

    def max_characters(self, tokens: int) -> float:
        """How long a text of so many tokens can be; infinite where that is not known, of one that is not `lossless`."""
        return tokens * self._longest if self.lossless else math.inf

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._surface.rendered))

    def rendered_bytes(self, index: int) -> bytes:
        """What decoding writes for one id inside a text: its bytes, or a special token's name."""
        self._check_ids([index])
        return self._surface.rendered[index]

    @property
    def byte_table(self) -> TokenBytes:
        """What decoding writes for each id, at the start of a text and inside it."""
        return self._surface

    def token_text(self, index: int) -> str:
        """One token for the eye: spaces as "␣", bytes that are part of a character as "\\xe2", newline as "\\n".

        A special token is shown by its name, and one of WordPiece as its vocabulary writes it, "##" and all.
        """
        rendered = self.rendered_bytes(index)
        if index in self._surface.special_ids or self.kind == "WordPiece":
            return "".join(map(_visible, self._inner.id_to_token(index) or ""))
        text = rendered.decode("utf-8", errors="backslashreplace")
        return "".join("␣" if letter == " " else _visible(letter) for letter in text)

    def unigram_pieces(self) -> list[tuple[str, float]] | None:
        """Per id, the piece of a unigram tokenizer and its log-probability; None for one of another kind."""
        model: dict[str, Any] = json.loads(self._inner.to_str())["model"]
        return [(piece, score) for piece, score in model["vocab"]] if model["type"] == "Unigram" else None

    def fingerprint(self) -> str:
        """SHA-256 (hex) of what the tokenizer does: its ``tokenizer.json``, whatever the spacing and key order."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        content: Any = json.loads(self._inner.to_str())
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @cached_property
    def _surface(self) -> TokenBytes:
        return token_bytes(self._inner)

    def _check_ids(self, ids: Sequence[int]) -> None:
        size = self.vocab_size
        if len(ids) and (min(ids) < 0 or max(ids) >= size):
            wrong = next(index for index in ids if not 0 <= index < size)
            raise TokenizerError(
                f"Token id {wrong} is not in the vocabulary.",
                f"Expected ids from 0 to {size - 1}.",
                "Use the tokenizer the model was trained with.",
            )

    def __reduce__(self) -> tuple[Any, tuple[str, files.Settings]]:
        """For other processes: the library's own pickling forgets that plain text is plain text."""
        return _rebuilt, (self._inner.to_str(), self._settings)


def _rebuilt(tokenizer_json: str, settings: files.Settings) -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(tokenizer_json), settings)


def check_text(text: str, name: str) -> None:
    """Raise TokenizerError when ``text`` (called ``name`` in the message) has no UTF-8 form."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"A lone surrogate, U+{ord(text[error.start]):04X}, stands at character {error.start} of {name}.",
            "Expected Unicode text; a lone surrogate is half of a character and has no UTF-8 form.",
            "Read the source as UTF-8; or mend the text with "
            'text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").',
        ) from error


def _visible(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
