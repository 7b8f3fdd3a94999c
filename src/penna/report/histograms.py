"""A figure of lengths: histograms of a data set in, one SVG or PNG file out."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from penna.data.quality.result import Lengths
from penna.errors import DataError
from penna.storage import friendly_disk_errors, write_atomically

_ENDINGS = (".svg", ".png")


def check_plot_path(file: Path) -> None:
    """Raise DataError for a file name that is no kind of figure, before any work is done for it."""
    if file.suffix.lower() not in _ENDINGS:
        raise DataError(
            f"{file} names no kind of figure.", f"A name that ends in {' or '.join(_ENDINGS)}.", "Give it such an end."
        )


def plot_lengths(lengths: Sequence[Lengths], file: Path) -> None:
    """One panel for each unit, on logarithmic axes of length; usual block sizes are dashed lines.

    A bar's height is the share of documents in its bin.
    """
    check_plot_path(file)
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import PercentFormatter, StrMethodFormatter

    figure, panels = plt.subplots(
        len(lengths), 1, figsize=(7.5, 3.2 * len(lengths)), squeeze=False, layout="constrained"
    )
    for number, (panel, drawn) in enumerate(zip(panels[:, 0], lengths, strict=True)):
        edges = [max(edge, 0.5) for edge in drawn.histogram.edges]  # a logarithmic axis has no zero
        shares = [count / drawn.count for count in drawn.histogram.counts]
        widths = [right - left for left, right in pairwise(edges)]
        panel.bar(edges[:-1], shares, width=widths, align="edge", color=f"C{number}", edgecolor="white", linewidth=0.5)
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        panel.yaxis.set_major_formatter(PercentFormatter(1))
        for size in drawn.longer_than:
            if edges and edges[0] <= size <= edges[-1]:
                panel.axvline(size, color="black", linewidth=0.8, linestyle="--", alpha=0.6)
        panel.set_xlabel(f"{drawn.unit} per document (median {drawn.median:,}, longest {drawn.maximum:,})")
        panel.set_ylabel(f"share of {drawn.count:,} {drawn.of}", fontsize=9)
        panel.grid(alpha=0.25, axis="y")
    content = io.BytesIO()
    figure.savefig(content, format=file.suffix[1:].lower(), dpi=140)
    plt.close(figure)
    with friendly_disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, content.getvalue())
