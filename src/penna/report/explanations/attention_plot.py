"""The plot of attention: a small map for each layer and head, and a large one of their mean.

Rows attend to columns, and darker cells are larger weights. Maps of long texts are pooled.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from penna.explain.explanation import Answer, AttentionMaps
from penna.formatting import truncate_end
from penna.report.explanations.canvas import text_width
from penna.report.explanations.colors import shade
from penna.report.explanations.matrices import map_tokens, mean_map, pool_map
from penna.report.explanations.wording import FIRST_TOKEN, NOT_IMPORTANCE
from penna.report.plot_files import Spell

_MAX_NAMED = 48  # tokens that are named at the large map
_NAME_CELLS = 14  # longest token
_SMALL, _LARGE = 1.0, 5.2  # inches of a map's side


def attention_figure(answer: Answer, maps: AttentionMaps, spell: Spell) -> Any:
    """A matplotlib figure of the maps, with each head's share of attention on the first token."""
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm
    from matplotlib.figure import Figure

    colors = LinearSegmentedColormap.from_list("amount", [shade(0, False), shade(1, False)])
    style: dict[str, Any] = {"cmap": colors, "norm": PowerNorm(0.5, vmin=0, vmax=1), "interpolation": "nearest"}
    tokens = [
        spell(truncate_end(token.text, _NAME_CELLS), "") or f"id {token.id}" for token in map_tokens(answer, maps)
    ]
    names = 0.25 + max((text_width(token, 7) for token in tokens), default=0) / 72
    names = names if len(tokens) <= _MAX_NAMED else 0.6
    layers, heads = len(maps.weights), len(maps.weights[0])
    width = max(_SMALL * heads + 0.9, names + _LARGE + 0.9)
    legend = f"Rows attend to columns. Above each small map: {FIRST_TOKEN[0].lower()}{FIRST_TOKEN[1:]}"
    captions = [line for text in (NOT_IMPORTANCE, legend) for line in wrap(text, int(width * 72 / 4.7))]
    large_top = 0.5 + 0.17 * len(captions)
    small_top = large_top + _LARGE + names + 0.3
    height = small_top + (_SMALL + 0.2) * layers + 0.1
    figure = Figure(figsize=(width, height))

    def add_axes(left: float, top: float, axes_width: float, axes_height: float) -> Any:
        """Axes at a position in inches from the top left corner."""
        bottom = 1 - (top + axes_height) / height
        return figure.add_axes((left / width, bottom, axes_width / width, axes_height / height))

    for number, line in enumerate(captions):
        figure.text(0.1 / width, 1 - (0.15 + 0.17 * number) / height, line, fontsize=7.5, va="center")
    mean, step = pool_map(mean_map(maps))
    axes = add_axes(names, large_top, _LARGE, _LARGE)
    image = axes.imshow(mean, **style)
    axes.set_title("mean over all layers and heads", fontsize=9)
    _label_tokens(axes, tokens, step)
    bar = add_axes(names + _LARGE + 0.15, large_top + 0.3, 0.12, 1.6)
    figure.colorbar(image, cax=bar, ticks=[0, 0.05, 0.25, 0.5, 1])
    bar.tick_params(labelsize=6.5)
    bar.set_title("weight", fontsize=7, loc="left")
    for layer, row in enumerate(maps.weights):
        top = small_top + (_SMALL + 0.2) * layer
        figure.text(0.1 / width, 1 - (top + _SMALL / 2) / height, f"layer {layer}", fontsize=8, va="center")
        for head, weights in enumerate(row):
            small = add_axes(0.7 + _SMALL * head, top, _SMALL - 0.1, _SMALL - 0.1)
            small.imshow(pool_map(weights)[0], **style)
            small.set(xticks=[], yticks=[])
            small.spines[:].set(linewidth=0.4, color="#999999")
            small.set_title(f"{layer}.{head}   {maps.first_token[layer][head]:.0%}", fontsize=6.5, pad=2)
    return figure


def _label_tokens(axes: Any, tokens: Sequence[str], step: int) -> None:
    """Label both axes with tokens, or with token positions if there are too many."""
    if len(tokens) <= _MAX_NAMED:
        size = 7 if len(tokens) <= 30 else 5.5
        axes.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=size, parse_math=False)
        axes.set_yticks(range(len(tokens)), tokens, fontsize=size, parse_math=False)
        return
    steps = f", in steps of {step}" if step > 1 else ""
    axes.tick_params(labelsize=7)
    axes.set_xlabel(f"position of the attended token{steps}", fontsize=8)
    axes.set_ylabel(f"position of the attending token{steps}", fontsize=8)
