"""One output beside its source and a reference: what it took from the source, and how much of the reference it has.

What `penna complete --json` tells of each text and the studio shows. Figures over many texts are those of `summaries`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from penna.evaluate.copying import CopiedSpan, CopyMetrics, Source, copied_spans, copy_metrics
from penna.evaluate.rouge import ROUGE_KINDS, rouge_scores

_FMEASURE = 2  # column of `rouge_scores`


@dataclass(frozen=True)
class CopyReport:
    """What an output took from its source, and what it added."""

    spans: tuple[CopiedSpan, ...]  # in the order of the output; single words too
    metrics: CopyMetrics

    def as_json(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {"spans": [asdict(span) for span in self.spans], **self.metrics.as_json()}


def copy_report(source: str, output: str) -> CopyReport:
    """What an output took from a source."""
    return CopyReport(tuple(copied_spans(source, output)), copy_metrics([(Source(source), output)]))


def rouge_fmeasures(reference: str, output: str) -> dict[str, float]:
    """The F-measure of every kind of ROUGE, from 0 to 1, by its name."""
    return {
        kind: float(score)
        for kind, score in zip(ROUGE_KINDS, rouge_scores(reference, output)[:, _FMEASURE], strict=True)
    }
