"""``penna inspect``: the parts, memory and computation of a model, the nearest tokens of a word, and its heads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from penna.cli.arguments import add_device_argument, add_run_argument, load_model, open_text_file, read_lines
from penna.cli.console import Page, grid, print_json
from penna.cli.parser import Verbs, at_least, unused_option
from penna.errors import DataError
from penna.formatting import one_line, percent, plural, truncate_end

if TYPE_CHECKING:
    from penna.api.inspect import HeadsInspection, ModelInspection
    from penna.explain.model_summary import ModelSummary
    from penna.explain.neighbors import Neighbors

_TOP = 10
_NAME = 24  # cells of a token
_BAR = 20  # cells of a cosine of 1
_TOKENS = 12  # of a word, shown
_MOSTLY = 0.5  # a head is named after a target that gets at least this share of its attention
_INDUCTION = 0.2  # the same for induction, which is a few hundredths by chance
_TRAINING = {"weights": "weights", "gradients": "gradients", "muon": "Muon's state", "adamw": "AdamW's state"}
_DTYPES = ("float32", "bfloat16", "int8")
_CACHE_DTYPES = ("float32", "bfloat16", "float32")  # of keys and values, for weights of these types


def add(verbs: Verbs) -> None:
    """Add the verb."""
    summary = "show the parts, memory, nearest tokens and heads of a model"
    verbs.add("inspect", summary, "RUN [options]", _add_arguments, run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_argument(parser)
    parser.add_argument(
        "--near", action="append", default=[], metavar="WORD", help="the tokens nearest to a word; repeatable"
    )
    parser.add_argument("--top", type=at_least(1), metavar="N", help=f"with --near, show N tokens (default: {_TOP})")
    parser.add_argument("--heads", action="store_true", help="what each head attends to, on the run's last samples")
    parser.add_argument("--text", metavar="TEXT|FILE", help="with --heads, use this text instead")
    parser.add_argument(
        "--length", type=int, metavar="T", help="count attention over T tokens (default: the model's context)"
    )
    add_device_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print a summary of the model, and the neighbors and heads that were requested."""
    from penna.api.inspect import inspect_model, sample_texts

    if arguments.top is not None and not arguments.near:
        raise unused_option("--top", "It only applies with --near WORD.")
    if arguments.text is not None and not arguments.heads:
        raise unused_option("--text", "It only applies with --heads.")
    text = None if arguments.text is None else _read_text(arguments.text)
    loaded = load_model(arguments)
    head_texts = None
    if arguments.heads:
        head_texts = sample_texts(loaded) if text is None else [text]
    inspection = inspect_model(
        loaded,
        near=arguments.near,
        top=_TOP if arguments.top is None else arguments.top,
        length=arguments.length,
        heads_on=head_texts,
    )
    if arguments.json:
        print_json(inspection)
    else:
        print_inspection(inspection, "the last samples of the run" if text is None else "the text")
    return 0


def _read_text(text: str) -> str:
    """The content of a file of this name if it exists, else the text itself. Raises DataError for a missing file."""
    if Path(text).is_file():
        with open_text_file(text) as lines:
            return "\n".join(line for _, line in read_lines(lines, text))
    if not any(map(str.isspace, text)) and ("/" in text or text.endswith((".txt", ".md"))):
        raise DataError(f"There is no file {text}.", "A UTF-8 file or a text is needed.", "Check the path.")
    return text


def print_inspection(inspection: ModelInspection, text_name: str) -> None:
    """Print all sections; ``text_name`` says what the heads were measured on."""
    page = Page()
    page.title(f"{inspection.model}: arch = {inspection.arch}, task = {inspection.task}")
    _print_parts(page, inspection.summary)
    _print_memory(page, inspection)
    _print_flops(page, inspection.summary)
    for word in inspection.near:
        _print_neighbors(page, word)
    if inspection.heads is not None:
        _print_heads(page, inspection.heads, text_name)


def _print_parts(page: Page, summary: ModelSummary) -> None:
    table = grid("llrrr", "part", "shape", "", "parameters", "share")
    for part in summary.parts:
        shapes = " + ".join(" × ".join(f"{size:,}" for size in shape) for shape in part.shapes)
        count = (f"{part.parameters:,}", percent(part.parameters / summary.parameters))
        times = f"× {part.times}" if part.times > 1 else ""
        table.add_row(part.name, shapes, times, *(count if part.parameters else ("–", "is wte")))
    table.add_row("total", "", "", f"{summary.parameters:,}", "", style="bold")
    page.show(table)


def _print_memory(page: Page, inspection: ModelInspection) -> None:
    memory, context = inspection.summary.memory, inspection.summary.flops.context
    page.title("Memory")
    table = grid("lrrr", "", *_DTYPES)
    table.add_row("weights", *(_bytes(memory.weights[dtype]) for dtype in _DTYPES))
    cache = memory.cache_per_token
    for name, count in (("KV cache, per token", 1), (f"KV cache, {context:,} tokens", context)):
        table.add_row(name, *(_bytes(cache[dtype] * count) for dtype in _CACHE_DTYPES))
    if memory.memory_per_source_token is not None:
        source = memory.memory_per_source_token
        table.add_row("per token of the source", *(_bytes(source[dtype]) for dtype in _CACHE_DTYPES))
    page.show(table)
    page.gap()
    parts = ", ".join(f"{_TRAINING[name]} {_bytes(size)}" for name, size in memory.training.items())
    page.paragraph(f"Training: {_bytes(sum(memory.training.values()))} ({parts}), plus the activations of a batch.")


def _print_flops(page: Page, summary: ModelSummary) -> None:
    flops = summary.flops
    page.title("Floating-point operations per token")
    rows = [
        ("matrices", _count(flops.matrices), "2 for each matrix element that a token is multiplied with"),
        ("attention", _count(flops.attention), _attention_formula(summary)),
        ("forward", _count(flops.forward), "the sum"),
        ("training", _count(flops.training), "3 × forward: the backward pass costs twice as much"),
    ]
    if flops.source is not None and flops.source_context is not None:
        remark = f"forward, for each token of a source of {flops.source_context:,}"
        rows.append(("source", _count(flops.source), remark))
    page.rows(rows)


def _attention_formula(summary: ModelSummary) -> str:
    flops = summary.flops
    if flops.source_context is not None:
        return f"4 × n_layer × n_head × head_dim × (T + S), T = {flops.context:,}, S = {flops.source_context:,}"
    return f"4 × n_layer × n_head × head_dim × T, T = {flops.context:,}"


def _print_neighbors(page: Page, word: Neighbors) -> None:
    page.title(f"Nearest to “{one_line(word.word)}”")
    tokens = " ".join(map(one_line, word.tokens[:_TOKENS])) + (" …" if len(word.tokens) > _TOKENS else "")
    page.paragraph(
        f"The mean of its {len(word.tokens)} tokens: {tokens}" if len(word.tokens) > 1 else f"Its token: {tokens}"
    )
    for name, neighbors in word.near.items():
        page.gap()
        table = grid("lrl", "", "cosine", "")
        if len(word.near) > 1:
            table.add_row("input (wte)" if name == "wte" else "output (lm_head)", "", "", style="dim")
        for neighbor in neighbors:
            bar = "█" * round(max(neighbor.cosine, 0.0) * _BAR)
            label = truncate_end(neighbor.token or f"id {neighbor.id}", _NAME)
            table.add_row(label, f"{neighbor.cosine:.3f}", bar)
        page.show(table)


def _print_heads(page: Page, heads: HeadsInspection, text_name: str) -> None:
    metrics = heads.statistics
    page.title(f"Heads on {text_name}: {plural(metrics.tokens, 'token', 'tokens')}")
    table = grid("lrrrrrrl", "head", "entropy", "distance", "first", "previous", "itself", "induction", "mostly")
    for layer in range(len(metrics.entropy)):
        for head in range(len(metrics.entropy[layer])):
            shares = {
                "first": float(metrics.first[layer, head]),
                "previous": float(metrics.previous[layer, head]),
                "itself": float(metrics.itself[layer, head]),
            }
            if heads.induction is not None:
                shares["induction"] = float(heads.induction[layer, head])
            cells = [f"{100 * share:.1f} %" for share in shares.values()]
            if heads.induction is None:
                cells.append("–")
            table.add_row(
                f"{layer}.{head}",
                f"{metrics.entropy[layer, head]:.2f}",
                f"{metrics.distance[layer, head]:.1f}",
                *cells,
                _head_kind(shares),
            )
    page.show(table)
    page.gap()
    page.paragraph(
        "Means over tokens, from the third of each text. Entropy: of the attention, in nats; 0 means a single token. "
        "Distance: tokens looked back, weighted by attention. First, previous, itself: share of the attention on the "
        "first token, the previous one and the token itself. Induction: in random tokens that are repeated, the share "
        "on the token that followed the same token before. Mostly: what gets half of the attention, or induction from "
        f"{_INDUCTION:.0%}."
    )
    if heads.cut:
        from penna.api.inspect import TOKENS_READ

        page.paragraph(f"Only the first {TOKENS_READ:,} tokens were read.")


def _head_kind(shares: dict[str, float]) -> str:
    """What a head mostly attends to; empty if nothing stands out."""
    kind = max(shares, key=lambda name: shares[name])
    if shares[kind] >= _MOSTLY:
        return kind
    return "induction" if shares.get("induction", 0) >= _INDUCTION else ""


def _bytes(count: int) -> str:
    """A number of bytes in B, kB, MB or GB (powers of 1,000)."""
    return f"{_count(count)}B" if count >= 1000 else f"{count} B"


def _count(count: int) -> str:
    """A count with three digits and k, M, G or T (powers of 1,000)."""
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            value = count / size
            return f"{value:,.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f} {unit}"
    return f"{count} "
