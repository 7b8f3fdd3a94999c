"""Pieces of documents as everything behind the sources wants them: cut by one rule, and no document blank.

A document comes as one piece or several. Here it is put together and cut anew as it passes, by a rule that looks at its
text alone, so that split, tokens and shards are a function of the text and not of how it was read. Memory holds two
pieces, whatever the length of a document; only white space at the beginning of one is held for as long as it lasts,
since a document of nothing else is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from penna.data.reading.records import Piece, cut


def usable_pieces(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The same documents without blank ones, in pieces of at most PIECE characters, none of them empty."""
    held, starts, blank = "", True, True  # what is not yet given out of a document
    for piece in pieces:
        if piece.starts:
            if not blank:
                yield Piece(held, starts)
            held, starts, blank = "", True, True
        held += piece.text
        blank = blank and not piece.text.strip()
        if not blank:
            *done, held = cut(held)
            for text in done:
                yield Piece(text, starts)
                starts = False
    if not blank:
        yield Piece(held, starts)
