"""Drafts of the playground: their tokens spell what `penna generate` writes, and a branch goes on from the new token."""

from dataclasses import replace

import pytest
import torch
from tiny_writers import BYTES, LETTERS, in_time, tiny, working

from penna.api.generate import prompt_request
from penna.config.generation import GenerationConfig
from penna.config.tasks import ClassifyTask
from penna.errors import RunError
from penna.generate.request import GeneratedToken
from penna.generate.text_stream import TextDelta, generate_texts
from penna.studio.drafts import ALTERNATIVES, Draft, Growth, alternatives, begun, branched, rest, written

STRATEGIES = [
    {},
    {"temperature": 0},
    {"num_beams": 3},
    {"penalty_alpha": 0.6, "top_k": 3},
    {"prompt_lookup_num_tokens": 2, "temperature": 0},
]


def drafts_of(loaded, *drafts: Draft) -> list[Draft]:
    async def work() -> list[Draft]:
        found = list(drafts)
        async with working(loaded) as worker:
            async for place, draft in written(worker, drafts):
                assert draft.finish or draft.text.startswith(drafts[place].text)
                found[place] = draft
        return found

    return in_time(work())


def config(**fields) -> GenerationConfig:
    return GenerationConfig(**{"max_new_tokens": 20, **fields})


def test_drafts_of_every_strategy_side_by_side_are_what_each_writes_alone():
    loaded = tiny(BYTES)
    configs = [config(**fields) for fields in STRATEGIES]
    found = drafts_of(loaded, *(begun(loaded, "the rain", each, 5) for each in configs))
    for draft, each in zip(found, configs, strict=True):
        alone = generate_texts(loaded.model, loaded.tokenizer, [prompt_request(loaded, "the rain", each, seed=5)])[0]
        assert draft.finish == alone.finish
        assert tuple(token.id for token in draft.tokens) == alone.ids
        assert draft.text == alone.text
        assert len(draft.texts) == len(draft.tokens)
        assert draft.logprob == pytest.approx(alone.logprob)


def test_each_token_tells_the_twenty_likeliest_of_its_place():
    loaded = tiny()
    draft = drafts_of(loaded, begun(loaded, "abc", config(), 1))[0]
    ids = torch.tensor([[*draft.prompt_ids, *(token.id for token in draft.tokens)]])
    logprobs = loaded.model.logits(loaded.model.hidden(ids))[0].float().log_softmax(-1)
    for place, token in enumerate(draft.tokens):
        row = logprobs[len(draft.prompt_ids) + place - 1]
        order = row.argsort(descending=True)[:ALTERNATIVES].tolist()
        told = alternatives(LETTERS, token)
        assert [each.id for each in told][: len(order)] == order
        assert [each.probability for each in told] == pytest.approx([float(row[each.id].exp()) for each in told], 1e-4)
        assert [each.rank for each in told] == [int((row > row[each.id]).sum()) + 1 for each in told]
        assert [each.id for each in told if each.is_chosen] == [token.id]


def test_a_branch_keeps_what_stands_before_and_goes_on_behind_the_new_token():
    loaded = tiny()
    draft = drafts_of(loaded, begun(loaded, "abc", config(temperature=0), 1))[0]
    other = next(each for each in alternatives(LETTERS, draft.tokens[6]) if not each.is_chosen)
    branch = branched(LETTERS, draft, 6, other.id)
    assert branch.tokens[:6] == draft.tokens[:6]
    assert (branch.tokens[6].id, branch.tokens[6].rank) == (other.id, other.rank)
    assert branch.kept == 7
    whole = drafts_of(loaded, branch)[0]
    ids = (*branch.prompt_ids, *(token.id for token in branch.tokens))
    asked = replace(prompt_request(loaded, "abc", config(temperature=0, max_new_tokens=13)), ids=ids)
    alone = generate_texts(loaded.model, LETTERS, [asked])[0]
    assert tuple(token.id for token in whole.tokens[7:]) == alone.ids
    assert whole.text == LETTERS.decode([token.id for token in whole.tokens])
    assert len(whole.tokens) <= 20


def test_a_branch_may_begin_within_a_character():
    ids = BYTES.encode("비 é")
    pieces = [token for token in ids if not BYTES.decode([token]).isprintable() or "\ufffd" in BYTES.decode([token])]
    assert pieces, "the tokenizer has to cut characters for this"
    tokens = tuple(GeneratedToken(0, token, -1.0, 1, ((token, -1.0),)) for token in ids)
    draft = Draft("a", tuple(BYTES.encode("a")), config(), 0, tokens, ("",) * len(tokens))
    for place, token in enumerate(ids):
        branch = branched(BYTES, draft, place, token)
        growth = Growth(BYTES, branch)
        for index in ids[place + 1 :]:
            growth.push(TextDelta(0, "�", GeneratedToken(0, index, -1.0, 1), None))
        growth.push(TextDelta(0, "", None, "length"))
        assert growth.draft.text == "비 é"


def test_a_branch_to_the_token_that_ends_a_text_is_over():
    loaded = tiny()
    separator = LETTERS.separator_id
    draft = drafts_of(loaded, begun(loaded, "abc", config(min_new_tokens=10), 1))[0]
    branch = branched(LETTERS, draft, 4, separator)
    assert (branch.finish, branch.tokens) == ("stop", draft.tokens[:4])
    assert rest(LETTERS, branch) is None
    assert drafts_of(loaded, branch)[0].finish == "stop"


def test_a_branch_at_the_last_token_has_no_room_left():
    loaded = tiny()
    draft = drafts_of(loaded, begun(loaded, "abc", config(min_new_tokens=20), 1))[0]
    branch = branched(LETTERS, draft, 19, alternatives(LETTERS, draft.tokens[19])[1].id)
    assert drafts_of(loaded, branch)[0].finish == "length"


def test_a_stop_string_ends_a_text_also_across_a_branch():
    loaded = tiny()
    free = drafts_of(loaded, begun(loaded, "abc", config(temperature=0), 1))[0]
    stop = free.text[6:9]
    stopped = drafts_of(loaded, begun(loaded, "abc", config(temperature=0, stop=(stop,)), 1))[0]
    assert (stopped.text, stopped.finish) == (free.text[: free.text.index(stop)], "stop")
    assert len(stopped.tokens) == len(stopped.texts) < len(free.tokens)
    ends = next(place for place in range(20) if stop in "".join(free.texts[: place + 1]))
    across = branched(
        LETTERS, replace(free, config=config(temperature=0, stop=(stop,))), ends - 1, free.tokens[ends - 1].id
    )
    whole = drafts_of(loaded, across)[0]
    assert (whole.text, whole.finish) == (stopped.text, "stop")


def test_a_stopped_draft_keeps_what_was_written():
    growth = Growth(LETTERS, Draft("a", (1,), config(), 0))
    growth.push(TextDelta(0, "b", GeneratedToken(0, LETTERS.encode("b")[0], -1.0, 1), None))
    growth.end("cancelled")
    assert (growth.draft.text, growth.draft.finish) == ("b", "cancelled")


def test_a_model_that_only_classifies_is_refused():
    loaded = tiny(task=ClassifyTask(labels=["a", "b"], lm_weight=0), n_class=2)
    with pytest.raises(RunError):
        begun(loaded, "abc", config(), 0)
