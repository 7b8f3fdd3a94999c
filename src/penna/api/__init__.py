"""The Python face of Penna: one function per verb.

The command line, and later the server and the studio, are thin over these. Paths and names come in, typed results go
out; nothing is printed. What happens on the way is told to ``listen``.
"""

from penna.api.data import inspect_data, prepare_data
from penna.api.measuring import evaluate, plot, recitation
from penna.api.models import export_model, import_model, load
from penna.api.tokenizers import compare_tokenizers, train_tokenizer_from
from penna.api.training import resolve_recipe, resume, train, train_recipe
from penna.api.writing import Piece, generate_stream, prompts_too_long

__all__ = [
    "Piece",
    "compare_tokenizers",
    "evaluate",
    "export_model",
    "generate_stream",
    "import_model",
    "inspect_data",
    "load",
    "plot",
    "prepare_data",
    "prompts_too_long",
    "recitation",
    "resolve_recipe",
    "resume",
    "train",
    "train_recipe",
    "train_tokenizer_from",
]
