"""What a server allows: where it listens, who may ask, and the limits of every request, checked together.

The limits are there so that no request, however it came about, can take the memory, the time or the slots of the
others. Flags of ``penna serve`` are made from these fields. No torch here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from penna.config.sections import Section
from penna.errors import RecipeError


class ServeSettings(Section):
    """How a server listens and what it allows."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen at.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen at; 0 takes a free one.")
    api_key: str | None = Field(
        default=None,
        min_length=1,
        repr=False,
        description="Asked of every request but /health; needed to listen elsewhere than on this machine.",
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="Names that requests may ask for (Host), besides this machine's own; * is any."
    )
    allowed_origins: tuple[str, ...] = Field(
        default=(), description="Pages that may ask from a browser (Origin), besides the server's own."
    )
    max_body_bytes: int = Field(default=1 << 20, ge=1, description="Bytes of a request's body.")
    max_prompt_tokens: int | None = Field(default=None, ge=1, description="Tokens of a prompt; unset: a model's block.")
    max_new_tokens: int = Field(default=1024, ge=1, description="Tokens to write for one text.")
    max_n: int = Field(default=8, ge=1, description="Texts written for one prompt (n).")
    max_beams: int = Field(
        default=16, ge=1, description="Beams of a search, and tokens that contrastive search weighs."
    )
    max_stop: int = Field(default=4, ge=0, description="Stop strings of a request.")
    max_batch: int = Field(default=32, ge=1, description="Prompts, or texts, of one request.")
    slots: int = Field(default=32, ge=1, description="Texts that a model writes at once; the others wait.")
    max_waiting: int = Field(
        default=64, ge=0, description="Texts, and other work, that wait for a model; beyond it requests are sent away."
    )
    max_streams: int = Field(default=64, ge=1, description="Answers that are streamed at once.")
    request_timeout: float = Field(
        default=120.0, gt=0, allow_inf_nan=False, description="Seconds that a request may take."
    )
    body_timeout: float = Field(
        default=10.0, gt=0, allow_inf_nan=False, description="Seconds that a client may take to send its request."
    )
    memory_limit: int | None = Field(
        default=None, ge=1, description="Bytes that the loaded models may take together; unset: no limit."
    )
    max_explain_steps: int = Field(
        default=2048, ge=1, description="Times that one explanation may let the model read its text."
    )
    drain_seconds: float = Field(
        default=30.0, ge=0, allow_inf_nan=False, description="Seconds that running requests may take when it stops."
    )

    @model_validator(mode="after")
    def _others_need_a_key(self) -> Self:
        if self.api_key is None and not self.is_local:
            raise ValueError(f"host = {self.host!r} can be reached from other machines, and there is no API key")
        return self

    @model_validator(mode="after")
    def _any_host_needs_a_key(self) -> Self:
        if self.api_key is None and "*" in self.allowed_hosts:
            raise ValueError("allowed_hosts = '*' lets any page of a browser ask, and there is no API key")
        return self

    @property
    def is_local(self) -> bool:
        """Whether nobody but this machine can ask."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def serve_settings(values: Mapping[str, Any]) -> ServeSettings:
    """Settings as a checked whole. Raises RecipeError, which names every fault."""
    try:
        return ServeSettings.model_validate(dict(values))
    except ValidationError as error:
        faults = [_fault(detail) for detail in error.errors()]
        happened, expected, todo = (" ".join(dict.fromkeys(parts)) for parts in zip(*faults, strict=True))
        raise RecipeError(happened, expected, todo) from None


def _fault(detail: Any) -> tuple[str, str, str]:
    """One pydantic fault in three parts; a key is never repeated."""
    message = str(detail["msg"]).removeprefix("Value error, ")
    name = str(detail["loc"][0]) if detail["loc"] else ""
    if not name:
        return (
            f"{message[0].upper()}{message[1:]}.",
            "Others than this machine ask with a key: Authorization: Bearer KEY.",
            "Give one (--api-key-file FILE, or PENNA_API_KEY), or listen at 127.0.0.1 under its own names.",
        )
    if name not in ServeSettings.model_fields:
        return f"There is no setting {name!r}.", f"Settings: {', '.join(ServeSettings.model_fields)}.", "Leave it out."
    field = ServeSettings.model_fields[name]
    shown = "" if name == "api_key" else f" = {detail['input']!r}"
    return (
        f"{name}{shown} cannot be: {message[0].lower()}{message[1:]}.",
        f"{name}: {field.description}",
        "Change or leave out that setting.",
    )
