"""The words of the page that compares, in English, Korean and Chinese."""

from penna.studio.words import Row

WORDS: dict[str, Row] = {
    "compare.lead": (
        "Choose runs that learned the same task, or one experiment. Runs whose recipes differ in nothing but the seed "
        "count as one arm; the first arm is the one that others are held against.",
        "같은 과제를 학습한 기록 여러 개, 또는 실험 하나를 고르세요. "
        "시드만 다른 기록은 한 갈래로 묶이고, 첫 갈래가 기준이 됩니다.",
        "请选择学习同一任务的多个训练，或一个实验。仅随机种子不同的训练算作一组；第一组是比较的基准。",
    ),
    "compare.runs": ("Runs, or an experiment", "학습 기록 또는 실험", "训练或实验"),
    "compare.texts": (
        "Let each arm write texts too (loads the models)",
        "갈래마다 글도 쓰게 하기 (모델을 불러옵니다)",
        "也让每组写文本（会加载模型）",
    ),
    "compare.go": ("Compare", "비교하기", "比较"),
    "compare.experiment": ("experiment", "실험", "实验"),
    "compare.baseline": ("Baseline", "기준", "基准"),
    "compare.warnings": ("Know this before you believe it", "믿기 전에 알아 둘 것", "相信之前须知"),
    "compare.results": ("What came out", "결과", "结果"),
    "compare.curves": ("Curves", "곡선", "曲线"),
    "compare.figure": ("Figure", "지표", "指标"),
    "compare.over": ("Over", "가로축", "横轴"),
    "compare.curves-mean": (
        "Each thin line is a run; where an arm has several seeds, the strong line is their mean. Nothing is smoothed. "
        "The height goes by what comes after the first tenth.",
        "가는 선은 학습 하나이고, 시드가 여럿이면 굵은 선은 그 평균입니다. "
        "값은 다듬지 않았습니다. 높이는 처음 10 % 이후에 맞춥니다.",
        "细线是单次训练；一组有多个种子时，粗线是其平均。未做平滑。纵轴范围取自前十分之一之后的值。",
    ),
    "compare.recipes": ("Where the recipes differ", "레시피가 다른 곳", "配方的差异"),
    "compare.recipes-mean": (
        "Every field that does not say the same in all arms; what is not listed is the same.",
        "모든 갈래에서 같지 않은 항목 전부입니다. 없는 항목은 모두 같습니다.",
        "列出各组中不相同的所有字段；未列出的都相同。",
    ),
    "compare.recipes-same": ("In nothing.", "다른 곳이 없습니다.", "没有差异。"),
    "compare.all": ("All figures", "모든 지표", "全部指标"),
    "compare.written": ("Texts side by side", "나란히 본 글", "并列文本"),
    "compare.start": ("(start of a document)", "(글의 첫머리)", "（文档开头）"),
    "compare.same": ("What is the same in all arms", "모든 갈래에서 같은 것", "各组中相同之处"),
    "compare.keep": ("Keep it", "내려받기", "保存"),
    "compare.keep-mean": (
        "The report is one page that opens anywhere, offline. In a terminal:",
        "보고서는 인터넷 없이 어디서나 열리는 한 쪽짜리 문서입니다. 터미널에서는:",
        "报告是一个可离线打开的单页。在终端中：",
    ),
    "compare.report": ("Report (HTML)", "보고서 (HTML)", "报告 (HTML)"),
    "compare.csv": ("Figures (CSV)", "지표 (CSV)", "指标 (CSV)"),
    "compare.svg": ("Curves (SVG)", "곡선 (SVG)", "曲线 (SVG)"),
    "compare.finals": ("Finals (SVG)", "최종 지표 (SVG)", "最终指标 (SVG)"),
    "compare.step": ("steps", "단계", "步数"),
    "compare.tokens": ("tokens", "토큰", "词元"),
    "compare.seconds": ("seconds", "초", "秒"),
    "compare.epoch": ("epochs", "에포크", "轮数"),
}
