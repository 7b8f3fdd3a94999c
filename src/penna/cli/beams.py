"""``penna beams``: show a beam search step by step, then its tree and the texts that it found.

Each step is printed as soon as it is done: what is kept, what is finished, and the best of what is pruned. The tree
leaves out what was pruned immediately, and shows a chain without branches as one line.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from penna.cli.arguments import add_device_arguments, add_run_argument, load_model
from penna.cli.console import Page, grid, note, print_json
from penna.cli.parser import Renamed, Verbs, at_least
from penna.formatting import format_probability, one_line, truncate_end, truncate_start

if TYPE_CHECKING:
    from penna.generate.beam_tree import BeamNode, BeamTree, TreeStep

_SHOWN = 20  # at most, of the beams of a step and of the texts
_PRUNED = 3
_EARLY_STOPPING: dict[str, bool | str] = {"true": True, "false": False, "never": "never"}
_MARK, _PARENT, _PROBABILITY, _TOKEN = 6, 4, 9, 18  # cells of columns


def add(verbs: Verbs) -> None:
    """Add the verb."""
    summary = "show a beam search step by step, and its tree"
    verbs.add("beams", summary, "RUN [PROMPT] [options]", _add_arguments, run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_argument(parser)
    parser.add_argument(
        "prompt", nargs="?", default="", metavar="PROMPT", help="the text to continue (default: start a document)"
    )
    parser.add_argument("--num-beams", type=int, default=4, metavar="N", help="number of beams (default: 4)")
    parser.add_argument(
        "--max-new-tokens", type=int, default=8, metavar="N", help="generate at most N tokens (default: 8)"
    )
    parser.add_argument("--steps", action=Renamed, const="--max-new-tokens")
    parser.add_argument(
        "--length-penalty", type=float, metavar="X", help="divide a score by its length to this power (default: 1)"
    )
    parser.add_argument(
        "--num-beam-groups", type=int, metavar="N", help="groups of beams for diverse beam search (default: 1)"
    )
    parser.add_argument(
        "--diversity-penalty",
        type=float,
        metavar="X",
        help="subtract X from the score of a token that an earlier group chose in the same step",
    )
    parser.add_argument(
        "--early-stopping",
        choices=list(_EARLY_STOPPING),
        help="stop as soon as --num-beams texts are finished (true), when a better text is unlikely (false, the "
        "default), or when none is possible (never)",
    )
    parser.add_argument(
        "--pruned",
        type=at_least(0),
        default=_PRUNED,
        metavar="N",
        help=f"show N pruned beams of each step (default: {_PRUNED})",
    )
    parser.add_argument("--figure", metavar="FILE", help="draw the tree as SVG and PNG")
    add_device_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, with all beams that were considered")


def run(arguments: argparse.Namespace) -> int:
    """Search, and print the search."""
    from penna.api.beams import beam_tree_to_json, trace_beam_search
    from penna.api.generate import prompts_too_long
    from penna.config.generation import generation_config
    from penna.report.beam_plot import draw_beams
    from penna.report.plot_files import check_plot_path

    config = generation_config(_settings(arguments))
    if arguments.figure:
        check_plot_path(Path(arguments.figure))
    loaded = load_model(arguments)
    if arguments.json:
        tree = trace_beam_search(loaded, arguments.prompt, config)
        print_json(beam_tree_to_json(tree))
    else:
        printer = _Printer(arguments.prompt, arguments.pruned)
        tree = trace_beam_search(loaded, arguments.prompt, config, on_event=printer.print_step)
        printer.print_tree(tree)
        printer.print_texts(tree)
    if prompts_too_long(loaded, [arguments.prompt]):
        note("The prompt is longer than the model's context: only its end was read.")
    if arguments.figure:
        for file in draw_beams(tree, Path(arguments.figure), pruned=arguments.pruned):
            note(f"Wrote {file}.")
    return 0


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The generation settings that were given."""
    names = ("num_beams", "max_new_tokens", "length_penalty", "num_beam_groups", "diversity_penalty")
    settings = {name: getattr(arguments, name) for name in names}
    if arguments.early_stopping is not None:
        settings["early_stopping"] = _EARLY_STOPPING[arguments.early_stopping]
    return {name: value for name, value in settings.items() if value is not None}


class _Printer:
    """Prints a search on a page."""

    def __init__(self, prompt: str, pruned: int) -> None:
        self._page, self._prompt, self._pruned = Page(), prompt, pruned
        self._rows: dict[int, int] = {}  # node number: its row in the step before

    def print_step(self, step: TreeStep) -> None:
        """Print the best beams of a step, and some that were pruned."""
        alive = [node for node in step.nodes if node.fate != "pruned"]
        kept = {node.number: row for row, node in enumerate(step.with_fate("kept"), start=1)}
        nodes = alive[:_SHOWN] + step.with_fate("pruned")[: self._pruned]
        table = grid("lrrrll", "", "from", "P(token)", "P(text)", "token", "text")
        names = [truncate_end(one_line(node.label), _TOKEN) for node in nodes]
        fixed = _MARK + _PARENT + 2 * _PROBABILITY + _widest(names) + 5 * 2
        for node, name in zip(nodes, names, strict=True):
            mark = {"kept": f"● {kept.get(node.number)}", "finished": "■ end", "pruned": "×"}[node.fate]
            parent = "" if node.parent is None else str(self._rows.get(node.parent, ""))
            probabilities = format_probability(node.token_logprob), format_probability(node.logprob)
            text = truncate_start(one_line(self._prompt + node.text), max(self._page.width - fixed, 16))
            style = {"kept": "", "finished": "bold green", "pruned": "dim"}[node.fate]
            table.add_row(mark, parent, *probabilities, name, text, style=style)
        held = format_probability(math.log(step.held)) if step.held else "0"
        self._page.title(f"Step {step.number}: kept and finished beams hold {held} of the probability")
        self._page.show(table)
        if len(alive) > _SHOWN:
            self._page.paragraph(f"and {len(alive) - _SHOWN:,} more kept or finished beams; --json prints all")
        self._rows = kept

    def print_tree(self, tree: BeamTree) -> None:
        """Print all beams that were ever kept."""
        from rich.text import Text

        self._page.title("Tree of the kept beams")
        self._page.paragraph("● leads to a text below, ○ was pruned later, ■ finished")
        if tree.config.num_beams > _SHOWN:
            self._page.paragraph(f"Of each step and of the texts, the {_SHOWN} best are shown.")
        table = grid("lr")
        width = self._page.width - 11
        prompt = truncate_start(one_line(self._prompt), width) or "(start of a document)"
        table.add_row(Text(prompt, style="bold"), Text("P(text)", style="dim"))
        for line in tree_lines(tree, shown=_SHOWN):
            style = "bold" if line.survives else "dim"
            label = Text().append(line.branch, style="dim")
            label.append(truncate_end(f"{line.mark} {one_line(line.text)}", width - label.cell_len), style=style)
            table.add_row(label, Text(format_probability(line.logprob), style="" if line.survives else "dim"))
        self._page.show(table)

    def print_texts(self, tree: BeamTree) -> None:
        """Print the texts that were found, best first."""
        from rich.text import Text

        self._page.title(f"Texts found, by score (log-prob / tokens^{tree.config.length_penalty:g})")
        if not tree.texts:
            self._page.paragraph("None: the settings allow no next token.")
            return
        table = grid("rrrrlw", "", "P(text)", "log-prob", "score", "end", "text")
        for found in tree.texts[:_SHOWN]:
            metrics = format_probability(found.logprob), f"{found.logprob:.3f}", f"{found.score:.3f}"
            end = "ended" if found.finish == "stop" else "cut off"
            text = Text().append(one_line(self._prompt), style="dim").append(one_line(found.text))
            table.add_row(str(found.rank), *metrics, end, text)
        self._page.show(table)
        if len(tree.texts) > _SHOWN:
            self._page.paragraph(f"and {len(tree.texts) - _SHOWN:,} more; --json prints all")


def _widest(texts: list[str]) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, texts), default=0)


class TreeLine(NamedTuple):  # a dataclass would import inspect at startup
    """A line of the printed tree."""

    branch: str  # the branches before it, such as "│ └─"
    mark: str
    text: str  # what its tokens add to the text
    logprob: float  # of the beam up to here
    survives: bool  # whether it is part of a text that was found


def tree_lines(tree: BeamTree, *, shown: int) -> list[TreeLine]:
    """The lines of a tree below its prompt: the ``shown`` best of each step and of the texts, with their ancestors."""
    chosen: set[int] = set()
    for step in tree.steps:
        for node in [node for node in step.nodes if node.fate != "pruned"][:shown]:
            chosen.update(each.number for each in tree.path(node))
    for found in tree.texts[:shown]:
        chosen.update(each.number for each in tree.path(tree.nodes[found.node]))
    return list(_TreeLines(tree, chosen).below(None, ""))


class _TreeLines:
    def __init__(self, tree: BeamTree, chosen: set[int]) -> None:
        self._surviving = tree.surviving()
        self._ranks = {found.node: found.rank for found in tree.texts}
        self._children: dict[int | None, list[BeamNode]] = {}
        for node in tree.nodes:
            if node.number in chosen:
                self._children.setdefault(node.parent, []).append(node)

    def below(self, parent: BeamNode | None, branch: str) -> Iterator[TreeLine]:
        """The lines below a node, or below the prompt; the best child comes first."""
        from penna.generate.beam_tree import added_text

        children = self._children.get(None if parent is None else parent.number, [])
        for place, node in enumerate(sorted(children, key=lambda node: -node.score), start=1):
            end = self._end_of_chain(node)
            added = added_text("" if parent is None else parent.text, end.text)
            is_last = place == len(children)
            yield TreeLine(
                branch=branch + ("└─" if is_last else "├─"),
                mark=self._mark(end),
                text=f"␣{added[1:]}" if added[:1] == " " else added or end.token,
                logprob=end.logprob,
                survives=end.number in self._surviving,
            )
            yield from self.below(end, branch + ("  " if is_last else "│ "))

    def _end_of_chain(self, node: BeamNode) -> BeamNode:
        """The last node of a chain of only children that all survive, or all do not."""
        only = self._children.get(node.number, [])
        while len(only) == 1 and (only[0].number in self._surviving) == (node.number in self._surviving):
            node = only[0]
            only = self._children.get(node.number, [])
        return node

    def _mark(self, node: BeamNode) -> str:
        if node.fate == "finished":
            return f"■ #{self._ranks[node.number]}" if node.number in self._ranks else "■"
        return "●" if node.number in self._surviving else "○"
