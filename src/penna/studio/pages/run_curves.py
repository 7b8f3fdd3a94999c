"""The curves of one run while it trains: a figure of its log over steps, epochs, tokens or time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nicegui import ui

from penna.studio.charts import chart, lines
from penna.studio.frame import heading, meaning
from penna.studio.rows import thinned
from penna.studio.words import t

WORDS = {
    "curves.title": ("Curves", "학습 곡선", "曲线"),
    "curves.figure": ("Figure", "수치", "指标"),
    "curves.by": ("Over", "가로축", "横轴"),
    "curves.train": ("training", "학습", "训练"),
    "curves.valid": ("validation", "검증", "验证"),
    "curves.loss": ("loss (nats)", "손실 (nat)", "损失（nat）"),
    "curves.bits_per_byte": ("bits per byte", "바이트당 비트", "每字节比特数"),
    "curves.accuracy": ("share right", "맞힌 비율", "正确率"),
    "curves.macro_f1": ("macro F1", "매크로 F1", "宏平均 F1"),
    "curves.learning_rate": ("learning rate", "학습률", "学习率"),
    "curves.tokens_per_second": ("tokens a second", "초당 토큰", "每秒词元数"),
    "curves.step": ("step", "단계", "步"),
    "curves.epoch": ("epoch", "에포크", "轮"),
    "curves.tokens": ("tokens", "토큰", "词元"),
    "curves.seconds": ("seconds", "초", "秒"),
    "curves.means-loss": (
        "How surprised the model is by the next token, or a classifier by the right class, on average: lower is "
        "better. Where training falls on and validation rises, it learns its texts by heart.",
        "다음 토큰에(분류 모델은 맞는 분류에) 모델이 평균적으로 얼마나 놀라는지를 나타내며, 낮을수록 좋습니다. "
        "학습 곡선은 내려가는데 검증 곡선이 올라가면 글을 외우는 중입니다.",
        "模型对下一个词元（分类模型则是对正确类别）平均有多“意外”，越低越好。如果训练曲线下降而验证曲线上升，说明它在死记文本。",
    ),
    "curves.means-bits_per_byte": (
        "How many bits the model needs for a byte of text: lower is better, and it can be compared between tokenizers.",
        "글 1바이트를 나타내는 데 필요한 비트 수입니다. 낮을수록 좋고, 토크나이저가 달라도 비교할 수 있습니다.",
        "模型表示一个字节的文本所需的比特数，越低越好，可在不同分词器之间比较。",
    ),
    "curves.means-accuracy": (
        "How often what the model found likeliest was right: tokens, or texts where it tells classes.",
        "모델이 가장 그럴듯하다고 본 것이 맞은 비율입니다. 분류 모델이면 글, 아니면 토큰을 셉니다.",
        "模型认为最可能的结果正确的比例：分类模型按文本计，其他按词元计。",
    ),
    "curves.means-macro_f1": (
        "How well each class is told, all classes weighing alike: 1 is perfect.",
        "모든 부류를 똑같이 쳐서 얼마나 잘 구별하는지를 나타냅니다. 1이면 완벽합니다.",
        "各类别同等权重下的区分效果，1 为完美。",
    ),
    "curves.means-learning_rate": (
        "How large the steps of learning are; it usually rises at first and falls towards the end.",
        "한 번에 얼마나 크게 배우는지를 나타냅니다. 보통 처음에 오르고 끝으로 갈수록 내려갑니다.",
        "每一步学习的幅度，通常先升后降。",
    ),
    "curves.means-tokens_per_second": (
        "How fast it learns; where it falls, something else is using the machine.",
        "배우는 속도입니다. 떨어지면 다른 작업이 컴퓨터를 쓰고 있을 수 있습니다.",
        "学习的速度；如果下降，可能有其他程序在占用机器。",
    ),
    "curves.none": ("No figures have been logged yet.", "아직 기록된 수치가 없습니다.", "尚未记录任何指标。"),
}
FIGURES = ("loss", "bits_per_byte", "accuracy", "macro_f1", "learning_rate", "tokens_per_second")
AXES = ("step", "epoch", "tokens", "seconds")
_MOST = 600  # points of a line


class Curves:
    """The curves of one run, which grow while it trains."""

    def __init__(self) -> None:
        self._rows: Sequence[dict[str, Any]] = ()
        with ui.element("section").classes("card"):
            heading(t("curves.title"))
            with ui.element("div").classes("line"):
                self._figure = ui.select({"loss": t("curves.loss")}, value="loss", label=t("curves.figure"))
                self._by = ui.select({axis: t(f"curves.{axis}") for axis in AXES}, value="step", label=t("curves.by"))
                for select in (self._figure, self._by):
                    select.props("outlined dense options-dense").classes("run-select")
                    select.on_value_change(self._draw)
            self._chart = chart(lines({}, t("curves.step"), ""), t("curves.title"))
            self._means = meaning("curves.none")

    def update(self, rows: Sequence[dict[str, Any]]) -> None:
        """Take the rows of metrics.jsonl."""
        self._rows = rows
        there = [figure for figure in FIGURES if any(figure in row for row in rows[-50:])]
        if there and list(self._figure.options) != there:
            chosen = self._figure.value if self._figure.value in there else there[0]
            self._figure.set_options({figure: t(f"curves.{figure}") for figure in there}, value=chosen)
        self._draw()

    def _draw(self) -> None:
        figure, by = str(self._figure.value), str(self._by.value)
        drawn = {t(f"curves.{split}"): thinned(self._points(split, figure, by), _MOST) for split in ("train", "valid")}
        if figure == "learning_rate":  # the same on both
            drawn = {t("curves.train"): drawn[t("curves.train")]}
        options = lines({name: points for name, points in drawn.items() if points}, t(f"curves.{by}"), "")
        self._chart.options["series"] = options["series"]
        self._chart.options["xAxis"]["name"] = t(f"curves.{by}")
        self._chart.update()
        words = {name: f"{points[-1][1]:.4g}" for name, points in drawn.items() if points}
        said = ", ".join(f"{name} {value}" for name, value in words.items())
        self._chart.props["aria-label"] = f"{t(f'curves.{figure}')}: {said}"
        self._means.text = t(f"curves.means-{figure}") if self._rows else t("curves.none")

    def _points(self, split: str, figure: str, by: str) -> list[tuple[float, float]]:
        return [
            (row[by], row[figure]) for row in self._rows if row.get("split") == split and figure in row and by in row
        ]
