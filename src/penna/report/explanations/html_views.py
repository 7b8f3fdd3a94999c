"""The other views on an explanation's page: ablated heads, attention maps, logit lens and layers.

An attention map is a small picture. The selected one is shown large, and a script reads its weights off the picture.
"""

from __future__ import annotations

import base64
import json
import math
import struct
import zlib
from collections.abc import Iterator, Sequence

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
from penna.report.explanations.colors import level, strength
from penna.report.explanations.matrices import map_tokens, mean_map, pool_map
from penna.report.explanations.wording import (
    FIRST_TOKEN,
    HEADS,
    LAYERS,
    LENS,
    NOT_IMPORTANCE,
    answer_name,
    convergence_warning,
    expected_text,
    head_contributions,
    head_names,
    max_abs,
    probability_text,
    score_text,
    word_name,
)
from penna.report.html_page import escape_html

MAP_STYLE = """
.maps { display: flex; flex-wrap: wrap; gap: 0.5rem; border: 0; padding: 0; margin: 0.2rem 0 0.8rem; }
.maps legend { float: left; width: 100%; }
.maps label { margin: 0; padding: 0.2rem; font-size: 0.75rem; text-align: center; border-radius: 0.3rem; }
.maps label:has(:checked) { outline: 2px solid rgb(var(--amount)); }
.maps label:has(:focus-visible) { outline: 3px solid rgb(var(--for)); }
.maps input { position: absolute; opacity: 0; }
.maps img { display: block; width: 64px; height: 64px; }
.map { image-rendering: pixelated; border: 1px solid var(--line); }
#large { width: min(100%, 30rem); display: block; cursor: crosshair; }
"""
MAP_SCRIPT = """
(() => {
  const large = document.getElementById('large');
  if (!large) return;
  const figure = large.parentElement;
  const output = document.getElementById('weight'), name = document.getElementById('shown');
  const tokens = JSON.parse(figure.dataset.tokens), step = Number(figure.dataset.step);
  let pixels = null, side = 0, cell = [0, 0];
  const read = async () => {
    await large.decode();
    const canvas = document.createElement('canvas');
    side = canvas.width = canvas.height = large.naturalWidth;
    const context = canvas.getContext('2d');
    context.drawImage(large, 0, 0);
    pixels = context.getImageData(0, 0, side, side).data;
  };
  const span = (index) => {
    const last = Math.min((index + 1) * step, tokens.length) - 1;
    return tokens[index * step] + (last > index * step ? ' … ' + tokens[last] : '');
  };
  const show = () => {
    if (!pixels) return;
    const [row, column] = cell, weight = (pixels[4 * (row * side + column) + 3] / 255) ** 2;
    const most = step > 1 ? 'at most ' : '';
    output.textContent = `${span(row)} attends to ${span(column)}: ${most}${weight.toFixed(3)}`;
  };
  const clamp = (index) => Math.max(0, Math.min(side - 1, index));
  document.querySelectorAll('input[name=map]').forEach((choice) => choice.addEventListener('change', () => {
    const small = choice.parentElement.querySelector('img');
    large.src = small.src;
    large.alt = name.textContent = small.alt;
    read().then(show);
  }));
  large.addEventListener('pointermove', (event) => {
    const box = large.getBoundingClientRect();
    const index = (part) => clamp(Math.floor(part * side));
    cell = [index((event.clientY - box.top) / box.height), index((event.clientX - box.left) / box.width)];
    show();
  });
  const moves = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
  large.addEventListener('keydown', (event) => {
    if (!moves[event.key]) return;
    event.preventDefault();
    cell = cell.map((index, axis) => clamp(index + moves[event.key][axis]));
    show();
  });
  read();
})();
"""
_PURPLE = bytes((139, 92, 214))


def view_sections(explanation: Explanation) -> Iterator[str]:
    """A section for each view of the first answer."""
    answer, views = explanation.answers[0], explanation.views
    if views.without is not None:
        yield _ablated_heads(answer, views.without)
    if views.attention is not None:
        yield _attention(answer, views.attention)
    if views.lens is not None:
        yield _lens(answer, views.lens)
    if views.heads is not None:
        yield _head_effects(views.heads)
    if views.layers is not None:
        yield _layers(answer, views.layers)


def _ablated_heads(answer: Answer, without: AblatedHeads) -> str:
    rows = [
        ("all heads", answer.probability, answer.expected),
        (f"without {head_names(without.heads)}", without.probability, without.expected),
    ]
    lines = [
        f'<tr><th scope="row">{name}</th><td>{probability_text(probability)}</td>'
        f'<td class="left"><bdi>{escape_html(expected_text(expected))}</bdi></td></tr>'
        for name, probability, expected in rows
    ]
    answer_cell = f'<th scope="col"><bdi>{escape_html(answer_name(answer))}</bdi></th>'
    head = f'<tr><td></td>{answer_cell}<th scope="col">most likely</th></tr>'
    meaning = "What the model predicts without these heads. Layers and heads are counted from 0."
    return _section("Heads ablated together", meaning, table(head, lines))


def _attention(answer: Answer, maps: AttentionMaps) -> str:
    mean, step = pool_map(mean_map(maps))
    mean_url, mean_name = map_data_url(mean), "mean over all layers and heads"
    mean_choice = _map_choice(mean_name, mean_url, "mean", checked=True)
    lines = [f'<fieldset class="maps"><legend>Mean</legend>{mean_choice}</fieldset>']
    for layer, row in enumerate(maps.weights):
        labels = [
            _map_choice(
                f"layer {layer}, head {head}",
                map_data_url(pool_map(weights)[0]),
                f"{layer}.{head} · {maps.first_token[layer][head]:.0%}",
            )
            for head, weights in enumerate(row)
        ]
        lines.append(f'<fieldset class="maps"><legend>Layer {layer}</legend>{"".join(labels)}</fieldset>')
    tokens = escape_html(json.dumps([one_line(token.text) for token in map_tokens(answer, maps)], ensure_ascii=False))
    steps = f" A cell covers {step} tokens in each direction and shows their largest weight." if step > 1 else ""
    large = (
        f'<figure data-tokens="{tokens}" data-step="{step}"><img id="large" class="map" tabindex="0" src="{mean_url}" '
        f'alt="{mean_name}"><figcaption><span id="shown">{mean_name}</span>: rows attend to columns. '
        f'<output id="weight" dir="auto">Point at a cell, or move with the arrow keys, to read its weight.</output>'
        f"{steps}</figcaption></figure>"
    )
    shares = _layer_table(maps.first_token, [[f"{value:.1%}" for value in row] for row in maps.first_token], 1.0, False)
    meaning = f"{NOT_IMPORTANCE} Below a map: {FIRST_TOKEN[0].lower()}{FIRST_TOKEN[1:]}"
    details = f"<details><summary>Attention on the first token as a table</summary>{shares}</details>"
    return _section("Attention", meaning, large + "".join(lines) + details)


def _map_choice(name: str, url: str, caption: str, *, checked: bool = False) -> str:
    return (
        f'<label><input type="radio" name="map"{" checked" if checked else ""}>'
        f'<img class="map" src="{url}" alt="{name}"><span>{caption}</span></label>'
    )


def map_data_url(weights: Sequence[Sequence[float]]) -> str:
    """A map as a PNG in a data URL, with a pixel for each weight from 0 to 1.

    All pixels are purple, with an opacity of the square root of the weight: visible on white and on black, and exact
    to 1/255 when a script reads it. Encoded by hand, so that a page needs no image library.
    """
    header = struct.pack(">IIBBBBB", len(weights[0]), len(weights), 8, 3, 0, 0, 0)  # 8 bits, with a palette
    pixels = b"".join(b"\0" + bytes(round(255 * math.sqrt(min(max(w, 0.0), 1.0))) for w in row) for row in weights)
    chunks = [
        (b"IHDR", header), (b"PLTE", _PURPLE * 256), (b"tRNS", bytes(range(256))), (b"IDAT", zlib.compress(pixels, 9)),
        (b"IEND", b""),
    ]  # fmt: skip
    content = b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(kind, data) for kind, data in chunks)
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _lens(answer: Answer, rows: Sequence[LensRow]) -> str:
    columns = max((len(row.top) for row in rows), default=0)
    ranks = "".join(f'<th scope="col">{rank}.</th>' for rank in range(1, columns + 1))
    head = (
        f'<tr><th scope="row">layer</th><th scope="col"><bdi>{escape_html(answer_name(answer))}</bdi></th>'
        f'<th scope="col">rank</th>{ranks}</tr>'
    )
    lines = [
        f'<tr><th scope="row">{row.layer or "embeddings"}</th>'
        f'<td class="{level(row.probability, False)}">{probability_text(row.probability)}</td><td>{row.rank:,}</td>'
        + "".join(
            f'<td class="left {level(guess.probability, False)}"><bdi>{escape_html(one_line(guess.text))}</bdi> '
            f"{probability_text(guess.probability)}</td>"
            for guess in row.top
        )
        + "</tr>"
        for row in rows
    ]
    return _section("Logit lens", LENS, table(head, lines))


def _head_effects(effects: HeadEffects) -> str:
    parts = head_contributions(effects)
    scale = max_abs(value for row in parts for value in row)
    texts = [[score_text(value, scale, signed=True) for value in row] for row in parts]
    return _section("Heads ablated one by one", HEADS, _layer_table(parts, texts, scale, True))


def _layers(answer: Answer, layers: LayerInformation) -> str:
    scale = max_abs(value for row in layers.words for value in row)
    names = "".join(f'<th scope="col">layer {layer}</th>' for layer in layers.layers)
    lines = [
        f'<tr><th scope="row"><bdi>{escape_html(word_name(answer, word))}</bdi></th>'
        + "".join(
            f'<td class="{level(strength(row[word], scale), False)}">{score_text(row[word], scale, signed=False)}</td>'
            for row in layers.words
        )
        + "</tr>"
        for word in range(len(answer.words))
    ]
    warning = convergence_warning(layers)
    note = f'<p class="pale">{warning}</p>' if warning else ""
    content = table(f'<tr><th scope="row">word</th>{names}</tr>', lines) + note
    return _section("Information about words in each layer", LAYERS, content)


def _layer_table(values: Sequence[Sequence[float]], texts: Sequence[Sequence[str]], scale: float, signed: bool) -> str:
    """A colored table with a row per layer and a column per head."""
    names = "".join(f'<th scope="col">head {head}</th>' for head in range(len(values[0])))
    lines = [
        f'<tr><th scope="row">layer {layer}</th>'
        + "".join(
            f'<td class="{level(strength(value, scale), signed)}">{text}</td>'
            for value, text in zip(row, row_texts, strict=True)
        )
        + "</tr>"
        for layer, (row, row_texts) in enumerate(zip(values, texts, strict=True))
    ]
    return table(f"<tr><td></td>{names}</tr>", lines)


def table(head: str, rows: Sequence[str], attributes: str = "") -> str:
    """A table that scrolls sideways, from rows of HTML."""
    content = f"<thead>{head}</thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll"><table{attributes}>{content}</table></div>'


def _section(title: str, meaning: str, content: str) -> str:
    return f'<section><h2>{title}</h2><p class="pale">{escape_html(meaning)}</p>{content}</section>'
