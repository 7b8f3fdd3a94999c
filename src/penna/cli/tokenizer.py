"""``penna tokenizer``: train tokenizers, or compare how they tokenize a text."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from penna.cli.arguments import save_piped_text
from penna.cli.console import Page, grid, note, print_json, share
from penna.cli.parser import Verbs
from penna.formatting import one_line, plural, truncate_end, truncate_start

if TYPE_CHECKING:
    from penna.tokenizer.comparison import TokenCount, TokenizationMetrics, TokenizerComparison

_NAME = 18  # cells of a column's title
_COLUMNS = 3  # tokenizers in one table
_SAMPLE_LINES = 3
_SPECIAL = 8  # special tokens shown
_VOCABULARY = 4096
_GENERIC_NAMES = ("tokenizer", "tokenizer.json", "vocab.json", "merges.txt", "vocab.txt")


def add(verbs: Verbs) -> None:
    """Add the verbs."""
    verbs.add_group("tokenizer", "train a tokenizer, or compare tokenizers", _add_verbs)


def _add_verbs(verbs: Verbs) -> None:
    verbs.add(
        "train",
        "train a tokenizer on text",
        "TEXT [TEXT ...] --output FOLDER [options]",
        _add_train_arguments,
        train,
        recipe_fields=True,
    )
    verbs.add(
        "inspect",
        "show tokenizers, and how they tokenize a text, side by side",
        "TOKENIZER [TOKENIZER ...] [options]",
        _add_inspect_arguments,
        inspect,
        recipe_fields=True,
    )


def _add_train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="+", metavar="TEXT", help="files, folders, globs, or - for standard input")
    parser.add_argument(
        "--kind", choices=["char", "bpe", "unigram"], default="bpe", help="kind of tokenizer (default: bpe)"
    )
    parser.add_argument(
        "--vocab-size", type=int, default=_VOCABULARY, metavar="N", help=f"number of tokens (default: {_VOCABULARY})"
    )
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where to write it")


def _add_inspect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tokenizer", nargs="+", metavar="TOKENIZER", help="folders, files or runs")
    parser.add_argument("--text", action="append", default=[], metavar="FILE", help="text to tokenize; repeatable")
    parser.add_argument("--json", action="store_true", help="print JSON")


def train(arguments: argparse.Namespace) -> int:
    """Train a tokenizer and print its properties."""
    from penna.api.tokenizers import train_tokenizer_from
    from penna.config.recipe import parse_overrides

    fields = parse_overrides(arguments.overrides)
    trained = train_tokenizer_from(
        save_piped_text(arguments.path, fields),
        fields,
        output=Path(arguments.output),
        kind=arguments.kind,
        vocab_size=arguments.vocab_size,
        report=note,
    )
    documents = plural(trained.documents, "document", "documents")
    rows = [
        ("tokens", f"{trained.vocab_size:,}", _vocabulary_remark(trained.requested_vocab_size, trained.vocab_size)),
        ("bytes per token", f"{trained.bytes_per_token:.2f}", f"{trained.tokens:,} tokens for the text"),
        ("text", f"{trained.characters:,}", f"characters, {trained.bytes:,} bytes, {documents}"),
        ("seconds", f"{trained.seconds:.1f}", "training time"),
    ]
    if trained.bad_records:
        rows.append(("bad records", f"{trained.bad_records:,}", "skipped"))
    page = Page()
    page.title(f"{trained.path}: {trained.kind}")
    page.rows(rows)
    print(f"\nTry next:\n  penna tokenizer inspect {trained.path} --text {arguments.path[0]}")
    print(f"  penna train {arguments.path[0]} --tokenizer.kind file --tokenizer.path {trained.path}")
    return 0


def _vocabulary_remark(requested: int | None, size: int) -> str:
    if requested is None:
        return "one for each character, and bytes for all others"
    return "as requested" if requested == size else f"of {requested:,} requested: the text has no more"


def inspect(arguments: argparse.Namespace) -> int:
    """Print how tokenizers tokenize a text, side by side."""
    from penna.api.tokenizers import compare_tokenizers
    from penna.config.recipe import parse_overrides

    fields = parse_overrides(arguments.overrides)
    paths = save_piped_text(arguments.text, fields)
    comparison = compare_tokenizers(arguments.tokenizer, paths, fields, runs_dir=Path(arguments.runs_dir))
    if arguments.json:
        print_json(comparison)
    else:
        print_comparison(comparison, ", ".join(arguments.text))
    return 0


def print_comparison(comparison: TokenizerComparison, text: str) -> None:
    """Print tokenizers side by side; ``text`` is the name of the text that they tokenized, if any."""
    page = Page()
    names = short_names([one.name for one in comparison.tokenizers])
    _print_structure(page, comparison, names)
    named = list(zip(names, comparison.tokenizers, strict=True))
    tokenized = [(name, one.metrics) for name, one in named if one.metrics is not None]
    if comparison.text_size is None or not tokenized:
        for name, one in named:
            page.title(f"{name}: the longest tokens")
            _print_items(page, "", one.longest, "   ")
        print("\nAdd --text FILE to compare them on a text.")
        return
    amount = comparison.text_size
    page.title(f"Tokenizing {text or 'the text'}")
    page.paragraph(f"{amount.characters:,} characters, {amount.words:,} words, {amount.bytes:,} bytes")
    page.gap()
    _print_metrics(page, tokenized)
    page.paragraph(
        "Bits per byte: the cost of the text under a unigram model of its tokens. Lower is better, but a tokenizer "
        "that is not lossless pays nothing for what it drops."
    )
    page.title("The first line, tokenized")
    for name, cut in tokenized:
        page.lines([f"{name} ({plural(len(cut.sample), 'token', 'tokens')})"])
        _print_items(page, "  ", cut.sample, "│", _SAMPLE_LINES)
    for name, cut in tokenized:
        page.title(name)
        _print_items(page, "longest here: ", _token_counts(cut.longest), "   ")
        _print_items(page, "rarest here: ", _token_counts(cut.rarest), "   ")
        if cut.first_difference is not None:
            page.paragraph("Decoding does not restore the text. The first difference:")
            parts = (cut.first_difference.before, cut.first_difference.after)
            page.lines(f"  {truncate_end(one_line(part), 70)}" for part in parts)


def _print_structure(page: Page, comparison: TokenizerComparison, names: Sequence[str]) -> None:
    rows: list[tuple[str, list[str]]] = [
        ("kind", [one.kind for one in comparison.tokenizers]),
        ("vocabulary", [f"{one.vocab_size:,}" for one in comparison.tokenizers]),
        ("lossless", ["yes" if one.lossless else "no" for one in comparison.tokenizers]),
        ("special tokens", [str(len(one.special_tokens) or "none") for one in comparison.tokenizers]),
    ]
    page.title("Tokenizers")
    _print_columns(page, names, rows)
    page.gap()
    for name, one in zip(names, comparison.tokenizers, strict=True):
        if one.special_tokens:
            _print_items(page, f"{name}: ", _special_tokens(one.special_tokens), " ")


def _print_metrics(page: Page, tokenized: Sequence[tuple[str, TokenizationMetrics]]) -> None:
    cuts = [cut for _, cut in tokenized]
    rows: list[tuple[str, list[str]]] = [
        ("tokens", [f"{cut.tokens:,}" for cut in cuts]),
        ("bytes per token", [f"{cut.bytes_per_token:.2f}" for cut in cuts]),
        ("tokens per character", [f"{cut.tokens_per_character:.3f}" for cut in cuts]),
        ("tokens per word", [f"{cut.tokens_per_word:.2f}" for cut in cuts]),
        ("bits per byte", [f"{cut.bits_per_byte:.3f}" for cut in cuts]),
        ("unknown tokens", [share(cut.unknown) for cut in cuts]),
        ("parts of characters", [share(cut.partial) for cut in cuts]),
        ("vocabulary used", [share(cut.used_share) for cut in cuts]),
        ("decodes to the text", ["exactly" if cut.exact else "changed" for cut in cuts]),
    ]
    _print_columns(page, [name for name, _ in tokenized], rows)
    page.gap()


def _print_columns(page: Page, names: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> None:
    """A column for each tokenizer, three per table."""
    for start in range(0, len(names), _COLUMNS):
        if start:
            page.gap()
        shown = names[start : start + _COLUMNS]
        table = grid("l" + "r" * len(shown), "", *shown)
        for title, values in rows:
            table.add_row(title, *values[start : start + _COLUMNS])
        page.show(table)


def _print_items(page: Page, title: str, items: Iterable[str], separator: str, most: int | None = None) -> None:
    """Items in a row, wrapped only between them, in at most ``most`` lines."""
    from rich.cells import cell_len

    lines = [title]
    is_empty = True
    width = page.width - cell_len(separator.rstrip())  # a wrapped line keeps the separator at its end
    for item in items:
        piece = item if is_empty else separator + item
        if not is_empty and cell_len(lines[-1]) + cell_len(piece) > width:
            lines[-1] += separator.rstrip()
            lines.append("  " + item)
        else:
            lines[-1] += piece
        is_empty = False
    if most is not None and len(lines) > most:
        lines = [*lines[:most], "  …"]
    page.lines(lines)


def _token_counts(tokens: Iterable[TokenCount]) -> list[str]:
    return [f"{truncate_end(token.text, 28)} {token.count:,}×" for token in tokens]


def _special_tokens(special: Mapping[str, int]) -> list[str]:
    """Special tokens with their ids."""
    named = [f"{name} {index}," for name, index in special.items()]
    shown = named if len(named) <= _SPECIAL else [*named[:_SPECIAL], f"and {len(named) - _SPECIAL} more"]
    return [*shown[:-1], shown[-1].rstrip(",")]


def short_names(names: Sequence[str]) -> list[str]:
    """The last parts of each path, as many as distinguish it from the others, shortened to a column's width."""
    paths = [Path(name).parts or (name,) for name in names]
    short: list[str] = []
    for parts in paths:
        count = 2 if parts[-1] in _GENERIC_NAMES and len(parts) > 1 else 1
        while count < len(parts) and sum(other[-count:] == parts[-count:] for other in paths) > 1:
            count += 1
        short.append(truncate_start("/".join(parts[-count:]), _NAME))
    return short
