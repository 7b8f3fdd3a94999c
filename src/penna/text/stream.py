"""Text as it is generated: token ids in one by one, whole characters out.

A token may end in the middle of a character (most Korean or Chinese characters under a small byte-level vocabulary
take several), so a token cannot be shown alone. The bytes of the tokens go through an incremental UTF-8 decoder, which
holds back an unfinished character until the rest has come. The pieces joined are what `Tokenizer.decode` gives.
"""

import codecs

from penna.text.tokenizer import Tokenizer


class StreamDecoder:
    """Decodes one stream of ids; use a new one for each."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Start with nothing held back."""
        self._tokenizer = tokenizer
        self._characters = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, index: int) -> str:
        """The characters that the next id completes; "" while a character is unfinished.

        A special token is written by its name. Raises TokenizerError for an id outside the vocabulary.
        """
        return self._characters.decode(self._tokenizer.rendered_bytes(index))

    def finish(self) -> str:
        """What is left at the end: U+FFFD for a character that never was finished, else ""."""
        return self._characters.decode(b"", final=True)
