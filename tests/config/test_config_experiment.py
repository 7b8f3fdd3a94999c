"""Experiment files: the runs that they describe, and the errors in them."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penna.config.experiment import build_experiment, find_experiment_file, read_experiment, shipped_experiments
from penna.config.experiment_plan import RunPlan, arm_names, arm_recipes, plan_runs, resolved_table
from penna.config.recipe import build_recipe, flatten, load_recipe, recipe_differences
from penna.config.schema import Recipe
from penna.errors import PennaError, RecipeError

GRID: dict[str, Any] = {
    "base": "shakespeare-lr",
    "seeds": [1, 2],
    "set": {"train.steps": 500},
    "axes": {
        "model.positions": ["learned", "rotary"],
        "decay": {"none": {}, "every-50": {"schedule.kind": "multi_step", "schedule.every": 50}},
    },
}


def plans_of(table: dict[str, Any], folder: Path = Path()) -> list[RunPlan]:
    return plan_runs(build_experiment(table, "test.toml"), folder)


def recipes_of(table: dict[str, Any], folder: Path = Path()) -> dict[str, Recipe]:
    return arm_recipes(plans_of(table, folder), lambda recipe: recipe)


def refused(table: dict[str, Any]) -> str:
    """The error for a table, which has three sentences."""
    with pytest.raises(PennaError) as caught:
        recipes_of(table)
    error = caught.value
    assert error.happened and error.expected and error.advice
    return str(error)


def test_a_grid_has_every_combination_with_every_seed_in_order_of_seeds() -> None:
    plans = plans_of(GRID)
    combinations = list(product(["learned", "rotary"], ["none", "every-50"]))
    assert [(plan.arm, plan.seed) for plan in plans] == [
        (f"{first}-{second}", seed) for seed in (1, 2) for first, second in combinations
    ]
    assert [tuple(plan.values.values()) for plan in plans[:4]] == combinations
    assert all(build_recipe(plan.table).train.seed == plan.seed for plan in plans)


def test_an_arm_differs_from_the_base_only_in_the_fields_that_the_file_sets() -> None:
    recipes = recipes_of({**GRID, "seeds": [load_recipe("shakespeare-lr").train.seed]})
    base = load_recipe("shakespeare-lr", {"train.steps": 500})
    named = {"learned-none": {"model.positions"}, "rotary-none": {"model.positions"}}
    for arm, recipe in recipes.items():
        differing = {name for name in recipe_differences(base, recipe) if not name.startswith("schedule.")}
        assert differing <= named.get(arm, {"model.positions"})
    assert recipe_differences(recipes["learned-none"], recipes["rotary-none"]).keys() == {"model.positions"}
    assert recipes["rotary-every-50"].schedule.kind == "multi_step"


def test_an_axis_that_changes_a_kind_drops_the_fields_that_only_the_old_kind_has() -> None:
    table = {
        "base": "shakespeare-lr",
        "set": {"schedule.kind": "multi_step", "schedule.every": 5},
        "axes": {"schedule.kind": ["multi_step", "constant"]},
    }
    recipes = recipes_of({**table, "axes": {"s": {"steps": {}, "flat": {"schedule.kind": "constant"}}}})
    assert "schedule.every" in flatten(recipes["steps"])
    assert "schedule.every" not in flatten(recipes["flat"])


def test_a_start_has_its_own_base_and_comes_before_all_arms() -> None:
    table = {
        "base": "shakespeare-lr",
        "seeds": [1, 2],
        "set": {"train.steps": 7},
        "starts": [{"name": "pre", "base": "shakespeare-lr", "seeds": [9], "set": {"train.steps": 3}}],
        "axes": {"train.init_from": ["none", "arm:pre"]},
    }
    plans = plans_of(table)
    assert [plan.name for plan in plans] == ["pre-s9", "scratch-s1", "from-pre-s1", "scratch-s2", "from-pre-s2"]


def test_arms_begin_from_the_run_with_their_seed_or_from_the_only_run() -> None:
    table = {
        "base": "shakespeare-lr",
        "seeds": [1, 2],
        "starts": [
            {"name": "each", "base": "shakespeare-lr"},
            {"name": "one", "base": "shakespeare-lr", "seeds": [7]},
        ],
        "arms": [
            {"name": "a", "set": {"train.init_from": "arm:each"}},
            {"name": "b", "set": {"train.init_from": "arm:one"}},
            {"name": "c", "set": {"train.init_from": "arm:a", "train.steps": 3}},
        ],
    }
    plans = {plan.name: plan for plan in plans_of(table)}
    found = {name: plan.references.get("train.init_from") for name, plan in plans.items() if not plan.is_start}
    assert found == {
        "a-s1": "each-s1",
        "a-s2": "each-s2",
        "b-s1": "one-s7",
        "b-s2": "one-s7",
        "c-s1": "a-s1",
        "c-s2": "a-s2",
    }
    written = resolved_table(plans["a-s2"], lambda run: f"runs/x/{run}")
    assert written["train"]["init_from"] == "runs/x/each-s2"


def test_an_arm_inherits_its_starts_tokenizer_and_the_shape_that_it_leaves_out(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("[train]\nsteps = 5\n")
    table = {
        "starts": [{"name": "pre", "base": "shakespeare-lr", "set": {"model.n_embd": 96, "model.n_head": 2}}],
        "arms": [{"name": "a", "base": "own.toml", "set": {"train.init_from": "arm:pre"}}],
    }
    recipes = recipes_of(table, tmp_path)
    assert recipes["a"].model.n_embd == 96
    assert recipes["a"].tokenizer.path == "arm:pre"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": {"model.position": ["learned"]}}, "no field model.position.*did you mean model.positions"),
        ({"axes": {"positions": ["learned"]}}, "did you mean model.positions"),
        ({"axes": {"modle.positions": ["learned"]}}, "no section 'modle'"),
        ({"axes": {}}, "neither"),
        ({"axes": {"model.positions": []}}, "grid is empty"),
        ({"axes": {"decay": {}}}, "grid is empty"),
        ({"axes": {"model.positions": "learned"}}, "must be a list of values .got 'learned'"),
        ({"axes": {"model.positions": ["learned", "learned"]}}, "'learned' twice"),
        ({"axes": {"model.positions": ["learned", "rotari"]}}, "'rotari'.*Did you mean 'rotary'"),
        ({"axes": {"train.seed": [1, 2]}}, "train.seed cannot be set"),
        ({"axes": {"decay": {"a": {}, "b": {}}}}, "'b' sets the same fields as 'a'"),
        ({"axes": {"decay": {"a": {}, "b": {"train.stepz": 3}}}}, "did you mean train.steps"),
        ({"axes": {"d": {"a": {}, "b": {"model.positions": "learned"}}, "model.positions": ["none"]}}, "both set"),
        ({"arms": [{"name": "a"}]}, "both .axes. and"),
        ({"seeds": []}, "seeds must contain at least one seed"),
        ({"seeds": [1, 1]}, "seeds must contain each seed once; 1 is given twice"),
        ({"seeds": [-1]}, r"seeds\.0 must be at least 0 \(got -1\)"),
        ({"sets": {}}, "no field sets .*Did you mean 'set'"),
        ({"set": {"train.step": 5}}, "did you mean train.steps"),
        ({"evaluate": {"data.pth": "x"}}, "did you mean data.path"),
        ({"evaluate": {"train.steps": 3}}, "train.steps has no effect"),
        ({"compare": {"baseline": "rotary"}}, "'rotary' is not an arm"),
        ({"base": "shakespeare-lrr"}, "The arm 'learned-none'.*Did you mean 'shakespeare-lr'"),
        ({"base": None}, "no base recipe"),
        ({"name": "a/b"}, "name must be a run name.*got 'a/b'"),
    ],
)
def test_errors_name_the_problem_and_the_nearest_spelling(changes: dict[str, Any], message: str) -> None:
    assert re.search(message, refused({**GRID, **changes}), re.DOTALL)


def listed(*arms: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"base": "shakespeare-lr", "arms": list(arms), **more}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (listed({"name": "a"}, {"name": "a"}), "named 'a'"),
        (listed({"name": "a"}, starts=[{"name": "a", "base": "demo"}]), "named 'a'"),
        (listed({"name": "a"}, {"name": "b"}), "'a' and 'b' have the same recipe"),
        (listed({"name": "a", "set": {"train.init_from": "arm:x"}}), "'arm:x', which is not an arm"),
        (listed({"name": "a", "set": {"train.init_from": "arm:a"}}), "itself"),
        (
            listed(
                {"name": "a", "set": {"train.init_from": "arm:b"}}, {"name": "b", "set": {"train.init_from": "arm:a"}}
            ),
            "'a' begins from 'arm:b', which is an arm that comes after it",
        ),
        (listed({"name": "a", "set": {"data.text_column": "arm:a"}}), "refers to the path of a run"),
        (
            listed(
                {"name": "a", "set": {"train.init_from": "arm:s"}},
                seeds=[1, 2],
                starts=[{"name": "s", "base": "demo", "seeds": [1, 3]}],
            ),
            r"seed 2 .*which has seeds \[1, 3\]",
        ),
        (
            listed({"name": "a"}, {"name": "b", "base": "nsmc-classify"}),
            "'a' and 'b' have different tasks: pretrain and classify",
        ),
        (listed({"name": "a"}, {"name": "b", "base": "demo"}), "'a' and 'b' differ in data.path"),
        (
            listed(
                {"name": "a", "base": "shakespeare-char", "set": {"train.init_from": "arm:s"}},
                starts=[{"name": "s", "base": "shakespeare-lr"}],
            ),
            "'a'.*model.preset = modern means positions = rotary, but the weights of 'arm:s'",
        ),
    ],
)
def test_arms_that_cannot_be_trained_or_compared_are_refused_by_name(table: dict[str, Any], message: str) -> None:
    assert re.search(message, refused(table), re.DOTALL)


def test_data_may_differ_if_an_arm_sets_the_field() -> None:
    table = listed({"name": "a"}, {"name": "b", "set": {"data.limit": 5}})
    assert recipes_of(table)["b"].data.limit == 5


def test_unquoted_dotted_fields_equal_quoted_ones(tmp_path: Path) -> None:
    quoted, plain = tmp_path / "quoted.toml", tmp_path / "plain.toml"
    quoted.write_text('base = "demo"\n[set]\n"train.steps" = 5\n[axes]\n"model.tie" = [true, false]\n')
    plain.write_text('base = "demo"\n[set]\ntrain.steps = 5\n[axes]\nmodel.tie = [true, false]\n')
    assert build_experiment(read_experiment(quoted), "q") == build_experiment(read_experiment(plain), "p")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["model.positions", "train.steps", "data.path", "x.tie", "named"]),
            st.lists(
                st.one_of(
                    st.text(max_size=60),
                    st.integers(),
                    st.floats(allow_nan=False),
                    st.booleans(),
                    st.lists(st.integers(), max_size=3),
                ),
                min_size=1,
                max_size=4,
            ),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_arm_names_are_unique_and_valid_run_names(axes: list[tuple[str, list[Any]]]) -> None:
    from penna.runs.folder import check_name

    names = arm_names(axes)
    count = 1
    for _, values in axes:
        count *= len(values)
    assert len(set(names)) == len(names) == count
    for name in names:
        check_name(f"{name}-s1")


def test_arm_names_contain_the_values() -> None:
    assert arm_names([("model.positions", ["none", "rotary"]), ("train.steps", [10, 20])]) == [
        "no-positions-steps-10", "no-positions-steps-20", "rotary-steps-10", "rotary-steps-20",
    ]  # fmt: skip
    assert arm_names([("model.tie", [True, False])]) == ["tie", "no-tie"]
    assert arm_names([("optim.learning_rate", [1e-3, 0.5])]) == ["learning-rate-0.001", "learning-rate-0.5"]
    assert arm_names([("data.path", ["a/b/c.txt", "a/d/c.txt"])]) == ["c.txt", "c.txt-2"]
    assert arm_names([("schedule.milestones", [[1, 2], [3]])]) == ["milestones-1-2", "milestones-3"]


def test_every_shipped_experiment_can_be_planned() -> None:
    for name, file in shipped_experiments().items():
        experiment = build_experiment(read_experiment(file), name)
        assert experiment.description, name
        assert arm_recipes(plan_runs(experiment, file.parent), lambda recipe: recipe)
        assert find_experiment_file(name) == file


def test_an_unknown_experiment_is_refused() -> None:
    with pytest.raises(RecipeError, match="no experiment named 'lr-decoy'"):
        find_experiment_file("lr-decoy")
    with pytest.raises(RecipeError, match="cannot be read"):
        read_experiment(Path("nowhere.toml"))
