"""``penna chat``: commands, the window of turns, transcripts, and a reply that is stopped."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penna.api.chat import ChatSettings, Conversation
from penna.api.chat_metrics import evaluate_chat
from penna.api.complete import completer
from penna.api.generate import generate_stream
from penna.cli.console import printable
from penna.cli.evaluate import print_metrics
from penna.cli.main import run
from penna.config.generation import GenerationConfig
from penna.config.sections import DataConfig, ModelConfig, TokenizerConfig
from penna.config.tasks import ClassifyTask
from penna.data.sources.fields import messages_of
from penna.data.sources.records import BadRecord, Record
from penna.errors import DataError, DeviceError, PennaError, RecipeError, RunError, TokenizerError
from penna.generate import engine
from penna.generate.request import Finish, GeneratedToken, Request
from penna.loading import LoadedModel
from penna.model.seq2seq import build_model
from penna.storage import to_json
from penna.tokenizer.chat import encode_chat, with_chat_template
from penna.tokenizer.chat_template import Message
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer

PLAIN = train_tokenizer(TokenizerConfig(kind="char"), ["abcdefghijklmnopqrstuvwxyz 0123456789"])
CHATTING = with_chat_template(PLAIN, "penna")


def loaded(tokenizer: Tokenizer = CHATTING, **model: Any) -> LoadedModel:
    config = ModelConfig(n_layer=1, n_head=2, n_embd=16, vocab_size=tokenizer.vocab_size, **{"block_size": 64, **model})
    gpt = build_model(config)
    gpt.init_weights(1)
    return LoadedModel(gpt.eval(), tokenizer, Path("tiny"), None)


class Scripted:
    """An engine that returns one of these events per step."""

    def __init__(self, events: Iterator[GeneratedToken | Finish]) -> None:
        self.is_idle = False
        self._events = events

    def step(self) -> list[GeneratedToken | Finish]:
        event = next(self._events)
        self.is_idle = isinstance(event, Finish)
        return [event]


def answer_by(
    monkeypatch: pytest.MonkeyPatch, events: Callable[[list[Request]], Iterator[GeneratedToken | Finish]]
) -> None:
    monkeypatch.setattr("penna.generate.text_stream.engine_for", lambda _, asked, slots: Scripted(events(asked)))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """The engine replies to every request with its number, and records the requests."""
    requests: list[Request] = []

    def answer(batch: list[Request]) -> Iterator[GeneratedToken | Finish]:
        requests.extend(batch)
        for index in PLAIN.encode(f"r{len(requests)}"):
            yield GeneratedToken(0, index, -0.5, 1)
        yield GeneratedToken(0, CHATTING.special_tokens["<|user|>"], -0.5, 1)
        yield Finish(0, "stop")

    answer_by(monkeypatch, answer)
    return requests


def say(talk: Conversation, text: str) -> str:
    return "".join(talk.say(text))


def read(request: Request) -> str:
    return CHATTING.decode(request.ids)


def test_a_reply_continues_the_whole_conversation() -> None:
    """Compared with the engine alone, on a prompt built by hand."""
    model = loaded()
    config = GenerationConfig(max_new_tokens=6)
    talk = Conversation(model, ChatSettings(config, seed=5))
    for number, line in enumerate(("hello", "more")):
        ids, _ = encode_chat(CHATTING, [*talk.messages, Message("user", line)], add_generation_prompt=True)
        stops = frozenset({CHATTING.special_tokens["<|end|>"], CHATTING.special_tokens["<|endoftext|>"]})
        alone = Request(ids, config, 5 + number, stops)
        expected = [event.id for event in engine.generate(model.model, [alone]) if isinstance(event, GeneratedToken)]
        special = CHATTING.special_tokens.values()
        assert say(talk, line) == CHATTING.decode([index for index in expected if index not in special])


def test_turns_are_kept_undone_retried_and_reset(asked: list[Request]) -> None:
    talk = Conversation(loaded(), ChatSettings(system="be"))
    assert say(talk, "a") == "r1"  # the control token that was drawn is not shown
    assert say(talk, "b") == "r2"
    assert read(asked[1]) == "<|endoftext|><|system|>be<|user|>a<|assistant|>r1<|end|><|user|>b<|assistant|>"
    assert "".join(talk.retry()) == "r3"
    assert asked[2].ids == asked[1].ids
    assert asked[2].seed != asked[1].seed
    assert talk.undo() == "b"
    assert [message.content for message in talk.messages] == ["be", "a", "r1"]
    talk.reset()
    assert [message.content for message in talk.messages] == ["be"]
    say(talk, "c")
    assert read(asked[3]) == "<|endoftext|><|system|>be<|user|>c<|assistant|>"
    assert [len(row["messages"]) for row in talk.transcript()] == [3, 3]
    with pytest.raises(DataError, match="Nothing was said yet"):
        Conversation(loaded()).undo()


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, "abcd"),
        ({"history_turns": 2}, "cd"),
        ({"history_turns": 3}, "cd"),
        ({"history_turns": 0}, "d"),
        ({"history_tokens": 10}, "cd"),
        ({"history_tokens": 9}, "d"),
    ],
)
def test_the_oldest_whole_exchanges_leave_the_window_first(
    settings: dict[str, int], kept: str, asked: list[Request]
) -> None:
    talk = Conversation(loaded(), ChatSettings(**settings))
    for line in "abcd":
        say(talk, line)
    said = [letter for letter in "abcd" if f"<|user|>{letter}" in read(asked[-1])]
    assert "".join(said) == kept
    assert read(asked[-1]).startswith("<|endoftext|><|user|>")
    reply = talk.last_reply
    assert reply is not None
    assert reply.forgotten == 2 * (4 - len(kept))
    assert len(talk.messages) == 8  # the conversation itself forgets nothing


def test_the_window_leaves_space_for_the_reply(asked: list[Request]) -> None:
    talk = Conversation(loaded(), ChatSettings(GenerationConfig(max_new_tokens=30)))
    for number in range(9):
        say(talk, f"line {number}")
        assert len(asked[-1].ids) <= 64 - 30
    with pytest.raises(DataError, match="The line takes 43 tokens") as raised:
        talk.say("x" * 40)
    assert "At most 34" in raised.value.expected
    assert len(talk.messages) == 18


def test_a_reply_that_is_stopped_is_kept_up_to_there(asked: list[Request]) -> None:
    talk = Conversation(loaded())
    pieces = talk.say("a")
    assert next(pieces) == "r"
    pieces.close()
    assert [message.content for message in talk.messages] == ["a", "r"]
    assert talk.last_reply is not None
    assert talk.last_reply.finish == "interrupted"


def test_an_encoder_reads_the_history_as_its_source(asked: list[Request]) -> None:
    talk = Conversation(loaded(arch="seq2seq", source_size=12), ChatSettings(GenerationConfig(max_new_tokens=60)))
    say(talk, "a")
    say(talk, "b")
    assert CHATTING.decode(asked[1].source) == "<|endoftext|><|user|>a<|assistant|>r1<|end|><|user|>b"
    assert asked[1].ids == [CHATTING.separator_id]
    say(talk, "c")
    assert "<|user|>a" not in CHATTING.decode(asked[2].source)


def test_invalid_settings_and_a_missing_chat_template_are_explained() -> None:
    for wrong in ({"max_new_tokens": 0}, {"history_tokens": 0}, {"history_turns": -1}, {"temperature": -1.0}):
        with pytest.raises(RecipeError, match="cannot be|must be"):
            ChatSettings().with_changes(**wrong)
    with pytest.raises(TokenizerError, match=r"its task is pretrain, and its tokenizer has no chat template"):
        Conversation(loaded(PLAIN))


def test_unreadable_dialogues_are_counted_apart_from_long_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def row(*said: str) -> str:
        turns = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(said)]
        return json.dumps({"messages": turns})

    lines = [row("hi", "ho"), row("hi", "x" * 99), row("hi"), '{"messages": 3}', "{", row("so", "so")]
    (tmp_path / "talk.jsonl").write_text("\n".join(lines))
    monkeypatch.setattr("penna.api.chat_metrics.load_model", lambda *_, **__: loaded())
    given = {"data.path": [str(tmp_path / "talk.jsonl")], "data.allow_bad_records": 0.9}
    figures = evaluate_chat("tiny", given, replies=0)
    assert (figures.dialogues, figures.refused, figures.bad_records) == (2, 1, 3)
    assert to_json(figures)["bad_records"] == 3
    print_metrics(figures)
    assert "bad records  3\n" in capsys.readouterr().out


# --- The terminal


def penna_chat(*words: str) -> int:
    return run(["chat", "tiny", *words, "--debug"])


@pytest.fixture
def at_hand(monkeypatch: pytest.MonkeyPatch, asked: list[Request]) -> list[Request]:
    monkeypatch.setattr("penna.api.load", lambda *_, **__: loaded())
    return asked


def talk_of(monkeypatch: pytest.MonkeyPatch, lines: str, *words: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    return penna_chat(*words)


def test_piped_lines_and_commands(
    at_hand: list[Request], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    saved, kept = tmp_path / "saved.jsonl", tmp_path / "kept.jsonl"
    lines = (
        f"hello\n\n/retry\n//slash\n/undo\n/set temperature=0.5 top_k=none\n/save {saved}\n/reset\nbye\n/quit\nnever\n"
    )
    assert talk_of(monkeypatch, lines, "--transcript", str(kept), "--top-k", "3") == 0
    shown = capsys.readouterr()
    assert shown.out.count("\nr") == 4
    assert "never" not in shown.out
    assert "temperature=0.5 top_k=none" in shown.err
    assert at_hand[0].config.top_k == 3
    assert at_hand[3].config.top_k is None
    assert "<|user|>/slash<" in read(at_hand[2])
    (first,) = [json.loads(line) for line in saved.read_text().splitlines()]
    assert first["messages"] == [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "r2"}]
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [row["messages"][0]["content"] for row in rows] == ["hello", "bye"]
    found = messages_of(Record(rows[0], "kept.jsonl", 1), DataConfig())
    assert not isinstance(found, BadRecord)  # what was said can be learned from
    assert found == (Message("user", "hello"), Message("assistant", "r2"))


def test_every_setting_can_be_changed_between_messages(
    at_hand: list[Request], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = 'a\n/set num_beams=3 stop="x y" history_turns=0\nb\n/set seed=7 greedy system=be good, don\'t\nc\n/set\n'
    assert talk_of(monkeypatch, lines, "--top-p", "0.5") == 0
    configs = [request.config for request in at_hand]
    assert configs[0] == GenerationConfig(max_new_tokens=128, temperature=0.8, top_p=0.5)
    assert configs[1] == GenerationConfig(max_new_tokens=128, num_beams=3, stop=("x y",))
    assert configs[2] == GenerationConfig(max_new_tokens=128, temperature=0, stop=("x y",))
    assert read(at_hand[2]) == "<|endoftext|><|system|>be good, don't<|user|>c<|assistant|>"
    assert at_hand[2].seed == 7 + 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "max_new_tokens=128 temperature=0.0 stop='x y' history_tokens=none history_turns=0 seed=7 system=be good, don't"
    )


def test_a_script_gives_the_same_replies_every_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("penna.api.load", lambda *_, **__: loaded())
    script = tmp_path / "script.txt"
    script.write_text("hello\nhow are you\n")
    outputs = []
    for _ in range(2):
        assert penna_chat("--script", str(script), "--json", "--max-new-tokens", "5", "--seed", "3") == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    rows = [json.loads(line) for line in outputs[0].splitlines()]
    assert [row["user"] for row in rows] == ["hello", "how are you"]
    assert all(row["tokens"] <= 5 for row in rows)


@pytest.mark.parametrize("name", ["zh-small-talk", "zh-decision"])
def test_the_shipped_scripts_are_found_by_name(
    name: str, at_hand: list[Request], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penna.api.load", lambda *_, **__: loaded(block_size=512))
    assert penna_chat("--script", name) == 0
    assert len(at_hand) == 4


def test_ctrl_c_stops_the_reply_and_not_the_conversation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    calls: list[Request] = []

    def interrupted(batch: list[Request]) -> Iterator[GeneratedToken | Finish]:
        calls.extend(batch)
        yield GeneratedToken(0, PLAIN.encode("x")[0], -0.5, 1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        yield Finish(0, "stop")

    answer_by(monkeypatch, interrupted)
    monkeypatch.setattr("penna.api.load", lambda *_, **__: loaded())
    kept = tmp_path / "kept.jsonl"
    assert talk_of(monkeypatch, "a\nb\n", "--transcript", str(kept)) == 0
    assert read(calls[1]) == "<|endoftext|><|user|>a<|assistant|>x<|end|><|user|>b<|assistant|>"
    (row,) = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [reply["finish"] for reply in row["replies"]] == ["interrupted", "stop"]


def test_mistakes_at_the_keyboard_are_reported_and_ctrl_d_quits(
    at_hand: list[Request], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = iter(["/nonsense", "/set heat=3", "/set top_k=few", "hello"])

    def keyboard(prompt: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", keyboard)
    monkeypatch.setattr("sys.stdin", type("Terminal", (io.StringIO,), {"isatty": lambda self: True})())
    assert penna_chat() == 0
    shown = capsys.readouterr()
    assert "There is no command /nonsense." in shown.err
    assert "'heat=3' is not a setting" in shown.err
    assert "top_k must be a whole number or none (got 'few')" in shown.err
    assert shown.out.startswith("r1\n")


def test_generated_escape_sequences_do_not_reach_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def escape(batch: list[Request]) -> Iterator[GeneratedToken | Finish]:
        yield from (GeneratedToken(0, index, -0.5, 1) for index in PLAIN.encode("\x1b[2J"))
        yield Finish(0, "stop")

    answer_by(monkeypatch, escape)
    monkeypatch.setattr("penna.api.load", lambda *_, **__: loaded())
    assert talk_of(monkeypatch, "a\n") == 0
    assert "\x1b[2J" in capsys.readouterr().out  # a file gets what was written
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert talk_of(monkeypatch, "a\n") == 0
    assert capsys.readouterr().out.endswith("·[2J\n")


def test_only_control_characters_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert printable("\x00\x07\x08\r\x1b\x7f\x80\x9b\x9f") == "·" * 9
    for kept in ("a\tb\nc", "한국어 中文\u3000。", "👩\u200d👧", "می\u200cروم", "\xa0é"):
        assert printable(kept) == kept


@pytest.mark.parametrize("learned", [True, False])
def test_a_model_that_cannot_generate_is_refused_by_its_task(learned: bool) -> None:
    task = ClassifyTask(labels=["a", "b"], lm_weight=0.5 if learned else 0)
    model = replace(loaded(), default_task=task)
    if learned:
        assert Conversation(model).messages == ()
        return
    with pytest.raises(
        RunError, match=r"never trained to generate text: its task is classify, with lm_weight = 0\."
    ) as raised:
        Conversation(model)
    assert "penna classify" in raised.value.advice
    with pytest.raises(RunError, match="never trained to generate text"):
        generate_stream(model, ["a"])
    with pytest.raises(RunError, match="never trained to generate text"):
        completer(model)


def test_an_unwritable_transcript_is_refused_before_the_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("penna.api.load", lambda *_, **__: pytest.fail("the model was loaded"))
    for wrong, why in ((tmp_path / "no" / "talk.jsonl", "No such file"), (tmp_path, "is a folder")):
        with pytest.raises(DeviceError, match=why):
            talk_of(monkeypatch, "a\n", "--transcript", str(wrong))
    kept = tmp_path / "kept.jsonl"
    kept.write_text("from before")
    with pytest.raises(pytest.fail.Exception):
        talk_of(monkeypatch, "a\n", "--transcript", str(kept))
    assert kept.read_text() == "from before"
    assert [path.name for path in tmp_path.iterdir()] == ["kept.jsonl"]


def test_a_missing_script_is_refused() -> None:
    with pytest.raises(PennaError, match="script nowhere cannot be read"):
        penna_chat("--script", "nowhere")
