"""The `flatpack.toml` of 2023 (version "0.0.1"), turned into a Containerfile and a virtual-environment script.

Every value in it is a stranger's text. Commands become exec-form arrays, which no shell reads; the few shell lines
hold only words that were checked or quoted. Values that no quoting makes safe are refused.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from pantry.core.errors import BadFileError
from pantry.flatpack.manifest import explain, read_table
from pantry.flatpack.names import check_path

_ROOT = "/home/content"
"""Where flatpacks of that time lived inside their container."""

PlainText = Annotated[str, StringConstraints(max_length=4096, pattern=r"^[^\x00-\x1f\x7f]*$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
Image = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][A-Za-z0-9._/-]*(:[A-Za-z0-9._-]+)?(@sha256:[0-9a-f]{64})?$")
]
Package = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+\[\],-]{0,127}$")]
PackageVersion = Annotated[str, StringConstraints(pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9.+:~!_-]{0,63})$")]
Source = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x20\x7f-][^\x00-\x20\x7f]{0,2047}$")]
Destination = Annotated[str, StringConstraints(pattern=r"^/[^\x00-\x1f\x7f]{0,1023}$")]
Branch = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._/-]{0,127}$")]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class Port(_Part):
    """A port of the container and the one it is reached by outside."""

    external: int = Field(ge=1, le=65535)
    internal: int = Field(ge=1, le=65535)


class Packages(_Part):
    """Packages by name with their version; `*` is any."""

    unix: dict[Package, PackageVersion] = {}
    python: dict[Package, PackageVersion] = {}


class Fetch(_Part):
    """Something to fetch (an address, or a file of the flatpack) and where it goes."""

    from_source: Source
    to_destination: Destination
    branch: Branch | None = None


class Command(_Part):
    """A program and its arguments, in one line as a shell would split it."""

    command: Source
    args: PlainText = ""

    @property
    def words(self) -> list[str]:
        """The program and its arguments. Raises BadFileError for quotes that do not close."""
        try:
            return [self.command, *shlex.split(self.args)]
        except ValueError as error:
            raise BadFileError(f"The arguments {self.args[:100]!r} do not split into words: {error}.") from None


class Recipe2023(_Part):
    """The whole file."""

    version: PlainText
    base_image: Image = "debian:stable-slim"
    environment: dict[Variable, PlainText] = {}
    port: Annotated[tuple[Port, ...], BeforeValidator(_as_list)] = ()
    directories: dict[PlainText, Destination] = {}
    packages: Packages = Packages()
    git: Annotated[tuple[Fetch, ...], BeforeValidator(_as_list)] = ()
    dataset: Annotated[tuple[Fetch, ...], BeforeValidator(_as_list)] = ()
    file: Annotated[tuple[Fetch, ...], BeforeValidator(_as_list)] = ()
    run: Annotated[tuple[Command, ...], BeforeValidator(_as_list)] = ()
    cmd: Annotated[tuple[Command, ...], BeforeValidator(_as_list)] = ()


def load_recipe(content: bytes, where: str) -> Recipe2023:
    """The parsed file. Raises BadFileError with every field that is wrong or unsafe, and the nearest known name."""
    try:
        recipe = Recipe2023.model_validate(read_table(content, where))
    except ValidationError as error:
        raise BadFileError(explain(error, where, Recipe2023)) from None
    for item in (*recipe.git, *recipe.dataset, *recipe.file):
        _check_source(item.from_source)
        _check_destination(item.to_destination)
    for place in recipe.directories.values():
        _check_destination(place)
    return recipe


def _check_source(text: str) -> None:
    if not re.match(r"https?://[A-Za-z0-9]", text):
        check_path(text)


def _check_destination(text: str) -> None:
    if ".." in text.split("/"):
        raise BadFileError(f"The destination {text!r} leaves its folder by '..'.")


def to_containerfile(recipe: Recipe2023) -> str:
    """A Containerfile that builds what the recipe describes."""
    unix = {"ca-certificates": "*", "curl": "*", "git": "*", "python3": "*", "python3-venv": "*"}
    unix |= recipe.packages.unix
    install = shlex.join(name if version == "*" else f"{name}={version}" for name, version in sorted(unix.items()))
    lines = [
        f"FROM {recipe.base_image}",
        f"RUN apt-get update && apt-get install -y --no-install-recommends {install} && rm -rf /var/lib/apt/lists/*",
        _run(["python3", "-m", "venv", "/opt/venv"]),
        'ENV PATH="/opt/venv/bin:$PATH"',
        *(f"ENV {name}={_env(value)}" for name, value in recipe.environment.items()),
    ]
    if folders := [_ROOT, *recipe.directories.values()]:
        lines.append(_run(["mkdir", "-p", "--", *folders]))
    lines.append(f"WORKDIR {_ROOT}")
    if python := _requirements(recipe):
        lines.append(_run(["pip", "install", "--no-cache-dir", "--", *python]))
    lines += [_run(_clone(item)) for item in recipe.git]
    lines += [_fetch_line(item) for item in (*recipe.dataset, *recipe.file)]
    lines += [_run(item.words) for item in recipe.run]
    lines += [f"EXPOSE {port.internal}" for port in recipe.port]
    if len(recipe.cmd) == 1:
        lines.append(f"CMD {json.dumps(recipe.cmd[0].words)}")
    elif recipe.cmd:
        chain = " && ".join(shlex.join(item.words) for item in recipe.cmd)
        lines.append(f"CMD {json.dumps(['sh', '-c', chain])}")
    return "\n".join(lines) + "\n"


def to_venv_script(recipe: Recipe2023) -> str:
    """A shell script that does the same in a virtual environment; everything stays below the folder it is given."""
    wanted = " ".join(sorted(recipe.packages.unix)) or "none"
    lines = [
        "#!/bin/sh",
        "# Makes a virtual environment and the folders of this recipe below FOLDER (default: ./content), and runs it.",
        "set -eu",
        'root=${1:-content}; mkdir -p -- "$root"; root=$(cd -- "$root" && pwd)',
        'here=$(cd -- "$(dirname -- "$0")" && pwd)',
        f"echo {shlex.quote(f'System packages this recipe asks for: {wanted}')}",
        'python3 -m venv "$root/venv"',
        'PATH="$root/venv/bin:$PATH"; export PATH',
        *(f"{name}={shlex.quote(value)}; export {name}" for name, value in recipe.environment.items()),
        *(f"mkdir -p -- {_below(place)}" for place in recipe.directories.values()),
    ]
    if python := _requirements(recipe):
        lines.append(f"pip install -- {shlex.join(python)}")
    for item in recipe.git:
        *words, destination = _clone(item)
        lines.append(f"{shlex.join(words)} {_below(destination)}")
    for item in (*recipe.dataset, *recipe.file):
        place = _below(item.to_destination)
        lines.append(f'mkdir -p -- "$(dirname -- {place})"')
        if "://" in item.from_source:
            lines.append(f"curl -fsSL --output {place} -- {shlex.quote(item.from_source)}")
        else:
            lines.append(f'cp -- "$here"/{shlex.quote(item.from_source)} {place}')
    lines.append('cd -- "$root"')
    lines += [" ".join(_word(word) for word in item.words) for item in (*recipe.run, *recipe.cmd)]
    return "\n".join(lines) + "\n"


def _requirements(recipe: Recipe2023) -> list[str]:
    return [name if version == "*" else f"{name}=={version}" for name, version in recipe.packages.python.items()]


def _run(words: list[str]) -> str:
    return f"RUN {json.dumps(words)}"


def _env(value: str) -> str:
    escaped = re.sub(r'([\\"$`])', r"\\\1", value)
    return f'"{escaped}"'


def _clone(item: Fetch) -> list[str]:
    branch = ["--branch", item.branch] if item.branch else []
    address = re.sub(r"/tree/[^/]+/?$", "", item.from_source)
    return ["git", "clone", "--depth", "1", *branch, "--", address, item.to_destination]


def _fetch_line(item: Fetch) -> str:
    if "://" in item.from_source:
        words = ["curl", "-fsSL", "--create-dirs", "--output", item.to_destination, "--", item.from_source]
        return _run(words)
    escaped = [text.replace("\\", "\\\\").replace("$", "\\$") for text in (item.from_source, item.to_destination)]
    return f"COPY {json.dumps(escaped)}"


def _below(place: str) -> str:
    """A destination as a shell word below `$root`."""
    inner = place.removeprefix(_ROOT).strip("/")
    return f'"$root"/{shlex.quote(inner)}' if inner else '"$root"'


def _word(word: str) -> str:
    return _below(word) if word == _ROOT or word.startswith(f"{_ROOT}/") else shlex.quote(word)
