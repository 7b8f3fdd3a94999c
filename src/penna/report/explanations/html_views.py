"""The parts of an explanation's page that show what was looked at besides: attention maps, lens, heads and layers.

An attention map is a small picture; the one that is chosen is shown large, and a script reads its weights off the
picture itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape

from penna.explain.explanation import (
    AblatedHeads,
    Answer,
    AttentionMaps,
    Explanation,
    HeadEffects,
    LayerInformation,
    LensRow,
)
from penna.formatting import one_line
from penna.report.explanations.attention import mean_map, pooled, seen_tokens
from penna.report.explanations.map_image import map_address
from penna.report.explanations.page import level
from penna.report.explanations.shades import strength
from penna.report.explanations.wording import (
    FIRST_TOKEN,
    HEADS,
    LAYERS,
    LENS,
    NOT_IMPORTANCE,
    answer_name,
    expected_text,
    head_parts,
    heads_name,
    largest,
    score_text,
    share,
    unsettled,
    word_name,
)


def view_sections(explanation: Explanation) -> Iterator[str]:
    """A section for each thing that was looked at, all about the first answer."""
    answer, views = explanation.answers[0], explanation.views
    if views.without is not None:
        yield _without(answer, views.without)
    if views.attention is not None:
        yield _attention(answer, views.attention)
    if views.lens is not None:
        yield _lens(answer, views.lens)
    if views.heads is not None:
        yield _heads(views.heads)
    if views.layers is not None:
        yield _layers(answer, views.layers)


def _without(answer: Answer, without: AblatedHeads) -> str:
    rows = [
        ("all heads", share(answer.probability), expected_text(answer.expected)),
        (f"without {heads_name(without.heads)}", share(without.probability), expected_text(without.expected)),
    ]
    lines = [
        f'<tr><th scope="row">{name}</th><td>{value}</td><td class="left"><bdi>{escape(likeliest)}</bdi></td></tr>'
        for name, value, likeliest in rows
    ]
    head = (
        f'<tr><td></td><th scope="col"><bdi>{escape(answer_name(answer))}</bdi></th><th scope="col">likeliest</th></tr>'
    )
    meaning = "What the model answers with these heads switched off. Layers and heads are counted from 0."
    return _section("Heads switched off together", meaning, _table(head, lines))


def _attention(answer: Answer, maps: AttentionMaps) -> str:
    whole, step = pooled(mean_map(maps))
    first = map_address(whole)
    mean = "the mean over all layers and heads"
    chosen = _choice(mean, first, "mean", checked=True)
    lines = [f'<fieldset class="maps"><legend>The mean</legend>{chosen}</fieldset>']
    for layer, row in enumerate(maps.weights):
        labels = [
            _choice(
                f"layer {layer}, head {head}",
                map_address(pooled(weights)[0]),
                f"{layer}.{head} · {maps.first_token[layer][head]:.0%}",
            )
            for head, weights in enumerate(row)
        ]
        lines.append(f'<fieldset class="maps"><legend>Layer {layer}</legend>{"".join(labels)}</fieldset>')
    tokens = escape(json.dumps([one_line(token.text) for token in seen_tokens(answer, maps)], ensure_ascii=False))
    steps = f" A place stands for {step} tokens, and is as dark as the largest weight in it." if step > 1 else ""
    large = (
        f'<figure data-tokens="{tokens}" data-step="{step}"><img id="large" class="map" tabindex="0" src="{first}" '
        f'alt="{mean}"><figcaption><span id="shown">{mean}</span>: rows look at columns. <output id="told" dir="auto">'
        f"Point at a place, or move with the arrow keys, to read its weight.</output>{steps}</figcaption></figure>"
    )
    shares = _grid(maps.first_token, [[f"{value:.1%}" for value in row] for row in maps.first_token], 1.0, signed=False)
    meaning = f"{NOT_IMPORTANCE} Beside a head: {FIRST_TOKEN[0].lower()}{FIRST_TOKEN[1:]}"
    table = f"<details><summary>Shares on the first token as a table</summary>{shares}</details>"
    return _section("Attention", meaning, large + "".join(lines) + table)


def _choice(name: str, address: str, below: str, *, checked: bool = False) -> str:
    return (
        f'<label><input type="radio" name="map"{" checked" if checked else ""}>'
        f'<img class="map" src="{address}" alt="{name}"><span>{below}</span></label>'
    )


def _lens(answer: Answer, rows: Sequence[LensRow]) -> str:
    columns = max((len(row.top) for row in rows), default=0)
    names = "".join(f'<th scope="col">{place + 1}.</th>' for place in range(columns))
    head = (
        f'<tr><th scope="row">layer</th><th scope="col"><bdi>{escape(answer_name(answer))}</bdi></th>'
        f'<th scope="col">rank</th>{names}</tr>'
    )
    lines = [
        f'<tr><th scope="row">{row.layer or "embeddings"}</th>'
        f'<td class="{level(row.probability, False)}">{share(row.probability)}</td><td>{row.rank:,}</td>'
        + "".join(
            f'<td class="left {level(guess.probability, False)}"><bdi>{escape(one_line(guess.text))}</bdi> '
            f"{share(guess.probability)}</td>"
            for guess in row.top
        )
        + "</tr>"
        for row in rows
    ]
    return _section("The logit lens", LENS, _table(head, lines))


def _heads(effects: HeadEffects) -> str:
    parts = head_parts(effects)
    most = largest(value for row in parts for value in row)
    written = [[score_text(value, most, signed=True) for value in row] for row in parts]
    return _section("Heads switched off, each alone", HEADS, _grid(parts, written, most, signed=True))


def _layers(answer: Answer, layers: LayerInformation) -> str:
    most = largest(value for row in layers.words for value in row)
    names = "".join(f'<th scope="col">layer {layer}</th>' for layer in layers.layers)
    head = f'<tr><th scope="row">word</th>{names}</tr>'
    lines = [
        f'<tr><th scope="row"><bdi>{escape(word_name(answer, place))}</bdi></th>'
        + "".join(
            f'<td class="{level(strength(row[place], most), False)}">{score_text(row[place], most, signed=False)}</td>'
            for row in layers.words
        )
        + "</tr>"
        for place in range(len(answer.words))
    ]
    told = f'<p class="soft">{unsettled(layers)}</p>' if unsettled(layers) else ""
    return _section("The information that layers keep of words", LAYERS, _table(head, lines) + told)


def _grid(values: Sequence[Sequence[float]], written: Sequence[Sequence[str]], most: float, *, signed: bool) -> str:
    """A coloured table, a row for each layer and a column for each head."""
    names = "".join(f'<th scope="col">head {number}</th>' for number in range(len(values[0])))
    head = f"<tr><td></td>{names}</tr>"
    lines = [
        f'<tr><th scope="row">layer {layer}</th>'
        + "".join(
            f'<td class="{level(strength(value, most), signed)}">{text}</td>'
            for value, text in zip(row, texts, strict=True)
        )
        + "</tr>"
        for layer, (row, texts) in enumerate(zip(values, written, strict=True))
    ]
    return _table(head, lines)


def _table(head: str, lines: Sequence[str]) -> str:
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{"".join(lines)}</tbody></table></div>'


def _section(title: str, meaning: str, content: str) -> str:
    return f'<section><h2>{title}</h2><p class="soft">{escape(meaning)}</p>{content}</section>'
