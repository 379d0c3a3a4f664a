"""The server's settings: from flags, else from the environment (prefix NLP_APP_), else the defaults here."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from nlp_app.rows import MAX_CHARACTERS


class Settings(BaseSettings):
    """What a server needs to know; every field is also NLP_APP_<NAME> and --<name>."""

    model_config = SettingsConfigDict(env_prefix="NLP_APP_", frozen=True)

    checkpoint: Path = Field(description="checkpoint folder to serve")
    name: str = Field("", description="name of the model in answers; empty: the folder's name")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for every network of the machine")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free one")
    device: str = Field("cpu", description="device that the model runs on: cpu, cuda, cuda:1 …")
    threads: int = Field(
        0, ge=0, le=256, description="threads of the model's arithmetic; 0: as many as the machine has cores"
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
    max_body_bytes: int = Field(2 * 1024 * 1024, ge=1, description="bytes in one request's body")
    log_level: Literal["critical", "error", "warning", "info", "debug"] = Field("info", description="what to log")

    @property
    def model_name(self) -> str:
        """The name that answers carry."""
        return self.name or self.checkpoint.resolve().name
