"""The terminal face: words in, one function of ``penna.api`` called, an exit code out.

Nothing heavy is imported until a command needs it, so that help comes at once: argparse alone, because parsing with it
costs a tenth of what the richer libraries take to be imported. Results go to standard output, everything else to
standard error. Exit codes: 0 done, 1 our fault, 2 the person's to mend, 130 and 143 stopped by a signal.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from penna.cli.parser import UsageError, make_parser, split_overrides
from penna.errors import PennaError


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """Run the command line; its exit code."""
    debug = "--debug" in argv
    argv = [word for word in argv if word != "--debug"]
    try:
        words, overrides = split_overrides(argv)
        arguments = make_parser().parse_args(words)
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
        return commands.COMMANDS[arguments.command](arguments, overrides)
    except PennaError as error:
        if debug:
            raise
        print(f"penna: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("penna: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        sys.stderr.close()
        return 0
    except PermissionError as error:
        if debug:
            raise
        print(
            f"penna: {error.filename} cannot be reached: {error.strerror}.\n"
            "A file, and folders above it, that you may read.\n"
            "Check their permissions.",
            file=sys.stderr,
        )
        return 2
    except Exception as error:
        if debug:
            raise
        print(
            f"penna: something went wrong inside Penna: {type(error).__name__}: {error}\n"
            "This is a fault of ours, not of what you asked for.\n"
            "Run the command again with --debug to see where, and report it.",
            file=sys.stderr,
        )
        return 1
