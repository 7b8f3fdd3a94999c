"""Preparation: shards equal the text, work is done once, and the tokenizer never sees validation text."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from penna.config.sections import DataConfig, TokenizerConfig
from penna.data import encode, shards
from penna.data import prepare as module
from penna.data.encode import count_words
from penna.data.prepare import PreparedShards, describe_counts, prepare, prepare_for_evaluation
from penna.data.shards import MANIFEST, TokenStream
from penna.data.sources import records
from penna.data.split import TextChangedError
from penna.errors import DataError, PennaError
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer

SENTENCES = [f"The {a} {b} goes to the {c} by the sea.\n" for a in "abcd" for b in "efgh" for c in ("마을", "town 🙂")]
KINDS = ["char", "bpe", "unigram"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENNA_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def learned() -> dict[str, Tokenizer]:
    return {kind: train_tokenizer(TokenizerConfig(kind=kind, vocab_size=480), SENTENCES) for kind in KINDS}


def source(folder: Path, texts: list[str]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return str(file)


def texts_of(prepared: PreparedShards, part: str) -> list[str]:
    """The documents of a part, as the corpus splits them."""
    texts: list[str] = []
    for piece in prepared.corpus.chunks(part):
        if piece.starts:
            texts.append("")
        texts[-1] += piece.text
    return texts


def ids_in(folder: Path, part: str) -> list[int]:
    stream = TokenStream(folder, part)
    return stream.read(0, len(stream)).tolist()


def documents_in(prepared: PreparedShards, part: str) -> list[str]:
    """The texts of a part's ids: split at each separator and decoded one by one."""
    texts: list[list[int]] = []
    for number in ids_in(prepared.folder, part):
        if number == prepared.tokenizer.separator_id:
            texts.append([])
        else:
            texts[-1].append(number)
    return [prepared.tokenizer.decode(ids) for ids in texts]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", ["document", "position"])
def test_decoded_shards_are_the_text_with_a_separator_before_each_document(tmp_path: Path, learned, kind, split):
    data = DataConfig(path=source(tmp_path, SENTENCES), split=split, valid_fraction=0.3)
    prepared = prepare(data, learned[kind])
    for part in ("train", "valid"):
        texts = texts_of(prepared, part)
        assert documents_in(prepared, part) == texts
        separated = [[prepared.tokenizer.separator_id, *prepared.tokenizer.encode(text)] for text in texts]
        assert ids_in(prepared.folder, part) == [number for ids in separated for number in ids]
        counted = prepared.manifest.parts[part]
        assert counted.documents == len(texts) > 0
        assert counted.bytes == len("".join(texts).encode())
        assert counted.words == sum(map(count_words, texts))
        assert counted.tokens == len(TokenStream(prepared.folder, part))
    assert prepared.bytes_per_token == prepared.manifest.parts["train"].bytes / prepared.manifest.parts["train"].tokens


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.text(alphabet="ab \n\r\t가🙂", min_size=1, max_size=60), min_size=1, max_size=4).filter(
        lambda texts: any(text.strip() for text in texts)
    ),
    sizes=st.tuples(st.integers(2, 9), st.integers(1, 30)),
    kind=st.sampled_from(KINDS),
)
def test_long_documents_encoded_in_chunks_lose_nothing_and_have_one_separator(
    tmp_path_factory, learned, texts, sizes, kind
):
    folder = tmp_path_factory.mktemp("p")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PENNA_CACHE", str(folder / "cache"))
        patch.setattr(records, "CHUNK_CHARACTERS", sizes[0])
        patch.setattr(encode, "_BATCH", sizes[1])
        file = source(folder, texts)
        prepared = prepare(DataConfig(path=file, valid_path=file), learned[kind])
        pieces = [list(records.split_text(text)) for text in texts if text.strip()]
    usable = [text for text in texts if text.strip()]
    assert documents_in(prepared, "train") == usable
    expected = [
        [learned[kind].separator_id, *(id for piece in cut for id in learned[kind].encode(piece))] for cut in pieces
    ]
    assert ids_in(prepared.folder, "train") == [number for ids in expected for number in ids]
    counted = prepared.manifest.parts["train"]
    assert counted.documents == len(usable)
    assert counted.bytes == len("".join(usable).encode())
    assert counted.words == sum(map(count_words, usable))


def test_the_second_preparation_reuses_tokenizer_and_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = DataConfig(path=source(tmp_path / "here", SENTENCES))
    config = TokenizerConfig(kind="bpe", vocab_size=300)
    said: list[str] = []
    first = prepare(data, config, report=said.append)
    assert said == [
        "Reading the text",
        "Training a bpe tokenizer",
        "The text is too small for 300 tokens: the vocabulary has 289.",
        "Tokenizing the text",
    ]

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr(Tokenizer, "encode_batch", forbidden)
    monkeypatch.setattr(module, "train_tokenizer", forbidden)
    monkeypatch.setattr(module, "write_shards", forbidden)
    said.clear()
    again = prepare(data, config, report=said.append)
    assert said == ["Reading the text"]
    assert (again.folder, again.manifest) == (first.folder, first.manifest)
    assert again.tokenizer.fingerprint() == first.tokenizer.fingerprint()
    moved = DataConfig(path=source(tmp_path / "there", SENTENCES))
    assert prepare(moved, config).folder == first.folder


def test_another_text_split_or_tokenizer_is_prepared_anew(tmp_path: Path):
    char, bpe = TokenizerConfig(kind="char"), TokenizerConfig(kind="bpe", vocab_size=300)
    same = source(tmp_path / "a", SENTENCES)
    other = source(tmp_path / "b", [*SENTENCES[:-1], "changed"])
    folders = {
        prepare(data, tokenizer).folder
        for data, tokenizer in [
            (DataConfig(path=same), char),
            (DataConfig(path=other), char),
            (DataConfig(path=same, valid_fraction=0.2), char),
            (DataConfig(path=same, split="position"), char),
            (DataConfig(path=same), bpe),
        ]
    }
    assert len(folders) == 5


def test_everything_is_written_to_the_cache_folder(tmp_path: Path):
    folder = prepare(DataConfig(path=source(tmp_path / "in", SENTENCES)), TokenizerConfig(kind="char")).folder
    assert folder.parent == tmp_path / "cache" / "shards"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["cache", "in"]
    assert [entry.name for entry in (tmp_path / "in").iterdir()] == ["texts.jsonl"]


def test_a_damaged_cache_is_refused(tmp_path: Path):
    data = DataConfig(path=source(tmp_path, SENTENCES))
    folder = prepare(data, TokenizerConfig(kind="char")).folder
    (folder / MANIFEST).write_text("{")
    with pytest.raises(DataError, match="damaged"):
        prepare(data, TokenizerConfig(kind="char"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokenizer_is_trained_on_the_training_part_only(tmp_path: Path, kind: str):
    training = source(tmp_path / "a", SENTENCES)
    held_out = source(tmp_path / "b", ["ξενος ουρανος ξενος ουρανος ξενος ουρανος"] * 30)
    config = TokenizerConfig(kind=kind, vocab_size=400)
    apart = prepare(DataConfig(path=training, valid_path=held_out), config).tokenizer
    assert apart.fingerprint() == train_tokenizer(config, SENTENCES).fingerprint()
    together = prepare(DataConfig(path=[training, held_out], valid_path=held_out), config).tokenizer
    assert together.fingerprint() != apart.fingerprint()
    assert len(together.encode("ξενος")) < len(apart.encode("ξενος"))


def test_by_position_the_tokenizer_does_not_see_the_last_part(tmp_path: Path):
    (tmp_path / "a.txt").write_text("a" * 900 + "ξ" * 100, encoding="utf-8")
    data = DataConfig(path=str(tmp_path / "a.txt"), split="position", valid_fraction=0.1)
    tokenizer = prepare(data, TokenizerConfig(kind="char")).tokenizer
    assert len(tokenizer.encode("ξ")) == 2  # its two bytes: it was never seen as a character


def test_a_tokenizer_file_is_read_and_not_trained(tmp_path: Path, learned, monkeypatch: pytest.MonkeyPatch):
    learned["bpe"].save(tmp_path / "tok")
    monkeypatch.setenv("SOME_TOKENIZER", str(tmp_path / "tok"))
    config = TokenizerConfig(kind="file", path="$SOME_TOKENIZER")
    prepared = prepare(DataConfig(path=source(tmp_path, SENTENCES)), config)
    assert prepared.tokenizer.fingerprint() == learned["bpe"].fingerprint() == prepared.manifest.tokenizer_hash


def test_a_text_that_spells_the_separator_gets_no_separator(tmp_path: Path, learned):
    text = "a <|endoftext|> b"
    file = source(tmp_path, [text])
    prepared = prepare(DataConfig(path=file, valid_path=file), learned["bpe"])
    assert documents_in(prepared, "train") == [text]


def test_the_whole_text_is_prepared_for_evaluation_and_its_words_are_counted(tmp_path: Path, learned):
    data = DataConfig(path=source(tmp_path, SENTENCES), valid_fraction=0.5)
    folder, part = prepare_for_evaluation(data, learned["bpe"])
    assert part.words == sum(len(text.split()) + 1 for text in SENTENCES)
    assert part == TokenStream(folder, "valid").part
    assert part.documents == len(SENTENCES)
    assert part.bytes == len("".join(SENTENCES).encode())
    assert learned["bpe"].decode(ids_in(folder, "valid")) == "".join(f"<|endoftext|>{text}" for text in SENTENCES)
    assert prepare_for_evaluation(data, learned["bpe"])[0] == folder


def test_a_text_that_changes_during_preparation_is_refused_and_leaves_no_shards(tmp_path: Path, learned):
    data = DataConfig(path=source(tmp_path, SENTENCES))

    def change(said: str) -> None:
        if said == "Tokenizing the text":
            source(tmp_path, [*SENTENCES[:-1], "changed"])

    with pytest.raises(TextChangedError, match="changed while it was being prepared"):
        prepare(data, learned["bpe"], report=change)
    assert not [entry for entry in (tmp_path / "cache" / "shards").iterdir() if entry.suffix != ".lock"]
    source(tmp_path, SENTENCES)
    prepared = prepare(data, learned["bpe"])
    assert sorted(documents_in(prepared, "train") + documents_in(prepared, "valid")) == sorted(SENTENCES)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_changes_during_tokenizer_training_leaves_no_tokenizer(tmp_path: Path, kind: str):
    data = DataConfig(path=source(tmp_path, SENTENCES))

    def change(said: str) -> None:
        if said.startswith("Training"):
            source(tmp_path, [*SENTENCES[:-1], "changed"])

    with pytest.raises(TextChangedError, match="changed while it was being prepared"):
        prepare(data, TokenizerConfig(kind=kind, vocab_size=400), report=change)
    assert not [entry for entry in (tmp_path / "cache" / "tokenizers").iterdir() if entry.suffix != ".lock"]


@pytest.mark.parametrize("batches", [6, 12])
def test_an_interrupted_preparation_is_resumed_with_the_same_result(
    tmp_path: Path, learned, monkeypatch: pytest.MonkeyPatch, batches: int
):
    monkeypatch.setattr(records, "CHUNK_CHARACTERS", 64)  # less than two sentences
    monkeypatch.setattr(encode, "_BATCH", 200)
    monkeypatch.setattr(shards, "_SHARD_TOKENS", 120)
    texts = ["".join(SENTENCES[number : number + 3]) for number in range(30)]
    data = DataConfig(path=source(tmp_path, texts), split="document", valid_fraction=0.4)
    encode_batch = Tokenizer.encode_batch
    seen: list[str] = []

    def prepared_in(cache: str, most: int) -> dict[str, bytes]:
        """The files of a preparation that fails after ``most`` encoded batches."""
        seen.clear()
        done = iter(range(most))

        def limited(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
            if next(done, None) is None:
                raise KeyboardInterrupt
            seen.extend(texts)
            return encode_batch(tokenizer, texts)

        monkeypatch.setenv("PENNA_CACHE", str(tmp_path / cache))
        monkeypatch.setattr(Tokenizer, "encode_batch", limited)
        folder = prepare(data, learned["bpe"]).folder
        return {file.name: file.read_bytes() for file in folder.iterdir()}

    whole = prepared_in("one", 1000)
    every = len(seen)
    assert len(whole) > 6
    with pytest.raises(KeyboardInterrupt):
        prepared_in("two", batches)
    assert prepared_in("two", 1000) == whole
    assert 0 < len(seen) < every


def test_preparation_waits_for_another_process_and_uses_its_result(
    tmp_path: Path, learned, monkeypatch: pytest.MonkeyPatch
):
    data = DataConfig(path=source(tmp_path, SENTENCES))
    folder = prepare(data, learned["bpe"]).folder
    aside = folder.rename(tmp_path / "aside")
    begun, waited_for = threading.Event(), threading.Event()

    def other() -> None:
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            begun.set()
            waited_for.wait(60)
            aside.rename(folder)

    at_work = threading.Thread(target=other)
    at_work.start()
    begun.wait(60)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if "another process" in text:
            waited_for.set()

    monkeypatch.setattr(module, "write_shards", None)
    assert prepare(data, learned["bpe"], report=say).folder == folder
    at_work.join()
    assert said == ["Reading the text", "Waiting for another process that is preparing the same text"]


AT_ONCE = """
import sys
from penna.config.sections import DataConfig, TokenizerConfig
from penna.data.prepare import prepare
sys.stdin.readline()
prepared = prepare(DataConfig(path=sys.argv[1]), TokenizerConfig(kind="bpe", vocab_size=300), report=print)
print(prepared.folder, prepared.manifest.parts["train"].tokens)
"""


def test_of_two_processes_one_does_the_work_and_both_get_the_result(tmp_path: Path):
    command = [sys.executable, "-c", AT_ONCE, source(tmp_path, SENTENCES * 20)]
    both = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    lines = [out.splitlines() for out, _ in outputs]
    assert lines[0][-1] == lines[1][-1]
    for work in ("Training a bpe tokenizer", "Tokenizing the text"):
        assert sum(each.count(work) for each in lines) == 1


@pytest.mark.parametrize("text", ["x", "한", "ab"])
def test_a_very_short_text_is_prepared_or_refused_with_advice(tmp_path: Path, text: str):
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    for kind in KINDS:
        try:
            prepared = prepare(DataConfig(path=str(tmp_path / "a.txt")), TokenizerConfig(kind=kind, vocab_size=300))
        except PennaError as error:
            assert error.advice
            continue
        assert sum(part.bytes for part in prepared.manifest.parts.values()) == len(text.encode())


def test_the_description_of_counts_names_skipped_documents(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"text": "abc"}\n{"text": ""}\n{\n', encoding="utf-8")
    data = DataConfig(path=str(tmp_path / "a.jsonl"), allow_bad_records=0.5)
    line = describe_counts(prepare(data, TokenizerConfig(kind="char")).corpus.counts)
    assert line.startswith("1 document, 3 characters, 3 bytes, 1 empty document skipped, 1 bad record skipped")
    assert "a.jsonl:3: not JSON" in line


PEAK = """
import resource, sys
from penna.config.sections import DataConfig, TokenizerConfig
from penna.data.prepare import prepare
from penna.tokenizer.tokenizer import Tokenizer
prepare(DataConfig(path=sys.argv[1]), Tokenizer.load(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["txt", "jsonl"])
def test_memory_does_not_grow_with_the_text(tmp_path: Path, learned, ending: str):
    learned["bpe"].save(tmp_path / "tokenizer")

    def peak(megabytes: int) -> int:
        file = tmp_path / f"{megabytes}.{ending}"
        with open(file, "w", encoding="utf-8") as stream:
            written = number = 0
            while written < megabytes * 1e6:
                text = f"{number} " + "The 마을 goes to the town by the sea.\n" * 20
                written += stream.write(text if ending == "txt" else json.dumps({"text": text}) + "\n")
                number += 1
        command = [sys.executable, "-c", PEAK, str(file), str(tmp_path / "tokenizer")]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert peak(30) - peak(5) < 30  # the longer text alone, at two bytes a character, would be 50 MB more
