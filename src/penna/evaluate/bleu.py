"""BLEU and chrF of outputs against references, computed by sacrebleu.

BLEU (Papineni et al. 2002) counts words, so sacrebleu needs a tokenization: its "zh" for Chinese (one token per Han
character, otherwise as in 13a), "char" for other scripts without spaces and for Korean, whose spaced words carry
endings that rarely repeat, and mteval's "13a" for everything else. chrF (Popović 2015) counts characters and needs no
such choice. Both are corpus scores, not means over texts, from 0 to 100.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from penna.data.quality.scripts import UNSPACED, script_of

Tokenization = Literal["13a", "zh", "char"]


@dataclass(frozen=True)
class OverlapMetrics:
    """Corpus BLEU and chrF, from 0 to 100, with the sacrebleu signatures that make them reproducible."""

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str


def choose_tokenization(texts: Sequence[str]) -> Tokenization:
    """The sacrebleu tokenization that suits the scripts of these texts."""
    scripts: Counter[str] = Counter()
    letters = Counter("".join(texts))
    for letter, count in letters.items():
        if letter.isalpha():
            scripts[script_of(letter)] += count
    unspaced = sum(count for script, count in scripts.items() if script in UNSPACED or script == "Hangul")
    if 2 * unspaced <= scripts.total():
        return "13a"
    return "zh" if scripts["Han"] > 0.9 * unspaced else "char"


class OverlapScorer:
    """Compares the outputs of any number of systems with the same references."""

    def __init__(self, references: Sequence[str]) -> None:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF

        self.tokenization: Tokenization = choose_tokenization(references)
        # force: no warning on stderr about outputs that look tokenized already; the score is the same.
        self._bleu = BLEU(tokenize=self.tokenization, force=True, references=[references])
        self._chrf = CHRF(references=[references])

    def score(self, outputs: Sequence[str]) -> OverlapMetrics:
        """BLEU and chrF of outputs, one for each reference."""
        return OverlapMetrics(
            bleu=float(self._bleu.corpus_score(outputs, None).score),
            chrf=float(self._chrf.corpus_score(outputs, None).score),
            bleu_signature=str(self._bleu.get_signature()),
            chrf_signature=str(self._chrf.get_signature()),
        )
