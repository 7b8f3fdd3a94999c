"""A comparison of decoding strategies as files: figures in; Markdown, CSV, JSON and side-by-side samples out.

The first columns are those of Holtzman et al. 2020, table 1; then come Penna's own. The same cells are shown on the
terminal.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from penna.evaluate.decoding import DecodingMetrics
from penna.evaluate.novelty import Novelty
from penna.evaluate.rouge import Interval
from penna.evaluate.texts.mauve import Mauve
from penna.evaluate.texts.statistics import Continuation, Statistics
from penna.storage import write_atomically, write_json

NOVEL = 8  # tokens of the n-grams in the table; JSON has all orders
_SAMPLES = 10  # prefixes shown side by side
_SPELLED = {"\n": "⏎\n", "\t": "\t"}

Value = float | int | None


@dataclass(frozen=True)
class Column:
    """A column: its name in tables, its name in CSV, and how a value is written."""

    title: str
    name: str
    form: str

    def cell(self, value: Value) -> str:
        """A value as a person reads it."""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return "–"
        return "∞" if value == math.inf else format(value, self.form)


COLUMNS = (
    Column("perplexity", "perplexity", ",.2f"),
    Column("judge ppl", "judge_perplexity", ",.2f"),
    Column("self-BLEU-4", "self_bleu", ".2f"),
    Column("Zipf", "zipf", ".2f"),
    Column("repetition", "repetition", ".2%"),
    Column("distance", "distance", ".3f"),
    Column("low", "distance_low", ".3f"),
    Column("high", "distance_high", ".3f"),
    Column("MAUVE", "mauve", ".3f"),
    Column("distinct-1", "distinct_1", ".3f"),
    Column("distinct-2", "distinct_2", ".3f"),
    Column("distinct-3", "distinct_3", ".3f"),
    Column("words used", "words_used", ",d"),
    Column("vocabulary", "vocabulary_use", ".1%"),
    Column("length", "length", ".1f"),
    Column("ended", "ended", ".0%"),
    Column(f"new {NOVEL}-grams", f"novel_{NOVEL}", ".1%"),
    Column("verbatim", "verbatim_share", ".1%"),
    Column("longest span", "longest_span", ",d"),
    Column("seconds", "seconds", ",.1f"),
)


def table_rows(figures: DecodingMetrics) -> list[tuple[str, dict[str, Value]]]:
    """The human row, then a row for each strategy, as name and values by column."""
    floor = figures.floor
    rows = [("human", _values(figures.human.statistics, floor, None, figures.human.novelty, None))]
    rows += [
        (own.name, _values(own.statistics, own.distance, own.mauve, own.novelty, own.seconds))
        for own in figures.strategies
    ]
    return rows


def used_columns(rows: Sequence[tuple[str, dict[str, Value]]]) -> list[Column]:
    """The columns in which any row has a value."""
    return [column for column in COLUMNS if any(values[column.name] is not None for _, values in rows)]


def _values(
    statistics: Statistics, distance: Interval | None, mauve: Mauve | None, novelty: Novelty | None, seconds: Value
) -> dict[str, Value]:
    measured = asdict(statistics)
    values: dict[str, Value] = {column.name: measured.get(column.name) for column in COLUMNS}
    values["seconds"] = seconds
    if distance is not None:
        values |= {
            "distance": distance.mean,
            "distance_low": _known(distance.low),
            "distance_high": _known(distance.high),
        }
    if mauve is not None:
        values["mauve"] = mauve.score
    if novelty is not None:
        values |= {
            f"novel_{NOVEL}": novelty.novel_ngrams[NOVEL],
            "verbatim_share": novelty.memorization.share,
            "longest_span": novelty.longest,
        }
    return values


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def write_tables(figures: DecodingMetrics, folder: Path) -> list[Path]:
    """table.md, table.csv, figures.json and samples.md in a folder that is there; the files."""
    rows = table_rows(figures)
    files = [folder / name for name in ("table.md", "table.csv", "figures.json", "samples.md")]
    write_atomically(files[0], markdown(figures))
    write_atomically(files[1], _csv(rows))
    write_json(files[2], figures)
    write_atomically(files[3], samples(figures))
    return files


def conditions(figures: DecodingMetrics) -> str:
    """What was compared, in a sentence."""
    judge = "" if figures.judge is None else f", judged by {figures.judge}"
    return (
        f"{figures.model}{judge}: {len(figures.prefix_texts):,} prefixes of {figures.prefix_length:,} tokens from "
        f"{figures.human_source}, at most {figures.length:,} tokens behind each, seed {figures.seed}."
    )


def legend(figures: DecodingMetrics) -> str:
    """What the less usual columns are."""
    human = "two halves of the human text" if figures.floor is not None else "not known"
    text = (
        "Distance: mean |log ratio| to human text of perplexity, self-BLEU-4, Zipf, repetition, distinct-2 and length; "
        f"low and high hold 95 % of half-samples; in the human row: {human}."
    )
    if figures.human.novelty is not None:
        shortest = figures.human.novelty.memorization.shortest
        text += (
            f" New: share of {NOVEL}-grams of tokens that stand nowhere in the training text. Verbatim: share of "
            f"tokens in spans of {shortest} or more that stand there word for word."
        )
    return text


def markdown(figures: DecodingMetrics) -> str:
    """The table with what it comes to."""
    rows = table_rows(figures)
    columns = used_columns(rows)
    lines = [
        "# Decoding",
        "",
        conditions(figures),
        "",
        "| | " + " | ".join(column.title for column in columns) + " |",
        "|---|" + "---:|" * len(columns),
        *(
            f"| {_escaped(name)} | " + " | ".join(column.cell(values[column.name]) for column in columns) + " |"
            for name, values in rows
        ),
        "",
        legend(figures),
        "",
        f"**Recommendation.** {figures.recommendation.reason}",
        *(f"- left out: {_escaped(name)}: {why}" for name, why in figures.recommendation.excluded.items()),
        *(f"- {doubt.message}" for doubt in figures.doubts),
        *(f"- {notice}" for notice in figures.notices),
    ]
    return "\n".join(lines) + "\n"


def _csv(rows: Sequence[tuple[str, dict[str, Value]]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["strategy", *(column.name for column in COLUMNS)])
    for name, values in rows:
        writer.writerow([name, *("" if values[column.name] is None else values[column.name] for column in COLUMNS)])
    return out.getvalue()


def samples(figures: DecodingMetrics) -> str:
    """The same prefixes with what a person and each strategy wrote behind, control characters spelled out."""
    count = len(figures.prefix_texts)
    shown = [number * count // min(_SAMPLES, count) for number in range(min(_SAMPLES, count))]
    parts = ["# Samples", "", conditions(figures)]
    for number in shown:
        parts += ["", f"## Prefix {number + 1}", "", _quoted(figures.prefix_texts[number])]
        texts = [("human", figures.human.texts[number])]
        texts += [(own.name, own.texts[number]) for own in figures.strategies]
        for name, text in texts:
            parts += ["", f"### {_escaped(name)}{_ending(text)}", "", _quoted(text.text)]
    return "\n".join(parts) + "\n"


def _ending(text: Continuation) -> str:
    return f" (ended after {len(text.ids):,} tokens)" if text.ended else ""


def _quoted(text: str) -> str:
    """A text as a code block, whatever it holds."""
    spelled = spelled_out(text)
    fence = "```"
    while fence in spelled:
        fence += "`"
    return f"{fence}text\n{spelled}\n{fence}"


def spelled_out(text: str) -> str:
    """A text whose control characters and other invisible ones stand as ``\\u{1b}``; line ends are marked and kept."""
    return "".join(
        _SPELLED[char] if char in _SPELLED else char if char.isprintable() else f"\\u{{{ord(char):x}}}" for char in text
    )


def _escaped(text: str) -> str:
    """A name that does not break a table or a heading."""
    return spelled_out(text).replace("⏎\n", " ").replace("|", "\\|").replace("`", "\\`")
