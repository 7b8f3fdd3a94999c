"""SentencePiece's normalization rules (its "charsmap") as steps of the `tokenizers` library.

The rules map strings to strings: from the left, the longest matching rule applies, and user-defined symbols are left
alone (Normalizer::NormalizePrefix in google/sentencepiece, src/normalizer.cc). The library's own step for them,
``Precompiled``, gives other ids: it applies the *shortest* rule to a whole grapheme cluster, so "ﬁ" loses an accent
after it, "\\r\\n" becomes one space, and decomposed Hangul and kana stay decomposed. So it is given one character at a
time, and NFC composes what several characters make together, restricted to the characters of one rule. Private marks in
the text separate them; marks that the text itself contains are escaped. Every rule is tried when a model is read; the
ones that NFC does not reproduce become steps of their own, and if there are too many, the model is refused.
"""

import struct
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

from tokenizers import Regex, normalizers

ESCAPE = "\U0010fff0"
"""Begins every mark. U+10FF00 and up are for private use: neither NFC nor any rule changes them."""
START = ESCAPE + "\U0010fff1"
"""Marks the start of the text."""
_ESCAPED, _BOUNDARY, _SINGLE = (ESCAPE + chr(0x10FFF2 + number) for number in range(3))
_FIRST_SYMBOL = 0x10FF00

MAX_SYMBOLS = 0xF0
MAX_EXPLICIT_RULES = 200
"""Maximum number of rules with a step of their own; each step slows encoding."""
MAX_RULE_BYTES = 64
"""A longer rule means that the trie is damaged."""

# Characters that may join the one before them: marks, format characters, unassigned ones, Hangul vowels and finals,
# two letters that cluster like marks, skin tones, and the line feed of "\r\n".
_JOINING = r"\p{M}\p{Cf}\p{Cn}\x{1161}-\x{1175}\x{11A8}-\x{11C2}\x{0E33}\x{0EB3}\x{1F3FB}-\x{1F3FF}\n"


class CharsmapError(ValueError):
    """The rules cannot be reproduced; the message says why."""


def charsmap_rules(charsmap: bytes) -> dict[str, str]:
    """Every rule of a compiled charsmap: string and replacement.

    It is a double-array trie over UTF-8 bytes (darts-clone, include/darts.h: DoubleArrayUnit), whose values are offsets
    into the replacements after it. Raises CharsmapError if it is damaged.
    """
    try:
        (size,) = struct.unpack_from("<I", charsmap)
        units: tuple[int, ...] = struct.unpack_from(f"<{size // 4}I", charsmap, 4)
        texts = charsmap[4 + size :]
        return _walk(units, texts)
    except (struct.error, IndexError, ValueError) as error:
        raise CharsmapError(f"its normalization rules are damaged ({error})") from error


def _walk(units: tuple[int, ...], texts: bytes) -> dict[str, str]:
    def child_base(node: int) -> int:
        unit = units[node]
        return node ^ ((unit >> 10) << ((unit & 1 << 9) >> 6))

    cache: dict[int, list[tuple[bytes, int]]] = {}  # many rules share their last bytes

    def children(base: int) -> list[tuple[bytes, int]]:
        if base not in cache:
            block = base & ~0xFF  # a label changes only the low byte
            labels = ((node ^ base) & 0xFF for node in range(block, block + 256))
            nodes = zip(labels, units[block : block + 256], strict=False)
            cache[base] = [
                (bytes([label]), base ^ label) for label, unit in nodes if label and unit & 0x800000FF == label
            ]
        return cache[base]

    rules: dict[str, str] = {}
    open_nodes = [(b"", child_base(0))]
    while open_nodes:
        key, base = open_nodes.pop()
        if len(key) > MAX_RULE_BYTES:
            raise ValueError("an endless rule")
        for label, node in children(base):
            if units[node] >> 8 & 1:  # a rule ends here
                start = units[child_base(node)] & 0x7FFFFFFF
                rules[(key + label).decode("utf-8")] = texts[start : texts.index(b"\0", start)].decode("utf-8")
            open_nodes.append((key + label, child_base(node)))
    return rules


class Rules:
    """The rules of one model as steps of the library that leave user-defined symbols alone."""

    def __init__(self, charsmap: bytes, symbols: Collection[str], known: Collection[str] | None) -> None:
        """Read the rules.

        ``symbols`` are the user-defined symbols; ``known`` are the characters of all pieces, or None if every character
        has tokens (byte fallback). Raises CharsmapError if the rules cannot be reproduced.
        """
        self._charsmap = charsmap
        self._known = known
        self._rules = charsmap_rules(charsmap)
        self._single = {ord(key): text for key, text in self._rules.items() if len(key) == 1}
        self._sequences = [key for key in self._rules if len(key) > 1]
        if any(ord(letter) >= _FIRST_SYMBOL for key, text in self._rules.items() for letter in key + text):
            raise CharsmapError("its normalization rules contain characters from U+10FF00 up")
        self._symbols = sorted(symbols, key=lambda symbol: (-len(symbol), symbol))
        self._changed = [symbol for symbol in self._symbols if self._changes(symbol)]
        self._check_symbols()

    def steps(self) -> list[Any]:
        """Normalizers that apply the rules. START remains at the start of the text.

        ``Precompiled`` also needs it: it fails on a text whose first character is dropped.
        """
        explicit_rules = self._explicit_rules()
        joining = self._joining()
        steps: list[Any] = [normalizers.Replace(ESCAPE, _ESCAPED)]
        steps += [normalizers.Replace(symbol, self._mark(symbol)) for symbol in self._changed]
        steps.append(normalizers.Prepend(START))
        unchanged = [_escape(symbol) for symbol in self._symbols if symbol not in self._changed]
        sequences = [_longest_match(_tree(self._sequences))] if self._sequences else []
        # The lookahead rejects most positions quickly.
        joined = f"(?=(?m:.)[{joining}])(?>{'|'.join([*sequences, '(?m:.)'])})"
        steps.append(normalizers.Replace(Regex(f"(?>{'|'.join([*unchanged, joined])})\\K"), _BOUNDARY))
        steps.append(normalizers.Replace(Regex(f"(?=[{joining}])"), _SINGLE))
        steps.append(normalizers.Precompiled(self._charsmap))
        steps += [
            normalizers.Replace(_SINGLE.join(letter.translate(self._single) for letter in key), self._rules[key])
            for key in explicit_rules
        ]
        steps += [normalizers.Replace(_SINGLE, ""), normalizers.NFC(), normalizers.Replace(_BOUNDARY, "")]
        return steps

    def last_steps(self) -> list[Any]:
        """Normalizers that restore symbols and escaped marks; they come after all others."""
        symbols = [normalizers.Replace(self._mark(symbol), symbol) for symbol in self._changed]
        return [*symbols, normalizers.Replace(_ESCAPED, ESCAPE)]

    def _mark(self, symbol: str) -> str:
        return ESCAPE + chr(_FIRST_SYMBOL + self._changed.index(symbol))

    def _changes(self, symbol: str) -> bool:
        composed = unicodedata.normalize("NFC", symbol.translate(self._single))
        return composed != symbol or any(key in symbol for key in self._sequences)

    def _check_symbols(self) -> None:
        """Raise if replacing changed symbols by marks would find them at other positions than SentencePiece does."""
        inner_letters = {letter for key in self._sequences for letter in key[1:]}
        for symbol in self._changed:
            letters = set(symbol)
            mixed = any(letters & set(other) and letters != set(other) for other in self._symbols)
            if len(letters) > 1 or mixed or letters & inner_letters:
                raise CharsmapError(f"its normalization would change the user-defined symbol {symbol!r}")
        if len(self._changed) > MAX_SYMBOLS:
            raise CharsmapError(f"its normalization would change {len(self._changed)} user-defined symbols")

    def _explicit_rules(self) -> list[str]:
        """The rules that NFC does not reproduce, longest first: it may have another Unicode version."""
        composed = normalizers.NFC().normalize_str("\n".join(key.translate(self._single) for key in self._sequences))
        tried = composed.split("\n") if self._sequences else []
        if len(tried) != len(self._sequences):
            raise CharsmapError("its normalization rules contain line feeds")
        other = [key for key, text in zip(self._sequences, tried, strict=True) if text != self._rules[key]]
        if self._known is not None:  # skip rules between strings of unknown characters only
            other = [key for key in other if not set(key + self._rules[key]).isdisjoint(self._known)]
        if len(other) > MAX_EXPLICIT_RULES:
            raise CharsmapError(
                f"{len(other)} of its normalization rules are not those of a Unicode normal form (the first: "
                f"{other[0]!r} to {self._rules[other[0]]!r})"
            )
        return sorted(other, key=lambda key: (-len(key), key))

    def _joining(self) -> str:
        """The characters that may join the one before them, as the content of a regular expression's class."""
        inside = {ord(letter) for key in self._sequences for letter in key[1:]}
        seconds = _composing_seconds()
        becomes_mark = {
            code for code, text in self._single.items() if text and (_is_mark(text[0]) or text[0] in seconds)
        }
        return _JOINING + _ranges(inside | becomes_mark | set(map(ord, seconds)))


def _is_mark(letter: str) -> bool:
    return unicodedata.combining(letter) != 0


def _composing_seconds() -> set[str]:
    """The characters that NFC may join to the one before them."""
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


def _longest_match(node: dict[str, Any]) -> str:
    """A regular expression for the longest key below a node of `_tree`; letters with equal subtrees share a class.

    Alternatives begin with different letters, so a greedy match is the longest key.
    """
    letters: dict[str, list[int]] = defaultdict(list)
    for letter, child in node.items():
        if letter:
            letters[_longest_match(child)].append(ord(letter))
    if not letters:
        return ""
    alternatives = [f"[{_ranges(codes)}]{rest}" for rest, codes in sorted(letters.items())]
    return f"(?:{'|'.join(alternatives)}){'?' if '' in node else ''}"


def _ranges(codes: Iterable[int]) -> str:
    runs: list[list[int]] = []
    for code in sorted(codes):
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return "".join(f"\\x{{{first:X}}}" + (f"-\\x{{{last:X}}}" if last > first else "") for first, last in runs)


def _escape(text: str) -> str:
    return "".join(f"\\x{{{ord(letter):X}}}" for letter in text)
