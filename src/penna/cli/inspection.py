"""A look at a data set for the eye: tables of figures, and below them what they mean, in 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from penna.api.data import Preview
from penna.cli.page import Page, share
from penna.data.quality.result import CharacterIssue, DataReport, Dialogues, Labels, Lengths, Overlap, Tokenization
from penna.formatting import one_line, percent, plural, truncate_end

_BAR = 36  # cells of the longest bar
_SCRIPTS = 6  # shown
_LABELS = 12  # shown
_TROUBLES = {
    "mojibake": "mojibake (wrongly decoded)",
    "replacement": "U+FFFD (lost bytes)",
    "control": "control characters",
    "byte order mark": "byte order marks inside",
    "white space": "unusual white space",
    "not NFC": "not in Unicode's form NFC",
}
_SHAPES = {
    "text": "plain text",
    "labeled": "with a label",
    "messages": "dialogues",
    "completion": "prompts with completions",
}


def print_inspection(seen: DataReport) -> None:
    """Print everything on standard output."""
    screen = _Screen()
    screen.amount(seen)
    if seen.amount.documents:
        screen.lengths(seen)
        if seen.amount.documents > 1:
            screen.histogram(seen.lengths[-1])
        screen.writing(seen)
        screen.troubles(seen.character_issues)
        screen.duplicates(seen)
        if seen.overlap is not None:
            screen.overlap(seen.overlap)
        if seen.labels is not None:
            screen.labels(seen.labels)
        if seen.dialogues is not None:
            screen.dialogues(seen.dialogues)
        if seen.tokenization is not None:
            screen.cut(seen.tokenization)
    screen.findings(seen)


def print_records(records: Sequence[Preview]) -> None:
    """Print the first records, each with its place, and a fault where it cannot be used."""
    page = Page()
    page.title("First records, as training takes them")
    for record in records:
        kind = f"cannot be used: {record.error}" if record.shape is None else _SHAPES[record.shape]
        page.lines([f"{record.location}: {kind}", *(f"  {name}: {one_line(text)}" for name, text in record.parts)])


class _Screen(Page):
    def amount(self, seen: DataReport) -> None:
        amount = seen.amount
        self.title(f"{', '.join(seen.paths)}")
        files = ", ".join(f"{count:,} {kind}" for kind, count in amount.files.items())
        shapes = ", ".join(f"{count:,} {_SHAPES[shape]}" for shape, count in amount.shapes.items())
        rows = [
            ("files", files, ""),
            ("documents", f"{amount.documents:,}", shapes if set(amount.shapes) - {"text"} else ""),
            ("characters", f"{amount.characters:,}", f"{amount.distinct_characters:,} different ones"),
            ("bytes of UTF-8", f"{amount.bytes:,}", ""),
            ("words", f"{amount.words:,}", "parted by white space"),
        ]
        if amount.empty:
            rows.append(("empty documents", f"{amount.empty:,}", "in no other figure"))
        if amount.bad:
            rows.append(("bad records", f"{amount.bad:,}", "the first:"))
        self.figures(rows)
        self.lines(f"  {place}" for place in map(_base, amount.bad_examples))

    def lengths(self, seen: DataReport) -> None:
        self.title("Lengths")
        every = list(seen.lengths)
        if seen.completions is not None:
            every += [*seen.completions.prompts, *seen.completions.completions]
        if seen.dialogues is not None:
            every += [seen.dialogues.turns, seen.dialogues.characters]
        table = _table("", "shortest", "25 %", "median", "75 %", "95 %", "longest")
        for row in every:
            values = (row.minimum, row.quarter, row.median, row.three_quarters, row.percentile_95, row.maximum)
            table.add_row(f"{row.of}, {row.unit}", *map(_short, values))
        self.show(table)
        self.gap()
        sizes = list(seen.lengths[0].longer_than)
        table = _table("", *(f"over {size:,}" for size in sizes))
        for row in every:
            if row.unit != "turns" and row.of != "turns":
                table.add_row(
                    f"{row.of}, {row.unit}",
                    *(percent(row.longer_than[size]) if row.longer_than[size] else "-" for size in sizes),
                )
        self.show(table)

    def histogram(self, lengths: Lengths) -> None:
        self.title(f"Documents by their length in {lengths.unit}")
        table = _table("", "documents", "")
        table.columns[0].justify = "right"
        table.columns[2].justify = "left"
        edges, most = lengths.histogram.edges, max(lengths.histogram.counts)
        for low, end, count in zip(edges, edges[1:], lengths.histogram.counts, strict=False):
            name = f"{low:,}" if end == low + 1 else f"{low:,} to {end - 1:,}"
            table.add_row(name, f"{count:,}", _bar(count / most))
        self.show(table)

    def writing(self, seen: DataReport) -> None:
        self.title("Scripts and languages")
        self.wrapped(f"Letters: {_shares(seen.scripts.shares, _SCRIPTS) or 'none'}.")
        if seen.languages.documents:
            self.wrapped(
                f"Languages: {_shares(seen.languages.shares, _SCRIPTS)}: a guess (py3langid), on "
                f"{plural(seen.languages.documents, 'document', 'documents')}."
            )

    def troubles(self, troubles: Sequence[CharacterIssue]) -> None:
        self.title("Damaged and unusual characters")
        if not troubles:
            self.wrapped("None.")
            return
        table = _table("", "documents", "share", "times")
        for trouble in troubles:
            times = "" if trouble.times is None else f"{trouble.times:,}"
            table.add_row(_TROUBLES[trouble.kind], f"{trouble.documents:,}", percent(trouble.share), times)
        self.show(table)
        self.gap()
        for trouble in troubles:
            for example in trouble.examples[:2]:
                self.lines([_base(example.location), f"  {one_line(example.text)}"])
                if example.repaired is not None:
                    self.lines([f"  {one_line(example.repaired)}  (mended)"])

    def duplicates(self, seen: DataReport) -> None:
        self.title("Exact duplicates")
        duplicates = seen.duplicates
        if not duplicates.repeats:
            self.wrapped("None: no document repeats another.")
            return
        self.wrapped(
            f"{plural(duplicates.repeats, 'document repeats', 'documents repeat')} an earlier one "
            f"({percent(duplicates.share)}). The most frequent texts:"
        )
        table = _table("times", "first characters", "")
        table.columns[0].justify = "right"
        table.columns[1].justify = "left"
        for repeated in duplicates.most:
            table.add_row(f"{repeated.count:,}", truncate_end(one_line(repeated.text), 40), _base(repeated.location))
        self.show(table)

    def overlap(self, overlap: Overlap) -> None:
        self.title("What the test text shares with training")
        n_grams = f"{overlap.n} {overlap.unit}"
        rows = [
            ("test documents", f"{overlap.documents:,}", ""),
            (
                "in training letter for letter",
                f"{overlap.exact:,}",
                percent(overlap.exact / max(overlap.documents, 1))
                + (f", {overlap.exact_empty:,} of them empty" if overlap.exact_empty else ""),
            ),
        ]
        if overlap.other_label is not None:
            rows.append(("  never with the same label", f"{overlap.other_label:,}", ""))
        rows += [
            (f"of {n_grams} or more", f"{overlap.comparable:,}", "shorter ones are compared whole only"),
            (
                f"  sharing {n_grams} in a row",
                f"{overlap.sharing:,}",
                percent(overlap.sharing / max(overlap.comparable, 1)),
            ),
            (
                f"runs of {n_grams} seen",
                f"{overlap.ngrams_seen:,}",
                f"{percent(overlap.ngrams_seen / max(overlap.ngrams, 1))} of {overlap.ngrams:,}",
            ),
        ]
        self.figures(rows)

    def labels(self, labels: Labels) -> None:
        self.title("Labels")
        total = sum(labels.counts.values())
        table = _table("", "documents", "share", "")
        table.columns[3].justify = "left"
        most = max(labels.counts.values())
        for label, count in list(labels.counts.items())[:_LABELS]:
            table.add_row(
                truncate_end(one_line(label), 24), f"{count:,}", percent(count / total), _bar(count / most, 20)
            )
        self.show(table)
        if len(labels.counts) > _LABELS:
            self.wrapped(f"and {plural(len(labels.counts) - _LABELS, 'more label', 'more labels')}.")
        if labels.contradictory_texts:
            self.wrapped(
                f"{plural(labels.contradictory_texts, 'text has', 'texts have')} different labels at different places "
                f"({plural(labels.contradictory_documents, 'document', 'documents')})."
            )

    def dialogues(self, dialogues: Dialogues) -> None:
        self.title("Dialogues")
        if dialogues.source == "lines":
            self.wrapped("If these blocks are dialogues, a line a turn:")
        rows = [
            ("dialogues", f"{dialogues.turns.count:,}", ""),
            ("turns", f"{dialogues.turns.total:,}", ", ".join(f"{n:,} {role}" for role, n in dialogues.roles.items())),
            ("ending without an answer", f"{dialogues.ending_unanswered:,}", ""),
        ]
        self.figures(rows)

    def cut(self, cut: Tokenization) -> None:
        self.title(f"Cut by {cut.tokenizer}")
        rows = [
            ("vocabulary", f"{cut.vocab_size:,}", f"{cut.used:,} of them occur here"),
            ("tokens", f"{cut.tokens:,}", ""),
            ("bytes per token", f"{cut.bytes_per_token:.2f}", ""),
            ("tokens per word", f"{cut.tokens_per_word:.2f}", ""),
            ("tokens per character", f"{cut.tokens_per_character:.2f}", ""),
            ("unknown tokens", share(cut.unknown), ""),
        ]
        self.figures(rows)
        self.gap()
        for sample in cut.samples:
            self.show(Text("│".join(map(one_line, sample)), no_wrap=True, overflow="ellipsis"))

    def findings(self, seen: DataReport) -> None:
        self.title("What this means for training")
        if not seen.findings:
            self.wrapped("Nothing here stands in the way.")
            return
        table = Table.grid(padding=(0, 1))
        for finding in seen.findings:
            table.add_row("-", Text(finding.text))
        self.show(table)


def _table(*titles: str) -> Table:
    """A table without lines: the first column set left, figures right."""
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    for number, title in enumerate(titles):
        table.add_column(title, justify="left" if number == 0 else "right", no_wrap=True)
    return table


def _short(value: int) -> str:
    """A whole number in at most seven cells."""
    return f"{value:,}" if value < 1_000_000 else f"{value / 1e6:,.1f} M"


def _bar(share: float, width: int = _BAR) -> str:
    """A bar of half-cell steps; something never looks like nothing."""
    halves = round(share * width * 2) or (1 if share else 0)
    return "━" * (halves // 2) + ("╸" if halves % 2 else "")


def _shares(shares: dict[str, float], most: int) -> str:
    named = [f"{name} {percent(share)}" for name, share in list(shares.items())[:most]]
    return ", ".join(named) + (f" and {len(shares) - most} more" if len(shares) > most else "")


def _base(where: str) -> str:
    """A place without its folders."""
    return Path(where).name if "/" in where.partition(": ")[0] else where
