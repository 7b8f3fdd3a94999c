"""Translations: complete in every language, used by the code, with the same placeholders."""

import ast
import re
import string
from pathlib import Path

import pytest

import penna.studio
from penna.config.generation import GenerationConfig
from penna.explain.explanation import METHODS
from penna.studio.i18n import LANGUAGES, preferred_language, t, texts

SOURCES = sorted(Path(penna.studio.__file__).parent.rglob("*.py"))
KEY = re.compile(r"[a-z]+\.[\w-]+")


def placeholders(text: str) -> set[str]:
    return {f"{name}:{spec}" for _, name, spec, _ in string.Formatter().parse(text) if name is not None}


def string_patterns() -> list[re.Pattern[str]]:
    """A pattern for every string of the studio's code; a placeholder of an f-string matches any name."""
    patterns: set[str] = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                patterns.add(re.escape(node.value))
            elif isinstance(node, ast.JoinedStr):
                parts = [
                    re.escape(str(part.value)) if isinstance(part, ast.Constant) else r"[\w-]+" for part in node.values
                ]
                patterns.add("".join(parts))
    return [re.compile(pattern) for pattern in sorted(patterns) if re.match(r"[a-z]+\\\.", pattern)]


def called_keys() -> list[re.Pattern[str]]:
    """A pattern for the key of every call of ``t`` and ``note``."""
    patterns: set[str] = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("t", "note")):
                continue
            key = node.args[0]
            if isinstance(key, ast.Constant):
                patterns.add(re.escape(str(key.value)))
            elif isinstance(key, ast.JoinedStr):
                parts = [
                    re.escape(str(part.value)) if isinstance(part, ast.Constant) else r"[\w-]+" for part in key.values
                ]
                patterns.add("".join(parts))
    return [re.compile(pattern) for pattern in sorted(patterns)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_key_in_the_same_order(language: str):
    assert list(texts(language)) == list(texts("en"))
    assert all(KEY.fullmatch(key) and text.strip() for key, text in texts(language).items())


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_the_same_placeholders(language: str):
    different = [key for key, text in texts("en").items() if placeholders(text) != placeholders(texts(language)[key])]
    assert different == []


def test_every_key_is_used():
    patterns = string_patterns()
    assert [key for key in texts("en") if not any(pattern.fullmatch(key) for pattern in patterns)] == []


def test_every_used_key_exists():
    missing = [key.pattern for key in called_keys() if not any(key.fullmatch(known) for known in texts("en"))]
    assert missing == []
    assert len(called_keys()) > 200


def test_every_setting_and_every_method_has_texts():
    settings = {key.removeprefix("settings.") for key in texts("en") if key.startswith("settings.")}
    assert settings == {*GenerationConfig.model_fields, "all"}
    methods = {key.removeprefix("method.") for key in texts("en") if key.startswith("method.")}
    assert methods == {*METHODS, *(f"{method}-note" for method in METHODS), "random"}


def test_korean_and_chinese_use_their_own_scripts():
    keys = ("runs.name", "status.best")
    assert all(any("가" <= letter <= "힣" for letter in texts("ko")[key]) for key in keys)
    assert all(any("一" <= letter <= "鿿" for letter in texts("zh")[key]) for key in keys)


def test_outside_a_page_texts_are_english_with_their_values():
    assert t("samples.step", step=1234) == "Step 1,234"
    with pytest.raises(KeyError):
        t("samples.nothing")


@pytest.mark.parametrize(
    ("accept_language", "language"),
    [
        ("ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        ("zh-TW,zh;q=0.9", "zh"),
        ("fr-FR,fr;q=0.9,zh;q=0.3", "zh"),
        ("fr", "en"),
        ("", "en"),
    ],
)
def test_the_language_is_the_first_supported_one_that_the_browser_accepts(accept_language: str, language: str):
    assert preferred_language(accept_language) == language
