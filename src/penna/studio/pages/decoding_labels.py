"""What the decoding lab says, in the studio's languages."""

from __future__ import annotations

from penna.studio.words import Row

WORDS: dict[str, Row] = {
    "decoding.about": (
        "What each way of writing makes of a model, beside human text behind the same prefixes, and which to take.",
        "같은 앞부분 뒤에 온 사람의 글과 나란히, 쓰는 방식마다 모델이 무엇을 만드는지 보고 무엇을 택할지 정합니다.",
        "在相同前缀之后，把每种解码方式写出的文本与人写的文本并列比较，并给出推荐。",
    ),
    "decoding.prefixes": ("Prefixes", "앞부분 수", "前缀数量"),
    "decoding.length": ("Tokens behind each", "각각의 뒤에 쓸 토큰 수", "每个前缀后写多少词元"),
    "decoding.seed": ("Seed", "시드", "随机种子"),
    "decoding.judge": ("Another model that rates the texts", "글을 평가할 다른 모델", "评价文本的另一模型"),
    "decoding.human-text": ("Human text", "사람이 쓴 글", "人写的文本"),
    "decoding.own-text": ("the run's validation part", "이 학습의 검증용 글", "该训练的验证部分"),
    "decoding.human-meaning": (
        "Prefixes and what people wrote behind them come from a text the model did not learn from: the run's "
        "validation part, or a file that was uploaded on New run or lies in the studio's folder. A run that learned "
        "no running text, such as a chat, needs a file.",
        "앞부분과 사람이 이어 쓴 글은 모델이 배우지 않은 글에서 가져옵니다. 학습의 검증용 글이나, "
        "'새 학습'에서 올렸거나 스튜디오 폴더에 있는 파일입니다. "
        "대화처럼 이어지는 글로 배우지 않은 학습에는 파일이 필요합니다.",
        "前缀及其后人写的文字取自模型未学过的文本：该训练的验证部分，或在“新建训练”中上传的、工作室文件夹中的文件。"
        "对话等不是从连续文本学习的训练需要选择文件。",
    ),
    "decoding.no-judge": ("none", "없음", "无"),
    "decoding.strategies": (
        "Strategies of your own, one on a line",
        "직접 정한 방식, 한 줄에 하나",
        "自定义的解码方式，每行一个",
    ),
    "decoding.strategies-meaning": (
        "Without any, the usual ones are compared: greedy, beams, sampling, temperature, top-k, top-p, min-p, typical, "
        "contrastive, repetition penalty.",
        "비워 두면 흔히 쓰는 방식들을 비교합니다: 탐욕, 빔, 표집, 온도, top-k, top-p, min-p, typical, 대조, 반복 벌점.",
        "留空则比较常用方式：贪心、束搜索、采样、温度、top-k、top-p、min-p、typical、对比搜索、重复惩罚。",
    ),
    "decoding.go": ("Compare", "비교하기", "比较"),
    "decoding.stop": ("Stop", "멈추기", "停止"),
    "decoding.progress": ("Share of the texts that is written", "쓰인 글의 비율", "已写文本的比例"),
    "decoding.writing": (
        "Writing {strategy}: {share} done",
        "{strategy} 쓰는 중: {share}",
        "正在写 {strategy}：{share}",
    ),
    "decoding.left": ("{left} left", "남은 시간 {left}", "剩余 {left}"),
    "decoding.recommendation": ("Recommendation", "추천", "推荐"),
    "decoding.left-out": ("left out: {name}: {why}", "제외: {name}: {why}", "排除：{name}：{why}"),
    "decoding.trusted": ("Enough text for: {names}.", "글이 충분한 수치: {names}.", "文本量足够的指标：{names}。"),
    "decoding.nothing": ("nothing", "없음", "无"),
    "decoding.save": (
        "Make {name} the run's default",
        "{name}을(를) 이 학습의 기본으로",
        "将 {name} 设为该训练的默认",
    ),
    "decoding.saved": (
        "Saved as the run's default: {name}.",
        "기본으로 저장했습니다: {name}.",
        "已保存为默认：{name}。",
    ),
    "decoding.not-saved": (
        "It cannot be made the default: there is too little text to trust its distance. Compare more prefixes.",
        "기본으로 삼을 수 없습니다: 거리를 믿기에는 글이 너무 적습니다. 앞부분을 더 많이 비교하세요.",
        "不能设为默认：文本太少，距离不可信。请比较更多前缀。",
    ),
    "decoding.table": ("Every strategy beside human text", "사람의 글과 나란히 본 방식들", "各方式与人写文本对照"),
    "decoding.strategy": ("strategy", "방식", "方式"),
    "decoding.human": ("human", "사람", "人"),
    "decoding.plane": ("Likelihood and diversity", "가능도와 다양성", "似然与多样性"),
    "decoding.plane-meaning": (
        "Each point is a strategy; the diamond is human text. A low perplexity with a high self-BLEU says that texts "
        "repeat what is likely; the nearer to the diamond, the more they vary as people's do.",
        "점은 방식 하나, 마름모는 사람의 글입니다. 퍼플렉시티가 낮고 self-BLEU가 높으면 그럴듯한 말을 되풀이한다는 "
        "뜻이며, 마름모에 가까울수록 사람의 글만큼 다양합니다.",
        "每个点是一种方式；菱形是人写的文本。困惑度低而 self-BLEU 高，说明文本在重复高概率的内容；"
        "离菱形越近，多样性越接近人。",
    ),
    "decoding.perplexity": ("perplexity", "퍼플렉시티", "困惑度"),
    "decoding.distance": ("Distance to human text", "사람의 글까지의 거리", "与人写文本的距离"),
    "decoding.distance-meaning": (
        "The shorter, the nearer to human text; the line in each bar holds 95 % of half-samples.",
        "짧을수록 사람의 글에 가깝습니다. 막대의 선은 절반 표본의 95 %가 드는 구간입니다.",
        "越短越接近人写的文本；条中的线包含 95 % 的半样本。",
    ),
    "decoding.samples": ("The same prefix, written on", "같은 앞부분에 이어 쓴 글", "同一前缀的续写"),
    "decoding.prefix": ("Prefix", "앞부분", "前缀"),
    "decoding.command": ("The same in the terminal", "터미널에서 같은 일", "终端中的等效命令"),
    "decoding.files": (
        "Tables, samples, figures and texts lie in {folder}.",
        "표, 예문, 그림, 글은 {folder}에 있습니다.",
        "表格、样例、图和文本位于 {folder}。",
    ),
}
