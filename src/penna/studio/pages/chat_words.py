"""What the page of conversations says, in the studio's languages."""

WORDS = {
    "chat.about": (
        "A conversation with a run that learned dialogues. Any line can be edited and any reply asked for again; the "
        "older versions stay.",
        "대화를 배운 모델과 이야기합니다. 어느 말이든 고칠 수 있고 답을 다시 받을 수 있으며, 이전 버전은 남습니다.",
        "与学过对话的模型交谈。任何一句都能修改，任何回复都能重来；旧版本会保留。",
    ),
    "chat.two": ("Two models side by side", "두 모델 나란히", "两个模型并排"),
    "chat.first": ("Model", "모델", "模型"),
    "chat.second": ("Second model", "두 번째 모델", "第二个模型"),
    "chat.settings": ("Settings", "설정", "设置"),
    "chat.system-means": (
        "What the model is told first, where it knows such a turn.",
        "모델이 그런 말을 안다면, 맨 처음 듣는 말입니다.",
        "若模型认识系统轮，这是它最先读到的话。",
    ),
    "chat.history-tokens-means": (
        "Read at most so many tokens; empty: what the block leaves.",
        "읽을 토큰 수의 상한. 비우면 블록이 허락하는 만큼.",
        "最多读这么多词元；留空则按块的余量。",
    ),
    "chat.history-turns-means": (
        "Read at most so many turns before your line; empty: all that fit.",
        "내 말 앞에서 읽을 차례 수의 상한. 비우면 들어가는 만큼 모두.",
        "在您的话之前最多读这么多轮；留空则能放多少读多少。",
    ),
    "chat.seed-means": ("Another seed, other replies.", "시드가 다르면 답도 달라집니다.", "种子不同，回复不同。"),
    "chat.talk": ("The conversation", "대화", "对话"),
    "chat.nothing": ("Nothing was said yet.", "아직 나눈 말이 없습니다.", "还没有说过话。"),
    "chat.line": ("Your line", "할 말", "您的话"),
    "chat.send": ("Send", "보내기", "发送"),
    "chat.send-means": (
        "Enter sends; Shift and Enter begin a new line.",
        "Enter로 보내고, Shift+Enter로 줄을 바꿉니다.",
        "回车发送；Shift+回车换行。",
    ),
    "chat.stop": ("Stop", "멈추기", "停止"),
    "chat.new": ("New conversation", "새 대화", "新对话"),
    "chat.you": ("You", "나", "您"),
    "chat.edit": ("Edit this line", "이 말 고치기", "修改这句话"),
    "chat.edited": ("Edited line", "고친 말", "修改后的话"),
    "chat.say": ("Say it so", "이렇게 말하기", "就这样说"),
    "chat.cancel": ("Cancel", "취소", "取消"),
    "chat.again": ("Another reply", "다시 답하기", "重新回复"),
    "chat.older": ("Version before", "이전 버전", "上一个版本"),
    "chat.newer": ("Version behind", "다음 버전", "下一个版本"),
    "chat.version": ("version {place} of {count}", "버전 {place}/{count}", "版本 {place}/{count}"),
    "chat.writing": ("Writing…", "쓰는 중…", "正在写…"),
    "chat.facts": (
        "{count} tokens, seed {seed}; {end}",
        "토큰 {count}개, 시드 {seed}. {end}",
        "{count} 个词元，种子 {seed}；{end}",
    ),
    "chat.end.stop": ("it ended by itself.", "스스로 끝났습니다.", "自行结束。"),
    "chat.end.length": ("it reached max_new_tokens.", "max_new_tokens에 이르렀습니다.", "达到 max_new_tokens。"),
    "chat.end.cancelled": ("it was stopped.", "중간에 멈췄습니다.", "已被停止。"),
    "chat.no-reply": ("(an empty reply)", "(빈 답)", "（空回复）"),
    "chat.fell-out": (
        "What stands above fell out of the window: the last reply was written without it.",
        "위의 말은 창 밖으로 밀려났습니다. 마지막 답은 그것을 읽지 않고 썼습니다.",
        "以上内容已移出窗口：最后的回复没有读到它们。",
    ),
    "chat.read": (
        "What the model read for the last reply",
        "마지막 답을 쓰려고 모델이 읽은 것",
        "模型为最后的回复读了什么",
    ),
    "chat.read-means": (
        "The turns as the run's template writes them, {tokens} of the {room} tokens there is room for; {forgotten} "
        "turns fell out. What is coloured comes from the template, the rest was said.",
        "템플릿이 적은 그대로의 대화입니다. {room}토큰 가운데 {tokens}토큰을 읽었고, {forgotten}차례가 밀려났습니다. "
        "색이 있는 부분은 템플릿이, 나머지는 사람이나 모델이 쓴 말입니다.",
        "按该模型模板写出的各轮：可容 {room} 个词元，读了 {tokens} 个；{forgotten} 轮已移出。"
        "有颜色的来自模板，其余是说过的话。",
    ),
}
