"""The optim, schedule and train sections of a recipe. Each ``kind`` has only the options that apply to it."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from penna.config.sections import Paths, Section


class _AdamWFields(Section):
    learning_rate: float = Field(default=1e-3, gt=0, description="Peak learning rate of AdamW.")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="Decay of the running mean of gradients.")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="Decay of the running mean of squared gradients.")
    eps: float = Field(default=1e-8, gt=0, description="Added to the denominator for numerical stability.")
    weight_decay: float = Field(
        default=0.1,
        ge=0,
        description="Weight decay: each step shrinks weights by this times the learning rate.",
    )
    ngram_learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="Peak learning rate of the n-gram table (a lower one overfits rare n-grams less); none: "
        "learning_rate.",
    )
    grad_clip: float | None = Field(default=1.0, gt=0, description="Clip the gradient norm to this; none: never.")


_OPTIMIZER = "adamw: AdamW for all parameters. muon: Muon for the matrices in the blocks, AdamW for the rest."


class AdamWConfig(_AdamWFields):
    """AdamW for every parameter; matrices and embeddings decay, biases and norms do not."""

    kind: Literal["adamw"] = Field(default="adamw", description=_OPTIMIZER)


class MuonConfig(_AdamWFields):
    """Muon (Jordan et al. 2024) for the matrices in the blocks, AdamW for everything else."""

    kind: Literal["muon"] = Field(default="muon", description=_OPTIMIZER)
    matrix_learning_rate: float = Field(default=0.02, gt=0, description="Peak learning rate of Muon.")
    momentum: float = Field(default=0.95, ge=0, lt=1, description="Nesterov momentum of Muon.")
    matrix_weight_decay: float = Field(
        default=0.0,
        ge=0,
        description="Weight decay of Muon, times matrix_learning_rate.",
    )


OptimConfig = Annotated[AdamWConfig | MuonConfig, Field(discriminator="kind")]

_SCHEDULE = "The learning rate schedule after warm-up: constant, linear, cosine, multi_step or trapezoid."


class _Schedule(Section):
    warmup_steps: int = Field(default=0, ge=0, description="Steps over which the learning rate rises from zero.")


class ConstantSchedule(_Schedule):
    """Constant after warm-up."""

    kind: Literal["constant"] = Field(default="constant", description=_SCHEDULE)


class _DecayingSchedule(_Schedule):
    final_ratio: float = Field(default=0.0, ge=0, le=1, description="Learning rate at the end, as a share of the peak.")


class LinearSchedule(_DecayingSchedule):
    """Linear decay from the peak to ``final_ratio`` of it."""

    kind: Literal["linear"] = Field(default="linear", description=_SCHEDULE)


class CosineSchedule(_DecayingSchedule):
    """Cosine decay from the peak to ``final_ratio`` of it (Loshchilov and Hutter 2017)."""

    kind: Literal["cosine"] = Field(default="cosine", description=_SCHEDULE)


class TrapezoidSchedule(_DecayingSchedule):
    """Constant, then linear decay over the last ``decay_fraction`` of the run."""

    kind: Literal["trapezoid"] = Field(default="trapezoid", description=_SCHEDULE)
    decay_fraction: float = Field(
        default=0.4, gt=0, le=1, description="Share of the run, at its end, over which the learning rate decays."
    )


class MultiStepSchedule(_Schedule):
    """The learning rate is multiplied by ``factor`` at each milestone."""

    kind: Literal["multi_step"] = Field(default="multi_step", description=_SCHEDULE)
    every: int | None = Field(default=None, ge=1, description="Steps or epochs between milestones.")
    milestones: list[int] = Field(default=[], description="The milestones one by one, instead of `every`.")
    unit: Literal["step", "epoch"] = Field(default="step", description="Unit of the milestones.")
    factor: float = Field(default=0.5, gt=0, lt=1, description="Factor on the learning rate at each milestone.")

    @model_validator(mode="after")
    def _check_milestones(self) -> Self:
        if (self.every is None) == (not self.milestones):
            raise ValueError("give either every or milestones")
        if any(m < 1 for m in self.milestones) or sorted(set(self.milestones)) != self.milestones:
            raise ValueError(f"milestones must be positive and ascending, not {self.milestones}")
        return self


ScheduleConfig = Annotated[
    ConstantSchedule | LinearSchedule | CosineSchedule | TrapezoidSchedule | MultiStepSchedule,
    Field(discriminator="kind"),
]


def _check_interval(value: Any) -> Any:
    if value == "epoch" or (isinstance(value, int | str) and str(value).isdecimal() and int(value) >= 1):
        return value
    raise ValueError("must be a number of steps (at least 1) or 'epoch'")


def _check_device(device: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ValueError("must be auto, cpu, cuda, or one GPU such as cuda:0")
    return device


Interval = Annotated[int | Literal["epoch"], BeforeValidator(_check_interval)]
BUDGETS = ("steps", "epochs", "tokens", "minutes")


class TrainConfig(Section):
    """The training loop: budget, batches, device, evaluation, checkpoints and samples."""

    seed: int = Field(
        default=1337, ge=0, lt=2**31, description="Seed of the initial weights, batch order, dropout and samples."
    )
    device: Annotated[str, AfterValidator(_check_device)] = Field(
        default="auto", description="auto, cpu, cuda or cuda:N; auto uses a CUDA GPU if there is one."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Precision of matrix products; auto: bfloat16 on CUDA, float32 on a CPU. Weights stay float32.",
    )
    batch_size: int = Field(default=32, ge=1, description="Sequences per batch, over all devices together.")
    accumulation: int = Field(default=1, ge=1, description="Batches per optimizer step (gradient accumulation).")
    steps: int | None = Field(default=None, ge=1, description="Budget in optimizer steps.")
    epochs: float | None = Field(default=None, gt=0, description="Budget in passes over the training data.")
    tokens: int | None = Field(default=None, ge=1, description="Budget in training tokens.")
    minutes: float | None = Field(
        default=None, gt=0, description="Budget in wall-clock minutes; 5 if no budget is given."
    )
    evaluate_every: Interval = Field(default=250, description="Steps between validations, or epoch.")
    patience: int | None = Field(
        default=None, ge=1, description="Stop after this many validations without improvement; none: never."
    )
    log_every: int = Field(default=10, ge=1, description="Steps between lines of metrics.jsonl.")
    checkpoint_every: Interval = Field(default=250, description="Steps between checkpoints, or epoch.")
    keep_checkpoints: int = Field(
        default=2, ge=1, description="How many of the newest checkpoints to keep; the best is always kept."
    )
    init_from: str | None = Field(
        default=None,
        description="Start from the weights of a run, a checkpoint, a Hugging Face folder or hf://owner/name. Its "
        "tokenizer is used, and its values for [model] fields that the recipe leaves out.",
    )
    compile: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Use torch.compile; auto: only if all batches have the same shape and a measurement shows that it "
        "saves time.",
    )
    matmul: Literal["auto", "blas", "onednn"] = Field(
        default="auto",
        description="Library for float32 matrix products on a CPU; auto: measure and use the faster one.",
    )
    threads: int | None = Field(
        default=None, ge=1, description="CPU threads; none: measure a few counts and use the fastest."
    )
    sample_every: Interval | None = Field(
        default=None, description="Steps between samples, or epoch; none: at every validation."
    )
    prompts: Paths = Field(default=[""], description="Prompts of the samples; they stay the same during a run.")
    sample_tokens: int = Field(default=128, ge=0, description="Tokens per sample; 0: no samples.")
    sample_temperature: float = Field(default=0.8, ge=0, description="Temperature of the samples; 0: greedy.")

    @model_validator(mode="before")
    @classmethod
    def _default_budget(cls, given: Any) -> Any:
        if isinstance(given, dict) and all(given.get(budget) is None for budget in BUDGETS):
            return {**given, "minutes": 5.0}
        return given

    @model_validator(mode="after")
    def _check_one_budget(self) -> Self:
        given = [budget for budget in BUDGETS if getattr(self, budget) is not None]
        if len(given) != 1:
            raise ValueError(f"give one budget of {', '.join(BUDGETS)}, not {' and '.join(given)}")
        return self
