"""The settings: defaults, then `config.toml`, then environment variables `PANTRY_<NAME>`; the later one wins."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from pantry.core.errors import StorageError, UsageError, did_you_mean
from pantry.core.paths import Paths
from pantry.core.ports import DEFAULT_PORT


class Settings(BaseSettings):
    """Every setting, with its default. The descriptions are the documentation (docs/settings.md)."""

    model_config = SettingsConfigDict(env_prefix="PANTRY_", extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="Address the service listens on. Other than loopback needs keys.")
    port: int = Field(DEFAULT_PORT, ge=1, le=65535, description="First TCP port to try; if taken, the next one up.")
    require_key: bool = Field(True, description="Calls over TCP need a key; only a loopback address may do without.")
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Host names a request may carry, beside loopback names and the address listened on."
    )
    allowed_origins: tuple[str, ...] = Field(
        (), description="Web origins that may call the service from a browser, like https://notes.example."
    )
    max_body: int = Field(2_000_000, ge=1024, description="Largest request body, in bytes.")
    body_timeout: float = Field(30.0, gt=0, description="Seconds a client may take to send its request body.")
    write_timeout: float = Field(60.0, gt=0, description="Seconds a client may leave a streamed answer unread.")

    engine: str = Field("auto", description="Engine for GGUF models; 'auto' takes the one measured faster here.")
    llama_server: Path | None = Field(None, description="Path of an external llama-server program.")
    threads: int = Field(0, ge=0, le=1024, description="Engine threads; 0 means all cores but one.")
    context: int = Field(
        0, ge=0, le=2**24, description="Context per request, in tokens; 0: the model's own, at most 8192."
    )
    parallel: int = Field(4, ge=1, le=256, description="Answers that one model writes at the same time.")
    queue: int = Field(64, ge=0, description="Requests that may wait for one model; one more gets 503.")
    memory_budget: int = Field(
        0, ge=0, description="Bytes for loaded models; 0 means three quarters of the machine's memory."
    )
    keep_alive: float = Field(
        900.0, ge=0, description="Seconds an unused model stays loaded; 0 keeps it until the memory is needed."
    )
    load_timeout: float = Field(300.0, gt=0, description="Seconds a model may take to load.")
    prompt_cache: int = Field(
        256_000_000, ge=0, description="Bytes of memory per loaded model that keep past prompts for reuse."
    )

    max_connections: int = Field(2048, ge=1, description="Open connections of each kind (HTTP, call socket).")
    max_line: int = Field(1_048_576, ge=1024, description="Longest line on the call socket, in bytes.")
    register_apps: bool = Field(True, description="Programs may register as apps; what they do is approved apart.")
    approve: tuple[Literal["permission", "load", "unload", "download"], ...] = Field(
        (), description="What apps may ask for that is approved without asking: permission, load, unload, download."
    )
    url_downloads: bool = Field(False, description="Downloads from a URL are allowed, not only by name.")
    offline: bool = Field(False, description="Use what was verified before; ask no repository and no hub.")
    bandwidth: int = Field(0, ge=0, description="Bytes a second for downloads; 0 means no limit.")
    connections: int = Field(4, ge=1, le=16, description="Connections for one large download.")
    notify: bool = Field(True, description="Show a desktop notification when an app asks for something.")
    keep_sessions: bool = Field(True, description="Keep the history of sessions, so that they can be resumed.")
    session_days: float = Field(30.0, gt=0, description="Days after its last use that a session is deleted.")
    session_bytes: int = Field(
        50_000_000, ge=10_000, description="Bytes of history kept for each app; the oldest sessions go first."
    )
    encrypt_sessions: bool = Field(
        False, description="Encrypt the history of sessions with a key from the system keyring (extra: keyring)."
    )
    compat_2023: bool = Field(False, description="Also answer the client library of Pantry's 2023 release.")
    compat_2023_socket: Path = Field(
        Path("/tmp/pantrylocal.sock"),  # noqa: S108 - where that library looks
        description="Unix socket for the 2023 client library.",
    )
    compat_2023_port: int = Field(9404, ge=1, le=65535, description="TCP port for the 2023 client library.")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="How much the service logs.")

    @field_validator("llama_server")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.expanduser().is_absolute():
            raise ValueError("the path must be absolute: the service runs in another folder")
        return value.expanduser() if value else None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Given values win over the environment, the environment over the file."""
        file = TomlConfigSettingsSource(settings_cls, toml_file=settings_cls.model_config.get("toml_file"))
        return (init_settings, env_settings, file)


def load_settings(paths: Paths, **given: Any) -> Settings:
    """Read the settings of this home; `given` values (command-line options) win. None values are left out.

    Raises UsageError that names the file or variable, the setting and what was expected.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    file = paths.config_file

    class FileSettings(Settings):
        model_config = SettingsConfigDict(toml_file=file)

    try:
        return FileSettings(**chosen)
    except ValidationError as error:
        raise UsageError(_explain(error, file)) from None
    except SettingsError as error:
        raise UsageError(f'{error}: a list is written as JSON, like \'["a", "b"]\'.') from None
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not UTF-8 text.") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file} is not valid TOML: {error}.") from None
    except OSError as error:
        raise StorageError(f"{file} cannot be read: {error.strerror}.") from None


def _explain(error: ValidationError, file: Path) -> str:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        hint = did_you_mean(name, Settings.model_fields, "See docs/settings.md for all settings.")
        return f"{file}: there is no setting {name!r}. {hint}"
    return f"Setting {name!r} (PANTRY_{name.upper()} or {file}): {first['msg']}, got {first['input']!r}."
