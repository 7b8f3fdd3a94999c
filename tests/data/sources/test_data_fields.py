"""Fields: columns have their usual names or the recipe's, and an invalid record has a reason."""

import os
from datetime import datetime
from typing import Any

import pytest

from penna.config.sections import DataConfig
from penna.data.sources.fields import (
    Completion,
    LabeledText,
    Message,
    completion_of,
    labeled_text_of,
    messages_of,
    shape_of,
    text_of,
)
from penna.data.sources.reader import read_records
from penna.data.sources.records import BadRecord, Record


def record(fields: dict[str, Any], file: str = "a.jsonl") -> Record:
    return Record(fields, file, 7)


def config(**fields: object) -> DataConfig:
    return DataConfig(**fields)


def reason(found: object) -> str:
    assert isinstance(found, BadRecord)
    assert str(found) == f"a.jsonl:7: {found.reason}"
    return found.reason


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"sentence": "s", "review": "r"}, "r"),
        ({"review": "r", "article": "a"}, "a"),
        ({"article": "a", "story": "s"}, "s"),
        ({"story": "s", "content": "c"}, "c"),
        ({"content": "c", "document": "d"}, "d"),
        ({"document": "d", "text": "t"}, "t"),
        ({"id": 5, "body": "b"}, "b"),
        ({"body": "b", "label": "good"}, "b"),
        ({"body": "", "id": 5}, ""),
    ],
)
def test_the_text_is_in_the_first_usual_column_or_in_the_only_one_with_a_string(fields: dict[str, Any], text: str):
    assert text_of(record(fields), config()) == text


def test_the_text_column_that_is_named_counts():
    assert text_of(record({"text": "t", "body": "b"}), config(text_column="body")) == "b"
    assert text_of(record({"label": "l", "n": 1}), config(text_column="label")) == "l"
    named = text_of(record({"text": "t"}), config(text_column="body"))
    assert reason(named) == "no field 'body' (found: 'text'; --data.text-column selects another)"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (
            {"title": "t", "body": "b"},
            "no field for the text (found: 'title', 'body'; --data.text-column selects another)",
        ),
        ({"title": None, "body": "b"}, "no field for the text (found: 'title', 'body'"),
        ({}, "no field for the text (found: none"),
        ({"text": ["a"]}, "field 'text' is a list, not text"),
        ({"text": {"a": 1}}, "field 'text' is an object, not text"),
        ({"text": True}, "field 'text' is true or false, not text"),
        ({"text": 2.5}, "field 'text' is a number, not text"),
        ({"text": None}, "field 'text' is nothing, not text"),
        ({"text": b"x"}, "field 'text' is bytes, not text"),
        ({"text": datetime(2020, 1, 2)}, "field 'text' is a date, not text"),
        ({"text": ()}, "field 'text' is a value of another type, not text"),
        ({"text": "half \ud83d"}, "field 'text' contains half a character (a lone surrogate)"),
    ],
)
def test_a_record_without_text_says_why(fields: dict[str, Any], why: str):
    assert reason(text_of(record(fields), config())).startswith(why)


@pytest.mark.parametrize(("label", "as_text"), [("good", "good"), (0, "0"), (-3, "-3"), (True, "True"), ("0", "0")])
def test_labels_come_out_as_strings(label: object, as_text: str):
    assert labeled_text_of(record({"document": "d", "label": label}), config()) == LabeledText("d", as_text)
    other = record({"category": label, "title": "t", "article": "a"})
    chosen = config(label_column="category", text_column="title")
    assert labeled_text_of(other, chosen) == LabeledText("t", as_text)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"text": "t"}, "no field 'label' (found: 'text'; --data.label-column selects another)"),
        ({"text": "t", "label": 1.5}, "field 'label' is a number, not a label (text or a whole number)"),
        ({"text": "t", "label": None}, "field 'label' is nothing, not a label"),
        ({"text": "t", "label": ""}, "the label in field 'label' is empty"),
        ({"text": "t", "label": "\udc00"}, "field 'label' contains half a character"),
        ({"text": 1, "label": "x"}, "field 'text' is a number, not text"),
    ],
)
def test_a_record_without_text_and_label_says_why(fields: dict[str, Any], why: str):
    assert reason(labeled_text_of(record(fields), config())).startswith(why)


def test_messages_are_read_as_openai_and_as_sharegpt_have_them():
    expected = (Message("system", "s"), Message("user", "u"), Message("assistant", "a"), Message("user", "v"))
    turns = [{"role": message.role, "content": message.content, "more": 1} for message in expected]
    assert messages_of(record({"messages": turns}), config()) == expected
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    turns = [{"from": names[message.role], "value": message.content} for message in expected]
    assert messages_of(record({"conversations": turns}), config(messages_column="conversations")) == expected


USER, ASSISTANT, SYSTEM = ({"role": role, "content": "x"} for role in ("user", "assistant", "system"))


@pytest.mark.parametrize(
    ("turns", "why"),
    [
        ([], "field 'messages' is empty"),
        ("hi", "field 'messages' is text, not a list of turns"),
        (["hi"], "turn 1 of 'messages' is text, not an object"),
        ([USER, {"role": "user"}], "turn 2 of 'messages' has no role and content (found: 'role')"),
        ([USER, {"role": "tool", "content": "x"}], "turn 2 of 'messages' has the role 'tool', not system, user"),
        ([USER, {"role": "assistant", "content": None}], "turn 2 of 'messages' has nothing as its content, not text"),
        ([{"role": "user", "content": "\ud800"}], "turn 1 of 'messages' contains half a character"),
        ([ASSISTANT, USER], "turn 1 is the assistant's instead of the user's"),
        ([USER, USER], "turn 2 is the user's instead of the assistant's"),
        ([SYSTEM, USER, ASSISTANT, ASSISTANT], "turn 4 is the assistant's instead of the user's"),
        ([USER, SYSTEM], "turn 2 is the system's instead of the assistant's"),
        ([SYSTEM], "the dialogue has only a system turn"),
    ],
)
def test_invalid_dialogues_have_a_reason(turns: object, why: str):
    assert reason(messages_of(record({"messages": turns}), config())).startswith(why)


def test_a_record_without_turns_says_which_columns_it_has():
    why = reason(messages_of(record({"text": "x"}), config(document="block")))
    assert why == "no field 'messages' (found: 'text'; --data.messages-column selects another)"


def test_a_block_of_plain_text_is_a_dialogue_line_by_line():
    block = record({"text": "hi\r\nho\rhm"}, "talk.txt.gz")
    expected = (Message("user", "hi"), Message("assistant", "ho"), Message("user", "hm"))
    assert messages_of(block, config(document="block")) == expected
    assert text_of(block, config(document="block")) == "hi\r\nho\rhm"
    without = messages_of(block, config())
    assert isinstance(without, BadRecord)
    assert "--data.document block" in without.reason
    row = Record({"text": "hi"}, "hf://owner/name:train", 1)
    assert isinstance(messages_of(row, config(document="block")), BadRecord)


@pytest.mark.parametrize(
    ("fields", "options", "expected"),
    [
        ({"prompt": "p", "completion": "c", "article": "a", "summary": "s"}, {}, ("p", "c")),
        ({"article": "a", "summary": "s", "prompt": "p"}, {}, ("a", "s")),
        ({"q": "p", "a": "c"}, {"prompt_column": "q", "completion_column": "a"}, ("p", "c")),
        ({"title": "t", "article": "a", "summary": "s"}, {"completion_column": "title"}, ("a", "t")),
        ({"title": "t", "article": "a", "summary": "s"}, {"prompt_column": "title"}, ("t", "s")),
    ],
)
def test_prompt_and_completion_or_article_and_summary(
    fields: dict[str, str], options: dict[str, str], expected: tuple[str, str]
):
    assert completion_of(record(fields), config(**options)) == Completion(*expected)
    assert shape_of(fields, config(**options)) == "completion"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"prompt": "p"}, "no field 'completion' (found: 'prompt'; --data.completion-column selects another)"),
        ({"article": "a"}, "no field 'prompt' (found: 'article'; --data.prompt-column selects another)"),
        ({"prompt": "p", "completion": 3}, "field 'completion' is a number, not text"),
        ({"prompt": "\udfff", "completion": ""}, "field 'prompt' contains half a character"),
    ],
)
def test_a_record_without_a_pair_says_why(fields: dict[str, Any], why: str):
    assert reason(completion_of(record(fields), config())).startswith(why)


@pytest.mark.parametrize(
    ("fields", "options", "shape"),
    [
        ({"text": "t"}, {}, "text"),
        ({"body": "t", "n": 1}, {}, "text"),
        ({"id": "1", "document": "d", "label": "0"}, {}, "labeled"),
        ({"messages": [], "text": "t", "label": 1}, {}, "messages"),
        ({"article": "a", "summary": "s", "category": "c"}, {}, "completion"),
        ({"article": "a", "summary": "s", "category": "c"}, {"label_column": "category"}, "labeled"),
        ({"article": "a", "summary": "s"}, {"label_column": "category"}, "completion"),
        ({"a": "x", "b": "y"}, {}, None),
        ({}, {}, None),
    ],
)
def test_the_shape_depends_on_the_columns(fields: dict[str, Any], options: dict[str, str], shape: str | None):
    assert shape_of(fields, config(**options)) == shape


@pytest.mark.skipif("PENNA_DATA" not in os.environ, reason="needs the data sets")
def test_real_summaries_and_labels_are_read():
    summaries = config(path="$PENNA_DATA/summaries/bbc.test.jsonl", label_column="category")
    found = list(read_records(summaries))
    pairs = [completion_of(one, summaries) for one in found]
    labels: list[Any] = [labeled_text_of(one, summaries) for one in found]
    assert len(pairs) == 207 and all(isinstance(pair, Completion) for pair in pairs)
    assert {label.label for label in labels} == {"business", "entertainment", "politics", "sport", "tech"}
