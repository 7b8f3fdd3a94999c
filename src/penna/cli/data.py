"""``penna data``: prepare text for training, or inspect it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from penna.cli.arguments import save_piped_text
from penna.cli.console import Page, grid, note, print_json, share
from penna.cli.parser import Verbs, at_least
from penna.formatting import one_line, percent, plural, truncate_end

if TYPE_CHECKING:
    from penna.api.data import Preview
    from penna.data.quality.result import CharacterIssue, DataReport, Dialogues, Labels, Lengths, Overlap, Tokenization

_BAR = 36  # cells of the longest bar
_SCRIPTS = 6  # shown
_LABELS = 12  # shown
_ISSUES = {
    "mojibake": "mojibake (wrongly decoded)",
    "replacement": "U+FFFD (lost bytes)",
    "control": "control characters",
    "byte order mark": "byte order marks inside",
    "white space": "unusual white space",
    "not NFC": "not Unicode NFC",
}
_SHAPES = {
    "text": "plain text",
    "labeled": "with a label",
    "messages": "dialogues",
    "completion": "prompts with completions",
}


def add(verbs: Verbs) -> None:
    """Add the verbs."""
    verbs.add_group("data", "inspect text, or prepare it for training", _add_verbs)


def _add_verbs(verbs: Verbs) -> None:
    verbs.add(
        "prepare",
        "turn text into token shards, as training does before its first step",
        "RECIPE|TEXT [options]",
        _add_prepare_arguments,
        prepare,
        recipe_fields=True,
    )
    verbs.add(
        "inspect",
        "report what a text contains and what that means for training",
        "TEXT [TEXT ...] [options]",
        _add_inspect_arguments,
        inspect,
        recipe_fields=True,
    )


def _add_prepare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", nargs="+", metavar="RECIPE|TEXT", help="a recipe, or files, folders and globs")


def _add_inspect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="+", metavar="TEXT", help="files, folders, globs, or - for standard input")
    parser.add_argument("--tokenizer", metavar="T", help="also tokenize the text with this tokenizer or run")
    parser.add_argument(
        "--test", action="append", default=[], metavar="FILE", help="also measure the overlap with this test text"
    )
    parser.add_argument(
        "--records", type=at_least(1), metavar="N", help="first print N records as training would read them"
    )
    parser.add_argument("--figure", metavar="FILE", help="plot the document lengths as SVG or PNG")
    parser.add_argument("--json", action="store_true", help="print JSON")


def prepare(arguments: argparse.Namespace) -> int:
    """Prepare text in the cache and print what it contains and where it is."""
    from penna import api
    from penna.config.recipe import parse_overrides

    fields = parse_overrides(arguments.overrides)
    targets = save_piped_text(arguments.target, fields)
    prepared = api.prepare_data(targets, fields, runs_dir=Path(arguments.runs_dir), report=note)
    for line in prepared.lines():
        print(line)
    print(prepared.folder)
    return 0


def inspect(arguments: argparse.Namespace) -> int:
    """Print a report about a text."""
    from penna.api.data import inspect_data, preview_data
    from penna.config.recipe import parse_overrides
    from penna.storage import to_json

    fields = parse_overrides(arguments.overrides)
    paths = save_piped_text(arguments.path, fields)
    figure = Path(arguments.figure) if arguments.figure else None
    records = None if arguments.records is None else preview_data(paths, fields, count=arguments.records)
    if records is not None and not arguments.json:
        print_records(records)
    report = inspect_data(
        paths,
        fields,
        tokenizer=arguments.tokenizer,
        test=arguments.test,
        figure=figure,
        runs_dir=Path(arguments.runs_dir),
        report=note,
    )
    if arguments.json:
        print_json({**({} if records is None else {"records": records}), **to_json(report)})
    else:
        print_report(report)
    if figure is not None:
        note(f"Wrote {figure}.")
    return 0


def print_records(records: Sequence[Preview]) -> None:
    """Print the first records, each with its place, or the reason why it cannot be used."""
    page = Page()
    page.title("First records, as training reads them")
    for record in records:
        kind = f"cannot be used: {record.error}" if record.shape is None else _SHAPES[record.shape]
        page.lines([f"{record.location}: {kind}", *(f"  {name}: {one_line(text)}" for name, text in record.parts)])


def print_report(report: DataReport) -> None:
    """Print all sections of a report."""
    page = Page()
    _print_amount(page, report)
    if report.amount.documents:
        _print_lengths(page, report)
        if report.amount.documents > 1:
            _print_histogram(page, report.lengths[-1])
        _print_languages(page, report)
        _print_issues(page, report.character_issues)
        _print_duplicates(page, report)
        if report.overlap is not None:
            _print_overlap(page, report.overlap)
        if report.labels is not None:
            _print_labels(page, report.labels)
        if report.dialogues is not None:
            _print_dialogues(page, report.dialogues)
        if report.tokenization is not None:
            _print_tokenization(page, report.tokenization)
    _print_findings(page, report)


def _print_amount(page: Page, report: DataReport) -> None:
    amount = report.amount
    page.title(", ".join(report.paths))
    files = ", ".join(f"{count:,} {kind}" for kind, count in amount.files.items())
    shapes = ", ".join(f"{count:,} {_SHAPES[shape]}" for shape, count in amount.shapes.items())
    rows = [
        ("files", files, ""),
        ("documents", f"{amount.documents:,}", shapes if set(amount.shapes) - {"text"} else ""),
        ("characters", f"{amount.characters:,}", f"{amount.distinct_characters:,} distinct"),
        ("bytes of UTF-8", f"{amount.bytes:,}", ""),
        ("words", f"{amount.words:,}", "separated by white space"),
    ]
    if amount.empty:
        rows.append(("empty documents", f"{amount.empty:,}", "not counted elsewhere"))
    if amount.bad:
        rows.append(("bad records", f"{amount.bad:,}", "the first:"))
    page.rows(rows)
    page.lines(f"  {place}" for place in map(_base_name, amount.bad_examples))


def _print_lengths(page: Page, report: DataReport) -> None:
    page.title("Lengths")
    lengths = list(report.lengths)
    if report.completions is not None:
        lengths += [*report.completions.prompts, *report.completions.completions]
    if report.dialogues is not None:
        lengths += [report.dialogues.turns, report.dialogues.characters]
    table = grid("lrrrrrr", "", "shortest", "25 %", "median", "75 %", "95 %", "longest")
    for row in lengths:
        values = (row.minimum, row.quarter, row.median, row.three_quarters, row.percentile_95, row.maximum)
        table.add_row(f"{row.of}, {row.unit}", *map(_short_number, values))
    page.show(table)
    page.gap()
    sizes = list(report.lengths[0].longer_than)
    table = grid("l" + "r" * len(sizes), "", *(f"over {size:,}" for size in sizes))
    for row in lengths:
        if row.unit != "turns" and row.of != "turns":
            shares = (row.longer_than[size] for size in sizes)
            table.add_row(f"{row.of}, {row.unit}", *(percent(value) if value else "-" for value in shares))
    page.show(table)


def _print_histogram(page: Page, lengths: Lengths) -> None:
    page.title(f"Documents by length in {lengths.unit}")
    table = grid("rrl", "", "documents", "")
    edges, most = lengths.histogram.edges, max(lengths.histogram.counts)
    for low, end, count in zip(edges, edges[1:], lengths.histogram.counts, strict=False):
        name = f"{low:,}" if end == low + 1 else f"{low:,} to {end - 1:,}"
        table.add_row(name, f"{count:,}", _bar(count / most))
    page.show(table)


def _print_languages(page: Page, report: DataReport) -> None:
    page.title("Scripts and languages")
    page.paragraph(f"Letters: {_format_shares(report.scripts.shares, _SCRIPTS) or 'none'}.")
    if report.languages.documents:
        documents = plural(report.languages.documents, "document", "documents")
        page.paragraph(
            f"Languages: {_format_shares(report.languages.shares, _SCRIPTS)} (estimated by py3langid on {documents})."
        )


def _print_issues(page: Page, issues: Sequence[CharacterIssue]) -> None:
    page.title("Damaged and unusual characters")
    if not issues:
        page.paragraph("None.")
        return
    table = grid("lrrr", "", "documents", "share", "times")
    for issue in issues:
        times = "" if issue.times is None else f"{issue.times:,}"
        table.add_row(_ISSUES[issue.kind], f"{issue.documents:,}", percent(issue.share), times)
    page.show(table)
    page.gap()
    for issue in issues:
        for example in issue.examples[:2]:
            page.lines([_base_name(example.location), f"  {one_line(example.text)}"])
            if example.repaired is not None:
                page.lines([f"  {one_line(example.repaired)}  (repaired)"])


def _print_duplicates(page: Page, report: DataReport) -> None:
    page.title("Exact duplicates")
    duplicates = report.duplicates
    if not duplicates.repeats:
        page.paragraph("None: no document repeats another.")
        return
    page.paragraph(
        f"{plural(duplicates.repeats, 'document repeats', 'documents repeat')} an earlier one "
        f"({percent(duplicates.share)}). The most frequent:"
    )
    table = grid("rll", "times", "beginning", "")
    for repeated in duplicates.most:
        beginning = truncate_end(one_line(repeated.text), 40)
        table.add_row(f"{repeated.count:,}", beginning, _base_name(repeated.location))
    page.show(table)


def _print_overlap(page: Page, overlap: Overlap) -> None:
    page.title("Overlap of test text and training text")
    n_grams = f"{overlap.n} {overlap.unit}"
    empty = f", {overlap.exact_empty:,} of them empty" if overlap.exact_empty else ""
    rows = [
        ("test documents", f"{overlap.documents:,}", ""),
        (
            "identical in training",
            f"{overlap.exact:,}",
            percent(overlap.exact / max(overlap.documents, 1)) + empty,
        ),
    ]
    if overlap.other_label is not None:
        rows.append(("  never with the same label", f"{overlap.other_label:,}", ""))
    rows += [
        (f"of {n_grams} or more", f"{overlap.comparable:,}", "shorter ones are only compared as a whole"),
        (
            f"  sharing {n_grams} in a row",
            f"{overlap.sharing:,}",
            percent(overlap.sharing / max(overlap.comparable, 1)),
        ),
        (
            f"sequences of {n_grams} shared",
            f"{overlap.ngrams_seen:,}",
            f"{percent(overlap.ngrams_seen / max(overlap.ngrams, 1))} of {overlap.ngrams:,}",
        ),
    ]
    page.rows(rows)


def _print_labels(page: Page, labels: Labels) -> None:
    page.title("Labels")
    total, most = sum(labels.counts.values()), max(labels.counts.values())
    table = grid("lrrl", "", "documents", "share", "")
    for label, count in list(labels.counts.items())[:_LABELS]:
        table.add_row(truncate_end(one_line(label), 24), f"{count:,}", percent(count / total), _bar(count / most, 20))
    page.show(table)
    if len(labels.counts) > _LABELS:
        page.paragraph(f"and {plural(len(labels.counts) - _LABELS, 'more label', 'more labels')}.")
    if labels.contradictory_texts:
        page.paragraph(
            f"{plural(labels.contradictory_texts, 'text appears', 'texts appear')} with different labels "
            f"({plural(labels.contradictory_documents, 'document', 'documents')})."
        )


def _print_dialogues(page: Page, dialogues: Dialogues) -> None:
    page.title("Dialogues")
    if dialogues.source == "lines":
        page.paragraph("If each block is a dialogue with one turn per line:")
    roles = ", ".join(f"{count:,} {role}" for role, count in dialogues.roles.items())
    page.rows(
        [
            ("dialogues", f"{dialogues.turns.count:,}", ""),
            ("turns", f"{dialogues.turns.total:,}", roles),
            ("without a final reply", f"{dialogues.ending_unanswered:,}", ""),
        ]
    )


def _print_tokenization(page: Page, tokens: Tokenization) -> None:
    page.title(f"Tokenized by {tokens.tokenizer}")
    page.rows(
        [
            ("vocabulary", f"{tokens.vocab_size:,}", f"{tokens.used:,} of them appear here"),
            ("tokens", f"{tokens.tokens:,}", ""),
            ("bytes per token", f"{tokens.bytes_per_token:.2f}", ""),
            ("tokens per word", f"{tokens.tokens_per_word:.2f}", ""),
            ("tokens per character", f"{tokens.tokens_per_character:.2f}", ""),
            ("unknown tokens", share(tokens.unknown), ""),
        ]
    )
    page.gap()
    page.lines(truncate_end("│".join(map(one_line, sample)), page.width) for sample in tokens.samples)


def _print_findings(page: Page, report: DataReport) -> None:
    page.title("What this means for training")
    if not report.findings:
        page.paragraph("No problems found.")
        return
    table = grid("lw", padding=1)
    for finding in report.findings:
        table.add_row("-", finding.text)
    page.show(table)


def _short_number(value: int) -> str:
    """A whole number in at most seven cells."""
    return f"{value:,}" if value < 1_000_000 else f"{value / 1e6:,.1f} M"


def _bar(value: float, width: int = _BAR) -> str:
    """A bar in steps of half a cell; at least half a cell if the value is not zero."""
    halves = round(value * width * 2) or (1 if value else 0)
    return "━" * (halves // 2) + ("╸" if halves % 2 else "")


def _format_shares(shares: dict[str, float], most: int) -> str:
    named = [f"{name} {percent(value)}" for name, value in list(shares.items())[:most]]
    return ", ".join(named) + (f" and {len(shares) - most} more" if len(shares) > most else "")


def _base_name(place: str) -> str:
    """A place, such as "data/text.txt: line 3", without its folders."""
    return Path(place).name if "/" in place.partition(": ")[0] else place
