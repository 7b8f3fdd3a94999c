"""The token tree reads each text as if it were alone, whatever is dropped and compacted."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_decoding import MODELS, PROMPTS, SOURCES, beams, contrastive, for_model, moved_on, states

from penna.config.generation import GenerationConfig
from penna.generate import token_tree as tree
from penna.generate.request import Request
from penna.generate.token_tree import TokenTree

NAMES = ["gpt2", "sinusoidal", "modern, grouped", "n-grams", "seq2seq"]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(data=st.data(), litter=st.sampled_from([0, 5, 64]))
def test_any_growth_of_the_tree_gives_the_states_of_each_text_alone(name, build, data, litter):
    """Texts branch, are given up and outgrow the block in any order."""
    model = build(**MODELS[name], block_size=9)
    width = data.draw(st.integers(1, 4))
    prompt = data.draw(st.lists(st.integers(0, 60), min_size=1, max_size=12))
    steps = data.draw(st.integers(1, 12))
    source = SOURCES[0] if name == "seq2seq" else ()
    asked = Request(prompt, GenerationConfig(max_new_tokens=steps + 1), source=source)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(tree, "_MIN_UNUSED", litter)
        grown = TokenTree(model, asked, width)
        grown.read([grown.pending], [0])
        windows = [prompt[-9:]]
        for _ in range(steps):
            going_on = data.draw(
                st.lists(st.tuples(st.integers(0, len(windows) - 1), st.integers(0, 60)), min_size=1, max_size=width)
            )
            hidden = grown.read([index for _, index in going_on], [parent for parent, _ in going_on])
            windows = [moved_on(windows[parent], index, 9) for parent, index in going_on]
            for number, window in enumerate(windows):
                expected = states(model, window, source)
                torch.testing.assert_close(hidden[number], expected[-1], atol=1e-4, rtol=1e-4)
                torch.testing.assert_close(grown.states_of(number), expected, atol=1e-4, rtol=1e-4)
            kept = data.draw(st.lists(st.integers(0, len(windows) - 1), min_size=1, max_size=width, unique=True))
            grown.keep(kept)
            windows = [windows[at] for at in kept]


@pytest.mark.parametrize("name", NAMES)
def test_compacting_at_every_step_changes_no_search(name, build, run, monkeypatch):
    model = build(**MODELS[name])
    requests = for_model(
        model,
        [
            Request(PROMPTS[0], GenerationConfig(max_new_tokens=12, num_beams=3), stop_ids=frozenset({4, 9})),
            Request(PROMPTS[2], GenerationConfig(max_new_tokens=12, penalty_alpha=0.7, top_k=5)),
        ],
    )
    cleared: list[int] = []
    monkeypatch.setattr(tree, "_MIN_UNUSED", 0)
    whole = tree.KVCache.keep_entries
    monkeypatch.setattr(tree.KVCache, "keep_entries", lambda self, *rest: cleared.append(1) or whole(self, *rest))
    found, result = run(model, requests)
    assert cleared
    assert [list(each.ids) for each in found.hypotheses] == [ids for _, ids in beams(model, requests[0])]
    assert result.text == contrastive(model, requests[1])


def test_each_token_is_read_once_however_many_texts_continue_it(build, run, monkeypatch):
    held: list[int] = []
    whole = tree.KVCache.advance
    monkeypatch.setattr(
        tree.KVCache, "advance", lambda cache, counts: held.append(int(torch.as_tensor(counts))) or whole(cache, counts)
    )
    (result,) = run(build(), [Request(PROMPTS[2], GenerationConfig(max_new_tokens=10, num_beams=4))])
    assert len(result.ids) == 10
    assert sum(held) == len(PROMPTS[2]) + 4 * 9
