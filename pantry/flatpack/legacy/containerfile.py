"""The recipe of 2023 as a Containerfile.

Commands become exec-form arrays, which no shell reads. The one shell line that holds words of the recipe (the package
names) has checked words only; where several commands must follow each other, each is `exec`ed, so that none can be a
word of the shell. Builder: https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

import json
import re
import shlex

from pantry.flatpack.legacy.recipe import ROOT, Fetch, Recipe2023


def to_containerfile(recipe: Recipe2023) -> str:
    """A Containerfile that builds what the recipe describes."""
    unix = {"ca-certificates": "*", "curl": "*", "git": "*", "python3": "*", "python3-venv": "*"}
    unix |= recipe.packages.unix
    install = shlex.join(name if version == "*" else f"{name}={version}" for name, version in sorted(unix.items()))
    lines = [
        f"FROM {recipe.base_image}",
        f"RUN apt-get update && apt-get install -y --no-install-recommends {install} && rm -rf /var/lib/apt/lists/*",
        _run(["python3", "-I", "-m", "venv", "/opt/venv"]),
        'ENV PATH="/opt/venv/bin:$PATH"',
        _run(["mkdir", "-p", "--", ROOT, *recipe.directories.values()]),
        f"WORKDIR {ROOT}",
    ]
    if recipe.requirements:
        lines.append(_run(["pip", "install", "--no-cache-dir", "--", *recipe.requirements]))
    lines += [_run(clone_words(item)) for item in recipe.git]
    lines += [_fetch_line(item) for item in (*recipe.dataset, *recipe.file)]
    lines += [f"ENV {name}={_env(value)}" for name, value in recipe.environment.items()]
    lines += [_run(item.words) for item in recipe.run]
    lines += [f"EXPOSE {port.internal}" for port in recipe.port]
    if len(recipe.cmd) == 1:
        lines.append(f"CMD {_array(recipe.cmd[0].words)}")
    elif recipe.cmd:
        chain = " && ".join(f"(exec {shlex.join(item.words)})" for item in recipe.cmd)
        lines.append(f"CMD {_array(['sh', '-c', chain])}")
    return "\n".join(lines) + "\n"


def clone_words(item: Fetch) -> list[str]:
    """The command that clones a repository; the last word is where to."""
    branch = ["--branch", item.branch] if item.branch else []
    address = re.sub(r"/tree/[^/]+/?$", "", item.from_source)
    return ["git", "clone", "--depth", "1", *branch, "--", address, item.to_destination]


def fetch_words(address: str) -> list[str]:
    """The command that fetches a file; `--output`, the destination and the address follow."""
    return ["curl", "-fsSL", "--globoff", "--proto", "=http,https", "--url", address, "--output"]


def _fetch_line(item: Fetch) -> str:
    if item.is_address:
        return _run(["curl", "--create-dirs", *fetch_words(item.from_source)[1:], item.to_destination])
    # The builder takes quotes and variables out of these words once more, after it has read the array.
    escaped = [re.sub(r"""([\\"'$])""", r"\\\1", text) for text in (item.from_source, item.to_destination)]
    return f"COPY {_array(escaped)}"


def _run(words: list[str]) -> str:
    return f"RUN {_array(words)}"


def _array(words: list[str]) -> str:
    """The words as a JSON array in ASCII, without `<<`, which some builders take for the start of a document."""
    return json.dumps(words).replace("<", "\\u003c")


def _env(value: str) -> str:
    """The value in double quotes, where the builder knows three escapes: backslash, quote and dollar."""
    escaped = re.sub(r'([\\"$])', r"\\\1", value)
    return f'"{escaped}"'
