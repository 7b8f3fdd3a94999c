"""A guess at which languages a text is in, document by document, on a sample.

py3langid tells 97 languages apart by bytes; it is good on a paragraph and unsure on a few words, so shares below a
few per cent mean little.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from penna.data.inspection.result import Languages


def guess_languages(texts: Sequence[str]) -> Languages:
    """Shares of these texts by the language each is most probably in, the largest first."""
    if not texts:
        return Languages(0, {})
    import py3langid

    counts = Counter(str(py3langid.classify(text)[0]) for text in texts)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return Languages(len(texts), {language: count / len(texts) for language, count in ordered})
