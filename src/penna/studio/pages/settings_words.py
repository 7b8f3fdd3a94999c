"""What each setting of writing means, in the studio's languages; in English as `penna.config.generation` says it.

Both pages that write hand these words and this style on; `penna.studio.words.add` takes the same words twice.
"""

from __future__ import annotations

from penna.config.generation import GenerationConfig

SETTINGS = {  # Korean, Chinese
    "max_new_tokens": ("쓸 토큰 수의 상한.", "最多写多少个词元。"),
    "min_new_tokens": ("이만큼 쓰기 전에는 글이 스스로 끝나지 않음.", "写够这么多之前，文本不会自行结束。"),
    "temperature": (
        "1보다 낮으면 얌전하게, 높으면 거칠게. 0은 가장 그럴듯한 토큰.",
        "低于 1 更保守，高于 1 更随意；0 总取最可能的词元。",
    ),
    "top_k": ("가장 그럴듯한 토큰 몇 개만. 대조 탐색은 이들을 견줌.", "只取最可能的这么多词元；对比搜索在其中权衡。"),
    "top_p": ("합이 이 비율이 되는 가장 그럴듯한 토큰만 (nucleus).", "只取合计达到这一比例的最可能词元（核采样）。"),
    "min_p": ("가장 그럴듯한 토큰의 이 비율 이상인 토큰만.", "只取概率不低于最可能词元这一比例的词元。"),
    "typical_p": (
        "놀라움이 보통인 토큰만, 합이 이 비율까지 (locally typical).",
        "只取意外程度寻常、合计达到这一比例的词元（局部典型）。",
    ),
    "repetition_penalty": ("1보다 크면 이미 나온 토큰의 가능성이 줄어듦.", "大于 1 时，已出现过的词元可能性降低。"),
    "presence_penalty": ("이미 쓴 토큰마다 logit에서 뺌.", "从每个已写词元的 logit 中减去。"),
    "frequency_penalty": ("토큰을 쓴 횟수만큼 logit에서 뺌.", "词元每写过一次，从其 logit 中减去一次。"),
    "no_repeat_ngram_size": (
        "이 길이의 연속은 두 번 쓰지 않음. 프롬프트도 셈.",
        "这么长的片段不会写两次；提示也计算在内。",
    ),
    "bad_words": ("쓰지 않을 말. 한 줄에 하나.", "绝不写出的词，每行一个。"),
    "stop": ("이 말이 나오면 그 앞에서 글이 끝남. 한 줄에 하나.", "一出现这些文字，文本就在其前结束。每行一个。"),
    "choices": ("글은 이 가운데 하나. 한 줄에 하나.", "文本是其中之一。每行一个。"),
    "num_beams": ("나란히 이어 가는 글의 수 (빔 탐색).", "并排保留的部分文本数（束搜索）。"),
    "num_beam_groups": ("서로 다르게 가는 빔의 묶음 수 (다양한 빔 탐색).", "彼此保持差异的束分组数（多样束搜索）。"),
    "diversity_penalty": ("앞선 묶음이 고른 토큰에서 뺌.", "从前面分组已选的词元中减去。"),
    "length_penalty": ("빔의 점수를 길이의 이 제곱으로 나눔.", "束的得分除以其长度的这一次幂。"),
    "early_stopping": (
        "빔의 끝: true는 그만큼 끝나면, false는 더 나아질 것 같지 않으면, never는 나아질 수 없을 때.",
        "束何时结束：true 够数即止；false 不大可能更好时；never 不可能更好时。",
    ),
    "penalty_alpha": ("대조 탐색: 앞의 글과 다를수록 주는 무게.", "对比搜索：与前文不同所占的权重。"),
    "prompt_lookup_num_tokens": (
        "앞의 글에서 미리 짐작하는 토큰 수. 결과는 같음.",
        "从前文预先猜测的词元数；结果不变。",
    ),
    "past_block": (
        "블록이 찬 뒤: restart는 뒤 절반부터 다시, slide는 토큰마다 밀기 (느림).",
        "块满之后：restart 从后一半重新开始；slide 逐词元滑动（较慢）。",
    ),
}
WORDS = {
    "settings.all": ("All settings", "모든 설정", "全部设置"),
    **{
        f"settings.{name}": (GenerationConfig.model_fields[name].description or "", korean, chinese)
        for name, (korean, chinese) in SETTINGS.items()
    },
}
STYLE = """
.settings{display:grid;gap:8px 14px;grid-template-columns:repeat(auto-fill,minmax(min(100%,200px),1fr));width:100%}
.setting{display:flex;flex-direction:column;gap:2px;min-width:0}
.setting .meaning{font-size:.8rem;line-height:1.3}
.fold{width:100%}
.body--dark .q-btn.text-primary{--q-primary:var(--accent)}
.fold .nicegui-expansion-content{padding:8px 0}
"""
