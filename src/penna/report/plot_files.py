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
from penna.report.histograms import check_plot_path
from penna.storage import friendly_disk_errors, write_atomically

# MERGED report.plot_files


_FONTS = (
    "DejaVu Sans", "Noto Sans CJK KR", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans KR", "Noto Sans SC",
    "NanumGothic", "UnDotum", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "Unifont",
    "Apple SD Gothic Neo", "PingFang SC", "Hiragino Sans", "Arial Unicode MS", "Malgun Gothic", "Microsoft YaHei",
    "Noto Sans Arabic", "Noto Sans Devanagari", "Noto Sans Thai",
)  # fmt: skip


def installed_fonts() -> list[str]:
    """Names of fonts to draw text with, one after the other where a letter is missing."""
    from matplotlib.font_manager import fontManager

    there = {font.name for font in fontManager.ttflist}
    return [name for name in _FONTS if name in there]


def drawable_characters(text: str) -> frozenset[str]:
    """The letters of a text that one of these fonts has."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    fonts = [get_font(findfont(FontProperties(family=name))) for name in installed_fonts()]
    return frozenset(letter for letter in set(text) if any(font.get_char_index(ord(letter)) for font in fonts))


Spell = Callable[[str, str], str]  # (a text, what stands for it where it cannot be drawn) -> what is drawn


def keep_text(text: str, otherwise: str) -> str:
    """The spelling of a text whose letters need no font here."""
    return text


def write_plot(make: Callable[[Spell], Any], file: Path, written: str) -> list[Path]:
    """Write the matplotlib figure that ``make`` makes as SVG and PNG, the one ``file`` names and the other beside it.

    ``written`` has all letters beyond ASCII that may stand in it. Raises DataError where the name is no figure's.
    """
    check_plot_path(file)
    import matplotlib as mpl

    known = drawable_characters(one_line(written) + string.printable + "…“”→±·×␣⏎")
    spellings: dict[str, Spell] = {
        "svg": keep_text,
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
