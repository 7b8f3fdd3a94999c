"""What ``penna inspect`` shows of a model: its parts, what they take, tokens near a word, and its heads."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from penna.api.inspect import TOKENS_READ, HeadsInspection, ModelInspection
from penna.cli.page import Page
from penna.explain.model_summary import ModelSummary
from penna.explain.neighbors import Neighbors
from penna.formatting import one_line, percent, plural, truncate_end

_NAME = 24  # cells of a token
_BAR = 20  # cells of a cosine of 1
_MOSTLY = 0.5  # share of a head's attention from which on it is called by what it looks at
_INDUCTION = 0.2  # the same on what stood behind a token before, which chance makes a few hundredths
_TRAINING = {"weights": "weights", "gradients": "gradients", "muon": "Muon's state", "adamw": "AdamW's states"}
_TOKENS = 12  # of a word that are shown


def print_model(seen: ModelInspection, heads_on: str) -> None:
    """Print everything on standard output; ``heads_on`` names the texts of the heads."""
    page = Page()
    page.title(f"{seen.model}: arch = {seen.arch}, task = {seen.task}")
    page.show(_parts(seen.summary))
    _memory(page, seen)
    _flops(page, seen.summary)
    for word in seen.near:
        _near(page, word)
    if seen.heads is not None:
        _heads(page, seen.heads, heads_on)


def _parts(found: ModelSummary) -> Table:
    table = _table("part", "shape", "", "parameters", "share")
    table.columns[1].justify = "left"
    for part in found.parts:
        shapes = " + ".join(" × ".join(f"{size:,}" for size in shape) for shape in part.shapes)
        if part.parameters:
            figures = (f"{part.parameters:,}", percent(part.parameters / found.parameters))
        else:
            figures = ("–", "is wte")
        table.add_row(part.name, shapes, f"× {part.times}" if part.times > 1 else "", *figures)
    table.add_row("all", "", "", f"{found.parameters:,}", "", style="bold")
    return table


def _memory(page: Page, seen: ModelInspection) -> None:
    memory, flops = seen.summary.memory, seen.summary.flops
    page.title("Memory")
    table = _table("", "float32", "bfloat16", "int8")
    table.add_row("weights", *(_bytes(memory.weights[kind]) for kind in ("float32", "bfloat16", "int8")))
    kept = memory.cache_per_token
    for name, times in (("keys and values, per token", 1), (f"of a text of {flops.context:,}", flops.context)):
        table.add_row(name, *(_bytes(kept[kind] * times) for kind in ("float32", "bfloat16", "float32")))
    if memory.memory_per_source_token is not None:
        source = memory.memory_per_source_token
        table.add_row("per token of the source", *(_bytes(source[kind]) for kind in ("float32", "bfloat16", "float32")))
    page.show(table)
    page.gap()
    parts = ", ".join(f"{_TRAINING[name]} {_bytes(size)}" for name, size in memory.training.items())
    page.wrapped(f"To train it: {_bytes(sum(memory.training.values()))} ({parts}), and what a batch leaves behind.")


def _flops(page: Page, found: ModelSummary) -> None:
    flops = found.flops
    page.title("Multiplications and additions per token")
    rows = [
        ("matrices", _count(flops.matrices), "2 for each of their numbers that a token meets"),
        ("attention", _count(flops.attention), _attention_formula(found)),
        ("forward", _count(flops.forward), "the sum"),
        ("training", _count(flops.training), "3 × forward: the way back takes twice as much"),
    ]
    if flops.source is not None and flops.source_context is not None:
        rows.append(("source", _count(flops.source), f"forward, of each token of a source of {flops.source_context:,}"))
    page.figures(rows)


def _attention_formula(found: ModelSummary) -> str:
    looked_at = f"T = {found.flops.context:,}"
    if found.flops.source_context is not None:
        return f"4 × n_layer × n_head × head_dim × (T + S), {looked_at}, S = {found.flops.source_context:,}"
    return f"4 × n_layer × n_head × head_dim × T, {looked_at}"


def _near(page: Page, word: Neighbors) -> None:
    page.title(f"Near “{one_line(word.word)}”")
    shown = " ".join(map(one_line, word.tokens[:_TOKENS])) + (" …" if len(word.tokens) > _TOKENS else "")
    page.wrapped(
        f"The mean of its {len(word.tokens)} tokens: {shown}" if len(word.tokens) > 1 else f"Its token: {shown}"
    )
    for name, found in word.near.items():
        page.gap()
        table = _table("", "cosine", "")
        table.columns[2].justify = "left"
        if len(word.near) > 1:
            table.add_row("as read (wte)" if name == "wte" else "as written (lm_head)", "", "", style="dim")
        for near in found:
            bar = "█" * round(max(near.cosine, 0.0) * _BAR)
            table.add_row(Text(truncate_end(near.token or f"id {near.id}", _NAME)), f"{near.cosine:.3f}", bar)
        page.show(table)


def _heads(page: Page, seen: HeadsInspection, heads_on: str) -> None:
    figures = seen.statistics
    page.title(f"Heads on {heads_on}: {plural(figures.tokens, 'token', 'tokens')}")
    table = _table("head", "entropy", "distance", "first", "previous", "itself", "induction", "mostly")
    table.columns[7].justify = "left"
    for layer in range(len(figures.entropy)):
        for head in range(len(figures.entropy[layer])):
            shares = {
                "first": float(figures.first[layer, head]),
                "previous": float(figures.previous[layer, head]),
                "itself": float(figures.itself[layer, head]),
            }
            columns = [_share(share) for share in shares.values()]
            if seen.induction is None:
                columns.append("–")
            else:
                shares["induction"] = float(seen.induction[layer, head])
                columns.append(_share(shares["induction"]))
            kind = max(shares, key=lambda name: shares[name])
            table.add_row(
                f"{layer}.{head}",
                f"{figures.entropy[layer, head]:.2f}",
                f"{figures.distance[layer, head]:.1f}",
                *columns,
                kind if shares[kind] >= _MOSTLY else "induction" if shares.get("induction", 0) >= _INDUCTION else "",
            )
    page.show(table)
    page.gap()
    page.wrapped(
        "Means over tokens from the third of each text on. Entropy of attention in nats: 0 looks at one token alone. "
        "Distance: tokens looked back, weighted by attention. Shares of attention on the first token, the previous one "
        "and the token itself. Induction: in random tokens read twice, the share on what stood behind the same token "
        f"before. Mostly: what takes half of it, or induction from {_INDUCTION:.0%} on."
    )
    if seen.cut:
        page.wrapped(f"Only the first {TOKENS_READ:,} tokens were read.")


def _table(first: str, *others: str) -> Table:
    """Columns set right but for the first, their names dim."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    for _ in others:
        table.add_column(justify="right", no_wrap=True)
    if any((first, *others)):
        table.add_row(*map(Text, (first, *others)), style="dim")
    return table


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _bytes(count: int) -> str:
    """So many bytes, for people: kB, MB and GB are powers of 1,000."""
    return f"{_count(count)}B" if count >= 1000 else f"{count} B"


def _count(count: int) -> str:
    """A count in three figures: k, M, G and T are powers of 1,000."""
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            value = count / size
            return f"{value:,.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f} {unit}"
    return f"{count} "
