"""A comparison of decoding strategies as Markdown, CSV, JSON and side-by-side samples.

The first columns are those of Holtzman et al. 2020, table 1; Penna's own follow. The terminal shows the same cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from penna.evaluate.decoding import DecodingMetrics
from penna.evaluate.novelty import Novelty
from penna.evaluate.rouge import Interval
from penna.evaluate.texts.mauve import Mauve
from penna.evaluate.texts.statistics import Continuation, Statistics
from penna.report.tables import TextTable, code_block, escape_markdown, markdown_table
from penna.storage import write_atomically, write_json

NOVEL = 8  # n-gram order in the table; JSON has all orders
_SAMPLES = 10  # prefixes with samples

Value = float | int | None


@dataclass(frozen=True)
class Column:
    """A column: its title in tables, its name in CSV, and the format of its values."""

    title: str
    name: str
    format: str

    def cell(self, value: Value) -> str:
        """A formatted value."""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return "–"
        return "∞" if value == math.inf else format(value, self.format)


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


def table_rows(metrics: DecodingMetrics) -> list[tuple[str, dict[str, Value]]]:
    """The human row, then a row for each strategy: its name and its values by column."""
    floor = metrics.floor
    rows = [("human", _values(metrics.human.statistics, floor, None, metrics.human.novelty, None))]
    rows += [
        (own.name, _values(own.statistics, own.distance, own.mauve, own.novelty, own.seconds))
        for own in metrics.strategies
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
            "distance_low": _finite(distance.low),
            "distance_high": _finite(distance.high),
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


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def write_tables(metrics: DecodingMetrics, folder: Path) -> list[Path]:
    """Write table.md, table.csv, metrics.json and samples.md into an existing folder; return their paths."""
    rows = table_rows(metrics)
    files = [folder / name for name in ("table.md", "table.csv", "metrics.json", "samples.md")]
    write_atomically(files[0], markdown(metrics))
    write_atomically(files[1], _csv(rows))
    write_json(files[2], metrics)
    write_atomically(files[3], samples(metrics))
    return files


def conditions(metrics: DecodingMetrics) -> str:
    """What was compared, in one sentence."""
    judge = "" if metrics.judge is None else f", judged by {metrics.judge}"
    return (
        f"{metrics.model}{judge}: {len(metrics.prefix_texts):,} prefixes of {metrics.prefix_length:,} tokens from "
        f"{metrics.human_source}, at most {metrics.length:,} tokens after each, seed {metrics.seed}."
    )


def legend(metrics: DecodingMetrics) -> str:
    """The definitions of the less usual columns."""
    human = "two halves of the human text" if metrics.floor is not None else "unknown"
    text = (
        "Distance: mean |log ratio| to human text of perplexity, self-BLEU-4, Zipf, repetition, distinct-2 and length; "
        f"low and high enclose 95 % of half-samples; in the human row: {human}."
    )
    if metrics.human.novelty is not None:
        shortest = metrics.human.novelty.memorization.shortest
        text += (
            f" New: share of {NOVEL}-grams of tokens that are not in the training text. Verbatim: share of tokens in "
            f"passages of {shortest} or more that are in the training text."
        )
    return text


def markdown(metrics: DecodingMetrics) -> str:
    """The table and the recommendation."""
    rows = table_rows(metrics)
    lines = [
        "# Decoding",
        "",
        conditions(metrics),
        "",
        *markdown_table(_table(rows)),
        "",
        legend(metrics),
        "",
        f"**Recommendation.** {metrics.recommendation.reason}",
        *(f"- excluded: {escape_markdown(name)}: {why}" for name, why in metrics.recommendation.excluded.items()),
        *(f"- {doubt.message}" for doubt in metrics.doubts),
        *(f"- {notice}" for notice in metrics.notices),
    ]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[tuple[str, dict[str, Value]]]) -> TextTable:
    columns = used_columns(rows)
    cells = [(name, *(column.cell(values[column.name]) for column in columns)) for name, values in rows]
    return TextTable("Decoding", ("", *(column.title for column in columns)), tuple(cells))


def _csv(rows: Sequence[tuple[str, dict[str, Value]]]) -> str:
    import pandas as pd  # slow to import

    listed = [{"strategy": name, **values} for name, values in rows]
    header = ["strategy", *(column.name for column in COLUMNS)]
    return pd.DataFrame(listed, columns=header, dtype=object).to_csv(index=False, lineterminator="\n")


def samples(metrics: DecodingMetrics) -> str:
    """Some prefixes with the human continuation and that of each strategy, control characters escaped."""
    count = len(metrics.prefix_texts)
    shown = [number * count // min(_SAMPLES, count) for number in range(min(_SAMPLES, count))]
    parts = ["# Samples", "", conditions(metrics)]
    for number in shown:
        parts += ["", f"## Prefix {number + 1}", "", *code_block(metrics.prefix_texts[number])]
        texts = [("human", metrics.human.texts[number])]
        texts += [(own.name, own.texts[number]) for own in metrics.strategies]
        for name, text in texts:
            parts += ["", f"### {escape_markdown(name)}{_ending(text)}", "", *code_block(text.text)]
    return "\n".join(parts) + "\n"


def _ending(text: Continuation) -> str:
    return f" (ended after {len(text.ids):,} tokens)" if text.ended else ""
