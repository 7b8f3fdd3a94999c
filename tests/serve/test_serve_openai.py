"""OpenAI's official client against a real server."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
import torch
from served import BLOCK, LETTERS, Running, events, made_runs, running

from penna.api.chat import ChatSettings, Conversation
from penna.api.complete import completer
from penna.api.generate import generate_stream, prompt_request
from penna.config.generation import GenerationConfig
from penna.generate.text_stream import generate_texts
from penna.interop.hf_folder import write_hf
from penna.tokenizer.stream_decoder import StreamDecoder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(made_runs(tmp_path_factory.mktemp("runs"))) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as found:
        yield found


def alone(server: Running, name: str, prompt: str, seed: int, **settings: object) -> str:
    config = GenerationConfig(**settings)
    return "".join(piece.text for piece in generate_stream(server.loaded(name), [prompt], config, seed=seed))


def spelled(tokens: list[str]) -> str:
    """The text of tokens as /v1/completions tells them."""
    found = b"".join(
        bytes.fromhex(token.removeprefix("bytes:").replace("\\x", "")) if token.startswith("bytes:") else token.encode()
        for token in tokens
    )
    return found.decode("utf-8", "replace")


def test_models_are_listed_by_name(client: openai.OpenAI):
    assert [model.id for model in client.models.list()] == ["writer", "words", "talker", "teller", "summer"]
    found = client.models.retrieve("talker")
    assert (found.id, found.object, found.owned_by) == ("talker", "model", "penna")
    assert found.model_extra is not None
    assert found.model_extra["task"] == "chat"
    with pytest.raises(openai.NotFoundError, match="no model 'nobody'"):
        client.models.retrieve("nobody")


def test_a_completion_matches_the_engine(client: openai.OpenAI, server: Running):
    found = client.completions.create(model="writer", prompt="the rain", seed=5, max_tokens=12, temperature=0.9)
    assert found.choices[0].text == alone(server, "writer", "the rain", 5, max_new_tokens=12, temperature=0.9)
    assert found.choices[0].finish_reason == "length"
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens) == (8, 12, 20)
    assert found.model == "writer"
    assert found.object == "text_completion"


def test_every_prompt_gets_n_texts_with_consecutive_seeds(client: openai.OpenAI, server: Running):
    found = client.completions.create(model="words", prompt=["the", "rain in"], n=3, seed=7, max_tokens=6)
    wanted = [
        alone(server, "words", prompt, 7 + extra, max_new_tokens=6, temperature=0.8)
        for prompt in ("the", "rain in")
        for extra in range(3)
    ]
    assert [choice.text for choice in found.choices] == wanted
    assert [choice.index for choice in found.choices] == list(range(6))
    assert found.usage is not None
    loaded = server.loaded("words").require_tokenizer()
    assert found.usage.prompt_tokens == len(loaded.encode("the")) + len(loaded.encode("rain in"))
    assert found.usage.completion_tokens == 36


def test_without_a_seed_texts_differ_and_the_response_reports_the_seed(client: openai.OpenAI):
    first, second = (client.completions.create(model="writer", prompt="a", max_tokens=20) for _ in range(2))
    assert first.choices[0].text != second.choices[0].text
    assert first.model_extra is not None
    again = client.completions.create(model="writer", prompt="a", max_tokens=20, seed=first.model_extra["seed"])
    assert again.choices[0].text == first.choices[0].text


def test_a_stream_has_the_same_text_then_usage_then_done(client: openai.OpenAI, server: Running):
    asked: dict[str, Any] = {"model": "words", "prompt": ["the", "비가"], "n": 2, "seed": 1, "max_tokens": 9}
    whole = client.completions.create(**asked)
    texts = ["", "", "", ""]
    ends: dict[int, str] = {}
    used = None
    for chunk in client.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        used = chunk.usage
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            if choice.finish_reason:
                ends[choice.index] = choice.finish_reason
    assert texts == [choice.text for choice in whole.choices]
    assert ends == {choice.index: choice.finish_reason for choice in whole.choices}
    assert used == whole.usage
    with server.client() as plain, plain.stream("POST", "/v1/completions", json={**asked, "stream": True}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        result = events(answer.iter_lines())
    assert result[-1] == "[DONE]"
    assert all(json.loads(line)["usage"] is None for line in result[:-1])


def test_a_stop_string_ends_a_text_without_it_and_without_its_tokens(client: openai.OpenAI, server: Running):
    free = alone(server, "writer", "the rain", 3, max_new_tokens=30)
    stop = free[10:12]
    at = free.index(stop)
    asked: dict[str, Any] = {
        "model": "writer",
        "prompt": "the rain",
        "seed": 3,
        "max_tokens": 30,
        "temperature": 1.0,
        "logprobs": 0,
    }
    found = client.completions.create(**asked, stop=[stop, "never there"]).choices[0]
    assert (found.text, found.finish_reason) == (free[:at], "stop")
    assert found.logprobs is not None
    assert spelled(found.logprobs.tokens or []) == free[:at]
    streamed = [
        chunk.choices[0] for chunk in client.completions.create(**asked, stop=stop, stream=True) if chunk.choices
    ]
    assert "".join(choice.text for choice in streamed) == free[:at]
    result = [token for choice in streamed if choice.logprobs for token in choice.logprobs.tokens or []]
    assert spelled(result) == free[:at]


def test_logprobs_match_the_model(client: openai.OpenAI, server: Running):
    found = client.completions.create(model="words", prompt="the rain", seed=2, max_tokens=8, logprobs=3, echo=False)
    result = found.choices[0].logprobs
    assert result is not None
    assert result.token_logprobs is not None
    assert result.top_logprobs is not None
    assert result.text_offset is not None
    loaded = server.loaded("words")
    tokenizer = loaded.require_tokenizer()
    ids = tokenizer.encode("the rain")
    written = generate_texts(
        loaded.model,
        tokenizer,
        [prompt_request(loaded, "the rain", GenerationConfig(max_new_tokens=8, temperature=0.8), seed=2)],
    )[0]
    with torch.inference_mode():
        table = loaded.model(torch.tensor([[*ids, *written.ids]]))[0, len(ids) - 1 : -1].log_softmax(-1)
    expected = table[torch.arange(8), torch.tensor(written.ids)]
    assert result.token_logprobs == pytest.approx(expected.tolist(), abs=1e-4)
    for row, top in zip(table, result.top_logprobs, strict=True):
        assert max(top.values()) == pytest.approx(float(row.max()), abs=1e-4)
        assert len(top) in (3, 4)
    decoder = StreamDecoder(tokenizer, mid_text=True)
    before = 0
    for index, offset in zip(written.ids, result.text_offset, strict=True):
        assert offset == before
        before += len(decoder.push(index))


def test_echo_returns_the_prompt_and_prompts_may_be_ids(client: openai.OpenAI, server: Running):
    plain = client.completions.create(model="writer", prompt="the rain", seed=1, max_tokens=5).choices[0].text
    assert (
        client.completions.create(model="writer", prompt="the rain", seed=1, max_tokens=5, echo=True).choices[0].text
        == f"the rain{plain}"
    )
    ids = LETTERS.encode("the rain")
    found = client.completions.create(model="writer", prompt=[ids, ids], seed=1, max_tokens=5, echo=True)
    assert [choice.text for choice in found.choices] == [f"the rain{plain}"] * 2
    streamed = client.completions.create(model="writer", prompt=ids, seed=1, max_tokens=5, echo=True, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == f"the rain{plain}"


def test_a_greedy_text_is_returned_n_times_and_generated_once(client: openai.OpenAI, server: Running):
    found = client.completions.create(
        model="writer", prompt="the", temperature=0, top_p=1, n=3, max_tokens=7, presence_penalty=0, frequency_penalty=0
    )
    assert [choice.text for choice in found.choices] == [
        alone(server, "writer", "the", 0, temperature=0, max_new_tokens=7)
    ] * 3
    assert found.usage is not None
    assert found.usage.completion_tokens == 7


def test_a_beam_search_returns_its_n_best_texts(client: openai.OpenAI, server: Running):
    settings = {"num_beams": 4, "max_new_tokens": 8}
    loaded = server.loaded("writer")
    best = generate_texts(loaded.model, LETTERS, [prompt_request(loaded, "the", GenerationConfig(**settings))])[
        0
    ].hypotheses
    asked: dict[str, Any] = {"model": "writer", "prompt": "the", "n": 3, "logprobs": 0, "extra_body": settings}
    found = client.completions.create(**asked)
    assert [choice.text for choice in found.choices] == [LETTERS.decode(each.ids) for each in best[:3]]
    result = found.choices[1].logprobs
    assert result is not None
    assert sum(result.token_logprobs or []) == pytest.approx(sum(token.logprob for token in best[1].tokens), abs=1e-4)
    streamed = {
        chunk.choices[0].index: chunk.choices[0].text for chunk in client.completions.create(**asked, stream=True)
    }
    assert [streamed[index] for index in range(3)] == [choice.text for choice in found.choices]


def test_pennas_own_settings_work_as_in_the_engine(client: openai.OpenAI, server: Running):
    settings = {"top_k": 3, "min_p": 0.01, "repetition_penalty": 1.3, "no_repeat_ngram_size": 3, "bad_words": ["e"]}
    more: dict[str, Any] = {"frequency_penalty": 0.7, "presence_penalty": 0.4, "temperature": 1.2}
    found = client.completions.create(model="writer", prompt="the", seed=4, max_tokens=25, extra_body=settings, **more)
    assert found.choices[0].text == alone(server, "writer", "the", 4, max_new_tokens=25, **settings, **more)
    assert "e" not in found.choices[0].text


def test_a_completion_model_reads_prompts_as_in_training(client: openai.OpenAI, server: Running):
    reader = completer(server.loaded("summer"))
    text = "the rain in spain stays mainly in the plain, and so on, and so on."
    wanted = reader.generate(reader.requests([text], GenerationConfig(temperature=0, max_new_tokens=9))[0])[0].text
    found = client.completions.create(model="summer", prompt=text, max_tokens=9)
    assert found.choices[0].text.strip() == wanted
    assert found.choices[0].text == found.choices[0].text.lstrip()


def test_a_reply_matches_conversation(client: openai.OpenAI, server: Running):
    settings = ChatSettings(GenerationConfig(max_new_tokens=10, temperature=0.8), seed=6, system="be brief.")
    conversation = Conversation(server.loaded("talker"), settings)
    wanted = "".join(conversation.say("good day."))
    for role in ("system", "developer"):
        found = client.chat.completions.create(
            model="talker",
            messages=[
                {"role": role, "content": "be brief."},  # type: ignore[misc]
                {"role": "user", "content": [{"type": "text", "text": "good "}, {"type": "text", "text": "day."}]},
            ],
            seed=6,
            max_completion_tokens=10,
        )
        assert found.choices[0].message.content == wanted
        assert found.choices[0].message.role == "assistant"
    last = conversation.last_reply
    assert last is not None
    assert found.usage is not None
    assert found.usage.completion_tokens == last.tokens


def test_a_streamed_reply_starts_with_its_role_and_has_the_same_text(client: openai.OpenAI):
    asked: dict[str, Any] = {
        "model": "talker",
        "messages": [{"role": "user", "content": "hi"}],
        "seed": 1,
        "n": 2,
        "max_tokens": 8,
        "logprobs": True,
        "top_logprobs": 2,
    }
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True))
    for index, choice in enumerate(whole.choices):
        own = [each for chunk in chunks for each in chunk.choices if each.index == index]
        assert own[0].delta.role == "assistant"
        assert "".join(each.delta.content or "" for each in own) == choice.message.content
        assert own[-1].finish_reason == choice.finish_reason
        result = [token for each in own if each.logprobs for token in each.logprobs.content or []]
        assert choice.logprobs is not None
        assert result == choice.logprobs.content
        for token in result:
            assert bytes(token.bytes or []).decode("utf-8", "replace") == token.token
            assert len(token.top_logprobs) == 2
            assert token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob


def test_the_oldest_exchanges_of_a_long_dialogue_are_dropped(client: openai.OpenAI, server: Running):
    turns = [
        message
        for number in range(6)
        for message in (
            {"role": "user", "content": f"line {'abcdef'[number]}"},
            {"role": "assistant", "content": "yes"},
        )
    ]
    asked = [*turns, {"role": "user", "content": "and now"}]
    found = client.chat.completions.create(model="talker", messages=asked, seed=1, max_tokens=5)  # type: ignore[arg-type]
    assert found.model_extra is not None
    forgotten = found.model_extra["forgotten"]
    assert forgotten > 0
    assert forgotten % 2 == 0
    kept = client.chat.completions.create(model="talker", messages=asked[forgotten:], seed=1, max_tokens=5)  # type: ignore[arg-type]
    assert kept.model_extra is not None
    assert kept.model_extra["forgotten"] == 0
    assert kept.choices[0].message.content == found.choices[0].message.content
    assert found.usage is not None
    assert found.usage.prompt_tokens <= BLOCK


@pytest.mark.parametrize("given", ["texts", "ids"])
def test_embeddings_are_the_mean_of_transformers_last_hidden_states(
    client: openai.OpenAI, server: Running, given: str, tmp_path_factory: pytest.TempPathFactory
):
    from transformers import AutoModel

    loaded = server.loaded("writer")
    folder = tmp_path_factory.mktemp("hf") / "model"
    write_hf(loaded.model.config, loaded.model.state_dict(), folder, tokenizer=LETTERS)
    theirs = AutoModel.from_pretrained(folder).eval()
    texts = ["the rain in spain", "é", "plain."]
    asked = texts if given == "texts" else [LETTERS.encode(text) for text in texts]
    found = client.embeddings.create(model="writer", input=asked)
    for row, text in zip(found.data, texts, strict=True):
        with torch.inference_mode():
            states = theirs(torch.tensor([LETTERS.encode(text)])).last_hidden_state[0]
        assert row.embedding == pytest.approx(states.mean(0).tolist(), abs=1e-4)
    assert found.usage.prompt_tokens == sum(len(LETTERS.encode(text)) for text in texts)
    with server.client() as plain:
        raw = plain.post("/v1/embeddings", json={"model": "writer", "input": "é", "encoding_format": "base64"})
    numbers = np.frombuffer(base64.b64decode(raw.json()["data"][0]["embedding"]), dtype="<f4")
    assert numbers.tolist() == pytest.approx(found.data[1].embedding, abs=1e-5)


@pytest.mark.parametrize(
    ("asked", "said", "param"),
    [
        ({"logit_bias": {"5": 1}}, "logit_bias is not supported", "logit_bias"),
        ({"best_of": 3}, "best_of is not supported", "best_of"),
        ({"max_tokens": 9999}, "9,999 tokens", "max_tokens"),
        ({"n": 99}, "n = 99", "n"),
        ({"stop": list("abcde")}, "5 stop strings", "stop"),
        ({"temperature": -1}, "temperature = -1", "temperature"),
        ({"extra_body": {"num_beams": 17}}, "17 beams", "num_beams"),
        ({"extra_body": {"penalty_alpha": 0.5, "top_k": 99}}, "99 candidates", "top_k"),
        ({"extra_body": {"num_beams": 2}, "n": 3}, "n = 3, but num_beams = 2", "n"),
        ({"extra_body": {"max_new_tokens": 3}, "max_tokens": 4}, "contradict each other", "max_new_tokens"),
        ({"extra_body": {"sauce": 1}}, "no field sauce", "sauce"),
        ({"prompt": "x" * (BLOCK + 1)}, "49 tokens", "prompt"),
        ({"prompt": ["x"] * 33}, "33 texts", "prompt"),
        ({"prompt": [999]}, "not a token id", "prompt"),
        ({"echo": True, "logprobs": 1}, "echo and logprobs", "echo"),
        ({"logprobs": 21}, "logprobs = 21", "logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "stream_options"),
    ],
)
def test_unsupported_fields_are_rejected_by_name(client: openai.OpenAI, asked: dict[str, Any], said: str, param: str):
    fields: dict[str, Any] = {"model": "writer", "prompt": "the", "max_tokens": 2}
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**{**fields, **asked})
    body = caught.value.body
    assert isinstance(body, dict)
    assert said in body["message"]
    assert body["param"] == param
    assert body["type"] == "invalid_request_error"


def test_fields_without_effect_are_ignored(client: openai.OpenAI):
    found = client.completions.create(
        model="writer", prompt="the", max_tokens=3, seed=1, user="me", best_of=1, logit_bias={}, suffix=None
    )
    plain = client.completions.create(model="writer", prompt="the", max_tokens=3, seed=1)
    assert found.choices[0].text == plain.choices[0].text
    client.chat.completions.create(
        model="talker",
        messages=[{"role": "user", "content": "hi", "name": "me"}],
        max_tokens=2,
        metadata={"a": "b"},
        store=False,
        tools=[],
        response_format={"type": "text"},
        parallel_tool_calls=False,
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"messages": [{"role": "assistant", "content": "hi"}]}, "Message 1 has the role assistant"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]},
            "Message 2 has the role user",
        ),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            "The last message is not the user's",
        ),
        ({"messages": [{"role": "system", "content": "a"}]}, "The last message is not the user's"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 60}]}, "The line takes 6. tokens"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "a"}]}, "messages"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools is not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format is not supported"),
        ({"top_logprobs": 3}, "top_logprobs is set, but logprobs is not"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y"}}]}]},
            "messages",
        ),
    ],
)
def test_an_invalid_dialogue_is_rejected(client: openai.OpenAI, asked: dict[str, Any], said: str):
    fields: dict[str, Any] = {"model": "talker", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    with pytest.raises(openai.BadRequestError, match=said):
        client.chat.completions.create(**{**fields, **asked})


def test_unknown_models_are_rejected_whatever_their_name(client: openai.OpenAI, server: Running):
    for name in ("nobody", str(server.runs / "writer"), "../writer", "hf://owner/name", "writer/", ""):
        with pytest.raises(openai.NotFoundError) as caught:
            client.completions.create(model=name, prompt="a")
        assert isinstance(caught.value.body, dict)
        assert caught.value.body["code"] == "model_not_found"
        assert "One of: writer, words" in caught.value.body["message"]
