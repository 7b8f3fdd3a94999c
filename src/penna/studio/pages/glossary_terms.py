"""The words of the glossary: each a name and a sentence, in English, Korean and Chinese, in the order they are met."""

from __future__ import annotations

from penna.studio.words import Row

TERMS: tuple[tuple[str, Row, Row], ...] = (
    (
        "run",
        ("Run", "학습 기록(run)", "训练（run）"),
        (
            "One training and all that came of it: a folder with its recipe, log, samples and checkpoints.",
            "한 번의 학습과 그 결과 전부입니다. 레시피, 기록, 예시 글, 체크포인트가 한 폴더에 들어 있습니다.",
            "一次训练及其全部成果：一个文件夹，内有配方、日志、样本和检查点。",
        ),
    ),
    (
        "recipe",
        ("Recipe", "레시피", "配方"),
        (
            "All that a training follows, as a text file: data, tokenizer, model, task, optimizer, schedule, budget.",
            "학습이 따르는 모든 설정을 적은 글 파일입니다: 데이터, 토크나이저, 모델, 과제, 최적화, 일정, 분량.",
            "训练所遵循的全部设置，写成文本文件：数据、分词器、模型、任务、优化器、日程和预算。",
        ),
    ),
    (
        "token",
        ("Token", "토큰", "词元（token）"),
        (
            "The piece of text that a model reads and writes at a time: a word, a part of one, a character or a byte.",
            "모델이 한 번에 읽고 쓰는 글 조각입니다. 낱말, 낱말의 일부, 글자, 바이트일 수 있습니다.",
            "模型每次读写的文本片段：一个词、词的一部分、一个字符或一个字节。",
        ),
    ),
    (
        "tokenizer",
        ("Tokenizer", "토크나이저", "分词器"),
        (
            "What cuts text into tokens and joins them again. It is learned from the training text alone.",
            "글을 토큰으로 자르고 다시 붙이는 것입니다. 학습용 글에서만 배웁니다.",
            "把文本切成词元并重新拼合的工具，只从训练文本中学得。",
        ),
    ),
    (
        "parameters",
        ("Parameters", "매개변수", "参数"),
        (
            "The numbers of a model that training sets; how many there are is a model's size.",
            "학습으로 정해지는 모델의 수들입니다. 그 개수가 모델의 크기입니다.",
            "模型中由训练确定的数值，其数量就是模型的大小。",
        ),
    ),
    (
        "block",
        ("Block size, context", "블록 크기, 문맥", "块大小、上下文"),
        (
            "How many tokens a model sees at once; what stands before them it has forgotten.",
            "모델이 한꺼번에 볼 수 있는 토큰 수입니다. 그보다 앞의 글은 잊습니다.",
            "模型一次能看到的词元数；更早的内容它已忘记。",
        ),
    ),
    (
        "step",
        ("Step", "단계", "步"),
        (
            "One change of all parameters, after a batch of text was read.",
            "글 한 묶음을 읽고 모든 매개변수를 한 번 고치는 일입니다.",
            "读完一批文本后对全部参数的一次更新。",
        ),
    ),
    (
        "epoch",
        ("Epoch", "에포크", "轮（epoch）"),
        (
            "One pass over the whole training text.",
            "학습용 글 전체를 한 번 다 읽는 것입니다.",
            "把全部训练文本读一遍。",
        ),
    ),
    (
        "learning-rate",
        ("Learning rate", "학습률", "学习率"),
        (
            "How far a step moves the parameters: too small learns slowly, too large unlearns.",
            "한 단계에서 매개변수를 얼마나 움직이는지입니다. 너무 작으면 더디고, 너무 크면 망가집니다.",
            "每一步移动参数的幅度：太小学得慢，太大会学坏。",
        ),
    ),
    (
        "checkpoint",
        ("Checkpoint", "체크포인트", "检查点"),
        (
            "The model as it was at one step, on disk; a run goes on from its last, and is used at its best.",
            "어느 한 단계의 모델을 저장해 둔 것입니다. 이어서 배울 때는 마지막 것을, 쓸 때는 가장 좋은 것을 씁니다.",
            "某一步时保存在磁盘上的模型；继续训练用最后一个，使用时用最好的一个。",
        ),
    ),
    (
        "validation",
        ("Training and validation text", "학습용 글과 검증용 글", "训练文本与验证文本"),
        (
            "The model learns from the first; how good it is is measured on the second, which it never learns from.",
            "앞의 것으로 배우고, 배우는 데 쓰지 않은 뒤의 것으로 얼마나 잘하는지 잽니다.",
            "模型从前者学习；用从未学过的后者衡量它的好坏。",
        ),
    ),
    (
        "loss",
        ("Loss", "손실", "损失"),
        (
            "How surprised a model is by the right token, on average: minus the logarithm of its probability, in nats.",
            "맞는 토큰에 모델이 평균적으로 놀라는 정도(nat)입니다. 그 토큰에 준 확률의 로그에 음수를 붙인 값입니다.",
            "模型对正确词元平均的“意外”程度（nat）：其概率对数的相反数。",
        ),
    ),
    (
        "bits-per-byte",
        ("Bits per byte", "바이트당 비트", "每字节比特数"),
        (
            "The loss of a text in bits, divided by its bytes: unlike the loss, it compares models with other tokens.",
            "글 전체의 손실(비트)을 바이트 수로 나눈 값입니다. 손실과 달리 토큰이 다른 모델끼리도 비교할 수 있습니다.",
            "文本的总损失（比特）除以字节数：与损失不同，可比较使用不同词元的模型。",
        ),
    ),
    (
        "perplexity",
        ("Perplexity", "퍼플렉시티(perplexity)", "困惑度"),
        (
            "Among how many equally likely tokens the model is in doubt, on average: e to the power of the loss.",
            "모델이 평균적으로 몇 개의 똑같이 그럴듯한 토큰을 두고 망설이는지입니다. e를 손실만큼 거듭제곱한 값입니다.",
            "模型平均在多少个同样可能的词元之间犹豫：e 的损失次方。",
        ),
    ),
    (
        "accuracy",
        ("Accuracy", "정확도", "准确率"),
        (
            "How often what the model found likeliest was right.",
            "모델이 가장 그럴듯하다고 본 것이 맞은 비율입니다.",
            "模型认为最可能的结果正确的比例。",
        ),
    ),
    (
        "overfitting",
        ("Overfitting", "과적합", "过拟合"),
        (
            "Learning texts by heart: the training curve falls on while the validation curve rises.",
            "글을 외우는 것입니다. 학습 곡선은 계속 내려가는데 검증 곡선은 올라갑니다.",
            "死记文本：训练曲线继续下降，而验证曲线上升。",
        ),
    ),
    (
        "seed",
        ("Seed", "시드", "随机种子"),
        (
            "The number all chance comes from: the same seed gives the same result again.",
            "모든 우연이 나오는 수입니다. 시드가 같으면 결과도 같습니다.",
            "一切随机性的来源：相同的种子给出相同的结果。",
        ),
    ),
    (
        "temperature",
        ("Temperature", "온도(temperature)", "温度"),
        (
            "How much chance there is in writing: near 0 the likeliest token is taken, above 1 unlikely ones come up.",
            "글을 쓸 때의 우연의 정도입니다. 0에 가까우면 가장 그럴듯한 토큰만, 1을 넘으면 드문 토큰도 나옵니다.",
            "写作中的随机程度：接近 0 时取最可能的词元，大于 1 时会出现不太可能的词元。",
        ),
    ),
    (
        "top-p",
        ("Top-k, top-p", "top-k, top-p", "top-k、top-p"),
        (
            "Draw among the k likeliest tokens alone; among the fewest whose probabilities add up to p.",
            "가장 그럴듯한 k개 안에서만, 또는 확률의 합이 p가 되는 가장 적은 수의 토큰 안에서만 고릅니다.",
            "只在最可能的 k 个词元中抽取；或只在概率之和达到 p 的最少词元中抽取。",
        ),
    ),
    (
        "beam",
        ("Beam search", "빔 탐색", "束搜索"),
        (
            "Keep several partial texts and grow the likeliest of them, to find a likelier whole.",
            "쓰다 만 글 여러 개를 함께 키워 가며 전체로 더 그럴듯한 글을 찾습니다.",
            "同时保留多个未完成的文本，发展其中最可能的，以找到整体更可能的文本。",
        ),
    ),
    (
        "rank",
        ("Probability and rank of a token", "토큰의 확률과 순위", "词元的概率与排名"),
        (
            "How likely the model found a token at its place, and how many it found likelier; rank 1 is the likeliest.",
            "그 자리에서 모델이 그 토큰에 준 확률과, 확률이 높은 순서입니다. 1위가 가장 그럴듯한 토큰입니다.",
            "模型在该位置给词元的概率，以及它排第几；第 1 名最可能。",
        ),
    ),
    (
        "template",
        ("Chat template", "대화 템플릿", "对话模板"),
        (
            "How a conversation is written out as one text, with marks for who speaks; the model reads that text.",
            "대화를 누가 말하는지 표시해 하나의 글로 적는 틀입니다. 모델은 그 글을 읽습니다.",
            "把对话写成一段带有说话者标记的文本的格式；模型读的就是这段文本。",
        ),
    ),
    (
        "attribution",
        ("Attribution", "기여도", "归因"),
        (
            "How much each word moved an answer, by one method; methods differ, so they are shown side by side.",
            "한 방법으로 본, 낱말마다 답을 얼마나 움직였는지입니다. 방법마다 다르므로 나란히 보여 줍니다.",
            "按某种方法衡量的每个词对答案的影响；方法各异，所以并排显示。",
        ),
    ),
    (
        "faithfulness",
        ("Faithfulness", "충실도", "忠实度"),
        (
            "Whether the words a method names do carry the answer: tried by taking them away, against random ones.",
            "어떤 방법이 꼽은 낱말이 정말 답을 좌우하는지입니다. 그것을 뺄 때와 아무 낱말이나 뺄 때를 견줍니다.",
            "某方法指出的词是否真的决定答案：去掉它们，并与去掉随机的词相比较。",
        ),
    ),
    (
        "attention",
        ("Attention", "어텐션", "注意力"),
        (
            "Which earlier tokens a head looks at from each token. It shows where it looks, not what for.",
            "헤드가 각 토큰에서 앞의 어느 토큰을 보는지입니다. 어디를 보는지는 알지만 왜 보는지는 알 수 없습니다.",
            "每个头从各词元看向之前哪些词元。它说明看哪里，而不说明为什么看。",
        ),
    ),
    (
        "lens",
        ("Logit lens", "로짓 렌즈", "logit 透镜"),
        (
            "What the model would write if it ended after each layer.",
            "각 층에서 바로 끝냈다면 모델이 무엇을 썼을지를 보여 줍니다.",
            "如果模型在每一层之后就结束，它会写出什么。",
        ),
    ),
)
