"""The data, tokenizer and model sections of a recipe, and the model presets.

Each section is a frozen pydantic model that rejects unknown fields. The field descriptions are shown by
``penna recipes NAME``, by ``--help`` and by the studio.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_GPT2: dict[str, Any] = {
    "n_layer": 12,
    "n_head": 12,
    "n_embd": 768,
    "block_size": 1024,
    "positions": "learned",
    "norm_position": "pre",
    "norm": "layernorm",
    "norm_eps": 1e-5,
    "mlp": "gelu",
    "qk_norm": False,
    "bias": True,
    "tie": True,
    "residual_init": "scaled",
}

PRESETS: dict[str, dict[str, Any]] = {
    "gpt2": _GPT2,
    "gpt2-medium": {**_GPT2, "n_layer": 24, "n_head": 16, "n_embd": 1024},
    "gpt2-large": {**_GPT2, "n_layer": 36, "n_head": 20, "n_embd": 1280},
    "gpt2-xl": {**_GPT2, "n_layer": 48, "n_head": 25, "n_embd": 1600},
    "gpt1": {**_GPT2, "block_size": 512, "norm_position": "post"},
    "modern": {
        **_GPT2,
        "positions": "rotary",
        "norm": "rmsnorm",
        "norm_eps": 1e-6,
        "mlp": "swiglu",
        "qk_norm": True,
        "bias": False,
        "residual_init": "zero",
    },
}
"""Published shapes: Radford et al. 2018 (gpt1) and 2019 (gpt2). ``modern`` has the layout of Qwen3 (Yang et al. 2025),
so that other tools can run its weights."""


class Section(BaseModel):
    """Base of all sections: frozen, and without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def _to_list(value: Any) -> Any:
    """Turn a single string into a list."""
    return [value] if isinstance(value, str) else value


Paths = Annotated[list[str], BeforeValidator(_to_list)]


def _check_conditions(conditions: list[str]) -> list[str]:
    for condition in conditions:
        if not condition.partition("=")[0] or "=" not in condition:
            raise ValueError(f"must contain column=value conditions such as category=tech; {condition!r} is none")
    return conditions


Conditions = Annotated[list[str], BeforeValidator(_to_list), AfterValidator(_check_conditions)]


class DataConfig(Section):
    """Which text is read, and how it is split into training and validation data."""

    path: Paths = Field(
        default=[],
        description="Files, folders or globs: .txt, .jsonl, .json, .tsv, .csv or .parquet, also compressed as .gz, .xz "
        "or .zst; - for standard input; hf://owner/name for a data set of the Hugging Face hub. $VARIABLES are "
        "expanded.",
    )
    source: Literal["files", "python"] = Field(
        default="files",
        description="files: read `path`. python: use the documentation and docstrings of this Python installation.",
    )
    format: Literal["auto", "txt", "jsonl", "json", "tsv", "csv", "parquet"] = Field(
        default="auto", description="The file format; auto: judge by the file name's extension."
    )
    document: Literal["file", "block", "line"] = Field(
        default="file",
        description="What one document of a .txt file is: the whole file, a block between blank lines, or a line.",
    )
    text_column: str | None = Field(
        default=None,
        description="The column (or field) that holds the text; none: the first that exists of text, document, "
        "content, story, article, review and sentence.",
    )
    label_column: str | None = Field(default=None, description="The column that holds the label; none: label.")
    pair_column: str | None = Field(
        default=None, description="The column that holds the second text of a pair (classify); none: no second text."
    )
    messages_column: str | None = Field(
        default=None, description="The column that holds the messages of a dialogue; none: messages."
    )
    prompt_column: str | None = Field(
        default=None, description="The column that holds the prompt; none: prompt, or article if there is a summary."
    )
    completion_column: str | None = Field(
        default=None,
        description="The column that holds the completion; none: completion, or summary if there is an article.",
    )
    where: Conditions = Field(
        default=[],
        description="Read only records that match column=value (category=tech). Several conditions on the same column "
        "match any of their values.",
    )
    columns: list[str] = Field(default=[], description="Column names of a .tsv or .csv file without a header line.")
    quoting: Literal["auto", "on", "off"] = Field(
        default="auto", description='Whether values in .tsv or .csv may be quoted with "; auto: on for .csv only.'
    )
    limit: int | None = Field(default=None, ge=1, description="Read at most this many documents.")
    valid_path: Paths = Field(
        default=[], description="Separate validation files; no validation data is then split off from `path`."
    )
    valid_limit: int | None = Field(default=None, ge=1, description="Read at most this many documents of valid_path.")
    split: Literal["auto", "document", "position"] = Field(
        default="auto",
        description="How validation data is split off. document: whole documents. position: the end of the text. "
        "auto: document if there are at least 20 documents.",
    )
    valid_fraction: float = Field(default=0.1, gt=0, lt=1, description="Share of the text used for validation.")
    allow_bad_records: float = Field(
        default=0.01, ge=0, le=1, description="Stop if more than this share of the records is unusable."
    )
    windows: Literal["packed", "documents"] = Field(
        default="packed",
        description="packed: concatenate documents and cut them into full blocks. documents: each document gets its "
        "own rows, from its separator to the next, padded on the right.",
    )


def _expand_kind(value: Any) -> Any:
    return "char" if value == "character" else value


class TokenizerConfig(Section):
    """How text becomes token ids."""

    kind: Annotated[Literal["char", "bpe", "unigram", "file"], BeforeValidator(_expand_kind)] = Field(
        default="bpe",
        description="char: one token per character. bpe: byte-level BPE, as in GPT-2. unigram: SentencePiece's unigram "
        "model. file: read an existing tokenizer from `path`.",
    )
    vocab_size: int = Field(
        default=4096, ge=2, le=1_000_000, description="Vocabulary size of bpe and unigram, special tokens included."
    )
    path: str | None = Field(
        default=None,
        description="An existing tokenizer: a run, a folder, a tokenizer.json, a vocab.json next to its merges.txt, a "
        "SentencePiece .model, or a WordPiece vocab.txt.",
    )

    @model_validator(mode="after")
    def _check_path(self) -> Self:
        if (self.kind == "file") != (self.path is not None):
            raise ValueError('kind = "file" needs a path, and a path needs kind = "file"')
        return self


class ModelConfig(Section):
    """The shape of the model: a decoder, or an encoder and a decoder. A preset fills the fields that are not given."""

    arch: Literal["gpt", "seq2seq"] = Field(
        default="gpt",
        description="gpt: a decoder that continues a text. seq2seq: an encoder that reads a source text, and a decoder "
        "with cross-attention.",
    )
    preset: Literal["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "gpt1", "modern"] = Field(
        default="gpt2", description="The published shape that fills every field not given here."
    )
    n_layer: int = Field(default=12, ge=1, description="Number of transformer blocks.")
    n_head: int = Field(default=12, ge=1, description="Attention heads per block.")
    n_kv_head: int | None = Field(
        default=None,
        ge=1,
        description="Key/value heads (grouped-query attention if fewer than n_head); default: n_head.",
    )
    n_embd: int = Field(default=768, ge=1, description="Width of the hidden states.")
    head_dim: int | None = Field(default=None, ge=1, description="Width of one head; default: n_embd / n_head.")
    n_inner: int | None = Field(
        default=None,
        ge=1,
        description="Width of the MLP's hidden layer; default: 4 n_embd, or for swiglu 8/3 n_embd, rounded up to a "
        "multiple of 64.",
    )
    block_size: int = Field(default=1024, ge=1, description="Longest context, in tokens.")
    n_encoder_layer: int | None = Field(
        default=None, ge=1, description="Number of encoder blocks (seq2seq); default: n_layer."
    )
    source_size: int | None = Field(
        default=None, ge=1, description="Longest source text, in tokens (seq2seq); default: block_size."
    )
    vocab_size: int | None = Field(
        default=None, ge=2, description="Rows of the embedding; default: the tokenizer's vocabulary size."
    )
    ngram_size: int | None = Field(
        default=None,
        ge=2,
        le=8,
        description="Add embeddings of the n-grams, up to this length, that end with each token.",
    )
    ngram_rows: int | None = Field(default=None, ge=2, description="Rows of the hashed n-gram table; default: 131,072.")
    ngram_width: int | None = Field(
        default=None, ge=1, description="Width of the n-gram table, which is projected to n_embd; default: 32."
    )
    ngram_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Share of n-grams that are dropped at random in training."
    )
    n_class: int | None = Field(
        default=None, ge=2, description="Classes of the classification head; default: the labels of the task classify."
    )
    positions: Literal["learned", "sinusoidal", "rotary", "none"] = Field(
        default="learned", description="The kind of position encoding."
    )
    position_scale: float = Field(
        default=0.02,
        gt=0,
        description="Amplitude of sinusoidal positions (token embeddings start with standard deviation 0.02).",
    )
    rope_theta: float = Field(default=10000.0, gt=0, description="Base of the rotary frequencies.")
    norm_position: Literal["pre", "post"] = Field(
        default="pre",
        description="Normalize before attention and MLP (pre), or after adding them to the residual (post).",
    )
    norm: Literal["layernorm", "rmsnorm"] = Field(default="layernorm", description="The kind of normalization.")
    norm_eps: float = Field(default=1e-5, gt=0, description="Added to the variance in the normalization.")
    mlp: Literal["gelu", "relu2", "swiglu"] = Field(
        default="gelu", description="Activation of the MLP; gelu is GPT-2's tanh approximation."
    )
    qk_norm: bool = Field(default=False, description="Normalize queries and keys per head (RMSNorm).")
    bias: bool = Field(default=True, description="Whether linear layers have a bias.")
    tie: bool = Field(
        default=True,
        description="Tie the output projection to the token embedding, and under seq2seq also to the encoder's.",
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Dropout on embeddings, attention weights, and attention and MLP outputs."
    )
    residual_init: Literal["scaled", "zero"] = Field(
        default="scaled",
        description="Initial weights of projections into the residual stream: standard deviation 0.02 / sqrt(2 "
        "n_layer), or zero.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        preset = PRESETS.get(given.get("preset", "gpt2"), {}) if isinstance(given.get("preset", ""), str) else {}
        return {**preset, **given}

    @model_validator(mode="after")
    def _derive_shape(self) -> Self:
        if self.head_dim is None:
            if self.n_embd % self.n_head:
                raise ValueError(
                    f"n_embd = {self.n_embd} must be divisible by n_head = {self.n_head}; change one of them, or give "
                    "head_dim"
                )
            object.__setattr__(self, "head_dim", self.n_embd // self.n_head)
        if self.n_kv_head is None:
            object.__setattr__(self, "n_kv_head", self.n_head)
        if self.n_inner is None:
            inner = -(-8 * self.n_embd // (3 * 64)) * 64 if self.mlp == "swiglu" else 4 * self.n_embd
            object.__setattr__(self, "n_inner", inner)
        if self.n_head % self.kv_heads:
            raise ValueError(f"n_head = {self.n_head} must be divisible by n_kv_head = {self.n_kv_head}")
        if self.positions == "rotary" and self.head_width % 2:
            raise ValueError(f"rotary positions need an even head_dim, not {self.head_dim}")
        if self.positions == "sinusoidal" and self.n_embd % 2:
            raise ValueError(f"sinusoidal positions need an even n_embd, not {self.n_embd}")
        return self

    @model_validator(mode="after")
    def _derive_encoder(self) -> Self:
        if self.arch == "gpt":
            for name in ("n_encoder_layer", "source_size"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f'{name} = {getattr(self, name)} needs an encoder; use arch = "seq2seq", or leave {name} out'
                    )
            return self
        if self.positions == "none":  # a decoder's causal mask orders its tokens; an encoder has no such mask
            raise ValueError('positions = "none" does not work with arch = "seq2seq": the encoder would ignore order')
        if self.n_encoder_layer is None:
            object.__setattr__(self, "n_encoder_layer", self.n_layer)
        if self.source_size is None:
            object.__setattr__(self, "source_size", self.block_size)
        return self

    @model_validator(mode="after")
    def _derive_ngrams(self) -> Self:
        for name, default in (("ngram_rows", 1 << 17), ("ngram_width", 32)):
            value = getattr(self, name)
            if self.ngram_size is None and value is not None:
                raise ValueError(f"{name} = {value} needs ngram_size; give it too, or leave {name} out")
            if self.ngram_size is not None and value is None:
                object.__setattr__(self, name, default)
        if self.ngram_size is None and self.ngram_dropout:
            raise ValueError(f"ngram_dropout = {self.ngram_dropout} needs ngram_size; give it too")
        if self.ngram_size is not None and self.arch == "seq2seq":
            raise ValueError(f'ngram_size = {self.ngram_size} needs arch = "gpt"; leave it out for seq2seq')
        return self

    # The fields below are None only before validation; these properties say so to the type checker.
    @property
    def head_width(self) -> int:
        """``head_dim`` after validation."""
        assert self.head_dim is not None
        return self.head_dim

    @property
    def kv_heads(self) -> int:
        """``n_kv_head`` after validation."""
        assert self.n_kv_head is not None
        return self.n_kv_head

    @property
    def inner_width(self) -> int:
        """``n_inner`` after validation."""
        assert self.n_inner is not None
        return self.n_inner

    @property
    def encoder_layers(self) -> int:
        """``n_encoder_layer`` after validation of a seq2seq."""
        assert self.n_encoder_layer is not None
        return self.n_encoder_layer

    @property
    def source_span(self) -> int:
        """``source_size`` after validation of a seq2seq."""
        assert self.source_size is not None
        return self.source_size

    @property
    def rows(self) -> int:
        """``vocab_size`` once the tokenizer is known."""
        if self.vocab_size is None:
            raise ValueError("vocab_size is not known until the tokenizer is")
        return self.vocab_size
