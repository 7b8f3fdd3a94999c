"""Completion: prompts, targets, truncation and rejected pairs; and the training task that scores completions."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from penna.config.recipe import build_recipe, merge
from penna.config.schema import Recipe
from penna.config.sections import DataConfig, ModelConfig, TokenizerConfig
from penna.config.tasks import CompleteTask
from penna.data.examples.batches import batch_of
from penna.data.examples.example import Example, truncate
from penna.data.sources.fields import Completion
from penna.data.sources.records import BadRecord, Record
from penna.errors import DataError
from penna.model.seq2seq import build_model
from penna.tasks.complete import CompletionFormat, PreparedCompletions, prepare_complete
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer
from penna.train.distributed import ProcessGroup

WORDS = "the cat sat on a mat and ate fish while rain fell over old towns in summer".split()


def sentence(number: int, count: int) -> str:
    return " ".join(random.Random(number).choices(WORDS, k=count))


@pytest.fixture(scope="module")
def plain() -> Tokenizer:
    texts = [sentence(number, 30) for number in range(50)] + ["\nTL;DR: Article: Summarise"]
    return train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=330), texts)


def form_of(task: dict[str, Any] | None = None, **model: Any) -> CompletionFormat:
    shape = {"n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 40, **model}
    return CompletionFormat(CompleteTask.model_validate(task or {}), ModelConfig.model_validate(shape))


def encoded(form: CompletionFormat, tokenizer: Tokenizer, *items: tuple[str, str]) -> list[Example | str]:
    return form.encode([Completion(*item) for item in items], tokenizer, ())


def only(found: list[Example | str]) -> Example:
    (example,) = found
    assert isinstance(example, Example), example
    return example


def test_an_example_is_a_document_whose_completion_and_end_are_targets(plain: Tokenizer) -> None:
    form = form_of()
    tokenizer = form.adapt(plain)
    example = only(encoded(form, tokenizer, ("the cat sat", "on a mat")))
    end, answer = tokenizer.separator_id, tokenizer.special_tokens["<|answer|>"]
    prompt, target = plain.encode("the cat sat"), plain.encode("on a mat")
    assert list(example.ids) == [end, *prompt, answer, *target, end]
    assert example.target_mask == [False] * (len(prompt) + 2) + [True] * (len(target) + 1)
    assert not example.source


def test_the_control_token_is_added_once_and_no_text_spells_it(plain: Tokenizer) -> None:
    form = form_of()
    tokenizer = form.adapt(plain)
    assert tokenizer.vocab_size == plain.vocab_size + 1
    assert form.adapt(tokenizer) is tokenizer
    assert form_of({"separator": "", "template": "{prompt}:"}).adapt(plain) is plain
    example = only(encoded(form, tokenizer, ("a <|answer|> b", "c")))
    assert list(example.ids).count(tokenizer.special_tokens["<|answer|>"]) == 1


@pytest.mark.parametrize("cut", ["tail", "head", "middle"])
@pytest.mark.parametrize("template", ["{prompt}", "Article: {prompt}\nSummarise"])
def test_a_prompt_is_truncated_to_the_token_and_its_template_never_is(
    plain: Tokenizer, cut: str, template: str
) -> None:
    form = form_of({"cut": cut, "template": template})
    tokenizer = form.adapt(plain)
    before, after = template.split("{prompt}")
    before, lead = before.rstrip(), before[len(before.rstrip()) :]
    lengths: set[int] = set()
    for count in range(1, 60):
        prompt, target = sentence(count, count), sentence(count + 1, 1 + count % 7)
        ids = list(only(encoded(form, tokenizer, (prompt, target))).ids)
        lengths.add(len(ids))
        frame, tail = [ids[0], *plain.encode(before)], [*plain.encode(after), tokenizer.special_tokens["<|answer|>"]]
        written = [*plain.encode(target), ids[0]]
        kept = 41 - len(frame) - len(tail) - len(written)
        whole = plain.encode(lead + prompt)
        if len(whole) <= kept:
            assert ids == [ids[0], *plain.encode(before + lead + prompt + after), tail[-1], *written]
            continue
        left = {
            "tail": whole[:kept],
            "head": whole[len(whole) - kept :],
            "middle": whole[: kept - kept // 2] + whole[len(whole) - kept // 2 :],
        }[cut]
        assert ids == [*frame, *left, *tail, *written]
    assert max(lengths) == 41  # one more than the block: the last id is not read


def test_truncation_keeps_as_many_tokens_as_fit() -> None:
    for size in range(-1, 8):
        for cut in ("tail", "head", "middle"):
            kept = truncate(range(6), size, cut)
            assert len(kept) == max(0, min(size, 6))
            assert kept == sorted(set(kept))
    assert truncate(range(6), 3, "middle") == [0, 1, 5]


def test_pairs_that_make_no_example_give_the_reason_with_lengths(plain: Tokenizer) -> None:
    form = form_of()
    tokenizer = form.adapt(plain)
    longest = form.longest(tokenizer)
    target = (plain.encode(sentence(1, 80)))[: longest - 1]
    fits, beyond = plain.decode(target), plain.decode([*target, plain.encode(" the")[0]])
    assert [len(plain.encode(text)) for text in (fits, beyond)] == [longest - 1, longest]
    kept, long, empty = encoded(form, tokenizer, (sentence(2, 50), fits), ("the", beyond), ("", "on a mat"))
    assert isinstance(kept, Example)
    assert len(kept.ids) == 41
    assert isinstance(long, str)
    assert f"needs {longest + 1} tokens" in long
    assert f"only {longest} fit into the model's 40-token context" in long
    assert empty == "the prompt has no tokens"


@pytest.mark.parametrize(("prompt", "completion"), [("", "x"), (" \n", "x"), ("x", ""), ("x", " ")])
def test_an_empty_side_is_a_bad_record(prompt: str, completion: str) -> None:
    read = form_of().read(Record({"prompt": prompt, "completion": completion}, "f.jsonl", 3), DataConfig())
    assert isinstance(read, BadRecord)
    assert str(read) == f"f.jsonl:3: the {'completion' if prompt == 'x' else 'prompt'} is empty"


def test_articles_and_summaries_are_prompts_and_completions() -> None:
    record = Record({"id": 1, "article": "a b", "summary": "c"}, "f.jsonl", 1)
    assert form_of().read(record, DataConfig()) == Completion("a b", "c")


def test_a_plain_template_gives_the_ids_of_running_text(plain: Tokenizer) -> None:
    """A space at the template's end belongs to what is written, as the vocabulary has it."""
    form = form_of({"template": "Article: {prompt}\nTL;DR: ", "separator": ""})
    example = only(encoded(form, plain, ("the cat sat", "on a mat")))
    text = "Article: the cat sat\nTL;DR: on a mat"
    assert list(example.ids) == [plain.separator_id, *plain.encode(text), plain.separator_id]
    assert example.target_mask is not None
    first = example.target_mask.index(True)
    assert plain.decode(example.ids[first:-1]) == " on a mat"
    (prompt,) = form.prompts(["the cat sat"], plain, [4])
    assert not isinstance(prompt, str)
    assert prompt.ids == list(example.ids[:first])


def test_with_an_encoder_the_prompt_is_the_source_and_truncated_to_its_size(plain: Tokenizer) -> None:
    form = form_of({"template": "Article: {prompt}", "cut": "head"}, arch="seq2seq", source_size=12)
    assert form.adapt(plain) is plain
    text = sentence(4, 40)
    short, long, beyond = encoded(form, plain, ("the cat", "on a mat"), (text, "fish"), ("a", sentence(5, 200)))
    assert isinstance(short, Example)
    assert isinstance(long, Example)
    end = plain.separator_id
    assert list(short.ids) == [end, *plain.encode("on a mat"), end]
    assert short.target_mask == [False] + [True] * (len(short.ids) - 1)
    assert list(short.source) == plain.encode("Article: the cat")
    own = plain.encode("Article:")
    assert list(long.source) == [*own, *plain.encode(" " + text)[len(own) - 12 :]]
    assert isinstance(beyond, str)


def test_the_cache_key_contains_everything_that_examples_depend_on() -> None:
    forms = [
        form_of(),
        form_of({"cut": "head"}),
        form_of({"template": "a {prompt}"}),
        form_of({"separator": "<|x|>"}),
        form_of(block_size=41),
        form_of(arch="seq2seq"),
    ]
    assert len({form.settings for form in forms}) == len(forms)


def prepared(tmp_path: Path, overrides: dict[str, Any] | None = None) -> tuple[Recipe, PreparedCompletions]:
    """Sixty pairs, every third with a prompt longer than the context, prepared."""
    rows = [
        {"prompt": sentence(number, 60 if number % 3 == 0 else 5), "completion": sentence(-number, 1 + number % 5)}
        for number in range(60)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    table = {
        "data": {"path": [str(tmp_path / "pairs.jsonl")]},
        "tokenizer": {"kind": "bpe", "vocab_size": 300},
        "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 32},
        "task": {"kind": "complete"},
        "train": {"steps": 1, "batch_size": 4, "sample_tokens": 5},
    }
    recipe = build_recipe(merge(table, overrides or {}))
    ready = prepare_complete(recipe, recipe.task, recipe.tokenizer, lambda _: None)
    model = recipe.model.model_copy(update={"vocab_size": ready.tokenizer.vocab_size})
    return ready.complete_recipe(recipe.model_copy(update={"model": model})), ready


@pytest.mark.parametrize("arch", ["gpt", "seq2seq"])
def test_only_completions_and_their_ends_are_scored(tmp_path: Path, arch: str) -> None:
    recipe, ready = prepared(tmp_path, {"model.arch": arch})
    model = build_model(recipe.model)
    model.init_weights(0)
    task = ready.training_task(recipe, model.eval())
    sums, counts = task.evaluate(model, ProcessGroup(0, 1, 0))
    assert counts["loss"] == ready.prepared.valid_counts.targets
    nats = 0.0
    for row in range(len(ready.prepared.valid)):
        batch = batch_of(ready.prepared.valid, [row])
        with torch.no_grad():
            hidden = model.hidden(batch["ids"], encoder_cache=_memory(model, batch))
            loss = torch.nn.functional.cross_entropy(
                model.logits(hidden)[0], batch["targets"][0], ignore_index=-100, reduction="sum"
            )
        nats += float(loss)
    assert sums["loss"] == pytest.approx(nats, rel=1e-4)
    texts = task.sample(model)
    assert len(texts) == 2
    assert task.batches.rows == ready.prepared.train_counts.examples
    assert ready.info()["train_targets"] == task.batches.tokens


def test_a_step_has_the_same_rows_with_any_accumulation(tmp_path: Path) -> None:
    totals: list[tuple[float, int]] = []
    for size in (8, 2, 1):
        recipe, ready = prepared(tmp_path, {"train.batch_size": size, "train.accumulation": 8 // size})
        model = build_model(recipe.model)
        model.init_weights(0)
        task = ready.training_task(recipe, model.eval())
        sums, counts = 0.0, 0
        for start in range(8, 16, size):
            batch = task.batches.batch(1, range(start, start + size))
            with torch.no_grad():
                sums += float(task.objective.sums(model, batch)["loss"])
            counts += task.objective.counts(batch)["loss"]
        totals.append((sums / counts, counts))
    assert len({counts for _, counts in totals}) == 1
    assert [loss for loss, _ in totals] == pytest.approx([totals[0][0]] * 3, rel=1e-5)


def _memory(model: Any, batch: dict[str, torch.Tensor]) -> Any:
    return model.encode(batch["source"], batch["source_lengths"]) if "source" in batch else None


def test_lines_report_records_targets_and_bad_records(tmp_path: Path) -> None:
    recipe, ready = prepared(tmp_path)
    train, valid = ready.prepared.train_counts, ready.prepared.valid_counts
    read, due, *_ = ready.lines()
    assert read == f"Completions: 60 records, {ready.prepared.counts.characters:,} characters"
    assert due.startswith(
        f"Examples: {train.examples} ({train.targets:,} of {train.tokens:,} tokens are targets) for training, "
    )
    assert f", {valid.examples} ({valid.targets:,} of {valid.tokens:,} tokens are targets) for validation" in due
    rows = (tmp_path / "pairs.jsonl").read_text(encoding="utf-8")
    (tmp_path / "more.jsonl").write_text(f'{rows}\n{{"prompt": "the cat", "completion": " "}}', encoding="utf-8")
    data = recipe.data.model_copy(update={"path": [str(tmp_path / "more.jsonl")], "allow_bad_records": 0.1})
    more = prepare_complete(recipe.model_copy(update={"data": data}), recipe.task, ready.tokenizer, lambda _: None)
    assert more.lines()[0].endswith(
        f", 1 bad record skipped (the first: {tmp_path / 'more.jsonl'}:61: the completion is empty)"
    )


def test_truncated_prompts_are_reported(tmp_path: Path) -> None:
    _, ready = prepared(tmp_path)
    assert any(line.startswith("20 prompts do not fit") and "tail" in line for line in ready.lines())
    assert 0 < ready.info()["train_cut"] <= 20


def test_samples_complete_the_recipes_prompts(tmp_path: Path) -> None:
    recipe, ready = prepared(tmp_path, {"train.prompts": ["the cat sat", "", sentence(1, 90)]})
    model = build_model(recipe.model)
    model.init_weights(0)
    assert [prompt for prompt, _ in ready.training_task(recipe, model.eval()).sample(model)] == [
        "the cat sat",
        sentence(1, 90),
    ]


def test_a_tokenizer_without_a_separator_is_an_error(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "the", "cat"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    tokenizer = Tokenizer.load(tmp_path / "vocab.txt")
    with pytest.raises(DataError, match="no document separator"):
        form_of().adapt(tokenizer)
