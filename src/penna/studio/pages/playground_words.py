"""What the playground says, in the studio's languages."""

WORDS = {
    "play.about": (
        "A prompt in, a text out, token by token. Choose any token to see what the model thought there, take another, "
        "and the text goes on from it.",
        "프롬프트를 넣으면 토큰 하나씩 글이 이어집니다. 아무 토큰이나 고르면 모델의 생각이 보이고, 다른 토큰으로 "
        "바꾸면 거기서부터 다시 씁니다.",
        "输入提示，逐个词元写出文本。选中任一词元可看模型当时的判断；换成另一个，文本便从那里继续。",
    ),
    "play.prompt": ("Prompt", "프롬프트", "提示"),
    "play.seed": ("seed", "seed", "seed"),
    "play.seed-means": ("Another seed, another text.", "시드가 다르면 글도 달라집니다.", "种子不同，文本不同。"),
    "play.write": ("Write", "쓰기", "写"),
    "play.stop": ("Stop", "멈추기", "停止"),
    "play.more": ("Write on", "더 쓰기", "继续写"),
    "play.text": ("The text", "글", "文本"),
    "play.empty": ("Nothing is written yet.", "아직 쓴 글이 없습니다.", "还没有写出文本。"),
    "play.writing": ("Writing…", "쓰는 중…", "正在写…"),
    "play.facts": (
        "{count} tokens, perplexity {perplexity}; {end}",
        "토큰 {count}개, 퍼플렉시티 {perplexity}. {end}",
        "{count} 个词元，困惑度 {perplexity}；{end}",
    ),
    "play.end.stop": ("it ended by itself.", "스스로 끝났습니다.", "自行结束。"),
    "play.end.length": ("it reached max_new_tokens.", "max_new_tokens에 이르렀습니다.", "达到 max_new_tokens。"),
    "play.end.cancelled": ("it was stopped.", "중간에 멈췄습니다.", "已被停止。"),
    "play.colours": (
        "The stronger a token's colour, the less the model expected it: plain from 50 % on, strongest under 1 %. "
        "Perplexity is how many tokens it hesitated between, on average. A token you chose is underlined.",
        "색이 진할수록 모델이 덜 예상한 토큰입니다. 50 % 이상은 색이 없고 1 % 미만이 가장 진합니다. 퍼플렉시티는 "
        "평균 몇 개의 토큰 사이에서 망설였는지입니다. 직접 고른 토큰에는 밑줄이 있습니다.",
        "颜色越深，模型越没有料到该词元：50 % 以上无色，不足 1 % 最深。困惑度是平均在多少个词元之间犹豫。"
        "您选的词元带下划线。",
    ),
    "play.token": ("A token", "토큰", "词元"),
    "play.choose": (
        "Choose a token of the text: click it, or go there by Tab and the arrow keys.",
        "글에서 토큰을 고르세요. 누르거나, Tab과 화살표 키로 옮겨 갈 수 있습니다.",
        "请在文本中选一个词元：点击，或用 Tab 与方向键移动。",
    ),
    "play.token-is": (
        "“{token}”: probability {share}, rank {rank} of {size}",
        "“{token}”: 확률 {share}, {size}개 가운데 {rank}위",
        "“{token}”：概率 {share}，在 {size} 个中排第 {rank}",
    ),
    "play.yours": ("You chose this one.", "직접 고른 토큰입니다.", "这是您选的。"),
    "play.take": ("Take “{token}”, {share}", "“{token}” 고르기, {share}", "选“{token}”，{share}"),
    "play.alternatives": (
        "The likeliest tokens in this place by the model itself, before temperature and limits. Take one, and the text "
        "is written anew from there; for the penalties, what stands before counts as the prompt.",
        "온도와 제한을 적용하기 전, 이 자리에서 모델이 가장 그럴듯하게 본 토큰입니다. 하나를 고르면 거기서부터 다시 "
        "씁니다. 벌점을 셀 때 앞의 글은 프롬프트로 칩니다.",
        "这里是模型本身（温度与限制之前）认为最可能的词元。选一个，文本便从那里重写；计算惩罚时，前文算作提示。",
    ),
    "play.tree": ("Versions", "버전", "版本"),
    "play.undo": ("Undo", "되돌리기", "撤销"),
    "play.redo": ("Redo", "다시 하기", "重做"),
    "play.tree-means": (
        "Every text of this run since you opened the page; one written from a token of another stands below it.",
        "페이지를 연 뒤 이 모델로 쓴 모든 글입니다. 다른 글의 토큰에서 이어 쓴 글은 그 아래에 놓입니다.",
        "打开页面以来用此模型写的所有文本；从另一文本的词元接着写的排在其下。",
    ),
    "play.side": ("Strategies side by side", "전략 나란히 보기", "并排比较策略"),
    "play.side-means": (
        "The same prompt, seed and length by several strategies at once. What is drawn differs by the limits alone.",
        "같은 프롬프트, 시드, 길이로 여러 전략을 한꺼번에 써 봅니다. 차이는 제한에서만 옵니다.",
        "同样的提示、种子与长度，同时用多种策略写。差别只来自限制。",
    ),
    "play.own": ("as set above", "위의 설정대로", "按上面的设置"),
    "play.side-write": ("Write side by side", "나란히 쓰기", "并排写"),
    "play.keep": ("Take into the versions", "버전에 넣기", "放入版本"),
    "play.command": ("The same in the terminal", "터미널에서는", "在终端中"),
}
