"""The Python face of Penna: one function per verb.

The command line, and later the server and the studio, are thin over these. Paths and names come in, typed results go
out; nothing is printed. What happens on the way is told to ``listen``.
"""

from penna.api.beams import grow_beams
from penna.api.chat_figures import ChatFigures, measure_chat
from penna.api.chatting import ChatSettings, Conversation
from penna.api.classifying import Classifier, classifier, classify, evaluate_classification
from penna.api.completing import Completer, complete, completer, rank_sentences
from penna.api.completion_figures import CompletionFigures, evaluate_completions
from penna.api.data import inspect_data, prepare_data
from penna.api.decoding import DecodingResult, DecodingSettings, compare_decoding
from penna.api.epoch_figures import epochs
from penna.api.generation_defaults import default_settings, laid_over, save_default_settings
from penna.api.measuring import evaluate, evaluate_text, plot, recitation
from penna.api.models import export_model, import_model, load
from penna.api.recipes import resolve_recipe
from penna.api.scoring import AfterScore, TextScore, ranked, score, score_after
from penna.api.side_by_side import SampledText, SideBySide, side_by_side, text_as_json
from penna.api.tokenizers import compare_tokenizers, train_tokenizer_from
from penna.api.training import resume, train, train_recipe
from penna.api.writing import Piece, generate_stream, prompts_too_long

__all__ = [
    "AfterScore",
    "ChatFigures",
    "ChatSettings",
    "Classifier",
    "Completer",
    "CompletionFigures",
    "Conversation",
    "DecodingResult",
    "DecodingSettings",
    "Piece",
    "SampledText",
    "SideBySide",
    "TextScore",
    "classifier",
    "classify",
    "compare_decoding",
    "compare_tokenizers",
    "complete",
    "completer",
    "default_settings",
    "epochs",
    "evaluate",
    "evaluate_classification",
    "evaluate_completions",
    "evaluate_text",
    "export_model",
    "generate_stream",
    "grow_beams",
    "import_model",
    "inspect_data",
    "laid_over",
    "load",
    "measure_chat",
    "plot",
    "prepare_data",
    "prompts_too_long",
    "rank_sentences",
    "ranked",
    "recitation",
    "resolve_recipe",
    "resume",
    "save_default_settings",
    "score",
    "score_after",
    "side_by_side",
    "text_as_json",
    "train",
    "train_recipe",
    "train_tokenizer_from",
]
