"""Adding control tokens to an existing tokenizer.

The old ids stay and the new ones follow them. No text is encoded to control tokens, so a model can keep its weights:
only the new ids need new embedding rows.
"""

import re
from collections.abc import Sequence

import tokenizers

from penna.errors import TokenizerError
from penna.tokenizer.tokenizer import Tokenizer, check_text


def with_special_tokens(tokenizer: Tokenizer, names: Sequence[str]) -> Tokenizer:
    """A copy of ``tokenizer`` with the control tokens ``names``, such as ``<|user|>``; new ids start at ``vocab_size``.

    A name that is already a control token changes nothing. A reserved token of the vocabulary (BERT's ``[unused1]``)
    keeps its id. Raises TokenizerError for an empty name, for a token of plain text, and if the vocabulary has gaps.
    """
    inner = tokenizers.Tokenizer.from_str(tokenizer._inner.to_str())
    before = inner.get_vocab(with_added_tokens=True)
    unique = list(dict.fromkeys(names))
    for name in unique:
        _check_name(tokenizer, name, before.get(name))
    added = [name for name in unique if name not in before]
    inner.add_special_tokens([name for name in unique if name not in tokenizer.special_tokens])
    after = inner.get_vocab(with_added_tokens=True)
    if [after[name] for name in added] != list(range(tokenizer.vocab_size, tokenizer.vocab_size + len(added))):
        raise TokenizerError(
            f"The tokenizer has {len(before):,} tokens, but ids up to {tokenizer.vocab_size - 1:,}.",
            "Control tokens can only be added to a vocabulary without gaps in its ids.",
            "Use another tokenizer.",
        )
    return Tokenizer(inner, tokenizer._settings)


def _check_name(tokenizer: Tokenizer, name: str, index: int | None) -> None:
    """Raise if ``name``, which has the id ``index`` or none, cannot be a control token."""
    check_text(name, "the name of a control token")
    if not name.strip():
        raise TokenizerError(
            f"The control token {name!r} has no name.", "Expected a visible name.", "For example: <|user|>."
        )
    if index is not None and name not in tokenizer.special_tokens and _is_text(tokenizer, name, index):
        raise TokenizerError(
            f"{name!r} is a token of plain text (id {index}).",
            "A control token needs a name that no text is encoded to.",
            f"Choose a name in brackets, such as <|{name.strip('<|>')}|>.",
        )


def _is_text(tokenizer: Tokenizer, name: str, index: int) -> bool:
    """Whether text can be encoded to this id: any id, except a name in brackets that is itself encoded differently."""
    if not re.fullmatch(r"\[.+\]|<.+>", name):
        return True
    try:
        return index in tokenizer.encode(tokenizer.rendered_bytes(index).decode())
    except UnicodeDecodeError:
        return True  # "<0xE2>", a part of a character
