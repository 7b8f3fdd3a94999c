"""The ``penna`` command: parse the arguments, call one verb, print errors and return the exit code.

Results go to standard output, everything else to standard error. Exit codes: 0 success, 1 a bug or failed training,
2 an error that the user can fix, 130 and 143 stopped by a signal.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from penna import __version__
from penna.cli import (
    beams,
    chat,
    classify,
    compare,
    complete,
    data,
    decoding,
    epochs,
    evaluate,
    experiment,
    explain,
    generate,
    inspect,
    models,
    plot,
    recipes,
    score,
    serve,
    studio,
    tokenizer,
    train,
)
from penna.cli.parser import UsageError, VerbParser, Verbs, split_overrides
from penna.errors import DeviceError, PennaError

_GROUPS = (
    ("Train", (train, recipes, experiment)),
    ("Prepare text", (data, tokenizer)),
    ("Use a model", (generate, chat, complete, classify)),
    ("Measure", (evaluate, score, decoding, compare, epochs, plot)),
    ("Explain", (explain, inspect, beams)),
    ("Serve and share", (serve, studio, models)),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """Run the command line and return its exit code."""
    debug = "--debug" in argv
    argv = [word for word in argv if word != "--debug"]
    try:
        arguments = parse(argv)
        if arguments is None:
            make_parser().print_help()
            return 0
        code = arguments.function(arguments)
        sys.stdout.flush()  # so that a full disk is reported here and not while the interpreter exits
        return code
    except PennaError as error:
        if debug:
            raise
        return _print_error(error)
    except KeyboardInterrupt:
        print("penna: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the output has closed it, as `| head` does
        _discard_output()
        return 0
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError) and (friendly := _friendly_error(error)) is not None:
            return _print_error(friendly)
        print(
            f"penna: {type(error).__name__}: {error}\n"
            "This is a bug in Penna, not in your input.\n"
            "Run the command again with --debug to see the traceback, and please report it.",
            file=sys.stderr,
        )
        return 1


def parse(argv: Sequence[str]) -> argparse.Namespace | None:
    """The arguments of a verb; None without a verb. Raises UsageError."""
    words, overrides = split_overrides(argv)
    arguments, unknown = make_parser().parse_known_args(words)
    if unknown:
        parser: VerbParser = getattr(arguments, "parser", None) or make_parser()
        raise parser.unknown_arguments(unknown, recipe_fields=getattr(arguments, "recipe_fields", False))
    if arguments.command is None:
        return None
    if overrides and not arguments.recipe_fields:
        prog = arguments.parser.prog
        raise UsageError(
            f"--{overrides[0][0]} has no effect here.",
            f"`{prog}` does not use a recipe.",
            f"`{prog} --help` lists its options.",
        )
    arguments.overrides = overrides
    return arguments


def make_parser() -> VerbParser:
    """The parser of all verbs."""
    parser = VerbParser(
        prog="penna",
        usage="penna COMMAND [options]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Start with `penna demo`, or with your own text: `penna train my.txt`.\n"
        "`penna COMMAND --help` explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"penna {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = Verbs(parser, "COMMAND")
    sections = ["Train, use, measure and explain small GPT language models."]
    for title, modules in _GROUPS:
        known = set(verbs.summaries)
        for module in modules:
            module.add(verbs)
        lines = [f"  {name:<12}{text}" for name, text in verbs.summaries.items() if name not in known]
        sections.append("\n".join([f"{title}:", *lines]))
    parser.description = "\n\n".join(sections)
    return parser


def _print_error(error: PennaError) -> int:
    print(f"penna: {error}", file=sys.stderr)
    return error.exit_code


def _friendly_error(error: OSError) -> PennaError | None:
    """An operating system's error that the user can fix, as a PennaError; else None."""
    from penna.data.cache import cache_folder
    from penna.storage import is_disk_full

    if error.filename is None:
        if not is_disk_full(error):
            return None
        _discard_output()  # all other files are written by penna.storage, which raises its own errors
        return DeviceError(
            f"The output cannot be written: {error.strerror}.",
            "The disk must have free space.",
            "Free some space, or send the output elsewhere.",
        )
    cache, path = cache_folder(), Path(str(error.filename))
    if not os.path.isdir(cache) and (path.is_relative_to(cache) or cache.is_relative_to(path)):
        return DeviceError(
            f"The cache folder {cache} cannot be created: {error.strerror}.",
            "Prepared text is kept in $PENNA_CACHE, or in penna/ of the user's cache folder.",
            "Set the environment variable PENNA_CACHE to a writable folder, for example /tmp/penna.",
        )
    if error.errno == errno.EROFS:
        return DeviceError(
            f"{path} cannot be written: {error.strerror}.", "The folder must be writable.", "Choose another folder."
        )
    if isinstance(error, FileExistsError | NotADirectoryError):
        return DeviceError(
            f"{path} is in the way: {error.strerror}.",
            "A folder, or the name of a new one, is needed.",
            "Choose another name.",
        )
    if isinstance(error, PermissionError):
        return DeviceError(
            f"{path} cannot be reached: {error.strerror}.",
            "You need permission to read the file and the folders above it.",
            "Check their permissions.",
        )
    return None


def _discard_output() -> None:
    """Discard buffered output; otherwise the interpreter tries to write it again when it exits."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
