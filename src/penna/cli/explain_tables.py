"""Explanations in the terminal: words colored by their scores, and tables of all scores.

Color adds nothing that is not printed as well: bars of + and - show the direction and the size of each score.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from penna.cli.console import Page, grid, make_console
from penna.explain.explanation import (
    Answer,
    AttentionMaps,
    Attribution,
    Explanation,
    HeadEffects,
    LayerInformation,
    LensRow,
    Method,
)
from penna.explain.faithfulness import RANDOM_ORDERS, SHARES, FaithfulnessMetrics, Mean, Measure
from penna.formatting import one_line, truncate_end, truncate_start
from penna.report.explanations.colors import AGAINST, AMOUNT, FOR, ink, shade, strength
from penna.report.explanations.matrices import generated_scores
from penna.report.explanations.wording import (
    FIRST_TOKEN,
    HEADS,
    LAYERS,
    LENS,
    METHOD_TEXTS,
    NOT_IMPORTANCE,
    answer_line,
    answer_name,
    convergence_warning,
    expected_text,
    generated_text,
    head_contributions,
    head_names,
    heading,
    is_line_end,
    is_right_to_left,
    max_abs,
    method_notes,
    probability_text,
    scale_text,
    score_text,
    word_name,
)

_WORDS = 40  # rows of a table
_NAME = 20  # cells of a word
_NUMBER = 8  # cells
_GUESS = 14  # cells of a token in the logit lens
_TOP = 4  # words named for a generated token


def print_explanation(explanation: Explanation) -> None:
    """Print the attributions and all other requested views."""
    page = Page()
    first = explanation.answers[0]
    page.title(heading(explanation))
    page.paragraph(truncate_start(one_line(explanation.prompt), 4 * page.width))
    page.gap()
    if explanation.kind == "generated":
        page.paragraph(f"→ {generated_text(explanation)}")
        for number, attribution in enumerate(first.attributions):
            _print_generated(page, explanation, number, attribution)
    else:
        page.paragraph(answer_line(first))
        if first.expected:
            page.paragraph(f"most likely: {expected_text(first.expected)}")
        console = make_console()
        if console.color_system is not None and not console.no_color:
            for attribution in first.attributions:
                _print_colored(page, first, attribution)
        _print_scores(page, first)
    page.gap()
    for attribution in first.attributions:
        words = METHOD_TEXTS[attribution.method]
        page.paragraph(" ".join([f"{words.title}: {words.meaning} ({words.unit}).", *method_notes(attribution)]))
    _print_views(page, explanation)


def _print_colored(page: Page, answer: Answer, attribution: Attribution) -> None:
    """Print the text with each word on the color of its score."""
    most = max_abs(attribution.words)
    page.title(f"{METHOD_TEXTS[attribution.method].title} ({scale_text(attribution, most)})")
    line = Text()
    for number, (word, score) in enumerate(zip(answer.words, attribution.words, strict=True)):
        if word.text[:1].isspace() and line.plain[-1:] not in ("", "\n"):
            line.append(" ")
        line.append(word_name(answer, number), style=_style(shade(strength(score, most), attribution.is_signed)))
        if is_line_end(answer, number):
            line.append("\n")
    if is_right_to_left("".join(word.text for word in answer.words)):
        line.justify = "right"
    page.show(line)


def _print_scores(page: Page, answer: Answer) -> None:
    """Print a row for each word and a column for each method, in as many tables as the width requires."""
    attributions = answer.attributions
    if not attributions:
        return
    shown = _strongest_words(answer)
    if len(shown) < len(answer.words):
        page.gap()
        page.paragraph(
            f"The {len(shown)} of {len(answer.words):,} words with the highest scores, in text order; --json has all."
        )
    names = [truncate_end(word_name(answer, number), _NAME) for number in shown]
    bar = 24 if len(attributions) == 1 else 8
    per_table = max((page.width - _widest(names) - 2) // (_NUMBER + bar + 3), 1)
    for start in range(0, len(attributions), per_table):
        some = attributions[start : start + per_table]
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        for _ in some:
            table.add_column(width=_NUMBER + 1 + bar)
        table.add_row("word", *(METHOD_TEXTS[attribution.method].title for attribution in some), style="dim")
        most = [max_abs(attribution.words) for attribution in some]
        for name, number in zip(names, shown, strict=True):
            cells = [
                _score_cell(attribution, attribution.words[number], top, bar)
                for attribution, top in zip(some, most, strict=True)
            ]
            table.add_row(name, *cells)
        page.gap()
        page.show(table)


def _score_cell(attribution: Attribution, score: float, most: float, width: int) -> Text:
    """A score and a bar."""
    cells = round(abs(strength(score, most)) * width)
    mark, color = ("█", AMOUNT) if not attribution.is_signed else ("+", FOR) if score > 0 else ("-", AGAINST)
    text = Text(f"{score_text(score, most, attribution.is_signed):>{_NUMBER}} ")
    return text.append(mark * cells, style=color)


def _strongest_words(answer: Answer) -> list[int]:
    """The words with the highest scores by any method, in text order."""
    tops = [max_abs(attribution.words) for attribution in answer.attributions]
    highest = [
        max_abs(
            strength(attribution.words[number], top) for attribution, top in zip(answer.attributions, tops, strict=True)
        )
        for number in range(len(answer.words))
    ]
    return _top_indices(highest)


def _top_indices(values: Sequence[float]) -> list[int]:
    """The indices of the 40 highest values, in ascending order."""
    return sorted(sorted(range(len(values)), key=lambda index: -values[index])[:_WORDS])


def _print_generated(page: Page, explanation: Explanation, method: int, attribution: Attribution) -> None:
    """Print a row for each generated token: its probability, and the words with the highest scores."""
    scores = generated_scores(explanation, method)
    page.title(f"{METHOD_TEXTS[attribution.method].title}: the {_TOP} words with the highest scores")
    table = grid("lrw", "token", "probability", "")
    for answer, row in zip(explanation.answers, scores.scores, strict=True):
        known = [(score, name) for score, name in zip(row, scores.columns, strict=True) if score is not None]
        most = max_abs(score for score, _ in known)
        line = Text()
        for number, (score, name) in enumerate(sorted(known, key=lambda each: -abs(each[0]))[:_TOP]):
            line.append(" · " if number else "")
            line.append(truncate_end(name, _NAME), style=_style(shade(strength(score, most), attribution.is_signed)))
            line.append(f" {score_text(score, most, attribution.is_signed)}")
        table.add_row(truncate_end(answer_name(answer), _NAME), probability_text(answer.probability), line)
    page.show(table)


def _print_views(page: Page, explanation: Explanation) -> None:
    """Print the other requested views: ablated heads, attention, logit lens and layers."""
    answer, views = explanation.answers[0], explanation.views
    if len(explanation.answers) > 1 and any(view is not None for view in vars(views).values()):
        page.gap()
        page.paragraph(f"The following is about the first generated token, “{answer_name(answer)}”.")
    if (without := views.without) is not None:
        page.title("Heads ablated together")
        page.rows(
            [
                ("all heads", probability_text(answer.probability), expected_text(answer.expected)),
                (
                    f"without {head_names(without.heads)}",
                    probability_text(without.probability),
                    expected_text(without.expected),
                ),
            ]
        )
    if views.attention is not None:
        _print_first_token(page, views.attention)
    if views.lens is not None:
        _print_lens(page, answer, views.lens)
    if views.heads is not None:
        _print_head_effects(page, views.heads)
    if views.layers is not None:
        _print_layers(page, answer, views.layers)


def _print_first_token(page: Page, maps: AttentionMaps) -> None:
    page.title("Attention on the first token")
    page.paragraph(f"{FIRST_TOKEN} {NOT_IMPORTANCE} For the maps themselves, use --svg FILE or --html FILE.")
    _print_by_head(page, [[(f"{value:.1%}", shade(value, False)) for value in row] for row in maps.first_token])


def _print_head_effects(page: Page, effects: HeadEffects) -> None:
    parts = head_contributions(effects)
    most = max_abs(value for row in parts for value in row)
    page.title("Heads ablated one by one")
    page.paragraph(HEADS)
    _print_by_head(
        page, [[(score_text(value, most, True), shade(strength(value, most), True)) for value in row] for row in parts]
    )


def _print_layers(page: Page, answer: Answer, layers: LayerInformation) -> None:
    most = max_abs(value for row in layers.words for value in row)
    page.title("Information about words in each layer")
    page.paragraph(LAYERS)
    shown = _top_indices([max(row[number] for row in layers.words) for number in range(len(answer.words))])
    if len(shown) < len(answer.words):
        page.paragraph(f"The {len(shown)} of {len(answer.words):,} words with the highest values; --json has all.")
    cells = [
        [(score_text(row[number], most, False), shade(strength(row[number], most), False)) for row in layers.words]
        for number in shown
    ]
    names = [word_name(answer, number) for number in shown]
    _print_heatmap(page, names, [f"layer {layer}" for layer in layers.layers], cells)
    if warning := convergence_warning(layers):
        page.paragraph(warning)


def _print_lens(page: Page, answer: Answer, rows: Sequence[LensRow]) -> None:
    page.title("Logit lens")
    page.paragraph(LENS)
    name = truncate_end(f"“{answer_name(answer)}”", _GUESS)
    available = page.width - 10 - 2 - max(_widest([name]), 8) - 2 - 8
    columns = min(max((len(row.top) for row in rows), default=0), max(available // (_GUESS + 9), 1))
    table = grid("rrr" + "l" * columns, "layer", name, "rank", *(f"{rank}." for rank in range(1, columns + 1)))
    for row in rows:
        guesses: list[Text] = []
        for guess in row.top[:columns]:
            token = Text(truncate_end(one_line(guess.text), _GUESS), style=_style(shade(guess.probability, False)))
            guesses.append(Text().append_text(token).append(f" {probability_text(guess.probability)}"))
        table.add_row(str(row.layer), probability_text(row.probability), f"{row.rank:,}", *guesses)
    page.show(table)


def _print_by_head(page: Page, cells: Sequence[Sequence[tuple[str, str]]]) -> None:
    """Print a heat map with a row per layer and a column per head."""
    layers = [f"layer {layer}" for layer in range(len(cells))]
    _print_heatmap(page, layers, [f"head {head}" for head in range(len(cells[0]))], cells)


def _print_heatmap(
    page: Page, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[tuple[str, str]]]
) -> None:
    """Print numbers on their colors, in as many tables as the width requires. A cell is a number and a color."""
    names = [truncate_end(name, _NAME) for name in rows]
    per_table = max((page.width - _widest(names)) // (_NUMBER + 2), 1)
    for start in range(0, len(columns), per_table):
        some = range(start, min(start + per_table, len(columns)))
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        for _ in some:
            table.add_column(justify="right", width=_NUMBER)
        table.add_row("", *(columns[index] for index in some), style="dim")
        for name, row in zip(names, cells, strict=True):
            table.add_row(name, *(Text(row[index][0], style=_style(row[index][1])) for index in some))
        page.gap()
        page.show(table)


def _style(color: str) -> str:
    """A background color with legible text."""
    return f"{ink(color)} on {color}"


def _widest(texts: Sequence[str]) -> int:
    return max((Text(text).cell_len for text in texts), default=0)


def print_faithfulness(metrics: FaithfulnessMetrics) -> None:
    """Print the comprehensiveness and sufficiency of each method."""
    page, methods = Page(), metrics.methods
    page.title("Do the words that a method ranks first matter?")
    page.paragraph(
        f"{metrics.texts:,} texts of {metrics.words:,.1f} words; the mean probability of the prediction is "
        f"{metrics.probability:.4f}. Random is the mean of {RANDOM_ORDERS} orders of each text."
    )
    page.title("Comprehensiveness")
    page.paragraph("How much of the probability is lost when the top words are removed. Higher is better.")
    page.show(_measure_table({method: each.comprehensiveness for method, each in methods.items()}, better=1))
    page.title("Sufficiency")
    page.paragraph("How much of the probability is lost when only the top words are kept. Lower is better.")
    page.show(_measure_table({method: each.sufficiency for method, each in methods.items()}, better=-1))
    page.gap()
    page.paragraph(
        f"AOPC: mean over {', '.join(map(str, SHARES))} % of the words (DeYoung et al. 2020). Lead: AOPC minus that "
        "of random orders. Both with 95 % intervals over texts."
    )
    page.title("By share of words")
    page.show(_share_table(metrics))


def _measure_table(measures: dict[Method, Measure], better: int) -> Table:
    table = grid("lrlrll", "", "AOPC", "", "lead", "", "", padding=1)
    for method, measure in measures.items():
        aopc, lead = measure.aopc, measure.lead
        cells = [METHOD_TEXTS[method].title, f"{aopc.mean:.3f}", f"{aopc.low:.3f} to {aopc.high:.3f}"]
        if method != "random":
            cells += [f"{lead.mean:+.3f}", f"{lead.low:+.3f} to {lead.high:+.3f}", _verdict(lead, better)]
        table.add_row(*cells)
    return table


def _verdict(lead: Mean, better: int) -> str:
    """Whether a method beats random orders; ``better`` is 1 if higher is better, else -1."""
    low, high = sorted((better * lead.low, better * lead.high))
    return "better" if low > 0 else "worse" if high < 0 else "unclear"


def _share_table(metrics: FaithfulnessMetrics) -> Table:
    """Both measures at each share of words."""
    rest = [""] * (len(SHARES) - 1)
    table = grid("l" + "r" * 2 * len(SHARES), "", "compr.", *rest, "suff.", *rest, padding=1)
    table.add_row("", *[f"{percentage} %" for percentage in SHARES] * 2, style="dim")
    for method, each in metrics.methods.items():
        values = [*each.comprehensiveness.shares, *each.sufficiency.shares]
        table.add_row(METHOD_TEXTS[method].title, *(f"{value:.3f}" for value in values))
    return table
