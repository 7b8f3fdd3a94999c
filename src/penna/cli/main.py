"""The terminal face: words in, one function of ``penna.api`` called, an exit code out.

Nothing heavy is imported until a command needs it, so that help comes at once: argparse alone, because parsing with it
costs a tenth of what the richer libraries take to be imported. Results go to standard output, everything else to
standard error. Exit codes: 0 done, 1 our fault, 2 the person's to mend, 130 and 143 stopped by a signal.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from penna.cli.parser import UsageError, make_parser, split_overrides
from penna.errors import DeviceError, PennaError


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """Run the command line; its exit code."""
    debug = "--debug" in argv
    argv = [word for word in argv if word != "--debug"]
    try:
        words, overrides = split_overrides(argv)
        arguments, unknown = make_parser().parse_known_args(words)
        if unknown:
            verb = "" if arguments.command is None else f" {arguments.command}"
            hint = 'What to go on from is --prompt "a text". ' if arguments.command == "generate" else ""
            raise UsageError(
                f"`penna{verb}` does not take {shlex.join(unknown)}.",
                "A verb, what it is about, and options of that verb.",
                f"{hint}`penna{verb} --help` explains them.",
            )
        if arguments.command is None:
            make_parser().print_help()
            return 0
        from penna.cli import commands

        if overrides and arguments.command not in commands.WITH_FIELDS:
            raise UsageError(
                f"--{overrides[0][0]} changes nothing here.",
                f"`penna {arguments.command}` follows no recipe.",
                f"Its own options are in `penna {arguments.command} --help`.",
            )
        code = commands.COMMANDS[arguments.command](arguments, overrides)
        sys.stdout.flush()  # what cannot be written is told here, and not when the interpreter ends
        return code
    except PennaError as error:
        if debug:
            raise
        return _told(error)
    except KeyboardInterrupt:
        print("penna: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        _drop_output()
        return 0
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError) and (explained := _explained(error)) is not None:
            return _told(explained)
        print(
            f"penna: something went wrong inside Penna: {type(error).__name__}: {error}\n"
            "This is a fault of ours, not of what you asked for.\n"
            "Run the command again with --debug to see where, and report it.",
            file=sys.stderr,
        )
        return 1


def _told(error: PennaError) -> int:
    print(f"penna: {error}", file=sys.stderr)
    return error.exit_code


def _explained(error: OSError) -> PennaError | None:
    """An error of the operating system in three parts, where its cause lies outside Penna; else None."""
    from penna.data.cache import cache_folder
    from penna.storage import is_disk_full

    if error.filename is None:
        if not is_disk_full(error):
            return None
        _drop_output()  # every other file is written by `penna.storage`, which says so itself
        return DeviceError(
            f"The output cannot be written: {error.strerror}.",
            "A terminal, a pipe, or a file on a disk with some space left.",
            "Free some space, or send the output elsewhere.",
        )
    cache, place = cache_folder(), Path(str(error.filename))
    if not os.path.isdir(cache) and (place.is_relative_to(cache) or cache.is_relative_to(place)):
        return DeviceError(
            f"The cache folder {cache} cannot be made: {error.strerror}.",
            "A folder that may be written, for what is prepared once: $PENNA_CACHE, or penna under the user's cache.",
            "Set the environment variable PENNA_CACHE to another one, such as /tmp/penna.",
        )
    if error.errno == errno.EROFS:
        return DeviceError(
            f"{place} may not be written: {error.strerror}.",
            "A folder that may be written.",
            "Choose another place.",
        )
    if isinstance(error, FileExistsError | NotADirectoryError):
        return DeviceError(
            f"{place} is in the way: {error.strerror}.", "A folder, or the name of a new one.", "Choose another name."
        )
    if isinstance(error, PermissionError):
        return DeviceError(
            f"{place} cannot be reached: {error.strerror}.",
            "A file, and folders above it, that you may read.",
            "Check their permissions.",
        )
    return None


def _drop_output() -> None:
    """Throw away what the standard output still holds; else the interpreter tries once more to write it as it ends."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
