"""The argument parser: verbs that register themselves, and dotted flags that set recipe fields.

A verb's arguments are added when the verb is called, so that ``penna --help`` loads nothing that they need.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from penna.errors import PennaError

FIELDS_HELP = (
    "Any recipe field can be set as --section.field value, for example --train.steps 500 --model.n-layer 6 "
    "--optim.learning-rate 3e-4. `penna recipes default` explains all fields."
)

AddArguments = Callable[[argparse.ArgumentParser], None]


class UsageError(PennaError):
    """The command line is not valid."""


class VerbParser(argparse.ArgumentParser):
    """A parser that adds its arguments when it first parses, and raises UsageError."""

    add_arguments: AddArguments | None = None

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride] - one signature for all overloads
        self, args: Any = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Add the arguments, then parse."""
        if self.add_arguments is not None:
            add_arguments, self.add_arguments = self.add_arguments, None
            add_arguments(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with the usage and, if possible, a suggestion."""
        if found := re.match(r"argument (COMMAND|VERB): invalid choice: '(.*?)' \(choose from (.*)\)", message):
            names = re.findall(r"[\w-]+", found[3])
            close = get_close_matches(found[2], names, 1)
            hint = f"Did you mean `{self.prog} {close[0]}`? " if close else ""
            raise self.usage_error(f"There is no command `{self.prog} {found[2]}`.", hint)
        message = re.sub(r"^argument (\S+): must ", r"\1 must ", message)
        raise self.usage_error(f"{message[0].upper()}{message[1:]}.")

    def usage_error(self, happened: str, hint: str = "") -> UsageError:
        """An error about this verb's command line."""
        usage = " ".join(self.format_usage().split()).removeprefix("usage: ")
        return UsageError(happened, f"Usage: {usage}", f"{hint}`{self.prog} --help` lists all options.")

    def unknown_arguments(self, unknown: Sequence[str], *, recipe_fields: bool) -> UsageError:
        """An error about arguments that this verb does not have, with the nearest ones that it has."""
        hint = ""
        name = unknown[0].partition("=")[0]
        if name.startswith("--"):
            options = list(self._option_string_actions)
            if recipe_fields:
                options += [field for field in _field_flags() if field.endswith(f".{name[2:]}")]
            field = next((option for option in options if option.endswith(f".{name[2:]}")), None)
            close = [field] if field else get_close_matches(name, options, 1)
            if close:
                hint = f"Did you mean {shlex.join([close[0] + unknown[0][len(name) :], *unknown[1:2]])}? "
        elif "--prompt" in self._option_string_actions:
            hint = f"Did you mean --prompt {shlex.join(unknown)}? "
        return self.usage_error(f"`{self.prog}` does not accept {shlex.join(unknown)}.", hint)


class Verbs:
    """The verbs of a parser; each verb's module adds itself with ``add``."""

    def __init__(self, parser: argparse.ArgumentParser, metavar: str) -> None:
        self._subparsers = parser.add_subparsers(
            dest=metavar.lower(),
            metavar=metavar,
            prog=parser.prog,
            required=metavar == "VERB",
            parser_class=VerbParser,
            help=argparse.SUPPRESS if metavar == "COMMAND" else None,  # main lists commands by group
        )
        self.summaries: dict[str, str] = {}

    def add(
        self,
        name: str,
        summary: str,
        usage: str,
        add_arguments: AddArguments,
        run: Callable[[argparse.Namespace], int],
        *,
        recipe_fields: bool = False,
    ) -> None:
        """Add a verb: its name and help, a function that adds its arguments, and the function that runs it.

        ``run`` gets the parsed arguments, with ``runs_dir`` and the pairs of --section.field values as ``overrides``
        (always empty without ``recipe_fields``), and returns the exit code.
        """
        parser = self._subparsers.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=FIELDS_HELP if recipe_fields else None,
        )
        parser.usage = f"{parser.prog} {usage}"
        parser.set_defaults(function=run, parser=parser, recipe_fields=recipe_fields)
        parser.add_argument("--runs-dir", default="runs", metavar="FOLDER", help="the folder of runs (default: runs)")
        parser.add_arguments = add_arguments
        self.summaries[name] = summary

    def add_group(self, name: str, summary: str, add_verbs: Callable[[Verbs], None]) -> None:
        """Add a verb that has verbs of its own, such as ``penna data inspect``."""
        parser = self._subparsers.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        parser.usage = f"{parser.prog} VERB [options]"
        parser.add_arguments = lambda group: add_verbs(Verbs(group, "VERB"))
        self.summaries[name] = summary


class Renamed(argparse.Action):
    """An option that has a new name: ``parser.add_argument("--old", action=Renamed, const="--new")``."""

    def __init__(self, option_strings: Sequence[str], dest: str, const: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs="?", const=const, help=argparse.SUPPRESS)

    def __call__(self, parser: argparse.ArgumentParser, *others: object) -> None:
        """Raise UsageError with the new name."""
        parser.error(f"{self.option_strings[0]} is now called {self.const}")


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Separate ``--section.field value`` and ``--section.field=value`` from the other arguments."""
    others: list[str] = []
    overrides: list[tuple[str, str]] = []
    remaining = iter(argv)
    for word in remaining:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or "." not in name:
            others.append(word)
            continue
        if not equals:
            following = next(remaining, None)
            if following is None:
                raise UsageError(f"{word} has no value.", f"Usage: {word} VALUE", "Add the value after it.")
            value = following
        overrides.append((name, value))
    return others, overrides


def at_least(minimum: int) -> Callable[[str], int]:
    """The type of an option whose value is a whole number of ``minimum`` or more."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a whole number (got {text!r})") from None
        if value < minimum:
            raise argparse.ArgumentTypeError(f"must be at least {minimum} (got {value})")
        return value

    return parse


def unused_option(option: str, reason: str) -> UsageError:
    """An error about an option that would have no effect."""
    return UsageError(f"{option} has no effect here.", reason, f"Leave out {option}.")


def _field_flags() -> list[str]:
    """The dotted flags of all recipe fields."""
    from penna.config.schema import Recipe

    return [
        f"--{section}.{field.replace('_', '-')}"
        for section, info in Recipe.model_fields.items()
        for field in getattr(info.annotation, "model_fields", ())
    ]
