"""The verb ``penna beams``: a beam search as it grows, step by step, then its tree and the texts it found.

Each step is printed once it is done: what is kept, what is finished, and the best of what was given up. The tree at the
end leaves out what was given up at once, and draws what never branches as one line.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penna.cli.loading import add_device_arguments, load
from penna.errors import RecipeError

if TYPE_CHECKING:
    from penna.cli.page import Page
    from penna.generate.beam_tree import BeamTree, TreeStep

Overrides = Sequence[tuple[str, str]]

_SHOWN = 20  # partial texts of a step, and whole texts, at most
_PRUNED = 3
_EARLY: dict[str, bool | str] = {"true": True, "false": False, "never": "never"}


def add_beams_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of ``penna beams``."""
    parser.add_argument("run", metavar="RUN", help="a run, a checkpoint or a Hugging Face folder")
    parser.add_argument(
        "prompt", nargs="?", default="", metavar="PROMPT", help="what to go on from; the start of a document without it"
    )
    parser.add_argument("--num-beams", type=int, default=4, metavar="N", help="partial texts kept side by side (4)")
    parser.add_argument(
        "--steps",
        "--max-new-tokens",
        dest="steps",
        type=int,
        default=8,
        metavar="N",
        help="tokens to write at most (8)",
    )
    parser.add_argument(
        "--length-penalty", type=float, metavar="X", help="a score is divided by its length to this power (1)"
    )
    parser.add_argument("--num-beam-groups", type=int, metavar="N", help="groups that keep apart from each other (1)")
    parser.add_argument(
        "--diversity-penalty", type=float, metavar="X", help="taken off what an earlier group chose in the same step"
    )
    parser.add_argument(
        "--early-stopping",
        choices=list(_EARLY),
        help="end once so many texts are finished (true), once none is likely to do better (false, as without it), or "
        "once none can (never)",
    )
    parser.add_argument(
        "--pruned", type=int, default=_PRUNED, metavar="N", help=f"show so many given up in each step ({_PRUNED})"
    )
    parser.add_argument("--figure", metavar="FILE", help="draw the tree as SVG and PNG, side by side")
    add_device_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, with everything that was looked at")


def run(arguments: argparse.Namespace, overrides: Overrides) -> int:
    """Search, and show what was searched."""
    from penna.api.beams import beam_tree_to_json, trace_beam_search
    from penna.api.generate import prompts_too_long
    from penna.cli.screen import say
    from penna.config.generation import generation_config
    from penna.report.beam_plot import draw_beams
    from penna.report.histograms import check_plot_path

    config = generation_config(_settings(arguments))
    if arguments.pruned < 0:
        raise RecipeError(f"--pruned {arguments.pruned} cannot be shown.", "0 or more.", "Such as --pruned 3.")
    if arguments.figure:
        check_plot_path(Path(arguments.figure))
    loaded = load(arguments)
    if arguments.json:
        tree = trace_beam_search(loaded, arguments.prompt, config)
        print(json.dumps(beam_tree_to_json(tree), ensure_ascii=False, indent=2, allow_nan=False))
    else:
        from penna.cli.page import Page

        screen = _Screen(Page(), arguments.prompt, arguments.pruned)
        tree = trace_beam_search(loaded, arguments.prompt, config, on_event=screen.show_step)
        screen.show_tree(tree)
        screen.show_texts(tree)
    if prompts_too_long(loaded, [arguments.prompt]):
        say("The prompt is longer than the block and was cut from the left.")
    if arguments.figure:
        for file in draw_beams(tree, Path(arguments.figure), pruned=arguments.pruned):
            say(f"Wrote {file}.")
    return 0


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given of the settings."""
    given = {
        "num_beams": arguments.num_beams,
        "max_new_tokens": arguments.steps,
        "length_penalty": arguments.length_penalty,
        "num_beam_groups": arguments.num_beam_groups,
        "diversity_penalty": arguments.diversity_penalty,
        "early_stopping": None if arguments.early_stopping is None else _EARLY[arguments.early_stopping],
    }
    return {name: value for name, value in given.items() if value is not None}


class _Screen:
    """Prints a search on a page."""

    def __init__(self, page: Page, prompt: str, pruned: int) -> None:
        self._page, self._prompt, self._pruned = page, prompt, pruned
        self._places: dict[int, int] = {}  # of the nodes the last step kept, as they were numbered

    def show_step(self, step: TreeStep) -> None:
        """A step as it is done: its best partial texts, and some that were given up."""
        from rich.table import Table
        from rich.text import Text

        from penna.formatting import format_probability, one_line, truncate_end, truncate_start

        going_on = [node for node in step.nodes if node.fate != "pruned"]
        kept = {node.number: place for place, node in enumerate(step.with_fate("kept"), start=1)}
        rows = going_on[:_SHOWN] + step.with_fate("pruned")[: self._pruned]
        table = Table.grid(padding=(0, 2))
        for justify in ("left", "right", "right", "right", "left"):
            table.add_column(justify=justify, no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_row("", "from", "P(token)", "P(text)", "token", "text", style="dim")
        names = [truncate_end(one_line(node.label), 18) for node in rows]
        used = 6 + 4 + 9 + 9 + max((Text(name).cell_len for name in names), default=0) + 5 * 2
        for node, name in zip(rows, names, strict=True):
            mark = {"kept": f"● {kept.get(node.number)}", "finished": "■ end", "pruned": "×"}[node.fate]
            parent = "" if node.parent is None else str(self._places.get(node.parent, ""))
            figures = (format_probability(node.token_logprob), format_probability(node.logprob))
            text = Text(truncate_start(one_line(self._prompt + node.text), max(self._page.inside - used, 16)))
            style = {"kept": "", "finished": "bold green", "pruned": "dim"}[node.fate]
            table.add_row(Text(mark), Text(parent), *map(Text, figures), Text(name), text, style=style)
        held = format_probability(math.log(step.held)) if step.held else "0"
        self._page.title(f"Step {step.number}: kept and finished texts hold {held} of all probability")
        self._page.show(table)
        hidden = len(going_on) - _SHOWN
        if hidden > 0:
            self._page.wrapped(f"and {hidden:,} more that were kept or are finished; --json tells all")
        self._places = kept

    def show_tree(self, tree: BeamTree) -> None:
        """Everything that was ever kept, and what came of it."""
        from rich.table import Table
        from rich.text import Text

        from penna.cli.beam_lines import tree_lines
        from penna.formatting import format_probability, one_line, truncate_end, truncate_start

        self._page.title("The tree of what was kept")
        self._page.wrapped("● leads to a text below, ○ was given up later, ■ finished")
        if tree.config.num_beams > _SHOWN:
            self._page.wrapped(f"Of each step, and of the texts, the {_SHOWN} best are shown.")
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        room = self._page.inside - 11
        prompt = truncate_start(one_line(self._prompt), room) or "(start of a document)"
        table.add_row(Text(prompt, style="bold"), Text("P(text)", style="dim"))
        for line in tree_lines(tree, shown=_SHOWN):
            label = Text().append(line.branch, style="dim")
            label.append(
                truncate_end(f"{line.mark} {one_line(line.text)}", room - label.cell_len),
                style="bold" if line.survives else "dim",
            )
            table.add_row(label, Text(format_probability(line.logprob), style="" if line.survives else "dim"))
        self._page.show(table)

    def show_texts(self, tree: BeamTree) -> None:
        """The texts that were found, the best first."""
        from rich.table import Table
        from rich.text import Text

        from penna.formatting import format_probability, one_line

        self._page.title(f"The texts it found, by score (log-prob / tokens^{tree.config.length_penalty:g})")
        if not tree.texts:
            self._page.wrapped("None: the settings left no token that could come next.")
            return
        table = Table.grid(padding=(0, 2))
        for justify in ("right", "right", "right", "right", "left"):
            table.add_column(justify=justify, no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row("", "P(text)", "log-prob", "score", "end", "text", style="dim")
        for found in tree.texts[:_SHOWN]:
            figures = (str(found.rank), format_probability(found.logprob), f"{found.logprob:.3f}", f"{found.score:.3f}")
            end = "ended" if found.finish == "stop" else "cut off"
            text = Text().append(one_line(self._prompt), style="dim").append(one_line(found.text))
            table.add_row(*map(Text, figures), Text(end), text)
        self._page.show(table)
        if len(tree.texts) > _SHOWN:
            self._page.wrapped(f"and {len(tree.texts) - _SHOWN:,} more; --json tells all")
