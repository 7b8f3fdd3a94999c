"""What `penna evaluate` prints: figures of any task, as tables."""

from __future__ import annotations

from penna.api.completion_metrics import CompletionMetrics
from penna.api.evaluate import Metrics
from penna.cli.classification_figures import print_classification
from penna.cli.completion_figures import print_completion_figures
from penna.evaluate.classification import ClassificationMetrics
from penna.storage import to_json


def print_figures(figures: Metrics) -> None:
    """Print them by their kind."""
    if isinstance(figures, ClassificationMetrics):
        print_classification(figures)
    elif isinstance(figures, CompletionMetrics):
        print_completion_figures(figures)
    else:
        _print_plain(to_json(figures))


def _print_plain(figures: dict[str, object], indent: str = "") -> None:
    """A figure a line, named in words; groups of figures indented under their name."""
    for name, value in figures.items():
        label = f"{indent}{name.replace('_', ' '):>20}"
        if isinstance(value, dict):
            print(f"{label}:")
            _print_plain({str(key): held for key, held in value.items()}, indent + "  ")
        elif value is None:
            print(f"{label}  {'too large' if name.endswith('perplexity') else 'none'}")
        else:
            print(f"{label}  {value:,.4f}" if isinstance(value, float) else f"{label}  {value:,}")
