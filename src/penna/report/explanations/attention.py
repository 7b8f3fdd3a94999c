"""The figure of attention: a small map of each layer and head, and their average large.

A row of a map is a token, and how dark a place in it is says how much it looks at the token of that column. Over each
map stands the share that goes to the first token. Maps of long texts are shown in cells of several tokens, each as dark
as the largest weight in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from penna.explain.explanation import Answer, AttentionMaps, InputToken
from penna.formatting import truncate_end
from penna.report.explanations.shades import shade
from penna.report.explanations.sheet import text_width
from penna.report.explanations.wording import FIRST_TOKEN, NOT_IMPORTANCE
from penna.report.plot_files import Spell

CELLS = 128  # of a map's side, at most
_NAMED = 48  # tokens up to which they are named beside the average
_LONGEST = 14  # cells of a name
_SMALL = 1.0  # inches of a small map
_LARGE = 5.2

Map = Sequence[Sequence[float]]


def attention_figure(answer: Answer, maps: AttentionMaps, spell: Spell) -> Any:
    """A matplotlib figure of the maps."""
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm
    from matplotlib.figure import Figure

    colors = LinearSegmentedColormap.from_list("amount", [shade(0, False), shade(1, False)])
    looks = {"cmap": colors, "norm": PowerNorm(0.5, vmin=0, vmax=1), "interpolation": "nearest"}
    tokens = [spell(truncate_end(token.text, _LONGEST), "") or f"id {token.id}" for token in seen_tokens(answer, maps)]
    names = 0.25 + max((text_width(token, 7) for token in tokens), default=0) / 72
    names = names if len(tokens) <= _NAMED else 0.6
    layers, heads = len(maps.weights), len(maps.weights[0])
    width = max(_SMALL * heads + 0.9, names + _LARGE + 0.9)
    over = f"Rows look at columns. Over each small map: {FIRST_TOKEN[0].lower()}{FIRST_TOKEN[1:]}"
    captions = [line for text in (NOT_IMPORTANCE, over) for line in wrap(text, int(width * 72 / 4.7))]
    above = 0.5 + 0.17 * len(captions)
    top = above + _LARGE + names + 0.3
    high = top + (_SMALL + 0.2) * layers + 0.1
    figure = Figure(figsize=(width, high))

    def panel(left: float, down: float, side: float, height: float = 0.0) -> Any:
        height = height or side
        return figure.add_axes((left / width, 1 - (down + height) / high, side / width, height / high))

    for number, line in enumerate(captions):
        figure.text(0.1 / width, 1 - (0.15 + 0.17 * number) / high, line, fontsize=7.5, va="center")
    whole, step = pooled(mean_map(maps))
    axes = panel(names, above, _LARGE)
    image = axes.imshow(whole, **looks)
    axes.set_title("the mean over all layers and heads", fontsize=9)
    _name_tokens(axes, tokens, step)
    bar = panel(names + _LARGE + 0.15, above + 0.3, 0.12, 1.6)
    figure.colorbar(image, cax=bar, ticks=[0, 0.05, 0.25, 0.5, 1])
    bar.tick_params(labelsize=6.5)
    bar.set_title("weight", fontsize=7, loc="left")
    for layer, row in enumerate(maps.weights):
        down = top + (_SMALL + 0.2) * layer
        figure.text(0.1 / width, 1 - (down + _SMALL / 2) / high, f"layer {layer}", fontsize=8, va="center")
        for head, weights in enumerate(row):
            small = panel(0.7 + _SMALL * head, down, _SMALL - 0.1)
            small.imshow(pooled(weights)[0], **looks)
            small.set(xticks=[], yticks=[])
            small.spines[:].set(linewidth=0.4, color="#999999")
            small.set_title(f"{layer}.{head}   {maps.first_token[layer][head]:.0%}", fontsize=6.5, pad=2)
    return figure


def _name_tokens(axes: Any, tokens: Sequence[str], step: int) -> None:
    """Write the tokens beside a map, or what its sides count where there are too many."""
    if len(tokens) <= _NAMED:
        size = 7 if len(tokens) <= 30 else 5.5
        axes.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=size, parse_math=False)
        axes.set_yticks(range(len(tokens)), tokens, fontsize=size, parse_math=False)
        return
    steps = f", in steps of {step}" if step > 1 else ""
    axes.tick_params(labelsize=7)
    axes.set_xlabel(f"place of the token that is looked at{steps}", fontsize=8)
    axes.set_ylabel(f"place of the token that looks{steps}", fontsize=8)


def seen_tokens(answer: Answer, maps: AttentionMaps) -> tuple[InputToken, ...]:
    """The tokens of the maps' sides: the last that were read, where maps are of less than all."""
    return answer.tokens[len(answer.tokens) - len(maps.weights[0][0]) :]


def mean_map(maps: AttentionMaps) -> list[list[float]]:
    """The mean of all layers' and heads' weights."""
    every = [weights for layer in maps.weights for weights in layer]
    return [[sum(values) / len(every) for values in zip(*rows, strict=True)] for rows in zip(*every, strict=True)]


def pooled(weights: Map) -> tuple[list[list[float]], int]:
    """A map in at most 128 cells a side, each the largest weight of the tokens it stands for, and how many they are."""
    step = -(-len(weights) // CELLS)
    if step == 1:
        return [list(row) for row in weights], 1
    starts = range(0, len(weights), step)
    return [
        [max(max(row[left : left + step]) for row in weights[top : top + step]) for left in starts] for top in starts
    ], step
