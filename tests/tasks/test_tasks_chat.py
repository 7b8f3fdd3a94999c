"""Chat: dialogues become examples, and examples a trained run."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from penna.api.chat_metrics import evaluate_chat
from penna.api.models import import_model
from penna.api.train import resolve_recipe, resume, train_recipe
from penna.config.generation import GenerationConfig
from penna.config.recipe import build_recipe, merge
from penna.config.schema import Recipe
from penna.config.sections import ModelConfig, TokenizerConfig
from penna.config.tasks import ChatTask
from penna.data.examples.example import Example
from penna.data.sources.records import BadRecord, Record
from penna.errors import DataError
from penna.evaluate.texts.diversity import distinct
from penna.loading import load_model
from penna.runs.checkpoint import MODEL, read_tensors
from penna.runs.folder import RunFolder
from penna.tasks.chat import ChatFormat, drop_oldest_turns, prepare_chat
from penna.tokenizer.chat import encode_chat
from penna.tokenizer.chat_template import Message, Role
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer
from penna.train.events import Event, Notice

LETTERS = "abcdefghijklmnopqrstuvwxyz 你好吗"


def dialogue(*contents: str, system: str | None = None) -> tuple[Message, ...]:
    roles: tuple[Role, Role] = ("user", "assistant")
    turns = tuple(Message(roles[number % 2], content) for number, content in enumerate(contents))
    return turns if system is None else (Message("system", system), *turns)


def form_and_tokenizer(
    loss_on: str = "replies", block: int = 64, template: str = "penna", **model: Any
) -> tuple[ChatFormat, Tokenizer]:
    plain = train_tokenizer(TokenizerConfig(kind="char"), [LETTERS])
    task = ChatTask(loss_on=loss_on, template=template)  # type: ignore[arg-type]
    form = ChatFormat(task, ModelConfig(n_layer=1, n_head=1, n_embd=8, block_size=block, **model))
    return form, form.adapt(plain)


def only(found: list[Any]) -> Example:
    (example,) = found
    assert isinstance(example, Example), example
    return example


def target_text(example: Example, tokenizer: Tokenizer) -> str:
    assert example.target_mask is not None
    return tokenizer.decode(
        [index for index, is_target in zip(example.ids, example.target_mask, strict=True) if is_target]
    )


def test_replies_and_their_stop_tokens_are_targets_and_nothing_after_the_last_is_read() -> None:
    form, tokenizer = form_and_tokenizer()
    example = only(form.encode([dialogue("ab", "cd", "ef", "gh", "nobody answers this")], tokenizer, ()))
    assert (
        tokenizer.decode(example.ids) == "<|endoftext|><|user|>ab<|assistant|>cd<|end|><|user|>ef<|assistant|>gh<|end|>"
    )
    assert target_text(example, tokenizer) == "cd<|end|>gh<|end|>"


def test_all_tokens_of_a_dialogue_are_targets_with_loss_on_all() -> None:
    form, tokenizer = form_and_tokenizer("all")
    example = only(form.encode([dialogue("ab", "cd", "ef")], tokenizer, ()))
    assert example.target_mask is None
    assert tokenizer.decode(example.ids) == "<|endoftext|><|user|>ab<|assistant|>cd<|end|><|user|>ef"


def test_a_dialogue_with_one_turn_has_no_reply() -> None:
    record = Record({"messages": [{"role": "user", "content": "hi"}]}, "d.jsonl", 7)
    data = build_recipe({}).data
    replies, _ = form_and_tokenizer()
    every, _ = form_and_tokenizer("all")
    assert replies.read(record, data) == BadRecord("d.jsonl", 7, "a dialogue with one turn has no reply to learn")
    assert every.read(record, data) == (Message("user", "hi"),)
    wrong = Record(
        {"messages": [{"role": "assistant", "content": "hi"}, {"role": "user", "content": "x"}]}, "d.jsonl", 8
    )
    refused = replies.read(wrong, data)
    assert isinstance(refused, BadRecord)
    assert "turn 1 is the assistant's" in refused.reason


@pytest.mark.parametrize("loss_on", ["replies", "all"])
@pytest.mark.parametrize("empty", ["", " \u3000\n"])
def test_an_empty_reply_is_a_bad_record(loss_on: str, empty: str) -> None:
    form, _ = form_and_tokenizer(loss_on)
    data = build_recipe({}).data

    def read(*contents: str) -> object:
        turns = [{"role": turn.role, "content": turn.content} for turn in dialogue(*contents, system="be")]
        return form.read(Record({"messages": turns}, "d.jsonl", 7), data)

    assert read("hi", "yes", "so?", empty) == BadRecord("d.jsonl", 7, "turn 5 is an empty reply")
    assert read("hi", empty, "so?", "yes") == BadRecord("d.jsonl", 7, "turn 3 is an empty reply")
    assert read(empty, "yes", "so?") == dialogue(empty, "yes", "so?", system="be")  # user turns are no targets


@pytest.mark.parametrize("block", range(8, 40))
@pytest.mark.parametrize("system", [None, "be"])
def test_a_long_dialogue_loses_as_few_of_its_oldest_exchanges_as_possible(block: int, system: str | None) -> None:
    """Compared with all ends of the dialogue, tried one by one."""
    form, tokenizer = form_and_tokenizer(block=block)
    turns = ("ab", "cd", "efgh", "i", "jkl", "mnopq")
    ends = [dialogue(*turns[start:], system=system) for start in range(0, len(turns), 2)]
    fitting = [end for end in ends if len(encode_chat(tokenizer, end)[0]) <= block + 1]
    (found,) = form.encode([ends[0]], tokenizer, ())
    if fitting:
        assert isinstance(found, Example)
        assert list(found.ids) == encode_chat(tokenizer, fitting[0])[0]
        assert found.truncated == (fitting[0] != ends[0])
    else:
        assert isinstance(found, str)
        needed = len(encode_chat(tokenizer, ends[-1])[0]) - 1
        assert f"more than the model's {block}-token context" in found
        assert needed <= int(found.split("--model.block-size ")[1].rstrip(")")) < 2 * needed


def test_dropping_turns_keeps_the_system_turn_and_begins_with_the_user() -> None:
    talk = dialogue("a", "b", "c", "d", "e", system="s")
    assert drop_oldest_turns(talk, lambda end: len(end) <= 4) == dialogue("c", "d", "e", system="s")
    assert drop_oldest_turns(talk, lambda end: len(end) <= 1) is None


def test_a_dialogue_that_the_template_rejects_is_a_bad_record() -> None:
    form, tokenizer = form_and_tokenizer(template="cls-sep")
    refused, example = form.encode([dialogue("ab", "cd", system="s"), dialogue("ab", "cd")], tokenizer, ())
    assert isinstance(refused, str)
    assert "no place for a turn of the system" in refused
    assert isinstance(example, Example)


def test_with_an_encoder_every_reply_is_an_example() -> None:
    form, tokenizer = form_and_tokenizer(arch="seq2seq", block=8, source_size=14)
    (found,) = form.encode([dialogue("ab", "cd", "efg", "h", "ij")], tokenizer, ())
    assert isinstance(found, list)
    assert [tokenizer.decode(example.ids) for example in found] == ["<|endoftext|>cd<|end|>", "<|endoftext|>h<|end|>"]
    assert [target_text(example, tokenizer) for example in found] == ["cd<|end|>", "h<|end|>"]
    assert [tokenizer.decode(example.source) for example in found] == [
        "<|endoftext|><|user|>ab",
        "<|endoftext|><|user|>ab<|assistant|>cd<|end|><|user|>efg",
    ]
    short, _ = form_and_tokenizer(arch="seq2seq", block=8, source_size=8)
    (found,) = short.encode([dialogue("ab", "cd", "efg", "h")], tokenizer, ())
    assert isinstance(found, list)
    assert tokenizer.decode(found[1].source) == "<|endoftext|><|user|>efg"
    assert [example.truncated for example in found] == [False, True]
    (refused,) = short.encode([dialogue("ab", "a reply that is far too long")], tokenizer, ())
    assert isinstance(refused, str)
    assert "does not fit the model's 8-token context" in refused


def recipe_of(tmp_path: Path, overrides: dict[str, Any] | None = None) -> Recipe:
    rows = [
        {"messages": [{"role": role, "content": f"{word} {number}"} for role, word in turns]}
        for number in range(60)
        for turns in [[("user", "hi"), ("assistant", "good day to you"), ("user", "bye"), ("assistant", "ciao")]]
    ]
    rows[3] = {"messages": [{"role": "user", "content": "alone"}]}
    file = tmp_path / "talk.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    table = {
        "data": {"path": [str(file)], "allow_bad_records": 0.1},
        "tokenizer": {"kind": "char"},
        "task": {"kind": "chat"},
        "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 64},
        "optim": {"kind": "adamw", "learning_rate": 3e-3},
        "train": {
            "device": "cpu",
            "matmul": "blas",
            "threads": 1,
            "compile": "off",
            "steps": 4,
            "batch_size": 8,
            "evaluate_every": 2,
            "checkpoint_every": 2,
            "log_every": 1,
            "sample_tokens": 4,
            "prompts": ["", "hi"],
        },
    }
    return build_recipe(merge(table, overrides or {}))


@pytest.mark.parametrize("arch", ["gpt", "seq2seq"])
def test_the_number_of_truncated_examples_is_reported_for_cached_examples_too(arch: str, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, {"model.arch": arch, "model.block_size": 30})
    first, again = (prepare_chat(recipe, recipe.task, recipe.tokenizer, lambda _: None).lines() for _ in range(2))
    assert "59 examples do not fit the model's context and lost their oldest turns." in first
    assert again == first


def checkpoint_at(run: RunFolder, step: int) -> Path:
    (found,) = [folder for folder in run.checkpoints.iterdir() if folder.name.removeprefix("step-") == f"{step:08}"]
    return found


@pytest.mark.parametrize("arch", ["gpt", "seq2seq"])
def test_a_chat_run_trains_samples_and_resumes_bit_exactly(arch: str, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, {"model.arch": arch})
    said: list[str] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Notice):
            said.append(event.text)

    run, _ = train_recipe(recipe, name="whole", runs_dir=tmp_path, on_event=on_event)
    assert run.info()["data"]["bad_records"] == 1
    assert run.info()["data"]["records"] == 59  # dialogues, however many examples each one makes
    assert any("characters, 1 bad record skipped (the first: " in line for line in said)
    assert {"train_targets", "valid_targets", "content_hash", "tokenizer_hash"} <= run.info()["data"].keys()
    rows = [row for row in run.metrics() if row["split"] == "valid"]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert 0 <= rows[-1]["accuracy"] <= 1
    assert {sample["prompt"] for sample in run.samples()} == {"hi"}
    before = run.checkpoint("last")
    assert before is not None
    weights = read_tensors(before / MODEL)
    again, _ = resume(str(checkpoint_at(run, 2)), runs_dir=tmp_path)
    last = again.checkpoint("last")
    assert last is not None
    resumed = read_tensors(last / MODEL)
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)


def test_metrics_equal_a_sum_over_single_target_tokens(tmp_path: Path) -> None:
    run, _ = train_recipe(recipe_of(tmp_path), name="run", runs_dir=tmp_path)
    text = tmp_path / "few.txt"
    text.write_text("hi\ngood day\n\nbye 1\nciao\nhi\nbye\n", encoding="utf-8")
    greedy = GenerationConfig(max_new_tokens=5, temperature=0)
    few = {"data.path": [str(text)], "data.document": "block"}
    figures = evaluate_chat("run", few, replies=2, config=greedy, runs_dir=tmp_path)
    loaded = load_model("run", runs_dir=tmp_path, device=torch.device("cpu"))
    tokenizer = loaded.require_tokenizer()
    nats, tokens, correct = 0.0, 0, 0
    for talk in (dialogue("hi", "good day"), dialogue("bye 1", "ciao", "hi", "bye")):
        ids, own = encode_chat(tokenizer, talk)
        with torch.no_grad():
            logits = loaded.model.logits(loaded.model.hidden(torch.tensor([ids])))[0]
        for place in range(1, len(ids)):
            if own[place]:
                nats += float(F.cross_entropy(logits[place - 1], torch.tensor(ids[place])))
                correct += int(logits[place - 1].argmax()) == ids[place]
                tokens += 1
    characters = len("good day" + "ciao" + "bye")
    assert figures.tokens == tokens == characters + 3
    assert figures.characters == characters
    assert figures.loss == pytest.approx(nats / tokens, rel=1e-4)
    assert figures.accuracy == pytest.approx(correct / tokens)
    assert figures.character_perplexity == pytest.approx(math.exp(nats / characters), rel=1e-4)
    assert figures.written is not None
    assert figures.people is not None
    assert figures.written.replies == figures.people.replies == 2
    # "good day" and "bye": 9 different characters of 11
    assert figures.people.distinct_1_characters == pytest.approx(len(set("good day" + "bye")) / 11)
    assert json.loads((run.path / "evaluations" / "few.json").read_text())["tokens"] == tokens


def test_distinct_counts_ngrams_within_texts() -> None:
    assert distinct(["abab", "b"], 1) == 2 / 5
    assert distinct(["abab", "b"], 2) == 2 / 3
    assert distinct(["a", ""], 2) is None


def test_data_without_a_usable_dialogue_are_an_error(tmp_path: Path) -> None:
    train_recipe(recipe_of(tmp_path), name="run", runs_dir=tmp_path)
    text = tmp_path / "long.txt"
    text.write_text(f"{'x' * 100}\nyes\n", encoding="utf-8")
    with pytest.raises(DataError, match="None of 1 dialogue can be used"):
        evaluate_chat("run", {"data.path": [str(text)], "data.document": "block"}, runs_dir=tmp_path)


def test_a_custom_template_is_saved_in_the_run_and_its_file_is_not_read_again(tmp_path: Path) -> None:
    own = tmp_path / "own.jinja"
    own.write_text(
        "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|stop|>"
        "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    run, _ = train_recipe(recipe_of(tmp_path, {"task.template": str(own)}), name="run", runs_dir=tmp_path)
    own.unlink()
    assert run.recipe().task == ChatTask(template="auto")
    assert "<|stop|>" in Tokenizer.load(run.tokenizer).special_tokens
    resume(str(checkpoint_at(run, 2)), runs_dir=tmp_path)


@pytest.mark.parametrize("pickled", [False, True])
def test_a_chinese_gpt2_folder_with_a_wordpiece_vocabulary_fine_tunes_for_chat(pickled: bool, tmp_path: Path) -> None:
    """The layout of ckiplab/gpt2-base-chinese: vocab.txt, config.json and weights, no tokenizer.json."""
    folder = tmp_path / "foreign"
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"你好吗我很天气", "hi", "##s"]
    theirs = GPT2LMHeadModel(GPT2Config(vocab_size=len(words), n_positions=32, n_embd=16, n_layer=2, n_head=2))
    theirs.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    if pickled:
        legacy = {f"transformer.h.{layer}.attn.bias": torch.ones(1, 1, 32, 32).tril().bool() for layer in range(2)}
        masked = {f"transformer.h.{layer}.attn.masked_bias": torch.tensor(-1e4) for layer in range(2)}
        torch.save({**theirs.state_dict(), **legacy, **masked}, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    imported = import_model(str(folder), name="base", runs_dir=tmp_path, allow_pickle=pickled)
    talk = tmp_path / "talk.txt"
    talk.write_text(
        "\n\n".join(f"你好{'吗' * (n % 3)}\n我很好\n天气{'好' * (n % 4)}\n好" for n in range(40)), encoding="utf-8"
    )
    own = tmp_path / "own.toml"
    own.write_text(f"""
[data]
path = {str(talk)!r}
document = "block"
[task]
kind = "chat"
template = "cls-sep"
[train]
init_from = {str(imported.path)!r}
steps = 2
batch_size = 8
device = "cpu"
matmul = "blas"
threads = 1
compile = "off"
prompts = "你好"
""")
    recipe, _ = resolve_recipe([str(own)], runs_dir=tmp_path)
    run, _ = train_recipe(recipe, name="tuned", runs_dir=tmp_path)
    began, ended = (run.metrics()[row] for row in (0, -1))
    assert began["step"] == 0
    assert ended["step"] == 2
    assert run.info()["start"]["new"] == []
    last = run.checkpoint("last")
    assert last is not None
    moved = (read_tensors(last / MODEL)["wte.weight"] - theirs.transformer.wte.weight).abs().max()
    assert 0 < moved < 0.01  # two steps after the start
    tokenizer = Tokenizer.load(run.tokenizer)
    assert tokenizer.vocab_size == len(words)  # [CLS] and [SEP] were there
    assert encode_chat(tokenizer, dialogue("你好", "好"))[0] == [2, 5, 6, 3, 6, 3]
