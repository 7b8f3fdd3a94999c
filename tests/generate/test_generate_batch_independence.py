"""A request in a batch gives the same text as alone, whatever other requests come, end or are cancelled."""

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_decoding import MODELS, PROMPTS, EngineResult, beams, for_model, token_by_token

from penna.config.generation import GenerationConfig
from penna.errors import DataError
from penna.generate.engine import Engine
from penna.generate.request import BeamStep, Finish, GeneratedToken, Request

SETTINGS = [
    {"temperature": 0},
    {},
    {"temperature": 0.7, "top_k": 5},
    {"temperature": 1.5, "top_p": 0.8, "frequency_penalty": 0.7},
    {"min_p": 0.05, "past_block": "slide"},
    {"temperature": 0, "no_repeat_ngram_size": 2, "prompt_lookup_num_tokens": 4},
    {"temperature": 0.4, "prompt_lookup_num_tokens": 2, "repetition_penalty": 1.3},
    {"num_beams": 3},
    {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0, "length_penalty": 0.5},
    {"penalty_alpha": 0.6, "top_k": 3},
]


@st.composite
def requests(draw, least: int = 0) -> Request:
    most = draw(st.integers(least, 30))
    fields = {**draw(st.sampled_from(SETTINGS)), "max_new_tokens": most}
    choices = draw(st.sampled_from([(), (), ((5,), (5, 6), (7, 8, 9), (9, 9))]))
    if "num_beams" in fields or "penalty_alpha" in fields or "prompt_lookup_num_tokens" in fields:
        choices = ()
    else:
        fields["min_new_tokens"] = draw(st.integers(0, min(6, most)))
    return Request(
        draw(st.lists(st.integers(0, 60), min_size=1, max_size=30).map(tuple)),
        GenerationConfig(**fields),
        draw(st.integers(0, 2**31 - 1)),
        draw(st.frozensets(st.integers(0, 60), max_size=8)),
        source=draw(st.lists(st.integers(0, 60), min_size=1, max_size=9).map(tuple)),
        bad_ids=draw(st.sampled_from([(), ((1,), (2, 3))])),
        choice_ids=choices,
    )


def without_source(asked: Request) -> Request:
    return Request(asked.ids, asked.config, asked.seed, asked.stop_ids, (), asked.bad_ids, asked.choice_ids)


def texts(result: EngineResult) -> tuple:
    return result.text, [each.ids for each in result.hypotheses]


@pytest.mark.parametrize("name", ["modern, grouped", "n-grams", "seq2seq"])
@settings(max_examples=12, deadline=None, derandomize=True)
@given(mixed=st.lists(requests(), min_size=2, max_size=7), slots=st.integers(1, 5))
def test_requests_of_every_strategy_give_the_same_text_alone_and_in_a_batch(name, build, run, mixed, slots):
    model = build(**MODELS[name], block_size=12, n_layer=1)
    mixed = mixed if name == "seq2seq" else [without_source(asked) for asked in mixed]
    together = run(model, mixed, slots)
    for asked, result in zip(mixed, together, strict=True):
        assert texts(result) == texts(run(model, [asked])[0])


def test_the_text_depends_on_the_seed_and_not_on_the_place_in_the_batch(build, run):
    model = build()
    same, other = (Request(PROMPTS[1], GenerationConfig(max_new_tokens=15), seed=seed) for seed in (3, 4))
    first, between, last = run(model, [same, other, same])
    assert first.ids == last.ids
    assert between.ids != first.ids


# --- Slots


def many(count: int = 20) -> list[Request]:
    return [
        Request([*PROMPTS[n % 5], n], GenerationConfig(max_new_tokens=1 + n * 7 % 19, temperature=0.9), seed=n)
        for n in range(count)
    ]


@pytest.mark.parametrize("name", MODELS)
def test_three_slots_generate_twenty_texts_as_alone(name, build, run):
    model = build(**MODELS[name])
    waiting = for_model(model, many())
    result = run(model, waiting, 3)
    assert [each.text for each in result] == [token_by_token(model, asked)[:2] for asked in waiting]


def test_a_slot_is_refilled_at_the_next_step_and_never_overfilled(build):
    engine = Engine(build(), slots=3)
    asked = many()
    for each in asked:
        engine.submit(each)
    steps, left = 0, [each.config.max_new_tokens for each in asked]
    expected: list[int] = []  # the requests that get a token at each step, if no slot is ever empty
    running: list[int] = []
    queue = list(range(20))
    while not engine.is_idle:
        while queue and len(running) < 3:
            running.append(queue.pop(0))
        expected = sorted(running)
        events = engine.step()
        assert sorted(event.request for event in events if isinstance(event, GeneratedToken)) == expected
        for number in list(running):
            left[number] -= 1
            if not left[number]:
                running.remove(number)
                assert Finish(number, "length") in events
        steps += 1
    assert not queue
    assert not running


def test_beams_and_contrastive_texts_take_slots_too(build):
    engine = Engine(build(), slots=2)
    config = {"max_new_tokens": 4}
    for fields in ({"num_beams": 3}, {"penalty_alpha": 0.5, "top_k": 2}, {}, {"num_beams": 2}):
        engine.submit(Request([1], GenerationConfig(**config, **fields), report_beams=True))
    result: dict[int, list[int]] = defaultdict(list)
    for step in range(20):
        if engine.is_idle:
            break
        for event in engine.step():
            result[event.request].append(step)
    assert max(result[0] + result[1]) < min(result[2] + result[3])
    assert set(result) == {0, 1, 2, 3}


def drained(engine: Engine, result: dict[int, list] | None = None) -> dict[int, list]:
    result = defaultdict(list) if result is None else result
    while not engine.is_idle:
        for event in engine.step():
            result[event.request].append(event)
    return result


def text_of(events: list) -> tuple[list[int], str]:
    return [event.id for event in events if isinstance(event, GeneratedToken)], events[-1].reason


@pytest.mark.parametrize("name", ["gpt2", "n-grams", "seq2seq"])
def test_requests_may_come_at_any_time(name, build):
    model = build(**MODELS[name])
    waiting = for_model(model, many(12))
    engine, result = Engine(model, slots=4), defaultdict(list)
    numbers = [engine.submit(each) for each in waiting[:3]]
    for late in waiting[3:]:
        for event in engine.step():
            result[event.request].append(event)
        numbers.append(engine.submit(late))
    drained(engine, result)
    assert numbers == list(range(12))
    assert [text_of(result[number]) for number in numbers] == [token_by_token(model, asked)[:2] for asked in waiting]
    again = engine.submit(waiting[5])  # after all was done
    assert text_of(drained(engine)[again]) == text_of(result[5])


# --- Cancelling


@pytest.mark.parametrize("name", ["gpt2", "n-grams", "seq2seq"])
@pytest.mark.parametrize("after", [0, 1, 4])
def test_cancelling_a_request_does_not_change_the_others(name, after, build):
    model = build(**MODELS[name])
    fields = [{"temperature": 0.9}, {"num_beams": 3}, {"penalty_alpha": 0.5, "top_k": 3}, {}, {"temperature": 0}]
    waiting = for_model(
        model,
        [
            Request(prompt, GenerationConfig(max_new_tokens=12, **each), seed=7)
            for prompt, each in zip(PROMPTS, fields, strict=True)
        ],
    )
    whole = _of_all(model, waiting)
    for cancelled in ([0], [1], [2], [4], [0, 1, 3]):
        engine, result = Engine(model, slots=4), defaultdict(list)  # the last one waits
        for each in waiting:
            engine.submit(each)
        for _ in range(after):
            for event in engine.step():
                result[event.request].append(event)
        for number in cancelled:
            engine.cancel(number)
        drained(engine, result)
        for number in range(5):
            if number in cancelled:
                written, reason = text_of(result[number])
                assert reason == "cancelled"
                assert written == whole[number][0][: len(written)]
                assert len(written) == (0 if number in (1, 4) else after)
            else:
                assert text_of(result[number]) == whole[number]


def _of_all(model, waiting) -> list[tuple[list[int], str]]:
    engine = Engine(model)
    for each in waiting:
        engine.submit(each)
    result = drained(engine)
    assert [result[1][-1].hypotheses[0].ids] == [tuple(beams(model, waiting[1])[0][1])]
    return [text_of(result[number]) for number in range(len(waiting))]


def test_a_request_is_cancelled_once_and_not_after_its_end(build):
    engine = Engine(build(), slots=1)
    done, running, waiting = (engine.submit(Request([n], GenerationConfig(max_new_tokens=2))) for n in (1, 2, 3))
    for _ in range(3):
        engine.step()
    for number in (done, running, waiting, running, waiting, 99):
        engine.cancel(number)
    assert not engine.is_idle
    assert sorted(engine.step(), key=lambda event: event.request) == [
        Finish(running, "cancelled"),
        Finish(waiting, "cancelled"),
    ]
    assert engine.is_idle
    assert engine.step() == []


def test_an_empty_prompt_is_rejected_and_takes_no_slot(build):
    engine = Engine(build())
    with pytest.raises(DataError, match="prompt has no tokens"):
        engine.submit(Request([]))
    assert engine.is_idle
    assert engine.submit(Request([1])) == 0


def test_a_search_reports_each_step_when_it_is_done(build):
    engine = Engine(build())
    engine.submit(Request([1], GenerationConfig(max_new_tokens=3, num_beams=2), report_beams=True))
    kinds = [[type(event) for event in engine.step()] for _ in range(3)]
    assert kinds == [[BeamStep], [BeamStep], [BeamStep, GeneratedToken, GeneratedToken, GeneratedToken, Finish]]
