"""Every kind of bad input ends in one message of three parts, the right exit code, and nothing half-written."""

import atexit
import contextlib
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow.parquet
import pytest

from penna.cli.main import run
from penna.errors import PennaError

TINY = """
[data]
path = "text.txt"
[tokenizer]
kind = "char"
[model]
n_layer = 1
n_head = 2
n_embd = 16
block_size = 16
[train]
steps = 2
batch_size = 4
threads = 1
sample_tokens = 0
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PENNA_DATA", raising=False)
    write_inputs(tmp_path)
    return tmp_path


def write_inputs(folder: Path) -> None:
    (folder / "text.txt").write_text("The quick brown fox jumps over the lazy dog.\n" * 40, encoding="utf-8")
    (folder / "tiny.toml").write_text(TINY, encoding="utf-8")


def written(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda place: (place / name).write_bytes(content)


def recipe(more: str) -> Callable[[Path], object]:
    return lambda place: (place / "bad.toml").write_text(more, encoding="utf-8")


def nothing(place: Path) -> None:
    pass


@cache
def runs_of_tiny() -> Path:
    """A folder of runs with one run of tiny.toml, trained once for all tests."""
    folder = Path(tempfile.mkdtemp(prefix="penna-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with contextlib.chdir(folder):
        write_inputs(folder)
        assert run(["train", "tiny.toml", "--name", "taken"]) == 0
    return folder / "runs"


def trained(place: Path) -> None:
    shutil.copytree(runs_of_tiny(), place / "runs", symlinks=True)


def other_tokenizer(place: Path) -> None:
    trained(place)
    (place / "other.txt").write_text("ÄÖÜ äöü ß\n" * 50, encoding="utf-8")
    assert run(["tokenizer", "train", "other.txt", "--kind", "char", "--output", "other"]) == 0


def edited(place: Path) -> None:
    trained(place)
    file = place / "runs" / "taken" / "recipe.toml"
    file.write_text(file.read_text().replace("steps = 2", "steps = 3"))


def changed(place: Path) -> None:
    trained(place)
    (place / "text.txt").write_text("Something else entirely, and long enough to learn from.\n" * 40)


def damaged(place: Path) -> None:
    trained(place)
    weights = (place / "runs" / "taken" / "last" / "model.safetensors").resolve()
    weights.write_bytes(weights.read_bytes()[:-10])


def parquet(place: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"head": ["a"], "body": ["b"]}), place / "t.parquet")


def cut_gzip(place: Path) -> None:
    (place / "t.txt.gz").write_bytes(gzip.compress(b"hello world " * 9999)[:100])


TAKE = "train tiny.toml --tokenizer.kind file --tokenizer.path"


@dataclass(frozen=True)
class Case:
    name: str
    command: str
    says: str  # part of the message
    prepare: Callable[[Path], object] = nothing
    code: int = 2


CASES = [
    Case("missing file", "train nowhere.txt", "no file or folder nowhere.txt"),
    Case("empty file", "train tiny.toml empty.txt", "no text in empty.txt", written("empty.txt", b"")),
    Case("blank file", "train tiny.toml blank.txt", "no text in blank.txt", written("blank.txt", b" \n\n ")),
    Case("binary file", "train tiny.toml b.txt", "is a binary file", written("b.txt", b"\x00\x01\x02\xff" * 99)),
    Case("UTF-16", "train tiny.toml w.txt", "UTF-16 byte-order mark", written("w.txt", "text".encode("utf-16"))),
    Case("Latin-1", "train tiny.toml l.txt", "byte 0xe9 at line 2", written("l.txt", "a\ncafé au lait".encode("latin1"))),
    Case("one character", "train tiny.toml one.txt", "one.txt has 1 characters; none is left for training", written("one.txt", b"x")),
    Case("one line", "train tiny.toml line.txt", "You need at least", written("line.txt", b"Just a line.\n")),
    Case("shorter than a block", "train tiny.toml --model.block-size 100000", "You need at least 100,001 tokens"),
    Case("a file of another format", "train tiny.toml t.pdf", "is a .pdf file", written("t.pdf", b"%PDF-1.7")),
    Case("a damaged parquet", "train tiny.toml t.parquet", "t.parquet", written("t.parquet", b"PAR1")),
    Case("a parquet without the column", "train tiny.toml t.parquet --data.text-column text", "'head', 'body'", parquet),
    Case("a gzip that ends early", "train tiny.toml t.txt.gz", "t.txt.gz ends early", cut_gzip),
    Case("ragged rows", "train tiny.toml r.csv", "r.csv:3: 3 columns", written("r.csv", b"text,n\na,1\nb,2,3\n")),
    Case("a model that is none", f"{TAKE} x.model", "is not a SentencePiece model", written("x.model", b"nonsense")),
    Case("a data set of the hub", "train tiny.toml hf://nobody/nothing", "hf://nobody/nothing"),
    Case("an empty folder", "train tiny.toml folder", "contains no .txt, .jsonl", lambda p: (p / "folder").mkdir()),
    Case(
        "a bad record",
        "train tiny.toml r.jsonl",
        "r.jsonl:2: not JSON",
        written("r.jsonl", b'{"text": "fine"}\n{"text": \n'),
    ),
    Case(
        "no such column",
        "train tiny.toml c.jsonl",
        "no field for the text (found: 'body', 'head'",
        written("c.jsonl", b'{"body": "fine", "head": "x"}\n'),
    ),
    Case("zero validation windows", "train tiny.toml --data.split document --data.valid-fraction 0.0001", "validation text is"),
    Case("unset variable", "train shakespeare-char", "needs the environment variable PENNA_DATA"),
    Case("unknown recipe", "train shakespear-char", "Did you mean 'shakespeare-char'"),
    Case("missing recipe file", "train mine.toml", "mine.toml cannot be read"),
    Case("not TOML", "train bad.toml", "not valid TOML", recipe("[model\nn_layer = 1")),
    Case("misspelt field", "train bad.toml", "Did you mean model.n_layer", recipe("[model]\nn_layers = 2")),
    Case("misspelt section", "train bad.toml", "Did you mean 'model'", recipe("[modle]\nn_layer = 2")),
    Case("misspelt flag", "train tiny.toml --model.n-layers 2", "Did you mean model.n_layer"),
    Case("wrong type", "train tiny.toml --model.n-layer many", "model.n_layer must be a whole number"),
    Case("out of range", "train tiny.toml --train.batch-size 0", "train.batch_size must be at least 1"),
    Case("no such kind", "train tiny.toml --schedule.kind cosin", "cosin"),
    Case("a field of another kind", "train tiny.toml --schedule.kind constant --schedule.factor 0.5", "schedule.factor"),
    Case("a source for running text", "train tiny.toml --model.arch seq2seq", 'model.arch = "seq2seq" does not work with task.kind = "pretrain"'),
    Case("indivisible", "train tiny.toml --model.n-embd 15", "n_embd = 15 must be divisible by n_head = 2"),
    Case("two budgets", "train tiny.toml --train.steps 5 --train.minutes 1", "steps and minutes"),
    Case("flag without value", "train tiny.toml --train.steps", "--train.steps has no value"),
    Case("a device that is not there", "train tiny.toml --train.device cuda:99", "'cuda:99' does not exist"),
    Case("a run name with a path", "train tiny.toml --name ../up", "'../up' is not a valid run name"),
    Case("a run name that exists", "train tiny.toml --name taken", "runs/taken exists", trained),
    Case(
        "overwriting what is no run",
        "train tiny.toml --name folder --overwrite",
        "is not a run",
        lambda p: (p / "runs" / "folder").mkdir(parents=True),
    ),
    Case("resuming no run", "resume nothing", "'nothing' is not a run"),
    Case("resume with another recipe", "resume taken --train.steps 9",
         "Resuming runs/taken cannot change its recipe (train.steps from 2 to 9).", trained),
    Case("resume with an edited recipe", "resume taken", "was changed after the run began", edited),
    Case("resume with changed text", "resume taken", "The text of runs/taken was changed", changed),
    Case("a damaged checkpoint", "resume taken", "is truncated or altered", damaged),
    Case("a tokenizer not the run's", "train tiny.toml --train.init-from taken --tokenizer.kind file --tokenizer.path "
         "other", "differs from this run's", other_tokenizer),
    Case("another shape", "train tiny.toml --train.init-from taken --model.n-layer 2", "another shape", trained),
    Case("another tokenizer beside a start", "train tiny.toml --train.init-from taken --tokenizer.kind bpe",
         "tokenizer.kind = bpe cannot be combined with train.init_from", trained),
    Case("another preset beside a start", "train tiny.toml --train.init-from taken --model.preset gpt1",
         "model.preset = gpt1 sets norm_position = post, but the model at taken has pre", trained),
    Case("a tokenizer that is not there", "train tiny.toml --tokenizer.kind file --tokenizer.path nope", "nope"),
    Case("a vocabulary too small", "train tiny.toml --tokenizer.kind bpe --tokenizer.vocab-size 10", "10 tokens"),
    Case("a field beside an extract", "complete taken a --extract 2 --top-k 3", "--top-k has no effect with --extract", trained),
    Case("a transcript in no folder", "chat nothing --transcript no/talk.jsonl", "no/talk.jsonl cannot be written"),
    Case("a transcript that is a folder", "chat nothing --transcript .", "The transcript . cannot be written"),
    Case("chatting without dialogues", "chat taken", "its task is pretrain, and its tokenizer has no chat", trained),
    Case("measuring replies without dialogues", "evaluate taken --task.kind chat --data.path text.txt",
         "its task is pretrain, and its tokenizer has no chat", trained),
    Case("generating from nothing", "generate nothing --prompt x", "'nothing' is not a run"),
    Case("a field where no recipe is followed", "generate taken --train.steps 3", "--train.steps has no effect here"),
    Case("a field that is not measured", "evaluate taken --model.n-layer 3", "model.n_layer = 3 has no effect", trained),
    Case("greedy at a temperature", "generate taken --greedy --temperature 1", "not allowed with argument --greedy"),
    Case("negative temperature", "generate taken --temperature -1", "temperature must be at least 0", trained),
    Case("greedy with top-k", "generate taken --greedy --top-k 3", "temperature = 0", trained),
    Case("top-p above one", "generate taken --top-p 1.5", "top_p must be at most 1", trained),
    Case("a prompt file that is not there", "generate taken --prompt-file p.txt", "p.txt cannot be read", trained),
    Case("evaluating a missing file", "evaluate taken --data.path no.txt", "no file or folder no.txt", trained),
    Case("importing no model", "import text.txt --name x", "text.txt"),
    Case("importing an empty folder", "import folder --name x", "config.json", lambda p: (p / "folder").mkdir()),
    Case("exporting onto files", "export taken --output full", "full", lambda p: (trained(p), (p / "full").mkdir(),
         (p / "full" / "a").write_text("x"))[0]),
    Case("plotting no run", "plot nothing", "'nothing' is not a run"),
    Case("no such command", "trian text.txt", "Did you mean `penna train`?"),
]  # fmt: skip


def everything(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_gives_one_message_of_three_parts_and_leaves_nothing(
    case: Case, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case.prepare(place)
    before = everything(place)
    capsys.readouterr()
    assert run(case.command.split()) == case.code
    out, err = capsys.readouterr()
    assert case.says in err
    message = err[err.index("penna: ") :].strip().splitlines()
    assert len(message) >= 3, message  # what happened, what was expected, what to do
    assert "Traceback" not in err
    assert out == ""
    assert {path for path in everything(place) - before if ".lock" not in path and path != "runs"} == set()


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that other users can read; pytest makes its own folders private again whenever it starts."""
    with tempfile.TemporaryDirectory(prefix="penna-tests-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        write_inputs(folder)
        yield folder


def test_an_unreadable_file_is_named(public_folder: Path) -> None:
    secret = public_folder / "secret.txt"
    secret.write_text("text " * 100)
    secret.chmod(0)
    command = [sys.executable, "-m", "penna", "train", "tiny.toml", str(secret)]
    if os.geteuid() == 0:  # root can read everything, so run as another user
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
    environment = {**os.environ, "PENNA_CACHE": str(public_folder / "cache")}

    def refused(folder: Path) -> str:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
        if "setpriv" in result.stderr or "Permission denied: '/root" in result.stderr or result.returncode == 126:
            pytest.skip("no other user can run this Python here")
        assert result.returncode == 2, result.stderr
        return "".join(result.stderr.split())  # a long path may be wrapped

    assert "secret.txtcannotberead:Permissiondenied" in refused(public_folder)
    public_folder.chmod(0o700)
    command.remove("tiny.toml")
    assert "cannotbereached:Permissiondenied" in refused(Path("/"))


def test_a_full_disk_is_reported_before_the_first_step(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(place)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert run(["train", "tiny.toml"]) == 2
    assert "MB free; the checkpoints need" in capsys.readouterr().err
    assert not (place / "runs").exists()


def test_a_bug_in_penna_exits_with_1_and_says_so(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from penna.cli import recipes

    def broken() -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(recipes, "list_recipes", broken)
    assert run(["recipes"]) == 1
    assert "This is a bug in Penna, not in your input." in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        run(["recipes", "--debug"])


def test_a_loss_that_is_not_finite_exits_with_1_and_names_the_last_checkpoint(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "train tiny.toml --name boom --optim.learning-rate 1e38 --optim.grad-clip none --train.steps 40".split()
    assert run(words) == 1
    err = capsys.readouterr().err
    assert "became" in err
    assert "step-00000000" in err
    assert json.loads((place / "runs" / "boom" / "last" / "state.json").read_text())["step"] == 0


@pytest.mark.skipif("not os.path.exists('/dev/full')")
@pytest.mark.parametrize(
    ("command", "unbuffered"),
    [("recipes", ""), ("recipes", "1"), ("generate taken --max-new-tokens 4", ""), ("evaluate taken", "1")],
)
def test_output_to_a_full_device_is_reported(place: Path, command: str, unbuffered: str) -> None:
    trained(place)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "penna", *command.split()],
            cwd=place, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    assert done.returncode == 2
    message = done.stderr[done.stderr.index("penna: ") :].splitlines()
    assert message[0] == "penna: The output cannot be written: No space left on device."
    assert len(message) == 3  # and nothing more as the interpreter ends


@pytest.mark.skipif("not os.path.isdir('/proc/self')")
@pytest.mark.parametrize("cache", ["/proc/nothing", "/proc/nothing/deeper"])
def test_a_cache_folder_that_cannot_be_created_is_named(
    place: Path, cache: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENNA_CACHE", cache)
    assert run(["data", "prepare", "text.txt"]) == 2
    err = capsys.readouterr().err
    assert f"penna: The cache folder {cache} cannot be created: No such file or directory.\n" in err
    assert "Set the environment variable PENNA_CACHE" in err


def test_a_quoted_sentence_adds_no_second_full_stop() -> None:
    error = PennaError("It failed: no such thing..", "Lines:\n  - one..\n  - two.", "Go on…  or wait...")
    assert str(error) == "It failed: no such thing.\nLines:\n  - one.\n  - two.\nGo on…  or wait..."
    assert error.happened == "It failed: no such thing."
    assert str(PennaError("Nothing stands in the folder ../..")) == "Nothing stands in the folder ../.."
