"""Histograms of document lengths, as an SVG or PNG file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from penna.data.quality.result import Lengths
from penna.report.plot_files import check_plot_path
from penna.storage import friendly_disk_errors, write_atomically


def plot_lengths(lengths: Sequence[Lengths], file: Path) -> None:
    """Plot the share of documents per length, one panel for each unit.

    The length axis is logarithmic. Common block sizes are dashed lines.
    """
    check_plot_path(file)
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import PercentFormatter, StrMethodFormatter

    figure, panels = plt.subplots(
        len(lengths), 1, figsize=(7.5, 3.2 * len(lengths)), squeeze=False, layout="constrained"
    )
    for number, (panel, data) in enumerate(zip(panels[:, 0], lengths, strict=True)):
        edges = [max(edge, 0.5) for edge in data.histogram.edges]  # a logarithmic axis has no zero
        shares = [count / data.count for count in data.histogram.counts]
        widths = [right - left for left, right in pairwise(edges)]
        panel.bar(edges[:-1], shares, width=widths, align="edge", color=f"C{number}", edgecolor="white", linewidth=0.5)
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        panel.yaxis.set_major_formatter(PercentFormatter(1))
        for size in data.longer_than:
            if edges and edges[0] <= size <= edges[-1]:
                panel.axvline(size, color="black", linewidth=0.8, linestyle="--", alpha=0.6)
        panel.set_xlabel(f"{data.unit} per document (median {data.median:,}, longest {data.maximum:,})")
        panel.set_ylabel(f"share of {data.count:,} {data.of}", fontsize=9)
        panel.grid(alpha=0.25, axis="y")
    content = io.BytesIO()
    figure.savefig(content, format=file.suffix[1:].lower(), dpi=140)
    plt.close(figure)
    with friendly_disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, content.getvalue())
