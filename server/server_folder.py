"""The coordinator's folder: what `fedrec-server init` lays out, and where everything is in it.

::

    FOLDER/
        server.toml           this server's name, ports and trust (`ServerSettings`)
        START.md              the next commands, with this folder's paths in them
        run.toml              the run: every key of `RunConfig`, for `flwr run --run-config`
        app/                  the bundle that `flwr run` submits, signed
        flower/config.toml    FLWR_HOME of the coordinator: the connection called ``fedrec``
        tls/                  ca.crt is what sites trust; the keys have mode 0600
        sites/NAME.pub        public keys of the sites' nodes: who may connect
        signing.key           Ed25519 (0600): signs the bundle and exported adapters
        systemd/, compose.yaml
        state/                the SuperLink's database
        runs/                 a folder for each run
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from common.atomic_files import write_text
from common.errors import ConfigError
from common.toml_settings import read_settings

SETTINGS_FILE = "server.toml"
CONNECTION = "fedrec"
"""Name of the connection in Flower's configuration."""

_SITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class ServerSettings(BaseModel):
    """``server.toml``.

    Attributes:
        host: the name that sites connect to; the certificate is for it.
        port: where the gate listens for sites.
        superlink_port: where Flower's SuperLink listens, on this machine only.
        listen: address that the gate binds.
        max_request_mib: most MiB of one request of a site.
        metrics_port: where the gate serves Prometheus, on this machine only; 0: nowhere.
        health_port: where it serves gRPC's health service, on this machine only; 0: nowhere.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    host: str = Field(min_length=1)
    port: int = Field(9092, ge=1, le=65535)
    superlink_port: int = Field(9091, ge=1, le=65535)
    listen: str = "0.0.0.0"
    max_request_mib: int = Field(32, ge=1, le=1024)
    metrics_port: int = Field(9093, ge=0, le=65535)
    health_port: int = Field(9094, ge=0, le=65535)

    @model_validator(mode="after")
    def _check_ports(self) -> Self:
        used = [self.port, self.superlink_port, self.metrics_port, self.health_port]
        used = [port for port in used if port]
        if len(set(used)) < len(used):
            raise ValueError(
                "port, superlink_port, metrics_port and health_port must differ, got "
                f"{', '.join(map(str, used))}"
            )
        return self


def checked_settings(**values: str | int) -> ServerSettings:
    """Settings from a command's options.

    Raises:
        ConfigError: they do not go together.
    """
    try:
        return ServerSettings.model_validate(values)
    except ValidationError as error:
        faults = [fault["msg"] for fault in error.errors(include_url=False)]
        raise ConfigError([f"{fault}; correct the options" for fault in faults]) from error


@dataclass(frozen=True)
class ServerFolder:
    """The places in a coordinator's folder; see the module's docstring."""

    path: Path

    @property
    def settings_file(self) -> Path:
        """Present once the folder is whole: it is written last."""
        return self.path / SETTINGS_FILE

    @property
    def tls(self) -> Path:
        """Certificates and keys."""
        return self.path / "tls"

    @property
    def flower_home(self) -> Path:
        """``FLWR_HOME`` of the coordinator's own commands."""
        return self.path / "flower"

    @property
    def app(self) -> Path:
        """The bundle that `flwr run` submits."""
        return self.path / "app" / "fedrec"

    @property
    def run_file(self) -> Path:
        """The configuration of the run."""
        return self.path / "run.toml"

    @property
    def sites(self) -> Path:
        """The folder of public node keys."""
        return self.path / "sites"

    @property
    def database(self) -> Path:
        """The SuperLink's database."""
        return self.path / "state" / "superlink.db"

    @property
    def runs(self) -> Path:
        """The folder of runs."""
        return self.path / "runs"

    @property
    def signing_key(self) -> Path:
        """The coordinator's Ed25519 key."""
        return self.path / "signing.key"

    def site_key(self, site: str) -> Path:
        """The file of a site's public node key.

        Raises:
            ConfigError: no file can be called so.
        """
        if not _SITE_NAME.fullmatch(site):
            raise ConfigError(
                [f"{site!a} cannot name a site; use letters, digits, '.', '_' and '-'"]
            )
        return self.sites / f"{site}.pub"

    def settings(self) -> ServerSettings:
        """What `fedrec-server init` wrote, and perhaps an operator changed.

        Raises:
            ConfigError: there is no such folder, or its file has faults.
        """
        path = self.settings_file
        if not path.is_file():
            raise ConfigError(
                [f"{self.path} is no server's folder; make it with `fedrec-server init`"]
            )
        return read_settings(path, ServerSettings)

    def write_settings(self, settings: ServerSettings) -> None:
        """Writes ``server.toml``, which makes the folder a server's."""
        write_text(self.settings_file, tomli_w.dumps(settings.model_dump()))
