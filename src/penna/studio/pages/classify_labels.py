"""What the page of classifiers says, in the studio's languages; methods are named as the page that explains does."""

from __future__ import annotations

from penna.studio.words import Row

WORDS: dict[str, Row] = {
    "classify.about": (
        "Try a text, see which words spoke for a class, and how well the model does on labelled texts.",
        "텍스트를 넣어 보고, 어떤 단어가 분류를 지지했는지, 라벨이 있는 텍스트에서 얼마나 맞히는지 봅니다.",
        "试一段文本，看哪些词支持某个类别，以及模型在带标签文本上的表现。",
    ),
    "classify.text": ("Text", "텍스트", "文本"),
    "classify.pair": ("Second text", "두 번째 텍스트", "第二个文本"),
    "classify.go": ("Classify", "분류하기", "分类"),
    "classify.probabilities": ("Probabilities of the classes", "분류별 확률", "各类别的概率"),
    "classify.probabilities-meaning": (
        "How likely the model finds each class; all of them add up to 1.",
        "모델이 보는 각 분류의 확률입니다. 모두 더하면 1입니다.",
        "模型认为每个类别的可能性；全部相加为 1。",
    ),
    "classify.evidence": ("Evidence words", "근거가 된 단어", "证据词"),
    "classify.evidence-for": ("What spoke for the class", "어느 분류의 근거인가", "支持哪个类别"),
    "classify.measure": ("How well it does", "얼마나 맞히는가", "表现如何"),
    "classify.evaluation": ("Measured on", "측정한 텍스트", "衡量所用文本"),
    "classify.none": (
        "This model was not measured yet.",
        "이 모델은 아직 측정하지 않았습니다.",
        "此模型尚未衡量。",
    ),
    "classify.measure-go": (
        "Measure on the validation part",
        "검증용 텍스트로 측정하기",
        "在验证部分上衡量",
    ),
    "classify.texts": ("texts", "텍스트", "文本"),
    "classify.accuracy": ("accuracy", "정확도", "准确率"),
    "classify.accuracy-meaning": (
        "share of texts put into their class",
        "제 분류에 든 텍스트의 비율",
        "归入正确类别的文本比例",
    ),
    "classify.majority": ("always the commonest class", "늘 가장 흔한 분류", "总选最常见类别"),
    "classify.majority-meaning": (
        "the accuracy that needs no model",
        "모델 없이 얻는 정확도",
        "不用模型即可达到的准确率",
    ),
    "classify.macro_f1": ("macro F1", "매크로 F1", "宏平均 F1"),
    "classify.macro_f1-meaning": (
        "precision and recall, the mean over the classes",
        "정밀도와 재현율, 분류들의 평균",
        "精确率与召回率，各类别平均",
    ),
    "classify.log_loss": ("log loss", "로그 손실", "对数损失"),
    "classify.log_loss-meaning": (
        "nats per text; 0 is certain and right",
        "텍스트당 내트; 0이면 확신하고 맞음",
        "每个文本的奈特数；0 表示确定且正确",
    ),
    "classify.calibration_error": ("calibration error", "보정 오차", "校准误差"),
    "classify.calibration_error-meaning": (
        "mean gap of confidence and accuracy",
        "확신과 정확도의 평균 차이",
        "置信度与准确率的平均差距",
    ),
    "classify.confusion": ("Confusion matrix", "혼동 행렬", "混淆矩阵"),
    "classify.confusion-meaning": (
        "A row is a true class, a column what the model said; colours are shares of the row. Off the diagonal are "
        "mistakes.",
        "행은 실제 분류, 열은 모델의 답입니다. 색은 행에서의 비율이며, 대각선 밖은 틀린 것입니다.",
        "行是真实类别，列是模型的回答；颜色为该行中的比例。对角线之外是错误。",
    ),
    "classify.true": ("true", "실제", "真实"),
    "classify.predicted": ("predicted", "예측", "预测"),
    "classify.reliability": ("Reliability", "신뢰도", "可靠性"),
    "classify.reliability-meaning": (
        "Of the texts the model was about so sure of, how many it got right; a believable model lies on the dashed "
        "line.",
        "모델이 이만큼 확신한 텍스트 가운데 맞힌 비율입니다. 믿을 만한 모델은 점선 위에 놓입니다.",
        "在模型有这样把握的文本中答对的比例；可信的模型落在虚线上。",
    ),
    "classify.confidence": ("confidence", "확신", "置信度"),
    "classify.class": ("class", "분류", "类别"),
    "classify.precision": ("precision", "정밀도", "精确率"),
    "classify.recall": ("recall", "재현율", "召回率"),
    "classify.worst": ("The surest mistakes", "가장 확신한 오답", "最有把握的错误"),
    "classify.worst-meaning": (
        "Wrong labels are often among them: read the text before you blame the model.",
        "라벨이 틀린 경우가 많습니다: 모델을 탓하기 전에 글을 읽어 보세요.",
        "其中常有标签本身错误：责怪模型之前先读一读文本。",
    ),
    "classify.mistake": (
        "said {predicted} ({confidence}), labelled {true}",
        "{predicted}(이)라고 함 ({confidence}), 라벨은 {true}",
        "回答 {predicted}（{confidence}），标签为 {true}",
    ),
    "classify.look": ("Try this text", "이 텍스트로 해 보기", "试这段文本"),
    "classify.empty": ("(an empty text)", "(빈 텍스트)", "（空文本）"),
    "classify.command": ("The same in the terminal", "터미널에서 같은 일", "终端中的等效命令"),
}
