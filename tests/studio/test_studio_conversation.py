"""Conversations: replies equal those of `penna chat`, and every version is kept."""

import pytest
from tiny_studio_models import run_async, running_worker, tiny_chat_model, tiny_model

from penna.api.chat import ChatSettings, Conversation
from penna.config.generation import GenerationConfig
from penna.errors import DataError, PennaError
from penna.studio.conversation import ConversationTree, Exchange, PendingReply, stream_reply
from penna.tokenizer.chat_template import Message

SETTINGS = ChatSettings(generation=GenerationConfig(max_new_tokens=8, min_new_tokens=4, temperature=0.8), seed=3)


def say(
    loaded,
    conversation: ConversationTree,
    line: str,
    settings: ChatSettings = SETTINGS,
    after: int | str | None = "here",
) -> Exchange:
    async def work() -> Exchange:
        async with running_worker(loaded) as worker:
            place = conversation.tree.current if isinstance(after, str) else after
            pending = conversation.prepare(loaded, settings, line, place)
            number = conversation.start(pending)
            async for exchange in stream_reply(worker, pending):
                conversation.tree.replace(number, exchange)
            return conversation.tree[number].value

    return run_async(work())


def test_a_conversation_equals_that_of_the_terminal_including_dropped_turns():
    loaded = tiny_chat_model()
    conversation, terminal = ConversationTree(), Conversation(loaded, SETTINGS)
    for line in ("abc", "hello there", "what is it, then", "so", "the end of it."):
        reply = "".join(terminal.say(line))
        exchange = say(loaded, conversation, line)
        last = terminal.last_reply
        assert last is not None
        assert (exchange.reply, exchange.finish, exchange.tokens) == (reply, last.finish, last.tokens)
        assert (exchange.read.dropped_turns, exchange.seed) == (last.forgotten, last.seed)
        assert exchange.logprob == pytest.approx(last.logprob)
        assert conversation.messages(SETTINGS, conversation.tree.current) == terminal.messages
    assert conversation.dropped_turns == last.forgotten > 0


def test_the_context_is_what_the_template_formats():
    loaded = tiny_chat_model()
    conversation = ConversationTree()
    for line in ("abc", "hello there", "what is it, then", "so"):
        exchange = say(loaded, conversation, line)
    read = exchange.read
    said = [read.rendered.text[first:last] for first, last in read.rendered.content_spans]
    everything = [message.content for message in conversation.messages(SETTINGS, conversation.tree.current)[:-1]]
    assert said == everything[read.dropped_turns :]
    assert read.rendered.text.endswith("<|assistant|>")
    assert (
        read.tokens == len(loaded.require_tokenizer().template_encoder.encode(read.rendered.text).ids) <= read.capacity
    )


def test_editing_a_message_adds_a_version_and_keeps_the_old_one():
    loaded = tiny_chat_model()
    conversation = ConversationTree()
    first = [say(loaded, conversation, line) for line in ("abc", "def")]
    edited = say(loaded, conversation, "xyz", after=0)
    assert [node.value.line for node in conversation.exchanges] == ["abc", "xyz"]
    assert conversation.messages(SETTINGS, conversation.tree.current)[:2] == (
        Message("user", "abc"),
        Message("assistant", first[0].reply),
    )
    assert conversation.tree.siblings(2) == [1, 2]
    conversation.select_version(1)
    assert [node.value for node in conversation.exchanges] == first
    conversation.select_version(2)
    assert conversation.exchanges[-1].value == edited


def test_another_reply_has_another_seed_and_the_same_context():
    loaded = tiny_chat_model()
    conversation = ConversationTree()
    first = say(loaded, conversation, "abc")
    again = say(loaded, conversation, "abc", after=None)
    assert again.read == first.read
    assert again.seed != first.seed
    assert again.reply != first.reply


def test_an_empty_or_too_long_message_is_rejected_and_not_added():
    loaded = tiny_chat_model()
    conversation = ConversationTree()
    say(loaded, conversation, "abc")
    for line, settings in (
        ("a" * 60, SETTINGS),
        ("", SETTINGS),
        ("  ", SETTINGS),
        ("abcdef", SETTINGS.with_changes(history_tokens=3)),
    ):
        with pytest.raises(DataError):
            conversation.prepare(loaded, settings, line, 0)
    assert len(conversation.exchanges) == 1


def test_a_model_without_a_chat_template_is_rejected():
    with pytest.raises(PennaError):
        ConversationTree().prepare(tiny_model(), SETTINGS, "abc", None)


def test_a_limit_of_turns_drops_the_oldest():
    loaded = tiny_chat_model()
    conversation = ConversationTree()
    for line in ("a", "b", "c"):
        pending: PendingReply = conversation.prepare(
            loaded, SETTINGS.with_changes(history_turns=2), line, conversation.tree.current
        )
        say(loaded, conversation, line, SETTINGS.with_changes(history_turns=2))
    assert pending.read.dropped_turns == 2
