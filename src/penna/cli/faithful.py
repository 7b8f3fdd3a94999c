"""What ``penna explain --faithfulness`` shows: what the words that each method names first are worth."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from penna.cli.page import Page
from penna.explain.explanation import Method
from penna.explain.faithfulness import RANDOM_ORDERS, SHARES, FaithfulnessMetrics, Mean, Measure
from penna.report.explanations.wording import METHOD_WORDS

_COMPREHENSIVENESS = (
    "How much of the answer's probability goes when the words scored highest are taken out: the higher, the better."
)
_SUFFICIENCY = "How much of it is missing when they alone are left: the lower, the better."


def print_faithfulness(found: FaithfulnessMetrics) -> None:
    """Print both measures on standard output."""
    page, methods = Page(), found.methods
    page.title("Do the words that a method names matter?")
    page.wrapped(
        f"{found.texts:,} texts of {found.words:,.1f} words; the answer's probability is {found.probability:.4f} on "
        f"average. Random is the mean of {RANDOM_ORDERS} orders of each text."
    )
    page.title("Comprehensiveness")
    page.wrapped(_COMPREHENSIVENESS)
    page.show(_table({method: figures.comprehensiveness for method, figures in methods.items()}, better=1))
    page.title("Sufficiency")
    page.wrapped(_SUFFICIENCY)
    page.show(_table({method: figures.sufficiency for method, figures in methods.items()}, better=-1))
    page.gap()
    page.wrapped(
        f"AOPC is the mean over {', '.join(map(str, SHARES))} % of the words (DeYoung et al. 2020), its lead "
        "what it is above that of random orders; behind both stand 95 % intervals over texts."
    )
    page.title("By the share of words")
    page.show(_by_share(found))


def _table(measures: dict[Method, Measure], better: int) -> Table:
    table = Table.grid(padding=(0, 1))
    for justify in ("left", "right", "left", "right", "left", "left"):
        table.add_column(justify=justify, no_wrap=True)
    table.add_row("", "AOPC", "", "lead", "", "", style="dim")
    for method, measure in measures.items():
        aopc, lead = measure.aopc, measure.lead
        cells = [METHOD_WORDS[method].title, f"{aopc.mean:.3f}", f"{aopc.low:.3f} to {aopc.high:.3f}"]
        if method != "random":
            cells += [f"{lead.mean:+.3f}", f"{lead.low:+.3f} to {lead.high:+.3f}", _verdict(lead, better)]
        table.add_row(*map(Text, cells))
    return table


def _verdict(lead: Mean, better: int) -> str:
    """Whether a lead is one, given which direction is better."""
    low, high = sorted((better * lead.low, better * lead.high))
    return "better" if low > 0 else "worse" if high < 0 else "unclear"


def _by_share(found: FaithfulnessMetrics) -> Table:
    """Both measures at each share of words."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    for _ in range(2 * len(SHARES)):
        table.add_column(justify="right", no_wrap=True)
    table.add_row("", "compr.", *[""] * (len(SHARES) - 1), "suff.", *[""] * (len(SHARES) - 1), style="dim")
    table.add_row("", *[f"{share} %" for share in SHARES] * 2, style="dim")
    for method, figures in found.methods.items():
        values = [*figures.comprehensiveness.shares, *figures.sufficiency.shares]
        table.add_row(Text(METHOD_WORDS[method].title), *(Text(f"{value:.3f}") for value in values))
    return table
