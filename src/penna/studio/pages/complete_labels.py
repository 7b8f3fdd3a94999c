"""What the page of completions says, in the studio's languages."""

from __future__ import annotations

from penna.studio.words import Row

WORDS: dict[str, Row] = {
    "complete.about": (
        "What a model writes behind a text, such as a summary behind an article, and what of it is copied.",
        "기사 뒤의 요약처럼 모델이 글 뒤에 무엇을 쓰는지, 그 가운데 무엇이 옮겨 적은 것인지 봅니다.",
        "模型在文本之后写什么（如文章的摘要），以及其中哪些是照抄的。",
    ),
    "complete.source": ("Source", "원문", "原文"),
    "complete.reference": ("Reference (if there is one)", "모범 답 (있다면)", "参考答案（如有）"),
    "complete.reference-shown": ("Reference", "모범 답", "参考答案"),
    "complete.output": ("Output", "모델이 쓴 글", "输出"),
    "complete.item": ("Item of the validation text", "검증용 텍스트의 항목", "验证文本的条目"),
    "complete.take": ("Take it", "가져오기", "取用"),
    "complete.taken": (
        "{place}, {number} of {count}",
        "{place}, {count}개 중 {number}번째",
        "{place}，共 {count} 条之第 {number} 条",
    ),
    "complete.max_new_tokens": ("New tokens at most", "최대 새 토큰 수", "最多新词元数"),
    "complete.temperature": ("Temperature", "온도", "温度"),
    "complete.num_beams": ("Beams", "빔 수", "束宽"),
    "complete.seed": ("Seed", "시드", "随机种子"),
    "complete.go": ("Complete", "이어 쓰기", "续写"),
    "complete.stop": ("Stop", "멈추기", "停止"),
    "complete.rank": ("Sentences it rates highest", "모델이 높게 보는 문장", "模型评分最高的句子"),
    "complete.cut": (
        "The text is longer than the model can read, and its {part} is left out.",
        "글이 모델이 읽을 수 있는 것보다 길어 일부({part})를 뺐습니다.",
        "文本超过模型可读长度，已略去一部分（{part}）。",
    ),
    "complete.ended": ("{tokens} tokens, ended by itself", "토큰 {tokens}개, 스스로 끝냄", "{tokens} 个词元，自行结束"),
    "complete.length": (
        "{tokens} tokens, all that were allowed",
        "토큰 {tokens}개, 허용된 만큼 모두 씀",
        "{tokens} 个词元，已达上限",
    ),
    "complete.stopped": ("{tokens} tokens, stopped", "토큰 {tokens}개, 멈춤", "{tokens} 个词元，已停止"),
    "complete.marked": (
        "Marked spans of two words or more stand word for word in the source, where those of the output are marked in "
        "the same colour; point at one for its number.",
        "표시된 두 단어 이상의 구절은 원문에 그대로 있고, 모델이 쓴 글의 구절은 원문에도 같은 색으로 표시됩니다. "
        "가리키면 번호가 보입니다.",
        "标出的片段（两个词以上）逐字出现在原文中；输出中的片段在原文里以相同颜色标出，指向它可看编号。",
    ),
    "complete.figures": ("What it took and what it added", "가져온 것과 더한 것", "取用与新增"),
    "complete.figure": ("figure", "수치", "指标"),
    "complete.coverage": ("copied words", "옮긴 단어", "照抄的词"),
    "complete.density": ("mean copied span, in words", "옮긴 구절의 평균 길이(단어)", "照抄片段平均长度（词）"),
    "complete.novel": ("new {order}-grams", "새 {order}-그램", "新 {order} 元组"),
    "complete.numbers": ("numbers the source lacks", "원문에 없는 수", "原文没有的数字"),
    "complete.names": ("names the source lacks", "원문에 없는 이름", "原文没有的名称"),
    "complete.of": ("{absent} of {count}", "{count}개 중 {absent}", "{count} 个中 {absent} 个"),
    "complete.figures-meaning": (
        "Copied words lie in spans that stand in the source; new n-grams do not stand there. A number or a name that "
        "the source lacks is a cheap sign of a made-up fact, no proof. ROUGE is the overlap with the reference, as F.",
        "옮긴 단어는 원문에 있는 구절에 든 것이고, 새 n-그램은 원문에 없는 것입니다. 원문에 없는 수나 이름은 지어낸 "
        "사실의 값싼 징후일 뿐 증거는 아닙니다. ROUGE는 모범 답과 겹치는 정도(F)입니다.",
        "照抄的词位于原文已有的片段中；新 n 元组原文中没有。原文没有的数字或名称只是编造事实的粗略迹象，并非证据。"
        "ROUGE 是与参考答案的重合度（F 值）。",
    ),
    "complete.sentence": ("sentence", "문장", "句子"),
    "complete.gain": ("worth", "값", "价值"),
    "complete.logprob": ("per token", "토큰당", "每词元"),
    "complete.rank-meaning": (
        "Worth: by how many nats the text makes the sentence likelier. Per token: its log-probability behind the text.",
        "값: 글이 그 문장을 몇 내트 더 그럴듯하게 하는지. 토큰당: 글 뒤에서 그 문장의 로그 확률.",
        "价值：原文使该句更可能的奈特数。每词元：该句在原文之后的对数概率。",
    ),
    "complete.command": ("The same in the terminal", "터미널에서 같은 일", "终端中的等效命令"),
}
