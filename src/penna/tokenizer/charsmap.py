"""SentencePiece's normalisation rules, rebuilt from the steps the `tokenizers` library has.

The rules of a model are a map from strings to strings. From the left, the longest rule that fits is applied, and a
user-defined symbol is taken as it is (Normalizer::NormalizePrefix in google/sentencepiece, src/normalizer.cc). The
library's own step for them, ``Precompiled``, works on grapheme clusters and applies the *shortest* rule to a whole one:
"ﬁ" with an accent loses the accent, "\\r\\n" becomes one space, decomposed Hangul and kana stay decomposed. So here it
is shown one character at a time, and what several characters make together is composed by NFC, which does what the
rules say once its reach is held to the characters of one rule. Both fences are private marks, written into the text and
taken out again; a mark that the text itself holds is escaped first. Every rule is tried when a model is read; those
that come out otherwise are written out one by one, and where they are too many the model is refused.
"""

import struct
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

from tokenizers import Regex, normalizers

ESCAPE = "\U0010fff0"
"""Begins every mark. U+10FF00 and on are for private use: neither NFC nor any rule touches them."""
START = ESCAPE + "\U0010fff1"
"""Stands where the text begins, until what belongs there is put in its place."""
_OWN, _APART, _SINGLE = (ESCAPE + chr(0x10FFF2 + place) for place in range(3))
_FIRST_SYMBOL = 0x10FF00

MAX_SYMBOLS = 0xF0
MAX_EXPLICIT_RULES = 200
"""Rules that may be written out one by one; each is a step of its own and slows reading."""
MAX_RULE_BYTES = 64
"""In bytes; a longer one means that the trie is damaged."""

# What may join the character before it: marks, format characters, whatever is not assigned, Hangul vowels and finals,
# two letters that cluster as marks do, skin tones, and the line feed of "\r\n".
_JOINING = r"\p{M}\p{Cf}\p{Cn}\x{1161}-\x{1175}\x{11A8}-\x{11C2}\x{0E33}\x{0EB3}\x{1F3FB}-\x{1F3FF}\n"


class CharsmapError(ValueError):
    """Rules that cannot be rebuilt; the message says why."""


def charsmap_rules(charsmap: bytes) -> dict[str, str]:
    """Every rule of a compiled map: what is read, and what is written for it.

    The map is a double-array trie over UTF-8 bytes (darts-clone, include/darts.h: DoubleArrayUnit), whose values are
    offsets into the texts behind it. Raises CharsmapError where it is damaged.
    """
    try:
        (size,) = struct.unpack_from("<I", charsmap)
        units: tuple[int, ...] = struct.unpack_from(f"<{size // 4}I", charsmap, 4)
        texts = charsmap[4 + size :]
        return _walk(units, texts)
    except (struct.error, IndexError, ValueError) as error:
        raise CharsmapError(f"its normalisation rules are damaged ({error})") from error


def _walk(units: tuple[int, ...], texts: bytes) -> dict[str, str]:
    def below(place: int) -> int:
        unit = units[place]
        return place ^ ((unit >> 10) << ((unit & 1 << 9) >> 6))

    known: dict[int, list[tuple[bytes, int]]] = {}  # many rules share their last bytes

    def children(base: int) -> list[tuple[bytes, int]]:
        if base not in known:
            block = base & ~0xFF  # a label changes the low byte alone
            labelled = ((place ^ base) & 0xFF for place in range(block, block + 256))
            nodes = zip(labelled, units[block : block + 256], strict=False)
            known[base] = [
                (bytes([label]), base ^ label) for label, unit in nodes if label and unit & 0x800000FF == label
            ]
        return known[base]

    rules: dict[str, str] = {}
    open_nodes = [(b"", below(0))]
    while open_nodes:
        key, base = open_nodes.pop()
        if len(key) > MAX_RULE_BYTES:
            raise ValueError("a rule without end")
        for label, place in children(base):
            if units[place] >> 8 & 1:  # a rule ends here
                start = units[below(place)] & 0x7FFFFFFF
                rules[(key + label).decode("utf-8")] = texts[start : texts.index(b"\0", start)].decode("utf-8")
            open_nodes.append((key + label, below(place)))
    return rules


class Rules:
    """The rules of one model as steps of the library, and which user-defined symbols they have to leave alone."""

    def __init__(self, charsmap: bytes, symbols: Collection[str], known: Collection[str] | None) -> None:
        """Read the rules.

        ``symbols`` are the user-defined ones; ``known`` the characters that pieces are made of, or None where every
        character has a way to be written (byte fallback). Raises CharsmapError for what cannot be rebuilt.
        """
        self._charsmap = charsmap
        self._known = known
        self._rules = charsmap_rules(charsmap)
        self._single = {ord(key): text for key, text in self._rules.items() if len(key) == 1}
        self._several = [key for key in self._rules if len(key) > 1]
        if any(ord(letter) >= _FIRST_SYMBOL for key, text in self._rules.items() for letter in key + text):
            raise CharsmapError("its normalisation rules concern characters from U+10FF00 on")
        self._symbols = sorted(symbols, key=lambda symbol: (-len(symbol), symbol))
        self._touched = [symbol for symbol in self._symbols if self._changes(symbol)]
        self._check_symbols()

    def steps(self) -> list[Any]:
        """Normalizers that apply the rules. START is left at the start of what they write.

        (It is also there for ``Precompiled``, which fails on a text whose first character is one to be dropped.)
        """
        written_out = self._written_out()
        joining = self._joining()
        steps: list[Any] = [normalizers.Replace(ESCAPE, _OWN)]
        steps += [normalizers.Replace(symbol, self._mark(symbol)) for symbol in self._touched]
        steps.append(normalizers.Prepend(START))
        whole = [_quoted(symbol) for symbol in self._symbols if symbol not in self._touched]
        several = [_following(_tree(self._several))] if self._several else []
        joined = f"(?=(?m:.)[{joining}])(?>{'|'.join([*several, '(?m:.)'])})"  # most places end at the first glance
        steps.append(normalizers.Replace(Regex(f"(?>{'|'.join([*whole, joined])})\\K"), _APART))
        steps.append(normalizers.Replace(Regex(f"(?=[{joining}])"), _SINGLE))
        steps.append(normalizers.Precompiled(self._charsmap))
        steps += [
            normalizers.Replace(_SINGLE.join(letter.translate(self._single) for letter in key), self._rules[key])
            for key in written_out
        ]
        steps += [normalizers.Replace(_SINGLE, ""), normalizers.NFC(), normalizers.Replace(_APART, "")]
        return steps

    def last_steps(self) -> list[Any]:
        """Normalizers that put back the symbols and escaped marks of the text; for the very end."""
        symbols = [normalizers.Replace(self._mark(symbol), symbol) for symbol in self._touched]
        return [*symbols, normalizers.Replace(_OWN, ESCAPE)]

    def _mark(self, symbol: str) -> str:
        return ESCAPE + chr(_FIRST_SYMBOL + self._touched.index(symbol))

    def _changes(self, symbol: str) -> bool:
        composed = unicodedata.normalize("NFC", symbol.translate(self._single))
        return composed != symbol or any(key in symbol for key in self._several)

    def _check_symbols(self) -> None:
        """A symbol that the rules would change is swapped for a mark first, which must find the same places."""
        swallowed = {letter for key in self._several for letter in key[1:]}
        for symbol in self._touched:
            letters = set(symbol)
            mixed = any(letters & set(other) and letters != set(other) for other in self._symbols)
            if len(letters) > 1 or mixed or letters & swallowed:
                raise CharsmapError(f"its normalisation would change the user-defined symbol {symbol!r}")
        if len(self._touched) > MAX_SYMBOLS:
            raise CharsmapError(f"its normalisation would change {len(self._touched)} user-defined symbols")

    def _written_out(self) -> list[str]:
        """The rules that NFC does not follow, longest first: NFC may know an older or newer Unicode than the rules."""
        composed = normalizers.NFC().normalize_str("\n".join(key.translate(self._single) for key in self._several))
        tried = composed.split("\n") if self._several else []
        if len(tried) != len(self._several):
            raise CharsmapError("its normalisation rules have line feeds inside")
        other = [key for key, text in zip(self._several, tried, strict=True) if text != self._rules[key]]
        if self._known is not None:  # what is unknown both as it is and as it would become need not become it
            other = [key for key in other if not set(key + self._rules[key]).isdisjoint(self._known)]
        if len(other) > MAX_EXPLICIT_RULES:
            raise CharsmapError(
                f"{len(other)} of its normalisation rules are not those of a Unicode normal form (the first: "
                f"{other[0]!r} to {self._rules[other[0]]!r})"
            )
        return sorted(other, key=lambda key: (-len(key), key))

    def _joining(self) -> str:
        """The characters that may join what is before them, as the inside of a class of a regular expression."""
        inside = {ord(letter) for key in self._several for letter in key[1:]}
        seconds = _composing_seconds()
        become = {code for code, text in self._single.items() if text and (_is_mark(text[0]) or text[0] in seconds)}
        return _JOINING + _ranges(inside | become | set(map(ord, seconds)))


def _is_mark(letter: str) -> bool:
    return unicodedata.combining(letter) != 0


def _composing_seconds() -> set[str]:
    """Characters that NFC may join to the one before them."""
    decomposed = (unicodedata.decomposition(chr(code)) for code in range(0xC0, 0x30000))
    pairs = (fields.split() for fields in decomposed if fields and not fields.startswith("<"))
    return {chr(int(pair[1], 16)) for pair in pairs if len(pair) == 2}


def _tree(keys: Iterable[str]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for key in keys:
        node = root
        for letter in key:
            node = node.setdefault(letter, {})
        node[""] = {}
    return root


def _following(node: dict[str, Any]) -> str:
    """A regular expression for the longest key below a node of `_tree`; letters with the same going-on share a class.

    Alternatives begin with different letters, so taking as much as there is takes the longest key.
    """
    letters: dict[str, list[int]] = defaultdict(list)
    for letter, below in node.items():
        if letter:
            letters[_following(below)].append(ord(letter))
    if not letters:
        return ""
    ways = [f"[{_ranges(codes)}]{rest}" for rest, codes in sorted(letters.items())]
    return f"(?:{'|'.join(ways)}){'?' if '' in node else ''}"


def _ranges(codes: Iterable[int]) -> str:
    runs: list[list[int]] = []
    for code in sorted(codes):
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return "".join(f"\\x{{{first:X}}}" + (f"-\\x{{{last:X}}}" if last > first else "") for first, last in runs)


def _quoted(text: str) -> str:
    return "".join(f"\\x{{{ord(letter):X}}}" for letter in text)
