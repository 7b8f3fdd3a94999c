"""The experiment file: what is trained several times over, what differs between the times, and with which seeds.

A TOML file comes in as a dictionary; out goes a frozen ``Experiment``, or a ``RecipeError`` that names the fault. A
base recipe is varied along axes (a grid: every combination is an arm) or as a list of arms, each with every seed;
``starts`` are trained first and only begun from. Its runs are worked out in ``config/experiment_plan.py``.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from penna.config.schema import SECTIONS, find_fields, section_models, unknown_field_error
from penna.config.sections import Paths, Section
from penna.errors import RecipeError

ARM = "arm:"  # in front of the name of a start or arm, in the place of a run
_PLAIN_NAME = re.compile(r"[^\W_][\w.\-]*")  # letters, digits, '.', '_' and '-', as run names are


def _dotted(value: Any) -> Any:
    """A table of recipe fields with dotted names: ``train.steps = 5`` without quotes is a table in a table."""
    if not isinstance(value, dict):
        return value
    flat: dict[str, Any] = {}
    for name, held in value.items():
        if name in SECTIONS and isinstance(held, dict):
            flat |= {f"{name}.{field}": inner for field, inner in held.items()}
        else:
            flat[name] = held
    return flat


def _are_fields(fields: dict[str, Any]) -> dict[str, Any]:
    for dotted, value in fields.items():
        if not find_fields(dotted):
            raise ValueError(_no_such_field(dotted, value))
        if dotted == "train.seed":
            raise ValueError("train.seed cannot be set: every arm is trained with each seed of `seeds`")
    return fields


def _no_such_field(dotted: str, value: Any) -> str:
    """Why a dotted name is no field, with the nearest spelling; a field's own name without its section counts, too."""
    error = unknown_field_error(dotted, value)
    homes = [section for section in SECTIONS if any(dotted in model.model_fields for model in section_models(section))]
    if homes:
        return f"there is no field {dotted}; did you mean {' or '.join(f'{home}.{dotted}' for home in homes)}"
    hint = (error.advice if error.advice.startswith("Did you mean") else error.expected).rstrip("?.")
    return "; ".join(f"{part[0].lower()}{part[1:]}" for part in (error.happened.rstrip("."), hint))


def _is_name(name: str) -> str:
    if not _PLAIN_NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a run: letters, digits, '.', '_' and '-', a letter or digit first")
    return name


def _are_seeds(seeds: list[int]) -> list[int]:
    if not seeds:
        raise ValueError("no seed is given, so nothing would be trained; leave seeds out for [42]")
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
        raise ValueError(f"seed {twice[0]} is given twice, which would train the same run twice")
    return seeds


Fields = Annotated[dict[str, Any], BeforeValidator(_dotted), AfterValidator(_are_fields)]
Name = Annotated[str, AfterValidator(_is_name)]
Seeds = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], AfterValidator(_are_seeds)]


class Start(Section):
    """A run that arms may begin from, trained first and not compared."""

    name: Name = Field(description="What `arm:NAME` calls it.")
    base: str = Field(description="Its recipe: a shipped one, or a path relative to the experiment file.")
    seeds: Seeds | None = Field(default=None, description="Its own seeds; those of the experiment unless given.")
    set: Fields = Field(default={}, description="Fields laid over its recipe.")


class Arm(Section):
    """One of the recipes that are compared, where they are listed one by one."""

    name: Name = Field(description="Its name in folders, tables and figures.")
    base: str | None = Field(default=None, description="A recipe of its own; the experiment's unless given.")
    set: Fields = Field(default={}, description="Fields laid over the recipe and the experiment's [set].")


class CompareConfig(Section):
    """What `penna compare` is to do with it."""

    prompts: Paths = Field(default=[], description="Prompts that every arm goes on from.")
    max_new_tokens: int = Field(default=80, ge=1, description="Tokens written behind each.")
    baseline: str | None = Field(default=None, description="The arm the others are compared with; the first one.")


class Experiment(Section):
    """A whole experiment: a recipe, what is varied of it, and the seeds."""

    name: Name | None = Field(default=None, description="Its folder's name; the file's own name unless given.")
    description: str = Field(default="", description="One line for `penna experiment`.")
    base: str | None = Field(
        default=None, description="The recipe: a shipped one, or a path relative to the experiment file."
    )
    seeds: Seeds = Field(default=[42], description="train.seed of each arm's runs.")
    set: Fields = Field(default={}, description="Fields of every arm, laid over its recipe.")
    starts: list[Start] = Field(default=[], description="Runs that arms begin from.")
    axes: Annotated[dict[str, Any], BeforeValidator(_dotted)] = Field(
        default={}, description="What is varied: a field and its values, or a name and named groups of fields."
    )
    arms: list[Arm] = Field(default=[], description="The arms one by one, instead of axes.")
    evaluate: Annotated[dict[str, Any], BeforeValidator(_dotted)] = Field(
        default={}, description="Each arm's runs are measured on this once trained: fields of data and task."
    )
    compare: CompareConfig = CompareConfig()

    @model_validator(mode="after")
    def _a_grid_or_a_list(self) -> Self:
        if bool(self.axes) == bool(self.arms):
            both = "both [axes] and [[arms]] are given" if self.axes else "neither [axes] nor [[arms]] is given"
            raise ValueError(f"{both}: give axes for a grid, or a list of arms")
        if self.base is None and (self.axes or any(arm.base is None for arm in self.arms)):
            raise ValueError("no base recipe is given, which the arms are to differ from")
        names = [each.name for each in (*self.starts, *self.arms)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two starts or arms are named {twice[0]!r}")
        return self

    @model_validator(mode="after")
    def _axes_have_values(self) -> Self:
        owners: dict[str, str] = {}
        for axis, values in self.axes.items():
            for dotted in _fields_of_axis(axis, values):
                if dotted in owners:
                    raise ValueError(f"the axes {owners[dotted]!r} and {axis!r} both set {dotted}")
                owners[dotted] = axis
        return self

    @model_validator(mode="after")
    def _measures_a_text(self) -> Self:
        for dotted, value in self.evaluate.items():
            if not find_fields(dotted):
                raise ValueError(f"[evaluate]: {_no_such_field(dotted, value)}")
            if dotted.partition(".")[0] not in ("data", "task"):
                raise ValueError(f"[evaluate]: {dotted} changes nothing that is measured; name fields of data and task")
        return self


def axis_values(axis: str, values: Any) -> list[tuple[Any, dict[str, Any]]]:
    """An axis's values, each as it is written (a value, or a name) with the fields it sets."""
    if "." in axis:
        return [(value, {axis: value}) for value in values]
    return [(name, _dotted(fields)) for name, fields in values.items()]


def _fields_of_axis(axis: str, values: Any) -> list[str]:
    """The fields an axis sets. Raises ValueError for what is no axis."""
    if "." in axis:
        _are_fields({axis: values})
        if not isinstance(values, list):
            raise ValueError(f"the axis {axis} is {values!r} and should be a list of values")
        if not values:
            raise ValueError(f"the axis {axis} has no value, so the grid is empty")
        twice = [value for number, value in enumerate(values) if value in values[:number]]
        if twice:
            raise ValueError(f"the axis {axis} has the value {twice[0]!r} twice")
        return [axis]
    if not isinstance(values, dict) or not all(isinstance(fields, dict) for fields in values.values()):
        what = _no_such_field(axis, values) if isinstance(values, list) else f"the axis {axis!r} is {values!r}"
        raise ValueError(
            f"{what}; an axis is a field and a list of its values, or a name and a table of named values, "
            "each a table of the fields it sets"
        )
    if not values:
        raise ValueError(f"the axis {axis!r} has no value, so the grid is empty")
    found: list[str] = []
    seen: list[dict[str, Any]] = []
    for name, fields in values.items():
        flat = _are_fields(_dotted(fields))
        if flat in seen:
            other = next(other for other, held in values.items() if _dotted(held) == flat)
            raise ValueError(f"the axis {axis!r}: {name!r} sets nothing different from {other!r}")
        seen.append(flat)
        found += flat
    return list(dict.fromkeys(found))


def shipped_experiments() -> dict[str, Path]:
    """Names of the experiments that come with Penna, and their files."""
    folder = Path(str(resources.files("penna.experiments")))
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def find_experiment_file(name: str) -> Path:
    """The file of a shipped experiment or of a path ending in .toml. Raises RecipeError where the name is neither."""
    if name.endswith(".toml"):
        return Path(name)
    known = shipped_experiments()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    raise RecipeError(
        f"There is no experiment named {name!r}.",
        f"Shipped experiments: {', '.join(known)}." if known else "A path ending in .toml.",
        f"Did you mean {near[0]!r}?" if near else "An experiment of your own is a path ending in .toml.",
    )


def read_experiment(file: Path) -> dict[str, Any]:
    """An experiment file as a dictionary. Raises RecipeError where it is missing or not TOML."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(
            f"The experiment {file} cannot be read: {error.strerror or error}.",
            "A TOML file with a base recipe, and axes or arms.",
            "Check the path; `penna experiment` lists the shipped ones.",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"The experiment {file} is not valid TOML: {error}.",
            'A line such as base = "shakespeare-lr", and sections such as [axes].',
            "Mend that line.",
        ) from error


def build_experiment(table: Mapping[str, Any], origin: str) -> Experiment:
    """Check an experiment's dictionary. Raises RecipeError with every fault in it."""
    try:
        return Experiment.model_validate(dict(table))
    except ValidationError as error:
        faults = [_fault(detail) for detail in error.errors()]
        told = faults[0] if len(faults) == 1 else "\n" + "\n".join(f"  - {fault}" for fault in faults)
        raise RecipeError(
            f"The experiment {origin} cannot be run: {told}",
            "A base recipe; [axes] with fields and their values, or [[arms]]; and seeds.",
            "Correct it in the file.",
        ) from error


def _fault(detail: Any) -> str:
    """One pydantic fault in words: where, what, and the nearest spelling of a key."""
    loc = [str(part) for part in detail["loc"]]
    where = ".".join(loc)
    if detail["type"] == "extra_forbidden":
        models = {"starts": Start, "arms": Arm, "compare": CompareConfig}
        fields = models.get(loc[0], Experiment).model_fields if len(loc) > 1 else Experiment.model_fields
        near = difflib.get_close_matches(loc[-1], fields, n=1)
        hint = f"did you mean {near[0]!r}" if near else f"there are {', '.join(fields)}"
        return f"there is no {where!r} (given {detail['input']!r}); {hint}."
    if detail["type"] == "missing":
        return f"{where} is missing."
    message = str(detail["msg"]).removeprefix("Value error, ").rstrip(".")
    if detail["type"] == "value_error":
        return f"{where}: {message}." if where else f"{message}."
    return f"{where} = {detail['input']!r}: {message[0].lower()}{message[1:]}."
