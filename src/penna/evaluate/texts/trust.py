"""What statistics of so much text are worth: counts in, a sentence for each statistic that needs more out.

From these amounts on, the statistics of two sets of human texts of one kind differ by less than a tenth on average: so
it was on WikiText-2, TinyStories, Chinese and Korean texts of about 150 words each, and with perplexity on 90 tokens
of the latter three. Repetition is a share of texts, and
from 100 on one text is no more than a percent. For MAUVE, Pillutla et al. 2021 take 5,000 texts; with a tenth of these
its clusters are 50.
"""

from __future__ import annotations

from dataclasses import dataclass

from penna.evaluate.texts.measured import Statistics


@dataclass(frozen=True)
class Doubt:
    """A statistic that cannot be trusted, and how much text it needs."""

    statistic: str
    had: int
    needs: int
    unit: str  # texts, tokens or words

    @property
    def sentence(self) -> str:
        """For a person."""
        return (
            f"{self.statistic} cannot be trusted: it needs about {self.needs:,} {self.unit}, and there are "
            f"{self.had:,}."
        )


_TEXTS = (("perplexity", 30), ("distance", 50), ("self-BLEU-4", 200), ("repetition", 100), ("MAUVE", 500))
_WORDS = (("distinct-n", 5000), ("words used", 5000), ("Zipf", 10_000))


def doubts(human: Statistics) -> list[Doubt]:
    """What the human side has too little text for; each writer has as many texts."""
    return [
        *(Doubt(name, human.texts, needs, "texts") for name, needs in _TEXTS if human.texts < needs),
        *(Doubt(name, human.words, needs, "words") for name, needs in _WORDS if human.words < needs),
    ]


def trusted(human: Statistics) -> list[str]:
    """The statistics that there is text enough for."""
    doubted = {doubt.statistic for doubt in doubts(human)}
    return [name for name, _ in (*_TEXTS, *_WORDS) if name not in doubted]
