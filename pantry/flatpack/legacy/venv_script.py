"""The recipe of 2023 as a shell script that makes a virtual environment and runs the recipe in it, without a container.

Every word of the recipe is quoted. Its environment and the programs of the virtual environment are there for its own
commands only, which are `exec`ed: what fetches and unpacks is the system's, and no command can be a word of the shell.
"""

from __future__ import annotations

import shlex

from pantry.flatpack.legacy.containerfile import clone_words, fetch_words
from pantry.flatpack.legacy.recipe import ROOT, Recipe2023


def to_venv_script(recipe: Recipe2023) -> str:
    """A POSIX shell script; what it fetches and makes stays below the folder it is given."""
    wanted = " ".join(sorted(recipe.packages.unix)) or "none"
    lines = [
        "#!/bin/sh",
        "# Makes a virtual environment and the folders of this recipe below FOLDER (default: ./content), and runs it.",
        "set -eu",
        "unset CDPATH",
        'root=${1:-content}; mkdir -p -- "$root"; root=$(cd -- "$root" && pwd)',
        'here=$(cd -- "$(dirname -- "$0")" && pwd)',
        f"echo {shlex.quote(f'System packages this recipe asks for: {wanted}')}",
        'python3 -I -m venv "$root/venv"',
        *(f"mkdir -p -- {_below(place)}" for place in recipe.directories.values()),
    ]
    if recipe.requirements:
        lines.append(f'"$root"/venv/bin/pip install -- {shlex.join(recipe.requirements)}')
    lines += _fetches(recipe)
    lines += ["run() (", '    PATH="$root/venv/bin:$PATH"; export PATH']
    lines += [f"    {name}={shlex.quote(value)}; export {name}" for name, value in recipe.environment.items()]
    lines += ['    exec "$@"', ")", 'cd -- "$root"']
    lines += [" ".join(["run", *map(_word, item.words)]) for item in (*recipe.run, *recipe.cmd)]
    return "\n".join(lines) + "\n"


def _fetches(recipe: Recipe2023) -> list[str]:
    lines = []
    for item in recipe.git:
        # A link in a repository could lead what is fetched afterwards out of the folder.
        _, *words, destination = clone_words(item)
        lines.append(f"git -c core.symlinks=false {shlex.join(words)} {_below(destination)}")
    for item in (*recipe.dataset, *recipe.file):
        place = _below(item.to_destination)
        lines.append(f'mkdir -p -- "$(dirname -- {place})"')
        if item.is_address:
            lines.append(f"{shlex.join(fetch_words(item.from_source))} {place}")
        else:
            lines.append(f'cp -- "$here"/{shlex.quote(item.from_source)} {place}')
    return lines


def _below(place: str) -> str:
    """A destination as a shell word below `$root`."""
    inner = place.strip("/")
    if _is_inside(place):
        inner = place.removeprefix(ROOT).strip("/")
    return f'"$root"/{shlex.quote(inner)}' if inner else '"$root"'


def _word(word: str) -> str:
    return _below(word) if _is_inside(word) else shlex.quote(word)


def _is_inside(path: str) -> bool:
    return path == ROOT or path.startswith(f"{ROOT}/")
