"""The typed sections of a recipe: what a run is, field by field.

Each section is a frozen pydantic model; ``extra="forbid"`` makes a misspelt field an error. The descriptions are the
help text of the command line (``penna recipes NAME``), so they are written for the person who sets the field. Units
and ranges are part of the type. No torch and no numpy here: a recipe can be read anywhere.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

# MERGED config.presets: Named model shapes: what each preset fills in where a recipe says nothing.
#
# The values are the published ones (Radford et al. 2018 for ``gpt1``, 2019 for ``gpt2``); ``modern`` is the layout of
# Qwen3 (Yang et al. 2025), so that other tools run its weights.


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


class Section(BaseModel):
    """Base of all sections: frozen, and closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def _as_list(value: Any) -> Any:
    """One string stands for a list of one."""
    return [value] if isinstance(value, str) else value


Paths = Annotated[list[str], BeforeValidator(_as_list)]


def _each_names_a_column(conditions: list[str]) -> list[str]:
    for condition in conditions:
        if not condition.partition("=")[0] or "=" not in condition:
            raise ValueError(f"{condition!r} is no column=value, such as category=tech")
    return conditions


Conditions = Annotated[list[str], BeforeValidator(_as_list), AfterValidator(_each_names_a_column)]


class DataConfig(Section):
    """Where the text comes from and how it is cut into training and validation."""

    path: Paths = Field(
        default=[],
        description="Files, folders or globs of .txt, .jsonl, .json, .tsv, .csv, .parquet, each also .gz, .xz or .zst; "
        "- for standard input; a data set of the Hugging Face hub as hf://owner/name. $VARIABLES are expanded.",
    )
    source: Literal["files", "python"] = Field(
        default="files",
        description="files: read `path`; python: the reference topics and docstrings every Python installation has.",
    )
    format: Literal["auto", "txt", "jsonl", "json", "tsv", "csv", "parquet"] = Field(
        default="auto", description="The format of all files; auto goes by their endings."
    )
    document: Literal["file", "block", "line"] = Field(
        default="file", description="What one document of a .txt is: the file, a block between blank lines, or a line."
    )
    text_column: str | None = Field(
        default=None,
        description="The column (or field) of a record that holds its text; none: text, document, content, story, "
        "article, review or sentence, the first of these there is.",
    )
    label_column: str | None = Field(default=None, description="The column of a record's label; none: label.")
    pair_column: str | None = Field(
        default=None,
        description="The column of a second text that goes with the first (classify); none: no such.",
    )
    messages_column: str | None = Field(default=None, description="The column of a dialogue's turns; none: messages.")
    prompt_column: str | None = Field(
        default=None, description="The column a completion answers to; none: prompt, or article beside a summary."
    )
    completion_column: str | None = Field(
        default=None, description="The column of what is to be written; none: completion, or summary beside an article."
    )
    where: Conditions = Field(
        default=[],
        description="Read only the records whose column has a value, as column=value (category=tech); a column that is "
        "named several times has one of its values.",
    )
    columns: list[str] = Field(default=[], description="The columns of a .tsv or .csv that has no header line.")
    quoting: Literal["auto", "on", "off"] = Field(
        default="auto", description='Whether " wraps values of a .tsv or .csv; auto: in .csv, not in .tsv.'
    )
    limit: int | None = Field(default=None, ge=1, description="Read only this many documents.")
    valid_path: Paths = Field(default=[], description="Validation files of their own; then nothing is split off.")
    valid_limit: int | None = Field(default=None, ge=1, description="Read only this many documents of valid_path.")
    split: Literal["auto", "document", "position"] = Field(
        default="auto",
        description="How validation text is split off: whole documents, or the last part of the text by position; "
        "auto takes documents where there are at least 20.",
    )
    valid_fraction: float = Field(default=0.1, gt=0, lt=1, description="The share of the text kept for validation.")
    allow_bad_records: float = Field(
        default=0.01, ge=0, le=1, description="The share of records that may be unreadable before the run stops."
    )
    windows: Literal["packed", "documents"] = Field(
        default="packed",
        description="packed: documents one behind another, cut into full blocks; documents: each document in rows of "
        "its own, from its separator to the next, filled up on the right.",
    )


def _tokenizer_kind(value: Any) -> Any:
    return "char" if value == "character" else value


class TokenizerConfig(Section):
    """How characters become token ids."""

    kind: Annotated[Literal["char", "bpe", "unigram", "file"], BeforeValidator(_tokenizer_kind)] = Field(
        default="bpe",
        description="char: one token per character; bpe: byte-level byte pairs; unigram: SentencePiece's model; "
        "file: read `path`.",
    )
    vocab_size: int = Field(
        default=4096, ge=2, le=1_000_000, description="How many tokens bpe and unigram learn, special ones included."
    )
    path: str | None = Field(
        default=None,
        description="A tokenizer to read: a run, a folder, a tokenizer.json, a vocab.json beside its merges.txt, a "
        "SentencePiece .model, or a WordPiece vocab.txt.",
    )

    @model_validator(mode="after")
    def _path_goes_with_file(self) -> Self:
        if (self.kind == "file") != (self.path is not None):
            raise ValueError('kind = "file" needs a path, and a path needs kind = "file"')
        return self


class ModelConfig(Section):
    """One decoder with free fields, alone or behind an encoder; a preset fills those that are not given."""

    arch: Literal["gpt", "seq2seq"] = Field(
        default="gpt",
        description="gpt: one decoder goes on with a text; seq2seq: an encoder reads a source, and a decoder with "
        "cross-attention writes.",
    )
    preset: Literal["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "gpt1", "modern"] = Field(
        default="gpt2", description="The published shape that fills every field not given here."
    )
    n_layer: int = Field(default=12, ge=1, description="Blocks, one after another.")
    n_head: int = Field(default=12, ge=1, description="Attention heads per block.")
    n_kv_head: int | None = Field(
        default=None, ge=1, description="Key/value heads; fewer than n_head share them in groups."
    )
    n_embd: int = Field(default=768, ge=1, description="Width of the hidden states.")
    head_dim: int | None = Field(default=None, ge=1, description="Width of one head; n_embd / n_head unless given.")
    n_inner: int | None = Field(
        default=None,
        ge=1,
        description="Width inside the MLP; 4 n_embd, or for swiglu 8/3 n_embd to the next multiple of 64.",
    )
    block_size: int = Field(default=1024, ge=1, description="The longest context, in tokens.")
    n_encoder_layer: int | None = Field(
        default=None, ge=1, description="Blocks of the encoder (seq2seq); n_layer unless given."
    )
    source_size: int | None = Field(
        default=None, ge=1, description="The longest source, in tokens (seq2seq); block_size unless given."
    )
    vocab_size: int | None = Field(
        default=None, ge=2, description="Rows of the embedding; the tokenizer's, unless given."
    )
    ngram_size: int | None = Field(
        default=None, ge=2, le=8, description="Embed, beside each token, the n-grams up to this long that end with it."
    )
    ngram_rows: int | None = Field(
        default=None, ge=2, description="Rows of the table that n-grams are hashed to; 131,072 unless given."
    )
    ngram_width: int | None = Field(
        default=None, ge=1, description="Width of that table, projected to n_embd; 32 unless given."
    )
    ngram_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="The share of n-grams left out, another draw each time, while learning."
    )
    n_class: int | None = Field(
        default=None, ge=2, description="Rows of a head that tells classes; the labels of the task classify, else none."
    )
    positions: Literal["learned", "sinusoidal", "rotary", "none"] = Field(
        default="learned", description="How the model knows where a token stands."
    )
    position_scale: float = Field(
        default=0.02, gt=0, description="Amplitude of sinusoidal positions; token embeddings start with deviation 0.02."
    )
    rope_theta: float = Field(default=10000.0, gt=0, description="Base of the rotary frequencies.")
    norm_position: Literal["pre", "post"] = Field(
        default="pre", description="Normalise before each part, or after its sum."
    )
    norm: Literal["layernorm", "rmsnorm"] = Field(default="layernorm", description="The kind of normalisation.")
    norm_eps: float = Field(default=1e-5, gt=0, description="Added to the variance before its root is taken.")
    mlp: Literal["gelu", "relu2", "swiglu"] = Field(default="gelu", description="gelu is the tanh form of GPT-2.")
    qk_norm: bool = Field(default=False, description="Normalise queries and keys per head (RMSNorm).")
    bias: bool = Field(default=True, description="Linear layers carry a bias.")
    tie: bool = Field(
        default=True, description="The output projection is the token embedding; under seq2seq, the encoder's too."
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="On embeddings, attention weights and each part's output."
    )
    residual_init: Literal["scaled", "zero"] = Field(
        default="scaled", description="How projections into the residual stream start: 0.02 / sqrt(2 n_layer), or zero."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        preset = PRESETS.get(given.get("preset", "gpt2"), {}) if isinstance(given.get("preset", ""), str) else {}
        return {**preset, **given}

    @model_validator(mode="after")
    def _derive(self) -> Self:
        if self.head_dim is None:
            if self.n_embd % self.n_head:
                raise ValueError(
                    f"n_embd = {self.n_embd} is not divisible by n_head = {self.n_head}; choose one that divides, "
                    "or give head_dim"
                )
            object.__setattr__(self, "head_dim", self.n_embd // self.n_head)
        if self.n_kv_head is None:
            object.__setattr__(self, "n_kv_head", self.n_head)
        if self.n_inner is None:
            inner = -(-8 * self.n_embd // (3 * 64)) * 64 if self.mlp == "swiglu" else 4 * self.n_embd
            object.__setattr__(self, "n_inner", inner)
        if self.n_head % self.kv_heads:
            raise ValueError(f"n_head = {self.n_head} is not divisible by n_kv_head = {self.n_kv_head}")
        if self.positions == "rotary" and self.head_width % 2:
            raise ValueError(f"rotary positions need an even head_dim, not {self.head_dim}")
        if self.positions == "sinusoidal" and self.n_embd % 2:
            raise ValueError(f"sinusoidal positions need an even n_embd, not {self.n_embd}")
        return self

    @model_validator(mode="after")
    def _encoder_goes_with_seq2seq(self) -> Self:
        if self.arch == "gpt":
            for name in ("n_encoder_layer", "source_size"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f'{name} = {getattr(self, name)} belongs to an encoder, and arch = "gpt" has none; '
                        'take arch = "seq2seq", or leave it out'
                    )
            return self
        if self.positions == "none":  # a decoder's causal mask gives its tokens an order; an encoder has no such mask
            raise ValueError('positions = "none" leaves the encoder of arch = "seq2seq" without the order of tokens')
        if self.n_encoder_layer is None:
            object.__setattr__(self, "n_encoder_layer", self.n_layer)
        if self.source_size is None:
            object.__setattr__(self, "source_size", self.block_size)
        return self

    @model_validator(mode="after")
    def _a_table_goes_with_ngrams(self) -> Self:
        for name, usual in (("ngram_rows", 1 << 17), ("ngram_width", 32)):
            given = getattr(self, name)
            if self.ngram_size is None and given is not None:
                raise ValueError(f"{name} = {given} belongs to n-grams; give ngram_size too, or leave it out")
            if self.ngram_size is not None and given is None:
                object.__setattr__(self, name, usual)
        if self.ngram_size is None and self.ngram_dropout:
            raise ValueError(f"ngram_dropout = {self.ngram_dropout} belongs to n-grams; give ngram_size too")
        if self.ngram_size is not None and self.arch == "seq2seq":
            raise ValueError(f'ngram_size = {self.ngram_size} is for arch = "gpt"; leave it out with an encoder')
        return self

    # The five below are None only before validation; these say so to the type checker.
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
