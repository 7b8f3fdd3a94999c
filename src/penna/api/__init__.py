"""The Python API: one module per verb, used by the command line, the server and the studio.

Functions take names, paths and typed settings and return typed results. They print nothing; progress goes to the
callbacks ``report`` (a line of text) and ``on_event`` (a typed event).
"""

from penna.api.beams import trace_beam_search
from penna.api.chat import ChatSettings, Conversation
from penna.api.chat_metrics import ChatMetrics, evaluate_chat
from penna.api.classify import Classifier, classifier, classify, evaluate_classification
from penna.api.compare import compare, comparison_folder, write_comparison
from penna.api.complete import Completer, complete, completer, rank_sentences
from penna.api.completion_metrics import CompletionMetrics, evaluate_completions
from penna.api.data import inspect_data, prepare_data
from penna.api.decoding import DecodingResult, DecodingSettings, compare_decoding
from penna.api.embed import embed
from penna.api.epochs import epochs
from penna.api.estimate import Estimate, estimate_experiment
from penna.api.evaluate import evaluate, evaluate_text, memorization, plot
from penna.api.experiment import ExperimentPlan, open_experiment, plan_experiment
from penna.api.experiment_runner import run_experiment
from penna.api.explain import ExplainSettings, explain, measure_faithfulness
from penna.api.explain_query import ExplainQuery
from penna.api.generate import (
    SampleBatch,
    SampledText,
    TextDelta,
    generate_stream,
    prompts_too_long,
    sample_batch,
    sample_to_json,
)
from penna.api.generation_defaults import default_settings, override_settings, save_default_settings
from penna.api.inspect import inspect_model
from penna.api.models import export_model, import_model, load
from penna.api.recipes import resolve_recipe
from penna.api.score import ContinuationScores, TextScore, rank_texts, score, score_after
from penna.api.tokenizers import compare_tokenizers, train_tokenizer_from
from penna.api.train import resume, train, train_recipe

__all__ = [
    "ChatMetrics",
    "ChatSettings",
    "Classifier",
    "Completer",
    "CompletionMetrics",
    "ContinuationScores",
    "Conversation",
    "DecodingResult",
    "DecodingSettings",
    "Estimate",
    "ExperimentPlan",
    "ExplainQuery",
    "ExplainSettings",
    "SampleBatch",
    "SampledText",
    "TextDelta",
    "TextScore",
    "classifier",
    "classify",
    "compare",
    "compare_decoding",
    "compare_tokenizers",
    "comparison_folder",
    "complete",
    "completer",
    "default_settings",
    "embed",
    "epochs",
    "estimate_experiment",
    "evaluate",
    "evaluate_chat",
    "evaluate_classification",
    "evaluate_completions",
    "evaluate_text",
    "explain",
    "export_model",
    "generate_stream",
    "import_model",
    "inspect_data",
    "inspect_model",
    "load",
    "measure_faithfulness",
    "memorization",
    "open_experiment",
    "override_settings",
    "plan_experiment",
    "plot",
    "prepare_data",
    "prompts_too_long",
    "rank_sentences",
    "rank_texts",
    "resolve_recipe",
    "resume",
    "run_experiment",
    "sample_batch",
    "sample_to_json",
    "save_default_settings",
    "score",
    "score_after",
    "trace_beam_search",
    "train",
    "train_recipe",
    "train_tokenizer_from",
    "write_comparison",
]
