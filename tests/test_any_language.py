"""The default recipe learns from a text file in any script."""

import json
import random
from pathlib import Path

import pytest

from penna.cli.main import run
from penna.tokenizer.tokenizer import Tokenizer

# Sentences are sampled from a few words of each language.
WORDS = {
    "Korean": "나는 오늘 아침에 시장에서 사과와 배를 샀다 비가 와서 우산을 쓰고 집으로 천천히 걸어갔다".split(),
    "Chinese": "我 今天 早上 去 市场 买 了 苹果 和 梨 下 雨 了 所以 打着 伞 慢慢 走 回 家".split(),
    "Japanese": "今日 の 朝 市場 で りんご と 梨 を 買いました 雨 が 降って いた ので 傘 を さして ゆっくり 帰りました".split(),
    "Arabic": "اشتريت هذا الصباح تفاحًا وإجاصًا من السوق ثم نزل المطر فمشيت ببطء إلى البيت تحت المظلة".split(),
    "Hindi": "मैंने आज सुबह बाज़ार से सेब और नाशपाती ख़रीदी फिर बारिश हुई तो छाता लेकर धीरे धीरे घर लौटा".split(),
    "code": [
        "for",
        "i",
        "in",
        "range(10):\n   ",
        "print(i)\n",
        "if",
        "x[i]",
        "==",
        "None:\n   ",
        "return",
        "{'a':",
        "1}",
    ],
}


def make_text(language: str) -> str:
    source = random.Random(0)
    glue = "" if language in ("Chinese", "Japanese") else " "
    end = {"Chinese": "。", "Japanese": "。", "Hindi": " ।", "code": "\n"}.get(language, ".")
    sentences = (glue.join(source.choices(WORDS[language], k=source.randint(4, 9))) + end for _ in range(700))
    return "\n".join(sentences) + "\n"


@pytest.mark.parametrize("language", WORDS)
def test_the_default_recipe_learns_any_language(
    language: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = make_text(language)
    (tmp_path / "my.txt").write_text(text, encoding="utf-8")
    words = f"train {tmp_path}/my.txt --runs-dir {tmp_path} --name run --train.steps 60 --train.threads 1"
    small = (
        "--tokenizer.vocab-size 320 --model.n-layer 1 --model.n-embd 64 --model.block-size 32 "
        "--train.evaluate-every 60 --train.sample-tokens 8"
    )
    assert run(f"{words} {small}".split()) == 0
    capsys.readouterr()
    tokenizer = Tokenizer.load(tmp_path / "run")
    assert tokenizer.decode(tokenizer.encode(text)) == text
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    first, *_, last = [row["bits_per_byte"] for row in rows if row["split"] == "valid"]
    assert last < first / 2
    assert run(["generate", str(tmp_path / "run"), "--prompt", WORDS[language][0], "--json", "--seed", "1"]) == 0
    generated = json.loads(capsys.readouterr().out)[0]["text"]
    assert set(generated) & set("".join(WORDS[language])), f"no {language} in {generated!r}"
