"""Plots as files: file names, fonts for every script, and SVG and PNG side by side.

In an SVG, text stays text, so that the viewer's fonts can show it. In a PNG, text that no installed font can draw is
replaced. A plot is therefore drawn twice, by a function that receives the replacement rule (``Spell``).
"""

from __future__ import annotations

import io
import string
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from penna.errors import DataError
from penna.formatting import one_line
from penna.storage import friendly_disk_errors, write_atomically

_SUFFIXES = (".svg", ".png")
_FONTS = (
    "DejaVu Sans", "Noto Sans CJK KR", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans KR", "Noto Sans SC",
    "NanumGothic", "UnDotum", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "Unifont",
    "Apple SD Gothic Neo", "PingFang SC", "Hiragino Sans", "Arial Unicode MS", "Malgun Gothic", "Microsoft YaHei",
    "Noto Sans Arabic", "Noto Sans Devanagari", "Noto Sans Thai",
)  # fmt: skip

Spell = Callable[[str, str], str]  # (text, replacement if it cannot be drawn) -> text to draw


def check_plot_path(file: Path) -> None:
    """Raise DataError if the file name is not that of a plot; call it before any work is done."""
    if file.suffix.lower() not in _SUFFIXES:
        raise DataError(
            f"{file} is not the name of a plot.",
            f"The name must end with {' or '.join(_SUFFIXES)}.",
            f"Use for example {file.with_suffix('.svg').name if file.name else 'plot.svg'}.",
        )


def installed_fonts() -> list[str]:
    """The installed fonts, in the order in which they are tried for each character."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return [name for name in _FONTS if name in installed]


def drawable_characters(text: str) -> frozenset[str]:
    """The characters of a text that an installed font has."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    fonts = [get_font(findfont(FontProperties(family=name))) for name in installed_fonts()]
    return frozenset(char for char in set(text) if any(font.get_char_index(ord(char)) for font in fonts))


def keep_text(text: str, replacement: str) -> str:
    """A ``Spell`` that replaces nothing."""
    return text


def write_plot(draw: Callable[[Spell], Any], file: Path, text: str) -> list[Path]:
    """Write the matplotlib figure of ``draw`` as SVG and PNG, with the name of ``file`` and both suffixes.

    ``text`` must have all characters beyond ASCII that the plot may contain. Raises DataError for another suffix.
    """
    check_plot_path(file)
    import matplotlib as mpl

    drawable = drawable_characters(one_line(text) + string.printable + "…“”→±·×␣⏎")
    spellings: dict[str, Spell] = {
        "svg": keep_text,
        "png": lambda text, replacement: text if drawable.issuperset(text) else replacement,
    }
    files: list[Path] = []
    settings: dict[Any, Any] = {
        "font.family": [*installed_fonts(), "sans-serif"],
        "svg.hashsalt": "penna",
        "svg.fonttype": "none",
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the viewer of the SVG may have it
        for suffix, spell in spellings.items():
            content = io.BytesIO()
            # Without a date, the same plot gives the same file.
            draw(spell).savefig(content, format=suffix, dpi=150, metadata={"Date": None} if suffix == "svg" else None)
            files.append(file.with_suffix(f".{suffix}"))
            with friendly_disk_errors(file):
                file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(files[-1], content.getvalue())
    return files
