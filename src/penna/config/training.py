"""The sections of a recipe that say how a model learns: optimizer, schedule, and the loop itself.

``optim`` and ``schedule`` are unions told apart by ``kind``, so an option that does not apply cannot be written down.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from penna.config.sections import Paths, Section


class _AdamWFields(Section):
    learning_rate: float = Field(default=1e-3, gt=0, description="The highest learning rate of AdamW.")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="Decay of the mean of gradients.")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="Decay of the mean of squared gradients.")
    eps: float = Field(default=1e-8, gt=0, description="Added to the root of the squared mean.")
    weight_decay: float = Field(
        default=0.1, ge=0, description="Share of a weight taken off per step, times learning rate."
    )
    ngram_learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="The highest rate of the table of hashed n-grams, which learns rare ones by heart; none: "
        "learning_rate.",
    )
    grad_clip: float | None = Field(
        default=1.0, gt=0, description="Gradients are scaled down to this norm; none: never."
    )


class AdamWConfig(_AdamWFields):
    """AdamW for every parameter; matrices and embeddings decay, biases and norms do not."""

    kind: Literal["adamw"] = Field(
        default="adamw", description="adamw for all parameters, or muon for the blocks' matrices."
    )


class MuonConfig(_AdamWFields):
    """Muon (Jordan et al. 2024) for the matrices inside blocks, AdamW for everything else."""

    kind: Literal["muon"] = Field(
        default="muon", description="adamw for all parameters, or muon for the blocks' matrices."
    )
    matrix_learning_rate: float = Field(default=0.02, gt=0, description="The highest learning rate of Muon.")
    momentum: float = Field(default=0.95, ge=0, lt=1, description="Decay of Muon's mean of gradients (Nesterov).")
    matrix_weight_decay: float = Field(
        default=0.0, ge=0, description="Share of a matrix taken off per step, times Muon's learning rate."
    )


OptimConfig = Annotated[AdamWConfig | MuonConfig, Field(discriminator="kind")]


_KINDS = "How the learning rate moves: constant, linear, cosine, multi_step or trapezoid."


class _Schedule(Section):
    warmup_steps: int = Field(default=0, ge=0, description="Steps over which the learning rate rises from zero.")


class ConstantSchedule(_Schedule):
    """The learning rate stays where warm-up leaves it."""

    kind: Literal["constant"] = Field(default="constant", description=_KINDS)


class _FallingSchedule(_Schedule):
    final_ratio: float = Field(default=0.0, ge=0, le=1, description="What is left of the learning rate at the end.")


class LinearSchedule(_FallingSchedule):
    """A straight line from the highest rate down to ``final_ratio`` of it at the end."""

    kind: Literal["linear"] = Field(default="linear", description=_KINDS)


class CosineSchedule(_FallingSchedule):
    """Half a cosine from the highest rate down to ``final_ratio`` of it (Loshchilov and Hutter 2017)."""

    kind: Literal["cosine"] = Field(default="cosine", description=_KINDS)


class TrapezoidSchedule(_FallingSchedule):
    """Constant, then a straight line down over the last ``decay_fraction`` of the run."""

    kind: Literal["trapezoid"] = Field(default="trapezoid", description=_KINDS)
    decay_fraction: float = Field(
        default=0.4, gt=0, le=1, description="The share of the run over which the rate falls."
    )


class MultiStepSchedule(_Schedule):
    """The rate is multiplied by ``factor`` at each milestone."""

    kind: Literal["multi_step"] = Field(default="multi_step", description=_KINDS)
    every: int | None = Field(default=None, ge=1, description="A milestone every so many steps or epochs.")
    milestones: list[int] = Field(default=[], description="Milestones one by one; give these or `every`.")
    unit: Literal["step", "epoch"] = Field(default="step", description="What milestones count.")
    factor: float = Field(default=0.5, gt=0, lt=1, description="What is left of the learning rate after a milestone.")

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Self:
        if (self.every is None) == (not self.milestones):
            raise ValueError("give either every or milestones")
        if any(m < 1 for m in self.milestones) or sorted(set(self.milestones)) != self.milestones:
            raise ValueError(f"milestones must be positive and rising, not {self.milestones}")
        return self


ScheduleConfig = Annotated[
    ConstantSchedule | LinearSchedule | CosineSchedule | TrapezoidSchedule | MultiStepSchedule,
    Field(discriminator="kind"),
]


def _often(value: Any) -> Any:
    if value == "epoch" or (isinstance(value, int | str) and str(value).isdecimal() and int(value) >= 1):
        return value
    raise ValueError("input should be a number of steps, 1 or more, or 'epoch'")


Interval = Annotated[int | Literal["epoch"], BeforeValidator(_often)]
BUDGETS = ("steps", "epochs", "tokens", "minutes")


class TrainConfig(Section):
    """The loop: how long, how much at a time, on what, and what is looked at on the way."""

    seed: int = Field(
        default=1337, ge=0, lt=2**31, description="Decides initial weights, batch order, dropout and samples."
    )
    device: str = Field(
        default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto takes a CUDA device where there is one."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Of the matrix products; auto: bfloat16 on CUDA, float32 on a CPU. Weights stay float32.",
    )
    batch_size: int = Field(default=32, ge=1, description="Rows (windows) read at a time, over all devices together.")
    accumulation: int = Field(default=1, ge=1, description="Such batches added up before each step.")
    steps: int | None = Field(default=None, ge=1, description="Budget: optimizer steps.")
    epochs: float | None = Field(default=None, gt=0, description="Budget: passes over the training text.")
    tokens: int | None = Field(default=None, ge=1, description="Budget: tokens learned from.")
    minutes: float | None = Field(
        default=None, gt=0, description="Budget: wall-clock minutes; 5 where no budget is given."
    )
    evaluate_every: Interval = Field(
        default=250, description="Steps between evaluations on the validation part, or epoch."
    )
    patience: int | None = Field(
        default=None, ge=1, description="Stop after so many evaluations in a row without a better one."
    )
    log_every: int = Field(default=10, ge=1, description="Steps between rows of metrics.jsonl.")
    checkpoint_every: Interval = Field(default=250, description="Steps between checkpoints, or epoch.")
    keep_checkpoints: int = Field(default=2, ge=1, description="The newest checkpoints kept; the best is always kept.")
    init_from: str | None = Field(
        default=None,
        description="Start from the weights of a run, a checkpoint, an HF folder or hf://owner/name; its tokenizer is "
        "taken, and each field of [model] that the recipe leaves out.",
    )
    compile: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="torch.compile; auto turns it on where all batches have one shape and it saves more than it "
        "costs, measured.",
    )
    matmul: Literal["auto", "blas", "onednn"] = Field(
        default="auto",
        description="Library for float32 products on a CPU; auto: the faster one on this machine, measured.",
    )
    threads: int | None = Field(
        default=None, ge=1, description="CPU threads; none: the fastest of a few counts, measured."
    )
    sample_every: Interval | None = Field(
        default=None, description="Steps between samples, or epoch; none: at every evaluation."
    )
    prompts: Paths = Field(default=[""], description="Prompts the samples go on from, the same all through the run.")
    sample_tokens: int = Field(default=128, ge=0, description="Tokens per sample; 0 writes none.")
    sample_temperature: float = Field(default=0.8, ge=0, description="Temperature of the samples; 0 is greedy.")

    @model_validator(mode="before")
    @classmethod
    def _five_minutes_unless_said(cls, given: Any) -> Any:
        if isinstance(given, dict) and all(given.get(budget) is None for budget in BUDGETS):
            return {**given, "minutes": 5.0}
        return given

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        named = [budget for budget in BUDGETS if getattr(self, budget) is not None]
        if len(named) != 1:
            raise ValueError(f"one budget of {', '.join(BUDGETS)} is needed, not {' and '.join(named)}")
        return self
