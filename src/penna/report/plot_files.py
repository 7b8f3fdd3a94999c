"""A figure as files: SVG and PNG side by side, in the letters of any script.

In the SVG text stays text, so that any viewer's fonts can show it; in the PNG, what no installed font can write is
shown otherwise. A figure is therefore made twice, by a function that is told how to spell.
"""

from __future__ import annotations

import io
import string
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from penna.formatting import one_line
from penna.report.fonts import drawable_letters, installed_fonts
from penna.report.histograms import check_figure_name
from penna.storage import friendly_disk_errors, write_atomically

Spell = Callable[[str, str], str]  # (a text, what stands for it where it cannot be drawn) -> what is drawn


def as_it_is(text: str, otherwise: str) -> str:
    """The spelling of a text whose letters need no font here."""
    return text


def write_figure(make: Callable[[Spell], Any], file: Path, written: str) -> list[Path]:
    """Write the matplotlib figure that ``make`` makes as SVG and PNG, the one ``file`` names and the other beside it.

    ``written`` has all letters beyond ASCII that may stand in it. Raises DataError where the name is no figure's.
    """
    check_figure_name(file)
    import matplotlib as mpl

    known = drawable_letters(one_line(written) + string.printable + "…“”→±·×␣⏎")
    spellings: dict[str, Spell] = {
        "svg": as_it_is,
        "png": lambda text, otherwise: text if known.issuperset(text) else otherwise,
    }
    files: list[Path] = []
    settings: dict[Any, Any] = {
        "font.family": [*installed_fonts(), "sans-serif"],
        "svg.hashsalt": "penna",
        "svg.fonttype": "none",
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the SVG's viewer may have others
        for ending, spell in spellings.items():
            content = io.BytesIO()
            # No date, so that the same figure gives the same file.
            make(spell).savefig(content, format=ending, dpi=150, metadata={"Date": None} if ending == "svg" else None)
            files.append(file.with_suffix(f".{ending}"))
            with friendly_disk_errors(file):
                file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(files[-1], content.getvalue())
    return files
