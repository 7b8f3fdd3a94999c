"""What the page that explains says, in the studio's languages: labels, and what each method and view means."""

from __future__ import annotations

from penna.explain.explanation import METHODS, Method
from penna.report.explanations.wording import FIRST_TOKEN, HEADS, LENS, METHOD_WORDS, NOT_IMPORTANCE
from penna.studio.words import Row

_METHODS: dict[Method, tuple[Row, Row]] = {  # title and meaning in Korean and Chinese; English is that of the terminal
    "occlusion": (
        ("", "가림", "遮挡法"),
        ("", "단어가 있을 때 답의 로그 확률이 없을 때보다 얼마나 높은지", "有该词与无该词时答案对数概率之差"),
    ),
    "gradient-x-input": (
        ("", "기울기 × 입력", "梯度 × 输入"),
        ("", "단어의 임베딩이 답의 로그 확률에 더하는 값의 일차 근사", "词嵌入对答案对数概率贡献的一阶近似"),
    ),
    "integrated-gradients": (
        ("", "적분 기울기", "积分梯度"),
        (
            "",
            "단어가 없는 기준점에서 답의 로그 확률까지 가는 길에서 그 단어가 차지하는 몫",
            "从不含该词的基线到答案对数概率的路径上该词所占的部分",
        ),
    ),
    "information": (
        ("", "정보량", "信息量"),
        ("", "층의 상태를 지키려면 단어를 얼마나 정확히 알아야 하는지", "为保持该层状态，需要多精确地知道该词"),
    ),
    "attention": (
        ("", "어텐션", "注意力"),
        ("", "전체 어텐션 가운데 단어로 가는 몫; 중요도는 아님", "全部注意力中流向该词的份额；并非重要性"),
    ),
    "rollout": (
        ("", "어텐션 롤아웃", "注意力展开"),
        ("", "층을 따라 이어 본 어텐션; 중요도는 아님", "逐层追踪的注意力；并非重要性"),
    ),
    "value-zeroing": (
        ("", "값 제거", "值置零"),
        (
            "",
            "단어의 값 벡터를 빼 보아 알아낸, 마지막 상태에서 단어의 몫",
            "去掉该词的值向量后看出的、它在最后状态中的份额",
        ),
    ),
}


def _method_words() -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for method in METHODS:
        english, (title, meaning) = METHOD_WORDS[method], _METHODS[method]
        rows[f"method.{method}"] = (english.title, *title[1:])
        rows[f"method.{method}.meaning"] = (f"{english.meaning[0].upper()}{english.meaning[1:]}.", *meaning[1:])
    return rows


WORDS: dict[str, Row] = {
    **_method_words(),
    "method.random": (METHOD_WORDS["random"].title, "무작위 순서", "随机顺序"),
    "explain.title": ("Explain", "설명", "解释"),
    "explain.about": (
        "Which words of a text moved what a model says to it, by several methods side by side.",
        "텍스트의 어떤 단어가 모델의 답을 움직였는지 여러 방법으로 나란히 봅니다.",
        "并列使用多种方法，看文本中的哪些词影响了模型的回答。",
    ),
    "explain.run": ("Run", "실행", "运行"),
    "explain.text": ("Text", "텍스트", "文本"),
    "explain.pair": ("Second text", "두 번째 텍스트", "第二个文本"),
    "explain.asked": ("What is asked", "무엇을 묻는가", "提问内容"),
    "explain.asked.next": ("the next token", "다음 토큰", "下一个词元"),
    "explain.asked.continuation": ("a continuation", "이어지는 글", "一段后文"),
    "explain.asked.generate": ("tokens it writes", "모델이 쓰는 토큰들", "模型写出的词元"),
    "explain.asked.label": ("the class", "분류", "类别"),
    "explain.continuation": ("Continuation", "이어지는 글", "后文"),
    "explain.generate": ("How many tokens", "토큰 수", "词元数量"),
    "explain.label": ("Class", "분류", "类别"),
    "explain.likeliest-class": ("the likeliest", "가장 그럴듯한 것", "最可能的"),
    "explain.against": (
        "Against (another token or class)",
        "대신 비교할 토큰이나 분류",
        "对照（另一词元或类别）",
    ),
    "explain.methods": ("Methods", "방법", "方法"),
    "explain.views": ("Besides", "그 밖에", "另看"),
    "explain.go": ("Explain", "설명하기", "解释"),
    "explain.stop": ("Stop", "멈추기", "停止"),
    "explain.command": ("The same in the terminal", "터미널에서 같은 일", "终端中的等效命令"),
    "explain.download": ("Save as a page (HTML)", "페이지(HTML)로 저장", "保存为网页 (HTML)"),
    "explain.no-text": ("Give a text first.", "먼저 텍스트를 넣으세요.", "请先输入文本。"),
    "explain.token": ("Generated token", "생성된 토큰", "生成的词元"),
    "explain.all-tokens": ("All generated tokens", "생성된 모든 토큰", "全部生成的词元"),
    "explain.all-tokens-meaning": (
        "A row is a generated token, a column a word that was read for it.",
        "행은 생성된 토큰, 열은 그것을 위해 읽은 단어입니다.",
        "行是生成的词元，列是为此读到的词。",
    ),
    "explain.likeliest": ("Likeliest", "가장 그럴듯한 답", "最可能的答案"),
    "explain.against-it": ("against the answer", "답에 반대", "反对该答案"),
    "explain.for-it": ("for the answer", "답에 찬성", "支持该答案"),
    "explain.the-most": ("the most", "가장 많이", "最多"),
    "explain.numbers": ("All numbers, by word", "단어별 모든 수치", "按词列出全部数值"),
    "explain.word": ("word", "단어", "词"),
    "explain.attention": ("Attention", "어텐션", "注意力"),
    "explain.attention-meaning": (
        f"{NOT_IMPORTANCE} Rows look at columns. Beside a head: {FIRST_TOKEN[0].lower()}{FIRST_TOKEN[1:]}",
        "어텐션은 중요도가 아닙니다: 바라본 토큰이 아무 말도 하지 않을 수 있고, 할 일이 없는 헤드는 첫 토큰을 봅니다. "
        "행이 열을 바라봅니다. 헤드 옆의 수는 첫 토큰으로 가는 몫의 평균입니다.",
        "注意力并非重要性：被注视的词元可能什么也没说明，而无事可做的头会注视第一个词元。行注视列。"
        "头旁边的数字是流向第一个词元的平均份额。",
    ),
    "explain.mean": ("The mean over all layers and heads", "모든 층과 헤드의 평균", "所有层与头的平均"),
    "explain.mean-short": ("mean", "평균", "平均"),
    "explain.head": ("Layer {layer}, head {head}", "{layer}층 {head}번 헤드", "第 {layer} 层，第 {head} 头"),
    "explain.looks-at": ("What a token looks at most", "토큰이 가장 많이 보는 것", "词元最注视的内容"),
    "explain.lens": ("The logit lens", "로짓 렌즈", "logit 透镜"),
    "explain.lens-meaning": (
        LENS,
        "어떤 층 뒤에서 멈춘다면 모델이 할 답입니다. 0층은 임베딩입니다. 앞쪽 층은 이렇게 읽히도록 만들어지지 "
        "않았으므로 여기 보이지 않는 답도 있을 수 있습니다.",
        "若模型在某层之后停下会给出的答案；第 0 层是嵌入。前面的层并非为此而生：这里看不到的答案仍可能存在。",
    ),
    "explain.layer": ("layer", "층", "层"),
    "explain.rank": ("rank", "순위", "排名"),
    "explain.embeddings": ("embeddings", "임베딩", "嵌入"),
    "explain.heads": ("Heads switched off, each alone", "헤드를 하나씩 끄기", "逐个关闭注意力头"),
    "explain.heads-meaning": (
        HEADS,
        "각 헤드가 있을 때 답의 로그 확률이 그 헤드만 껐을 때보다 얼마나 높은지(내트): 0보다 크면 그 헤드는 답을 "
        "지지했습니다. 층과 헤드는 0부터 셉니다.",
        "保留每个头比单独关闭它时答案对数概率高多少（奈特）：大于零表示该头支持该答案。层与头从 0 数起。",
    ),
    "explain.faithful": ("Faithfulness", "충실도", "忠实度"),
    "explain.faithful-about": (
        "Do the words that a method names matter? They are taken out, and the model is asked again.",
        "방법이 지목한 단어가 정말 중요한가? 그 단어들을 빼고 모델에 다시 묻습니다.",
        "方法指出的词真的重要吗？把它们去掉，再问模型一次。",
    ),
    "explain.faithful-texts": (
        "Texts to measure on, one on a line",
        "측정할 텍스트, 한 줄에 하나",
        "用于衡量的文本，每行一个",
    ),
    "explain.faithful-go": ("Measure the methods", "방법 측정하기", "衡量这些方法"),
    "explain.faithful-found": (
        "{texts} texts of {words} words; the answer's probability is {probability} on average. The figures are kept in "
        "the run's evaluations.",
        "텍스트 {texts}개, 평균 {words}단어; 답의 평균 확률 {probability}. 수치는 실행의 evaluations에 남습니다.",
        "{texts} 个文本，平均 {words} 个词；答案的平均概率为 {probability}。数值保存在该运行的 evaluations 中。",
    ),
    "explain.comprehensiveness": (
        "Comprehensiveness (higher is better)",
        "포괄성 (높을수록 좋음)",
        "全面性（越高越好）",
    ),
    "explain.sufficiency": ("Sufficiency (lower is better)", "충분성 (낮을수록 좋음)", "充分性（越低越好）"),
    "explain.comprehensiveness-meaning": (
        "How much of the answer's probability goes when the words scored highest are taken out.",
        "점수가 가장 높은 단어들을 빼면 답의 확률이 얼마나 줄어드는지.",
        "去掉得分最高的词后，答案的概率下降多少。",
    ),
    "explain.sufficiency-meaning": (
        "How much of the answer's probability is missing when they alone are left.",
        "그 단어들만 남기면 답의 확률이 얼마나 모자라는지.",
        "只保留这些词时，答案的概率还差多少。",
    ),
    "explain.share-of-words": ("% of the words", "단어의 %", "词的百分比"),
    "explain.lead": ("lead over random", "무작위보다 나은 정도", "相对随机的领先"),
    "explain.interval": ("95 % interval", "95 % 구간", "95 % 区间"),
    "explain.method": ("method", "방법", "方法"),
}
