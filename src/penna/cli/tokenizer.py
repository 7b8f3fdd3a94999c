"""The verbs about tokenizers: ``penna tokenizer train`` and ``penna tokenizer inspect``, in 80 columns.

Results go to standard output, what is being done to standard error.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from penna.cli.data import with_input_kept
from penna.cli.page import Page, share
from penna.formatting import one_line, plural, truncate_end
from penna.storage import to_json
from penna.tokenizer.comparison import TokenCount, TokenizationMetrics, TokenizerComparison

Overrides = Sequence[tuple[str, str]]

_NAME = 18  # cells of a column's title
_COLUMNS = 3  # tokenizers in one table
_SAMPLE_LINES = 3
_SPECIAL = 8  # special tokens shown


def train(arguments: argparse.Namespace, overrides: Overrides) -> int:
    """Learn a tokenizer and print what was learned."""
    from penna.api.tokenizers import train_tokenizer_from
    from penna.cli.screen import say
    from penna.config.recipe import parse_overrides

    given = parse_overrides(overrides)
    learned = train_tokenizer_from(
        with_input_kept(arguments.path, given),
        given,
        output=Path(arguments.output),
        kind=arguments.kind,
        vocab_size=arguments.vocab_size,
        report=say,
    )
    documents = plural(learned.documents, "document", "documents")
    rows = [
        ("tokens", f"{learned.vocab_size:,}", _asked(learned.requested_vocab_size, learned.vocab_size)),
        ("bytes per token", f"{learned.bytes_per_token:.2f}", f"{learned.tokens:,} tokens for the text"),
        ("text", f"{learned.characters:,}", f"characters, {learned.bytes:,} bytes, {documents}"),
        ("seconds", f"{learned.seconds:.1f}", "to learn it"),
    ]
    if learned.bad_records:
        rows.append(("bad records", f"{learned.bad_records:,}", "left out"))
    screen = Page()
    screen.title(f"{learned.path}: {learned.kind}")
    screen.figures(rows)
    print(f"\nTry next:\n  penna tokenizer inspect {learned.path} --text {arguments.path[0]}")
    print(f"  penna train {arguments.path[0]} --tokenizer.kind file --tokenizer.path {learned.path}")
    return 0


def inspect(arguments: argparse.Namespace, overrides: Overrides) -> int:
    """Print how tokenizers cut a text, side by side."""
    from penna.api.tokenizers import compare_tokenizers
    from penna.config.recipe import parse_overrides

    given = parse_overrides(overrides)
    paths = with_input_kept(arguments.text, given)
    seen = compare_tokenizers(arguments.tokenizer, paths, given, runs_dir=Path(arguments.runs_dir))
    if arguments.json:
        print(json.dumps(to_json(seen), ensure_ascii=False, indent=2))
    else:
        _print_inspection(seen, ", ".join(arguments.text))
    return 0


def _asked(asked: int | None, got: int) -> str:
    if asked is None:
        return "one for each character, and the bytes of all others"
    return "as asked for" if asked == got else f"of {asked:,} asked for: the text gave no more"


def _print_inspection(seen: TokenizerComparison, text: str) -> None:
    screen = _Screen()
    names = short_names([one.name for one in seen.tokenizers])
    screen.structure(seen, names)
    cuts = [(name, one.metrics) for name, one in zip(names, seen.tokenizers, strict=True) if one.metrics is not None]
    if seen.text_size is None or not cuts:
        for name, one in zip(names, seen.tokenizers, strict=True):
            screen.title(f"{name}: the longest tokens")
            screen.flow("", one.longest, "   ")
        print("\nWith --text FILE they are tried on a text.")
        return
    amount = seen.text_size
    screen.title(f"On {text or 'the text'}")
    screen.wrapped(f"{amount.characters:,} characters, {amount.words:,} words, {amount.bytes:,} bytes")
    print()
    screen.comparison(cuts)
    screen.wrapped(
        "Bits per byte: what the text costs if nothing is known but how often each token occurs in it. Lower is "
        "better, though a tokenizer that is not lossless pays nothing for what it leaves out."
    )
    screen.title("The first line, cut")
    for name, cut in cuts:
        screen.sample(name, cut.sample)
    for name, cut in cuts:
        screen.title(name)
        screen.tokens("longest here", cut.longest)
        screen.tokens("rarest here", cut.rarest)
        if cut.first_difference is not None:
            screen.wrapped("The text does not come back as it was. The first difference:")
            screen.lines(
                f"  {truncate_end(one_line(part), 70)}"
                for part in (cut.first_difference.before, cut.first_difference.after)
            )


class _Screen(Page):
    """What is told of tokenizers."""

    def structure(self, seen: TokenizerComparison, names: Sequence[str]) -> None:
        """What each tokenizer is made of."""
        rows: list[tuple[str, list[str]]] = [
            ("kind", [one.kind for one in seen.tokenizers]),
            ("vocabulary", [f"{one.vocab_size:,}" for one in seen.tokenizers]),
            ("lossless", ["yes" if one.lossless else "no" for one in seen.tokenizers]),
            ("special tokens", [str(len(one.special_tokens) or "none") for one in seen.tokenizers]),
        ]
        self.title("Tokenizers")
        self._side_by_side(names, rows)
        print()
        for name, one in zip(names, seen.tokenizers, strict=True):
            if one.special_tokens:
                self.flow(f"{name}: ", _named(one.special_tokens), " ")

    def comparison(self, cuts: Sequence[tuple[str, TokenizationMetrics]]) -> None:
        """The figures of every tokenizer on the text."""
        found = [cut for _, cut in cuts]
        rows: list[tuple[str, list[str]]] = [
            ("tokens", [f"{cut.tokens:,}" for cut in found]),
            ("bytes per token", [f"{cut.bytes_per_token:.2f}" for cut in found]),
            ("tokens per character", [f"{cut.tokens_per_character:.3f}" for cut in found]),
            ("tokens per word", [f"{cut.tokens_per_word:.2f}" for cut in found]),
            ("bits per byte", [f"{cut.bits_per_byte:.3f}" for cut in found]),
            ("unknown tokens", [share(cut.unknown) for cut in found]),
            ("parts of characters", [share(cut.partial) for cut in found]),
            ("vocabulary used", [share(cut.used_share) for cut in found]),
            ("text comes back", ["exactly" if cut.exact else "changed" for cut in found]),
        ]
        self._side_by_side([name for name, _ in cuts], rows)
        print()

    def tokens(self, title: str, tokens: Iterable[TokenCount]) -> None:
        """Tokens and how often they occur."""
        self.flow(f"{title}: ", [f"{truncate_end(token.text, 28)} {token.count:,}×" for token in tokens], "   ")

    def sample(self, name: str, tokens: Sequence[str]) -> None:
        """A line of text cut into its tokens; of many tokens the first."""
        self.lines([f"{name} ({plural(len(tokens), 'token', 'tokens')})"])
        self.flow("  ", tokens, "│", _SAMPLE_LINES)

    def flow(self, title: str, parts: Iterable[str], between: str, most: int | None = None) -> None:
        """Parts one behind another, broken between them alone, in at most so many lines."""
        lines = [title]
        empty = True
        room = self.inside - cell_len(between.rstrip())  # a line keeps the mark at its end
        for part in parts:
            piece = part if empty else between + part
            if not empty and cell_len(lines[-1]) + cell_len(piece) > room:
                lines[-1] += between.rstrip()
                lines.append("  " + part)
            else:
                lines[-1] += piece
            empty = False
        if most is not None and len(lines) > most:
            lines = [*lines[:most], "  …"]
        self.lines(lines)

    def _side_by_side(self, names: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> None:
        """A column for each tokenizer, a few at a time."""
        for start in range(0, len(names), _COLUMNS):
            if start:
                print()
            table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
            table.add_column("", no_wrap=True)
            for name in names[start : start + _COLUMNS]:
                table.add_column(Text(name), justify="right")
            for title, values in rows:
                table.add_row(title, *(Text(value) for value in values[start : start + _COLUMNS]))
            self.show(table)


def short_names(names: Sequence[str]) -> list[str]:
    """Each path by its last part, or by as many more as it takes to tell it from the others; fitted to a column."""
    parts = [Path(name).parts or (name,) for name in names]
    generic = ("tokenizer", "tokenizer.json", "vocab.json", "merges.txt", "vocab.txt")
    short: list[str] = []
    for own in parts:
        taken = 2 if own[-1] in generic and len(own) > 1 else 1
        while taken < len(own) and sum(other[-taken:] == own[-taken:] for other in parts) > 1:
            taken += 1
        short.append("/".join(own[-taken:]))
    return [name if cell_len(name) <= _NAME else "…" + _last_cells(name, _NAME - 1) for name in short]


def _last_cells(text: str, cells: int) -> str:
    while cell_len(text) > cells:
        text = text[1:]
    return text


def _named(special: Mapping[str, int]) -> list[str]:
    """Special tokens with their ids; of many the first."""
    named = [f"{name} {index}," for name, index in special.items()]
    shown = named if len(named) <= _SPECIAL else [*named[:_SPECIAL], f"and {len(named) - _SPECIAL} more"]
    return [*shown[:-1], shown[-1].rstrip(",")]
