"""What a run came to, printed at its end: figures, curve, epochs, samples, folder, and what to try next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penna.cli.epochs import print_epochs
from penna.cli.page import Page
from penna.cli.screen import loss_curve, say, shorten
from penna.formatting import plural

if TYPE_CHECKING:  # torch stands behind both
    from penna.runs.folder import RunFolder
    from penna.train.events import Finished

_EPOCHS = 6  # the last ones, shown


def print_summary(run: RunFolder, finished: Finished) -> int:
    """Print what a run came to; the exit status of the command."""
    if finished.signal is not None:
        say(f"Stopped by a signal and saved at step {finished.step}. Go on with: penna resume {run.path}")
        return 128 + finished.signal
    kind = run.recipe().task.kind
    rows = [row for row in run.metrics() if row["split"] == "valid"]
    first, last = rows[0], rows[-1]
    marked = run.checkpoint("best")
    best = next((row for row in rows if marked is not None and marked.name.endswith(f"-{row['step']:08}")), last)
    print(_figures(kind, first, last, best))
    print()
    print(loss_curve(run.metrics(), "accuracy" if kind == "classify" else _loss_in(last)))
    _print_epochs(run)
    samples = [sample for sample in run.samples() if sample["step"] == finished.step]
    if samples:
        print("\nWhat it writes now:" if kind != "classify" else "\nWhat it says now:")
        for sample in samples[:3]:
            between = sample.get("between", "")  # runs of old did not write it
            print(f"  {shorten(sample['prompt'] + between + sample['text'])}")
        if kind == "pretrain":
            print(_recitation(run))
    print(f"\nRun folder: {run.path}")
    print("Try next:")
    print(f"  {_to_try(kind, run, samples)}")
    print(f"  penna evaluate {run.path}")
    print(f"  penna plot {run.path}")
    return 0


def _figures(kind: str, first: dict[str, Any], last: dict[str, Any], best: dict[str, Any]) -> str:
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
    was, now = first["bits_per_byte"], last["bits_per_byte"]
    return f"Bits per byte of unseen text: {was:.3f} before, {now:.3f} after\n{loss}"


def _print_epochs(run: RunFolder) -> None:
    """The last epochs of a run, where it went through its text at least once."""
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
        page.wrapped(f"All of them: penna epochs {run.path}")


def _loss_in(row: dict[str, Any]) -> str:
    return "bits_per_byte" if "bits_per_byte" in row else "loss"


def _to_try(kind: str, run: RunFolder, samples: list[dict[str, Any]]) -> str:
    match kind:
        case "classify":
            return f'penna classify {run.path} "a text of your own"'
        case "chat":
            return f"penna chat {run.path}"
        case "complete":
            return f"penna complete {run.path} --file a-text.txt"
        case _:
            return f'penna generate {run.path} --prompt "{_prompt_to_try(samples[0]) if samples else "The"}"'


def _recitation(run: RunFolder) -> str:
    """Whether the samples are recited, in a sentence; or why that cannot be told, for the run itself is done."""
    from penna import api

    try:
        return api.memorization(str(run.path)).verdict
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return f"Whether it recites its training text could not be measured: {reason}"


def _prompt_to_try(sample: dict[str, str]) -> str:
    """The first line of a sample's prompt or, where that is empty, the first words the model wrote itself."""
    written = (sample["prompt"].strip() or " ".join(sample["text"].split()[:2]) or "The").splitlines()[0]
    return written.replace('"', "").replace("`", "").replace("$", "").replace("\\", "")
