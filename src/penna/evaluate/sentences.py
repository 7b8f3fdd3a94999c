"""Sentence splitting by rules, for any language.

A sentence ends at a line end, and after . ! ? … or their counterparts in other scripts, including the quotation
marks and brackets that close there. A narrow mark needs white space after it, except between characters of Han,
kana or Hangul; a wide one (。！？ ।) needs none. The sentence continues before a lower-case letter (in a text with
capitals), before a comma or colon, after a quotation that と or 라고 continues, and after abbreviations: Mr. and
initials always, No. and Jan. before a number, U.S. and Inc. unless a typical first word of a sentence follows (The,
He, But). Abbreviations are English with some from other languages. Known limits: "am 3. Oktober" is split, as is a
sentence that is wrapped to fit a page; Thai, which does not mark sentence ends, is split at line ends only.
"""

from __future__ import annotations

import re

_WIDE = "。！？｡؟۔।॥။።։។"
_CLOSING = "\"'”’»›)\\]}）】」』》〉〕"
_OPENING = "\"'“‘„«‹([{（【「『《〈〔¿¡"
_CONTINUES = ",，、;；:：)）" + _WIDE + ".!?…"
_END = re.compile(f"(?P<marks>[.!?…{_WIDE}]+)(?P<closed>[{_CLOSING}]*)")
_HANGUL = "\uac00-\ud7a3"
_HAN_KANA = "\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_UNSPACED = re.compile(f"[{_HAN_KANA}{_HANGUL}][.!?]+(?:[{_CLOSING}]*[{_HAN_KANA}]|[{_HANGUL}])")
_CONTINUES_QUOTATION = re.compile(f"[とっ{_HANGUL}]")  # と and 라고 after a quotation
_LOOKAHEAD = 80  # characters after the marks
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
_BEFORE_WORD = frozenset([
    "inc", "ltd", "co", "corp", "plc", "bros", "jr", "sr", "etc", "dept", "blvd", "ph.d",
])  # fmt: skip
_FIRST_WORDS = frozenset([
    "the", "a", "an", "in", "on", "at", "he", "she", "it", "we", "they", "i", "you", "but", "and", "so", "this",
    "that", "these", "those", "there", "then", "his", "her", "its", "their", "our", "if", "when", "while", "after",
    "before", "as", "for", "however", "although", "with", "by", "from", "to", "what", "who", "why", "how", "where",
    "not", "no", "yes", "some", "many", "most",
])  # fmt: skip


def sentences(text: str) -> list[str]:
    """The sentences of a text, stripped of white space; none is empty and nothing else is lost."""
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
    after = line[end.end() : end.end() + _LOOKAHEAD]
    follows = after.lstrip()
    if not follows:
        return True
    if follows[0] in _CONTINUES:
        return False
    marks = end["marks"]
    if marks[-1] in _WIDE:
        return not (end["closed"] and _CONTINUES_QUOTATION.match(after))
    if not after[0].isspace():
        return _UNSPACED.match(line, max(end.start() - 1, 0)) is not None
    first = follows.lstrip(_OPENING)
    if capitals and first[:1].islower():
        return False
    return marks != "." or bool(end["closed"]) or not _is_abbreviated(line[start : end.start()], first)


def _is_abbreviated(before: str, follows: str) -> bool:
    """Whether a single dot after ``before`` belongs to an abbreviation or an enumeration."""
    if _ENUMERATION.fullmatch(before):
        return True
    word = (before.split() or [""])[-1].lstrip(_OPENING + "-–—/")
    folded = word.casefold()
    if (len(word) == 1 and word.isupper()) or folded in _ALWAYS:
        return True
    if folded in _BEFORE_NUMBER:
        return follows[:1].isdigit()
    if folded in _BEFORE_WORD or _DOTTED.fullmatch(word):
        return re.split(r"\W", follows, maxsplit=1)[0].casefold() not in _FIRST_WORDS
    return False
