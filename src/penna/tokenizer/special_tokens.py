"""Further control tokens for a tokenizer that is there: its own ids stay, the new ones stand behind them.

In comes a tokenizer and names such as ``<|user|>``; out comes another tokenizer, which does to text what the first one
does. Control tokens are ids that no text is encoded to, so a model that learned with the first tokenizer may start from
its weights with the second: only the new ids are new to it.
"""

import re
from collections.abc import Sequence

import tokenizers

from penna.errors import TokenizerError
from penna.tokenizer.files import add_special_tokens
from penna.tokenizer.tokenizer import Tokenizer, check_text


def with_special_tokens(tokenizer: Tokenizer, names: Sequence[str]) -> Tokenizer:
    """``tokenizer`` and the control tokens ``names``, the new ones at the ids from ``tokenizer.vocab_size`` on.

    A name that is a control token already changes nothing; a reserved token of the vocabulary, in brackets and such
    that no text is encoded to it (BERT's ``[unused1]``), keeps its id. ``tokenizer`` itself stays as it is. Raises
    TokenizerError for an empty name, for one that is a token of text, and where the library cannot put new ids behind
    the old ones.
    """
    inner = tokenizers.Tokenizer.from_str(tokenizer._inner.to_str())
    before = inner.get_vocab(with_added_tokens=True)
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        _check_name(tokenizer, name, before.get(name))
    added = [name for name in wanted if name not in before]
    add_special_tokens(inner, [name for name in wanted if name not in tokenizer.special_tokens])
    after = inner.get_vocab(with_added_tokens=True)
    if [after[name] for name in added] != list(range(tokenizer.vocab_size, tokenizer.vocab_size + len(added))):
        raise TokenizerError(
            f"The tokenizer has {len(before):,} tokens, and ids up to {tokenizer.vocab_size - 1:,}.",
            "Control tokens are added behind the last id, which needs a vocabulary without gaps.",
            "Take a tokenizer whose ids are numbered without gaps.",
        )
    return Tokenizer(inner, tokenizer._settings)


def _check_name(tokenizer: Tokenizer, name: str, index: int | None) -> None:
    """Raise where ``name``, which has the id ``index`` or none yet, cannot name a control token."""
    check_text(name, "the name of a control token")
    if not name.strip():
        raise TokenizerError(
            f"{name!r} cannot name a control token.", "Expected a name that can be seen.", "Such as <|user|>."
        )
    if index is not None and name not in tokenizer.special_tokens and _is_written_by_text(tokenizer, name, index):
        raise TokenizerError(
            f"{name!r} is a token of text (id {index}).",
            "Expected a name that is no token yet: text must never be taken for a control token.",
            f"Choose a name in brackets, such as <|{name.strip('<|>')}|>.",
        )


def _is_written_by_text(tokenizer: Tokenizer, name: str, index: int) -> bool:
    """Whether text may be encoded to this id: any but a name in brackets whose own text is encoded otherwise."""
    if not re.fullmatch(r"\[.+\]|<.+>", name):
        return True
    try:
        return index in tokenizer.encode(tokenizer.rendered_bytes(index).decode())
    except UnicodeDecodeError:
        return True  # "<0xE2>", a part of a character
