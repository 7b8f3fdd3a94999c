"""Drafts equal the texts of `penna generate`, and a branch continues from the replaced token."""

from dataclasses import replace

import pytest
import torch
from tiny_studio_models import BYTES, LETTERS, run_async, running_worker, tiny_model

from penna.api.generate import prompt_request
from penna.config.generation import GenerationConfig
from penna.config.tasks import ClassifyTask
from penna.errors import RunError
from penna.generate.request import GeneratedToken
from penna.generate.text_stream import TextDelta, generate_texts
from penna.studio.drafts import (
    ALTERNATIVES,
    Draft,
    DraftBuilder,
    branch_draft,
    continuation_request,
    new_draft,
    stream_drafts,
    token_alternatives,
)

STRATEGIES = [
    {},
    {"temperature": 0},
    {"num_beams": 3},
    {"penalty_alpha": 0.6, "top_k": 3},
    {"prompt_lookup_num_tokens": 2, "temperature": 0},
]


def complete(loaded, *drafts: Draft) -> list[Draft]:
    async def work() -> list[Draft]:
        found = list(drafts)
        async with running_worker(loaded) as worker:
            async for place, draft in stream_drafts(worker, drafts):
                assert draft.finish or draft.text.startswith(drafts[place].text)
                found[place] = draft
        return found

    return run_async(work())


def config(**fields) -> GenerationConfig:
    return GenerationConfig(**{"max_new_tokens": 20, **fields})


def test_drafts_generated_side_by_side_equal_those_generated_alone():
    loaded = tiny_model(BYTES)
    configs = [config(**fields) for fields in STRATEGIES]
    found = complete(loaded, *(new_draft(loaded, "the rain", each, 5) for each in configs))
    for draft, each in zip(found, configs, strict=True):
        alone = generate_texts(loaded.model, loaded.tokenizer, [prompt_request(loaded, "the rain", each, seed=5)])[0]
        assert draft.finish == alone.finish
        assert tuple(token.id for token in draft.tokens) == alone.ids
        assert draft.text == alone.text
        assert len(draft.texts) == len(draft.tokens)
        assert draft.logprob == pytest.approx(alone.logprob)


def test_each_token_has_the_twenty_most_likely_alternatives():
    loaded = tiny_model()
    draft = complete(loaded, new_draft(loaded, "abc", config(), 1))[0]
    ids = torch.tensor([[*draft.prompt_ids, *(token.id for token in draft.tokens)]])
    logprobs = loaded.model.logits(loaded.model.hidden(ids))[0].float().log_softmax(-1)
    for place, token in enumerate(draft.tokens):
        row = logprobs[len(draft.prompt_ids) + place - 1]
        order = row.argsort(descending=True)[:ALTERNATIVES].tolist()
        found = token_alternatives(LETTERS, token)
        assert [each.id for each in found][: len(order)] == order
        assert [each.probability for each in found] == pytest.approx(
            [float(row[each.id].exp()) for each in found], 1e-4
        )
        assert [each.rank for each in found] == [int((row > row[each.id]).sum()) + 1 for each in found]
        assert [each.id for each in found if each.is_chosen] == [token.id]


def test_a_branch_keeps_the_tokens_before_and_continues_after_the_new_token():
    loaded = tiny_model()
    draft = complete(loaded, new_draft(loaded, "abc", config(temperature=0), 1))[0]
    other = next(each for each in token_alternatives(LETTERS, draft.tokens[6]) if not each.is_chosen)
    branch = branch_draft(LETTERS, draft, 6, other.id)
    assert branch.tokens[:6] == draft.tokens[:6]
    assert (branch.tokens[6].id, branch.tokens[6].rank) == (other.id, other.rank)
    assert branch.kept == 7
    whole = complete(loaded, branch)[0]
    ids = (*branch.prompt_ids, *(token.id for token in branch.tokens))
    request = replace(prompt_request(loaded, "abc", config(temperature=0, max_new_tokens=13)), ids=ids)
    alone = generate_texts(loaded.model, LETTERS, [request])[0]
    assert tuple(token.id for token in whole.tokens[7:]) == alone.ids
    assert whole.text == LETTERS.decode([token.id for token in whole.tokens])
    assert len(whole.tokens) <= 20


def test_a_branch_may_start_inside_a_character():
    ids = BYTES.encode("비 é")
    pieces = [token for token in ids if not BYTES.decode([token]).isprintable() or "\ufffd" in BYTES.decode([token])]
    assert pieces, "the tokenizer must split characters for this test"
    tokens = tuple(GeneratedToken(0, token, -1.0, 1, ((token, -1.0),)) for token in ids)
    draft = Draft("a", tuple(BYTES.encode("a")), config(), 0, tokens, ("",) * len(tokens))
    for place, token in enumerate(ids):
        branch = branch_draft(BYTES, draft, place, token)
        builder = DraftBuilder(BYTES, branch)
        for index in ids[place + 1 :]:
            builder.push(TextDelta(0, "�", GeneratedToken(0, index, -1.0, 1), None))
        builder.push(TextDelta(0, "", None, "length"))
        assert builder.draft.text == "비 é"


def test_choosing_the_end_token_completes_a_draft():
    loaded = tiny_model()
    separator = LETTERS.separator_id
    draft = complete(loaded, new_draft(loaded, "abc", config(min_new_tokens=10), 1))[0]
    branch = branch_draft(LETTERS, draft, 4, separator)
    assert (branch.finish, branch.tokens) == ("stop", draft.tokens[:4])
    assert continuation_request(LETTERS, branch) is None
    assert complete(loaded, branch)[0].finish == "stop"


def test_a_branch_at_the_last_allowed_token_is_complete():
    loaded = tiny_model()
    draft = complete(loaded, new_draft(loaded, "abc", config(min_new_tokens=20), 1))[0]
    branch = branch_draft(LETTERS, draft, 19, token_alternatives(LETTERS, draft.tokens[19])[1].id)
    assert complete(loaded, branch)[0].finish == "length"


def test_a_stop_string_that_spans_a_branch_ends_the_text():
    loaded = tiny_model()
    free = complete(loaded, new_draft(loaded, "abc", config(temperature=0), 1))[0]
    stop = free.text[6:9]
    stopped = complete(loaded, new_draft(loaded, "abc", config(temperature=0, stop=(stop,)), 1))[0]
    assert (stopped.text, stopped.finish) == (free.text[: free.text.index(stop)], "stop")
    assert len(stopped.tokens) == len(stopped.texts) < len(free.tokens)
    ends = next(place for place in range(20) if stop in "".join(free.texts[: place + 1]))
    across = branch_draft(
        LETTERS, replace(free, config=config(temperature=0, stop=(stop,))), ends - 1, free.tokens[ends - 1].id
    )
    whole = complete(loaded, across)[0]
    assert (whole.text, whole.finish) == (stopped.text, "stop")


def test_a_canceled_draft_keeps_its_text():
    builder = DraftBuilder(LETTERS, Draft("a", (1,), config(), 0))
    builder.push(TextDelta(0, "b", GeneratedToken(0, LETTERS.encode("b")[0], -1.0, 1), None))
    builder.end("cancelled")
    assert (builder.draft.text, builder.draft.finish) == ("b", "cancelled")


def test_a_classifier_is_rejected():
    loaded = tiny_model(task=ClassifyTask(labels=["a", "b"], lm_weight=0), n_class=2)
    with pytest.raises(RunError):
        new_draft(loaded, "abc", config(), 0)
