"""What was looked at besides the words: attention maps, the logit lens, heads switched off; one explanation comes in.

A small map of every layer and head is a button; the one that is chosen stands large beside its tokens, and the tokens
that a token looks at most can be read without a mouse.
"""

from __future__ import annotations

import math
from functools import partial
from html import escape
from typing import Any

from nicegui import ui

from penna.explain.explanation import Answer, AttentionMaps, Explanation, HeadEffects, LensRow
from penna.formatting import one_line, truncate_end
from penna.report.explanations.attention import mean_map, pooled, seen_tokens
from penna.report.explanations.map_image import map_address
from penna.report.explanations.wording import answer_name, head_parts, largest, score_text, share
from penna.studio.charts import INK, chart
from penna.studio.frame import heading, meaning
from penna.studio.pages.shading import cell, shaded, shaded_cell, table
from penna.studio.words import t

_NAMED = 64  # tokens up to which every place of the large map has its names
_LOOKED_AT = 5
_PURPLE = "139,92,214"  # that of the small maps, seen on white and on black
_NAME = 12  # cells of a token's name beside a map


def show_views(explanation: Explanation) -> None:
    """A section for each view that was asked for; all are about the first answer."""
    answer, views = explanation.answers[0], explanation.views
    if views.attention is not None:
        heading(t("explain.attention"))
        _show_attention(answer, views.attention)
        meaning("explain.attention-meaning")
    if views.lens is not None:
        heading(t("explain.lens"))
        shaded(lens_table(answer, views.lens))
        meaning("explain.lens-meaning")
    if views.heads is not None:
        heading(t("explain.heads"))
        shaded(heads_table(views.heads))
        meaning("explain.heads-meaning")


def _show_attention(answer: Answer, maps: AttentionMaps) -> None:
    tokens = [one_line(token.text) for token in seen_tokens(answer, maps)]
    pictures: dict[str, Any] = {"mean": mean_map(maps)}
    for layer, heads in enumerate(maps.weights):
        pictures |= {f"{layer}.{head}": weights for head, weights in enumerate(heads)}
    buttons: dict[str, ui.element] = {}
    chosen = "mean"

    def name(key: str) -> str:
        if key == "mean":
            return t("explain.mean")
        layer, head = key.split(".")
        return t("explain.head", layer=layer, head=head)

    def choose(key: str) -> None:
        nonlocal chosen
        for each, button in buttons.items():
            button.props(f'aria-pressed="{str(each == key).lower()}"')
        chosen = key
        large.refresh()

    @ui.refreshable
    def large() -> None:
        heading(name(chosen), 3)
        weights, step = pooled(pictures[chosen])
        label = f"{t('explain.attention')}: {name(chosen)}"
        chart(map_options(tokens, weights, step), label).classes("map")
        _show_looked_at(tokens, pictures[chosen])

    with ui.element("div").classes("cards"):
        with ui.element("section").classes("card"):
            large()
        with ui.element("section").classes("card"):
            rows = [["mean"], *([f"{layer}.{head}" for head in range(len(h))] for layer, h in enumerate(maps.weights))]
            for row in rows:
                with ui.element("div").classes("maps"):
                    for key in row:
                        buttons[key] = _thumbnail(key, name(key), pictures[key], maps)
                        buttons[key].on("click", partial(choose, key))


def _thumbnail(key: str, name: str, weights: Any, maps: AttentionMaps) -> ui.element:
    below = t("explain.mean-short")
    if key != "mean":
        layer, head = map(int, key.split("."))
        below = f"{key} · {maps.first_token[layer][head]:.0%}"
    with ui.element("button").props(
        f'type=button aria-pressed={str(key == "mean").lower()} aria-label="{name}"'
    ) as button:
        address = map_address(pooled(weights)[0])
        ui.html(f'<img src="{address}" alt=""><span>{escape(below)}</span>', sanitize=False)
    return button


def _show_looked_at(tokens: list[str], weights: Any) -> None:
    """Of one token, those that it looks at most."""
    names = {place: f"{place + 1}: {token}" for place, token in enumerate(tokens)}

    def told(place: int) -> str:
        row = weights[place]
        most = sorted(range(len(row)), key=lambda at: -row[at])[:_LOOKED_AT]
        return " · ".join(f"{tokens[at]} {row[at]:.3f}" for at in most if row[at] > 0)

    def tell(event: Any) -> None:
        line.set_text(told(event.value))

    last = len(tokens) - 1
    ui.select(names, value=last, label=t("explain.looks-at"), on_change=tell).props("outlined dense").classes(
        "run-select"
    )
    line = ui.label(told(last)).props("dir=auto aria-live=polite")


def map_options(tokens: list[str], weights: list[list[float]], step: int) -> dict[str, Any]:
    """A large map: rows look at columns. Where a place stands for several tokens, it is named by the first of them."""
    names = [f"{place * step + 1} {truncate_end(tokens[place * step], _NAME)}" for place in range(len(weights))]
    named = len(names) <= _NAMED
    data: list[dict[str, Any]] = []
    for row, line in enumerate(weights):
        for column, weight in enumerate(line):
            if weight > 0:
                place: dict[str, Any] = {"value": [column, row, round(weight, 4)]}
                if named:
                    place["name"] = f"{names[row]} → {names[column]}: {weight:.3f}"
                data.append(place)
    look = {"color": INK, "fontSize": 10}
    axis: dict[str, Any] = {"type": "category", "data": names, "axisLabel": look, "splitLine": {"show": False}}
    return {
        "grid": {"left": 8, "right": 8, "top": 8, "bottom": 44, "containLabel": True},
        "tooltip": {"formatter": "{b}"} if named else {"show": False},
        "xAxis": {**axis, "axisLabel": {**look, "rotate": 90}},
        "yAxis": {**axis, "inverse": True},
        "visualMap": {
            "min": 0,
            "max": 1,
            "text": ["1", "0"],
            "orient": "horizontal",
            "left": "center",
            "bottom": 0,
            "itemHeight": 120,
            "textStyle": {"color": INK},
            "inRange": {"color": [f"rgba({_PURPLE},{math.sqrt(part / 20):.3f})" for part in range(21)]},
        },
        "series": [{"type": "heatmap", "data": data}],
    }


def lens_table(answer: Answer, rows: tuple[LensRow, ...]) -> str:
    """A row for each layer: the answer's probability and rank there, and what the layer would answer."""
    columns = max((len(row.top) for row in rows), default=0)
    head = [t("explain.layer"), answer_name(answer), t("explain.rank"), *(f"{n + 1}." for n in range(columns))]
    lines = [
        [
            str(row.layer) if row.layer else t("explain.embeddings"),
            shaded_cell(share(row.probability), row.probability, 1.0, signed=False),
            cell(f"{row.rank:,}"),
            *(
                shaded_cell(f"{one_line(guess.text)} {share(guess.probability)}", guess.probability, 1.0, signed=False)
                for guess in row.top
            ),
        ]
        for row in rows
    ]
    return table(head, lines)


def heads_table(effects: HeadEffects) -> str:
    """What each head adds to the answer's log-probability."""
    parts = head_parts(effects)
    most = largest(value for row in parts for value in row)
    head = [t("explain.layer"), *(f"{number}" for number in range(len(parts[0])))]
    lines = [
        [f"{layer}", *(shaded_cell(score_text(value, most, signed=True), value, most, signed=True) for value in row)]
        for layer, row in enumerate(parts)
    ]
    return table(head, lines)
