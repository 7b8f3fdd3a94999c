"""A conversation in versions: its replies are those of `penna chat`, whatever was edited or asked for again."""

import pytest
from tiny_writers import in_time, talker, tiny, working

from penna.api.chat import ChatSettings, Conversation
from penna.config.generation import GenerationConfig
from penna.errors import DataError, PennaError
from penna.studio.conversation import Asked, Exchange, Talk, replied
from penna.tokenizer.chat_template import Message

SETTINGS = ChatSettings(generation=GenerationConfig(max_new_tokens=8, min_new_tokens=4, temperature=0.8), seed=3)


def say(
    loaded, talk: Talk, line: str, settings: ChatSettings = SETTINGS, behind: int | str | None = "here"
) -> Exchange:
    async def work() -> Exchange:
        async with working(loaded) as worker:
            place = talk.branches.current if isinstance(behind, str) else behind
            asked = talk.asked(loaded, settings, line, place)
            number = talk.begin(asked)
            async for exchange in replied(worker, asked):
                talk.branches.put(number, exchange)
            return talk.branches[number].value

    return in_time(work())


def test_a_conversation_is_the_one_of_the_terminal_window_and_all():
    loaded = talker()
    talk, terminal = Talk(), Conversation(loaded, SETTINGS)
    for line in ("abc", "hello there", "what is it, then", "so", "the end of it."):
        reply = "".join(terminal.say(line))
        told = say(loaded, talk, line)
        last = terminal.last_reply
        assert last is not None
        assert (told.reply, told.finish, told.tokens) == (reply, last.finish, last.tokens)
        assert (told.read.forgotten, told.seed) == (last.forgotten, last.seed)
        assert told.logprob == pytest.approx(last.logprob)
        assert talk.messages(SETTINGS, talk.branches.current) == terminal.messages
    assert talk.unread() == last.forgotten > 0


def test_what_is_read_is_told_as_the_template_writes_it():
    loaded = talker()
    talk = Talk()
    for line in ("abc", "hello there", "what is it, then", "so"):
        told = say(loaded, talk, line)
    read = told.read
    said = [read.rendered.text[first:last] for first, last in read.rendered.content_spans]
    everything = [message.content for message in talk.messages(SETTINGS, talk.branches.current)[:-1]]
    assert said == everything[read.forgotten :]
    assert read.rendered.text.endswith("<|assistant|>")
    assert read.tokens == len(loaded.require_tokenizer().template_encoder.encode(read.rendered.text).ids) <= read.room


def test_an_edited_line_begins_a_version_and_the_older_one_stays():
    loaded = talker()
    talk = Talk()
    first = [say(loaded, talk, line) for line in ("abc", "def")]
    edited = say(loaded, talk, "xyz", behind=0)
    assert [node.value.line for node in talk.exchanges] == ["abc", "xyz"]
    assert talk.messages(SETTINGS, talk.branches.current)[:2] == (
        Message("user", "abc"),
        Message("assistant", first[0].reply),
    )
    assert talk.branches.versions(2) == [1, 2]
    talk.version(1)
    assert [node.value for node in talk.exchanges] == first
    talk.version(2)
    assert talk.exchanges[-1].value == edited


def test_another_reply_has_another_seed_and_reads_the_same():
    loaded = talker()
    talk = Talk()
    first = say(loaded, talk, "abc")
    again = say(loaded, talk, "abc", behind=None)
    assert again.read == first.read
    assert again.seed != first.seed
    assert again.reply != first.reply


def test_a_line_too_long_is_refused_and_nothing_was_said():
    loaded = talker()
    talk = Talk()
    say(loaded, talk, "abc")
    for line, settings in (
        ("a" * 60, SETTINGS),
        ("", SETTINGS),
        ("  ", SETTINGS),
        ("abcdef", SETTINGS.with_changes(history_tokens=3)),
    ):
        with pytest.raises(DataError):
            talk.asked(loaded, settings, line, 0)
    assert len(talk.exchanges) == 1


def test_a_model_without_dialogues_is_refused():
    with pytest.raises(PennaError):
        Talk().asked(tiny(), SETTINGS, "abc", None)


def test_a_limit_of_turns_forgets_them():
    loaded = talker()
    talk = Talk()
    for line in ("a", "b", "c"):
        asked: Asked = talk.asked(loaded, SETTINGS.with_changes(history_turns=2), line, talk.branches.current)
        say(loaded, talk, line, SETTINGS.with_changes(history_turns=2))
    assert asked.read.forgotten == 2
