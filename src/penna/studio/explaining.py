"""Explanations on a studio's models, within the limits that requests to the API have.

A worker does one piece of other work between two steps of its texts, so what takes long comes in pieces: each text that
methods are measured on is one. Whoever is cancelled meanwhile, and so leaves the page or stops, stops the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from penna.api.explain import ExplainSettings, explain, save_faithfulness, text_faithfulness
from penna.errors import DataError
from penna.explain.explanation import Explanation
from penna.explain.faithfulness import FaithfulnessMetrics, TextFaithfulness
from penna.serve.limits import check_explanation
from penna.serve.settings import ServeSettings
from penna.serve.worker import Worker

MOST_TEXTS = 50  # that methods are measured on


async def explanation(worker: Worker, text: str, settings: ExplainSettings, limits: ServeSettings) -> Explanation:
    """Raises RequestRejected beyond a limit, and what ``explain`` and the worker raise."""
    await asyncio.to_thread(check_explanation, worker.loaded, text, settings, limits)
    return await worker.call(lambda loaded: explain(loaded, text, settings))


async def faithfulness(
    worker: Worker,
    texts: Sequence[str],
    settings: ExplainSettings,
    limits: ServeSettings,
    report: Callable[[str], object] = lambda _: None,
) -> FaithfulnessMetrics:
    """What ``measure_faithfulness`` gives; ``say`` is told how far it is.

    Raises DataError for no text or too many, and what ``explanation`` raises.
    """
    if not texts:
        raise DataError("There is no text to measure on.", "A text on each line.", "Put some into the field.")
    if len(texts) > MOST_TEXTS:
        raise DataError(
            f"The methods are to be measured on {len(texts):,} texts.",
            f"At most {MOST_TEXTS} on a page.",
            "Take fewer; the terminal has no such limit (`penna explain RUN --faithfulness FILE`).",
        )
    for text in texts:
        await asyncio.to_thread(check_explanation, worker.loaded, text, settings, limits)
    measured: list[TextFaithfulness] = []
    for done, text in enumerate(texts):
        report(f"{done} / {len(texts)}")
        one = partial(text_faithfulness, text=text, settings=settings, number=len(measured))
        measured += await worker.call(one)
    return await worker.call(lambda loaded: save_faithfulness(loaded, measured, len(texts), settings))
