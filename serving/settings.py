"""The server's settings: from flags, else from the environment (prefix NLP_APP_), else the defaults here."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, Field, ValidationInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from nlp_app.rows import MAX_CHARACTERS

SECONDS_TO_FINISH = 15
"""Accepted requests have this long after SIGTERM, or as long as a request may take at most, which is more by default;
a client that stalls must not keep the server alive."""
NAMED = re.compile(r"([\w.-]+)(?:@([\w.-]+))?=(.+)", re.ASCII | re.DOTALL)

ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#]+")


class Served(NamedTuple):
    """A checkpoint folder, and what it is called."""

    name: str
    version: str
    """As the flag says; empty: it says none."""
    folder: Path
    copy: Path | None = None
    """Of what is served already: a worker that is started again loads it first."""

    @property
    def called(self) -> str:
        """The name, and the version where the flag says one: what tells a model from the others in metrics."""
        return f"{self.name}@{self.version}" if self.version else self.name


def read_served(value: object, info: ValidationInfo) -> object:
    """DIR, NAME=DIR or NAME@VERSION=DIR, one or several, separated by commas in the environment."""
    if isinstance(value, Path):
        value = [str(value)]
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, Sequence) or any(isinstance(one, Served) for one in value):
        return value
    served = [_read_one(str(one), info.data.get("name", "")) for one in value]
    called = [one[:2] for one in served]
    if len(set(called)) < len(called):
        raise ValueError("two checkpoints have one name: write NAME=DIR or NAME@VERSION=DIR")
    return tuple(served)


def read_origins(value: object) -> object:
    """Origins as browsers send them, separated by commas."""
    if not isinstance(value, str):
        return value
    origins = tuple(one.strip() for one in value.split(",") if one.strip())
    for one in origins:
        if one != "*" and not ORIGIN.fullmatch(one):
            raise ValueError(f"{one!r} is no origin: write https://HOST or https://HOST:PORT, or *")
    return origins


def _read_one(text: str, name: str) -> Served:
    if not text.strip():
        raise ValueError("a checkpoint is blank: write DIR, NAME=DIR or NAME@VERSION=DIR")
    if found := NAMED.fullmatch(text):
        return Served(found[1], found[2] or "", Path(found[3]))
    return Served(name or Path(text).resolve().name, "", Path(text))


class Settings(BaseSettings):
    """What a server needs to know; every field is also NLP_APP_<NAME> and --<name>."""

    model_config = SettingsConfigDict(env_prefix="NLP_APP_", frozen=True)

    name: str = Field("", description="name of the model in answers; empty: the folder's name")
    checkpoint: Annotated[tuple[Served, ...], NoDecode, BeforeValidator(read_served)] = Field(
        min_length=1,
        description="checkpoint folder to serve: DIR, NAME=DIR or NAME@VERSION=DIR; several flags, or commas in the "
        "environment, for several models, of which the first answers /predict",
    )
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for every network of the machine")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free one")
    workers: int = Field(1, ge=1, le=256, description="processes that answer on the port, each with its own models")
    admin_host: str = Field("127.0.0.1", description="address of the admin port")
    admin_port: int | None = Field(
        None, ge=0, le=65535, description="port of metrics, health of all workers and reloads; none unless it is given"
    )
    runtime: Literal["torch", "onnx"] = Field(
        "torch", description="what computes the answers: torch, or onnx for ONNX Runtime, which reads model.onnx"
    )
    device: str = Field("cpu", description="device that the model runs on: cpu, cuda, cuda:1 …")
    threads: int = Field(
        0, ge=0, le=256, description="threads of the model's arithmetic; 0: the cores that there are, by workers"
    )
    watch_s: float = Field(
        0, ge=0, le=3600, description="seconds between looks at the folders for a new checkpoint; 0: SIGHUP loads it"
    )
    max_inputs: int = Field(1024, ge=1, description="texts in one request")
    max_waiting: int = Field(2048, ge=1, description="texts that wait for an answer; a request beyond gets 429")
    request_timeout_s: float = Field(30, gt=0, le=3600, description="seconds after which a request gets 504")
    max_explained: int = Field(32, ge=1, description="texts in one request that asks for explanations")
    max_characters: int = Field(MAX_CHARACTERS, ge=1, description="characters in one text")
    max_connections: int = Field(2048, ge=1, description="connections at a time; beyond them idle ones are closed")
    max_connections_per_client: int = Field(0, ge=0, description="connections of one address; 0: all that there may be")
    header_timeout_s: float = Field(10, gt=0, description="seconds in which a request's headers must come")
    body_timeout_s: float = Field(30, gt=0, description="seconds in which a request's body must come")
    max_headers: int = Field(100, ge=1, description="headers of one request")
    max_header_bytes: int = Field(32 * 1024, ge=1, description="bytes in one request's address and headers")
    max_unread_bytes: int = Field(
        64 * 1024 * 1024,
        ge=1,
        description="bytes of answers that wait to be read; beyond them the largest are given up",
    )
    max_body_bytes: int = Field(2 * 1024 * 1024, ge=1, description="bytes in one request's body")
    api_keys: str | None = Field(
        None, description="hashed keys of clients (python -m serving.keys), separated by commas"
    )
    api_keys_file: Path | None = Field(None, description="file of hashed keys, one a line, read again at SIGHUP")
    admin_keys: str | None = Field(None, description="hashed keys of those who may reload through the admin port")
    admin_keys_file: Path | None = Field(None, description="file of them, one a line, read again at SIGHUP")
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(read_origins)] = Field(
        (), description="origins whose pages may ask, such as https://example.org, separated by commas, or *; none"
    )
    access_log: bool = Field(False, description="whether each request has a line in the log")
    log_texts: bool = Field(False, description="whether each text, and its label, has a line in the log")
    log_format: Literal["text", "json"] = Field("text", description="lines of the log: text, or a JSON object each")
    traces: bool = Field(False, description="whether OpenTelemetry spans are sent, as the OTEL_* variables say")
    log_level: Literal["critical", "error", "warning", "info", "debug"] = Field("info", description="what to log")

    @property
    def seconds_to_finish(self) -> int:
        """That accepted requests have after SIGTERM."""
        return max(SECONDS_TO_FINISH, math.ceil(self.request_timeout_s))
