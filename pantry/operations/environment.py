"""The environment variables that point other programs at the service."""

from __future__ import annotations

import os
import shlex
from pathlib import PurePath

from pantry.core.errors import ServiceUnavailableError, UsageError, did_you_mean
from pantry.core.files import storage_errors
from pantry.core.paths import Paths
from pantry.operations.service import find_service


def client_variables(paths: Paths) -> dict[str, str]:
    """Names and values for OpenAI clients. Raises ServiceUnavailableError when the service does not run."""
    info = find_service(paths)
    if info is None:
        raise ServiceUnavailableError("Pantry is not running.", hint="Start it with: pantry up --detach")
    with storage_errors("Reading the owner's key"):
        key = paths.key_file.read_text().strip()
    return {
        "OPENAI_BASE_URL": f"{info.url}/v1",
        "OPENAI_API_BASE": f"{info.url}/v1",
        "OPENAI_API_KEY": key,
        "PANTRY_URL": info.url,
    }


def shell_lines(variables: dict[str, str], shell: str | None) -> str:
    """The lines that set the variables in `shell`, or in the shell that the variable SHELL names."""
    name = shell or PurePath(os.environ.get("SHELL", "sh")).name
    if name in ("sh", "bash", "zsh", "dash", "ksh", "ash"):
        form = "export {name}={value}"
    elif name == "fish":
        form = "set -gx {name} {value};"
    elif name in ("powershell", "pwsh"):
        form = "$Env:{name} = {value}"
    else:
        hint = did_you_mean(name, ["sh", "fish", "powershell"], "Use --shell sh.")
        raise UsageError(f"The shell {name!r} is not known.", hint=hint)
    return "\n".join(form.format(name=key, value=shlex.quote(value)) for key, value in variables.items())
