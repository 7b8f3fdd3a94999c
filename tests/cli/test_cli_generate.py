"""penna generate: its settings, prompts, samples and strategies, what it prints and saves, and what it refuses."""

import io
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from penna.cli.main import run
from penna.config.generation import GenerationConfig
from penna.config.sections import ModelConfig, TokenizerConfig
from penna.interop.hf_folder import write_hf
from penna.model.gpt import GPT
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

STORY = "All roads lead to Rome. I eat an apple. They eat an orange.\n"
BLOCK = 32


@torch.no_grad()
def made(tokenizer: Tokenizer, folder: Path) -> Path:
    """A Hugging Face folder of a model with large random weights."""
    model = GPT(ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=BLOCK, vocab_size=tokenizer.vocab_size))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    write_hf(model.config, model.state_dict(), folder, tokenizer=tokenizer)
    return folder


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """hf/, a folder, and runs/run, the same model as a run; hf-unknown/, whose tokenizer has no separator."""
    place = tmp_path_factory.mktemp("generate")
    made(train_tokenizer(TokenizerConfig(kind="char"), [STORY * 9]), place / "hf")
    (place / "vocab.txt").write_text("\n".join(["[UNK]", "i", "eat", "##s", "apple", "orange"]), encoding="utf-8")
    made(Tokenizer.load(place / "vocab.txt"), place / "hf-unknown")
    assert run(["import", str(place / "hf"), "--name", "run", "--runs-dir", str(place / "runs")]) == 0
    return place


@pytest.fixture
def place(made_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy as the current folder."""
    shutil.copytree(made_once, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def standing(made_once: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same without a copy, for a test that writes nothing."""
    monkeypatch.chdir(made_once)
    return made_once


def penna(capsys: pytest.CaptureFixture[str], command: str, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert run(shlex.split(command)) == code
    both = capsys.readouterr()
    return both.out, both.err


def rows(capsys: pytest.CaptureFixture[str], command: str) -> list[dict[str, Any]]:
    return json.loads(penna(capsys, f"generate {command} --json")[0])


# --- Settings

FLAGS = {  # field: words, and the value that is meant
    "max_new_tokens": ("--max-new-tokens 7", 7),
    "min_new_tokens": ("--min-new-tokens 3", 3),
    "temperature": ("--temperature 0.5", 0.5),
    "top_k": ("--top-k 5", 5),
    "top_p": ("--top-p 0.9", 0.9),
    "min_p": ("--min-p 0.05", 0.05),
    "typical_p": ("--typical-p 0.95", 0.95),
    "repetition_penalty": ("--repetition-penalty 1.2", 1.2),
    "presence_penalty": ("--presence-penalty -0.5", -0.5),
    "frequency_penalty": ("--frequency-penalty 0.5", 0.5),
    "no_repeat_ngram_size": ("--no-repeat-ngram-size 3", 3),
    "bad_words": ("--bad-words eat --bad-words apple", ["eat", "apple"]),
    "stop": (r"--stop 'a\nb' --stop .", ["a\nb", "."]),
    "choices": ("--choices eat --choices lead", ["eat", "lead"]),
    "num_beams": ("--num-beams 3", 3),
    "num_beam_groups": ("--num-beams 4 --num-beam-groups 2 --diversity-penalty 0.5", 2),
    "diversity_penalty": ("--num-beams 4 --num-beam-groups 2 --diversity-penalty 0.5", 0.5),
    "length_penalty": ("--num-beams 3 --length-penalty 2", 2.0),
    "early_stopping": ("--num-beams 3 --early-stopping never", "never"),
    "penalty_alpha": ("--penalty-alpha 0.6 --top-k 4", 0.6),
    "prompt_lookup_num_tokens": ("--prompt-lookup-num-tokens 4", 4),
    "past_block": ("--past-block slide", "slide"),
}


def test_every_setting_is_tested_here() -> None:
    assert set(FLAGS) == set(GenerationConfig.model_fields)


@pytest.mark.parametrize("name", FLAGS)
def test_every_setting_is_a_flag_and_part_of_a_strategy(
    name: str, standing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, value = FLAGS[name]
    length = "" if name == "max_new_tokens" else "--max-new-tokens 4"
    (row,) = rows(capsys, f"hf {length} {words}")
    assert row["settings"][name] == value
    flags = iter(shlex.split(words))
    pairs = [(flag.removeprefix("--"), next(flags)) for flag in flags]
    written = " ".join(f"{flag}={shlex.quote(word)}" for flag, word in pairs)
    (same,) = rows(capsys, f"hf {length} --strategy {shlex.quote(written)}")
    assert (same["settings"], same["text"]) == (row["settings"], row["text"])


def test_the_help_of_every_generating_verb_describes_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("generate", "chat", "complete"):
        with pytest.raises(SystemExit):
            run([verb, "--help"])
        shown = " ".join(capsys.readouterr().out.split())
        for name, field in GenerationConfig.model_fields.items():
            assert f"--{name.replace('_', '-')} " in shown
            assert (field.description or "").rstrip(".")[1:60] in shown


def test_the_help_of_penna_imports_no_heavy_library() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "penna", "--help"]
    imported = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert "penna.cli.generate" in imported
    assert not any(name in imported for name in ("pydantic", "torch", "numpy"))


# --- Texts


def test_beam_search_finds_the_same_texts_as_transformers(standing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoTokenizer, GPT2LMHeadModel

    theirs: Any = GPT2LMHeadModel.from_pretrained("hf").eval()
    tokenizer = AutoTokenizer.from_pretrained("hf")
    ids = torch.tensor([tokenizer.encode("I eat")])
    found = theirs.generate(
        ids, num_beams=4, num_return_sequences=3, max_new_tokens=8, do_sample=False, output_scores=True,
        return_dict_in_generate=True, pad_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    own = rows(capsys, "hf --prompt 'I eat' --num-beams 4 -n 3 --max-new-tokens 8")
    sequences = [tokenizer.decode(each[ids.shape[1] :], skip_special_tokens=True) for each in found.sequences]
    assert [row["text"] for row in own] == sequences
    assert [row["score"] for row in own] == pytest.approx(found.sequences_scores.tolist(), abs=1e-4)
    page, _ = penna(capsys, "generate hf --prompt 'I eat' --num-beams 4 -n 3 --max-new-tokens 8")
    heads = [f"[beam {number}, log-prob {row['logprob']:.2f}]" for number, row in enumerate(own, start=1)]
    assert page == "I eat\n" + "".join(f"\n{head}\n{text}\n" for head, text in zip(heads, sequences, strict=True))


def test_each_sample_can_be_generated_again_from_its_seed(standing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    several = rows(capsys, "hf --prompt I --prompt They -n 3 --seed 5 --max-new-tokens 9")
    assert [(row["number"], row["prompt"], row["seed"]) for row in several] == [
        (number, prompt, seed) for number, prompt in ((1, "I"), (2, "They")) for seed in (5, 6, 7)
    ]
    for row in several:
        (alone,) = rows(capsys, f"hf --prompt {row['prompt']} --seed {row['seed']} --max-new-tokens 9")
        assert {**alone, "number": row["number"], "logprob": pytest.approx(row["logprob"])} == row
    assert len({row["text"] for row in several}) == 6


def test_strategies_side_by_side_give_the_same_texts_as_alone(
    standing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("greedy", "top_p=0.9 temperature=0.7", "mine: num_beams=3")
    strategies = " ".join(f"--strategy '{each}'" for each in words)
    command = f"hf --prompt I --prompt They -n 2 --max-new-tokens 6 --top-k 9 {strategies}"
    found = rows(capsys, command)
    names = ["greedy", *["top_p=0.9 temperature=0.7"] * 2, *["mine"] * 2]
    assert [row["strategy"] for row in found] == names * 2
    alone = [
        *rows(capsys, "hf --prompt I --greedy --max-new-tokens 6"),
        *rows(capsys, "hf --prompt I -n 2 --max-new-tokens 6 --top-k 9 --top-p 0.9 --temperature 0.7"),
        *rows(capsys, "hf --prompt I -n 2 --max-new-tokens 6 --num-beams 3"),
    ]
    assert [row["text"] for row in found[:5]] == [row["text"] for row in alone]
    assert [row["settings"] for row in found[:5]] == [row["settings"] for row in alone]
    page, told = penna(capsys, f"generate {command}")
    assert told == "greedy: every seed gives the same text, so it is generated once.\n"
    heads = ["[greedy]", *(f"[top_p=0.9 temperature=0.7, seed {seed}]" for seed in (0, 1))]
    heads += [f"[mine, beam {number}, log-prob" for number in (1, 2)]
    expected = [head or f"--- {n} ---" for n in (1, 2) for head in ("", *heads)]
    at = 0
    for head in expected:
        at = page.index(head, at) + 1
    assert f"--- 1 ---\nI\n\n[greedy]\n{found[0]['text']}\n\n[top_p" in page


def test_one_text_is_streamed_after_its_prompt(standing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = rows(capsys, "hf --prompt They --max-new-tokens 40")
    assert penna(capsys, "generate hf --prompt They --max-new-tokens 40")[0] == f"They{row['text']}\n"


def test_logprobs_are_those_of_the_model_without_settings(standing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoTokenizer, GPT2LMHeadModel

    theirs, tokenizer = GPT2LMHeadModel.from_pretrained("hf").eval(), AutoTokenizer.from_pretrained("hf")
    for how in ("--temperature 2 --presence-penalty 3", "--num-beams 3", "--penalty-alpha 0.4 --top-k 3"):
        (row,) = rows(capsys, f"hf --prompt 'I eat' --max-new-tokens 6 --logprobs 4 {how}")
        ids = [token["id"] for token in row["logprobs"]]
        with torch.no_grad():
            logits = theirs(torch.tensor([[*tokenizer.encode("I eat"), *ids]])).logits[0, 4:-1]
        likelihood = logits.log_softmax(-1)
        for place, token in enumerate(row["logprobs"]):
            own = likelihood[place]
            assert token["logprob"] == pytest.approx(float(own[token["id"]]), abs=1e-3)
            assert token["rank"] == int((own > own[token["id"]] + 1e-6).sum()) + 1
            best = own.topk(4)
            assert [each["id"] for each in token["alternatives"]] == best.indices.tolist()
            assert [each["logprob"] for each in token["alternatives"]] == pytest.approx(best.values.tolist(), abs=1e-3)
        assert row["logprob"] == pytest.approx(sum(token["logprob"] for token in row["logprobs"]), abs=1e-3)
    best, second = rows(capsys, "hf --num-beams 3 -n 2 --max-new-tokens 5 --logprobs")
    assert best["logprobs"][0]["alternatives"] == []
    assert len(second["logprobs"]) == second["tokens"] == 5
    assert second["logprob"] == pytest.approx(sum(token["logprob"] for token in second["logprobs"]), abs=1e-3)


def test_a_stop_string_ends_every_text_of_a_beam_search(standing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = rows(capsys, "hf --prompt I --num-beams 4 -n 4 --max-new-tokens 12")
    stop = whole[1]["text"][4]
    cut = rows(capsys, f"hf --prompt I --num-beams 4 -n 4 --max-new-tokens 12 --stop {shlex.quote(stop)}")
    assert [row["text"] for row in cut] == [row["text"].partition(stop)[0] for row in whole]
    assert [row["finish"] for row in cut] == ["stop" if stop in row["text"] else "length" for row in whole]


# --- Prompts


def test_prompts_of_a_file_are_its_lines_including_empty_ones(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"\xef\xbb\xbfI eat\r\n\nThey\xe2\x80\xa8lead\n"
    (place / "prompts.txt").write_bytes(content)
    command = "hf --prompt All --prompt-file {} --max-new-tokens 3 --greedy"
    found = rows(capsys, command.format("prompts.txt"))
    assert [row["prompt"] for row in found] == ["All", "I eat", "", "They\u2028lead"]
    assert rows(capsys, "hf --max-new-tokens 3 --greedy")[0]["text"] == found[2]["text"]  # the start of a document
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert rows(capsys, command.format("-")) == found


def test_notes_name_truncated_prompts_and_missing_characters(
    standing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "They eat an apple. " * 3
    whole, told = penna(capsys, f"generate hf --prompt '{long}' --prompt I --greedy --max-new-tokens 5 --json")
    assert told == (
        f"Prompt 1 has {len(long)} tokens, more than the model's 32-token context: only the last 32 are read.\n"
    )
    end, nothing = penna(capsys, f"generate hf --prompt '{long[-32:]}' --greedy --max-new-tokens 5 --json")
    assert json.loads(whole)[0]["text"] == json.loads(end)[0]["text"]
    assert nothing == ""
    _, told = penna(capsys, "generate hf --prompt 'I eat ☃ and ☃ é' --max-new-tokens 1")
    assert told == "The vocabulary has no token for ☃ é: encoded byte by byte.\n"
    _, told = penna(capsys, "generate hf-unknown --prompt 'i eat cheese' --max-new-tokens 1")
    assert told == "The vocabulary has no token for cheese: encoded as the unknown token.\n"


# --- Lines of JSON


def test_a_line_is_written_as_soon_as_its_text_is_complete(standing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "hf --prompt I --prompt They --strategy 'long: max_new_tokens=9' --strategy 'short: max_new_tokens=2'"
    lines = [json.loads(line) for line in penna(capsys, f"generate {command} --jsonl")[0].splitlines()]
    assert [line["strategy"] for line in lines] == ["short", "short", "long", "long"]
    assert sorted(map(json.dumps, lines)) == sorted(map(json.dumps, rows(capsys, command)))


def test_a_full_disk_leaves_no_partial_line(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    penna(capsys, "generate hf --prompt I --max-new-tokens 3 --jsonl texts.jsonl")
    before = (place / "texts.jsonl").read_bytes()
    command = "generate hf --prompt I --max-new-tokens 40 -n 9 --jsonl texts.jsonl"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 250, limit[1]))
        said = penna(capsys, command, code=2)[1]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert "The disk is full" in said
    after = (place / "texts.jsonl").read_bytes()
    assert after.startswith(before)
    assert after.endswith(b"\n")
    assert all(json.loads(line) for line in after.splitlines())


def test_lines_are_appended_to_a_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "generate hf --prompt I --max-new-tokens 3 --jsonl texts.jsonl --seed"
    assert penna(capsys, f"{command} 1") == ("", "Wrote 1 text to texts.jsonl.\n")
    penna(capsys, f"{command} 2")
    lines = (place / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["seed"] for line in lines] == [1, 2]
    (place / "texts.jsonl").write_text('{"torn":', encoding="utf-8")
    assert "The last line of texts.jsonl is incomplete" in penna(capsys, f"{command} 3", code=2)[1]
    assert (place / "texts.jsonl").read_text(encoding="utf-8") == '{"torn":'


def test_complete_lines_stay_after_an_interrupt(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from penna.api.generate import SampleBatch

    write = SampleBatch.results
    there: list[str] = []

    def stopped(self: SampleBatch) -> Any:
        yield next(write(self))
        there.append((place / "texts.jsonl").read_text(encoding="utf-8"))  # as after a kill
        raise KeyboardInterrupt

    monkeypatch.setattr(SampleBatch, "results", stopped)
    penna(capsys, "generate hf -n 3 --max-new-tokens 3 --jsonl texts.jsonl", code=130)
    (line,) = (place / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["seed"] == 0
    assert there == [line + "\n"]


# --- A run's own settings


def test_saved_settings_become_the_runs_defaults_and_transformers_reads_them(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import GenerationConfig as Theirs

    file = place / "runs/run/generation_config.json"
    words = "--top-p 0.8 --temperature 0.6 --repetition-penalty 1.3 --max-new-tokens 7 --stop ."
    out, told = penna(capsys, f"generate run {words} --save-settings")
    assert (out, told) == ("", "Saved as the run's settings: runs/run/generation_config.json\n")
    theirs = Theirs.from_pretrained(file.parent)
    assert (theirs.do_sample, theirs.top_p, theirs.temperature, theirs.max_new_tokens) == (True, 0.8, 0.6, 7)
    saved = file.read_bytes()
    assert rows(capsys, "run --prompt I") == rows(capsys, f"hf --prompt I {words}")
    assert rows(capsys, "runs/run/best --prompt I")[0]["settings"]["top_p"] == 0.8
    assert rows(capsys, "run --prompt I --greedy")[0]["settings"] == {
        "max_new_tokens": 7,
        "temperature": 0.0,
        "repetition_penalty": 1.3,
        "stop": ["."],
    }
    assert rows(capsys, "run --num-beams 2 --stop none")[0]["settings"] == {
        "max_new_tokens": 7,
        "repetition_penalty": 1.3,
        "num_beams": 2,
    }
    assert file.read_bytes() == saved
    written, _ = penna(capsys, "generate run --prompt I --top-p none --save-settings")
    assert written.startswith("I")
    assert json.loads(file.read_text())["temperature"] == 0.6
    assert "top_p" not in json.loads(file.read_text())


def test_a_file_with_only_special_tokens_sets_no_defaults(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = place / "hf/generation_config.json"
    assert json.loads(file.read_text())["eos_token_id"] is not None
    assert rows(capsys, "hf --max-new-tokens 2")[0]["settings"] == {"max_new_tokens": 2, "temperature": 0.8}
    file.write_text('{"eos_token_id": 0, "do_sample": false, "max_new_tokens": 3}')
    assert rows(capsys, "hf")[0]["settings"] == {"max_new_tokens": 3, "temperature": 0.0}
    file.write_text('{"num_beams": "many"}')
    assert (
        "hf/generation_config.json is invalid: num_beams must be a whole number (got 'many')"
        in penna(capsys, "generate hf", code=2)[1]
    )


# --- What is refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--temperature -1", "temperature must be at least 0 (got -1.0)"),
        ("--temperature hot", "temperature must be a number (got 'hot')"),
        ("--temperature nan", "temperature must be a finite number (got nan)"),
        ("--top-p 0", "top_p must be greater than 0 (got 0.0)"),
        ("--top-p 1.01", "top_p must be at most 1 (got 1.01)"),
        ("--top-k none --temperature none", "temperature must be a number (got 'none')"),
        ("--max-new-tokens 3.5", "max_new_tokens must be a whole number (got '3.5')"),
        ("--early-stopping maybe", "early_stopping must be true or false or never (got 'maybe')"),
        ("--stop ''", "stop must not be empty"),
        ("--bad-words a --bad-words ''", "bad_words must not be empty"),
        ("--strategy 'stop=\"\"'", "stop must not be empty"),
        ("--num-beams 3 --top-p 0.9", "top_p cannot be combined with num_beams"),
        ("--num-beams 100000000", "GiB are free"),
        ("--num-beams 4 -n 5", "5 texts are requested, but the strategy 'beam' has num_beams = 4"),
        ("-n 0", "-n must be at least 1 (got 0)"),
        ("-n 2 --logprobs", "--logprobs has no effect here"),
        ("--logprobs -1 --json", "--logprobs must be at least 0 (got -1)"),
        ("--strategy gredy", "'gredy' is not a setting"),
        ("--strategy ''", "The strategy '' has no name"),
        ("--strategy ': greedy'", "The strategy ': greedy' has no name"),
        ("--strategy greedy --strategy greedy", "Two strategies are named 'greedy'"),
        ("--strategy 'stop=\"a'", "cannot be read: no closing quotation"),
        ("--strategy 'odd: temperature=0 top_k=3'", "Strategy 'odd': These settings do not fit together"),
        ("--strategy greedy --save-settings", "--save-settings cannot be combined with --strategy"),
        ("--save-settings", "hf is not a run"),
        ("--json --jsonl", "not allowed with argument --json"),
        ("--jsonl no/texts.jsonl", "no/texts.jsonl cannot be written"),
        ("--jsonl .", ". is a folder"),
        ("--prompt-file none.txt", "none.txt cannot be read: No such file"),
        ("--prompt-file empty.txt", "There is no prompt in empty.txt"),
        ("--prompt-file blob.bin", "blob.bin is not UTF-8: byte 2"),
    ],
)
def test_invalid_settings_are_refused_and_nothing_is_written(
    words: str, said: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "empty.txt").write_bytes(b"")
    (place / "blob.bin").write_bytes(b"ab\xff")
    before = {path.name for path in place.rglob("*")}
    out, err = penna(capsys, f"generate hf {words}", code=2)
    assert out == ""
    assert said in err
    assert len(err.splitlines()) >= 3
    assert {path.name for path in place.rglob("*")} == before


def test_a_prompt_without_its_flag_is_refused_with_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    _, err = penna(capsys, "generate hf-unknown 'the '", code=2)
    assert "`penna generate` does not accept 'the '." in err
    assert "Did you mean --prompt 'the '?" in err


def test_an_empty_prompt_needs_a_separator(standing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "penna: The prompt is empty" in penna(capsys, "generate hf-unknown", code=2)[1]
    _, err = penna(capsys, "generate hf-unknown --prompt i --prompt ''", code=2)
    assert "penna: Prompt 2: The prompt is empty, and the tokenizer has no document separator" in err


def test_a_terminal_gets_no_control_characters(
    standing: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for how in ("", "-n 2", "--strategy greedy --strategy '\x1b[31m: top_k=3'", "--json", "--jsonl"):
        out, _ = penna(capsys, f"generate hf --prompt '\x9b2J\x1b[2J' --max-new-tokens 2 {how}")
        assert "\x1b" not in out
        assert "\x9b" not in out
