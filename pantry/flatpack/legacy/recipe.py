"""The `flatpack.toml` of 2023 (version "0.0.1"), parsed and judged; every value in it is a stranger's text.

What no quoting makes safe is refused here, so that what is written from it (`containerfile`, `venv_script`) need only
quote: words of the shell as programs, variables that change what other programs do, paths that leave their folder, and
characters that show a reader another text than the one that runs.
"""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from pantry.core.errors import BadFileError
from pantry.flatpack.manifest import explain, read_table
from pantry.flatpack.names import check_path

ROOT = "/home/content"
"""Where flatpacks of that time lived inside their container."""

_HIDDEN = r"\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"
"""Control characters and direction marks."""
_SHELL_WORDS = """
. : alias bg bind break builtin caller case cd command compgen complete continue coproc declare dirs disown do done elif
else enable esac eval exec exit export fc fg fi for function getopts hash help history if in jobs let local logout
mapfile popd pushd read readarray readonly return select set shift shopt source suspend then times trap type typeset
ulimit umask unalias unset until wait while
"""
_STEERING = frozenset({"PATH", "IFS", "ENV", "BASH_ENV", "BASHOPTS", "SHELLOPTS", "PS4", "CDPATH"})
_STEERING_BEGINNINGS = ("LD_", "DYLD_")
_ARCHIVES = (".whl", ".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz")


def _program(text: str) -> str:
    if text in _SHELL_WORDS.split():
        raise ValueError(f"{text!r} is a word of the shell; expected a program")
    return _inside(text)


def _variable(text: str) -> str:
    if text in _STEERING or text.startswith(_STEERING_BEGINNINGS):
        raise ValueError(f"{text!r} changes which programs or libraries are used; set it yourself if you need it")
    return text


def _inside(text: str) -> str:
    if ".." in re.split(r"[/=:,]", text):
        raise ValueError(f"{text[:100]!r} leaves its folder by '..'")
    return text


def _python_package(text: str) -> str:
    if text.lower().endswith(_ARCHIVES):
        raise ValueError(f"{text!r} would be taken for a file; expected a package of the index")
    return text


PlainText = Annotated[str, StringConstraints(max_length=4096, pattern=rf"^[^{_HIDDEN}]*$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"), AfterValidator(_variable)]
Image = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][A-Za-z0-9._/-]*(:[A-Za-z0-9._-]+)?(@sha256:[0-9a-f]{64})?$")
]
UnixPackage = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]{0,126}[a-z0-9+.](:[a-z0-9]{1,20})?$")]
"""A Debian name; one that ends with '-' would be removed instead."""
PythonPackage = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}(\[[A-Za-z0-9._,-]{1,128}\])?$"),
    AfterValidator(_python_package),
]
PackageVersion = Annotated[str, StringConstraints(pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9.+:~!_-]{0,63})$")]
Program = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_./][A-Za-z0-9_./+@-]{0,1023}$"), AfterValidator(_program)
]
Source = Annotated[str, StringConstraints(pattern=rf"^[^{_HIDDEN} -][^{_HIDDEN} ]{{0,2047}}$")]
Destination = Annotated[str, StringConstraints(pattern=rf"^/[^{_HIDDEN}]{{0,1023}}$"), AfterValidator(_inside)]
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

    unix: dict[UnixPackage, PackageVersion] = {}
    python: dict[PythonPackage, PackageVersion] = {}


class Fetch(_Part):
    """Something to fetch (an address, or a file of the flatpack) and where it goes."""

    from_source: Source
    to_destination: Destination
    branch: Branch | None = None

    @property
    def is_address(self) -> bool:
        """Whether it comes over HTTP."""
        return re.match(r"https?://[A-Za-z0-9]", self.from_source) is not None


class Command(_Part):
    """A program and its arguments, in one line as a shell would split it."""

    command: Program
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

    @property
    def requirements(self) -> list[str]:
        """The Python packages as pip takes them."""
        return [name if version == "*" else f"{name}=={version}" for name, version in self.packages.python.items()]


def load_recipe(content: bytes, where: str) -> Recipe2023:
    """The parsed file. Raises BadFileError with every field that is wrong or unsafe, and the nearest known name."""
    try:
        recipe = Recipe2023.model_validate(read_table(content, where))
    except ValidationError as error:
        raise BadFileError(explain(error, where, Recipe2023)) from None
    for item in recipe.git:
        if not item.is_address:
            raise BadFileError(
                f"{where}: the git source {item.from_source[:100]!r} is not an address; expected https://…",
                hint="A repository that travels in the flatpack is a folder of files: use [[file]].",
            )
    for item in (*recipe.dataset, *recipe.file):
        if not item.is_address:
            _check_file(item.from_source)
    for command in (*recipe.run, *recipe.cmd):
        _check_words(command.words)
    return recipe


def _check_file(path: str) -> None:
    """A file of the flatpack, by one name: a builder would match patterns against all of them."""
    check_path(path)
    if found := re.search(r"[*?\[\]]", path):
        raise BadFileError(f"The source {path[:100]!r} has a {found[0]!r}; expected the name of one file.")


def _check_words(words: list[str]) -> None:
    for word in words:
        try:
            _inside(word)
        except ValueError as error:
            raise BadFileError(f"The argument {error}.") from None
