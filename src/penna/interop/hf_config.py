"""The Hugging Face classes that Penna imports and exports, and the conversion of config.json in both directions.

Each class is described by data: supported field values, config.json fields and their defaults (those of transformers
5.23: ``configuration_gpt2``, ``configuration_openai``, ``configuration_qwen3``). A configuration that cannot be
converted is rejected with the names of its fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from penna.config.sections import ModelConfig
from penna.errors import InteropError
from penna.interop.hf_classifier import labels_from_json
from penna.interop.hf_files import format_json

_MISSING = object()


def _no_problems(content: Mapping[str, Any]) -> list[str]:
    return []


@dataclass(frozen=True)
class HFClass:
    """A Hugging Face model class and its variant with a classification head."""

    name: str
    classifier_name: str
    model_type: str
    base_name: str  # the class without a head, whose weight names lack the prefix
    prefix: str  # of all weight names but the head's
    preset: str
    supported: Mapping[str, tuple[Any, ...]]  # Penna field -> values that the class supports
    required: Mapping[str, tuple[str, Callable[[ModelConfig], float]]]  # Penna field -> required value: text, function
    fields: Mapping[str, tuple[str, Any]]  # Penna field -> config.json field and the class's default
    aliases: Mapping[str, str]  # config.json field -> another name that transformers accepts
    accepted: Mapping[str, tuple[Any, ...]]  # config.json field -> values that do not change what Penna computes
    extra_json: Callable[[ModelConfig], dict[str, Any]]  # further config.json fields to write
    check: Callable[[Mapping[str, Any]], list[str]] = _no_problems  # further problems of a config.json
    implied: Mapping[str, Any] = field(default_factory=dict[str, Any])  # Penna fields that the class implies

    def architecture_name(self, config: ModelConfig) -> str:
        """The name of the class for this model, with or without a classification head."""
        return self.name if config.n_class is None else self.classifier_name


def _rope_settings(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The rotary settings: nested in rope_parameters (transformers 5) or in rope_scaling (4.x), if at all."""
    nested: Any = content.get("rope_scaling") or content.get("rope_parameters") or {}
    return cast(dict[str, Any], nested) if isinstance(nested, dict) else {"rope_type": nested}


def _check_qwen3(content: Mapping[str, Any]) -> list[str]:
    rope = _rope_settings(content)
    key = "rope_scaling" if content.get("rope_scaling") else "rope_parameters"
    is_plain = set(rope) <= {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
    kinds = {rope.get("rope_type", "default"), rope.get("type", "default")}
    partial = rope.get("partial_rotary_factor", content.get("partial_rotary_factor"))
    problems: list[str] = []
    if not is_plain or kinds != {"default"}:
        problems.append(f'{key} = {format_json(rope)}: only the rope_type "default" is supported')
    if partial not in (None, 1, 1.0):
        problems.append(f"partial_rotary_factor = {format_json(partial)}: only 1.0 is supported")
    layers: Any = content.get("layer_types") or ["full_attention"]
    if set(map(str, layers)) != {"full_attention"}:
        problems.append(f'layer_types = {format_json(layers)}: only "full_attention" is supported')
    return problems


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
    return {**_gpt_extras(config), "afn": "gelu"}  # the same function as GPT-2's gelu_new: modeling_openai.ACT_FNS


def _qwen3_extras(config: ModelConfig) -> dict[str, Any]:
    return {
        "rope_theta": config.rope_theta,  # for transformers 4, vLLM and llama.cpp
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},  # for transformers 5
        "layer_types": ["full_attention"] * config.n_layer,
        "max_window_layers": config.n_layer,
        "sliding_window": None,
        "use_sliding_window": False,
        "attention_bias": False,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "use_cache": True,
    }


# Dropout does not change what the model computes. If a class has several rates, the residual one (resid_pdrop) is read.
_GPT_FIELDS: dict[str, tuple[str, Any]] = {
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
_GPT_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "arch": ("gpt",),
    "ngram_size": (None,),
    "positions": ("learned", "sinusoidal"),
    "norm": ("layernorm",),
    "mlp": ("gelu",),
    "qk_norm": (False,),
    "bias": (True,),
}
_GPT_REQUIRED: dict[str, tuple[str, Callable[[ModelConfig], float]]] = {
    "n_kv_head": ("n_head", lambda config: config.n_head),
    "head_dim": ("n_embd / n_head", lambda config: config.n_embd / config.n_head),
}
_GPT_IMPLIED = {"positions": "learned", "norm": "layernorm", "mlp": "gelu", "qk_norm": False, "bias": True}
_ACCEPTED: dict[str, tuple[Any, ...]] = {
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
    supported={**_GPT_SUPPORTED, "norm_position": ("pre",)},
    required=_GPT_REQUIRED,
    fields={
        **_GPT_FIELDS,
        "vocab_size": ("vocab_size", 50257),
        "block_size": ("n_positions", 1024),
        "n_inner": ("n_inner", None),
    },
    aliases=_GPT_ALIASES,
    accepted={
        **_ACCEPTED,
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    extra_json=_gpt2_extras,
    implied={**_GPT_IMPLIED, "norm_position": "pre"},
)

GPT1 = HFClass(
    name="OpenAIGPTLMHeadModel",
    classifier_name="OpenAIGPTForSequenceClassification",
    model_type="openai-gpt",
    base_name="OpenAIGPTModel",
    prefix="transformer.",
    preset="gpt1",
    supported={**_GPT_SUPPORTED, "norm_position": ("post",)},
    required={**_GPT_REQUIRED, "n_inner": ("4 n_embd", lambda config: 4 * config.n_embd)},
    fields={**_GPT_FIELDS, "vocab_size": ("vocab_size", 40478), "block_size": ("n_positions", 512)},
    aliases=_GPT_ALIASES,
    accepted={**_ACCEPTED, "afn": ("gelu", "gelu_new")},
    extra_json=_gpt1_extras,
    implied={**_GPT_IMPLIED, "norm_position": "post"},
)

QWEN3 = HFClass(
    name="Qwen3ForCausalLM",
    classifier_name="Qwen3ForSequenceClassification",
    model_type="qwen3",
    base_name="Qwen3Model",
    prefix="model.",
    preset="modern",
    supported={
        "arch": ("gpt",),
        "ngram_size": (None,),
        "positions": ("rotary",),
        "norm_position": ("pre",),
        "norm": ("rmsnorm",),
        "mlp": ("swiglu",),
        "qk_norm": (True,),
        "bias": (False,),
    },
    required={},
    fields={
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
    accepted={**_ACCEPTED, "hidden_act": ("silu", "swish"), "attention_bias": (False,), "use_sliding_window": (False,)},
    check=_check_qwen3,
    extra_json=_qwen3_extras,
    implied={
        "positions": "rotary",
        "norm_position": "pre",
        "norm": "rmsnorm",
        "mlp": "swiglu",
        "qk_norm": True,
        "bias": False,
    },
)

CLASSES = (GPT2, GPT1, QWEN3)


def unsupported_fields(config: ModelConfig, hf_class: HFClass) -> list[str]:
    """The model's fields that the class does not support, one line each."""
    lines: list[str] = []
    for name, allowed in hf_class.supported.items():
        value = getattr(config, name)
        if value not in allowed:
            choices = " or ".join(map(format_json, allowed))
            lines.append(f"{name} = {format_json(value)}: {hf_class.name} supports only {choices}")
    for name, (description, compute) in hf_class.required.items():
        value, required = getattr(config, name), compute(config)
        if value != required:
            lines.append(f"{name} = {format_json(value)}: {hf_class.name} supports only {description} = {required:g}")
    return lines


def choose_hf_class(config: ModelConfig) -> HFClass:
    """The class that supports the model. Raises InteropError naming the fields that no class supports."""
    problems = {hf_class.name: unsupported_fields(config, hf_class) for hf_class in CLASSES}
    for hf_class in CLASSES:
        if not problems[hf_class.name]:
            return hf_class
    family = config.preset.partition("-")[0]  # decides between classes that are equally close
    closest, *others = sorted(CLASSES, key=lambda hf_class: (len(problems[hf_class.name]), hf_class.preset != family))
    rest = "".join(
        f"\n{hf_class.name} would need another {', '.join(line.split(' =')[0] for line in problems[hf_class.name])}."
        for hf_class in others
    )
    raise InteropError(
        f"No Hugging Face class supports this model. The closest is {closest.name}, but\n  "
        + "\n  ".join(problems[closest.name]),
        f"One class must support every field.{rest}",
        "To export a model, train it with these fields changed. This model remains usable in Penna.",
    )


def read_hf_class(content: Mapping[str, Any], source: Path) -> tuple[HFClass, bool]:
    """The class named by ``architectures`` or else ``model_type`` in a config.json, and whether it is a classifier."""
    known = {
        name: hf_class for hf_class in CLASSES for name in (hf_class.name, hf_class.base_name, hf_class.classifier_name)
    }
    architectures: Any = content.get("architectures")
    architecture = ""
    if isinstance(architectures, list) and architectures:
        architecture = str(cast(list[Any], architectures)[0])
        description, hf_class = f"architecture {architecture}", known.get(architecture)
    else:
        model_type = content.get("model_type")
        description = f"model_type {model_type}" if model_type else "no architecture"
        hf_class = next((each for each in CLASSES if each.model_type == model_type), None)
    if hf_class is None:
        raise InteropError(
            f"{source} names {description}.",
            f"Penna supports {', '.join(each.name for each in CLASSES)}; "
            f"{', '.join(each.classifier_name for each in CLASSES)}.",
            "Choose a model of one of these classes, or convert it to one.",
        )
    return hf_class, architecture == hf_class.classifier_name


def config_from_json(content: Mapping[str, Any], source: Path) -> tuple[HFClass, ModelConfig, tuple[str, ...]]:
    """The class, configuration and labels (if any) in the content of a config.json.

    Missing fields have the class's defaults, as in transformers. Raises InteropError naming unsupported fields.
    """
    hf_class, is_classifier = read_hf_class(content, source)
    name, labels = hf_class.classifier_name if is_classifier else hf_class.name, ()
    problems = [
        f"{key} = {format_json(content[key])}: only {' or '.join(map(format_json, allowed))} is supported"
        for key, allowed in hf_class.accepted.items()
        if key in content and content[key] not in allowed
    ]
    problems += hf_class.check(content)
    try:
        labels = labels_from_json(content) if is_classifier else ()
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise InteropError(
            f"{source} describes a {name} that Penna does not support:\n  " + "\n  ".join(problems),
            "Penna must compute the same numbers as the original model.",
            "Choose a model without these settings.",
        )
    values: dict[str, Any] = {"preset": hf_class.preset, **hf_class.implied}
    for field_name, (key, default) in hf_class.fields.items():
        value = content.get(key, _MISSING)
        values[field_name] = content.get(hf_class.aliases.get(key, key), default) if value is _MISSING else value
    if is_classifier:  # the weights have no LM head, so the token embedding is used
        values |= {"n_class": len(labels), "tie": True}
    if hf_class.implied["positions"] == "rotary":
        values["rope_theta"] = _rope_settings(content).get("rope_theta") or content.get("rope_theta") or 10000.0
    try:
        return hf_class, ModelConfig(**values), labels
    except ValidationError as error:
        reasons = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'the model'}: {each['msg']}" for each in error.errors()
        )
        raise InteropError(
            f"{source} describes a {name} with an invalid shape: {reasons}.",
            "The numbers must be in the ranges of Penna's [model] section.",
            "Check that config.json belongs to these weights.",
        ) from error


def config_to_json(config: ModelConfig, hf_class: HFClass, separator_id: int | None) -> dict[str, Any]:
    """The content of config.json for transformers; ``separator_id`` is the begin and end token."""
    return {
        "architectures": [hf_class.architecture_name(config)],
        "model_type": hf_class.model_type,
        "dtype": "float32",
        "bos_token_id": separator_id,
        "eos_token_id": separator_id,
        **{key: getattr(config, name) for name, (key, _) in hf_class.fields.items()},
        **hf_class.extra_json(config),
    }
