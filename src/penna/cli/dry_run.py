"""What ``penna train --dry-run`` prints: how long a run would take here, and whether there is room for it."""

from __future__ import annotations

from penna.api.dry_run import DryRun
from penna.cli.experiment_screen import clock, size
from penna.cli.page import Page


def print_fit(found: DryRun) -> None:
    """Print what a run takes beside what there is, on standard output."""
    page = Page()
    page.title("Nothing is trained yet: this run fits." if found.fits else "This run does NOT fit.")
    free = "" if found.free_memory is None else f"of {size(found.free_memory)} free"
    page.figures(
        [
            ("steps", f"{found.steps:,}", ""),
            ("time, about", clock(found.seconds), "from its start to its end, samples and evaluations among it"),
            ("memory", size(found.memory), free),
            ("checkpoints", size(found.disk), f"of {size(found.free_disk)} free on that disk"),
        ]
    )
    page.wrapped("Measured on this machine by a few steps that were thrown away; the prepared text is kept.")
