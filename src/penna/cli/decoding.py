"""The verb ``penna decoding``: what each way of writing makes of a model, beside human text, and which to take."""

from __future__ import annotations

import argparse
import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from penna.api.decoding import DecodingProgress
    from penna.evaluate.decoding import DecodingMetrics

Overrides = Sequence[tuple[str, str]]

_TABLES = (  # columns side by side, narrow enough for 80 of the terminal's
    ("perplexity", "judge_perplexity", "self_bleu", "zipf", "repetition", "seconds"),
    ("distance", "distance_low", "distance_high", "mauve", "novel_8", "verbatim_share", "longest_span"),
    ("distinct_1", "distinct_2", "distinct_3", "words_used", "length", "ended"),
)
_WIDEST_NAME = 24


def add_decoding_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of ``penna decoding``."""
    parser.add_argument("run", metavar="RUN", help="a run, a checkpoint or a Hugging Face folder")
    parser.add_argument(
        "--human", metavar="FILE", help="prefixes and human text from this file (the run's validation part)"
    )
    parser.add_argument(
        "--judge", metavar="RUN", help="another model that rates the texts, too, and gives the features for MAUVE"
    )
    parser.add_argument(
        "--strategy",
        action="append",
        default=[],
        metavar="WORDS",
        help='a strategy of your own, "mine: temperature=0.7 top_p=0.9"; repeatable; in place of the usual ones',
    )
    parser.add_argument("--prefixes", type=int, default=100, metavar="N", help="how many prefixes (100)")
    parser.add_argument(
        "--prefix-length", type=int, metavar="N", help="tokens of a prefix (32, or a quarter of a short block)"
    )
    parser.add_argument(
        "--length", type=int, metavar="N", help="tokens to write at most (200, or what the block holds)"
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed, other texts (0)")
    parser.add_argument("--mauve-text", action="store_true", help="take MAUVE from the package mauve-text")
    parser.add_argument("--save", action="store_true", help="make the recommended strategy the run's default")
    parser.add_argument("--fresh", action="store_true", help="write again what was written before")
    parser.add_argument("--output", metavar="FOLDER", help="where to write (the run's evaluations/)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace, overrides: Overrides) -> int:
    """Compare the strategies, print what was found, and save the recommended one where that is asked for."""
    from penna.api.decoding import DecodingSettings, compare_decoding
    from penna.api.strategies import named_strategies
    from penna.cli.screen import say
    from penna.config.generation import parse_strategy
    from penna.storage import to_json

    if arguments.save:
        _check_save(arguments)
    settings = DecodingSettings(
        strategies=tuple(named_strategies([parse_strategy(words) for words in arguments.strategy])),
        prefixes=arguments.prefixes,
        prefix_length=arguments.prefix_length,
        length=arguments.length,
        human=Path(arguments.human) if arguments.human else None,
        judge=arguments.judge,
        seed=arguments.seed,
        mauve_text=arguments.mauve_text,
        fresh=arguments.fresh,
        output=Path(arguments.output) if arguments.output else None,
    )
    with _progress() as listen:
        found = compare_decoding(
            arguments.run,
            settings,
            runs_dir=Path(arguments.runs_dir),
            device=arguments.device,
            report=say,
            on_event=listen,
        )
    if arguments.json:
        print(json.dumps({"folder": str(found.folder), **to_json(found.metrics)}, ensure_ascii=False, indent=2))
    else:
        _print(found.metrics, found.folder)
    if arguments.save:
        _save(arguments, found.metrics)
    return 0


def _check_save(arguments: argparse.Namespace) -> None:
    """Raise RunError where there is no run that could have a default, before anything is written."""
    from penna.loading import find_run_and_checkpoint

    find_run_and_checkpoint(arguments.run, Path(arguments.runs_dir))


def _save(arguments: argparse.Namespace, figures: DecodingMetrics) -> None:
    from penna.api.generation_defaults import save_run_defaults
    from penna.cli.screen import say
    from penna.errors import DataError
    from penna.loading import find_run_and_checkpoint
    from penna.tokenizer.tokenizer import Tokenizer

    name = figures.recommendation.name
    if name is None:
        raise DataError(
            "No strategy is recommended, so none is saved: all of them repeat or recite.",
            "A strategy that does neither.",
            'Try others: --strategy "mine: temperature=0.9 repetition_penalty=1.2".',
        )
    if "distance" not in figures.trusted:
        raise DataError(
            f"{name} is not saved: there is too little text to trust its distance.",
            "A recommendation that would stand with other texts, too.",
            "Compare more of them: --prefixes 100.",
        )
    folder, _ = find_run_and_checkpoint(arguments.run, Path(arguments.runs_dir))
    file = save_run_defaults(folder.path, figures.strategy(name).config, Tokenizer.load(folder.tokenizer))
    say(f"Saved as the run's default: {name} ({file}).")


@contextmanager
def _progress() -> Generator[Callable[[DecodingProgress], None]]:
    """A bar with the time left on standard error; in a file, a line for each strategy."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("writing {task.description}"), BarColumn(bar_width=20), TaskProgressColumn())
    bar = Bar(
        *columns,
        TextColumn("{task.fields[left]} left"),
        console=console,
        transient=True,
        auto_refresh=console.is_terminal,
        disable=not console.is_terminal,
    )
    task = bar.add_task("", total=1.0, left="-")
    last = ""

    def show(progress: DecodingProgress) -> None:
        nonlocal last
        left = "-" if progress.seconds_left is None else _clock(progress.seconds_left)
        bar.update(task, description=progress.strategy, completed=progress.share, left=left)
        if not console.is_terminal and progress.strategy != last:
            console.print(f"writing {progress.strategy}: {progress.share:.0%} done, {left} left", markup=False)
        last = progress.strategy

    with bar:
        yield show


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _print(figures: DecodingMetrics, folder: Path) -> None:
    """The tables, the recommendation, and what can be trusted."""
    from rich.console import Console

    from penna.cli.screen import printable
    from penna.report.decoding_tables import conditions, legend

    console = Console(highlight=False)

    def line(text: str) -> None:
        console.print(printable(text), markup=False)

    line(conditions(figures))
    for names in _TABLES:
        console.print()
        _print_table(console, figures, names)
    line("\n" + legend(figures))
    line(f"\nRecommendation: {figures.recommendation.reason}")
    for name, why in figures.recommendation.excluded.items():
        line(f"  left out: {name}: {why}")
    line(f"\nEnough text for: {', '.join(figures.trusted) or 'nothing'}.")
    for sentence in (*(doubt.message for doubt in figures.doubts), *figures.notices):
        line(f"  {sentence}")
    print(f"\nTables, samples, figures and texts: {folder}")


def _print_table(console: Console, figures: DecodingMetrics, names: Sequence[str]) -> None:
    """Some columns; the recommended row in bold."""
    from rich.table import Table
    from rich.text import Text

    from penna.report.decoding_tables import table_rows, used_columns

    rows = table_rows(figures)
    columns = [column for column in used_columns(rows) if column.name in names]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True, max_width=_WIDEST_NAME)
    for column in columns:
        table.add_column(column.title.replace(" ", "\n"), justify="right")
    for name, values in rows:
        cells = [column.cell(values[column.name]) for column in columns]
        style = "bold" if name == figures.recommendation.name else ""
        table.add_row(Text(name), *map(Text, cells), style=style)
    console.print(table)
