"""Experiment files: a base recipe, what varies between its arms, and the seeds of each arm.

Arms are listed one by one or as a grid of axes, where every combination is an arm. ``starts`` are trained first, so
that arms can begin from them. `penna.config.experiment_plan` works out the runs.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from penna.config.schema import SECTIONS, find_fields, section_models, unknown_field_error
from penna.config.sections import Paths, Section
from penna.config.validation import describe_errors, did_you_mean
from penna.errors import RecipeError

ARM = "arm:"  # prefix of a start's or arm's name, in place of the path of a run
_NAME = re.compile(r"[^\W_][\w.\-]*")  # letters, digits, '.', '_' and '-', as in run names


def _flatten(value: Any) -> Any:
    """A table of recipe fields with dotted names. TOML reads ``train.steps = 5`` without quotes as a nested table."""
    if not isinstance(value, dict):
        return value
    flat: dict[str, Any] = {}
    for name, item in value.items():
        if name in SECTIONS and isinstance(item, dict):
            flat |= {f"{name}.{field}": inner for field, inner in item.items()}
        else:
            flat[name] = item
    return flat


def _check_fields(fields: dict[str, Any]) -> dict[str, Any]:
    for dotted, value in fields.items():
        if not find_fields(dotted):
            raise ValueError(_explain_unknown_field(dotted, value))
        if dotted == "train.seed":
            raise ValueError("train.seed cannot be set here: every arm is trained with each seed of `seeds`")
    return fields


def _explain_unknown_field(dotted: str, value: Any) -> str:
    """Why a dotted name is not a field, with the nearest spelling; a field without its section is recognized, too."""
    error = unknown_field_error(dotted, value)
    homes = [section for section in SECTIONS if any(dotted in model.model_fields for model in section_models(section))]
    if homes:
        return f"there is no field {dotted}; did you mean {' or '.join(f'{home}.{dotted}' for home in homes)}"
    hint = (error.advice if error.advice.startswith("Did you mean") else error.expected).rstrip("?.")
    return "; ".join(f"{part[0].lower()}{part[1:]}" for part in (error.happened.rstrip("."), hint))


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("must be a run name: letters, digits, '.', '_' and '-', starting with a letter or digit")
    return name


def _check_seeds(seeds: list[int]) -> list[int]:
    if not seeds:
        raise ValueError("must contain at least one seed; leave it out for [42]")
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
        raise ValueError(f"must contain each seed once; {twice[0]} is given twice")
    return seeds


Fields = Annotated[dict[str, Any], BeforeValidator(_flatten), AfterValidator(_check_fields)]
Name = Annotated[str, AfterValidator(_check_name)]
Seeds = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], AfterValidator(_check_seeds)]


class Start(Section):
    """A run that arms can begin from. It is trained first and not compared."""

    name: Name = Field(description="Its name; arms refer to it as arm:NAME.")
    base: str = Field(description="Its recipe: a shipped one, or a path relative to the experiment file.")
    seeds: Seeds | None = Field(default=None, description="Its own seeds; default: the experiment's.")
    set: Fields = Field(default={}, description="Fields that override its recipe.")


class Arm(Section):
    """One of the recipes that are compared."""

    name: Name = Field(description="Its name in folders, tables and plots.")
    base: str | None = Field(default=None, description="Its own recipe; default: the experiment's.")
    set: Fields = Field(default={}, description="Fields that override the recipe and the experiment's [set].")


class CompareConfig(Section):
    """What `penna compare` shows for the experiment."""

    prompts: Paths = Field(default=[], description="Prompts that every arm continues.")
    max_new_tokens: int = Field(default=80, ge=1, description="Tokens to generate after each prompt.")
    baseline: str | None = Field(
        default=None, description="The arm that the others are compared with; default: the first."
    )


class Experiment(Section):
    """A complete experiment."""

    name: Name | None = Field(default=None, description="Its folder's name; default: the file's name.")
    description: str = Field(default="", description="One line for `penna experiment`.")
    base: str | None = Field(
        default=None, description="The recipe: a shipped one, or a path relative to the experiment file."
    )
    seeds: Seeds = Field(default=[42], description="Values of train.seed; every arm is trained with each.")
    set: Fields = Field(default={}, description="Fields of every arm; they override its recipe.")
    starts: list[Start] = Field(default=[], description="Runs that arms begin from.")
    axes: Annotated[dict[str, Any], BeforeValidator(_flatten)] = Field(
        default={}, description="What varies: a field and its values, or a name and named groups of fields."
    )
    arms: list[Arm] = Field(default=[], description="The arms one by one, instead of axes.")
    evaluate: Annotated[dict[str, Any], BeforeValidator(_flatten)] = Field(
        default={}, description="Fields of data and task that define the text on which trained runs are evaluated."
    )
    compare: CompareConfig = CompareConfig()

    @model_validator(mode="after")
    def _check_arms(self) -> Self:
        if bool(self.axes) == bool(self.arms):
            both = "both [axes] and [[arms]] are given" if self.axes else "neither [axes] nor [[arms]] is given"
            raise ValueError(f"{both}; give axes for a grid, or a list of arms")
        if self.base is None and (self.axes or any(arm.base is None for arm in self.arms)):
            raise ValueError("no base recipe is given")
        names = [each.name for each in (*self.starts, *self.arms)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two starts or arms are named {twice[0]!r}")
        return self

    @model_validator(mode="after")
    def _check_axes(self) -> Self:
        owners: dict[str, str] = {}
        for axis, values in self.axes.items():
            for dotted in _fields_of_axis(axis, values):
                if dotted in owners:
                    raise ValueError(f"the axes {owners[dotted]!r} and {axis!r} both set {dotted}")
                owners[dotted] = axis
        return self

    @model_validator(mode="after")
    def _check_evaluation(self) -> Self:
        for dotted, value in self.evaluate.items():
            if not find_fields(dotted):
                raise ValueError(f"in [evaluate], {_explain_unknown_field(dotted, value)}")
            if dotted.partition(".")[0] not in ("data", "task"):
                raise ValueError(f"in [evaluate], {dotted} has no effect; only fields of data and task do")
        return self


def axis_values(axis: str, values: Any) -> list[tuple[Any, dict[str, Any]]]:
    """An axis's values as the file has them (a value or a name), each with the fields that it sets."""
    if "." in axis:
        return [(value, {axis: value}) for value in values]
    return [(name, _flatten(fields)) for name, fields in values.items()]


def _fields_of_axis(axis: str, values: Any) -> list[str]:
    """The fields that an axis sets. Raises ValueError if it is not an axis."""
    if "." in axis:
        _check_fields({axis: values})
        if not isinstance(values, list):
            raise ValueError(f"the axis {axis} must be a list of values (got {values!r})")
        if not values:
            raise ValueError(f"the axis {axis} has no values, so the grid is empty")
        twice = [value for number, value in enumerate(values) if value in values[:number]]
        if twice:
            raise ValueError(f"the axis {axis} has the value {twice[0]!r} twice")
        return [axis]
    if not isinstance(values, dict) or not all(isinstance(fields, dict) for fields in values.values()):
        what = _explain_unknown_field(axis, values) if isinstance(values, list) else f"the axis {axis!r} is {values!r}"
        raise ValueError(
            f"{what}; an axis is a field with a list of values, or a name with a table of named values, each a table "
            "of fields"
        )
    if not values:
        raise ValueError(f"the axis {axis!r} has no values, so the grid is empty")
    names: list[str] = []
    seen: list[dict[str, Any]] = []
    for name, fields in values.items():
        flat = _check_fields(_flatten(fields))
        if flat in seen:
            other = next(other for other, others in values.items() if _flatten(others) == flat)
            raise ValueError(f"in the axis {axis!r}, {name!r} sets the same fields as {other!r}")
        seen.append(flat)
        names += flat
    return list(dict.fromkeys(names))


def shipped_experiments() -> dict[str, Path]:
    """The experiments that come with Penna: name and file."""
    folder = Path(str(resources.files("penna.experiments")))
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def find_experiment_file(name: str) -> Path:
    """The file of a shipped experiment, or a path ending in .toml. Raises RecipeError if ``name`` is neither."""
    if name.endswith(".toml"):
        return Path(name)
    known = shipped_experiments()
    if name in known:
        return known[name]
    raise RecipeError(
        f"There is no experiment named {name!r}.",
        f"Shipped experiments: {', '.join(known)}.",
        did_you_mean(name, known).strip() or "To use your own experiment, give a path ending in .toml.",
    )


def read_experiment(file: Path) -> dict[str, Any]:
    """Read an experiment file. Raises RecipeError if it is missing or not TOML."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(
            f"The experiment {file} cannot be read: {error.strerror or error}.",
            "An experiment is a TOML file with a base recipe, and axes or arms.",
            "Check the path; `penna experiment` lists the shipped ones.",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"The experiment {file} is not valid TOML: {error}.",
            'An experiment has lines such as base = "shakespeare-lr" and sections such as [axes].',
            "Fix that line.",
        ) from error


def build_experiment(table: Mapping[str, Any], origin: str) -> Experiment:
    """Validate an experiment's dictionary. Raises RecipeError that names every error."""
    try:
        return Experiment.model_validate(dict(table))
    except ValidationError as error:
        errors = [_explain_error(detail) for detail in error.errors()]
        listed = errors[0] if len(errors) == 1 else "\n" + "\n".join(f"  - {happened}" for happened in errors)
        raise RecipeError(
            f"The experiment {origin} is invalid: {listed}",
            "An experiment needs a base recipe, [axes] with fields and their values or [[arms]], and seeds.",
            "Correct it in the file.",
        ) from error


def _explain_error(detail: Any) -> str:
    loc = [str(part) for part in detail["loc"]]
    name = ".".join(loc)
    if detail["type"] == "extra_forbidden":
        models = {"starts": Start, "arms": Arm, "compare": CompareConfig}
        fields = models.get(loc[0], Experiment).model_fields if len(loc) > 1 else Experiment.model_fields
        hint = did_you_mean(loc[-1], fields) or f" Fields: {', '.join(fields)}."
        return f"there is no field {name} (got {detail['input']!r}).{hint}"
    return describe_errors(name, [detail])
