"""``penna evaluate``: measure a model on labeled or plain text, and print the metrics of its task."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from penna.cli.arguments import add_device_arguments, add_run_argument
from penna.cli.console import Page, excerpt, grid, note, print_json
from penna.cli.parser import Verbs
from penna.formatting import plural, truncate_end

if TYPE_CHECKING:
    from rich.table import Table

    from penna.api.completion_metrics import CompletionMetrics
    from penna.api.evaluate import Metrics
    from penna.evaluate.classification import ClassificationMetrics
    from penna.evaluate.copying import CopyMetrics
    from penna.evaluate.rouge import Interval, RougeKind
    from penna.evaluate.summaries import SystemMetrics

_CLASSES = 20  # shown, those with the most texts
_MATRIX = 10  # the confusion matrix is printed up to this number of classes
_MISTAKES = 8
_LABEL = 16  # cells
_MEASURES = (
    "ROUGE-1", "ROUGE-2", "ROUGE-L", "ROUGE-Lsum", "BLEU", "chrF", "length ratio", "copied words", "copied span",
    "new words", "new 2-grams", "absent numbers", "absent names",
)  # fmt: skip


def add(verbs: Verbs) -> None:
    """Add the verb."""
    summary = "measure a model with the metrics of its task"
    verbs.add("evaluate", summary, "RUN [options]", _add_arguments, run, recipe_fields=True)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "--data.path FILE sets the text to measure on (repeatable; default: the run's validation split). The metrics "
        "depend on the run's task, or on --task.kind."
    )
    add_run_argument(parser)
    add_device_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Measure a model and print its metrics."""
    from penna import api
    from penna.config.recipe import parse_overrides

    metrics = api.evaluate(
        arguments.run,
        parse_overrides(arguments.overrides),
        runs_dir=Path(arguments.runs_dir),
        device=arguments.device,
        dtype=arguments.dtype,
        report=note,
    )
    if arguments.json:
        print_json(metrics)
    else:
        print_metrics(metrics)
    return 0


def print_metrics(metrics: Metrics) -> None:
    """Print the metrics of any task."""
    from penna.api.completion_metrics import CompletionMetrics
    from penna.evaluate.classification import ClassificationMetrics
    from penna.storage import to_json

    if isinstance(metrics, ClassificationMetrics):
        print_classification(metrics)
    elif isinstance(metrics, CompletionMetrics):
        print_completions(metrics)
    else:
        _print_values(to_json(metrics))


def _print_values(values: Mapping[str, object], indent: str = "") -> None:
    """Print a value per line; nested values are indented below their name."""
    for name, value in values.items():
        label = f"{indent}{name.replace('_', ' '):>20}"
        if isinstance(value, Mapping):
            print(f"{label}:")
            _print_values({str(key): each for key, each in value.items()}, indent + "  ")
        elif value is None:
            print(f"{label}  {'too large' if name.endswith('perplexity') else 'none'}")
        else:
            print(f"{label}  {value:,.4f}" if isinstance(value, float) else f"{label}  {value:,}")


def print_classification(metrics: ClassificationMetrics) -> None:
    """Print the metrics of a classifier, per class, the confusion matrix and the most confident mistakes."""
    page = Page()
    rows = [
        ("texts", f"{metrics.count:,}", ""),
        ("accuracy", f"{metrics.accuracy:.4f}", f"always predicting the most frequent class: {metrics.majority:.4f}"),
        ("macro F1", f"{metrics.macro_f1:.4f}", "mean over the classes"),
        ("log loss", f"{metrics.log_loss:.4f}", "nats per text"),
        ("calibration error", f"{metrics.calibration_error:.4f}", "mean gap of confidence and accuracy (ECE)"),
    ]
    for part in metrics.parts:
        accuracy = "-" if part.accuracy is None else f"{part.accuracy:.4f}"
        macro_f1 = "" if part.macro_f1 is None else f", macro F1 {part.macro_f1:.4f}"
        rows.append((part.name, accuracy, f"accuracy on {plural(part.count, 'text', 'texts')}{macro_f1}"))
    if metrics.bad_records:
        rows.append(("bad records", f"{metrics.bad_records:,}", "skipped"))
    page.rows(rows)
    _print_classes(page, metrics)
    if len(metrics.classes) <= _MATRIX:
        _print_confusion(page, metrics)
    if metrics.worst:
        page.title("Most confident mistakes")
        for mistake in metrics.worst[:_MISTAKES]:
            place = f"{mistake.place}: " if mistake.place else ""
            predicted = f"{mistake.predicted!r} {mistake.confidence:.3f}, labeled {mistake.true!r}"
            page.lines([f"{place}{predicted}"])
            if mistake.text is not None:
                page.lines([f"  {excerpt(mistake.text) or '(an empty text)'}"])


def _print_classes(page: Page, metrics: ClassificationMetrics) -> None:
    table = grid("lrrrrr", "class", "precision", "recall", "F1", "texts", "predicted")
    shown = sorted(metrics.classes, key=lambda each: -each.support)[:_CLASSES]
    for each in metrics.classes:
        if each in shown:
            values = ("-" if value is None else f"{value:.4f}" for value in (each.precision, each.recall, each.f1))
            table.add_row(_label(each.name), *values, f"{each.support:,}", f"{each.predicted:,}")
    page.gap()
    page.show(table)
    if len(metrics.classes) > _CLASSES:
        page.paragraph(f"and {len(metrics.classes) - _CLASSES} more; --json prints all")


def _print_confusion(page: Page, metrics: ClassificationMetrics) -> None:
    names = [_label(each.name) for each in metrics.classes]
    table = grid("l" + "r" * len(names), "true \\ predicted", *names)
    for name, row in zip(names, metrics.confusion, strict=True):
        table.add_row(name, *(f"{count:,}" for count in row))
    page.gap()
    page.show(table)


def _label(name: str) -> str:
    return truncate_end(excerpt(name), _LABEL)


def print_completions(metrics: CompletionMetrics) -> None:
    """Print how well the model predicts, generates and extracts, beside baselines that need no model."""
    page = Page()
    page.rows(_prediction_rows(metrics))
    page.gap()
    page.show(_systems_table(metrics))
    page.gap()
    page.paragraph("ROUGE-2 lead of one system over another, with 95 % intervals over the items:")
    page.rows(_lead_rows(metrics))


def _prediction_rows(metrics: CompletionMetrics) -> list[tuple[str, str, str]]:
    refused = f"{len(metrics.refused):,} more cannot be scored" if metrics.refused else ""
    rows = [
        ("pairs", f"{metrics.pairs:,}", refused),
        *([("bad records", f"{metrics.bad_records:,}", "skipped")] if metrics.bad_records else []),
        ("loss", f"{metrics.loss:.4f}", f"nats per token, on {metrics.tokens:,} target tokens"),
        ("perplexity", f"{metrics.perplexity:,.2f}", ""),
        ("bits per byte", f"{metrics.bits_per_byte:.4f}", ""),
        ("token accuracy", f"{metrics.accuracy:.1%}", ""),
    ]
    use = metrics.source_use
    if use is not None:
        verdict = "the prompt is used" if use.rise.low > 0 else "not significant"
        rows += [
            ("perplexity, own prompt", f"{use.perplexity:,.2f}", f"of {plural(use.items, 'item', 'items')}"),
            ("perplexity, other prompt", f"{use.shuffled_perplexity:,.2f}", "the prompt of another item"),
            (
                "value of the prompt",
                f"{use.rise.mean:.4f}",
                f"nats per token [{use.rise.low:.4f}, {use.rise.high:.4f}]: {verdict}",
            ),
        ]
    cut = f"; {plural(metrics.cut, 'prompt', 'prompts')} truncated" if metrics.cut else ""
    limit = plural(metrics.max_new_tokens, "token", "tokens")
    rows.append(("generated", f"{metrics.items:,}", f"at most {limit} each; {metrics.ended:,} ended before{cut}"))
    return rows


def _systems_table(metrics: CompletionMetrics) -> Table:
    """Measures by system; "shuffled" is the model given the prompt of another item."""
    summaries = metrics.summaries
    systems = {"model": summaries.system, metrics.extract.name: metrics.extract}
    systems |= {baseline.name: baseline for baseline in summaries.baselines}
    if metrics.shuffled is not None:
        systems["shuffled"] = metrics.shuffled
    columns = [[*_overlap(system), *_copying(system.copying)] for system in systems.values()]
    columns.append([*[""] * 6, "1.00", *_copying(summaries.references)])
    table = grid("l" + "r" * len(columns), "", *systems, "reference")
    for name, *values in zip(_MEASURES, *columns, strict=True):
        table.add_row(name, *values)
    return table


def _overlap(system: SystemMetrics) -> list[str]:
    from penna.evaluate.rouge import ROUGE_KINDS

    rouge = [f"{100 * system.rouge[kind].fmeasure.mean:.2f}" for kind in ROUGE_KINDS]
    ratio = "-" if system.length_ratio is None else f"{system.length_ratio:.2f}"
    return [*rouge, f"{system.overlap.bleu:.2f}", f"{system.overlap.chrf:.2f}", ratio]


def _copying(copying: CopyMetrics) -> list[str]:
    length = "-" if copying.density is None else f"{copying.density:.1f}"
    shares = [copying.novel["1-grams"], copying.novel["2-grams"], copying.numbers.share, copying.names.share]
    return [_percent(copying.coverage), length, *map(_percent, shares)]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _lead_rows(metrics: CompletionMetrics) -> list[tuple[str, str, str]]:
    """Leads in ROUGE-2, each with its bootstrap interval."""
    rows = [(f"model over {name}", lead) for name, lead in _rouge2(metrics.summaries.leads)]
    rows += [(f"{metrics.extract.name} over {name}", lead) for name, lead in _rouge2(metrics.extract_leads)]
    if metrics.shuffled_lead is not None:
        rows.append(("model over shuffled", metrics.shuffled_lead["rouge2"]))
    return [
        (name, _with_interval(lead), "" if lead.low > 0 or lead.high < 0 else "not significant") for name, lead in rows
    ]


def _rouge2(leads: Mapping[str, Mapping[RougeKind, Interval]]) -> list[tuple[str, Interval]]:
    return [(name, lead["rouge2"]) for name, lead in leads.items()]


def _with_interval(interval: Interval) -> str:
    mean, low, high = (f"{100 * value:+.2f}" for value in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]"
