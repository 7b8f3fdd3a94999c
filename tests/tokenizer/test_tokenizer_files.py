"""Saved tokenizers load unchanged in Penna and transformers; other files are refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from multilingual_texts import texts
from tokenizers import AddedToken, decoders, models, normalizers, processors
from tokenizers import Tokenizer as Inner
from transformers import AutoTokenizer

from penna.errors import DeviceError, TokenizerError
from penna.tokenizer.stream_decoder import StreamDecoder
from penna.tokenizer.tokenizer import SEPARATOR, Tokenizer


@pytest.fixture(scope="module")
def saved(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "deep" / "tokenizer"
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="module")
def theirs(saved: Path):
    return AutoTokenizer.from_pretrained(saved, local_files_only=True)


@given(text=texts)
@settings(max_examples=200, deadline=None)
def test_transformers_gives_the_same_ids_and_text(tokenizer: Tokenizer, theirs, text: str) -> None:
    ids = tokenizer.encode(text)
    # split_special_tokens makes transformers treat control tokens in text as text, as Penna does.
    theirs.backend_tokenizer.encode_special_tokens = True
    assert theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] == ids
    assert theirs.decode(ids) == text == tokenizer.decode(ids)


LANGUAGES = {
    "Korean": "안녕하세요, 세계! 갉아 \u1112\u1161\u11ab글",
    "Chinese": "你好，世界。繁體字 𠮷野家",
    "Japanese": "日本語のテキスト、カタカナ か\u3099 ｶﾞ",
    "Arabic": "مرحبا بالعالم، كَيْفَ حالُك؟",
    "Hindi": "नमस्ते दुनिया, क़ क\u093c",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇰🇷🇨🇳 ❤️",
    "combining marks": "e\u0301 o\u0308\u0304 a\u0323\u0302 Z̷̢a̸l̶g̵o̴",
    "code": "def f(x: int) -> str:\n\treturn {'a': [x**2, 0x1F]}  # <b>\r\n",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_transformers_gives_the_same_ids_in_many_scripts(tokenizer: Tokenizer, theirs, language: str) -> None:
    text = LANGUAGES[language]
    assert theirs(text)["input_ids"] == tokenizer.encode(text)
    assert theirs.decode(tokenizer.encode(text)) == text


def test_the_separator_is_the_end_token_in_transformers(tokenizer: Tokenizer, saved: Path) -> None:
    theirs = AutoTokenizer.from_pretrained(saved, local_files_only=True)
    assert (theirs.eos_token, theirs.eos_token_id) == (SEPARATOR, tokenizer.separator_id)
    assert theirs("a", add_special_tokens=True)["input_ids"] == tokenizer.encode("a")
    assert len(theirs) == theirs.vocab_size == tokenizer.vocab_size


def test_a_saved_tokenizer_loads_unchanged(tokenizer: Tokenizer, saved: Path) -> None:
    text = f"The quick 갉 {SEPARATOR}\t龘"
    for path in (saved, str(saved), saved / "tokenizer.json", saved.parent):  # the last as a run folder holds it
        loaded = Tokenizer.load(path)
        assert loaded.fingerprint() == tokenizer.fingerprint()
        assert loaded.encode(text) == tokenizer.encode(text)
        assert loaded.special_tokens == tokenizer.special_tokens
        assert loaded.separator_id == tokenizer.separator_id
        assert loaded.token_bytes() == tokenizer.token_bytes()


def test_saving_writes_two_files_and_saving_again_changes_neither(saved: Path, tmp_path: Path) -> None:
    assert sorted(file.name for file in saved.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    Tokenizer.load(saved).save(tmp_path)
    for file in saved.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()


def test_a_failed_save_keeps_the_old_file(
    tokenizers: dict[str, Tokenizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    tokenizers["char"].save(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(DeviceError, match="The disk is full"):
        tokenizers["bpe"].save(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_the_fingerprint_differs_between_tokenizers_and_ignores_spacing(
    tokenizers: dict[str, Tokenizer], tmp_path: Path
) -> None:
    assert len({tokenizer.fingerprint() for tokenizer in tokenizers.values()}) == 3
    tokenizers["bpe"].save(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(content, sort_keys=True), encoding="utf-8")
    assert Tokenizer.load(tmp_path).fingerprint() == tokenizers["bpe"].fingerprint()


def test_another_tools_tokenizer_keeps_its_settings_and_adds_no_special_tokens(tmp_path: Path) -> None:
    """Like Llama's: "▁" for spaces, a beginning token, truncation turned on, its own end token."""
    inner = Inner(
        models.BPE(
            {"<s>": 0, "</s>": 1, "▁": 2, "a": 3, "▁a": 4, "<0xC3>": 5, "<0xA9>": 6}, [("▁", "a")], byte_fallback=True
        )
    )
    inner.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    inner.enable_truncation(2)
    inner.save(str(tmp_path / "tokenizer.json"))
    config = {"eos_token": {"content": "</s>"}, "model_max_length": 77, "clean_up_tokenization_spaces": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")

    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode("a aé") == [4, 4, 5, 6]
    assert tokenizer.decode([4, 4, 5, 6]) == "a aé"
    assert tokenizer.token_bytes() == [b"", b"", b" ", b"a", b" a", b"\xc3", b"\xa9"]
    assert (tokenizer.special_tokens, tokenizer.separator_id) == ({"<s>": 0, "</s>": 1}, 1)
    stream = StreamDecoder(tokenizer)
    assert [stream.push(index) for index in (3, 5, 6, 1)] == ["a", "", "é", "</s>"]
    tokenizer.save(tmp_path / "again")
    kept = json.loads((tmp_path / "again" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert kept["model_max_length"] == 77 and kept["chat_template"] == "{{ messages }}"
    assert kept["clean_up_tokenization_spaces"] is False
    assert Tokenizer.load(tmp_path / "again").separator_id == 1


def refusal(path: Path | str) -> TokenizerError:
    with pytest.raises(TokenizerError) as caught:
        Tokenizer.load(path)
    assert caught.value.happened and caught.value.expected and caught.value.advice
    return caught.value


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path / "nowhere")
    assert f"There is no file or folder {tmp_path / 'nowhere'}" in error.happened


def test_a_hub_name_is_refused_with_a_download_command() -> None:
    error = refusal("openai-community/gpt2")
    assert "Hugging Face hub" in error.happened
    assert "hf download openai-community/gpt2" in error.advice


def test_a_folder_without_a_tokenizer_is_refused_with_its_content(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    error = refusal(tmp_path)
    assert "model.safetensors" in error.happened
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "*.model", "vocab.txt", "tokenizer/"):
        assert name in error.expected
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "it contains nothing" in refusal(empty).happened


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"model": ', "is not JSON"),
        (b"[1, 2]", "does not contain a JSON object"),
        (b'{"model": {"type": "BPE"}}', "is JSON, but not a tokenizer"),
        (b"\xff\xfe", "cannot be read as text"),
    ],
)
def test_a_damaged_tokenizer_json_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    assert words in refusal(tmp_path).happened
    assert words in refusal(tmp_path / "tokenizer.json").happened


def test_a_vocabulary_without_its_merges_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0}', encoding="utf-8")
    assert "merges.txt is missing" in refusal(tmp_path).happened


def test_a_vocabulary_that_is_not_byte_level_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a</w>": 0, "a": 1}', encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    assert "has no entry for 255 of the 256 bytes" in refusal(tmp_path / "vocab.json").happened
