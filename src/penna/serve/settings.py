"""The settings of a server: its address, who may use it, and the limits of every request. No torch here.

The limits keep any single request from taking the memory, time or slots of the others. The flags of ``penna serve`` are
made from these fields.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from penna.config.sections import Section
from penna.errors import RecipeError


class ServeSettings(Section):
    """The settings of a server."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen at.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen at; 0 picks a free one.")
    api_key: str | None = Field(
        default=None,
        min_length=1,
        repr=False,
        description="Required in every request but /health; needed if other machines can reach the server.",
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="Host names accepted besides this machine's own; * accepts any."
    )
    allowed_origins: tuple[str, ...] = Field(
        default=(), description="Sites whose pages may send requests from a browser (Origin)."
    )
    max_body_bytes: int = Field(default=1 << 20, ge=1, description="Maximum bytes of a request body.")
    max_prompt_tokens: int | None = Field(
        default=None, ge=1, description="Maximum tokens of a prompt; default: the model's context."
    )
    max_new_tokens: int = Field(default=1024, ge=1, description="Maximum tokens to generate for one text.")
    max_n: int = Field(default=8, ge=1, description="Maximum texts for one prompt (n).")
    max_beams: int = Field(default=16, ge=1, description="Maximum beams, and candidates of contrastive search.")
    max_stop: int = Field(default=4, ge=0, description="Maximum stop strings of a request.")
    max_batch: int = Field(default=32, ge=1, description="Maximum prompts or texts in one request.")
    slots: int = Field(default=32, ge=1, description="Texts that a model generates at once; others wait.")
    max_waiting: int = Field(
        default=64, ge=0, description="Texts and other work that may wait for a model; more are rejected."
    )
    max_streams: int = Field(default=64, ge=1, description="Maximum responses streamed at once.")
    request_timeout: float = Field(default=120.0, gt=0, allow_inf_nan=False, description="Seconds a request may take.")
    body_timeout: float = Field(
        default=10.0, gt=0, allow_inf_nan=False, description="Seconds a client may take to send its request."
    )
    memory_limit: int | None = Field(
        default=None, ge=1, description="Bytes that all loaded models may take together; default: no limit."
    )
    max_explain_steps: int = Field(default=2048, ge=1, description="Maximum forward passes for one explanation.")
    drain_seconds: float = Field(
        default=30.0, ge=0, allow_inf_nan=False, description="Seconds that running requests get when the server stops."
    )

    @model_validator(mode="after")
    def _public_needs_key(self) -> Self:
        if self.api_key is None and not self.is_local:
            raise ValueError(f"host = {self.host!r} can be reached from other machines, and there is no API key")
        return self

    @model_validator(mode="after")
    def _any_host_needs_key(self) -> Self:
        if self.api_key is None and "*" in self.allowed_hosts:
            raise ValueError("allowed_hosts = '*' lets any web page send requests, and there is no API key")
        return self

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def serve_settings(values: Mapping[str, Any]) -> ServeSettings:
    """Validated settings. Raises RecipeError that names every invalid one."""
    try:
        return ServeSettings.model_validate(dict(values))
    except ValidationError as error:
        parts = [_describe(detail) for detail in error.errors()]
        happened, expected, advice = (" ".join(dict.fromkeys(part)) for part in zip(*parts, strict=True))
        raise RecipeError(happened, expected, advice) from None


def _describe(detail: Any) -> tuple[str, str, str]:
    """A pydantic error in three parts; an API key is never repeated."""
    message = str(detail["msg"]).removeprefix("Value error, ")
    name = str(detail["loc"][0]) if detail["loc"] else ""
    if not name:
        return (
            f"{message[0].upper()}{message[1:]}.",
            "Requests from elsewhere need a key: Authorization: Bearer KEY.",
            "Set one (--api-key-file FILE, or PENNA_API_KEY), or listen at 127.0.0.1 under its own names.",
        )
    if name not in ServeSettings.model_fields:
        return (
            f"There is no setting {name!r}.",
            f"The settings are {', '.join(ServeSettings.model_fields)}.",
            "Drop it or fix its name.",
        )
    field = ServeSettings.model_fields[name]
    value = "" if name == "api_key" else f" = {detail['input']!r}"
    return (
        f"{name}{value} is invalid: {message[0].lower()}{message[1:]}.",
        f"{name}: {field.description}",
        "Change or drop this setting.",
    )
