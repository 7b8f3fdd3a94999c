"""Fonts of figures: which are installed that have the letters of many scripts, and which letters none of them has."""

from __future__ import annotations

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


def drawable_letters(text: str) -> frozenset[str]:
    """The letters of a text that one of these fonts has."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    fonts = [get_font(findfont(FontProperties(family=name))) for name in installed_fonts()]
    return frozenset(letter for letter in set(text) if any(font.get_char_index(ord(letter)) for font in fonts))
