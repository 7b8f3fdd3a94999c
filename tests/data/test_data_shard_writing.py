"""Writing shards: after an interruption at any point they are resumed to the same bytes, and no half-written folder appears."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written_shards import Documents, encoded, write_documents

from penna.data import shards
from penna.data.encode import EncodedChunks
from penna.data.shards import JOURNAL, MANIFEST, TokenStream, find_shards, partial_folder, write_shards
from penna.errors import DataError, DeviceError

# With five tokens per file, train fills three files and starts a fourth, valid fills one and starts a second.
PARTS: dict[str, Documents] = {
    "train": [[1, 2], [3, 4, 5, 6], [7], list(range(8, 19)), [19], [20, 21, 22, 23], [24]],
    "valid": [[31, 32, 33], [34], [35, 36], [37]],
    "empty": [],
}


@pytest.fixture(autouse=True)
def _small_shards_without_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_SHARD_TOKENS", 5)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # each call takes milliseconds; Accident tests that it is called


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a folder that was written without an interruption."""
    folder = tmp_path_factory.mktemp("whole") / "s"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_SHARD_TOKENS", 5)
        write_documents(folder, PARTS)
    return content(folder)


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


class Killed(BaseException):
    """Stands for a kill: nothing catches it, and nothing runs after it."""


class Accident:
    """Lets ``after`` disk operations succeed; the next one fails, and after a kill all later ones too."""

    def __init__(self, patch: pytest.MonkeyPatch, after: int, kind: str) -> None:
        self.left, self.kind, self.happened = after, kind, False
        for module, name in [(os, "fsync"), (os, "replace"), (os, "rename"), (os, "mkdir"), (os, "unlink")]:
            patch.setattr(module, name, self.watched(getattr(module, name)))
        patch.setattr(shutil, "rmtree", self.watched(shutil.rmtree))
        patch.setattr(shards, "open", self.opened, raising=False)
        patch.setattr(os, "getpid", lambda: 1)  # temporary names contain it; the next attempt is another process

    def step(self) -> bool:
        self.left -= 1
        fails = self.left < 0 if self.kind == "kill" else self.left == -1
        self.happened = self.happened or fails
        return fails

    def strike(self) -> None:
        raise Killed if self.kind == "kill" else OSError(errno.ENOSPC, "No space left on device")

    def watched(self, operation: Callable[..., object]) -> Callable[..., object]:
        def watched(*arguments: object, **options: object) -> object:
            if self.step():
                self.strike()
            return operation(*arguments, **options)

        return watched

    def opened(self, path: Path, mode: str) -> "Watched":
        return Watched(open(path, mode, buffering=0), self)


class Watched:
    """A file whose last write may reach the disk only by half."""

    def __init__(self, file: Any, accident: Accident) -> None:
        self.file, self.accident = file, accident
        self.flush, self.fileno, self.close = file.flush, file.fileno, file.close

    def write(self, ids: bytes) -> None:
        if self.accident.step():
            self.file.write(ids[: len(ids) // 2])
            self.accident.strike()
        self.file.write(ids)


@pytest.mark.parametrize("kind", ["kill", "full disk"])
def test_writing_resumes_after_a_failure_of_any_disk_operation(tmp_path: Path, whole: dict[str, bytes], kind: str):
    after = 0
    for after in range(200):
        folder = tmp_path / f"{after}" / "s"
        with pytest.MonkeyPatch.context() as patch:
            accident = Accident(patch, after, kind)
            with contextlib.suppress(Killed, DeviceError):
                write_documents(folder, PARTS)
        if not accident.happened:
            break
        assert not folder.exists() or content(folder) == whole, "half a folder under the final name"
        if find_shards(folder) is None:
            write_documents(folder, PARTS)
        assert content(folder) == whole
        assert [entry.name for entry in folder.parent.iterdir()] == ["s"], "something was left behind"
    assert after > 40, "the accidents stopped too early"


def skips(folder: Path, messages: list[str]) -> dict[str, int]:
    """Write, and return how many chunks of each part were skipped."""
    skipped: dict[str, int] = {}

    def source(skip: Mapping[str, int]) -> Generator[EncodedChunks]:
        skipped.update(skip)
        return encoded(PARTS, skip)

    write_shards(
        folder, source, list(PARTS), vocab_size=300, tokenizer_hash="t", content_hash="c", report=messages.append
    )
    return skipped


def kill_after_journals(folder: Path, count: int) -> None:
    """Write until ``count`` journals are written, then stop as if killed."""
    with pytest.MonkeyPatch.context() as patch:
        write_journal, written = shards._write_journal, 0

        def counted(*arguments: object) -> None:
            nonlocal written
            write_journal(*arguments)
            written += 1
            if written == count:
                raise Killed

        patch.setattr(shards, "_write_journal", counted)
        with pytest.raises(Killed):
            write_documents(folder, PARTS)


# Files of train end after its chunks 2, 4 and 6 (of 7); of valid after 3 (of 4).
@pytest.mark.parametrize(
    ("journals", "skipped", "tokens"),
    [
        (1, {"train": 2}, 6),
        (2, {"train": 4}, 18),
        (3, {"train": 6}, 23),
        (4, {"train": 6, "valid": 3}, 29),
    ],
)
def test_the_chunks_of_finished_files_are_not_encoded_again(
    tmp_path: Path, whole: dict[str, bytes], journals: int, skipped: dict[str, int], tokens: int
):
    kill_after_journals(tmp_path / "s", journals)
    messages: list[str] = []
    assert skips(tmp_path / "s", messages) == skipped
    assert messages == [f"Resuming after {tokens} tokens that were prepared earlier"]
    assert content(tmp_path / "s") == whole


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 299), min_size=1, max_size=9), min_size=1, max_size=12),
    st.integers(1, 12),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(0, 12),
)
def test_the_files_do_not_depend_on_the_batches_or_on_an_interruption(
    tmp_path_factory, documents, shard_tokens, batch_size, other_size, after
):
    folder = tmp_path_factory.mktemp("b")

    def interrupted(skip: Mapping[str, int]) -> Generator[EncodedChunks]:
        yield from encoded({"train": documents[:after]}, skip, batch_size=other_size)
        raise Killed

    def write(name: str, source: Callable) -> None:
        write_shards(folder / name, source, ["train"], vocab_size=300, tokenizer_hash="t", content_hash="c")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_SHARD_TOKENS", shard_tokens)
        write("a", partial(encoded, {"train": documents}, batch_size=batch_size))
        with pytest.raises(Killed):
            write("b", interrupted)
        write("b", partial(encoded, {"train": documents}, batch_size=other_size))
    assert content(folder / "a") == content(folder / "b")
    stream = TokenStream(folder / "a", "train")
    assert stream.read(0, len(stream)).tolist() == [number for ids in documents for number in ids]


def damage_shard(folder: Path) -> None:
    file = folder / "train-00001.bin"
    file.write_bytes(file.read_bytes()[:-2])


def remove_shard(folder: Path) -> None:
    (folder / "train-00000.bin").unlink()


def damage_journal(folder: Path) -> None:
    (folder.parent / JOURNAL).write_text("{")


def miscount_tokens(folder: Path) -> None:
    journal = folder.parent / JOURNAL
    raw = json.loads(journal.read_text())
    raw["manifest"]["parts"]["train"]["tokens"] += 1
    journal.write_text(json.dumps(raw))


def other_tokenizer(folder: Path) -> None:
    journal = folder.parent / JOURNAL
    raw = json.loads(journal.read_text())
    raw["manifest"]["tokenizer_hash"] = "another"
    journal.write_text(json.dumps(raw))


@pytest.mark.parametrize("harm", [damage_shard, remove_shard, damage_journal, miscount_tokens, other_tokenizer])
def test_a_damaged_partial_folder_is_written_anew(tmp_path: Path, whole: dict[str, bytes], harm):
    kill_after_journals(tmp_path / "s", 4)
    harm(partial_folder(tmp_path / "s") / "shards")
    messages: list[str] = []
    assert skips(tmp_path / "s", messages) == {}
    assert messages == []
    assert content(tmp_path / "s") == whole


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, DataError])
def test_an_error_of_the_source_passes_through_and_keeps_the_previous_shards(
    tmp_path: Path, error: type[BaseException]
):
    def source(_: Mapping[str, int]) -> Generator[EncodedChunks]:
        yield from encoded({"train": [[1] * 9, [2]]}, {})
        raise error("interrupted")

    def attempt() -> None:
        write_shards(tmp_path / "s", source, ["train"], vocab_size=300, tokenizer_hash="", content_hash="")

    with pytest.raises(error):
        attempt()
    assert [entry.name for entry in tmp_path.iterdir()] == [partial_folder(tmp_path / "s").name]
    assert [file.name for file in (partial_folder(tmp_path / "s") / "shards").iterdir()] == ["train-00000.bin"]
    write_documents(tmp_path / "s", {"train": [[4, 2]]})
    with pytest.raises(error):
        attempt()
    assert TokenStream(tmp_path / "s", "train").read(0, 2).tolist() == [4, 2]


def test_the_source_is_closed_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    closed = False

    def source(skip: Mapping[str, int]) -> Generator[EncodedChunks]:
        nonlocal closed
        try:
            yield from encoded({"train": [[1] * 9, [2]]}, skip, batch_size=1)
        finally:
            closed = True

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards._ShardFile, "finish", full)
    with pytest.raises(OSError, match="No space"):
        write_shards(tmp_path / "s", source, ["train"], vocab_size=300, tokenizer_hash="", content_hash="")
    assert closed


def test_a_full_disk_is_reported_and_the_unfinished_file_removed(tmp_path: Path):
    limited = (
        "import resource, sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path\n"
        "from penna.data import shards\n"
        "from penna.errors import DeviceError\n"
        "from written_shards import write_documents\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "shards._SHARD_TOKENS = 2000\n"
        "documents = [[1] * 500] * 6 + [[2] * 50_000]\n"
        "try:\n"
        "    write_documents(Path(sys.argv[1]), {'train': documents})\n"
        "except DeviceError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", limited, str(tmp_path / "s"), str(Path(__file__).parent)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "The disk is full" in output
    assert "train-00001.bin" in output
    left = partial_folder(tmp_path / "s")
    assert sorted(content(left)) == [JOURNAL, "shards/train-00000.bin"]


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from penna.data import shards
from test_data_shard_writing import PARTS
from written_shards import write_documents

shards._SHARD_TOKENS = 5
write, left = shards._ShardFile.write, int(sys.argv[2])

def dying(file, ids, tokens):
    global left
    left -= 1
    if left < 0:
        write(file, ids[:2], 1)
        file._stream.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    write(file, ids, tokens)

shards._ShardFile.write = dying
write_documents(Path(sys.argv[1]), PARTS)
"""


@pytest.mark.parametrize("writes", [1, 6])
def test_writing_resumes_after_a_killed_process(tmp_path: Path, whole: dict[str, bytes], writes: int):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "s"), str(writes), str(Path(__file__).parent)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL
    assert [entry.name for entry in tmp_path.iterdir()] == [partial_folder(tmp_path / "s").name]
    messages: list[str] = []
    skips(tmp_path / "s", messages)
    assert len(messages) == 1
    assert content(tmp_path / "s") == whole


def test_writing_again_replaces_a_folder_without_a_manifest(tmp_path: Path, whole: dict[str, bytes]):
    write_documents(tmp_path / "s", {"train": [[1, 2, 3]], "other": [[1]]})
    (tmp_path / "s" / MANIFEST).unlink()
    assert find_shards(tmp_path / "s") is None
    write_documents(tmp_path / "s", PARTS)
    assert content(tmp_path / "s") == whole


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 3))
def test_parts_that_alternate_give_the_same_files_as_one_part_after_the_other(
    tmp_path_factory, whole: dict[str, bytes], random, batch_size: int
):
    def source(skip: Mapping[str, int]) -> Generator[EncodedChunks]:
        waiting = {name: list(encoded({name: PARTS[name]}, skip, batch_size=batch_size)) for name in PARTS}
        while any(waiting.values()):
            yield waiting[random.choice([name for name in PARTS if waiting[name]])].pop(0)

    folder = tmp_path_factory.mktemp("alternating") / "s"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_SHARD_TOKENS", 5)
        write_shards(folder, source, list(PARTS), vocab_size=300, tokenizer_hash="t", content_hash="c")
    assert content(folder) == whole
