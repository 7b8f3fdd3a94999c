"""The Hugging Face classes Penna reads and writes: what each can hold, and its config.json in both directions.

A class is data: which Penna fields it fixes, which config.json field carries which number, and which config.json
values say something Penna's model does not do. Reading turns config.json into a ``ModelConfig`` or refuses by field
name; writing picks the class that holds a ``ModelConfig`` or refuses by field name. Defaults are those of transformers
5.23 (``configuration_gpt2``, ``configuration_openai``, ``configuration_qwen3``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from penna.config.sections import ModelConfig
from penna.errors import InteropError
from penna.interop.hf_classifier import labels_from_json

_MISSING = object()


@dataclass(frozen=True)
class HFClass:
    """One Hugging Face model class, as Penna knows it, and the class with a head for classes beside it."""

    name: str
    classifier_name: str
    model_type: str
    base_name: str  # the class without a head, whose files leave out the prefix
    prefix: str  # what stands before every weight but the head's
    preset: str
    holds: Mapping[str, tuple[Any, ...]]  # Penna field -> the values this class can hold
    follows: Mapping[
        str, tuple[str, Callable[[ModelConfig], float]]
    ]  # Penna field -> what it must be, said and computed
    numbers: Mapping[str, tuple[str, Any]]  # Penna field -> config.json field and the class's own default for it
    aliases: Mapping[str, str]  # config.json field -> the other name transformers takes for it
    demands: Mapping[str, tuple[Any, ...]]  # config.json field -> the values Penna's model can follow
    objections: Callable[[Mapping[str, Any]], list[str]]  # further complaints about a config.json
    extras: Callable[[ModelConfig], dict[str, Any]]  # further config.json fields to write
    fixed: Mapping[str, Any] = field(default_factory=dict[str, Any])  # Penna fields a config.json of this class implies

    def architecture_name(self, config: ModelConfig) -> str:
        """The class that holds this very model: one with a head for classes where it has one."""
        return self.name if config.n_class is None else self.classifier_name


def _no_objections(given: Mapping[str, Any]) -> list[str]:
    return []


def _rope(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The rotary settings: transformers 5 nests them in rope_parameters, 4.x had rope_scaling or nothing."""
    nested: Any = given.get("rope_scaling") or given.get("rope_parameters") or {}
    return cast(dict[str, Any], nested) if isinstance(nested, dict) else {"rope_type": nested}


def _qwen3_objections(given: Mapping[str, Any]) -> list[str]:
    rope = _rope(given)
    key = "rope_scaling" if given.get("rope_scaling") else "rope_parameters"
    plain = set(rope) <= {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
    kinds = {rope.get("rope_type", "default"), rope.get("type", "default")}
    partial = rope.get("partial_rotary_factor", given.get("partial_rotary_factor"))
    complaints: list[str] = []
    if not plain or kinds != {"default"}:
        complaints.append(f'{key} = {format_value(rope)}: only the rope_type "default" is understood')
    if partial not in (None, 1, 1.0):
        complaints.append(f"partial_rotary_factor = {format_value(partial)}: only 1.0 is understood")
    layers: Any = given.get("layer_types") or ["full_attention"]
    if set(map(str, layers)) != {"full_attention"}:
        complaints.append(f'layer_types = {format_value(layers)}: only "full_attention" is understood')
    return complaints


def _gpt_extras(config: ModelConfig) -> dict[str, Any]:
    return {
        "n_ctx": config.block_size,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "initializer_range": 0.02,
    }


def _gpt2_extras(config: ModelConfig) -> dict[str, Any]:
    return {
        **_gpt_extras(config),
        "activation_function": "gelu_new",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False,
        "add_cross_attention": False,
        "use_cache": True,
    }


def _gpt1_extras(config: ModelConfig) -> dict[str, Any]:
    return {**_gpt_extras(config), "afn": "gelu"}  # which is GPT-2's gelu_new: modeling_openai.ACT_FNS


def _qwen3_extras(config: ModelConfig) -> dict[str, Any]:
    return {
        "rope_theta": config.rope_theta,  # where transformers 4, vLLM and llama.cpp look
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},  # where transformers 5 looks
        "layer_types": ["full_attention"] * config.n_layer,
        "max_window_layers": config.n_layer,
        "sliding_window": None,
        "use_sliding_window": False,
        "attention_bias": False,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "use_cache": True,
    }


# Dropout is a choice of training: it does not change what the model computes. Where a class has several rates, the one
# behind each part (resid_pdrop) is read.
_GPT_NUMBERS: dict[str, tuple[str, Any]] = {
    "n_embd": ("n_embd", 768),
    "n_layer": ("n_layer", 12),
    "n_head": ("n_head", 12),
    "norm_eps": ("layer_norm_epsilon", 1e-5),
    "dropout": ("resid_pdrop", 0.1),
    "tie": ("tie_word_embeddings", True),
}
_GPT_ALIASES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
}
_GPT_HOLDS: dict[str, tuple[Any, ...]] = {
    "arch": ("gpt",),
    "ngram_size": (None,),
    "positions": ("learned", "sinusoidal"),
    "norm": ("layernorm",),
    "mlp": ("gelu",),
    "qk_norm": (False,),
    "bias": (True,),
}
_GPT_FOLLOWS: dict[str, tuple[str, Callable[[ModelConfig], float]]] = {
    "n_kv_head": ("n_head", lambda config: config.n_head),
    "head_dim": ("n_embd / n_head", lambda config: config.n_embd / config.n_head),
}
_GPT_FIXED = {"positions": "learned", "norm": "layernorm", "mlp": "gelu", "qk_norm": False, "bias": True}
_DEMANDS: dict[str, tuple[Any, ...]] = {
    "quantization_config": (None,),
    "is_encoder_decoder": (False, None),
    "pruned_heads": ({}, None),
}

GPT2 = HFClass(
    name="GPT2LMHeadModel",
    classifier_name="GPT2ForSequenceClassification",
    model_type="gpt2",
    base_name="GPT2Model",
    prefix="transformer.",
    preset="gpt2",
    holds={**_GPT_HOLDS, "norm_position": ("pre",)},
    follows=_GPT_FOLLOWS,
    numbers={
        **_GPT_NUMBERS,
        "vocab_size": ("vocab_size", 50257),
        "block_size": ("n_positions", 1024),
        "n_inner": ("n_inner", None),
    },
    aliases=_GPT_ALIASES,
    demands={
        **_DEMANDS,
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    objections=_no_objections,
    extras=_gpt2_extras,
    fixed={**_GPT_FIXED, "norm_position": "pre"},
)

GPT1 = HFClass(
    name="OpenAIGPTLMHeadModel",
    classifier_name="OpenAIGPTForSequenceClassification",
    model_type="openai-gpt",
    base_name="OpenAIGPTModel",
    prefix="transformer.",
    preset="gpt1",
    holds={**_GPT_HOLDS, "norm_position": ("post",)},
    follows={**_GPT_FOLLOWS, "n_inner": ("4 n_embd", lambda config: 4 * config.n_embd)},
    numbers={**_GPT_NUMBERS, "vocab_size": ("vocab_size", 40478), "block_size": ("n_positions", 512)},
    aliases=_GPT_ALIASES,
    demands={**_DEMANDS, "afn": ("gelu", "gelu_new")},
    objections=_no_objections,
    extras=_gpt1_extras,
    fixed={**_GPT_FIXED, "norm_position": "post"},
)

QWEN3 = HFClass(
    name="Qwen3ForCausalLM",
    classifier_name="Qwen3ForSequenceClassification",
    model_type="qwen3",
    base_name="Qwen3Model",
    prefix="model.",
    preset="modern",
    holds={
        "arch": ("gpt",),
        "ngram_size": (None,),
        "positions": ("rotary",),
        "norm_position": ("pre",),
        "norm": ("rmsnorm",),
        "mlp": ("swiglu",),
        "qk_norm": (True,),
        "bias": (False,),
    },
    follows={},
    numbers={
        "n_embd": ("hidden_size", 4096),
        "n_layer": ("num_hidden_layers", 32),
        "n_head": ("num_attention_heads", 32),
        "n_kv_head": ("num_key_value_heads", 32),
        "head_dim": ("head_dim", 128),
        "n_inner": ("intermediate_size", 22016),
        "block_size": ("max_position_embeddings", 32768),
        "vocab_size": ("vocab_size", 151936),
        "norm_eps": ("rms_norm_eps", 1e-6),
        "dropout": ("attention_dropout", 0.0),
        "tie": ("tie_word_embeddings", False),
    },
    aliases={},
    demands={**_DEMANDS, "hidden_act": ("silu", "swish"), "attention_bias": (False,), "use_sliding_window": (False,)},
    objections=_qwen3_objections,
    extras=_qwen3_extras,
    fixed={
        "positions": "rotary",
        "norm_position": "pre",
        "norm": "rmsnorm",
        "mlp": "swiglu",
        "qk_norm": True,
        "bias": False,
    },
)

CLASSES = (GPT2, GPT1, QWEN3)


def format_value(value: Any) -> str:
    """A value as recipes and config.json write it: strings quoted, booleans small."""
    return json.dumps(value, ensure_ascii=False, default=str)


def unsupported_fields(config: ModelConfig, foreign: HFClass) -> list[str]:
    """What this class cannot hold of the model, one line per field; empty when it holds it all."""
    lines: list[str] = []
    for name, allowed in foreign.holds.items():
        value = getattr(config, name)
        if value not in allowed:
            choices = " or ".join(map(format_value, allowed))
            lines.append(f"{name} = {format_value(value)}: {foreign.name} holds only {choices}")
    for name, (said, computed) in foreign.follows.items():
        value, wanted = getattr(config, name), computed(config)
        if value != wanted:
            lines.append(f"{name} = {format_value(value)}: {foreign.name} holds only {said} = {wanted:g}")
    return lines


def choose_hf_class(config: ModelConfig) -> HFClass:
    """The class that holds the model; ``ExchangeError`` names the fields no class holds."""
    found = {foreign.name: unsupported_fields(config, foreign) for foreign in CLASSES}
    for foreign in CLASSES:
        if not found[foreign.name]:
            return foreign
    family = config.preset.partition("-")[0]  # decides between classes that are equally close
    closest, *others = sorted(CLASSES, key=lambda foreign: (len(found[foreign.name]), foreign.preset != family))
    rest = "".join(
        f"\n{foreign.name} would need another {', '.join(line.split(' =')[0] for line in found[foreign.name])}."
        for foreign in others
    )
    raise InteropError(
        f"No Hugging Face class holds this model. The closest is {closest.name}, but\n  "
        + "\n  ".join(found[closest.name]),
        f"Expected a model that fits one class in every field.{rest}",
        "Train a model with these fields changed to export it; this one stays usable in Penna as it is.",
    )


def read_hf_class(given: Mapping[str, Any], source: Path) -> tuple[HFClass, bool]:
    """The class a config.json names, by ``architectures`` or, where that is missing, ``model_type``.

    And whether it is the one with a head for classes.
    """
    known = {
        name: foreign for foreign in CLASSES for name in (foreign.name, foreign.base_name, foreign.classifier_name)
    }
    architectures: Any = given.get("architectures")
    first = ""
    if isinstance(architectures, list) and architectures:
        first = str(cast(list[Any], architectures)[0])
        said, foreign = f"architecture {first}", known.get(first)
    else:
        model_type = given.get("model_type")
        said = f"model_type {model_type}" if model_type else "no architecture"
        foreign = next((each for each in CLASSES if each.model_type == model_type), None)
    if foreign is None:
        raise InteropError(
            f"{source} names {said}.",
            f"Penna understands {', '.join(each.name for each in CLASSES)}; "
            f"{', '.join(each.classifier_name for each in CLASSES)}.",
            "Choose a model of one of these classes, or convert it to one.",
        )
    return foreign, first == foreign.classifier_name


def config_from_json(given: Mapping[str, Any], source: Path) -> tuple[HFClass, ModelConfig, tuple[str, ...]]:
    """The class, Penna's configuration and the labels, if any, of a config.json's content.

    A field the file leaves out has the class's own default, as transformers reads it. ``ExchangeError`` names what
    cannot be followed.
    """
    foreign, classifies = read_hf_class(given, source)
    name, labels = foreign.classifier_name if classifies else foreign.name, ()
    complaints = [
        f"{key} = {format_value(given[key])}: only {' or '.join(map(format_value, allowed))} is understood"
        for key, allowed in foreign.demands.items()
        if key in given and given[key] not in allowed
    ]
    complaints += foreign.objections(given)
    try:
        labels = labels_from_json(given) if classifies else ()
    except ValueError as error:
        complaints.append(str(error))
    if complaints:
        raise InteropError(
            f"{source} describes a {name} that Penna's model cannot follow:\n  " + "\n  ".join(complaints),
            "Expected settings under which Penna computes the same numbers.",
            "Choose a model without these settings.",
        )
    values: dict[str, Any] = {"preset": foreign.preset, **foreign.fixed}
    for field_name, (key, default) in foreign.numbers.items():
        value = given.get(key, _MISSING)
        values[field_name] = given.get(foreign.aliases.get(key, key), default) if value is _MISSING else value
    if classifies:  # no LM head is among its weights: the embedding, as where it is tied, stands in
        values |= {"n_class": len(labels), "tie": True}
    if foreign.fixed["positions"] == "rotary":
        values["rope_theta"] = _rope(given).get("rope_theta") or given.get("rope_theta") or 10000.0
    try:
        return foreign, ModelConfig(**values), labels
    except ValidationError as error:
        reasons = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'the model'}: {each['msg']}" for each in error.errors()
        )
        raise InteropError(
            f"{source} describes a {name} of no possible shape: {reasons}.",
            "Expected the numbers of a model, in the ranges of Penna's [model] section.",
            "Check that config.json is the one the weights were saved with.",
        ) from error


def config_to_json(config: ModelConfig, foreign: HFClass, separator_id: int | None) -> dict[str, Any]:
    """The content of the config.json under which transformers builds this model; ``separator_id`` is begin and end."""
    return {
        "architectures": [foreign.architecture_name(config)],
        "model_type": foreign.model_type,
        "dtype": "float32",
        "bos_token_id": separator_id,
        "eos_token_id": separator_id,
        **{key: getattr(config, name) for name, (key, _) in foreign.numbers.items()},
        **foreign.extras(config),
    }
