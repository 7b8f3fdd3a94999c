"""Validation errors become plain sentences."""

from typing import Literal

import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator

from penna.config.validation import describe_errors, did_you_mean


class Settings(BaseModel):
    count: int = Field(default=1, ge=1, lt=9)
    share: float = Field(default=0.5, gt=0, le=1, allow_inf_nan=False)
    tie: bool = True
    stop: bool | Literal["never"] = False
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    name: str = ""
    texts: list[str] = []

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if name == "taken":
            raise ValueError("must be unused")
        if name == "odd":
            raise ValueError("odd names are refused")
        return name


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("count", 0, "count must be at least 1 (got 0)."),
        ("count", 9, "count must be less than 9 (got 9)."),
        ("count", 1.5, "count must be a whole number (got 1.5)."),
        ("count", "x", "count must be a whole number (got 'x')."),
        ("share", 0, "share must be greater than 0 (got 0)."),
        ("share", 1.5, "share must be at most 1 (got 1.5)."),
        ("share", "x", "share must be a number (got 'x')."),
        ("share", float("inf"), "share must be a finite number (got inf)."),
        ("tie", "perhaps", "tie must be true or false (got 'perhaps')."),
        ("stop", "nver", "stop must be true or false or 'never' (got 'nver'). Did you mean 'never'?"),
        (
            "norm",
            "rms_norm",
            "norm must be one of 'layernorm', 'rmsnorm' (got 'rms_norm'). Did you mean 'rmsnorm'?",
        ),
        ("name", 3, "name must be text (got 3)."),
        ("name", "taken", "name must be unused (got 'taken')."),
        ("name", "odd", "name: odd names are refused."),
        ("texts", 3, "texts must be a list (got 3)."),
    ],
)
def test_an_error_states_the_field_the_rule_and_the_value(field: str, value: object, sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({field: value})
    assert describe_errors(field, caught.value.errors()) == sentence


def test_only_a_similar_word_is_suggested() -> None:
    assert did_you_mean("n_layr", ["n_layer", "n_head"], "model.{}") == " Did you mean model.n_layer?"
    assert did_you_mean("zebra", ["n_layer", "n_head"]) == ""
