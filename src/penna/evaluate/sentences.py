"""Sentences: a text in any language in, its sentences out, by rules.

A sentence ends at a line end, and behind . ! ? … or what stands for them in other scripts, together with the quotation
marks and brackets that close there. A narrow mark needs white space behind it, unless it stands between characters of
Han, kana or Hangul; a wide one (。！？ ।) needs none. It goes on all the same before a lower-case letter (in a text
that has capitals), before a comma or colon, behind a quotation that と or 라고 takes up, and behind abbreviations:
Mr. and initials always, No. and Jan. before a number, U.S. and Inc. unless a word follows that mostly begins a sentence
(The, He, But). The abbreviations are English with some of other languages; "am 3. Oktober" is cut, as is any sentence
whose lines were broken to fit a page. Thai, which marks no ends, is cut at line ends alone.
"""

from __future__ import annotations

import re

_WIDE = "。！？｡؟۔।॥။።։។"
_CLOSING = "\"'”’»›)\\]}）】」』》〉〕"
_OPENING = "\"'“‘„«‹([{（【「『《〈〔¿¡"
_GOES_ON = ",，、;；:：)）" + _WIDE + ".!?…"
_END = re.compile(f"(?P<marks>[.!?…{_WIDE}]+)(?P<closed>[{_CLOSING}]*)")
_HANGUL = "\uac00-\ud7a3"
_HAN_KANA = "\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_UNSPACED = re.compile(f"[{_HAN_KANA}{_HANGUL}][.!?]+(?:[{_CLOSING}]*[{_HAN_KANA}]|[{_HANGUL}])")
_TAKEN_UP = re.compile(f"[とっ{_HANGUL}]")  # と and 라고 behind a quotation
_AHEAD = 80  # characters behind the marks that are looked at
_ENUMERATION = re.compile(r"\W*(?:\d{1,3}|[a-zA-Z]|[ivx]+)")
_DOTTED = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]{1,2}")

_ALWAYS = frozenset([
    "mr", "mrs", "ms", "dr", "prof", "st", "gen", "sen", "rep", "gov", "capt", "cpt", "lt", "col", "sgt", "maj",
    "pfc", "cpl", "adm", "cmdr", "rev", "hon", "messrs", "mme", "mlle", "mt", "ft", "vs", "cf", "al", "viz", "approx",
    "fr", "hr", "dra", "sra", "srta", "bzw", "vgl", "z.b", "d.h", "e.g", "i.e", "usw",
])  # fmt: skip
_BEFORE_NUMBER = frozenset([
    "no", "nos", "nr", "num", "fig", "figs", "p", "pp", "vol", "art", "sec", "ch", "eq", "abb", "ca", "jan", "feb",
    "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec",
])  # fmt: skip
_MOSTLY = frozenset([
    "inc", "ltd", "co", "corp", "plc", "bros", "jr", "sr", "etc", "dept", "blvd", "ph.d",
])  # fmt: skip
_BEGINNERS = frozenset([
    "the", "a", "an", "in", "on", "at", "he", "she", "it", "we", "they", "i", "you", "but", "and", "so", "this",
    "that", "these", "those", "there", "then", "his", "her", "its", "their", "our", "if", "when", "while", "after",
    "before", "as", "for", "however", "although", "with", "by", "from", "to", "what", "who", "why", "how", "where",
    "not", "no", "yes", "some", "many", "most",
])  # fmt: skip


def sentences(text: str) -> list[str]:
    """The sentences of a text, stripped of the white space around them; none is empty and nothing else is lost."""
    capitals = any(letter.isupper() for letter in text)
    found: list[str] = []
    for line in text.splitlines():
        start = 0
        for end in _END.finditer(line):
            if _ends(line, start, end, capitals):
                found.append(line[start : end.end()].strip())
                start = end.end()
        found.append(line[start:].strip())
    return [sentence for sentence in found if sentence]


def _ends(line: str, start: int, end: re.Match[str], capitals: bool) -> bool:
    """Whether the sentence that began at ``start`` ends with these marks."""
    behind = line[end.end() : end.end() + _AHEAD]
    follows = behind.lstrip()
    if not follows:
        return True
    if follows[0] in _GOES_ON:
        return False
    marks = end["marks"]
    if marks[-1] in _WIDE:
        return not (end["closed"] and _TAKEN_UP.match(behind))
    if not behind[0].isspace():
        return _UNSPACED.match(line, max(end.start() - 1, 0)) is not None
    first = follows.lstrip(_OPENING)
    if capitals and first[:1].islower():
        return False
    return marks != "." or bool(end["closed"]) or not _is_abbreviated(line[start : end.start()], first)


def _is_abbreviated(before: str, follows: str) -> bool:
    """Whether a single dot behind ``before`` belongs to an abbreviation or a number of a list."""
    if _ENUMERATION.fullmatch(before):
        return True
    word = (before.split() or [""])[-1].lstrip(_OPENING + "-–—/")
    folded = word.casefold()
    if (len(word) == 1 and word.isupper()) or folded in _ALWAYS:
        return True
    if folded in _BEFORE_NUMBER:
        return follows[:1].isdigit()
    if folded in _MOSTLY or _DOTTED.fullmatch(word):
        return re.split(r"\W", follows, maxsplit=1)[0].casefold() not in _BEGINNERS
    return False
