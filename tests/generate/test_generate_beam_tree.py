"""The tree of a beam search: exhaustive where the beam is wide enough, its probabilities multiplied along its paths, its
fates those of a textbook search, its texts legible."""

import itertools
import math
from collections.abc import Callable, Iterator

import pytest
import torch

from penna.config.generation import GenerationConfig
from penna.config.sections import TokenizerConfig
from penna.generate.beam_tree import BeamTree, BeamTreeBuilder, added_text, readable_text
from penna.generate.engine import generate
from penna.generate.request import BeamStep, Candidate, Finish, GeneratedToken, Hypothesis, Request
from penna.model.gpt import GPT
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer

END = 0  # the separator
Build = Callable[..., GPT]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Characters; the bytes come behind the separator, so that a tiny model's ids are control characters."""
    return train_tokenizer(TokenizerConfig(kind="char"), ["I eat an apple. 나는 밥을 먹었다."])


def tree_of(model: GPT, tokenizer: Tokenizer, request: Request) -> BeamTree:
    grower = BeamTreeBuilder(tokenizer, request, "")
    for event in generate(model, [request]):
        if isinstance(event, BeamStep):
            grower.add_step(event)
        elif isinstance(event, Finish):
            return grower.finish(event)
    raise AssertionError


def request_of(steps: int, beams: int, *, ends: bool = True, **settings: object) -> Request:
    config = GenerationConfig(num_beams=beams, max_new_tokens=steps, **settings)
    return Request([1, 2], config, stop_ids=frozenset({END} if ends else ()), report_beams=True)


@torch.inference_mode()
def logprob_of(model: GPT, ids: tuple[int, ...], prompt: tuple[int, ...] = (1, 2)) -> float:
    """Of a text behind a prompt, in one plain forward pass."""
    logits = model.logits(model.hidden(torch.tensor([[*prompt, *ids]])))[0].double().log_softmax(dim=-1)
    return sum(float(logits[len(prompt) + place - 1, index]) for place, index in enumerate(ids))


def all_texts(size: int, steps: int, *, ends: bool) -> Iterator[tuple[int, ...]]:
    """Every text of ``steps`` tokens, and every shorter one that the separator ends."""
    for ids in itertools.product(range(size), repeat=steps):
        end = ids.index(END) if ends and END in ids else None
        if end is None:
            yield ids
        elif not any(ids[end + 1 :]):  # each once
            yield ids[: end + 1]


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
def test_a_beam_as_wide_as_all_partial_texts_is_exhaustive_search(
    build: Build, tokenizer: Tokenizer, ends: bool, length_penalty: float
) -> None:
    size, steps = 5, 3
    narrow_misses = 0
    for seed in (0, 19, 35):
        model = build(seed, vocab_size=size)
        ranked = sorted(
            ((logprob_of(model, ids) / len(ids) ** length_penalty, ids) for ids in all_texts(size, steps, ends=ends)),
            reverse=True,
        )
        wide = request_of(steps, size ** (steps - 1), ends=ends, length_penalty=length_penalty, early_stopping="never")
        tree = tree_of(model, tokenizer, wide)
        assert len(tree.texts) == size ** (steps - 1)
        for found, (score, ids) in zip(tree.texts, ranked, strict=False):
            assert tree.nodes[found.node].ids == ids
            assert found.ids == (ids[:-1] if ends and ids[-1] == END else ids)
            assert found.score == pytest.approx(score, abs=1e-4)
        for step in tree.steps[:-1]:
            assert step.held == pytest.approx(1, abs=1e-5), "nothing was given up"
            assert not step.with_fate("pruned")
        narrow = tree_of(model, tokenizer, request_of(steps, 2, ends=ends, length_penalty=length_penalty))
        narrow_misses += narrow.nodes[narrow.texts[0].node].ids != ranked[0][1]
        assert narrow.steps[0].held < 1
    assert narrow_misses, "or else any beam would pass for an exhaustive search here"


def test_a_beam_as_wide_as_the_vocabulary_searches_all_texts_of_two_tokens(build: Build, tokenizer: Tokenizer) -> None:
    size = 8
    for seed in range(6):
        model = build(seed, vocab_size=size)
        best = max(all_texts(size, 2, ends=False), key=lambda ids: logprob_of(model, ids))
        tree = tree_of(model, tokenizer, request_of(2, size, ends=False))
        assert tree.texts[0].ids == best
        assert tree.texts[0].probability == pytest.approx(math.exp(logprob_of(model, best)), rel=1e-4)
        assert tree.steps[0].held == pytest.approx(1, abs=1e-5)


SETTINGS = [
    {"beams": 3},
    {"beams": 4, "length_penalty": 0.0, "early_stopping": True},
    {"beams": 4, "repetition_penalty": 1.4},
    {"beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0},
    {"beams": 4, "num_beam_groups": 4, "diversity_penalty": 1.0},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_probabilities_multiply_along_paths_and_a_step_sums_to_at_most_one(
    build: Build, tokenizer: Tokenizer, settings: dict[str, object]
) -> None:
    ended_early = fewer = 0
    for seed in range(12):
        model = build(seed, vocab_size=6)
        tree = tree_of(model, tokenizer, request_of(6, **settings))
        ended_early += any(node.id == END for node in tree.nodes if node.fate == "finished")
        assert [node.number for node in tree.nodes] == list(range(len(tree.nodes)))
        for step in tree.steps:
            for node in step.nodes:
                path = tree.path(node)
                assert node.step == step.number == len(path)
                assert node.ids == tuple(each.id for each in path)
                assert node.probability == pytest.approx(math.prod(each.token_probability for each in path), rel=1e-4)
                assert node.logprob == pytest.approx(logprob_of(model, node.ids), abs=1e-4)
                assert all(each.fate == "kept" for each in path[:-1])
            assert sum({node.ids: node.probability for node in step.nodes}.values()) <= 1 + 1e-5
            assert step.held <= 1 + 1e-5
        for found in tree.texts:
            node = tree.nodes[found.node]
            assert node.fate == "finished"
            assert found.probability == pytest.approx(node.probability)
            assert found.finish == ("stop" if node.id == END else "length")
            assert {each.number for each in tree.path(node)} <= tree.surviving()
        assert len({found.node for found in tree.texts}) == len(tree.texts)
        fewer += any(0 < len(step.with_fate("kept")) < 4 for step in tree.steps[1:-1])
    assert ended_early
    assert fewer or "num_beam_groups" not in settings, "a group that ends before the other one"


def test_fates_match_a_textbook_search(build: Build, tokenizer: Tokenizer) -> None:
    size, beams, steps = 7, 3, 4
    for seed in range(4):
        model = build(seed, vocab_size=size)
        tree = tree_of(model, tokenizer, request_of(steps, beams, ends=False))
        before: list[tuple[int, ...]] = [()]
        for step in tree.steps:
            tried = sorted(
                ((*ids, index) for ids in before for index in range(size)), key=lambda ids: -logprob_of(model, ids)
            )
            before = tried[:beams]
            going_on = "finished" if step.number == steps else "kept"
            assert [node.ids for node in step.with_fate(going_on)] == before
            assert [node.ids for node in step.nodes] == tried[: len(step.nodes)]
            assert len(step.with_fate("pruned")) == len(step.nodes) - beams >= beams
            assert step.held == pytest.approx(sum(math.exp(logprob_of(model, ids)) for ids in before), abs=1e-5)


def grown(tokenizer: Tokenizer, *texts: bytes) -> BeamTree:
    """One path of these tokens, the last of them finished."""
    pieces = tokenizer.token_bytes()
    ids = [pieces.index(text) if text else END for text in texts]
    grower = BeamTreeBuilder(tokenizer, Request([1], GenerationConfig(num_beams=2), stop_ids=frozenset({END})), "나는")
    for place, index in enumerate(ids):
        grower.add_step(
            BeamStep(0, (Candidate(0, index, -1.0 - place, -1.0, "kept" if place < len(ids) - 1 else "finished"),))
        )
    found = tuple(GeneratedToken(0, index, -1.0, 1) for index in ids if index != END)
    return grower.finish(Finish(0, "stop", (Hypothesis(found, -float(len(ids)), -1.0, "stop"),)))


def test_incomplete_characters_are_escaped_until_complete(tokenizer: Tokenizer) -> None:
    tree = grown(tokenizer, b"I", *(bytes([byte]) for byte in "龍".encode()), b"\x1b", b"")
    assert [node.text for node in tree.nodes] == [
        "I", "I\\xe9", "I\\xe9\\xbe", "I龍", "I龍\x1b", "I龍\x1b",
    ]  # fmt: skip
    assert [node.added for node in tree.nodes] == ["I", "\\xe9", "\\xbe", "龍", "\x1b", ""]
    assert [node.label for node in tree.nodes] == ["I", "\\xe9", "\\xbe", "\\x8d 龍", "\\x1b", "<|endoftext|>"]
    assert (tree.texts[0].text, tree.texts[0].node) == ("I龍\x1b", 5)
    assert readable_text(tokenizer, tree.texts[0].ids) == "I龍\x1b"


def test_added_text_starts_at_the_first_difference() -> None:
    assert added_text("", "I") == "I"
    assert added_text("I eat", "I eat an") == " an"
    assert added_text("밥\\xec", "밥을") == "을"
    assert added_text("I", "I") == ""
