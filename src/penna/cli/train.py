"""``penna train``, ``demo`` and ``resume``: train a model, show the progress and print a summary at the end."""

from __future__ import annotations

import argparse
import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penna.cli.arguments import save_piped_text
from penna.cli.console import Page, duration, excerpt, make_console, note, size
from penna.cli.parser import Verbs
from penna.formatting import plural

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from penna.api.dry_run import DryRun
    from penna.config.schema import Recipe
    from penna.runs.folder import RunFolder
    from penna.train.events import Event, EventHandler, Finished, Logged

_CURVE_WIDTH, _CURVE_HEIGHT = 60, 10
_EPOCHS = 6  # the last ones, in the summary
_SAMPLES = 3  # in the summary


def add(verbs: Verbs) -> None:
    """Add the verbs."""
    verbs.add(
        "demo",
        "train a small GPT in two minutes, on text that every computer has",
        "[options]",
        _add_new_run_arguments,
        train,
        recipe_fields=True,
    )
    verbs.add(
        "train",
        "train a model from a recipe or from your own text",
        "RECIPE|TEXT [options]",
        _add_train_arguments,
        train,
        recipe_fields=True,
    )
    verbs.add("resume", "resume a stopped run", "RUN [options]", _add_resume_arguments, resume, recipe_fields=True)


def _add_train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        nargs="+",
        metavar="RECIPE|TEXT",
        help="name of a recipe, a .toml file, or files and folders of text; - reads standard input",
    )
    _add_new_run_arguments(parser)


def _add_new_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(target=["demo"])
    parser.add_argument("--name", help="name of the new run")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing run of that name")
    parser.add_argument(
        "--dry-run", action="store_true", help="do not train; measure how long training takes and whether it fits"
    )


def _add_resume_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run, or the checkpoint to resume from")


def train(arguments: argparse.Namespace) -> int:
    """Train a recipe or text; with --dry-run, measure it (exit code 1 if it does not fit)."""
    from penna import api
    from penna.api.dry_run import dry_run
    from penna.config.recipe import parse_overrides

    fields, runs_dir = parse_overrides(arguments.overrides), Path(arguments.runs_dir)
    recipe, stem = api.resolve_recipe(save_piped_text(arguments.target, fields), fields, runs_dir=runs_dir)
    print_recipe(recipe)
    if arguments.dry_run:
        found = dry_run(recipe, runs_dir=runs_dir)
        print_dry_run(found)
        return 0 if found.fits else 1
    with training_progress() as on_event:
        run, finished = api.train_recipe(
            recipe,
            stem="stdin" if "-" in arguments.target else stem,
            name=arguments.name,
            runs_dir=runs_dir,
            overwrite=arguments.overwrite,
            on_event=on_event,
        )
    return print_summary(run, finished)


def resume(arguments: argparse.Namespace) -> int:
    """Resume a run."""
    from penna import api
    from penna.config.recipe import parse_overrides

    changes = parse_overrides(arguments.overrides)
    with training_progress() as on_event:
        run, finished = api.resume(arguments.run, runs_dir=Path(arguments.runs_dir), changes=changes, on_event=on_event)
    return print_summary(run, finished)


def print_recipe(recipe: Recipe) -> None:
    """Print every field of a recipe, defaults included, a paragraph per section, on standard error."""
    from rich.text import Text

    from penna.config.schema import SECTIONS

    console = make_console(stderr=True)
    for section in SECTIONS:
        model = getattr(recipe, section)
        values = {name: getattr(model, name) for name in type(model).model_fields}
        fields = " ".join(
            f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in values.items()
            if value is not None
        )
        console.print(Text.assemble((section, "bold"), f" {fields}"))


def print_dry_run(found: DryRun) -> None:
    """Print what training would need."""
    page = Page()
    page.title("This run fits. Nothing was trained." if found.fits else "This run does NOT fit. Nothing was trained.")
    memory = "" if found.free_memory is None else f"of {size(found.free_memory)} free"
    page.rows(
        [
            ("steps", f"{found.steps:,}", ""),
            ("time, about", duration(found.seconds), "including samples and evaluations"),
            ("memory", size(found.memory), memory),
            ("checkpoints", size(found.disk), f"of {size(found.free_disk)} free on disk"),
        ]
    )
    page.paragraph("Measured by training a few steps that were then discarded. The prepared text is kept.")


@contextmanager
def training_progress() -> Generator[EventHandler]:
    """Show a run on standard error: a progress bar in a terminal, a line per evaluation in a file."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    console = make_console(stderr=True)
    bar = Progress(
        TextColumn("step {task.fields[step]}"),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TextColumn("{task.fields[speed]} tokens/s"),
        TextColumn("{task.fields[left]} left"),
        console=console,
        transient=True,
        auto_refresh=console.is_terminal,
    )
    with bar:
        yield _TrainingProgress(console, bar).show


class _TrainingProgress:
    def __init__(self, console: Console, bar: Progress) -> None:
        self._console, self._bar = console, bar
        self._task = bar.add_task("", total=1.0, step=0, loss="-", speed="-", left="-", visible=False)

    def show(self, event: Event) -> None:
        from penna.train.events import Evaluated, Finished, Logged, Notice, Sampled, Started

        if isinstance(event, Notice):
            self._line(event.text)
        elif isinstance(event, Started):
            begins = f"Resuming at step {event.step}" if event.step else "Training"
            compiled = ", compiled" if event.compiled else ""
            threads = plural(event.threads, "thread", "threads")
            self._line(f"{begins}: {event.parameters:,} parameters on {event.device}, {threads}{compiled}")
            self._bar.update(self._task, step=event.step, visible=True)
        elif isinstance(event, Logged):
            self._bar.update(
                self._task,
                completed=event.progress,
                step=event.row["step"],
                loss=f"{event.row['loss']:.3f}",
                speed=f"{event.row['tokens_per_second']:,.0f}",
                left=_time_left(event),
            )
        elif isinstance(event, Evaluated):
            best = " (best so far)" if event.is_best and event.row["step"] else ""
            self._line(f"step {event.row['step']:>6}: validation {_validation_metrics(event.row)}{best}")
        elif isinstance(event, Sampled):
            self._line(f"    {excerpt(event.prompt + event.separator + event.text)}", style="dim")
        elif isinstance(event, Finished):
            self._bar.stop()
            self._line(f"Finished at step {event.step}: {event.reason}.")

    def _line(self, text: str, style: str = "") -> None:
        self._console.print(text, style=style, soft_wrap=True)


def _validation_metrics(row: dict[str, Any]) -> str:
    loss = f"loss {row['loss']:.4f}"
    if "macro_f1" in row:
        return f"{loss}, accuracy {row['accuracy']:.2%}, macro F1 {row['macro_f1']:.4f}"
    return f"{loss}, {row['bits_per_byte']:.3f} bits per byte" if "bits_per_byte" in row else loss


def _time_left(event: Logged) -> str:
    if event.progress <= 0:
        return "-"
    return duration(event.row["seconds"] * (1 - event.progress) / event.progress)


def print_summary(run: RunFolder, finished: Finished) -> int:
    """Print metrics, loss curve, epochs, samples and what to try next; return the exit code."""
    if finished.signal is not None:
        note(f"Stopped by a signal and saved at step {finished.step}. To continue: penna resume {run.path}")
        return 128 + finished.signal
    kind = run.recipe().task.kind
    rows = [row for row in run.metrics() if row["split"] == "valid"]
    first, last = rows[0], rows[-1]
    marked = run.checkpoint("best")
    best = next((row for row in rows if marked is not None and marked.name.endswith(f"-{row['step']:08}")), last)
    print(_final_metrics(kind, first, last, best))
    print()
    loss = "bits_per_byte" if "bits_per_byte" in last else "loss"
    print(loss_curve(run.metrics(), "accuracy" if kind == "classify" else loss))
    _print_last_epochs(run)
    samples = [sample for sample in run.samples() if sample["step"] == finished.step]
    if samples:
        print("\nSample predictions:" if kind == "classify" else "\nSample texts:")
        for sample in samples[:_SAMPLES]:
            between = sample.get("between", "")  # absent in old runs
            print(f"  {excerpt(sample['prompt'] + between + sample['text'])}")
        if kind == "pretrain":
            print(_memorization_verdict(run))
    print(f"\nRun folder: {run.path}")
    print("Try next:")
    print(f"  {_next_command(kind, run, samples)}")
    print(f"  penna evaluate {run.path}")
    print(f"  penna plot {run.path}")
    return 0


def _final_metrics(kind: str, first: dict[str, Any], last: dict[str, Any], best: dict[str, Any]) -> str:
    after = f"after {plural(last['tokens'], 'token', 'tokens')} in {last['seconds']:.0f} s"
    if kind == "classify":
        return (
            f"Validation accuracy {last['accuracy']:.2%}, macro F1 {last['macro_f1']:.4f}, {after}; "
            f"best at step {best['step']}: {best['accuracy']:.2%}, {best['macro_f1']:.4f}"
        )
    loss = (
        f"Validation loss {last['loss']:.4f}, token accuracy {last['accuracy']:.1%}, {after}; "
        f"best {best['loss']:.4f} at step {best['step']}"
    )
    if "bits_per_byte" not in last:
        return loss
    before, now = first["bits_per_byte"], last["bits_per_byte"]
    return f"Bits per byte of validation text: {before:.3f} before training, {now:.3f} after\n{loss}"


def _print_last_epochs(run: RunFolder) -> None:
    """The last epochs, if the run has completed one."""
    from penna.cli.epochs import print_epochs
    from penna.report.epochs import epoch_metrics

    epochs = epoch_metrics(run.metrics())
    if not epochs or not epochs[0].whole:
        return
    page = Page()
    page.title(
        "Averages over each epoch:" if len(epochs) <= _EPOCHS else f"Averages over each of the last {_EPOCHS} epochs:"
    )
    print_epochs(page, {run.name: epochs[-_EPOCHS:]})
    if len(epochs) > _EPOCHS:
        page.lines([f"All epochs: penna epochs {run.path}"])


def _next_command(kind: str, run: RunFolder, samples: list[dict[str, Any]]) -> str:
    match kind:
        case "classify":
            return f'penna classify {run.path} "a text of your own"'
        case "chat":
            return f"penna chat {run.path}"
        case "complete":
            return f"penna complete {run.path} --file a-text.txt"
        case _:
            return f'penna generate {run.path} --prompt "{_short_prompt(samples[0]) if samples else "The"}"'


def _short_prompt(sample: dict[str, str]) -> str:
    """The first line of a sample's prompt or, if the prompt is empty, the first two words of its text."""
    text = (sample["prompt"].strip() or " ".join(sample["text"].split()[:2]) or "The").splitlines()[0]
    return text.replace('"', "").replace("`", "").replace("$", "").replace("\\", "")


def _memorization_verdict(run: RunFolder) -> str:
    """Whether the samples are memorized; an error is printed but not raised, because the run itself is complete."""
    from penna import api

    try:
        return api.memorization(str(run.path)).verdict
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return f"Memorization could not be measured: {reason}"


def loss_curve(rows: Sequence[dict[str, Any]], metric: str = "bits_per_byte") -> str:
    """A plot of a metric over steps as text: · for training, o for validation; empty for fewer than two points."""
    series = {
        split: [(row["step"], row[metric]) for row in rows if row["split"] == split and metric in row]
        for split in ("train", "valid")
    }
    points = [point for line in series.values() for point in line]
    if len(points) < 2:
        return ""
    last = max(step for step, _ in points) or 1
    low, high = min(value for _, value in points), max(value for _, value in points)
    span = high - low or 1.0
    cells = [[" "] * _CURVE_WIDTH for _ in range(_CURVE_HEIGHT)]
    for split, mark in (("train", "·"), ("valid", "o")):
        for step, value in series[split]:
            column = min(_CURVE_WIDTH - 1, math.floor(step / last * _CURVE_WIDTH))
            cells[round((high - value) / span * (_CURVE_HEIGHT - 1))][column] = mark
    lines = [
        f"{high - span * number / (_CURVE_HEIGHT - 1):8.2f} ┤{''.join(line).rstrip()}"
        for number, line in enumerate(cells)
    ]
    lines.append(" " * 9 + "└" + "─" * _CURVE_WIDTH)
    lines.append(f"{' ' * 10}0{f'step {last}':>{_CURVE_WIDTH - 1}}")
    lines.append(f"{' ' * 10}{metric.replace('_', ' ')}: · training, o validation")
    return "\n".join(lines)
